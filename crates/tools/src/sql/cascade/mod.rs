//! Which rows a change takes along by foreign keys, as one query that counts them without touching them.
//!
//! What is counted is touches, as the databases count them when the change is made: a row that two keys set to
//! null is touched twice. The numbers are the very ones (`exact`), or the most that can be, or `unbounded` is
//! said; never too low, as far as foreign keys go. What triggers do is not counted here.
//!
//! **Deletes** go to any depth. A row is deleted once, so a set of rows per table is enough; tables whose keys
//! lead back to themselves, alone or in a ring, are counted together by one recursive query.
//!
//! **Updates** go to any depth too, as waves: the rows of one table in which certain columns change. A row can
//! be in several waves and is counted in each. While all that follows a changed key follows it (`CASCADE`) or
//! leaves it (`SET NULL`), a row refers to the same row as before the change, so that the references of the
//! snapshot tell the waves. New references could lead to more: they come from `SET DEFAULT`, from a statement that
//! sets what it also refers by, and from keys that share columns. These are counted twice where that is enough,
//! and `unbounded` where it is not, as are rings of keys that follow each other's updates.

mod deletes;
mod updates;

use std::collections::{BTreeMap, BTreeSet};

use countersign_sql::{Action, Dialect, TableRef};

use updates::Wave;

/// A foreign key that changes the referring rows instead of refusing the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActingKey {
    /// The table that refers.
    pub(crate) child: TableRef,
    /// Its columns, in the order of the key.
    pub(crate) child_columns: Vec<String>,
    /// The table referred to.
    pub(crate) parent: TableRef,
    /// Its columns, in the same order.
    pub(crate) parent_columns: Vec<String>,
    /// The columns that tell its rows apart and are never null: its primary key. Empty where it has none.
    pub(crate) parent_identity: Vec<String>,
    /// What deleting there does here.
    pub(crate) on_delete: Action,
    /// What changing the key there does here.
    pub(crate) on_update: Action,
    /// How far the rows found by it are the ones that it acts on.
    pub(crate) fit: Fit,
    /// SQLite: how texts are compared, by column, where it is not said by the columns themselves.
    pub(crate) collations: Vec<Option<String>>,
}

/// How far a key's rows can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// To the row.
    Exact,
    /// It refers to a part of the parent's rows (a partition, a child): those found are the most.
    Loose,
    /// Values cannot be compared from here: every row that refers to anything is found.
    Blind,
}

/// What must be known of a table besides its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// PostgreSQL: keys act on its own rows and not on those of tables that inherit from it.
    pub(crate) only: bool,
    /// Its generated columns, which change with any other.
    pub(crate) generated: BTreeSet<String>,
    /// The columns that say in which partition a row lies; an empty name stands for any. Moving a row is two touches.
    pub(crate) partitioned_by: BTreeSet<String>,
}

impl Traits {
    /// Tells whether changing these columns may move rows between partitions. None: any columns.
    pub(crate) fn moves(&self, columns: Option<&BTreeSet<String>>) -> bool {
        let may = |by: &String| by.is_empty() || columns.is_none_or(|columns| columns.contains(by));
        self.partitioned_by.iter().any(may)
    }
}

/// What happens to the rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// They go.
    Delete,
    /// These columns change; None where it is not known which.
    Update(Option<BTreeSet<String>>),
}

/// A query that counts what a change takes along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CascadeQuery {
    /// One row; one column for each table below. Its placeholders are those of the statement's rows.
    pub(crate) text: String,
    /// The tables counted, in the order of the columns. The target itself stands here when keys lead back to
    /// it: see `itself` for rows that go, besides for rows that change.
    pub(crate) tables: Vec<TableRef>,
    /// Which column, if any, counts all of the target's rows that go, those named included.
    pub(crate) itself: Option<usize>,
    /// Whether the counts are exact; otherwise they are the most that can be.
    pub(crate) exact: bool,
    /// Whether there may be more than was counted.
    pub(crate) unbounded: bool,
}

/// Every table whose rows may change because rows of `target` do, itself not included.
pub(crate) fn touched(target: &TableRef, keys: &[ActingKey]) -> BTreeSet<TableRef> {
    let mut found = BTreeSet::from([target.clone()]);
    let mut open = vec![target.clone()];
    while let Some(parent) = open.pop() {
        for key in keys.iter().filter(|k| k.parent == parent) {
            if found.insert(key.child.clone()) {
                open.push(key.child.clone());
            }
        }
    }
    found.remove(target);
    found
}

/// Builds the query that counts what changing rows of `target` takes along; None when nothing is.
///
/// `rows` is a query of the touched rows of `target` with all of their columns; counting stops at
/// `limit + 1` rows of a table. A table without `traits` has none.
pub(crate) fn cascade_query(
    dialect: Dialect,
    target: &TableRef,
    rows: &str,
    change: &Change,
    keys: &[ActingKey],
    traits: &BTreeMap<TableRef, Traits>,
    limit: u64,
) -> Option<CascadeQuery> {
    let mut plan = Cascade {
        dialect,
        target,
        rows,
        keys,
        traits,
        stop: limit.saturating_add(1),
        sets: Vec::new(),
        deleted: BTreeMap::new(),
        waves: Vec::new(),
        parts: BTreeMap::new(),
        exact: true,
        unbounded: false,
        recursive: BTreeSet::new(),
    };
    match change {
        Change::Delete => plan.delete(),
        Change::Update(columns) => plan.update(columns.as_ref()),
    }
    plan.written()
}

struct Cascade<'p> {
    dialect: Dialect,
    target: &'p TableRef,
    rows: &'p str,
    keys: &'p [ActingKey],
    traits: &'p BTreeMap<TableRef, Traits>,
    stop: u64,
    /// The sets of rows, as `name AS (query)`.
    sets: Vec<String>,
    /// The tables whose rows are deleted, with the names of their sets.
    deleted: BTreeMap<TableRef, String>,
    /// The tables that were counted recursively: their sets hold each row once.
    recursive: BTreeSet<TableRef>,
    waves: Vec<Wave>,
    /// What is added up for each table: rows that go, and, apart from them, rows that change.
    parts: BTreeMap<(TableRef, bool), Vec<String>>,
    exact: bool,
    unbounded: bool,
}

impl Cascade<'_> {
    fn set(&mut self, query: &str) -> String {
        let name = format!("d{}", self.sets.len());
        self.sets.push(format!("{name} AS ({query})"));
        name
    }

    /// The columns of a table that others refer to.
    fn columns(&self, table: &TableRef) -> BTreeSet<String> {
        let keys = self.keys.iter().filter(|k| k.parent == *table && k.fit != Fit::Blind);
        keys.flat_map(|k| k.parent_columns.iter().cloned()).collect()
    }

    fn listed(&self, table: &TableRef, alias: &str) -> String {
        let columns = self.columns(table);
        if columns.is_empty() {
            return "1 AS one".into();
        }
        columns.iter().map(|c| format!("{alias}.{}", quoted(c))).collect::<Vec<_>>().join(", ")
    }

    fn from(&self, table: &TableRef) -> String {
        let only = self.traits.get(table).is_some_and(|traits| traits.only);
        if only { format!("ONLY {}", named(table)) } else { named(table) }
    }

    fn written(self) -> Option<CascadeQuery> {
        if self.parts.is_empty() {
            return None;
        }
        let itself = self
            .parts
            .keys()
            .position(|part| self.recursive.contains(self.target) && *part == (self.target.clone(), false));
        let tables: Vec<TableRef> = self.parts.keys().map(|(table, _)| table.clone()).collect();
        let counts: Vec<String> = self.parts.values().map(|parts| parts.join(" + ")).collect();
        Some(CascadeQuery {
            text: format!("WITH RECURSIVE {} SELECT {}", self.sets.join(", "), counts.join(", ")),
            itself,
            exact: self.exact && !self.unbounded,
            unbounded: self.unbounded,
            tables,
        })
    }
}

/// A column of the referring row, compared as the key compares it.
fn compared(key: &ActingKey, place: usize, column: &str) -> String {
    match key.collations.get(place) {
        Some(Some(collation)) => format!("c.{} COLLATE {}", quoted(column), quoted(collation)),
        Some(None) | None => format!("c.{}", quoted(column)),
    }
}

/// The rows of `c` that refer to a row of this set.
fn refers(key: &ActingKey, set: &str) -> String {
    if key.fit == Fit::Blind {
        let any: Vec<String> =
            key.child_columns.iter().map(|c| format!("c.{} IS NOT NULL", quoted(c))).collect();
        return format!("({} AND EXISTS (SELECT 1 FROM {set}))", any.join(" AND "));
    }
    let child: Vec<String> =
        key.child_columns.iter().enumerate().map(|(at, c)| compared(key, at, c)).collect();
    let parent: Vec<String> = key.parent_columns.iter().map(|c| format!("p.{}", quoted(c))).collect();
    let (child, parent) = (child.join(", "), parent.join(", "));
    if key.child_columns.len() == 1 {
        format!("{child} IN (SELECT {parent} FROM {set} AS p)")
    } else {
        format!("({child}) IN (SELECT {parent} FROM {set} AS p)")
    }
}

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn named(table: &TableRef) -> String {
    match &table.schema {
        Some(schema) => format!("{}.{}", quoted(schema), quoted(&table.name)),
        None => quoted(&table.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(child: &str, parent: &str, on_delete: Action) -> ActingKey {
        ActingKey {
            child: TableRef::bare(child),
            child_columns: vec![format!("{parent}_id")],
            parent: TableRef::bare(parent),
            parent_columns: vec!["id".into()],
            parent_identity: vec!["id".into()],
            on_delete,
            on_update: Action::Refuse,
            fit: Fit::Exact,
            collations: Vec::new(),
        }
    }

    fn ask(keys: &[ActingKey], change: &Change) -> Option<CascadeQuery> {
        let target = TableRef::bare("a");
        cascade_query(Dialect::Sqlite, &target, "SELECT * FROM a", change, keys, &BTreeMap::new(), 9)
    }

    fn query(keys: &[ActingKey]) -> Option<CascadeQuery> {
        ask(keys, &Change::Delete)
    }

    #[test]
    fn nothing_is_counted_where_nothing_cascades() {
        assert_eq!(query(&[]), None);
        assert_eq!(query(&[key("b", "a", Action::Refuse)]), None);
    }

    #[test]
    fn follows_keys_to_any_depth_and_joins_paths() {
        let keys = [
            key("b", "a", Action::Cascade),
            key("c", "b", Action::Cascade),
            key("c", "a", Action::Cascade),
            key("d", "c", Action::SetNull),
        ];
        let query = query(&keys).unwrap();
        assert!(query.exact && !query.unbounded);
        assert_eq!(query.tables, ["b", "c", "d"].map(TableRef::bare));
        assert!(
            query.text.contains(r#""a_id" IN (SELECT p."id" FROM d0 AS p) OR c."b_id" IN"#),
            "{}",
            query.text
        );
    }

    #[test]
    fn a_ring_of_tables_is_counted_together() {
        let keys = [key("b", "a", Action::Cascade), key("a", "b", Action::Cascade)];
        let query = query(&keys).unwrap();
        assert!(query.exact && !query.unbounded);
        assert_eq!((query.tables, query.itself), (["a", "b"].map(TableRef::bare).to_vec(), Some(0)));
    }

    #[test]
    fn rows_that_cannot_be_told_apart_are_all_counted() {
        let mut own = key("a", "a", Action::Cascade);
        own.parent_columns = vec!["u".into()];
        assert!(query(std::slice::from_ref(&own)).unwrap().exact);
        own.parent_identity.clear();
        let query = query(&[own]).unwrap();
        assert!(!query.exact && query.text.contains(r#"FROM "a" AS c LIMIT 10"#), "{}", query.text);
    }

    fn updating(child: &str, parent: &str, on_update: Action) -> ActingKey {
        ActingKey { on_update, ..key(child, parent, Action::Refuse) }
    }

    fn set(columns: &[&str]) -> Change {
        Change::Update(Some(columns.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn an_update_takes_along_only_what_refers_to_a_changed_column() {
        let keys = [updating("b", "a", Action::Cascade)];
        assert_eq!(ask(&keys, &set(&["name"])), None);
        assert!(!ask(&keys, &set(&["id"])).unwrap().exact);
        assert!(ask(&keys, &Change::Update(None)).is_some());
    }

    #[test]
    fn an_update_is_followed_as_long_as_keys_change() {
        let mut further = updating("c", "b", Action::SetNull);
        further.parent_columns = vec!["a_id".into()];
        let query = ask(&[updating("b", "a", Action::Cascade), further.clone()], &set(&["id"])).unwrap();
        assert_eq!(query.tables, ["b", "c"].map(TableRef::bare));
        // The same behind a delete that sets the reference to null.
        let query = ask(&[key("b", "a", Action::SetNull), further], &Change::Delete).unwrap();
        assert_eq!(query.tables, ["b", "c"].map(TableRef::bare));
        assert!(!query.exact && !query.unbounded);
    }

    #[test]
    fn what_new_references_could_lead_to_is_not_claimed_to_be_known() {
        // Two tables that follow each other's keys.
        let ring = [
            ActingKey { child_columns: vec!["id".into()], ..updating("b", "a", Action::Cascade) },
            ActingKey { child_columns: vec!["id".into()], ..updating("a", "b", Action::Cascade) },
        ];
        assert!(ask(&ring, &set(&["id"])).unwrap().unbounded);
        // Two keys that share a column, of which one gets a value from the other.
        let shared = [
            updating("b", "a", Action::Cascade),
            ActingKey {
                child_columns: vec!["a_id".into(), "b_id".into()],
                ..updating("c", "b", Action::Cascade)
            },
            ActingKey { parent_columns: vec!["a_id".into()], ..updating("c", "b", Action::Cascade) },
            ActingKey { child_columns: vec!["b_id".into()], ..updating("c", "a", Action::Cascade) },
        ];
        assert!(ask(&shared, &set(&["id"])).unwrap().unbounded);
        let query = ask(&[updating("b", "a", Action::SetDefault)], &set(&["id"])).unwrap();
        assert!(!query.unbounded && query.text.contains("2 * "), "{}", query.text);
    }
}
