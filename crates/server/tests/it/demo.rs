//! The README's first command plays the incident, end to end, and leaves a folder to go on with.
#![expect(clippy::disallowed_methods, reason = "a test of the built program starts it")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

#[test]
fn the_demo_stops_the_incident_and_leaves_a_working_folder() {
    let place = tempfile::tempdir().unwrap();
    let _taken = usual_port();
    let (code, told, errors) = countersign(place.path(), &["demo"]);
    assert_eq!(code, Some(0), "{told}\n{errors}");
    for part in [
        "Measured, without touching anything: 17,750 rows (14,200 of billing, 3,550 of billing_item)",
        "BLOCKED before anything ran",
        "ana REFUSES",
        "a person refused it: these are real invoices",
        "ana APPROVES",
        "72 rows touched",
        "20,000 before, 19,964 after",
        "Every row is as it was: 36 of billing, 36 of billing_item put back",
        "19,964 before, 20,000 after",
        "VERIFIED",
    ] {
        assert!(told.contains(part), "`{part}` is missing in\n{told}");
    }

    let folder = place.path().join("countersign-demo");
    let (code, _, errors) = countersign(&folder, &["check"]);
    assert_eq!(code, Some(0), "{errors}");
    let (code, _, _) = countersign(&folder, &["audit", "verify"]);
    assert_eq!(code, Some(0));
    // Playing again does not overwrite what is there.
    let (code, _, errors) = countersign(place.path(), &["demo"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("remove it to play the demo again"), "{errors}");
}

/// Keeps the port that the demo likes best, so that demos at the same time do not all choose it. It is as good when
/// somebody else has it.
fn usual_port() -> std::io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind("127.0.0.1:7780")
}

fn countersign(folder: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn at_a_terminal_a_second_one_may_answer_first_and_what_is_typed_then_counts() {
    let place = tempfile::tempdir().unwrap();
    let _taken = usual_port();
    // `script` gives the program a terminal of its own.
    let mut child = Command::new("script")
        .args(["-qefc", &format!("'{}' demo", env!("CARGO_BIN_EXE_countersign")), "/dev/null"])
        .current_dir(place.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut typing = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = String::new();
    let mut until = |part: &str| -> String {
        for line in lines.by_ref() {
            let line = line.unwrap();
            told.push_str(&line);
            told.push('\n');
            if line.contains(part) {
                return line;
            }
        }
        panic!("`{part}` is missing in\n{told}");
    };

    let asked = until("countersign approvals approve apr-");
    let request = asked.split_whitespace().find(|word| word.starts_with("apr-")).unwrap();
    let folder = place.path().join("countersign-demo");
    let refuse = ["approvals", "refuse", request, "--reason", "not these", "--key-file", "ana.key"];
    assert_eq!(countersign(&folder, &refuse).0, Some(0));
    until("REFUSED in the second terminal");

    until("countersign approvals approve apr-");
    typing.write_all(b"what?\n").unwrap();
    until("Type a to approve or r to refuse");
    typing.write_all(b"a\n").unwrap();
    for part in ["ana APPROVES", "72 rows touched", "20,000 before, 19,964 after", "VERIFIED"] {
        until(part);
    }
    for _rest in lines {}
    assert!(child.wait().unwrap().success());
}
