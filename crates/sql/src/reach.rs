//! How many rows a statement would touch, as a query that can be run without touching them.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::statement::{TableRef, Verb};
use crate::{Dialect, Effect, Known, SqlError};

/// A query and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Its text.
    pub text: String,
    /// Where its numbered parameters come from: `$1` (SQLite: `?1`) takes parameter `parameters[0]` of the statement,
    /// counted from one, and so on. Named parameters of SQLite keep their names and are not listed.
    pub parameters: Vec<u32>,
}

/// Where the rows of a statement come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowSource {
    /// The statement says how many: `INSERT … VALUES`.
    Known(u64),
    /// A query tells.
    Query {
        /// Yields one row for each row touched; without a limit.
        rows: Query,
        /// Yields the touched rows as they are now, or the rows to be inserted; without a limit.
        sample: Query,
    },
}

/// How to size one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachQuery {
    /// The table whose rows change.
    pub target: TableRef,
    /// What happens to them.
    pub verb: Verb,
    /// The columns that an `UPDATE`, or the `DO UPDATE` of an `INSERT`, sets. None where the text alone does not
    /// tell: SQLite's compiler does.
    pub columns: Option<BTreeSet<String>>,
    /// The count.
    pub source: RowSource,
    /// Whether the count is exact at the moment it is taken. Otherwise it is the most that can be (`ON CONFLICT`), or
    /// something else decides: chance (`random()`), row security, a rule. Cascades are never part of it.
    pub exact: bool,
}

impl ReachQuery {
    /// A query of one `bigint`: the number of rows, counted to `limit + 1` at most.
    #[must_use]
    pub fn count(&self, limit: u64) -> Query {
        match &self.source {
            RowSource::Known(rows) => Query { text: format!("SELECT {rows}"), parameters: Vec::new() },
            RowSource::Query { rows, .. } => Query {
                text: format!(
                    "SELECT count(*) FROM ({} LIMIT {}) AS countersign_reach",
                    rows.text,
                    limit.saturating_add(1)
                ),
                parameters: rows.parameters.clone(),
            },
        }
    }

    /// A query of up to `limit` rows that the statement would touch; none where the statement itself shows them.
    #[must_use]
    pub fn sample(&self, limit: u64) -> Option<Query> {
        match &self.source {
            RowSource::Known(_) => None,
            RowSource::Query { sample, .. } => Some(Query {
                text: format!("{} LIMIT {limit}", sample.text),
                parameters: sample.parameters.clone(),
            }),
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
pub fn reach_query(dialect: Dialect, sql: &str, known: Option<&Known>) -> Result<ReachQuery, NotCountable> {
    let explained = crate::explain(dialect, sql, known)?;
    if explained.statements.len() != 1 {
        return Err(NotCountable::Statements(explained.statements.len()));
    }
    let mut query = match dialect {
        Dialect::Postgres => crate::with_stack(|| crate::postgres::reach_query(sql))?,
        Dialect::Sqlite => crate::with_stack(|| crate::sqlite::reach_query(sql))?,
    };
    if let RowSource::Query { .. } = query.source {
        for query in [Some(query.count(1)), query.sample(1)].into_iter().flatten() {
            let explained = crate::explain(dialect, &query.text, known)?;
            if explained.effect != Effect::Read {
                let reason = explained.reasons.first().map(|reason| reason.text.clone()).unwrap_or_default();
                return Err(NotCountable::NotARead(reason));
            }
        }
    }
    let decided_elsewhere = |code: &str| matches!(code, "row_security" | "rule" | "writes_view");
    query.exact &= !explained.functions.iter().any(|function| CHANCE.contains(&function.name.as_str()))
        && !explained.reasons.iter().any(|reason| decided_elsewhere(reason.code));
    Ok(query)
}

/// Functions that may choose other rows the next time.
const CHANCE: [&str; 14] = [
    "random",
    "randomblob",
    "random_normal",
    "clock_timestamp",
    "timeofday",
    "gen_random_uuid",
    "uuidv4",
    "uuidv7",
    "bernoulli",
    "system",
    "currval",
    "lastval",
    "array_sample",
    "array_shuffle",
];
