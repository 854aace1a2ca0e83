//! What is long over is forgotten, and nothing else.

use std::sync::Arc;

use countersign_gate::{
    NewEntry,
    ledger::{Ledger, NotIssued, Wait},
};
use countersign_rules::{
    IdempotencyKey,
    budget::Unit,
    rate::{Rate, RateScope},
};
use countersign_store::Store;

use crate::{
    make::{NOW, balances, done, hold, intent, intent_of, kinds, requester, stored},
    place::contract,
};

const DAY: i64 = 86_400_000;

/// Issues a call in a session of its own day.
async fn call(ledger: &Store, id: &str, session: &str, now_ms: i64) {
    let mut intent = intent_of(stored(id, &requester("bot", session), id));
    intent.now_ms = now_ms;
    intent.rates = vec![(format!("session:{session}"), Rate::parse("1/day", RateScope::Session).unwrap())];
    let mut session_budget = hold("session rows", Unit::Rows, 2, 3);
    session_budget.account.subject = format!("session:bot/{session}");
    intent.holds = vec![session_budget];
    ledger.issue(intent).await.unwrap();
}

async fn calls(ledger: &Store, session: &str, now_ms: i64) -> (u64, u64) {
    let who = requester("bot", session);
    let standing = ledger.standing(&who, intent("x").call.digest, now_ms).await.unwrap();
    (standing.session.calls, standing.agent_today.calls)
}

/// Prunes on each day of a span.
async fn live(ledger: &Store, days: std::ops::RangeInclusive<i64>) {
    for day in days {
        ledger.prune(NOW + day * DAY).await.unwrap();
    }
}

contract! {
    async fn a_clock_that_jumps_forgets_nothing_that_rules_look_at(place) {
        let ledger = place.open().await;
        let who = requester("bot", "s");
        ledger.open_session(&who, NewEntry::session_opened(NOW, &who, "test", None)).await.unwrap();
        call(&ledger, "c1", "s", NOW).await;
        ledger.prune(NOW).await.unwrap();
        let rate = [("session:s".to_owned(), Rate::parse("1/day", RateScope::Session).unwrap())];
        let as_before = async || {
            assert_eq!(calls(&ledger, "s", NOW).await, (1, 1));
            assert!(ledger.room(&rate, &[], NOW + 1).await.is_err());
        };
        // Ahead, again and again, as with several starts, and back.
        for ahead in [40, 40, 400, 39, 40, -40] {
            ledger.prune(NOW + ahead * DAY).await.unwrap();
            ledger.prune(NOW + ahead * DAY + 60_000).await.unwrap();
            as_before().await;
        }
        live(&ledger, 1..=20).await;
        as_before().await;
        let opened = kinds(&ledger).await;
        assert!(ledger.has_session(&who).await.unwrap() && !ledger.has_session(&requester("eve", "s")).await.unwrap());
        assert!(!ledger.open_session(&who, NewEntry::session_opened(NOW, &who, "test", None)).await.unwrap());
        assert_eq!(kinds(&ledger).await, opened, "it is the same session");
    }

    async fn an_idempotency_key_is_kept_as_long_as_was_said_and_whatever_a_clock_says(place) {
        let ledger = place.open().await;
        let keyed = |id: &str, now_ms: i64| {
            let mut intent = intent(id);
            intent.call.key = Some(IdempotencyKey::parse(id).unwrap());
            intent.now_ms = now_ms;
            intent
        };
        ledger.prune(NOW).await.unwrap();
        ledger.issue(keyed("k1", NOW)).await.unwrap();
        let stands = async |key: &str| {
            let call = keyed(key, NOW).call;
            ledger.bond(&call.requester.agent, &call.key.unwrap()).await.unwrap().is_some()
        };
        // A clock that jumps, and jumps again, has not seen three days go by.
        for ahead in [400, 40, 800] {
            ledger.prune(NOW + ahead * DAY).await.unwrap();
            ledger.prune(NOW + ahead * DAY + 60_000).await.unwrap();
            assert!(stands("k1").await);
        }
        ledger.issue(keyed("k2", NOW + 801 * DAY)).await.unwrap();
        live(&ledger, 801..=802).await;
        assert!(!stands("k1").await && stands("k2").await);
        live(&ledger, 803..=804).await;
        assert!(!stands("k2").await);
        // What it stood for is still there.
        assert!(ledger.call(&keyed("k1", NOW).call.id).await.unwrap().is_some());
        ledger.issue({
            let mut again = keyed("k3", NOW);
            again.call.key = keyed("k1", NOW).call.key;
            again
        }).await.unwrap();
        assert!(stands("k1").await);
    }

    async fn what_is_long_over_is_forgotten_and_nothing_else(place) {
        let ledger = place.open().await;
        for session in ["over", "used", "silent"] {
            let who = requester("bot", session);
            ledger.open_session(&who, NewEntry::session_opened(NOW, &who, "test", None)).await.unwrap();
        }
        call(&ledger, "c1", "over", NOW).await;
        call(&ledger, "c2", "used", NOW).await;
        let log = kinds(&ledger).await;

        assert_eq!(ledger.prune(NOW).await.unwrap(), 1, "sessions are marked");
        assert_eq!(ledger.prune(NOW).await.unwrap(), 0, "and nothing is written again");
        assert_eq!((calls(&ledger, "over", NOW).await, calls(&ledger, "used", NOW).await), ((1, 2), (1, 2)));

        // In use again, and closed when all of its day is gone.
        let later = NOW + 20 * DAY;
        live(&ledger, 1..=20).await;
        let mut again = intent_of(stored("c3", &requester("bot", "used"), "c3"));
        again.now_ms = later;
        ledger.issue(again).await.unwrap();
        live(&ledger, 21..=29).await;
        assert_eq!((calls(&ledger, "over", NOW).await.0, calls(&ledger, "used", later).await), (1, (2, 1)));

        let over = NOW + 33 * DAY;
        live(&ledger, 30..=33).await;
        assert_eq!(ledger.prune(over).await.unwrap(), 0);
        assert_eq!((calls(&ledger, "over", NOW).await, calls(&ledger, "used", later).await), ((0, 0), (2, 1)));
        assert_eq!(kinds(&ledger).await[..log.len()], log[..], "nothing of the log");
        // What is spent or held stays, and a call of a forgotten session ends as any other.
        let held: u64 = balances(&ledger).await.iter().map(|(_, _, held)| held).sum();
        assert_eq!(held, 4);
        Ledger::close(&*ledger, done("c1", 2), Wait::Durable).await.unwrap();
        let mut beyond = intent_of(stored("c4", &requester("bot", "over"), "c4"));
        let mut session_budget = hold("session rows", Unit::Rows, 2, 3);
        session_budget.account.subject = "session:bot/over".into();
        beyond.holds = vec![session_budget];
        assert!(matches!(ledger.issue(beyond).await, Err(NotIssued::Exhausted(_))));

        // The sessions that were not used are opened anew, the one that was is not.
        let opened = async || kinds(&ledger).await.iter().filter(|kind| *kind == "session_opened").count();
        for session in ["over", "used", "silent"] {
            let (before, who) = (opened().await, requester("bot", session));
            ledger.open_session(&who, NewEntry::session_opened(over, &who, "test", None)).await.unwrap();
            assert_eq!(opened().await - before, usize::from(session != "used"), "{session}");
        }
    }

    async fn pruning_among_calls_loses_none(place) {
        let ledger = place.open().await;
        call(&ledger, "old", "s1", NOW).await;
        ledger.prune(NOW).await.unwrap();
        let now_ms = NOW + 40 * DAY;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..200 {
            let ledger = Arc::clone(&ledger);
            tasks.spawn(async move {
                if n % 10 == 0 {
                    ledger.prune(now_ms).await.unwrap();
                }
                let mut intent = intent_of(stored(&format!("c{n}"), &requester("bot", "s1"), "x"));
                intent.now_ms = now_ms;
                ledger.issue(intent).await.unwrap();
            });
        }
        tasks.join_all().await;
        let (session, today) = calls(&ledger, "s1", now_ms).await;
        // What was counted before the session was forgotten may be gone, and only that.
        assert!((200..=201).contains(&session) && today == 200, "{session} {today}");
    }
}
