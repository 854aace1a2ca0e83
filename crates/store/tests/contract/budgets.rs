//! Limits at their edge.

use std::sync::Arc;

use countersign_gate::ledger::{HaltScope, Ledger, NotIssued, Wait};
use countersign_rules::{
    budget::Unit,
    rate::{Rate, RateScope},
};

use crate::{
    make::{NOW, balances, done, hold, intent, intent_of, kinds, requester, stored},
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
