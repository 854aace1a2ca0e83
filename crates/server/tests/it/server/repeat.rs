//! A call that is repeated: under an idempotency key, after a lost answer, and found again by its agent.

use std::collections::BTreeSet;

use countersign_rules::ApprovalId;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    place::{Place, on_either_store},
    server::rig::{Rig, read},
};

on_either_store!(async
    a_keyed_call_has_one_effect_and_one_answer,
    a_key_is_for_one_call_of_one_agent,
    a_keyed_request_is_asked_once,
    fifty_equal_keyed_calls_at_once_have_one_effect,
    an_answer_that_was_never_read_is_given_again,
    agents_list_and_fetch_their_own_calls,
);

/// A call under what stands in the header.
async fn keyed(rig: &Rig, who: &str, key: &str, tool: &str, arguments: Value) -> (StatusCode, Value) {
    let body = json!({ "tool": tool, "arguments": arguments });
    let request = rig.request(who, Method::POST, "/v1/calls").header("Idempotency-Key", key).json(&body);
    read(request.send().await.unwrap()).await
}

async fn notes(rig: &Rig, key: &str) -> (StatusCode, Value) {
    keyed(rig, "clerk", key, "add_note", json!({ "text": "once" })).await
}

/// An answer without the mark of a repeat, and whether it had one.
fn told(mut body: Value) -> (Value, bool) {
    let mark = body.as_object_mut().unwrap().remove("repeated");
    (body, mark == Some(json!(true)))
}

async fn a_keyed_call_has_one_effect_and_one_answer(place: Place) {
    let mut rig = Rig::on(place).await;
    let (status, first) = notes(&rig, "\"k-1\"").await;
    assert_eq!((status, &first["status"], first.get("repeated")), (StatusCode::OK, &json!("done"), None));
    for key in ["\"k-1\"", "k-1", " k-1 "] {
        let (status, again) = notes(&rig, key).await;
        assert_eq!((status, told(again)), (StatusCode::OK, (first.clone(), true)), "{key}");
    }
    // After a restart, and in a session of another name.
    rig.stop().await;
    rig.start().await;
    let body = json!({ "tool": "add_note", "arguments": { "text": "once" }, "session": "another" });
    let request = rig.request("clerk", Method::POST, "/v1/calls").header("Idempotency-Key", "k-1");
    let (_, again) = read(request.json(&body).send().await.unwrap()).await;
    assert_eq!(told(again), (first, true));
    assert_eq!(rig.count("select count(*) from note"), 1);

    // Halted, nothing new is done, and what was done is told.
    rig.post("alice", "/v1/halts", json!({ "why": "odd", "agent": "clerk" })).await;
    assert_eq!(notes(&rig, "k-1").await.1["status"], "done");
    let (status, halted) = notes(&rig, "k-2").await;
    assert_eq!((status, &halted["code"]), (StatusCode::FORBIDDEN, &json!("R006")));
    rig.request("alice", Method::DELETE, "/v1/halts?agent=clerk").send().await.unwrap();

    // Under policies that forbid it now, likewise.
    rig.stop().await;
    let policies = rig.deployment.at("policies/later.cedar");
    std::fs::write(policies, r#"@id("later") forbid (principal, action == Action::"add_note", resource);"#)
        .unwrap();
    rig.start().await;
    let (status, again) = notes(&rig, "k-1").await;
    assert_eq!(
        (status, &again["status"], &again["repeated"]),
        (StatusCode::OK, &json!("done"), &json!(true))
    );
    let (status, denied) = notes(&rig, "k-3").await;
    assert_eq!((status, &denied["code"]), (StatusCode::FORBIDDEN, &json!("R004")));
    assert_eq!(told(notes(&rig, "k-3").await.1).0["message"], denied["message"]);
    assert_eq!(rig.count("select count(*) from note"), 1);
    // A key of the agent that is good no more opens nothing.
    assert_eq!(
        keyed(&rig, "revoked", "k-1", "add_note", json!({ "text": "once" })).await.0,
        StatusCode::UNAUTHORIZED
    );
}

async fn a_key_is_for_one_call_of_one_agent(place: Place) {
    let rig = Rig::on(place).await;
    let (_, first) = notes(&rig, "k").await;
    for (tool, arguments) in [
        ("add_note", json!({ "text": "twice" })),
        ("items", json!({})),
        ("add_item", json!({ "name": "fig" })),
    ] {
        let (status, body) = keyed(&rig, "clerk", "k", tool, arguments).await;
        assert_eq!((status, &body["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("R021")), "{body}");
        assert!(body["message"].as_str().unwrap().contains(first["call"].as_str().unwrap()), "{body}");
    }
    // A tool of that spelling is none, and leaves the key alone; so do arguments that do not fit.
    assert_eq!(
        keyed(&rig, "clerk", "k", "Add_Note", json!({ "text": "once" })).await.0,
        StatusCode::NOT_FOUND
    );
    let (status, _) = keyed(&rig, "clerk", "odd", "add_note", json!({ "txt": "once" })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(keyed(&rig, "clerk", "odd", "add_note", json!({ "text": "odd" })).await.0, StatusCode::OK);
    // Another spelling is another key, and another agent's is its own.
    for (who, key) in [("clerk", "K"), ("clerk", r#""say:\"k\"""#), ("other", "k")] {
        let (status, body) = keyed(&rig, who, key, "add_note", json!({ "text": "once" })).await;
        assert_eq!((status, body.get("repeated")), (StatusCode::OK, None), "{who} {key}");
    }
    assert_eq!(rig.count("select count(*) from note"), 5);
    let long = "k".repeat(256);
    for bad in ["", "\"\"", "a b", "\"a b\"", "\"open", "\"a\", \"b\"", "\"a\";p=1", "schl\u{fc}ssel", &long]
    {
        let value = reqwest::header::HeaderValue::from_bytes(bad.as_bytes()).unwrap();
        let body = json!({ "tool": "add_note", "arguments": { "text": "bad" } });
        let request = rig.request("clerk", Method::POST, "/v1/calls").header("Idempotency-Key", value);
        let (status, body) = read(request.json(&body).send().await.unwrap()).await;
        assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("R020")), "{bad}");
    }
    let body = json!({ "tool": "add_note", "arguments": { "text": "bad" } });
    let request = rig.request("clerk", Method::POST, "/v1/calls");
    let twice = request.header("Idempotency-Key", "a").header("Idempotency-Key", "a");
    assert_eq!(twice.json(&body).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(rig.count("select count(*) from note where text = 'bad'"), 0);
}

async fn a_keyed_request_is_asked_once(place: Place) {
    let mut rig = Rig::on(place).await;
    let arguments = json!({ "name": "quince" });
    let (status, pending) = keyed(&rig, "clerk", "k", "add_item", arguments.clone()).await;
    assert_eq!((status, pending.get("repeated")), (StatusCode::ACCEPTED, None));
    let (status, again) = keyed(&rig, "clerk", "k", "add_item", arguments.clone()).await;
    assert_eq!(
        (status, &again["approval"], &again["repeated"]),
        (StatusCode::ACCEPTED, &pending["approval"], &json!(true))
    );
    let approval = pending["approval"].as_str().unwrap().to_owned();
    rig.post("alice", &format!("/v1/approvals/{approval}/approve"), json!({})).await;
    let (_, done) = rig.result(&approval).await;
    rig.stop().await;
    rig.start().await;
    let (status, again) = keyed(&rig, "clerk", "k", "add_item", arguments.clone()).await;
    assert_eq!((status, told(again)), (StatusCode::OK, (done, true)));
    // Without a key it may be a repeat; another key means another call.
    let (status, again) = rig.call("add_item", arguments.clone()).await;
    assert_eq!((status, &again["repeated"]), (StatusCode::OK, &json!(true)));
    let (status, anew) = keyed(&rig, "clerk", "k-2", "add_item", arguments.clone()).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let anew = anew["approval"].as_str().unwrap();
    rig.post("alice", &format!("/v1/approvals/{anew}/refuse"), json!({ "reason": "one is enough" })).await;
    for key in ["k-2", "k-2", "k-3"] {
        let (status, refused) = keyed(&rig, "clerk", key, "add_item", arguments.clone()).await;
        assert_eq!((status, &refused["code"]), (StatusCode::FORBIDDEN, &json!("R009")), "{key}: {refused}");
    }
    assert_eq!(rig.count("select count(*) from item"), 4);
    assert_ne!(ApprovalId::parse(anew).unwrap(), ApprovalId::parse(&approval).unwrap());
}

async fn fifty_equal_keyed_calls_at_once_have_one_effect(place: Place) {
    let rig = Rig::on(place).await;
    let answers = futures::future::join_all((0..50).map(|_| notes(&rig, "k"))).await;
    let calls: BTreeSet<String> = answers.iter().map(|(_, body)| body["call"].to_string()).collect();
    assert!(answers.iter().all(|(status, body)| *status == StatusCode::OK && body["status"] == "done"));
    let first = answers.iter().filter(|(_, body)| body.get("repeated").is_none()).count();
    assert_eq!((calls.len(), first, rig.count("select count(*) from note")), (1, 1, 1));
    let asked = futures::future::join_all(
        (0..50).map(|_| keyed(&rig, "clerk", "asked", "add_item", json!({ "name": "fig" }))),
    )
    .await;
    let approvals: BTreeSet<String> = asked.iter().map(|(_, body)| body["approval"].to_string()).collect();
    assert_eq!(approvals.len(), 1, "{approvals:?}");
}

/// Sends a call and goes away without reading what is answered.
async fn send_and_go(rig: &Rig, headers: &str, body: &Value) {
    let address = rig.running().address;
    let mut socket = TcpStream::connect(address).await.unwrap();
    let body = body.to_string();
    let key = rig.key("clerk");
    let head = format!(
        "POST /v1/calls HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         {headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    // It was answered, and the client is gone before it has read more than the first byte of it.
    let approving = async {
        if body.contains("add_item") {
            let id = rig.asked().await;
            rig.post("alice", &format!("/v1/approvals/{id}/approve"), json!({})).await;
        }
    };
    let (byte, ()) = tokio::join!(socket.read_u8(), approving);
    assert_eq!(byte.unwrap(), b'H');
}

async fn an_answer_that_was_never_read_is_given_again(place: Place) {
    let rig = Rig::on(place).await;
    let item = json!({ "tool": "add_item", "arguments": { "name": "fig" }, "wait_ms": 5000 });
    send_and_go(&rig, "", &item).await;
    // Without a key, for what people granted.
    for _ in 0..3 {
        let (status, again) = rig.call("add_item", json!({ "name": "fig" })).await;
        assert_eq!(
            (status, &again["status"], &again["repeated"]),
            (StatusCode::OK, &json!("done"), &json!(true))
        );
    }
    assert_eq!(rig.count("select count(*) from item where name = 'fig'"), 1);
    let (_, open) = rig.get("alice", "/v1/approvals").await;
    assert_eq!(open["approvals"], json!([]), "nobody is asked again");
    // With one, for everything.
    let note = json!({ "tool": "add_note", "arguments": { "text": "once" } });
    send_and_go(&rig, "Idempotency-Key: \"lost\"\r\n", &note).await;
    let (status, again) = notes(&rig, "lost").await;
    assert_eq!((status, &again["repeated"]), (StatusCode::OK, &json!(true)));
    assert_eq!(rig.count("select count(*) from note"), 1);
}

async fn agents_list_and_fetch_their_own_calls(place: Place) {
    let rig = Rig::on(place).await;
    let mut made = Vec::new();
    for n in 0..5 {
        let (tool, arguments) =
            if n == 2 { ("items", json!({})) } else { ("add_note", json!({ "text": n.to_string() })) };
        let (_, done) = keyed(&rig, "clerk", &format!("k{n}"), tool, arguments).await;
        made.push(done["call"].as_str().unwrap().to_owned());
    }
    let theirs = json!({ "tool": "add_note", "arguments": { "text": "theirs" } });
    let (_, theirs) = rig.post("other", "/v1/calls", theirs).await;
    let theirs = theirs["call"].as_str().unwrap();

    let list = async |who: &str, query: &str| {
        let (status, body) = rig.get(who, &format!("/v1/calls?{query}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let calls = body["calls"].as_array().unwrap().clone();
        assert!(
            calls.iter().all(|call| call["outcome"].get("reply").is_none()),
            "results are fetched one by one"
        );
        let ids: Vec<String> = calls.iter().map(|call| call["call"].as_str().unwrap().to_owned()).collect();
        (ids, body["next"].as_str().map(str::to_owned))
    };
    let newest: Vec<String> = made.iter().rev().cloned().collect();
    let (mut seen, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let (ids, next) = list("clerk", &query).await;
        assert!(ids.len() <= 2);
        seen.extend(ids);
        let Some(next) = next else { break };
        query = format!("limit=2&after={next}");
    }
    // Two within one millisecond stand by their ids.
    assert_eq!(seen.iter().collect::<BTreeSet<_>>(), newest.iter().collect());
    assert_eq!(seen.len(), 5);
    assert_eq!(list("other", "limit=10").await.0, [theirs]);
    assert_eq!(list("clerk", "state=failed").await.0, Vec::<String>::new());
    // A narrow key sees the calls of its tools, and where another's list would go on it does not tell.
    assert_eq!(list("scoped", "limit=10").await.0, [made[2].as_str()]);
    assert_eq!(list("clerk", &format!("after={theirs}")).await, (Vec::new(), None));

    let (status, call) = rig.get("clerk", &format!("/v1/calls/{}", made[2])).await;
    assert_eq!((status, &call["idempotency_key"]), (StatusCode::OK, &json!("k2")));
    assert_eq!(call["outcome"]["reply"]["rows"].as_array().unwrap().len(), 3, "{call}");
    for (who, id) in [("other", &made[0]), ("scoped", &made[0]), ("clerk", &theirs.to_owned())] {
        assert_eq!(rig.get(who, &format!("/v1/calls/{id}")).await.0, StatusCode::NOT_FOUND);
    }
    assert_eq!(rig.get("bob", "/v1/calls?limit=10").await.1["calls"].as_array().unwrap().len(), 6);
}
