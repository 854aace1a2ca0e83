//! Whatever happens in whatever order, a ledger answers as the simulated one does.

use countersign_gate::{
    NewEntry,
    ledger::{Bond, CallOutcome, CallState, HaltRecord, HaltScope, Ledger, Wait},
    simulation::SimLedger,
};
use countersign_rules::{
    ApprovalId, CallDigest, CallId, Code, Effect, IdempotencyKey, Money, Refusal, Requester, StoredCall,
    approval::{Alike, ApprovalState},
    budget::Unit,
    rate::{Rate, RateScope},
    settlement::Settlement,
};
use countersign_store::Store;
use futures::future::join_all;
use proptest::prelude::*;
use serde_json::json;

use crate::{
    make::{
        NOW, approval_id, call_id, closing, euros, hold, intent_of, note, parking, requester, signature,
        stored,
    },
    place::Place,
};

const DAY: i64 = 86_400_000;

/// One thing that happens; small numbers name agents, sessions, arguments, calls and requests. Whatever an operation may be
/// told or not is drawn both ways.
#[derive(Debug, Clone)]
enum Event {
    OpenSession(u8, u8),
    Record(bool),
    Park {
        who: (u8, u8),
        what: u8,
        key: Option<u8>,
        replaces: Option<u8>,
        effect: u8,
        evidence: bool,
        alike: Option<u8>,
        days: i64,
    },
    Bind {
        who: (u8, u8),
        what: u8,
        key: u8,
        replaces: Option<u8>,
        refused: bool,
        request: Option<u8>,
    },
    Answer {
        request: u8,
        person: u8,
        approved: bool,
        comment: bool,
    },
    End {
        request: u8,
        state: ApprovalState,
        code: bool,
    },
    Deliver {
        request: u8,
    },
    Issue(Issue),
    Close {
        call: u8,
        how: u8,
        settlement: Settlement,
        wait: Wait,
    },
    Resolve {
        call: u8,
        how: u8,
        settlement: Settlement,
    },
    Halt(u8),
    Resume(u8),
    Sweep,
    Restart,
    /// All at once, in this order: the writer takes what waits together in one batch.
    Together(Vec<Self>),
}

/// A call that is issued.
#[derive(Debug, Clone)]
struct Issue {
    who: (u8, u8),
    what: u8,
    key: Option<u8>,
    replaces: Option<u8>,
    effect: u8,
    journal: bool,
    rows: u64,
    money: Option<u64>,
    limits: bool,
    /// By one of the requests that are granted, as the very call that it was granted for; or by any, as this one.
    approval: Option<(u8, bool)>,
    /// What the decision has seen of the history: nothing, what it is, or what it was before.
    history: Option<bool>,
    day: i64,
}

fn who() -> impl Strategy<Value = (u8, u8)> {
    (0..2_u8, 0..3_u8)
}

/// What asks a ledger for one thing and reads nothing before.
fn plain() -> impl Strategy<Value = Event> {
    let maybe = |most: u8| prop::option::weighted(0.4, 0..most);
    let end =
        prop::sample::select(&[ApprovalState::Blocked, ApprovalState::Expired, ApprovalState::Superseded]);
    prop_oneof![
        1 => who().prop_map(|(a, s)| Event::OpenSession(a, s)),
        1 => any::<bool>().prop_map(Event::Record),
        5 => ((who(), 0..3_u8, maybe(4), maybe(12)), (0..3_u8, any::<bool>(), maybe(4), -1..3_i64)).prop_map(
            |((who, what, key, replaces), (effect, evidence, alike, days))| {
                Event::Park { who, what, key, replaces, effect, evidence, alike, days }
            }
        ),
        1 => (who(), 0..3_u8, 0..4_u8, maybe(12), any::<bool>(), maybe(6)).prop_map(
            |(who, what, key, replaces, refused, request)| {
                Event::Bind { who, what, key, replaces, refused, request }
            }
        ),
        6 => (0..6_u8, 0..3_u8, prop::bool::weighted(0.8), any::<bool>()).prop_map(
            |(request, person, approved, comment)| Event::Answer { request, person, approved, comment }
        ),
        1 => (0..6_u8, end, any::<bool>()).prop_map(|(request, state, code)| Event::End { request, state, code }),
        1 => (0..6_u8).prop_map(|request| Event::Deliver { request }),
        1 => (0..3_u8).prop_map(Event::Halt),
        6 => (0..3_u8).prop_map(Event::Resume),
        1 => Just(Event::Sweep),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => plain(),
        3 => prop::collection::vec(plain(), 2..7).prop_map(Event::Together),
        8 => issue().prop_map(Event::Issue),
        4 => (0..12_u8, 0..4_u8, settlement(), any::<bool>()).prop_map(|(call, how, settlement, durable)| {
            let wait = if durable { Wait::Durable } else { Wait::Queued };
            Event::Close { call, how, settlement, wait }
        }),
        2 => (0..12_u8, 0..3_u8, settlement())
            .prop_map(|(call, how, settlement)| Event::Resolve { call, how, settlement }),
        1 => Just(Event::Restart),
    ]
}

fn issue() -> impl Strategy<Value = Issue> {
    let maybe = |most: u8| prop::option::weighted(0.4, 0..most);
    let money = prop::option::weighted(0.8, 0..50_u64);
    let approval = prop::option::weighted(0.4, (0..6_u8, prop::bool::weighted(0.8)));
    let history = prop::option::weighted(0.2, any::<bool>());
    (
        (who(), 0..3_u8, prop::option::weighted(0.2, 0..4_u8), maybe(12), 0..3_u8, any::<bool>()),
        (0..9_u64, money, prop::bool::weighted(0.9), approval, history, 0..2_i64),
    )
        .prop_map(
            |((who, what, key, replaces, effect, journal), (rows, money, limits, approval, history, day))| {
                Issue {
                    who,
                    what,
                    key,
                    replaces,
                    effect,
                    journal,
                    rows,
                    money,
                    limits,
                    approval,
                    history,
                    day,
                }
            },
        )
}

/// Any: a ledger settles as it is told, whatever the outcome. Of money sometimes none is named, or another currency than is held.
fn settlement() -> impl Strategy<Value = Settlement> {
    let dollars = |minor| Money { currency: "USD".parse().unwrap(), minor };
    let money = prop_oneof![
        Just(None),
        (0..50_u64).prop_map(|n| Some(euros(n))),
        (0..50_u64).prop_map(move |n| Some(dollars(n)))
    ];
    prop_oneof![
        4 => (0..9_u64, money).prop_map(|(rows, amount)| Settlement::Used { rows, amount }),
        1 => Just(Settlement::Reserved),
        1 => Just(Settlement::Released),
        1 => Just(Settlement::Kept),
    ]
}

fn idempotency_key(n: u8) -> IdempotencyKey {
    IdempotencyKey::parse(&format!("\"key\",{n}")).unwrap()
}

fn scope(n: u8) -> HaltScope {
    if n == 2 { HaltScope::All } else { HaltScope::Agent(requester(&format!("agent{n}"), "s").agent) }
}

fn effect(n: u8) -> Effect {
    [Effect::Read, Effect::Write, Effect::Destructive][usize::from(n)]
}

/// What calls have in common.
fn form(n: u8) -> CallDigest {
    CallDigest::of_form(&stored("x", &requester("bot", "s"), "x").tool, &n.to_string())
}

/// One that its client has named, and two that nobody has.
const SESSIONS: [&str; 3] = ["s0", "unnamed-1", "unnamed-2"];

fn somebody((agent, session): (u8, u8)) -> Requester {
    requester(&format!("agent{agent}"), SESSIONS[usize::from(session)])
}

fn a_call(n: u8) -> CallId {
    call_id(&format!("c{n}"))
}

fn a_request(n: u8) -> ApprovalId {
    approval_id(&format!("a{n}"))
}

/// One of the calls in a state, or, where there is none, any.
async fn a_call_that_is(ledger: &impl Ledger, state: CallState, n: u8) -> CallId {
    let calls = ledger.calls(Some(state), 1_000).await.unwrap();
    calls.get(usize::from(n) % calls.len().max(1)).map_or_else(|| a_call(n), |call| call.call.id.clone())
}

/// Lets one thing happen. Answers what the ledger said.
async fn happen(ledger: &impl Ledger, event: &Event, number: usize) -> String {
    match event {
        Event::OpenSession(agent, session) => {
            let who = somebody((*agent, *session));
            format!(
                "{:?}",
                ledger.open_session(&who, NewEntry::session_opened(NOW, &who, "test", None)).await
            )
        }
        Event::Record(something) => {
            let entries = something.then(|| note("configured", &call_id("x")));
            format!("{:?}", ledger.record(entries.into_iter().collect()).await)
        }
        Event::Park { who, what, key, replaces, effect: does, evidence, alike, days } => {
            let mut call = stored(&format!("p{number}"), &somebody(*who), &what.to_string());
            call.key = key.map(idempotency_key);
            // Ids repeat, so that other events meet them.
            let mut parking = parking(&format!("a{}", number % 6), call);
            parking.replaces = replaces.map(a_call);
            parking.effect = effect(*does);
            parking.evidence = parking.evidence.filter(|_| *evidence);
            parking.request.alike = alike.map(|n| Alike { normal: form(n % 2), shape: form(n / 2) });
            parking.request.expires_ms = NOW + 2 + days * DAY;
            format!("{:?}", ledger.park(parking).await)
        }
        Event::Bind { who, what, key, replaces, refused, request } => {
            let mut call = stored(&format!("b{number}"), &somebody(*who), &what.to_string());
            call.key = Some(idempotency_key(*key));
            let mut bond = Bond::of(&call, request.map(a_request).as_ref(), NOW).unwrap();
            bond.refusal = refused.then(|| Refusal::new(Code::DeniedByPolicy, "no"));
            let replaces = replaces.map(a_call);
            format!("{:?}", ledger.bind(bond, replaces.as_ref(), vec![note("refused", &call.id)]).await)
        }
        Event::Answer { request, person, approved, comment } => {
            let entry = note("answered", &call_id("x"));
            let mut signature = signature(&format!("person{person}"), *approved);
            signature.comment = signature.comment.filter(|_| *comment);
            format!("{:?}", ledger.answer(&a_request(*request), signature, entry).await)
        }
        Event::End { request, state, code } => {
            let entry = note("request_ended", &call_id("x"));
            let code = code.then_some(Code::Halted);
            format!("{:?}", ledger.end(&a_request(*request), *state, code, "late", vec![entry]).await)
        }
        Event::Deliver { request } => format!("{:?}", ledger.deliver(&a_request(*request)).await),
        Event::Issue(issue) => happen_to_issue(ledger, issue, number).await,
        Event::Close { call, how, settlement, wait } => {
            let outcome = match how {
                0 => CallOutcome::Done { reply: json!({ "n": number }) },
                1 => failed(),
                2 => CallOutcome::InDoubt { message: "lost".into() },
                _ => CallOutcome::DoneWithoutResult { message: "odd".into() },
            };
            // Sometimes one that is closed already, or was swept.
            let id = match call {
                0..9 => a_call_that_is(ledger, CallState::Open, *call).await,
                _ => a_call(*call),
            };
            let mut closing = closing(id.as_str(), outcome, *settlement);
            closing.now_ms += i64::try_from(number).unwrap();
            let closed = ledger.close(closing, *wait).await;
            // One that was queued is written before what follows it.
            ledger.record(Vec::new()).await.unwrap();
            format!("{closed:?}")
        }
        Event::Resolve { call, how, settlement } => {
            let outcome = match how {
                0 => CallOutcome::Done { reply: json!(null) },
                1 => failed(),
                _ => CallOutcome::SentAgain { by: call_id("c99"), message: "sent again".into() },
            };
            let id = a_call_that_is(ledger, CallState::InDoubt, *call).await;
            let entries = vec![note("doubt_resolved", &id)];
            format!("{:?}", ledger.resolve(&id, outcome, *settlement, NOW, entries).await)
        }
        Event::Halt(n) => {
            let halt = HaltRecord { scope: scope(*n), why: "drill".into(), by: "lea".into(), since_ms: NOW };
            format!("{:?}", ledger.halt(halt.clone(), NewEntry::halted(&halt)).await)
        }
        Event::Resume(n) => {
            format!("{:?}", ledger.resume(&scope(*n), NewEntry::resumed(NOW, &scope(*n), "lea")).await)
        }
        Event::Sweep | Event::Restart | Event::Together(_) => {
            let mut swept: Vec<_> = ledger.sweep(NOW).await.unwrap().into_iter().map(|c| c.call.id).collect();
            swept.sort();
            format!("{swept:?}")
        }
    }
}

/// Looks for room and issues a call. Answers what the ledger said to both.
async fn happen_to_issue(ledger: &impl Ledger, issue: &Issue, number: usize) -> String {
    let id = format!("c{}", number % 30);
    // Ids of calls are new, by the contract.
    if ledger.call(&call_id(&id)).await.unwrap().is_some() {
        return String::new();
    }
    let mut call = stored(&id, &somebody(issue.who), &issue.what.to_string());
    let mut approval = issue.approval.map(|(n, _own)| a_request(n));
    if let Some((n, true)) = issue.approval {
        let granted = ledger.approvals(&[ApprovalState::Approved], 1_000).await.unwrap();
        if let Some(record) = granted.get(usize::from(n) % granted.len().max(1)) {
            call = StoredCall { id: call.id, ..record.request.call.clone() };
            approval = Some(record.request.id.clone());
        }
    }
    call.key = issue.key.map(idempotency_key);
    let mut intent = intent_of(call);
    let who = intent.call.requester.clone();
    intent.now_ms = NOW + issue.day * DAY;
    intent.effect = effect(issue.effect);
    intent.journal = intent.journal.filter(|_| issue.journal);
    intent.rows = issue.rows;
    intent.amount = issue.money.map(euros);
    intent.replaces = issue.replaces.map(a_call);
    intent.approval = approval;
    if issue.limits {
        let mut all = hold("rows", Unit::Rows, issue.rows, 40);
        all.account.subject = "all".into();
        all.account.day = issue.day;
        let mut calls = hold("calls", Unit::Calls, 1, 30);
        calls.account.subject = format!("agent:{}", who.agent);
        intent.holds = vec![all, calls];
        if let Some(money) = issue.money {
            let mut spend = hold("money", Unit::Money(euros(0).currency), money, 120);
            spend.account.subject = format!("agent:{}", who.agent);
            spend.halt_at = Some(100);
            intent.holds.push(spend);
        }
        intent.rates = vec![(format!("r:{}", who.agent), Rate::parse("12/day", RateScope::Agent).unwrap())];
    }
    if let Some(still) = issue.history {
        let seen = ledger.standing(&who, intent.call.digest, intent.now_ms).await.unwrap().history;
        intent.if_history = Some(if still { seen } else { seen.wrapping_sub(1) });
    }
    let room = ledger.room(&intent.rates, &intent.holds, intent.now_ms).await;
    format!("{room:?}, {:?}", ledger.issue(intent).await)
}

fn failed() -> CallOutcome {
    CallOutcome::Failed { code: Code::ToolFailed, message: "no".into(), superseded: false }
}

/// What can be seen of a ledger.
async fn seen(ledger: &impl Ledger) -> Vec<String> {
    let mut all = Vec::new();
    for (agent, session) in (0..2).flat_map(|agent| (0..3).map(move |session| (agent, session))) {
        let who = somebody((agent, session));
        all.push(format!("{:?}", ledger.has_session(&who).await.unwrap()));
        for (what, day) in (0..3_u8).flat_map(|what| (0..2).map(move |day| (what, day))) {
            let digest = stored("x", &who, &what.to_string()).digest;
            let mut standing = ledger.standing(&who, digest, NOW + day * DAY).await.unwrap();
            // Each may say so of what is over, and counts changes in its own way.
            (standing.refusals, standing.history) = (false, 0);
            all.push(format!("{standing:?}"));
        }
    }
    for agent in (0..2).map(|agent| somebody((agent, 0)).agent) {
        for key in 0..4 {
            all.push(format!("{:?}", ledger.bond(&agent, &idempotency_key(key)).await.unwrap()));
        }
        all.push(format!("{:?}", ledger.bonds(&agent).await.unwrap()));
        all.push(format!("{:?} wait", ledger.waiting(&agent).await.unwrap()));
        let like = stored("x", &somebody((0, 0)), "0");
        for n in 0..2 {
            all.push(format!("{:?}", ledger.answered(&agent, &like.tool, form(n)).await.unwrap()));
        }
        for (what, day) in (0..3_u8).flat_map(|what| (0..2).map(move |day| (what, day))) {
            let digest = stored("x", &somebody((0, 0)), &what.to_string()).digest;
            let at = NOW + day * DAY;
            all.push(format!("{:?}", ledger.refused(&agent, (form(what), digest), at).await.unwrap()));
            all.push(format!("{:?}", ledger.doubted(&agent, digest, NOW + 5 + 35 * day).await.unwrap()));
        }
    }
    let states = [CallState::Open, CallState::Done, CallState::Failed, CallState::InDoubt].map(Some);
    for (state, limit) in states.map(|state| (state, 2)).into_iter().chain([(None, 1_000)]) {
        all.extend(ledger.calls(state, limit).await.unwrap().iter().map(|call| format!("{call:?}")));
    }
    for state in ApprovalState::ALL {
        all.push(format!("{:?}", ledger.approvals(&[state, ApprovalState::Waiting], 2).await.unwrap()));
    }
    all.extend(ledger.approvals(&[], 1_000).await.unwrap().iter().map(|request| format!("{request:?}")));
    all.push(format!("{:?}", ledger.balances(1_000).await.unwrap()));
    all.push(format!("{:?}", ledger.halts().await.unwrap()));
    all
}

async fn check(place: &Place, events: &[Event]) {
    let simulated = SimLedger::default();
    let mut ledger = place.open().await;
    for (number, event) in events.iter().enumerate() {
        if matches!(event, Event::Restart) {
            simulated.restart();
            Store::close(&ledger).await;
            ledger = place.open().await;
        }
        let together = if let Event::Together(events) = event { events } else { std::slice::from_ref(event) };
        // Numbers that name every id in turn.
        let numbered = || together.iter().zip(number * 7..);
        let mut expected = Vec::new();
        for (event, number) in numbered() {
            expected.push(happen(&simulated, event, number).await);
        }
        let said = join_all(numbered().map(|(event, number)| happen(&*ledger, event, number))).await;
        assert_eq!(said, expected, "event {number}: {event:?}");
    }
    let (kept, expected) = (seen(&*ledger).await, seen(&simulated).await);
    for (kept, expected) in kept.iter().zip(&expected) {
        assert_eq!(kept, expected);
    }
    assert_eq!(kept.len(), expected.len());
    let mut log: Vec<_> =
        simulated.log().iter().map(|entry| (entry.kind.to_owned(), entry.call.clone())).collect();
    let mut kept: Vec<_> = ledger
        .entries(0, 10_000)
        .await
        .unwrap()
        .iter()
        .map(|entry| {
            let value: serde_json::Value = serde_json::from_slice(&entry.bytes).unwrap();
            (value["kind"].as_str().unwrap().to_owned(), value["call"].as_str().map(call_id))
        })
        .collect();
    // The order within one sweep is each one's own.
    for log in [&mut log, &mut kept] {
        log.chunk_by_mut(|a, b| a.0 == "in_doubt" && b.0 == "in_doubt").for_each(<[_]>::sort);
    }
    assert_eq!(kept, log);
    assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
    Store::close(&ledger).await;
}

fn run(place: impl Future<Output = Place>, events: &[Event]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { check(&place.await, events).await });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn sqlite_answers_as_the_model(events in prop::collection::vec(event(), 1..100)) {
        run(async { Place::sqlite() }, &events);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, max_shrink_iters: 50, ..ProptestConfig::default() })]
    #[test]
    fn postgres_answers_as_the_model(events in prop::collection::vec(event(), 40..100)) {
        run(Place::postgres(), &events);
    }
}
