//! Which changes of a call's arguments only take away, as the tool's author declares it.
//!
//! A declaration is believed no further than it can be checked: the value must have changed in the declared direction, and what
//! was measured of the changed call must lie within what was measured of the first ([`crate::Reach::within`]), which the caller
//! sees to.

use alloc::{collections::BTreeMap, format, string::String};

use serde_json::{Map, Value};

/// An argument changed in this way makes a call that does less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Narrows {
    /// A smaller number that is not negative: a negative one stands for no limit at all where it is one.
    Lower,
    /// A larger number.
    Higher,
    /// A list that has some of the items and no others, at least one: an empty one may mean all.
    Subset,
    /// An earlier day, written `2026-01-31`.
    Earlier,
    /// A later day, written so.
    Later,
}

impl Narrows {
    /// Every way, with the word by which it is declared.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("lower", Self::Lower),
        ("higher", Self::Higher),
        ("subset", Self::Subset),
        ("earlier", Self::Earlier),
        ("later", Self::Later),
    ];

    /// Returns the word by which the way is declared.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
            Self::Subset => "subset",
            Self::Earlier => "earlier",
            Self::Later => "later",
        }
    }

    /// Checks that an argument of this schema can change so.
    ///
    /// # Errors
    /// Returns what the schema would have to say.
    pub fn fits(self, schema: Option<&Value>) -> Result<(), &'static str> {
        let says = |key: &str, wanted: &[&str]| {
            let said = schema.and_then(|schema| schema.get(key)).and_then(Value::as_str);
            said.is_some_and(|said| wanted.contains(&said))
        };
        match self {
            Self::Lower | Self::Higher if !says("type", &["integer", "number"]) => {
                Err("that takes an argument with `type = \"integer\"` or `\"number\"`")
            }
            Self::Subset if !says("type", &["array"]) => {
                Err("that takes an argument with `type = \"array\"`")
            }
            Self::Earlier | Self::Later if !(says("type", &["string"]) && says("format", &["date"])) => {
                Err("that takes an argument with `type = \"string\", format = \"date\"`")
            }
            Self::Lower | Self::Higher | Self::Subset | Self::Earlier | Self::Later => Ok(()),
        }
    }

    fn takes_away(self, from: &Value, to: &Value) -> bool {
        match self {
            Self::Lower => larger(from, to) && to.as_f64().is_some_and(|to| to >= 0.0),
            Self::Higher => larger(to, from),
            Self::Subset => match (from.as_array(), to.as_array()) {
                (Some(from), Some(to)) => {
                    !to.is_empty() && to.len() <= from.len() && to.iter().all(|item| from.contains(item))
                }
                _ => false,
            },
            Self::Earlier => day(to).zip(day(from)).is_some_and(|(to, from)| to <= from),
            Self::Later => day(to).zip(day(from)).is_some_and(|(to, from)| to >= from),
        }
    }
}

/// Returns true if `one` is not smaller than `other`. Numbers of which that cannot be said without rounding are not comparable.
fn larger(one: &Value, other: &Value) -> bool {
    let whole = |value: &Value| value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one >= other,
        (None, None) => one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| one >= other),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Returns a text that is a day, whose order is that of the days.
fn day(value: &Value) -> Option<&str> {
    let text = value.as_str()?;
    let digits = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    (parts.next().is_none() && digits(year, 4) && digits(month, 2) && digits(day, 2)).then_some(text)
}

/// Returns true if a call's arguments were changed only in ways that take away, as its tool declares them by argument. An
/// argument that was left out or added is another change: what is not said may mean everything.
#[must_use]
pub fn takes_away(
    declared: &BTreeMap<String, Narrows>,
    from: &Map<String, Value>,
    to: &Map<String, Value>,
) -> bool {
    from.len() == to.len()
        && to.iter().all(|(name, value)| {
            from.get(name).is_some_and(|before| {
                before == value || declared.get(name).is_some_and(|way| way.takes_away(before, value))
            })
        })
}

/// Checks that each declared way is one in which the argument can change.
///
/// # Errors
/// Returns the argument, and what is wrong there.
pub fn check(declared: &BTreeMap<String, Narrows>, schema: &Value) -> Result<(), (String, String)> {
    for (name, way) in declared {
        let property = schema.get("properties").and_then(|properties| properties.get(name));
        if property.is_none() {
            return Err((name.clone(), "there is no such argument".into()));
        }
        way.fits(property).map_err(|why| (name.clone(), format!("`{}`: {why}", way.as_str())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn declared() -> BTreeMap<String, Narrows> {
        [
            ("limit", Narrows::Lower),
            ("ids", Narrows::Subset),
            ("before", Narrows::Earlier),
            ("since", Narrows::Later),
            ("age", Narrows::Higher),
        ]
        .map(|(name, way)| (name.into(), way))
        .into()
    }

    #[test]
    fn only_what_takes_away_in_the_declared_way_does() {
        let whole = json!({ "limit": 10, "ids": [1, 2, 3], "before": "2026-02-01", "since": "2025-01-01", "age": 30, "who": "a" });
        let with = |name: &str, value: Value| {
            let mut changed = object(&whole);
            changed.insert(name.into(), value);
            takes_away(&declared(), &object(&whole), &changed)
        };
        for (name, less) in [
            ("limit", json!(9)),
            ("limit", json!(0)),
            ("ids", json!([3])),
            ("ids", json!([2, 1])),
            ("before", json!("2026-01-31")),
            ("since", json!("2025-01-02")),
            ("age", json!(31)),
            ("age", json!(u64::MAX)),
        ] {
            assert!(with(name, less.clone()), "{name} {less}");
        }
        for (name, other) in [
            ("limit", json!(11)),
            // No limit at all to SQLite.
            ("limit", json!(-1)),
            ("limit", json!(9.5)),
            ("limit", json!("9")),
            ("limit", json!(null)),
            ("limit", json!(-0.0)),
            ("ids", json!([])),
            ("ids", json!([1, 4])),
            ("ids", json!([1, 1, 2, 2])),
            ("ids", json!(["1"])),
            ("ids", json!(1)),
            ("before", json!("2026-02-02")),
            ("before", json!("")),
            ("before", json!("2026-1-31")),
            ("before", json!("2026-01-31' or '1'='1")),
            ("before", json!("10000-01-01")),
            ("since", json!("2024-12-31")),
            ("age", json!(29)),
            // Not declared.
            ("who", json!("b")),
            ("new", json!(1)),
        ] {
            assert!(!with(name, other.clone()), "{name} {other}");
        }
        let mut fewer = object(&whole);
        fewer.remove("limit");
        assert!(!takes_away(&declared(), &object(&whole), &fewer), "what is not said may mean everything");
        assert!(!takes_away(&BTreeMap::new(), &object(&json!({ "a": 2 })), &object(&json!({ "a": 1 }))));
    }

    #[test]
    fn a_way_in_which_an_argument_cannot_change_is_refused() {
        let schema = json!({ "properties": {
            "limit": { "type": "integer" }, "name": { "type": "string" }, "day": { "type": "string", "format": "date" },
            "ids": { "type": "array" }, "any": {},
        } });
        for (name, way, fits) in [
            ("limit", Narrows::Lower, true),
            ("limit", Narrows::Subset, false),
            ("name", Narrows::Earlier, false),
            ("day", Narrows::Earlier, true),
            ("day", Narrows::Lower, false),
            ("ids", Narrows::Subset, true),
            ("any", Narrows::Higher, false),
            ("gone", Narrows::Lower, false),
        ] {
            assert_eq!(check(&[(name.into(), way)].into(), &schema).is_ok(), fits, "{name}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            (-3_i64..4).prop_map(|n| json!(n)),
            select(alloc::vec![
                json!(u64::MAX),
                json!(i64::MIN),
                json!(0.5),
                json!(1.0),
                json!("1"),
                json!(null)
            ]),
        ];
        let list = vec(0_i64..3, 0..4).prop_map(|items| json!(items));
        let day = select(alloc::vec!["2026-01-01", "2026-01-02", "0000-00-00", "９999-01-01"])
            .prop_map(|d| json!(d));
        prop_oneof![number, list, day]
    }

    proptest! {
        /// Nothing that was taken away comes back by taking away once more, and no order of values goes both ways.
        #[test]
        fn taking_away_is_transitive_and_goes_one_way(
            way in select(alloc::vec![Narrows::Lower, Narrows::Higher, Narrows::Subset, Narrows::Earlier, Narrows::Later]),
            (a, b, c) in (any_value(), any_value(), any_value()),
        ) {
            if way.takes_away(&a, &b) && way.takes_away(&b, &c) {
                prop_assert!(way.takes_away(&a, &c));
            }
            if way.takes_away(&a, &b) && way.takes_away(&b, &a) {
                let same = match (a.as_array(), b.as_array()) {
                    (Some(a), Some(b)) => a.iter().all(|item| b.contains(item)) && b.iter().all(|item| a.contains(item)),
                    _ => a == b || a.as_f64() == b.as_f64(),
                };
                prop_assert!(same, "{} {}", a, b);
            }
        }
    }
}
