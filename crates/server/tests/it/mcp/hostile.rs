//! Whatever is sent, the answer is clear, nothing is performed, and the server lives on.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::mcp::world::{self, Agent, World, text};

#[tokio::test]
async fn nobody_is_let_in_without_a_credential() {
    let world = World::start().await;
    let call = world::call("allowed", 1).to_string();
    for (credential, says) in [
        (None, None),
        (Some("Bearer ck_nosuchkey"), Some("invalid_token")),
        (Some("Basic YWRhOnNlY3JldA=="), Some("invalid_token")),
        (Some("Bearer "), Some("invalid_token")),
    ] {
        for method in [Method::POST, Method::GET, Method::DELETE] {
            let headers = credential.map(|c| ("authorization", c.to_owned())).into_iter().collect::<Vec<_>>();
            let answer = world.raw(method, &headers, call.clone().into_bytes()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            let challenge = answer.headers["www-authenticate"].to_str().unwrap();
            assert!(challenge.starts_with("Bearer "), "{challenge}");
            assert_eq!(says.is_some_and(|says| challenge.contains(says)), says.is_some(), "{challenge}");
            assert_eq!(answer.json()["code"], "R015");
        }
    }
    assert_eq!(world.effects("allowed", 1), 0);
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let world = World::start().await;
    let call = world::call("allowed", 1).to_string().into_bytes();
    for (name, value, status) in [
        ("host", "evil.example", StatusCode::FORBIDDEN),
        ("origin", "http://evil.example", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
        ("origin", "http://127.0.0.1:1", StatusCode::FORBIDDEN),
    ] {
        let mut headers = world.headers(Agent::Ada);
        headers.push((name, value.to_owned()));
        assert_eq!(world.raw(Method::POST, &headers, call.clone()).await.status, status, "{name}: {value}");
    }
    assert_eq!(world.effects("allowed", 1), 0);
    let mut headers = world.headers(Agent::Ada);
    headers.push(("origin", world.origin()));
    assert_eq!(world.raw(Method::POST, &headers, call).await.status, StatusCode::OK);
    assert_eq!(world.effects("allowed", 1), 1);
}

#[tokio::test]
async fn bad_messages_are_answered_with_what_is_wrong() {
    let world = World::start().await;
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"allowed","arguments":{{"n":{}1{}}}}}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let arguments = |arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"allowed","arguments":{arguments}}}}}"#
        )
    };
    let huge = arguments(&format!(r#"{{"n":1,"_reason":"{}"}}"#, "x".repeat(2 << 20)));
    let bodies: Vec<(&str, Vec<u8>, StatusCode, i64)> = vec![
        ("nothing", Vec::new(), StatusCode::BAD_REQUEST, -32700),
        ("no JSON", b"{".to_vec(), StatusCode::BAD_REQUEST, -32700),
        (
            "no UTF-8",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xc3\x28\"}".to_vec(),
            StatusCode::BAD_REQUEST,
            -32700,
        ),
        ("equal keys", arguments(r#"{"n":1,"n":2}"#).into_bytes(), StatusCode::BAD_REQUEST, -32700),
        (
            "a lone surrogate",
            arguments(r#"{"n":1,"_reason":"\ud800"}"#).into_bytes(),
            StatusCode::BAD_REQUEST,
            -32700,
        ),
        (
            "a number beyond a double",
            arguments(r#"{"n":1e999}"#).into_bytes(),
            StatusCode::BAD_REQUEST,
            -32700,
        ),
        ("too deep", deep.into_bytes(), StatusCode::BAD_REQUEST, -32700),
        ("too large", huge.into_bytes(), StatusCode::PAYLOAD_TOO_LARGE, -32600),
        ("a batch", format!("[{}]", world::call("allowed", 1)).into_bytes(), StatusCode::BAD_REQUEST, -32600),
        (
            "no id",
            br#"{"jsonrpc":"2.0","id":null,"method":"tools/list"}"#.to_vec(),
            StatusCode::BAD_REQUEST,
            -32600,
        ),
        ("another protocol", br#"{"id":1,"method":"tools/list"}"#.to_vec(), StatusCode::BAD_REQUEST, -32600),
        (
            "a list of parameters",
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}"#.to_vec(),
            StatusCode::BAD_REQUEST,
            -32600,
        ),
        (
            "a name that is a number",
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}"#.to_vec(),
            StatusCode::OK,
            -32602,
        ),
        ("arguments that are a list", arguments("[1]").into_bytes(), StatusCode::OK, -32602),
        (
            "no such method",
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/hack"}"#.to_vec(),
            StatusCode::OK,
            -32601,
        ),
        ("no such tool", world::call("nosuchtool", 1).to_string().into_bytes(), StatusCode::OK, -32602),
    ];
    for (what, body, status, code) in bodies {
        let answer = world.raw(Method::POST, &world.headers(Agent::Ada), body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], code, "{what}: {}", answer.text());
        assert!(!text(&answer.json()["error"]["message"]).is_empty(), "{what}");
    }
    for (what, arguments) in [
        ("a wrong type", json!({ "n": "1" })),
        ("an unknown argument", json!({ "n": 1, "m": 2 })),
        ("a missing argument", json!({})),
    ] {
        let mut call = world::call("allowed", 1);
        call["params"]["arguments"] = arguments;
        let (status, answer) = world.post(Agent::Ada, &[], &call).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(answer["result"]["isError"], true, "{what}: {answer}");
        assert_eq!(answer["result"]["structuredContent"]["code"], "R002", "{what}: {answer}");
    }
    assert_eq!(world.effects("allowed", 1), 0);
    let (status, answer) = world.post(Agent::Ada, &[], &world::call("allowed", 1)).await;
    assert_eq!((status, &answer["result"]["isError"]), (StatusCode::OK, &Value::Bool(false)));
    assert_eq!(world.effects("allowed", 1), 1);
}

#[tokio::test]
async fn other_methods_types_and_revisions_are_refused() {
    let world = World::start().await;
    let call = world::call("allowed", 1).to_string().into_bytes();
    for method in [Method::GET, Method::DELETE, Method::PUT] {
        let answer = world.raw(method, &world.headers(Agent::Ada), Vec::new()).await;
        assert_eq!(
            (answer.status, &answer.headers["allow"]),
            (StatusCode::METHOD_NOT_ALLOWED, &http::HeaderValue::from_static("POST"))
        );
    }
    for (name, value, status) in [
        ("content-type", "text/plain", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("accept", "application/json", StatusCode::NOT_ACCEPTABLE),
        ("mcp-protocol-version", "2024-11-05", StatusCode::BAD_REQUEST),
        ("mcp-protocol-version", "1999-01-01", StatusCode::BAD_REQUEST),
    ] {
        let mut headers = world.headers(Agent::Ada);
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value.to_owned()));
        assert_eq!(world.raw(Method::POST, &headers, call.clone()).await.status, status, "{name}: {value}");
    }
    assert_eq!(world.effects("allowed", 1), 0);
}

#[tokio::test]
async fn our_own_tool_checks_its_arguments() {
    let world = World::start().await;
    for arguments in [
        json!({}),
        json!({ "approval": 7 }),
        json!({ "call": 7 }),
        json!({ "call": null }),
        json!({ "call": "call 1" }),
        json!({ "approval": "apr-1", "call": "call-1" }),
        json!({ "approval": "apr-1", "wait_seconds": -1 }),
        json!({ "approval": "apr-1", "wait_seconds": 51 }),
        json!({ "approval": "apr-1", "wait_seconds": 1.5 }),
        json!({ "approval": "apr-1", "wait": 1 }),
        json!({ "approval": "'; drop table approval --" }),
    ] {
        let mut call = world::call("countersign_await", 0);
        call["params"]["arguments"] = arguments.clone();
        let (_, answer) = world.post(Agent::Ada, &[], &call).await;
        assert_eq!(answer["result"]["structuredContent"]["code"], "R002", "{arguments}: {answer}");
    }
}
