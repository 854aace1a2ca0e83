//! The ledger on PostgreSQL, for several processes at once.
//!
//! All writers lock the one row of the log's head, so their transactions follow one another. A process
//! writes on one connection only, and holds an advisory lock for its process id on that very connection:
//! a call can be issued only while the lock is held, and when the lock is free its process is gone.

mod connect;
mod fault;
mod listen;
pub(crate) mod place;
mod read;
mod row;
mod schema;
mod write;

pub(crate) use connect::Connector;
pub use connect::Held;
pub(crate) use read::PostgresReader;
