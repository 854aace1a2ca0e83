//! What a PostgreSQL database says about its own tables.

use countersign_sql::{Action, TableRef};
use tokio_postgres::{Client, Error};

use crate::sql::cascade::{ActingKey, named};

/// What a name means.
pub(super) struct Resolved {
    /// With its schema.
    pub(super) table: TableRef,
    /// `pg_class.relkind`.
    pub(super) kind: String,
}

/// Finds the relation that a name means under the search path in force.
pub(super) async fn resolve(client: &Client, table: &TableRef) -> Result<Option<Resolved>, Error> {
    let sql = "SELECT n.nspname::text, c.relname::text, c.relkind::text FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass($1)";
    let row = client.query_opt(sql, &[&named(table)]).await?;
    row.map(|row| {
        let table = TableRef { schema: Some(row.try_get(0)?), name: row.try_get(1)? };
        Ok(Resolved { table, kind: row.try_get(2)? })
    })
    .transpose()
}

/// Every foreign key that acts on the referring rows. A partition's copy of its parent's key is left out: the
/// parent's counts the partitions too.
pub(super) async fn acting_keys(client: &Client) -> Result<Vec<ActingKey>, Error> {
    let sql = "SELECT cn.nspname::text, c.relname::text, pn.nspname::text, p.relname::text, \
                      k.confdeltype::text, k.confupdtype::text, \
                      ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY x (att, at) \
                            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.att ORDER BY x.at), \
                      ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY x (att, at) \
                            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = x.att ORDER BY x.at), \
                      ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a \
                              ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
                             WHERE i.indrelid = k.confrelid AND i.indisprimary) \
                 FROM pg_catalog.pg_constraint k \
                 JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace \
                 JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace \
                WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd')) \
                  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint o \
                                   WHERE o.oid = k.conparentid AND o.confrelid = k.confrelid) \
                ORDER BY 1, 2, k.conname";
    let rows = client.query(sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(ActingKey {
                child: TableRef { schema: Some(row.try_get(0)?), name: row.try_get(1)? },
                parent: TableRef { schema: Some(row.try_get(2)?), name: row.try_get(3)? },
                on_delete: action(row.try_get(4)?),
                on_update: action(row.try_get(5)?),
                child_columns: row.try_get(6)?,
                parent_columns: row.try_get(7)?,
                parent_identity: row.try_get(8)?,
            })
        })
        .collect()
}

fn action(letter: &str) -> Action {
    match letter {
        "c" => Action::Cascade,
        "n" => Action::SetNull,
        "d" => Action::SetDefault,
        _ => Action::Refuse,
    }
}

/// Enabled triggers and rewrite rules on these tables and their partitions, as `trigger on table`. Which
/// events they answer to is not looked at: one too many is a warning, one too few would be a lie. Ours, which keep
/// rows for undo, are not told: they touch nothing of the user's.
pub(super) async fn triggers(client: &Client, tables: &[TableRef]) -> Result<Vec<String>, Error> {
    let schemas: Vec<&str> = tables.iter().filter_map(|t| t.schema.as_deref()).collect();
    let names: Vec<&str> = tables.iter().filter(|t| t.schema.is_some()).map(|t| t.name.as_str()).collect();
    let sql = "WITH meant AS (SELECT c.oid, c.relname FROM pg_catalog.pg_class c \
                                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                                JOIN unnest($1::text[], $2::text[]) AS t (s, r) ON n.nspname = t.s AND c.relname = t.r) \
               SELECT t.tgname::text || ' on ' || m.relname FROM meant m \
                 JOIN pg_catalog.pg_trigger t ON t.tgrelid = m.oid \
                WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' \
                  AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace \
                                   WHERE f.oid = t.tgfoid AND f.proname = 'keep' AND n.nspname = 'countersign') \
               UNION SELECT 'rule ' || r.rulename::text || ' on ' || m.relname FROM meant m \
                 JOIN pg_catalog.pg_rewrite r ON r.ev_class = m.oid \
                WHERE r.rulename <> '_RETURN' AND r.ev_enabled <> 'D' ORDER BY 1";
    let rows = client.query(sql, &[&schemas, &names]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
