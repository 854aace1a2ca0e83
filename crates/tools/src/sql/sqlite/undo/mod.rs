//! Putting rows back to what they were before a call.
//!
//! What a call changed is kept as states, not as steps: each row as it was and as it became. So the rows that
//! it left are taken out first, and those that were there before are put in afterwards: no order of tables and
//! no exchange of unique values is in the way. A row that is no longer what the call left has changed since.
//!
//! Reading what was kept of a call ([`kept`]), comparing it with the rows that are there now ([`compare`]), putting them
//! back ([`restore`]) so that no foreign key is broken ([`dangling`]), and keeping what that changed ([`mod@record`]).

mod compare;
mod dangling;
mod kept;
mod record;
mod restore;

use std::{sync::Arc, time::Duration};

use countersign_gate::{Limits, MeasureError, Measured, ToolError};
use countersign_rules::Reach;
use rusqlite::{Connection, limits::Limit};
use tokio::task::spawn_blocking;

use super::{
    SqliteDatabase,
    connection::{limit_time, raw, rolled_back, unlimited},
    fault::{SqliteFault, failed, interrupted, told},
    journal::{complete, intended, record},
};
use crate::{
    definition::SqlLimits,
    sql::{
        journal::{Mark, NO_JOURNAL, UNDO_PATIENCE, Undoing, Undone, impatient},
        mask::Mask,
        tally::sum,
    },
};
use kept::KeptCall;

impl SqliteDatabase {
    /// Tells what undoing a call would touch.
    pub(super) async fn undo_measure(
        &self,
        undoing: &Undoing,
        mask: &Mask,
    ) -> Result<Measured, MeasureError> {
        let (sought, mask) = (undoing.call.clone(), mask.clone());
        let (undone, sample) = self
            .measuring(move |connection, _limits| {
                // What a call may not return it may have changed.
                let most = connection.limit(Limit::SQLITE_LIMIT_LENGTH)?;
                connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, i32::MAX)?;
                let looked = KeptCall::read(connection, &sought).and_then(|undo| {
                    let (undone, _) = undo.compared(connection, &mask)?;
                    let sample = undo.sample(&mask, &undone);
                    Ok((undone, sample))
                });
                connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, most)?;
                looked
            })
            .await?;
        // Triggers are switched off while rows go back.
        undone.measured(undoing, Vec::new(), sample)
    }

    /// Undoes a call within the warrant, or not at all. Returns the rows touched as well.
    pub(super) async fn undo(
        &self,
        mark: Mark,
        undoing: &Undoing,
        bounds: &Limits,
        mask: &Mask,
    ) -> Result<(Undone, u64), ToolError> {
        let Some(bytes_max) = self.journal.as_ref().map(|settings| settings.bytes_max) else {
            return Err(ToolError::Failed { message: NO_JOURNAL.into() });
        };
        let Some(mut turn) = self.connections.write_turn().await else {
            return Err(ToolError::Unavailable { message: "the database is busy with another write".into() });
        };
        let (undoing, bounds, limits, mask) = (undoing.clone(), bounds.clone(), self.limits, mask.clone());
        let (path, known) = (self.path.clone(), Arc::clone(&self.known));
        let task = spawn_blocking(move || {
            if let Err(error) = intended(&mut turn, &path, &mark, &known) {
                turn.discard();
                return Err(error);
            }
            let outcome = match turn.connection() {
                Ok(connection) => undo(connection, &mark, &undoing, &bounds, bytes_max, &limits, &mask),
                Err(error) => Err(failed(&SqliteFault::Sqlite(error))),
            };
            // Triggers and foreign keys are switched off on it.
            turn.discard();
            outcome
        });
        // A panic may have come after the commit.
        task.await.unwrap_or_else(|_| Err(ToolError::InDoubt { message: "undoing failed on the way".into() }))
    }
}

/// The whole undoing, one transaction.
fn undo(
    connection: &mut Connection,
    mark: &Mark,
    undoing: &Undoing,
    bounds: &Limits,
    bytes_max: u64,
    limits: &SqlLimits,
    mask: &Mask,
) -> Result<(Undone, u64), ToolError> {
    let call = &undoing.call;
    // Rows go back as they were, not as triggers would have it now; and a foreign key must not take along
    // what refers to a row that is taken out and put back. What refers to nothing afterwards is looked for.
    let timeout_ms = limits.statement_timeout_ms.saturating_mul(UNDO_PATIENCE);
    let prepared = raw(connection).and_then(|()| limit_time(connection, Duration::from_millis(timeout_ms)));
    if let Err(error) = prepared.and_then(|()| connection.execute_batch("BEGIN IMMEDIATE")) {
        return Err(failed(&SqliteFault::Sqlite(error)));
    }
    let done = record(connection, mark, Some(call))
        .and_then(|()| KeptCall::read(connection, call))
        .and_then(|undo| undo.apply(connection, mark, undoing.on_change, bytes_max, mask));
    let undone = match done {
        Ok(undone) => undone,
        Err(SqliteFault::Sqlite(error)) if interrupted(&error) => {
            let message = impatient(timeout_ms);
            return Err(rolled_back(connection, ToolError::Failed { message }));
        }
        Err(fault) => return Err(rolled_back(connection, failed(&fault))),
    };
    if let Some(message) = undone.refusal(undoing) {
        return Err(rolled_back(connection, ToolError::Failed { message }));
    }
    let rows = sum(&undone.restored);
    let reach = Reach { rows, exact: true, tables: undone.restored.clone(), ..Reach::default() };
    // INVARIANT: nothing is committed that touched more than the warrant allows, in all or in one table.
    if bounds.exceeded_by(&reach) {
        return Err(rolled_back(connection, ToolError::Exceeded { reach: Box::new(reach) }));
    }
    if rows == 0 {
        let message = format!("nothing is left to undo of call `{call}`");
        return Err(rolled_back(connection, ToolError::Failed { message }));
    }
    if let Err(fault) = complete(connection, mark, rows) {
        return Err(rolled_back(connection, failed(&fault)));
    }
    if let Err(error) = unlimited(connection) {
        return Err(rolled_back(connection, failed(&SqliteFault::Sqlite(error))));
    }
    match connection.execute_batch("COMMIT") {
        Ok(()) => Ok((undone, rows)),
        Err(error) if !connection.is_autocommit() => {
            Err(rolled_back(connection, failed(&SqliteFault::Sqlite(error))))
        }
        // See `write`: pages may have reached the log before the disk failed. The journal will tell.
        Err(error) => {
            let message = format!("the commit failed on the way: {}", told(&SqliteFault::Sqlite(error)));
            Err(ToolError::InDoubt { message })
        }
    }
}
