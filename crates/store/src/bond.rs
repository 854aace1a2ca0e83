//! Idempotency keys of agents, and the calls that they stand for.

use std::sync::Arc;

use countersign_gate::ledger::{Bond, LedgerFault};
use countersign_rules::CallId;

use crate::{
    queue::Operation,
    record::bond::key_of,
    records::{Changes, Key, Needs, Records},
    tail::Encoded,
};

/// Returns what the key of a bond stands for already, where that is another call than this one and than the one
/// that this one replaces.
pub(crate) fn taken(
    records: &Records,
    bond: &Bond,
    replaces: Option<&CallId>,
) -> Result<Option<Box<Bond>>, LedgerFault> {
    let before = records.bonds.find(&key_of(bond))?;
    Ok(before.filter(|_| !bond.follows(before, replaces)).cloned().map(Box::new))
}

/// Lets a key stand for a call that is not issued. Returns what the key stands for where that is another call;
/// then nothing changes.
pub(crate) struct Bind {
    pub(crate) bond: Bond,
    pub(crate) replaces: Option<CallId>,
    pub(crate) entries: Vec<Arc<Encoded>>,
}

impl Operation for Bind {
    type Output = Option<Bond>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Bond(key_of(&self.bond)));
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        if let Some(taken) = taken(records, &self.bond, self.replaces.as_ref())? {
            return Ok((Some(*taken), Changes::default()));
        }
        let mut changes = Changes::entries(self.entries.clone());
        changes.bonds.put(key_of(&self.bond), self.bond.clone());
        Ok((None, changes))
    }
}
