//! Reading, in a transaction in which the server refuses every change.

use std::{sync::Arc, time::Duration};

use countersign_gate::{Credential, Performed, ToolError};
use deadpool_postgres::Object;
use futures::{TryStreamExt as _, pin_mut};
use serde_json::Value;
use tokio_postgres::{Row, Statement};

use super::{
    GRACE, PostgresDatabase,
    connection::forget,
    fault::{PostgresFault, failed, outdated},
    value::{Argument, Cell, has_form},
};
use crate::{
    definition::SqlLimits,
    secret::Scrubber,
    sql::{
        value::{BadRow, Room, Rows},
        work::Work,
    },
};

impl PostgresDatabase {
    /// Reads, in a transaction in which the server refuses every change.
    pub(super) async fn read(
        &self,
        credential: &Credential,
        work: Arc<Work>,
        rows_max: u64,
    ) -> Result<Performed, ToolError> {
        let scrubber = self.connections.scrubber(credential);
        let mut client = self.connections.connect(credential).await?;
        let wait = Duration::from_millis(self.target.limits.statement_timeout_ms).saturating_add(GRACE);
        let reading = async {
            match self.read_with(&mut client, &work, rows_max, &scrubber).await {
                // What was prepared on this connection is of a table that has changed since. It is read anew.
                Err(fault) if outdated(&fault) => {
                    client.statement_cache.clear();
                    self.read_with(&mut client, &work, rows_max, &scrubber).await
                }
                other => other,
            }
        };
        let outcome = tokio::time::timeout(wait, reading).await;
        match outcome {
            Ok(Ok(rows)) => {
                let count = rows.len();
                Ok(Performed { reply: rows.reply(), rows: count, amount: None })
            }
            Ok(Err(fault)) => {
                forget(client, &fault);
                Err(failed(&scrubber, &fault))
            }
            Err(_elapsed) => {
                drop(Object::take(client));
                Err(ToolError::Failed { message: "the database did not answer in time".into() })
            }
        }
    }

    async fn read_with(
        &self,
        client: &mut Object,
        work: &Work,
        rows_max: u64,
        scrubber: &Scrubber,
    ) -> Result<Rows, PostgresFault> {
        let limits = &self.target.limits;
        let tx = client.build_transaction().read_only(true).start().await?;
        tx.batch_execute(&self.pinned(limits.statement_timeout_ms)).await?;
        let statement = prepare(&tx, work).await?;
        let mut rows = new_rows(&statement, rows_max, limits, scrubber);
        let arguments = arguments(work);
        let portal = tx.bind_raw(&statement, arguments).await?;
        // One more than may be returned, to know whether there are more.
        let fetch = i32::try_from(rows_max.saturating_add(1)).unwrap_or(i32::MAX);
        let stream = tx.query_portal_raw(&portal, fetch).await?;
        pin_mut!(stream);
        while let Some(row) = stream.try_next().await? {
            if rows.push(cells(&row, rows.columns())?)? == Room::Full {
                break;
            }
        }
        work.fits(|| rows.reply()).map_err(PostgresFault::Other)?;
        tx.rollback().await?;
        Ok(rows)
    }
}

async fn prepare(tx: &deadpool_postgres::Transaction<'_>, work: &Work) -> Result<Statement, PostgresFault> {
    let statement = if work.is_fixed() {
        tx.prepare_cached(&work.statement.text).await?
    } else {
        tx.prepare(&work.statement.text).await?
    };
    checked(&statement)?;
    Ok(statement)
}

/// Refuses, before the statement runs, columns whose values could not be returned.
pub(super) fn checked(statement: &Statement) -> Result<(), PostgresFault> {
    match statement.columns().iter().find(|column| !has_form(column.type_())) {
        None => Ok(()),
        Some(column) => Err(PostgresFault::Other(format!(
            "column `{}` is of type `{}`, which has no JSON form; cast it to text",
            column.name(),
            column.type_()
        ))),
    }
}

pub(super) fn new_rows(
    statement: &Statement,
    rows_max: u64,
    limits: &SqlLimits,
    scrubber: &Scrubber,
) -> Rows {
    let columns = statement.columns().iter().map(|column| column.name().to_owned());
    Rows::new(columns, rows_max, limits.result_bytes_max).keeping_out(scrubber)
}

pub(super) fn cells(row: &Row, columns: &[String]) -> Result<Vec<Value>, PostgresFault> {
    let mut values = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        let cell = row.try_get::<_, Cell>(at).map_err(|error| {
            let why =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            BadRow::Value(column.clone(), why)
        })?;
        values.push(cell.0);
    }
    Ok(values)
}

pub(super) fn arguments(work: &Work) -> Vec<Argument> {
    let value = |name: &String| Argument(work.arguments.get(name).cloned().unwrap_or(Value::Null));
    work.statement.parameters.iter().map(value).collect()
}
