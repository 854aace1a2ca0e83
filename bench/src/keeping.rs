//! What it costs to record calls in the database that they change, and to keep the rows they change.
//!
//! The same statements run by the driver itself, and through the gate: on a system without journal, on one with it,
//! and by a tool whose rows are kept, which is undone then. All in turns, so that a slow moment slows them all. Then a
//! writer that is not ours, on a table without triggers and on one whose rows are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use countersign_gate::{Answer, Gate, Vault};
use countersign_rules::{
    AgentId, CallId, DeclaredEffect, RawCall, Requester, SessionId, SystemName, ToolName,
};
use countersign_store::Store;
use countersign_tools::{
    AnyDefinition, AnyTool, Systems,
    definition::{
        JournalSettings, PostgresTarget, SqlDefinition, SqlLimits, SqlText, SqliteTarget, Target,
        ToolDefinition,
    },
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    HELP, println, progress,
    report::median,
    sizing::{Secrets, gate, postgres, sqlite, system},
};

/// How often each statement is run.
const TURNS: u64 = 3;
/// How long the other writer is counted.
const WRITING: Duration = Duration::from_secs(3);
/// The most rows that one statement changes here.
const ROWS_MAX: u64 = 100_000;

/// How a statement is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the driver.
    Direct,
    /// Through the gate, on a system without journal.
    Plain,
    /// Its call is recorded.
    Recorded,
    /// And the rows it changes are kept.
    Kept,
}

/// What undoing it does, as the driver would.
const REVERSES: [(&str, &str); 2] = [
    ("update", "update bare set minor = minor - 1 where id <= {rows}"),
    ("delete", "insert into bare select * from covered where id <= {rows}"),
];

const WAYS: [Way; 4] = [Way::Direct, Way::Plain, Way::Recorded, Way::Kept];

impl Way {
    /// `bare` has no triggers.
    const fn table(self) -> &'static str {
        match self {
            Self::Direct | Self::Plain => "bare",
            Self::Recorded | Self::Kept => "covered",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Plain => "plain",
            Self::Recorded => "recorded",
            Self::Kept => "kept",
        }
    }
}

const STATEMENTS: [(&str, &str); 2] = [
    ("update", "update {table} set minor = minor + 1 where id <= {rows}"),
    ("delete", "delete from {table} where id <= {rows}"),
];

/// The database, apart from the gate.
enum Other {
    Sqlite(PathBuf),
    Postgres(tokio_postgres::Client),
}

impl Other {
    async fn execute(&self, sql: &str) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(path) => {
                let connection = sqlite(path)?;
                connection.busy_timeout(Duration::from_secs(60))?;
                connection.execute_batch(sql)?;
            }
            Self::Postgres(client) => client.batch_execute(sql).await?,
        }
        Ok(())
    }

    /// The rows of a table, as they were in the beginning.
    async fn fill(&self, table: &str, rows: u64) -> anyhow::Result<()> {
        let series = match self {
            Self::Sqlite(_) => format!(
                "with recursive n (i) as (select 1 union all select i + 1 from n where i < {rows}) insert into {table} \
                 select i, i % 100, i % 60, i, 'a note of some forty characters and more' from n"
            ),
            Self::Postgres(_) => format!(
                "insert into {table} select i, i % 100, i % 60, i, 'a note of some forty characters and more' \
                 from generate_series(1::bigint, {rows}) as i"
            ),
        };
        self.execute(&format!("delete from {table}; {series}")).await?;
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(_) => self.execute(&format!("vacuum analyze {table}")).await,
        }
    }
}

/// Only this.
pub(crate) async fn alone(options: &[&str]) -> anyhow::Result<()> {
    let (mut rows, mut postgres) = (ROWS_MAX, None);
    for pair in options.chunks(2) {
        match pair {
            ["--rows", n] => rows = n.parse()?,
            ["--postgres", url] => postgres = Some(*url),
            _ => bail!("{HELP}"),
        }
    }
    println(&run(rows, postgres).await?);
    Ok(())
}

/// The table for SQLite and, where a server is given, for PostgreSQL.
pub(crate) async fn run(rows: u64, url: Option<&str>) -> anyhow::Result<String> {
    let rows = rows.clamp(1, ROWS_MAX);
    let mut text = format!(
        "\n## Keeping what a statement of {rows} rows changes\n\n| database | statement | by the driver, ms | through the gate | \
         recorded | rows kept | undone | of what was kept | of its reverse by the driver |\n|---|---|---|---|---|---|---|---|---|\n"
    );
    const TABLE: &str = "(id bigint primary key, customer bigint not null, month bigint not null, minor bigint not null, note text not null)";
    let tables = format!("create table bare {TABLE}; create table covered {TABLE};");
    progress("keeping rows on SQLite …");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("kept.db");
    let connection = sqlite(&path)?;
    connection.execute_batch("pragma journal_mode = wal;")?;
    drop(connection);
    let other = Other::Sqlite(path.clone());
    other.execute(&tables).await?;
    let limits =
        SqlLimits { statement_timeout_ms: 600_000, measure_timeout_ms: 600_000, ..SqlLimits::default() };
    let target = |journal| Target::Sqlite(SqliteTarget { path: path.clone(), limits, journal });
    World::new(folder.path(), &target, None).await?.measure("SQLite", rows, &other, &mut text).await?;
    drop(folder);

    let Some(url) = url else { return Ok(text) };
    progress("keeping rows on PostgreSQL …");
    let folder = tempfile::tempdir()?;
    let (base, _) = url.rsplit_once('/').context("the URL names no database")?;
    let own = format!("{base}/countersign_keeping");
    let admin = postgres(url).await?;
    admin.batch_execute("drop database if exists countersign_keeping with (force)").await?;
    admin.batch_execute("create database countersign_keeping").await?;
    let other = Other::Postgres(postgres(&own).await?);
    other.execute(&tables).await?;
    let target = |journal| Target::Postgres(PostgresTarget { limits, journal, ..PostgresTarget::default() });
    let world = World::new(folder.path(), &target, Some(&own)).await?;
    world.measure("PostgreSQL", rows, &other, &mut text).await?;
    writer(&own, rows, &mut text).await?;
    drop((world, other));
    admin.batch_execute("drop database countersign_keeping with (force)").await?;
    Ok(text)
}

/// A tool for each way through the gate.
struct World {
    gate: Arc<Gate<Store>>,
    tools: Vec<(Way, &'static str, AnyTool)>,
    undo: AnyTool,
    next: AtomicU64,
}

impl World {
    async fn new(
        folder: &Path,
        target: &impl Fn(Option<JournalSettings>) -> Target,
        url: Option<&str>,
    ) -> anyhow::Result<Self> {
        let vault: Arc<dyn Vault> = Arc::new(Secrets(url.map(ToOwned::to_owned)));
        let keeping = JournalSettings { bytes_max: u64::MAX >> 1, ..JournalSettings::default() };
        let definitions = [system("plain", target(None))?, system("journal", target(Some(keeping)))?];
        let systems =
            Systems::new(&definitions, &vault).map_err(|errors| anyhow!("the systems: {errors:?}"))?;
        let mut tools = Vec::new();
        for way in WAYS.into_iter().filter(|way| *way != Way::Direct) {
            for (verb, statement) in STATEMENTS {
                let system = if way == Way::Plain { "plain" } else { "journal" };
                let sql = statement.replace("{table}", way.table()).replace("{rows}", ":rows");
                let definition = AnyDefinition::Sql(SqlDefinition {
                    tool: ToolDefinition {
                        name: ToolName::parse(&format!("{verb}_{}", way.name()))?,
                        system: SystemName::parse(system)?,
                        description: "changes rows".into(),
                        effect: DeclaredEffect::Destructive,
                        categories: BTreeSet::new(),
                        reversible: way == Way::Kept,
                        idempotent: false,
                        arguments: json!({
                            "type": "object", "additionalProperties": false, "required": ["rows"],
                            "properties": { "rows": { "type": "integer" } }
                        }),
                        narrows: BTreeMap::new(),
                        result: None,
                        rates: Vec::new(),
                        rows_max: ROWS_MAX,
                    },
                    statement: SqlText::Fixed(sql),
                    tables: BTreeSet::new(),
                    functions: BTreeSet::new(),
                    mask: BTreeSet::new(),
                    rehearse: None,
                });
                let tool = AnyTool::new(&definition, &systems).map_err(|error| anyhow!("{error}"))?;
                tools.push((way, verb, tool));
            }
        }
        let permits = r#"@id("all") permit (principal, action, resource);"#;
        let undo = systems.undo_tools(&[]).map_err(|error| anyhow!("{error}"))?.pop();
        let undo = undo.context("there is no tool that undoes")?;
        let gate = gate(folder, tools.iter().map(|(_, _, tool)| tool).chain([&undo]), permits)?;
        let name = SystemName::parse("journal")?;
        let admin = url.map(|url| SecretString::from(url.to_owned()));
        let database = systems.journal(&name).map_err(anyhow::Error::msg)?;
        let tables = ["covered".to_owned()];
        database
            .prepare(&Gate::<Store>::review(&name), admin.as_ref(), &tables)
            .await
            .map_err(anyhow::Error::msg)?;
        Ok(Self { gate, tools, undo, next: AtomicU64::new(1) })
    }

    /// Runs a statement. Returns how long that took, in milliseconds, and which call it was.
    async fn once(
        &self,
        way: Way,
        verb: &str,
        rows: u64,
        other: &Other,
    ) -> anyhow::Result<(f64, Option<CallId>)> {
        let tool =
            self.tools.iter().find(|(is, name, _)| *is == way && *name == verb).map(|(_, _, tool)| tool);
        let started = Instant::now();
        let call = match tool {
            None => {
                other.execute(&written(&STATEMENTS, verb, way.table(), rows)?).await?;
                None
            }
            Some(tool) => Some(self.call(tool, json!({ "rows": rows }), rows).await?),
        };
        Ok((milliseconds(started), call))
    }

    /// Calls a tool, which changes so many rows.
    async fn call(&self, tool: &AnyTool, arguments: Value, rows: u64) -> anyhow::Result<CallId> {
        let requester = Requester {
            agent: AgentId::parse("robot")?,
            teams: Vec::new(),
            session: SessionId::parse(&format!("session-{}", self.next.fetch_add(1, Ordering::Relaxed)))?,
            on_behalf_of: None,
        };
        let raw = RawCall { tool: tool.spec().name.to_string(), arguments, key: None, trace: None };
        match tool.submit(&self.gate, &requester, raw).await {
            Answer::Done(done) if done.rows == rows => Ok(done.call),
            answer @ (Answer::Done(_) | Answer::Pending(_) | Answer::Refused(_)) => {
                bail!("not as it should be: {answer:?}")
            }
        }
    }

    async fn measure(
        &self,
        database: &str,
        rows: u64,
        other: &Other,
        text: &mut String,
    ) -> anyhow::Result<()> {
        for (verb, _) in STATEMENTS {
            for rows in BTreeSet::from([1, rows]) {
                let mut times: [Vec<f64>; WAYS.len()] = Default::default();
                let (mut undone, mut reverse) = (Vec::new(), Vec::new());
                for _ in 0..TURNS {
                    for (way, times) in WAYS.into_iter().zip(&mut times) {
                        other.fill(way.table(), rows.max(1_000)).await?;
                        let (time, call) = self.once(way, verb, rows, other).await?;
                        times.push(time);
                        if way == Way::Kept {
                            let started = Instant::now();
                            self.call(&self.undo, json!({ "call": call }), rows).await?;
                            undone.push(milliseconds(started));
                        }
                    }
                    // Both tables are full again but for what the driver has taken from the one.
                    other.fill("bare", rows.max(1_000)).await?;
                    other.execute(&written(&STATEMENTS, verb, "bare", rows)?).await?;
                    let back = written(&REVERSES, verb, "bare", rows)?;
                    let started = Instant::now();
                    other.execute(&back).await?;
                    reverse.push(milliseconds(started));
                }
                let [direct, plain, recorded, kept] = times.map(median);
                let (undone, reverse) = (median(undone), median(reverse));
                writeln!(
                    text,
                    "| {database} | {verb} of {rows} rows | {direct:.2} | {:.2}x | {:.2}x | {:.2}x | {:.2}x | {:.2}x | {:.2}x |",
                    plain / direct,
                    recorded / direct,
                    kept / direct,
                    undone / direct,
                    undone / kept,
                    undone / reverse
                )?;
            }
        }
        Ok(())
    }
}

/// One of these statements, on a table and of so many rows.
fn written(statements: &[(&str, &str)], verb: &str, table: &str, rows: u64) -> anyhow::Result<String> {
    let (_, statement) =
        statements.iter().find(|(known, _)| *known == verb).context("there is no such statement")?;
    Ok(statement.replace("{table}", table).replace("{rows}", &rows.to_string()))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Somebody else who updates rows one by one and all at once, on the table that has no triggers and on the one that has them.
async fn writer(url: &str, rows: u64, text: &mut String) -> anyhow::Result<()> {
    let client = postgres(url).await?;
    let other = Other::Postgres(postgres(url).await?);
    for table in ["bare", "covered"] {
        other.fill(table, rows).await?;
    }
    let (mut bare, mut covered) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        for (table, rates) in [("bare", &mut bare), ("covered", &mut covered)] {
            let update =
                client.prepare(&format!("update {table} set month = month + 1 where id = $1")).await?;
            let (started, mut done) = (Instant::now(), 0_u64);
            while started.elapsed() < WRITING {
                let id = done.wrapping_mul(7_919).checked_rem(rows).unwrap_or(0).saturating_add(1);
                client.execute(&update, &[&i64::try_from(id)?]).await?;
                done = done.saturating_add(1);
            }
            #[expect(clippy::cast_precision_loss, reason = "a count of seconds of work")]
            rates.push(done as f64 / started.elapsed().as_secs_f64());
        }
    }
    let (mut all_bare, mut all_covered) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        for (table, times) in [("bare", &mut all_bare), ("covered", &mut all_covered)] {
            other.fill(table, rows).await?;
            let started = Instant::now();
            client.batch_execute(&format!("update {table} set month = month + 1")).await?;
            times.push(milliseconds(started));
        }
    }
    let (bare, covered) = (median(bare), median(covered));
    let (all_bare, all_covered) = (median(all_bare), median(all_covered));
    writeln!(
        text,
        "\nOn PostgreSQL another writer makes {bare:.0} single updates/s on a table without triggers, and {covered:.0} on \
         one that is prepared ({:.2}); {rows} rows at once it updates in {all_bare:.0} ms and in {all_covered:.0} ms ({:.2}x).",
        covered / bare,
        all_covered / all_bare
    )?;
    Ok(())
}
