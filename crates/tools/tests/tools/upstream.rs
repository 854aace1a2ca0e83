//! An MCP server whose tools behave, and do not.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

/// The server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upstream {
    /// Whether `echo` is described otherwise than at first.
    pub(crate) changed: Arc<AtomicBool>,
    /// How often a tool was called.
    pub(crate) calls: Arc<AtomicU32>,
}

/// The names of the tools.
const TOOLS: [&str; 8] = ["echo", "text", "env", "fail", "fault", "huge", "hang", "crash"];

impl Upstream {
    fn tools(&self) -> Vec<Tool> {
        let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}});
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
            "huge" => CallToolResult::structured(json!({"huge": "x".repeat(50_000)})),
            "hang" => std::future::pending().await,
            "crash" => std::process::exit(1),
            "change" => {
                self.changed.fetch_xor(true, Ordering::SeqCst);
                if let Err(error) = context.peer.notify_tool_list_changed().await {
                    return Err(ErrorData::internal_error(error.to_string(), None));
                }
                CallToolResult::structured(json!({"changed": true}))
            }
            other => return Err(ErrorData::invalid_params(format!("no tool {other}"), None)),
        };
        Ok(result.into())
    }
}
