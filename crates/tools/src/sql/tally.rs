//! Rows by table, added up.

use std::collections::BTreeMap;

/// How many rows an approver sees.
pub(super) const SAMPLE_ROWS: u64 = 5;

/// Adds up the rows of all tables.
pub(super) fn sum(tables: &BTreeMap<String, u64>) -> u64 {
    tables.values().fold(0, |sum, rows| sum.saturating_add(*rows))
}
