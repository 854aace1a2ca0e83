//! Whether the account of the tools may put back what a call changed: undo runs with the account's own rights.

use countersign_rules::CallId;
use tokio_postgres::{Client, Error};

/// The rights that taking back what a call changed needs, and the account does not have, as `INSERT on public.line`.
///
/// Of updates only that some column may be set is looked at: which ones differ is known when they are put back.
pub(super) async fn lacking(client: &Client, call: &CallId) -> Result<Vec<String>, Error> {
    let sql = "WITH changed AS ( \
                 SELECT coalesce(pg_catalog.pg_partition_root(i.relation), i.relation)::oid AS relation, \
                        bool_or(i.new IS NULL) AS gone, bool_or(i.old IS NULL) AS came, \
                        bool_or(i.old IS NOT NULL AND i.new IS NOT NULL) AS differs \
                   FROM countersign.image i WHERE i.call = $1 GROUP BY 1), \
               needed AS ( \
                 SELECT relation, 'SELECT' AS name FROM changed \
                 UNION ALL SELECT relation, 'INSERT' FROM changed WHERE gone \
                 UNION ALL SELECT relation, 'DELETE' FROM changed WHERE came \
                 UNION ALL SELECT relation, 'UPDATE' FROM changed WHERE differs) \
               SELECT pg_catalog.format('%s on %I.%I', d.name, n.nspname, c.relname) \
                 FROM needed d JOIN pg_catalog.pg_class c ON c.oid = d.relation \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                WHERE CASE WHEN pg_catalog.has_table_privilege(d.relation, d.name) THEN false \
                           WHEN d.name = 'DELETE' THEN true \
                           WHEN d.name = 'UPDATE' THEN NOT pg_catalog.has_any_column_privilege(d.relation, d.name) \
                           ELSE EXISTS (SELECT FROM pg_catalog.pg_attribute a \
                                         WHERE a.attrelid = d.relation AND a.attnum > 0 AND NOT a.attisdropped \
                                           AND (d.name = 'SELECT' OR a.attgenerated = '') \
                                           AND NOT pg_catalog.has_column_privilege(d.relation, a.attnum, d.name)) END \
                ORDER BY 1";
    let statement = client.prepare(sql).await?;
    client.query(&statement, &[&call.as_str()]).await?.iter().map(|row| row.try_get(0)).collect()
}
