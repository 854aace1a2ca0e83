//! The normal form of a text: its syntax tree, with each name and constant spelled in one way and without parentheses around
//! a single expression. SQLite's own tree has none of these: its grammar says `expr ::= ( expr )` and keeps what is inside.

use super::walk::folded;
use crate::error::SqlError;

/// Blanks, comments, marks of a byte order and the last semicolons go; words, names and numbers are spelled in one way;
/// parentheses that bind nothing go.
pub(super) fn normal(sql: &str) -> Result<String, SqlError> {
    let trees = super::parsed(sql, |commands| {
        commands.iter().map(|command| format!("{command:?}")).collect::<Vec<_>>()
    })?;
    let forms: Option<Vec<String>> = trees.iter().map(|tree| Form::of(tree)).collect();
    let unreadable = || SqlError::Unclassifiable { message: "its tree cannot be read".to_owned() };
    Ok(forms.ok_or_else(unreadable)?.join("; "))
}

/// A tree as it is written for debugging (`Name(…)`, `Name { … }`, `[…]`), while it is copied.
#[derive(Default)]
struct Form {
    text: String,
    open: Vec<Node>,
    /// The word before what comes next.
    word: String,
    /// The list that was closed last, where it holds one thing: from where to where that stands.
    single: Option<(usize, usize)>,
}

/// What is open.
struct Node {
    name: String,
    /// Where it begins, with its name.
    from: usize,
    /// Where what is inside begins.
    inside: usize,
    /// How many things follow the first.
    more: usize,
}

impl Form {
    fn of(tree: &str) -> Option<String> {
        let mut form = Self::default();
        let mut rest = tree.chars();
        while let Some(letter) = rest.next() {
            match letter {
                '"' => form.constant(&unescaped(&mut rest)?),
                '(' | '{' | '[' => form.enter(letter),
                ')' | '}' | ']' => form.leave(letter)?,
                _ => form.copy(letter),
            }
        }
        form.open.is_empty().then_some(form.text)
    }

    fn copy(&mut self, letter: char) {
        if letter == ','
            && let Some(node) = self.open.last_mut()
        {
            node.more = node.more.saturating_add(1);
        }
        if letter.is_alphanumeric() || letter == '_' {
            self.word.push(letter);
        } else if letter != ' ' {
            self.word.clear();
        }
        self.text.push(letter);
    }

    fn enter(&mut self, letter: char) {
        let name = std::mem::take(&mut self.word);
        // `Name {` has a blank between them.
        let from = self.text.trim_end().len().saturating_sub(name.len());
        self.text.push(letter);
        self.open.push(Node { name, from, inside: self.text.len(), more: 0 });
    }

    fn leave(&mut self, letter: char) -> Option<()> {
        let node = self.open.pop()?;
        self.word.clear();
        let end = self.text.len();
        self.text.push(letter);
        if letter == ']' {
            self.single = (node.more == 0 && end > node.inside).then_some((node.inside, end));
            return Some(());
        }
        // `DEFAULT (x)` is the value of an expression, and `DEFAULT x` the word.
        let default = self.open.last().is_some_and(|around| around.name == "Default");
        if node.name == "Parenthesized"
            && !default
            && let Some((from, to)) = self.single
        {
            let inside = self.text.get(from..to)?.to_owned();
            self.text.truncate(node.from);
            self.text.push_str(&inside);
        }
        self.single = None;
        Some(())
    }

    /// A name, a constant or another text of the tree.
    fn constant(&mut self, written: &str) {
        let kind = self.open.last().map_or("", |node| node.name.as_str());
        let spelled = match kind {
            "Id" | "Name" | "Collate" | "Type" => folded(written),
            "Numeric" => number(written),
            "Blob" => written.to_ascii_lowercase(),
            // Strings, parameters, and what a module is told.
            _ => written.to_owned(),
        };
        self.text.push_str(&format!("{spelled:?}"));
    }
}

/// What stands between the quotes of a text that was written for debugging; the first has been read.
fn unescaped(rest: &mut std::str::Chars<'_>) -> Option<String> {
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => text.push(match rest.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let digits: String = rest.by_ref().skip(1).take_while(|digit| *digit != '}').collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                sign => sign,
            }),
            letter => text.push(letter),
        }
    }
}

/// A number, so that two are spelled alike only where SQLite reads the same from them: a whole one, or digits and a power of ten.
fn number(written: &str) -> String {
    let digits = written.replace('_', "").to_ascii_lowercase();
    if let Some(hexadecimal) = digits.strip_prefix("0x") {
        // Of 64 bits, the first for the sign.
        let number = u64::from_str_radix(hexadecimal, 16).map(u64::cast_signed);
        return number.map_or_else(|_| digits.clone(), |number| number.to_string());
    }
    let (mantissa, power) = digits.split_once('e').unwrap_or((&digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if mantissa.len() == digits.len() && mantissa.len() == whole.len() {
        let number = whole.trim_start_matches('0');
        return if number.is_empty() { "0".to_owned() } else { number.to_owned() };
    }
    let all = format!("{whole}{fraction}");
    let significant = all.trim_end_matches('0');
    let (Ok(power), Ok(places), Ok(zeros)) = (
        power.parse::<i64>(),
        i64::try_from(fraction.len()),
        i64::try_from(all.len().saturating_sub(significant.len())),
    ) else {
        return digits;
    };
    match significant.trim_start_matches('0') {
        "" => "0.0".to_owned(),
        significant => format!("{significant}e{}", power.saturating_sub(places).saturating_add(zeros)),
    }
}
