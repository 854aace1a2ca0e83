//! How long a halt takes while agents and strangers hold whatever the server lets them hold: calls that wait for people,
//! sockets that say nothing, and open requests, by a process that may open 1,024 files.
//!
//! Beside it stands the halt of the same server before the crowd came, and the halt is asked over a new connection, as by
//! somebody who has just heard of it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    gateway::run as command,
    load, process, progress,
    report::{self, Target, median},
};

const AGENTS: u32 = 10;
/// What the crowd holds.
pub(crate) const REQUESTS: u32 = 10_000;
const WAITING: u32 = 1_024;
const IDLE: u32 = 1_100;
/// What the server may open.
const FILES: u32 = 1_024;
/// How often the halt is measured.
const TURNS: u32 = 9;
/// A halt that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(120);

const TOOLS: &str = r#"
[tool.add]
system = "shop"
description = "Adds an item."
effect = "write"
arguments = { n = { type = "integer" } }
sql = "insert into item (n) values (:n)"
"#;

const POLICIES: &str = r#"
@id("adds") @ask("approvers") permit (principal, action == Action::"add", resource);
"#;

/// The server, and everybody's key.
pub(crate) struct World {
    pub(crate) process: process::Process,
    pub(crate) url: String,
    agents: Vec<String>,
    person: String,
}

/// Measures, and prints what was found beside the target.
pub(crate) async fn measure(binary: &Path) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let world = World::start(binary, folder.path(), 0)?;
    progress("halts before the crowd …");
    let before = world.halts().await?;
    progress("open requests …");
    world.ask().await?;
    let asked = world.halts().await?;
    progress("waiting calls and idle sockets …");
    let waiting: Vec<_> = (0..WAITING).map(|n| tokio::spawn(world.wait(n))).collect();
    let address = world.url.trim_start_matches("http://").to_owned();
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(&address).await?);
    }
    let crowded = world.halts().await?;
    let (mut held, mut told) = (0_u32, 0_u32);
    for call in waiting {
        if call.is_finished() {
            call.await??;
            told = told.saturating_add(1);
        } else {
            held = held.saturating_add(1);
            call.abort();
        }
    }
    drop(idle);
    let worst = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
    let row = |what: &str, times: &[f64]| {
        format!("| {what} | {:.1} | {:.1} |\n", median(times.to_vec()), worst(times))
    };
    let mut text = String::from("| halt of an agent | median ms | slowest ms |\n|---|---|---|\n");
    text.push_str(&row("before the crowd", &before));
    text.push_str(&row(&format!("beside {REQUESTS} open requests"), &asked));
    text.push_str(&row(&format!("and {WAITING} calls that ask to wait and {IDLE} idle sockets"), &crowded));
    text.push_str(&format!(
        "\nOf the calls that asked to wait {held} were held when the halts were measured, and {told} were answered at once.\n\n"
    ));
    text.push_str(&report::targets(&[Target {
        what: "slowest halt beside the crowd, ms".into(),
        measured: worst(&crowded),
        acceptable: 1_000.0,
        excellent: 100.0,
        more: false,
    }]));
    Ok(text)
}

impl World {
    /// Starts a server with this many people beside the one whose key asks for halts: `p0`, `p1`, …
    pub(crate) fn start(binary: &Path, folder: &Path, people: u32) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder.join("tools"))?;
        std::fs::create_dir_all(folder.join("policies"))?;
        std::fs::write(folder.join("tools/shop.toml"), TOOLS)?;
        std::fs::write(folder.join("policies/shop.cedar"), POLICIES)?;
        let mut config = String::from(
            "[server]\nlisten = \"127.0.0.1:0\"\n[limits]\nopen_requests_max = 10000\n\
             [log]\norigin = \"bench.example/log\"\nkey = \"log.key\"\n[telemetry]\nlevel = \"error\"\n\
             [system.shop]\nkind = \"sqlite\"\npath = \"shop.db\"\nenvironment = \"staging\"\naccount = \"acme\"\n\
             [person.alice]\ngroups = [\"approvers\"]\nroles = [\"approver\", \"operator\", \"admin\"]\n",
        );
        for n in 0..AGENTS {
            config.push_str(&format!("[agent.a{n}]\naccounts = [\"acme\"]\n"));
        }
        for n in 0..people {
            config.push_str(&format!("[person.p{n}]\ngroups = [\"approvers\"]\n"));
        }
        std::fs::write(folder.join("countersign.toml"), config)?;
        let database = crate::sizing::sqlite(&folder.join("shop.db"))?;
        database.execute_batch("create table item (n integer not null)")?;
        drop(database);
        command(binary, folder, &["keys", "log", "--create"])?;
        let key = |of: &str, name: &str| {
            let made = command(binary, folder, &["keys", "create", of, name])?;
            let key = made.split_whitespace().find(|word| word.starts_with("csk_")).context("no key")?;
            anyhow::Ok(key.to_owned())
        };
        let agents =
            (0..AGENTS).map(|n| key("--agent", &format!("a{n}"))).collect::<anyhow::Result<Vec<_>>>()?;
        let person = key("--person", "alice")?;
        let shell = format!("ulimit -n {FILES}; exec \"$0\" serve --print-url \"$1\"");
        let (binary, folder) = (binary.to_string_lossy(), folder.to_string_lossy());
        let (process, line) = process::start(Path::new("sh"), &["-c", &shell, &binary, &folder])?;
        Ok(Self { process, url: line.trim_end_matches('/').to_owned(), agents, person })
    }

    /// A call that no other is equal to, and that people are asked about.
    pub(crate) fn call(&self, client: &reqwest::Client, n: u32, wait_ms: u32) -> reqwest::RequestBuilder {
        let agent = usize::try_from(n % AGENTS).unwrap_or(0);
        let body = json!({ "tool": "add", "arguments": { "n": n }, "wait_ms": wait_ms });
        let request = client.post(format!("{}/v1/calls", self.url)).json(&body);
        match self.agents.get(agent) {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Opens requests.
    pub(crate) async fn ask(&self) -> anyhow::Result<()> {
        let client = load::client()?;
        stream::iter((0..REQUESTS).map(|n| self.call(&client, n, 0).send()))
            .buffer_unordered(32)
            .map_err(anyhow::Error::from)
            .try_for_each(|answer| async move {
                ensure!(answer.status() == StatusCode::ACCEPTED, "{}", answer.status());
                Ok(())
            })
            .await
    }

    /// A call that waits for people, on a connection of its own.
    fn wait(&self, n: u32) -> impl Future<Output = anyhow::Result<StatusCode>> + use<> {
        let sent =
            load::client().map(|client| self.call(&client, REQUESTS.saturating_add(n), 600_000).send());
        async move { Ok(sent?.await?.status()) }
    }

    /// How long halts take, in milliseconds, each over a new connection.
    async fn halts(&self) -> anyhow::Result<Vec<f64>> {
        let mut times = Vec::new();
        for n in 0..TURNS {
            let agent = format!("a{}", n % AGENTS);
            let client = load::client()?;
            let url = format!("{}/v1/halts", self.url);
            let halt =
                client.post(&url).bearer_auth(&self.person).json(&json!({ "agent": agent, "why": "bench" }));
            let began = Instant::now();
            let halted = tokio::time::timeout(PATIENCE, halt.send()).await.context("no halt in time")??;
            times.push(began.elapsed().as_secs_f64() * 1e3);
            ensure!(halted.status() == StatusCode::OK, "{}", halted.text().await?);
            let resumed =
                client.delete(format!("{url}?agent={agent}")).bearer_auth(&self.person).send().await?;
            let status = resumed.status();
            let told: Value = resumed.json().await?;
            ensure!(status == StatusCode::OK, "{told}");
        }
        Ok(times)
    }
}
