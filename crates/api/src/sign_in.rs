//! How a command line acts as a person: getting a key for a code of the console, whose key it is, and giving it back.

use axum::{Json, extract::State};
use countersign_rules::Code;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Problem, ProblemBody,
    request::{AsPerson, Strict},
};
use countersign_app::answer::timestamp;

/// What a command line shows to get the key that its person let it have.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// What the browser brought.
    pub code: String,
    /// What the challenge was made of (RFC 7636).
    pub code_verifier: String,
    /// Where the browser brought it.
    pub redirect_uri: String,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("redirect_uri", &self.redirect_uri).finish_non_exhaustive()
    }
}

/// A key that a command line got.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Exchanged {
    /// The key, this once.
    pub secret: String,
    /// Its id.
    pub key: String,
    /// Whose it is.
    pub person: String,
    /// When it stops being good (RFC 3339).
    pub expires_at: Option<String>,
}

impl std::fmt::Debug for Exchanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchanged")
            .field("key", &self.key)
            .field("person", &self.person)
            .finish_non_exhaustive()
    }
}

/// Exchanges a code for a key of the person who let the command line act as them: once, within a minute, for who can show the
/// verifier. Needs no credential.
#[utoipa::path(
    post, path = "/v1/sign-in/exchange", tag = "keys", operation_id = "exchange_code",
    request_body = Exchange,
    responses(
        (status = 200, body = Exchanged),
        (status = 401, description = "The code is not good, or another's", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn exchange(
    State(api): State<Api>,
    Strict(body): Strict<Exchange>,
) -> Result<Json<Exchanged>, Problem> {
    let Exchange { code, code_verifier, redirect_uri } = body;
    let exchanged = Box::pin(api.app.accounts().exchange(&code, &code_verifier, &redirect_uri)).await;
    let (record, secret) = exchanged.inspect_err(|refusal| {
        if refusal.code == Code::Unauthenticated {
            api.app.metrics().unauthenticated();
        }
    })?;
    let person = match &record.owner {
        countersign_store::KeyOwner::Person(person) => person.to_string(),
        countersign_store::KeyOwner::Agent(agent) => agent.to_string(),
    };
    let expires_at = record.expires_ms.and_then(timestamp);
    Ok(Json(Exchanged { secret, key: record.id, person, expires_at }))
}

/// Whose key it is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SignInBody {
    /// The person.
    pub person: String,
    /// The groups that the key has: those of the configuration.
    pub groups: Vec<String>,
    /// The roles that it has.
    pub roles: Vec<String>,
    /// Its id.
    pub key: String,
    /// What it hangs on and is narrowed to.
    pub scopes: Vec<String>,
    /// When it stops being good (RFC 3339); never when `null`.
    pub expires_at: Option<String>,
}

/// Says whose key it is. For people.
#[utoipa::path(
    get, path = "/v1/sign-in", tag = "keys", operation_id = "show_sign_in",
    responses((status = 200, body = SignInBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    AsPerson(person): AsPerson,
) -> Result<Json<SignInBody>, Problem> {
    let key = api.app.store().key_of_id(&person.credential).await?;
    Ok(Json(SignInBody {
        person: person.id.to_string(),
        groups: person.groups.iter().map(ToString::to_string).collect(),
        roles: person.roles.iter().map(|role| role.to_string()).collect(),
        key: person.credential,
        expires_at: key.as_ref().and_then(|key| key.expires_ms).and_then(timestamp),
        scopes: key.map(|key| key.scopes).unwrap_or_default(),
    }))
}

/// That a command line acts as nobody any more.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SignedOffBody {
    /// The id of the key that was revoked.
    pub key: String,
}

/// Revokes the key that is presented, where a command line got it. For people.
#[utoipa::path(
    delete, path = "/v1/sign-in", tag = "keys", operation_id = "end_sign_in",
    responses(
        (status = 200, body = SignedOffBody),
        (status = 400, description = "An operator made the key", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn end(
    State(api): State<Api>,
    AsPerson(person): AsPerson,
) -> Result<Json<SignedOffBody>, Problem> {
    api.app.accounts().end_command_line(&person.credential, &person.id).await?;
    Ok(Json(SignedOffBody { key: person.credential }))
}
