//! The configuration: one folder, read once, with every mistake reported where it stands.
//!
//! ```text
//! countersign.toml      systems, agents, people, budgets, store, log
//! tools/*.toml          tools
//! policies/*.cedar      policies
//! scenarios/*.toml      what the policies are expected to answer
//! ```
//!
//! What is read here is typed and nobody checks its form again. Whether tools fit their systems and policies
//! fit the tools is checked by [`crate::bundle`], with the same kind of report.

mod budget;
mod channel;
mod endpoint;
mod form;
mod mistake;
mod principal;
mod provider;
mod schema;
mod secret;
mod section;
mod settings;
mod system;
mod teams;
mod tool;

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use countersign_app::{
    auth::OauthConfig,
    principal::{AgentConfig, PersonConfig},
};
use countersign_channels::Encryption;
use countersign_rules::{
    AgentId, ChannelName, PersonId, ProviderName, SystemName, ToolName, budget::Budget, source::PolicySource,
};
use countersign_tools::definition::Target;
use serde_json::{Value as Json, json};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub use channel::{ApprovalsConfig, ChannelConfig, ChannelTarget, SlackHears};
pub use mistake::{Mistake, Mistakes};
pub use provider::SignInConfig;
pub(crate) use provider::groups_of;
pub use schema::{SchemaOf, schema};
pub use secret::{SecretFault, SecretSource, read_file, user_folder};
pub use settings::{
    LimitsConfig, LogConfig, ServerConfig, StoreConfig, StorePlace, TelemetryConfig, TlsConfig,
};
pub use system::SystemConfig;
pub use teams::TeamsConfig;
pub use tool::ToolConfig;

pub(crate) use mistake::{Found, Source};
use section::{Complaint, Section, reference};

/// All defaults, with a comment on every key. Where a file does not say a key that has a default, the value
/// standing here counts.
pub const REFERENCE: &str = include_str!("reference.toml");

/// The main file of a configuration folder.
pub const MAIN: &str = "countersign.toml";

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A configuration whose form is right.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder it was read from; relative paths in it start there.
    pub folder: PathBuf,
    /// `[server]`
    pub server: ServerConfig,
    /// `[store]`
    pub store: StoreConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// `[oauth]`, when agents may present access tokens.
    pub oauth: Option<OauthConfig>,
    /// `[telemetry]`
    pub telemetry: TelemetryConfig,
    /// `[approvals]`
    pub approvals: ApprovalsConfig,
    /// `[channel.*]`
    pub channels: BTreeMap<ChannelName, ChannelConfig>,
    /// `[system.*]`
    pub systems: BTreeMap<SystemName, SystemConfig>,
    /// `[agent.*]`
    pub agents: BTreeMap<AgentId, AgentConfig>,
    /// `[person.*]`
    pub people: BTreeMap<PersonId, PersonConfig>,
    /// `[provider.*]`
    pub providers: BTreeMap<ProviderName, SignInConfig>,
    /// `[[budget]]`
    pub budgets: Vec<Budget>,
    /// Where each of them stands, by name.
    pub(crate) budget_places: BTreeMap<String, Place>,
    /// `[tool.*]` of every file.
    pub tools: BTreeMap<ToolName, ToolConfig>,
    /// The policy files.
    pub policies: Vec<PolicySource>,
    /// The scenario files, by name.
    pub scenarios: BTreeMap<String, String>,
}

/// Where a definition stands, key by key.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) source: Source,
    keys: BTreeMap<String, Range<usize>>,
}

// Where something stands is no part of what it is.
impl PartialEq for Place {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Place {
    /// Where a dotted key stands; the nearest table around it when the key itself is not written. `offset`
    /// counts bytes within a text.
    pub(crate) fn of(&self, key: &str, offset: Option<usize>) -> Option<Range<usize>> {
        let mut at = key;
        let whole = loop {
            match (self.keys.get(at), at.rsplit_once('.')) {
                (Some(range), _) => break range.clone(),
                (None, Some((table, _))) => at = table,
                (None, None) if at.is_empty() => return None,
                (None, None) => at = "",
            }
        };
        let Some(offset) = offset.filter(|_| at == key) else { return Some(whole) };
        let written = self.source.text.get(whole.clone())?;
        let quotes = if written.starts_with("\"\"\"") || written.starts_with("'''") { 3_usize } else { 1 };
        let newline = usize::from(written.get(quotes..).is_some_and(|text| text.starts_with('\n')));
        // With escapes before it, an offset in the text is none in the file.
        let start = quotes.saturating_add(newline).saturating_add(offset);
        match written.get(..start) {
            Some(before) if !before.contains('\\') && start < written.len() => {
                let from = whole.start.saturating_add(start);
                Some(from..from.saturating_add(1))
            }
            Some(_) | None => Some(whole),
        }
    }
}

/// One TOML file, being read.
pub(crate) struct Reading<'c> {
    folder: &'c Path,
    source: &'c Source,
    found: &'c Found,
    root: Section<'c, 'c>,
}

impl<'c> Reading<'c> {
    fn new(folder: &'c Path, source: &'c Source, found: &'c Found) -> Self {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        for error in &errors {
            found.push(source.mistake(error.span(), error.message().trim().to_lowercase(), None));
        }
        // What was recovered from a file with mistakes of syntax may be anything: it is not judged further.
        let table = if errors.is_empty() { table } else { Spanned::new(0..0, DeTable::new()) };
        let span = table.span();
        let value = Spanned::new(span, DeValue::Table(table.into_inner()));
        let root = Section::new(source.name.clone(), "", Some(value), None, (source, found));
        Self { folder, source, found, root }
    }

    /// A family of tables by name, such as `[system.*]`.
    fn named<K: Ord + Clone, E: Into<Complaint>, T>(
        &mut self,
        family: &'static str,
        parse: impl Fn(&str) -> Result<K, E>,
        mut read: impl FnMut(&mut Section<'c, 'c>) -> Option<T>,
    ) -> BTreeMap<K, T> {
        let mut read_so_far = BTreeMap::new();
        let Some(value) = self.root.take(family) else { return read_so_far };
        let mut members =
            Section::new(format!("[{family}]"), family, Some(value), None, (self.source, self.found));
        for (name, value) in members.names() {
            let title = format!("[{family}.{}]", name.get_ref());
            let defaults = reference(family, Some("example"));
            let place = (self.source, self.found);
            let mut section =
                Section::new(title.clone(), format!("{family}.*"), Some(value), defaults, place);
            let member = read(&mut section);
            section.finish();
            match parse(name.get_ref()) {
                Ok(key) => {
                    if let Some(member) = member {
                        read_so_far.insert(key, member);
                    }
                }
                Err(why) => {
                    members.report(Some(name.span()), why.into().about(&title));
                }
            }
        }
        read_so_far
    }

    /// A list of tables, such as `[[budget]]`.
    fn listed<T>(
        &mut self,
        family: &'static str,
        mut read: impl FnMut(&mut Section<'c, 'c>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.root.take(family) else { return Vec::new() };
        let span = value.span();
        let DeValue::Array(items) = value.into_inner() else {
            let complaint = Complaint::new(format!("`{family}` must be a list of tables"));
            self.root.report(Some(span), complaint.help(format!("write `[[{family}]]`")));
            return Vec::new();
        };
        let mut read_so_far = Vec::new();
        for item in items {
            let defaults = reference(family, None);
            let (title, path) = (format!("[[{family}]]"), format!("{family}[]"));
            let mut section = Section::new(title, path, Some(item), defaults, (self.source, self.found));
            let member = read(&mut section);
            section.finish();
            read_so_far.extend(member);
        }
        read_so_far
    }
}

impl Config {
    /// Reads a configuration folder.
    ///
    /// # Errors
    /// [`Mistakes`]: every mistake of form.
    pub fn load(folder: &Path) -> Result<Self, Mistakes> {
        let found = if cfg!(debug_assertions) { Found::noting() } else { Found::default() };
        let config = read(folder, &found);
        // INVARIANT: what is read stands in the schema. Each test that reads a configuration asks it.
        debug_assert!(
            schema::knows(&found),
            "the schema lacks a key: `config/tour.toml` shows no table that has it"
        );
        let fail =
            |found: Found| Mistakes { folder: folder.display().to_string(), mistakes: found.into_inner() };
        match config {
            Some(config) if found.is_empty() => Ok(config),
            Some(_) => Err(fail(found)),
            None => {
                if found.is_empty() {
                    // Every `None` comes with a report; this keeps the promise that a failure has one.
                    let source = Source::new(MAIN, "");
                    found.push(source.mistake(None, "the configuration cannot be read", None));
                }
                Err(fail(found))
            }
        }
    }

    /// The configuration without a secret, as it stands in the log and behind its digest. Secrets are in it
    /// by where they are kept.
    #[must_use]
    pub fn public(&self) -> Json {
        let names = |names: Vec<&str>| Json::from(names);
        let systems: BTreeMap<&str, Json> = self
            .systems
            .iter()
            .map(|(name, system)| {
                let spec = &system.definition.spec;
                let secrets: BTreeMap<&str, Json> =
                    system.secrets.iter().map(|(name, source)| (name.as_str(), source.to_json())).collect();
                let shown = json!({
                    "account": spec.account,
                    "environment": spec.environment,
                    "kind": spec.kind,
                    "secrets": secrets,
                });
                (name.as_str(), shown)
            })
            .collect();
        let agents: BTreeMap<&str, Json> = self
            .agents
            .iter()
            .map(|(name, agent)| {
                let shown = json!({
                    "accounts": agent.accounts,
                    "on_behalf_of": agent.on_behalf_of,
                    "teams": agent.teams,
                });
                (name.as_str(), shown)
            })
            .collect();
        let people: BTreeMap<&str, Json> =
            self.people.iter().map(|(name, person)| (name.as_str(), json!(person.groups))).collect();
        let slack_users: BTreeMap<&str, &str> = self
            .people
            .iter()
            .filter_map(|(name, person)| Some((name.as_str(), person.slack.as_deref()?)))
            .collect();
        let teams_users: BTreeMap<&str, &str> = self
            .people
            .iter()
            .filter_map(|(name, person)| Some((name.as_str(), person.teams.as_deref()?)))
            .collect();
        let roles: BTreeMap<&str, Json> =
            self.people.iter().map(|(name, person)| (name.as_str(), json!(person.roles))).collect();
        let subjects: BTreeMap<&str, Json> = self
            .people
            .iter()
            .filter(|(_, person)| !person.subjects.is_empty())
            .map(|(name, person)| (name.as_str(), json!(person.subjects)))
            .collect();
        let budgets: Vec<Json> = self
            .budgets
            .iter()
            .map(|budget| {
                json!({
                    "effect_min": budget.effect_min,
                    "halt_at": budget.halt_at,
                    "limit": budget.limit,
                    "name": budget.name,
                    "per": budget.scope,
                    "tools": budget.tools,
                    "unit": budget.unit.to_string(),
                    "window": budget.window,
                })
            })
            .collect();
        let oauth = self.oauth.as_ref().map(|oauth| {
            json!({ "agent_claim": oauth.agent_claim, "audience": oauth.audience, "issuer": oauth.issuer })
        });
        let store = self.store.place.kind();
        let ms = |wait: Option<std::time::Duration>| {
            wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
        };
        let approvals = json!({
            "escalate_ms": ms(self.approvals.escalate),
            "escalate_to": self.approvals.escalate_to,
            "remind_ms": ms(self.approvals.remind),
        });
        json!({
            "agents": agents,
            "approvals": approvals,
            "budgets": budgets,
            "channels": self.public_channels(),
            "grant_ms": self.limits.grant_ms,
            "idempotency_ms": u64::try_from(self.limits.idempotency.as_millis()).unwrap_or(u64::MAX),
            "open_requests_max": self.limits.open_requests_max,
            "refusals_max": self.limits.refusals_max,
            "sessions_max": self.limits.sessions_max,
            "oauth": oauth,
            "origin": self.log.origin,
            "people": people,
            "providers": provider::public(&self.providers),
            "roles": roles,
            "slack_users": slack_users,
            "policies": names(self.policies.iter().map(|p| p.name.as_str()).collect()),
            "store": store,
            "subjects": subjects,
            "systems": systems,
            "teams_users": teams_users,
            "tools": names(self.tools.keys().map(ToolName::as_str).collect()),
        })
    }
}

impl Config {
    /// The channels without a secret. The path of a URL may be one.
    fn public_channels(&self) -> Json {
        let channels = self.channels.iter().map(|(name, channel)| {
            let target = match &channel.target {
                ChannelTarget::Webhook { url, secret, .. } => {
                    json!({ "origin": url.origin().ascii_serialization(), "secret": secret.to_json() })
                }
                ChannelTarget::Slack { token, hears, channel, team, app, api_url, .. } => {
                    let (key, secret) = match hears {
                        SlackHears::Signed(secret) => ("signing_secret", secret),
                        SlackHears::Socket(token) => ("app_token", token),
                    };
                    json!({
                        "app": app,
                        "channel": channel,
                        "origin": api_url.origin().ascii_serialization(),
                        key: secret.to_json(),
                        "team": team,
                        "token": token.to_json(),
                    })
                }
                ChannelTarget::Email { host, port, encryption, login, from, to, .. } => json!({
                    "from": from,
                    "host": host,
                    "password": login.as_ref().map(|(_, password)| password.to_json()),
                    "port": port,
                    "tls": *encryption != Encryption::None,
                    "to": to,
                    "user": login.as_ref().map(|(user, _)| user.to_json()),
                }),
                ChannelTarget::Teams(teams) => teams.public(),
                ChannelTarget::Workflow { url, .. } => json!({ "url": url.to_json() }),
            };
            let shown = json!({
                "details": channel.details,
                "groups": channel.groups,
                "kind": channel.target.kind(),
                "target": target,
            });
            (name.to_string(), shown)
        });
        channels.collect()
    }
}

/// What the main file says, section by section; `None` for a section with a mistake.
struct Sections {
    server: Option<ServerConfig>,
    store: Option<StoreConfig>,
    log: Option<LogConfig>,
    limits: Option<LimitsConfig>,
    #[expect(clippy::option_option, reason = "absent, unreadable and read are three things")]
    oauth: Option<Option<OauthConfig>>,
    telemetry: Option<TelemetryConfig>,
    approvals: Option<ApprovalsConfig>,
    channels: BTreeMap<ChannelName, ChannelConfig>,
    systems: BTreeMap<SystemName, SystemConfig>,
    agents: BTreeMap<AgentId, AgentConfig>,
    people: BTreeMap<PersonId, PersonConfig>,
    providers: BTreeMap<ProviderName, SignInConfig>,
    budgets: Vec<(Budget, Place)>,
    tools: BTreeMap<ToolName, ToolConfig>,
}

fn sections(mut reading: Reading<'_>, folder: &Path) -> Sections {
    let server = settings::server(reading.root.top("server"), folder);
    let store = settings::store(reading.root.top("store"), folder);
    let log = settings::log(reading.root.top("log"), folder);
    let limits = settings::limits(reading.root.top("limits"));
    let oauth = if reading.root.says("oauth") {
        settings::oauth(reading.root.top("oauth"), folder).map(Some)
    } else {
        reading.root.take("oauth");
        Some(None)
    };
    let telemetry = settings::telemetry(reading.root.top("telemetry"));
    let approvals = channel::approvals(reading.root.top("approvals"));
    let channels = channel::channels(&mut reading);
    let systems = system::systems(&mut reading);
    let agents = principal::agents(&mut reading);
    let people = principal::people(&mut reading);
    let providers = provider::providers(&mut reading);
    let budgets = budget::budgets(&mut reading);
    let tools = tool::tools(&mut reading);
    reading.root.finish();
    Sections {
        server,
        store,
        log,
        limits,
        oauth,
        telemetry,
        approvals,
        channels,
        systems,
        agents,
        people,
        providers,
        budgets,
        tools,
    }
}

fn read(folder: &Path, found: &Found) -> Option<Config> {
    let main = file(folder, Path::new(MAIN), found)?;
    let Sections {
        server,
        store,
        log,
        limits,
        oauth,
        telemetry,
        approvals,
        channels,
        systems,
        agents,
        people,
        mut providers,
        budgets,
        mut tools,
    } = sections(Reading::new(folder, &main, found), folder);
    for name in agents.keys().filter(|agent| people.keys().any(|person| person.as_str() == agent.as_str())) {
        let message = format!("`{name}` is the name of an agent and of a person");
        let help = "give them different names: nobody approves what they proposed".to_owned();
        found.push(main.mistake(None, message, Some(help)));
    }

    if let Some(store) = &store {
        distinct_files(store, &systems, &main, found);
    }
    stray(folder, found);
    let public_url = server.as_ref().map(|server| server.public_url.as_ref());
    if let Some(public_url) = public_url {
        let oauth = oauth.as_ref().and_then(Option::as_ref);
        provider::fit(&mut providers, (public_url, oauth), &people, &main, found);
    }
    principal::distinct(&agents, (&people, &providers), &main, found);
    principal::distinct_users(&people, &main, found);
    channel::heard((&channels, approvals.as_ref()), (&people, &providers), &main, found);
    for source in files(folder, "tools", "toml", found) {
        let mut reading = Reading::new(folder, &source, found);
        for (name, tool) in tool::tools(&mut reading) {
            if tools.contains_key(&name) {
                let message = format!("two tools are named `{name}`");
                found.push(source.mistake(tool.place.of("", None), message, None));
            }
            tools.insert(name, tool);
        }
        reading.root.finish();
    }
    let policies = files(folder, "policies", "cedar", found).iter().map(policy).collect();
    let scenarios = files(folder, "scenarios", "toml", found)
        .into_iter()
        .map(|source| (source.name, source.text.to_string()))
        .collect();
    Some(Config {
        folder: folder.to_owned(),
        server: server?,
        store: store?,
        log: log?,
        limits: limits?,
        oauth: oauth?,
        telemetry: telemetry?,
        approvals: approvals?,
        channels,
        systems,
        agents,
        people,
        providers,
        budget_places: budgets.iter().map(|(budget, place)| (budget.name.clone(), place.clone())).collect(),
        budgets: budgets.into_iter().map(|(budget, _place)| budget).collect(),
        tools,
        policies,
        scenarios,
    })
}

/// The ledger's file is no system's, by whatever name: agents would write their own log.
fn distinct_files(
    store: &StoreConfig,
    systems: &BTreeMap<SystemName, SystemConfig>,
    main: &Source,
    found: &Found,
) {
    let StorePlace::Sqlite(ledger) = &store.place else { return };
    for (name, system) in systems {
        let Target::Sqlite(target) = &system.definition.target else { continue };
        if is_same_file(ledger, &target.path) {
            let message =
                format!("the ledger and system `{name}` are the same file `{}`", target.path.display());
            let help = "keep the ledger in a file of its own: agents would write into it";
            found.push(main.mistake(None, message, Some(help.to_owned())));
        }
    }
}

/// Whether two paths lead to one file, which need not be there yet.
fn is_same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    if let (Ok(one), Ok(other)) = (std::fs::metadata(one), std::fs::metadata(other)) {
        return (one.dev(), one.ino()) == (other.dev(), other.ino());
    }
    // A link that leads to nothing yet, or a file that is made later.
    let place = |path: &Path| {
        let path = std::fs::read_link(path).map_or_else(
            |_no_link| path.to_owned(),
            |to| path.parent().map_or_else(|| to.clone(), |folder| folder.join(&to)),
        );
        let folder =
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let folder = std::fs::canonicalize(folder).or_else(|_gone| std::path::absolute(folder));
        folder.ok().zip(path.file_name().map(ToOwned::to_owned))
    };
    place(one).is_some_and(|one| place(other) == Some(one))
}

/// A policy file. One that says word for word what the default pack says is the default pack.
fn policy(source: &Source) -> PolicySource {
    let name = source.name.trim_start_matches("policies/").trim_end_matches(".cedar").to_owned();
    let pack = PolicySource::default_pack();
    if name == pack.name && *source.text == *pack.text {
        return pack;
    }
    PolicySource::user(name, source.text.to_string())
}

fn file(folder: &Path, name: &Path, found: &Found) -> Option<Source> {
    use std::io::Read as _;
    let shown = name.to_string_lossy().into_owned();
    let fail = |message: String, help: Option<String>| {
        found.push(Source::new(shown.clone(), "").mistake(None, message, help));
        None
    };
    let path = folder.join(name);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(why) => {
            let help = (name == Path::new(MAIN))
                .then(|| "`countersign init DIR` writes a working folder to start from".to_owned());
            return fail(format!("`{}` cannot be read: {why}", path.display()), help);
        }
    };
    let mut bytes = Vec::new();
    if let Err(why) = file.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut bytes) {
        return fail(format!("`{}` cannot be read: {why}", path.display()), None);
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return fail(format!("`{}` is larger than {FILE_BYTES_MAX} bytes", path.display()), None);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(Source::new(shown, text)),
        Err(why) => {
            let at = why.utf8_error().valid_up_to();
            fail(format!("`{}` is no UTF-8 text (byte {at})", path.display()), None)
        }
    }
}

/// The files of a subfolder with an extension, sorted by name. A missing subfolder is an empty one.
fn files(folder: &Path, under: &str, extension: &str, found: &Found) -> Vec<Source> {
    let mut names = Vec::new();
    match std::fs::read_dir(folder.join(under)) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => names.push(entry.file_name()),
                    Err(why) => {
                        let source = Source::new(under, "");
                        found.push(source.mistake(None, format!("`{under}` cannot be read: {why}"), None));
                    }
                }
            }
        }
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {}
        Err(why) => {
            found.push(Source::new(under, "").mistake(
                None,
                format!("`{under}` cannot be read: {why}"),
                None,
            ));
        }
    }
    names.sort();
    names
        .iter()
        .map(|name| Path::new(under).join(name))
        .filter(|path| is_read(folder, path, extension, found))
        .filter_map(|path| file(folder, &path, found))
        .collect()
}

/// Whether a file is one of those that are read. What looks like one and would not be is a mistake: a `forbid` in it would
/// forbid nothing.
fn is_read(folder: &Path, path: &Path, extension: &str, found: &Found) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let refuse = |message: String, help: String| {
        found.push(Source::new(path.to_string_lossy().into_owned(), "").mistake(None, message, Some(help)));
        false
    };
    let shown = path.display();
    if folder.join(path).is_dir() {
        let help = "move its files up: folders within it are not read".to_owned();
        return refuse(format!("`{shown}` is a folder, and what is in it would not be read"), help);
    }
    let hidden = name.starts_with('.');
    if !hidden && path.extension().is_some_and(|own| own == extension) {
        return true;
    }
    let lower = name.to_lowercase();
    let named_so = lower.split(['.', '~']).skip(1).any(|part| part == extension);
    // What people keep for themselves, or their tools leave.
    let aside = hidden || lower.starts_with("readme") || lower.ends_with(".md") || lower.ends_with(".snap");
    if named_so || !aside {
        let help = format!("name it `….{extension}` to have it read, or move it out of the folder");
        return refuse(format!("`{shown}` would not be read"), help);
    }
    false
}

/// Policies and folders that lie where nobody reads them.
fn stray(folder: &Path, found: &Found) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        let folders = ["policies", "tools", "scenarios"];
        let meant = match name.to_lowercase().as_str() {
            "policy" | "policies" | "polices" => "policies",
            "tool" | "tools" => "tools",
            "scenario" | "scenarios" => "scenarios",
            lower if lower.split('.').skip(1).any(|part| part == "cedar") => "policies",
            _ => continue,
        };
        if !folders.contains(&name.as_str()) {
            let help = format!(
                "policies, tools and scenarios are read from `policies/`, `tools/` and `scenarios/`: is it meant for `{meant}/`?"
            );
            found.push(Source::new(name.clone(), "").mistake(
                None,
                format!("`{name}` would not be read"),
                Some(help),
            ));
        }
    }
}
