//! What people must not see of the rows that a call touches.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{columns::Columns, value::shown};
use crate::secret::Scrubber;

/// Where the rows of a table come from, for who must not see all of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// The table, those that it is a part of, and those that are a part of it.
    pub(crate) tables: Vec<String>,
    /// Its columns.
    pub(crate) columns: Vec<String>,
    /// Those of them that the database computes from others.
    pub(crate) computed: Vec<String>,
    /// Whether its columns are those of something else, under any name: a view, a virtual table.
    pub(crate) unknown: bool,
}

/// What people must not see of rows: columns, and secrets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mask {
    columns: Columns,
    /// Whether every column is hidden.
    all: bool,
    /// Keeps secrets out of what is not hidden.
    scrubber: Scrubber,
}

impl Mask {
    pub(crate) fn new(columns: &BTreeSet<String>) -> Self {
        Self { columns: Columns::new(columns), ..Self::default() }
    }

    /// With these secrets kept out as well.
    pub(crate) fn keeping_out(&self, scrubber: Scrubber) -> Self {
        Self { scrubber, ..self.clone() }
    }

    /// For rows that a statement makes up: it may give a hidden column any name, so that where something is
    /// hidden everything is.
    pub(crate) fn of_made_up(&self) -> Self {
        Self { all: self.columns != Columns::default(), ..self.clone() }
    }

    /// Tells whether anything is hidden at all.
    pub(crate) fn is_empty(&self) -> bool {
        !self.all && self.columns == Columns::default()
    }

    /// As it applies to the rows of one table: a hidden column is hidden under the name of each table that these rows, or
    /// some of them, are rows of as well, and so is what is computed from one.
    pub(crate) fn of(&self, origin: &Origin) -> Self {
        if origin.unknown {
            return self.of_made_up();
        }
        let hidden = |column: &String| origin.tables.iter().any(|table| self.hides(table, column));
        let named = origin.columns.iter().filter(|column| hidden(column));
        let computed = origin.computed.iter().filter(|_| origin.columns.iter().any(hidden));
        let mut mask = self.clone();
        mask.columns.add(named.chain(computed));
        mask
    }

    pub(crate) fn hides(&self, table: &str, column: &str) -> bool {
        self.all || self.columns.name(table, column)
    }

    /// A value of a row as people may see it.
    pub(crate) fn shown(&self, table: &str, column: &str, value: Value) -> Option<String> {
        // Before it is cut, so that no half of a secret stays at the end.
        shown(&self.scrubber.redact_all(value), self.hides(table, column))
    }

    /// A text that the database has put together from a row.
    pub(crate) fn cleaned(&self, text: &str) -> String {
        self.scrubber.redact(text).into_owned()
    }
}
