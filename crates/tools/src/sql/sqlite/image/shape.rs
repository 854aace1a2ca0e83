//! What a table's rows look like, and the statements on them that follow from it.

use serde::{Deserialize, Serialize};

use super::{
    cell::{Cell, folded},
    row::RowImage,
};
use crate::sql::cascade::quoted;

/// What a table looks like, as far as its kept rows depend on it. Kept beside them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::sql::sqlite) struct Shape {
    /// Its columns but for the generated ones, in their order.
    pub(in crate::sql::sqlite) columns: Vec<String>,
    /// Which of them are the primary key.
    pub(in crate::sql::sqlite) key: Vec<usize>,
    /// The name under which a rowid is read that no column shows.
    pub(in crate::sql::sqlite) rowid: Option<String>,
    /// The collations under which the primary key compares, in its order, where its index has one; they need not be
    /// those of its columns. Read anew each time.
    #[serde(skip)]
    pub(in crate::sql::sqlite) collations: Vec<String>,
}

impl Shape {
    /// Tells whether rows that were kept with the other shape are rows of this one.
    pub(in crate::sql::sqlite) fn fits(&self, other: &Self) -> bool {
        self.columns == other.columns && self.key == other.key && self.rowid == other.rowid
    }

    /// The columns of the primary key, as a condition with placeholders from `?1`.
    pub(in crate::sql::sqlite) fn by_key(&self) -> String {
        let key = self.key.iter().filter_map(|at| self.columns.get(*at)).enumerate();
        let pairs = key.map(|(at, column)| {
            let collation = self.collations.get(at).map(|name| format!(" COLLATE {}", quoted(name)));
            format!("{} = ?{}{}", quoted(column), at.saturating_add(1), collation.unwrap_or_default())
        });
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    /// The values of the primary key.
    pub(in crate::sql::sqlite) fn key_of<'r>(&self, row: &'r RowImage) -> Vec<&'r Cell> {
        self.key.iter().filter_map(|at| row.cells.get(*at)).collect()
    }

    /// Tells whether all of these columns (in lower case) are kept.
    pub(in crate::sql::sqlite) fn has(&self, columns: &[String]) -> bool {
        columns.iter().all(|column| self.columns.iter().any(|kept| kept.eq_ignore_ascii_case(column)))
    }

    /// The values of these columns (in lower case). None where one of them is generated.
    pub(in crate::sql::sqlite) fn values<'r>(
        &self,
        columns: &[String],
        row: &'r RowImage,
    ) -> Option<Vec<&'r Cell>> {
        let at = |column: &String| self.columns.iter().position(|c| c.eq_ignore_ascii_case(column));
        columns.iter().map(|column| row.cells.get(at(column)?)).collect()
    }

    /// The same, so that those that a foreign key takes for equal are equal.
    pub(in crate::sql::sqlite) fn compared(&self, columns: &[String], row: &RowImage) -> Option<Vec<Cell>> {
        let values = self.values(columns, row)?;
        Some(values.into_iter().map(|cell| folded(cell, "NOCASE")).collect())
    }

    /// All that is read of a row, as a list of columns.
    pub(in crate::sql::sqlite) fn listed(&self) -> String {
        let columns = self.columns.iter().map(|column| quoted(column)).chain(self.rowid.clone());
        columns.collect::<Vec<_>>().join(", ")
    }

    /// A row as [`Shape::listed`] selects it.
    pub(in crate::sql::sqlite) fn row(&self, row: &rusqlite::Row<'_>) -> rusqlite::Result<RowImage> {
        let cells = (0..self.columns.len())
            .map(|at| Ok(Cell::new(row.get_ref(at)?)))
            .collect::<rusqlite::Result<_>>()?;
        let rowid = match self.rowid {
            Some(_) => row.get(self.columns.len())?,
            None => None,
        };
        Ok(RowImage { rowid, cells })
    }
}
