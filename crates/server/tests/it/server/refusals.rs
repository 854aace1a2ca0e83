//! A person's no holds for what a call does, however it is spelled, and approvers see what was answered before.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{place::Place, server::rig::Rig};

const QUERY: &str = r#"
[tool.query]
system = "shop"
description = "Runs a statement."
effect = "from_statement"
tables = ["item", "note"]
"#;

const ASK: &str = r#"
@id("queries") @ask("approvers") @because("agents write these")
permit (principal, action == Action::"query", resource);
"#;

/// Proposes a call in a session, of which nothing is said where it is empty.
async fn call(rig: &Rig, session: &str, tool: &str, arguments: Value) -> (StatusCode, Value) {
    let mut body = json!({ "tool": tool, "arguments": arguments });
    if !session.is_empty() {
        body["session"] = session.into();
    }
    rig.post("clerk", "/v1/calls", body).await
}

async fn refuse(rig: &Rig, approval: &Value, reason: &str) {
    let path = format!("/v1/approvals/{}/refuse", approval.as_str().unwrap());
    let (status, body) = rig.post("alice", &path, json!({ "reason": reason })).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

async fn holds(place: Place) {
    let mut rig = Rig::more(place, QUERY, ASK).await;
    let (status, asked) = call(&rig, "", "query", json!({ "sql": "delete from item where id = 1" })).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{asked}");
    refuse(&rig, &asked["approval"], "apples stay").await;
    let spellings = [
        "delete from item where id = 1",
        "delete  from item where id = 1",
        "DELETE FROM Item WHERE (id = 0x1);",
        "delete from item /* once more */ where \"id\" = 1 -- please",
    ];
    for restarted in [false, true] {
        if restarted {
            rig.stop().await;
            rig.start().await;
        }
        for (session, sql) in ["", "a", "b"].into_iter().flat_map(|s| spellings.map(|sql| (s, sql))) {
            let (status, body) = call(&rig, session, "query", json!({ "sql": sql })).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{session} {sql}: {body}");
            assert_eq!(body["code"], "R009", "{sql}: {body}");
            assert!(body["message"].as_str().unwrap().contains("apples stay"), "{body}");
        }
    }
    // It says nothing of what others do, nor of another row.
    let sql = json!({ "sql": "delete from item where id = 2" });
    let (status, other) = call(&rig, "a", "query", sql.clone()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{other}");
    let (_, list) = rig.get("alice", "/v1/approvals").await;
    let (_, shown) =
        rig.get("alice", &format!("/v1/approvals/{}", other["approval"].as_str().unwrap())).await;
    for body in [&list["approvals"][0], &shown] {
        let before = &body["answered_before"][0];
        assert_eq!(before["approval"], asked["approval"], "{body}");
        assert_eq!((&before["approved"], &before["same_call"]), (&json!(false), &json!(false)), "{body}");
        assert_eq!((&before["person"], &before["comment"]), (&json!("alice"), &json!("apples stay")));
    }
    let (status, body) = rig.post("other", "/v1/calls", json!({ "tool": "query", "arguments": sql })).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert_eq!(rig.count("select count(*) from item"), 3);
    rig.stop().await;
}

#[tokio::test]
async fn a_no_holds_for_every_spelling_and_session() {
    holds(Place::sqlite()).await;
}

#[tokio::test]
async fn a_no_holds_for_every_spelling_and_session_with_a_ledger_on_postgres() {
    holds(Place::postgres()).await;
}

#[tokio::test]
async fn a_no_holds_for_arguments_that_differ_in_what_is_not_seen() {
    let mut rig = Rig::new().await;
    let (_, asked) = call(&rig, "", "add_item", json!({ "name": "red apple" })).await;
    refuse(&rig, &asked["approval"], "no more apples").await;
    for name in ["red apple", " red  apple", "red\u{200b} apple\n"] {
        let (status, body) = call(&rig, "x", "add_item", json!({ "name": name })).await;
        assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R009")), "{name:?}: {body}");
    }
    let (status, body) = call(&rig, "x", "add_item", json!({ "name": "Red apple" })).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    rig.stop().await;
}
