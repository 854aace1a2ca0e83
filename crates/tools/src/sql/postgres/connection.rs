//! Connections to one PostgreSQL database.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use countersign_gate::{Credential, MeasureError, ToolError};
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    definition::PostgresTarget,
    secret::{SECRET_BYTES_MIN, Scrubber, Scrubbers},
    tls,
};

/// The name of the secret that is the connection string.
const URL: &str = "url";

/// The pool of the current credential. Another credential gets another pool.
pub(super) struct Connections {
    target: PostgresTarget,
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
        Self { target, current: Mutex::new(None), scrubbers: Scrubbers::default() }
    }

    /// What keeps a credential out of what is said.
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
                PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                    "the database's connections are closed".into()
                }
            })
        })
    }

    /// A connection of its own, which nobody uses again: an administrator's.
    pub(super) async fn connect_once(&self, credential: &Credential) -> Result<Object, NotConnected> {
        Self::new(PostgresTarget { connections_max: 1, ..self.target.clone() }).connect(credential).await
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
        Pool::builder(manager)
            .max_size(self.target.connections_max.max(1))
            .timeouts(Timeouts { wait: Some(timeout), create: Some(timeout), recycle: Some(timeout) })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| NotConnected(format!("the connections cannot be set up: {error}")))
    }
}

/// What a connection string says, in either of libpq's forms. The error of the parser may repeat parts of the text, and is
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
