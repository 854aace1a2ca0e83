//! Where the rows of a table stand in the file, and by what each is known within a transaction.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{
    cell::{Cell, folded},
    row::RowImage,
    shape::Shape,
};
use crate::sql::cascade::quoted;

/// A table of the file.
#[derive(Debug, Clone)]
pub(in crate::sql::sqlite) struct Layout {
    pub(in crate::sql::sqlite) shape: Shape,
    /// Where the columns of the shape stand among all of the table's.
    at: Vec<i32>,
    pub(super) known: Locator,
    /// Columns of the shape that may not be NULL, although a row may be that was there before they said so.
    pub(super) required: Vec<usize>,
}

impl Layout {
    /// Tells how a row is known, with the values of its key where that is how.
    pub(super) fn identity(
        &self,
        rowid: i64,
        value: impl Fn(i32) -> rusqlite::Result<Cell>,
    ) -> rusqlite::Result<(Identity, Vec<Cell>)> {
        if self.known != Locator::Key {
            return Ok((Identity::Rowid(rowid), Vec::new()));
        }
        let at = self.shape.key.iter().filter_map(|at| self.at.get(*at));
        let key = at.map(|at| value(*at)).collect::<rusqlite::Result<Vec<_>>>()?;
        let collations = self.shape.collations.iter().map(String::as_str).chain(std::iter::repeat("BINARY"));
        let folded = key.iter().zip(collations).map(|(cell, collation)| folded(cell, collation)).collect();
        Ok((Identity::Key(folded), key))
    }

    pub(super) fn read(
        &self,
        rowid: i64,
        value: impl Fn(i32) -> rusqlite::Result<Cell>,
    ) -> rusqlite::Result<RowImage> {
        let cells = self.at.iter().map(|at| value(*at)).collect::<rusqlite::Result<_>>()?;
        Ok(RowImage { rowid: self.shape.rowid.is_some().then_some(rowid), cells })
    }
}

/// How a row is known within the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Locator {
    /// By its rowid, which this name stands for.
    Rowid(String),
    /// By the values of its primary key.
    Key,
    /// Every name of the rowid is that of another column.
    Not,
}

/// A row within the transaction. Of a key the values are kept as they compare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Identity {
    Rowid(i64),
    Key(Vec<Cell>),
}

/// Every ordinary table of the file, by its name in lower case.
pub(in crate::sql::sqlite) fn layouts(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Layout>> {
    let mut statement = connection.prepare_cached(
        "SELECT lower(l.name), l.wr, c.cid, c.name, c.pk, c.hidden,
                c.pk > 0 AND EXISTS (SELECT 1 FROM pragma_index_list(l.name, 'main') WHERE origin = 'pk'), c.\"notnull\"
           FROM pragma_table_list AS l, pragma_table_xinfo(l.name, 'main') AS c
          WHERE l.schema = 'main' AND l.type = 'table' ORDER BY l.name, c.cid",
    )?;
    let mut rows = statement.query([])?;
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let table = tables.entry(row.get(0)?).or_default();
        table.without_rowid = row.get(1)?;
        let name: String = row.get(3)?;
        table.names.push(name.to_ascii_lowercase());
        // 1 is a hidden column of a virtual table, 2 and 3 are generated.
        if row.get::<_, i64>(5)? != 0 {
            continue;
        }
        let rank: i64 = row.get(4)?;
        if rank > 0 {
            table.key.push((rank, table.columns.len()));
            table.key_index |= row.get::<_, bool>(6)?;
        }
        if row.get(7)? {
            table.required.push(table.columns.len());
        }
        table.columns.push((row.get(2)?, name));
    }
    drop(rows);
    tables
        .into_iter()
        .map(|(name, table)| {
            let layout = table.layout(connection, &name)?;
            Ok((name, layout))
        })
        .collect()
}

#[derive(Default)]
struct Table {
    without_rowid: bool,
    /// All names, in lower case.
    names: Vec<String>,
    /// Where it stands in the table, and its name.
    columns: Vec<(i32, String)>,
    /// Rank in the key, and where the column stands in `columns`.
    key: Vec<(i64, usize)>,
    /// Whether the key has an index: otherwise it is the rowid itself.
    key_index: bool,
    /// Where columns that may not be NULL stand in `columns`.
    required: Vec<usize>,
}

impl Table {
    fn layout(mut self, connection: &Connection, name: &str) -> rusqlite::Result<Layout> {
        self.key.sort_unstable();
        let key: Vec<usize> = self.key.iter().map(|(_, at)| *at).collect();
        let (mut rowid, mut known) = (None, Locator::Not);
        let alias = ["rowid", "_rowid_", "oid"].into_iter().find(|a| self.names.iter().all(|n| n != a));
        let collations = collations(connection, name)?;
        if self.without_rowid {
            known = Locator::Key;
        } else if let ([only], false) = (key.as_slice(), self.key_index)
            && let Some((_, column)) = self.columns.get(*only)
        {
            known = Locator::Rowid(quoted(column));
        } else if let Some(alias) = alias {
            rowid = Some(alias.to_owned());
            known = Locator::Rowid(alias.to_owned());
        }
        let (at, columns) = self.columns.into_iter().unzip();
        Ok(Layout { shape: Shape { columns, key, rowid, collations }, at, known, required: self.required })
    }
}

/// The collations of the columns of the primary key, in the order of the key, where it has an index.
fn collations(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT upper(x.coll) FROM pragma_index_list(?1, 'main') AS i, pragma_index_xinfo(i.name, 'main') AS x
          WHERE i.origin = 'pk' AND x.key ORDER BY x.seqno",
    )?;
    statement.query_map([table], |row| row.get(0))?.collect()
}
