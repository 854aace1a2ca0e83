//! Connections: how they are made, and how long they are waited for.

use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    path::Path,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::failure;
use crate::{
    error::{Failure, StoreError},
    options::Options,
};

/// The client waits so much longer than the server's own limits for its word.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// A connector makes connections to the ledger's database.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(super) config: Config,
    pub(super) tls: Option<MakeRustlsConnect>,
    pub(super) statement_timeout: Duration,
    lock_timeout: Duration,
    /// The ledger was changed at least so often, as far as this process was told: it never goes back.
    pub(super) floor: Arc<AtomicI64>,
}

impl Connector {
    /// Reads a URL and decides about TLS: certificates are always checked where it is used. It fails with
    /// [`StoreError::Url`] when the URL or a certificate cannot be used.
    pub(crate) fn new(url: &str, options: &Options) -> Result<Self, StoreError> {
        // Every certificate is checked in full, so the stricter words mean the same here.
        let url = url
            .replace("sslmode=verify-full", "sslmode=require")
            .replace("sslmode=verify-ca", "sslmode=require");
        let mut config: Config = url.parse().map_err(|_may_quote_the_password| {
            StoreError::Url(
                "it must have the form `postgres://user:password@host:port/database?sslmode=…`".into(),
            )
        })?;
        // Without a word about it, only what stays on this machine may go without TLS, and not even that where
        // the certificates to trust are given.
        if config.get_ssl_mode() == SslMode::Prefer {
            let plain = options.postgres_ca.is_none() && config.get_hosts().iter().all(is_local);
            config.ssl_mode(if plain { SslMode::Disable } else { SslMode::Require });
        }
        let tls = match config.get_ssl_mode() == SslMode::Disable {
            true => None,
            false => Some(tls(options.postgres_ca.as_deref())?),
        };
        config
            .application_name("countersign")
            .connect_timeout(options.queue_timeout)
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(options.statement_timeout.saturating_add(GRACE));
        let (statement_timeout, lock_timeout) = (options.statement_timeout, options.lock_timeout);
        Ok(Self { config, tls, statement_timeout, lock_timeout, floor: Arc::default() })
    }

    /// Connects. What the server announces on the connection is passed to `announced`, if anybody listens.
    pub(super) async fn connect(&self, announced: Option<mpsc::Sender<()>>) -> Result<Client, Failure> {
        let connect = async {
            match &self.tls {
                None => {
                    let (client, connection) = self.config.connect(NoTls).await?;
                    drop(tokio::spawn(drive(connection, announced)));
                    Ok(client)
                }
                Some(tls) => {
                    let (client, connection) = self.config.connect(tls.clone()).await?;
                    drop(tokio::spawn(drive(connection, announced)));
                    Ok(client)
                }
            }
        };
        let limit = self.statement_timeout.saturating_add(GRACE);
        match timeout(limit, connect).await {
            Ok(connected) => connected.map_err(|why| failure(&why)),
            Err(_elapsed) => Err(Failure::Unavailable("PostgreSQL does not answer".into())),
        }
    }

    /// Connects to write: commits are durable, and no statement, lock or pause lasts without end.
    pub(super) async fn connect_to_write(&self) -> Result<Client, Failure> {
        let client = self.connect(None).await?;
        let (statement_ms, lock_ms) = (self.statement_timeout.as_millis(), self.lock_timeout.as_millis());
        let idle_ms = self.statement_timeout.saturating_add(GRACE).as_millis();
        let settings = format!(
            "SET statement_timeout = {statement_ms}; SET lock_timeout = {lock_ms}; \
             SET idle_in_transaction_session_timeout = {idle_ms}; SET client_min_messages = error; \
             SELECT set_config('synchronous_commit', 'on', false) \
              WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
        );
        self.limited(client.batch_execute(&settings)).await?;
        Ok(client)
    }

    /// Waits for the server, but not for longer than it may take by its own settings and [`GRACE`].
    pub(super) async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        match timeout(self.statement_timeout.saturating_add(GRACE), work).await {
            Ok(result) => result.map_err(|why| failure(&why)),
            Err(_elapsed) => Err(Failure::Unavailable("PostgreSQL does not answer".into())),
        }
    }

    /// Holds an advisory lock in the database, until what is returned is dropped. It fails when another
    /// connection has the lock.
    pub(crate) async fn hold(&self, lock: i64) -> Result<Held, StoreError> {
        let client = self.connect(None).await?;
        let transaction = async {
            client.batch_execute("BEGIN").await?;
            client.query_one("SELECT pg_catalog.pg_try_advisory_xact_lock($1)", &[&lock]).await?.try_get(0)
        };
        match self.limited(transaction).await? {
            true => Ok(Held { client, connector: self.clone() }),
            false => Err(StoreError::Unavailable("an advisory lock cannot be had".into())),
        }
    }
}

/// This holds an advisory lock in the ledger's database, by which another connection can tell that it is the
/// same one. The lock is a transaction's, so that it holds through a proxy as well.
pub struct Held {
    client: Client,
    connector: Connector,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Held {
    /// Checks that the lock was held until now.
    ///
    /// # Errors
    /// Fails with a [`StoreError`] when it was not, and nobody knows since when, or when that cannot be found
    /// out.
    pub async fn was_held(&self) -> Result<(), StoreError> {
        // In a transaction that has ended, a savepoint cannot be made.
        Ok(self.connector.limited(self.client.batch_execute("SAVEPOINT held")).await?)
    }
}

/// Tells whether a host is this machine.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_path) => true,
    }
}

fn tls(ca: Option<&Path>) -> Result<MakeRustlsConnect, StoreError> {
    let unusable = |why: &dyn std::fmt::Display| StoreError::Url(format!("TLS: {why}"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| unusable(&why))?;
    let config = match ca {
        None => builder.with_platform_verifier().map_err(|why| unusable(&why))?.with_no_client_auth(),
        Some(path) => {
            use rustls::pki_types::{CertificateDer, pem::PemObject as _};
            let unreadable = |why: &dyn std::fmt::Display| unusable(&format!("`{}`: {why}", path.display()));
            let mut roots = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|why| unreadable(&why))? {
                let certificate = certificate.map_err(|why| unreadable(&why))?;
                roots.add(certificate).map_err(|why| unreadable(&why))?;
            }
            if roots.is_empty() {
                return Err(unreadable(&"there is no certificate in it"));
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// Keeps a connection going until it ends.
async fn drive<S, T>(mut connection: Connection<S, T>, announced: Option<mpsc::Sender<()>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let (AsyncMessage::Notification(_), Some(announced)) = (message, &announced) {
            // One that is waiting says as much as two.
            announced.try_send(()).unwrap_or_default();
        }
    }
}
