//! Rows that refer to nothing.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params_from_iter};

use super::{
    fault::SqliteFault,
    image::{Cell, RowImage, Shape},
    schema,
    statements::Statements,
};
use crate::sql::{
    cascade::{ActingKey, named, quoted},
    change::RowChange,
};

/// Tells which rows referred to nothing before they changed. Where other programs write without foreign keys,
/// as SQLite does unless told otherwise, there are such rows, and they come back as they were.
pub(super) struct Orphans<'c> {
    statements: Statements<'c>,
    keys: Vec<ActingKey>,
    /// By the key's place: the parents that were there before, as far as they changed. Made when first needed.
    stood: BTreeMap<usize, BTreeSet<Vec<Cell>>>,
}

impl<'c> Orphans<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self, SqliteFault> {
        let keys = schema::foreign_keys(connection)?;
        Ok(Self { statements: Statements::new(connection), keys, stood: BTreeMap::new() })
    }

    /// Tells whether a changed row was such a one. `stood` tells the parents that were there before.
    pub(super) fn was(
        &mut self,
        table: &str,
        shape: &Shape,
        change: &RowChange<RowImage>,
        stood: impl Fn(&ActingKey) -> BTreeSet<Vec<Cell>>,
    ) -> Result<bool, SqliteFault> {
        let Some(old) = change.before() else { return Ok(false) };
        for (number, key) in self.keys.iter().enumerate().filter(|(_, key)| key.child.name == table) {
            let Some(values) = shape.values(&key.child_columns, old) else { continue };
            let kept = change.after().is_some_and(|new| same(shape, &key.child_columns, old, new));
            if kept || values.contains(&&Cell::Null) {
                continue;
            }
            let found = self.statements.get(table, &number.to_string(), || {
                let on = key.parent_columns.iter().enumerate();
                let on = on.map(|(n, p)| format!("{} = ?{}", quoted(p), n.saturating_add(1)));
                let on = on.collect::<Vec<_>>().join(" AND ");
                format!("SELECT 1 FROM {} WHERE {on}", named(&key.parent))
            });
            // A parent that is no table, or has no such columns, is none.
            let Ok(found) = found else { return Ok(true) };
            if found.exists(params_from_iter(values))? {
                continue;
            }
            let stood = self.stood.entry(number).or_insert_with(|| stood(key));
            if !shape.compared(&key.child_columns, old).is_some_and(|values| stood.contains(&values)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Tells whether two rows have the same values in these columns.
pub(super) fn same(shape: &Shape, columns: &[String], a: &RowImage, b: &RowImage) -> bool {
    shape.values(columns, a).is_some_and(|a| shape.values(columns, b) == Some(a))
}
