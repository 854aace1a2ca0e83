//! The tools against real systems, driven by the real gate over a simulated ledger.

mod harness;
mod http;
mod mcp;
mod postgres;
mod reach;
mod sqlite;
mod upstream;
