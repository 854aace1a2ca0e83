//! How far rows are from what they were, after undoing.

use std::collections::BTreeMap;

use countersign_sql::TableRef;

use crate::sql::{columns::Columns, statement::Scope};

/// How far rows are from what they were, after undoing.
#[derive(Default)]
pub(in crate::sql::postgres) struct Departure {
    /// A table of which other rows changed than should.
    pub(super) rows: Option<String>,
    /// Columns that are not what they were in rows that are back.
    pub(super) columns: Vec<OtherColumn>,
}

/// How a trigger keeps out of an undo.
const STANDS_ASIDE: &str = "a trigger stands aside with the condition \
    `WHEN (coalesce(current_setting('countersign.undoes', true), '') = '')`";

/// A column that is not what it was in so many rows.
pub(super) struct OtherColumn {
    pub(super) table: TableRef,
    pub(super) column: String,
    pub(super) generated: bool,
    pub(super) rows: u64,
}

impl Departure {
    /// What a generated column shows follows from others.
    fn not_accepted<'d>(&'d self, accepted: &Columns) -> impl Iterator<Item = &'d OtherColumn> {
        self.columns
            .iter()
            .filter(|other| !other.generated && !accepted.name(&other.table.name, &other.column))
    }

    pub(in crate::sql::postgres) fn refused(&self, accepted: &Columns) -> bool {
        self.rows.is_some() || self.not_accepted(accepted).next().is_some()
    }

    /// Says why an undo is not done.
    pub(super) fn message(&self, accepted: &Columns) -> String {
        let (found, names) = match self.found(accepted) {
            Ok(found) => found,
            Err(why) => return format!("{why}; {STANDS_ASIDE}; nothing was changed"),
        };
        format!(
            "undoing would bring everything back but {found}, which a trigger writes again; accept that with \
             `rewritten` = `{}` (`--rewritten`, or in the system's journal), or {STANDS_ASIDE}; nothing was changed",
            names.join(",")
        )
    }

    /// Says why a call is not done that could not be undone so.
    pub(in crate::sql::postgres) fn foretold(&self, accepted: &Columns) -> String {
        let (found, names) = match self.found(accepted) {
            Ok(found) => found,
            Err(why) => return format!("{why}; {STANDS_ASIDE}"),
        };
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        format!(
            "a trigger has the last word in {found}; the system's author accepts that with `rewritten = [{}]` in its journal, or \
             leaves `reversible` out of the tool; or {STANDS_ASIDE}",
            names.join(", ")
        )
    }

    /// The columns that are not what they were, in words and by name; or that it is more than columns.
    fn found(&self, accepted: &Columns) -> Result<(String, Vec<String>), String> {
        if let Some(table) = &self.rows {
            return Err(format!(
                "undoing would not bring table `{table}` back to what it was, because a trigger or foreign key \
                 changes rows along with it"
            ));
        }
        let (mut found, mut names) = (Vec::new(), Vec::new());
        for OtherColumn { table, column, rows, .. } in self.not_accepted(accepted) {
            found.push(format!("column `{column}` of table `{table}` in {rows} rows"));
            names.push(format!("{}.{column}", table.name));
        }
        Ok((found.join(", "), names))
    }

    pub(super) fn told(self, scope: &Scope) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut told: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for OtherColumn { table, column, rows, .. } in self.columns {
            told.entry(scope.settled(&table).to_string()).or_default().insert(column, rows);
        }
        told
    }
}
