//! Channels, as far as those look after them who do not tell people themselves.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use countersign_rules::{ChannelName, GroupName};
use tokio::sync::{mpsc, oneshot};

/// Somebody asks for a test of a channel, and is told here how that went.
pub type ChannelTest = oneshot::Sender<Result<(), String>>;

/// A channel as it is configured, and how it stands.
#[derive(Debug)]
pub struct ChannelState {
    /// The channel has this name.
    pub name: ChannelName,
    /// The configuration calls this kind of channel so.
    pub kind: &'static str,
    /// The channel hears of requests that ask one of these groups; of all when empty.
    pub groups: BTreeSet<GroupName>,
    /// This is true if the channel may be told arguments and rows.
    pub details: bool,
    /// The other end has said that it is gone.
    gone: AtomicBool,
    /// Why nothing that people do there arrives now.
    deaf: Mutex<Option<String>>,
    tests: mpsc::Sender<ChannelTest>,
}

impl ChannelState {
    /// Makes the state of a channel, and the other end of its tests, one of which may wait at a time.
    #[must_use]
    pub fn new(
        name: ChannelName,
        kind: &'static str,
        groups: BTreeSet<GroupName>,
        details: bool,
    ) -> (Self, mpsc::Receiver<ChannelTest>) {
        let (tests, asked) = mpsc::channel(1);
        (
            Self { name, kind, groups, details, gone: AtomicBool::new(false), deaf: Mutex::new(None), tests },
            asked,
        )
    }

    /// Returns true if the other end has said that it is gone: it is told nothing until the server starts again.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Takes note that the other end has said that it is gone.
    pub fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Returns why nothing arrives now of what people do there, where it comes over a connection that this server keeps open.
    #[must_use]
    pub fn deaf(&self) -> Option<String> {
        self.deaf.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of how such a connection stands: it is open, or is not for this reason.
    pub fn hear(&self, how: Result<(), String>) {
        *self.deaf.lock().unwrap_or_else(PoisonError::into_inner) = how.err();
    }

    /// Sends a test message, once.
    ///
    /// # Errors
    /// Says why it did not arrive, as far as is known.
    pub async fn test(&self) -> Result<(), String> {
        if self.is_gone() {
            return Err(
                "it has said that it is gone, and is told nothing until the server starts again".into()
            );
        }
        let (asked, answer) = oneshot::channel();
        if self.tests.try_send(asked).is_err() {
            return Err("another test is under way, or the server stops".into());
        }
        answer.await.unwrap_or_else(|_gone| Err("the server stops".into()))
    }
}
