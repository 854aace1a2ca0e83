//! A frame is one JSON-RPC message, whose form is checked before the SDK sees it.
//!
//! The SDK's parser takes the last of two equal keys and has no limit of its own for nesting. What we decide
//! upon must be what everybody else reads, so the strict parser of the log stands in front, and the SDK is
//! given what that one read.

use countersign_audit::from_slice_strict;
use rmcp::model::{ErrorCode, JsonObject, ProtocolVersion};
use serde_json::{Value, json};

/// Under this key of `_meta`, which the protocol itself defines, a request names its revision.
pub(super) const VERSION_META: &str = "io.modelcontextprotocol/protocolVersion";

/// A frame is a message of good form: an object with method and parameters, or a response.
#[derive(Debug)]
pub(super) struct Frame(Value);

impl Frame {
    /// Parses one message.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BadFrame> {
        let value = from_slice_strict(bytes).map_err(|why| BadFrame {
            id: Value::Null,
            code: ErrorCode::PARSE_ERROR,
            detail: Some(why.code()),
            message: why.to_string(),
        })?;
        let id = value.get("id").filter(|id| is_id(id)).cloned().unwrap_or(Value::Null);
        let bad = |message: &str| BadFrame {
            id: id.clone(),
            code: ErrorCode::INVALID_REQUEST,
            message: message.to_owned(),
            detail: None,
        };
        let Value::Object(members) = &value else {
            return Err(bad(if value.is_array() {
                "batches are not supported: send one message at a time"
            } else {
                "a message is a JSON object"
            }));
        };
        if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(bad("`jsonrpc` must be \"2.0\""));
        }
        if members.get("id").is_some_and(|id| !is_id(id)) {
            return Err(bad("`id` must be a string or an integer"));
        }
        if members.get("params").is_some_and(|params| !params.is_object()) {
            return Err(bad("`params` must be an object"));
        }
        match members.get("method") {
            Some(Value::String(_)) => Ok(Self(value)),
            Some(_) => Err(bad("`method` must be a string")),
            None if members.contains_key("result") || members.contains_key("error") => Ok(Self(value)),
            None => Err(bad("a message has a `method`, a `result` or an `error`")),
        }
    }

    /// Returns the method, unless the message is a response.
    pub(super) fn method(&self) -> Option<&str> {
        self.0.get("method").and_then(Value::as_str)
    }

    /// Returns the id; it is `null` if the message is a notification.
    pub(super) fn id(&self) -> Value {
        self.0.get("id").cloned().unwrap_or(Value::Null)
    }

    /// Returns one of the parameters.
    pub(super) fn parameter(&self, name: &str) -> Option<&Value> {
        self.0.get("params").and_then(|params| params.get(name))
    }

    /// Returns the parameters, where there are any.
    pub(super) fn parameters(&self) -> Option<&JsonObject> {
        self.0.get("params").and_then(Value::as_object)
    }

    /// Tells whether the message has no members but these.
    pub(super) fn has_only(&self, members: &[&str]) -> bool {
        self.0.as_object().is_some_and(|own| own.keys().all(|key| members.contains(&key.as_str())))
    }

    /// Returns one entry of `_meta`.
    pub(super) fn meta(&self, key: &str) -> Option<&Value> {
        self.parameter("_meta").and_then(|meta| meta.get(key))
    }

    /// Returns the revision that the request itself names, as 2026-07-28 demands.
    pub(super) fn revision(&self) -> Option<&str> {
        self.meta(VERSION_META).and_then(Value::as_str)
    }

    /// Returns true if the message belongs to a revision without handshake.
    pub(super) fn is_modern(&self) -> bool {
        self.revision().is_some_and(|revision| revision >= ProtocolVersion::V_2026_07_28.as_str())
    }

    /// Returns the parameters, exactly as they were read; none if there are none.
    pub(super) fn into_parameters(mut self) -> JsonObject {
        match self.0.get_mut("params").map(Value::take) {
            Some(Value::Object(parameters)) => parameters,
            Some(_) | None => JsonObject::new(),
        }
    }

    /// Returns the message, exactly as it was read.
    pub(super) fn into_value(self) -> Value {
        self.0
    }
}

/// Tells whether this is an integer or a string: the SDK and the schema of the protocol know nothing else as an
/// id.
fn is_id(id: &Value) -> bool {
    id.is_string() || id.is_i64()
}

/// A message is refused for its form.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BadFrame {
    /// The request has this id, where one could be read.
    pub(super) id: Value,
    /// The error has this JSON-RPC code.
    pub(super) code: ErrorCode,
    /// This is wrong with the message.
    pub(super) message: String,
    /// This is the stable code of what the parser found, where the message is no JSON.
    detail: Option<&'static str>,
}

impl BadFrame {
    /// Makes the refusal of a message, for a reason beyond its JSON.
    pub(super) fn new(id: Value, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { id, code, message: message.into(), detail: None }
    }

    /// Returns the JSON-RPC error that answers the message.
    pub(super) fn to_json(&self) -> Value {
        let data = self.detail.map(|code| json!({ "code": code }));
        json!({
            "jsonrpc": "2.0",
            "id": self.id,
            "error": { "code": self.code.0, "message": self.message, "data": data },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &[u8]) -> (i32, String) {
        let bad = Frame::parse(text).unwrap_err();
        (bad.code.0, bad.message)
    }

    #[test]
    fn requests_notifications_and_responses_pass() {
        let frame = Frame::parse(
            br#"{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{"_meta":{"countersign/session":"s",
               "io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
        )
        .unwrap();
        assert_eq!(frame.method(), Some("tools/list"));
        assert_eq!(frame.meta("countersign/session").unwrap(), "s");
        assert!(frame.is_modern());
        assert_eq!(frame.id(), "a");
        let note = Frame::parse(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).unwrap();
        assert_eq!((note.id(), note.is_modern()), (Value::Null, false));
        assert!(Frame::parse(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#).is_ok());
    }

    #[test]
    fn what_two_readers_might_read_differently_is_no_json() {
        for text in [
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#.as_slice(),
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}",
            br#"{"jsonrpc":"2.0","id":1,"method":"ping""#,
            br#"{"jsonrpc":"2.0","id":1,"method":"ping"} {}"#,
            b"",
        ] {
            assert_eq!(refused(text).0, -32700, "{}", String::from_utf8_lossy(text));
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(refused(deep.as_bytes()).0, -32700);
    }

    #[test]
    fn wrong_forms_are_invalid_requests_and_keep_their_id() {
        for (text, says) in [
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, "batches"),
            ("7", "object"),
            (r#"{"id":1,"method":"ping"}"#, "jsonrpc"),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, "`id`"),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, "`id`"),
            (r#"{"jsonrpc":"2.0","id":1,"method":4}"#, "`method`"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#, "`params`"),
            (r#"{"jsonrpc":"2.0","id":1}"#, "`method`"),
        ] {
            let (code, message) = refused(text.as_bytes());
            assert_eq!(code, -32600, "{text}");
            assert!(message.contains(says), "{text}: {message}");
        }
        let bad = Frame::parse(br#"{"jsonrpc":"1.0","id":"x","method":"ping"}"#).unwrap_err();
        assert_eq!(bad.to_json()["id"], "x");
    }
}
