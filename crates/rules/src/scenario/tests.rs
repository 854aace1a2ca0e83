//! The scenarios of this repository, and the golden matrix of the default pack.

use std::{borrow::ToOwned as _, fs, path::PathBuf};

use super::*;
use crate::matrix::matrix;

/// For after launch: reversible writes outside production run without a person.
const REVERSIBLE_PACK: &str = include_str!("../../../../policies/reversible.cedar");

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios"))
}

fn read(name: &str) -> Scenario {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    toml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

const NO_TOOLS: &[Arc<ToolSpec>] = &[];
const NO_AGENTS: &[AgentSpec] = &[];

fn deployment(sources: &[PolicySource]) -> Deployment<'_> {
    Deployment { observer: &(), sources, tools: NO_TOOLS, agents: NO_AGENTS }
}

/// Runs a file; every case must hold. Returns the policies that applied somewhere.
fn holds(name: &str, sources: &[PolicySource]) -> BTreeSet<PolicyId> {
    let report = read(name).check(&deployment(sources)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(report.mismatches.is_empty(), "{name}: {:#?}", report.mismatches);
    assert!(report.cases > 0);
    report.matched
}

fn ids(sources: &[PolicySource]) -> BTreeSet<String> {
    let text: String = sources.iter().map(|s| s.text.as_str()).collect();
    text.lines().filter_map(|l| l.strip_prefix("@id(\"")?.strip_suffix("\")")).map(String::from).collect()
}

#[test]
fn every_policy_of_floor_and_default_pack_has_a_scenario() {
    let sources = [PolicySource::floor(), PolicySource::default_pack()];
    let matched = holds("default.toml", &sources);
    let matched: BTreeSet<String> =
        matched.iter().filter_map(|id| id.as_str().split_once(':')).map(|(_, id)| id.to_owned()).collect();
    assert_eq!(matched, ids(&sources));
}

#[test]
fn the_reversible_pack_lets_bounded_reversible_writes_run() {
    let default = PolicySource::default_pack();
    // As its comment says: in place of the policy `writes`, which is the last one.
    let (kept, _) = default.text.split_once("// At launch every write asks").unwrap();
    let sources = [
        PolicySource { text: kept.to_owned(), ..default.clone() },
        PolicySource { name: "reversible".into(), text: REVERSIBLE_PACK.into(), ..default },
    ];
    let matched = holds("reversible.toml", &sources);
    for id in ["reversible:reversible-writes", "reversible:other-writes"] {
        assert!(matched.contains(&PolicyId::parse(id).unwrap()), "{id}");
    }
}

#[test]
fn every_file_is_run_by_a_test() {
    let files: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        files,
        BTreeSet::from(["default.toml".into(), "history.toml".into(), "reversible.toml".into()])
    );
}

#[test]
fn many_small_actions_are_judged_as_one_large_one() {
    holds("history.toml", &[PolicySource::default_pack()]);
}

#[test]
fn the_matrix_of_the_default_pack_is_as_committed() {
    let sources = [PolicySource::default_pack()];
    let scenario = read("default.toml");
    let deployment = deployment(&sources);
    let tools = scenario.tools(&deployment).unwrap();
    let policies = Policies::load(&sources, &tools, &scenario.agents(&deployment)).unwrap();
    insta::with_settings!({
        snapshot_path => "../../../../policies",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("matrix", matrix(&policies));
    });
}

#[test]
fn a_wrong_expectation_is_reported() {
    let wrong = r#"
        version = 1
        [agent.bot]
        accounts = ["acme"]
        [tool.read]
        system = { name = "db", kind = "sqlite", environment = "production", account = "acme" }
        effect = "read"
        [[case]]
        name = "answer"
        agent = "bot"
        tool = "read"
        expect = { answer = "deny" }
        [[case]]
        name = "rest"
        agent = "bot"
        tool = "read"
        expect = { answer = "allow", policies = [], groups = { dba = 1 }, because = "x", rows_max = 1 }
    "#;
    let scenario: Scenario = toml::from_str(wrong).unwrap();
    let report = scenario.check(&deployment(&[PolicySource::default_pack()])).unwrap();
    let fields: Vec<&str> = report.mismatches.iter().map(|m| m.field).collect();
    assert_eq!(fields, ["answer", "policies", "groups", "because", "rows_max"]);
}

#[test]
fn the_examples_of_the_manual_are_true() {
    let manual = include_str!("../../../../docs/policies.md");
    let examples = |language: &str| -> Vec<String> {
        let open = format!("```{language}\n");
        manual
            .split(open.as_str())
            .skip(1)
            .filter_map(|rest| Some(rest.split_once("```")?.0.to_owned()))
            .collect()
    };
    let cedar = examples("cedar").concat();
    let scenario = read("default.toml");
    let folder = deployment(&[]);
    let (tools, agents) = (scenario.tools(&folder).unwrap(), scenario.agents(&folder));
    let sources = [PolicySource::default_pack(), PolicySource::user("manual", cedar)];
    Policies::load(&sources, &tools, &agents).unwrap_or_else(|e| panic!("{e}"));

    let [case] = examples("toml").try_into().unwrap();
    let case: Scenario = toml::from_str(&case).unwrap();
    let folder = Deployment { observer: &(), sources: &sources[..1], tools: &tools, agents: &agents };
    assert_eq!(case.check(&folder).unwrap().mismatches, []);
}

#[test]
fn a_question_is_a_case_without_an_answer() {
    let scenario = read("default.toml");
    let folder = deployment(&[]);
    let (tools, agents) = (scenario.tools(&folder).unwrap(), scenario.agents(&folder));
    let text = r#"{ "agent": "billing-bot", "tool": "get_invoice", "arguments": { "id": 1 } }"#;
    let question: Question = serde_json::from_str(text).unwrap();
    let (call, facts) = question.call(&tools, &agents, &()).unwrap();
    assert_eq!((call.tool.name.as_str(), facts.effect), ("get_invoice", Effect::Read));
    let wrong: Question = serde_json::from_str(&text.replace("1", "true")).unwrap();
    assert!(wrong.call(&tools, &agents, &()).unwrap_err().to_string().contains("`/id`"));
    assert!(serde_json::from_str::<Question>(&text.replace("agent", "agnet")).is_err());
}

#[test]
fn a_scenario_that_does_not_fit_is_refused() {
    let with = |change: (&str, &str)| -> Result<(), String> {
        let good = r#"
            version = 1
            [agent.bot]
            [tool.read]
            system = { name = "db", kind = "sqlite", environment = "production", account = "acme" }
            effect = "read"
            arguments = { id = { type = "integer" } }
            [[case]]
            name = "one"
            agent = "bot"
            tool = "read"
            arguments = { id = 1 }
            expect = { answer = "deny" }
        "#;
        assert!(change.0.is_empty() || good.contains(change.0), "{}", change.0);
        let scenario: Scenario =
            toml::from_str(&good.replace(change.0, change.1)).map_err(|e| e.to_string())?;
        scenario.check(&deployment(&[])).map(|_| ()).map_err(|e: BadScenario| e.to_string())
    };
    with(("version = 1", "version = 1")).unwrap();
    for change in [
        ("version = 1", "version = 2"),
        ("version = 1", "version = 1\nverison = 1"),
        ("agent = \"bot\"", "agent = \"bto\""),
        ("tool = \"read\"", "tool = \"raed\""),
        ("arguments = { id = 1 }", "arguments = { id = \"1\" }"),
        ("arguments = { id = 1 }", "arguments = { }"),
        ("type = \"integer\"", "type = \"int\""),
        ("answer = \"deny\"", "answer = \"no\""),
        ("arguments = { id = 1 }", "arguments = { id = 1 }\nfacts = { efect = \"read\" }"),
        ("arguments = { id = 1 }", "arguments = { id = 1 }\nfacts = { reach = { row = 1 } }"),
    ] {
        assert!(with(change).is_err(), "{change:?}");
    }
}

/// Users read these texts, and look for them: they are the same in each release.
#[test]
fn each_way_not_to_fit_has_its_words() {
    let tool = ToolName::parse("refund").unwrap();
    let euro = |minor| Money { currency: "EUR".parse().unwrap(), minor };
    let (eve, bot) = (PersonId::parse("eve").unwrap(), AgentId::parse("bot").unwrap());
    let acts_for = |known| BadCase::OnBehalfOf { given: eve.clone(), agent: bot.clone(), known };
    let ada = PersonId::parse("ada").unwrap();
    let (at, said) = ("facts.reach", euro(150));
    for (why, words) in [
        (BadCase::Twice, "two cases have this name"),
        (BadCase::NoTool(tool.clone()), "there is no tool `refund`"),
        (BadCase::NoAgent(bot.clone()), "there is no agent `bot`"),
        (acts_for(None), "`on_behalf_of` says `eve`, and agent `bot` acts for nobody: leave it out"),
        (acts_for(Some(ada)), "`on_behalf_of` says `eve`, and agent `bot` acts for `ada`: leave it out"),
        (
            BadCase::AmountOfNothing { amount: said, tool: tool.clone() },
            "`facts.reach.amount` says 1.50 EUR, and nothing tells what such a call of `refund` moves: leave it out",
        ),
        (
            BadCase::Rows { at, said: 7, rows: 1 },
            "`facts.reach.rows` says 7, and such a call touches 1: leave it out",
        ),
        (
            BadCase::AmountUntold { at, said, tool: tool.clone() },
            "`facts.reach.amount` says 1.50 EUR, and tool `refund` tells no amount: leave it out",
        ),
        (
            BadCase::AmountTold { at, said, told: euro(7) },
            "`facts.reach.amount` says 1.50 EUR, and the call moves 0.07 EUR: leave it out",
        ),
        (
            BadCase::Currency { at, said, tool: tool.clone(), currency: Some("USD".parse().unwrap()) },
            "`facts.reach.amount` says 1.50 EUR, and tool `refund` moves USD",
        ),
        (
            BadCase::AmountUnsaid { at, tool },
            "`facts.reach` has no `amount`, and a call of `refund` is never judged without what its system tells: say it",
        ),
        (
            BadCase::Effect { said: Effect::Read, seen: Effect::Write },
            "`facts.effect` says `read`, and the call is seen to be `write`: leave it out",
        ),
        (
            BadCase::Category("money".into()),
            "`facts.categories` says `money`, and the call is not seen to be that: leave it out",
        ),
        (
            BadCase::Reversible { seen: true },
            "`facts.reversible` says otherwise than what is seen of the call, `true`: leave it out",
        ),
        (
            BadCase::Statement,
            "`facts.statement` says otherwise than what is seen of the statement: leave it out",
        ),
        (
            BadCase::Signer { person: eve.clone(), group: GroupName::parse("dba").unwrap() },
            "`facts.approval.signers` has `eve` in group `dba`, and the folder has not",
        ),
    ] {
        assert_eq!(why.to_string(), words);
        let whole = BadScenario::Case { case: "one".into(), why };
        assert_eq!(whole.to_string(), format!("case `one`: {words}"));
    }
    assert_eq!(BadScenario::Version(2).to_string(), "version 2 is not 1");
    assert_eq!(BadScenario::NoCase.to_string(), "a scenario without a case shows nothing");
    let why = Arguments::parse(&serde_json::json!({ "n": { "type": "int" } })).unwrap_err();
    let words = format!("tool `a`: arguments: {why}");
    assert_eq!(BadScenario::Tool { tool: ToolName::parse("a").unwrap(), why }.to_string(), words);
}
