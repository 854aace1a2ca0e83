//! Putting rows back to what they were before a call.
//!
//! What a call changed is kept as states, not as steps: each row as it was and as it became. So the rows that
//! it left are taken out first, and those that were there before are put in afterwards: no order of tables and
//! no exchange of unique values is in the way. A row that is no longer what the call left has changed since.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use countersign_gate::{Limits, MeasureError, Measured, Sample, ToolError};
use countersign_rules::{CallId, Reach};
use rusqlite::{Connection, ErrorCode, OptionalExtension, limits::Limit, params_from_iter};
use tokio::task::spawn_blocking;

use super::{
    SqliteDatabase,
    connection::{limit_time, raw, rolled_back, unlimited},
    fault::{Trouble, failed, interrupted, told},
    image::{Cell, Row, RowChange, Shape, layouts},
    journal::{Insert, complete, intended, layouts_of, prepared, record},
    orphans::{Orphans, same},
    schema,
    statements::Statements,
    value,
};
use crate::{
    definition::SqlLimits,
    sql::{
        cascade::{ActingKey, named, quoted},
        journal::{
            COMES_BACK, EXAMPLES_MAX, GOES_BACK, Mark, NO_JOURNAL, OnChange, UNDO_PATIENCE, Undoing, Undone,
            goes_away, impatient,
        },
        mask::Mask,
        tally::{SAMPLE_ROWS, sum},
    },
};

impl SqliteDatabase {
    /// Tells what undoing a call would touch.
    pub(super) async fn undo_measure(
        &self,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        let (sought, mask) = (undoing.call.clone(), mask.clone());
        let (undone, sample) = self
            .measuring(move |connection, _limits| {
                // What a call may not return it may have changed.
                let most = connection.limit(Limit::SQLITE_LIMIT_LENGTH)?;
                connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, i32::MAX)?;
                let looked = KeptCall::read(connection, &sought).and_then(|undo| {
                    let (undone, _) = undo.compared(connection, &mask)?;
                    let sample = undo.sample(&mask, &undone);
                    Ok((undone, sample))
                });
                connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, most)?;
                looked
            })
            .await?;
        // Triggers are switched off while rows go back.
        undone.measured(undoing, Vec::new(), sample)
    }

    /// Undoes a call within the warrant, or not at all. Returns the rows touched as well.
    pub(super) async fn undo(
        &self,
        mark: Mark,
        undoing: &Undoing,
        bounds: &Limits,
        mask: &Mask,
    ) -> Result<(Undone, u64), ToolError> {
        let Some(bytes_max) = self.journal.as_ref().map(|settings| settings.bytes_max) else {
            return Err(ToolError::Failed { message: NO_JOURNAL.into() });
        };
        let Some(mut writer) = self.connections.writer().await else {
            return Err(ToolError::Unavailable { message: "the database is busy with another write".into() });
        };
        let (undoing, bounds, limits, mask) = (undoing.clone(), bounds.clone(), self.limits, mask.clone());
        let (path, known) = (self.path.clone(), Arc::clone(&self.known));
        let task = spawn_blocking(move || {
            if let Err(error) = intended(&mut writer, &path, &mark, &known) {
                writer.discard();
                return Err(error);
            }
            let outcome = match writer.connection() {
                Ok(connection) => undo(connection, &mark, &undoing, &bounds, bytes_max, &limits, &mask),
                Err(error) => Err(failed(&Trouble::Sqlite(error))),
            };
            // Triggers and foreign keys are switched off on it.
            writer.discard();
            outcome
        });
        // A panic may have come after the commit.
        task.await.unwrap_or_else(|_| Err(ToolError::InDoubt { message: "undoing failed on the way".into() }))
    }
}

/// The whole undoing, one transaction.
fn undo(
    connection: &mut Connection,
    mark: &Mark,
    undoing: &Undoing,
    bounds: &Limits,
    bytes_max: u64,
    limits: &SqlLimits,
    mask: &Mask,
) -> Result<(Undone, u64), ToolError> {
    let call = &undoing.call;
    // Rows go back as they were, not as triggers would have it now; and a foreign key must not take along
    // what refers to a row that is taken out and put back. What refers to nothing afterwards is looked for.
    let timeout_ms = limits.statement_timeout_ms.saturating_mul(UNDO_PATIENCE);
    let prepared = raw(connection).and_then(|()| limit_time(connection, Duration::from_millis(timeout_ms)));
    if let Err(error) = prepared.and_then(|()| connection.execute_batch("BEGIN IMMEDIATE")) {
        return Err(failed(&Trouble::Sqlite(error)));
    }
    let done = record(connection, mark, Some(call))
        .and_then(|()| KeptCall::read(connection, call))
        .and_then(|undo| undo.apply(connection, mark, undoing.on_change, bytes_max, mask));
    let undone = match done {
        Ok(undone) => undone,
        Err(Trouble::Sqlite(error)) if interrupted(&error) => {
            let message = impatient(timeout_ms);
            return Err(rolled_back(connection, ToolError::Failed { message }));
        }
        Err(trouble) => return Err(rolled_back(connection, failed(&trouble))),
    };
    if let Some(message) = undone.refusal(undoing) {
        return Err(rolled_back(connection, ToolError::Failed { message }));
    }
    let rows = sum(&undone.restored);
    let reach = Reach { rows, exact: true, tables: undone.restored.clone(), ..Reach::default() };
    // INVARIANT: nothing is committed that touched more than the warrant allows, in all or in one table.
    if bounds.exceeded_by(&reach) {
        return Err(rolled_back(connection, ToolError::Exceeded { reach: Box::new(reach) }));
    }
    if rows == 0 {
        let message = format!("nothing is left to undo of call `{call}`");
        return Err(rolled_back(connection, ToolError::Failed { message }));
    }
    if let Err(trouble) = complete(connection, mark, rows) {
        return Err(rolled_back(connection, failed(&trouble)));
    }
    if let Err(error) = unlimited(connection) {
        return Err(rolled_back(connection, failed(&Trouble::Sqlite(error))));
    }
    match connection.execute_batch("COMMIT") {
        Ok(()) => Ok((undone, rows)),
        Err(error) if !connection.is_autocommit() => {
            Err(rolled_back(connection, failed(&Trouble::Sqlite(error))))
        }
        // See `write`: pages may have reached the log before the disk failed. The journal will tell.
        Err(error) => {
            let message = format!("the commit failed on the way: {}", told(&Trouble::Sqlite(error)));
            Err(ToolError::InDoubt { message })
        }
    }
}

/// A call as the journal keeps it.
pub(super) struct KeptCall {
    call: CallId,
    /// The call that this one undid.
    undid: Option<String>,
    shapes: BTreeMap<String, Shape>,
    entries: Vec<KeptRow>,
}

/// Rows that can go back, by their place among the entries, with the hidden rowid they have now.
type Open = BTreeMap<usize, Option<i64>>;

/// A row that the call changed.
struct KeptRow {
    table: String,
    change: RowChange,
    /// Whether it referred to nothing before the call already.
    dangling: bool,
}

impl KeptCall {
    /// Reads what is kept of a call.
    pub(super) fn read(connection: &Connection, call: &CallId) -> Result<Self, Trouble> {
        let refuse = |why: String| Err(Trouble::Argument(why));
        if !prepared(connection)? {
            return refuse("the journal's tables are missing or not as they should be".into());
        }
        let record = connection.query_row(
            "SELECT state, tables, undone_by, undoes FROM countersign_call WHERE id = ?1",
            [call.as_str()],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, Option<String>>(1)?,
                    row.get::<_, Option<String>>(2)?,
                    row.get::<_, Option<String>>(3)?,
                ))
            },
        );
        let Some((state, tables, undone_by, undid)) = record.optional()? else {
            return refuse(format!("the journal knows no call `{call}`"));
        };
        if state != "committed" {
            return refuse(format!("call `{call}` has not happened"));
        }
        if let Some(by) = undone_by {
            return refuse(format!("call `{call}` has been undone by call `{by}`"));
        }
        let Some(tables) = tables else {
            return refuse(format!(
                "no rows are kept of call `{call}`: its tool is not reversible, or the retention is over"
            ));
        };
        let mut shapes: BTreeMap<String, Shape> =
            serde_json::from_str(&tables).map_err(|_invalid| broken(call))?;
        let mut now = layouts(connection)?;
        for (table, shape) in &mut shapes {
            let Some(layout) = now.remove(table).filter(|layout| layout.shape.fits(shape)) else {
                return refuse(format!("the columns of table `{table}` changed since call `{call}`"));
            };
            *shape = layout.shape;
        }
        let mut statement = connection
            .prepare("SELECT tbl, old, new, dangling FROM countersign_image WHERE call = ?1 ORDER BY seq")?;
        let mut rows = statement.query([call.as_str()])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let table: String = row.get(0)?;
            let columns = shapes.get(&table).ok_or_else(|| broken(call))?.columns.len();
            let image = |at: usize| -> Result<Option<Row>, Trouble> {
                let bytes: Option<Vec<u8>> = row.get(at)?;
                bytes.map(|b| Row::from_bytes(&b, columns).ok_or_else(|| broken(call))).transpose()
            };
            let change = RowChange { old: image(1)?, new: image(2)? };
            entries.push(KeptRow { table, change, dangling: row.get(3)? });
        }
        Ok(Self { call: call.clone(), undid, shapes, entries })
    }

    /// Compares the rows with what the call left. Returns those that can go back as well: by their place, with
    /// the rowid they have now where no column shows it.
    pub(super) fn compared(&self, connection: &Connection, mask: &Mask) -> Result<(Undone, Open), Trouble> {
        let mut undone = Undone::default();
        let mut same = Open::new();
        let mut left: BTreeMap<&str, BTreeSet<&Vec<Cell>>> = BTreeMap::new();
        for entry in &self.entries {
            if let Some(new) = &entry.change.new {
                left.entry(&entry.table).or_default().insert(&new.cells);
            }
        }
        let counted = counted(connection)?;
        let mut readers = RowReader::new(connection);
        for (at, entry) in self.entries.iter().enumerate() {
            let Some(shape) = self.shapes.get(&entry.table) else { continue };
            let there = |row: &Row, readers: &mut RowReader<'_>| readers.row(&entry.table, shape, row);
            let mut rowid = None;
            let unchanged = match (&entry.change.new, &entry.change.old) {
                (Some(new), _) => there(new, &mut readers)?.is_some_and(|row| {
                    rowid = row.rowid;
                    row.cells == new.cells
                }),
                // It was deleted. Where the call put another row with its key, that one is an entry too.
                (None, Some(old)) => there(old, &mut readers)?.is_none_or(|row| {
                    left.get(entry.table.as_str()).is_some_and(|rows| rows.contains(&row.cells))
                }),
                (None, None) => continue,
            };
            let counts = if unchanged { &mut undone.restored } else { &mut undone.changed };
            let count = counts.entry(entry.table.clone()).or_insert(0);
            *count = count.saturating_add(1);
            if unchanged {
                same.insert(at, rowid);
                if entry.change.old.is_none() && counted.contains(&entry.table) {
                    let columns = shape.key.iter().filter_map(|at| shape.columns.get(*at)).cloned();
                    undone.counters.insert(entry.table.clone(), columns.collect());
                }
            } else {
                self.example(entry, &mut undone, mask);
            }
        }
        Ok((undone, same))
    }

    /// Puts the rows back, under the mark of the call that does so. Nothing is left half done but for the
    /// caller's rollback; rows that changed since are told and left, and where they are to be refused it is
    /// the caller who rolls back.
    pub(super) fn apply(
        &self,
        connection: &Connection,
        mark: &Mark,
        on_change: OnChange,
        bytes_max: u64,
        mask: &Mask,
    ) -> Result<Undone, Trouble> {
        let (mut undone, mut open) = self.compared(connection, mask)?;
        let refused = |undone: &Undone| on_change == OnChange::Refuse && !undone.changed.is_empty();
        // What stands in the way of a row is only seen when it is put back. Each round has fewer rows.
        while !refused(&undone) && !open.is_empty() {
            connection.execute_batch("SAVEPOINT undo")?;
            let conflicts = self.put_back(connection, &open)?;
            if conflicts.is_empty() {
                connection.execute_batch("RELEASE undo")?;
                self.kept(connection, mark, &open, bytes_max)?;
                break;
            }
            connection.execute_batch("ROLLBACK TO undo; RELEASE undo")?;
            for entry in conflicts.iter().filter_map(|at| self.entries.get(*at)) {
                if let Some(count) = undone.restored.get_mut(&entry.table) {
                    *count = count.saturating_sub(1);
                }
                let count = undone.changed.entry(entry.table.clone()).or_insert(0);
                *count = count.saturating_add(1);
                self.example(entry, &mut undone, mask);
            }
            undone.restored.retain(|_, count| *count > 0);
            open.retain(|at, _| !conflicts.contains(at));
        }
        Ok(undone)
    }

    /// Takes out what the call left, puts in what was there before, and returns the rows that cannot go back:
    /// another has their key, or the foreign keys do not hold with them.
    fn put_back(&self, connection: &Connection, open: &Open) -> Result<BTreeSet<usize>, Trouble> {
        let entries = || open.keys().filter_map(|at| Some((*at, self.entries.get(*at)?)));
        let mut statements = Statements::new(connection);
        for (_, entry) in entries() {
            let (Some(new), Some(shape)) = (&entry.change.new, self.shapes.get(&entry.table)) else {
                continue;
            };
            let gone = statements
                .get(&entry.table, "delete", || {
                    format!("DELETE FROM {} WHERE {}", quoted(&entry.table), shape.by_key())
                })?
                .execute(params_from_iter(shape.key_of(new)))?;
            if gone != 1 {
                return Err(Trouble::Argument(format!("a row of `{}` could not be taken out", entry.table)));
            }
        }
        let mut conflicts = BTreeSet::new();
        let mut elsewhere = Vec::new();
        for (at, entry) in entries() {
            let (Some(old), Some(shape)) = (&entry.change.old, self.shapes.get(&entry.table)) else {
                continue;
            };
            // Rows of others may have taken the rowid. It means nothing where there is another key.
            if let (Some(alias), Some(rowid)) = (&shape.rowid, old.rowid) {
                let taken = statements
                    .get(&entry.table, "taken", || {
                        format!("SELECT 1 FROM {} WHERE {alias} = ?1", quoted(&entry.table))
                    })?
                    .exists([rowid])?;
                if taken {
                    elsewhere.push((at, entry, shape, old));
                    continue;
                }
            }
            if !insert(&mut statements, &entry.table, shape, old, true)? {
                conflicts.insert(at);
            }
        }
        for (at, entry, shape, old) in elsewhere {
            if !insert(&mut statements, &entry.table, shape, old, false)? {
                conflicts.insert(at);
            }
        }
        if conflicts.is_empty() {
            let keys = schema::foreign_keys(connection)?;
            for (at, entry) in entries() {
                if self.dangling(&mut statements, entry, &keys)? {
                    conflicts.insert(at);
                }
            }
        }
        Ok(conflicts)
    }

    /// Tells whether the row refers to nothing now that it is back, or others refer to it now that it is gone.
    fn dangling(
        &self,
        statements: &mut Statements<'_>,
        entry: &KeptRow,
        keys: &[ActingKey],
    ) -> Result<bool, Trouble> {
        let Some(shape) = self.shapes.get(&entry.table) else { return Ok(false) };
        let RowChange { old, new } = &entry.change;
        for (number, key) in keys.iter().enumerate() {
            if key.child.name == entry.table
                && !entry.dangling
                && let Some(old) = old
                && !(new.as_ref().is_some_and(|new| same(shape, &key.child_columns, old, new)))
            {
                let found = statements
                    .get(&entry.table, &format!("child {number}"), || {
                        let own = shape.key.iter().filter_map(|at| shape.columns.get(*at)).enumerate();
                        let own = own.map(|(n, c)| format!("c.{} = ?{}", quoted(c), n.saturating_add(1)));
                        without_parent(key, &own.collect::<Vec<_>>().join(" AND "))
                    })?
                    .exists(params_from_iter(shape.key_of(old)))?;
                if found {
                    return Ok(true);
                }
            }
            if key.parent.name == entry.table
                && let Some(new) = new
                && !(old.as_ref().is_some_and(|old| same(shape, &key.parent_columns, old, new)))
            {
                let Some(values) = shape.values(&key.parent_columns, new) else {
                    return Err(Trouble::Argument(format!(
                        "a foreign key of `{}` refers to a generated column, which undo does not look after",
                        key.child
                    )));
                };
                let found = statements
                    .get(&entry.table, &format!("parent {number}"), || {
                        let own = key.child_columns.iter().enumerate();
                        let own = own.map(|(n, c)| format!("c.{} = ?{}", quoted(c), n.saturating_add(1)));
                        without_parent(key, &own.collect::<Vec<_>>().join(" AND "))
                    })?
                    .exists(params_from_iter(values))?;
                if found {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Reads every row back, and keeps it: undoing can be undone.
    fn kept(&self, connection: &Connection, mark: &Mark, open: &Open, bytes_max: u64) -> Result<(), Trouble> {
        let mut readers = RowReader::new(connection);
        let mut insert = Insert::new(connection, mark)?;
        let mut orphans = Orphans::new(connection)?;
        let mut bytes = 0_u64;
        for (at, rowid) in open {
            let Some(entry) = self.entries.get(*at) else { continue };
            let Some(shape) = self.shapes.get(&entry.table) else { continue };
            let new = match &entry.change.old {
                None => None,
                Some(old) => {
                    let back = readers.row(&entry.table, shape, old)?;
                    // INVARIANT: a row that is said to be restored is what it was.
                    if back.as_ref().is_none_or(|row| row.cells != old.cells) {
                        return Err(Trouble::Argument(format!(
                            "a row of `{}` could not be put back as it was",
                            entry.table
                        )));
                    }
                    back
                }
            };
            let old = entry.change.new.as_ref().map(|row| Row { rowid: *rowid, cells: row.cells.clone() });
            let change = RowChange { old, new };
            for row in change.old.iter().chain(&change.new) {
                bytes = bytes.saturating_add(u64::try_from(row.size()).unwrap_or(u64::MAX));
            }
            if bytes > bytes_max {
                return Err(Trouble::Argument(format!(
                    "the rows kept for undo would take more than {bytes_max} bytes (`bytes_max` of the system's journal)"
                )));
            }
            let stood = |key: &ActingKey| self.stood(open, key);
            let dangling = orphans.was(&entry.table, shape, &change, stood)?;
            insert.row(&entry.table, &change, dangling)?;
        }
        let shapes = serde_json::to_string(&self.shapes).map_err(|_unwritable| broken(&self.call))?;
        layouts_of(connection, mark, &shapes)?;
        connection.execute(
            "UPDATE countersign_call SET undone_by = ?2 WHERE id = ?1",
            (self.call.as_str(), mark.call.as_str()),
        )?;
        // What this call had undone is done again.
        if let Some(undid) = &self.undid {
            connection.execute(
                "UPDATE countersign_call SET undone_by = NULL WHERE id = ?1 AND undone_by = ?2",
                (undid, self.call.as_str()),
            )?;
        }
        Ok(())
    }

    /// Tells what the call left in the columns of a parent.
    fn stood(&self, open: &Open, key: &ActingKey) -> BTreeSet<Vec<Cell>> {
        let Some(shape) = self.shapes.get(&key.parent.name) else { return BTreeSet::new() };
        let entries = open.keys().filter_map(|at| self.entries.get(*at));
        let rows = entries.filter(|e| e.table == key.parent.name).filter_map(|e| e.change.new.as_ref());
        rows.filter_map(|row| shape.compared(&key.parent_columns, row)).collect()
    }

    /// A few of the rows as they would be again, or that would go.
    pub(super) fn sample(&self, mask: &Mask, undone: &Undone) -> Option<Sample> {
        let table = &self.entries.first()?.table;
        let shape = self.shapes.get(table)?;
        let entries = self.entries.iter().filter(|entry| entry.table == *table);
        let most = usize::try_from(SAMPLE_ROWS).unwrap_or(usize::MAX);
        let rows = entries.take(most).filter_map(|entry| {
            let (row, word) = match (&entry.change.old, &entry.change.new) {
                (None, new) => (new.as_ref()?, goes_away(undone.counters.get(table))),
                (Some(old), None) => (old, COMES_BACK.to_owned()),
                (Some(old), Some(_)) => (old, GOES_BACK.to_owned()),
            };
            let cells = row.cells.iter().zip(&shape.columns);
            let cells = cells.map(|(cell, column)| text(cell, mask, table, column));
            Some(std::iter::once(Some(word)).chain(cells).collect())
        });
        let columns = std::iter::once("undo".to_owned()).chain(shape.columns.iter().cloned()).collect();
        Some(Sample { table: table.clone(), columns, rows: rows.collect() })
    }

    /// Names a row that changed since.
    fn example(&self, entry: &KeptRow, undone: &mut Undone, mask: &Mask) {
        if undone.examples.len() >= EXAMPLES_MAX {
            return;
        }
        let row = entry.change.new.as_ref().or(entry.change.old.as_ref());
        let (Some(row), Some(shape)) = (row, self.shapes.get(&entry.table)) else { return };
        let columns = shape.key.iter().filter_map(|at| shape.columns.get(*at));
        let key: Vec<String> = (shape.key_of(row).into_iter().zip(columns))
            .map(|(cell, column)| text(cell, mask, &entry.table, column).unwrap_or_default())
            .collect();
        undone.examples.push(format!("{} ({})", entry.table, key.join(", ")));
    }
}

/// The tables whose numbers a counter gives (`AUTOINCREMENT`), as far as it has given any.
fn counted(connection: &Connection) -> Result<BTreeSet<String>, Trouble> {
    let there = "SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'";
    if !connection.prepare_cached(there)?.exists([])? {
        return Ok(BTreeSet::new());
    }
    let mut statement = connection.prepare_cached("SELECT lower(name) FROM main.sqlite_sequence")?;
    let tables = statement.query_map([], |row| row.get(0))?;
    Ok(tables.collect::<rusqlite::Result<_>>()?)
}

fn broken(call: &CallId) -> Trouble {
    Trouble::Argument(format!("what is kept of call `{call}` cannot be read"))
}

fn text(cell: &Cell, mask: &Mask, table: &str, column: &str) -> Option<String> {
    mask.shown(table, column, value::shown(cell.value()).unwrap_or_else(|_| "(not text)".into()))
}

/// A row of a child, by this condition, that refers to nothing.
fn without_parent(key: &ActingKey, condition: &str) -> String {
    let refers = key.child_columns.iter().map(|c| format!("c.{} IS NOT NULL", quoted(c)));
    let pairs = key.child_columns.iter().zip(&key.parent_columns);
    let meets = pairs.map(|(c, p)| format!("p.{} = c.{}", quoted(p), quoted(c)));
    format!(
        "SELECT 1 FROM {} AS c WHERE {condition} AND {} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
        named(&key.child),
        refers.collect::<Vec<_>>().join(" AND "),
        named(&key.parent),
        meets.collect::<Vec<_>>().join(" AND "),
    )
}

/// Puts a row in. False where another row has a unique value of it.
fn insert(
    statements: &mut Statements<'_>,
    table: &str,
    shape: &Shape,
    row: &Row,
    with_rowid: bool,
) -> Result<bool, Trouble> {
    let rowid = with_rowid.then_some(row.rowid).flatten();
    let what = if rowid.is_some() { "insert with rowid" } else { "insert" };
    let statement = statements.get(table, what, || {
        let mut columns: Vec<String> = shape.columns.iter().map(|column| quoted(column)).collect();
        columns.extend(shape.rowid.clone().filter(|_| rowid.is_some()));
        let places = vec!["?"; columns.len()].join(", ");
        // ABORT, whatever the table's own constraints would do about a conflict.
        format!("INSERT OR ABORT INTO {} ({}) VALUES ({places})", quoted(table), columns.join(", "))
    })?;
    let rowid = rowid.map(Cell::Integer);
    match statement.execute(params_from_iter(row.cells.iter().chain(&rowid))) {
        Ok(_) => Ok(true),
        Err(rusqlite::Error::SqliteFailure(code, _))
            if code.code == ErrorCode::ConstraintViolation && UNIQUE.contains(&code.extended_code) =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// A unique value, the primary key, the rowid.
const UNIQUE: [i32; 3] = [
    rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE,
    rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
    rusqlite::ffi::SQLITE_CONSTRAINT_ROWID,
];

/// Reads rows by their primary keys.
struct RowReader<'c>(Statements<'c>);

impl<'c> RowReader<'c> {
    const fn new(connection: &'c Connection) -> Self {
        Self(Statements::new(connection))
    }

    /// The row that has the key of this one now.
    fn row(&mut self, table: &str, shape: &Shape, row: &Row) -> Result<Option<Row>, Trouble> {
        let statement = self.0.get(table, "read", || {
            format!("SELECT {} FROM {} WHERE {}", shape.listed(), quoted(table), shape.by_key())
        })?;
        let mut found = statement.query(params_from_iter(shape.key_of(row)))?;
        Ok(found.next()?.map(|row| shape.row(row)).transpose()?)
    }
}
