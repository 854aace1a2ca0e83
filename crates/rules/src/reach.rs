//! How far a call reaches: its measured blast radius.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::money::Money;

/// A reach is what a call would touch, measured without changing anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// So many rows are touched in all, cascades included. The most that can be, but for what `triggers` do, and but for more
    /// where `unbounded`.
    pub rows: u64,
    /// This is true if `rows` is the very number, and not a bound.
    pub exact: bool,
    /// This is true if there may be more rows than `rows` says: counting stopped at its limit, or cannot tell.
    pub unbounded: bool,
    /// So many rows are touched in each table, cascades included.
    #[serde(default)]
    pub tables: BTreeMap<String, u64>,
    /// So many rows are touched only because a foreign key cascades.
    #[serde(default)]
    pub cascades: u64,
    /// These triggers, rules and generated effects run along and cannot be counted.
    #[serde(default)]
    pub triggers: Vec<String>,
    /// This is true if it was found out by running the call and rolling it back: then it counts what triggers do.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub rehearsed: bool,
    /// Money moved, where the tool can tell before acting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
}

impl Reach {
    /// Words how a number of its rows is to be read: as it is (nothing), as `at least ` so many, or as `at most `.
    #[must_use]
    pub const fn bound(&self) -> &'static str {
        match (self.exact, self.unbounded || !self.triggers.is_empty()) {
            (true, _) => "",
            (false, true) => "at least ",
            (false, false) => "at most ",
        }
    }

    /// Returns true if this reach stays within `approved`: no more rows, in no table more rows, no other trigger, no
    /// more money, and nothing unknown that was known when it was approved.
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

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, option, prelude::*, sample::select};

    use super::*;

    fn any_reach() -> impl Strategy<Value = Reach> {
        let tables = btree_map(select(alloc::vec!["a", "b", "c"]).prop_map(String::from), 0_u64..4, 0..3);
        let amount = option::of((select(alloc::vec!["EUR", "USD"]), 0_u64..3))
            .prop_map(|amount| amount.map(|(code, minor)| Money { currency: code.parse().unwrap(), minor }));
        let triggers = proptest::collection::vec(select(alloc::vec!["t", "u"]).prop_map(String::from), 0..3);
        (0_u64..5, any::<bool>(), any::<bool>(), tables, triggers, amount).prop_map(
            |(rows, exact, unbounded, tables, triggers, amount)| Reach {
                rows,
                exact,
                unbounded,
                tables,
                cascades: 0,
                triggers,
                rehearsed: false,
                amount,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_reach_is_within_itself(reach in any_reach()) {
            prop_assert!(reach.within(&reach));
        }

        #[test]
        fn within_is_transitive(a in any_reach(), b in any_reach(), c in any_reach()) {
            prop_assert!(!(a.within(&b) && b.within(&c)) || a.within(&c));
        }

        #[test]
        fn nothing_larger_is_within(now in any_reach(), then in any_reach()) {
            if now.within(&then) {
                prop_assert!(now.rows <= then.rows);
                prop_assert!(now.exact || now == then);
                prop_assert!(!now.unbounded || then.unbounded);
                prop_assert!(now.tables.iter().all(|(t, n)| then.tables.get(t).is_some_and(|m| n <= m)));
                prop_assert!(now.triggers.iter().all(|t| then.triggers.contains(t)));
                prop_assert_eq!(now.amount.map(|a| a.currency), then.amount.map(|a| a.currency));
                prop_assert!(now.amount.map(|a| a.minor) <= then.amount.map(|a| a.minor));
            }
        }
    }
}
