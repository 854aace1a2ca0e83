//! Measures the gateway and prints its figures beside their targets. Ratios are taken in one interleaved run
//! on one machine; absolute figures say nothing elsewhere.
//!
//! `bench/run` builds what is needed and starts this. Traffic stays on loopback.

mod calls;
mod classification;
mod consoles;
mod crowd;
mod decisions;
mod gateway;
mod growth;
mod hop;
mod instructions;
mod keeping;
mod load;
mod log;
mod process;
mod report;
mod sizing;
mod toml;
mod upstream;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use countersign_sql::Dialect;
use report::Target;

const HELP: &str = "\
usage: countersign-bench --binary PATH [--postgres URL] [--turns N] [--seconds S] [--callers N]
       countersign-bench sizing [--rows N] [--postgres URL]
       countersign-bench keeping [--rows N] [--postgres URL]
       countersign-bench growth [--calls N] [--postgres URL]
       countersign-bench classification
       countersign-bench crowd --binary PATH
       countersign-bench consoles --binary PATH
       countersign-bench instructions --binary PATH --committed FILE
       countersign-bench upstream | hop URL      (what it starts for itself)

Calls the same tool server directly, through a no-op hop and through Countersign, in turns, at 1, 16 and 64
concurrent callers, and prints ratios beside their targets. --turns defaults to 5, --seconds to 2. With --callers
only calls are measured, by so many callers: for whoever looks for what they cost.";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sizing", options @ ..] => sizing::run(options).await,
        ["keeping", options @ ..] => keeping::alone(options).await,
        ["growth", options @ ..] => growth::run(options).await,
        ["classification"] => {
            let statements = classification::measure()?;
            println(&classification::table(&statements));
            println(&report::targets(&classified(&statements)));
            Ok(())
        }
        ["crowd", "--binary", binary] => {
            println(&crowd::measure(&PathBuf::from(*binary).canonicalize()?).await?);
            Ok(())
        }
        ["consoles", "--binary", binary] => {
            println(&consoles::measure(&PathBuf::from(*binary).canonicalize()?).await?);
            Ok(())
        }
        ["instructions", "--binary", binary, "--committed", file] => {
            let binary = PathBuf::from(*binary).canonicalize()?;
            println(&instructions::measure(&binary, &PathBuf::from(*file)).await?);
            Ok(())
        }
        ["upstream"] => upstream::serve().await,
        ["hop", to] => hop::serve((*to).to_owned()).await,
        [] | ["--help" | "-h"] => {
            println(HELP);
            Ok(())
        }
        options => run(options).await,
    }
}

async fn run(options: &[&str]) -> anyhow::Result<()> {
    let (mut binary, mut postgres, mut turns, mut seconds, mut callers) = (None, None, 5, 2.0, None);
    for pair in options.chunks(2) {
        match pair {
            ["--binary", path] => binary = Some(PathBuf::from(path)),
            ["--postgres", url] => postgres = Some((*url).to_owned()),
            ["--turns", n] => turns = n.parse()?,
            ["--seconds", s] => seconds = s.parse()?,
            ["--callers", n] => callers = Some(n.parse()?),
            _ => bail!("{HELP}"),
        }
    }
    let binary = binary.context(HELP)?.canonicalize()?;
    let folder = tempfile::tempdir()?;
    let time = Duration::from_secs_f64(seconds);
    let measure = async |callers: &[usize]| {
        calls::measure(&binary, folder.path(), postgres.as_deref(), callers, turns, time).await
    };
    if let Some(callers) = callers {
        println(&calls::table(&measure(&[callers]).await?.rows));
        return Ok(());
    }

    progress("decisions …");
    let decisions = decisions::measure()?;
    progress("statements …");
    let statements = classification::measure()?;
    progress("log …");
    let appends = log::measure(folder.path()).await?;
    progress("calls …");
    let calls = measure(&calls::CALLERS).await?;

    println("## Calls\n");
    println(&calls::table(&calls.rows));
    println("## Beside the targets (durable intent and outcome for writes, durable intent for reads)\n");
    let mut targets = beside(&calls, &decisions, &appends);
    targets.extend(classified(&statements));
    println(&report::targets(&targets));
    println("## Statements\n");
    println(&classification::table(&statements));
    println(&format!(
        "Absolute figures of this run: decision {:.1} µs with 20 policies (bare Cedar {:.1} µs), {:.1} µs with 1,000, \
         {:.1} µs with 20 that look at no more than a key holds and {:.1} µs where it is remembered; \
         log {:.0} and {:.0} entries/s with 1 and 64 writers \
         (raw disk {:.0} and {:.0}); memory {:.0} MiB at rest, {:.0} MiB after load.",
        decisions.ours_20 / 1e3,
        decisions.bare_20 / 1e3,
        decisions.ours_1000 / 1e3,
        decisions.plain / 1e3,
        decisions.remembered / 1e3,
        appends.ledger_1,
        appends.ledger_64,
        appends.raw_1,
        appends.raw_64,
        calls.memory.0,
        calls.memory.1,
    ));
    Ok(())
}

/// Targets 1 to 12 of the performance notes, as far as they are measured here.
fn beside(calls: &calls::Calls, decisions: &decisions::Decisions, appends: &log::Appends) -> Vec<Target> {
    let row = |name: &str, callers: usize| {
        calls.rows.iter().find(|r| r.name == name && r.callers == callers).cloned().unwrap_or_default()
    };
    let more = |what: &str, measured, acceptable, excellent| Target {
        what: what.into(),
        measured,
        acceptable,
        excellent,
        more: true,
    };
    let (write, read) = ("countersign, SQLite, write", "countersign, SQLite, read");
    let hop_cpu = row("no-op hop", 64).cpu_us;
    let added = |name: &str| row(name, 1).p50_us - row("direct", 1).p50_us;
    let sync_us = 1e6 / appends.raw_1;
    vec![
        more("1: write, 64 callers, calls/s of direct", row(write, 64).of_direct, 0.25, 0.30),
        more("2: read (durable intent), 64 callers, calls/s of direct", row(read, 64).of_direct, 0.30, 0.37),
        less("4: CPU per write at 64 callers, × hop", row(write, 64).cpu_us / hop_cpu, 7.2, 5.0),
        less(
            "6: added p50 of a write at 1 caller, × (2 syncs + 3 × what the hop adds)",
            added(write) / (2.4 * sync_us + 3.0 * added("no-op hop")),
            1.5,
            1.0,
        ),
        less(
            "6: added p50 of a read at 1 caller, × (1 sync + 3 × what the hop adds)",
            added(read) / (1.2 * sync_us + 3.0 * added("no-op hop")),
            1.5,
            1.0,
        ),
        less("7: p99 of a write at 64 callers, × direct", row(write, 64).p99_x, 3.1, 2.5),
        more("8: log, 1 writer, × raw append and sync", appends.ledger_1 / appends.raw_1, 0.7, 0.9),
        more("8: log, 64 writers, × raw group commit", appends.ledger_64 / appends.raw_64, 0.5, 0.8),
        more("8: log, 64 writers, × one writer", appends.ledger_64 / appends.ledger_1, 30.0, 60.0),
        less("10: decision with 20 policies, × bare Cedar", decisions.ours_20 / decisions.bare_20, 2.0, 1.3),
        less("decision remembered, × evaluated", decisions.remembered / decisions.plain, 0.5, 0.2),
        less("11: decision with 1,000 policies, × 20", decisions.ours_1000 / decisions.ours_20, 5.0, 2.0),
        less("memory at rest, MiB", calls.memory.0, 100.0, 50.0),
    ]
}

/// Target 12. It was set for PostgreSQL's parser; a SQLite statement is parsed and compiled, and without a catalog a schema is
/// sought for it, which is given three times the compiler.
fn classified(rows: &[classification::Row]) -> Vec<Target> {
    [(Dialect::Postgres, "PostgreSQL", "parser", 2.0), (Dialect::Sqlite, "SQLite", "compiler", 3.0)]
        .into_iter()
        .flat_map(|(dialect, name, alone, bare_max)| {
            let ratio = |of: fn(&classification::Row) -> f64| classification::ratio(rows, dialect, of);
            [
                less(
                    &format!("12: {name} statement classified, × its {alone} alone"),
                    ratio(|row| row.bare),
                    bare_max,
                    1.2,
                ),
                less("12: the same with a catalog of 500 tables", ratio(|row| row.known), 2.0, 1.2),
            ]
        })
        .collect()
}

fn less(what: &str, measured: f64, acceptable: f64, excellent: f64) -> Target {
    Target { what: what.into(), measured, acceptable, excellent, more: false }
}

#[expect(clippy::print_stdout, reason = "the figures are this program's output")]
fn println(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "progress of a long run")]
fn progress(text: &str) {
    eprintln!("{text}");
}
