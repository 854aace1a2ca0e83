//! Puts rows back: what the call left is taken out, and what was there before is put in.

use std::collections::BTreeSet;

use rusqlite::{Connection, ErrorCode, params_from_iter};

use super::{
    compare::Open,
    kept::{KeptCall, KeptRow},
};
use crate::sql::{
    cascade::quoted,
    journal::{Mark, OnChange, Undone},
    mask::Mask,
    sqlite::{
        fault::SqliteFault,
        image::{Cell, RowImage},
        schema,
        statements::Statements,
    },
};

impl KeptCall {
    /// Puts the rows back, under the mark of the call that does so. Nothing is left half done but for the
    /// caller's rollback; rows that changed since are told and left, and where they are to be refused it is
    /// the caller who rolls back.
    pub(super) fn apply(
        &self,
        connection: &Connection,
        mark: &Mark,
        on_change: OnChange,
        bytes_max: u64,
        mask: &Mask,
    ) -> Result<Undone, SqliteFault> {
        let (mut undone, mut open) = self.compared(connection, mask)?;
        let refused = |undone: &Undone| on_change == OnChange::Refuse && !undone.changed.is_empty();
        // What stands in the way of a row is only seen when it is put back. Each round has fewer rows.
        while !refused(&undone) && !open.is_empty() {
            connection.execute_batch("SAVEPOINT undo")?;
            let conflicts = self.put_back(connection, &open)?;
            if conflicts.is_empty() {
                connection.execute_batch("RELEASE undo")?;
                self.keep(connection, mark, &open, bytes_max)?;
                break;
            }
            connection.execute_batch("ROLLBACK TO undo; RELEASE undo")?;
            for entry in conflicts.iter().filter_map(|at| self.entries.get(*at)) {
                if let Some(count) = undone.restored.get_mut(&entry.table) {
                    *count = count.saturating_sub(1);
                }
                let count = undone.changed.entry(entry.table.clone()).or_insert(0);
                *count = count.saturating_add(1);
                entry.example(&mut undone, mask);
            }
            undone.restored.retain(|_, count| *count > 0);
            open.retain(|at, _| !conflicts.contains(at));
        }
        Ok(undone)
    }

    /// Takes out what the call left, puts in what was there before, and returns the rows that cannot go back:
    /// another has their key, or the foreign keys do not hold with them.
    fn put_back(&self, connection: &Connection, open: &Open) -> Result<BTreeSet<usize>, SqliteFault> {
        let entries = || open.keys().filter_map(|at| Some((*at, self.entries.get(*at)?)));
        let mut statements = Statements::new(connection);
        for (_, entry) in entries() {
            let Some(new) = entry.change.after() else { continue };
            let gone = statements
                .get(&entry.table, "delete", || {
                    format!("DELETE FROM {} WHERE {}", quoted(&entry.table), entry.shape.by_key())
                })?
                .execute(params_from_iter(entry.shape.key_of(new)))?;
            if gone != 1 {
                return Err(SqliteFault::Argument(format!(
                    "a row of `{}` could not be taken out",
                    entry.table
                )));
            }
        }
        let mut conflicts = BTreeSet::new();
        let mut elsewhere = Vec::new();
        for (at, entry) in entries() {
            let Some(old) = entry.change.before() else { continue };
            // Rows of others may have taken the rowid. It means nothing where there is another key.
            if let (Some(alias), Some(rowid)) = (&entry.shape.rowid, old.rowid) {
                let taken = statements
                    .get(&entry.table, "taken", || {
                        format!("SELECT 1 FROM {} WHERE {alias} = ?1", quoted(&entry.table))
                    })?
                    .exists([rowid])?;
                if taken {
                    elsewhere.push((at, entry, old));
                    continue;
                }
            }
            if !insert(&mut statements, entry, old, true)? {
                conflicts.insert(at);
            }
        }
        for (at, entry, old) in elsewhere {
            if !insert(&mut statements, entry, old, false)? {
                conflicts.insert(at);
            }
        }
        if conflicts.is_empty() {
            let keys = schema::foreign_keys(connection)?;
            for (at, entry) in entries() {
                if entry.breaks_a_key(&mut statements, &keys)? {
                    conflicts.insert(at);
                }
            }
        }
        Ok(conflicts)
    }
}

/// Puts a row in. False where another row has a unique value of it.
fn insert(
    statements: &mut Statements<'_>,
    KeptRow { table, shape, .. }: &KeptRow,
    row: &RowImage,
    with_rowid: bool,
) -> Result<bool, SqliteFault> {
    let rowid = with_rowid.then_some(row.rowid).flatten();
    let what = if rowid.is_some() { "insert with rowid" } else { "insert" };
    let statement = statements.get(table, what, || {
        let mut columns: Vec<String> = shape.columns.iter().map(|column| quoted(column)).collect();
        columns.extend(shape.rowid.clone().filter(|_| rowid.is_some()));
        let places = vec!["?"; columns.len()].join(", ");
        // ABORT, whatever the table's own constraints would do about a conflict.
        format!("INSERT OR ABORT INTO {} ({}) VALUES ({places})", quoted(table), columns.join(", "))
    })?;
    let rowid = rowid.map(Cell::Integer);
    match statement.execute(params_from_iter(row.cells.iter().chain(&rowid))) {
        Ok(_) => Ok(true),
        Err(rusqlite::Error::SqliteFailure(code, _))
            if code.code == ErrorCode::ConstraintViolation && UNIQUE.contains(&code.extended_code) =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// A unique value, the primary key, the rowid.
const UNIQUE: [i32; 3] = [
    rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE,
    rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
    rusqlite::ffi::SQLITE_CONSTRAINT_ROWID,
];
