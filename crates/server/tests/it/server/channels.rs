//! Channels are told what waits and what became of it: signed, in order, again until they have it, and no more than they may be
//! told. The other end is a stand-in on loopback that checks signatures by its own means.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode as Status, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign::{
    clock::SystemClock,
    server::{self, StartError},
};
use countersign_gate::Clock as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    binary::run_in,
    deployment::PATIENCE,
    place::{Place, on_either_store},
    server::rig::{MAIN, Rig},
};

const KEY: [u8; 32] = [7; 32];

fn secret() -> String {
    format!("whsec_{}", STANDARD.encode(KEY))
}

/// The other end does this with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Answer(u16),
    AnswerLater { after_s: u64 },
    Redirect,
    Hang,
}

/// A message that has arrived, and whose signature was right.
#[derive(Debug, Clone)]
struct Arrived {
    id: String,
    at_s: i64,
    text: String,
    body: Value,
}

/// A webhook's other end: what it does with the next messages, after which it takes all.
#[derive(Clone)]
struct Hook {
    does: Arc<Mutex<VecDeque<Does>>>,
    arrived: mpsc::UnboundedSender<Arrived>,
}

struct Receiver {
    url: String,
    arrived: mpsc::UnboundedReceiver<Arrived>,
}

impl Receiver {
    async fn new(does: &[Does]) -> Self {
        let (sender, arrived) = mpsc::unbounded_channel();
        let hook = Hook { does: Arc::new(Mutex::new(does.iter().copied().collect())), arrived: sender };
        let router = Router::new()
            .route("/hook", post(take))
            .route("/elsewhere", post(take_elsewhere))
            .with_state(hook);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, arrived }
    }

    /// The next message that arrives.
    async fn next(&mut self) -> Arrived {
        tokio::time::timeout(PATIENCE, self.arrived.recv()).await.unwrap().unwrap()
    }

    /// The next message, by its id and what happened.
    async fn told(&mut self) -> (String, String) {
        let Arrived { id, body, .. } = self.next().await;
        (id, body["type"].as_str().unwrap().to_owned())
    }
}

async fn take(State(hook): State<Hook>, headers: HeaderMap, body: Bytes) -> Response {
    let said = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, at, signature) = (said("webhook-id"), said("webhook-timestamp"), said("webhook-signature"));
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", &body].concat();
    let tag = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), &signed, &tag).unwrap();
    assert_eq!(said("content-type"), "application/json");
    assert!(!id.contains('.'), "{id}");
    let text = String::from_utf8(body.to_vec()).unwrap();
    let arrived = Arrived { id, at_s: at.parse().unwrap(), body: serde_json::from_str(&text).unwrap(), text };
    let does = hook.does.lock().unwrap().pop_front();
    hook.arrived.send(arrived).ok();
    match does.unwrap_or(Does::Answer(204)) {
        Does::Answer(status) => Status::from_u16(status).unwrap().into_response(),
        Does::AnswerLater { after_s } => {
            (Status::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, after_s.to_string())]).into_response()
        }
        Does::Redirect => (Status::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
        Does::Hang => std::future::pending().await,
    }
}

async fn take_elsewhere(State(hook): State<Hook>) {
    let body = json!({ "type": "elsewhere" });
    hook.arrived.send(Arrived { id: String::new(), at_s: 0, text: String::new(), body }).ok();
}

fn channel(name: &str, url: &str, more: &str) -> String {
    format!(
        "\n[channel.{name}]\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = {{ file = \"hook.secret\" }}\nallow_private = true\n{more}\n"
    )
}

/// A server with one channel that leads to the receiver.
async fn rig(place: Place, receiver: &Receiver, more: &str) -> Rig {
    Rig::secretly(place, &channel("ops", &receiver.url, more), &[("hook.secret", &secret())]).await
}

on_either_store!(async
    a_channel_is_told_what_waits_and_what_became_of_it,
    what_was_not_told_is_told_after_a_restart,
);

async fn a_channel_is_told_what_waits_and_what_became_of_it(place: Place) {
    let mut receiver = Receiver::new(&[]).await;
    let rig = rig(place, &receiver, "").await;
    // Who asks nobody tells nobody.
    rig.call("add_note", json!({ "text": "a" })).await;
    let arguments = json!({ "name": "QUINCE", "_reason": "a <b>customer</b> asked" });
    let approval = rig.ask("add_item", arguments).await;
    let asked = receiver.next().await;
    assert_eq!(asked.id, format!("{approval}:ops:0"));
    assert!((SystemClock.now_ms() / 1_000 - asked.at_s).abs() < 60, "{}", asked.at_s);
    assert_eq!(asked.body["type"], "request.asked");
    let data = &asked.body["data"];
    assert_eq!((&data["system"], &data["environment"]), (&json!("shop"), &json!("production")), "{data}");
    assert_eq!(data["reason_claimed"], "a <b>customer</b> asked");
    let request = &data["request"];
    assert_eq!((&request["approval"], &request["state"]), (&json!(approval), &json!("waiting")), "{request}");
    assert_eq!((&request["agent"], &request["tool"]), (&json!("clerk"), &json!("add_item")));
    assert_eq!(
        request["of"],
        json!([{ "group": "approvers", "quorum": 1, "because": "it changes what is sold", "policy": "test:items" }])
    );
    assert!(data["link"].as_str().unwrap().ends_with(&format!("/console/requests/{approval}")), "{data}");

    let body = json!({ "comment": "because SAID" });
    let (status, _) = rig.post("alice", &format!("/v1/approvals/{approval}/approve"), body).await;
    assert_eq!(status, StatusCode::OK);
    let answered = receiver.next().await;
    assert_eq!(
        (answered.id, &answered.body["type"]),
        (format!("{approval}:ops:1"), &json!("request.answered"))
    );
    assert_eq!(answered.body["data"]["state_then"], "approved");
    assert_eq!(answered.body["data"]["request"]["signatures"][0]["person"], "alice");
    let ended = receiver.next().await;
    assert_eq!((ended.id, &ended.body["type"]), (format!("{approval}:ops:2"), &json!("request.ended")));
    assert_eq!(ended.body["data"]["state_then"], "done");
    // Neither what the call says nor what people say leaves the server.
    for text in [asked.text, answered.text, ended.text] {
        assert!(!text.contains("QUINCE") && !text.contains("SAID") && !text.contains("arguments"), "{text}");
    }
    assert_eq!(rig.count("select count(*) from item where name = 'QUINCE'"), 1);

    let refused = rig.ask("delete_item", json!({ "id": 1 })).await;
    assert_eq!(receiver.told().await, (format!("{refused}:ops:0"), "request.asked".into()));
    rig.post("alice", &format!("/v1/approvals/{refused}/refuse"), json!({ "reason": "no SAID" })).await;
    let ended = receiver.next().await;
    assert_eq!(
        (&ended.body["type"], &ended.body["data"]["state_then"]),
        (&json!("request.ended"), &json!("refused"))
    );
    assert!(!ended.text.contains("SAID"), "{}", ended.text);
    // Who changed a call is told with it, and not what they said.
    let first = rig.ask("add_item", json!({ "name": "QUINCES" })).await;
    assert_eq!(receiver.told().await.0, format!("{first}:ops:0"));
    let change = json!({ "arguments": { "name": "QUINCE II" }, "reason": "one, as SAID" });
    let (status, new) = rig.post("alice", &format!("/v1/approvals/{first}/narrow"), change).await;
    assert_eq!(status, StatusCode::OK, "{new}");
    let new = new["approval"].as_str().unwrap();
    for _ in 0..2 {
        let told = receiver.next().await;
        let request = &told.body["data"]["request"];
        assert!(!told.text.contains("SAID") && !told.text.contains("QUINCE"), "{}", told.text);
        if told.id == format!("{new}:ops:0") {
            assert_eq!(
                request["narrowed"],
                json!({ "from": first, "by": "alice", "why": null, "free": false, "less": false })
            );
        } else {
            assert_eq!((told.id, &request["narrowed_to"]), (format!("{first}:ops:1"), &json!(new)));
        }
    }
}

async fn what_was_not_told_is_told_after_a_restart(place: Place) {
    let mut receiver = Receiver::new(&[Does::Answer(500)]).await;
    let mut rig = rig(place, &receiver, "").await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let first = receiver.next().await;
    rig.stop().await;
    rig.start().await;
    let again = receiver.next().await;
    assert_eq!((&first.id, &again.id), (&format!("{approval}:ops:0"), &format!("{approval}:ops:0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_may_is_told_arguments_rows_and_what_people_say() {
    let mut receiver = Receiver::new(&[]).await;
    let rig = rig(Place::sqlite(), &receiver, "details = true").await;
    let approval = rig.ask("delete_item", json!({ "id": 1 })).await;
    let asked = receiver.next().await;
    assert_eq!(asked.body["data"]["arguments"], r#"{"id":1}"#, "{}", asked.text);
    assert_eq!(asked.body["data"]["sample"]["rows"][0], json!(["1", "apple"]), "{}", asked.text);
    rig.post("alice", &format!("/v1/approvals/{approval}/refuse"), json!({ "reason": "no SAID" })).await;
    assert_eq!(receiver.next().await.body["data"]["request"]["why"], "no SAID");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_channel_does_not_take_is_sent_again_under_the_same_id_and_nothing_overtakes_it() {
    let does = [Does::Answer(503), Does::AnswerLater { after_s: 2 }, Does::Redirect, Does::Hang];
    let mut receiver = Receiver::new(&does).await;
    let rig = rig(Place::sqlite(), &receiver, "timeout_ms = 200").await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    // No call waits for a channel.
    rig.post("alice", &format!("/v1/approvals/{approval}/approve"), json!({})).await;
    let (status, body) = rig.result(&approval).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("done")), "{body}");
    let mut arrived = Vec::new();
    for _ in 0..7 {
        arrived.push(receiver.next().await);
    }
    let told: Vec<_> = arrived
        .iter()
        .map(|one| (one.id.rsplit(':').next().unwrap(), one.body["type"].as_str().unwrap()))
        .collect();
    let asked = ("0", "request.asked");
    assert_eq!(told, [asked, asked, asked, asked, asked, ("1", "request.answered"), ("2", "request.ended")]);
    assert!(arrived[2].at_s - arrived[1].at_s >= 2, "not before it said");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_says_it_is_gone_is_left_alone_until_the_next_start() {
    let mut receiver = Receiver::new(&[Does::Answer(410)]).await;
    let mut beside = Receiver::new(&[]).await;
    let channels = format!("{}{}", channel("ops", &receiver.url, ""), channel("beside", &beside.url, ""));
    let mut rig = Rig::secretly(Place::sqlite(), &channels, &[("hook.secret", &secret())]).await;
    let first = rig.ask("add_item", json!({ "name": "a" })).await;
    assert_eq!(receiver.told().await.0, format!("{first}:ops:0"));
    let second = rig.ask("add_item", json!({ "name": "b" })).await;
    for approval in [&first, &second] {
        assert_eq!(beside.told().await.0, format!("{approval}:beside:0"));
    }
    assert!(tokio::time::timeout(Duration::from_secs(3), receiver.arrived.recv()).await.is_err());
    rig.stop().await;
    rig.start().await;
    let mut told = [receiver.told().await.0, receiver.told().await.0];
    told.sort();
    let mut expected = [format!("{first}:ops:0"), format!("{second}:ops:0")];
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_and_test_channels_and_nobody_else() {
    let mut receiver = Receiver::new(&[Does::Answer(204), Does::Answer(500), Does::Answer(410)]).await;
    let rig = rig(Place::sqlite(), &receiver, "groups = [\"approvers\"]").await;
    let (status, body) = rig.get("alice", "/v1/channels").await;
    assert_eq!(status, StatusCode::OK);
    let listed = json!([{ "channel": "ops", "kind": "webhook", "groups": ["approvers"], "details": false, "gone": false, "given_up": 0, "failing": 0 }]);
    assert_eq!(body["channels"], listed);
    let (status, _) = rig.post("alice", "/v1/channels/ops/test", json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let arrived = receiver.next().await;
    assert_eq!(
        (&arrived.body["type"], &arrived.body["data"]["channel"]),
        (&json!("channel.test"), &json!("ops"))
    );
    let (status, body) = rig.post("alice", "/v1/channels/ops/test", json!({})).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(body["detail"].as_str().unwrap().contains("it answered 500"), "{body}");
    receiver.next().await;
    rig.ask("add_item", json!({ "name": "a" })).await;
    receiver.next().await;
    while rig.get("alice", "/v1/channels").await.1["channels"][0]["gone"] != json!(true) {
        tokio::task::yield_now().await;
    }
    let (status, body) = rig.post("alice", "/v1/channels/ops/test", json!({})).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(body["detail"].as_str().unwrap().contains("gone"), "{body}");

    let (_, body) = rig.get("alice", "/v1/channels/ops/given-up").await;
    assert_eq!(body["given_up"], json!([]));
    let (status, body) = rig.post("alice", "/v1/channels/ops/retry", json!({ "approval": "apr-x" })).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    assert_eq!(rig.get("alice", "/v1/channels/nowhere/given-up").await.0, StatusCode::NOT_FOUND);
    for who in ["clerk", "bob"] {
        assert_eq!(rig.get(who, "/v1/channels").await.0, StatusCode::FORBIDDEN);
        assert_eq!(rig.get(who, "/v1/channels/ops/given-up").await.0, StatusCode::FORBIDDEN);
        for what in ["test", "retry"] {
            let (status, _) =
                rig.post(who, &format!("/v1/channels/ops/{what}"), json!({ "approval": "apr-x" })).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{who} {what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_listed_and_tried_again_on_the_command_line() {
    let does = [Does::Answer(500), Does::Answer(503)];
    let mut receiver = Receiver::new(&does).await;
    let mut rig = rig(Place::sqlite(), &receiver, "").await;
    let approval = rig.ask("add_item", json!({ "name": "a" })).await;
    receiver.next().await;
    rig.stop().await;
    // As a day of failures leaves it.
    let ledger = rusqlite::Connection::open(rig.deployment.at("countersign.db")).unwrap();
    let changed = ledger
        .execute(
            "UPDATE outbox SET due_ms = NULL, dead = 1, body = json_set(body, '$.dead', json('true'), '$.why', 'it answered 500')",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    drop(ledger);
    rig.start().await;
    let key = rig.key("alice").to_owned();
    rig.deployment.write_secret("alice.key", &key);
    let server = rig.url("");
    let run = async |words: &[&str]| {
        let words = [words, &["--server", &server, "--key-file", "alice.key"]].concat();
        let output = rig.deployment.command(&words).output().await.unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let failing = rig.ask("add_item", json!({ "name": "b" })).await;
    assert_eq!(receiver.told().await.0, format!("{failing}:ops:0"));
    let shown = loop {
        let shown = run(&["channels", "list"]).await;
        if shown.contains("failing") {
            break shown;
        }
    };
    assert!(shown.contains("failing for 1: it answered 503"), "{shown}");
    let listed = run(&["channels", "list", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()["channels"][0]["given_up"], 1, "{listed}");
    let dead = run(&["channels", "dead", "ops"]).await;
    assert!(dead.contains(&approval) && dead.contains("asked") && dead.contains("500"), "{dead}");
    let said = run(&["channels", "retry", "ops", &approval]).await;
    assert!(said.contains("is told of request"), "{said}");
    assert_eq!(receiver.told().await, (format!("{approval}:ops:0"), "request.asked".into()));
    let said = run(&["channels", "test", "ops"]).await;
    assert!(said.contains("channel `ops` was told"), "{said}");
    assert_eq!(receiver.told().await.1, "channel.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_reminded_of_and_others_hear_when_it_is_escalated() {
    let (mut receiver, mut boss) = (Receiver::new(&[]).await, Receiver::new(&[]).await);
    let more = format!(
        "{}{}\n[approvals]\nremind_ms = 100\nescalate_ms = 1500\nescalate_to = [\"auditors\"]\n",
        channel("ops", &receiver.url, "groups = [\"approvers\"]"),
        channel("boss", &boss.url, "groups = [\"auditors\"]"),
    );
    let rig = Rig::secretly(Place::sqlite(), &more, &[("hook.secret", &secret())]).await;
    let approval = rig.ask("add_item", json!({ "name": "a" })).await;
    for (number, event) in ["request.asked", "request.reminded", "request.escalated"].into_iter().enumerate()
    {
        assert_eq!(receiver.told().await, (format!("{approval}:ops:{number}"), event.into()));
    }
    assert_eq!(boss.told().await, (format!("{approval}:boss:0"), "request.escalated".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_start_with_a_channel_that_it_cannot_sign_for() {
    let receiver = Receiver::new(&[]).await;
    let rig = rig(Place::sqlite(), &receiver, "").await;
    rig.deployment.write_secret("hook.secret", "whsec_SHORT");
    match server::start(rig.deployment.config()).await {
        Err(StartError::Channel(name, why)) => {
            assert_eq!(name.as_str(), "ops");
            assert!(why.contains("24 to 64 bytes") && !why.contains("SHORT"), "{why}");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
    // A look at what a start needs finds it as well.
    let looked = run_in(rig.deployment.path(), &["check", "--live"]);
    assert_eq!(looked.code, 1, "{}", looked.err);
    assert!(looked.out.contains("channel `ops` cannot be used now: its secret"), "{}", looked.out);
}

/// What is found wrong in a configuration with these lines.
fn mistakes(lines: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("countersign.toml"), format!("{MAIN}{lines}")).unwrap();
    match countersign::config::Config::load(folder.path()) {
        Ok(_) => Vec::new(),
        Err(found) => found.mistakes.iter().map(|one| one.message.clone()).collect(),
    }
}

#[test]
fn a_channel_that_nobody_would_hear_is_a_mistake() {
    let lines = |name: &str, url: &str, more: &str| {
        format!("\n[channel.{name}]\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = {{ env = \"X\" }}\n{more}")
    };
    let url = "https://hooks.example.com/a?b=c";
    assert_eq!(mistakes(&lines("ops", url, "groups = [\"approvers\"]")), Vec::<String>::new());
    for (text, words) in [
        (lines("ops", "http://hooks.example.com/", ""), "is not `https://`"),
        (lines("ops", "https://127.0.0.1/", ""), "is not a public address"),
        (lines("ops", "https://169.254.169.254/latest", ""), "is not a public address"),
        (lines("\"a.b\"", url, ""), "`.` may not stand in the name of a channel"),
        (lines("ops", url, "groups = [\"aprovers\"]"), "names `aprovers`, and nobody is in that group"),
        (
            lines("ops", url, "[approvals]\nescalate_to = [\"bosses\"]"),
            "names `bosses`, and no channel serves",
        ),
        (lines("ops", url, "[approvals]\nremind_ms = 10\nescalate_ms = 5"), "nobody is reminded"),
        (lines("ops", url, "detail = true"), "`detail` is no key"),
    ] {
        let found = mistakes(&text);
        assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
    }
}
