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

use std::collections::{BTreeMap, BTreeSet};

use countersign_sql::{Action, Dialect, TableRef};

/// More waves than this are not counted.
const WAVES_MAX: usize = 64;

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
    /// Whether changing these columns may move rows between partitions. None: any columns.
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
    let mut plan = Plan {
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

/// Rows of a table in which columns change.
struct Wave {
    table: TableRef,
    /// The name of the set of these rows.
    set: String,
    /// None: any column.
    columns: Option<BTreeSet<String>>,
    /// The key that changed them, by its place, and what it did; None for the statement itself.
    by: Option<(usize, Action)>,
    /// How often each of them is touched at most.
    times: u64,
    /// The waves that led here.
    path: Path,
}

/// Which columns changed in which tables on the way.
type Path = Vec<(TableRef, Option<BTreeSet<String>>)>;

struct Plan<'p> {
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

impl Plan<'_> {
    /// The keys that delete rows of `child` when rows of `parent` go.
    fn cascading<'s>(
        &'s self,
        parent: &'s TableRef,
        child: &'s TableRef,
    ) -> impl Iterator<Item = &'s ActingKey> {
        let cascades =
            move |k: &&ActingKey| k.parent == *parent && k.child == *child && k.on_delete == Action::Cascade;
        self.keys.iter().filter(cascades)
    }

    /// The tables from which rows are deleted when rows of `table` are, itself included.
    fn below(&self, table: &TableRef) -> BTreeSet<TableRef> {
        let mut found = BTreeSet::from([table.clone()]);
        let mut open = vec![table.clone()];
        while let Some(parent) = open.pop() {
            for key in self.keys.iter().filter(|k| k.parent == parent && k.on_delete == Action::Cascade) {
                if found.insert(key.child.clone()) {
                    open.push(key.child.clone());
                }
            }
        }
        found
    }

    /// The tables from which rows are deleted, those that lead to each other together, each after all of
    /// its parents.
    fn groups(&self) -> Vec<Vec<TableRef>> {
        let below: BTreeMap<TableRef, BTreeSet<TableRef>> =
            self.below(self.target).into_iter().map(|t| (t.clone(), self.below(&t))).collect();
        let leads = |a: &TableRef, b: &TableRef| below.get(a).is_some_and(|found| found.contains(b));
        let mut open: BTreeSet<TableRef> = below.keys().cloned().collect();
        let mut groups = Vec::new();
        loop {
            // One to which nothing leads that is not in its own ring.
            let first = |t: &&TableRef| open.iter().all(|o| !leads(o, t) || leads(t, o));
            let Some(first) = open.iter().find(first).cloned() else { return groups };
            let group: Vec<TableRef> =
                open.iter().filter(|o| leads(&first, o) && leads(o, &first)).cloned().collect();
            open.retain(|t| !group.contains(t));
            groups.push(group);
        }
    }

    fn delete(&mut self) {
        for group in self.groups() {
            let recursive = match group.as_slice() {
                [only] => self.cascading(only, only).next().is_some(),
                _ => true,
            };
            if !recursive {
                for table in &group {
                    let query = format!(
                        "{} LIMIT {}",
                        self.entering(table, &group, &self.listed(table, "c")),
                        self.stop
                    );
                    let set = self.set(&query);
                    self.deleted.insert(table.clone(), set);
                }
            } else if group.iter().all(|t| self.identity(t).is_some()) {
                self.ring(&group);
            } else {
                // Its rows cannot be told apart, and go once each: all that there are is the most.
                self.exact = false;
                for table in &group {
                    let (columns, from) = (self.listed(table, "c"), self.from(table));
                    let set = self.set(&format!("SELECT {columns} FROM {from} AS c LIMIT {}", self.stop));
                    self.deleted.insert(table.clone(), set);
                }
            }
            if recursive {
                self.recursive.extend(group);
            }
        }
        let stop = self.stop;
        for (table, set) in self.deleted.clone() {
            if table != *self.target || self.recursive.contains(&table) {
                let count = format!("(SELECT count(*) FROM (SELECT 1 FROM {set} LIMIT {stop}) AS q)");
                self.parts.entry((table, false)).or_default().push(count);
            }
        }
        let loose = |k: &&ActingKey| k.fit != Fit::Exact && self.deleted.contains_key(&k.parent);
        if self.keys.iter().any(|k| loose(&k)) {
            self.exact = false;
        }
        for (at, key) in self.keys.iter().enumerate() {
            if let (Action::SetNull | Action::SetDefault, Some(set)) =
                (key.on_delete, self.deleted.get(&key.parent).cloned())
            {
                // A row that is deleted as well is touched once or twice.
                if self.deleted.contains_key(&key.child) {
                    self.exact = false;
                }
                self.wave(at, key.on_delete, &set, 1, Vec::new());
            }
        }
        self.spread(0);
        self.judge();
    }

    fn update(&mut self, columns: Option<&BTreeSet<String>>) {
        let columns = columns.map(|columns| self.with_generated(self.target, columns));
        let follows = |key: &&ActingKey| {
            key.parent == *self.target
                && key.on_update != Action::Refuse
                && meets(columns.as_ref(), &key.parent_columns)
        };
        if !self.keys.iter().any(|key| follows(&key)) {
            return;
        }
        // A row whose key keeps its value takes nothing along.
        self.exact = false;
        let query =
            format!("SELECT {} FROM ({}) AS p LIMIT {}", self.listed(self.target, "p"), self.rows, self.stop);
        let set = self.set(&query);
        // Rows that are given another row of the same table to refer to go along with that one once more.
        for (at, key) in self.keys.iter().enumerate() {
            let again =
                key.child == *self.target && follows(&key) && meets(columns.as_ref(), &key.child_columns);
            if again {
                self.count(key, (at, key.on_update), &set, 1, Vec::new());
            }
        }
        let root = self.waves.len();
        let target = self.target.clone();
        self.waves.push(Wave { table: target, set, columns, by: None, times: 1, path: Vec::new() });
        self.waves.swap(0, root);
        self.spread(0);
        self.judge();
    }

    /// Follows waves, from this one on, to where nothing follows any more.
    fn spread(&mut self, from: usize) {
        let mut at = from;
        while let Some(wave) = self.waves.get(at) {
            let (table, set, columns, times) =
                (wave.table.clone(), wave.set.clone(), wave.columns.clone(), wave.times);
            let mut path = wave.path.clone();
            let step = (table.clone(), columns.clone());
            let ring = path.contains(&step);
            path.push(step);
            at = at.saturating_add(1);
            for (place, key) in self.keys.iter().enumerate() {
                let follows = key.parent == table
                    && key.on_update != Action::Refuse
                    && meets(columns.as_ref(), &key.parent_columns);
                if !follows {
                    continue;
                }
                self.exact = false;
                if ring || self.waves.len() >= WAVES_MAX {
                    self.unbounded = true;
                    return;
                }
                // The default may be one of the keys that change, and its rows are then touched again.
                let twice = if key.on_update == Action::SetDefault { 2 } else { 1 };
                self.wave(place, key.on_update, &set, times.saturating_mul(twice), path.clone());
            }
        }
    }

    /// Adds the rows that refer by this key to the rows of a set.
    fn wave(&mut self, at: usize, action: Action, set: &str, times: u64, path: Path) {
        let Some(key) = self.keys.get(at) else { return };
        let (child, from) = (&key.child, self.from(&key.child));
        let (columns, condition) = (self.listed(child, "c"), refers(key, set));
        let set =
            self.set(&format!("SELECT {columns} FROM {from} AS c WHERE {condition} LIMIT {}", self.stop));
        if key.fit != Fit::Exact {
            self.exact = false;
        }
        self.count(key, (at, action), &set, times, path);
    }

    /// Counts a set of rows as updated, and has it followed.
    fn count(&mut self, key: &ActingKey, by: (usize, Action), set: &str, times: u64, path: Path) {
        let table = &key.child;
        let columns = self.with_generated(table, &key.child_columns.iter().cloned().collect());
        let moved = self.traits.get(table).is_some_and(|traits| traits.moves(Some(&columns)));
        let times = if moved { times.saturating_mul(2) } else { times };
        if times > 1 {
            self.exact = false;
        }
        let count =
            format!("{times} * (SELECT count(*) FROM (SELECT 1 FROM {set} LIMIT {}) AS q)", self.stop);
        self.parts.entry((table.clone(), true)).or_default().push(count);
        let (table, set) = (table.clone(), set.to_owned());
        self.waves.push(Wave { table, set, columns: Some(columns), by: Some(by), times, path });
    }

    /// Says of what was found together how far it can be relied upon.
    fn judge(&mut self) {
        // The waves in which what this key refers to changes.
        let changes = |key: &ActingKey| {
            let meant =
                |wave: &&Wave| wave.table == key.parent && meets(wave.columns.as_ref(), &key.parent_columns);
            self.waves.iter().filter(meant).count()
        };
        let (mut exact, mut unbounded) = (self.exact, self.unbounded);
        for wave in &self.waves {
            let leaves = wave.by.is_some_and(|(_, action)| action == Action::SetNull);
            for (at, key) in self.keys.iter().enumerate() {
                let other = wave.by.is_none_or(|(by, _)| by != at);
                if !other || key.child != wave.table || !meets(wave.columns.as_ref(), &key.child_columns) {
                    continue;
                }
                // Columns that are shared with another key.
                let follows = key.on_update != Action::Refuse && changes(key) > 0;
                let goes = key.on_delete != Action::Refuse && self.deleted.contains_key(&key.parent);
                if follows || goes {
                    exact = false;
                    // The statement's own references to its own table are counted once more.
                    let counted = wave.by.is_none() && key.parent == *self.target;
                    unbounded |= !leaves && !counted;
                }
            }
            let Some((key, Action::SetDefault)) =
                wave.by.and_then(|(at, action)| Some((self.keys.get(at)?, action)))
            else {
                continue;
            };
            let goes = self.deleted.contains_key(&key.parent);
            unbounded |= changes(key) > usize::from(!goes);
        }
        self.exact = exact;
        self.unbounded = unbounded;
    }

    /// The rows of a table that go because of rows in groups before its own, or because the statement says so.
    fn entering(&self, table: &TableRef, group: &[TableRef], listed: &str) -> String {
        if table == self.target {
            return format!("SELECT {listed} FROM ({}) AS c", self.rows);
        }
        let mut conditions = Vec::new();
        for (parent, set) in self.deleted.iter().filter(|(parent, _)| !group.contains(parent)) {
            conditions.extend(self.cascading(parent, table).map(|key| refers(key, set)));
        }
        let condition = if conditions.is_empty() { "1 = 0".into() } else { conditions.join(" OR ") };
        format!("SELECT {listed} FROM {} AS c WHERE {condition}", self.from(table))
    }

    /// Counts tables that lead to each other: one recursive set of the rows of all of them, each with the number
    /// of its table. `UNION` ends it on a ring of rows; the rows hold their primary key, so equal means the same.
    fn ring(&mut self, group: &[TableRef]) {
        let columns: Vec<BTreeSet<String>> = group
            .iter()
            .map(|table| {
                self.columns(table).into_iter().chain(self.identity(table).into_iter().flatten()).collect()
            })
            .collect();
        // The values of one table stand in columns of their own, which are null, of their type, for the others.
        let listed = |own: usize| -> String {
            let mut out = vec![own.to_string()];
            for (at, (table, columns)) in group.iter().zip(&columns).enumerate() {
                for column in columns {
                    let column = quoted(column);
                    out.push(if at == own {
                        format!("c.{column}")
                    } else {
                        format!("(SELECT n.{column} FROM {} AS n WHERE 1 = 0)", named(table))
                    });
                }
            }
            out.join(", ")
        };
        let name = |at: usize, column: &String| {
            let place = columns.get(at).and_then(|c| c.iter().position(|known| known == column)).unwrap_or(0);
            format!("c{at}_{place}")
        };
        let heads: Vec<String> = std::iter::once("t".to_owned())
            .chain(
                columns
                    .iter()
                    .enumerate()
                    .flat_map(|(at, c)| c.iter().map(move |column| (at, column)))
                    .map(|(at, c)| name(at, c)),
            )
            .collect();
        let base: Vec<String> =
            group.iter().enumerate().map(|(at, t)| self.entering(t, group, &listed(at))).collect();
        let mut steps = Vec::new();
        for (at, child) in group.iter().enumerate() {
            for (of, parent) in group.iter().enumerate() {
                for key in self.cascading(parent, child) {
                    let pairs = key.child_columns.iter().zip(&key.parent_columns).enumerate();
                    let on: Vec<String> = match key.fit {
                        Fit::Blind => {
                            key.child_columns.iter().map(|c| format!("c.{} IS NOT NULL", quoted(c))).collect()
                        }
                        Fit::Exact | Fit::Loose => pairs
                            .map(|(n, (c, p))| format!("{} = p.{}", compared(key, n, c), name(of, p)))
                            .collect(),
                    };
                    steps.push((
                        listed(at),
                        self.from(child),
                        format!("p.t = {of} AND {}", on.join(" AND ")),
                    ));
                }
            }
        }
        let number = self.sets.len();
        let recursion = match self.dialect {
            Dialect::Postgres => {
                let steps: Vec<String> = steps
                    .iter()
                    .map(|(listed, from, on)| format!("SELECT {listed} FROM {from} AS c WHERE {on}"))
                    .collect();
                let columns: Vec<String> = heads.iter().map(|head| format!("x.{head}")).collect();
                format!(
                    "SELECT {} FROM s{number} AS p CROSS JOIN LATERAL ({}) AS x ({})",
                    columns.join(", "),
                    steps.join(" UNION ALL "),
                    heads.join(", ")
                )
            }
            Dialect::Sqlite => {
                let steps: Vec<String> = steps
                    .iter()
                    .map(|(listed, from, on)| {
                        format!("SELECT {listed} FROM s{number} AS p JOIN {from} AS c ON {on}")
                    })
                    .collect();
                // Where the whole ends, one table at least is beyond the limit.
                let most = self.stop.saturating_mul(u64::try_from(group.len()).unwrap_or(u64::MAX));
                format!("{} LIMIT {}", steps.join(" UNION "), most.min(i64::MAX.unsigned_abs()))
            }
        };
        self.sets.push(format!(
            "s{number} ({}) AS ({} UNION {recursion})",
            heads.join(", "),
            base.join(" UNION ")
        ));
        for (at, (table, columns)) in group.iter().zip(&columns).enumerate() {
            let shown: Vec<String> =
                columns.iter().map(|c| format!("s.{} AS {}", name(at, c), quoted(c))).collect();
            let shown = if shown.is_empty() { "1".into() } else { shown.join(", ") };
            let set = self.set(&format!("SELECT {shown} FROM s{number} AS s WHERE s.t = {at}"));
            self.deleted.insert(table.clone(), set);
        }
    }

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

    /// The columns that tell the rows of a table apart. None where nothing does.
    fn identity(&self, table: &TableRef) -> Option<Vec<String>> {
        let known = self.keys.iter().find(|k| k.parent == *table && !k.parent_identity.is_empty());
        known.map(|key| key.parent_identity.clone())
    }

    fn from(&self, table: &TableRef) -> String {
        let only = self.traits.get(table).is_some_and(|traits| traits.only);
        if only { format!("ONLY {}", named(table)) } else { named(table) }
    }

    fn with_generated(&self, table: &TableRef, columns: &BTreeSet<String>) -> BTreeSet<String> {
        let generated =
            self.traits.get(table).into_iter().flat_map(|traits| traits.generated.iter().cloned());
        columns.iter().cloned().chain(generated.filter(|_| !columns.is_empty())).collect()
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

/// Whether one of these columns changes. None: any may.
fn meets(changed: Option<&BTreeSet<String>>, columns: &[String]) -> bool {
    changed.is_none_or(|changed| columns.iter().any(|column| changed.contains(column)))
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
