//! `countersign approvals watch`, as a person leaves it open.

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Stdio},
};

use crate::{
    binary::{command, run_in},
    served::Served,
};

/// The command, ended when it is dropped.
struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(folder: &Path) -> Self {
        let mut command = command(&["approvals", "watch", "--key-file", "keys/alice.key"]);
        let mut child =
            command.current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next request: everything up to the command that shows it.
    fn next(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            let last = line.trim_start().starts_with("countersign approvals show ");
            told.push(line);
            if last {
                return told;
            }
        }
        panic!("it ended: {told:?}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().unwrap();
    }
}

#[test]
fn watch_tells_each_request_with_earlier_answers_and_outlives_the_server() {
    let temp = tempfile::tempdir().unwrap();
    let at = temp.path();
    assert_eq!(run_in(at, &["init"]).code, 0);
    // A port that is the same after a restart.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let main = at.join("countersign.toml");
    let text = fs::read_to_string(&main).unwrap();
    fs::write(&main, text.replace("127.0.0.1:7780", &free.to_string())).unwrap();
    let key = |name: &str| fs::read_to_string(at.join(format!("keys/{name}.key"))).unwrap().trim().to_owned();
    let (agent, alice) = (key("assistant"), key("alice"));
    let ask = |server: &Served, customer: u32| {
        let arguments = format!(r#"{{"customer": {customer}}}"#);
        let asked = server.run(&agent, &["call", "delete_test_invoices", &arguments]);
        assert_eq!(asked.code, 3, "{}{}", asked.out, asked.err);
        asked.value()["approval"].as_str().unwrap().to_owned()
    };

    let server = Served::start(at, &[]);
    let mut watch = Watch::start(at);
    let first = ask(&server, 7);
    let told = watch.next();
    assert_eq!(told.len(), 2, "nobody has answered before: {told:?}");
    assert!(told[0].starts_with("assistant asks for delete_test_invoices: destructive, "), "{told:?}");
    assert_eq!(told[1].trim_start(), format!("countersign approvals show {first} --key-file keys/alice.key"));
    let shown = told[1].split_whitespace().skip(1).collect::<Vec<_>>();
    assert_eq!(run_in(at, &shown).code, 0, "the command is there to be copied");

    let no = ["approvals", "refuse", &first, "--reason", "that customer is real"];
    assert_eq!(server.run(&alice, &no).code, 0);
    let second = ask(&server, 8);
    let told = watch.next();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[1].trim_start().starts_with("before: ") && told[1].contains("that customer is real"),
        "{told:?}"
    );
    assert!(told[2].contains(&second), "{told:?}");

    // What it told of it does not tell again, nor is it gone for a restart.
    assert_eq!(server.terminate(), Some(0));
    let server = Served::start(at, &[]);
    let third = ask(&server, 9);
    assert!(watch.next().last().unwrap().contains(&third));
}
