//! What can be done in a file that another process has open, such as a running server.
//!
//! Keys, links and accounts are read by whoever looks at them, each time, so a change is good at once. Nothing else can be
//! done beside that process: its calls would look like those of a process that is gone, and what it keeps in memory would
//! be wrong.

use std::{path::Path, thread::JoinHandle};

use countersign_audit::SigningKey;
use countersign_gate::ledger::LedgerFault;
use countersign_rules::{PasskeyId, PersonId};

use crate::{
    error::StoreError,
    link::NewLink,
    options::Options,
    record::key::{KeyRecord, NewKey},
    store::Store,
};

/// This is a ledger in a file that another process has open.
#[derive(Debug)]
pub struct StoreBeside {
    store: Store,
    writing: JoinHandle<()>,
}

impl StoreBeside {
    /// Opens a file that another process has open.
    ///
    /// # Errors
    /// Fails with a [`StoreError`], among others when the schema is not this program's or the log has another key.
    pub async fn open(path: &Path, key: SigningKey, options: &Options) -> Result<Self, StoreError> {
        let (store, writing) = Store::open_beside(path, key, options).await?;
        Ok(Self { store, writing })
    }

    /// Issues a key, as [`Store::issue_key`] does.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`], as that does.
    pub async fn issue_key(&self, new: NewKey, random: [u8; 32]) -> Result<(KeyRecord, String), LedgerFault> {
        self.store.issue_key(new, random).await
    }

    /// Makes a link, as [`Store::make_link`] does.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`], as that does.
    pub async fn make_link(&self, new: NewLink, token: &str) -> Result<bool, LedgerFault> {
        self.store.make_link(new, token).await
    }

    /// Signs a person out, as [`Store::sign_out_everywhere`] does.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`], as that does.
    pub async fn sign_out_everywhere(
        &self,
        person: &PersonId,
        by: &str,
        now_ms: i64,
    ) -> Result<bool, LedgerFault> {
        self.store.sign_out_everywhere(person, by, now_ms).await
    }

    /// Disables or enables an account, as [`Store::enable_account`] does.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`], as that does.
    pub async fn enable_account(
        &self,
        person: &PersonId,
        enabled: bool,
        by: &str,
        now_ms: i64,
    ) -> Result<Option<bool>, LedgerFault> {
        self.store.enable_account(person, enabled, by, now_ms).await
    }

    /// Removes a passkey, as [`Store::remove_passkey`] does.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`], as that does.
    pub async fn remove_passkey(
        &self,
        person: &PersonId,
        passkey: &PasskeyId,
        by: &str,
        now_ms: i64,
    ) -> Result<bool, LedgerFault> {
        self.store.remove_passkey(person, passkey, by, now_ms).await
    }

    /// Writes what is queued, and leaves the file.
    pub async fn close(self) {
        self.store.close().await;
        drop(self.writing);
    }
}
