//! Halts in force.

use std::sync::Arc;

use countersign_gate::ledger::{HaltRecord, HaltScope, LedgerFault};
use countersign_rules::AgentId;

use crate::{
    log::Encoded,
    queue::Operation,
    records::{Changes, Key, Needs, Records},
    row::{Damage, Query, Row, json},
};

/// Halts an agent, or all. Answers the halt in force: one that is there already stays as it is.
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
        changes.halts.push((self.record.scope.clone(), Some(self.record.clone())));
        Ok((self.record.clone(), changes))
    }
}

/// Ends a halt. Answers whether there was one.
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
        changes.halts.push((self.scope.clone(), None));
        Ok((true, changes))
    }
}

/// The halts that may stop an agent.
pub(crate) fn scopes(agent: &AgentId) -> [HaltScope; 2] {
    [HaltScope::All, HaltScope::Agent(agent.clone())]
}

/// The halt that stops an agent, if any.
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

/// How a scope is written in the store: names have no white space, so the two never meet.
pub(crate) fn text(scope: &HaltScope) -> String {
    match scope {
        HaltScope::Agent(agent) => format!("agent {agent}"),
        HaltScope::All => "all".to_owned(),
    }
}

pub(crate) fn select(scope: &HaltScope) -> Query {
    Query::new("SELECT body FROM halt WHERE scope = $1", vec![text(scope).into()])
}

pub(crate) fn select_for(agent: &AgentId) -> Query {
    let [all, one] = scopes(agent);
    Query::new(
        "SELECT body FROM halt WHERE scope = $1 OR scope = $2 ORDER BY scope DESC",
        vec![text(&all).into(), text(&one).into()],
    )
}

pub(crate) fn select_all() -> Query {
    Query::new("SELECT body FROM halt ORDER BY scope", Vec::new())
}

pub(crate) fn read(row: &Row) -> Result<HaltRecord, Damage> {
    row.json(0)
}

pub(crate) fn insert(scope: &HaltScope, halt: &HaltRecord) -> Result<Query, LedgerFault> {
    Ok(Query::one("INSERT INTO halt (scope, body) VALUES ($1, $2)", vec![text(scope).into(), json(halt)?]))
}

pub(crate) fn update(scope: &HaltScope, halt: &HaltRecord) -> Result<Query, LedgerFault> {
    Ok(Query::one("UPDATE halt SET body = $1 WHERE scope = $2", vec![json(halt)?, text(scope).into()]))
}

pub(crate) fn delete(scope: &HaltScope) -> Query {
    Query::one("DELETE FROM halt WHERE scope = $1", vec![text(scope).into()])
}
