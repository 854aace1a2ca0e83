//! Sessions, and what they and their agents did so far.

use countersign_gate::ledger::{LedgerFault, session_key};
use countersign_rules::{Counters, Requester, budget::day};

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

/// These are counters, with what stands beside them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CounterRow {
    pub(crate) counters: Counters,
    /// The ledger had been changed so often when these were. No two changes have the same number, and a later one has a
    /// larger.
    pub(crate) version: u64,
    /// Pruning has marked them as not used since.
    pub(crate) marked: bool,
}

impl Record for CounterRow {
    type Key = CounterKey;

    fn select(key: &CounterKey) -> SqlStatement {
        SqlStatement::new(
            "SELECT body, version, mark_day FROM counter WHERE subject = $1 AND day = $2",
            key.params(),
        )
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        Ok(Self { counters: row.json(0)?, version: row.count(1)?, marked: row.optional_int(2)?.is_some() })
    }

    fn insert(&self, key: &CounterKey) -> Result<SqlStatement, LedgerFault> {
        let mut params = key.params();
        params.extend([json(&self.counters)?, self.version.into()]);
        Ok(SqlStatement::one(
            "INSERT INTO counter (subject, day, body, version) VALUES ($1, $2, $3, $4)",
            params,
        ))
    }

    fn update(&self, key: &CounterKey) -> Result<SqlStatement, LedgerFault> {
        let mut params = vec![json(&self.counters)?, self.version.into()];
        params.extend(key.params());
        // A mark is found by an index, which most changes need not touch.
        let sql = if self.marked {
            "UPDATE counter SET body = $1, version = $2, mark_day = NULL WHERE subject = $3 AND day = $4"
        } else {
            "UPDATE counter SET body = $1, version = $2 WHERE subject = $3 AND day = $4"
        };
        Ok(SqlStatement::one(sql, params))
    }

    /// Returns false for counters that were marked: a change takes the mark away.
    fn is_kept(row: Option<&Self>) -> bool {
        row.is_none_or(|row| !row.marked)
    }
}

/// Returns the statement that reads the counters of a requester's session and those of its agent on a day, as they are at
/// one time.
pub(crate) fn select_counters(requester: &Requester, now_ms: i64) -> SqlStatement {
    let mut params = CounterKey::session(requester).params();
    params.extend(CounterKey::agent(requester, now_ms).params());
    SqlStatement::new(
        "SELECT body, version, mark_day, CAST(0 AS BIGINT) FROM counter WHERE subject = $1 AND day = $2 \
         UNION ALL \
         SELECT body, version, mark_day, CAST(1 AS BIGINT) FROM counter WHERE subject = $3 AND day = $4",
        params,
    )
}

/// Reads what [`select_counters`] answers: the session's counters, then the agent's.
pub(crate) fn read_counters(rows: &[StoredRow]) -> Result<[CounterRow; 2], Damage> {
    let mut found = [CounterRow::default(), CounterRow::default()];
    for row in rows {
        let [session, agent] = &mut found;
        *(if row.int(3)? == 0 { session } else { agent }) = CounterRow::read(row)?;
    }
    Ok(found)
}

/// Returns a number that moves whenever a session's counters do, or those of its agent on a day. Both are read at one
/// time: a change is newer than both, so that the newer of them tells of it.
pub(crate) fn history(session: &CounterRow, agent_today: &CounterRow) -> u64 {
    session.version.max(agent_today.version)
}
