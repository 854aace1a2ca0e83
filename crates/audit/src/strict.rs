//! A JSON parser that refuses whatever two parsers might read differently.
//!
//! An agent's arguments are decided upon by one program and acted upon by
//! another. Where JSON leaves room (duplicate keys, lone surrogates, numbers
//! beyond a double), the two could see different calls, so this accepts only
//! the part of RFC 8259 in which every reader agrees, and says at which byte it
//! stopped. The number rule is: the value kept equals, as a decimal number, the
//! value written.

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};

use serde_json::{Map, Number, Value, map};

use crate::canonical::{INTEGER_MAX, is_safe};

/// The deepest nesting that is read; arrays and objects count, scalars do not.
pub const DEPTH_MAX: usize = 64;

/// Parses one JSON text.
///
/// Integral numbers become integers however they are written (`1.0`, `1e0`, `-0`), so equal
/// values are equal `Value`s and parsing the canonical form yields the same `Value` again.
///
/// # Errors
/// See [`StrictError`]; nothing is ever repaired or guessed.
pub fn from_slice_strict(bytes: &[u8]) -> Result<Value, StrictError> {
    from_slice_with_depth(bytes, DEPTH_MAX)
}

/// As [`from_slice_strict`], with another limit of nesting.
///
/// # Errors
/// As [`from_slice_strict`].
pub(crate) fn from_slice_with_depth(bytes: &[u8], depth_max: usize) -> Result<Value, StrictError> {
    let text = core::str::from_utf8(bytes).map_err(|error| StrictError::Utf8 { at: error.valid_up_to() })?;
    let mut parser = Parser { text, bytes, at: 0, depth_max };
    parser.skip_space();
    let value = parser.value(depth_max)?;
    parser.skip_space();
    if parser.peek().is_some() {
        return Err(parser.syntax("the end, as there must be one JSON value only"));
    }
    Ok(value)
}

/// A JSON text is refused for one of these reasons. `at` is the offset in bytes from the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrictError {
    /// Not JSON by RFC 8259.
    #[error("invalid JSON at byte {at}: expected {expected}")]
    Syntax {
        /// Where.
        at: usize,
        /// This would have been right.
        expected: &'static str,
    },
    /// Not UTF-8.
    #[error("invalid JSON at byte {at}: the text is not UTF-8")]
    Utf8 {
        /// The first byte that is not part of a character.
        at: usize,
    },
    /// An object has one key twice, also when spelled with different escapes.
    #[error("refused JSON at byte {at}: the key `{key}` stands twice in one object")]
    DuplicateKey {
        /// The second one begins here.
        at: usize,
        /// The key, shortened and escaped for display.
        key: String,
    },
    /// A `\u` escape of half a character.
    #[error("refused JSON at byte {at}: an escaped surrogate without its other half is no character")]
    Surrogate {
        /// The escape begins here.
        at: usize,
    },
    /// Too many arrays and objects in each other.
    #[error("refused JSON at byte {at}: arrays and objects are nested deeper than {max} levels")]
    Depth {
        /// One too many opens here.
        at: usize,
        /// The limit.
        max: usize,
    },
    /// A number that readers with doubles and readers with integers would take for different ones.
    #[error(
        "refused JSON at byte {at}: the number `{number}` is beyond ±(2^53 - 1), where not every reader keeps it exact; write it as a string"
    )]
    NumberRange {
        /// The number begins here.
        at: usize,
        /// The number, shortened for display.
        number: String,
    },
    /// A number with more digits than a double keeps.
    #[error(
        "refused JSON at byte {at}: the number `{number}` would be kept as `{kept}`; write that, or a string"
    )]
    NumberPrecision {
        /// The number begins here.
        at: usize,
        /// The number, shortened for display.
        number: String,
        /// The nearest number that is exact.
        kept: String,
    },
}

impl StrictError {
    /// The byte at which reading stopped.
    #[must_use]
    pub const fn at(&self) -> usize {
        match self {
            Self::Syntax { at, .. }
            | Self::Utf8 { at }
            | Self::DuplicateKey { at, .. }
            | Self::Surrogate { at }
            | Self::Depth { at, .. }
            | Self::NumberRange { at, .. }
            | Self::NumberPrecision { at, .. } => *at,
        }
    }

    /// The stable code of this refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "json_syntax",
            Self::Utf8 { .. } => "json_utf8",
            Self::DuplicateKey { .. } => "json_duplicate_key",
            Self::Surrogate { .. } => "json_surrogate",
            Self::Depth { .. } => "json_depth",
            Self::NumberRange { .. } => "json_number_range",
            Self::NumberPrecision { .. } => "json_number_precision",
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth_max: usize,
}

impl Parser<'_> {
    fn value(&mut self, depth_left: usize) -> Result<Value, StrictError> {
        match self.peek() {
            Some(b'{') => self.object(self.deeper(depth_left)?),
            Some(b'[') => self.array(self.deeper(depth_left)?),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(_) | None => Err(self.syntax("a JSON value")),
        }
    }

    fn object(&mut self, depth_left: usize) -> Result<Value, StrictError> {
        let mut members = Map::new();
        self.advance(1);
        self.skip_space();
        if self.eat(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            let key_at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.syntax("a key in double quotes"));
            }
            let key = self.string()?;
            self.skip_space();
            if !self.eat(b':') {
                return Err(self.syntax("`:` after a key"));
            }
            self.skip_space();
            match members.entry(key) {
                map::Entry::Occupied(twice) => {
                    return Err(StrictError::DuplicateKey { at: key_at, key: shown(twice.key()) });
                }
                map::Entry::Vacant(vacant) => vacant.insert(self.value(depth_left)?),
            };
            self.skip_space();
            if self.eat(b'}') {
                return Ok(Value::Object(members));
            }
            if !self.eat(b',') {
                return Err(self.syntax("`,` or `}`"));
            }
            self.skip_space();
        }
    }

    fn array(&mut self, depth_left: usize) -> Result<Value, StrictError> {
        let mut items = Vec::new();
        self.advance(1);
        self.skip_space();
        if self.eat(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth_left)?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(Value::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.syntax("`,` or `]`"));
            }
            self.skip_space();
        }
    }

    /// At the opening quote; ends behind the closing one.
    fn string(&mut self) -> Result<String, StrictError> {
        self.advance(1);
        let mut out = String::new();
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = rest
                .iter()
                .position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\')
                .unwrap_or(rest.len());
            let end = self.at.saturating_add(plain);
            // Both ends stand next to ASCII or at the end of the text, so this cuts no character.
            out.push_str(self.text.get(self.at..end).unwrap_or_default());
            self.at = end;
            match self.peek() {
                Some(b'"') => {
                    self.advance(1);
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_control) => return Err(self.syntax("control characters in a string to be escaped")),
                None => return Err(self.syntax("a closing double quote")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, StrictError> {
        let start = self.at;
        self.advance(1);
        let character = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(start),
            Some(_) | None => return Err(self.syntax("one of `\"\\/bfnrtu` after `\\`")),
        };
        self.advance(1);
        Ok(character)
    }

    /// At the `u`; a character beyond U+FFFF is two escapes in a row.
    fn unicode_escape(&mut self, start: usize) -> Result<char, StrictError> {
        self.advance(1);
        let first = self.hex4()?;
        let lone = StrictError::Surrogate { at: start };
        let units = if (0xd800..0xdc00).contains(&first) {
            if !(self.eat(b'\\') && self.eat(b'u')) {
                return Err(lone);
            }
            alloc::vec![first, self.hex4()?]
        } else {
            alloc::vec![first]
        };
        match char::decode_utf16(units).next() {
            Some(Ok(character)) => Ok(character),
            Some(Err(_)) | None => Err(lone),
        }
    }

    fn hex4(&mut self) -> Result<u16, StrictError> {
        let mut unit = 0_u16;
        for _digit in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let digit = digit
                .and_then(|digit| u16::try_from(digit).ok())
                .ok_or_else(|| self.syntax("four hex digits after `\\u`"))?;
            unit = (unit << 4) | digit;
            self.advance(1);
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<Number, StrictError> {
        let start = self.at;
        let negative = self.eat(b'-');
        if self.eat(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.syntax("no digit after a leading zero"));
            }
        } else {
            self.digits()?;
        }
        let mut integral = true;
        if self.eat(b'.') {
            integral = false;
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            integral = false;
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        let literal = self.text.get(start..self.at).unwrap_or_default();
        let range = || StrictError::NumberRange { at: start, number: shown(literal) };
        if integral {
            let integer: i64 = literal.parse().map_err(|_too_long| range())?;
            return if (-INTEGER_MAX..=INTEGER_MAX).contains(&integer) {
                Ok(integer.into())
            } else {
                Err(range())
            };
        }
        let double: f64 = literal.parse().map_err(|_never| range())?;
        if !is_safe(double) {
            return Err(range());
        }
        let mut buffer = ryu_js::Buffer::new();
        let kept = buffer.format_finite(double);
        if Decimal::of(literal) != Decimal::of(kept) {
            return Err(StrictError::NumberPrecision {
                at: start,
                number: shown(literal),
                kept: if negative && double == 0.0 { "0".to_string() } else { kept.to_string() },
            });
        }
        // Doubles below 2^53 that are written without point or exponent are integers; those
        // with an exponent are below 1e-6.
        kept.parse::<i64>()
            .map_or_else(|_fraction| Number::from_f64(double).ok_or_else(range), |integer| Ok(integer.into()))
    }

    fn digits(&mut self) -> Result<(), StrictError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.advance(1);
        }
        if self.at == start { Err(self.syntax("a digit")) } else { Ok(()) }
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, StrictError> {
        let end = self.at.saturating_add(word.len());
        if self.bytes.get(self.at..end) != Some(word.as_bytes()) {
            return Err(self.syntax("a JSON value"));
        }
        self.at = end;
        Ok(value)
    }

    fn deeper(&self, depth_left: usize) -> Result<usize, StrictError> {
        depth_left.checked_sub(1).ok_or(StrictError::Depth { at: self.at, max: self.depth_max })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.advance(1);
        }
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.advance(1);
        }
    }

    const fn advance(&mut self, by: usize) {
        self.at = self.at.saturating_add(by);
    }

    const fn syntax(&self, expected: &'static str) -> StrictError {
        StrictError::Syntax { at: self.at, expected }
    }
}

/// The magnitude of a decimal number as its significant digits and the power of ten of the
/// last one. The sign needs no comparison: rounding keeps it, except on zero, where it has
/// no meaning.
#[derive(PartialEq, Eq)]
struct Decimal {
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Of a literal that is a JSON number.
    fn of(literal: &str) -> Self {
        let literal = literal.trim_start_matches('-');
        let (mantissa, exponent) = literal.split_once(['e', 'E']).unwrap_or((literal, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> =
            whole.bytes().chain(fraction.bytes()).skip_while(|digit| *digit == b'0').collect();
        // An exponent beyond i64 belongs to zero or to a number that is refused for its range.
        let mut exponent =
            exponent.parse::<i64>().unwrap_or(i64::MIN).saturating_sub_unsigned(fraction.len() as u64);
        while digits.pop_if(|digit| *digit == b'0').is_some() {
            exponent = exponent.saturating_add(1);
        }
        if digits.is_empty() {
            exponent = 0;
        }
        Self { digits, exponent }
    }
}

/// Input that goes into a message: short, and without control characters.
fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 64;
    let mut short: String = text.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
#[path = "strict/tests.rs"]
pub(crate) mod tests;
