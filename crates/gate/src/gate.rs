//! The gate: from a proposed call to its answer, along one path.
//!
//! Every front door, the worker that performs granted calls, and undo end up in `Gate::drive` ([`path`]). There
//! is no second place from which a tool acts than `Gate::act` ([`effect`]).

mod case;
mod doubt;
mod effect;
mod measure;
mod narrow;
mod path;
mod refusal;
mod refusals;
mod repeat;
mod request;
mod room;
mod session;
mod stop;
mod window;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use countersign_rules::{
    Code, GrantTerms, RawCall, Refusal, Requester, SystemName, ToolSpec, budget::Budget, policy::Policies,
};
use futures::future::BoxFuture;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

pub use self::{
    doubt::NotRecalled,
    narrow::{AskedPerson, Narrowing},
};
use self::{refusals::Refusals, session::Sessions};
pub use crate::refusals::RefusalCount;
use crate::{
    answer::{Answer, Refused},
    clock::{Clock, Entropy},
    entry::NewEntry,
    ledger::{ApprovalRecord, HaltRecord, HaltScope, Ledger, LedgerFault},
    tool::Tool,
    vault::Upkeep,
};

/// The gate enforces these limits beside the policies.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Budgets that calls are charged to.
    pub budgets: Vec<Budget>,
    /// A granted approval stays good for this time after its last signature, in milliseconds.
    pub grant_ms: u64,
    /// So many requests of one agent may wait for people at a time.
    pub open_requests_max: u32,
    /// So many idempotency keys of one agent are kept at a time.
    pub keys_max: u32,
    /// So many refused calls of one agent are recorded one by one within a minute. Further ones are counted.
    pub refusals_max: u32,
    /// One agent may begin so many sessions within a minute.
    pub sessions_max: u32,
}

/// This knows the people who approve: the gate has only their signatures.
pub trait Signers: Send + Sync {
    /// Tells whether those who approved a request would be enough to approve it now: they may sign in, and are in the groups
    /// that are asked.
    ///
    /// # Errors
    /// [`LedgerFault`], and then nothing is covered.
    fn still_approve<'a>(&'a self, record: &'a ApprovalRecord) -> BoxFuture<'a, Result<bool, LedgerFault>>;
}

/// A person who approves a call offers to let so many calls like it run, for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantOffer {
    /// So many further calls.
    pub calls: u32,
    /// For this time from the answer on, in milliseconds.
    pub ms: u64,
}

impl GrantOffer {
    fn terms(self, at_ms: i64) -> GrantTerms {
        GrantTerms {
            calls: self.calls,
            until_ms: at_ms.saturating_add(i64::try_from(self.ms).unwrap_or(i64::MAX)),
        }
    }
}

/// The gate is the one path from a call to an effect.
pub struct Gate<L> {
    ledger: Arc<L>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    policies: RwLock<Arc<Policies>>,
    settings: Settings,
    under_way: TaskTracker,
    refusals: Refusals,
    sessions: Sessions,
    /// This is told each request that this process has found unanswered in time.
    expired: OnceLock<Expired>,
    signers: OnceLock<Arc<dyn Signers>>,
}

/// This is told a request that nobody answered in time, once it has ended.
type Expired = Box<dyn Fn(&ApprovalRecord) + Send + Sync>;

impl<L> std::fmt::Debug for Gate<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

impl<L: Ledger> Gate<L> {
    /// Makes a gate over a ledger.
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
            refusals: Refusals::default(),
            sessions: Sessions::default(),
            expired: OnceLock::new(),
            signers: OnceLock::new(),
        })
    }

    /// Tells `told` each request that this process ends because nobody answered in time, once: to count it. Only the first
    /// one that is given is told.
    pub fn when_expired(&self, told: impl Fn(&ApprovalRecord) + Send + Sync + 'static) {
        drop(self.expired.set(Box::new(told)));
    }

    /// Tells the gate who knows whether those who gave a grant may still approve. Until then no grant covers anything. Only
    /// the first one counts.
    pub fn ask_signers(&self, signers: Arc<dyn Signers>) {
        if self.signers.set(signers).is_err() {
            tracing::warn!("the gate knows already whom to ask about signers");
        }
    }

    /// Returns the ledger behind the gate, to read from.
    pub fn ledger(&self) -> &Arc<L> {
        &self.ledger
    }

    /// Returns the policies in force.
    pub fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other policies in force, from the next decision on.
    pub fn replace_policies(&self, policies: Arc<Policies>) {
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = policies;
    }

    /// Returns what the gate is set to.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes the authority to look after the connection to a tool's system.
    #[must_use]
    pub fn upkeep(&self, spec: &ToolSpec) -> Upkeep {
        Upkeep::new(spec.system.name.clone())
    }

    /// Makes the authority to look at what a system offers before there is a tool on it, and before there is a
    /// ledger.
    #[must_use]
    pub fn review(system: &SystemName) -> Upkeep {
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

    /// Returns how many calls are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
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
        // Boxed: a task is moved several times before it runs, and a path is some kilobytes long.
        let task = Box::pin(async move { gate.propose(&*tool, requester, raw).await });
        match self.under_way.spawn(task.instrument(span)).await {
            Ok(answer) => answer,
            Err(_) => internal("the call failed inside the gate"),
        }
    }

    /// The span in which a call is performed whose request people have granted.
    #[must_use]
    pub fn granted_span(record: &ApprovalRecord) -> tracing::Span {
        tracing::info_span!(
            "call",
            otel.name = format!("execute_tool {}", record.request.call.tool),
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = %record.request.call.tool,
            gen_ai.agent.id = %record.request.call.requester.agent,
            gen_ai.conversation.id = %record.request.call.requester.session,
            gen_ai.tool.call.id = %record.request.call.id,
            countersign.approval = %record.request.id,
            countersign.status = tracing::field::Empty,
        )
    }

    /// Performs a call whose request people have granted, in its [`Gate::granted_span`] or another one. The stored call is
    /// parsed and decided again.
    pub async fn perform_granted<T: Tool>(
        self: &Arc<Self>,
        tool: &Arc<T>,
        record: ApprovalRecord,
        span: tracing::Span,
    ) -> Answer {
        if self.under_way.is_closed() {
            return shutting_down();
        }
        let (gate, tool) = (Arc::clone(self), Arc::clone(tool));
        let task = Box::pin(async move { gate.grant(&*tool, record).await });
        match self.under_way.spawn(task.instrument(span)).await {
            Ok(answer) => answer,
            Err(_) => internal("the call failed inside the gate"),
        }
    }

    /// Halts an agent, or all, from the next decision on. Returns the halt in force, which is an earlier one
    /// where there is one.
    ///
    /// # Errors
    /// [`LedgerFault`], and then nothing is halted.
    pub async fn halt(&self, scope: HaltScope, by: &str, why: &str) -> Result<HaltRecord, LedgerFault> {
        let halt =
            HaltRecord { scope, why: why.to_owned(), by: by.to_owned(), since_ms: self.clock.now_ms() };
        let entry = NewEntry::halted(&halt);
        // A crash before this is durable leaves nothing halted, and whoever asked was not told that it is; after it,
        // the halt holds for all replicas and all starts.
        self.ledger.halt(halt, entry).await
    }

    /// Ends a halt. Returns whether there was one.
    ///
    /// # Errors
    /// [`LedgerFault`], and then the halt stays.
    pub async fn resume(&self, scope: &HaltScope, by: &str) -> Result<bool, LedgerFault> {
        let entry = NewEntry::resumed(self.clock.now_ms(), scope, by);
        // A crash before this is durable leaves the halt; after it, the agents go on, whether or not whoever asked was
        // told.
        self.ledger.resume(scope, entry).await
    }
}

fn internal(message: &str) -> Answer {
    let refusal = Refusal::new(Code::Internal, message);
    Answer::Refused(Refused::new(None, None, refusal))
}

fn shutting_down() -> Answer {
    let refusal = Refusal::new(Code::ShuttingDown, "the server is shutting down and takes no new calls")
        .help("try again in a moment");
    Answer::Refused(Refused::new(None, None, refusal))
}
