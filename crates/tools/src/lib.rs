//! Effects: SQL, HTTP and MCP tools.
