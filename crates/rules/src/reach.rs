//! How far a call reaches: its measured blast radius.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::money::Money;

/// What a call would touch, measured without changing anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Rows touched in all, cascades included. A lower bound unless `exact`.
    pub rows: u64,
    /// Whether `rows` is the very number, and not a bound or an estimate.
    pub exact: bool,
    /// Whether counting stopped at its limit: there are more rows than `rows` says.
    pub unbounded: bool,
    /// Rows by table, cascades included.
    #[serde(default)]
    pub tables: BTreeMap<String, u64>,
    /// Rows touched only because a foreign key cascades.
    #[serde(default)]
    pub cascades: u64,
    /// Triggers, rules and generated effects that run along and cannot be counted.
    #[serde(default)]
    pub triggers: Vec<String>,
    /// Money moved, where the tool can tell before acting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
}

impl Reach {
    /// Whether this reach stays within `approved`: no more rows, in no table more rows, no other
    /// trigger, no more money, and nothing unknown that was known when it was approved.
    #[must_use]
    pub fn within(&self, approved: &Self) -> bool {
        let rows = self.rows <= approved.rows && (self.exact || self == approved);
        let bounded = !self.unbounded || approved.unbounded;
        let tables = self
            .tables
            .iter()
            .all(|(table, rows)| approved.tables.get(table).is_some_and(|most| rows <= most));
        let triggers = self.triggers.iter().all(|t| approved.triggers.contains(t));
        let amount = match (&self.amount, &approved.amount) {
            (None, _) => approved.amount.is_none(),
            (Some(_), None) => false,
            (Some(now), Some(then)) => now.currency == then.currency && now.minor <= then.minor,
        };
        rows && bounded && tables && triggers && amount
    }
}
