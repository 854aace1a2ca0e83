//! What a guarded call costs its ledger: statements, bytes, commits, pages. Unlike times these do not waver, so that they
//! are held to what is written down here.
//!
//! A commit is one sync of SQLite's write-ahead log, or one of PostgreSQL's.

use std::sync::{Arc, Mutex};

use countersign_gate::{
    Answer, Gate, MeasureError, Measured, Parsed, Performed, Probe, Settings, Tool, ToolError, Warrant,
    ledger::{Ledger, Wait},
    simulation::{SimClock, SimEntropy},
};
use countersign_rules::{
    AgentId, AgentSpec, Arguments, DeclaredEffect, Effect, Policies, PolicySource, RawCall, Refusal,
    SystemName, SystemSpec, ToolName, ToolSpec, ToolVersion,
};
use countersign_store::{Options, Step, Store};
use futures::future::{join_all, poll_immediate};
use serde_json::{Value, json};

use crate::{
    held::Held,
    make::{NOW, done, intent_of, requester, stored},
    place::{Place, contract},
};

/// What one call may cost. It costs too much from a tenth more on; where it costs a fifth less, the new figure is to be
/// written here, so that it is held from then on. A whole call goes through the gate, one after the other; of 64 at once the
/// ledger is handed the intents together, and then the outcomes.
const FIGURES: &str = "
                              statements    bytes  commits  pages
    SQLite      whole write       12.08  3327.38     2.00  10.38
    SQLite      whole read        10.08  3222.41     2.00   9.47
    SQLite      64 writes          4.36   774.69     0.03   0.83
    SQLite      64 reads           4.36   766.58     0.03   0.83
    PostgreSQL  whole write       17.05  3532.25     2.00   0.00
    PostgreSQL  whole read        14.05  3346.22     2.00   0.00
    PostgreSQL  64 writes          4.33   774.50     0.03   0.00
    PostgreSQL  64 reads           4.33   766.36     0.03   0.00
";
const MORE_MAX: f64 = 1.1;
const LESS_MAX: f64 = 0.8;

/// Calls before those that count: the first of a kind finds things that are not there.
const FIRST: usize = 8;
const COUNTED: usize = 64;

/// In the order of the columns: statements that were asked, bytes of their parameters, commits, and pages that were
/// written to a write-ahead log of SQLite.
type Costs = [u64; 4];

#[derive(Default)]
struct Counter(Mutex<Costs>);

impl Counter {
    fn add(&self, column: usize, more: usize) {
        self.0.lock().unwrap()[column] += u64::try_from(more).unwrap();
    }

    fn options(self: &Arc<Self>) -> Options {
        let (asked, stepped) = (Arc::clone(self), Arc::clone(self));
        Options {
            statements: Some(Arc::new(move |_sql, params| {
                asked.add(0, 1);
                asked.add(1, params.iter().flatten().map(|param| bytes(param)).sum());
            })),
            hook: Some(Arc::new(move |step| {
                if step == Step::Committed {
                    stepped.add(2, 1);
                }
            })),
            ..Options::default()
        }
    }

    /// What was counted so far.
    fn costs(&self, place: &Place) -> Costs {
        let [statements, bytes, commits, _] = *self.0.lock().unwrap();
        [statements, bytes, commits, pages(place)]
    }
}

/// Bytes are told by their digits.
fn bytes(param: &str) -> usize {
    param.strip_prefix("\\x").map_or(param.len(), |digits| digits.len() / 2)
}

/// Pages in a write-ahead log that was never emptied.
fn pages(place: &Place) -> u64 {
    const HEADER: u64 = 32;
    const PAGE: u64 = 24 + 4_096;
    match place {
        Place::Sqlite(_) => {
            let log = std::fs::metadata(place.path().with_extension("db-wal")).unwrap().len();
            assert_eq!((log - HEADER) % PAGE, 0);
            (log - HEADER) / PAGE
        }
        Place::Postgres(_) => 0,
    }
}

fn each(before: Costs, after: Costs) -> [f64; 4] {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    std::array::from_fn(|column| (after[column] - before[column]) as f64 / COUNTED as f64)
}

/// A tool that does nothing, and answers at once.
struct Idle(Arc<ToolSpec>);

impl Idle {
    fn new(effect: DeclaredEffect) -> Arc<Self> {
        Arc::new(Self(Arc::new(ToolSpec {
            name: ToolName::parse(effect.as_str()).unwrap(),
            version: ToolVersion::parse("v1").unwrap(),
            system: SystemSpec {
                name: SystemName::parse("billing").unwrap(),
                kind: "http".into(),
                environment: "production".into(),
                account: "acme".into(),
            },
            description: String::new(),
            effect,
            categories: [].into(),
            reversible: false,
            measurable: false,
            idempotent: false,
            arguments: Arguments::parse(&json!({ "number": { "type": "integer" } }))
                .unwrap()
                .schema()
                .clone(),
            result: None,
            rates: Vec::new(),
            rows_max: 100,
        })))
    }
}

impl Tool for Idle {
    type Args = ();

    fn spec(&self) -> &Arc<ToolSpec> {
        &self.0
    }

    fn parse(&self, _arguments: &Value) -> Result<Parsed<()>, Refusal> {
        let (effect, categories) = (self.0.effect.floor(), [].into());
        Ok(Parsed { args: (), effect, categories, statement: None, reversible: false })
    }

    fn measurable(&self, _args: &()) -> bool {
        false
    }

    async fn measure(&self, _probe: Probe<'_, ()>) -> Result<Measured, MeasureError> {
        Err(MeasureError::NotMeasurable("it does nothing".into()))
    }

    async fn perform(&self, _warrant: Warrant<()>) -> Result<Performed, ToolError> {
        Ok(Performed { reply: json!({ "total": 120_450, "currency": "EUR" }), rows: 1, amount: None })
    }
}

/// What a call costs that goes the whole way.
async fn whole(place: &Place, effect: DeclaredEffect) -> [f64; 4] {
    let counter = Arc::<Counter>::default();
    let ledger = place.open_with(counter.options()).await.unwrap();
    let tool = Idle::new(effect);
    let agent = AgentSpec {
        id: AgentId::parse("bot").unwrap(),
        teams: [].into(),
        accounts: ["acme".to_owned()].into(),
    };
    let policy = PolicySource::user("test", "permit (principal, action, resource);");
    let policies = Policies::load(&[policy], &[Arc::clone(tool.spec())], &[agent]).unwrap();
    let settings = Settings {
        budgets: Vec::new(),
        grant_ms: 900_000,
        open_requests_max: 100,
        keys_max: 20,
        refusals_max: u32::MAX,
        sessions_max: u32::MAX,
    };
    let (clock, entropy) = (Arc::new(SimClock::new(NOW)), SimEntropy::new(effect.floor() as u64));
    let gate = Gate::new(Arc::clone(&ledger), clock.clone(), Arc::new(entropy), Arc::new(policies), settings);
    let mut before = Costs::default();
    for number in 0..FIRST + COUNTED {
        if number == FIRST {
            before = counter.costs(place);
        }
        let raw = RawCall {
            tool: effect.as_str().into(),
            arguments: json!({ "number": number }),
            key: None,
            trace: None,
        };
        let answer = gate.submit(&tool, &requester("bot", "s1"), raw).await;
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
        clock.advance(1_000);
        // The outcome of a read is committed behind its answer.
        ledger.record(Vec::new()).await.unwrap();
    }
    let costs = each(before, counter.costs(place));
    drop(gate);
    Store::close(&ledger).await;
    costs
}

/// What each of many calls costs that are issued at once and closed at once.
async fn at_once(place: &Place, effect: Effect, wait: Wait) -> [f64; 4] {
    let counter = Arc::<Counter>::default();
    let (held, options) = Held::at(Step::Begun, counter.options());
    let ledger = place.open_with(options).await.unwrap();
    let id = |round: usize, n: usize| format!("{effect}-{round}-{n}");
    let mut before = Costs::default();
    for round in 0..2 {
        let intents = (0..COUNTED).map(|n| {
            let id = id(round, n);
            let mut intent = intent_of(stored(&id, &requester(&format!("bot{}", n % 8), "s1"), &id));
            intent.effect = effect;
            ledger.issue(intent)
        });
        let outcomes = (0..COUNTED).map(|n| Ledger::close(&*ledger, done(&id(round, n), 1), wait));
        before = if round == 1 { counter.costs(place) } else { before };
        together(&ledger, &held, intents).await;
        together(&ledger, &held, outcomes).await;
    }
    let costs = each(before, counter.costs(place));
    Store::close(&ledger).await;
    costs
}

/// Does all of these in one batch of the writer, which is held until the last of them is queued.
async fn together<T, E: std::fmt::Debug>(
    ledger: &Arc<Store>,
    held: &Arc<Held>,
    operations: impl Iterator<Item = impl Future<Output = Result<T, E>>>,
) {
    held.shut();
    let nothing = Arc::clone(ledger);
    let nothing = tokio::spawn(async move { nothing.record(Vec::new()).await });
    held.reached().await;
    let mut queued = Vec::new();
    for operation in operations {
        let mut operation = Box::pin(operation);
        match poll_immediate(&mut operation).await {
            // Nobody waits for the outcome of a read.
            Some(done) => drop(done.unwrap()),
            None => queued.push(operation),
        }
    }
    held.open();
    nothing.await.unwrap().unwrap();
    for done in join_all(queued).await {
        done.unwrap();
    }
    ledger.record(Vec::new()).await.unwrap();
}

/// Compares with what is written down. Returns what is wrong.
fn compare(name: &str, found: [f64; 4]) -> Option<String> {
    let mut lines = FIGURES.lines().filter(|line| !line.trim().is_empty());
    let columns: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let line = lines.find_map(|line| line.trim().strip_prefix(name)).unwrap();
    let written: Vec<f64> = line.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    let wrong: Vec<String> = columns
        .iter()
        .zip(written.iter().zip(found))
        .filter_map(|(column, (&written, found))| {
            // As it would be written.
            let found = (found * 100.0).round() / 100.0;
            if found > written * MORE_MAX {
                Some(format!("{found} {column}, which is more than {MORE_MAX} x {written}"))
            } else if found < written * LESS_MAX {
                Some(format!("{found} {column}, which is less than {LESS_MAX} x {written}: lower the figure"))
            } else {
                None
            }
        })
        .collect();
    let [statements, bytes, commits, pages] = found;
    (!wrong.is_empty()).then(|| {
        format!(
            "{name}: {}\n    {name:<22} {statements:>11.2} {bytes:>8.2} {commits:>8.2} {pages:>6.2}",
            wrong.join("; ")
        )
    })
}

contract! {
    async fn a_guarded_call_costs_its_ledger_what_is_written_down(place) {
        let database = match &place {
            Place::Sqlite(_) => "SQLite     ",
            Place::Postgres(_) => "PostgreSQL ",
        };
        let costs = [
            ("whole write", whole(&place, DeclaredEffect::Write).await),
            ("whole read", whole(&place, DeclaredEffect::Read).await),
            ("64 writes", at_once(&place, Effect::Write, Wait::Durable).await),
            ("64 reads", at_once(&place, Effect::Read, Wait::Queued).await),
        ];
        let wrong: Vec<String> =
            costs.into_iter().filter_map(|(what, costs)| compare(&format!("{database} {what}"), costs)).collect();
        assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    }
}
