//! What it costs to size a statement on a large table, and what that costs those who write meanwhile.
//!
//! Each statement goes through the gate, which measures it and parks it for a person; nothing is performed.
//! The row for an insert, of which nothing is counted, is what the path costs without measuring.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow, bail};
use countersign_audit::SigningKey;
use countersign_gate::{Answer, Authority, Clock, Credential, Entropy, Gate, Settings, Vault, VaultFault};
use countersign_rules::{
    AgentId, AgentSpec, DeclaredEffect, Policies, PolicySource, RawCall, Requester, SessionId, SystemName,
    SystemSpec, ToolName,
};
use countersign_store::{Options, Store};
use countersign_tools::{
    AnyDefinition, AnyTool, Systems,
    definition::{
        PostgresTarget, STATEMENT_LENGTH_MAX_DEFAULT, SqlDefinition, SqlLimits, SqlText, SqliteTarget,
        SystemDefinition, Target, ToolDefinition,
    },
};
use secrecy::SecretString;
use serde_json::json;

use crate::{keeping, println, progress, report::median};

const HELP: &str =
    "usage: countersign-bench sizing [--rows N] [--postgres URL]      (--rows defaults to 10000000)";
/// How often each statement is sized; how long writers are counted.
const TURNS: u64 = 5;
const WRITING: Duration = Duration::from_secs(4);
/// How many customers share the rows.
const CUSTOMERS: u64 = 100_000;

/// A statement, and what it shows. `{k}` is another number each time, so that no request is found again.
struct Case {
    what: &'static str,
    tool: &'static str,
    sql: &'static str,
}

const CASES: [Case; 5] = [
    Case {
        what: "insert one row: nothing to count",
        tool: "shop",
        sql: "insert into billing (customer, month, minor) values ({k}, 1, 2)",
    },
    Case {
        what: "indexed predicate, 1 row in 100,000",
        tool: "shop",
        sql: "delete from billing where customer = {k}",
    },
    Case {
        what: "sequential predicate, 1 row in 1,000",
        tool: "shop",
        sql: "delete from billing where minor % 1000 = {k}",
    },
    Case {
        what: "sequential predicate, nearly all rows: stops beyond `measure_rows_max`",
        tool: "shop",
        sql: "delete from billing where minor > {k}",
    },
    Case {
        what: "the same, beyond the limit of cost (PostgreSQL) or of 50 ms (SQLite)",
        tool: "frugal",
        sql: "delete from billing where minor % 1000 = {k}",
    },
];

/// Prints the table for SQLite and, where a server is given, for PostgreSQL.
pub(crate) async fn run(options: &[&str]) -> anyhow::Result<()> {
    let (mut rows, mut postgres) = (10_000_000_u64, None);
    for pair in options.chunks(2) {
        match pair {
            ["--rows", n] => rows = n.parse()?,
            ["--postgres", url] => postgres = Some((*url).to_owned()),
            _ => bail!("{HELP}"),
        }
    }
    let mut text = format!(
        "## Sizing on a table of {rows} rows\n\n| database | statement | median ms | what is said |\n|---|---|---|---|\n"
    );
    let folder = tempfile::tempdir()?;
    text += &on_sqlite(folder.path(), rows).await?;
    // Its table goes before the other one comes.
    drop(folder);
    if let Some(url) = &postgres {
        let folder = tempfile::tempdir()?;
        text += &on_postgres(folder.path(), url, rows).await?;
    }
    text += &keeping::run(rows, postgres.as_deref()).await?;
    println(&text);
    Ok(())
}

async fn on_sqlite(folder: &Path, rows: u64) -> anyhow::Result<String> {
    progress("a SQLite table …");
    let path = folder.join("shop.db");
    let connection = sqlite(&path)?;
    connection.execute_batch(&format!(
        "pragma journal_mode = off; pragma synchronous = off;
         create table billing (id integer primary key, customer integer not null, month integer not null, minor integer not null);
         with recursive n (i) as (select 1 union all select i + 1 from n where i < {rows})
           insert into billing select i, i * 7919 % {CUSTOMERS}, i % 60, i from n;
         create index billing_customer on billing (customer);
         pragma journal_mode = wal;"
    ))?;
    drop(connection);
    let target = |measure_timeout_ms| {
        let limits = SqlLimits { measure_timeout_ms, ..SqlLimits::default() };
        Target::Sqlite(SqliteTarget { path: path.clone(), limits, journal: None })
    };
    let patient = SqlLimits::default().measure_timeout_ms;
    let world = World::new(folder, target(patient), target(50), None)?;
    let mut text = world.cases("SQLite").await?;

    progress("a writer beside it …");
    let write = |stop: Arc<AtomicBool>| {
        let path = path.clone();
        let thread = std::thread::spawn(move || -> anyhow::Result<u64> {
            let connection = sqlite(&path)?;
            connection.execute_batch("pragma synchronous = normal")?;
            connection.busy_timeout(Duration::from_secs(10))?;
            let mut done = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let id = done.wrapping_mul(7_919).checked_rem(rows).unwrap_or(0);
                connection
                    .prepare_cached("update billing set month = month + 1 where id = ?1")?
                    .execute([i64::try_from(id)?])?;
                done = done.saturating_add(1);
            }
            Ok(done)
        });
        tokio::task::spawn_blocking(move || thread.join().map_err(|_panic| anyhow!("the writer panicked"))?)
    };
    world.beside("SQLite", &mut text, write).await?;
    Ok(text)
}

async fn on_postgres(folder: &Path, url: &str, rows: u64) -> anyhow::Result<String> {
    progress("a PostgreSQL table …");
    let (base, _) = url.rsplit_once('/').context("the URL names no database")?;
    let own = format!("{base}/countersign_sizing");
    let admin = postgres(url).await?;
    admin.batch_execute("drop database if exists countersign_sizing with (force)").await?;
    admin.batch_execute("create database countersign_sizing").await?;
    let client = postgres(&own).await?;
    client
        .batch_execute(&format!(
            "create table billing (id bigint generated by default as identity primary key, customer bigint not null,
                                   month int not null, minor bigint not null);
             insert into billing select i, i * 7919 % {CUSTOMERS}, i % 60, i from generate_series(1::bigint, {rows}) as i;
             create index billing_customer on billing (customer)"
        ))
        .await?;
    client.batch_execute("vacuum analyze billing").await?;
    let target = |measure_cost_max| {
        let limits = SqlLimits { measure_cost_max, ..SqlLimits::default() };
        Target::Postgres(PostgresTarget { limits, ..PostgresTarget::default() })
    };
    let generous = SqlLimits::default().measure_cost_max;
    let world = World::new(folder, target(generous), target(10_000), Some(&own))?;
    let mut text = world.cases("PostgreSQL").await?;

    progress("a writer beside it …");
    let write = |stop: Arc<AtomicBool>| {
        let own = own.clone();
        tokio::spawn(async move {
            let client = postgres(&own).await?;
            let update = client.prepare("update billing set month = month + 1 where id = $1").await?;
            let mut done = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let id = i64::try_from(done.wrapping_mul(7_919).checked_rem(rows).unwrap_or(0))?;
                client.execute(&update, &[&id]).await?;
                done = done.saturating_add(1);
            }
            anyhow::Ok(done)
        })
    };
    world.beside("PostgreSQL", &mut text, write).await?;
    drop((world, client));
    admin.batch_execute("drop database countersign_sizing with (force)").await?;
    Ok(text)
}

#[expect(clippy::disallowed_methods, reason = "the table that is measured, and who writes to it")]
pub(crate) fn sqlite(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    rusqlite::Connection::open(path)
}

#[expect(clippy::disallowed_methods, reason = "the table that is measured, and who writes to it")]
pub(crate) async fn postgres(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A system of the benchmark.
pub(crate) fn system(name: &str, target: Target) -> anyhow::Result<SystemDefinition> {
    Ok(SystemDefinition {
        spec: SystemSpec {
            name: SystemName::parse(name)?,
            kind: target.kind().into(),
            environment: "bench".into(),
            account: "bench".into(),
        },
        target,
        catalog: None,
    })
}

/// A gate over these tools, on a ledger in the folder, under one policy beside the floor.
pub(crate) fn gate<'t>(
    folder: &Path,
    tools: impl Iterator<Item = &'t AnyTool>,
    policy: &str,
) -> anyhow::Result<Arc<Gate<Store>>> {
    let agents = [AgentSpec {
        id: AgentId::parse("robot")?,
        teams: BTreeSet::new(),
        accounts: ["bench".to_owned()].into(),
    }];
    let specs: Vec<_> = tools.map(|tool| Arc::clone(tool.spec())).collect();
    let sources = [PolicySource::floor(), PolicySource::user("bench", policy)];
    let policies =
        Policies::load(&sources, &specs, &agents).map_err(|error| anyhow!("the policies: {error:?}"))?;
    let store = Store::open_sqlite(
        &folder.join("ledger.db"),
        SigningKey::from_seed("bench.example/log", &[7; 32])?,
        &Options::default(),
    )?;
    let settings = Settings {
        budgets: Vec::new(),
        grant_ms: 900_000,
        open_requests_max: 100,
        keys_max: 100,
        refusals_max: u32::MAX,
        sessions_max: u32::MAX,
    };
    let (clock, chance) = (Arc::new(Now), Arc::new(Chance::new()));
    Ok(Gate::new(Arc::new(store), clock, chance, Arc::new(policies), settings))
}

/// The gate with a tool on the table, and one that has narrow limits.
struct World {
    gate: Arc<Gate<Store>>,
    tools: BTreeMap<&'static str, AnyTool>,
    next: AtomicU64,
}

impl World {
    fn new(folder: &Path, shop: Target, frugal: Target, url: Option<&str>) -> anyhow::Result<Self> {
        let vault: Arc<dyn Vault> = Arc::new(Secrets(url.map(ToOwned::to_owned)));
        let names = ["shop", "frugal"];
        let definitions = names.iter().zip([shop, frugal]).map(|(name, target)| system(name, target));
        let definitions = definitions.collect::<Result<Vec<_>, _>>()?;
        let systems =
            Systems::new(&definitions, &vault).map_err(|errors| anyhow!("the systems: {errors:?}"))?;
        let mut tools = BTreeMap::new();
        for name in names {
            let definition = AnyDefinition::Sql(SqlDefinition {
                tool: ToolDefinition {
                    name: ToolName::parse(&format!("query_{name}"))?,
                    system: SystemName::parse(name)?,
                    description: "a statement".into(),
                    effect: DeclaredEffect::FromStatement,
                    categories: BTreeSet::new(),
                    reversible: false,
                    idempotent: false,
                    arguments: serde_json::Value::Null,
                    narrows: BTreeMap::new(),
                    result: None,
                    rates: Vec::new(),
                    // No cap of the tool: what is shown is the limit of counting.
                    rows_max: u64::from(u32::MAX),
                },
                statement: SqlText::FromAgent { length_max: STATEMENT_LENGTH_MAX_DEFAULT },
                tables: ["billing".to_owned()].into(),
                functions: BTreeSet::new(),
                mask: BTreeSet::new(),
                rehearse: None,
            });
            let tool = AnyTool::new(&definition, &systems).map_err(|error| anyhow!("{error}"))?;
            tools.insert(name, tool);
        }
        let asks = r#"@id("ask") @ask("people") permit (principal, action, resource);"#;
        let gate = gate(folder, tools.values(), asks)?;
        Ok(Self { gate, tools, next: AtomicU64::new(1) })
    }

    /// Sizes one statement. Returns how long that took, and what is said of it.
    async fn sized(&self, case: &Case) -> anyhow::Result<(f64, String)> {
        let k = self.next.fetch_add(1, Ordering::Relaxed);
        let raw = RawCall {
            tool: format!("query_{}", case.tool),
            arguments: json!({ "sql": case.sql.replace("{k}", &k.to_string()) }),
            key: None,
            trace: None,
        };
        let requester = Requester {
            agent: AgentId::parse("robot")?,
            teams: Vec::new(),
            session: SessionId::parse(&format!("session-{k}"))?,
            on_behalf_of: None,
        };
        let tool = self.tools.get(case.tool).context("there is no such tool")?;
        let started = Instant::now();
        let answer = tool.submit(&self.gate, &requester, raw).await;
        let ms = started.elapsed().as_secs_f64() * 1e3;
        let said = match answer {
            Answer::Pending(pending) => match pending.reach {
                Some(reach) if reach.unbounded => format!("more than {} rows", reach.rows.saturating_sub(1)),
                Some(reach) => format!("{} rows", reach.rows),
                None => "not measured; a person is asked without a number".into(),
            },
            Answer::Refused(refused) => format!("refused: {}", refused.refusal.message),
            Answer::Done(_) => bail!("it was performed"),
        };
        Ok((ms, said))
    }

    /// Every statement in turns, so that a slow moment slows them all.
    async fn cases(&self, database: &str) -> anyhow::Result<String> {
        progress("sizing …");
        let mut times: [Vec<f64>; CASES.len()] = Default::default();
        let mut said: [String; CASES.len()] = Default::default();
        for _ in 0..TURNS {
            for ((case, times), said) in CASES.iter().zip(&mut times).zip(&mut said) {
                let (ms, what) = self.sized(case).await?;
                times.push(ms);
                *said = what;
            }
        }
        let mut text = String::new();
        for ((case, times), said) in CASES.iter().zip(times).zip(said) {
            writeln!(text, "| {database} | {} | {:.1} | {said} |", case.what, median(times))?;
        }
        Ok(text)
    }

    /// A writer by itself, and beside two who size by a sequential predicate without pause; in turns.
    async fn beside(
        &self,
        database: &str,
        text: &mut String,
        write: impl Fn(Arc<AtomicBool>) -> tokio::task::JoinHandle<anyhow::Result<u64>>,
    ) -> anyhow::Result<()> {
        let case = CASES.get(2).context("there is no such case")?;
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            for (disturbed, figures) in [(false, &mut alone), (true, &mut beside)] {
                let stop = Arc::new(AtomicBool::new(false));
                let started = Instant::now();
                let writer = write(Arc::clone(&stop));
                let sizing = async {
                    while disturbed && started.elapsed() < WRITING {
                        self.sized(case).await?;
                    }
                    anyhow::Ok(())
                };
                let other = async {
                    while disturbed && started.elapsed() < WRITING {
                        self.sized(case).await?;
                    }
                    anyhow::Ok(())
                };
                let end = async {
                    tokio::time::sleep(WRITING).await;
                    stop.store(true, Ordering::Relaxed);
                    let done = writer.await??;
                    #[expect(clippy::cast_precision_loss, reason = "a count of seconds of work")]
                    anyhow::Ok(done as f64 / started.elapsed().as_secs_f64())
                };
                let (rate, one, two) = tokio::join!(end, sizing, other);
                one?;
                two?;
                figures.push(rate?);
            }
        }
        let (alone, beside) = (median(alone), median(beside));
        writeln!(
            text,
            "| {database} | one writer beside two who size sequentially without pause | | {beside:.0} of {alone:.0} updates/s ({:.2}) |",
            beside / alone
        )?;
        Ok(())
    }
}

/// The connection string, where there is one.
pub(crate) struct Secrets(pub(crate) Option<String>);

impl Vault for Secrets {
    fn open(&self, _authority: &dyn Authority) -> Result<Credential, VaultFault> {
        let url = self.0.iter().map(|url| ("url".to_owned(), SecretString::from(url.clone())));
        Ok(Credential::new(url.collect()))
    }
}

struct Now;

impl Clock for Now {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Different numbers; nobody guesses here.
struct Chance(AtomicU64);

impl Chance {
    const fn new() -> Self {
        Self(AtomicU64::new(1))
    }
}

impl Entropy for Chance {
    fn bytes(&self) -> [u8; 16] {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        let spread = u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        spread.to_be_bytes()
    }
}
