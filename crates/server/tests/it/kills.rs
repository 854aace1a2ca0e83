//! A server that is killed with `SIGKILL` at any point of a call's way: at most one effect, and none that
//! nobody knows of.

use crate::{
    acting::{Folder, Hold, must},
    place::{Place, on_either_store},
};

on_either_store!(async
    a_kill_between_intent_and_outcome_leaves_a_doubt_and_at_most_one_effect,
    a_kill_before_the_intent_leaves_the_grant_to_the_next_process,
);

async fn a_kill_between_intent_and_outcome_leaves_a_doubt_and_at_most_one_effect(place: Place) {
    let folder = Folder::new(place);
    let mut requests = Vec::new();
    // The intent is recorded and nothing sent; or the effect had and nothing recorded. A granted call looks
    // once more when it is decided again.
    for (doubts, (n, tool, hold)) in (1..).zip([
        (1, "act", Hold::Looks(0)),
        (2, "act", Hold::Acts),
        (3, "asked", Hold::Looks(1)),
        (4, "asked", Hold::Acts),
    ]) {
        let mut server = folder.serve();
        let url = server.url.clone();
        let request = match tool {
            "asked" => Some(folder.ask(&url, n).await),
            _ => None,
        };
        folder.system.hold(hold);
        let system = folder.system.clone();
        let killing = tokio::task::spawn_blocking(move || {
            system.until_held(1);
            server.kill();
        });
        match &request {
            Some(request) => assert_eq!(folder.approve(&url, &folder.carol, request).await, 200),
            None => assert_eq!(folder.call(&url, tool, n).await, None, "the server is gone"),
        }
        killing.await.unwrap();
        folder.system.hold(Hold::Nothing);

        let mut server = folder.serve();
        folder.until_in_doubt(&server.url, doubts).await;
        let had = usize::from(hold == Hold::Acts);
        assert_eq!(folder.system.acts().get(&n).copied().unwrap_or_default(), had, "{tool} {hold:?}");
        if let Some(request) = request {
            let told = folder.result(&server.url, &request).await;
            assert_eq!((&told["status"], &told["code"]), (&"in_doubt".into(), &"F003".into()), "{told}");
            requests.push((request, n, had));
        }
        server.kill();
    }
    // What may have been spent counts as spent, until a person has looked.
    let server = folder.serve();
    let budgets = folder.look(&server.url, "budgets").await;
    assert_eq!((&budgets["accounts"][0]["held"], &budgets["accounts"][0]["spent"]), (&2.into(), &0.into()));
    for (request, n, had) in requests {
        let told = folder.result(&server.url, &request).await;
        let finding = if had == 1 { "--happened" } else { "--did-not-happen" };
        let call = told["call"].as_str().unwrap();
        must(&server, &folder.carol, &["calls", "resolve", call, finding, "--comment", "looked"]);
        assert_eq!(folder.system.acts().get(&n).copied().unwrap_or_default(), had, "never repeated");
    }
    folder.until_in_doubt(&server.url, 2).await;
    assert!(folder.verify() > 20);
}

async fn a_kill_before_the_intent_leaves_the_grant_to_the_next_process(place: Place) {
    let folder = Folder::new(place);
    let mut server = folder.serve();
    let request = folder.ask(&server.url, 7).await;
    // Held while the granted call is measured for its second decision.
    folder.system.hold(Hold::Looks(0));
    assert_eq!(folder.approve(&server.url, &folder.carol, &request).await, 200);
    folder.system.until_held(1);
    server.kill();
    folder.system.hold(Hold::Nothing);
    assert_eq!(folder.system.acts().get(&7), None);

    let mut server = folder.serve();
    let done = folder.result(&server.url, &request).await;
    assert_eq!(done["status"], "done", "{done}");
    // Nor is it repeated by the next one.
    server.kill();
    let server = folder.serve();
    assert_eq!(folder.result(&server.url, &request).await, done);
    assert_eq!(folder.system.acts().get(&7), Some(&1));
    folder.verify();
}
