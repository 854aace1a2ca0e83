//! What holds for any policies, calls and facts.

use alloc::{collections::BTreeSet, sync::Arc, vec, vec::Vec};
use std::string::ToString as _;

use cedar_policy::{Request, Schema};
use proptest::{prelude::*, sample::select};
use serde_json::json;

use super::*;
use crate::{
    AgentSpec, DeclaredEffect, PersonId, PolicySource, StatementFacts, TeamName, ToolSpec,
    explain::{FindingOutcome, explain},
    sample::{self, approval, call, facts, reach},
};

/// A policy that looks at whatever there is.
fn policy() -> impl Strategy<Value = String> {
    conditioned(CONDITIONS)
}

/// One that looks at no more than a key holds, and at what the most calls do not have.
fn plain_policy() -> impl Strategy<Value = String> {
    conditioned(PLAIN_CONDITIONS)
}

const PLAIN_CONDITIONS: &[&str] = &[
    "",
    "when { context.effect == \"destructive\" }",
    "when { context.effect != \"read\" } unless { context.reversible }",
    "when { context has effect && [\"read\", \"write\"].contains(context.effect) }",
    "unless { context.categories.contains(\"schema\") }",
    "when { context.categories.containsAny([\"data\", \"policy\"]) && context.reversible }",
    "when { resource.kind == \"http\" && principal.accounts.contains(\"acme\") }",
    "when { principal in Team::\"sales\" || Agent::\"outsider\".accounts.contains(\"acme\") }",
    "unless { resource in Environment::\"production\" && System::\"stage\" in Account::\"acme\" }",
    "when { if context.reversible then 9007199254740991 * 9007199254740991 > 0 else true }",
    "when { context.effect != \"read\" && context has reach && context.reach.rows > 10 }",
    "unless { context has approval }",
    "when { context has on_behalf_of && context.on_behalf_of == \"ann\" }",
    "unless { context has statement && context.statement.verb == \"drop\" }",
];

const CONDITIONS: &[&str] = &[
    "",
    "",
    "when { context.effect == \"destructive\" }",
    "when { context.effect != \"read\" && context has reach && context.reach.rows > 10 }",
    "when { context has reach && context.reach.rows <= 10 }",
    "when { if context has reach then context.reach.unbounded else false }",
    "unless { context.categories.contains(\"schema\") }",
    "when { context.session.writes * 1024 * 9007199254740991 > 0 }",
    "when { context.session.writes > 5 } unless { context.reversible }",
    "when { context.args has amount && context.args.amount > 100 }",
    "when { context has approval && context.approval.groups.contains(\"dba\") }",
    "when { resource.kind == \"http\" && principal.accounts.contains(\"acme\") }",
    "when { context.given.contains(\"amount\") }",
    "when { context.time.hour < 12 }",
    "when { principal in Team::\"sales\" || Agent::\"outsider\".accounts.contains(\"acme\") }",
    "unless { Agent::\"intern\" in Team::\"finance\" }",
    "when { System::\"stage\".environment == \"staging\" && System::\"other\".account != \"acme\" }",
    "when { resource in Environment::\"production\" && System::\"stage\" in Account::\"acme\" }",
    "unless { Action::\"update\" in Action::\"category:money\" }",
];

fn conditioned(conditions: &'static [&'static str]) -> impl Strategy<Value = String> {
    let head =
        select(vec!["permit", "permit", "permit", "@ask(\"dba\") permit", "@ask(\"ops\") permit", "forbid"]);
    let principal = select(vec![
        "principal",
        "principal",
        "principal == Agent::\"bot\"",
        "principal == Agent::\"intern\"",
        "principal in Team::\"finance\"",
        "principal in Team::\"sales\"",
        "principal is Agent",
    ]);
    let action = select(vec![
        "action",
        "action",
        "action == Action::\"delete\"",
        "action == Action::\"query\"",
        "action in Action::\"call\"",
        "action in Action::\"category:money\"",
        "action in [Action::\"delete\", Action::\"refund\"]",
        "action in [Action::\"category:iam\", Action::\"read\"]",
    ]);
    let resource = select(vec![
        "resource",
        "resource",
        "resource == System::\"billing\"",
        "resource in Environment::\"production\"",
        "resource in Environment::\"staging\"",
        "resource is System",
        "resource is System in Account::\"acme\"",
        "resource in Account::\"emca\"",
    ]);
    let condition = select(conditions);
    (head, principal, action, resource, condition)
        .prop_map(|(h, p, a, r, c)| format!("{h} ({p}, {a}, {r}) {c};"))
}

fn policies(texts: &[String]) -> Policies {
    let agents = sample::agents();
    // What names something that not every tool of its scope has is refused, and is no matter for decisions.
    let loads = |text: &&String| {
        Policies::load(&[PolicySource::user("one", text.as_str())], &sample::tools(), &agents).is_ok()
    };
    let sound: String = texts.iter().filter(loads).map(String::as_str).collect();
    let sources = [PolicySource::user("mine", sound)];
    Policies::load(&sources, &sample::tools(), &agents).unwrap_or_else(|e| panic!("{e}"))
}

/// A deployment with two files of policies, of which one thing is changed.
#[derive(Debug, Clone)]
struct Deployment {
    files: [Vec<String>; 2],
    tools: Vec<Arc<ToolSpec>>,
    agents: Vec<AgentSpec>,
}

impl Deployment {
    fn of(one: &[String], two: &[String]) -> Self {
        Self { files: [one.to_vec(), two.to_vec()], tools: sample::tools(), agents: sample::agents() }
    }

    /// `None` where a policy does not fit the tools.
    fn load(&self) -> Option<Policies> {
        let source = |(name, texts): (&str, &Vec<String>)| PolicySource::user(name, texts.join("\n"));
        let sources: Vec<_> = ["one", "two"].into_iter().zip(&self.files).map(source).collect();
        Policies::load(&sources, &self.tools, &self.agents).ok()
    }

    fn changed(&self, change: &Change) -> Self {
        let mut new = self.clone();
        let (file, at) = change.at;
        let [one, two] = &mut new.files;
        let (file, other) = if file { (one, two) } else { (two, one) };
        let at = at.checked_rem(file.len()).unwrap_or(0);
        let tool = change.at.1.checked_rem(new.tools.len()).unwrap_or(0);
        let agent = change.at.1.checked_rem(new.agents.len()).unwrap_or(0);
        match change.what {
            What::Add => file.insert(at, change.policy.clone()),
            What::Replace if !file.is_empty() => file[at].clone_from(&change.policy),
            What::Remove if !file.is_empty() => drop(file.remove(at)),
            What::Move if !file.is_empty() => other.push(file.remove(at)),
            What::Swap if !file.is_empty() => file.swap(0, at),
            What::Double if !file.is_empty() => file.insert(at, file[at].clone()),
            What::Annotate if !file.is_empty() => file[at] = format!("@because(\"it is so\") {}", file[at]),
            What::Replace | What::Remove | What::Move | What::Swap | What::Double | What::Annotate => {}
            What::Remark => file.insert(at, "// a remark\n\n".into()),
            What::Team => {
                new.agents[agent].teams = BTreeSet::from([TeamName::parse("sales").unwrap()]);
            }
            What::Account => new.agents[agent].accounts = ["emca".to_string()].into(),
            What::Agent => drop(new.agents.remove(agent)),
            What::Environment => {
                let system = new.tools[tool].system.name.clone();
                for tool in new.tools.iter_mut().filter(|tool| tool.system.name == system) {
                    Arc::make_mut(tool).system.environment = "archive".into();
                }
            }
            What::Category => {
                Arc::make_mut(&mut new.tools[tool]).categories.insert("money".into());
            }
            What::Effect => {
                let tool = Arc::make_mut(&mut new.tools[tool]);
                tool.effect = if tool.effect == DeclaredEffect::Write {
                    DeclaredEffect::Destructive
                } else {
                    DeclaredEffect::Write
                };
            }
            What::Tool => drop(new.tools.remove(tool)),
        }
        new
    }
}

#[derive(Debug, Clone)]
struct Change {
    what: What,
    at: (bool, usize),
    policy: String,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Add,
    Replace,
    Remove,
    Move,
    Swap,
    Double,
    Annotate,
    Remark,
    Team,
    Account,
    Agent,
    Environment,
    Category,
    Effect,
    Tool,
}

fn any_change() -> impl Strategy<Value = Change> {
    use What as W;
    let what = select(vec![
        W::Add,
        W::Add,
        W::Replace,
        W::Remove,
        W::Remove,
        W::Move,
        W::Swap,
        W::Double,
        W::Annotate,
        W::Remark,
        W::Team,
        W::Account,
        W::Agent,
        W::Environment,
        W::Category,
        W::Effect,
        W::Tool,
    ]);
    (what, any::<(bool, usize)>(), policy()).prop_map(|(what, at, policy)| Change { what, at, policy })
}

/// A decision without the numbers by which policies are called that have no `@id`.
fn unnumbered(decision: &Decision) -> Vec<String> {
    let text = serde_json::to_string(decision).unwrap();
    let mut parts = text.split(['\"', '`', ';', ' ']).map(|part| {
        let numbered = ["one:", "two:"].iter().any(|file| part.starts_with(file));
        if numbered { part.trim_end_matches(|c: char| c.is_ascii_digit()).into() } else { part.to_string() }
    });
    let mut parts: Vec<String> = parts.by_ref().collect();
    // Why several policies could not be evaluated is told in the order of their names.
    if text.contains("evaluation_error") {
        parts.sort();
    }
    parts
}

fn any_call() -> impl Strategy<Value = Call<()>> {
    let tool = select(vec![
        ("read", json!({ "id": 1 })),
        ("query", json!({ "sql": "x" })),
        ("delete", json!({ "before": "x" })),
        ("update", json!({ "note": "x" })),
        ("refund", json!({ "charge": "x", "amount": 7 })),
        ("refund", json!({ "charge": "x", "amount": 700, "share": 0.5 })),
        ("foreign", json!({})),
    ]);
    let agent = select(vec!["bot", "intern", "outsider", "stranger"]);
    (tool, agent, any::<bool>()).prop_map(|((tool, arguments), agent, member)| {
        let mut call = call(tool, arguments);
        call.requester = sample::requester(agent);
        if agent == "outsider" {
            call.requester.teams = vec![TeamName::parse("sales").unwrap()];
        }
        if !member {
            call.requester.teams.clear();
        }
        call
    })
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let rows = select(vec![None, Some(0), Some(10), Some(11), Some(u64::MAX)]);
    let writes = select(vec![0, 6, 7, 8, u64::MAX]);
    let category = select(vec!["data", "schema", "policy", "encryption_keys"]);
    (rows, writes, category, any::<bool>(), any::<bool>(), any::<i64>()).prop_map(
        |(rows, writes, category, reversible, approved, now_ms)| {
            let mut facts = facts(Effect::Read);
            facts.reach = rows.map(reach);
            facts.session.writes = writes;
            facts.categories.insert(category.into());
            facts.reversible = reversible;
            facts.approval = approved.then(|| approval(&[("ann", "dba"), ("bob", "ops")], rows.map(reach)));
            facts.now_ms = now_ms;
            facts
        },
    )
}

/// A call with facts that fit its tool.
fn any_case() -> impl Strategy<Value = (Call<()>, Facts)> {
    let higher = select(vec![Effect::Read, Effect::Write, Effect::Destructive]);
    (any_call(), any_facts(), higher).prop_map(|(call, mut facts, higher)| {
        let declared = call.tool.effect;
        facts.effect = higher.clamp(declared.floor(), declared.ceiling());
        (call, facts)
    })
}

/// One of which much is alike: of one tool and agent, and without what a call need not have.
fn plain_case() -> impl Strategy<Value = ((Call<()>, Facts), (bool, bool))> {
    let effect = select(vec![Effect::Read, Effect::Write, Effect::Destructive]);
    let category = select(vec!["data", "schema", "policy"]);
    (effect, category, any::<bool>()).prop_map(|(effect, category, reversible)| {
        let mut facts = facts(effect);
        facts.categories.insert(category.into());
        facts.reversible = reversible;
        ((call("query", json!({ "sql": "x" })), facts), (false, false))
    })
}

const fn strictness(decision: &Decision) -> u8 {
    match decision {
        Decision::Allow(_) => 0,
        Decision::Ask(_) => 1,
        Decision::Deny(_) => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_slice_answers_as_the_full_set(
        texts in prop::collection::vec(policy(), 0..14),
        cases in prop::collection::vec(any_case(), 12),
    ) {
        let policies = policies(&texts);
        let mut full = Judged::default();
        for rule in policies.rules.values() {
            prop_assert!(full.add(rule.policy.clone(), &rule.mentions));
        }
        for (call, facts) in &cases {
            let judge = Judge::of(call, facts, &policies).unwrap();
            let sliced = judge.answer(&judge.evaluate(&judge.slice.all).unwrap());
            prop_assert_eq!(sliced, judge.answer(&judge.evaluate(&full).unwrap()), "{:?}", texts);
        }
    }

    #[test]
    fn what_is_remembered_is_what_cedar_says_each_time(
        texts in prop_oneof![
            1 => prop::collection::vec(policy(), 0..10),
            3 => prop::collection::vec(plain_policy(), 0..10),
        ],
        cases in prop::collection::vec(prop_oneof![(any_case(), any::<(bool, bool)>()), plain_case()], 12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let cases: Vec<_> = cases.into_iter().map(|((mut call, mut facts), (behalf, statement))| {
            call.requester.on_behalf_of = behalf.then(|| PersonId::parse("ann").unwrap());
            facts.statement = statement.then(|| StatementFacts { verb: "drop".into(), ..StatementFacts::default() });
            (call, facts)
        }).collect();
        let policies = policies(&texts).with_memory(sample::Notes::default());
        let everything = Mentions::of(&json!({ "Var": "context" }));
        for (call, facts) in order.iter().map(|index| index.get(&cases)) {
            let judge = Judge::of(call, facts, &policies).unwrap();
            for part in [Part::All, Part::Early, Part::ReachGuards] {
                let (set, whole) = (&judge.slice.part(part).set, judge.request(&everything).unwrap());
                let cedar = Authorizer::new().is_authorized(&whole, set, judge.entities());
                let verdict = judge.verdict(part).unwrap();
                prop_assert_eq!(verdict.allows, cedar.decision() == cedar_policy::Decision::Allow);
                let decided: BTreeSet<&str> = verdict.policies.iter().map(PolicyId::as_str).collect();
                let said: BTreeSet<&str> = cedar.diagnostics().reason().map(AsRef::as_ref).collect();
                prop_assert_eq!(decided, said, "{:?} {:?}", texts, facts);
                let failed: BTreeSet<_> = verdict.failed.iter().cloned().collect();
                prop_assert_eq!(failed, cedar.diagnostics().errors().map(failure).collect::<BTreeSet<_>>());
            }
            prop_assert_eq!(recompute(call, facts, &policies, &decide(call, facts, &policies)), Ok(()));
        }
    }

    #[test]
    fn while_its_slice_is_the_same_a_call_is_decided_the_same(
        one in prop::collection::vec(policy(), 0..8),
        two in prop::collection::vec(policy(), 0..8),
        changes in prop::collection::vec(any_change(), 6),
        cases in prop::collection::vec(any_case(), 12),
    ) {
        let sound = |texts: Vec<String>| -> Vec<String> {
            texts.into_iter().filter(|text| Deployment::of(core::slice::from_ref(text), &[]).load().is_some()).collect()
        };
        let old = Deployment::of(&sound(one), &sound(two));
        let before = old.load().unwrap();
        for change in &changes {
            let Some(after) = old.changed(change).load() else { continue };
            for (call, facts) in &cases {
                let slice = |policies: &Policies| {
                    policies.slice(&call.requester, &call.tool.name, &call.tool.version)
                };
                prop_assert!(slice(&before).is_some());
                if slice(&before) == slice(&after) {
                    let (then, now) = (decide(call, facts, &before), decide(call, facts, &after));
                    prop_assert_eq!(unnumbered(&then), unnumbered(&now), "{:?} {:?}", old, change);
                }
            }
        }
    }

    #[test]
    fn what_is_denied_early_is_denied_with_any_reach(
        texts in prop::collection::vec(policy(), 0..8),
        cases in prop::collection::vec(any_case(), 12),
    ) {
        let policies = policies(&texts);
        for (call, facts) in &cases {
            if policies.forbidden_early(call, facts).is_none() {
                continue;
            }
            for rows in [None, Some(0), Some(11), Some(u64::MAX)] {
                for approved in [false, true] {
                    let mut facts = facts.clone();
                    facts.reach = rows.map(reach);
                    facts.approval =
                        approved.then(|| approval(&[("ann", "dba"), ("bob", "ops")], rows.map(reach)));
                    let decision = decide(call, &facts, &policies);
                    prop_assert_eq!(decision.as_str(), "deny", "{:?} {:?}", texts, rows);
                }
            }
        }
    }

    #[test]
    fn what_is_not_listed_is_always_denied(
        texts in prop::collection::vec(policy(), 0..8),
        cases in prop::collection::vec(any_case(), 12),
    ) {
        let policies = policies(&texts);
        for (call, facts) in &cases {
            let mut call = sample::call(call.tool.name.as_str(), call.arguments.clone());
            let configured = policies.agents.get(&call.requester.agent).unwrap();
            call.requester.teams = configured.teams.iter().cloned().collect();
            if !policies.may_ever(&call.requester.agent, &call.tool.name) {
                prop_assert_eq!(decide(&call, facts, &policies).as_str(), "deny", "{:?}", texts);
            }
        }
    }

    #[test]
    fn a_forbid_never_loosens(
        texts in prop::collection::vec(policy(), 0..8),
        more in policy(),
        cases in prop::collection::vec(any_case(), 12),
    ) {
        let (_, scope) = more.split_once("(principal").unwrap();
        let more = format!("forbid (principal{scope}");
        let before = policies(&texts);
        let after = policies(&[texts.clone(), vec![more.clone()]].concat());
        for (call, facts) in &cases {
            let (then, now) = (decide(call, facts, &before), decide(call, facts, &after));
            prop_assert!(strictness(&now) >= strictness(&then), "{:?} + {}: {:?} {:?}", texts, more, then, now);
        }
    }

    #[test]
    fn asks_are_not_lost_among_permits(
        texts in prop::collection::vec(policy(), 0..8),
        (call, facts) in any_case(),
    ) {
        let policies = policies(&texts);
        let asking = [texts, vec!["@id(\"more\") @ask(\"security\") permit (principal, action, resource);".into()]];
        let asking = self::policies(&asking.concat());
        let before = decide(&call, &facts, &policies);
        let after = decide(&call, &facts, &asking);
        match before {
            Decision::Allow(_) | Decision::Ask(_) => prop_assert_eq!(after.as_str(), "ask"),
            Decision::Deny(deny) if deny.reason == DenyReason::NothingPermits => {
                prop_assert!(strictness(&after) >= 1);
            }
            Decision::Deny(_) => prop_assert_eq!(after.as_str(), "deny"),
        }
    }

    #[test]
    fn every_context_fits_the_schema_and_the_explanation_the_decision(
        texts in prop::collection::vec(policy(), 1..8),
        cases in prop::collection::vec(any_case(), 6),
    ) {
        let policies = policies(&texts);
        let schema = Schema::from_json_value(policies.schema.clone()).unwrap();
        for (call, facts) in &cases {
            let judge = Judge::of(call, facts, &policies).unwrap();
            let everything = Mentions::of(&json!({ "Var": "context" }));
            let whole = judge.request(&everything).unwrap();
            let checked = Request::new(
                whole.principal().unwrap().clone(),
                whole.action().unwrap().clone(),
                whole.resource().unwrap().clone(),
                whole.context().unwrap().clone(),
                Some(&schema),
            );
            prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());

            let explanation = explain(call, facts, &policies);
            let failed = explanation.policies.iter().any(|f| f.outcome == FindingOutcome::Failed);
            let matched = |forbids| {
                explanation
                    .policies
                    .iter()
                    .filter(|f| f.outcome == FindingOutcome::Matched && f.forbids == forbids)
                    .map(|f| f.policy.clone())
                    .collect::<Vec<_>>()
            };
            match decide(call, facts, &policies) {
                Decision::Allow(allow) => {
                    prop_assert!(!failed && matched(true).is_empty());
                    prop_assert_eq!(allow.policies, matched(false));
                }
                Decision::Ask(ask) => {
                    prop_assert!(!failed && matched(true).is_empty());
                    prop_assert!(ask.policies.iter().all(|id| matched(false).contains(id)));
                }
                Decision::Deny(deny) => match deny.reason {
                    DenyReason::Forbidden { .. } => prop_assert_eq!(deny.policies, matched(true)),
                    DenyReason::NothingPermits => {
                        prop_assert!(matched(true).is_empty() && matched(false).is_empty());
                    }
                    DenyReason::EvaluationError { .. } => prop_assert!(failed),
                    DenyReason::ReachUnknown => prop_assert!(facts.reach.is_none()),
                    DenyReason::InvalidRequest { message } => prop_assert!(false, "{}", message),
                },
            }
        }
    }
}

#[test]
fn a_thousand_policies_for_other_tools_do_not_reach_the_slice() {
    let tools = ["query", "delete", "update", "refund"];
    let texts: Vec<String> = (0..1_000)
        .map(|i| {
            let tool = tools[i % tools.len()];
            format!("permit (principal, action == Action::\"{tool}\", resource) when {{ context.session.calls > {i} }};")
        })
        .chain(["permit (principal, action == Action::\"read\", resource);".to_string()])
        .collect();
    let policies = sample::policies(&texts.concat());
    let read = call("read", json!({ "id": 1 }));
    assert_eq!(policies.count(&read.tool.name), (1_006, 6));
    assert_eq!(decide(&read, &facts(Effect::Read), &policies).as_str(), "allow");
}
