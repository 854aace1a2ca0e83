//! Where a test's ledger lives.

use std::{path::PathBuf, sync::Arc};

use countersign_audit::SigningKey;
use countersign_store::{Options, Store, StoreError};

/// The name of every test's log.
pub(crate) const ORIGIN: &str = "test.example/log";

/// A place for one ledger, gone when it is dropped.
pub(crate) enum Place {
    Sqlite(tempfile::TempDir),
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
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
        }
    }

    /// The file of a ledger on SQLite.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.path().join("ledger.db"),
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
    };
}
pub(crate) use contract;
