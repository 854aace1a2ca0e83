//! What is written of sessions, and of what people do beside the calls.

use std::borrow::Cow;

use countersign_rules::{PersonId, TeamName};
use serde::{Deserialize, Serialize};

use crate::halt::HaltScope;

/// An agent's session began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOpened<'a> {
    /// The agent came in by this door: `mcp`, `rest`, …
    pub front_door: Cow<'a, str>,
    /// The client says that it is this, by name and version.
    pub client: Option<Cow<'a, str>>,
    /// The agent belongs to these teams.
    pub teams: Cow<'a, [TeamName]>,
    /// The person whom the agent acts for.
    pub on_behalf_of: Option<Cow<'a, PersonId>>,
}

/// An agent, or every agent, was halted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halted<'a> {
    /// These are halted.
    pub scope: Cow<'a, HaltScope>,
    /// This person halted them, or the budget that set it off.
    pub by: Cow<'a, str>,
    /// It was done for this reason.
    pub why: Cow<'a, str>,
}

/// A halt was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed<'a> {
    /// These agents go on.
    pub scope: Cow<'a, HaltScope>,
    /// This person did it.
    pub by: Cow<'a, str>,
}

/// The evidence that approvers were shown with a request was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceErased<'a> {
    /// This person did it.
    pub by: Cow<'a, str>,
    /// This was erased; today it is always `evidence`.
    pub erased: Vec<Cow<'a, str>>,
    /// It was done for this reason.
    pub reason: Cow<'a, str>,
}
