//! Several processes on one ledger.

use std::sync::Arc;

use countersign_gate::NewEntry;
use countersign_gate::ledger::{CallState, HaltRecord, HaltScope, Ledger, NotIssued, Wait};
use countersign_rules::{ApprovalState, PersonId, budget::Unit};
use countersign_store::{
    KeyOwner, NewAccount, NewKey, NewLink, NewWebSession, Options, PasswordHash, Store, StoreBeside,
    StoreError,
};

use crate::{
    make::{
        NOW, approval_id, balances, call_id, done, hold, intent, intent_of, kinds, note, parking, requester,
        signature, stored,
    },
    place::Place,
};

async fn two() -> (Place, Arc<Store>, Arc<Store>) {
    let place = Place::postgres().await;
    let (one, other) = (place.open().await, place.open().await);
    (place, one, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_never_overspend_and_the_log_has_one_history() {
    let (_place, one, other) = two().await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..600 {
        let ledger = Arc::clone(if n % 2 == 0 { &one } else { &other });
        calls.spawn(async move {
            let mut call = intent(&format!("c{n}"));
            call.holds = vec![hold("calls", Unit::Calls, 1, 201)];
            let issued = ledger.issue(call).await;
            if issued.is_ok() && n % 3 == 0 {
                Ledger::close(&*ledger, done(&format!("c{n}"), 1), Wait::Durable).await.unwrap();
            }
            issued
        });
    }
    let results = calls.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 201);
    assert!(results.iter().filter_map(|r| r.as_ref().err()).all(|e| matches!(e, NotIssued::Exhausted(_))));
    let [(_, spent, held)] = &balances(&one).await[..] else { panic!("one budget") };
    assert_eq!(spent + held, 201);
    assert_eq!(kinds(&one).await, kinds(&other).await);
    let report = other.verify(&Place::key().verifier(), Vec::new()).await.unwrap();
    assert!(report.verified(), "{:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_issue_a_call_and_spend_an_approval_once() {
    let (_place, one, other) = two().await;
    one.park(parking("a1", stored("c1", &requester("bot", "s1"), "x"))).await.unwrap();
    other.answer(&approval_id("a1"), signature("lea", true), note("answered", &call_id("c1"))).await.unwrap();
    let mut granted = intent_of(stored("c1", &requester("bot", "s1"), "x"));
    granted.approval = Some(approval_id("a1"));
    let (first, second) = tokio::join!(one.issue(granted.clone()), other.issue(granted));
    assert_eq!([&first, &second].iter().filter(|r| r.is_ok()).count(), 1, "{first:?} {second:?}");
    assert_eq!(one.approval(&approval_id("a1")).await.unwrap().unwrap().state, ApprovalState::Executing);

    let (first, second) = tokio::join!(one.issue(intent("c2")), other.issue(intent("c2")));
    assert_eq!([&first, &second].iter().filter(|r| r.is_ok()).count(), 1, "{first:?} {second:?}");
    // The same call parked by both is one request.
    let parked = |id| parking(id, stored(id, &requester("bot", "s1"), "y"));
    let (first, second) = tokio::join!(one.park(parked("p1")), other.park(parked("p2")));
    assert_eq!(first.unwrap().request.id, second.unwrap().request.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_sweeps_the_calls_of_those_that_are_gone_only() {
    let (_place, one, other) = two().await;
    one.issue(intent("c1")).await.unwrap();
    other.issue(intent("c2")).await.unwrap();
    assert_eq!(one.sweep(NOW).await.unwrap(), []);
    other.close().await;
    let swept = one.sweep(NOW).await.unwrap();
    assert_eq!(swept.iter().map(|c| c.call.id.clone()).collect::<Vec<_>>(), [call_id("c2")]);
    assert_eq!(one.call(&call_id("c1")).await.unwrap().unwrap().state, CallState::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_in_one_process_stops_the_other_at_its_next_call() {
    let (_place, one, other) = two().await;
    let halt = HaltRecord { scope: HaltScope::All, why: "stop".into(), by: "lea".into(), since_ms: NOW };
    one.halt(halt.clone(), NewEntry::halted(&halt)).await.unwrap();
    assert_eq!(other.issue(intent("c1")).await.unwrap_err(), NotIssued::Halted(halt.clone()));
    let standing = other.standing(&requester("bot", "s1"), intent("c1").call.digest, NOW).await.unwrap();
    assert_eq!(standing.halted, Some(halt.clone()));
    assert!(other.resume(&halt.scope, NewEntry::resumed(NOW, &halt.scope, "lea")).await.unwrap());
    one.issue(intent("c1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_told_what_another_changes() {
    let (_place, one, other) = two().await;
    let mut changes = other.changes();
    // The first tells that it listens.
    changes.changed().await.unwrap();
    let told = tokio::spawn(async move { changes.changed().await.map(|()| changes) });
    one.park(parking("a1", stored("c1", &requester("bot", "s1"), "x"))).await.unwrap();
    told.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_links_and_accounts_change_beside_the_writer_and_nothing_is_lost() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    ledger.issue(intent("open")).await.unwrap();
    let owner = KeyOwner::Agent(requester("bot", "s1").agent);
    let new = NewKey { owner, scopes: Vec::new(), expires_ms: None, by: "test".into(), now_ms: NOW };
    let beside = |n: u8| {
        let (path, new) = (place.path(), new.clone());
        async move {
            let beside = StoreBeside::open(&path, Place::key(), &Options::default()).await.unwrap();
            let issued = beside.issue_key(new, [n; 32]).await;
            beside.close().await;
            issued
        }
    };
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..100 {
        let ledger = Arc::clone(&ledger);
        calls.spawn(async move { ledger.issue(intent(&format!("c{n}"))).await.unwrap() });
    }
    for n in 0..10 {
        let (record, presented) = beside(n).await.unwrap();
        assert_eq!(ledger.find_key(&presented, NOW).await.unwrap(), Some(record));
    }
    calls.join_all().await;
    assert_eq!(ledger.sweep(NOW).await.unwrap(), []);
    assert_eq!(ledger.calls(Some(CallState::Open), 1_000).await.unwrap().len(), 101);
    assert_eq!(kinds(&ledger).await.len(), 111);
    assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
    // So are links made and accounts changed, and good at once, though the writer has looked at them before.
    let person = PersonId::parse("ann").unwrap();
    let link =
        NewLink { person: person.clone(), by: "cli".into(), maker: None, expires_ms: NOW + 1, now_ms: NOW };
    let account = || NewAccount { password: PasswordHash::new("p".into()), codes: Vec::new(), passkey: None };
    let session = |token| NewWebSession { token, now_ms: NOW, expires_ms: NOW + 1 };
    let beside = StoreBeside::open(&place.path(), Place::key(), &Options::default()).await.unwrap();
    for round in ["one", "two"] {
        assert!(beside.make_link(link.clone(), round).await.unwrap());
        ledger.set_up_account(round, account(), session(round)).await.unwrap().unwrap();
        let good = async || {
            let (session, account) = ledger.find_web_session(round).await.unwrap().unwrap();
            session.check(&account, NOW, 1).is_ok()
        };
        assert!(good().await);
        if round == "one" {
            assert!(beside.sign_out_everywhere(&person, "cli", NOW).await.unwrap());
        } else {
            assert_eq!(beside.enable_account(&person, false, "cli", NOW).await.unwrap(), Some(true));
        }
        assert!(!good().await);
    }
    beside.close().await;
    assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
    let other = countersign_audit::SigningKey::from_seed(crate::place::ORIGIN, &[8; 32]).unwrap();
    let refused = StoreBeside::open(&place.path(), other, &Options::default()).await;
    assert!(matches!(refused, Err(StoreError::OtherKey { .. })));
}

#[tokio::test]
async fn what_somebody_writes_to_the_file_by_hand_counts_from_the_next_commit_on() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    ledger.issue(intent("c1")).await.unwrap();
    let standing = async || {
        let call = intent("c2").call;
        ledger.standing(&call.requester, call.digest, NOW).await.unwrap()
    };
    assert_eq!((standing().await.halted, standing().await.session.calls), (None, 1));
    let halt = HaltRecord { scope: HaltScope::All, why: "stop".into(), by: "lea".into(), since_ms: NOW };
    let body = serde_json::to_string(&halt).unwrap();
    place.change(&format!("INSERT INTO halt (scope, body) VALUES ('all', '{body}')")).await;
    // Decided on what was known, and issued on what is.
    assert_eq!(ledger.issue(intent("c2")).await.unwrap_err(), NotIssued::Halted(halt.clone()));
    assert_eq!(standing().await.halted, Some(halt.clone()));
    place.change("DELETE FROM halt").await;
    ledger.issue(intent("c2")).await.unwrap();
    assert_eq!((standing().await.halted, standing().await.session.calls), (None, 2));
}

#[tokio::test]
async fn a_file_has_one_writer_and_any_number_of_readers() {
    let place = Place::sqlite();
    let ledger = place.open().await;
    let second = place.open_with(Options::default()).await.unwrap_err();
    assert_eq!(second, StoreError::InUse { path: place.path() });
    assert!(second.to_string().contains("in use by another process"));

    ledger.issue(intent("c1")).await.unwrap();
    let reader = Store::open_sqlite_read_only(&place.path(), &Options::default()).unwrap();
    assert_eq!(kinds(&reader).await, ["warrant_issued"]);
    assert!(reader.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
    assert!(reader.issue(intent("c2")).await.is_err());
    ledger.issue(intent("c2")).await.unwrap();
    assert_eq!(kinds(&reader).await.len(), 2);
    ledger.close().await;
    assert!(ledger.issue(intent("c3")).await.is_err());
    place.open().await;
}
