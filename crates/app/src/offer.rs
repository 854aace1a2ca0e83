//! Tools as agents see them.

use std::sync::Arc;

use countersign_rules::{Refusal, ToolSpec};
use countersign_tools::{AnyTool, ToolStatus};
use serde_json::Value;

/// A tool with its schemas as agents see them.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The tool.
    pub tool: AnyTool,
    /// JSON Schema 2020-12 of the arguments, with the reserved reason.
    pub input_schema: Arc<Value>,
    /// The same, as the MCP SDK asks for it at every call.
    pub input_object: Arc<serde_json::Map<String, Value>>,
    /// JSON Schema 2020-12 of the result, when declared.
    pub output_schema: Option<Arc<Value>>,
}

impl Offer {
    /// A tool with the schemas that it advertises.
    #[must_use]
    pub fn new(tool: AnyTool) -> Self {
        let advertised = tool.advertised();
        Self {
            input_object: Arc::new(advertised.as_object().cloned().unwrap_or_default()),
            input_schema: Arc::new(advertised),
            output_schema: tool.spec().result.clone().map(Arc::new),
            tool,
        }
    }

    /// What the tool is declared to be.
    #[must_use]
    pub fn spec(&self) -> &Arc<ToolSpec> {
        self.tool.spec()
    }

    /// Why the tool cannot be called now, if it cannot.
    #[must_use]
    pub fn off(&self) -> Option<Refusal> {
        match self.tool.status() {
            // One whose upstream is away stays listed: a call waits for it, and says so.
            ToolStatus::Ready | ToolStatus::Away(_) => None,
            ToolStatus::Off(refusal) => Some(refusal),
        }
    }
}

/// A tool as an agent sees it.
#[derive(Debug, Clone)]
pub struct Offered {
    /// What it is declared to be.
    pub spec: Arc<ToolSpec>,
    /// JSON Schema 2020-12 of the arguments, with the reserved reason.
    pub input_schema: Arc<Value>,
    /// JSON Schema 2020-12 of the result, when declared.
    pub output_schema: Option<Arc<Value>>,
}
