//! Requests for people's approval, with the evidence shown with them.

use std::collections::{BTreeMap, BTreeSet};

use countersign_gate::{
    Evidence,
    ledger::{ApprovalRecord, LedgerFault},
};
use countersign_rules::{
    AgentId, ApprovalId, ApprovalState, CallDigest, Code, Grant, GroupName, Requester, Signature, ToolName,
    call::RetryKey,
};
use serde::{Deserialize, Serialize};

use super::{Record, call::effect};
use crate::row::{Damage, SqlStatement, StoredRow, Value, json};

/// This is a request with its place in the order of requests.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApprovalRow {
    pub(crate) record: ApprovalRecord,
    pub(crate) order: u64,
}

/// People said this, and granted this beside it, and the request ended for this reason.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answers {
    pub(crate) signatures: Vec<Signature>,
    pub(crate) why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grant: Option<Grant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) narrowed_to: Option<ApprovalId>,
}

macro_rules! select_approvals {
    ($rest:literal) => {
        concat!(
            "SELECT a.place, a.state, a.effect, a.delivered, a.request, a.answers, a.code, e.body ",
            "FROM approval a LEFT JOIN evidence e ON e.approval = a.id ",
            $rest
        )
    };
}

impl Record for ApprovalRow {
    type Key = ApprovalId;

    const WATCHED: bool = true;

    fn select(id: &ApprovalId) -> SqlStatement {
        SqlStatement::new(select_approvals!("WHERE a.id = $1"), vec![id.as_str().into()])
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        let Answers { signatures, why, grant, narrowed_to } = row.json(5)?;
        let record = ApprovalRecord {
            state: state(row.text(1)?)?,
            effect: effect(row.text(2)?)?,
            delivered: row.int(3)? != 0,
            request: row.json(4)?,
            signatures,
            why,
            grant,
            narrowed_to,
            code: row.optional_text(6)?.map(code).transpose()?,
            evidence: row.optional_json::<Evidence>(7)?,
        };
        Ok(Self { order: row.count(0)?, record })
    }

    fn insert(&self, id: &ApprovalId) -> Result<SqlStatement, LedgerFault> {
        let ApprovalRecord { request, effect, state, delivered, .. } = &self.record;
        let requester = &request.call.requester;
        let normal = request.alike.map_or(request.call.digest, |alike| alike.normal);
        Ok(SqlStatement::one(
            "INSERT INTO approval (id, place, agent, session, digest, state, effect, delivered, request, answers, tool, \
             until_ms, normal, shape, code, grant_until_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
            vec![
                id.as_str().into(),
                self.order.into(),
                requester.agent.as_str().into(),
                requester.session.as_str().into(),
                request.call.digest.to_string().into(),
                state.as_str().into(),
                effect.as_str().into(),
                i64::from(*delivered).into(),
                json(request)?,
                self.answers()?,
                request.call.tool.as_str().into(),
                request.expires_ms.into(),
                normal.to_string().into(),
                request.alike.map(|alike| alike.shape.to_string()).as_deref().into(),
                // One that was ended in the batch that opens it has one already.
                self.record.code.map(Code::as_str).into(),
                self.grant_until_ms().into(),
            ],
        ))
    }

    fn update(&self, id: &ApprovalId) -> Result<SqlStatement, LedgerFault> {
        Ok(SqlStatement::one(
            "UPDATE approval SET state = $1, delivered = $2, answers = $3, code = $4, grant_until_ms = $5 WHERE id = $6",
            vec![
                self.record.state.as_str().into(),
                i64::from(self.record.delivered).into(),
                self.answers()?,
                self.record.code.map(Code::as_str).into(),
                self.grant_until_ms().into(),
                id.as_str().into(),
            ],
        ))
    }

    /// Returns the statements that insert the groups that the request asks.
    fn beside(&self) -> Vec<SqlStatement> {
        let names: BTreeSet<&GroupName> = self.record.request.of.iter().map(|ask| &ask.group).collect();
        let insert = |name: &GroupName| {
            SqlStatement::one(
                "INSERT INTO approval_group (place, name) VALUES ($1, $2)",
                vec![self.order.into(), name.as_str().into()],
            )
        };
        names.into_iter().map(insert).collect()
    }

    /// Returns false: requests are few, and read by others than the operations.
    fn is_kept(_request: Option<&Self>) -> bool {
        false
    }
}

impl ApprovalRow {
    fn answers(&self) -> Result<Value, LedgerFault> {
        let ApprovalRecord { signatures, why, grant, narrowed_to, .. } = self.record.clone();
        json(&Answers { signatures, why, grant, narrowed_to })
    }

    /// Until when the grant may cover a call, as long as it may cover one.
    fn grant_until_ms(&self) -> Option<i64> {
        self.record.grant.as_ref()?.covers_until_ms()
    }
}

pub(crate) fn select_newest(key: &RetryKey) -> SqlStatement {
    SqlStatement::new(
        select_approvals!("WHERE a.digest = $1 AND a.agent = $2 ORDER BY a.place DESC LIMIT 1"),
        vec![key.digest.to_string().into(), key.agent.as_str().into()],
    )
}

/// Returns the statement that finds out whether people refused an agent something that would not have expired
/// at `now_ms` (Unix milliseconds UTC).
pub(crate) fn select_refusals(agent: &AgentId, now_ms: i64) -> SqlStatement {
    SqlStatement::new(
        "SELECT place FROM approval WHERE agent = $1 AND state = 'refused' AND until_ms > $2 LIMIT 1",
        vec![agent.as_str().into(), now_ms.into()],
    )
}

/// Returns the statement that reads the newest refused request about an equal call that would not have expired
/// at `now_ms` (Unix milliseconds UTC).
pub(crate) fn select_refused(
    agent: &AgentId,
    (normal, digest): (CallDigest, CallDigest),
    now_ms: i64,
) -> SqlStatement {
    SqlStatement::new(
        select_approvals!(
            "WHERE a.agent = $1 AND a.state = 'refused' AND (a.normal = $2 OR a.normal = $3 OR a.digest = $3) \
             AND a.until_ms > $4 ORDER BY a.place DESC LIMIT 1"
        ),
        vec![agent.as_str().into(), normal.to_string().into(), digest.to_string().into(), now_ms.into()],
    )
}

/// Returns the statement that reads answered requests about calls of one shape, newest first; at most `limit`.
pub(crate) fn select_like(agent: &AgentId, shape: CallDigest, limit: u64) -> SqlStatement {
    SqlStatement::new(
        select_approvals!(
            "WHERE a.agent = $1 AND a.shape = $2 AND a.answers LIKE '%\"person\":%' ORDER BY a.place DESC LIMIT $3"
        ),
        vec![agent.as_str().into(), shape.to_string().into(), limit.into()],
    )
}

/// Returns the statement that reads the requests with which people granted calls of a shape in an agent's session, where
/// something of that is left at `now_ms` (Unix milliseconds UTC), newest first; at most `limit`.
pub(crate) fn select_granting(
    requester: &Requester,
    shape: CallDigest,
    now_ms: i64,
    limit: u64,
) -> SqlStatement {
    SqlStatement::new(
        select_approvals!(
            "WHERE a.agent = $1 AND a.session = $2 AND a.shape = $3 AND a.grant_until_ms > $4 \
             ORDER BY a.place DESC LIMIT $5"
        ),
        vec![
            requester.agent.as_str().into(),
            requester.session.as_str().into(),
            shape.to_string().into(),
            now_ms.into(),
            limit.into(),
        ],
    )
}

/// Returns the statement that reads the requests with which people granted something of which anything is left at `now_ms`
/// (Unix milliseconds UTC), those that end first before the others; at most `limit`.
pub(crate) fn select_grants(now_ms: i64, limit: u32) -> SqlStatement {
    SqlStatement::new(
        select_approvals!("WHERE a.grant_until_ms > $1 ORDER BY a.grant_until_ms, a.place LIMIT $2"),
        vec![now_ms.into(), u64::from(limit).into()],
    )
}

/// Returns the statement that reads refused requests about other calls of a tool, newest first; at most
/// `limit`.
pub(crate) fn select_refused_tool(
    agent: &AgentId,
    tool: &ToolName,
    shape: CallDigest,
    limit: u64,
) -> SqlStatement {
    SqlStatement::new(
        select_approvals!(
            "WHERE a.agent = $1 AND a.state = 'refused' AND a.tool = $2 AND (a.shape IS NULL OR a.shape <> $3) \
             ORDER BY a.place DESC LIMIT $4"
        ),
        vec![agent.as_str().into(), tool.as_str().into(), shape.to_string().into(), limit.into()],
    )
}

/// Returns the statement that reads the agents that people ever refused something; at most `limit`.
pub(crate) fn select_refused_agents(limit: u32) -> SqlStatement {
    SqlStatement::new(
        "SELECT DISTINCT agent FROM approval WHERE state = 'refused' LIMIT $1",
        vec![u64::from(limit).into()],
    )
}

/// Returns the statement that reads the requests that wait and whose time was over at `now_ms` (Unix milliseconds UTC), those
/// that ended first before the others; at most `limit`.
pub(crate) fn select_overdue(now_ms: i64, limit: u32) -> SqlStatement {
    SqlStatement::new(
        select_approvals!(
            "WHERE a.state = 'waiting' AND a.until_ms <= $1 ORDER BY a.until_ms, a.place LIMIT $2"
        ),
        vec![now_ms.into(), u64::from(limit).into()],
    )
}

/// Returns the statement that counts the requests of an agent that wait.
pub(crate) fn count_waiting(agent: &AgentId) -> SqlStatement {
    SqlStatement::new(
        "SELECT count(*) FROM approval WHERE state = 'waiting' AND agent = $1",
        vec![agent.as_str().into()],
    )
}

/// Returns the statement that reads the digests of all requests; at most `limit`.
pub(crate) fn select_digests(limit: u32) -> SqlStatement {
    SqlStatement::new("SELECT DISTINCT digest FROM approval LIMIT $1", vec![u64::from(limit).into()])
}

/// Reads what [`select_refused_agents`] answers.
pub(crate) fn read_agents(rows: &[StoredRow]) -> Result<BTreeSet<AgentId>, Damage> {
    rows.iter().map(|row| row.parse(0)).collect()
}

/// Reads what [`select_digests`] answers.
pub(crate) fn read_digests(rows: &[StoredRow]) -> Result<BTreeSet<CallDigest>, Damage> {
    rows.iter().map(|row| row.text(0)?.parse().map_err(|_bad| Damage("a digest is none".into()))).collect()
}

/// Returns the statements that read requests in any of these states, or in every one where none is named; each
/// reads oldest first, and at most `limit`. There is one for each state, so that each ends at its limit: waiting
/// before granted, so that a request that is granted meanwhile is read twice rather than not at all.
pub(crate) fn select_all(states: &[ApprovalState], limit: u32) -> Vec<SqlStatement> {
    let limit = Value::from(u64::from(limit));
    if states.is_empty() {
        return vec![SqlStatement::new(select_approvals!("ORDER BY a.place LIMIT $1"), vec![limit])];
    }
    let select = |state: ApprovalState| {
        SqlStatement::new(
            select_approvals!("WHERE a.state = $1 ORDER BY a.place LIMIT $2"),
            vec![state.as_str().into(), limit.clone()],
        )
    };
    ApprovalState::ALL.into_iter().filter(|state| states.contains(state)).map(select).collect()
}

/// Reads what [`select_all`] answers: each request once, as it was read last, oldest first; at most `limit`.
pub(crate) fn read_all(answers: &[Vec<StoredRow>], limit: u32) -> Result<Vec<ApprovalRecord>, Damage> {
    let mut found = BTreeMap::new();
    for row in answers.iter().flatten() {
        let ApprovalRow { record, order } = ApprovalRow::read(row)?;
        found.insert(order, record);
    }
    Ok(found.into_values().take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
}

fn code(text: &str) -> Result<Code, Damage> {
    Code::ALL
        .iter()
        .find(|code| code.as_str() == text)
        .copied()
        .ok_or_else(|| Damage("a request was ended by an unknown code".into()))
}

pub(crate) fn state(text: &str) -> Result<ApprovalState, Damage> {
    ApprovalState::ALL
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| Damage("a request has an unknown state".into()))
}
