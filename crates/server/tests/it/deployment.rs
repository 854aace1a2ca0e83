//! A deployment: a configuration folder with its ledger in a place, keys, and a server over it, in this process or as the
//! program that people use. The rigs of the tests are made of it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use countersign::{
    config::Config,
    server::{self, Running},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{binary::run_in, place::Place, served::Served};

/// A limit that only a hanging test reaches.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration folder, and what is run over it.
pub(crate) struct Deployment {
    folder: TempDir,
    _place: Place,
}

impl Deployment {
    /// In a new folder with this main file, one file of policies, and the key of its log.
    pub(crate) fn new(place: Place, main: &str, policies: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // One that says itself where its ledger is means that.
        let store = if main.contains("[store]") { String::new() } else { place.section(folder.path()) };
        let deployment = Self { folder, _place: place };
        deployment.write("countersign.toml", &format!("{main}{store}"));
        deployment.write("policies/test.cedar", policies);
        deployment.run(&["keys", "log", "--create"]);
        deployment
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file, and the folders it stands in.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a file that its owner alone may read.
    pub(crate) fn write_secret(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Runs a command to its end, and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let ran = run_in(self.path(), arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
        ran.out.trim().to_owned()
    }

    /// Issues a key.
    pub(crate) fn key(&self, arguments: &[&str]) -> String {
        let made = self.run(&[&["keys", "create", "--json"], arguments].concat());
        let made: Value = serde_json::from_str(&made).unwrap();
        made["secret"].as_str().unwrap().to_owned()
    }

    /// Its configuration, as a server reads it.
    pub(crate) fn config(&self) -> Config {
        Config::load(self.path()).unwrap()
    }

    /// Starts a server in this process.
    pub(crate) async fn start(&self) -> Running {
        server::start(self.config()).await.unwrap()
    }

    /// Starts the program as a server, and returns it once it listens.
    pub(crate) fn serve(&self) -> Served {
        Served::start(self.path(), &[])
    }

    /// The program with arguments, for those who speak to it: run in the folder, and killed when it is dropped.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::from(crate::binary::command(arguments));
        command.current_dir(self.path()).kill_on_drop(true);
        command
    }

    /// Where programs that are spoken to write what they log.
    pub(crate) fn log(&self) -> Stdio {
        fs::OpenOptions::new().create(true).append(true).open(self.at("server.log")).unwrap().into()
    }
}

/// A client for requests made by hand. As the command line's, it uses no connection again that was quiet for long: beside a
/// crowd it may be sent away just then.
pub(crate) fn http() -> reqwest::Client {
    #[expect(clippy::disallowed_methods, reason = "the test is a foreign client")]
    reqwest::Client::builder().no_proxy().pool_idle_timeout(Duration::from_millis(50)).build().unwrap()
}
