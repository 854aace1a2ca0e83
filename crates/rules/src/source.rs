//! Policy files: their layers, their annotations, and what is wrong with them.
//!
//! Cedar answers permit or forbid. What a permit asks of people stands in its annotations, which Cedar
//! keeps and does not read: `@ask("group")`, `@quorum("2")`, `@deadline("15m")`, `@rehearse("true")`, `@distinct("false")`,
//! `@grant("20 calls in 1h")`, `@step_up("passkey")`, `@because("…")`, `@id("…")`.

use alloc::{
    borrow::ToOwned as _,
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    vec,
    vec::Vec,
};
use core::{fmt, ops::Range, str::FromStr as _};

use cedar_policy::{Effect, Policy, PolicySet};
use countersign_audit::canonical::{CanonicalError, INTEGER_MAX};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answering::is_about_answers,
    call::sha256_of,
    decision::AskOf,
    grant::{GRANT_CALLS_MAX, GRANT_MS_MAX, GrantBound},
    id::{GroupName, PolicyId},
    mentions::Mentions,
};

/// The floor: what is always blocked, whoever approves. Part of every bundle.
pub const FLOOR: &str = include_str!("../../../policies/floor.cedar");
/// The default pack, as `countersign init` writes it.
pub const DEFAULT_PACK: &str = include_str!("../../../policies/default.cedar");

/// A request for approval stays open for this time, in milliseconds, when its policy does not say.
pub const DEADLINE_DEFAULT_MS: u64 = 15 * 60 * 1_000;
const DEADLINE_MIN_MS: u64 = 1_000;
const DEADLINE_MAX_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
const QUORUM_MAX: u32 = 100;
const BECAUSE_CHARS_MAX: usize = 500;
const ANNOTATIONS: &[&str] =
    &["id", "ask", "quorum", "deadline", "rehearse", "distinct", "grant", "step_up", "because"];

/// A policy comes from one of these layers. Later layers add; none takes away what an earlier one forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// The floor is compiled in, and cannot be changed or left out.
    Floor,
    /// The rule is one of the default pack.
    Pack,
    /// The file is the deployment's own.
    User,
}

impl Layer {
    /// Returns the word used in explanations and log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Pack => "pack",
            Self::User => "user",
        }
    }
}

/// This is one policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// The file has this name, without folder and `.cedar`. The ids of its policies begin with it.
    pub name: String,
    /// The file says this.
    pub text: String,
    /// The file is of this layer.
    pub layer: Layer,
}

impl PolicySource {
    /// Returns the floor.
    #[must_use]
    pub fn floor() -> Self {
        Self { name: "floor".into(), text: FLOOR.into(), layer: Layer::Floor }
    }

    /// Returns the default pack.
    #[must_use]
    pub fn default_pack() -> Self {
        Self { name: "default".into(), text: DEFAULT_PACK.into(), layer: Layer::Pack }
    }

    /// Returns a file of the deployment's own.
    #[must_use]
    pub fn user(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), layer: Layer::User }
    }
}

/// A policy file has this mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The mistake is in the file of this name, as given.
    pub file: String,
    /// The mistake stands here, in bytes of the file's text.
    pub span: Option<Range<usize>>,
    /// This is wrong: a lower-case fragment without a full stop.
    pub message: String,
    /// This would be right, where that can be told.
    pub help: Option<String>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.message)
    }
}

/// These are all mistakes of the policies. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors(pub Vec<PolicyError>);

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl core::error::Error for PolicyErrors {}

/// One policy, read.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) id: PolicyId,
    /// The policy stands at this place in the bundle.
    pub(crate) position: usize,
    pub(crate) layer: Layer,
    pub(crate) file: String,
    pub(crate) span: Option<Range<usize>>,
    pub(crate) policy: Policy,
    pub(crate) forbids: bool,
    /// The policy is about people's answers, and not about calls.
    pub(crate) answers: bool,
    pub(crate) ask: Option<AskOf>,
    pub(crate) because: Option<String>,
    pub(crate) mentions: Mentions,
    /// The policy in Cedar's JSON form.
    pub(crate) json: Value,
    /// The digest of its file and form, and so of its annotations. Not of its place in the file, nor of its layer, which decides
    /// nothing: a remark in the default pack makes that the deployment's own.
    pub(crate) digest: String,
    /// The conditions of the policy, taken apart at `&&`, must all hold.
    pub(crate) conjuncts: Vec<Conjunct>,
}

/// One part of a policy's conditions.
#[derive(Debug, Clone)]
pub(crate) struct Conjunct {
    pub(crate) body: Value,
    pub(crate) mentions: Mentions,
}

/// A policy without some of its conditions.
#[derive(Debug)]
pub(crate) struct Reduced {
    pub(crate) policy: Policy,
    pub(crate) mentions: Mentions,
    /// This is true if no condition was left out.
    pub(crate) complete: bool,
}

impl Rule {
    /// Returns the policy reduced to the conditions that `keep` accepts. It is satisfied whenever the whole policy
    /// is.
    pub(crate) fn reduced(&self, keep: impl Fn(&Mentions) -> bool) -> Option<Reduced> {
        let kept: Vec<&Conjunct> = self.conjuncts.iter().filter(|c| keep(&c.mentions)).collect();
        let mut mentions = Mentions::default();
        kept.iter().for_each(|c| mentions.add(&c.mentions));
        let complete = kept.len() == self.conjuncts.len();
        Some(Reduced { policy: self.with_conditions(kept.iter().map(|c| &c.body))?, mentions, complete })
    }

    /// Returns the policy with other conditions.
    pub(crate) fn with_conditions<'a>(&self, bodies: impl Iterator<Item = &'a Value>) -> Option<Policy> {
        let mut form = self.json.clone();
        let conditions: Vec<Value> = bodies.map(|b| json!({ "kind": "when", "body": b })).collect();
        form.as_object_mut()?.insert("conditions".into(), Value::Array(conditions));
        Policy::from_json(Some(self.policy.id().clone()), form).ok()
    }
}

/// Reads one file.
pub(crate) fn read(source: &PolicySource, errors: &mut Vec<PolicyError>) -> Vec<Rule> {
    let file = Reading { source, name: source.name.trim_end_matches(".cedar") };
    if let Err(e) = PolicyId::parse(file.name) {
        errors.push(file.error(None, format!("`{}` cannot be part of policy ids: {e}", file.name), None));
        return Vec::new();
    }
    let set = match PolicySet::from_str(&source.text) {
        Ok(set) => set,
        Err(parse) => {
            errors.extend(parse.iter().map(|e| file.diagnostic(e)));
            return Vec::new();
        }
    };
    for template in set.templates() {
        errors.push(file.error(
            None,
            format!("`{}` has a slot such as `?principal`", template.id()),
            Some("write the entity itself; templates are not supported"),
        ));
    }
    let mut policies: Vec<(usize, Policy)> = set
        .policies()
        .filter_map(|p| Some((p.id().to_string().strip_prefix("policy")?.parse().ok()?, p.clone())))
        .collect();
    policies.sort_by_key(|(position, _)| *position);
    if policies.len() != set.num_of_policies() {
        errors.push(file.error(None, "the policies could not be numbered".into(), None));
    }
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    for (position, policy) in policies {
        match file.rule(position, &policy) {
            Err(mut found) => errors.append(&mut found),
            Ok(rule) if !seen.insert(rule.id.clone()) => {
                let message = format!("`@id` of `{}` is taken by an earlier policy", rule.id);
                errors.push(file.error(rule.span, message, Some("give each policy its own `@id`")));
            }
            Ok(rule) => rules.push(rule),
        }
    }
    rules
}

struct Reading<'a> {
    source: &'a PolicySource,
    name: &'a str,
}

impl Reading<'_> {
    fn error(&self, span: Option<Range<usize>>, message: String, help: Option<&str>) -> PolicyError {
        PolicyError { file: self.source.name.clone(), span, message, help: help.map(Into::into) }
    }

    fn diagnostic(&self, diagnostic: &(impl Diagnostic + fmt::Display)) -> PolicyError {
        diagnose(&self.source.name, diagnostic)
    }

    fn rule(&self, position: usize, policy: &Policy) -> Result<Rule, Vec<PolicyError>> {
        let span = policy.as_ref().loc().map(|loc| loc.start()..loc.end());
        let fail = |message: String, help: &str| vec![self.error(span.clone(), message, Some(help))];
        let given: BTreeMap<&str, &str> = policy.annotations().collect();
        let ordinal = position.saturating_add(1).to_string();
        let local = given.get("id").copied().unwrap_or(&ordinal);
        let id = PolicyId::parse(&format!("{}:{local}", self.name))
            .map_err(|e| fail(format!("`@id` is not a name: {e}"), "such as `@id(\"deletes\")`"))?;
        if let Some(other) = given.keys().find(|k| !ANNOTATIONS.contains(k)) {
            return Err(fail(
                format!("`@{other}` is not an annotation that means something here"),
                "known are `@id`, `@ask`, `@quorum`, `@deadline`, `@rehearse`, `@distinct`, `@grant`, `@step_up` and `@because`",
            ));
        }
        let answers = is_about_answers(policy).map_err(|(m, h)| fail(m, h))?;
        if answers && let Some(other) = given.keys().find(|k| !matches!(**k, "id" | "because")) {
            return Err(fail(
                format!("`@{other}` means nothing on a policy about answers"),
                "only `@id` and `@because` do: whom a call asks, and what of them, says the `permit` with `@ask`",
            ));
        }
        let because = given.get("because").map(|text| String::from(text.trim()));
        if because.as_ref().is_some_and(|b| b.is_empty() || b.chars().count() > BECAUSE_CHARS_MAX) {
            return Err(fail("`@because` must have 1 to 500 characters".into(), "one sentence is best"));
        }
        let forbids = policy.effect() == Effect::Forbid;
        if answers && !forbids {
            return Err(fail(
                "a `permit` about answers lets nobody answer: who is in a group that `@ask` names may".into(),
                "write a `forbid` of those who may not, or ask another group",
            ));
        }
        let ask = ask(&given, forbids, because.as_ref(), &id).map_err(|(m, h)| fail(m, h))?;
        let json = policy.to_json().map_err(|e| fail(e.to_string(), "write it in a simpler way"))?;
        let subject = json!({ "file": self.name, "policy": json });
        let digest = sha256_of(&subject).map_err(|why| match why {
            CanonicalError::Number(number) => {
                let message = format!(
                    "the number {number} is beyond ±{INTEGER_MAX}, where digests do not tell it from the next"
                );
                fail(message, "no amount or count is larger: write a number up to there")
            }
            CanonicalError::Depth | CanonicalError::Key(_) | CanonicalError::Unwritable(_) => {
                fail(why.to_string(), "write it in a simpler way")
            }
        })?;
        let conjuncts = conjuncts(&json);
        let mut mentions = Mentions::default();
        conjuncts.iter().for_each(|c| mentions.add(&c.mentions));
        let policy = policy.new_id(cedar_policy::PolicyId::new(id.as_str()));
        Ok(Rule {
            id,
            position,
            layer: self.source.layer,
            file: self.source.name.clone(),
            span,
            policy,
            forbids,
            answers,
            ask,
            because,
            mentions,
            json,
            digest,
            conjuncts,
        })
    }
}

/// Returns one of Cedar's reports as ours.
pub(crate) fn diagnose(file: &str, diagnostic: &(impl Diagnostic + fmt::Display)) -> PolicyError {
    let span = diagnostic.labels().and_then(|mut labels| labels.next()).map(|label| {
        let start = label.offset();
        start..start.saturating_add(label.len())
    });
    let mut message = diagnostic.to_string();
    // Cedar begins its reports with the policy's id, which the span already says.
    if let Some((_, rest)) = message.split_once("`, ").filter(|(head, _)| head.starts_with("for policy `")) {
        message = rest.to_owned();
    }
    PolicyError { file: file.into(), span, message, help: diagnostic.help().map(|h| h.to_string()) }
}

fn ask(
    given: &BTreeMap<&str, &str>,
    forbids: bool,
    because: Option<&String>,
    id: &PolicyId,
) -> Result<Option<AskOf>, (String, &'static str)> {
    let Some(group) = given.get("ask") else {
        return match ["quorum", "deadline", "rehearse", "distinct", "grant", "step_up"]
            .iter()
            .find(|k| given.contains_key(**k))
        {
            Some(alone) => Err((
                format!("`@{alone}` without `@ask` asks nobody"),
                "add `@ask(\"group\")`, or the permit lets the call run at once",
            )),
            None => Ok(None),
        };
    };
    if forbids {
        return Err((
            "`@ask` on a `forbid`: nobody can approve what is forbidden".into(),
            "write a `permit` with `@ask`, or leave `@ask` out",
        ));
    }
    let group = GroupName::parse(group)
        .map_err(|e| (format!("`@ask` names no group: {e}"), "such as `@ask(\"dba\")`"))?;
    let quorum = match given.get("quorum") {
        None => 1,
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| (1..=QUORUM_MAX).contains(n))
            .ok_or_else(|| (format!("`@quorum(\"{text}\")` is no number of people"), "write 1 to 100"))?,
    };
    let deadline_ms = match given.get("deadline") {
        None => DEADLINE_DEFAULT_MS,
        Some(text) => duration_ms(text).ok_or_else(|| {
            (
                format!("`@deadline(\"{text}\")` is no time"),
                "write `90s`, `15m`, `2h` or `3d`: 1 second to 30 days",
            )
        })?,
    };
    let truth = |name: &str, default: bool| match given.get(name) {
        None => Ok(default),
        Some(&"true") => Ok(true),
        Some(&"false") => Ok(false),
        Some(text) => {
            Err((format!("`@{name}(\"{text}\")` says neither yes nor no"), "write `true` or `false`"))
        }
    };
    let (rehearse, shared) = (truth("rehearse", false)?, !truth("distinct", true)?);
    let grant = match given.get("grant") {
        None => None,
        Some(text) => Some(grant(text).ok_or_else(|| {
            (
                format!("`@grant(\"{text}\")` is no number of calls and a time"),
                "write such as `20 calls in 1h`: 1 to 1,000 calls, in 1 second to 7 days",
            )
        })?),
    };
    let step_up = match given.get("step_up") {
        None => None,
        Some(&"passkey") => Some(id.clone()),
        Some(text) => {
            return Err((
                format!("`@step_up(\"{text}\")` is no way to confirm an approval"),
                "write `@step_up(\"passkey\")`, or leave it out",
            ));
        }
    };
    let (because, policy) = (because.cloned(), id.clone());
    Ok(Some(AskOf { group, quorum, deadline_ms, because, policy, rehearse, shared, grant, step_up }))
}

/// `20 calls in 1h`: 1 to 1,000 calls, in 1 second to 7 days.
fn grant(text: &str) -> Option<GrantBound> {
    let (calls, time) = text.split_once(" in ")?;
    let (calls, word) = calls.split_once(' ')?;
    let calls = calls.bytes().all(|b| b.is_ascii_digit()).then(|| calls.parse().ok())??;
    let ms = duration_ms(time)?;
    let good = word == if calls == 1 { "call" } else { "calls" };
    (good && (1..=GRANT_CALLS_MAX).contains(&calls) && ms <= GRANT_MS_MAX).then_some(GrantBound { calls, ms })
}

/// Reads `90s`, `15m`, `2h` or `3d`: in milliseconds, from 1 second to 30 days. Returns `None` for anything else.
#[must_use]
pub fn duration_ms(text: &str) -> Option<u64> {
    let unit_ms = match text.chars().last()? {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    };
    let digits = text.get(..text.len().saturating_sub(1))?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ms = digits.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    (DEADLINE_MIN_MS..=DEADLINE_MAX_MS).contains(&ms).then_some(ms)
}

/// Returns a policy's conditions, taken apart at `&&`; `unless` as its negation.
fn conjuncts(policy: &Value) -> Vec<Conjunct> {
    let mut found = Vec::new();
    for condition in policy.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let Some(body) = condition.get("body") else { continue };
        if condition.get("kind").and_then(Value::as_str) == Some("unless") {
            push(json!({ "!": { "arg": body } }), &mut found);
        } else {
            take_apart(body, &mut found);
        }
    }
    found
}

fn take_apart(body: &Value, found: &mut Vec<Conjunct>) {
    let both = body.get("&&").and_then(|and| Some((and.get("left")?, and.get("right")?)));
    match both {
        Some((left, right)) => {
            take_apart(left, found);
            take_apart(right, found);
        }
        None => push(body.clone(), found),
    }
}

fn push(body: Value, found: &mut Vec<Conjunct>) {
    found.push(Conjunct { mentions: Mentions::of(&body), body });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<PolicyError> {
        let mut errors = Vec::new();
        read(&PolicySource::user("mine", text), &mut errors);
        errors
    }

    fn rules(text: &str) -> Vec<Rule> {
        let mut errors = Vec::new();
        let rules = read(&PolicySource::user("mine.cedar", text), &mut errors);
        assert_eq!(errors, []);
        rules
    }

    #[test]
    fn a_grant_says_how_many_calls_in_which_time() {
        for (text, calls, ms) in [
            ("20 calls in 1h", 20, 3_600_000),
            ("1 call in 1s", 1, 1_000),
            ("1000 calls in 7d", GRANT_CALLS_MAX, GRANT_MS_MAX),
        ] {
            assert_eq!(grant(text), Some(GrantBound { calls, ms }), "{text}");
        }
        for text in [
            "",
            "20",
            "20 calls",
            "1h",
            "0 calls in 1h",
            "1001 calls in 1h",
            "20 calls in 8d",
            "20 calls in 0s",
            "20 call in 1h",
            "1 calls in 1h",
            "+2 calls in 1h",
            "-2 calls in 1h",
            "20  calls in 1h",
            "20 calls in 1h ",
            "20 calls in +1h",
            " calls in 1h",
            "99999999999 calls in 1h",
            "\u{0662} calls in 1h",
        ] {
            assert_eq!(grant(text), None, "{text}");
        }
    }

    #[test]
    fn deadlines_have_one_unit_and_bounds() {
        assert_eq!(duration_ms("90s"), Some(90_000));
        assert_eq!(duration_ms("15m"), Some(DEADLINE_DEFAULT_MS));
        assert_eq!(duration_ms("30d"), Some(DEADLINE_MAX_MS));
        for text in
            ["", "m", "0s", "31d", "1.5h", "-1m", "+1m", "15", "15M", "1h30m", "99999999999999999999d", "é"]
        {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn annotations_are_read() {
        let rules = rules(
            r#"@id("a") @ask("dba") @quorum("2") @deadline("2h") @because("deletes need two")
               permit (principal, action, resource);
               forbid (principal, action, resource) unless { 1 == 1 };"#,
        );
        let ask = rules[0].ask.as_ref().unwrap();
        assert!(!ask.rehearse && !ask.shared);
        assert_eq!((ask.quorum, ask.deadline_ms, ask.group.as_str()), (2, 7_200_000, "dba"));
        assert_eq!(ask.because.as_deref(), Some("deletes need two"));
        assert_eq!(rules[0].id.as_str(), "mine:a");
        assert_eq!(rules[1].id.as_str(), "mine:2");
        assert!(rules[1].forbids);
    }

    #[test]
    fn wrong_annotations_are_refused_with_their_place() {
        for (text, said) in [
            ("@aks(\"dba\") permit (principal, action, resource);", "`@aks`"),
            ("@ask(\"dba\") forbid (principal, action, resource);", "nobody can approve"),
            ("@ask(\"the dba\") permit (principal, action, resource);", "names no group"),
            ("@ask permit (principal, action, resource);", "names no group"),
            ("@quorum(\"2\") permit (principal, action, resource);", "asks nobody"),
            ("@deadline(\"2h\") forbid (principal, action, resource);", "asks nobody"),
            ("@ask(\"dba\") @quorum(\"0\") permit (principal, action, resource);", "number of people"),
            ("@ask(\"dba\") @quorum(\"two\") permit (principal, action, resource);", "number of people"),
            ("@ask(\"dba\") @deadline(\"soon\") permit (principal, action, resource);", "is no time"),
            ("@ask(\"dba\") @rehearse(\"yes\") permit (principal, action, resource);", "neither yes nor no"),
            ("@ask(\"dba\") @rehearse permit (principal, action, resource);", "neither yes nor no"),
            ("@rehearse(\"true\") permit (principal, action, resource);", "asks nobody"),
            ("@ask(\"dba\") @distinct(\"no\") permit (principal, action, resource);", "neither yes nor no"),
            ("@distinct(\"false\") permit (principal, action, resource);", "asks nobody"),
            ("@rehearse(\"true\") forbid (principal, action, resource);", "asks nobody"),
            ("@step_up(\"passkey\") permit (principal, action, resource);", "asks nobody"),
            ("@step_up(\"passkey\") forbid (principal, action, resource);", "asks nobody"),
            ("@ask(\"dba\") @step_up permit (principal, action, resource);", "no way to confirm"),
            ("@ask(\"dba\") @step_up(\"true\") permit (principal, action, resource);", "no way to confirm"),
            (
                "@ask(\"dba\") @step_up(\"Passkey\") permit (principal, action, resource);",
                "no way to confirm",
            ),
            ("@id(\"a b\") permit (principal, action, resource);", "`@id`"),
            ("@because(\" \") permit (principal, action, resource);", "`@because`"),
        ] {
            let errors = errors(text);
            assert_eq!(errors.len(), 1, "{text}");
            assert!(errors[0].message.contains(said), "{text}: {}", errors[0].message);
            assert!(errors[0].span.is_some(), "{text}");
            assert!(errors[0].help.is_some(), "{text}");
        }
    }

    /// Found when the writers of canonical JSON became one: both policies had one digest, so that an approval or a logged
    /// decision under the one would have counted under the other.
    #[test]
    fn a_number_that_digests_do_not_tell_from_the_next_is_refused() {
        let with = |number: i64| {
            format!("permit (principal, action, resource) when {{ context.session.rows < {number} }};")
        };
        assert_ne!(rules(&with(INTEGER_MAX))[0].digest, rules(&with(INTEGER_MAX - 1))[0].digest);
        for beyond in [INTEGER_MAX + 1, INTEGER_MAX + 2, i64::MAX, i64::MIN] {
            let errors = errors(&with(beyond));
            assert!(errors[0].message.contains(&format!("the number {beyond} is beyond")), "{errors:?}");
            assert!(errors[0].span.is_some() && errors[0].help.is_some(), "{errors:?}");
        }
    }

    #[test]
    fn a_policy_of_many_conditions_has_a_digest() {
        let conditions = vec!["context.effect == \"read\""; 80].join(" && ");
        assert_eq!(rules(&format!("permit (principal, action, resource) when {{ {conditions} }};")).len(), 1);
    }

    #[test]
    fn the_same_id_twice_is_refused() {
        let one = "@id(\"a\") permit (principal, action, resource);";
        let errors = errors(&format!("{one}\n{one}"));
        assert!(errors[0].message.contains("taken"), "{errors:?}");
        assert_eq!(errors[0].span.as_ref().unwrap().start, one.len() + 1);
    }

    #[test]
    fn syntax_errors_and_templates_are_refused() {
        assert!(errors("permit (principal, action);")[0].span.is_some());
        assert!(errors("permit (principal == ?principal, action, resource);")[0].message.contains("slot"));
        let mut errors = Vec::new();
        read(&PolicySource::user("my file", ""), &mut errors);
        assert_eq!(errors.len(), 1);
    }

    #[test]
    fn a_reduced_policy_keeps_the_conditions_asked_for() {
        let rules = rules(
            "permit (principal, action, resource) when { context.effect == \"read\" && context has reach }
             unless { context.reversible };",
        );
        assert_eq!(rules[0].conjuncts.len(), 3);
        let reduced = rules[0].reduced(|m| m.only(&["effect"])).unwrap();
        assert!(!reduced.complete && !reduced.mentions.sees("reach"));
        let text = reduced.policy.to_string();
        assert!(!text.contains("reach") && text.contains("effect"), "{text}");
    }
}
