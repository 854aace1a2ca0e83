//! The MCP front door of the real server, spoken to by a real MCP client.
//!
//! Effects are rows of a database that nobody but the tools writes to, so each test can count them.

mod bridge;
mod conformance;
mod effects;
mod holding;
mod hostile;
mod plain;
mod refusals;
mod repeat;
mod sessions;
mod stdio;
mod tasks;
mod world;
