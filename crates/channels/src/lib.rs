//! Channels: people are told that something waits for them, and what became of it.
//!
//! What is to be told is in the ledger's outbox, written with what happened ([`countersign_store::Telling`]). Here
//! it is sent: a channel takes a turn, tells, and says how that went. No call ever waits for a channel, and what a
//! channel does not take is tried again.
//!
//! A message says no more than is needed to decide whether to look: who wants what of which system, how much it
//! touches, who is asked by which rule, until when. Arguments and rows leave the server only where a channel's
//! `details` says so. The buttons of Slack and Teams answer by the one function that answers requests, for the person
//! whom their signed word and the configuration name; by every other channel people are only told.
//!
//! What is absent on purpose: a rule, and any way to a system.

mod card;
mod channel;
mod email;
mod interaction;
mod invoke;
mod message;
mod seen;
mod sender;
mod slack;
mod smtp;
mod socket;
mod teams;
mod view;
mod webhook;

pub use channel::{Channel, ReadSecret, Told};
pub use email::{Email, Encryption};
pub use message::{Message, MessageData};
pub use sender::Channels;
pub use slack::{Hears, Slack};
pub use teams::{BotToken, Teams, Workflow};
pub use webhook::{Webhook, webhook_key};

/// Returns the routes by which people answer in channels.
pub fn router(
    app: &std::sync::Arc<countersign_app::App>,
    channels: &[std::sync::Arc<Channel>],
) -> axum::Router {
    interaction::router(app, channels).merge(invoke::router(app, channels))
}
