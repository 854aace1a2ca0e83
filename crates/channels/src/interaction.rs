//! What people do in Slack comes here: buttons, and the reason of a refusal. It comes by requests, or over a connection that we
//! open ([`crate::socket`]).
//!
//! A request is believed only when Slack has signed it, not long ago, for the first time, and for the configured
//! team and app. Who it is says the configuration by the ids that Slack signed. The answer goes where every answer
//! goes.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use countersign_app::{App, approval::PersonAnswer};
use countersign_rules::{Code, Refusal};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    channel::{Channel, ReadSecret, Told},
    seen::Seen,
    slack::{APPROVE, Hears, REFUSE, Slack, escape},
    view::About,
};

/// No interaction is longer.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// A signature is good for so long, in seconds.
const WINDOW_S: i64 = 300;

/// An answer that came by Slack is recorded to have come so.
const CHANNEL: &str = "slack";

/// The reason of a refusal stands in this block, and in its element of the same name.
const REASON: &str = "reason";

struct Door {
    app: Arc<App>,
    channels: Vec<Arc<Channel>>,
    /// The signatures that were believed.
    seen: Seen,
}

/// Returns the route by which people answer in Slack: `POST /channels/slack/NAME/interact`.
pub(crate) fn router(app: &Arc<App>, channels: &[Arc<Channel>]) -> Router {
    let door = Door { app: Arc::clone(app), channels: channels.to_vec(), seen: Seen::default() };
    Router::new().route("/channels/slack/{name}/interact", post(interact)).with_state(Arc::new(door))
}

/// A person did this.
#[derive(Debug, Deserialize)]
pub(crate) struct Payload {
    #[serde(rename = "type")]
    kind: String,
    team: Option<Id>,
    api_app_id: Option<String>,
    user: User,
    #[serde(default)]
    actions: Vec<Action>,
    trigger_id: Option<String>,
    channel: Option<Id>,
    view: Option<View>,
}

#[derive(Debug, Deserialize)]
struct Id {
    id: String,
}

#[derive(Debug, Deserialize)]
struct User {
    id: String,
    team_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Action {
    action_id: String,
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
struct View {
    callback_id: String,
    private_metadata: String,
    state: Value,
}

async fn interact(
    State(door): State<Arc<Door>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let said = |status: StatusCode, why: &'static str| (status, why).into_response();
    let channel = door.channels.iter().find(|channel| channel.state.name.as_str() == name).cloned();
    let found = channel.as_ref().and_then(|channel| match &channel.told {
        Told::Slack(slack) => Some((channel, slack)),
        Told::Webhook(_) | Told::Email(_) | Told::Teams(_) | Told::Workflow(_) => None,
    });
    // What is heard over a connection is not heard here as well.
    let Some((channel, slack, secret)) = found.and_then(|(channel, slack)| match &slack.hears {
        Hears::Signed(secret) => Some((channel, slack, secret)),
        Hears::Socket(_) => None,
    }) else {
        return said(StatusCode::NOT_FOUND, "there is no such channel");
    };
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return said(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long");
    };
    let now_s = door.app.clock().now_ms().div_euclid(1_000);
    let Some(tag) = signed(secret, &headers, &body, now_s) else {
        return said(StatusCode::UNAUTHORIZED, "the request is not signed, or was signed long ago");
    };
    // A timestamp may lie as far ahead as behind.
    let until_s = now_s.saturating_add(WINDOW_S.saturating_mul(2));
    if let Err((status, why)) = door.seen.first_time(tag, now_s, until_s) {
        return said(status, why);
    }
    let payload = url::form_urlencoded::parse(&body).find(|(key, _)| key == "payload");
    let payload = payload.and_then(|(_, text)| serde_json::from_str::<Payload>(&text).ok());
    let Some(payload) = payload else {
        return said(StatusCode::BAD_REQUEST, "the body holds no interaction");
    };
    if !is_ours(slack, &payload) {
        return said(StatusCode::FORBIDDEN, "the interaction is of another team or app");
    }
    let answered = act(&door.app, channel, payload).await;
    answered.map_or_else(|| StatusCode::OK.into_response(), |body| Json(body).into_response())
}

/// Returns the signature of a body where Slack has made it within the last minutes.
fn signed(secret: &ReadSecret, headers: &HeaderMap, body: &[u8], now_s: i64) -> Option<Vec<u8>> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let timestamp = header("x-slack-request-timestamp")?;
    let at_s: i64 = timestamp.parse().ok()?;
    if now_s.abs_diff(at_s) > WINDOW_S.unsigned_abs() {
        return None;
    }
    let tag = bytes(header("x-slack-signature")?.strip_prefix("v0=")?)?;
    let secret = secret().ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).ok()?;
    mac.update(format!("v0:{timestamp}:").as_bytes());
    mac.update(body);
    // In constant time.
    mac.verify_slice(&tag).ok()?;
    Some(tag)
}

/// Reads bytes by their digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = digits.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let pair = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high.checked_mul(16)?.checked_add(*low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

pub(crate) fn is_ours(slack: &Slack, payload: &Payload) -> bool {
    let team = payload.team.as_ref().is_some_and(|team| team.id == slack.team);
    // Somebody of another team may be a guest in a shared channel.
    let home = payload.user.team_id.as_ref().is_none_or(|team| *team == slack.team);
    let app = slack.app.as_ref().is_none_or(|app| payload.api_app_id.as_ref() == Some(app));
    team && home && app
}

/// Does what a person asks who is one of this channel's team, and returns what Slack is to show of it, if anything.
pub(crate) async fn act(app: &App, channel: &Arc<Channel>, payload: Payload) -> Option<Value> {
    let Told::Slack(slack) = &channel.told else { return None };
    let user = format!("{}/{}", slack.team, payload.user.id);
    if let (Some(view), "view_submission") = (&payload.view, payload.kind.as_str()) {
        return refuse(app, &user, view).await;
    }
    let action = payload.actions.first();
    let about = action.and_then(|action| serde_json::from_str::<About>(action.value.as_deref()?).ok());
    // Without both a link was followed, or a button is of somebody else: nothing is asked of us.
    let (action, about) = (action?, about?);
    let told = match action.action_id.as_str() {
        APPROVE => approve(app, &user, about).await,
        REFUSE => ask_why(app, slack, &user, about, payload.trigger_id.as_deref()).await,
        _ => return None,
    };
    if let Err(refusal) = told {
        let place = payload.channel.map_or_else(|| slack.channel.clone(), |channel| channel.id);
        let body = json!({ "channel": place, "user": payload.user.id, "text": words(&refusal) });
        let channel = Arc::clone(channel);
        // Slack waits for us no longer than three seconds, and we do not make it wait for itself.
        tokio::spawn(async move {
            if let Told::Slack(slack) = &channel.told
                && slack.call("chat.postEphemeral", &body).await.is_err()
            {
                tracing::warn!(channel = %channel.state.name, "a person could not be told why an answer does not count");
            }
        });
    }
    None
}

async fn approve(app: &App, user: &str, about: About) -> Result<(), Refusal> {
    let person = app.auth().slack_user(user).await?;
    let answer = PersonAnswer::Approve { comment: None, digest: Some(about.digest), grant: None };
    app.answer(&person, &about.approval, answer, CHANNEL).await.map(|_record| ())
}

/// Asks a person for the reason of a refusal.
async fn ask_why(
    app: &App,
    slack: &Slack,
    user: &str,
    about: About,
    trigger: Option<&str>,
) -> Result<(), Refusal> {
    app.auth().slack_user(user).await?;
    let plain = |text: &str| json!({ "type": "plain_text", "text": text });
    let about = json!(about).to_string();
    let input =
        json!({ "type": "plain_text_input", "action_id": REASON, "multiline": true, "max_length": 2_000 });
    let view = json!({
        "type": "modal", "callback_id": REFUSE, "private_metadata": about,
        "title": plain("Refuse"), "submit": plain("Refuse"), "close": plain("Cancel"),
        "blocks": [{ "type": "input", "block_id": REASON, "element": input,
                     "label": plain("Why? The agent is told.") }],
    });
    let opened = slack.call("views.open", &json!({ "trigger_id": trigger, "view": view })).await;
    opened.map(|_answer| ()).map_err(|_why| {
        Refusal::new(
            Code::SystemUnavailable,
            "Slack did not open the form for the reason: nothing was answered",
        )
        .help("press the button again")
    })
}

/// Refuses with the reason that a person gave.
async fn refuse(app: &App, user: &str, view: &View) -> Option<Value> {
    let about = serde_json::from_str::<About>(&view.private_metadata).ok();
    let (Some(about), REFUSE) = (about, view.callback_id.as_str()) else { return None };
    let reason = view.state.pointer("/values/reason/reason/value").and_then(Value::as_str);
    let answer = PersonAnswer::Refuse { reason: reason.unwrap_or_default().to_owned() };
    let answered = match app.auth().slack_user(user).await {
        Ok(person) => app.answer(&person, &about.approval, answer, CHANNEL).await.map(|_record| ()),
        Err(refusal) => Err(refusal),
    };
    Some(match answered {
        Ok(()) => json!({ "response_action": "clear" }),
        Err(refusal) => json!({ "response_action": "errors", "errors": { REASON: words(&refusal) } }),
    })
}

/// Returns what a person is told of an answer that does not count.
fn words(refusal: &Refusal) -> String {
    let help = refusal.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
    escape(&format!("Not answered: {}{help}", refusal.message))
}
