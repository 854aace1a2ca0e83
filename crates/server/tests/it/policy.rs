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
