//! Channels: people are told that something waits for them, and what became of it.
//!
//! What is to be told is in the ledger's outbox, written with what happened ([`countersign_store::Telling`]). Here
//! it is sent: a channel takes a turn, tells, and says how that went. No call ever waits for a channel, and what a
//! channel does not take is tried again.
//!
//! A message says no more than is needed to decide whether to look: who wants what of which system, how much it
//! touches, who is asked by which rule, until when. Arguments and rows leave the server only where a channel's
//! `details` says so. Slack's buttons answer by the one function that answers requests, for the person whom
//! Slack's signed word and the configuration name; by every other channel people are only told.
//!
//! What is absent on purpose: a rule, and any way to a system.

mod channel;
mod email;
mod interaction;
mod message;
mod sender;
mod slack;
mod smtp;
mod view;
mod webhook;

pub use channel::{Channel, ReadSecret, Told};
pub use email::{Email, Encryption};
pub use interaction::router;
pub use message::{Message, MessageData};
pub use sender::Channels;
pub use slack::Slack;
pub use webhook::{Webhook, webhook_key};
