//! Sessions, and what they and their agents did so far.

use countersign_gate::ledger::{LedgerFault, session_key};
use countersign_rules::{AgentId, Counters, Requester, budget::day};

use super::Record;
use crate::row::{Damage, SqlStatement, StoredRow, Value, json};

/// A session was opened; the key of this record says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session;

impl Record for Session {
    type Key = String;

    fn select(session: &String) -> SqlStatement {
        SqlStatement::new("SELECT id FROM session WHERE id = $1", vec![session.as_str().into()])
    }

    fn read(_row: &StoredRow) -> Result<Self, Damage> {
        Ok(Self)
    }

    fn insert(&self, session: &String) -> Result<SqlStatement, LedgerFault> {
        Ok(SqlStatement::one("INSERT INTO session (id) VALUES ($1)", vec![session.as_str().into()]))
    }

    // There is nothing in it to change: one that is there already is refused by the database.
    fn update(&self, session: &String) -> Result<SqlStatement, LedgerFault> {
        self.insert(session)
    }
}

/// Counters are of this subject and this UTC day; a session's have the day 0.
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

impl Record for Counters {
    type Key = CounterKey;

    fn select(key: &CounterKey) -> SqlStatement {
        SqlStatement::new("SELECT body FROM counter WHERE subject = $1 AND day = $2", key.params())
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        row.json(0)
    }

    fn insert(&self, key: &CounterKey) -> Result<SqlStatement, LedgerFault> {
        let mut params = key.params();
        params.push(json(self)?);
        Ok(SqlStatement::one("INSERT INTO counter (subject, day, body) VALUES ($1, $2, $3)", params))
    }

    fn update(&self, key: &CounterKey) -> Result<SqlStatement, LedgerFault> {
        let mut params = vec![json(self)?];
        params.extend(key.params());
        Ok(SqlStatement::one(
            "UPDATE counter SET body = $1, mark_day = NULL WHERE subject = $2 AND day = $3",
            params,
        ))
    }
}

/// This is the version of all counters of an agent: it moves whenever one of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct History(pub(crate) u64);

impl Record for History {
    type Key = AgentId;

    fn select(agent: &AgentId) -> SqlStatement {
        SqlStatement::new("SELECT version FROM history WHERE agent = $1", vec![agent.as_str().into()])
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        row.count(0).map(Self)
    }

    fn insert(&self, agent: &AgentId) -> Result<SqlStatement, LedgerFault> {
        let params = vec![agent.as_str().into(), self.0.into()];
        Ok(SqlStatement::one("INSERT INTO history (agent, version) VALUES ($1, $2)", params))
    }

    fn update(&self, agent: &AgentId) -> Result<SqlStatement, LedgerFault> {
        let params = vec![self.0.into(), agent.as_str().into()];
        Ok(SqlStatement::one("UPDATE history SET version = $1 WHERE agent = $2", params))
    }
}
