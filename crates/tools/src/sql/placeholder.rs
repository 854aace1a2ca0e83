//! `:name` in a PostgreSQL statement becomes `$1`, `$2`, …; nothing is ever put into the text.
//!
//! SQLite knows `:name` itself and needs none of this.

use std::fmt;

/// A statement with numbered placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// The text with `$1`, `$2`, …
    pub(crate) text: String,
    /// The name that each number stands for, in order.
    pub(crate) names: Vec<String>,
}

/// Why a statement's placeholders cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadPlaceholder {
    /// A string, quoted name, dollar quote or comment does not end.
    Unterminated,
    /// `$1` stands where `:name` should.
    Positional(String),
}

impl fmt::Display for BadPlaceholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unterminated => f.write_str("a string, quoted name or comment does not end"),
            Self::Positional(text) => write!(f, "`{text}` is a numbered placeholder"),
        }
    }
}

/// Numbers the named placeholders of a PostgreSQL statement. Text in strings, quoted names, dollar quotes
/// and comments is left alone, and so are `::` casts.
pub(crate) fn numbered(sql: &str) -> Result<Numbered, BadPlaceholder> {
    let mut out = Numbered { text: String::with_capacity(sql.len()), names: Vec::new() };
    let mut rest = sql;
    let mut before = None;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\'' => {
                let escapes = matches!(before, Some('e' | 'E')) && is_prefix(&out.text);
                quoted(rest, '\'', escapes)?
            }
            '"' => quoted(rest, '"', false)?,
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment(rest)?,
            '$' if !before.is_some_and(is_name) => match dollar_quoted(rest)? {
                Some(length) => length,
                None if rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit()) => {
                    let digits: String = rest.chars().skip(1).take_while(char::is_ascii_digit).collect();
                    return Err(BadPlaceholder::Positional(format!("${digits}")));
                }
                None => 1,
            },
            ':' if rest.starts_with("::") || rest.starts_with(":=") => 2,
            ':' => {
                let name: String = rest.chars().skip(1).take_while(|c| is_name(*c)).collect();
                if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    let number = out.number(&name);
                    out.text.push_str(&format!("${number}"));
                    // A digit right behind would join the number.
                    before = Some('0');
                    rest = rest.get(name.len().saturating_add(1)..).unwrap_or_default();
                    continue;
                }
                1
            }
            _ => c.len_utf8(),
        };
        let (taken, left) = rest.split_at_checked(length).ok_or(BadPlaceholder::Unterminated)?;
        out.text.push_str(taken);
        before = taken.chars().next_back();
        rest = left;
    }
    Ok(out)
}

impl Numbered {
    fn number(&mut self, name: &str) -> usize {
        let position = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len().saturating_sub(1)
        });
        position.saturating_add(1)
    }
}

const fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Tells whether the text ends in a lone `e`: the prefix of a string with backslash escapes.
fn is_prefix(text: &str) -> bool {
    let mut back = text.chars().rev();
    back.next();
    back.next().is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '$'))
}

/// Length of a quoted text; a doubled quote is part of it.
fn quoted(text: &str, quote: char, escapes: bool) -> Result<usize, BadPlaceholder> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && escapes {
            chars.next();
        } else if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
            } else {
                return Ok(at.saturating_add(1));
            }
        }
    }
    Err(BadPlaceholder::Unterminated)
}

/// Length of a comment; they nest.
fn comment(text: &str) -> Result<usize, BadPlaceholder> {
    let mut depth = 0_usize;
    let mut at = 0_usize;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        if rest.starts_with("/*") {
            depth = depth.saturating_add(1);
            at = at.saturating_add(2);
        } else if rest.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at = at.saturating_add(2);
            if depth == 0 {
                return Ok(at);
            }
        } else {
            let Some(c) = rest.chars().next() else { return Err(BadPlaceholder::Unterminated) };
            at = at.saturating_add(c.len_utf8());
        }
    }
}

/// Length of a dollar-quoted text, if one starts here.
fn dollar_quoted(text: &str) -> Result<Option<usize>, BadPlaceholder> {
    let tag: String = text.chars().skip(1).take_while(|c| is_name(*c) || !c.is_ascii()).collect();
    if tag.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(None);
    }
    let fence = format!("${tag}$");
    let Some(body) = text.strip_prefix(fence.as_str()) else { return Ok(None) };
    let end = body.find(fence.as_str()).ok_or(BadPlaceholder::Unterminated)?;
    Ok(Some(end.saturating_add(fence.len().saturating_mul(2))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, text: &str, names: &[&str]) {
        let numbered = numbered(sql).unwrap();
        assert_eq!(numbered.text, text);
        assert_eq!(numbered.names, names);
    }

    #[test]
    fn numbers_names_in_order_and_only_once() {
        check("select :b, :a, :b", "select $1, $2, $1", &["b", "a"]);
        check("x > now() - make_interval(months => :m)", "x > now() - make_interval(months => $1)", &["m"]);
    }

    #[test]
    fn leaves_casts_strings_names_and_comments_alone() {
        check("select :a::int, 'x:b', \":c\"", "select $1::int, 'x:b', \":c\"", &["a"]);
        check("select 'it''s :a' -- :b\n, :c", "select 'it''s :a' -- :b\n, $1", &["c"]);
        check("select /* :a /* :b */ :c */ :d", "select /* :a /* :b */ :c */ $1", &["d"]);
        check("select $$ :a $$, $x$ $$ :b $x$, :c", "select $$ :a $$, $x$ $$ :b $x$, $1", &["c"]);
        check(r"select e'\' :a', E'\\', :b", r"select e'\' :a', E'\\', $1", &["b"]);
        check(r"select 'a\', :b", r"select 'a\', $1", &["b"]);
        check("select a[1:2]", "select a[1:2]", &[]);
    }

    #[test]
    fn refuses_what_does_not_end_and_what_is_numbered() {
        for sql in ["select 'a", "select \"a", "/* /* */", "$a$ $b$", "select e'\\'"] {
            assert_eq!(numbered(sql), Err(BadPlaceholder::Unterminated), "{sql}");
        }
        assert_eq!(numbered("select $1"), Err(BadPlaceholder::Positional("$1".into())));
    }
}
