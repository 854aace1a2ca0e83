//! Channels as they are configured: what the ledger writes for them, and how they are told.

use std::sync::Arc;

use countersign_app::channel::ChannelState;
use countersign_channels::{Channel, ReadSecret, Webhook, webhook_key};
use countersign_store::{Listener, Telling};
use countersign_tools::http;
use secrecy::ExposeSecret as _;

use crate::{
    config::{ChannelConfig, ChannelTarget, Config},
    server::StartError,
};

/// By which rules the ledger writes what channels are told.
pub(crate) fn telling(config: &Config) -> Telling {
    let channels = config.channels.iter().map(|(name, channel)| Listener {
        name: name.clone(),
        groups: channel.groups.clone(),
        escalations: !channel.groups.is_disjoint(&config.approvals.escalate_to),
    });
    Telling {
        channels: channels.collect(),
        remind: config.approvals.remind,
        escalate: config.approvals.escalate,
    }
}

/// The channels of a configuration. Their secrets are read once to see that they are there.
///
/// # Errors
/// [`StartError::Channel`].
pub(crate) fn made(config: &Config) -> Result<Vec<Channel>, StartError> {
    config
        .channels
        .iter()
        .map(|(name, ChannelConfig { groups, details, target })| {
            let webhook = webhook(target).map_err(|why| StartError::Channel(name.clone(), why))?;
            let (state, tests) = ChannelState::new(name.clone(), target.kind(), groups.clone(), *details);
            Ok(Channel::new(Arc::new(state), tests, webhook))
        })
        .collect()
}

fn webhook(target: &ChannelTarget) -> Result<Webhook, String> {
    let ChannelTarget::Webhook { url, secret, allow_private, ca, timeout } = target;
    let source = secret.clone();
    let secret: ReadSecret = Arc::new(move || source.read().map_err(|why| format!("cannot be read: {why}")));
    secret()
        .and_then(|secret| webhook_key(secret.expose_secret()))
        .map_err(|why| format!("its secret {why}"))?;
    let client = http::client(*timeout, *allow_private, false, ca.as_deref())?;
    Ok(Webhook { url: url.clone(), secret, client, timeout: *timeout })
}
