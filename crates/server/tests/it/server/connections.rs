//! Clients that take their time on purpose, speaking TCP themselves: each limit gives up on them, and on nobody else.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::server::rig::{MAIN, Rig};

/// Longer than any limit of these tests, and the end of a test in which one does not work.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with some keys of `[server]` changed.
async fn rig(keys: &str) -> Rig {
    Rig::with(&MAIN.replacen("wait_ms = 5000", keys, 1)).await
}

async fn connect(rig: &Rig) -> TcpStream {
    TcpStream::connect(rig.running().address).await.unwrap()
}

/// What comes until the other side closes.
async fn to_the_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    drop(timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection is kept"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The answer to one request on a connection of its own.
async fn healthy(rig: &Rig) -> String {
    let mut stream = connect(rig).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    to_the_end(&mut stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_trickle_in_hold_a_connection_for_so_long_and_no_longer() {
    let rig = rig("connections_max = 1\nheader_timeout_ms = 250").await;
    let (mut read, mut write) = connect(&rig).await.into_split();
    write.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
    let trickling = tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        while write.write_all(b"a").await.is_ok() {
            beat.tick().await;
        }
    });
    // Others are answered meanwhile.
    assert!(timeout(PATIENCE, healthy(&rig)).await.unwrap().starts_with("HTTP/1.1 200"));
    let mut rest = Vec::new();
    drop(read.read_to_end(&mut rest).await);
    assert!(rest.is_empty(), "an unfinished request has no answer");
    timeout(PATIENCE, trickling).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_slow_connections_keep_nobody_out() {
    let rig = rig("connections_max = 4\nheader_timeout_ms = 250").await;
    let mut slow = Vec::new();
    for _ in 0..12 {
        let mut stream = connect(&rig).await;
        stream.write_all(b"POST /mcp HTTP/1.1\r\n").await.unwrap();
        slow.push(stream);
    }
    let (status, _) = timeout(PATIENCE, rig.get("clerk", "/v1/tools")).await.unwrap();
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let rig = rig("header_timeout_ms = 250").await;
    let mut never = connect(&rig).await;
    assert_eq!(to_the_end(&mut never).await, "");
    let mut once = connect(&rig).await;
    once.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let answer = to_the_end(&mut once).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let rig = rig("wait_ms = 0\nrequest_timeout_ms = 250").await;
    for (path, status) in [("/v1/calls", "504"), ("/mcp", "408")] {
        let mut stream = connect(&rig).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: 1000\r\n\r\n{{\"tool\":",
            rig.key("clerk")
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = to_the_end(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
    let (_, entries) = rig.get("alice", "/v1/log/entries?kind=call_proposed").await;
    assert_eq!(entries["entries"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_no_answer_is_given_up() {
    let rig = rig("connections_max = 1\nwrite_timeout_ms = 250").await;
    let mut greedy = connect(&rig).await;
    // Far more than the buffers between us hold, and none of it is read.
    let ask = "GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    greedy.write_all(ask.as_bytes()).await.unwrap();
    assert!(timeout(PATIENCE, healthy(&rig)).await.unwrap().starts_with("HTTP/1.1 200"));
    // Where it asks for more, it is told that nobody listens.
    let given_up = async { while greedy.write_all(ask.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, given_up).await.expect("the connection is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_principal_are_few() {
    let rig = rig("streams_max = 1").await;
    let open = |who: &'static str| rig.request(who, Method::GET, "/v1/events").send();
    let first = open("alice").await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    let refused = open("alice").await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "R007", "{problem}");
    assert_eq!(open("clerk").await.unwrap().status(), StatusCode::OK, "others have their own");
    drop(first);
    let mut look = tokio::time::interval(Duration::from_millis(20));
    timeout(PATIENCE, async {
        while open("alice").await.unwrap().status() != StatusCode::OK {
            look.tick().await;
        }
    })
    .await
    .expect("a closed stream makes room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_after_a_while() {
    let rig = rig("stream_ms = 250").await;
    let stream = rig.request("alice", Method::GET, "/v1/events").send().await.unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    timeout(PATIENCE, stream.bytes()).await.expect("the stream ends").unwrap();
}

/// An agent that is busy wherever it may be leaves other agents and people alone, and is told so at both doors.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_busy_with_so_many_requests_and_no_more() {
    let rig = rig("wait_ms = 30000\nrequests_max = 2").await;
    let open = || rig.request("clerk", Method::GET, "/v1/events").send();
    let (first, _second) = (open().await.unwrap(), open().await.unwrap());
    let (status, refused) = rig.get("clerk", "/v1/tools").await;
    assert_eq!((status, &refused["code"]), (StatusCode::TOO_MANY_REQUESTS, &serde_json::json!("R007")));
    let message = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    let (status, refused) = rig.post("clerk", "/mcp", message).await;
    assert_eq!((status, &refused["code"]), (StatusCode::TOO_MANY_REQUESTS, &serde_json::json!("R007")));
    assert_eq!(rig.get("other", "/v1/tools").await.0, StatusCode::OK);
    assert_eq!(rig.get("alice", "/v1/approvals").await.0, StatusCode::OK);
    drop(first);
    let mut look = tokio::time::interval(Duration::from_millis(20));
    timeout(PATIENCE, async {
        while rig.get("clerk", "/v1/tools").await.0 != StatusCode::OK {
            look.tick().await;
        }
    })
    .await
    .expect("an answer that was given makes room");
}
