//! The log: its signed state, its entries, its proofs, and its tiles for foreign tools (C2SP `tlog-tiles`).

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::header,
    response::IntoResponse,
    routing::get,
};
use countersign_audit::{
    BundleId, EntryKind, TileId,
    tile::{TILE_WIDTH, encode_bundle, encode_tile},
};
use countersign_rules::{AgentId, ApprovalId, CallId, Code, SessionId};
use countersign_store::EntryFilter;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{Api, Problem, ProblemBody, UrlQuery, request::AsPerson};

/// The log's newest state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckpointBody {
    /// How many entries it has.
    size: u64,
    /// The root of the tree over them, in base 64.
    root: String,
    /// The signed checkpoint (C2SP `tlog-checkpoint`).
    checkpoint: String,
    /// The key that it is signed with, as its vkey. Get it another way before you trust it.
    vkey: String,
}

/// The signed state of the log. For people.
#[utoipa::path(
    get, path = "/v1/log/checkpoint", tag = "log", operation_id = "get_checkpoint",
    responses((status = 200, body = CheckpointBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn checkpoint(
    State(api): State<Api>,
    AsPerson(_person): AsPerson,
) -> Result<Json<CheckpointBody>, Problem> {
    let store = api.app.store();
    let head = store.log_head().await?;
    Ok(Json(CheckpointBody {
        size: head.size,
        root: head.root.to_base64(),
        checkpoint: head.checkpoint,
        vkey: store.verifier().to_string(),
    }))
}

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntriesQuery {
    /// With this index or a later one; 0 if not said.
    from: Option<u64>,
    /// At most so many, 1 to 1000; 100 if not said.
    limit: Option<u32>,
    /// Of this call.
    call: Option<String>,
    /// Of this session.
    session: Option<String>,
    /// Of this agent.
    agent: Option<String>,
    /// Of this request.
    approval: Option<String>,
    /// Of this kind, such as `decided`.
    kind: Option<String>,
}

/// An entry with its place.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntryBody {
    /// Its index in the log, from 0.
    index: u64,
    /// The entry.
    #[schema(value_type = Object)]
    entry: Value,
}

/// Some entries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntriesBody {
    /// Oldest first.
    entries: Vec<EntryBody>,
    /// Where to go on from, when there may be more.
    next: Option<u64>,
}

/// Entries of the log, oldest first. For people.
#[utoipa::path(
    get, path = "/v1/log/entries", tag = "log", operation_id = "list_entries",
    params(EntriesQuery),
    responses((status = 200, body = EntriesBody)),
    security(("bearer" = [])),
)]
pub(crate) async fn entries(
    State(api): State<Api>,
    AsPerson(_person): AsPerson,
    UrlQuery(query): UrlQuery<EntriesQuery>,
) -> Result<Json<EntriesBody>, Problem> {
    let limit = query.limit.unwrap_or(100).clamp(1, 1_000);
    if let Some(kind) = &query.kind
        && EntryKind::new(kind).is_err()
    {
        let problem = Problem::new(Code::Malformed, "this is no kind of entries");
        return Err(problem.help("a kind is lower-case letters and `_`, such as `decided`"));
    }
    let filter = EntryFilter {
        call: name(query.call.as_deref(), CallId::parse)?,
        session: name(query.session.as_deref(), SessionId::parse)?,
        agent: name(query.agent.as_deref(), AgentId::parse)?,
        approval: name(query.approval.as_deref(), ApprovalId::parse)?,
        kind: query.kind,
        from: query.from.unwrap_or(0),
        ..EntryFilter::default()
    };
    let found = api.app.store().find_entries(&filter, limit).await?;
    let full = found.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = found.last().filter(|_| full).map(|last| last.index.saturating_add(1));
    let entries = found
        .into_iter()
        .map(|stored| {
            let entry = serde_json::from_slice(&stored.bytes)
                .map_err(|why| Problem::new(Code::Internal, format!("an entry cannot be read: {why}")))?;
            Ok(EntryBody { index: stored.index, entry })
        })
        .collect::<Result<_, Problem>>()?;
    Ok(Json(EntriesBody { entries, next }))
}

fn name<T, E: std::fmt::Display>(
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Problem> {
    let malformed = |why: E| Problem::new(Code::Malformed, why.to_string());
    text.map(parse).transpose().map_err(malformed)
}

/// A receipt for one entry: proof that it is in the log, for somebody who has the log's key. For people.
#[utoipa::path(
    get, path = "/v1/log/entries/{index}/receipt", tag = "log", operation_id = "get_receipt",
    params(("index" = u64, Path, description = "The entry's index")),
    responses(
        (status = 200, description = "A receipt (C2SP `tlog-proof`)", body = String, content_type = "text/plain"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(crate) async fn receipt(
    State(api): State<Api>,
    AsPerson(_person): AsPerson,
    Path(index): Path<String>,
) -> Result<String, Problem> {
    let none = || Problem::new(Code::NotFound, "the log has no such entry");
    let index = index.parse().map_err(|_no_number| none())?;
    let receipt = api.app.store().receipt(index).await?.ok_or_else(none)?;
    Ok(receipt.encode())
}

/// The layout of C2SP `tlog-tiles`, for foreign tools. Entries hold what agents wrote, so people only; the
/// checkpoint says nothing about anybody and is for everyone.
pub(super) fn tiles() -> Router<Api> {
    Router::new().route("/log/checkpoint", get(note)).route("/log/tile/{*path}", get(tile))
}

async fn note(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let head = api.app.store().log_head().await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], head.checkpoint))
}

async fn tile(
    State(api): State<Api>,
    AsPerson(_person): AsPerson,
    Path(path): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let none = || Problem::new(Code::NotFound, "the log has no such tile");
    let path = format!("tile/{path}");
    let store = api.app.store();
    let bytes = if let Ok(bundle) = BundleId::parse_path(&path) {
        let width = u32::from(bundle.width());
        let entries = store.entries(bundle.first_entry(), width).await?;
        if u32::try_from(entries.len()).ok() != Some(width) {
            return Err(none());
        }
        encode_bundle(entries.iter().map(|entry| &entry.bytes))
            .map_err(|why| Problem::new(Code::Internal, why.to_string()))?
    } else {
        let tile = TileId::parse_path(&path).map_err(|_no_tile| none())?;
        let start = tile.index().saturating_mul(u64::from(TILE_WIDTH));
        let hashes = store.tile_hashes(tile.level(), start, tile.width()).await?;
        if hashes.len() != usize::from(tile.width()) {
            return Err(none());
        }
        encode_tile(&hashes)
    };
    // Tiles never change, and are for whoever asked alone.
    let headers = [
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable"),
        (header::CONTENT_TYPE, "application/octet-stream"),
    ];
    Ok((headers, Bytes::from(bytes)))
}
