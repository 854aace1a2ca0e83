//! The server of the story: this very program, started as anybody would start it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, ensure};
use countersign_gate::entry::ReachMeasured;
use countersign_rules::{CallId, Reach};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// One line of `audit query --kind reach_measured --json`, as far as the story needs it.
#[derive(Deserialize)]
struct Line {
    entry: Measured,
}

#[derive(Deserialize)]
struct Measured {
    body: ReachMeasured<'static>,
}

/// A running server with the keys that were made for the story.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) agent_key: String,
    pub(crate) person_key: String,
    pub(crate) other_key: String,
    program: PathBuf,
    child: Child,
}

/// Makes keys, starts `serve` on the folder and waits until it answers.
pub(crate) async fn start(folder: &Path) -> anyhow::Result<Server> {
    let program = std::env::current_exe().context("finding this program")?;
    let agent_key = key(&program, folder, &["--agent", "billing-assistant"], "agent.key").await?;
    let person_key = key(&program, folder, &["--person", "ana"], "ana.key").await?;
    let other_key = key(&program, folder, &["--person", "casey"], "casey.key").await?;
    // As its operator would, once: from now on the file records calls and keeps the rows they change.
    run(&program, folder, &["system", "prepare", "billing"]).await?;
    let mut child = command(&program, folder, &["serve", "--print-url"])
        .stdout(Stdio::piped())
        .stderr(Stdio::from(std::fs::File::create(folder.join("server.log"))?))
        .kill_on_drop(true)
        .spawn()
        .context("starting the server")?;
    let output = child.stdout.take().context("the server has no output")?;
    let line = BufReader::new(output).lines().next_line().await?;
    let url = line
        .with_context(|| format!("the server did not start; see {}", folder.join("server.log").display()))?;
    Ok(Server { url: url.trim_end_matches('/').to_owned(), agent_key, person_key, other_key, program, child })
}

impl Server {
    /// What was measured of a call, as the log has it.
    pub(crate) async fn measured(&self, folder: &Path, call: &CallId) -> anyhow::Result<Reach> {
        let words = ["audit", "query", "--call", call.as_str(), "--kind", "reach_measured", "--json"];
        let printed = run(&self.program, folder, &words).await?;
        let line = printed.lines().next().context("the log has no measured reach of the call")?;
        let line: Line = serde_json::from_str(line)?;
        Ok(line.entry.body.reach.into_owned())
    }

    /// Stops the server as an operator would, and has the whole log verified.
    pub(crate) async fn verify(mut self, folder: &Path) -> anyhow::Result<String> {
        let pid = self.child.id().context("the server is gone")?;
        // The shell's own `kill`, because stopping politely is a signal, and signals need `unsafe` here.
        let stopped =
            command(Path::new("sh"), folder, &["-c", &format!("kill -TERM {pid}")]).status().await?;
        ensure!(stopped.success(), "the server could not be stopped");
        let status = self.child.wait().await?;
        ensure!(status.success(), "the server did not stop cleanly: {status}");
        run(&self.program, folder, &["audit", "verify"]).await
    }
}

/// A key for an agent or a person, kept in a file that only its owner reads.
async fn key(program: &Path, folder: &Path, owner: &[&str], file: &str) -> anyhow::Result<String> {
    let arguments: Vec<&str> = ["keys", "create"].iter().chain(owner).copied().collect();
    let printed = run(program, folder, &arguments).await?;
    let key =
        printed.split_whitespace().find(|word| word.starts_with("csk_")).context("no key was printed")?;
    private(&folder.join(file), key)?;
    Ok(key.to_owned())
}

async fn run(program: &Path, folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = command(program, folder, arguments).output().await?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "`countersign {}` failed: {printed}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(printed)
}

fn command(program: &Path, folder: &Path, arguments: &[impl AsRef<OsStr>]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the demo plays on this very program, started as by hand")]
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    Ok(())
}
