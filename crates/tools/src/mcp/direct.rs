//! A `tools/call` of plain form, sent without the SDK's loop, channels and tasks.
//!
//! In revision 2026-07-28 there is no session and every request stands alone, so that a call is one POST and
//! its answer. It goes out with the HTTP client, the headers and the `_meta` of the SDK's connection. Everything
//! else stays with the SDK: listing, subscriptions, sessions, older revisions, child processes, tools with
//! arguments in headers (`x-mcp-header`), and upstreams that answer by stream, from their second call on.
//!
//! A call is sent once, whatever becomes of its answer. Whoever gives up drops the connection, which is how
//! this revision cancels.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
};

use futures::StreamExt as _;
use reqwest::{
    Client, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use rmcp::model::{ProtocolVersion, RequestMetaObject};
use serde::Serialize;
use serde_json::{Map, Value};
use sse_stream::SseStream;
use tokio::sync::{Notify, Semaphore};
use url::Url;

use super::{
    answer::{Answered, Message, message},
    digest::Reviewable,
};
use crate::http::send::chain;

/// The revision in which a call stands alone.
pub(super) const REVISION: ProtocolVersion = ProtocolVersion::V_2026_07_28;
/// As many calls as the SDK's connection has under way at a time.
const CALLS_MAX: usize = 16;
/// The first id: the SDK counts its own in 32 bits.
const FIRST_ID: i64 = 1 << 32;

const METHOD: &str = "tools/call";
const JSON: &str = "application/json";
const STREAM: &str = "text/event-stream";

/// The direct way to an upstream: see the module.
pub(super) struct Direct {
    client: Client,
    url: Url,
    headers: HeaderMap,
    context: RequestMetaObject,
    bytes_max: usize,
    next_id: AtomicI64,
    calls: Semaphore,
    /// It has answered by stream: such answers are read by the SDK, which can take up one that broke off.
    streams: AtomicBool,
    /// Hears when the upstream's tools change.
    changed: Arc<Notify>,
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl Direct {
    /// Prepares the way that a connection of the SDK goes with this client, address and bearer token.
    pub(super) fn new(
        client: Client,
        url: Url,
        bearer: Option<&str>,
        context: RequestMetaObject,
        bytes_max: usize,
        changed: Arc<Notify>,
    ) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(
            HeaderName::from_static("mcp-protocol-version"),
            HeaderValue::from_str(REVISION.as_str()).map_err(|why| why.to_string())?,
        );
        headers.insert(HeaderName::from_static("mcp-method"), HeaderValue::from_static(METHOD));
        if let Some(bearer) = bearer {
            // What is wrong with it is not told: the reason could repeat it.
            let mut value = HeaderValue::from_str(&format!("Bearer {bearer}"))
                .map_err(|_secret| "the bearer token has characters that no header can carry")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Self {
            client,
            url,
            headers,
            context,
            bytes_max,
            next_id: AtomicI64::new(FIRST_ID),
            calls: Semaphore::new(CALLS_MAX),
            streams: AtomicBool::new(false),
            changed,
        })
    }

    /// Tells whether calls of a tool go this way.
    pub(super) fn takes(&self, tool: &Reviewable) -> bool {
        tool.plain && !self.streams.load(Ordering::Relaxed)
    }

    /// Sends a call and reads its answer. It takes as long as it takes: the caller gives up by dropping it.
    pub(super) async fn call(&self, tool: &str, arguments: &Map<String, Value>) -> Answered {
        let Ok(_turn) = self.calls.acquire().await else {
            return Answered::Nothing("the connection was closed".into());
        };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        match self.send(id, tool, arguments).await {
            Ok(response) => self.receive(response, id).await,
            Err(why) => Answered::Nothing(why),
        }
    }

    async fn send(&self, id: i64, tool: &str, arguments: &Map<String, Value>) -> Result<Response, String> {
        let body = serde_json::to_vec(&Request {
            jsonrpc: "2.0",
            id,
            method: METHOD,
            params: Params {
                meta: Meta { context: &self.context, progress_token: id },
                name: tool,
                arguments,
            },
        })
        .map_err(|why| why.to_string())?;
        let mut headers = self.headers.clone();
        // Only names that stand for themselves in a header come here: see `Reviewable`.
        let name = HeaderValue::from_str(tool).map_err(|why| why.to_string())?;
        headers.insert(HeaderName::from_static("mcp-name"), name);
        let request = self.client.post(self.url.clone()).headers(headers).body(body);
        request.send().await.map_err(said)
    }

    async fn receive(&self, response: Response, id: i64) -> Answered {
        let status = response.status();
        let no_answer = || Answered::Nothing(format!("HTTP {status}"));
        // What these say is not the tool's word, and not read.
        if matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::ACCEPTED
                | StatusCode::NO_CONTENT
        ) {
            return no_answer();
        }
        if is(&response, JSON) {
            return match read(response, self.bytes_max).await.map(|body| message(&body, id)) {
                Ok(Message::Answer(answered)) if status.is_success() => answered,
                // A failure of HTTP may say in the protocol's words which it is.
                Ok(Message::Answer(answered @ Answered::Error(_))) => answered,
                Ok(_) if !status.is_success() => no_answer(),
                Ok(Message::Unreadable(why)) | Err(why) => Answered::Nothing(why),
                Ok(_) => Answered::Nothing("it answered something else than what was asked".into()),
            };
        }
        if is(&response, STREAM) && status.is_success() {
            self.streams.store(true, Ordering::Relaxed);
            return self.follow(response, id).await;
        }
        no_answer()
    }

    /// Reads a stream up to the answer. No event, and nothing between two of them, may be larger than an
    /// answer.
    async fn follow(&self, response: Response, id: i64) -> Answered {
        let bytes = Arc::new(AtomicUsize::new(0));
        let (bytes_max, counted) = (self.bytes_max, Arc::clone(&bytes));
        let chunks = response.bytes_stream().map(move |chunk| {
            let chunk = chunk.map_err(|error| std::io::Error::other(said(error)))?;
            let read = counted.fetch_add(chunk.len(), Ordering::Relaxed).saturating_add(chunk.len());
            if read > bytes_max { Err(std::io::Error::other(too_large(bytes_max))) } else { Ok(chunk) }
        });
        let mut events = std::pin::pin!(SseStream::from_bytes_stream(chunks));
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(why) => return Answered::Nothing(why.to_string()),
            };
            bytes.store(0, Ordering::Relaxed);
            let is_message = matches!(event.event.as_deref(), None | Some("" | "message"));
            match event.data.filter(|_| is_message).map(|data| message(data.as_bytes(), id)) {
                Some(Message::Answer(answered)) => return answered,
                // One answer ends a stream, whoever's it is.
                Some(Message::Foreign) => break,
                Some(Message::ToolsChanged) => self.changed.notify_one(),
                Some(Message::Other | Message::Unreadable(_)) | None => {}
            }
        }
        Answered::Nothing("its stream ended before its answer".into())
    }
}

/// Reads a body that is not larger than allowed.
async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    if response.content_length().is_some_and(|length| usize::try_from(length).map_or(true, |l| l > bytes_max))
    {
        return Err(too_large(bytes_max));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(said)? {
        if chunk.len() > bytes_max.saturating_sub(body.len()) {
            return Err(too_large(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn too_large(bytes_max: usize) -> String {
    format!("its answer is larger than {bytes_max} bytes")
}

/// Tells whether a response is of a media type, whatever its parameters.
fn is(response: &Response, media_type: &str) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(media_type.as_bytes())
}

fn said(error: reqwest::Error) -> String {
    chain(&error.without_url()).0
}

#[derive(Serialize)]
struct Request<'a> {
    jsonrpc: &'a str,
    id: i64,
    method: &'a str,
    params: Params<'a>,
}

#[derive(Serialize)]
struct Params<'a> {
    #[serde(rename = "_meta")]
    meta: Meta<'a>,
    name: &'a str,
    arguments: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct Meta<'a> {
    #[serde(flatten)]
    context: &'a RequestMetaObject,
    // Nobody here looks at progress; some upstreams hold a slow connection open by telling it.
    #[serde(rename = "progressToken")]
    progress_token: i64,
}
