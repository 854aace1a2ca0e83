//! A folder with a database, tools, policies, agents and a person, and the server over it.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use http::{HeaderMap, Method, StatusCode};
use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt as _, RoleClient,
    model::{
        CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation,
        ProtocolVersion,
    },
    service::RunningService,
    transport::{
        StreamableHttpClientTransport, TokioChildProcess,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::Command,
};

use crate::{
    deployment::{Deployment, PATIENCE, http},
    place::Place,
    served::Served,
};

/// The revisions that are served.
pub(crate) const REVISIONS: &[ProtocolVersion] = countersign_mcp::REVISIONS;

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agent {
    /// May call everything that is not forbidden.
    Ada,
    /// May not call `allowed`.
    Bob,
    /// Ada by a key that reaches the tool `effects` alone.
    Narrow,
}

impl Agent {
    const ALL: [Self; 3] = [Self::Ada, Self::Bob, Self::Narrow];

    const fn id(self) -> &'static str {
        match self {
            Self::Ada | Self::Narrow => "ada",
            Self::Bob => "bob",
        }
    }
}

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:PORT"
SERVER

[log]
origin = "test.example/mcp"

[agent.ada]
accounts = ["acme"]
teams = ["writers"]

[agent.bob]
accounts = ["acme"]

[person.carol]
groups = ["approvers"]
roles = ["approver", "operator", "admin"]

[system.effects]
kind = "sqlite"
environment = "staging"
account = "acme"
path = "effects.db"

[tool.allowed]
system = "effects"
description = "Has an effect that the policies allow."
effect = "write"
arguments = { n = { type = "integer" } }
sql = "insert into effect (kind, n) values ('allowed', :n)"

[tool.denied]
system = "effects"
description = "Has an effect that the policies forbid."
effect = "write"
arguments = { n = { type = "integer" } }
sql = "insert into effect (kind, n) values ('denied', :n)"

[tool.asked]
system = "effects"
description = "Has an effect that a person must approve."
effect = "write"
arguments = { n = { type = "integer" } }
sql = "insert into effect (kind, n) values ('asked', :n)"

[tool.effects]
system = "effects"
description = "What was done."
effect = "read"
arguments = { n = { type = "integer" } }
result = { type = "object" }
sql = "select kind, count(*) as times from effect where n = :n group by kind order by kind"
"#;

const POLICIES: &str = r#"
@id("reads") permit (principal, action == Action::"effects", resource);
@id("allowed") permit (principal in Team::"writers", action == Action::"allowed", resource);
@id("asked") @ask("approvers") @because("a test asks") permit (principal, action == Action::"asked", resource);
@id("denied") forbid (principal, action == Action::"denied", resource);
"#;

/// The folder, and the server over it while it runs.
pub(crate) struct World {
    deployment: Deployment,
    port: u16,
    keys: Vec<(Agent, String)>,
    carol: String,
    server: Option<Served>,
    http: reqwest::Client,
}

/// An answer to a request made by hand.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }
}

impl World {
    /// The folder alone.
    pub(crate) async fn prepare() -> Self {
        Self::prepare_on(Place::sqlite()).await
    }

    /// The server with settings of its own.
    pub(crate) async fn with(server: &str) -> Self {
        let mut world = Self::prepare_with(Place::sqlite(), server);
        world.serve();
        world
    }

    /// The server, which holds calls that wait for people so long: without progress, and with it.
    pub(crate) async fn holding(hold_ms: u32, wait_ms: u32) -> Self {
        Self::with(&format!("hold_ms = {hold_ms}\nwait_ms = {wait_ms}")).await
    }

    /// The folder alone, with its ledger in a place.
    pub(crate) async fn prepare_on(place: Place) -> Self {
        Self::prepare_with(place, "wait_ms = 200")
    }

    /// The server with its ledger in a place, and settings of its own.
    pub(crate) async fn on_with(place: Place, server: &str) -> Self {
        let mut world = Self::prepare_with(place, server);
        world.serve();
        world
    }

    fn prepare_with(place: Place, server: &str) -> Self {
        // Taken again at once by the server; a fixed port is what lets clients find it after a restart.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let main = CONFIG.replace("PORT", &port.to_string()).replace("SERVER", server);
        let deployment = Deployment::new(place, &main, POLICIES);
        let table = "create table effect (kind text not null, n integer not null)";
        open(deployment.at("effects.db")).execute_batch(table).unwrap();
        let mut keys = Vec::new();
        for agent in Agent::ALL {
            let mut arguments = vec!["--agent", agent.id()];
            if agent == Agent::Narrow {
                arguments.extend(["--tool", "effects"]);
            }
            keys.push((agent, deployment.key(&arguments)));
        }
        let carol = deployment.key(&["--person", "carol"]);
        Self { deployment, port, keys, carol, server: None, http: http() }
    }

    /// Adds a file to the folder.
    pub(crate) fn write(&self, file: &str, text: &str) {
        self.deployment.write(file, text);
    }

    /// Proposes a call over REST.
    pub(crate) async fn propose(&self, agent: Agent, body: &Value) -> Value {
        let url = format!("{}/v1/calls", self.origin());
        let request = self.http.post(url).bearer_auth(self.key(agent)).json(body);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// The folder with the server over it.
    pub(crate) async fn start() -> Self {
        Self::on(Place::sqlite()).await
    }

    /// The same with its ledger in a place.
    pub(crate) async fn on(place: Place) -> Self {
        let mut world = Self::prepare_on(place).await;
        world.serve();
        world
    }

    /// Starts the server and waits until it listens.
    pub(crate) fn serve(&mut self) {
        let server = self.deployment.serve();
        assert_eq!(server.url, self.origin());
        self.server = Some(server);
    }

    /// Kills the server as a power cut would, and starts another one.
    pub(crate) fn kill_and_restart(&mut self) {
        self.server.take().unwrap().kill();
        self.serve();
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn key(&self, agent: Agent) -> &str {
        &self.keys.iter().find(|(of, _)| *of == agent).unwrap().1
    }

    /// How often a tool had its effect.
    pub(crate) fn effects(&self, kind: &str, n: i64) -> i64 {
        let query = "select count(*) from effect where kind = ?1 and n = ?2";
        open(self.deployment.at("effects.db")).query_row(query, (kind, n), |row| row.get(0)).unwrap()
    }

    /// Waits until a tool had its effect so often and the ledger knows what came of every call, and finds that it did
    /// not have it more often. The effect is there first: who kills the server in between leaves a call in doubt.
    pub(crate) async fn until_effects(&self, kind: &str, n: i64, times: i64) {
        self.until(|| async { (self.effects(kind, n) >= times).then_some(()) }).await;
        self.closed().await;
        assert_eq!(self.effects(kind, n), times);
    }

    /// Waits until no call is under way, and tells the states of all that were issued.
    pub(crate) async fn closed(&self) -> Vec<String> {
        self.until(|| async {
            let calls = self.calls().await;
            calls.iter().all(|state| state != "open").then_some(calls)
        })
        .await
    }

    /// Waits for a request for approval.
    pub(crate) async fn until_request(&self) -> String {
        self.until(|| async { self.requests().await.pop() }).await
    }

    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(&self, look: impl Fn() -> F) -> T {
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        let looking = async {
            loop {
                poll.tick().await;
                if let Some(found) = look().await {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("it did not happen in time")
    }

    /// The requests that wait for carol.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let form = self.looked_up("approvals").await;
        form["approvals"]
            .as_array()
            .unwrap()
            .iter()
            .map(|request| text(&request["approval"]).to_owned())
            .collect()
    }

    /// The state of every call that was issued.
    async fn calls(&self) -> Vec<String> {
        let form = self.looked_up("calls?limit=1000").await;
        form["calls"].as_array().unwrap().iter().map(|call| text(&call["state"]).to_owned()).collect()
    }

    /// Revokes an agent's key, as the operator.
    pub(crate) async fn revoke(&self, agent: Agent) {
        let id = self.key(agent).split('_').nth(1).unwrap();
        let url = format!("{}/v1/keys/{id}", self.origin());
        let answer = self.http.delete(url).bearer_auth(&self.carol).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    }

    /// Opens the stream of events over REST.
    pub(crate) async fn events(&self, agent: Agent) -> reqwest::Response {
        let url = format!("{}/v1/events", self.origin());
        self.http.get(url).bearer_auth(self.key(agent)).send().await.unwrap()
    }

    async fn looked_up(&self, what: &str) -> Value {
        let url = format!("{}/v1/{what}", self.origin());
        self.http.get(url).bearer_auth(&self.carol).send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn approve(&self, approval: &str) {
        self.answer(approval, "approve", &json!({})).await;
    }

    pub(crate) async fn refuse(&self, approval: &str, reason: &str) {
        self.answer(approval, "refuse", &json!({ "reason": reason })).await;
    }

    async fn answer(&self, approval: &str, how: &str, body: &Value) {
        let url = format!("{}/v1/approvals/{approval}/{how}", self.origin());
        let answer = self.http.post(url).bearer_auth(&self.carol).json(body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    }

    /// A client of the official SDK over HTTP.
    pub(crate) async fn client(
        &self,
        agent: Agent,
        revision: &ProtocolVersion,
    ) -> RunningService<RoleClient, Client> {
        self.connect(agent, Client::of(revision)).await
    }

    /// The same with the extension for tasks, which is of the newest revision.
    pub(crate) async fn client_with_tasks(&self, agent: Agent) -> RunningService<RoleClient, Client> {
        let mut client = Client::of(&ProtocolVersion::V_2026_07_28);
        client.0.capabilities = ClientCapabilities::builder().enable_tasks().build();
        self.connect(agent, client).await
    }

    async fn connect(&self, agent: Agent, client: Client) -> RunningService<RoleClient, Client> {
        let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", self.origin()))
            .auth_header(self.key(agent));
        let lifecycle = client.lifecycle();
        client
            .serve_with_lifecycle(StreamableHttpClientTransport::from_config(config), lifecycle)
            .await
            .unwrap()
    }

    /// A client of the official SDK over the standard streams of a process of its own.
    pub(crate) async fn stdio_client(
        &self,
        agent: Agent,
        revision: &ProtocolVersion,
    ) -> RunningService<RoleClient, Client> {
        self.started(self.stdio(self.key(agent)), revision).await
    }

    /// A client of the official SDK that starts a program, which joins it to the running server.
    pub(crate) async fn bridged(
        &self,
        agent: Agent,
        revision: &ProtocolVersion,
    ) -> RunningService<RoleClient, Client> {
        self.started(self.bridge(self.key(agent)), revision).await
    }

    /// A client of the official SDK with a program that it starts.
    async fn started(
        &self,
        program: Command,
        revision: &ProtocolVersion,
    ) -> RunningService<RoleClient, Client> {
        let client = Client::of(revision);
        let lifecycle = client.lifecycle();
        let (process, _) = TokioChildProcess::builder(program).stderr(self.deployment.log()).spawn().unwrap();
        client.serve_with_lifecycle(process, lifecycle).await.unwrap()
    }

    fn bridge(&self, key: &str) -> Command {
        let mut command = self.deployment.command(&["connect"]);
        command.env("COUNTERSIGN_KEY", key);
        command
    }

    /// What the program says that joins a client with a bad key: exit code, standard output and error.
    pub(crate) async fn bridge_refused(&self, key: &str) -> (Option<i32>, String, String) {
        let mut command = self.bridge(key);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let begin = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } } });
        let mut input = process.stdin.take().unwrap();
        input.write_all(format!("{begin}\n").as_bytes()).await.unwrap();
        drop(input);
        let done = tokio::time::timeout(PATIENCE, process.wait_with_output()).await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    }

    /// What a process on standard streams says where a server runs already.
    pub(crate) async fn stdio_beside(&self, agent: Agent) -> (Option<i32>, String, String) {
        self.stdio_refused(self.key(agent)).await
    }

    fn stdio(&self, key: &str) -> Command {
        let mut command = self.deployment.command(&["serve", "--stdio"]);
        command.env("COUNTERSIGN_KEY", key);
        command
    }

    /// What a process on standard streams writes for these lines, once it has written so many of its own.
    pub(crate) async fn stdio_lines(&self, agent: Agent, lines: &[String], answers: usize) -> String {
        let mut command = self.stdio(self.key(agent));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(self.deployment.log());
        let mut process = command.spawn().unwrap();
        let mut input = process.stdin.take().unwrap();
        for line in lines {
            input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        }
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut written = String::new();
        let reading = async {
            for _ in 0..answers {
                output.read_line(&mut written).await.unwrap();
            }
            drop(input);
            output.read_to_string(&mut written).await.unwrap();
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the process must end when its input does");
        assert!(process.wait().await.unwrap().success());
        written
    }

    /// What a process on standard streams says to a bad key.
    pub(crate) async fn stdio_refused(&self, key: &str) -> (Option<i32>, String, String) {
        let done = self.stdio(key).stdin(Stdio::null()).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    }

    /// The headers of a good request of 2025-11-25.
    pub(crate) fn headers(&self, agent: Agent) -> Vec<(&'static str, String)> {
        vec![
            ("authorization", format!("Bearer {}", self.key(agent))),
            ("content-type", "application/json".into()),
            ("accept", "application/json, text/event-stream".into()),
            ("mcp-protocol-version", "2025-11-25".into()),
        ]
    }

    /// Sends whatever it is given.
    pub(crate) async fn raw(
        &self,
        method: Method,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}/mcp", self.origin())).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answer { status, headers, body: answer.bytes().await.unwrap().to_vec() }
    }

    /// Sends a good request with further headers.
    pub(crate) async fn post(
        &self,
        agent: Agent,
        headers: &[(&'static str, String)],
        body: &Value,
    ) -> (StatusCode, Value) {
        let headers = [self.headers(agent), headers.to_vec()].concat();
        let answer = self.raw(Method::POST, &headers, body.to_string().into_bytes()).await;
        (answer.status, answer.json())
    }

    /// Sends a good request, and returns the answer's content type and body.
    pub(crate) async fn send(&self, agent: Agent, body: &Value) -> (String, String) {
        let answer = self.raw(Method::POST, &self.headers(agent), body.to_string().into_bytes()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        (answer.headers["content-type"].to_str().unwrap().to_owned(), answer.text())
    }

    /// Initialises by hand, and returns the session id.
    pub(crate) async fn initialize(&self, agent: Agent) -> String {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } } });
        let answer = self.raw(Method::POST, &self.headers(agent), body.to_string().into_bytes()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.headers["mcp-session-id"].to_str().unwrap().to_owned()
    }

    /// Sends a request and reads nothing. Dropping the connection is hanging up.
    pub(crate) async fn send_only(&self, agent: Agent, body: &Value) -> TcpStream {
        let body = body.to_string();
        let mut head = format!("POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n", self.port);
        for (name, value) in self.headers(agent) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.unwrap();
        let length = body.len();
        connection
            .write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes())
            .await
            .unwrap();
        connection
    }
}

/// The client's side: says which revision it speaks and what it can do.
#[derive(Debug, Clone)]
pub(crate) struct Client(ClientConfig);

impl Client {
    fn of(revision: &ProtocolVersion) -> Self {
        let client = Implementation::new("countersign-test", "1");
        Self(ClientConfig::new(ClientCapabilities::default(), client).with_protocol_version(revision.clone()))
    }

    fn lifecycle(&self) -> ClientLifecycleMode {
        if self.0.protocol_version < ProtocolVersion::V_2026_07_28 {
            ClientLifecycleMode::Initialize
        } else {
            ClientLifecycleMode::Discover { preferred_versions: vec![self.0.protocol_version.clone()] }
        }
    }
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        self.0.clone()
    }
}

/// A call of one of the tools.
pub(crate) fn params(tool: &str, n: i64) -> CallToolRequestParams {
    let arguments = json!({ "n": n, "_reason": "a test" });
    CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.as_object().unwrap().clone())
}

/// The same of a client that goes through rounds.
pub(crate) fn rounds(tool: &str, n: i64) -> CallToolRequestParams {
    let mut params = params(tool, n);
    let meta = json!({ countersign_mcp::ROUNDS_META: true });
    params.meta = Some(meta.as_object().unwrap().clone().into());
    params
}

/// The same as a message made by hand.
pub(crate) fn call(tool: &str, n: i64) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": { "n": n } } })
}

/// A call of our own tool.
pub(crate) fn await_request(approval: &str, wait_seconds: u64) -> CallToolRequestParams {
    let arguments = json!({ "approval": approval, "wait_seconds": wait_seconds });
    CallToolRequestParams::new(countersign_mcp::AWAIT).with_arguments(arguments.as_object().unwrap().clone())
}

/// The request that a pending result names.
pub(crate) fn pending(result: &CallToolResult) -> String {
    assert_eq!(result.is_error, Some(false), "{result:?}");
    let answer = result.structured_content.as_ref().unwrap();
    assert_eq!(answer["status"], "pending", "{answer}");
    text(&answer["approval"]).to_owned()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn open(path: PathBuf) -> rusqlite::Connection {
    #[expect(clippy::disallowed_methods, reason = "the test looks at effects behind the tools' back")]
    rusqlite::Connection::open(path).unwrap()
}
