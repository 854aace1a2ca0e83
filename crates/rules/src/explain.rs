//! Why a call got its answer: every policy that can apply, and what each said.

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};
use core::fmt;

use cedar_policy::{Authorizer, PolicySet};
use serde::{Deserialize, Serialize};

use crate::{
    call::Call,
    decide::{Judge, decide},
    decision::{AskOf, Decision},
    facts::Facts,
    id::{BundleDigest, PolicyId},
    mentions::Mentions,
    policy::Policies,
    source::{Layer, Rule},
};

/// An explanation is a decision with what every policy said to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The decision, as [`decide()`] gives it.
    pub decision: Decision,
    /// The policies in force have this digest.
    pub bundle: BundleDigest,
    /// This is true if the reach has to be known before the call can be decided.
    pub reach_decides: bool,
    /// Each policy is here with what it said, in the order of the bundle.
    pub policies: Vec<PolicyFinding>,
}

/// One policy said this about the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFinding {
    /// The policy has this id.
    pub policy: PolicyId,
    /// The policy comes from this layer.
    pub layer: Layer,
    /// This is true if the policy forbids. Otherwise it permits, or asks when `ask` is there.
    pub forbids: bool,
    /// The policy asks this of people.
    pub ask: Option<AskOf>,
    /// Its author says that the policy is for this (`@because`).
    pub because: Option<String>,
    /// The policy applied, or did not apply for this reason.
    pub outcome: FindingOutcome,
}

/// A policy applied to a call, or did not for one of these reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum FindingOutcome {
    /// The policy applied: its scope and all its conditions hold.
    Matched,
    /// The scope of the policy names other tools or systems.
    OtherToolOrSystem,
    /// The scope of the policy names other agents or teams.
    OtherAgent,
    /// A condition does not hold.
    ConditionFalse {
        /// The first such condition, in Cedar's notation.
        condition: String,
    },
    /// The policy could not be evaluated, which denies the call.
    Failed,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.decision.as_str())?;
        match &self.decision {
            Decision::Allow(allow) => {
                if let Some(rows) = allow.rows_max {
                    write!(f, ", at most {rows} rows")?;
                }
            }
            Decision::Ask(ask) => {
                for of in &ask.of {
                    write!(f, ", {} of `{}`", of.quorum, of.group)?;
                    if let Some(because) = &of.because {
                        write!(f, " ({because})")?;
                    }
                }
            }
            Decision::Deny(deny) => write!(f, ": {}", deny.reason)?,
        }
        writeln!(f)?;
        for finding in &self.policies {
            let kind = match (finding.forbids, &finding.ask) {
                (true, _) => "forbid",
                (false, Some(_)) => "ask",
                (false, None) => "permit",
            };
            writeln!(
                f,
                "  {:<6} {:<5} {}: {}",
                kind,
                finding.layer.as_str(),
                finding.policy,
                finding.outcome
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for FindingOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matched => f.write_str("applies"),
            Self::OtherToolOrSystem => f.write_str("is about other tools or systems"),
            Self::OtherAgent => f.write_str("is about other agents"),
            Self::ConditionFalse { condition } => write!(f, "does not apply, because not `{condition}`"),
            Self::Failed => f.write_str("could not be evaluated"),
        }
    }
}

/// Explains the decision of a call.
#[must_use]
pub fn explain<A>(call: &Call<A>, facts: &Facts, policies: &Policies) -> Explanation {
    let judge = Judge::of(call, facts, policies).ok();
    let mut findings: Vec<(usize, PolicyFinding)> = policies
        .rules
        .values()
        .filter(|rule| !rule.answers)
        .map(|rule| {
            let outcome = judge.as_ref().map_or(FindingOutcome::Failed, |judge| outcome(judge, rule));
            let finding = PolicyFinding {
                policy: rule.id.clone(),
                layer: rule.layer,
                forbids: rule.forbids,
                ask: rule.ask.clone(),
                because: rule.because.clone(),
                outcome,
            };
            (rule.position, finding)
        })
        .collect();
    findings.sort_by_key(|(position, _)| *position);
    Explanation {
        decision: decide(call, facts, policies),
        bundle: policies.bundle().clone(),
        reach_decides: policies.reach_decides(call, facts),
        policies: findings.into_iter().map(|(_, finding)| finding).collect(),
    }
}

fn outcome(judge: &Judge<'_>, rule: &Rule) -> FindingOutcome {
    if judge.slice.all.set.policy(rule.policy.id()).is_none() {
        return FindingOutcome::OtherToolOrSystem;
    }
    let scope = rule.with_conditions(core::iter::empty());
    match scope.and_then(|scope| holds(judge, scope, &Mentions::default())) {
        Some(true) => {}
        Some(false) => return FindingOutcome::OtherAgent,
        None => return FindingOutcome::Failed,
    }
    // A condition may be safe to evaluate only behind the ones before it, so they are taken together.
    let mut mentions = Mentions::default();
    for (i, conjunct) in rule.conjuncts.iter().enumerate() {
        mentions.add(&conjunct.mentions);
        let so_far = rule.conjuncts.iter().take(i.saturating_add(1)).map(|c| &c.body);
        match rule.with_conditions(so_far).and_then(|policy| holds(judge, policy, &mentions)) {
            Some(true) => {}
            Some(false) => {
                let alone = rule.with_conditions(core::iter::once(&conjunct.body));
                let condition = alone.map(|p| condition_text(&p.to_string())).unwrap_or_default();
                return FindingOutcome::ConditionFalse { condition };
            }
            None => return FindingOutcome::Failed,
        }
    }
    FindingOutcome::Matched
}

/// Tells whether a policy is satisfied; `None` when it cannot be evaluated.
fn holds(judge: &Judge<'_>, policy: cedar_policy::Policy, mentions: &Mentions) -> Option<bool> {
    let set = PolicySet::from_policies([policy]).ok()?;
    let request = judge.request(mentions).ok()?;
    let response = Authorizer::new().is_authorized(&request, &set, judge.entities());
    if response.diagnostics().errors().next().is_some() {
        return None;
    }
    Some(response.diagnostics().reason().next().is_some())
}

/// Returns the text between the braces of a policy with one condition.
fn condition_text(policy: &str) -> String {
    let inside = policy.split_once("when {").and_then(|(_, rest)| rest.rsplit_once('}'));
    inside.map_or(policy, |(condition, _)| condition).trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Effect,
        sample::{call, default_pack, facts, policies, reach},
    };

    #[test]
    fn says_of_every_policy_whether_and_why_it_applied() {
        let rules = policies(
            "permit (principal, action, resource);
             @id(\"big\") @because(\"too many\") forbid (principal, action, resource)
             when { context.effect == \"destructive\" && context has reach && context.reach.rows > 500 };
             @id(\"other\") permit (principal, action == Action::\"read\", resource);
             @id(\"sales\") permit (principal in Team::\"sales\", action, resource);
             @id(\"sum\") permit (principal, action, resource)
             when { context.reversible && context.session.rows * 9007199254740991 * 9007199254740991 > 0 };",
        );
        let mut facts = facts(Effect::Destructive);
        facts.reach = Some(reach(40));
        let call = call("delete", serde_json::json!({ "before": "x" }));
        let explanation = explain(&call, &facts, &rules);
        assert_eq!(explanation.decision.as_str(), "allow");
        assert!(explanation.reach_decides);
        let outcome = |id: &str| {
            let finding = explanation.policies.iter().find(|f| f.policy.as_str() == id);
            finding.unwrap_or_else(|| panic!("{id}")).outcome.clone()
        };
        assert_eq!(outcome("mine:1"), FindingOutcome::Matched);
        assert_eq!(
            outcome("mine:big"),
            FindingOutcome::ConditionFalse { condition: "context.reach.rows > 500".into() }
        );
        assert_eq!(outcome("mine:other"), FindingOutcome::OtherToolOrSystem);
        assert_eq!(outcome("mine:sales"), FindingOutcome::OtherAgent);
        assert_eq!(
            outcome("mine:sum"),
            FindingOutcome::ConditionFalse { condition: "context.reversible".into() }
        );
        assert!(matches!(outcome("floor:other-account"), FindingOutcome::ConditionFalse { .. }));
        facts.reversible = true;
        facts.session.rows = 1;
        let failed = explain(&call, &facts, &rules);
        assert_eq!(failed.decision.as_str(), "deny");
        assert_eq!(failed.policies.last().unwrap().outcome, FindingOutcome::Failed);
    }

    #[test]
    fn agrees_with_the_decision() {
        let mut facts = facts(Effect::Destructive);
        facts.reach = Some(reach(14_200));
        let call = call("delete", serde_json::json!({ "before": "x" }));
        let explanation = explain(&call, &facts, &default_pack());
        let matched: Vec<&str> = explanation
            .policies
            .iter()
            .filter(|f| f.forbids && f.outcome == FindingOutcome::Matched)
            .map(|f| f.policy.as_str())
            .collect();
        assert_eq!(matched, ["default:deletes-over-500-rows"]);
        assert_eq!(explanation.decision.as_str(), "deny");
        let text = explanation.to_string();
        assert!(text.starts_with("deny: no delete in production may exceed 500 rows\n"), "{text}");
        assert!(text.contains("forbid pack  default:deletes-over-500-rows: applies\n"), "{text}");
    }
}
