//! What commands print: text for people, or one JSON value per line.

use std::io::{self, IsTerminal as _, Write as _};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use countersign_app::{
    answer::PendingBody,
    text::{one_line, visible},
};
use countersign_rules::Refusal;
use serde::Serialize;
use serde_json::{Value, json};
use textwrap::{Options, WordSeparator, WordSplitter};
use unicode_width::UnicodeWidthStr as _;

use super::Failure;
use crate::config::Mistakes;

/// Where a command prints.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    /// The columns of the terminal; none where something else reads.
    width: Option<usize>,
    colour: bool,
}

/// The width of a terminal that does not tell.
const WIDTH: usize = 80;
/// Between two columns of a table.
const GAP: &str = "  ";
/// Before what belongs to a row that did not fit on one line.
const INDENT: &str = "    ";

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let width = io::stdout()
            .is_terminal()
            .then(|| terminal_size::terminal_size().map_or(WIDTH, |(width, _)| usize::from(width.0)));
        let colour = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self { json, width, colour }
    }

    /// Whether a person reads at a terminal.
    pub(crate) const fn terminal(&self) -> bool {
        self.width.is_some()
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

    /// Long text for people: at a terminal its lines are broken between words, and go on behind their own margin.
    pub(crate) fn text(&self, text: &str) {
        match self.width {
            Some(width) => self.line(wrapped(text, width)),
            None => self.line(text),
        }
    }

    /// A table for people. Where a terminal is too narrow for it, each row becomes a few lines.
    pub(crate) fn table(&self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        if self.json {
            return;
        }
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
        if rows.is_empty() {
            self.line("none");
            return;
        }
        let head: Vec<String> = header.iter().map(|name| name.to_uppercase()).collect();
        let mut widths: Vec<usize> = head.iter().map(|name| name.width()).collect();
        for row in &rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(cell.width());
            }
        }
        let gaps = GAP.len().saturating_mul(widths.len());
        let natural = widths.iter().sum::<usize>().saturating_add(gaps);
        if self.width.is_some_and(|width| natural > width.saturating_add(GAP.len())) {
            for row in &rows {
                self.line(self.block(header, row));
            }
            return;
        }
        self.line(self.row(&head, &widths, Style::new().bold()));
        for row in &rows {
            self.line(self.row(row, &widths, Style::new()));
        }
    }

    fn row(&self, cells: &[String], widths: &[usize], style: Style) -> String {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            let style = if style == Style::new() { meaning(cell) } else { style };
            line.push_str(&format!("{}{pad}{GAP}", self.styled(cell, style)));
        }
        line.trim_end().to_owned()
    }

    /// A row as its first cell, and the others by name on lines of their own.
    fn block(&self, header: &[&str], row: &[String]) -> String {
        let mut cells = header.iter().zip(row);
        let first = cells.next().map(|(_, cell)| cell.clone()).unwrap_or_default();
        let named: Vec<String> = cells
            .filter(|(_, cell)| !matches!(cell.as_str(), "" | "-"))
            // What belongs together stays on one line.
            .map(|(name, cell)| format!("{name}\u{a0}{}", cell.replace(' ', "\u{a0}")))
            .collect();
        let width = self.width.unwrap_or(WIDTH);
        let rest = wrapped(&format!("{INDENT}{}", named.join(" · ")), width).replace('\u{a0}', " ");
        let mut lines = vec![self.styled(&first, Style::new().bold())];
        lines.extend(rest.lines().map(|line| {
            let parts = line.split(" · ").map(|part| {
                let (name, cell) = part.rsplit_once(' ').unwrap_or(("", part));
                let style = meaning(cell);
                if style == Style::new() {
                    part.to_owned()
                } else {
                    format!("{name} {}", self.styled(cell, style))
                }
            });
            parts.collect::<Vec<_>>().join(" · ")
        }));
        lines.join("\n")
    }

    fn styled(&self, text: &str, style: Style) -> String {
        if self.colour && style != Style::new() { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// What is to be done about an answer that waits for people; the command ends with that.
    pub(super) fn pending(&self, pending: &PendingBody) -> Failure {
        let (request, next) = (one_line(pending.approval.as_str()), one_line(&pending.next));
        self.text(&format!("pending: request `{request}`\n   {next}"));
        Failure::Pending
    }

    /// When something was or will be: by the distance, with the local time beside it, for people at a terminal;
    /// otherwise as it was given, in UTC (RFC 3339).
    pub(crate) fn moment(&self, at: &str) -> String {
        if self.terminal() { super::moment::near(at).unwrap_or_else(|| at.to_owned()) } else { at.to_owned() }
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
        let red = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
        let style = if red { AnsiColor::Red.on_default().bold() } else { Style::new() };
        let mut text = format!("{style}refused:{style:#} {}\n", one_line(&refusal.to_string()));
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

    pub(crate) fn mistakes(&self, mistakes: &Mistakes) {
        if self.json {
            let list: Vec<Value> = mistakes
                .mistakes
                .iter()
                .map(|mistake| {
                    json!({
                        "file": mistake.file,
                        "help": mistake.help,
                        "line": mistake.line(),
                        "message": mistake.message,
                        "span": mistake.span().map(|span| json!([span.start, span.end])),
                    })
                })
                .collect();
            self.always(&json!({ "error": { "message": mistakes.to_string(), "problems": list } }));
            return;
        }
        let mut text = String::new();
        let handler = miette::GraphicalReportHandler::new();
        if handler.render_report(&mut text, mistakes).is_err() {
            text = mistakes.to_string();
        }
        self.note(text);
    }
}

/// What a word of ours means: red for no, yellow for what waits, green for yes.
fn meaning(word: &str) -> Style {
    match word {
        "refused" | "blocked" | "failed" | "deny" | "expired" | "superseded" | "halted"
        | "budget_exhausted" | "rate_limited" | "destructive" | "revoked" => AnsiColor::Red.on_default(),
        "waiting" | "pending" | "ask" | "executing" | "open" | "in_doubt" | "write" | "unknown" => {
            AnsiColor::Yellow.on_default()
        }
        "done" | "approved" | "allow" => AnsiColor::Green.on_default(),
        _ => Style::new(),
    }
}

/// Breaks lines between words; what goes on stands behind the line's own margin.
fn wrapped(text: &str, width: usize) -> String {
    let lines = text.lines().map(|line| {
        if line.width() <= width {
            return line.to_owned();
        }
        let margin = " ".repeat(line.len().saturating_sub(line.trim_start().len()).min(20));
        // What others wrote on several lines stands behind a bar, and stays there.
        let margin = margin + if line.trim_start().starts_with('|') { "| " } else { "  " };
        let options = Options::new(width)
            .subsequent_indent(&margin)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation);
        textwrap::fill(line, options)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(width: usize) -> Output {
        Output { json: false, width: Some(width), colour: false }
    }

    #[test]
    fn a_row_that_does_not_fit_becomes_lines_that_do() {
        let row =
            ["apr-tswfcw2799cd", "waiting", "assistant", "query_billing", "destructive", "10", "approvers"];
        let head = ["request", "state", "agent", "tool", "effect", "rows", "asked of"];
        let block = terminal(60).block(&head, &row.map(str::to_owned));
        assert!(block.starts_with("apr-tswfcw2799cd\n    state waiting · agent assistant"), "{block}");
        assert!(block.lines().all(|line| line.width() <= 60), "{block}");
        for word in row {
            assert!(block.contains(word), "{block}");
        }
    }

    #[test]
    fn long_lines_are_broken_between_words_behind_their_margin() {
        let told = wrapped("  05:22  one two three four five six", 20);
        assert_eq!(told, "  05:22  one two\n    three four five\n    six");
        assert_eq!(wrapped("    | aaa bbb ccc ddd", 14), "    | aaa bbb\n    | ccc ddd");
        let word = "x".repeat(50);
        assert!(wrapped(&format!("  {word}"), 20).lines().all(|line| line.width() <= 20));
    }

    #[test]
    fn colour_follows_meaning_and_is_off_where_it_is_not_wanted() {
        let mut output = terminal(80);
        assert_eq!(output.styled("refused", meaning("refused")), "refused");
        output.colour = true;
        assert!(output.styled("refused", meaning("refused")).contains("\u{1b}[31m"));
        assert_eq!(output.styled("assistant", meaning("assistant")), "assistant");
    }
}
