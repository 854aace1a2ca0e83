//! Values between JSON and SQLite.
//!
//! Arguments: `null` is NULL, booleans are 0 and 1, whole numbers INTEGER, others REAL, text TEXT, arrays and
//! objects their JSON text. Results: INTEGER a number (text beyond 2^53), REAL a number (`NaN` and infinities
//! text), TEXT text, BLOB base64.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::types::{Value as Stored, ValueRef};
use serde_json::Value;

use crate::sql::value::{integer, real};

/// An argument as SQLite takes it. None for a whole number that does not fit into 64 bits.
pub(super) fn bound(value: Option<&Value>) -> Option<Stored> {
    Some(match value {
        None | Some(Value::Null) => Stored::Null,
        Some(Value::Bool(value)) => Stored::Integer(i64::from(*value)),
        Some(Value::Number(number)) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Stored::Integer(whole),
            (None, Some(_)) => return None,
            (None, None) => Stored::Real(number.as_f64()?),
        },
        Some(Value::String(text)) => Stored::Text(text.clone()),
        Some(nested @ (Value::Array(_) | Value::Object(_))) => Stored::Text(nested.to_string()),
    })
}

/// A stored value as JSON.
pub(super) fn shown(value: ValueRef<'_>) -> Result<Value, String> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(whole) => integer(whole),
        ValueRef::Real(number) => real(number),
        ValueRef::Text(bytes) => {
            let text = std::str::from_utf8(bytes)
                .map_err(|_bytes| "its text is not valid UTF-8; select it as a blob".to_owned())?;
            Value::from(text)
        }
        ValueRef::Blob(bytes) => Value::from(STANDARD.encode(bytes)),
    })
}
