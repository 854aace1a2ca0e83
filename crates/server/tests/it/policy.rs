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
