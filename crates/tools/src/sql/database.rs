//! What the two databases do for a system, each in its own way.
//!
//! The rules know nothing of which database it is; all that differs between the two stands behind [`Database`].

use std::{fmt, sync::Arc};

use countersign_gate::{
    Authority, Credential, Doubt, Limits, MeasureError, Measured, Performed, Recalled, ToolError, Vault,
};
use countersign_rules::Reach;
use countersign_sql::{Catalog, Dialect};
use futures::future::BoxFuture;
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
pub(super) trait Database: fmt::Debug + Send + Sync {
    /// The grammar of its statements.
    fn dialect(&self) -> Dialect;

    /// The schemas in which it looks for tables that are named without one.
    fn search_path(&self) -> &[String];

    /// Reads what it holds, all at one moment.
    fn inspect<'d>(&'d self, login: Login<'d>) -> BoxFuture<'d, Result<Catalog, String>>;

    /// Compiles a statement. Nothing is run.
    fn compile<'d>(&'d self, login: Login<'d>, sql: &'d str) -> BoxFuture<'d, Result<(), String>>;

    /// Tells whether it is the very database in which somebody holds this advisory lock.
    fn is_locked<'d>(&'d self, login: Login<'d>, lock: i64) -> BoxFuture<'d, Result<bool, String>>;

    /// Reads, where the database itself refuses every change.
    fn read<'d>(
        &'d self,
        login: Login<'d>,
        work: Arc<Work>,
        rows_max: u64,
    ) -> BoxFuture<'d, Result<Performed, ToolError>>;

    /// Writes; under this mark where a journal is kept.
    fn write<'d>(
        &'d self,
        login: Login<'d>,
        scope: &'d Scope,
        work: Arc<Work>,
        limits: &'d Limits,
        mark: Option<Mark>,
    ) -> BoxFuture<'d, Result<Performed, ToolError>>;

    /// Counts what a statement would touch. It is not run, unless nothing else can tell.
    fn measure<'d>(
        &'d self,
        login: Login<'d>,
        scope: &'d Scope,
        work: Arc<Work>,
        mask: &'d Mask,
    ) -> BoxFuture<'d, Result<Measured, MeasureError>>;

    /// Runs a statement that changes rows and rolls it back. The mark is that of the call that is meant; which journal
    /// it is for, the database finds out itself.
    fn rehearse<'d>(
        &'d self,
        login: Login<'d>,
        scope: &'d Scope,
        work: Arc<Work>,
        mark: Mark,
    ) -> BoxFuture<'d, Result<Reach, MeasureError>>;

    /// Names the journal that is there now. None when it cannot say.
    fn identity<'d>(&'d self, login: Login<'d>) -> BoxFuture<'d, Option<Arc<str>>>;

    /// Tells what became of a call; one that has left no trace is fenced off.
    fn recall<'d>(
        &'d self,
        login: Login<'d>,
        doubt: &'d Doubt,
    ) -> BoxFuture<'d, Result<Recalled, MeasureError>>;

    /// Counts what undoing a call would touch.
    fn undo_measure<'d>(
        &'d self,
        login: Login<'d>,
        mark: &'d Mark,
        undoing: &'d Undoing,
        mask: &'d Mask,
    ) -> BoxFuture<'d, Result<Measured, MeasureError>>;

    /// Undoes a call. Returns the rows touched as well.
    fn undo<'d>(
        &'d self,
        login: Login<'d>,
        mark: Mark,
        undoing: &'d Undoing,
        limits: &'d Limits,
        mask: &'d Mask,
    ) -> BoxFuture<'d, Result<(Undone, u64), ToolError>>;

    /// Writes down the statements that prepare it to keep the rows of these tables.
    fn prepare_sql(&self, login: Login<'_>, tables: &[String]) -> Result<String, String>;

    /// Prepares it to keep the rows of these tables, by an administrator's connection string where the account of the
    /// tools must not be the one that does so. Says what is kept from now on.
    fn prepare<'d>(
        &'d self,
        login: Login<'d>,
        admin: Option<&'d SecretString>,
        tables: &'d [String],
    ) -> BoxFuture<'d, Result<Vec<String>, String>>;

    /// Forgets rows that were kept longer than the retention; returns how many.
    fn prune<'d>(&'d self, login: Login<'d>) -> BoxFuture<'d, Result<u64, String>>;
}
