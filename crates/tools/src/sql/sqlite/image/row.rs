//! A row as it is kept.

use super::cell::{Cell, read_cell, write_cell};

/// A row, without its generated columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sql::sqlite) struct RowImage {
    /// The rowid, where no column shows it.
    pub(in crate::sql::sqlite) rowid: Option<i64>,
    /// The values, in the order of [`super::shape::Shape::columns`].
    pub(in crate::sql::sqlite) cells: Vec<Cell>,
}

/// The form in which a row is kept: this byte, the rowid, the values; each value as a tag and its bytes.
const FORM: u8 = 1;
/// The form in which several are: this byte, how many values each has, in four bytes, and each with its rowid and values.
const FORM_OF_SEVERAL: u8 = 2;

impl RowImage {
    pub(in crate::sql::sqlite) fn size(&self) -> usize {
        self.cells.iter().fold(16, |size, cell| size.saturating_add(cell.size()))
    }

    /// Adds it to those that are written already.
    pub(in crate::sql::sqlite) fn append_to(&self, bytes: &mut Vec<u8>) {
        match bytes.first() {
            None => bytes.push(FORM),
            Some(&FORM) => {
                bytes.splice(..1, [FORM_OF_SEVERAL].into_iter().chain(width(self.cells.len())));
            }
            Some(_) => {}
        }
        let rowid = self.rowid.map_or(Cell::Null, Cell::Integer);
        for cell in std::iter::once(&rowid).chain(&self.cells) {
            write_cell(cell, bytes);
        }
    }

    /// Reads the rows that are written there. None when the bytes are not those of rows with so many columns.
    pub(in crate::sql::sqlite) fn several(bytes: &[u8], columns: usize) -> Option<Vec<Self>> {
        let (form, mut rest) = bytes.split_first()?;
        if *form == FORM {
            let row = Self::next(&mut rest, columns)?;
            return rest.is_empty().then(|| vec![row]);
        }
        let mut rest = bytes.strip_prefix(&[FORM_OF_SEVERAL])?.strip_prefix(&width(columns))?;
        let mut rows = Vec::new();
        while !rest.is_empty() {
            rows.push(Self::next(&mut rest, columns)?);
        }
        (rows.len() > 1).then_some(rows)
    }

    /// Takes a row off the bytes.
    fn next(rest: &mut &[u8], columns: usize) -> Option<Self> {
        let rowid = match read_cell(rest)? {
            Cell::Null => None,
            Cell::Integer(rowid) => Some(rowid),
            Cell::Real(_) | Cell::Text(_) | Cell::Blob(_) => return None,
        };
        let cells = (0..columns).map(|_| read_cell(rest)).collect::<Option<Vec<_>>>()?;
        Some(Self { rowid, cells })
    }
}

/// How many values a row has, as it is written.
fn width(columns: usize) -> [u8; 4] {
    u32::try_from(columns).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cell() -> impl Strategy<Value = Cell> {
        prop_oneof![
            Just(Cell::Null),
            any::<i64>().prop_map(Cell::Integer),
            any::<u64>().prop_map(Cell::Real),
            any::<Vec<u8>>().prop_map(Cell::Text),
            any::<Vec<u8>>().prop_map(Cell::Blob),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rows_come_back_as_they_were_written(
            columns in prop::collection::vec(prop::collection::vec(cell(), 3..4), 1..5), rowid: Option<i64>
        ) {
            let rows: Vec<RowImage> = columns.into_iter().map(|cells| RowImage { rowid, cells }).collect();
            let mut bytes = Vec::new();
            for row in &rows {
                row.append_to(&mut bytes);
            }
            prop_assert_eq!(RowImage::several(&bytes, 3), Some(rows));
            prop_assert_eq!(RowImage::several(&bytes[1..], 3), None);
            bytes.pop();
            prop_assert_eq!(RowImage::several(&bytes, 3), None);
        }

        #[test]
        fn garbage_is_no_row(bytes: Vec<u8>, columns in 0_usize..4) {
            if let Some(rows) = RowImage::several(&bytes, columns) {
                let mut written = Vec::new();
                for row in rows {
                    row.append_to(&mut written);
                }
                prop_assert_eq!(written, bytes);
            }
        }
    }
}
