//! Slack: what it is told, and that its buttons answer for whom they may and for nobody else. Slack is a stand-in on loopback,
//! which signs and checks by its own means.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use aws_lc_rs::hmac;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode as Status, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use countersign::clock::SystemClock;
use countersign_gate::Clock as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    deployment::PATIENCE,
    place::{Place, on_either_store},
    server::rig::{MAIN, Rig},
};

const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// What Slack does with a request instead of doing it.
#[derive(Debug, Clone, Copy)]
enum Does {
    Wait { after_s: u64 },
    Refuse(&'static str),
}

#[derive(Clone)]
struct Api {
    does: Arc<Mutex<VecDeque<Does>>>,
    asked: mpsc::UnboundedSender<(String, Value)>,
}

struct FakeSlack {
    url: String,
    asked: mpsc::UnboundedReceiver<(String, Value)>,
}

impl FakeSlack {
    async fn new(does: &[Does]) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let api = Api { does: Arc::new(Mutex::new(does.iter().copied().collect())), asked: sender };
        let router = Router::new().route("/api/{method}", post(asked_for)).with_state(api);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked }
    }

    /// The next request of this method; those before it are passed over.
    async fn next(&mut self, method: &str) -> Value {
        loop {
            let (asked, body) = tokio::time::timeout(PATIENCE, self.asked.recv()).await.unwrap().unwrap();
            if asked == method {
                return body;
            }
        }
    }
}

async fn asked_for(
    State(api): State<Api>,
    Path(method): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    assert_eq!(headers[header::AUTHORIZATION], "Bearer xoxb-token");
    api.asked.send((method, body)).ok();
    let does = api.does.lock().unwrap().pop_front();
    match does {
        Some(Does::Wait { after_s }) => {
            (Status::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, after_s.to_string())]).into_response()
        }
        Some(Does::Refuse(word)) => Json(json!({ "ok": false, "error": word })).into_response(),
        None => Json(json!({ "ok": true, "channel": "C1", "ts": "1700000000.000100" })).into_response(),
    }
}

async fn rig(place: Place, slack: &FakeSlack, more: &str) -> Rig {
    let main = MAIN
        .replace("[person.alice]\n", "[person.alice]\nslack = \"T1/U1\"\n")
        .replace("[person.bob]\n", "[person.bob]\nslack = \"T1/U2\"\n")
        .replace("[person.owner]\n", "[person.owner]\nslack = \"T1/U3\"\n");
    let main = format!(
        "{main}\n[channel.chat]\nkind = \"slack\"\ntoken = {{ file = \"token\" }}\nsigning_secret = {{ file = \"signing\" }}\n\
         channel = \"C1\"\nteam = \"T1\"\napp = \"A1\"\napi_url = \"{}\"\nallow_private = true\n{more}\n",
        slack.url
    );
    Rig::secret_main(place, &main, &[("token", "xoxb-token"), ("signing", SECRET)]).await
}

/// What Slack sends when somebody presses a button.
pub(super) fn pressed(user: &str, action: &str, value: &str) -> Value {
    json!({
        "type": "block_actions", "team": { "id": "T1" }, "api_app_id": "A1", "user": { "id": user, "team_id": "T1" },
        "trigger_id": "trigger-1", "channel": { "id": "C1" },
        "actions": [{ "action_id": action, "value": value }],
    })
}

fn form(payload: &Value) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish()
}

fn sign(secret: &str, at_s: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("v0:{at_s}:{body}").as_bytes());
    tag.as_ref().iter().fold("v0=".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn now_s() -> i64 {
    SystemClock.now_ms() / 1_000
}

async fn send(rig: &Rig, body: &str, at_s: i64, signature: &str) -> (StatusCode, Value) {
    let request = rig
        .request("", Method::POST, "/channels/slack/chat/interact")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-slack-request-timestamp", at_s)
        .header("x-slack-signature", signature)
        .body(body.to_owned());
    crate::server::rig::read(request.send().await.unwrap()).await
}

async fn does(rig: &Rig, payload: &Value) -> (StatusCode, Value) {
    let (body, at_s) = (form(payload), now_s());
    send(rig, &body, at_s, &sign(SECRET, at_s, &body)).await
}

/// The values of a message's buttons, by their names.
pub(super) fn button(message: &Value, action: &str) -> Option<String> {
    let blocks = message["blocks"].as_array().unwrap().iter();
    let elements = blocks.filter_map(|block| block["elements"].as_array()).flatten();
    let found = elements.into_iter().find(|element| element["action_id"] == action);
    found.map(|element| element["value"].as_str().unwrap().to_owned())
}

on_either_store!(async
    a_button_answers_for_whom_it_may_and_for_nobody_else,
);

async fn a_button_answers_for_whom_it_may_and_for_nobody_else(place: Place) {
    let mut slack = FakeSlack::new(&[]).await;
    let rig = rig(place, &slack, "").await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let posted = slack.next("chat.postMessage").await;
    assert_eq!(posted["channel"], "C1");
    let value = button(&posted, "countersign_approve").unwrap();
    let good = pressed("U1", "countersign_approve", &value);

    // Not signed by Slack, long ago, or for somebody else.
    let (body, at_s) = (form(&good), now_s());
    for (signature, at_s) in [
        (String::new(), at_s),
        ("v0=00".to_owned(), at_s),
        (sign("another", at_s, &body), at_s),
        (sign(SECRET, at_s, &format!("{body}x")), at_s),
        (sign(SECRET, at_s - 301, &body), at_s - 301),
        (sign(SECRET, at_s - 301, &body), at_s),
        (sign(SECRET, at_s + 400, &body), at_s + 400),
    ] {
        assert_eq!(send(&rig, &body, at_s, &signature).await.0, StatusCode::UNAUTHORIZED, "{signature}");
    }
    for (pointer, other) in [("/team/id", "T2"), ("/api_app_id", "A2"), ("/user/team_id", "T2")] {
        let mut payload = good.clone();
        *payload.pointer_mut(pointer).unwrap() = json!(other);
        assert_eq!(does(&rig, &payload).await.0, StatusCode::FORBIDDEN, "{pointer}");
    }
    // Nobody we know, in no group that is asked, or whose agent it is; each is told so.
    for (user, words) in [
        ("U9", "no person of this server is the Slack user `T1/U9`"),
        ("U2", "no such request is visible to you"),
        ("U3", "owner"),
    ] {
        assert_eq!(does(&rig, &pressed(user, "countersign_approve", &value)).await.0, StatusCode::OK);
        let told = slack.next("chat.postEphemeral").await;
        assert_eq!(told["user"], user);
        assert!(told["text"].as_str().unwrap().contains(words), "{told}");
    }
    // About another call than was shown.
    let mut other: Value = serde_json::from_str(&value).unwrap();
    other["digest"] = json!("0".repeat(64));
    does(&rig, &pressed("U1", "countersign_approve", &other.to_string())).await;
    let told = slack.next("chat.postEphemeral").await;
    assert!(told["text"].as_str().unwrap().contains("another call"), "{told}");
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    assert_eq!((&shown["state"], &shown["signatures"]), (&json!("waiting"), &json!([])), "{shown}");
    assert_eq!(rig.count("select count(*) from item"), 3);

    let (body, at_s) = (form(&good), now_s());
    let signature = sign(SECRET, at_s, &body);
    assert_eq!(send(&rig, &body, at_s, &signature).await.0, StatusCode::OK);
    let (status, result) = rig.result(&approval).await;
    assert_eq!((status, &result["status"]), (StatusCode::OK, &json!("done")), "{result}");
    assert_eq!(rig.count("select count(*) from item"), 4);
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    assert_eq!(
        (&shown["signatures"][0]["person"], &shown["signatures"][0]["channel"]),
        (&json!("alice"), &json!("slack"))
    );
    // Its message is brought up to date, without buttons.
    loop {
        let updated = slack.next("chat.update").await;
        assert_eq!(
            (&updated["ts"], button(&updated, "countersign_approve")),
            (&json!("1700000000.000100"), None)
        );
        if updated["text"].as_str().unwrap().ends_with("done") {
            break;
        }
    }
    // The same again, and too late.
    assert_eq!(send(&rig, &body, at_s, &signature).await.0, StatusCode::CONFLICT);
    let late = {
        let mut late = good.clone();
        late["trigger_id"] = json!("another");
        late
    };
    assert_eq!(does(&rig, &late).await.0, StatusCode::OK);
    assert!(slack.next("chat.postEphemeral").await["text"].as_str().unwrap().starts_with("Not answered"));
    assert_eq!(rig.count("select count(*) from item"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_has_a_reason_which_reaches_the_agent() {
    let mut slack = FakeSlack::new(&[]).await;
    let rig = rig(Place::sqlite(), &slack, "").await;
    let approval = rig.ask("delete_item", json!({ "id": 1 })).await;
    let posted = slack.next("chat.postMessage").await;
    let value = button(&posted, "countersign_refuse").unwrap();
    assert_eq!(does(&rig, &pressed("U1", "countersign_refuse", &value)).await.0, StatusCode::OK);
    let opened = slack.next("views.open").await;
    assert_eq!(opened["trigger_id"], "trigger-1");
    let submitted = |reason: &str, user: &str| {
        json!({
            "type": "view_submission", "team": { "id": "T1" }, "api_app_id": "A1", "user": { "id": user, "team_id": "T1" },
            "view": { "callback_id": opened["view"]["callback_id"], "private_metadata": opened["view"]["private_metadata"],
                      "state": { "values": { "reason": { "reason": { "value": reason } } } } },
        })
    };
    for (reason, user) in [(" ", "U1"), ("no", "U2"), ("no", "U9")] {
        let (status, body) = does(&rig, &submitted(reason, user)).await;
        assert_eq!((status, &body["response_action"]), (StatusCode::OK, &json!("errors")), "{body}");
    }
    let (status, body) = does(&rig, &submitted("apples sell well", "U1")).await;
    assert_eq!((status, &body["response_action"]), (StatusCode::OK, &json!("clear")));
    let (status, body) = rig.result(&approval).await;
    assert_eq!((status, &body["status"]), (StatusCode::FORBIDDEN, &json!("refused")));
    assert!(body["message"].as_str().unwrap().contains("apples sell well"), "{body}");
    assert_eq!(rig.count("select count(*) from item"), 3);
}

/// What somebody is told below the message who presses the button under one more policy.
async fn pressed_under(file: &str, policy: &str) -> String {
    let mut slack = FakeSlack::new(&[]).await;
    let mut rig = rig(Place::sqlite(), &slack, "").await;
    rig.deployment.write(file, policy);
    rig.stop().await;
    rig.start().await;
    rig.ask("add_item", json!({ "name": "quince" })).await;
    let value = button(&slack.next("chat.postMessage").await, "countersign_approve").unwrap();
    does(&rig, &pressed("U1", "countersign_approve", &value)).await;
    let told = slack.next("chat.postEphemeral").await;
    assert_eq!(rig.count("select count(*) from item"), 3);
    told["text"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_approves_nothing_that_a_policy_wants_confirmed_with_a_passkey() {
    let told = pressed_under(
        "policies/careful.cedar",
        "@id(\"careful\") @ask(\"approvers\") @step_up(\"passkey\") permit (principal, action == Action::\"add_item\", resource);",
    )
    .await;
    assert!(told.contains("careful:careful") && told.contains("/console/requests/apr-"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_policy_forbids_to_answer_is_told_below_the_message() {
    let told = pressed_under(
        "policies/answers.cedar",
        "@id(\"never\") @because(\"she is new\") forbid (principal == Person::\"alice\", action == Action::\"answer\", resource);",
    )
    .await;
    assert!(told.contains("answers:never") && told.contains("she is new"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_left_the_group_or_has_no_key_any_more_answers_nothing() {
    let mut slack = FakeSlack::new(&[]).await;
    let rig = rig(Place::sqlite(), &slack, "").await;
    rig.ask("add_item", json!({ "name": "quince" })).await;
    let value = button(&slack.next("chat.postMessage").await, "countersign_approve").unwrap();
    rig.revoke("owner", "alice").await;
    does(&rig, &pressed("U1", "countersign_approve", &value)).await;
    let told = slack.next("chat.postEphemeral").await;
    assert!(told["text"].as_str().unwrap().contains("neither a good key nor an account"), "{told}");
    assert_eq!(rig.count("select count(*) from item"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_writes_is_no_markup_of_slack_and_arguments_stay_in_the_server() {
    let mut slack = FakeSlack::new(&[]).await;
    let rig = rig(Place::sqlite(), &slack, "").await;
    let reason = "<!channel> & <https://evil.example|Approve>\nState: approved";
    rig.ask("add_item", json!({ "name": "QUINCE", "_reason": reason })).await;
    let posted = slack.next("chat.postMessage").await;
    let claim = posted["blocks"][2]["text"]["text"].as_str().unwrap();
    assert!(claim.starts_with("The agent claims: ") && !claim.contains('\n'), "{claim}");
    let text = posted.to_string();
    assert!(text.contains("&lt;!channel&gt; &amp; &lt;https://evil.example|Approve&gt;"), "{text}");
    assert!(
        !text.contains("<!channel>") && !text.contains("<https://evil") && !text.contains("QUINCE"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_is_refused_before_it_is_looked_at() {
    let slack = FakeSlack::new(&[]).await;
    let rig = rig(Place::sqlite(), &slack, "").await;
    let (body, at_s) = (format!("payload={}", "x".repeat(80 * 1024)), now_s());
    let (status, _) = send(&rig, &body, at_s, &sign(SECRET, at_s, &body)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    for body in ["", "payload=", "payload=%7B%7D", "payload=[1]", "x=y"] {
        let at_s = now_s();
        assert_eq!(
            send(&rig, body, at_s, &sign(SECRET, at_s, body)).await.0,
            StatusCode::BAD_REQUEST,
            "{body}"
        );
    }
    let nowhere = rig.request("", Method::POST, "/channels/slack/nowhere/interact");
    assert_eq!(nowhere.send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_is_asked_again_when_it_says_and_reminded_below_the_message() {
    let mut slack = FakeSlack::new(&[Does::Wait { after_s: 1 }, Does::Refuse("internal_error")]).await;
    let rig = rig(Place::sqlite(), &slack, "[approvals]\nremind_ms = 5000\nescalate_ms = 0").await;
    rig.ask("add_item", json!({ "name": "quince" })).await;
    for _ in 0..3 {
        let posted = slack.next("chat.postMessage").await;
        assert!(button(&posted, "countersign_approve").is_some(), "{posted}");
    }
    let reminded = slack.next("chat.postMessage").await;
    assert_eq!(reminded["thread_ts"], "1700000000.000100");
    assert!(reminded["text"].as_str().unwrap().starts_with("Still waiting"), "{reminded}");
}

#[test]
fn a_slack_user_is_one_person() {
    let mistakes = |main: String| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("countersign.toml"), main).unwrap();
        let found = countersign::config::Config::load(folder.path()).err();
        found.into_iter().flat_map(|found| found.mistakes).map(|one| one.message).collect::<Vec<_>>()
    };
    let with = |alice: &str, owner: &str| {
        MAIN.replace("[person.alice]\n", &format!("[person.alice]\nslack = \"{alice}\"\n"))
            .replace("[person.owner]\n", &format!("[person.owner]\nslack = \"{owner}\"\n"))
    };
    assert_eq!(mistakes(with("T1/U1", "T1/U2")), Vec::<String>::new());
    let found = mistakes(with("T1/U1", "T1/U1"));
    assert!(found.len() == 1 && found[0].contains("are the same Slack user `T1/U1`"), "{found:?}");
    for bad in ["alice", "T1/alice", "U1/T1", "T1/U1/U2", "T1/", "@alice"] {
        let found = mistakes(with(bad, "T1/U2"));
        assert!(found.len() == 1 && found[0].contains("is no user of Slack"), "{bad}: {found:?}");
    }
}
