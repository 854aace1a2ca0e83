//! Agents and people are configured so.

use std::collections::{BTreeMap, BTreeSet};

use countersign_rules::{AgentId, Code, GroupName, PersonId, ProviderName, Refusal, TeamName};

use crate::role::Roles;

/// An agent is configured so, and may present a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// The agent belongs to these teams, which policies name.
    pub teams: BTreeSet<TeamName>,
    /// The agent may act in these accounts. None means none.
    pub accounts: BTreeSet<String>,
    /// The agent acts for this person, who can therefore not approve its calls.
    pub on_behalf_of: Option<PersonId>,
}

/// A person is configured so, and may answer requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonConfig {
    /// The person is in these groups, which policies name in `@ask`.
    pub groups: BTreeSet<GroupName>,
    /// The person has these roles: an approver's where the configuration says none.
    pub roles: Roles,
    /// The person is this user of Slack, `TEAM/USER`, if one at all.
    pub slack: Option<String>,
    /// The person is this user of Microsoft Teams, `TENANT/OBJECT` in lower case, if one at all.
    pub teams: Option<String>,
    /// Each of these providers knows the person by this subject.
    pub subjects: BTreeMap<ProviderName, String>,
}

/// People undo as this agent. It has no credential, and no agent of this name can be configured.
pub const UNDO_AGENT: &str = "countersign-undo";

/// Returns the id of [`UNDO_AGENT`].
///
/// # Errors
/// This never fails: the name is an agent's.
pub fn undo_agent() -> Result<AgentId, Refusal> {
    AgentId::parse(UNDO_AGENT).map_err(|why| Refusal::new(Code::Internal, why.to_string()))
}
