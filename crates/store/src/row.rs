//! Statements, parameters and rows, the same for both databases.

use std::sync::Arc;

use countersign_gate::ledger::LedgerFault;
use serde::{Serialize, de::DeserializeOwned};

/// This is a statement with its parameters. The text uses `$1`, `$2`, … and stands in both databases' dialect.
#[derive(Debug, Clone)]
pub(crate) struct SqlStatement {
    pub(crate) sql: &'static str,
    pub(crate) params: Vec<Value>,
    /// It must change so many rows; anything else means that the record is not what was read.
    pub(crate) rows: Option<u64>,
}

impl SqlStatement {
    /// Makes a statement that reads, or changes however many rows there are.
    pub(crate) const fn new(sql: &'static str, params: Vec<Value>) -> Self {
        Self { sql, params, rows: None }
    }

    /// Makes a statement that must change exactly one row.
    pub(crate) const fn one(sql: &'static str, params: Vec<Value>) -> Self {
        Self { sql, params, rows: Some(1) }
    }
}

/// This is told a statement and its parameters, as text; `None` stands for null. It is for tests only.
pub type StatementHook = Arc<dyn Fn(&'static str, Vec<Option<String>>) + Send + Sync>;

/// Tells statements to whoever listens.
pub(crate) fn tell(hook: Option<&StatementHook>, queries: &[SqlStatement]) {
    if let Some(hook) = hook {
        for query in queries {
            hook(query.sql, query.params.iter().map(Value::to_text).collect());
        }
    }
}

/// This is one value of a row. Numbers without sign are kept by their bits. Texts and bytes are shared: an
/// entry is encoded by whoever hands it over, and written by the one writer, who should not have to copy it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
}

impl Value {
    fn to_text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Int(value) => Some(value.to_string()),
            Self::Text(text) => Some(text.to_string()),
            Self::Bytes(bytes) => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                Some(format!("\\x{digits}"))
            }
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(value.cast_signed())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value.into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Writes a value as JSON text. It fails when the value cannot be written so.
pub(crate) fn json(value: &impl Serialize) -> Result<Value, LedgerFault> {
    serde_json::to_string(value)
        .map(Value::from)
        .map_err(|why| LedgerFault::Unavailable(format!("a record cannot be written as JSON: {why}")))
}

/// This row was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRow(pub(crate) Vec<Value>);

/// What was read is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(pub(crate) String);

impl From<Damage> for LedgerFault {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage.0)
    }
}

impl StoredRow {
    fn value(&self, column: usize) -> Result<&Value, Damage> {
        self.0.get(column).ok_or_else(|| Damage(format!("a row has no column {column}")))
    }

    fn other(column: usize) -> Damage {
        Damage(format!("column {column} of a row has another type"))
    }

    pub(crate) fn int(&self, column: usize) -> Result<i64, Damage> {
        self.optional_int(column)?.ok_or_else(|| Self::other(column))
    }

    pub(crate) fn count(&self, column: usize) -> Result<u64, Damage> {
        self.int(column).map(i64::cast_unsigned)
    }

    pub(crate) fn optional_int(&self, column: usize) -> Result<Option<i64>, Damage> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Int(value) => Ok(Some(*value)),
            Value::Text(_) | Value::Bytes(_) => Err(Self::other(column)),
        }
    }

    pub(crate) fn text(&self, column: usize) -> Result<&str, Damage> {
        self.optional_text(column)?.ok_or_else(|| Self::other(column))
    }

    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<&str>, Damage> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Text(value) => Ok(Some(value)),
            Value::Int(_) | Value::Bytes(_) => Err(Self::other(column)),
        }
    }

    pub(crate) fn bytes(&self, column: usize) -> Result<&[u8], Damage> {
        match self.value(column)? {
            Value::Bytes(value) => Ok(value),
            Value::Null | Value::Int(_) | Value::Text(_) => Err(Self::other(column)),
        }
    }

    /// Reads JSON text. It is damage when the text is absent or does not fit.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: usize) -> Result<T, Damage> {
        // The parser's words may quote what it read, so they are not passed on.
        serde_json::from_str(self.text(column)?).map_err(|why| {
            Damage(format!("column {column} of a row is no record (JSON, {:?})", why.classify()))
        })
    }

    /// Reads JSON text that may be absent.
    pub(crate) fn optional_json<T: DeserializeOwned>(&self, column: usize) -> Result<Option<T>, Damage> {
        match self.optional_text(column)? {
            Some(_) => self.json(column).map(Some),
            None => Ok(None),
        }
    }

    /// Reads a name or a word. It is damage when it is absent or does not fit.
    pub(crate) fn parse<T: TryFrom<String>>(&self, column: usize) -> Result<T, Damage> {
        T::try_from(self.text(column)?.to_owned())
            .map_err(|_bad| Damage(format!("column {column} of a row is no name")))
    }

    /// Reads a name or a word that may be absent.
    pub(crate) fn optional_parse<T: TryFrom<String>>(&self, column: usize) -> Result<Option<T>, Damage> {
        match self.optional_text(column)? {
            Some(_) => self.parse(column).map(Some),
            None => Ok(None),
        }
    }
}
