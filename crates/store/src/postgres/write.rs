//! The connection that writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use futures::future::{join, join_all};
use tokio::time::timeout;
use tokio_postgres::{Client, Statement};

use super::{
    connect::{Connector, GRACE},
    fault::{failure, is_refusal},
    place,
    row::ask_each,
};
use crate::{
    error::{Failure, StoreError},
    history::went_back,
    record::call::open_calls,
    row::{SqlStatement, StoredRow},
    writer::{Backend, Begun},
};

/// This connection writes.
pub(crate) struct PostgresWriter {
    connector: Connector,
    session: Option<Session>,
    process: i64,
    /// Calls may be open still under these process ids of broken connections: their process is this one.
    former: BTreeSet<i64>,
}

struct Session {
    client: Client,
    statements: BTreeMap<&'static str, Statement>,
}

impl Connector {
    /// Makes the one connection that writes.
    pub(crate) async fn writer(self) -> Result<PostgresWriter, StoreError> {
        let mut writer =
            PostgresWriter { connector: self, session: None, process: 0, former: BTreeSet::new() };
        writer.connect().await?;
        Ok(writer)
    }
}

impl PostgresWriter {
    /// Connects under a new process id, unless a connection is there: whoever finds the lock of the old one
    /// free may have taken the calls under it for lost.
    async fn connect(&mut self) -> Result<&mut Session, Failure> {
        if self.session.as_ref().is_none_or(|session| session.client.is_closed()) {
            self.session = None;
            let connector = self.connector.clone();
            let client = connector.connect_to_write().await?;
            let process =
                connector.limited(client.query_one("UPDATE process SET last = last + 1 RETURNING last", &[]));
            let process: i64 = process.await?.try_get(0).map_err(|why| failure(&why))?;
            self.former.insert(self.process);
            let open = connector.limited(client.query(OPEN, &[])).await?;
            let open: BTreeSet<i64> = open.iter().filter_map(|row| row.try_get(0).ok()).collect();
            self.former.retain(|former| open.contains(former));
            // The calls under a former id are this process's as long as nobody else could take its lock.
            for id in self.former.iter().chain([&process]) {
                let lock = format!("SELECT pg_try_advisory_lock('process'::regclass::oid::int4, {id}::int4)");
                connector.limited(client.batch_execute(&lock)).await?;
            }
            self.process = process;
            self.session = Some(Session { client, statements: BTreeMap::new() });
        }
        self.session.as_mut().ok_or_else(|| Failure::Unavailable("PostgreSQL is not connected".into()))
    }

    /// Runs a step on the connection, which is given up when it cannot be used any more.
    async fn limited<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let limit = self.connector.statement_timeout.saturating_add(GRACE);
        let Some(session) = &mut self.session else {
            return Err(Failure::Unavailable("the connection to PostgreSQL broke".into()));
        };
        let result = timeout(limit, work(session)).await;
        let result = result.unwrap_or_else(|_elapsed| {
            self.session = None;
            Err(Failure::Unavailable("PostgreSQL does not answer".into()))
        });
        if self.session.as_ref().is_some_and(|session| session.client.is_closed()) {
            self.session = None;
        }
        result
    }
}

impl Session {
    async fn prepare(&mut self, queries: &[SqlStatement]) -> Result<(), Failure> {
        for query in queries {
            if !self.statements.contains_key(query.sql) {
                let statement = self.client.prepare(query.sql).await.map_err(|why| failure(&why))?;
                self.statements.insert(query.sql, statement);
            }
        }
        Ok(())
    }

    fn statement(&self, sql: &str) -> Result<&Statement, Failure> {
        self.statements.get(sql).ok_or_else(|| Failure::Statement("a statement was not prepared".into()))
    }

    /// Sends every question at once; the server answers them in order.
    async fn read(&mut self, queries: &[SqlStatement]) -> Result<Vec<Vec<StoredRow>>, Failure> {
        self.prepare(queries).await?;
        self.ask(queries).await
    }

    /// Reads as [`Session::read`] does, with statements that are prepared.
    async fn ask(&self, queries: &[SqlStatement]) -> Result<Vec<Vec<StoredRow>>, Failure> {
        let questions = queries.iter().map(|query| Ok((self.statement(query.sql)?, query)));
        ask_each(&self.client, questions.collect::<Result<Vec<_>, Failure>>()?).await
    }

    /// Sends every statement at once. It fails where one changes another number of rows than it must.
    async fn write(&mut self, queries: &[SqlStatement]) -> Result<(), Failure> {
        self.prepare(queries).await?;
        let this = &*self;
        let answers = queries.iter().map(async |query| {
            let changed = this
                .client
                .execute_raw(this.statement(query.sql)?, &query.params)
                .await
                .map_err(|why| failure(&why))?;
            match query.rows {
                Some(rows) if rows != changed => {
                    Err(Failure::Statement("a record is not there any more".into()))
                }
                Some(_) | None => Ok(()),
            }
        });
        // The first that failed says why; those after it failed with it.
        join_all(answers).await.into_iter().collect()
    }
}

/// Under these process ids calls are open.
const OPEN: &str = "SELECT DISTINCT process FROM (SELECT process FROM call WHERE unsettled = 'open' \
     UNION ALL SELECT process FROM call WHERE place >= (SELECT size / 256 * 256 FROM log_head WHERE id = 0) \
     AND place <= (SELECT size FROM log_head WHERE id = 0) AND state = 'open') c";

const LOCK_HEAD: &str = "SELECT size, frontier, checkpoint, changed FROM log_head WHERE id = 0 FOR UPDATE";

impl Backend for PostgresWriter {
    async fn begin(&mut self) -> Result<Begun, Failure> {
        let mut tries = 0_u8;
        loop {
            self.connect().await?;
            let head = self
                .limited(async |session| {
                    let lock = [SqlStatement::new(LOCK_HEAD, Vec::new())];
                    session.prepare(&lock).await?;
                    // Each statement sees what is committed when it begins, so all after the lock see the end.
                    let begin =
                        session.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE");
                    // Sent together, and executed in this order.
                    let (begun, head) = join(begin, session.ask(&lock)).await;
                    begun.map_err(|why| failure(&why))?;
                    head
                })
                .await;
            match head {
                Ok(rows) => {
                    let row = rows.into_iter().flatten().next();
                    let head = row.ok_or_else(|| Failure::Damaged("the log has no head".into()))?;
                    let changed = head.int(3).map_err(|why| Failure::Damaged(why.0))?;
                    if changed < self.connector.floor.load(Ordering::Relaxed) {
                        return Err(went_back());
                    }
                    // Whoever writes moves the head.
                    return Ok(Begun { head, disturbed: false });
                }
                // The server was restarted since: nothing was asked of it yet, so a new connection will do.
                Err(_) if self.session.is_none() && tries == 0 => tries = 1,
                Err(why) => return Err(why),
            }
        }
    }

    async fn read(&mut self, queries: &[SqlStatement]) -> Result<Vec<Vec<StoredRow>>, Failure> {
        self.limited(async |session| session.read(queries).await).await
    }

    async fn write(&mut self, queries: &[SqlStatement]) -> Result<(), Failure> {
        self.limited(async |session| session.write(queries).await).await
    }

    async fn commit(&mut self, watched: bool) -> Result<(), Failure> {
        let commit = if watched { "NOTIFY countersign; COMMIT" } else { "COMMIT" };
        let result = self
            .limited(async |session| {
                // A crash before the server has synced leaves the state before this batch; after it, the batch.
                session.client.batch_execute(commit).await.map_err(|why| match why.code() {
                    Some(code) if is_refusal(code) => failure(&why),
                    Some(_) | None => Failure::Unknown("PostgreSQL did not answer the commit".into()),
                })
            })
            .await;
        match result {
            Err(Failure::Unavailable(_)) if self.session.is_none() => {
                Err(Failure::Unknown("PostgreSQL did not answer the commit".into()))
            }
            Ok(()) | Err(_) => {
                if matches!(result, Err(Failure::Unknown(_))) {
                    self.session = None;
                }
                result
            }
        }
    }

    async fn roll_back(&mut self) {
        let ended = self
            .limited(async |session| {
                session.client.batch_execute("ROLLBACK").await.map_err(|why| failure(&why))
            })
            .await;
        if ended.is_err() {
            self.session = None;
        }
    }

    async fn end(&mut self) {
        // Calls that are open still are nobody's from now on. The server would notice a little later.
        let released = self.limited(async |session| {
            session.client.batch_execute("SELECT pg_advisory_unlock_all()").await.map_err(|why| failure(&why))
        });
        if let Err(why) = released.await {
            tracing::debug!(?why, "the process's lock is released by its connection's end");
        }
    }

    fn process(&self) -> i64 {
        self.process
    }

    fn orphans(&self) -> SqlStatement {
        SqlStatement::new(
            concat!(
                "SELECT id FROM (",
                open_calls!("id, place, process", ""),
                ") c WHERE process <> $1 AND process::oid NOT IN (SELECT objid FROM pg_locks \
                 WHERE locktype = 'advisory' AND granted AND objsubid = 2 \
                 AND classid = 'process'::regclass::oid \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) ORDER BY place"
            ),
            vec![self.process.into()],
        )
    }

    fn filing(&self) -> &'static [&'static str] {
        &place::FILING
    }
}
