//! The direct way of a call to an upstream, beside the SDK's: what goes out, and what answers are taken for.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use countersign_gate::Answer;
use countersign_rules::{Code, DeclaredEffect};
use countersign_tools::{
    AnyDefinition, Systems, ToolStatus,
    definition::{McpDefinition, McpLimits, McpTarget, McpTransport, Target},
    mcp::definition_digest,
};
use futures::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    harness::{ALLOW, TestVault, World, system, tool},
    mcp::{SECRET, until},
};

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Direct,
    /// The tool can have an argument in a header, which is the SDK's to write.
    Sdk,
}

/// What the upstream does about a call.
#[derive(Debug, Clone)]
enum Script {
    /// Answers. `ID` in the body stands for the id of the call.
    Say(StatusCode, Option<&'static str>, String),
    /// Answers so, and then the connection breaks.
    Break(&'static str, &'static str),
    /// Answers so, and then nothing more comes.
    Stall(&'static str, &'static str),
    /// Does not answer.
    Never,
    /// Sends the caller to where it answers.
    Redirect(StatusCode),
}

/// A call as it came in.
#[derive(Debug, Clone)]
struct Sent {
    path: String,
    headers: BTreeMap<String, String>,
    body: Value,
}

#[derive(Debug)]
struct Upstream {
    way: Way,
    /// A call names the one that it wants by its place.
    scripts: Arc<[Script]>,
    calls: Mutex<Vec<Sent>>,
    /// Whether it describes its tool otherwise than at first; a call of it makes it do so.
    changed: AtomicBool,
    /// A caller has gone away before it had its answer.
    gone: Arc<Notify>,
}

/// Notifies when it is dropped.
struct Gone(Arc<Notify>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn schema(way: Way) -> Value {
    let note = match way {
        Way::Direct => json!({"type": "string"}),
        Way::Sdk => json!({"type": "string", "x-mcp-header": "Note"}),
    };
    json!({"type": "object", "properties": {"text": {"type": "string"}, "note": note}})
}

impl Upstream {
    async fn respond(State(this): State<Arc<Self>>, request: axum::extract::Request) -> Response {
        let (parts, body) = request.into_parts();
        let body: Bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let result = match asked["method"].as_str() {
            Some("server/discover") => json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}}, "ttlMs": 3_600_000, "cacheScope": "private",
            }),
            Some("tools/list") => {
                let description =
                    if this.changed.load(Ordering::SeqCst) { "does something else" } else { "acts" };
                let act = json!({"name": "act", "description": description, "inputSchema": schema(this.way)});
                json!({"resultType": "complete", "tools": [act], "ttlMs": 3_600_000, "cacheScope": "private"})
            }
            Some("tools/call") => {
                let headers = spelled(&parts.headers);
                let sent = Sent { path: parts.uri.path().to_owned(), headers, body: asked.clone() };
                this.calls.lock().unwrap().push(sent);
                this.changed.store(true, Ordering::SeqCst);
                let wanted = asked["params"]["arguments"]["text"].as_str().unwrap();
                let script = &this.scripts[wanted.split(' ').next_back().unwrap().parse::<usize>().unwrap()];
                return this.perform(script, parts.uri.path(), &asked["id"]).await;
            }
            _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
        };
        axum::Json(json!({"jsonrpc": "2.0", "id": asked["id"], "result": result})).into_response()
    }

    async fn perform(&self, script: &Script, path: &str, id: &Value) -> Response {
        let fill = |text: &str| text.replace("ID", &id.to_string());
        let typed =
            |kind: &str, body: Body| ([(header::CONTENT_TYPE, kind.to_owned())], body).into_response();
        match script {
            Script::Say(status, kind, text) => {
                let mut response = Response::new(Body::from(fill(text)));
                *response.status_mut() = *status;
                if let Some(kind) = kind {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
                }
                response
            }
            Script::Break(kind, text) => {
                let rest = [Ok(fill(text)), Err(std::io::Error::other("broken"))];
                typed(kind, Body::from_stream(stream::iter(rest)))
            }
            Script::Stall(kind, text) => {
                let gone = Gone(Arc::clone(&self.gone));
                let rest = stream::once(async move {
                    let _gone = gone;
                    pending::<Result<String, Infallible>>().await
                });
                typed(kind, Body::from_stream(stream::iter([Ok(fill(text))]).chain(rest)))
            }
            Script::Never => {
                let _gone = Gone(Arc::clone(&self.gone));
                pending().await
            }
            Script::Redirect(status) => {
                (*status, [(header::LOCATION, format!("/elsewhere{path}"))]).into_response()
            }
        }
    }

    fn calls(&self) -> Vec<Sent> {
        self.calls.lock().unwrap().clone()
    }
}

/// The headers, but for those that tell nothing of the call.
fn spelled(headers: &HeaderMap) -> BTreeMap<String, String> {
    let told = headers.iter().filter(|(name, _)| !matches!(name.as_str(), "host" | "content-length"));
    told.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

/// A world with upstreams that do so about calls. Each gives its calls so many milliseconds, has a connection of its
/// own, and two tools: `read_N`, and `write_N`, which is the same as a write.
async fn against(way: Way, scripts: Vec<Script>, call_timeouts: &[u64]) -> (World, Vec<Arc<Upstream>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let digest =
        definition_digest(&json!({"name": "act", "description": "acts", "inputSchema": schema(way)}))
            .unwrap();
    let scripts: Arc<[Script]> = scripts.into();
    let (mut app, mut vault) = (Router::new(), TestVault::default());
    let (mut systems, mut definitions, mut upstreams) = (Vec::new(), Vec::new(), Vec::new());
    for (number, &call_timeout_ms) in call_timeouts.iter().enumerate() {
        let upstream = Arc::new(Upstream {
            way,
            scripts: Arc::clone(&scripts),
            calls: Mutex::default(),
            changed: AtomicBool::new(false),
            gone: Arc::default(),
        });
        let handler = axum::routing::any(Upstream::respond).with_state(Arc::clone(&upstream));
        app =
            app.route(&format!("/{number}"), handler.clone()).route(&format!("/elsewhere/{number}"), handler);
        let name = format!("upstream_{number}");
        vault = vault.with(&name, "token", SECRET);
        let url = format!("http://{address}/{number}").parse().unwrap();
        let transport =
            McpTransport::Http { url, bearer: Some("token".into()), allow_private: true, ca: None };
        let limits = McpLimits { connect_timeout_ms: 60_000, call_timeout_ms, result_bytes_max: 10_000 };
        systems.push(system(&name, Target::Mcp(McpTarget { transport, limits })));
        for (kind, effect) in KINDS {
            definitions.push(AnyDefinition::Mcp(McpDefinition {
                tool: tool(&format!("{kind}_{number}"), &name, effect, json!({"text": {"type": "string"}})),
                upstream_tool: "act".into(),
                definition_digest: digest.clone(),
                effect_reviewed: true,
                amount: None,
            }));
        }
        upstreams.push(upstream);
    }
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let world = World::new(&systems, vault, &definitions, ALLOW);
    Systems::start(world.tools.values(), |spec| world.gate.upkeep(spec));
    Systems::settled(world.tools.values()).await;
    (world, upstreams)
}

/// A world with one upstream that answers calls so.
async fn answering(way: Way, kind: &'static str, text: &str) -> (World, Arc<Upstream>) {
    let script = Script::Say(StatusCode::OK, Some(kind), text.to_owned());
    let (world, mut upstreams) = against(way, vec![script], &[PATIENT]).await;
    (world, upstreams.remove(0))
}

/// The code of a refusal, and none where it was done. `wanted` ends with the place of a script.
async fn outcome(world: &World, tool: &str, wanted: &str) -> Option<Code> {
    match world.call(tool, json!({"text": wanted})).await {
        Answer::Done(_) => None,
        Answer::Refused(refused) => Some(refused.refusal.code),
        other => panic!("neither done nor refused: {other:?}"),
    }
}

fn is_direct(sent: &Sent) -> bool {
    sent.body["id"].as_i64().unwrap() > i64::from(u32::MAX)
}

const KINDS: [(&str, DeclaredEffect); 2] = [("read", DeclaredEffect::Read), ("write", DeclaredEffect::Write)];
/// Milliseconds for calls that are answered, and for those that are not.
const PATIENT: u64 = 60_000;
const IMPATIENT: u64 = 2_000;

const DONE: [Option<Code>; 2] = [None, None];
const FAILED: [Option<Code>; 2] = [Some(Code::ToolFailed), Some(Code::ToolFailed)];
/// What the result is, is known; it is only not passed on.
const UNFIT: [Option<Code>; 2] = [Some(Code::ToolFailed), Some(Code::ResultRejected)];
const UNKNOWN: [Option<Code>; 2] = [Some(Code::SystemUnavailable), Some(Code::InDoubt)];

const JSON: &str = "application/json";
const STREAM: &str = "text/event-stream";

/// Answers, and what they are taken for: as a read and as a write.
fn cases() -> Vec<(String, Script, [Option<Code>; 2])> {
    let mut cases = Vec::new();
    let mut case = |name: &str, script: Script, taken_for| cases.push((name.to_owned(), script, taken_for));
    let say = |status: u16, kind, text: &str| {
        Script::Say(StatusCode::from_u16(status).unwrap(), Some(kind), text.to_owned())
    };
    let result = |result: &str| say(200, JSON, &format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{result}}}"#));
    for (text, taken_for) in [
        (r#"{"resultType":"complete","content":[],"structuredContent":{"a":1}}"#, DONE),
        (r#"{"resultType":"complete","content":[{"type":"text","text":"ä"}]}"#, DONE),
        (r#"{"content":[{"type":"text","text":"older"}],"isError":false}"#, DONE),
        (r#"{"resultType":"complete","structuredContent":null}"#, DONE),
        (r#"{"content":[],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n","version":"1"}}}"#, DONE),
        (r#"{"content":[],"more":1}"#, DONE),
        ("{}", DONE),
        (r#"{"resultType":"complete"}"#, DONE),
        (r#"{"_meta":{"a":1}}"#, DONE),
        (r#"{"_meta":null}"#, UNKNOWN),
        (r#"{"content":[{"type":"text","text":"no"}],"isError":true}"#, FAILED),
        (r#"{"resultType":"complete","isError":true,"structuredContent":{"a":1},"content":[]}"#, FAILED),
        (r#"{"resultType":"input_required","requestState":"s"}"#, UNKNOWN),
        (r#"{"resultType":"input_required","content":[]}"#, UNKNOWN),
        (
            r#"{"resultType":"task","taskId":"t","status":"working","createdAt":"2026-11-30T00:00:00Z","lastUpdatedAt":"2026-11-30T00:00:00Z","ttlMs":null}"#,
            UNKNOWN,
        ),
        (r#"{"resultType":"odd","content":[]}"#, UNKNOWN),
        (r#"{"content":[],"tools":[]}"#, UNKNOWN),
        (
            r#"{"resultType":"complete","content":[],"_meta":{"io.modelcontextprotocol/subscriptionId":1}}"#,
            UNKNOWN,
        ),
        (r#"{"content":[{"type":"odd"}],"structuredContent":{"a":1}}"#, UNKNOWN),
        (r#"{"content":{},"structuredContent":{"a":1}}"#, UNKNOWN),
        (r#"{"content":[],"isError":"no"}"#, UNKNOWN),
        (r#"{"content":[],"isError":true,"isError":false}"#, UNKNOWN),
        (r#"{"content":[],"structuredContent":{"a":1,"a":2}}"#, DONE),
        ("null", UNKNOWN),
        ("[]", DONE),
        ("true", UNKNOWN),
    ] {
        case(&format!("result {text}"), result(text), taken_for);
    }
    for (code, taken_for) in [
        (-32602, FAILED),
        (-32601, FAILED),
        (-32600, FAILED),
        (-32700, FAILED),
        (-32603, UNKNOWN),
        (-32000, UNKNOWN),
        (1, UNKNOWN),
    ] {
        let error = format!(r#"{{"jsonrpc":"2.0","id":ID,"error":{{"code":{code},"message":"m"}}}}"#);
        case(&format!("error {code}"), say(200, JSON, &error), taken_for);
        if matches!(code, -32602 | -32603) {
            case(
                &format!("stream, error {code}"),
                say(200, STREAM, &format!("data: {error}\n\n")),
                taken_for,
            );
        }
        for status in [400, 404, 500, 503, 307] {
            case(&format!("HTTP {status}, error {code}"), say(status, JSON, &error), taken_for);
        }
        for status in [401, 403, 429] {
            case(&format!("HTTP {status}, error {code}"), say(status, JSON, &error), UNKNOWN);
        }
        case(&format!("HTTP 400 in plain text, error {code}"), say(400, "text/plain", &error), UNKNOWN);
    }
    let good = r#"{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","content":[]}}"#;
    for (status, taken_for) in
        [(201, DONE), (202, UNKNOWN), (204, UNKNOWN), (400, UNKNOWN), (404, UNKNOWN), (500, UNKNOWN)]
    {
        case(&format!("HTTP {status} with a result"), say(status, JSON, good), taken_for);
    }
    for status in [401, 403, 404, 410, 429, 500, 502, 503] {
        case(&format!("HTTP {status}"), say(status, "text/plain", "no"), UNKNOWN);
    }
    for status in [301, 302, 303, 307, 308] {
        case(&format!("redirect {status}"), Script::Redirect(StatusCode::from_u16(status).unwrap()), UNKNOWN);
    }
    for (kind, taken_for) in [
        ("Application/JSON; charset=utf-8", DONE),
        ("text/html", UNKNOWN),
        ("application/jsonx", UNKNOWN),
        ("", UNKNOWN),
    ] {
        case(&format!("type `{kind}`"), say(200, kind, good), taken_for);
    }
    case("no type", Script::Say(StatusCode::OK, None, good.into()), UNKNOWN);
    for (text, taken_for) in [
        (r#"{"jsonrpc":"2.0","id":"ID","result":{"content":[]}}"#, DONE),
        (r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","id":"x","result":{"content":[]}}"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","id":null,"result":{"content":[]}}"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","result":{"content":[]}}"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","error":{"code":-32602,"message":"m"}}"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"m"}}"#, UNKNOWN),
        (r#"{"jsonrpc":"1.0","id":ID,"result":{"content":[]}}"#, UNKNOWN),
        (r#"{"id":ID,"result":{"content":[]}}"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","id":ID,"id":ID,"result":{"content":[]}}"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","id":1,"id":ID,"result":{"content":[]}}"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]},"result":{"content":[]}}"#, UNKNOWN),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]},"error":{"code":-32602,"message":"m"}}"#,
            UNKNOWN,
        ),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]},"more":1}"#, DONE),
        (r#"[{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}]"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","id":ID,"method":"ping"}"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}"#, UNKNOWN),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}}"#, UNKNOWN),
        ("", UNKNOWN),
        ("no JSON", UNKNOWN),
    ] {
        case(&format!("message {text}"), say(200, JSON, text), taken_for);
    }
    case(
        "a result over the limit",
        result(&format!(r#"{{"structuredContent":{{"a":"{}"}}}}"#, "x".repeat(20_000))),
        UNFIT,
    );
    case(
        "a message over the limit",
        result(&format!(r#"{{"structuredContent":{{"a":"{}"}}}}"#, "x".repeat(90_000))),
        UNKNOWN,
    );
    case("broken off", Script::Break(JSON, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}"#), UNKNOWN);
    case(
        "broken off at the end",
        Script::Break(JSON, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#),
        UNKNOWN,
    );
    case("stalled", Script::Stall(JSON, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#), UNKNOWN);
    case("never", Script::Never, UNKNOWN);
    let answer = format!("data: {good}\n\n");
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ID,"progress":1}}"#;
    let large = "x".repeat(90_000);
    for (name, text, taken_for) in [
        ("an answer", answer.clone(), DONE),
        ("as `message`", format!("event: message\ndata:{good}\r\n\r\n"), DONE),
        ("a mark and comments", format!("\u{feff}: hello\n\n:\n{answer}"), DONE),
        ("over two lines", answer.replace(",\"id\"", ",\ndata: \"id\""), DONE),
        ("notifications first", format!("data: {progress}\n\ndata: {progress}\n\n{answer}"), DONE),
        (
            "a failure",
            format!(
                "data: {progress}\n\ndata: {}\n\n",
                r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[],"isError":true}}"#
            ),
            FAILED,
        ),
        ("another answer first", format!("{}{answer}", answer.replace("ID", "1")), UNKNOWN),
        (
            "a request first",
            format!("data: {}\n\n{answer}", r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#),
            DONE,
        ),
        ("no JSON first", format!("data: hello\n\n{answer}"), DONE),
        ("another event", format!("event: ping\n{answer}"), UNKNOWN),
        ("another event first", format!("event: ping\ndata: 1\n\n{answer}"), DONE),
        ("a line that is none", format!("hello\n{answer}"), UNKNOWN),
        ("a field that is none", format!("hello: you\n{answer}"), UNKNOWN),
        ("two events in one", format!("event: message\nevent: message\n{answer}"), UNKNOWN),
        ("no end of the event", format!("data: {good}\n"), UNKNOWN),
        ("without an answer", format!("data: {progress}\n\n"), UNKNOWN),
        ("only another answer", answer.replace("ID", "1"), UNKNOWN),
        ("nothing", String::new(), UNKNOWN),
        ("an event over the limit", format!("data: {large}\n\n{answer}"), UNKNOWN),
        (
            "an answer over the limit",
            answer.replace("[]", &format!(r#"[{{"type":"text","text":"{large}"}}]"#)),
            UNKNOWN,
        ),
    ] {
        case(&format!("stream, {name}"), say(200, STREAM, &text), taken_for);
    }
    case("stream, of HTTP 500", say(500, STREAM, &answer), UNKNOWN);
    case("stream, broken off", Script::Break(STREAM, "data: {\"jsonrpc\":\"2.0\",\"id\":ID,"), UNKNOWN);
    case(
        "stream, broken off after an event that can be taken up",
        Script::Break(STREAM, "id: 1\ndata: 1\n\n"),
        UNKNOWN,
    );
    case("stream, stalled", Script::Stall(STREAM, "data: {\"jsonrpc\":\"2.0\",\"id\":ID,"), UNKNOWN);
    case(
        "stream, that stays open after the answer",
        Script::Stall(STREAM, "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"content\":[]}}\n\n"),
        DONE,
    );
    cases
}

#[tokio::test]
async fn an_answer_is_taken_for_the_same_on_both_ways() {
    let cases = cases();
    let mut wrong = Vec::new();
    for way in [Way::Direct, Way::Sdk] {
        let mut timeouts = vec![PATIENT, IMPATIENT];
        let mut calls = Vec::new();
        for (place, (name, script, taken_for)) in cases.iter().enumerate() {
            let stalls = matches!(script, Script::Never) || name.ends_with("stalled");
            // The SDK waits for another answer where it can take none for the one it waits for.
            let waits = *taken_for == UNKNOWN && (stalls || way == Way::Sdk);
            for ((kind, _), expected) in KINDS.into_iter().zip(*taken_for) {
                let mut upstream = usize::from(waits);
                // Only the first answer by stream comes to a direct call.
                if way == Way::Direct && name.starts_with("stream") {
                    upstream = timeouts.len();
                    timeouts.push(if waits { IMPATIENT } else { PATIENT });
                }
                calls.push((name, upstream, kind, format!("é \"{kind}\" {place}"), expected));
            }
        }
        let scripts = cases.iter().map(|(_, script, _)| script.clone()).collect();
        let (world, upstreams) = against(way, scripts, &timeouts).await;
        let (world, upstreams) = (&world, &upstreams);
        let calls = calls.into_iter().map(async |(name, upstream, kind, wanted, expected)| {
            let found = outcome(world, &format!("{kind}_{upstream}"), &wanted).await;
            let mut sent = upstreams[upstream].calls();
            sent.retain(|sent| sent.body["params"]["arguments"]["text"] == *wanted);
            let ways: Vec<_> = sent.iter().map(is_direct).collect();
            let once = ways == [way == Way::Direct] && sent[0].path == format!("/{upstream}");
            (found != expected || !once)
                .then(|| format!("{way:?}, {kind}, {name}: {found:?}, not {expected:?}; direct: {ways:?}"))
        });
        // Fewer than either way has under way at a time: none waits for its turn.
        let calls = stream::iter(calls.collect::<Vec<_>>()).buffer_unordered(12);
        wrong.extend(calls.collect::<Vec<_>>().await.into_iter().flatten());
        world.systems.stop().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_direct_call_is_sent_as_the_sdk_sends_it() {
    let answer = r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#;
    let sent = join_all([Way::Direct, Way::Sdk].map(async |way| {
        let (world, upstream) = answering(way, JSON, answer).await;
        assert_eq!(outcome(&world, "write_0", "é 0").await, None);
        world.systems.stop().await;
        let mut calls = upstream.calls();
        assert_eq!(calls.iter().map(is_direct).collect::<Vec<_>>(), [way == Way::Direct]);
        let mut sent = calls.remove(0);
        // Both count their own.
        let (id, token) = (sent.body["id"].take(), sent.body["params"]["_meta"]["progressToken"].take());
        assert!(id.is_i64() && token.is_i64(), "{id} {token}");
        sent
    }))
    .await;
    assert_eq!(sent[0].headers, sent[1].headers);
    assert_eq!(sent[0].body, sent[1].body);
    for (name, value) in [
        ("authorization", "Bearer tok_verysecret"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "act"),
        ("mcp-protocol-version", "2026-07-28"),
    ] {
        assert_eq!(sent[0].headers.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[tokio::test]
async fn an_upstream_that_answers_by_stream_is_called_through_the_sdk_from_then_on() {
    let text = "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"content\":[]}}\n\n";
    let (world, upstream) = answering(Way::Direct, STREAM, text).await;
    for _ in 0..3 {
        assert_eq!(outcome(&world, "read_0", "0").await, None);
    }
    world.systems.stop().await;
    assert_eq!(upstream.calls().iter().map(is_direct).collect::<Vec<_>>(), [true, false, false]);
}

#[tokio::test]
async fn giving_up_a_call_drops_its_connection() {
    for way in [Way::Direct, Way::Sdk] {
        let scripts = [Script::Never, Script::Stall(JSON, "{"), Script::Stall(STREAM, ":\n")];
        let (world, upstreams) = against(way, scripts.to_vec(), &[IMPATIENT]).await;
        let upstream = &upstreams[0];
        for (place, script) in scripts.iter().enumerate() {
            let found = outcome(&world, "write_0", &place.to_string()).await;
            assert_eq!(found, Some(Code::InDoubt), "{way:?} {script:?}");
            let gone = tokio::time::timeout(Duration::from_secs(20), upstream.gone.notified()).await;
            assert!(gone.is_ok(), "{way:?} {script:?}: the upstream goes on");
        }
        world.systems.stop().await;
    }
}

#[tokio::test]
async fn a_change_that_is_told_beside_an_answer_switches_the_tool_off() {
    let text = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n\
                data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"content\":[]}}\n\n";
    for way in [Way::Direct, Way::Sdk] {
        let (world, _upstream) = answering(way, STREAM, text).await;
        assert_eq!(world.tools["read_0"].status(), ToolStatus::Ready);
        assert_eq!(outcome(&world, "read_0", "0").await, None);
        // Also although the upstream has said that its list is good for an hour.
        until(&world.tools["read_0"], |status| matches!(status, ToolStatus::Off(_))).await;
        world.systems.stop().await;
    }
}
