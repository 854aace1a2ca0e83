//! SQLite's tokens: for the shape of a text, and to number its parameters.

use sqlite3_parser::dialect::TokenType;
use sqlite3_parser::lexer::Scanner;
use sqlite3_parser::lexer::sql::Tokenizer;

use crate::error::SqlError;

/// The text with `shown` in place of each token.
pub(super) fn rewrite(sql: &str, mut shown: impl FnMut(&TokenType, &str) -> Option<String>) -> Result<String, SqlError> {
    let mut scanner = Scanner::new(Tokenizer::new());
    let mut text = String::with_capacity(sql.len());
    loop {
        let (start, token, end) = scanner
            .scan(sql.as_bytes())
            .map_err(|error| SqlError::Syntax { dialect: "SQLite", message: error.to_string(), position: None })?;
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
        matches!(kind, TokenType::TK_STRING | TokenType::TK_INTEGER | TokenType::TK_FLOAT | TokenType::TK_BLOB)
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
pub(super) fn renumbered(sql: &str, parameters: &mut Vec<u32>) -> Result<String, SqlError> {
    rewrite(sql, |kind, written| {
        if !matches!(kind, TokenType::TK_VARIABLE) {
            return None;
        }
        let old: u32 = written.strip_prefix('?')?.parse().ok()?;
        if !parameters.contains(&old) {
            parameters.push(old);
        }
        let new = parameters.iter().position(|number| *number == old).unwrap_or_default().saturating_add(1);
        Some(format!("?{new}"))
    })
}
