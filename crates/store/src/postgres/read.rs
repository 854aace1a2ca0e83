//! The connections that read.

use std::time::Duration;

use countersign_gate::ledger::LedgerFault;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::time::timeout;
use tokio_postgres::NoTls;

use super::{
    connect::{Connector, GRACE},
    fault::failure,
    row::ask_each,
};
use crate::{
    error::{Failure, StoreError},
    options::Options,
    row::{SqlStatement, StoredRow},
};

/// These connections read.
pub(crate) struct PostgresReader {
    pool: Pool,
    statement_timeout: Duration,
}

impl Connector {
    /// Makes a pool of connections whose transactions are read-only, unless one says otherwise.
    pub(crate) fn reader(&self, options: &Options) -> Result<PostgresReader, StoreError> {
        let mut config = self.config.clone();
        let given = config.get_options().unwrap_or_default().to_owned();
        let statement_ms = self.statement_timeout.as_millis();
        config.options(format!(
            "{given} -c statement_timeout={statement_ms} -c default_transaction_read_only=on"
        ));
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &self.tls {
            None => Manager::from_config(config, NoTls, recycle),
            Some(tls) => Manager::from_config(config, tls.clone(), recycle),
        };
        let pool = Pool::builder(manager)
            .max_size(options.readers.max(1))
            .wait_timeout(Some(options.queue_timeout))
            .create_timeout(Some(options.queue_timeout))
            .recycle_timeout(Some(options.queue_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_no_runtime| StoreError::Unavailable("no pool of connections".into()))?;
        Ok(PostgresReader { pool, statement_timeout: self.statement_timeout })
    }
}

impl PostgresReader {
    /// Reads; the answers are in the order of the questions, each no older than the one before.
    pub(crate) async fn read(&self, queries: &[SqlStatement]) -> Result<Vec<Vec<StoredRow>>, LedgerFault> {
        let limit = self.statement_timeout.saturating_add(GRACE);
        let read = async {
            match self.attempt(queries).await {
                // A connection that died while it was idle says nothing about the server.
                Err((_, true)) => self.attempt(queries).await.map_err(|(why, _closed)| why),
                other => other.map_err(|(why, _closed)| why),
            }
        };
        let result = timeout(limit, read).await;
        Ok(result
            .unwrap_or_else(|_elapsed| Err(Failure::Unavailable("PostgreSQL does not answer".into())))?)
    }

    /// Reads as [`PostgresReader::read`] does, without trying again. On failure, it says too whether the connection is
    /// closed.
    async fn attempt(&self, queries: &[SqlStatement]) -> Result<Vec<Vec<StoredRow>>, (Failure, bool)> {
        let client = self.pool.get().await;
        let client =
            client.map_err(|_why| (Failure::Unavailable("PostgreSQL cannot be reached".into()), false))?;
        let read = async {
            let mut statements = Vec::with_capacity(queries.len());
            for query in queries {
                statements.push(client.prepare_cached(query.sql).await.map_err(|why| failure(&why))?);
            }
            ask_each(&client, statements.iter().zip(queries)).await
        };
        read.await.map_err(|why| (why, client.is_closed()))
    }

    /// Lets what was erased be overwritten: it vacuums the table of evidence.
    pub(crate) async fn scrub(&self, connector: &Connector) -> Result<(), LedgerFault> {
        let client = connector.connect_to_write().await?;
        Ok(connector.limited(client.batch_execute("VACUUM evidence")).await?)
    }
}
