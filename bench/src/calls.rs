//! Guarded calls against the same tool server called directly and through a no-op hop, in turns.

use std::{path::Path, time::Duration};

use crate::{
    gateway::{self, Gateway},
    load::{self, Measured, Target},
    process::{self, Process},
    report::median,
};

/// Concurrent callers.
pub(crate) const CALLERS: [usize; 3] = [1, 16, 64];

/// What one target did at one number of callers: medians over the turns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) callers: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Calls per second as a part of the direct ones in the same turn.
    pub(crate) of_direct: f64,
    /// The 99th percentile as a multiple of the direct one in the same turn.
    pub(crate) p99_x: f64,
    /// Processor time of the process in between, per call.
    pub(crate) cpu_us: f64,
}

/// All rows, and the gateway's memory in MiB: at rest and after load, on SQLite.
pub(crate) struct Calls {
    pub(crate) rows: Vec<Row>,
    pub(crate) memory: (f64, f64),
}

/// What a load saw, and the processor time per call.
type Figures = (Measured, f64);

struct Case {
    name: &'static str,
    target: Target,
    /// The process whose processor time counts, by place in the list of processes.
    process: Option<usize>,
}

/// Measures `turns` turns of every case at every number of callers.
pub(crate) async fn measure(
    binary: &Path,
    folder: &Path,
    postgres: Option<&str>,
    callers: &[usize],
    turns: usize,
    time: Duration,
) -> anyhow::Result<Calls> {
    let me = std::env::current_exe()?;
    let (upstream, direct) = process::start(&me, &["upstream"])?;
    let (hop, through) = process::start(&me, &["hop", &direct])?;
    let sqlite = gateway::start(binary, &folder.join("sqlite"), &direct, "path = \"countersign.db\"")?;
    let at_rest = sqlite.process.memory_mib()?;
    let mut cases = vec![
        Case { name: "direct", target: plain(&direct), process: Some(0) },
        Case { name: "no-op hop", target: plain(&through), process: Some(1) },
    ];
    let guarded =
        |gateway: &Gateway, tool| Target { url: gateway.url.clone(), key: Some(gateway.key.clone()), tool };
    cases.push(Case {
        name: "countersign, SQLite, write",
        target: guarded(&sqlite, "write"),
        process: Some(2),
    });
    cases.push(Case {
        name: "countersign, SQLite, read",
        target: guarded(&sqlite, "read"),
        process: Some(2),
    });
    let mut processes: Vec<Process> = vec![upstream, hop, sqlite.process];
    if let Some(url) = postgres {
        let table = "kind = \"postgres\"\nurl = { file = \"url\" }";
        let place = folder.join("postgres");
        std::fs::create_dir_all(&place)?;
        private(&place.join("url"), url)?;
        let gateway = gateway::start(binary, &place, &direct, table)?;
        cases.push(Case {
            name: "countersign, PostgreSQL, write",
            target: guarded(&gateway, "write"),
            process: Some(3),
        });
        cases.push(Case {
            name: "countersign, PostgreSQL, read",
            target: guarded(&gateway, "read"),
            process: Some(3),
        });
        processes.push(gateway.process);
    }
    let mut rows = Vec::new();
    for &callers in callers {
        let mut seen: Vec<Vec<Figures>> = cases.iter().map(|_| Vec::new()).collect();
        for _ in 0..turns {
            for (case, figures) in cases.iter().zip(&mut seen) {
                let process = case.process.and_then(|place| processes.get(place));
                let before = process.map(Process::cpu_us).transpose()?;
                let measured = load::run(&case.target, callers, time).await?;
                let after = process.map(Process::cpu_us).transpose()?;
                let used = after.zip(before).map_or(0.0, |(after, before)| after - before);
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52 calls")]
                figures.push((measured, used / measured.calls.max(1) as f64));
            }
            crate::progress(&format!("  {callers} callers: a turn of {} done", cases.len()));
        }
        let direct = seen.first().cloned().unwrap_or_default();
        for (case, figures) in cases.iter().zip(&seen) {
            let each = |of: fn(&Figures, &Figures) -> f64| {
                median(figures.iter().zip(&direct).map(|(mine, direct)| of(mine, direct)).collect())
            };
            rows.push(Row {
                name: case.name,
                callers,
                per_second: each(|mine, _| mine.0.per_second),
                p50_us: each(|mine, _| mine.0.p50_us),
                p99_us: each(|mine, _| mine.0.p99_us),
                of_direct: each(|mine, direct| mine.0.per_second / direct.0.per_second),
                p99_x: each(|mine, direct| mine.0.p99_us / direct.0.p99_us),
                cpu_us: each(|mine, _| mine.1),
            });
        }
    }
    let loaded = processes.get(2).map_or(Ok(f64::NAN), Process::memory_mib)?;
    Ok(Calls { rows, memory: (at_rest, loaded) })
}

fn plain(url: &str) -> Target {
    Target { url: url.to_owned(), key: None, tool: "write" }
}

/// Writes a file that its owner alone can read.
fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

/// The rows, as Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| target | callers | calls/s | of direct | p50 µs | p99 µs | p99 × direct | CPU µs/call |\n|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        text.push_str(&format!(
            "| {} | {} | {:.0} | {:.3} | {:.0} | {:.0} | {:.1} | {:.0} |\n",
            row.name,
            row.callers,
            row.per_second,
            row.of_direct,
            row.p50_us,
            row.p99_us,
            row.p99_x,
            row.cpu_us
        ));
    }
    text
}
