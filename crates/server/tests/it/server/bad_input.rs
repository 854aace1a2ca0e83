//! What does not fit is refused with a stable code, and nothing is half done.

use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{
    place::{Place, on_either_store},
    server::rig::{Rig, read},
};

on_either_store!(async no_text_and_no_number_makes_the_ledger_unavailable);

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

/// Relatives of U+0000, which PostgreSQL keeps in no text, and numbers that not every reader reads alike: whatever field of
/// whatever door they stand in, the answer says what is wrong with them, and never that the ledger is away.
async fn no_text_and_no_number_makes_the_ledger_unavailable(place: Place) {
    let rig = Rig::on(place).await;
    let waiting = rig.ask("add_item", json!({ "name": "fig" })).await;
    let done = rig.call("add_note", json!({ "text": "done" })).await.1["call"].as_str().unwrap().to_owned();
    let long = "x".repeat(9_000);
    let texts = [
        "\0",
        "a\0b",
        "\u{ffff}",
        "\u{10ffff}",
        "\u{202e}x",
        "\u{feff}",
        "'; --",
        "\\u0000",
        "%00",
        "\u{1b}[2J",
        " ",
        &long,
    ];
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let fine = |what: &str, status: StatusCode, body: &Value| {
        let said = body.to_string();
        assert!(!status.is_server_error(), "{what}: {status} {said}");
        for code in ["F001", "F008", "unavailable"] {
            assert!(!said.contains(code), "{what}: {status} {said}");
        }
    };
    for text in texts {
        let odd = encode(text);
        let gets = [
            "log/entries?call=",
            "log/entries?session=",
            "log/entries?agent=",
            "log/entries?approval=",
            "log/entries?kind=",
            "calls?after=",
            "calls?state=",
            "approvals?after=",
            "approvals?state=",
        ];
        for path in gets {
            let (status, body) = rig.get("alice", &format!("/v1/{path}{odd}")).await;
            fine(path, status, &body);
        }
        let odd_segment = odd.replace('+', "%20");
        for path in [
            format!("calls/{odd_segment}"),
            format!("approvals/{odd_segment}"),
            format!("approvals/{odd_segment}/result"),
        ] {
            let (status, body) = rig.get("clerk", &format!("/v1/{path}")).await;
            fine(&path, status, &body);
        }
        for path in [format!("keys/{odd_segment}"), format!("halts?agent={odd}")] {
            let sent = rig.request("alice", Method::DELETE, &format!("/v1/{path}")).send().await.unwrap();
            let (status, body) = read(sent).await;
            fine(&path, status, &body);
        }
        for (who, path, body) in [
            ("clerk", "calls".to_owned(), json!({ "tool": text })),
            ("clerk", "calls".to_owned(), json!({ "tool": "items", "session": text })),
            (
                "clerk",
                "calls".to_owned(),
                json!({ "tool": "add_note", "arguments": { "text": text, "reason_": text } }),
            ),
            (
                "clerk",
                "calls".to_owned(),
                json!({ "tool": "add_note", "arguments": { "text": text, "_reason": text } }),
            ),
            ("clerk", "calls".to_owned(), json!({ "tool": "add_item", "arguments": { "name": text } })),
            ("alice", "halts".to_owned(), json!({ "agent": text, "why": "x" })),
            ("alice", "halts".to_owned(), json!({ "agent": "other", "why": text })),
            ("alice", format!("calls/{done}/resolve"), json!({ "happened": true, "comment": text })),
            ("owner", format!("approvals/{waiting}/approve"), json!({ "comment": text, "digest": text })),
        ] {
            let (status, answer) = rig.post(who, &format!("/v1/{path}"), body.clone()).await;
            fine(&body.to_string(), status, &answer);
        }
        // A person's words are kept as they are, or refused with the reason; either way the next request goes on.
        let approval = rig
            .ask("add_item", json!({ "name": format!("for {}", odd.chars().take(30).collect::<String>()) }))
            .await;
        let (status, answer) =
            rig.post("alice", &format!("/v1/approvals/{approval}/refuse"), json!({ "reason": text })).await;
        fine(&format!("refuse {text:?}"), status, &answer);
        let message = |method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": text, "method": method, "params": params });
        for message in [
            message(text, json!({})),
            message("tools/call", json!({ "name": text, "arguments": {} })),
            message("tools/call", json!({ "name": "add_note", "arguments": { "text": text } })),
            message("tools/call", json!({ "name": "items", "_meta": { "countersign/session": text } })),
            message("tools/call", json!({ "name": "countersign_await", "arguments": { "approval": text } })),
            message(
                "initialize",
                json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": text, "version": text } }),
            ),
        ] {
            let sent = rig
                .request("clerk", Method::POST, "/mcp")
                .header("accept", "application/json, text/event-stream");
            let (status, answer) = read(sent.json(&message).send().await.unwrap()).await;
            fine(&message.to_string(), status, &answer);
        }
    }
    for number in [
        "9007199254740993",
        "-9007199254740993",
        "1e400",
        "1e308",
        "-0.0",
        "18446744073709551616",
        "0.1e-400",
    ] {
        let call = format!(r#"{{"tool":"add_note","arguments":{{"text":{number}}}}}"#);
        let (status, answer) = send(&rig, call).await;
        fine(number, status, &answer);
        assert!(status.is_client_error(), "{number}: {answer}");
        let wait = format!(r#"{{"tool":"items","wait_ms":{number}}}"#);
        let (status, answer) = send(&rig, wait).await;
        fine(number, status, &answer);
        for path in ["calls?limit=", "approvals?limit=", "log/entries?from=", "log/entries?limit="] {
            let (status, body) = rig.get("alice", &format!("/v1/{path}{number}")).await;
            fine(&format!("{path}{number}"), status, &body);
        }
    }
    let (status, ready) = rig.get("", "/readyz").await;
    assert_eq!(status, StatusCode::OK, "{ready}");
    assert_eq!(rig.count("select count(*) from item"), 3);
}
