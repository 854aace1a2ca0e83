//! The rows that a call changes: kept as they were when SQLite first tells of them, and read again when the
//! statement has ended.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, hooks::PreUpdateCase};

use super::{
    cell::Cell,
    layout::{Identity, Layout, Locator, layouts},
    row::RowImage,
    shape::Shape,
};
use crate::sql::{cascade::quoted, change::RowChange, sqlite::fault::SqliteFault};

/// The rows that a call changes, as they were before it.
#[derive(Debug)]
pub(in crate::sql::sqlite) struct Images {
    /// Every ordinary table of the file, by its name in lower case.
    tables: BTreeMap<String, TableImages>,
    bytes: u64,
    bytes_max: u64,
    /// Why they are not complete.
    why_incomplete: Option<String>,
}

/// A table, and those of its rows that the call changes.
#[derive(Debug)]
struct TableImages {
    layout: Layout,
    rows: BTreeMap<Identity, Before>,
}

/// What a row was before the call.
#[derive(Debug)]
struct Before {
    /// The values of its key, where it has no rowid.
    key: Vec<Cell>,
    row: Option<RowImage>,
}

impl Images {
    /// None so far.
    pub(super) fn new(connection: &Connection, bytes_max: u64) -> rusqlite::Result<Self> {
        let tables = layouts(connection)?.into_iter();
        let tables = tables.map(|(name, layout)| (name, TableImages { layout, rows: BTreeMap::new() }));
        Ok(Self { tables: tables.collect(), bytes: 0, bytes_max, why_incomplete: None })
    }

    /// Keeps what a row is before it changes, unless they are incomplete already.
    pub(super) fn note(&mut self, table: &str, case: &PreUpdateCase) {
        if self.why_incomplete.is_none() {
            self.why_incomplete = self.keep(table, case).err();
        }
    }

    /// Says that not every row that changed was told. The first reason is the one that counts.
    pub(super) fn incomplete(&mut self, why: &str) {
        if self.why_incomplete.is_none() {
            self.why_incomplete = Some(why.to_owned());
        }
    }

    /// Keeps what a row is before it changes. Otherwise says why it cannot be kept.
    fn keep(&mut self, table: &str, case: &PreUpdateCase) -> Result<(), String> {
        let TableImages { layout, rows } =
            self.tables.get_mut(&table.to_ascii_lowercase()).ok_or_else(|| {
                format!("`{table}` is no ordinary table, so that its rows cannot be kept for undo")
            })?;
        if layout.shape.key.is_empty() {
            return Err(format!(
                "table `{table}` has no primary key, so that its rows cannot be kept for undo; give it one, or declare the tool `reversible = false`"
            ));
        }
        let lost = |error: rusqlite::Error| format!("a row of `{table}` could not be read: {error}");
        // What is told: the row there was (None where there was none), and how it is known.
        let (first, second) = match case {
            PreUpdateCase::Insert(new) => {
                let id =
                    layout.identity(new.get_new_row_id(), |at| new.get_new_column_value(at).map(Cell::new));
                ((id.map_err(lost)?, None), None)
            }
            PreUpdateCase::Delete(old) => {
                let read = |at| old.get_old_column_value(at).map(Cell::new);
                let id = layout.identity(old.get_old_row_id(), read).map_err(lost)?;
                let row = layout.read(old.get_old_row_id(), read).map_err(lost)?;
                ((id, Some(row)), None)
            }
            PreUpdateCase::Update { old_value_accessor: old, new_value_accessor: new } => {
                let read = |at| old.get_old_column_value(at).map(Cell::new);
                let id = layout.identity(old.get_old_row_id(), read).map_err(lost)?;
                let row = layout.read(old.get_old_row_id(), read).map_err(lost)?;
                let to = layout
                    .identity(new.get_new_row_id(), |at| new.get_new_column_value(at).map(Cell::new))
                    .map_err(lost)?;
                ((id, Some(row)), Some((to, None)))
            }
            PreUpdateCase::Unknown => return Err(format!("`{table}` changed in an unknown way")),
        };
        for ((id, key), row) in std::iter::once(first).chain(second) {
            // Only the first that is told of a row is what it was before the call.
            if rows.contains_key(&id) {
                continue;
            }
            let size = row.as_ref().map_or(32, RowImage::size);
            self.bytes = self.bytes.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
            if self.bytes > self.bytes_max {
                return Err(too_many(self.bytes_max));
            }
            rows.insert(id, Before { key, row });
        }
        Ok(())
    }

    /// The values that these columns of a table (in lower case) had before in the rows that changed.
    pub(in crate::sql::sqlite) fn stood(&self, table: &str, columns: &[String]) -> BTreeSet<Vec<Cell>> {
        let Some(TableImages { layout, rows }) = self.tables.get(table) else { return BTreeSet::new() };
        let rows = rows.values().filter_map(|before| before.row.as_ref());
        rows.filter_map(|row| layout.shape.compared(columns, row)).collect()
    }

    /// The shapes of the tables whose rows changed.
    pub(in crate::sql::sqlite) fn shapes(&self) -> BTreeMap<&str, &Shape> {
        self.changed().map(|(name, table)| (name, &table.layout.shape)).collect()
    }

    /// The tables whose rows changed.
    fn changed(&self) -> impl Iterator<Item = (&str, &TableImages)> {
        let tables = self.tables.iter().filter(|(_, table)| !table.rows.is_empty());
        tables.map(|(name, table)| (name.as_str(), table))
    }

    /// Reads what the rows are now, and hands over each that is not what it was, by table.
    pub(in crate::sql::sqlite) fn each(
        &self,
        connection: &Connection,
        mut keep: impl FnMut(&str, RowChange<RowImage>) -> Result<(), SqliteFault>,
    ) -> Result<(), SqliteFault> {
        if let Some(why) = &self.why_incomplete {
            return Err(SqliteFault::Argument(why.clone()));
        }
        let mut bytes = 0_u64;
        for (name, TableImages { layout, rows }) in self.changed() {
            let shape = &layout.shape;
            let condition = match &layout.known {
                Locator::Rowid(alias) => format!("{alias} = ?1"),
                Locator::Key => shape.by_key(),
                Locator::Not => return Err(SqliteFault::Argument(hidden(name))),
            };
            let sql = format!("SELECT {} FROM {} WHERE {condition}", shape.listed(), quoted(name));
            let mut statement = connection.prepare(&sql)?;
            for (id, before) in rows {
                let mut found = match id {
                    Identity::Rowid(rowid) => statement.query([rowid])?,
                    Identity::Key(_) => statement.query(rusqlite::params_from_iter(&before.key))?,
                };
                let new = found.next()?.map(|row| shape.row(row)).transpose()?;
                drop(found);
                let changed = (new != before.row).then(|| RowChange::between(before.row.clone(), new));
                let Some(change) = changed.flatten() else { continue };
                for row in change.after().into_iter().chain(change.before()) {
                    if shape.key_of(row).contains(&&Cell::Null) {
                        return Err(SqliteFault::Argument(format!(
                            "a row of `{name}` has NULL in its primary key, so that it cannot be kept for undo"
                        )));
                    }
                    bytes = bytes.saturating_add(u64::try_from(row.size()).unwrap_or(u64::MAX));
                }
                if bytes > self.bytes_max {
                    return Err(SqliteFault::Argument(too_many(self.bytes_max)));
                }
                let null = |at: &usize| change.before().and_then(|r| r.cells.get(*at)) == Some(&Cell::Null);
                if layout.required.iter().any(null) {
                    return Err(SqliteFault::Argument(format!(
                        "a row of `{name}` has NULL where its table allows none any more, so that it could not be put back"
                    )));
                }
                keep(name, change)?;
            }
        }
        Ok(())
    }
}

fn too_many(bytes_max: u64) -> String {
    format!(
        "the rows kept for undo would take more than {bytes_max} bytes (`bytes_max` of the system's journal); touch fewer rows at a time"
    )
}

fn hidden(table: &str) -> String {
    format!("the columns of `{table}` hide its rowid, so that its rows cannot be kept for undo")
}
