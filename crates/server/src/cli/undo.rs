//! `countersign undo`: taking back what a call did, through the gate.

use std::collections::BTreeMap;

use countersign_api::{OnChange, Undoing};
use countersign_app::{
    answer::{AnswerBody, DoneBody},
    text::{one_line, visible},
};
use countersign_tools::UndoReply;
use serde::Deserialize as _;

use super::{
    Outcome, Output,
    approvals::segment,
    client::{Connect, unsuccessful},
};

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
        let body = Undoing {
            on_change: if self.skip_changed { OnChange::Skip } else { OnChange::Refuse },
            rewritten: self.rewritten,
            reason: self.reason,
            session: None,
            wait_ms: Some(self.wait_ms),
        };
        match self.connect.client()?.posted(&path, &body, None).await?.answer(out)? {
            AnswerBody::Done(done) => {
                out.line(told(&self.call, &done));
                Ok(())
            }
            AnswerBody::Pending(pending) => Err(out.pending(&pending)),
            AnswerBody::Refused(refused) => Err(unsuccessful(&refused)),
        }
    }
}

/// What was put back, and what was not.
fn told(call: &str, answer: &DoneBody) -> String {
    let Ok(undone) = UndoReply::deserialize(&answer.result) else {
        // A server of another version tells something else.
        return visible(&format!("call `{}` is undone: {}", one_line(call), answer.result));
    };
    let tables = |tables: &BTreeMap<String, u64>| -> Vec<String> {
        tables.iter().map(|(table, rows)| format!("{rows} in `{}`", one_line(table))).collect()
    };
    let restored = tables(&undone.restored);
    let restored = if restored.is_empty() {
        "nothing had to be put back".into()
    } else {
        format!("put back {}", restored.join(", "))
    };
    let mut lines = vec![format!("call `{}` is undone: {restored}", one_line(call))];
    let changed = tables(&undone.changed_since);
    if !changed.is_empty() {
        lines.push(format!("   changed since, and left as they are: {}", changed.join(", ")));
        lines.extend(undone.examples.iter().map(|example| format!("      {}", one_line(example))));
    }
    for (table, columns) in &undone.rewritten {
        for (column, rows) in columns {
            let (table, column) = (one_line(table), one_line(column));
            lines.push(format!(
                "   not as before, because a trigger wrote it: `{column}` in {rows} rows of `{table}`"
            ));
        }
    }
    for (table, columns) in &undone.counters {
        let columns: Vec<String> = columns.iter().map(|column| format!("`{}`", one_line(column))).collect();
        let (columns, table) = (columns.join(", "), one_line(table));
        lines.push(format!(
            "   not put back: the counter of {columns} in `{table}`, which goes on from where it is"
        ));
    }
    let undo = one_line(answer.call.as_str());
    lines.push(format!("   this was call `{undo}`, which can be undone as well"));
    visible(&lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_what_was_not_put_back() {
        let answer = json!({"status": "done", "call": "call-2", "approval": null, "rows": 3, "result": {
            "undone": "call-1",
            "restored": {"invoice": 3},
            "changed_since": {"line": 1},
            "examples": ["line (7)"],
            "rewritten": {"invoice": {"updated_at": 3}},
            "counters": {"invoice": ["id", "no"]},
        }});
        let answer = serde_json::from_value(answer).unwrap();
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
