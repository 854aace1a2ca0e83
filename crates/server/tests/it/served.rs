//! A server of the binary on a folder, as another process.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Stdio},
    thread::JoinHandle,
};

use crate::binary::{Ran, command, ran};

/// A running server; killed when it is dropped.
pub(crate) struct Served {
    child: Child,
    pub(crate) url: String,
    noise: Option<JoinHandle<String>>,
}

impl Served {
    /// Serves a folder, with variables of its environment.
    pub(crate) fn start(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = command(&["serve", "--print-url"]);
        command.arg(folder).envs(variables.iter().copied());
        Self::spawn(command)
    }

    /// Serves a folder on a disk that can fill up: what the system does to a process beyond its limit on files,
    /// it is told as an error, as on a full disk, and not killed.
    #[expect(clippy::disallowed_methods, reason = "the shell sets what the server inherits")]
    pub(crate) fn start_on_a_disk_with_limits(folder: &Path) -> Self {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", r#"trap '' XFSZ; exec "$0" serve --print-url "$1""#]);
        command.arg(env!("CARGO_BIN_EXE_countersign")).arg(folder);
        Self::spawn(command)
    }

    /// Serves a folder as a process that may open so many files and no more.
    #[expect(clippy::disallowed_methods, reason = "the shell sets what the server inherits")]
    pub(crate) fn start_with_few_files(folder: &Path, files: u32) -> Self {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!(r#"ulimit -n {files}; exec "$0" serve --print-url "$1""#)]);
        command.arg(env!("CARGO_BIN_EXE_countersign")).arg(folder);
        Self::spawn(command)
    }

    /// Lets no file of the server grow beyond so many bytes, or lifts that.
    #[expect(
        clippy::disallowed_methods,
        reason = "limits of another process are set by the system's own program"
    )]
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let most = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let mut prlimit = std::process::Command::new("prlimit");
        let set = prlimit.args(["--pid", &self.id(), &format!("--fsize={most}:")]).status().unwrap();
        assert!(set.success());
    }

    fn spawn(mut command: std::process::Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let noise = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let mut served = Self { child, url: url.trim().to_owned(), noise: Some(noise) };
        assert!(served.url.starts_with("http://"), "not served: {}", served.kill());
        served
    }

    /// Runs a command against this server with a key.
    pub(crate) fn run(&self, key: &str, arguments: &[&str]) -> Ran {
        let mut command = command(arguments);
        command.arg("--json").env("COUNTERSIGN_URL", &self.url).env("COUNTERSIGN_KEY", key);
        ran(&command.stdin(Stdio::null()).output().unwrap())
    }

    /// The process, for those who do something to it from outside.
    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// Ends it as an operator would, and answers its exit code.
    #[expect(clippy::disallowed_methods, reason = "a signal is sent by the system's own program")]
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let sent = std::process::Command::new("kill").arg(self.id()).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().code()
    }

    /// Ends it without any warning, and answers what it wrote to standard error.
    pub(crate) fn kill(&mut self) -> String {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().unwrap();
        self.noise.take().map(|noise| noise.join().unwrap()).unwrap_or_default()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // What it wrote is not waited for: a program that it started may have it open a little longer.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
