//! PostgreSQL, by its own parser.

mod boundary;
mod change;
mod consequences;
mod credentials;
mod expression;
mod extensions;
mod functions;
mod guard;
mod implicit;
mod json;
mod query;
mod reach;
mod routine;
mod texts;
mod utility;
mod walk;

use pg_query::NodeEnum;
use pg_query::protobuf as pb;

pub(crate) use extensions::Extensions;
pub use extensions::{UnknownExtension, check_extension, known_extensions};
pub(crate) use reach::reach_query;
pub(crate) use texts::Texts;

use crate::error::SqlError;
use crate::known::Known;
use crate::statement::Statement;

pub(crate) fn explain(sql: &str, known: Option<&Known>) -> Result<Vec<Statement>, SqlError> {
    let statements = parse(sql)?;
    Ok(statements
        .iter()
        .filter_map(|raw| raw.stmt.as_ref())
        .map(|node| utility::statement(node, known))
        .collect())
}

pub(crate) fn fingerprint(sql: &str) -> Result<String, SqlError> {
    pg_query::fingerprint(sql, 0, 0).map(|print| print.hex).map_err(|error| refused(sql, &error))
}

/// What the parsed tree is written as.
pub(crate) fn normal(sql: &str) -> Result<String, SqlError> {
    let parsed = pg_query::parse(sql, 0).map_err(|error| refused(sql, &error))?;
    pg_query::deparse(&parsed.protobuf, pg_query::DeparseOptions::default())
        .map_err(|error| refused(sql, &error))
}

pub(crate) fn normalize(sql: &str) -> Result<String, SqlError> {
    pg_query::normalize(sql).map_err(|error| refused(sql, &error))
}

fn parse(sql: &str) -> Result<Vec<pb::RawStmt>, SqlError> {
    pg_query::parse(sql, 0).map(|result| result.protobuf.stmts).map_err(|error| refused(sql, &error))
}

fn refused(sql: &str, error: &pg_query::Error) -> SqlError {
    match error {
        // The tree is decoded with a limit on its depth.
        pg_query::Error::Decode(_) => SqlError::TooDeep,
        pg_query::Error::Parse(message)
            if message.contains("stack depth limit") || message.contains("memory exhausted") =>
        {
            SqlError::TooDeep
        }
        pg_query::Error::Parse(message) => SqlError::Syntax {
            dialect: "PostgreSQL",
            message: message.clone(),
            position: place(sql, message),
        },
        pg_query::Error::Conversion(_)
        | pg_query::Error::InvalidJson(_)
        | pg_query::Error::InvalidPointer
        | pg_query::Error::Scan(_)
        | pg_query::Error::IsUtility(_)
        | pg_query::Error::Split(_) => SqlError::Unclassifiable { message: error.to_string() },
    }
}

/// The binding keeps the message and loses the place. Where the message quotes what it stumbled over and the text holds
/// that once, the place is known all the same.
fn place(sql: &str, message: &str) -> Option<usize> {
    if message.ends_with("at end of input") {
        return Some(sql.trim_end().len());
    }
    let near = message.split_once("at or near \"")?.1.strip_suffix('"')?;
    let mut found = sql.match_indices(near).map(|(offset, _)| offset);
    let first = found.next();
    if found.next().is_some() { None } else { first }
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The walk names every field by hand; the serialized tree shows every field by itself. Both find the same calls.
    #[test]
    fn the_walk_misses_no_call_in_a_query() {
        let mut compared = 0;
        for sql in include_str!("../../tests/corpus/postgres.txt").lines() {
            let Ok(statements) = parse(sql) else { continue };
            for raw in &statements {
                let Some(node) = &raw.stmt else { continue };
                let mut calls = std::collections::BTreeSet::new();
                collect(&serde_json::to_value(node).unwrap(), &mut calls);
                let found: std::collections::BTreeSet<_> = utility::statement(node, None)
                    .functions
                    .into_iter()
                    .map(|function| function.name)
                    .collect();
                assert!(found.is_superset(&calls), "{sql}: {calls:?} but only {found:?}");
                compared += calls.len();
            }
        }
        assert!(compared > 250, "only {compared} calls compared");
    }

    fn collect(value: &Value, calls: &mut std::collections::BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(name) =
                    map.get("funcname").and_then(Value::as_array).and_then(|parts| parts.last())
                    && map.contains_key("agg_star")
                {
                    calls.insert(name["node"]["String"]["sval"].as_str().unwrap().to_owned());
                }
                map.values().for_each(|inner| collect(inner, calls));
            }
            Value::Array(list) => list.iter().for_each(|inner| collect(inner, calls)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
