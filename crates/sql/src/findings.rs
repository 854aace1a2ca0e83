//! The sum of what a walk has found so far. Findings only ever get stricter.

use std::collections::BTreeSet;

use crate::statement::{Bound, Category, Effect, FunctionRef, Reason, Statement, TableRef, Verb};

#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) effect: Effect,
    pub(crate) categories: BTreeSet<Category>,
    pub(crate) reads: BTreeSet<TableRef>,
    pub(crate) writes: BTreeSet<TableRef>,
    /// Relations that the text does not name: read through views, policies and partitions.
    pub(crate) reads_through: BTreeSet<TableRef>,
    /// The same, written: through views, cascades and partitions.
    pub(crate) writes_through: BTreeSet<TableRef>,
    pub(crate) functions: BTreeSet<FunctionRef>,
    pub(crate) bounded: Bound,
    pub(crate) parameters: BTreeSet<String>,
    pub(crate) reasons: Vec<Reason>,
}

impl Findings {
    /// Raises the effect and says why.
    pub(crate) fn raise(
        &mut self,
        effect: Effect,
        categories: &[Category],
        code: &'static str,
        text: impl Into<String>,
    ) {
        self.effect = self.effect.max(effect);
        self.categories.extend(categories);
        self.note(code, text);
    }

    /// Adds a reason without raising the effect.
    pub(crate) fn note(&mut self, code: &'static str, text: impl Into<String>) {
        let reason = Reason { code, text: text.into() };
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// The weakest bound of several counts.
    pub(crate) fn bound(&mut self, bound: Bound) {
        self.bounded = self.bounded.max(bound);
    }

    pub(crate) fn into_statement(mut self, verb: Verb) -> Statement {
        let mut named = self.reads.clone();
        named.extend(self.writes.iter().cloned());
        self.reads.append(&mut self.reads_through);
        self.writes.append(&mut self.writes_through);
        Statement {
            named,
            effect: self.effect,
            locks: self.categories.contains(&Category::Lock),
            categories: self.categories,
            verb,
            reads: self.reads,
            writes: self.writes,
            functions: self.functions,
            bounded: self.bounded,
            parameters: self.parameters,
            reasons: self.reasons,
        }
    }
}
