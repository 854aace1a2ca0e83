//! What a PostgreSQL database says about its own tables.

use std::collections::{BTreeMap, BTreeSet};

use countersign_sql::{Action, TableRef};
use tokio_postgres::{Client, Error};

use crate::sql::{
    cascade::{ActingKey, Fit, Traits, named},
    mask::{Mask, Origin},
};

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

/// Tells what must not be seen of the rows of a table.
pub(super) async fn masked(client: &Client, mask: &Mask, table: &TableRef) -> Result<Mask, Error> {
    if mask.is_empty() {
        return Ok(mask.clone());
    }
    Ok(mask.of(&origin(client, table).await?))
}

/// Tells where the rows of a table come from: those of a partition or a child are rows of the tables above as well.
async fn origin(client: &Client, table: &TableRef) -> Result<Origin, Error> {
    let sql = "WITH RECURSIVE this AS (SELECT pg_catalog.to_regclass($1)::oid AS oid), \
               up (oid) AS (SELECT oid FROM this UNION SELECT i.inhparent FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid), \
               down (oid) AS (SELECT oid FROM this UNION SELECT i.inhrelid FROM down JOIN pg_catalog.pg_inherits i ON i.inhparent = down.oid), \
               shown AS (SELECT a.attname::text AS name, a.attgenerated <> '' AS computed FROM pg_catalog.pg_attribute a \
                          WHERE a.attrelid = (SELECT oid FROM this) AND a.attnum > 0 AND NOT a.attisdropped) \
               SELECT ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c \
                             WHERE c.oid IN (SELECT oid FROM up UNION SELECT oid FROM down)), \
                      ARRAY(SELECT name FROM shown), ARRAY(SELECT name FROM shown WHERE computed), \
                      coalesce((SELECT c.relkind NOT IN ('r', 'p', 'f') FROM pg_catalog.pg_class c \
                                 WHERE c.oid = (SELECT oid FROM this)), true)";
    let row = client.query_one(sql, &[&named(table)]).await?;
    Ok(Origin {
        tables: row.try_get(0)?,
        columns: row.try_get(1)?,
        computed: row.try_get(2)?,
        unknown: row.try_get(3)?,
    })
}

/// Every foreign key that acts on the referring rows. A partition's copy of its parent's key is left out: the
/// parent's counts the partitions too. A key that refers to a partition, or to a table that inherits, stands here for
/// the tables above it as well: changing their rows changes those.
pub(super) async fn acting_keys(client: &Client) -> Result<Vec<ActingKey>, Error> {
    let sql = "WITH RECURSIVE acting AS ( \
                   SELECT k.oid, k.conname, k.conrelid, k.confrelid, k.conkey, k.confkey, k.confdeltype, k.confupdtype \
                     FROM pg_catalog.pg_constraint k \
                    WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd')) \
                      AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint o \
                                       WHERE o.oid = k.conparentid AND o.confrelid = k.confrelid)), \
               up (leaf, top) AS ( \
                   SELECT DISTINCT a.confrelid, i.inhparent FROM acting a JOIN pg_catalog.pg_inherits i ON i.inhrelid = a.confrelid \
                   UNION SELECT up.leaf, i.inhparent FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.top), \
               meant (oid, parent, loose) AS ( \
                   SELECT a.oid, a.confrelid, false FROM acting a \
                   UNION ALL SELECT a.oid, up.top, true FROM acting a JOIN up ON up.leaf = a.confrelid \
                    WHERE NOT EXISTS (SELECT 1 FROM acting o WHERE o.conrelid = a.conrelid AND o.conkey = a.conkey \
                                         AND o.confrelid = up.top)) \
               SELECT cn.nspname::text, c.relname::text, pn.nspname::text, p.relname::text, \
                      k.confdeltype::text, k.confupdtype::text, m.loose, \
                      ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY x (att, at) \
                            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.att ORDER BY x.at), \
                      ARRAY(SELECT o.attname::text FROM unnest(k.confkey) WITH ORDINALITY x (att, at) \
                            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = x.att \
                            JOIN pg_catalog.pg_attribute o ON o.attrelid = m.parent AND o.attname = a.attname AND NOT o.attisdropped \
                           ORDER BY x.at), \
                      ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a \
                              ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
                             WHERE i.indrelid = m.parent AND i.indisprimary) \
                 FROM meant m JOIN acting k ON k.oid = m.oid \
                 JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace \
                 JOIN pg_catalog.pg_class p ON p.oid = m.parent JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace \
                ORDER BY 1, 2, k.conname, m.loose, 3, 4";
    let rows = client.query(sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let (child_columns, parent_columns): (Vec<String>, Vec<String>) =
                (row.try_get(7)?, row.try_get(8)?);
            let fit = match row.try_get(6)? {
                false => Fit::Exact,
                true if parent_columns.len() == child_columns.len() => Fit::Loose,
                // The table above has no such column.
                true => Fit::Blind,
            };
            Ok(ActingKey {
                child: TableRef { schema: Some(row.try_get(0)?), name: row.try_get(1)? },
                parent: TableRef { schema: Some(row.try_get(2)?), name: row.try_get(3)? },
                on_delete: action(row.try_get(4)?),
                on_update: action(row.try_get(5)?),
                child_columns,
                parent_columns,
                parent_identity: row.try_get(9)?,
                fit,
                collations: Vec::new(),
            })
        })
        .collect()
}

/// What must be known of tables to count what happens to their rows.
pub(super) struct About {
    /// By table.
    pub(super) traits: BTreeMap<TableRef, Traits>,
    /// The tables of which our account does not see every row.
    pub(super) hidden: BTreeSet<TableRef>,
}

/// Tells what must be known of these tables.
pub(super) async fn about(client: &Client, tables: &BTreeSet<TableRef>) -> Result<About, Error> {
    let sql = "SELECT n.nspname::text, c.relname::text, c.relkind = 'r', pg_catalog.row_security_active(c.oid), \
                      ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
                             WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped), \
                      ARRAY(WITH RECURSIVE down (oid) AS ( \
                                SELECT c.oid UNION SELECT i.inhrelid FROM down JOIN pg_catalog.pg_inherits i ON i.inhparent = down.oid) \
                            SELECT DISTINCT coalesce(a.attname::text, '') FROM down \
                              JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = down.oid \
                             CROSS JOIN LATERAL unnest(p.partattrs::int2[]) AS x (att) \
                              LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = x.att AND x.att > 0) \
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                 JOIN unnest($1::text[], $2::text[]) AS t (s, r) ON n.nspname = t.s AND c.relname = t.r";
    let (schemas, names) = listed(tables.iter());
    let mut about = About { traits: BTreeMap::new(), hidden: BTreeSet::new() };
    for row in client.query(sql, &[&schemas, &names]).await? {
        let table = TableRef { schema: Some(row.try_get(0)?), name: row.try_get(1)? };
        if row.try_get(3)? {
            about.hidden.insert(table.clone());
        }
        let traits = Traits {
            only: row.try_get(2)?,
            generated: row.try_get::<_, Vec<String>>(4)?.into_iter().collect(),
            partitioned_by: row.try_get::<_, Vec<String>>(5)?.into_iter().collect(),
        };
        about.traits.insert(table, traits);
    }
    Ok(about)
}

/// Every table that `TRUNCATE … CASCADE` of these empties: those that refer to them by any foreign key, and
/// their partitions and children, to any depth; themselves included.
pub(super) async fn emptied(client: &Client, tables: &[TableRef]) -> Result<Vec<TableRef>, Error> {
    let sql = "WITH RECURSIVE gone (oid) AS ( \
                   SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                     JOIN unnest($1::text[], $2::text[]) AS t (s, r) ON n.nspname = t.s AND c.relname = t.r \
                   UNION SELECT x.oid FROM gone CROSS JOIN LATERAL ( \
                       SELECT k.conrelid FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.confrelid = gone.oid \
                       UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = gone.oid) AS x (oid)) \
               SELECT n.nspname::text, c.relname::text FROM gone JOIN pg_catalog.pg_class c ON c.oid = gone.oid \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind <> 'p' ORDER BY 1, 2";
    let (schemas, names) = listed(tables.iter());
    let rows = client.query(sql, &[&schemas, &names]).await?;
    rows.iter().map(|row| Ok(TableRef { schema: Some(row.try_get(0)?), name: row.try_get(1)? })).collect()
}

/// Tells whether this server takes a row that moves between partitions for a deleted one, so that foreign keys act on
/// those that refer to it. Since PostgreSQL 15 they see an update.
pub(super) async fn deletes_to_move(client: &Client) -> Result<bool, Error> {
    let sql = "SELECT pg_catalog.current_setting('server_version_num')::int < 150000";
    client.query_one(sql, &[]).await?.try_get(0)
}

/// The schemas and the names of those tables that have a schema.
fn listed<'t>(tables: impl Iterator<Item = &'t TableRef>) -> (Vec<&'t str>, Vec<&'t str>) {
    tables.filter_map(|table| Some((table.schema.as_deref()?, table.name.as_str()))).unzip()
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
    let (schemas, names) = listed(tables.iter());
    let sql = "WITH meant AS (SELECT c.oid, c.relname FROM pg_catalog.pg_class c \
                                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                                JOIN unnest($1::text[], $2::text[]) AS t (s, r) ON n.nspname = t.s AND c.relname = t.r) \
               SELECT t.tgname::text || ' on ' || m.relname FROM meant m \
                 JOIN pg_catalog.pg_trigger t ON t.tgrelid = m.oid \
                WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' \
                  AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace \
                                   WHERE f.oid = t.tgfoid AND f.proname IN ('keep', 'keep_rows') AND n.nspname = 'countersign') \
               UNION SELECT 'rule ' || r.rulename::text || ' on ' || m.relname FROM meant m \
                 JOIN pg_catalog.pg_rewrite r ON r.ev_class = m.oid \
                WHERE r.rulename <> '_RETURN' AND r.ev_enabled <> 'D' ORDER BY 1";
    let rows = client.query(sql, &[&schemas, &names]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
