//! An MCP server whose tools behave, and do not.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult,
        PaginatedRequestParams, ProtocolVersion, RequestId, ServerCapabilities, ServerConfig,
        SubscriptionFilter, Tool,
    },
    service::{RequestContext, SubscriptionContext},
};
use serde_json::{Value, json};
use tokio::sync::watch;

/// The server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upstream {
    /// Whether `echo` is described otherwise than at first.
    pub(crate) changed: Arc<AtomicBool>,
    /// How often a tool was called.
    pub(crate) calls: Arc<AtomicU32>,
    /// How often it was called past the SDK, which counts its ids in 32 bits.
    pub(crate) direct: Arc<AtomicU32>,
    /// Whether its tools have their argument in a header as well.
    pub(crate) annotated: bool,
    /// Whether it knows no revision without a handshake.
    pub(crate) old: bool,
    /// Told when a description changes.
    pub(crate) told: watch::Sender<()>,
}

/// The names of the tools.
const TOOLS: [&str; 8] = ["echo", "text", "env", "fail", "fault", "huge", "hang", "crash"];

impl Upstream {
    /// The schema of all tools' arguments.
    pub(crate) fn schema(annotated: bool) -> Value {
        let text = if annotated {
            json!({"type": "string", "x-mcp-header": "Text"})
        } else {
            json!({"type": "string"})
        };
        json!({"type": "object", "properties": {"text": text}})
    }

    fn tools(&self) -> Vec<Tool> {
        let schema = Self::schema(self.annotated);
        let schema = schema.as_object().cloned().unwrap_or_default();
        let describe = |name: &str| {
            let changed = name == "echo" && self.changed.load(Ordering::SeqCst);
            if changed { "says something else".to_owned() } else { format!("does {name}") }
        };
        let mut tools: Vec<Tool> =
            TOOLS.iter().map(|name| Tool::new(*name, describe(name), schema.clone())).collect();
        tools.push(Tool::new("change", "changes the description of echo", schema));
        tools
    }
}

impl ServerHandler for Upstream {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build())
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        let newest = if self.old { ProtocolVersion::V_2025_11_25 } else { ProtocolVersion::LATEST };
        Cow::Borrowed(ProtocolVersion::known_up_to(&newest))
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut told = self.told.subscribe();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                Ok(()) = told.changed() => {
                    if context.sink().notify_tool_list_changed().await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools()))
    }

    #[expect(clippy::disallowed_methods, reason = "showing its environment is what one of the tools is for")]
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if matches!(context.id, RequestId::Number(id) if id > i64::from(u32::MAX)) {
            self.direct.fetch_add(1, Ordering::SeqCst);
        }
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let result = match &*request.name {
            "echo" => CallToolResult::structured(json!({"echo": arguments})),
            "text" => CallToolResult::success(vec![ContentBlock::text("plain words")]),
            "env" => {
                let names: Vec<String> =
                    std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
                CallToolResult::structured(json!({"env": names, "pid": std::process::id()}))
            }
            "fail" => CallToolResult::error(vec![ContentBlock::text("it did not work")]),
            "fault" => return Err(ErrorData::internal_error("inside", None)),
            "huge" => CallToolResult::structured(json!({"huge": "x".repeat(30_000)})),
            "hang" => std::future::pending().await,
            "crash" => std::process::exit(1),
            "change" => {
                self.changed.fetch_xor(true, Ordering::SeqCst);
                self.told.send_replace(());
                let revision = context.protocol_version();
                let asked = revision.is_some_and(|revision| !revision.has_initialize());
                // Without a session only those are told who have asked to be.
                if !asked && let Err(error) = context.peer.notify_tool_list_changed().await {
                    return Err(ErrorData::internal_error(error.to_string(), None));
                }
                CallToolResult::structured(json!({"changed": true}))
            }
            other => return Err(ErrorData::invalid_params(format!("no tool {other}"), None)),
        };
        Ok(result.into())
    }
}
