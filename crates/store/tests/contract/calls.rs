//! Issuing and closing calls.

use countersign_gate::ledger::{CallOutcome, CallState, Ledger, LedgerFault, NotIssued, Wait};
use countersign_rules::{Code, Counters, Effect, budget::Unit, settlement::Settlement};
use countersign_store::CallFilter;
use serde_json::json;

use crate::{
    make::{
        NOW, balances, call_id, closing, done, euros, hold, intent, intent_of, kinds, note, requester, stored,
    },
    place::contract,
    schema::go_back,
};

contract! {
    async fn an_issued_call_is_open_until_it_is_closed(place) {
        let ledger = place.open().await;
        ledger.issue(intent("c1")).await.unwrap();
        let open = ledger.call(&call_id("c1")).await.unwrap().unwrap();
        assert_eq!((open.state, open.outcome, open.issued_ms, open.closed_ms), (CallState::Open, None, NOW, None));
        assert_eq!(open.call, intent("c1").call);

        Ledger::close(&*ledger, done("c1", 2), Wait::Durable).await.unwrap();
        let closed = ledger.call(&call_id("c1")).await.unwrap().unwrap();
        assert_eq!((closed.state, closed.rows, closed.closed_ms), (CallState::Done, 2, Some(NOW + 5)));
        assert_eq!(closed.outcome, Some(CallOutcome::Done { reply: json!({ "rows": 2 }) }));
        assert_eq!(kinds(&ledger).await, ["warrant_issued", "outcome"]);
        assert_eq!(ledger.call(&call_id("c2")).await.unwrap(), None);
    }

    async fn closing_twice_changes_and_appends_nothing(place) {
        let ledger = place.open().await;
        let mut call = intent("c1");
        call.holds = vec![hold("rows", Unit::Rows, 10, 100)];
        ledger.issue(call).await.unwrap();
        Ledger::close(&*ledger, done("c1", 3), Wait::Durable).await.unwrap();
        let failed = CallOutcome::Failed { code: Code::ToolFailed, message: "no".into(), superseded: false };
        Ledger::close(&*ledger, closing("c1", failed, Settlement::Released), Wait::Durable).await.unwrap();
        Ledger::close(&*ledger, done("never-issued", 3), Wait::Durable).await.unwrap();
        assert_eq!(ledger.call(&call_id("c1")).await.unwrap().unwrap().state, CallState::Done);
        assert_eq!(balances(&ledger).await, [("rows".into(), 3, 0)]);
        assert_eq!(kinds(&ledger).await, ["warrant_issued", "outcome"]);
    }

    async fn an_id_is_issued_once(place) {
        let ledger = place.open().await;
        ledger.issue(intent("c1")).await.unwrap();
        let again = ledger.issue(intent("c1")).await.unwrap_err();
        assert!(matches!(again, NotIssued::Fault(LedgerFault::Unavailable(_))), "{again:?}");
        assert_eq!(kinds(&ledger).await, ["warrant_issued"]);
        // Nor once it is over, and the others in its batch are not concerned.
        Ledger::close(&*ledger, done("c1", 2), Wait::Durable).await.unwrap();
        let (again, other) = tokio::join!(ledger.issue(intent("c1")), ledger.issue(intent("c2")));
        let again = again.unwrap_err();
        assert!(matches!(again, NotIssued::Fault(LedgerFault::Unavailable(_))), "{again:?}");
        other.unwrap();
        assert_eq!(ledger.call(&call_id("c1")).await.unwrap().unwrap().rows, 2);
        assert_eq!(kinds(&ledger).await, ["warrant_issued", "outcome", "warrant_issued"]);
    }

    async fn counters_follow_what_really_happened(place) {
        let ledger = place.open().await;
        let mut call = intent("c1");
        (call.rows, call.amount, call.effect) = (10, Some(euros(500)), Effect::Destructive);
        let who = call.call.requester.clone();
        let digest = call.call.digest;
        ledger.issue(call).await.unwrap();
        let issued = ledger.standing(&who, digest, NOW).await.unwrap();
        assert_eq!((issued.session.calls, issued.session.destructive, issued.session.rows), (1, 1, 10));
        assert_eq!(issued.session.money[&euros(0).currency], 500);
        assert_eq!(issued.session, issued.agent_today);
        assert_eq!(issued.session.tools.len(), 1);

        let used = Settlement::Used { rows: 4, amount: Some(euros(499)) };
        Ledger::close(&*ledger, closing("c1", CallOutcome::Done { reply: json!(null) }, used), Wait::Durable).await.unwrap();
        let closed = ledger.standing(&who, digest, NOW).await.unwrap();
        assert_eq!((closed.session.calls, closed.session.rows), (1, 4));
        assert_eq!(closed.session.money[&euros(0).currency], 499);
        assert_ne!(closed.history, issued.history);
        // Tomorrow is another day, and the same session.
        let tomorrow = ledger.standing(&who, digest, NOW + 86_400_000).await.unwrap();
        assert_eq!((tomorrow.agent_today, tomorrow.session), (Counters::default(), closed.session));
        // Another session of the agent shares its day.
        let other = ledger.standing(&requester("bot", "s2"), digest, NOW).await.unwrap();
        assert_eq!((other.session, other.agent_today), (Counters::default(), closed.agent_today));
    }

    async fn what_did_not_happen_is_not_counted(place) {
        let ledger = place.open().await;
        let mut call = intent("c1");
        call.rows = 10;
        call.holds = vec![hold("calls", Unit::Calls, 1, 5), hold("rows", Unit::Rows, 10, 100)];
        let (who, digest) = (call.call.requester.clone(), call.call.digest);
        ledger.issue(call).await.unwrap();
        assert_eq!(balances(&ledger).await, [("calls".into(), 0, 1), ("rows".into(), 0, 10)]);
        let failed = CallOutcome::Failed { code: Code::ToolFailed, message: "no".into(), superseded: false };
        Ledger::close(&*ledger, closing("c1", failed, Settlement::Released), Wait::Durable).await.unwrap();
        assert_eq!(balances(&ledger).await, [("calls".into(), 0, 0), ("rows".into(), 0, 0)]);
        let standing = ledger.standing(&who, digest, NOW).await.unwrap();
        assert_eq!((standing.session.calls, standing.session.writes, standing.session.rows), (0, 0, 0));
    }

    async fn what_is_not_known_stays_held_until_a_person_finds_out(place) {
        let ledger = place.open().await;
        let mut call = intent("c1");
        call.holds = vec![hold("rows", Unit::Rows, 10, 100)];
        ledger.issue(call).await.unwrap();
        let doubt = CallOutcome::InDoubt { message: "the connection broke".into() };
        Ledger::close(&*ledger, closing("c1", doubt, Settlement::Kept), Wait::Durable).await.unwrap();
        assert_eq!(balances(&ledger).await, [("rows".into(), 0, 10)]);
        assert_eq!(ledger.calls(Some(CallState::InDoubt), 10).await.unwrap().len(), 1);

        let happened = CallOutcome::Done { reply: json!(null) };
        let used = Settlement::Used { rows: 7, amount: None };
        let entry = note("doubt_resolved", &call_id("c1"));
        assert!(ledger.resolve(&call_id("c1"), happened.clone(), used, NOW, vec![entry.clone()]).await.unwrap());
        assert!(!ledger.resolve(&call_id("c1"), happened.clone(), used, NOW, vec![entry.clone()]).await.unwrap());
        assert!(!ledger.resolve(&call_id("c2"), happened, used, NOW, vec![entry]).await.unwrap());
        assert_eq!(balances(&ledger).await, [("rows".into(), 7, 0)]);
        assert_eq!(kinds(&ledger).await, ["warrant_issued", "outcome", "doubt_resolved"]);
    }

    async fn a_decision_on_history_stands_only_while_the_history_does(place) {
        let ledger = place.open().await;
        let (who, digest) = (requester("bot", "s1"), intent("c1").call.digest);
        let seen = ledger.standing(&who, digest, NOW).await.unwrap().history;
        let with = |id: &str| { let mut i = intent(id); i.if_history = Some(seen); i };
        ledger.issue(with("c1")).await.unwrap();
        assert_eq!(ledger.issue(with("c2")).await.unwrap_err(), NotIssued::HistoryMoved);
        assert_eq!(ledger.call(&call_id("c2")).await.unwrap(), None);
        // Another agent's history is its own.
        let mut other = intent_of(stored("c3", &requester("other", "s1"), "x"));
        other.if_history = Some(0);
        ledger.issue(other).await.unwrap();

        // It moves with what the decision looked at: with its own session, and with its agent's day, whichever session and
        // whether counters go up or down.
        let seen = async || ledger.standing(&who, digest, NOW).await.unwrap().history;
        let mut before = seen().await;
        let mut moves = async |what: &str, moved: bool| {
            let after = seen().await;
            assert_eq!(after != before, moved, "{what}");
            before = after;
        };
        ledger.issue(intent_of(stored("c4", &requester("bot", "s2"), "x"))).await.unwrap();
        moves("another session today", true).await;
        let lost = |id: &str| {
            let failed = CallOutcome::Failed { code: Code::ToolFailed, message: "no".into(), superseded: false };
            closing(id, failed, Settlement::Released)
        };
        Ledger::close(&*ledger, lost("c4"), Wait::Durable).await.unwrap();
        moves("a call that was counted did not happen", true).await;
        let mut tomorrow = intent_of(stored("c5", &requester("bot", "s2"), "x"));
        tomorrow.now_ms = NOW + 86_400_000;
        ledger.issue(tomorrow).await.unwrap();
        moves("another session on another day", false).await;
        let mut tomorrow = intent("c6");
        tomorrow.now_ms = NOW + 86_400_000;
        ledger.issue(tomorrow).await.unwrap();
        moves("its session on another day", true).await;
        ledger.record(vec![note("noted", &call_id("c1"))]).await.unwrap();
        moves("nothing that counts", false).await;
        // Another process finds what this one did.
        ledger.close().await;
        assert_eq!(place.open().await.standing(&who, digest, NOW).await.unwrap().history, before);
    }

    async fn an_outcome_that_is_only_queued_is_recorded(place) {
        let ledger = place.open().await;
        ledger.issue(intent("c1")).await.unwrap();
        Ledger::close(&*ledger, done("c1", 1), Wait::Queued).await.unwrap();
        // What is queued later is written later.
        ledger.record(Vec::new()).await.unwrap();
        assert_eq!(ledger.call(&call_id("c1")).await.unwrap().unwrap().state, CallState::Done);
    }

    async fn calls_are_listed_newest_first(place) {
        let ledger = place.open().await;
        for (id, at) in [("a", 3), ("b", 1), ("c", 2)] {
            let mut call = intent(id);
            call.now_ms = NOW + at;
            ledger.issue(call).await.unwrap();
        }
        Ledger::close(&*ledger, done("a", 1), Wait::Durable).await.unwrap();
        let ids = |calls: Vec<countersign_gate::ledger::CallRecord>| -> Vec<String> {
            calls.iter().map(|c| c.call.id.to_string()).collect()
        };
        // Whatever the clock said: one that was set back hides nothing behind what was listed before.
        assert_eq!(ids(ledger.calls(None, 10).await.unwrap()), ["c", "b", "a"]);
        assert_eq!(ids(ledger.calls(None, 2).await.unwrap()), ["c", "b"]);
        assert_eq!(ids(ledger.calls(Some(CallState::Open), 10).await.unwrap()), ["c", "b"]);
        assert_eq!(ids(ledger.calls(Some(CallState::Done), 10).await.unwrap()), ["a"]);
    }

    async fn calls_of_a_process_that_is_gone_are_in_doubt(place) {
        let ledger = place.open().await;
        let mut call = intent("c1");
        call.holds = vec![hold("rows", Unit::Rows, 10, 100)];
        ledger.issue(call).await.unwrap();
        assert_eq!(ledger.sweep(NOW).await.unwrap(), []);
        ledger.close().await;

        let ledger = place.open().await;
        let swept = ledger.sweep(NOW + 10).await.unwrap();
        assert_eq!(swept.len(), 1);
        assert_eq!((swept[0].state, &swept[0].outcome), (CallState::InDoubt, &None));
        assert_eq!(ledger.sweep(NOW + 11).await.unwrap(), []);
        assert_eq!(balances(&ledger).await, [("rows".into(), 0, 10)]);
        let equal = |agent: &str, text: &str| {
            let call = stored("c1", &requester(agent, "s9"), text);
            (call.requester.agent.clone(), call.digest)
        };
        let swept = &swept[0].call;
        let found = ledger.doubted(&swept.requester.agent, swept.digest, NOW).await.unwrap();
        assert_eq!(found.map(|found| found.call.id), Some(call_id("c1")));
        for (agent, digest) in [equal("else", "x"), equal("bot", "another")] {
            assert_eq!(ledger.doubted(&agent, digest, 0).await.unwrap(), None);
        }
        // Whoever performed it may still know.
        Ledger::close(&*ledger, done("c1", 2), Wait::Durable).await.unwrap();
        assert_eq!(ledger.call(&call_id("c1")).await.unwrap().unwrap().state, CallState::Done);
        assert_eq!(balances(&ledger).await, [("rows".into(), 2, 0)]);
        assert_eq!(kinds(&ledger).await, ["warrant_issued", "in_doubt", "outcome"]);
        // It has happened, and its equals hear of it for a while.
        let late = |since_ms| ledger.doubted(&swept.requester.agent, swept.digest, since_ms);
        assert_eq!(late(NOW).await.unwrap().map(|found| found.state), Some(CallState::Done));
        assert_eq!(late(NOW + 5).await.unwrap(), None);
        // What was never in doubt does not stand in the way of its equals.
        ledger.issue(intent("c2")).await.unwrap();
        Ledger::close(&*ledger, done("c2", 2), Wait::Durable).await.unwrap();
        assert_eq!(late(NOW + 5).await.unwrap(), None);
    }

    async fn writes_in_doubt_of_an_older_schema_are_found_by_their_equals(place) {
        let ledger = place.open().await;
        ledger.issue(intent("c1")).await.unwrap();
        ledger.close().await;
        let ledger = place.open().await;
        ledger.sweep(NOW + 10).await.unwrap();
        ledger.close().await;
        drop(ledger);
        go_back(&place, 7).await;
        let ledger = place.open().await;
        // Nor is it lost to the agent that looks for its calls.
        let of_agent = CallFilter { agent: Some(intent("c1").call.requester.agent), ..CallFilter::default() };
        assert_eq!(ledger.list_calls(&of_agent, 10).await.unwrap().len(), 1);
        let call = intent("c1").call;
        let found = ledger.doubted(&call.requester.agent, call.digest, NOW).await.unwrap();
        assert_eq!(found.map(|found| found.call.id), Some(call_id("c1")));
    }
}
