//! A ledger that is looked at: what there is of it, compared with what is known of it.

use std::path::Path;

use countersign_audit::{VerifierKey, proof::verify_consistency};
use countersign_gate::ledger::LedgerFault;

use crate::{
    error::StoreError,
    options::{Kept, Options},
    row::SqlStatement,
    store::Store,
};

/// One statement counts so many entries, at most.
const RANGE: u64 = 1_000;

/// So many ranges of entries are asked for at once.
const RANGES: usize = 10;

/// Looking at a ledger found this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is nothing: a ledger begins when a server starts.
    Nothing,
    /// There is a ledger of an older schema, which a start brings up to date. Its log was not compared.
    Older {
        /// The ledger has the schema of this number.
        schema: i64,
    },
    /// There is a ledger that a start takes as it is.
    Ledger {
        /// The ledger's log has so many entries.
        entries: u64,
    },
}

impl Store {
    /// Looks at the ledger in a file as [`Store::open_sqlite`] does, and changes nothing. Another process may
    /// have it open.
    ///
    /// # Errors
    /// Fails with the [`StoreError`] of a start with that key; [`StoreError::InUse`] is not looked for.
    pub async fn look_sqlite(path: &Path, key: &VerifierKey, options: &Options) -> Result<Found, StoreError> {
        let known = options.expected(key)?;
        Self::look(Self::open_sqlite_read_only(path, options), key, &known, options).await
    }

    /// Looks at the ledger in a PostgreSQL database as [`Store::open_postgres`] does, and changes nothing.
    ///
    /// # Errors
    /// Fails with the [`StoreError`] of a start with that key.
    pub async fn look_postgres(url: &str, key: &VerifierKey, options: &Options) -> Result<Found, StoreError> {
        let known = options.expected(key)?;
        Self::look(Self::open_postgres_read_only(url, options).await, key, &known, options).await
    }

    async fn look(
        opened: Result<Self, StoreError>,
        key: &VerifierKey,
        known: &[Kept],
        options: &Options,
    ) -> Result<Found, StoreError> {
        let store = match opened {
            Err(StoreError::Absent) => return options.begins(known).map(|()| Found::Nothing),
            Err(StoreError::Schema { found, known }) if found < known => {
                return Ok(Found::Older { schema: found });
            }
            opened => opened?,
        };
        if store.verifier() != key {
            return Err(StoreError::OtherKey { stored: store.verifier().to_string() });
        }
        store.contains(known).await?;
        store.is_whole().await?;
        Ok(Found::Ledger { entries: store.log_head().await?.size })
    }

    /// Checks that the ledger's log contains the tree of each checkpoint. It does not check that all entries
    /// are there.
    ///
    /// # Errors
    /// Fails with [`StoreError::WentBack`] for the first that it does not contain, and with another
    /// [`StoreError`] when the ledger cannot be read.
    pub async fn contains(&self, known: &[Kept]) -> Result<(), StoreError> {
        let head = self.log_head().await?;
        for Kept { path, checkpoint, .. } in known {
            let size = checkpoint.size();
            let contained = match size {
                0 => true,
                _ if size > head.size => false,
                _ if size == head.size => *checkpoint.root() == head.root,
                _ => match self.consistency(size, head.size).await? {
                    Some(proof) => {
                        verify_consistency((size, checkpoint.root()), (head.size, &head.root), &proof).is_ok()
                    }
                    None => false,
                },
            };
            if !contained {
                return Err(StoreError::WentBack { path: path.clone(), kept: size, found: head.size });
            }
        }
        Ok(())
    }

    /// Checks that there is an entry of each index below the size of the log's head, and none of another.
    ///
    /// The head is signed and small, and the entries that it was signed for are many: a table that was restored in
    /// part, a row that was deleted, or a head that was put back alone would go unseen until somebody proves or
    /// exports just that entry, while more is signed on top. What an entry says is not looked at here, which is
    /// [`Store::verify`]'s business.
    ///
    /// This looks at every entry. Each statement visits at most [`RANGE`] of them, so that none lasts longer on a
    /// larger ledger.
    pub(crate) async fn is_whole(&self) -> Result<(), StoreError> {
        // In one statement: others may append meanwhile.
        const ENDS: &str = "SELECT h.size, (SELECT min(idx) FROM entry), (SELECT max(idx) FROM entry) \
             FROM log_head h WHERE h.id = 0";
        const IN_RANGE: &str = "SELECT count(*) FROM entry WHERE idx >= $1 AND idx < $2";
        let missing = || StoreError::Damaged("entries of its log are missing".into());
        let rows = self.select(SqlStatement::new(ENDS, Vec::new())).await?;
        let row = rows.first().ok_or_else(|| StoreError::Damaged("the log has no head".into()))?;
        let size = row.count(0).map_err(LedgerFault::from)?;
        let ends = [1, 2].map(|column| row.optional_int(column));
        let expected = size.checked_sub(1).map(u64::cast_signed);
        if ends != [Ok(expected.map(|_last| 0)), Ok(expected)] {
            return Err(missing());
        }
        let starts: Vec<u64> = (0..size).step_by(RANGE.try_into().unwrap_or(usize::MAX)).collect();
        for some in starts.chunks(RANGES) {
            let ranges = some.iter().map(|from| (*from, size.min(from.saturating_add(RANGE))));
            let queries =
                ranges.clone().map(|(from, end)| SqlStatement::new(IN_RANGE, vec![from.into(), end.into()]));
            let counted = self.select_each(queries.collect()).await?;
            let counted = counted.iter().map(|rows| rows.first().map(|row| row.count(0)));
            if !counted.eq(ranges.map(|(from, end)| Some(Ok(end.saturating_sub(from))))) {
                return Err(missing());
            }
        }
        Ok(())
    }
}
