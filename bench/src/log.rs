//! Durable appends: the ledger's log against one file and its sync, with one writer and with 64.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use countersign_audit::SigningKey;
use countersign_gate::{Ledger as _, NewEntry, entry::Kind};
use countersign_store::{Options, Store};
use serde::{Deserialize, Serialize};

/// Records per second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appends {
    /// One writer, append and fdatasync.
    pub(crate) raw_1: f64,
    /// 64 writers sharing a sync, in one file.
    pub(crate) raw_64: f64,
    /// The ledger, one writer.
    pub(crate) ledger_1: f64,
    /// The ledger, 64 writers.
    pub(crate) ledger_64: f64,
}

const TIME: Duration = Duration::from_millis(1_500);

/// Measures in turns on the disk of `folder`.
pub(crate) async fn measure(folder: &Path) -> anyhow::Result<Appends> {
    let store = Arc::new(Store::open_sqlite(
        &folder.join("log.db"),
        SigningKey::from_seed("bench.example/log", &[7; 32])?,
        &Options::default(),
    )?);
    let mut all: [Vec<f64>; 4] = Default::default();
    for turn in 0..5 {
        let file = folder.join(format!("raw-{turn}"));
        let figures = [raw(&file, 1)?, raw(&file, 64)?, ledger(&store, 1).await?, ledger(&store, 64).await?];
        for (times, figure) in all.iter_mut().zip(figures) {
            times.push(figure);
        }
    }
    store.close().await;
    let [raw_1, raw_64, ledger_1, ledger_64] = all.map(crate::report::median);
    Ok(Appends { raw_1, raw_64, ledger_1, ledger_64 })
}

#[derive(Serialize, Deserialize)]
struct Filling {
    n: u64,
    filling: String,
}

impl Kind for Filling {
    const WORD: &'static str = "bench";
}

/// What one entry holds: about 1 KiB, as section 3 of the performance notes measures.
fn entry(n: u64) -> NewEntry {
    NewEntry::new(1_795_363_200_000, &Filling { n, filling: "x".repeat(900) })
}

/// The raw disk with group commit: writers append to a buffer, whoever finds no sync running writes and
/// syncs everything that waits.
fn raw(path: &Path, writers: usize) -> anyhow::Result<f64> {
    #[derive(Default)]
    struct Group {
        buffer: Vec<u8>,
        asked: u64,
        durable: u64,
        syncing: bool,
    }
    let file = Arc::new(OpenOptions::new().create(true).append(true).open(path)?);
    let group = Arc::new((Mutex::new(Group::default()), Condvar::new()));
    let record = entry(0).encode()?;
    let started = Instant::now();
    let threads: Vec<_> = (0..writers)
        .map(|_| {
            let (file, group, record) = (Arc::clone(&file), Arc::clone(&group), record.clone());
            std::thread::spawn(move || -> std::io::Result<u64> {
                let (state, waiting) = &*group;
                let mut done = 0_u64;
                while started.elapsed() < TIME {
                    let mut held = state.lock().unwrap_or_else(PoisonError::into_inner);
                    held.buffer.extend_from_slice(&record);
                    held.asked = held.asked.saturating_add(1);
                    let mine = held.asked;
                    while held.durable < mine {
                        if held.syncing {
                            held = waiting.wait(held).unwrap_or_else(PoisonError::into_inner);
                            continue;
                        }
                        held.syncing = true;
                        let (bytes, upto) = (std::mem::take(&mut held.buffer), held.asked);
                        drop(held);
                        (&*file).write_all(&bytes)?;
                        file.sync_data()?;
                        held = state.lock().unwrap_or_else(PoisonError::into_inner);
                        held.durable = upto;
                        held.syncing = false;
                        waiting.notify_all();
                    }
                    done = done.saturating_add(1);
                }
                Ok(done)
            })
        })
        .collect();
    let mut done = 0_u64;
    for thread in threads {
        done = done.saturating_add(thread.join().map_err(|_panic| anyhow::anyhow!("a writer failed"))??);
    }
    std::fs::remove_file(path)?;
    per_second(done, started)
}

async fn ledger(store: &Arc<Store>, writers: usize) -> anyhow::Result<f64> {
    let started = Instant::now();
    let tasks = (0..writers).map(|_| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let mut done = 0_u64;
            while started.elapsed() < TIME {
                store.record(vec![entry(done)]).await?;
                done = done.saturating_add(1);
            }
            anyhow::Ok(done)
        })
    });
    let mut done = 0_u64;
    for task in futures::future::join_all(tasks).await {
        done = done.saturating_add(task??);
    }
    per_second(done, started)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 records")]
fn per_second(done: u64, started: Instant) -> anyhow::Result<f64> {
    anyhow::ensure!(done > 0, "nothing was written");
    Ok(done as f64 / started.elapsed().as_secs_f64())
}
