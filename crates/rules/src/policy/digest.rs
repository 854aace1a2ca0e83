//! The digest of what can decide about one requester's calls of one tool.

use alloc::{collections::BTreeMap, string::ToString as _, vec::Vec};

use cedar_policy::{EntityTypeName, EntityUid, Policy, PrincipalConstraint};
use serde_json::{Value, json};

use super::{BUNDLE_VERSION, Policies};
use crate::{
    call::{Requester, sha256_of},
    entity::uid,
    id::{AgentId, SliceDigest, ToolName, ToolVersion},
    schema,
    tool::ToolSpec,
};

/// Version of what the digest of a slice covers.
const SLICE_VERSION: u32 = 1;

impl Policies {
    /// Returns the digest of all the policies, and of all that is configured, that can decide about this requester's
    /// calls of a tool, whatever their arguments and facts: the tool and its system, the policies whose scope can
    /// match requester, tool and system, and what those policies read of agents, systems and actions. While it is the
    /// same, [`decide()`](crate::decide()) answers the same, but for the numbers by which policies without an `@id`
    /// are called. `None` where no tool of this name and version is in force.
    #[must_use]
    pub fn slice(
        &self,
        requester: &Requester,
        tool: &ToolName,
        version: &ToolVersion,
    ) -> Option<SliceDigest> {
        let slice = self.slices.get(tool).filter(|slice| slice.tool.version == *version)?;
        let principals = Principals::of(requester)?;
        let mut policies = Vec::new();
        let mut named = BTreeMap::new();
        for id in &slice.members {
            let rule = self.rules.get(id.as_str())?;
            if !principals.admit(&rule.policy) {
                continue;
            }
            policies.push(rule.digest.as_str());
            // Conditions may look at other agents, systems and actions than those of the call.
            for entity in rule.policy.entity_literals() {
                named.insert(entity.to_string(), self.description(&entity));
            }
        }
        let spec = &slice.tool;
        let subject = json!({
            "agent": self.agent(&requester.agent),
            "arguments": spec.arguments,
            "effects": [spec.effect.floor(), spec.effect.ceiling()],
            "groups": schema::groups(spec),
            "language": cedar_policy::get_lang_version().to_string(),
            "named": named,
            "policies": policies,
            "system": system(spec),
            "tool": spec.name,
            "v": [SLICE_VERSION, BUNDLE_VERSION],
            "version": spec.version,
        });
        SliceDigest::parse(&sha256_of(&subject).ok()?).ok()
    }

    /// Returns what policies can see of an entity beside its name. Teams, environments and accounts are names.
    fn description(&self, entity: &EntityUid) -> Value {
        let id = entity.id().unescaped();
        match entity.type_name().to_string().as_str() {
            "Agent" => AgentId::parse(id).map_or(Value::Null, |agent| self.agent(&agent)),
            "System" => {
                let mut tools = self.slices.values().map(|slice| &slice.tool);
                tools.find(|tool| tool.system.name.as_str() == id).map_or(Value::Null, |tool| system(tool))
            }
            "Action" => {
                let mut tools = self.slices.values().map(|slice| &slice.tool);
                let tool = tools.find(|tool| tool.name.as_str() == id);
                tool.map_or(Value::Null, |tool| json!(schema::groups(tool)))
            }
            _ => Value::Null,
        }
    }

    fn agent(&self, agent: &AgentId) -> Value {
        let spec = self.agents.get(agent);
        spec.map_or(Value::Null, |spec| json!({ "accounts": spec.accounts, "teams": spec.teams }))
    }
}

fn system(tool: &ToolSpec) -> Value {
    let system = &tool.system;
    json!({
        "account": system.account,
        "environment": system.environment,
        "kind": system.kind,
        "name": system.name,
    })
}

/// The principals of policies are compared with these: an agent and the teams it is in.
struct Principals(Vec<EntityUid>);

impl Principals {
    fn of(requester: &Requester) -> Option<Self> {
        let teams = requester.teams.iter().map(|team| uid("Team", team.as_str()));
        Some(Self(
            core::iter::once(uid("Agent", requester.agent.as_str())).chain(teams).collect::<Option<_>>()?,
        ))
    }

    /// As [`Scope::admits`](crate::slice::Scope::admits).
    fn admit(&self, policy: &Policy) -> bool {
        let agent = |kind: &EntityTypeName| kind.to_string() == "Agent";
        match policy.principal_constraint() {
            PrincipalConstraint::Any => true,
            PrincipalConstraint::Eq(one) => self.0.first() == Some(&one),
            PrincipalConstraint::In(group) => self.0.contains(&group),
            PrincipalConstraint::Is(kind) => agent(&kind),
            PrincipalConstraint::IsIn(kind, group) => agent(&kind) && self.0.contains(&group),
        }
    }
}
