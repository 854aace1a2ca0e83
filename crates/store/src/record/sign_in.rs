//! Marks of what may happen once: a sign-in by a provider, and a provider's order to end sessions.

use countersign_gate::ledger::LedgerFault;

use super::Record;
use crate::row::{Damage, SqlStatement, StoredRow};

/// That something has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignInMark {
    /// It happened at this time, in Unix seconds UTC, by the clock of whoever said so.
    pub(crate) at_s: i64,
    /// The mark is of use until this time, in Unix milliseconds UTC.
    pub(crate) until_ms: i64,
}

impl Record for SignInMark {
    type Key = String;

    fn select(id: &String) -> SqlStatement {
        SqlStatement::new("SELECT at_s, until_ms FROM sign_in_mark WHERE id = $1", vec![id.as_str().into()])
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        Ok(Self { at_s: row.int(0)?, until_ms: row.int(1)? })
    }

    fn insert(&self, id: &String) -> Result<SqlStatement, LedgerFault> {
        Ok(SqlStatement::one(
            "INSERT INTO sign_in_mark (id, at_s, until_ms) VALUES ($1, $2, $3)",
            vec![id.as_str().into(), self.at_s.into(), self.until_ms.into()],
        ))
    }

    fn update(&self, id: &String) -> Result<SqlStatement, LedgerFault> {
        Ok(SqlStatement::one(
            "UPDATE sign_in_mark SET at_s = $1, until_ms = $2 WHERE id = $3",
            vec![self.at_s.into(), self.until_ms.into(), id.as_str().into()],
        ))
    }

    /// Returns false: what opens a door is read each time.
    fn is_kept(_mark: Option<&Self>) -> bool {
        false
    }
}
