//! Upstream MCP servers: real ones, as a child process and over streamable HTTP.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use countersign_gate::Answer;
use countersign_rules::{Code, DeclaredEffect, SystemName};
use countersign_tools::{
    AnyDefinition, AnyTool, Systems, ToolStatus,
    definition::{
        AmountDefinition, AmountSource, CurrencySource, McpDefinition, McpLimits, McpTarget, McpTransport,
        SystemDefinition, Target,
    },
    mcp::definition_digest,
};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};
use serde_json::json;

use crate::{
    harness::{ALLOW, ASK, TestVault, World, system, tool},
    upstream::Upstream,
};

pub(crate) const SECRET: &str = "tok_verysecret";

fn child(limits: McpLimits) -> SystemDefinition {
    // Cargo builds the example beside the tests.
    let test = std::env::current_exe().unwrap();
    let command: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/upstream");
    let transport = McpTransport::Child {
        command,
        args: Vec::new(),
        env: BTreeMap::from([("GREETING".into(), "hello".into())]),
        secret_env: BTreeMap::from([("API_TOKEN".into(), "token".into())]),
        cwd: None,
    };
    system("upstream", Target::Mcp(McpTarget { transport, limits }))
}

/// How an upstream is reached, and the calls of its tools.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// As a child process.
    Child,
    /// Over HTTP, in the revision without sessions. Calls go directly.
    Direct,
    /// The same, and its tools' argument is in a header as well: calls go through the SDK.
    Annotated,
    /// Over HTTP, in an older revision: a session of the SDK.
    Session,
}

impl Way {
    const ALL: [Self; 4] = [Self::Child, Self::Direct, Self::Annotated, Self::Session];
    const HTTP: [Self; 3] = [Self::Direct, Self::Annotated, Self::Session];

    async fn target(self, limits: McpLimits) -> (SystemDefinition, Upstream) {
        if self == Self::Child { (child(limits), Upstream::default()) } else { http(self, limits).await }
    }
}

async fn http(way: Way, limits: McpLimits) -> (SystemDefinition, Upstream) {
    let upstream =
        Upstream { annotated: way == Way::Annotated, old: way == Way::Session, ..Upstream::default() };
    let served = upstream.clone();
    let mut config = StreamableHttpServerConfig::default();
    config.json_response = true;
    let service = StreamableHttpService::new(
        move || Ok(served.clone()),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap()).parse().unwrap();
    let app = axum::Router::new().nest_service("/mcp", service);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let transport = McpTransport::Http { url, bearer: Some("token".into()), allow_private: true, ca: None };
    (system("upstream", Target::Mcp(McpTarget { transport, limits })), upstream)
}

/// The digest of a tool as the upstream describes it at first.
fn reviewed(way: Way, name: &str) -> String {
    let schema = Upstream::schema(way == Way::Annotated);
    let description = match name {
        "change" => "changes the description of echo".to_owned(),
        name => format!("does {name}"),
    };
    definition_digest(&json!({"name": name, "description": description, "inputSchema": schema})).unwrap()
}

fn definition(way: Way, name: &str, upstream: &str, effect: DeclaredEffect) -> McpDefinition {
    McpDefinition {
        tool: tool(name, "upstream", effect, json!({"text": {"type": "string", "optional": true}})),
        upstream_tool: upstream.into(),
        definition_digest: reviewed(way, upstream),
        effect_reviewed: true,
        amount: None,
    }
}

async fn world(target: SystemDefinition, definitions: Vec<McpDefinition>, policy: &str) -> World {
    let definitions: Vec<_> = definitions.into_iter().map(AnyDefinition::Mcp).collect();
    let vault = TestVault::default().with("upstream", "token", SECRET);
    let world = World::new(&[target], vault, &definitions, policy);
    Systems::start(world.tools.values(), |spec| world.gate.upkeep(spec));
    Systems::settled(world.tools.values()).await;
    world
}

/// Every tool of the upstream: as a read under its own name, and as a write with `w_` before it.
fn all(way: Way) -> Vec<McpDefinition> {
    ["echo", "text", "env", "fail", "fault", "huge", "hang", "crash", "change"]
        .iter()
        .flat_map(|name| {
            [
                definition(way, name, name, DeclaredEffect::Read),
                definition(way, &format!("w_{name}"), name, DeclaredEffect::Write),
            ]
        })
        .collect()
}

/// Waits for a status, which the upstream's keeper brings about.
pub(crate) async fn until(tool: &AnyTool, wanted: impl Fn(&ToolStatus) -> bool) -> ToolStatus {
    let waiting = async {
        loop {
            let status = tool.status();
            if wanted(&status) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await.expect("the status never came")
}

#[tokio::test]
async fn a_child_sees_only_its_own_environment_and_its_results_hold_no_secret() {
    let world = world(child(McpLimits::default()), all(Way::Child), ALLOW).await;
    assert_eq!(world.done("echo", json!({"text": "hi"})).await.reply, json!({"echo": {"text": "hi"}}));
    let done = world.done("text", json!({})).await;
    assert_eq!(done.reply["content"][0]["text"], "plain words");
    let done = world.done("env", json!({})).await;
    let mut env: Vec<&str> =
        done.reply["env"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    env.sort_unstable();
    assert_eq!(env, ["API_TOKEN=[secret]", "GREETING=hello"]);
    world.systems.stop().await;
}

#[tokio::test]
async fn what_became_of_a_call_follows_from_the_answer() {
    let limits = McpLimits { call_timeout_ms: 500, result_bytes_max: 10_000, ..McpLimits::default() };
    for way in Way::ALL {
        let (target, upstream) = way.target(limits).await;
        let world = world(target, all(way), ALLOW).await;
        for (name, read, write) in [
            ("fail", Code::ToolFailed, Code::ToolFailed),
            ("fault", Code::SystemUnavailable, Code::InDoubt),
            ("huge", Code::ToolFailed, Code::ResultRejected),
            ("hang", Code::SystemUnavailable, Code::InDoubt),
        ] {
            let refusal = world.refusal(name, json!({})).await;
            assert_eq!(refusal.code, read, "{way:?} {name}: {refusal}");
            let refusal = world.refusal(&format!("w_{name}"), json!({})).await;
            assert_eq!(refusal.code, write, "{way:?} w_{name}: {refusal}");
        }
        // The connection outlives all of that.
        assert_eq!(world.done("echo", json!({"text": "é"})).await.reply, json!({"echo": {"text": "é"}}));
        assert_eq!(world.done("text", json!({})).await.reply["content"][0]["text"], "plain words");
        world.systems.stop().await;
        let calls = upstream.calls.load(Ordering::SeqCst);
        assert_eq!(world.refusal("echo", json!({})).await.code, Code::SystemUnavailable, "{way:?}");
        assert_eq!(upstream.calls.load(Ordering::SeqCst), calls, "{way:?}: called after its end");
        let (direct, over_http) = (upstream.direct.load(Ordering::SeqCst), way != Way::Child);
        assert_eq!(calls, if over_http { 10 } else { 0 }, "{way:?}");
        assert_eq!(direct, if way == Way::Direct { 10 } else { 0 }, "{way:?}");
    }
}

#[tokio::test]
async fn a_crash_is_in_doubt_for_a_write_and_the_upstream_comes_back() {
    let world = world(child(McpLimits::default()), all(Way::Child), ALLOW).await;
    let before = world.done("env", json!({})).await.reply["pid"].clone();
    assert_eq!(world.refusal("w_crash", json!({})).await.code, Code::InDoubt);
    // Waits for the connection that is being made again.
    let after = world.done("env", json!({})).await.reply["pid"].clone();
    assert_ne!(before, after);
    world.systems.stop().await;
    let refusal = world.refusal("echo", json!({})).await;
    assert_eq!(refusal.code, Code::SystemUnavailable, "{refusal}");
}

#[tokio::test]
async fn a_changed_definition_switches_the_tool_off_until_it_is_as_reviewed() {
    for way in Way::ALL {
        let (target, _upstream) = way.target(McpLimits::default()).await;
        let world = world(target, all(way), ALLOW).await;
        assert_eq!(world.tools["echo"].status(), ToolStatus::Ready);
        world.done("w_change", json!({})).await;
        let status = until(&world.tools["echo"], |status| matches!(status, ToolStatus::Off(_))).await;
        let ToolStatus::Off(refusal) = status else { panic!("not off") };
        assert_eq!(refusal.code, Code::ToolSwitchedOff);
        assert!(refusal.message.contains(&reviewed(way, "echo")), "{refusal}");
        assert_eq!(world.refusal("w_echo", json!({})).await.code, Code::ToolSwitchedOff);
        assert_eq!(world.tools["text"].status(), ToolStatus::Ready, "the others go on");
        world.done("w_change", json!({})).await;
        until(&world.tools["echo"], |status| *status == ToolStatus::Ready).await;
        world.done("w_echo", json!({})).await;
        world.systems.stop().await;
    }
}

#[tokio::test]
async fn a_tool_that_is_not_as_reviewed_is_never_called() {
    for way in Way::HTTP {
        let (target, upstream) = http(way, McpLimits::default()).await;
        let write = |name, upstream| definition(way, name, upstream, DeclaredEffect::Write);
        let stale = McpDefinition { definition_digest: reviewed(way, "text"), ..write("stale", "echo") };
        let gone = McpDefinition { upstream_tool: "gone".into(), ..write("gone", "echo") };
        // Declared a read, and upstream says nothing of that.
        let unread = McpDefinition {
            effect_reviewed: false,
            ..definition(way, "unread", "echo", DeclaredEffect::Read)
        };
        let written = McpDefinition { effect_reviewed: false, ..write("written", "echo") };
        let world = world(target, vec![stale, gone, unread, written], ALLOW).await;
        for name in ["stale", "gone", "unread"] {
            assert_eq!(world.refusal(name, json!({})).await.code, Code::ToolSwitchedOff, "{name}");
            assert!(world.tools[name].try_out(&world.gate.upkeep(world.tools[name].spec())).await.is_err());
        }
        assert_eq!(upstream.calls.load(Ordering::SeqCst), 0);
        world.done("written", json!({})).await;
        assert_eq!(upstream.calls.load(Ordering::SeqCst), 1);
        // What there is to review.
        let spec = world.tools["stale"].spec();
        let offered = world
            .systems
            .definitions(&SystemName::parse("upstream").unwrap(), world.gate.upkeep(spec))
            .await
            .unwrap();
        let echo = offered.iter().find(|offered| offered.name == "echo").unwrap();
        assert_eq!(echo.digest.as_deref(), Ok(reviewed(way, "echo").as_str()));
        assert_eq!(echo.definition["description"], "does echo");
        world.systems.stop().await;
    }
}

#[tokio::test]
async fn a_tool_that_changes_while_people_are_asked_is_not_performed() {
    for way in Way::HTTP {
        let (target, upstream) = http(way, McpLimits::default()).await;
        let tools = vec![
            definition(way, "w_echo", "echo", DeclaredEffect::Write),
            definition(way, "change", "change", DeclaredEffect::Read),
        ];
        let world = world(target, tools, ASK).await;
        let pending = world.pending("w_echo", json!({"text": "x"})).await;
        world.done("change", json!({})).await;
        until(&world.tools["w_echo"], |status| matches!(status, ToolStatus::Off(_))).await;
        let calls = upstream.calls.load(Ordering::SeqCst);
        let Answer::Refused(_) = world.approve(&pending.approval).await else { panic!("performed") };
        assert_eq!(upstream.calls.load(Ordering::SeqCst), calls);
        world.systems.stop().await;
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_harms_no_other() {
    let (target, _upstream) = http(Way::Direct, McpLimits::default()).await;
    let transport = McpTransport::Child {
        command: "/nowhere/at/all".into(),
        args: Vec::new(),
        env: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        cwd: None,
    };
    let limits = McpLimits { connect_timeout_ms: 200, ..McpLimits::default() };
    let dead = system("dead", Target::Mcp(McpTarget { transport, limits }));
    let mut lost = definition(Way::Direct, "lost", "echo", DeclaredEffect::Read);
    lost.tool.system = SystemName::parse("dead").unwrap();
    let definitions =
        [lost, definition(Way::Direct, "echo", "echo", DeclaredEffect::Read)].map(AnyDefinition::Mcp);
    let vault = TestVault::default().with("upstream", "token", SECRET);
    let world = World::new(&[target, dead], vault, &definitions, ALLOW);
    Systems::start(world.tools.values(), |spec| world.gate.upkeep(spec));
    Systems::settled(world.tools.values()).await;
    assert!(matches!(world.tools["lost"].status(), ToolStatus::Away(_)));
    assert_eq!(world.refusal("lost", json!({})).await.code, Code::SystemUnavailable);
    world.done("echo", json!({})).await;
    world.systems.stop().await;
}

#[tokio::test]
async fn money_comes_from_an_argument_and_is_measured() {
    let mut pay = definition(Way::Child, "pay", "echo", DeclaredEffect::Write);
    pay.tool.arguments =
        json!({"text": {"type": "string", "optional": true}, "cents": {"type": "integer", "minimum": 0}});
    pay.amount = Some(AmountDefinition {
        scale: None,
        minor: AmountSource::Argument("cents".into()),
        currency: CurrencySource::Fixed("EUR".parse().unwrap()),
    });
    let world = world(child(McpLimits::default()), vec![pay], ASK).await;
    let reach = world.measured("pay", json!({"cents": 1250})).await;
    assert_eq!((reach.rows, reach.amount.unwrap().minor), (1, 1250));
    world.systems.stop().await;
}

#[test]
fn definitions_that_do_not_hold_are_refused() {
    let vault: Arc<dyn countersign_gate::Vault> = Arc::new(TestVault::default());
    let systems = Systems::new(&[child(McpLimits::default())], &vault).unwrap();
    let check = |definition: McpDefinition, expected: &str| {
        let error = AnyTool::new(&AnyDefinition::Mcp(definition), &systems).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let mut bad = definition(Way::Child, "t", "echo", DeclaredEffect::Read);
    bad.definition_digest = "sha256:abc".into();
    check(bad, "definition_digest");
    check(definition(Way::Child, "t", "echo", DeclaredEffect::FromStatement), "from_statement");
    let mut bad = definition(Way::Child, "t", "echo", DeclaredEffect::Write);
    bad.tool.idempotent = true;
    check(bad, "no key is sent");
    let mut bad = definition(Way::Child, "t", "echo", DeclaredEffect::Write);
    bad.amount = Some(AmountDefinition {
        scale: None,
        minor: AmountSource::Preview("/a".into()),
        currency: CurrencySource::Fixed("EUR".parse().unwrap()),
    });
    check(bad, "no preview");
    let plain = McpTransport::Http {
        url: "http://10.0.0.1/mcp".parse().unwrap(),
        bearer: None,
        allow_private: false,
        ca: None,
    };
    let target = Target::Mcp(McpTarget { transport: plain, limits: McpLimits::default() });
    assert!(Systems::new(&[system("upstream", target)], &vault).unwrap_err()[0].to_string().contains("url"));
}
