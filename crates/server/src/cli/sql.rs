//! `countersign sql`: what statements do, without any database.

use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use countersign_audit::{StrictError, from_slice_strict};
use countersign_sql::{Dialect, Explained, Known, LENGTH_MAX, Snapshot, SqlError, check_extension, explain};
use serde::Serialize;
use serde_json::Value;

use crate::bundle;
use countersign_app::text::visible;

use super::{Failure as Ended, Outcome, Output};

/// Longest line of JSON Lines that is read, in bytes: a statement of the longest kind, escaped.
const LINE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Sql {
    /// Classify a statement, or JSON Lines `{"id","sql"}` from standard input
    #[command(
        after_help = "With --json, standard input is one statement or JSON Lines: objects with `sql` and, if you like, `id`.\n\
                            Each line is answered by one line, in order and at once:\n\
                            {\"id\", \"effect\", \"categories\", \"statements\", \"tables\", \"functions\", \"reasons\"} or\n\
                            {\"id\", \"error\": {\"code\", \"message\", \"position\"}}; a line that is no such object has the id null.\n\n\
                            Exit codes: 0 when it was classified, 1 when it cannot be, 2 when it cannot be read or answered.\n\
                            Of JSON Lines errors are answers: 0 when every line was answered."
    )]
    Explain {
        /// Whose SQL it is
        #[arg(long)]
        dialect: DialectWord,
        /// A catalog snapshot of the database (`countersign system inspect SYSTEM --out FILE`)
        #[arg(long, value_name = "FILE")]
        catalog: Option<PathBuf>,
        /// Bundled extensions that a PostgreSQL database has, such as `citext,ltree`, or `standard` for all
        #[arg(long, value_name = "NAMES", value_delimiter = ',')]
        extensions: Vec<String>,
        /// The statement; standard input if not given
        statement: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum DialectWord {
    Postgres,
    Sqlite,
}

impl From<DialectWord> for Dialect {
    fn from(word: DialectWord) -> Self {
        match word {
            DialectWord::Postgres => Self::Postgres,
            DialectWord::Sqlite => Self::Sqlite,
        }
    }
}

impl Sql {
    pub(super) fn run(self, out: &Output) -> Outcome {
        let Self::Explain { dialect, catalog, extensions, statement } = self;
        let dialect = dialect.into();
        let snapshot = catalog.as_deref().map(snapshot).transpose()?;
        if let Some(snapshot) = snapshot.as_ref().filter(|snapshot| snapshot.dialect != dialect) {
            let why = format!("the snapshot is of a database of kind `{}`", snapshot.dialect);
            return Err(anyhow::anyhow!(why).into());
        }
        let mut catalog = snapshot.map(|snapshot| snapshot.catalog);
        for extension in extensions {
            check_extension(&extension).map_err(anyhow::Error::from)?;
            catalog.get_or_insert_default().extensions.push(extension);
        }
        let asked = Asked { dialect, known: catalog.map(Known::new) };
        let mut to = BufWriter::new(io::stdout().lock());
        let good = match (statement, out.json()) {
            (Some(statement), json) => one(&asked, statement.as_bytes(), json, &mut to)?,
            (None, false) => {
                let mut text = Vec::new();
                // One byte more than is examined, so that a longer text is seen to be too long.
                let limit = u64::try_from(LENGTH_MAX).unwrap_or(u64::MAX).saturating_add(1);
                io::stdin().lock().take(limit).read_to_end(&mut text)?;
                one(&asked, &text, false, &mut to)?
            }
            (None, true) => stream(&asked, &mut BufReader::new(io::stdin().lock()), &mut to)?,
        };
        to.flush()?;
        match good {
            None => Ok(()),
            Some(failure) => {
                if !out.json() {
                    out.note(failure);
                }
                Err(Ended::No)
            }
        }
    }
}

/// Whose SQL it is, and what is known of the database.
struct Asked {
    dialect: Dialect,
    known: Option<Known>,
}

impl Asked {
    fn explain(&self, sql: &str) -> Result<Explained, Failure> {
        explain(self.dialect, sql, self.known.as_ref()).map_err(Failure::from)
    }
}

fn snapshot(path: &Path) -> anyhow::Result<Snapshot> {
    bundle::catalog(path).map_err(anyhow::Error::msg)
}

/// Answers one text. `Some` says to people why it cannot be classified.
fn one(asked: &Asked, text: &[u8], json: bool, out: &mut impl Write) -> io::Result<Option<String>> {
    let answer = std::str::from_utf8(text)
        .map_err(|why| Failure {
            code: "sql_utf8",
            message: "the text is not UTF-8".into(),
            position: Some(why.valid_up_to()),
        })
        .and_then(|sql| asked.explain(sql));
    let told =
        answer.as_ref().err().map(|failure| failure.told(std::str::from_utf8(text).unwrap_or_default()));
    match answer {
        answer if json => write_json(&Value::Null, answer, out)?,
        Ok(explained) => describe(&explained, out)?,
        Err(_told) => {}
    }
    Ok(told)
}

/// Answers JSON Lines as they come, or one statement when there is no line of them.
fn stream(
    asked: &Asked,
    input: &mut BufReader<impl Read>,
    out: &mut impl Write,
) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    // What came before the first line of JSON: a statement, unless such a line follows.
    let mut before = Before::default();
    let mut is_lines = false;
    while let Some(read) = read_line(input, &mut line)? {
        let question = match read {
            Line::Whole => Question::parse(&line),
            Line::TooLong => Err(Unanswered::anonymous(Failure {
                code: "line_too_long",
                message: format!("the line has more than {LINE_BYTES_MAX} bytes"),
                position: None,
            })),
        };
        if !is_lines && question.is_err() && !looks_like_json(&line) {
            before.push(&line, question.err());
            continue;
        }
        if !is_lines {
            is_lines = true;
            for failure in before.failures.drain(..) {
                write_json(&Value::Null, Err(failure), out)?;
            }
            for _line in 0..before.more {
                write_json(&Value::Null, Err(Failure::line("the line is not JSON")), out)?;
            }
        }
        match question {
            _ if line.trim_ascii().is_empty() => {}
            Ok(question) => {
                let answer = asked.explain(&question.sql);
                write_json(&question.id, answer, out)?;
            }
            Err(unanswered) => write_json(&unanswered.id, Err(unanswered.failure), out)?,
        }
        // Nothing more to read yet: whoever asks line by line gets the answer now.
        if input.buffer().is_empty() {
            out.flush()?;
        }
    }
    if is_lines { Ok(None) } else { one(asked, &before.text, true, out) }
}

/// Lines before the first line of JSON. Beyond what can be a statement only their number counts.
#[derive(Default)]
struct Before {
    text: Vec<u8>,
    failures: Vec<Failure>,
    /// Lines after the text was too long for a statement.
    more: u64,
}

impl Before {
    fn push(&mut self, line: &[u8], unanswered: Option<Box<Unanswered>>) {
        let room = LENGTH_MAX.saturating_add(1).saturating_sub(self.text.len());
        self.text.extend(line.iter().take(room));
        if line.trim_ascii().is_empty() {
            return;
        }
        if room == 0 {
            self.more = self.more.saturating_add(1);
        } else {
            self.failures.extend(unanswered.map(|unanswered| unanswered.failure));
        }
    }
}

/// No statement begins so.
fn looks_like_json(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"{")
}

enum Line {
    Whole,
    /// What is kept of it is its beginning.
    TooLong,
}

/// Reads one line with its end, at most [`LINE_BYTES_MAX`] of it; the rest is skipped. `None` at the end.
fn read_line(input: &mut BufReader<impl Read>, line: &mut Vec<u8>) -> io::Result<Option<Line>> {
    line.clear();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    if input.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.len() <= LINE_BYTES_MAX || line.ends_with(b"\n") {
        return Ok(Some(Line::Whole));
    }
    input.skip_until(b'\n')?;
    Ok(Some(Line::TooLong))
}

/// One line of input.
struct Question {
    id: Value,
    sql: String,
}

impl Question {
    /// Reads a line.
    fn parse(line: &[u8]) -> Result<Self, Box<Unanswered>> {
        let value = from_slice_strict(line).map_err(|why| Unanswered::anonymous(Failure::from(&why)))?;
        let Value::Object(mut members) = value else {
            return Err(Unanswered::anonymous(Failure::line("the line is not an object with `sql`")));
        };
        let id = members.remove("id").unwrap_or_default();
        let unanswered = |id, why| Box::new(Unanswered { id, failure: Failure::line(why) });
        match members.remove("sql") {
            Some(Value::String(sql)) => Ok(Self { id, sql }),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(unanswered(id, "`sql` is not a string"))
            }
            None => Err(unanswered(id, "the line has no `sql`")),
        }
    }
}

/// A line without an answer.
#[derive(Debug)]
struct Unanswered {
    /// Null where the line has none, or could not be read.
    id: Value,
    failure: Failure,
}

impl Unanswered {
    fn anonymous(failure: Failure) -> Box<Self> {
        Box::new(Self { id: Value::Null, failure })
    }
}

/// Why there is no answer.
#[derive(Debug, Serialize)]
struct Failure {
    code: &'static str,
    message: String,
    /// In bytes: of the statement, for codes with `sql_`; of the line otherwise.
    position: Option<usize>,
}

impl Failure {
    fn line(message: &str) -> Self {
        Self { code: "line_form", message: message.into(), position: None }
    }

    fn told(&self, sql: &str) -> String {
        let place = self.position.and_then(|at| sql.get(..at)).map(|before| {
            let line = before.bytes().filter(|byte| *byte == b'\n').count().saturating_add(1);
            let column = before.chars().rev().take_while(|c| *c != '\n').count().saturating_add(1);
            format!(" (line {line}, column {column})")
        });
        visible(&format!("refused: {}{}\n   code: {}", self.message, place.unwrap_or_default(), self.code))
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self { code: error.code(), message: error.to_string(), position: error.position() }
    }
}

impl From<&StrictError> for Failure {
    fn from(error: &StrictError) -> Self {
        Self { code: error.code(), message: error.to_string(), position: Some(error.at()) }
    }
}

/// One line of output.
#[derive(Serialize)]
struct ExplainedLine<'a> {
    id: &'a Value,
    #[serde(flatten)]
    explained: Option<Explained>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

fn write_json(id: &Value, answer: Result<Explained, Failure>, out: &mut impl Write) -> io::Result<()> {
    let (explained, error) = match answer {
        Ok(explained) => (Some(explained), None),
        Err(failure) => (None, Some(failure)),
    };
    serde_json::to_writer(&mut *out, &ExplainedLine { id, explained, error })?;
    out.write_all(b"\n")
}

/// The answer as a person reads it.
fn describe(explained: &Explained, out: &mut impl Write) -> io::Result<()> {
    let list =
        |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { visible(&items.join(", ")) };
    let several = explained.statements.len() > 1;
    if several {
        writeln!(out, "{} statements, together: {}", explained.statements.len(), explained.effect)?;
    }
    for (statement, number) in explained.statements.iter().zip(1_u32..) {
        if several {
            writeln!(out, "\nstatement {number}")?;
        }
        writeln!(out, "effect      {}", statement.effect)?;
        writeln!(
            out,
            "about       {}",
            list(statement.categories.iter().map(ToString::to_string).collect())
        )?;
        writeln!(out, "reads       {}", list(statement.reads.iter().map(ToString::to_string).collect()))?;
        writeln!(out, "writes      {}", list(statement.writes.iter().map(ToString::to_string).collect()))?;
        writeln!(out, "functions   {}", list(statement.functions.iter().map(ToString::to_string).collect()))?;
        for (reason, at) in statement.reasons.iter().zip(0_u32..) {
            let head = if at == 0 { "because" } else { "" };
            writeln!(out, "{head:<11} {} ({})", visible(&reason.text), reason.code)?;
        }
    }
    Ok(())
}
