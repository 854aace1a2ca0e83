//! Who may answer a request: what policies about the action `answer` take away from those who are asked.
//!
//! Membership in a group that is asked is what permits an answer ([`ApprovalRequest::may_answer`]); policies here only forbid.
//! They have a schema, entities and a place of their own, so that no policy about calls changes its meaning by them. No policy
//! about answers decides about a call: it decides whose answers count for it.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use cedar_policy::{
    ActionConstraint, Authorizer, Context, Entities, Entity, EntityUid, Policy, PolicySet, Request,
    RestrictedExpression,
};
use serde_json::Value;

use crate::{
    agent::AgentSpec,
    approval::{AnswerRefusal, AnswerVerb, ApprovalRequest, Signature},
    context::{whole_reach, whole_time},
    decide::failure,
    effect::Effect,
    entity::{agent_entity, system_entity, uid},
    id::{GroupName, PersonId},
    policy::Policies,
    source::{Layer, PolicyError, Rule},
};

/// The action of people who answer a request.
pub const ANSWER: &str = "answer";

/// The policies about answers, as they are evaluated.
#[derive(Debug, Default)]
pub(crate) struct Answering {
    set: PolicySet,
    /// Those that look at the reach, without the conditions that do: what they say where nobody knows it.
    blind: PolicySet,
    /// The agents and systems that some of them name.
    named: Vec<Entity>,
}

impl Answering {
    /// Puts the policies about answers together. `None` when they cannot be, which is a fault.
    pub(crate) fn of(rules: &[Rule], configured: &Entities) -> Option<Self> {
        let mut answering = Self::default();
        let mut named = BTreeSet::new();
        for rule in rules.iter().filter(|rule| rule.answers) {
            answering.set.add(rule.policy.clone()).ok()?;
            let kept: Vec<&Value> =
                rule.conjuncts.iter().map(|part| &part.body).filter(|body| !looks_at_reach(body)).collect();
            if kept.len() < rule.conjuncts.len() {
                answering.blind.add(rule.with_conditions(kept.into_iter())?).ok()?;
            }
            named.extend(rule.policy.entity_literals());
        }
        answering.named = named.iter().filter_map(|uid| configured.get(uid)).cloned().collect();
        Some(answering)
    }
}

/// Returns true if an expression looks at something that is called `reach`. Of what can be looked at here, the reach of the
/// request alone is.
fn looks_at_reach(expression: &Value) -> bool {
    let is_reach = |name: &Value| name.as_str() == Some("reach");
    match expression {
        Value::Object(node) => node.iter().any(|(key, part)| {
            (key == "attr"
                && (is_reach(part) || part.as_array().is_some_and(|names| names.iter().any(is_reach))))
                || looks_at_reach(part)
        }),
        Value::Array(items) => items.iter().any(looks_at_reach),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Tells whether a policy is about answers, by its scope alone. One that does not name an action is about calls.
///
/// # Errors
/// Returns what is wrong with a scope that covers both, and what to do about it.
pub(crate) fn is_about_answers(policy: &Policy) -> Result<bool, (String, &'static str)> {
    let is_answer = |action: &EntityUid| action.id().unescaped() == ANSWER;
    match policy.action_constraint() {
        ActionConstraint::Any => Ok(false),
        ActionConstraint::Eq(action) => Ok(is_answer(&action)),
        ActionConstraint::In(actions) if actions.iter().any(is_answer) => {
            if actions.iter().all(is_answer) {
                return Ok(true);
            }
            Err((
                "the scope covers calls and answers, which have nothing in common that a policy can look at"
                    .into(),
                "write one policy about calls, and another with `action == Action::\"answer\"`",
            ))
        }
        ActionConstraint::In(_) => Ok(false),
    }
}

/// Policies that do not name an action, and forbid, beside others about answers: they read as if they were about both.
pub(crate) fn about_calls_alone(rules: &[Rule]) -> Vec<PolicyError> {
    if !rules.iter().any(|rule| rule.answers) {
        return Vec::new();
    }
    let unscoped = |rule: &&Rule| {
        rule.layer == Layer::User && rule.forbids && rule.policy.action_constraint() == ActionConstraint::Any
    };
    rules
        .iter()
        .filter(unscoped)
        .map(|rule| PolicyError {
            file: rule.file.clone(),
            span: rule.span.clone(),
            message: format!("policy `{}` names no action, and is about calls alone: it keeps nobody from answering", rule.id),
            help: Some("write `action in Action::\"call\"`; another policy with `action == Action::\"answer\"` is about answers".into()),
        })
        .collect()
}

impl Policies {
    /// Checks that no policy forbids a person of these groups to do this about a request, at `at_ms` (Unix milliseconds UTC).
    /// Whether the person is asked at all is for [`ApprovalRequest::may_answer`] to say: nothing here lets anybody answer.
    ///
    /// # Errors
    /// Returns [`AnswerRefusal::Forbidden`] with the policies that forbid it, and [`AnswerRefusal::NotJudged`] if one of them
    /// cannot be evaluated, or would look at a reach that nobody knows: then nobody knows what it would have said.
    pub fn may_answer(
        &self,
        (request, effect): (&ApprovalRequest, Effect),
        (person, groups): (&PersonId, &BTreeSet<GroupName>),
        verb: AnswerVerb,
        at_ms: i64,
    ) -> Result<(), AnswerRefusal> {
        if self.answering.set.is_empty() {
            return Ok(());
        }
        let unfit = || AnswerRefusal::NotJudged("the request does not fit the policies in force".into());
        let entities = self.answer_entities((request, effect), (person, groups)).ok_or_else(unfit)?;
        let asked = answer_request(request, person, verb, at_ms).ok_or_else(unfit)?;
        self.forbids(&self.answering.set, (&asked, &entities), (person, verb), None)?;
        // A read reaches nothing.
        if request.reach.is_none() && effect >= Effect::Write {
            let unknown = Some("it looks at the reach of the call, which was not measured");
            self.forbids(&self.answering.blind, (&asked, &entities), (person, verb), unknown)?;
        }
        Ok(())
    }

    /// Returns true if a person's approval of a request counts under the policies in force, as of when it was given: for its
    /// call or, if `granted`, for others that the person granted beside it.
    #[must_use]
    pub fn counts(
        &self,
        (request, effect): (&ApprovalRequest, Effect),
        signature: &Signature,
        granted: bool,
    ) -> bool {
        let person = (&signature.person, &signature.groups);
        let may = |verb| self.may_answer((request, effect), person, verb, signature.at_ms).is_ok();
        may(AnswerVerb::Approve) && (!granted || may(AnswerVerb::Grant))
    }

    fn forbids(
        &self,
        set: &PolicySet,
        (asked, entities): (&Request, &Entities),
        (person, verb): (&PersonId, AnswerVerb),
        unknown: Option<&str>,
    ) -> Result<(), AnswerRefusal> {
        let response = Authorizer::new().is_authorized(asked, set, entities);
        let mut failed: Vec<String> = response.diagnostics().errors().map(|error| failure(error).1).collect();
        failed.sort();
        let rule = |id: &cedar_policy::PolicyId| self.rules.get(id.as_ref() as &str);
        let mut matched: Vec<&Rule> = response.diagnostics().reason().filter_map(rule).collect();
        matched.sort_by_key(|rule| rule.position);
        if let (Some(unknown), Some(rule)) = (unknown, matched.first()) {
            return Err(AnswerRefusal::NotJudged(format!(
                "policy `{}` cannot be judged: {unknown}",
                rule.id
            )));
        }
        if let Some(first) = matched.first() {
            return Err(AnswerRefusal::Forbidden {
                person: person.clone(),
                verb,
                policy: first.id.clone(),
                because: matched.iter().find_map(|rule| rule.because.clone()),
            });
        }
        // The fault of a policy is no leave to answer, nor is one whose reason has no rule.
        if !failed.is_empty() || response.diagnostics().reason().next().is_some() {
            return Err(AnswerRefusal::NotJudged(failed.join("; ")));
        }
        Ok(())
    }

    fn answer_entities(
        &self,
        (request, effect): (&ApprovalRequest, Effect),
        (person, groups): (&PersonId, &BTreeSet<GroupName>),
    ) -> Option<Entities> {
        let call = &request.call;
        let tool = &self.slices.get(&call.tool)?.tool;
        let system = system_entity(tool)?;
        let accounts = self.agents.get(&call.requester.agent).map(|spec| spec.accounts.clone());
        let agent = agent_entity(&AgentSpec {
            id: call.requester.agent.clone(),
            teams: call.requester.teams.iter().cloned().collect(),
            accounts: accounts.unwrap_or_default(),
        })?;
        let text = |value: &str| RestrictedExpression::new_string(value.into());
        let asked = request.of.iter().map(|ask| text(ask.group.as_str()));
        let mut fields = BTreeMap::from([
            ("tool", text(call.tool.as_str())),
            ("session", text(call.requester.session.as_str())),
            ("effect", text(effect.as_str())),
            ("agent", RestrictedExpression::new_entity_uid(agent.uid())),
            ("system", RestrictedExpression::new_entity_uid(system.uid())),
            ("asked", RestrictedExpression::new_set(asked)),
        ]);
        if let Some(person) = &call.requester.on_behalf_of {
            fields.insert("on_behalf_of", text(person.as_str()));
        }
        if let Some(narrowed) = &call.narrowed {
            fields.insert("narrowed_by", text(narrowed.by.as_str()));
        }
        if let Some(reach) = &request.reach {
            fields.insert("reach", whole_reach(reach).ok()?);
        }
        let resource = Entity::new(
            uid("Request", request.id.as_str())?,
            fields.into_iter().map(|(name, value)| (String::from(name), value)).collect(),
            [system.uid()].into_iter().collect(),
        );
        let groups: Option<Vec<EntityUid>> =
            groups.iter().map(|group| uid("Group", group.as_str())).collect();
        let principal = Entity::new(
            uid("Person", person.as_str())?,
            [(String::from("id"), text(person.as_str()))].into_iter().collect(),
            groups?.into_iter().collect(),
        );
        let own = [principal.ok()?, resource.ok()?, agent, system];
        // The agent's teams are those of the call, whatever they are by now.
        let all = self.answering.named.iter().cloned().chain(own);
        let all: BTreeMap<String, Entity> = all.map(|entity| (entity.uid().to_string(), entity)).collect();
        Entities::from_entities(all.into_values(), None).ok()
    }
}

fn answer_request(
    request: &ApprovalRequest,
    person: &PersonId,
    verb: AnswerVerb,
    at_ms: i64,
) -> Option<Request> {
    let context = Context::from_pairs([
        (String::from("answer"), RestrictedExpression::new_string(verb.as_str().into())),
        (String::from("time"), whole_time(at_ms).ok()?),
    ]);
    // The context is made from the types that the schema was made from, so it is not checked again.
    Request::new(
        uid("Person", person.as_str())?,
        uid("Action", ANSWER)?,
        uid("Request", request.id.as_str())?,
        context.ok()?,
        None,
    )
    .ok()
}

#[cfg(test)]
mod tests;
