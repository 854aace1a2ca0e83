//! The decision: equal calls, facts and policies give equal answers.
//!
//! Cedar has no third answer. The strictest matching answer wins: a `forbid` denies; a `permit` with
//! `@ask` asks, and every one that matches must be met; a `permit` allows; nothing matching denies; and an
//! error in any policy denies, because then nobody knows what it would have said.

use alloc::{
    borrow::Cow,
    collections::BTreeMap,
    format,
    string::{String, ToString as _},
    sync::Arc,
    vec::Vec,
};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, EntityId, EntityUid, EvaluationError, Request,
    RestrictedExpression,
};

use crate::{
    approval,
    call::{Call, Requester},
    context::Subject,
    decision::{Allow, Ask, AskOf, Decision, Deny, DenyReason, grantable, step_up},
    effect::Effect,
    facts::{ApprovalFact, Facts},
    id::{AgentId, GroupName, PolicyId, ToolName},
    memory::{DecisionKey, Memory, Verdict},
    mentions::Mentions,
    policy::Policies,
    slice::{Judged, Part, Slice},
    source::Rule,
    unfit::Unfit,
};

/// Decides whether the call is allowed, a person must be asked, or it is denied.
#[must_use]
pub fn decide<A>(call: &Call<A>, facts: &Facts, policies: &Policies) -> Decision {
    Judge::of(call, facts, policies).and_then(|judge| judge.decide()).unwrap_or_else(|unfit| invalid(&unfit))
}

/// Checks that the logged decision is what call, facts and policies give: every logged decision can be computed
/// again. Nothing is remembered here: it would only confirm itself.
///
/// # Errors
/// Returns the decision that they give instead.
pub fn recompute<A>(
    call: &Call<A>,
    facts: &Facts,
    policies: &Policies,
    logged: &Decision,
) -> Result<(), Decision> {
    let judge = Judge::of(call, facts, policies).map(|judge| Judge { memory: None, ..judge });
    let again = judge.and_then(|judge| judge.decide()).unwrap_or_else(|unfit| invalid(&unfit));
    if again == *logged { Ok(()) } else { Err(again) }
}

impl Policies {
    /// A denial that no measurement and no person can change, before anything is measured. It is never
    /// given where [`decide()`] would not deny; `facts.reach` and `facts.approval` are not looked at. A read
    /// is measured by nobody, so for reads there is nothing to save and the answer is left to [`decide()`].
    #[must_use]
    pub fn forbidden_early<A>(&self, call: &Call<A>, facts: &Facts) -> Option<Deny> {
        if facts.effect < Effect::Write {
            return None;
        }
        let judge = match Judge::of(call, facts, self) {
            Ok(judge) => judge,
            Err(unfit) => return Some(invalid_request(&unfit)),
        };
        let verdict = match judge.verdict(Part::Early) {
            Ok(verdict) => verdict,
            Err(unfit) => return Some(invalid_request(&unfit)),
        };
        match judge.answer(&verdict) {
            Decision::Deny(deny) if deny.reason == DenyReason::NothingPermits && judge.slice.late_permit => {
                None
            }
            Decision::Deny(deny) => Some(deny),
            Decision::Allow(_) | Decision::Ask(_) => None,
        }
    }

    /// Returns true if a policy that looks at the reach can apply to this call: its other conditions hold, or could
    /// not be evaluated. Then the reach must be measured before [`decide()`], which denies without it: a `forbid`
    /// guarded by `context has reach` would otherwise be silent. A read reaches nothing.
    #[must_use]
    pub fn reach_decides<A>(&self, call: &Call<A>, facts: &Facts) -> bool {
        Judge::of(call, facts, self).is_ok_and(|judge| !judge.looking_at_reach().is_empty())
    }

    /// Returns true if the agent may ever get anything but a denial from the tool: this decides if the tool is
    /// listed. The teams and accounts are the configured ones. Conditions on more than agent, system and effect count
    /// as if they could hold for permits and could fail for forbids, so a tool is listed in doubt.
    #[must_use]
    pub fn may_ever(&self, agent: &AgentId, tool: &ToolName) -> bool {
        let Some(slice) = self.slices.get(tool) else { return false };
        let entities = self.configured_entities();
        let declared = slice.tool.effect;
        [Effect::Read, Effect::Write, Effect::Destructive]
            .into_iter()
            .filter(|effect| (declared.floor()..=declared.ceiling()).contains(effect))
            .any(|effect| {
                let answer = |judged: &Judged| {
                    let request = slice.request_before_call(agent, effect)?;
                    let response = Authorizer::new().is_authorized(&request, &judged.set, entities);
                    let matched = response.diagnostics().reason().next().is_some();
                    let failed = response.diagnostics().errors().next().is_some();
                    Some(matched || failed)
                };
                // A forbid that fails denies like one that matches; a reduced permit that fails may not.
                answer(&slice.listed_forbids) == Some(false) && answer(&slice.listed_permits) == Some(true)
            })
    }
}

impl Slice {
    /// Returns a request for policies that look at nothing but agent, system and effect.
    pub(crate) fn request_before_call(&self, agent: &AgentId, effect: Effect) -> Option<Request> {
        let effect = RestrictedExpression::new_string(effect.as_str().into());
        self.request(agent, Context::from_pairs([(String::from("effect"), effect)]).ok()?)
    }

    pub(crate) fn request(&self, agent: &AgentId, context: Context) -> Option<Request> {
        let principal =
            EntityUid::from_type_name_and_id(self.principals.clone(), EntityId::new(agent.as_str()));
        // The context is made from the types that the schema was made from, so it is not checked again.
        Request::new(principal, self.action.clone(), self.resource.clone(), context, None).ok()
    }
}

/// One call before its policies.
pub(crate) struct Judge<'a> {
    pub(crate) policies: &'a Policies,
    pub(crate) slice: &'a Slice,
    requester: &'a Requester,
    subject: Subject<'a>,
    facts: &'a Facts,
    entities: Cow<'a, cedar_policy::Entities>,
    /// People approved this very call.
    approval: Option<ApprovalFact>,
    /// People granted calls like it.
    grant: Option<ApprovalFact>,
    memory: Option<&'a dyn Memory>,
}

impl<'a> Judge<'a> {
    pub(crate) fn of<A>(call: &'a Call<A>, facts: &'a Facts, policies: &'a Policies) -> Result<Self, Unfit> {
        let tool = &call.tool;
        let slice = policies.slices.get(&tool.name).filter(|slice| slice.tool.version == tool.version);
        let slice = slice.ok_or_else(|| Unfit::Version(tool.name.clone()))?;
        let declared = slice.tool.effect;
        if facts.effect < declared.floor() || facts.effect > declared.ceiling() {
            return Err(Unfit::Effect(facts.effect));
        }
        let entities = policies.entities_for(&call.requester).ok_or(Unfit::Agent)?;
        Ok(Self {
            policies,
            slice,
            requester: &call.requester,
            subject: Subject {
                tool: &slice.tool,
                types: &slice.types,
                requester: &call.requester,
                arguments: &call.arguments,
                facts,
            },
            facts,
            entities,
            approval: effective_approval(&call.requester, facts, false),
            grant: effective_approval(&call.requester, facts, true),
            memory: policies.memory.as_deref(),
        })
    }

    fn decide(&self) -> Result<Decision, Unfit> {
        let verdict = self.verdict(Part::All)?;
        let decision = self.answer(&verdict);
        Ok(match decision {
            Decision::Deny(_) => decision,
            Decision::Allow(_) | Decision::Ask(_) => {
                let silent = self.silent_for_want_of_reach();
                if silent.is_empty() {
                    decision
                } else {
                    Decision::Deny(Deny { policies: silent, reason: DenyReason::ReachUnknown })
                }
            }
        })
    }

    /// Returns what a part of the slice says: as it is remembered, or else as it is evaluated. What failed is not
    /// remembered: how deep an evaluation may go depends on more than its request.
    fn verdict(&self, part: Part) -> Result<Arc<Verdict>, Unfit> {
        let judged = self.slice.part(part);
        let known = self.memory.and_then(|memory| Some((memory, self.key(part)?)));
        let Some((memory, key)) = known else { return self.evaluate(judged).map(Arc::new) };
        if let Some(verdict) = memory.recall(&key) {
            return Ok(verdict);
        }
        let verdict = Arc::new(self.evaluate(judged)?);
        if verdict.failed.is_empty() {
            memory.keep(key, Arc::clone(&verdict));
        }
        Ok(verdict)
    }

    fn key(&self, part: Part) -> Option<DecisionKey> {
        match &self.entities {
            Cow::Borrowed(_) => {
                self.subject.key(part, &self.slice.part(part).mentions, self.approval.as_ref())
            }
            // The agent has other teams now than the configured ones.
            Cow::Owned(_) => None,
        }
    }

    /// Evaluates a set of policies. The reach and approval are in the context only where the set looks.
    fn evaluate(&self, judged: &Judged) -> Result<Verdict, Unfit> {
        let request = self.request(&judged.mentions)?;
        let response = Authorizer::new().is_authorized(&request, &judged.set, &self.entities);
        let rule = |id: &cedar_policy::PolicyId| self.policies.rules.get(id.as_ref() as &str);
        let mut matched: Vec<&Rule> = response.diagnostics().reason().filter_map(rule).collect();
        matched.sort_by_key(|rule| rule.position);
        Ok(Verdict {
            allows: response.decision() == cedar_policy::Decision::Allow,
            policies: matched.into_iter().map(|rule| rule.id.clone()).collect(),
            failed: response.diagnostics().errors().map(failure).collect(),
        })
    }

    pub(crate) fn request(&self, mentions: &Mentions) -> Result<Request, Unfit> {
        let context = self.subject.context(mentions, self.approval.as_ref())?;
        self.slice.request(&self.requester.agent, context).ok_or(Unfit::Request)
    }

    pub(crate) fn entities(&self) -> &cedar_policy::Entities {
        &self.entities
    }

    /// The forbids and asks that a reach which was not measured keeps silent. A silent permit permits
    /// nothing, which is safe.
    fn silent_for_want_of_reach(&self) -> Vec<PolicyId> {
        if self.facts.reach.is_some() {
            return Vec::new();
        }
        let stricter = |rule: &&Rule| rule.forbids || rule.ask.is_some();
        self.looking_at_reach().into_iter().filter(stricter).map(|rule| rule.id.clone()).collect()
    }

    /// Policies that look at the reach and whose other conditions hold, or cannot be evaluated: all such
    /// forbids, or where there is none all such permits.
    fn looking_at_reach(&self) -> Vec<&'a Rule> {
        let guards = &self.slice.reach_guards;
        if self.facts.effect < Effect::Write || guards.set.is_empty() {
            return Vec::new();
        }
        let Ok(verdict) = self.verdict(Part::ReachGuards) else {
            return guards
                .set
                .policies()
                .filter_map(|p| self.policies.rules.get(p.id().as_ref() as &str))
                .collect();
        };
        let mut rules = self.matched(&verdict);
        rules.extend(verdict.failed.iter().filter_map(|(id, _how)| self.policies.rules.get(id)));
        rules
    }

    fn answer(&self, verdict: &Verdict) -> Decision {
        if !verdict.failed.is_empty() {
            let mut failed: Vec<&str> = verdict.failed.iter().map(|(_id, how)| how.as_str()).collect();
            failed.sort();
            let reason = DenyReason::EvaluationError { message: failed.join("; ") };
            return Decision::Deny(Deny { policies: Vec::new(), reason });
        }
        let matched = self.matched(verdict);
        let ids = |rules: &[&Rule]| rules.iter().map(|r| r.id.clone()).collect::<Vec<PolicyId>>();
        if matched.is_empty() {
            return Decision::Deny(Deny { policies: Vec::new(), reason: DenyReason::NothingPermits });
        }
        if !verdict.allows {
            let message = matched.iter().find_map(|r| r.because.clone());
            return Decision::Deny(Deny {
                policies: ids(&matched),
                reason: DenyReason::Forbidden { message },
            });
        }
        let asking: Vec<&Rule> = matched.iter().copied().filter(|r| r.ask.is_some()).collect();
        if asking.is_empty() {
            return Decision::Allow(Allow::within(ids(&matched), self.facts.reach.as_ref()));
        }
        let of = merge(&asking);
        let grant = self.grant.as_ref().filter(|_grant| grantable(&of).is_some());
        match self.approval.as_ref().or(grant) {
            Some(approval)
                if (approval.stepped_up || step_up(&of).is_none())
                    && approval::are_met(
                        &of,
                        approval.signers.iter().map(|(person, groups)| (person, groups)),
                    ) =>
            {
                Decision::Allow(Allow::within(ids(&matched), approval.reach.as_ref()))
            }
            Some(_) | None => Decision::Ask(Ask { policies: ids(&asking), of }),
        }
    }

    /// Returns the policies that decided, in the order of the bundle.
    fn matched(&self, verdict: &Verdict) -> Vec<&'a Rule> {
        verdict.policies.iter().filter_map(|id| self.policies.rules.get(id.as_str())).collect()
    }
}

fn invalid(unfit: &Unfit) -> Decision {
    Decision::Deny(invalid_request(unfit))
}

fn invalid_request(unfit: &Unfit) -> Deny {
    Deny { policies: Vec::new(), reason: DenyReason::InvalidRequest { message: unfit.to_string() } }
}

/// Every group once, with the largest quorum and the earliest deadline that any policy asks of it.
fn merge(asking: &[&Rule]) -> Vec<AskOf> {
    let mut groups: BTreeMap<&GroupName, AskOf> = BTreeMap::new();
    for ask in asking.iter().filter_map(|r| r.ask.as_ref()) {
        match groups.get_mut(&ask.group) {
            None => {
                groups.insert(&ask.group, ask.clone());
            }
            Some(merged) => {
                if ask.quorum > merged.quorum {
                    merged.quorum = ask.quorum;
                    merged.policy = ask.policy.clone();
                }
                merged.rehearse |= ask.rehearse;
                merged.shared &= ask.shared;
                merged.step_up = merged.step_up.take().or_else(|| ask.step_up.clone());
                // A policy that allows no grant is not overruled by one that does.
                merged.grant = merged.grant.zip(ask.grant).map(|(one, other)| one.both(other));
                merged.deadline_ms = merged.deadline_ms.min(ask.deadline_ms);
                merged.because = match (merged.because.take(), &ask.because) {
                    (Some(one), Some(other)) if one != *other => Some(format!("{one}; {other}")),
                    (Some(one), Some(_) | None) => Some(one),
                    (None, other) => other.clone(),
                };
            }
        }
    }
    groups.into_values().collect()
}

/// Returns the approval, or the grant, as far as it counts now: not expired, the reach within what was shown, without
/// the requester's own signature.
fn effective_approval(requester: &Requester, facts: &Facts, grant: bool) -> Option<ApprovalFact> {
    let approval = facts.approval.as_ref().filter(|approval| approval.grant == grant)?;
    let fits = match (&facts.reach, &approval.reach) {
        (None, None) => true,
        (Some(now), Some(then)) => now.within(then),
        (Some(_), None) | (None, Some(_)) => false,
    };
    if !fits || facts.now_ms >= approval.expires_ms {
        return None;
    }
    let signers = approval.signers.iter().filter(|(person, _)| !requester.is_own(person)).cloned().collect();
    Some(ApprovalFact { signers, ..approval.clone() })
}

/// Returns which policy failed, and words how, without the values it failed on.
pub(crate) fn failure(error: &AuthorizationError) -> (String, String) {
    let AuthorizationError::PolicyEvaluationError(error) = error;
    let how = match error.inner() {
        EvaluationError::IntegerOverflow(_) => "a sum or product is too large",
        EvaluationError::FailedExtensionFunctionExecution(_) => {
            "a value cannot be read as what it is compared to"
        }
        EvaluationError::EntityDoesNotExist(_)
        | EvaluationError::EntityAttrDoesNotExist(_)
        | EvaluationError::RecordAttrDoesNotExist(_) => "it looks at something that is not there",
        EvaluationError::RecursionLimit(_) => "it nests too deep",
        EvaluationError::TypeError(_)
        | EvaluationError::WrongNumArguments(_)
        | EvaluationError::FailedExtensionFunctionLookup(_)
        | EvaluationError::UnlinkedSlot(_)
        | EvaluationError::NonValue(_) => "its types do not fit",
    };
    let id: &str = error.policy_id().as_ref();
    (id.into(), format!("policy `{}` could not be evaluated: {how}", error.policy_id()))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
