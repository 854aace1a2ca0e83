//! Whatever happens in whatever order, a ledger answers as the simulated one does.

use countersign_gate::{
    Entry,
    ledger::{Bond, CallOutcome, CallState, HaltRecord, HaltScope, Ledger, NotIssued, Wait},
    simulation::SimLedger,
};
use countersign_rules::{
    Code, Effect, IdempotencyKey, Money, Refusal,
    approval::ApprovalState,
    budget::Unit,
    rate::{Rate, RateScope},
    settlement::Settlement,
};
use countersign_store::Store;
use proptest::prelude::*;
use serde_json::json;

use crate::{
    make::{
        NOW, approval_id, call_id, closing, euros, hold, intent_of, note, parking, requester, signature,
        stored,
    },
    place::Place,
};

/// One thing that happens; small numbers name agents, sessions, arguments, calls and requests.
#[derive(Debug, Clone)]
enum Event {
    OpenSession(u8, u8),
    Park {
        who: (u8, u8),
        what: u8,
        key: Option<u8>,
    },
    Bind {
        who: (u8, u8),
        what: u8,
        key: u8,
        replaces: u8,
    },
    Answer {
        request: u8,
        person: u8,
        approved: bool,
    },
    End {
        request: u8,
    },
    Deliver {
        request: u8,
    },
    Issue {
        who: (u8, u8),
        what: u8,
        effect: u8,
        rows: u64,
        money: Option<u64>,
        approval: Option<u8>,
        stale: bool,
        day: i64,
        key: Option<u8>,
    },
    Close {
        call: u8,
        how: u8,
        settlement: Settlement,
    },
    Resolve {
        call: u8,
        how: u8,
        settlement: Settlement,
    },
    Halt(u8),
    Resume(u8),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let who = || (0..2_u8, 0..3_u8);
    let key = || prop::option::weighted(0.4, 0..4_u8);
    prop_oneof![
        1 => who().prop_map(|(a, s)| Event::OpenSession(a, s)),
        3 => (who(), 0..3_u8, key()).prop_map(|(who, what, key)| Event::Park { who, what, key }),
        1 => (who(), 0..3_u8, 0..4_u8, 0..12_u8)
            .prop_map(|(who, what, key, replaces)| Event::Bind { who, what, key, replaces }),
        3 => (0..6_u8, 0..3_u8, prop::bool::weighted(0.8)).prop_map(|(request, person, approved)| Event::Answer { request, person, approved }),
        1 => (0..6_u8).prop_map(|request| Event::End { request }),
        1 => (0..6_u8).prop_map(|request| Event::Deliver { request }),
        8 => (who(), 0..3_u8, 0..3_u8, 0..9_u64, prop::option::weighted(0.8, 0..50_u64), prop::option::of(0..6_u8), prop::bool::weighted(0.1), 0..2_i64, key())
            .prop_map(|(who, what, effect, rows, money, approval, stale, day, key)| Event::Issue { who, what, effect, rows, money, approval, stale, day, key }),
        6 => (0..12_u8, 0..4_u8, settlement()).prop_map(|(call, how, settlement)| Event::Close { call, how, settlement }),
        2 => (0..12_u8, 0..3_u8, settlement())
            .prop_map(|(call, how, settlement)| Event::Resolve { call, how, settlement }),
        1 => (0..3_u8).prop_map(Event::Halt),
        2 => (0..3_u8).prop_map(Event::Resume),
        1 => Just(Event::Restart),
    ]
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

/// One that its client has named, and two that nobody has.
const SESSIONS: [&str; 3] = ["s0", "unnamed-1", "unnamed-2"];

/// Lets one thing happen. Answers what the ledger said.
async fn happen(ledger: &impl Ledger, event: &Event, number: usize) -> String {
    let who =
        |(agent, session): (u8, u8)| requester(&format!("agent{agent}"), SESSIONS[usize::from(session)]);
    let request = |n: u8| approval_id(&format!("a{n}"));
    match event {
        Event::OpenSession(agent, session) => {
            let who = who((*agent, *session));
            format!("{:?}", ledger.open_session(&who, Entry::session_opened(NOW, &who, "test", None)).await)
        }
        Event::Park { who: by, what, key } => {
            let mut call = stored(&format!("p{number}"), &who(*by), &what.to_string());
            call.key = key.map(idempotency_key);
            // Ids repeat, so that other events meet them; a request of a used id is not made.
            let id = format!("a{}", number % 6);
            if ledger.approval(&approval_id(&id)).await.unwrap().is_some() {
                return String::new();
            }
            format!("{:?}", ledger.park(parking(&id, call)).await)
        }
        Event::Bind { who: by, what, key, replaces } => {
            let mut call = stored(&format!("b{number}"), &who(*by), &what.to_string());
            call.key = Some(idempotency_key(*key));
            let mut bond = Bond::of(&call, None, NOW).unwrap();
            bond.refusal = Some(Refusal::new(Code::DeniedByPolicy, "no"));
            let replaces = call_id(&format!("c{replaces}"));
            format!("{:?}", ledger.bind(bond, Some(&replaces), vec![note("refused", &call.id)]).await)
        }
        Event::Answer { request: n, person, approved } => {
            let entry = note("answered", &call_id("x"));
            let signature = signature(&format!("person{person}"), *approved);
            format!("{:?}", ledger.answer(&request(*n), signature, entry).await)
        }
        Event::End { request: n } => {
            let entry = note("request_ended", &call_id("x"));
            format!(
                "{:?}",
                ledger
                    .end(&request(*n), ApprovalState::Blocked, Some(Code::Halted), "late", vec![entry])
                    .await
            )
        }
        Event::Deliver { request: n } => format!("{:?}", ledger.deliver(&request(*n)).await),
        Event::Issue { who: by, what, effect, rows, money, approval, stale, day, key } => {
            let who = who(*by);
            let id = format!("c{}", number % 12);
            if ledger.call(&call_id(&id)).await.unwrap().is_some() {
                return String::new();
            }
            // The simulated ledger knows a session from its first call on.
            ledger.open_session(&who, Entry::session_opened(NOW, &who, "test", None)).await.unwrap();
            let mut intent = intent_of(stored(&id, &who, &what.to_string()));
            intent.call.key = key.map(idempotency_key);
            intent.now_ms = NOW + day * 86_400_000;
            intent.effect = [Effect::Read, Effect::Write, Effect::Destructive][usize::from(*effect)];
            intent.rows = *rows;
            intent.amount = money.map(euros);
            let mut all = hold("rows", Unit::Rows, *rows, 40);
            all.account.subject = "all".into();
            all.account.day = *day;
            let mut calls = hold("calls", Unit::Calls, 1, 30);
            calls.account.subject = format!("agent:{}", who.agent);
            intent.holds = vec![all, calls];
            if let Some(money) = money {
                let mut spend = hold("money", Unit::Money(euros(0).currency), *money, 120);
                spend.account.subject = format!("agent:{}", who.agent);
                spend.halt_at = Some(100);
                intent.holds.push(spend);
            }
            intent.rates =
                vec![(format!("r:{}", who.agent), Rate::parse("8/day", RateScope::Agent).unwrap())];
            if *stale {
                let seen = ledger.standing(&who, intent.call.digest, NOW).await.unwrap().history;
                intent.if_history = Some(seen.wrapping_sub(1));
            }
            // A grant for another call is refused by the ledger alone; the simulated one leaves that to the gate.
            if let Some(n) = approval
                && let Some(record) = ledger.approval(&request(*n)).await.unwrap()
                && record.request.call.digest == intent.call.digest
                && record.request.call.requester == who
            {
                intent.approval = Some(request(*n));
            }
            match ledger.issue(intent).await {
                Ok(issued) => format!("issued, {:?}", issued.halted.map(|h| (h.scope, h.by, h.since_ms))),
                // Of several halts each names one.
                Err(NotIssued::Halted(_)) => "halted".into(),
                Err(other) => format!("{other:?}"),
            }
        }
        Event::Close { call, how, settlement } => {
            let id = format!("c{call}");
            let Some(record) = ledger.call(&call_id(&id)).await.unwrap() else {
                return format!(
                    "{:?}",
                    ledger
                        .close(
                            closing(&id, CallOutcome::Done { reply: json!(1) }, Settlement::Kept),
                            Wait::Durable
                        )
                        .await
                );
            };
            let outcome = match how {
                0 => CallOutcome::Done { reply: json!({ "n": number }) },
                1 => failed(),
                2 => CallOutcome::InDoubt { message: "lost".into() },
                _ => CallOutcome::DoneWithoutResult { message: "odd".into() },
            };
            let mut closing = closing(&id, outcome, *settlement);
            closing.approval = record.approval;
            format!("{:?}", ledger.close(closing, Wait::Durable).await)
        }
        Event::Resolve { call, how, settlement } => {
            let outcome = match how {
                0 => CallOutcome::Done { reply: json!(null) },
                1 => failed(),
                _ => CallOutcome::SentAgain { by: call_id("c99"), message: "sent again".into() },
            };
            let id = call_id(&format!("c{call}"));
            let entries = vec![note("doubt_resolved", &id)];
            format!("{:?}", ledger.resolve(&id, outcome, *settlement, NOW, entries).await)
        }
        Event::Halt(n) => {
            let halt = HaltRecord { scope: scope(*n), why: "drill".into(), by: "lea".into(), since_ms: NOW };
            format!("{:?}", ledger.halt(halt.clone(), Entry::halted(&halt)).await)
        }
        Event::Resume(n) => {
            format!("{:?}", ledger.resume(&scope(*n), Entry::resumed(NOW, &scope(*n), "lea")).await)
        }
        Event::Restart => {
            let mut swept: Vec<_> = ledger.sweep(NOW).await.unwrap().into_iter().map(|c| c.call.id).collect();
            swept.sort();
            format!("{swept:?}")
        }
    }
}

fn failed() -> CallOutcome {
    CallOutcome::Failed { code: Code::ToolFailed, message: "no".into(), superseded: false }
}

/// What can be seen of a ledger, in an order of its own, without what the two may tell differently.
async fn seen(ledger: &impl Ledger) -> String {
    let mut all = String::new();
    for (agent, session) in (0..2).flat_map(|agent| SESSIONS.map(|session| (agent, session))) {
        for day in 0..2 {
            let who = requester(&format!("agent{agent}"), session);
            let digest = stored("x", &who, "0").digest;
            let mut standing = ledger.standing(&who, digest, NOW + day * 86_400_000).await.unwrap();
            standing.history = 0;
            // Each may say so of what is over.
            standing.refusals = false;
            let halted = standing.halted.take().is_some();
            all += &format!("{halted} {standing:?}\n");
        }
    }
    for (agent, key) in (0..2).flat_map(|agent| (0..4).map(move |key| (agent, key))) {
        let agent = requester(&format!("agent{agent}"), "s").agent;
        all += &format!("{:?}\n", ledger.bond(&agent, &idempotency_key(key)).await.unwrap());
        all += &format!("{:?}\n", ledger.bonds(&agent, 3).await.unwrap());
    }
    let mut calls = ledger.calls(None, 1_000).await.unwrap();
    calls.sort_by(|a, b| a.call.id.cmp(&b.call.id));
    // A call that a person resolved has no time of its outcome in the simulation.
    for call in calls.iter_mut().filter(|call| call.state != CallState::Open) {
        call.closed_ms = None;
    }
    let mut balances = ledger.balances(1_000).await.unwrap();
    balances.sort_by(|a, b| a.0.cmp(&b.0));
    let mut halts: Vec<_> = ledger.halts().await.unwrap().into_iter().map(|h| (h.scope, h.by)).collect();
    halts.sort();
    let requests = ledger.approvals(&[], 1_000).await.unwrap();
    for call in calls {
        all += &format!("{call:?}\n");
    }
    for request in requests {
        all += &format!("{request:?}\n");
    }
    all + &format!("{balances:?}\n{halts:?}")
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
        let expected = happen(&simulated, event, number).await;
        assert_eq!(happen(&*ledger, event, number).await, expected, "event {number}: {event:?}");
    }
    for (kept, expected) in seen(&*ledger).await.lines().zip(seen(&simulated).await.lines()) {
        assert_eq!(kept, expected);
    }
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
    fn sqlite_answers_as_the_model(events in prop::collection::vec(event(), 1..80)) {
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
