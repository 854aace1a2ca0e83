//! The ledger on PostgreSQL, for several processes at once.
//!
//! All writers lock the one row of the log's head, so their transactions follow one another. A process
//! writes on one connection only, and holds an advisory lock for its process id on that very connection:
//! a call can be issued only while the lock is held, and when the lock is free its process is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    net::IpAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use countersign_audit::SigningKey;
use countersign_gate::ledger::LedgerFault;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use futures::future::{join, join_all};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, timeout},
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Statement,
    config::{Host, SslMode},
    error::SqlState,
    types::{FromSqlOwned, IsNull, ToSql, Type, to_sql_checked},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    error::{Failure, StoreError},
    history::went_back,
    log, migration,
    options::Options,
    row::{Query, Row, Value},
    writer::{Backend, Begun},
};

/// Where changes are announced.
const LISTEN: &str = "LISTEN countersign";

/// How often a process looks for changes of others that it was not told of.
const POLL: Duration = Duration::from_millis(1_000);

/// How long a lost connection is left alone before it is made again.
const PAUSE: Duration = Duration::from_millis(250);

/// How much longer than the server's own limits the client waits for its word.
const GRACE: Duration = Duration::from_secs(2);

/// How to connect.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    statement_timeout: Duration,
    lock_timeout: Duration,
    /// How often the ledger was changed, as far as this process was told: it never goes back.
    floor: Arc<AtomicI64>,
}

/// The connection that writes.
pub(crate) struct Writer {
    connector: Connector,
    session: Option<Session>,
    process: i64,
    /// Process ids of broken connections under which calls may be open still: their process is this one.
    former: BTreeSet<i64>,
}

struct Session {
    client: Client,
    statements: BTreeMap<&'static str, Statement>,
}

/// An advisory lock in the ledger's database, by which another connection can tell that it is the same one. It is a
/// transaction's, so that it holds through a proxy as well.
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
    /// Whether it was held until now.
    ///
    /// # Errors
    /// [`StoreError`], where nobody knows since when it was not.
    pub async fn was_held(&self) -> Result<(), StoreError> {
        // In a transaction that has ended, a savepoint cannot be made.
        Ok(self.connector.limited(self.client.batch_execute("SAVEPOINT held")).await?)
    }
}

/// Connections that read.
pub(crate) struct Reader {
    pool: Pool,
    statement_timeout: Duration,
}

impl Connector {
    /// Reads a URL and decides about TLS: certificates are always checked where it is used.
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
        // Without a word about it, only what stays on this machine may go without TLS, and not even that where the
        // certificates to trust are given.
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
    async fn connect(&self, announced: Option<mpsc::Sender<()>>) -> Result<Client, Failure> {
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

    /// Connects to write: durable commits, no statement, lock or pause without end.
    async fn connect_to_write(&self) -> Result<Client, Failure> {
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

    /// Waits for the server, but not for longer than it may take by its own settings.
    async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        match timeout(self.statement_timeout.saturating_add(GRACE), work).await {
            Ok(result) => result.map_err(|why| failure(&why)),
            Err(_elapsed) => Err(Failure::Unavailable("PostgreSQL does not answer".into())),
        }
    }

    /// Brings the schema up to date and begins the log if there is none and it `may` begin.
    pub(crate) async fn prepare(
        &self,
        key: &SigningKey,
        may: impl Fn() -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        let mut client = self.connect_to_write().await?;
        let prepare = async {
            let transaction = client.transaction().await?;
            // Processes that start together take turns.
            transaction.batch_execute("SELECT pg_advisory_xact_lock(1129533511, 0)").await?;
            let exists = transaction.query_one("SELECT to_regclass('migration') IS NOT NULL", &[]).await?;
            if !exists.try_get::<_, bool>(0)? {
                if let Err(refused) = may() {
                    return Ok(Err(refused));
                }
                transaction.batch_execute(&migration::for_postgres(migration::TABLE)).await?;
            }
            let found = transaction.query_one("SELECT coalesce(max(version), 0) FROM migration", &[]).await?;
            let found: i64 = found.try_get(0)?;
            if found > migration::newest() {
                return Ok(Err(StoreError::Schema { found, known: migration::newest() }));
            }
            let expected: Vec<&str> = migration::tables(found).collect();
            let missing = transaction
                .query_opt(
                    "SELECT t FROM unnest($1::text[]) t WHERE to_regclass(t) IS NULL LIMIT 1",
                    &[&expected],
                )
                .await?;
            if let Some(table) = missing {
                let table: String = table.try_get(0)?;
                return Ok(Err(StoreError::Damaged(format!("its table `{table}` is missing"))));
            }
            for (number, step) in
                (1_i64..).zip(migration::STEPS).skip_while(|(number, _step)| *number <= found)
            {
                transaction.batch_execute(&migration::for_postgres(step)).await?;
                transaction.execute("INSERT INTO migration (version) VALUES ($1)", &[&number]).await?;
            }
            // A ledger has its head from the transaction that made it.
            if found == 0 {
                let insert = match log::insert_head(key) {
                    Ok(insert) => insert,
                    Err(fault) => return Ok(Err(fault.into())),
                };
                transaction.execute_raw(insert.sql, insert.params.iter()).await?;
            }
            let Some(stored) = transaction.query_opt(SIGNER, &[]).await? else {
                return Ok(Err(StoreError::Damaged("the log has no head".into())));
            };
            let stored: String = stored.try_get(0)?;
            if stored != key.verifier().to_string() {
                return Ok(Err(StoreError::OtherKey { stored }));
            }
            // A crash before this leaves the schema as it was.
            transaction.commit().await?;
            Ok(Ok(()))
        };
        self.limited(prepare).await?
    }

    /// Holds an advisory lock in the database, until it is dropped.
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

    /// Who signed the log, as a vkey; `None` when there is no ledger yet.
    pub(crate) async fn signer(&self) -> Result<Option<String>, StoreError> {
        let client = self.connect_to_write().await?;
        Ok(self.limited(stored(&client, "log_head", SIGNER)).await?)
    }

    /// Who signed the log, as a vkey, where it has the schema of this program; `None` when there is no ledger yet.
    pub(crate) async fn identity(&self) -> Result<Option<String>, StoreError> {
        const VERSION: &str = "SELECT coalesce(max(version), 0) FROM migration";
        let client = self.connect_to_write().await?;
        let Some(found) = self.limited(stored(&client, "migration", VERSION)).await? else { return Ok(None) };
        if found != migration::newest() {
            return Err(StoreError::Schema { found, known: migration::newest() });
        }
        let signer = self.limited(stored(&client, "log_head", SIGNER)).await?;
        signer.map(Some).ok_or_else(|| StoreError::Damaged("the log has no head".into()))
    }

    /// A pool of connections to read.
    pub(crate) fn reader(&self, options: &Options) -> Result<Reader, StoreError> {
        let mut config = self.config.clone();
        let given = config.get_options().unwrap_or_default().to_owned();
        let statement_ms = self.statement_timeout.as_millis();
        config.options(format!(
            "{given} -c statement_timeout={statement_ms} -c default_transaction_read_only=on"
        ));
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &self.tls {
            None => Manager::from_config(config, NoTls, recycle),
            Some(tls) => Manager::from_config(config, tls.clone(), recycle),
        };
        let pool = Pool::builder(manager)
            .max_size(options.readers.max(1))
            .wait_timeout(Some(options.queue_timeout))
            .create_timeout(Some(options.queue_timeout))
            .recycle_timeout(Some(options.queue_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_no_runtime| StoreError::Unavailable("no pool of connections".into()))?;
        Ok(Reader { pool, statement_timeout: self.statement_timeout })
    }

    pub(crate) async fn writer(self) -> Result<Writer, StoreError> {
        let mut writer = Writer { connector: self, session: None, process: 0, former: BTreeSet::new() };
        writer.connect().await?;
        Ok(writer)
    }

    /// Tells `changes` of what other processes change, until `stop` is dropped.
    pub(crate) async fn listen(self, changes: watch::Sender<u64>, mut stop: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                _dropped = &mut stop => return,
                why = self.listen_once(&changes) => tracing::debug!(?why, "not told of others' changes any more"),
            }
            tokio::select! {
                _dropped = &mut stop => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn listen_once(&self, changes: &watch::Sender<u64>) -> Result<(), Failure> {
        let (announced, mut announcements) = mpsc::channel(1);
        let client = self.connect(Some(announced)).await?;
        self.limited(client.batch_execute(LISTEN)).await?;
        let tell = || changes.send_modify(|version| *version = version.wrapping_add(1));
        // What happened while nobody listened.
        tell();
        let mut seen = None;
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                announced = announcements.recv() => match announced {
                    Some(()) => tell(),
                    None => return Ok(()),
                },
                // Notifications may be lost on the way through a proxy; the counter is not. It also tells a server that
                // has nothing to write how far the others are.
                _tick = poll.tick() => {
                    let row = self
                        .limited(client.query_one("SELECT changed FROM log_head WHERE id = 0", &[]))
                        .await?;
                    let changed: i64 = row.try_get(0).map_err(|why| failure(&why))?;
                    self.floor.fetch_max(changed, Ordering::Relaxed);
                    if seen.replace(changed).is_some_and(|before| before != changed) {
                        tell();
                    }
                }
            }
        }
    }
}

const SIGNER: &str = "SELECT vkey FROM log_head WHERE id = 0";

/// The one value that a query of a table answers; `None` where there is no such table, or no row.
async fn stored<T: FromSqlOwned>(
    client: &Client,
    table: &str,
    query: &str,
) -> Result<Option<T>, tokio_postgres::Error> {
    let exists = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?;
    if !exists.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    client.query_opt(query, &[]).await?.map(|row| row.try_get(0)).transpose()
}

/// Whether a host is this machine.
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

impl Writer {
    /// Connects under a new process id: whoever finds the lock of the old one free may have taken the
    /// calls under it for lost.
    async fn connect(&mut self) -> Result<&mut Session, Failure> {
        if self.session.as_ref().is_none_or(|session| session.client.is_closed()) {
            self.session = None;
            let connector = self.connector.clone();
            let client = connector.connect_to_write().await?;
            let process =
                connector.limited(client.query_one("UPDATE process SET last = last + 1 RETURNING last", &[]));
            let process: i64 = process.await?.try_get(0).map_err(|why| failure(&why))?;
            self.former.insert(self.process);
            let open = connector
                .limited(client.query("SELECT DISTINCT process FROM call WHERE state = 'open'", &[]))
                .await?;
            let open: BTreeSet<i64> = open.iter().filter_map(|row| row.try_get(0).ok()).collect();
            self.former.retain(|former| open.contains(former));
            // The calls under a former id are this process's as long as nobody else could take its lock.
            for id in self.former.iter().chain([&process]) {
                let lock = format!("SELECT pg_try_advisory_lock('process'::regclass::oid::int4, {id}::int4)");
                connector.limited(client.batch_execute(&lock)).await?;
            }
            self.process = process;
            self.session = Some(Session { client, statements: BTreeMap::new() });
        }
        self.session.as_mut().ok_or_else(|| Failure::Unavailable("PostgreSQL is not connected".into()))
    }

    /// Runs a step on the connection, which is given up when it cannot be used any more.
    async fn limited<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let limit = self.connector.statement_timeout.saturating_add(GRACE);
        let Some(session) = &mut self.session else {
            return Err(Failure::Unavailable("the connection to PostgreSQL broke".into()));
        };
        let result = timeout(limit, work(session)).await;
        let result = result.unwrap_or_else(|_elapsed| {
            self.session = None;
            Err(Failure::Unavailable("PostgreSQL does not answer".into()))
        });
        if self.session.as_ref().is_some_and(|session| session.client.is_closed()) {
            self.session = None;
        }
        result
    }
}

impl Session {
    async fn prepare(&mut self, queries: &[Query]) -> Result<(), Failure> {
        for query in queries {
            if !self.statements.contains_key(query.sql) {
                let statement = self.client.prepare(query.sql).await.map_err(|why| failure(&why))?;
                self.statements.insert(query.sql, statement);
            }
        }
        Ok(())
    }

    fn statement(&self, sql: &str) -> Result<&Statement, Failure> {
        self.statements.get(sql).ok_or_else(|| Failure::Statement("a statement was not prepared".into()))
    }

    /// Sends every question at once; the server answers them in order.
    async fn read(&mut self, queries: &[Query]) -> Result<Vec<Vec<Row>>, Failure> {
        self.prepare(queries).await?;
        self.ask(queries).await
    }

    /// As [`Session::read`], with statements that are prepared.
    async fn ask(&self, queries: &[Query]) -> Result<Vec<Vec<Row>>, Failure> {
        let answers = queries.iter().map(async |query| {
            self.client
                .query_raw(self.statement(query.sql)?, &query.params)
                .await
                .map_err(|why| failure(&why))
        });
        let mut all = Vec::with_capacity(queries.len());
        for answer in join_all(answers).await {
            all.push(collect(answer?).await?);
        }
        Ok(all)
    }

    /// Sends every statement at once.
    async fn write(&mut self, queries: &[Query]) -> Result<(), Failure> {
        self.prepare(queries).await?;
        let this = &*self;
        let answers = queries.iter().map(async |query| {
            let changed = this
                .client
                .execute_raw(this.statement(query.sql)?, &query.params)
                .await
                .map_err(|why| failure(&why))?;
            match query.rows {
                Some(rows) if rows != changed => {
                    Err(Failure::Statement("a record is not there any more".into()))
                }
                Some(_) | None => Ok(()),
            }
        });
        // The first that failed says why; those after it failed with it.
        join_all(answers).await.into_iter().collect()
    }
}

async fn collect(rows: tokio_postgres::RowStream) -> Result<Vec<Row>, Failure> {
    use futures::TryStreamExt as _;
    let rows: Vec<tokio_postgres::Row> = rows.try_collect().await.map_err(|why| failure(&why))?;
    rows.iter().map(read_row).collect()
}

const LOCK_HEAD: &str = "SELECT size, frontier, checkpoint, changed FROM log_head WHERE id = 0 FOR UPDATE";

impl Backend for Writer {
    async fn begin(&mut self) -> Result<Begun, Failure> {
        let mut tries = 0_u8;
        loop {
            self.connect().await?;
            let head = self
                .limited(async |session| {
                    let lock = [Query::new(LOCK_HEAD, Vec::new())];
                    session.prepare(&lock).await?;
                    // Each statement sees what is committed when it begins, so all after the lock see the end.
                    let begin =
                        session.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE");
                    // Sent together, and executed in this order.
                    let (begun, head) = join(begin, session.ask(&lock)).await;
                    begun.map_err(|why| failure(&why))?;
                    head
                })
                .await;
            match head {
                Ok(rows) => {
                    let row = rows.into_iter().flatten().next();
                    let head = row.ok_or_else(|| Failure::Damaged("the log has no head".into()))?;
                    let changed = head.int(3).map_err(|why| Failure::Damaged(why.0))?;
                    if changed < self.connector.floor.load(Ordering::Relaxed) {
                        return Err(went_back());
                    }
                    // Whoever writes moves the head.
                    return Ok(Begun { head, disturbed: false });
                }
                // The server was restarted since: nothing was asked of it yet, so a new connection will do.
                Err(_) if self.session.is_none() && tries == 0 => tries = 1,
                Err(why) => return Err(why),
            }
        }
    }

    async fn read(&mut self, queries: &[Query]) -> Result<Vec<Vec<Row>>, Failure> {
        self.limited(async |session| session.read(queries).await).await
    }

    async fn write(&mut self, queries: &[Query]) -> Result<(), Failure> {
        self.limited(async |session| session.write(queries).await).await
    }

    async fn commit(&mut self, watched: bool) -> Result<(), Failure> {
        let commit = if watched { "NOTIFY countersign; COMMIT" } else { "COMMIT" };
        let result = self
            .limited(async |session| {
                // A crash before the server has synced leaves the state before this batch; after it, the batch.
                session.client.batch_execute(commit).await.map_err(|why| match why.code() {
                    Some(code) if is_refusal(code) => failure(&why),
                    Some(_) | None => Failure::Unknown("PostgreSQL did not answer the commit".into()),
                })
            })
            .await;
        match result {
            Err(Failure::Unavailable(_)) if self.session.is_none() => {
                Err(Failure::Unknown("PostgreSQL did not answer the commit".into()))
            }
            Ok(()) | Err(_) => {
                if matches!(result, Err(Failure::Unknown(_))) {
                    self.session = None;
                }
                result
            }
        }
    }

    async fn roll_back(&mut self) {
        let ended = self
            .limited(async |session| {
                session.client.batch_execute("ROLLBACK").await.map_err(|why| failure(&why))
            })
            .await;
        if ended.is_err() {
            self.session = None;
        }
    }

    async fn end(&mut self) {
        // Calls that are open still are nobody's from now on. The server would notice a little later.
        let released = self.limited(async |session| {
            session.client.batch_execute("SELECT pg_advisory_unlock_all()").await.map_err(|why| failure(&why))
        });
        if let Err(why) = released.await {
            tracing::debug!(?why, "the process's lock is released by its connection's end");
        }
    }

    fn process(&self) -> i64 {
        self.process
    }

    fn orphans(&self) -> Query {
        Query::new(
            "SELECT id FROM call WHERE state = 'open' AND process <> $1 AND process::oid NOT IN \
             (SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 \
              AND classid = 'process'::regclass::oid \
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) \
             ORDER BY issued_ms, id",
            vec![self.process.into()],
        )
    }
}

impl Reader {
    /// Reads; the answers are in the order of the questions, each no older than the one before.
    pub(crate) async fn read(&self, queries: &[Query]) -> Result<Vec<Vec<Row>>, LedgerFault> {
        let limit = self.statement_timeout.saturating_add(GRACE);
        let read = async {
            match self.attempt(queries).await {
                // A connection that died while it was idle says nothing about the server.
                Err((_, true)) => self.attempt(queries).await.map_err(|(why, _closed)| why),
                other => other.map_err(|(why, _closed)| why),
            }
        };
        let result = timeout(limit, read).await;
        Ok(result
            .unwrap_or_else(|_elapsed| Err(Failure::Unavailable("PostgreSQL does not answer".into())))?)
    }

    /// On failure, says too whether the connection is closed.
    async fn attempt(&self, queries: &[Query]) -> Result<Vec<Vec<Row>>, (Failure, bool)> {
        let client = self.pool.get().await;
        let client =
            client.map_err(|_why| (Failure::Unavailable("PostgreSQL cannot be reached".into()), false))?;
        let read = async {
            let mut statements = Vec::with_capacity(queries.len());
            for query in queries {
                statements.push(client.prepare_cached(query.sql).await.map_err(|why| failure(&why))?);
            }
            let answers = queries.iter().zip(&statements).map(async |(query, statement)| {
                client.query_raw(statement, &query.params).await.map_err(|why| failure(&why))
            });
            let mut all = Vec::with_capacity(queries.len());
            // Few are asked at once, and then in this order.
            for answer in join_all(answers).await {
                all.push(collect(answer?).await?);
            }
            Ok(all)
        };
        read.await.map_err(|why| (why, client.is_closed()))
    }

    /// Lets what was erased be overwritten.
    pub(crate) async fn scrub(&self, connector: &Connector) -> Result<(), LedgerFault> {
        let client = connector.connect_to_write().await?;
        Ok(connector.limited(client.batch_execute("VACUUM evidence")).await?)
    }
}

fn read_row(row: &tokio_postgres::Row) -> Result<Row, Failure> {
    let columns = row.columns().iter().enumerate().map(|(index, column)| {
        let value = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(index).map(Value::from),
            Type::TEXT => row.try_get::<_, Option<String>>(index).map(Value::from),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(index).map(Value::from),
            _ => return Err(Failure::Damaged("a column has another type".into())),
        };
        value.map_err(|_why| Failure::Damaged("a column has a value of another type".into()))
    });
    columns.collect::<Result<_, _>>().map(Row)
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => value.to_sql_checked(ty, out),
            Self::Text(text) => text.as_ref().to_sql_checked(ty, out),
            Self::Bytes(bytes) => bytes.as_ref().to_sql_checked(ty, out),
        }
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Whether the server said no, and meant it: nothing was committed.
fn is_refusal(code: &SqlState) -> bool {
    // Class 08 is about the connection; 57P is a server that goes down, perhaps just after the commit.
    !code.code().starts_with("08") && !code.code().starts_with("57P")
}

/// What a database error means. The words are ours: PostgreSQL's may quote what was written.
fn failure(why: &tokio_postgres::Error) -> Failure {
    let Some(code) = why.code() else {
        // The one kind of error that only its words tell.
        return if why.to_string().starts_with("error performing TLS handshake") {
            Failure::Unavailable("PostgreSQL offers no TLS, or a certificate that is not trusted".into())
        } else if why.is_closed() {
            Failure::Unavailable("the connection to PostgreSQL broke".into())
        } else if std::error::Error::source(why).is_some_and(|source| source.is::<std::io::Error>()) {
            Failure::Unavailable("PostgreSQL cannot be reached".into())
        } else {
            Failure::Statement("PostgreSQL could not be asked".into())
        };
    };
    let words = match code.code() {
        "25006" => "PostgreSQL is read-only",
        "53100" => "the disk of PostgreSQL is full",
        "55P03" => "another process holds the lock",
        "57014" => "PostgreSQL took too long",
        "28000" | "28P01" => "PostgreSQL refused the user or the password",
        "3D000" => "there is no such database",
        "XX001" | "XX002" => return Failure::Damaged("PostgreSQL found damaged data".into()),
        code if ["22", "23", "42"].iter().any(|class| code.starts_with(class)) => {
            return Failure::Statement(format!("PostgreSQL refused a statement ({code})"));
        }
        code => return Failure::Unavailable(format!("PostgreSQL cannot be used ({code})")),
    };
    Failure::Unavailable(words.into())
}
