//! The port to the store: calls, holds, approvals, counters, halts and the log, kept together so that
//! each step of the path is one transaction.

use std::future::Future;

use countersign_rules::{
    AgentId, ApprovalId, ApprovalRequest, ApprovalState, CallDigest, CallId, Code, Counters, DecisionId,
    Effect, GrantEnd, IdempotencyKey, Money, Refusal, Requester, SessionId, Signature, StoredCall,
    SystemName, ToolName,
    approval::AnswerRefusal,
    budget::{Balance, BudgetAccount, Exhausted, HoldRequest},
    rate::{Rate, TooOften},
    settlement::Settlement,
};
use tokio::sync::watch;

pub use crate::{
    approval::{ApprovalRecord, Closer, MakesWay},
    halt::{HaltRecord, HaltScope},
    outcome::{CallOutcome, CallRecord, CallState},
};
use crate::{entry::NewEntry, evidence::Evidence};

/// This is what the gate asks of the store behind it.
///
/// Contract, for every implementation:
/// - Each method that changes something is one transaction, serialised with every other one on the same
///   ledger, by whichever process: budgets are exact and the log never forks.
/// - When such a method returns `Ok`, its change and its entries are durable (synced); concurrent callers
///   share a commit. When it returns `Err`, nothing of it is kept, except for [`LedgerFault::Unknown`],
///   where it may have been.
/// - Entries are appended in the given order, in one piece; the log's tree, head and signed checkpoint are
///   part of the same transaction.
/// - Nothing is retried inside; a fault is reported at once or within the configured timeout.
/// - All methods may run concurrently.
pub trait Ledger: Send + Sync + 'static {
    /// Tells what the ledger knows that matters for deciding a call.
    fn standing(
        &self,
        requester: &Requester,
        digest: CallDigest,
        now_ms: i64,
    ) -> impl Future<Output = Result<Standing, LedgerFault>> + Send;

    /// Opens a session, once: the entry is appended only when the session is new. Returns whether it is.
    fn open_session(
        &self,
        requester: &Requester,
        entry: NewEntry,
    ) -> impl Future<Output = Result<bool, LedgerFault>> + Send;

    /// Tells whether a session was opened and is not forgotten.
    fn has_session(&self, requester: &Requester) -> impl Future<Output = Result<bool, LedgerFault>> + Send;

    /// Appends entries that change nothing else: refusals, configuration, policies.
    fn record(&self, entries: Vec<NewEntry>) -> impl Future<Output = Result<(), LedgerFault>> + Send;

    /// Parks a call until people answer. When a request of the same agent for the same digest is not final, in whichever
    /// session it was asked, that one is returned and nothing is appended. The call's idempotency key stands for the returned
    /// request from then on; see [`Bond`].
    fn park(&self, parking: Parking) -> impl Future<Output = Result<ApprovalRecord, NotParked>> + Send;

    /// Finds what an agent's idempotency key stands for.
    fn bond(
        &self,
        agent: &AgentId,
        key: &IdempotencyKey,
    ) -> impl Future<Output = Result<Option<Bond>, LedgerFault>> + Send;

    /// Counts the keys of an agent that stand for something. It costs the same however many they are.
    fn bonds(&self, agent: &AgentId) -> impl Future<Output = Result<u64, LedgerFault>> + Send;

    /// Lets a key stand for a call that is not issued: refused, or answered as another one. `replaces` as in [`Intent`]. When
    /// it stands for another call already, that is returned, and nothing changes or is appended.
    fn bind(
        &self,
        bond: Bond,
        replaces: Option<&CallId>,
        entries: Vec<NewEntry>,
    ) -> impl Future<Output = Result<Option<Bond>, LedgerFault>> + Send;

    /// Tells whether an intent would find room now. Rates and holds are looked at as [`Ledger::issue`] does, and
    /// nothing is taken: the answer may be out of date at once, and issuing decides.
    fn room(
        &self,
        rates: &[(String, Rate)],
        holds: &[HoldRequest],
        now_ms: i64,
    ) -> impl Future<Output = Result<(), NotIssued>> + Send;

    /// Records an intent, takes its rates and holds, counts it, spends its approval (approved → executing). The call's
    /// idempotency key stands for it from then on; see [`Bond`]. One that was granted is issued whatever its key stands for.
    fn issue(&self, intent: Intent) -> impl Future<Output = Result<Issued, NotIssued>> + Send;

    /// Records an outcome, settles the holds, corrects the counters, and moves the approval on.
    /// With [`Wait::Queued`] it may return before the commit: for reads only. Closing a call that has an
    /// outcome already changes and appends nothing, so that it can be tried again; closing one that was
    /// swept into doubt meanwhile records the outcome; closing one that was never issued does nothing.
    fn close(&self, closing: Closing, wait: Wait) -> impl Future<Output = Result<(), LedgerFault>> + Send;

    /// Adds one person's answer to a request, by [`ApprovalRequest::answer`]. `entry` is appended with it. What people grant
    /// together beside their approval ([`ApprovalRequest::granted`]) is given in the same transaction, and told in an entry of
    /// its own.
    fn answer(
        &self,
        approval: &ApprovalId,
        signature: Signature,
        entry: NewEntry,
    ) -> impl Future<Output = Result<ApprovalRecord, NotAnswered>> + Send;

    /// Shows people more of a request, by [`ApprovalRecord::look_closer`]. The entries are appended with it.
    fn look_closer(
        &self,
        approval: &ApprovalId,
        seen: Closer,
        entries: Vec<NewEntry>,
    ) -> impl Future<Output = Result<ApprovalRecord, NotAnswered>> + Send;

    /// Lists the requests of an agent's session with which people granted calls of a shape
    /// ([`Alike::shape`](countersign_rules::approval::Alike::shape)), where something of that is left at `now_ms` (Unix
    /// milliseconds UTC), newest first; at most [`GRANTS_MAX`].
    fn granting(
        &self,
        requester: &Requester,
        shape: CallDigest,
        now_ms: i64,
    ) -> impl Future<Output = Result<Vec<ApprovalRecord>, LedgerFault>> + Send;

    /// Ends the grant that was given with a request. Returns whether there was one that had not ended; otherwise nothing
    /// changes and nothing is appended.
    fn end_grant(
        &self,
        approval: &ApprovalId,
        end: GrantEnd,
        entry: NewEntry,
    ) -> impl Future<Output = Result<bool, LedgerFault>> + Send;

    /// Ends a request that is not final and not executing: expired, superseded or blocked, and then with the
    /// code of the refusal. Returns whether it did; when the request has moved on meanwhile, nothing is appended and the answer
    /// is `false`.
    fn end(
        &self,
        approval: &ApprovalId,
        state: ApprovalState,
        code: Option<Code>,
        why: &str,
        entries: Vec<NewEntry>,
    ) -> impl Future<Output = Result<bool, LedgerFault>> + Send;

    /// Marks a final request as fetched by its agent, so that an equal call may open a new one: at once where nothing was
    /// performed, and otherwise once the request would have expired.
    fn deliver(&self, approval: &ApprovalId) -> impl Future<Output = Result<(), LedgerFault>> + Send;

    /// Halts one agent, or all. Returns the halt in force: one that is there already stays as it is, and
    /// nothing is appended.
    fn halt(
        &self,
        halt: HaltRecord,
        entry: NewEntry,
    ) -> impl Future<Output = Result<HaltRecord, LedgerFault>> + Send;

    /// Ends a halt. Returns whether there was one.
    fn resume(
        &self,
        scope: &HaltScope,
        entry: NewEntry,
    ) -> impl Future<Output = Result<bool, LedgerFault>> + Send;

    /// Finds calls that are open although the process that issued them is gone, and records them as in
    /// doubt. Holds of such calls stay: what may have been spent counts as spent. Returns the new ones.
    fn sweep(&self, now_ms: i64) -> impl Future<Output = Result<Vec<CallRecord>, LedgerFault>> + Send;

    /// Records a finding about a call in doubt, a person's or by its system's record: whether it happened. Settles
    /// its holds accordingly. The entries are appended when there was such a call.
    fn resolve(
        &self,
        call: &CallId,
        outcome: CallOutcome,
        settlement: Settlement,
        now_ms: i64,
        entries: Vec<NewEntry>,
    ) -> impl Future<Output = Result<bool, LedgerFault>> + Send;

    /// Finds one request.
    fn approval(
        &self,
        approval: &ApprovalId,
    ) -> impl Future<Output = Result<Option<ApprovalRecord>, LedgerFault>> + Send;

    /// Lists requests in any of these states, oldest first; an empty list means all states.
    fn approvals(
        &self,
        states: &[ApprovalState],
        limit: u32,
    ) -> impl Future<Output = Result<Vec<ApprovalRecord>, LedgerFault>> + Send;

    /// Lists requests that wait and whose time was over at `now_ms` (Unix milliseconds UTC), those that ended first before the
    /// others.
    fn overdue(
        &self,
        now_ms: i64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<ApprovalRecord>, LedgerFault>> + Send;

    /// Finds one issued call.
    fn call(&self, call: &CallId) -> impl Future<Output = Result<Option<CallRecord>, LedgerFault>> + Send;

    /// Counts the requests of an agent that wait for people.
    fn waiting(&self, agent: &AgentId) -> impl Future<Output = Result<u64, LedgerFault>> + Send;

    /// Finds the newest write of an agent with this digest that is in doubt, or else whose doubt was settled as something that
    /// happened and that was closed after `since_ms` (Unix milliseconds UTC).
    fn doubted(
        &self,
        agent: &AgentId,
        digest: CallDigest,
        since_ms: i64,
    ) -> impl Future<Output = Result<Option<CallRecord>, LedgerFault>> + Send;

    /// Lists issued calls in a state, newest first: in the order in which they were issued, whatever clocks said. `None`
    /// means all states.
    fn calls(
        &self,
        state: Option<CallState>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<CallRecord>, LedgerFault>> + Send;

    /// Returns the newest request of an agent about a call of this normal form
    /// ([`Alike::normal`](countersign_rules::approval::Alike::normal), the first of `forms`), or about the very call of this
    /// digest (the second), that people refused and that would not have expired yet.
    fn refused(
        &self,
        agent: &AgentId,
        forms: (CallDigest, CallDigest),
        now_ms: i64,
    ) -> impl Future<Output = Result<Option<ApprovalRecord>, LedgerFault>> + Send;

    /// Lists the requests of an agent that people answered, newest first: those about calls of this shape
    /// ([`Alike::shape`](countersign_rules::approval::Alike::shape)), and those about other calls of this tool that they refused.
    /// It returns at most [`ANSWERED_MAX`] of each.
    fn answered(
        &self,
        agent: &AgentId,
        tool: &ToolName,
        shape: CallDigest,
    ) -> impl Future<Output = Result<Vec<ApprovalRecord>, LedgerFault>> + Send;

    /// Lists the halts in force.
    fn halts(&self) -> impl Future<Output = Result<Vec<HaltRecord>, LedgerFault>> + Send;

    /// Lists the balances of every account that was ever used, newest day first.
    fn balances(
        &self,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<(BudgetAccount, Balance)>, LedgerFault>> + Send;

    /// Gives a number that changes whenever an approval, a call or a halt changed, in this process or, where several share the
    /// ledger, in another (within a second).
    fn changes(&self) -> watch::Receiver<u64>;
}

/// A standing is what the ledger knows that matters for deciding a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// This halt stops the agent, if there is one.
    pub halted: Option<HaltRecord>,
    /// The session did so much so far, calls under way included.
    pub session: Counters,
    /// The agent did so much in the current UTC day, calls under way included.
    pub agent_today: Counters,
    /// This number moves whenever `session` or `agent_today` do; see [`Intent::if_history`].
    pub history: u64,
    /// This is the agent's newest request for this digest, final or not, in whichever session it was asked: an equal call is a
    /// retry of it.
    pub request: Option<ApprovalRecord>,
    /// This is true if people may have refused the agent something and that still holds: see [`Ledger::refused`].
    pub refusals: bool,
}

/// An approver is shown so many answers to like calls of each kind.
pub const ANSWERED_MAX: usize = 5;

/// A decision looks at so many grants at most.
pub const GRANTS_MAX: usize = 10;

/// A bond says what an agent's idempotency key stands for: one call, and what came of it.
///
/// One key stands for one call of one agent, whichever operation comes first: it is bound in the transaction that issues,
/// parks or refuses the call, so that of equal calls at the same time one is issued. It is kept for a time, and forgotten
/// by pruning alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Bond {
    /// The key is one of this agent.
    pub agent: AgentId,
    /// The agent sent this key.
    pub key: IdempotencyKey,
    /// The call has this digest: another call under the key is refused.
    pub digest: CallDigest,
    /// The key stands for this call.
    pub call: CallId,
    /// The call waits for this request, or has spent it.
    pub approval: Option<ApprovalId>,
    /// The call was refused so, where it was neither issued nor parked.
    pub refusal: Option<Refusal>,
    /// It happened at this time, in Unix milliseconds UTC.
    pub at_ms: i64,
}

impl Bond {
    /// Makes the bond of a call, where it has a key.
    #[must_use]
    pub fn of(call: &StoredCall, approval: Option<&ApprovalId>, at_ms: i64) -> Option<Self> {
        Some(Self {
            agent: call.requester.agent.clone(),
            key: call.key.clone()?,
            digest: call.digest,
            call: call.id.clone(),
            approval: approval.cloned(),
            refusal: None,
            at_ms,
        })
    }

    /// Makes the bond of the same key with a request that was there before its call: the key stands for that one's call.
    #[must_use]
    pub fn joining(self, request: &ApprovalRequest) -> Self {
        Self { call: request.call.id.clone(), approval: Some(request.id.clone()), ..self }
    }

    /// Tells whether this one may take the place of what the key stands for: it is about the same call, or about the one that
    /// the call replaces.
    #[must_use]
    pub fn follows(&self, before: Option<&Self>, replaces: Option<&CallId>) -> bool {
        before.is_none_or(|before| before.call == self.call || replaces == Some(&before.call))
    }
}

/// A parking holds a call that is to wait for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Parking {
    /// People are asked by this request.
    pub request: ApprovalRequest,
    /// The call takes the place of this one under its idempotency key.
    pub replaces: Option<CallId>,
    /// This request ends in the same transaction, and must be waiting until then.
    pub makes_way: Option<MakesWay>,
    /// Approvers are shown this evidence, which is kept beside the log.
    pub evidence: Option<Evidence>,
    /// The call has this effect.
    pub effect: Effect,
    /// These entries are appended when the request is new.
    pub entries: Vec<NewEntry>,
}

/// An intent says what must be durable before the system is touched.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// This call is to be performed.
    pub call: StoredCall,
    /// The call acts on this system.
    pub system: SystemName,
    /// The system keeps this record of calls: see [`Tool::journal`](crate::Tool::journal).
    pub journal: Option<String>,
    /// The call has this effect.
    pub effect: Effect,
    /// The call was decided by this decision.
    pub decision: DecisionId,
    /// These rates are taken, each with the key that its instant is stored under.
    pub rates: Vec<(String, Rate)>,
    /// These amounts are to be reserved of budgets.
    pub holds: Vec<HoldRequest>,
    /// The call may touch at most so many rows, which are counted at once and corrected when it is closed.
    pub rows: u64,
    /// The call moves this money, which is counted at once and corrected when the call is closed.
    pub amount: Option<Money>,
    /// If set, the intent is refused with [`NotIssued::HistoryMoved`] unless [`Standing::history`] is still this: a
    /// decision that looked at counters stands only while they do.
    pub if_history: Option<u64>,
    /// The call spends this approval.
    pub approval: Option<ApprovalId>,
    /// The call takes one of the calls that were granted with this request, and has this shape.
    pub grant: Option<(ApprovalId, CallDigest)>,
    /// The call takes the place of this one under its idempotency key.
    pub replaces: Option<CallId>,
    /// It happened at this time, in Unix milliseconds UTC.
    pub now_ms: i64,
    /// These entries are appended with the intent.
    pub entries: Vec<NewEntry>,
}

impl Intent {
    /// Tells whether the call may be issued beside what its idempotency key stands for already.
    ///
    /// # Errors
    /// Fails with [`NotIssued::KeyTaken`], unless people have granted this very call: what its key stands for since is
    /// another matter.
    pub fn beside(&self, taken: Box<Bond>) -> Result<(), NotIssued> {
        if self.approval.is_some() { Ok(()) } else { Err(NotIssued::KeyTaken(taken)) }
    }
}

/// An intent is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issued {
    /// The holds of this call set off this halt. The call itself still goes ahead.
    pub halted: Option<HaltRecord>,
}

/// An intent was not recorded for one of these reasons. Nothing was taken, held, counted or appended.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotIssued {
    /// The agent is halted.
    #[error("{0}")]
    Halted(HaltRecord),
    /// A rate refuses.
    #[error(transparent)]
    RateLimited(#[from] TooOften),
    /// A budget refuses.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The counters that the decision looked at have moved.
    #[error("the session's history has moved since the decision")]
    HistoryMoved,
    /// The idempotency key stands for another call already.
    #[error("the idempotency key stands for call `{}`", .0.call)]
    KeyTaken(Box<Bond>),
    /// The approval is not in the state approved: used already, expired, superseded.
    #[error("the approval is {}", .0.as_str())]
    ApprovalSpent(ApprovalState),
    /// Nothing is left of what people granted: used up, ended, over, or never given for such a call.
    #[error("nothing is left of the grant")]
    GrantSpent,
    /// The ledger failed.
    #[error(transparent)]
    Fault(#[from] LedgerFault),
}

/// A call was not parked for one of these reasons. Nothing was appended.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotParked {
    /// The idempotency key stands for another call already.
    #[error("the idempotency key stands for call `{}`", .0.call)]
    KeyTaken(Box<Bond>),
    /// The request that was to make way for this one is not waiting any more.
    #[error("the request that was to make way is {}", .0.as_str())]
    Moved(ApprovalState),
    /// The ledger failed.
    #[error(transparent)]
    Fault(#[from] LedgerFault),
}

/// A caller that closes a call says with this whether it waits for the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The caller waits until the outcome is durable.
    Durable,
    /// The caller waits until the outcome is queued: a crash may leave the call in doubt. This is for reads.
    Queued,
}

/// A closing is an outcome to record.
#[derive(Debug, Clone, PartialEq)]
pub struct Closing {
    /// This call has ended.
    pub call: CallId,
    /// The call has come to this.
    pub outcome: CallOutcome,
    /// The call has really used this.
    pub settlement: Settlement,
    /// It happened at this time, in Unix milliseconds UTC.
    pub now_ms: i64,
    /// These entries are appended with the outcome.
    pub entries: Vec<NewEntry>,
}

/// A person's answer was not recorded for one of these reasons.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotAnswered {
    /// There is no such request.
    #[error("no request of that id")]
    NotFound,
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] AnswerRefusal),
    /// What the person makes of the call, or a look at it, is refused.
    #[error("{0}")]
    Call(Box<Refusal>),
    /// The ledger failed.
    #[error(transparent)]
    Fault(#[from] LedgerFault),
}

/// The ledger failed. Messages carry no user data and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFault {
    /// It could not be reached or could not write; nothing was kept.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
    /// The commit was sent and its answer never came; it may have been kept.
    #[error("the ledger did not confirm: {0}")]
    Unknown(String),
    /// It holds something that cannot be read.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
}

/// The key under which a session's counters are kept: a session belongs to one agent.
#[must_use]
pub fn session_key(agent: &AgentId, session: &SessionId) -> String {
    format!("{agent}/{session}")
}
