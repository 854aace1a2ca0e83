//! The three answers, with what made them.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    grant::GrantBound,
    id::{GroupName, PolicyId},
    money::Money,
    reach::Reach,
};

/// The rules say one of these three things about a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Decision {
    /// It may run, within the obligations.
    Allow(Allow),
    /// People must approve first.
    Ask(Ask),
    /// It must not run, whoever approves.
    Deny(Deny),
}

impl Decision {
    /// Returns the word used in scenarios, log and exports.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow(_) => "allow",
            Self::Ask(_) => "ask",
            Self::Deny(_) => "deny",
        }
    }

    /// Returns the policies that decided; none where nothing permitted the call.
    #[must_use]
    pub fn policies(&self) -> &[PolicyId] {
        match self {
            Self::Allow(Allow { policies, .. })
            | Self::Ask(Ask { policies, .. })
            | Self::Deny(Deny { policies, .. }) => policies,
        }
    }
}

/// It may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// The permits that decided.
    pub policies: Vec<PolicyId>,
    /// The most rows it may touch: the approved reach, or the measured one where it was measured. Enforced
    /// in the tool's own transaction.
    pub rows_max: Option<u64>,
    /// The most rows it may touch in each table, where that was approved or measured; in a table that is
    /// not named, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<BTreeMap<String, u64>>,
    /// The most money it may move: the approved amount, or the measured one where it was measured. Enforced
    /// by the tool when it acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_max: Option<Money>,
}

impl Allow {
    /// A permission that goes no further than what was approved or measured, in all, in each table and in
    /// money.
    #[must_use]
    pub fn within(policies: Vec<PolicyId>, reach: Option<&Reach>) -> Self {
        Self {
            policies,
            rows_max: reach.map(|reach| reach.rows),
            tables: reach.map(|reach| reach.tables.clone()).filter(|tables| !tables.is_empty()),
            amount_max: reach.and_then(|reach| reach.amount),
        }
    }
}

/// People must approve first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The permits with `@ask` that decided.
    pub policies: Vec<PolicyId>,
    /// These groups are asked. Every one must be met.
    pub of: Vec<AskOf>,
}

impl Ask {
    /// The policy, if any, that wants the call rehearsed before people are asked.
    #[must_use]
    pub fn rehearsal(&self) -> Option<&PolicyId> {
        self.of.iter().find(|ask| ask.rehearse).map(|ask| &ask.policy)
    }
}

/// One group whose approval is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskOf {
    /// The group (`@ask`).
    pub group: GroupName,
    /// So many different people of the group must approve (`@quorum`, 1 if not said; at least 1).
    pub quorum: u32,
    /// The request stays open for this time, in milliseconds (`@deadline`, 15 minutes if not said).
    pub deadline_ms: u64,
    /// A person is asked for this reason (`@because`), which is shown to the approver and the agent.
    pub because: Option<String>,
    /// The policy that asks.
    pub policy: PolicyId,
    /// If true, the call is run and rolled back before people are asked, so that they see all that it touches
    /// (`@rehearse`).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub rehearse: bool,
    /// If true, who approves for another group that is asked counts for this one as well (`@distinct("false")`).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub shared: bool,
    /// Whoever approves may grant calls like this one so far beside it (`@grant`); nobody may where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantBound>,
    /// This policy wants whoever approves to confirm that with a passkey (`@step_up`); none does where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up: Option<PolicyId>,
}

/// Returns the policy, if any of those that ask does, that wants each approval confirmed with a passkey. What one policy wants
/// holds for whoever approves, also for a group that another one asks: they let the same call run.
#[must_use]
pub fn step_up(of: &[AskOf]) -> Option<&PolicyId> {
    of.iter().find_map(|ask| ask.step_up.as_ref())
}

/// Returns how far those who approve may grant calls like this one: no further than each of the policies that ask allows.
#[must_use]
pub fn grantable(of: &[AskOf]) -> Option<GrantBound> {
    let mut bounds = of.iter().map(|ask| ask.grant);
    let first = bounds.next()??;
    bounds.try_fold(first, |so_far, bound| Some(so_far.both(bound?)))
}

/// It must not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deny {
    /// The forbids that decided; empty when nothing permitted it or a policy failed.
    pub policies: Vec<PolicyId>,
    /// The call is denied for this reason.
    pub reason: DenyReason,
}

/// The rules say no for one of these reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum DenyReason {
    /// A policy forbids it. `message` is its `@because`, if it has one.
    Forbidden {
        /// The author of the policy gives this reason (`@because`).
        message: Option<String>,
    },
    /// No policy permits it.
    NothingPermits,
    /// A policy could not be evaluated, so nothing is allowed.
    EvaluationError {
        /// The policy and what failed, without user data.
        message: String,
    },
    /// The reach was not measured, and the policies named with the denial look at it: without it they
    /// would be silent.
    ReachUnknown,
    /// The request does not fit the schema that policies were checked against.
    InvalidRequest {
        /// This does not fit.
        message: String,
    },
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden { message } => f.write_str(message.as_deref().unwrap_or("a policy forbids it")),
            Self::NothingPermits => f.write_str("no policy permits it"),
            Self::ReachUnknown => f.write_str("its reach was not measured"),
            Self::EvaluationError { message } | Self::InvalidRequest { message } => f.write_str(message),
        }
    }
}
