//! The policies in force: parsed, checked against the schema made from the tools, and sliced by tool.
//!
//! Cedar has no index, so a thousand policies cost a thousand evaluations. Each tool has one action and one
//! system, both known when policies are loaded; a policy whose scope names others can neither be satisfied
//! nor fail for it and is left out of the tool's slice. Everything that does not depend on the call is
//! made here once.

mod digest;

use alloc::{
    borrow::Cow,
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    sync::Arc,
    vec,
    vec::Vec,
};

use cedar_policy::{
    Entities, PolicySet, Schema, SchemaFragment, ValidationMode, ValidationWarning, Validator,
};
use countersign_audit::CanonicalError;
use serde_json::{Value, json};

use crate::{
    agent::AgentSpec,
    answering::{self, ANSWER, Answering},
    call::{Requester, sha256_of},
    entity,
    id::{AgentId, BadName, BundleDigest, GroupName, ToolName},
    memory::Memory,
    mentions::Mentions,
    named::{self, Misnamed, Vocabulary},
    schema::{self, CALL, CATEGORY, Untyped},
    slice::{Slice, slice},
    source::{self, Layer, PolicyError, PolicyErrors, PolicySource, Rule},
    tool::ToolSpec,
    warning::{self, HeldBySession},
};

/// At most this many errors are reported at once.
const ERRORS_MAX: usize = 50;
/// Version of what the bundle digest covers and of how decisions are made from it.
const BUNDLE_VERSION: u32 = 2;

/// These policies are in force.
#[derive(Debug)]
pub struct Policies {
    pub(crate) rules: BTreeMap<String, Rule>,
    pub(crate) slices: BTreeMap<ToolName, Slice>,
    pub(crate) agents: BTreeMap<AgentId, AgentSpec>,
    entities: Entities,
    pub(crate) answering: Answering,
    pub(crate) schema: Value,
    digest: BundleDigest,
    warnings: Vec<PolicyError>,
    untyped: Vec<Untyped>,
    pub(crate) memory: Option<Box<dyn Memory>>,
}

impl Policies {
    /// Reads, checks and slices the policies. The floor is part of every bundle, whether given or not.
    ///
    /// # Errors
    /// Returns [`PolicyErrors`]: syntax, unknown annotations, and whatever does not type-check for some tool that
    /// the policy applies to.
    pub fn load(
        sources: &[PolicySource],
        tools: &[Arc<ToolSpec>],
        agents: &[AgentSpec],
    ) -> Result<Self, PolicyErrors> {
        let mut errors = Vec::new();
        let rules = read(sources, &mut errors);
        check_tools(tools, &mut errors);
        stop(&mut errors)?;

        let mut types = BTreeMap::new();
        let mut untyped = Vec::new();
        for tool in tools {
            let (attributes, left_out) = schema::argument_types(tool);
            types.insert(tool.name.to_string(), attributes);
            untyped.extend(left_out);
        }
        let mut mentions = Mentions::default();
        rules.iter().filter(|rule| !rule.answers).for_each(|rule| mentions.add(&rule.mentions));
        let cedar = schema::cedar_schema(tools, &types, mentions.currencies());
        let no_schema = |e| one(format!("the tools make no schema: {}", chain(&e)));
        let schema = Schema::from_json_value(cedar.clone()).map_err(&no_schema)?;
        let answers = schema::answer_schema();
        let answer_schema = Schema::from_json_value(answers.clone()).map_err(no_schema)?;
        let cedar = schema::together(cedar, &answers);
        let named = named::Namespace { sources, tools, agents, untyped: &untyped, schema: &cedar };
        errors.extend(named.check(&rules));
        stop(&mut errors)?;
        let schemas = (&schema, &answer_schema);
        let mut warnings = validate(&rules, schemas, tools.is_empty(), &mut errors);
        stop(&mut errors)?;
        warnings.extend(answering::about_calls_alone(&rules));
        warnings.extend(warning::categories(tools, &rules));

        let entities = entity::entities(tools, agents, &schema).map_err(|why| one(why.to_string()))?;
        let digest = digest(&rules, tools, agents).map_err(|why| one(why.to_string()))?;
        let mut slices = BTreeMap::new();
        for tool in tools {
            let types = types.remove(tool.name.as_str()).unwrap_or_default();
            let slice = slice(tool, types, &rules).ok_or_else(|| {
                one(format!("the policies for tool `{}` cannot be put together", tool.name))
            })?;
            slices.insert(tool.name.clone(), slice);
        }
        let answering = Answering::of(&rules, &entities)
            .ok_or_else(|| one("the policies about answers cannot be put together".into()))?;
        let rules: BTreeMap<String, Rule> = rules.into_iter().map(|r| (r.id.to_string(), r)).collect();
        warnings.extend(warning::blind(&rules, &slices, agents, &entities));
        Ok(Self {
            rules,
            slices,
            agents: agents.iter().map(|a| (a.id.clone(), a.clone())).collect(),
            entities,
            answering,
            schema: cedar,
            digest,
            warnings,
            untyped,
            memory: None,
        })
    }

    /// Lends the policies a memory of their own, in which they find what they said before. No answer is another for it.
    #[must_use]
    pub fn with_memory(self, memory: impl Memory + 'static) -> Self {
        Self { memory: Some(Box::new(memory)), ..self }
    }

    /// Texts in the policies that are compared with what the deployment calls its people, groups, tables, environments and
    /// accounts, and are none of them. `sources` are those that the policies were loaded from.
    #[must_use]
    pub fn misnamed(&self, sources: &[PolicySource], vocabulary: &Vocabulary) -> Vec<Misnamed> {
        let tools: Vec<_> = self.slices.values().map(|slice| Arc::clone(&slice.tool)).collect();
        let agents: Vec<_> = self.agents.values().cloned().collect();
        let (untyped, schema) = (&self.untyped, &self.schema);
        let named = named::Namespace { sources, tools: &tools, agents: &agents, untyped, schema };
        let rules: Vec<Rule> = self.rules.values().cloned().collect();
        named.misnamed(&rules, vocabulary)
    }

    /// Returns the digest that names this bundle: policies with their annotations, tool versions, agents' accounts.
    #[must_use]
    pub const fn bundle(&self) -> &BundleDigest {
        &self.digest
    }

    /// Returns what is allowed and probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[PolicyError] {
        &self.warnings
    }

    /// The arguments that policies cannot look at.
    #[must_use]
    pub fn untyped(&self) -> &[Untyped] {
        &self.untyped
    }

    /// Returns the schema that the policies were checked against, in Cedar's own notation.
    #[must_use]
    pub fn schema_text(&self) -> String {
        SchemaFragment::from_json_value(self.schema.clone())
            .ok()
            .and_then(|fragment| fragment.to_cedarschema().ok())
            .unwrap_or_default()
    }

    /// Policies that ask more people of a group than are in it: such requests can only expire.
    #[must_use]
    pub fn unanswerable(&self, people: &BTreeMap<GroupName, u32>) -> Vec<PolicyError> {
        let asked = self.rules.values().filter_map(|rule| Some((rule, rule.ask.as_ref()?)));
        let lacking = asked.filter_map(|(rule, ask)| {
            let there = people.get(&ask.group).copied().unwrap_or(0);
            if there >= ask.quorum {
                return None;
            }
            let are = match there {
                0 => "nobody is in it".to_string(),
                1 => "1 person is in it".to_string(),
                more => format!("{more} people are in it"),
            };
            let groups = people.keys().map(GroupName::as_str);
            Some(PolicyError {
                file: rule.file.clone(),
                span: rule.span.clone(),
                message: format!(
                    "policy `{}` asks {} of group `{}`, and {are}: such requests expire",
                    rule.id, ask.quorum, ask.group
                ),
                help: (there == 0).then(|| named::suggestion(ask.group.as_str(), groups)),
            })
        });
        lacking.collect()
    }

    /// Policies about what a session did before: an agent begins a session when it likes, so that they bound nothing by
    /// themselves.
    #[must_use]
    pub fn held_by_session(&self) -> Vec<HeldBySession> {
        warning::held_by_session(&self.rules, &self.slices)
    }

    /// Returns how many policies are in force, and how many of them can apply to a tool.
    #[must_use]
    pub fn count(&self, tool: &ToolName) -> (usize, usize) {
        (self.rules.len(), self.slices.get(tool).map_or(0, |s| s.all.set.num_of_policies()))
    }

    /// Returns true if some policy for the tool looks at what the session or agent did before.
    #[must_use]
    pub fn uses_history(&self, tool: &ToolName) -> bool {
        self.looks_at(tool, &["session", "agent_today"])
    }

    fn looks_at(&self, tool: &ToolName, attributes: &[&str]) -> bool {
        self.slices.get(tool).is_some_and(|s| attributes.iter().any(|a| s.all.mentions.sees(a)))
    }

    /// The entities made when the policies were loaded.
    pub(crate) const fn configured_entities(&self) -> &Entities {
        &self.entities
    }

    /// Returns the entities to evaluate with: those made when the policies were loaded, with the requester's own
    /// teams where they differ from the configured ones.
    pub(crate) fn entities_for(&self, requester: &Requester) -> Option<Cow<'_, Entities>> {
        let spec = self.agents.get(&requester.agent);
        let teams = &requester.teams;
        if spec.is_some_and(|s| s.teams.len() == teams.len() && teams.iter().all(|t| s.teams.contains(t))) {
            return Some(Cow::Borrowed(&self.entities));
        }
        let teams = teams.iter().cloned().collect();
        let accounts = spec.map(|s| s.accounts.clone()).unwrap_or_default();
        let agent = entity::agent_entity(&AgentSpec { id: requester.agent.clone(), teams, accounts })?;
        let entities = self.entities.clone().upsert_entities([agent], None).ok()?;
        Some(Cow::Owned(entities))
    }
}

fn one(message: String) -> PolicyErrors {
    PolicyErrors(vec![PolicyError { file: "policies".into(), span: None, message, help: None }])
}

fn stop(errors: &mut Vec<PolicyError>) -> Result<(), PolicyErrors> {
    if errors.is_empty() {
        return Ok(());
    }
    errors.truncate(ERRORS_MAX);
    Err(PolicyErrors(core::mem::take(errors)))
}

fn chain(error: &dyn core::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn read(sources: &[PolicySource], errors: &mut Vec<PolicyError>) -> Vec<Rule> {
    let mut rules = source::read(&PolicySource::floor(), errors);
    let mut names = BTreeSet::from([PolicySource::floor().name]);
    for source in sources {
        let fault = |message: String, help: &str| PolicyError {
            file: source.name.clone(),
            span: None,
            message,
            help: Some(help.into()),
        };
        if source.layer == Layer::Floor {
            if source != &PolicySource::floor() {
                errors.push(fault(
                    "the floor cannot be changed".into(),
                    "put policies into a file of your own",
                ));
            }
        } else if !names.insert(source.name.trim_end_matches(".cedar").into()) {
            errors.push(fault(
                format!("`{}` is the name of another policy file", source.name),
                "rename the file; `floor` is compiled in",
            ));
        } else {
            rules.extend(source::read(source, errors));
        }
    }
    for (position, rule) in rules.iter_mut().enumerate() {
        rule.position = position;
    }
    rules
}

fn check_tools(tools: &[Arc<ToolSpec>], errors: &mut Vec<PolicyError>) {
    let mut names = BTreeSet::new();
    let mut systems = BTreeMap::new();
    for tool in tools {
        let name = tool.name.as_str();
        if name == CALL || name == ANSWER || name.starts_with(CATEGORY) {
            let message = format!("`{name}` cannot be the name of a tool: policies know other actions by it");
            errors.extend(one(message).0);
        }
        if !names.insert(name) {
            errors.extend(one(format!("two tools are named `{name}`")).0);
        }
        if systems.insert(&tool.system.name, &tool.system).is_some_and(|other| other != &tool.system) {
            errors.extend(one(format!("two systems are named `{}`", tool.system.name)).0);
        }
    }
}

/// Type-checks each policy; returns warnings.
fn validate(
    rules: &[Rule],
    (calls, answers): (&Schema, &Schema),
    no_tools: bool,
    errors: &mut Vec<PolicyError>,
) -> Vec<PolicyError> {
    let calls = Validator::new(calls.clone());
    let answers = Validator::new(answers.clone());
    let mut warnings = Vec::new();
    for rule in rules {
        let Ok(set) = PolicySet::from_policies([rule.policy.clone()]) else {
            errors.extend(one(format!("policy `{}` cannot be checked", rule.id)).0);
            continue;
        };
        let validator = if rule.answers { &answers } else { &calls };
        let result = validator.validate(&set, ValidationMode::Strict);
        let mut found: Vec<PolicyError> = Vec::new();
        for error in result.validation_errors() {
            let mut error = source::diagnose(&rule.file, error);
            error.span = error.span.or_else(|| rule.span.clone());
            // The same mistake is found once for each tool.
            if !found.contains(&error) {
                found.push(error);
            }
        }
        errors.append(&mut found);
        if rule.layer == Layer::User {
            for warning in result.validation_warnings() {
                let mut found = source::diagnose(&rule.file, warning);
                found.span = found.span.or_else(|| rule.span.clone());
                found.message = format!("policy `{}`: {}", rule.id, found.message);
                // A rule that applies to nothing reads as if it did something. Where there are no tools, none can.
                if (!no_tools || rule.answers) && matches!(warning, ValidationWarning::ImpossiblePolicy(_)) {
                    found.message = format!(
                        "policy `{}` can never apply: no {} fits its scope and conditions",
                        rule.id,
                        if rule.answers { "answer" } else { "call" }
                    );
                    found.help = Some("correct its scope or conditions, or take it out".into());
                    errors.push(found);
                } else {
                    warnings.push(found);
                }
            }
        }
    }
    warnings
}

/// A bundle has no digest for one of these reasons. Each of its policies has a digest of its own, so that this is not
/// met.
#[derive(Debug, thiserror::Error)]
enum NoDigest {
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    #[error(transparent)]
    Name(#[from] BadName),
}

fn digest(rules: &[Rule], tools: &[Arc<ToolSpec>], agents: &[AgentSpec]) -> Result<BundleDigest, NoDigest> {
    let mut policies: Vec<Value> = Vec::new();
    for rule in rules {
        policies.push(json!({ "id": rule.id, "layer": rule.layer, "policy": rule.json }));
    }
    let tools: BTreeMap<&str, &str> = tools.iter().map(|t| (t.name.as_str(), t.version.as_str())).collect();
    let agents: BTreeMap<&str, Value> =
        agents.iter().map(|a| (a.id.as_str(), json!({ "accounts": a.accounts, "teams": a.teams }))).collect();
    let subject = json!({
        "agents": agents,
        "language": cedar_policy::get_lang_version().to_string(),
        "policies": policies,
        "tools": tools,
        "v": BUNDLE_VERSION,
    });
    Ok(BundleDigest::parse(&sha256_of(&subject)?)?)
}
