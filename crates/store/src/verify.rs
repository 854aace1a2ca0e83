//! Verifying the stored log, without exporting it first, and everything that it is searched by.

use countersign_audit::{
    BundleId, Checkpoint, Entry, Finding, Frontier, Hash, LogReader, Note, ParsedEntry, Report, TileId,
    Verification, VerifierKey, leaf_hash,
    tile::{encode_bundle, encode_tile},
};
use countersign_gate::ledger::LedgerFault;
use tokio::runtime::Handle;

use crate::{
    log::ENTRIES_MAX,
    place::{COMMON, filed},
    row::{SqlStatement, StoredRow, Value},
    store::Store,
};

/// So many rows are read at once.
const ROWS: u32 = 1_000;

/// So much of what is filed is read at once, with the entry of each.
const PLACES: u32 = 500;

/// This is a hash that is kept of a complete tile, by its place: level, index and hash.
type Inner = (i64, u64, Hash);

/// This must be kept beside the entries.
#[derive(Default)]
struct Kept {
    /// There are so many entries.
    count: u64,
    /// Complete tiles have these hashes.
    inner: Vec<Inner>,
    /// So much is filed of the entries, where it is.
    places: u64,
}

impl Store {
    /// Verifies every entry of the log against its signed head, against the checkpoints that the ledger keeps,
    /// and against other signed checkpoints, each with a name for it; and whether what entries are searched by
    /// is what they say. The key is the caller's: what the ledger itself says about its key proves nothing.
    ///
    /// # Errors
    /// Fails only when the log cannot be read; what is wrong with it is in the report.
    pub async fn verify(
        &self,
        key: &VerifierKey,
        others: Vec<(String, Vec<u8>)>,
    ) -> Result<Report, LedgerFault> {
        let head = self.log_head().await?;
        let kept = self.kept_checkpoints(head.size).await?;
        let (mut reader, key) =
            (StoredTiles { store: self.clone(), runtime: Handle::current() }, key.clone());
        let work = move || {
            let mut verification = Verification::new(&key, head.checkpoint.as_bytes());
            for (size, note) in &kept {
                verification = verification.with_checkpoint(of_size(*size), note.as_bytes());
            }
            for (name, note) in &others {
                verification = verification.with_checkpoint(name.as_str(), note);
            }
            let mut report = verification.run(&mut reader)?;
            for (size, _note) in kept.iter().filter(|(size, note)| states(note) != Some(*size)) {
                let reason = "it states another size than it is kept under".into();
                report.push(Finding::FileMismatch { file: of_size(*size), reason });
            }
            Rows { store: reader.store, runtime: reader.runtime, report: &mut report }
                .compare(&key, head.size)?;
            Ok(report)
        };
        tokio::task::spawn_blocking(work).await.map_err(|why| LedgerFault::Unavailable(why.to_string()))?
    }

    /// Returns every checkpoint that is kept up to a size, with the size that it is kept under.
    async fn kept_checkpoints(&self, size: u64) -> Result<Vec<(u64, String)>, LedgerFault> {
        const CHECKPOINTS: &str =
            "SELECT size, note FROM checkpoint WHERE size > $1 AND size <= $2 ORDER BY size LIMIT $3";
        let (mut all, mut after) = (Vec::new(), -1_i64);
        loop {
            let params = vec![after.into(), size.into(), u64::from(ENTRIES_MAX).into()];
            let rows = self.scan(SqlStatement::new(CHECKPOINTS, params)).await?;
            let Some(last) = rows.last() else { return Ok(all) };
            after = last.int(0)?;
            for row in &rows {
                all.push((row.count(0)?, row.text(1)?.to_owned()));
            }
        }
    }
}

fn of_size(size: u64) -> String {
    format!("the ledger's checkpoint of {size}")
}

/// Returns the size that a note states, signed or not; `None` when it is no checkpoint.
fn states(note: &str) -> Option<u64> {
    let note = Note::parse(note.as_bytes()).ok()?;
    Some(Checkpoint::parse_text(note.unverified_text()).ok()?.size())
}

/// This compares what stands beside the proven bytes with them.
struct Rows<'r> {
    store: Store,
    runtime: Handle,
    report: &'r mut Report,
}

impl Rows<'_> {
    fn compare(&mut self, key: &VerifierKey, size: u64) -> Result<(), LedgerFault> {
        let signer = self.read(SqlStatement::new("SELECT vkey FROM log_head WHERE id = 0", Vec::new()))?;
        let signer = signer.first().map(|row| row.text(0)).transpose()?;
        if signer != Some(key.to_string().as_str()) {
            self.differs("the ledger's head", "it names another key");
        }
        let Kept { count, inner, places } = self.entries(size)?;
        self.inner(size, inner)?;
        self.places(size, places)?;
        if count != size || self.has_strays()? {
            self.differs(
                "the ledger's log",
                "it has other entries or checkpoints than those that were signed",
            );
        }
        Ok(())
    }

    /// Tells whether there are entries or checkpoints that no head of the log can be of.
    fn has_strays(&self) -> Result<bool, LedgerFault> {
        // In one statement: a server may append meanwhile.
        let ends = self.read(SqlStatement::new(
            "SELECT h.size, (SELECT min(idx) FROM entry), (SELECT max(idx) FROM entry), \
             (SELECT min(size) FROM checkpoint), (SELECT max(size) FROM checkpoint) FROM log_head h WHERE h.id = 0",
            Vec::new(),
        ))?;
        let Some(row) = ends.first() else { return Ok(true) };
        let size = row.int(0)?;
        let (first, last) = (row.optional_int(1)?, row.optional_int(2)?);
        let checkpoints = (row.optional_int(3)?, row.optional_int(4)?);
        Ok(first.is_some_and(|index| index < 0)
            || last.is_some_and(|index| index >= size)
            || checkpoints.0.is_some_and(|of| of < 0)
            || checkpoints.1.is_some_and(|of| of > size))
    }

    fn read(&self, query: SqlStatement) -> Result<Vec<StoredRow>, LedgerFault> {
        self.runtime.block_on(self.store.scan(query))
    }

    fn differs(&mut self, file: &str, reason: &str) {
        self.report.push(Finding::FileMismatch { file: file.into(), reason: reason.into() });
    }

    /// Compares every column of every entry. Returns what there must be beside the entries.
    fn entries(&mut self, size: u64) -> Result<Kept, LedgerFault> {
        const ENTRIES: &str = "SELECT idx, leaf, at_ms, kind, agent, session, call, approval, bytes FROM entry \
             WHERE idx >= $1 AND idx < $2 ORDER BY idx LIMIT $3";
        let (mut frontier, mut from) = (Frontier::new(), 0_u64);
        let Kept { mut count, mut inner, mut places } = Kept::default();
        loop {
            let params = vec![from.into(), size.into(), u64::from(ROWS).into()];
            let rows = self.read(SqlStatement::new(ENTRIES, params))?;
            let Some(last) = rows.last() else { return Ok(Kept { count, inner, places }) };
            from = last.count(0)?.saturating_add(1);
            for row in &rows {
                count = count.saturating_add(1);
                let (index, bytes) = (row.count(0)?, row.bytes(8)?);
                if index < filed(size) {
                    places = places.saturating_add(filed_of(row)?);
                }
                let leaf = leaf_hash(bytes);
                let appended = frontier.append_with(leaf, |id, hash| {
                    if id.level != 0 && id.level & 7 == 0 {
                        inner.push((i64::from(id.level), id.index, *hash));
                    }
                });
                appended.map_err(|why| LedgerFault::Damaged(why.to_string()))?;
                // Of its leaf hash, and of what is no entry, the verification itself tells.
                if let Ok(ParsedEntry::Known(entry)) = Entry::parse(bytes) {
                    for column in misfiled(row, &entry) {
                        self.report.push(Finding::EntryMisfiled { index, column });
                    }
                }
            }
        }
    }

    /// Checks that what is filed of entries is what they say, and that there is so much of it.
    fn places(&mut self, size: u64, expected: u64) -> Result<(), LedgerFault> {
        let Some(select) = self.store.select_filed() else { return Ok(()) };
        let (mut found, mut equal) = (0_u64, true);
        let mut after = [Value::from(""), Value::from(""), Value::from(i64::MIN)];
        loop {
            let mut params = after.to_vec();
            params.push(u64::from(PLACES).into());
            let rows = self.read(SqlStatement::new(select, params))?;
            for row in &rows {
                after = [row.text(0)?.into(), row.text(1)?.into(), row.int(2)?.into()];
                equal &= row.optional_int(3)? == Some(1);
                // Others may have appended meanwhile.
                let counts = u64::try_from(row.int(2)?).is_ok_and(|index| index < filed(size));
                found = found.saturating_add(counts.into());
            }
            if rows.is_empty() {
                break;
            }
        }
        if !equal || found != expected {
            self.differs("the places of the ledger's entries", "they are not those of the entries");
        }
        Ok(())
    }

    /// Compares the kept hashes of complete tiles with those of the entries.
    fn inner(&mut self, size: u64, mut wanted: Vec<Inner>) -> Result<(), LedgerFault> {
        const NODES: &str = "SELECT level, idx, hash FROM node WHERE (level, idx) > ($1, $2) \
             ORDER BY level, idx LIMIT $3";
        wanted.sort_by_key(|(level, index, _hash)| (*level, *index));
        let (mut wanted, mut equal, mut after) = (wanted.into_iter(), true, (i64::MIN, i64::MIN));
        loop {
            let params = vec![after.0.into(), after.1.into(), u64::from(ROWS).into()];
            let rows = self.read(SqlStatement::new(NODES, params))?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                after = (row.int(0)?, row.int(1)?);
                if is_beyond(after, size) {
                    continue;
                }
                equal &= wanted.next().is_some_and(|(level, index, hash)| {
                    (level, Ok(index)) == (after.0, u64::try_from(after.1))
                        && row.bytes(2).is_ok_and(|found| found == hash.as_bytes())
                });
            }
        }
        if !equal || wanted.next().is_some() {
            self.differs("the ledger's inner hashes", "they are not those of its entries");
        }
        Ok(())
    }
}

/// Returns under how many things an entry is filed.
fn filed_of(row: &StoredRow) -> Result<u64, LedgerFault> {
    let rare = !COMMON.contains(&row.text(3)?);
    let about = row.0.iter().skip(4).take(4).filter(|column| **column != Value::Null);
    Ok(about.fold(rare.into(), |sum: u64, _column| sum.saturating_add(1)))
}

/// Tells whether a hash is of entries that were appended meanwhile, beyond the log that is verified.
fn is_beyond((level, index): (i64, i64), size: u64) -> bool {
    let each = u32::try_from(level).ok().filter(|level| *level > 0 && level & 7 == 0);
    let each = each.and_then(|level| 1_u64.checked_shl(level));
    each.zip(u64::try_from(index).ok())
        .is_some_and(|(each, index)| each.saturating_mul(index.saturating_add(1)) > size)
}

/// Returns the columns of an entry that say something else than the entry does.
fn misfiled(row: &StoredRow, entry: &Entry) -> Vec<&'static str> {
    let text = |text: Option<&str>| Value::from(text);
    let said = [
        (2, "at_ms", Value::from(entry.at_ms)),
        (3, "kind", text(Some(entry.kind.as_str()))),
        (4, "agent", text(entry.agent.as_ref().map(|agent| agent.as_str()))),
        (5, "session", text(entry.session.as_ref().map(|session| session.as_str()))),
        (6, "call", text(entry.call.as_ref().map(|call| call.as_str()))),
        (7, "approval", text(entry.body.get("approval").and_then(|approval| approval.as_str()))),
    ];
    said.into_iter()
        .filter(|(column, _name, said)| row.0.get(*column) != Some(said))
        .map(|(_column, name, _said)| name)
        .collect()
}

/// Reads bundles and tiles from the store, from a thread that may block.
struct StoredTiles {
    store: Store,
    runtime: Handle,
}

impl LogReader for StoredTiles {
    type Error = LedgerFault;

    fn bundle(&mut self, id: BundleId) -> Result<Option<Vec<u8>>, LedgerFault> {
        let width = id.width();
        let entries = self.runtime.block_on(self.store.entries(id.first_entry(), width.into()))?;
        let last = id.first_entry().saturating_add(u64::from(width)).saturating_sub(1);
        if entries.len() != usize::from(width) || entries.last().is_none_or(|entry| entry.index != last) {
            return Ok(None);
        }
        let bytes = encode_bundle(entries.iter().map(|entry| &entry.bytes));
        bytes.map(Some).map_err(|why| LedgerFault::Damaged(why.to_string()))
    }

    fn tile(&mut self, id: TileId) -> Result<Option<Vec<u8>>, LedgerFault> {
        let start = id.index().saturating_mul(256);
        let hashes = self.runtime.block_on(self.store.tile_hashes(id.level(), start, id.width()))?;
        Ok((hashes.len() == usize::from(id.width())).then(|| encode_tile(&hashes)))
    }
}
