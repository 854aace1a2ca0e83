//! Channels by which people are told, and what a waiting request does in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use countersign_app::principal::PersonConfig;
use countersign_channels::Encryption;
use countersign_rules::{ChannelName, GroupName, PersonId, ProviderName};
use url::Url;

use super::{
    Found, Reading, SecretSource, SignInConfig, Source,
    endpoint::{ca, host, http_url},
    form::Mark,
    groups_of,
    secret::secret,
    section::{Complaint, Section, flag, integer, list, parsed, reference, word},
    teams::{self, TeamsConfig},
};

/// `[channel.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelConfig {
    /// The groups whose requests it hears of; of all when empty.
    pub groups: BTreeSet<GroupName>,
    /// Whether it may be told arguments and rows.
    pub details: bool,
    /// How it is told.
    pub target: ChannelTarget,
}

/// What people do in Slack comes here so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlackHears {
    /// By requests to the server. The secret is kept here by which Slack signs them.
    Signed(SecretSource),
    /// Over a connection that the server opens. The app's token is kept here that opens it.
    Socket(SecretSource),
}

/// How a channel is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelTarget {
    /// By signed requests to a URL.
    Webhook {
        /// Where messages are posted.
        url: Url,
        /// Where the secret is kept that signs them.
        secret: SecretSource,
        /// Whether private addresses may be connected to.
        allow_private: bool,
        /// A PEM file with the certificates that are trusted; those that the machine trusts if not said.
        ca: Option<PathBuf>,
        /// The longest that one message may take.
        timeout: Duration,
    },
    /// By messages in Slack, whose buttons answer.
    Slack {
        /// Where the token is kept that posts.
        token: SecretSource,
        /// How what people do comes here.
        hears: SlackHears,
        /// The id of the channel in Slack.
        channel: String,
        /// The id of the team; what others do is refused.
        team: String,
        /// The id of the app; what comes by another is refused. Any that the secret signs for if not said.
        app: Option<String>,
        /// Where Slack's API is.
        api_url: Url,
        /// Whether private addresses may be connected to.
        allow_private: bool,
        /// A PEM file with the certificates that are trusted; those that the machine trusts if not said.
        ca: Option<PathBuf>,
        /// The longest that one message may take.
        timeout: Duration,
    },
    /// By e-mail, by a relay.
    Email {
        /// The relay.
        host: String,
        /// Where it listens.
        port: u16,
        /// How it is spoken to.
        encryption: Encryption,
        /// Where the user and the password are kept that the relay asks for, if it asks for any.
        login: Option<(SecretSource, SecretSource)>,
        /// The address that letters come from.
        from: String,
        /// The addresses that they go to.
        to: Vec<String>,
        /// A PEM file with the certificates that are trusted; those that the machine trusts if not said.
        ca: Option<PathBuf>,
        /// The longest that one letter may take.
        timeout: Duration,
    },
    /// By a bot in Microsoft Teams, whose cards answer.
    Teams(Box<TeamsConfig>),
    /// By the webhook of a workflow in Microsoft Teams.
    Workflow {
        /// Where its address is kept, which is a secret.
        url: SecretSource,
        /// Whether private addresses may be connected to, and without TLS.
        allow_private: bool,
        /// A PEM file with the certificates that are trusted; those that the machine trusts if not said.
        ca: Option<PathBuf>,
        /// The longest that one message may take.
        timeout: Duration,
    },
}

#[derive(Clone, Copy)]
enum ChannelKind {
    Webhook,
    Slack,
    Email,
    Teams,
    Workflow,
}

impl ChannelTarget {
    /// What the configuration calls this kind of channel.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Email { .. } => "email",
            Self::Teams(_) => "teams",
            Self::Workflow { .. } => "teams_workflow",
        }
    }
}

/// `[approvals]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalsConfig {
    /// When channels are reminded of a request that waits; never when `None`.
    pub remind: Option<Duration>,
    /// When a request that waits is escalated; never when `None`.
    pub escalate: Option<Duration>,
    /// The groups whose channels hear of every escalation.
    pub escalate_to: BTreeSet<GroupName>,
}

/// A letter goes to no more addresses.
const ADDRESSES_MAX: usize = 20;

/// The longest that a request may wait before it is reminded of: 30 days.
const WAIT_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;

pub(super) fn channels(reading: &mut Reading<'_>) -> BTreeMap<ChannelName, ChannelConfig> {
    let folder = reading.folder.to_owned();
    reading.named("channel", channel_name, |section| {
        let target = target(section, &folder);
        let groups = section.defaulted("groups", list(|group| Ok(GroupName::parse(group)?)));
        let details = section.defaulted("details", flag);
        Some(ChannelConfig { groups: groups?.into_iter().collect(), details: details?, target: target? })
    })
}

/// A channel's name stands in the ids of its messages, which are signed as a text with full stops between its parts.
fn channel_name(text: &str) -> Result<ChannelName, Complaint> {
    if let Some(bad) = text.chars().find(|c| matches!(c, '.' | ':' | '@')) {
        let complaint = Complaint::new(format!("`{bad}` may not stand in the name of a channel"));
        return Err(complaint.help("use letters, digits, `_` and `-`"));
    }
    Ok(ChannelName::parse(text)?)
}

fn target(section: &mut Section<'_, '_>, folder: &Path) -> Option<ChannelTarget> {
    let kinds = &[
        ("webhook", ChannelKind::Webhook),
        ("slack", ChannelKind::Slack),
        ("email", ChannelKind::Email),
        ("teams", ChannelKind::Teams),
        ("teams_workflow", ChannelKind::Workflow),
    ];
    let help = "say how it is told, such as `kind = \"webhook\"`, `\"slack\"`, `\"teams\"` or `\"email\"`";
    match section.required("kind", help, word(kinds))? {
        ChannelKind::Webhook => webhook(section, folder),
        ChannelKind::Slack => slack(section, folder),
        ChannelKind::Email => email(section, folder),
        ChannelKind::Teams => teams::bot(section, folder),
        ChannelKind::Workflow => teams::workflow(section, folder),
    }
}

fn slack(section: &mut Section<'_, '_>, folder: &Path) -> Option<ChannelTarget> {
    section.set_defaults(reference("channel", Some("slack")));
    section.variant(Mark::Is("kind", "slack"));
    let id = |first: &'static [char]| {
        parsed(move |text: &str| {
            let good = text.len() > 1
                && text.starts_with(first)
                && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
            if good {
                return Ok(text.to_owned());
            }
            Err(Complaint::new(format!("`{text}` is no such id of Slack"))
                .help("write the id, and not the name"))
        })
    };
    let kept = "say where it is kept: `{ env = \"NAME\" }` or `{ file = \"path\" }`";
    let token = section.required("token", kept, secret(folder));
    let written_ways = (section.says("signing_secret"), section.says("app_token"));
    let signing_secret = section.optional("signing_secret", secret(folder));
    let app_token = section.optional("app_token", secret(folder));
    let channel = section.required("channel", "write the channel's id, such as `C0123ABCD`", id(&['C', 'G']));
    let team = section.required("team", "write the team's id, such as `T0123ABCD`", id(&['T', 'E']));
    let app = section.optional("app", id(&['A']));
    let api_url = section.defaulted("api_url", parsed(http_url));
    let written = section.place("api_url");
    let allow_private = section.defaulted("allow_private", flag);
    let ca = section.optional("ca", ca(folder));
    let timeout = section.defaulted("timeout_ms", integer(100..=60_000));
    let (mut api_url, allow_private) = (api_url?, allow_private?);
    // What stands before the last slash is what the names of methods are put behind.
    if !api_url.path().ends_with('/') {
        api_url.set_path(&format!("{}/", api_url.path()));
    }
    if let Err(why) = reachable(&api_url, allow_private) {
        let complaint = Complaint::new(format!("`{api_url}` {why}"));
        section.report(written, complaint.help("leave `api_url` out, for Slack's own"));
        return None;
    }
    let hears = match written_ways {
        (true, false) => SlackHears::Signed(signing_secret?),
        (false, true) => SlackHears::Socket(app_token?),
        (both, _) => {
            let complaint = Complaint::new(if both {
                "`signing_secret` and `app_token` stand together"
            } else {
                "neither `signing_secret` nor `app_token` is there"
            });
            let help = "write `signing_secret` where Slack reaches the server, and signs what people do; or `app_token` where it does not, \
                        and the server opens a connection to Slack (Socket Mode)";
            section.report(None, complaint.help(help));
            return None;
        }
    };
    Some(ChannelTarget::Slack {
        token: token?,
        hears,
        channel: channel?,
        team: team?,
        app,
        api_url,
        allow_private,
        ca,
        timeout: Duration::from_millis(timeout?),
    })
}

fn email(section: &mut Section<'_, '_>, folder: &Path) -> Option<ChannelTarget> {
    section.set_defaults(reference("channel", Some("email")));
    section.variant(Mark::Is("kind", "email"));
    let ways =
        &[("starttls", Encryption::StartTls), ("implicit", Encryption::Implicit), ("none", Encryption::None)];
    let named =
        section.required("host", "name the relay, such as `host = \"smtp.example.com\"`", parsed(host));
    let written = section.place("tls");
    let encryption = section.defaulted("tls", word(ways));
    let port = section.optional("port", integer(1..=65_535));
    let user = section.optional("user", secret(folder));
    let password = section.optional("password", secret(folder));
    let from = section.required("from", "write the address that letters come from", parsed(mailbox));
    let to = section.required("to", "write the addresses that letters go to", list(mailbox));
    let ca = section.optional("ca", ca(folder));
    let timeout = section.defaulted("timeout_ms", integer(100..=60_000));
    let (named, encryption, to) = (named?, encryption?, to?);
    if encryption == Encryption::None && !is_loopback(&named) {
        let complaint =
            Complaint::new(format!("`tls = \"none\"` would send letters to `{named}` in plain text"));
        let help = "say `starttls` or `implicit`; without TLS only a relay on this machine is spoken to, such as `127.0.0.1`";
        section.report(written, complaint.help(help));
        return None;
    }
    let login = match (user, password) {
        (Some(user), Some(password)) => Some((user, password)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let complaint = Complaint::new("one of `user` and `password` stands without the other");
            section.report(None, complaint.help("say both, or neither where the relay asks for none"));
            return None;
        }
    };
    if !(1..=ADDRESSES_MAX).contains(&to.len()) {
        let complaint = Complaint::new(format!("`to` names {} addresses", to.len()));
        section.report(
            None,
            complaint.help(format!("name 1 to {ADDRESSES_MAX}, or a list of your mail server's")),
        );
        return None;
    }
    let usual = match encryption {
        Encryption::StartTls => 587,
        Encryption::Implicit => 465,
        Encryption::None => 25,
    };
    Some(ChannelTarget::Email {
        host: named,
        port: port.map_or(Some(usual), |port| u16::try_from(port).ok())?,
        encryption,
        login,
        from: from?,
        to,
        ca,
        timeout: Duration::from_millis(timeout?),
    })
}

/// Whether a host is this machine by its name or address.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// An address of e-mail: nothing in it can end a command or a header.
fn mailbox(text: &str) -> Result<String, Complaint> {
    let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let parts = |text: &str, fits: &dyn Fn(char) -> bool| {
        text.split('.').all(|part| !part.is_empty() && part.chars().all(fits))
    };
    match text.rsplit_once('@') {
        Some((local, domain))
            if text.len() <= 254
                && parts(local, &atom)
                && parts(domain, &|c| c.is_ascii_alphanumeric() || c == '-') =>
        {
            Ok(text.to_owned())
        }
        Some(_) | None => {
            Err(Complaint::new(format!("`{text}` is no address of e-mail that can be used here"))
                .help("write it alone and in ASCII, such as `approvers@example.com`"))
        }
    }
}

fn webhook(section: &mut Section<'_, '_>, folder: &Path) -> Option<ChannelTarget> {
    section.set_defaults(reference("channel", Some("webhook")));
    section.variant(Mark::Is("kind", "webhook"));
    let url = section.required(
        "url",
        "say where messages are posted, such as `url = \"https://hooks.example.com/countersign\"`",
        parsed(http_url),
    );
    let written = section.place("url");
    let secret = section.required(
        "secret",
        "say where the secret is kept that signs messages, such as `secret = { env = \"OPS_WEBHOOK_SECRET\" }`",
        secret(folder),
    );
    let allow_private = section.defaulted("allow_private", flag);
    let ca = section.optional("ca", ca(folder));
    let timeout = section.defaulted("timeout_ms", integer(100..=60_000));
    let (url, allow_private) = (url?, allow_private?);
    if let Err(why) = reachable(&url, allow_private) {
        let complaint = Complaint::new(format!("`{url}` {why}"));
        let help =
            "use `https` and a public address, or say `allow_private = true` where the channel is your own";
        section.report(written, complaint.help(help));
        return None;
    }
    Some(ChannelTarget::Webhook {
        url,
        secret: secret?,
        allow_private,
        ca,
        timeout: Duration::from_millis(timeout?),
    })
}

/// What holds for a system's base holds for a channel's URL, which may have a query.
fn reachable(url: &Url, allow_private: bool) -> Result<(), &'static str> {
    let mut base = url.clone();
    base.set_query(None);
    countersign_tools::http::check_base(&base, allow_private)
}

pub(super) fn approvals(mut section: Section<'_, '_>) -> Option<ApprovalsConfig> {
    let remind = section.defaulted("remind_ms", integer(0..=WAIT_MS_MAX));
    let written = section.place("escalate_ms");
    let escalate = section.defaulted("escalate_ms", integer(0..=WAIT_MS_MAX));
    let escalate_to = section.defaulted("escalate_to", list(|group| Ok(GroupName::parse(group)?)));
    if let (Some(remind @ 1..), Some(escalate @ 1..)) = (remind, escalate)
        && escalate < remind
    {
        let complaint =
            Complaint::new("`escalate_ms` is shorter than `remind_ms`, so that nobody is reminded");
        section.report(written, complaint.help("raise `escalate_ms`, or say `remind_ms = 0`"));
    }
    section.finish();
    let wait = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
    Some(ApprovalsConfig {
        remind: wait(remind?),
        escalate: wait(escalate?),
        escalate_to: escalate_to?.into_iter().collect(),
    })
}

/// Reports groups that channels name and nobody is in, and groups that escalations go to and no channel serves: nobody would
/// hear of what is told there.
pub(super) fn heard(
    (channels, approvals): (&BTreeMap<ChannelName, ChannelConfig>, Option<&ApprovalsConfig>),
    (people, providers): (&BTreeMap<PersonId, PersonConfig>, &BTreeMap<ProviderName, SignInConfig>),
    main: &Source,
    found: &Found,
) {
    let place = |written: &str| main.text.find(written).map(|at| at..at.saturating_add(written.len()));
    for (name, channel) in channels {
        let nobody =
            |group: &&GroupName| !people.values().any(|person| groups_of(person, providers).contains(*group));
        for group in channel.groups.iter().filter(nobody) {
            let title = format!("[channel.{name}]");
            let message = format!("`groups` of `{title}` names `{group}`, and nobody is in that group");
            let help = "name a group that a `[person.NAME]` is in, or leave it out".to_owned();
            found.push(main.mistake(place(&title), message, Some(help)));
        }
    }
    let unserved = |group: &&GroupName| !channels.values().any(|channel| channel.groups.contains(*group));
    for group in approvals.iter().flat_map(|approvals| &approvals.escalate_to).filter(unserved) {
        let message = format!("`escalate_to` names `{group}`, and no channel serves that group");
        let help = format!("add a channel with `groups = [\"{group}\"]`");
        found.push(main.mistake(place("escalate_to"), message, Some(help)));
    }
}
