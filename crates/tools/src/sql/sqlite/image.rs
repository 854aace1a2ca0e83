//! Rows as they were before a call and after it.
//!
//! SQLite tells every row before it changes, whatever changes it: the statement, a foreign key, a trigger,
//! `REPLACE`, a `DELETE` of everything. So the counts are exact, and the first that is told of a row is what it
//! was before. What it is afterwards is read from the table when the statement has ended.
//!
//! Within a transaction a row is known by its rowid, or by its key in a table `WITHOUT ROWID`; `VACUUM` may
//! give other rowids, so that afterwards it is known by its primary key. Tables without one are not kept.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{
    Connection, ToSql,
    hooks::PreUpdateCase,
    types::{ToSqlOutput, ValueRef},
};
use serde::{Deserialize, Serialize};

use super::fault::Trouble;
use crate::sql::cascade::quoted;

/// A stored value, bit for bit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    /// The bits of the number, so that equal means the same.
    Real(u64),
    /// Text need not be UTF-8 for SQLite.
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Cell {
    pub(super) fn new(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(whole) => Self::Integer(whole),
            ValueRef::Real(number) => Self::Real(number.to_bits()),
            ValueRef::Text(bytes) => Self::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }

    pub(super) fn value(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Integer(whole) => ValueRef::Integer(*whole),
            Self::Real(bits) => ValueRef::Real(f64::from_bits(*bits)),
            Self::Text(bytes) => ValueRef::Text(bytes),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Integer(_) | Self::Real(_) => 9,
            Self::Text(bytes) | Self::Blob(bytes) => bytes.len().saturating_add(9),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.value()))
    }
}

/// A row, without its generated columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The rowid, where no column shows it.
    pub(super) rowid: Option<i64>,
    /// The values, in the order of [`Shape::columns`].
    pub(super) cells: Vec<Cell>,
}

/// The form in which rows are kept: this byte, the rowid, the values; each value as a tag and its bytes.
const FORM: u8 = 1;

impl Row {
    pub(super) fn size(&self) -> usize {
        self.cells.iter().fold(16, |size, cell| size.saturating_add(cell.size()))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        bytes.push(FORM);
        let rowid = self.rowid.map_or(Cell::Null, Cell::Integer);
        for cell in std::iter::once(&rowid).chain(&self.cells) {
            write_cell(cell, &mut bytes);
        }
        bytes
    }

    /// None when the bytes are not those of a row with so many columns.
    pub(super) fn from_bytes(bytes: &[u8], columns: usize) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[FORM])?;
        let rowid = match read_cell(&mut rest)? {
            Cell::Null => None,
            Cell::Integer(rowid) => Some(rowid),
            Cell::Real(_) | Cell::Text(_) | Cell::Blob(_) => return None,
        };
        let cells = (0..columns).map(|_| read_cell(&mut rest)).collect::<Option<Vec<_>>>()?;
        rest.is_empty().then_some(Self { rowid, cells })
    }
}

fn write_cell(cell: &Cell, bytes: &mut Vec<u8>) {
    let long = |tag: u8, content: &[u8], bytes: &mut Vec<u8>| {
        bytes.push(tag);
        bytes.extend_from_slice(&u64::try_from(content.len()).unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend_from_slice(content);
    };
    match cell {
        Cell::Null => bytes.push(0),
        Cell::Integer(whole) => {
            bytes.push(1);
            bytes.extend_from_slice(&whole.to_le_bytes());
        }
        Cell::Real(bits) => {
            bytes.push(2);
            bytes.extend_from_slice(&bits.to_le_bytes());
        }
        Cell::Text(content) => long(3, content, bytes),
        Cell::Blob(content) => long(4, content, bytes),
    }
}

fn read_cell(rest: &mut &[u8]) -> Option<Cell> {
    let (tag, after) = rest.split_first()?;
    *rest = after;
    let mut word = || -> Option<[u8; 8]> {
        let (word, after) = rest.split_first_chunk::<8>()?;
        *rest = after;
        Some(*word)
    };
    Some(match tag {
        0 => Cell::Null,
        1 => Cell::Integer(i64::from_le_bytes(word()?)),
        2 => Cell::Real(u64::from_le_bytes(word()?)),
        3 | 4 => {
            let length = usize::try_from(u64::from_le_bytes(word()?)).ok()?;
            let (content, after) = rest.split_at_checked(length)?;
            *rest = after;
            if *tag == 3 { Cell::Text(content.to_vec()) } else { Cell::Blob(content.to_vec()) }
        }
        _ => return None,
    })
}

/// What a table looks like, as far as its kept rows depend on it. Kept beside them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shape {
    /// Its columns but for the generated ones, in their order.
    pub(super) columns: Vec<String>,
    /// Which of them are the primary key.
    pub(super) key: Vec<usize>,
    /// The name under which a rowid is read that no column shows.
    pub(super) rowid: Option<String>,
    /// The collations under which the primary key compares, in its order, where its index has one; they need not be
    /// those of its columns. Read anew each time.
    #[serde(skip)]
    pub(super) collations: Vec<String>,
}

impl Shape {
    /// Tells whether rows that were kept with the other shape are rows of this one.
    pub(super) fn fits(&self, other: &Self) -> bool {
        self.columns == other.columns && self.key == other.key && self.rowid == other.rowid
    }

    /// The columns of the primary key, as a condition with placeholders from `?1`.
    pub(super) fn by_key(&self) -> String {
        let key = self.key.iter().filter_map(|at| self.columns.get(*at)).enumerate();
        let pairs = key.map(|(at, column)| {
            let collation = self.collations.get(at).map(|name| format!(" COLLATE {}", quoted(name)));
            format!("{} = ?{}{}", quoted(column), at.saturating_add(1), collation.unwrap_or_default())
        });
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    /// The values of the primary key.
    pub(super) fn key_of<'r>(&self, row: &'r Row) -> Vec<&'r Cell> {
        self.key.iter().filter_map(|at| row.cells.get(*at)).collect()
    }

    /// Tells whether all of these columns (in lower case) are kept.
    pub(super) fn has(&self, columns: &[String]) -> bool {
        columns.iter().all(|column| self.columns.iter().any(|kept| kept.eq_ignore_ascii_case(column)))
    }

    /// The values of these columns (in lower case). None where one of them is generated.
    pub(super) fn values<'r>(&self, columns: &[String], row: &'r Row) -> Option<Vec<&'r Cell>> {
        let at = |column: &String| self.columns.iter().position(|c| c.eq_ignore_ascii_case(column));
        columns.iter().map(|column| row.cells.get(at(column)?)).collect()
    }

    /// The same, so that those that a foreign key takes for equal are equal.
    pub(super) fn compared(&self, columns: &[String], row: &Row) -> Option<Vec<Cell>> {
        let values = self.values(columns, row)?;
        Some(values.into_iter().map(|cell| folded(cell, "NOCASE")).collect())
    }

    /// All that is read of a row, as a list of columns.
    pub(super) fn listed(&self) -> String {
        let columns = self.columns.iter().map(|column| quoted(column)).chain(self.rowid.clone());
        columns.collect::<Vec<_>>().join(", ")
    }

    /// A row as [`Shape::listed`] selects it.
    pub(super) fn row(&self, row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
        let cells = (0..self.columns.len())
            .map(|at| Ok(Cell::new(row.get_ref(at)?)))
            .collect::<rusqlite::Result<_>>()?;
        let rowid = match self.rowid {
            Some(_) => row.get(self.columns.len())?,
            None => None,
        };
        Ok(Row { rowid, cells })
    }
}

/// How a row is known within the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Locator {
    /// By its rowid, which this name stands for.
    Rowid(String),
    /// By the values of its primary key.
    Key,
    /// Every name of the rowid is that of another column.
    Not,
}

/// A table of the file.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) shape: Shape,
    /// Where the columns of the shape stand among all of the table's.
    at: Vec<i32>,
    known: Locator,
    /// Columns of the shape that may not be NULL, although a row may be that was there before they said so.
    required: Vec<usize>,
}

/// Every ordinary table of the file, by its name in lower case.
pub(super) fn layouts(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Layout>> {
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

/// A row within the transaction. Of a key the values are kept as they compare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    Rowid(i64),
    Key(Vec<Cell>),
}

/// What a row was before the call.
#[derive(Debug)]
struct Before {
    /// The values of its key, where it has no rowid.
    key: Vec<Cell>,
    row: Option<Row>,
}

/// A row that a call changed: what it was, what it is now. At least one is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowChange {
    pub(super) old: Option<Row>,
    pub(super) new: Option<Row>,
}

/// Counts the rows that change, and keeps what they were.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// By table, as its name is told.
    counts: BTreeMap<String, u64>,
    /// Rows that the statement itself changes, and no foreign key or trigger.
    direct: u64,
    images: Option<Images>,
}

#[derive(Debug)]
pub(super) struct Images {
    layouts: BTreeMap<String, Layout>,
    rows: BTreeMap<String, BTreeMap<Identity, Before>>,
    bytes: u64,
    bytes_max: u64,
    /// Why they are not complete.
    trouble: Option<String>,
}

impl Recorder {
    /// One that keeps rows as well.
    pub(super) fn keeping(connection: &Connection, bytes_max: u64) -> rusqlite::Result<Self> {
        let images = Images {
            layouts: layouts(connection)?,
            rows: BTreeMap::new(),
            bytes: 0,
            bytes_max,
            trouble: None,
        };
        Ok(Self { images: Some(images), ..Self::default() })
    }

    /// SQLite tells of a row before it changes.
    pub(super) fn note(&mut self, table: &str, case: &PreUpdateCase) {
        let depth = match case {
            PreUpdateCase::Insert(new) => new.get_query_depth(),
            PreUpdateCase::Delete(old) => old.get_query_depth(),
            PreUpdateCase::Update { old_value_accessor: old, .. } => old.get_query_depth(),
            PreUpdateCase::Unknown => 0,
        };
        if depth == 0 {
            self.direct = self.direct.saturating_add(1);
        }
        match self.counts.get_mut(table) {
            Some(count) => *count = count.saturating_add(1),
            None => {
                self.counts.insert(table.to_owned(), 1);
            }
        }
        if let Some(images) = &mut self.images
            && images.trouble.is_none()
        {
            images.trouble = images.note(table, case).err();
        }
    }

    /// Rows by table (in lower case), and those of them that the statement itself changed.
    pub(super) fn counts(&self) -> (BTreeMap<String, u64>, u64) {
        let mut counts = BTreeMap::new();
        for (table, rows) in &self.counts {
            let count = counts.entry(table.to_ascii_lowercase()).or_insert(0_u64);
            *count = count.saturating_add(*rows);
        }
        (counts, self.direct)
    }

    /// Says that not every row that changed was told.
    pub(super) fn incomplete(&mut self, why: &str) {
        if let Some(images) = &mut self.images
            && images.trouble.is_none()
        {
            images.trouble = Some(why.to_owned());
        }
    }

    /// The rows, where they are kept.
    pub(super) fn into_images(self) -> Option<Images> {
        self.images
    }
}

impl Images {
    fn note(&mut self, table: &str, case: &PreUpdateCase) -> Result<(), String> {
        let name = table.to_ascii_lowercase();
        let layout = self.layouts.get(&name).ok_or_else(|| {
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
                (Some((id.map_err(lost)?, None)), None)
            }
            PreUpdateCase::Delete(old) => {
                let read = |at| old.get_old_column_value(at).map(Cell::new);
                let id = layout.identity(old.get_old_row_id(), read).map_err(lost)?;
                let row = layout.read(old.get_old_row_id(), read).map_err(lost)?;
                (Some((id, Some(row))), None)
            }
            PreUpdateCase::Update { old_value_accessor: old, new_value_accessor: new } => {
                let read = |at| old.get_old_column_value(at).map(Cell::new);
                let id = layout.identity(old.get_old_row_id(), read).map_err(lost)?;
                let row = layout.read(old.get_old_row_id(), read).map_err(lost)?;
                let to = layout
                    .identity(new.get_new_row_id(), |at| new.get_new_column_value(at).map(Cell::new))
                    .map_err(lost)?;
                (Some((id, Some(row))), Some((to, None)))
            }
            PreUpdateCase::Unknown => return Err(format!("`{table}` changed in an unknown way")),
        };
        let rows = self.rows.entry(name).or_default();
        for ((id, key), row) in first.into_iter().chain(second) {
            // Only the first that is told of a row is what it was before the call.
            if rows.contains_key(&id) {
                continue;
            }
            let size = row.as_ref().map_or(32, Row::size);
            self.bytes = self.bytes.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
            if self.bytes > self.bytes_max {
                return Err(too_many(self.bytes_max));
            }
            rows.insert(id, Before { key, row });
        }
        Ok(())
    }

    /// The values that these columns of a table (in lower case) had before in the rows that changed.
    pub(super) fn stood(&self, table: &str, columns: &[String]) -> BTreeSet<Vec<Cell>> {
        let (Some(layout), Some(rows)) = (self.layouts.get(table), self.rows.get(table)) else {
            return BTreeSet::new();
        };
        let rows = rows.values().filter_map(|before| before.row.as_ref());
        rows.filter_map(|row| layout.shape.compared(columns, row)).collect()
    }

    /// The shapes of the tables whose rows changed.
    pub(super) fn shapes(&self) -> BTreeMap<&str, &Shape> {
        let tables = self.rows.keys().filter_map(|name| self.layouts.get_key_value(name));
        tables.map(|(name, layout)| (name.as_str(), &layout.shape)).collect()
    }

    /// Reads what the rows are now, and hands over each that is not what it was, by table.
    pub(super) fn each(
        &self,
        connection: &Connection,
        mut keep: impl FnMut(&str, RowChange) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        if let Some(why) = &self.trouble {
            return Err(Trouble::Argument(why.clone()));
        }
        let mut bytes = 0_u64;
        for (name, rows) in &self.rows {
            let Some(layout) = self.layouts.get(name) else { continue };
            let shape = &layout.shape;
            let condition = match &layout.known {
                Locator::Rowid(alias) => format!("{alias} = ?1"),
                Locator::Key => shape.by_key(),
                Locator::Not => return Err(Trouble::Argument(hidden(name))),
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
                if new == before.row {
                    continue;
                }
                for row in new.iter().chain(&before.row) {
                    if shape.key_of(row).contains(&&Cell::Null) {
                        return Err(Trouble::Argument(format!(
                            "a row of `{name}` has NULL in its primary key, so that it cannot be kept for undo"
                        )));
                    }
                    bytes = bytes.saturating_add(u64::try_from(row.size()).unwrap_or(u64::MAX));
                }
                if bytes > self.bytes_max {
                    return Err(Trouble::Argument(too_many(self.bytes_max)));
                }
                let null =
                    |at: &usize| before.row.as_ref().and_then(|r| r.cells.get(*at)) == Some(&Cell::Null);
                if layout.required.iter().any(null) {
                    return Err(Trouble::Argument(format!(
                        "a row of `{name}` has NULL where its table allows none any more, so that it could not be put back"
                    )));
                }
                keep(name, RowChange { old: before.row.clone(), new })?;
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

impl Layout {
    /// Tells how a row is known, with the values of its key where that is how.
    fn identity(
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

    fn read(&self, rowid: i64, value: impl Fn(i32) -> rusqlite::Result<Cell>) -> rusqlite::Result<Row> {
        let cells = self.at.iter().map(|at| value(*at)).collect::<rusqlite::Result<_>>()?;
        Ok(Row { rowid: self.shape.rowid.is_some().then_some(rowid), cells })
    }
}

/// A value so that those that SQLite takes for the same key are equal.
fn folded(cell: &Cell, collation: &str) -> Cell {
    match cell {
        Cell::Text(text) if collation == "NOCASE" => Cell::Text(text.to_ascii_lowercase()),
        Cell::Text(text) if collation == "RTRIM" => {
            let kept = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last.saturating_add(1));
            Cell::Text(text.iter().take(kept).copied().collect())
        }
        Cell::Real(bits) => whole(f64::from_bits(*bits)).map_or_else(|| cell.clone(), Cell::Integer),
        Cell::Null | Cell::Integer(_) | Cell::Text(_) | Cell::Blob(_) => cell.clone(),
    }
}

/// The integer that a number equals, if there is one.
fn whole(number: f64) -> Option<i64> {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within the range of 64 bits")]
    (number.fract() == 0.0 && (-BOUND..BOUND).contains(&number)).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cell() -> impl Strategy<Value = Cell> {
        prop_oneof![
            Just(Cell::Null),
            any::<i64>().prop_map(Cell::Integer),
            any::<u64>().prop_map(Cell::Real),
            any::<Vec<u8>>().prop_map(Cell::Text),
            any::<Vec<u8>>().prop_map(Cell::Blob),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rows_come_back_as_they_were_written(cells in prop::collection::vec(cell(), 0..5), rowid: Option<i64>) {
            let row = Row { rowid, cells };
            let bytes = row.to_bytes();
            let columns = row.cells.len();
            prop_assert_eq!(Row::from_bytes(&bytes, columns), Some(row));
            prop_assert_eq!(Row::from_bytes(&bytes, columns.saturating_add(1)), None);
            prop_assert_eq!(Row::from_bytes(&bytes[1..], columns), None);
        }

        #[test]
        fn garbage_is_no_row(bytes: Vec<u8>, columns in 0_usize..4) {
            if let Some(row) = Row::from_bytes(&bytes, columns) {
                prop_assert_eq!(row.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn keys_that_compare_equal_are_one() {
        let real = |number: f64| Cell::Real(number.to_bits());
        assert_eq!(folded(&real(3.0), "BINARY"), Cell::Integer(3));
        assert_eq!(folded(&real(1e300), "BINARY"), real(1e300));
        assert_eq!(folded(&real(-9_223_372_036_854_775_808.0), "BINARY"), Cell::Integer(i64::MIN));
        assert_eq!(folded(&Cell::Text(b"Aa".to_vec()), "NOCASE"), Cell::Text(b"aa".to_vec()));
        assert_eq!(folded(&Cell::Text(b"a  ".to_vec()), "RTRIM"), Cell::Text(b"a".to_vec()));
        assert_eq!(folded(&Cell::Text(b"a ".to_vec()), "BINARY"), Cell::Text(b"a ".to_vec()));
    }
}
