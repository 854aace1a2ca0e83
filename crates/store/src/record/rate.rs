//! The instants of rates. The arithmetic is [`countersign_rules::rate`]'s.

use countersign_gate::ledger::LedgerFault;

use super::Record;
use crate::row::{Damage, SqlStatement, StoredRow};

/// The next call of a rate is due at this time, in Unix microseconds UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due(pub(crate) i64);

impl Record for Due {
    type Key = String;

    fn select(key: &String) -> SqlStatement {
        SqlStatement::new("SELECT due_us FROM rate WHERE id = $1", vec![key.as_str().into()])
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        row.int(0).map(Self)
    }

    fn insert(&self, key: &String) -> Result<SqlStatement, LedgerFault> {
        let params = vec![key.as_str().into(), self.0.into()];
        Ok(SqlStatement::one("INSERT INTO rate (id, due_us) VALUES ($1, $2)", params))
    }

    fn update(&self, key: &String) -> Result<SqlStatement, LedgerFault> {
        let params = vec![self.0.into(), key.as_str().into()];
        Ok(SqlStatement::one("UPDATE rate SET due_us = $1, mark_day = NULL WHERE id = $2", params))
    }
}
