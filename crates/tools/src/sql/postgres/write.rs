//! Writing within a warrant, or not at all: one transaction, with the check inside it.
//!
//! # Isolation
//!
//! READ COMMITTED is enough, and better than more. What is checked is not a forecast but what the server
//! counted in this very transaction, after the fact: rows inserted, updated and deleted in each table, by the
//! statement, its cascades and triggers, deferred ones included. A concurrent writer may make the statement
//! touch other rows than were measured, but none that are not counted; and when they are too many or in
//! another table, all of it is rolled back. A stricter level would add serialization failures and no safety.
//!
//! What the counts cannot see is refused: a trigger that empties, rewrites or drops a table, rows of foreign
//! tables (their locks give them away), a server that does not count. Rows counted and then taken back inside (a trigger's
//! exception handler) stay counted: the count errs to the safe side.
//!
//! # Trying again
//!
//! A transaction that the server broke off for the sake of others (deadlock, serialization failure) left
//! nothing behind, so the whole of it is tried again, a few times, with every check; and so is one whose prepared
//! statement a changed table has outdated, which the server says before it runs it. Nothing else is: not a lost connection, not
//! a timeout, and never anything after `COMMIT` was sent, but for an answer that says that it was rolled back.
#![expect(clippy::wildcard_enum_match_arm, reason = "the verbs of SQL: those not named are treated alike")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use countersign_gate::{Credential, Doubt, Limits, MeasureError, Performed, Recalled, ToolError};
use countersign_rules::{CallId, Reach};
use countersign_sql::{Category, TableRef, Verb};
use deadpool_postgres::Object;
use futures::{TryStreamExt as _, pin_mut};
use tokio_postgres::{Client, Error, error::SqlState};

use super::{
    GRACE, PostgresDatabase,
    body::{Body, Done, Uncounted},
    connection::roll_back,
    count::{Difference, difference, settled, touched, undisturbed},
    fault::{PostgresFault, cut_short, failed, outdated, told, unmeasured},
    journal,
    measure::rows_of,
    read::{arguments, cells, checked, new_rows},
    rights, schema, trial,
};
use crate::{
    definition::SqlLimits,
    secret::Scrubber,
    sql::{
        cascade::{named, touched as reached},
        columns::Columns,
        journal::{Mark, UNDO_PATIENCE, elsewhere, impatient},
        statement::{Scope, Sizing},
        tally::sum,
        value::{Room, Rows},
        work::Work,
    },
};

/// How often a transaction is begun.
const ATTEMPTS: u32 = 5;

/// How one transaction ended without effect, or with an unknown one.
struct Ended {
    error: ToolError,
    /// Nothing was changed, and another try may do better.
    again: bool,
}

impl Ended {
    /// No other try would do better, or none is safe.
    const fn last(error: ToolError) -> Self {
        Self { error, again: false }
    }
}

impl PostgresDatabase {
    /// Writes, within the warrant or not at all.
    pub(super) async fn write(
        &self,
        credential: &Credential,
        scope: &Scope,
        work: Arc<Work>,
        limits: &Limits,
        mark: Option<Mark>,
    ) -> Result<Performed, ToolError> {
        let mut body = Writing {
            scope,
            work: &work,
            limits: &self.target.limits,
            scrubber: self.connections.scrubber(credential),
        };
        let (rows, count) = self.perform(credential, &mut body, limits, mark.as_ref()).await?;
        Ok(Performed { reply: rows.changed(count), rows: count, amount: None })
    }

    /// Performs, and tries again where that is safe.
    pub(super) async fn perform<B: Body>(
        &self,
        credential: &Credential,
        body: &mut B,
        limits: &Limits,
        mark: Option<&Mark>,
    ) -> Result<(B::Made, u64), ToolError> {
        let mut attempt: u32 = 0;
        loop {
            match self.attempt(credential, body, limits, mark).await {
                Ok(made) => return Ok(made),
                Err(Ended { again: true, .. }) if attempt.saturating_add(1) < ATTEMPTS => {
                    attempt = attempt.saturating_add(1);
                }
                Err(Ended { error, .. }) => return Err(error),
            }
        }
    }

    /// One transaction, from its connection to its end.
    async fn attempt<B: Body>(
        &self,
        credential: &Credential,
        body: &mut B,
        limits: &Limits,
        mark: Option<&Mark>,
    ) -> Result<(B::Made, u64), Ended> {
        let client = self.connections.connect(credential).await.map_err(|why| Ended::last(why.into()))?;
        let mut timeout_ms = self.target.limits.statement_timeout_ms;
        if body.undoes().is_some() {
            timeout_ms = timeout_ms.saturating_mul(UNDO_PATIENCE);
        }
        let wait = Duration::from_millis(timeout_ms).saturating_add(GRACE);
        let outcome =
            tokio::time::timeout(wait, self.change(&client, body, limits, mark, &self.pinned(timeout_ms)))
                .await;
        // Up to here no COMMIT was sent: whatever went wrong, nothing has changed.
        match outcome {
            Ok(Ok(Done::Within(made, count))) => {
                self.commit(credential, client, wait, body.lingers(), mark).await?;
                Ok((made, count))
            }
            Ok(Ok(Done::Beyond(reach))) => {
                roll_back(client).await;
                Err(Ended::last(ToolError::Exceeded { reach }))
            }
            Ok(Err(fault)) => {
                let outdated = outdated(&fault);
                if outdated {
                    client.statement_cache.clear();
                }
                let again = outdated || passing(&fault);
                let error = match body.undoes() {
                    Some(_) if stopped(&fault) => ToolError::Failed { message: impatient(timeout_ms) },
                    _ => failed(&self.connections.scrubber(credential), &fault),
                };
                roll_back(client).await;
                if let (PostgresFault::Recorded(_), Some(mark)) = (&fault, mark) {
                    return Err(Ended::last(self.recorded(credential, mark, error).await));
                }
                Err(Ended { error, again })
            }
            Err(_elapsed) => {
                // Closing the connection rolls back; asking to cancel frees the server's locks sooner.
                drop(Object::take(client));
                let message = match body.undoes() {
                    Some(_) => impatient(timeout_ms),
                    None => "the database did not answer in time, and nothing was committed".into(),
                };
                Err(Ended::last(ToolError::Failed { message }))
            }
        }
    }

    /// Commits, and where no answer tells what came of it, asks the journal.
    async fn commit(
        &self,
        credential: &Credential,
        client: Object,
        wait: Duration,
        lingers: bool,
        mark: Option<&Mark>,
    ) -> Result<(), Ended> {
        let scrubber = self.connections.scrubber(credential);
        let committed = tokio::time::timeout(wait, client.batch_execute("COMMIT")).await;
        let why = match committed {
            // A crash here leaves the effect done and its outcome unrecorded: the gate finds the call in
            // doubt, and the journal, where there is one, knows.
            Ok(Ok(())) => {
                if lingers {
                    // Advisory locks, temporary objects, and plans that a changed schema has outlived.
                    drop(Object::take(client));
                }
                return Ok(());
            }
            Ok(Err(error)) if rolled_back(&error) => {
                drop(Object::take(client));
                let fault = PostgresFault::Database(error);
                return Err(Ended { error: failed(&scrubber, &fault), again: passing(&fault) });
            }
            Ok(Err(error)) => scrubber.clean(&told(&error)),
            Err(_elapsed) => "there was no answer in time".into(),
        };
        drop(Object::take(client));
        let unknown = ToolError::InDoubt { message: format!("the commit was sent and not confirmed: {why}") };
        let Some(mark) = mark else { return Err(Ended::last(unknown)) };
        let doubt = Doubt { call: mark.call.clone(), journal: mark.journal.clone(), witness: None };
        match self.recall(credential, &doubt).await {
            Ok(Recalled::Happened { .. }) => Ok(()),
            Ok(Recalled::Never) => Err(Ended::last(ToolError::Failed {
                message: format!("the commit did not arrive, and nothing was changed: {why}"),
            })),
            Ok(Recalled::Unknown) | Err(_) => Err(Ended::last(unknown)),
        }
    }

    /// Tells what is said of a call whose id the journal has already: that it was given up, or `doubt`.
    async fn recorded(&self, credential: &Credential, mark: &Mark, doubt: ToolError) -> ToolError {
        let asked = Doubt { call: mark.call.clone(), journal: mark.journal.clone(), witness: None };
        match self.recall(credential, &asked).await {
            Ok(Recalled::Never) => ToolError::Failed {
                message: format!("call `{}` was given up before, and is not performed any more", mark.call),
            },
            Ok(Recalled::Happened { .. } | Recalled::Unknown) | Err(_) => doubt,
        }
    }

    /// Runs a change and rolls it back, so that what its triggers and cascades touch is counted too. Nothing of
    /// it stays, and it is in no journal. It holds its locks for as long as measuring may take.
    pub(super) async fn rehearse(
        &self,
        credential: &Credential,
        scope: &Scope,
        work: &Work,
        mark: Option<&Mark>,
    ) -> Result<Reach, MeasureError> {
        let mut body = Writing {
            scope,
            work,
            limits: &self.target.limits,
            scrubber: self.connections.scrubber(credential),
        };
        // Nothing is allowed, so that whatever it touches is told as beyond.
        let nothing = Limits { rows_max: 0, tables: None, amount_max: None };
        match self.run_and_roll_back(credential, &mut body, &nothing, mark).await? {
            Done::Beyond(reach) => Ok(*reach),
            Done::Within(..) => Ok(Reach { exact: true, ..Reach::default() }),
        }
    }

    /// Everything but the commit.
    pub(super) async fn run_and_roll_back<B: Body>(
        &self,
        credential: &Credential,
        body: &mut B,
        bounds: &Limits,
        mark: Option<&Mark>,
    ) -> Result<Done<B::Made>, MeasureError> {
        let limits = &self.target.limits;
        let wait = Duration::from_millis(limits.measure_timeout_ms);
        let _permit = self.measuring_turn(wait).await?;
        let client = self.connections.connect(credential).await?;
        let timeout_ms = limits.statement_timeout_ms.min(limits.measure_timeout_ms);
        let settings = self.sparing(timeout_ms);
        let running = self.change(&client, body, bounds, mark, &settings);
        let Ok(outcome) = tokio::time::timeout(wait.saturating_add(GRACE), running).await else {
            // Closing the connection rolls back.
            drop(Object::take(client));
            return Err(MeasureError::Limit(format!("it took longer than {} ms", wait.as_millis())));
        };
        roll_back(client).await;
        outcome.map_err(|fault| unmeasured(&self.connections.scrubber(credential), &fault))
    }

    /// The transaction without its commit.
    async fn change<B: Body>(
        &self,
        client: &Object,
        body: &mut B,
        limits: &Limits,
        mark: Option<&Mark>,
        settings: &str,
    ) -> Result<Done<B::Made>, PostgresFault> {
        self.begin(client, body.undoes(), mark, settings).await?;
        let before = touched(client).await?;
        let (made, seen) = body.run(client).await?;
        let after = settled(client).await?;
        undisturbed(client, body.rewrites()).await?;
        let writes = body.writes();
        let Difference { counted: moved, named: mut tables } =
            difference(&before, after, &writes, body.scope(), mark.is_some());
        let Uncounted { whole, tag, rows } = seen;
        for (table, count) in whole {
            let known = tables.entry(table).or_insert(0);
            *known = count.max(*known);
        }
        if let Some(mark) = mark
            && mark.images
        {
            if tag > sum(&tables) {
                let why = "it changes rows that are not in tables of this database";
                return Err(PostgresFault::Other(format!(
                    "the call could not be undone, so nothing was changed: {why}"
                )));
            }
            let bytes_max = self.target.journal.as_ref().map_or(0, |journal| journal.bytes_max);
            journal::complete(client, mark, bytes_max, &moved).await?;
        }
        if let Some(rows) = rows {
            tables = rows;
        }
        let rows_touched = sum(&tables).max(tag);
        if let Some(mark) = mark {
            journal::seal(client, mark, rows_touched).await?;
            // An undo does what it can: nobody is refused one because it could not be undone in turn.
            if mark.images && body.undoes().is_none() {
                self.reversible(client, mark).await?;
            }
        }
        let named: u64 = writes.iter().filter_map(|table| tables.get(&table.to_string())).copied().sum();
        let mut reach = Reach {
            rows: rows_touched,
            exact: true,
            unbounded: false,
            cascades: if named == 0 { 0 } else { rows_touched.saturating_sub(named) },
            triggers: Vec::new(),
            rehearsed: false,
            amount: None,
            tables,
        };
        // INVARIANT: nothing is committed that touched more than the warrant allows, in all or in one table.
        if limits.exceeded_by(&reach) {
            reach.triggers = all_triggers(client, &writes, moved.into_keys().collect()).await?;
            return Ok(Done::Beyond(Box::new(reach)));
        }
        Ok(Done::Within(made, rows_touched))
    }

    /// Begins the transaction, and in it the record of the call.
    async fn begin(
        &self,
        client: &Object,
        undoes: Option<&CallId>,
        mark: Option<&Mark>,
        settings: &str,
    ) -> Result<(), PostgresFault> {
        let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {settings}");
        client.batch_execute(&begin).await?;
        if let Some(mark) = mark
            && let Some(found) = journal::begin(client, mark, undoes).await?
        {
            // The next call is recorded for the one that is there now.
            self.journal.set(None);
            return Err(PostgresFault::Other(elsewhere(mark.journal.as_deref(), &found)));
        }
        Ok(())
    }

    /// Refuses a call that could not be undone, although its rows are kept.
    async fn reversible(&self, client: &Object, mark: &Mark) -> Result<(), PostgresFault> {
        if let Some(right) = rights::lacking(client, &mark.call).await?.first() {
            return Err(PostgresFault::Other(format!(
                "the call could not be undone, so nothing was changed: that needs the right to `{right}`, \
                 which its administrator has not granted to the account of the tools"
            )));
        }
        let accepted = Columns::new(self.target.journal.iter().flat_map(|journal| &journal.rewritten));
        trial::tried(client, &mark.call, &accepted).await
    }
}

/// Tells whether the server stopped a statement for the time it took.
fn stopped(fault: &PostgresFault) -> bool {
    match fault {
        PostgresFault::Database(error) => cut_short(error),
        PostgresFault::Row(_)
        | PostgresFault::Other(_)
        | PostgresFault::Recorded(_)
        | PostgresFault::Moved(_) => false,
    }
}

/// A tool's statement, as the body of a transaction.
struct Writing<'a> {
    scope: &'a Scope,
    work: &'a Work,
    limits: &'a SqlLimits,
    scrubber: Scrubber,
}

impl Body for Writing<'_> {
    type Made = Rows;

    async fn run(&mut self, client: &Object) -> Result<(Rows, Uncounted), PostgresFault> {
        let work = self.work;
        let mut whole = BTreeMap::new();
        if let Sizing::Whole { tables, along } = &work.statement.sizing {
            whole = self.emptied(client, tables, *along).await?;
        }
        let statement = if work.is_fixed() {
            client.prepare_cached(&work.statement.text).await?
        } else {
            client.prepare(&work.statement.text).await?
        };
        checked(&statement)?;
        let mut rows = new_rows(&statement, u64::MAX, self.limits, &self.scrubber);
        let stream = client.query_raw(&statement, arguments(work)).await?;
        pin_mut!(stream);
        let mut full = false;
        while let Some(row) = stream.try_next().await? {
            if !full {
                full = rows.push(cells(&row, rows.columns())?)? == Room::Full;
            }
        }
        let tag = match work.statement.verb {
            Verb::Insert | Verb::Update | Verb::Delete | Verb::Merge => stream.rows_affected().unwrap_or(0),
            _ => 0,
        };
        work.fits(|| rows.changed(tag))
            .map_err(|why| PostgresFault::Other(format!("{why}; nothing was changed")))?;
        Ok((rows, Uncounted { whole, tag, rows: None }))
    }

    fn scope(&self) -> &Scope {
        self.scope
    }

    fn writes(&self) -> Vec<TableRef> {
        self.work.statement.writes.iter().cloned().collect()
    }

    fn rewrites(&self) -> bool {
        // Locking rows is not among it: what a statement that does so sets off is held to what it says.
        let statement = &self.work.statement;
        matches!(statement.sizing, Sizing::Whole { .. })
            || statement.verb == Verb::Lock
            || [Category::Schema, Category::Iam, Category::Admin]
                .iter()
                .any(|category| statement.categories.contains(category))
    }

    fn lingers(&self) -> bool {
        self.rewrites() || self.work.statement.categories.contains(&Category::Lock)
    }

    fn undoes(&self) -> Option<&CallId> {
        None
    }
}

impl Writing<'_> {
    /// Counts the rows of tables that go as a whole, and sees to it that nobody adds any until the end.
    async fn emptied(
        &self,
        client: &Object,
        tables: &BTreeSet<TableRef>,
        along: bool,
    ) -> Result<BTreeMap<String, u64>, PostgresFault> {
        // Rows that row security hides from us go as well: counting them then fails.
        client.batch_execute("SET LOCAL row_security = off").await?;
        let mut all: Vec<TableRef> = tables.iter().cloned().collect();
        if along {
            let mut named = Vec::new();
            for table in tables {
                let found = schema::resolve(client, table).await?;
                named.extend(found.map(|found| found.table));
            }
            all = schema::emptied(client, &named).await?;
            lock(client, &named).await?;
            lock(client, &all).await?;
            // From here on nobody can make another table refer to one of these.
            if schema::emptied(client, &named).await? != all {
                return Err(PostgresFault::Moved("foreign keys changed meanwhile".into()));
            }
        } else {
            lock(client, &all).await?;
        }
        let mut whole = BTreeMap::new();
        for table in &all {
            let row =
                client.query_one(&format!("SELECT count(*) FROM {}", rows_of(table, along)), &[]).await?;
            let count: i64 = row.try_get(0)?;
            whole.insert(self.scope.settled(table).to_string(), u64::try_from(count).unwrap_or(0));
        }
        Ok(whole)
    }
}

async fn lock(client: &Object, tables: &[TableRef]) -> Result<(), PostgresFault> {
    for table in tables {
        client.batch_execute(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", named(table))).await?;
    }
    Ok(())
}

/// The triggers on every table that was touched or could have been by foreign keys.
async fn all_triggers(
    client: &Client,
    writes: &[TableRef],
    mut tables: Vec<TableRef>,
) -> Result<Vec<String>, PostgresFault> {
    let keys = schema::acting_keys(client).await?;
    for table in writes {
        if let Some(found) = schema::resolve(client, table).await? {
            tables.extend(reached(&found.table, &keys));
            tables.push(found.table);
        }
    }
    Ok(schema::triggers(client, &tables).await?)
}

/// Tells whether the server broke off a transaction that may do better another time.
fn passing(fault: &PostgresFault) -> bool {
    match fault {
        PostgresFault::Database(error) => error.code().is_some_and(|code| {
            [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
        }),
        PostgresFault::Moved(_) => true,
        PostgresFault::Row(_) | PostgresFault::Other(_) | PostgresFault::Recorded(_) => false,
    }
}

/// Tells whether an error that answers `COMMIT` says that it was rolled back.
fn rolled_back(error: &Error) -> bool {
    error.as_db_error().is_some_and(|said| {
        let class = said.code().code().get(..2).unwrap_or_default();
        // 08 connection, 53 resources, 57P shutting down, 58 system error, XX internal; 40003 says of itself
        // that the statement's completion is unknown.
        let going_down = said.code().code().starts_with("57P");
        !going_down
            && !matches!(class, "08" | "53" | "58" | "XX")
            && *said.code() != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
    })
}
