//! Runs the binary.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

/// What the binary answered.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Standard output as one JSON value.
    pub(crate) fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).expect(&self.out)
    }

    /// The lines of standard output as JSON.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// A command of the binary, in an environment without colours.
#[expect(clippy::disallowed_methods, reason = "the binary under test is started here")]
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .args(arguments)
        .env("NO_COLOR", "1")
        .env("COLUMNS", "200")
        .env_remove("COUNTERSIGN_KEY")
        .env_remove("COUNTERSIGN_URL");
    command
}

/// Runs the binary with `input` on standard input.
pub(crate) fn run_with(arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A child that does not read everything closes the pipe, which is its right.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    ran(&output)
}

/// Runs the binary in a folder.
pub(crate) fn run_in(folder: &Path, arguments: &[&str]) -> Ran {
    ran(&command(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap())
}

pub(crate) fn ran(output: &Output) -> Ran {
    Ran {
        code: output.status.code().expect("not killed"),
        out: String::from_utf8(output.stdout.clone()).unwrap(),
        err: String::from_utf8(output.stderr.clone()).unwrap(),
    }
}
