//! What sessions did, call by call, as the log tells it.

use askama::Template;
use axum::{extract::State, response::Html};
use countersign_app::story::{Session, sessions};
use countersign_rules::{AgentId, SessionId};
use countersign_store::{EntryFilter, StoredEntry};
use http::StatusCode;
use serde::Deserialize;

use crate::{Console, failure::Failure, filters, frame::Frame, query::UrlQuery, signed::Signed};

/// So many sessions are listed, the newest.
const SESSIONS_MAX: u32 = 100;
/// So many entries of a session are told, the newest.
const ENTRIES_MAX: u32 = 2_000;

#[derive(Template)]
#[template(path = "sessions.html")]
struct Sessions {
    frame: Frame,
    sessions: Vec<Session>,
}

/// The newest sessions.
pub(crate) async fn list(State(console): State<Console>, signed: Signed) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(&signed, "sessions").await?;
    let filter = EntryFilter { kind: Some("session_opened".into()), ..EntryFilter::default() };
    let entries = console.app.store().last_entries(&filter, SESSIONS_MAX).await?;
    Ok(Html(Sessions { frame, sessions: begun(&entries) }.render()?))
}

/// Each entry opens a session of its own.
fn begun(entries: &[StoredEntry]) -> Vec<Session> {
    entries.iter().flat_map(|entry| sessions(std::slice::from_ref(entry))).collect()
}

#[derive(Template)]
#[template(path = "session.html")]
struct Page {
    frame: Frame,
    session: Session,
    cut: bool,
}

/// Which session. Agents name theirs, also `..`: no path may be made of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    agent: String,
    session: String,
}

/// One session as a timeline.
pub(crate) async fn show(
    State(console): State<Console>,
    signed: Signed,
    UrlQuery(Which { agent, session }): UrlQuery<Which>,
) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(&signed, "sessions").await?;
    let none = || Failure::new(StatusCode::NOT_FOUND, "Not found", "the log has no such session");
    let (Ok(agent), Ok(session)) = (AgentId::parse(&agent), SessionId::parse(&session)) else {
        return Err(none());
    };
    let filter = EntryFilter { agent: Some(agent), session: Some(session), ..EntryFilter::default() };
    let mut entries = console.app.store().last_entries(&filter, ENTRIES_MAX).await?;
    entries.reverse();
    let cut = entries.len() >= usize::try_from(ENTRIES_MAX).unwrap_or(usize::MAX);
    let session = sessions(&entries).into_iter().next().ok_or_else(none)?;
    Ok(Html(Page { frame, session, cut }.render()?))
}
