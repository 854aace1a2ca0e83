//! The tools against real systems, driven by the real gate over a simulated ledger.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a panic in a test is a failed test"
)]

mod harness;
mod http;
mod mcp;
mod postgres;
mod postgres_undo;
mod reach;
mod sqlite;
mod upstream;
