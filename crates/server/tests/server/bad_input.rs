//! What does not fit is refused with a stable code, and nothing is half done.

use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::rig::{Rig, read};

async fn send(rig: &Rig, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
    let request = rig.request("clerk", Method::POST, "/v1/calls").header(CONTENT_TYPE, "application/json");
    read(request.body(body).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_two_readers_could_read_differently_are_refused() {
    let rig = Rig::new().await;
    let deep =
        format!(r#"{{"tool":"add_note","arguments":{{"text":{}{}}}}}"#, "[".repeat(200), "]".repeat(200));
    let bodies: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "invalid JSON"),
        (b"{".to_vec(), "invalid JSON"),
        (b"{\"tool\":\"add_note\"} {}".to_vec(), "invalid JSON"),
        (br#"{"tool":"add_note","tool":"items"}"#.to_vec(), "stands twice"),
        (br#"{"tool":"add_note","arguments":{"text":"a","\u0074ext":"b"}}"#.to_vec(), "stands twice"),
        (b"{\"tool\":\"add_note\",\"arguments\":{\"text\":\"\xff\"}}".to_vec(), "UTF-8"),
        (deep.into_bytes(), "nested deeper"),
        (br#"{"tool":"add_note","arguments":{"text":9007199254740993}}"#.to_vec(), "beyond"),
        (br#"{"tool":"add_note","arguments":{"text":"\ud800"}}"#.to_vec(), "surrogate"),
        (br#"{"tool":7}"#.to_vec(), "invalid type"),
        (br#"["add_note"]"#.to_vec(), "R020"),
        (br#"{"arguments":{}}"#.to_vec(), "missing field"),
        (br#"{"tool":"add_note","agent":"other"}"#.to_vec(), "unknown field"),
    ];
    for (body, words) in bodies {
        let shown = String::from_utf8_lossy(&body).chars().take(80).collect::<String>();
        let (status, answer) = send(&rig, body).await;
        assert_eq!((status, &answer["code"]), (StatusCode::BAD_REQUEST, &json!("R020")), "{shown}: {answer}");
        let said = answer.to_string();
        assert!(said.contains(words), "{shown}: {said}");
        assert_eq!(answer["type"], "urn:countersign:error:R020");
    }
    assert_eq!(rig.count("select count(*) from note"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_bodies_and_other_types_are_refused() {
    let rig = Rig::new().await;
    let (status, body) = send(&rig, vec![b' '; 3 * 1024 * 1024]).await;
    assert_eq!((status, &body["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("R020")));
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        let request = rig.request("clerk", Method::POST, "/v1/calls").header(CONTENT_TYPE, kind);
        let (status, body) = read(request.body(r#"{"tool":"items"}"#).send().await.unwrap()).await;
        assert_eq!((status, &body["code"]), (StatusCode::UNSUPPORTED_MEDIA_TYPE, &json!("R020")), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_tools_that_do_not_fit_are_refused_and_recorded() {
    let rig = Rig::new().await;
    for arguments in [
        json!({}),
        json!({ "text": 7 }),
        json!({ "text": "x".repeat(41) }),
        json!({ "text": "a", "more": 1 }),
        json!([]),
        json!("a"),
        json!(null),
        json!({ "text": "a", "_reason": 7 }),
    ] {
        let (status, body) = rig.call("add_note", arguments.clone()).await;
        assert_eq!(
            (status, &body["code"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("R002")),
            "{arguments}: {body}"
        );
    }
    for tool in ["", "nothing", "ADD_NOTE", "add_note; drop table note", &"x".repeat(5_000)] {
        let (status, body) = rig.call(tool, json!({})).await;
        assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("R001")), "{tool}");
        assert!(body.to_string().len() < 1_000);
    }
    assert_eq!(rig.count("select count(*) from note"), 0);
    let (_, entries) = rig.get("alice", "/v1/log/entries?kind=call_rejected").await;
    assert_eq!(entries["entries"].as_array().unwrap().len(), 13, "{entries}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_queries_and_ids_that_do_not_fit_are_refused() {
    let rig = Rig::new().await;
    for (who, path, status, code) in [
        ("clerk", "/v1/nothing", 404, "R018"),
        ("clerk", "/v1/approvals/apr-000000000000", 404, "R018"),
        ("clerk", "/v1/approvals/%00/result", 404, "R018"),
        ("clerk", "/v1/approvals/..%2f..%2fetc/result", 404, "R018"),
        ("clerk", "/v1/calls/call-1", 404, "R018"),
        ("alice", "/v1/approvals?state=open", 400, "R020"),
        ("alice", "/v1/approvals?person=bob", 400, "R020"),
        ("alice", "/v1/calls?limit=x", 400, "R020"),
        ("alice", "/v1/log/entries?agent=%20", 400, "R020"),
        ("alice", "/v1/log/entries?kind=a%00b", 400, "R020"),
        ("alice", "/v1/log/entries/99999999/receipt", 404, "R018"),
        ("alice", "/log/tile/0/999.p/3", 404, "R018"),
        ("alice", "/log/tile/entries/../../x", 404, "R018"),
    ] {
        let (found, body) = rig.get(who, path).await;
        assert_eq!((found.as_u16(), &body["code"]), (status, &json!(code)), "{path}: {body}");
    }
    let (status, body) = read(rig.request("clerk", Method::PUT, "/v1/calls").send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (StatusCode::METHOD_NOT_ALLOWED, &json!("R020")));
    // On PostgreSQL a text with U+0000 could not even be looked for.
    let (status, body) =
        read(rig.request("alice", Method::DELETE, "/v1/keys/a%00b").send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("R020")), "{body}");
    let (status, _) = rig.post("alice", "/v1/halts", json!({ "why": "x" })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "whom?");
    let (status, _) =
        rig.post("alice", "/v1/halts", json!({ "why": "x", "all": true, "agent": "clerk" })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "one or all?");
}
