//! The gate: from a proposed call to its answer, along one path.
//!
//! Every front door, the worker that performs granted calls, and undo end up in [`Gate::drive`]. There is
//! no second place from which a tool acts.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError, RwLock},
};

use countersign_rules::{
    AgentId, Allow, ApprovalFact, ApprovalId, ApprovalRequest, ApprovalState, Ask, BundleDigest, Call,
    CallDigest, CallId, Code, Decision, DecisionId, Deny, DenyReason, Effect, Facts, GroupName, PersonId,
    RawCall, Reach, Refusal, Requester, Signature, StatementFacts, StoredCall, SystemName, ToolSpec,
    approval::AnswerRefusal,
    arguments::split_reason,
    budget::{Budget, HoldRequest, Unit},
    decide,
    policy::Policies,
    rate::RateScope,
};
use futures::FutureExt as _;
use serde_json::Value;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{
    answer::{Answer, Done, Pending, Refused},
    clock::{BadId, Clock, Entropy, approval_id, call_id, decision_id},
    entry::Entry,
    ledger::{
        ApprovalRecord, CallOutcome, CallRecord, CallState, Closing, HaltRecord, HaltScope, Intent, Issued,
        Ledger, LedgerFault, NotAnswered, NotIssued, Parking, Settlement, Standing, Wait,
    },
    tool::{Evidence, MeasureError, Performed, Recalled, Tool, ToolError},
    vault::Upkeep,
    warrant::{Limits, Permitted, Probe, Warrant},
};

/// Longest canonical arguments of a call, in bytes: they stand in one log entry.
pub const ARGUMENTS_BYTES_MAX: usize = 32 * 1024;

/// How often a call is decided again because its session's history moved meanwhile, before it is refused.
const DECISIONS_MAX: u32 = 64;

/// How often recording an outcome is tried again before the call is left in doubt.
const CLOSE_TRIES: u32 = 5;

/// The first pause between these tries, doubled each time.
const CLOSE_PAUSE: std::time::Duration = std::time::Duration::from_millis(25);

/// What the gate enforces beside the policies.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Budgets that calls are charged to.
    pub budgets: Vec<Budget>,
    /// How long a granted approval stays good after its last signature, in milliseconds.
    pub grant_ms: u64,
}

/// The one path from a call to an effect.
pub struct Gate<L> {
    ledger: Arc<L>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    policies: RwLock<Arc<Policies>>,
    settings: Settings,
    under_way: TaskTracker,
}

impl<L> std::fmt::Debug for Gate<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

/// What a call was seen to be, beside its parsed arguments.
struct Seen {
    effect: Effect,
    categories: std::collections::BTreeSet<String>,
    statement: Option<StatementFacts>,
    reversible: bool,
}

/// How a round along the path ended.
enum Round<A> {
    /// There is an answer.
    Answer(Answer),
    /// Decide again: the session's history moved.
    Again(Call<A>),
    /// It exceeded its warrant and was rolled back: decide again with the reach that was seen.
    Exceeded(Call<A>, Reach),
}

impl<L: Ledger> Gate<L> {
    /// A gate over a ledger.
    pub fn new(
        ledger: Arc<L>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        policies: Arc<Policies>,
        settings: Settings,
    ) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            clock,
            entropy,
            policies: RwLock::new(policies),
            settings,
            under_way: TaskTracker::new(),
        })
    }

    /// The ledger behind the gate, to read from.
    pub fn ledger(&self) -> &Arc<L> {
        &self.ledger
    }

    /// The policies in force.
    pub fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other policies in force, from the next decision on.
    pub fn replace_policies(&self, policies: Arc<Policies>) {
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = policies;
    }

    /// Authority to look after the connection to a tool's system.
    #[must_use]
    pub fn upkeep(&self, spec: &ToolSpec) -> Upkeep {
        Upkeep::new(spec.system.name.clone())
    }

    /// Authority to look at what a system offers before there is a tool on it.
    #[must_use]
    pub fn review(&self, system: &SystemName) -> Upkeep {
        Upkeep::new(system.clone())
    }

    /// Takes no new calls; those under way go on. See [`Gate::idle`].
    pub fn close(&self) {
        self.under_way.close();
    }

    /// Resolves when the gate is closed and no call is under way.
    pub async fn idle(&self) {
        self.under_way.wait().await;
    }

    /// How many calls are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Opens a session.
    ///
    /// # Errors
    /// [`LedgerFault`]: without a record there is no session.
    pub async fn open_session(
        &self,
        requester: &Requester,
        front_door: &str,
        client: Option<&str>,
    ) -> Result<(), LedgerFault> {
        let entry = Entry::session_opened(self.clock.now_ms(), requester, front_door, client);
        self.ledger.open_session(requester, entry).await
    }

    /// Refuses a call to a tool that does not exist for this agent, and records that.
    pub async fn refuse_unknown(&self, requester: &Requester, tool: &str) -> Answer {
        let name: String = tool.chars().take(128).collect();
        let refusal =
            Refusal::new(Code::UnknownTool, format!("no tool `{name}` may be called by this agent"))
                .help("list the tools to see which may be called");
        self.reject(requester, tool, refusal).await
    }

    /// Proposes a call and takes it along the whole path. Dropping the returned future does not stop a call
    /// that is under way: its outcome is recorded all the same.
    pub async fn submit<T: Tool>(
        self: &Arc<Self>,
        tool: &Arc<T>,
        requester: &Requester,
        raw: RawCall,
    ) -> Answer {
        if self.under_way.is_closed() {
            return shutting_down();
        }
        let (gate, tool, requester) = (Arc::clone(self), Arc::clone(tool), requester.clone());
        let span = tracing::info_span!(
            "call",
            otel.name = format!("execute_tool {}", tool.spec().name),
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = %tool.spec().name,
            gen_ai.agent.id = %requester.agent,
            gen_ai.conversation.id = %requester.session,
            gen_ai.tool.call.id = tracing::field::Empty,
            countersign.status = tracing::field::Empty,
        );
        let task = async move { gate.propose(&*tool, requester, raw).await };
        match self.under_way.spawn(task.instrument(span)).await {
            Ok(answer) => answer,
            Err(_) => internal("the call failed inside the gate"),
        }
    }

    /// Performs a call whose request people have granted. The stored call is parsed and decided again.
    pub async fn perform_granted<T: Tool>(self: &Arc<Self>, tool: &Arc<T>, record: ApprovalRecord) -> Answer {
        if self.under_way.is_closed() {
            return shutting_down();
        }
        let (gate, tool) = (Arc::clone(self), Arc::clone(tool));
        let span = tracing::info_span!(
            "call",
            otel.name = format!("execute_tool {}", tool.spec().name),
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = %tool.spec().name,
            gen_ai.agent.id = %record.request.call.requester.agent,
            gen_ai.conversation.id = %record.request.call.requester.session,
            gen_ai.tool.call.id = %record.request.call.id,
            countersign.approval = %record.request.id,
            countersign.status = tracing::field::Empty,
        );
        let task = async move { gate.grant(&*tool, record).await };
        match self.under_way.spawn(task.instrument(span)).await {
            Ok(answer) => answer,
            Err(_) => internal("the call failed inside the gate"),
        }
    }

    async fn propose<T: Tool>(&self, tool: &T, requester: Requester, raw: RawCall) -> Answer {
        let (call, seen) = match self.parse(tool, &requester, raw.arguments) {
            Ok(parsed) => parsed,
            Err(refusal) => return self.reject(&requester, &raw.tool, refusal).await,
        };
        tracing::Span::current().record("gen_ai.tool.call.id", call.id.as_str());
        let answer = self.drive(tool, call, &seen, None).await;
        tracing::Span::current().record("countersign.status", answer.status());
        answer
    }

    /// Parses arguments into a call: form only, no facts.
    fn parse<T: Tool>(
        &self,
        tool: &T,
        requester: &Requester,
        arguments: Value,
    ) -> Result<(Call<T::Args>, Seen), Refusal> {
        let spec = tool.spec();
        let (arguments, reason) = split_reason(arguments)?;
        let size = countersign_audit::to_canonical_vec(&arguments)
            .map_err(|why| Refusal::new(Code::InvalidArguments, why.to_string()))?
            .len();
        if size > ARGUMENTS_BYTES_MAX {
            let message = format!("the arguments have {size} bytes, more than {ARGUMENTS_BYTES_MAX}");
            return Err(Refusal::new(Code::InvalidArguments, message).help("send less in one call"));
        }
        let parsed = tool.parse(&arguments)?;
        if parsed.effect > spec.effect.ceiling() {
            let message = format!(
                "the call is seen to be `{}`, and tool `{}` is declared to be no more than `{}`",
                parsed.effect,
                spec.name,
                spec.effect.ceiling()
            );
            return Err(Refusal::new(Code::StatementRefused, message)
                .help("the tool's author must declare the effect that its calls have"));
        }
        let digest = CallDigest::compute(&spec.name, &spec.version, &arguments)
            .map_err(|why| Refusal::new(Code::InvalidArguments, why.to_string()))?;
        let id = call_id(self.clock.now_ms(), &*self.entropy).map_err(|why| bad_id(&why))?;
        let mut categories = spec.categories.clone();
        categories.extend(parsed.categories);
        let seen = Seen {
            effect: parsed.effect.max(spec.effect.floor()),
            categories,
            statement: parsed.statement,
            reversible: spec.reversible && parsed.reversible,
        };
        let call = Call {
            id,
            requester: requester.clone(),
            tool: Arc::clone(spec),
            arguments,
            digest,
            reason,
            parsed: parsed.args,
        };
        Ok((call, seen))
    }

    /// Takes a parsed call to its answer: facts, decision, and then refusal, request or effect.
    async fn drive<T: Tool>(
        &self,
        tool: &T,
        mut call: Call<T::Args>,
        seen: &Seen,
        mut granted: Option<&ApprovalRecord>,
    ) -> Answer {
        let mut exceeded: Option<Reach> = None;
        let mut proposed = granted.is_none();
        for _ in 0..DECISIONS_MAX {
            match self.round(tool, call, seen, granted, exceeded.as_ref(), proposed).await {
                Round::Answer(answer) => return answer,
                Round::Again(same) => call = same,
                Round::Exceeded(same, reach) if exceeded.is_none() => {
                    // The first warrant is closed and its approval superseded. The new decision is about a
                    // new call with the reach that was really seen.
                    let id = match call_id(self.clock.now_ms(), &*self.entropy) {
                        Ok(id) => id,
                        Err(why) => return refused(&same, None, bad_id(&why)),
                    };
                    call = Call { id, ..same };
                    exceeded = Some(reach);
                    granted = None;
                    proposed = true;
                }
                Round::Exceeded(same, reach) => {
                    let message = format!("the call reaches further than was allowed: {}", extent(&reach));
                    let refusal = Refusal::new(Code::ReachExceeded, message)
                        .help("what it touches grows while it is decided; narrow the call and try again");
                    return self.refuse(&same, granted, Vec::new(), refusal).await;
                }
            }
        }
        let refusal = Refusal::new(Code::RateLimited, "too many calls of this session are decided at once")
            .help("send fewer calls in parallel");
        self.refuse(&call, granted, Vec::new(), refusal).await
    }

    async fn round<T: Tool>(
        &self,
        tool: &T,
        call: Call<T::Args>,
        seen: &Seen,
        granted: Option<&ApprovalRecord>,
        exceeded: Option<&Reach>,
        proposed: bool,
    ) -> Round<T::Args> {
        let now_ms = self.clock.now_ms();
        let policies = self.policies();
        let standing = match self.ledger.standing(&call.requester, call.digest, now_ms).await {
            Ok(standing) => standing,
            Err(fault) => return Round::Answer(refused(&call, granted, unavailable(&fault))),
        };
        let mut entries = Vec::with_capacity(4);
        if proposed {
            entries.push(Entry::call_proposed(now_ms, &call));
        }
        if let Some(halt) = &standing.halted {
            return Round::Answer(self.refuse(&call, granted, entries, halted(halt)).await);
        }
        if granted.is_none()
            && exceeded.is_none()
            && let Some(answer) = self.known(&standing, &call.requester, policies.bundle(), now_ms).await
        {
            return Round::Answer(answer);
        }

        let mut facts = self.facts(seen, &standing, granted, now_ms);
        let id = match decision_id(now_ms, &*self.entropy) {
            Ok(id) => id,
            Err(why) => return Round::Answer(refused(&call, granted, bad_id(&why))),
        };
        // Cheapest first: what is refused whatever the reach is costs the system nothing. Where nothing can be
        // measured nothing is saved, and `decide` says the same.
        let measurable = call.tool.measurable;
        if measurable && let Some(deny) = policies.forbidden_early(&call, &facts) {
            let decision = Decision::Deny(deny);
            return Round::Answer(
                self.deny(&call, granted, entries, (&id, policies.bundle(), &facts, &decision)).await,
            );
        }
        let mut evidence = None;
        facts.reach = exceeded.cloned();
        let needed = measurable
            && seen.effect >= Effect::Write
            && (policies.reach_decides(&call, &facts) || self.charges_measured(&call.tool, seen.effect));
        if facts.reach.is_none() && needed {
            // Nor is a system asked to measure what is over its limits whatever it reaches.
            let counted = self.counted(&call, seen.effect, now_ms);
            if let Err(why) = self.room(&call, &counted, now_ms).await {
                return Round::Answer(self.not_issued(&call, granted, entries, why).await);
            }
            match self.measure(tool, &call, now_ms, &mut entries).await {
                Ok((reach, found)) => (facts.reach, evidence) = (reach, found),
                Err(refusal) => return Round::Answer(self.refuse(&call, granted, entries, refusal).await),
            }
        }
        let mut decision = decide(&call, &facts, &policies);
        if matches!(decision, Decision::Ask(_)) && facts.reach.is_none() && seen.effect >= Effect::Write {
            // The approver needs to see the reach even where no rule does.
            match self.measure(tool, &call, now_ms, &mut entries).await {
                Ok((Some(reach), found)) => {
                    facts.reach = Some(reach);
                    evidence = found;
                    decision = decide(&call, &facts, &policies);
                }
                Ok((None, _)) => {}
                Err(refusal) => return Round::Answer(self.refuse(&call, granted, entries, refusal).await),
            }
        }
        tracing::info!(
            decision = decision.as_str(),
            effect = %facts.effect,
            rows = facts.reach.as_ref().map(|r| r.rows),
            bundle = %policies.bundle(),
            "decided"
        );
        match decision {
            Decision::Deny(_) => Round::Answer(
                self.deny(&call, granted, entries, (&id, policies.bundle(), &facts, &decision)).await,
            ),
            Decision::Ask(ref ask) => {
                entries.push(Entry::decided(now_ms, &call, &id, policies.bundle(), &facts, &decision));
                Round::Answer(match granted {
                    // What was approved is not what would be done now.
                    Some(record) => {
                        self.superseded(record, "it would now reach further than was approved", entries).await
                    }
                    None => match self.room_to_ask(&call, &facts).await {
                        Ok(()) => {
                            self.park(&call, ask, (id, policies.bundle(), &facts), evidence, entries).await
                        }
                        Err(NoRoom::Limit(why)) => self.not_issued(&call, None, entries, why).await,
                        Err(NoRoom::Unmeasured(refusal)) => self.refuse(&call, None, entries, refusal).await,
                    },
                })
            }
            Decision::Allow(ref allow) => {
                entries.push(Entry::decided(now_ms, &call, &id, policies.bundle(), &facts, &decision));
                let limits = Limits::new(allow, &call.tool, seen.effect);
                let history = policies.uses_history(&call.tool.name).then_some(standing.history);
                let permitted = Permitted { call, decision: id, limits };
                self.act(tool, permitted, &facts, granted, history, entries).await
            }
        }
    }

    /// An answer that is known already: a retry of the same call finds the same request.
    async fn known(
        &self,
        standing: &Standing,
        requester: &Requester,
        bundle: &BundleDigest,
        now_ms: i64,
    ) -> Option<Answer> {
        let record = standing.request.as_ref()?;
        let overdue = record.request.expires_ms <= now_ms;
        match record.state {
            ApprovalState::Waiting if overdue => {
                self.expire_one(record).await;
                None
            }
            // Its approval would be good for nothing: people are asked under the policies that hold now.
            ApprovalState::Waiting if record.request.bundle != *bundle => {
                self.superseded(record, "the policies have changed since it was asked", Vec::new()).await;
                None
            }
            ApprovalState::Waiting | ApprovalState::Approved | ApprovalState::Executing => {
                Some(pending(record))
            }
            // A refusal stays one until the request would have expired: asking again is not a way around.
            ApprovalState::Refused if !overdue => Some(self.settled(record).await),
            ApprovalState::Refused
            | ApprovalState::Expired
            | ApprovalState::Superseded
            | ApprovalState::Done
            | ApprovalState::Failed
            | ApprovalState::InDoubt
            | ApprovalState::Blocked => {
                // What came of another connection's call is news for a retry, and not for a call that happens
                // to be equal long after.
                let elsewhere = record.request.call.requester.session != requester.session;
                if record.delivered || (elsewhere && overdue) {
                    return None;
                }
                let answer = self.settled(record).await;
                match self.ledger.deliver(&record.request.id).await {
                    Ok(()) => Some(answer),
                    Err(fault) => Some(refused_request(record, unavailable(&fault))),
                }
            }
        }
    }

    fn facts(
        &self,
        seen: &Seen,
        standing: &Standing,
        granted: Option<&ApprovalRecord>,
        now_ms: i64,
    ) -> Facts {
        Facts {
            effect: seen.effect,
            categories: seen.categories.clone(),
            reversible: seen.reversible,
            reach: None,
            statement: seen.statement.clone(),
            session: standing.session.clone(),
            agent_today: standing.agent_today.clone(),
            provenance: std::collections::BTreeSet::new(),
            now_ms,
            approval: granted.map(|record| ApprovalFact {
                id: record.request.id.clone(),
                signers: record
                    .signatures
                    .iter()
                    .filter(|s| s.approved)
                    .map(|s| (s.person.clone(), s.groups.clone()))
                    .collect(),
                reach: record.request.reach.clone(),
                expires_ms: self.grant_expires_ms(record),
            }),
        }
    }

    /// Whether a budget that covers such calls counts something only measuring can tell.
    fn charges_measured(&self, spec: &ToolSpec, effect: Effect) -> bool {
        self.settings.budgets.iter().any(|b| b.covers(&spec.name, effect) && matches!(b.unit, Unit::Money(_)))
    }

    /// Measures the reach. A tool whose calls cannot be measured at all yields none; one whose calls can,
    /// and this one could not, refuses.
    async fn measure<T: Tool>(
        &self,
        tool: &T,
        call: &Call<T::Args>,
        now_ms: i64,
        entries: &mut Vec<Entry>,
    ) -> Result<(Option<Reach>, Option<Evidence>), Refusal> {
        if !call.tool.measurable {
            return Ok((None, None));
        }
        let unmeasurable = |why: String| {
            Refusal::new(
                Code::ReachUnmeasurable,
                format!("how far the call reaches cannot be measured: {why}"),
            )
            .help("narrow the call so that what it touches can be counted before it runs")
        };
        if !tool.measurable(&call.parsed) {
            return Err(unmeasurable("calls of this form cannot be counted".into()));
        }
        let measured = match tool.measure(Probe::new(call)).await {
            Ok(measured) => measured,
            Err(MeasureError::Rejected(why)) => {
                return Err(Refusal::new(Code::ToolFailed, why).help("nothing was done; correct the call"));
            }
            Err(MeasureError::System(why)) => {
                return Err(
                    Refusal::new(Code::SystemUnavailable, why).help("nothing was done; try again later")
                );
            }
            Err(why @ (MeasureError::NotMeasurable(_) | MeasureError::Limit(_))) => {
                return Err(unmeasurable(why.to_string()));
            }
        };
        let evidence = measured.sample.map(|sample| {
            let mut salt = [0_u8; 32];
            let halves = [self.entropy.bytes(), self.entropy.bytes()];
            for (to, from) in salt.iter_mut().zip(halves.iter().flatten()) {
                *to = *from;
            }
            Evidence::new(sample, salt)
        });
        let evidence = evidence.transpose().map_err(|why| Refusal::new(Code::Internal, why.to_string()))?;
        let commitment = evidence.as_ref().map(|e| e.commitment.as_str());
        entries.push(Entry::reach_measured(now_ms, call, &measured.reach, commitment));
        Ok((Some(measured.reach), evidence))
    }

    /// From permission to effect: issue (record), perform, close (record).
    async fn act<T: Tool>(
        &self,
        tool: &T,
        permitted: Permitted<T::Args>,
        facts: &Facts,
        granted: Option<&ApprovalRecord>,
        if_history: Option<u64>,
        mut entries: Vec<Entry>,
    ) -> Round<T::Args> {
        let now_ms = facts.now_ms;
        let amount = facts.reach.as_ref().and_then(|r| r.amount);
        let call = &permitted.call;
        let holds = match self.holds(call, facts.effect, &permitted.limits, now_ms) {
            Ok(holds) => holds,
            Err(refusal) => return Round::Answer(self.refuse(call, granted, entries, refusal).await),
        };
        let approval = granted.map(|record| record.request.id.clone());
        let without_intent = entries.clone();
        let named: Vec<(String, u64)> = holds.iter().map(|h| (h.account.budget.clone(), h.amount)).collect();
        entries.push(Entry::warrant_issued(
            now_ms,
            call,
            &permitted.decision,
            approval.as_ref(),
            &permitted.limits,
            &named,
        ));
        let stored = call.stored();
        let undoes = tool.undoes(&call.parsed);
        let intent = Intent {
            call: stored.clone(),
            system: call.tool.system.name.clone(),
            effect: facts.effect,
            decision: permitted.decision.clone(),
            rates: rate_keys(call),
            holds,
            rows: facts.reach.as_ref().map_or(0, |r| r.rows),
            amount,
            if_history,
            approval: approval.clone(),
            now_ms,
            entries,
        };
        let (warrant, open, issued) = match Warrant::issue(permitted, intent, &*self.ledger).await {
            Ok(issued) => issued,
            Err((call, NotIssued::HistoryMoved)) => return Round::Again(call),
            Err((call, why)) => {
                if matches!(why, NotIssued::Fault(LedgerFault::Unknown(_))) {
                    self.void(stored, approval).await;
                }
                return Round::Answer(self.not_issued(&call, granted, without_intent, why).await);
            }
        };
        if let Issued { halted: Some(halt) } = &issued {
            tracing::warn!(%halt, "a budget reached its threshold");
        }
        // The warrant takes the call along; what a second round needs is parsed again from the stored form.
        let performed = AssertUnwindSafe(tool.perform(warrant))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(ToolError::InDoubt { message: "the tool failed while it acted".into() }));
        let ended_ms = self.clock.now_ms();
        let exceeded = match &performed {
            Err(ToolError::Exceeded { reach }) => Some((**reach).clone()),
            Ok(_)
            | Err(
                ToolError::Failed { .. }
                | ToolError::Unavailable { .. }
                | ToolError::InDoubt { .. }
                | ToolError::ResultRejected { .. },
            ) => None,
        };
        let (outcome, settlement) = outcome_of(performed);
        let used = match settlement {
            Settlement::Used { rows, amount } => Some((rows, amount)),
            Settlement::Released | Settlement::Kept => None,
        };
        let duration_ms = u64::try_from(ended_ms.saturating_sub(now_ms)).unwrap_or(0);
        let entry = Entry::outcome(ended_ms, &stored, approval.as_ref(), &outcome, used, duration_ms);
        // Reads may join the next commit: a crash leaves only a read in doubt.
        let wait =
            if facts.effect == Effect::Read && approval.is_none() { Wait::Queued } else { Wait::Durable };
        let mut closing = open.closing(outcome.clone(), settlement, entry, ended_ms);
        if let Some(undone) = undoes.filter(|_| outcome.state() == CallState::Done) {
            closing.entries.push(Entry::undone(ended_ms, &undone, &stored));
        }
        if let Err(fault) = self.close_call(closing, wait).await {
            let refusal = Refusal::new(
                Code::InDoubt,
                format!("call `{}` was performed, and its outcome could not be recorded: {fault}", stored.id),
            )
            .help("do not repeat it; ask a person to look at the calls in doubt");
            return Round::Answer(Answer::Refused(Refused { call: Some(stored.id), approval, refusal }));
        }
        if let Some(reach) = exceeded {
            return match self.parse_stored(tool, &stored) {
                Ok((call, _)) => Round::Exceeded(call, reach),
                Err(refusal) => {
                    Round::Answer(Answer::Refused(Refused { call: Some(stored.id), approval, refusal }))
                }
            };
        }
        Round::Answer(answer_of(&stored.id, approval, outcome, used.map_or(0, |(rows, _)| rows)))
    }

    /// Closes an intent that may have been recorded without our knowing: nothing was performed under it.
    /// Where even that cannot be recorded, the call ends up in doubt once this process is gone.
    async fn void(&self, call: StoredCall, approval: Option<ApprovalId>) {
        let now_ms = self.clock.now_ms();
        let message = String::from("not performed, because its intent was not confirmed");
        let outcome = CallOutcome::Failed { code: Code::LedgerUnavailable, message, superseded: true };
        let entry = Entry::outcome(now_ms, &call, approval.as_ref(), &outcome, None, 0);
        let closing = Closing {
            call: call.id,
            approval,
            outcome,
            settlement: Settlement::Released,
            now_ms,
            entries: vec![entry],
        };
        if let Err(fault) = self.close_call(closing, Wait::Durable).await {
            tracing::warn!(%fault, "an unconfirmed intent could not be closed");
        }
    }

    /// Records an outcome, and tries again for a while when the ledger fails: the effect has happened.
    async fn close_call(&self, closing: Closing, wait: Wait) -> Result<(), LedgerFault> {
        let mut tries = 0_u32;
        loop {
            match self.ledger.close(closing.clone(), wait).await {
                Ok(()) => return Ok(()),
                Err(fault) if tries >= CLOSE_TRIES => {
                    tracing::error!(%fault, call = %closing.call, "an outcome is not recorded");
                    return Err(fault);
                }
                Err(fault) => {
                    tracing::warn!(%fault, call = %closing.call, "recording an outcome failed, trying again");
                    tries = tries.saturating_add(1);
                    let pause = CLOSE_PAUSE.saturating_mul(2_u32.saturating_pow(tries));
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// What a call reserves.
    fn holds<A>(
        &self,
        call: &Call<A>,
        effect: Effect,
        limits: &Limits,
        now_ms: i64,
    ) -> Result<Vec<HoldRequest>, Refusal> {
        let mut holds = Vec::new();
        for budget in self.covering(call, effect) {
            let need = match budget.unit {
                Unit::Calls => 1,
                Unit::Rows => limits.rows_max,
                Unit::Money(currency) => match limits.amount_max {
                    Some(money) if money.currency == currency => money.minor,
                    Some(_) => continue,
                    // Money under a budget, and nobody knows how much: no.
                    None => {
                        let message = format!(
                            "budget `{}` counts money, and tool `{}` does not say how much a call moves",
                            budget.name, call.tool.name
                        );
                        return Err(Refusal::new(Code::ReachUnmeasurable, message)
                            .help("the tool's author must declare `amount` or a preview"));
                    }
                },
            };
            holds.push(hold(budget, call, need, now_ms));
        }
        Ok(holds)
    }

    fn covering<A>(&self, call: &Call<A>, effect: Effect) -> impl Iterator<Item = &Budget> {
        self.settings.budgets.iter().filter(move |budget| budget.covers(&call.tool.name, effect))
    }

    /// What a call reserves whatever it reaches.
    fn counted<A>(&self, call: &Call<A>, effect: Effect, now_ms: i64) -> Vec<HoldRequest> {
        self.covering(call, effect)
            .filter(|budget| budget.unit == Unit::Calls)
            .map(|budget| hold(budget, call, 1, now_ms))
            .collect()
    }

    /// Looks whether rates and holds have room now. Issuing looks again, and takes it.
    async fn room<A>(&self, call: &Call<A>, holds: &[HoldRequest], now_ms: i64) -> Result<(), NotIssued> {
        let rates = rate_keys(call);
        if rates.is_empty() && holds.is_empty() {
            return Ok(());
        }
        self.ledger.room(&rates, holds, now_ms).await
    }

    /// Whether the call would find room if people approved it now: they are not asked about what will be
    /// refused anyway. What waits reserves nothing.
    async fn room_to_ask<A>(&self, call: &Call<A>, facts: &Facts) -> Result<(), NoRoom> {
        // An approval will bind it to what was measured.
        let allow = Allow::within(Vec::new(), facts.reach.as_ref());
        let limits = Limits::new(&allow, &call.tool, facts.effect);
        let holds = self.holds(call, facts.effect, &limits, facts.now_ms).map_err(NoRoom::Unmeasured)?;
        self.room(call, &holds, facts.now_ms).await.map_err(NoRoom::Limit)
    }

    async fn park<A>(
        &self,
        call: &Call<A>,
        ask: &Ask,
        (decision, bundle, facts): (DecisionId, &BundleDigest, &Facts),
        evidence: Option<Evidence>,
        mut entries: Vec<Entry>,
    ) -> Answer {
        let id = match approval_id(&*self.entropy) {
            Ok(id) => id,
            Err(why) => return refused(call, None, bad_id(&why)),
        };
        let wait_ms = ask.of.iter().map(|a| a.deadline_ms).min().unwrap_or(0);
        let expires_ms = facts.now_ms.saturating_add(i64::try_from(wait_ms).unwrap_or(i64::MAX));
        let request = ApprovalRequest {
            id,
            call: call.stored(),
            decision,
            bundle: bundle.clone(),
            reach: facts.reach.clone(),
            of: ask.of.clone(),
            asked_ms: facts.now_ms,
            expires_ms,
        };
        entries.push(Entry::asked(&request));
        match self.ledger.park(Parking { request, evidence, effect: facts.effect, entries }).await {
            Ok(record) => pending(&record),
            Err(fault) => refused(call, None, unavailable(&fault)),
        }
    }

    async fn deny<A>(
        &self,
        call: &Call<A>,
        granted: Option<&ApprovalRecord>,
        mut entries: Vec<Entry>,
        (id, bundle, facts, decision): (&DecisionId, &BundleDigest, &Facts, &Decision),
    ) -> Answer {
        entries.push(Entry::decided(facts.now_ms, call, id, bundle, facts, decision));
        let refusal = match decision {
            Decision::Deny(deny) => denial(call, facts, deny),
            Decision::Allow(_) | Decision::Ask(_) => {
                Refusal::new(Code::Internal, "the decision is no denial")
            }
        };
        self.finish_refusal(call, granted, entries, refusal).await
    }

    /// Refuses a call for another reason than the policies, and records that.
    async fn refuse<A>(
        &self,
        call: &Call<A>,
        granted: Option<&ApprovalRecord>,
        mut entries: Vec<Entry>,
        refusal: Refusal,
    ) -> Answer {
        entries.push(Entry::refused(self.clock.now_ms(), call, &refusal));
        self.finish_refusal(call, granted, entries, refusal).await
    }

    async fn finish_refusal<A>(
        &self,
        call: &Call<A>,
        granted: Option<&ApprovalRecord>,
        entries: Vec<Entry>,
        refusal: Refusal,
    ) -> Answer {
        let recorded = match granted {
            Some(record) => {
                let code = Some(refusal.code);
                self.end(record, ApprovalState::Blocked, code, &refusal.to_string(), entries).await
            }
            None => self.ledger.record(entries).await,
        };
        match recorded {
            Ok(()) => refused(call, granted, refusal),
            Err(fault) => refused(call, granted, unavailable(&fault)),
        }
    }

    async fn not_issued<A>(
        &self,
        call: &Call<A>,
        granted: Option<&ApprovalRecord>,
        entries: Vec<Entry>,
        why: NotIssued,
    ) -> Answer {
        let refusal = match why {
            NotIssued::Halted(halt) => halted(&halt),
            NotIssued::RateLimited(too_often) => {
                let message = format!("tool `{}` was called too often: {too_often}", call.tool.name);
                let mut refusal = Refusal::new(Code::RateLimited, message)
                    .help(format!("wait {} ms; nothing was counted", too_often.retry_after_ms));
                refusal.retry_after_ms = Some(too_often.retry_after_ms);
                refusal
            }
            NotIssued::Exhausted(exhausted) => Refusal::new(Code::BudgetExhausted, exhausted.to_string())
                .help("nothing was charged; a smaller call may fit, or a person must raise the budget"),
            NotIssued::ApprovalSpent(state) => {
                // Somebody else performed it, or it ended meanwhile: theirs is the record.
                return refused(
                    call,
                    granted,
                    Refusal::new(Code::ApprovalSuperseded, format!("the approval is {}", state.as_str()))
                        .help("fetch the request to see what became of it"),
                );
            }
            NotIssued::HistoryMoved => Refusal::new(Code::Internal, "the history moved"),
            NotIssued::Fault(fault) => return refused(call, granted, unavailable(&fault)),
        };
        self.refuse(call, granted, entries, refusal).await
    }

    /// Refuses a proposal before it is a call, and records that.
    pub async fn reject(&self, requester: &Requester, tool: &str, refusal: Refusal) -> Answer {
        let now_ms = self.clock.now_ms();
        let id = match call_id(now_ms, &*self.entropy) {
            Ok(id) => id,
            Err(why) => {
                return Answer::Refused(Refused { call: None, approval: None, refusal: bad_id(&why) });
            }
        };
        let entry = Entry::call_rejected(now_ms, requester, &id, tool, &refusal);
        let refusal = match self.ledger.record(vec![entry]).await {
            Ok(()) => refusal,
            Err(fault) => unavailable(&fault),
        };
        Answer::Refused(Refused { call: Some(id), approval: None, refusal })
    }

    // ── people ──────────────────────────────────────────────────────────────────────────────────────

    /// Records a person's answer. The identity and groups come from authentication.
    ///
    /// # Errors
    /// [`NotAnswered`], and then nothing changes.
    pub async fn answer(
        &self,
        approval: &ApprovalId,
        person: PersonId,
        groups: std::collections::BTreeSet<GroupName>,
        approved: bool,
        comment: Option<String>,
        channel: &str,
    ) -> Result<ApprovalRecord, NotAnswered> {
        let record = self.ledger.approval(approval).await?.ok_or(NotAnswered::NotFound)?;
        let at_ms = self.clock.now_ms();
        if record.state == ApprovalState::Waiting && record.request.expires_ms <= at_ms {
            self.expire_one(&record).await;
            return Err(NotAnswered::Refused(AnswerRefusal::Expired));
        }
        let comment = comment.map(|text| text.chars().take(2_000).collect());
        let signature = Signature { person, groups, approved, comment, at_ms, channel: channel.to_owned() };
        let entry = Entry::answered(&record.request, &signature);
        self.ledger.answer(approval, signature, entry).await
    }

    /// Ends the requests whose time is over. To be called every second or so, by any replica.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn expire(&self) -> Result<(), LedgerFault> {
        let now_ms = self.clock.now_ms();
        for record in self.ledger.approvals(&[ApprovalState::Waiting, ApprovalState::Approved], 1_000).await?
        {
            let over = match record.state {
                ApprovalState::Waiting => record.request.expires_ms <= now_ms,
                ApprovalState::Approved
                | ApprovalState::Refused
                | ApprovalState::Expired
                | ApprovalState::Superseded
                | ApprovalState::Executing
                | ApprovalState::Done
                | ApprovalState::Failed
                | ApprovalState::InDoubt
                | ApprovalState::Blocked => self.grant_expires_ms(&record) <= now_ms,
            };
            if over {
                self.expire_one(&record).await;
            }
        }
        Ok(())
    }

    async fn expire_one(&self, record: &ApprovalRecord) {
        let why = match record.state {
            ApprovalState::Waiting => "nobody answered in time",
            ApprovalState::Approved
            | ApprovalState::Refused
            | ApprovalState::Expired
            | ApprovalState::Superseded
            | ApprovalState::Executing
            | ApprovalState::Done
            | ApprovalState::Failed
            | ApprovalState::InDoubt
            | ApprovalState::Blocked => "it was granted, and not performed in time",
        };
        if let Err(fault) = self.end(record, ApprovalState::Expired, None, why, Vec::new()).await {
            tracing::warn!(%fault, approval = %record.request.id, "an overdue request could not be ended");
        }
    }

    /// Requests that people have granted and nobody has performed yet.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn granted(&self) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        self.ledger.approvals(&[ApprovalState::Approved], 100).await
    }

    /// Ends a granted request whose tool is gone or switched off.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn supersede_without_tool(
        &self,
        record: &ApprovalRecord,
        why: &str,
    ) -> Result<(), LedgerFault> {
        self.end(record, ApprovalState::Superseded, None, why, Vec::new()).await
    }

    /// Ends a request that was not performed. One that has moved on meanwhile stays as it is.
    async fn end(
        &self,
        record: &ApprovalRecord,
        state: ApprovalState,
        code: Option<Code>,
        why: &str,
        mut entries: Vec<Entry>,
    ) -> Result<(), LedgerFault> {
        let ApprovalRecord { request, .. } = record;
        entries.push(Entry::request_ended(self.clock.now_ms(), request, state, code, why));
        self.ledger.end(&request.id, state, code, why, entries).await.map(|_ended| ())
    }

    async fn grant<T: Tool>(&self, tool: &T, record: ApprovalRecord) -> Answer {
        let request = &record.request;
        let now_ms = self.clock.now_ms();
        if self.grant_expires_ms(&record) <= now_ms {
            self.expire_one(&record).await;
            return refused_request(&record, expired());
        }
        let spec = tool.spec();
        if spec.name != request.call.tool || spec.version != request.call.version {
            return self.superseded(&record, "the tool has changed since it was approved", Vec::new()).await;
        }
        if *self.policies().bundle() != request.bundle {
            return self
                .superseded(&record, "the policies have changed since it was approved", Vec::new())
                .await;
        }
        match self.parse_stored(tool, &request.call) {
            Ok((call, seen)) if call.digest == request.call.digest => {
                let answer = self.drive(tool, call, &seen, Some(&record)).await;
                tracing::Span::current().record("countersign.status", answer.status());
                answer
            }
            Ok(_) => {
                self.superseded(&record, "the stored call no longer has the approved digest", Vec::new())
                    .await
            }
            Err(refusal) => self.superseded(&record, &refusal.message, Vec::new()).await,
        }
    }

    fn parse_stored<T: Tool>(&self, tool: &T, stored: &StoredCall) -> Result<(Call<T::Args>, Seen), Refusal> {
        let (call, seen) = self.parse(tool, &stored.requester, stored.arguments.clone())?;
        Ok((Call { id: stored.id.clone(), reason: stored.reason.clone(), ..call }, seen))
    }

    async fn superseded(&self, record: &ApprovalRecord, why: &str, entries: Vec<Entry>) -> Answer {
        let refusal = match self.end(record, ApprovalState::Superseded, None, why, entries).await {
            Ok(()) => superseded(why),
            Err(fault) => unavailable(&fault),
        };
        refused_request(record, refusal)
    }

    fn grant_expires_ms(&self, record: &ApprovalRecord) -> i64 {
        let last = record.signatures.iter().map(|s| s.at_ms).max().unwrap_or(record.request.asked_ms);
        last.saturating_add(i64::try_from(self.settings.grant_ms).unwrap_or(i64::MAX))
    }

    // ── agents asking again ─────────────────────────────────────────────────────────────────────────

    /// What became of a request, for the agent that made it. A final answer counts as fetched.
    pub async fn fetch(&self, agent: &AgentId, approval: &ApprovalId) -> Answer {
        let not_found = || {
            let refusal = Refusal::new(Code::NotFound, format!("no request `{approval}` of this agent"));
            Answer::Refused(Refused { call: None, approval: Some(approval.clone()), refusal })
        };
        let record = match self.ledger.approval(approval).await {
            Ok(Some(record)) if record.request.call.requester.agent == *agent => record,
            Ok(_) => return not_found(),
            Err(fault) => {
                return Answer::Refused(Refused {
                    call: None,
                    approval: Some(approval.clone()),
                    refusal: unavailable(&fault),
                });
            }
        };
        let now_ms = self.clock.now_ms();
        if !record.state.is_final() {
            if record.state == ApprovalState::Waiting && record.request.expires_ms <= now_ms {
                self.expire_one(&record).await;
                return refused_request(&record, expired());
            }
            return pending(&record);
        }
        let answer = self.settled(&record).await;
        match self.ledger.deliver(approval).await {
            Ok(()) => answer,
            Err(fault) => refused_request(&record, unavailable(&fault)),
        }
    }

    /// The answer of a final request.
    async fn settled(&self, record: &ApprovalRecord) -> Answer {
        let why = record.why.clone();
        let refusal = match record.state {
            ApprovalState::Waiting | ApprovalState::Approved | ApprovalState::Executing => {
                return pending(record);
            }
            ApprovalState::Done | ApprovalState::Failed | ApprovalState::InDoubt => {
                match self.ledger.call(&record.request.call.id).await {
                    Ok(Some(CallRecord { outcome: Some(outcome), rows, .. })) => {
                        let approval = Some(record.request.id.clone());
                        return answer_of(&record.request.call.id, approval, outcome, rows);
                    }
                    Ok(_) => in_doubt(&record.request.call.id),
                    Err(fault) => unavailable(&fault),
                }
            }
            ApprovalState::Refused => Refusal::new(
                Code::ApprovalRefused,
                match why {
                    Some(why) => format!("a person refused it: {why}"),
                    None => "a person refused it".into(),
                },
            )
            .help("do not repeat the same call; change what was objected to, or ask the people"),
            ApprovalState::Expired => expired(),
            ApprovalState::Superseded => superseded(why.as_deref().unwrap_or("it changed since")),
            ApprovalState::Blocked => blocked(record.code, why.as_deref().unwrap_or_default()),
        };
        refused_request(record, refusal)
    }

    // ── halts and doubts ────────────────────────────────────────────────────────────────────────────

    /// Halts an agent, or all, from the next decision on. Returns the halt in force, which is an earlier one
    /// where there is one.
    ///
    /// # Errors
    /// [`LedgerFault`], and then nothing is halted.
    pub async fn halt(&self, scope: HaltScope, by: &str, why: &str) -> Result<HaltRecord, LedgerFault> {
        let halt =
            HaltRecord { scope, why: why.to_owned(), by: by.to_owned(), since_ms: self.clock.now_ms() };
        let entry = Entry::halted(&halt);
        self.ledger.halt(halt, entry).await
    }

    /// Ends a halt. Returns whether there was one.
    ///
    /// # Errors
    /// [`LedgerFault`], and then the halt stays.
    pub async fn resume(&self, scope: &HaltScope, by: &str) -> Result<bool, LedgerFault> {
        let entry = Entry::resumed(self.clock.now_ms(), scope, by);
        self.ledger.resume(scope, entry).await
    }

    /// A person's finding about a call in doubt. Returns whether there was such a call.
    ///
    /// # Errors
    /// [`LedgerFault`], and then the call stays in doubt.
    pub async fn resolve_doubt(
        &self,
        call: &CallId,
        person: &PersonId,
        happened: bool,
        comment: &str,
    ) -> Result<bool, LedgerFault> {
        let Some(record) = self.ledger.call(call).await? else { return Ok(false) };
        let now_ms = self.clock.now_ms();
        let entries = vec![Entry::doubt_resolved(now_ms, &record.call, person, happened, comment)];
        let (outcome, settlement) = if happened {
            let message = format!("`{person}` found that it happened");
            // What was reserved is what it may have used.
            (CallOutcome::DoneWithoutResult { message }, Settlement::Kept)
        } else {
            let message = format!("`{person}` found that it did not happen");
            (CallOutcome::Failed { code: Code::ToolFailed, message, superseded: false }, Settlement::Released)
        };
        self.ledger.resolve(call, outcome, settlement, now_ms, entries).await
    }

    /// Finds calls in doubt after a crash, here or in another replica.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub async fn sweep(&self) -> Result<Vec<CallRecord>, LedgerFault> {
        self.ledger.sweep(self.clock.now_ms()).await
    }

    /// Asks the system of a call in doubt for its own record of it, and settles the call by that. What the
    /// system does not know stays in doubt, and so does a call of another version of the tool: where that
    /// one kept its records is not known. Nothing is ever performed here. May be repeated, and run in
    /// several replicas at once: the answer is the same, and the ledger takes it once.
    ///
    /// # Errors
    /// [`NotRecalled`]: the call stays in doubt; try again later.
    pub async fn recall<T: Tool>(&self, tool: &T, record: &CallRecord) -> Result<Recalled, NotRecalled> {
        let spec = tool.spec();
        let same = spec.version == record.call.version && spec.system.name == record.system;
        // A read leaves no record of itself.
        if record.state != CallState::InDoubt || record.effect < Effect::Write || !same {
            return Ok(Recalled::Unknown);
        }
        let upkeep = self.upkeep(spec);
        let asked = AssertUnwindSafe(tool.recall(&upkeep, &record.call.id)).catch_unwind().await;
        let recalled = asked.unwrap_or_else(|_| Err(MeasureError::System("the tool failed".into())))?;
        let now_ms = self.clock.now_ms();
        let (outcome, settlement, used) = match &recalled {
            Recalled::Unknown => return Ok(Recalled::Unknown),
            Recalled::Happened { rows, amount } => {
                let message = format!(
                    "the record of system `{}` shows that it happened; its answer was lost",
                    record.system
                );
                let used = (*rows, *amount);
                let settlement = Settlement::Used { rows: used.0, amount: used.1 };
                (CallOutcome::DoneWithoutResult { message }, settlement, Some(used))
            }
            Recalled::Never => {
                let message = format!(
                    "the record of system `{}` shows that it never happened and no longer can; propose it again if it is still wanted",
                    record.system
                );
                let outcome = CallOutcome::Failed { code: Code::ToolFailed, message, superseded: false };
                (outcome, Settlement::Released, None)
            }
        };
        let mut entries = vec![Entry::doubt_recalled(now_ms, record, used)];
        if used.is_some()
            && let Ok(parsed) = tool.parse(&record.call.arguments)
            && let Some(undone) = tool.undoes(&parsed.args)
        {
            entries.push(Entry::undone(now_ms, &undone, &record.call));
        }
        // A crash here leaves the call in doubt, and the system's record answers the same again.
        let settled = self.ledger.resolve(&record.call.id, outcome, settlement, now_ms, entries).await?;
        if settled {
            tracing::info!(call = %record.call.id, happened = used.is_some(), "a doubt was settled by the system's record");
        }
        Ok(recalled)
    }
}

/// Why a system was not asked about a call in doubt, or its answer not kept.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotRecalled {
    /// The system could not be asked.
    #[error(transparent)]
    System(#[from] MeasureError),
    /// The answer could not be recorded.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

/// Why people are not asked.
enum NoRoom {
    /// A limit refuses.
    Limit(NotIssued),
    /// A budget counts what nobody knows.
    Unmeasured(Refusal),
}

fn hold<A>(budget: &Budget, call: &Call<A>, amount: u64, now_ms: i64) -> HoldRequest {
    HoldRequest {
        account: budget.account(&call.requester.agent, &call.requester.session, now_ms),
        unit: budget.unit,
        amount,
        limit: budget.limit,
        halt_at: budget.halt_at,
    }
}

/// The rates of a call, each with the key its instant is stored under.
fn rate_keys<A>(call: &Call<A>) -> Vec<(String, countersign_rules::rate::Rate)> {
    let tool = &call.tool.name;
    let requester = &call.requester;
    call.tool
        .rates
        .iter()
        .map(|rate| {
            let subject = match rate.scope {
                RateScope::Tool => String::from("all"),
                RateScope::Agent => format!("agent:{}", requester.agent),
                RateScope::Session => format!("session:{}/{}", requester.agent, requester.session),
            };
            (format!("{tool}|{rate}|{subject}"), *rate)
        })
        .collect()
}

/// How far something reaches, in words.
fn extent(reach: &Reach) -> String {
    let more = if reach.exact { "" } else { "at least " };
    match reach.amount {
        Some(amount) => format!("{more}{} rows and {amount}", reach.rows),
        None => format!("{more}{} rows", reach.rows),
    }
}

/// What a tool's answer means for the record and for the holds.
fn outcome_of(performed: Result<Performed, ToolError>) -> (CallOutcome, Settlement) {
    let failed = |code, message| CallOutcome::Failed { code, message, superseded: false };
    match performed {
        Ok(Performed { reply, rows, amount }) => {
            (CallOutcome::Done { reply }, Settlement::Used { rows, amount })
        }
        Err(ToolError::Failed { message }) => (failed(Code::ToolFailed, message), Settlement::Released),
        Err(ToolError::Unavailable { message }) => {
            (failed(Code::SystemUnavailable, message), Settlement::Released)
        }
        Err(ToolError::Exceeded { reach }) => {
            let message = format!("it would have reached {}; nothing was changed", extent(&reach));
            (
                CallOutcome::Failed { code: Code::ReachExceeded, message, superseded: true },
                Settlement::Released,
            )
        }
        Err(ToolError::InDoubt { message }) => (CallOutcome::InDoubt { message }, Settlement::Kept),
        Err(ToolError::ResultRejected { message, rows, amount }) => {
            (CallOutcome::DoneWithoutResult { message }, Settlement::Used { rows, amount })
        }
    }
}

fn answer_of(call: &CallId, approval: Option<ApprovalId>, outcome: CallOutcome, rows: u64) -> Answer {
    let refusal = match outcome {
        CallOutcome::Done { reply } => {
            return Answer::Done(Done { call: call.clone(), approval, reply, rows });
        }
        CallOutcome::Failed { code, message, .. } => {
            Refusal::new(code, message).help("nothing was changed and nothing was charged")
        }
        CallOutcome::DoneWithoutResult { message } => Refusal::new(
            Code::ResultRejected,
            format!("the call was performed, and its result is withheld: {message}"),
        )
        .help("do not repeat it; the effect has happened"),
        CallOutcome::InDoubt { message } => {
            let mut refusal = in_doubt(call);
            refusal.message = format!("{}: {message}", refusal.message);
            refusal
        }
    };
    Answer::Refused(Refused { call: Some(call.clone()), approval, refusal })
}

fn pending(record: &ApprovalRecord) -> Answer {
    let request = &record.request;
    Answer::Pending(Pending {
        call: request.call.id.clone(),
        approval: request.id.clone(),
        state: record.state,
        of: request.of.clone(),
        reach: request.reach.clone(),
        expires_ms: request.expires_ms,
    })
}

fn refused<A>(call: &Call<A>, granted: Option<&ApprovalRecord>, refusal: Refusal) -> Answer {
    let approval = granted.map(|record| record.request.id.clone());
    Answer::Refused(Refused { call: Some(call.id.clone()), approval, refusal })
}

fn refused_request(record: &ApprovalRecord, refusal: Refusal) -> Answer {
    let (call, approval) = (record.request.call.id.clone(), record.request.id.clone());
    Answer::Refused(Refused { call: Some(call), approval: Some(approval), refusal })
}

/// The refusal of a call that the policies deny, without the fields of the rule that a caller could probe.
fn denial<A>(call: &Call<A>, facts: &Facts, deny: &Deny) -> Refusal {
    let what = format!(
        "`{}` on system `{}` ({}, {})",
        call.tool.name, call.tool.system.name, facts.effect, call.tool.system.environment
    );
    let (message, help) = match &deny.reason {
        DenyReason::Forbidden { message: Some(said) } => (
            format!("{what} is forbidden: {said}"),
            "no approval can change this; propose something the policy permits",
        ),
        DenyReason::Forbidden { message: None } => (
            format!("{what} is forbidden"),
            "no approval can change this; propose something the policy permits",
        ),
        DenyReason::NothingPermits => {
            (format!("{what} is permitted by no policy"), "a policy that permits it must be added by people")
        }
        DenyReason::EvaluationError { message } => (
            format!("{what} is refused, because a policy could not be evaluated: {message}"),
            "people must mend the policy",
        ),
        DenyReason::InvalidRequest { message } => (
            format!("{what} is refused, because it does not fit the policies' schema: {message}"),
            "people must mend the tool or the policies",
        ),
        DenyReason::ReachUnknown => (
            format!("{what} is refused: a rule looks at how far it reaches, and that cannot be measured"),
            "use a tool whose reach can be measured before it runs",
        ),
    };
    let code = match &deny.reason {
        DenyReason::ReachUnknown => Code::ReachUnmeasurable,
        DenyReason::Forbidden { .. }
        | DenyReason::NothingPermits
        | DenyReason::EvaluationError { .. }
        | DenyReason::InvalidRequest { .. } => Code::DeniedByPolicy,
    };
    let mut refusal = Refusal::new(code, message).help(help);
    refusal.policies.clone_from(&deny.policies);
    refusal
}

fn halted(halt: &HaltRecord) -> Refusal {
    Refusal::new(Code::Halted, halt.to_string()).help("wait until a person resumes; nothing was done")
}

/// A request that was granted and then refused, told by the code of that refusal.
fn blocked(code: Option<Code>, why: &str) -> Refusal {
    let message = format!("it was approved and then refused: {why}");
    Refusal::new(code.unwrap_or(Code::DeniedByPolicy), message)
        .help("nothing was done; repeat the same call to have it decided anew")
}

fn expired() -> Refusal {
    Refusal::new(Code::ApprovalExpired, "nobody answered in time, and nothing was done")
        .help("repeat the same call to ask again")
}

fn superseded(why: &str) -> Refusal {
    Refusal::new(Code::ApprovalSuperseded, format!("the approval no longer fits: {why}"))
        .help("nothing was done; repeat the same call to ask again with what holds now")
}

fn in_doubt(call: &CallId) -> Refusal {
    Refusal::new(Code::InDoubt, format!("whether call `{call}` had its effect is not known"))
        .help("do not repeat it; a person has to look")
}

fn unavailable(fault: &LedgerFault) -> Refusal {
    Refusal::new(Code::LedgerUnavailable, format!("nothing was done: {fault}"))
        .help("what cannot be recorded is not performed; try again when the ledger is back")
}

fn bad_id(why: &BadId) -> Refusal {
    Refusal::new(Code::Internal, why.to_string())
}

fn internal(message: &str) -> Answer {
    Answer::Refused(Refused { call: None, approval: None, refusal: Refusal::new(Code::Internal, message) })
}

fn shutting_down() -> Answer {
    let refusal = Refusal::new(Code::ShuttingDown, "the server is shutting down and takes no new calls")
        .help("try again in a moment");
    Answer::Refused(Refused { call: None, approval: None, refusal })
}
