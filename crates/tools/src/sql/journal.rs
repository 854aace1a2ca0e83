//! What is kept in the target's own database: which calls took effect, and what rows were before them.
//!
//! The record of a call is written first in its own transaction, under its id, and committed with it. So the
//! database itself knows afterwards whether a call happened; and one whose process is gone can be fenced off
//! by taking its id, for its own record can then no longer be written (see [`Recalled::Never`]).
//!
//! [`Recalled::Never`]: countersign_gate::Recalled::Never

use std::collections::BTreeMap;

use countersign_rules::CallId;

/// Under which name a write is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The call.
    pub(crate) call: CallId,
    /// The tool, for people who look into the journal.
    pub(crate) tool: String,
    /// The call's digest, in hexadecimal.
    pub(crate) digest: String,
    /// Whether the rows it changes are kept, so that it can be undone. Where they cannot all be kept, the
    /// call is rolled back: what the rules were told is reversible, is.
    pub(crate) images: bool,
}

/// What is done about rows that changed since the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnChange {
    /// Nothing is undone.
    Refuse,
    /// They stay as they are now; the others are undone.
    Skip,
}

/// What undoing a call comes to: measured before, and done after.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Undone {
    /// Rows that go back to what they were, by table.
    pub(crate) restored: BTreeMap<String, u64>,
    /// Rows that changed since, by table, and are left as they are.
    pub(crate) changed: BTreeMap<String, u64>,
    /// Keys of a few of the rows that changed since, as `table (key)`.
    pub(crate) examples: Vec<String>,
}
