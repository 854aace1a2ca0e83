//! Requests of one agent that are alike, side by side: what they differ in is shown, and one answer is given to those that are
//! ticked.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Html,
};
use countersign_app::{
    approval::PersonAnswer,
    request::reach_words,
    role::Right,
    text::{alike as looks_alike, one_line},
};
use countersign_gate::ledger::ApprovalRecord;
use countersign_rules::{AnswerVerb, ApprovalId, ApprovalState, Reach};
use http::StatusCode;
use serde_json::Value;

use crate::{
    Console,
    failure::Failure,
    frame::Frame,
    request::{CHANNEL, find, may_answer},
    signed::{Sent, Signed},
};

/// A form that says more than this was not made by our page.
const TICKED_MAX: usize = 100;

#[derive(Template)]
#[template(path = "batch.html")]
struct Page {
    frame: Frame,
    first: String,
    tool: String,
    agent: String,
    /// These arguments are the same in each of them.
    same: Vec<(String, String)>,
    /// These are not.
    differing: Vec<String>,
    lines: Vec<Line>,
    /// Letters in them that look like others.
    careful: Option<String>,
}

/// One request of several.
struct Line {
    id: String,
    digest: String,
    /// The values of the arguments that are not the same in all, in their order.
    values: Vec<String>,
    reach: String,
    claim: String,
    /// It reaches no further than the one that the page was opened from: only then it is ticked beforehand.
    within: bool,
    /// Why the person may not approve it, where a policy forbids that; it is not ticked beforehand either.
    no_approve: Option<String>,
}

/// Returns those of the requests that wait which are like one that waits: of the same agent and session, about the same version
/// of the tool and a call of the same shape, and asking the same people. The one itself is among them.
pub(crate) fn like<'a>(
    one: &'a ApprovalRecord,
    waiting: &'a [ApprovalRecord],
) -> impl Iterator<Item = &'a ApprovalRecord> {
    let open = one.state == ApprovalState::Waiting;
    waiting.iter().filter(move |other| {
        open && other.state == ApprovalState::Waiting
            && other.request.alike.is_some_and(|alike| one.request.grants(&other.request.call, alike.shape))
            && other.request.of == one.request.of
            && other.effect == one.effect
    })
}

/// Shows the requests that are like one, and what they differ in.
pub(crate) async fn show(
    State(console): State<Console>,
    signed: Signed,
    Path(id): Path<String>,
) -> Result<Html<String>, Failure> {
    signed.person().may(Right::Answer)?;
    let record = find(&console, &id, &signed).await?;
    let (frame, waiting) = console.frame(&signed, "inbox").await?;
    let alike: Vec<&ApprovalRecord> = like(&record, &waiting).collect();
    let names: BTreeSet<&str> =
        alike.iter().flat_map(|one| argument_names(&one.request.call.arguments)).collect();
    let value_of = |one: &ApprovalRecord, name: &str| shown(one.request.call.arguments.get(name));
    let (same, differing): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| {
        alike
            .iter()
            .all(|one| one.request.call.arguments.get(name) == record.request.call.arguments.get(name))
    });
    let no_approve = |one: &ApprovalRecord| {
        let said = console.app.policies_let(one, signed.person(), AnswerVerb::Approve);
        said.err().map(|why| one_line(&why.message))
    };
    let written: Vec<String> = alike.iter().map(|one| one.request.call.arguments.to_string()).collect();
    let page = Page {
        first: record.request.id.to_string(),
        tool: one_line(record.request.call.tool.as_str()),
        agent: one_line(record.request.call.requester.agent.as_str()),
        same: same.iter().map(|name| (one_line(name), value_of(&record, name))).collect(),
        lines: alike
            .iter()
            .map(|one| Line {
                id: one.request.id.to_string(),
                digest: one.request.call.digest.to_string(),
                values: differing.iter().map(|name| value_of(one, name)).collect(),
                reach: one.request.reach.as_ref().map_or_else(|| "not measured".into(), reach_words),
                claim: one.request.call.reason.as_deref().map(one_line).unwrap_or_default(),
                within: is_within(one.request.reach.as_ref(), record.request.reach.as_ref()),
                no_approve: no_approve(one),
            })
            .collect(),
        differing: differing.iter().map(|name| one_line(name)).collect(),
        careful: looks_alike(&written.join("\n")),
        frame,
    };
    Ok(Html(page.render()?))
}

fn argument_names(arguments: &Value) -> impl Iterator<Item = &str> {
    arguments.as_object().into_iter().flat_map(|members| members.keys().map(String::as_str))
}

/// Writes a value in full, on one line.
fn shown(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(value) => one_line(&value.to_string()),
    }
}

/// What was not measured is within nothing, nor is anything within it.
fn is_within(reach: Option<&Reach>, first: Option<&Reach>) -> bool {
    reach.zip(first).is_some_and(|(reach, first)| reach.within(first))
}

#[derive(Template)]
#[template(path = "batch_done.html")]
struct Done {
    frame: Frame,
    approved: bool,
    lines: Vec<Answered>,
    counted: usize,
}

/// What became of the answer to one of the requests.
struct Answered {
    id: String,
    /// Why it does not count, where it does not.
    why: Option<String>,
}

/// Gives one answer to every request that was ticked. Each counts by itself, as if it had been given alone.
pub(crate) async fn answer(
    State(console): State<Console>,
    Path(id): Path<String>,
    Sent { by, form }: Sent<BTreeMap<String, String>>,
) -> Result<Html<String>, Failure> {
    by.person().may(Right::Answer)?;
    find(&console, &id, &by).await?;
    let said = |name: &str| form.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
    let approved = match form.get("answer").map(String::as_str) {
        Some("approve") => true,
        Some("refuse") => false,
        Some(_) | None => return Err(nothing("the form does not say whether to approve or refuse")),
    };
    if !approved && said("said").is_none() {
        return Err(nothing("a refusal has no reason").help("say why not: the agent is told"));
    }
    let ticked: Vec<(ApprovalId, &String)> =
        form.iter().filter_map(|(name, digest)| Some((ApprovalId::parse(name).ok()?, digest))).collect();
    let ticked: Vec<_> = ticked.into_iter().filter(|(id, _)| id.as_str().starts_with("apr-")).collect();
    if ticked.is_empty() || ticked.len() > TICKED_MAX {
        return Err(nothing("no request is ticked, or more than a page can have"));
    }
    let mut lines = Vec::with_capacity(ticked.len());
    for (id, digest) in ticked {
        let comment = said("said").map(str::to_owned);
        let answer = if approved {
            PersonAnswer::Approve { comment, digest: Some(digest.clone()), grant: None }
        } else {
            PersonAnswer::Refuse { reason: comment.unwrap_or_default() }
        };
        let why = console.answer_one(&by, &id, answer).await.err();
        lines.push(Answered { id: id.to_string(), why });
    }
    let counted = lines.iter().filter(|line| line.why.is_none()).count();
    let (frame, _waiting) = console.frame(&by, "inbox").await?;
    Ok(Html(Done { frame, approved, lines, counted }.render()?))
}

impl Console {
    /// Gives an answer, or tells in words why it does not count.
    async fn answer_one(&self, by: &Signed, id: &ApprovalId, answer: PersonAnswer) -> Result<(), String> {
        let told = |refusal: countersign_rules::Refusal| one_line(&refusal.message);
        let record = self.app.approval(id, &by.principal()).await.map_err(told)?;
        may_answer(self, by, &record).await.map_err(told)?;
        self.app.answer(by.person(), id, answer, CHANNEL).await.map(drop).map_err(told)
    }
}

fn nothing(why: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "Nothing was answered", why)
}
