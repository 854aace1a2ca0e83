//! Agents as they are configured.

use alloc::{collections::BTreeSet, string::String};

use crate::id::{AgentId, TeamName};

/// An agent is configured so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSpec {
    /// Credentials and policies name the agent by this id.
    pub id: AgentId,
    /// The teams it belongs to.
    pub teams: BTreeSet<TeamName>,
    /// The accounts it may act in. None means none: the floor blocks every call.
    pub accounts: BTreeSet<String>,
}
