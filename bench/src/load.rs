//! A closed loop of callers: each sends its next call when its last one is answered.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

/// The revision that has neither handshake nor session: every request stands alone.
const REVISION: &str = "2026-07-28";

/// Where calls go and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) key: Option<String>,
    pub(crate) tool: &'static str,
}

/// What one measurement saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    /// Calls answered per second.
    pub(crate) per_second: f64,
    /// Median time of a call, in microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile, in microseconds.
    pub(crate) p99_us: f64,
    /// Calls answered.
    pub(crate) calls: usize,
}

/// A client that keeps connections and asks no proxy.
pub(crate) fn client() -> anyhow::Result<reqwest::Client> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the load generator is no gateway: it calls what it measures"
    )]
    let builder = reqwest::Client::builder();
    Ok(builder.no_proxy().pool_max_idle_per_host(256).tcp_nodelay(true).build()?)
}

/// Calls from `callers` at once for about `time`; every answer must be a result of the tool.
pub(crate) async fn run(target: &Target, callers: usize, time: Duration) -> anyhow::Result<Measured> {
    let client = client()?;
    let body = call(target.tool);
    // A first call outside the measurement, checked in full.
    let first: Value = send(&client, target, &body).await?.json().await?;
    ensure!(
        first.pointer("/result/structuredContent/total").is_some(),
        "the tool did not answer as expected: {first}"
    );
    let started = Instant::now();
    let workers = (0..callers).map(|_| {
        let (client, target, body) = (client.clone(), target.clone(), body.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while started.elapsed() < time {
                let sent = Instant::now();
                answered(send(&client, &target, &body).await?).await?;
                times.push(sent.elapsed());
            }
            anyhow::Ok(times)
        })
    });
    let mut times = Vec::new();
    for worker in futures::future::join_all(workers).await {
        times.extend(worker??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list of measured times"
        )]
        let place = (times.len() as f64 * share) as usize;
        times.get(place.min(times.len().saturating_sub(1))).map_or(0.0, |t| t.as_secs_f64() * 1e6)
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 calls")]
    let per_second = times.len() as f64 / elapsed;
    Ok(Measured { per_second, p50_us: at(0.5), p99_us: at(0.99), calls: times.len() })
}

/// Calls so many times, one after the other.
pub(crate) async fn repeat(target: &Target, calls: u32) -> anyhow::Result<()> {
    let (client, body) = (client()?, call(target.tool));
    for _ in 0..calls {
        answered(send(&client, target, &body).await?).await?;
    }
    Ok(())
}

/// Checks that an answer is a result of the tool.
async fn answered(answer: reqwest::Response) -> anyhow::Result<()> {
    ensure!(answer.status().is_success(), "status {}", answer.status());
    let bytes = answer.bytes().await?;
    let text = std::str::from_utf8(&bytes)?;
    ensure!(text.contains("120450") && !text.contains("\"isError\":true"), "no result: {text}");
    Ok(())
}

fn call(tool: &str) -> Vec<u8> {
    json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": tool,
            "arguments": crate::upstream::arguments(),
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": REVISION,
                "io.modelcontextprotocol/clientInfo": { "name": "bench", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    })
    .to_string()
    .into_bytes()
}

async fn send(client: &reqwest::Client, target: &Target, body: &[u8]) -> anyhow::Result<reqwest::Response> {
    let mut request = client
        .post(&target.url)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", REVISION)
        .header("mcp-method", "tools/call")
        .header("mcp-name", target.tool)
        .body(body.to_vec());
    if let Some(key) = &target.key {
        request = request.bearer_auth(key);
    }
    request.send().await.with_context(|| format!("calling {}", target.url))
}
