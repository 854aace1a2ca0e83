//! Halts in force.

use std::sync::Arc;

use countersign_gate::ledger::{HaltRecord, HaltScope, LedgerFault};
use countersign_rules::AgentId;

use crate::{
    queue::Operation,
    record::halt::scopes,
    records::{Changes, Key, Needs, Records},
    tail::Encoded,
};

/// Halts an agent, or all. Returns the halt in force: one that is there already stays as it is.
pub(crate) struct Halt {
    pub(crate) record: HaltRecord,
    pub(crate) entry: Arc<Encoded>,
}

impl Operation for Halt {
    type Output = HaltRecord;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Halt(self.record.scope.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(HaltRecord, Changes), LedgerFault> {
        if let Some(there) = records.halts.find(&self.record.scope)? {
            return Ok((there.clone(), Changes::default()));
        }
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.halts.put(self.record.scope.clone(), self.record.clone());
        Ok((self.record.clone(), changes))
    }
}

/// Ends a halt. Returns true if there was one.
pub(crate) struct Resume {
    pub(crate) scope: HaltScope,
    pub(crate) entry: Arc<Encoded>,
}

impl Operation for Resume {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Halt(self.scope.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        if records.halts.find(&self.scope)?.is_none() {
            return Ok((false, Changes::default()));
        }
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.halts.remove(self.scope.clone());
        Ok((true, changes))
    }
}

/// Returns the halt that stops an agent, if there is one. A halt of all comes before one of the agent.
pub(crate) fn in_force<'a>(
    records: &'a Records,
    agent: &AgentId,
) -> Result<Option<&'a HaltRecord>, LedgerFault> {
    for scope in scopes(agent) {
        if let Some(halt) = records.halts.find(&scope)? {
            return Ok(Some(halt));
        }
    }
    Ok(None)
}
