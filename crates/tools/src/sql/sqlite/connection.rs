//! Connections to one SQLite file: a few that can only read, and one that writes.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what SQLite's authorizer asks for and is not named is denied"
)]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use countersign_gate::ToolError;
use rusqlite::{
    Connection, OpenFlags,
    config::DbConfig,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::{definition::SqlLimits, sql::journal::reserved};

/// How many reads of one file run at a time.
const READERS_MAX: usize = 4;
/// How many steps of SQLite's machine lie between two looks at the clock.
const STEPS: i32 = 1_000;

/// The connections of one file. Opened when first needed.
#[derive(Debug)]
pub(super) struct Connections {
    path: PathBuf,
    limits: SqlLimits,
    readers: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Opened>>>,
    writer: Arc<tokio::sync::Mutex<Option<Opened>>>,
}

/// A connection, and the file that it is on.
#[derive(Debug)]
struct Opened {
    connection: Connection,
    file: Option<FileId>,
}

/// What a file is besides its name: its device and its number there. None where the system has no such thing.
type FileId = (u64, u64);

/// The right to read with one connection.
pub(super) struct ReadTurn {
    path: PathBuf,
    limits: SqlLimits,
    idle: Arc<Mutex<Vec<Opened>>>,
    _permit: OwnedSemaphorePermit,
}

/// The right to write. SQLite has one writer at a time anyway; waiting here is fair and does not spin.
pub(super) struct WriteTurn {
    path: PathBuf,
    limits: SqlLimits,
    slot: OwnedMutexGuard<Option<Opened>>,
}

impl Connections {
    pub(super) fn new(path: PathBuf, limits: SqlLimits) -> Self {
        Self {
            path,
            limits,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            idle: Arc::default(),
            writer: Arc::default(),
        }
    }

    /// Waits for a turn to read. None when it took longer than a statement may.
    pub(super) async fn read_turn(&self) -> Option<ReadTurn> {
        let wait = Duration::from_millis(self.limits.statement_timeout_ms);
        let permit =
            tokio::time::timeout(wait, Arc::clone(&self.readers).acquire_owned()).await.ok()?.ok()?;
        let (path, limits, idle) = (self.path.clone(), self.limits, Arc::clone(&self.idle));
        Some(ReadTurn { path, limits, idle, _permit: permit })
    }

    /// Waits for the turn to write. None when it took longer than a statement may: each has its turn in the order in which
    /// they came. What other programs lock is waited for as a lock is, and has no such order.
    pub(super) async fn write_turn(&self) -> Option<WriteTurn> {
        let wait = Duration::from_millis(self.limits.statement_timeout_ms);
        let slot = tokio::time::timeout(wait, Arc::clone(&self.writer).lock_owned()).await.ok()?;
        Some(WriteTurn { path: self.path.clone(), limits: self.limits, slot })
    }
}

impl ReadTurn {
    /// Runs on a connection that can only read. Blocks.
    pub(super) fn run<T>(
        self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut opened = still_on(idle, &self.path, &self.limits, false)?;
        let done = work(&mut opened.connection);
        // One that failed is not used again: nothing of a statement must be left on it.
        if done.is_ok() && opened.connection.is_autocommit() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(opened);
        }
        done
    }
}

impl WriteTurn {
    /// Opens the connection if need be. Blocks.
    pub(super) fn connection(&mut self) -> rusqlite::Result<&mut Connection> {
        let opened = still_on(self.slot.take(), &self.path, &self.limits, true)?;
        Ok(&mut self.slot.insert(opened).connection)
    }

    /// Closes the connection, and with it whatever transaction is open.
    pub(super) fn discard(&mut self) {
        self.slot.take();
    }
}

/// The connection, if what it is on still has the name; otherwise a new one. A file that another was moved over
/// lives on without a name as long as somebody has it open: what is read there is old, and what is written is lost.
fn still_on(
    opened: Option<Opened>,
    path: &Path,
    limits: &SqlLimits,
    write: bool,
) -> rusqlite::Result<Opened> {
    let file = file_id(path);
    if let Some(opened) = opened.filter(|opened| opened.file == file) {
        return Ok(opened);
    }
    // Should the name change hands meanwhile, this is not the file that is opened, and the next to use it finds out.
    let connection = open(path, limits, write)?;
    Ok(Opened { connection, file })
}

#[cfg(unix)]
fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
const fn file_id(_path: &Path) -> Option<FileId> {
    None
}

fn open(path: &Path, limits: &SqlLimits, write: bool) -> rusqlite::Result<Connection> {
    let access = if write { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    // Never CREATE, and no URI: a path is a path.
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_millis(limits.lock_timeout_ms))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    // INVARIANT: words in double quotes are names. As strings where no column is called so, they would mean one thing where a
    // statement is measured and another where it runs.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    if !write {
        // A value that no result may hold need not be built: `zeroblob(1e9)`.
        let bytes = i32::try_from(limits.result_bytes_max).unwrap_or(i32::MAX).max(1 << 20);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, bytes)?;
        connection.pragma_update(None, "query_only", true)?;
    }
    Ok(connection)
}

/// SQLite's own authorizer holds one statement to this: the second lock on the door, after the
/// statement's text was classified. Names are in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct Access {
    /// Tables and views the statement names.
    pub(super) tables: BTreeSet<String>,
    /// Tables that foreign keys take along.
    pub(super) cascades: BTreeSet<String>,
    /// Tables that SQLite looks into for foreign keys while rows change. The statement's text names none of
    /// them beyond its tool: its classification saw to that.
    pub(super) linked: BTreeSet<String>,
    /// Tables in which virtual tables (full text, ranges) keep what they hold, as far as the statement may reach such a
    /// one. Their modules read and write them by statements of their own; no text of a tool comes so far.
    pub(super) shadows: BTreeSet<String>,
    /// It may change rows.
    pub(super) write: bool,
    /// It may change the schema.
    pub(super) schema: bool,
}

impl Access {
    fn allows(&self, context: &AuthContext<'_>) -> bool {
        let listed = |name: &str| self.tables.contains(&name.to_ascii_lowercase());
        let along = |name: &str| self.cascades.contains(&name.to_ascii_lowercase());
        let system = |name: &str| name.to_ascii_lowercase().starts_with("sqlite_");
        let shadow = |name: &str| self.shadows.contains(&name.to_ascii_lowercase());
        let modules = !self.shadows.is_empty();
        // A view that the statement names reads what it stands on; a trigger does what its author wrote.
        let through = context.accessor.is_some_and(|name| self.write || listed(name));
        // INVARIANT: the journal is out of reach, whatever is listed and whoever wrote it. A trigger of the
        // file that would touch it makes the statement fail.
        if touched(&context.action).into_iter().flatten().any(reserved) {
            return false;
        }
        match context.action {
            AuthAction::Select | AuthAction::Recursive => true,
            AuthAction::Function { function_name } => !matches!(
                function_name.to_ascii_lowercase().as_str(),
                "load_extension" | "fts3_tokenizer" | "readfile" | "writefile" | "edit"
            ),
            AuthAction::Read { table_name, .. } => {
                listed(table_name)
                    || through
                    || shadow(table_name)
                    || (modules && table_name == "sqlite_stat1")
                    || matches!(table_name, "json_each" | "json_tree" | "jsonb_each" | "jsonb_tree")
                    || (self.write
                        && (along(table_name) || self.linked.contains(&table_name.to_ascii_lowercase())))
                    || (self.schema && system(table_name))
            }
            AuthAction::Insert { table_name }
            | AuthAction::Delete { table_name }
            | AuthAction::Update { table_name, .. } => {
                // Some modules compile what they would write with as soon as they are opened, by a read as well; on a
                // connection that reads it cannot be run.
                shadow(table_name)
                    || self.write
                        && (listed(table_name)
                            || along(table_name)
                            || through
                            || (self.schema && system(table_name)))
            }
            AuthAction::CreateIndex { table_name, .. }
            | AuthAction::CreateTable { table_name }
            | AuthAction::DropIndex { table_name, .. }
            | AuthAction::DropTable { table_name }
            | AuthAction::AlterTable { table_name, .. } => self.schema && listed(table_name),
            AuthAction::DropTrigger { .. } | AuthAction::DropView { .. } | AuthAction::Reindex { .. } => {
                self.schema
            }
            // Modules look whether others changed the file, and how large its pages are.
            AuthAction::Pragma { pragma_name: "data_version" | "page_size", pragma_value: None } => modules,
            // Other pragmas, transaction control, attached files, virtual tables, temporary objects, views and
            // triggers (code that later statements would run), and whatever SQLite learns next.
            _ => false,
        }
    }
}

/// The tables, views, indexes and triggers that an action is about.
fn touched<'a>(action: &AuthAction<'a>) -> [Option<&'a str>; 2] {
    match *action {
        AuthAction::Read { table_name, .. }
        | AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::CreateTable { table_name }
        | AuthAction::DropTable { table_name }
        | AuthAction::AlterTable { table_name, .. } => [Some(table_name), None],
        AuthAction::CreateIndex { index_name, table_name }
        | AuthAction::DropIndex { index_name, table_name } => [Some(index_name), Some(table_name)],
        AuthAction::DropTrigger { trigger_name, table_name } => [Some(trigger_name), Some(table_name)],
        AuthAction::DropView { view_name } => [Some(view_name), None],
        AuthAction::Reindex { index_name } => [Some(index_name), None],
        _ => [None, None],
    }
}

/// Puts limits on what follows on the connection, until [`unlimited`].
pub(super) fn limit(connection: &mut Connection, access: Access, timeout: Duration) -> rusqlite::Result<()> {
    let started = Instant::now();
    connection.progress_handler(STEPS, Some(move || started.elapsed() > timeout))?;
    connection.authorizer(Some(move |context: AuthContext<'_>| {
        if access.allows(&context) { Authorization::Allow } else { Authorization::Deny }
    }))
}

/// Switches off triggers, foreign keys and checks, for a connection that is closed afterwards: rows go back as they
/// were, also one that breaks a check because it was there before it, or came while checks were off.
pub(super) fn raw(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
    connection.pragma_update(None, "ignore_check_constraints", true)
}

/// Puts only a limit of time on what follows.
pub(super) fn limit_time(connection: &mut Connection, timeout: Duration) -> rusqlite::Result<()> {
    let started = Instant::now();
    connection.progress_handler(STEPS, Some(move || started.elapsed() > timeout))
}

/// Takes the limits off again, for our own statements.
pub(super) fn unlimited(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.progress_handler(0, None::<fn() -> bool>)?;
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)
}

/// Rolls back, and says so unless even that fails.
pub(super) fn rolled_back(connection: &Connection, error: ToolError) -> ToolError {
    // SQLite rolls some failures back itself. Where ours fails too, the caller closes the connection, and an
    // unfinished transaction never becomes part of the database: nothing has changed either way.
    if !connection.is_autocommit()
        && let Err(why) = connection.execute_batch("ROLLBACK")
    {
        tracing::warn!(%why, "a rollback failed; the connection is closed instead");
    }
    error
}
