//! What the demo prints, as a person would tell it.

use std::{
    io::{BufRead as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use countersign_app::{
    answer::{DoneBody, RefusedBody},
    request::RequestDetail,
    text::grouped,
};
use countersign_rules::{ApprovalId, ApprovalState, CallId, PolicyId, Reach};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{agent::Heard, people::Person};

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
        let row = summary.get("rows").and_then(|rows| rows.get(0));
        let records = row.and_then(|row| row.get("records")?.as_u64()).map_or_else(|| "some".into(), grouped);
        say(&format!(
            "1. It looks around: get_customer_billing_summary(\"Alder Ltd\")\n\
             \x20  allowed (a read), {records} records. Nobody had to be asked.\n"
        ));
    }

    pub(crate) fn blocked(&self, sql: &str, answer: &RefusedBody, reach: &Reach, left: u64) {
        say(&format!(
            "2. It reasons its way to\n\n\x20     {sql}\n\n\
             \x20  Parsed: destructive. Measured, without touching anything: {}.\n\
             \x20  BLOCKED before anything ran. The agent is told:\n\
             \x20    {}\n\
             \x20    ({})\n\
             \x20  Records in the table: {}. Nothing is gone, and nobody was woken up for it.\n",
            shown(reach),
            answer.message,
            policies(answer),
            grouped(left)
        ));
    }

    pub(crate) fn held(&self, step: u8, sql: &str, request: &RequestDetail, left: u64) {
        let reach = request.reach.as_ref().map_or_else(|| "nothing".into(), shown);
        let asked = request.request.of.first();
        let because = asked.and_then(|ask| ask.because.as_deref()).unwrap_or("a policy asks");
        let group = asked.map_or("?", |ask| ask.group.as_str());
        say(&format!(
            "{step}. It proposes\n\n\x20     {sql}\n\n\
             \x20  HELD as request {}: somebody of `{group}` must approve, because {because}.\n\
             \x20  Measured, without touching anything: {reach}.\n\
             \x20  The agent claims: \"{}\"\n\
             \x20  Records in the table: {}.\n",
            request.request.approval,
            request.reason_claimed.as_deref().unwrap_or_default(),
            grouped(left)
        ));
    }

    /// Asks the newcomer, who may as well answer in a second terminal.
    pub(crate) async fn ask(
        &mut self,
        ana: &Person,
        approval: &ApprovalId,
        folder: &Path,
    ) -> anyhow::Result<Asked> {
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
                    let approve = match ana.request(approval).await?.request.state {
                        ApprovalState::Waiting => continue,
                        ApprovalState::Expired => {
                            say("\n   Nobody answered in time: the request has expired.");
                            return Ok(Asked::Expired);
                        }
                        ApprovalState::Refused => false,
                        state @ (ApprovalState::Superseded | ApprovalState::Blocked) => {
                            anyhow::bail!("the request ended without an answer ({state:?}); the folder stays")
                        }
                        ApprovalState::Approved
                        | ApprovalState::Executing
                        | ApprovalState::Done
                        | ApprovalState::Failed
                        | ApprovalState::InDoubt => true,
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

    /// Tells what the agent hears, which must be what was answered.
    pub(crate) fn told(&self, heard: &Heard, approved: bool) -> anyhow::Result<()> {
        let (status, more) = if approved {
            let reply = heard.done()?;
            let rows = reply.get("rows_changed").or_else(|| reply.get("row_count"));
            let rows = rows.and_then(Value::as_u64).unwrap_or_default();
            ("done", format!("{} rows touched, cascades included", grouped(rows)))
        } else {
            ("refused", heard.refused("refused")?.message.clone())
        };
        say(&format!("   The agent is told: {status} — {more}.\n"));
        Ok(())
    }

    pub(crate) fn counted(&self, before: u64, after: u64) {
        say(&format!("   Records in the table: {} before, {} after.\n", grouped(before), grouped(after)));
    }

    pub(crate) fn undoing(&self, call: &CallId, request: &ApprovalId) {
        say(&format!(
            "5. The auditors still need the test records. casey, who gave the goal, types\n\n\
             \x20     countersign undo {call}\n\n\
             \x20  Undoing is a call as well: HELD as request {request}, because casey cannot approve it. ana APPROVES."
        ));
    }

    pub(crate) fn undone(&self, answer: &DoneBody, before: u64, after: u64) {
        let tables = answer.result.get("restored").and_then(Value::as_object);
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

    pub(crate) fn closing(&self, folder: &Path, request: &ApprovalId, log: &str) {
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
fn shown(reach: &Reach) -> String {
    let tables: Vec<String> =
        reach.tables.iter().map(|(table, rows)| format!("{} of {table}", grouped(*rows))).collect();
    let rows = grouped(reach.rows);
    match tables.as_slice() {
        [] => format!("{rows} rows"),
        tables => format!("{rows} rows ({})", tables.join(", ")),
    }
}

fn policies(answer: &RefusedBody) -> String {
    let help = answer.help.as_deref().unwrap_or_default();
    let names: Vec<&str> = answer.policies.iter().map(PolicyId::as_str).collect();
    match names.as_slice() {
        [] => help.to_owned(),
        names => format!("Rule: {}. {help}", names.join(", ")),
    }
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
