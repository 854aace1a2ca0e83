//! What the log says about a call or a session, told as a person would tell it: who asked for what, which
//! rule decided, what was measured, who answered and why, what was done. Each sentence names the entries it
//! stands on, so that it can be checked and proved.
//!
//! Agents and approvers wrote some of the words. These stand in quotes on one line, or behind `|` where they
//! have several, and nothing in them reaches the terminal as a control: no one can write a sentence of ours.

use countersign_rules::Money;
use countersign_store::StoredEntry;
use serde::Serialize;
use serde_json::{Map, Value};

use super::output::grouped;
use crate::{answer::timestamp, text::one_line};

/// How wide the column of times is, with its margins.
const MARGIN: &str = "                ";

/// The story of one call.
#[derive(Debug, Default, Serialize)]
pub(super) struct Story {
    /// The call.
    pub(super) call: String,
    /// Who asked.
    agent: String,
    session: String,
    /// What for.
    tool: String,
    system: Option<String>,
    arguments: Value,
    reason_claimed: Option<String>,
    /// `read`, `write` or `destructive`, as it was seen.
    effect: Option<String>,
    /// What became of it: `proposed`, `waiting`, `approved`, `issued`, or a final word.
    state: String,
    /// Rows touched or returned.
    rows: Option<u64>,
    approved_by: Vec<String>,
    /// The call that took it back.
    undone_by: Option<String>,
    /// In order.
    steps: Vec<Step>,
}

/// One sentence.
#[derive(Debug, Serialize)]
struct Step {
    /// RFC 3339.
    at: String,
    /// The entries that say so.
    entries: Vec<u64>,
    /// The sentence, and what belongs under it.
    text: Vec<String>,
}

/// The story of one agent's session.
#[derive(Debug, Default, Serialize)]
pub(super) struct Session {
    session: String,
    agent: String,
    /// The entry that opened it, when that is in the log.
    opened: Option<Opened>,
    calls: Vec<Story>,
}

/// How a session began.
#[derive(Debug, Serialize)]
struct Opened {
    at: String,
    entry: u64,
    front_door: String,
    client: Option<String>,
    teams: Vec<String>,
    on_behalf_of: Option<String>,
}

/// An entry, read leniently: a later version may say more than we know of.
struct Read {
    index: u64,
    value: Value,
}

impl Read {
    fn new(stored: &StoredEntry) -> Self {
        let value = serde_json::from_slice(&stored.bytes).unwrap_or(Value::Null);
        Self { index: stored.index, value }
    }

    fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer).filter(|found| !found.is_null())
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer).and_then(Value::as_str)
    }

    fn word(&self, pointer: &str) -> String {
        one_line(self.text(pointer).unwrap_or("?"))
    }

    fn number(&self, pointer: &str) -> Option<u64> {
        self.at(pointer).and_then(Value::as_u64)
    }

    fn kind(&self) -> &str {
        self.text("/kind").unwrap_or("?")
    }
}

/// The stories in some entries, one per call, in the order in which the calls came.
pub(super) fn calls(entries: &[StoredEntry]) -> Vec<Story> {
    let mut stories: Vec<Story> = Vec::new();
    let mut places = std::collections::BTreeMap::<String, usize>::new();
    for entry in entries.iter().map(Read::new) {
        let Some(call) = entry.text("/call") else { continue };
        let place = *places.entry(call.to_owned()).or_insert(stories.len());
        if place == stories.len() {
            stories.push(Story { call: call.to_owned(), state: "proposed".into(), ..Story::default() });
        }
        if let Some(story) = stories.get_mut(place) {
            story.tell(&entry);
        }
    }
    stories
}

/// The sessions in some entries, one per agent: two agents may give theirs the same name.
pub(super) fn sessions(entries: &[StoredEntry]) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    let mut of = |agent: &str, session: &str| -> usize {
        if let Some(place) = sessions.iter().position(|known| known.agent == agent) {
            return place;
        }
        sessions.push(Session { session: session.into(), agent: agent.into(), ..Session::default() });
        sessions.len().saturating_sub(1)
    };
    let mut opened = Vec::new();
    for entry in entries.iter().map(Read::new) {
        let (Some(agent), Some(session)) = (entry.text("/agent"), entry.text("/session")) else { continue };
        let place = of(agent, session);
        if entry.kind() == "session_opened" {
            opened.push((place, Opened::new(&entry)));
        }
    }
    for (place, how) in opened {
        if let Some(session) = sessions.get_mut(place) {
            session.opened.get_or_insert(how);
        }
    }
    for story in calls(entries) {
        if let Some(session) = sessions.iter_mut().find(|session| session.agent == story.agent) {
            session.calls.push(story);
        }
    }
    sessions
}

impl Story {
    fn tell(&mut self, entry: &Read) {
        let text = match entry.kind() {
            "call_proposed" => self.proposed(entry),
            "call_rejected" => self.rejected(entry),
            "reach_measured" => {
                let sample = entry.at("/body/sample_commitment").map(|_commitment| {
                    "a sample of the rows was kept for the approvers, beside the log".to_owned()
                });
                let measured = reach(entry.at("/body/reach"));
                let line = format!("its reach was measured without changing anything: {measured}");
                [line].into_iter().chain(sample).collect()
            }
            "decided" => self.decided(entry),
            "refused" => {
                self.state = entry.word("/body/status");
                vec![format!("REFUSED ({}): {}", entry.word("/body/code"), entry.word("/body/message"))]
            }
            "asked" => self.asked(entry),
            "answered" => self.answered(entry),
            "request_ended" => {
                self.state = entry.word("/body/state");
                vec![format!("the request ended {}: {}", self.state, entry.word("/body/why"))]
            }
            "warrant_issued" => self.issued(entry),
            "outcome" => self.ended(entry),
            "in_doubt" => {
                self.state = "in_doubt".into();
                vec![format!("IN DOUBT: {}", entry.word("/body/message"))]
            }
            "doubt_resolved" => {
                let happened = entry.at("/body/happened").and_then(Value::as_bool) == Some(true);
                self.state = if happened { "done_without_result" } else { "failed" }.into();
                let found = if happened { "it happened" } else { "it did not happen" };
                if entry.text("/body/evidence") == Some("system_record") {
                    let rows = entry.number("/body/rows");
                    self.rows = rows.or(self.rows);
                    let rows = rows.map(|rows| format!(", {}", counted(rows))).unwrap_or_default();
                    let system = entry.word("/body/system");
                    vec![format!("the record of system `{system}` itself shows that {found}{rows}")]
                } else if entry.text("/body/evidence") == Some("read") {
                    vec!["its answer was lost; it was a read, and had no effect".to_owned()]
                } else if entry.text("/body/evidence") == Some("sent_again") {
                    let by = entry.word("/body/by");
                    vec![format!(
                        "call `{by}` was sent under its id and is done: it happened once, and is counted there"
                    )]
                } else {
                    let (person, how) = (entry.word("/body/person"), said(entry.at("/body/comment")));
                    vec![format!("`{person}` found that {found}: {how}")]
                }
            }
            "undone" => {
                let by = entry.word("/body/by");
                let person = entry.text("/body/on_behalf_of");
                let person = person.map(|id| format!(", for `{}`", one_line(id))).unwrap_or_default();
                let text = format!("UNDONE by call `{by}` of agent `{}`{person}", entry.word("/agent"));
                self.undone_by = Some(by);
                let mut lines = vec![text];
                if let Some(left) = entry.at("/body/left") {
                    // Names and numbers only: which rows had changed since, and what triggers wrote again.
                    lines.push(one_line(&format!("but for {left}")));
                }
                lines
            }
            // A kind of a later version: what it says, in its own words.
            other => {
                let body = entry.at("/body").map(Value::to_string).unwrap_or_default();
                vec![one_line(&format!("{other}: {body}"))]
            }
        };
        let at = entry.word("/at");
        // What people are asked belongs to the decision that asks, and letting through to the one that allows.
        let joins = matches!(entry.kind(), "asked" | "warrant_issued");
        match self.steps.last_mut() {
            Some(last) if joins => {
                last.entries.push(entry.index);
                last.text.extend(text);
            }
            Some(_) | None => self.steps.push(Step { at, entries: vec![entry.index], text }),
        }
    }

    fn of(&mut self, entry: &Read) {
        self.agent = entry.word("/agent");
        self.session = entry.word("/session");
        self.tool = entry.word("/body/tool");
    }

    fn proposed(&mut self, entry: &Read) -> Vec<String> {
        self.of(entry);
        self.system = entry.text("/body/system").map(one_line);
        self.arguments = entry.at("/body/arguments").cloned().unwrap_or_default();
        self.reason_claimed = entry.text("/body/reason").map(str::to_owned);
        let system = self.system.as_deref().unwrap_or("?");
        let mut text = vec![format!(
            "agent `{}` asked for `{}` on system `{system}`, in session `{}`",
            self.agent, self.tool, self.session
        )];
        text.extend(arguments(self.arguments.as_object()));
        if let Some(bytes) = entry.number("/body/arguments_bytes") {
            let digest = entry.word("/body/arguments_digest");
            text.push(format!(
                "its arguments, {bytes} bytes, are kept as their digest, because it was refused: SHA-256 {digest}"
            ));
        }
        text.push(match entry.at("/body/reason") {
            None => "it gave no reason".into(),
            claim => format!("it claims: {}", said(claim)),
        });
        text
    }

    fn rejected(&mut self, entry: &Read) -> Vec<String> {
        self.of(entry);
        self.state = "rejected".into();
        let (code, message) = (entry.word("/body/code"), entry.word("/body/message"));
        vec![
            format!("agent `{}` asked for `{}`, in session `{}`", self.agent, self.tool, self.session),
            format!("REFUSED, as that is no call ({code}): {message}"),
        ]
    }

    fn decided(&mut self, entry: &Read) -> Vec<String> {
        self.effect = entry.text("/body/facts/effect").map(one_line);
        let effect = self.effect.as_deref().unwrap_or("?");
        let policies = names(entry.at("/body/decision/policies"));
        let by = if policies.is_empty() { String::new() } else { format!(" by policy {policies}") };
        let signers: Vec<String> = entry
            .at("/body/facts/approval/signers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|signer| signer.get(0).and_then(Value::as_str))
            .map(|person| format!("`{}`", one_line(person)))
            .collect();
        let again = if signers.is_empty() {
            String::new()
        } else {
            format!(" again, with the approval of {}", signers.join(", "))
        };
        match entry.text("/body/decision/answer") {
            Some("allow") => vec![format!("decided{again}: ALLOWED as a {effect} call{by}")],
            Some("ask") => {
                self.state = "waiting".into();
                vec![format!("decided{again}: people must approve a {effect} call like this{by}")]
            }
            Some("deny") => {
                self.state = "blocked".into();
                let why = match entry.text("/body/decision/reason/because") {
                    Some("forbidden") => match entry.text("/body/decision/reason/message") {
                        Some(message) => one_line(message),
                        None => "the policy forbids it".into(),
                    },
                    Some("nothing_permits") => "no policy permits it".into(),
                    Some("reach_unknown") => "its reach was not measured, and the policy looks at it".into(),
                    Some(_) | None => entry.word("/body/decision/reason/message"),
                };
                vec![format!("decided{again}: DENIED as a {effect} call{by}: {why}")]
            }
            Some(_) | None => vec![one_line(&format!("decided: {}", entry.value))],
        }
    }

    fn asked(&mut self, entry: &Read) -> Vec<String> {
        self.state = "waiting".into();
        let until = entry.at("/body/expires_ms").and_then(Value::as_i64).and_then(timestamp);
        let until = until.map(|at| format!(", open until {}", clock(&at))).unwrap_or_default();
        let mut text = vec![format!("request `{}`{until}:", entry.word("/body/approval"))];
        for ask in entry.at("/body/of").and_then(Value::as_array).into_iter().flatten() {
            let of = |key: &str| one_line(ask.get(key).and_then(Value::as_str).unwrap_or("?"));
            let quorum = ask.get("quorum").and_then(Value::as_u64).unwrap_or(1);
            let because = match ask.get("because").and_then(Value::as_str) {
                Some(because) => format!(", because {}", one_line(because)),
                None => String::new(),
            };
            text.push(format!("  {quorum} of group `{}` (policy `{}`){because}", of("group"), of("policy")));
        }
        text
    }

    fn answered(&mut self, entry: &Read) -> Vec<String> {
        let person = entry.word("/body/person");
        let approved = entry.at("/body/approved").and_then(Value::as_bool) == Some(true);
        let groups = names(entry.at("/body/groups"));
        let what = if approved { "APPROVED" } else { "REFUSED" };
        let why = entry.at("/body/comment").map(|comment| format!(": {}", said(Some(comment))));
        let channel = entry.word("/body/channel");
        if approved {
            self.approved_by.push(person.clone());
            self.state = "approved".into();
        } else {
            self.state = format!("refused by {person}");
        }
        vec![format!("`{person}` (group {groups}) {what} over {channel}{}", why.unwrap_or_default())]
    }

    fn issued(&mut self, entry: &Read) -> Vec<String> {
        self.state = "issued".into();
        let most = entry.number("/body/limits/rows_max").map(|rows| {
            let tables = entry.at("/body/limits/tables").and_then(Value::as_object);
            let tables: Vec<String> = tables
                .into_iter()
                .flatten()
                .map(|(table, rows)| format!("{rows} in `{}`", one_line(table)))
                .collect();
            let tables = if tables.is_empty() { String::new() } else { format!(" ({})", tables.join(", ")) };
            format!(" to touch {rows} rows at most{tables}")
        });
        let holds: Vec<String> = entry
            .at("/body/holds")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|hold| {
                let amount = hold.get("amount").and_then(Value::as_u64).unwrap_or_default();
                let budget = hold.get("budget").and_then(Value::as_str).unwrap_or("?");
                format!("{amount} of budget `{}`", one_line(budget))
            })
            .collect();
        let reserved =
            if holds.is_empty() { String::new() } else { format!("; reserved: {}", holds.join(", ")) };
        vec![format!("a warrant was recorded{}{reserved}", most.unwrap_or_default())]
    }

    fn ended(&mut self, entry: &Read) -> Vec<String> {
        let status = entry.word("/body/status");
        self.rows = entry.number("/body/rows");
        let rows = self.rows.map(|rows| format!(", {}", counted(rows))).unwrap_or_default();
        let took = entry.number("/body/duration_ms").map(|ms| format!(" after {ms} ms")).unwrap_or_default();
        let money = entry.at("/body/amount").map(|amount| format!(", {}", amount_of(amount)));
        let detail = match (entry.text("/body/detail/message"), entry.text("/body/detail/code")) {
            (Some(message), Some(code)) => format!(" ({}): {}", one_line(code), one_line(message)),
            (Some(message), None) => format!(": {}", one_line(message)),
            (None, _) => String::new(),
        };
        let what = match status.as_str() {
            "done" => "DONE",
            "done_without_result" => "DONE, without a result that could be given on",
            "failed" => "FAILED without effect",
            "in_doubt" => "IN DOUBT: the effect may have happened",
            _ => status.as_str(),
        };
        let mut text = vec![format!("{what}{took}{rows}{}{detail}", money.unwrap_or_default())];
        if let Some(digest) = entry.text("/body/detail/result_digest") {
            text.push(format!("the result has SHA-256 {}", one_line(digest)));
        }
        self.state = status;
        text
    }

    /// What became of it, in a few words.
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

    /// As text, over several lines.
    pub(super) fn told(&self) -> String {
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

impl Opened {
    fn new(entry: &Read) -> Self {
        let list = |pointer: &str| {
            entry.at(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        };
        Self {
            at: entry.word("/at"),
            entry: entry.index,
            front_door: entry.word("/body/front_door"),
            client: entry.text("/body/client").map(one_line),
            teams: list("/body/teams").map(one_line).collect(),
            on_behalf_of: entry.text("/body/on_behalf_of").map(one_line),
        }
    }
}

impl Session {
    /// As text: how it began, a line or two for each call, and what it comes to.
    pub(super) fn told(&self) -> String {
        let mut text = format!("session `{}` of agent `{}`", one_line(&self.session), one_line(&self.agent));
        if let Some(opened) = &self.opened {
            if !opened.teams.is_empty() {
                text.push_str(&format!(" (team {})", opened.teams.join(", ")));
            }
            if let Some(person) = &opened.on_behalf_of {
                text.push_str(&format!(", acting for `{person}`"));
            }
            let client = opened.client.as_ref().map(|client| format!(" by \"{client}\"")).unwrap_or_default();
            text.push_str(&format!(
                "\nopened {} over {}{client}  [{}]",
                opened.at, opened.front_door, opened.entry
            ));
        }
        let mut day = String::new();
        for story in &self.calls {
            let at = story.steps.first().map(|step| step.at.as_str()).unwrap_or_default();
            let today = at.get(..10).unwrap_or_default();
            if today != day {
                text.push_str(&format!("\n\n{today}, times in UTC, log entries in [ ]"));
                day = today.to_owned();
            }
            text.push_str(&format!(
                "\n\n  {:<12}  {} {}: {}  {}",
                clock(at),
                one_line(&story.call),
                story.tool,
                story.end(),
                ranges(&story.entries())
            ));
            for line in arguments(story.arguments.as_object()) {
                text.push_str(&format!("\n{MARGIN}{line}"));
            }
            if let Some(claim) = &story.reason_claimed {
                text.push_str(&format!("\n{MARGIN}it claims: {}", quoted(claim)));
            }
        }
        let performed = self.calls.iter().filter(|story| story.state.starts_with("done")).count();
        let doubt = self.calls.iter().filter(|story| story.state == "in_doubt").count();
        let rows = self.calls.iter().filter_map(|story| story.rows).fold(0_u64, u64::saturating_add);
        text.push_str(&format!(
            "\n\n{} calls: {performed} performed ({}), {doubt} in doubt, {} not performed",
            self.calls.len(),
            counted(rows),
            self.calls.len().saturating_sub(performed).saturating_sub(doubt)
        ));
        text
    }
}

fn counted(rows: u64) -> String {
    if rows == 1 { "1 row".into() } else { format!("{rows} rows") }
}

fn reach(reach: Option<&Value>) -> String {
    let Some(reach) = reach else { return "nothing is said".into() };
    let flag = |key: &str| reach.get(key).and_then(Value::as_bool) == Some(true);
    let number = |key: &str| reach.get(key).and_then(Value::as_u64).unwrap_or_default();
    let triggers =
        reach.get("triggers").and_then(Value::as_array).is_some_and(|triggers| !triggers.is_empty());
    let bound = match (flag("exact"), flag("unbounded") || triggers) {
        (true, _) => "",
        (false, true) => "at least ",
        (false, false) => "at most ",
    };
    let mut text = format!("{bound}{}", touched(reach, number("rows")));
    let tables: Vec<String> = reach
        .get("tables")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(table, rows)| format!("{rows} of `{}`", one_line(table)))
        .collect();
    if !tables.is_empty() {
        text.push_str(&format!(" ({})", tables.join(", ")));
    }
    if number("cascades") > 0 {
        text.push_str(&format!(", {} of these by cascade", number("cascades")));
    }
    if flag("unbounded") {
        text.push_str(", and more that were not counted");
    }
    for trigger in reach.get("triggers").and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!(", trigger {}", said(Some(trigger))));
    }
    if let Some(amount) = reach.get("amount").filter(|amount| !amount.is_null()) {
        text.push_str(&format!(", {}", amount_of(amount)));
    }
    text
}

/// Whether what is counted is what an API calls an object: rows are of tables, which are named.
pub(super) fn of_objects(reach: &Value, number: u64) -> bool {
    number > 0 && reach.get("tables").and_then(Value::as_object).is_none_or(Map::is_empty)
}

/// So many rows or objects, in words.
pub(super) fn touched(reach: &Value, number: u64) -> String {
    match (of_objects(reach, number), number) {
        (true, 1) => "1 object".into(),
        (true, _) => format!("{} objects", grouped(number)),
        (false, 1) => "1 row".into(),
        (false, _) => format!("{} rows", grouped(number)),
    }
}

pub(super) fn amount_of(amount: &Value) -> String {
    match serde_json::from_value::<Money>(amount.clone()) {
        Ok(money) => money.to_string(),
        Err(_of_a_later_version) => one_line(&amount.to_string()),
    }
}

/// Names in backticks.
fn names(list: Option<&Value>) -> String {
    let names = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    names.map(|name| format!("`{}`", one_line(name))).collect::<Vec<_>>().join(", ")
}

/// Arguments, one a line; a text of several lines as a block that nothing in it can leave.
fn arguments(arguments: Option<&Map<String, Value>>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in arguments.into_iter().flatten() {
        match value.as_str() {
            Some(text) if text.contains('\n') => {
                lines.push(format!("  {}:", one_line(name)));
                lines.extend(text.lines().map(|line| format!("    | {}", one_line(line))));
            }
            Some(_) | None => lines.push(format!("  {} = {}", one_line(name), said(Some(value)))),
        }
    }
    lines
}

/// A value that somebody else wrote, as JSON on one line.
fn said(value: Option<&Value>) -> String {
    one_line(&value.map(Value::to_string).unwrap_or_default())
}

fn quoted(text: &str) -> String {
    said(Some(&Value::from(text)))
}

/// The time of day of an instant in RFC 3339.
fn clock(at: &str) -> String {
    at.get(11..23).unwrap_or(at).to_owned()
}

/// Indices as ranges: `[3, 5-7]`.
fn ranges(indices: &[u64]) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for index in indices {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*index) => *last = *index,
            Some(_) | None => ranges.push((*index, *index)),
        }
    }
    let ranges: Vec<String> = ranges
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    format!("[{}]", ranges.join(", "))
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use serde_json::json;

    use super::*;

    fn stored(entries: &[Value]) -> Vec<StoredEntry> {
        entries
            .iter()
            .zip(10..)
            .map(|(entry, index)| StoredEntry { index, bytes: entry.to_string().into_bytes() })
            .collect()
    }

    /// One call to which everything happens that the gate writes of a call, in each form, from the gate's golden files.
    fn everything() -> Vec<StoredEntry> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gate/tests/gate/golden");
        let mut files: Vec<_> = fs::read_dir(golden).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let lines = files.iter().flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
        });
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
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/story.txt");
        let text = told.join("\n\n") + "\n";
        if env::var_os("COUNTERSIGN_WRITE_GOLDEN").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        assert_eq!(fs::read_to_string(golden).unwrap(), text);
    }

    fn entry(kind: &str, body: &Value) -> Value {
        json!({ "v": 1, "at": "2026-03-01T10:00:00.000Z", "kind": kind, "agent": "a", "session": "s",
                "call": "call-1", "body": body })
    }

    fn proposed(arguments: &Value, reason: &str) -> Value {
        let body = json!({ "arguments": arguments, "reason": reason, "system": "shop", "tool": "sql" });
        entry("call_proposed", &body)
    }

    #[test]
    fn what_others_wrote_can_neither_draw_nor_add_a_sentence() {
        let reason = "x\n  10:00:01.000  `alice` (group `dba`) APPROVED over cli\u{1b}[2J\u{202e}\u{2028}";
        let sql = "delete from t\n  10:00:02.000  DONE\r\u{9b}31m";
        let refusal = json!({ "person": "bob", "approved": false, "channel": "rest", "groups": ["dba"],
                              "comment": "no\nand DONE" });
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
        let body = json!({ "person": "bob", "approved": false, "channel": "rest", "groups": ["dba"],
                           "comment": "real invoices" });
        let stories = calls(&stored(&[proposed(&json!({ "n": 1 }), "r"), entry("answered", &body)]));
        let told = stories[0].told();
        assert!(told.starts_with("call-1: `sql` refused by bob\n"), "{told}");
        assert!(told.contains(r#"`bob` (group `dba`) REFUSED over rest: "real invoices"  [11]"#), "{told}");
    }

    #[test]
    fn what_belongs_together_is_one_step_and_unknown_kinds_are_told() {
        let ask =
            json!({ "facts": { "effect": "write" }, "decision": { "answer": "ask", "policies": ["p"] } });
        let asked = json!({ "approval": "apr-1", "of": [{ "group": "g", "quorum": 2, "policy": "p", "because": "b" }] });
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

    #[test]
    fn sessions_of_the_same_name_are_told_apart() {
        let mut other = proposed(&json!({}), "r");
        other["agent"] = json!("b");
        other["call"] = json!("call-2");
        let sessions = sessions(&stored(&[proposed(&json!({}), "r"), other]));
        let agents: Vec<(&str, usize)> =
            sessions.iter().map(|session| (session.agent.as_str(), session.calls.len())).collect();
        assert_eq!(agents, [("a", 1), ("b", 1)]);
    }

    #[test]
    fn indices_are_written_as_ranges() {
        assert_eq!(ranges(&[3, 5, 6, 7, 9]), "[3, 5-7, 9]");
        assert_eq!(ranges(&[]), "[]");
    }
}
