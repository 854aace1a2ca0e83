//! What an issued call counts for, before and after it is known what it came to.
//!
//! Every ledger settles by these functions, through [`crate::charge`]: holds, counters and what a call is kept to have used
//! agree in all of them.

use crate::{budget::Unit, effect::Effect, facts::Counters, id::ToolName, money::Money};

/// A call came to one of these, for holds and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It happened, and used this much.
    Used {
        /// The call touched or returned so many rows.
        rows: u64,
        /// Money moved; where none is named, what was reserved counts as moved.
        amount: Option<Money>,
    },
    /// It happened, and how much it used is not known: everything is spent as it was reserved.
    Reserved,
    /// It did not happen: every hold is released, and the counters forget it.
    Released,
    /// It is not known what the call came to, and every hold stays as it is.
    Kept,
}

impl Settlement {
    /// Returns what is spent of a hold in this unit; `None` while that is not known. A call counts as one, and money
    /// in a currency that is not named as what was reserved.
    #[must_use]
    pub(crate) fn spent(self, unit: Unit, reserved: u64) -> Option<u64> {
        match (self, unit) {
            (Self::Kept, _) => None,
            (Self::Released, _) => Some(0),
            (Self::Reserved, _) | (Self::Used { .. }, Unit::Calls) => Some(reserved),
            (Self::Used { rows, .. }, Unit::Rows) => Some(rows),
            (Self::Used { amount, .. }, Unit::Money(currency)) => {
                Some(amount.filter(|money| money.currency == currency).map_or(reserved, |money| money.minor))
            }
        }
    }
}

/// One call counts for this much in the counters of its session and its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<'a> {
    /// This tool is called.
    pub tool: &'a ToolName,
    /// The call has this effect.
    pub effect: Effect,
    /// So many rows count; rows of reads do not.
    pub rows: u64,
    /// So much money counts.
    pub amount: Option<Money>,
}

impl Count<'_> {
    /// Counts a call in.
    pub fn add(&self, counters: &mut Counters) {
        counters.calls = counters.calls.saturating_add(1);
        if self.effect >= Effect::Write {
            counters.writes = counters.writes.saturating_add(1);
            counters.rows = counters.rows.saturating_add(self.rows);
        }
        if self.effect == Effect::Destructive {
            counters.destructive = counters.destructive.saturating_add(1);
        }
        if let Some(money) = self.amount {
            let sum = counters.money.entry(money.currency).or_default();
            *sum = sum.saturating_add(money.minor);
        }
        counters.tools.insert(self.tool.clone());
    }

    /// Returns what the call counts for once it is settled so; `None` when it did not happen.
    #[must_use]
    pub(crate) fn settled(self, settlement: Settlement) -> Option<Self> {
        match settlement {
            Settlement::Kept | Settlement::Reserved => Some(self),
            Settlement::Released => None,
            Settlement::Used { rows, amount } => Some(Self { rows, amount: amount.or(self.amount), ..self }),
        }
    }

    /// Corrects counters that have counted this call in. The set of tools used is not narrowed.
    pub(crate) fn settle(self, settlement: Settlement, counters: &mut Counters) {
        let settled = self.settled(settlement);
        if settled == Some(self) {
            return;
        }
        self.remove(counters);
        if let Some(after) = settled {
            after.add(counters);
        }
    }

    fn remove(&self, counters: &mut Counters) {
        counters.calls = counters.calls.saturating_sub(1);
        if self.effect >= Effect::Write {
            counters.writes = counters.writes.saturating_sub(1);
            counters.rows = counters.rows.saturating_sub(self.rows);
        }
        if self.effect == Effect::Destructive {
            counters.destructive = counters.destructive.saturating_sub(1);
        }
        if let Some(money) = self.amount
            && let Some(sum) = counters.money.get_mut(&money.currency)
        {
            *sum = sum.saturating_sub(money.minor);
        }
    }
}
