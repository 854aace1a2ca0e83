//! Updates: waves of rows in which columns change, each following from another.

use std::collections::BTreeSet;

use countersign_sql::{Action, TableRef};

use super::{ActingKey, Cascade, Fit, refers};

/// More waves than this are not counted.
const WAVES_MAX: usize = 64;

/// Rows of a table in which columns change.
pub(super) struct Wave {
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

impl Cascade<'_> {
    pub(super) fn update(&mut self, columns: Option<&BTreeSet<String>>) {
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
    pub(super) fn spread(&mut self, from: usize) {
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
    pub(super) fn wave(&mut self, at: usize, action: Action, set: &str, times: u64, path: Path) {
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
    pub(super) fn judge(&mut self) {
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

    fn with_generated(&self, table: &TableRef, columns: &BTreeSet<String>) -> BTreeSet<String> {
        let generated =
            self.traits.get(table).into_iter().flat_map(|traits| traits.generated.iter().cloned());
        columns.iter().cloned().chain(generated.filter(|_| !columns.is_empty())).collect()
    }
}

/// Tells whether one of these columns changes. None: any may.
fn meets(changed: Option<&BTreeSet<String>>, columns: &[String]) -> bool {
    changed.is_none_or(|changed| columns.iter().any(|column| changed.contains(column)))
}
