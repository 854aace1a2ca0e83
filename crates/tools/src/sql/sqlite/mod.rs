//! SQLite: reading, writing within a warrant, and measuring. Each runs on a thread of its own for blocking
//! work.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "SQLite's codes and the verbs of SQL: those not named are treated alike, and refused or reported as they are"
)]

mod connection;
mod image;
mod inspect;
mod journal;
mod schema;
mod undo;
mod value;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_gate::{Doubt, Limits, MeasureError, Measured, Performed, Recalled, Sample, ToolError};
use countersign_rules::Reach;
use countersign_sql::{Catalog, Category, Dialect, RowSource, TableRef, Verb};
use futures::future::BoxFuture;
use rusqlite::{Connection, ErrorCode, hooks::AuthAction, hooks::AuthContext, hooks::Authorization};
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::{
    cascade::{ActingKey, Change, cascade_query, named, touched},
    database::{Database, Login},
    journal::{Known, Mark, RESERVED, Undoing, Undone},
    mask::Mask,
    statement::{Scope, Sizing, Statement},
    tally::sum,
    value::{BadRow, Room, Rows},
    work::Work,
};
use crate::definition::{JournalSettings, SqlLimits};
use connection::{Access, Connections, limit, limit_time, unlimited};
use image::Recorder;

/// How many rows an approver sees.
const SAMPLE_ROWS: u64 = 5;

/// One SQLite file.
#[derive(Debug)]
pub(super) struct SqliteDatabase {
    connections: Connections,
    limits: SqlLimits,
    path: PathBuf,
    journal: Option<JournalSettings>,
    known: Arc<Known>,
    measuring: Arc<Semaphore>,
}

/// What counting came to.
enum Sized {
    Counted(Measured),
    /// What the rows of the statement are; which others it deletes is not seen.
    MayReplace(Measured),
}

/// Why a statement did not end well.
enum Trouble {
    Sqlite(rusqlite::Error),
    /// The journal has the call's record already: it took effect before.
    Recorded(String),
    Row(BadRow),
    Argument(String),
    Result(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<BadRow> for Trouble {
    fn from(error: BadRow) -> Self {
        Self::Row(error)
    }
}

/// A file has no credential and no schemas, and no session of its own that could hold a lock.
impl Database for SqliteDatabase {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn search_path(&self) -> &[String] {
        &[]
    }

    fn inspect<'d>(&'d self, _login: Login<'d>) -> BoxFuture<'d, Result<Catalog, String>> {
        Box::pin(self.inspect())
    }

    fn compile<'d>(&'d self, _login: Login<'d>, sql: &'d str) -> BoxFuture<'d, Result<(), String>> {
        Box::pin(self.compile(sql))
    }

    fn is_locked<'d>(&'d self, _login: Login<'d>, _lock: i64) -> BoxFuture<'d, Result<bool, String>> {
        Box::pin(ready(Ok(false)))
    }

    fn read<'d>(
        &'d self,
        _login: Login<'d>,
        work: Arc<Work>,
        rows_max: u64,
    ) -> BoxFuture<'d, Result<Performed, ToolError>> {
        Box::pin(self.read(work, rows_max))
    }

    fn write<'d>(
        &'d self,
        _login: Login<'d>,
        _scope: &'d Scope,
        work: Arc<Work>,
        limits: &'d Limits,
        mark: Option<Mark>,
    ) -> BoxFuture<'d, Result<Performed, ToolError>> {
        Box::pin(self.write(work, limits, mark))
    }

    fn measure<'d>(
        &'d self,
        _login: Login<'d>,
        _scope: &'d Scope,
        work: Arc<Work>,
        mask: &'d Mask,
    ) -> BoxFuture<'d, Result<Measured, MeasureError>> {
        Box::pin(self.measure(work, mask.clone()))
    }

    fn rehearse<'d>(
        &'d self,
        _login: Login<'d>,
        _scope: &'d Scope,
        work: Arc<Work>,
        _mark: Mark,
    ) -> BoxFuture<'d, Result<Reach, MeasureError>> {
        Box::pin(self.rehearse(work))
    }

    fn identity<'d>(&'d self, _login: Login<'d>) -> BoxFuture<'d, Option<Arc<str>>> {
        Box::pin(self.identity())
    }

    fn recall<'d>(
        &'d self,
        _login: Login<'d>,
        doubt: &'d Doubt,
    ) -> BoxFuture<'d, Result<Recalled, MeasureError>> {
        Box::pin(self.recall(doubt))
    }

    fn undo_measure<'d>(
        &'d self,
        _login: Login<'d>,
        _mark: &'d Mark,
        undoing: &'d Undoing,
        mask: &'d Mask,
    ) -> BoxFuture<'d, Result<Measured, MeasureError>> {
        Box::pin(self.undo_measure(undoing, mask))
    }

    fn undo<'d>(
        &'d self,
        _login: Login<'d>,
        mark: Mark,
        undoing: &'d Undoing,
        limits: &'d Limits,
        mask: &'d Mask,
    ) -> BoxFuture<'d, Result<(Undone, u64), ToolError>> {
        Box::pin(self.undo(mark, undoing, limits, mask))
    }

    fn prepare_sql(&self, _login: Login<'_>, tables: &[String]) -> Result<String, String> {
        self.prepare_sql(tables)
    }

    fn prepare<'d>(
        &'d self,
        _login: Login<'d>,
        _admin: Option<&'d SecretString>,
        tables: &'d [String],
    ) -> BoxFuture<'d, Result<Vec<String>, String>> {
        Box::pin(self.prepare(tables))
    }

    fn prune<'d>(&'d self, _login: Login<'d>) -> BoxFuture<'d, Result<u64, String>> {
        Box::pin(self.prune())
    }
}

impl SqliteDatabase {
    pub(super) fn new(path: PathBuf, limits: SqlLimits, journal: Option<JournalSettings>) -> Self {
        let measuring = Arc::new(Semaphore::new(limits.measure_parallel.max(1)));
        let connections = Connections::new(path.clone(), limits);
        Self { connections, limits, path, journal, known: Arc::default(), measuring }
    }

    /// Reads what the database holds.
    async fn inspect(&self) -> Result<Catalog, String> {
        let Some(reader) = self.connections.reader().await else {
            return Err("the database is busy with other reads".into());
        };
        let task = tokio::task::spawn_blocking(move || reader.run(|connection| inspect::catalog(connection)));
        match task.await {
            Ok(Ok(catalog)) => Ok(catalog),
            Ok(Err(error)) => Err(told(&Trouble::Sqlite(error))),
            Err(_panicked) => Err("reading the schema failed".into()),
        }
    }

    /// Has SQLite compile a statement. Nothing is run.
    async fn compile(&self, sql: &str) -> Result<(), String> {
        let Some(reader) = self.connections.reader().await else {
            return Err("the database is busy with other reads".into());
        };
        let sql = sql.to_owned();
        let task = tokio::task::spawn_blocking(move || {
            reader.run(|connection| connection.prepare(&sql).map(|_statement| ()))
        });
        match task.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(told(&Trouble::Sqlite(error))),
            Err(_panicked) => Err("compiling the statement failed".into()),
        }
    }

    /// Reads. Nothing is changed whatever the statement says: the file is open for reading only.
    async fn read(&self, work: Arc<Work>, rows_max: u64) -> Result<Performed, ToolError> {
        let Some(reader) = self.connections.reader().await else {
            return Err(ToolError::Unavailable { message: "the database is busy with other reads".into() });
        };
        let limits = self.limits;
        let task = tokio::task::spawn_blocking(move || {
            let mut trouble = None;
            let rows = reader.run(|connection| {
                let outcome = read(connection, &work, rows_max, &limits);
                unlimited(connection)?;
                match outcome {
                    Ok(rows) => Ok(Some(rows)),
                    Err(Trouble::Sqlite(error)) => Err(error),
                    Err(other) => {
                        trouble = Some(other);
                        Ok(None)
                    }
                }
            });
            match (rows, trouble) {
                (Ok(Some(rows)), _) => {
                    let count = rows.len();
                    Ok(Performed { reply: rows.reply(), rows: count, amount: None })
                }
                (Ok(None), Some(trouble)) => Err(failed(&trouble)),
                (Ok(None), None) => Err(ToolError::Failed { message: "the read ended without rows".into() }),
                (Err(error), _) => Err(failed(&Trouble::Sqlite(error))),
            }
        });
        // A read that panicked has changed nothing.
        task.await.unwrap_or_else(|_| Err(ToolError::Failed { message: "reading failed".into() }))
    }

    /// Writes, within the warrant or not at all; under this mark where the file keeps a journal.
    async fn write(
        &self,
        work: Arc<Work>,
        bounds: &Limits,
        mark: Option<Mark>,
    ) -> Result<Performed, ToolError> {
        let Some(mut writer) = self.connections.writer().await else {
            return Err(ToolError::Unavailable { message: "the database is busy with another write".into() });
        };
        let (limits, bounds) = (self.limits, bounds.clone());
        let kept = self.journal.as_ref().map(|settings| settings.bytes_max);
        let (path, known) = (self.path.clone(), Arc::clone(&self.known));
        let task = tokio::task::spawn_blocking(move || {
            if let Some(mark) = &mark
                && let Err(error) = journal::intended(&mut writer, &path, mark, &known)
            {
                writer.discard();
                return Err(error);
            }
            let connection = match writer.connection() {
                Ok(connection) => connection,
                Err(error) => return Err(failed(&Trouble::Sqlite(error))),
            };
            let outcome = write(connection, &work, &bounds, &limits, mark.as_ref(), kept);
            // A connection that is not back where it started is closed, which rolls back what is open on it.
            let clean =
                unlimited(connection).is_ok() && unheard(connection).is_ok() && connection.is_autocommit();
            if !clean {
                writer.discard();
            }
            outcome
        });
        // A panic may have come after the commit.
        task.await.unwrap_or_else(|_| Err(ToolError::InDoubt { message: "writing failed on the way".into() }))
    }

    /// Measures what a statement would touch, on a connection that can only read.
    async fn measure(&self, work: Arc<Work>, mask: Mask) -> Result<Measured, MeasureError> {
        let measured = {
            let work = Arc::clone(&work);
            self.measuring(move |connection, limits| measure(connection, &work, &mask, limits)).await?
        };
        match measured {
            Sized::Counted(measured) => Ok(measured),
            Sized::MayReplace(measured) => {
                let reach = Reach { rehearsed: true, ..self.rehearse(work).await? };
                Ok(Measured { reach, ..measured })
            }
        }
    }

    /// Runs a change and rolls it back. Only so is it seen which rows `REPLACE` deletes, and what goes with
    /// them. It takes the lock of a writer for as long as measuring may take.
    async fn rehearse(&self, work: Arc<Work>) -> Result<Reach, MeasureError> {
        let Some(mut writer) = self.connections.writer().await else {
            return Err(MeasureError::Limit("the database is busy with another write".into()));
        };
        let statement_timeout_ms = self.limits.statement_timeout_ms.min(self.limits.measure_timeout_ms);
        let limits = SqlLimits { statement_timeout_ms, ..self.limits };
        // What could not be undone is found out before anybody is asked.
        let kept = self.journal.as_ref().filter(|_| work.images).map(|settings| settings.bytes_max);
        let task = tokio::task::spawn_blocking(move || {
            let system = |error| MeasureError::System(told(&Trouble::Sqlite(error)));
            let connection = writer.connection().map_err(system)?;
            connection.execute_batch("BEGIN IMMEDIATE").map_err(system)?;
            let recorder = kept.map_or_else(
                || Ok(Recorder::default()),
                |bytes_max| Recorder::keeping(connection, bytes_max).map_err(Trouble::Sqlite),
            );
            let outcome = recorder
                .and_then(|recorder| change(connection, &work, &limits, recorder))
                .and_then(|(rows, reach, recorder)| {
                    unlimited(connection)?;
                    if let Some(images) = recorder.into_images() {
                        images.each(connection, |_table, _change| Ok(()))?;
                    }
                    Ok((rows, reach))
                });
            let ended = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
            if !ended || unlimited(connection).is_err() || unheard(connection).is_err() {
                writer.discard();
            }
            match outcome {
                Ok((_, reach)) => Ok(reach),
                Err(Trouble::Sqlite(error)) if interrupted(&error) => {
                    Err(MeasureError::Limit(format!("it took longer than {statement_timeout_ms} ms")))
                }
                Err(trouble) => Err(MeasureError::NotMeasurable(told(&trouble))),
            }
        });
        task.await.unwrap_or_else(|_| Err(MeasureError::System("measuring failed".into())))
    }

    /// Runs something that reads, in one transaction so that all it sees is of the same moment.
    async fn measuring<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, &SqlLimits) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, MeasureError> {
        let wait = Duration::from_millis(self.limits.measure_timeout_ms);
        let permit = tokio::time::timeout(wait, Arc::clone(&self.measuring).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(MeasureError::Limit("too many measurements of this database run at once".into()));
        };
        let Some(reader) = self.connections.reader().await else {
            return Err(MeasureError::Limit("the database is busy with other reads".into()));
        };
        let limits = self.limits;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut why = None;
            let measured = reader.run(|connection| {
                limit_time(connection, wait)?;
                connection.execute_batch("BEGIN")?;
                let outcome = work(connection, &limits);
                let ended = connection.execute_batch("ROLLBACK");
                unlimited(connection)?;
                ended?;
                match outcome {
                    Ok(measured) => Ok(Some(measured)),
                    Err(Trouble::Sqlite(error)) => Err(error),
                    Err(other) => {
                        why = Some(other);
                        Ok(None)
                    }
                }
            });
            match (measured, why) {
                (Ok(Some(measured)), _) => Ok(measured),
                (Ok(None), Some(trouble)) => Err(MeasureError::NotMeasurable(told(&trouble))),
                (Ok(None), None) => Err(MeasureError::NotMeasurable("there is no count".into())),
                (Err(error), _) if interrupted(&error) => {
                    Err(MeasureError::Limit(format!("it took longer than {} ms", wait.as_millis())))
                }
                (Err(error), _) => {
                    let at_fault = matches!(error, rusqlite::Error::SqlInputError { .. })
                        || error.sqlite_error_code() == Some(ErrorCode::AuthorizationForStatementDenied);
                    let why = told(&Trouble::Sqlite(error));
                    Err(if at_fault { MeasureError::Rejected(why) } else { MeasureError::System(why) })
                }
            }
        });
        task.await.unwrap_or_else(|_| Err(MeasureError::System("measuring failed".into())))
    }
}

fn read(
    connection: &mut Connection,
    work: &Work,
    rows_max: u64,
    limits: &SqlLimits,
) -> Result<Rows, Trouble> {
    let tables = work.tables();
    let shadows = schema::within(connection, &schema::shadows(connection)?, &tables)?;
    let access = Access { tables, shadows, ..Access::default() };
    limit(connection, access, Duration::from_millis(limits.statement_timeout_ms))?;
    let statement = &work.statement;
    let mut prepared = connection.prepare(&statement.text)?;
    if !prepared.readonly() {
        return Err(Trouble::Argument("the database says that the statement is no read".into()));
    }
    bind(&mut prepared, &work.arguments)?;
    let rows = collect(&mut prepared, rows_max, limits)?;
    work.fits(|| rows.reply()).map_err(Trouble::Result)?;
    Ok(rows)
}

/// The whole write, one transaction. `bytes_max`: how much of its rows may be kept.
fn write(
    connection: &mut Connection,
    work: &Work,
    bounds: &Limits,
    limits: &SqlLimits,
    mark: Option<&Mark>,
    bytes_max: Option<u64>,
) -> Result<Performed, ToolError> {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        return Err(failed(&Trouble::Sqlite(error)));
    }
    let done = recorded(connection, work, limits, mark, bytes_max);
    // What follows is ours: the statement is done.
    let unlimited = unlimited(connection).map_err(Trouble::Sqlite);
    let (rows, reach, recorder) = match done.and_then(|done| unlimited.map(|()| done)) {
        Ok(done) => done,
        Err(trouble) => return Err(rolled_back(connection, failed(&trouble))),
    };
    // INVARIANT: nothing is committed that touched more than the warrant allows, in all or in one table.
    if bounds.exceeded_by(&reach) {
        return Err(rolled_back(connection, ToolError::Exceeded { reach: Box::new(reach) }));
    }
    let count = reach.rows;
    // INVARIANT: nothing is committed that cannot be undone although its rows were to be kept.
    let kept = match (mark, recorder.into_images()) {
        (Some(mark), images) => images
            .map_or(Ok(()), |images| journal::keep(connection, mark, &images))
            .and_then(|()| journal::complete(connection, mark, count)),
        (None, _) => Ok(()),
    };
    if let Err(trouble) = kept {
        return Err(rolled_back(connection, failed(&trouble)));
    }
    match connection.execute_batch("COMMIT") {
        // A crash here leaves the effect done and its outcome unrecorded: the gate finds the call in doubt, and
        // the journal, where there is one, tells that it happened.
        Ok(()) => Ok(Performed { reply: rows.changed(count), rows: count, amount: None }),
        // The transaction is still open, so it has not happened: readers kept it from committing, or a
        // deferred foreign key refuses.
        Err(error) if !connection.is_autocommit() => {
            Err(rolled_back(connection, failed(&Trouble::Sqlite(error))))
        }
        // SQLite ended the transaction itself while committing. Pages may have reached the log before the
        // disk failed, and a later recovery may find them.
        Err(error) => {
            let message = format!("the commit failed on the way: {}", told(&Trouble::Sqlite(error)));
            Err(ToolError::InDoubt { message })
        }
    }
}

/// Writes the call's record, then runs its statement.
fn recorded(
    connection: &mut Connection,
    work: &Work,
    limits: &SqlLimits,
    mark: Option<&Mark>,
    bytes_max: Option<u64>,
) -> Result<(Rows, Reach, Recorder), Trouble> {
    let mut recorder = Recorder::default();
    if let Some(mark) = mark {
        journal::record(connection, mark, None)?;
        if mark.images {
            recorder = Recorder::keeping(connection, bytes_max.unwrap_or(0))?;
        }
    }
    change(connection, work, limits, recorder)
}

/// Rolls back, and says so unless even that fails.
fn rolled_back(connection: &Connection, error: ToolError) -> ToolError {
    // SQLite rolls some failures back itself. Where ours fails too, the caller closes the connection, and an
    // unfinished transaction never becomes part of the database: nothing has changed either way.
    if !connection.is_autocommit()
        && let Err(why) = connection.execute_batch("ROLLBACK")
    {
        tracing::warn!(%why, "a rollback failed; the connection is closed instead");
    }
    error
}

/// Runs the statement and counts what it touched, triggers and cascades included.
fn change(
    connection: &mut Connection,
    work: &Work,
    limits: &SqlLimits,
    recorder: Recorder,
) -> Result<(Rows, Reach, Recorder), Trouble> {
    let statement = &work.statement;
    let keys = schema::acting_keys(connection)?;
    let cascades: BTreeSet<TableRef> = statement.writes.iter().flat_map(|t| touched(t, &keys)).collect();
    let cascades: BTreeSet<String> = cascades.into_iter().map(|table| table.name).collect();
    let mut tables: BTreeSet<String> = statement.writes.iter().map(|table| table.name.clone()).collect();
    // Rows that go with their table are not told. They are counted before.
    let mut whole = BTreeMap::new();
    if let Sizing::Whole { tables: gone, .. } = &statement.sizing {
        for table in gone {
            let sql = format!("SELECT count(*) FROM {}", named(table));
            let rows: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
            whole.insert(table.to_string(), u64::try_from(rows).unwrap_or(0));
        }
    }
    let shadows = schema::shadows(connection)?;
    let access = Access {
        tables: work.tables(),
        cascades: cascades.clone(),
        linked: schema::linked(connection)?,
        // A trigger may write to any virtual table.
        shadows: shadows.keys().cloned().collect(),
        write: true,
        schema: statement.categories.contains(&Category::Schema),
    };
    let journal = journal::tables(connection)?;
    let before = connection.total_changes();
    let heard = Arc::new(Mutex::new(recorder));
    let recorder = Arc::clone(&heard);
    // Set before the statement is compiled: SQLite then deletes all rows of a table one by one as well.
    connection.preupdate_hook(Some(
        move |_action, _database: &str, table: &str, case: &rusqlite::hooks::PreUpdateCase| {
            recorder.lock().unwrap_or_else(PoisonError::into_inner).note(table, case);
        },
    ))?;
    limit(connection, access, Duration::from_millis(limits.statement_timeout_ms))?;
    let rows = {
        let mut prepared = connection.prepare(&statement.text)?;
        bind(&mut prepared, &work.arguments)?;
        collect(&mut prepared, u64::MAX, limits)?
    };
    let total = connection.total_changes().saturating_sub(before);
    let changed = connection.changes();
    unlimited(connection)?;
    unheard(connection)?;
    let mut recorder = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    if journal != journal::tables(connection)? {
        return Err(Trouble::Argument(format!("names that begin with `{RESERVED}` belong to the journal")));
    }
    let (mut per_table, direct) = recorder.counts();
    // Rows of virtual tables are not told one by one. Of the one that is named SQLite says how many changed; of one
    // that a trigger writes to, what its module writes elsewhere for it counts in its place, which is no fewer.
    let told = sum(&per_table);
    let rest = total.saturating_sub(told);
    let mut behind: BTreeMap<&String, u64> = BTreeMap::new();
    for (table, rows) in &per_table {
        if let Some(owner) = shadows.get(table) {
            let known = behind.entry(owner).or_insert(0);
            *known = known.saturating_add(*rows);
        }
    }
    per_table.retain(|table, _| !shadows.contains_key(table));
    let target = statement.writes.first().map(|target| target.name.clone());
    let named = target.as_ref().filter(|target| shadows.values().any(|owner| owner == *target));
    if let Some(named) = named {
        per_table.insert(named.clone(), changed);
    } else if let Some(first) = behind.keys().next().map(|owner| (*owner).clone()) {
        for (owner, rows) in behind {
            per_table.insert(owner.clone(), rows);
        }
        let known = per_table.entry(first).or_insert(0);
        *known = known.saturating_add(rest);
    } else if rest > 0
        && let Some(target) = &target
    {
        let count = per_table.entry(target.clone()).or_insert(0);
        *count = count.saturating_add(rest);
    }
    if rest > 0
        && let Some(target) = target
    {
        recorder
            .incomplete(&format!("the rows of `{target}` cannot be kept for undo: it is no ordinary table"));
    }
    let cascading = if whole.is_empty() {
        told.saturating_sub(direct)
    } else {
        let along: u64 = per_table.iter().filter(|(t, _)| !whole.contains_key(*t)).map(|(_, n)| *n).sum();
        for (table, count) in whole {
            let known = per_table.entry(table).or_insert(0);
            *known = count.max(*known);
        }
        along
    };
    tables.extend(cascades);
    let reach = Reach {
        rows: sum(&per_table),
        exact: true,
        unbounded: false,
        tables: per_table,
        cascades: cascading,
        triggers: schema::triggers(connection, &tables)?,
        rehearsed: false,
        amount: None,
    };
    work.fits(|| rows.changed(reach.rows)).map_err(Trouble::Result)?;
    Ok((rows, reach, recorder))
}

/// Stops listening to changes.
fn unheard(connection: &mut Connection) -> rusqlite::Result<()> {
    connection
        .preupdate_hook(None::<fn(rusqlite::hooks::Action, &str, &str, &rusqlite::hooks::PreUpdateCase)>)
}

fn bind(prepared: &mut rusqlite::Statement<'_>, arguments: &Map<String, Value>) -> Result<(), Trouble> {
    for index in 1..=prepared.parameter_count() {
        let name = prepared.parameter_name(index).and_then(|name| name.strip_prefix(':')).map(str::to_owned);
        let Some(name) = name else {
            return Err(Trouble::Argument("a placeholder has no name".into()));
        };
        let Some(bound) = value::bound(arguments.get(&name)) else {
            return Err(Trouble::Argument(format!("argument `{name}` does not fit into 64 bits")));
        };
        prepared.raw_bind_parameter(index, bound)?;
    }
    Ok(())
}

/// Steps through the statement to its end (a write must run to its end whatever is returned), and keeps as
/// many rows as there is room for.
fn collect(
    prepared: &mut rusqlite::Statement<'_>,
    rows_max: u64,
    limits: &SqlLimits,
) -> Result<Rows, Trouble> {
    let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
    let read_only = prepared.readonly();
    let mut rows = Rows::new(columns, rows_max, limits.result_bytes_max);
    let mut full = false;
    let mut cursor = prepared.raw_query();
    while let Some(row) = cursor.next()? {
        if full {
            continue;
        }
        let mut values = Vec::with_capacity(rows.columns().len());
        for (at, column) in rows.columns().iter().enumerate() {
            let value = value::shown(row.get_ref(at)?).map_err(|why| BadRow::Value(column.clone(), why))?;
            values.push(value);
        }
        full = rows.push(values)? == Room::Full;
        if full && read_only {
            break;
        }
    }
    Ok(rows)
}

fn measure(
    connection: &mut Connection,
    work: &Work,
    mask: &Mask,
    limits: &SqlLimits,
) -> Result<Sized, Trouble> {
    let statement = &work.statement;
    let mut replaces = statement.replaces;
    let keys = schema::acting_keys(connection)?;
    let mut reach = Reach { exact: true, ..Reach::default() };
    let mut sample = None;
    let mut affected: BTreeSet<String> = statement.writes.iter().map(|table| table.name.clone()).collect();
    match &statement.sizing {
        Sizing::None => {}
        Sizing::Unknown(why) => return Err(Trouble::Argument(why.clone())),
        Sizing::Query(query) => {
            match schema::kind(connection, &query.target.name)?.as_deref() {
                Some("view") => return Err(Trouble::Argument(format!("`{}` is a view", query.target))),
                Some("virtual") if work.images => {
                    return Err(Trouble::Argument(format!(
                        "the rows of `{}` cannot be kept for undo: it is a virtual table; a tool that writes it must \
                         not be `reversible`",
                        query.target
                    )));
                }
                _ => {}
            }
            if schema::has_truth_column(connection, &query.target.name)? {
                let why = format!("`{}` has a column called `true` or `false`", query.target);
                return Err(Trouble::Argument(why));
            }
            reach.exact = query.exact;
            replaces |= query.verb != Verb::Delete && schema::may_replace(connection, &query.target.name)?;
            let count = one(connection, &query.count(limits.measure_rows_max).text, &work.arguments)?;
            add(&mut reach, &query.target, count, limits);
            let change = match query.verb {
                Verb::Delete => Some(Change::Delete),
                Verb::Update | Verb::Insert => Some(Change::Update(changed(connection, statement)?)),
                _ => None,
            };
            let all = format!("SELECT * FROM {}", named(&query.target));
            // Which rows an upsert updates is not seen, and it may update one row again and again.
            let (rows, again) = match &query.source {
                RowSource::Query { sample, .. } if query.verb != Verb::Insert => (&sample.text, false),
                RowSource::Query { .. } | RowSource::Known(_) => (&all, true),
            };
            if let Some(change) = change {
                let taken = along(connection, work, &query.target, rows, &change, &keys, &mut reach, limits)?;
                reach.unbounded |= again && !taken.is_empty();
                affected.extend(taken);
            }
            if let Some(rows) = query.sample(SAMPLE_ROWS) {
                let made_up = mask.of_made_up();
                let mask = if query.verb == Verb::Insert { &made_up } else { mask };
                sample = sampled(connection, &query.target, &rows.text, &work.arguments, mask)?;
            }
        }
        Sizing::Whole { tables, .. } => {
            for table in tables {
                let rows = format!("SELECT * FROM {}", named(table));
                let stop = limits.measure_rows_max.saturating_add(1);
                let count = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {stop})", named(table));
                let count = one(connection, &count, &work.arguments)?;
                add(&mut reach, table, count, limits);
                // Dropping a table first deletes its rows, with what that takes along.
                if statement.verb == Verb::Drop {
                    let change = Change::Delete;
                    let taken = along(connection, work, table, &rows, &change, &keys, &mut reach, limits)?;
                    affected.extend(taken);
                }
                if sample.is_none() {
                    let text = format!("{rows} LIMIT {SAMPLE_ROWS}");
                    sample = sampled(connection, table, &text, &work.arguments, mask)?;
                }
            }
        }
    }
    reach.triggers = schema::triggers(connection, &affected)?;
    // What triggers do is not counted.
    reach.exact = reach.exact && !reach.unbounded && reach.triggers.is_empty();
    let measured = Measured { reach, sample };
    // Beyond the bound the number is too large already, and the whole change need not run for it.
    let rehearsed = replaces && !measured.reach.unbounded;
    Ok(if rehearsed { Sized::MayReplace(measured) } else { Sized::Counted(measured) })
}

/// Which columns a statement updates. SQLite's own compiler tells them.
fn changed(connection: &mut Connection, statement: &Statement) -> Result<Option<BTreeSet<String>>, Trouble> {
    let columns: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let heard = Arc::clone(&columns);
    let target = statement.writes.first().map(|table| table.name.clone()).unwrap_or_default();
    connection.authorizer(Some(move |context: AuthContext<'_>| {
        if let AuthAction::Update { table_name, column_name } = context.action
            && context.accessor.is_none()
            && table_name.eq_ignore_ascii_case(&target)
        {
            let mut columns = heard.lock().unwrap_or_else(PoisonError::into_inner);
            columns.insert(column_name.to_ascii_lowercase());
        }
        Authorization::Allow
    }))?;
    // Compiled, never run: the connection cannot write anyway.
    let compiled = connection.prepare(&statement.text).map(drop);
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    compiled?;
    let columns = std::mem::take(&mut *columns.lock().unwrap_or_else(PoisonError::into_inner));
    // The rowid may be a column with a name of its own.
    Ok((!columns.contains("rowid")).then_some(columns))
}

/// Counts what foreign keys take along, and says which tables that concerns.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of measuring, with what it reads and what it adds to"
)]
fn along(
    connection: &Connection,
    work: &Work,
    target: &TableRef,
    rows: &str,
    change: &Change,
    keys: &[ActingKey],
    reach: &mut Reach,
    limits: &SqlLimits,
) -> Result<BTreeSet<String>, Trouble> {
    let traits =
        schema::traits(connection, &touched(target, keys).into_iter().chain([target.clone()]).collect())?;
    let limit = limits.measure_rows_max;
    let query = cascade_query(Dialect::Sqlite, target, rows, change, keys, &traits, limit);
    let Some(query) = query else { return Ok(BTreeSet::new()) };
    reach.exact &= query.exact;
    reach.unbounded |= query.unbounded;
    let mut prepared = connection.prepare(&query.text)?;
    bind(&mut prepared, &work.arguments)?;
    let mut cursor = prepared.raw_query();
    let Some(row) = cursor.next()? else { return Ok(BTreeSet::new()) };
    for (at, table) in query.tables.iter().enumerate() {
        let count = u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0);
        if query.itself == Some(at) {
            let named = reach.tables.get(&table.to_string()).copied().unwrap_or(0);
            let more = count.saturating_sub(named);
            reach.cascades = reach.cascades.saturating_add(more);
            add(reach, table, more, limits);
        } else {
            reach.cascades = reach.cascades.saturating_add(count);
            add(reach, table, count, limits);
        }
    }
    Ok(query.tables.into_iter().map(|table| table.name).collect())
}

fn add(reach: &mut Reach, table: &TableRef, count: u64, limits: &SqlLimits) {
    if count > limits.measure_rows_max {
        reach.unbounded = true;
    }
    reach.rows = reach.rows.saturating_add(count);
    let known = reach.tables.entry(table.to_string()).or_insert(0);
    *known = known.saturating_add(count);
}

fn one(connection: &Connection, sql: &str, arguments: &Map<String, Value>) -> Result<u64, Trouble> {
    let mut prepared = connection.prepare(sql)?;
    bind(&mut prepared, arguments)?;
    let mut cursor = prepared.raw_query();
    let row = cursor.next()?;
    let count: i64 = row.map_or(Ok(0), |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

fn sampled(
    connection: &Connection,
    table: &TableRef,
    sql: &str,
    arguments: &Map<String, Value>,
    mask: &Mask,
) -> Result<Option<Sample>, Trouble> {
    let mask =
        &if mask.is_empty() { mask.clone() } else { mask.of(&schema::origin(connection, &table.name)?) };
    let mut prepared = connection.prepare(sql)?;
    bind(&mut prepared, arguments)?;
    let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
    let mut rows = Vec::new();
    let mut cursor = prepared.raw_query();
    while let Some(row) = cursor.next()? {
        let mut values = Vec::with_capacity(columns.len());
        for (at, column) in columns.iter().enumerate() {
            let value = value::shown(row.get_ref(at)?).unwrap_or_else(|_| Value::from("(not text)"));
            values.push(mask.shown(&table.name, column, value));
        }
        rows.push(values);
    }
    Ok((!rows.is_empty()).then(|| Sample { table: table.to_string(), columns, rows }))
}

fn interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

fn failed(trouble: &Trouble) -> ToolError {
    let message = told(trouble);
    let unavailable = match trouble {
        Trouble::Sqlite(error) => matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::CannotOpen
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DiskFull
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::ReadOnly
                    | ErrorCode::PermissionDenied
            )
        ),
        Trouble::Recorded(_) => return ToolError::InDoubt { message },
        Trouble::Row(_) | Trouble::Argument(_) | Trouble::Result(_) => false,
    };
    if unavailable { ToolError::Unavailable { message } } else { ToolError::Failed { message } }
}

/// What went wrong, without the path of the file.
fn told(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Sqlite(error) if interrupted(error) => "the statement took too long, and was stopped".into(),
        Trouble::Sqlite(error) => match error {
            rusqlite::Error::SqlInputError { msg, .. } => format!("the database says: {msg}"),
            rusqlite::Error::SqliteFailure(code, Some(message)) => match code.code {
                ErrorCode::CannotOpen => "the database file cannot be opened".into(),
                ErrorCode::AuthorizationForStatementDenied => {
                    format!("the statement reaches beyond what its tool may touch: {message}")
                }
                _ => format!("the database says: {message}"),
            },
            rusqlite::Error::SqliteFailure(code, None) => format!("the database says: {code}"),
            other => format!("the database library says: {other}"),
        },
        Trouble::Row(why) => why.to_string(),
        Trouble::Argument(why) | Trouble::Recorded(why) => why.clone(),
        Trouble::Result(why) => format!("{why}; nothing was changed"),
    }
}

#[cfg(test)]
mod tests;
