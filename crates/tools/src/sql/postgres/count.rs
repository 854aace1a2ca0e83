//! What the server counts of the rows that a transaction touches, and what it cannot count.

use std::collections::BTreeMap;

use countersign_sql::TableRef;
use deadpool_postgres::Object;

use super::fault::PostgresFault;
use crate::sql::{journal::SCHEMA, statement::Scope};

/// How often deferred triggers are run that others put off.
const ROUNDS: u32 = 8;

/// Runs what would otherwise run with the commit, uncounted: deferred triggers. Returns what the server has
/// counted when there is nothing left to run.
///
/// One of them may put off others again (`SET CONSTRAINTS … DEFERRED` in its function). Each that is put off is
/// about a row that changed, and a change is counted: so once a round changes no count, none is left.
pub(super) async fn settled(client: &Object) -> Result<BTreeMap<TableRef, Count>, PostgresFault> {
    let mut counted = touched(client).await?;
    for _round in 0..ROUNDS {
        client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let now = touched(client).await?;
        if now == counted {
            return Ok(now);
        }
        counted = now;
    }
    let why = "its deferred triggers put off others again and again, and what they touch cannot be counted; nothing was changed";
    Err(PostgresFault::Other(why.into()))
}

/// What the server has counted of a table.
#[derive(PartialEq, Eq)]
pub(super) struct Count {
    rows: u64,
    /// The table of which it is a partition.
    root: Option<TableRef>,
    /// Every table that it is a partition of or inherits from.
    above: Vec<TableRef>,
}

/// Rows touched so far by this transaction, and by earlier ones of this connection that the server has not
/// reported yet: only differences mean anything.
pub(super) async fn touched(client: &Object) -> Result<BTreeMap<TableRef, Count>, PostgresFault> {
    let sql = "SELECT pg_catalog.current_setting('track_counts') = 'on', t.schemaname::text, t.relname::text, t.n, \
                      rn.nspname::text, r.relname::text, up.schemas, up.names \
                 FROM (SELECT relid, schemaname, relname, n_tup_ins + n_tup_upd + n_tup_del AS n \
                         FROM pg_catalog.pg_stat_xact_user_tables) AS t \
                 LEFT JOIN pg_catalog.pg_class r ON r.oid = pg_catalog.pg_partition_root(t.relid) AND r.oid <> t.relid \
                 LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace \
                CROSS JOIN LATERAL ( \
                    WITH RECURSIVE up (oid, step) AS ( \
                        SELECT i.inhparent, 1 FROM pg_catalog.pg_inherits i WHERE i.inhrelid = t.relid \
                        UNION SELECT i.inhparent, up.step + 1 FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid) \
                    SELECT pg_catalog.array_agg(n.nspname::text ORDER BY up.step, c.oid) AS schemas, \
                           pg_catalog.array_agg(c.relname::text ORDER BY up.step, c.oid) AS names \
                      FROM up JOIN pg_catalog.pg_class c ON c.oid = up.oid \
                      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) AS up \
                WHERE t.n > 0 \
               UNION ALL SELECT pg_catalog.current_setting('track_counts') = 'on', NULL, NULL, NULL, NULL, NULL, NULL, NULL";
    let statement = client.prepare_cached(sql).await?;
    let mut counts = BTreeMap::new();
    for row in client.query(&statement, &[]).await? {
        if !row.try_get::<_, bool>(0)? {
            let why = "the server does not count rows (`track_counts` is off), so the call cannot be held to its limit";
            return Err(PostgresFault::Other(why.into()));
        }
        let (schema, name): (Option<String>, Option<String>) = (row.try_get(1)?, row.try_get(2)?);
        let count: Option<i64> = row.try_get(3)?;
        if let (Some(name), Some(count)) = (name, count) {
            let root: Option<String> = row.try_get(5)?;
            let in_schema: Option<String> = row.try_get(4)?;
            let root = root.map(|name| TableRef { schema: in_schema, name });
            let rows = u64::try_from(count).unwrap_or(0);
            let (schemas, names): (Option<Vec<String>>, Option<Vec<String>>) =
                (row.try_get(6)?, row.try_get(7)?);
            let above = schemas.unwrap_or_default().into_iter().zip(names.unwrap_or_default());
            let above = above.map(|(schema, name)| TableRef { schema: Some(schema), name }).collect();
            counts.insert(TableRef { schema, name }, Count { rows, root, above });
        }
    }
    Ok(counts)
}

/// Refuses what happened on the way and is in none of the server's counts of rows. The locks that it took last to
/// the end of the transaction, and changing rows does not take them:
///
/// - a table was emptied or rewritten: the server forgets its counts then. A statement that says so itself
///   (`rewrites`) was counted before;
/// - something was dropped, so that its lock is on what is no longer there;
/// - rows of a foreign table changed, and with them whatever the other server makes of it.
pub(super) async fn undisturbed(client: &Object, rewrites: bool) -> Result<(), PostgresFault> {
    let sql = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind = 'f' \
                 FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation \
                 LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.granted \
                  AND CASE WHEN c.relkind = 'f' THEN l.mode NOT IN ('AccessShareLock', 'RowShareLock') \
                           WHEN $1 THEN false \
                           ELSE l.mode = 'AccessExclusiveLock' \
                                AND (c.oid IS NULL OR (c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'm'))) END \
                  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d \
                                     WHERE d.datname = pg_catalog.current_database()) LIMIT 1";
    let statement = client.prepare_cached(sql).await?;
    let Some(row) = client.query_opt(&statement, &[&rewrites]).await? else { return Ok(()) };
    let foreign = row.try_get::<_, Option<bool>>(1)? == Some(true);
    Err(PostgresFault::Other(match row.try_get::<_, Option<String>>(0)? {
        Some(table) if foreign => format!(
            "rows of the foreign table `{table}` would change, and what that touches cannot be counted; nothing was changed"
        ),
        Some(table) => format!(
            "a trigger or function locks table `{table}` as to empty or rewrite it, and what it touches cannot be counted; nothing was changed"
        ),
        None => "a trigger or function drops a table or another relation, and what goes with it cannot be counted; nothing was changed".into(),
    }))
}

/// Rows that were touched between two counts.
pub(super) struct Difference {
    /// By the table in which the server counts them.
    pub(super) counted: BTreeMap<TableRef, u64>,
    /// By the name under which the rules know it.
    pub(super) named: BTreeMap<String, u64>,
}

/// Tells which rows were touched between two counts by a statement that names these tables, under a journal or without
/// one.
pub(super) fn difference(
    before: &BTreeMap<TableRef, Count>,
    after: BTreeMap<TableRef, Count>,
    writes: &[TableRef],
    scope: &Scope,
    with_journal: bool,
) -> Difference {
    let mut moved: BTreeMap<TableRef, u64> = BTreeMap::new();
    let mut tables: BTreeMap<String, u64> = BTreeMap::new();
    for (table, Count { rows, root, above }) in after {
        let more = rows.saturating_sub(before.get(&table).map_or(0, |count| count.rows));
        // What we keep ourselves is no effect of the call; no statement of a tool can name it.
        let ours = with_journal && table.schema.as_deref() == Some(SCHEMA);
        if more == 0 || ours {
            continue;
        }
        // Rows of a partition, and of a table that inherits, are those of the table that was named, as they were
        // measured, unless it was named itself.
        let own = scope.settled(&table);
        let named = above.iter().map(|table| scope.settled(table)).find(|table| writes.contains(table));
        let name = match (named, root) {
            _ if writes.contains(&own) => own,
            (Some(named), _) => named,
            (None, Some(root)) => scope.settled(&root),
            (None, None) => own,
        };
        let known = tables.entry(name.to_string()).or_insert(0);
        *known = known.saturating_add(more);
        moved.insert(table, more);
    }
    Difference { counted: moved, named: tables }
}
