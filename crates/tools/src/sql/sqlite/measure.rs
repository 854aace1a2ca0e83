//! Measuring what a statement would touch, on a connection that can only read.
#![expect(clippy::wildcard_enum_match_arm, reason = "the verbs of SQL: those not named are treated alike")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_gate::{MeasureError, Measured, Sample};
use countersign_rules::Reach;
use countersign_sql::{Dialect, RowSource, TableRef, Verb};
use rusqlite::{Connection, ErrorCode, hooks::AuthAction, hooks::AuthContext, hooks::Authorization};
use serde_json::{Map, Value};

use super::{
    SqliteDatabase,
    connection::{limit_time, unlimited},
    fault::{Trouble, interrupted, told},
    read::bind,
    schema, value,
};
use crate::{
    definition::SqlLimits,
    sql::{
        cascade::{ActingKey, Change, cascade_query, named, touched},
        mask::Mask,
        statement::{Sizing, Statement},
        tally::SAMPLE_ROWS,
        work::Work,
    },
};

/// What counting came to.
enum Sized {
    Counted(Measured),
    /// What the rows of the statement are; which others it deletes is not seen.
    MayReplace(Measured),
}

impl SqliteDatabase {
    /// Measures what a statement would touch, on a connection that can only read.
    pub(super) async fn measure(&self, work: Arc<Work>, mask: Mask) -> Result<Measured, MeasureError> {
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

    /// Runs something that reads, in one transaction so that all it sees is of the same moment.
    pub(super) async fn measuring<T: Send + 'static>(
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
