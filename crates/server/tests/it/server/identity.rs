//! Who may do what: by credential, and by nothing else.

use reqwest::{Method, StatusCode, header::WWW_AUTHENTICATE};
use serde_json::json;

use crate::server::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_key_nothing_is_answered() {
    let rig = Rig::new().await;
    for who in ["", "expired", "revoked", "ghost", "odd"] {
        for (method, path) in [
            (Method::GET, "/v1/tools"),
            (Method::GET, "/v1/approvals"),
            (Method::GET, "/v1/log/entries"),
            (Method::GET, "/v1/events"),
            (Method::POST, "/v1/calls"),
            (Method::POST, "/v1/halts"),
        ] {
            let response = rig.request(who, method, path).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{who} {path}");
            assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        }
    }
    let good = rig.key("clerk");
    let (head, last) = good.split_at(good.len() - 1);
    let wrong = format!("{head}{}", if last == "0" { "1" } else { "0" });
    for credential in [wrong.as_str(), head, "csk_", "csk_x_y", "x", ""] {
        let request = reqwest::Client::new().get(rig.url("/v1/tools")).bearer_auth(credential);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{credential}");
    }
    let query = reqwest::Client::new().get(rig.url(&format!("/v1/tools?access_token={good}")));
    assert_eq!(query.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_cannot_answer_and_people_cannot_propose() {
    let rig = Rig::new().await;
    let approval = rig.ask("add_item", json!({ "name": "fig" })).await;
    for who in ["clerk", "other", "scoped"] {
        for what in ["approve", "refuse"] {
            let path = format!("/v1/approvals/{approval}/{what}");
            let (status, body) = rig.post(who, &path, json!({ "reason": "x" })).await;
            assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R016")), "{who} {what}");
        }
    }
    let (status, body) = rig.post("alice", "/v1/calls", json!({ "tool": "items" })).await;
    assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R016")));
    let (_, body) = rig.get("clerk", &format!("/v1/approvals/{approval}/result")).await;
    assert_eq!(body["state"], "waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_asked_can_answer_and_nobody_for_their_own_agent() {
    let rig = Rig::new().await;
    let approval = rig.ask("add_item", json!({ "name": "fig" })).await;
    let path = format!("/v1/approvals/{approval}/approve");
    let (status, _) = rig.post("bob", &path, json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "in no group that is asked");
    assert_eq!(rig.get("bob", "/v1/approvals").await.1["approvals"], json!([]));
    let (status, body) = rig.post("owner", &path, json!({})).await;
    assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R019")), "{body}");
    for body in [
        json!({ "person": "alice" }),
        json!({ "approver": "alice" }),
        json!({ "groups": ["approvers"] }),
        json!({ "signature": { "person": "alice" } }),
    ] {
        let (status, answer) = rig.post("owner", &path, body.clone()).await;
        assert_eq!((status, &answer["code"]), (StatusCode::BAD_REQUEST, &json!("R020")), "{body}");
    }
    assert_eq!(rig.count("select count(*) from item"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sees_its_own_and_nothing_of_others() {
    let rig = Rig::new().await;
    let approval = rig.ask("add_item", json!({ "name": "fig" })).await;
    let (_, done) = rig.call("items", json!({})).await;
    let call = done["call"].as_str().unwrap();
    for path in [
        format!("/v1/approvals/{approval}"),
        format!("/v1/approvals/{approval}/result"),
        format!("/v1/calls/{call}"),
    ] {
        assert_eq!(rig.get("clerk", &path).await.0.as_u16() / 100, 2, "{path}");
        let (status, body) = rig.get("other", &path).await;
        assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("R018")), "{path}");
    }
    assert_eq!(rig.get("other", "/v1/approvals").await.1["approvals"], json!([]));
    let (_, seen) = rig.get("bob", &format!("/v1/calls/{call}")).await;
    assert!(seen["outcome"].get("reply").is_none(), "results are for the agent: {seen}");
    for path in ["/v1/log/entries", "/v1/log/checkpoint", "/log/tile/0/000.p/1", "/v1/budgets", "/v1/halts"] {
        assert_eq!(rig.get("clerk", path).await.0, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_key_reaches_its_tools_alone() {
    let rig = Rig::new().await;
    let (_, tools) = rig.get("scoped", "/v1/tools").await;
    let names: Vec<&str> =
        tools["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["items"]);
    let (status, body) =
        rig.post("scoped", "/v1/calls", json!({ "tool": "add_note", "arguments": { "text": "x" } })).await;
    assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("R001")));
    assert_eq!(rig.count("select count(*) from note"), 0);
    assert_eq!(rig.post("scoped", "/v1/calls", json!({ "tool": "items" })).await.0, StatusCode::OK);
    let (_, tools) = rig.get("clerk", "/v1/tools").await;
    let listed = tools["tools"].as_array().unwrap();
    assert!(listed.iter().all(|tool| tool["name"] != "rename_item"), "what is always denied is not offered");
    assert!(listed.iter().all(|tool| tool["arguments"]["properties"].get("countersign_reason").is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_key_sees_nothing_of_what_its_agent_does_with_other_tools() {
    let rig = Rig::new().await;
    let approval = rig.ask("delete_item", json!({ "id": 1 })).await;
    let paths = [format!("/v1/approvals/{approval}"), format!("/v1/approvals/{approval}/result?wait_ms=0")];
    for path in &paths {
        assert_eq!(rig.get("scoped", path).await.0, StatusCode::NOT_FOUND, "{path}");
        assert_ne!(rig.get("clerk", path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (_, listed) = rig.get("scoped", "/v1/approvals?state=all").await;
    assert_eq!(listed["approvals"], json!([]), "{listed}");
    // Nor does it use up the answer.
    assert_eq!(
        rig.post("alice", &format!("/v1/approvals/{approval}/approve"), json!({})).await.0,
        StatusCode::OK
    );
    let done = rig.result(&approval).await.1;
    let call = done["call"].as_str().unwrap();
    assert_eq!(rig.get("scoped", &format!("/v1/calls/{call}")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(rig.get("scoped", &paths[1]).await.0, StatusCode::NOT_FOUND);
    let undo = format!("/v1/calls/{call}/undo");
    assert_eq!(rig.post("scoped", &undo, json!({})).await.0, StatusCode::NOT_FOUND);
    assert_ne!(rig.post("clerk", &undo, json!({})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(rig.get("clerk", &paths[1]).await.1["status"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_and_other_names_are_refused() {
    let rig = Rig::new().await;
    let with = |name, value: &str| rig.request("clerk", Method::GET, "/v1/tools").header(name, value).send();
    assert_eq!(with("host", "evil.example").await.unwrap().status(), StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(with("origin", "http://evil.example").await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(with("origin", "null").await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(with("origin", &rig.url("")).await.unwrap().status(), StatusCode::OK);
}
