//! What a call is by its form alone: its canonical arguments, and what it is seen to do. No facts, no decision.
//!
//! The gate reads every call here, and so do those who ask beforehand what a call would be: scenarios and explanations.

use countersign_rules::{
    Code, Observed, Refusal,
    arguments::{split_reason, without_nulls},
};
use serde_json::Value;

use crate::tool::{Parsed, Tool};

/// The canonical arguments of a call may have at most so many bytes: they stand in one log entry.
pub const ARGUMENTS_BYTES_MAX: usize = 32 * 1024;

/// A form is what a call is by its arguments alone.
#[derive(Debug)]
pub struct Form<A> {
    /// The arguments without the reason, as they will be performed.
    pub arguments: Value,
    /// This is the same in canonical form (RFC 8785).
    pub canonical: String,
    /// The agent says that the call is for this.
    pub reason: Option<String>,
    /// The tool made this of the arguments.
    pub parsed: A,
    /// The call is seen to do this.
    pub observed: Observed,
}

impl<A> Form<A> {
    /// Reads arguments as a call of a tool.
    ///
    /// # Errors
    /// A [`Refusal`]: the arguments do not fit, are too large, or do more than the tool is declared to do.
    pub fn read<T: Tool<Args = A>>(tool: &T, arguments: Value) -> Result<Self, Refusal> {
        let spec = tool.spec();
        let (arguments, reason) = split_reason(arguments)?;
        let arguments = without_nulls(&spec.arguments, arguments);
        let canonical = countersign_audit::canonical::to_canonical_string(&arguments)
            .map_err(|why| Refusal::new(Code::InvalidArguments, why.to_string()))?;
        let size = canonical.len();
        if size > ARGUMENTS_BYTES_MAX {
            let message = format!("the arguments have {size} bytes, more than {ARGUMENTS_BYTES_MAX}");
            return Err(Refusal::new(Code::InvalidArguments, message).help("send less in one call"));
        }
        let Parsed { args, effect, categories, statement, reversible } = tool.parse(&arguments)?;
        let observed = Observed { effect, categories, statement, reversible }.of(spec)?;
        Ok(Self { arguments, canonical, reason, parsed: args, observed })
    }
}
