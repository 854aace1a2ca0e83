//! Balances: what is spent and what is held. The arithmetic is [`countersign_rules::budget`]'s.

use countersign_gate::ledger::LedgerFault;
use countersign_rules::budget::{Balance, BudgetAccount};

use super::Record;
use crate::row::{Damage, SqlStatement, StoredRow, Value};

impl Record for Balance {
    type Key = BudgetAccount;

    fn select(account: &BudgetAccount) -> SqlStatement {
        SqlStatement::new(
            "SELECT spent, held FROM balance WHERE budget = $1 AND subject = $2 AND day = $3",
            params(account),
        )
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        Ok(Self { spent: row.count(0)?, held: row.count(1)? })
    }

    fn insert(&self, account: &BudgetAccount) -> Result<SqlStatement, LedgerFault> {
        let mut params = params(account);
        params.extend([self.spent.into(), self.held.into()]);
        Ok(SqlStatement::one(
            "INSERT INTO balance (budget, subject, day, spent, held) VALUES ($1, $2, $3, $4, $5)",
            params,
        ))
    }

    fn update(&self, account: &BudgetAccount) -> Result<SqlStatement, LedgerFault> {
        let mut all = vec![self.spent.into(), self.held.into()];
        all.extend(params(account));
        Ok(SqlStatement::one(
            "UPDATE balance SET spent = $1, held = $2 WHERE budget = $3 AND subject = $4 AND day = $5",
            all,
        ))
    }
}

fn params(account: &BudgetAccount) -> Vec<Value> {
    vec![account.budget.as_str().into(), account.subject.as_str().into(), account.day.into()]
}

pub(crate) fn select_all(limit: u32) -> SqlStatement {
    SqlStatement::new(
        "SELECT spent, held, budget, subject, day FROM balance ORDER BY day DESC, budget, subject LIMIT $1",
        vec![u64::from(limit).into()],
    )
}

pub(crate) fn read_all(rows: &[StoredRow]) -> Result<Vec<(BudgetAccount, Balance)>, LedgerFault> {
    rows.iter()
        .map(|row| {
            let account = BudgetAccount {
                budget: row.text(2)?.to_owned(),
                subject: row.text(3)?.to_owned(),
                day: row.int(4)?,
            };
            Ok((account, Balance::read(row)?))
        })
        .collect()
}
