//! Which rows that are back, or gone, would break a foreign key.

use rusqlite::params_from_iter;

use super::kept::KeptRow;
use crate::sql::{
    cascade::{ActingKey, named, quoted},
    sqlite::{fault::SqliteFault, orphans::same, statements::Statements},
};

impl KeptRow {
    /// Tells whether the row refers to nothing now that it is back, or others refer to it now that it is gone.
    pub(super) fn breaks_a_key(
        &self,
        statements: &mut Statements<'_>,
        keys: &[ActingKey],
    ) -> Result<bool, SqliteFault> {
        let Self { table, shape, change, .. } = self;
        let (old, new) = (change.before(), change.after());
        for (number, key) in keys.iter().enumerate() {
            if key.child.name == *table
                && !self.dangling
                && let Some(old) = old
                && !(new.is_some_and(|new| same(shape, &key.child_columns, old, new)))
            {
                let found = statements
                    .get(table, &format!("child {number}"), || {
                        let own = shape.key.iter().filter_map(|at| shape.columns.get(*at)).enumerate();
                        let own = own.map(|(n, c)| format!("c.{} = ?{}", quoted(c), n.saturating_add(1)));
                        without_parent(key, &own.collect::<Vec<_>>().join(" AND "))
                    })?
                    .exists(params_from_iter(shape.key_of(old)))?;
                if found {
                    return Ok(true);
                }
            }
            if key.parent.name == *table
                && let Some(new) = new
                && !(old.is_some_and(|old| same(shape, &key.parent_columns, old, new)))
            {
                let Some(values) = shape.values(&key.parent_columns, new) else {
                    return Err(SqliteFault::Argument(format!(
                        "a foreign key of `{}` refers to a generated column, which undo does not look after",
                        key.child
                    )));
                };
                let found = statements
                    .get(table, &format!("parent {number}"), || {
                        let own = key.child_columns.iter().enumerate();
                        let own = own.map(|(n, c)| format!("c.{} = ?{}", quoted(c), n.saturating_add(1)));
                        without_parent(key, &own.collect::<Vec<_>>().join(" AND "))
                    })?
                    .exists(params_from_iter(values))?;
                if found {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// A row of a child, by this condition, that refers to nothing.
fn without_parent(key: &ActingKey, condition: &str) -> String {
    let refers = key.child_columns.iter().map(|c| format!("c.{} IS NOT NULL", quoted(c)));
    let pairs = key.child_columns.iter().zip(&key.parent_columns);
    let meets = pairs.map(|(c, p)| format!("p.{} = c.{}", quoted(p), quoted(c)));
    format!(
        "SELECT 1 FROM {} AS c WHERE {condition} AND {} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
        named(&key.child),
        refers.collect::<Vec<_>>().join(" AND "),
        named(&key.parent),
        meets.collect::<Vec<_>>().join(" AND "),
    )
}
