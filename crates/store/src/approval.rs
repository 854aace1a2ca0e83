//! Requests for people's approval, their answers and the evidence shown with them.

use std::{collections::BTreeSet, sync::Arc};

use countersign_gate::{
    Evidence,
    ledger::{ApprovalRecord, Bond, LedgerFault, NotAnswered, NotParked, Parking},
};
use countersign_rules::{
    AgentId, ApprovalId, ApprovalState, CallDigest, Code, GroupName, Requester, Signature, StoredCall,
    ToolName,
};
use serde::{Deserialize, Serialize};

use crate::{
    bond,
    call::effect,
    list::ApprovalFilter,
    log::Encoded,
    queue::Operation,
    records::{Changes, Key, Needs, Records},
    row::{Damage, Query, Row, Value, json},
};

/// A request with its place in the order of requests.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApprovalRow {
    pub(crate) record: ApprovalRecord,
    pub(crate) order: u64,
}

/// What makes two requests the same: who asks, and for which digest. The session does not: an agent names as many as it likes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestKey {
    agent: AgentId,
    digest: CallDigest,
}

impl RequestKey {
    pub(crate) fn new(requester: &Requester, digest: CallDigest) -> Self {
        Self { agent: requester.agent.clone(), digest }
    }

    pub(crate) fn of(call: &StoredCall) -> Self {
        Self::new(&call.requester, call.digest)
    }
}

/// Parks a call until people answer, or finds the request that is open already.
pub(crate) struct Park {
    parking: Parking,
    entries: Vec<Arc<Encoded>>,
}

impl Park {
    /// Takes a call to be parked.
    ///
    /// # Errors
    /// When an entry cannot be recorded.
    pub(crate) fn new(mut parking: Parking) -> Result<Self, LedgerFault> {
        let entries = Encoded::all(&std::mem::take(&mut parking.entries))?;
        Ok(Self { parking, entries })
    }
}

impl Operation for Park {
    type Output = Result<ApprovalRecord, NotParked>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        let request = &self.parking.request;
        needs.name(records, &Key::Newest(RequestKey::of(&request.call)));
        needs.name(records, &Key::Approval(request.id.clone()));
        if let Some(key) = bond::key(&request.call) {
            needs.name(records, &Key::Bond(key));
        }
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let Parking { request, replaces, evidence, effect, entries: _ } = &self.parking;
        let bond = Bond::of(&request.call, Some(&request.id), request.asked_ms);
        if let Some(bond) = &bond
            && let Some(taken) = bond::taken(records, bond, replaces.as_ref())?
        {
            return Ok((Err(NotParked::KeyTaken(taken)), Changes::default()));
        }
        // A newer request is opened only when the one before is final, so the newest is the only candidate.
        if let Some(open) =
            records.newest(&RequestKey::of(&request.call))?.filter(|row| !row.record.state.is_final())
        {
            let open = &open.record;
            let bonds = bond.into_iter().map(|bond| bond.joining(&open.request));
            return Ok((Ok(open.clone()), Changes { bonds: bonds.collect(), ..Changes::default() }));
        }
        if records.approvals.find(&request.id)?.is_some() {
            return Err(LedgerFault::Unavailable("a request of this id was opened before".into()));
        }
        let record = ApprovalRecord {
            request: request.clone(),
            effect: *effect,
            state: ApprovalState::Waiting,
            signatures: Vec::new(),
            evidence: evidence.clone(),
            why: None,
            code: None,
            delivered: false,
        };
        let mut changes = Changes::entries(self.entries.clone());
        changes.bonds.extend(bond);
        let row = ApprovalRow { record: record.clone(), order: records.next_order() };
        if let Some(evidence) = evidence {
            changes.statements.push(Query::one(
                "INSERT INTO evidence (approval, body) VALUES ($1, $2)",
                vec![request.id.as_str().into(), json(evidence)?],
            ));
        }
        changes.approvals.push((request.id.clone(), row));
        Ok((Ok(record), changes))
    }
}

/// Adds one person's answer.
pub(crate) struct Answer {
    pub(crate) approval: ApprovalId,
    pub(crate) signature: Signature,
    pub(crate) entry: Arc<Encoded>,
}

impl Operation for Answer {
    type Output = Result<ApprovalRecord, NotAnswered>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Approval(self.approval.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let Some(row) = records.approvals.find(&self.approval)? else {
            return Ok((Err(NotAnswered::NotFound), Changes::default()));
        };
        let mut row = row.clone();
        let record = &mut row.record;
        match record.request.answer(record.state, &record.signatures, &self.signature) {
            Ok(state) => record.state = state,
            Err(why) => return Ok((Err(why.into()), Changes::default())),
        }
        if record.state == ApprovalState::Refused {
            record.why.clone_from(&self.signature.comment);
        }
        record.signatures.push(self.signature.clone());
        let answered = record.clone();
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.approvals.push((self.approval.clone(), row));
        Ok((Ok(answered), changes))
    }
}

/// Ends a request that is waiting or granted. Answers whether it was.
pub(crate) struct End {
    pub(crate) approval: ApprovalId,
    pub(crate) state: ApprovalState,
    pub(crate) code: Option<Code>,
    pub(crate) why: String,
    pub(crate) entries: Vec<Arc<Encoded>>,
}

impl Operation for End {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Approval(self.approval.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let open =
            |row: &&ApprovalRow| matches!(row.record.state, ApprovalState::Waiting | ApprovalState::Approved);
        let Some(row) = records.approvals.find(&self.approval)?.filter(open) else {
            return Ok((false, Changes::default()));
        };
        let mut row = row.clone();
        row.record.state = self.state;
        row.record.why = Some(self.why.clone());
        row.record.code = self.code;
        let mut changes = Changes::entries(self.entries.clone());
        changes.approvals.push((self.approval.clone(), row));
        Ok((true, changes))
    }
}

/// Marks a final request as fetched.
pub(crate) struct Deliver(pub(crate) ApprovalId);

impl Operation for Deliver {
    type Output = ();

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Approval(self.0.clone()));
    }

    fn apply(&self, records: &Records) -> Result<((), Changes), LedgerFault> {
        let mut changes = Changes::default();
        let fetchable = |row: &&ApprovalRow| row.record.state.is_final() && !row.record.delivered;
        if let Some(row) = records.approvals.find(&self.0)?.filter(fetchable) {
            let mut row = row.clone();
            row.record.delivered = true;
            changes.approvals.push((self.0.clone(), row));
        }
        Ok(((), changes))
    }
}

/// What came of erasing evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erasure {
    /// It is erased.
    Erased,
    /// There was none.
    Nothing,
    /// People are asked until then (Unix milliseconds UTC), and would answer without having seen it. Nothing was changed.
    Asked {
        /// When the request expires.
        until_ms: i64,
    },
}

/// Erases the evidence kept with a request that nobody is asked about any more.
pub(crate) struct EraseEvidence {
    pub(crate) approval: ApprovalId,
    /// When, in Unix milliseconds UTC.
    pub(crate) now_ms: i64,
    pub(crate) entry: Arc<Encoded>,
}

impl Operation for EraseEvidence {
    type Output = Erasure;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Approval(self.approval.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(Erasure, Changes), LedgerFault> {
        let Some(row) = records.approvals.find(&self.approval)?.filter(|row| row.record.evidence.is_some())
        else {
            return Ok((Erasure::Nothing, Changes::default()));
        };
        let until_ms = row.record.request.expires_ms;
        if row.record.state == ApprovalState::Waiting && self.now_ms < until_ms {
            return Ok((Erasure::Asked { until_ms }, Changes::default()));
        }
        let mut row = row.clone();
        row.record.evidence = None;
        let mut changes = Changes::entries(vec![Arc::clone(&self.entry)]);
        changes.approvals.push((self.approval.clone(), row));
        changes.statements.push(Query::one(
            "DELETE FROM evidence WHERE approval = $1",
            vec![self.approval.as_str().into()],
        ));
        Ok((Erasure::Erased, changes))
    }
}

/// What people said, and why it ended.
#[derive(Debug, Serialize, Deserialize)]
struct Answers {
    signatures: Vec<Signature>,
    why: Option<String>,
}

impl ApprovalRow {
    pub(crate) fn read(row: &Row) -> Result<Self, Damage> {
        let Answers { signatures, why } = row.json(5)?;
        let record = ApprovalRecord {
            state: state(row.text(1)?)?,
            effect: effect(row.text(2)?)?,
            delivered: row.int(3)? != 0,
            request: row.json(4)?,
            signatures,
            why,
            code: row.optional_text(6)?.map(code).transpose()?,
            evidence: row.optional_json::<Evidence>(7)?,
        };
        Ok(Self { order: row.count(0)?, record })
    }

    fn answers(&self) -> Result<Value, LedgerFault> {
        let ApprovalRecord { signatures, why, .. } = &self.record;
        json(&Answers { signatures: signatures.clone(), why: why.clone() })
    }
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

pub(crate) fn select(id: &ApprovalId) -> Query {
    Query::new(select_approvals!("WHERE a.id = $1"), vec![id.as_str().into()])
}

pub(crate) fn select_newest(key: &RequestKey) -> Query {
    Query::new(
        select_approvals!("WHERE a.digest = $1 AND a.agent = $2 ORDER BY a.place DESC LIMIT 1"),
        vec![key.digest.to_string().into(), key.agent.as_str().into()],
    )
}

/// Whether people refused an agent something that would not have expired yet.
pub(crate) fn select_refusals(agent: &AgentId, now_ms: i64) -> Query {
    Query::new(
        "SELECT place FROM approval WHERE agent = $1 AND state = 'refused' AND until_ms > $2 LIMIT 1",
        vec![agent.as_str().into(), now_ms.into()],
    )
}

/// The newest refused request about an equal call.
pub(crate) fn select_refused(
    agent: &AgentId,
    (normal, digest): (CallDigest, CallDigest),
    now_ms: i64,
) -> Query {
    Query::new(
        select_approvals!(
            "WHERE a.agent = $1 AND a.state = 'refused' AND (a.normal = $2 OR a.normal = $3 OR a.digest = $3) \
             AND a.until_ms > $4 ORDER BY a.place DESC LIMIT 1"
        ),
        vec![agent.as_str().into(), normal.to_string().into(), digest.to_string().into(), now_ms.into()],
    )
}

/// Answered requests about calls of one shape.
pub(crate) fn select_like(agent: &AgentId, shape: CallDigest, limit: u64) -> Query {
    Query::new(
        select_approvals!(
            "WHERE a.agent = $1 AND a.shape = $2 AND a.answers LIKE '%\"person\":%' ORDER BY a.place DESC LIMIT $3"
        ),
        vec![agent.as_str().into(), shape.to_string().into(), limit.into()],
    )
}

/// Refused requests about other calls of a tool.
pub(crate) fn select_refused_tool(agent: &AgentId, tool: &ToolName, shape: CallDigest, limit: u64) -> Query {
    Query::new(
        select_approvals!(
            "WHERE a.agent = $1 AND a.state = 'refused' AND a.tool = $2 AND (a.shape IS NULL OR a.shape <> $3) \
             ORDER BY a.place DESC LIMIT $4"
        ),
        vec![agent.as_str().into(), tool.as_str().into(), shape.to_string().into(), limit.into()],
    )
}

/// The agents that people ever refused something, or so many of them.
pub(crate) fn select_refused_agents(limit: u32) -> Query {
    Query::new(
        "SELECT DISTINCT agent FROM approval WHERE state = 'refused' LIMIT $1",
        vec![u64::from(limit).into()],
    )
}

/// How many requests of an agent wait.
pub(crate) fn count_waiting(agent: &AgentId) -> Query {
    Query::new(
        "SELECT count(*) FROM approval WHERE state = 'waiting' AND agent = $1",
        vec![agent.as_str().into()],
    )
}

/// The digests of all requests, or of so many.
pub(crate) fn select_digests(limit: u32) -> Query {
    Query::new("SELECT DISTINCT digest FROM approval LIMIT $1", vec![u64::from(limit).into()])
}

/// Reads what [`select_refused_agents`] answers.
pub(crate) fn read_agents(rows: &[Row]) -> Result<BTreeSet<AgentId>, Damage> {
    rows.iter().map(|row| row.parse(0)).collect()
}

/// Reads what [`select_digests`] answers.
pub(crate) fn read_digests(rows: &[Row]) -> Result<BTreeSet<CallDigest>, Damage> {
    rows.iter().map(|row| row.text(0)?.parse().map_err(|_bad| Damage("a digest is none".into()))).collect()
}

/// Every state has its place among the parameters; one that is not asked for is null.
pub(crate) fn select_all(states: &[ApprovalState], limit: u32) -> Query {
    if states.is_empty() {
        return Query::new(select_approvals!("ORDER BY a.place LIMIT $1"), vec![u64::from(limit).into()]);
    }
    let mut params: Vec<Value> =
        ALL_STATES.iter().map(|state| states.contains(state).then_some(state.as_str()).into()).collect();
    params.push(u64::from(limit).into());
    Query::new(
        select_approvals!(
            "WHERE a.state IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ORDER BY a.place LIMIT $11"
        ),
        params,
    )
}

macro_rules! select_listed {
    ($states:literal) => {
        concat!(
            "SELECT a.place, a.state, a.effect, a.delivered, a.request, a.answers, a.code, CAST(NULL AS TEXT) ",
            "FROM approval a WHERE ",
            $states,
            "(CAST($1 AS TEXT) IS NULL OR a.agent = $1) ",
            // The groups stand between commas, which no name has: what is left after taking one out is shorter.
            "AND (CAST($2 AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM approval_group g WHERE g.place = a.place ",
            "AND replace($2, ',' || g.name || ',', '') <> $2)) ",
            "AND (CAST($3 AS TEXT) IS NULL OR a.place > (SELECT place FROM approval WHERE id = $3)) ",
            "ORDER BY a.place LIMIT $4"
        )
    };
}

/// A page of a list.
pub(crate) fn select_some(filter: &ApprovalFilter, limit: u32) -> Query {
    let groups = filter.groups.as_ref().map(|groups| {
        let names: String = groups.iter().map(|group| format!(",{group},")).collect();
        // Between two names there are two commas, so that taking one out leaves the next as it is.
        if names.is_empty() { ",".to_owned() } else { names }
    });
    let mut params = vec![
        filter.agent.as_ref().map(AgentId::as_str).into(),
        groups.as_deref().into(),
        filter.after.as_ref().map(ApprovalId::as_str).into(),
        u64::from(limit).into(),
    ];
    if filter.states.is_empty() {
        return Query::new(select_listed!(""), params);
    }
    params.extend(
        ALL_STATES.iter().map(|state| Value::from(filter.states.contains(state).then_some(state.as_str()))),
    );
    Query::new(select_listed!("a.state IN ($5, $6, $7, $8, $9, $10, $11, $12, $13, $14) AND "), params)
}

/// Whom a request asks, beside it.
pub(crate) fn insert_groups(row: &ApprovalRow) -> impl Iterator<Item = Query> {
    let names: BTreeSet<&GroupName> = row.record.request.of.iter().map(|ask| &ask.group).collect();
    names.into_iter().map(|name| {
        Query::one(
            "INSERT INTO approval_group (place, name) VALUES ($1, $2)",
            vec![row.order.into(), name.as_str().into()],
        )
    })
}

pub(crate) fn insert(id: &ApprovalId, row: &ApprovalRow) -> Result<Query, LedgerFault> {
    let ApprovalRecord { request, effect, state, delivered, .. } = &row.record;
    let requester = &request.call.requester;
    let normal = request.alike.map_or(request.call.digest, |alike| alike.normal);
    Ok(Query::one(
        "INSERT INTO approval (id, place, agent, session, digest, state, effect, delivered, request, answers, tool, \
         until_ms, normal, shape) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        vec![
            id.as_str().into(),
            row.order.into(),
            requester.agent.as_str().into(),
            requester.session.as_str().into(),
            request.call.digest.to_string().into(),
            state.as_str().into(),
            effect.as_str().into(),
            i64::from(*delivered).into(),
            json(request)?,
            row.answers()?,
            request.call.tool.as_str().into(),
            request.expires_ms.into(),
            normal.to_string().into(),
            request.alike.map(|alike| alike.shape.to_string()).as_deref().into(),
        ],
    ))
}

pub(crate) fn update(id: &ApprovalId, row: &ApprovalRow) -> Result<Query, LedgerFault> {
    Ok(Query::one(
        "UPDATE approval SET state = $1, delivered = $2, answers = $3, code = $4 WHERE id = $5",
        vec![
            row.record.state.as_str().into(),
            i64::from(row.record.delivered).into(),
            row.answers()?,
            row.record.code.map(Code::as_str).into(),
            id.as_str().into(),
        ],
    ))
}

const ALL_STATES: [ApprovalState; 10] = [
    ApprovalState::Waiting,
    ApprovalState::Approved,
    ApprovalState::Refused,
    ApprovalState::Expired,
    ApprovalState::Superseded,
    ApprovalState::Executing,
    ApprovalState::Done,
    ApprovalState::Failed,
    ApprovalState::InDoubt,
    ApprovalState::Blocked,
];

fn code(text: &str) -> Result<Code, Damage> {
    Code::ALL
        .iter()
        .find(|code| code.as_str() == text)
        .copied()
        .ok_or_else(|| Damage("a request was ended by an unknown code".into()))
}

fn state(text: &str) -> Result<ApprovalState, Damage> {
    ALL_STATES
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| Damage("a request has an unknown state".into()))
}
