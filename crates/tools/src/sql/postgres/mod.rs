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

mod body;
mod connection;
mod count;
mod fault;
mod inspect;
mod journal;
mod measure;
mod net;
mod read;
mod rights;
mod schema;
mod trial;
mod undo;
pub(crate) mod value;
mod write;

pub(crate) use connection::settings;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use countersign_gate::{Credential, Doubt, Limits, MeasureError, Measured, Performed, Recalled, ToolError};
use countersign_rules::Reach;
use countersign_sql::{Catalog, Dialect};
use deadpool_postgres::Object;
use secrecy::SecretString;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    cascade::quoted,
    database::{Database, Login},
    journal::{KnownJournal, Mark, Undoing, Undone},
    mask::Mask,
    statement::Scope,
    work::Work,
};
use crate::definition::PostgresTarget;
use connection::{Connections, forget, snapshot};
use fault::{PostgresFault, failed, told};
use read::checked;

/// How much longer than its own timeout a server may take to say so, before we stop listening.
const GRACE: Duration = Duration::from_secs(5);

/// One PostgreSQL database.
#[derive(Debug)]
pub(super) struct PostgresDatabase {
    target: PostgresTarget,
    connections: Connections,
    measuring: Semaphore,
    journal: KnownJournal,
}

/// Each opens the credential anew: it may have changed.
#[async_trait]
impl Database for PostgresDatabase {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn search_path(&self) -> &[String] {
        &self.target.search_path
    }

    async fn inspect(&self, login: Login<'_>) -> Result<Catalog, String> {
        self.inspect(&login.credential()?).await
    }

    async fn compile(&self, login: Login<'_>, sql: &str) -> Result<(), String> {
        self.compile(&login.credential()?, sql).await
    }

    async fn is_locked(&self, login: Login<'_>, lock: i64) -> Result<bool, String> {
        self.is_locked(&login.credential()?, lock).await
    }

    async fn read(&self, login: Login<'_>, work: Arc<Work>, rows_max: u64) -> Result<Performed, ToolError> {
        self.read(&to_perform(login)?, work, rows_max).await
    }

    async fn write(
        &self,
        login: Login<'_>,
        scope: &Scope,
        work: Arc<Work>,
        limits: &Limits,
        mark: Option<Mark>,
    ) -> Result<Performed, ToolError> {
        self.write(&to_perform(login)?, scope, work, limits, mark).await
    }

    async fn measure(
        &self,
        login: Login<'_>,
        scope: &Scope,
        work: Arc<Work>,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        self.measure(&to_measure(login)?, scope, work, mask).await
    }

    async fn rehearse(
        &self,
        login: Login<'_>,
        scope: &Scope,
        work: Arc<Work>,
        mark: Mark,
    ) -> Result<Reach, MeasureError> {
        let credential = to_measure(login)?;
        // What could not be undone is found out before anybody is asked.
        let mark = if work.images {
            let journal = self.identity(|| login.credential().ok()).await;
            Some(Mark { journal: journal.map(|journal| journal.to_string()), ..mark })
        } else {
            None
        };
        self.rehearse(&credential, scope, &work, mark.as_ref()).await
    }

    async fn identity(&self, login: Login<'_>) -> Option<Arc<str>> {
        self.identity(move || login.credential().ok()).await
    }

    async fn recall(&self, login: Login<'_>, doubt: &Doubt) -> Result<Recalled, MeasureError> {
        self.recall(&to_measure(login)?, doubt).await
    }

    async fn undo_measure(
        &self,
        login: Login<'_>,
        mark: &Mark,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        self.undo_measure(&to_measure(login)?, mark, undoing, mask).await
    }

    async fn undo(
        &self,
        login: Login<'_>,
        mark: Mark,
        undoing: &Undoing,
        limits: &Limits,
        mask: &Mask,
    ) -> Result<(Undone, u64), ToolError> {
        self.undo(&to_perform(login)?, mark, undoing, limits, mask).await
    }

    fn prepare_sql(&self, login: Login<'_>, tables: &[String]) -> Result<String, String> {
        self.prepare_sql(&login.credential()?, tables)
    }

    async fn prepare(
        &self,
        login: Login<'_>,
        admin: Option<&SecretString>,
        tables: &[String],
    ) -> Result<Vec<String>, String> {
        let admin = admin.ok_or("an administrator's connection string is needed")?;
        self.prepare(&login.credential()?, admin, tables).await
    }

    async fn prune(&self, login: Login<'_>) -> Result<u64, String> {
        self.prune(&login.credential()?).await
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
        Self { connections, target, measuring, journal: KnownJournal::default() }
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

    /// Tells whether somebody holds an advisory lock in this very database: such locks are one database's, and every account may
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
            Ok::<_, PostgresFault>(())
        };
        let outcome =
            tokio::time::timeout(Duration::from_millis(timeout_ms).saturating_add(GRACE), compiling).await;
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => {
                forget(client, &fault);
                Err(failed(&scrubber, &fault).to_string())
            }
            Err(_elapsed) => {
                drop(Object::take(client));
                Err("the database did not answer in time".into())
            }
        }
    }

    /// Waits for a turn to measure, at most as long as measuring itself may take.
    async fn measuring_turn(&self, wait: Duration) -> Result<SemaphorePermit<'_>, MeasureError> {
        let turn = tokio::time::timeout(wait, self.measuring.acquire()).await;
        let Ok(Ok(permit)) = turn else {
            return Err(MeasureError::Limit("too many measurements of this database run at once".into()));
        };
        Ok(permit)
    }

    /// Writes the settings of a transaction that measures.
    fn sparing(&self, timeout_ms: u64) -> String {
        format!("{}; {SPARING}", self.pinned(timeout_ms))
    }

    /// Writes the settings of a transaction, whatever the connection was told before.
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
