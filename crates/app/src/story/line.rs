//! An entry in one line.

use countersign_gate::entry::{Answered, CallProposed, Outcome, Told};
use countersign_rules::{Decision, PolicyId};
use countersign_store::StoredEntry;
use serde_json::Value;

use super::{
    read::Read,
    words::{calls_like_it, granted, names, reach},
};
use crate::text::one_line;

/// An entry, in the parts of one line. What is not there is `-`.
#[derive(Debug)]
pub struct EntryLine {
    /// The entry has this index.
    pub index: u64,
    /// The entry was recorded at this time (RFC 3339).
    pub at: String,
    /// The entry is of this kind.
    pub kind: String,
    /// The entry is about this agent.
    pub agent: String,
    /// The entry is about this session.
    pub session: String,
    /// The entry is about this call.
    pub call: String,
    /// The entry says this, in short.
    pub gist: String,
}

/// Returns what an entry says, in parts, each on one line.
#[must_use]
pub fn entry_line(stored: &StoredEntry) -> EntryLine {
    let entry = Read::new(stored);
    let word = |field: &str| one_line(entry.text(field).unwrap_or("-"));
    EntryLine {
        index: entry.index,
        at: word("at"),
        kind: word("kind"),
        agent: word("agent"),
        session: word("session"),
        call: word("call"),
        gist: one_line(&gist(&entry)),
    }
}

/// Returns what an entry says, in one line for people: its index, when, its kind, of whose call, and the gist.
#[must_use]
pub fn line(stored: &StoredEntry) -> String {
    let EntryLine { index, at, kind, agent, call, gist, .. } = entry_line(stored);
    format!("{index:>6} {at} {kind:<16} {agent} {call} {gist}")
}

fn gist(entry: &Read) -> String {
    match &entry.told {
        Some(Told::CallProposed(told)) => proposed(told),
        Some(Told::Decided(told)) => decided(&told.decision),
        Some(Told::Answered(told)) => answered(told),
        Some(Told::LookedCloser(told)) => {
            format!("by {}: {}", told.person, reach(&told.reach))
        }
        Some(Told::GrantGiven(told)) => granted(told),
        Some(Told::GrantEnded(told)) => format!("by {}: {}", told.by, told.why),
        Some(Told::ReachMeasured(told)) => reach(&told.reach),
        Some(Told::Outcome(told)) => ended(told),
        Some(Told::Refused(told)) => format!("{} {}", told.code.as_str(), told.message),
        Some(Told::CallRejected(told)) => format!("{} {}", told.code.as_str(), told.message),
        Some(
            Told::Asked(_)
            | Told::RequestEnded(_)
            | Told::WarrantIssued(_)
            | Told::InDoubt(_)
            | Told::DoubtResolved(_)
            | Told::Undone(_)
            | Told::SessionOpened(_)
            | Told::RefusalsCounted(_)
            | Told::Halted(_)
            | Told::Resumed(_)
            | Told::EvidenceErased(_),
        )
        | None => entry.body().map(Value::to_string).unwrap_or_default(),
    }
}

fn proposed(told: &CallProposed<'_>) -> String {
    let arguments = match &told.arguments_digest {
        Some(digest) => format!("(arguments kept as SHA-256 {digest})"),
        None => told.arguments.to_string(),
    };
    let changed = told.narrowed.as_ref().map(|narrowed| format!(" changed by {}", narrowed.by));
    let (changed, claim) = (changed.unwrap_or_default(), told.reason.as_deref().unwrap_or("-"));
    format!("{} {arguments}{changed} because (claimed): {claim}", told.tool)
}

fn decided(decision: &Decision) -> String {
    let by = names(decision.policies().iter().map(PolicyId::as_str));
    if by.is_empty() { decision.as_str().to_owned() } else { format!("{} by {by}", decision.as_str()) }
}

fn answered(told: &Answered<'_>) -> String {
    let what = if told.approved { "approved" } else { "refused" };
    let grant = told.grant.map(|terms| format!(", granting {}", calls_like_it(terms))).unwrap_or_default();
    let passkey = confirmed(told);
    let said = told.comment.as_deref().unwrap_or("-");
    format!("{what} by {} ({}){passkey}{grant}: {said}", told.person, told.channel)
}

/// Says that a passkey confirmed an answer, where one did.
pub(super) const fn confirmed(told: &Answered<'_>) -> &'static str {
    if told.passkey.is_some() { ", confirmed with a passkey" } else { "" }
}

fn ended(told: &Outcome<'_>) -> String {
    let status = told.end.status();
    told.rows.map_or_else(|| status.to_owned(), |rows| format!("{status}, {rows} rows"))
}
