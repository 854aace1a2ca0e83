//! The normal form of a text: its tokens, each spelled in one way.

use sqlite3_parser::dialect::TokenType;

use super::tokens;
use crate::error::SqlError;

/// What may stand before parentheses around a whole condition.
const BEFORE: [&str; 4] = ["where", "on", "having", "("];
/// What may stand behind them.
const BEHIND: [&str; 6] = [")", "group", "order", "limit", "returning", "having"];

/// Blanks, comments, marks of a byte order and the last semicolons go; words, names and numbers are spelled in one way;
/// parentheses that bind nothing go.
pub(super) fn normal(sql: &str) -> Result<String, SqlError> {
    let mut words = Vec::new();
    tokens::rewrite(sql, |kind, written| {
        words.push(spelled(kind, written));
        None
    })?;
    while words.last().is_some_and(|word| word == ";") {
        words.pop();
    }
    while let Some((open, close)) = idle(&words) {
        words.remove(close);
        words.remove(open);
    }
    Ok(words.join(" "))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "there are two hundred kinds, and most are words")]
fn spelled(kind: &TokenType, written: &str) -> String {
    match kind {
        TokenType::TK_STRING if written.starts_with('\'') => written.to_owned(),
        TokenType::TK_VARIABLE => written.to_owned(),
        TokenType::TK_INTEGER => {
            let digits = written.replace('_', "").to_ascii_lowercase();
            let number = match digits.strip_prefix("0x") {
                Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
                None => digits.parse().ok(),
            };
            number.map_or(digits, |number| number.to_string())
        }
        TokenType::TK_FLOAT => {
            let digits = written.replace('_', "");
            // With a fraction, so that it stays another constant than a whole number.
            digits.parse::<f64>().map_or(digits, |number| format!("{number:?}"))
        }
        TokenType::TK_NE => "<>".to_owned(),
        TokenType::TK_EQ => "=".to_owned(),
        _ => unquoted(written).to_lowercase(),
    }
}

/// A name without its quotes; the doubled ones inside stay, in every spelling of one quote alike.
fn unquoted(written: &str) -> &str {
    for (open, close) in [('"', '"'), ('`', '`'), ('[', ']')] {
        if let Some(name) = written.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
            return name;
        }
    }
    written
}

/// The first pair of parentheses that binds nothing: around a whole condition, or around one that a sum of conditions holds
/// together as well.
fn idle(words: &[String]) -> Option<(usize, usize)> {
    let mut open: Vec<usize> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "(" => open.push(at),
            ")" => {
                let from = open.pop()?;
                if binds_nothing(words, from, at) {
                    return Some((from, at));
                }
            }
            _ => {}
        }
    }
    None
}

fn binds_nothing(words: &[String], from: usize, to: usize) -> bool {
    let Some(before) = from.checked_sub(1).and_then(|at| words.get(at)) else { return false };
    let behind = words.get(to.saturating_add(1)).map(String::as_str);
    let whole = (BEFORE.contains(&before.as_str()), behind.is_none_or(|word| BEHIND.contains(&word)));
    let part =
        (matches!(before.as_str(), "and" | "or") || whole.0, matches!(behind, Some("and" | "or")) || whole.1);
    if !(part.0 && part.1) {
        return false;
    }
    let inside = words.get(from.saturating_add(1)..to).unwrap_or_default();
    if inside.first().is_none_or(|word| matches!(word.as_str(), "select" | "with" | "values" | ")")) {
        return false;
    }
    let mut depth = 0_usize;
    for word in inside {
        match word.as_str() {
            "(" => depth = depth.saturating_add(1),
            ")" => depth = depth.saturating_sub(1),
            "," if depth == 0 => return false,
            "and" | "or" if depth == 0 && whole != (true, true) => return false,
            _ => {}
        }
    }
    true
}
