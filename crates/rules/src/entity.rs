//! Agents and systems as Cedar's entities.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString as _},
    sync::Arc,
    vec::Vec,
};
use core::str::FromStr as _;

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};

use crate::{agent::AgentSpec, tool::ToolSpec, unfit::NoEntity};

/// Returns an entity's name. The types are ours and always parse.
pub(crate) fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    Some(EntityUid::from_type_name_and_id(EntityTypeName::from_str(kind).ok()?, EntityId::new(id)))
}

/// Returns every configured agent and system, with the actions and their groups.
pub(crate) fn entities(
    tools: &[Arc<ToolSpec>],
    agents: &[AgentSpec],
    schema: &Schema,
) -> Result<Entities, NoEntity> {
    let mut all: BTreeMap<String, Entity> = BTreeMap::new();
    for tool in tools {
        let entity = system_entity(tool).ok_or_else(|| NoEntity::System(tool.system.name.clone()))?;
        all.insert(format!("System {}", tool.system.name), entity);
    }
    for agent in agents {
        let entity = agent_entity(agent).ok_or_else(|| NoEntity::Agent(agent.id.clone()))?;
        if all.insert(format!("Agent {}", agent.id), entity).is_some() {
            return Err(NoEntity::Twice(agent.id.clone()));
        }
    }
    Entities::from_entities(all.into_values(), Some(schema))
        .map_err(|error| NoEntity::Schema(error.to_string()))
}

pub(crate) fn system_entity(tool: &ToolSpec) -> Option<Entity> {
    let system = &tool.system;
    let text = |value: &str| RestrictedExpression::new_string(value.into());
    let attributes = [
        (String::from("kind"), text(&system.kind)),
        (String::from("environment"), text(&system.environment)),
        (String::from("account"), text(&system.account)),
    ];
    let parents = [uid("Environment", &system.environment)?, uid("Account", &system.account)?];
    Entity::new(
        uid("System", system.name.as_str())?,
        attributes.into_iter().collect(),
        parents.into_iter().collect(),
    )
    .ok()
}

pub(crate) fn agent_entity(agent: &AgentSpec) -> Option<Entity> {
    let accounts = RestrictedExpression::new_set(
        agent.accounts.iter().map(|a| RestrictedExpression::new_string(a.clone())),
    );
    let teams: Option<Vec<EntityUid>> = agent.teams.iter().map(|t| uid("Team", t.as_str())).collect();
    Entity::new(
        uid("Agent", agent.id.as_str())?,
        [(String::from("accounts"), accounts)].into_iter().collect(),
        teams?.into_iter().collect(),
    )
    .ok()
}
