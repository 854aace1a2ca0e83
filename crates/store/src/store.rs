//! The handle on a ledger: opening, queueing, reading.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use countersign_audit::{SigningKey, VerifierKey};
use countersign_gate::{
    Entry,
    ledger::{
        ANSWERED_MAX, ApprovalRecord, Bond, CallOutcome, CallRecord, CallState, Charge, Closing, HaltRecord,
        HaltScope, Intent, Issued, Ledger, LedgerFault, NotAnswered, NotIssued, NotParked, Parking, Standing,
        Wait, session_key,
    },
};
use countersign_rules::{
    AgentId, ApprovalId, ApprovalState, CallDigest, CallId, Code, IdempotencyKey, Requester, Signature,
    ToolName,
    budget::{Balance, BudgetAccount, HoldRequest},
    rate::Rate,
    settlement::Settlement,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    approval::{self, ApprovalRow, Erasure, RequestKey},
    bond, budget,
    call::{self, CallRow},
    halt,
    history::{Keeper, Kept, Opening},
    image::Image,
    key::{self, KeyRecord, KeyRow, NewKey},
    known::{self, Asked, Known},
    log::Encoded,
    postgres, rate,
    row::{Query, Row},
    session,
    session::CounterKey,
    sqlite,
    writer::{Backend, Failure, Inbox, Message, Operation, StepHook, Writer, detached, waiting},
};

/// How a ledger is opened. The defaults are right for a server.
#[derive(Clone)]
pub struct Options {
    /// How many operations may wait to be written, at least 1; more wait to be queued.
    pub queue: usize,
    /// How long an operation waits to be queued before it is refused as unavailable.
    pub queue_timeout: Duration,
    /// How long one statement may take on PostgreSQL.
    pub statement_timeout: Duration,
    /// How long to wait for a lock that another program holds.
    pub lock_timeout: Duration,
    /// How many connections are kept for reading, at least 1.
    pub readers: usize,
    /// The most pages of 4 KiB that an SQLite file may grow to.
    pub sqlite_pages_max: Option<u32>,
    /// Certificates (PEM) that PostgreSQL's is checked against, in place of the platform's.
    pub postgres_ca: Option<PathBuf>,
    /// The file outside of the ledger in which the newest checkpoint of its log is kept.
    pub checkpoint: Option<PathBuf>,
    /// Files with signed checkpoints of the log that others keep; the log must contain what they state.
    pub witnesses: Vec<PathBuf>,
    /// How long idempotency keys are kept at least.
    pub keys_kept: Duration,
    /// What is taken for granted.
    pub opening: Opening,
    /// For tests: called between the durable steps of the writer.
    #[doc(hidden)]
    pub hook: Option<StepHook>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue: 1_024,
            queue_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            readers: 4,
            sqlite_pages_max: None,
            postgres_ca: None,
            checkpoint: None,
            witnesses: Vec::new(),
            keys_kept: Duration::from_secs(24 * 60 * 60),
            opening: Opening::Known,
            hook: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("queue", &self.queue)
            .field("queue_timeout", &self.queue_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("readers", &self.readers)
            .field("checkpoint", &self.checkpoint)
            .field("witnesses", &self.witnesses)
            .field("keys_kept", &self.keys_kept)
            .field("opening", &self.opening)
            .finish_non_exhaustive()
    }
}

/// Why a ledger could not be opened. Messages carry no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process writes to it.
    #[error(
        "`{}` is in use by another process: stop that one, or keep the ledger on PostgreSQL, which several may share",
        .path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer program, or read-only by one that would have to change it.
    #[error(
        "the ledger has schema {found}, and this program knows {known}: use the program that wrote it, or a newer one"
    )]
    Schema {
        /// The schema found.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// Its log was begun with another key.
    #[error("the ledger's log is signed by `{stored}`, and this is another key: give that one")]
    OtherKey {
        /// The key of the log, as its vkey.
        stored: String,
    },
    /// What is stored cannot be right.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    /// Its log does not contain what is known of it.
    #[error(
        "the ledger went back: `{}` states a log of {kept} entries that this ledger, with {found}, does not contain; put \
         the right ledger in its place, or go on with this one by `countersign audit dangerous-restart`",
        .path.display()
    )]
    WentBack {
        /// The file that states the log.
        path: PathBuf,
        /// The size of the log that was signed.
        kept: u64,
        /// The size of the log that is there.
        found: u64,
    },
    /// There is none, and there was one.
    #[error(
        "the ledger is gone: `{}` states a log of {size} entries, and there is none; put the ledger back in its place, or \
         begin anew by `countersign audit dangerous-restart`",
        .path.display()
    )]
    Lost {
        /// The file that states the log.
        path: PathBuf,
        /// The size of the log that was signed.
        size: u64,
    },
    /// There is none, and it was opened to look at.
    #[error("there is no ledger yet: it begins when the server starts")]
    Absent,
    /// The file is something else.
    #[error("`{}` is another program's database, and no ledger: name another file", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint that is kept outside of the ledger cannot be read or written.
    #[error("the checkpoint `{}` cannot be used: {why}", .path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It cannot be reached, read or written.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
    /// The URL or a certificate cannot be used.
    #[error("the ledger's URL cannot be used: {0}")]
    Url(String),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Statement(why) | Failure::Unavailable(why) | Failure::Unknown(why) => {
                Self::Unavailable(why)
            }
            Failure::Damaged(why) => Self::Damaged(why),
        }
    }
}

impl From<LedgerFault> for StoreError {
    fn from(fault: LedgerFault) -> Self {
        Failure::from(fault).into()
    }
}

/// A ledger. Clones are handles on the same one.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    reader: Reader,
    /// `None` when it was opened to read, or is closed.
    queue: Mutex<Option<mpsc::Sender<Box<dyn Message>>>>,
    queue_timeout: Duration,
    keys_kept: Duration,
    /// Kept by the writer when this process is the only one that writes.
    known: Arc<RwLock<Known>>,
    failing: Arc<AtomicBool>,
    alone: bool,
    changes: watch::Sender<u64>,
    verifier: VerifierKey,
    /// Yields when the writer has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    /// Dropped with the last handle; whoever holds the other end stops then.
    _alive: Option<oneshot::Sender<()>>,
}

enum Reader {
    Sqlite(Arc<sqlite::Reader>),
    Postgres { reader: postgres::Reader, connector: Box<postgres::Connector> },
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("log", self.shared.verifier.name()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the ledger in a file, and makes it if there is none. The log is signed with `key`, whose name
    /// is the log's origin.
    ///
    /// # Errors
    /// [`StoreError`], among others when another process has it open.
    pub fn open_sqlite(path: &Path, key: SigningKey, options: &Options) -> Result<Self, StoreError> {
        let known = options.expected(&key.verifier())?;
        let (backend, locked) = sqlite::Writer::open(path, &key, options, &known)?;
        let reader = sqlite::Reader::open(path, options, Some(locked))?;
        let (store, mut writer, inbox) = Self::assemble(Reader::Sqlite(reader), backend, key, options, None);
        // SQLite is never waited for.
        writer.keeper = futures::executor::block_on(store.compare(&known, options))?;
        // A thread of its own: SQLite blocks while it syncs.
        std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || futures::executor::block_on(writer.run(inbox)))
            .map_err(|why| StoreError::Unavailable(format!("no thread for the writer: {why}")))?;
        Ok(store)
    }

    /// Issues a key in a file that another process has open, such as a running server; see
    /// [`Store::issue_key`]. The key is good at once. Nothing else can be done beside that process: its calls
    /// would look like those of a process that is gone, and what it keeps in memory would be wrong.
    ///
    /// # Errors
    /// [`StoreError`], among others when the schema is not this program's or the log has another key.
    pub async fn issue_key_beside(
        path: &Path,
        key: SigningKey,
        options: &Options,
        new: NewKey,
        random: [u8; 32],
    ) -> Result<(KeyRecord, String), StoreError> {
        let known = options.expected(&key.verifier())?;
        let reader = sqlite::Reader::open(path, options, None)?;
        let stored = reader.identity()?;
        if stored != key.verifier().to_string() {
            return Err(StoreError::OtherKey { stored });
        }
        let backend = sqlite::Writer::beside(path, options);
        let (store, writer, inbox) = Self::assemble(Reader::Sqlite(reader), backend, key, options, None);
        store.contains(&known).await?;
        let writing = std::thread::spawn(move || futures::executor::block_on(writer.run(inbox)));
        let issued = store.issue_key(new, random).await;
        store.close().await;
        drop(writing);
        Ok(issued?)
    }

    /// Opens the ledger in a PostgreSQL database (14 or newer), which several processes may do at once, and
    /// makes its tables if there are none. They stand in the first schema of the user's search path.
    ///
    /// TLS is used when the URL says `sslmode=require`, or says nothing and the host is another machine;
    /// the server's certificate is always checked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_postgres(url: &str, key: SigningKey, options: &Options) -> Result<Self, StoreError> {
        let known = options.expected(&key.verifier())?;
        let connector = postgres::Connector::new(url, options)?;
        connector.prepare(&key, || options.begins(&known)).await?;
        let backend = connector.clone().writer().await?;
        let reader = connector.reader(options)?;
        let (alive, stop) = oneshot::channel();
        let listener = connector.clone();
        let reader = Reader::Postgres { reader, connector: Box::new(connector) };
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
    /// [`StoreError`].
    pub fn open_sqlite_read_only(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let reader = sqlite::Reader::open(path, options, None)?;
        let signer = reader.identity()?;
        Self::reading(Reader::Sqlite(reader), &signer, options)
    }

    /// Opens the ledger in a PostgreSQL database to read, as [`Store::open_sqlite_read_only`] does one in a file. Nothing
    /// is made there, and no schema brought up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_postgres_read_only(url: &str, options: &Options) -> Result<Self, StoreError> {
        let connector = postgres::Connector::new(url, options)?;
        let signer = connector.identity().await?.ok_or(StoreError::Absent)?;
        let reader = connector.reader(options)?;
        Self::reading(Reader::Postgres { reader, connector: Box::new(connector) }, &signer, options)
    }

    /// A handle that writes nothing.
    fn reading(reader: Reader, signer: &str, options: &Options) -> Result<Self, StoreError> {
        let verifier = signer
            .parse()
            .map_err(|_form| StoreError::Damaged("the key of the log cannot be read".into()))?;
        let shared = Shared {
            reader,
            queue: Mutex::new(None),
            queue_timeout: options.queue_timeout,
            keys_kept: options.keys_kept,
            known: Arc::default(),
            failing: Arc::default(),
            alone: false,
            changes: watch::Sender::new(0),
            verifier,
            ended: Mutex::new(None),
            _alive: None,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Who signed the log of the ledger in a file, as a vkey; `None` when there is no ledger yet.
    ///
    /// # Errors
    /// [`StoreError`], among others when the file is something else.
    pub fn signer_sqlite(path: &Path, options: &Options) -> Result<Option<String>, StoreError> {
        if !sqlite::holds_ledger(path, options)? {
            return Ok(None);
        }
        Ok(Some(sqlite::Reader::open(path, options, None)?.signer()?))
    }

    /// Who signed the log of the ledger in a PostgreSQL database, as a vkey; `None` when there is no ledger yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn signer_postgres(url: &str, options: &Options) -> Result<Option<String>, StoreError> {
        postgres::Connector::new(url, options)?.signer().await
    }

    /// Holds an advisory lock in the ledger's database, whether or not there is a ledger yet: another connection that finds it
    /// taken is to the same database. Makes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_postgres(
        url: &str,
        options: &Options,
        lock: i64,
    ) -> Result<postgres::Held, StoreError> {
        postgres::Connector::new(url, options)?.hold(lock).await
    }

    /// Compares the ledger with what is known of it, before anything is signed. Answers who keeps what is known
    /// from now on.
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
        reader: Reader,
        backend: B,
        key: SigningKey,
        options: &Options,
        alive: Option<oneshot::Sender<()>>,
    ) -> (Self, Writer<B>, Inbox) {
        let (sender, queue) = mpsc::channel(options.queue.max(1));
        let (done, ended) = oneshot::channel();
        let changes = watch::Sender::new(0);
        let verifier = key.verifier();
        let (known, failing) = (Arc::default(), Arc::<AtomicBool>::default());
        let alone = matches!(reader, Reader::Sqlite(_));
        let writer = Writer {
            backend,
            key,
            verifier: verifier.clone(),
            changes: changes.clone(),
            hook: options.hook.clone(),
            seen: None,
            failing: Arc::clone(&failing),
            keeper: None,
            image: Image::new(),
            known: alone.then(|| Arc::clone(&known)),
        };
        let shared = Shared {
            reader,
            queue: Mutex::new(Some(sender)),
            queue_timeout: options.queue_timeout,
            keys_kept: options.keys_kept,
            known,
            failing,
            alone,
            changes,
            verifier,
            ended: Mutex::new(Some(ended)),
            _alive: alive,
        };
        (Self { shared: Arc::new(shared) }, writer, Inbox { queue, done })
    }

    /// The public key of the log.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.shared.verifier
    }

    /// Takes no more operations, writes those that are queued, and releases the ledger. Reading goes on.
    pub async fn close(&self) {
        drop(self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            // An error is the sender's end, which is what is waited for.
            drop(ended.await);
        }
    }

    /// How long idempotency keys are kept at least, in milliseconds.
    pub(crate) fn keys_kept_ms(&self) -> i64 {
        i64::try_from(self.shared.keys_kept.as_millis()).unwrap_or(i64::MAX)
    }

    /// Queues an operation and waits until it is durable.
    pub(crate) async fn submit<O: Operation>(&self, operation: O) -> Result<O::Output, LedgerFault> {
        let (message, answer) = waiting(operation);
        self.enqueue(message).await?;
        // The writer answers everything it takes. If it is gone, nobody knows what it wrote.
        answer.await.unwrap_or_else(|_gone| Err(LedgerFault::Unknown("the writer has ended".into())))
    }

    async fn enqueue(&self, message: Box<dyn Message>) -> Result<(), LedgerFault> {
        let queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(queue) = queue else {
            return Err(LedgerFault::Unavailable("it is closed, or open to read only".into()));
        };
        match queue.try_reserve() {
            Ok(place) => place.send(message),
            Err(mpsc::error::TrySendError::Closed(())) => {
                return Err(LedgerFault::Unavailable("the writer has ended".into()));
            }
            Err(mpsc::error::TrySendError::Full(())) => {
                match tokio::time::timeout(self.shared.queue_timeout, queue.reserve()).await {
                    Ok(Ok(place)) => place.send(message),
                    Ok(Err(_closed)) => {
                        return Err(LedgerFault::Unavailable("the writer has ended".into()));
                    }
                    Err(_elapsed) => {
                        return Err(LedgerFault::Unavailable(
                            "too many operations wait to be written".into(),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// What the writer of this process says of what is stored; empty on PostgreSQL, where others write, too.
    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.shared.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key by its id. Kept in memory as long as nobody else can revoke it.
    pub(crate) async fn key(&self, id: &str) -> Result<Option<KeyRow>, LedgerFault> {
        let version = {
            let known = self.known();
            if let Some(row) = known.key(id) {
                return Ok(Some(row.clone()));
            }
            known.version()
        };
        let rows = self.select(key::select(id)).await?;
        let Some(row) = rows.first().map(KeyRow::read).transpose()? else { return Ok(None) };
        if self.shared.alone {
            let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
            known.learn_key(version, id, &row);
        }
        Ok(Some(row))
    }

    /// Whether people may have been asked about calls of this digest, and whether they may have refused its agent anything.
    async fn asked(&self, agent: &AgentId, digest: CallDigest) -> Result<(bool, bool), LedgerFault> {
        let tell =
            |known: &Known| (known.asked(digest).unwrap_or(true), known.refused(agent).unwrap_or(true));
        let version = {
            let known = self.known();
            if !known.wants_asked() {
                return Ok(tell(&known));
            }
            known.version()
        };
        let most = known::DIGESTS_MAX.saturating_add(1);
        let answers = self
            .select_each(vec![approval::select_digests(most), approval::select_refused_agents(most)])
            .await?;
        let [digests, refused] = answers.as_slice() else {
            return Err(LedgerFault::Unavailable("a record was not read".into()));
        };
        let asked =
            Asked { digests: approval::read_digests(digests)?, refused: approval::read_agents(refused)? };
        let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
        known.learn_asked(version, asked);
        Ok(tell(&known))
    }

    /// Reads a few records.
    pub(crate) async fn select(&self, query: Query) -> Result<Vec<Row>, LedgerFault> {
        Ok(self.select_each(vec![query]).await?.into_iter().next().unwrap_or_default())
    }

    /// Asks several questions; each answer is no older than the one before.
    async fn select_each(&self, queries: Vec<Query>) -> Result<Vec<Vec<Row>>, LedgerFault> {
        match &self.shared.reader {
            // Found by index in memory that is mapped or cached: quicker than changing threads.
            Reader::Sqlite(reader) => reader.read(&queries),
            Reader::Postgres { reader, .. } => reader.read(&queries).await,
        }
    }

    /// Reads many records.
    pub(crate) async fn scan(&self, query: Query) -> Result<Vec<Row>, LedgerFault> {
        match &self.shared.reader {
            Reader::Sqlite(reader) => {
                let reader = Arc::clone(reader);
                let read = tokio::task::spawn_blocking(move || reader.read(&[query]));
                let rows = read.await.map_err(|why| LedgerFault::Unavailable(why.to_string()))??;
                Ok(rows.into_iter().next().unwrap_or_default())
            }
            Reader::Postgres { reader, .. } => {
                Ok(reader.read(&[query]).await?.into_iter().next().unwrap_or_default())
            }
        }
    }

    /// Proves that the ledger can be written, durably, by doing so. Nothing in it changes.
    ///
    /// # Errors
    /// [`LedgerFault`]: a call would not be recorded either.
    pub async fn prove_writable(&self) -> Result<(), LedgerFault> {
        self.submit(session::Touch).await
    }

    /// Whether the last thing that was to be recorded could not be.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Erases the evidence that was shown with a request, for good. The log keeps its commitment and stays
    /// verifiable. `entry` is appended with it. What people are asked about is not erased.
    ///
    /// # Errors
    /// [`LedgerFault`]. When it is erased and its bytes may still stand in a file of the database, that is
    /// [`LedgerFault::Unknown`]; erasing again tries again.
    pub async fn erase_evidence(&self, approval: &ApprovalId, entry: Entry) -> Result<Erasure, LedgerFault> {
        let (now_ms, entry) = (entry.at_ms, Encoded::of(&entry)?);
        let erased =
            self.submit(approval::EraseEvidence { approval: approval.clone(), now_ms, entry }).await?;
        if matches!(erased, Erasure::Asked { .. }) {
            return Ok(erased);
        }
        let scrubbed = match &self.shared.reader {
            Reader::Sqlite(reader) => {
                let (path, timeout) = (reader.path().to_owned(), reader.lock_timeout());
                tokio::task::spawn_blocking(move || sqlite::Reader::scrub(&path, timeout))
                    .await
                    .map_err(|why| LedgerFault::Unknown(why.to_string()))?
            }
            Reader::Postgres { reader, connector } => reader.scrub(connector).await,
        };
        scrubbed.map_err(|why| LedgerFault::Unknown(format!("erased, and perhaps not everywhere: {why}")))?;
        Ok(erased)
    }
}

impl Ledger for Store {
    async fn standing(
        &self,
        requester: &Requester,
        digest: CallDigest,
        now_ms: i64,
    ) -> Result<Standing, LedgerFault> {
        let newest = approval::select_newest(&RequestKey::new(requester, digest));
        let known = match &self.shared.reader {
            Reader::Sqlite(_) => self.known().standing(requester, now_ms),
            Reader::Postgres { .. } => None,
        };
        if let Some(standing) = known {
            let (asked, refusals) = self.asked(&requester.agent, digest).await?;
            if !asked {
                return Ok(Standing { refusals, ..standing });
            }
            let rows = self.select(newest).await?;
            let request = rows.first().map(ApprovalRow::read).transpose()?.map(|row| row.record);
            return Ok(Standing { request, refusals, ..standing });
        }
        // The version before what it counts: a change in between makes the decision's issue fail, while
        // the other way round it would pass unseen.
        let answers = self.select_each(vec![
            session::select_history(&requester.agent),
            halt::select_for(&requester.agent),
            session::select_counters(&CounterKey::session(requester)),
            session::select_counters(&CounterKey::agent(requester, now_ms)),
            newest,
            approval::select_refusals(&requester.agent, now_ms),
        ]);
        let answers = answers.await?;
        let first = |question: usize| answers.get(question).and_then(|rows| rows.first());
        Ok(Standing {
            history: first(0).map(|row| row.count(0)).transpose()?.unwrap_or_default(),
            halted: first(1).map(halt::read).transpose()?,
            session: first(2).map(|row| row.json(0)).transpose()?.unwrap_or_default(),
            agent_today: first(3).map(|row| row.json(0)).transpose()?.unwrap_or_default(),
            request: first(4).map(ApprovalRow::read).transpose()?.map(|row| row.record),
            refusals: first(5).is_some(),
        })
    }

    async fn open_session(&self, requester: &Requester, entry: Entry) -> Result<bool, LedgerFault> {
        let entry = Encoded::of(&entry)?;
        self.submit(session::OpenSession { requester: requester.clone(), entry }).await
    }

    async fn has_session(&self, requester: &Requester) -> Result<bool, LedgerFault> {
        let key = session_key(&requester.agent, &requester.session);
        Ok(!self.select(session::select(&key)).await?.is_empty())
    }

    async fn record(&self, entries: Vec<Entry>) -> Result<(), LedgerFault> {
        self.submit(session::Record { entries: Encoded::all(&entries)? }).await
    }

    async fn park(&self, parking: Parking) -> Result<ApprovalRecord, NotParked> {
        self.submit(approval::Park::new(parking)?).await?
    }

    async fn bond(&self, agent: &AgentId, key: &IdempotencyKey) -> Result<Option<Bond>, LedgerFault> {
        let rows = self.select(bond::select(&(agent.clone(), key.clone()))).await?;
        Ok(rows.first().map(bond::read).transpose()?)
    }

    async fn bonds(&self, agent: &AgentId, limit: u32) -> Result<u64, LedgerFault> {
        let rows = self.select(bond::count(agent, limit)).await?;
        Ok(rows.first().map(|row| row.count(0)).transpose()?.unwrap_or_default())
    }

    async fn bind(
        &self,
        bond: Bond,
        replaces: Option<&CallId>,
        entries: Vec<Entry>,
    ) -> Result<Option<Bond>, LedgerFault> {
        let entries = Encoded::all(&entries)?;
        self.submit(bond::Bind { bond, replaces: replaces.cloned(), entries }).await
    }

    async fn room(
        &self,
        rates: &[(String, Rate)],
        holds: &[HoldRequest],
        now_ms: i64,
    ) -> Result<(), NotIssued> {
        let rate = rates.iter().map(|(key, _rate)| rate::select(key));
        let balance = holds.iter().map(|hold| budget::select(&hold.account));
        let answers = self.select_each(rate.chain(balance).collect()).await?;
        let mut rows = answers.iter().map(|rows| rows.first());
        let mut due = BTreeMap::new();
        for (key, _rate) in rates {
            let stored = rows.next().flatten().map(|row| row.int(0)).transpose();
            due.insert(key.as_str(), stored.map_err(LedgerFault::from)?);
        }
        let mut balances = BTreeMap::new();
        for hold in holds {
            let stored = rows.next().flatten().map(budget::read).transpose().map_err(LedgerFault::from)?;
            balances.insert(&hold.account, stored.unwrap_or_default());
        }
        let unread = || LedgerFault::Unavailable("a record was not read".into());
        let due = |key: &str| due.get(key).copied().ok_or_else(unread);
        let balance = |account: &BudgetAccount| balances.get(account).copied().ok_or_else(unread);
        Charge::new((rates, holds), now_ms, due, balance).map(|_taken| ())
    }

    async fn issue(&self, intent: Intent) -> Result<Issued, NotIssued> {
        self.submit(call::Issue::new(intent)?).await?
    }

    async fn close(&self, closing: Closing, wait: Wait) -> Result<(), LedgerFault> {
        match wait {
            Wait::Durable => self.submit(call::Close::new(closing)?).await,
            Wait::Queued => self.enqueue(detached(call::Close::new(closing)?)).await,
        }
    }

    async fn answer(
        &self,
        approval: &ApprovalId,
        signature: Signature,
        entry: Entry,
    ) -> Result<ApprovalRecord, NotAnswered> {
        let entry = Encoded::of(&entry)?;
        self.submit(approval::Answer { approval: approval.clone(), signature, entry }).await?
    }

    async fn end(
        &self,
        approval: &ApprovalId,
        state: ApprovalState,
        code: Option<Code>,
        why: &str,
        entries: Vec<Entry>,
    ) -> Result<bool, LedgerFault> {
        let (why, entries) = (why.to_owned(), Encoded::all(&entries)?);
        self.submit(approval::End { approval: approval.clone(), state, code, why, entries }).await
    }

    async fn deliver(&self, approval: &ApprovalId) -> Result<(), LedgerFault> {
        self.submit(approval::Deliver(approval.clone())).await
    }

    async fn halt(&self, halt: HaltRecord, entry: Entry) -> Result<HaltRecord, LedgerFault> {
        self.submit(halt::Halt { record: halt, entry: Encoded::of(&entry)? }).await
    }

    async fn resume(&self, scope: &HaltScope, entry: Entry) -> Result<bool, LedgerFault> {
        self.submit(halt::Resume { scope: scope.clone(), entry: Encoded::of(&entry)? }).await
    }

    async fn sweep(&self, now_ms: i64) -> Result<Vec<CallRecord>, LedgerFault> {
        self.submit(call::Sweep { now_ms }).await
    }

    async fn resolve(
        &self,
        call: &CallId,
        outcome: CallOutcome,
        settlement: Settlement,
        now_ms: i64,
        entries: Vec<Entry>,
    ) -> Result<bool, LedgerFault> {
        let entries = Encoded::all(&entries)?;
        self.submit(call::Resolve { call: call.clone(), outcome, settlement, now_ms, entries }).await
    }

    async fn approval(&self, approval: &ApprovalId) -> Result<Option<ApprovalRecord>, LedgerFault> {
        let rows = self.select(approval::select(approval)).await?;
        Ok(rows.first().map(ApprovalRow::read).transpose()?.map(|row| row.record))
    }

    async fn approvals(
        &self,
        states: &[ApprovalState],
        limit: u32,
    ) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        let rows = self.scan(approval::select_all(states, limit)).await?;
        rows.iter().map(|row| Ok(ApprovalRow::read(row)?.record)).collect()
    }

    async fn call(&self, call: &CallId) -> Result<Option<CallRecord>, LedgerFault> {
        let rows = self.select(call::select(call)).await?;
        Ok(rows.first().map(CallRow::read).transpose()?.map(|row| row.record))
    }

    async fn waiting(&self, agent: &AgentId) -> Result<u64, LedgerFault> {
        let rows = self.select(approval::count_waiting(agent)).await?;
        Ok(rows.first().map(|row| row.count(0)).transpose()?.unwrap_or_default())
    }

    async fn refused(
        &self,
        agent: &AgentId,
        forms: (CallDigest, CallDigest),
        now_ms: i64,
    ) -> Result<Option<ApprovalRecord>, LedgerFault> {
        let rows = self.select(approval::select_refused(agent, forms, now_ms)).await?;
        Ok(rows.first().map(ApprovalRow::read).transpose()?.map(|row| row.record))
    }

    async fn answered(
        &self,
        agent: &AgentId,
        tool: &ToolName,
        shape: CallDigest,
    ) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        let most = u64::try_from(ANSWERED_MAX).unwrap_or(u64::MAX);
        let answers = self
            .select_each(vec![
                approval::select_like(agent, shape, most),
                approval::select_refused_tool(agent, tool, shape, most),
            ])
            .await?;
        let mut rows = answers.iter().flatten().map(ApprovalRow::read).collect::<Result<Vec<_>, _>>()?;
        rows.sort_by_key(|row| std::cmp::Reverse(row.order));
        Ok(rows.into_iter().map(|row| row.record).collect())
    }

    async fn doubted(
        &self,
        agent: &AgentId,
        digest: CallDigest,
        since_ms: i64,
    ) -> Result<Option<CallRecord>, LedgerFault> {
        let rows = self.select(call::select_doubted(agent, digest, since_ms)).await?;
        rows.first().map(|row| Ok(CallRow::read(row)?.record)).transpose()
    }

    async fn calls(&self, state: Option<CallState>, limit: u32) -> Result<Vec<CallRecord>, LedgerFault> {
        let rows = self.scan(call::select_all(state, limit)).await?;
        rows.iter().map(|row| Ok(CallRow::read(row)?.record)).collect()
    }

    async fn halts(&self) -> Result<Vec<HaltRecord>, LedgerFault> {
        let rows = self.scan(halt::select_all()).await?;
        rows.iter().map(|row| Ok(halt::read(row)?)).collect()
    }

    async fn balances(&self, limit: u32) -> Result<Vec<(BudgetAccount, Balance)>, LedgerFault> {
        budget::read_all(&self.scan(budget::select_all(limit)).await?)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}
