//! How far one call may go.

use std::collections::BTreeMap;

use countersign_rules::{Allow, Effect, Money, Reach, ToolSpec};
use serde::{Deserialize, Serialize};

/// The limits say how far a call may go: what was approved or measured for it, or its tool's own cap. A tool holds to
/// them in its own transaction: beyond any of it, everything is rolled back ([`crate::ToolError::Exceeded`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The call may touch so many rows at most, in all tables together.
    pub rows_max: u64,
    /// The most rows in each table; in a table that is not named, none. `None`: only the sum counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<BTreeMap<String, u64>>,
    /// The most money it may move, where an amount was approved or measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_max: Option<Money>,
}

impl Limits {
    /// Finds what binds a call: a write, what was approved or measured for it; a read, its tool's cap.
    pub(crate) fn new(allow: &Allow, spec: &ToolSpec, effect: Effect) -> Self {
        match effect {
            Effect::Read => Self { rows_max: spec.rows_max, tables: None, amount_max: None },
            Effect::Write | Effect::Destructive => Self {
                rows_max: allow.rows_max.unwrap_or(spec.rows_max),
                tables: allow.tables.clone(),
                amount_max: allow.amount_max,
            },
        }
    }

    /// Returns true if something that was done, or would be, goes beyond: in all, in one table, or in money. An
    /// amount that was decided on has to be told again; one that was not is not bound.
    #[must_use]
    pub fn exceeded_by(&self, reach: &Reach) -> bool {
        let beyond = |most: &BTreeMap<String, u64>| {
            reach.tables.iter().any(|(table, rows)| *rows > most.get(table).copied().unwrap_or(0))
        };
        let money = |most: &Money| {
            reach.amount.is_none_or(|now| now.currency != most.currency || now.minor > most.minor)
        };
        reach.rows > self.rows_max
            || self.tables.as_ref().is_some_and(beyond)
            || self.amount_max.as_ref().is_some_and(money)
    }
}
