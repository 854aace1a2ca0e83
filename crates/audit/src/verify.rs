//! Verification of a whole log against its signed checkpoint, and against every
//! other checkpoint that somebody kept.
//!
//! Entries are read bundle by bundle; memory does not grow with the log. Two
//! trees are grown side by side: one over the entries, one over the leaf hashes
//! in the tiles. Which of them has the signed root says what was tampered with:
//! if the tiles' tree has it, the tiles are what was signed, and each entry that
//! differs from its leaf hash is named. If neither has it, both were rewritten,
//! and earlier checkpoints and upper tiles narrow down where.
//!
//! Nothing in the log vouches for itself: the key is an argument, and only what
//! leads to a root signed with it counts.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use crate::{
    checkpoint::Checkpoint,
    hash::Hash,
    note::VerifierKey,
    tile::{BundleId, TileId},
};

mod difference;
mod finding;
mod report;
mod walk;

use difference::Differences;
pub use finding::Finding;
pub use report::{FINDINGS_MAX, Report};
use walk::{Side, Walk};

/// The files of a log are read from a reader: a folder ([`crate::export`]), a server, a store.
///
/// `Ok(None)` means that there is no such file, which is a finding; an error means that it
/// could not be told, which ends the verification without a verdict.
pub trait LogReader {
    /// A file could not be read for this reason.
    type Error;
    /// The bytes of an entry bundle.
    ///
    /// # Errors
    /// When it cannot be told whether there is one, or it cannot be read.
    fn bundle(&mut self, id: BundleId) -> Result<Option<Vec<u8>>, Self::Error>;
    /// The bytes of a tile.
    ///
    /// # Errors
    /// As [`LogReader::bundle`].
    fn tile(&mut self, id: TileId) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// A log is verified against a key, its own checkpoint and those that others keep.
#[derive(Debug)]
pub struct Verification<'a> {
    key: &'a VerifierKey,
    checkpoint: &'a [u8],
    others: Vec<(String, &'a [u8])>,
}

impl<'a> Verification<'a> {
    /// Verifies against the log's own signed checkpoint, with a key had on another way than the log.
    #[must_use]
    pub const fn new(key: &'a VerifierKey, checkpoint: &'a [u8]) -> Self {
        Self { key, checkpoint, others: Vec::new() }
    }

    /// Also compares with another signed checkpoint, earlier or later; `source` names it in findings.
    #[must_use]
    pub fn with_checkpoint(mut self, source: impl Into<String>, note: &'a [u8]) -> Self {
        self.others.push((source.into(), note));
        self
    }

    /// Reads the log once, from the first entry to the last.
    ///
    /// # Errors
    /// Only when the log cannot be read; all that is wrong with it is in the report.
    pub fn run<R: LogReader>(&self, reader: &mut R) -> Result<Report, R::Error> {
        let mut report = Report::default();
        let others = self.open_others(&mut report);
        let checkpoint = match Checkpoint::open(self.checkpoint, self.key) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                report.push(Finding::of_checkpoint(crate::export::CHECKPOINT, &error));
                return Ok(report);
            }
        };
        report.origin = Some(checkpoint.origin().into());
        report.size = checkpoint.size();
        report.root = Some(*checkpoint.root());
        let sizes = others.iter().map(|(_, other)| other.size()).collect();
        let mut walk = Walk { reader, report, differences: Differences::default() };
        let (entries, tiles) = walk.read(checkpoint.size(), sizes)?;
        let Walk { mut report, differences, .. } = walk;
        conclude(&mut report, &checkpoint, &others, &entries, &tiles, differences);
        Ok(report)
    }

    /// The other checkpoints that this key signed for this log.
    fn open_others(&self, report: &mut Report) -> Vec<(String, Checkpoint)> {
        let mut opened: Vec<(String, Checkpoint)> = Vec::new();
        for (source, note) in &self.others {
            match Checkpoint::open(note, self.key) {
                Ok(checkpoint) => opened.push((source.clone(), checkpoint)),
                Err(error) => report.push(Finding::of_checkpoint(source, &error)),
            }
        }
        opened
    }
}

/// Decides which of the two trees is the signed one, and what that makes of the differences.
fn conclude(
    report: &mut Report,
    checkpoint: &Checkpoint,
    others: &[(String, Checkpoint)],
    entries: &Side,
    tiles: &Side,
    differences: Differences,
) {
    let signed = match (entries.has_root(checkpoint), tiles.has_root(checkpoint)) {
        (true, _) => Some(entries),
        (false, true) => Some(tiles),
        (false, false) => None,
    };
    if entries.has_root(checkpoint) {
        report.entries_verified = checkpoint.size();
        for (tile, position) in differences.in_tiles() {
            report.push(Finding::TileMismatch { tile, position });
        }
    } else {
        if signed.is_some() {
            report.entries_verified = differences.equal_of(checkpoint.size());
        }
        for finding in differences.in_entries() {
            report.push(finding);
        }
    }
    for finding in &signed.unwrap_or(entries).upper {
        report.push(finding.clone());
    }
    if signed.is_none() {
        report.push(root_mismatch(others, entries));
    }
    compare_checkpoints(report, checkpoint, others, signed);
}

/// Compares the other checkpoints with the signed tree, and with each other where it does not reach.
fn compare_checkpoints(
    report: &mut Report,
    checkpoint: &Checkpoint,
    others: &[(String, Checkpoint)],
    signed: Option<&Side>,
) {
    let mut first_of_size: BTreeMap<u64, (&String, &Hash)> = BTreeMap::new();
    for (source, other) in others {
        let size = other.size();
        let forked = |against: &str| Finding::Forked { file: source.clone(), against: against.into(), size };
        let (twin, twin_root) = *first_of_size.entry(size).or_insert_with(|| (source, other.root()));
        let known = if size == checkpoint.size() {
            Some(*checkpoint.root())
        } else {
            signed.and_then(|side| side.roots.get(&size).copied().flatten())
        };
        match known {
            Some(root) if root != *other.root() => report.push(forked(crate::export::CHECKPOINT)),
            Some(_) if signed.is_some() => {
                report.checkpoints_verified = report.checkpoints_verified.saturating_add(1);
            }
            Some(_) => {}
            None if twin_root != other.root() => report.push(forked(twin)),
            None if size > checkpoint.size() => {
                let (file, have) = (source.clone(), checkpoint.size());
                report.push(Finding::TailTruncated { file, signed: size, have });
            }
            None => {}
        }
    }
}

/// Finds where the log was rewritten, as far as earlier checkpoints tell.
fn root_mismatch(others: &[(String, Checkpoint)], entries: &Side) -> Finding {
    let mut intact = 0;
    let mut broken = None;
    let mut by_size: Vec<&Checkpoint> = others.iter().map(|(_, other)| other).collect();
    by_size.sort_by_key(|other| other.size());
    for other in by_size {
        match entries.roots.get(&other.size()).copied().flatten() {
            Some(root) if root == *other.root() && broken.is_none() => intact = other.size(),
            Some(root) if root != *other.root() => broken = broken.or_else(|| Some(other.size())),
            Some(_) | None => {}
        }
    }
    Finding::RootMismatch { intact, broken, readable: entries.complete }
}

/// The whole message of an error with its causes, for a printer that has no error chain.
#[must_use]
pub fn explain(error: &impl core::error::Error) -> String {
    let mut text = alloc::format!("{error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&alloc::format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
#[path = "verify/tests.rs"]
mod tests;
