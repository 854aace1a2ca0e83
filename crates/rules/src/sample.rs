//! A small deployment for tests: two systems, a handful of tools, two agents.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
    vec,
    vec::Vec,
};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::{
    AgentId, AgentSpec, ApprovalFact, ApprovalId, Arguments, Call, CallDigest, CallId, Counters, DecisionKey,
    DeclaredEffect, Effect, Facts, GroupName, Memory, PersonId, Policies, PolicySource, Reach, Requester,
    SessionId, SystemName, SystemSpec, TeamName, ToolName, ToolSpec, ToolVersion, Verdict,
};

pub(crate) const NOW_MS: i64 = 1_795_000_000_000;

pub(crate) fn system(name: &str, kind: &str, environment: &str, account: &str) -> SystemSpec {
    SystemSpec {
        name: SystemName::parse(name).unwrap(),
        kind: kind.into(),
        environment: environment.into(),
        account: account.into(),
    }
}

pub(crate) fn tool(name: &str, effect: DeclaredEffect, system: SystemSpec, arguments: &Value) -> ToolSpec {
    ToolSpec {
        name: ToolName::parse(name).unwrap(),
        version: ToolVersion::parse("v1").unwrap(),
        system,
        description: String::new(),
        effect,
        categories: BTreeSet::new(),
        reversible: false,
        measurable: true,
        idempotent: false,
        arguments: Arguments::parse(arguments).unwrap().schema().clone(),
        result: None,
        rates: Vec::new(),
        rows_max: 1_000,
    }
}

/// `read` and `query` on production, `update` on staging, `refund` over HTTP, `foreign` in another account.
pub(crate) fn tools() -> Vec<Arc<ToolSpec>> {
    let production = || system("billing", "postgres", "production", "acme");
    let mut refund = tool(
        "refund",
        DeclaredEffect::Write,
        system("payments", "http", "production", "acme"),
        &json!({
            "charge": { "type": "string" },
            "amount": { "type": "integer", "minimum": 1 },
            "share": { "type": "number", "optional": true },
        }),
    );
    refund.categories.insert("money".into());
    [
        tool("read", DeclaredEffect::Read, production(), &json!({ "id": { "type": "integer" } })),
        tool("query", DeclaredEffect::FromStatement, production(), &json!({ "sql": { "type": "string" } })),
        tool("delete", DeclaredEffect::Destructive, production(), &json!({ "before": { "type": "string" } })),
        tool(
            "update",
            DeclaredEffect::Write,
            system("stage", "sqlite", "staging", "acme"),
            &json!({ "note": { "type": "string" } }),
        ),
        refund,
        tool("foreign", DeclaredEffect::Read, system("other", "sqlite", "production", "emca"), &json!({})),
    ]
    .map(Arc::new)
    .into()
}

pub(crate) fn agents() -> Vec<AgentSpec> {
    [("bot", "finance", "acme"), ("intern", "finance", "acme"), ("outsider", "sales", "emca")]
        .map(|(id, team, account)| AgentSpec {
            id: AgentId::parse(id).unwrap(),
            teams: BTreeSet::from([TeamName::parse(team).unwrap()]),
            accounts: BTreeSet::from([account.into()]),
        })
        .into()
}

pub(crate) fn user(text: &str) -> Vec<PolicySource> {
    vec![PolicySource::user("mine", text)]
}

/// The floor and these policies.
pub(crate) fn policies(text: &str) -> Policies {
    Policies::load(&user(text), &tools(), &agents()).unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) fn default_pack() -> Policies {
    Policies::load(&[PolicySource::default_pack()], &tools(), &agents()).unwrap_or_else(|e| panic!("{e}"))
}

/// Remembers everything, and counts how often it was of use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    kept: BTreeMap<DecisionKey, Arc<Verdict>>,
    recalled: usize,
}

impl Notes {
    pub(crate) fn kept(&self) -> usize {
        self.0.lock().unwrap().kept.len()
    }

    pub(crate) fn recalled(&self) -> usize {
        self.0.lock().unwrap().recalled
    }
}

impl Memory for Notes {
    fn recall(&self, key: &DecisionKey) -> Option<Arc<Verdict>> {
        let mut noted = self.0.lock().unwrap();
        let found = noted.kept.get(key).cloned();
        noted.recalled = noted.recalled.saturating_add(usize::from(found.is_some()));
        found
    }

    fn keep(&self, key: DecisionKey, verdict: Arc<Verdict>) {
        assert!(self.0.lock().unwrap().kept.insert(key, verdict).is_none());
    }
}

pub(crate) fn requester(agent: &str) -> Requester {
    Requester {
        agent: AgentId::parse(agent).unwrap(),
        teams: vec![TeamName::parse("finance").unwrap()],
        session: SessionId::parse("s1").unwrap(),
        on_behalf_of: None,
    }
}

pub(crate) fn call(tool: &str, arguments: Value) -> Call<()> {
    let tool = tools().into_iter().find(|t| t.name.as_str() == tool).unwrap();
    Call {
        id: CallId::parse("c1").unwrap(),
        requester: requester("bot"),
        // What has no canonical form has no digest. The gate refuses it; the rules must not let it by either.
        digest: CallDigest::compute(&tool.name, &tool.version, &arguments)
            .unwrap_or(CallDigest::from_bytes([0; 32])),
        tool,
        arguments,
        reason: None,
        key: None,
        replaces: None,
        again: None,
        trace: None,
        narrowed: None,
        parsed: (),
    }
}

pub(crate) fn facts(effect: Effect) -> Facts {
    Facts {
        effect,
        categories: BTreeSet::new(),
        reversible: false,
        reach: None,
        statement: None,
        session: Counters::default(),
        agent_today: Counters::default(),
        provenance: BTreeSet::new(),
        now_ms: NOW_MS,
        approval: None,
    }
}

pub(crate) fn reach(rows: u64) -> Reach {
    Reach {
        rows,
        exact: true,
        tables: [(String::from("invoice"), rows)].into_iter().collect(),
        ..Reach::default()
    }
}

/// An approval by people, each in one group, for a reach.
pub(crate) fn approval(signers: &[(&str, &str)], reach: Option<Reach>) -> ApprovalFact {
    ApprovalFact {
        id: ApprovalId::parse("apr-1").unwrap(),
        signers: signers
            .iter()
            .map(|(person, group)| {
                (PersonId::parse(person).unwrap(), BTreeSet::from([GroupName::parse(group).unwrap()]))
            })
            .collect(),
        reach,
        expires_ms: NOW_MS + 1,
        grant: false,
        stepped_up: false,
    }
}
