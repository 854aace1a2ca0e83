//! Columns by name.

use std::collections::BTreeSet;

/// Columns of tables, each named as `column` or `table.column`, in whatever case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Columns(BTreeSet<String>);

impl Columns {
    pub(crate) fn new<'c>(columns: impl IntoIterator<Item = &'c String>) -> Self {
        Self(columns.into_iter().map(|column| column.to_ascii_lowercase()).collect())
    }

    /// Names more, of whatever table.
    pub(crate) fn add<'c>(&mut self, columns: impl IntoIterator<Item = &'c String>) {
        self.0.extend(columns.into_iter().map(|column| column.to_ascii_lowercase()));
    }

    pub(crate) fn name(&self, table: &str, column: &str) -> bool {
        let (table, column) = (table.to_ascii_lowercase(), column.to_ascii_lowercase());
        self.0.contains(&format!("{table}.{column}")) || self.0.contains(&column)
    }
}
