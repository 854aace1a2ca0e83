//! A small world around the real gate: one simulated system with numbered rows, tools on it, agents.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use countersign_gate::{
    Answer, Doubt, Gate, MeasureError, Measured, Parsed, Performed, Probe, Recalled, Remembered, Sample,
    Settings, Tool, ToolError, Upkeep, Warrant,
    ledger::{CallState, Ledger as _},
    simulation::{SimClock, SimLedger, ports},
};
use countersign_rules::{
    AgentId, AgentSpec, Arguments, CallId, DeclaredEffect, Effect, GroupName, IdempotencyKey, Money,
    PersonId, Policies, PolicySource, RawCall, Reach, Refusal, Requester, SessionId, SystemName, SystemSpec,
    TeamName, ToolName, ToolSpec, ToolVersion,
    budget::{Budget, BudgetScope, BudgetWindow, Unit},
    narrowing::{Narrows, takes_away},
    rate::Rate,
};
use serde_json::{Value, json};

pub(crate) const NOW_MS: i64 = 1_795_363_200_000;

/// Reads run, writes ask one of `leads`, deletes ask two of `leads` and may not exceed 500 rows.
pub(crate) const POLICIES: &str = r#"
@id("reads")
permit (principal, action, resource) when { context.effect == "read" };
@id("notes")
permit (principal, action == Action::"note", resource);
@id("writes")
@ask("leads") @because("it writes")
permit (principal, action == Action::"update", resource);
@id("deletes")
@ask("leads") @quorum("2")
permit (principal, action == Action::"delete", resource);
@id("too-many")
@because("no more than 500 rows")
forbid (principal, action, resource) when { context has reach && context.reach.rows > 500 };
@id("few")
@because("a session may write three times")
forbid (principal, action == Action::"note", resource) when { context.session.writes >= 3 };
"#;

/// What a range of rows is asked for.
#[derive(Debug)]
pub(crate) struct Range {
    from: u64,
    to: u64,
}

/// How the next effects go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Fails,
    /// It takes effect, and the answer is lost.
    Vanishes,
    /// It never reaches the system, and nobody knows.
    Dies,
    /// It is still under way at the system when the connection is lost; see [`System::finish_late`].
    Lingers,
    /// It waits for [`System::go_on`] before it commits.
    Waits,
    /// One of the rows is another table's.
    Elsewhere,
    Panics,
    BadResult,
}

/// The simulated system: numbered rows, and every effect that was ever had on it.
#[derive(Debug, Default)]
pub(crate) struct System {
    pub(crate) rows: Mutex<BTreeMap<u64, u64>>,
    pub(crate) effects: Mutex<Vec<String>>,
    pub(crate) trouble: Mutex<Vec<Trouble>>,
    /// Rows inserted by somebody else between measuring and acting.
    pub(crate) intruder: Mutex<Vec<u64>>,
    /// What the system keeps of calls: rows touched, or `None` for one that is fenced off.
    pub(crate) journal: Mutex<BTreeMap<String, Option<u64>>>,
    /// What that record is called now.
    pub(crate) name: Mutex<Option<String>>,
    /// What it was asked last.
    pub(crate) doubt: Mutex<Option<Doubt>>,
    /// The call that every later one takes back.
    pub(crate) undoes: Mutex<Option<CallId>>,
    /// How often it was asked about a call.
    pub(crate) recalls: Mutex<u64>,
    /// How the next answers about calls go wrong.
    pub(crate) forgetful: Mutex<Vec<Forgetful>>,
    pub(crate) waiting: tokio::sync::Notify,
    pub(crate) go_on: tokio::sync::Notify,
    late: Mutex<Vec<Transaction>>,
    /// What each row costs, in euro cents, when anything does.
    pub(crate) price: Mutex<Option<u64>>,
    /// So many rows of another table change along with every effect, which only running it shows.
    pub(crate) triggered: Mutex<Option<u64>>,
    /// What it costs after so many more looks.
    pub(crate) raised: Mutex<Option<(u32, u64)>>,
}

/// How asking the system about a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forgetful {
    Down,
    Panics,
    KeepsNothing,
}

/// An effect with its record, which take place together or not at all.
#[derive(Debug)]
struct Transaction {
    call: String,
    ids: Vec<u64>,
    effect: Effect,
}

impl System {
    pub(crate) fn effects(&self) -> usize {
        self.effects.lock().unwrap().len()
    }

    /// Whether it took effect; not when its record is there already.
    fn commit(&self, transaction: Transaction) -> bool {
        let mut journal = self.journal.lock().unwrap();
        if journal.contains_key(&transaction.call) {
            return false;
        }
        journal.insert(transaction.call.clone(), Some(transaction.ids.len() as u64));
        self.effects.lock().unwrap().push(transaction.call);
        let mut rows = self.rows.lock().unwrap();
        for id in transaction.ids {
            match transaction.effect {
                Effect::Read => {}
                Effect::Write => *rows.entry(id).or_default() += 1,
                Effect::Destructive => {
                    rows.remove(&id);
                }
            }
        }
        true
    }

    /// How many are still under way at the system.
    pub(crate) fn late(&self) -> usize {
        self.late.lock().unwrap().len()
    }

    /// What was still under way at the system comes to its end. Returns how many took effect.
    pub(crate) fn finish_late(&self) -> usize {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        late.into_iter().map(|transaction| self.commit(transaction)).filter(|done| *done).count()
    }

    /// What rows cost now.
    fn amount(&self, rows: u64) -> Option<Money> {
        self.price.lock().unwrap().map(|each| euros(each * rows))
    }

    /// Somebody has looked.
    fn looked(&self) {
        let mut raised = self.raised.lock().unwrap();
        *raised = match *raised {
            Some((1, price)) => {
                *self.price.lock().unwrap() = Some(price);
                None
            }
            Some((looks, price)) => Some((looks - 1, price)),
            None => None,
        };
    }
}

/// A tool on the simulated system.
#[derive(Debug)]
pub(crate) struct RowTool {
    spec: Arc<ToolSpec>,
    arguments: Arguments,
    pub(crate) system: Arc<System>,
    narrows: BTreeMap<String, Narrows>,
}

impl RowTool {
    fn new(name: &str, version: &str, effect: DeclaredEffect, system: &Arc<System>) -> Arc<Self> {
        Self::with(name, version, effect, system, Vec::new())
    }

    fn with(
        name: &str,
        version: &str,
        effect: DeclaredEffect,
        system: &Arc<System>,
        rates: Vec<Rate>,
    ) -> Arc<Self> {
        let arguments = Arguments::parse(&json!({
            "from": { "type": "integer", "minimum": 0 },
            "to": { "type": "integer", "minimum": 0 },
        }))
        .unwrap();
        let spec = ToolSpec {
            name: ToolName::parse(name).unwrap(),
            version: ToolVersion::parse(version).unwrap(),
            system: SystemSpec {
                name: SystemName::parse("rows").unwrap(),
                kind: "sqlite".into(),
                environment: "production".into(),
                account: "acme".into(),
            },
            description: String::new(),
            effect,
            categories: BTreeSet::new(),
            reversible: false,
            measurable: effect != DeclaredEffect::Read,
            idempotent: false,
            arguments: arguments.schema().clone(),
            result: None,
            rates,
            rows_max: 1_000,
        };
        Arc::new(Self {
            spec: Arc::new(spec),
            arguments,
            system: Arc::clone(system),
            narrows: BTreeMap::new(),
        })
    }

    /// The same tool, whose author declares that a lower `to` takes away.
    pub(crate) fn narrowing(&self) -> Arc<Self> {
        let arguments = Arguments::parse(&self.spec.arguments).unwrap();
        let (spec, system) = (Arc::clone(&self.spec), Arc::clone(&self.system));
        Arc::new(Self { spec, arguments, system, narrows: [("to".into(), Narrows::Lower)].into() })
    }

    /// The same tool on a system that recognises a repeated call by its key and answers it as it did.
    pub(crate) fn recognising(&self) -> Arc<Self> {
        let spec = ToolSpec { idempotent: true, ..(*self.spec).clone() };
        let arguments = Arguments::parse(&self.spec.arguments).unwrap();
        let system = Arc::clone(&self.system);
        Arc::new(Self { spec: Arc::new(spec), arguments, system, narrows: BTreeMap::new() })
    }

    pub(crate) fn name(&self) -> &str {
        self.spec.name.as_str()
    }

    fn count(&self, range: &Range) -> Vec<u64> {
        self.system.rows.lock().unwrap().range(range.from..range.to).map(|(id, _)| *id).collect()
    }
}

impl Tool for RowTool {
    type Args = Range;

    fn spec(&self) -> &Arc<ToolSpec> {
        &self.spec
    }

    fn parse(&self, arguments: &Value) -> Result<Parsed<Range>, Refusal> {
        self.arguments.check(arguments)?;
        let number = |name: &str| arguments[name].as_u64().unwrap();
        Ok(Parsed {
            args: Range { from: number("from"), to: number("to").max(number("from")) },
            effect: self.spec.effect.floor(),
            categories: BTreeSet::new(),
            statement: None,
            reversible: false,
        })
    }

    fn takes_away(&self, from: &Value, to: &Value) -> bool {
        takes_away(&self.narrows, from.as_object().unwrap(), to.as_object().unwrap())
    }

    fn measurable(&self, _: &Range) -> bool {
        true
    }

    async fn measure(&self, probe: Probe<'_, Range>) -> Result<Measured, MeasureError> {
        let ids = self.count(probe.args());
        let rows = ids.len() as u64;
        let sample = Sample {
            table: "rows".into(),
            columns: vec!["id".into()],
            rows: ids.iter().take(3).map(|id| vec![Some(id.to_string())]).collect(),
        };
        for id in self.system.intruder.lock().unwrap().drain(..) {
            self.system.rows.lock().unwrap().insert(id, 0);
        }
        let amount = self.system.amount(rows);
        self.system.looked();
        let tables = BTreeMap::from([("rows".into(), rows)]);
        let reach = Reach { rows, exact: true, tables, amount, ..Reach::default() };
        Ok(Measured { reach, sample: Some(sample) })
    }

    async fn rehearse(&self, probe: Probe<'_, Range>) -> Result<Measured, MeasureError> {
        let Some(triggered) = *self.system.triggered.lock().unwrap() else {
            return Err(MeasureError::NotMeasurable("such calls cannot be taken back".into()));
        };
        let rows = self.count(probe.args()).len() as u64;
        let tables = BTreeMap::from([("rows".into(), rows), ("audit".into(), triggered)]);
        let rows = rows + triggered;
        Ok(Measured {
            reach: Reach { rows, exact: true, rehearsed: true, tables, ..Reach::default() },
            sample: None,
        })
    }

    async fn perform(&self, warrant: Warrant<Range>) -> Result<Performed, ToolError> {
        let ids = self.count(warrant.args());
        let touched = ids.len() as u64;
        let call = warrant.idempotency_key().to_owned();
        let known = self.system.journal.lock().unwrap().get(&call).copied().flatten();
        let transaction = Transaction { call, ids, effect: self.spec.effect.floor() };
        let lost = Err(ToolError::InDoubt { message: "the connection was lost".into() });
        let mut tables = BTreeMap::from([("rows".into(), touched)]);
        let trouble = self.system.trouble.lock().unwrap().pop();
        match trouble {
            Some(Trouble::Fails) => return Err(ToolError::Failed { message: "no".into() }),
            Some(Trouble::Vanishes) => {
                self.system.commit(transaction);
                return lost;
            }
            Some(Trouble::Dies) => return lost,
            Some(Trouble::Lingers) => {
                self.system.late.lock().unwrap().push(transaction);
                return lost;
            }
            Some(Trouble::Waits) => {
                self.system.waiting.notify_one();
                self.system.go_on.notified().await;
            }
            Some(Trouble::Elsewhere) => {
                tables = BTreeMap::from([("rows".into(), touched - 1), ("audit".into(), 1)]);
            }
            Some(Trouble::Panics) => panic!("the tool fails while it acts"),
            Some(Trouble::BadResult) => {
                self.system.commit(transaction);
                return Err(ToolError::ResultRejected {
                    message: "not what was declared".into(),
                    rows: touched,
                    amount: None,
                });
            }
            None => {}
        }
        if let Some(rows) = known.filter(|_| self.spec.idempotent) {
            return Ok(Performed { reply: json!({ "rows": rows }), rows, amount: None });
        }
        let amount = self.system.amount(touched);
        let reach = Reach { rows: touched, exact: true, tables, amount, ..Reach::default() };
        if self.spec.effect != DeclaredEffect::Read && warrant.limits().exceeded_by(&reach) {
            return Err(ToolError::Exceeded { reach: Box::new(reach) });
        }
        if !self.system.commit(transaction) {
            return Err(ToolError::Failed { message: "the call is fenced off".into() });
        }
        Ok(Performed { reply: json!({ "rows": touched }), rows: touched, amount })
    }

    fn undoes(&self, _: &Range) -> Option<CallId> {
        self.system.undoes.lock().unwrap().clone()
    }

    async fn journal(&self, _: &Upkeep) -> Option<String> {
        self.system.name.lock().unwrap().clone()
    }

    async fn recall(&self, _: &Upkeep, doubt: &Doubt) -> Result<Recalled, MeasureError> {
        *self.system.doubt.lock().unwrap() = Some(doubt.clone());
        *self.system.recalls.lock().unwrap() += 1;
        let forgetful = self.system.forgetful.lock().unwrap().pop();
        match forgetful {
            Some(Forgetful::Down) => return Err(MeasureError::System("the system is away".into())),
            Some(Forgetful::Panics) => panic!("the tool fails while it asks"),
            Some(Forgetful::KeepsNothing) => return Ok(Recalled::Unknown),
            None => {}
        }
        let mut journal = self.system.journal.lock().unwrap();
        Ok(match journal.entry(doubt.call.to_string()).or_insert(None) {
            Some(rows) => Recalled::Happened { rows: *rows, amount: None },
            None => Recalled::Never,
        })
    }
}

/// Everything a test needs.
pub(crate) struct World {
    pub(crate) gate: Arc<Gate<SimLedger>>,
    pub(crate) ledger: Arc<SimLedger>,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) system: Arc<System>,
    pub(crate) read: Arc<RowTool>,
    pub(crate) note: Arc<RowTool>,
    pub(crate) update: Arc<RowTool>,
    pub(crate) delete: Arc<RowTool>,
}

impl World {
    /// A world with `rows` rows and budgets.
    pub(crate) fn new(seed: u64, rows: u64, budgets: Vec<Budget>) -> Self {
        Self::rated(seed, rows, budgets, Vec::new())
    }

    /// The same with rates on `update`.
    pub(crate) fn rated(seed: u64, rows: u64, budgets: Vec<Budget>, rates: Vec<Rate>) -> Self {
        Self::made(seed, rows, budgets, rates, u32::MAX)
    }

    /// A world that records so many refusals of an agent in a minute.
    pub(crate) fn refusing(seed: u64, rows: u64, refusals_max: u32) -> Self {
        Self::made(seed, rows, Vec::new(), Vec::new(), refusals_max)
    }

    fn made(seed: u64, rows: u64, budgets: Vec<Budget>, rates: Vec<Rate>, refusals_max: u32) -> Self {
        let (ledger, clock, entropy) = ports(seed, NOW_MS);
        let system = Arc::new(System::default());
        system.rows.lock().unwrap().extend((0..rows).map(|id| (id, 0)));
        let tool = |name, effect| RowTool::new(name, "v1", effect, &system);
        let (read, note) = (tool("read", DeclaredEffect::Read), tool("note", DeclaredEffect::Write));
        let update = RowTool::with("update", "v1", DeclaredEffect::Write, &system, rates);
        let delete = tool("delete", DeclaredEffect::Destructive);
        let policies = policies(POLICIES, &[&read, &note, &update, &delete]);
        let settings = Settings {
            budgets,
            grant_ms: 900_000,
            open_requests_max: 100,
            keys_max: 20,
            refusals_max,
            sessions_max: 5,
        };
        let gate = Gate::new(Arc::clone(&ledger), Arc::clone(&clock) as _, entropy, policies, settings);
        Self { gate, ledger, clock, system, read, note, update, delete }
    }

    /// Proposes a call on rows `from..to`.
    pub(crate) async fn call(&self, tool: &Arc<RowTool>, from: u64, to: u64) -> Answer {
        self.call_as("bot", "s1", tool, from, to).await
    }

    pub(crate) async fn call_as(
        &self,
        agent: &str,
        session: &str,
        tool: &Arc<RowTool>,
        from: u64,
        to: u64,
    ) -> Answer {
        self.call_with(agent, session, None, tool, from, to).await
    }

    /// Proposes a call under an idempotency key, in a session of that name.
    pub(crate) async fn keyed(
        &self,
        session: &str,
        key: &str,
        tool: &Arc<RowTool>,
        from: u64,
        to: u64,
    ) -> Answer {
        self.call_with("bot", session, Some(key), tool, from, to).await
    }

    pub(crate) async fn call_with(
        &self,
        agent: &str,
        session: &str,
        key: Option<&str>,
        tool: &Arc<RowTool>,
        from: u64,
        to: u64,
    ) -> Answer {
        let raw = RawCall {
            tool: tool.spec().name.to_string(),
            arguments: json!({ "from": from, "to": to }),
            key: key.map(|key| IdempotencyKey::parse(key).unwrap()),
            trace: None,
        };
        self.gate.submit(tool, &requester(agent, session), raw).await
    }

    /// Answers the request of a pending answer as `person` of `leads`.
    pub(crate) async fn answer(&self, pending: &Answer, person: &str, approved: bool) {
        let approval = approval(pending);
        self.gate
            .answer(
                &approval,
                person.parse_person(),
                leads(),
                (approved, None),
                Some("because".into()),
                "test",
            )
            .await
            .unwrap();
    }

    /// Performs what is granted, as the server's worker does.
    pub(crate) async fn work(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for record in self.gate.granted().await.unwrap() {
            let tool = match record.request.call.tool.as_str() {
                "update" => &self.update,
                "delete" => &self.delete,
                other => panic!("no tool {other}"),
            };
            answers.push(self.gate.perform_granted(tool, record, tracing::Span::none()).await);
        }
        answers
    }

    /// Asks the system about every call in doubt, as the server's worker does.
    pub(crate) async fn recall(&self) {
        for record in self.ledger.calls(Some(CallState::InDoubt), 1_000).await.unwrap() {
            let tool = match record.call.tool.as_str() {
                "read" => &self.read,
                "note" => &self.note,
                "update" => &self.update,
                "delete" => &self.delete,
                other => panic!("no tool {other}"),
            };
            // What fails is asked again later.
            let _again = self.gate.recall(&**tool, &record).await;
        }
    }

    /// How many entries of a kind the log has.
    pub(crate) fn logged(&self, kind: &str) -> usize {
        self.ledger.log().iter().filter(|entry| entry.kind == kind).count()
    }

    /// From now on this policy holds beside [`POLICIES`].
    pub(crate) fn add_policy(&self, text: &str) {
        let text = format!("{POLICIES}\n{text}");
        let tools = [&self.read, &self.note, &self.update, &self.delete];
        self.gate.replace_policies(policies(&text, &tools));
    }

    /// A tool of the same name whose definition changed.
    pub(crate) fn changed(&self, name: &str) -> Arc<RowTool> {
        RowTool::new(name, "v2", DeclaredEffect::Write, &self.system)
    }
}

pub(crate) fn policies(text: &str, tools: &[&Arc<RowTool>]) -> Arc<Policies> {
    let agents: Vec<AgentSpec> = ["bot", "other"]
        .map(|id| AgentSpec {
            id: AgentId::parse(id).unwrap(),
            teams: BTreeSet::from([TeamName::parse("ops").unwrap()]),
            accounts: BTreeSet::from(["acme".into()]),
        })
        .into();
    let specs: Vec<Arc<ToolSpec>> = tools.iter().map(|tool| Arc::clone(tool.spec())).collect();
    let policies = Policies::load(&[PolicySource::user("test", text)], &specs, &agents).unwrap();
    Arc::new(policies.with_memory(Remembered::default()))
}

pub(crate) fn requester(agent: &str, session: &str) -> Requester {
    Requester {
        agent: AgentId::parse(agent).unwrap(),
        teams: vec![TeamName::parse("ops").unwrap()],
        session: SessionId::parse(session).unwrap(),
        on_behalf_of: Some(PersonId::parse("owner").unwrap()),
    }
}

pub(crate) fn leads() -> BTreeSet<GroupName> {
    BTreeSet::from([GroupName::parse("leads").unwrap()])
}

pub(crate) fn approval(pending: &Answer) -> countersign_rules::ApprovalId {
    match pending {
        Answer::Pending(pending) => pending.approval.clone(),
        other => panic!("not pending: {other:?}"),
    }
}

pub(crate) fn budget(unit: Unit, limit: u64, halt_at: Option<u64>) -> Budget {
    Budget {
        name: "test".into(),
        scope: BudgetScope::Agent,
        window: BudgetWindow::Day,
        unit,
        limit,
        tools: None,
        effect_min: Effect::Write,
        halt_at,
    }
}

pub(crate) fn euros(minor: u64) -> Money {
    Money { currency: "EUR".parse().unwrap(), minor }
}

pub(crate) trait ParsePerson {
    fn parse_person(&self) -> PersonId;
}

impl ParsePerson for str {
    fn parse_person(&self) -> PersonId {
        PersonId::parse(self).unwrap()
    }
}
