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

mod budget;
#[path = "../../../sql/tests/it/chance.rs"]
mod chance;
mod concurrent;
mod conversions;
mod harness;
mod http;
mod inspect;
mod mcp;
mod mcp_direct;
mod postgres;
mod postgres_attacks;
mod postgres_awkward;
mod postgres_between;
mod postgres_crash;
mod postgres_identity;
mod postgres_keeping;
mod postgres_odd;
mod postgres_promise;
mod postgres_schemas;
mod postgres_secrets;
mod postgres_triggers;
mod postgres_undo;
mod reach;
mod rehearsal;
mod restored;
mod sqlite;
mod sqlite_attacks;
mod sqlite_modules;
#[path = "../../../sql/tests/it/statements.rs"]
mod statements;
mod upstream;
mod view;
