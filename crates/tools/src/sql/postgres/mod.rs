//! PostgreSQL: reading, writing within a warrant, and measuring.
//!
//! Every statement goes by the extended protocol, which takes one statement at a time and its arguments
//! apart from the text. What is true of a failed write follows from when the connection failed:
//!
//! - Before `COMMIT` was sent, nothing has changed and nothing will: the server commits only when told to,
//!   and rolls back when the connection closes, whatever it was busy with.
//! - After `COMMIT` was sent and before its answer came, nobody here can know. That is in doubt.
//! - An error as the answer to `COMMIT` means rolled back (a deferred constraint, a serialization failure),
//!   unless the server says that it is going down: then it may have committed first.
#![expect(clippy::wildcard_enum_match_arm, reason = "the verbs of SQL: those not named are treated alike")]

mod connection;
mod inspect;
mod journal;
mod net;
mod rights;
mod schema;
mod trial;
mod undo;
pub(crate) mod value;
mod write;

pub(crate) use connection::settings;

use std::{sync::Arc, time::Duration};

use countersign_gate::{
    Credential, Doubt, Limits, MeasureError, Measured, Performed, Recalled, Sample, ToolError,
};
use countersign_rules::Reach;
use countersign_sql::{Catalog, Dialect, Query, RowSource, TableRef, Verb};
use deadpool_postgres::Object;
use futures::{TryStreamExt as _, future::BoxFuture, pin_mut};
use secrecy::SecretString;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Error, IsolationLevel, Row, Statement, Transaction, error::SqlState};

use super::{
    cascade::{ActingKey, CascadeQuery, Change, cascade_query, named, quoted, touched},
    database::{Database, Login},
    journal::{Known, Mark, Undoing, Undone},
    mask::Mask,
    statement::{Scope, Sizing},
    value::{BadRow, Room, Rows},
    work::Work,
};
use crate::{
    definition::{PostgresTarget, SqlLimits},
    secret::Scrubber,
};
use connection::Connections;
use schema::About;
use value::{Argument, Cell, has_form};

/// How many rows an approver sees.
const SAMPLE_ROWS: u64 = 5;
/// How much longer than its own timeout a server may take to say so, before we stop listening.
const GRACE: Duration = Duration::from_secs(5);

/// One PostgreSQL database.
#[derive(Debug)]
pub(super) struct PostgresDatabase {
    target: PostgresTarget,
    connections: Connections,
    measuring: Semaphore,
    journal: Known,
}

/// Why a statement did not end well, before any `COMMIT`.
enum Trouble {
    Database(Error),
    Row(BadRow),
    Other(String),
    /// The journal has the call's id already: it took effect before, or was given up.
    Recorded(String),
    /// Rows moved while they were looked at: nothing was changed, and another try may do better.
    Moved(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<BadRow> for Trouble {
    fn from(error: BadRow) -> Self {
        Self::Row(error)
    }
}

/// Each opens the credential anew: it may have changed.
impl Database for PostgresDatabase {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn search_path(&self) -> &[String] {
        &self.target.search_path
    }

    fn inspect<'d>(&'d self, login: Login<'d>) -> BoxFuture<'d, Result<Catalog, String>> {
        Box::pin(async move { self.inspect(&login.credential()?).await })
    }

    fn compile<'d>(&'d self, login: Login<'d>, sql: &'d str) -> BoxFuture<'d, Result<(), String>> {
        Box::pin(async move { self.compile(&login.credential()?, sql).await })
    }

    fn is_locked<'d>(&'d self, login: Login<'d>, lock: i64) -> BoxFuture<'d, Result<bool, String>> {
        Box::pin(async move { self.is_locked(&login.credential()?, lock).await })
    }

    fn read<'d>(
        &'d self,
        login: Login<'d>,
        work: Arc<Work>,
        rows_max: u64,
    ) -> BoxFuture<'d, Result<Performed, ToolError>> {
        Box::pin(async move { self.read(&to_perform(login)?, work, rows_max).await })
    }

    fn write<'d>(
        &'d self,
        login: Login<'d>,
        scope: &'d Scope,
        work: Arc<Work>,
        limits: &'d Limits,
        mark: Option<Mark>,
    ) -> BoxFuture<'d, Result<Performed, ToolError>> {
        Box::pin(async move { self.write(&to_perform(login)?, scope, work, limits, mark).await })
    }

    fn measure<'d>(
        &'d self,
        login: Login<'d>,
        scope: &'d Scope,
        work: Arc<Work>,
        mask: &'d Mask,
    ) -> BoxFuture<'d, Result<Measured, MeasureError>> {
        Box::pin(async move { self.measure(&to_measure(login)?, scope, work, mask).await })
    }

    fn rehearse<'d>(
        &'d self,
        login: Login<'d>,
        scope: &'d Scope,
        work: Arc<Work>,
        mark: Mark,
    ) -> BoxFuture<'d, Result<Reach, MeasureError>> {
        Box::pin(async move {
            let credential = to_measure(login)?;
            // What could not be undone is found out before anybody is asked.
            let mark = if work.images {
                let journal = self.identity(|| login.credential().ok()).await;
                Some(Mark { journal: journal.map(|journal| journal.to_string()), ..mark })
            } else {
                None
            };
            self.rehearse(&credential, scope, &work, mark.as_ref()).await
        })
    }

    fn identity<'d>(&'d self, login: Login<'d>) -> BoxFuture<'d, Option<Arc<str>>> {
        Box::pin(self.identity(move || login.credential().ok()))
    }

    fn recall<'d>(
        &'d self,
        login: Login<'d>,
        doubt: &'d Doubt,
    ) -> BoxFuture<'d, Result<Recalled, MeasureError>> {
        Box::pin(async move { self.recall(&to_measure(login)?, doubt).await })
    }

    fn undo_measure<'d>(
        &'d self,
        login: Login<'d>,
        mark: &'d Mark,
        undoing: &'d Undoing,
        mask: &'d Mask,
    ) -> BoxFuture<'d, Result<Measured, MeasureError>> {
        Box::pin(async move { self.undo_measure(&to_measure(login)?, mark, undoing, mask).await })
    }

    fn undo<'d>(
        &'d self,
        login: Login<'d>,
        mark: Mark,
        undoing: &'d Undoing,
        limits: &'d Limits,
        mask: &'d Mask,
    ) -> BoxFuture<'d, Result<(Undone, u64), ToolError>> {
        Box::pin(async move { self.undo(&to_perform(login)?, mark, undoing, limits, mask).await })
    }

    fn prepare_sql(&self, login: Login<'_>, tables: &[String]) -> Result<String, String> {
        self.prepare_sql(&login.credential()?, tables)
    }

    fn prepare<'d>(
        &'d self,
        login: Login<'d>,
        admin: Option<&'d SecretString>,
        tables: &'d [String],
    ) -> BoxFuture<'d, Result<Vec<String>, String>> {
        Box::pin(async move {
            let admin = admin.ok_or("an administrator's connection string is needed")?;
            self.prepare(&login.credential()?, admin, tables).await
        })
    }

    fn prune<'d>(&'d self, login: Login<'d>) -> BoxFuture<'d, Result<u64, String>> {
        Box::pin(async move { self.prune(&login.credential()?).await })
    }
}

/// Opens the credential for what measures or looks into the journal.
fn to_measure(login: Login<'_>) -> Result<Credential, MeasureError> {
    login.credential().map_err(MeasureError::System)
}

/// Opens the credential for what has an effect.
fn to_perform(login: Login<'_>) -> Result<Credential, ToolError> {
    login.credential().map_err(|message| ToolError::Unavailable { message })
}

impl PostgresDatabase {
    pub(super) fn new(target: PostgresTarget) -> Self {
        let measuring = Semaphore::new(target.limits.measure_parallel.max(1));
        let connections = Connections::new(target.clone());
        Self { connections, target, measuring, journal: Known::default() }
    }

    /// Reads what the database holds, in one snapshot.
    async fn inspect(&self, credential: &Credential) -> Result<Catalog, String> {
        let scrubber = self.connections.scrubber(credential);
        let mut client = self.connections.connect(credential).await.map_err(|why| why.0)?;
        let wait = Duration::from_millis(self.target.limits.statement_timeout_ms);
        let reading = async {
            let tx = snapshot(&mut client).await?;
            tx.batch_execute(&format!(
                "SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = {}",
                wait.as_millis()
            ))
            .await?;
            let catalog = inspect::catalog(&tx, &self.target.search_path).await?;
            tx.rollback().await?;
            Ok::<_, inspect::InspectError>(catalog)
        };
        // Each of a handful of statements has the timeout to itself; the whole has a little more than all of them.
        let outcome = tokio::time::timeout(wait.saturating_mul(6).saturating_add(GRACE), reading).await;
        // Settings of this session end with it.
        drop(Object::take(client));
        match outcome {
            Ok(Ok(catalog)) => Ok(catalog),
            Ok(Err(inspect::InspectError::Database(error))) => Err(scrubber.clean(&told(&error))),
            Ok(Err(why @ inspect::InspectError::Form(..))) => Err(why.to_string()),
            Err(_elapsed) => Err("the database did not answer in time".into()),
        }
    }

    /// Whether somebody holds an advisory lock in this very database: such locks are one database's, and every account may
    /// ask for one.
    async fn is_locked(&self, credential: &Credential, lock: i64) -> Result<bool, String> {
        const TAKEN: &str = "SELECT NOT pg_catalog.pg_try_advisory_xact_lock($1)";
        let scrubber = self.connections.scrubber(credential);
        let client = self.connections.connect_to_compare(credential).await.map_err(|why| why.0)?;
        let wait = Duration::from_millis(self.target.limits.statement_timeout_ms).saturating_add(GRACE);
        // Its transaction is over with the statement, and so is the lock if there was none before.
        let taken = async { client.query_one(TAKEN, &[&lock]).await?.try_get(0) };
        match tokio::time::timeout(wait, taken).await {
            Ok(taken) => taken.map_err(|error| scrubber.clean(&told(&error))),
            Err(_elapsed) => Err("the database did not answer in time".into()),
        }
    }

    /// Has the server compile a statement, in a transaction in which it refuses every change. Nothing is run.
    async fn compile(&self, credential: &Credential, sql: &str) -> Result<(), String> {
        let scrubber = self.connections.scrubber(credential);
        let mut client = self.connections.connect(credential).await.map_err(|why| why.0)?;
        let timeout_ms = self.target.limits.statement_timeout_ms;
        let compiling = async {
            let tx = snapshot(&mut client).await?;
            tx.batch_execute(&self.pinned(timeout_ms)).await?;
            checked(&tx.prepare(sql).await?)?;
            tx.rollback().await?;
            Ok::<_, Trouble>(())
        };
        let outcome =
            tokio::time::timeout(Duration::from_millis(timeout_ms).saturating_add(GRACE), compiling).await;
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(trouble)) => {
                forget(client, &trouble);
                Err(failed(&scrubber, &trouble).to_string())
            }
            Err(_elapsed) => {
                drop(Object::take(client));
                Err("the database did not answer in time".into())
            }
        }
    }

    /// Reads, in a transaction in which the server refuses every change.
    async fn read(
        &self,
        credential: &Credential,
        work: Arc<Work>,
        rows_max: u64,
    ) -> Result<Performed, ToolError> {
        let scrubber = self.connections.scrubber(credential);
        let mut client = self.connections.connect(credential).await?;
        let wait = Duration::from_millis(self.target.limits.statement_timeout_ms).saturating_add(GRACE);
        let reading = async {
            match self.read_with(&mut client, &work, rows_max, &scrubber).await {
                // What was prepared on this connection is of a table that has changed since. It is read anew.
                Err(trouble) if outdated(&trouble) => {
                    client.statement_cache.clear();
                    self.read_with(&mut client, &work, rows_max, &scrubber).await
                }
                other => other,
            }
        };
        let outcome = tokio::time::timeout(wait, reading).await;
        match outcome {
            Ok(Ok(rows)) => {
                let count = rows.len();
                Ok(Performed { reply: rows.reply(), rows: count, amount: None })
            }
            Ok(Err(trouble)) => {
                forget(client, &trouble);
                Err(failed(&scrubber, &trouble))
            }
            Err(_elapsed) => {
                drop(Object::take(client));
                Err(ToolError::Failed { message: "the database did not answer in time".into() })
            }
        }
    }

    async fn read_with(
        &self,
        client: &mut Object,
        work: &Work,
        rows_max: u64,
        scrubber: &Scrubber,
    ) -> Result<Rows, Trouble> {
        let limits = &self.target.limits;
        let tx = client.build_transaction().read_only(true).start().await?;
        tx.batch_execute(&self.pinned(limits.statement_timeout_ms)).await?;
        let statement = prepare(&tx, work).await?;
        let mut rows = new_rows(&statement, rows_max, limits, scrubber);
        let arguments = arguments(work);
        let portal = tx.bind_raw(&statement, arguments).await?;
        // One more than may be returned, to know whether there are more.
        let fetch = i32::try_from(rows_max.saturating_add(1)).unwrap_or(i32::MAX);
        let stream = tx.query_portal_raw(&portal, fetch).await?;
        pin_mut!(stream);
        while let Some(row) = stream.try_next().await? {
            if rows.push(cells(&row, rows.columns())?)? == Room::Full {
                break;
            }
        }
        work.fits(|| rows.reply()).map_err(Trouble::Other)?;
        tx.rollback().await?;
        Ok(rows)
    }

    /// Measures what a statement would touch, in a transaction in which the server refuses every change.
    async fn measure(
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
        match outcome {
            Ok(Ok(measured)) => Ok(measured),
            Ok(Err(trouble)) => {
                let why = unmeasured(&scrubber, &trouble);
                forget(client, &trouble);
                Err(why)
            }
            Err(_elapsed) => {
                drop(Object::take(client));
                Err(MeasureError::Limit(format!("it took longer than {} ms", wait.as_millis())))
            }
        }
    }

    async fn measure_with(
        &self,
        client: &mut Object,
        scope: &Scope,
        work: &Work,
        mask: &Mask,
    ) -> Result<Measured, Trouble> {
        let limits = &self.target.limits;
        // One snapshot, so that every count is of the same moment.
        let tx = snapshot(client).await?;
        tx.batch_execute(&self.sparing(limits.measure_timeout_ms)).await?;
        let mut sizing =
            Measuring { tx: &tx, scope, work, limits, reach: Reach { exact: true, ..Reach::default() } };
        let sample = sizing.all(mask).await?;
        let mut reach = sizing.reach;
        reach.exact = reach.exact && !reach.unbounded;
        tx.rollback().await?;
        Ok(Measured { reach, sample })
    }

    /// Waits for a turn to measure, at most as long as measuring itself may take.
    async fn measuring_turn(&self, wait: Duration) -> Result<SemaphorePermit<'_>, MeasureError> {
        let turn = tokio::time::timeout(wait, self.measuring.acquire()).await;
        let Ok(Ok(permit)) = turn else {
            return Err(MeasureError::Limit("too many measurements of this database run at once".into()));
        };
        Ok(permit)
    }

    /// What holds for a transaction that measures.
    fn sparing(&self, timeout_ms: u64) -> String {
        format!("{}; {SPARING}", self.pinned(timeout_ms))
    }

    /// What holds for this transaction, whatever the connection was told before.
    fn pinned(&self, timeout_ms: u64) -> String {
        // `pg_temp` last: otherwise a temporary table would stand in front of every other.
        let path: Vec<String> = self.target.search_path.iter().map(|schema| quoted(schema)).collect();
        format!(
            "SET LOCAL search_path = {}, pg_temp; SET LOCAL standard_conforming_strings = on; \
             SET LOCAL transform_null_equals = off; SET LOCAL quote_all_identifiers = off; \
             SET LOCAL statement_timeout = {timeout_ms}; SET LOCAL lock_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}",
            path.join(", "),
            self.target.limits.lock_timeout_ms,
            timeout_ms.saturating_add(5_000),
        )
    }
}

/// What a measurement adds to that, so that it takes no more than one connection's share of the server: no worker
/// processes beside it, and no compiling of a query that runs once.
const SPARING: &str = "SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off";

/// One measurement under way.
struct Measuring<'m> {
    tx: &'m Transaction<'m>,
    scope: &'m Scope,
    work: &'m Work,
    limits: &'m SqlLimits,
    reach: Reach,
}

impl Measuring<'_> {
    async fn all(&mut self, mask: &Mask) -> Result<Option<Sample>, Trouble> {
        let statement = &self.work.statement;
        let mut affected = Vec::new();
        let mut sample = None;
        match &statement.sizing {
            Sizing::None => {}
            Sizing::Unknown(why) => return Err(Trouble::Other(why.clone())),
            Sizing::Query(query) => {
                let target = self.resolved(&query.target).await?;
                affected.push(target.clone());
                self.reach.exact = query.exact;
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
                self.reach.unbounded |= !about.hidden.is_empty();
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
        self.reach.triggers = schema::triggers(self.tx.client(), &affected).await?;
        // What triggers do is not counted.
        self.reach.exact &= self.reach.triggers.is_empty();
        Ok(sample)
    }

    async fn resolved(&self, table: &TableRef) -> Result<TableRef, Trouble> {
        match schema::resolve(self.tx.client(), table).await? {
            None => Err(Trouble::Other(format!("there is no table `{table}`"))),
            Some(found) if matches!(found.kind.as_str(), "r" | "p") => Ok(found.table),
            Some(_) => {
                Err(Trouble::Other(format!("`{table}` is no ordinary table, so its rows cannot be counted")))
            }
        }
    }

    /// Asks the planner first, so that counting cannot hurt.
    async fn affordable(&self, query: &Query) -> Result<(), Trouble> {
        let statement = self.tx.prepare(&format!("EXPLAIN (FORMAT JSON) {}", query.text)).await?;
        let row = self.one(&statement, &query.parameters).await?;
        let plan: Value = row.try_get(0)?;
        let cost = plan.pointer("/0/Plan/Total Cost").and_then(Value::as_f64).unwrap_or(f64::INFINITY);
        #[expect(clippy::cast_precision_loss, reason = "a limit this large is no exact number to anybody")]
        let most = self.limits.measure_cost_max as f64;
        if cost <= most {
            return Ok(());
        }
        Err(Trouble::Other(format!("counting its rows is estimated to cost {cost:.0}, more than {most:.0}")))
    }

    async fn count(&self, query: &Query) -> Result<u64, Trouble> {
        let statement = self.tx.prepare(&query.text).await?;
        let row = self.one(&statement, &query.parameters).await?;
        let Cell(count) = row.try_get(0)?;
        Ok(count.as_u64().unwrap_or(0))
    }

    async fn one(&self, statement: &Statement, parameters: &[u32]) -> Result<Row, Trouble> {
        let stream = self.tx.query_raw(statement, self.arguments(parameters)).await?;
        pin_mut!(stream);
        stream.try_next().await?.ok_or_else(|| Trouble::Other("there is no count".into()))
    }

    /// Counts what foreign keys take along, and says which tables that concerns. `count`: the rows named.
    async fn along(
        &mut self,
        target: &TableRef,
        rows: &Query,
        change: Change,
        count: u64,
    ) -> Result<Vec<TableRef>, Trouble> {
        let client = self.tx.client();
        let keys: Vec<ActingKey> = schema::acting_keys(client).await?;
        let mut all = touched(target, &keys);
        all.insert(target.clone());
        let About { traits, hidden } = schema::about(client, &all).await?;
        // Row security may let a statement change fewer rows than it lets us see, and never more.
        self.reach.exact &= !hidden.contains(target);
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
            self.reach.exact = false;
            self.add(target, count);
            let keys_act = keys.iter().any(|key| key.parent == *target);
            self.reach.unbounded |= keys_act && schema::deletes_to_move(client).await?;
        }
        let limit = self.limits.measure_rows_max;
        let query = cascade_query(Dialect::Postgres, target, &rows.text, &change, &keys, &traits, limit);
        let Some(CascadeQuery { text, tables, itself, exact, unbounded }) = query else {
            return Ok(Vec::new());
        };
        self.reach.exact &= exact;
        // Keys act on rows that we are not shown, too: also on more of the table's own.
        self.reach.unbounded |= unbounded || tables.iter().any(|table| hidden.contains(table));
        let counts = Query { text, parameters: rows.parameters.clone() };
        self.affordable(&counts).await?;
        let statement = self.tx.prepare(&counts.text).await?;
        let row = self.one(&statement, &counts.parameters).await?;
        for (at, table) in tables.iter().enumerate() {
            let count: i64 = row.try_get(at)?;
            let count = u64::try_from(count).unwrap_or(0);
            let more = if itself == Some(at) {
                let name = self.scope.settled(table).to_string();
                count.saturating_sub(self.reach.tables.get(&name).copied().unwrap_or(0))
            } else {
                count
            };
            self.reach.cascades = self.reach.cascades.saturating_add(more);
            self.add(table, more);
        }
        Ok(tables)
    }

    fn add(&mut self, table: &TableRef, count: u64) {
        if count > self.limits.measure_rows_max {
            self.reach.unbounded = true;
        }
        self.reach.rows = self.reach.rows.saturating_add(count);
        let known = self.reach.tables.entry(self.scope.settled(table).to_string()).or_insert(0);
        *known = known.saturating_add(count);
    }

    async fn sampled(&self, table: &TableRef, query: &Query, mask: &Mask) -> Result<Option<Sample>, Trouble> {
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
fn rows_of(table: &TableRef, along: bool) -> String {
    if along { format!("ONLY {}", named(table)) } else { named(table) }
}

/// A query of ours, without parameters.
const fn plain(text: String) -> Query {
    Query { text, parameters: Vec::new() }
}

async fn prepare(tx: &deadpool_postgres::Transaction<'_>, work: &Work) -> Result<Statement, Trouble> {
    let statement = if work.is_fixed() {
        tx.prepare_cached(&work.statement.text).await?
    } else {
        tx.prepare(&work.statement.text).await?
    };
    checked(&statement)?;
    Ok(statement)
}

/// Refuses, before the statement runs, columns whose values could not be returned.
fn checked(statement: &Statement) -> Result<(), Trouble> {
    match statement.columns().iter().find(|column| !has_form(column.type_())) {
        None => Ok(()),
        Some(column) => Err(Trouble::Other(format!(
            "column `{}` is of type `{}`, which has no JSON form; cast it to text",
            column.name(),
            column.type_()
        ))),
    }
}

fn new_rows(statement: &Statement, rows_max: u64, limits: &SqlLimits, scrubber: &Scrubber) -> Rows {
    let columns = statement.columns().iter().map(|column| column.name().to_owned());
    Rows::new(columns, rows_max, limits.result_bytes_max).keeping_out(scrubber)
}

fn cells(row: &Row, columns: &[String]) -> Result<Vec<Value>, Trouble> {
    let mut values = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        let cell = row.try_get::<_, Cell>(at).map_err(|error| {
            let why =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            BadRow::Value(column.clone(), why)
        })?;
        values.push(cell.0);
    }
    Ok(values)
}

fn arguments(work: &Work) -> Vec<Argument> {
    let value = |name: &String| Argument(work.arguments.get(name).cloned().unwrap_or(Value::Null));
    work.statement.parameters.iter().map(value).collect()
}

/// Ends the transaction; a connection on which that fails is closed, which ends it too.
async fn roll_back(client: Object) {
    match tokio::time::timeout(GRACE, client.batch_execute("ROLLBACK")).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => drop(Object::take(client)),
    }
}

/// Closes the connection after trouble that may have left something on it.
fn forget(client: Object, trouble: &Trouble) {
    match trouble {
        // The server has answered: the transaction is rolled back by its guard.
        Trouble::Database(error) if error.as_db_error().is_some() => drop(client),
        Trouble::Row(_) | Trouble::Other(_) | Trouble::Recorded(_) | Trouble::Moved(_) => drop(client),
        Trouble::Database(_) => drop(Object::take(client)),
    }
}

/// A transaction in which every read is of the same moment, and the server refuses every change.
async fn snapshot(client: &mut Object) -> Result<deadpool_postgres::Transaction<'_>, Error> {
    let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    builder.start().await
}

/// Whether a prepared statement gives other columns than when it was prepared, because its tables have changed.
fn outdated(trouble: &Trouble) -> bool {
    match trouble {
        // Of this refusal PostgreSQL has one and no code of its own.
        Trouble::Database(error) => error.as_db_error().is_some_and(|said| {
            *said.code() == SqlState::FEATURE_NOT_SUPPORTED && said.routine() == Some("RevalidateCachedQuery")
        }),
        Trouble::Row(_) | Trouble::Other(_) | Trouble::Recorded(_) | Trouble::Moved(_) => false,
    }
}

/// Why a reach is not known: counted, rehearsed, or of an undo. See PostgreSQL's appendix "Error Codes".
fn unmeasured(scrubber: &Scrubber, trouble: &Trouble) -> MeasureError {
    let error = match trouble {
        Trouble::Row(why) => return MeasureError::NotMeasurable(scrubber.clean(&why.to_string())),
        Trouble::Other(why) | Trouble::Recorded(why) => {
            return MeasureError::NotMeasurable(scrubber.clean(why));
        }
        Trouble::Moved(why) => return MeasureError::Limit(scrubber.clean(why)),
        Trouble::Database(error) => error,
    };
    let why = scrubber.clean(&told(error));
    let Some(code) = error.code().map(SqlState::code) else {
        // Not the server's words: an argument that its type does not hold, or a connection that is gone.
        let argument = std::error::Error::source(error).is_some_and(|cause| !cause.is::<std::io::Error>());
        let rejected = argument && !error.is_closed();
        return if rejected { MeasureError::Rejected(why) } else { MeasureError::System(why) };
    };
    match (code, code.get(..2).unwrap_or_default()) {
        // Stopped by a timeout or a lock, broken off for the sake of others, or out of space for temporary files.
        _ if cut_short(error) => MeasureError::Limit(STOPPED.into()),
        ("55P03" | "55006" | "53400", _) | (_, "40") => MeasureError::Limit(why),
        // Counting would itself have changed something.
        ("25006", _) => MeasureError::NotMeasurable(why),
        // Connections, resources, shutting down, the machine below.
        (_, "08" | "53" | "57" | "58" | "XX" | "F0") => MeasureError::System(why),
        // Names, types, grants, values, constraints, what a trigger raises: it would end so as well when it is meant.
        _ => MeasureError::Rejected(why),
    }
}

/// What the server said, without what repeats values of rows: the detail, and what is quoted of values that are
/// no number, date or the like (class 22).
fn told(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) if said.code().code().starts_with("22") => {
            format!("the database says: {} ({})", unquoted(said.message()), said.code().code())
        }
        Some(said) => format!("the database says: {} ({})", said.message(), said.code().code()),
        None if error.is_closed() => "the connection to the database was lost".into(),
        None => {
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        }
    }
}

/// A message without what stands in it between the first and the last quotation mark.
fn unquoted(message: &str) -> String {
    match (message.split_once('"'), message.rsplit_once('"')) {
        (Some((before, _)), Some((_, after))) => format!("{before}\"…\"{after}"),
        _ => message.to_owned(),
    }
}

/// What is told of a statement whose time was up.
const STOPPED: &str = "the statement took too long, and was stopped";

/// Whether the statement's time was up. Where it is up between two messages, the server says so in answer to the end of the
/// first, where the client no longer listens; what is heard then is that the transaction is over.
fn cut_short(error: &Error) -> bool {
    error
        .code()
        .is_some_and(|code| [SqlState::QUERY_CANCELED, SqlState::IN_FAILED_SQL_TRANSACTION].contains(code))
}

fn failed(scrubber: &Scrubber, trouble: &Trouble) -> ToolError {
    match trouble {
        Trouble::Database(error) if cut_short(error) => ToolError::Failed { message: STOPPED.into() },
        Trouble::Database(error) => {
            let message = scrubber.clean(&told(error));
            if error.as_db_error().is_none() && error.is_closed() {
                ToolError::Unavailable { message }
            } else {
                ToolError::Failed { message }
            }
        }
        Trouble::Row(why) => ToolError::Failed { message: scrubber.clean(&why.to_string()) },
        Trouble::Recorded(why) => ToolError::InDoubt { message: scrubber.clean(why) },
        Trouble::Other(why) | Trouble::Moved(why) => ToolError::Failed { message: scrubber.clean(why) },
    }
}
