//! Whether a call could be taken back, found out before it is committed.
//!
//! What was kept of a call is complete, and most tables take their rows back. Some do not, although nobody has
//! changed anything: their rows break a constraint that was never checked against them, a policy shows or hides
//! them, a trigger guards them or has the last word in a column, unique values have changed hands. On such a table the
//! undo is tried, in the very transaction of the call, and rolled back: where it fails, so does the call. Other tables
//! are spared the time.

use countersign_rules::CallId;
use tokio_postgres::{Client, error::SqlState};

use super::{
    fault::{PostgresFault, cut_short, told},
    undo::{AS_KEPT, KeptChanges, Plan, RestoreMethod},
};
use crate::sql::{cascade::quoted, columns::Columns};

/// Tries to take back what a call changed, where that might fail. Nothing of it stays. `accepted`: columns that the
/// system's author leaves to triggers, whoever undoes.
pub(super) async fn tried(client: &Client, call: &CallId, accepted: &Columns) -> Result<(), PostgresFault> {
    if !doubtful(client, call).await? && !changed_hands(client, call).await? {
        return Ok(());
    }
    client.batch_execute(&format!("SAVEPOINT countersign_trial; {AS_KEPT}")).await?;
    let sql = "SELECT pg_catalog.set_config('countersign.undoes', $1, true)";
    client.query(sql, &[&call.as_str()]).await?;
    let why = match put_back(client, call, accepted).await {
        Ok(()) => None,
        Err(PostgresFault::Database(error)) if error.as_db_error().is_none() || passes(&error) => {
            return Err(PostgresFault::Database(error));
        }
        Err(PostgresFault::Database(error)) => Some(told(&error)),
        Err(PostgresFault::Other(why) | PostgresFault::Recorded(why) | PostgresFault::Moved(why)) => {
            Some(why)
        }
        Err(other @ PostgresFault::Row(_)) => return Err(other),
    };
    match why {
        None => {
            let end = "ROLLBACK TO SAVEPOINT countersign_trial; RELEASE SAVEPOINT countersign_trial";
            Ok(client.batch_execute(end).await?)
        }
        Some(why) => Err(PostgresFault::Other(format!(
            "the call could not be undone, so nothing was changed: its rows could not be put back: {why}"
        ))),
    }
}

async fn put_back(client: &Client, call: &CallId, accepted: &Columns) -> Result<(), PostgresFault> {
    let mut plan = Plan::new(client, call).await?;
    if let Some(table) = plan.unseen() {
        return Err(PostgresFault::Other(format!(
            "rows of table `{table}` are not to be seen as the call leaves them, as when a policy hides them"
        )));
    }
    // What the trial changes is kept behind what the call changed, and goes with it.
    let last = "SELECT coalesce(max(seq), 0) FROM countersign.image WHERE call = $1";
    let done = KeptChanges { call, after: client.query_one(last, &[&call.as_str()]).await?.try_get(0)? };
    let (mut method, mut spared) = (RestoreMethod::Update, false);
    let departure = loop {
        client.batch_execute("SAVEPOINT countersign_way").await?;
        let settled = match plan.apply(client, call, method).await {
            Ok(()) => plan.settled(client, call, accepted, done).await,
            Err(why) => Err(why),
        };
        let error = match settled {
            Ok(departure) => break departure,
            Err(PostgresFault::Database(error)) if RestoreMethod::stands_in_the_way(&error) => error,
            Err(why) => return Err(why),
        };
        let again = "ROLLBACK TO SAVEPOINT countersign_way; RELEASE SAVEPOINT countersign_way";
        client.batch_execute(again).await?;
        // A key is looked at when the rows are back, and everything else about them was found to be right by then.
        if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION)
            && !std::mem::replace(&mut spared, true)
            && plan.spare_referring(client).await?
        {
            continue;
        }
        match method.next() {
            Some(next) => method = next,
            None => return Err(PostgresFault::Database(error)),
        }
    };
    // Whoever undoes might accept more, and need not: a promise that hangs on that is none.
    if departure.refused(accepted) { Err(PostgresFault::Other(departure.foretold(accepted))) } else { Ok(()) }
}

/// Tells whether the server broke off for the sake of others, or for the time it took: that says nothing of the rows.
fn passes(error: &tokio_postgres::Error) -> bool {
    cut_short(error)
        || error.code().is_some_and(|code| {
            let code = code.code();
            ["40", "53", "57", "58", "XX"].iter().any(|class| code.starts_with(class)) || code == "55P03"
        })
}

/// Tells whether a table that the call changed has something that may keep rows from coming back as they were.
async fn doubtful(client: &Client, call: &CallId) -> Result<bool, PostgresFault> {
    // A constraint that is not enforced (since PostgreSQL 18) is none. Of a check's functions only those that give
    // equal answers to equal rows are sure; what users declare so themselves need not be.
    let sql = "WITH changed AS ( \
                 SELECT DISTINCT x.relation FROM countersign.image i \
                  CROSS JOIN LATERAL (VALUES (i.relation), (pg_catalog.pg_partition_root(i.relation)::oid)) AS x (relation) \
                  WHERE i.call = $1 AND x.relation IS NOT NULL) \
               SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint k \
                               WHERE (k.conrelid IN (SELECT relation FROM changed) OR k.contypid <> 0) \
                                 AND coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::bool, true) \
                                 AND (NOT k.convalidated OR k.contype = 'c' AND ( \
                                      k.conbin::text LIKE '%SQLVALUEFUNCTION%' \
                                      OR EXISTS (SELECT FROM pg_catalog.regexp_matches(k.conbin::text, ':(?:op)?funcid ([0-9]+)', 'g') AS f (id) \
                                                   JOIN pg_catalog.pg_proc p ON p.oid = f.id[1]::oid \
                                                  WHERE p.provolatile <> 'i' OR p.oid >= 16384)))) \
                   OR EXISTS (SELECT FROM changed c WHERE pg_catalog.row_security_active(c.relation)) \
                   OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r JOIN changed c ON c.relation = r.ev_class \
                               WHERE r.ev_enabled <> 'D') \
                   OR EXISTS (SELECT FROM pg_catalog.pg_index i JOIN changed c ON c.relation = i.indrelid \
                               WHERE i.indisunique AND i.indisready AND NOT i.indisvalid) \
                   OR EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN changed c ON c.relation = t.tgrelid \
                                JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid \
                                JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
                               WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' \
                                 AND NOT (p.proname IN ('keep', 'keep_rows') AND n.nspname = 'countersign'))";
    Ok(client.query_one(sql, &[&call.as_str()]).await?.try_get(0)?)
}

/// Tells whether a row has other values in an index that lets no two rows have the same, or another number of its
/// identity: its old ones may only fit when others have made room, which takes other rights.
async fn changed_hands(client: &Client, call: &CallId) -> Result<bool, PostgresFault> {
    let sql = "WITH changed AS ( \
                 SELECT DISTINCT i.relation FROM countersign.image i \
                  WHERE i.call = $1 AND i.old IS NOT NULL AND i.new IS NOT NULL) \
               SELECT c.relation::int8, c.relation::regclass::text, \
                      ARRAY(SELECT DISTINCT a.attname::text FROM pg_catalog.pg_attribute a \
                             WHERE a.attrelid = c.relation AND a.attnum > 0 AND NOT a.attisdropped \
                               AND coalesce(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') <> 'v' \
                               AND (a.attidentity = 'a' OR EXISTS ( \
                                   SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.relation \
                                      AND (i.indisunique OR i.indisexclusion) \
                                      AND (a.attnum = ANY (i.indkey) OR 0 = ANY (i.indkey) OR i.indpred IS NOT NULL)))) \
                 FROM changed c";
    for row in client.query(sql, &[&call.as_str()]).await? {
        let (relation, table): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let columns: Vec<String> = row.try_get(2)?;
        let differs: Vec<String> = columns
            .iter()
            .map(|column| format!("(q.b).{c}::text IS DISTINCT FROM (q.a).{c}::text", c = quoted(column)))
            .collect();
        if differs.is_empty() {
            continue;
        }
        let sql = format!(
            "SELECT EXISTS (SELECT FROM (SELECT i.old::{table} AS b, i.new::{table} AS a FROM countersign.kept i \
                             WHERE i.call = $1 AND i.relation = $2::int8::oid AND i.old IS NOT NULL AND i.new IS NOT NULL \
                            OFFSET 0) AS q WHERE {})",
            differs.join(" OR ")
        );
        if client.query_one(&sql, &[&call.as_str(), &relation]).await?.try_get(0)? {
            return Ok(true);
        }
    }
    Ok(false)
}
