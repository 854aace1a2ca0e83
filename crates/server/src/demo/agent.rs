//! The agent of the story: a real MCP client over streamable HTTP, with nothing but its key.

use anyhow::Context as _;
use rmcp::{
    RoleClient, ServiceExt as _,
    model::{CallToolRequestParams, ClientConfig},
    service::RunningService,
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::{Value, json};

/// A connected agent.
pub(crate) struct Agent(RunningService<RoleClient, ClientConfig>);

impl Agent {
    /// Connects with an agent's key.
    pub(crate) async fn connect(url: &str, key: &str) -> anyhow::Result<Self> {
        let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(key);
        let transport = StreamableHttpClientTransport::from_config(config);
        let service =
            ClientConfig::default().serve(transport).await.context("the agent could not connect")?;
        Ok(Self(service))
    }

    /// The names of the tools it is offered.
    pub(crate) async fn tools(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.0.list_all_tools().await?.into_iter().map(|tool| tool.name.into_owned()).collect())
    }

    /// Calls a tool, and returns its structured answer.
    pub(crate) async fn call(&self, tool: &'static str, arguments: &Value) -> anyhow::Result<Value> {
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let result = self.0.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
        result.structured_content.context("the answer has no structured content")
    }

    /// Proposes an SQL statement, with a reason.
    pub(crate) async fn sql(&self, sql: &str, reason: &str) -> anyhow::Result<Value> {
        self.call("query_billing", &json!({ "sql": sql, "countersign_reason": reason })).await
    }

    /// Says goodbye.
    pub(crate) async fn leave(self) -> anyhow::Result<()> {
        self.0.cancel().await?;
        Ok(())
    }
}
