//! Where a test's ledger lives: in a file of its folder, or in a database of its own on PostgreSQL.

use std::{fs, path::Path};

/// A place for one ledger, gone when it is dropped.
#[derive(Debug)]
pub(crate) enum Place {
    Sqlite,
    Postgres(Database),
}

/// A database of its own, dropped with it.
#[derive(Debug)]
pub(crate) struct Database {
    admin: String,
    name: String,
    /// As its administrator.
    pub(crate) url: String,
}

impl Place {
    pub(crate) const fn sqlite() -> Self {
        Self::Sqlite
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(Database::create())
    }

    /// The section of a configuration that says so. What it refers to is written into the folder.
    pub(crate) fn section(&self, folder: &Path) -> String {
        match self {
            Self::Sqlite => "\n[store]\npath = \"countersign.db\"\n".into(),
            Self::Postgres(database) => {
                use std::os::unix::fs::PermissionsExt as _;
                let file = folder.join("store.url");
                fs::write(&file, &database.url).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
                "\n[store]\nkind = \"postgres\"\nurl = { file = \"store.url\" }\nconnections_max = 4\n".into()
            }
        }
    }
}

impl Database {
    pub(crate) fn create() -> Self {
        Self::on("COUNTERSIGN_TEST_POSTGRES")
    }

    /// One on the server that a variable names.
    pub(crate) fn on(variable: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "where the tests' server is")]
        let admin = std::env::var(variable).unwrap_or_else(|_missing| {
            panic!("{variable} must name a PostgreSQL server; run ./test, which starts one")
        });
        let stamp = tempfile::Builder::new().prefix("countersign_").rand_bytes(12).tempfile().unwrap();
        let name = stamp.path().file_name().unwrap().to_str().unwrap().to_lowercase();
        execute(&admin, format!("CREATE DATABASE {name}")).unwrap();
        let (server, query) = admin.split_once('?').unwrap_or((&admin, ""));
        let (server, _database) = server.rsplit_once('/').unwrap();
        Self { url: format!("{server}/{name}?{query}"), admin, name }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Servers that a failed test has left behind are disconnected.
        let dropped = execute(&self.admin, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        if let Err(why) = dropped {
            eprintln!("database {} is left behind: {why}", self.name);
        }
        if let Err(why) = execute(&self.admin, format!("DROP ROLE IF EXISTS {}_tools", self.name)) {
            eprintln!("role {}_tools is left behind: {why}", self.name);
        }
    }
}

/// Executes one statement, inside or outside of an asynchronous test.
pub(crate) fn execute(url: &str, statement: String) -> Result<(), tokio_postgres::Error> {
    let config: tokio_postgres::Config = url.parse()?;
    let work = async move {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(&statement).await
    };
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    std::thread::spawn(run).join().unwrap()
}

/// Makes two tests of each function that takes a [`Place`]: one per store.
macro_rules! on_either_store {
    (async $($name:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::place::Place::sqlite()).await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::place::Place::postgres()).await;
                }
            )*
        }
    };
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[test]
                fn $name() {
                    super::$name(crate::place::Place::sqlite());
                }
            )*
        }
        mod postgres {
            $(
                #[test]
                fn $name() {
                    super::$name(crate::place::Place::postgres());
                }
            )*
        }
    };
}
pub(crate) use on_either_store;
