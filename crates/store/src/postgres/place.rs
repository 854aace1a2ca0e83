//! What entries and calls of agents are found by in the database; see [`crate::place`].

use crate::{
    place::By,
    record::call::{call_columns, files_calls},
};

/// This files the calls from an index to another one: complete tiles. Indexes say the rest.
pub(crate) const FILING: [&str; 1] = [files_calls!()];

/// Makes the statement for a filter. The one most selective column picks the index.
macro_rules! by_column {
    ($subject:literal, $order:literal) => {
        concat!(
            "SELECT idx, bytes FROM entry WHERE idx >= $1 AND at_ms >= $2 AND at_ms < $3",
            " AND (CAST($4 AS TEXT) IS NULL OR session = $4) AND (CAST($5 AS TEXT) IS NULL OR kind = $5)",
            " AND (CAST($6 AS TEXT) IS NULL OR agent = $6) AND (CAST($7 AS TEXT) IS NULL OR approval = $7)",
            " AND ",
            $subject,
            " ORDER BY idx ",
            $order,
            " LIMIT $9"
        )
    };
}

/// Makes the statement for a kind that not every call has, with the condition as the index has it.
macro_rules! by_kind {
    ($order:literal) => {
        by_column!(
            "kind <> 'call_proposed' AND kind <> 'decided' AND kind <> 'warrant_issued' AND kind <> 'outcome' \
             AND kind = $8",
            $order
        )
    };
}

/// Returns the statement that finds entries. Its parameters are the first index, the first time and the time after the
/// last, session, kind, agent and request (each may be null), what the entries are found by, and the limit.
pub(crate) const fn select_entries(by: By, newest_first: bool) -> &'static str {
    match (by, newest_first) {
        (By::Call, false) => by_column!("call = $8", "ASC"),
        (By::Call, true) => by_column!("call = $8", "DESC"),
        (By::Approval, false) => by_column!("approval = $8", "ASC"),
        (By::Approval, true) => by_column!("approval = $8", "DESC"),
        (By::Session, false) => by_column!("session = $8", "ASC"),
        (By::Session, true) => by_column!("session = $8", "DESC"),
        (By::Kind, false) => by_kind!("ASC"),
        (By::Kind, true) => by_kind!("DESC"),
        (By::Agent, false) => by_column!("agent = $8", "ASC"),
        (By::Agent, true) => by_column!("agent = $8", "DESC"),
        (By::Index, false) => by_column!("CAST($8 AS TEXT) IS NULL", "ASC"),
        (By::Index, true) => by_column!("CAST($8 AS TEXT) IS NULL", "DESC"),
    }
}

macro_rules! own_calls {
    ($after:literal) => {
        concat!(
            "SELECT ",
            call_columns!(),
            ", place FROM call WHERE agent = $2 AND (CAST($3 AS TEXT) IS NULL OR state = $3)",
            " AND (CAST($4 AS TEXT) IS NULL OR replace($4, ',' || tool || ',', '') <> $4)",
            $after,
            " ORDER BY place DESC LIMIT $1"
        )
    };
}

/// Returns the statement that reads calls of an agent, newest first. Its parameters are the limit, the agent, a state and
/// tools between commas (each may be null), and, where the list begins `after` a call, that one's id.
pub(crate) const fn select_own_calls(after: bool) -> &'static str {
    // Where the page begins is told by the agent's own calls alone.
    match after {
        false => own_calls!(""),
        true => own_calls!(" AND place < (SELECT c.place FROM call c WHERE c.id = $5 AND c.agent = $2)"),
    }
}
