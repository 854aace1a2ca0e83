//! Writing within a warrant, or not at all: one transaction, with the check inside it; and the same without its commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_gate::{Limits, MeasureError, Performed, ToolError};
use countersign_rules::Reach;
use countersign_sql::{Category, TableRef};
use rusqlite::Connection;

use super::{
    SqliteDatabase,
    connection::{Access, limit, rolled_back, unlimited},
    fault::{SqliteFault, failed, interrupted, told},
    image::Recorder,
    journal,
    read::{bind, collect},
    schema,
};
use crate::{
    definition::SqlLimits,
    sql::{
        cascade::{named, touched},
        journal::{Mark, RESERVED},
        statement::{AdmittedStatement, Sizing},
        tally::sum,
        value::Rows,
        work::Work,
    },
};

impl SqliteDatabase {
    /// Writes, within the warrant or not at all; under this mark where the file keeps a journal.
    pub(super) async fn write(
        &self,
        work: Arc<Work>,
        bounds: &Limits,
        mark: Option<Mark>,
    ) -> Result<Performed, ToolError> {
        let Some(mut turn) = self.connections.write_turn().await else {
            return Err(ToolError::Unavailable { message: "the database is busy with another write".into() });
        };
        let (limits, bounds) = (self.limits, bounds.clone());
        let kept = self.journal.as_ref().map(|settings| settings.bytes_max);
        let (path, known) = (self.path.clone(), Arc::clone(&self.known));
        let task = tokio::task::spawn_blocking(move || {
            if let Some(mark) = &mark
                && let Err(error) = journal::intended(&mut turn, &path, mark, &known)
            {
                turn.discard();
                return Err(error);
            }
            let connection = match turn.connection() {
                Ok(connection) => connection,
                Err(error) => return Err(failed(&SqliteFault::Sqlite(error))),
            };
            let outcome = write(connection, &work, &bounds, &limits, mark.as_ref(), kept);
            // A connection that is not back where it started is closed, which rolls back what is open on it.
            let clean =
                unlimited(connection).is_ok() && unheard(connection).is_ok() && connection.is_autocommit();
            if !clean {
                turn.discard();
            }
            outcome
        });
        // A panic may have come after the commit.
        task.await.unwrap_or_else(|_| Err(ToolError::InDoubt { message: "writing failed on the way".into() }))
    }

    /// Runs a change and rolls it back. Only so is it seen which rows `REPLACE` deletes, and what goes with
    /// them. It takes the lock of a writer for as long as measuring may take.
    pub(super) async fn rehearse(&self, work: Arc<Work>) -> Result<Reach, MeasureError> {
        let Some(mut turn) = self.connections.write_turn().await else {
            return Err(MeasureError::Limit("the database is busy with another write".into()));
        };
        let statement_timeout_ms = self.limits.statement_timeout_ms.min(self.limits.measure_timeout_ms);
        let limits = SqlLimits { statement_timeout_ms, ..self.limits };
        // What could not be undone is found out before anybody is asked.
        let kept = self.journal.as_ref().filter(|_| work.images).map(|settings| settings.bytes_max);
        let task = tokio::task::spawn_blocking(move || {
            let system = |error| MeasureError::System(told(&SqliteFault::Sqlite(error)));
            let connection = turn.connection().map_err(system)?;
            connection.execute_batch("BEGIN IMMEDIATE").map_err(system)?;
            let recorder = kept.map_or_else(
                || Ok(Recorder::default()),
                |bytes_max| Recorder::keeping(connection, bytes_max).map_err(SqliteFault::Sqlite),
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
                turn.discard();
            }
            match outcome {
                Ok((_, reach)) => Ok(reach),
                Err(SqliteFault::Sqlite(error)) if interrupted(&error) => {
                    Err(MeasureError::Limit(format!("it took longer than {statement_timeout_ms} ms")))
                }
                Err(fault) => Err(MeasureError::NotMeasurable(told(&fault))),
            }
        });
        task.await.unwrap_or_else(|_| Err(MeasureError::System("measuring failed".into())))
    }
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
        return Err(failed(&SqliteFault::Sqlite(error)));
    }
    let done = recorded(connection, work, limits, mark, bytes_max);
    // What follows is ours: the statement is done.
    let unlimited = unlimited(connection).map_err(SqliteFault::Sqlite);
    let (rows, reach, recorder) = match done.and_then(|done| unlimited.map(|()| done)) {
        Ok(done) => done,
        Err(fault) => return Err(rolled_back(connection, failed(&fault))),
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
    if let Err(fault) = kept {
        return Err(rolled_back(connection, failed(&fault)));
    }
    match connection.execute_batch("COMMIT") {
        // A crash here leaves the effect done and its outcome unrecorded: the gate finds the call in doubt, and
        // the journal, where there is one, tells that it happened.
        Ok(()) => Ok(Performed { reply: rows.changed(count), rows: count, amount: None }),
        // The transaction is still open, so it has not happened: readers kept it from committing, or a
        // deferred foreign key refuses.
        Err(error) if !connection.is_autocommit() => {
            Err(rolled_back(connection, failed(&SqliteFault::Sqlite(error))))
        }
        // SQLite ended the transaction itself while committing. Pages may have reached the log before the
        // disk failed, and a later recovery may find them.
        Err(error) => {
            let message = format!("the commit failed on the way: {}", told(&SqliteFault::Sqlite(error)));
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
) -> Result<(Rows, Reach, Recorder), SqliteFault> {
    let mut recorder = Recorder::default();
    if let Some(mark) = mark {
        journal::record(connection, mark, None)?;
        if mark.images {
            recorder = Recorder::keeping(connection, bytes_max.unwrap_or(0))?;
        }
    }
    change(connection, work, limits, recorder)
}

/// Runs the statement and counts what it touched, triggers and cascades included.
fn change(
    connection: &mut Connection,
    work: &Work,
    limits: &SqlLimits,
    recorder: Recorder,
) -> Result<(Rows, Reach, Recorder), SqliteFault> {
    let ran = run(connection, work, limits, recorder)?;
    let (rows, reach, recorder) = counted(connection, work, ran)?;
    work.fits(|| rows.changed(reach.rows)).map_err(SqliteFault::Result)?;
    Ok((rows, reach, recorder))
}

/// A statement that ran, and all that is known of the rows that it touched.
struct Ran {
    rows: Rows,
    recorder: Recorder,
    /// Rows that changed in all, however they are told.
    total: u64,
    /// Rows that SQLite counts for the statement itself.
    changed: u64,
    /// Rows of tables that went as a whole, counted before.
    whole: BTreeMap<String, u64>,
    /// The tables in which virtual tables keep what they hold, with those virtual tables.
    shadows: BTreeMap<String, String>,
    /// Tables that foreign keys may have taken along.
    cascades: BTreeSet<String>,
}

/// Runs the statement within what it may touch, and listens to what it does.
fn run(
    connection: &mut Connection,
    work: &Work,
    limits: &SqlLimits,
    recorder: Recorder,
) -> Result<Ran, SqliteFault> {
    let statement = &work.statement;
    let keys = schema::acting_keys(connection)?;
    let cascades: BTreeSet<TableRef> = statement.writes.iter().flat_map(|t| touched(t, &keys)).collect();
    let cascades: BTreeSet<String> = cascades.into_iter().map(|table| table.name).collect();
    let whole = emptied(connection, statement)?;
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
    let recorder = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    if journal != journal::tables(connection)? {
        return Err(SqliteFault::Argument(format!(
            "names that begin with `{RESERVED}` belong to the journal"
        )));
    }
    Ok(Ran { rows, recorder, total, changed, whole, shadows, cascades })
}

/// Counts what a statement touched, by table.
fn counted(connection: &Connection, work: &Work, ran: Ran) -> Result<(Rows, Reach, Recorder), SqliteFault> {
    let Ran { rows, mut recorder, total, changed, whole, shadows, cascades } = ran;
    let statement = &work.statement;
    let (mut per_table, direct) = recorder.counts();
    let told = sum(&per_table);
    let rest = total.saturating_sub(told);
    let target = statement.writes.first().map(|target| target.name.clone());
    to_owners(&mut per_table, &shadows, target.as_ref(), changed, rest);
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
    let mut tables: BTreeSet<String> = statement.writes.iter().map(|table| table.name.clone()).collect();
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
    Ok((rows, reach, recorder))
}

/// Counts the rows that go with their table: they are not told. They are counted before.
fn emptied(
    connection: &Connection,
    statement: &AdmittedStatement,
) -> Result<BTreeMap<String, u64>, SqliteFault> {
    let mut whole = BTreeMap::new();
    if let Sizing::Whole { tables: gone, .. } = &statement.sizing {
        for table in gone {
            let sql = format!("SELECT count(*) FROM {}", named(table));
            let rows: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
            whole.insert(table.to_string(), u64::try_from(rows).unwrap_or(0));
        }
    }
    Ok(whole)
}

/// Counts the rows that modules keep for virtual tables as rows of these. `rest`: those that changed and were not told;
/// `changed`: those of the table that the statement names.
///
/// Rows of virtual tables are not told one by one. Of the one that is named SQLite says how many changed; of one
/// that a trigger writes to, what its module writes elsewhere for it counts in its place, which is no fewer.
fn to_owners(
    per_table: &mut BTreeMap<String, u64>,
    shadows: &BTreeMap<String, String>,
    target: Option<&String>,
    changed: u64,
    rest: u64,
) {
    let mut behind: BTreeMap<&String, u64> = BTreeMap::new();
    for (table, rows) in &*per_table {
        if let Some(owner) = shadows.get(table) {
            let known = behind.entry(owner).or_insert(0);
            *known = known.saturating_add(*rows);
        }
    }
    per_table.retain(|table, _| !shadows.contains_key(table));
    let named = target.filter(|target| shadows.values().any(|owner| owner == *target));
    if let Some(named) = named {
        per_table.insert(named.clone(), changed);
    } else if let Some(first) = behind.keys().next().map(|owner| (*owner).clone()) {
        for (owner, rows) in behind {
            per_table.insert(owner.clone(), rows);
        }
        let known = per_table.entry(first).or_insert(0);
        *known = known.saturating_add(rest);
    } else if rest > 0
        && let Some(target) = target
    {
        let count = per_table.entry(target.clone()).or_insert(0);
        *count = count.saturating_add(rest);
    }
}

/// Stops listening to changes.
fn unheard(connection: &mut Connection) -> rusqlite::Result<()> {
    connection
        .preupdate_hook(None::<fn(rusqlite::hooks::Action, &str, &str, &rusqlite::hooks::PreUpdateCase)>)
}
