//! What is kept in the target's own database: which calls took effect, and what rows were before them.
//!
//! The record of a call is written first in its own transaction, under its id, and committed with it. So the
//! database itself knows afterwards whether a call happened; and one whose process is gone can be fenced off
//! by taking its id, for its own record can then no longer be written (see [`Recalled::Never`]).
//!
//! [`Recalled::Never`]: countersign_gate::Recalled::Never

use std::collections::BTreeMap;

use countersign_gate::{MeasureError, Measured, Sample};
use countersign_rules::{Call, CallId, Reach};
use serde_json::{Value, json};

use super::statement::sum;

/// Where a system keeps no journal.
pub(crate) const NO_JOURNAL: &str = "the system keeps no journal of calls";

/// Under which name a write is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The call.
    pub(crate) call: CallId,
    /// The tool, for people who look into the journal.
    pub(crate) tool: String,
    /// The call's digest, in hexadecimal.
    pub(crate) digest: String,
    /// Whether the rows it changes are kept, so that it can be undone. Where they cannot all be kept, the
    /// call is rolled back: what the rules were told is reversible, is.
    pub(crate) images: bool,
}

impl Mark {
    /// The mark of a call.
    pub(crate) fn new<A>(call: &Call<A>, images: bool) -> Self {
        Self {
            call: call.id.clone(),
            tool: call.tool.name.to_string(),
            digest: call.digest.to_string(),
            images,
        }
    }
}

/// What is done about rows that changed since the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnChange {
    /// Nothing is undone.
    Refuse,
    /// They stay as they are now; the others are undone.
    Skip,
}

/// What undoing a call comes to: measured before, and done after.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Undone {
    /// Rows that go back to what they were, by table.
    pub(crate) restored: BTreeMap<String, u64>,
    /// Rows that changed since, by table, and are left as they are.
    pub(crate) changed: BTreeMap<String, u64>,
    /// Keys of a few of the rows that changed since, as `table (key)`.
    pub(crate) examples: Vec<String>,
}

/// How many keys of changed rows are told.
pub(crate) const EXAMPLES_MAX: usize = 5;

impl OnChange {
    /// The word for it in the arguments of a call.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Skip => "skip",
        }
    }

    /// Reads the word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Refuse, Self::Skip].into_iter().find(|known| known.word() == word)
    }
}

impl Undone {
    /// Why it is not done: rows changed since, and they are not to be skipped.
    pub(crate) fn refusal(&self, call: &CallId, on_change: OnChange) -> Option<String> {
        let changed = sum(&self.changed);
        if changed == 0 || on_change == OnChange::Skip {
            return None;
        }
        Some(format!(
            "{changed} rows changed since call `{call}` ({}); with `on_change` = `skip` they stay as they are, and {} others go back",
            self.examples.join(", "),
            sum(&self.restored),
        ))
    }

    /// What undoing would touch, for the rules and the approver. The very number: the rows are known by name.
    pub(crate) fn measured(
        &self,
        call: &CallId,
        on_change: OnChange,
        triggers: Vec<String>,
        sample: Option<Sample>,
    ) -> Result<Measured, MeasureError> {
        if let Some(why) = self.refusal(call, on_change) {
            return Err(MeasureError::NotMeasurable(why));
        }
        if self.restored.is_empty() {
            let why = format!("nothing is left to undo of call `{call}`");
            return Err(MeasureError::NotMeasurable(why));
        }
        let reach = Reach {
            rows: sum(&self.restored),
            exact: true,
            tables: self.restored.clone(),
            triggers,
            ..Reach::default()
        };
        Ok(Measured { reach, sample })
    }

    /// What the caller is told.
    pub(crate) fn reply(&self, call: &CallId) -> Value {
        json!({
            "undone": call,
            "restored": self.restored,
            "changed_since": self.changed,
            "examples": self.examples,
        })
    }
}
