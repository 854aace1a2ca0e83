//! How many rows a statement would touch, as a query that can be run without touching them.

use thiserror::Error;

use crate::statement::{TableRef, Verb};
use crate::{Catalog, Dialect, Effect, SqlError};

/// Where the rows of a statement come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowSource {
    /// The statement says how many: `INSERT … VALUES`.
    Known(u64),
    /// A query tells.
    Query {
        /// Yields one row for each row touched; without a limit.
        rows: String,
        /// Yields the touched rows themselves as they are now, or the rows to be inserted; without a limit.
        sample: String,
        /// Which parameter of the statement each parameter of both queries takes, in order. PostgreSQL: the numbers,
        /// so that `$1` of the query takes `$parameters[0]` of the statement. SQLite: empty, for the names or numbers
        /// are kept and unused ones may be left unbound.
        parameters: Vec<u32>,
    },
}

/// How to size one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachQuery {
    /// The table whose rows change.
    pub target: TableRef,
    /// What happens to them.
    pub verb: Verb,
    /// The count.
    pub source: RowSource,
    /// Whether the count is exact at the moment it is taken. Otherwise it is the most that can be (`ON CONFLICT`), or
    /// chance decides (`random()`).
    pub exact: bool,
}

impl ReachQuery {
    /// A query of one `bigint`: the number of rows, counted to `limit + 1` at most.
    #[must_use]
    pub fn count(&self, limit: u64) -> String {
        match &self.source {
            RowSource::Known(rows) => format!("SELECT {rows}"),
            RowSource::Query { rows, .. } => {
                format!("SELECT count(*) FROM ({rows} LIMIT {}) AS countersign_reach", limit.saturating_add(1))
            }
        }
    }

    /// A query of up to `limit` rows that the statement would touch.
    #[must_use]
    pub fn sample(&self, limit: u64) -> Option<String> {
        match &self.source {
            RowSource::Known(_) => None,
            RowSource::Query { sample, .. } => Some(format!("{sample} LIMIT {limit}")),
        }
    }
}

/// Why a statement cannot be sized by a query.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotCountable {
    /// It cannot be parsed or classified.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// More than one statement.
    #[error("the text holds {0} statements, and one can be sized at a time")]
    Statements(usize),
    /// Not an `INSERT`, `UPDATE`, `DELETE` or `TRUNCATE` of one table.
    #[error("the reach of this kind of statement cannot be counted")]
    Kind,
    /// A part of it changes something by itself, so that even counting would.
    #[error("counting would itself change something: {0}")]
    NotARead(String),
}

impl NotCountable {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sql(error) => error.code(),
            Self::Statements(_) => "reach_statements",
            Self::Kind => "reach_kind",
            Self::NotARead(_) => "reach_not_a_read",
        }
    }
}

/// Builds the query that sizes a statement. The queries are proved reads: [`crate::explain`] says so of both.
///
/// # Errors
///
/// [`NotCountable`] when no query can tell; the caller then has no measured reach.
pub fn reach_query(dialect: Dialect, sql: &str, catalog: Option<&Catalog>) -> Result<ReachQuery, NotCountable> {
    let explained = crate::explain(dialect, sql, catalog)?;
    if explained.statements.len() != 1 {
        return Err(NotCountable::Statements(explained.statements.len()));
    }
    let query = match dialect {
        Dialect::Postgres => crate::postgres::reach_query(sql)?,
        Dialect::Sqlite => crate::sqlite::reach_query(sql)?,
    };
    if let RowSource::Query { .. } = query.source {
        for text in [Some(query.count(1)), query.sample(1)].into_iter().flatten() {
            let explained = crate::explain(dialect, &text, catalog)?;
            if explained.effect != Effect::Read {
                let reason = explained.reasons.first().map(|reason| reason.text.clone()).unwrap_or_default();
                return Err(NotCountable::NotARead(reason));
            }
        }
    }
    Ok(query)
}
