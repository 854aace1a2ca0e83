//! What is allowed in policies and tools and probably not meant.

use alloc::{collections::BTreeSet, format, string::ToString as _, sync::Arc, vec::Vec};

use cedar_policy::{ActionConstraint, Authorizer, EntityUid, PolicySet};

use crate::{
    category,
    effect::Effect,
    policy::{AgentSpec, Policies},
    schema::CATEGORY,
    slice::Slice,
    source::{Layer, PolicyError, Rule},
    tool::ToolSpec,
};

/// Names in policies that nothing has. Cedar takes any name, so a typing error would never match.
pub(crate) fn names_nobody(
    rules: &[Rule],
    tools: &[Arc<ToolSpec>],
    agents: &[AgentSpec],
) -> Vec<PolicyError> {
    let mut known: BTreeSet<(&str, &str)> = BTreeSet::new();
    for agent in agents {
        known.insert(("Agent", agent.id.as_str()));
        known.extend(agent.teams.iter().map(|t| ("Team", t.as_str())));
    }
    for tool in tools {
        known.insert(("System", tool.system.name.as_str()));
        known.insert(("Environment", &tool.system.environment));
        known.insert(("Account", &tool.system.account));
    }
    let mut warnings = Vec::new();
    for rule in rules.iter().filter(|r| r.layer == Layer::User) {
        for literal in rule.policy.entity_literals() {
            let (kind, id) = (literal.type_name().to_string(), literal.id().unescaped());
            if kind != "Action" && !known.contains(&(kind.as_str(), id)) {
                warnings.push(PolicyError {
                    file: rule.file.clone(),
                    span: rule.span.clone(),
                    message: format!("policy `{}` names `{kind}::\"{id}\"`, which nothing has", rule.id),
                    help: Some("correct the name, or configure what has it".into()),
                });
            }
        }
    }
    warnings
}

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

impl Policies {
    /// Rules about the reach on tools whose reach cannot be measured: such calls are refused.
    pub(crate) fn blind(&self) -> Vec<PolicyError> {
        let mut warnings = Vec::new();
        for slice in self.slices.values().filter(|s| !s.tool.measurable) {
            let stricter = |rule: &&Rule| rule.mentions.sees("reach") && (rule.forbids || rule.ask.is_some());
            let rules = slice.all.set.policies().filter_map(|p| self.rules.get(p.id().as_ref() as &str));
            for rule in rules.filter(stricter).filter(|rule| self.can_hold(slice, rule)) {
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

    /// Whether a rule's conditions on agent, system and effect hold for some agent and some writing call.
    fn can_hold(&self, slice: &Slice, rule: &Rule) -> bool {
        let Some(reduced) = rule.reduced(|m| m.only(&["effect"])) else { return true };
        let Ok(set) = PolicySet::from_policies([reduced.policy]) else { return true };
        let declared = slice.tool.effect;
        [Effect::Write, Effect::Destructive]
            .into_iter()
            .filter(|effect| (declared.floor()..=declared.ceiling()).contains(effect))
            .any(|effect| {
                self.agents.keys().any(|agent| {
                    let request = slice.request_before_call(agent, effect);
                    request.is_none_or(|request| {
                        let response =
                            Authorizer::new().is_authorized(&request, &set, self.configured_entities());
                        response.diagnostics().reason().next().is_some()
                    })
                })
            })
    }
}
