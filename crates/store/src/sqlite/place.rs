//! What entries and calls of agents are found by in the file; see [`crate::place`].

use crate::{
    place::By,
    record::call::{call_columns, files_calls},
};

/// These file the entries and calls from an index to another one: complete tiles.
pub(crate) const FILING: [&str; 3] = [
    files_calls!(),
    "INSERT INTO call_place (owner, idx) SELECT agent, place FROM call \
     WHERE place >= $1 AND place < $2 AND agent IS NOT NULL",
    "INSERT INTO entry_place (what, value, idx) \
     SELECT 'agent', agent, idx FROM entry WHERE idx >= $1 AND idx < $2 AND agent IS NOT NULL \
     UNION ALL SELECT 'approval', approval, idx FROM entry WHERE idx >= $1 AND idx < $2 AND approval IS NOT NULL \
     UNION ALL SELECT 'call', call, idx FROM entry WHERE idx >= $1 AND idx < $2 AND call IS NOT NULL \
     UNION ALL SELECT 'kind', kind, idx FROM entry WHERE idx >= $1 AND idx < $2 \
     AND kind NOT IN ('call_proposed', 'decided', 'warrant_issued', 'outcome') \
     UNION ALL SELECT 'session', session, idx FROM entry WHERE idx >= $1 AND idx < $2 AND session IS NOT NULL",
];

/// This reads what is filed of entries, in its order from a row on, each with whether it is what the entry says.
pub(crate) const FILED: &str = "SELECT p.what, p.value, p.idx, CASE p.what WHEN 'agent' THEN e.agent \
     WHEN 'approval' THEN e.approval WHEN 'call' THEN e.call WHEN 'kind' THEN e.kind WHEN 'session' THEN e.session END \
     IS p.value FROM entry_place p LEFT JOIN entry e ON e.idx = p.idx WHERE (p.what, p.value, p.idx) > ($1, $2, $3) \
     ORDER BY p.what, p.value, p.idx LIMIT $4";

/// Makes the statement for a filter, of what is filed and of what is not yet.
macro_rules! by_place {
    ($what:literal, $order:literal) => {
        concat!(
            "SELECT p.idx, e.bytes FROM entry_place p CROSS JOIN entry e ON e.idx = p.idx WHERE p.what = '",
            $what,
            "' AND p.value = $8 AND p.idx >= $1 AND e.at_ms >= $2 AND e.at_ms < $3",
            " AND ($4 IS NULL OR e.session = $4) AND ($5 IS NULL OR e.kind = $5)",
            " AND ($6 IS NULL OR e.agent = $6) AND ($7 IS NULL OR e.approval = $7)",
            " UNION ALL SELECT idx, bytes FROM entry",
            " WHERE idx >= max($1, (SELECT size / 256 * 256 FROM log_head WHERE id = 0))",
            " AND at_ms >= $2 AND at_ms < $3 AND ($4 IS NULL OR session = $4) AND ($5 IS NULL OR kind = $5)",
            " AND ($6 IS NULL OR agent = $6) AND ($7 IS NULL OR approval = $7) AND ",
            $what,
            " = $8 ORDER BY 1 ",
            $order,
            " LIMIT $9"
        )
    };
}

macro_rules! by_index {
    ($order:literal) => {
        concat!(
            "SELECT idx, bytes FROM entry WHERE idx >= $1 AND at_ms >= $2 AND at_ms < $3",
            " AND ($4 IS NULL OR session = $4) AND ($5 IS NULL OR kind = $5) AND ($6 IS NULL OR agent = $6)",
            " AND ($7 IS NULL OR approval = $7) AND $8 IS NULL ORDER BY idx ",
            $order,
            " LIMIT $9"
        )
    };
}

/// Returns the statement that finds entries. Its parameters are the first index, the first time and the time after the
/// last, session, kind, agent and request (each may be null), what the entries are found by, and the limit.
pub(crate) const fn select_entries(by: By, newest_first: bool) -> &'static str {
    match (by, newest_first) {
        (By::Call, false) => by_place!("call", "ASC"),
        (By::Call, true) => by_place!("call", "DESC"),
        (By::Approval, false) => by_place!("approval", "ASC"),
        (By::Approval, true) => by_place!("approval", "DESC"),
        (By::Session, false) => by_place!("session", "ASC"),
        (By::Session, true) => by_place!("session", "DESC"),
        (By::Kind, false) => by_place!("kind", "ASC"),
        (By::Kind, true) => by_place!("kind", "DESC"),
        (By::Agent, false) => by_place!("agent", "ASC"),
        (By::Agent, true) => by_place!("agent", "DESC"),
        (By::Index, false) => by_index!("ASC"),
        (By::Index, true) => by_index!("DESC"),
    }
}

/// Makes the statement for calls of an agent, of what is filed and of what is not yet.
macro_rules! own_calls {
    ($filed_after:literal, $after:literal) => {
        concat!(
            "SELECT ",
            call_columns!(),
            ", idx AS place FROM call_place CROSS JOIN call ON place = idx WHERE owner = $2",
            $filed_after,
            " AND ($3 IS NULL OR state = $3) AND ($4 IS NULL OR replace($4, ',' || tool || ',', '') <> $4)",
            " UNION ALL SELECT ",
            call_columns!(),
            ", place FROM call WHERE place >= (SELECT size / 256 * 256 FROM log_head WHERE id = 0) AND agent = $2",
            $after,
            " AND ($3 IS NULL OR state = $3) AND ($4 IS NULL OR replace($4, ',' || tool || ',', '') <> $4)",
            " ORDER BY place DESC LIMIT $1"
        )
    };
}

/// Returns the statement that reads calls of an agent, newest first. Its parameters are the limit, the agent, a state and
/// tools between commas (each may be null), and, where the list begins `after` a call, that one's id.
pub(crate) const fn select_own_calls(after: bool) -> &'static str {
    // Where the page begins is told by the agent's own calls alone.
    match after {
        false => own_calls!("", ""),
        true => own_calls!(
            " AND idx < (SELECT c.place FROM call c WHERE c.id = $5 AND c.agent = $2)",
            " AND place < (SELECT c.place FROM call c WHERE c.id = $5 AND c.agent = $2)"
        ),
    }
}
