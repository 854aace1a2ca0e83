//! What is in the outbox is sent: each channel by a task of its own, so that none waits for another.

use std::{fmt, sync::Arc, time::Duration};

use countersign_app::App;
use countersign_gate::{Entropy, Ledger as _, ledger::LedgerFault};
use countersign_rules::ApprovalId;
use countersign_store::Turn;
use futures::{
    StreamExt as _,
    future::{join_all, pending},
    stream,
};
use tokio_util::sync::CancellationToken;

use crate::{
    channel::{Channel, Delivery, Told},
    message::{Message, TestMessage},
    seen::Seen,
    slack::Hears,
    socket::Socket,
};

/// A channel looks after each such time even when nothing seems to have changed: pauses and reminders pass silently.
const TICK: Duration = Duration::from_secs(1);

/// Two looks are at least this far apart, so that a busy ledger is not asked after each of its changes.
const PAUSE: Duration = Duration::from_millis(20);

/// A turn is lost to others after so long: far longer than any channel may take to answer.
const LEASE: Duration = Duration::from_secs(120);

/// So many requests are looked for at a time.
const FOUND_MAX: u32 = 64;

/// A channel is told of so many of them at once.
const AT_ONCE: usize = 4;

/// These channels tell people.
pub struct Channels {
    app: Arc<App>,
    entropy: Arc<dyn Entropy>,
    channels: Vec<Arc<Channel>>,
    public_url: String,
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels").field("channels", &self.channels).finish_non_exhaustive()
    }
}

impl Channels {
    /// Makes what tells these channels. People reach the server at `public_url`.
    #[must_use]
    pub const fn new(
        app: Arc<App>,
        entropy: Arc<dyn Entropy>,
        channels: Vec<Arc<Channel>>,
        public_url: String,
    ) -> Self {
        Self { app, entropy, channels, public_url }
    }

    /// Tells until it is stopped. What is being told then is told again after the next start.
    pub async fn run(self, stopping: CancellationToken) {
        join_all(self.channels.iter().map(|channel| self.serve(channel, &stopping))).await;
    }

    async fn serve(&self, channel: &Arc<Channel>, stopping: &CancellationToken) {
        // All end together: no test is taken that nobody answers.
        tokio::select! {
            () = self.send(channel, stopping) => {}
            () = self.test(channel) => {}
            () = self.hear(channel, stopping) => {}
        }
        channel.tests.lock().await.close();
    }

    /// Hears what people do, where that comes over a connection that we open.
    async fn hear(&self, channel: &Arc<Channel>, stopping: &CancellationToken) {
        let Told::Slack(slack) = &channel.told else { return pending().await };
        let Hears::Socket(token) = &slack.hears else { return pending().await };
        let socket = Socket { app: &self.app, channel, slack, token, seen: Seen::default() };
        Box::pin(socket.listen(stopping)).await;
    }

    /// Sends test messages when operators ask for them, each once.
    async fn test(&self, channel: &Channel) {
        let mut tests = channel.tests.lock().await;
        while let Some(asked) = tests.recv().await {
            let now_ms = self.app.clock().now_ms();
            let id = format!("test:{}:{now_ms}", channel.state.name);
            let message = TestMessage::new(channel, now_ms);
            let delivery = match &channel.told {
                Told::Webhook(webhook) => webhook.tell(&id, &message, now_ms).await,
                Told::Slack(slack) => slack.test().await,
                Told::Email(email) => email.test(&id, now_ms).await,
                Told::Teams(teams) => teams.test().await,
                Told::Workflow(workflow) => workflow.test().await,
            };
            let told = match delivery {
                Delivery::Told { .. } => Ok(()),
                Delivery::NotTold { why, .. } | Delivery::Refused { why } | Delivery::Gone { why } => {
                    Err(why)
                }
            };
            // Who asked may not wait any more.
            drop(asked.send(told));
        }
    }

    async fn send(&self, channel: &Channel, stopping: &CancellationToken) {
        let mut changes = self.app.gate().ledger().changes();
        while !channel.state.is_gone() {
            changes.borrow_and_update();
            let found = self.round(channel, stopping).await;
            let again = if found { Duration::ZERO } else { TICK };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(again) => {}
                changed = changes.changed() => if changed.is_err() { return },
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Tells what is due. Returns true if there may be more.
    async fn round(&self, channel: &Channel, stopping: &CancellationToken) -> bool {
        let due = match self.app.store().due(&channel.state.name, self.app.clock().now_ms(), FOUND_MAX).await
        {
            Ok(due) => due,
            Err(fault) => {
                tracing::warn!(%fault, channel = %channel.state.name, "what is to be told cannot be read");
                return false;
            }
        };
        let found = !due.is_empty();
        stream::iter(due)
            .for_each_concurrent(AT_ONCE, async |approval| {
                if channel.state.is_gone() || stopping.is_cancelled() {
                    return;
                }
                if let Err(fault) = self.tell(channel, &approval, stopping).await {
                    tracing::warn!(%fault, %approval, channel = %channel.state.name, "a channel may be told twice");
                }
            })
            .await;
        found
    }

    /// Tells a channel the next thing of a request.
    async fn tell(
        &self,
        channel: &Channel,
        approval: &ApprovalId,
        stopping: &CancellationToken,
    ) -> Result<(), LedgerFault> {
        let (store, clock) = (self.app.store(), self.app.clock());
        // A crash before this is durable leaves the turn to whoever comes next; after it, to whoever comes when it has passed.
        let turn = store.take_turn(approval, &channel.state.name, clock.now_ms(), LEASE).await?;
        let Some(turn) = turn else { return Ok(()) };
        let delivery = tokio::select! {
            delivery = self.deliver(channel, &turn) => delivery,
            () = stopping.cancelled() => Delivery::NotTold { why: "the server stopped".into(), after: None },
        };
        // A crash before this is durable lets the channel be told again, under the same id.
        match delivery {
            Delivery::Told { handle } => {
                tracing::debug!(message = %turn.id(), "told");
                store.end_turn(&turn, handle, clock.now_ms()).await?;
            }
            Delivery::NotTold { why, after } => {
                tracing::warn!(message = %turn.id(), %why, "a channel was not told; it is tried again");
                store.fail_turn(&turn, &why, after, self.entropy.bytes(), clock.now_ms()).await?;
            }
            Delivery::Refused { why } => {
                tracing::warn!(message = %turn.id(), %why, "a channel does not take a message; it is given up");
                store.give_up_turn(&turn, &why, clock.now_ms()).await?;
            }
            Delivery::Gone { why } => {
                channel.state.leave();
                tracing::error!(
                    channel = %channel.state.name,
                    %why,
                    "a channel is gone and is told nothing more until the server starts again: mend or remove it"
                );
                store.fail_turn(&turn, &why, None, self.entropy.bytes(), clock.now_ms()).await?;
            }
        }
        Ok(())
    }

    async fn deliver(&self, channel: &Channel, turn: &Turn) -> Delivery {
        let message = Message::new(&self.app, turn, channel.state.details, &self.public_url);
        let now_ms = self.app.clock().now_ms();
        match &channel.told {
            Told::Webhook(webhook) => webhook.tell(&turn.id(), &message, now_ms).await,
            Told::Slack(slack) => slack.tell(turn, &message).await,
            Told::Email(email) => email.tell(turn, &message, now_ms).await,
            Told::Teams(teams) => teams.tell(turn, &message).await,
            Told::Workflow(workflow) => workflow.tell(turn, &message).await,
        }
    }
}
