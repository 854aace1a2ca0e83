//! What people granted beside an approval, and the way to end it.

use askama::Template;
use axum::{extract::State, response::Html};
use countersign_app::{
    auth::Person,
    grant::may_end,
    request::{RequestBody, reach_words},
    text::one_line,
};
use countersign_gate::ledger::ApprovalRecord;

use crate::{Console, failure::Failure, filters, frame::Frame, signed::Signed};

#[derive(Template)]
#[template(path = "grants.html")]
struct Page {
    frame: Frame,
    grants: Vec<Line>,
}

/// One grant.
struct Line {
    request: RequestBody,
    /// Each call may reach no further.
    reach: String,
    by: String,
    /// The person may end it.
    mine_to_end: bool,
}

impl Line {
    fn of(record: &ApprovalRecord, person: &Person) -> Self {
        let by: Vec<String> = record
            .signatures
            .iter()
            .filter(|signature| signature.approved)
            .map(|signature| one_line(signature.person.as_str()))
            .collect();
        let reach = record.request.reach.as_ref();
        Self {
            request: RequestBody::from(record),
            reach: reach.map_or_else(|| "not measured".into(), reach_words),
            by: by.join(", "),
            mine_to_end: may_end(record, person),
        }
    }
}

/// Lists the grants of which something is left.
pub(crate) async fn list(State(console): State<Console>, signed: Signed) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(&signed, "grants").await?;
    let grants = console.app.grants(signed.person()).await?;
    let grants = grants.iter().map(|record| Line::of(record, signed.person())).collect();
    Ok(Html(Page { frame, grants }.render()?))
}
