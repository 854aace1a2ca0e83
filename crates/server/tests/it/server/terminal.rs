//! What a person sees at a terminal, which `script` plays.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use reqwest::StatusCode;
use serde_json::json;

use super::rig::{MAIN, Rig};

/// A command at a terminal.
struct Terminal {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Terminal {
    fn serve(folder: &str) -> Self {
        Self::run(&format!("serve {folder}"), Stdio::null())
    }

    fn run(arguments: &str, typed: Stdio) -> Self {
        let program = env!("CARGO_BIN_EXE_countersign");
        let mut command = Command::new("script");
        command.args([
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &format!("exec {program} {arguments}"),
            "/dev/null",
        ]);
        let mut child = command.stdin(typed).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads until a line has this in it; everything that was read.
    fn until(&mut self, part: &str) -> String {
        let mut read = String::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            read.push_str(&line);
            read.push('\n');
            if line.contains(part) {
                return read;
            }
        }
        panic!("ended without {part:?}:\n{read}");
    }

    fn type_in(&mut self, line: &str) {
        let typed = self.child.stdin.as_mut().unwrap();
        typed.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn signal(&self, name: &str) {
        let script = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children")).unwrap();
        let server = children.split_whitespace().next().unwrap();
        assert!(Command::new("kill").args(["-s", name, server]).status().unwrap().success());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_server_at_a_terminal_says_where_to_connect_and_takes_no_notice_of_sighup() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("gate").display().to_string();
    let init = Command::new(env!("CARGO_BIN_EXE_countersign")).args(["init", &folder]).output().unwrap();
    assert!(init.status.success());
    let main = format!("{folder}/countersign.toml");
    let text = std::fs::read_to_string(&main).unwrap().replace("127.0.0.1:7780", "127.0.0.1:0");
    std::fs::write(&main, text).unwrap();

    let mut terminal = Terminal::serve(&folder);
    let welcome = terminal.until("Ctrl-C");
    assert!(welcome.contains("MCP at http://127.0.0.1:"), "{welcome}");
    assert!(welcome.contains("keys     alice (person), assistant (agent)"), "{welcome}");
    assert!(welcome.contains("waiting  nothing"), "{welcome}");
    assert!(!welcome.contains("{\""), "lines for people, not JSON: {welcome}");
    terminal.signal("HUP");
    terminal.until("SIGHUP changes nothing");
    terminal.signal("INT");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_at_a_terminal_answers_there_what_was_shown() {
    let rig = Rig::with(&format!("{MAIN}[person.bea]\ngroups = [\"approvers\"]\n")).await;
    rig.deployment.write_secret("alice.key", rig.key("alice"));
    let file = rig.deployment.at("alice.key");
    let watch = format!("approvals watch --server {} --key-file {}", rig.url("/"), file.display());
    let mut terminal = Terminal::run(&watch, Stdio::piped());
    let until = |terminal: &mut Terminal, part: &str| tokio::task::block_in_place(|| terminal.until(part));
    until(&mut terminal, "`?` for help");

    let first = rig.ask("add_item", json!({ "name": "quince" })).await;
    until(&mut terminal, "1  clerk asks for add_item: write");
    terminal.type_in("a 1");
    let shown = until(&mut terminal, "nothing is approved yet");
    assert!(shown.contains("quince") && shown.contains("reach"), "{shown}");
    assert_eq!(rig.get("alice", &format!("/v1/approvals/{first}")).await.1["state"], "waiting");
    terminal.type_in("a 1 fine by me");
    until(&mut terminal, "is done: it was performed");
    assert_eq!(rig.result(&first).await.0, StatusCode::OK);

    let second = rig.ask("delete_item", json!({ "id": 1 })).await;
    until(&mut terminal, "2  clerk asks for delete_item: destructive");
    terminal.type_in("r 2");
    until(&mut terminal, "say why");
    terminal.type_in("r 2 apples stay");
    until(&mut terminal, "is refused");
    assert!(rig.result(&second).await.1["message"].as_str().unwrap().contains("apples stay"));

    // Answered elsewhere, and by another person.
    let third = rig.ask("delete_item", json!({ "id": 2 })).await;
    until(&mut terminal, "3  clerk asks for delete_item: destructive");
    let body = json!({ "reason": "pears stay" });
    let (status, told) = rig.post("bea", &format!("/v1/approvals/{third}/refuse"), body).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    until(&mut terminal, "3  clerk asks for delete_item: refused, bea has answered");
    terminal.type_in("w");
    until(&mut terminal, "nothing waits for you");
    terminal.type_in("q");
    assert_eq!(tokio::task::block_in_place(|| terminal.child.wait()).unwrap().code(), Some(0));
}
