//! The people: who may answer what, and how they sign in.

use askama::Template;
use axum::{extract::State, response::Html};

use crate::{Console, failure::Failure, frame::Frame, signed::Signed};

struct Row {
    person: String,
    groups: String,
    operator: bool,
    you: bool,
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
    let rows = console.app.auth().people().map(|(person, config)| Row {
        person: person.to_string(),
        groups: config.groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        operator: config.operator,
        you: *person == signed.person().id,
    });
    let rows = rows.collect();
    Ok(Html(Page { frame, rows }.render()?))
}
