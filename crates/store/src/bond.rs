//! What agents' idempotency keys stand for.

use std::sync::Arc;

use countersign_gate::ledger::{Bond, LedgerFault};
use countersign_rules::{AgentId, CallId, IdempotencyKey, StoredCall};

use crate::{
    log::Encoded,
    queue::Operation,
    records::{Changes, Key, Needs, Records},
    row::{Damage, Query, Row, json},
};

/// Whose key it is, and the key.
pub(crate) type BondKey = (AgentId, IdempotencyKey);

/// The key of a call, where it has one.
pub(crate) fn key(call: &StoredCall) -> Option<BondKey> {
    Some((call.requester.agent.clone(), call.key.clone()?))
}

/// What the key of a bond stands for already, where that is another call.
pub(crate) fn taken(
    records: &Records,
    bond: &Bond,
    replaces: Option<&CallId>,
) -> Result<Option<Box<Bond>>, LedgerFault> {
    let before = records.bonds.find(&(bond.agent.clone(), bond.key.clone()))?;
    Ok(before.filter(|_| !bond.follows(before, replaces)).cloned().map(Box::new))
}

/// Lets a key stand for a call that is not issued. Answers what it stands for where that is another one.
pub(crate) struct Bind {
    pub(crate) bond: Bond,
    pub(crate) replaces: Option<CallId>,
    pub(crate) entries: Vec<Arc<Encoded>>,
}

impl Operation for Bind {
    type Output = Option<Bond>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Bond((self.bond.agent.clone(), self.bond.key.clone())));
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        if let Some(taken) = taken(records, &self.bond, self.replaces.as_ref())? {
            return Ok((Some(*taken), Changes::default()));
        }
        let mut changes = Changes::entries(self.entries.clone());
        changes.bonds.push(self.bond.clone());
        Ok((None, changes))
    }
}

pub(crate) fn read(row: &Row) -> Result<Bond, Damage> {
    let bad = |_why| Damage("an idempotency key or its digest is none".into());
    Ok(Bond {
        agent: row.parse(0)?,
        key: row.parse(1)?,
        digest: row.text(2)?.parse().map_err(bad)?,
        call: row.parse(3)?,
        approval: row.optional_parse(4)?,
        refusal: row.optional_json(5)?,
        at_ms: row.int(6)?,
    })
}

pub(crate) fn select((agent, key): &BondKey) -> Query {
    Query::new(
        "SELECT agent, name, digest, call, approval, refusal, at_ms FROM bond WHERE agent = $1 AND name = $2",
        vec![agent.as_str().into(), key.as_str().into()],
    )
}

/// How many keys of an agent there are; counting ends at `limit`.
pub(crate) fn count(agent: &AgentId, limit: u32) -> Query {
    Query::new(
        "SELECT count(*) FROM (SELECT 1 FROM bond WHERE agent = $1 LIMIT $2) AS counted",
        vec![agent.as_str().into(), u64::from(limit).into()],
    )
}

/// With the day that the ledger counts, by which it is forgotten.
pub(crate) fn insert(bond: &Bond) -> Result<Query, LedgerFault> {
    Ok(Query::one(
        "INSERT INTO bond (agent, name, digest, call, approval, refusal, at_ms, day) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT a.day FROM age a))",
        vec![
            bond.agent.as_str().into(),
            bond.key.as_str().into(),
            bond.digest.to_string().into(),
            bond.call.as_str().into(),
            bond.approval.as_ref().map(|id| id.as_str()).into(),
            bond.refusal.as_ref().map(json).transpose()?.into(),
            bond.at_ms.into(),
        ],
    ))
}

pub(crate) fn update(bond: &Bond) -> Result<Query, LedgerFault> {
    Ok(Query::one(
        "UPDATE bond SET digest = $1, call = $2, approval = $3, refusal = $4, at_ms = $5, \
         day = (SELECT a.day FROM age a) WHERE agent = $6 AND name = $7",
        vec![
            bond.digest.to_string().into(),
            bond.call.as_str().into(),
            bond.approval.as_ref().map(|id| id.as_str()).into(),
            bond.refusal.as_ref().map(json).transpose()?.into(),
            bond.at_ms.into(),
            bond.agent.as_str().into(),
            bond.key.as_str().into(),
        ],
    ))
}
