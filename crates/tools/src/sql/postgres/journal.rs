//! The journal in a PostgreSQL database: schema `countersign`, made by its administrator with `prepare.sql`.
//!
//! Every write begins by writing its own id to `countersign.call`, in its own transaction. That row is what
//! makes the effect happen at most once and its outcome known: it is there exactly when the transaction
//! committed, and nobody can write it a second time. Changed rows are kept by triggers that the administrator
//! owns, so that whatever changes a row (a cascade, another trigger, an upsert) is kept alike, and our own
//! account can neither add to what is kept nor take from it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use countersign_gate::{Credential, Doubt, MeasureError, Recalled};
use countersign_rules::CallId;
use countersign_sql::TableRef;
use deadpool_postgres::Object;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::{Client, Error, SimpleQueryMessage, error::SqlState};

use super::{
    GRACE, PostgresDatabase,
    connection::roll_back,
    fault::{PostgresFault, failed, told},
};
use crate::{
    secret::Scrubber,
    sql::{
        cascade::{named, quoted},
        journal::{Mark, NO_JOURNAL, Testimony, recorded},
    },
};

/// What an administrator runs once, and again after new tables came.
const PREPARE: &str = include_str!("prepare.sql");
/// The journal's name, where rows are kept in the form that is known here.
const IDENTITY: &str = "SELECT countersign.identity() WHERE countersign.form() = 2";
pub(super) const NOT_PREPARED: &str = "the database is not prepared to keep calls, or was by another version: its administrator runs `countersign system prepare`";

impl PostgresDatabase {
    /// The statements that prepare the database for an account, for its administrator to read and run.
    pub(super) fn prepare_sql(&self, credential: &Credential, tables: &[String]) -> Result<String, String> {
        let settings = self.target.journal.as_ref().ok_or(NO_JOURNAL)?;
        let account = self.connections.account(credential)?;
        let mut script = PREPARE
            .replace("{account}", &quoted(&account))
            .replace("{retention_ms}", &settings.retention_ms.to_string());
        let path: Vec<String> = self.target.search_path.iter().map(|schema| quoted(schema)).collect();
        script.push_str(&format!("SET LOCAL search_path = {};\n", path.join(", ")));
        for table in tables {
            let table = match table.split_once('.') {
                Some((schema, name)) => TableRef { schema: Some(schema.into()), name: name.into() },
                None => TableRef::bare(table.clone()),
            };
            let name = named(&table).replace('\'', "''");
            script.push_str(&format!("SELECT countersign.cover('{name}'::regclass);\n"));
        }
        script.push_str("COMMIT;\n");
        Ok(script)
    }

    /// Prepares the database with an administrator's connection string; says what is kept from now on, and
    /// what would let our account around it.
    pub(super) async fn prepare(
        &self,
        credential: &Credential,
        admin: &SecretString,
        tables: &[String],
    ) -> Result<Vec<String>, String> {
        let script = self.prepare_sql(credential, tables)?;
        let account = self.connections.account(credential)?;
        let admin = Credential::new(BTreeMap::from([(
            "url".to_owned(),
            SecretString::from(admin.expose_secret().to_owned()),
        )]));
        let scrubber = Scrubber::new(&admin);
        let client = self.connections.connect_once(&admin).await.map_err(|why| why.0)?;
        let said = client.simple_query(&script).await;
        let rows = match said {
            Ok(rows) => rows,
            Err(error) => {
                drop(Object::take(client));
                return Err(scrubber.clean(&told(&error)));
            }
        };
        // A line for each table: kept, or left out and why.
        let mut kept: Vec<String> = rows
            .iter()
            .filter_map(|message| {
                let SimpleQueryMessage::Row(row) = message else { return None };
                row.get(0).map(ToOwned::to_owned)
            })
            .collect();
        kept.sort();
        kept.dedup();
        kept.extend(warnings(&client, &account).await.map_err(|error| scrubber.clean(&told(&error)))?);
        drop(Object::take(client));
        Ok(kept)
    }

    /// Tells which journal the database keeps now. None when it cannot say.
    pub(super) async fn identity(&self, credential: impl FnOnce() -> Option<Credential>) -> Option<Arc<str>> {
        if let Some(known) = self.journal.get() {
            return Some(known);
        }
        let client = self.connections.connect(&credential()?).await.ok()?;
        // One in another form is as good as none.
        let asking = client.query_one(IDENTITY, &[]);
        let Ok(Ok(row)) = tokio::time::timeout(GRACE, asking).await else {
            drop(Object::take(client));
            return None;
        };
        let journal: Arc<str> = row.try_get::<_, &str>(0).ok()?.into();
        self.journal.set(Some(Arc::clone(&journal)));
        Some(journal)
    }

    /// Tells what became of a call; one that has left no trace is fenced off.
    ///
    /// Taking the id of a call waits for a transaction that has it and is not over: a server process that
    /// still runs the statement, or commits it. When that takes too long, nothing is known.
    pub(super) async fn recall(
        &self,
        credential: &Credential,
        doubt: &Doubt,
    ) -> Result<Recalled, MeasureError> {
        let scrubber = self.connections.scrubber(credential);
        let client = self.connections.connect(credential).await?;
        let wait = Duration::from_millis(self.target.limits.statement_timeout_ms);
        let outcome =
            tokio::time::timeout(wait.saturating_add(GRACE), self.recall_with(&client, doubt)).await;
        match outcome {
            Ok(Ok(recalled)) => Ok(recalled),
            Ok(Err(fault)) => {
                let why = failed(&scrubber, &fault).to_string();
                roll_back(client).await;
                Err(MeasureError::System(why))
            }
            Err(_elapsed) => {
                drop(Object::take(client));
                Err(MeasureError::System("the database did not say in time".into()))
            }
        }
    }

    async fn recall_with(&self, client: &Object, doubt: &Doubt) -> Result<Recalled, PostgresFault> {
        let call = &doubt.call;
        client
            .batch_execute(&format!("BEGIN; {}", self.pinned(self.target.limits.statement_timeout_ms)))
            .await?;
        let sql = "SELECT countersign.identity(), c.state, c.rows, \
                          $2::text IS NULL OR EXISTS (SELECT FROM countersign.call w WHERE w.id = $2 AND w.state = 'committed') \
                     FROM (VALUES ($1::text)) AS asked (id) LEFT JOIN countersign.call c ON c.id = asked.id";
        let witness = doubt.witness.as_ref().map(CallId::as_str);
        let row = match client.query_one(sql, &[&call.as_str(), &witness]).await {
            Ok(row) => row,
            // There is no journal, so it cannot know.
            Err(error) if missing(&error) => {
                client.batch_execute("ROLLBACK").await?;
                return Ok(Recalled::Unknown);
            }
            Err(error) => return Err(error.into()),
        };
        let record = row
            .try_get::<_, Option<&str>>(1)?
            .map(|state| Ok::<_, Error>(recalled(state, row.try_get(2)?)))
            .transpose()?;
        let shown = Testimony { journal: row.try_get(0)?, record, has_witness: row.try_get(3)? };
        if let Some(known) = shown.believed(doubt).map_err(PostgresFault::Other)? {
            client.batch_execute("ROLLBACK").await?;
            return Ok(known);
        }
        let fence = "INSERT INTO countersign.call (id, tool, digest, state) VALUES ($1, '', '', 'fenced') \
                     ON CONFLICT (id) DO NOTHING";
        let recalled = if client.execute(fence, &[&call.as_str()]).await? > 0 {
            Recalled::Never
        } else {
            let row = client
                .query_one("SELECT state, rows FROM countersign.call WHERE id = $1", &[&call.as_str()])
                .await?;
            recalled(row.try_get(0)?, row.try_get(1)?)
        };
        // A crash before this leaves no fence, and nobody who was told of one.
        client.batch_execute("COMMIT").await?;
        Ok(recalled)
    }

    /// Forgets rows that were kept longer than the retention; returns how many.
    pub(super) async fn prune(&self, credential: &Credential) -> Result<u64, String> {
        let settings = self.target.journal.as_ref().ok_or(NO_JOURNAL)?;
        let scrubber = self.connections.scrubber(credential);
        let client = self.connections.connect(credential).await.map_err(|why| why.0)?;
        let retention = i64::try_from(settings.retention_ms).unwrap_or(i64::MAX);
        let pruned = client.query_one("SELECT countersign.prune($1)", &[&retention]).await;
        pruned.and_then(|row| row.try_get::<_, i64>(0)).map(|rows| u64::try_from(rows).unwrap_or(0)).map_err(
            |error| if missing(&error) { NOT_PREPARED.into() } else { scrubber.clean(&told(&error)) },
        )
    }
}

fn recalled(state: &str, rows: Option<i64>) -> Recalled {
    match state {
        "fenced" => Recalled::Never,
        _ => Recalled::Happened { rows: u64::try_from(rows.unwrap_or(0)).unwrap_or(0), amount: None },
    }
}

/// Tells what lets an account around what it is held to.
async fn warnings(client: &Client, account: &str) -> Result<Vec<String>, Error> {
    let sql = "SELECT pg_catalog.format('warning: account %I is a superuser and could change what is kept', $1::text) \
                 FROM pg_catalog.pg_roles WHERE rolname = $1::text AND rolsuper \
               UNION ALL \
               SELECT pg_catalog.format('warning: account %I owns %s and could stop keeping its rows', $1::text, t.tgrelid::regclass) \
                 FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
                 JOIN pg_catalog.pg_roles a ON a.rolname = $1::text \
                WHERE t.tgname IN ('zz_countersign_keep', 'zz_countersign_keep_update') AND NOT a.rolsuper \
                  AND pg_catalog.pg_has_role(a.oid, c.relowner, 'USAGE')";
    let account = account.to_owned();
    client.query(sql, &[&account]).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Begins the record of a call. First in its transaction: a call that was fenced off stops here, before it
/// has touched anything. Where the journal is not that of the mark nothing is written, and its name returned.
pub(super) async fn begin(
    client: &Object,
    mark: &Mark,
    undoes: Option<&CallId>,
) -> Result<Option<String>, PostgresFault> {
    let sql = "WITH begun AS (INSERT INTO countersign.call (id, tool, digest, images, undoes) \
                              SELECT $1::text, $2::text, $3::text, $4::bool, $5::text \
                               WHERE countersign.identity() = $6::text AND countersign.form() = 2 RETURNING id, images, undoes) \
               SELECT pg_catalog.set_config('countersign.call', CASE WHEN images THEN id ELSE '' END, true), \
                      pg_catalog.set_config('countersign.undoes', coalesce(undoes, ''), true) FROM begun";
    let begun = async {
        let statement = client.prepare_cached(sql).await?;
        let undoes = undoes.map(CallId::as_str);
        client
            .query_opt(
                &statement,
                &[&mark.call.as_str(), &mark.tool, &mark.digest, &mark.images, &undoes, &mark.journal],
            )
            .await
    };
    match begun.await {
        Ok(Some(_)) => Ok(None),
        Ok(None) => match client.query_opt(IDENTITY, &[]).await? {
            Some(found) => Ok(Some(found.try_get(0)?)),
            None => Err(PostgresFault::Other(NOT_PREPARED.into())),
        },
        Err(error) if missing(&error) => Err(PostgresFault::Other(NOT_PREPARED.into())),
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            Err(PostgresFault::Recorded(recorded(&mark.call)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Tells whether everything that a call changed was kept: the server's own count of changed rows, table by table,
/// against the rows kept by the triggers. The locks that the changes took keep the triggers as they are.
pub(super) async fn complete(
    client: &Object,
    mark: &Mark,
    bytes_max: u64,
    moved: &BTreeMap<TableRef, u64>,
) -> Result<(), PostgresFault> {
    let sql = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), m.n, \
                      EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid \
                                JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace \
                               WHERE t.tgrelid = c.oid AND fn.nspname = 'countersign' AND f.proname = 'keep' \
                                 AND t.tgenabled IN ('O', 'A') AND t.tgtype = 29) \
                      OR 3 = (SELECT count(DISTINCT t.tgtype) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid \
                                JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace \
                               WHERE t.tgrelid = c.oid AND fn.nspname = 'countersign' AND f.proname = 'keep_rows' \
                                 AND t.tgenabled IN ('O', 'A') AND t.tgtype IN (4, 8, 16)) \
                         AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)), \
                      EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary), \
                      (SELECT coalesce(sum(k.rows), 0)::int8 FROM countersign.image k WHERE k.call = $1 AND k.relation = c.oid) \
                 FROM unnest($2::text[], $3::text[], $4::int8[]) AS m (s, r, n) \
                 JOIN pg_catalog.pg_namespace n ON n.nspname = m.s \
                 JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = m.r \
                WHERE c.relpersistence <> 't' AND NOT EXISTS (SELECT FROM countersign.aside a \
                      WHERE a.relation IN (c.oid, pg_catalog.pg_partition_root(c.oid)))";
    let statement = client.prepare_cached(sql).await?;
    let schemas: Vec<&str> = moved.keys().map(|t| t.schema.as_deref().unwrap_or_default()).collect();
    let names: Vec<&str> = moved.keys().map(|t| t.name.as_str()).collect();
    let counts: Vec<i64> = moved.values().map(|n| i64::try_from(*n).unwrap_or(i64::MAX)).collect();
    for row in client.query(&statement, &[&mark.call.as_str(), &schemas, &names, &counts]).await? {
        let (table, changed, kept): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(4)?);
        let why = if !row.try_get::<_, bool>(2)? {
            format!("table `{table}` changes with it and is not prepared (`countersign system prepare`)")
        } else if !row.try_get::<_, bool>(3)? {
            format!("table `{table}` changes with it and has no primary key")
        } else if kept != changed {
            format!(
                "{changed} changes of table `{table}` were counted and {kept} kept, as when a trigger takes some back"
            )
        } else {
            continue;
        };
        return Err(PostgresFault::Other(format!(
            "the call could not be undone, so nothing was changed: {why}"
        )));
    }
    let sql = "SELECT coalesce(sum(bytes), 0)::int8 FROM countersign.image WHERE call = $1";
    let statement = client.prepare_cached(sql).await?;
    let bytes: i64 = client.query_one(&statement, &[&mark.call.as_str()]).await?.try_get(0)?;
    if u64::try_from(bytes).unwrap_or(0) > bytes_max {
        return Err(PostgresFault::Other(format!(
            "the rows to keep for undo have {bytes} bytes, more than the {bytes_max} of one call; nothing was changed"
        )));
    }
    Ok(())
}

/// Ends the record of a call.
pub(super) async fn seal(client: &Object, mark: &Mark, rows: u64) -> Result<(), PostgresFault> {
    let statement = client.prepare_cached("SELECT countersign.seal($1, $2)").await?;
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    client.query(&statement, &[&mark.call.as_str(), &rows]).await?;
    Ok(())
}

/// Tells whether the journal is not there, or not ours to use.
pub(super) fn missing(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::UNDEFINED_TABLE,
            SqlState::INVALID_SCHEMA_NAME,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::INSUFFICIENT_PRIVILEGE,
        ]
        .contains(code)
    })
}
