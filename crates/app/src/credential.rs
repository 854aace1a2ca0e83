//! Something stays open on these credentials: streams, and waits for people. One look at all keys, and one at each
//! browser's session, ends what is open on those that are good no more, however much there is and whether or not
//! anything is sent on it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_gate::{Clock, ledger::LedgerFault};
use countersign_store::{KeyOwner, Store};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::auth::account::{Hung, SESSION_CREDENTIAL, SESSION_IDLE_MS};

/// All keys are looked at after each such time while something is open.
const LOOK: Duration = Duration::from_secs(2);

/// Something is open on these credentials. A clone is of the same ones.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    used: Arc<Mutex<BTreeMap<String, Opened>>>,
}

#[derive(Debug, Default)]
struct Opened {
    count: usize,
    ended: CancellationToken,
}

/// One thing is open on a credential, and is closed when this is dropped.
#[derive(Debug)]
pub struct Use {
    credentials: Credentials,
    credential: String,
    ended: CancellationToken,
    expires: Option<Instant>,
}

impl Credentials {
    /// Notes that something opens on a credential, which was good a moment ago and expires at `expires_ms`
    /// (Unix milliseconds UTC) if it is a token.
    pub fn open(&self, credential: &str, expires_ms: Option<i64>, now_ms: i64) -> Use {
        let left = |expires_ms: i64| u64::try_from(expires_ms.saturating_sub(now_ms)).unwrap_or(0);
        let expires =
            expires_ms.and_then(|at_ms| Instant::now().checked_add(Duration::from_millis(left(at_ms))));
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = used.entry(credential.to_owned()).or_default();
        opened.count = opened.count.saturating_add(1);
        let ended = opened.ended.clone();
        drop(used);
        Use { credentials: self.clone(), credential: credential.to_owned(), ended, expires }
    }

    /// Ends what is open on a credential.
    fn end(&self, credential: &str) {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = used.get(credential) {
            opened.ended.cancel();
        }
    }

    fn is_empty(&self) -> bool {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn is_open(&self, credential: &str) -> bool {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).contains_key(credential)
    }

    /// Returns the sessions of people in a browser on which something is open, by their public ids.
    fn sessions(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.keys()
            .filter_map(|credential| credential.strip_prefix(SESSION_CREDENTIAL))
            .map(str::to_owned)
            .collect()
    }
}

impl Use {
    /// Waits until the credential is found to be good no more.
    pub async fn ended(&self) {
        let expired = async {
            match self.expires {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = expired => {}
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut used = self.credentials.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = used.get_mut(&self.credential) {
            opened.count = opened.count.saturating_sub(1);
            if opened.count == 0 {
                used.remove(&self.credential);
            }
        }
    }
}

/// Looks at all keys and browsers' sessions now and then, until the server stops. Where they cannot be read, nothing ends:
/// nor can anything be recorded then.
pub async fn watch(
    credentials: Credentials,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if credentials.is_empty() {
            continue;
        }
        if let Err(fault) = look(&credentials, &store, clock.now_ms()).await {
            tracing::warn!(%fault, "whether keys are still good cannot be read");
        }
    }
}

/// Ends what is open on a key or a session that is good no more.
pub(crate) async fn look(credentials: &Credentials, store: &Store, now_ms: i64) -> Result<(), LedgerFault> {
    let keys = store.keys().await?;
    keys.iter().filter(|key| !key.is_good(now_ms)).for_each(|key| credentials.end(&key.id));
    for key in keys.iter().filter(|key| credentials.is_open(&key.id)) {
        let (KeyOwner::Person(person), Some(hung)) = (&key.owner, Hung::read(&key.scopes)) else { continue };
        if hung.stands(store, person).await?.is_err() {
            credentials.end(&key.id);
        }
    }
    for id in credentials.sessions() {
        let found = store.web_session(&id).await?;
        let good =
            found.is_some_and(|(session, account)| session.check(&account, now_ms, SESSION_IDLE_MS).is_ok());
        if !good {
            credentials.end(&format!("{SESSION_CREDENTIAL}{id}"));
        }
    }
    Ok(())
}
