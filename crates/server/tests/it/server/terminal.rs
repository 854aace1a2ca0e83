//! What a person sees at a terminal, which `script` plays.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

/// `countersign serve` at a terminal.
struct Terminal {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Terminal {
    fn serve(folder: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_countersign");
        let mut command = Command::new("script");
        command.args([
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &format!("exec {program} serve {folder}"),
            "/dev/null",
        ]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
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
