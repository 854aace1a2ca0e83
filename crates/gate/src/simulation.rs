//! A ledger, a clock and chance from a seed: the second implementation of each port.
//!
//! [`SimLedger`] keeps everything in memory and obeys the [`Ledger`] contract. What it adds is failure on
//! demand: at every durable step a [`Fault`] can be injected, *lost* (nothing was kept) or *kept but
//! reported lost*, and the whole process can be killed there. It is for tests only; nothing is durable.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use countersign_rules::{
    AgentId, ApprovalId, ApprovalRequest, ApprovalState, CallDigest, CallId, Code, Counters, GrantEnd,
    IdempotencyKey, Requester, RetryKey, Signature, ToolName,
    budget::{Balance, BudgetAccount, HoldRequest, day},
    charge::{Charge, Charged},
    rate::Rate,
    settlement::{Count, Settlement},
};
use tokio::sync::watch;

use crate::{
    clock::{Clock, Entropy},
    entry::NewEntry,
    ledger::{
        ANSWERED_MAX, ApprovalRecord, Bond, CallOutcome, CallRecord, CallState, Closer, Closing, GRANTS_MAX,
        HaltRecord, HaltScope, Intent, Issued, Ledger, LedgerFault, NotAnswered, NotIssued, NotParked,
        Parking, Standing, Wait, session_key,
    },
};

/// A clock that stands until it is moved.
#[derive(Debug)]
pub struct SimClock(AtomicI64);

impl SimClock {
    /// A clock that shows `now_ms`.
    #[must_use]
    pub const fn new(now_ms: i64) -> Self {
        Self(AtomicI64::new(now_ms))
    }

    /// Moves it, in either direction.
    pub fn advance(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// This is chance from a seed (SplitMix64).
#[derive(Debug)]
pub struct SimEntropy(AtomicU64);

impl SimEntropy {
    /// Chance that depends on nothing but `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Returns the next 64 bits.
    pub fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Entropy for SimEntropy {
    fn bytes(&self) -> [u8; 16] {
        let wide = (u128::from(self.next()) << 64) | u128::from(self.next());
        wide.to_be_bytes()
    }
}

/// What can go wrong at a durable step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The write was lost, and that is reported.
    Lost,
    /// The write was kept, and reported lost.
    KeptButReportedLost,
}

/// Decides at each durable step, named by its operation, whether it fails.
pub type FaultPlan = Box<dyn FnMut(&'static str) -> Option<Fault> + Send>;

#[derive(Default)]
struct Simulated {
    process: u64,
    opened: BTreeSet<String>,
    sessions: BTreeMap<String, Counters>,
    days: BTreeMap<(String, i64), Counters>,
    history: BTreeMap<String, u64>,
    balances: BTreeMap<BudgetAccount, Balance>,
    rates: BTreeMap<String, i64>,
    halts: Vec<HaltRecord>,
    approvals: BTreeMap<ApprovalId, ApprovalRecord>,
    order: Vec<ApprovalId>,
    calls: BTreeMap<CallId, Open>,
    bonds: BTreeMap<(AgentId, IdempotencyKey), Bond>,
    log: Vec<NewEntry>,
    plan: Option<FaultPlan>,
    unreadable: bool,
}

struct Open {
    /// So many calls were issued before.
    place: usize,
    record: CallRecord,
    process: u64,
    charge: Charged,
}

/// This ledger is kept in memory.
pub struct SimLedger {
    state: Mutex<Simulated>,
    changes: watch::Sender<u64>,
}

impl std::fmt::Debug for SimLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimLedger").finish_non_exhaustive()
    }
}

impl Default for SimLedger {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl SimLedger {
    fn state(&self) -> MutexGuard<'_, Simulated> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Installs a plan of faults.
    pub fn fail(&self, plan: impl FnMut(&'static str) -> Option<Fault> + Send + 'static) {
        self.state().plan = Some(Box::new(plan));
    }

    /// Lets no more steps fail.
    pub fn heal(&self) {
        self.state().plan = None;
        self.state().unreadable = false;
    }

    /// From now on nothing can be read, until [`SimLedger::heal`].
    pub fn fail_reads(&self) {
        self.state().unreadable = true;
    }

    fn readable(&self) -> Result<(), LedgerFault> {
        if self.state().unreadable {
            return Err(LedgerFault::Unavailable("simulated".into()));
        }
        Ok(())
    }

    /// The process that issued every open call so far is gone; another one takes over.
    pub fn restart(&self) {
        let mut state = self.state();
        state.process = state.process.saturating_add(1);
        state.plan = None;
    }

    /// Returns the log, in order.
    #[must_use]
    pub fn log(&self) -> Vec<NewEntry> {
        self.state().log.clone()
    }

    /// Runs one durable step: `work` changes the state or refuses without changing it.
    fn step<T, E: From<LedgerFault>>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut Simulated) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut state = self.state();
        let fault = state.plan.as_mut().and_then(|plan| plan(name));
        if fault == Some(Fault::Lost) {
            return Err(LedgerFault::Unavailable("simulated".into()).into());
        }
        let result = work(&mut state);
        drop(state);
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
        match fault {
            Some(Fault::KeptButReportedLost) if result.is_ok() => {
                Err(LedgerFault::Unknown("simulated".into()).into())
            }
            Some(Fault::KeptButReportedLost | Fault::Lost) | None => result,
        }
    }
}

/// What a ledger says to an id that is not new.
fn taken(why: &str) -> LedgerFault {
    LedgerFault::Unavailable(why.to_owned())
}

/// Whether a request is about a call of this normal form, or about the very call of this digest. One of an older release
/// says nothing of its form, and is about its own call alone.
fn is_about(request: &ApprovalRequest, normal: CallDigest, digest: CallDigest) -> bool {
    let own = request.alike.map_or(request.call.digest, |alike| alike.normal);
    own == normal || own == digest || request.call.digest == digest
}

fn agent_day_key(requester: &Requester, now_ms: i64) -> (String, i64) {
    (requester.agent.to_string(), day(now_ms))
}

impl Simulated {
    /// The halt that stops a requester: the one of all goes first.
    fn halt_for(&self, requester: &Requester) -> Option<HaltRecord> {
        let stops = |halt: &&HaltRecord| match &halt.scope {
            HaltScope::All => true,
            HaltScope::Agent(agent) => *agent == requester.agent,
        };
        self.halts.iter().filter(stops).max_by_key(|halt| &halt.scope).cloned()
    }

    /// The requests, newest first.
    fn newest(&self) -> impl Iterator<Item = &ApprovalRecord> {
        self.order.iter().rev().filter_map(|id| self.approvals.get(id))
    }

    /// The newest request that a call of this key is a retry of.
    fn request(&self, key: &RetryKey) -> Option<&ApprovalRecord> {
        self.newest().find(|record| key.is_of(&record.request.call))
    }

    fn add_halt(&mut self, halt: HaltRecord, entry: NewEntry) -> HaltRecord {
        if let Some(there) = self.halts.iter().find(|there| there.scope == halt.scope) {
            return there.clone();
        }
        self.halts.push(halt.clone());
        self.log.push(entry);
        halt
    }

    /// What the key of a call stands for already, where that is another one.
    fn taken(&self, bond: &Bond, replaces: Option<&CallId>) -> Option<Box<Bond>> {
        let before = self.bonds.get(&(bond.agent.clone(), bond.key.clone()));
        if bond.follows(before, replaces) { None } else { before.cloned().map(Box::new) }
    }

    fn bind(&mut self, bond: Bond) {
        self.bonds.insert((bond.agent.clone(), bond.key.clone()), bond);
    }

    fn charge<'a>(
        &self,
        rates: &'a [(String, Rate)],
        holds: &'a [HoldRequest],
        now_ms: i64,
    ) -> Result<Charge<'a>, NotIssued> {
        let due = |key: &str| Ok(self.rates.get(key).copied());
        let balance = |account: &BudgetAccount| Ok(self.balances.get(account).copied().unwrap_or_default());
        Charge::new((rates, holds), now_ms, due, balance)
    }

    /// Changes both counters of a call, and moves the history when that changed anything.
    fn count(&mut self, requester: &Requester, now_ms: i64, change: impl Fn(&mut Counters)) {
        let session = self.sessions.entry(session_key(&requester.agent, &requester.session)).or_default();
        let day = self.days.entry(agent_day_key(requester, now_ms)).or_default();
        let mut moved = false;
        for counters in [session, day] {
            let before = counters.clone();
            change(counters);
            moved |= *counters != before;
        }
        if moved {
            let history = self.history.entry(requester.agent.to_string()).or_default();
            *history = history.saturating_add(1);
        }
    }

    /// Moves the approval that a call has spent on to what became of the call.
    fn move_approval(&mut self, approval: Option<&ApprovalId>, outcome: &CallOutcome) {
        if let Some(record) = approval.and_then(|id| self.approvals.get_mut(id)) {
            record.state = outcome.approval_state();
            if let Some(why) = outcome.why_not() {
                record.why = Some(why.to_owned());
            }
        }
    }

    fn settle(&mut self, call: &CallId, settlement: Settlement) {
        let Some(mut open) = self.calls.remove(call) else { return };
        let Open { record, charge, .. } = &mut open;
        let balance = |account: &BudgetAccount| {
            Ok::<_, Infallible>(self.balances.get(account).copied().unwrap_or_default())
        };
        let Ok(settled) = charge.settle(settlement, (&record.call.tool, record.effect), balance);
        if let Some(settled) = settled {
            self.count(&record.call.requester, record.issued_ms, |counters| settled.correct(counters));
            record.rows = settled.rows.unwrap_or(record.rows);
            self.balances.extend(settled.balances);
        }
        self.calls.insert(call.clone(), open);
    }
}

impl Ledger for SimLedger {
    async fn standing(
        &self,
        requester: &Requester,
        digest: CallDigest,
        now_ms: i64,
    ) -> Result<Standing, LedgerFault> {
        self.readable()?;
        let state = self.state();
        let session = session_key(&requester.agent, &requester.session);
        Ok(Standing {
            halted: state.halt_for(requester),
            session: state.sessions.get(&session).cloned().unwrap_or_default(),
            agent_today: state.days.get(&agent_day_key(requester, now_ms)).cloned().unwrap_or_default(),
            history: state.history.get(requester.agent.as_str()).copied().unwrap_or_default(),
            request: state.request(&RetryKey::new(requester, digest)).cloned(),
            refusals: state.approvals.values().any(|r| {
                r.state == ApprovalState::Refused && r.request.call.requester.agent == requester.agent
            }),
        })
    }

    async fn refused(
        &self,
        agent: &AgentId,
        (normal, digest): (CallDigest, CallDigest),
        now_ms: i64,
    ) -> Result<Option<ApprovalRecord>, LedgerFault> {
        self.readable()?;
        let state = self.state();
        Ok(state
            .newest()
            .find(|r| {
                r.state == ApprovalState::Refused
                    && r.request.call.requester.agent == *agent
                    && r.request.expires_ms > now_ms
                    && is_about(&r.request, normal, digest)
            })
            .cloned())
    }

    async fn answered(
        &self,
        agent: &AgentId,
        tool: &ToolName,
        shape: CallDigest,
    ) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        self.readable()?;
        let state = self.state();
        let (mut like, mut refused) = (0_usize, 0_usize);
        Ok(state
            .newest()
            .filter(|r| r.request.call.requester.agent == *agent && !r.signatures.is_empty())
            .filter(|r| {
                let count = if r.request.alike.is_some_and(|alike| alike.shape == shape) {
                    &mut like
                } else if r.request.call.tool == *tool && r.state == ApprovalState::Refused {
                    &mut refused
                } else {
                    return false;
                };
                *count = count.saturating_add(1);
                *count <= ANSWERED_MAX
            })
            .cloned()
            .collect())
    }

    async fn open_session(&self, requester: &Requester, entry: NewEntry) -> Result<bool, LedgerFault> {
        self.step("open_session", |state| {
            let key = session_key(&requester.agent, &requester.session);
            let new = state.opened.insert(key);
            if new {
                state.log.push(entry);
            }
            Ok(new)
        })
    }

    async fn has_session(&self, requester: &Requester) -> Result<bool, LedgerFault> {
        self.readable()?;
        Ok(self.state().opened.contains(&session_key(&requester.agent, &requester.session)))
    }

    async fn record(&self, entries: Vec<NewEntry>) -> Result<(), LedgerFault> {
        self.step("record", |state| {
            state.log.extend(entries);
            Ok(())
        })
    }

    async fn park(&self, parking: Parking) -> Result<ApprovalRecord, NotParked> {
        self.step("park", |state| {
            let call = &parking.request.call;
            let bond = Bond::of(call, Some(&parking.request.id), parking.request.asked_ms);
            if let Some(bond) = &bond
                && let Some(taken) = state.taken(bond, parking.replaces.as_ref())
            {
                return Err(NotParked::KeyTaken(taken));
            }
            // A newer request is opened only when the one before is final, so the newest is the only candidate.
            if let Some(open) = state.request(&call.retry_key()).filter(|r| !r.state.is_final()) {
                let open = open.clone();
                bond.into_iter().for_each(|bond| state.bind(bond.joining(&open.request)));
                return Ok(open);
            }
            if state.approvals.contains_key(&parking.request.id) {
                return Err(taken("a request of this id was opened before").into());
            }
            if let Some(way) = &parking.makes_way {
                let before = state.approvals.get_mut(&way.approval);
                let moved = before.as_ref().map_or(ApprovalState::Superseded, |record| record.state);
                if !before.is_some_and(|record| record.make_way(way, &parking.request.id)) {
                    return Err(NotParked::Moved(moved));
                }
            }
            bond.into_iter().for_each(|bond| state.bind(bond));
            let record = ApprovalRecord {
                effect: parking.effect,
                state: ApprovalState::Waiting,
                signatures: Vec::new(),
                evidence: parking.evidence,
                why: None,
                code: None,
                grant: None,
                narrowed_to: None,
                delivered: false,
                request: parking.request,
            };
            state.log.extend(parking.entries);
            state.order.push(record.request.id.clone());
            state.approvals.insert(record.request.id.clone(), record.clone());
            Ok(record)
        })
    }

    async fn bond(&self, agent: &AgentId, key: &IdempotencyKey) -> Result<Option<Bond>, LedgerFault> {
        self.readable()?;
        Ok(self.state().bonds.get(&(agent.clone(), key.clone())).cloned())
    }

    async fn bonds(&self, agent: &AgentId) -> Result<u64, LedgerFault> {
        self.readable()?;
        let count = self.state().bonds.keys().filter(|(owner, _key)| owner == agent).count();
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    async fn bind(
        &self,
        bond: Bond,
        replaces: Option<&CallId>,
        entries: Vec<NewEntry>,
    ) -> Result<Option<Bond>, LedgerFault> {
        self.step("bind", |state| {
            if let Some(taken) = state.taken(&bond, replaces) {
                return Ok(Some(*taken));
            }
            state.bind(bond);
            state.log.extend(entries);
            Ok(None)
        })
    }

    async fn room(
        &self,
        rates: &[(String, Rate)],
        holds: &[HoldRequest],
        now_ms: i64,
    ) -> Result<(), NotIssued> {
        self.state().charge(rates, holds, now_ms).map(|_taken| ())
    }

    async fn issue(&self, intent: Intent) -> Result<Issued, NotIssued> {
        self.step("issue", |state| {
            let requester = &intent.call.requester;
            if state.calls.contains_key(&intent.call.id) {
                return Err(taken("a call of this id was issued before").into());
            }
            if let Some(halt) = state.halt_for(requester) {
                return Err(NotIssued::Halted(halt));
            }
            let mut bond = Bond::of(&intent.call, intent.approval.as_ref(), intent.now_ms);
            let replaces = intent.replaces.as_ref();
            if let Some(taken) = bond.as_ref().and_then(|bond| state.taken(bond, replaces)) {
                intent.beside(taken)?;
                bond = None;
            }
            let spent = match &intent.approval {
                None => None,
                Some(id) => {
                    let superseded = NotIssued::ApprovalSpent(ApprovalState::Superseded);
                    let record = state.approvals.get(id).ok_or(superseded)?;
                    let spent = record.request.spend(record.state, &intent.call);
                    Some((id.clone(), spent.map_err(NotIssued::ApprovalSpent)?))
                }
            };
            let taken = match &intent.grant {
                None => None,
                Some((id, shape)) => {
                    let mut record = state.approvals.get(id).ok_or(NotIssued::GrantSpent)?.clone();
                    if !record.take_granted(&intent.call, *shape, intent.now_ms) {
                        return Err(NotIssued::GrantSpent);
                    }
                    Some((id.clone(), record))
                }
            };
            let history = state.history.get(requester.agent.as_str()).copied().unwrap_or_default();
            if intent.if_history.is_some_and(|seen| seen != history) {
                return Err(NotIssued::HistoryMoved);
            }
            let charge = state.charge(&intent.rates, &intent.holds, intent.now_ms)?;
            let halts = HaltRecord::set_off(&charge, &requester.agent, intent.now_ms);
            let rates: Vec<_> = charge.due.iter().map(|(key, due)| ((*key).to_owned(), *due)).collect();
            let balances: Vec<_> =
                charge.balances.iter().map(|(account, after)| ((*account).clone(), *after)).collect();
            let requester = requester.clone();
            bond.into_iter().for_each(|bond| state.bind(bond));
            state.rates.extend(rates);
            state.balances.extend(balances);
            if let Some((id, to)) = spent
                && let Some(approval) = state.approvals.get_mut(&id)
            {
                approval.state = to;
            }
            state.approvals.extend(taken);
            let count = Count {
                tool: &intent.call.tool,
                effect: intent.effect,
                rows: intent.rows,
                amount: intent.amount,
            };
            state.count(&requester, intent.now_ms, |c| count.add(c));
            let process = state.process;
            state.log.extend(intent.entries);
            for halt in &halts {
                state.add_halt(halt.clone(), NewEntry::halted(halt));
            }
            let record = CallRecord {
                call: intent.call,
                system: intent.system,
                journal: intent.journal,
                effect: intent.effect,
                decision: intent.decision,
                approval: intent.approval,
                state: CallState::Open,
                outcome: None,
                issued_ms: intent.now_ms,
                closed_ms: None,
                rows: intent.rows,
                doubted: false,
            };
            let charge = Charged::new(intent.rows, intent.amount, &intent.holds);
            let open = Open { place: state.calls.len(), process, charge, record };
            state.calls.insert(open.record.call.id.clone(), open);
            // The widest says most.
            Ok(Issued { halted: halts.into_iter().max_by(|a, b| a.scope.cmp(&b.scope)) })
        })
    }

    async fn close(&self, closing: Closing, _wait: Wait) -> Result<(), LedgerFault> {
        self.step("close", |state| {
            match state.calls.get(&closing.call) {
                Some(open) if open.record.outcome.is_some() => return Ok(()),
                Some(_) => {}
                None => return Ok(()),
            }
            state.settle(&closing.call, closing.settlement);
            let mut approval = None;
            if let Some(Open { record, .. }) = state.calls.get_mut(&closing.call) {
                record.state = closing.outcome.state();
                record.doubted |= record.is_doubtful();
                record.closed_ms = Some(closing.now_ms);
                record.outcome = Some(closing.outcome.clone());
                approval.clone_from(&record.approval);
            }
            state.move_approval(approval.as_ref(), &closing.outcome);
            state.log.extend(closing.entries);
            Ok(())
        })
    }

    async fn answer(
        &self,
        approval: &ApprovalId,
        signature: Signature,
        entry: NewEntry,
    ) -> Result<ApprovalRecord, NotAnswered> {
        self.step("answer", |state| {
            let record = state.approvals.get_mut(approval).ok_or(NotAnswered::NotFound)?;
            let given = record.sign(signature)?;
            let record = record.clone();
            state.log.push(entry);
            if let Some(terms) = given {
                state.log.push(NewEntry::grant_given(&record.request, &record.signatures, terms));
            }
            Ok(record)
        })
    }

    async fn granting(
        &self,
        requester: &Requester,
        shape: CallDigest,
        now_ms: i64,
    ) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        self.readable()?;
        let state = self.state();
        let covering = state.order.iter().rev().filter_map(|id| state.approvals.get(id)).filter(|record| {
            let ApprovalRequest { call, alike, .. } = &record.request;
            record.grant.as_ref().is_some_and(|grant| grant.holds(now_ms))
                && call.requester.agent == requester.agent
                && call.requester.session == requester.session
                && alike.is_some_and(|alike| alike.shape == shape)
        });
        Ok(covering.take(GRANTS_MAX).cloned().collect())
    }

    async fn end_grant(
        &self,
        approval: &ApprovalId,
        end: GrantEnd,
        entry: NewEntry,
    ) -> Result<bool, LedgerFault> {
        self.step("end_grant", |state| {
            let ended = state.approvals.get_mut(approval).is_some_and(|record| record.end_grant(end));
            if ended {
                state.log.push(entry);
            }
            Ok(ended)
        })
    }

    async fn look_closer(
        &self,
        approval: &ApprovalId,
        seen: Closer,
        entries: Vec<NewEntry>,
    ) -> Result<ApprovalRecord, NotAnswered> {
        self.step("look_closer", |state| {
            let record = state.approvals.get_mut(approval).ok_or(NotAnswered::NotFound)?;
            record.look_closer(seen)?;
            let record = record.clone();
            state.log.extend(entries);
            Ok(record)
        })
    }

    async fn end(
        &self,
        approval: &ApprovalId,
        to: ApprovalState,
        code: Option<Code>,
        why: &str,
        entries: Vec<NewEntry>,
    ) -> Result<bool, LedgerFault> {
        self.step("end", |state| {
            let Some(record) = state.approvals.get_mut(approval) else { return Ok(false) };
            if !record.state.is_open() {
                return Ok(false);
            }
            record.state = to;
            record.code = code;
            record.why = Some(why.to_owned());
            state.log.extend(entries);
            Ok(true)
        })
    }

    async fn deliver(&self, approval: &ApprovalId) -> Result<(), LedgerFault> {
        self.step("deliver", |state| {
            if let Some(record) = state.approvals.get_mut(approval).filter(|r| r.state.is_final()) {
                record.delivered = true;
            }
            Ok(())
        })
    }

    async fn halt(&self, halt: HaltRecord, entry: NewEntry) -> Result<HaltRecord, LedgerFault> {
        self.step("halt", |state| Ok(state.add_halt(halt, entry)))
    }

    async fn resume(&self, scope: &HaltScope, entry: NewEntry) -> Result<bool, LedgerFault> {
        self.step("resume", |state| {
            let before = state.halts.len();
            state.halts.retain(|halt| halt.scope != *scope);
            let ended = state.halts.len() < before;
            if ended {
                state.log.push(entry);
            }
            Ok(ended)
        })
    }

    async fn sweep(&self, now_ms: i64) -> Result<Vec<CallRecord>, LedgerFault> {
        self.step("sweep", |state| {
            let alive = state.process;
            let mut found = Vec::new();
            for open in state.calls.values_mut() {
                if open.record.state == CallState::Open && open.process != alive {
                    open.record.state = CallState::InDoubt;
                    open.record.doubted |= open.record.is_doubtful();
                    found.push(open.record.clone());
                }
            }
            for record in &found {
                state.log.push(NewEntry::in_doubt(now_ms, &record.call, record.approval.as_ref()));
                if let Some(approval) = record.approval.as_ref().and_then(|id| state.approvals.get_mut(id)) {
                    approval.state = ApprovalState::InDoubt;
                }
            }
            Ok(found)
        })
    }

    async fn resolve(
        &self,
        call: &CallId,
        outcome: CallOutcome,
        settlement: Settlement,
        now_ms: i64,
        entries: Vec<NewEntry>,
    ) -> Result<bool, LedgerFault> {
        self.step("resolve", |state| {
            match state.calls.get(call) {
                Some(open) if open.record.state == CallState::InDoubt => {}
                Some(_) | None => return Ok(false),
            }
            state.settle(call, settlement);
            let mut approval = None;
            if let Some(open) = state.calls.get_mut(call) {
                open.record.state = outcome.state();
                open.record.closed_ms = Some(open.record.closed_ms.unwrap_or(now_ms));
                open.record.outcome = Some(outcome.clone());
                approval.clone_from(&open.record.approval);
            }
            state.move_approval(approval.as_ref(), &outcome);
            state.log.extend(entries);
            Ok(true)
        })
    }

    async fn approval(&self, approval: &ApprovalId) -> Result<Option<ApprovalRecord>, LedgerFault> {
        self.readable()?;
        Ok(self.state().approvals.get(approval).cloned())
    }

    async fn approvals(
        &self,
        states: &[ApprovalState],
        limit: u32,
    ) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        let state = self.state();
        Ok(state
            .order
            .iter()
            .filter_map(|id| state.approvals.get(id))
            .filter(|record| states.is_empty() || states.contains(&record.state))
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .cloned()
            .collect())
    }

    async fn overdue(&self, now_ms: i64, limit: u32) -> Result<Vec<ApprovalRecord>, LedgerFault> {
        let mut found = self.approvals(&[ApprovalState::Waiting], u32::MAX).await?;
        found.retain(|record| record.request.expires_ms <= now_ms);
        found.sort_by_key(|record| record.request.expires_ms);
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn call(&self, call: &CallId) -> Result<Option<CallRecord>, LedgerFault> {
        self.readable()?;
        Ok(self.state().calls.get(call).map(|open| open.record.clone()))
    }

    async fn waiting(&self, agent: &AgentId) -> Result<u64, LedgerFault> {
        self.readable()?;
        let state = self.state();
        let waiting = state.approvals.values().filter(|record| {
            record.state == ApprovalState::Waiting && record.request.call.requester.agent == *agent
        });
        Ok(u64::try_from(waiting.count()).unwrap_or(u64::MAX))
    }

    async fn doubted(
        &self,
        agent: &AgentId,
        digest: CallDigest,
        since_ms: i64,
    ) -> Result<Option<CallRecord>, LedgerFault> {
        self.readable()?;
        let state = self.state();
        let key = RetryKey { agent: agent.clone(), digest };
        let found = state.calls.values().filter(|Open { record, .. }| {
            let late = record.state == CallState::Done && record.closed_ms.is_some_and(|at| at > since_ms);
            record.doubted && key.is_of(&record.call) && (record.state == CallState::InDoubt || late)
        });
        // The newest in doubt, or else the newest.
        let found = found.max_by_key(|open| (open.record.state == CallState::InDoubt, open.place));
        Ok(found.map(|open| open.record.clone()))
    }

    async fn calls(&self, state: Option<CallState>, limit: u32) -> Result<Vec<CallRecord>, LedgerFault> {
        let held = self.state();
        let mut calls: Vec<&Open> = held.calls.values().collect();
        calls.retain(|open| state.is_none_or(|state| state == open.record.state));
        calls.sort_by_key(|open| Reverse(open.place));
        calls.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(calls.into_iter().map(|open| open.record.clone()).collect())
    }

    async fn halts(&self) -> Result<Vec<HaltRecord>, LedgerFault> {
        let mut halts = self.state().halts.clone();
        halts.sort_by(|a, b| a.scope.cmp(&b.scope));
        Ok(halts)
    }

    async fn balances(&self, limit: u32) -> Result<Vec<(BudgetAccount, Balance)>, LedgerFault> {
        let state = self.state();
        let mut balances: Vec<_> = state.balances.iter().collect();
        // The sort is stable: within a day they stay in order of their accounts.
        balances.sort_by_key(|(account, _balance)| Reverse(account.day));
        balances.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(balances.into_iter().map(|(account, balance)| (account.clone(), *balance)).collect())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Makes the three ports of a simulated process.
#[must_use]
pub fn ports(seed: u64, now_ms: i64) -> (Arc<SimLedger>, Arc<SimClock>, Arc<SimEntropy>) {
    (Arc::new(SimLedger::default()), Arc::new(SimClock::new(now_ms)), Arc::new(SimEntropy::new(seed)))
}
