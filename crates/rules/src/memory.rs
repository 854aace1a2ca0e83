//! What a tool's policies said before, so that Cedar need not be asked the same again.
//!
//! Cedar is given the agent, the tool, and what of the context the policies look at. Where a [`DecisionKey`] holds all of
//! that, equal keys have equal answers. Never remembered is the answer of policies that look at arguments, history, the
//! time, a reach, a statement, an approval or a person; of an agent in other teams than the configured ones; or of a
//! policy that failed.
//!
//! Nothing here keeps anything: whoever loads policies may lend them a [`Memory`].

use alloc::{string::String, sync::Arc, vec::Vec};
use core::fmt;

use crate::{
    effect::Effect,
    id::{AgentId, PolicyId, ToolName},
    slice::Part,
};

/// A memory is a place for verdicts under one bundle of policies, and goes with it.
///
/// Contract: [`Memory::recall`] returns what was kept under an equal key, or nothing. Anything may be forgotten at any
/// time, and both may be called concurrently. How much is kept is bounded, whatever is asked.
pub trait Memory: fmt::Debug + Send + Sync {
    /// Returns the verdict that was kept under the key.
    fn recall(&self, key: &DecisionKey) -> Option<Arc<Verdict>>;
    /// Keeps a verdict under its key.
    fn keep(&self, key: DecisionKey, verdict: Arc<Verdict>);
}

/// A key holds everything that some of a tool's policies look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DecisionKey {
    pub(crate) tool: ToolName,
    pub(crate) agent: AgentId,
    pub(crate) part: Part,
    /// These are `None` where no policy looks.
    pub(crate) effect: Option<Effect>,
    pub(crate) reversible: Option<bool>,
    pub(crate) categories: Option<Vec<String>>,
}

/// A verdict is what Cedar says of some policies and one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub(crate) allows: bool,
    /// These policies decided, in the order of the bundle.
    pub(crate) policies: Vec<PolicyId>,
    /// These could not be evaluated, each by its id and in a sentence.
    pub(crate) failed: Vec<(String, String)>,
}
