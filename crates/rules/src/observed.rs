//! What a call is seen to do, and how that goes together with what its tool declares.

use alloc::{collections::BTreeSet, format, string::String};

use crate::{
    effect::Effect,
    facts::StatementFacts,
    refusal::{Code, Refusal},
    tool::ToolSpec,
};

/// What a call is seen to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// How strong it is.
    pub effect: Effect,
    /// What it touches.
    pub categories: BTreeSet<String>,
    /// What its statement does, where the agent writes one.
    pub statement: Option<StatementFacts>,
    /// Whether it can be undone.
    pub reversible: bool,
}

impl Observed {
    /// Together with what the tool declares: the stricter of both.
    ///
    /// # Errors
    /// A [`Refusal`] when it does more than the tool is declared to do.
    pub fn of(mut self, spec: &ToolSpec) -> Result<Self, Refusal> {
        if self.effect > spec.effect.ceiling() {
            let message = format!(
                "the call is seen to be `{}`, and tool `{}` is declared to be no more than `{}`",
                self.effect,
                spec.name,
                spec.effect.ceiling()
            );
            return Err(Refusal::new(Code::StatementRefused, message)
                .help("the tool's author must declare the effect that its calls have"));
        }
        self.effect = self.effect.max(spec.effect.floor());
        self.categories.extend(spec.categories.iter().cloned());
        self.reversible &= spec.reversible;
        Ok(self)
    }
}
