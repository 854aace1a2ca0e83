//! The instants of rates. The arithmetic is [`countersign_rules::rate`]'s.

use crate::row::Query;

pub(crate) fn select(key: &str) -> Query {
    Query::new("SELECT due_us FROM rate WHERE id = $1", vec![key.into()])
}

pub(crate) fn insert(key: &str, due_us: i64) -> Query {
    Query::one("INSERT INTO rate (id, due_us) VALUES ($1, $2)", vec![key.into(), due_us.into()])
}

pub(crate) fn update(key: &str, due_us: i64) -> Query {
    Query::one("UPDATE rate SET due_us = $1 WHERE id = $2", vec![due_us.into(), key.into()])
}
