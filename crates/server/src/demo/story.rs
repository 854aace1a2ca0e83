//! What the demo prints, as a person would tell it.

use std::{
    io::{BufRead as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::people::Person;
use countersign_app::text::grouped;

/// How long a newcomer may think before the demo ends.
const PATIENCE: Duration = Duration::from_secs(14 * 60);

/// How often it is looked whether somebody has answered elsewhere.
const LOOK: Duration = Duration::from_millis(500);

/// The narrator.
pub(crate) struct Story {
    /// Whether a newcomer sits at a terminal.
    interactive: bool,
    /// This program, for those who type its commands.
    program: PathBuf,
    /// What they type, line by line, from the first question on. One reader for the whole story: one per question
    /// would go on reading after another terminal has answered, and take the answer to the next.
    typed: Option<UnboundedReceiver<String>>,
}

/// How a request was answered.
pub(crate) enum Asked {
    /// By somebody, in whichever way: it is settled already.
    Answered(bool),
    /// By the newcomer here, perhaps with a remark: it must be passed on.
    Said(bool, Option<String>),
    /// By nobody in time.
    Expired,
    /// Nobody is there to ask.
    Nobody,
}

impl Story {
    pub(crate) const fn new(interactive: bool, program: PathBuf) -> Self {
        Self { interactive, program, typed: None }
    }

    pub(crate) fn opening(&self, folder: &Path, records: u64) {
        say(&format!(
            "\nA billing database stands in {}: {} records of production data.\n\
             An agent may use it, through Countersign only. It was told:\n\n\
             \x20   \"Clean up the test billing records from last month.\"\n",
            folder.join("billing.db").display(),
            grouped(records)
        ));
    }

    pub(crate) fn connected(&self, tools: &[String]) {
        say(&format!(
            "The agent connects over MCP, with its own key, and is offered {}.\n",
            tools.join(", ")
        ));
    }

    pub(crate) fn read(&self, summary: &Value) {
        let row = find(summary, "rows").and_then(|rows| rows.get(0)).cloned().unwrap_or_default();
        let records = row.get("records").and_then(Value::as_u64).map_or_else(|| "some".into(), grouped);
        say(&format!(
            "1. It looks around: get_customer_billing_summary(\"Alder Ltd\")\n\
             \x20  allowed (a read), {records} records. Nobody had to be asked.\n"
        ));
    }

    pub(crate) fn blocked(&self, sql: &str, answer: &Value, reach: &Value, left: u64) {
        say(&format!(
            "2. It reasons its way to\n\n\x20     {sql}\n\n\
             \x20  Parsed: destructive. Measured, without touching anything: {}.\n\
             \x20  BLOCKED before anything ran. The agent is told:\n\
             \x20    {}\n\
             \x20    ({})\n\
             \x20  Records in the table: {}. Nothing is gone, and nobody was woken up for it.\n",
            shown(reach),
            text(answer, "message"),
            policies(answer),
            grouped(left)
        ));
    }

    pub(crate) fn held(&self, step: u8, sql: &str, request: &Value, left: u64) {
        let reach = request.get("reach").map_or_else(|| "nothing".into(), shown);
        let because = request.pointer("/of/0/because").and_then(Value::as_str).unwrap_or("a policy asks");
        let group = request.pointer("/of/0/group").and_then(Value::as_str).unwrap_or("?");
        say(&format!(
            "{step}. It proposes\n\n\x20     {sql}\n\n\
             \x20  HELD as request {}: somebody of `{group}` must approve, because {because}.\n\
             \x20  Measured, without touching anything: {reach}.\n\
             \x20  The agent claims: \"{}\"\n\
             \x20  Records in the table: {}.\n",
            text(request, "approval"),
            text(request, "reason_claimed"),
            grouped(left)
        ));
    }

    /// Asks the newcomer, who may as well answer in a second terminal.
    pub(crate) async fn ask(&mut self, ana: &Person, approval: &str, folder: &Path) -> anyhow::Result<Asked> {
        if !self.interactive {
            return Ok(Asked::Nobody);
        }
        say(&format!(
            "   You are ana. Type a to approve or r to refuse, and after it why if you like. Or open a second terminal:\n\
             \x20     cd {}\n\
             \x20     alias countersign={}\n\
             \x20     export COUNTERSIGN_KEY=$(cat ana.key)\n\
             \x20     countersign approvals show {approval}\n\
             \x20     countersign approvals approve {approval}      (or: refuse {approval} --reason \"why\")",
            folder.display(),
            self.program.display()
        ));
        let typed = self.typed.get_or_insert_with(lines);
        // What was typed before the question is no answer to it.
        while typed.try_recv().is_ok() {}
        prompt();
        let mut looks = tokio::time::interval(LOOK);
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        let mut listening = true;
        loop {
            tokio::select! {
                line = typed.recv(), if listening => match line.as_deref().map(answer) {
                    Some(Some((approve, remark))) => return Ok(Asked::Said(approve, remark)),
                    Some(None) => {
                        say("   Type a to approve or r to refuse.");
                        prompt();
                    }
                    // The terminal is closed; somebody may still answer in another one.
                    None => listening = false,
                },
                _ = looks.tick() => {
                    let approve = match text(&ana.request(approval).await?, "state").as_str() {
                        "waiting" => continue,
                        "expired" => {
                            say("\n   Nobody answered in time: the request has expired.");
                            return Ok(Asked::Expired);
                        }
                        "refused" => false,
                        _ => true,
                    };
                    let word = if approve { "APPROVED" } else { "REFUSED" };
                    say(&format!("\n   {word} in the second terminal."));
                    return Ok(Asked::Answered(approve));
                }
                () = &mut patience => anyhow::bail!("nobody answered; the folder stays, and so does the request"),
            }
        }
    }

    pub(crate) fn answered(&self, approve: bool, comment: &str) {
        let word = if approve { "APPROVES" } else { "REFUSES" };
        say(&format!("   ana {word}: \"{comment}\""));
    }

    pub(crate) fn told(&self, answer: &Value) {
        let status = text(answer, "status");
        let more = match status.as_str() {
            "done" | "" => {
                let rows = find(answer, "rows_changed").or_else(|| find(answer, "row_count"));
                let rows = rows.and_then(Value::as_u64).unwrap_or_default();
                format!("{} rows touched, cascades included", grouped(rows))
            }
            _ => text(answer, "message"),
        };
        say(&format!(
            "   The agent is told: {} — {more}.\n",
            if status.is_empty() { "done" } else { &status }
        ));
    }

    pub(crate) fn counted(&self, before: u64, after: u64) {
        say(&format!("   Records in the table: {} before, {} after.\n", grouped(before), grouped(after)));
    }

    pub(crate) fn undoing(&self, call: &str, request: &str) {
        say(&format!(
            "5. The auditors still need the test records. casey, who gave the goal, types\n\n\
             \x20     countersign undo {call}\n\n\
             \x20  Undoing is a call as well: HELD as request {request}, because casey cannot approve it. ana APPROVES."
        ));
    }

    pub(crate) fn undone(&self, answer: &Value, before: u64, after: u64) {
        let tables = answer.pointer("/result/restored").and_then(Value::as_object);
        let tables: Vec<String> = tables
            .into_iter()
            .flatten()
            .map(|(table, rows)| format!("{} of {table}", rows.as_u64().map_or_else(|| "?".into(), grouped)))
            .collect();
        say(&format!(
            "   Every row is as it was: {} put back.\n   Records in the table: {} before, {} after.\n",
            tables.join(", "),
            grouped(before),
            grouped(after)
        ));
    }

    pub(crate) fn closing(&self, folder: &Path, request: &str, log: &str) {
        say(&format!(
            "The log, checked from its first entry to its signed checkpoint:\n{}\n\n\
             The folder is yours to go on with:\n\
             \x20  cd {}\n\
             \x20  alias countersign={}\n\
             \x20  countersign serve                         the same server (MCP at /mcp, REST at /v1)\n\
             \x20  countersign audit show {request}   the last request, told from the log\n\
             \x20  countersign audit verify                  check it again\n\
             \x20  $EDITOR policies/billing.cedar            change a rule, then: countersign check\n\
             agent.key, ana.key and casey.key hold the keys. README.md explains the folder.",
            indent(log),
            folder.display(),
            self.program.display()
        ));
    }
}

/// A reach in words: all rows, and which of them where.
fn shown(reach: &Value) -> String {
    let number = |value: &Value| value.as_u64().map_or_else(|| "?".into(), grouped);
    let tables: Vec<String> = reach
        .get("tables")
        .and_then(Value::as_object)
        .map(|tables| tables.iter().map(|(table, rows)| format!("{} of {table}", number(rows))).collect())
        .unwrap_or_default();
    let rows = reach.get("rows").map_or_else(|| "?".into(), number);
    match tables.as_slice() {
        [] => format!("{rows} rows"),
        tables => format!("{rows} rows ({})", tables.join(", ")),
    }
}

fn policies(answer: &Value) -> String {
    let names: Vec<&str> = answer
        .get("policies")
        .and_then(Value::as_array)
        .map(|all| all.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    match names.as_slice() {
        [] => text(answer, "help"),
        names => format!("Rule: {}. {}", names.join(", "), text(answer, "help")),
    }
}

/// A field of an answer, or of the result in it.
fn find<'a>(answer: &'a Value, field: &str) -> Option<&'a Value> {
    answer.get(field).or_else(|| answer.get("result").and_then(|result| result.get(field)))
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn indent(lines: &str) -> String {
    lines.lines().map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n")
}

/// What a typed line answers: whether it approves, and what is said with it.
fn answer(line: &str) -> Option<(bool, Option<String>)> {
    let line = line.trim();
    let (word, remark) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let approve = match word.to_ascii_lowercase().as_str() {
        "a" | "approve" => true,
        "r" | "refuse" => false,
        _ => return None,
    };
    let remark = remark.trim();
    Some((approve, (!remark.is_empty()).then(|| remark.to_owned())))
}

/// The lines of standard input as they come, read by a thread that ends with the process.
fn lines() -> UnboundedReceiver<String> {
    let (send, typed) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if send.send(line).is_err() {
                return;
            }
        }
    });
    typed
}

#[expect(clippy::print_stdout, reason = "the story is the output")]
fn prompt() {
    print!("   > ");
    drop(std::io::stdout().flush());
}

#[expect(clippy::print_stdout, reason = "the story is the output")]
fn say(text: &str) {
    println!("{text}");
    // A closed pipe ends the telling, not the demo.
    drop(std::io::stdout().flush());
}
