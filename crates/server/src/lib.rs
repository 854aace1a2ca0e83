//! The server behind the only binary: front doors, approvals, command line, configuration and wiring.
//!
//! It is a library so that its tests start the very server that the binary starts. Nothing here decides:
//! whatever comes in by a front door becomes `App::call`, and that is one call to the gate.

pub mod bundle;
mod channels;
pub mod cli;
pub mod clock;
pub mod config;
mod demo;
pub mod descriptors;
mod entry;
mod listener;
pub mod log_key;
mod providers;
pub mod server;
pub mod telemetry;
mod tls;
pub mod vault;
