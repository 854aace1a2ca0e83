//! The official conformance suite, for each revision; see tests/conformance/README.md.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    deployment::{Deployment, http},
    place::Place,
    served::Served,
};

#[tokio::test]
async fn revision_2025_06_18() {
    revision("2025-06-18").await;
}

#[tokio::test]
async fn revision_2025_11_25() {
    revision("2025-11-25").await;
}

#[tokio::test]
async fn revision_2026_07_28() {
    revision("2026-07-28").await;
}

/// SEP-2663, which is no part of a revision and is run scenario by scenario.
#[tokio::test]
async fn extension_tasks() {
    let suite = Suite::start();
    // Here tasks are what people are asked about, and these are approved before long.
    let _approver =
        suite.approver(2, |tool| matches!(tool, "slow_compute" | "failing_job" | "confirm_delete"));
    let expected = home().join("not-applicable-tasks.yaml");
    for scenario in [
        "capability-negotiation",
        "dispatch-and-envelope",
        "lifecycle",
        "mrtr-composition",
        "mrtr-input",
        "request-headers",
        "request-state-removal",
        "required-task-error",
        "status-notifications",
        "wire-fields",
    ] {
        let scenario = format!("tasks-{scenario}");
        let arguments = ["--scenario", &scenario, "--expected-failures", expected.to_str().unwrap()];
        if let Err(output) = suite.run(&arguments).await {
            panic!("{scenario}: {output}");
        }
    }
}

async fn revision(revision: &str) {
    let suite = Suite::start();
    // One tool is approved, so that its progress is the progress of waiting; the others wait. Long enough for a
    // wait to report progress, and shorter than it lasts.
    let _approver = suite.approver(4, |tool| tool == "test_tool_with_progress");
    let expected = home().join(format!("not-applicable-{revision}.yaml"));
    let arguments =
        ["--suite", "all", "--spec-version", revision, "--expected-failures", expected.to_str().unwrap()];
    if let Err(output) = suite.run(&arguments).await {
        panic!("{output}");
    }
}

/// A server with the suite's tools behind it.
struct Suite {
    deployment: Deployment,
    url: String,
    agent: String,
    approver: Arc<str>,
    _server: Served,
}

impl Suite {
    fn start() -> Self {
        let read = |name: &str| fs::read_to_string(home().join("folder").join(name)).unwrap();
        let upstream = home().join("upstream.mjs");
        let main = read("countersign.toml")
            .replace("@NODE@", &given("COUNTERSIGN_TEST_NODE"))
            .replace("@UPSTREAM@", upstream.to_str().unwrap());
        let deployment = Deployment::new(Place::sqlite(), &main, &read("policies/suite.cedar"));
        let digests = deployment.run(&["tools", "digest", "upstream", "--json"]);
        let digests: Vec<Value> = serde_json::from_str(&digests).unwrap();
        let tools = digests.iter().fold(read("tools/suite.toml"), |tools, tool| {
            let text = |key: &str| tool[key].as_str().unwrap();
            tools.replace(&format!("@{}@", text("name")), text("digest"))
        });
        deployment.write("tools/suite.toml", &tools);
        let agent = deployment.key(&["--agent", "suite"]);
        let approver = deployment.key(&["--person", "approver"]).into();
        let server = deployment.serve();
        Self { deployment, url: server.url.clone(), agent, approver, _server: server }
    }

    /// A person who approves some tools once they have looked at a request so many times.
    fn approver(
        &self,
        looks_needed: u32,
        approves: impl Fn(&str) -> bool + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let (url, key) = (self.url.clone(), Arc::clone(&self.approver));
        tokio::spawn(async move {
            let http = http();
            let mut look = tokio::time::interval(Duration::from_millis(700));
            let mut seen: BTreeMap<String, u32> = BTreeMap::new();
            loop {
                look.tick().await;
                let Ok(answer) = http.get(format!("{url}/v1/approvals")).bearer_auth(&*key).send().await
                else {
                    return;
                };
                let waiting: Value = answer.json().await.unwrap();
                for request in waiting["approvals"].as_array().unwrap() {
                    let approval = request["approval"].as_str().unwrap();
                    let looks = seen.entry(approval.to_owned()).or_default();
                    *looks = looks.saturating_add(1);
                    if *looks == looks_needed && approves(request["tool"].as_str().unwrap()) {
                        let url = format!("{url}/v1/approvals/{approval}/approve");
                        http.post(url).bearer_auth(&*key).json(&json!({})).send().await.unwrap();
                    }
                }
            }
        })
    }

    /// Runs the suite; its output when it is not content.
    async fn run(&self, arguments: &[&str]) -> Result<(), String> {
        let results = self.deployment.at("results");
        #[expect(clippy::disallowed_methods, reason = "the suite is a program of its own")]
        let mut suite = Command::new(given("COUNTERSIGN_TEST_NODE"));
        let done = suite
            .arg("--import")
            .arg(home().join("authorize.mjs"))
            .arg(given("COUNTERSIGN_TEST_CONFORMANCE"))
            .args(["server", "--url", &format!("{}/mcp", self.url)])
            .args(arguments)
            .arg("-o")
            .arg(&results)
            .env("COUNTERSIGN_TEST_AGENT_KEY", &self.agent)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        if done.status.success() {
            return Ok(());
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Err(format!("{}\n{}\n{}", text(&done.stdout), text(&done.stderr), failures(&results)))
    }
}

/// What the suite found, which its summary does not say.
fn failures(results: &std::path::Path) -> String {
    let mut found = String::new();
    for scenario in fs::read_dir(results).into_iter().flatten().flatten() {
        let Ok(text) = fs::read_to_string(scenario.path().join("checks.json")) else { continue };
        let checks: Vec<Value> = serde_json::from_str(&text).unwrap();
        for check in
            checks.iter().filter(|check| check["status"] == "FAILURE" || check["status"] == "WARNING")
        {
            let name = scenario.file_name();
            found.push_str(&format!("{}: {}: {}\n", name.display(), check["id"], check["errorMessage"]));
        }
    }
    found
}

fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance").canonicalize().unwrap()
}

/// What ./test prepares. Without it the suite did not run, and that is a failure.
fn given(name: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the test runner says where the suite is")]
    let value = std::env::var(name);
    value.unwrap_or_else(|_| panic!("{name} is not set: run the tests by ./test, which installs the suite"))
}
