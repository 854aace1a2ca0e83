//! Agents whose credential is good, and what it reaches.

use std::collections::BTreeSet;

use countersign_rules::{AgentId, PersonId, StoredCall, TeamName, ToolName};

/// An authenticated agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The agent.
    pub agent: AgentId,
    /// The teams it belongs to, by configuration.
    pub teams: Vec<TeamName>,
    /// The person it acts for, by configuration.
    pub on_behalf_of: Option<PersonId>,
    /// What its credential reaches.
    pub scopes: Scopes,
    /// The id of its key, or the subject of its token; never the secret.
    pub credential: String,
    /// When its access token expires, in Unix milliseconds UTC. Whether a key still is good the ledger says.
    pub expires_ms: Option<i64>,
}

impl Identity {
    /// Whether a call is one of this agent's, and of a tool that its credential reaches: a narrow one sees what it could
    /// have asked for itself, and nothing of the rest of its agent.
    #[must_use]
    pub fn sees(&self, call: &StoredCall) -> bool {
        call.requester.agent == self.agent && self.scopes.reach(&call.tool)
    }
}

/// The tools that a credential reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scopes {
    /// Every tool that the policies let the agent call.
    #[default]
    All,
    /// These tools and no others.
    Tools(BTreeSet<ToolName>),
}

impl Scopes {
    /// Whether the credential reaches a tool.
    #[must_use]
    pub fn reach(&self, tool: &ToolName) -> bool {
        match self {
            Self::All => true,
            Self::Tools(tools) => tools.contains(tool),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_narrow() {
        let tool = |name| ToolName::parse(name).unwrap();
        assert!(Scopes::All.reach(&tool("a")));
        let some = Scopes::Tools(BTreeSet::from([tool("a")]));
        assert!(some.reach(&tool("a")) && !some.reach(&tool("b")));
        assert!(!Scopes::Tools(BTreeSet::new()).reach(&tool("a")));
    }
}
