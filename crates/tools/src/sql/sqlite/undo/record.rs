//! Keeps what undoing changed, so that undoing can be undone.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::{
    compare::{Open, RowReader},
    kept::{KeptCall, broken},
};
use crate::sql::{
    cascade::ActingKey,
    change::RowChange,
    journal::Mark,
    sqlite::{
        fault::SqliteFault,
        image::{Cell, RowImage, Shape},
        journal::{Insert, layouts_of},
        orphans::Orphans,
    },
};

impl KeptCall {
    /// Reads every row back, and keeps it: undoing can be undone.
    pub(super) fn keep(
        &self,
        connection: &Connection,
        mark: &Mark,
        open: &Open,
        bytes_max: u64,
    ) -> Result<(), SqliteFault> {
        let mut readers = RowReader::new(connection);
        let mut insert = Insert::new(connection, mark)?;
        let mut orphans = Orphans::new(connection)?;
        let mut bytes = 0_u64;
        for (at, rowid) in open {
            let Some(entry) = self.entries.get(*at) else { continue };
            let left = |new: &RowImage| RowImage { rowid: *rowid, cells: new.cells.clone() };
            let mut back = |old: &RowImage| {
                let found = readers.row(&entry.table, &entry.shape, old)?;
                // INVARIANT: a row that is said to be restored is what it was.
                found.filter(|row| row.cells == old.cells).ok_or_else(|| {
                    let why = format!("a row of `{}` could not be put back as it was", entry.table);
                    SqliteFault::Argument(why)
                })
            };
            let change = match &entry.change {
                RowChange::Inserted(new) => RowChange::Deleted(left(new)),
                RowChange::Deleted(old) => RowChange::Inserted(back(old)?),
                RowChange::Updated { old, new } => RowChange::Updated { old: left(new), new: back(old)? },
            };
            for row in change.before().into_iter().chain(change.after()) {
                bytes = bytes.saturating_add(u64::try_from(row.size()).unwrap_or(u64::MAX));
            }
            if bytes > bytes_max {
                return Err(SqliteFault::Argument(format!(
                    "the rows kept for undo would take more than {bytes_max} bytes (`bytes_max` of the system's journal)"
                )));
            }
            let stood = |key: &ActingKey| self.stood(open, key);
            let dangling = orphans.was(&entry.table, &entry.shape, &change, stood)?;
            insert.row(&entry.table, &change, dangling)?;
        }
        insert.finish()?;
        let shapes: BTreeMap<&str, &Shape> =
            self.shapes.iter().map(|(table, shape)| (table.as_str(), &**shape)).collect();
        let shapes = serde_json::to_string(&shapes).map_err(|_unwritable| broken(&self.call))?;
        layouts_of(connection, mark, &shapes)?;
        connection.execute(
            "UPDATE countersign_call SET undone_by = ?2 WHERE id = ?1",
            (self.call.as_str(), mark.call.as_str()),
        )?;
        // What this call had undone is done again.
        if let Some(undid) = &self.undid {
            connection.execute(
                "UPDATE countersign_call SET undone_by = NULL WHERE id = ?1 AND undone_by = ?2",
                (undid, self.call.as_str()),
            )?;
        }
        Ok(())
    }

    /// Tells what the call left in the columns of a parent.
    fn stood(&self, open: &Open, key: &ActingKey) -> BTreeSet<Vec<Cell>> {
        let Some(shape) = self.shapes.get(&key.parent.name) else { return BTreeSet::new() };
        let entries = open.keys().filter_map(|at| self.entries.get(*at));
        let rows = entries.filter(|e| e.table == key.parent.name).filter_map(|e| e.change.after());
        rows.filter_map(|row| shape.compared(&key.parent_columns, row)).collect()
    }
}
