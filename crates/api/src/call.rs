//! Calls: proposing one, and what became of it.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use countersign_gate::{Answer, Ledger as _, ledger::CallRecord};
use countersign_rules::{CallId, Code, PersonId};
use countersign_store::CallFilter;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Api, Problem, ProblemBody,
    page::{after, cut, page_size},
    problem,
    request::{AsAgent, AsAnybody, AsOperator, Nameable as _, Named, Strict, WithCall},
};
use countersign_app::{
    answer::{AnswerBody, http_status, timestamp},
    auth::{Principal, Scopes},
    undo::UndoProposal,
};

/// A proposed call. Who proposes it is what the credential says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// The tool's name.
    pub tool: String,
    /// Its arguments, with the agent's reason as `_reason`.
    #[serde(default = "empty")]
    #[schema(value_type = Object)]
    pub arguments: Value,
    /// A key that names the session; limits and history attach to it. The credential's own session if not
    /// said.
    pub session: Option<String>,
    /// How long to wait for people before the answer is `pending`, in milliseconds; at most the server's
    /// `wait_ms`. Not at all if not said.
    pub wait_ms: Option<u64>,
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Proposes a call.
#[utoipa::path(
    post, path = "/v1/calls", tag = "calls", operation_id = "propose_call",
    params(("Idempotency-Key" = Option<String>, Header, description = "A key of 1 to 255 visible ASCII characters, quoted or bare, \
            under which the same call has the same answer, however often it is sent")),
    request_body = Proposal,
    responses(
        (status = 200, description = "Performed", body = AnswerBody),
        (status = 202, description = "People are asked; nothing was done yet", body = AnswerBody),
        (status = 422, description = "Among others: the idempotency key was used for another call (`R021`)", body = AnswerBody),
        (status = "4XX", description = "Not performed; `status` and `code` say why", body = AnswerBody),
        (status = "5XX", description = "Not performed, or not known; `status` and `code` say which", body = AnswerBody),
        (status = 400, description = "The request is malformed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No good credential", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn propose(
    State(api): State<Api>,
    AsAgent(who): AsAgent,
    WithCall(beside): WithCall,
    Strict(proposal): Strict<Proposal>,
) -> Result<Response, Problem> {
    let app = &api.app;
    let requester = app.requester(&who, proposal.session.as_deref(), "rest", None).await?;
    let answer = app.call(&who, &requester, &proposal.tool, proposal.arguments, beside).await;
    let answer = match (answer, proposal.wait_ms) {
        (Answer::Pending(pending), Some(wait_ms)) => {
            let wait = std::time::Duration::from_millis(wait_ms).min(app.settings().wait);
            tokio::select! {
                answer = app.wait(&who, pending.clone(), wait, |_progress| {}) => answer,
                () = api.stopping.cancelled() => Answer::Pending(pending),
            }
        }
        (answer, _) => answer,
    };
    Ok(respond(&answer))
}

/// An answer with the HTTP status that goes with it.
pub(crate) fn respond(answer: &Answer) -> Response {
    let (status, retry_after_ms) = match answer {
        Answer::Done(_) => (StatusCode::OK, None),
        Answer::Pending(_) => (StatusCode::ACCEPTED, None),
        Answer::Refused(refused) => (http_status(refused.refusal.code), refused.refusal.retry_after_ms),
    };
    let mut response = (status, Json(AnswerBody::from(answer))).into_response();
    problem::retry_after(response.headers_mut(), retry_after_ms);
    response
}

/// A call that was issued.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CallBody {
    /// Its id.
    pub call: String,
    /// Whose.
    pub agent: String,
    /// In which session.
    pub session: String,
    /// The tool.
    pub tool: String,
    /// The system it acts on.
    pub system: String,
    /// `read`, `write` or `destructive`.
    pub effect: String,
    /// The arguments.
    #[schema(value_type = Object)]
    pub arguments: Value,
    /// What the agent says it is for. The agent's claim; no rule looks at it.
    pub reason_claimed: Option<String>,
    /// `open`, `done`, `failed` or `in_doubt`.
    pub state: String,
    /// What became of it. The result itself is for the agent alone.
    #[schema(value_type = Option<Object>)]
    pub outcome: Option<Value>,
    /// The decision it stands on.
    pub decision: String,
    /// The request it spent.
    pub approval: Option<String>,
    /// The idempotency key that its agent gave it.
    pub idempotency_key: Option<String>,
    /// Rows touched or returned.
    pub rows: u64,
    /// When it was issued (RFC 3339).
    pub issued_at: Option<String>,
    /// When it was closed (RFC 3339).
    pub closed_at: Option<String>,
}

impl CallBody {
    fn new(record: CallRecord, with_result: bool) -> Self {
        let mut outcome = record.outcome.as_ref().and_then(|outcome| serde_json::to_value(outcome).ok());
        if !with_result && let Some(outcome) = outcome.as_mut().and_then(Value::as_object_mut) {
            outcome.remove("reply");
        }
        Self {
            call: record.call.id.to_string(),
            agent: record.call.requester.agent.to_string(),
            session: record.call.requester.session.to_string(),
            tool: record.call.tool.to_string(),
            system: record.system.to_string(),
            effect: record.effect.to_string(),
            arguments: record.call.arguments,
            reason_claimed: record.call.reason,
            state: record.state.as_str().to_owned(),
            outcome,
            decision: record.decision.to_string(),
            approval: record.approval.map(|approval| approval.to_string()),
            idempotency_key: record.call.key.map(|key| key.to_string()),
            rows: record.rows,
            issued_at: timestamp(record.issued_ms),
            closed_at: record.closed_ms.and_then(timestamp),
        }
    }
}

/// One issued call. Agents see their own, with its result; people see every one, without.
#[utoipa::path(
    get, path = "/v1/calls/{id}", tag = "calls", operation_id = "get_call",
    params(("id" = String, Path, description = "The call's id")),
    responses(
        (status = 200, body = CallBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    AsAnybody(who): AsAnybody,
    Named(id): Named<CallId>,
) -> Result<Json<CallBody>, Problem> {
    let record = api.app.store().call(&id).await?.ok_or_else(CallId::unknown)?;
    match who {
        Principal::Agent(agent) if agent.sees(&record.call) => Ok(Json(CallBody::new(record, true))),
        Principal::Agent(_) => Err(CallId::unknown()),
        Principal::Person(_) => Ok(Json(CallBody::new(record, false))),
    }
}

/// A list of calls.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CallsBody {
    /// Newest first.
    pub calls: Vec<CallBody>,
    /// Where the next page begins, when there is more.
    pub next: Option<String>,
}

/// Which calls.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallsQuery {
    /// `open`, `done`, `failed` or `in_doubt`; all if not said.
    state: Option<String>,
    /// At most so many, 1 to 1000; 100 if not said.
    limit: Option<u32>,
    /// After this call: the `next` of the page before.
    after: Option<String>,
}

/// Issued calls, newest first, without their results. People see every one; agents their own, of the tools that their
/// credential reaches. A call that waits for people is a request until they have granted it.
#[utoipa::path(
    get, path = "/v1/calls", tag = "calls", operation_id = "list_calls",
    params(CallsQuery),
    responses((status = 200, body = CallsBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    AsAnybody(who): AsAnybody,
    super::UrlQuery(query): super::UrlQuery<CallsQuery>,
) -> Result<Json<CallsBody>, Problem> {
    use countersign_gate::ledger::CallState;
    let state = match query.state.as_deref() {
        None => None,
        Some("open") => Some(CallState::Open),
        Some("done") => Some(CallState::Done),
        Some("failed") => Some(CallState::Failed),
        Some("in_doubt") => Some(CallState::InDoubt),
        Some(other) => {
            return Err(Problem::new(Code::Malformed, format!("`{other}` is no state of a call"))
                .help("write one of `open`, `done`, `failed`, `in_doubt`"));
        }
    };
    let (agent, tools) = match who {
        Principal::Person(_) => (None, None),
        Principal::Agent(identity) => {
            let tools = match identity.scopes {
                Scopes::All => None,
                Scopes::Tools(tools) => Some(tools),
            };
            (Some(identity.agent), tools)
        }
    };
    let after = query.after.as_deref().map(after).transpose()?;
    let filter = CallFilter { state, agent, tools, after };
    let page = page_size(query.limit);
    let mut records = api.app.store().list_calls(&filter, page.saturating_add(1)).await?;
    let more = cut(&mut records, page);
    let next = records.last().filter(|_| more).map(|record| record.call.id.to_string());
    let calls = records.into_iter().map(|record| CallBody::new(record, false)).collect();
    Ok(Json(CallsBody { calls, next }))
}

/// A person's finding about a call in doubt. Who finds is what the credential says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Finding)]
pub struct DoubtFinding {
    /// Whether the call had its effect.
    pub happened: bool,
    /// How it was found out.
    pub comment: String,
}

/// Settles a call in doubt. For operators.
#[utoipa::path(
    post, path = "/v1/calls/{id}/resolve", tag = "calls", operation_id = "resolve_call",
    params(("id" = String, Path, description = "The call's id")),
    request_body = DoubtFinding,
    responses(
        (status = 200, body = CallBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn resolve(
    State(api): State<Api>,
    AsOperator(person): AsOperator,
    Named(id): Named<CallId>,
    Strict(finding): Strict<DoubtFinding>,
) -> Result<Json<CallBody>, Problem> {
    let none = || Problem::new(Code::NotFound, "no such call is in doubt");
    let store = api.app.store();
    let record = store.call(&id).await?.ok_or_else(none)?;
    own(&record, &person.id)?;
    let comment: String = finding.comment.chars().take(2_000).collect();
    if !api.app.gate().resolve_doubt(&id, &person.id, finding.happened, &comment).await? {
        return Err(none());
    }
    let record = store.call(&id).await?.ok_or_else(none)?;
    Ok(Json(CallBody::new(record, false)))
}

/// What to do about rows that changed since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnChange {
    /// Undo nothing.
    #[default]
    Refuse,
    /// Leave those rows as they are now, and undo the others.
    Skip,
}

/// How a call is to be undone. Who undoes it is what the credential says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Undoing {
    /// What to do about rows that changed since; `refuse` if not said.
    #[serde(default)]
    pub on_change: OnChange,
    /// Columns, as `column` or `table.column`, in which rows may differ afterwards because triggers of the
    /// database write them. Each that does is told in the result.
    #[serde(default)]
    pub rewritten: Vec<String>,
    /// Why, for the record and the approver.
    pub reason: Option<String>,
    /// A key that names the session. The credential's own session if not said.
    pub session: Option<String>,
    /// How long to wait for people before the answer is `pending`, in milliseconds; at most the server's
    /// `wait_ms`. Not at all if not said.
    pub wait_ms: Option<u64>,
}

/// Proposes to undo a call, which is a call itself: decided, measured, approved where a policy asks, and
/// undoable. Agents undo their own calls; people any, which other people approve. After an approval, the
/// same request gives the result.
#[utoipa::path(
    post, path = "/v1/calls/{id}/undo", tag = "calls", operation_id = "undo_call",
    params(
        ("id" = String, Path, description = "The call to undo"),
        ("Idempotency-Key" = Option<String>, Header, description = "As of `POST /v1/calls`; the keys of people who undo are shared"),
    ),
    request_body = Undoing,
    responses(
        (status = 200, description = "Undone", body = AnswerBody),
        (status = 202, description = "People are asked; nothing was done yet", body = AnswerBody),
        (status = "4XX", description = "Not undone; `status` and `code` say why", body = AnswerBody),
        (status = "5XX", description = "Not undone, or not known; `status` and `code` say which", body = AnswerBody),
        (status = 400, description = "The request is malformed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No good credential", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such call that the caller may undo", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn undo(
    State(api): State<Api>,
    AsAnybody(who): AsAnybody,
    Named(id): Named<CallId>,
    WithCall(beside): WithCall,
    Strict(undoing): Strict<Undoing>,
) -> Result<Response, Problem> {
    let wait = std::time::Duration::from_millis(undoing.wait_ms.unwrap_or(0));
    let undo = UndoProposal {
        call: id,
        skip_changed: undoing.on_change == OnChange::Skip,
        rewritten: undoing.rewritten,
        reason: undoing.reason,
        session: undoing.session,
        beside,
        wait: wait.min(api.app.settings().wait),
    };
    Ok(respond(&api.app.undo(who, undo).await?))
}

/// Nobody settles what they or their agent did.
fn own(record: &CallRecord, person: &PersonId) -> Result<(), Problem> {
    if record.call.requester.is_own(person) {
        let message = format!("the call was made for `{person}`, who cannot settle it");
        return Err(Problem::new(Code::AnswerRefused, message).help("another operator must"));
    }
    Ok(())
}
