//! Issued calls, with what they are charged.

use std::collections::BTreeSet;

use countersign_gate::ledger::{CallRecord, CallState, LedgerFault};
use countersign_rules::{AgentId, CallDigest, CallId, Effect, charge::Charged};

use super::Record;
use crate::row::{Damage, SqlStatement, StoredRow, Value, json};

/// This is an issued call with what it is charged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CallRow {
    pub(crate) record: CallRecord,
    pub(crate) charge: Charged,
    pub(crate) process: i64,
}

macro_rules! select_calls {
    ($($rest:literal),+) => {
        concat!(
            "SELECT system, effect, decision, approval, state, issued_ms, closed_ms, row_count, process, body, ",
            "charge, outcome, journal, doubted FROM call ",
            $($rest),+
        )
    };
}
pub(crate) use select_calls;

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
        Ok(Self { record, process: row.int(8)?, charge: row.json(10)? })
    }

    fn insert(&self, id: &CallId) -> Result<SqlStatement, LedgerFault> {
        let Self { record, charge, process } = self;
        let outcome = record.outcome.as_ref().map(json).transpose()?;
        Ok(SqlStatement::one(
            "INSERT INTO call (id, system, effect, decision, approval, state, issued_ms, closed_ms, row_count, \
             process, body, charge, outcome, journal, doubted, agent, tool) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            vec![
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
            ],
        ))
    }

    fn update(&self, id: &CallId) -> Result<SqlStatement, LedgerFault> {
        let Self { record, charge, .. } = self;
        let outcome = record.outcome.as_ref().map(json).transpose()?;
        Ok(SqlStatement::one(
            "UPDATE call SET state = $1, closed_ms = $2, row_count = $3, charge = $4, outcome = $5, \
             doubted = COALESCE(doubted, $6) WHERE id = $7",
            vec![
                record.state.as_str().into(),
                record.closed_ms.into(),
                record.rows.into(),
                json(charge)?,
                outcome.into(),
                doubted(record).into(),
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
        // Said in the text, so that the small index on what is not done is used.
        Some(state @ (CallState::Open | CallState::InDoubt | CallState::Failed)) => SqlStatement::new(
            select_calls!("WHERE state <> 'done' AND state = $1 ORDER BY issued_ms DESC, id DESC LIMIT $2"),
            vec![state.as_str().into(), limit],
        ),
        Some(CallState::Done) => SqlStatement::new(
            select_calls!("WHERE state = 'done' ORDER BY issued_ms DESC, id DESC LIMIT $1"),
            vec![limit],
        ),
        None => SqlStatement::new(select_calls!("ORDER BY issued_ms DESC, id DESC LIMIT $1"), vec![limit]),
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
            "ORDER BY CASE state WHEN 'in_doubt' THEN 0 ELSE 1 END, issued_ms DESC, id DESC LIMIT 1"
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
