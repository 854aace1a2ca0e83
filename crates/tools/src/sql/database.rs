//! What the two databases do for a system, each in its own way.
//!
//! The rules know nothing of which database it is; all that differs between the two stands behind [`Database`].

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use countersign_gate::{
    Authority, Credential, Doubt, Limits, MeasureError, Measured, Performed, Recalled, ToolError, Vault,
};
use countersign_rules::Reach;
use countersign_sql::{Catalog, Dialect};
use secrecy::SecretString;

use super::{
    journal::{Mark, Undoing, Undone},
    mask::Mask,
    statement::Scope,
    work::Work,
};

/// What entitles a caller to the credential of a database. A database that has none never opens it.
#[derive(Clone, Copy)]
pub(super) struct Login<'l> {
    vault: &'l dyn Vault,
    authority: &'l dyn Authority,
}

impl<'l> Login<'l> {
    /// The login of whoever holds this authority.
    pub(super) fn new(vault: &'l dyn Vault, authority: &'l dyn Authority) -> Self {
        Self { vault, authority }
    }

    /// Opens the credential.
    pub(super) fn credential(&self) -> Result<Credential, String> {
        self.vault.open(self.authority).map_err(|fault| fault.to_string())
    }
}

/// One database, with its connections and, where it keeps one, its journal.
///
/// All of it may run concurrently, and each method waits for its turn no longer than the system's limits say. What
/// reads, measures or rehearses leaves nothing changed, however it ends. What writes or undoes is one transaction: it has
/// committed, durably, when it returns `Ok`; it has changed nothing on any other error than [`ToolError::InDoubt`];
/// and it commits nothing that touches more than its limits allow.
///
/// Texts of errors hold no secret. Whatever concerns the journal is asked only of a system that keeps one.
#[async_trait]
pub(super) trait Database: fmt::Debug + Send + Sync {
    /// The grammar of its statements.
    fn dialect(&self) -> Dialect;

    /// The schemas in which it looks for tables that are named without one.
    fn search_path(&self) -> &[String];

    /// Reads what it holds, all at one moment.
    async fn inspect(&self, login: Login<'_>) -> Result<Catalog, String>;

    /// Compiles a statement. Nothing is run.
    async fn compile(&self, login: Login<'_>, sql: &str) -> Result<(), String>;

    /// Tells whether it is the very database in which somebody holds this advisory lock.
    async fn is_locked(&self, login: Login<'_>, lock: i64) -> Result<bool, String>;

    /// Reads, where the database itself refuses every change.
    async fn read(&self, login: Login<'_>, work: Arc<Work>, rows_max: u64) -> Result<Performed, ToolError>;

    /// Writes; under this mark where a journal is kept.
    async fn write(
        &self,
        login: Login<'_>,
        scope: &Scope,
        work: Arc<Work>,
        limits: &Limits,
        mark: Option<Mark>,
    ) -> Result<Performed, ToolError>;

    /// Counts what a statement would touch. It is not run, unless nothing else can tell.
    async fn measure(
        &self,
        login: Login<'_>,
        scope: &Scope,
        work: Arc<Work>,
        mask: &Mask,
    ) -> Result<Measured, MeasureError>;

    /// Runs a statement that changes rows and rolls it back. The mark is that of the call that is meant; which journal
    /// it is for, the database finds out itself.
    async fn rehearse(
        &self,
        login: Login<'_>,
        scope: &Scope,
        work: Arc<Work>,
        mark: Mark,
    ) -> Result<Reach, MeasureError>;

    /// Names the journal that is there now. None when it cannot say.
    async fn identity(&self, login: Login<'_>) -> Option<Arc<str>>;

    /// Tells what became of a call; one that has left no trace is fenced off.
    async fn recall(&self, login: Login<'_>, doubt: &Doubt) -> Result<Recalled, MeasureError>;

    /// Counts what undoing a call would touch.
    async fn undo_measure(
        &self,
        login: Login<'_>,
        mark: &Mark,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Measured, MeasureError>;

    /// Undoes a call. Returns the rows touched as well.
    async fn undo(
        &self,
        login: Login<'_>,
        mark: Mark,
        undoing: &Undoing,
        limits: &Limits,
        mask: &Mask,
    ) -> Result<(Undone, u64), ToolError>;

    /// Writes down the statements that prepare it to keep the rows of these tables.
    fn prepare_sql(&self, login: Login<'_>, tables: &[String]) -> Result<String, String>;

    /// Prepares it to keep the rows of these tables, by an administrator's connection string where the account of the
    /// tools must not be the one that does so. Says what is kept from now on.
    async fn prepare(
        &self,
        login: Login<'_>,
        admin: Option<&SecretString>,
        tables: &[String],
    ) -> Result<Vec<String>, String>;

    /// Forgets rows that were kept longer than the retention; returns how many.
    async fn prune(&self, login: Login<'_>) -> Result<u64, String>;
}
