//! Reading, on a connection that can do nothing else.

use std::{sync::Arc, time::Duration};

use countersign_gate::{Performed, ToolError};
use rusqlite::Connection;
use serde_json::{Map, Value};

use super::{
    SqliteDatabase,
    connection::{Access, limit, unlimited},
    fault::{SqliteFault, failed},
    schema, value,
};
use crate::{
    definition::SqlLimits,
    sql::{
        value::{BadRow, Room, Rows},
        work::Work,
    },
};

impl SqliteDatabase {
    /// Reads. Nothing is changed whatever the statement says: the file is open for reading only.
    pub(super) async fn read(&self, work: Arc<Work>, rows_max: u64) -> Result<Performed, ToolError> {
        let Some(turn) = self.connections.read_turn().await else {
            return Err(ToolError::Unavailable { message: "the database is busy with other reads".into() });
        };
        let limits = self.limits;
        let task = tokio::task::spawn_blocking(move || {
            let mut fault = None;
            let rows = turn.run(|connection| {
                let outcome = read(connection, &work, rows_max, &limits);
                unlimited(connection)?;
                match outcome {
                    Ok(rows) => Ok(Some(rows)),
                    Err(SqliteFault::Sqlite(error)) => Err(error),
                    Err(other) => {
                        fault = Some(other);
                        Ok(None)
                    }
                }
            });
            match (rows, fault) {
                (Ok(Some(rows)), _) => {
                    let count = rows.len();
                    Ok(Performed { reply: rows.reply(), rows: count, amount: None })
                }
                (Ok(None), Some(fault)) => Err(failed(&fault)),
                (Ok(None), None) => Err(ToolError::Failed { message: "the read ended without rows".into() }),
                (Err(error), _) => Err(failed(&SqliteFault::Sqlite(error))),
            }
        });
        // A read that panicked has changed nothing.
        task.await.unwrap_or_else(|_| Err(ToolError::Failed { message: "reading failed".into() }))
    }
}

fn read(
    connection: &mut Connection,
    work: &Work,
    rows_max: u64,
    limits: &SqlLimits,
) -> Result<Rows, SqliteFault> {
    let tables = work.tables();
    let shadows = schema::within(connection, &schema::shadows(connection)?, &tables)?;
    let access = Access { tables, shadows, ..Access::default() };
    limit(connection, access, Duration::from_millis(limits.statement_timeout_ms))?;
    let statement = &work.statement;
    let mut prepared = connection.prepare(&statement.text)?;
    if !prepared.readonly() {
        return Err(SqliteFault::Argument("the database says that the statement is no read".into()));
    }
    bind(&mut prepared, &work.arguments)?;
    let rows = collect(&mut prepared, rows_max, limits)?;
    work.fits(|| rows.reply()).map_err(SqliteFault::Result)?;
    Ok(rows)
}

pub(super) fn bind(
    prepared: &mut rusqlite::Statement<'_>,
    arguments: &Map<String, Value>,
) -> Result<(), SqliteFault> {
    for index in 1..=prepared.parameter_count() {
        let name = prepared.parameter_name(index).and_then(|name| name.strip_prefix(':')).map(str::to_owned);
        let Some(name) = name else {
            return Err(SqliteFault::Argument("a placeholder has no name".into()));
        };
        let Some(bound) = value::bound(arguments.get(&name)) else {
            return Err(SqliteFault::Argument(format!("argument `{name}` does not fit into 64 bits")));
        };
        prepared.raw_bind_parameter(index, bound)?;
    }
    Ok(())
}

/// Steps through the statement to its end (a write must run to its end whatever is returned), and keeps as
/// many rows as there is room for.
pub(super) fn collect(
    prepared: &mut rusqlite::Statement<'_>,
    rows_max: u64,
    limits: &SqlLimits,
) -> Result<Rows, SqliteFault> {
    let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
    let read_only = prepared.readonly();
    let mut rows = Rows::new(columns, rows_max, limits.result_bytes_max);
    let mut full = false;
    let mut cursor = prepared.raw_query();
    while let Some(row) = cursor.next()? {
        if full {
            continue;
        }
        let mut values = Vec::with_capacity(rows.columns().len());
        for (at, column) in rows.columns().iter().enumerate() {
            let value = value::shown(row.get_ref(at)?).map_err(|why| BadRow::Value(column.clone(), why))?;
            values.push(value);
        }
        full = rows.push(values)? == Room::Full;
        if full && read_only {
            break;
        }
    }
    Ok(rows)
}
