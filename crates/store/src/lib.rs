//! The ledger on SQLite and PostgreSQL: calls, holds, approvals, counters, halts, API keys, accounts and the log,
//! changed together in one transaction.
//!
//! ```text
//! caller ─▶ queue ─▶ writer: lock the head ─▶ read records ─▶ apply operations ─▶ write, sign, commit ─▶ answers
//! ```
//!
//! An [`Operation`](queue) is a pure step over [`records`] in memory; it is written once, in the file of its
//! noun. How a [`record`] of that noun stands in its table is said in the file of the same name below
//! `record/`. A database reads records by key, writes them back and locks: [`sqlite`] for one process,
//! [`postgres`] for several.
//!
//! Modules know one another in one direction: `row`, `error` and [`place`], then `record/`, [`records`], [`queue`], the
//! operations and the [`writer`], the databases, the [`store`], and what is asked of it ([`ledger`], [`log`],
//! [`list`], [`look`], …).
//!
//! What is absent on purpose: a clock and randomness (both are arguments), retries (the caller's business),
//! and any way to change or delete an entry.

mod account;
mod approval;
mod beside;
mod bond;
mod cache;
mod call;
mod error;
mod export;
mod halt;
mod history;
mod key;
mod ledger;
mod level;
mod link;
mod list;
mod log;
mod look;
mod migration;
mod options;
mod outbox;
mod passkey;
mod place;
mod postgres;
mod prune;
mod queue;
mod record;
mod records;
mod row;
mod session;
mod sign_in;
mod sqlite;
mod store;
mod tail;
mod token;
mod verify;
mod web_session;
mod writer;

pub use account::NewAccount;
pub use approval::Erasure;
pub use beside::StoreBeside;
pub use error::StoreError;
pub use export::ExportFault;
pub use key::{KEY_PREFIX, KeyIssued, KeyRevoked};
pub use level::RequestTimes;
pub use link::NewLink;
pub use list::{ApprovalFilter, CallFilter};
pub use log::{ENTRIES_MAX, EntryFilter, LogHead, LogNodes, StoredEntry};
pub use look::Found;
pub use options::{Kept, Opening, Options};
pub use outbox::{GivenUp, Listener, Telling, Turn};
pub use passkey::{NewPasskey, PasskeyRefusal, PasskeyUse, PasswordProof, SpentChallenge};
pub use postgres::Held;
pub use record::{
    account::{AccountRecord, PasswordHash},
    key::{KeyOwner, KeyRecord, NewKey},
    link::{LinkRecord, LinkRefusal},
    outbox::{Event, Notice},
    passkey::PasskeyRecord,
    web_session::{Vouched, WebSessionRecord, WebSessionRefusal},
};
pub use row::StatementHook;
pub use sign_in::{NewLogout, NewVouchedSession, VouchRefusal};
pub use store::Store;
pub use web_session::NewWebSession;
pub use writer::{Step, StepHook};
