//! The ledger on SQLite and PostgreSQL: calls, holds, approvals, counters, halts, API keys and the log,
//! changed together in one transaction.
//!
//! ```text
//! caller ─▶ queue ─▶ writer: lock the head ─▶ read records ─▶ apply operations ─▶ write, sign, commit ─▶ answers
//! ```
//!
//! An [`Operation`](writer) is a pure step over records in memory; it is written once. A database reads
//! records by key, writes them back and locks: [`sqlite`] for one process, [`postgres`] for several.
//! What is absent on purpose: a clock and randomness (both are arguments), retries (the caller's business),
//! and any way to change or delete an entry.

mod approval;
mod bond;
mod budget;
mod call;
mod export;
mod halt;
mod history;
mod image;
mod key;
mod known;
mod list;
mod log;
mod migration;
mod postgres;
mod prune;
mod rate;
mod row;
mod session;
mod sqlite;
mod store;
mod verify;
mod writer;

pub use approval::Erasure;
pub use export::ExportError;
pub use history::{Found, Kept, Opening};
pub use key::{KEY_PREFIX, KeyIssued, KeyOwner, KeyRecord, KeyRevoked, NewKey};
pub use list::{ApprovalFilter, CallFilter};
pub use log::{ENTRIES_MAX, EntryFilter, LogHead, LogNodes, StoredEntry};
pub use postgres::Held;
pub use store::{Options, Store, StoreError};
pub use writer::{Step, StepHook};
