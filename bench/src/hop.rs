//! A no-op hop: takes a request, sends it on, hands the answer back. The least any gateway costs.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

#[derive(Clone)]
struct Hop {
    client: reqwest::Client,
    to: String,
}

/// Forwards everything to `to` until killed, and prints its address first.
pub(crate) async fn serve(to: String) -> anyhow::Result<()> {
    let hop = Hop { client: crate::load::client()?, to };
    let router = Router::new().route("/mcp", axum::routing::post(forward)).with_state(hop);
    crate::process::serve(router).await
}

async fn forward(State(hop): State<Hop>, headers: HeaderMap, body: Bytes) -> Response {
    let mut request = hop.client.post(&hop.to).body(body);
    for (name, value) in &headers {
        if *name != header::HOST && *name != header::CONTENT_LENGTH {
            request = request.header(name, value);
        }
    }
    match request.send().await {
        Ok(answer) => {
            let status = answer.status();
            let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
            match (answer.bytes().await, kind) {
                (Ok(bytes), Some(kind)) => (status, [(header::CONTENT_TYPE, kind)], bytes).into_response(),
                (Ok(bytes), None) => (status, bytes).into_response(),
                (Err(_), _) => StatusCode::BAD_GATEWAY.into_response(),
            }
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
