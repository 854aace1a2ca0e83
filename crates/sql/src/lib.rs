//! What an SQL statement does, from the real grammars, without a database.
//!
//! [`explain`] parses a text with PostgreSQL's own parser, or prepares it with SQLite's own compiler in a private empty
//! database, and says of each statement its [`Effect`], its [`Category`]s, the relations it reads and writes, the
//! functions it calls, whether a predicate bounds it, and why.
//!
//! # The rule
//!
//! **Anything that cannot be proved to be a read is not a read.** A function, operator, type, syntax or statement that
//! is not known is a write of the category `opaque`. A text that cannot be parsed is an error, never a guess.
//!
//! | effect | what |
//! |---|---|
//! | `read` | queries over relations and harmless built-in functions; `SHOW`; `COPY … TO STDOUT`; `EXPLAIN` without `ANALYZE`; SQLite's reading pragmas |
//! | `write` | `INSERT`, upserts, `UPDATE` with a predicate that chooses among rows, `MERGE` without deletes; creating and altering; grants; settings; transaction control; locks, cursors, sequences, notifications; maintenance; functions, operators and types not known |
//! | `destructive` | every `DELETE`, `TRUNCATE`, `DROP`; `UPDATE` without a predicate or with a tautology; `MERGE` with a delete; SQLite's `REPLACE`; altering what drops or rewrites values or guards; overwriting files and running programs; `DO`, `CALL` and `EXECUTE`, whose effect cannot be seen |
//!
//! # Codes of reasons
//!
//! - rows: `inserts`, `upserts`, `updates`, `deletes`, `merges`, `truncates`, `truncates_cascade`, `replaces`, `unbounded`,
//!   `refreshes`
//! - objects: `creates`, `creates_table`, `creates_view`, `creates_code`, `virtual_table`, `alters`, `drops`, `rewrites`,
//!   `disables`, `unlogged`, `writes_catalog`
//! - people: `privileges`, `roles`, `ownership`, `row_security`
//! - session: `setting`, `cursor`, `prepared`, `listens`, `transaction`, `pragma`
//! - server: `maintenance`, `server_setting`, `loads_code`, `connects`, `copy_file`, `copy_program`, `attaches`,
//!   `vacuum_into`, `notifies`, `row_locks`, `table_locks`
//! - what cannot be seen: `runs_code`, `calls_procedure`, `executes_prepared`, `unknown_function`, `unknown_operator`,
//!   `unknown_type`, `unknown_node`, `unknown_statement`, `compiled_write` (SQLite's compiler saw more than the grammar)
//! - functions: `function` (one that is known to do more than compute), `volatile_function`, `declared_function`
//! - from a catalog: `cascades`, `trigger`, `rule`, `row_security`, `writes_view`, `unseen_view`, `foreign_table`,
//!   `unseen_function`, `native_function`, `definer_function`
//! - notes: `explain_analyze`, `credentials`
//!
//! What is deliberately not here: no connection, no clock, no files, no decision. The answer is about the text; objects
//! of the schema (a view over a volatile function, a trigger) show only with a [`Catalog`], made ready as [`Known`], and reads
//! are to be run in read-only transactions all the same.

mod catalog;
mod error;
mod findings;
mod known;
mod postgres;
mod predicate;
mod reach;
mod sight;
mod snapshot;
mod sqlite;
mod statement;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use catalog::{
    Action, Cast, Catalog, Column, ForeignKey, Name, Operator, Policy, Relation, RelationKind, Routine,
    RoutineKind, Rule, Trigger, Type, Volatility,
};
pub use error::SqlError;
pub use known::Known;
pub use postgres::{UnknownExtension, check_extension, known_extensions};
pub use reach::{NotCountable, Query, ReachQuery, RowSource, reach_query};
pub use snapshot::{Change, Difference, Snapshot, SnapshotError};
pub use statement::{Bound, Category, Effect, Explained, FunctionRef, Reason, Statement, TableRef, Verb};

/// Longest text that is examined, in bytes.
pub const LENGTH_MAX: usize = 64 * 1024;

/// Stack that must be left for the deepest tree that is accepted, in bytes: measured, doubled.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 4096 * 1024 } else { 512 * 1024 };

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// PostgreSQL, the grammar of release 18.
    Postgres,
    /// SQLite, the library that is compiled in.
    Sqlite,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        })
    }
}

/// A word that names no dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a dialect; `postgres` and `sqlite` are")]
pub struct UnknownDialect(pub String);

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "postgres" => Ok(Self::Postgres),
            "sqlite" => Ok(Self::Sqlite),
            other => Err(UnknownDialect(other.to_owned())),
        }
    }
}

/// Says what each statement of a text does.
///
/// # Errors
///
/// [`SqlError`] when the text is empty, too long or too deep, is not valid in the dialect, or cannot be classified.
pub fn explain(dialect: Dialect, sql: &str, known: Option<&Known>) -> Result<Explained, SqlError> {
    examined(sql)?;
    let statements = match dialect {
        Dialect::Postgres => with_stack(|| postgres::explain(sql, known))?,
        Dialect::Sqlite => with_stack(|| sqlite::explain(sql, known))?,
    };
    if statements.is_empty() { Err(SqlError::Empty) } else { Ok(Explained::of(statements)) }
}

/// Of the text of a SQLite trigger: the events it answers to, and whether it acts in place of them. None when the text is
/// not that of a trigger.
#[must_use]
pub fn sqlite_trigger(sql: &str) -> Option<Trigger> {
    examined(sql).ok()?;
    with_stack(|| sqlite::trigger(sql))
}

/// A short hash that texts of one shape share: constants do not count.
///
/// # Errors
///
/// Like [`explain`].
pub fn fingerprint(dialect: Dialect, sql: &str) -> Result<String, SqlError> {
    examined(sql)?;
    match dialect {
        Dialect::Postgres => with_stack(|| postgres::fingerprint(sql)),
        Dialect::Sqlite => with_stack(|| sqlite::fingerprint(sql)),
    }
}

/// The text in its normal form: texts that differ in blanks, comments, the case of keywords and of names without quotes,
/// parentheses and casts that the grammar does not tell apart, or in how a constant is spelled, have the same. Constants
/// themselves count. It is for comparing, and not to be run.
///
/// # Errors
///
/// Like [`explain`].
pub fn normal(dialect: Dialect, sql: &str) -> Result<String, SqlError> {
    examined(sql)?;
    match dialect {
        Dialect::Postgres => with_stack(|| postgres::normal(sql)),
        Dialect::Sqlite => with_stack(|| sqlite::normal(sql)),
    }
}

/// The text with its constants replaced by placeholders, fit for a log that must not hold values.
///
/// # Errors
///
/// Like [`explain`].
pub fn normalize(dialect: Dialect, sql: &str) -> Result<String, SqlError> {
    examined(sql)?;
    match dialect {
        Dialect::Postgres => with_stack(|| postgres::normalize(sql)),
        Dialect::Sqlite => with_stack(|| sqlite::normalize(sql)),
    }
}

/// The parsers refuse a tree that is too deep, but the levels they accept are wide, above all in a debug build. A thread
/// with less stack left than they may need gets one for it.
fn with_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK_BYTES, STACK_BYTES.saturating_mul(2), work)
}

fn examined(sql: &str) -> Result<(), SqlError> {
    if sql.len() > LENGTH_MAX {
        return Err(SqlError::TooLong { length: sql.len(), max: LENGTH_MAX });
    }
    match sql.bytes().position(|byte| byte == 0) {
        Some(position) => Err(SqlError::ZeroByte { position }),
        None => Ok(()),
    }
}
