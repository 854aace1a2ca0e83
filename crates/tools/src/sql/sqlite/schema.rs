//! What a SQLite file says about its own tables.

use std::collections::{BTreeMap, BTreeSet};

use countersign_sql::{Action, TableRef};
use rusqlite::{Connection, OptionalExtension};

use crate::sql::{
    cascade::{ActingKey, Fit, Traits},
    mask::Origin,
};

/// Every foreign key that acts on the referring rows. Names of tables are in lower case, as SQLite compares
/// them.
pub(super) fn acting_keys(connection: &Connection) -> rusqlite::Result<Vec<ActingKey>> {
    let mut keys = foreign_keys(connection)?;
    keys.retain(|key| key.on_delete != Action::Refuse || key.on_update != Action::Refuse);
    Ok(keys)
}

/// Every foreign key.
pub(super) fn foreign_keys(connection: &Connection) -> rusqlite::Result<Vec<ActingKey>> {
    let mut statement = connection.prepare_cached(
        "SELECT lower(m.name), k.id, lower(k.\"table\"), k.\"from\", k.\"to\", k.on_delete, k.on_update
           FROM main.sqlite_schema AS m, pragma_foreign_key_list(m.name) AS k
          WHERE m.type = 'table' ORDER BY m.name, k.id, k.seq",
    )?;
    let mut rows = statement.query([])?;
    let mut keys: Vec<(i64, ActingKey)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (child, id, parent): (String, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (from, to): (String, Option<String>) = (row.get(3)?, row.get(4)?);
        let (child, parent) = (TableRef::bare(child), TableRef::bare(parent));
        let known = keys.last_mut().filter(|(known, key)| *known == id && key.child == child);
        let key = match known {
            Some((_, key)) => key,
            None => {
                let key = ActingKey {
                    child,
                    child_columns: Vec::new(),
                    parent,
                    parent_columns: Vec::new(),
                    parent_identity: Vec::new(),
                    on_delete: action(&row.get::<_, String>(5)?),
                    on_update: action(&row.get::<_, String>(6)?),
                    fit: Fit::Exact,
                    collations: Vec::new(),
                };
                keys.push((id, key));
                let Some((_, key)) = keys.last_mut() else { continue };
                key
            }
        };
        key.child_columns.push(from.to_ascii_lowercase());
        // Without columns, the key refers to the primary key.
        if let Some(to) = to {
            key.parent_columns.push(to.to_ascii_lowercase());
        }
    }
    drop(rows);
    let mut complete = Vec::with_capacity(keys.len());
    for (_, mut key) in keys {
        if key.parent_columns.is_empty() {
            key.parent_columns = primary_key(connection, &key.parent.name)?;
        }
        key.parent_identity = identity(connection, &key.parent.name)?;
        compare(connection, &mut key)?;
        complete.push(key);
    }
    Ok(complete)
}

/// Tells how the key compares values: as the parent's columns do. SQL compares as the left side does, which is the
/// child here. Where the two store values differently, no comparison of ours is the key's.
fn compare(connection: &Connection, key: &mut ActingKey) -> rusqlite::Result<()> {
    // A table or column that does not exist: the key refuses every change.
    let declared = |table: &str, column: &str| -> (u8, Vec<u8>) {
        connection.column_metadata(Some("main"), table, column).map_or_else(
            |_missing| (0, Vec::new()),
            |(kind, collation, ..)| {
                let kind = kind.map(|kind| kind.to_string_lossy().to_ascii_uppercase()).unwrap_or_default();
                (
                    affinity(&kind),
                    collation.map(|name| name.to_bytes().to_ascii_uppercase()).unwrap_or_default(),
                )
            },
        )
    };
    for (child, parent) in key.child_columns.iter().zip(&key.parent_columns) {
        let ((mine, own), (theirs, collation)) =
            (declared(&key.child.name, child), declared(&key.parent.name, parent));
        if mine != theirs {
            key.fit = Fit::Blind;
        }
        let collation = (own != collation).then(|| String::from_utf8_lossy(&collation).into_owned());
        key.collations.push(collation.filter(|name| !name.is_empty()));
    }
    if key.child_columns.len() != key.parent_columns.len() {
        key.fit = Fit::Blind;
    }
    Ok(())
}

/// The affinity of a declared type, as a number: <https://sqlite.org/datatype3.html#determination_of_column_affinity>.
fn affinity(declared: &str) -> u8 {
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if has(&["INT"]) {
        1
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        2
    } else if declared.is_empty() || has(&["BLOB"]) {
        3
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        4
    } else {
        5
    }
}

/// The generated columns of these tables, which change with any other.
pub(super) fn traits(
    connection: &Connection,
    tables: &BTreeSet<TableRef>,
) -> rusqlite::Result<BTreeMap<TableRef, Traits>> {
    let mut statement = connection
        .prepare_cached("SELECT lower(name) FROM pragma_table_xinfo(?1, 'main') WHERE hidden IN (2, 3)")?;
    let mut traits = BTreeMap::new();
    for table in tables {
        let generated =
            statement.query_map([&table.name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        traits.insert(table.clone(), Traits { generated, ..Traits::default() });
    }
    Ok(traits)
}

/// Tells what a word of a foreign key says.
pub(super) fn action(word: &str) -> Action {
    match word {
        "CASCADE" => Action::Cascade,
        "SET NULL" => Action::SetNull,
        "SET DEFAULT" => Action::SetDefault,
        _ => Action::Refuse,
    }
}

fn primary_key(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection
        .prepare_cached("SELECT lower(name) FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

/// The primary key, unless it may be null: SQLite lets it, where it is neither the rowid nor the only key.
fn identity(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT lower(name), \"notnull\" OR (upper(type) = 'INTEGER' AND count(*) OVER () = 1)
           FROM pragma_table_info(?1, 'main') WHERE pk > 0 ORDER BY pk",
    )?;
    let columns = statement.query_map([table], |row| Ok((row.get(0)?, row.get::<_, bool>(1)?)))?;
    let columns: Vec<(String, bool)> = columns.collect::<rusqlite::Result<_>>()?;
    let sure = columns.iter().all(|(_, never_null)| *never_null);
    Ok(if sure { columns.into_iter().map(|(name, _)| name).collect() } else { Vec::new() })
}

/// Every table that takes part in a foreign key: writing one side makes SQLite read the other.
pub(super) fn linked(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT lower(m.name) FROM main.sqlite_schema AS m, pragma_foreign_key_list(m.name) WHERE m.type = 'table'
         UNION SELECT lower(k.\"table\") FROM main.sqlite_schema AS m, pragma_foreign_key_list(m.name) AS k WHERE m.type = 'table'",
    )?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// The triggers on these tables, as `trigger on table`. Which events they answer to is not looked at: one
/// too many is a warning, one too few would be a lie.
pub(super) fn triggers(connection: &Connection, tables: &BTreeSet<String>) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT lower(name), lower(tbl_name) FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY name",
    )?;
    let all = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut found = Vec::new();
    for trigger in all {
        let (name, table) = trigger?;
        if tables.contains(&table) {
            found.push(format!("{name} on {table}"));
        }
    }
    Ok(found)
}

/// Tells whether a constraint of the table may delete the rows that a new one conflicts with. Read from its text: one
/// too many makes a count a bound, one too few would be a lie.
pub(super) fn may_replace(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1) AND lower(sql) LIKE '%replace%'",
    )?;
    statement.query_row([table], |row| row.get::<_, i64>(0)).map(|n| n > 0)
}

/// The tables in which virtual tables keep what they hold, by name in lower case, each with the virtual table.
pub(super) fn shadows(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    // The list of all tables is long to make; a virtual table, which has no page of its own, is quickly found to be none.
    let mut statement = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND rootpage = 0)",
    )?;
    if !statement.query_row([], |row| row.get(0))? {
        return Ok(BTreeMap::new());
    }
    let mut statement = connection.prepare_cached(
        "SELECT lower(s.name), lower(v.name) FROM pragma_table_list AS s, pragma_table_list AS v
          WHERE s.schema = 'main' AND s.type = 'shadow' AND v.schema = 'main' AND v.type = 'virtual'
            AND lower(substr(s.name, 1, length(v.name) + 1)) = lower(v.name) || '_'",
    )?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Those of these shadow tables that a statement on these tables may reach: by a virtual table that is among them, or
/// behind a view.
pub(super) fn within(
    connection: &Connection,
    shadows: &BTreeMap<String, String>,
    tables: &BTreeSet<String>,
) -> rusqlite::Result<BTreeSet<String>> {
    let mut views = false;
    if !shadows.is_empty() {
        for table in tables {
            views |= is_view(connection, table)?;
        }
    }
    let within = shadows.iter().filter(|(_, owner)| views || tables.contains(*owner));
    Ok(within.map(|(shadow, _)| shadow.clone()).collect())
}

/// Tells what goes by a name: `table`, `view`, `virtual` or `shadow`.
pub(super) fn kind(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT type FROM pragma_table_list(?1) WHERE schema = 'main'";
    connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()
}

/// Tells where the rows of a table come from. A virtual table shows those of another one, under any name.
pub(super) fn origin(connection: &Connection, table: &str) -> rusqlite::Result<Origin> {
    let mut statement =
        connection.prepare_cached("SELECT name, hidden IN (2, 3) FROM pragma_table_xinfo(?1, 'main')")?;
    let found = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found: Vec<(String, bool)> = found.collect::<rusqlite::Result<_>>()?;
    Ok(Origin {
        tables: vec![table.to_owned()],
        computed: found.iter().filter(|(_, computed)| *computed).map(|(name, _)| name.clone()).collect(),
        columns: found.into_iter().map(|(name, _)| name).collect(),
        unknown: kind(connection, table)?.as_deref() != Some("table"),
    })
}

/// Tells whether a column of the table is called `true` or `false`: without quotes these are the column where it can be seen, and
/// a number where it cannot.
pub(super) fn has_truth_column(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1, 'main') WHERE lower(name) IN ('true', 'false'))",
    )?;
    statement.query_row([table], |row| row.get(0))
}

/// Tells whether rows that go from this view go elsewhere: it is a view, and only a trigger can write it.
pub(super) fn is_view(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    Ok(kind(connection, name)?.as_deref() == Some("view"))
}
