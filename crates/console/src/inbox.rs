//! What waits for the person, and what became of requests.

use askama::Template;
use axum::{extract::State, response::Html};
use countersign_app::{
    approval::visible,
    text::{grouped, one_line},
};
use countersign_gate::ledger::ApprovalRecord;
use countersign_rules::{ApprovalId, ApprovalState};
use countersign_store::ApprovalFilter;
use serde::Deserialize;

use crate::{
    Console,
    failure::Failure,
    filters,
    frame::{Frame, at},
    query::UrlQuery,
    signed::Signed,
    statement,
};

/// So many requests stand on one page of the list.
const PAGE: usize = 50;
/// So much of a call's arguments stands in a line of the list, in characters; its own page has all of it.
const GIST_MAX: usize = 160;

/// A request, in one line.
#[derive(Debug)]
struct Line {
    id: String,
    state: &'static str,
    agent: String,
    tool: String,
    system: String,
    effect: &'static str,
    reach: String,
    gist: String,
    asked_at: String,
    expires_at: String,
    /// The person has answered, and others have not.
    answered: bool,
}

#[derive(Template)]
#[template(path = "inbox.html")]
struct Inbox {
    frame: Frame,
    lines: Vec<Line>,
}

#[derive(Template)]
#[template(path = "waiting.html")]
struct Waiting {
    frame: Frame,
    lines: Vec<Line>,
}

/// The inbox.
pub(crate) async fn show(State(console): State<Console>, signed: Signed) -> Result<Html<String>, Failure> {
    let (frame, lines) = waiting_for(&console, &signed).await?;
    Ok(Html(Inbox { frame, lines }.render()?))
}

/// The list of the inbox alone, for the script of a page that is open.
pub(crate) async fn waiting(State(console): State<Console>, signed: Signed) -> Result<Html<String>, Failure> {
    let (frame, lines) = waiting_for(&console, &signed).await?;
    Ok(Html(Waiting { frame, lines }.render()?))
}

async fn waiting_for(console: &Console, signed: &Signed) -> Result<(Frame, Vec<Line>), Failure> {
    let (frame, records) = console.frame(signed, "inbox").await?;
    Ok((frame, lines(console, &records, signed)))
}

fn lines(console: &Console, records: &[ApprovalRecord], signed: &Signed) -> Vec<Line> {
    records.iter().map(|record| line(console, record, signed)).collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    state: Option<String>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "requests.html")]
struct Requests {
    frame: Frame,
    lines: Vec<Line>,
    states: [ApprovalState; ApprovalState::ALL.len()],
    state: String,
    next: Option<String>,
}

/// Requests of any state that the person may see, oldest first.
pub(crate) async fn all(
    State(console): State<Console>,
    signed: Signed,
    UrlQuery(which): UrlQuery<Which>,
) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(&signed, "requests").await?;
    let state = which.state.unwrap_or_default();
    let filter = ApprovalFilter {
        state: ApprovalState::ALL.into_iter().find(|known| known.as_str() == state),
        groups: (!frame.sees_all()).then(|| signed.person().groups.clone()),
        after: which.after.as_deref().and_then(|after| ApprovalId::parse(after).ok()),
        ..ApprovalFilter::default()
    };
    let limit = u32::try_from(PAGE).unwrap_or(u32::MAX).saturating_add(1);
    let mut records = console.app.store().list_approvals(&filter, limit).await?;
    let more = records.len() > PAGE;
    records.truncate(PAGE);
    records.retain(|record| visible(record, &signed.principal()));
    let next = records.last().filter(|_last| more).map(|record| record.request.id.to_string());
    let lines = lines(&console, &records, &signed);
    Ok(Html(Requests { frame, lines, states: ApprovalState::ALL, state, next }.render()?))
}

fn line(console: &Console, record: &ApprovalRecord, signed: &Signed) -> Line {
    let request = &record.request;
    let offer = console.app.tool(&request.call.tool);
    let system = offer.map(|offer| {
        let system = &offer.spec().system;
        format!("{} ({})", system.name, one_line(&system.environment))
    });
    let reach = match &request.reach {
        None => "not measured".to_owned(),
        Some(reach) => {
            let more = if reach.unbounded { " or more" } else { "" };
            match reach.amount {
                Some(amount) => format!("{amount}, {}{more}", grouped(reach.rows)),
                None => format!("{}{more}", countersign_app::story::touched(reach)),
            }
        }
    };
    Line {
        id: request.id.to_string(),
        state: record.state.as_str(),
        agent: one_line(request.call.requester.agent.as_str()),
        tool: one_line(request.call.tool.as_str()),
        system: system.unwrap_or_else(|| "not configured any more".into()),
        effect: record.effect.as_str(),
        reach,
        gist: one_line(&statement::gist(&request.call.arguments, GIST_MAX)),
        asked_at: at(request.asked_ms),
        expires_at: at(request.expires_ms),
        answered: record.signatures.iter().any(|signature| signature.person == signed.person().id),
    }
}
