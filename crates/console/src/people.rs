//! The people: who may answer what, and how they sign in.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Html};
use countersign_app::text::one_line;

use crate::{
    Console,
    failure::Failure,
    frame::{Frame, at},
    signed::Signed,
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
    Ok(Html(Page { frame, rows }.render()?))
}
