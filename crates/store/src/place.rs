//! Where what is searched stands: entries by their index in the log, calls by their place in the order of calls.
//!
//! A call's place is the index of the first entry that it was issued with, so that both orders are the log's. A call of
//! a ledger that is older than this order has a negative place.
//!
//! On SQLite an index over a column of every entry or call dirties a page of its own at each commit, which is most of
//! what one caller waits for. There, what they are found by is filed for a whole tile of 256 entries at once, in the
//! transaction whose entries complete it: entries in `entry_place`, calls of agents in `call_place`. What stands before
//! the newest complete tile is found by what is filed, and the few entries and calls after it are read. The size of the
//! log says which is which, and is written in the same transaction, so there is nothing to recover after a crash.
//!
//! On PostgreSQL, where a table's index costs less than a second table, indexes say where entries and calls of agents
//! stand. Calls that are not done are filed on both: one that is done before its tile is complete never is.

/// What an entry is found by. The other conditions of a filter are checked on what that finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Call,
    Approval,
    Session,
    /// Any kind but the [`COMMON`] ones.
    Kind,
    Agent,
    /// Nothing but its index: entries are read in order.
    Index,
}

/// Every call has entries of these kinds. They are found by call, or by reading on.
pub(crate) const COMMON: [&str; 4] = ["call_proposed", "decided", "warrant_issued", "outcome"];

/// Returns the index of the first entry that is in no complete tile of a log of this size. What stands before it is
/// filed.
pub(crate) const fn filed(size: u64) -> u64 {
    size & !0xff
}
