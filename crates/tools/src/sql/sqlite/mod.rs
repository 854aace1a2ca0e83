//! SQLite: reading, writing within a warrant, and measuring. Each runs on a thread of its own for blocking
//! work.

mod connection;
mod fault;
mod image;
mod inspect;
mod journal;
mod measure;
mod orphans;
mod read;
mod schema;
mod statements;
mod undo;
mod value;
mod write;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use countersign_gate::{Doubt, Limits, MeasureError, Measured, Performed, Recalled, ToolError};
use countersign_rules::Reach;
use countersign_sql::{Catalog, Dialect};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use super::{
    database::{Database, Login},
    journal::{KnownJournal, Mark, Undoing, Undone},
    mask::Mask,
    statement::Scope,
    work::Work,
};
use crate::definition::{JournalSettings, SqlLimits};
use connection::Connections;
use fault::{SqliteFault, told};

/// One SQLite file.
#[derive(Debug)]
pub(super) struct SqliteDatabase {
    connections: Connections,
    limits: SqlLimits,
    path: PathBuf,
    journal: Option<JournalSettings>,
    known: Arc<KnownJournal>,
    measuring: Arc<Semaphore>,
}

/// A file has no credential and no schemas, and no session of its own that could hold a lock.
#[async_trait]
impl Database for SqliteDatabase {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn search_path(&self) -> &[String] {
        &[]
    }

    async fn inspect(&self, _login: Login<'_>) -> Result<Catalog, String> {
        self.inspect().await
    }

    async fn compile(&self, _login: Login<'_>, sql: &str) -> Result<(), String> {
        self.compile(sql).await
    }

    async fn is_locked(&self, _login: Login<'_>, _lock: i64) -> Result<bool, String> {
        Ok(false)
    }

    async fn read(&self, _login: Login<'_>, work: Arc<Work>, rows_max: u64) -> Result<Performed, ToolError> {
        self.read(work, rows_max).await
    }

    async fn write(
        &self,
        _login: Login<'_>,
        _scope: &Scope,
        work: Arc<Work>,
        limits: &Limits,
        mark: Option<Mark>,
    ) -> Result<Performed, ToolError> {
        self.write(work, limits, mark).await
    }

    async fn measure(
        &self,
        _login: Login<'_>,
        _scope: &Scope,
        work: Arc<Work>,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        self.measure(work, mask.clone()).await
    }

    async fn rehearse(
        &self,
        _login: Login<'_>,
        _scope: &Scope,
        work: Arc<Work>,
        _mark: Mark,
    ) -> Result<Reach, MeasureError> {
        self.rehearse(work).await
    }

    async fn identity(&self, _login: Login<'_>) -> Option<Arc<str>> {
        self.identity().await
    }

    async fn recall(&self, _login: Login<'_>, doubt: &Doubt) -> Result<Recalled, MeasureError> {
        self.recall(doubt).await
    }

    async fn undo_measure(
        &self,
        _login: Login<'_>,
        _mark: &Mark,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        self.undo_measure(undoing, mask).await
    }

    async fn undo(
        &self,
        _login: Login<'_>,
        mark: Mark,
        undoing: &Undoing,
        limits: &Limits,
        mask: &Mask,
    ) -> Result<(Undone, u64), ToolError> {
        self.undo(mark, undoing, limits, mask).await
    }

    fn prepare_sql(&self, _login: Login<'_>, tables: &[String]) -> Result<String, String> {
        self.prepare_sql(tables)
    }

    async fn prepare(
        &self,
        _login: Login<'_>,
        _admin: Option<&SecretString>,
        tables: &[String],
    ) -> Result<Vec<String>, String> {
        self.prepare(tables).await
    }

    async fn prune(&self, _login: Login<'_>) -> Result<u64, String> {
        self.prune().await
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
        let Some(turn) = self.connections.read_turn().await else {
            return Err("the database is busy with other reads".into());
        };
        let task = tokio::task::spawn_blocking(move || turn.run(|connection| inspect::catalog(connection)));
        match task.await {
            Ok(Ok(catalog)) => Ok(catalog),
            Ok(Err(error)) => Err(told(&SqliteFault::Sqlite(error))),
            Err(_panicked) => Err("reading the schema failed".into()),
        }
    }

    /// Has SQLite compile a statement. Nothing is run.
    async fn compile(&self, sql: &str) -> Result<(), String> {
        let Some(turn) = self.connections.read_turn().await else {
            return Err("the database is busy with other reads".into());
        };
        let sql = sql.to_owned();
        let task = tokio::task::spawn_blocking(move || {
            turn.run(|connection| connection.prepare(&sql).map(|_statement| ()))
        });
        match task.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(told(&SqliteFault::Sqlite(error))),
            Err(_panicked) => Err("compiling the statement failed".into()),
        }
    }
}

#[cfg(test)]
mod tests;
