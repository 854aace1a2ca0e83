//! Issued calls, with what they are charged.

use std::collections::BTreeSet;

use countersign_gate::ledger::{CallRecord, CallState, LedgerFault};
use countersign_rules::{AgentId, CallDigest, CallId, Effect, charge::Charged};

use super::Record;
use crate::row::{Damage, SqlStatement, StoredRow, Value, json};

/// This is an issued call with what it is charged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CallRow {
    /// The call has this place in the order of calls; see [`crate::place`].
    pub(crate) place: i64,
    pub(crate) record: CallRecord,
    pub(crate) charge: Charged,
    pub(crate) process: i64,
}

/// These columns a row is read from, and the call's place after them.
macro_rules! call_columns {
    () => {
        "system, effect, decision, approval, state, issued_ms, closed_ms, row_count, process, body, charge, outcome, \
         journal, doubted"
    };
}
pub(crate) use call_columns;

macro_rules! select_calls {
    ($($rest:literal),+) => {
        concat!("SELECT ", $crate::record::call::call_columns!(), ", place FROM call ", $($rest),+)
    };
}
pub(crate) use select_calls;

/// Says which calls are open: of those that are filed, and of the others, which are few. The upper end is for PostgreSQL,
/// which takes a range with one end for a third of the table.
macro_rules! open_calls {
    ($columns:expr, $rest:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM call WHERE unsettled = 'open' ",
            $rest,
            "UNION ALL SELECT ",
            $columns,
            " FROM call WHERE place >= (SELECT size / 256 * 256 FROM log_head WHERE id = 0) ",
            "AND place <= (SELECT size FROM log_head WHERE id = 0) AND state = 'open' ",
            $rest
        )
    };
}
pub(crate) use open_calls;

/// This files the calls from a place to another one that are still open. A call that came into doubt or failed is filed
/// by that change, and one that is done is not.
macro_rules! files_calls {
    () => {
        "UPDATE call SET unsettled = state WHERE place >= $1 AND place < $2 AND state = 'open'"
    };
}
pub(crate) use files_calls;

impl Record for CallRow {
    type Key = CallId;

    const WATCHED: bool = true;

    fn select(id: &CallId) -> SqlStatement {
        SqlStatement::new(select_calls!("WHERE id = $1"), vec![id.as_str().into()])
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        let record = CallRecord {
            system: row.parse(0)?,
            effect: effect(row.text(1)?)?,
            decision: row.parse(2)?,
            approval: row.optional_parse(3)?,
            state: state(row.text(4)?)?,
            issued_ms: row.int(5)?,
            closed_ms: row.optional_int(6)?,
            rows: row.count(7)?,
            call: row.json(9)?,
            outcome: row.optional_json(11)?,
            journal: row.optional_text(12)?.map(ToOwned::to_owned),
            doubted: row.optional_text(13)?.is_some(),
        };
        Ok(Self { place: row.int(14)?, record, process: row.int(8)?, charge: row.json(10)? })
    }

    fn insert(&self, id: &CallId) -> Result<SqlStatement, LedgerFault> {
        let Self { place, record, charge, process } = self;
        let outcome = record.outcome.as_ref().map(json).transpose()?;
        Ok(SqlStatement::one(
            "INSERT INTO call (place, id, system, effect, decision, approval, state, issued_ms, closed_ms, row_count, \
             process, body, charge, outcome, journal, doubted, agent, tool, unsettled) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
            vec![
                (*place).into(),
                id.as_str().into(),
                record.system.as_str().into(),
                record.effect.as_str().into(),
                record.decision.as_str().into(),
                record.approval.as_ref().map(|id| id.as_str()).into(),
                record.state.as_str().into(),
                record.issued_ms.into(),
                record.closed_ms.into(),
                record.rows.into(),
                (*process).into(),
                json(&record.call)?,
                json(charge)?,
                outcome.into(),
                record.journal.as_deref().into(),
                doubted(record).into(),
                record.call.requester.agent.as_str().into(),
                record.call.tool.as_str().into(),
                unsettled(record.state).into(),
            ],
        ))
    }

    fn update(&self, id: &CallId) -> Result<SqlStatement, LedgerFault> {
        let Self { record, charge, .. } = self;
        let outcome = record.outcome.as_ref().map(json).transpose()?;
        Ok(SqlStatement::one(
            "UPDATE call SET state = $1, closed_ms = $2, row_count = $3, charge = $4, outcome = $5, \
             doubted = COALESCE(doubted, $6), unsettled = CASE $1 WHEN 'open' THEN unsettled ELSE $7 END WHERE id = $8",
            vec![
                record.state.as_str().into(),
                record.closed_ms.into(),
                record.rows.into(),
                json(charge)?,
                outcome.into(),
                doubted(record).into(),
                unsettled(record.state).into(),
                id.as_str().into(),
            ],
        ))
    }

    /// Returns true for an open call, whose outcome is awaited from this process, and where there is no call.
    fn is_kept(call: Option<&Self>) -> bool {
        call.is_none_or(|row| row.record.state == CallState::Open)
    }
}

/// Returns the statement that reads calls in this state, or in any, newest first; at most `limit`.
pub(crate) fn select_all(state: Option<CallState>, limit: u32) -> SqlStatement {
    let limit = Value::from(u64::from(limit));
    match state {
        Some(CallState::Open) => SqlStatement::new(
            concat!(open_calls!(concat!(call_columns!(), ", place"), ""), "ORDER BY place DESC LIMIT $1"),
            vec![limit],
        ),
        Some(state @ (CallState::InDoubt | CallState::Failed)) => SqlStatement::new(
            select_calls!("WHERE unsettled = $1 ORDER BY place DESC LIMIT $2"),
            vec![state.as_str().into(), limit],
        ),
        Some(CallState::Done) => {
            SqlStatement::new(select_calls!("WHERE state = 'done' ORDER BY place DESC LIMIT $1"), vec![limit])
        }
        None => SqlStatement::new(select_calls!("ORDER BY place DESC LIMIT $1"), vec![limit]),
    }
}

/// Returns what a change to this state files a call under. An open one is filed when its tile is complete.
const fn unsettled(state: CallState) -> Option<&'static str> {
    match state {
        CallState::Open | CallState::Done => None,
        CallState::InDoubt | CallState::Failed => Some(state.as_str()),
    }
}

/// Returns what a call that is in doubt is found by.
pub(crate) fn doubt(agent: &AgentId, digest: CallDigest) -> String {
    format!("{digest} {agent}")
}

/// Returns what a call that is or was in doubt is found by from now on, also once the doubt is settled.
pub(crate) fn doubted(record: &CallRecord) -> Option<String> {
    record.doubted.then(|| doubt(&record.call.requester.agent, record.call.digest))
}

/// Returns the statement that reads what all calls are found by that are or were in doubt; at most `limit`.
pub(crate) fn select_doubts(limit: u32) -> SqlStatement {
    SqlStatement::new(
        "SELECT DISTINCT doubted FROM call WHERE doubted IS NOT NULL LIMIT $1",
        vec![u64::from(limit).into()],
    )
}

/// Reads what [`select_doubts`] answers.
pub(crate) fn read_doubts(rows: &[StoredRow]) -> Result<BTreeSet<String>, Damage> {
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// Returns the statement that reads the newest call of an agent with this digest that is in doubt, or else was
/// and has happened, and was closed after `since_ms` (Unix milliseconds UTC).
pub(crate) fn select_doubted(agent: &AgentId, digest: CallDigest, since_ms: i64) -> SqlStatement {
    SqlStatement::new(
        select_calls!(
            "WHERE doubted = $1 AND (state = 'in_doubt' OR (state = 'done' AND closed_ms > $2)) ",
            "ORDER BY CASE state WHEN 'in_doubt' THEN 0 ELSE 1 END, place DESC LIMIT 1"
        ),
        vec![doubt(agent, digest).into(), since_ms.into()],
    )
}

fn state(text: &str) -> Result<CallState, Damage> {
    [CallState::Open, CallState::Done, CallState::Failed, CallState::InDoubt]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| Damage("a call has an unknown state".into()))
}

/// Reads an effect from the word that is stored. An unknown word is damage.
pub(crate) fn effect(text: &str) -> Result<Effect, Damage> {
    [Effect::Read, Effect::Write, Effect::Destructive]
        .into_iter()
        .find(|effect| effect.as_str() == text)
        .ok_or_else(|| Damage("a record has an unknown effect".into()))
}
