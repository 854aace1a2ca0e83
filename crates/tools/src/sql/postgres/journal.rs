//! The journal in a PostgreSQL database.

use countersign_gate::{Credential, MeasureError, Measured, Recalled, ToolError};
use countersign_rules::CallId;
use secrecy::SecretString;

use super::PostgresDatabase;
use crate::sql::{
    journal::{Mark, NO_JOURNAL, OnChange, Undone},
    tool::Mask,
};

#[expect(clippy::unused_async, reason = "the server is not asked yet")]
impl PostgresDatabase {
    /// The statements that prepare the database for an account, for its administrator to read and run.
    pub(in crate::sql) fn prepare_sql(
        &self,
        _credential: &Credential,
        _tables: &[String],
    ) -> Result<String, String> {
        Err(NO_JOURNAL.into())
    }

    /// Prepares the database with an administrator's connection string; says what is kept from now on.
    pub(in crate::sql) async fn prepare(
        &self,
        _credential: &Credential,
        _admin: &SecretString,
        _tables: &[String],
    ) -> Result<Vec<String>, String> {
        Err(NO_JOURNAL.into())
    }

    /// What became of a call; one that has left no trace is fenced off.
    pub(in crate::sql) async fn recall(
        &self,
        _credential: &Credential,
        _call: &CallId,
    ) -> Result<Recalled, MeasureError> {
        Ok(Recalled::Unknown)
    }

    /// What undoing a call would touch.
    pub(in crate::sql) async fn undo_measure(
        &self,
        _credential: &Credential,
        _call: &CallId,
        _on_change: OnChange,
        _mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        Err(MeasureError::NotMeasurable(NO_JOURNAL.into()))
    }

    /// Undoes a call within the warrant, or not at all. Returns the rows touched as well.
    pub(in crate::sql) async fn undo(
        &self,
        _credential: &Credential,
        _mark: Mark,
        _call: &CallId,
        _on_change: OnChange,
        _rows_max: u64,
    ) -> Result<(Undone, u64), ToolError> {
        Err(ToolError::Failed { message: NO_JOURNAL.into() })
    }

    /// Forgets rows that were kept longer than the retention; returns how many.
    pub(in crate::sql) async fn prune(&self, _credential: &Credential) -> Result<u64, String> {
        Err(NO_JOURNAL.into())
    }
}
