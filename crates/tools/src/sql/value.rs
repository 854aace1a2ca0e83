//! Rows of a result as JSON, within limits of rows and bytes.

use countersign_audit::canonical::INTEGER_MAX;
use serde_json::{Map, Value, json};

use crate::{declared::size, secret::Scrubber};

/// An integer as JSON: a number, or text when a reader might round it (RFC 8785, RFC 7493).
pub(crate) fn integer(value: i64) -> Value {
    if (-INTEGER_MAX..=INTEGER_MAX).contains(&value) {
        Value::from(value)
    } else {
        Value::from(value.to_string())
    }
}

/// A floating-point number as JSON: what JSON cannot write is text (`NaN`, `Infinity`, `-Infinity`).
pub(crate) fn real(value: f64) -> Value {
    if value.is_nan() {
        Value::from("NaN")
    } else if value.is_infinite() {
        Value::from(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        Value::from(value)
    }
}

/// Collects rows until a limit.
#[derive(Debug)]
pub(crate) struct Rows {
    columns: Vec<String>,
    rows: Vec<Value>,
    bytes: usize,
    rows_max: u64,
    bytes_max: usize,
    truncated: bool,
    scrubber: Scrubber,
}

/// Another row may follow, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Left,
    Full,
}

/// Why rows have no JSON form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRow {
    /// One row alone is larger than a whole result may be.
    #[error("a row has {0} bytes, more than the {1} of a whole result; select fewer or shorter columns")]
    TooLarge(usize, usize),
    /// A value of a kind that JSON has no form for.
    #[error("column `{0}`: {1}")]
    Value(String, String),
}

impl Rows {
    /// Columns of one name (`RETURNING old.email, new.email`) are numbered from the second on, so that each is a member
    /// of its own: `email`, `email_2`.
    pub(crate) fn new(columns: impl IntoIterator<Item = String>, rows_max: u64, bytes_max: usize) -> Self {
        let named: Vec<String> = columns.into_iter().collect();
        let mut columns: Vec<String> = Vec::with_capacity(named.len());
        for (at, name) in named.iter().enumerate() {
            let mut own = name.clone();
            let mut number: u32 = 1;
            // A name that a later column has by right is not given away.
            while columns.contains(&own) || (number > 1 && named.iter().skip(at).any(|later| *later == own)) {
                number = number.saturating_add(1);
                own = format!("{name}_{number}");
            }
            columns.push(own);
        }
        let scrubber = Scrubber::default();
        Self { columns, rows: Vec::new(), bytes: 0, rows_max, bytes_max, truncated: false, scrubber }
    }

    /// Keeps secrets out of the values: what is counted, checked, digested and answered is without them. Names of columns
    /// are words of the statement and its tables, which a weak password must not change.
    pub(crate) fn keeping_out(self, scrubber: &Scrubber) -> Self {
        Self { scrubber: scrubber.clone(), ..self }
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Takes one row, unless a limit is reached: then the result is marked as truncated.
    pub(crate) fn push(&mut self, values: Vec<Value>) -> Result<Room, BadRow> {
        if self.len() >= self.rows_max {
            self.truncated = true;
            return Ok(Room::Full);
        }
        let values = values.into_iter().map(|value| self.scrubber.redact_all(value));
        let row: Map<String, Value> = self.columns.iter().cloned().zip(values).collect();
        let row = Value::Object(row);
        let bytes = size(&row);
        if bytes > self.bytes_max {
            return Err(BadRow::TooLarge(bytes, self.bytes_max));
        }
        if self.bytes.saturating_add(bytes) > self.bytes_max {
            self.truncated = true;
            return Ok(Room::Full);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.rows.push(row);
        Ok(Room::Left)
    }

    pub(crate) fn len(&self) -> u64 {
        u64::try_from(self.rows.len()).unwrap_or(u64::MAX)
    }

    /// The reply of a read.
    pub(crate) fn reply(&self) -> Value {
        json!({ "rows": self.rows, "row_count": self.len(), "truncated": self.truncated })
    }

    /// The reply of a write that touched so many rows. What returns no columns is told as a count alone: a list
    /// without rows reads as if nothing had been found.
    pub(crate) fn changed(&self, count: u64) -> Value {
        if self.columns.is_empty() {
            return json!({ "rows_changed": count });
        }
        json!({ "rows": self.rows, "row_count": count, "truncated": self.truncated })
    }
}

/// A value as an approver sees it in a sample: short, and hidden where a rule says so.
pub(crate) fn shown(value: &Value, masked: bool) -> Option<String> {
    const CHARS_MAX: usize = 80;
    let text = match value {
        Value::Null => return None,
        _ if masked => return Some("•••".into()),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    Some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_large_integers_as_text() {
        assert_eq!(integer(INTEGER_MAX), json!(9_007_199_254_740_991_i64));
        assert_eq!(integer(i64::MIN), json!("-9223372036854775808"));
        assert_eq!(real(f64::NEG_INFINITY), json!("-Infinity"));
    }

    #[test]
    fn stops_at_the_row_cap_and_at_the_byte_cap() {
        let mut rows = Rows::new(["a".into()], 2, 100);
        assert_eq!(rows.push(vec![json!(1)]), Ok(Room::Left));
        assert_eq!(rows.push(vec![json!(2)]), Ok(Room::Left));
        assert_eq!(rows.push(vec![json!(3)]), Ok(Room::Full));
        assert_eq!(rows.reply(), json!({"rows": [{"a": 1}, {"a": 2}], "row_count": 2, "truncated": true}));
        let mut rows = Rows::new(["a".into()], 9, 12);
        assert_eq!(rows.push(vec![json!("12")]), Ok(Room::Left));
        assert_eq!(rows.push(vec![json!("34")]), Ok(Room::Full));
        assert_eq!(rows.push(vec![json!("1234567890")]), Err(BadRow::TooLarge(18, 12)));
    }

    #[test]
    fn numbers_columns_of_one_name() {
        let check = |given: &[&str], expected: &[&str]| {
            assert_eq!(Rows::new(given.iter().map(ToString::to_string), 1, 1).columns, expected);
        };
        check(&["a", "b", "a", "a"], &["a", "b", "a_2", "a_3"]);
        check(&["a", "a", "a_2"], &["a", "a_3", "a_2"]);
        check(&["a_2", "a", "a"], &["a_2", "a", "a_3"]);
        check(&["", ""], &["", "_2"]);
    }

    #[test]
    fn masks_and_cuts_what_approvers_see() {
        assert_eq!(shown(&json!("secret"), true).as_deref(), Some("•••"));
        assert_eq!(shown(&Value::Null, true), None);
        assert_eq!(shown(&json!("x".repeat(81)), false).unwrap().chars().count(), 81);
    }
}
