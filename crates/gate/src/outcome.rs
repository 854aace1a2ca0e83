//! What became of a call, and issued calls as they are kept.

use countersign_rules::{
    ApprovalId, ApprovalState, CallId, Code, DecisionId, Effect, StoredCall, SystemName,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An outcome says what became of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum CallOutcome {
    /// The call was performed. `reply` is what the agent gets.
    Done {
        /// The tool replied this.
        reply: Value,
    },
    /// The call was not performed, or was rolled back: no effect. `superseded` says that it exceeded its approval.
    Failed {
        /// The refusal has this stable code.
        code: Code,
        /// Why.
        message: String,
        /// This is true if the approval that the call spent is superseded by that.
        superseded: bool,
    },
    /// Performed, and its result was rejected.
    DoneWithoutResult {
        /// This does not fit.
        message: String,
    },
    /// It was in doubt until an equal call was sent under its id and done: the system performed both once, and what came of it
    /// is told, counted and charged there. A request that it spent is superseded.
    SentAgain {
        /// The call that is done.
        by: CallId,
        /// This says so in words.
        message: String,
    },
    /// Nobody knows what became of the call.
    InDoubt {
        /// This was seen, without secrets.
        message: String,
    },
}

impl CallOutcome {
    /// The state a call with this outcome is in.
    #[must_use]
    pub const fn state(&self) -> CallState {
        match self {
            Self::Done { .. } | Self::DoneWithoutResult { .. } => CallState::Done,
            Self::Failed { .. } | Self::SentAgain { .. } => CallState::Failed,
            Self::InDoubt { .. } => CallState::InDoubt,
        }
    }

    /// Words why nothing is done under this outcome's own call, where that is so.
    #[must_use]
    pub fn why_not(&self) -> Option<&str> {
        match self {
            Self::Failed { message, .. } | Self::SentAgain { message, .. } => Some(message),
            Self::Done { .. } | Self::DoneWithoutResult { .. } | Self::InDoubt { .. } => None,
        }
    }

    /// The state an approval is in once the call that spent it has this outcome.
    #[must_use]
    pub const fn approval_state(&self) -> ApprovalState {
        match self {
            Self::Done { .. } | Self::DoneWithoutResult { .. } => ApprovalState::Done,
            Self::Failed { superseded: true, .. } | Self::SentAgain { .. } => ApprovalState::Superseded,
            Self::Failed { superseded: false, .. } => ApprovalState::Failed,
            Self::InDoubt { .. } => ApprovalState::InDoubt,
        }
    }
}

/// A state says where an issued call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// The intent is recorded, the outcome is not, and the process that issued the call is alive.
    Open,
    /// The call was performed.
    Done,
    /// The call was not performed, or was rolled back.
    Failed,
    /// Nobody knows what became of the call.
    InDoubt,
}

impl CallState {
    /// Returns the word used in the store and in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::InDoubt => "in_doubt",
        }
    }
}

/// A call that was issued is kept so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The call.
    pub call: StoredCall,
    /// The system it acts on.
    pub system: SystemName,
    /// The record of calls that the system kept then, where it kept one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
    /// The call has this effect.
    pub effect: Effect,
    /// The decision it stands on.
    pub decision: DecisionId,
    /// The call spent this approval.
    pub approval: Option<ApprovalId>,
    /// It stands so now.
    pub state: CallState,
    /// The call has come to this.
    pub outcome: Option<CallOutcome>,
    /// The call was issued at this time, in Unix milliseconds UTC.
    pub issued_ms: i64,
    /// The call was closed at this time, in Unix milliseconds UTC.
    pub closed_ms: Option<i64>,
    /// The call touched or returned so many rows.
    pub rows: u64,
    /// This is true if the call was ever a write in doubt.
    #[serde(default)]
    pub doubted: bool,
}

impl CallRecord {
    /// Returns true if it is a write that may or may not have happened: its equals wait for it, and it is found by that from
    /// then on.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.state == CallState::InDoubt && self.effect >= Effect::Write
    }
}
