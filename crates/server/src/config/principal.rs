//! Agents and people.

use std::collections::{BTreeMap, BTreeSet};

use countersign_rules::{AgentId, GroupName, PersonId, TeamName};

use crate::undo::UNDO_AGENT;

use super::{
    Reading,
    section::{Complaint, flag, list, parsed},
};

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

pub(super) fn agents(reading: &mut Reading<'_>) -> BTreeMap<AgentId, AgentConfig> {
    reading.named("agent", agent_id, |section| {
        let teams = section.defaulted("teams", list(|t| Ok(TeamName::parse(t)?)))?;
        let accounts = section.required(
            "accounts",
            "say in which accounts it may act, such as `accounts = [\"acme-prod\"]`",
            list(|text| Ok(text.to_owned())),
        )?;
        let on_behalf_of = section.optional("on_behalf_of", parsed(PersonId::parse));
        Some(AgentConfig {
            teams: teams.into_iter().collect(),
            accounts: accounts.into_iter().collect(),
            on_behalf_of,
        })
    })
}

/// An agent's name. One is reserved: people undo as it, and whoever had its credential could undo anything.
fn agent_id(text: &str) -> Result<AgentId, Complaint> {
    if text == UNDO_AGENT {
        let complaint = Complaint::new(format!("`{text}` is the name as which people undo"));
        return Err(complaint.help("give the agent another name"));
    }
    Ok(AgentId::parse(text)?)
}

pub(super) fn people(reading: &mut Reading<'_>) -> BTreeMap<PersonId, PersonConfig> {
    reading.named("person", PersonId::parse, |section| {
        let groups = section.required(
            "groups",
            "say which groups that policies ask the person is in, such as `groups = [\"approvers\"]`",
            list(|g| Ok(GroupName::parse(g)?)),
        )?;
        if groups.is_empty() {
            section.report(None, Complaint::new("a person in no group can answer nothing"));
        }
        let operator = section.defaulted("operator", flag)?;
        Some(PersonConfig { groups: groups.into_iter().collect(), operator })
    })
}
