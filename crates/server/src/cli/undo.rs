//! `countersign undo`: taking back what a call did, through the gate.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Failure, Outcome, Output,
    approvals::segment,
    client::{Connect, refusal, text, unsuccessful},
};
use countersign_app::text::{one_line, visible};

/// `countersign undo`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Undoing is a call itself: the policies decide, and where they ask, another person approves. Give the \
                  same command again to see what became of it. Rows that changed since the call are reported; nothing \
                  is undone then, unless --skip-changed leaves those rows as they are and undoes the others."
)]
pub(super) struct Undo {
    /// The call to undo
    call: String,
    /// Leave rows as they are that changed since, and undo the others
    #[arg(long)]
    skip_changed: bool,
    /// Columns that may differ afterwards because triggers write them, as `column` or `table.column`
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    rewritten: Vec<String>,
    /// Why, for the record and the approver
    #[arg(long)]
    reason: Option<String>,
    /// How long to wait for people, in milliseconds
    #[arg(long, default_value_t = 0)]
    wait_ms: u64,
    #[command(flatten)]
    connect: Connect,
}

impl Undo {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let path = format!("/v1/calls/{}/undo", segment(&self.call));
        let body = json!({
            "on_change": if self.skip_changed { "skip" } else { "refuse" },
            "reason": self.reason,
            "rewritten": self.rewritten,
            "wait_ms": self.wait_ms,
        });
        let reply = self.connect.client()?.reply(Method::POST, &path, Some(&body)).await?;
        out.value(&reply.body);
        match reply.status {
            StatusCode::OK => {
                out.line(told(&self.call, &reply.body));
                Ok(())
            }
            StatusCode::ACCEPTED => {
                let next = one_line(&text(&reply.body, "/next"));
                let request = one_line(&text(&reply.body, "/approval"));
                out.text(&format!("pending: request `{request}`\n   {next}"));
                Err(Failure::Pending)
            }
            _ if out.json() => Err(unsuccessful(&reply)),
            _ => Err(Failure::Refused(Box::new(refusal(&reply)))),
        }
    }
}

/// What was put back, and what was not.
fn told(call: &str, answer: &Value) -> String {
    let tables = |pointer: &str| -> Vec<String> {
        let tables = answer.pointer(pointer).and_then(Value::as_object);
        tables.into_iter().flatten().map(|(table, rows)| format!("{rows} in `{}`", one_line(table))).collect()
    };
    let restored = tables("/result/restored");
    let restored = if restored.is_empty() {
        "nothing had to be put back".into()
    } else {
        format!("put back {}", restored.join(", "))
    };
    let mut lines = vec![format!("call `{}` is undone: {restored}", one_line(call))];
    let changed = tables("/result/changed_since");
    if !changed.is_empty() {
        lines.push(format!("   changed since, and left as they are: {}", changed.join(", ")));
        let examples = answer.pointer("/result/examples").and_then(Value::as_array).into_iter().flatten();
        lines
            .extend(examples.filter_map(Value::as_str).map(|example| format!("      {}", one_line(example))));
    }
    let rewritten = answer.pointer("/result/rewritten").and_then(Value::as_object).into_iter().flatten();
    for (table, columns) in rewritten {
        for (column, rows) in columns.as_object().into_iter().flatten() {
            let (table, column) = (one_line(table), one_line(column));
            lines.push(format!(
                "   not as before, because a trigger wrote it: `{column}` in {rows} rows of `{table}`"
            ));
        }
    }
    let counters = answer.pointer("/result/counters").and_then(Value::as_object).into_iter().flatten();
    for (table, columns) in counters {
        let columns: Vec<String> = columns
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|column| format!("`{}`", one_line(column)))
            .collect();
        let (columns, table) = (columns.join(", "), one_line(table));
        lines.push(format!(
            "   not put back: the counter of {columns} in `{table}`, which goes on from where it is"
        ));
    }
    let undo = one_line(&text(answer, "/call"));
    lines.push(format!("   this was call `{undo}`, which can be undone as well"));
    visible(&lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_not_put_back() {
        let answer = json!({"call": "call-2", "result": {
            "restored": {"invoice": 3},
            "changed_since": {"line": 1},
            "examples": ["line (7)"],
            "rewritten": {"invoice": {"updated_at": 3}},
            "counters": {"invoice": ["id", "no"]},
        }});
        let expected = [
            "call `call-1` is undone: put back 3 in `invoice`",
            "   changed since, and left as they are: 1 in `line`",
            "      line (7)",
            "   not as before, because a trigger wrote it: `updated_at` in 3 rows of `invoice`",
            "   not put back: the counter of `id`, `no` in `invoice`, which goes on from where it is",
            "   this was call `call-2`, which can be undone as well",
        ];
        assert_eq!(told("call-1", &answer).lines().collect::<Vec<_>>(), expected);
    }
}
