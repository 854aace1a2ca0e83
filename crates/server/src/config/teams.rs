//! Channels in Microsoft Teams: a bot whose cards answer, and the webhook of a workflow.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value as Json, json};
use url::Url;

use super::{
    ChannelTarget, SecretSource,
    endpoint::{ca, guarded_url},
    form::Mark,
    principal::guid,
    secret::secret,
    section::{Complaint, Section, flag, integer, parsed, reference},
};

/// A bot in a conversation of Teams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamsConfig {
    /// The bot's id.
    pub app_id: String,
    /// Where the secret is kept that it shows for its tokens.
    pub secret: SecretSource,
    /// The tenant; what people of others do is refused.
    pub tenant: String,
    /// The conversation's id.
    pub conversation: String,
    /// The connector, with a slash at the end.
    pub service: Url,
    /// Where tokens are given out: below it are the tenants.
    pub login: Url,
    /// The scope of the bot's tokens.
    pub scope: String,
    /// Who signs for the connector.
    pub issuer: String,
    /// Where it says with which keys.
    pub metadata: Url,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// How long metadata and keys are used.
    pub keys_age_max: Duration,
    /// The shortest time between two readings of them.
    pub refetch_pause: Duration,
    /// Whether private addresses may be connected to.
    pub allow_private: bool,
    /// A PEM file with the certificates that are trusted; those that the machine trusts if not said.
    pub ca: Option<PathBuf>,
    /// The longest that one request may take.
    pub timeout: Duration,
}

impl TeamsConfig {
    /// What the log has of it.
    pub(super) fn public(&self) -> Json {
        json!({
            "app_id": self.app_id,
            "conversation": self.conversation,
            "issuer": self.issuer,
            "login": self.login.origin().ascii_serialization(),
            "metadata": self.metadata.as_str(),
            "secret": self.secret.to_json(),
            "service": self.service.as_str(),
            "tenant": self.tenant,
        })
    }
}

const KEPT: &str = "say where it is kept: `{ env = \"NAME\" }` or `{ file = \"path\" }`";

pub(super) fn bot(section: &mut Section<'_, '_>, folder: &Path) -> Option<ChannelTarget> {
    section.set_defaults(reference("channel", Some("teams")));
    section.variant(Mark::Is("kind", "teams"));
    let app_id = section.required("app_id", "write the id of the bot's app in Entra", parsed(guid));
    let secret = section.required("secret", KEPT, secret(folder));
    let tenant = section.required("tenant", "write the tenant's id", parsed(guid));
    let conversation = section.required(
        "conversation",
        "write the conversation's id, such as `19:…@thread.tacv2`",
        parsed(conversation),
    );
    let service = section.required(
        "service_url",
        "write the connector's address, such as `https://smba.trafficmanager.net/emea/`",
        parsed(base),
    );
    let login = section.defaulted("login_url", parsed(base));
    let scope = section.defaulted("scope", parsed(|text: &str| Ok::<_, Complaint>(text.to_owned())));
    let issuer = section.defaulted("issuer", parsed(|text: &str| Ok::<_, Complaint>(text.to_owned())));
    let metadata = section.defaulted("metadata_url", parsed(guarded_url));
    let leeway = section.defaulted("leeway_ms", integer(0..=600_000));
    let keys_age_max = section.defaulted("keys_age_max_ms", integer(1_000..=86_400_000));
    let refetch_pause = section.defaulted("refetch_pause_ms", integer(0..=3_600_000));
    let allow_private = section.defaulted("allow_private", flag);
    let ca = section.optional("ca", ca(folder));
    let timeout = section.defaulted("timeout_ms", integer(100..=60_000));
    Some(ChannelTarget::Teams(Box::new(TeamsConfig {
        app_id: app_id?,
        secret: secret?,
        tenant: tenant?,
        conversation: conversation?,
        service: service?,
        login: login?,
        scope: scope?,
        issuer: issuer?,
        metadata: metadata?,
        leeway: Duration::from_millis(leeway?),
        keys_age_max: Duration::from_millis(keys_age_max?),
        refetch_pause: Duration::from_millis(refetch_pause?),
        allow_private: allow_private?,
        ca,
        timeout: Duration::from_millis(timeout?),
    })))
}

pub(super) fn workflow(section: &mut Section<'_, '_>, folder: &Path) -> Option<ChannelTarget> {
    section.set_defaults(reference("channel", Some("teams_workflow")));
    section.variant(Mark::Is("kind", "teams_workflow"));
    let url = section.required("url", KEPT, secret(folder));
    let allow_private = section.defaulted("allow_private", flag);
    let ca = section.optional("ca", ca(folder));
    let timeout = section.defaulted("timeout_ms", integer(100..=60_000));
    Some(ChannelTarget::Workflow {
        url: url?,
        allow_private: allow_private?,
        ca,
        timeout: Duration::from_millis(timeout?),
    })
}

/// An address below which others are: encrypted, or on this machine, with a slash at the end.
fn base(text: &str) -> Result<Url, Complaint> {
    let mut url = guarded_url(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Complaint::new(format!("`{text}` has a query or a fragment")));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// A conversation of Teams.
fn conversation(text: &str) -> Result<String, Complaint> {
    let good = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '%');
    if (3..=255).contains(&text.len()) && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(format!("`{text}` is no id of a conversation"))
        .help("write it as Teams does, such as `19:…@thread.tacv2`"))
}
