//! What acts on a system.

use std::{collections::BTreeSet, future::Future, sync::Arc};

use countersign_rules::{CallId, Effect, Money, Reach, Refusal, StatementFacts, ToolSpec};
use serde_json::Value;

pub use crate::evidence::{Evidence, Sample};
use crate::{
    likeness::Likeness,
    vault::Upkeep,
    warrant::{Probe, Warrant},
};

/// A tool is one narrow, typed operation on one system.
///
/// Contract: `parse` and `spec` are pure. `measure` leaves no trace. `perform` is the only
/// method with an effect, and it has that effect at most once per warrant; it stays within
/// [`Warrant::limits`] (rows, rows of each table, money), or does nothing. All may run concurrently.
pub trait Tool: Send + Sync + 'static {
    /// The tool makes this of the arguments.
    type Args: Send + Sync + 'static;

    /// Tells what the tool is declared to be.
    fn spec(&self) -> &Arc<ToolSpec>;

    /// Checks the arguments (schema first) and sees what the call would do.
    ///
    /// # Errors
    /// A [`Refusal`] that names the argument and the rule.
    fn parse(&self, arguments: &Value) -> Result<Parsed<Self::Args>, Refusal>;

    /// Tells what makes other calls the same as this one to people, however they are spelled.
    fn likeness(&self, _args: &Self::Args, arguments: &Value) -> Likeness {
        Likeness::of(arguments)
    }

    /// Tells whether arguments that were changed from the first to the second make a call that does less and nothing else, as far
    /// as its author declares that.
    fn takes_away(&self, _from: &Value, _to: &Value) -> bool {
        false
    }

    /// Tells whether the reach of such a call can be measured at all.
    fn measurable(&self, args: &Self::Args) -> bool;

    /// Measures what the call would touch, without changing anything.
    fn measure(
        &self,
        probe: Probe<'_, Self::Args>,
    ) -> impl Future<Output = Result<Measured, MeasureError>> + Send;

    /// Runs the call and takes it back, so that all that it touches is counted: what triggers do as well.
    /// Only asked for by a policy, or by a person who is asked about the call, and of one that is not forbidden.
    ///
    /// # Errors
    /// [`MeasureError::NotMeasurable`] where such a call cannot be taken back in whole, or its system must not be
    /// used for it.
    fn rehearse(
        &self,
        _probe: Probe<'_, Self::Args>,
    ) -> impl Future<Output = Result<Measured, MeasureError>> + Send {
        std::future::ready(Err(MeasureError::NotMeasurable("such calls cannot be taken back".into())))
    }

    /// Performs the call under its warrant, and keeps within it.
    fn perform(
        &self,
        warrant: Warrant<Self::Args>,
    ) -> impl Future<Output = Result<Performed, ToolError>> + Send;

    /// The earlier call that such a call takes back, if that is what it does. The log says so of that one.
    fn undoes(&self, _args: &Self::Args) -> Option<CallId> {
        None
    }

    /// Tells what taking back left as it was, or brought back otherwise, as the log may say it: numbers and names,
    /// and no value of any row. None when everything is as before.
    fn not_undone(&self, _reply: &Value) -> Option<Value> {
        None
    }

    /// Names the record of its calls that the system keeps now. It stands in the intent of a write, so that what
    /// became of the call is asked of that record and of no other; [`Tool::perform`] holds to [`Warrant::journal`].
    /// None where there is none, or none can be learnt.
    fn journal(&self, _upkeep: &Upkeep) -> impl Future<Output = Option<String>> + Send {
        std::future::ready(None)
    }

    /// Asks the system what became of a call whose outcome was lost. Where the answer is
    /// [`Recalled::Never`], the system itself sees to it that the call cannot take effect any more.
    ///
    /// # Errors
    /// [`MeasureError`] when the system could not be asked; the call then stays in doubt.
    fn recall(
        &self,
        _upkeep: &Upkeep,
        _doubt: &Doubt,
    ) -> impl Future<Output = Result<Recalled, MeasureError>> + Send {
        std::future::ready(Ok(Recalled::Unknown))
    }
}

/// A call whose outcome was lost, and what is known for judging whoever tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The call.
    pub call: CallId,
    /// The record that it would stand in: [`Tool::journal`] when it was issued.
    pub journal: Option<String>,
    /// A call that took effect on the same system under the same record, the newest known. A record without
    /// it has forgotten, and what it has not is no proof.
    pub witness: Option<CallId>,
}

/// A system tells with this what it knows of a call whose outcome was lost.
#[derive(Debug, Clone, PartialEq)]
pub enum Recalled {
    /// It keeps no record of calls.
    Unknown,
    /// The call happened.
    Happened {
        /// The call touched so many rows.
        rows: u64,
        /// The call moved this money.
        amount: Option<Money>,
    },
    /// It did not happen, and the system refuses it from now on.
    Never,
}

/// A call's arguments as the tool understands them, and what it is seen to do.
#[derive(Debug)]
pub struct Parsed<A> {
    /// The tool made this of the arguments.
    pub args: A,
    /// The call is seen to have this effect. More than the tool declares is refused by the gate.
    pub effect: Effect,
    /// The call is seen to be of these categories, beside the declared ones.
    pub categories: BTreeSet<String>,
    /// The statement does this, where the agent writes one.
    pub statement: Option<StatementFacts>,
    /// This is true if this very call can be undone. It counts only with the tool's own declaration.
    pub reversible: bool,
}

/// A reach was measured, and stands here with evidence for the approver.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The call would reach this far.
    pub reach: Reach,
    /// Approvers see these few of the rows, masked. They are kept beside the log, never in it.
    pub sample: Option<Sample>,
}

/// A reach is not known for one of these reasons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// Calls of this form cannot be measured.
    #[error("{0}")]
    NotMeasurable(String),
    /// The system refused the call itself, and would refuse it again: a column that is not there, a grant
    /// that is missing.
    #[error("{0}")]
    Rejected(String),
    /// Measuring hit its own limit of time, locks or concurrency.
    #[error("measuring stopped: {0}")]
    Limit(String),
    /// The system could not be reached.
    #[error("{0}")]
    System(String),
}

/// A tool tells with this what became of a call that it performed.
#[derive(Debug, Clone, PartialEq)]
pub struct Performed {
    /// The system replied this, and it fits the declared schema.
    pub reply: Value,
    /// So many rows were touched by a write, or returned by a read.
    pub rows: u64,
    /// The call moved this money.
    pub amount: Option<Money>,
}

/// A call has no result for one of these reasons. Each variant says what is known about the effect.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ToolError {
    /// The system refused it, and nothing was changed.
    #[error("{message}")]
    Failed {
        /// The system said this, without secrets.
        message: String,
    },
    /// The system could not be reached, and nothing was changed.
    #[error("{message}")]
    Unavailable {
        /// This failed, without secrets.
        message: String,
    },
    /// It would touch more rows or move more money than the warrant allows, and nothing was changed.
    #[error("the call touches more than was allowed")]
    Exceeded {
        /// The call would have touched this; it is a lower bound unless exact.
        reach: Box<Reach>,
    },
    /// The effect may or may not have happened.
    #[error("{message}")]
    InDoubt {
        /// This was seen, without secrets.
        message: String,
    },
    /// The effect happened, and the system's answer breaks the declared result or a limit.
    #[error("{message}")]
    ResultRejected {
        /// This does not fit.
        message: String,
        /// The call touched so many rows.
        rows: u64,
        /// The call moved this money.
        amount: Option<Money>,
    },
}
