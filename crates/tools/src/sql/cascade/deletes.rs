//! Deletes: a set of the rows that go for each table, and one for each ring of tables.

use std::collections::{BTreeMap, BTreeSet};

use countersign_sql::{Action, Dialect, TableRef};

use super::{ActingKey, Cascade, Fit, compared, named, quoted, refers};

impl Cascade<'_> {
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

    pub(super) fn delete(&mut self) {
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
        let columns = group.iter().map(|table| {
            self.columns(table).into_iter().chain(self.identity(table).into_iter().flatten()).collect()
        });
        let ring = Ring { group, columns: columns.collect() };
        let base: Vec<String> =
            group.iter().enumerate().map(|(at, t)| self.entering(t, group, &ring.listed(at))).collect();
        let number = self.sets.len();
        let heads = ring.heads();
        let recursion = self.recursion(number, &heads, &self.steps(&ring), group.len());
        self.sets.push(format!(
            "s{number} ({}) AS ({} UNION {recursion})",
            heads.join(", "),
            base.join(" UNION ")
        ));
        for (at, (table, columns)) in group.iter().zip(&ring.columns).enumerate() {
            let shown: Vec<String> =
                columns.iter().map(|c| format!("s.{} AS {}", ring.name(at, c), quoted(c))).collect();
            let shown = if shown.is_empty() { "1".into() } else { shown.join(", ") };
            let set = self.set(&format!("SELECT {shown} FROM s{number} AS s WHERE s.t = {at}"));
            self.deleted.insert(table.clone(), set);
        }
    }

    /// Lists by which keys rows of a ring lead to others of it.
    fn steps(&self, ring: &Ring<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        for (at, child) in ring.group.iter().enumerate() {
            for (of, parent) in ring.group.iter().enumerate() {
                for key in self.cascading(parent, child) {
                    let pairs = key.child_columns.iter().zip(&key.parent_columns).enumerate();
                    let on: Vec<String> = match key.fit {
                        Fit::Blind => {
                            key.child_columns.iter().map(|c| format!("c.{} IS NOT NULL", quoted(c))).collect()
                        }
                        Fit::Exact | Fit::Loose => pairs
                            .map(|(n, (c, p))| format!("{} = p.{}", compared(key, n, c), ring.name(of, p)))
                            .collect(),
                    };
                    steps.push(Step {
                        listed: ring.listed(at),
                        from: self.from(child),
                        on: format!("p.t = {of} AND {}", on.join(" AND ")),
                    });
                }
            }
        }
        steps
    }

    /// Writes the part of a recursive set that comes back to it.
    fn recursion(&self, number: usize, heads: &[String], steps: &[Step], tables: usize) -> String {
        match self.dialect {
            Dialect::Postgres => {
                let steps: Vec<String> = steps
                    .iter()
                    .map(|Step { listed, from, on }| format!("SELECT {listed} FROM {from} AS c WHERE {on}"))
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
                    .map(|Step { listed, from, on }| {
                        format!("SELECT {listed} FROM s{number} AS p JOIN {from} AS c ON {on}")
                    })
                    .collect();
                // Where the whole ends, one table at least is beyond the limit.
                let most = self.stop.saturating_mul(u64::try_from(tables).unwrap_or(u64::MAX));
                format!("{} LIMIT {}", steps.join(" UNION "), most.min(i64::MAX.unsigned_abs()))
            }
        }
    }

    /// The columns that tell the rows of a table apart. None where nothing does.
    fn identity(&self, table: &TableRef) -> Option<Vec<String>> {
        let known = self.keys.iter().find(|k| k.parent == *table && !k.parent_identity.is_empty());
        known.map(|key| key.parent_identity.clone())
    }
}

/// Tables that lead to each other, and the columns of each that one set of all of their rows holds.
struct Ring<'r> {
    group: &'r [TableRef],
    columns: Vec<BTreeSet<String>>,
}

/// One key by which rows of a ring lead to others.
struct Step {
    /// The columns of the set, of the row that goes.
    listed: String,
    /// The table that it is in.
    from: String,
    /// The condition under which it goes, because of a row of the set.
    on: String,
}

impl Ring<'_> {
    /// Lists the columns of the set for a row of one table. The values of one table stand in columns of their own,
    /// which are null, of their type, for the others.
    fn listed(&self, own: usize) -> String {
        let mut out = vec![own.to_string()];
        for (at, (table, columns)) in self.group.iter().zip(&self.columns).enumerate() {
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
    }

    /// Names a column of one table within the set.
    fn name(&self, at: usize, column: &String) -> String {
        let place =
            self.columns.get(at).and_then(|c| c.iter().position(|known| known == column)).unwrap_or(0);
        format!("c{at}_{place}")
    }

    /// Names all columns of the set.
    fn heads(&self) -> Vec<String> {
        std::iter::once("t".to_owned())
            .chain(
                self.columns
                    .iter()
                    .enumerate()
                    .flat_map(|(at, c)| c.iter().map(move |column| (at, column)))
                    .map(|(at, c)| self.name(at, c)),
            )
            .collect()
    }
}
