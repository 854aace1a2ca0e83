//! What is written of a call that takes effect: the intent, the outcome, and what is found out later.

use std::borrow::Cow;

use countersign_rules::{
    ApprovalId, CallDigest, CallId, Code, DecisionId, Money, PersonId, SystemName, budget::HoldRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::Limits;

/// The intent to perform a call: once this is durable, and not before, the system may be touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarrantIssued<'a> {
    /// The decision that the warrant stands on.
    pub decision: Cow<'a, DecisionId>,
    /// The digest of the call.
    pub digest: CallDigest,
    /// The system that may be touched.
    pub system: Cow<'a, SystemName>,
    /// The call may go this far.
    pub limits: Cow<'a, Limits>,
    /// So much is held of budgets until the call is settled.
    pub holds: Vec<Held<'a>>,
    /// The system's own record of calls that this one takes effect under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Cow<'a, str>>,
    /// The request with which people granted such calls, where that is why this one may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Cow<'a, ApprovalId>>,
    /// The equal call in doubt under whose id this one is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_as: Option<Cow<'a, CallId>>,
}

/// One budget holds so much for the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held<'a> {
    /// The budget's name.
    pub budget: Cow<'a, str>,
    /// This amount is held, in the budget's unit.
    pub amount: u64,
}

impl<'a> Held<'a> {
    pub(super) fn of(hold: &'a HoldRequest) -> Self {
        Self { budget: Cow::Borrowed(&hold.account.budget), amount: hold.amount }
    }
}

/// A call has come to this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome<'a> {
    /// The call ended so.
    #[serde(flatten)]
    pub end: End<'a>,
    /// The call touched or returned so many rows. There is no number where that is not known or there were none to
    /// touch.
    pub rows: Option<u64>,
    /// The call moved this money.
    pub amount: Option<Money>,
    /// The call took this long from the decision on, in milliseconds.
    pub duration_ms: u64,
}

/// A call ends in one of these ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", content = "detail", rename_all = "snake_case")]
pub enum End<'a> {
    /// It was performed, and its agent has the result.
    Done {
        /// SHA-256 over the canonical form of the result, in hexadecimal.
        result_digest: Option<String>,
    },
    /// It was performed, and its result is withheld.
    DoneWithoutResult {
        /// This of the result does not fit.
        message: Cow<'a, str>,
    },
    /// The call had no effect.
    Failed {
        /// The code of the refusal.
        code: Code,
        /// It failed for this reason.
        message: Cow<'a, str>,
    },
    /// Another call was sent under its id, and its effect is counted there.
    SentAgain {
        /// The other call has this id.
        by: Cow<'a, CallId>,
        /// This is known of both.
        message: Cow<'a, str>,
    },
    /// It is not known whether it had its effect.
    InDoubt {
        /// This was seen, without secrets.
        message: Cow<'a, str>,
    },
}

impl End<'_> {
    /// Returns the word under which it stands in the log.
    #[must_use]
    pub const fn status(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::DoneWithoutResult { .. } => "done_without_result",
            Self::Failed { .. } => "failed",
            Self::SentAgain { .. } => "sent_again",
            Self::InDoubt { .. } => "in_doubt",
        }
    }
}

/// It is not known what became of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InDoubt<'a> {
    /// This was seen, without secrets.
    pub message: Cow<'a, str>,
}

/// It was found out what became of a call in doubt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtResolved<'a> {
    /// This is true if the call had its effect.
    pub happened: bool,
    /// That is known in this way.
    #[serde(flatten)]
    pub evidence: DoubtEvidence<'a>,
}

/// It is known in one of these ways what became of a call in doubt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "evidence", rename_all = "snake_case")]
pub enum DoubtEvidence<'a> {
    /// A person looked.
    Person {
        /// This person looked.
        person: Cow<'a, PersonId>,
        /// The person says this of it.
        comment: Cow<'a, str>,
    },
    /// The system keeps a record of calls, and that one tells.
    SystemRecord {
        /// The system.
        system: Cow<'a, SystemName>,
        /// The call touched so many rows, where it happened.
        rows: Option<u64>,
        /// The call moved this money, where it did.
        amount: Option<Money>,
    },
    /// Another call was sent under the id of this one and is done: the system performed it once, and it is counted there.
    SentAgain {
        /// The system.
        system: Cow<'a, SystemName>,
        /// The other call has this id.
        by: Cow<'a, CallId>,
    },
    /// It was a read, and had no effect whatever became of it.
    Read {
        /// The system.
        system: Cow<'a, SystemName>,
    },
}

/// A call was taken back by another one. Stands under the id of the earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undone<'a> {
    /// The call that took it back.
    pub by: Cow<'a, CallId>,
    /// The person whom that one acted for.
    pub on_behalf_of: Option<Cow<'a, PersonId>>,
    /// This could not be taken back: names and numbers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Value>,
}
