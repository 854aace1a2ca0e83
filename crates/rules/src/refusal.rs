//! Refusals: normal answers to agent and human, with a stable code.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::id::PolicyId;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $word:literal),* $(,)?) => {
        /// A code is stable, and `docs/errors/<code>.md` explains it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $code)] $name),*
        }

        impl Code {
            /// These are all codes.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the code as written, such as `R004`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The status word that tells an agent what happened: different answers are different words.
            #[must_use]
            pub const fn status(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }
        }
    };
}

codes! {
    /// No tool of that name may be called by this agent.
    UnknownTool = "R001" "blocked",
    /// The arguments do not fit the tool's schema.
    InvalidArguments = "R002" "blocked",
    /// The statement cannot be parsed, is more than one, or leaves the tool's tables.
    StatementRefused = "R003" "blocked",
    /// A policy forbids it, nothing permits it, or a policy could not be evaluated.
    DeniedByPolicy = "R004" "blocked",
    /// The reach could not be measured where a rule or an approver needs it.
    ReachUnmeasurable = "R005" "blocked",
    /// The agent, or every agent, is halted.
    Halted = "R006" "halted",
    /// The tool is called too often.
    RateLimited = "R007" "rate_limited",
    /// A budget does not have room for it.
    BudgetExhausted = "R008" "budget_exhausted",
    /// A person refused it.
    ApprovalRefused = "R009" "refused",
    /// Nobody answered in time.
    ApprovalExpired = "R010" "expired",
    /// The approval no longer fits: tool, policy or reach changed since.
    ApprovalSuperseded = "R011" "superseded",
    /// A person must approve first.
    ApprovalPending = "R012" "pending",
    /// It would have touched more than was allowed, and was rolled back.
    ReachExceeded = "R013" "blocked",
    /// The tool is switched off, such as after its upstream definition changed.
    ToolSwitchedOff = "R014" "blocked",
    /// No valid credential was presented.
    Unauthenticated = "R015" "blocked",
    /// The credential does not reach that far.
    OutOfScope = "R016" "blocked",
    /// The server is shutting down and takes no new calls.
    ShuttingDown = "R017" "blocked",
    /// No approval, call or session of that id is visible to the caller.
    NotFound = "R018" "blocked",
    /// The answer to an approval request is not acceptable: already answered, own request, wrong group.
    AnswerRefused = "R019" "blocked",
    /// The request itself is malformed.
    Malformed = "R020" "blocked",
    /// The idempotency key was used for another call.
    KeyReused = "R021" "blocked",
    /// The ledger could not record, so nothing was done.
    LedgerUnavailable = "F001" "failed",
    /// The system could not be reached, and nothing was done.
    SystemUnavailable = "F002" "failed",
    /// The effect may or may not have happened.
    InDoubt = "F003" "in_doubt",
    /// The system refused or failed, and nothing was changed.
    ToolFailed = "F004" "failed",
    /// The system's answer does not fit the declared result or its limits; the effect happened.
    ResultRejected = "F005" "failed",
    /// The credential for the system could not be opened.
    CredentialUnavailable = "F006" "failed",
    /// Something of ours failed.
    Internal = "F007" "failed",
    /// It cannot be looked up now what became of a call, or whether it is one of before. This says nothing about
    /// whether anything was done.
    NotLookedUp = "F008" "unknown",
}

/// A refusal says what was refused, by which rule, and what would make it pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The refusal has this stable code.
    pub code: Code,
    /// This was refused, for this reason: a lower-case fragment with user input in backticks.
    pub message: String,
    /// This would make it pass, or is to be done next.
    pub help: Option<String>,
    /// These policies decided, where policies did.
    #[serde(default)]
    pub policies: Vec<PolicyId>,
    /// Trying again makes sense after this time, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// Returns a refusal with a message.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None, policies: Vec::new(), retry_after_ms: None }
    }

    /// Adds what would make it pass.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.message)?;
        if !self.policies.is_empty() {
            f.write_str(" (policy ")?;
            for (i, policy) in self.policies.iter().enumerate() {
                write!(f, "{}`{policy}`", if i == 0 { "" } else { ", " })?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl core::error::Error for Refusal {}
