//! Service levels: how soon people answer, and what each of them answered.

use askama::Template;
use axum::{extract::State, response::Html};
use countersign_app::{
    level::{DAYS, DAYS_MAX, LevelBody, REQUESTS_MAX},
    text::{grouped, one_line, span},
};
use serde::Deserialize;

use crate::{Console, failure::Failure, frame::Frame, query::UrlQuery, signed::Signed};

/// These windows are offered, in days.
const WINDOWS: [u32; 4] = [1, 7, DAYS, DAYS_MAX];

/// How soon one kind of requests is answered.
struct Row {
    name: String,
    asked: String,
    answered: String,
    expired: String,
    waiting: String,
    otherwise: String,
    /// The share answered in time, in words; empty where nothing was due.
    share: String,
    /// The same as the width of a bar, in hundredths.
    bar: u64,
    median: String,
    p95: String,
    timed: String,
}

/// What a person answered to calls of one kind.
struct Reviewed {
    person: String,
    tool: String,
    effect: &'static str,
    answered: String,
    share: String,
    bar: u64,
    median: String,
    timed: String,
}

/// Rows with a name for all of them.
struct Part {
    title: &'static str,
    column: &'static str,
    rows: Vec<Row>,
}

#[derive(Template)]
#[template(path = "levels.html")]
struct Page {
    frame: Frame,
    windows: [u32; WINDOWS.len()],
    days: u32,
    since: String,
    cut: Option<String>,
    superseded: String,
    parts: [Part; 3],
    reviewers: Vec<Reviewed>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    days: Option<u32>,
}

/// The service levels of some days.
pub(crate) async fn show(
    State(console): State<Console>,
    signed: Signed,
    UrlQuery(which): UrlQuery<Which>,
) -> Result<Html<String>, Failure> {
    let (frame, _waiting) = console.frame(&signed, "levels").await?;
    let days = which.days.unwrap_or(DAYS);
    let levels = console.app.service_levels(signed.person(), days).await?;
    let groups = levels.groups.iter().map(|of| row(&of.group, &of.level)).collect();
    let tools = levels.tools.iter().map(|of| row(&of.tool, &of.level)).collect();
    let all = if levels.all.asked == 0 { Vec::new() } else { vec![row("all requests", &levels.all)] };
    let reviewers = levels.reviewers.iter().map(|of| Reviewed {
        person: one_line(&of.person),
        tool: one_line(&of.tool),
        effect: of.effect.as_str(),
        answered: grouped(of.answered),
        share: percent(Some(of.approved_share)),
        bar: bar(of.approved, of.answered),
        median: of.median_ms.map_or_else(none, span),
        timed: grouped(of.timed),
    });
    let page = Page {
        frame,
        windows: WINDOWS,
        days: levels.days,
        since: levels.since.unwrap_or_default(),
        cut: levels.cut.then(|| grouped(u64::try_from(REQUESTS_MAX).unwrap_or(u64::MAX))),
        superseded: grouped(levels.superseded),
        reviewers: reviewers.collect(),
        parts: [
            Part { title: "All", column: "Requests", rows: all },
            Part { title: "By group", column: "Group", rows: groups },
            Part { title: "By tool", column: "Tool", rows: tools },
        ],
    };
    Ok(Html(page.render()?))
}

fn row(name: &str, level: &LevelBody) -> Row {
    Row {
        name: one_line(name),
        asked: grouped(level.asked),
        answered: grouped(level.answered),
        expired: grouped(level.expired),
        waiting: grouped(level.waiting),
        otherwise: grouped(level.ended_otherwise),
        share: percent(level.within_deadline),
        bar: bar(level.answered, level.answered.saturating_add(level.expired)),
        median: level.median_ms.map_or_else(none, span),
        p95: level.p95_ms.map_or_else(none, span),
        timed: grouped(level.timed),
    }
}

fn none() -> String {
    "-".to_owned()
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(none, |share| format!("{:.1} %", share * 100.0))
}

fn bar(these: u64, all: u64) -> u64 {
    these.saturating_mul(100).checked_div(all).unwrap_or_default()
}
