//! Two servers on one PostgreSQL: no call is executed twice, no budget overspent, and the log has one history.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    acting::{Folder, Hold},
    place::Place,
    served::Served,
};

/// How many granted calls a server performs at a time.
const AT_ONCE: usize = 16;

fn two() -> (Folder, Served, Served) {
    let folder = Folder::new(Place::postgres());
    let (one, other) = (folder.serve(), folder.serve());
    (folder, one, other)
}

fn statuses(answers: &[Value], status: &str) -> usize {
    answers.iter().filter(|answer| answer["status"] == status).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_spend_a_budget_and_a_rate_exactly() {
    let (folder, one, other) = two();
    let url = |n: i64| if n % 2 == 0 { &one.url } else { &other.url };
    let calls = (0..60).map(|n| folder.call(url(n), "act", n));
    let answers: Vec<Value> =
        futures::future::join_all(calls).await.into_iter().map(Option::unwrap).collect();
    assert_eq!((statuses(&answers, "done"), statuses(&answers, "budget_exhausted")), (25, 35), "{answers:?}");
    let acts = folder.system.acts();
    assert_eq!(acts.len(), 25);
    assert!(acts.values().all(|times| *times == 1), "{acts:?}");
    let budgets = folder.look(&other.url, "budgets").await;
    assert_eq!((&budgets["accounts"][0]["spent"], &budgets["accounts"][0]["held"]), (&json!(25), &json!(0)));

    let calls = (100..130).map(|n| folder.call(url(n), "rated", n));
    let answers: Vec<Value> =
        futures::future::join_all(calls).await.into_iter().map(Option::unwrap).collect();
    assert_eq!((statuses(&answers, "done"), statuses(&answers, "rate_limited")), (7, 23), "{answers:?}");
    assert_eq!(folder.system.acts().len(), 32);
    folder.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_calls_through_two_servers_are_one_request_and_one_effect() {
    let (folder, one, other) = two();
    for n in 0..8 {
        let calls = (0..6).map(|i| folder.ask(if i % 2 == 0 { &one.url } else { &other.url }, n));
        let requests: BTreeSet<String> = futures::future::join_all(calls).await.into_iter().collect();
        assert_eq!(requests.len(), 1, "{requests:?}");
        let request = requests.first().unwrap();
        // Two people approve at once, each through another server; both workers see the grant.
        let (first, second) = tokio::join!(
            folder.approve(&one.url, &folder.carol, request),
            folder.approve(&other.url, &folder.dora, request)
        );
        assert!([first, second].contains(&200), "{first} {second}");
        let (here, there) =
            tokio::join!(folder.result(&one.url, request), folder.result(&other.url, request));
        assert_eq!((&here["status"], &here["call"]), (&json!("done"), &there["call"]), "{here} {there}");
    }
    let acts = folder.system.acts();
    assert_eq!(acts.into_iter().collect::<Vec<_>>(), (0..8).map(|n| (n, 1)).collect::<Vec<_>>());
    folder.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_takes_over_the_granted_calls_of_one_that_is_killed() {
    let (folder, mut one, other) = two();
    let many: i64 = 40;
    let urls = [one.url.clone(), other.url.clone()];
    let url = |n: i64| if n % 2 == 0 { &urls[0] } else { &urls[1] };
    let requests: Vec<String> = futures::future::join_all((0..many).map(|n| folder.ask(url(n), n))).await;
    folder.system.hold(Hold::Acts);
    for (n, request) in (0..).zip(&requests) {
        assert_eq!(folder.approve(url(n), &folder.carol, request).await, 200);
    }
    // Both are busy with as many as they take on, and the rest waits for whoever is free.
    tokio::task::block_in_place(|| {
        folder.system.until_held(2 * AT_ONCE);
        one.kill();
    });
    folder.system.hold(Hold::Nothing);

    folder.until_in_doubt(&other.url, AT_ONCE).await;
    let results =
        futures::future::join_all(requests.iter().map(|request| folder.result(&other.url, request))).await;
    let rest = requests.len() - AT_ONCE;
    assert_eq!((statuses(&results, "done"), statuses(&results, "in_doubt")), (rest, AT_ONCE), "{results:?}");
    let acts = folder.system.acts();
    assert_eq!(acts.len(), requests.len());
    assert!(acts.values().all(|times| *times == 1), "{acts:?}");

    // One that comes back repeats nothing.
    let again = folder.serve();
    for (request, result) in requests.iter().zip(&results) {
        assert_eq!(folder.result(&again.url, request).await["status"], result["status"]);
    }
    assert_eq!(folder.system.acts(), acts);
    folder.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_at_one_server_stops_the_next_call_at_the_other() {
    let (folder, one, other) = two();
    assert_eq!(folder.call(&other.url, "act", 1).await.unwrap()["status"], "done");
    crate::acting::must(&one, &folder.carol, &["halt", "ada", "--why", "drill"]);
    assert_eq!(folder.call(&other.url, "act", 2).await.unwrap()["status"], "halted");
    crate::acting::must(&other, &folder.carol, &["resume", "ada"]);
    assert_eq!(folder.call(&one.url, "act", 3).await.unwrap()["status"], "done");
    assert_eq!(folder.system.acts().len(), 2);
    folder.verify();
}
