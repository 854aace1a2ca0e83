//! Which rows a change takes along by foreign keys, as one query that counts them without touching them.
//!
//! Keys that cascade deletes are followed to any depth, a table that refers to itself included. A ring over
//! several tables is followed once around, and the count is then not exact.

use std::collections::{BTreeMap, BTreeSet};

use countersign_sql::{Action, Dialect, TableRef};

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
    /// The tables counted, in the order of the columns. The target itself stands here when it refers to
    /// itself: see `itself` for rows that go, besides for rows that change.
    pub(crate) tables: Vec<TableRef>,
    /// Which column, if any, counts all of the target's rows that go, those named included.
    pub(crate) itself: Option<usize>,
    /// Whether the counts are exact.
    pub(crate) exact: bool,
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
/// `limit + 1` rows of a table.
pub(crate) fn cascade_query(
    dialect: Dialect,
    target: &TableRef,
    rows: &str,
    change: &Change,
    keys: &[ActingKey],
    limit: u64,
) -> Option<CascadeQuery> {
    let mut plan = Plan { keys, order: Vec::new(), on_path: Vec::new(), exact: true };
    let mut updates: BTreeMap<TableRef, Vec<&ActingKey>> = BTreeMap::new();
    match change {
        Change::Delete => {
            plan.visit(target);
            // Children after all of their parents.
            plan.order.reverse();
            for table in &plan.order {
                for key in keys.iter().filter(|k| k.parent == *table) {
                    if matches!(key.on_delete, Action::SetNull | Action::SetDefault) {
                        updates.entry(key.child.clone()).or_default().push(key);
                    }
                }
            }
        }
        Change::Update(columns) => {
            plan.order.push(target.clone());
            let meant = |key: &&ActingKey| {
                key.parent == *target
                    && key.on_update != Action::Refuse
                    && columns.as_ref().is_none_or(|c| key.parent_columns.iter().any(|p| c.contains(p)))
            };
            for key in keys.iter().filter(meant) {
                updates.entry(key.child.clone()).or_default().push(key);
                // Rows whose key keeps its value take nothing along.
                plan.exact = false;
            }
        }
    }
    // A row that is both updated and deleted, or whose update reaches further, is not counted exactly.
    for (table, acting) in &updates {
        let changed: BTreeSet<&String> = acting.iter().flat_map(|k| &k.child_columns).collect();
        let further = keys.iter().any(|k| {
            k.parent == *table
                && k.on_update != Action::Refuse
                && k.parent_columns.iter().any(|c| changed.contains(c))
        });
        if further || plan.order.contains(table) {
            plan.exact = false;
        }
    }
    let self_reference = plan.cascading(target, target).next().is_some() && *change == Change::Delete;
    // Rows of which the key is null are told apart by nothing else.
    if plan.order.iter().any(|t| plan.cascading(t, t).any(|key| key.parent_identity.is_empty())) {
        plan.exact = false;
    }
    if plan.order.len() <= 1 && updates.is_empty() && !self_reference {
        return None;
    }
    Some(plan.written(dialect, target, rows, &updates, limit))
}

struct Plan<'k> {
    keys: &'k [ActingKey],
    /// Tables whose rows are deleted.
    order: Vec<TableRef>,
    on_path: Vec<TableRef>,
    exact: bool,
}

impl Plan<'_> {
    fn cascading<'s>(
        &'s self,
        parent: &'s TableRef,
        child: &'s TableRef,
    ) -> impl Iterator<Item = &'s ActingKey> {
        self.keys
            .iter()
            .filter(move |k| k.parent == *parent && k.child == *child && k.on_delete == Action::Cascade)
    }

    /// Depth first; a table is added once everything below it is.
    fn visit(&mut self, table: &TableRef) {
        if self.order.contains(table) {
            return;
        }
        self.on_path.push(table.clone());
        let children: BTreeSet<TableRef> = self
            .keys
            .iter()
            .filter(|k| k.parent == *table && k.child != *table && k.on_delete == Action::Cascade)
            .map(|k| k.child.clone())
            .collect();
        for child in children {
            if self.on_path.contains(&child) {
                self.exact = false;
            } else {
                self.visit(&child);
            }
        }
        self.on_path.pop();
        self.order.push(table.clone());
    }

    fn written(
        &self,
        dialect: Dialect,
        target: &TableRef,
        rows: &str,
        updates: &BTreeMap<TableRef, Vec<&ActingKey>>,
        limit: u64,
    ) -> CascadeQuery {
        let stop = limit.saturating_add(1);
        let mut sets = Vec::new();
        let mut counts = Vec::new();
        let mut tables = Vec::new();
        let mut itself = None;
        for (at, table) in self.order.iter().enumerate() {
            let columns = self.columns(table, updates);
            let listed = |alias: &str| -> String {
                if columns.is_empty() {
                    return "1".into();
                }
                columns.iter().map(|c| format!("{alias}.{}", quoted(c))).collect::<Vec<_>>().join(", ")
            };
            let base = if table == target {
                format!("SELECT {} FROM ({rows}) AS p", listed("p"))
            } else {
                let parents = self.order.get(..at).unwrap_or_default().iter().enumerate();
                let conditions: Vec<String> = parents
                    .flat_map(|(i, parent)| self.cascading(parent, table).map(move |key| refers(key, i)))
                    .collect();
                format!("SELECT {} FROM {} AS c WHERE {}", listed("c"), named(table), conditions.join(" OR "))
            };
            let own: Vec<String> = self
                .cascading(table, table)
                .map(|key| {
                    let pairs = key.child_columns.iter().zip(&key.parent_columns);
                    let on = pairs.map(|(c, p)| format!("c.{} = p.{}", quoted(c), quoted(p)));
                    format!("({})", on.collect::<Vec<_>>().join(" AND "))
                })
                .collect();
            let body = if own.is_empty() {
                format!("SELECT * FROM ({base}) AS b LIMIT {stop}")
            } else {
                // UNION ends the recursion on a ring of rows. The columns hold the primary key; so equal means
                // the same row.
                let limit = match dialect {
                    Dialect::Sqlite => format!(" LIMIT {stop}"),
                    Dialect::Postgres => String::new(),
                };
                let (table, on) = (named(table), own.join(" OR "));
                format!(
                    "{base} UNION SELECT {} FROM {table} AS c JOIN d{at} AS p ON {on}{limit}",
                    listed("c")
                )
            };
            sets.push(format!("d{at} AS ({body})"));
            if table != target || !own.is_empty() {
                if table == target {
                    itself = Some(tables.len());
                }
                tables.push(table.clone());
                counts.push(format!("(SELECT count(*) FROM (SELECT 1 FROM d{at} LIMIT {stop}) AS q)"));
            }
        }
        for (table, acting) in updates {
            // A row that refers by several keys is touched once by each.
            let parts: Vec<String> = acting
                .iter()
                .filter_map(|key| self.order.iter().position(|t| *t == key.parent).map(|i| refers(key, i)))
                .map(|condition| {
                    let table = named(table);
                    format!("(SELECT count(*) FROM (SELECT 1 FROM {table} AS c WHERE {condition} LIMIT {stop}) AS q)")
                })
                .collect();
            tables.push(table.clone());
            counts.push(parts.join(" + "));
        }
        let text = format!("WITH RECURSIVE {} SELECT {}", sets.join(", "), counts.join(", "));
        CascadeQuery { text, tables, itself, exact: self.exact }
    }

    /// The columns of a table that its children refer to.
    fn columns(&self, table: &TableRef, updates: &BTreeMap<TableRef, Vec<&ActingKey>>) -> BTreeSet<String> {
        let deletes = self.keys.iter().filter(|k| {
            k.parent == *table && k.on_delete == Action::Cascade && self.order.contains(&k.child)
        });
        let updated = updates.values().flatten().copied().filter(|k| k.parent == *table);
        let identity = self.cascading(table, table).flat_map(|k| k.parent_identity.iter().cloned());
        deletes.chain(updated).flat_map(|k| k.parent_columns.iter().cloned()).chain(identity).collect()
    }
}

/// The rows of `c` that refer to a row of the set with this number.
fn refers(key: &ActingKey, set: usize) -> String {
    let list = |alias: &str, columns: &[String]| {
        columns.iter().map(|c| format!("{alias}.{}", quoted(c))).collect::<Vec<_>>().join(", ")
    };
    let (child, parent) = (list("c", &key.child_columns), list("p", &key.parent_columns));
    if key.child_columns.len() == 1 {
        format!("{child} IN (SELECT {parent} FROM d{set} AS p)")
    } else {
        format!("({child}) IN (SELECT {parent} FROM d{set} AS p)")
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
        }
    }

    fn query(keys: &[ActingKey]) -> Option<CascadeQuery> {
        cascade_query(Dialect::Sqlite, &TableRef::bare("a"), "SELECT * FROM a", &Change::Delete, keys, 9)
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
        assert!(query.exact);
        assert_eq!(query.tables, ["b", "c", "d"].map(TableRef::bare));
        assert!(
            query.text.contains(r#""a_id" IN (SELECT p."id" FROM d0 AS p) OR c."b_id" IN"#),
            "{}",
            query.text
        );
    }

    #[test]
    fn a_ring_of_tables_ends_and_is_not_exact() {
        let keys = [key("b", "a", Action::Cascade), key("a", "b", Action::Cascade)];
        let query = query(&keys).unwrap();
        assert!(!query.exact);
        assert_eq!(query.tables, [TableRef::bare("b")]);
    }

    #[test]
    fn rows_that_refer_to_their_own_table_are_told_apart_by_its_primary_key() {
        let mut own = key("a", "a", Action::Cascade);
        own.parent_columns = vec!["u".into()];
        let exact = query(std::slice::from_ref(&own)).unwrap();
        assert!(exact.exact && exact.text.contains(r#"SELECT c."id", c."u""#), "{}", exact.text);
        own.parent_identity.clear();
        assert!(!query(&[own]).unwrap().exact);
    }

    #[test]
    fn an_update_takes_along_only_what_refers_to_a_changed_column() {
        let mut cascading = key("b", "a", Action::Refuse);
        cascading.on_update = Action::Cascade;
        let ask = |columns: &[&str]| {
            let columns = columns.iter().map(ToString::to_string).collect();
            let change = Change::Update(Some(columns));
            let keys = std::slice::from_ref(&cascading);
            cascade_query(Dialect::Postgres, &TableRef::bare("a"), "SELECT * FROM a", &change, keys, 9)
        };
        assert_eq!(ask(&["name"]), None);
        assert!(!ask(&["id"]).unwrap().exact);
    }
}
