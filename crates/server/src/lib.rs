//! The server behind the only binary: front doors, approvals, command line, configuration and wiring.
//!
//! It is a library so that its tests start the very server that the binary starts. Nothing here decides:
//! whatever comes in by a front door becomes [`app::App::call`], and that is one call to the gate.

pub mod answer;
pub mod api;
pub mod app;
pub mod auth;
mod body;
pub mod bundle;
pub mod cli;
pub mod clock;
pub mod config;
mod connection;
mod credential;
mod demo;
mod descriptors;
mod entry;
mod listener;
pub mod log_key;
pub mod mcp;
pub mod metrics;
mod places;
pub mod server;
mod story;
mod stream;
pub mod telemetry;
mod text;
pub mod undo;
pub mod vault;
pub mod worker;
