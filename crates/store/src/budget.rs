//! Balances: what is spent and what is held. The arithmetic is [`countersign_rules::budget`]'s.

use countersign_gate::ledger::LedgerFault;
use countersign_rules::{
    budget::{Balance, BudgetAccount, HoldRequest, Unit},
    settlement::Settlement,
};
use serde::{Deserialize, Serialize};

use crate::row::{Damage, Query, Row, Value};

/// A reservation that an issued call holds, or held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) account: BudgetAccount,
    unit: Unit,
    amount: u64,
}

impl Hold {
    pub(crate) fn of(request: &HoldRequest) -> Self {
        Self { account: request.account.clone(), unit: request.unit, amount: request.amount }
    }

    /// The balance once the call is settled; `None` while that is not known.
    pub(crate) fn settle(&self, balance: Balance, settlement: Settlement) -> Option<Balance> {
        let spent = settlement.spent(self.unit, self.amount)?;
        Some(balance.settle(self.amount, spent))
    }
}

fn params(account: &BudgetAccount) -> Vec<Value> {
    vec![account.budget.as_str().into(), account.subject.as_str().into(), account.day.into()]
}

pub(crate) fn select(account: &BudgetAccount) -> Query {
    Query::new(
        "SELECT spent, held FROM balance WHERE budget = $1 AND subject = $2 AND day = $3",
        params(account),
    )
}

pub(crate) fn select_all(limit: u32) -> Query {
    Query::new(
        "SELECT spent, held, budget, subject, day FROM balance ORDER BY day DESC, budget, subject LIMIT $1",
        vec![u64::from(limit).into()],
    )
}

pub(crate) fn read(row: &Row) -> Result<Balance, Damage> {
    Ok(Balance { spent: row.count(0)?, held: row.count(1)? })
}

pub(crate) fn read_all(rows: &[Row]) -> Result<Vec<(BudgetAccount, Balance)>, LedgerFault> {
    rows.iter()
        .map(|row| {
            let account = BudgetAccount {
                budget: row.text(2)?.to_owned(),
                subject: row.text(3)?.to_owned(),
                day: row.int(4)?,
            };
            Ok((account, read(row)?))
        })
        .collect()
}

pub(crate) fn insert(account: &BudgetAccount, balance: Balance) -> Query {
    let mut params = params(account);
    params.extend([balance.spent.into(), balance.held.into()]);
    Query::one("INSERT INTO balance (budget, subject, day, spent, held) VALUES ($1, $2, $3, $4, $5)", params)
}

pub(crate) fn update(account: &BudgetAccount, balance: Balance) -> Query {
    let mut all = vec![balance.spent.into(), balance.held.into()];
    all.extend(params(account));
    Query::one(
        "UPDATE balance SET spent = $1, held = $2 WHERE budget = $3 AND subject = $4 AND day = $5",
        all,
    )
}
