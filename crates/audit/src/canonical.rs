//! Canonical JSON (RFC 8785): one value, one sequence of bytes.
//!
//! Digests of calls and entries are digests of these bytes. Numbers that two
//! readers could understand differently are refused here as they are when read
//! ([`crate::strict`]): whatever this writes, the strict parser reads back as
//! the same value.

use alloc::{string::String, vec::Vec};
use core::fmt::Write as _;

use serde_json::{Map, Number, Value};

use crate::hash::{Hash, sha256};

/// The deepest nesting that is written; arrays and objects count, scalars do not.
///
/// It is above [`crate::strict::DEPTH_MAX`], so that what a front door accepted always fits
/// into an entry that wraps it.
pub const DEPTH_MAX: usize = 128;

/// The largest integer up to which every integer is exact in a double: `2^53 - 1` (RFC 7493, section 2.2).
pub const INTEGER_MAX: i64 = 9_007_199_254_740_991;

/// The canonical bytes of a value.
///
/// # Errors
/// When a number lies beyond ±(2^53 - 1), or nesting exceeds [`DEPTH_MAX`].
pub fn to_canonical_vec(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    to_canonical_string(value).map(String::into_bytes)
}

/// The canonical text of a value.
///
/// # Errors
/// As [`to_canonical_vec`].
pub fn to_canonical_string(value: &Value) -> Result<String, CanonicalError> {
    let mut out = String::with_capacity(256);
    write_value(&mut out, value, DEPTH_MAX)?;
    Ok(out)
}

/// SHA-256 of the canonical bytes of a value.
///
/// # Errors
/// As [`to_canonical_vec`].
pub fn canonical_digest(value: &Value) -> Result<Hash, CanonicalError> {
    to_canonical_string(value).map(|text| sha256(text.as_bytes()))
}

/// As [`canonical_digest`], of a value as deep as it is: for what was not read as JSON and is bounded by its own parser,
/// such as a policy, whose conditions nest by two levels for each `&&`.
///
/// # Errors
/// [`CanonicalError::Number`], as [`to_canonical_vec`].
pub fn canonical_digest_of_any_depth(value: &Value) -> Result<Hash, CanonicalError> {
    let mut out = String::with_capacity(256);
    write_value(&mut out, value, usize::MAX)?;
    Ok(sha256(out.as_bytes()))
}

/// A value has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// A number that readers with doubles and readers with integers would take for different ones.
    #[error(
        "the number {0} is beyond ±(2^53 - 1), where not every reader keeps it exact; write it as a string"
    )]
    Number(String),
    /// Too many arrays and objects in each other.
    #[error("arrays and objects are nested deeper than {DEPTH_MAX} levels")]
    Depth,
}

impl CanonicalError {
    /// The stable code of this refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Number(_) => "json_number_range",
            Self::Depth => "json_depth",
        }
    }
}

pub(crate) fn write_value(out: &mut String, value: &Value, depth_left: usize) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number)?,
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            let depth_left = depth_left.checked_sub(1).ok_or(CanonicalError::Depth)?;
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_value(out, item, depth_left)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            write_object(out, members, depth_left.checked_sub(1).ok_or(CanonicalError::Depth)?)?;
        }
    }
    Ok(())
}

/// Keys are sorted by UTF-16 code units (RFC 8785, section 3.2.3), which differs from the
/// order of UTF-8 bytes for characters beyond U+FFFF.
fn write_object(
    out: &mut String,
    members: &Map<String, Value>,
    depth_left: usize,
) -> Result<(), CanonicalError> {
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    sorted.sort_unstable_by(|(a, _), (b, _)| {
        if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
    });
    out.push('{');
    for (position, (key, value)) in sorted.into_iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
        write_value(out, value, depth_left)?;
    }
    out.push('}');
    Ok(())
}

fn write_number(out: &mut String, number: &Number) -> Result<(), CanonicalError> {
    let refused = || CanonicalError::Number(alloc::format!("{number}"));
    if let Some(integer) = number.as_i64() {
        if integer.unsigned_abs() > INTEGER_MAX.unsigned_abs() {
            return Err(refused());
        }
        return write!(out, "{integer}").map_err(|_never| refused());
    }
    match number.as_f64() {
        Some(double) if number.is_f64() && is_safe(double) => {
            out.push_str(ryu_js::Buffer::new().format_finite(double));
            Ok(())
        }
        Some(_) | None => Err(refused()),
    }
}

/// Returns true if a double lies where integers are exact. `2^53` itself does not: it is also what `2^53 + 1` is
/// rounded to.
pub(crate) fn is_safe(double: f64) -> bool {
    double.abs() <= INTEGER_MAX as f64
}

pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        // The found byte is ASCII, so both cuts lie between characters.
        let (Some(plain), Some(special), Some(after)) =
            (rest.get(..at), rest.as_bytes().get(at), at.checked_add(1).and_then(|next| rest.get(next..)))
        else {
            break;
        };
        out.push_str(plain);
        write_escape(out, *special);
        rest = after;
    }
    out.push_str(rest);
    out.push('"');
}

fn write_escape(out: &mut String, byte: u8) {
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        0x08 => out.push_str("\\b"),
        0x09 => out.push_str("\\t"),
        0x0a => out.push_str("\\n"),
        0x0c => out.push_str("\\f"),
        0x0d => out.push_str("\\r"),
        control => {
            out.push_str("\\u00");
            for nibble in [control >> 4, control & 0x0f] {
                out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict::{from_slice_strict, tests::any_json};
    use alloc::string::ToString as _;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_example_of_the_rfc() {
        let value: Value = serde_json::from_str(
            r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#,
        )
        .unwrap();
        // 1E30 is the one number of the example that we refuse.
        assert_eq!(to_canonical_vec(&value).unwrap_err().code(), "json_number_range");
        let mut value = value;
        value["numbers"][1] = json!(1);
        assert_eq!(
            to_canonical_string(&value).unwrap(),
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
    }

    /// Found by fuzzing: without `float_roundtrip`, `serde_json` reads 59567440991.627365 here.
    #[test]
    fn a_number_is_read_as_it_was_written() {
        for text in ["59567440991.62737", "59567440991.627370", "0.1", "5e-324"] {
            let lax: Value = serde_json::from_str(text).unwrap();
            let strict = from_slice_strict(text.as_bytes()).unwrap();
            assert_eq!(lax.as_f64(), strict.as_f64(), "{text}");
            assert_eq!(lax.as_f64(), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn keys_are_sorted_by_utf16() {
        // The sorting example of RFC 8785, section 3.2.3.
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis",
        });
        let text = to_canonical_string(&value).unwrap();
        let order = ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"]
            .map(|word| text.find(word).unwrap());
        assert!(order.is_sorted(), "{text}");
    }

    #[test]
    fn numbers_beyond_two_to_the_53_are_refused() {
        for number in [json!(INTEGER_MAX), json!(-INTEGER_MAX), json!(0.1), json!(-0.0), json!(5e-324)] {
            assert!(to_canonical_vec(&number).is_ok(), "{number}");
        }
        for number in [
            json!(INTEGER_MAX + 1),
            json!(-INTEGER_MAX - 1),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(9_007_199_254_740_992.0),
            json!(1e300),
        ] {
            assert_eq!(to_canonical_vec(&number), Err(CanonicalError::Number(number.to_string())));
        }
        assert_eq!(to_canonical_string(&json!([-0.0, 1.0, 1e-7])).unwrap(), "[0,1,1e-7]");
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(to_canonical_vec(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(to_canonical_vec(&nested(DEPTH_MAX + 1)), Err(CanonicalError::Depth));
        assert_eq!(canonical_digest_of_any_depth(&nested(DEPTH_MAX)), canonical_digest(&nested(DEPTH_MAX)));
        assert!(canonical_digest_of_any_depth(&nested(DEPTH_MAX + 1)).is_ok());
    }

    proptest! {
        #[test]
        fn agrees_with_another_implementation(value in any_json()) {
            prop_assert_eq!(to_canonical_vec(&value).unwrap(), serde_json_canonicalizer::to_vec(&value).unwrap());
        }

        #[test]
        fn what_is_written_is_read_back_the_same(value in any_json()) {
            let bytes = to_canonical_vec(&value).unwrap();
            let read = from_slice_strict(&bytes).unwrap();
            prop_assert_eq!(to_canonical_vec(&read).unwrap(), bytes);
        }
    }
}
