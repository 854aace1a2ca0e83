use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec,
    vec::Vec,
};

use serde_json::json;

use super::*;
use crate::{
    Currency, Money, PersonId, PolicySource, Reach, StatementFacts,
    sample::{self, NOW_MS, approval, call, default_pack, facts, policies, reach},
};

const ALL: &str = "permit (principal, action, resource);";

fn denied_by(decision: &Decision) -> Vec<&str> {
    match decision {
        Decision::Deny(deny) => deny.policies.iter().map(PolicyId::as_str).collect(),
        Decision::Allow(_) | Decision::Ask(_) => panic!("{decision:?}"),
    }
}

fn reason(decision: &Decision) -> &DenyReason {
    match decision {
        Decision::Deny(deny) => &deny.reason,
        Decision::Allow(_) | Decision::Ask(_) => panic!("{decision:?}"),
    }
}

fn asked(decision: &Decision) -> &Ask {
    match decision {
        Decision::Ask(ask) => ask,
        Decision::Allow(_) | Decision::Deny(_) => panic!("{decision:?}"),
    }
}

fn rows_max(decision: &Decision) -> Option<u64> {
    match decision {
        Decision::Allow(allow) => allow.rows_max,
        Decision::Ask(_) | Decision::Deny(_) => panic!("{decision:?}"),
    }
}

fn read() -> Call<()> {
    call("read", json!({ "id": 1 }))
}

fn delete() -> Call<()> {
    call("delete", json!({ "before": "2026-02-01" }))
}

#[test]
fn the_strictest_matching_answer_wins() {
    let read_facts = facts(Effect::Read);
    let cases = [
        ("", "deny"),
        ("permit (principal, action, resource);", "allow"),
        ("permit (principal, action, resource); @ask(\"dba\") permit (principal, action, resource);", "ask"),
        (
            "permit (principal, action, resource); @ask(\"dba\") permit (principal, action, resource);
             forbid (principal, action, resource);",
            "deny",
        ),
        ("permit (principal, action == Action::\"query\", resource);", "deny"),
        (
            "permit (principal in Team::\"finance\", action, resource in Environment::\"production\");",
            "allow",
        ),
        ("permit (principal in Team::\"sales\", action, resource);", "deny"),
        ("permit (principal, action in Action::\"call\", resource in Account::\"acme\");", "allow"),
    ];
    for (text, answer) in cases {
        assert_eq!(decide(&read(), &read_facts, &policies(text)).as_str(), answer, "{text}");
    }
}

#[test]
fn nothing_permits_without_a_policy() {
    assert_eq!(reason(&decide(&read(), &facts(Effect::Read), &policies(""))), &DenyReason::NothingPermits);
}

#[test]
fn the_floor_blocks_whoever_approves() {
    let text = "permit (principal, action, resource);";
    let rules = policies(text);
    let foreign = call("foreign", json!({}));
    assert_eq!(denied_by(&decide(&foreign, &facts(Effect::Read), &rules)), ["floor:other-account"]);
    for (category, effect, blocked) in [
        ("encryption_keys", Effect::Read, true),
        ("credentials", Effect::Read, true),
        ("credentials", Effect::Write, true),
        ("audit_log", Effect::Read, false),
        ("audit_log", Effect::Write, true),
        ("policy", Effect::Read, false),
        ("policy", Effect::Destructive, true),
        ("schema", Effect::Destructive, false),
    ] {
        let mut facts = facts(effect);
        facts.categories.insert(category.into());
        facts.approval = Some(approval(&[("ann", "dba"), ("bob", "approvers")], None));
        let decision = decide(&call("query", json!({ "sql": "" })), &facts, &rules);
        assert_eq!(decision.as_str() == "deny", blocked, "{category} {effect}");
    }
}

#[test]
fn an_agent_that_is_not_configured_acts_in_no_account() {
    let mut call = read();
    call.requester = sample::requester("stranger");
    assert_eq!(denied_by(&decide(&call, &facts(Effect::Read), &policies(ALL))), ["floor:other-account"]);
}

#[test]
fn the_teams_of_the_requester_count_not_those_of_a_namesake() {
    let rules = policies("permit (principal in Team::\"finance\", action, resource);");
    let mut call = read();
    assert_eq!(decide(&call, &facts(Effect::Read), &rules).as_str(), "allow");
    call.requester.teams = Vec::new();
    assert_eq!(decide(&call, &facts(Effect::Read), &rules).as_str(), "deny");
}

#[test]
fn an_error_in_any_policy_denies_and_tells_no_values() {
    let overflow = "permit (principal, action, resource) when { context.session.rows * 9007199254740991 * 9007199254740991 > 0 };";
    let forbid = "forbid (principal, action, resource) when { context.session.rows * 9007199254740991 * 9007199254740991 < 0 };";
    let elsewhere = "permit (principal, action == Action::\"query\", resource)
                     when { context.session.rows * 9007199254740991 * 9007199254740991 > 0 };";
    let mut busy = facts(Effect::Read);
    busy.session.rows = 4_242;
    for text in [overflow, forbid] {
        let decision = decide(&read(), &busy, &policies(&[ALL, text].concat()));
        let DenyReason::EvaluationError { message } = reason(&decision) else { panic!("{decision:?}") };
        assert!(message.contains("`mine:2`") && !message.contains("4242"), "{message}");
        assert!(denied_by(&decision).is_empty());
    }
    let decision = decide(&read(), &busy, &policies(&[ALL, elsewhere].concat()));
    assert_eq!(decision.as_str(), "allow", "a policy for another tool is not evaluated");
}

#[test]
fn what_would_fail_later_does_not_load() {
    let load = |text: &str| Policies::load(&sample::user(text), &sample::tools(), &sample::agents());
    for (text, said) in [
        ("permit (principal, action, resource) when { context.reach.rows > 1 };", "reach"),
        ("permit (principal, action, resource) when { context.args.amount > 1 };", "amount"),
        ("permit (principal, action, resource) when { context.effect > 1 };", "Long"),
        ("permit (principal, action == Action::\"drop\", resource);", "drop"),
        ("permit (principal is User, action, resource);", "User"),
        (
            "permit (principal, action == Action::\"refund\", resource) when { context.args.share > 1 };",
            "share",
        ),
        ("permit (principal, action, resource) when { context.speed == 1 };", "speed"),
    ] {
        let errors = load(text).unwrap_err().0;
        assert!(errors.iter().any(|e| e.to_string().contains(said)), "{text}: {errors:?}");
        assert!(errors.iter().all(|e| e.file == "mine" && e.span.is_some()), "{text}: {errors:?}");
    }
    load("permit (principal, action == Action::\"refund\", resource) when { context.args.amount < 100 };")
        .unwrap();
    load(
        "forbid (principal, action == Action::\"refund\", resource)
         when { context.args has share && context.args.share.greaterThan(decimal(\"0.5\")) };",
    )
    .unwrap();
    // Most tools have no such argument: the policy must say which it is about.
    load("forbid (principal, action, resource) when { context.args has amount && context.args.amount > 1 };")
        .unwrap_err();
}

#[test]
fn the_floor_cannot_be_replaced() {
    let mut fake = PolicySource::floor();
    fake.text = "permit (principal, action, resource);".into();
    assert!(Policies::load(&[fake], &sample::tools(), &sample::agents()).is_err());
    let named = PolicySource::user("floor.cedar", ALL);
    assert!(Policies::load(&[named], &sample::tools(), &sample::agents()).is_err());
    let given = Policies::load(&[PolicySource::floor()], &sample::tools(), &sample::agents()).unwrap();
    assert_eq!(given.bundle(), policies("").bundle());
}

#[test]
fn asks_are_merged_by_group_with_the_strictest_terms() {
    let rules = policies(
        "@id(\"a\") @ask(\"dba\") @deadline(\"2h\") @because(\"it deletes\") permit (principal, action, resource);
         @id(\"b\") @ask(\"dba\") @quorum(\"2\") @deadline(\"1h\") @because(\"two eyes\") permit (principal, action, resource);
         @id(\"c\") @ask(\"dba\") @because(\"it deletes\") @deadline(\"3h\") permit (principal, action, resource);
         @id(\"d\") @ask(\"security\") permit (principal, action, resource);
         @id(\"e\") permit (principal, action, resource);",
    );
    let decision = decide(&delete(), &facts(Effect::Destructive), &rules);
    let ask = asked(&decision);
    let ids: Vec<&str> = ask.policies.iter().map(PolicyId::as_str).collect();
    assert_eq!(ids, ["mine:a", "mine:b", "mine:c", "mine:d"]);
    let of: Vec<_> =
        ask.of.iter().map(|a| (a.group.as_str(), a.quorum, a.deadline_ms, a.policy.as_str())).collect();
    assert_eq!(of, [("dba", 2, 3_600_000, "mine:b"), ("security", 1, 900_000, "mine:d")]);
    assert!(ask.of[0].because.as_deref().unwrap().contains("two eyes"));
}

const TWO_DBA: &str = "@ask(\"dba\") @quorum(\"2\") permit (principal, action, resource);";

#[test]
fn an_approval_that_fits_lets_the_call_through_once_more_decided() {
    let rules = policies(TWO_DBA);
    let mut facts = facts(Effect::Destructive);
    facts.reach = Some(reach(40));
    facts.approval = Some(approval(&[("ann", "dba"), ("bob", "dba")], Some(reach(41))));
    assert_eq!(rows_max(&decide(&delete(), &facts, &rules)), Some(41));
    facts.reach = None;
    facts.approval = Some(approval(&[("ann", "dba"), ("bob", "dba")], None));
    assert_eq!(rows_max(&decide(&delete(), &facts, &rules)), None);
}

#[test]
fn an_approval_or_a_grant_without_passkeys_answers_no_policy_that_wants_them() {
    let rules = policies(
        "@id(\"plain\") @ask(\"dba\") @quorum(\"2\") @grant(\"5 calls in 1h\") permit (principal, action, resource);\
         @id(\"careful\") @ask(\"dba\") @step_up(\"passkey\") @grant(\"5 calls in 1h\") permit (principal, action, resource);",
    );
    let mut facts = facts(Effect::Destructive);
    facts.reach = Some(reach(40));
    let ask = decide(&delete(), &facts, &rules);
    let careful = Some(PolicyId::parse("mine:careful").unwrap());
    assert_eq!((asked(&ask).of[0].policy.as_str(), &asked(&ask).of[0].step_up), ("mine:plain", &careful));
    for grant in [false, true] {
        let given = ApprovalFact { grant, ..approval(&[("ann", "dba"), ("bob", "dba")], Some(reach(40))) };
        facts.approval = Some(given.clone());
        assert_eq!(decide(&delete(), &facts, &rules), ask, "{grant}");
        facts.approval = Some(ApprovalFact { stepped_up: true, ..given });
        assert_eq!(rows_max(&decide(&delete(), &facts, &rules)), Some(40), "{grant}");
    }
}

#[test]
fn an_approval_that_does_not_fit_changes_nothing() {
    let rules = policies(TWO_DBA);
    let shown = || Some(reach(40));
    let two: &[(&str, &str)] = &[("ann", "dba"), ("bob", "dba")];
    let money = |code: &str, minor| Some(Money { currency: code.parse::<Currency>().unwrap(), minor });
    type Change = fn(&mut Facts);
    let attacks: Vec<(&str, ApprovalFact, Change)> = vec![
        ("wrong group", approval(&[("ann", "dba"), ("bob", "sales")], shown()), |_| {}),
        ("same person twice", approval(&[("ann", "dba"), ("ann", "dba")], shown()), |_| {}),
        ("one too few", approval(&[("ann", "dba")], shown()), |_| {}),
        ("nobody", approval(&[], shown()), |_| {}),
        ("the agent itself", approval(&[("ann", "dba"), ("bot", "dba")], shown()), |_| {}),
        ("expired", approval(two, shown()), |f| f.now_ms = NOW_MS + 1),
        ("larger reach", approval(two, Some(reach(39))), |_| {}),
        ("no reach shown", approval(two, None), |_| {}),
        ("reach not measured now", approval(two, shown()), |f| f.reach = None),
        ("another trigger", approval(two, shown()), |f| {
            f.reach.as_mut().unwrap().triggers.push("notify_customer".into());
        }),
        ("another table", approval(two, shown()), |f| {
            let reach = f.reach.as_mut().unwrap();
            reach.tables = [("customer".into(), 40)].into_iter().collect();
        }),
        ("only an estimate", approval(two, shown()), |f| {
            let reach = f.reach.as_mut().unwrap();
            reach.exact = false;
            reach.rows = 1;
        }),
        ("without end", approval(two, shown()), |f| f.reach.as_mut().unwrap().unbounded = true),
        ("another currency", approval(two, Some(Reach { amount: money("EUR", 100), ..reach(40) })), |f| {
            f.reach.as_mut().unwrap().amount = Some(Money { currency: "USD".parse().unwrap(), minor: 1 })
        }),
        ("more money", approval(two, Some(Reach { amount: money("EUR", 100), ..reach(40) })), |f| {
            f.reach.as_mut().unwrap().amount = Some(Money { currency: "EUR".parse().unwrap(), minor: 101 });
        }),
        ("the amount gone", approval(two, Some(Reach { amount: money("EUR", 100), ..reach(40) })), |_| {}),
    ];
    for (name, approval, change) in attacks {
        let mut facts = facts(Effect::Destructive);
        facts.reach = Some(reach(40));
        facts.approval = Some(approval);
        change(&mut facts);
        let decision = decide(&delete(), &facts, &rules);
        assert_eq!(decision.as_str(), "ask", "{name}: {decision:?}");
    }
}

#[test]
fn who_the_agent_acts_for_cannot_approve() {
    let rules = policies(TWO_DBA);
    let mut call = delete();
    call.requester.on_behalf_of = Some(PersonId::parse("bob").unwrap());
    let mut facts = facts(Effect::Destructive);
    facts.approval = Some(approval(&[("ann", "dba"), ("bob", "dba")], None));
    assert_eq!(decide(&call, &facts, &rules).as_str(), "ask");
}

#[test]
fn one_group_does_not_answer_for_another() {
    let rules = policies(
        "@ask(\"dba\") permit (principal, action, resource);
         @ask(\"security\") permit (principal, action, resource) when { context has reach && context.reach.rows > 10 };",
    );
    let mut facts = facts(Effect::Destructive);
    facts.reach = Some(reach(40));
    facts.approval = Some(approval(&[("ann", "dba")], Some(reach(40))));
    assert_eq!(asked(&decide(&delete(), &facts, &rules)).of.len(), 2);
    facts.approval = Some(approval(&[("ann", "dba"), ("eve", "security")], Some(reach(40))));
    assert_eq!(decide(&delete(), &facts, &rules).as_str(), "allow");
}

#[test]
fn a_forbid_beats_an_approval() {
    let rules = default_pack();
    let mut facts = facts(Effect::Destructive);
    facts.reach = Some(reach(14_200));
    facts.approval = Some(approval(&[("ann", "approvers")], Some(reach(14_200))));
    let decision = decide(&delete(), &facts, &rules);
    assert_eq!(denied_by(&decision), ["default:deletes-over-500-rows"]);
    facts.reach = Some(reach(500));
    assert_eq!(decide(&delete(), &facts, &rules).as_str(), "allow");
}

#[test]
fn policies_see_an_approval_only_as_far_as_it_counts() {
    let rules = policies(
        "permit (principal, action, resource) when { context has approval && context.approval.groups.contains(\"dba\") };",
    );
    let mut facts = facts(Effect::Destructive);
    facts.approval = Some(approval(&[("ann", "dba")], None));
    assert_eq!(decide(&delete(), &facts, &rules).as_str(), "allow");
    facts.now_ms = NOW_MS + 1;
    assert_eq!(decide(&delete(), &facts, &rules).as_str(), "deny", "expired");
    facts.now_ms = NOW_MS;
    facts.approval = Some(approval(&[("bot", "dba")], None));
    assert_eq!(decide(&delete(), &facts, &rules).as_str(), "deny", "its own signature");
}

#[test]
fn history_is_seen() {
    let rules = policies(
        "permit (principal, action, resource);
         forbid (principal, action, resource) when { context.session.writes >= 50 || context.agent_today.rows > 1000 };
         forbid (principal, action, resource)
         when { context.session.money has EUR && context.session.money.EUR > 10000 };
         forbid (principal, action, resource) when { context.session.tool_count > 1 && context.session.tools.contains(\"query\") };",
    );
    let mut facts = facts(Effect::Read);
    assert!(rules.uses_history(&read().tool.name));
    assert_eq!(decide(&read(), &facts, &rules).as_str(), "allow");
    facts.session.writes = 50;
    assert_eq!(denied_by(&decide(&read(), &facts, &rules)), ["mine:2"]);
    facts.session.writes = 0;
    facts.session.money.insert("USD".parse().unwrap(), 20_000);
    assert_eq!(decide(&read(), &facts, &rules).as_str(), "allow");
    facts.session.money.insert("EUR".parse().unwrap(), u64::MAX);
    assert_eq!(denied_by(&decide(&read(), &facts, &rules)), ["mine:3"]);
    facts.session.money.clear();
    facts.session.tools = ["query", "read"].map(|t| ToolName::parse(t).unwrap()).into();
    assert_eq!(denied_by(&decide(&read(), &facts, &rules)), ["mine:4"]);
}

#[test]
fn arguments_are_typed() {
    let refund = |arguments| call("refund", arguments);
    let rules = policies(
        "permit (principal, action, resource);
         forbid (principal, action == Action::\"refund\", resource) when { context.args.amount > 500 };
         forbid (principal, action == Action::\"refund\", resource)
         when { context.args has share && context.args.share.greaterThan(decimal(\"0.5\")) };",
    );
    let facts = facts(Effect::Write);
    for (arguments, answer) in [
        (json!({ "charge": "a", "amount": 500 }), "allow"),
        (json!({ "charge": "a", "amount": 501 }), "deny"),
        (json!({ "charge": "a", "amount": 500.0 }), "allow"),
        (json!({ "charge": "a", "amount": 501.0 }), "deny"),
        (json!({ "charge": "a", "amount": 1, "share": 0.5 }), "allow"),
        (json!({ "charge": "a", "amount": 1, "share": 0.51 }), "deny"),
        (json!({ "charge": "a", "amount": 1, "share": 1 }), "deny"),
    ] {
        assert_eq!(decide(&refund(arguments.clone()), &facts, &rules).as_str(), answer, "{arguments}");
    }
    for arguments in [
        json!({ "charge": "a", "amount": 18_446_744_073_709_551_615_u64 }),
        json!({ "charge": "a", "amount": 1e30 }),
        json!({ "charge": "a", "amount": "1" }),
        json!({ "charge": "a" }),
        json!({ "charge": "a", "amount": 1, "share": 0.123_45 }),
        json!({ "charge": "a", "amount": 1, "share": 1e300 }),
        json!(null),
    ] {
        let decision = decide(&refund(arguments.clone()), &facts, &rules);
        assert!(matches!(reason(&decision), DenyReason::InvalidRequest { .. }), "{arguments}: {decision:?}");
    }
}

#[test]
fn an_effect_or_version_that_was_not_declared_is_refused() {
    let rules = policies(ALL);
    for decision in
        [decide(&read(), &facts(Effect::Write), &rules), decide(&delete(), &facts(Effect::Read), &rules), {
            let mut call = read();
            let mut tool = (*call.tool).clone();
            tool.version = crate::ToolVersion::parse("v2").unwrap();
            call.tool = Arc::new(tool);
            decide(&call, &facts(Effect::Read), &rules)
        }]
    {
        assert!(matches!(reason(&decision), DenyReason::InvalidRequest { .. }), "{decision:?}");
    }
}

#[test]
fn declared_categories_count_even_when_none_was_observed() {
    let decision = decide(
        &call("refund", json!({ "charge": "a", "amount": 1 })),
        &facts(Effect::Write),
        &default_pack(),
    );
    let ids: Vec<&str> = asked(&decision).policies.iter().map(PolicyId::as_str).collect();
    assert_eq!(ids, ["default:money", "default:writes"]);
}

#[test]
fn reach_is_needed_only_where_it_can_decide() {
    let rules = default_pack();
    let query = call("query", json!({ "sql": "" }));
    assert!(!rules.reach_decides(&query, &facts(Effect::Read)));
    assert!(!rules.reach_decides(&query, &facts(Effect::Write)));
    assert!(rules.reach_decides(&query, &facts(Effect::Destructive)));
    let refund = call("refund", json!({ "charge": "a", "amount": 1 }));
    assert!(!rules.reach_decides(&refund, &facts(Effect::Write)));
}

#[test]
fn a_rule_about_the_reach_is_not_silent_when_nothing_was_measured() {
    let refused = |text: &str, effect| {
        let decision = decide(&call("query", json!({ "sql": "" })), &facts(effect), &policies(text));
        match decision {
            Decision::Deny(deny) if deny.reason == DenyReason::ReachUnknown => deny.policies.len(),
            Decision::Allow(_) | Decision::Ask(_) | Decision::Deny(_) => 0,
        }
    };
    let all = "permit (principal, action, resource);";
    let forbid = "forbid (principal, action, resource) when { context has reach && context.reach.rows > 5 };";
    let ask = "@ask(\"dba\") permit (principal, action, resource) when { context has reach && context.reach.rows > 5 };";
    let permit = "permit (principal, action, resource) when { context has reach && context.reach.rows < 5 };";
    let elsewhere = "forbid (principal, action, resource)
         when { resource.kind == \"http\" && context has reach && context.reach.rows > 5 };";
    let inside = "forbid (principal, action, resource)
         when { if context has reach then context.reach.rows > 5 else false };";
    for (rules, blocks) in [(forbid, 1), (ask, 1), (inside, 1), (permit, 0), (elsewhere, 0)] {
        let text = [all, rules].concat();
        assert_eq!(refused(&text, Effect::Destructive), blocks, "{rules}");
        assert_eq!(refused(&text, Effect::Read), 0, "{rules}");
    }
    let decision = decide(&delete(), &facts(Effect::Destructive), &default_pack());
    assert_eq!(denied_by(&decision), ["default:deletes-over-500-rows"]);
}

#[test]
fn a_sure_denial_costs_no_measuring() {
    let rules = policies(
        "@ask(\"dba\") permit (principal, action, resource) when { context has reach && context.reach.rows < 10 };
         forbid (principal, action == Action::\"delete\", resource) when { context.session.writes > 1 };",
    );
    let mut busy = facts(Effect::Destructive);
    assert_eq!(rules.forbidden_early(&delete(), &busy), None, "a small reach would be permitted");
    busy.session.writes = 2;
    let deny = rules.forbidden_early(&delete(), &busy).unwrap();
    assert_eq!(deny.policies[0].as_str(), "mine:2");
    let none = policies("permit (principal, action == Action::\"read\", resource);");
    assert_eq!(none.forbidden_early(&delete(), &busy).unwrap().reason, DenyReason::NothingPermits);
}

#[test]
fn tools_are_listed_for_those_who_may_ever_use_them() {
    let rules = policies(
        "permit (principal == Agent::\"bot\", action == Action::\"query\", resource) when { context.effect == \"read\" };
         permit (principal, action == Action::\"delete\", resource) when { context.effect == \"write\" };
         permit (principal in Team::\"sales\", action == Action::\"read\", resource);
         @ask(\"dba\") permit (principal, action == Action::\"update\", resource) when { context has reach };
         permit (principal, action == Action::\"refund\", resource);
         forbid (principal == Agent::\"intern\", action == Action::\"refund\", resource);
         forbid (principal, action == Action::\"refund\", resource) when { context.args.amount > 5 };
         permit (principal, action == Action::\"foreign\", resource);",
    );
    let listed = |agent: &str| -> Vec<String> {
        let agent = AgentId::parse(agent).unwrap();
        let tools = sample::tools();
        let listed = tools.iter().filter(|t| rules.may_ever(&agent, &t.name));
        listed.map(|t| t.name.to_string()).collect()
    };
    assert_eq!(listed("bot"), ["query", "update", "refund"]);
    assert_eq!(listed("intern"), ["update"]);
    assert_eq!(listed("stranger"), [""; 0]);
}

#[test]
fn a_logged_decision_can_be_computed_again() {
    let rules = default_pack();
    let mut facts = facts(Effect::Destructive);
    facts.reach = Some(reach(40));
    facts.session.money.insert("EUR".parse().unwrap(), 5);
    facts.approval = Some(approval(&[("ann", "approvers")], Some(reach(40))));
    let call = delete();
    let logged = decide(&call, &facts, &rules);
    let written = serde_json::to_string(&(&facts, &logged)).unwrap();
    let (facts, logged): (Facts, Decision) = serde_json::from_str(&written).unwrap();
    recompute(&call, &facts, &default_pack(), &logged).unwrap();
    let mut other = facts;
    other.approval = None;
    assert_eq!(recompute(&call, &other, &rules, &logged).unwrap_err().as_str(), "ask");
}

#[test]
fn the_digest_names_meaning_not_layout() {
    let digest = |text: &str| policies(text).bundle().clone();
    assert_eq!(digest(ALL), digest("// a remark\npermit(principal,action,resource) ;"));
    assert_ne!(digest(ALL), digest("@ask(\"dba\") permit (principal, action, resource);"));
    assert_ne!(digest(ALL), digest(""));
    let mut tools = sample::tools();
    let mut changed = (*tools[0]).clone();
    changed.version = crate::ToolVersion::parse("v2").unwrap();
    tools[0] = Arc::new(changed);
    let other = Policies::load(&sample::user(ALL), &tools, &sample::agents()).unwrap();
    assert_ne!(&digest(ALL), other.bundle());
}

/// What a request for `delete` by `bot` of finance is bound to, and what is no matter to it.
#[test]
fn the_slice_names_what_concerns_a_call() {
    const BASE: &str = "@id(\"ask\") @ask(\"dba\") permit (principal in Team::\"finance\", action == Action::\"delete\", resource);
        @id(\"other\") permit (principal, action == Action::\"read\", resource);";
    let slice = |text: &str| {
        let call = delete();
        policies(text).slice(&call.requester, &call.tool.name, &call.tool.version).unwrap()
    };
    let base = slice(BASE);
    for same in [
        format!("// a remark\n{}", BASE.replace("permit (", "permit(\n")),
        BASE.replace("Action::\"read\", resource", "Action::\"read\", resource == System::\"billing\""),
        BASE.replace("@id(\"other\") permit", "@id(\"other\") forbid"),
        BASE.split_inclusive(';').take(1).collect(),
        format!("permit (principal, action == Action::\"update\", resource); {BASE}"),
        format!("{BASE} forbid (principal == Agent::\"intern\", action, resource);"),
        format!("{BASE} forbid (principal in Team::\"sales\", action, resource);"),
        format!("{BASE} forbid (principal is Agent in Team::\"sales\", action, resource);"),
        format!("{BASE} forbid (principal, action in Action::\"category:money\", resource);"),
        format!("{BASE} forbid (principal, action, resource in Environment::\"staging\");"),
        format!("{BASE} forbid (principal, action, resource is System in Account::\"emca\");"),
    ] {
        assert_eq!(slice(&same), base, "{same}");
        assert_ne!(policies(&same).bundle(), policies("").bundle());
    }
    for other in [
        BASE.replace("@ask(\"dba\")", "@ask(\"security\")"),
        BASE.replace("@ask(\"dba\")", "@ask(\"dba\") @quorum(\"2\")"),
        BASE.replace("@ask(\"dba\")", "@ask(\"dba\") @because(\"it is gone then\")"),
        BASE.replace("@id(\"ask\")", "@id(\"asks\")"),
        BASE.replace(
            "Action::\"delete\", resource)",
            "Action::\"delete\", resource) when { context.effect != \"read\" }",
        ),
        BASE.split_inclusive(';').skip(1).collect(),
        format!("{BASE} permit (principal, action, resource);"),
        format!(
            "{BASE} forbid (principal == Agent::\"bot\", action, resource) when {{ context.reversible }};"
        ),
        format!(
            "{BASE} forbid (principal in Agent::\"bot\", action, resource) when {{ context.reversible }};"
        ),
        format!("{BASE} forbid (principal is Agent, action, resource) when {{ context.reversible }};"),
        format!(
            "{BASE} forbid (principal is Agent in Team::\"finance\", action in Action::\"call\", resource);"
        ),
        format!(
            "{BASE} forbid (principal, action in [Action::\"read\", Action::\"delete\"], resource is System);"
        ),
        format!("{BASE} forbid (principal, action, resource in Account::\"acme\");"),
    ] {
        assert_ne!(slice(&other), base, "{other}");
    }
}

/// The tool, its system, the agent, and what the slice's policies read of others.
#[test]
fn the_slice_names_the_tool_the_agent_and_what_conditions_read() {
    const READS_OTHERS: &str = "@ask(\"dba\") permit (principal, action == Action::\"delete\", resource)
        when { Agent::\"outsider\".accounts.contains(\"emca\") && System::\"stage\".kind == \"sqlite\" }
        unless { Action::\"update\" in Action::\"category:money\" && context.reversible };";
    type Edit = fn(&mut Vec<Arc<crate::ToolSpec>>, &mut Vec<crate::AgentSpec>);
    let slice = |text: &str, edit: Edit| {
        let (mut tools, mut agents) = (sample::tools(), sample::agents());
        edit(&mut tools, &mut agents);
        let policies = Policies::load(&sample::user(text), &tools, &agents).unwrap();
        let call = delete();
        policies.slice(&call.requester, &call.tool.name, &call.tool.version)
    };
    let named = |index: usize| sample::tools()[index].name.to_string();
    assert_eq!([named(2), named(3)], ["delete", "update"]);
    // What, whether that matters where policies read nothing of others, and where they do.
    let edits: [(Edit, bool, bool); 10] = [
        (|_, _| (), false, false),
        (
            |tools, _| Arc::make_mut(&mut tools[2]).version = crate::ToolVersion::parse("v2").unwrap(),
            true,
            true,
        ),
        (
            |tools, _| Arc::make_mut(&mut tools[3]).version = crate::ToolVersion::parse("v2").unwrap(),
            false,
            false,
        ),
        (|tools, _| drop(tools.remove(5)), false, false),
        (
            |tools, _| {
                for tool in tools.iter_mut().filter(|tool| tool.system.name.as_str() == "billing") {
                    Arc::make_mut(tool).system.environment = "archive".into();
                }
            },
            true,
            true,
        ),
        (|tools, _| Arc::make_mut(&mut tools[3]).system.kind = "postgres".into(), false, true),
        (|tools, _| Arc::make_mut(&mut tools[3]).categories.extend(["money".to_string()]), false, true),
        (|_, agents| agents[0].accounts.extend(["emca".to_string()]), true, true),
        (|_, agents| agents[0].teams.clear(), true, true),
        (|_, agents| agents[2].accounts.extend(["acme".to_string()]), false, true),
    ];
    for (number, (edit, plain, reading)) in edits.into_iter().enumerate() {
        for (text, matters) in [(ALL, plain), (READS_OTHERS, reading)] {
            assert_eq!(slice(text, edit) != slice(text, |_, _| ()), matters, "{number}: {text}");
        }
    }
}

#[test]
fn doubtful_policies_are_warned_about() {
    let rules = policies("forbid (principal, action in Action::\"category:money\", resource);");
    let said: Vec<String> = rules.warnings().iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|w| w.contains("declared categories only")), "{said:?}");
    assert!(policies(ALL).warnings().is_empty());
    assert!(default_pack().warnings().is_empty());
    assert!(policies("").schema_text().contains("entity System"));
}

#[test]
fn a_rule_about_a_reach_that_cannot_be_measured_is_warned_about() {
    let mut tools = sample::tools();
    for tool in &mut tools {
        let mut blind = (**tool).clone();
        blind.measurable = false;
        *tool = Arc::new(blind);
    }
    let rules = Policies::load(&[PolicySource::default_pack()], &tools, &sample::agents()).unwrap();
    let said: Vec<String> = rules.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("`delete`") && said[0].contains("`default:deletes-over-500-rows`"), "{said:?}");
    assert!(said[1].contains("`query`"), "{said:?}");
}

#[test]
fn time_is_utc() {
    let at = |now_ms: i64, condition: &str| {
        let rules = policies(&alloc::format!("permit (principal, action, resource) when {{ {condition} }};"));
        let mut facts = facts(Effect::Read);
        facts.now_ms = now_ms;
        decide(&read(), &facts, &rules).as_str() == "allow"
    };
    // 2026-11-22 16:27:23 UTC was a Sunday.
    assert!(at(
        1_795_364_843_000,
        "context.time.weekday == 7 && context.time.hour == 16 && context.time.minute == 27"
    ));
    assert!(at(0, "context.time.weekday == 4 && context.time.hour == 0"));
    assert!(at(-1, "context.time.weekday == 3 && context.time.hour == 23 && context.time.minute == 59"));
    assert!(at(i64::MIN, "context.time.unix_ms < 0"));
}

/// Decides a call twice under a condition. Returns how many verdicts were kept, and how often one was found again.
fn remembered(condition: &str, call: &Call<()>, facts: &Facts) -> (usize, usize) {
    let text = format!("permit (principal, action == Action::\"query\", resource) when {{ {condition} }};");
    let notes = sample::Notes::default();
    let rules = policies(&text).with_memory(notes.clone());
    let (first, second) = (decide(call, facts, &rules), decide(call, facts, &rules));
    assert_eq!(first, second, "{condition}");
    assert_eq!(first, decide(call, facts, &policies(&text)), "{condition}");
    (notes.kept(), notes.recalled())
}

#[test]
fn what_looks_at_no_more_than_a_key_holds_is_remembered() {
    for condition in [
        "true",
        "context.effect == \"write\"",
        "context.reversible || context has effect",
        "context.categories.contains(\"data\")",
        "principal in Team::\"finance\" && principal.accounts.contains(\"acme\")",
        "resource.environment == \"production\" && resource in Account::\"acme\"",
        "context has reach && context.reach.rows > 3",
        "!(context has approval)",
        "context has statement && context.statement.verb == \"drop\"",
        "context has on_behalf_of",
    ] {
        let (kept, recalled) =
            remembered(condition, &call("query", json!({ "sql": "x" })), &facts(Effect::Write));
        assert!(kept > 0 && recalled == kept, "{condition}: {kept} kept, {recalled} recalled");
    }
}

#[test]
fn what_looks_at_arguments_history_or_anything_else_is_never_remembered() {
    let any = || call("query", json!({ "sql": "x" }));
    let query = any();
    let plain = facts(Effect::Read);
    for condition in [
        "context.args.sql == \"x\"",
        "context.given.contains(\"sql\")",
        "context.session.calls < 3",
        "context.agent_today has rows && context.agent_today.rows < 3",
        "context.time.hour < 12",
        "context.effect == \"read\" && context.agent_today.tool_count == 0",
    ] {
        assert_eq!(remembered(condition, &query, &plain), (0, 0), "{condition}");
    }
    // What a call need not have, where it has it.
    let has = |attribute: &str| format!("context has {attribute}");
    let with = |change: &dyn Fn(&mut Facts)| {
        let mut facts = plain.clone();
        change(&mut facts);
        facts
    };
    let reached = with(&|facts| facts.reach = Some(reach(3)));
    assert_eq!(remembered(&has("reach"), &query, &reached), (0, 0));
    let approved = with(&|facts| facts.approval = Some(approval(&[("ann", "dba")], None)));
    assert_eq!(remembered(&has("approval"), &query, &approved), (0, 0));
    let stated = with(&|facts| facts.statement = Some(StatementFacts::default()));
    assert_eq!(remembered(&has("statement"), &query, &stated), (0, 0));
    let mut behalf = any();
    behalf.requester.on_behalf_of = Some(PersonId::parse("ann").unwrap());
    assert_eq!(remembered(&has("on_behalf_of"), &behalf, &plain), (0, 0));
    // An agent in other teams than the configured ones, one that is not configured, and a policy that fails.
    let mut moved = any();
    moved.requester.teams.clear();
    assert_eq!(remembered("true", &moved, &plain), (0, 0));
    let mut stranger = any();
    stranger.requester = sample::requester("stranger");
    assert_eq!(remembered("true", &stranger, &plain), (0, 0));
    let failing = "if context.reversible then true else 9007199254740991 * 9007199254740991 > 0";
    assert_eq!(remembered(failing, &query, &plain), (0, 0));
}
