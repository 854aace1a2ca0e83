//! The people: who may answer what, how they sign in, and links for those who cannot.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Html};
use countersign_app::{auth::account::LINK_MS, text::one_line};
use countersign_rules::{Code, PersonId, Refusal};
use serde::Deserialize;

use crate::{
    Console,
    failure::Failure,
    frame::{Frame, at},
    signed::{Sent, Signed},
};

struct Row {
    person: String,
    groups: String,
    operator: bool,
    you: bool,
    /// Since when there is an account, and who made the link it was set up by.
    account: Option<(String, String)>,
    disabled: bool,
}

/// A link that was just made, and for whom.
struct Made {
    person: String,
    path: String,
}

#[derive(Template)]
#[template(path = "people.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    made: Option<Made>,
}

/// Everybody who is configured.
pub(crate) async fn list(State(console): State<Console>, signed: Signed) -> Result<Html<String>, Failure> {
    page(&console, &signed, None).await
}

async fn page(console: &Console, signed: &Signed, made: Option<Made>) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(signed, "people").await?;
    let accounts = console.app.store().accounts().await?.into_iter();
    let accounts: BTreeMap<_, _> = accounts.map(|account| (account.person.clone(), account)).collect();
    let rows = console.app.auth().people().map(|(person, config)| {
        let account = accounts.get(person);
        Row {
            person: person.to_string(),
            groups: config.groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            operator: config.operator,
            you: *person == signed.person().id,
            account: account.map(|account| (at(account.changed_ms), one_line(&account.made_by))),
            disabled: account.is_some_and(|account| !account.is_enabled()),
        }
    });
    let rows = rows.collect();
    Ok(Html(Page { frame, rows, made }.render()?))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Invited {
    person: String,
}

/// Makes a one-time link for somebody. Operators may; what is set up through it answers for nothing that the operator's own
/// agents ask.
pub(crate) async fn invite(
    State(console): State<Console>,
    Sent { by, form }: Sent<Invited>,
) -> Result<Html<String>, Failure> {
    if !by.person().operator {
        let message = format!("`{}` is no operator, and operators make links", by.person().id);
        return Err(Refusal::new(Code::OutOfScope, message)
            .help("ask one, or whoever runs this server: `countersign people link NAME`")
            .into());
    }
    let person =
        PersonId::parse(&form.person).map_err(|why| Refusal::new(Code::Malformed, why.to_string()))?;
    let token = console.app.accounts().invite(&person, by.person().id.as_str(), LINK_MS).await?;
    let made = Made { person: person.to_string(), path: format!("/console/link#{token}") };
    page(&console, &by, Some(made)).await
}
