//! Arguments as people read them: what is a statement stands by itself, with its words marked.

use countersign_app::text::visible;
use serde_json::Value;

/// These words of SQL are marked; those that change something more than others.
const WORDS: &[&str] = &[
    "all",
    "and",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "cascade",
    "current_date",
    "current_timestamp",
    "default",
    "desc",
    "distinct",
    "else",
    "end",
    "except",
    "exists",
    "false",
    "from",
    "full",
    "group",
    "having",
    "in",
    "inner",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "left",
    "like",
    "limit",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "outer",
    "returning",
    "right",
    "select",
    "set",
    "table",
    "then",
    "true",
    "union",
    "using",
    "values",
    "when",
    "where",
    "with",
];
const CHANGING: &[&str] = &[
    "alter", "call", "copy", "create", "delete", "do", "drop", "execute", "grant", "insert", "lock", "merge",
    "reindex", "replace", "revoke", "truncate", "update", "vacuum",
];

/// A part of a text with what it is; the class is empty for what is nothing special.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) class: &'static str,
    pub(crate) text: String,
}

/// An argument: its name, and its value as marked text. A long text is a block.
#[derive(Debug)]
pub(crate) struct Argument {
    pub(crate) name: String,
    pub(crate) block: bool,
    pub(crate) marks: Vec<Mark>,
}

/// Returns every argument, in order, in full.
pub(crate) fn arguments(arguments: &Value) -> Vec<Argument> {
    let Value::Object(map) = arguments else { return vec![argument("", arguments)] };
    map.iter().map(|(name, value)| argument(name, value)).collect()
}

fn argument(name: &str, value: &Value) -> Argument {
    let name = visible(name);
    match value.as_str() {
        Some(text) if is_statement(text) => Argument { name, block: true, marks: marked(&visible(text)) },
        Some(text) if text.contains('\n') || text.len() > 80 => {
            Argument { name, block: true, marks: vec![Mark { class: "", text: visible(text) }] }
        }
        Some(_) | None => {
            let text = visible(&value.to_string());
            let class = match value {
                Value::Number(_) | Value::Bool(_) => "number",
                Value::String(_) => "text",
                Value::Null | Value::Array(_) | Value::Object(_) => "",
            };
            Argument { name, block: text.len() > 80, marks: vec![Mark { class, text }] }
        }
    }
}

/// Returns what a call is about, in so many characters at most.
pub(crate) fn gist(arguments: &Value, chars_max: usize) -> String {
    let statement = arguments
        .as_object()
        .and_then(|map| map.values().filter_map(Value::as_str).find(|text| is_statement(text)));
    let text = match (statement, arguments.as_object()) {
        (Some(statement), _) => statement.split_whitespace().collect::<Vec<_>>().join(" "),
        (None, Some(map)) => {
            map.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ")
        }
        (None, None) => arguments.to_string(),
    };
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn is_statement(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    text.trim().contains(char::is_whitespace)
        && (CHANGING.contains(&first.as_str())
            || matches!(first.as_str(), "select" | "with" | "explain" | "values" | "set"))
}

/// Marks the words, texts, numbers and comments of a statement. Only for the eye: what it does is found by the real
/// grammars. Nothing is left out: the parts together are the text.
fn marked(text: &str) -> Vec<Mark> {
    let mut marks: Vec<Mark> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (class, end) = match first {
            '\'' => ("text", quoted(rest, '\'')),
            '"' => ("name", quoted(rest, '"')),
            '-' if rest.starts_with("--") => ("comment", rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => {
                ("comment", rest.find("*/").map_or(rest.len(), |at| at.saturating_add(2)))
            }
            c if c.is_ascii_digit() => {
                ("number", rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()))
            }
            c if c.is_alphanumeric() || c == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                let word = rest.get(..end).unwrap_or_default().to_ascii_lowercase();
                let class = match word.as_str() {
                    word if CHANGING.contains(&word) => "changing",
                    word if WORDS.contains(&word) => "word",
                    _ => "",
                };
                (class, end)
            }
            other => ("", other.len_utf8()),
        };
        let (part, after) = rest.split_at_checked(end.max(first.len_utf8())).unwrap_or((rest, ""));
        match marks.last_mut() {
            Some(last) if last.class == class => last.text.push_str(part),
            Some(_) | None => marks.push(Mark { class, text: part.to_owned() }),
        }
        rest = after;
    }
    marks
}

/// Returns where a quoted part ends; one that is never closed goes to the end.
fn quoted(text: &str, quote: char) -> usize {
    let inner = text.get(1..).unwrap_or_default();
    inner.find(quote).map_or(text.len(), |at| at.saturating_add(2))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn classes(text: &str) -> Vec<(&'static str, String)> {
        marked(text)
            .into_iter()
            .filter(|mark| !mark.class.is_empty())
            .map(|mark| (mark.class, mark.text))
            .collect()
    }

    #[test]
    fn words_texts_numbers_and_comments_are_marked() {
        let marks =
            classes("DELETE FROM billing WHERE a = 'it''s from' AND \"select\" < 12.5 -- where\n/* drop */");
        let marks: Vec<(&str, &str)> = marks.iter().map(|(class, text)| (*class, text.as_str())).collect();
        assert_eq!(
            marks,
            [
                ("changing", "DELETE"),
                ("word", "FROM"),
                ("word", "WHERE"),
                ("text", "'it''s from'"),
                ("word", "AND"),
                ("name", "\"select\""),
                ("number", "12.5"),
                ("comment", "-- where"),
                ("comment", "/* drop */"),
            ]
        );
    }

    #[test]
    fn nothing_of_a_statement_is_left_out() {
        for text in
            ["", "'", "\"", "--", "/*", "é'ü", "1.2.3e4", "select 'ä' -- ö", "a\u{0}b", "'a' 'b'", "x/*y*/z"]
        {
            let whole: String = marked(text).into_iter().map(|mark| mark.text).collect();
            assert_eq!(whole, text);
        }
    }

    #[test]
    fn the_gist_is_the_statement_or_the_arguments_and_no_longer_than_asked_for() {
        assert_eq!(gist(&json!({ "a": 1, "sql": "delete\n from t" }), 100), "delete from t");
        assert_eq!(gist(&json!({ "a": 1, "b": "x" }), 100), "a = 1, b = \"x\"");
        assert_eq!(gist(&json!({ "sql": "delete from täglich" }), 14), "delete from tä…");
    }

    #[test]
    fn every_argument_is_shown_in_full() {
        let long = "x".repeat(10_000);
        let shown = arguments(&json!({ "n": 3, "long": long, "sql": "update t set a = 1" }));
        let of = |name: &str| shown.iter().find(|argument| argument.name == name).unwrap();
        assert!(of("long").block && of("long").marks[0].text.len() == 10_000);
        assert_eq!(of("n").marks, [Mark { class: "number", text: "3".into() }]);
        assert_eq!(of("sql").marks[0], Mark { class: "changing", text: "update".into() });
    }
}
