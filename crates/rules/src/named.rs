//! What a policy names must be there.
//!
//! Cedar takes `context has bc` for an ordinary question whose answer is no, for every call and for ever: a `forbid` that
//! asks it never matches, and a `permit … unless` that asks it always does. Here such a name is an error where it is
//! written, and so are a value that can never be met and a name of somebody or something that nothing has.
//!
//! What is typed wrong is left to Cedar's own validator.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    sync::Arc,
    vec,
    vec::Vec,
};
use core::ops::{Range, RangeInclusive};

use cedar_policy::{ActionConstraint, ResourceConstraint};
use serde_json::{Map, Value};

use crate::{
    agent::AgentSpec,
    answering::ANSWER,
    approval::AnswerVerb,
    arguments::{is_closed, properties},
    category,
    effect::Effect,
    facts::StatementFacts,
    id::SystemName,
    money::Currency,
    schema::{CALL, CATEGORY, Untyped},
    slice::Scope,
    source::{Layer, PolicyError, PolicySource, Rule},
    tool::ToolSpec,
};

/// Names within this many edits of a known one are taken for typing errors.
const NEAR_MAX: usize = 2;
/// So many names are listed in a help.
const LISTED_MAX: usize = 8;

/// A deployment has these things beside agents and tools that policies may name as texts.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    /// The deployment has these people, by their ids.
    pub people: BTreeSet<String>,
    /// The groups they are in.
    pub groups: BTreeSet<String>,
    /// The tables of each system, as far as its tools name them and its catalog shows them.
    pub tables: BTreeMap<SystemName, BTreeSet<String>>,
    /// The systems of which all tables are known.
    pub closed: BTreeSet<SystemName>,
}

/// A text in a policy that nothing here is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misnamed {
    /// The text stands here, and these words are known.
    pub error: PolicyError,
    /// This is true if the condition can never be met. Otherwise the text may be something that is not known here.
    pub certain: bool,
}

/// Policies are about the tools and agents of a deployment.
pub(crate) struct Namespace<'a> {
    pub(crate) sources: &'a [PolicySource],
    pub(crate) tools: &'a [Arc<ToolSpec>],
    pub(crate) agents: &'a [AgentSpec],
    pub(crate) untyped: &'a [Untyped],
    /// The schema in Cedar's JSON form.
    pub(crate) schema: &'a Value,
}

impl Namespace<'_> {
    /// Every name of every policy that cannot mean what it says.
    pub(crate) fn check(&self, rules: &[Rule]) -> Vec<PolicyError> {
        let mut errors = Vec::new();
        for rule in rules {
            let tools: Vec<&Arc<ToolSpec>> = self
                .tools
                .iter()
                .filter(|tool| Scope::of(tool).is_some_and(|scope| scope.admits(&rule.policy)))
                .collect();
            let mut reading = Reading { whole: self, rule, tools: &tools, errors: &mut errors, beside: None };
            for conjunct in &rule.conjuncts {
                reading.walk(&conjunct.body);
            }
            if rule.layer == Layer::User {
                reading.entities();
                reading.elsewhere();
            }
        }
        errors
    }

    /// Texts that are compared with what people, groups, tables, environments and accounts are called, and are none of them.
    pub(crate) fn misnamed(&self, rules: &[Rule], vocabulary: &Vocabulary) -> Vec<Misnamed> {
        let (mut found, mut elsewhere) = (Vec::new(), Vec::new());
        for rule in rules.iter().filter(|rule| rule.layer == Layer::User) {
            let tools: Vec<&Arc<ToolSpec>> = self
                .tools
                .iter()
                .filter(|tool| Scope::of(tool).is_some_and(|scope| scope.admits(&rule.policy)))
                .collect();
            let beside = Some((vocabulary, &mut found));
            let mut reading = Reading { whole: self, rule, tools: &tools, errors: &mut elsewhere, beside };
            if rule.answers {
                reading.people(vocabulary);
            }
            for conjunct in &rule.conjuncts {
                reading.walk(&conjunct.body);
            }
        }
        found
    }

    /// Finds where a word stands in a policy's text; the whole policy where it is not found as a word.
    fn place(&self, rule: &Rule, word: &str) -> Option<Range<usize>> {
        let span = rule.span.clone()?;
        let text = &self.sources.iter().find(|source| source.name == rule.file)?.text;
        let policy = text.get(span.clone())?;
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let found = policy.match_indices(word).find(|(at, _)| {
            let before = policy.get(..*at).and_then(|head| head.chars().next_back());
            let after = policy.get(at.saturating_add(word.len())..).and_then(|tail| tail.chars().next());
            !before.is_some_and(part) && !after.is_some_and(part)
        });
        match found {
            Some((at, _)) => {
                let start = span.start.saturating_add(at);
                Some(start..start.saturating_add(word.len()))
            }
            None => Some(span),
        }
    }
}

/// One policy, as it is read.
struct Reading<'a, 'b> {
    whole: &'a Namespace<'a>,
    rule: &'a Rule,
    /// The tools that its scope lets it apply to.
    tools: &'b [&'a Arc<ToolSpec>],
    errors: &'b mut Vec<PolicyError>,
    /// If there, only texts are looked at that the deployment beside agents and tools knows.
    beside: Option<(&'a Vocabulary, &'b mut Vec<Misnamed>)>,
}

impl Reading<'_, '_> {
    fn report(&mut self, word: &str, message: &str, help: Option<String>) {
        let error = PolicyError {
            file: self.rule.file.clone(),
            span: self.whole.place(self.rule, word),
            message: format!("policy `{}` {message}", self.rule.id),
            help,
        };
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    fn walk(&mut self, expression: &Value) {
        match expression {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(node) => {
                for (kind, body) in node {
                    self.node(kind, body, expression);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn node(&mut self, kind: &str, body: &Value, whole: &Value) {
        match kind {
            "Value" | "Literal" => {}
            "Var" => {
                if body.as_str() == Some("context") {
                    let help = "name what it looks at, such as `context.effect`".into();
                    self.report("context", "looks at the context as a whole", Some(help));
                }
            }
            "Record" => body.as_object().into_iter().flat_map(Map::values).for_each(|value| self.walk(value)),
            "." => match rooted(whole) {
                Some(path) => self.path(&path, false),
                None => body.as_object().into_iter().flat_map(Map::values).for_each(|value| self.walk(value)),
            },
            "has" => self.has(body),
            _ => {
                if let Some((left, right)) = body.get("left").zip(body.get("right")) {
                    self.value(kind, left, right);
                    self.number(kind, left, right);
                }
                if let Some((left, pattern)) = body.get("left").zip(body.get("pattern")) {
                    self.pattern(left, pattern.as_array().map(Vec::as_slice).unwrap_or_default());
                }
                // Conditions stand beside words such as the type of an `is`, which are texts.
                match body {
                    Value::Object(parts) => parts.values().for_each(|part| self.walk(part)),
                    Value::Array(parts) => parts.iter().for_each(|part| self.walk(part)),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
                }
            }
        }
    }

    fn has(&mut self, body: &Value) {
        let names: Vec<String> = match body.get("attr") {
            Some(Value::String(name)) => vec![name.clone()],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(String::from).collect(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        };
        let left = body.get("left").unwrap_or(&Value::Null);
        let Some(mut path) = rooted(left) else {
            let help =
                "write `has` behind `context`, `principal` or `resource`, or a path from one of them".into();
            let name = names.first().cloned().unwrap_or_default();
            self.report(&name, "asks with `has` of something that is no path", Some(help));
            self.walk(left);
            return;
        };
        path.extend(names);
        self.path(&path, true);
    }

    /// A path that is named must exist, with a type, for each tool that the policy's scope admits.
    fn path(&mut self, path: &[String], asked: bool) {
        let Some((root, names)) = path.split_first() else { return };
        match root.as_str() {
            "context" if names.is_empty() => {}
            "context" if self.rule.answers => {
                let shape = self.whole.schema.pointer(&format!("//actions/{ANSWER}/appliesTo/context"));
                if let Some((at, known)) = shape.and_then(|shape| self.missing(shape, names)) {
                    self.unknown(path, at.saturating_add(1), &known);
                }
            }
            "context" => self.context(path, names, asked),
            "principal" | "resource" => {
                let kind = match (root.as_str(), self.rule.answers) {
                    ("principal", false) => "Agent",
                    ("principal", true) => "Person",
                    (_, false) => "System",
                    (_, true) => "Request",
                };
                let shape = self.whole.schema.pointer(&format!("//entityTypes/{kind}/shape"));
                if let Some((at, known)) = shape.and_then(|shape| self.missing(shape, names)) {
                    self.unknown(path, at.saturating_add(1), &known);
                }
            }
            // An action has no attributes.
            _ => self.unknown(path, 1, &BTreeSet::new()),
        }
    }

    /// A path of the context; `names` are those behind it.
    fn context(&mut self, path: &[String], names: &[String], asked: bool) {
        if names.first().is_some_and(|name| name == "provenance") {
            let help = "nothing fills it yet, so it would always be empty; leave the policy out until something does".into();
            self.report("provenance", "looks at `context.provenance`, which is not filled", Some(help));
            return;
        }
        if names.first().is_some_and(|name| name == "statement")
            && !self.tools.is_empty()
            && !self.tools.iter().any(|tool| tool.effect == crate::DeclaredEffect::FromStatement)
        {
            let help = "only tools whose `effect` is `from_statement` have one".into();
            let message = "looks at `context.statement`, and agents write none for the tools it is about";
            self.report("statement", message, Some(help));
            return;
        }
        // Whole records are compared field by field, and what has no type is in none of them.
        if names == ["args"] && !asked {
            let help = "name an argument, or look at `context.given`".into();
            self.report("args", "looks at `context.args` as a whole", Some(help));
            return;
        }
        if let ["session" | "agent_today", "money", code, ..] =
            names.iter().map(String::as_str).collect::<Vec<_>>().as_slice()
            && code
                .parse::<Currency>()
                .is_ok_and(|currency| currency.to_string() == **code && !currency.is_listed())
        {
            let known = Currency::listed().map(|currency| currency.to_string()).collect();
            self.unknown(path, 3, &known);
            return;
        }
        let mut lacking = Vec::new();
        let mut known = BTreeSet::new();
        let mut at = 0;
        for tool in self.tools.iter().copied() {
            let pointer = tool.name.as_str().replace('~', "~0").replace('/', "~1");
            let context = self.whole.schema.pointer(&format!("//actions/{pointer}/appliesTo/context"));
            if let Some((missing, names)) = context.and_then(|context| self.missing(context, names)) {
                lacking.push(tool);
                known.extend(names);
                at = missing;
            }
        }
        let Some(first) = lacking.first() else { return };
        let argument = names.get(1).filter(|_| names.first().is_some_and(|name| name == "args"));
        let left_out = argument.and_then(|argument| {
            let at = format!("/{}", names.get(1..).unwrap_or_default().join("/"));
            self.whole.untyped.iter().find(|untyped| {
                untyped.tool == first.name.as_str()
                    && (untyped.argument == format!("/{argument}") || untyped.argument == at)
            })
        });
        let word = names.get(at).cloned().unwrap_or_default();
        let shown = path.join(".");
        if let Some(untyped) = left_out {
            let message = format!(
                "looks at `{shown}`, which has no type that policies can look at in tool `{}`: {}",
                untyped.tool, untyped.reason
            );
            let help = format!("look at `context.given.contains(\"{word}\")`, or give the argument one form");
            self.report(&word, &message, Some(help));
            return;
        }
        if lacking.len() == self.tools.len() {
            self.unknown(path, at.saturating_add(1), &known);
            return;
        }
        let others: Vec<String> =
            lacking.iter().take(LISTED_MAX).map(|tool| format!("`{}`", tool.name)).collect();
        let has: Vec<String> = self
            .tools
            .iter()
            .filter(|tool| !lacking.iter().any(|one| one.name == tool.name))
            .take(LISTED_MAX)
            .map(|tool| format!("Action::\"{}\"", tool.name))
            .collect();
        let message = format!(
            "looks at `{shown}`, which {} of the tools it is about do not have: {}",
            lacking.len(),
            others.join(", ")
        );
        let help = format!("narrow it: `action in [{}]`", has.join(", "));
        self.report(&word, &message, Some(help));
    }

    fn unknown(&mut self, path: &[String], at: usize, known: &BTreeSet<String>) {
        let word = path.get(at).cloned().unwrap_or_default();
        let shown = path.join(".");
        let holder = path.get(..at).unwrap_or_default().join(".");
        let message = format!("looks at `{shown}`, and `{holder}` has no `{word}`");
        self.report(&word, &message, Some(suggestion(&word, known.iter().map(String::as_str))));
    }

    /// Finds which of these names is not there, with those that are. A path that goes on behind something that is no
    /// record is Cedar's to judge.
    fn missing(&self, kind: &Value, names: &[String]) -> Option<(usize, BTreeSet<String>)> {
        let mut kind = self.resolved(kind);
        for (at, name) in names.iter().enumerate() {
            let attributes = kind.get("attributes").and_then(Value::as_object)?;
            match attributes.get(name) {
                Some(next) => kind = self.resolved(next),
                None => return Some((at, attributes.keys().cloned().collect())),
            }
        }
        None
    }

    fn resolved<'v>(&'v self, kind: &'v Value) -> &'v Value {
        let named = kind.get("type").and_then(Value::as_str).unwrap_or_default();
        if let Some(entity) = kind.get("name").and_then(Value::as_str).filter(|_| named == "Entity") {
            return self.whole.schema.pointer(&format!("//entityTypes/{entity}/shape")).unwrap_or(kind);
        }
        self.whole.schema.pointer(&format!("//commonTypes/{named}")).unwrap_or(kind)
    }

    /// A value that what it is compared with can never have.
    fn value(&mut self, operation: &str, left: &Value, right: &Value) {
        for (one, other) in [(left, right), (right, left)] {
            let Some(path) = rooted(one) else { continue };
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            for word in texts(other) {
                self.word(operation, &path, &word);
            }
        }
    }

    fn word(&mut self, operation: &str, path: &[&str], word: &str) {
        let compares = matches!(operation, "==" | "!=" | "contains" | "containsAll" | "containsAny");
        // The default pack speaks of words that a deployment may not have.
        if !compares || self.rule.layer != Layer::User {
            return;
        }
        if let Some(vocabulary) = self.beside.as_ref().map(|(vocabulary, _found)| *vocabulary) {
            self.called(vocabulary, path, word);
            return;
        }
        // Categories of one's own are taken.
        if matches!(path, ["context", "categories"]) && category::is_known(word) {
            return;
        }
        let Some((known, strict)) = self.words(path) else { return };
        if known.contains(word) {
            return;
        }
        let near = known.iter().any(|name| is_near(word, name));
        if strict || near {
            let message = format!("compares `{}` with `{word}`, which it can never be", path.join("."));
            self.report(word, &message, Some(suggestion(word, known.iter().map(String::as_str))));
        }
    }

    /// The words that something can be, and whether it can be no other.
    fn words(&self, path: &[&str]) -> Option<(BTreeSet<String>, bool)> {
        let words = match path {
            ["context" | "resource", "reach", "amount", "currency"] => {
                (Currency::listed().map(|currency| currency.to_string()).collect(), true)
            }
            ["context", "answer"] => {
                (AnswerVerb::ALL.iter().map(|verb| verb.as_str().to_string()).collect(), true)
            }
            ["resource", "tool"] => {
                (self.whole.tools.iter().map(|tool| tool.name.to_string()).collect(), true)
            }
            ["context" | "resource", "effect"] => {
                let all = [Effect::Read, Effect::Write, Effect::Destructive];
                (all.map(|effect| effect.as_str().to_string()).into(), true)
            }
            ["resource", "kind"] | ["resource", "system", "kind"] => {
                (["sqlite", "postgres", "http", "mcp", "exec"].map(String::from).into(), true)
            }
            ["context", "categories"] => {
                let declared = self.whole.tools.iter().flat_map(|tool| tool.categories.iter().cloned());
                (category::KNOWN.iter().map(|known| known.word.to_string()).chain(declared).collect(), true)
            }
            ["context", "given"] => {
                let given = self.tools.iter().flat_map(|tool| properties(&tool.arguments));
                // Where a schema takes what it does not name, any name may be given; one that is nearly known is a typing error.
                let closed = self.tools.iter().all(|tool| is_closed(&tool.arguments));
                (given.map(|(name, _property)| name.to_string()).collect(), closed)
            }
            ["context", "args", argument] => (self.listed(argument)?, true),
            ["context", "statement", "verb"] => {
                (StatementFacts::VERBS.iter().map(|verb| (*verb).to_string()).collect(), true)
            }
            ["context", "session" | "agent_today", "tools"] => {
                (self.whole.tools.iter().map(|tool| tool.name.to_string()).collect(), true)
            }
            // A deployment may have none of these yet; a word that is nearly one of them is a typing error.
            ["resource", "environment"] | ["resource", "system", "environment"] => {
                (self.whole.tools.iter().map(|tool| tool.system.environment.clone()).collect(), false)
            }
            ["resource", "account"]
            | ["resource", "system", "account"]
            | ["principal", "accounts"]
            | ["resource", "agent", "accounts"] => {
                let accounts = self.whole.agents.iter().flat_map(|agent| agent.accounts.iter().cloned());
                (
                    self.whole.tools.iter().map(|tool| tool.system.account.clone()).chain(accounts).collect(),
                    false,
                )
            }
            _ => return None,
        };
        Some(words)
    }

    /// A pattern that nothing fits which what it is compared with can be.
    fn pattern(&mut self, left: &Value, pattern: &[Value]) {
        if self.beside.is_some() || self.rule.layer != Layer::User {
            return;
        }
        let Some(path) = rooted(left) else { return };
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let Some((known, true)) = self.words(&path) else { return };
        if known.iter().any(|word| never::fits(pattern, word)) {
            return;
        }
        let shown = never::shown(pattern);
        let message =
            format!("compares `{}` with `{shown}`, which nothing fits that it can be", path.join("."));
        self.report(&shown, &message, Some(suggestion(&shown, known.iter().map(String::as_str))));
    }

    /// A number that what it is compared with can never reach.
    fn number(&mut self, operation: &str, left: &Value, right: &Value) {
        if self.beside.is_some() || self.rule.layer != Layer::User {
            return;
        }
        for (one, other, operation) in [(left, right, operation), (right, left, never::mirrored(operation))] {
            let Some(path) = rooted(one) else { continue };
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let range = match path.as_slice() {
                ["context", "args", argument] => self.range(argument),
                ["resource", "reach", rest @ ..] if self.rule.answers => {
                    never::range(&[&["context", "reach"], rest].concat())
                }
                path => never::range(path),
            };
            let Some(range) = range else { continue };
            let items = other.get("Set").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for number in items.iter().chain([other]).filter_map(never::number) {
                if never::can_hold(&range, operation, number) {
                    continue;
                }
                let (low, high) = (range.start(), range.end());
                let is = match (*low, *high) {
                    (low, i64::MAX) => format!("{low} or more"),
                    (i64::MIN, high) => format!("{high} or less"),
                    (low, high) => format!("{low} to {high}"),
                };
                let message = format!(
                    "compares `{}` with {number}, and no such comparison is ever met",
                    path.join(".")
                );
                self.report(&number.to_string(), &message, Some(format!("it is {is}")));
            }
        }
    }

    /// Returns the numbers that an integer argument can be, where each tool of the scope bounds it.
    fn range(&self, argument: &str) -> Option<RangeInclusive<i64>> {
        let mut whole: Option<RangeInclusive<i64>> = None;
        for tool in self.tools {
            let (_, schema) = properties(&tool.arguments).find(|(name, _property)| *name == argument)?;
            let range = never::range_of_argument(schema)?;
            whole = Some(match whole {
                None => range,
                Some(whole) => *whole.start().min(range.start())..=*whole.end().max(range.end()),
            });
        }
        whole
    }

    /// A text that is to be what somebody or something of the deployment is called.
    fn called(&mut self, vocabulary: &Vocabulary, path: &[&str], word: &str) {
        let (known, certain): (BTreeSet<String>, bool) = match path {
            ["context", "approval", "people"]
            | ["context" | "resource", "on_behalf_of"]
            | ["resource", "narrowed_by"]
            | ["principal", "id"] => (vocabulary.people.clone(), true),
            ["context", "approval", "groups"] | ["resource", "asked"] => (vocabulary.groups.clone(), true),
            ["context", "reach", "tables"] | ["context", "statement", "reads" | "writes"] => {
                let systems: BTreeSet<&SystemName> =
                    self.tools.iter().map(|tool| &tool.system.name).collect();
                let tables = systems.iter().map(|system| vocabulary.tables.get(system));
                // Of an API's objects nothing is known.
                let Some(tables) = tables.collect::<Option<Vec<_>>>() else { return };
                let closed = systems.iter().all(|system| vocabulary.closed.contains(system));
                (tables.into_iter().flatten().cloned().collect(), closed)
            }
            ["resource", "environment"] => {
                (self.whole.tools.iter().map(|tool| tool.system.environment.clone()).collect(), false)
            }
            ["resource", "account"] | ["principal", "accounts"] => {
                let accounts = self.whole.agents.iter().flat_map(|agent| agent.accounts.iter().cloned());
                let own = self.whole.tools.iter().map(|tool| tool.system.account.clone());
                (own.chain(accounts).collect(), false)
            }
            _ => return,
        };
        if known.contains(word) {
            return;
        }
        let (shown, never) = (
            path.join("."),
            if certain { ", which it can never be" } else { ", and nothing known is called so" },
        );
        let error = PolicyError {
            file: self.rule.file.clone(),
            span: self.whole.place(self.rule, word),
            message: format!("policy `{}` compares `{shown}` with `{word}`{never}", self.rule.id),
            help: Some(suggestion(word, known.iter().map(String::as_str))),
        };
        let misnamed = Misnamed { error, certain };
        if let Some((_, found)) = &mut self.beside
            && !found.contains(&misnamed)
        {
            found.push(misnamed);
        }
    }

    /// The texts that an argument can be, where each tool of the scope lists them (`enum`, `const`).
    fn listed(&self, argument: &str) -> Option<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for tool in self.tools {
            let (_, schema) = properties(&tool.arguments).find(|(name, _property)| *name == argument)?;
            let listed = schema.get("enum").and_then(Value::as_array);
            let values = listed.into_iter().flatten().chain(schema.get("const"));
            let before = all.len();
            all.extend(values.filter_map(Value::as_str).map(String::from));
            // Forms of other shapes may list more.
            if all.len() == before && listed.is_none() && schema.get("const").is_none() {
                return None;
            }
        }
        Some(all).filter(|all| !all.is_empty())
    }

    /// A scope that names tools and one system, and none of these tools is on it.
    fn elsewhere(&mut self) {
        let ResourceConstraint::Eq(system) = self.rule.policy.resource_constraint() else { return };
        let known = self.whole.tools.iter().any(|tool| tool.system.name.as_str() == system.id().unescaped());
        if !self.tools.is_empty() || !known || self.rule.policy.action_constraint() == ActionConstraint::Any {
            return;
        }
        let id = system.id().unescaped().to_string();
        let message = format!("can never apply: none of the tools that it is about is on system `{id}`");
        self.report(&id, &message, Some("name the system that they are on, or leave it out".into()));
    }

    /// Agents, teams, systems, environments and accounts that nothing has.
    fn entities(&mut self) {
        let mut known: BTreeSet<(&str, &str)> = BTreeSet::new();
        for agent in self.whole.agents {
            known.insert(("Agent", agent.id.as_str()));
            known.extend(agent.teams.iter().map(|team| ("Team", team.as_str())));
        }
        for tool in self.whole.tools {
            known.insert(("System", tool.system.name.as_str()));
            known.insert(("Environment", &tool.system.environment));
            known.insert(("Account", &tool.system.account));
        }
        for literal in self.rule.policy.entity_literals() {
            let (kind, id) = (literal.type_name().to_string(), literal.id().unescaped().to_string());
            // People and groups are not known where policies are loaded: see `people`.
            if self.rule.answers && matches!(kind.as_str(), "Person" | "Group") {
                continue;
            }
            if kind == "Action" && self.rule.answers && id == ANSWER {
                continue;
            }
            if kind == "Action" {
                self.action(&id);
            } else if !known.contains(&(kind.as_str(), id.as_str())) {
                let alike = known.iter().filter(|(of, _)| *of == kind).map(|(_, name)| *name);
                let help = suggestion(&id, alike);
                self.report(&id, &format!("names `{kind}::\"{id}\"`, which nothing has"), Some(help));
            }
        }
    }

    /// People and groups that nothing is called.
    fn people(&mut self, vocabulary: &Vocabulary) {
        for literal in self.rule.policy.entity_literals() {
            let (kind, id) = (literal.type_name().to_string(), literal.id().unescaped().to_string());
            let known = match kind.as_str() {
                "Person" => &vocabulary.people,
                "Group" => &vocabulary.groups,
                _ => continue,
            };
            if known.contains(&id) {
                continue;
            }
            let error = PolicyError {
                file: self.rule.file.clone(),
                span: self.whole.place(self.rule, &id),
                message: format!("policy `{}` names `{kind}::\"{id}\"`, which nothing has", self.rule.id),
                help: Some(suggestion(&id, known.iter().map(String::as_str))),
            };
            if let Some((_, found)) = &mut self.beside {
                found.push(Misnamed { error, certain: true });
            }
        }
    }

    fn action(&mut self, id: &str) {
        let tools = self.whole.tools.iter().map(|tool| tool.name.as_str());
        if id == CALL || id.starts_with(CATEGORY) || tools.clone().any(|name| name == id) {
            return;
        }
        let help = suggestion(id, tools);
        self.report(id, &format!("names `Action::\"{id}\"`, and there is no such tool"), Some(help));
    }
}

/// The texts that an expression is, or is a set of.
fn texts(expression: &Value) -> Vec<String> {
    if let Some(text) = expression.get("Value").and_then(Value::as_str) {
        return vec![text.to_string()];
    }
    let items = expression.get("Set").and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.get("Value").and_then(Value::as_str)).map(String::from).collect()
}

/// Returns a path from `context`, `principal`, `resource` or `action`, its root first, and `None` for anything else.
fn rooted(expression: &Value) -> Option<Vec<String>> {
    if let Some(root) = expression.get("Var").and_then(Value::as_str) {
        return Some(vec![root.to_string()]);
    }
    let access = expression.get(".")?;
    let mut path = rooted(access.get("left")?)?;
    path.push(access.get("attr")?.as_str()?.to_string());
    Some(path)
}

fn is_near(word: &str, name: &str) -> bool {
    let longest = word.chars().count().max(name.chars().count());
    word != name
        && strsim::osa_distance(&word.to_lowercase(), &name.to_lowercase())
            <= NEAR_MAX.min(longest.div_euclid(3))
}

pub(crate) fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let lower = word.to_lowercase();
    let near = known.iter().min_by_key(|name| strsim::osa_distance(&lower, &name.to_lowercase()));
    match near {
        None => "there is nothing to name here".into(),
        Some(near) if is_near(word, near) => format!("did you mean `{near}`?"),
        Some(_) => {
            let more = if known.len() > LISTED_MAX { ", …" } else { "" };
            let names: Vec<String> = known.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
            format!("known are {}{more}", names.join(", "))
        }
    }
}

mod never;
#[cfg(test)]
mod tests;
