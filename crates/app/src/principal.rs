//! Agents and people, as they are configured.

use std::collections::BTreeSet;

use countersign_rules::{AgentId, Code, GroupName, PersonId, Refusal, TeamName};

/// An agent that may present a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// The teams it belongs to; policies name them.
    pub teams: BTreeSet<TeamName>,
    /// The accounts it may act in. None means none.
    pub accounts: BTreeSet<String>,
    /// The person it acts for, who can therefore not approve its calls.
    pub on_behalf_of: Option<PersonId>,
}

/// A person who may answer requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonConfig {
    /// The groups that policies name in `@ask`.
    pub groups: BTreeSet<GroupName>,
    /// Whether the person may resume what is halted and settle calls in doubt.
    pub operator: bool,
}

/// The agent as which people undo. It has no credential, and no agent of this name can be configured.
pub const UNDO_AGENT: &str = "countersign-undo";

/// The id of [`UNDO_AGENT`].
///
/// # Errors
/// Never: the name is an agent's.
pub fn undo_agent() -> Result<AgentId, Refusal> {
    AgentId::parse(UNDO_AGENT).map_err(|why| Refusal::new(Code::Internal, why.to_string()))
}
