//! A channel: how it stands, and how it is told.

use std::{fmt, sync::Arc, time::Duration};

use countersign_app::channel::{ChannelState, ChannelTest};
use secrecy::SecretString;
use tokio::sync::{Mutex, mpsc};

use crate::{
    email::Email,
    slack::Slack,
    teams::{Teams, Workflow},
    webhook::Webhook,
};

/// Reads a channel's secret where it is kept, each time it is needed: one that is rotated is the one used next. The error
/// says why it cannot be had, and never carries it.
pub type ReadSecret = Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

/// A channel tells people that something waits for them.
pub struct Channel {
    pub(crate) state: Arc<ChannelState>,
    pub(crate) told: Told,
    /// Operators ask for tests here.
    pub(crate) tests: Mutex<mpsc::Receiver<ChannelTest>>,
}

/// A channel is told so.
#[derive(Debug)]
pub enum Told {
    /// By signed requests.
    Webhook(Webhook),
    /// By messages in Slack.
    Slack(Slack),
    /// By e-mail.
    Email(Email),
    /// By cards in Microsoft Teams.
    Teams(Box<Teams>),
    /// By the webhook of a workflow in Microsoft Teams.
    Workflow(Workflow),
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("name", &self.state.name).finish_non_exhaustive()
    }
}

impl Channel {
    /// Makes a channel that stands so, of which operators ask for `tests`, and that is `told` so.
    #[must_use]
    pub fn new(state: Arc<ChannelState>, tests: mpsc::Receiver<ChannelTest>, told: Told) -> Self {
        Self { state, told, tests: Mutex::new(tests) }
    }

    /// Returns how the channel stands.
    #[must_use]
    pub const fn state(&self) -> &Arc<ChannelState> {
        &self.state
    }
}

/// Telling a channel went so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It was told, and calls what it made of the request this.
    Told { handle: Option<String> },
    /// It was not told, or nobody knows.
    NotTold {
        why: String,
        /// It asks not to be tried again before so long.
        after: Option<Duration>,
    },
    /// It does not take this, and never will.
    Refused { why: String },
    /// It says that it is gone for good.
    Gone { why: String },
}
