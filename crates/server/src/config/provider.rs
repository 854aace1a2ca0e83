//! Identity providers by which people sign in to the console.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use countersign_app::{
    auth::{OauthConfig, ProviderConfig},
    principal::PersonConfig,
};
use countersign_rules::{GroupName, PersonId, ProviderName};
use toml::de::DeValue;
use unicode_security::confusable_detection::skeleton;
use url::Url;

use super::{
    Found, Reading, SecretSource, Source,
    endpoint::{ca, guarded_url},
    secret::secret,
    section::{Complaint, Form, Shaped as _, integer, kind, list, parsed, text, written},
    settings::MS_MAX,
};

/// What people may choose or change at a provider, or what may pass to somebody else there (OpenID Connect Core, 5.7).
const CHOSEN: &[&str] = &[
    "email",
    "email_verified",
    "family_name",
    "given_name",
    "name",
    "nickname",
    "phone_number",
    "preferred_username",
    "unique_name",
    "upn",
    "website",
];

/// `[provider.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignInConfig {
    /// What is not secret of it.
    pub provider: ProviderConfig,
    /// Where the secret is kept by which the provider knows this server; none for a public client.
    pub secret: Option<SecretSource>,
}

pub(super) fn providers(reading: &mut Reading<'_>) -> BTreeMap<ProviderName, SignInConfig> {
    let folder = reading.folder.to_owned();
    let mut providers = reading.named("provider", provider_name, |section| {
        let issuer = section.required(
            "issuer",
            "name the provider exactly as its `iss` claim does, such as `issuer = \"https://login.example.com\"`",
            parsed(issuer),
        );
        let client_id =
            section.required("client_id", "write the id by which the provider knows this server", parsed(named));
        let secret = section.optional("client_secret", secret(&folder));
        let title = section.optional("title", parsed(named));
        let scopes = section.defaulted("scopes", list(scope));
        let asked = section.place("scopes");
        if scopes.as_ref().is_some_and(|scopes| !scopes.iter().any(|scope| scope == "openid")) {
            let complaint = Complaint::new("`scopes` lacks `openid`, without which nobody is vouched for");
            section.report(asked, complaint.help("write `scopes = [\"openid\"]`, and others behind it"));
        }
        let person_claim = section.defaulted("person_claim", parsed(person_claim));
        let mapped = section.place("groups");
        let groups_claim = section.optional("groups_claim", parsed(named));
        let groups = section.optional("groups", groups());
        let leeway = section.defaulted("leeway_ms", integer(0..=300_000));
        let ca = section.optional("ca", ca(&folder));
        let keys_age_max = section.defaulted("keys_age_max_ms", integer(1..=MS_MAX));
        let refetch_pause = section.defaulted("refetch_pause_ms", integer(1..=MS_MAX));
        match (&groups_claim, &groups) {
            (Some(_), None) => section.report(
                None,
                Complaint::new("`groups_claim` names a claim, and none of its groups counts")
                    .help("say which of theirs stands for which of ours: `groups = { \"db-admins\" = [\"dba\"] }`"),
            ),
            (None, Some(_)) => section.report(
                mapped,
                Complaint::new("`groups` maps groups, and no claim has them")
                    .help("say which claim of the ID token does: `groups_claim = \"groups\"`"),
            ),
            (Some(_), Some(_)) | (None, None) => {}
        }
        let (issuer, issuer_written) = issuer?;
        let provider = ProviderConfig {
            title: title.unwrap_or_default(),
            issuer,
            issuer_written,
            client_id: client_id?,
            redirect_uri: String::new(),
            scopes: scopes?,
            person_claim: person_claim?,
            groups_claim,
            groups: groups.unwrap_or_default(),
            leeway: Duration::from_millis(leeway?),
            ca,
            keys_age_max: Duration::from_millis(keys_age_max?),
            refetch_pause: Duration::from_millis(refetch_pause?),
        };
        Some(SignInConfig { provider, secret })
    });
    for (name, SignInConfig { provider, .. }) in &mut providers {
        if provider.title.is_empty() {
            provider.title = name.to_string();
        }
    }
    providers
}

/// A provider's name stands in addresses.
fn provider_name(text: &str) -> Result<ProviderName, Complaint> {
    if let Some(bad) = text.chars().find(|c| matches!(c, '.' | ':' | '@')) {
        let complaint = Complaint::new(format!("`{bad}` may not stand in the name of a provider"));
        return Err(complaint.help("use letters, digits, `_` and `-`"));
    }
    Ok(ProviderName::parse(text)?)
}

fn issuer(text: &str) -> Result<(Url, String), Complaint> {
    let url = guarded_url(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Complaint::new(format!("`{text}` has a query or a fragment")));
    }
    Ok((url, text.to_owned()))
}

fn named(text: &str) -> Result<String, Complaint> {
    if text.trim().is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
        return Err(Complaint::new("must be a text of 1 to 255 bytes without controls"));
    }
    Ok(text.to_owned())
}

fn scope(text: &str) -> Result<String, Complaint> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
        return Err(Complaint::new(format!("`{text}` is no scope")).help("write one scope in each text"));
    }
    Ok(text.to_owned())
}

fn person_claim(text: &str) -> Result<String, Complaint> {
    if CHOSEN.contains(&text.to_ascii_lowercase().as_str()) {
        let complaint = Complaint::new(format!(
            "`{text}` may be chosen, changed or passed on at the provider, and names nobody"
        ));
        return Err(complaint
            .help("leave it out, for `sub`, or name a claim that the provider never gives to another"));
    }
    named(text)
}

/// Their groups, with the ones of ours that each stands for.
fn groups() -> impl Form<BTreeMap<String, BTreeSet<GroupName>>> {
    let shape = serde_json::json!({ "type": "object", "additionalProperties": { "type": "array", "items": String::shape() } });
    written(shape, |value: &DeValue<'_>| {
        let table = value
            .as_table()
            .ok_or_else(|| Complaint::new(format!("must be a table of groups, not {}", kind(value))))?;
        let mut groups = BTreeMap::new();
        for (theirs, ours) in table {
            let theirs = named(theirs.get_ref())?;
            let ours = list(|group| Ok(GroupName::parse(group)?))
                .read(ours.get_ref())
                .map_err(|why| why.about(&theirs))?;
            if ours.is_empty() {
                return Err(Complaint::new(format!("`{theirs}` stands for no group"))
                    .help(format!("write `\"{theirs}\" = [\"approvers\"]`, or leave it out")));
            }
            groups.insert(theirs, ours.into_iter().collect());
        }
        if groups.is_empty() {
            return Err(Complaint::new("maps no group").help("leave it out where no groups count"));
        }
        Ok(groups)
    })
}

/// Which subject a person is at each provider.
pub(super) fn subjects() -> impl Form<BTreeMap<ProviderName, String>> {
    written(BTreeMap::<String, String>::shape(), |value: &DeValue<'_>| {
        let table = value.as_table().ok_or_else(|| {
            Complaint::new(format!("must be a table by provider, not {}", kind(value)))
                .help("write it so: `subject = { corp = \"248289761001\" }`")
        })?;
        let mut subjects = BTreeMap::new();
        for (provider, subject) in table {
            let subject = text(subject.get_ref())?;
            if subject.is_empty()
                || subject.len() > 255
                || !subject.bytes().all(|byte| byte.is_ascii_graphic())
            {
                return Err(Complaint::new(format!("`{subject}` is no subject of a provider")).help(
                    "copy it from the provider: it is at most 255 letters, digits and signs of ASCII",
                ));
            }
            subjects.insert(provider_name(provider.get_ref())?, subject);
        }
        Ok(subjects)
    })
}

/// Returns the groups that a person is or may be in: those that are configured, and those that a provider may bring.
pub(crate) fn groups_of(
    person: &PersonConfig,
    providers: &BTreeMap<ProviderName, SignInConfig>,
) -> BTreeSet<GroupName> {
    let by = person.subjects.keys().filter_map(|provider| providers.get(provider));
    by.flat_map(|by| by.provider.brings()).chain(person.groups.iter().cloned()).collect()
}

/// Says where people come back to, and reports what would not do what it reads like.
pub(super) fn fit(
    providers: &mut BTreeMap<ProviderName, SignInConfig>,
    (public_url, oauth): (Option<&Url>, Option<&OauthConfig>),
    people: &BTreeMap<PersonId, PersonConfig>,
    main: &Source,
    found: &Found,
) {
    let place = |written: &str| main.text.find(written).map(|at| at..at.saturating_add(written.len()));
    let report = |at: &str, message: String, help: &str| {
        found.push(main.mistake(place(at), message, Some(help.to_owned())));
    };
    for (name, SignInConfig { provider, .. }) in &mut *providers {
        let title = format!("[provider.{name}]");
        match public_url {
            None => report(
                &title,
                format!("`{title}` sends people back to this server, and `[server]` has no `public_url`"),
                "say how people reach this server: `public_url = \"https://countersign.example.com\"`",
            ),
            Some(url) if guarded_url(url.as_str()).is_err() => report(
                "public_url",
                format!(
                    "`public_url` is not encrypted, and nobody who comes back from `{title}` would be signed in"
                ),
                "say `tls_cert`, or put TLS in front, and write `https`: browsers keep the session's cookie for nothing else",
            ),
            Some(url) => {
                let base = url.as_str().trim_end_matches('/');
                provider.redirect_uri = format!("{base}/console/sign-in/{name}/return");
            }
        }
        if !people.values().any(|person| person.subjects.contains_key(name)) {
            report(
                &title,
                format!("nobody can sign in by `{title}`: no person has a `subject` there"),
                "say who is whom: `subject = { NAME = \"…\" }` in `[person.NAME]`",
            );
        }
        // What one of the two signs would be taken for the other.
        if oauth.is_some_and(|oauth| {
            oauth.issuer == provider.issuer_written && oauth.audience == provider.client_id
        }) {
            report(
                &title,
                format!(
                    "`audience` of `[oauth]` is the `client_id` of `{title}`: what signs in a person would pass for an agent"
                ),
                "give agents an audience of their own, such as the server's public URL",
            );
        }
    }
    let names: Vec<&ProviderName> = providers.keys().collect();
    let mut seen: BTreeMap<(&ProviderName, String), &PersonId> = BTreeMap::new();
    for (person, config) in people {
        for (provider, subject) in &config.subjects {
            if !names.contains(&provider) {
                report(
                    &format!("[person.{person}]"),
                    format!(
                        "`subject` of `[person.{person}]` names `{provider}`, and there is no such provider"
                    ),
                    "add `[provider.NAME]`, or leave the subject out",
                );
            }
            // Folded on either side: a nought is like a capital letter, and a small one like it.
            let shape = skeleton(&subject.to_lowercase()).collect::<String>().to_lowercase();
            if let Some(other) = seen.insert((provider, shape), person) {
                report(
                    &format!("[person.{person}]"),
                    format!(
                        "`[person.{other}]` and `[person.{person}]` have subjects at `{provider}` that are the same or look alike"
                    ),
                    "give each person the subject that is theirs",
                );
            }
        }
    }
}

/// Providers as they stand in the log: without a secret.
pub(super) fn public(providers: &BTreeMap<ProviderName, SignInConfig>) -> serde_json::Value {
    let shown = providers.iter().map(|(name, SignInConfig { provider, secret })| {
        let shown = serde_json::json!({
            "client_id": provider.client_id,
            "client_secret": secret.as_ref().map(SecretSource::to_json),
            "groups": provider.groups,
            "groups_claim": provider.groups_claim,
            "issuer": provider.issuer_written,
            "person_claim": provider.person_claim,
            "scopes": provider.scopes,
        });
        (name.to_string(), shown)
    });
    shown.collect()
}
