//! Rows by table, added up: what is the same whichever database counts them.

use std::collections::BTreeMap;

use countersign_rules::Reach;

/// How many rows an approver sees.
pub(super) const SAMPLE_ROWS: u64 = 5;

/// Adds up the rows of all tables.
pub(super) fn sum(tables: &BTreeMap<String, u64>) -> u64 {
    tables.values().fold(0, |sum, rows| sum.saturating_add(*rows))
}

/// A reach while it is counted, table by table. It is exact as long as nothing says otherwise.
pub(super) struct Tally {
    pub(super) reach: Reach,
    rows_max: u64,
}

impl Tally {
    /// Nothing was counted yet. Of one table at most one row more is counted than `rows_max`.
    pub(super) fn new(rows_max: u64) -> Self {
        Self { reach: Reach { exact: true, ..Reach::default() }, rows_max }
    }

    /// Adds rows of a table. Where there are more than are counted, nobody knows how many.
    pub(super) fn add(&mut self, table: String, count: u64) {
        if count > self.rows_max {
            self.reach.unbounded = true;
        }
        self.reach.rows = self.reach.rows.saturating_add(count);
        let known = self.reach.tables.entry(table).or_insert(0);
        *known = known.saturating_add(count);
    }

    /// Adds rows that foreign keys take along. `with_named` says that the rows of the table that the statement names
    /// itself were counted once more.
    pub(super) fn add_along(&mut self, table: String, count: u64, with_named: bool) {
        let named = if with_named { self.reach.tables.get(&table).copied().unwrap_or(0) } else { 0 };
        let more = count.saturating_sub(named);
        self.reach.cascades = self.reach.cascades.saturating_add(more);
        self.add(table, more);
    }

    /// Gives the reach that it came to, where these triggers run along.
    pub(super) fn reached(self, triggers: Vec<String>) -> Reach {
        // What triggers do is not counted.
        let exact = self.reach.exact && !self.reach.unbounded && triggers.is_empty();
        Reach { exact, triggers, ..self.reach }
    }
}
