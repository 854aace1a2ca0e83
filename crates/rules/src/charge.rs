//! A charge is what a call takes from the limits when it is issued, and what of it stays once it is settled.
//!
//! Every ledger takes and settles by these functions, inside the transaction that issues or closes the call. What is stored
//! they are told by functions, so that a ledger reads no more than is asked for.

use alloc::{borrow::ToOwned as _, collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    budget::{Balance, BudgetAccount, Exhausted, HoldRequest, Unit},
    effect::Effect,
    facts::Counters,
    id::ToolName,
    money::Money,
    rate::{Rate, TooOften},
    settlement::{Count, Settlement},
};

/// A charge says what an intent takes from the limits: what the accounts and instants it names become.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Charge<'a> {
    /// Its rates are due at these instants, by key.
    pub due: BTreeMap<&'a str, i64>,
    /// The balances of its holds.
    pub balances: BTreeMap<&'a BudgetAccount, Balance>,
    /// The holds that take their account over its threshold, with what it holds then.
    pub crossed: Vec<(&'a HoldRequest, Balance)>,
}

impl<'a> Charge<'a> {
    /// Takes rates and reserves holds. `due` and `balance` tell what is stored.
    ///
    /// # Errors
    /// Returns [`TooOften`] or [`Exhausted`] for the first that has no room, and what `due` and `balance` answer.
    pub fn new<E: From<TooOften> + From<Exhausted>>(
        (rates, holds): (&'a [(String, Rate)], &'a [HoldRequest]),
        now_ms: i64,
        due: impl Fn(&str) -> Result<Option<i64>, E>,
        balance: impl Fn(&BudgetAccount) -> Result<Balance, E>,
    ) -> Result<Self, E> {
        let mut charge = Self::default();
        for (key, rate) in rates {
            let stored = match charge.due.get(key.as_str()) {
                Some(due) => Some(*due),
                None => due(key)?,
            };
            charge.due.insert(key, rate.take(stored, now_ms)?);
        }
        for hold in holds {
            let before = match charge.balances.get(&hold.account) {
                Some(balance) => *balance,
                None => balance(&hold.account)?,
            };
            let after = before.reserve(hold)?;
            charge.balances.insert(&hold.account, after);
            if hold.crosses(before, after) {
                charge.crossed.push((hold, after));
            }
        }
        Ok(charge)
    }
}

/// An issued call is charged this: what was counted and what it holds. A ledger keeps it with the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charged {
    /// Rows that were counted.
    rows: u64,
    /// Money that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
    /// The call holds this still. It is empty once the call is settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holds: Vec<Hold>,
}

/// A reservation that an issued call holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hold {
    account: BudgetAccount,
    unit: Unit,
    amount: u64,
}

/// Settling a call changes this, beside what it is charged.
#[derive(Debug)]
pub struct Settled<'a> {
    /// The accounts of its holds become this.
    pub balances: BTreeMap<BudgetAccount, Balance>,
    /// The call is kept to have touched so many rows from now on; as many as before where it did not happen.
    pub rows: Option<u64>,
    counted: Count<'a>,
    settlement: Settlement,
}

impl Charged {
    /// Charges a call that counts so, and that these holds were reserved for.
    #[must_use]
    pub fn new(rows: u64, amount: Option<Money>, holds: &[HoldRequest]) -> Self {
        let hold = |HoldRequest { account, unit, amount, .. }: &HoldRequest| Hold {
            account: account.to_owned(),
            unit: *unit,
            amount: *amount,
        };
        Self { rows, amount, holds: holds.iter().map(hold).collect() }
    }

    /// The accounts that it holds something of.
    pub fn accounts(&self) -> impl Iterator<Item = &BudgetAccount> {
        self.holds.iter().map(|hold| &hold.account)
    }

    /// Settles the call, which is of this tool and effect. `balance` tells what is stored. Returns what changes beside; `None`
    /// while nobody knows what the call came to: then nothing does.
    ///
    /// # Errors
    /// Returns what `balance` answers; then nothing has changed.
    pub fn settle<'a, E>(
        &mut self,
        settlement: Settlement,
        (tool, effect): (&'a ToolName, Effect),
        balance: impl Fn(&BudgetAccount) -> Result<Balance, E>,
    ) -> Result<Option<Settled<'a>>, E> {
        let mut balances: BTreeMap<BudgetAccount, Balance> = BTreeMap::new();
        for hold in &self.holds {
            let Some(spent) = settlement.spent(hold.unit, hold.amount) else { return Ok(None) };
            let before = match balances.get(&hold.account) {
                Some(balance) => *balance,
                None => balance(&hold.account)?,
            };
            balances.insert(hold.account.clone(), before.settle(hold.amount, spent));
        }
        if settlement == Settlement::Kept {
            return Ok(None);
        }
        let counted = Count { tool, effect, rows: self.rows, amount: self.amount };
        let after = counted.settled(settlement);
        self.holds.clear();
        (self.rows, self.amount) = after.map(|after| (after.rows, after.amount)).unwrap_or_default();
        Ok(Some(Settled { balances, rows: after.map(|after| after.rows), counted, settlement }))
    }
}

impl Settled<'_> {
    /// Corrects counters that have counted the call in.
    pub fn correct(&self, counters: &mut Counters) {
        self.counted.settle(self.settlement, counters);
    }
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;

    use super::*;

    fn hold(unit: Unit, amount: u64) -> HoldRequest {
        let account = BudgetAccount { budget: "b".into(), subject: "all".into(), day: 0 };
        HoldRequest { account, unit, amount, limit: 100, halt_at: None }
    }

    fn euros(minor: u64) -> Money {
        Money { currency: "EUR".parse().unwrap(), minor }
    }

    /// Settles a call that holds 5 rows and 4 euros on one account, and tells everything that came of it.
    fn settle(settlement: Settlement) -> (Charged, Option<(Balance, Option<u64>, Counters)>) {
        let tool = ToolName::parse("refund").unwrap();
        let holds = [hold(Unit::Rows, 5), hold(Unit::Money(euros(0).currency), 4)];
        let mut charged = Charged::new(5, Some(euros(4)), &holds);
        let mut counters = Counters::default();
        Count { tool: &tool, effect: Effect::Write, rows: 5, amount: Some(euros(4)) }.add(&mut counters);
        let stored = |_: &BudgetAccount| Ok::<_, Infallible>(Balance { spent: 1, held: 9 });
        let Ok(settled) = charged.settle(settlement, (&tool, Effect::Write), stored);
        let told = settled.map(|settled| {
            settled.correct(&mut counters);
            (*settled.balances.values().next().unwrap(), settled.rows, counters)
        });
        (charged, told)
    }

    #[test]
    fn holds_on_one_account_are_settled_one_after_the_other() {
        let used = Settlement::Used { rows: 2, amount: None };
        let (charged, told) = settle(used);
        let (balance, rows, counters) = told.unwrap();
        // Where no money is named, what was reserved is spent and stays counted.
        assert_eq!((balance, rows), (Balance { spent: 1 + 2 + 4, held: 0 }, Some(2)));
        assert_eq!((counters.rows, counters.money.get(&euros(0).currency)), (2, Some(&4)));
        assert_eq!(charged, Charged::new(2, Some(euros(4)), &[]));
    }

    #[test]
    fn a_call_that_did_not_happen_holds_nothing_and_counts_for_nothing() {
        let (charged, told) = settle(Settlement::Released);
        let (balance, rows, counters) = told.unwrap();
        assert_eq!((balance, rows), (Balance { spent: 1, held: 0 }, None));
        assert_eq!((counters.calls, counters.rows), (0, 0));
        assert_eq!(charged, Charged::new(0, None, &[]));
    }

    #[test]
    fn what_nobody_knows_stays_charged() {
        let (charged, told) = settle(Settlement::Kept);
        assert!(told.is_none());
        assert_eq!(charged.accounts().count(), 2);
        let mut unheld = Charged::new(5, None, &[]);
        let tool = ToolName::parse("refund").unwrap();
        let stored = |_: &BudgetAccount| Ok::<_, Infallible>(Balance::default());
        let Ok(told) = unheld.settle(Settlement::Kept, (&tool, Effect::Write), stored);
        assert!(told.is_none());
        assert_eq!(unheld, Charged::new(5, None, &[]));
    }

    #[test]
    fn what_a_ledger_has_kept_of_a_charge_is_read_as_it_was() {
        let kept = r#"{"rows":5,"amount":{"currency":"EUR","minor":4},"holds":[{"account":{"budget":"b","subject":"all","day":0},"unit":"rows","amount":5}]}"#;
        let charged = Charged::new(5, Some(euros(4)), &[hold(Unit::Rows, 5)]);
        assert_eq!(serde_json::to_string(&charged).unwrap(), kept);
        assert_eq!(serde_json::from_str::<Charged>(kept).unwrap(), charged);
        assert_eq!(serde_json::to_string(&Charged::new(0, None, &[])).unwrap(), r#"{"rows":0}"#);
    }
}
