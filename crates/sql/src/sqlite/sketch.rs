//! A schema just large enough for one statement to compile, drawn from what the statement itself names.

use std::collections::{BTreeMap, BTreeSet};

use super::walk::folded;
use crate::statement::TableRef;

/// Column of a table about which nothing is known.
const FILLER: &str = "countersign_filler";

/// A table has at most this many columns here.
const COLUMNS_MAX: usize = 512;

/// More tables and indexes, more names in all, or more bytes of them, are not of the ordinary size.
const ORDINARY_OBJECTS_MAX: usize = 16;
const ORDINARY_NAMES_MAX: usize = 128;
const ORDINARY_LENGTH_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Sketch {
    /// Where the schema is known, only the names of other databases are wanted.
    names_only: bool,
    drawing: Drawing,
    /// Names under which the statement speaks of its tables.
    aliases: BTreeSet<(String, TableRef)>,
    qualified: BTreeSet<(String, String)>,
    bare: BTreeSet<String>,
    /// Columns that are only guesses.
    tried: BTreeSet<(TableRef, String)>,
}

/// What is drawn of it: all that its definitions are made of, so that equal drawings are equal schemas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Drawing {
    tables: BTreeMap<TableRef, BTreeSet<String>>,
    unique: BTreeSet<(TableRef, Vec<String>)>,
    indexes: BTreeSet<(TableRef, String)>,
}

/// Whether a table is one of a database that must be attached.
fn elsewhere(table: &TableRef) -> bool {
    table.schema.as_deref().is_some_and(|schema| !matches!(schema, "main" | "temp"))
}

/// The schema SQLite means: an unqualified table is one of `main`.
fn key(table: &TableRef) -> TableRef {
    match table.schema.as_deref() {
        Some("main") => TableRef::bare(table.name.clone()),
        _ => table.clone(),
    }
}

fn built_in(name: &str) -> bool {
    matches!(
        name,
        "sqlite_master"
            | "sqlite_schema"
            | "sqlite_temp_master"
            | "sqlite_temp_schema"
            | "dbstat"
            | "json_each"
            | "json_tree"
    ) || name.starts_with("pragma_")
}

fn implicit(column: &str) -> bool {
    matches!(column, "rowid" | "oid" | "_rowid_" | "true" | "false")
}

impl Sketch {
    /// A sketch beside a schema that is known.
    pub(super) fn names_only() -> Self {
        Self { names_only: true, ..Self::default() }
    }

    pub(super) fn drawing(&self) -> &Drawing {
        &self.drawing
    }

    /// Whether it has a use for a column or index of that table.
    pub(super) fn wants(&self, table: &TableRef) -> bool {
        !self.names_only || elsewhere(table)
    }

    pub(super) fn table(&mut self, table: &TableRef, alias: Option<String>) {
        if !self.wants(table) {
            return;
        }
        let key = key(table);
        self.aliases.insert((table.name.clone(), key.clone()));
        if let Some(alias) = alias {
            self.aliases.insert((alias, key.clone()));
        }
        self.drawing.tables.entry(key).or_default();
    }

    pub(super) fn column(&mut self, table: &TableRef, column: &str) {
        if !implicit(column) && self.wants(table) {
            self.drawing.tables.entry(key(table)).or_default().insert(column.to_owned());
        }
    }

    /// A column with a qualifier, as the text writes them.
    pub(super) fn qualified(&mut self, qualifier: &str, column: &str) {
        if !self.names_only {
            self.qualified.insert((folded(qualifier), folded(column)));
        }
    }

    /// A column as the text writes it.
    pub(super) fn bare(&mut self, column: &str) {
        if !self.names_only {
            self.bare.insert(folded(column));
        }
    }

    pub(super) fn unique(&mut self, table: &TableRef, columns: Vec<String>) {
        if !columns.is_empty() && self.wants(table) {
            self.drawing.unique.insert((key(table), columns));
        }
    }

    pub(super) fn index(&mut self, table: &TableRef, index: &str) {
        if self.wants(table) {
            self.drawing.indexes.insert((key(table), index.to_owned()));
        }
    }

    /// Gives columns to tables where the statement leaves no doubt.
    pub(super) fn settle(&mut self) {
        for (qualifier, column) in std::mem::take(&mut self.qualified) {
            let named = self.aliases.iter().filter(|(alias, _)| *alias == qualifier && !implicit(&column));
            for (_, table) in named {
                self.drawing.tables.entry(table.clone()).or_default().insert(column.clone());
            }
        }
        let mut own = self.drawing.tables.iter_mut().filter(|(table, _)| !built_in(&table.name));
        if let (Some((_, only)), None) = (own.next(), own.next()) {
            only.extend(std::mem::take(&mut self.bare).into_iter().filter(|column| !implicit(column)));
        }
    }

    /// The tables that may be given columns.
    pub(super) fn open_tables(&self) -> Vec<TableRef> {
        self.drawing
            .tables
            .keys()
            .filter(|table| !built_in(&table.name) && !table.name.starts_with("sqlite_"))
            .cloned()
            .collect()
    }

    pub(super) fn has(&self, table: &TableRef, column: &str) -> bool {
        self.drawing.tables.get(table).is_some_and(|columns| columns.contains(column))
    }

    /// Gives the table a column it may not have.
    pub(super) fn try_on(&mut self, table: &TableRef, column: &str) {
        if !self.has(table, column) {
            self.tried.insert((table.clone(), column.to_owned()));
            self.column(table, column);
        }
    }

    /// Takes a column away again that was only tried.
    pub(super) fn take_off(&mut self, table: &TableRef, column: &str) {
        if self.tried.remove(&(table.clone(), column.to_owned()))
            && let Some(columns) = self.drawing.tables.get_mut(table)
        {
            columns.remove(column);
        }
    }

    /// The table of that name as an error message writes it: `t` or `db.t`.
    pub(super) fn named(&self, shown: &str) -> Option<TableRef> {
        let shown = shown.to_ascii_lowercase();
        self.drawing
            .tables
            .keys()
            .find(|table| {
                let full = table.schema.as_ref().map(|schema| format!("{schema}.{}", table.name));
                table.name == shown
                    || full.as_deref() == Some(&shown)
                    || shown == format!("main.{}", table.name)
            })
            .cloned()
    }

    /// Number of columns a table has when it is drawn.
    pub(super) fn width(&self, table: &TableRef) -> usize {
        self.drawing.tables.get(table).map_or(0, |columns| columns.len().max(1))
    }

    /// Adds columns until the table has `width` of them. Whether it has now.
    pub(super) fn widen(&mut self, table: &TableRef, width: usize) -> bool {
        if width > COLUMNS_MAX || self.width(table) > width {
            return false;
        }
        let Some(columns) = self.drawing.tables.get_mut(table) else { return false };
        let mut number = 0_usize;
        while columns.len() < width {
            columns.insert(format!("{FILLER}_{number}"));
            number = number.saturating_add(1);
        }
        true
    }

    /// Other databases the statement speaks of, which must be attached.
    pub(super) fn databases(&self) -> BTreeSet<&str> {
        let tables = self.drawing.tables.keys().filter(|table| elsewhere(table));
        tables.filter_map(|table| table.schema.as_deref()).collect()
    }
}

impl Drawing {
    #[cfg(test)]
    pub(super) fn tables(&self) -> impl Iterator<Item = &TableRef> {
        self.tables.keys()
    }

    /// Whether it is of the ordinary kind and size: some tables of `main`, none of them SQLite's own.
    pub(super) fn ordinary(&self) -> bool {
        let plain = |table: &TableRef| {
            let own = built_in(&table.name) || table.name.starts_with("sqlite_");
            table.schema.is_none() && (!own || matches!(table.name.as_str(), "json_each" | "json_tree"))
        };
        let objects = [self.tables.len(), self.unique.len(), self.indexes.len()];
        let columns =
            self.tables.values().flatten().chain(self.unique.iter().flat_map(|(_, columns)| columns));
        let names = columns.chain(self.tables.keys().map(|table| &table.name));
        let (count, length) = names
            .chain(self.indexes.iter().map(|(_, index)| index))
            .fold((0_usize, 0_usize), |(count, length), name| {
                (count.saturating_add(1), length.saturating_add(name.len()))
            });
        objects.into_iter().sum::<usize>() <= ORDINARY_OBJECTS_MAX
            && count <= ORDINARY_NAMES_MAX
            && length <= ORDINARY_LENGTH_MAX
            && self.tables.keys().all(plain)
    }

    /// The statements that draw it.
    pub(super) fn ddl(&self) -> Vec<String> {
        let mut ddl = Vec::new();
        for (table, columns) in &self.tables {
            match table.name.as_str() {
                name if built_in(name) => continue,
                "sqlite_sequence" => {
                    ddl.push(
                        "CREATE TABLE countersign_sequence (id INTEGER PRIMARY KEY AUTOINCREMENT)".to_owned(),
                    );
                    continue;
                }
                "sqlite_stat1" | "sqlite_stat4" => {
                    ddl.push("ANALYZE".to_owned());
                    continue;
                }
                _ => {}
            }
            let columns = if columns.is_empty() {
                quoted(FILLER)
            } else {
                columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ")
            };
            ddl.push(format!("CREATE TABLE {} ({columns})", written(table)));
        }
        for (number, (table, columns)) in self.unique.iter().enumerate() {
            let columns = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
            ddl.push(create_index("UNIQUE INDEX", table, &format!("countersign_unique_{number}"), &columns));
        }
        for (table, index) in &self.indexes {
            let first = self.tables.get(table).and_then(BTreeSet::first).map_or(FILLER, String::as_str);
            ddl.push(create_index("INDEX", table, index, &quoted(first)));
        }
        ddl
    }
}

fn create_index(kind: &str, table: &TableRef, index: &str, columns: &str) -> String {
    let schema = table.schema.as_ref().map(|schema| format!("{}.", quoted(schema))).unwrap_or_default();
    format!("CREATE {kind} {schema}{} ON {} ({columns})", quoted(index), quoted(&table.name))
}

fn written(table: &TableRef) -> String {
    match &table.schema {
        Some(schema) => format!("{}.{}", quoted(schema), quoted(&table.name)),
        None => quoted(&table.name),
    }
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
