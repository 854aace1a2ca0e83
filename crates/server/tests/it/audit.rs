//! `countersign audit`, on a ledger that a real server wrote.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary::{Ran, run_in},
    served::Served,
};

/// A folder of `countersign init` in which one delete was approved, performed and recorded.
struct Story {
    folder: TempDir,
    server: Served,
    call: String,
    approval: String,
}

fn key(folder: &Path, owner: &str) -> String {
    fs::read_to_string(folder.join(format!("keys/{owner}.key"))).unwrap().trim().to_owned()
}

fn told() -> Story {
    let folder = tempfile::tempdir().unwrap();
    let made = run_in(folder.path(), &["init"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let main = folder.path().join("countersign.toml");
    let text = fs::read_to_string(&main).unwrap().replace("127.0.0.1:7780", "127.0.0.1:0");
    fs::write(main, text).unwrap();
    let server = Served::start(folder.path(), &[]);
    let (agent, person) = (key(folder.path(), "assistant"), key(folder.path(), "alice"));

    let asked = server.run(
        &agent,
        &["call", "delete_test_invoices", r#"{"customer": 7}"#, "--reason", "clean up \u{1b}[2J"],
    );
    assert_eq!(asked.code, 0, "{}{}", asked.out, asked.err);
    let asked = asked.value();
    assert_eq!(asked["status"], "pending");
    let approval = asked["approval"].as_str().unwrap().to_owned();
    let approved = server.run(&person, &["approvals", "approve", &approval, "--comment", "only tests"]);
    assert_eq!(approved.code, 0, "{}{}", approved.out, approved.err);
    let done = server.run(&agent, &["call", "--result", &approval, "--wait-ms", "20000"]);
    assert_eq!(done.value()["status"], "done", "{}", done.out);
    Story { folder, server, call: done.value()["call"].as_str().unwrap().to_owned(), approval }
}

impl Story {
    fn audit(&self, arguments: &[&str]) -> Ran {
        let mut all = vec!["audit"];
        all.extend(arguments);
        run_in(self.folder.path(), &all)
    }
}

#[test]
fn the_story_of_a_call_is_told_while_the_server_runs() {
    let story = told();
    for subject in [&story.call, &story.approval] {
        let shown = story.audit(&["show", subject]);
        assert_eq!(shown.code, 0, "{}", shown.err);
        for part in [
            "delete_test_invoices",
            "clean up",
            "claim",
            "3 rows",
            "default:deletes",
            "approved",
            "alice",
            "only tests",
            "done",
        ] {
            assert!(shown.out.contains(part), "lacks `{part}`:\n{}", shown.out);
        }
        assert!(!shown.out.contains('\u{1b}'), "what an agent wrote reaches the terminal: {}", shown.out);
    }
    let kinds: Vec<Value> = story
        .audit(&["show", &story.call, "--json"])
        .lines()
        .iter()
        .map(|l| l["entry"]["kind"].clone())
        .collect();
    for kind in
        ["call_proposed", "reach_measured", "decided", "asked", "answered", "warrant_issued", "outcome"]
    {
        assert!(kinds.contains(&Value::from(kind)), "{kind} in {kinds:?}");
    }
    assert_eq!(story.audit(&["show", "call-none"]).code, 1);
}

#[test]
fn entries_are_found_by_what_they_are_about() {
    let story = told();
    let found = |arguments: &[&str]| {
        let mut all = vec!["query", "--json"];
        all.extend(arguments);
        story.audit(&all).lines()
    };
    let all = found(&[]);
    assert!(all.len() > 8);
    let decided = found(&["--kind", "decided", "--agent", "assistant", "--call", &story.call]);
    assert!(!decided.is_empty() && decided.iter().all(|line| line["entry"]["kind"] == "decided"));
    assert!(found(&["--approval", &story.approval]).len() >= 3);
    assert_eq!(found(&["--limit", "2"]).len(), 2);
    assert_eq!(found(&["--from", "3", "--limit", "1"])[0]["index"], 3);
    assert!(found(&["--since", "2999-01-01T00:00:00Z"]).is_empty());
    assert!(found(&["--until", "2000-01-01T00:00:00Z"]).is_empty());
    assert_eq!(story.audit(&["query", "--since", "yesterday"]).code, 2);
}

#[test]
fn a_log_is_exported_and_an_entry_proved() {
    let story = told();
    let exported = story.audit(&["export", "exported"]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    let folder = story.folder.path().join("exported");
    assert!(folder.join("checkpoint").exists() && folder.join("vkey").exists());

    let written = story.audit(&["export", "--json-lines", "log.jsonl"]);
    assert_eq!(written.code, 0, "{}", written.err);
    let lines = fs::read_to_string(story.folder.path().join("log.jsonl")).unwrap();
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["v"] == 1));

    let proof = story.audit(&["prove", "0"]);
    assert_eq!(proof.code, 0, "{}", proof.err);
    let key = fs::read_to_string(folder.join("vkey")).unwrap().trim().parse().unwrap();
    let receipt = countersign_audit::Receipt::parse(proof.out.as_bytes()).unwrap();
    assert_eq!(receipt.entry.as_deref(), lines.lines().next().map(str::as_bytes));
    receipt.verify(&key).unwrap();
    assert_eq!(story.audit(&["prove", "99999"]).code, 1);
}

#[test]
fn an_untouched_log_verifies_and_a_tampered_one_does_not() {
    let mut story = told();
    let running = story.audit(&["verify"]);
    assert_eq!(running.code, 0, "{}{}", running.out, running.err);
    assert!(running.out.contains("VERIFIED"), "{}", running.out);

    story.audit(&["export", "kept"]);
    let kept = ["verify", "--checkpoint", "kept/checkpoint"];
    assert_eq!(story.audit(&kept).code, 0);
    story.server.kill();

    let place = story.folder.path().join("countersign.db");
    let index: i64 = tamper(
        &place,
        "UPDATE entry SET bytes = CAST(replace(CAST(bytes AS TEXT), 'alice', 'mallo') AS BLOB)
         WHERE kind = 'answered' RETURNING idx",
    );
    let verified = story.audit(&["verify", "--json"]);
    assert_eq!(verified.code, 1, "{}{}", verified.out, verified.err);
    let report = verified.value();
    assert_eq!(report["verified"], false);
    let finding = &report["findings"][0];
    assert_eq!(
        (finding["code"].as_str(), finding["entry"].as_i64()),
        (Some("log_entry_changed"), Some(index))
    );
    let people = story.audit(&kept);
    assert!(people.code == 1 && people.out.contains("NOT VERIFIED"), "{}", people.out);
}

#[test]
fn a_log_that_was_cut_off_is_found_by_a_checkpoint_that_was_kept() {
    let mut story = told();
    story.audit(&["export", "kept"]);
    story.server.kill();
    let place = story.folder.path().join("countersign.db");
    let last: i64 =
        tamper(&place, "DELETE FROM entry WHERE idx = (SELECT max(idx) FROM entry) RETURNING idx");
    assert!(last > 0);
    let verified = story.audit(&["verify", "--checkpoint", "kept/checkpoint"]);
    assert_eq!(verified.code, 1, "{}{}", verified.out, verified.err);
}

/// Changes the ledger behind the program's back, as whoever has the file can.
#[expect(clippy::disallowed_methods, reason = "the attacker opens the file")]
fn tamper(place: &Path, sql: &str) -> i64 {
    let database = rusqlite::Connection::open(place).unwrap();
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}
