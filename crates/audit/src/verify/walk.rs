//! One reading of the log: the two trees, and where they part.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{Differences, FINDINGS_MAX, Finding, LogReader, Report};
use crate::{
    checkpoint::Checkpoint,
    hash::{Hash, leaf_hash},
    tile::{BundleId, TileBuilder, TileId, bundles, decode_bundle, decode_tile},
};

/// So many bundles in a row without entries and hashes, and the rest is taken to be missing too:
/// a damaged folder must not be searched for as many files as a checkpoint may claim.
const MISSING_IN_A_ROW_MAX: u32 = 4096;

/// One reading of the log.
pub(super) struct Walk<'r, R> {
    pub(super) reader: &'r mut R,
    pub(super) report: Report,
    pub(super) differences: Differences,
}

impl<R: LogReader> Walk<'_, R> {
    /// Reads all bundles and tiles and grows the tree over the entries and the one over the leaf hashes.
    pub(super) fn read(&mut self, size: u64, sizes: Vec<u64>) -> Result<(Side, Side), R::Error> {
        let mut entries = Side::new(sizes);
        // Equal to `entries` as long as it is not needed.
        let mut tiles: Option<Side> = None;
        let mut missing_in_a_row = 0_u32;
        let mut missing_from = None;
        for bundle in bundles(size) {
            let bytes = self.reader.bundle(bundle)?;
            let claimed = self.leaf_hashes(bundle)?;
            if bytes.is_none() {
                missing_from.get_or_insert_with(|| bundle.first_entry());
            } else if let Some(first) = missing_from.take() {
                self.report.push(Finding::EntriesMissing { first, end: bundle.first_entry() });
            }
            missing_in_a_row =
                if bytes.is_none() && claimed.is_none() { missing_in_a_row.saturating_add(1) } else { 0 };
            if missing_in_a_row > MISSING_IN_A_ROW_MAX {
                break;
            }
            let actual = bytes.and_then(|bytes| self.entry_hashes(bundle, &bytes));
            let differs = claimed != actual;
            if differs && tiles.is_none() {
                tiles = Some(entries.clone());
            }
            if differs {
                self.differences.add(bundle, claimed.as_deref(), actual.as_deref());
            }
            self.grow(&mut entries, actual, bundle)?;
            if let Some(tiles) = &mut tiles {
                self.grow(tiles, claimed, bundle)?;
            }
        }
        if let Some(first) = missing_from {
            self.report.push(Finding::EntriesMissing { first, end: size });
        }
        self.finish(&mut entries)?;
        if let Some(tiles) = &mut tiles {
            self.finish(tiles)?;
        }
        let tiles = tiles.unwrap_or_else(|| entries.clone());
        Ok((entries, tiles))
    }

    /// The leaf hashes that the tile of level 0 claims for the bundle.
    fn leaf_hashes(&mut self, bundle: BundleId) -> Result<Option<Vec<Hash>>, R::Error> {
        let tile = bundle.tile();
        Ok(match self.reader.tile(tile)?.map(|bytes| decode_tile(&bytes, tile.width())) {
            Some(Ok(hashes)) => Some(hashes),
            Some(Err(error)) => {
                self.report.push(Finding::TileMalformed { tile, error });
                None
            }
            None => {
                self.report.push(Finding::TileMissing { tile });
                None
            }
        })
    }

    /// The leaf hashes of the entries themselves.
    fn entry_hashes(&mut self, bundle: BundleId, bytes: &[u8]) -> Option<Vec<Hash>> {
        let entries = match decode_bundle(bytes) {
            Ok(entries) => entries,
            Err(error) => {
                self.report.push(Finding::BundleMalformed { bundle, error });
                return None;
            }
        };
        if entries.len() != usize::from(bundle.width()) {
            self.report.push(Finding::BundleCount { bundle, found: entries.len() });
        }
        for (index, entry) in (bundle.first_entry()..).zip(&entries) {
            self.report.note_entry(index, entry);
        }
        Some(entries.into_iter().map(leaf_hash).collect())
    }

    fn grow(&mut self, side: &mut Side, leaves: Option<Vec<Hash>>, bundle: BundleId) -> Result<(), R::Error> {
        let leaves = leaves.filter(|leaves| leaves.len() == usize::from(bundle.width()));
        side.complete &= leaves.is_some();
        if !side.complete {
            return Ok(());
        }
        for leaf in leaves.unwrap_or_default() {
            for (tile, hashes) in side.append(leaf) {
                self.compare(side, tile, &hashes)?;
            }
        }
        Ok(())
    }

    /// Compares the partial tiles above level 0.
    fn finish(&mut self, side: &mut Side) -> Result<(), R::Error> {
        if !side.complete {
            return Ok(());
        }
        let partial: Vec<_> = side.builder.partial().map(|(tile, hashes)| (tile, hashes.to_vec())).collect();
        for (tile, hashes) in partial {
            self.compare(side, tile, &hashes)?;
        }
        Ok(())
    }

    fn compare(&mut self, side: &mut Side, tile: TileId, hashes: &[Hash]) -> Result<(), R::Error> {
        if tile.level() == 0 {
            return Ok(());
        }
        let finding = match self.reader.tile(tile)?.map(|bytes| decode_tile(&bytes, tile.width())) {
            None => Finding::TileMissing { tile },
            Some(Err(error)) => Finding::TileMalformed { tile, error },
            Some(Ok(stored)) => match stored.iter().zip(hashes).position(|(stored, right)| stored != right) {
                Some(position) => Finding::TileMismatch { tile, position },
                None => return Ok(()),
            },
        };
        if side.upper.len() < FINDINGS_MAX {
            side.upper.push(finding);
        }
        Ok(())
    }
}

/// A tree grown over what was read, and its roots at the sizes of other checkpoints.
#[derive(Clone)]
pub(super) struct Side {
    builder: TileBuilder,
    /// False once something was missing; the tree then ends there.
    pub(super) complete: bool,
    pub(super) roots: BTreeMap<u64, Option<Hash>>,
    /// This is wrong with the upper tiles if this is the right tree.
    pub(super) upper: Vec<Finding>,
}

impl Side {
    fn new(sizes: Vec<u64>) -> Self {
        let mut roots: BTreeMap<u64, Option<Hash>> = sizes.into_iter().map(|size| (size, None)).collect();
        if let Some(empty) = roots.get_mut(&0) {
            *empty = Some(Hash::EMPTY_ROOT);
        }
        Self { builder: TileBuilder::new(), complete: true, roots, upper: Vec::new() }
    }

    /// Appends a leaf and answers the tiles above level 0 that it completes.
    fn append(&mut self, leaf: Hash) -> Vec<(TileId, Vec<Hash>)> {
        let mut full = Vec::new();
        let appended = self.builder.append(leaf, |tile, hashes| {
            if tile.level() > 0 {
                full.push((tile, hashes.to_vec()));
            }
        });
        // A log of 2^64 entries cannot have been read.
        self.complete &= appended.is_ok();
        if let Some(root) = self.roots.get_mut(&self.builder.tree().size()) {
            *root = Some(self.builder.tree().root());
        }
        full
    }

    pub(super) fn has_root(&self, checkpoint: &Checkpoint) -> bool {
        self.complete
            && self.builder.tree().size() == checkpoint.size()
            && self.builder.tree().root() == *checkpoint.root()
    }
}
