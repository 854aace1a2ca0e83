//! What is allowed in policies and tools and probably not meant.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    sync::Arc,
    vec::Vec,
};

use cedar_policy::{ActionConstraint, Authorizer, Entities, EntityUid, PolicySet};

use crate::{
    agent::AgentSpec,
    category,
    effect::Effect,
    id::ToolName,
    schema::CATEGORY,
    slice::Slice,
    source::{PolicyError, Rule},
    tool::ToolSpec,
};

/// Categories that nobody knows, and rules that miss what is only observed.
pub(crate) fn categories(tools: &[Arc<ToolSpec>], rules: &[Rule]) -> Vec<PolicyError> {
    let mut warnings = Vec::new();
    for tool in tools {
        for word in tool.categories.iter().filter(|w| !category::is_known(w)) {
            let message = format!("tool `{}` has the unknown category `{word}`", tool.name);
            warnings.push(PolicyError {
                file: "tools".into(),
                span: None,
                message,
                help: Some(format!("begin a category of your own with `{}`", category::OWN_PREFIX)),
            });
        }
    }
    for rule in rules.iter().filter(|r| r.forbids || r.ask.is_some()) {
        let group = |uid: &EntityUid| uid.id().unescaped().starts_with(CATEGORY);
        let scoped = match rule.policy.action_constraint() {
            ActionConstraint::In(groups) => groups.iter().any(group),
            ActionConstraint::Eq(_) | ActionConstraint::Any => false,
        };
        if scoped {
            warnings.push(PolicyError {
                file: rule.file.clone(),
                span: rule.span.clone(),
                message: format!("policy `{}` sees declared categories only, not observed ones", rule.id),
                help: Some("write `when { context.categories.contains(\"…\") }`".into()),
            });
        }
    }
    warnings
}

/// A policy about what a session did before, and the tools that nothing but sessions bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBySession {
    /// The policy stands here, and this is to be written.
    pub error: PolicyError,
    /// The tools of its scope of which no policy looks at what the agent did in all.
    pub tools: BTreeSet<ToolName>,
}

/// Policies about what a session did before: an agent begins a session when it likes, so that they bound nothing by
/// themselves.
pub(crate) fn held_by_session(
    rules: &BTreeMap<String, Rule>,
    slices: &BTreeMap<ToolName, Slice>,
) -> Vec<HeldBySession> {
    let mut held = Vec::new();
    for rule in rules.values().filter(|rule| rule.mentions.sees("session")) {
        let of = |slice: &&Slice| {
            slice.all.set.policies().any(|policy| policy.id().as_ref() as &str == rule.id.as_str())
                && !slice.all.mentions.sees("agent_today")
        };
        let tools: BTreeSet<ToolName> =
            slices.values().filter(of).map(|slice| slice.tool.name.clone()).collect();
        if tools.is_empty() {
            continue;
        }
        let message = format!(
            "policy `{}` counts what a session did, and an agent begins another session when it likes",
            rule.id
        );
        let help = "look at `context.agent_today`, or bound the agent by a budget or rate per agent";
        let error = PolicyError {
            file: rule.file.clone(),
            span: rule.span.clone(),
            message,
            help: Some(help.into()),
        };
        held.push(HeldBySession { error, tools });
    }
    held
}

/// Rules about the reach on tools whose reach cannot be measured: such calls are refused.
pub(crate) fn blind(
    rules: &BTreeMap<String, Rule>,
    slices: &BTreeMap<ToolName, Slice>,
    agents: &[AgentSpec],
    entities: &Entities,
) -> Vec<PolicyError> {
    let mut warnings = Vec::new();
    for slice in slices.values().filter(|s| !s.tool.measurable) {
        let stricter = |rule: &&Rule| rule.mentions.sees("reach") && (rule.forbids || rule.ask.is_some());
        let of = slice.all.set.policies().filter_map(|p| rules.get(p.id().as_ref() as &str));
        for rule in of.filter(stricter).filter(|rule| can_hold(slice, rule, agents, entities)) {
            warnings.push(PolicyError {
                file: rule.file.clone(),
                span: rule.span.clone(),
                message: format!(
                    "calls of tool `{}` are refused where policy `{}` looks at their reach, which cannot be measured",
                    slice.tool.name, rule.id
                ),
                help: Some("make the tool measurable, or except its system in the policy".into()),
            });
        }
    }
    warnings
}

/// Returns true if a rule's conditions on agent, system and effect hold for some agent and some writing call.
fn can_hold(slice: &Slice, rule: &Rule, agents: &[AgentSpec], entities: &Entities) -> bool {
    let Some(reduced) = rule.reduced(|m| m.only(&["effect"])) else { return true };
    let Ok(set) = PolicySet::from_policies([reduced.policy]) else { return true };
    let declared = slice.tool.effect;
    [Effect::Write, Effect::Destructive]
        .into_iter()
        .filter(|effect| (declared.floor()..=declared.ceiling()).contains(effect))
        .any(|effect| {
            agents.iter().any(|agent| {
                let request = slice.request_before_call(&agent.id, effect);
                request.is_none_or(|request| {
                    let response = Authorizer::new().is_authorized(&request, &set, entities);
                    response.diagnostics().reason().next().is_some()
                })
            })
        })
}
