//! What may happen.
//!
//! This crate answers one question, [`decide()`]: given a call, the facts gathered about it and the
//! policies in force, is it allowed, must a person be asked, or is it denied. Budgets, rates and
//! approvals have their arithmetic here too.
//!
//! It is pure and says so to the compiler: `no_std` without clock, randomness, environment, files,
//! sockets or threads. What it needs is an argument, so equal inputs give equal decisions and every
//! logged decision can be computed again.
#![no_std]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod agent;
pub mod answering;
pub mod approval;
pub mod arguments;
pub mod budget;
pub mod call;
pub mod category;
pub mod charge;
mod context;
mod decide;
pub mod decision;
pub mod effect;
mod entity;
pub mod explain;
pub mod facts;
pub mod grant;
pub mod id;
pub mod matrix;
pub mod memory;
mod mentions;
pub mod money;
mod named;
pub mod narrowing;
mod observed;
pub mod policy;
pub mod rate;
pub mod reach;
pub mod refusal;
#[cfg(test)]
mod sample;
pub mod scenario;
pub mod schema;
pub mod settlement;
mod slice;
pub mod source;
pub mod tool;
mod unfit;
mod warning;

pub use agent::AgentSpec;
pub use approval::{AnswerVerb, ApprovalRequest, ApprovalState, Signature};
pub use arguments::{Arguments, BadSchema, ResultSchema, split_reason};
pub use call::{
    Call, CallDigest, IdempotencyKey, Narrowed, RawCall, Requester, RetryKey, StoredCall, TraceParent,
};
pub use decide::{decide, recompute};
pub use decision::{Allow, Ask, AskOf, Decision, Deny, DenyReason};
pub use effect::{DeclaredEffect, Effect};
pub use explain::{Explanation, FindingOutcome, PolicyFinding, explain};
pub use facts::{ApprovalFact, Counters, Facts, StatementFacts};
pub use grant::{Grant, GrantBound, GrantEnd, GrantTerms};
pub use id::{
    AgentId, ApprovalId, BundleDigest, CallId, ChannelName, DecisionId, GroupName, PasskeyId, PersonId,
    PolicyId, ProviderName, SessionId, SliceDigest, SystemName, TeamName, ToolName, ToolVersion,
};
pub use matrix::{Matrix, matrix};
pub use memory::{DecisionKey, Memory, Verdict};
pub use money::{Currency, Money};
pub use named::{Misnamed, Vocabulary};
pub use observed::Observed;
pub use policy::Policies;
pub use reach::Reach;
pub use refusal::{Code, Refusal};
pub use scenario::{
    Amount, BadCase, BadScenario, Deployment, Foretold, Mismatch, Observer, Question, Scenario,
    ScenarioReport,
};
pub use source::{Layer, PolicyError, PolicyErrors, PolicySource};
pub use tool::{SystemSpec, ToolSpec};
pub use warning::HeldBySession;
