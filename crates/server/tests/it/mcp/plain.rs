//! A call of plain form is answered without the SDK, and any other by it: what is said, decided and done is the same.
//!
//! The SDK's way is taken by an `Accept` with a weight, which means the same and is no plain form.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    mcp::world::{Agent, World, text},
    place::{Place, on_either_store},
};

on_either_store!(async both_ways_do_the_same,);

/// A way that a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Sdk,
}

const OLD: [&str; 2] = ["2025-06-18", "2025-11-25"];
const NEW: &str = "2026-07-28";

/// A message and what is said in headers beside it.
#[derive(Debug, Clone)]
struct Sent {
    revision: &'static str,
    message: Value,
    headers: Vec<(&'static str, String)>,
}

impl Sent {
    /// A good call in a revision.
    fn call(revision: &'static str, tool: &str, arguments: &Value) -> Self {
        let mut message = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": { "name": tool, "arguments": arguments } });
        let mut headers = Vec::new();
        if revision == NEW {
            message["params"]["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": NEW,
                "io.modelcontextprotocol/clientInfo": { "name": "by hand", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            headers.push(("mcp-method", "tools/call".into()));
            headers.push(("mcp-name", tool.to_owned()));
        }
        Self { revision, message, headers }
    }

    /// The same with a member of `_meta`.
    fn meta(mut self, key: &str, value: Value) -> Self {
        self.message["params"]["_meta"][key] = value;
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    async fn by(&self, way: Way, world: &World, agent: Agent) -> (StatusCode, Option<String>, Value) {
        let mut headers = world.headers(agent);
        for (name, value) in &mut headers {
            match *name {
                "mcp-protocol-version" => self.revision.clone_into(value),
                "accept" if way == Way::Sdk => "application/json;q=1, text/event-stream".clone_into(value),
                _ => {}
            }
        }
        headers.extend(self.headers.clone());
        let answer = world.raw(Method::POST, &headers, self.message.to_string().into_bytes()).await;
        let kind = answer.headers.get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let said = serde_json::from_str(&answer.text()).unwrap_or_else(|_| answer.text().into());
        (answer.status, kind, said)
    }
}

/// The answer without what chance or time gave it: ids, moments, states that are sealed.
fn steady(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                if matches!(key.as_str(), "requestState" | "taskId" | "createdAt" | "lastUpdatedAt" | "ttlMs")
                {
                    *value = json!("…");
                }
                steady(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(steady),
        Value::String(text) => *text = steady_text(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn steady_text(text: &str) -> String {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || "-:._".contains(c));
    let piece = |piece: &str| {
        let word = piece.trim_end_matches(ends);
        let rest = piece.strip_prefix(word).unwrap_or_default();
        let moment =
            word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('T') && word.contains('Z');
        match ["call-", "apr-", "dec-"].iter().find(|kind| word.starts_with(**kind)) {
            Some(kind) => format!("{kind}…{rest}"),
            None if moment => format!("…{rest}"),
            None => piece.to_owned(),
        }
    };
    text.split_inclusive(ends).map(piece).collect()
}

/// Every kind of call, good and bad.
fn every_kind() -> Vec<Sent> {
    let mut all = Vec::new();
    for revision in [OLD[0], OLD[1], NEW] {
        let call = |tool: &str, arguments: Value| Sent::call(revision, tool, &arguments);
        let at = |tool: &str| call(tool, json!({ "n": 1, "_reason": "a test" }));
        all.extend([
            at("allowed"),
            at("denied"),
            at("effects"),
            call("asked", json!({ "n": 1 })),
            call("asked", json!({ "n": 2 })).meta("countersign/rounds", json!(true)),
            call("nosuchtool", json!({})),
            call("no such tool", json!({})),
            call("countersign_await", json!({ "approval": "apr-nosuchrequest" })),
            call("allowed", json!({})),
            call("allowed", json!({ "n": "1" })),
            call("allowed", json!({ "n": 1, "other": 1 })),
            at("allowed").meta("countersign/session", json!("one")),
            at("allowed").meta("countersign/session", json!(1)),
            at("allowed").meta("countersign/session", json!("one")).header("countersign-session", "two"),
            at("allowed").meta("countersign/idempotency-key", json!(format!("key-{revision}"))),
            at("allowed").meta("countersign/idempotency-key", json!(format!("key-{revision}"))),
            at("denied").meta("countersign/idempotency-key", json!(format!("key-{revision}"))),
            at("allowed").meta("countersign/idempotency-key", json!("")),
            at("allowed").meta("countersign/idempotency-key", json!(7)),
            at("allowed")
                .meta("traceparent", json!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
            at("allowed").meta("traceparent", json!("no place")),
            at("allowed").meta("somebody/else", json!({ "a": 1 })),
            at("allowed").meta("io.modelcontextprotocol/logLevel", json!("debug")),
            at("allowed").meta("io.modelcontextprotocol/clientInfo", json!("no object")),
            at("allowed").meta("io.modelcontextprotocol/clientCapabilities", json!({ "sampling": {} })),
            at("allowed").meta("io.modelcontextprotocol/clientCapabilities", json!(7)),
            at("allowed").header("mcp-protocol-version", "2024-11-05"),
            at("allowed").header("mcp-method", "tools/list"),
            at("allowed").header("mcp-name", "denied"),
        ]);
        for change in [
            |m: &mut Value| m["id"] = json!("a text"),
            |m: &mut Value| m["id"] = json!(-1),
            |m: &mut Value| m["params"]["arguments"] = Value::Null,
            |m: &mut Value| m["params"]["arguments"] = json!([1]),
            |m: &mut Value| m["params"]["name"] = json!(7),
            |m: &mut Value| m["params"]["requestState"] = json!("forged"),
            |m: &mut Value| m["params"]["task"] = json!({}),
            |m: &mut Value| m["result"] = json!({}),
            |m: &mut Value| drop(m["params"].as_object_mut().unwrap().remove("arguments")),
            |m: &mut Value| drop(m["params"].as_object_mut().unwrap().remove("_meta")),
            |m: &mut Value| drop(m["params"].as_object_mut().unwrap().remove("name")),
            |m: &mut Value| drop(m.as_object_mut().unwrap().remove("id")),
        ] as [fn(&mut Value); 12]
        {
            let mut sent = at("allowed");
            change(&mut sent.message);
            all.push(sent);
        }
    }
    // A client that takes tasks gets one for a call that waits.
    let tasks = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    all.push(
        Sent::call(NEW, "asked", &json!({ "n": 3 }))
            .meta("io.modelcontextprotocol/clientCapabilities", tasks),
    );
    all
}

#[tokio::test]
async fn both_ways_say_the_same() {
    // A server for each way: none finds what the other one left.
    let settings = "hold_ms = 0\nwait_ms = 0";
    let worlds = [(Way::Plain, World::with(settings).await), (Way::Sdk, World::with(settings).await)];
    for agent in [Agent::Ada, Agent::Bob, Agent::Narrow] {
        for sent in every_kind() {
            let mut answers = Vec::new();
            for (way, world) in &worlds {
                let (status, kind, mut answer) = sent.by(*way, world, agent).await;
                steady(&mut answer);
                answers.push((status, kind, answer));
            }
            assert_eq!(answers[0], answers[1], "{agent:?}: {sent:?}");
        }
    }
    let effects =
        worlds.each_ref().map(|(_, world)| ["allowed", "denied", "asked"].map(|kind| world.effects(kind, 1)));
    assert_eq!(effects[0], effects[1]);
    assert!(effects[0][0] > 0 && effects[0][1..] == [0, 0], "{effects:?}");
}

async fn both_ways_do_the_same(place: Place) {
    let world = World::on_with(place, "hold_ms = 0\nwait_ms = 0").await;
    for (n, revision) in (0..).zip([OLD[0], OLD[1], NEW]) {
        for (n, way) in [(n, Way::Plain), (n | 16, Way::Sdk)] {
            let sent = |tool: &str| Sent::call(revision, tool, &json!({ "n": n }));
            let (_, _, allowed) = sent("allowed").by(way, &world, Agent::Ada).await;
            assert_eq!(allowed["result"]["isError"], false, "{way:?}: {allowed}");
            let (_, _, denied) = sent("denied").by(way, &world, Agent::Ada).await;
            assert_eq!(denied["result"]["structuredContent"]["code"], "R004", "{way:?}: {denied}");
            let (_, _, asked) = sent("asked").by(way, &world, Agent::Ada).await;
            let answer = &asked["result"]["structuredContent"];
            assert_eq!(answer["status"], "pending", "{way:?}: {asked}");
            assert_eq!(
                ["allowed", "denied", "asked"].map(|kind| world.effects(kind, n)),
                [1, 0, 0],
                "{way:?}"
            );
            // Asked for by the other way, it is the same request.
            let other = if way == Way::Plain { Way::Sdk } else { Way::Plain };
            let (_, _, again) = sent("asked").by(other, &world, Agent::Ada).await;
            assert_eq!(again["result"]["structuredContent"]["approval"], answer["approval"], "{way:?}");
            world.approve(text(&answer["approval"])).await;
            world.until_effects("asked", n, 1).await;
            let (_, _, done) = sent("asked").by(way, &world, Agent::Ada).await;
            assert_eq!((&done["result"]["isError"], world.effects("asked", n)), (&json!(false), 1), "{done}");
        }
    }
}
