//! The tool server that everything is measured against: stateless MCP over HTTP, plain JSON answers, two
//! tools of five arguments that answer at once.

use std::sync::Arc;

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde_json::{Value, json};

/// The tools' argument schema.
pub(crate) fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "customer_id": { "type": "string", "format": "uuid" },
            "months": { "type": "integer", "minimum": 1, "maximum": 24 },
            "currency": { "type": "string", "maxLength": 3 },
            "detail": { "type": "boolean" },
            "note": { "type": "string", "maxLength": 200 },
        },
        "required": ["customer_id", "months", "currency", "detail", "note"],
        "additionalProperties": false,
    })
}

/// Arguments that fit.
pub(crate) fn arguments() -> Value {
    json!({
        "customer_id": "7f1f5c1e-0f5b-4a0e-9d38-0d8b4f1d2b11",
        "months": 12,
        "currency": "EUR",
        "detail": true,
        "note": "monthly summary for the customer's account manager",
    })
}

#[derive(Clone)]
struct Upstream;

impl ServerHandler for Upstream {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().build();
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = schema().as_object().cloned().unwrap_or_default();
        let tool =
            |name: &'static str| Tool::new(name, "Billing total of one customer.", Arc::new(schema.clone()));
        // Without the hint the gateway takes no tool for a read.
        let read = tool("read").with_annotations(ToolAnnotations::new().read_only(true));
        Ok(ListToolsResult::with_all_items(vec![read, tool("write")]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let months = request.arguments.as_ref().and_then(|a| a.get("months")).cloned();
        Ok(CallToolResult::structured(json!({ "total": 120_450, "currency": "EUR", "months": months }))
            .into())
    }
}

/// Serves until killed, and prints its address first.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let mut config = StreamableHttpServerConfig::default();
    config.legacy_session_mode = false;
    config.json_response = true;
    let service: StreamableHttpService<Upstream, LocalSessionManager> =
        StreamableHttpService::new(|| Ok(Upstream), Arc::default(), config);
    let router = axum::Router::new().nest_service("/mcp", service);
    crate::process::serve(router).await
}
