//! The instants of rates. The arithmetic is [`countersign_rules::rate`]'s.

use crate::row::Query;

/// How long an instant that has passed is kept, in microseconds. It means nothing any more; the clock may
/// be set back.
const KEPT_US: i64 = 2 * 86_400_000_000;

pub(crate) fn select(key: &str) -> Query {
    Query::new("SELECT due_us FROM rate WHERE id = $1", vec![key.into()])
}

pub(crate) fn insert(key: &str, due_us: i64) -> Query {
    Query::one("INSERT INTO rate (id, due_us) VALUES ($1, $2)", vec![key.into(), due_us.into()])
}

pub(crate) fn update(key: &str, due_us: i64) -> Query {
    Query::one("UPDATE rate SET due_us = $1 WHERE id = $2", vec![due_us.into(), key.into()])
}

/// Deletes instants that have passed long ago, so that sessions that are over leave nothing behind.
pub(crate) fn prune(now_ms: i64) -> Query {
    let before_us = now_ms.saturating_mul(1_000).saturating_sub(KEPT_US);
    Query::new("DELETE FROM rate WHERE due_us < $1", vec![before_us.into()])
}
