//! What a call is seen to do, and how that goes together with what its tool declares.

use alloc::{collections::BTreeSet, format, string::String};

use crate::{
    effect::Effect,
    facts::StatementFacts,
    refusal::{Code, Refusal},
    tool::ToolSpec,
};

/// A call is seen to do this, by its form alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The call has this effect.
    pub effect: Effect,
    /// The call is of these categories, declared and seen.
    pub categories: BTreeSet<String>,
    /// The statement does this, where the agent writes one.
    pub statement: Option<StatementFacts>,
    /// This is true if the call can be undone.
    pub reversible: bool,
}

impl Observed {
    /// Puts it together with what the tool declares: the stricter of both.
    ///
    /// # Errors
    /// Returns a [`Refusal`] when it does more than the tool is declared to do.
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
