//! Limits at their edge.

use std::sync::Arc;

use countersign_gate::{
    NewEntry,
    ledger::{CallOutcome, HaltScope, Ledger, NotIssued, Wait},
};
use countersign_rules::{
    Code,
    budget::Unit,
    rate::{Rate, RateScope},
    settlement::Settlement,
};

use crate::{
    make::{NOW, balances, closing, done, hold, intent, intent_of, kinds, requester, stored},
    place::contract,
};

contract! {
    async fn a_thousand_calls_at_once_get_exactly_what_there_is(place) {
        let ledger = place.open().await;
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..1_000 {
            let ledger = Arc::clone(&ledger);
            calls.spawn(async move {
                let mut call = intent(&format!("c{n}"));
                call.holds = vec![hold("calls", Unit::Calls, 1, 137)];
                ledger.issue(call).await
            });
        }
        let results = calls.join_all().await;
        let issued = results.iter().filter(|r| r.is_ok()).count();
        assert_eq!(issued, 137);
        assert!(results.iter().filter_map(|r| r.as_ref().err()).all(|e| matches!(e, NotIssued::Exhausted(_))));
        assert_eq!(balances(&ledger).await, [("calls".into(), 0, 137)]);
        assert_eq!(kinds(&ledger).await.len(), 137);
        let standing = ledger.standing(&requester("bot", "s1"), intent("x").call.digest, NOW).await.unwrap();
        assert_eq!(standing.session.calls, 137);
    }

    async fn a_call_that_one_budget_refuses_takes_nothing_from_another(place) {
        let ledger = place.open().await;
        let mut call = intent("c1");
        call.rates = vec![("r".into(), Rate::parse("1/day", RateScope::Agent).unwrap())];
        call.holds = vec![hold("a", Unit::Calls, 1, 5), hold("b", Unit::Rows, 11, 10)];
        let refused = ledger.issue(call.clone()).await.unwrap_err();
        assert!(matches!(refused, NotIssued::Exhausted(ref e) if e.budget == "b" && e.left == 10), "{refused:?}");
        assert_eq!(balances(&ledger).await, []);
        assert_eq!(kinds(&ledger).await, [""; 0]);
        // The rate was not taken either.
        call.holds.truncate(1);
        ledger.issue(call.clone()).await.unwrap();
        call.call = stored("c2", &requester("bot", "s1"), "c2");
        let refused = ledger.issue(call).await.unwrap_err();
        assert!(matches!(refused, NotIssued::RateLimited(_)), "{refused:?}");
        assert_eq!(balances(&ledger).await, [("a".into(), 0, 1)]);
    }

    async fn a_budget_is_charged_for_what_was_used(place) {
        let ledger = place.open().await;
        let mut call = intent("c1");
        call.holds = vec![hold("rows", Unit::Rows, 100, 100)];
        ledger.issue(call.clone()).await.unwrap();
        call.call = stored("c2", &requester("bot", "s1"), "c2");
        assert!(matches!(ledger.issue(call.clone()).await, Err(NotIssued::Exhausted(_))));
        Ledger::close(&*ledger, done("c1", 30), Wait::Durable).await.unwrap();
        call.holds = vec![hold("rows", Unit::Rows, 70, 100)];
        ledger.issue(call).await.unwrap();
        assert_eq!(balances(&ledger).await, [("rows".into(), 30, 70)]);
    }

    async fn the_largest_numbers_fit(place) {
        let ledger = place.open().await;
        let mut call = intent("c1");
        call.rows = u64::MAX;
        call.holds = vec![hold("rows", Unit::Rows, u64::MAX, u64::MAX)];
        ledger.issue(call).await.unwrap();
        assert_eq!(balances(&ledger).await, [("rows".into(), 0, u64::MAX)]);
        let standing = ledger.standing(&requester("bot", "s1"), intent("x").call.digest, NOW).await.unwrap();
        assert_eq!(standing.session.rows, u64::MAX);
    }

    async fn a_clock_that_is_set_back_locks_nobody_out(place) {
        let ledger = place.open().await;
        let rate = Rate::parse("1/min", RateScope::Agent).unwrap();
        let with = |id: &str, now_ms: i64| {
            let mut call = intent(id);
            call.rates = vec![("r".into(), rate)];
            call.now_ms = now_ms;
            call
        };
        ledger.issue(with("c1", NOW)).await.unwrap();
        let day = 86_400_000;
        assert!(matches!(ledger.issue(with("c2", NOW - day)).await, Err(NotIssued::RateLimited(e)) if e.retry_after_ms <= 60_000));
        ledger.issue(with("c3", NOW + 30 * day)).await.unwrap();
        ledger.issue(with("c4", NOW - day + 60_000)).await.unwrap_err();
    }

    async fn looking_for_room_takes_none(place) {
        let ledger = place.open().await;
        let rates = [("r".to_owned(), Rate::parse("1/day", RateScope::Agent).unwrap())];
        let holds = [hold("rows", Unit::Rows, 4, 10), hold("rows", Unit::Rows, 4, 10)];
        for _ in 0..3 {
            ledger.room(&rates, &holds, NOW).await.unwrap();
        }
        assert_eq!((kinds(&ledger).await, balances(&ledger).await), (Vec::<String>::new(), Vec::new()));
        let mut call = intent("c1");
        call.holds = vec![hold("rows", Unit::Rows, 3, 10)];
        ledger.issue(call.clone()).await.unwrap();
        let refused = ledger.room(&rates, &holds, NOW).await.unwrap_err();
        assert!(matches!(refused, NotIssued::Exhausted(ref e) if e.left == 3 && e.amount == 4), "holds of one account add up: {refused:?}");
        ledger.room(&rates, &holds[1..], NOW).await.unwrap();
        (call.call, call.holds, call.rates) = (stored("c2", &requester("bot", "s1"), "c2"), Vec::new(), rates.to_vec());
        ledger.issue(call).await.unwrap();
        assert!(matches!(ledger.room(&rates, &[], NOW).await.unwrap_err(), NotIssued::RateLimited(_)));
        ledger.room(&rates, &[], NOW + 86_400_000).await.unwrap();
    }

    async fn a_halt_is_recorded_once_and_a_threshold_halts_once(place) {
        let ledger = place.open().await;
        let spend = async |id: &str| {
            let mut call = intent(id);
            let mut hold = hold("spend", Unit::Calls, 1, 10);
            hold.halt_at = Some(2);
            call.holds = vec![hold];
            ledger.issue(call).await.map(|issued| issued.halted.is_some())
        };
        assert!(!spend("c1").await.unwrap());
        assert!(spend("c2").await.unwrap());
        let there = ledger.halts().await.unwrap().remove(0);
        let mut again = there.clone();
        again.by = "lea".into();
        assert_eq!(ledger.halt(again.clone(), NewEntry::halted(&again)).await.unwrap(), there);
        assert_eq!(ledger.halts().await.unwrap(), std::slice::from_ref(&there));
        assert_eq!(kinds(&ledger).await.iter().filter(|kind| *kind == "halted").count(), 1);
        // Who resumes it above the threshold has decided that it goes on, up to the limit.
        assert!(ledger.resume(&there.scope, NewEntry::resumed(NOW, &there.scope, "lea")).await.unwrap());
        assert!(!spend("c3").await.unwrap() && !spend("c4").await.unwrap());
        // Another halt, later, is another entry; and so is the threshold when it is reached anew.
        for id in ["c2", "c3", "c4"] {
            let failed = CallOutcome::Failed { code: Code::ToolFailed, message: "no".into(), superseded: false };
            Ledger::close(&*ledger, closing(id, failed, Settlement::Released), Wait::Durable).await.unwrap();
        }
        assert!(spend("c5").await.unwrap());
        assert_eq!(kinds(&ledger).await.iter().filter(|kind| *kind == "halted").count(), 2);
    }

    async fn reaching_the_threshold_halts_the_agent(place) {
        let ledger = place.open().await;
        let with = |id: &str, agent: &str, subject: &str| {
            let mut call = intent_of(stored(id, &requester(agent, "s1"), id));
            let mut hold = hold("spend", Unit::Calls, 1, 10);
            hold.account.subject = subject.into();
            hold.halt_at = Some(2);
            call.holds = vec![hold];
            call
        };
        assert_eq!(ledger.issue(with("c1", "bot", "agent:bot")).await.unwrap().halted, None);
        let halted = ledger.issue(with("c2", "bot", "agent:bot")).await.unwrap().halted.unwrap();
        assert_eq!(halted.scope, HaltScope::Agent(requester("bot", "s1").agent));
        assert_eq!(kinds(&ledger).await, ["warrant_issued", "warrant_issued", "halted"]);
        assert_eq!(ledger.issue(with("c3", "bot", "agent:bot")).await.unwrap_err(), NotIssued::Halted(halted.clone()));
        let standing = ledger.standing(&requester("bot", "s9"), intent("x").call.digest, NOW).await.unwrap();
        assert_eq!(standing.halted, Some(halted));
        // A budget that all share halts all.
        ledger.issue(with("c4", "ann", "all")).await.unwrap();
        let halted = ledger.issue(with("c5", "ben", "all")).await.unwrap().halted.unwrap();
        assert_eq!(halted.scope, HaltScope::All);
        assert!(matches!(ledger.issue(with("c6", "cat", "agent:cat")).await, Err(NotIssued::Halted(_))));
        assert_eq!(ledger.halts().await.unwrap().len(), 2);
    }
}
