//! The ledger in one file, for one process.
//!
//! The process locks the file itself as long as it writes, whatever name it was opened by, so every call that
//! is open when it starts belongs to a process that is gone. It also locks `….lock` beside it, which stays when
//! the file is exchanged. Write-ahead log, synced at each commit.
//!
//! The lock on the file is `flock`'s, which SQLite's own locks (`fcntl`'s) know nothing of. Closing a handle of
//! a file releases all of the process's `fcntl` locks on it; so the handle stays open as long as any connection
//! may.

pub(crate) mod place;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs::{File, Metadata, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_audit::SigningKey;
use countersign_gate::ledger::LedgerFault;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, ToSql,
    config::DbConfig,
    types::{ToSqlOutput, ValueRef},
};

use crate::{
    error::{Failure, StoreError},
    migration,
    options::{Kept, Options},
    record::call::open_calls,
    row::{SqlStatement, StoredRow, Value},
    tail,
    writer::{Backend, Begun},
};

/// Each connection keeps so many statements prepared.
const STATEMENTS: usize = 64;

/// The write-ahead log grows to so many pages of 4 KiB before it is moved into the file.
const CHECKPOINT_PAGES: u32 = 4_000;

/// The writer keeps so much of the file in memory, in KiB: the inner pages of every index.
const CACHE_KIB: u32 = 8_192;

/// This is the file, opened to write.
pub(crate) struct SqliteWriter {
    path: PathBuf,
    connection: Option<Connection>,
    /// SQLite counts what other connections have written: this is the count as this connection saw it last.
    version: Option<i64>,
    process: i64,
    lock_timeout: Duration,
    pages_max: Option<u32>,
    /// The connection has this write-ahead log open.
    wal: Option<Identity>,
    /// This is `None` beside a process that has the locks.
    locks: Option<Locks>,
}

/// The operating system releases these when the process ends, however it ends.
struct Locks {
    database: Arc<File>,
    identity: Identity,
    _beside: File,
}

impl Drop for Locks {
    fn drop(&mut self) {
        // Readers keep the handle open. One that cannot be unlocked is, when they are gone.
        if let Err(why) = self.database.unlock() {
            tracing::warn!(%why, "the ledger's file stays locked until it is not read any more");
        }
    }
}

/// This says which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self(metadata.dev(), metadata.ino())
    }

    fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::of)
    }
}

/// This is the file, opened to read.
pub(crate) struct SqliteReader {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    lock_timeout: Duration,
    readers: usize,
    /// This is dropped after the connections; see the module.
    _locked: Option<Arc<File>>,
}

impl SqliteWriter {
    /// Takes the locks, opens or makes the file, and brings its schema up to date. Returns the locked file too.
    pub(crate) fn open(
        path: &Path,
        key: &SigningKey,
        options: &Options,
        known: &[Kept],
    ) -> Result<(Self, Arc<File>), StoreError> {
        // Nothing is made where nothing may begin.
        if is_empty(path)? {
            options.begins(known)?;
        }
        let database = Arc::new(create_private(path)?);
        // Before it is looked into: one that is written by another name has its write-ahead log there.
        locked(&database, path)?;
        if !holds_ledger(path, options)? {
            options.begins(known)?;
        }
        let beside = lock(path)?;
        let metadata = database.metadata().map_err(|why| unusable(path, &why))?;
        let locks =
            Locks { database: Arc::clone(&database), identity: Identity::of(&metadata), _beside: beside };
        let mut writer = Self { locks: Some(locks), ..Self::beside(path, options) };
        let connection = writer.connect().map_err(StoreError::from)?;
        writer.process = prepare(connection, key)?;
        Ok((writer, database))
    }

    /// Checks that the file that is open is the one at its path, and its write-ahead log, too: what is written
    /// into a file that was exchanged or removed is gone with this process.
    fn is_in_place(&mut self) -> Result<(), Failure> {
        let Some(locks) = &self.locks else { return Ok(()) };
        let exchanged = || Failure::Damaged("its file was exchanged or removed while it was open".into());
        if Identity::at(&self.path) != Some(locks.identity) {
            return Err(exchanged());
        }
        // Beside the file itself, not beside a link to it.
        let mut wal = std::fs::canonicalize(&self.path).map_err(|_gone| exchanged())?.into_os_string();
        wal.push("-wal");
        let wal = Identity::at(Path::new(&wal)).ok_or_else(exchanged)?;
        if *self.wal.get_or_insert(wal) == wal { Ok(()) } else { Err(exchanged()) }
    }

    /// Opens the file beside the process that has the lock. Transactions take turns, so the log cannot fork;
    /// but what is issued under no process id would be nobody's, so no call may be.
    pub(crate) fn beside(path: &Path, options: &Options) -> Self {
        Self {
            path: path.to_owned(),
            connection: None,
            version: None,
            process: 0,
            lock_timeout: options.lock_timeout,
            pages_max: options.sqlite_pages_max,
            wal: None,
            locks: None,
        }
    }

    fn connect(&mut self) -> Result<&mut Connection, Failure> {
        if self.connection.is_none() {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = open(&self.path, flags, self.lock_timeout).map_err(|why| failure(&why))?;
            settle_in(&connection, self.pages_max)?;
            self.version = None;
            self.wal = None;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or_else(|| Failure::Unavailable("the file cannot be opened".into()))
    }

    fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, Failure> {
        work(self.connect()?).map_err(|why| failure(&why))
    }
}

impl Backend for SqliteWriter {
    async fn begin(&mut self) -> Result<Begun, Failure> {
        let (rows, version) = self.run(|connection| {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let rows = query(connection, &SqlStatement::new(tail::SELECT_HEAD, Vec::new()))?;
            let version: i64 =
                connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
            Ok((rows, version))
        })?;
        let head = rows.into_iter().next().ok_or_else(|| Failure::Damaged("the log has no head".into()))?;
        // SQLite has its write-ahead log open by now.
        self.is_in_place()?;
        // Moves when somebody else has written to the file, which nobody should.
        let disturbed = self.version.replace(version) != Some(version);
        Ok(Begun { head, disturbed })
    }

    async fn read(&mut self, queries: &[SqlStatement]) -> Result<Vec<Vec<StoredRow>>, Failure> {
        self.run(|connection| queries.iter().map(|each| query(connection, each)).collect())
    }

    async fn write(&mut self, queries: &[SqlStatement]) -> Result<(), Failure> {
        for query in queries {
            let changed = self.run(|connection| {
                connection
                    .prepare_cached(&text(query.sql))?
                    .execute(rusqlite::params_from_iter(&query.params))
            })?;
            if query.rows.is_some_and(|rows| u64::try_from(changed) != Ok(rows)) {
                return Err(Failure::Statement("a record is not there any more".into()));
            }
        }
        Ok(())
    }

    async fn commit(&mut self, _watched: bool) -> Result<(), Failure> {
        // A crash before the sync leaves the state before this batch; after it, the batch.
        let Err(why) = self.connect()?.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]))
        else {
            return Ok(());
        };
        if why.sqlite_error_code() != Some(ErrorCode::SystemIoFailure) {
            return Err(failure(&why));
        }
        // What is in the file now only a new connection finds out.
        self.connection = None;
        Err(Failure::Unknown("the disk failed while the ledger was synced".into()))
    }

    async fn roll_back(&mut self) {
        let Some(connection) = &self.connection else { return };
        let ended = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
        if !ended {
            self.connection = None;
        }
    }

    async fn end(&mut self) {}

    fn process(&self) -> i64 {
        self.process
    }

    fn orphans(&self) -> SqlStatement {
        SqlStatement::new(
            concat!(open_calls!("id, place", "AND process <> $1 "), "ORDER BY place"),
            vec![self.process.into()],
        )
    }

    fn filing(&self) -> &'static [&'static str] {
        &place::FILING
    }
}

impl SqliteReader {
    /// Opens the file to read; `locked` is the file as this process has it locked, where it does. It fails with
    /// [`StoreError::Absent`] when there is no ledger in it.
    pub(crate) fn open(
        path: &Path,
        options: &Options,
        locked: Option<Arc<File>>,
    ) -> Result<Arc<Self>, StoreError> {
        if locked.is_none() && !holds_ledger(path, options)? {
            return Err(StoreError::Absent);
        }
        let reader = Self {
            path: path.to_owned(),
            idle: Mutex::default(),
            lock_timeout: options.lock_timeout,
            readers: options.readers.max(1),
            _locked: locked,
        };
        let connection = reader.take().map_err(StoreError::from)?;
        reader.give_back(connection);
        Ok(Arc::new(reader))
    }

    fn take(&self) -> Result<Connection, Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                open(&self.path, flags, self.lock_timeout).map_err(|why| failure(&why))
            }
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.readers {
            idle.push(connection);
        }
    }

    /// Reads; the answers are in the order of the questions, each no older than the one before.
    pub(crate) fn read(&self, queries: &[SqlStatement]) -> Result<Vec<Vec<StoredRow>>, LedgerFault> {
        let connection = self.take()?;
        let rows: Result<_, rusqlite::Error> = queries.iter().map(|each| query(&connection, each)).collect();
        // A connection that failed is not used again.
        let rows = rows.map_err(|why| LedgerFault::from(failure(&why)))?;
        self.give_back(connection);
        Ok(rows)
    }

    /// Returns the key that signed the log, as a vkey, whatever the schema.
    pub(crate) fn signer(&self) -> Result<String, StoreError> {
        stored_key(&self.take().map_err(StoreError::from)?)
    }

    /// Returns the key that signed the log, as a vkey, to open the file for reading only. It fails with
    /// [`StoreError::Schema`] where the schema is not this program's.
    pub(crate) fn identity(&self) -> Result<String, StoreError> {
        let connection = self.take().map_err(StoreError::from)?;
        let found = schema_version(&connection)?;
        if found != migration::newest() {
            return Err(StoreError::Schema { found, known: migration::newest() });
        }
        stored_key(&connection)
    }

    /// Moves the write-ahead log into the file and empties it, so that what was erased is in neither. It fails
    /// while somebody reads that log.
    pub(crate) fn scrub(path: &Path, lock_timeout: Duration) -> Result<(), LedgerFault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let scrub = || {
            let connection = open(path, flags, lock_timeout)?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        };
        match scrub() {
            Ok(0) => Ok(()),
            Ok(_busy) => Err(LedgerFault::Unavailable("the write-ahead log is being read".into())),
            Err(why) => Err(failure(&why).into()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn lock_timeout(&self) -> Duration {
        self.lock_timeout
    }
}

/// Tells whether there is a ledger in the file. `false` says that there is nothing in it, or no file.
///
/// # Errors
/// Fails when the file is something else, or a part of a ledger, or cannot be read.
pub(crate) fn holds_ledger(path: &Path, options: &Options) -> Result<bool, StoreError> {
    if is_empty(path)? {
        return Ok(false);
    }
    // To read: nothing of another program's database is changed.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = || -> Result<(BTreeSet<String>, Option<i64>), rusqlite::Error> {
        let connection = open(path, flags, options.lock_timeout)?;
        let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
        let tables: BTreeSet<String> =
            tables.query_map([], |row| row.get(0))?.collect::<Result<_, rusqlite::Error>>()?;
        let version = tables
            .contains("migration")
            .then(|| connection.query_row("SELECT max(version) FROM migration", [], |row| row.get(0)));
        Ok((tables, version.transpose()?.flatten()))
    };
    let (tables, version) = read().map_err(|why| StoreError::from(failure(&why)))?;
    if tables.is_empty() {
        return Ok(false);
    }
    let of = |version| migration::tables(version, migration::for_sqlite);
    let known = of(migration::newest());
    let ours = known.intersection(&tables).count();
    match version {
        Some(version) if ours > 0 => match of(version).difference(&tables).next() {
            Some(table) => Err(StoreError::Damaged(format!("its table `{table}` is missing"))),
            None => Ok(true),
        },
        // Most of a ledger, without what says which.
        None if ours > known.len() / 2 => {
            Err(StoreError::Damaged("the numbers of its schema are missing".into()))
        }
        Some(_) | None => Err(StoreError::Foreign { path: path.to_owned() }),
    }
}

fn is_empty(path: &Path) -> Result<bool, StoreError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len() == 0),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(why) => Err(unusable(path, &why)),
    }
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("`{}`: {why}", path.display()))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name);
    let file = file.map_err(|why| unusable(Path::new(&name), &why))?;
    locked(&file, path)?;
    Ok(file)
}

fn locked(file: &File, path: &Path) -> Result<(), StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(why)) => Err(unusable(path, &why)),
    }
}

/// Makes the file readable for its owner alone: it holds arguments of calls.
fn create_private(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|why| unusable(path, &why))
}

fn open(path: &Path, flags: OpenFlags, lock_timeout: Duration) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(lock_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Plans do not depend on parameters, so that a statement is not prepared again for each of its values.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON",
    )?;
    Ok(connection)
}

/// Sets what makes commits durable and erased rows unreadable.
fn settle_in(connection: &Connection, pages_max: Option<u32>) -> Result<(), Failure> {
    let mode: Result<String, _> = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
    if mode.map_err(|why| failure(&why))? != "wal" {
        return Err(Failure::Unavailable("the file system cannot keep a write-ahead log".into()));
    }
    let settings = format!(
        "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON; \
         PRAGMA secure_delete = ON; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; \
         PRAGMA cache_size = -{CACHE_KIB}; \
         PRAGMA journal_size_limit = 67108864"
    );
    let limit = pages_max.map(|pages| format!("PRAGMA max_page_count = {pages}"));
    for pragma in std::iter::once(settings).chain(limit) {
        connection.execute_batch(&pragma).map_err(|why| failure(&why))?;
    }
    Ok(())
}

/// Brings the schema up to date, begins the log if there is none, and takes the next process id, which it
/// returns.
fn prepare(connection: &mut Connection, key: &SigningKey) -> Result<i64, StoreError> {
    let unusable = |why: rusqlite::Error| StoreError::from(failure(&why));
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(unusable)?;
    transaction.execute_batch(&migration::for_sqlite(migration::TABLE)).map_err(unusable)?;
    let found = schema_version(&transaction)?;
    if found > migration::newest() {
        return Err(StoreError::Schema { found, known: migration::newest() });
    }
    for (number, step) in migration::after(found) {
        transaction.execute_batch(&migration::for_sqlite(step)).map_err(unusable)?;
        transaction.execute("INSERT INTO migration (version) VALUES (?1)", [number]).map_err(unusable)?;
    }
    // A ledger has its head from the transaction that made it.
    if found == 0 {
        let insert = tail::insert_head(key)?;
        transaction
            .execute(&text(insert.sql), rusqlite::params_from_iter(&insert.params))
            .map_err(unusable)?;
    }
    let stored = stored_key(&transaction)?;
    if stored != key.verifier().to_string() {
        return Err(StoreError::OtherKey { stored });
    }
    let process = transaction
        .query_row("UPDATE process SET last = last + 1 RETURNING last", [], |row| row.get(0))
        .map_err(unusable)?;
    // A crash before this leaves the schema as it was.
    transaction.commit().map_err(unusable)?;
    Ok(process)
}

fn schema_version(connection: &Connection) -> Result<i64, StoreError> {
    connection
        .query_row("SELECT coalesce(max(version), 0) FROM migration", [], |row| row.get(0))
        .map_err(|why| StoreError::from(failure(&why)))
}

fn stored_key(connection: &Connection) -> Result<String, StoreError> {
    connection
        .query_row("SELECT vkey FROM log_head WHERE id = 0", [], |row| row.get(0))
        .map_err(|why| StoreError::from(failure(&why)))
}

/// Returns a statement as SQLite takes it. SQLite counts `$1` by its first appearance; where that is not the
/// order of the numbers, they are written as `?1`, which names the place.
fn text(sql: &str) -> Cow<'_, str> {
    let mut next = 1_u32;
    let in_order = sql.split('$').skip(1).all(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let digits = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
        let number = digits.parse::<u32>().unwrap_or(u32::MAX);
        let fits = number <= next;
        next = next.max(number.saturating_add(1));
        fits
    });
    if in_order { Cow::Borrowed(sql) } else { Cow::Owned(sql.replace('$', "?")) }
}

fn query(connection: &Connection, query: &SqlStatement) -> Result<Vec<StoredRow>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(&text(query.sql))?;
    let columns = statement.column_count();
    let rows = statement.query_map(rusqlite::params_from_iter(&query.params), |row| {
        (0..columns)
            .map(|column| row.get_ref(column).and_then(value))
            .collect::<Result<_, _>>()
            .map(StoredRow)
    })?;
    rows.collect()
}

fn value(value: ValueRef<'_>) -> Result<Value, rusqlite::Error> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Text(text) => Value::Text(std::str::from_utf8(text)?.into()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.into()),
        // No column holds such; it is found to be damaged by whoever reads it.
        ValueRef::Real(_) => Value::Null,
    })
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Returns what a database error means. The words are ours: SQLite's may quote what was written.
#[expect(clippy::wildcard_enum_match_arm, reason = "SQLite's codes are many, and new ones mean unavailable")]
fn failure(why: &rusqlite::Error) -> Failure {
    let Some(code) = why.sqlite_error_code() else {
        return match why {
            rusqlite::Error::QueryReturnedNoRows => {
                Failure::Damaged("a record that must be there is not".into())
            }
            rusqlite::Error::Utf8Error(..) | rusqlite::Error::InvalidColumnType(..) => {
                Failure::Damaged("a column has a value of another type".into())
            }
            _ => Failure::Statement("the database refused a statement".into()),
        };
    };
    match code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            Failure::Damaged("the file is no intact SQLite database".into())
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            Failure::Unavailable("another program has locked the file".into())
        }
        ErrorCode::DiskFull => Failure::Unavailable("the disk is full".into()),
        ErrorCode::ReadOnly => Failure::Unavailable("the file is read-only".into()),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
            Failure::Unavailable("the file cannot be opened".into())
        }
        ErrorCode::SystemIoFailure => Failure::Unavailable("the disk failed".into()),
        ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch => {
            Failure::Statement("a record does not fit the schema".into())
        }
        other => Failure::Statement(format!("the database refused a statement ({other:?})")),
    }
}
