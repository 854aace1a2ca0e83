//! What the agent is told. Waiting, refusal and doubt are different answers.

use countersign_rules::{ApprovalId, ApprovalState, AskOf, CallId, Reach, Refusal, StoredCall};
use serde_json::Value;

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It was performed.
    Done(Done),
    /// People must approve first.
    Pending(Pending),
    /// It was not performed, or its result is not known; the code says which.
    Refused(Refused),
}

impl Answer {
    /// Returns the status word: `done`, `pending`, `refused`, `expired`, `superseded`, `budget_exhausted`,
    /// `rate_limited`, `halted`, `blocked`, `in_doubt` or `failed`.
    #[must_use]
    pub const fn status(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Pending(_) => "pending",
            Self::Refused(refused) => refused.refusal.code.status(),
        }
    }

    /// Returns the answer to the call that was made out of another one, if it was.
    #[must_use]
    pub(crate) fn of_changed(mut self, call: &StoredCall) -> Self {
        match &mut self {
            Self::Done(done) => done.changed = Changed::of(call),
            Self::Pending(pending) => pending.changed = Changed::of(call),
            Self::Refused(_) => {}
        }
        self
    }

    /// Returns the same answer, to a repeat of its call.
    #[must_use]
    pub(crate) fn again(mut self) -> Self {
        match &mut self {
            Self::Done(done) => done.repeated = true,
            Self::Pending(pending) => pending.repeated = true,
            Self::Refused(refused) => refused.repeated = true,
        }
        self
    }
}

/// The call was performed.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The call has this id.
    pub call: CallId,
    /// The call stands on this approval, if it needed one.
    pub approval: Option<ApprovalId>,
    /// The tool replied this.
    pub reply: Value,
    /// The call touched or returned so many rows.
    pub rows: u64,
    /// People changed the call so before it was performed.
    pub changed: Option<Changed>,
    /// This is true if it was said of an earlier call, which this one repeats: nothing was done for the repeat.
    pub repeated: bool,
}

/// People changed a call: this is another one than the agent proposed.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The call has these arguments now.
    pub arguments: Value,
    /// It was changed for this reason.
    pub why: Option<String>,
}

impl Changed {
    fn of(call: &StoredCall) -> Option<Self> {
        let narrowed = call.narrowed.as_ref()?;
        Some(Self { arguments: call.arguments.clone(), why: narrowed.why.clone() })
    }
}

/// The call waits for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// The call has this id.
    pub call: CallId,
    /// This is the request to wait for.
    pub approval: ApprovalId,
    /// The request stands so: waiting, approved or executing.
    pub state: ApprovalState,
    /// These groups are asked, every one of them.
    pub of: Vec<AskOf>,
    /// The call was measured to reach this far.
    pub reach: Option<Reach>,
    /// The request expires at this time, in Unix milliseconds UTC.
    pub expires_ms: i64,
    /// People changed the call so.
    pub changed: Option<Changed>,
    /// This is true if it was said of an earlier call, which this one repeats: nothing was done for the repeat.
    pub repeated: bool,
}

/// The call has no result.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The call has this id, when it got as far as being one.
    pub call: Option<CallId>,
    /// The call belongs to this approval request, if there is one.
    pub approval: Option<ApprovalId>,
    /// The refusal says why there is no result, by which rule, and what would make the call pass.
    pub refusal: Refusal,
    /// This is true if it was said of an earlier call, which this one repeats: nothing was done for the repeat.
    pub repeated: bool,
}

impl Refused {
    /// Makes the answer of a call that has no result.
    #[must_use]
    pub const fn new(call: Option<CallId>, approval: Option<ApprovalId>, refusal: Refusal) -> Self {
        Self { call, approval, refusal, repeated: false }
    }
}
