//! REST under `/v1`: for agents without MCP, for people's programs and for the console.
//!
//! What comes in and goes out are types, which clients in Rust write and read as well: the command line does.
//!
//! Handlers read a strict request, ask the gate or the ledger, and answer. Who is asking comes from the
//! credential; a body that names an identity has an unknown field and is refused.

#![expect(unused_qualifications, reason = "the macros of utoipa qualify what they repeat")]

mod approval;
mod budget;
mod call;
mod channel;
mod event;
mod grant;
mod halt;
mod key;
mod level;
mod log;
mod page;
mod problem;
mod request;
mod sign_in;
mod status;
mod tool;

use std::sync::{Arc, atomic::AtomicI64};

use axum::{
    Router,
    extract::FromRequestParts,
    http::{HeaderValue, request::Parts},
};
use countersign_rules::Code;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::{
    approval::{Approve, Erased, Narrow, Refuse, RequestsBody},
    budget::{AccountBody, BudgetsBody},
    call::{CallBody, CallsBody, DoubtFinding, OnChange, Proposal, Undoing},
    channel::{ChannelBody, ChannelDone, ChannelsBody, GivenUpBody, GivenUpsBody, Retry},
    grant::{EndGrant, GrantTermsBody, GrantsBody},
    halt::{Halt, HaltBody, ResumedBody},
    key::{KeyBody, KeysBody, Revoked},
    problem::{Problem, ProblemBody},
    sign_in::{Exchange, Exchanged, SignInBody, SignedOffBody},
};
use countersign_app::App;

/// What handlers share.
#[derive(Debug, Clone)]
pub struct Api {
    pub(crate) app: Arc<App>,
    pub(crate) stopping: CancellationToken,
    /// When the ledger was last seen to commit, in Unix milliseconds UTC.
    pub(crate) written_ms: Arc<AtomicI64>,
    /// The value of `WWW-Authenticate`.
    pub(crate) challenge: HeaderValue,
}

impl Api {
    /// The front door of an application, until the server stops. `resource_metadata` is where clients find the metadata of
    /// the protected resource (RFC 9728), when the server takes access tokens.
    #[must_use]
    pub fn new(app: Arc<App>, stopping: CancellationToken, resource_metadata: Option<&str>) -> Self {
        let written_ms = Arc::new(AtomicI64::new(i64::MIN));
        Self { app, stopping, written_ms, challenge: request::challenge_value(resource_metadata) }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Countersign",
        description = "Agents propose, rules decide, people countersign what is risky, tools act, and a log proves it.",
    ),
    modifiers(&Bearer),
    tags(
        (name = "calls", description = "Proposing calls, and what became of them"),
        (name = "approvals", description = "Requests for people's approval"),
        (name = "tools", description = "What may be called"),
        (name = "log", description = "The log and its proofs"),
        (name = "halts", description = "Stopping agents"),
        (name = "keys", description = "Credentials"),
        (name = "budgets", description = "Limits and what is left"),
        (name = "channels", description = "How people are told"),
        (name = "events", description = "That something changed"),
    ),
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key of an agent or a person, or an agent's OAuth 2.1 access token"))
            .build();
        openapi
            .components
            .get_or_insert_with(Default::default)
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(call::propose, call::list))
        .routes(routes!(call::show))
        .routes(routes!(call::resolve))
        .routes(routes!(call::undo))
        .routes(routes!(approval::list))
        .routes(routes!(approval::show))
        .routes(routes!(approval::approve))
        .routes(routes!(approval::refuse))
        .routes(routes!(approval::narrow))
        .routes(routes!(approval::look_closer))
        .routes(routes!(approval::result))
        .routes(routes!(approval::erase))
        .routes(routes!(level::show))
        .routes(routes!(grant::list))
        .routes(routes!(grant::end))
        .routes(routes!(tool::list))
        .routes(routes!(halt::list, halt::halt, halt::resume))
        .routes(routes!(key::list))
        .routes(routes!(key::revoke))
        .routes(routes!(sign_in::exchange))
        .routes(routes!(sign_in::show, sign_in::end))
        .routes(routes!(budget::list))
        .routes(routes!(channel::list))
        .routes(routes!(channel::given_up))
        .routes(routes!(channel::retry))
        .routes(routes!(channel::test))
        .routes(routes!(log::checkpoint))
        .routes(routes!(log::entries))
        .routes(routes!(log::receipt))
        .routes(routes!(event::events))
}

/// The OpenAPI 3.1 document, made from the handlers.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().split_for_parts().1
}

/// Every route under `/v1`, the log's tiles, and the server's own state.
pub fn router(api: Api) -> Router {
    let (routes, document) = described().split_for_parts();
    let document = Arc::new(document);
    routes
        .route(
            "/v1/openapi.json",
            axum::routing::get(move || {
                let document = Arc::clone(&document);
                async move { axum::Json((*document).clone()) }
            }),
        )
        .merge(log::tiles())
        .merge(status::routes())
        .fallback(|| async { Problem::new(Code::NotFound, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::Malformed, "this path does not answer this method")
                .status(http::StatusCode::METHOD_NOT_ALLOWED)
        })
        .with_state(api)
}

/// The query of a request, as a type that knows all of its parameters.
pub(crate) struct UrlQuery<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for UrlQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|query| Self(query.0))
            .map_err(|why| Problem::new(Code::Malformed, why.body_text().to_lowercase()))
    }
}
