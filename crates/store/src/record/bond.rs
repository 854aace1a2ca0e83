//! Idempotency keys of agents, and the calls that they stand for, as they are stored.

use countersign_gate::ledger::{Bond, LedgerFault};
use countersign_rules::{AgentId, IdempotencyKey, StoredCall};

use super::Record;
use crate::row::{Damage, SqlStatement, StoredRow, json};

/// This is an agent, and a key of it.
pub(crate) type BondKey = (AgentId, IdempotencyKey);

/// Returns the key of a call, where it has one.
pub(crate) fn key_of_call(call: &StoredCall) -> Option<BondKey> {
    Some((call.requester.agent.clone(), call.key.clone()?))
}

/// Returns the key of a bond.
pub(crate) fn key_of(bond: &Bond) -> BondKey {
    (bond.agent.clone(), bond.key.clone())
}

impl Record for Bond {
    type Key = BondKey;

    fn select((agent, key): &BondKey) -> SqlStatement {
        SqlStatement::new(
            "SELECT agent, name, digest, call, approval, refusal, at_ms FROM bond WHERE agent = $1 AND name = $2",
            vec![agent.as_str().into(), key.as_str().into()],
        )
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        let bad = |_why| Damage("an idempotency key or its digest is none".into());
        Ok(Self {
            agent: row.parse(0)?,
            key: row.parse(1)?,
            digest: row.text(2)?.parse().map_err(bad)?,
            call: row.parse(3)?,
            approval: row.optional_parse(4)?,
            refusal: row.optional_json(5)?,
            at_ms: row.int(6)?,
        })
    }

    /// Inserts the bond with the day that the ledger counts, by which it is forgotten.
    fn insert(&self, (agent, key): &BondKey) -> Result<SqlStatement, LedgerFault> {
        Ok(SqlStatement::one(
            "INSERT INTO bond (agent, name, digest, call, approval, refusal, at_ms, day) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT age.day FROM age))",
            vec![
                agent.as_str().into(),
                key.as_str().into(),
                self.digest.to_string().into(),
                self.call.as_str().into(),
                self.approval.as_ref().map(|id| id.as_str()).into(),
                self.refusal.as_ref().map(json).transpose()?.into(),
                self.at_ms.into(),
            ],
        ))
    }

    fn update(&self, (agent, key): &BondKey) -> Result<SqlStatement, LedgerFault> {
        Ok(SqlStatement::one(
            "UPDATE bond SET digest = $1, call = $2, approval = $3, refusal = $4, at_ms = $5, \
             day = (SELECT age.day FROM age) WHERE agent = $6 AND name = $7",
            vec![
                self.digest.to_string().into(),
                self.call.as_str().into(),
                self.approval.as_ref().map(|id| id.as_str()).into(),
                self.refusal.as_ref().map(json).transpose()?.into(),
                self.at_ms.into(),
                agent.as_str().into(),
                key.as_str().into(),
            ],
        ))
    }

    /// Counts the key for its agent. Pruning takes away from the count what it forgets.
    fn beside(&self) -> Vec<SqlStatement> {
        vec![SqlStatement::one(
            "INSERT INTO bond_count (agent, bonds) VALUES ($1, 1) \
             ON CONFLICT (agent) DO UPDATE SET bonds = bond_count.bonds + 1",
            vec![self.agent.as_str().into()],
        )]
    }

    fn is_kept(_bond: Option<&Self>) -> bool {
        false
    }
}

/// Returns the statement that reads how many keys an agent has; it answers no row where the agent never had any.
pub(crate) fn select_count(agent: &AgentId) -> SqlStatement {
    SqlStatement::new("SELECT bonds FROM bond_count WHERE agent = $1", vec![agent.as_str().into()])
}
