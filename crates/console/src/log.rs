//! The log: what was recorded, and that it is in there.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Html,
};
use countersign_app::{
    story::{EntryLine, entry_line},
    text::visible,
};
use countersign_audit::EntryKind;
use countersign_rules::{AgentId, ApprovalId, CallId, SessionId};
use countersign_store::EntryFilter;
use http::StatusCode;
use serde::Deserialize;

use crate::{Console, failure::Failure, frame::Frame, proof::Proof, query::UrlQuery, signed::Signed};

/// So many entries stand on one page.
const PAGE: u32 = 100;

/// Which entries. An empty field asks for nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Which {
    agent: String,
    session: String,
    call: String,
    approval: String,
    kind: String,
    from: String,
}

impl Which {
    fn filter(&self) -> Result<EntryFilter, Failure> {
        Ok(EntryFilter {
            agent: named(&self.agent, AgentId::parse)?,
            session: named(&self.session, SessionId::parse)?,
            call: named(&self.call, CallId::parse)?,
            approval: named(&self.approval, ApprovalId::parse)?,
            kind: named(&self.kind, |kind| EntryKind::new(kind).map(|_kind| kind.to_owned()))?,
            from: named(&self.from, str::parse)?.unwrap_or_default(),
            ..EntryFilter::default()
        })
    }
}

fn named<T, E: std::fmt::Display>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |why: E| {
        Failure::new(StatusCode::BAD_REQUEST, "No such filter", format!("`{}`: {why}", visible(text)))
    };
    parse(text).map(Some).map_err(bad)
}

#[derive(Template)]
#[template(path = "log.html")]
struct List {
    frame: Frame,
    entries: Vec<EntryLine>,
    which: Which,
    size: u64,
    /// Where older entries, or, from an index on, later ones begin.
    next: Option<u64>,
}

/// The newest entries that fit, or those from an index on.
pub(crate) async fn list(
    State(console): State<Console>,
    signed: Signed,
    UrlQuery(which): UrlQuery<Which>,
) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(&signed, "log").await?;
    let filter = which.filter()?;
    let store = console.app.store();
    let from_there_on = !which.from.trim().is_empty();
    let found = if from_there_on {
        store.find_entries(&filter, PAGE).await?
    } else {
        store.last_entries(&filter, PAGE).await?
    };
    let full = found.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
    let next = found.last().filter(|_last| full && from_there_on).map(|last| last.index.saturating_add(1));
    let size = store.log_head().await?.size;
    Ok(Html(List { frame, entries: found.iter().map(entry_line).collect(), which, size, next }.render()?))
}

#[derive(Template)]
#[template(path = "entry.html")]
struct Page {
    frame: Frame,
    entry: EntryLine,
    text: String,
    proof: Proof,
    last: u64,
}

/// One entry, with the proof that it is in the log, which the page itself checks.
pub(crate) async fn show(
    State(console): State<Console>,
    signed: Signed,
    Path(index): Path<String>,
) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(&signed, "log").await?;
    let none = || Failure::new(StatusCode::NOT_FOUND, "Not found", "the log has no such entry");
    let index: u64 = index.parse().map_err(|_no_number| none())?;
    let store = console.app.store();
    let receipt = store.receipt(index).await?.ok_or_else(none)?;
    let entry = store.entries(index, 1).await?.into_iter().next().ok_or_else(none)?;
    let value: serde_json::Value = serde_json::from_slice(&entry.bytes).unwrap_or_default();
    let text = serde_json::to_string_pretty(&value).unwrap_or_default();
    let last = store.log_head().await?.size.saturating_sub(1);
    let proof = Proof::new(&receipt, store.verifier());
    Ok(Html(Page { frame, entry: entry_line(&entry), text: visible(&text), proof, last }.render()?))
}
