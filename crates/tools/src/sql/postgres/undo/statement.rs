//! One statement that puts back the rows of several tables.

use std::fmt::Write as _;

use tokio_postgres::types::ToSql;

use super::table::{ROW, Table, after, before};
use crate::sql::{
    cascade::{named, quoted},
    postgres::net::Net,
};

/// Which rows an update changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// Those that are what the call left.
    AsLeft,
    /// Those that this very transaction has set aside, and so nobody else can change.
    Ours,
    /// Those that are not yet what they were.
    Other,
}

/// One statement that puts back the rows of several tables, part by part.
pub(super) struct Restoration {
    call: String,
    pub(super) parts: Vec<String>,
    lists: Vec<Vec<i64>>,
}

impl Restoration {
    pub(super) const fn new(call: String) -> Self {
        Self { call, parts: Vec::new(), lists: Vec::new() }
    }

    /// The placeholder of a list of numbers of images; `$1` is the call.
    fn list(&mut self, list: Vec<i64>) -> String {
        self.lists.push(list);
        format!("${}::int8[]", self.lists.len().saturating_add(1))
    }

    /// Says that the row is still what the call left.
    fn untouched(table: &Table) -> String {
        format!("{} AND {}", table.same_key("(q.now)"), table.is("(q.now)", "q.is_now"))
    }

    pub(super) fn delete(&mut self, table: &Table, nets: &[&Net]) {
        let (from, row, list) = (table.from.clone(), named(&table.name), self.list(after(nets)));
        self.parts.push(format!(
            "DELETE FROM {from} AS {ROW} USING (SELECT i.new AS is_now, i.new::{row} AS now FROM unnest({list}) AS p (a) \
               JOIN countersign.kept i ON i.call = $1 AND i.seq = p.a OFFSET 0) AS q \
              WHERE {} RETURNING 1",
            Self::untouched(table)
        ));
    }

    /// Sets columns of rows that are what the call left to values that no row has.
    pub(super) fn set_aside(&mut self, table: &Table, nets: &[&Net], values: &[(String, String)]) {
        let set: Vec<String> =
            values.iter().map(|(column, value)| format!("{} = {value}", quoted(column))).collect();
        let (from, row, list) = (table.from.clone(), named(&table.name), self.list(after(nets)));
        self.parts.push(format!(
            "UPDATE {from} AS {ROW} SET {} FROM (SELECT p.n, i.new AS is_now, i.new::{row} AS now \
               FROM unnest({list}) WITH ORDINALITY AS p (a, n) \
               JOIN countersign.kept i ON i.call = $1 AND i.seq = p.a OFFSET 0) AS q WHERE {} RETURNING 1",
            set.join(", "),
            Self::untouched(table)
        ));
    }

    pub(super) fn update(&mut self, table: &Table, nets: &[&Net], columns: &[String], only: Selection) {
        let set: Vec<String> =
            columns.iter().map(|column| format!("{c} = (q.was).{c}", c = quoted(column))).collect();
        let (from, row) = (table.from.clone(), named(&table.name));
        let old = self.list(before(nets));
        let source = if only != Selection::Other {
            let new = self.list(after(nets));
            format!(
                "SELECT b.old::{row} AS was, a.new AS is_now, a.new::{row} AS now FROM unnest({old}, {new}) AS p (b, a) \
                   JOIN countersign.kept b ON b.call = $1 AND b.seq = p.b \
                   JOIN countersign.kept a ON a.call = $1 AND a.seq = p.a OFFSET 0"
            )
        } else {
            format!(
                "SELECT b.old AS is_was, b.old::{row} AS was FROM unnest({old}) AS p (b) \
                   JOIN countersign.kept b ON b.call = $1 AND b.seq = p.b OFFSET 0"
            )
        };
        let condition = match only {
            Selection::AsLeft => Self::untouched(table),
            Selection::Ours => table.same_key("(q.now)"),
            Selection::Other => {
                format!("{} AND {}", table.same_key("(q.was)"), table.differs("(q.was)", "q.is_was"))
            }
        };
        self.parts.push(format!(
            "UPDATE {from} AS {ROW} SET {} FROM ({source}) AS q WHERE {condition} RETURNING 1",
            set.join(", ")
        ));
    }

    pub(super) fn insert(&mut self, table: &Table, nets: &[&Net]) {
        let names: Vec<String> =
            table.columns.iter().filter(|c| !c.generated).map(|c| quoted(&c.name)).collect();
        let values: Vec<String> = names.iter().map(|name| format!("(q.was).{name}")).collect();
        let mut earlier = String::new();
        for at in 0..self.parts.len() {
            // Writing to a text cannot fail.
            let _written = write!(earlier, " AND (SELECT count(*) FROM c{at}) >= 0");
        }
        let (row, list) = (named(&table.name), self.list(before(nets)));
        self.parts.push(format!(
            "INSERT INTO {row} ({}) OVERRIDING SYSTEM VALUE SELECT {} \
               FROM (SELECT i.old::{row} AS was FROM unnest({list}) AS p (b) \
                       JOIN countersign.kept i ON i.call = $1 AND i.seq = p.b OFFSET 0) AS q \
              WHERE true{earlier} RETURNING 1",
            names.join(", "),
            values.join(", ")
        ));
    }

    /// The parts run in the order in which the last query asks for their counts.
    pub(super) fn text(&self) -> String {
        let parts: Vec<String> =
            self.parts.iter().enumerate().map(|(at, part)| format!("c{at} AS ({part})")).collect();
        let counts: Vec<String> =
            (0..self.parts.len()).map(|at| format!("(SELECT count(*) FROM c{at})")).collect();
        format!("WITH {} SELECT {}", parts.join(", "), counts.join(", "))
    }

    pub(super) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&self.call];
        for list in &self.lists {
            values.push(list);
        }
        values
    }
}
