//! Agents and people.

use std::collections::{BTreeMap, BTreeSet};

use countersign_app::{
    principal::{AgentConfig, PersonConfig, UNDO_AGENT},
    role::{Right, Role, Roles},
};
use countersign_rules::{AgentId, GroupName, PersonId, ProviderName, TeamName};

use serde_json::json;
use toml::de::DeValue;
use unicode_security::confusable_detection::skeleton;

use super::{
    Found, Reading, SignInConfig, Source, groups_of,
    provider::subjects,
    section::{Complaint, Form, list, parsed, written},
};

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
        let roles = section.defaulted("roles", roles())?;
        let slack = section.optional("slack", parsed(slack_user));
        let teams = section.optional("teams", parsed(teams_user));
        let subjects = section.optional("subject", subjects()).unwrap_or_default();
        Some(PersonConfig { groups: groups.into_iter().collect(), roles, slack, teams, subjects })
    })
}

/// The roles of a person, of which there is at least one.
fn roles() -> impl Form<Roles> {
    let words: Vec<&str> = Role::ALL.into_iter().map(Role::as_str).collect();
    let shape = json!({ "type": "array", "items": { "type": "string", "enum": words }, "minItems": 1 });
    written(shape, move |value: &DeValue<'_>| {
        let known = || format!("write some of `{}`", words.join("`, `"));
        let role = |text: &str| {
            let unknown = || Complaint::new(format!("`{text}` is no role")).help(known());
            Role::parse(text).ok_or_else(unknown)
        };
        let roles: Roles = list(role).read(value)?.into_iter().collect();
        if roles.is_empty() {
            return Err(Complaint::new("who has no role could not even look").help(known()));
        }
        Ok(roles)
    })
}

/// A user of Slack: the ids of team and user, which nobody chooses.
fn slack_user(text: &str) -> Result<String, Complaint> {
    let is_id = |id: &str, first: &[char]| {
        id.len() > 1
            && id.starts_with(first)
            && id.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
    };
    match text.split_once('/') {
        Some((team, user)) if is_id(team, &['T', 'E']) && is_id(user, &['U', 'W']) => Ok(text.to_owned()),
        Some(_) | None => Err(Complaint::new(format!("`{text}` is no user of Slack"))
            .help("write the ids of team and user, such as `T0123ABCD/U0456EFGH`")),
    }
}

/// A user of Microsoft Teams: the ids of tenant and object, which nobody chooses, in lower case. Their case says nothing.
fn teams_user(text: &str) -> Result<String, Complaint> {
    match text.split_once('/') {
        Some((tenant, object)) if guid(tenant).is_ok() && guid(object).is_ok() => {
            Ok(text.to_ascii_lowercase())
        }
        Some(_) | None => Err(Complaint::new(format!("`{text}` is no user of Teams")).help(
            "write the ids of tenant and object, such as `72f988bf-86f1-41af-91ab-2d7cd011db47/0f0f0f0f-…`",
        )),
    }
}

/// An id of Microsoft's, in lower case.
pub(super) fn guid(text: &str) -> Result<String, Complaint> {
    let lengths = text.split('-').map(str::len);
    let good = lengths.eq([8, 4, 4, 4, 12]) && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if good {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Complaint::new(format!("`{text}` is no such id of Microsoft's"))
        .help("write the id, such as `72f988bf-86f1-41af-91ab-2d7cd011db47`, and not the name"))
}

/// Reports users of Slack and of Teams who are two people: nobody could tell who has answered.
pub(super) fn distinct_users(people: &BTreeMap<PersonId, PersonConfig>, main: &Source, found: &Found) {
    let slack = people.iter().filter_map(|(id, person)| Some((id, "Slack", person.slack.as_deref()?)));
    let teams = people.iter().filter_map(|(id, person)| Some((id, "Teams", person.teams.as_deref()?)));
    let mut seen: BTreeMap<&str, &PersonId> = BTreeMap::new();
    for (id, messenger, user) in slack.chain(teams) {
        if let Some(other) = seen.insert(user, id) {
            let message =
                format!("`[person.{other}]` and `[person.{id}]` are the same {messenger} user `{user}`");
            let help = format!("give each person the {messenger} user that is theirs");
            let place = main.text.rfind(user).map(|at| at..at.saturating_add(user.len()));
            found.push(main.mistake(place, message, Some(help)));
        }
    }
}

/// Names that are one to a reader and two to us: an agent's person spelled in another way could approve its calls, and so
/// could somebody whose name looks like another's.
pub(super) fn distinct(
    agents: &BTreeMap<AgentId, AgentConfig>,
    (people, providers): (&BTreeMap<PersonId, PersonConfig>, &BTreeMap<ProviderName, SignInConfig>),
    main: &Source,
    found: &Found,
) {
    let place = |written: &str| main.text.find(written).map(|at| at..at.saturating_add(written.len()));
    // A zero looks like a capital letter, which is its small one to a reader; a capital I like a small L.
    let shape = |name: &str| skeleton(name).collect::<String>().to_lowercase();
    let shapes = |name: &str| BTreeSet::from([shape(name), shape(&name.to_lowercase())]);
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let people_named = people.keys().map(|id| (id.as_str(), format!("[person.{id}]")));
    let agents_named = agents.keys().map(|id| (id.as_str(), format!("[agent.{id}]")));
    for (id, title) in people_named.chain(agents_named) {
        let others: BTreeSet<String> =
            shapes(id).into_iter().filter_map(|shape| seen.insert(shape, title.clone())).collect();
        for other in others {
            let message = format!("`{other}` and `{title}` have names that differ in case or look alike");
            let help = "give them names that nobody takes for one another".to_owned();
            found.push(main.mistake(place(&title), message, Some(help)));
        }
    }
    let asked =
        |person: &PersonConfig| !person.roles.may(Right::Answer) || !groups_of(person, providers).is_empty();
    for (id, _) in people.iter().filter(|(_, person)| !asked(person)) {
        // Whom an agent acts for need not be somebody who is asked.
        if !agents.values().any(|agent| agent.on_behalf_of.as_ref() == Some(id)) {
            let title = format!("[person.{id}]");
            let message = format!("`{title}` is in no group and can answer nothing");
            let help = "say which groups, or that an agent acts for them".to_owned();
            found.push(main.mistake(place(&title), message, Some(help)));
        }
    }
    for (id, agent) in agents {
        let Some(person) = agent.on_behalf_of.as_ref().filter(|person| !people.contains_key(*person)) else {
            continue;
        };
        let name = person.as_str();
        let near = people.keys().map(PersonId::as_str).find(|known| {
            !shapes(known).is_disjoint(&shapes(name))
                || strsim::osa_distance(&known.to_lowercase(), &name.to_lowercase()) <= 2
        });
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add `[person.{person}]`, so that nobody can approve as them unseen"),
        };
        let message =
            format!("`on_behalf_of` of `[agent.{id}]` names `{person}`, and there is no such person");
        found.push(main.mistake(place(&format!("\"{person}\"")), message, Some(help)));
    }
}
