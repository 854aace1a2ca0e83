//! What a call costs on a ledger that keeps many, and what the server's look at it costs.
//!
//! Ledgers of ten thousand calls and more are filled through the store's own operations, and then measured in turns:
//! each figure counts as a ratio to that of the smallest ledger of the same run. Filling takes nearly all of the time.
//! Nothing but these operations can fill a ledger, whose log is signed batch by batch; so the batches are as large as the
//! writer makes them, and both databases are filled at once.

use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context as _, bail};
use countersign_audit::SigningKey;
use countersign_gate::{
    NewEntry,
    entry::Kind,
    ledger::{CallOutcome, CallState, Closing, Intent, Ledger, Wait},
};
use countersign_rules::{
    AgentId, ApprovalState, CallDigest, CallId, DecisionId, Effect, Requester, SessionId, StoredCall,
    SystemName, ToolName, ToolVersion, settlement::Settlement,
};
use countersign_store::{Options, Store};
use futures::{TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{println, progress, report::median, sizing};

const HELP: &str =
    "usage: countersign-bench growth [--calls N] [--postgres URL]      (--calls defaults to 100000)";
/// The smallest ledger keeps so many calls, and each further one ten times as many as the one before.
const SMALLEST: u64 = 10_000;
const TURNS: usize = 7;
/// So many calls are measured a turn, and so many callers make them.
const CALLS: u64 = 2_000;
const CALLERS: usize = 16;
/// So many callers fill a ledger: one transaction of its writer has room for each.
const FILLERS: usize = 256;
/// A Sunday noon, in Unix milliseconds.
const NOW: i64 = 1_795_348_800_000;

/// Prints the table for SQLite and, where a server is given, for PostgreSQL.
pub(crate) async fn run(options: &[&str]) -> anyhow::Result<()> {
    let (mut calls, mut postgres) = (100_000_u64, None);
    for pair in options.chunks(2) {
        match pair {
            ["--calls", n] => calls = n.parse()?,
            ["--postgres", url] => postgres = Some((*url).to_owned()),
            _ => bail!("{HELP}"),
        }
    }
    let sizes = std::iter::successors(Some(SMALLEST), |size| size.checked_mul(10));
    let sizes: Vec<u64> = sizes.take_while(|size| *size <= calls.max(SMALLEST)).collect();
    let mut text = String::from(
        "## Calls on a ledger that keeps many\n\n\
         | ledger | calls kept | µs a call | × smallest | look ms | × smallest | opened in ms |\n|---|---|---|---|---|---|---|\n",
    );
    let folder = tempfile::tempdir()?;
    let place = |size: &u64| (*size, Place::Sqlite(folder.path().join(format!("{size}.db"))));
    let sqlite = tokio::spawn(fill("SQLite", sizes.iter().map(place).collect()));
    let Some(url) = &postgres else {
        println(&(text + &table("SQLite", sqlite.await??).await?));
        return Ok(());
    };
    let (base, _) = url.rsplit_once('/').context("the URL names no database")?;
    let admin = sizing::postgres(url).await?;
    let name = |size: &u64| format!("countersign_growth_{size}");
    for size in &sizes {
        admin.batch_execute(&format!("drop database if exists {} with (force)", name(size))).await?;
        admin.batch_execute(&format!("create database {}", name(size))).await?;
    }
    let place = |size: &u64| (*size, Place::Postgres(format!("{base}/{}", name(size))));
    let postgres = fill("PostgreSQL", sizes.iter().map(place).collect()).await?;
    text += &table("SQLite", sqlite.await??).await?;
    text += &table("PostgreSQL", postgres).await?;
    for size in &sizes {
        admin.batch_execute(&format!("drop database {} with (force)", name(size))).await?;
    }
    println(&text);
    Ok(())
}

enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Place {
    async fn open(&self) -> anyhow::Result<Arc<Store>> {
        let key = SigningKey::from_seed("bench.example/log", &[7; 32])?;
        let options = Options::default();
        Ok(Arc::new(match self {
            Self::Sqlite(path) => Store::open_sqlite(path, key, &options)?,
            Self::Postgres(url) => Store::open_postgres(url, key, &options).await?,
        }))
    }
}

/// What was measured of a ledger, turn by turn.
#[derive(Default)]
struct Figures {
    call_us: Vec<f64>,
    look_ms: Vec<f64>,
    opened_ms: f64,
}

/// Fills ledgers, one after the other, and tells how long each took.
async fn fill(name: &'static str, places: Vec<(u64, Place)>) -> anyhow::Result<Vec<(u64, Place)>> {
    for (size, place) in &places {
        progress(&format!("{name}, {size} calls …"));
        let began = Instant::now();
        let store = place.open().await?;
        perform(&store, 0..*size, FILLERS).await?;
        store.close().await;
        drop(store);
        if let Place::Postgres(url) = place {
            sizing::postgres(url).await?.batch_execute("vacuum analyze").await?;
        }
        progress(&format!("{name}, {size} calls in {:.0} s", ms(began) / 1e3));
    }
    Ok(places)
}

async fn table(name: &str, places: Vec<(u64, Place)>) -> anyhow::Result<String> {
    let mut ledgers = Vec::new();
    for (size, place) in places {
        let began = Instant::now();
        let store = place.open().await?;
        let figures = Figures { opened_ms: ms(began), ..Figures::default() };
        ledgers.push((size, store, figures));
    }
    progress(&format!("{name}, in turns …"));
    for turn in 0..u64::try_from(TURNS)? {
        for (size, store, figures) in &mut ledgers {
            let first = size.saturating_add(turn.saturating_mul(CALLS));
            let began = Instant::now();
            perform(store, first..first.saturating_add(CALLS), CALLERS).await?;
            figures.call_us.push(ms(began) * 1e3 / f64::from(u32::try_from(CALLS)?));
            let began = Instant::now();
            look(store).await?;
            figures.look_ms.push(ms(began));
        }
    }
    let mut text = String::new();
    let mut smallest = None;
    for (size, store, figures) in ledgers {
        store.close().await;
        let (call, look) = (median(figures.call_us), median(figures.look_ms));
        let (call_1, look_1) = *smallest.get_or_insert((call, look));
        writeln!(
            text,
            "| {name} | {size} | {call:.0} | {:.2} | {look:.2} | {:.2} | {:.0} |",
            call / call_1,
            look / look_1,
            figures.opened_ms
        )?;
    }
    Ok(text)
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// Asks what the server's worker asks at each of its looks.
async fn look(store: &Store) -> anyhow::Result<()> {
    store.calls(Some(CallState::Open), 1_000).await?;
    store.calls(Some(CallState::InDoubt), 1_000).await?;
    store.approvals(&[ApprovalState::Waiting, ApprovalState::Approved], 1_000).await?;
    store.halts().await?;
    Ok(())
}

/// Performs calls of some agents in many sessions: an intent and an outcome of each, both durable.
async fn perform(store: &Store, calls: std::ops::Range<u64>, callers: usize) -> anyhow::Result<()> {
    stream::iter(calls.map(Ok))
        .try_for_each_concurrent(callers, async |n| {
            let intent = intent(n)?;
            let call = intent.call.id.clone();
            store.issue(intent).await?;
            let closing = Closing {
                entries: vec![entry(&call)],
                call,
                outcome: CallOutcome::Done { reply: json!({ "rows": 1 }) },
                settlement: Settlement::Used { rows: 1, amount: None },
                now_ms: NOW,
            };
            Ledger::close(store, closing, Wait::Durable).await?;
            anyhow::Ok(())
        })
        .await
}

#[derive(Serialize, Deserialize)]
struct Said {
    filling: String,
}

impl Kind for Said {
    const WORD: &'static str = "bench";
}

fn entry(call: &CallId) -> NewEntry {
    let mut entry = NewEntry::new(NOW, &Said { filling: "x".repeat(300) });
    entry.call = Some(call.clone());
    entry
}

fn intent(n: u64) -> anyhow::Result<Intent> {
    let requester = Requester {
        agent: AgentId::parse(&format!("bot-{}", n % 20))?,
        teams: Vec::new(),
        session: SessionId::parse(&format!("session-{}", n % 2_000))?,
        on_behalf_of: None,
    };
    let (tool, version) = (ToolName::parse("refund")?, ToolVersion::parse("v1")?);
    let arguments = json!({ "id": n });
    let id = CallId::parse(&format!("call-{n}"))?;
    Ok(Intent {
        entries: vec![entry(&id)],
        call: StoredCall {
            id,
            requester,
            digest: CallDigest::compute(&tool, &version, &arguments)?,
            tool,
            version,
            arguments,
            reason: None,
            key: None,
            again: None,
            trace: None,
            narrowed: None,
        },
        system: SystemName::parse("billing")?,
        journal: None,
        effect: Effect::Write,
        decision: DecisionId::parse("dec-1")?,
        rates: Vec::new(),
        holds: Vec::new(),
        rows: 1,
        amount: None,
        if_history: None,
        approval: None,
        grant: None,
        replaces: None,
        now_ms: NOW,
    })
}
