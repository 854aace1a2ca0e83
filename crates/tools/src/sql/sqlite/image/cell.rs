//! A stored value: as it is kept, as its bytes in the journal, and as SQLite compares it.

use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};

/// A stored value, bit for bit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sql::sqlite) enum Cell {
    Null,
    Integer(i64),
    /// The bits of the number, so that equal means the same.
    Real(u64),
    /// Text need not be UTF-8 for SQLite.
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Cell {
    pub(in crate::sql::sqlite) fn new(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(whole) => Self::Integer(whole),
            ValueRef::Real(number) => Self::Real(number.to_bits()),
            ValueRef::Text(bytes) => Self::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }

    pub(in crate::sql::sqlite) fn value(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Integer(whole) => ValueRef::Integer(*whole),
            Self::Real(bits) => ValueRef::Real(f64::from_bits(*bits)),
            Self::Text(bytes) => ValueRef::Text(bytes),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }

    pub(super) fn size(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Integer(_) | Self::Real(_) => 9,
            Self::Text(bytes) | Self::Blob(bytes) => bytes.len().saturating_add(9),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.value()))
    }
}

/// Adds a value as a tag and its bytes.
pub(super) fn write_cell(cell: &Cell, bytes: &mut Vec<u8>) {
    let long = |tag: u8, content: &[u8], bytes: &mut Vec<u8>| {
        bytes.push(tag);
        bytes.extend_from_slice(&u64::try_from(content.len()).unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend_from_slice(content);
    };
    match cell {
        Cell::Null => bytes.push(0),
        Cell::Integer(whole) => {
            bytes.push(1);
            bytes.extend_from_slice(&whole.to_le_bytes());
        }
        Cell::Real(bits) => {
            bytes.push(2);
            bytes.extend_from_slice(&bits.to_le_bytes());
        }
        Cell::Text(content) => long(3, content, bytes),
        Cell::Blob(content) => long(4, content, bytes),
    }
}

/// Takes the first value off the bytes. None when they begin with none.
pub(super) fn read_cell(rest: &mut &[u8]) -> Option<Cell> {
    let (tag, after) = rest.split_first()?;
    *rest = after;
    let mut word = || -> Option<[u8; 8]> {
        let (word, after) = rest.split_first_chunk::<8>()?;
        *rest = after;
        Some(*word)
    };
    Some(match tag {
        0 => Cell::Null,
        1 => Cell::Integer(i64::from_le_bytes(word()?)),
        2 => Cell::Real(u64::from_le_bytes(word()?)),
        3 | 4 => {
            let length = usize::try_from(u64::from_le_bytes(word()?)).ok()?;
            let (content, after) = rest.split_at_checked(length)?;
            *rest = after;
            if *tag == 3 { Cell::Text(content.to_vec()) } else { Cell::Blob(content.to_vec()) }
        }
        _ => return None,
    })
}

/// A value so that those that SQLite takes for the same key are equal.
pub(super) fn folded(cell: &Cell, collation: &str) -> Cell {
    match cell {
        Cell::Text(text) if collation == "NOCASE" => Cell::Text(text.to_ascii_lowercase()),
        Cell::Text(text) if collation == "RTRIM" => {
            let kept = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last.saturating_add(1));
            Cell::Text(text.iter().take(kept).copied().collect())
        }
        Cell::Real(bits) => whole(f64::from_bits(*bits)).map_or_else(|| cell.clone(), Cell::Integer),
        Cell::Null | Cell::Integer(_) | Cell::Text(_) | Cell::Blob(_) => cell.clone(),
    }
}

/// The integer that a number equals, if there is one.
fn whole(number: f64) -> Option<i64> {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within the range of 64 bits")]
    (number.fract() == 0.0 && (-BOUND..BOUND).contains(&number)).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_compare_equal_are_one() {
        let real = |number: f64| Cell::Real(number.to_bits());
        assert_eq!(folded(&real(3.0), "BINARY"), Cell::Integer(3));
        assert_eq!(folded(&real(1e300), "BINARY"), real(1e300));
        assert_eq!(folded(&real(-9_223_372_036_854_775_808.0), "BINARY"), Cell::Integer(i64::MIN));
        assert_eq!(folded(&Cell::Text(b"Aa".to_vec()), "NOCASE"), Cell::Text(b"aa".to_vec()));
        assert_eq!(folded(&Cell::Text(b"a  ".to_vec()), "RTRIM"), Cell::Text(b"a".to_vec()));
        assert_eq!(folded(&Cell::Text(b"a ".to_vec()), "BINARY"), Cell::Text(b"a ".to_vec()));
    }
}
