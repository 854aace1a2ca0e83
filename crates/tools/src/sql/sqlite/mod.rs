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

use std::{future::ready, path::PathBuf, sync::Arc};

use countersign_gate::{Doubt, Limits, MeasureError, Measured, Performed, Recalled, ToolError};
use countersign_rules::Reach;
use countersign_sql::{Catalog, Dialect};
use futures::future::BoxFuture;
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
use fault::{Trouble, told};

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
}

#[cfg(test)]
mod tests;
