//! Agents whose credential is good, and what it reaches.

use std::collections::BTreeSet;

use countersign_rules::{AgentId, PersonId, StoredCall, TeamName, ToolName};

/// This is an authenticated agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The caller is this agent.
    pub agent: AgentId,
    /// The agent belongs to these teams, by configuration.
    pub teams: Vec<TeamName>,
    /// The agent acts for this person, by configuration.
    pub on_behalf_of: Option<PersonId>,
    /// The agent's credential reaches these tools.
    pub scopes: Scopes,
    /// This is the id of the agent's key, or the subject of its token; it is never the secret.
    pub credential: String,
    /// The agent's access token expires at this time, in Unix milliseconds UTC. The ledger says whether a key
    /// is still good.
    pub expires_ms: Option<i64>,
}

impl Identity {
    /// Returns true if a call is one of this agent's, and of a tool that its credential reaches: a narrow one
    /// sees what it could have asked for itself, and nothing of the rest of its agent.
    #[must_use]
    pub fn sees(&self, call: &StoredCall) -> bool {
        call.requester.agent == self.agent && self.scopes.reach(&call.tool)
    }
}

/// A credential reaches these tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scopes {
    /// The credential reaches every tool that the policies let the agent call.
    #[default]
    All,
    /// The credential reaches these tools and no others.
    Tools(BTreeSet<ToolName>),
}

impl Scopes {
    /// Returns true if the credential reaches a tool.
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
