//! A database as a system: its tools share it.

use std::{collections::BTreeSet, fmt, sync::Arc};

use countersign_gate::{
    Authority, Doubt, Limits, MeasureError, Measured, Recalled, ToolError, Upkeep, Vault,
};
use countersign_rules::SystemSpec;
use countersign_sql::{Dialect, Known, Snapshot};
use secrecy::SecretString;

use super::{
    database::{Database, Login},
    journal::{Mark, NO_JOURNAL, SCHEMA, Undoing, Undone},
    mask::Mask,
    postgres::PostgresDatabase,
    sqlite::SqliteDatabase,
};
use crate::{
    declared::check_kind,
    definition::{DefinitionError, Rehearse, SystemDefinition, Target},
};

/// A database with its connections, shared by the tools on it.
pub struct SqlSystem {
    spec: SystemSpec,
    vault: Arc<dyn Vault>,
    pub(super) database: Box<dyn Database>,
    journal: bool,
    rewritten: BTreeSet<String>,
    pub(super) rehearse: Rehearse,
    pub(super) catalog: Option<Arc<Snapshot>>,
    /// The catalog, ready to be asked.
    pub(super) known: Option<Arc<Known>>,
}

impl fmt::Debug for SqlSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSystem").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl SqlSystem {
    /// Prepares a database. Nothing is opened yet.
    ///
    /// # Errors
    /// [`DefinitionError`] when the definition is not of a database or contradicts itself.
    pub fn new(definition: &SystemDefinition, vault: Arc<dyn Vault>) -> Result<Arc<Self>, DefinitionError> {
        check_kind(definition)?;
        let spec = definition.spec.clone();
        let (journal, rehearse) = match &definition.target {
            Target::Sqlite(target) => (target.journal.as_ref(), target.limits.rehearse),
            Target::Postgres(target) => (target.journal.as_ref(), target.limits.rehearse),
            Target::Http(_) | Target::Mcp(_) => (None, Rehearse::Never),
        };
        let rewritten = journal.map(|journal| journal.rewritten.clone()).unwrap_or_default();
        let journal = journal.is_some();
        let database: Box<dyn Database> = match &definition.target {
            Target::Sqlite(target) => {
                Box::new(SqliteDatabase::new(target.path.clone(), target.limits, target.journal.clone()))
            }
            Target::Postgres(target) => {
                if target.search_path.is_empty() || target.search_path.iter().any(String::is_empty) {
                    let error = DefinitionError::system(&spec.name, "search_path", "names no schema");
                    return Err(error.help("list at least one schema, such as `public`"));
                }
                if target.search_path.iter().any(|schema| schema == SCHEMA) {
                    let message = format!("names `{SCHEMA}`, where calls are kept");
                    return Err(DefinitionError::system(&spec.name, "search_path", message));
                }
                Box::new(PostgresDatabase::new(target.clone()))
            }
            Target::Http(_) | Target::Mcp(_) => {
                return Err(DefinitionError::system(&spec.name, "kind", "is no database"));
            }
        };
        let catalog = definition.catalog.clone();
        let known = catalog.as_deref().map(|snapshot| Arc::new(Known::new(snapshot.catalog.clone())));
        let system = Self { spec, vault, database, journal, rewritten, rehearse, catalog, known };
        system.check_catalog()?;
        Ok(Arc::new(system))
    }

    /// A snapshot of another database would say wrong things of this one.
    fn check_catalog(&self) -> Result<(), DefinitionError> {
        let Some(snapshot) = self.catalog.as_deref() else { return Ok(()) };
        let bad = |message: String| {
            let error = DefinitionError::system(&self.spec.name, "catalog", message);
            Err(error
                .help(format!("write it again: `countersign system inspect {} --out FILE`", self.spec.name)))
        };
        if snapshot.dialect != self.dialect() {
            return bad(format!("is of a database of kind `{}`", snapshot.dialect));
        }
        if snapshot.catalog.search_path != self.search_path() {
            return bad(format!("was taken with the search path {:?}", snapshot.catalog.search_path));
        }
        Ok(())
    }

    /// Tells what it is declared to be.
    #[must_use]
    pub const fn spec(&self) -> &SystemSpec {
        &self.spec
    }

    /// Tells whether calls are kept in the database, so that their outcome is known there and they can be undone.
    #[must_use]
    pub const fn keeps_journal(&self) -> bool {
        self.journal
    }

    /// Columns in which rows that are put back may differ, because triggers write them.
    pub(crate) const fn rewritten(&self) -> &BTreeSet<String> {
        &self.rewritten
    }

    pub(super) fn login<'l>(&'l self, authority: &'l dyn Authority) -> Login<'l> {
        Login::new(&*self.vault, authority)
    }

    /// Tells which journal the database keeps now. None when it keeps none, or cannot say.
    pub(crate) async fn journal(&self, authority: &dyn Authority) -> Option<String> {
        if !self.journal {
            return None;
        }
        self.database.identity(self.login(authority)).await.map(|journal| journal.to_string())
    }

    /// Tells what the journal says of a call; one that has left no trace there is fenced off.
    pub(crate) async fn recall(&self, upkeep: &Upkeep, doubt: &Doubt) -> Result<Recalled, MeasureError> {
        if !self.journal {
            return Ok(Recalled::Unknown);
        }
        self.database.recall(self.login(upkeep), doubt).await
    }

    /// Tells what undoing a call would touch.
    pub(crate) async fn undo_measure(
        &self,
        authority: &dyn Authority,
        mark: &Mark,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        self.database.undo_measure(self.login(authority), mark, undoing, mask).await
    }

    /// Undoes a call within the warrant, or not at all. Returns the rows touched as well.
    pub(crate) async fn undo(
        &self,
        authority: &dyn Authority,
        mark: Mark,
        undoing: &Undoing,
        limits: &Limits,
        mask: &Mask,
    ) -> Result<(Undone, u64), ToolError> {
        self.database.undo(self.login(authority), mark, undoing, limits, mask).await
    }

    /// The statements that prepare the database to keep the rows of these tables, for its administrator to
    /// read and to run.
    ///
    /// # Errors
    /// A message when the system keeps no journal, or its credential cannot be opened.
    pub fn prepare_sql(&self, upkeep: &Upkeep, tables: &[String]) -> Result<String, String> {
        if !self.journal {
            return Err(NO_JOURNAL.into());
        }
        self.database.prepare_sql(self.login(upkeep), tables)
    }

    /// Prepares the database to keep the rows of these tables. PostgreSQL needs `admin`, an administrator's
    /// connection string: the account of the tools must not own what it is held to. Says what is kept.
    ///
    /// # Errors
    /// A message when the system keeps no journal, or the database refuses.
    pub async fn prepare(
        &self,
        upkeep: &Upkeep,
        admin: Option<&SecretString>,
        tables: &[String],
    ) -> Result<Vec<String>, String> {
        if !self.journal {
            return Err(NO_JOURNAL.into());
        }
        self.database.prepare(self.login(upkeep), admin, tables).await
    }

    /// Forgets rows that were kept longer than the retention; returns how many.
    ///
    /// # Errors
    /// A message when the system keeps no journal, or the database refuses.
    pub async fn prune(&self, upkeep: &Upkeep) -> Result<u64, String> {
        if !self.journal {
            return Err(NO_JOURNAL.into());
        }
        self.database.prune(self.login(upkeep)).await
    }

    /// Reads what the database holds: the catalog that sharpens what is said of statements on it.
    ///
    /// # Errors
    /// A text without secrets, when the database cannot be reached or read.
    pub async fn inspect(&self, upkeep: &Upkeep) -> Result<Snapshot, String> {
        let catalog = self.database.inspect(self.login(upkeep)).await?;
        Ok(Snapshot::new(self.dialect(), catalog))
    }

    /// Looks whether the database can be used as it is right now: reached with its credential, read, and, where it is to keep
    /// a journal, prepared. Changes nothing.
    ///
    /// # Errors
    /// Says why not, without secrets.
    pub async fn try_out(&self, upkeep: &Upkeep) -> Result<(), String> {
        self.inspect(upkeep).await?;
        if self.journal && self.journal(upkeep).await.is_none() {
            let name = &self.spec.name;
            return Err(format!(
                "its journal is not there, or not in the form of this version: run `countersign system prepare {name}`"
            ));
        }
        Ok(())
    }

    /// See [`crate::Systems::is_locked`].
    pub(crate) async fn is_locked(&self, upkeep: &Upkeep, lock: i64) -> Result<bool, String> {
        self.database.is_locked(self.login(upkeep), lock).await
    }

    /// Has the database compile a statement. Nothing is run.
    pub(super) async fn compile(&self, upkeep: &Upkeep, sql: &str) -> Result<(), String> {
        self.database.compile(self.login(upkeep), sql).await
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.database.dialect()
    }

    pub(super) fn search_path(&self) -> &[String] {
        self.database.search_path()
    }
}
