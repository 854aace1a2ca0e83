//! `countersign policy`, on the folder that `init` writes.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use crate::binary::run_in;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = run_in(folder.path(), &["init"]);
    assert_eq!(made.code, 0, "{}", made.err);
    folder
}

#[test]
fn scenarios_are_judged_and_a_mismatch_is_exit_code_1() {
    let folder = folder();
    let good = run_in(folder.path(), &["policy", "test"]);
    assert_eq!(good.code, 0, "{}{}", good.out, good.err);
    assert!(good.out.contains("all as expected"), "{}", good.out);

    let scenarios = folder.path().join("scenarios/billing.toml");
    let text = fs::read_to_string(&scenarios).unwrap();
    fs::write(&scenarios, text.replacen(r#"answer = "allow""#, r#"answer = "deny""#, 1)).unwrap();
    let bad = run_in(folder.path(), &["policy", "test"]);
    assert_eq!(bad.code, 1);
    assert!(bad.out.contains("expected deny") && bad.out.contains("1 not as expected"), "{}", bad.out);

    fs::write(&scenarios, "version = 1\nsurprise = 2\n").unwrap();
    assert_eq!(run_in(folder.path(), &["policy", "test"]).code, 1);
}

#[test]
fn a_case_is_judged_as_the_call_would_be_and_not_as_it_says() {
    let folder = folder();
    let explain = |sql: &str, facts: serde_json::Value| {
        let call = json!({ "agent": "assistant", "tool": "query_billing", "arguments": { "sql": sql }, "facts": facts });
        fs::write(folder.path().join("call.json"), call.to_string()).unwrap();
        run_in(folder.path(), &["policy", "explain", "call.json"])
    };
    // Nothing is said of the statement, and it is no read for that.
    let dropped = explain("drop table invoice", json!({ "reach": { "rows": 1 } }));
    assert!(!dropped.out.starts_with("allow"), "{}{}", dropped.out, dropped.err);
    assert!(dropped.out.contains("default:schema-changes: applies"), "{}{}", dropped.out, dropped.err);
    for (sql, facts, said) in [
        ("delete from invoice", json!({ "effect": "read" }), "the call is seen to be `destructive`"),
        ("select 1", json!({ "effect": "write" }), "the call is seen to be `read`"),
        ("delete from invoice", json!({ "categories": ["iam"] }), "not seen to be that"),
        (
            "select id from invoice",
            json!({ "statement": { "verb": "delete" } }),
            "what is seen of the statement",
        ),
        ("select 1", json!({ "reversible": true }), "what is seen of the call"),
        ("select 1; select 2", json!({}), "2 statements"),
        ("select * from secrets", json!({}), "secrets"),
        ("select 1", json!({ "provenance": ["sql"] }), "unknown field"),
    ] {
        let refused = explain(sql, facts);
        assert!(
            refused.code == 2 && refused.err.contains(said),
            "{sql}: {said}: {}{}",
            refused.out,
            refused.err
        );
    }
    // A scenario is judged by the same tools.
    let scenario = "version = 1\n[[case]]\nname = \"c\"\nagent = \"assistant\"\ntool = \"query_billing\"\n\
                    arguments = { sql = \"drop table invoice\" }\nexpect = { answer = \"allow\" }\n";
    fs::write(folder.path().join("scenarios/billing.toml"), scenario).unwrap();
    let judged = run_in(folder.path(), &["policy", "test"]);
    assert!(judged.code == 1 && judged.out.contains("expected allow"), "{}{}", judged.out, judged.err);
    let groups = scenario
        .replace("drop table invoice", "delete from invoice where id = 1")
        .replace("answer = \"allow\"", "answer = \"ask\", groups = { aprovers = 1 }");
    let groups = groups.replace("expect", "facts = { reach = { rows = 1 } }\nexpect");
    fs::write(folder.path().join("scenarios/billing.toml"), groups).unwrap();
    let judged = run_in(folder.path(), &["policy", "test"]).out;
    assert!(judged.contains("groups is 1 of approvers, expected 1 of aprovers"), "{judged}");
}

/// The folder of `init` with an API beside it, and with this.
fn with_payments(more: &str) -> TempDir {
    let folder = folder();
    let main = folder.path().join("countersign.toml");
    let payments = r#"
[system.payments]
kind = "http"
base_url = "http://127.0.0.1:9"
allow_private = true
environment = "production"
account = "acme-prod"
[tool.refund]
system = "payments"
description = "Refunds a charge."
effect = "write"
arguments = { charge = { type = "string" }, amount = { type = "integer", minimum = 1 } }
request = { method = "POST", path = "/refunds", body = { charge = "$charge", amount = "$amount" } }
amount = { minor = "$amount", currency = "EUR" }
[tool.cancel]
system = "payments"
description = "Cancels a charge."
effect = "destructive"
arguments = { charge = { type = "string" } }
request = { method = "DELETE", path = "/charges/{charge}" }
preview = { path = "/charges/{charge}" }
amount = { minor = { preview = "/amount" }, currency = "EUR" }
"#;
    fs::write(&main, format!("{}{payments}{more}", fs::read_to_string(&main).unwrap())).unwrap();
    folder
}

#[test]
fn an_amount_is_what_a_live_call_moves() {
    let folder = with_payments("");
    let policies = r#"
@id("large") @because("too much")
forbid (principal, action == Action::"refund", resource)
when { context has reach && context.reach has amount && context.reach.amount.minor > 5000 };
@id("small") permit (principal, action in [Action::"refund", Action::"cancel"], resource);
"#;
    fs::write(folder.path().join("policies/pay.cedar"), policies).unwrap();
    let explain = |tool: &str, arguments: serde_json::Value, facts: serde_json::Value| {
        let call = json!({ "agent": "assistant", "tool": tool, "arguments": arguments, "facts": facts });
        fs::write(folder.path().join("call.json"), call.to_string()).unwrap();
        run_in(folder.path(), &["policy", "explain", "call.json"])
    };
    let refund = |minor: u64| json!({ "charge": "c", "amount": minor });
    // Nothing is said of the amount, and it is known all the same.
    for (minor, facts, answer) in [
        (9000, json!({}), "deny"),
        (9000, json!({ "reach": { "rows": 1 } }), "deny"),
        (9000, json!({ "reach": { "rows": 1, "amount": { "currency": "EUR", "minor": 9000 } } }), "deny"),
    ] {
        let explained = explain("refund", refund(minor), facts.clone());
        assert!(explained.out.starts_with(answer), "{facts}: {}{}", explained.out, explained.err);
    }
    let amount = |currency: &str, minor: u64| json!({ "reach": { "rows": 1, "amount": { "currency": currency, "minor": minor } } });
    for (tool, arguments, facts, said) in [
        ("refund", refund(9000), amount("EUR", 90), "the call moves 90.00 EUR"),
        ("refund", refund(9000), amount("USD", 9000), "the call moves 90.00 EUR"),
        ("refund", refund(9000), json!({ "reach": { "rows": 0 } }), "such a call touches 1"),
        ("cancel", json!({ "charge": "c" }), json!({ "reach": { "rows": 1 } }), "has no `amount`"),
        ("cancel", json!({ "charge": "c" }), amount("USD", 5), "moves EUR"),
        ("delete_test_invoices", json!({ "customer": 7 }), amount("EUR", 5), "tells no amount"),
        ("customer_invoices", json!({ "customer": 7 }), amount("EUR", 5), "nothing tells what such a call"),
    ] {
        let refused = explain(tool, arguments, facts);
        assert!(
            refused.code == 2 && refused.err.contains(said),
            "{tool} {said}: {}{}",
            refused.out,
            refused.err
        );
    }
}

#[test]
fn a_limit_that_only_sessions_have_is_warned_about_with_its_place() {
    let budget = |per: &str| {
        format!(
            "[[budget]]\nname = \"{per}\"\nper = \"{per}\"\nunit = \"calls\"\nlimit = 3\neffect_min = \"write\"\n"
        )
    };
    let warned = |more: &str| {
        let checked = run_in(with_payments(more).path(), &["check", "--json"]);
        assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
        checked.value()["warnings"].to_string()
    };
    const SAID: &str = "bounds each session, and agents begin a session when they like";
    let told = warned(&budget("session"));
    assert!(
        told.contains(&format!("budget `session` {SAID}")) && told.contains("countersign.toml:"),
        "{told}"
    );
    assert!(!warned(&format!("{}{}", budget("session"), budget("agent"))).contains(SAID));
    let told = warned(&format!("{}{}tools = [\"refund\"]\n", budget("session"), budget("agent")));
    assert!(told.contains(SAID), "{told}");
    let rated = |rate: &str| {
        format!(
            "[tool.rated]\nsystem = \"billing\"\ndescription = \"d\"\neffect = \"read\"\nsql = \"select 1\"\nrate = {rate}\n"
        )
    };
    let told = warned(&rated("{ session = \"3/hour\" }"));
    assert!(told.contains(&format!("the rate of `rated` {SAID}")), "{told}");
    assert!(!warned(&rated("{ session = \"3/hour\", agent = \"9/hour\" }")).contains(SAID));

    let folder = with_payments("");
    let text = "\n@id(\"three\")\nforbid (principal, action == Action::\"refund\", resource)\nwhen { context.session.writes >= 3 };\n";
    fs::write(folder.path().join("policies/pay.cedar"), text).unwrap();
    let warnings = || run_in(folder.path(), &["check", "--json"]).value()["warnings"].to_string();
    let told = warnings();
    assert!(told.contains("policies/pay.cedar:2: policy `pay:three` counts what a session did"), "{told}");
    fs::write(folder.path().join("policies/pay.cedar"), text.replace("session", "agent_today")).unwrap();
    assert!(!warnings().contains("pay:three"), "{}", warnings());
}

#[test]
fn what_check_only_doubts_has_its_place_and_what_to_write() {
    let budget =
        "[[budget]]\nname = \"euros\"\nper = \"agent\"\nunit = \"money\"\ncurrency = \"EUR\"\nlimit = 100\n";
    let folder = with_payments(budget);
    let text = "@id(\"a\") forbid (principal, action, resource) when { resource.environment == \"elsewhere\" };\n\
                @id(\"b\") forbid (principal, action, resource) when { resource.environment == \"nowhere\" };\n\
                @id(\"c\") @ask(\"aprovers\") permit (principal, action, resource);\n\
                @id(\"d\") @ask(\"approvers\") @quorum(\"9\") permit (principal, action, resource);\n";
    fs::write(folder.path().join("policies/mine.cedar"), text).unwrap();
    let warnings = run_in(folder.path(), &["check", "--json"]).value()["warnings"].to_string();
    for told in [
        "countersign.toml:",
        "budget `euros` counts the money of every tool",
        "write `tools = [\\\"cancel\\\", \\\"refund\\\"]`",
        "policies/mine.cedar:1: policy `mine:a` compares `resource.environment` with `elsewhere`",
        "policies/mine.cedar:2: policy `mine:b` compares `resource.environment` with `nowhere`",
        "policies/mine.cedar:3: policy `mine:c` asks 1 of group `aprovers`, and nobody is in it: such requests expire: did \
         you mean `approvers`?",
        "policies/mine.cedar:4: policy `mine:d` asks 9 of group `approvers`, and 1 person is in it: such requests expire",
    ] {
        assert!(warnings.contains(told), "{told}: {warnings}");
    }
    let groups = "forbid (principal, action, resource) when { context has approval && context.approval.groups.contains(\"aprovers\") };";
    fs::write(folder.path().join("policies/mine.cedar"), groups).unwrap();
    let problems = run_in(folder.path(), &["check", "--json"]).value()["error"]["problems"].clone();
    assert_eq!(
        (&problems[0]["line"], &problems[0]["help"]),
        (&json!(1), &json!("did you mean `approvers`?")),
        "{problems}"
    );
}

#[test]
fn a_dead_policy_is_a_mistake_with_its_name_and_place() {
    let folder = folder();
    let text = "@id(\"first\") forbid (principal, action == Action::\"customer_invoices\", resource) when { context.args has custmer };\n\
                @id(\"second\") permit (principal, action, resource) when { false };\n";
    fs::write(folder.path().join("policies/mine.cedar"), text).unwrap();
    let checked = run_in(folder.path(), &["check", "--json"]);
    assert_eq!(checked.code, 1, "{}", checked.out);
    let problems = checked.value()["error"]["problems"].clone();
    assert_eq!(
        (&problems[0]["file"], &problems[0]["line"]),
        (&json!("policies/mine.cedar"), &json!(1)),
        "{problems}"
    );
    assert!(problems[0]["message"].as_str().unwrap().contains("`mine:first`"), "{problems}");
    assert_eq!(problems[0]["help"], "did you mean `customer`?");
    fs::write(folder.path().join("policies/mine.cedar"), text.split_once('\n').unwrap().1).unwrap();
    let problems = run_in(folder.path(), &["check", "--json"]).value()["error"]["problems"].clone();
    assert!(problems[0]["message"].as_str().unwrap().contains("`mine:second` can never apply"), "{problems}");
}

#[test]
fn check_lists_what_policies_cannot_look_at() {
    let folder = folder();
    let tools = folder.path().join("tools/billing.toml");
    let text = fs::read_to_string(&tools).unwrap();
    let two = "{ customer = { anyOf = [{ type = \"integer\" }, { type = \"string\" }]";
    fs::write(&tools, text.replacen("{ customer = { type = \"integer\", minimum = 1", two, 1)).unwrap();
    let checked = run_in(folder.path(), &["check"]);
    assert!(
        checked.out.contains(
            "policies cannot look at `/customer` of tool `customer_invoices`: it has several forms"
        ),
        "{}",
        checked.out
    );
}

#[test]
fn every_policy_says_whether_and_why_it_applies() {
    let folder = folder();
    let call = json!({
        "agent": "assistant",
        "tool": "query_billing",
        "arguments": { "sql": "delete from invoice" },
        "facts": { "effect": "destructive", "reach": { "rows": 14_200 } },
    });
    fs::write(folder.path().join("call.json"), call.to_string()).unwrap();
    let told = run_in(folder.path(), &["policy", "explain", "call.json"]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.out.starts_with("deny"), "{}", told.out);
    assert!(told.out.contains("default:deletes-over-500-rows: applies"), "{}", told.out);
    assert!(told.out.contains("default:reads: does not apply, because not"), "{}", told.out);
    let json = run_in(folder.path(), &["policy", "explain", "call.json", "--json"]).value();
    assert_eq!(json["decision"]["answer"], "deny");

    for (wrong, said) in [
        (r#"{"agent":"nobody","tool":"query_billing"}"#, "no agent `nobody`"),
        (r#"{"agent":"assistant","tool":"nothing"}"#, "no tool `nothing`"),
        (r#"{"agent":"assistant","agent":"alice","tool":"x"}"#, "twice"),
        (r#"{"agent":"assistant","tool":"query_billing","fact":{}}"#, "unknown field"),
    ] {
        fs::write(folder.path().join("call.json"), wrong).unwrap();
        let refused = run_in(folder.path(), &["policy", "explain", "call.json"]);
        assert!(refused.code == 2 && refused.err.contains(said), "{said}: {}{}", refused.out, refused.err);
    }
}

#[test]
fn the_matrix_is_a_golden_file() {
    let folder = folder();
    let matrix = |arguments: &[&str]| {
        let mut all = vec!["policy", "matrix"];
        all.extend(arguments);
        run_in(folder.path(), &all)
    };
    let written = matrix(&["--write", "matrix.txt"]);
    assert!(written.code == 0 && written.out.contains("delete_test_invoices"), "{}", written.out);
    assert_eq!(matrix(&["--expect", "matrix.txt"]).code, 0);

    let policies = folder.path().join("policies/default.cedar");
    let text = fs::read_to_string(&policies).unwrap();
    fs::write(&policies, text.replace(r#"@ask("approvers")"#, r#"@ask("nobody")"#)).unwrap();
    let changed = matrix(&["--expect", "matrix.txt"]);
    assert!(changed.code == 1 && changed.err.contains("matrix.txt"), "{}", changed.err);
}

#[test]
fn the_schema_names_what_policies_can_look_at() {
    let folder = folder();
    let schema = run_in(folder.path(), &["policy", "schema"]);
    assert_eq!(schema.code, 0, "{}", schema.err);
    for part in ["delete_test_invoices", "agent_today", "unbounded"] {
        assert!(schema.out.contains(part), "lacks {part}: {}", schema.out);
    }
}
