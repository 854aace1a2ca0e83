//! A system whose effects are counted and can be held up, and a folder with tools on it.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, OnceLock},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path as Part, State},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    binary::{command, ran, run_in},
    deployment::{Deployment, http},
    place::Place,
    served::Served,
};

/// A limit that only a hanging test reaches.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
[log]
origin = "test.example/acting"
key = "log.key"
[agent.ada]
accounts = ["acme"]
[person.carol]
groups = ["approvers"]
roles = ["approver", "operator", "admin"]
[person.dora]
groups = ["approvers"]
[system.effects]
kind = "http"
base_url = "BASE"
environment = "staging"
account = "acme"
allow_private = true
timeout_ms = 120000
[[budget]]
name = "acts"
per = "all"
unit = "calls"
limit = 25
tools = ["act"]

[tool.act]
system = "effects"
description = "Acts, at once."
effect = "write"
arguments = { n = { type = "integer" } }
preview = { path = "/look/{n}" }
request = { method = "POST", path = "/act", body = { n = "$n" } }
[tool.rated]
system = "effects"
description = "Acts, not often."
effect = "write"
rate = { tool = "7/day" }
arguments = { n = { type = "integer" } }
request = { method = "POST", path = "/act", body = { n = "$n" } }
[tool.asked]
system = "effects"
description = "Acts once a person has approved."
effect = "write"
arguments = { n = { type = "integer" } }
preview = { path = "/look/{n}" }
request = { method = "POST", path = "/act", body = { n = "$n" } }
"#;

const POLICIES: &str = r#"
@id("acts") permit (principal, action in [Action::"act", Action::"rated"], resource);
@id("asks") @ask("approvers") permit (principal, action == Action::"asked", resource);
"#;

/// Where requests are held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Nothing,
    /// Before anything has happened: when so many more have looked.
    Looks(u32),
    /// When it has happened, and nobody knows.
    Acts,
}

/// The system. Clones are handles on the same one.
#[derive(Clone)]
pub(crate) struct System(Arc<Inner>);

struct Inner {
    seen: Mutex<Seen>,
    changed: Condvar,
    hold: watch::Sender<Hold>,
}

#[derive(Default)]
struct Seen {
    acts: Vec<i64>,
    held: usize,
}

impl System {
    /// Serves, on a thread of its own, until the test ends.
    fn serve() -> (Self, String) {
        let hold = watch::Sender::new(Hold::Nothing);
        let system = Self(Arc::new(Inner { seen: Mutex::default(), changed: Condvar::new(), hold }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router =
            Router::new().route("/look/{n}", get(look)).route("/act", post(act)).with_state(system.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        (system, base)
    }

    pub(crate) fn hold(&self, hold: Hold) {
        self.0.seen.lock().unwrap().held = 0;
        self.0.hold.send_replace(hold);
    }

    /// Waits until so many requests are held up.
    pub(crate) fn until_held(&self, requests: usize) {
        let seen = self.0.seen.lock().unwrap();
        let (seen, late) =
            self.0.changed.wait_timeout_while(seen, PATIENCE, |seen| seen.held < requests).unwrap();
        assert!(!late.timed_out(), "{} of {requests} requests are held", seen.held);
    }

    /// How often each number was acted on.
    pub(crate) fn acts(&self) -> BTreeMap<i64, usize> {
        let mut times = BTreeMap::new();
        for n in &self.0.seen.lock().unwrap().acts {
            let times: &mut usize = times.entry(*n).or_default();
            *times = times.saturating_add(1);
        }
        times
    }

    fn is_acting_held(&self) -> bool {
        *self.0.hold.borrow() == Hold::Acts
    }

    fn arrived(&self) {
        let mut seen = self.0.seen.lock().unwrap();
        seen.held = seen.held.saturating_add(1);
        self.0.changed.notify_all();
    }

    /// Waits until nothing is held any more.
    async fn wait(&self) {
        let mut hold = self.0.hold.subscribe();
        self.arrived();
        drop(hold.wait_for(|hold| *hold == Hold::Nothing).await);
    }
}

async fn look(State(system): State<System>, Part(n): Part<i64>) -> Json<Value> {
    let mut held = false;
    system.0.hold.send_if_modified(|hold| match hold {
        Hold::Looks(0) => {
            held = true;
            false
        }
        Hold::Looks(more) => {
            *more = more.saturating_sub(1);
            true
        }
        Hold::Nothing | Hold::Acts => false,
    });
    if held {
        system.wait().await;
    }
    Json(json!({ "n": n }))
}

async fn act(State(system): State<System>, Json(body): Json<Value>) -> Json<Value> {
    system.0.seen.lock().unwrap().acts.push(body["n"].as_i64().unwrap());
    if system.is_acting_held() {
        system.wait().await;
    }
    Json(json!({ "acted": true }))
}

/// The folder, with the keys of everybody.
pub(crate) struct Folder {
    deployment: Deployment,
    pub(crate) system: System,
    pub(crate) ada: String,
    pub(crate) carol: String,
    pub(crate) dora: String,
    http: reqwest::Client,
}

impl Folder {
    pub(crate) fn new(place: Place) -> Self {
        let (system, base) = System::serve();
        let deployment = Deployment::new(place, &CONFIG.replace("BASE", &base), POLICIES);
        let key = |flag, name| deployment.key(&[flag, name]);
        let (ada, carol, dora) = (key("--agent", "ada"), key("--person", "carol"), key("--person", "dora"));
        Self { deployment, system, ada, carol, dora, http: http() }
    }

    /// Lets a server that stops wait so long for calls under way.
    pub(crate) fn shut_down_within(&self, ms: u32) {
        let main = self.deployment.at("countersign.toml");
        let text = fs::read_to_string(&main).unwrap();
        assert!(text.contains("[server]\n"), "{text}");
        fs::write(main, text.replace("[server]\n", &format!("[server]\nshutdown_ms = {ms}\n"))).unwrap();
    }

    pub(crate) fn serve(&self) -> Served {
        self.deployment.serve()
    }

    /// On a disk that can fill up.
    pub(crate) fn serve_on_a_disk_with_limits(&self) -> Served {
        Served::start_on_a_disk_with_limits(self.deployment.path())
    }

    /// As a process that may open so many files.
    pub(crate) fn serve_with_few_files(&self, files: u32) -> Served {
        Served::start_with_few_files(self.deployment.path(), files)
    }

    /// The status code of a request by carol.
    pub(crate) async fn status(&self, url: &str) -> u16 {
        self.http.get(url).bearer_auth(&self.carol).send().await.unwrap().status().as_u16()
    }

    /// Posts something as carol; the status code and the answer.
    pub(crate) async fn post(&self, url: &str, body: Value) -> (u16, Value) {
        let sent = self.http.post(url).bearer_auth(&self.carol).json(&body).send().await.unwrap();
        (sent.status().as_u16(), sent.json().await.unwrap_or_default())
    }

    /// Proposes a call as ada. `None` when the server is gone.
    pub(crate) async fn call(&self, url: &str, tool: &str, n: i64) -> Option<Value> {
        let body = json!({ "tool": tool, "arguments": { "n": n } });
        let sent = self.http.post(format!("{url}/v1/calls")).bearer_auth(&self.ada).json(&body).send().await;
        sent.ok()?.json().await.ok()
    }

    /// A call as ada that waits for people as long as it may.
    pub(crate) fn waits(
        &self,
        url: &str,
        n: u32,
    ) -> impl Future<Output = reqwest::Result<reqwest::Response>> + use<> {
        let body = json!({ "tool": "asked", "arguments": { "n": n }, "wait_ms": 600_000 });
        self.http.post(format!("{url}/v1/calls")).bearer_auth(&self.ada).json(&body).send()
    }

    /// Lets an agent go on, as carol; the status code.
    pub(crate) async fn resume(&self, url: &str, agent: &str) -> u16 {
        let url = format!("{url}/v1/halts?agent={agent}");
        self.http.delete(url).bearer_auth(&self.carol).send().await.unwrap().status().as_u16()
    }

    /// Waits until a number was acted on.
    pub(crate) async fn until_acted(&self, n: i64) {
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        while !self.system.acts().contains_key(&n) {
            poll.tick().await;
        }
    }

    /// The request that a call opens or finds.
    pub(crate) async fn ask(&self, url: &str, n: i64) -> String {
        let asked = self.call(url, "asked", n).await.unwrap();
        assert_eq!(asked["status"], "pending", "{asked}");
        asked["approval"].as_str().unwrap().to_owned()
    }

    /// Approves as somebody; answers the status code.
    pub(crate) async fn approve(&self, url: &str, who: &str, approval: &str) -> u16 {
        let url = format!("{url}/v1/approvals/{approval}/approve");
        let sent = self.http.post(url).bearer_auth(who).json(&json!({})).send().await.unwrap();
        sent.status().as_u16()
    }

    /// What ada gets for a request once it is final.
    pub(crate) async fn result(&self, url: &str, approval: &str) -> Value {
        let waiting = async {
            loop {
                let url = format!("{url}/v1/approvals/{approval}/result?wait_ms=20000");
                let got = self.http.get(url).bearer_auth(&self.ada).send().await.unwrap();
                let got: Value = got.json().await.unwrap();
                if got["status"] != "pending" {
                    return got;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the request must become final")
    }

    /// What carol sees.
    pub(crate) async fn look(&self, url: &str, what: &str) -> Value {
        let got = self.http.get(format!("{url}/v1/{what}")).bearer_auth(&self.carol).send().await.unwrap();
        got.json().await.unwrap()
    }

    /// Waits until so many calls are in doubt.
    pub(crate) async fn until_in_doubt(&self, url: &str, calls: usize) {
        let mut poll = tokio::time::interval(Duration::from_millis(50));
        let waiting = async {
            loop {
                poll.tick().await;
                let found = self.look(url, "calls?state=in_doubt&limit=1000").await;
                if found["calls"].as_array().unwrap().len() == calls {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the calls must be found in doubt");
    }

    /// Exports the log and has it checked by the program that trusts nothing but the key. Answers its size.
    pub(crate) fn verify(&self) -> u64 {
        let key = run_in(self.deployment.path(), &["keys", "log"]).out;
        let exported = run_in(self.deployment.path(), &["audit", "export", "exported"]);
        assert_eq!(exported.code, 0, "{}", exported.err);
        #[expect(clippy::disallowed_methods, reason = "the verifier is a program of its own")]
        let mut verifier = Command::new(verifier());
        let verified = verifier
            .arg(self.deployment.at("exported"))
            .args(["--key", key.trim(), "--json"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let verified = ran(&verified);
        assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
        fs::remove_dir_all(self.deployment.at("exported")).unwrap();
        verified.value()["size"].as_u64().unwrap()
    }
}

/// The separate verifier, which is built when this package is tested alone.
fn verifier() -> &'static Path {
    static PLACE: OnceLock<std::path::PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Path::new(env!("CARGO_BIN_EXE_countersign")).with_file_name("countersign-verify");
        if !place.exists() {
            let target = place.parent().and_then(Path::parent).unwrap();
            #[expect(clippy::disallowed_methods, reason = "cargo builds what cargo tests")]
            let mut cargo = Command::new(env!("CARGO"));
            let built = cargo
                .args(["build", "--quiet", "--package", "countersign-verify", "--target-dir"])
                .arg(target)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .stdin(Stdio::null())
                .status()
                .unwrap();
            assert!(built.success() && place.exists(), "the verifier cannot be built");
        }
        place
    })
}

/// Runs a command that must succeed, or have people asked, against a server.
pub(crate) fn must(served: &Served, key: &str, arguments: &[&str]) -> Value {
    let mut command = command(arguments);
    command.arg("--json").env("COUNTERSIGN_URL", &served.url).env("COUNTERSIGN_KEY", key);
    let done = ran(&command.stdin(Stdio::null()).output().unwrap());
    let pending = done.out.contains(r#""status":"pending""#);
    assert_eq!(done.code, if pending { 3 } else { 0 }, "{arguments:?}: {}{}", done.out, done.err);
    done.value()
}
