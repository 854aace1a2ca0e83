//! API keys: which there are, for auditors and admins, and revoking one, for admins.
//!
//! Keys are issued on the machine that has the ledger, by `countersign keys create`: whoever could issue one here
//! for somebody else could answer in their name. For themselves people get one by `countersign login` ([`super::sign_in`]).

use axum::{
    Json,
    extract::{Path, State},
};
use countersign_rules::Code;
use countersign_store::{KeyOwner, KeyRecord};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Problem, ProblemBody,
    request::{AsAdmin, AsAuditor},
};
use countersign_app::answer::timestamp;

/// A key, without what could be presented.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyBody {
    /// Its id: the part between prefix and secret.
    pub key: String,
    /// `agent NAME` or `person NAME`.
    pub owner: String,
    /// What it reaches, as `tool:NAME` of an agent's key and `role:NAME` of a person's; everything its owner may where there is
    /// neither. `machine:NAME`, `account:ROUND` and `session:ID` say of a key that `countersign login` got for whom, and that it
    /// is good no longer than the account or the session is as it was.
    pub scopes: Vec<String>,
    /// When it was issued (RFC 3339).
    pub issued_at: Option<String>,
    /// When it stops being good (RFC 3339); never when `null`.
    pub expires_at: Option<String>,
    /// When it was revoked (RFC 3339).
    pub revoked_at: Option<String>,
}

impl From<&KeyRecord> for KeyBody {
    fn from(record: &KeyRecord) -> Self {
        Self {
            key: record.id.clone(),
            owner: match &record.owner {
                KeyOwner::Agent(agent) => format!("agent {agent}"),
                KeyOwner::Person(person) => format!("person {person}"),
            },
            scopes: record.scopes.clone(),
            issued_at: timestamp(record.issued_ms),
            expires_at: record.expires_ms.and_then(timestamp),
            revoked_at: record.revoked_ms.and_then(timestamp),
        }
    }
}

/// A list of keys.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct KeysBody {
    /// Every key that was ever issued, oldest first.
    pub keys: Vec<KeyBody>,
}

/// Lists every key that was ever issued. For auditors and admins.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", operation_id = "list_keys",
    responses((status = 200, body = KeysBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    AsAuditor(_person): AsAuditor,
) -> Result<Json<KeysBody>, Problem> {
    let keys = api.app.store().keys().await?;
    Ok(Json(KeysBody { keys: keys.iter().map(KeyBody::from).collect() }))
}

/// That a key is good for nothing any more.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Revoked {
    /// Its id.
    pub key: String,
    /// Always `true`: there being none that could be revoked is an error.
    pub revoked: bool,
}

/// Revokes a key, from the next request on. For admins.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys", operation_id = "revoke_key",
    params(("id" = String, Path, description = "The key's id")),
    responses(
        (status = 200, body = Revoked),
        (status = 404, description = "There is no such key that was not revoked already", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn revoke(
    State(api): State<Api>,
    AsAdmin(person): AsAdmin,
    Path(id): Path<String>,
) -> Result<Json<Revoked>, Problem> {
    // Also what a database could not even look for.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let problem = Problem::new(Code::Malformed, "this is no key's id");
        return Err(problem.help("a key's id is letters and digits, as `countersign keys list` shows it"));
    }
    if api.app.store().revoke_key(&id, person.id.as_str(), api.app.clock().now_ms()).await? {
        return Ok(Json(Revoked { key: id, revoked: true }));
    }
    Err(Problem::new(Code::NotFound, "there is no such key that was not revoked already"))
}
