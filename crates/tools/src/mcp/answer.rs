//! What an upstream made of a call, read from what the SDK hands out or from the bytes themselves.
//!
//! Both ways end in the same few cases, so that the tool judges a call's effect in one place. What is not of
//! the plain form is read with the SDK's own types: nothing is an answer here that is none there.

use std::fmt;

use rmcp::{
    ServiceError,
    model::{
        CallToolResponse, CallToolResult, ContentBlock, ErrorData, JsonRpcMessage, JsonRpcVersion2_0,
        RequestId, ServerJsonRpcMessage, ServerNotification, ServerResult,
    },
};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// The member of `_meta` by which the SDK takes a result for the end of a subscription.
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// What an upstream made of a call.
#[derive(Debug)]
pub(super) enum Answered {
    /// It gave a result, which may say that the call failed.
    Result(CallToolResult),
    /// It asks for more, or answers later.
    More,
    /// It answered with an error of the protocol.
    Error(ErrorData),
    /// It gave nothing that can be read as an answer, for this reason.
    Nothing(String),
}

impl Answered {
    fn nothing(why: impl fmt::Display) -> Self {
        Self::Nothing(why.to_string())
    }

    /// Takes a result for what the SDK's `call_tool_once` takes it for.
    fn of(result: ServerResult) -> Self {
        if let ServerResult::CallToolResult(result) = result {
            return Self::Result(result);
        }
        if matches!(result, ServerResult::InputRequiredResult(_) | ServerResult::CreateTaskResult(_)) {
            return Self::More;
        }
        // Nothing but `_meta`, which the SDK has no type for.
        let only_meta = if let ServerResult::CustomResult(custom) = &result {
            let members = custom.0.as_object().filter(|members| members.len() == 1);
            members.and_then(|members| members.get("_meta")).is_some_and(Value::is_object)
        } else {
            false
        };
        if only_meta || matches!(result, ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_)) {
            return Self::Result(CallToolResult::default());
        }
        Self::nothing("it answered something else than the result of a call")
    }
}

impl From<Result<CallToolResponse, ServiceError>> for Answered {
    fn from(answered: Result<CallToolResponse, ServiceError>) -> Self {
        match answered {
            Ok(CallToolResponse::Complete(result)) => Self::Result(result),
            Ok(_) => Self::More,
            Err(ServiceError::McpError(error)) => Self::Error(error),
            Err(error) => Self::nothing(error),
        }
    }
}

/// A message of an upstream that was asked something.
#[derive(Debug)]
pub(super) enum Message {
    /// It answers what was asked.
    Answer(Answered),
    /// It answers something else.
    Foreign,
    /// It says that the tools have changed.
    ToolsChanged,
    /// It is something else.
    Other,
    /// It is no message, for this reason.
    Unreadable(String),
}

/// Reads a message of an upstream that was asked under an id.
pub(super) fn message(bytes: &[u8], asked: i64) -> Message {
    if let Ok(Plain { id, result, .. }) = serde_json::from_slice::<Plain>(bytes)
        && answers(&id, asked)
        && let Some(result) = result.complete()
    {
        return Message::Answer(Answered::Result(result));
    }
    match serde_json::from_slice::<ServerJsonRpcMessage>(bytes) {
        Ok(JsonRpcMessage::Response(response)) if answers(&response.id, asked) => {
            Message::Answer(Answered::of(response.result))
        }
        Ok(JsonRpcMessage::Error(error)) if error.id.as_ref().is_some_and(|id| answers(id, asked)) => {
            Message::Answer(Answered::Error(error.error))
        }
        Ok(JsonRpcMessage::Notification(said))
            if matches!(said.notification, ServerNotification::ToolListChangedNotification(_)) =>
        {
            Message::ToolsChanged
        }
        Ok(JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)) => Message::Foreign,
        Ok(JsonRpcMessage::Notification(_) | JsonRpcMessage::Request(_)) => Message::Other,
        Err(why) => Message::Unreadable(why.to_string()),
    }
}

/// Tells whether an id is the one that was asked under. Like the SDK it takes a number for itself when it is
/// written as a text, as some servers do.
fn answers(id: &RequestId, asked: i64) -> bool {
    match id {
        RequestId::Number(id) => *id == asked,
        RequestId::String(id) => id.parse() == Ok(asked),
    }
}

/// A response of plain form: one with any other member is read with the SDK's types.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(rename = "jsonrpc")]
    _version: JsonRpcVersion2_0,
    id: RequestId,
    result: PlainResult,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PlainResult {
    result_type: Option<String>,
    content: Option<Vec<ContentBlock>>,
    #[serde(default, deserialize_with = "present")]
    structured_content: Option<Value>,
    is_error: Option<bool>,
    #[serde(rename = "_meta")]
    meta: Option<Map<String, Value>>,
}

impl PlainResult {
    fn complete(self) -> Option<CallToolResult> {
        let says_something =
            self.content.is_some() || self.structured_content.is_some() || self.is_error.is_some();
        let complete = self.result_type.as_deref().is_none_or(|kind| kind == "complete");
        if !says_something || !complete || self.meta.is_some_and(|meta| meta.contains_key(SUBSCRIPTION)) {
            return None;
        }
        let mut result = CallToolResult::default();
        result.content = self.content.unwrap_or_default();
        result.structured_content = self.structured_content;
        result.is_error = self.is_error;
        Some(result)
    }
}

/// A `null` that is there is a value.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
