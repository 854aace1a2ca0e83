//! The calls, requests and outcomes that tests speak of.

use countersign_gate::{
    Evidence, NewEntry, Sample,
    entry::Kind,
    ledger::{CallOutcome, Closing, Intent, Ledger, Parking},
};
use countersign_rules::{
    AgentId, ApprovalId, ApprovalRequest, AskOf, BundleDigest, CallDigest, CallId, DecisionId, Effect,
    GroupName, Money, PersonId, PolicyId, Reach, Requester, SessionId, Signature, SliceDigest, StoredCall,
    SystemName, ToolName, ToolVersion,
    budget::{BudgetAccount, HoldRequest, Unit},
    settlement::Settlement,
};
use countersign_store::Store;
use serde_json::{Value, json};

/// A Sunday noon.
pub(crate) const NOW: i64 = 1_795_348_800_000;

pub(crate) fn requester(agent: &str, session: &str) -> Requester {
    Requester {
        agent: AgentId::parse(agent).unwrap(),
        teams: Vec::new(),
        session: SessionId::parse(session).unwrap(),
        on_behalf_of: None,
    }
}

pub(crate) fn call_id(id: &str) -> CallId {
    CallId::parse(id).unwrap()
}

pub(crate) fn approval_id(id: &str) -> ApprovalId {
    ApprovalId::parse(id).unwrap()
}

/// A call whose digest depends on `what` alone.
pub(crate) fn stored(id: &str, requester: &Requester, what: &str) -> StoredCall {
    let (tool, version) = (ToolName::parse("refund").unwrap(), ToolVersion::parse("v1").unwrap());
    let arguments = json!({ "what": what });
    StoredCall {
        id: call_id(id),
        requester: requester.clone(),
        digest: CallDigest::compute(&tool, &version, &arguments).unwrap(),
        tool,
        version,
        arguments,
        reason: Some("the customer asked".into()),
        key: None,
        again: None,
        trace: None,
        narrowed: None,
    }
}

/// A write of one row by `bot` in `s1`.
pub(crate) fn intent(id: &str) -> Intent {
    intent_of(stored(id, &requester("bot", "s1"), id))
}

pub(crate) fn intent_of(call: StoredCall) -> Intent {
    let entry = note("warrant_issued", &call.id);
    Intent {
        call,
        system: SystemName::parse("billing").unwrap(),
        journal: Some("journal@place".into()),
        effect: Effect::Write,
        decision: DecisionId::parse("dec-1").unwrap(),
        rates: Vec::new(),
        holds: Vec::new(),
        rows: 1,
        amount: None,
        if_history: None,
        approval: None,
        grant: None,
        replaces: None,
        now_ms: NOW,
        entries: vec![entry],
    }
}

/// Whatever a test writes.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
struct Said(Value);

impl Kind for Said {
    const WORD: &'static str = "said";
}

/// An entry of a kind, with a body.
pub(crate) fn said(kind: &'static str, body: Value) -> NewEntry {
    let mut entry = NewEntry::new(NOW, &Said(body));
    entry.kind = kind;
    entry
}

/// An entry that says what happened to a call.
pub(crate) fn note(kind: &'static str, call: &CallId) -> NewEntry {
    let mut entry = said(kind, json!({ "test": true }));
    entry.call = Some(call.clone());
    entry
}

pub(crate) fn hold(budget: &str, unit: Unit, amount: u64, limit: u64) -> HoldRequest {
    HoldRequest {
        account: BudgetAccount { budget: budget.into(), subject: "agent:bot".into(), day: 0 },
        unit,
        amount,
        limit,
        halt_at: None,
    }
}

pub(crate) fn euros(minor: u64) -> Money {
    Money { currency: "EUR".parse().unwrap(), minor }
}

pub(crate) fn done(id: &str, rows: u64) -> Closing {
    closing(id, CallOutcome::Done { reply: json!({ "rows": rows }) }, Settlement::Used { rows, amount: None })
}

pub(crate) fn closing(id: &str, outcome: CallOutcome, settlement: Settlement) -> Closing {
    let call = call_id(id);
    let entries = vec![note("outcome", &call)];
    Closing { call, outcome, settlement, now_ms: NOW + 5, entries }
}

pub(crate) fn parking(id: &str, call: StoredCall) -> Parking {
    let request = ApprovalRequest {
        id: approval_id(id),
        decision: DecisionId::parse("dec-1").unwrap(),
        bundle: BundleDigest::parse("bundle").unwrap(),
        slice: Some(SliceDigest::parse("slice").unwrap()),
        reach: Some(Reach { rows: 3, exact: true, ..Reach::default() }),
        of: vec![AskOf {
            group: GroupName::parse("leads").unwrap(),
            quorum: 1,
            deadline_ms: 900_000,
            because: None,
            policy: PolicyId::parse("p1").unwrap(),
            rehearse: false,
            step_up: None,
            grant: None,
            shared: false,
        }],
        asked_ms: NOW,
        expires_ms: NOW + 900_000,
        alike: None,
        before: Vec::new(),
        call,
    };
    let entries = vec![NewEntry::asked(&request)];
    let sample = Sample {
        table: "invoice".into(),
        columns: vec!["id".into(), "name".into()],
        rows: vec![vec![Some("1".into()), Some("Ada SECRET".into())]],
    };
    Parking {
        request,
        replaces: None,
        makes_way: None,
        evidence: Some(Evidence::new(sample, [9; 32]).unwrap()),
        effect: Effect::Write,
        entries,
    }
}

pub(crate) fn signature(person: &str, approved: bool) -> Signature {
    Signature {
        person: PersonId::parse(person).unwrap(),
        groups: [GroupName::parse("leads").unwrap()].into(),
        approved,
        comment: Some("because".into()),
        at_ms: NOW + 1,
        channel: "test".into(),
        grant: None,
        passkey: None,
    }
}

/// The kinds of all entries, in order.
pub(crate) async fn kinds(store: &Store) -> Vec<String> {
    store
        .entries(0, 10_000)
        .await
        .unwrap()
        .iter()
        .map(|entry| {
            let value: Value = serde_json::from_slice(&entry.bytes).unwrap();
            value["kind"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// What is spent and held on each budget.
pub(crate) async fn balances(store: &Store) -> Vec<(String, u64, u64)> {
    let balances = store.balances(1_000).await.unwrap();
    balances.into_iter().map(|(account, b)| (account.budget, b.spent, b.held)).collect()
}
