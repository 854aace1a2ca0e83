//! SQLite's tokens: for the shape of a text, and to number its parameters.

use std::borrow::Cow;

use sqlite3_parser::dialect::TokenType;
use sqlite3_parser::lexer::Scanner;
use sqlite3_parser::lexer::sql::{Error, Tokenizer};

use crate::error::SqlError;
use crate::reach::Query;

/// What the grammar refused, and where.
#[expect(clippy::wildcard_enum_match_arm, reason = "the type is open")]
pub(super) fn refused(sql: &str, error: &Error) -> SqlError {
    let (message, place) = match error {
        Error::UnrecognizedToken(place) => ("unrecognized token", place),
        Error::UnterminatedLiteral(place) => ("a literal does not end", place),
        Error::UnterminatedBracket(place) => ("a bracket does not end", place),
        Error::UnterminatedBlockComment(place) => ("a comment does not end", place),
        Error::BadVariableName(place) => ("a parameter has a bad name", place),
        Error::BadNumber(place) => ("a number is malformed", place),
        Error::ExpectedEqualsSign(place) => ("`=` is missing after `!`", place),
        Error::MalformedBlobLiteral(place) => ("a blob literal is malformed", place),
        Error::MalformedHexInteger(place) => ("a hexadecimal number is malformed", place),
        Error::ParserError(inner, place) => {
            return SqlError::Syntax {
                dialect: "SQLite",
                message: inner.to_string(),
                position: place.as_ref().and_then(|place| offset(sql, place.line, place.column)),
            };
        }
        _ => ("cannot be read", &None),
    };
    SqlError::Syntax {
        dialect: "SQLite",
        message: message.to_owned(),
        position: place.as_ref().and_then(|place| offset(sql, place.line, place.column)),
    }
}

/// The mark of a byte order, in UTF-8.
const MARK: &str = "\u{feff}";

/// The text with blanks in place of each mark of a byte order that SQLite skips, at the same places. SQLite takes one for a
/// blank where a token may begin; inside of a name, a string or a comment it is a letter like any other, and it ends no
/// name: `select\u{feff}1` is one word.
pub(super) fn unmarked(sql: &str) -> Cow<'_, str> {
    if !sql.contains(MARK) {
        return Cow::Borrowed(sql);
    }
    let mut text = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\u{feff}' => {
                text.push_str("   ");
                rest = rest.strip_prefix(first).unwrap_or_default();
                continue;
            }
            '\'' | '"' | '`' => quoted(rest, first),
            '[' => rest.find(']').map_or(rest.len(), |end| end.saturating_add(1)),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => {
                // The first two are not part of the end: `/*/` does not end.
                let inner = rest.get(2..).unwrap_or_default();
                inner.find("*/").map_or(rest.len(), |end| end.saturating_add(4))
            }
            '?' => {
                let number = rest.get(1..).unwrap_or_default();
                number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len()).saturating_add(1)
            }
            // Other parameters go on like a name.
            ':' | '@' | '$' | '#' => first.len_utf8().saturating_add(word(rest.get(1..).unwrap_or_default())),
            _ => word(rest).max(first.len_utf8()),
        };
        let (token, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        text.push_str(token);
        rest = after;
    }
    Cow::Owned(text)
}

/// The length of what is in quotes, which are doubled inside.
fn quoted(text: &str, quote: char) -> usize {
    let mut inside = text.char_indices().skip(1).peekable();
    while let Some((place, letter)) = inside.next() {
        if letter == quote {
            match inside.peek() {
                Some((_, next)) if *next == quote => {
                    inside.next();
                }
                _ => return place.saturating_add(letter.len_utf8()),
            }
        }
    }
    text.len()
}

/// The length of the name, keyword or number that a text begins with.
fn word(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii()))
        .unwrap_or(text.len())
}

/// The byte at a line and column, both counted from one.
fn offset(sql: &str, line: usize, column: usize) -> Option<usize> {
    let before: usize = sql.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    before.checked_add(column.checked_sub(1)?).map(|offset| offset.min(sql.len()))
}

/// The text with `shown` in place of each token.
pub(super) fn rewrite(
    sql: &str,
    mut shown: impl FnMut(&TokenType, &str) -> Option<String>,
) -> Result<String, SqlError> {
    let sql = &*unmarked(sql);
    let mut scanner = Scanner::new(Tokenizer::new());
    let mut text = String::with_capacity(sql.len());
    loop {
        let (start, token, end) = scanner.scan(sql.as_bytes()).map_err(|error| refused(sql, &error))?;
        let Some((_, kind)) = token else { return Ok(text) };
        let written = sql.get(start..end).unwrap_or_default();
        if !text.is_empty() {
            text.push(' ');
        }
        match shown(&kind, written) {
            Some(other) => text.push_str(&other),
            None => text.push_str(written),
        }
    }
}

/// Constants become `?`. A constant in double quotes cannot be told from a name and stays.
pub(super) fn normalize(sql: &str) -> Result<String, SqlError> {
    rewrite(sql, |kind, _| {
        matches!(
            kind,
            TokenType::TK_STRING | TokenType::TK_INTEGER | TokenType::TK_FLOAT | TokenType::TK_BLOB
        )
        .then(|| "?".to_owned())
    })
}

/// FNV-1a of the normalized text in lower case: stable across releases and machines.
pub(super) fn fingerprint(sql: &str) -> Result<String, SqlError> {
    let text = normalize(sql)?.to_ascii_lowercase();
    let hash = text.trim_end_matches([';', ' ']).bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Ok(format!("{hash:016x}"))
}

/// Gives every `?` the number SQLite gives it. None where numbered and named parameters are mixed, for then the
/// numbers depend on both.
pub(super) fn numbered(sql: &str) -> Result<Option<String>, SqlError> {
    let (mut highest, mut positional, mut named) = (0_u32, false, false);
    let text = rewrite(sql, |kind, written| {
        if !matches!(kind, TokenType::TK_VARIABLE) {
            return None;
        }
        let Some(number) = written.strip_prefix('?') else {
            named = true;
            return None;
        };
        positional = true;
        let own = number.parse().unwrap_or_else(|_| highest.saturating_add(1));
        highest = highest.max(own);
        Some(format!("?{own}"))
    })?;
    Ok((!(positional && named)).then_some(text))
}

/// Renumbers `?N` from one, in order of first appearance, and tells which number each was.
pub(super) fn renumbered(sql: &str) -> Result<Query, SqlError> {
    let mut parameters: Vec<u32> = Vec::new();
    let text = rewrite(sql, |kind, written| {
        if !matches!(kind, TokenType::TK_VARIABLE) {
            return None;
        }
        let old = written.strip_prefix('?')?.parse().ok()?;
        if !parameters.contains(&old) {
            parameters.push(old);
        }
        let new = parameters.iter().position(|number| *number == old).unwrap_or_default().saturating_add(1);
        Some(format!("?{new}"))
    })?;
    Ok(Query { text, parameters })
}
