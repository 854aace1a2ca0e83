//! The schema as it stands in its database, and whose log it has.

use countersign_audit::SigningKey;
use tokio_postgres::{Client, Transaction, types::FromSqlOwned};

use super::{connect::Connector, fault::failure};
use crate::{error::StoreError, migration, tail};

impl Connector {
    /// Brings the schema up to date, and begins the log if there is none and it `may` begin. It fails when the
    /// log has another key, the schema is newer than the program, or a table is missing; then nothing has
    /// changed.
    pub(crate) async fn prepare(
        &self,
        key: &SigningKey,
        may: impl Fn() -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        let mut client = self.connect_to_write().await?;
        let transaction = self.limited(client.transaction()).await?;
        let found = self.limited(version(&transaction, may)).await??;
        if found < migration::newest() {
            // Without a limit: a step may have to read all that there is.
            upgrade(&transaction, found).await.map_err(|why| StoreError::from(failure(&why)))?;
        }
        self.limited(begin(&transaction, key, found)).await??;
        // A crash before this leaves the schema as it was.
        Ok(self.limited(transaction.commit()).await?)
    }

    /// Returns who signed the log, as a vkey, whatever the schema; `None` when there is no ledger yet.
    pub(crate) async fn signer(&self) -> Result<Option<String>, StoreError> {
        let client = self.connect_to_write().await?;
        Ok(self.limited(stored(&client, "log_head", SIGNER)).await?)
    }

    /// Returns who signed the log, as a vkey, where it has the schema of this program; `None` when there is no
    /// ledger yet. It fails with [`StoreError::Schema`] where the schema is another.
    pub(crate) async fn identity(&self) -> Result<Option<String>, StoreError> {
        const VERSION: &str = "SELECT coalesce(max(version), 0) FROM migration";
        let client = self.connect_to_write().await?;
        let Some(found) = self.limited(stored(&client, "migration", VERSION)).await? else { return Ok(None) };
        if found != migration::newest() {
            return Err(StoreError::Schema { found, known: migration::newest() });
        }
        let signer = self.limited(stored(&client, "log_head", SIGNER)).await?;
        signer.map(Some).ok_or_else(|| StoreError::Damaged("the log has no head".into()))
    }
}

/// Returns the number of the schema that is there; it makes the table of these numbers where there is none and a
/// ledger `may` begin. Processes that start together take turns from here on.
async fn version(
    transaction: &Transaction<'_>,
    may: impl Fn() -> Result<(), StoreError> + Send,
) -> Result<Result<i64, StoreError>, tokio_postgres::Error> {
    transaction.batch_execute("SELECT pg_advisory_xact_lock(1129533511, 0)").await?;
    let exists = transaction.query_one("SELECT to_regclass('migration') IS NOT NULL", &[]).await?;
    if !exists.try_get::<_, bool>(0)? {
        if let Err(refused) = may() {
            return Ok(Err(refused));
        }
        transaction.batch_execute(&migration::for_postgres(migration::TABLE)).await?;
    }
    let found = transaction.query_one("SELECT coalesce(max(version), 0) FROM migration", &[]).await?;
    let found: i64 = found.try_get(0)?;
    if found > migration::newest() {
        return Ok(Err(StoreError::Schema { found, known: migration::newest() }));
    }
    let expected: Vec<String> = migration::tables(found, migration::for_postgres).into_iter().collect();
    let missing = transaction
        .query_opt("SELECT t FROM unnest($1::text[]) t WHERE to_regclass(t) IS NULL LIMIT 1", &[&expected])
        .await?;
    if let Some(table) = missing {
        let table: String = table.try_get(0)?;
        return Ok(Err(StoreError::Damaged(format!("its table `{table}` is missing"))));
    }
    Ok(Ok(found))
}

/// Applies the steps that follow on schema `found`.
async fn upgrade(transaction: &Transaction<'_>, found: i64) -> Result<(), tokio_postgres::Error> {
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    for (number, step) in migration::after(found) {
        transaction.batch_execute(&migration::for_postgres(step)).await?;
        transaction.execute("INSERT INTO migration (version) VALUES ($1)", &[&number]).await?;
    }
    Ok(())
}

/// Begins the log where there was no schema, and checks that it is signed with `key`.
async fn begin(
    transaction: &Transaction<'_>,
    key: &SigningKey,
    found: i64,
) -> Result<Result<(), StoreError>, tokio_postgres::Error> {
    // A ledger has its head from the transaction that made it.
    if found == 0 {
        let insert = match tail::insert_head(key) {
            Ok(insert) => insert,
            Err(fault) => return Ok(Err(fault.into())),
        };
        transaction.execute_raw(insert.sql, insert.params.iter()).await?;
    }
    let Some(stored) = transaction.query_opt(SIGNER, &[]).await? else {
        return Ok(Err(StoreError::Damaged("the log has no head".into())));
    };
    let stored: String = stored.try_get(0)?;
    if stored != key.verifier().to_string() {
        return Ok(Err(StoreError::OtherKey { stored }));
    }
    Ok(Ok(()))
}

const SIGNER: &str = "SELECT vkey FROM log_head WHERE id = 0";

/// Returns the one value that a query of a table answers; `None` where there is no such table, or no row.
async fn stored<T: FromSqlOwned>(
    client: &Client,
    table: &str,
    query: &str,
) -> Result<Option<T>, tokio_postgres::Error> {
    let exists = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?;
    if !exists.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    client.query_opt(query, &[]).await?.map(|row| row.try_get(0)).transpose()
}
