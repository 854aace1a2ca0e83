//! Channels as they are configured: what the ledger writes for them, and how they are told.

use std::sync::Arc;

use countersign_app::{
    auth::{Connector, ConnectorConfig},
    channel::ChannelState,
};
use countersign_channels::{
    BotToken, Channel, Email, Hears, ReadSecret, Slack, Teams, Told, Webhook, Workflow, webhook_key,
};
use countersign_store::{Listener, Telling};
use countersign_tools::{http, tls};
use secrecy::ExposeSecret as _;

use crate::{
    clock::SystemClock,
    config::{ChannelConfig, ChannelTarget, Config, SecretSource, SlackHears, TeamsConfig},
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
pub(crate) fn made(config: &Config) -> Result<Vec<Arc<Channel>>, StartError> {
    config
        .channels
        .iter()
        .map(|(name, ChannelConfig { groups, details, target })| {
            let told = told(target).map_err(|why| StartError::Channel(name.clone(), why))?;
            let (state, tests) = ChannelState::new(name.clone(), target.kind(), groups.clone(), *details);
            Ok(Arc::new(Channel::new(Arc::new(state), tests, told)))
        })
        .collect()
}

/// Checks that a channel could be told something, as a start does: its secrets are there, and are what they should be.
///
/// # Errors
/// Says what could not be used.
pub(crate) fn look_at(channel: &ChannelConfig) -> Result<(), String> {
    told(&channel.target).map(drop)
}

fn told(target: &ChannelTarget) -> Result<Told, String> {
    match target {
        ChannelTarget::Webhook { url, secret, allow_private, ca, timeout } => {
            let secret = read(secret);
            secret()
                .and_then(|secret| webhook_key(secret.expose_secret()))
                .map_err(|why| format!("its secret {why}"))?;
            let client = http::client(*timeout, *allow_private, false, ca.as_deref())?;
            Ok(Told::Webhook(Webhook { url: url.clone(), secret, client, timeout: *timeout }))
        }
        ChannelTarget::Slack { token, hears, channel, team, app, api_url, allow_private, ca, timeout } => {
            let token = there(token, "token")?;
            let hears = match hears {
                SlackHears::Signed(secret) => Hears::Signed(there(secret, "signing secret")?),
                SlackHears::Socket(token) => Hears::Socket(there(token, "app token")?),
            };
            Ok(Told::Slack(Slack {
                token,
                hears,
                channel: channel.clone(),
                team: team.clone(),
                app: app.clone(),
                api_url: api_url.clone(),
                client: http::client(*timeout, *allow_private, false, ca.as_deref())?,
                timeout: *timeout,
            }))
        }
        ChannelTarget::Email { host, port, encryption, login, from, to, ca, timeout } => {
            let login = match login {
                Some((user, password)) => Some((there(user, "user")?, there(password, "password")?)),
                None => None,
            };
            Ok(Told::Email(Email {
                host: host.clone(),
                port: *port,
                encryption: *encryption,
                trust: Arc::new(tls::config(ca.as_deref())?),
                login,
                from: from.clone(),
                to: to.clone(),
                timeout: *timeout,
            }))
        }
        ChannelTarget::Teams(teams) => bot(teams).map(|teams| Told::Teams(Box::new(teams))),
        ChannelTarget::Workflow { url, allow_private, ca, timeout } => {
            let client = http::client(*timeout, *allow_private, false, ca.as_deref())?;
            let (url, allow_private, timeout) = (read(url), *allow_private, *timeout);
            let workflow = Workflow { url, allow_private, client, timeout };
            workflow.address()?;
            Ok(Told::Workflow(workflow))
        }
    }
}

fn bot(config: &TeamsConfig) -> Result<Teams, String> {
    let secret = there(&config.secret, "secret")?;
    let place = format!("{}/oauth2/v2.0/token", config.tenant);
    let connector = ConnectorConfig {
        issuer: config.issuer.clone(),
        metadata: config.metadata.clone(),
        app_id: config.app_id.clone(),
        service: config.service.as_str().trim_end_matches('/').to_owned(),
        leeway: config.leeway,
        ca: config.ca.clone(),
        keys_age_max: config.keys_age_max,
        refetch_pause: config.refetch_pause,
    };
    Ok(Teams {
        app_id: config.app_id.clone(),
        secret,
        tenant: config.tenant.clone(),
        conversation: config.conversation.clone(),
        service: config.service.clone(),
        token_url: config.login.join(&place).map_err(|why| why.to_string())?,
        scope: config.scope.clone(),
        connector: Connector::new(connector, Arc::new(SystemClock))?,
        client: http::client(config.timeout, config.allow_private, false, config.ca.as_deref())?,
        timeout: config.timeout,
        token: BotToken::default(),
    })
}

/// As [`read`], for a secret that is there now.
fn there(source: &SecretSource, called: &str) -> Result<ReadSecret, String> {
    let secret = read(source);
    secret().map_err(|why| format!("its {called} {why}"))?;
    Ok(secret)
}

/// Reads a secret where it is kept, each time.
fn read(source: &SecretSource) -> ReadSecret {
    let source = source.clone();
    Arc::new(move || source.read().map_err(|why| format!("cannot be read: {why}")))
}
