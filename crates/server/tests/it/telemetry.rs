//! Traces as a collector receives them: OTLP over HTTP, decoded with the protocol's own types.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::{Value, json};

use crate::{binary::run_in, served::Served};

type Received = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

/// A collector on loopback, in a runtime of its own.
struct Collector {
    url: String,
    received: Received,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    fn start() -> Self {
        let received = Received::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&received));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, received, _runtime: runtime }
    }

    /// Every span, with the name of the service that sent it.
    fn spans(&self) -> Vec<(String, Span)> {
        let received = self.received.lock().unwrap();
        let resources = received.iter().flat_map(|request| &request.resource_spans);
        resources
            .flat_map(|of| {
                let service = text(&of.resource.as_ref().unwrap().attributes, "service.name");
                let spans = of.scope_spans.iter().flat_map(|scope| scope.spans.iter().cloned());
                spans.map(move |span| (service.clone(), span)).collect::<Vec<_>>()
            })
            .collect()
    }
}

async fn take(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> (HeaderMap, Vec<u8>) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    received.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    (
        HeaderMap::from_iter([("content-type".parse().unwrap(), "application/x-protobuf".parse().unwrap())]),
        answer,
    )
}

fn attributes(list: &[KeyValue]) -> BTreeMap<&str, String> {
    let shown = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    };
    list.iter().map(|attribute| (attribute.key.as_str(), shown(attribute))).collect()
}

fn text(list: &[KeyValue], key: &str) -> String {
    attributes(list).remove(key).unwrap_or_default()
}

/// A folder of `countersign init` that sends its traces to `url`; the key of its agent.
fn folder(at: &Path, url: &str) -> String {
    assert_eq!(run_in(at, &["init"]).code, 0);
    let main = at.join("countersign.toml");
    let text = fs::read_to_string(&main).unwrap().replace("127.0.0.1:7780", "127.0.0.1:0");
    let telemetry = format!("\n[telemetry]\notlp_endpoint = \"{url}\"\nservice_name = \"gate-under-test\"\n");
    fs::write(main, text + &telemetry).unwrap();
    fs::read_to_string(at.join("keys/assistant.key")).unwrap().trim().to_owned()
}

#[test]
fn a_collector_sees_each_call_with_its_decision_and_nothing_that_was_said() {
    let collector = Collector::start();
    let temp = tempfile::tempdir().unwrap();
    let key = folder(temp.path(), &collector.url);
    let person = fs::read_to_string(temp.path().join("keys/alice.key")).unwrap().trim().to_owned();
    let server = Served::start(temp.path(), &[]);
    let read = server.run(&key, &["call", "customer_invoices", r#"{"customer": 7}"#]);
    assert_eq!(read.code, 0, "{}", read.err);
    let reason = "because-i-was-told";
    let asked =
        server.run(&key, &["call", "delete_test_invoices", r#"{"customer": 77123}"#, "--reason", reason]);
    let approval = asked.value()["approval"].as_str().unwrap().to_owned();
    server.run(&person, &["approvals", "approve", &approval]);
    let done = server.run(&key, &["call", "--result", &approval, "--wait-ms", "20000"]);
    assert_eq!(done.value()["status"], "done", "{}", done.out);
    let call = done.value()["call"].as_str().unwrap().to_owned();
    assert_eq!(server.terminate(), Some(0));

    // What was left was sent while the server stopped.
    let spans = collector.spans();
    assert!(spans.iter().all(|(service, _)| service == "gate-under-test"), "{spans:?}");
    let calls: Vec<&Span> =
        spans.iter().map(|(_, span)| span).filter(|span| span.name.starts_with("execute_tool")).collect();
    let found: Vec<(String, String, Option<String>)> = calls
        .iter()
        .map(|span| {
            let of = attributes(&span.attributes);
            assert_eq!(of["gen_ai.operation.name"], "execute_tool");
            assert_eq!(of["gen_ai.agent.id"], "assistant");
            assert!(
                of.contains_key("gen_ai.conversation.id") && of["gen_ai.tool.call.id"].starts_with("call-")
            );
            assert!(span.trace_id.len() == 16 && span.end_time_unix_nano >= span.start_time_unix_nano);
            let decided = span.events.iter().find(|event| event.name == "decided");
            let decision = decided.map(|event| text(&event.attributes, "decision"));
            (of["gen_ai.tool.name"].clone(), of["countersign.status"].clone(), decision)
        })
        .collect();
    let one = |tool: &str, status: &str, decision: &str| {
        (tool.to_owned(), status.to_owned(), Some(decision.to_owned()))
    };
    let expected = [
        one("customer_invoices", "done", "allow"),
        one("delete_test_invoices", "pending", "ask"),
        one("delete_test_invoices", "done", "allow"),
    ];
    assert!(expected.iter().all(|span| found.contains(span)), "{found:?}");
    let granted =
        calls.iter().find(|span| text(&span.attributes, "countersign.approval") == approval).unwrap();
    assert_eq!(text(&granted.attributes, "gen_ai.tool.call.id"), call);
    let everything = format!("{spans:?}");
    for secret in [reason, "77123", &key, &person] {
        assert!(!everything.contains(secret), "{secret:?} is in a trace");
    }
}

/// Sends a message as JSON, with what its client says of its trace in a header.
#[expect(clippy::disallowed_methods, reason = "the test is a foreign client")]
fn send(
    runtime: &tokio::runtime::Runtime,
    url: &str,
    key: &str,
    traceparent: Option<&str>,
    body: &Value,
) -> String {
    let mut request = reqwest::Client::new()
        .post(url)
        .bearer_auth(key)
        .header("Accept", "application/json, text/event-stream")
        .header("MCP-Protocol-Version", "2025-11-25")
        .json(body);
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() })
}

#[test]
fn a_call_continues_the_trace_of_its_client_and_what_is_performed_later_is_linked_to_it() {
    let collector = Collector::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let key = folder(temp.path(), &collector.url);
    let person = fs::read_to_string(temp.path().join("keys/alice.key")).unwrap().trim().to_owned();
    let server = Served::start(temp.path(), &[]);
    let trace = |n: u8| format!("{n:02x}").repeat(16);
    // That it is not sampled is the client's own affair.
    let parent = |n: u8| format!("00-{}-00f067aa0ba902b7-00", trace(n));
    let rest = |tool: &str, arguments: Value, parent: Option<&str>| -> Value {
        let body = json!({ "tool": tool, "arguments": arguments });
        serde_json::from_str(&send(&runtime, &format!("{}/v1/calls", server.url), &key, parent, &body))
            .unwrap()
    };
    let mcp = |meta: Value, parent: Option<&str>| {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "customer_invoices", "arguments": { "customer": 7 }, "_meta": meta } });
        let answer = send(&runtime, &format!("{}/mcp", server.url), &key, parent, &body);
        let found = answer.find("call-").unwrap_or_else(|| panic!("{answer}"));
        answer.get(found..).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
    };
    let call = |answer: &Value| answer["call"].as_str().unwrap().to_owned();
    let read = |parent: Option<&str>| call(&rest("customer_invoices", json!({ "customer": 7 }), parent));
    let mut continued = vec![(read(Some(&parent(1))), trace(1))];
    continued.push((mcp(json!({}), Some(&parent(2))), trace(2)));
    continued.push((mcp(json!({ "traceparent": parent(3) }), Some(&parent(4))), trace(3)));
    let asked = rest("delete_test_invoices", json!({ "customer": 77123 }), Some(&parent(5)));
    let approval = asked["approval"].as_str().unwrap().to_owned();
    server.run(&person, &["approvals", "approve", &approval]);
    let done = server.run(&key, &["call", "--result", &approval, "--wait-ms", "20000"]);
    assert_eq!(done.value()["status"], "done", "{}", done.out);
    // What is no place in a trace is nothing, and hinders nobody.
    let mut own = vec![read(None), mcp(json!({ "traceparent": 7 }), None)];
    for bad in
        ["x", "00-0-0-01", &parent(0), &parent(6).replace("00-", "ff-"), &parent(6).replace("06", "G6")]
    {
        own.push(read(Some(bad)));
    }
    assert_eq!(server.terminate(), Some(0));

    let spans = collector.spans();
    let of = |call: &str| -> Vec<&Span> {
        let spans = spans.iter().map(|(_, span)| span);
        spans.filter(|span| text(&span.attributes, "gen_ai.tool.call.id") == call).collect()
    };
    let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (call, trace) in &continued {
        let [span] = of(call)[..] else { panic!("{call}: {spans:?}") };
        assert_eq!(&hexadecimal(&span.trace_id), trace, "{call}");
    }
    for call in &own {
        let [span] = of(call)[..] else { panic!("{call}: {spans:?}") };
        assert!((0..8).all(|n| hexadecimal(&span.trace_id) != trace(n)) && span.parent_span_id.is_empty());
    }
    let (performed, asking): (Vec<&Span>, Vec<&Span>) = of(&call(&asked))
        .into_iter()
        .partition(|span| text(&span.attributes, "countersign.approval") == approval);
    assert_eq!(hexadecimal(&asking[0].trace_id), trace(5));
    let [performed] = performed[..] else { panic!("{spans:?}") };
    assert_ne!(hexadecimal(&performed.trace_id), trace(5));
    let [link] = &performed.links[..] else { panic!("{performed:?}") };
    assert_eq!(
        (hexadecimal(&link.trace_id), hexadecimal(&link.span_id)),
        (trace(5), "00f067aa0ba902b7".into())
    );
}

#[test]
fn a_collector_that_is_not_there_or_does_not_answer_hinders_nobody() {
    // A port that nobody listens on, and one where connections are taken and left alone.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [gone, silent.local_addr().unwrap()] {
        let temp = tempfile::tempdir().unwrap();
        let key = folder(temp.path(), &format!("http://{address}"));
        let server = Served::start(temp.path(), &[]);
        for _ in 0..3 {
            let read = server.run(&key, &["call", "customer_invoices", r#"{"customer": 7}"#]);
            assert_eq!(read.code, 0, "{}", read.err);
        }
        assert_eq!(server.terminate(), Some(0));
    }
}
