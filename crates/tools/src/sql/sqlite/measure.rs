//! Measuring what a statement would touch, on a connection that can only read.
#![expect(clippy::wildcard_enum_match_arm, reason = "the verbs of SQL: those not named are treated alike")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_gate::{MeasureError, Measured, Sample};
use countersign_rules::Reach;
use countersign_sql::{Dialect, ReachQuery, RowSource, TableRef, Verb};
use rusqlite::{Connection, ErrorCode, hooks::AuthAction, hooks::AuthContext, hooks::Authorization};
use serde_json::Value;

use super::{
    SqliteDatabase,
    connection::{limit_time, unlimited},
    fault::{SqliteFault, interrupted, told},
    read::bind,
    schema, value,
};
use crate::{
    definition::SqlLimits,
    sql::{
        cascade::{ActingKey, Change, cascade_query, named, touched},
        mask::Mask,
        statement::{AdmittedStatement, Sizing},
        tally::{SAMPLE_ROWS, Tally},
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
        work: impl FnOnce(&mut Connection, &SqlLimits) -> Result<T, SqliteFault> + Send + 'static,
    ) -> Result<T, MeasureError> {
        let wait = Duration::from_millis(self.limits.measure_timeout_ms);
        let permit = tokio::time::timeout(wait, Arc::clone(&self.measuring).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(MeasureError::Limit("too many measurements of this database run at once".into()));
        };
        let Some(turn) = self.connections.read_turn().await else {
            return Err(MeasureError::Limit("the database is busy with other reads".into()));
        };
        let limits = self.limits;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut why = None;
            let measured = turn.run(|connection| {
                limit_time(connection, wait)?;
                connection.execute_batch("BEGIN")?;
                let outcome = work(connection, &limits);
                let ended = connection.execute_batch("ROLLBACK");
                unlimited(connection)?;
                ended?;
                match outcome {
                    Ok(measured) => Ok(Some(measured)),
                    Err(SqliteFault::Sqlite(error)) => Err(error),
                    Err(other) => {
                        why = Some(other);
                        Ok(None)
                    }
                }
            });
            match (measured, why) {
                (Ok(Some(measured)), _) => Ok(measured),
                (Ok(None), Some(fault)) => Err(MeasureError::NotMeasurable(told(&fault))),
                (Ok(None), None) => Err(MeasureError::NotMeasurable("there is no count".into())),
                (Err(error), _) if interrupted(&error) => {
                    Err(MeasureError::Limit(format!("it took longer than {} ms", wait.as_millis())))
                }
                (Err(error), _) => {
                    let at_fault = matches!(error, rusqlite::Error::SqlInputError { .. })
                        || error.sqlite_error_code() == Some(ErrorCode::AuthorizationForStatementDenied);
                    let why = told(&SqliteFault::Sqlite(error));
                    Err(if at_fault { MeasureError::Rejected(why) } else { MeasureError::System(why) })
                }
            }
        });
        task.await.unwrap_or_else(|_| Err(MeasureError::System("measuring failed".into())))
    }
}

/// One measurement under way.
struct Measuring<'m> {
    connection: &'m mut Connection,
    work: &'m Work,
    mask: &'m Mask,
    limits: &'m SqlLimits,
    keys: Vec<ActingKey>,
    tally: Tally,
    sample: Option<Sample>,
    /// The tables whose rows may change.
    affected: BTreeSet<String>,
    /// Whether rows may be deleted that are not seen.
    replaces: bool,
}

fn measure(
    connection: &mut Connection,
    work: &Work,
    mask: &Mask,
    limits: &SqlLimits,
) -> Result<Sized, SqliteFault> {
    let statement = &work.statement;
    let keys = schema::acting_keys(connection)?;
    let tally = Tally::new(limits.measure_rows_max);
    let affected: BTreeSet<String> = statement.writes.iter().map(|table| table.name.clone()).collect();
    let (sample, replaces) = (None, statement.replaces);
    let mut measuring = Measuring { connection, work, mask, limits, keys, tally, sample, affected, replaces };
    match &statement.sizing {
        Sizing::None => {}
        Sizing::Unknown(why) => return Err(SqliteFault::Argument(why.clone())),
        Sizing::Query(query) => measuring.query(query)?,
        Sizing::Whole { tables, .. } => measuring.whole(tables)?,
    }
    measuring.sized()
}

impl Measuring<'_> {
    /// Counts the rows that a query finds, and what goes along with them.
    fn query(&mut self, query: &ReachQuery) -> Result<(), SqliteFault> {
        match schema::kind(self.connection, &query.target.name)?.as_deref() {
            Some("view") => return Err(SqliteFault::Argument(format!("`{}` is a view", query.target))),
            Some("virtual") if self.work.images => {
                return Err(SqliteFault::Argument(format!(
                    "the rows of `{}` cannot be kept for undo: it is a virtual table; a tool that writes it must \
                     not be `reversible`",
                    query.target
                )));
            }
            _ => {}
        }
        if schema::has_truth_column(self.connection, &query.target.name)? {
            let why = format!("`{}` has a column called `true` or `false`", query.target);
            return Err(SqliteFault::Argument(why));
        }
        self.tally.reach.exact = query.exact;
        self.replaces |=
            query.verb != Verb::Delete && schema::may_replace(self.connection, &query.target.name)?;
        let count = self.one(&query.count(self.limits.measure_rows_max).text)?;
        self.tally.add(query.target.to_string(), count);
        let change = match query.verb {
            Verb::Delete => Some(Change::Delete),
            Verb::Update | Verb::Insert => {
                Some(Change::Update(changed(self.connection, &self.work.statement)?))
            }
            _ => None,
        };
        let all = format!("SELECT * FROM {}", named(&query.target));
        // Which rows an upsert updates is not seen, and it may update one row again and again.
        let (rows, again) = match &query.source {
            RowSource::Query { sample, .. } if query.verb != Verb::Insert => (&sample.text, false),
            RowSource::Query { .. } | RowSource::Known(_) => (&all, true),
        };
        if let Some(change) = change {
            let taken = self.along(&query.target, rows, &change)?;
            self.tally.reach.unbounded |= again && !taken.is_empty();
            self.affected.extend(taken);
        }
        if let Some(rows) = query.sample(SAMPLE_ROWS) {
            let made_up = self.mask.of_made_up();
            let mask = if query.verb == Verb::Insert { &made_up } else { self.mask };
            self.sample = self.sampled(&query.target, &rows.text, mask)?;
        }
        Ok(())
    }

    /// Counts all rows of tables, and what goes along with them.
    fn whole(&mut self, tables: &BTreeSet<TableRef>) -> Result<(), SqliteFault> {
        for table in tables {
            let rows = format!("SELECT * FROM {}", named(table));
            let stop = self.limits.measure_rows_max.saturating_add(1);
            let count = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {stop})", named(table));
            let count = self.one(&count)?;
            self.tally.add(table.to_string(), count);
            // Dropping a table first deletes its rows, with what that takes along.
            if self.work.statement.verb == Verb::Drop {
                let taken = self.along(table, &rows, &Change::Delete)?;
                self.affected.extend(taken);
            }
            if self.sample.is_none() {
                let text = format!("{rows} LIMIT {SAMPLE_ROWS}");
                self.sample = self.sampled(table, &text, self.mask)?;
            }
        }
        Ok(())
    }

    fn sized(self) -> Result<Sized, SqliteFault> {
        let triggers = schema::triggers(self.connection, &self.affected)?;
        let measured = Measured { reach: self.tally.reached(triggers), sample: self.sample };
        // Beyond the bound the number is too large already, and the whole change need not run for it.
        let rehearsed = self.replaces && !measured.reach.unbounded;
        Ok(if rehearsed { Sized::MayReplace(measured) } else { Sized::Counted(measured) })
    }

    /// Counts what foreign keys take along, and says which tables that concerns.
    fn along(
        &mut self,
        target: &TableRef,
        rows: &str,
        change: &Change,
    ) -> Result<BTreeSet<String>, SqliteFault> {
        let mut all = touched(target, &self.keys);
        all.insert(target.clone());
        let traits = schema::traits(self.connection, &all)?;
        let limit = self.limits.measure_rows_max;
        let query = cascade_query(Dialect::Sqlite, target, rows, change, &self.keys, &traits, limit);
        let Some(query) = query else { return Ok(BTreeSet::new()) };
        self.tally.reach.exact &= query.exact;
        self.tally.reach.unbounded |= query.unbounded;
        let mut prepared = self.connection.prepare(&query.text)?;
        bind(&mut prepared, &self.work.arguments)?;
        let mut cursor = prepared.raw_query();
        let Some(row) = cursor.next()? else { return Ok(BTreeSet::new()) };
        for (at, table) in query.tables.iter().enumerate() {
            let count = u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0);
            self.tally.add_along(table.to_string(), count, query.itself == Some(at));
        }
        Ok(query.tables.into_iter().map(|table| table.name).collect())
    }

    fn one(&self, sql: &str) -> Result<u64, SqliteFault> {
        let mut prepared = self.connection.prepare(sql)?;
        bind(&mut prepared, &self.work.arguments)?;
        let mut cursor = prepared.raw_query();
        let row = cursor.next()?;
        let count: i64 = row.map_or(Ok(0), |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    fn sampled(&self, table: &TableRef, sql: &str, mask: &Mask) -> Result<Option<Sample>, SqliteFault> {
        let mask = &if mask.is_empty() {
            mask.clone()
        } else {
            mask.of(&schema::origin(self.connection, &table.name)?)
        };
        let mut prepared = self.connection.prepare(sql)?;
        bind(&mut prepared, &self.work.arguments)?;
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
}

/// Tells which columns a statement updates, as SQLite's own compiler sees it.
fn changed(
    connection: &mut Connection,
    statement: &AdmittedStatement,
) -> Result<Option<BTreeSet<String>>, SqliteFault> {
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
