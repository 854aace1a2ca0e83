//! Halts: stopping one agent, or all, from the next decision on.

use axum::{Json, extract::State};
use countersign_gate::{
    Ledger as _,
    ledger::{HaltRecord, HaltScope},
};
use countersign_rules::{AgentId, Code};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, Problem, ProblemBody, UrlQuery,
    request::{AsOperator, AsPerson, Strict},
};
use countersign_app::answer::timestamp;

/// A halt in force.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HaltBody {
    /// The agent; all agents when `null`.
    pub agent: Option<String>,
    /// Why.
    pub why: String,
    /// By whom: a person, or the budget that set it off.
    pub by: String,
    /// Since when (RFC 3339).
    pub since: Option<String>,
}

impl From<HaltRecord> for HaltBody {
    fn from(halt: HaltRecord) -> Self {
        Self {
            agent: match halt.scope {
                HaltScope::Agent(agent) => Some(agent.to_string()),
                HaltScope::All => None,
            },
            why: halt.why,
            by: halt.by,
            since: timestamp(halt.since_ms),
        }
    }
}

/// Halts in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HaltsBody {
    /// The halts.
    halts: Vec<HaltBody>,
}

/// Whom to halt. Who halts is what the credential says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Halt {
    /// One agent. Either this or `all`.
    pub agent: Option<String>,
    /// Every agent.
    #[serde(default)]
    pub all: bool,
    /// Why; agents are told.
    pub why: String,
}

/// Which halt to end.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resume {
    /// One agent. Either this or `all`.
    agent: Option<String>,
    /// Every agent.
    #[serde(default)]
    all: bool,
}

fn scope(agent: Option<&str>, all: bool) -> Result<HaltScope, Problem> {
    match (agent, all) {
        (Some(agent), false) => AgentId::parse(agent)
            .map(HaltScope::Agent)
            .map_err(|why| Problem::new(Code::Malformed, format!("`{agent}` is no agent: {why}"))),
        (None, true) => Ok(HaltScope::All),
        (None, false) | (Some(_), true) => Err(Problem::new(Code::Malformed, "say either `agent` or `all`")),
    }
}

/// Halts in force.
#[utoipa::path(
    get, path = "/v1/halts", tag = "halts", operation_id = "list_halts",
    responses((status = 200, body = HaltsBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    AsPerson(_person): AsPerson,
) -> Result<Json<HaltsBody>, Problem> {
    let halts = api.app.store().halts().await?;
    Ok(Json(HaltsBody { halts: halts.into_iter().map(HaltBody::from).collect() }))
}

/// Halts an agent, or all. For approvers, operators and admins.
#[utoipa::path(
    post, path = "/v1/halts", tag = "halts", operation_id = "halt",
    request_body = Halt,
    responses((status = 200, body = HaltBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn halt(
    State(api): State<Api>,
    AsPerson(person): AsPerson,
    Strict(halt): Strict<Halt>,
) -> Result<Json<HaltBody>, Problem> {
    let scope = scope(halt.agent.as_deref(), halt.all)?;
    Ok(Json(api.app.halt(&person, scope, &halt.why).await?.into()))
}

/// Whether there was such a halt.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Resumed)]
pub struct ResumedBody {
    /// Always `true`: there being none is an error.
    pub resumed: bool,
}

/// Ends a halt. For operators.
#[utoipa::path(
    delete, path = "/v1/halts", tag = "halts", operation_id = "resume",
    params(Resume),
    responses(
        (status = 200, body = ResumedBody),
        (status = 404, description = "There is no such halt", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn resume(
    State(api): State<Api>,
    AsOperator(person): AsOperator,
    UrlQuery(resume): UrlQuery<Resume>,
) -> Result<Json<ResumedBody>, Problem> {
    let scope = scope(resume.agent.as_deref(), resume.all)?;
    api.app.resume(&person, &scope).await?;
    Ok(Json(ResumedBody { resumed: true }))
}
