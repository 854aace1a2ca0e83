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

/// The form in which rows are kept: this byte, the rowid, the values; each value as a tag and its bytes.
const FORM: u8 = 1;

impl RowImage {
    pub(in crate::sql::sqlite) fn size(&self) -> usize {
        self.cells.iter().fold(16, |size, cell| size.saturating_add(cell.size()))
    }

    pub(in crate::sql::sqlite) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        bytes.push(FORM);
        let rowid = self.rowid.map_or(Cell::Null, Cell::Integer);
        for cell in std::iter::once(&rowid).chain(&self.cells) {
            write_cell(cell, &mut bytes);
        }
        bytes
    }

    /// None when the bytes are not those of a row with so many columns.
    pub(in crate::sql::sqlite) fn from_bytes(bytes: &[u8], columns: usize) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[FORM])?;
        let rowid = match read_cell(&mut rest)? {
            Cell::Null => None,
            Cell::Integer(rowid) => Some(rowid),
            Cell::Real(_) | Cell::Text(_) | Cell::Blob(_) => return None,
        };
        let cells = (0..columns).map(|_| read_cell(&mut rest)).collect::<Option<Vec<_>>>()?;
        rest.is_empty().then_some(Self { rowid, cells })
    }
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
        fn rows_come_back_as_they_were_written(cells in prop::collection::vec(cell(), 0..5), rowid: Option<i64>) {
            let row = RowImage { rowid, cells };
            let bytes = row.to_bytes();
            let columns = row.cells.len();
            prop_assert_eq!(RowImage::from_bytes(&bytes, columns), Some(row));
            prop_assert_eq!(RowImage::from_bytes(&bytes, columns.saturating_add(1)), None);
            prop_assert_eq!(RowImage::from_bytes(&bytes[1..], columns), None);
        }

        #[test]
        fn garbage_is_no_row(bytes: Vec<u8>, columns in 0_usize..4) {
            if let Some(row) = RowImage::from_bytes(&bytes, columns) {
                prop_assert_eq!(row.to_bytes(), bytes);
            }
        }
    }
}
