//! Canonical JSON (RFC 8785): one value, one sequence of bytes.
//!
//! Digests of calls and entries are digests of these bytes. Numbers that two
//! readers could understand differently are refused here as they are when read
//! ([`crate::strict`]): whatever this writes, the strict parser reads back as
//! the same value.

mod writer;

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};
use core::fmt::Display;

use serde::Serialize;

use self::writer::Writer;
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
/// When a number lies beyond ±(2^53 - 1), nesting exceeds [`DEPTH_MAX`], or an object has a key twice or one that is no
/// text. What was read as JSON has no such keys.
pub fn to_canonical_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    to_canonical_string(value).map(String::into_bytes)
}

/// The canonical text of a value.
///
/// # Errors
/// As [`to_canonical_vec`].
pub fn to_canonical_string<T: Serialize + ?Sized>(value: &T) -> Result<String, CanonicalError> {
    Writer::write(value, DEPTH_MAX)
}

/// SHA-256 of the canonical bytes of a value.
///
/// # Errors
/// As [`to_canonical_vec`].
pub fn canonical_digest<T: Serialize + ?Sized>(value: &T) -> Result<Hash, CanonicalError> {
    to_canonical_string(value).map(|text| sha256(text.as_bytes()))
}

/// As [`canonical_digest`], of a value as deep as it is: for what was not read as JSON and is bounded by its own parser,
/// such as a policy, whose conditions nest by two levels for each `&&`.
///
/// # Errors
/// [`CanonicalError::Number`], as [`to_canonical_vec`].
pub fn canonical_digest_of_any_depth<T: Serialize + ?Sized>(value: &T) -> Result<Hash, CanonicalError> {
    Writer::write(value, usize::MAX).map(|text| sha256(text.as_bytes()))
}

/// The canonical text of a value that stands in an entry of the log, one level below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalBody(String);

impl CanonicalBody {
    /// Writes a value.
    ///
    /// # Errors
    /// As [`to_canonical_vec`], with one level less.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, CanonicalError> {
        Writer::write(value, DEPTH_MAX - 1).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
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
    /// A key of an object that is no text, or that the object has twice.
    #[error("an object has the key {0} twice, or it is no text")]
    Key(String),
    /// A value that says itself that it cannot be written.
    #[error("{0}")]
    Unwritable(String),
}

impl serde::ser::Error for CanonicalError {
    fn custom<T: Display>(why: T) -> Self {
        Self::Unwritable(why.to_string())
    }
}

impl CanonicalError {
    /// The stable code of this refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Number(_) => "json_number_range",
            Self::Depth => "json_depth",
            Self::Key(_) => "json_key",
            Self::Unwritable(_) => "json_unwritable",
        }
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
    use alloc::{collections::BTreeMap, vec};
    use proptest::prelude::*;
    use serde_json::{Value, json};

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

    /// One of each form that a type can have.
    #[derive(Debug, Serialize)]
    enum Form {
        Unit,
        Newtype(Option<Value>),
        Tuple(u8, char, bool),
        Struct { zero: i8, b_b: u64, b: f32, a: () },
    }

    #[derive(Debug, Serialize)]
    struct Wrapped(Vec<Form>);

    #[derive(Debug, Serialize)]
    struct Typed<'a> {
        zulu: Wrapped,
        #[serde(flatten)]
        flat: &'a BTreeMap<String, Value>,
        by_number: BTreeMap<i32, &'a str>,
        by_truth: BTreeMap<bool, (u16, i64)>,
        #[serde(skip_serializing_if = "Option::is_none")]
        alpha: Option<char>,
    }

    fn typed<'a>(
        flat: &'a BTreeMap<String, Value>,
        inner: &Value,
        alpha: Option<char>,
        number: i32,
    ) -> Typed<'a> {
        let forms = vec![
            Form::Unit,
            Form::Newtype(Some(inner.clone())),
            Form::Newtype(None),
            Form::Tuple(7, alpha.unwrap_or('"'), true),
            Form::Struct { zero: -1, b_b: 9_007_199_254_740_991, b: 0.1, a: () },
        ];
        Typed {
            zulu: Wrapped(forms),
            flat,
            by_number: [(number, "one"), (-3, "two"), (20, "three"), (100, "\\")].into(),
            by_truth: [(true, (1, -1)), (false, (2, -2))].into(),
            alpha,
        }
    }

    #[test]
    fn a_key_stands_once_and_is_a_text() {
        let flat: BTreeMap<String, Value> = [("alpha".to_string(), json!(1))].into();
        assert_eq!(to_canonical_vec(&typed(&flat, &json!(1), None, 1)).err(), None);
        let twice = to_canonical_vec(&typed(&flat, &json!(1), Some('a'), 1)).unwrap_err();
        assert_eq!(twice, CanonicalError::Key("\"alpha\"".into()));
        for key in [vec![1], vec![]] {
            assert_eq!(to_canonical_vec(&BTreeMap::from([(key, 1)])).unwrap_err().code(), "json_key");
        }
        assert_eq!(to_canonical_vec(&BTreeMap::from([(None::<&str>, 1)])).unwrap_err().code(), "json_key");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(to_canonical_vec(&number).unwrap_err().code(), "json_number_range");
        }
        assert_eq!(to_canonical_vec(&i128::MAX).unwrap_err().code(), "json_number_range");
        assert_eq!(to_canonical_vec(&u128::MAX).unwrap_err().code(), "json_number_range");
        assert_eq!(to_canonical_string(&f32::MIN_POSITIVE).unwrap(), "1.1754943508222875e-38");
    }

    #[test]
    fn a_variant_counts_as_the_object_that_it_is() {
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(to_canonical_vec(&Form::Newtype(Some(nested(DEPTH_MAX - 1)))).is_ok());
        assert_eq!(to_canonical_vec(&Form::Newtype(Some(nested(DEPTH_MAX)))), Err(CanonicalError::Depth));
        assert!(CanonicalBody::of(&nested(DEPTH_MAX - 1)).is_ok());
        assert_eq!(CanonicalBody::of(&nested(DEPTH_MAX)), Err(CanonicalError::Depth));
    }

    proptest! {
        #[test]
        fn what_is_typed_is_written_as_its_tree(
            flat in proptest::collection::btree_map("(flat_)?[\\PC\\x00-\\x1f\"\\\\ !]{0,5}", any_json(), 0..5),
            inner in any_json(),
            alpha in proptest::option::of(any::<char>()),
            number in any::<i32>(),
        ) {
            let names = ["alpha", "zulu", "by_number", "by_truth"];
            prop_assume!(!flat.keys().any(|key| names.contains(&key.as_str())));
            let typed = typed(&flat, &inner, alpha, number);
            let tree = serde_json::to_value(&typed).unwrap();
            let text = to_canonical_string(&typed).unwrap();
            prop_assert_eq!(&text, &to_canonical_string(&tree).unwrap());
            prop_assert_eq!(text.as_bytes(), serde_json_canonicalizer::to_vec(&tree).unwrap());
        }

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
