//! One request: everything an approver needs to judge it, and the answer.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{Html, Redirect},
};
use countersign_app::{
    approval::{PersonAnswer, UNKNOWN, asks},
    request::{RequestDetail, reach_words},
    role::Right,
    text::{alike, grouped, one_line},
};
use countersign_gate::{GrantOffer, ledger::ApprovalRecord};
use countersign_rules::{AnswerVerb, ApprovalId, ApprovalState, Code, Refusal};
use http::StatusCode;
use serde::Deserialize;

use crate::{
    Console, batch,
    failure::Failure,
    filters,
    frame::Frame,
    signed::{Sent, Signed},
    statement::{self, Argument},
};

/// An answer that was given here is recorded to have come so.
pub(crate) const CHANNEL: &str = "console";

/// So many of a session's calls are shown, the last ones.
const DEEDS_MAX: usize = 20;

#[derive(Template)]
#[template(path = "request.html")]
struct Page {
    frame: Frame,
    detail: RequestDetail,
    arguments: Vec<Argument>,
    /// Letters in it that look like others.
    careful: Option<String>,
    /// How far it reaches, in words.
    reach: String,
    tables: Vec<(String, String)>,
    cascades: Option<String>,
    triggers: Vec<String>,
    /// What approving permits.
    permits: String,
    open: bool,
    /// The call may be run and rolled back, to see what it touches.
    closer: bool,
    /// Why the person may not approve, where a policy forbids it.
    no_approve: Option<String>,
    /// Why the person may not refuse, where a policy forbids it.
    no_refuse: Option<String>,
    /// These arguments are there to be changed; empty where none may be.
    changeable: String,
    /// What may be taken away so that the person may approve the rest, in words; empty where nothing may.
    takes_away: String,
    /// Why the person's answer would not count, where it would not.
    barred: Option<String>,
    /// The person changed the call, and others approve it.
    own_change: bool,
    /// So many others like it wait for the person.
    others: usize,
    deeds_left_out: usize,
}

pub(crate) async fn find(console: &Console, id: &str, signed: &Signed) -> Result<ApprovalRecord, Failure> {
    let Ok(id) = ApprovalId::parse(id) else {
        return Err(Failure::new(StatusCode::NOT_FOUND, "Not found", UNKNOWN));
    };
    Ok(console.app.approval(&id, &signed.principal()).await?)
}

/// Finds a request that the person is about to answer, look closer at or change.
pub(crate) async fn find_to_answer(
    console: &Console,
    id: &str,
    by: &Signed,
) -> Result<ApprovalRecord, Failure> {
    let record = find(console, id, by).await?;
    may_answer(console, by, &record).await?;
    Ok(record)
}

/// Checks that an answer of the person's would count, as far as that can be said before they give it.
pub(crate) async fn may_answer(
    console: &Console,
    by: &Signed,
    record: &ApprovalRecord,
) -> Result<(), Refusal> {
    by.person().may(Right::Answer)?;
    if !asks(record, by.person()) {
        let message = "others are asked: you see this by your role";
        return Err(Refusal::new(Code::AnswerRefused, message));
    }
    console.app.accounts().may_answer(&by.session, record).await
}

/// Shows a request.
pub(crate) async fn show(
    State(console): State<Console>,
    signed: Signed,
    Path(id): Path<String>,
) -> Result<Html<String>, Failure> {
    let record = find(&console, &id, &signed).await?;
    let (frame, waiting) = console.frame(&signed, "inbox").await?;
    let mut detail = console.app.detail(&record, &signed.principal()).await?;
    let deeds_left_out = detail.session_so_far.len().saturating_sub(DEEDS_MAX);
    detail.session_so_far.drain(..deeds_left_out);
    let reach = detail.reach.as_ref();
    let barred = may_answer(&console, &signed, &record).await.err().map(|why| why.message);
    let forbidden = |verb| {
        let said = console.app.policies_let(&record, signed.person(), verb);
        said.err().map(|why| why.message)
    };
    if forbidden(AnswerVerb::Grant).is_some() {
        detail.request.grantable = None;
    }
    let page = Page {
        arguments: statement::arguments(&record.request.call.arguments),
        careful: alike(&detail.written()),
        reach: reach.map_or_else(|| "not measured: how far it reaches is not known".into(), reach_words),
        tables: reach
            .iter()
            .flat_map(|reach| &reach.tables)
            .map(|(table, rows)| (one_line(table), grouped(*rows)))
            .collect(),
        cascades: reach.filter(|reach| reach.cascades > 0).map(|reach| {
            let why =
                if reach.rehearsed { "by foreign keys or triggers" } else { "because foreign keys cascade" };
            format!("{} of them {why}", grouped(reach.cascades))
        }),
        triggers: reach.iter().flat_map(|reach| &reach.triggers).map(|trigger| one_line(trigger)).collect(),
        permits: permits(&console, &record),
        open: record.state == ApprovalState::Waiting,
        closer: console.app.may_look_closer(&record) && forbidden(AnswerVerb::LookCloser).is_none(),
        changeable: if forbidden(AnswerVerb::Narrow).is_none() {
            changeable(&console, &record)
        } else {
            String::new()
        },
        takes_away: takes_away(&console, &record),
        no_approve: forbidden(AnswerVerb::Approve),
        no_refuse: forbidden(AnswerVerb::Refuse),
        barred,
        own_change: record
            .request
            .call
            .narrowed
            .as_ref()
            .is_some_and(|narrowed| narrowed.bars(&signed.person().id)),
        others: batch::like(&record, &waiting).filter(|other| other.request.id != record.request.id).count(),
        deeds_left_out,
        frame,
        detail,
    };
    Ok(Html(page.render()?))
}

/// Writes the arguments of a call to be changed, an argument a line.
fn changeable(console: &Console, record: &ApprovalRecord) -> String {
    if !console.app.may_narrow(record) {
        return String::new();
    }
    serde_json::to_string_pretty(&record.request.call.arguments).unwrap_or_default()
}

/// Says which changes their author may approve, in words such as `you change nothing but limit lower, or `.
fn takes_away(console: &Console, record: &ApprovalRecord) -> String {
    let ways: Vec<String> = console.app.takes_away(record).iter().map(|way| one_line(way)).collect();
    if ways.is_empty() { String::new() } else { format!("you change nothing but {}, or ", ways.join(", ")) }
}

/// Says what an approval permits, and until when.
fn permits(console: &Console, record: &ApprovalRecord) -> String {
    let minutes = console.app.gate().settings().grant_ms.div_ceil(60_000);
    let most = match &record.request.reach {
        Some(reach) => {
            format!("touching no more than was measured, {}", countersign_app::story::touched(reach))
        }
        None => "touching no more rows than its tool may".into(),
    };
    format!(
        "this very call, once, {most}, within {minutes} minutes of the last approval. If the rules, the tool or its reach \
         have changed by then, nothing is done."
    )
}

#[derive(Debug, Deserialize)]
pub(crate) struct Approval {
    digest: String,
    comment: Option<String>,
    /// So many calls like it, and the minutes in which they may run; empty where none are granted.
    grant_calls: Option<String>,
    grant_minutes: Option<String>,
    /// What the page kept while a passkey was asked to confirm it, and what the browser said; empty where none was.
    sealed: Option<String>,
    said: Option<String>,
}

impl Approval {
    /// Reads the answer, with what was sealed and what the browser said where it was confirmed with a passkey.
    pub(crate) fn answer(self) -> Result<(PersonAnswer, Option<(String, String)>), Failure> {
        let grant = self.grant()?;
        let comment = self.comment.filter(|comment| !comment.trim().is_empty());
        let said = self.sealed.zip(self.said).filter(|(_sealed, said)| !said.is_empty());
        Ok((PersonAnswer::Approve { comment, digest: Some(self.digest), grant }, said))
    }

    /// Reads what is granted beside the approval. Nothing is, unless both fields say something.
    fn grant(&self) -> Result<Option<GrantOffer>, Failure> {
        let read = |field: &Option<String>| {
            let text = field.as_deref().unwrap_or_default().trim();
            if text.is_empty() { Ok(None) } else { text.parse::<u32>().map(Some) }
        };
        match (read(&self.grant_calls), read(&self.grant_minutes)) {
            (Ok(None), Ok(_)) => Ok(None),
            (Ok(Some(calls)), Ok(Some(minutes))) => {
                Ok(Some(GrantOffer { calls, ms: u64::from(minutes).saturating_mul(60_000) }))
            }
            (Ok(Some(_)), Ok(None)) | (Err(_), _) | (_, Err(_)) => Err(Failure::new(
                StatusCode::BAD_REQUEST,
                "How many calls, for how long?",
                "what is granted beside the approval is not a number of calls and of minutes; nothing was approved",
            )
            .help("leave the number of calls empty to grant none")),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct GrantEnding {
    reason: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Denial {
    reason: String,
}

/// Approves a request, where it is about the call that was looked at.
pub(crate) async fn approve(
    State(console): State<Console>,
    Path(id): Path<String>,
    Sent { by, form }: Sent<Approval>,
) -> Result<Redirect, Failure> {
    let (approval, said) = form.answer()?;
    answer(&console, &by, &id, approval, said).await
}

/// Refuses a request; the reason reaches the agent.
pub(crate) async fn refuse(
    State(console): State<Console>,
    Path(id): Path<String>,
    Sent { by, form }: Sent<Denial>,
) -> Result<Redirect, Failure> {
    answer(&console, &by, &id, PersonAnswer::Refuse { reason: form.reason }, None).await
}

/// Ends what was granted with a request.
pub(crate) async fn end_grant(
    State(console): State<Console>,
    Path(id): Path<String>,
    Sent { by, form }: Sent<GrantEnding>,
) -> Result<Redirect, Failure> {
    let Ok(id) = ApprovalId::parse(&id) else {
        return Err(Failure::new(StatusCode::NOT_FOUND, "Not found", UNKNOWN));
    };
    console.app.end_grant(by.person(), &id, &form.reason).await?;
    Ok(Redirect::to("/console/grants"))
}

async fn answer(
    console: &Console,
    by: &Signed,
    id: &str,
    answer: PersonAnswer,
    said: Option<(String, String)>,
) -> Result<Redirect, Failure> {
    let record = find_to_answer(console, id, by).await?;
    let (app, accounts) = (&console.app, console.app.accounts());
    let id = &record.request.id;
    match said {
        None => app.answer(by.person(), id, answer, CHANNEL).await?,
        Some((sealed, said)) => {
            let confirmed = accounts.step_up(&by.session, &record, &answer, (&sealed, &said)).await?;
            app.answer_stepped_up(by.person(), id, answer, CHANNEL, confirmed).await?
        }
    };
    Ok(Redirect::to(&format!("/console/requests/{id}")))
}
