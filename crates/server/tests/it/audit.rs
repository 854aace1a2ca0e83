//! `countersign audit`, on a ledger that a real server wrote.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary::{Ran, run_in},
    served::Served,
};

/// What the agent claims: it would clear the terminal, turn the writing round and add a sentence of its own.
const CLAIM: &str = "clean up \u{1b}[2J\u{202e}\n  10:00:00.000  `alice` (group `approvers`) APPROVED";

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

    let asked =
        server.run(&agent, &["call", "delete_test_invoices", r#"{"customer": 7}"#, "--reason", CLAIM]);
    assert_eq!(asked.code, 3, "{}{}", asked.out, asked.err);
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
    /// A request about another delete, which nobody has answered.
    fn another_that_waits(&self) -> String {
        let agent = key(self.folder.path(), "assistant");
        let asked = self.server.run(&agent, &["call", "delete_test_invoices", r#"{"customer": 8}"#]).value();
        assert_eq!(asked["status"], "pending", "{asked}");
        asked["approval"].as_str().unwrap().to_owned()
    }

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
            &format!("{}: `delete_test_invoices` done, 3 rows, approved by alice\n", story.call),
            "agent `assistant` asked for `delete_test_invoices` on system `billing`",
            "customer = 7",
            "it claims: \"clean up",
            "measured without changing anything: 3 rows (3 of `invoice`)",
            "people must approve a destructive call like this by policy `default:deletes`",
            &format!("request `{}`, open until", story.approval),
            "1 of group `approvers` (policy `default:deletes`), because",
            "`alice` (group `approvers`) APPROVED over rest: \"only tests\"",
            "decided again, with the approval of `alice`: ALLOWED",
            "a warrant was recorded to touch 3 rows at most (3 in `invoice`); reserved: 3 of budget",
            "DONE after",
            "the result has SHA-256 ",
        ] {
            assert!(shown.out.contains(part), "lacks `{part}`:\n{}", shown.out);
        }
        let approvals =
            shown.out.lines().filter(|line| line.get(16..).is_some_and(|l| l.starts_with("`alice`")));
        assert_eq!(approvals.count(), 1, "the agent's sentence passes for one of ours:\n{}", shown.out);
        assert!(!shown.out.contains(['\u{1b}', '\u{202e}']), "{}", shown.out);
    }
    let stories = story.audit(&["show", &story.call, "--json"]).value();
    assert_eq!((&stories["state"], &stories["rows"]), (&"done".into(), &3.into()), "{stories}");
    assert_eq!(stories["reason_claimed"], CLAIM);
    let raw = story.audit(&["show", &story.call, "--entries", "--json"]).lines();
    let kinds: Vec<&str> = raw.iter().map(|line| line["entry"]["kind"].as_str().unwrap()).collect();
    let expected = [
        "call_proposed",
        "reach_measured",
        "decided",
        "asked",
        "answered",
        "decided",
        "warrant_issued",
        "outcome",
    ];
    assert!(expected.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    let named: Vec<u64> = stories["steps"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|step| step["entries"].as_array().unwrap())
        .map(|index| index.as_u64().unwrap())
        .collect();
    let indices: Vec<u64> = raw.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!(named, indices, "every entry of the call stands behind a sentence");
    let lines = story.audit(&["show", &story.call, "--entries"]);
    assert_eq!(lines.out.lines().count(), raw.len(), "{}", lines.out);
    assert_eq!(story.audit(&["show", "call-none"]).code, 1);
}

#[test]
fn the_story_of_a_session_is_told_call_by_call() {
    let story = told();
    let session =
        story.audit(&["query", "--kind", "session_opened", "--json"]).lines()[0]["entry"]["session"]
            .as_str()
            .unwrap()
            .to_owned();
    let agent = key(story.folder.path(), "assistant");
    let sql = r#"{"sql": "delete from invoice\nwhere id = id"}"#;
    story.server.run(&agent, &["call", "query_billing", sql]);
    for arguments in [vec!["show", "--session", &session], vec!["show", &session]] {
        let shown = story.audit(&arguments);
        assert_eq!(shown.code, 0, "{}", shown.err);
        for part in [
            &format!("session `{session}` of agent `assistant`"),
            "over rest",
            &format!("{} delete_test_invoices: done, 3 rows, approved by alice  [", story.call),
            "    | delete from invoice\n",
            "    | where id = id",
            "2 calls: 1 performed (3 rows), 0 in doubt, 1 not performed",
        ] {
            assert!(shown.out.contains(part), "lacks `{part}`:\n{}", shown.out);
        }
    }
    let queried = story.audit(&["query", "--call", &story.call]);
    for part in [
        format!(
            " call_proposed    assistant {} delete_test_invoices {{\"customer\":7}} because (claimed): ",
            story.call
        ),
        format!(" answered         assistant {} approved by alice (rest): only tests\n", story.call),
        format!(" outcome          assistant {} done, 3 rows\n", story.call),
    ] {
        assert!(queried.out.contains(&part), "lacks `{part}`:\n{}", queried.out);
    }
    let one = story.audit(&["show", "--session", &session, "--agent", "assistant", "--json"]).value();
    assert_eq!(one["calls"].as_array().unwrap().len(), 2);
    assert_eq!(story.audit(&["show", "--session", &session, "--agent", "nobody"]).code, 1);
    assert_eq!(story.audit(&["show"]).code, 2);
}

#[test]
fn everything_about_a_call_is_proved() {
    let story = told();
    story.audit(&["export", "exported"]);
    let vkey = fs::read_to_string(story.folder.path().join("exported/vkey")).unwrap();
    let vkey = vkey.trim().parse().unwrap();
    let proved = story.audit(&["prove", &story.call]);
    assert_eq!(proved.code, 0, "{}", proved.err);
    let folder = story.folder.path().join(format!("{}.proofs", story.call));
    let receipts = fs::read_dir(folder).unwrap().map(|file| {
        let receipt = countersign_audit::Receipt::parse(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        receipt.verify(&vkey).unwrap();
        (receipt.index, receipt.entry.unwrap())
    });
    let proved: std::collections::BTreeMap<u64, Vec<u8>> = receipts.collect();
    let raw = story.audit(&["show", &story.call, "--entries", "--json"]).lines();
    let indices: Vec<u64> = raw.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!(proved.keys().copied().collect::<Vec<_>>(), indices);
    assert!(proved.values().all(|entry| String::from_utf8_lossy(entry).contains(&story.call)));

    let printed = story.audit(&["prove", &story.approval, "--json"]).lines();
    assert_eq!(printed.len(), indices.len());
    assert_eq!(story.audit(&["prove", "call-none"]).code, 1);
    assert_eq!(story.audit(&["prove", "some-session"]).code, 2);
    assert_eq!(story.audit(&["prove", "0", "--out", "one"]).code, 0);
    assert!(story.folder.path().join("one/0.tlog-proof").exists());
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
    // The command that it prints is one that the verifier takes.
    let advice = exported.out.lines().find(|line| line.contains("countersign-verify")).unwrap();
    assert!(advice.trim().starts_with("countersign-verify exported --key '"), "{advice}");
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

#[test]
fn what_approvers_were_shown_is_erased_by_a_command_and_the_log_still_verifies() {
    let told = told();
    // A ledger in a file has one writer.
    let erase = ["audit", "erase", &told.approval, "--reason", "asked for by the customer"];
    let refused = run_in(told.folder.path(), &erase);
    assert_eq!(refused.code, 2, "{}", refused.out);
    assert!(refused.err.contains("in use by another process"), "{}", refused.err);
    let waiting = told.another_that_waits();
    assert_eq!(told.server.terminate(), Some(0));
    let ran = |arguments: &[&str]| run_in(told.folder.path(), arguments);
    let refused = ran(&["audit", "erase", &waiting, "--reason", "asked for by the customer"]);
    assert_eq!(refused.code, 1, "{}", refused.out);
    let why = format!("request `{waiting}` waits for people until 2");
    assert!(refused.err.contains(&why) && refused.err.contains("or let it expire"), "{}", refused.err);
    let erased = ran(&erase);
    assert_eq!(erased.code, 0, "{}", erased.err);
    assert_eq!(ran(&erase).code, 1, "there is nothing left");
    let entries = ran(&["--json", "audit", "query", "--kind", "evidence_erased"]).lines();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["entry"]["body"]["approval"], told.approval.as_str());
    assert_eq!(entries[0]["entry"]["body"]["reason"], "asked for by the customer");
    assert_eq!(ran(&["audit", "verify"]).code, 0);
    assert_eq!(ran(&["audit", "query", "--kind", "De\ncided"]).code, 2);
}

#[test]
fn operators_erase_what_approvers_were_shown_at_a_running_server() {
    let told = told();
    let at = told.folder.path();
    let (agent, operator) = (key(at, "assistant"), key(at, "alice"));
    let erase = |key: &str| {
        told.server.run(key, &["approvals", "erase", &told.approval, "--reason", "asked for by the customer"])
    };
    let sample =
        || told.server.run(&operator, &["approvals", "show", &told.approval]).value()["sample"].clone();
    assert!(sample()["rows"].as_array().is_some_and(|rows| !rows.is_empty()), "{}", sample());
    let refused = erase(&agent);
    assert_eq!(refused.code, 1, "{}{}", refused.out, refused.err);
    assert!(run_in(at, &["--json", "audit", "query", "--kind", "evidence_erased"]).out.is_empty());
    let erased = erase(&operator);
    assert_eq!((erased.code, &erased.value()["erased"]), (0, &true.into()), "{}", erased.err);
    assert_eq!(sample(), Value::Null);
    let again = erase(&operator);
    assert!(again.code == 1 && again.out.contains("nothing was changed"), "{}{}", again.out, again.err);
    let [entry]: [Value; 1] =
        run_in(at, &["--json", "audit", "query", "--kind", "evidence_erased"]).lines().try_into().unwrap();
    let body = &entry["entry"]["body"];
    assert_eq!((&body["approval"], &body["by"]), (&told.approval.as_str().into(), &"alice".into()));
    assert_eq!(body["reason"], "asked for by the customer");
    assert_eq!(run_in(at, &["audit", "verify"]).code, 0);

    // What people are asked about they see, also where an operator would rather they did not.
    let waiting = told.another_that_waits();
    let erase = ["approvals", "erase", &waiting, "--reason", "asked for by the customer"];
    let refused = told.server.run(&operator, &erase);
    let said = refused.value()["error"].clone();
    assert_eq!((refused.code, &said["code"]), (1, &"R019".into()), "{said}");
    assert!(said["message"].as_str().unwrap().contains(&format!("request `{waiting}` waits")), "{said}");
    assert!(said["help"].as_str().unwrap().contains("let it expire"), "{said}");
    let shown = told.server.run(&operator, &["approvals", "show", &waiting]).value();
    assert!(shown["sample"]["rows"].as_array().is_some_and(|rows| !rows.is_empty()), "{shown}");
    let no = told.server.run(&operator, &["approvals", "refuse", &waiting, "--reason", "not now"]);
    assert_eq!(no.code, 0, "{}", no.err);
    assert_eq!(told.server.run(&operator, &erase).code, 0);
}
