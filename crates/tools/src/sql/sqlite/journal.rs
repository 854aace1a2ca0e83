//! The journal in a SQLite file: two tables beside those it tells of.
//!
//! A write begins with its record, in its own transaction. `BEGIN IMMEDIATE` lets one connection write at a
//! time, so that whoever asks for a call afterwards either finds its record, or writes one that fences it: then
//! the call's own record meets it and the call is refused.

use std::{path::Path, sync::Arc};

use countersign_gate::{Doubt, MeasureError, Recalled, ToolError};
use countersign_rules::CallId;
use rusqlite::{Connection, ErrorCode, OptionalExtension};
use tokio::task::spawn_blocking;

use super::{
    SqliteDatabase,
    connection::{WriteTurn, rolled_back},
    fault::{SqliteFault, failed},
    image::{Images, RowImage},
    orphans::Orphans,
};
use crate::sql::{
    cascade::ActingKey,
    change::RowChange,
    journal::{KnownJournal, Mark, NO_JOURNAL, Testimony, elsewhere, recorded, reserved},
};

/// What `prepare` runs. Times are milliseconds since 1970, by the clock of this machine.
const PREPARE: &str = "\
-- One row for each call that wrote, in its own transaction: what became of it. `rows` and `tables` tell what
-- it touched and what the tables looked like; `fenced` says that it has not happened and never will.
CREATE TABLE IF NOT EXISTS countersign_call (
  id TEXT NOT NULL PRIMARY KEY,
  tool TEXT NOT NULL,
  digest TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('committed', 'fenced')),
  at INTEGER NOT NULL,
  rows INTEGER,
  tables TEXT,
  undoes TEXT,
  undone_by TEXT
);
-- Which journal this is. A copy of the file has the same name.
CREATE TABLE IF NOT EXISTS countersign_journal (
  name TEXT NOT NULL
);
INSERT INTO countersign_journal (name)
  SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT 1 FROM countersign_journal);
-- The rows that a call changed: as they were before it, and after it, up to 256 of a kind in one entry. `dangling`
-- says that they referred to nothing before it already.
CREATE TABLE IF NOT EXISTS countersign_image (
  call TEXT NOT NULL,
  seq INTEGER NOT NULL,
  tbl TEXT NOT NULL,
  old BLOB,
  new BLOB,
  dangling INTEGER NOT NULL,
  PRIMARY KEY (call, seq)
);
";
const COLUMNS: [(&str, &str); 3] = [
    ("countersign_journal", "name"),
    ("countersign_call", "id,tool,digest,state,at,rows,tables,undoes,undone_by"),
    ("countersign_image", "call,seq,tbl,old,new,dangling"),
];
const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";
const NOT_PREPARED: &str =
    "the journal's tables are missing or not as they should be; run `countersign system prepare`";

impl SqliteDatabase {
    /// The statements that prepare the file. Every table with a primary key is kept; none need be named.
    pub(super) fn prepare_sql(&self, _tables: &[String]) -> Result<String, String> {
        self.journal.as_ref().map(|_| PREPARE.to_owned()).ok_or_else(|| NO_JOURNAL.into())
    }

    /// Prepares the file; says what is kept from now on. Done again it changes nothing.
    pub(super) async fn prepare(&self, tables: &[String]) -> Result<Vec<String>, String> {
        let named: Vec<String> = tables.iter().map(|table| table.to_ascii_lowercase()).collect();
        self.on_writer(move |connection| {
            transaction(connection, |connection| {
                connection.execute_batch(PREPARE)?;
                if !prepared(connection)? {
                    return Err(SqliteFault::Argument(NOT_PREPARED.into()));
                }
                let (mut kept, mut said) = (Vec::new(), Vec::new());
                for (name, layout) in super::image::layouts(connection)? {
                    if reserved(&name) || name.starts_with("sqlite_") {
                        continue;
                    }
                    let has_key = !layout.shape.key.is_empty();
                    if named.contains(&name) && !has_key {
                        return Err(SqliteFault::Argument(format!("table `{name}` has no primary key")));
                    }
                    if has_key && (named.is_empty() || named.contains(&name)) {
                        said.push(format!("keeps rows of {name}"));
                        kept.push(name);
                    }
                }
                for name in named.iter().filter(|name| !kept.contains(name)) {
                    said.push(match super::schema::kind(connection, name)?.as_deref() {
                        Some("view") => {
                            format!("leaves out {name}, a view: the tables behind it are named by themselves")
                        }
                        Some("virtual" | "shadow") => {
                            format!(
                                "leaves out {name}, of a virtual table: its module alone can write its rows"
                            )
                        }
                        _ => return Err(SqliteFault::Argument(format!("there is no table `{name}`"))),
                    });
                }
                Ok(said)
            })
        })
        .await
        .map_err(|error| error.to_string())
    }

    /// Tells which journal the file keeps now. None when it cannot say.
    pub(super) async fn identity(&self) -> Option<Arc<str>> {
        if let Some(known) = self.known.get() {
            return Some(known);
        }
        // By one that reads: who writes may be waited for, and the intent is recorded before that.
        let (turn, path) = (self.connections.read_turn().await?, self.path.clone());
        let asked = spawn_blocking(move || turn.run(|connection| identity(connection, &path)));
        let journal: Arc<str> = asked.await.ok()?.ok()??.into();
        self.known.set(Some(Arc::clone(&journal)));
        Some(journal)
    }

    /// Tells what became of a call; one that has left no trace is fenced off.
    pub(super) async fn recall(&self, doubt: &Doubt) -> Result<Recalled, MeasureError> {
        if self.journal.is_none() {
            return Ok(Recalled::Unknown);
        }
        let (doubt, path) = (doubt.clone(), self.path.clone());
        let recalled = self.on_writer(move |connection| {
            // A writer refuses to begin where the journal is missing, so nothing it did is missing in it.
            if !prepared(connection).map_err(|error| failed(&SqliteFault::Sqlite(error)))? {
                return Ok(Recalled::Unknown);
            }
            transaction(connection, |connection| recall(connection, &doubt, &path))
        });
        recalled.await.map_err(|error| MeasureError::System(error.to_string()))
    }

    /// Forgets rows that were kept longer than the retention; returns how many their calls touched. The records of calls stay:
    /// a call that is asked for after its record went would be taken for one that never happened.
    pub(super) async fn prune(&self) -> Result<u64, String> {
        let retention_ms = self.journal.as_ref().ok_or(NO_JOURNAL)?.retention_ms;
        self.on_writer(move |connection| {
            transaction(connection, |connection| {
                if !prepared(connection)? {
                    return Err(SqliteFault::Argument(NOT_PREPARED.into()));
                }
                let retention = i64::try_from(retention_ms).unwrap_or(i64::MAX);
                let old = format!("FROM countersign_call WHERE tables IS NOT NULL AND at < {NOW} - ?1");
                let rows = format!("SELECT coalesce(sum(rows), 0) {old}");
                let gone: i64 = connection.query_row(&rows, [retention], |row| row.get(0))?;
                let old = format!("SELECT id {old}");
                connection
                    .execute(&format!("DELETE FROM countersign_image WHERE call IN ({old})"), [retention])?;
                connection.execute(
                    &format!("UPDATE countersign_call SET tables = NULL WHERE id IN ({old})"),
                    [retention],
                )?;
                Ok(u64::try_from(gone).unwrap_or(u64::MAX))
            })
        })
        .await
        .map_err(|error| error.to_string())
    }

    /// Runs on the connection that writes.
    async fn on_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, ToolError> + Send + 'static,
    ) -> Result<T, ToolError> {
        let Some(mut turn) = self.connections.write_turn().await else {
            return Err(ToolError::Unavailable { message: "the database is busy with another write".into() });
        };
        let task = spawn_blocking(move || {
            let connection = turn.connection().map_err(|error| failed(&SqliteFault::Sqlite(error)))?;
            let outcome = work(connection);
            if !connection.is_autocommit() {
                turn.discard();
            }
            outcome
        });
        task.await
            .unwrap_or_else(|_| Err(ToolError::Failed { message: "the journal could not be used".into() }))
    }
}

/// Tells whether the journal's tables are there, as this version writes them.
pub(super) fn prepared(connection: &Connection) -> rusqlite::Result<bool> {
    for (table, columns) in COLUMNS {
        let there: Option<String> = connection.query_row(
            "SELECT group_concat(name) FROM (SELECT name FROM pragma_table_info(?1, 'main') ORDER BY cid)",
            [table],
            |row| row.get(0),
        )?;
        if there.as_deref() != Some(columns) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The journal's name, and where it stands: the number of the file, which is another when the file was replaced.
/// None where the file is not prepared.
fn identity(connection: &Connection, path: &Path) -> rusqlite::Result<Option<String>> {
    if !prepared(connection)? {
        return Ok(None);
    }
    let name =
        connection.query_row("SELECT name FROM countersign_journal", [], |row| row.get::<_, String>(0));
    Ok(name.optional()?.map(|name| format!("{name}@{}", place(path))))
}

#[cfg(unix)]
fn place(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map_or_else(|_unknown| "-".into(), |file| file.ino().to_string())
}

#[cfg(not(unix))]
fn place(_path: &Path) -> String {
    "-".into()
}

/// Refuses a call that was recorded for another journal than the one that is there: the file was replaced. The
/// connection may still be to the old one, and must not be used again.
pub(super) fn intended(
    turn: &mut WriteTurn,
    path: &Path,
    mark: &Mark,
    known: &KnownJournal,
) -> Result<(), ToolError> {
    let asked = turn.connection().and_then(|connection| identity(connection, path));
    match asked.map_err(|error| failed(&SqliteFault::Sqlite(error)))? {
        // Writing its record fails, and says what is missing.
        None => Ok(()),
        Some(found) if mark.journal.as_deref() == Some(found.as_str()) => Ok(()),
        Some(found) => {
            known.set(None);
            Err(ToolError::Failed { message: elsewhere(mark.journal.as_deref(), &found) })
        }
    }
}

/// Tells what the file holds under the journal's names.
pub(super) fn tables(connection: &Connection) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, sql FROM main.sqlite_schema WHERE lower(substr(name, 1, 12)) = 'countersign_' OR lower(substr(tbl_name, 1, 12)) = 'countersign_' ORDER BY 1, 2",
    )?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Runs our own statements in one transaction.
fn transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> Result<T, SqliteFault>,
) -> Result<T, ToolError> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| failed(&SqliteFault::Sqlite(error)))?;
    match work(connection) {
        Ok(value) => match connection.execute_batch("COMMIT") {
            Ok(()) => Ok(value),
            Err(error) => Err(rolled_back(connection, failed(&SqliteFault::Sqlite(error)))),
        },
        Err(fault) => Err(rolled_back(connection, failed(&fault))),
    }
}

/// Writes the record of a call, first of all in its transaction.
pub(super) fn record(
    connection: &Connection,
    mark: &Mark,
    undoes: Option<&CallId>,
) -> Result<(), SqliteFault> {
    if !prepared(connection)? {
        return Err(SqliteFault::Argument(NOT_PREPARED.into()));
    }
    let sql = format!(
        "INSERT INTO countersign_call (id, tool, digest, state, at, undoes) VALUES (?1, ?2, ?3, 'committed', {NOW}, ?4)"
    );
    let undoes = undoes.map(CallId::as_str);
    match connection.execute(&sql, (mark.call.as_str(), &mark.tool, &mark.digest, undoes)) {
        Ok(_) => Ok(()),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            let happened = connection
                .prepare("SELECT 1 FROM countersign_call WHERE id = ?1 AND state = 'committed'")?
                .exists([mark.call.as_str()])?;
            Err(if happened {
                SqliteFault::Recorded(recorded(&mark.call))
            } else {
                SqliteFault::Argument(format!(
                    "call `{}` was given up before, and is not performed any more",
                    mark.call
                ))
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Notes what a call touched, last of all in its transaction.
pub(super) fn complete(connection: &Connection, mark: &Mark, rows: u64) -> Result<(), SqliteFault> {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    connection.execute("UPDATE countersign_call SET rows = ?2 WHERE id = ?1", (mark.call.as_str(), rows))?;
    Ok(())
}

/// Keeps the rows that a call changed.
pub(super) fn keep(connection: &Connection, mark: &Mark, images: &Images) -> Result<(), SqliteFault> {
    let mut insert = Insert::new(connection, mark)?;
    let mut orphans = Orphans::new(connection)?;
    let shapes = images.shapes();
    // Whether others refer by now to what the call left there could not be seen.
    let mut generated = super::schema::foreign_keys(connection)?;
    generated.retain(|key| {
        let parent = shapes.get(key.parent.name.as_str());
        parent.is_some_and(|shape| !shape.has(&key.parent_columns))
    });
    images.each(connection, |table, change| {
        if change.after().is_some()
            && let Some(key) = generated.iter().find(|key| key.parent.name == table)
        {
            return Err(SqliteFault::Argument(format!(
                "a foreign key of `{}` refers to a generated column of `{table}`, which undo does not look after",
                key.child
            )));
        }
        let stood = |key: &ActingKey| images.stood(&key.parent.name, &key.parent_columns);
        let dangling = match shapes.get(table) {
            Some(shape) => orphans.was(table, shape, &change, stood)?,
            None => false,
        };
        insert.row(table, &change, dangling)
    })?;
    insert.finish()?;
    let shapes = serde_json::to_string(&shapes).map_err(|error| {
        SqliteFault::Argument(format!("the layout of the tables cannot be written: {error}"))
    })?;
    layouts_of(connection, mark, &shapes)
}

/// Notes what the tables of a call's rows looked like. From now on it can be undone.
pub(super) fn layouts_of(connection: &Connection, mark: &Mark, shapes: &str) -> Result<(), SqliteFault> {
    connection
        .execute("UPDATE countersign_call SET tables = ?2 WHERE id = ?1", (mark.call.as_str(), shapes))?;
    Ok(())
}

/// How many rows, and how many bytes of them, stand in one entry of the journal.
const ROWS_OF_AN_ENTRY: usize = 256;
const BYTES_OF_AN_ENTRY: usize = 1 << 20;

/// Inserts the rows that one call changed: those of the same kind together, as far as they come one after the other.
#[must_use = "what was not inserted yet is lost"]
pub(super) struct Insert<'c> {
    statement: rusqlite::Statement<'c>,
    call: String,
    seq: i64,
    entry: Option<Entry>,
}

/// Rows that are inserted as one.
struct Entry {
    table: String,
    dangling: bool,
    rows: usize,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Entry {
    /// Tells whether such a row may stand in it too.
    fn takes(&self, table: &str, change: &RowChange<RowImage>, dangling: bool) -> bool {
        self.table == table
            && self.dangling == dangling
            && self.old.is_empty() == change.before().is_none()
            && self.new.is_empty() == change.after().is_none()
            && self.rows < ROWS_OF_AN_ENTRY
            && self.old.len().saturating_add(self.new.len()) < BYTES_OF_AN_ENTRY
    }
}

impl<'c> Insert<'c> {
    pub(super) fn new(connection: &'c Connection, mark: &Mark) -> Result<Self, SqliteFault> {
        let statement = connection
            .prepare("INSERT INTO countersign_image (call, seq, tbl, old, new, dangling) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        Ok(Self { statement, call: mark.call.as_str().to_owned(), seq: 0, entry: None })
    }

    pub(super) fn row(
        &mut self,
        table: &str,
        change: &RowChange<RowImage>,
        dangling: bool,
    ) -> Result<(), SqliteFault> {
        if self.entry.as_ref().is_some_and(|entry| !entry.takes(table, change, dangling)) {
            self.write()?;
        }
        let entry = self.entry.get_or_insert_with(|| Entry {
            table: table.to_owned(),
            dangling,
            rows: 0,
            old: Vec::new(),
            new: Vec::new(),
        });
        entry.rows = entry.rows.saturating_add(1);
        for (row, bytes) in [(change.before(), &mut entry.old), (change.after(), &mut entry.new)] {
            if let Some(row) = row {
                row.append_to(bytes);
            }
        }
        Ok(())
    }

    /// Inserts what has not been yet.
    pub(super) fn finish(mut self) -> Result<(), SqliteFault> {
        self.write()
    }

    fn write(&mut self) -> Result<(), SqliteFault> {
        let Some(Entry { table, dangling, old, new, .. }) = self.entry.take() else { return Ok(()) };
        self.seq = self.seq.saturating_add(1);
        let side = |bytes: Vec<u8>| (!bytes.is_empty()).then_some(bytes);
        self.statement.execute((&self.call, self.seq, table, side(old), side(new), dangling))?;
        Ok(())
    }
}

fn recall(connection: &Connection, doubt: &Doubt, path: &Path) -> Result<Recalled, SqliteFault> {
    let call = &doubt.call;
    let found = connection.query_row(
        "SELECT state, coalesce(rows, 0) FROM countersign_call WHERE id = ?1",
        [call.as_str()],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)),
    );
    let record = found.optional()?.map(|(state, rows)| match state.as_str() {
        "committed" => Recalled::Happened { rows: u64::try_from(rows).unwrap_or(0), amount: None },
        _ => Recalled::Never,
    });
    let has_witness = match &doubt.witness {
        None => true,
        Some(witness) => connection
            .prepare("SELECT 1 FROM countersign_call WHERE id = ?1 AND state = 'committed'")?
            .exists([witness.as_str()])?,
    };
    let Some(journal) = identity(connection, path)? else { return Ok(Recalled::Unknown) };
    match (Testimony { journal: &journal, record, has_witness })
        .believed(doubt)
        .map_err(SqliteFault::Argument)?
    {
        Some(known) => Ok(known),
        None => {
            let sql = format!(
                "INSERT INTO countersign_call (id, tool, digest, state, at) VALUES (?1, '', '', 'fenced', {NOW})"
            );
            connection.execute(&sql, [call.as_str()])?;
            Ok(Recalled::Never)
        }
    }
}
