//! PostgreSQL, by its own parser.

mod boundary;
mod consequences;
mod functions;
mod reach;
mod utility;
mod walk;

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

pub(crate) use reach::reach_query;

use crate::catalog::Catalog;
use crate::error::SqlError;
use crate::statement::Statement;

pub(crate) fn explain(sql: &str, catalog: Option<&Catalog>) -> Result<Vec<Statement>, SqlError> {
    parse(sql)?.iter().filter_map(|raw| raw.stmt.as_ref()).map(|node| Ok(utility::statement(node, catalog))).collect()
}

pub(crate) fn fingerprint(sql: &str) -> Result<String, SqlError> {
    on_own_stack(|| pg_query::fingerprint(sql, 0, 0)).map(|print| print.hex).map_err(|error| refused(&error))
}

pub(crate) fn normalize(sql: &str) -> Result<String, SqlError> {
    on_own_stack(|| pg_query::normalize(sql)).map_err(|error| refused(&error))
}

fn parse(sql: &str) -> Result<Vec<pb::RawStmt>, SqlError> {
    on_own_stack(|| pg_query::parse(sql, 0)).map(|result| result.protobuf.stmts).map_err(|error| refused(&error))
}

/// The C parser writes its tree recursively and does not watch its stack. The length of the text bounds the depth, so a
/// stack for the longest text is enough for every text. Pages that are not touched cost nothing.
fn on_own_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::grow(crate::STACK_BYTES, work)
}

fn refused(error: &pg_query::Error) -> SqlError {
    match error {
        // The tree is decoded with a limit on its depth.
        pg_query::Error::Decode(_) => SqlError::TooDeep,
        pg_query::Error::Parse(message) if message.contains("stack depth limit") || message.contains("memory exhausted") => {
            SqlError::TooDeep
        }
        pg_query::Error::Parse(message) => SqlError::Syntax { dialect: "PostgreSQL", message: message.clone(), position: None },
        pg_query::Error::Conversion(_)
        | pg_query::Error::InvalidJson(_)
        | pg_query::Error::InvalidPointer
        | pg_query::Error::Scan(_)
        | pg_query::Error::IsUtility(_)
        | pg_query::Error::Split(_) => SqlError::Unclassifiable { message: error.to_string() },
    }
}

/// The parts of a qualified name.
fn names(nodes: &[pb::Node]) -> Vec<&str> {
    nodes
        .iter()
        .filter_map(|node| match &node.node {
            Some(NodeEnum::String(text)) => Some(text.sval.as_str()),
            _ => None,
        })
        .collect()
}
