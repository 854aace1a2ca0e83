//! Everything the rules may look at, gathered before the decision.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use serde::{Deserialize, Serialize};

use crate::{
    effect::Effect,
    id::{ApprovalId, GroupName, PersonId, ToolName},
    money::Currency,
    reach::Reach,
};

/// The facts are all that is known about a call when it is decided. They are written to the log as they stand, so
/// that the decision can be computed again. The agent's reason and tool output are not here: the model has no vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The stricter of what the tool declares and what the call is seen to do.
    pub effect: Effect,
    /// The call is of these categories, declared and observed.
    pub categories: BTreeSet<String>,
    /// This is true if we can undo the call.
    pub reversible: bool,
    /// The call would touch this, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// The statement does this, for tools where the agent writes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<StatementFacts>,
    /// This session did so much so far, calls under way included.
    pub session: Counters,
    /// This agent did so much in the current UTC day, calls under way included.
    pub agent_today: Counters,
    /// These arguments, by name, come from untrusted content.
    #[serde(default)]
    pub provenance: BTreeSet<String>,
    /// The decision is made at this time, in Unix milliseconds UTC.
    pub now_ms: i64,
    /// A person's approval of exactly this call, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalFact>,
}

/// A statement that the agent wrote was seen to do this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementFacts {
    /// The statement is of this verb, one of [`StatementFacts::VERBS`].
    pub verb: String,
    /// The statement reads these tables.
    pub reads: BTreeSet<String>,
    /// The statement writes these tables.
    pub writes: BTreeSet<String>,
    /// The statement calls these functions.
    pub functions: BTreeSet<String>,
    /// This is true if a predicate bounds what is written.
    pub bounded: bool,
}

impl StatementFacts {
    /// The words that a statement's `verb` can be.
    pub const VERBS: &[&str] = &[
        "alter",
        "analyze",
        "attach",
        "begin",
        "call",
        "checkpoint",
        "close",
        "cluster",
        "comment",
        "commit",
        "copy",
        "create",
        "deallocate",
        "declare",
        "delete",
        "detach",
        "discard",
        "do",
        "drop",
        "execute",
        "explain",
        "fetch",
        "grant",
        "insert",
        "listen",
        "load",
        "lock",
        "merge",
        "notify",
        "other",
        "pragma",
        "prepare",
        "refresh",
        "reindex",
        "rename",
        "revoke",
        "rollback",
        "savepoint",
        "select",
        "set",
        "show",
        "truncate",
        "update",
        "vacuum",
    ];
}

/// Sums over what was done so far. A call counts from the moment its warrant is issued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// So many calls were issued.
    pub calls: u64,
    /// So many of these were writes or destructive.
    pub writes: u64,
    /// So many of these were destructive.
    pub destructive: u64,
    /// Writes touched so many rows.
    pub rows: u64,
    /// Calls moved so much money, in minor units by currency.
    #[serde(default)]
    pub money: BTreeMap<Currency, u64>,
    /// These tools were used, each named once.
    #[serde(default)]
    pub tools: BTreeSet<ToolName>,
}

/// A person's approval, as the rules see it: already bound to this call's digest, requester, tool version
/// and policy bundle by whoever gathers facts; what is left to judge is who signed and for what reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalFact {
    /// People were asked by this request.
    pub id: ApprovalId,
    /// These people approved, each for these groups.
    pub signers: Vec<(PersonId, BTreeSet<GroupName>)>,
    /// The reach that was shown to them.
    pub reach: Option<Reach>,
    /// The approval stops being good at this time, in Unix milliseconds UTC.
    pub expires_ms: i64,
    /// This is true if the people granted calls like this one, and not this very call. Such a grant answers those policies
    /// alone that allow one (`@grant`), and policies do not see it in their context.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub grant: bool,
    /// This is true if each of these people confirmed that with a passkey: otherwise it answers no policy that wants it
    /// (`@step_up`).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub stepped_up: bool,
}
