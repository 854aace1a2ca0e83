//! Calls that people granted beside an approval.

use axum::{Json, extract::State};
use countersign_app::request::RequestBody;
use countersign_rules::ApprovalId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Problem, ProblemBody,
    request::{AsPerson, Named, Strict},
};

/// A person who approves a call grants calls like it: of the same agent, session and tool, with other values, each of
/// which may reach no further than that one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantTermsBody {
    /// So many further calls.
    pub calls: u32,
    /// For so many seconds from the answer on.
    pub seconds: u64,
}

/// The requests with which calls were granted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct GrantsBody {
    /// Those that end first come first; what is left is in `grant`.
    pub grants: Vec<RequestBody>,
}

/// Grants of which something is left: those given with requests that ask a group of the person, and all for operators.
#[utoipa::path(
    get, path = "/v1/grants", tag = "approvals", operation_id = "list_grants",
    responses((status = 200, body = GrantsBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    AsPerson(person): AsPerson,
) -> Result<Json<GrantsBody>, Problem> {
    let records = api.app.grants(&person).await?;
    Ok(Json(GrantsBody { grants: records.iter().map(RequestBody::from).collect() }))
}

/// Why a grant is ended. Who ends it is what the credential says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndGrant {
    /// Why, for the log.
    pub reason: String,
}

/// Ends what was granted with a request, before its time. Calls under way go on.
#[utoipa::path(
    post, path = "/v1/approvals/{id}/grant/end", tag = "approvals", operation_id = "end_grant",
    params(("id" = String, Path, description = "The request's id")),
    request_body = EndGrant,
    responses(
        (status = 200, body = RequestBody),
        (status = 404, description = "There is no such grant", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn end(
    State(api): State<Api>,
    AsPerson(person): AsPerson,
    Named(id): Named<ApprovalId>,
    Strict(body): Strict<EndGrant>,
) -> Result<Json<RequestBody>, Problem> {
    let record = api.app.end_grant(&person, &id, &body.reason).await?;
    Ok(Json(RequestBody::from(&record)))
}
