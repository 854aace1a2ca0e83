//! The program that is tested, over a folder of its own.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// A limit that only a hanging test reaches.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration folder, and what is run over it.
pub(crate) struct Program(TempDir);

impl Program {
    /// In a new folder that holds nothing but the key of the log `origin`.
    pub(crate) async fn new(origin: &str) -> Self {
        let program = Self(tempfile::tempdir().unwrap());
        let made = program.at("made");
        program.run(&["init", "made", "--origin", origin]).await;
        fs::rename(made.join("log.key"), program.at("log.key")).unwrap();
        fs::remove_dir_all(made).unwrap();
        program
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, and the folders it stands in.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The program with arguments, run in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the test starts the program it tests")]
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(arguments).current_dir(self.0.path()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end, and returns what it printed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        let done = self.command(arguments).output().await.unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Issues a key.
    pub(crate) async fn key(&self, arguments: &[&str]) -> String {
        let made = self.run(&[&["keys", "create", "--json"], arguments].concat()).await;
        let made: Value = serde_json::from_str(&made).unwrap();
        made["secret"].as_str().unwrap().to_owned()
    }

    /// Starts the server, and returns it with its address once it listens.
    pub(crate) async fn serve(&self) -> (Child, String) {
        let mut server = self
            .command(&["serve", "--print-url"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.log())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let url = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let url = url.unwrap_or_else(|| panic!("{}", fs::read_to_string(self.at("server.log")).unwrap()));
        (server, url.trim_end_matches('/').to_owned())
    }

    /// Where processes write what they log.
    pub(crate) fn log(&self) -> Stdio {
        fs::OpenOptions::new().create(true).append(true).open(self.at("server.log")).unwrap().into()
    }
}

/// A client for requests made by hand.
pub(crate) fn http() -> reqwest::Client {
    #[expect(clippy::disallowed_methods, reason = "the test is a foreign client")]
    reqwest::Client::builder().no_proxy().build().unwrap()
}
