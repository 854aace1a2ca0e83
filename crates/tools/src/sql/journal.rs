//! What is kept in the target's own database: which calls took effect, and what rows were before them.
//!
//! The record of a call is written first in its own transaction, under its id, and committed with it. So the
//! database itself knows afterwards whether a call happened; and one whose process is gone can be fenced off
//! by taking its id, for its own record can then no longer be written (see [`Recalled::Never`]).
//!
//! [`Recalled::Never`]: countersign_gate::Recalled::Never

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use countersign_gate::{Doubt, MeasureError, Measured, Recalled, Sample};
use countersign_rules::{Call, CallId, Reach};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{columns::Columns, tally::sum};

/// The schema in which a PostgreSQL database keeps calls. No statement of a tool may name it.
pub(crate) const SCHEMA: &str = "countersign";

/// How the names of the journal's tables in a SQLite file begin, in lower case. No statement of a tool may touch such a table.
pub(crate) const RESERVED: &str = "countersign_";

/// Tells whether a name is that of a table of the journal in a SQLite file, or might become one.
pub(crate) fn reserved(table: &str) -> bool {
    table.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED))
}

/// Where a system keeps no journal.
pub(crate) const NO_JOURNAL: &str = "the system keeps no journal of calls";

/// How many times as long as a statement undoing one may take: each row is read, compared, changed, kept and
/// compared again.
pub(crate) const UNDO_PATIENCE: u64 = 10;

/// Says why undoing was broken off.
pub(crate) fn impatient(timeout_ms: u64) -> String {
    format!(
        "undoing took longer than {timeout_ms} ms, {UNDO_PATIENCE} times `statement_timeout_ms` of the system; nothing was \
         changed; it may take longer where that is raised"
    )
}

/// Under which name a write is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The call.
    pub(crate) call: CallId,
    /// The tool, for people who look into the journal.
    pub(crate) tool: String,
    /// The call's digest, in hexadecimal.
    pub(crate) digest: String,
    /// The journal that the call's intent names: under this one it is kept, or it does not happen.
    pub(crate) journal: Option<String>,
    /// Whether the rows it changes are kept, so that it can be undone. Where they cannot all be kept, the
    /// call is rolled back: what the rules were told is reversible, is.
    pub(crate) images: bool,
}

impl Mark {
    /// The mark of a call.
    pub(crate) fn new<A>(call: &Call<A>, images: bool, journal: Option<&str>) -> Self {
        Self {
            call: call.id.clone(),
            tool: call.tool.name.to_string(),
            digest: call.digest.to_string(),
            journal: journal.map(ToOwned::to_owned),
            images,
        }
    }
}

/// Which journal a database keeps: learnt once, and again after another was met.
///
/// It is written `name@place`. The name is random, made when the database was prepared, and copied with it; the
/// place tells copies apart, as far as they can be.
#[derive(Debug, Default)]
pub(crate) struct KnownJournal(Mutex<Option<Arc<str>>>);

impl KnownJournal {
    pub(crate) fn get(&self) -> Option<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, journal: Option<Arc<str>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = journal;
    }
}

/// Says why nothing is said of a call whose record stands in the journal before it was performed: the ledger that it is performed
/// from is an older one, and the call has happened from the newer one.
pub(crate) fn recorded(call: &CallId) -> String {
    format!(
        "the record of call `{call}` stands in the database's journal already: it was performed before, from a ledger that this \
         one is an older state of; nothing was changed now"
    )
}

/// Says why a call is not performed: the journal that it finds is not that of its intent.
pub(crate) fn elsewhere(intended: Option<&str>, found: &str) -> String {
    match intended {
        Some(intended) => format!(
            "the database keeps journal `{found}`, and the call was recorded for `{intended}`: its address leads \
             elsewhere now, or another server took over; nothing was changed, propose it again"
        ),
        None => {
            "which journal the database keeps was not known when the call was recorded; nothing was changed, \
                 propose it again"
                .into()
        }
    }
}

/// What a journal testifies of a call in doubt.
pub(crate) struct Testimony<'s> {
    /// The journal that was asked.
    pub(crate) journal: &'s str,
    /// Its record of the call: how many rows, or that it was fenced off.
    pub(crate) record: Option<Recalled>,
    /// Whether it has the record of [`Doubt::witness`]. True where there is none to ask for.
    pub(crate) has_witness: bool,
}

impl Testimony<'_> {
    /// Tells what is to be believed of it: what became of the call, or nothing because the journal has no record of
    /// it and never had one. Then, and only then, it may be fenced off.
    ///
    /// A record counts in any copy of the journal, for it was copied from where the call took effect. That there
    /// is none counts only in the very place that the call was for, and only if nothing was forgotten there.
    pub(crate) fn believed(self, doubt: &Doubt) -> Result<Option<Recalled>, String> {
        let name = |journal: &str| journal.split_once('@').map(|(name, _)| name.to_owned());
        let Some(intended) = &doubt.journal else { return Ok(Some(Recalled::Unknown)) };
        let (found, call) = (self.journal, &doubt.call);
        if name(intended) != name(found) {
            return Err(format!(
                "the database keeps journal `{found}`, and call `{call}` was recorded for `{intended}`: its address \
                 leads to another database, which knows nothing of it"
            ));
        }
        if let Some(record) = self.record {
            return Ok(Some(record));
        }
        if intended != found {
            return Err(format!(
                "journal `{found}` has no record of call `{call}`, and is a copy of `{intended}` or was taken over by \
                 another server: that it is missing there proves nothing"
            ));
        }
        if let Some(witness) = doubt.witness.as_ref().filter(|_| !self.has_witness) {
            return Err(format!(
                "journal `{found}` has no record of call `{call}`, and none of call `{witness}` either, which took effect: \
                 it was brought back to an older state, and what is missing there proves nothing"
            ));
        }
        Ok(None)
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

/// What is to be undone, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undoing {
    /// The call.
    pub(crate) call: CallId,
    /// What is done about rows that changed since.
    pub(crate) on_change: OnChange,
    /// Columns of which triggers may have the last word.
    pub(crate) rewritten: Columns,
}

/// What undoing a call comes to: measured before, and done after.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Undone {
    /// Rows that go back to what they were, by table.
    pub(crate) restored: BTreeMap<String, u64>,
    /// Rows that changed since, by table, and are left as they are.
    pub(crate) changed: BTreeMap<String, u64>,
    /// Keys of a few of the rows that changed since, as `table (key)`, masked.
    pub(crate) examples: Vec<String>,
    /// Rows that went back but for a column that a trigger writes, by table and column.
    pub(crate) rewritten: BTreeMap<String, BTreeMap<String, u64>>,
    /// Columns, by table, whose numbers a counter of the database gives that the call may have moved. It is left where it
    /// is: somebody may have been told a number, and one that is given twice means two things.
    pub(crate) counters: BTreeMap<String, BTreeSet<String>>,
}

/// The caller of an undo tool is told this of what it came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoReply {
    /// The call that was undone.
    pub undone: CallId,
    /// So many rows went back to what they were, by table.
    pub restored: BTreeMap<String, u64>,
    /// So many rows changed since, by table, and were left as they are.
    pub changed_since: BTreeMap<String, u64>,
    /// Keys of a few of the rows that changed since, as `table (key)`, masked.
    pub examples: Vec<String>,
    /// So many rows went back but for a column that a trigger writes, by table and column.
    pub rewritten: BTreeMap<String, BTreeMap<String, u64>>,
    /// Columns, by table, whose numbers a counter of the database gives that the call may have moved: it stays where it is.
    pub counters: BTreeMap<String, BTreeSet<String>>,
}

/// Writes what an approver reads beside a row that the call has put in. `counters`: the columns whose numbers a counter gives.
pub(crate) fn goes_away(counters: Option<&BTreeSet<String>>) -> String {
    match counters {
        None => "goes away".into(),
        Some(columns) => {
            let columns: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
            format!("goes away, and the counter of {} stays where it is", columns.join(", "))
        }
    }
}

/// What an approver reads beside a row that comes back.
pub(crate) const COMES_BACK: &str = "comes back";
/// What an approver reads beside a row that goes back to what it was.
pub(crate) const GOES_BACK: &str = "goes back to";

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
    /// Says why it is not done: rows changed since, and they are not to be skipped.
    pub(crate) fn refusal(&self, undoing: &Undoing) -> Option<String> {
        let changed = sum(&self.changed);
        if changed == 0 || undoing.on_change == OnChange::Skip {
            return None;
        }
        Some(format!(
            "{changed} rows changed since call `{call}` ({}); with `on_change` = `skip` they stay as they are, and {} others go back",
            self.examples.join(", "),
            sum(&self.restored),
            call = undoing.call,
        ))
    }

    /// Tells what undoing would touch, for the rules and the approver. The very number: the rows are known by name.
    pub(crate) fn measured(
        &self,
        undoing: &Undoing,
        triggers: Vec<String>,
        sample: Option<Sample>,
    ) -> Result<Measured, MeasureError> {
        if let Some(why) = self.refusal(undoing) {
            return Err(MeasureError::NotMeasurable(why));
        }
        if self.restored.is_empty() {
            let why = format!("nothing is left to undo of call `{}`", undoing.call);
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

    /// Writes what the caller is told.
    pub(crate) fn reply(&self, call: &CallId) -> Value {
        let Self { restored, changed: changed_since, examples, rewritten, counters } = self.clone();
        let reply =
            UndoReply { undone: call.clone(), restored, changed_since, examples, rewritten, counters };
        // Texts and numbers by texts: nothing of it can fail to be JSON.
        serde_json::to_value(reply).unwrap_or_default()
    }
}
