//! A small deployment: systems, tools, policies and one agent, behind the real gate.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use countersign_gate::{
    Answer, Authority, Credential, Done, Evidence, Gate, Pending, Remembered, Settings, Vault, VaultFault,
    ledger::{CallOutcome, Ledger as _},
    simulation::{SimLedger, ports},
};
use countersign_rules::{
    AgentId, AgentSpec, ApprovalId, Code, DeclaredEffect, GroupName, PersonId, Policies, PolicySource,
    RawCall, Reach, Refusal, Requester, SessionId, SystemName, SystemSpec, ToolName, budget::Budget,
};
use countersign_tools::{
    AnyDefinition, AnyTool, Systems,
    definition::{
        ROWS_MAX_DEFAULT, Rehearse, SqlDefinition, SqlLimits, SqlText, SqliteTarget, SystemDefinition,
        Target, ToolDefinition,
    },
};
use secrecy::SecretString;
use serde_json::{Value, json};

/// Allows everything that the floor does.
pub(crate) const ALLOW: &str = r#"@id("all") permit (principal, action, resource);"#;
/// Asks a person for everything but reads.
pub(crate) const ASK: &str = r#"
@id("reads") permit (principal, action, resource) when { context.effect == "read" };
@id("writes") @ask("people") permit (principal, action, resource) when { context.effect != "read" };
"#;

/// Allows what touches at most three rows.
pub(crate) const AT_MOST_THREE: &str = r#"
@id("all") permit (principal, action, resource);
@id("few") forbid (principal, action, resource) when { context has reach && context.reach.rows > 3 };
"#;

pub(crate) struct World {
    pub(crate) gate: Arc<Gate<SimLedger>>,
    pub(crate) tools: BTreeMap<String, AnyTool>,
    pub(crate) systems: Systems,
    requester: Requester,
}

/// Secrets by system.
#[derive(Default)]
pub(crate) struct TestVault(BTreeMap<String, BTreeMap<String, SecretString>>);

impl TestVault {
    pub(crate) fn with(mut self, system: &str, name: &str, secret: &str) -> Self {
        self.0.entry(system.into()).or_default().insert(name.into(), secret.into());
        self
    }
}

impl Vault for TestVault {
    fn open(&self, authority: &dyn Authority) -> Result<Credential, VaultFault> {
        Ok(Credential::new(self.0.get(authority.system().as_str()).cloned().unwrap_or_default()))
    }
}

impl World {
    pub(crate) fn new(
        systems: &[SystemDefinition],
        vault: TestVault,
        definitions: &[AnyDefinition],
        policy: &str,
    ) -> Self {
        Self::budgeted(systems, vault, definitions, policy, Vec::new())
    }

    /// One with budgets.
    pub(crate) fn budgeted(
        systems: &[SystemDefinition],
        vault: TestVault,
        definitions: &[AnyDefinition],
        policy: &str,
        budgets: Vec<Budget>,
    ) -> Self {
        // Two worlds on one database must not give two calls one id.
        static SEED: AtomicU64 = AtomicU64::new(7);
        Self::of(SEED.fetch_add(1, Ordering::Relaxed), systems, vault, definitions, policy, budgets)
    }

    /// One whose ids are those of every world of that seed.
    pub(crate) fn seeded(
        seed: u64,
        systems: &[SystemDefinition],
        vault: TestVault,
        definitions: &[AnyDefinition],
        policy: &str,
    ) -> Self {
        Self::of(seed, systems, vault, definitions, policy, Vec::new())
    }

    fn of(
        seed: u64,
        systems: &[SystemDefinition],
        vault: TestVault,
        definitions: &[AnyDefinition],
        policy: &str,
        budgets: Vec<Budget>,
    ) -> Self {
        let vault: Arc<dyn Vault> = Arc::new(vault);
        let systems = Systems::new(systems, &vault).unwrap();
        let mut tools: BTreeMap<String, AnyTool> = definitions
            .iter()
            .map(|d| {
                (
                    d.tool().name.to_string(),
                    AnyTool::new(d, &systems).unwrap_or_else(|e| panic!("{e}: {:?}", e.help)),
                )
            })
            .collect();
        for tool in systems.undo_tools(definitions).unwrap() {
            tools.insert(tool.spec().name.to_string(), tool);
        }
        let specs: Vec<_> = tools.values().map(|tool| Arc::clone(tool.spec())).collect();
        let agent = AgentId::parse("robot").unwrap();
        let agents = [AgentSpec {
            id: agent.clone(),
            teams: BTreeSet::new(),
            accounts: BTreeSet::from(["acme".to_owned()]),
        }];
        let sources = [PolicySource::floor(), PolicySource::user("test", policy)];
        let policies = Policies::load(&sources, &specs, &agents).unwrap().with_memory(Remembered::default());
        let (ledger, clock, entropy) = ports(seed, 1_795_000_000_000);
        let settings = Settings {
            budgets,
            grant_ms: 900_000,
            open_requests_max: 100,
            keys_max: 20,
            refusals_max: u32::MAX,
            sessions_max: u32::MAX,
        };
        let gate = Gate::new(ledger, clock, entropy, Arc::new(policies), settings);
        let requester = Requester {
            agent,
            teams: Vec::new(),
            session: SessionId::parse("session").unwrap(),
            on_behalf_of: None,
        };
        Self { gate, tools, systems, requester }
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Answer {
        let raw = RawCall { tool: tool.into(), arguments, key: None, trace: None };
        self.tools[tool].submit(&self.gate, &self.requester, raw).await
    }

    pub(crate) async fn done(&self, tool: &str, arguments: Value) -> Done {
        match self.call(tool, arguments).await {
            Answer::Done(done) => done,
            other => panic!("not done: {other:?}"),
        }
    }

    pub(crate) async fn refusal(&self, tool: &str, arguments: Value) -> Refusal {
        match self.call(tool, arguments).await {
            Answer::Refused(refused) => refused.refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) async fn pending(&self, tool: &str, arguments: Value) -> Pending {
        match self.call(tool, arguments).await {
            Answer::Pending(pending) => pending,
            other => panic!("not pending: {other:?}"),
        }
    }

    /// What the approver of a pending call sees.
    pub(crate) async fn shown(&self, pending: &Pending) -> (Reach, Option<Evidence>) {
        let record = self.gate.ledger().approval(&pending.approval).await.unwrap().unwrap();
        (record.request.reach.unwrap(), record.evidence)
    }

    /// Measures a call by asking for it, and takes the request back.
    pub(crate) async fn measured(&self, tool: &str, arguments: Value) -> Reach {
        self.pending(tool, arguments).await.reach.expect("no reach was measured")
    }

    /// The failed calls, by code and message.
    pub(crate) async fn failures(&self) -> Vec<(Code, String)> {
        let calls = self.gate.ledger().calls(None, 100).await.unwrap();
        let failed = calls.into_iter().filter_map(|call| match call.outcome {
            Some(CallOutcome::Failed { code, message, .. }) => Some((code, message)),
            _ => None,
        });
        failed.collect()
    }

    /// A person approves, and the gate performs.
    pub(crate) async fn approve(&self, approval: &ApprovalId) -> Answer {
        let people = BTreeSet::from([GroupName::parse("people").unwrap()]);
        let person = PersonId::parse("ada").unwrap();
        let record = self.gate.answer(approval, person, people, (true, None), None, "test").await.unwrap();
        let tool = &self.tools[record.request.call.tool.as_str()];
        let span = Gate::<SimLedger>::granted_span(&record);
        tool.perform_granted(&self.gate, record, span).await
    }
}

pub(crate) fn refused(answer: Answer, code: Code) -> Refusal {
    match answer {
        Answer::Refused(refused) => {
            assert_eq!(refused.refusal.code, code, "{}", refused.refusal);
            refused.refusal
        }
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn system(name: &str, target: Target) -> SystemDefinition {
    SystemDefinition {
        spec: SystemSpec {
            name: SystemName::parse(name).unwrap(),
            kind: target.kind().into(),
            environment: "production".into(),
            account: "acme".into(),
        },
        target,
        catalog: None,
    }
}

pub(crate) fn sqlite(path: &Path) -> SystemDefinition {
    system(
        "billing",
        Target::Sqlite(SqliteTarget { path: path.into(), limits: SqlLimits::default(), journal: None }),
    )
}

/// The tool with its calls counted only, and never rehearsed: for what counting itself can tell.
pub(crate) fn counted(definition: SqlDefinition) -> SqlDefinition {
    SqlDefinition { rehearse: Some(Rehearse::Never), ..definition }
}

pub(crate) fn tool(name: &str, system: &str, effect: DeclaredEffect, arguments: Value) -> ToolDefinition {
    ToolDefinition {
        name: ToolName::parse(name).unwrap(),
        system: SystemName::parse(system).unwrap(),
        description: format!("the tool {name}"),
        effect,
        categories: BTreeSet::new(),
        reversible: false,
        idempotent: false,
        narrows: BTreeMap::new(),
        arguments,
        result: None,
        rates: Vec::new(),
        rows_max: ROWS_MAX_DEFAULT,
    }
}

/// A tool with a statement of its own.
pub(crate) fn fixed(name: &str, effect: DeclaredEffect, arguments: Value, sql: &str) -> SqlDefinition {
    SqlDefinition {
        tool: tool(name, "billing", effect, arguments),
        statement: SqlText::Fixed(sql.into()),
        tables: BTreeSet::new(),
        functions: BTreeSet::new(),
        mask: BTreeSet::new(),
        rehearse: None,
    }
}

/// A tool whose statements the agent writes.
pub(crate) fn from_agent(name: &str, tables: &[&str]) -> SqlDefinition {
    SqlDefinition {
        tool: tool(name, "billing", DeclaredEffect::FromStatement, Value::Null),
        statement: SqlText::FromAgent { length_max: 8_192 },
        tables: tables.iter().map(ToString::to_string).collect(),
        functions: BTreeSet::new(),
        mask: BTreeSet::new(),
        rehearse: None,
    }
}

/// Tools that change rows of `billing`: statements of an agent, and one that is to change a single row.
pub(crate) fn changing() -> Vec<SqlDefinition> {
    let mut one = fixed(
        "one",
        DeclaredEffect::Write,
        json!({"least": {"type": "integer"}}),
        "update billing set minor = 7 where id >= :least",
    );
    one.tool.result = Some(
        json!({"type": "object", "properties": {"rows_changed": {"const": 1}}, "required": ["rows_changed"]}),
    );
    vec![from_agent("query", &["billing", "line"]), one]
}

/// What [`changing`] tools answer on three rows of `billing`, the third with two of `line`.
pub(crate) async fn answers_how_many_rows_it_changed(world: &World) {
    for (sql, reply) in [
        ("update billing set minor = minor + 1 where id <= 2", json!({"rows_changed": 2})),
        ("update billing set minor = 0 where id > 100", json!({"rows_changed": 0})),
        // Two of them go with it.
        ("delete from billing where id = 3", json!({"rows_changed": 3})),
        (
            "update billing set minor = 1 where id = 1 returning id",
            json!({"rows": [{"id": 1}], "row_count": 1, "truncated": false}),
        ),
        (
            "update billing set minor = 1 where id > 100 returning id",
            json!({"rows": [], "row_count": 0, "truncated": false}),
        ),
        ("select id from billing where id > 100", json!({"rows": [], "row_count": 0, "truncated": false})),
    ] {
        assert_eq!(world.done("query", json!({"sql": sql})).await.reply, reply, "{sql}");
    }
    // A declared result is held against what is answered.
    let refusal = world.refusal("one", json!({"least": 1})).await;
    assert_eq!(refusal.code, Code::ToolFailed);
    assert_eq!(world.done("one", json!({"least": 2})).await.reply, json!({"rows_changed": 1}));
}
