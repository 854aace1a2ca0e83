//! The handle on a ledger: opening, reading, and what is kept in memory of it.

use std::{
    path::Path,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use countersign_audit::{SigningKey, VerifierKey};
use countersign_gate::{
    NewEntry,
    ledger::{LedgerFault, Standing},
};
use countersign_rules::{AgentId, ApprovalId, CallDigest, Requester};
use tokio::sync::{oneshot, watch};

use crate::{
    approval::{EraseEvidence, Erasure},
    cache::{self, Asked, Cache},
    error::StoreError,
    history::Keeper,
    options::{Kept, Opening, Options},
    place::By,
    postgres::{self, PostgresReader},
    queue::{Inbox, Operation, Queue},
    record::{Record as _, approval, call, key::KeyRow},
    records::Records,
    row::{self, SqlStatement, StatementHook, StoredRow},
    session,
    sqlite::{self, SqliteReader, SqliteWriter},
    tail::Encoded,
    writer::{Backend, Writer},
};

/// This is a ledger. Clones are handles on the same one.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    reader: AnyReader,
    queue: Queue,
    keys_kept_ms: i64,
    statements: Option<StatementHook>,
    /// The writer keeps this when this process is the only one that writes.
    cache: Arc<RwLock<Cache>>,
    failing: Arc<AtomicBool>,
    alone: bool,
    changes: watch::Sender<u64>,
    verifier: VerifierKey,
    /// This is dropped with the last handle; whoever holds the other end stops then.
    _alive: Option<oneshot::Sender<()>>,
}

/// This reads the ledger, in whichever database it is.
enum AnyReader {
    Sqlite(Arc<SqliteReader>),
    Postgres { reader: PostgresReader, connector: Box<postgres::Connector> },
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("log", self.shared.verifier.name()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the ledger in a file, and makes it if there is none. The log is signed with `key`, whose name is
    /// the log's origin.
    ///
    /// # Errors
    /// Fails with a [`StoreError`], among others when another process has it open.
    pub fn open_sqlite(path: &Path, key: SigningKey, options: &Options) -> Result<Self, StoreError> {
        let known = options.expected(&key.verifier())?;
        let (backend, locked) = SqliteWriter::open(path, &key, options, &known)?;
        let reader = SqliteReader::open(path, options, Some(locked))?;
        let (store, mut writer, inbox) =
            Self::assemble(AnyReader::Sqlite(reader), backend, key, options, None);
        // SQLite is never waited for.
        writer.keeper = futures::executor::block_on(store.compare(&known, options))?;
        // A thread of its own: SQLite blocks while it syncs.
        std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || futures::executor::block_on(writer.run(inbox)))
            .map_err(|why| StoreError::Unavailable(format!("no thread for the writer: {why}")))?;
        Ok(store)
    }

    /// Opens the ledger in a file that another process has open, with the thread that writes; see
    /// [`StoreBeside`](crate::StoreBeside), which says what may be done with it.
    pub(crate) async fn open_beside(
        path: &Path,
        key: SigningKey,
        options: &Options,
    ) -> Result<(Self, std::thread::JoinHandle<()>), StoreError> {
        let known = options.expected(&key.verifier())?;
        let reader = SqliteReader::open(path, options, None)?;
        let stored = reader.identity()?;
        if stored != key.verifier().to_string() {
            return Err(StoreError::OtherKey { stored });
        }
        let backend = SqliteWriter::beside(path, options);
        let (store, writer, inbox) = Self::assemble(AnyReader::Sqlite(reader), backend, key, options, None);
        store.contains(&known).await?;
        let writing = std::thread::spawn(move || futures::executor::block_on(writer.run(inbox)));
        Ok((store, writing))
    }

    /// Opens the ledger in a PostgreSQL database (14 or newer), which several processes may do at once, and
    /// makes its tables if there are none. They stand in the first schema of the user's search path.
    ///
    /// TLS is used when the URL says `sslmode=require`, or says nothing and the host is another machine;
    /// the server's certificate is always checked.
    ///
    /// # Errors
    /// Fails with a [`StoreError`], among others when the schema is newer than the program or the log has
    /// another key.
    pub async fn open_postgres(url: &str, key: SigningKey, options: &Options) -> Result<Self, StoreError> {
        let known = options.expected(&key.verifier())?;
        let connector = postgres::Connector::new(url, options)?;
        connector.prepare(&key, || options.begins(&known)).await?;
        let backend = connector.clone().writer().await?;
        let reader = connector.reader(options)?;
        let (alive, stop) = oneshot::channel();
        let listener = connector.clone();
        let reader = AnyReader::Postgres { reader, connector: Box::new(connector) };
        let (store, mut writer, inbox) = Self::assemble(reader, backend, key, options, Some(alive));
        writer.keeper = store.compare(&known, options).await?;
        drop(tokio::spawn(listener.listen(store.shared.changes.clone(), stop)));
        drop(tokio::spawn(writer.run(inbox)));
        Ok(store)
    }

    /// Opens the ledger in a file to read, also while a server writes to it. Whatever would change it is
    /// refused as unavailable.
    ///
    /// # Errors
    /// Fails with a [`StoreError`], among others when there is no ledger, or one of another schema.
    pub fn open_sqlite_read_only(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let reader = SqliteReader::open(path, options, None)?;
        let signer = reader.identity()?;
        Self::reading(AnyReader::Sqlite(reader), &signer, options)
    }

    /// Opens the ledger in a PostgreSQL database to read, as [`Store::open_sqlite_read_only`] does one in a
    /// file. Nothing is made there, and no schema brought up to date.
    ///
    /// # Errors
    /// Fails with a [`StoreError`], among others when there is no ledger, or one of another schema.
    pub async fn open_postgres_read_only(url: &str, options: &Options) -> Result<Self, StoreError> {
        let connector = postgres::Connector::new(url, options)?;
        let signer = connector.identity().await?.ok_or(StoreError::Absent)?;
        let reader = connector.reader(options)?;
        Self::reading(AnyReader::Postgres { reader, connector: Box::new(connector) }, &signer, options)
    }

    /// Makes a handle that writes nothing.
    fn reading(reader: AnyReader, signer: &str, options: &Options) -> Result<Self, StoreError> {
        let verifier = signer
            .parse()
            .map_err(|_form| StoreError::Damaged("the key of the log cannot be read".into()))?;
        let shared = Shared {
            reader,
            queue: Queue::closed(),
            keys_kept_ms: options.keys_kept_ms(),
            statements: options.statements.clone(),
            cache: Arc::default(),
            failing: Arc::default(),
            alone: false,
            changes: watch::Sender::new(0),
            verifier,
            _alive: None,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns who signed the log of the ledger in a file, as a vkey; `None` when there is no ledger yet.
    ///
    /// # Errors
    /// Fails with a [`StoreError`], among others when the file is something else.
    pub fn signer_sqlite(path: &Path, options: &Options) -> Result<Option<String>, StoreError> {
        if !sqlite::holds_ledger(path, options)? {
            return Ok(None);
        }
        Ok(Some(SqliteReader::open(path, options, None)?.signer()?))
    }

    /// Returns who signed the log of the ledger in a PostgreSQL database, as a vkey; `None` when there is no
    /// ledger yet.
    ///
    /// # Errors
    /// Fails with a [`StoreError`] when the database cannot be reached or read.
    pub async fn signer_postgres(url: &str, options: &Options) -> Result<Option<String>, StoreError> {
        postgres::Connector::new(url, options)?.signer().await
    }

    /// Holds an advisory lock in the ledger's database, whether or not there is a ledger yet: another
    /// connection that finds it taken is to the same database. It makes nothing.
    ///
    /// # Errors
    /// Fails with a [`StoreError`], also when another connection has the lock.
    pub async fn hold_postgres(
        url: &str,
        options: &Options,
        lock: i64,
    ) -> Result<postgres::Held, StoreError> {
        postgres::Connector::new(url, options)?.hold(lock).await
    }

    /// Compares the ledger with what is known of it, before anything is signed. Returns who keeps the newest
    /// checkpoint from now on, where it is to be kept.
    async fn compare(&self, known: &[Kept], options: &Options) -> Result<Option<Keeper>, StoreError> {
        self.contains(known).await?;
        let begin = match options.opening {
            Opening::Known => Some(self.log_head().await?.checkpoint),
            Opening::DangerouslyAccepted => None,
        };
        self.is_whole().await?;
        options.checkpoint.as_deref().map(|path| Keeper::start(path, begin.as_deref())).transpose()
    }

    fn assemble<B: Backend>(
        reader: AnyReader,
        backend: B,
        key: SigningKey,
        options: &Options,
        alive: Option<oneshot::Sender<()>>,
    ) -> (Self, Writer<B>, Inbox) {
        let (queue, inbox) = Queue::open(options.queue, options.queue_timeout);
        let changes = watch::Sender::new(0);
        let verifier = key.verifier();
        let (cache, failing) = (Arc::default(), Arc::<AtomicBool>::default());
        let alone = matches!(reader, AnyReader::Sqlite(_));
        let writer = Writer {
            backend,
            key,
            verifier: verifier.clone(),
            changes: changes.clone(),
            hook: options.hook.clone(),
            statements: options.statements.clone(),
            telling: Arc::new(options.telling.clone()),
            seen: None,
            failing: Arc::clone(&failing),
            keeper: None,
            records: Records::default(),
            cache: alone.then(|| Arc::clone(&cache)),
        };
        let shared = Shared {
            reader,
            queue,
            keys_kept_ms: options.keys_kept_ms(),
            statements: options.statements.clone(),
            cache,
            failing,
            alone,
            changes,
            verifier,
            _alive: alive,
        };
        (Self { shared: Arc::new(shared) }, writer, inbox)
    }

    /// Returns the public key of the log.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.shared.verifier
    }

    /// Takes no more operations, writes those that are queued, and releases the ledger. Reading goes on.
    pub async fn close(&self) {
        self.shared.queue.close().await;
    }

    /// Returns how long idempotency keys are kept at least, in milliseconds.
    pub(crate) fn keys_kept_ms(&self) -> i64 {
        self.shared.keys_kept_ms
    }

    /// Queues an operation and waits until it is durable. Returns what it answers.
    pub(crate) async fn submit<O: Operation>(&self, operation: O) -> Result<O::Output, LedgerFault> {
        self.shared.queue.submit(operation).await
    }

    /// Queues an operation for whose answer nobody waits, and returns once it is queued.
    pub(crate) async fn leave(&self, operation: impl Operation) -> Result<(), LedgerFault> {
        self.shared.queue.leave(operation).await
    }

    /// Returns what the writer of this process says of what is stored; it is empty on PostgreSQL, where others
    /// write, too.
    fn cache(&self) -> RwLockReadGuard<'_, Cache> {
        self.shared.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a key by its id. It is kept in memory as long as nobody else can revoke it.
    pub(crate) async fn key(&self, id: &str) -> Result<Option<KeyRow>, LedgerFault> {
        let version = {
            let cache = self.cache();
            if let Some(row) = cache.key(id) {
                return Ok(Some(row.clone()));
            }
            cache.version()
        };
        let rows = self.select(KeyRow::select(&id.to_owned())).await?;
        let Some(row) = rows.first().map(KeyRow::read).transpose()? else { return Ok(None) };
        if self.shared.alone {
            let mut cache = self.shared.cache.write().unwrap_or_else(PoisonError::into_inner);
            cache.learn_key(version, id, &row);
        }
        Ok(Some(row))
    }

    /// Returns what the writer of this process knows of where a requester stands, without any request; `None`
    /// where that is to be read.
    pub(crate) fn cached_standing(&self, requester: &Requester, now_ms: i64) -> Option<Standing> {
        match &self.shared.reader {
            AnyReader::Sqlite(_) => self.cache().standing(requester, now_ms),
            AnyReader::Postgres { .. } => None,
        }
    }

    /// Returns the statement that finds entries `by` a column.
    pub(crate) fn select_entries(&self, by: By, newest_first: bool) -> &'static str {
        match &self.shared.reader {
            AnyReader::Sqlite(_) => sqlite::place::select_entries(by, newest_first),
            AnyReader::Postgres { .. } => postgres::place::select_entries(by, newest_first),
        }
    }

    /// Returns the statement that reads calls of an agent, from the newest on or `after` one.
    pub(crate) fn select_own_calls(&self, after: bool) -> &'static str {
        match &self.shared.reader {
            AnyReader::Sqlite(_) => sqlite::place::select_own_calls(after),
            AnyReader::Postgres { .. } => postgres::place::select_own_calls(after),
        }
    }

    /// Returns the statement that reads what is filed of entries, where anything is.
    pub(crate) fn select_filed(&self) -> Option<&'static str> {
        match &self.shared.reader {
            AnyReader::Sqlite(_) => Some(sqlite::place::FILED),
            AnyReader::Postgres { .. } => None,
        }
    }

    /// Returns a number to watch, which moves at each change that people and agents wait for, and perhaps at
    /// others.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Tells whether people may have been asked about calls of this digest, and whether they may have refused
    /// its agent anything.
    pub(crate) async fn asked(
        &self,
        agent: &AgentId,
        digest: CallDigest,
    ) -> Result<(bool, bool), LedgerFault> {
        self.told(|cache| (cache.asked(digest).unwrap_or(true), cache.refused(agent).unwrap_or(true))).await
    }

    /// Tells whether a call of this agent with this digest may be or have been in doubt.
    pub(crate) async fn may_be_doubted(
        &self,
        agent: &AgentId,
        digest: CallDigest,
    ) -> Result<bool, LedgerFault> {
        // Another process may have found a call in doubt.
        if !self.shared.alone {
            return Ok(true);
        }
        self.told(|cache| cache.doubted(agent, digest).unwrap_or(true)).await
    }

    /// Returns what the cache tells of requests and doubts, which are read where that was not done yet.
    async fn told<T>(&self, tell: impl Fn(&Cache) -> T) -> Result<T, LedgerFault> {
        let version = {
            let cache = self.cache();
            if !cache.wants_asked() {
                return Ok(tell(&cache));
            }
            cache.version()
        };
        let most = cache::DIGESTS_MAX.saturating_add(1);
        let answers = self
            .select_each(vec![
                approval::select_digests(most),
                approval::select_refused_agents(most),
                call::select_doubts(most),
            ])
            .await?;
        let [digests, refused, doubted] = answers.as_slice() else {
            return Err(LedgerFault::Unavailable("a record was not read".into()));
        };
        let asked = Asked {
            digests: approval::read_digests(digests)?,
            refused: approval::read_agents(refused)?,
            doubted: call::read_doubts(doubted)?,
        };
        let mut cache = self.shared.cache.write().unwrap_or_else(PoisonError::into_inner);
        cache.learn_asked(version, asked);
        Ok(tell(&cache))
    }

    /// Reads a few records. A file is read on the thread that asks.
    pub(crate) async fn select(&self, query: SqlStatement) -> Result<Vec<StoredRow>, LedgerFault> {
        Ok(self.select_each(vec![query]).await?.into_iter().next().unwrap_or_default())
    }

    /// Asks several questions; each answer is no older than the one before.
    pub(crate) async fn select_each(
        &self,
        queries: Vec<SqlStatement>,
    ) -> Result<Vec<Vec<StoredRow>>, LedgerFault> {
        row::tell(self.shared.statements.as_ref(), &queries);
        match &self.shared.reader {
            // Found by index in memory that is mapped or cached: quicker than changing threads.
            AnyReader::Sqlite(reader) => reader.read(&queries),
            AnyReader::Postgres { reader, .. } => reader.read(&queries).await,
        }
    }

    /// Reads many records. A file is read on another thread, which may block.
    pub(crate) async fn scan(&self, query: SqlStatement) -> Result<Vec<StoredRow>, LedgerFault> {
        Ok(self.scan_each(vec![query]).await?.into_iter().next().unwrap_or_default())
    }

    /// Reads as [`Store::scan`] does, for several questions; each answer is no older than the one before.
    pub(crate) async fn scan_each(
        &self,
        queries: Vec<SqlStatement>,
    ) -> Result<Vec<Vec<StoredRow>>, LedgerFault> {
        row::tell(self.shared.statements.as_ref(), &queries);
        match &self.shared.reader {
            AnyReader::Sqlite(reader) => {
                let reader = Arc::clone(reader);
                let read = tokio::task::spawn_blocking(move || reader.read(&queries));
                read.await.map_err(|why| LedgerFault::Unavailable(why.to_string()))?
            }
            AnyReader::Postgres { reader, .. } => reader.read(&queries).await,
        }
    }

    /// Proves that the ledger can be written, durably, by writing the head of its log. No entry and no record
    /// changes.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]: a call would not be recorded either.
    pub async fn prove_writable(&self) -> Result<(), LedgerFault> {
        self.submit(session::Touch).await
    }

    /// Tells whether the last transaction failed: what was to be recorded in it was not, or perhaps not.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Erases the evidence that was shown with a request, for good. The log keeps its commitment and stays
    /// verifiable. `entry` is appended with it. What people are asked about is not erased.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]. When the evidence is erased and its bytes may still stand in a file of the
    /// database, that is [`LedgerFault::Unknown`]; erasing again tries again.
    pub async fn erase_evidence(
        &self,
        approval: &ApprovalId,
        entry: NewEntry,
    ) -> Result<Erasure, LedgerFault> {
        let (now_ms, entry) = (entry.at_ms, Encoded::of(&entry)?);
        // A crash before this is durable leaves the evidence. After it the evidence is erased for readers, and
        // its bytes may still stand in a file of the database: erasing again scrubs it.
        let erased = self.submit(EraseEvidence { approval: approval.clone(), now_ms, entry }).await?;
        if matches!(erased, Erasure::Asked { .. }) {
            return Ok(erased);
        }
        let scrubbed = match &self.shared.reader {
            AnyReader::Sqlite(reader) => {
                let (path, timeout) = (reader.path().to_owned(), reader.lock_timeout());
                tokio::task::spawn_blocking(move || SqliteReader::scrub(&path, timeout))
                    .await
                    .map_err(|why| LedgerFault::Unknown(why.to_string()))?
            }
            AnyReader::Postgres { reader, connector } => reader.scrub(connector).await,
        };
        scrubbed.map_err(|why| LedgerFault::Unknown(format!("erased, and perhaps not everywhere: {why}")))?;
        Ok(erased)
    }
}
