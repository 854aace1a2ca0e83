//! A call of plain form is answered from the message that [`Frame`] read: without a second parse, a task and
//! channels of the SDK, which cost as much as deciding and recording the call.
//!
//! The form is what common clients send: one `tools/call` of a known tool over HTTP, with headers that say what
//! the message says, and nothing that asks for more than an answer (no progress, no state of an earlier round, no
//! task's input). Each condition here is at least as strict as the SDK's own check of the same thing, and whatever
//! does not fulfil all of them goes to the SDK, which finds the words for what is wrong with it. So the two ways
//! differ in nothing but speed; a test sends every kind of call by both.

use axum::response::{IntoResponse as _, Response};
use countersign_app::{App, auth::Identity};
use countersign_rules::ToolName;
use http::{HeaderMap, HeaderName, StatusCode, header};
use rmcp::model::{
    CallToolRequestParams, JsonObject, MetaObject, ProtocolVersion, RequestId, RequestMetaObject,
    ServerJsonRpcMessage, ServerResult,
};
use serde::Deserialize as _;
use serde_json::Value;

use super::{
    REVISIONS, Settings,
    client::Client,
    door::Door,
    frame::{Frame, VERSION_META},
    http::VERSION_HEADER,
    tools::AWAIT,
};

/// A call of plain form, taken apart.
#[derive(Debug)]
pub(super) struct PlainCall {
    id: RequestId,
    name: String,
    arguments: Option<JsonObject>,
    meta: RequestMetaObject,
    version: ProtocolVersion,
}

impl PlainCall {
    /// Takes a call apart that is of plain form; any other message is given back.
    pub(super) fn take(
        headers: &HeaderMap,
        frame: Frame,
        (app, who): (&App, &Identity),
        settings: &Settings,
    ) -> Result<Self, Frame> {
        if !(is_ours(headers, &settings.hosts) && is_plain_exchange(headers)) {
            return Err(frame);
        }
        let Some(version) = version(headers, &frame) else { return Err(frame) };
        let Some(id) = id(&frame) else { return Err(frame) };
        let name = frame.parameter("name").and_then(Value::as_str);
        let tool = name.filter(|name| *name != AWAIT).and_then(|name| ToolName::parse(name).ok());
        let offer = tool.filter(|tool| who.scopes.reach(tool)).and_then(|tool| app.tool(&tool));
        if offer.is_none_or(|offer| offer.names_headers) || !names_itself(headers, name, &version) {
            return Err(frame);
        }
        // The last condition takes the message apart, because what can be read of its parts is a part of the form.
        let (name, arguments, meta) = parts(frame, &version)?;
        Ok(Self { id, name, arguments, meta, version })
    }

    /// Performs the call, and answers it as the SDK would.
    pub(super) async fn answer(self, door: &Door) -> Response {
        let mut request = CallToolRequestParams::new(self.name);
        request.arguments = self.arguments;
        let client = Client::plain(&self.meta, &self.version);
        let message = match door.called(request, client).await {
            Ok(response) => {
                let mut result = ServerResult::from(response);
                if !client.is_modern() {
                    result.strip_result_type_for_legacy_peer();
                    result.strip_non_object_output_for_legacy_peer();
                }
                ServerJsonRpcMessage::response(result, self.id)
            }
            Err(error) => ServerJsonRpcMessage::error(error, Some(self.id)),
        };
        match serde_json::to_vec(&message) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(why) => {
                tracing::error!(%why, "an answer cannot be written");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// Tells whether the message came to one of our own names, and from no browser.
fn is_ours(headers: &HeaderMap, hosts: &[String]) -> bool {
    let Some(host) = only(headers, &header::HOST) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) => {
            if !(1..=5).contains(&port.len()) || !port.bytes().all(|digit| digit.is_ascii_digit()) {
                return false;
            }
            name
        }
        None => host,
    };
    // An address in brackets, and whatever else is no plain name, is the SDK's to read.
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')) {
        return false;
    }
    // A name without port stands for it on any port.
    let ours = |given: &String| given.eq_ignore_ascii_case(name) || given.eq_ignore_ascii_case(host);
    hosts.iter().any(ours) && !headers.contains_key(header::ORIGIN)
}

/// Tells whether the message is JSON and its client takes JSON and streams.
fn is_plain_exchange(headers: &HeaderMap) -> bool {
    let json = |text: &str| text.eq_ignore_ascii_case("application/json");
    let stream = |text: &str| text.eq_ignore_ascii_case("text/event-stream");
    let accepts = only(headers, &header::ACCEPT).is_some_and(|accept| {
        matches!(
            accept.split_once(',').map(|(one, other)| (one.trim(), other.trim())),
            Some((one, other)) if json(one) && stream(other) || stream(one) && json(other)
        )
    });
    accepts && only(headers, &header::CONTENT_TYPE).is_some_and(json)
}

/// Returns the revision of a message whose header and `_meta` agree: both name 2026-07-28, or only the header names
/// one of the revisions before.
fn version(headers: &HeaderMap, frame: &Frame) -> Option<ProtocolVersion> {
    let named = only(headers, &HeaderName::from_static(VERSION_HEADER))?;
    let version = REVISIONS.iter().find(|revision| revision.as_str() == named)?;
    let said = frame.meta(VERSION_META);
    let modern = *version >= ProtocolVersion::V_2026_07_28;
    let agree = if modern { said.and_then(Value::as_str) == Some(named) } else { said.is_none() };
    agree.then(|| version.clone())
}

/// Returns the id of a request to call a tool.
fn id(frame: &Frame) -> Option<RequestId> {
    (frame.method() == Some("tools/call")).then(|| RequestId::deserialize(&frame.id()).ok()).flatten()
}

/// Tells whether the headers of a message of 2026-07-28 say what it calls; the revisions before have none.
fn names_itself(headers: &HeaderMap, name: Option<&str>, version: &ProtocolVersion) -> bool {
    if *version < ProtocolVersion::STANDARD_HEADERS {
        return true;
    }
    only(headers, &HeaderName::from_static("mcp-method")) == Some("tools/call")
        && only(headers, &HeaderName::from_static("mcp-name")) == name
}

/// Takes name, arguments and `_meta` out of a message that has nothing else, and no `_meta` that asks for more than an
/// answer.
fn parts(
    frame: Frame,
    version: &ProtocolVersion,
) -> Result<(String, Option<JsonObject>, RequestMetaObject), Frame> {
    let members = ["jsonrpc", "id", "method", "params"];
    let plain = frame.has_only(&members)
        && frame.parameters().is_some_and(|parameters| {
            parameters.iter().all(|(key, value)| match key.as_str() {
                "name" => value.is_string(),
                "arguments" => value.is_object(),
                "_meta" => value.as_object().is_some_and(|meta| is_plain_meta(meta, version)),
                _ => false,
            })
        });
    if !plain {
        return Err(frame);
    }
    let mut parameters = frame.into_parameters();
    let mut object = |key: &str| match parameters.remove(key) {
        Some(Value::Object(members)) => Some(members),
        Some(_) | None => None,
    };
    let (arguments, meta) = (object("arguments"), object("_meta").unwrap_or_default());
    let name = match parameters.remove("name") {
        Some(Value::String(name)) => name,
        Some(_) | None => String::new(),
    };
    Ok((name, arguments, RequestMetaObject(MetaObject::from(meta))))
}

/// Tells whether a `_meta` is complete for its revision and asks for nothing that only the SDK gives.
fn is_plain_meta(meta: &JsonObject, version: &ProtocolVersion) -> bool {
    let known = |key: &str| match key.strip_prefix("io.modelcontextprotocol/") {
        Some(key) => matches!(key, "protocolVersion" | "clientInfo" | "clientCapabilities"),
        None => true,
    };
    let capable = || {
        let said = meta.get("io.modelcontextprotocol/clientCapabilities");
        said.is_some_and(|said| rmcp::model::ClientCapabilities::deserialize(said).is_ok())
    };
    meta.keys().all(|key| key != "progressToken" && known(key))
        && (*version < ProtocolVersion::V_2026_07_28 || capable())
}

/// Returns the value of a header that is there once, as text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.to_str().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).fold(
            HeaderMap::new(),
            |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            },
        )
    }

    fn frame(message: &Value) -> Frame {
        Frame::parse(message.to_string().as_bytes()).unwrap()
    }

    fn modern(meta: &Value) -> Value {
        let mut all = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        for (key, value) in meta.as_object().unwrap() {
            all[key] = value.clone();
        }
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "purge", "arguments": { "a": 1 }, "_meta": all } })
    }

    #[test]
    fn a_name_of_ours_is_plain_on_any_port_unless_it_names_one() {
        let hosts: Vec<String> =
            ["localhost", "127.0.0.1", "::1", "gate.example:8443"].map(String::from).into();
        for (host, ours) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("127.0.0.1:1", true),
            ("gate.example:8443", true),
            ("gate.example", false),
            ("gate.example:84430", false),
            ("localhost.", false),
            ("localhost:", false),
            ("localhost:80a", false),
            ("localhost:123456", false),
            ("a@localhost", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("::1", false),
            ("[::1]:80", false),
            ("", false),
        ] {
            assert_eq!(is_ours(&headers(&[("host", host)]), &hosts), ours, "{host}");
        }
        assert!(!is_ours(&headers(&[]), &hosts), "without a host");
        assert!(!is_ours(&headers(&[("host", "localhost"), ("host", "localhost")]), &hosts), "twice");
        assert!(!is_ours(&headers(&[("host", "localhost"), ("origin", "http://localhost")]), &hosts));
        assert!(!is_ours(&headers(&[("host", "localhost")]), &[]), "no host is ours");
    }

    #[test]
    fn a_client_that_takes_json_and_streams_without_conditions_is_plain() {
        let plain = |accept: &str, kind: &str| {
            is_plain_exchange(&headers(&[("accept", accept), ("content-type", kind)]))
        };
        let json = "application/json";
        for accept in ["application/json, text/event-stream", "text/event-stream,Application/JSON"] {
            assert!(plain(accept, json), "{accept}");
        }
        for accept in [
            "application/json",
            "*/*",
            "application/json, application/json",
            "application/json;q=1, text/event-stream",
            "application/json, text/event-stream;q=0",
            "application/json, text/event-stream, */*",
        ] {
            assert!(!plain(accept, json), "{accept}");
        }
        let both = "application/json, text/event-stream";
        for kind in ["application/json; charset=utf-8", "text/plain", "application/jsonx", ""] {
            assert!(!plain(both, kind), "{kind}");
        }
        assert!(!is_plain_exchange(&headers(&[("accept", both)])));
    }

    #[test]
    fn header_and_message_name_one_revision() {
        let named = |revision: &str, message: &Value| {
            version(&headers(&[("mcp-protocol-version", revision)]), &frame(message))
        };
        let new = modern(&json!({}));
        let old = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "purge" } });
        assert_eq!(named("2026-07-28", &new), Some(ProtocolVersion::V_2026_07_28));
        for revision in ["2025-06-18", "2025-11-25"] {
            assert_eq!(named(revision, &old).unwrap().as_str(), revision);
            assert_eq!(named(revision, &new), None);
        }
        assert_eq!(named("2026-07-28", &old), None);
        assert_eq!(named("2024-11-05", &old), None);
        assert_eq!(version(&headers(&[]), &frame(&old)), None);
        let twice = [("mcp-protocol-version", "2025-11-25"), ("mcp-protocol-version", "2025-11-25")];
        assert_eq!(version(&headers(&twice), &frame(&old)), None);
    }

    #[test]
    fn a_message_of_the_newest_revision_says_in_headers_what_it_calls() {
        let new = ProtocolVersion::V_2026_07_28;
        let says = |pairs: &[(&'static str, &str)]| names_itself(&headers(pairs), Some("purge"), &new);
        assert!(says(&[("mcp-method", "tools/call"), ("mcp-name", "purge")]));
        assert!(!says(&[("mcp-method", "tools/call")]));
        assert!(!says(&[("mcp-name", "purge")]));
        assert!(!says(&[("mcp-method", "tools/list"), ("mcp-name", "purge")]));
        assert!(!says(&[("mcp-method", "tools/call"), ("mcp-name", "Purge")]));
        assert!(!says(&[("mcp-method", "tools/call"), ("mcp-name", "purge"), ("mcp-name", "purge")]));
        assert!(names_itself(&headers(&[]), Some("purge"), &ProtocolVersion::V_2025_11_25));
    }

    #[test]
    fn what_is_taken_apart_is_all_that_was_there() {
        let new = ProtocolVersion::V_2026_07_28;
        let (name, arguments, meta) = parts(frame(&modern(&json!({ "traceparent": "t" }))), &new).unwrap();
        assert_eq!((name.as_str(), arguments), ("purge", json!({ "a": 1 }).as_object().cloned()));
        assert_eq!(meta.get("traceparent"), Some(&json!("t")));
        for meta in [
            json!({ "progressToken": 1 }),
            json!({ "progressToken": null }),
            json!({ "io.modelcontextprotocol/logLevel": "debug" }),
            json!({ "io.modelcontextprotocol/clientCapabilities": 7 }),
        ] {
            assert!(parts(frame(&modern(&meta)), &new).is_err(), "{meta}");
        }
        for (pointer, value) in [
            ("/params/requestState", json!("s")),
            ("/params/inputResponses", json!({})),
            ("/params/task", json!({})),
            ("/params/name", json!(7)),
            ("/params/arguments", Value::Null),
            ("/params/arguments", json!([])),
            ("/params/_meta", Value::Null),
            ("/result", json!({})),
            ("/extra", json!(1)),
        ] {
            let mut message = modern(&json!({}));
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            message.pointer_mut(parent).unwrap()[key] = value;
            let given = frame(&message);
            let back = parts(given, &new).unwrap_err();
            assert_eq!(back.into_value(), message, "{pointer}: it is given back as it was");
        }
    }
}
