//! The people: who may answer what, and how they sign in.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Html};
use countersign_app::{principal::PersonConfig, text::one_line};
use countersign_rules::ProviderName;
use countersign_store::AccountRecord;

use crate::{
    Console,
    failure::Failure,
    frame::{Frame, at},
    signed::Signed,
};

struct Row {
    person: String,
    groups: String,
    roles: String,
    you: bool,
    /// Since when there is an account, and how it came to be.
    account: Option<(String, String)>,
    /// By what the person signs in.
    signs_in_by: String,
    disabled: bool,
}

#[derive(Template)]
#[template(path = "people.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
}

/// Everybody who is configured.
pub(crate) async fn list(State(console): State<Console>, signed: Signed) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(&signed, "people").await?;
    let accounts = console.app.store().accounts().await?.into_iter();
    let accounts: BTreeMap<_, _> = accounts.map(|account| (account.person.clone(), account)).collect();
    let titles: BTreeMap<_, _> = console.app.accounts().providers().titles().collect();
    let rows = console.app.auth().people().map(|(person, config)| {
        let account = accounts.get(person);
        Row {
            person: person.to_string(),
            groups: config.groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            roles: config.roles.to_string(),
            you: *person == signed.person().id,
            account: account.map(|account| (at(account.changed_ms), made(account))),
            signs_in_by: signs_in_by(account, config, &titles),
            disabled: account.is_some_and(|account| !account.is_enabled()),
        }
    });
    let rows = rows.collect();
    Ok(Html(Page { frame, rows }.render()?))
}

/// Says how an account came to be.
fn made(account: &AccountRecord) -> String {
    match account.made_by.strip_prefix("provider ") {
        Some(_provider) => "by its first sign-in with a provider".into(),
        None => format!("by a link of {}", one_line(&account.made_by)),
    }
}

/// Says by what a person signs in: what the account has, and each provider that vouches for them.
fn signs_in_by(
    account: Option<&AccountRecord>,
    config: &PersonConfig,
    titles: &BTreeMap<&ProviderName, &str>,
) -> String {
    let mut ways = Vec::new();
    if let Some(account) = account {
        match account.passkeys.iter().filter(|passkey| passkey.signs_in).count() {
            0 => {}
            1 => ways.push("a passkey".to_owned()),
            several => ways.push(format!("{several} passkeys")),
        }
        if !account.password.is_none() {
            ways.push("a password".to_owned());
        }
    }
    let vouching = titles.iter().filter(|(name, _title)| config.subjects.contains_key(**name));
    ways.extend(vouching.map(|(_name, title)| one_line(title)));
    ways.join(", ")
}
