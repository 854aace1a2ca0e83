//! Reads what a SQLite file holds, for [`countersign_sql::Snapshot`].

use std::collections::BTreeMap;

use countersign_sql::{Catalog, Column, ForeignKey, Relation, RelationKind, Trigger, sqlite_trigger};
use rusqlite::Connection;

use super::schema::action;

/// The schema that a file is.
const MAIN: &str = "main";

/// Reads the catalog. Only SQLite's own statements run.
pub(super) fn catalog(connection: &Connection) -> rusqlite::Result<Catalog> {
    let mut catalog = Catalog {
        schema: texts(connection, "SELECT sql FROM main.sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")?,
        ..Catalog::default()
    };
    let mut triggers = triggers(connection)?;
    let mut statement = connection.prepare(
        "SELECT l.name, l.type, s.sql FROM pragma_table_list AS l JOIN main.sqlite_schema AS s ON s.name = l.name
          WHERE l.schema = 'main' AND l.type IN ('table', 'view', 'virtual') AND l.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
          ORDER BY l.name",
    )?;
    let named = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?))
    })?;
    for relation in named {
        let (name, kind, sql) = relation?;
        let kind = match kind.as_str() {
            "view" => RelationKind::View,
            "virtual" => RelationKind::VirtualTable,
            _ => RelationKind::Table,
        };
        let (columns, primary_key) = columns(connection, &name, kind, sql.as_deref())?;
        catalog.relations.push(Relation {
            schema: MAIN.into(),
            kind,
            columns,
            primary_key,
            definition: sql.filter(|_| kind != RelationKind::Table),
            foreign_keys: foreign_keys(connection, &name)?,
            triggers: triggers.remove(&name.to_ascii_lowercase()).unwrap_or_default(),
            name,
            ..Relation::default()
        });
    }
    Ok(catalog)
}

fn texts(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// By the lower-case name of their table.
fn triggers(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Vec<Trigger>>> {
    let mut statement = connection.prepare(
        "SELECT lower(tbl_name), name, sql FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY name",
    )?;
    let mut rows = statement.query([])?;
    let mut found: BTreeMap<String, Vec<Trigger>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (table, name, sql): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        // One whose text is not understood answers to everything.
        let every = ["insert", "update", "delete"].map(str::to_owned).into();
        let trigger = sqlite_trigger(&sql).unwrap_or_else(|| Trigger { events: every, ..Trigger::default() });
        found.entry(table).or_default().push(Trigger { name, ..trigger });
    }
    Ok(found)
}

fn columns(
    connection: &Connection,
    table: &str,
    kind: RelationKind,
    sql: Option<&str>,
) -> rusqlite::Result<(Vec<Column>, Vec<String>)> {
    let mut statement = connection.prepare(
        "SELECT name, type, dflt_value, hidden, pk FROM pragma_table_xinfo(?1, 'main') ORDER BY cid",
    )?;
    let mut rows = match statement.query([table]) {
        Ok(rows) => rows,
        // A view over something that is gone has no columns, and cannot be read either.
        Err(_) if kind == RelationKind::View => return Ok((Vec::new(), Vec::new())),
        Err(why) => return Err(why),
    };
    let counted = sql.is_some_and(|sql| sql.to_ascii_lowercase().contains("autoincrement"));
    let mut columns = Vec::new();
    let mut key: Vec<(i64, String)> = Vec::new();
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(_) if kind == RelationKind::View => break,
            Err(why) => return Err(why),
        };
        let (name, data_type, expression): (String, String, Option<String>) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let (hidden, place): (i64, i64) = (row.get(3)?, row.get(4)?);
        if place > 0 {
            key.push((place, name.clone()));
        }
        let identity = counted && place > 0;
        // 2 and 3: virtual and stored generated columns. SQLite does not tell their expressions but in the text.
        columns.push(Column { name, data_type, expression, generated: hidden == 2 || hidden == 3, identity });
    }
    key.sort();
    Ok((columns, key.into_iter().map(|(_, name)| name).collect()))
}

fn foreign_keys(connection: &Connection, table: &str) -> rusqlite::Result<Vec<ForeignKey>> {
    let mut statement = connection.prepare(
        "SELECT id, \"table\", \"from\", \"to\", on_delete, on_update FROM pragma_foreign_key_list(?1, 'main') ORDER BY id, seq",
    )?;
    let mut rows = statement.query([table])?;
    let mut keys: BTreeMap<i64, ForeignKey> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (to, on_delete, on_update): (Option<String>, String, String) =
            (row.get(3)?, row.get(4)?, row.get(5)?);
        let key = keys.entry(row.get(0)?).or_default();
        key.schema = MAIN.into();
        key.table = row.get(1)?;
        key.columns.push(row.get(2)?);
        key.references.extend(to);
        key.on_delete = action(&on_delete);
        key.on_update = action(&on_update);
    }
    Ok(keys.into_values().collect())
}
