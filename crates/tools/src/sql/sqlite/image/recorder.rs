//! Listens to SQLite while a statement runs: counts the rows that change, and keeps them where they are to be undone.

use std::collections::BTreeMap;

use rusqlite::{Connection, hooks::PreUpdateCase};

use super::images::Images;

/// Counts the rows that change, and keeps what they were.
#[derive(Debug, Default)]
pub(in crate::sql::sqlite) struct Recorder {
    /// By table, as its name is told.
    counts: BTreeMap<String, u64>,
    /// Rows that the statement itself changes, and no foreign key or trigger.
    direct: u64,
    images: Option<Images>,
}

impl Recorder {
    /// One that keeps rows as well.
    pub(in crate::sql::sqlite) fn keeping(connection: &Connection, bytes_max: u64) -> rusqlite::Result<Self> {
        let images = Images::new(connection, bytes_max)?;
        Ok(Self { images: Some(images), ..Self::default() })
    }

    /// SQLite tells of a row before it changes.
    pub(in crate::sql::sqlite) fn note(&mut self, table: &str, case: &PreUpdateCase) {
        let depth = match case {
            PreUpdateCase::Insert(new) => new.get_query_depth(),
            PreUpdateCase::Delete(old) => old.get_query_depth(),
            PreUpdateCase::Update { old_value_accessor: old, .. } => old.get_query_depth(),
            PreUpdateCase::Unknown => 0,
        };
        if depth == 0 {
            self.direct = self.direct.saturating_add(1);
        }
        match self.counts.get_mut(table) {
            Some(count) => *count = count.saturating_add(1),
            None => {
                self.counts.insert(table.to_owned(), 1);
            }
        }
        if let Some(images) = &mut self.images {
            images.note(table, case);
        }
    }

    /// Rows by table (in lower case), and those of them that the statement itself changed.
    pub(in crate::sql::sqlite) fn counts(&self) -> (BTreeMap<String, u64>, u64) {
        let mut counts = BTreeMap::new();
        for (table, rows) in &self.counts {
            let count = counts.entry(table.to_ascii_lowercase()).or_insert(0_u64);
            *count = count.saturating_add(*rows);
        }
        (counts, self.direct)
    }

    /// Says that not every row that changed was told.
    pub(in crate::sql::sqlite) fn incomplete(&mut self, why: &str) {
        if let Some(images) = &mut self.images {
            images.incomplete(why);
        }
    }

    /// The rows, where they are kept.
    pub(in crate::sql::sqlite) fn into_images(self) -> Option<Images> {
        self.images
    }
}
