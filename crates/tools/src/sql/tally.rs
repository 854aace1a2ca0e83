//! Rows by table, added up.

use std::collections::BTreeMap;

/// Adds up the rows of all tables.
pub(super) fn sum(tables: &BTreeMap<String, u64>) -> u64 {
    tables.values().fold(0, |sum, rows| sum.saturating_add(*rows))
}
