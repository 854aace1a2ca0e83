//! Effects: statements on databases, requests to HTTP APIs, tools of upstream MCP servers.
//!
//! Each tool implements [`countersign_gate::Tool`]; the gate alone calls it, with a warrant. What is
//! deliberately absent: any decision, and any way to a system but through a warrant or a probe.

mod any_tool;
mod declared;
pub mod definition;
pub mod http;
pub mod mcp;
mod secret;
pub mod sql;
pub mod tls;

pub use any_tool::{AnyTool, Systems, ToolStatus};
pub use definition::{AnyDefinition, DefinitionError};
pub use http::{HttpSystem, HttpTool};
pub use mcp::{McpSystem, McpTool};
pub use sql::{SqlSystem, SqlTool, UndoReply, UndoTool};
