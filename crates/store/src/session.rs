//! Sessions, and what they and their agents did so far.

use std::sync::Arc;

use countersign_gate::ledger::{LedgerFault, session_key};
use countersign_rules::{AgentId, Counters, Requester, budget::day};

use crate::{
    log::Encoded,
    queue::Operation,
    records::{Changes, Key, Needs, Records},
    row::{Query, Value, json},
};

/// Opens a session, once. Answers whether it is new.
pub(crate) struct OpenSession {
    pub(crate) requester: Requester,
    pub(crate) entry: Arc<Encoded>,
}

impl Operation for OpenSession {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        let key = session_key(&self.requester.agent, &self.requester.session);
        needs.name(records, &Key::Session(key));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let key = session_key(&self.requester.agent, &self.requester.session);
        if records.sessions.find(&key)?.is_some() {
            return Ok((false, Changes::default()));
        }
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.sessions.push(key);
        Ok((true, changes))
    }
}

/// Writes the head of the log as it is: what could not be written now could not be recorded either.
pub(crate) struct Touch;

impl Operation for Touch {
    type Output = ();

    fn needs(&self, _records: &Records, _needs: &mut Needs) {}

    fn apply(&self, _records: &Records) -> Result<((), Changes), LedgerFault> {
        Ok(((), Changes { touch: true, ..Changes::default() }))
    }
}

/// Appends entries that change nothing else.
pub(crate) struct Record {
    pub(crate) entries: Vec<Arc<Encoded>>,
}

impl Operation for Record {
    type Output = ();

    fn needs(&self, _records: &Records, _needs: &mut Needs) {}

    fn apply(&self, _records: &Records) -> Result<((), Changes), LedgerFault> {
        Ok(((), Changes::entries(self.entries.clone())))
    }
}

/// Whose counters, and of which UTC day; a session's have the day 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CounterKey {
    subject: String,
    day: i64,
}

impl CounterKey {
    pub(crate) fn session(requester: &Requester) -> Self {
        Self { subject: format!("session:{}", session_key(&requester.agent, &requester.session)), day: 0 }
    }

    pub(crate) fn agent(requester: &Requester, now_ms: i64) -> Self {
        Self { subject: format!("agent:{}", requester.agent), day: day(now_ms) }
    }

    fn params(&self) -> Vec<Value> {
        vec![self.subject.as_str().into(), self.day.into()]
    }
}

/// The counters that a call of this requester at this time belongs to.
pub(crate) fn keys(requester: &Requester, at_ms: i64) -> [Key; 3] {
    [
        Key::Counters(CounterKey::session(requester)),
        Key::Counters(CounterKey::agent(requester, at_ms)),
        Key::History(requester.agent.clone()),
    ]
}

/// Changes both counters of a call, and moves the history when that changed anything.
pub(crate) fn count(
    records: &Records,
    requester: &Requester,
    at_ms: i64,
    change: impl Fn(&mut Counters),
    changes: &mut Changes,
) -> Result<(), LedgerFault> {
    let mut moved = false;
    for key in [CounterKey::session(requester), CounterKey::agent(requester, at_ms)] {
        let before = records.counters.find(&key)?.cloned().unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        if after != before {
            changes.counters.push((key, after));
            moved = true;
        }
    }
    if moved {
        changes
            .histories
            .push((requester.agent.clone(), history(records, &requester.agent)?.saturating_add(1)));
    }
    Ok(())
}

/// The version of all counters of an agent: it moves whenever one of them does.
pub(crate) fn history(records: &Records, agent: &AgentId) -> Result<u64, LedgerFault> {
    Ok(records.histories.find(agent)?.copied().unwrap_or_default())
}

pub(crate) fn select(session: &str) -> Query {
    Query::new("SELECT id FROM session WHERE id = $1", vec![session.into()])
}

pub(crate) fn insert(session: &str) -> Query {
    Query::one("INSERT INTO session (id) VALUES ($1)", vec![session.into()])
}

pub(crate) fn select_counters(key: &CounterKey) -> Query {
    Query::new("SELECT body FROM counter WHERE subject = $1 AND day = $2", key.params())
}

pub(crate) fn insert_counters(key: &CounterKey, counters: &Counters) -> Result<Query, LedgerFault> {
    let mut params = key.params();
    params.push(json(counters)?);
    Ok(Query::one("INSERT INTO counter (subject, day, body) VALUES ($1, $2, $3)", params))
}

pub(crate) fn update_counters(key: &CounterKey, counters: &Counters) -> Result<Query, LedgerFault> {
    let mut params = vec![json(counters)?];
    params.extend(key.params());
    Ok(Query::one("UPDATE counter SET body = $1 WHERE subject = $2 AND day = $3", params))
}

pub(crate) fn select_history(agent: &AgentId) -> Query {
    Query::new("SELECT version FROM history WHERE agent = $1", vec![agent.as_str().into()])
}

pub(crate) fn insert_history(agent: &AgentId, version: u64) -> Query {
    Query::one(
        "INSERT INTO history (agent, version) VALUES ($1, $2)",
        vec![agent.as_str().into(), version.into()],
    )
}

pub(crate) fn update_history(agent: &AgentId, version: u64) -> Query {
    Query::one(
        "UPDATE history SET version = $1 WHERE agent = $2",
        vec![version.into(), agent.as_str().into()],
    )
}
