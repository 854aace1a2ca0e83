//! A channel: what it is called, what it may be told, and how it is told.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use countersign_rules::ChannelName;
use secrecy::SecretString;

use crate::webhook::Webhook;

/// Reads a channel's secret where it is kept, each time it is needed: one that is rotated is the one used next. The error
/// says why it cannot be had, and never carries it.
pub type ReadSecret = Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

/// A channel tells people that something waits for them.
pub struct Channel {
    name: ChannelName,
    details: bool,
    webhook: Webhook,
    /// The other end has said that it is gone.
    gone: AtomicBool,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Channel {
    /// Makes a channel. It is told arguments and rows only where `details` says so.
    #[must_use]
    pub const fn new(name: ChannelName, details: bool, webhook: Webhook) -> Self {
        Self { name, details, webhook, gone: AtomicBool::new(false) }
    }

    /// Returns the channel's name.
    #[must_use]
    pub const fn name(&self) -> &ChannelName {
        &self.name
    }

    /// Returns true if the channel may be told arguments and rows.
    pub(crate) const fn details(&self) -> bool {
        self.details
    }

    pub(crate) const fn webhook(&self) -> &Webhook {
        &self.webhook
    }

    /// Returns true if the other end has said that it is gone: it is told nothing until the server starts again.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(crate) fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

/// Telling a channel went so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It was told.
    Told,
    /// It was not told, or nobody knows.
    NotTold {
        why: String,
        /// It asks not to be tried again before so long.
        after: Option<Duration>,
    },
    /// It says that it is gone for good.
    Gone { why: String },
}
