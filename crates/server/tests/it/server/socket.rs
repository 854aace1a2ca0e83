//! Slack's Socket Mode: what people do arrives over a connection that the server opens, and answers for whom it may. Slack is a
//! stand-in on loopback, which hands out places and checks tokens by its own means.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, header},
    routing::post,
};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
    },
};

use crate::{
    deployment::PATIENCE,
    place::{Place, on_either_store},
    server::{
        rig::{MAIN, Rig},
        slack::{self, pressed},
    },
};

const APP_TOKEN: &str = "xapp-1-token";

#[derive(Clone)]
struct Api {
    sockets: String,
    tickets: Arc<AtomicU32>,
    asked: mpsc::UnboundedSender<(String, Value)>,
}

/// A connection that the server opened.
struct Line(WebSocketStream<TcpStream>);

impl Line {
    async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn greet(&mut self, app: &str) {
        self.say(&json!({ "type": "hello", "num_connections": 1, "connection_info": { "app_id": app } }))
            .await;
    }

    /// Hands over what somebody did, and returns what the server says of it.
    async fn hand(&mut self, envelope: &str, payload: &Value) -> Value {
        let accepts = payload["type"] == "view_submission";
        self.say(&json!({
            "type": "interactive", "envelope_id": envelope, "accepts_response_payload": accepts, "payload": payload,
        }))
        .await;
        let said = self.next().await;
        assert_eq!(said["envelope_id"], envelope, "{said}");
        said
    }

    async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap();
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Waits until the server has closed the connection.
    async fn closed(mut self) {
        while let Some(Ok(_)) = tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap() {}
    }
}

struct FakeSlack {
    url: String,
    asked: mpsc::UnboundedReceiver<(String, Value)>,
    lines: mpsc::UnboundedReceiver<Line>,
}

impl FakeSlack {
    async fn new() -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let (opened, lines) = mpsc::unbounded_channel();
        let sockets = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Api {
            sockets: format!("ws://{}", sockets.local_addr().unwrap()),
            tickets: Arc::default(),
            asked: sender,
        };
        let good = Arc::clone(&api.tickets);
        let router = Router::new().route("/api/{method}", post(asked_for)).with_state(api);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        tokio::spawn(async move {
            while let Ok((stream, _from)) = sockets.accept().await {
                let newest = good.load(Ordering::SeqCst);
                #[expect(clippy::result_large_err, reason = "the library asks for this type")]
                let checked = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
                    let ticket = request.uri().to_string();
                    let ticket: u32 = ticket.strip_prefix("/link/?ticket=").unwrap().parse().unwrap();
                    assert!((1..=newest).contains(&ticket));
                    assert!(request.headers().get(header::AUTHORIZATION).is_none(), "the ticket is enough");
                    Ok(response)
                };
                let line = accept_hdr_async(stream, checked).await.unwrap();
                opened.send(Line(line)).ok();
            }
        });
        Self { url, asked, lines }
    }

    async fn next(&mut self, method: &str) -> Value {
        loop {
            let (asked, body) = tokio::time::timeout(PATIENCE, self.asked.recv()).await.unwrap().unwrap();
            if asked == method {
                return body;
            }
        }
    }

    async fn line(&mut self) -> Line {
        tokio::time::timeout(PATIENCE, self.lines.recv()).await.unwrap().unwrap()
    }
}

async fn asked_for(
    State(api): State<Api>,
    Path(method): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Json<Value> {
    let opens = method == "apps.connections.open";
    let token = if opens { APP_TOKEN } else { "xoxb-token" };
    if headers[header::AUTHORIZATION] != format!("Bearer {token}") {
        return Json(json!({ "ok": false, "error": "invalid_auth" }));
    }
    api.asked.send((method, body)).ok();
    if opens {
        let ticket = api.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        return Json(json!({ "ok": true, "url": format!("{}/link/?ticket={ticket}", api.sockets) }));
    }
    Json(json!({ "ok": true, "channel": "C1", "ts": "1700000000.000100" }))
}

async fn rig(place: Place, slack: &FakeSlack, app_token: &str) -> Rig {
    let main = MAIN
        .replace("[person.alice]\n", "[person.alice]\nslack = \"T1/U1\"\n")
        .replace("[person.bob]\n", "[person.bob]\nslack = \"T1/U2\"\n");
    let main = format!(
        "{main}\n[channel.chat]\nkind = \"slack\"\ntoken = {{ file = \"token\" }}\napp_token = {{ file = \"app\" }}\n\
         channel = \"C1\"\nteam = \"T1\"\napp = \"A1\"\napi_url = \"{}\"\nallow_private = true\ntimeout_ms = 500\n",
        slack.url
    );
    Rig::secret_main(place, &main, &[("token", "xoxb-token"), ("app", app_token)]).await
}

/// The value of a button that the message has.
fn button(message: &Value, action: &str) -> String {
    slack::button(message, action).unwrap()
}

async fn state(rig: &Rig, approval: &str) -> Value {
    rig.get("alice", &format!("/v1/approvals/{approval}")).await.1["state"].clone()
}

/// Why the channel hears nothing, once it does not for a reason that says `word`; or that it hears, if that is empty.
async fn deaf(rig: &Rig, word: &str) -> Value {
    let told = async {
        loop {
            let (status, body) = rig.get("owner", "/v1/channels").await;
            assert_eq!(status, StatusCode::OK, "{body}");
            let deaf = body["channels"][0]["deaf"].clone();
            match deaf.as_str() {
                None if word.is_empty() => return deaf,
                Some(why) if !word.is_empty() && why.contains(word) => return deaf,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_late| panic!("never {word:?}"))
}

on_either_store!(async
    what_people_do_arrives_over_a_connection_that_the_server_opened,
);

async fn what_people_do_arrives_over_a_connection_that_the_server_opened(place: Place) {
    let mut slack = FakeSlack::new().await;
    let mut rig = rig(place, &slack, APP_TOKEN).await;
    let mut line = slack.line().await;
    line.greet("A1").await;
    deaf(&rig, "").await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let posted = slack.next("chat.postMessage").await;
    let approve = button(&posted, "countersign_approve");
    // Somebody else, another team's guest, another app: nobody is answered for.
    let good = pressed("U1", "countersign_approve", &approve);
    let told = line.hand("e1", &pressed("U9", "countersign_approve", &approve)).await;
    assert!(told.get("payload").is_none(), "{told}");
    assert_eq!(slack.next("chat.postEphemeral").await["user"], "U9");
    let with = |pointer: &str, value: &str| {
        let mut other = good.clone();
        *other.pointer_mut(pointer).unwrap() = json!(value);
        other
    };
    for (n, other) in [
        with("/team/id", "T2"),
        with("/user/team_id", "T2"),
        with("/api_app_id", "A2"),
        json!({ "type": "x" }),
        json!(7),
    ]
    .iter()
    .enumerate()
    {
        line.hand(&format!("o{n}"), other).await;
    }
    // What is no interaction, no JSON, or nothing that anybody could answer.
    for odd in [
        json!({ "type": "events_api", "envelope_id": "v1", "payload": good }),
        json!({ "type": "slash_commands", "envelope_id": "v2" }),
    ] {
        line.say(&odd).await;
        assert_eq!(line.next().await["envelope_id"], odd["envelope_id"]);
    }
    line.0.send(Message::text("{")).await.unwrap();
    line.say(&json!({ "type": "interactive", "payload": good })).await;
    line.0.send(Message::Ping("there?".into())).await.unwrap();
    assert_eq!(state(&rig, &approval).await, "waiting");

    // A message that was taken before is not taken again, whatever it brings by now.
    line.hand("e1", &good).await;
    assert_eq!(state(&rig, &approval).await, "waiting");
    line.hand("e2", &good).await;
    assert_eq!(rig.result(&approval).await.0, StatusCode::OK);
    assert_eq!(rig.count("select count(*) from item where name = 'quince'"), 1);
    let (_, entries) = rig.get("owner", "/v1/log/entries?kind=answered").await;
    assert!(entries.to_string().contains("slack"), "{entries}");

    // A refusal asks for its reason, and what is wrong with that is said in the form.
    let approval = rig.ask("add_item", json!({ "name": "sloe" })).await;
    let posted = slack.next("chat.postMessage").await;
    line.hand("e3", &pressed("U1", "countersign_refuse", &button(&posted, "countersign_refuse"))).await;
    let opened = slack.next("views.open").await;
    let submitted = |reason: &str| {
        json!({
            "type": "view_submission", "team": { "id": "T1" }, "api_app_id": "A1", "user": { "id": "U1", "team_id": "T1" },
            "view": { "callback_id": opened["view"]["callback_id"], "private_metadata": opened["view"]["private_metadata"],
                      "state": { "values": { "reason": { "reason": { "value": reason } } } } },
        })
    };
    let told = line.hand("e4", &submitted(" ")).await;
    assert_eq!(told["payload"]["response_action"], "errors", "{told}");
    let told = line.hand("e5", &submitted("no sloes")).await;
    assert_eq!(told["payload"], json!({ "response_action": "clear" }), "{told}");
    assert_eq!(state(&rig, &approval).await, "refused");

    rig.stop().await;
    line.closed().await;
    rig.start().await;
    let mut line = slack.line().await;
    line.greet("A1").await;
    deaf(&rig, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_a_successor_before_it_ends_and_after_it_broke() {
    let mut slack = FakeSlack::new().await;
    let rig = rig(Place::sqlite(), &slack, APP_TOKEN).await;
    let mut first = slack.line().await;
    first.greet("A1").await;
    // Slack announces the end, more than once, and what it sends before counts.
    for _ in 0..9 {
        first.say(&json!({ "type": "disconnect", "reason": "warning" })).await;
    }
    let mut second = slack.line().await;
    second.greet("A1").await;
    for (n, line) in [&mut first, &mut second].into_iter().enumerate() {
        let approval = rig.ask("add_item", json!({ "name": format!("fig {n}") })).await;
        let approve = button(&slack.next("chat.postMessage").await, "countersign_approve");
        line.hand(&format!("e{n}"), &pressed("U1", "countersign_approve", &approve)).await;
        assert_eq!(rig.result(&approval).await.0, StatusCode::OK);
    }
    drop(first);
    assert!(slack.lines.try_recv().is_err(), "one successor is enough");
    // It breaks without a word, and then by a message that is too long.
    drop(second);
    let mut third = slack.line().await;
    third.greet("A1").await;
    deaf(&rig, "").await;
    let long = "x".repeat(70 * 1024);
    third.0.send(Message::text(long)).await.ok();
    third.closed().await;
    let mut fourth = slack.line().await;
    fourth.greet("A1").await;
    deaf(&rig, "").await;
    let approval = rig.ask("add_item", json!({ "name": "plum" })).await;
    let approve = loop {
        let posted = slack.next("chat.postMessage").await;
        if posted.to_string().contains(&approval) {
            break button(&posted, "countersign_approve");
        }
    };
    fourth.hand("e9", &pressed("U1", "countersign_approve", &approve)).await;
    assert_eq!(rig.result(&approval).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_another_app_or_none_at_all_answers_nothing_and_operators_see_why() {
    let mut slack = FakeSlack::new().await;
    let rig = rig(Place::sqlite(), &slack, APP_TOKEN).await;
    deaf(&rig, "not connected yet").await;
    let mut line = slack.line().await;
    line.greet("A2").await;
    deaf(&rig, "another app").await;
    line.closed().await;
    let mut line = slack.line().await;
    line.say(&json!({ "type": "disconnect", "reason": "link_disabled" })).await;
    deaf(&rig, "Socket Mode is off").await;
    // Nothing is heard by requests beside it, whatever signs them.
    let request = rig
        .request("", Method::POST, "/channels/slack/chat/interact")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-slack-request-timestamp", "1")
        .header("x-slack-signature", "v0=00")
        .body("payload={}");
    assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND);

    let slack = FakeSlack::new().await;
    let rig = self::rig(Place::sqlite(), &slack, "xapp-1-revoked").await;
    let why = deaf(&rig, "invalid_auth").await;
    assert!(!why.to_string().contains("xapp"), "{why}");
}
