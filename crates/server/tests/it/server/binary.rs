//! The binary from `init` to a verified log, as a newcomer would use it.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

fn countersign() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.env_remove("COUNTERSIGN_KEY").env_remove("COUNTERSIGN_URL");
    command
}

/// Standard output, when the exit code is as expected.
fn run(code: i32, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = countersign().args(arguments).output().unwrap();
    let stdout = String::from_utf8(stdout).unwrap();
    assert_eq!(status.code(), Some(code), "{arguments:?}\n{stdout}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}

fn json(code: i32, arguments: &[&str]) -> Value {
    let text = run(code, &[arguments, &["--json"]].concat());
    serde_json::from_str(text.lines().next().unwrap_or_default())
        .unwrap_or_else(|why| panic!("{why}: {text}"))
}

/// A server as a child process, ended when dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn new(folder: &str) -> Self {
        let mut command = countersign();
        command.args(["serve", folder, "--print-url"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("http://127.0.0.1:"), "{url:?}");
        Self { child, url: url.trim().to_owned() }
    }

    /// Ends it as an operator would, and answers its exit code.
    fn terminate(mut self) -> Option<i32> {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn init(folder: &Path) -> String {
    let folder = folder.join("new").to_str().unwrap().to_owned();
    run(0, &["init", &folder]);
    let main = format!("{folder}/countersign.toml");
    let text = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, text.replace("127.0.0.1:7780", "127.0.0.1:0")).unwrap();
    folder
}

#[test]
fn from_init_to_a_verified_log() {
    let temp = tempfile::tempdir().unwrap();
    let folder = init(temp.path());
    run(2, &["init", &folder]);
    assert_eq!(json(0, &["check", &folder])["ok"], true);

    let server = Server::new(&folder);
    let (agent, person) = (format!("{folder}/keys/assistant.key"), format!("{folder}/keys/alice.key"));
    let url = server.url.clone();
    let as_agent = |rest: &[&str]| [rest, &["--server", &url, "--key-file", &agent]].concat().join("\u{0}");
    let as_person = |rest: &[&str]| [rest, &["--server", &url, "--key-file", &person]].concat().join("\u{0}");
    let go = |code, joined: String| json(code, &joined.split('\u{0}').collect::<Vec<_>>());

    let read = go(0, as_agent(&["call", "customer_invoices", r#"{"customer":7}"#]));
    assert_eq!(read["rows"], 10, "{read}");
    let asked =
        go(3, as_agent(&["call", "delete_test_invoices", r#"{"customer":7}"#, "--reason", "clean up"]));
    assert_eq!(asked["status"], "pending");
    let id = asked["approval"].as_str().unwrap();
    let listed = go(0, as_person(&["approvals", "list"]));
    assert_eq!(listed["approvals"][0]["rows"], 3, "{listed}");
    go(1, as_agent(&["approvals", "approve", id]));
    go(0, as_person(&["approvals", "approve", id]));
    let done = go(0, as_agent(&["call", "--result", id, "--wait-ms", "5000"]));
    assert_eq!((&done["status"], &done["rows"]), (&"done".into(), &3.into()), "{done}");

    let refused = go(3, as_agent(&["call", "query_billing", r#"{"sql":"update invoice set total = 0"}"#]));
    let id = refused["approval"].as_str().unwrap().to_owned();
    go(0, as_person(&["approvals", "refuse", &id, "--reason", "no"]));
    go(1, as_agent(&["call", "--result", &id]));
    go(1, as_agent(&["call", "query_billing", r#"{"sql":"select 1; select 2"}"#]));
    assert_eq!(go(0, as_person(&["budgets"]))["accounts"][0]["spent"], 3);
    go(0, as_person(&["halt", "assistant", "--reason", "enough"]));
    go(1, as_agent(&["call", "customer_invoices", r#"{"customer":7}"#]));
    go(0, as_person(&["resume", "assistant"]));

    // The log is read beside the running server, and a key issued: it is good at once.
    assert_eq!(json(0, &["audit", "verify", "-C", &folder])["verified"], true);
    let key = json(0, &["keys", "create", "--agent", "assistant", "-C", &folder]);
    let (id, fresh) = (key["key"].as_str().unwrap(), temp.path().join("fresh.key"));
    std::fs::write(&fresh, key["secret"].as_str().unwrap()).unwrap();
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).unwrap();
    let fresh = fresh.to_str().unwrap();
    let call = ["call", "customer_invoices", r#"{"customer":7}"#, "--server", &url, "--key-file", fresh];
    assert_eq!(json(0, &call)["status"], "done");
    // Revoking goes through the server, by an operator, and works on the next request.
    let revoke = |code, key: &str| {
        json(code, &["keys", "revoke", id, "-C", &folder, "--server", &url, "--key-file", key])
    };
    revoke(1, fresh);
    assert_eq!(json(0, &call)["status"], "done");
    assert_eq!(revoke(0, &person)["revoked"], true);
    assert_eq!(json(1, &call)["code"], "R015");
    assert_eq!(revoke(1, &person)["revoked"], false);
    assert_eq!(json(0, &["audit", "verify", "-C", &folder])["verified"], true);
    assert_eq!(server.terminate(), Some(0));

    // A person's key expires unless that is said otherwise, and an agent's does not.
    let expires = |who: &[&str]| {
        let key = json(0, &[&["keys", "create", "-C", &folder], who].concat());
        let ms = |at: &Value| at.as_str().map(|at| at.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        ms(&key["expires_at"]).map(|at| (at - ms(&key["issued_at"]).unwrap()) / 86_400_000)
    };
    assert_eq!(expires(&["--person", "alice"]), Some(90));
    assert_eq!(expires(&["--person", "alice", "--expires", "7"]), Some(7));
    assert_eq!(expires(&["--person", "alice", "--expires", "never"]), None);
    assert_eq!(expires(&["--agent", "assistant"]), None);
    assert_eq!(expires(&["--agent", "assistant", "--expires-days", "30"]), Some(30));
    for never in ["0", "-1", "soon", ""] {
        run(2, &["keys", "create", "--person", "alice", "--expires", never, "-C", &folder]);
    }
    let secret = run(0, &["keys", "create", "--agent", "assistant", "-C", &folder]);
    assert!(secret.starts_with("csk_"), "{secret}");
    run(2, &["keys", "create", "--agent", "nobody", "-C", &folder]);
    let kept = temp.path().join("checkpoint");
    let export = temp.path().join("export");
    run(0, &["audit", "export", export.to_str().unwrap(), "-C", &folder]);
    std::fs::copy(export.join("checkpoint"), &kept).unwrap();
    run(0, &["audit", "verify", "-C", &folder, "--checkpoint", kept.to_str().unwrap()]);
}

#[test]
fn a_key_that_is_revoked_ends_the_session_on_standard_input_and_output() {
    use std::io::Write as _;
    let temp = tempfile::tempdir().unwrap();
    let folder = init(temp.path());
    let key = json(0, &["keys", "create", "--agent", "assistant", "-C", &folder]);
    let mut server = countersign();
    server.args(["serve", &folder, "--stdio"]).env("COUNTERSIGN_KEY", key["secret"].as_str().unwrap());
    let mut server =
        server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut noise = BufReader::new(server.stderr.take().unwrap()).lines();
    let listening = noise.by_ref().map(Result::unwrap).find(|line| line.contains("listening")).unwrap();
    let listening: Value = serde_json::from_str(&listening).unwrap();
    let url = format!("http://{}", listening["fields"]["address"].as_str().unwrap());
    let mut input = server.stdin.take().unwrap();
    let mut output = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut send = |message: Value| writeln!(input, "{message}");
    let hello = serde_json::json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    send(serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello })).unwrap();
    output.next().unwrap().unwrap();
    send(serde_json::json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).unwrap();
    let call = |id: u32| {
        let params = serde_json::json!({ "name": "customer_invoices", "arguments": { "customer": 7 } });
        serde_json::json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
    };
    send(call(2)).unwrap();
    assert!(output.next().unwrap().unwrap().contains("issued"));
    let person = format!("{folder}/keys/alice.key");
    json(
        0,
        &[
            "keys",
            "revoke",
            key["key"].as_str().unwrap(),
            "-C",
            &folder,
            "--server",
            &url,
            "--key-file",
            &person,
        ],
    );
    // The next message is not answered any more, and the session ends by itself.
    drop(send(call(3)));
    assert!(output.next().is_none(), "a revoked key was answered");
    assert!(server.wait().unwrap().code().is_some());
    let calls = run(0, &["audit", "query", "-C", &folder, "--json"]);
    assert_eq!(calls.matches("call_proposed").count(), 1, "{calls}");
}

#[test]
fn a_killed_server_comes_back_with_what_was_parked() {
    let temp = tempfile::tempdir().unwrap();
    let folder = init(temp.path());
    let (agent, person) = (format!("{folder}/keys/assistant.key"), format!("{folder}/keys/alice.key"));
    let mut server = Server::new(&folder);
    let call = ["call", "delete_test_invoices", r#"{"customer":3}"#, "--key-file", &agent];
    let asked = json(3, &[&call[..], &["--server", &server.url]].concat());
    let id = asked["approval"].as_str().unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();

    let server = Server::new(&folder);
    let url = server.url.as_str();
    let again = json(3, &[&call[..], &["--server", url]].concat());
    assert_eq!(again["approval"], id, "the same request");
    run(0, &["approvals", "approve", id, "--server", url, "--key-file", &person]);
    let result = ["call", "--result", id, "--wait-ms", "5000", "--server", url, "--key-file", &agent];
    assert_eq!(json(0, &result)["rows"], 3);
}

#[test]
fn a_key_is_not_sent_where_others_can_read_it() {
    let temp = tempfile::tempdir().unwrap();
    let folder = init(temp.path());
    let key = format!("{folder}/keys/alice.key");
    let out = run(
        2,
        &["approvals", "list", "--server", "http://countersign.example", "--key-file", &key, "--json"],
    );
    assert!(out.contains("not encrypted"), "{out}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let out = run(2, &["approvals", "list", "--server", "http://127.0.0.1:9", "--key-file", &key, "--json"]);
    assert!(out.contains("others"), "{out}");
}
