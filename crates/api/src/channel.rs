//! Channels: how they stand, what they were given up for, and trying again. For operators.

use std::sync::Arc;

use axum::{Json, extract::State};
use countersign_app::{answer::timestamp, channel::ChannelState};
use countersign_rules::{ApprovalId, ChannelName, Code};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Problem, ProblemBody,
    request::{AsOperator, Nameable, Named, Strict},
};

/// So many requests for which a channel was given up are shown.
const GIVEN_UP_MAX: u32 = 1_000;

/// Of so many that have something to do soonest it is counted how many fail.
const FAILING_MAX: u32 = 1_000;

impl Nameable for ChannelName {
    const UNKNOWN: &str = "there is no such channel";

    fn named(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

/// A channel, and how it stands.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChannelBody {
    /// Its name.
    pub channel: String,
    /// How it is told: `webhook`, `slack`, `teams`, `teams_workflow` or `email`.
    pub kind: String,
    /// It hears of requests that ask one of these groups; of all when empty.
    pub groups: Vec<String>,
    /// Whether it may be told arguments and rows.
    pub details: bool,
    /// Whether it has said that it is gone: it is told nothing until the server starts again.
    pub gone: bool,
    /// Why nothing arrives now of what people do there, where it comes over a connection that the server opens (Slack's Socket
    /// Mode).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deaf: Option<String>,
    /// For so many requests it was given up, up to 1000.
    pub given_up: usize,
    /// For so many requests, up to 1000, the last try failed, and it is tried again.
    pub failing: usize,
    /// Why the latest of them failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The channels.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChannelsBody {
    /// Every channel that is configured, by name.
    pub channels: Vec<ChannelBody>,
}

/// A channel was given up for a request.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct GivenUpBody {
    /// The request.
    pub approval: String,
    /// What it was not told: `asked`, `ended`, …; oldest first.
    pub events: Vec<String>,
    /// When the oldest of them happened (RFC 3339).
    pub since: Option<String>,
    /// Why the last try failed.
    pub why: String,
}

/// What a channel was given up for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct GivenUpsBody {
    /// The requests.
    pub given_up: Vec<GivenUpBody>,
}

/// For which request to try again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// The request's id.
    pub approval: String,
}

/// That something was begun or done.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChannelDone {
    /// The channel.
    pub channel: String,
    /// Always `true`: anything else is an error.
    pub done: bool,
}

fn find(api: &Api, name: &ChannelName) -> Result<Arc<ChannelState>, Problem> {
    let channels = &api.app.settings().channels;
    channels.iter().find(|channel| channel.name == *name).cloned().ok_or_else(ChannelName::unknown)
}

/// Lists the channels. For operators.
#[utoipa::path(
    get, path = "/v1/channels", tag = "channels", operation_id = "list_channels",
    responses((status = 200, body = ChannelsBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    AsOperator(_person): AsOperator,
) -> Result<Json<ChannelsBody>, Problem> {
    let mut channels = Vec::new();
    for channel in &api.app.settings().channels {
        let (failing, why) = api.app.store().failing(&channel.name, FAILING_MAX).await?;
        channels.push(ChannelBody {
            channel: channel.name.to_string(),
            kind: channel.kind.to_owned(),
            groups: channel.groups.iter().map(ToString::to_string).collect(),
            details: channel.details,
            gone: channel.is_gone(),
            deaf: channel.deaf(),
            given_up: api.app.store().given_up(&channel.name, GIVEN_UP_MAX).await?.len(),
            failing,
            why,
        });
    }
    Ok(Json(ChannelsBody { channels }))
}

/// Lists the requests for which a channel was given up, after a day or because it refused. For operators.
#[utoipa::path(
    get, path = "/v1/channels/{id}/given-up", tag = "channels", operation_id = "list_given_up",
    params(("id" = String, Path, description = "The channel's name")),
    responses(
        (status = 200, body = GivenUpsBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn given_up(
    State(api): State<Api>,
    AsOperator(_person): AsOperator,
    Named(name): Named<ChannelName>,
) -> Result<Json<GivenUpsBody>, Problem> {
    let channel = find(&api, &name)?;
    let found = api.app.store().given_up(&channel.name, GIVEN_UP_MAX).await?;
    let given_up = found.into_iter().map(|one| GivenUpBody {
        approval: one.approval.to_string(),
        events: one.notices.iter().map(|notice| notice.event.as_str().to_owned()).collect(),
        since: one.notices.first().and_then(|notice| timestamp(notice.at_ms)),
        why: one.why,
    });
    Ok(Json(GivenUpsBody { given_up: given_up.collect() }))
}

/// Tries again what a channel was not told of a request. For operators.
#[utoipa::path(
    post, path = "/v1/channels/{id}/retry", tag = "channels", operation_id = "retry_channel",
    params(("id" = String, Path, description = "The channel's name")),
    request_body = Retry,
    responses(
        (status = 200, body = ChannelDone),
        (status = 404, description = "The channel was not given up for this request", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn retry(
    State(api): State<Api>,
    AsOperator(_person): AsOperator,
    Named(name): Named<ChannelName>,
    Strict(body): Strict<Retry>,
) -> Result<Json<ChannelDone>, Problem> {
    let channel = find(&api, &name)?;
    let approval = ApprovalId::named(&body.approval).ok_or_else(ApprovalId::unknown)?;
    if api.app.store().try_again(&approval, &channel.name, api.app.clock().now_ms()).await? {
        return Ok(Json(ChannelDone { channel: name.to_string(), done: true }));
    }
    let message = format!("channel `{name}` was not given up for request `{approval}`: nothing was changed");
    Err(Problem::new(Code::NotFound, message)
        .help("`countersign channels dead NAME` lists what it was given up for"))
}

/// Sends a channel a test message, once, and waits for how that went. For operators.
#[utoipa::path(
    post, path = "/v1/channels/{id}/test", tag = "channels", operation_id = "test_channel",
    params(("id" = String, Path, description = "The channel's name")),
    responses(
        (status = 200, body = ChannelDone),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, description = "It did not arrive, as far as is known", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn test(
    State(api): State<Api>,
    AsOperator(_person): AsOperator,
    Named(name): Named<ChannelName>,
) -> Result<Json<ChannelDone>, Problem> {
    let channel = find(&api, &name)?;
    let tested = channel.test().await;
    tested.map_err(|why| {
        Problem::new(Code::SystemUnavailable, format!("channel `{name}` was not told: {why}"))
            .help("see docs/channels.md for what is sent")
    })?;
    Ok(Json(ChannelDone { channel: name.to_string(), done: true }))
}
