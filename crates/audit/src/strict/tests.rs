use super::*;
use crate::canonical::to_canonical_string;
use alloc::{format, vec};
use proptest::prelude::*;
use serde_json::json;

/// Values as the strict parser yields them: integral numbers are integers.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-INTEGER_MAX..=INTEGER_MAX).prop_map(|integer| json!(integer)),
        // From 2^50 on, a double can lie halfway between its two shortest spellings.
        any::<f64>()
            .prop_filter("fraction", |double| double.fract() != 0.0 && double.abs() < 562_949_953_421_312.0)
            .prop_map(|double| json!(double)),
        any::<String>().prop_map(Value::String),
        "[\\x00-\\x7f\u{e000}\u{ffff}\u{10000}]{0,8}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map("[a-c\u{e000}\u{10000}\\n]{0,3}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn code(text: &str) -> &'static str {
    from_slice_strict(text.as_bytes()).unwrap_err().code()
}

#[test]
fn plain_json_is_read() {
    let text = " { \"a\" : [ 1 , -2.5, \"x\\u00e9\\ud83d\\ude00\\/\\n\" , true , false , null ] , \"\" : { } , \"b\":[] } \r\n\t";
    assert_eq!(
        from_slice_strict(text.as_bytes()),
        Ok(json!({"a": [1, -2.5, "xé😀/\n", true, false, null], "": {}, "b": []}))
    );
}

#[test]
fn integral_numbers_become_integers() {
    for (text, integer) in [
        ("0", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("1.0", 1),
        ("1e3", 1000),
        ("100e-2", 1),
        ("0e99999999999999999999", 0),
        ("9007199254740991", INTEGER_MAX),
        ("-9007199254740991.0", -INTEGER_MAX),
    ] {
        assert_eq!(from_slice_strict(text.as_bytes()), Ok(json!(integer)), "{text}");
    }
}

#[test]
fn fractions_are_kept_when_exact() {
    for text in ["0.1", "10.50", "1E-7", "1.5e300e", "5e-324", "123456.789"] {
        let read = from_slice_strict(text.as_bytes());
        assert_eq!(read.is_ok(), !text.ends_with('e'), "{text}: {read:?}");
    }
    assert_eq!(from_slice_strict(b"10.50"), Ok(json!(10.5)));
}

#[test]
fn of_two_shortest_spellings_the_canonical_one_is_read() {
    // The double is 1050945459303911.25, and RFC 8785 writes it with the even digit.
    assert!(from_slice_strict(b"1050945459303911.2").is_ok());
    assert_eq!(code("1050945459303911.3"), "json_number_precision");
}

#[test]
fn numbers_that_readers_differ_on_are_refused() {
    for text in [
        "9007199254740992",
        "-9007199254740992",
        "9007199254740993",
        "18446744073709551616",
        "1e16",
        "1e21",
        "1e400",
        "-1e99999999999999999999",
        "9007199254740993.0",
    ] {
        assert_eq!(code(text), "json_number_range", "{text}");
    }
    for text in [
        "0.1000000000000000055",
        "9007199254740990.9999",
        "1e-400",
        "3.14159265358979323846",
        "1e-99999999999999999999",
    ] {
        assert_eq!(code(text), "json_number_precision", "{text}");
    }
    assert_eq!(
        from_slice_strict(b"[0.30000000000000000001]").unwrap_err().to_string(),
        "refused JSON at byte 1: the number `0.30000000000000000001` would be kept as `0.3`; write that, or a string"
    );
}

#[test]
fn duplicate_keys_are_refused_however_they_are_spelled() {
    assert_eq!(
        from_slice_strict(br#"{"amount":1,"amoun\u0074":2}"#),
        Err(StrictError::DuplicateKey { at: 12, key: "amount".to_string() })
    );
    assert_eq!(code(r#"[{"a":{"b":1,"b":1}}]"#), "json_duplicate_key");
    assert!(from_slice_strict(r#"{"a":1,"A":1,"á":1,"a\u0301":1}"#.as_bytes()).is_ok());
}

#[test]
fn half_characters_and_broken_utf8_are_refused() {
    for text in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800A""#, r#""\ud83dx\ude00""#] {
        assert_eq!(code(text), "json_surrogate", "{text}");
    }
    assert_eq!(from_slice_strict(b"\"\xff\""), Err(StrictError::Utf8 { at: 1 }));
    assert_eq!(from_slice_strict(b"\"\xed\xa0\x80\""), Err(StrictError::Utf8 { at: 1 }));
}

#[test]
fn nesting_is_limited() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(from_slice_strict(nested(DEPTH_MAX).as_bytes()).is_ok());
    assert_eq!(
        from_slice_strict(nested(DEPTH_MAX + 1).as_bytes()),
        Err(StrictError::Depth { at: DEPTH_MAX, max: DEPTH_MAX })
    );
    assert_eq!(code(&"[".repeat(1_000_000)), "json_depth");
    assert_eq!(code(&r#"{"a":"#.repeat(1_000_000)), "json_depth");
}

#[test]
fn what_is_not_json_is_refused() {
    for text in [
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "NaN",
        "Infinity",
        "-",
        "+1",
        "01",
        "-01",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "1_0",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\t\"",
        "'a'",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,]",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{,}",
        "[]]",
        "1 2",
        "{} {}",
        "[1 2]",
        "// c\n1",
        "\u{feff}1",
        "\u{a0}1",
        "null\0",
    ] {
        assert_eq!(code(text), "json_syntax", "{text:?}");
    }
}

#[test]
fn hostile_input_in_a_message_is_short_and_escaped() {
    let text = format!("{{\"{0}\":1,\"{0}\":1}}", "\\u001b".repeat(500));
    let message = from_slice_strict(text.as_bytes()).unwrap_err().to_string();
    assert!(message.len() < 600 && !message.contains('\u{1b}'), "{message}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = from_slice_strict(&bytes) {
            prop_assert_eq!(Ok(value), from_slice_strict(&bytes));
        }
    }

    #[test]
    fn what_it_accepts_the_ordinary_parser_reads_the_same(text in r#"[\[\]{}:,"\\/untrefalsb0-9eE+. -]{0,24}|[0-9.eE+-]{1,24}"#) {
        if let Ok(value) = from_slice_strict(text.as_bytes()) {
            let ordinary: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(to_canonical_string(&value), to_canonical_string(&ordinary));
        }
    }

    #[test]
    fn spacing_and_key_order_change_nothing(value in any_json()) {
        let pretty = serde_json::to_vec_pretty(&value).unwrap();
        prop_assert_eq!(from_slice_strict(&pretty), Ok(value));
    }

    #[test]
    fn numbers_are_kept_as_written_or_refused(double in any::<f64>()) {
        prop_assume!(double.is_finite());
        let text = format!("{double:e}");
        match from_slice_strict(text.as_bytes()) {
            Ok(number) => prop_assert_eq!(number.as_f64().map(|number| number + 0.0), Some(double + 0.0)),
            // Halfway between two shortest spellings, ECMAScript and Rust choose different ones.
            Err(StrictError::NumberPrecision { kept, .. }) => prop_assert_eq!(kept.parse(), Ok(double)),
            Err(error) => prop_assert!(!is_safe(double), "{}", error),
        }
    }

    #[test]
    fn a_flipped_bit_never_gives_an_equal_value_with_other_canonical_bytes(value in any_json(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let canonical = to_canonical_string(&value).unwrap();
        let mut bytes = canonical.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(other) = from_slice_strict(&bytes) {
            prop_assert_eq!(other == value, to_canonical_string(&other).unwrap() == canonical);
        }
    }
}

#[test]
fn limits_of_the_decimal_comparison() {
    assert!(Decimal::of("0.00") == Decimal::of("0"));
    assert!(Decimal::of("1.20e2") == Decimal::of("120"));
    assert!(Decimal::of("-1.2e-2") == Decimal::of("0.012"));
    assert!(Decimal::of("1.2") != Decimal::of("1.21"));
    assert_eq!(Decimal::of("12e-1").digits, vec![b'1', b'2']);
}
