//! Connections to one PostgreSQL database.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use countersign_gate::{Credential, MeasureError, ToolError};
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod,
    Runtime, Timeouts,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::{
    Error, IsolationLevel,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{GRACE, fault::PostgresFault};
use crate::{
    definition::PostgresTarget,
    secret::{SECRET_BYTES_MIN, Scrubber, Scrubbers},
    tls,
};

/// The name of the secret that is the connection string.
const URL: &str = "url";

/// Whether a database keeps a ledger of Countersign: in any schema, and whatever the account may see of the table. Whose it is,
/// is no matter: agents would write somebody's log.
const KEEPS_A_LEDGER: &str = "\
    SELECT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relname = 'log_head' AND c.relkind = 'r' AND 3 = ( \
        SELECT count(*) FROM pg_catalog.pg_attribute a \
        WHERE a.attrelid = c.oid AND a.attname IN ('vkey', 'frontier', 'checkpoint') AND NOT a.attisdropped))";

/// The pool of the current credential. Another credential gets another pool.
pub(super) struct Connections {
    target: PostgresTarget,
    /// Whether connections are looked at before they are used.
    apart: bool,
    current: Mutex<Option<(SecretString, Pool)>>,
    scrubbers: Scrubbers,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// Why there is no connection. Without secrets.
pub(super) struct NotConnected(pub(super) String);

impl From<NotConnected> for ToolError {
    fn from(why: NotConnected) -> Self {
        Self::Unavailable { message: why.0 }
    }
}

impl From<NotConnected> for MeasureError {
    fn from(why: NotConnected) -> Self {
        Self::System(why.0)
    }
}

impl Connections {
    pub(super) fn new(target: PostgresTarget) -> Self {
        Self { target, apart: true, current: Mutex::new(None), scrubbers: Scrubbers::default() }
    }

    /// Gives what keeps a credential out of what is said.
    pub(super) fn scrubber(&self, credential: &Credential) -> Scrubber {
        self.scrubbers.of(credential)
    }

    pub(super) async fn connect(&self, credential: &Credential) -> Result<Object, NotConnected> {
        let scrubber = self.scrubber(credential);
        let pool = self.pool(credential)?;
        pool.get().await.map_err(|error| {
            NotConnected(match error {
                PoolError::Timeout(_) => "the database could not be reached in time".into(),
                // What a server says of a failed login names the user and never the password.
                PoolError::Backend(error) => {
                    let said = match (error.as_db_error(), std::error::Error::source(&error)) {
                        (Some(said), _) => said.message().to_owned(),
                        (None, Some(cause)) => cause.to_string(),
                        (None, None) => error.to_string(),
                    };
                    scrubber.clean(&format!("the database could not be reached: {said}"))
                }
                PoolError::PostCreateHook(HookError::Message(why)) => why.into_owned(),
                PoolError::PostCreateHook(HookError::Backend(error)) => {
                    scrubber.clean(&format!("whether the database keeps a ledger cannot be told: {error}"))
                }
                PoolError::Closed | PoolError::NoRuntimeSpecified => {
                    "the database's connections are closed".into()
                }
            })
        })
    }

    /// A connection of its own, which nobody uses again: an administrator's.
    pub(super) async fn connect_once(&self, credential: &Credential) -> Result<Object, NotConnected> {
        Self::new(PostgresTarget { connections_max: 1, ..self.target.clone() }).connect(credential).await
    }

    /// As [`Connections::connect_once`], to a database that is compared with the ledger's, and so may be it.
    pub(super) async fn connect_to_compare(&self, credential: &Credential) -> Result<Object, NotConnected> {
        let target = PostgresTarget { connections_max: 1, ..self.target.clone() };
        Self { apart: false, ..Self::new(target) }.connect(credential).await
    }

    /// The account that a credential names.
    pub(super) fn account(&self, credential: &Credential) -> Result<String, String> {
        let url = credential.secret(URL).ok_or_else(|| format!("the credential has no secret `{URL}`"))?;
        let config = settings(url.expose_secret()).ok_or_else(no_url)?;
        config
            .get_user()
            .map(ToOwned::to_owned)
            .ok_or_else(|| format!("the connection string of `{URL}` names no account"))
    }

    fn pool(&self, credential: &Credential) -> Result<Pool, NotConnected> {
        let Some(url) = credential.secret(URL) else {
            return Err(NotConnected(format!("the credential has no secret `{URL}`")));
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, pool)) = &*current
            && known.expose_secret() == url.expose_secret()
        {
            return Ok(pool.clone());
        }
        let pool = self.build(url.expose_secret())?;
        // Connections under way keep the old pool alive until they are done.
        *current = Some((url.clone(), pool.clone()));
        Ok(pool)
    }

    fn build(&self, url: &str) -> Result<Pool, NotConnected> {
        let mut config = settings(url).ok_or_else(|| NotConnected(no_url()))?;
        if config.get_password().is_some_and(|password| (1..SECRET_BYTES_MIN).contains(&password.len())) {
            return Err(NotConnected(format!(
                "the password in the secret `{URL}` has fewer than {SECRET_BYTES_MIN} bytes: so short a secret cannot be kept out of \
                 answers and the log"
            )));
        }
        let local = config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => {
                name == "localhost"
                    || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            #[cfg(unix)]
            Host::Unix(_) => true,
        });
        // `prefer`, the driver's default, would fall back to plain text when somebody in the way asks for it.
        if config.get_ssl_mode() == SslMode::Prefer {
            let plain = local && self.target.ca.is_none();
            config.ssl_mode(if plain { SslMode::Disable } else { SslMode::Require });
        }
        let timeout = Duration::from_millis(self.target.connect_timeout_ms);
        config.connect_timeout(timeout).application_name("countersign");
        let tls = tls::config(self.target.ca.as_deref())
            .map_err(|why| NotConnected(format!("TLS cannot be set up: {why}")))?;
        let manager = Manager::from_config(
            config,
            MakeRustlsConnect::new(tls),
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let mut pool = Pool::builder(manager);
        if self.apart {
            // INVARIANT: no call reaches a database that keeps a ledger, also when its address or its secret has changed since
            // the server started, or its ledger was made since.
            pool =
                pool.post_create(Hook::async_fn(move |client, _| Box::pin(keeps_no_ledger(client, timeout))));
        }
        pool.max_size(self.target.connections_max.max(1))
            .timeouts(Timeouts { wait: Some(timeout), create: Some(timeout), recycle: Some(timeout) })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| NotConnected(format!("the connections cannot be set up: {error}")))
    }
}

/// Refuses a new connection to a database that keeps a ledger.
async fn keeps_no_ledger(client: &mut ClientWrapper, wait: Duration) -> Result<(), HookError> {
    let kept = async { client.query_one(KEEPS_A_LEDGER, &[]).await?.try_get(0) };
    match tokio::time::timeout(wait, kept).await {
        Ok(Ok(false)) => return Ok(()),
        Ok(Ok(true)) => {}
        Ok(Err(error)) => return Err(HookError::Backend(error)),
        Err(_elapsed) => return Err(HookError::message("the database did not answer in time")),
    }
    Err(HookError::message(
        "the database keeps a ledger of Countersign, and agents would write into it: give the ledger a database of its own, and drop \
         the tables that it leaves behind here",
    ))
}

/// Tells what a connection string says, in either of libpq's forms. The error of the parser may repeat parts of the text, and is
/// not passed on.
pub(crate) fn settings(url: &str) -> Option<tokio_postgres::Config> {
    // Every certificate is checked in full, so the stricter words of `libpq` mean the same here.
    let url =
        url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    url.parse().ok()
}

fn no_url() -> String {
    format!("the secret `{URL}` is no PostgreSQL connection string")
}

/// Ends the transaction; a connection on which that fails is closed, which ends it too.
pub(super) async fn roll_back(client: Object) {
    match tokio::time::timeout(GRACE, client.batch_execute("ROLLBACK")).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => drop(Object::take(client)),
    }
}

/// Closes the connection after a fault that may have left something on it.
pub(super) fn forget(client: Object, fault: &PostgresFault) {
    match fault {
        // The server has answered: the transaction is rolled back by its guard.
        PostgresFault::Database(error) if error.as_db_error().is_some() => drop(client),
        PostgresFault::Row(_)
        | PostgresFault::Other(_)
        | PostgresFault::Recorded(_)
        | PostgresFault::Moved(_) => drop(client),
        PostgresFault::Database(_) => drop(Object::take(client)),
    }
}

/// A transaction in which every read is of the same moment, and the server refuses every change.
pub(super) async fn snapshot(client: &mut Object) -> Result<deadpool_postgres::Transaction<'_>, Error> {
    let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    builder.start().await
}
