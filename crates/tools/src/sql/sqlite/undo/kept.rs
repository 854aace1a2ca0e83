//! What the journal keeps of a call, and how its rows are told to people.

use std::{collections::BTreeMap, rc::Rc};

use countersign_gate::Sample;
use countersign_rules::CallId;
use rusqlite::{Connection, OptionalExtension};

use crate::sql::{
    change::RowChange,
    journal::{COMES_BACK, EXAMPLES_MAX, GOES_BACK, Undone, goes_away},
    mask::Mask,
    sqlite::{
        fault::SqliteFault,
        image::{Cell, RowImage, Shape, layouts},
        journal::prepared,
        value,
    },
    tally::SAMPLE_ROWS,
};

/// A call as the journal keeps it.
pub(super) struct KeptCall {
    pub(super) call: CallId,
    /// The call that this one undid.
    pub(super) undid: Option<String>,
    /// The tables whose rows it changed, as they were then and are now.
    pub(super) shapes: BTreeMap<String, Rc<Shape>>,
    pub(super) entries: Vec<KeptRow>,
}

/// A row that the call changed.
pub(super) struct KeptRow {
    pub(super) table: String,
    pub(super) shape: Rc<Shape>,
    pub(super) change: RowChange<RowImage>,
    /// Whether it referred to nothing before the call already.
    pub(super) dangling: bool,
}

impl KeptCall {
    /// Reads what is kept of a call.
    pub(super) fn read(connection: &Connection, call: &CallId) -> Result<Self, SqliteFault> {
        let refuse = |why: String| Err(SqliteFault::Argument(why));
        if !prepared(connection)? {
            return refuse("the journal's tables are missing or not as they should be".into());
        }
        let record = connection.query_row(
            "SELECT state, tables, undone_by, undoes FROM countersign_call WHERE id = ?1",
            [call.as_str()],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, Option<String>>(1)?,
                    row.get::<_, Option<String>>(2)?,
                    row.get::<_, Option<String>>(3)?,
                ))
            },
        );
        let Some((state, tables, undone_by, undid)) = record.optional()? else {
            return refuse(format!("the journal knows no call `{call}`"));
        };
        if state != "committed" {
            return refuse(format!("call `{call}` has not happened"));
        }
        if let Some(by) = undone_by {
            return refuse(format!("call `{call}` has been undone by call `{by}`"));
        }
        let Some(tables) = tables else {
            return refuse(format!(
                "no rows are kept of call `{call}`: its tool is not reversible, or the retention is over"
            ));
        };
        let then: BTreeMap<String, Shape> = serde_json::from_str(&tables).map_err(|_invalid| broken(call))?;
        let mut now = layouts(connection)?;
        let mut shapes = BTreeMap::new();
        for (table, shape) in then {
            let Some(layout) = now.remove(&table).filter(|layout| layout.shape.fits(&shape)) else {
                return refuse(format!("the columns of table `{table}` changed since call `{call}`"));
            };
            shapes.insert(table, Rc::new(layout.shape));
        }
        let mut statement = connection
            .prepare("SELECT tbl, old, new, dangling FROM countersign_image WHERE call = ?1 ORDER BY seq")?;
        let mut rows = statement.query([call.as_str()])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let table: String = row.get(0)?;
            let shape = Rc::clone(shapes.get(&table).ok_or_else(|| broken(call))?);
            let images = |at: usize| -> Result<Option<Vec<RowImage>>, SqliteFault> {
                let bytes: Option<Vec<u8>> = row.get(at)?;
                bytes
                    .map(|b| RowImage::several(&b, shape.columns.len()).ok_or_else(|| broken(call)))
                    .transpose()
            };
            let changes: Vec<RowChange<RowImage>> = match (images(1)?, images(2)?) {
                (Some(old), None) => old.into_iter().map(RowChange::Deleted).collect(),
                (None, Some(new)) => new.into_iter().map(RowChange::Inserted).collect(),
                (Some(old), Some(new)) if old.len() == new.len() => {
                    old.into_iter().zip(new).map(|(old, new)| RowChange::Updated { old, new }).collect()
                }
                (Some(_), Some(_)) => return Err(broken(call)),
                // A record of neither says nothing of any row.
                (None, None) => continue,
            };
            let dangling = row.get(3)?;
            entries.extend(changes.into_iter().map(|change| KeptRow {
                table: table.clone(),
                shape: Rc::clone(&shape),
                change,
                dangling,
            }));
        }
        Ok(Self { call: call.clone(), undid, shapes, entries })
    }

    /// A few of the rows as they would be again, or that would go.
    pub(super) fn sample(&self, mask: &Mask, undone: &Undone) -> Option<Sample> {
        let KeptRow { table, shape, .. } = self.entries.first()?;
        let entries = self.entries.iter().filter(|entry| entry.table == *table);
        let most = usize::try_from(SAMPLE_ROWS).unwrap_or(usize::MAX);
        let rows = entries.take(most).map(|entry| {
            let (row, word) = match &entry.change {
                RowChange::Inserted(new) => (new, goes_away(undone.counters.get(table))),
                RowChange::Deleted(old) => (old, COMES_BACK.to_owned()),
                RowChange::Updated { old, .. } => (old, GOES_BACK.to_owned()),
            };
            let cells = row.cells.iter().zip(&shape.columns);
            let cells = cells.map(|(cell, column)| text(cell, mask, table, column));
            std::iter::once(Some(word)).chain(cells).collect()
        });
        let columns = std::iter::once("undo".to_owned()).chain(shape.columns.iter().cloned()).collect();
        Some(Sample { table: table.clone(), columns, rows: rows.collect() })
    }
}

impl KeptRow {
    /// Names it as one that changed since.
    pub(super) fn example(&self, undone: &mut Undone, mask: &Mask) {
        if undone.examples.len() >= EXAMPLES_MAX {
            return;
        }
        let Self { table, shape, change, .. } = self;
        let columns = shape.key.iter().filter_map(|at| shape.columns.get(*at));
        let key: Vec<String> = (shape.key_of(change.last()).into_iter().zip(columns))
            .map(|(cell, column)| text(cell, mask, table, column).unwrap_or_default())
            .collect();
        undone.examples.push(format!("{table} ({})", key.join(", ")));
    }
}

pub(super) fn broken(call: &CallId) -> SqliteFault {
    SqliteFault::Argument(format!("what is kept of call `{call}` cannot be read"))
}

fn text(cell: &Cell, mask: &Mask, table: &str, column: &str) -> Option<String> {
    mask.shown(table, column, value::shown(cell.value()).unwrap_or_else(|_| "(not text)".into()))
}
