//! Where a test's ledger lives.

use std::{path::PathBuf, sync::Arc};

use countersign_audit::SigningKey;
use countersign_store::{Options, Store, StoreError};

/// The name of every test's log.
pub(crate) const ORIGIN: &str = "test.example/log";

/// A place for one ledger, gone when it is dropped.
pub(crate) enum Place {
    Sqlite(tempfile::TempDir),
    Postgres(Box<Database>),
}

/// A database of its own, dropped with it.
pub(crate) struct Database {
    admin: tokio_postgres::Config,
    name: String,
    url: String,
}

impl Database {
    async fn create() -> Self {
        #[expect(clippy::disallowed_methods, reason = "where the tests' server is")]
        let url = std::env::var("COUNTERSIGN_TEST_POSTGRES")
            .expect("COUNTERSIGN_TEST_POSTGRES must name a PostgreSQL server; run ./test, which starts one");
        let admin: tokio_postgres::Config = url.parse().unwrap();
        let stamp = tempfile::Builder::new().prefix("countersign_").rand_bytes(12).tempfile().unwrap();
        let name = stamp.path().file_name().unwrap().to_str().unwrap().to_lowercase();
        connect(&admin).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let (server, query) = url.split_once('?').map_or((url.as_str(), ""), |(url, query)| (url, query));
        let (server, _database) = server.rsplit_once('/').unwrap();
        Self { url: format!("{server}/{name}?{query}"), admin, name }
    }

    /// Connects to the database itself.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        connect(&self.url.parse().unwrap()).await
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin, drop) =
            (self.admin.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let work = async move { connect(&admin).await.batch_execute(&drop).await };
        let done = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
        });
        // A server that a test has stopped takes its databases along.
        done.join().ok();
    }
}

async fn connect(config: &tokio_postgres::Config) -> tokio_postgres::Client {
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) async fn postgres() -> Self {
        Self::Postgres(Box::new(Database::create().await))
    }

    pub(crate) fn key() -> SigningKey {
        SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap()
    }

    pub(crate) async fn open(&self) -> Arc<Store> {
        self.open_with(Options::default()).await.unwrap()
    }

    pub(crate) async fn open_with(&self, options: Options) -> Result<Arc<Store>, StoreError> {
        self.open_as(Self::key(), options).await
    }

    pub(crate) async fn open_as(&self, key: SigningKey, options: Options) -> Result<Arc<Store>, StoreError> {
        match self {
            Self::Sqlite(_) => Store::open_sqlite(&self.path(), key, &options).map(Arc::new),
            Self::Postgres(database) => {
                Store::open_postgres(database.url(), key, &options).await.map(Arc::new)
            }
        }
    }

    /// The database of a ledger on PostgreSQL.
    pub(crate) fn database(&self) -> &Database {
        match self {
            Self::Sqlite(_) => panic!("a file is no database"),
            Self::Postgres(database) => database,
        }
    }

    /// Where another process finds it.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Sqlite(_) => self.path().to_str().unwrap().to_owned(),
            Self::Postgres(database) => database.url().to_owned(),
        }
    }

    /// Changes what is stored behind the ledger's back.
    pub(crate) async fn change(&self, sql: &str) {
        assert_eq!(self.try_change(sql).await, 1);
    }

    /// As [`Place::change`], for a change that may find nothing. Answers how many rows it changed.
    pub(crate) async fn try_change(&self, sql: &str) -> usize {
        match self {
            Self::Sqlite(_) => rusqlite::Connection::open(self.path()).unwrap().execute(sql, []).unwrap(),
            Self::Postgres(database) => {
                usize::try_from(database.connect().await.execute(sql, &[]).await.unwrap()).unwrap()
            }
        }
    }

    /// Reads one number behind the ledger's back.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        match self {
            Self::Sqlite(_) => {
                rusqlite::Connection::open(self.path()).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
            }
            Self::Postgres(database) => database.connect().await.query_one(sql, &[]).await.unwrap().get(0),
        }
    }

    /// Executes statements behind the ledger's back.
    pub(crate) async fn execute(&self, sql: &str) {
        match self {
            Self::Sqlite(_) => rusqlite::Connection::open(self.path()).unwrap().execute_batch(sql).unwrap(),
            Self::Postgres(database) => database.connect().await.batch_execute(sql).await.unwrap(),
        }
    }

    /// The file of a ledger on SQLite.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.path().join("ledger.db"),
            Self::Postgres(_) => panic!("a database is no file"),
        }
    }
}

/// Runs each test in a place on either database.
macro_rules! contract {
    ($(async fn $name:ident($place:ident) $body:block)*) => {
        mod sqlite {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let $place = crate::place::Place::sqlite();
                    $body
                }
            )*
        }
        mod postgres {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let $place = crate::place::Place::postgres().await;
                    $body
                }
            )*
        }
    };
}
pub(crate) use contract;
