//! `countersign sql`: what statements do, without any database.

use std::io::{self, BufRead as _, Read as _, Write as _};

use clap::{Subcommand, ValueEnum};
use countersign_audit::from_slice_strict;
use countersign_sql::{Dialect, Explained, SqlError, explain};
use serde_json::{Value, json};

use super::{Failure, Outcome, Output};

/// Longest line that is read, in bytes: a statement of the longest kind, escaped.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Sql {
    /// Classify a statement, or JSON Lines `{"id","sql"}` from standard input
    #[command(
        after_help = "With --json and no STATEMENT, standard input is JSON Lines: each line {\"id\", \"sql\"} yields one line\n\
                            {\"id\", \"effect\", \"categories\", \"statements\", \"tables\", \"functions\", \"reasons\"} or {\"id\", \"error\"}.\n\
                            Otherwise the whole of standard input is one statement."
    )]
    Explain {
        /// Whose SQL it is
        #[arg(long)]
        dialect: DialectWord,
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
        let Self::Explain { dialect, statement } = self;
        let dialect = dialect.into();
        match statement {
            Some(statement) => one(dialect, &statement, out),
            None if out.json() => lines(dialect),
            None => {
                let mut statement = String::new();
                io::stdin().lock().take(LINE_BYTES_MAX).read_to_string(&mut statement)?;
                one(dialect, &statement, out)
            }
        }
    }
}

fn one(dialect: Dialect, statement: &str, out: &Output) -> Outcome {
    let explained = match explain(dialect, statement, None) {
        Ok(explained) => explained,
        Err(why) => {
            out.value(&json!({ "error": error(&why) }));
            if !out.json() {
                let place = why.position().map(|at| format!(" (byte {at})")).unwrap_or_default();
                out.note(format!("refused: {why}{place}\n   code: {}", why.code()));
            }
            return Err(Failure::No);
        }
    };
    out.value(&explained);
    out.line(human(&explained));
    Ok(())
}

fn human(explained: &Explained) -> String {
    let Ok(Value::Object(members)) = serde_json::to_value(explained) else { return String::new() };
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| {
        value
            .as_array()
            .map_or_else(|| word(value), |items| items.iter().map(word).collect::<Vec<_>>().join(", "))
    };
    let mut lines = Vec::new();
    for key in ["effect", "categories", "tables", "functions"] {
        if let Some(value) = members.get(key) {
            let text = list(value);
            lines.push(format!("{key:<11} {}", if text.is_empty() { "-" } else { &text }));
        }
    }
    for reason in members.get("reasons").and_then(Value::as_array).into_iter().flatten() {
        let text = reason.get("text").and_then(Value::as_str).unwrap_or_default();
        lines.push(format!("because     {text}"));
    }
    lines.join("\n")
}

fn error(why: &SqlError) -> Value {
    json!({ "code": why.code(), "message": why.to_string(), "position": why.position() })
}

/// One line out for each line in, in order, whatever the lines hold.
fn lines(dialect: Dialect) -> Outcome {
    let mut input = io::stdin().lock();
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut input).take(LINE_BYTES_MAX.saturating_add(1)).read_until(b'\n', &mut line)?;
        if read == 0 {
            output.flush()?;
            return Ok(());
        }
        if u64::try_from(read).unwrap_or(u64::MAX) > LINE_BYTES_MAX {
            input.skip_until(b'\n')?;
            let message = format!("the line has more than {LINE_BYTES_MAX} bytes");
            let too_long = json!({ "code": "line_too_long", "message": message, "position": null });
            writeln!(output, "{}", json!({ "id": null, "error": too_long }))?;
            continue;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        writeln!(output, "{}", answer(dialect, &line))?;
    }
}

fn answer(dialect: Dialect, line: &[u8]) -> Value {
    let malformed = |id: Value, code: &str, message: String| json!({ "id": id, "error": { "code": code, "message": message, "position": null } });
    let value = match from_slice_strict(line) {
        Ok(value) => value,
        Err(why) => return malformed(Value::Null, why.code(), why.to_string()),
    };
    let id = value.get("id").cloned().unwrap_or(Value::Null);
    let Some(sql) = value.get("sql").and_then(Value::as_str) else {
        return malformed(id, "line_without_sql", "the line has no text `sql`".into());
    };
    match explain(dialect, sql, None).map(serde_json::to_value) {
        Ok(Ok(Value::Object(mut members))) => {
            members.insert("id".into(), id);
            Value::Object(members)
        }
        Ok(_) => malformed(id, "internal", "the answer cannot be written".into()),
        Err(why) => json!({ "id": id, "error": error(&why) }),
    }
}
