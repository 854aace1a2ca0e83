//! The journal in a SQLite file.

use countersign_gate::{MeasureError, Measured, Recalled, ToolError};
use countersign_rules::CallId;

use super::SqliteDatabase;
use crate::sql::{
    journal::{Mark, NO_JOURNAL, OnChange, Undone},
    tool::Mask,
};

#[expect(clippy::unused_async, reason = "the file is not asked yet")]
impl SqliteDatabase {
    /// The statements that prepare the file, for people to read.
    pub(in crate::sql) fn prepare_sql(&self, _tables: &[String]) -> Result<String, String> {
        Err(NO_JOURNAL.into())
    }

    /// Prepares the file; says what is kept from now on.
    pub(in crate::sql) async fn prepare(&self, _tables: &[String]) -> Result<Vec<String>, String> {
        Err(NO_JOURNAL.into())
    }

    /// What became of a call; one that has left no trace is fenced off.
    pub(in crate::sql) async fn recall(&self, _call: &CallId) -> Result<Recalled, MeasureError> {
        Ok(Recalled::Unknown)
    }

    /// What undoing a call would touch.
    pub(in crate::sql) async fn undo_measure(
        &self,
        _call: &CallId,
        _on_change: OnChange,
        _mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        Err(MeasureError::NotMeasurable(NO_JOURNAL.into()))
    }

    /// Undoes a call within the warrant, or not at all. Returns the rows touched as well.
    pub(in crate::sql) async fn undo(
        &self,
        _mark: Mark,
        _call: &CallId,
        _on_change: OnChange,
        _rows_max: u64,
    ) -> Result<(Undone, u64), ToolError> {
        Err(ToolError::Failed { message: NO_JOURNAL.into() })
    }

    /// Forgets rows that were kept longer than the retention; returns how many.
    pub(in crate::sql) async fn prune(&self) -> Result<u64, String> {
        Err(NO_JOURNAL.into())
    }
}
