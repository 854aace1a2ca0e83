//! Comparisons that can never be true: numbers beyond what something can be, and patterns that none of its words fits.

use alloc::string::String;
use core::ops::RangeInclusive;

use serde_json::Value;

/// Returns the range of a number of the context, arguments left out.
pub(super) fn range(path: &[&str]) -> Option<RangeInclusive<i64>> {
    match path {
        ["context", "time", "hour"] => Some(0..=23),
        ["context", "time", "minute"] => Some(0..=59),
        ["context", "time", "weekday"] => Some(1..=7),
        ["context", "args" | "time", ..] => None,
        // Rows, calls, money in minor units.
        ["context", ..] => Some(0..=i64::MAX),
        _ => None,
    }
}

/// Returns the range of an integer argument by its schema, as far as that bounds it.
pub(super) fn range_of_argument(schema: &Value) -> Option<RangeInclusive<i64>> {
    if schema.get("type").and_then(Value::as_str) != Some("integer") {
        return None;
    }
    let bound = |name: &str| schema.get(name).map(|bound| bound.as_i64());
    let low = match (bound("minimum"), bound("exclusiveMinimum")) {
        (None, None) => i64::MIN,
        (Some(low), None) => low?,
        (None, Some(low)) => low?.checked_add(1)?,
        (Some(_), Some(_)) => return None,
    };
    let high = match (bound("maximum"), bound("exclusiveMaximum")) {
        (None, None) => i64::MAX,
        (Some(high), None) => high?,
        (None, Some(high)) => high?.checked_sub(1)?,
        (Some(_), Some(_)) => return None,
    };
    Some(low..=high)
}

/// Returns true if `left operation number` can hold for some number of the range, and for what compares in another
/// way.
pub(super) fn can_hold(range: &RangeInclusive<i64>, operation: &str, number: i64) -> bool {
    match operation {
        "<" => *range.start() < number,
        "<=" => *range.start() <= number,
        ">" => *range.end() > number,
        ">=" => *range.end() >= number,
        "==" | "!=" | "contains" | "containsAll" | "containsAny" => range.contains(&number),
        _ => true,
    }
}

/// Returns the same comparison with its sides exchanged.
pub(super) fn mirrored(operation: &str) -> &str {
    match operation {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        same => same,
    }
}

/// The number that an expression is.
pub(super) fn number(expression: &Value) -> Option<i64> {
    if let Some(negated) = expression.pointer("/neg/arg") {
        return number(negated)?.checked_neg();
    }
    expression.get("Value")?.as_i64()
}

/// Returns true if a text fits the pattern of a `like`, in Cedar's JSON form: literals and wildcards in order.
pub(super) fn fits(pattern: &[Value], text: &str) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
    match first.get("Literal").and_then(Value::as_str) {
        Some(literal) => text.strip_prefix(literal).is_some_and(|behind| fits(rest, behind)),
        None => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| text.get(at..).is_some_and(|behind| fits(rest, behind)))
        }
    }
}

/// A pattern as it is written.
pub(super) fn shown(pattern: &[Value]) -> String {
    pattern.iter().map(|part| part.get("Literal").and_then(Value::as_str).unwrap_or("*")).collect()
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_comparison_can_hold_where_some_number_meets_it() {
        for operation in ["<", "<=", ">", ">=", "=="] {
            for number in -2..=9 {
                let holds = (1..=7).any(|x: i64| match operation {
                    "<" => x < number,
                    "<=" => x <= number,
                    ">" => x > number,
                    ">=" => x >= number,
                    _ => x == number,
                });
                assert_eq!(can_hold(&(1..=7), operation, number), holds, "{operation} {number}");
                let mirror = can_hold(&(1..=7), mirrored(mirrored(operation)), number);
                assert_eq!(mirror, holds, "{operation} {number}");
            }
        }
    }

    #[test]
    fn patterns_are_cedars() {
        let literal = |text: &str| json!({ "Literal": text });
        let wild = || json!("Wildcard");
        for (pattern, text, expected) in [
            (Vec::from([literal("del"), wild()]), "delete", true),
            (Vec::from([literal("del"), wild()]), "del", true),
            (Vec::from([wild(), literal("te")]), "write", true),
            (Vec::from([wild(), literal("t"), wild(), literal("e")]), "destructive", true),
            (Vec::from([literal("e"), wild()]), "write", false),
            (Vec::from([wild()]), "", true),
            (Vec::new(), "x", false),
        ] {
            assert_eq!(fits(&pattern, text), expected, "{pattern:?} {text}");
        }
        assert_eq!(shown(&[literal("a"), wild(), literal("*")]), "a**");
    }
}
