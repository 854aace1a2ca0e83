//! The matrix: what each agent gets from each tool, before any call is known.
//!
//! A table that is committed, so that a change of policies is reviewed as a change of answers. Each policy
//! is reduced to what is known beforehand: who, which tool and system, which effect, and, where no
//! statement of the agent's own decides, the declared categories and reversibility. What depends on more
//! is listed as possible.

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString as _},
    vec,
    vec::Vec,
};
use core::fmt;

use cedar_policy::{Authorizer, Context, PolicySet, RestrictedExpression};
use serde::Serialize;

use crate::{
    agent::AgentSpec,
    effect::{DeclaredEffect, Effect},
    id::{AgentId, PolicyId, ToolName},
    policy::Policies,
    slice::Slice,
    source::Rule,
};

/// The matrix says what each agent gets from each tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// Each row is of one agent, tool and effect, in this order.
    pub rows: Vec<Row>,
}

/// A row is one line of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The row is about this agent.
    pub agent: AgentId,
    /// The row is about this tool.
    pub tool: ToolName,
    /// The tool's system is of this environment.
    pub environment: String,
    /// The row is about calls of this effect.
    pub effect: Effect,
    /// This answer is certain: `allow`, `ask` with groups, or `deny`.
    pub answer: String,
    /// The policies that make it certain.
    pub policies: Vec<PolicyId>,
    /// This may happen as well, depending on the call: answers, each with its policy.
    pub possible: Vec<String>,
}

/// Computes the matrix of the configured agents and tools.
#[must_use]
pub fn matrix(policies: &Policies) -> Matrix {
    let mut rows = Vec::new();
    for agent in policies.agents.values() {
        for slice in policies.slices.values() {
            for effect in [Effect::Read, Effect::Write, Effect::Destructive] {
                let declared = slice.tool.effect;
                if (declared.floor()..=declared.ceiling()).contains(&effect) {
                    rows.push(row(policies, agent, slice, effect));
                }
            }
        }
    }
    Matrix { rows }
}

enum Applies<'a> {
    Surely(&'a Rule),
    Perhaps(&'a Rule),
}

fn row(policies: &Policies, agent: &AgentSpec, slice: &Slice, effect: Effect) -> Row {
    let applying = applying(policies, agent, slice, effect);
    let sure: Vec<&Rule> = pick(&applying, true);
    let perhaps: Vec<&Rule> = pick(&applying, false);
    let forbids: Vec<&Rule> = sure.iter().copied().filter(|r| r.forbids).collect();
    let asks: Vec<&Rule> = sure.iter().copied().filter(|r| r.ask.is_some()).collect();
    let groups: BTreeSet<String> = asks.iter().filter_map(|r| asked(r)).collect();
    let (answer, deciding, denied) = if !forbids.is_empty() {
        ("deny".to_string(), forbids, true)
    } else if !asks.is_empty() {
        (format!("ask {}", groups.iter().cloned().collect::<Vec<_>>().join(" + ")), asks, false)
    } else if !sure.is_empty() {
        ("allow".to_string(), sure, false)
    } else {
        ("deny".to_string(), Vec::new(), false)
    };
    let possible = perhaps
        .iter()
        .filter(|_| !denied)
        .filter_map(|rule| match asked(rule) {
            _ if rule.forbids => Some(format!("deny {}", rule.id)),
            Some(group) => (!groups.contains(&group)).then(|| format!("ask {group} {}", rule.id)),
            None => (answer == "deny").then(|| format!("allow {}", rule.id)),
        })
        .collect();
    Row {
        agent: agent.id.clone(),
        tool: slice.tool.name.clone(),
        environment: slice.tool.system.environment.clone(),
        effect,
        answer,
        policies: deciding.iter().map(|r| r.id.clone()).collect(),
        possible,
    }
}

fn pick<'a>(applying: &[Applies<'a>], surely: bool) -> Vec<&'a Rule> {
    let chosen = applying.iter().filter_map(|applies| match applies {
        Applies::Surely(rule) => surely.then_some(*rule),
        Applies::Perhaps(rule) => (!surely).then_some(*rule),
    });
    let mut rules: Vec<&Rule> = chosen.collect();
    rules.sort_by_key(|rule| rule.position);
    rules
}

/// The group a rule asks, with the quorum where it is more than one.
fn asked(rule: &Rule) -> Option<String> {
    let ask = rule.ask.as_ref()?;
    Some(if ask.quorum > 1 { format!("{}×{}", ask.group, ask.quorum) } else { ask.group.to_string() })
}

fn applying<'a>(
    policies: &'a Policies,
    agent: &AgentSpec,
    slice: &Slice,
    effect: Effect,
) -> Vec<Applies<'a>> {
    let known: &[&str] = match slice.tool.effect {
        DeclaredEffect::FromStatement => &["effect"],
        DeclaredEffect::Read | DeclaredEffect::Write | DeclaredEffect::Destructive => {
            &["effect", "categories", "reversible"]
        }
    };
    let rules = slice.all.set.policies().filter_map(|p| policies.rules.get(p.id().as_ref() as &str));
    rules
        .filter_map(|rule| {
            let reduced = rule.reduced(|mentions| mentions.only(known))?;
            let set = PolicySet::from_policies([reduced.policy]).ok()?;
            let request = slice.request(&agent.id, context(slice, effect)?)?;
            let response = Authorizer::new().is_authorized(&request, &set, policies.configured_entities());
            let failed = response.diagnostics().errors().next().is_some();
            let matched = response.diagnostics().reason().next().is_some();
            match (reduced.complete, matched, failed) {
                (true, true, _) => Some(Applies::Surely(rule)),
                (false, true, _) | (_, _, true) => Some(Applies::Perhaps(rule)),
                (_, false, false) => None,
            }
        })
        .collect()
}

fn context(slice: &Slice, effect: Effect) -> Option<Context> {
    let text = |value: &str| RestrictedExpression::new_string(value.into());
    Context::from_pairs([
        (String::from("effect"), text(effect.as_str())),
        (
            String::from("categories"),
            RestrictedExpression::new_set(slice.tool.categories.iter().map(|c| text(c))),
        ),
        (String::from("reversible"), RestrictedExpression::new_bool(slice.tool.reversible)),
    ])
    .ok()
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["agent", "tool", "environment", "effect", "answer", "by", "possible"];
        let mut lines: Vec<Vec<String>> = vec![head.map(String::from).into()];
        for row in &self.rows {
            let by: Vec<&str> = row.policies.iter().map(PolicyId::as_str).collect();
            lines.push(vec![
                row.agent.to_string(),
                row.tool.to_string(),
                row.environment.clone(),
                row.effect.to_string(),
                row.answer.clone(),
                by.join(", "),
                row.possible.join(", "),
            ]);
        }
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        for line in &lines {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                text.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}
