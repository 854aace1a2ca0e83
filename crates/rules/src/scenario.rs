//! Scenarios: calls, facts and the answer they must get, as data that people write.
//!
//! The reader of the file is elsewhere; this is what it holds and how it is judged. A scenario may bring
//! its own tools, agents and policies, or be about those of the folder it lies in.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    sync::Arc,
    vec::Vec,
};

use countersign_audit::CanonicalError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Arguments, BadSchema, Call, CallDigest, Counters, Currency, Decision, DeclaredEffect, Effect, Facts,
    Money, Observed, Policies, PolicyErrors, PolicySource, Reach, Refusal, Requester, StatementFacts,
    SystemSpec, ToolSpec,
    agent::AgentSpec,
    arguments::without_nulls,
    decide::decide,
    explain::{FindingOutcome, explain},
    facts::ApprovalFact,
    id::{
        AgentId, ApprovalId, BadName, CallId, GroupName, PersonId, PolicyId, SessionId, SystemName, TeamName,
        ToolName, ToolVersion,
    },
};

/// This is the version of the format that this program reads.
pub const SCENARIO_VERSION: u32 = 1;

/// A scenario is one file with cases.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The file is written in this version of the format: [`SCENARIO_VERSION`].
    pub version: u32,
    /// The author says that the file is about this.
    #[serde(default)]
    pub description: Option<String>,
    /// The file brings these agents of its own, by id. Without any, its cases are about those of the folder.
    #[serde(default)]
    pub agent: BTreeMap<AgentId, AgentGiven>,
    /// The file brings these tools of its own, by name. Without any, its cases are about those of the folder.
    #[serde(default)]
    pub tool: BTreeMap<ToolName, ToolGiven>,
    /// These policies are added to those of the folder.
    #[serde(default)]
    pub policies: Option<String>,
    /// Each case is a call and the answer it must get.
    pub case: Vec<Case>,
}

/// This is given of an agent of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentGiven {
    /// The agent is in these teams.
    #[serde(default)]
    pub teams: BTreeSet<TeamName>,
    /// The accounts it may act in.
    #[serde(default)]
    pub accounts: BTreeSet<String>,
}

/// This is given of a tool of a scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolGiven {
    /// The tool acts on this system.
    pub system: SystemGiven,
    /// The author declares this effect.
    pub effect: DeclaredEffect,
    /// The author declares these categories.
    #[serde(default)]
    pub categories: BTreeSet<String>,
    /// This is true if what the tool does can be undone.
    #[serde(default)]
    pub reversible: bool,
    /// This is true if the reach of its calls can be measured.
    #[serde(default)]
    pub measurable: bool,
    /// The tool takes these arguments, written as in a tool file.
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

/// This is given of the system of a scenario's tool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemGiven {
    /// The system has this name.
    pub name: SystemName,
    /// The system is of this kind: `sqlite`, `postgres`, `http`, `mcp` or `exec`.
    pub kind: String,
    /// The system is of this environment, such as `production`.
    pub environment: String,
    /// The system belongs to this account.
    pub account: String,
}

/// One call and the answer it must get.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The case shows this. No two cases of a file have the same name.
    pub name: String,
    /// This agent calls.
    pub agent: AgentId,
    /// The agent acts for this person. It is as the folder says, if not said.
    #[serde(default)]
    pub on_behalf_of: Option<PersonId>,
    /// The call is one of this tool.
    pub tool: ToolName,
    /// The call has these arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// These facts are known. What is not said is as quiet as can be.
    #[serde(default)]
    pub facts: FactsGiven,
    /// The rules must answer so.
    pub expect: Expected,
}

/// A call to be explained: a case without an expected answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// This agent calls.
    pub agent: AgentId,
    /// The agent acts for this person. It is as the folder says, if not said.
    #[serde(default)]
    pub on_behalf_of: Option<PersonId>,
    /// The call is one of this tool.
    pub tool: ToolName,
    /// The call has these arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// These facts are known. What is not said is as quiet as can be.
    #[serde(default)]
    pub facts: FactsGiven,
}

/// These facts are known about a case's call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FactsGiven {
    /// The call has this effect. It is the least that the tool declares, if not said.
    pub effect: Option<Effect>,
    /// The call is seen to be of these categories, beside the declared ones.
    pub categories: BTreeSet<String>,
    /// This is true if the call can be undone. If not said, it is as the tool declares.
    pub reversible: Option<bool>,
    /// The call would touch this.
    pub reach: Option<ReachGiven>,
    /// The statement of the call does this.
    pub statement: Option<StatementGiven>,
    /// The session did so much so far.
    pub session: CountersGiven,
    /// The agent did so much in the current UTC day.
    pub agent_today: CountersGiven,
    /// The call is made at this time, in Unix milliseconds UTC; in 1970 if not said.
    pub now_ms: i64,
    /// The call has this approval.
    pub approval: Option<ApprovalGiven>,
}

/// A reach, exact if not said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReachGiven {
    /// The call touches so many rows in all.
    pub rows: u64,
    /// This is true if that is the very number, and not a bound. It is, if not said.
    #[serde(default = "yes")]
    pub exact: bool,
    /// This is true if there may be more rows than that.
    #[serde(default)]
    pub unbounded: bool,
    /// The call touches so many rows in each table.
    #[serde(default)]
    pub tables: BTreeMap<String, u64>,
    /// So many of the rows are touched by cascades.
    #[serde(default)]
    pub cascades: u64,
    /// These triggers run along.
    #[serde(default)]
    pub triggers: Vec<String>,
    /// The call moves this much money.
    #[serde(default)]
    pub amount: Option<AmountGiven>,
}

/// This is given of an amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmountGiven {
    /// The amount is in this currency.
    pub currency: Currency,
    /// The amount is so many minor units, such as cents.
    pub minor: u64,
}

const fn yes() -> bool {
    true
}

/// A statement does this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatementGiven {
    /// The statement is of this verb: `select`, `delete`, …
    pub verb: String,
    /// The statement reads these tables.
    pub reads: BTreeSet<String>,
    /// The statement writes these tables.
    pub writes: BTreeSet<String>,
    /// The statement calls these functions.
    pub functions: BTreeSet<String>,
    /// This is true if a predicate bounds what is written.
    pub bounded: bool,
}

/// Sums over what was done, 0 if not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CountersGiven {
    /// So many calls were made.
    pub calls: u64,
    /// So many calls were writes or destructive.
    pub writes: u64,
    /// So many calls were destructive.
    pub destructive: u64,
    /// So many rows were touched.
    pub rows: u64,
    /// So much money was moved, in minor units by currency.
    pub money: BTreeMap<Currency, u64>,
    /// These tools were used.
    pub tools: BTreeSet<ToolName>,
}

/// An approval of a case's call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalGiven {
    /// These people approved, each with the groups they are in.
    pub signers: BTreeMap<PersonId, BTreeSet<GroupName>>,
    /// They were shown this reach.
    #[serde(default)]
    pub reach: Option<ReachGiven>,
    /// The approval expires at this time, in Unix milliseconds UTC; never, if not said.
    #[serde(default)]
    pub expires_ms: Option<i64>,
    /// Each of them confirmed that with a passkey.
    #[serde(default)]
    pub stepped_up: bool,
}

/// The answer that a case must get. What is not said is not compared.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The answer must be this: `allow`, `ask` or `deny`.
    pub answer: ExpectedAnswer,
    /// Exactly these policies must decide, in any order.
    #[serde(default)]
    pub policies: Option<BTreeSet<PolicyId>>,
    /// Exactly these groups must be asked, with so many people of each.
    #[serde(default)]
    pub groups: Option<BTreeMap<GroupName, u32>>,
    /// This must be part of what is said about why.
    #[serde(default)]
    pub because: Option<String>,
    /// The call may touch so many rows at most.
    #[serde(default)]
    pub rows_max: Option<u64>,
}

/// This is one of the three answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpectedAnswer {
    /// The call may run.
    Allow,
    /// People must approve the call.
    Ask,
    /// The call must not run.
    Deny,
}

impl ExpectedAnswer {
    /// Returns the word, as in [`Decision::as_str`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// An observer sees what a call does, as the gate would: the tools themselves.
pub trait Observer: core::fmt::Debug {
    /// Tells what a call is seen to do; `None` for a tool that nobody here knows, such as one of a scenario's own.
    fn observe(&self, tool: &ToolName, arguments: &Value) -> Option<Result<Observed, Refusal>>;

    /// Tells what is known beforehand of what a call moves; `None` for a tool that nobody here knows.
    fn foretell(&self, tool: &ToolName, arguments: &Value) -> Option<Result<Foretold, Refusal>>;

    /// Returns the person that an agent acts for, if it does; `None` for an agent that nobody here knows.
    fn acts_for(&self, agent: &AgentId) -> Option<Option<PersonId>>;

    /// The groups that a person is in, and none for one who is nobody here; `None` where people are not known at all.
    fn groups(&self, person: &PersonId) -> Option<BTreeSet<GroupName>>;
}

/// This much of a call's reach is known from its arguments and its tool's definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foretold {
    /// The call touches so many rows or objects, where that is the same for each call or stands in its arguments.
    pub rows: Option<u64>,
    /// The call moves this money, as far as that is known.
    pub amount: Amount,
}

/// One of these tells how much money a call moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Nobody tells: the tool declares none.
    Untold,
    /// The call itself tells, by its arguments.
    Told(Money),
    /// The system of the call tells, when it is asked before; with the currency where that is known already.
    Asked(Option<Currency>),
}

/// Nobody looks: for scenarios that bring tools of their own.
impl Observer for () {
    fn observe(&self, _tool: &ToolName, _arguments: &Value) -> Option<Result<Observed, Refusal>> {
        None
    }

    fn foretell(&self, _tool: &ToolName, _arguments: &Value) -> Option<Result<Foretold, Refusal>> {
        None
    }

    fn acts_for(&self, _agent: &AgentId) -> Option<Option<PersonId>> {
        None
    }

    fn groups(&self, _person: &PersonId) -> Option<BTreeSet<GroupName>> {
        None
    }
}

/// The folder that scenarios are judged with.
#[derive(Debug, Clone, Copy)]
pub struct Deployment<'a> {
    /// The tools of the folder see calls so.
    pub observer: &'a dyn Observer,
    /// The folder has these policy files.
    pub sources: &'a [PolicySource],
    /// The folder has these tools.
    pub tools: &'a [Arc<ToolSpec>],
    /// The folder has these agents.
    pub agents: &'a [AgentSpec],
}

/// A file of scenarios was judged so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ScenarioReport {
    /// This many cases were judged.
    pub cases: usize,
    /// The answer was not as expected in these places.
    pub mismatches: Vec<Mismatch>,
    /// These policies applied in some case.
    pub matched: BTreeSet<PolicyId>,
}

/// An answer that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The case has this name.
    pub case: String,
    /// This differs: `answer`, `policies`, `groups`, `because` or `rows_max`.
    pub field: &'static str,
    /// The scenario says this.
    pub expected: String,
    /// The rules say this.
    pub found: String,
}

/// A scenario cannot be judged for one of these reasons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadScenario {
    /// It is written in another version of the format.
    #[error("version {0} is not {SCENARIO_VERSION}")]
    Version(u32),
    /// It has no case.
    #[error("a scenario without a case shows nothing")]
    NoCase,
    /// A tool of its own has arguments that are no schema.
    #[error("tool `{tool}`: arguments: {why}")]
    Tool {
        /// The call is one of this tool.
        tool: ToolName,
        /// This is wrong with the schema of its arguments.
        why: BadSchema,
    },
    /// A name that is given to each of its own tools does not parse.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The policies, together with those of the folder, do not load for the scenario's tools and agents.
    #[error(transparent)]
    Policies(#[from] PolicyErrors),
    /// One of its cases does not fit.
    #[error("case `{case}`: {why}")]
    Case {
        /// The name of the case.
        case: String,
        /// This does not fit.
        why: BadCase,
    },
}

/// A case or a question is about no call that could be made, or says of it what is not so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCase {
    /// An earlier case has its name.
    #[error("two cases have this name")]
    Twice,
    /// There is no such tool.
    #[error("there is no tool `{0}`")]
    NoTool(ToolName),
    /// There is no such agent.
    #[error("there is no agent `{0}`")]
    NoAgent(AgentId),
    /// The tool refuses the arguments.
    #[error(transparent)]
    Arguments(#[from] Refusal),
    /// The tool's own schema does not compile.
    #[error(transparent)]
    Schema(#[from] BadSchema),
    /// A name that is given to each case does not parse.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The arguments have no canonical form, so that the call has no digest.
    #[error(transparent)]
    Digest(#[from] CanonicalError),
    /// It names another person than the folder does.
    #[error(
        "`on_behalf_of` says `{given}`, and agent `{agent}` acts for {}: leave it out",
        .known.as_ref().map_or_else(|| "nobody".into(), |person| format!("`{person}`"))
    )]
    OnBehalfOf {
        /// The person of the case.
        given: PersonId,
        /// The agent.
        agent: AgentId,
        /// The person that the agent acts for.
        known: Option<PersonId>,
    },
    /// It says an amount where no live call is known to have one.
    #[error(
        "`facts.reach.amount` says {amount}, and nothing tells what such a call of `{tool}` moves: leave it out"
    )]
    AmountOfNothing {
        /// The amount.
        amount: Money,
        /// The call is one of this tool.
        tool: ToolName,
    },
    /// It says other rows than each such call touches.
    #[error("`{at}.rows` says {said}, and such a call touches {rows}: leave it out")]
    Rows {
        /// The key with the reach.
        at: &'static str,
        /// The rows of the case.
        said: u64,
        /// The rows of the call.
        rows: u64,
    },
    /// It says an amount of a tool that declares none.
    #[error("`{at}.amount` says {said}, and tool `{tool}` tells no amount: leave it out")]
    AmountUntold {
        /// The key with the reach.
        at: &'static str,
        /// The amount of the case.
        said: Money,
        /// The call is one of this tool.
        tool: ToolName,
    },
    /// It says another amount than stands in the arguments.
    #[error("`{at}.amount` says {said}, and the call moves {told}: leave it out")]
    AmountTold {
        /// The key with the reach.
        at: &'static str,
        /// The amount of the case.
        said: Money,
        /// The amount of the call.
        told: Money,
    },
    /// It says an amount in another currency than the tool's.
    #[error(
        "`{at}.amount` says {said}, and tool `{tool}` moves {}",
        .currency.map(|known| known.to_string()).unwrap_or_default()
    )]
    Currency {
        /// The key with the reach.
        at: &'static str,
        /// The amount of the case.
        said: Money,
        /// The call is one of this tool.
        tool: ToolName,
        /// The currency of the tool, where it is always the same.
        currency: Option<Currency>,
    },
    /// It says no amount where a live call is never judged without one.
    #[error(
        "`{at}` has no `amount`, and a call of `{tool}` is never judged without what its system tells: say it"
    )]
    AmountUnsaid {
        /// The key with the reach.
        at: &'static str,
        /// The call is one of this tool.
        tool: ToolName,
    },
    /// It says another effect than the call is seen to have.
    #[error("`facts.effect` says `{said}`, and the call is seen to be `{seen}`: leave it out")]
    Effect {
        /// The effect of the case.
        said: Effect,
        /// The effect of the call.
        seen: Effect,
    },
    /// It says a category that the call is not seen to be of.
    #[error("`facts.categories` says `{0}`, and the call is not seen to be that: leave it out")]
    Category(String),
    /// It says otherwise than is seen whether the call can be undone.
    #[error("`facts.reversible` says otherwise than what is seen of the call, `{seen}`: leave it out")]
    Reversible {
        /// This is true if the call is seen to be reversible.
        seen: bool,
    },
    /// It says otherwise than is seen what the statement does.
    #[error("`facts.statement` says otherwise than what is seen of the statement: leave it out")]
    Statement,
    /// It has a person sign as a member of a group that the folder does not put them in.
    #[error("`facts.approval.signers` has `{person}` in group `{group}`, and the folder has not")]
    Signer {
        /// The person.
        person: PersonId,
        /// The group.
        group: GroupName,
    },
}

impl Scenario {
    /// Judges every case.
    ///
    /// # Errors
    /// Returns [`BadScenario`] when it does not fit: version, tools, policies, arguments.
    pub fn check(&self, deployment: &Deployment<'_>) -> Result<ScenarioReport, BadScenario> {
        if self.version != SCENARIO_VERSION {
            return Err(BadScenario::Version(self.version));
        }
        if self.case.is_empty() {
            return Err(BadScenario::NoCase);
        }
        let tools = self.tools(deployment)?;
        let agents = self.agents(deployment);
        let mut sources = deployment.sources.to_vec();
        sources.extend(self.policies.as_ref().map(|text| PolicySource::user("scenario", text)));
        let policies = Policies::load(&sources, &tools, &agents)?;
        // A scenario's own tools are nothing but what it says of them.
        let observer: &dyn Observer = if self.tool.is_empty() { deployment.observer } else { &() };
        let mut report = ScenarioReport::default();
        let mut names = BTreeSet::new();
        for case in &self.case {
            let bad = |why: BadCase| BadScenario::Case { case: case.name.clone(), why };
            if !names.insert(&case.name) {
                return Err(bad(BadCase::Twice));
            }
            let (call, facts) = case.question().call(&tools, &agents, observer).map_err(bad)?;
            let decision = decide(&call, &facts, &policies);
            case.expect.compare(&case.name, &decision, &mut report.mismatches);
            let findings = explain(&call, &facts, &policies).policies.into_iter();
            let matched = findings.filter(|f| f.outcome == FindingOutcome::Matched);
            report.matched.extend(matched.map(|f| f.policy));
            report.cases = report.cases.saturating_add(1);
        }
        Ok(report)
    }

    /// The tools that its cases are about.
    ///
    /// # Errors
    /// Returns [`BadScenario::Tool`] when a tool of its own has arguments that are no schema.
    pub fn tools(&self, deployment: &Deployment<'_>) -> Result<Vec<Arc<ToolSpec>>, BadScenario> {
        if self.tool.is_empty() {
            return Ok(deployment.tools.to_vec());
        }
        self.tool.iter().map(|(name, tool)| tool.spec(name).map(Arc::new)).collect()
    }

    /// The agents that its cases are about.
    #[must_use]
    pub fn agents(&self, deployment: &Deployment<'_>) -> Vec<AgentSpec> {
        if self.agent.is_empty() {
            return deployment.agents.to_vec();
        }
        let given = self.agent.iter();
        given
            .map(|(id, a)| AgentSpec { id: id.clone(), teams: a.teams.clone(), accounts: a.accounts.clone() })
            .collect()
    }
}

impl ToolGiven {
    fn spec(&self, name: &ToolName) -> Result<ToolSpec, BadScenario> {
        let written = Value::Object(self.arguments.clone());
        let arguments =
            Arguments::parse(&written).map_err(|why| BadScenario::Tool { tool: name.clone(), why })?;
        Ok(ToolSpec {
            name: name.clone(),
            version: ToolVersion::parse("scenario")?,
            system: SystemSpec {
                name: self.system.name.clone(),
                kind: self.system.kind.clone(),
                environment: self.system.environment.clone(),
                account: self.system.account.clone(),
            },
            description: String::new(),
            effect: self.effect,
            categories: self.categories.clone(),
            reversible: self.reversible,
            measurable: self.measurable,
            idempotent: false,
            arguments: arguments.schema().clone(),
            result: None,
            rates: Vec::new(),
            rows_max: u64::MAX,
        })
    }
}

impl Case {
    /// Returns the case without its expected answer.
    #[must_use]
    pub fn question(&self) -> Question {
        Question {
            agent: self.agent.clone(),
            on_behalf_of: self.on_behalf_of.clone(),
            tool: self.tool.clone(),
            arguments: self.arguments.clone(),
            facts: self.facts.clone(),
        }
    }
}

impl Question {
    /// The call and facts that are meant.
    ///
    /// # Errors
    /// Returns [`BadCase`] when an agent or tool is not configured, when the tool refuses the arguments, and when facts are given
    /// otherwise than a live call would have them.
    pub fn call(
        &self,
        tools: &[Arc<ToolSpec>],
        agents: &[AgentSpec],
        observer: &dyn Observer,
    ) -> Result<(Call<()>, Facts), BadCase> {
        let tool = tools.iter().find(|t| t.name == self.tool);
        let tool = tool.ok_or_else(|| BadCase::NoTool(self.tool.clone()))?;
        let agent = agents.iter().find(|a| a.id == self.agent);
        let agent = agent.ok_or_else(|| BadCase::NoAgent(self.agent.clone()))?;
        let arguments = without_nulls(&tool.arguments, Value::Object(self.arguments.clone()));
        let observed = observer.observe(&tool.name, &arguments).transpose()?;
        let foretold = observer.foretell(&tool.name, &arguments).transpose()?;
        Arguments::parse(&tool.arguments)?.check(&arguments)?;
        let on_behalf_of = self.acts_for(observer)?;
        if let Some(approval) = &self.facts.approval {
            approval.agrees(observer)?;
        }
        let call = Call {
            id: CallId::parse("scenario")?,
            requester: Requester {
                agent: self.agent.clone(),
                teams: agent.teams.iter().cloned().collect(),
                session: SessionId::parse("scenario")?,
                on_behalf_of,
            },
            tool: tool.clone(),
            digest: CallDigest::compute(&tool.name, &tool.version, &arguments)?,
            arguments,
            reason: None,
            key: None,
            replaces: None,
            again: None,
            trace: None,
            narrowed: None,
            parsed: (),
        };
        let mut facts = self.facts.facts(tool, observed.as_ref())?;
        if let Some(foretold) = foretold {
            foretold.complete(&mut facts, tool)?;
        }
        Ok((call, facts))
    }

    /// Whom the agent acts for: as the folder says, which the case may repeat.
    fn acts_for(&self, observer: &dyn Observer) -> Result<Option<PersonId>, BadCase> {
        let Some(known) = observer.acts_for(&self.agent) else { return Ok(self.on_behalf_of.clone()) };
        match &self.on_behalf_of {
            Some(given) if known.as_ref() != Some(given) => {
                Err(BadCase::OnBehalfOf { given: given.clone(), agent: self.agent.clone(), known })
            }
            Some(_) | None => Ok(known),
        }
    }
}

impl Foretold {
    /// Makes the reach what that of a live call would be, and refuses one that a live call never has.
    fn complete(self, facts: &mut Facts, tool: &ToolSpec) -> Result<(), BadCase> {
        if facts.effect < Effect::Write || !tool.measurable {
            return match facts.reach.as_ref().and_then(|reach| reach.amount) {
                Some(amount) => Err(BadCase::AmountOfNothing { amount, tool: tool.name.clone() }),
                None => Ok(()),
            };
        }
        if facts.reach.is_none()
            && let (Some(rows), Amount::Told(_)) = (self.rows, self.amount)
        {
            facts.reach = Some(Reach { rows, exact: true, ..Reach::default() });
        }
        let shown = facts.approval.as_mut().and_then(|approval| approval.reach.as_mut());
        for (at, reach) in [("facts.reach", facts.reach.as_mut()), ("facts.approval.reach", shown)] {
            let Some(reach) = reach else { continue };
            if let Some(rows) = self.rows.filter(|rows| *rows != reach.rows) {
                return Err(BadCase::Rows { at, said: reach.rows, rows });
            }
            reach.amount = self.amount(at, reach.amount, tool)?;
        }
        // People are shown what was measured.
        if let Some(approval) = facts.approval.as_mut()
            && approval.reach.is_none()
        {
            approval.reach.clone_from(&facts.reach);
        }
        Ok(())
    }

    fn amount(
        self,
        at: &'static str,
        given: Option<Money>,
        tool: &ToolSpec,
    ) -> Result<Option<Money>, BadCase> {
        let tool = tool.name.clone();
        match (self.amount, given) {
            (Amount::Untold, None) => Ok(None),
            (Amount::Told(told), None) => Ok(Some(told)),
            (Amount::Told(told), Some(said)) if told == said => Ok(given),
            (Amount::Asked(currency), Some(said)) if currency.is_none_or(|known| known == said.currency) => {
                Ok(given)
            }
            (Amount::Untold, Some(said)) => Err(BadCase::AmountUntold { at, said, tool }),
            (Amount::Told(told), Some(said)) => Err(BadCase::AmountTold { at, said, told }),
            (Amount::Asked(currency), Some(said)) => Err(BadCase::Currency { at, said, tool, currency }),
            (Amount::Asked(_), None) => Err(BadCase::AmountUnsaid { at, tool }),
        }
    }
}

impl FactsGiven {
    /// Puts what is given over what the tool declares and the call is seen to be. What can be seen cannot be given
    /// otherwise: a call would not be judged so.
    fn facts(&self, tool: &ToolSpec, observed: Option<&Observed>) -> Result<Facts, BadCase> {
        let given = self.statement.as_ref().map(StatementGiven::facts);
        let seen = match observed {
            Some(observed) => {
                self.agrees(observed, given.as_ref())?;
                observed.clone()
            }
            None => Observed {
                effect: self.effect.unwrap_or_else(|| tool.effect.floor()),
                categories: self.categories.union(&tool.categories).cloned().collect(),
                statement: given,
                reversible: self.reversible.unwrap_or(tool.reversible),
            },
        };
        Ok(Facts {
            effect: seen.effect,
            categories: seen.categories,
            reversible: seen.reversible,
            reach: self.reach.as_ref().map(ReachGiven::reach),
            statement: seen.statement,
            session: self.session.counters(),
            agent_today: self.agent_today.counters(),
            provenance: BTreeSet::new(),
            now_ms: self.now_ms,
            approval: self.approval.as_ref().map(ApprovalGiven::fact).transpose()?,
        })
    }

    fn agrees(&self, observed: &Observed, statement: Option<&StatementFacts>) -> Result<(), BadCase> {
        if let Some(said) = self.effect.filter(|effect| *effect != observed.effect) {
            return Err(BadCase::Effect { said, seen: observed.effect });
        }
        if let Some(other) = self.categories.difference(&observed.categories).next() {
            return Err(BadCase::Category(other.clone()));
        }
        if self.reversible.is_some_and(|reversible| reversible != observed.reversible) {
            return Err(BadCase::Reversible { seen: observed.reversible });
        }
        if statement.is_some_and(|given| observed.statement.as_ref() != Some(given)) {
            return Err(BadCase::Statement);
        }
        Ok(())
    }
}

impl StatementGiven {
    fn facts(&self) -> StatementFacts {
        StatementFacts {
            verb: self.verb.clone(),
            reads: self.reads.clone(),
            writes: self.writes.clone(),
            functions: self.functions.clone(),
            bounded: self.bounded,
        }
    }
}

impl ReachGiven {
    fn reach(&self) -> Reach {
        Reach {
            rehearsed: false,
            rows: self.rows,
            exact: self.exact,
            unbounded: self.unbounded,
            tables: self.tables.clone(),
            cascades: self.cascades,
            triggers: self.triggers.clone(),
            amount: self.amount.map(|a| Money { currency: a.currency, minor: a.minor }),
        }
    }
}

impl CountersGiven {
    fn counters(&self) -> Counters {
        Counters {
            calls: self.calls,
            writes: self.writes,
            destructive: self.destructive,
            rows: self.rows,
            money: self.money.clone(),
            tools: self.tools.clone(),
        }
    }
}

impl ApprovalGiven {
    /// Checks that those who sign are people of the folder, in the groups that they are said to be in.
    fn agrees(&self, observer: &dyn Observer) -> Result<(), BadCase> {
        for (person, groups) in &self.signers {
            let Some(known) = observer.groups(person) else { continue };
            if let Some(group) = groups.difference(&known).next() {
                return Err(BadCase::Signer { person: person.clone(), group: group.clone() });
            }
        }
        Ok(())
    }

    fn fact(&self) -> Result<ApprovalFact, BadName> {
        Ok(ApprovalFact {
            id: ApprovalId::parse("scenario")?,
            signers: self.signers.iter().map(|(p, g)| (p.clone(), g.clone())).collect(),
            reach: self.reach.as_ref().map(ReachGiven::reach),
            expires_ms: self.expires_ms.unwrap_or(i64::MAX),
            grant: false,
            stepped_up: self.stepped_up,
        })
    }
}

impl Expected {
    fn compare(&self, case: &str, decision: &Decision, mismatches: &mut Vec<Mismatch>) {
        let mut differs = |field: &'static str, expected: String, found: String| {
            if expected != found {
                mismatches.push(Mismatch { case: case.into(), field, expected, found });
            }
        };
        let (policies, because) = match decision {
            Decision::Allow(allow) => (&allow.policies, String::new()),
            Decision::Ask(ask) => {
                let said = ask.of.iter().filter_map(|of| of.because.clone()).collect::<Vec<_>>();
                (&ask.policies, said.join("; "))
            }
            Decision::Deny(deny) => (&deny.policies, deny.reason.to_string()),
        };
        let found = match &because {
            empty if empty.is_empty() => decision.as_str().to_string(),
            said => format!("{} ({said})", decision.as_str()),
        };
        if self.answer.as_str() != decision.as_str() {
            differs("answer", self.answer.as_str().into(), found);
            return;
        }
        if let Some(expected) = &self.policies {
            differs("policies", list(expected), list(&policies.iter().cloned().collect()));
        }
        if let Some(expected) = &self.groups {
            let found: BTreeMap<GroupName, u32> = match decision {
                Decision::Ask(ask) => ask.of.iter().map(|of| (of.group.clone(), of.quorum)).collect(),
                Decision::Allow(_) | Decision::Deny(_) => BTreeMap::new(),
            };
            differs("groups", people(expected), people(&found));
        }
        if let Some(expected) = &self.because
            && !because.contains(expected.as_str())
        {
            differs("because", expected.clone(), because);
        }
        if let Some(expected) = self.rows_max {
            let found = match decision {
                Decision::Allow(allow) => allow.rows_max,
                Decision::Ask(_) | Decision::Deny(_) => None,
            };
            differs("rows_max", expected.to_string(), found.map_or_else(|| "none".into(), |n| n.to_string()));
        }
    }
}

/// `1 of dba, 2 of ops`.
fn people(groups: &BTreeMap<GroupName, u32>) -> String {
    if groups.is_empty() {
        return "nobody".into();
    }
    groups.iter().map(|(group, number)| format!("{number} of {group}")).collect::<Vec<_>>().join(", ")
}

fn list(ids: &BTreeSet<PolicyId>) -> String {
    ids.iter().map(PolicyId::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
