//! Streamable HTTP: what is checked before the SDK sees a request.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::any,
};
use countersign_rules::{Code, Refusal};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rmcp::{
    model::ErrorCode,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use serde_json::{Value, json};

use super::{
    REVISIONS, Settings,
    door::{Door, Transport},
    frame::{BadFrame, Frame},
    plain::PlainCall,
    session::{MCP_SESSION_HEADER, NoSession, SessionKey},
};
use countersign_app::{App, body::read, connection::Seat, trace::trace_of};

/// The protocol has this header for the revision.
pub(super) const VERSION_HEADER: &str = "mcp-protocol-version";

/// Makes the route `/mcp`.
pub fn router(app: Arc<App>, settings: Settings) -> Router {
    let config = config(&settings);
    let endpoint = Endpoint { app, settings: Arc::new(settings), config, sessions: Arc::default() };
    Router::new().route("/mcp", any(serve)).with_state(Arc::new(endpoint))
}

struct Endpoint {
    app: Arc<App>,
    settings: Arc<Settings>,
    config: StreamableHttpServerConfig,
    sessions: Arc<NeverSessionManager>,
}

fn config(settings: &Settings) -> StreamableHttpServerConfig {
    // The SDK reads an empty list as every host.
    let hosts =
        if settings.hosts.is_empty() { vec![String::from("invalid.")] } else { settings.hosts.clone() };
    StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_allowed_hosts(hosts)
        .with_allowed_origins(settings.origins.clone())
        .enforce_origin_validation()
        .with_max_request_body_bytes(settings.message_bytes_max.saturating_mul(2))
}

async fn serve(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let who = match endpoint.app.identify(request.headers()).await {
        Ok(who) => who,
        Err(refusal) => return unauthorized(&endpoint.settings, request.headers(), &refusal),
    };
    if let Err(refusal) = Seat::take_in(request.extensions(), &who.agent) {
        return refused(StatusCode::TOO_MANY_REQUESTS, &refusal);
    }
    let trace = trace_of(request.headers());
    let door = |session| Door {
        trace: trace.clone(),
        app: Arc::clone(&endpoint.app),
        settings: Arc::clone(&endpoint.settings),
        who: who.clone(),
        session,
        transport: Transport::Http,
    };
    if request.method() != Method::POST {
        return endpoint.hand_over(door(SessionKey::default()), request).await;
    }
    let (mut parts, body) = request.into_parts();
    if is_own_origin(&parts.headers) {
        parts.headers.remove(header::ORIGIN);
    }
    let Settings { message_bytes_max: limit, message_timeout, .. } = *endpoint.settings;
    let bytes = match tokio::time::timeout(message_timeout, read(body, limit)).await {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Err(_cut_off)) => {
            return error(StatusCode::BAD_REQUEST, &invalid(Value::Null, "the message was cut off"));
        }
        Ok(Ok(None)) => {
            let message = format!("a message may have at most {limit} bytes");
            return error(StatusCode::PAYLOAD_TOO_LARGE, &invalid(Value::Null, message));
        }
        Err(_late) => {
            return error(
                StatusCode::REQUEST_TIMEOUT,
                &invalid(Value::Null, "the message did not arrive in time"),
            );
        }
    };
    let frame = match Frame::parse(&bytes) {
        Ok(frame) => frame,
        Err(bad) => return error(StatusCode::BAD_REQUEST, &bad),
    };
    if let Err(bad) = revision(&parts.headers, &frame) {
        return error(StatusCode::BAD_REQUEST, &bad);
    }
    if frame.method() == Some("initialize") && frame.is_modern() {
        let bad = BadFrame::new(frame.id(), ErrorCode::METHOD_NOT_FOUND, "this revision has no `initialize`");
        return error(StatusCode::NOT_FOUND, &bad);
    }
    let session = match SessionKey::find(&endpoint.settings.seal, &who, &parts.headers, &frame) {
        Ok(session) => session,
        Err(NoSession::NotFound(bad)) => return error(StatusCode::NOT_FOUND, &bad),
        Err(NoSession::Malformed(bad)) => return error(StatusCode::BAD_REQUEST, &bad),
    };
    let frame = match PlainCall::take(&parts.headers, frame, (&endpoint.app, &who), &endpoint.settings) {
        Ok(call) => return Box::pin(call.answer(&door(session))).await,
        Err(frame) => frame,
    };
    let begins = frame.method() == Some("initialize");
    let issued = begins.then(|| SessionKey::issue(&endpoint.settings.seal, &who, &frame)).flatten();
    // What was checked is what is read.
    let Ok(checked) = serde_json::to_vec(&frame.into_value()) else {
        return error(StatusCode::INTERNAL_SERVER_ERROR, &invalid(Value::Null, "the message cannot be read"));
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut response =
        endpoint.hand_over(door(session), Request::from_parts(parts, Body::from(checked))).await;
    if response.status() == StatusCode::OK
        && let Some(id) = issued.and_then(|id| HeaderValue::try_from(id).ok())
    {
        response.headers_mut().insert(MCP_SESSION_HEADER, id);
    }
    response
}

impl Endpoint {
    /// Gives the request to the SDK, with a server of its own: nothing is shared between agents.
    async fn hand_over(&self, door: Door, request: Request) -> Response {
        let service = StreamableHttpService::new(
            move || Ok(door.clone()),
            Arc::clone(&self.sessions),
            self.config.clone(),
        );
        service.handle(request).await.map(Body::new)
    }
}

/// Tells whether the origin is the very host that the request is for. The SDK checks that host against the
/// list, so a name that was rebound to this address is refused all the same.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else { return false };
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Refuses a revision that is not served, where only the header names it. The SDK checks the others.
fn revision(headers: &HeaderMap, frame: &Frame) -> Result<(), BadFrame> {
    let Some(named) = headers.get(VERSION_HEADER) else { return Ok(()) };
    if frame.revision().is_some() || frame.method() == Some("initialize") {
        return Ok(());
    }
    if REVISIONS.iter().any(|revision| revision.as_str().as_bytes() == named.as_bytes()) {
        return Ok(());
    }
    let served: Vec<&str> = REVISIONS.iter().map(rmcp::model::ProtocolVersion::as_str).collect();
    let message = format!("`MCP-Protocol-Version` names no revision that is served ({})", served.join(", "));
    Err(BadFrame::new(frame.id(), ErrorCode::UNSUPPORTED_PROTOCOL_VERSION, message))
}

fn invalid(id: Value, message: impl Into<String>) -> BadFrame {
    BadFrame::new(id, ErrorCode::INVALID_REQUEST, message)
}

fn error(status: StatusCode, bad: &BadFrame) -> Response {
    (status, axum::Json(bad.to_json())).into_response()
}

/// Makes the answer to what is refused before a message is read.
fn refused(status: StatusCode, refusal: &Refusal) -> Response {
    let body = json!({ "code": refusal.code, "message": refusal.message, "help": refusal.help });
    (status, axum::Json(body)).into_response()
}

/// Answers as RFC 6750 section 3 has it, with the pointer of RFC 9728 section 5.1 where tokens are accepted.
fn unauthorized(settings: &Settings, headers: &HeaderMap, refusal: &Refusal) -> Response {
    let (status, why) = if refusal.code == Code::OutOfScope {
        (StatusCode::FORBIDDEN, Some("insufficient_scope"))
    } else if refusal.code != Code::Unauthenticated {
        // What could not be checked is not let in.
        (StatusCode::SERVICE_UNAVAILABLE, None)
    } else if headers.contains_key(header::AUTHORIZATION) {
        (StatusCode::UNAUTHORIZED, Some("invalid_token"))
    } else {
        (StatusCode::UNAUTHORIZED, None)
    };
    let mut challenge = String::from("Bearer realm=\"countersign\"");
    if let Some(metadata) = &settings.resource_metadata {
        challenge = format!("{challenge}, resource_metadata=\"{metadata}\"");
    }
    if let Some(why) = why {
        challenge = format!("{challenge}, error=\"{why}\"");
    }
    let mut response = refused(status, refusal);
    if status != StatusCode::SERVICE_UNAVAILABLE
        && let Ok(challenge) = HeaderValue::try_from(challenge)
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
