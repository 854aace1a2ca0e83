//! Our own statements on tables, prepared once.

use std::collections::BTreeMap;

use rusqlite::Connection;

/// Statements on each table, prepared once.
pub(super) struct Statements<'c> {
    connection: &'c Connection,
    prepared: BTreeMap<(String, String), rusqlite::Statement<'c>>,
}

impl<'c> Statements<'c> {
    pub(super) const fn new(connection: &'c Connection) -> Self {
        Self { connection, prepared: BTreeMap::new() }
    }

    pub(super) fn get(
        &mut self,
        table: &str,
        what: &str,
        sql: impl FnOnce() -> String,
    ) -> rusqlite::Result<&mut rusqlite::Statement<'c>> {
        use std::collections::btree_map::Entry::{Occupied, Vacant};
        match self.prepared.entry((table.to_owned(), what.to_owned())) {
            Occupied(known) => Ok(known.into_mut()),
            Vacant(place) => Ok(place.insert(self.connection.prepare(&sql())?)),
        }
    }
}
