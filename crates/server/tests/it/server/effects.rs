//! ALLOW acts exactly once, DENY never, ASK not until people have approved and then once.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    place::{Place, on_either_store},
    server::rig::{Rig, read},
};

on_either_store!(async
    what_is_allowed_happens_once,
    what_is_denied_never_happens_and_says_by_which_policy,
    what_is_asked_happens_once_after_approval_and_not_before,
    a_call_can_wait_for_its_approval,
    a_refusal_and_its_reason_reach_the_agent,
    an_approver_sees_what_would_be_done_and_whose_claim_is_what,
    a_parked_call_survives_a_restart,
    a_flood_of_refused_calls_leaves_a_bounded_log,
    an_agent_that_names_a_new_session_in_each_call_is_held_back,
    an_approval_does_not_outlive_a_change_of_policies,
    a_signature_counts_while_its_signer_does,
    a_wait_ends_with_its_key,
    fifty_equal_calls_at_once_open_one_request,
    a_halt_stops_the_next_decision_and_only_operators_resume,
    a_stopping_server_takes_no_calls,
);

async fn what_is_allowed_happens_once(place: Place) {
    let rig = Rig::on(place).await;
    let (status, body) = rig.call("add_note", json!({ "text": "a", "_reason": "to remember" })).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("done")), "{body}");
    assert_eq!(rig.count("select count(*) from note"), 1);

    let (status, body) = rig.call("items", json!({})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["result"]["rows"].as_array().unwrap().len(), 3, "{body}");
}

async fn what_is_denied_never_happens_and_says_by_which_policy(place: Place) {
    let rig = Rig::on(place).await;
    let (status, body) = rig.call("rename_item", json!({ "id": 1, "name": "x" })).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!((&body["status"], &body["code"]), (&json!("blocked"), &json!("R004")));
    assert_eq!(body["policies"], json!(["test:never"]));
    assert!(body["message"].as_str().unwrap().contains("items keep their names"), "{body}");
    assert_eq!(rig.count("select count(*) from item where name = 'x'"), 0);
}

async fn what_is_asked_happens_once_after_approval_and_not_before(place: Place) {
    let rig = Rig::on(place).await;
    let arguments = json!({ "name": "quince" });
    let approval = rig.ask("add_item", arguments.clone()).await;
    assert_eq!(rig.ask("add_item", arguments).await, approval, "a retry finds the same request");
    assert_eq!(rig.count("select count(*) from item"), 3);

    let (status, body) = rig.post("alice", &format!("/v1/approvals/{approval}/approve"), json!({})).await;
    assert_eq!((status, &body["state"]), (StatusCode::OK, &json!("approved")), "{body}");
    let (status, body) = rig.result(&approval).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("done")), "{body}");
    assert_eq!(body["approval"], json!(approval));
    let (_, again) = rig.result(&approval).await;
    assert_eq!(again, body, "the result can be fetched again");
    let (status, body) = rig.post("alice", &format!("/v1/approvals/{approval}/approve"), json!({})).await;
    assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R019")), "{body}");
    assert_eq!(rig.count("select count(*) from item"), 4);
}

async fn a_call_can_wait_for_its_approval(place: Place) {
    let rig = Rig::on(place).await;
    let body = json!({ "tool": "delete_item", "arguments": { "id": 2 }, "wait_ms": 5000 });
    let waiting = rig.post("clerk", "/v1/calls", body);
    let approving = async {
        let id = rig.asked().await;
        rig.post("alice", &format!("/v1/approvals/{id}/approve"), json!({})).await
    };
    let ((status, body), _) = tokio::join!(waiting, approving);
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("done")), "{body}");
    assert_eq!(rig.count("select count(*) from item where id = 2"), 0);
}

async fn a_refusal_and_its_reason_reach_the_agent(place: Place) {
    let rig = Rig::on(place).await;
    let approval = rig.ask("delete_item", json!({ "id": 1 })).await;
    let path = format!("/v1/approvals/{approval}/refuse");
    let (status, _) = rig.post("alice", &path, json!({ "reason": " " })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a refusal has a reason");
    let (status, _) = rig.post("alice", &path, json!({ "reason": "apples sell well" })).await;
    assert_eq!(status, StatusCode::OK);
    let (status, body) = rig.result(&approval).await;
    assert_eq!((status, &body["status"]), (StatusCode::FORBIDDEN, &json!("refused")));
    assert!(body["message"].as_str().unwrap().contains("apples sell well"), "{body}");
    let (_, body) = rig.call("delete_item", json!({ "id": 1 })).await;
    assert_eq!(body["status"], "refused", "asking again is no way around: {body}");
    assert_eq!(rig.count("select count(*) from item"), 3);
}

async fn an_approver_sees_what_would_be_done_and_whose_claim_is_what(place: Place) {
    let rig = Rig::on(place).await;
    let approval = rig.ask("delete_item", json!({ "id": 1, "_reason": "it is \u{1b}[31mrotten" })).await;
    let (status, body) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["arguments"], r#"{"id":1}"#);
    assert_eq!(body["reach"]["rows"], 1);
    assert_eq!(body["sample"]["rows"][0][1], "apple", "{body}");
    assert_eq!(body["of"][0]["because"], "it changes what is sold");
    assert_eq!(body["reason_claimed"], "it is \u{1b}[31mrotten");
    assert_eq!(body["session_so_far"][0]["decision"], "ask");
    let (_, own) = rig.get("clerk", &format!("/v1/approvals/{approval}")).await;
    assert_eq!(own["sample"], Value::Null, "the rows are for the approver: {own}");

    let wrong = json!({ "digest": "0".repeat(64) });
    let (status, _) = rig.post("alice", &format!("/v1/approvals/{approval}/approve"), wrong).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "what was looked at is another call");
    let right = json!({ "digest": body["digest"] });
    let (status, _) = rig.post("alice", &format!("/v1/approvals/{approval}/approve"), right).await;
    assert_eq!(status, StatusCode::OK);
}

async fn a_parked_call_survives_a_restart(place: Place) {
    let mut rig = Rig::on(place).await;
    let approval = rig.ask("add_item", json!({ "name": "medlar" })).await;
    rig.stop().await;
    rig.start().await;
    assert_eq!(rig.count("select count(*) from item"), 3);
    let (_, list) = rig.get("alice", "/v1/approvals").await;
    assert_eq!(list["approvals"][0]["approval"], json!(approval));
    rig.post("alice", &format!("/v1/approvals/{approval}/approve"), json!({})).await;
    let (status, body) = rig.result(&approval).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    rig.stop().await;
    rig.start().await;
    assert_eq!(rig.result(&approval).await.1["status"], "done");
    assert_eq!(rig.count("select count(*) from item where name = 'medlar'"), 1);
}

/// A change of its tool, or of a policy that can apply to it, ends what waits at the next start: the approver, the agent and the
/// log are told the same, and a retry asks anew. A change of another tool does not.
async fn an_approval_does_not_outlive_a_change_of_policies(place: Place) {
    let mut rig = Rig::on(place).await;
    let policy = rig.deployment.at("policies/more.cedar");
    let tool = rig.deployment.at("tools/shop.toml");
    let tools = std::fs::read_to_string(&tool).unwrap();
    let unrelated = rig.ask("add_item", json!({ "name": "apricot" })).await;
    rig.stop().await;
    std::fs::write(&policy, "permit (principal, action == Action::\"items\", resource);").unwrap();
    std::fs::write(&tool, tools.replace("Every item.", "Each item.")).unwrap();
    rig.start().await;
    assert_eq!(rig.ask("add_item", json!({ "name": "apricot" })).await, unrelated, "it waits as before");
    rig.post("alice", &format!("/v1/approvals/{unrelated}/approve"), json!({})).await;
    assert_eq!(rig.result(&unrelated).await.1["status"], "done");
    assert_eq!(rig.count("select count(*) from item where name = 'apricot'"), 1);

    let permit = "permit (principal, action in Action::\"call\", resource is System);".to_owned();
    let described = tools.replace("Adds an item.", "Adds one item.");
    for (name, file, text) in [("medlar", policy, permit), ("quince", tool, described)] {
        let arguments = json!({ "name": name });
        let approval = rig.ask("add_item", arguments.clone()).await;
        rig.stop().await;
        std::fs::write(file, text).unwrap();
        rig.start().await;
        let (_, list) = rig.get("alice", "/v1/approvals").await;
        assert!(
            !list.to_string().contains(&approval),
            "nothing is left that would be approved in vain: {list}"
        );
        let (_, shown) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
        let why = shown["why"].as_str().unwrap();
        assert!(why.contains("a policy that can apply to it"), "{why}");
        assert_eq!(shown["state"], "superseded", "{shown}");
        let (status, told) = rig.post("alice", &format!("/v1/approvals/{approval}/approve"), json!({})).await;
        assert_eq!((status, &told["code"]), (StatusCode::FORBIDDEN, &json!("R019")), "{told}");
        assert!(told["detail"].as_str().unwrap().contains(why), "{told}");
        let again = rig.ask("add_item", arguments.clone()).await;
        assert_ne!(again, approval, "a retry asks anew");
        let (status, body) = rig.result(&approval).await;
        assert_eq!((status, &body["status"]), (StatusCode::CONFLICT, &json!("superseded")), "{body}");
        assert!(body["message"].as_str().unwrap().contains(why), "{body}");
        let (_, ended) = rig.get("alice", "/v1/log/entries?kind=request_ended").await;
        let ended = ended["entries"].as_array().unwrap();
        let of_it = ended.iter().filter(|entry| entry.to_string().contains(&approval));
        assert_eq!(of_it.count(), 1, "one entry tells of it: {ended:?}");
        assert_eq!(rig.ask("add_item", arguments).await, again);
    }
    assert_eq!(rig.count("select count(*) from item"), 4);
}

async fn an_agent_that_names_a_new_session_in_each_call_is_held_back(place: Place) {
    let main = format!("{}\n[limits]\nsessions_max = 5\n", crate::server::rig::MAIN);
    let mut rig = Rig::made(place, &main).await;
    let call = async |rig: &Rig, agent: &str, session: &str| {
        let body = json!({ "tool": "items", "arguments": {}, "session": session });
        rig.post(agent, "/v1/calls", body).await
    };
    for n in 0..5 {
        assert_eq!(call(&rig, "clerk", &format!("s{n}")).await.0, StatusCode::OK);
    }
    for n in 5..40 {
        let (status, body) = call(&rig, "clerk", &format!("s{n}")).await;
        assert_eq!((status, &body["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("R007")), "{body}");
    }
    // Those that were begun go on, and other agents are not held back.
    assert_eq!(call(&rig, "clerk", "s3").await.0, StatusCode::OK);
    assert_eq!(call(&rig, "other", "s39").await.0, StatusCode::OK);
    rig.stop().await;
    rig.start().await;
    let (_, opened) = rig.get("alice", "/v1/log/entries?kind=session_opened").await;
    assert_eq!(opened["entries"].as_array().unwrap().len(), 6, "{opened}");
    let (_, counted) = rig.get("alice", "/v1/log/entries?kind=refusals_counted").await;
    assert!(counted.to_string().contains("35"), "{counted}");
    // A server that starts anew knows them from the ledger.
    for n in 50..55 {
        assert_eq!(call(&rig, "clerk", &format!("s{n}")).await.0, StatusCode::OK);
    }
    assert_eq!(call(&rig, "clerk", "s55").await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(call(&rig, "clerk", "s4").await.0, StatusCode::OK);
}

async fn a_flood_of_refused_calls_leaves_a_bounded_log(place: Place) {
    let main = format!("{}\n[limits]\nrefusals_max = 20\n", crate::server::rig::MAIN);
    let mut rig = Rig::made(place, &main).await;
    let name = "x".repeat(30 * 1_024);
    let mut told = std::collections::BTreeMap::new();
    for _ in 0..100 {
        let (_, body) = rig.call("rename_item", json!({ "id": 1, "name": name })).await;
        let counted: &mut u64 = told.entry(body["code"].as_str().unwrap().to_owned()).or_default();
        *counted += 1;
    }
    assert_eq!(told, [("R004".to_owned(), 20), ("R007".to_owned(), 80)].into());
    assert_eq!(rig.call("items", json!({})).await.0, StatusCode::OK, "what is allowed goes on");
    rig.stop().await;
    rig.start().await;
    let entries = async |kind: &str| {
        let path = format!("/v1/log/entries?limit=1000&kind={kind}");
        rig.get("alice", &path).await.1["entries"].as_array().unwrap().clone()
    };
    let proposed = entries("call_proposed").await;
    let refused: Vec<_> = proposed.iter().filter(|entry| entry.to_string().contains("rename_item")).collect();
    assert_eq!(refused.len(), 20);
    assert!(refused.iter().all(|entry| entry.to_string().len() < 4_096), "{}", refused[0]);
    assert!(refused[0].to_string().contains("arguments_digest"), "{}", refused[0]);
    let counted = entries("refusals_counted").await;
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert!(counted[0].to_string().contains("\"count\":80"), "{counted:?}");
    assert_eq!(rig.count("select count(*) from item where name like 'x%'"), 0);
}

async fn a_wait_ends_with_its_key(place: Place) {
    let rig = Rig::on(place).await;
    let body = json!({ "tool": "delete_item", "arguments": { "id": 2 }, "wait_ms": 5000 });
    let waiting = rig.post("clerk", "/v1/calls", body);
    let approving = async {
        let id = rig.asked().await;
        rig.revoke("alice", "clerk").await;
        rig.post("alice", &format!("/v1/approvals/{id}/approve"), json!({})).await
    };
    let ((status, body), _) = tokio::join!(waiting, approving);
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    assert!(body.get("result").is_none(), "{body}");
}

/// `alice` signs one of two, her key is revoked, and `bob` signs as well: that is one.
async fn a_signature_counts_while_its_signer_does(place: Place) {
    let mut rig = Rig::on(place).await;
    let path = rig.deployment.at("policies/test.cedar");
    let two = std::fs::read_to_string(&path)
        .unwrap()
        .replace("@ask(\"approvers\")", "@ask(\"approvers\") @quorum(\"2\")");
    std::fs::write(&path, two).unwrap();
    let main = rig.deployment.at("countersign.toml");
    let more = std::fs::read_to_string(&main).unwrap().replace(
        "groups = [\"auditors\"]",
        "groups = [\"auditors\", \"approvers\"]\nroles = [\"approver\", \"operator\", \"admin\"]",
    );
    std::fs::write(&main, more).unwrap();
    rig.stop().await;
    rig.start().await;
    for (name, revoked) in [("quince", false), ("medlar", true)] {
        let (_, body) = rig
            .post("other", "/v1/calls", json!({ "tool": "add_item", "arguments": { "name": name } }))
            .await;
        let approval = body["approval"].as_str().unwrap().to_owned();
        let approve = format!("/v1/approvals/{approval}/approve");
        let (status, body) = rig.post("alice", &approve, json!({})).await;
        assert_eq!((status, &body["state"]), (StatusCode::OK, &json!("waiting")), "{body}");
        if revoked {
            rig.revoke("bob", "alice").await;
        }
        let (status, body) = rig.post("bob", &approve, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let result = format!("/v1/approvals/{approval}/result?wait_ms=5000");
        let (_, body) = rig.get("other", &result).await;
        let count = rig.count(&format!("select count(*) from item where name = '{name}'"));
        assert_eq!(
            (&body["status"], count),
            (&json!(if revoked { "superseded" } else { "done" }), i64::from(!revoked)),
            "{body}"
        );
    }
}

async fn fifty_equal_calls_at_once_open_one_request(place: Place) {
    let rig = Rig::on(place).await;
    let calls = (0..50).map(|_| rig.ask("add_item", json!({ "name": "fig" })));
    let requests = futures::future::join_all(calls).await;
    assert!(requests.iter().all(|id| *id == requests[0]));
    rig.post("alice", &format!("/v1/approvals/{}/approve", requests[0]), json!({})).await;
    assert_eq!(rig.result(&requests[0]).await.0, StatusCode::OK);
    assert_eq!(rig.count("select count(*) from item where name = 'fig'"), 1);
}

async fn a_halt_stops_the_next_decision_and_only_operators_resume(place: Place) {
    let rig = Rig::on(place).await;
    let halt = json!({ "agent": "clerk", "why": "it runs wild" });
    assert_eq!(rig.post("bob", "/v1/halts", halt).await.0, StatusCode::OK);
    let (status, body) = rig.call("items", json!({})).await;
    assert_eq!((status, &body["status"]), (StatusCode::FORBIDDEN, &json!("halted")));
    assert!(body["message"].as_str().unwrap().contains("it runs wild"), "{body}");
    let resume = |who| rig.request(who, Method::DELETE, "/v1/halts?agent=clerk").send();
    let (status, body) = read(resume("bob").await.unwrap()).await;
    assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R016")));
    assert_eq!(resume("alice").await.unwrap().status(), StatusCode::OK);
    assert_eq!(resume("alice").await.unwrap().status(), StatusCode::NOT_FOUND);
    // Whom an agent acts for does not let it go on, alone or with all.
    for (agent, scope) in [
        (json!({ "agent": "clerk", "why": "x" }), "agent=clerk"),
        (json!({ "all": true, "why": "x" }), "all=true"),
    ] {
        assert_eq!(rig.post("bob", "/v1/halts", agent).await.0, StatusCode::OK);
        let path = format!("/v1/halts?{scope}");
        let (status, body) = read(rig.request("owner", Method::DELETE, &path).send().await.unwrap()).await;
        assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R016")), "{body}");
        let (status, _) = read(rig.request("alice", Method::DELETE, &path).send().await.unwrap()).await;
        assert_eq!(status, StatusCode::OK);
    }
    assert_eq!(rig.call("items", json!({})).await.0, StatusCode::OK);
}

async fn a_stopping_server_takes_no_calls(place: Place) {
    let rig = Rig::on(place).await;
    rig.running().stopping().cancel();
    rig.running().app.identify(&http::HeaderMap::new()).await.unwrap_err();
    let refused = rig.request("", Method::GET, "/readyz").send().await;
    assert!(refused.is_err() || refused.unwrap().status() == StatusCode::SERVICE_UNAVAILABLE);
}
