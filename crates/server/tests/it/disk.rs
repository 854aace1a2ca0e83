//! A disk that fills up, or can no longer be written, while a server uses it. The system refuses every write beyond
//! what is said, to the real server with its real file; reading goes on.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    acting::{Folder, Hold},
    place::Place,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_be_written_refuses_everything_that_must_be_recorded_and_recovers() {
    // Nothing at all can be written (as when a disk turns read-only), or nothing more than there is.
    for most in [0, 16 * 1024] {
        let folder = Folder::new(Place::sqlite());
        let server = folder.serve_on_a_disk_with_limits();
        let url = server.url.clone();
        let waiting = folder.ask(&url, 1).await;
        // What is proved now does not stand when a call could not be recorded.
        assert_eq!(folder.status(&format!("{url}/readyz")).await, 200);

        server.limit_files(Some(most));
        let failed =
            |refused: &Value| (&refused["status"], &refused["code"]) == (&json!("failed"), &json!("F001"));
        for _ in 0..2 {
            let refused = folder.call(&url, "act", 2).await.unwrap();
            assert!(failed(&refused), "{refused}");
        }
        // Where the disk failed while the request was synced, nobody knows whether it stands.
        let asked = folder.call(&url, "asked", 3).await.unwrap();
        let unknown = (&asked["status"], &asked["code"]) == (&json!("unknown"), &json!("F008"));
        assert!(unknown || failed(&asked), "{asked}");
        let (status, refused) =
            folder.post(&format!("{url}/v1/approvals/{waiting}/approve"), json!({})).await;
        assert_eq!((status, &refused["code"]), (503, &json!("F008")), "{refused}");
        let halt = json!({ "agent": "ada", "why": "enough" });
        let (status, refused) = folder.post(&format!("{url}/v1/halts"), halt).await;
        assert_eq!((status, &refused["code"]), (503, &json!("F008")), "{refused}");
        assert_eq!(folder.status(&format!("{url}/readyz")).await, 503, "with {most} bytes");
        assert_eq!(folder.status(&format!("{url}/healthz")).await, 200);
        assert_eq!(folder.system.acts(), BTreeMap::new(), "nothing is done that is not recorded");
        // What is there can be read.
        assert_eq!(folder.look(&url, &format!("approvals/{waiting}")).await["state"], "waiting");

        server.limit_files(None);
        assert_eq!(folder.status(&format!("{url}/readyz")).await, 200);
        let stands = folder.look(&url, "approvals").await["approvals"].as_array().unwrap().len() > 1;
        assert!(unknown || !stands, "people are asked, and the agent was told that nothing was done");
        let done = folder.call(&url, "act", 2).await.unwrap();
        assert_eq!(done["status"], "done", "{done}");
        assert_eq!(folder.approve(&url, &folder.carol, &waiting).await, 200);
        assert_eq!(folder.result(&url, &waiting).await["status"], "done");
        assert_eq!(folder.system.acts(), BTreeMap::from([(1, 1), (2, 1)]));
        assert_eq!(folder.look(&url, "calls?state=in_doubt").await["calls"], json!([]));
        let budgets = folder.look(&url, "budgets").await;
        assert_eq!(
            (&budgets["accounts"][0]["spent"], &budgets["accounts"][0]["held"]),
            (&json!(1), &json!(0))
        );
        assert_eq!(server.terminate(), Some(0));
        folder.verify();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_while_a_call_is_under_way_leaves_it_in_doubt_and_it_is_not_repeated() {
    let folder = Folder::new(Place::sqlite());
    let mut server = folder.serve_on_a_disk_with_limits();
    let url = server.url.clone();
    folder.system.hold(Hold::Acts);
    let calling = folder.call(&url, "act", 5);
    let filling = async {
        let system = folder.system.clone();
        tokio::task::spawn_blocking(move || system.until_held(1)).await.unwrap();
        server.limit_files(Some(0));
        folder.system.hold(Hold::Nothing);
    };
    let (answer, ()) = tokio::join!(calling, filling);
    let answer = answer.unwrap();
    assert_eq!((&answer["status"], &answer["code"]), (&json!("in_doubt"), &json!("F003")), "{answer}");
    server.limit_files(None);
    server.kill();

    let server = folder.serve();
    folder.until_in_doubt(&server.url, 1).await;
    assert_eq!(folder.system.acts(), BTreeMap::from([(5, 1)]));
    let budgets = folder.look(&server.url, "budgets").await;
    assert_eq!(budgets["accounts"][0]["held"], json!(1), "what it may have used stays reserved");
    assert_eq!(server.terminate(), Some(0));
    folder.verify();
}
