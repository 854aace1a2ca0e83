//! The agent of the story: a real MCP client over streamable HTTP, with nothing but its key.

use anyhow::Context as _;
use countersign_app::answer::{AnswerBody, PendingBody, RefusedBody};
use rmcp::{
    RoleClient, ServiceExt as _,
    model::{CallToolRequestParams, ClientConfig},
    service::RunningService,
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::{Value, json};

/// What the agent hears of a call.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The call was performed, and its tool replied this.
    Done(Value),
    /// People are asked.
    Pending(PendingBody),
    /// There is no result.
    Refused(RefusedBody),
}

impl Heard {
    fn of(structured: Value) -> Self {
        match serde_json::from_value(structured.clone()) {
            Ok(AnswerBody::Pending(pending)) => Self::Pending(pending),
            Ok(AnswerBody::Refused(refused)) => Self::Refused(refused),
            Ok(AnswerBody::Done(done)) => Self::Done(done.result),
            // A tool that declares its result is answered with just that.
            Err(_) => Self::Done(structured),
        }
    }

    pub(crate) fn done(&self) -> anyhow::Result<&Value> {
        match self {
            Self::Done(reply) => Ok(reply),
            Self::Pending(_) | Self::Refused(_) => anyhow::bail!("expected the call to be done: {self:?}"),
        }
    }

    pub(crate) fn pending(&self) -> anyhow::Result<&PendingBody> {
        match self {
            Self::Pending(pending) => Ok(pending),
            Self::Done(_) | Self::Refused(_) => anyhow::bail!("expected people to be asked: {self:?}"),
        }
    }

    pub(crate) fn refused(&self, status: &str) -> anyhow::Result<&RefusedBody> {
        match self {
            Self::Refused(refused) if refused.status == status => Ok(refused),
            Self::Done(_) | Self::Pending(_) | Self::Refused(_) => {
                anyhow::bail!("expected the call to be {status}: {self:?}")
            }
        }
    }
}

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
    pub(crate) async fn call(&self, tool: &'static str, arguments: &Value) -> anyhow::Result<Heard> {
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let result = self.0.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
        result.structured_content.map(Heard::of).context("the answer has no structured content")
    }

    /// Proposes an SQL statement, with a reason.
    pub(crate) async fn sql(&self, sql: &str, reason: &str) -> anyhow::Result<Heard> {
        self.call("query_billing", &json!({ "sql": sql, "countersign_reason": reason })).await
    }

    /// Says goodbye.
    pub(crate) async fn leave(self) -> anyhow::Result<()> {
        self.0.cancel().await?;
        Ok(())
    }
}
