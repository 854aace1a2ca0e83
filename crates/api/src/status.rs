//! The server's own state: whether it lives, whether it is ready, what it counts, how to get a token for it.

use std::sync::atomic::Ordering;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use countersign_gate::Ledger as _;
use countersign_rules::Code;
use serde_json::json;

use super::{Api, Problem};
use countersign_app::metrics::Levels;

/// How long a proof that the ledger can be written stands, in milliseconds: proving it writes.
const WRITABLE_MS: i64 = 5_000;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/.well-known/oauth-protected-resource", get(resource))
        .route("/.well-known/oauth-protected-resource/mcp", get(resource))
}

/// Ready means: calls would be decided and recorded. Proved by having the ledger commit its head as it is.
async fn ready(State(api): State<Api>) -> Response {
    let not = |why: String| (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "why": why })));
    if api.stopping.is_cancelled() {
        return not("the server is stopping".into()).into_response();
    }
    let now_ms = api.app.clock().now_ms();
    let since = api.written_ms.load(Ordering::Relaxed);
    // What was proved does not stand any more when something could not be recorded since.
    let stale = now_ms.saturating_sub(since).unsigned_abs() > WRITABLE_MS.unsigned_abs();
    if stale || api.app.store().is_failing() {
        if let Err(fault) = api.app.store().prove_writable().await {
            return not(fault.to_string()).into_response();
        }
        api.written_ms.store(now_ms, Ordering::Relaxed);
    }
    Json(json!({ "ready": true, "bundle": api.app.gate().policies().bundle() })).into_response()
}

async fn metrics(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let app = &api.app;
    let store = app.store();
    let (waiting, in_doubt) = store.unsettled().await?;
    let levels = Levels {
        waiting,
        in_doubt,
        halts: store.halts().await?.len(),
        log_size: store.log_head().await?.size,
        under_way: app.gate().under_way(),
        tools: app.tools().iter().map(|(name, offer)| (name.to_string(), offer.off().is_none())).collect(),
    };
    let text = app.metrics().render(&levels).map_err(|why| Problem::new(Code::Internal, why.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

/// Protected resource metadata (RFC 9728).
async fn resource(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let Some(issuer) = api.app.auth().issuer() else {
        return Err(Problem::new(Code::NotFound, "this server takes no access tokens"));
    };
    let scopes: Vec<&str> = issuer.scope.iter().map(String::as_str).collect();
    Ok(Json(json!({
        "resource": issuer.audience,
        "authorization_servers": [issuer.issuer],
        "bearer_methods_supported": ["header"],
        "scopes_supported": scopes,
        "resource_name": "Countersign",
    })))
}
