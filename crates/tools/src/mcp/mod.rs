//! Tools of upstream MCP servers.
//!
//! An upstream tool is offered only as what it was reviewed to be: its definition (name, description,
//! schemas, annotations) has a digest, and where the digest is not the reviewed one the tool is switched off
//! until it is again. Agents never see upstream's descriptions; they see what is declared here.
//!
//! An upstream over HTTP is asked for revision 2026-07-28 first, which has no sessions. There a call of plain form is
//! one POST of our own and its answer; whatever else there is goes through the SDK: see `direct`. What an answer
//! means for the effect does not depend on the way: see `answer` and `McpTool`.
//!
//! A connection is made and kept by [`McpSystem::start`]; a dead upstream harms no other, and is connected to
//! again with growing pauses. A call whose connection is lost, that takes too long or that ends in an internal
//! error is in doubt if it writes; `isError` is the upstream's word that it failed.

mod answer;
pub(crate) mod client;
mod digest;
mod direct;
mod system;
mod tool;

pub use digest::{Reviewable, definition_digest, names_headers};
pub use system::McpSystem;
pub use tool::McpTool;
