//! Measuring what a statement would touch, in a transaction in which the server refuses every change.

use std::{sync::Arc, time::Duration};

use countersign_gate::{Credential, MeasureError, Measured, Sample};
use countersign_sql::{Dialect, Query, RowSource, TableRef, Verb};
use deadpool_postgres::Object;
use futures::{TryStreamExt as _, pin_mut};
use serde_json::Value;
use tokio::time::error::Elapsed;
use tokio_postgres::{Row, Statement, Transaction};

use super::{
    GRACE, PostgresDatabase,
    connection::{forget, snapshot},
    fault::{PostgresFault, unmeasured},
    schema::{self, About},
    value::{Argument, Cell},
};
use crate::{
    definition::SqlLimits,
    secret::Scrubber,
    sql::{
        cascade::{ActingKey, CascadeQuery, Change, cascade_query, named, touched},
        mask::Mask,
        statement::{Scope, Sizing},
        tally::{SAMPLE_ROWS, Tally},
        work::Work,
    },
};

impl PostgresDatabase {
    /// Measures what a statement would touch, in a transaction in which the server refuses every change.
    pub(super) async fn measure(
        &self,
        credential: &Credential,
        scope: &Scope,
        work: Arc<Work>,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        let scrubber = self.connections.scrubber(credential);
        let wait = Duration::from_millis(self.target.limits.measure_timeout_ms);
        let _permit = self.measuring_turn(wait).await?;
        let mut client = self.connections.connect(credential).await?;
        let mask = mask.keeping_out(scrubber.clone());
        let measuring = self.measure_with(&mut client, scope, &work, &mask);
        // The whole of it, of which each statement has its own timeout as well.
        let outcome = tokio::time::timeout(wait.saturating_add(GRACE), measuring).await;
        measured(client, &scrubber, wait, outcome)
    }

    async fn measure_with(
        &self,
        client: &mut Object,
        scope: &Scope,
        work: &Work,
        mask: &Mask,
    ) -> Result<Measured, PostgresFault> {
        let limits = &self.target.limits;
        // One snapshot, so that every count is of the same moment.
        let tx = snapshot(client).await?;
        tx.batch_execute(&self.sparing(limits.measure_timeout_ms)).await?;
        let tally = Tally::new(limits.measure_rows_max);
        let measured = Measuring { tx: &tx, scope, work, limits, tally }.all(mask).await?;
        tx.rollback().await?;
        Ok(measured)
    }
}

/// Tells what was measured within `wait`. The connection is given back only where it is as it was.
pub(super) fn measured<T>(
    client: Object,
    scrubber: &Scrubber,
    wait: Duration,
    outcome: Result<Result<T, PostgresFault>, Elapsed>,
) -> Result<T, MeasureError> {
    match outcome {
        Ok(Ok(measured)) => Ok(measured),
        Ok(Err(fault)) => {
            let why = unmeasured(scrubber, &fault);
            forget(client, &fault);
            Err(why)
        }
        Err(_elapsed) => {
            drop(Object::take(client));
            Err(MeasureError::Limit(format!("it took longer than {} ms", wait.as_millis())))
        }
    }
}

/// One measurement under way.
struct Measuring<'m> {
    tx: &'m Transaction<'m>,
    scope: &'m Scope,
    work: &'m Work,
    limits: &'m SqlLimits,
    tally: Tally,
}

impl Measuring<'_> {
    async fn all(mut self, mask: &Mask) -> Result<Measured, PostgresFault> {
        let statement = &self.work.statement;
        let mut affected = Vec::new();
        let mut sample = None;
        match &statement.sizing {
            Sizing::None => {}
            Sizing::Unknown(why) => return Err(PostgresFault::Other(why.clone())),
            Sizing::Query(query) => {
                let target = self.resolved(&query.target).await?;
                affected.push(target.clone());
                self.tally.reach.exact = query.exact;
                let count = query.count(self.limits.measure_rows_max);
                if matches!(query.source, RowSource::Query { .. }) {
                    self.affordable(&count).await?;
                }
                let count = self.count(&count).await?;
                self.add(&target, count);
                let all = plain(format!("SELECT * FROM {}", named(&target)));
                let columns = query.columns.clone();
                let (rows, change) = match (query.verb, &query.source) {
                    (Verb::Delete | Verb::Truncate, RowSource::Query { sample, .. }) => {
                        (sample, Change::Delete)
                    }
                    (Verb::Update, RowSource::Query { sample, .. }) => (sample, Change::Update(columns)),
                    // Which rows an upsert updates is not seen; each of them it updates once.
                    (_, RowSource::Query { .. } | RowSource::Known(_)) => (&all, Change::Update(columns)),
                };
                affected.extend(self.along(&target, rows, change, count).await?);
                if let Some(rows) = query.sample(SAMPLE_ROWS) {
                    let made_up = mask.of_made_up();
                    let mask = if query.verb == Verb::Insert { &made_up } else { mask };
                    sample = self.sampled(&target, &rows, mask).await?;
                }
            }
            Sizing::Whole { tables, along } => {
                let mut whole = Vec::new();
                for table in tables {
                    whole.push(self.resolved(table).await?);
                }
                if *along {
                    affected.extend(whole.clone());
                    whole = schema::emptied(self.tx.client(), &whole).await?;
                }
                let about = schema::about(self.tx.client(), &whole.iter().cloned().collect()).await?;
                // It takes what we cannot see as well.
                self.tally.reach.unbounded |= !about.hidden.is_empty();
                for target in whole {
                    let (stop, all) =
                        (self.limits.measure_rows_max.saturating_add(1), rows_of(&target, *along));
                    let count = format!("SELECT count(*) FROM (SELECT 1 FROM {all} LIMIT {stop}) AS q");
                    let count = self.count(&plain(count)).await?;
                    self.add(&target, count);
                    if sample.is_none() {
                        let text = format!("SELECT * FROM {all} LIMIT {SAMPLE_ROWS}");
                        sample = self.sampled(&target, &plain(text), mask).await?;
                    }
                    affected.push(target);
                }
            }
        }
        let triggers = schema::triggers(self.tx.client(), &affected).await?;
        Ok(Measured { reach: self.tally.reached(triggers), sample })
    }

    async fn resolved(&self, table: &TableRef) -> Result<TableRef, PostgresFault> {
        match schema::resolve(self.tx.client(), table).await? {
            None => Err(PostgresFault::Other(format!("there is no table `{table}`"))),
            Some(found) if matches!(found.kind.as_str(), "r" | "p") => Ok(found.table),
            Some(_) => Err(PostgresFault::Other(format!(
                "`{table}` is no ordinary table, so its rows cannot be counted"
            ))),
        }
    }

    /// Asks the planner first, so that counting cannot hurt.
    async fn affordable(&self, query: &Query) -> Result<(), PostgresFault> {
        let statement = self.tx.prepare(&format!("EXPLAIN (FORMAT JSON) {}", query.text)).await?;
        let row = self.one(&statement, &query.parameters).await?;
        let plan: Value = row.try_get(0)?;
        let cost = plan.pointer("/0/Plan/Total Cost").and_then(Value::as_f64).unwrap_or(f64::INFINITY);
        #[expect(clippy::cast_precision_loss, reason = "a limit this large is no exact number to anybody")]
        let most = self.limits.measure_cost_max as f64;
        if cost <= most {
            return Ok(());
        }
        Err(PostgresFault::Other(format!(
            "counting its rows is estimated to cost {cost:.0}, more than {most:.0}"
        )))
    }

    async fn count(&self, query: &Query) -> Result<u64, PostgresFault> {
        let statement = self.tx.prepare(&query.text).await?;
        let row = self.one(&statement, &query.parameters).await?;
        let Cell(count) = row.try_get(0)?;
        Ok(count.as_u64().unwrap_or(0))
    }

    async fn one(&self, statement: &Statement, parameters: &[u32]) -> Result<Row, PostgresFault> {
        let stream = self.tx.query_raw(statement, self.arguments(parameters)).await?;
        pin_mut!(stream);
        stream.try_next().await?.ok_or_else(|| PostgresFault::Other("there is no count".into()))
    }

    /// Counts what foreign keys take along, and says which tables that concerns. `count`: the rows named.
    async fn along(
        &mut self,
        target: &TableRef,
        rows: &Query,
        change: Change,
        count: u64,
    ) -> Result<Vec<TableRef>, PostgresFault> {
        let client = self.tx.client();
        let keys: Vec<ActingKey> = schema::acting_keys(client).await?;
        let mut all = touched(target, &keys);
        all.insert(target.clone());
        let About { traits, hidden } = schema::about(client, &all).await?;
        // Row security may let a statement change fewer rows than it lets us see, and never more.
        self.tally.reach.exact &= !hidden.contains(target);
        let change = match change {
            Change::Delete => Change::Delete,
            // A trigger may change other columns as well.
            Change::Update(_)
                if !schema::triggers(client, std::slice::from_ref(target)).await?.is_empty() =>
            {
                Change::Update(None)
            }
            Change::Update(columns) => Change::Update(columns),
        };
        if let Change::Update(columns) = &change
            && columns.as_ref().is_none_or(|columns| !columns.is_empty())
            && traits.get(target).is_some_and(|traits| traits.moves(columns.as_ref()))
        {
            // A row that moves to another partition is deleted and inserted.
            self.tally.reach.exact = false;
            self.add(target, count);
            let keys_act = keys.iter().any(|key| key.parent == *target);
            self.tally.reach.unbounded |= keys_act && schema::deletes_to_move(client).await?;
        }
        let limit = self.limits.measure_rows_max;
        let query = cascade_query(Dialect::Postgres, target, &rows.text, &change, &keys, &traits, limit);
        let Some(CascadeQuery { text, tables, itself, exact, unbounded }) = query else {
            return Ok(Vec::new());
        };
        self.tally.reach.exact &= exact;
        // Keys act on rows that we are not shown, too: also on more of the table's own.
        self.tally.reach.unbounded |= unbounded || tables.iter().any(|table| hidden.contains(table));
        let counts = Query { text, parameters: rows.parameters.clone() };
        self.affordable(&counts).await?;
        let statement = self.tx.prepare(&counts.text).await?;
        let row = self.one(&statement, &counts.parameters).await?;
        for (at, table) in tables.iter().enumerate() {
            let count: i64 = row.try_get(at)?;
            let count = u64::try_from(count).unwrap_or(0);
            self.tally.add_along(self.scope.settled(table).to_string(), count, itself == Some(at));
        }
        Ok(tables)
    }

    fn add(&mut self, table: &TableRef, count: u64) {
        self.tally.add(self.scope.settled(table).to_string(), count);
    }

    async fn sampled(
        &self,
        table: &TableRef,
        query: &Query,
        mask: &Mask,
    ) -> Result<Option<Sample>, PostgresFault> {
        let mask = &schema::masked(self.tx.client(), mask, table).await?;
        let statement = self.tx.prepare(&query.text).await?;
        let columns: Vec<String> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
        let stream = self.tx.query_raw(&statement, self.arguments(&query.parameters)).await?;
        pin_mut!(stream);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await? {
            let values = row.columns().iter().enumerate().map(|(at, column)| {
                let value = match row.try_get::<_, Cell>(at) {
                    Ok(Cell(value)) => value,
                    Err(_) => Value::from(format!("({})", column.type_())),
                };
                mask.shown(&table.name, column.name(), value)
            });
            rows.push(values.collect());
        }
        let name = self.scope.settled(table).to_string();
        Ok((!rows.is_empty()).then_some(Sample { table: name, columns, rows }))
    }

    /// The values of a query's parameters, given which parameter of the statement each takes.
    fn arguments(&self, parameters: &[u32]) -> Vec<Argument> {
        let all = &self.work.statement.parameters;
        let value = |number: &u32| {
            let at = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
            let name = all.get(at).map_or("", String::as_str);
            Argument(self.work.arguments.get(name).cloned().unwrap_or(Value::Null))
        };
        parameters.iter().map(value).collect()
    }
}

/// A table as a statement that takes all of its rows means it. Where those that refer to it go along, its
/// children are named beside it.
pub(super) fn rows_of(table: &TableRef, along: bool) -> String {
    if along { format!("ONLY {}", named(table)) } else { named(table) }
}

/// A query of ours, without parameters.
const fn plain(text: String) -> Query {
    Query { text, parameters: Vec::new() }
}
