//! Which rows are still what the call left, so that they can go back.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params_from_iter};

use super::kept::KeptCall;
use crate::sql::{
    cascade::quoted,
    change::RowChange,
    journal::Undone,
    mask::Mask,
    sqlite::{
        fault::SqliteFault,
        image::{Cell, RowImage, Shape},
        statements::Statements,
    },
};

/// Rows that can go back, by their place among the entries, with the hidden rowid they have now.
pub(super) type Open = BTreeMap<usize, Option<i64>>;

impl KeptCall {
    /// Compares the rows with what the call left. Returns those that can go back as well: by their place, with
    /// the rowid they have now where no column shows it.
    pub(super) fn compared(
        &self,
        connection: &Connection,
        mask: &Mask,
    ) -> Result<(Undone, Open), SqliteFault> {
        let mut undone = Undone::default();
        let mut same = Open::new();
        let mut left: BTreeMap<&str, BTreeSet<&Vec<Cell>>> = BTreeMap::new();
        for entry in &self.entries {
            if let Some(new) = entry.change.after() {
                left.entry(&entry.table).or_default().insert(&new.cells);
            }
        }
        let counted = counted(connection)?;
        let mut readers = RowReader::new(connection);
        for (at, entry) in self.entries.iter().enumerate() {
            let there =
                |row: &RowImage, readers: &mut RowReader<'_>| readers.row(&entry.table, &entry.shape, row);
            let mut rowid = None;
            let unchanged = match &entry.change {
                RowChange::Inserted(new) | RowChange::Updated { new, .. } => there(new, &mut readers)?
                    .is_some_and(|row| {
                        rowid = row.rowid;
                        row.cells == new.cells
                    }),
                // It was deleted. Where the call put another row with its key, that one is an entry too.
                RowChange::Deleted(old) => there(old, &mut readers)?.is_none_or(|row| {
                    left.get(entry.table.as_str()).is_some_and(|rows| rows.contains(&row.cells))
                }),
            };
            let counts = if unchanged { &mut undone.restored } else { &mut undone.changed };
            let count = counts.entry(entry.table.clone()).or_insert(0);
            *count = count.saturating_add(1);
            if unchanged {
                same.insert(at, rowid);
                if matches!(entry.change, RowChange::Inserted(_)) && counted.contains(&entry.table) {
                    let shape = &entry.shape;
                    let columns = shape.key.iter().filter_map(|at| shape.columns.get(*at)).cloned();
                    undone.counters.insert(entry.table.clone(), columns.collect());
                }
            } else {
                entry.example(&mut undone, mask);
            }
        }
        Ok((undone, same))
    }
}

/// The tables whose numbers a counter gives (`AUTOINCREMENT`), as far as it has given any.
fn counted(connection: &Connection) -> Result<BTreeSet<String>, SqliteFault> {
    let there = "SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'";
    if !connection.prepare_cached(there)?.exists([])? {
        return Ok(BTreeSet::new());
    }
    let mut statement = connection.prepare_cached("SELECT lower(name) FROM main.sqlite_sequence")?;
    let tables = statement.query_map([], |row| row.get(0))?;
    Ok(tables.collect::<rusqlite::Result<_>>()?)
}

/// Reads rows by their primary keys.
pub(super) struct RowReader<'c>(Statements<'c>);

impl<'c> RowReader<'c> {
    pub(super) const fn new(connection: &'c Connection) -> Self {
        Self(Statements::new(connection))
    }

    /// The row that has the key of this one now.
    pub(super) fn row(
        &mut self,
        table: &str,
        shape: &Shape,
        row: &RowImage,
    ) -> Result<Option<RowImage>, SqliteFault> {
        let statement = self.0.get(table, "read", || {
            format!("SELECT {} FROM {} WHERE {}", shape.listed(), quoted(table), shape.by_key())
        })?;
        let mut found = statement.query(params_from_iter(shape.key_of(row)))?;
        Ok(found.next()?.map(|row| shape.row(row)).transpose()?)
    }
}
