//! The bytes of the log: one golden file for each kind of entry, a line for each form that it has.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use countersign_gate::{
    Limits, NewEntry,
    entry::Told,
    gate::RefusalCount,
    ledger::{CallOutcome, CallRecord, Closer, HaltRecord, HaltScope},
};
use countersign_rules::{
    ApprovalState, Call, CallId, Code, DeclaredEffect, GrantEnd, GrantTerms, PolicyId, Refusal, Requester,
    SystemSpec, ToolSpec,
    approval::{ApprovalRequest, Signature},
    budget::{BudgetAccount, HoldRequest, Unit},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::world::NOW_MS;

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn digest(of: char) -> String {
    of.to_string().repeat(64)
}

fn requester() -> Value {
    json!({ "agent": "ada", "teams": ["billing", "ops"], "session": "s-1", "on_behalf_of": "olga" })
}

fn stored() -> Value {
    json!({
        "id": "call-1", "requester": requester(), "tool": "refund", "version": "v1",
        "arguments": { "id": "inv_7", "note": "line\n\u{202e}two", "cents": 1250 }, "digest": digest('a'),
        "reason": "clean up the test billing records",
    })
}

fn call(change: impl FnOnce(&mut Call<()>)) -> Call<()> {
    let stored: countersign_rules::StoredCall = of(stored());
    let spec = ToolSpec {
        name: stored.tool,
        version: stored.version,
        system: SystemSpec {
            name: of(json!("shop")),
            kind: "postgres".into(),
            environment: "production".into(),
            account: "acme".into(),
        },
        description: "Refunds.".into(),
        effect: DeclaredEffect::Write,
        categories: ["money".to_owned()].into(),
        reversible: false,
        measurable: true,
        idempotent: true,
        arguments: json!({}),
        result: None,
        rates: Vec::new(),
        rows_max: 100,
    };
    let mut call = Call {
        id: stored.id,
        requester: stored.requester,
        tool: Arc::new(spec),
        arguments: stored.arguments,
        digest: stored.digest,
        reason: stored.reason,
        key: None,
        replaces: None,
        again: None,
        trace: None,
        narrowed: None,
        parsed: (),
    };
    change(&mut call);
    call
}

fn who(call: &Call<()>) -> (&Requester, &CallId) {
    (&call.requester, &call.id)
}

fn reach() -> Value {
    json!({
        "rows": 14_203, "exact": true, "unbounded": false, "tables": { "billing": 14_200, "lines": 3 },
        "cascades": 3, "triggers": ["billing.audit"], "amount": { "minor": 1250, "currency": "EUR" },
    })
}

fn facts() -> Value {
    let counters = json!({ "calls": 3, "writes": 1, "destructive": 0, "rows": 12, "money": { "EUR": 400 }, "tools": ["refund"] });
    json!({
        "effect": "destructive", "categories": ["money"], "reversible": false, "reach": reach(),
        "statement": { "verb": "delete", "reads": ["billing"], "writes": ["billing"], "functions": [], "bounded": true },
        "session": counters, "agent_today": counters, "provenance": ["note"], "now_ms": NOW_MS,
        "approval": { "id": "apr-1", "signers": [["carol", ["leads"]]], "reach": reach(), "expires_ms": NOW_MS + 900_000 },
    })
}

fn plain_facts() -> Value {
    let counters = json!({ "calls": 0, "writes": 0, "destructive": 0, "rows": 0 });
    json!({
        "effect": "read", "categories": [], "reversible": true, "session": counters, "agent_today": counters, "now_ms": NOW_MS,
    })
}

fn asked() -> Value {
    json!([
        { "group": "leads", "quorum": 2, "deadline_ms": 900_000, "because": "it writes", "policy": "writes" },
        { "group": "dba", "quorum": 1, "deadline_ms": 600_000, "because": null, "policy": "dba", "rehearse": true, "shared": true },
    ])
}

fn request(slice: Option<&str>) -> ApprovalRequest {
    let mut request = json!({
        "id": "apr-1", "call": stored(), "decision": "dec-1", "bundle": digest('b'), "reach": reach(), "of": asked(),
        "asked_ms": NOW_MS, "expires_ms": NOW_MS + 600_000,
    });
    if let Some(slice) = slice {
        request["slice"] = json!(slice);
    }
    of(request)
}

fn signature(approved: bool, comment: Option<&str>) -> Signature {
    of(json!({
        "person": "carol", "groups": ["dba", "leads"], "approved": approved, "comment": comment, "at_ms": NOW_MS,
        "channel": "rest",
    }))
}

fn record(approval: Option<&str>) -> CallRecord {
    of(json!({
        "call": stored(), "system": "shop", "effect": "write", "decision": "dec-1", "approval": approval, "state": "in_doubt",
        "outcome": null, "issued_ms": NOW_MS, "closed_ms": null, "rows": 3,
    }))
}

fn refusal() -> Refusal {
    let mut refusal =
        Refusal::new(Code::BudgetExhausted, "the budget `refunds` has 1.00 EUR left").help("wait");
    refusal.policies = vec![of::<PolicyId>(json!("few"))];
    refusal
}

fn decisions() -> Vec<Value> {
    let deny = |reason: Value| json!({ "answer": "deny", "policies": ["too-many"], "reason": reason });
    vec![
        json!({ "answer": "allow", "policies": ["reads"], "rows_max": null }),
        json!({ "answer": "allow", "policies": ["w"], "rows_max": 3, "tables": { "billing": 3 }, "amount_max": { "minor": 1, "currency": "EUR" } }),
        json!({ "answer": "ask", "policies": ["writes", "dba"], "of": asked() }),
        deny(json!({ "because": "forbidden", "message": "no more than 500 rows" })),
        deny(json!({ "because": "forbidden", "message": null })),
        deny(json!({ "because": "nothing_permits" })),
        deny(json!({ "because": "evaluation_error", "message": "few: overflow" })),
        deny(json!({ "because": "reach_unknown" })),
        deny(json!({ "because": "invalid_request", "message": "no such attribute" })),
    ]
}

fn outcomes(entries: &mut Vec<NewEntry>) {
    let money = of(json!({ "minor": 1250, "currency": "EUR" }));
    let outcomes = [
        (CallOutcome::Done { reply: json!({ "rows": [1, 2], "text": "é" }) }, Some((2, Some(money)))),
        (CallOutcome::DoneWithoutResult { message: "too long".into() }, Some((2, None))),
        (
            CallOutcome::Failed {
                code: Code::ReachExceeded,
                message: "rolled back".into(),
                superseded: true,
            },
            None,
        ),
        (CallOutcome::InDoubt { message: "connection lost".into() }, None),
        (CallOutcome::SentAgain { by: of(json!("call-2")), message: "performed once".into() }, None),
    ];
    let (approval, call) = (of(json!("apr-1")), call(|_| {}));
    for (approval, (outcome, used)) in [None, Some(&approval)].into_iter().cycle().zip(outcomes) {
        entries.push(NewEntry::outcome(NOW_MS, who(&call), approval, &outcome, used, 17));
    }
}

/// Each kind that the gate writes, in each form.
fn every() -> Vec<NewEntry> {
    let plain = call(|_| {});
    let keyed = call(|call| {
        call.key = Some(of(json!("key-1")));
        call.again = Some(of(json!("call-0")));
    });
    let narrowed = call(|call| {
        call.narrowed = Some(of(json!({ "from": "apr-0", "by": "ana", "why": "fewer", "free": false })));
    });
    let wordless = call(|call| call.reason = None);
    let long = call(|call| call.arguments = json!({ "note": "n".repeat(5_000) }));
    let mut strange = requester();
    strange.as_object_mut().unwrap().remove("on_behalf_of");
    strange["teams"] = json!([]);
    let granted = GrantTerms { calls: 3, until_ms: NOW_MS + 60_000 };
    let mut entries = vec![
        NewEntry::session_opened(NOW_MS, &of(requester()), "mcp", Some("client 1.0")),
        NewEntry::session_opened(NOW_MS, &of(strange), "rest", None),
        NewEntry::call_proposed(NOW_MS, &plain),
        NewEntry::call_proposed(NOW_MS, &keyed),
        NewEntry::call_proposed(NOW_MS, &wordless),
        NewEntry::call_proposed(NOW_MS, &narrowed),
        NewEntry::call_proposed(NOW_MS, &long).of_a_refused_call(),
        NewEntry::call_proposed(NOW_MS, &plain).of_a_refused_call(),
        NewEntry::call_rejected(NOW_MS, &of(requester()), &plain.id, &"t".repeat(200), &refusal()),
        NewEntry::refusals_counted(
            NOW_MS,
            &RefusalCount {
                agent: plain.requester.agent.clone(),
                codes: BTreeMap::from([(Code::DeniedByPolicy, 3), (Code::Malformed, 2)]),
                since_ms: NOW_MS - 60_000,
                until_ms: NOW_MS - 1,
            },
        ),
        NewEntry::reach_measured(NOW_MS, &plain, &of(reach()), Some("c0ffee")),
        NewEntry::reach_measured(
            NOW_MS,
            &plain,
            &of(json!({ "rows": 0, "exact": false, "unbounded": true, "rehearsed": true })),
            None,
        ),
        NewEntry::refused(NOW_MS, &plain, &refusal()),
        NewEntry::asked(&request(None)),
        NewEntry::asked(&request(Some(&digest('c')))),
        NewEntry::answered(&request(None), &signature(true, None)),
        NewEntry::answered(&request(None), &signature(false, Some("these are real"))),
        NewEntry::answered(&request(None), &Signature { grant: Some(granted), ..signature(true, None) }),
        NewEntry::answered(
            &request(None),
            &Signature { passkey: Some(of(json!("c".repeat(64)))), ..signature(true, None) },
        ),
        NewEntry::grant_given(&request(Some("slice")), &[signature(true, None)], granted),
        NewEntry::grant_ended(
            &request(None),
            &GrantEnd { by: of(json!("ana")), at_ms: NOW_MS, why: "enough".into() },
        ),
        NewEntry::looked_closer(
            NOW_MS,
            &request(None),
            &of(json!("ana")),
            &Closer { reach: of(reach()), decision: of(json!("dec-2")), evidence: None },
        ),
        NewEntry::request_ended(NOW_MS, &request(None), ApprovalState::Expired, None, "nobody answered"),
        NewEntry::request_ended(NOW_MS, &request(None), ApprovalState::Blocked, Some(Code::Halted), "halted"),
        NewEntry::in_doubt(NOW_MS, &of(stored()), None),
        NewEntry::in_doubt(NOW_MS, &of(stored()), Some(&of(json!("apr-1")))),
        NewEntry::doubt_resolved(NOW_MS, &of(stored()), &of(json!("carol")), true, "seen in the ledger"),
        NewEntry::doubt_recalled(
            NOW_MS,
            &record(Some("apr-1")),
            Some((3, Some(of(json!({ "minor": 5, "currency": "EUR" }))))),
        ),
        NewEntry::doubt_recalled(NOW_MS, &record(None), None),
        NewEntry::sent_again(NOW_MS, &record(None), &of(json!("call-2"))),
        NewEntry::read_ended(NOW_MS, &record(Some("apr-1"))),
        NewEntry::undone(NOW_MS, &of(json!("call-0")), who(&plain), None),
        NewEntry::undone(NOW_MS, &of(json!("call-0")), who(&plain), Some(json!({ "changed": 2 }))),
        NewEntry::evidence_erased(NOW_MS, &of(json!("apr-1")), "olga", "a customer asked"),
    ];
    let halts = [HaltScope::All, HaltScope::Agent(plain.requester.agent.clone())];
    for scope in halts {
        let halt =
            HaltRecord { scope: scope.clone(), why: "enough".into(), by: "carol".into(), since_ms: NOW_MS };
        entries.extend([NewEntry::halted(&halt), NewEntry::resumed(NOW_MS, &scope, "carol")]);
    }
    for decision in decisions() {
        let facts = if decision["answer"] == "ask" { plain_facts() } else { facts() };
        entries.push(NewEntry::decided(
            NOW_MS,
            &plain,
            &of(json!("dec-1")),
            &of(json!(digest('b'))),
            &of(facts),
            &of(decision),
        ));
    }
    let limits: [Limits; 2] = [
        of(json!({ "rows_max": 100 })),
        of(
            json!({ "rows_max": 3, "tables": { "billing": 3 }, "amount_max": { "minor": 1250, "currency": "EUR" } }),
        ),
    ];
    let [wide, narrow] = &limits;
    let decision = of(json!("dec-1"));
    let account = BudgetAccount { budget: "refunds".into(), subject: "agent:ada".into(), day: 0 };
    let holds = [HoldRequest { account, unit: Unit::Calls, amount: 1250, limit: 2000, halt_at: None }];
    entries.push(NewEntry::warrant_issued(NOW_MS, &plain, &decision, (None, None), wide, &[], None));
    let approval = of(json!("apr-1"));
    entries.push(NewEntry::warrant_issued(
        NOW_MS,
        &keyed,
        &decision,
        (Some(&approval), None),
        narrow,
        &holds,
        Some("countersign.journal"),
    ));
    entries.push(NewEntry::warrant_issued(
        NOW_MS,
        &plain,
        &decision,
        (None, Some(&approval)),
        wide,
        &[],
        None,
    ));
    outcomes(&mut entries);
    entries
}

#[test]
fn the_bytes_of_each_kind_of_entry_are_as_they_were() {
    let mut kinds = BTreeMap::<&str, Vec<String>>::new();
    for entry in every() {
        kinds.entry(entry.kind).or_default().push(String::from_utf8(entry.encode().unwrap()).unwrap());
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/gate/golden");
    let mut golden: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    golden.sort();
    for (kind, lines) in &kinds {
        let (file, text) = (folder.join(format!("{kind}.jsonl")), lines.join("\n") + "\n");
        if option_env!("COUNTERSIGN_WRITE_GOLDEN").is_some() {
            fs::write(file, text).unwrap();
        } else {
            assert_eq!(fs::read_to_string(file).unwrap(), text, "{kind}");
        }
    }
    let written: Vec<String> = kinds.keys().map(|kind| format!("{kind}.jsonl")).collect();
    assert_eq!(golden, written, "one file for each kind that the gate writes");
}

#[test]
fn what_is_written_of_each_kind_is_read_back() {
    for entry in every() {
        let mut body = entry.body();
        let told = Told::read(entry.kind, &body);
        let told = told.unwrap_or_else(|| panic!("{} is not read: {body}", entry.kind));
        // The request that an entry names stands beside what its kind says.
        let named = body.as_object_mut().unwrap().remove("approval");
        assert_eq!(named, entry.approval.as_ref().map(|id| json!(id)), "{}", entry.kind);
        assert_eq!(serde_json::to_value(&told).unwrap(), body, "{}", entry.kind);
    }
    let mut words: Vec<&str> = every().iter().map(|entry| entry.kind).collect();
    words.sort_unstable();
    words.dedup();
    let mut known = Told::WORDS.to_vec();
    known.sort_unstable();
    assert_eq!(words, known, "each kind has its golden file");
    // What a later version adds does not hide the rest, and what it changes is not taken for something else.
    let mut later = NewEntry::in_doubt(NOW_MS, &of(stored()), None).body();
    later["seen_by"] = json!("a newer release");
    assert!(matches!(Told::read("in_doubt", &later), Some(Told::InDoubt(_))));
    assert_eq!(Told::read("outcome", &json!({ "status": "imagined", "detail": {}, "duration_ms": 1 })), None);
    assert_eq!(Told::read("imagined", &later), None);
}

#[test]
fn large_arguments_of_refused_calls_are_kept_by_digest_and_no_others() {
    let proposed = |size: usize| {
        let arguments = json!({ "from": 0, "to": 5, "note": "x".repeat(size) });
        (arguments.clone(), NewEntry::call_proposed(NOW_MS, &call(|call| call.arguments = arguments)))
    };
    let (arguments, small) = proposed(3_000);
    assert_eq!(small.clone().of_a_refused_call(), small);
    assert_eq!(small.body()["arguments"], arguments);
    let (arguments, large) = proposed(5_000);
    let kept = large.clone().of_a_refused_call();
    let bytes = countersign_audit::to_canonical_vec(&arguments).unwrap();
    assert_eq!(kept.body()["arguments"], json!(null));
    assert_eq!(kept.body()["arguments_bytes"], json!(bytes.len()));
    assert_eq!(kept.body()["arguments_digest"], json!(countersign_audit::sha256(&bytes).to_string()));
    assert_eq!(kept.body()["digest"], large.body()["digest"]);
    assert_eq!((&kept.call, &kept.agent), (&large.call, &large.agent));
    let other = NewEntry::undone(NOW_MS, &of(json!("call-0")), who(&call(|_| {})), Some(arguments));
    assert_eq!(other.clone().of_a_refused_call(), other);
}
