//! A client says things beside its request: which revision it speaks, what it is, what it can take.

use countersign_rules::{IdempotencyKey, TraceParent};
use rmcp::{
    RoleServer,
    model::{
        ClientCapabilities, ErrorData, Implementation, ProgressToken, ProtocolVersion, RequestMetaObject,
    },
    service::RequestContext,
};
use serde_json::Value;

use super::{IDEMPOTENCY_META, ROUNDS_META, SESSION_META, TRACE_META, session::client_text};

/// A client is known by what it says beside its request, and by how it hears something before the answer.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    meta: &'a RequestMetaObject,
    version: &'a ProtocolVersion,
    /// The SDK talks to it; a client whose call came in [plain form](super::plain) hears nothing but the answer.
    context: Option<&'a RequestContext<RoleServer>>,
}

impl<'a> Client<'a> {
    /// Makes the client of a request that the SDK has read. `version` is the request's revision.
    pub(super) const fn of(context: &'a RequestContext<RoleServer>, version: &'a ProtocolVersion) -> Self {
        Self { meta: &context.meta, version, context: Some(context) }
    }

    /// Makes the client of a call of plain form.
    pub(super) const fn plain(meta: &'a RequestMetaObject, version: &'a ProtocolVersion) -> Self {
        Self { meta, version, context: None }
    }

    /// Returns the SDK's side of the request, where there is one.
    pub(super) const fn context(self) -> Option<&'a RequestContext<RoleServer>> {
        self.context
    }

    /// Tells whether the client speaks a revision without handshake.
    pub(super) fn is_modern(self) -> bool {
        *self.version >= ProtocolVersion::V_2026_07_28
    }

    /// Tells whether the client can take a task for an answer.
    pub(super) fn takes_tasks(self) -> bool {
        let said = match self.context {
            Some(context) => context.client_capabilities(),
            None => self.meta.client_capabilities(),
        };
        self.is_modern() && said.is_some_and(|client: ClientCapabilities| client.supports_tasks())
    }

    /// Tells whether the client said that it repeats a call with the state that it was answered with. Revisions
    /// name no capability for that, and not every client of 2026-07-28 does it.
    pub(super) fn goes_through_rounds(self) -> bool {
        self.meta.get(ROUNDS_META).and_then(Value::as_bool) == Some(true)
    }

    /// Says what the client is, for the log, where it introduced itself.
    pub(super) fn text(self) -> Option<String> {
        let said = match self.context {
            Some(context) => context.client_info(),
            None => self.meta.client_info(),
        };
        // Where nobody introduced themselves, the SDK puts its own name.
        said.filter(|info: &Implementation| info.name != "rmcp")
            .map(|info| client_text(&info.name, Some(&info.version)))
    }

    /// Returns the session that a request on a shared connection names for itself.
    pub(super) fn session(self) -> Option<&'a str> {
        self.meta.get(SESSION_META).and_then(Value::as_str)
    }

    /// Returns the token under which the client wants to hear of progress.
    pub(super) fn progress(self) -> Option<ProgressToken> {
        self.meta.get_progress_token().filter(|_token| self.context.is_some())
    }

    /// Reads the idempotency key of a call. One that cannot be read is an error: its client relies on it.
    pub(super) fn key(self) -> Result<Option<IdempotencyKey>, ErrorData> {
        let bad =
            |why: String| ErrorData::invalid_params(format!("`{IDEMPOTENCY_META}` in `_meta`: {why}"), None);
        match self.meta.get(IDEMPOTENCY_META) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => {
                IdempotencyKey::parse(text).map(Some).map_err(|why| bad(why.to_string()))
            }
            Some(_) => Err(bad("it must be a string".into())),
        }
    }

    /// Reads the place in its client's trace that a call comes from. What is no such place is nothing.
    pub(super) fn trace(self) -> Option<TraceParent> {
        TraceParent::parse(self.meta.get(TRACE_META)?.as_str()?).ok()
    }
}
