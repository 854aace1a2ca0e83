//! What people do in Microsoft Teams comes here: a card's buttons, with the reason of a refusal.
//!
//! It is believed only when the connector brings it, for this bot and from the configured service, and where it is of the
//! configured tenant, and new. Who it is says the configuration by the ids that Entra gave, never by a name. The answer
//! goes where every answer goes.

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
use countersign_rules::{ApprovalState, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    card::{APPROVE, REFUSE, cut},
    channel::{Channel, Told},
    seen::Seen,
    teams::Teams,
    view::About,
};

/// No activity is longer.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// An answer that came by Teams is recorded to have come so.
const CHANNEL: &str = "teams";

struct Door {
    app: Arc<App>,
    channels: Vec<Arc<Channel>>,
    seen: Seen,
}

/// Returns the route by which people answer in Teams: `POST /channels/teams/NAME/messages`.
pub(crate) fn router(app: &Arc<App>, channels: &[Arc<Channel>]) -> Router {
    let door = Door { app: Arc::clone(app), channels: channels.to_vec(), seen: Seen::default() };
    Router::new().route("/channels/teams/{name}/messages", post(messages)).with_state(Arc::new(door))
}

/// Something happened in Teams.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Activity {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    id: Option<String>,
    channel_id: Option<String>,
    service_url: Option<String>,
    from: Option<From>,
    conversation: Option<Conversation>,
    channel_data: Option<ChannelData>,
    #[serde(default)]
    value: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct From {
    aad_object_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conversation {
    id: Option<String>,
    tenant_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ChannelData {
    tenant: Option<Tenant>,
}

#[derive(Debug, Deserialize)]
struct Tenant {
    id: Option<String>,
}

/// A button was pressed.
#[derive(Debug, Deserialize)]
struct Pressed {
    action: Action,
}

#[derive(Debug, Deserialize)]
struct Action {
    verb: String,
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(flatten)]
    about: About,
    reason: Option<String>,
}

impl Activity {
    /// Tells whether it is of the configured service and tenant. Every place that says a tenant says this one, and one does.
    fn is_ours(&self, teams: &Teams) -> bool {
        let service = self.service_url.as_deref().unwrap_or_default().trim_end_matches('/');
        let of_conversation =
            self.conversation.as_ref().and_then(|conversation| conversation.tenant_id.as_deref());
        let of_channel = self.channel_data.as_ref().and_then(|data| data.tenant.as_ref()?.id.as_deref());
        let mut tenants = [of_conversation, of_channel].into_iter().flatten().peekable();
        self.channel_id.as_deref() == Some("msteams")
            && service == teams.service.as_str().trim_end_matches('/')
            && tenants.peek().is_some()
            && tenants.all(|tenant| tenant.eq_ignore_ascii_case(&teams.tenant))
    }
}

async fn messages(
    State(door): State<Arc<Door>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let said = |status: StatusCode, why: &'static str| (status, why).into_response();
    let channel = door.channels.iter().find(|channel| channel.state.name.as_str() == name).cloned();
    let Some(channel) = channel else {
        return said(StatusCode::NOT_FOUND, "there is no such channel");
    };
    let Told::Teams(teams) = &channel.told else {
        return said(StatusCode::NOT_FOUND, "there is no such channel");
    };
    // Who may not speak is not listened to.
    let until_ms = match teams.connector.accept(&headers).await {
        Ok(until_ms) => until_ms,
        Err(refusal) => {
            tracing::warn!(%refusal, channel = %channel.state.name, "what somebody brought as Teams was not taken");
            return said(StatusCode::UNAUTHORIZED, "this is not brought by the connector of Teams");
        }
    };
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return said(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long");
    };
    let Ok(activity) = serde_json::from_slice::<Activity>(&body) else {
        return said(StatusCode::BAD_REQUEST, "the body holds no activity");
    };
    if !activity.is_ours(teams) {
        return said(StatusCode::FORBIDDEN, "the activity is of another service or tenant");
    }
    if (activity.kind.as_str(), activity.name.as_deref()) != ("invoke", Some("adaptiveCard/action")) {
        // Whoever sets a channel up finds the id here.
        let conversation = activity.conversation.as_ref().and_then(|conversation| conversation.id.as_deref());
        tracing::info!(channel = %channel.state.name, conversation, "the bot was spoken to in Teams, which answers nothing");
        return Json(json!({})).into_response();
    }
    let Some(id) = activity.id.as_deref().filter(|id| !id.is_empty()) else {
        return said(StatusCode::BAD_REQUEST, "the activity has no id");
    };
    let now_s = door.app.clock().now_ms().div_euclid(1_000);
    // A token that brought it once may bring it again as long as it is good.
    let tag = format!("{name} {id}").into_bytes();
    if let Err((status, why)) = door.seen.first_time(tag, now_s, until_ms.div_euclid(1_000)) {
        return said(status, why);
    }
    door.act(teams, &activity).await
}

impl Door {
    async fn act(&self, teams: &Teams, activity: &Activity) -> Response {
        let object =
            activity.from.as_ref().and_then(|from| from.aad_object_id.as_deref()).unwrap_or_default();
        let user = format!("{}/{}", teams.tenant, object.to_ascii_lowercase());
        let Ok(Pressed { action: Action { verb, data } }) = serde_json::from_value(activity.value.clone())
        else {
            return problem("the button is not of this server");
        };
        let answer = match verb.as_str() {
            APPROVE => PersonAnswer::Approve { comment: None, digest: Some(data.about.digest), grant: None },
            REFUSE => PersonAnswer::Refuse { reason: data.reason.unwrap_or_default() },
            _ => return problem("the button is not of this server"),
        };
        let answered = match self.app.auth().teams_user(&user).await {
            Ok(person) => self.app.answer(&person, &data.about.approval, answer, CHANNEL).await,
            Err(refusal) => Err(refusal),
        };
        message(&match answered {
            Ok(record) if record.state == ApprovalState::Waiting => {
                "Your answer counts; others are still asked.".into()
            }
            Ok(record) => format!("Your answer counts. The request is now: {}", record.state.as_str()),
            Err(refusal) => words(&refusal),
        })
    }
}

/// Shows a person a text.
fn message(text: &str) -> Response {
    let kind = "application/vnd.microsoft.activity.message";
    Json(json!({ "statusCode": 200, "type": kind, "value": text })).into_response()
}

fn problem(text: &str) -> Response {
    let value = json!({ "code": "BadRequest", "message": text });
    Json(json!({ "statusCode": 400, "type": "application/vnd.microsoft.error", "value": value }))
        .into_response()
}

/// Returns what a person is told of an answer that does not count.
fn words(refusal: &Refusal) -> String {
    let help = refusal.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
    cut(&format!("Not answered: {}{help}", refusal.message))
}
