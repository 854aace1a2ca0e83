//! Requests for people's approval.

use std::time::Duration;

use axum::{Json, extract::State, response::Response};
use countersign_gate::{Answer, GrantOffer, NewEntry};
use countersign_rules::{ApprovalId, ApprovalState, Code};
use countersign_store::{ApprovalFilter, Erasure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, Problem, ProblemBody, UrlQuery,
    call::respond,
    grant::GrantTermsBody,
    page::{after, cut, page_size},
    request::{AsAdmin, AsAgent, AsAnybody, AsPerson, Named, Strict},
};
use countersign_app::{
    answer::{ASKED_STILL_HELP, AnswerBody, asked_still},
    approval::{PersonAnswer, visible},
    auth::Principal,
    request::{RequestBody, RequestDetail},
    role::Right,
};

/// An answer that came by REST is recorded to have come so.
const CHANNEL: &str = "rest";

/// Which requests.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// A state, or `all`; `waiting` if not said.
    state: Option<String>,
    /// At most so many, 1 to 1000; 100 if not said.
    limit: Option<u32>,
    /// After this request: the `next` of the page before.
    after: Option<String>,
    /// For people: `true` for those that ask one of one's groups alone, whatever else one's role sees.
    mine: Option<bool>,
}

/// A list of requests.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RequestsBody {
    /// Oldest first.
    pub approvals: Vec<RequestBody>,
    /// Where the next page begins, when there is more.
    pub next: Option<String>,
}

/// Requests, oldest first. People see those that ask their groups; agents see their own.
#[utoipa::path(
    get, path = "/v1/approvals", tag = "approvals", operation_id = "list_approvals",
    params(ListQuery),
    responses((status = 200, body = RequestsBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    AsAnybody(who): AsAnybody,
    UrlQuery(query): UrlQuery<ListQuery>,
) -> Result<Json<RequestsBody>, Problem> {
    let state = match query.state.as_deref() {
        None => Some(ApprovalState::Waiting),
        Some("all") => None,
        Some(word) => {
            let known = ApprovalState::ALL.into_iter().find(|state| state.as_str() == word);
            let unknown = || Problem::new(Code::Malformed, format!("`{word}` is no state of a request"));
            Some(known.ok_or_else(unknown)?)
        }
    };
    let mut filter = ApprovalFilter {
        state,
        after: query.after.as_deref().map(after).transpose()?,
        ..ApprovalFilter::default()
    };
    match &who {
        Principal::Agent(agent) => filter.agent = Some(agent.agent.clone()),
        Principal::Person(person) if person.roles.may(Right::SeeAll) && query.mine != Some(true) => {}
        Principal::Person(person) => filter.groups = Some(person.groups.clone()),
    }
    let page = page_size(query.limit);
    let mut records = api.app.store().list_approvals(&filter, page.saturating_add(1)).await?;
    let more = cut(&mut records, page);
    // The ledger was asked for no others; this is what holds if it should answer with some.
    records.retain(|record| visible(record, &who));
    let next = records.last().filter(|_| more).map(|record| record.request.id.to_string());
    Ok(Json(RequestsBody { approvals: records.iter().map(RequestBody::from).collect(), next }))
}

/// One request, with everything an approver needs to judge it.
#[utoipa::path(
    get, path = "/v1/approvals/{id}", tag = "approvals", operation_id = "get_approval",
    params(("id" = String, Path, description = "The request's id")),
    responses(
        (status = 200, body = RequestDetail),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    AsAnybody(who): AsAnybody,
    Named(id): Named<ApprovalId>,
) -> Result<Json<RequestDetail>, Problem> {
    let record = api.app.approval(&id, &who).await?;
    Ok(Json(api.app.detail(&record, &who).await?))
}

/// A person's approval. Who approves is what the credential says.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// A remark for the record.
    pub comment: Option<String>,
    /// The digest that was looked at; when given and another, nothing is approved.
    pub digest: Option<String>,
    /// Calls like it may run as well; no further than `grantable` of the request says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantTermsBody>,
}

/// A person's refusal. Who refuses is what the credential says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refuse {
    /// Why; reaches the agent.
    pub reason: String,
}

/// Approves a request. The call is decided again, and then performed by the server.
#[utoipa::path(
    post, path = "/v1/approvals/{id}/approve", tag = "approvals", operation_id = "approve",
    params(("id" = String, Path, description = "The request's id")),
    request_body = Approve,
    responses(
        (status = 200, body = RequestBody),
        (status = 403, description = "The answer does not count", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn approve(
    State(api): State<Api>,
    AsPerson(person): AsPerson,
    Named(id): Named<ApprovalId>,
    Strict(body): Strict<Approve>,
) -> Result<Json<RequestBody>, Problem> {
    let grant =
        body.grant.map(|grant| GrantOffer { calls: grant.calls, ms: grant.seconds.saturating_mul(1_000) });
    let answer = PersonAnswer::Approve { comment: body.comment, digest: body.digest, grant };
    let record = api.app.answer(&person, &id, answer, CHANNEL).await?;
    Ok(Json(RequestBody::from(&record)))
}

/// Refuses a request.
#[utoipa::path(
    post, path = "/v1/approvals/{id}/refuse", tag = "approvals", operation_id = "refuse",
    params(("id" = String, Path, description = "The request's id")),
    request_body = Refuse,
    responses(
        (status = 200, body = RequestBody),
        (status = 403, description = "The answer does not count", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn refuse(
    State(api): State<Api>,
    AsPerson(person): AsPerson,
    Named(id): Named<ApprovalId>,
    Strict(body): Strict<Refuse>,
) -> Result<Json<RequestBody>, Problem> {
    let answer = PersonAnswer::Refuse { reason: body.reason };
    let record = api.app.answer(&person, &id, answer, CHANNEL).await?;
    Ok(Json(RequestBody::from(&record)))
}

/// A person changes the call of a request. Who changes it is what the credential says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Narrow {
    /// The call is to have these arguments, all of them.
    #[schema(value_type = Object)]
    pub arguments: Value,
    /// Why; reaches the agent.
    pub reason: String,
}

/// Changes the call of a request: what comes of it is a call of its own, measured and decided anew, and asked about by a new
/// request in place of this one. Whoever changed it cannot approve it, unless the rules ask nobody about it.
#[utoipa::path(
    post, path = "/v1/approvals/{id}/narrow", tag = "approvals", operation_id = "narrow",
    params(("id" = String, Path, description = "The request's id")),
    request_body = Narrow,
    responses(
        (status = 200, description = "The new request", body = RequestBody),
        (status = "4XX", description = "The changed call is refused, or the person may not answer; the request is as it was", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn narrow(
    State(api): State<Api>,
    AsPerson(person): AsPerson,
    Named(id): Named<ApprovalId>,
    Strict(body): Strict<Narrow>,
) -> Result<Json<RequestBody>, Problem> {
    let record = api.app.narrow(&person, &id, body.arguments, &body.reason).await?;
    Ok(Json(RequestBody::from(&record)))
}

/// Runs the call of a request and rolls it back, where its system allows that, and shows people what that found. Once somebody
/// has approved, what the request shows stays as it is.
#[utoipa::path(
    post, path = "/v1/approvals/{id}/look-closer", tag = "approvals", operation_id = "look_closer",
    params(("id" = String, Path, description = "The request's id")),
    responses(
        (status = 200, description = "The request as it is now", body = RequestDetail),
        (status = "4XX", description = "It cannot be rehearsed, or the person may not answer; the request is as it was", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn look_closer(
    State(api): State<Api>,
    AsPerson(person): AsPerson,
    Named(id): Named<ApprovalId>,
) -> Result<Json<RequestDetail>, Problem> {
    let record = api.app.look_closer(&person, &id).await?;
    Ok(Json(api.app.detail(&record, &Principal::Person(person)).await?))
}

/// Why evidence is erased.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erase {
    /// Why, for the log.
    reason: String,
}

/// Whether there was any evidence.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Erased {
    /// Always `true`: there being none is an error.
    pub erased: bool,
}

/// Erases the rows, previews and measured values that approvers of a request were shown, for good. The log keeps their
/// commitment, says who erased them and why, and verifies. Not while people are asked: they would answer without having seen
/// them. For admins.
#[utoipa::path(
    delete, path = "/v1/approvals/{id}/evidence", tag = "approvals", operation_id = "erase_evidence",
    params(("id" = String, Path, description = "The request's id"), Erase),
    responses(
        (status = 200, body = Erased),
        (status = 403, description = "People are asked about it still", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such evidence", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn erase(
    State(api): State<Api>,
    AsAdmin(person): AsAdmin,
    Named(id): Named<ApprovalId>,
    UrlQuery(Erase { reason }): UrlQuery<Erase>,
) -> Result<Json<Erased>, Problem> {
    if reason.trim().is_empty() {
        return Err(Problem::new(Code::Malformed, "the erasure has no reason").help("say why, for the log"));
    }
    let reason: String = reason.chars().take(500).collect();
    let entry = NewEntry::evidence_erased(api.app.clock().now_ms(), &id, person.id.as_str(), &reason);
    match api.app.store().erase_evidence(&id, entry).await? {
        Erasure::Erased => Ok(Json(Erased { erased: true })),
        Erasure::Nothing => {
            let message = format!("there is no evidence of `{id}`: nothing was changed");
            Err(Problem::new(Code::NotFound, message))
        }
        Erasure::Asked { until_ms } => {
            Err(Problem::new(Code::AnswerRefused, asked_still(&id, until_ms)).help(ASKED_STILL_HELP))
        }
    }
}

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultQuery {
    /// How long to wait for a final answer, in milliseconds; at most the server's `wait_ms`.
    wait_ms: Option<u64>,
}

/// What became of a request, for the agent that made it.
#[utoipa::path(
    get, path = "/v1/approvals/{id}/result", tag = "approvals", operation_id = "get_result",
    params(("id" = String, Path, description = "The request's id"), ResultQuery),
    responses(
        (status = 200, description = "Performed", body = AnswerBody),
        (status = 202, description = "Not final yet", body = AnswerBody),
        (status = "4XX", description = "Not performed; `status` and `code` say why", body = AnswerBody),
        (status = "5XX", description = "Not performed, or not known", body = AnswerBody),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn result(
    State(api): State<Api>,
    AsAgent(who): AsAgent,
    Named(id): Named<ApprovalId>,
    UrlQuery(query): UrlQuery<ResultQuery>,
) -> Result<Response, Problem> {
    let answer = match (api.app.fetch(&who, &id).await, query.wait_ms) {
        (Answer::Pending(pending), Some(wait_ms)) => {
            let wait = Duration::from_millis(wait_ms).min(api.app.settings().wait);
            tokio::select! {
                answer = api.app.wait(&who, pending.clone(), wait, |_progress| {}) => answer,
                () = api.stopping.cancelled() => Answer::Pending(pending),
            }
        }
        (answer, _) => answer,
    };
    Ok(respond(&answer))
}
