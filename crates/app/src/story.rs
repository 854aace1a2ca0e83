//! This tells what the log says about a call or a session, as a person would tell it: who asked for what, which
//! rule decided, what was measured, who answered and why, what was done. Each sentence names the entries it
//! stands on, so that it can be checked and proved.
//!
//! Agents and approvers wrote some of the words. These stand in quotes on one line, or behind `|` where they
//! have several, and nothing in them reaches the terminal as a control: no one can write a sentence of ours.

mod deed;
#[cfg(test)]
mod golden;
mod line;
mod read;
mod session;
mod words;

use countersign_gate::entry::{
    Answered, Asked, CallProposed, CallRejected, Decided, DoubtEvidence, DoubtResolved, End, Outcome,
    ReachMeasured, Told, Undone, WarrantIssued,
};
use countersign_rules::{Decision, DenyReason};
use countersign_store::StoredEntry;
use serde::Serialize;
use serde_json::Value;

pub use self::{
    deed::{Deed, deeds},
    line::{EntryLine, entry_line, line},
    session::{Opened, Session, sessions},
    words::{of_objects, touched},
};
use self::{
    read::{Read, by_call},
    words::{arguments, calls_like_it, clock, counted, granted, names, quoted, ranges, reach},
};
use crate::{answer::timestamp, text::one_line};

/// The column of times is this wide, with its margins.
const MARGIN: &str = "                ";

/// This is the story of one call.
#[derive(Debug, Default, Serialize)]
pub struct Story {
    /// The call has this id.
    pub call: String,
    /// This agent asked.
    pub agent: String,
    /// The agent asked in this session.
    pub session: String,
    /// The agent asked for this tool.
    pub tool: String,
    /// The tool acts on this system.
    pub system: Option<String>,
    /// The agent asked with these arguments.
    pub arguments: Value,
    /// The agent claims that the call is for this.
    pub reason_claimed: Option<String>,
    /// The call was seen to have this effect: `read`, `write` or `destructive`.
    pub effect: Option<String>,
    /// The call has come to this: `proposed`, `waiting`, `approved`, `issued`, or a final word.
    pub state: String,
    /// The call touched or returned so many rows.
    pub rows: Option<u64>,
    /// These people approved it.
    pub approved_by: Vec<String>,
    /// This call took it back.
    pub undone_by: Option<String>,
    /// The steps stand in order.
    pub steps: Vec<StoryStep>,
}

/// A step is one sentence.
#[derive(Debug, Serialize)]
pub struct StoryStep {
    /// It happened at this time (RFC 3339).
    pub at: String,
    /// These entries say so.
    pub entries: Vec<u64>,
    /// This is the sentence, and what belongs under it.
    pub text: Vec<String>,
}

/// Returns the stories in some entries, one per call, in the order in which the calls came.
pub fn calls(entries: &[StoredEntry]) -> Vec<Story> {
    let begin =
        |call: &str, _: &Read| Story { call: call.to_owned(), state: "proposed".into(), ..Story::default() };
    by_call(entries, begin, Story::tell)
}

impl Story {
    fn tell(&mut self, entry: &Read) {
        let text = match &entry.told {
            Some(Told::CallProposed(told)) => self.proposed(entry, told),
            Some(Told::CallRejected(told)) => self.rejected(entry, told),
            Some(Told::ReachMeasured(told)) => measured(told),
            Some(Told::Decided(told)) => self.decided(told),
            Some(Told::Refused(told)) => {
                self.state = one_line(&told.status);
                vec![format!("REFUSED ({}): {}", told.code.as_str(), one_line(&told.message))]
            }
            Some(Told::Asked(told)) => self.asked(entry, told),
            Some(Told::Answered(told)) => self.answered(told),
            Some(Told::RequestEnded(told)) => {
                self.state = told.state.as_str().to_owned();
                vec![format!("the request ended {}: {}", self.state, one_line(&told.why))]
            }
            Some(Told::LookedCloser(told)) => {
                vec![format!("{} had it run and rolled back, to see what it touches", told.person)]
            }
            Some(Told::GrantGiven(told)) => vec![granted(told)],
            Some(Told::GrantEnded(told)) => {
                vec![format!("{} ended the grant: {}", told.by, one_line(&told.why))]
            }
            Some(Told::WarrantIssued(told)) => self.issued(told),
            Some(Told::Outcome(told)) => self.ended(told),
            Some(Told::InDoubt(told)) => {
                self.state = "in_doubt".into();
                vec![format!("IN DOUBT: {}", one_line(&told.message))]
            }
            Some(Told::DoubtResolved(told)) => self.resolved(told),
            Some(Told::Undone(told)) => self.undone(entry, told),
            // Of no call, or of a later version: what it says, in its own words.
            Some(
                Told::SessionOpened(_)
                | Told::RefusalsCounted(_)
                | Told::Halted(_)
                | Told::Resumed(_)
                | Told::EvidenceErased(_),
            )
            | None => {
                let body = entry.body().map(Value::to_string).unwrap_or_default();
                vec![one_line(&format!("{}: {body}", entry.kind()))]
            }
        };
        // What people are asked belongs to the decision that asks, and letting through to the one that allows.
        let joins = matches!(&entry.told, Some(Told::Asked(_) | Told::WarrantIssued(_)));
        match self.steps.last_mut() {
            Some(last) if joins => {
                last.entries.push(entry.index);
                last.text.extend(text);
            }
            Some(_) | None => {
                self.steps.push(StoryStep { at: entry.word("at"), entries: vec![entry.index], text });
            }
        }
    }

    fn of(&mut self, entry: &Read, tool: &str) {
        self.agent = entry.word("agent");
        self.session = entry.word("session");
        self.tool = one_line(tool);
    }

    fn proposed(&mut self, entry: &Read, told: &CallProposed<'_>) -> Vec<String> {
        self.of(entry, told.tool.as_str());
        let system = one_line(told.system.as_str());
        self.arguments = told.arguments.clone().into_owned();
        self.reason_claimed = told.reason.as_deref().map(str::to_owned);
        let mut text = vec![format!(
            "agent `{}` asked for `{}` on system `{system}`, in session `{}`",
            self.agent, self.tool, self.session
        )];
        self.system = Some(system);
        if let Some(narrowed) = &told.narrowed {
            let why = narrowed.why.as_ref().map(|why| format!(": {}", quoted(why)));
            let (by, from) = (one_line(narrowed.by.as_str()), one_line(narrowed.from.as_str()));
            text.push(format!(
                "`{by}` made it out of what request `{from}` was about{}",
                why.unwrap_or_default()
            ));
        }
        text.extend(arguments(self.arguments.as_object()));
        if let (Some(bytes), Some(digest)) = (told.arguments_bytes, &told.arguments_digest) {
            text.push(format!(
                "its arguments, {bytes} bytes, are kept as their digest, because it was refused: SHA-256 {}",
                one_line(digest)
            ));
        }
        text.push(match &told.reason {
            None => "it gave no reason".into(),
            Some(claim) => format!("it claims: {}", quoted(claim)),
        });
        text
    }

    fn rejected(&mut self, entry: &Read, told: &CallRejected<'_>) -> Vec<String> {
        self.of(entry, &told.tool);
        self.state = "rejected".into();
        vec![
            format!("agent `{}` asked for `{}`, in session `{}`", self.agent, self.tool, self.session),
            format!("REFUSED, as that is no call ({}): {}", told.code.as_str(), one_line(&told.message)),
        ]
    }

    fn decided(&mut self, told: &Decided<'_>) -> Vec<String> {
        let effect = told.facts.effect.to_string();
        let signers = told.facts.approval.iter().flat_map(|approval| &approval.signers);
        let signers = names(signers.map(|(person, _groups)| person.as_str()));
        let again = match signers.is_empty() {
            true => String::new(),
            false => format!(" again, with the approval of {signers}"),
        };
        let policies = names(told.decision.policies().iter().map(|policy| policy.as_str()));
        let by = if policies.is_empty() { String::new() } else { format!(" by policy {policies}") };
        let line = match &*told.decision {
            Decision::Allow(_) => format!("decided{again}: ALLOWED as a {effect} call{by}"),
            Decision::Ask(_) => {
                self.state = "waiting".into();
                format!("decided{again}: people must approve a {effect} call like this{by}")
            }
            Decision::Deny(deny) => {
                self.state = "blocked".into();
                format!("decided{again}: DENIED as a {effect} call{by}: {}", because(&deny.reason))
            }
        };
        self.effect = Some(effect);
        vec![line]
    }

    fn asked(&mut self, entry: &Read, told: &Asked<'_>) -> Vec<String> {
        self.state = "waiting".into();
        let until = timestamp(told.expires_ms).map(|at| format!(", open until {}", clock(&at)));
        let mut text = vec![format!("request `{}`{}:", entry.approval(), until.unwrap_or_default())];
        for ask in told.of.iter() {
            let because = match &ask.because {
                Some(because) => format!(", because {}", one_line(because)),
                None => String::new(),
            };
            let (group, policy) = (one_line(ask.group.as_str()), one_line(ask.policy.as_str()));
            text.push(format!("  {} of group `{group}` (policy `{policy}`){because}", ask.quorum));
        }
        text
    }

    fn answered(&mut self, told: &Answered<'_>) -> Vec<String> {
        let person = one_line(told.person.as_str());
        let groups = names(told.groups.iter().map(|group| group.as_str()));
        let what = if told.approved { "APPROVED" } else { "REFUSED" };
        let why = told.comment.as_ref().map(|comment| format!(": {}", quoted(comment)));
        let (channel, why) = (one_line(&told.channel), why.unwrap_or_default());
        let grant =
            told.grant.map(|terms| format!(", granting {}", calls_like_it(terms))).unwrap_or_default();
        let passkey = line::confirmed(told);
        let line = format!("`{person}` (group {groups}) {what} over {channel}{passkey}{grant}{why}");
        if told.approved {
            self.approved_by.push(person);
            self.state = "approved".into();
        } else {
            self.state = format!("refused by {person}");
        }
        vec![line]
    }

    fn issued(&mut self, told: &WarrantIssued<'_>) -> Vec<String> {
        self.state = "issued".into();
        let tables = told.limits.tables.iter().flatten();
        let tables: Vec<String> =
            tables.map(|(table, rows)| format!("{rows} in `{}`", one_line(table))).collect();
        let tables = if tables.is_empty() { String::new() } else { format!(" ({})", tables.join(", ")) };
        let holds = told.holds.iter();
        let holds: Vec<String> =
            holds.map(|held| format!("{} of budget `{}`", held.amount, one_line(&held.budget))).collect();
        let reserved =
            if holds.is_empty() { String::new() } else { format!("; reserved: {}", holds.join(", ")) };
        let by = told.grant.as_ref().map(|request| format!(" under the grant given with `{request}`"));
        let by = by.unwrap_or_default();
        let most = told.limits.rows_max;
        vec![format!("a warrant was recorded{by} to touch {most} rows at most{tables}{reserved}")]
    }

    fn ended(&mut self, told: &Outcome<'_>) -> Vec<String> {
        self.state = told.end.status().to_owned();
        self.rows = told.rows;
        let rows = told.rows.map(|rows| format!(", {}", counted(rows))).unwrap_or_default();
        let money = told.amount.map(|amount| format!(", {amount}")).unwrap_or_default();
        let (what, detail) = match &told.end {
            End::Done { .. } => ("DONE", String::new()),
            End::DoneWithoutResult { message } => {
                ("DONE, without a result that could be given on", format!(": {}", one_line(message)))
            }
            End::Failed { code, message } => {
                ("FAILED without effect", format!(" ({}): {}", code.as_str(), one_line(message)))
            }
            End::SentAgain { by, message } => {
                ("DONE once", format!(", by call `{}`: {}", one_line(by.as_str()), one_line(message)))
            }
            End::InDoubt { message } => {
                ("IN DOUBT: the effect may have happened", format!(": {}", one_line(message)))
            }
        };
        let mut text = vec![format!("{what} after {} ms{rows}{money}{detail}", told.duration_ms)];
        if let End::Done { result_digest: Some(digest) } = &told.end {
            text.push(format!("the result has SHA-256 {}", one_line(digest)));
        }
        text
    }

    fn resolved(&mut self, told: &DoubtResolved<'_>) -> Vec<String> {
        self.state = if told.happened { "done_without_result" } else { "failed" }.into();
        let found = if told.happened { "it happened" } else { "it did not happen" };
        vec![match &told.evidence {
            DoubtEvidence::SystemRecord { system, rows, .. } => {
                self.rows = rows.or(self.rows);
                let rows = rows.map(|rows| format!(", {}", counted(rows))).unwrap_or_default();
                let system = one_line(system.as_str());
                format!("the record of system `{system}` itself shows that {found}{rows}")
            }
            DoubtEvidence::Read { .. } => "its answer was lost; it was a read, and had no effect".to_owned(),
            DoubtEvidence::SentAgain { by, .. } => format!(
                "call `{}` was sent under its id and is done: it happened once, and is counted there",
                one_line(by.as_str())
            ),
            DoubtEvidence::Person { person, comment } => {
                format!("`{}` found that {found}: {}", one_line(person.as_str()), quoted(comment))
            }
        }]
    }

    fn undone(&mut self, entry: &Read, told: &Undone<'_>) -> Vec<String> {
        let by = one_line(told.by.as_str());
        let person = told.on_behalf_of.as_ref().map(|id| format!(", for `{}`", one_line(id.as_str())));
        let agent = entry.word("agent");
        let mut lines =
            vec![format!("UNDONE by call `{by}` of agent `{agent}`{}", person.unwrap_or_default())];
        self.undone_by = Some(by);
        if let Some(left) = &told.left {
            // Names and numbers only: which rows had changed since, and what triggers wrote again.
            lines.push(one_line(&format!("but for {left}")));
        }
        lines
    }

    /// Says what became of the call, in a few words.
    fn end(&self) -> String {
        let mut end = self.state.replace('_', " ");
        if let Some(rows) = self.rows {
            end.push_str(&format!(", {}", counted(rows)));
        }
        if !self.approved_by.is_empty() {
            end.push_str(&format!(", approved by {}", self.approved_by.join(", ")));
        }
        if let Some(by) = &self.undone_by {
            end.push_str(&format!(", undone by {by}"));
        }
        end
    }

    fn entries(&self) -> Vec<u64> {
        self.steps.iter().flat_map(|step| step.entries.iter().copied()).collect()
    }

    /// Writes the story as text, over several lines.
    pub fn told(&self) -> String {
        let day = self.steps.first().and_then(|step| step.at.get(..10)).unwrap_or_default().to_owned();
        let mut text = format!(
            "{}: `{}` {}\n{day}, times in UTC, log entries in [ ]\n",
            one_line(&self.call),
            self.tool,
            self.end()
        );
        for step in &self.steps {
            let at = if step.at.starts_with(&day) { clock(&step.at) } else { step.at.clone() };
            let lines = step.text.len().saturating_sub(1);
            for (number, line) in step.text.iter().enumerate() {
                let margin = if number == 0 { format!("  {at:<12}  ") } else { MARGIN.to_owned() };
                let entries =
                    if number == lines { format!("  {}", ranges(&step.entries)) } else { String::new() };
                text.push_str(&format!("\n{margin}{line}{entries}"));
            }
        }
        text
    }
}

fn measured(told: &ReachMeasured<'_>) -> Vec<String> {
    let mut text = vec![format!("its reach was measured without changing anything: {}", reach(&told.reach))];
    if told.sample_commitment.is_some() {
        text.push("a sample of the rows was kept for the approvers, beside the log".into());
    }
    text
}

fn because(reason: &DenyReason) -> String {
    match reason {
        DenyReason::Forbidden { message: None } => "the policy forbids it".into(),
        DenyReason::NothingPermits => "no policy permits it".into(),
        DenyReason::ReachUnknown => "its reach was not measured, and the policy looks at it".into(),
        DenyReason::Forbidden { message: Some(message) }
        | DenyReason::EvaluationError { message }
        | DenyReason::InvalidRequest { message } => one_line(message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(entries: &[Value]) -> Vec<StoredEntry> {
        entries
            .iter()
            .zip(10..)
            .map(|(entry, index)| StoredEntry { index, bytes: entry.to_string().into_bytes() })
            .collect()
    }

    /// One call to which everything happens that the gate writes of a call, in each form.
    fn everything() -> Vec<StoredEntry> {
        let lines = golden::entries().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        let of_one_call = lines.map(|mut entry| {
            if entry.get("call").is_some() {
                entry["call"] = json!("call-1");
            }
            entry
        });
        stored(&of_one_call.collect::<Vec<_>>())
    }

    #[test]
    fn the_story_is_told_in_the_words_that_it_was_told_in() {
        let entries = everything();
        let sessions = sessions(&entries);
        let told: Vec<String> = calls(&entries)
            .iter()
            .map(|story| story.told() + "\n" + &serde_json::to_string_pretty(story).unwrap())
            .chain(
                sessions
                    .iter()
                    .map(|session| session.told() + "\n" + &serde_json::to_string_pretty(session).unwrap()),
            )
            .collect();
        golden::holds("story.txt", &(told.join("\n\n") + "\n"));
    }

    #[test]
    fn an_entry_is_told_in_one_line_and_hidden_by_nothing_in_it() {
        let mut entries = everything();
        let odd = [
            entry("later", &json!({ "new": "\u{1b}[2J\n\u{202e}" })),
            entry("decided", &json!({ "decision": "later" })),
            json!({ "kind": "halted" }),
            json!([7]),
        ];
        entries.extend(stored(&odd));
        entries.push(StoredEntry { index: 99, bytes: b"no JSON".to_vec() });
        let lines: Vec<String> = entries.iter().map(line).collect();
        assert!(lines.iter().all(|line| !line.chars().any(char::is_control)));
        golden::holds("lines.txt", &(lines.join("\n") + "\n"));
    }

    fn entry(kind: &str, body: &Value) -> Value {
        json!({ "v": 1, "at": "2026-03-01T10:00:00.000Z", "kind": kind, "agent": "a", "session": "s",
                "call": "call-1", "body": body })
    }

    fn proposed(arguments: &Value, reason: &str) -> Value {
        let body = json!({ "arguments": arguments, "reason": reason, "system": "shop", "tool": "sql", "version": "v1",
                           "digest": "a".repeat(64) });
        entry("call_proposed", &body)
    }

    fn refused(comment: &str) -> Value {
        json!({ "person": "bob", "approved": false, "channel": "rest", "groups": ["dba"], "comment": comment,
                "digest": "a".repeat(64) })
    }

    #[test]
    fn what_others_wrote_can_neither_draw_nor_add_a_sentence() {
        let reason = "x\n  10:00:01.000  `alice` (group `dba`) APPROVED over cli\u{1b}[2J\u{202e}\u{2028}";
        let sql = "delete from t\n  10:00:02.000  DONE\r\u{9b}31m";
        let refusal = refused("no\nand DONE");
        let entries =
            stored(&[proposed(&json!({ "sql": sql, "n\nm": 1 }), reason), entry("answered", &refusal)]);
        let stories = calls(&entries);
        let sessions = sessions(&entries);
        for told in [stories[0].told(), sessions[0].told()] {
            assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{told:?}");
            assert!(!told.contains(['\u{202e}', '\u{2028}']), "{told:?}");
            for line in told.lines() {
                assert!(!line.starts_with("  10:00:01") && !line.starts_with("  10:00:02"), "{told}");
            }
            assert!(told.contains("    |   10:00:02.000  DONE"), "{told}");
        }
    }

    #[test]
    fn a_refusal_names_who_and_why() {
        let body = refused("real invoices");
        let stories = calls(&stored(&[proposed(&json!({ "n": 1 }), "r"), entry("answered", &body)]));
        let told = stories[0].told();
        assert!(told.starts_with("call-1: `sql` refused by bob\n"), "{told}");
        assert!(told.contains(r#"`bob` (group `dba`) REFUSED over rest: "real invoices"  [11]"#), "{told}");
    }

    #[test]
    fn what_belongs_together_is_one_step_and_unknown_kinds_are_told() {
        let of = json!([{ "group": "g", "quorum": 2, "policy": "p", "because": "b", "deadline_ms": 1 }]);
        let none = json!({ "calls": 0, "writes": 0, "destructive": 0, "rows": 0 });
        let bundle = "b".repeat(64);
        let ask = json!({
            "id": "dec-1", "bundle": bundle, "decision": { "answer": "ask", "policies": ["p"], "of": of },
            "facts": { "effect": "write", "categories": [], "reversible": false, "session": none, "agent_today": none,
                       "now_ms": 0 },
        });
        let asked = json!({ "approval": "apr-1", "decision": "dec-1", "bundle": bundle, "digest": "a".repeat(64),
                            "reach": null, "of": of, "expires_ms": 0 });
        let entries = stored(&[
            proposed(&json!({}), "r"),
            entry("decided", &ask),
            entry("asked", &asked),
            entry("foreseen_later", &json!({ "x": "\u{1b}" })),
        ]);
        let story = &calls(&entries)[0];
        let steps: Vec<&[u64]> = story.steps.iter().map(|step| step.entries.as_slice()).collect();
        assert_eq!(steps, [&[10][..], &[11, 12], &[13]]);
        let told = story.told();
        assert!(told.contains("2 of group `g` (policy `p`), because b  [11-12]"), "{told}");
        assert!(told.contains("foreseen_later") && !told.contains('\u{1b}'), "{told}");
    }
}
