//! Agents see tools so.

use std::sync::Arc;

use countersign_rules::{Refusal, ToolSpec};
use countersign_tools::{AnyTool, ToolStatus, mcp::names_headers};
use serde_json::Value;

/// An offer is a tool with its schemas as agents see them.
#[derive(Debug, Clone)]
pub struct Offer {
    /// This tool is offered.
    pub tool: AnyTool,
    /// The arguments fit this JSON Schema 2020-12, which has the reserved reason too.
    pub input_schema: Arc<Value>,
    /// This is the same schema, as the MCP SDK asks for it at every call.
    pub input_object: Arc<serde_json::Map<String, Value>>,
    /// This is true if a client repeats arguments of the tool in headers (`x-mcp-header` in the schema, SEP-2243).
    pub names_headers: bool,
    /// The result fits this JSON Schema 2020-12, when one is declared.
    pub output_schema: Option<Arc<Value>>,
}

impl Offer {
    /// Makes the offer of a tool, with the schemas that it advertises.
    #[must_use]
    pub fn new(tool: AnyTool) -> Self {
        let advertised = tool.advertised();
        Self {
            names_headers: names_headers(&advertised),
            input_object: Arc::new(advertised.as_object().cloned().unwrap_or_default()),
            input_schema: Arc::new(advertised),
            output_schema: tool.spec().result.clone().map(Arc::new),
            tool,
        }
    }

    /// Returns what the tool is declared to be.
    #[must_use]
    pub fn spec(&self) -> &Arc<ToolSpec> {
        self.tool.spec()
    }

    /// Says why the tool is switched off; `None` if it is not.
    #[must_use]
    pub fn off(&self) -> Option<Refusal> {
        match self.tool.status() {
            // One whose upstream is away stays listed: a call waits for it, and says so.
            ToolStatus::Ready | ToolStatus::Away(_) => None,
            ToolStatus::Off(refusal) => Some(refusal),
        }
    }
}

/// An agent sees a tool so.
#[derive(Debug, Clone)]
pub struct Offered {
    /// The tool is declared to be this.
    pub spec: Arc<ToolSpec>,
    /// The arguments fit this JSON Schema 2020-12, which has the reserved reason too.
    pub input_schema: Arc<Value>,
    /// The result fits this JSON Schema 2020-12, when one is declared.
    pub output_schema: Option<Arc<Value>>,
}
