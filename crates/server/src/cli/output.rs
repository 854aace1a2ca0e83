//! What commands print: text for people, or one JSON value per line.

use std::io::{self, Write as _};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use countersign_rules::Refusal;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    config::Problems,
    text::{one_line, visible},
};

/// Where a command prints.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON is wanted.
    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    /// Bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        // Whoever stopped reading knows what they wanted; there is nobody left to tell.
        drop(io::stdout().lock().write_all(bytes));
    }

    /// A line for people.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            self.raw(format!("{}\n", text.as_ref()).as_bytes());
        }
    }

    /// A value, when JSON is wanted.
    pub(crate) fn value(&self, value: &impl Serialize) {
        if self.json {
            self.always(value);
        }
    }

    /// A value as one line of JSON, whatever is wanted.
    pub(crate) fn always(&self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            self.raw(format!("{text}\n").as_bytes());
        }
    }

    /// A table for people.
    pub(crate) fn table(&self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        if self.json {
            return;
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header.iter().map(|name| name.to_uppercase()));
        let mut empty = true;
        for row in rows {
            empty = false;
            table.add_row(row.into_iter().map(|cell| one_line(&cell)));
        }
        if empty {
            self.line("none");
        } else {
            let text: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
            self.line(text.join("\n"));
        }
    }

    /// A line on standard error, for people who watch.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        drop(writeln!(io::stderr().lock(), "{}", text.as_ref()));
    }

    pub(crate) fn refusal(&self, refusal: &Refusal) {
        if self.json {
            self.always(&json!({ "error": refusal }));
            return;
        }
        // Agents, upstreams and people wrote some of these words.
        let mut text = format!("refused: {}\n", one_line(&refusal.to_string()));
        if let Some(help) = &refusal.help {
            text.push_str(&format!("   help: {}\n", one_line(help)));
        }
        text.push_str(&format!("   code: {}", refusal.code.as_str()));
        self.note(text);
    }

    pub(crate) fn failure(&self, why: &anyhow::Error) {
        if self.json {
            let chain: Vec<String> = why.chain().map(ToString::to_string).collect();
            self.always(&json!({ "error": { "message": chain.join(": ") } }));
            return;
        }
        self.note(format!("failed: {}", visible(&format!("{why:#}"))));
    }

    pub(crate) fn problems(&self, problems: &Problems) {
        if self.json {
            let list: Vec<Value> = problems
                .problems
                .iter()
                .map(|problem| {
                    json!({
                        "file": problem.file,
                        "help": problem.help,
                        "line": problem.line(),
                        "message": problem.message,
                        "span": problem.span().map(|span| json!([span.start, span.end])),
                    })
                })
                .collect();
            self.always(&json!({ "error": { "message": problems.to_string(), "problems": list } }));
            return;
        }
        let mut text = String::new();
        let handler = miette::GraphicalReportHandler::new();
        if handler.render_report(&mut text, problems).is_err() {
            text = problems.to_string();
        }
        self.note(text);
    }
}

/// A number with its thousands apart: `14,200`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        let left = digits.len().saturating_sub(at);
        if at > 0 && left.is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
