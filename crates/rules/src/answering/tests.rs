use alloc::vec;

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    AskOf, BundleDigest, DecisionId, Narrowed, PolicySource, Reach, Requester, ToolName, Vocabulary,
    id::{ApprovalId, TeamName},
    sample::{self, NOW_MS, agents, tools, user},
};

fn person(id: &str) -> PersonId {
    PersonId::parse(id).unwrap()
}

fn groups(names: &[&str]) -> BTreeSet<GroupName> {
    names.iter().map(|name| GroupName::parse(name).unwrap()).collect()
}

fn request(tool: &str, reach: Option<Reach>) -> ApprovalRequest {
    ApprovalRequest {
        id: ApprovalId::parse("apr-1").unwrap(),
        call: sample::call(tool, serde_json::json!({})).stored(),
        decision: DecisionId::parse("dec-1").unwrap(),
        bundle: BundleDigest::parse("b").unwrap(),
        slice: None,
        reach,
        of: vec![AskOf {
            group: GroupName::parse("dba").unwrap(),
            quorum: 1,
            deadline_ms: 1_000,
            because: None,
            policy: crate::PolicyId::parse("p:1").unwrap(),
            rehearse: false,
            shared: false,
            grant: None,
            step_up: None,
        }],
        asked_ms: NOW_MS,
        expires_ms: NOW_MS + 1_000,
        alike: None,
        before: Vec::new(),
    }
}

const HEAD: &str = "(principal, action == Action::\"answer\", resource)";

fn mistake(text: &str) -> PolicyError {
    let loaded = Policies::load(&user(text), &tools(), &agents());
    loaded.map(|_| ()).expect_err(text).0.remove(0)
}

#[test]
fn what_reads_like_more_than_it_does_is_refused_where_it_stands() {
    for (text, said) in [
        (format!("permit {HEAD};"), "lets nobody answer"),
        (format!("@ask(\"dba\") permit {HEAD};"), "`@ask` means nothing"),
        (format!("@ask(\"dba\") forbid {HEAD};"), "`@ask` means nothing"),
        (format!("@grant(\"2 calls in 1h\") forbid {HEAD};"), "`@grant` means nothing"),
        (format!("@step_up(\"passkey\") forbid {HEAD};"), "`@step_up` means nothing"),
        (format!("@quorum(\"2\") forbid {HEAD};"), "`@quorum` means nothing"),
        (
            "forbid (principal, action in [Action::\"answer\", Action::\"call\"], resource);".into(),
            "covers calls and answers",
        ),
        (
            "forbid (principal, action in [Action::\"refund\", Action::\"answer\"], resource);".into(),
            "covers calls and answers",
        ),
        // What no answer can be, and what nothing has.
        (format!("forbid {HEAD} when {{ context.answer == \"aprove\" }};"), "which it can never be"),
        (format!("forbid {HEAD} when {{ context.answer like \"app?ove\" }};"), "nothing fits"),
        (format!("forbid {HEAD} when {{ resource has reech }};"), "has no `reech`"),
        (format!("forbid {HEAD} when {{ resource has system.envirnment }};"), "has no `envirnment`"),
        (format!("forbid {HEAD} when {{ context has effect }};"), "has no `effect`"),
        (format!("forbid {HEAD} when {{ resource.tool == \"refnud\" }};"), "which it can never be"),
        (format!("forbid {HEAD} when {{ resource.agent == Agent::\"bto\" }};"), "which nothing has"),
        (format!("forbid {HEAD} when {{ context.time.hour > 23 }};"), "is ever met"),
        (format!("forbid {HEAD} when {{ resource has reach && resource.reach.rows < 0 }};"), "is ever met"),
        // Cedar's own: the reach need not be known, and an agent answers nothing.
        (format!("forbid {HEAD} when {{ resource.reach.rows > 10 }};"), "reach"),
        ("forbid (principal is Agent, action == Action::\"answer\", resource);".into(), "can never apply"),
        // A condition on the action, and words of answers in a policy about calls.
        ("forbid (principal, action, resource) when { action == Action::\"answer\" };".into(), "answer"),
        ("forbid (principal, action, resource) when { context has answer };".into(), "answer"),
        ("forbid (principal is Person, action, resource);".into(), "Person"),
    ] {
        let found = mistake(&text);
        assert!(found.message.contains(said), "{text}: {found:?}");
        assert!(found.span.is_some(), "{text}: {found:?}");
    }
    let mut taken = tools();
    taken.push(alloc::sync::Arc::new(crate::ToolSpec {
        name: ToolName::parse("answer").unwrap(),
        ..(*tools()[0]).clone()
    }));
    assert!(
        Policies::load(&[], &taken, &agents())
            .unwrap_err()
            .to_string()
            .contains("cannot be the name of a tool")
    );
}

#[test]
fn people_and_groups_that_nobody_is_are_found() {
    let text = format!(
        "forbid {HEAD} unless {{ principal in Group::\"sеnior\" }};
         forbid (principal == Person::\"ann\", action == Action::\"answer\", resource) when {{ resource.asked.contains(\"dbaa\") }};"
    );
    let vocabulary = Vocabulary {
        people: BTreeSet::from(["bob".into()]),
        groups: BTreeSet::from(["senior".into(), "dba".into()]),
        ..Vocabulary::default()
    };
    let found = sample::policies(&text).misnamed(&user(&text), &vocabulary);
    let said: Vec<&str> = found.iter().map(|one| one.error.message.as_str()).collect();
    assert!(found.iter().all(|one| one.certain) && found.len() == 3, "{said:?}");
    for name in ["Group::\"sеnior\"", "Person::\"ann\"", "`dbaa`"] {
        assert!(said.iter().any(|text| text.contains(name)), "{said:?}");
    }
}

/// No action at all goes on meaning calls, and `check` says so where somebody could take it for both.
#[test]
fn a_policy_without_action_is_about_calls_and_says_so_beside_others_about_answers() {
    let plain = "forbid (principal, action, resource);";
    let alone = sample::policies(plain);
    assert_eq!(alone.warnings(), []);
    let who = (&person("ann"), &groups(&["dba"]));
    let asked = request("delete", None);
    let refuse = |policies: &Policies| {
        policies.may_answer((&asked, Effect::Destructive), who, AnswerVerb::Refuse, NOW_MS)
    };
    assert_eq!(refuse(&alone), Ok(()));
    let both = sample::policies(&format!("{plain} forbid {HEAD} when {{ context.answer == \"grant\" }};"));
    assert!(both.warnings()[0].message.contains("about calls alone"), "{:?}", both.warnings());
    assert_eq!(refuse(&both), Ok(()));
    assert_ne!(alone.bundle(), both.bundle(), "what decides whose answers count is part of the bundle");
    let (requester, tool) = (&asked.call.requester, &asked.call.tool);
    let slice = |policies: &Policies| policies.slice(requester, tool, &asked.call.version);
    assert_eq!(slice(&alone), slice(&both), "and not of what decides about a call");
    // What is said of answers denies no call.
    let call = sample::call("read", serde_json::json!({ "id": 1 }));
    let open = sample::policies(&format!("permit (principal, action, resource); forbid {HEAD};"));
    assert!(matches!(crate::decide(&call, &sample::facts(Effect::Read), &open), crate::Decision::Allow(_)));
}

#[test]
fn a_refusal_names_the_policy_and_why() {
    let policies = sample::policies(&format!(
        "@id(\"large\") @because(\"more than a thousand rows are for seniors\")
         forbid {HEAD} when {{ context.answer == \"approve\" && resource has reach && resource.reach.rows > 1000 }}
         unless {{ principal in Group::\"senior\" }};
         @id(\"blows\") forbid {HEAD} when {{ resource.tool == \"update\" && context.time.unix_ms * 9007199254740991 > 0 }};"
    ));
    let may = |tool: &str, reach: Option<Reach>, of: &[&str], verb| {
        let asked = request(tool, reach);
        policies
            .may_answer((&asked, Effect::Destructive), (&person("ann"), &groups(of)), verb, NOW_MS)
            .map_err(|why| why.to_string())
    };
    let large = || Some(sample::reach(1_001));
    assert_eq!(
        may("delete", large(), &["dba"], AnswerVerb::Approve).unwrap_err(),
        "policy `mine:large` forbids `ann` to approve this request: more than a thousand rows are for seniors"
    );
    for verb in [AnswerVerb::Refuse, AnswerVerb::Narrow, AnswerVerb::LookCloser] {
        assert_eq!(may("delete", large(), &["dba"], verb), Ok(()));
    }
    assert_eq!(may("delete", large(), &["dba", "senior"], AnswerVerb::Approve), Ok(()));
    assert_eq!(may("delete", Some(sample::reach(1_000)), &["dba"], AnswerVerb::Approve), Ok(()));
    // More than any number.
    let endless = Some(Reach { unbounded: true, ..sample::reach(0) });
    assert!(may("delete", endless, &["dba"], AnswerVerb::Approve).is_err());
    // What is not known is not taken for little.
    let unknown = may("delete", None, &["dba"], AnswerVerb::Approve).unwrap_err();
    assert!(
        unknown.contains("`mine:large` cannot be judged") && unknown.contains("not measured"),
        "{unknown}"
    );
    assert_eq!(may("delete", None, &["senior"], AnswerVerb::Approve), Ok(()));
    assert_eq!(may("delete", None, &["dba"], AnswerVerb::Refuse), Ok(()));
    let failed = may("update", large(), &["senior"], AnswerVerb::Refuse).unwrap_err();
    assert!(failed.contains("`mine:blows` could not be evaluated"), "{failed}");
    // A tool that is not there any more.
    let mut gone = request("delete", large());
    gone.call.tool = ToolName::parse("gone").unwrap();
    let asked = (&gone, Effect::Write);
    assert!(matches!(
        policies.may_answer(asked, (&person("ann"), &groups(&["senior"])), AnswerVerb::Approve, NOW_MS),
        Err(AnswerRefusal::NotJudged(_))
    ));
}

/// A question about one answer.
#[derive(Debug, Clone)]
struct Draw {
    person: &'static str,
    groups: Vec<&'static str>,
    verb: AnswerVerb,
    tool: &'static str,
    effect: Effect,
    agent: &'static str,
    teams: Vec<&'static str>,
    on_behalf_of: Option<&'static str>,
    narrowed_by: Option<&'static str>,
    rows: Option<(u64, bool)>,
    at_ms: i64,
}

/// People, groups, agents, teams and tools that share their names, and look like words of ours.
const NAMES: &[&str] =
    &["ann", "senior", "Group", "bot", "finance", "answer", "read", "approve", "Senior", "ann:x"];

/// A condition, whether it looks at the reach, and what it says: `None` where it fails.
type Atom = (&'static str, bool, fn(&Draw) -> Option<bool>);

const ATOMS: &[Atom] = &[
    ("true", false, |_| Some(true)),
    ("context.answer == \"approve\"", false, |d| Some(d.verb == AnswerVerb::Approve)),
    ("[\"grant\", \"look_closer\"].contains(context.answer)", false, |d| {
        Some(matches!(d.verb, AnswerVerb::Grant | AnswerVerb::LookCloser))
    }),
    ("principal in Group::\"senior\"", false, |d| Some(d.groups.contains(&"senior"))),
    ("!(principal in Group::\"ann\")", false, |d| Some(!d.groups.contains(&"ann"))),
    ("principal in Group::\"sеnior\"", false, |_| Some(false)),
    ("principal == Person::\"senior\"", false, |d| Some(d.person == "senior")),
    ("principal.id == \"ann\"", false, |d| Some(d.person == "ann")),
    ("resource.agent == Agent::\"intern\"", false, |d| Some(d.agent == "intern")),
    ("resource.agent in Team::\"finance\"", false, |d| Some(d.teams.contains(&"finance"))),
    ("Agent::\"outsider\" in Team::\"sales\"", false, |d| {
        Some(d.agent != "outsider" || d.teams.contains(&"sales"))
    }),
    ("resource in Environment::\"production\"", false, |d| Some(d.tool != "update")),
    ("resource.system.kind == \"http\"", false, |d| Some(d.tool == "refund")),
    ("System::\"stage\".environment == \"staging\"", false, |_| Some(true)),
    ("resource.effect == \"read\"", false, |d| Some(d.effect == Effect::Read)),
    ("resource.asked.contains(\"dba\")", false, |_| Some(true)),
    ("resource has on_behalf_of && resource.on_behalf_of == principal.id", false, |d| {
        Some(d.on_behalf_of == Some(d.person))
    }),
    ("resource has narrowed_by && resource.narrowed_by == \"ann\"", false, |d| {
        Some(d.narrowed_by == Some("ann"))
    }),
    ("context.time.hour < 8", false, |d| Some(d.at_ms.div_euclid(3_600_000).rem_euclid(24) < 8)),
    ("context.time.unix_ms * 9007199254740991 != 1", false, |d| {
        d.at_ms.checked_mul(9_007_199_254_740_991).map(|_| true)
    }),
    ("(if resource has reach then resource.reach.rows > 10 else false)", true, |d| {
        Some(d.rows.is_some_and(|(rows, unbounded)| unbounded || rows > 10))
    }),
    ("(if resource has reach then resource.reach.rows + 1 > 0 else false)", true, |d| {
        d.rows.map_or(Some(false), |(_, unbounded)| if unbounded { None } else { Some(true) })
    }),
    ("(if resource has reach then resource.reach.rows == 0 else true)", true, |d| {
        Some(d.rows.is_none_or(|(rows, unbounded)| rows == 0 && !unbounded))
    }),
];

fn draw() -> impl Strategy<Value = Draw> {
    let names = || select(NAMES);
    let who = (names(), prop::collection::vec(names(), 0..4), select(&AnswerVerb::ALL[..]));
    let agent = (select(vec!["bot", "intern", "outsider"]), prop::collection::vec(names(), 0..3));
    let tool =
        (select(vec!["read", "delete", "update", "refund"]), select(vec![Effect::Read, Effect::Write]));
    let beside = (prop::option::of(names()), prop::option::of(names()));
    let rows = prop::option::of((select(vec![0, 1, 10, 11, 5_000]), any::<bool>()));
    (who, agent, tool, beside, rows, select(vec![0, NOW_MS, NOW_MS + 36_000_000, -1, i64::MIN, i64::MAX]))
        .prop_map(
            |(
                (person, groups, verb),
                (agent, teams),
                (tool, effect),
                (on_behalf_of, narrowed_by),
                rows,
                at_ms,
            )| Draw {
                person,
                groups,
                verb,
                tool,
                effect,
                agent,
                teams,
                on_behalf_of,
                narrowed_by,
                rows,
                at_ms,
            },
        )
}

/// As [`Policies::may_answer`] should say, told of each policy by itself and without Cedar. A condition fails where one before
/// it does not end it.
fn oracle(policies: &[Vec<usize>], draw: &Draw) -> bool {
    let blind = draw.rows.is_none() && draw.effect != Effect::Read;
    policies.iter().all(|atoms| {
        let says = |keep: &dyn Fn(bool) -> bool| {
            for (_, _, said) in atoms.iter().map(|at| ATOMS[*at]).filter(|(_, reach, _)| keep(*reach)) {
                match said(draw) {
                    Some(true) => {}
                    Some(false) => return false,
                    None => return true,
                }
            }
            true
        };
        let looks = atoms.iter().any(|at| ATOMS[*at].1);
        let forbidden = says(&|_| true);
        let unknown = blind && looks && says(&|reach| !reach);
        !(forbidden || unknown)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn an_answer_is_forbidden_by_what_a_naive_reading_says_and_by_nothing_else(
        policies in prop::collection::vec(prop::collection::vec(0..ATOMS.len(), 1..4), 0..4),
        draws in prop::collection::vec(draw(), 12),
    ) {
        let text = policies.iter().map(|atoms| {
            let conditions: Vec<&str> = atoms.iter().map(|at| ATOMS[*at].0).collect();
            format!("forbid {HEAD} when {{ {} }};", conditions.join(" && "))
        }).collect::<Vec<_>>().join("\n");
        let Ok(loaded) = Policies::load(&[PolicySource::user("mine", text.clone())], &tools(), &agents()) else {
            // Two conditions that the types alone tell apart.
            return Ok(());
        };
        for draw in draws {
            let mut asked = request(draw.tool, draw.rows.map(|(rows, unbounded)| Reach { unbounded, ..sample::reach(rows) }));
            asked.call.requester = Requester {
                teams: draw.teams.iter().map(|team| TeamName::parse(team).unwrap()).collect(),
                on_behalf_of: draw.on_behalf_of.map(person),
                ..sample::requester(draw.agent)
            };
            asked.call.narrowed = draw.narrowed_by.map(|by| Narrowed {
                from: ApprovalId::parse("apr-0").unwrap(),
                by: person(by),
                why: None,
                free: false,
                less: false,
            });
            let who = (&person(draw.person), &groups(&draw.groups));
            let said = loaded.may_answer((&asked, draw.effect), who, draw.verb, draw.at_ms);
            prop_assert_eq!(said.is_ok(), oracle(&policies, &draw), "{}\n{:?}\n{:?}", text, draw, said);
        }
    }
}
