//! API keys of agents and people: shown once, kept as a hash.

use countersign_audit::Hash;
use countersign_gate::ledger::LedgerFault;
use countersign_rules::{AgentId, PersonId};
use serde::{Deserialize, Serialize};

use super::Record;
use crate::row::{Damage, SqlStatement, StoredRow, json};

/// A key belongs to one of these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyOwner {
    /// The key is an agent's.
    Agent(AgentId),
    /// The key is a person's.
    Person(PersonId),
}

/// The store has a key so: without what could be presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// This is the key's public id: the 12 hexadecimal digits between the prefix and the secret.
    pub id: String,
    /// The key belongs to this agent or person.
    pub owner: KeyOwner,
    /// The key may be used for this, in words whose meaning is the front door's. When empty, it may be used for
    /// everything that its owner may do.
    pub scopes: Vec<String>,
    /// The key was issued at this time, in Unix milliseconds UTC.
    pub issued_ms: i64,
    /// The key stops being good at this time, in Unix milliseconds UTC; never when `None`.
    pub expires_ms: Option<i64>,
    /// The key was revoked at this time, in Unix milliseconds UTC; it is not revoked when `None`.
    pub revoked_ms: Option<i64>,
}

impl KeyRecord {
    /// Tells whether the key is neither revoked nor expired at `now_ms`, in Unix milliseconds UTC.
    #[must_use]
    pub fn is_good(&self, now_ms: i64) -> bool {
        self.revoked_ms.is_none() && self.expires_ms.is_none_or(|expires_ms| now_ms < expires_ms)
    }
}

/// This is a key to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The key is for this agent or person.
    pub owner: KeyOwner,
    /// The key may be used for this; see [`KeyRecord::scopes`].
    pub scopes: Vec<String>,
    /// The key stops being good at this time, in Unix milliseconds UTC; never when `None`.
    pub expires_ms: Option<i64>,
    /// The key is issued by this person, or by the command line.
    pub by: String,
    /// The key is issued at this time, in Unix milliseconds UTC.
    pub now_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) record: KeyRecord,
    pub(crate) hash: Hash,
}

#[cfg(test)]
impl KeyRow {
    pub(crate) const fn new(record: KeyRecord, hash: Hash) -> Self {
        Self { record, hash }
    }
}

impl Record for KeyRow {
    type Key = String;

    fn select(id: &String) -> SqlStatement {
        SqlStatement::new(
            "SELECT id, hash, owner, scopes, issued_ms, expires_ms, revoked_ms FROM api_key WHERE id = $1",
            vec![id.as_str().into()],
        )
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        let record = KeyRecord {
            id: row.text(0)?.to_owned(),
            owner: row.json(2)?,
            scopes: row.json(3)?,
            issued_ms: row.int(4)?,
            expires_ms: row.optional_int(5)?,
            revoked_ms: row.optional_int(6)?,
        };
        let hash = Hash::from_slice(row.bytes(1)?).map_err(|why| Damage(why.to_string()))?;
        Ok(Self { record, hash })
    }

    fn insert(&self, id: &String) -> Result<SqlStatement, LedgerFault> {
        let Self { record, hash } = self;
        Ok(SqlStatement::one(
            "INSERT INTO api_key (id, hash, owner, scopes, issued_ms, expires_ms, revoked_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            vec![
                id.as_str().into(),
                hash.as_bytes().to_vec().into(),
                json(&record.owner)?,
                json(&record.scopes)?,
                record.issued_ms.into(),
                record.expires_ms.into(),
                record.revoked_ms.into(),
            ],
        ))
    }

    fn update(&self, id: &String) -> Result<SqlStatement, LedgerFault> {
        Ok(SqlStatement::one(
            "UPDATE api_key SET revoked_ms = $1 WHERE id = $2",
            vec![self.record.revoked_ms.into(), id.as_str().into()],
        ))
    }

    /// Returns false: keys are few, and read by others than the operations.
    fn is_kept(_key: Option<&Self>) -> bool {
        false
    }
}

/// Returns the statement that reads every key that was ever issued, oldest first.
pub(crate) fn select_all() -> SqlStatement {
    SqlStatement::new(
        "SELECT id, hash, owner, scopes, issued_ms, expires_ms, revoked_ms FROM api_key \
         ORDER BY issued_ms, id",
        Vec::new(),
    )
}
