//! A schema just large enough for one statement to compile, drawn from what the statement itself names.

use std::collections::{BTreeMap, BTreeSet};

use crate::statement::TableRef;

/// Column of a table about which nothing is known.
const FILLER: &str = "countersign_filler";

/// A table has at most this many columns here.
const COLUMNS_MAX: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Sketch {
    tables: BTreeMap<TableRef, BTreeSet<String>>,
    /// Names under which the statement speaks of its tables.
    aliases: BTreeSet<(String, TableRef)>,
    qualified: BTreeSet<(String, String)>,
    bare: BTreeSet<String>,
    unique: BTreeSet<(TableRef, Vec<String>)>,
    indexes: BTreeSet<(TableRef, String)>,
    /// Columns that are only guesses.
    tried: BTreeSet<(TableRef, String)>,
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
    pub(super) fn table(&mut self, table: &TableRef, alias: Option<String>) {
        let key = key(table);
        self.aliases.insert((table.name.clone(), key.clone()));
        if let Some(alias) = alias {
            self.aliases.insert((alias, key.clone()));
        }
        self.tables.entry(key).or_default();
    }

    pub(super) fn column(&mut self, table: &TableRef, column: &str) {
        if !implicit(column) {
            self.tables.entry(key(table)).or_default().insert(column.to_owned());
        }
    }

    pub(super) fn qualified(&mut self, qualifier: &str, column: &str) {
        self.qualified.insert((qualifier.to_owned(), column.to_owned()));
    }

    pub(super) fn bare(&mut self, column: &str) {
        self.bare.insert(column.to_owned());
    }

    pub(super) fn unique(&mut self, table: &TableRef, columns: Vec<String>) {
        if !columns.is_empty() {
            self.unique.insert((key(table), columns));
        }
    }

    pub(super) fn index(&mut self, table: &TableRef, index: &str) {
        self.indexes.insert((key(table), index.to_owned()));
    }

    /// Gives columns to tables where the statement leaves no doubt.
    pub(super) fn settle(&mut self) {
        let owned: Vec<(TableRef, String)> = self
            .qualified
            .iter()
            .flat_map(|(qualifier, column)| {
                self.aliases
                    .iter()
                    .filter(move |(alias, _)| alias == qualifier)
                    .map(move |(_, table)| (table.clone(), column.clone()))
            })
            .collect();
        for (table, column) in owned {
            self.column(&table, &column);
        }
        let mut own = self.tables.keys().filter(|table| !built_in(&table.name));
        if let (Some(only), None) = (own.next().cloned(), own.next()) {
            for column in self.bare.clone() {
                self.column(&only, &column);
            }
        }
    }

    /// The tables that may be given columns.
    pub(super) fn open_tables(&self) -> Vec<TableRef> {
        self.tables
            .keys()
            .filter(|table| !built_in(&table.name) && !table.name.starts_with("sqlite_"))
            .cloned()
            .collect()
    }

    pub(super) fn has(&self, table: &TableRef, column: &str) -> bool {
        self.tables.get(table).is_some_and(|columns| columns.contains(column))
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
            && let Some(columns) = self.tables.get_mut(table)
        {
            columns.remove(column);
        }
    }

    /// The table of that name as an error message writes it: `t` or `db.t`.
    pub(super) fn named(&self, shown: &str) -> Option<TableRef> {
        let shown = shown.to_ascii_lowercase();
        self.tables
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
        self.tables.get(table).map_or(0, |columns| columns.len().max(1))
    }

    /// Adds columns until the table has `width` of them. Whether it has now.
    pub(super) fn widen(&mut self, table: &TableRef, width: usize) -> bool {
        if width > COLUMNS_MAX || self.width(table) > width {
            return false;
        }
        let Some(columns) = self.tables.get_mut(table) else { return false };
        let mut number = 0_usize;
        while columns.len() < width {
            columns.insert(format!("{FILLER}_{number}"));
            number = number.saturating_add(1);
        }
        true
    }

    /// Other databases the statement speaks of, which must be attached.
    pub(super) fn databases(&self) -> BTreeSet<&str> {
        self.tables
            .keys()
            .filter_map(|table| table.schema.as_deref())
            .filter(|schema| !matches!(*schema, "main" | "temp"))
            .collect()
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
