//! From "these positions differ" to "this entry was removed".
//!
//! Each position where the tile's leaf hash and the entry's disagree is kept,
//! up to a limit. An entry whose hash is claimed for another position was moved,
//! not changed; a claimed hash that no entry has any more belonged to a changed
//! or removed one.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use crate::{
    hash::Hash,
    tile::{BundleId, TILE_WIDTH, TileId},
    verify::Finding,
};

/// So many positions are kept, in about 7 MB.
const POSITIONS_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Differences {
    positions: Vec<Position>,
    /// This many positions differ in all.
    count: u64,
}

#[derive(Debug)]
struct Position {
    tile: TileId,
    index: u64,
    claimed: Option<Hash>,
    actual: Option<Hash>,
}

impl Differences {
    /// Compares the leaf hashes of a tile with those of its bundle; `None` for one that cannot be read.
    pub(crate) fn add(&mut self, bundle: BundleId, claimed: Option<&[Hash]>, actual: Option<&[Hash]>) {
        let comparable = claimed.is_some() && actual.is_some();
        let (claimed, actual) = (claimed.unwrap_or_default(), actual.unwrap_or_default());
        let length = claimed.len().max(actual.len());
        for (index, position) in (bundle.first_entry()..).zip(0..length) {
            let (claimed, actual) = (claimed.get(position).copied(), actual.get(position).copied());
            if claimed == actual {
                continue;
            }
            self.count = self.count.saturating_add(1);
            // What is missing as a whole is a finding of its own.
            if comparable && self.positions.len() < POSITIONS_MAX {
                self.positions.push(Position { tile: bundle.tile(), index, claimed, actual });
            }
        }
    }

    /// Returns how many of the log's entries are equal to what their leaf hash stands for.
    pub(crate) fn equal_of(&self, size: u64) -> u64 {
        size.saturating_sub(self.count)
    }

    /// The entries being right, the first wrong hash of each wrong tile.
    pub(crate) fn in_tiles(&self) -> Vec<(TileId, usize)> {
        let mut wrong: Vec<(TileId, usize)> = Vec::new();
        for position in &self.positions {
            if wrong.last().is_none_or(|(tile, _)| *tile != position.tile) {
                wrong.push((position.tile, usize::from(position.index.to_le_bytes()[0])));
            }
        }
        wrong
    }

    /// The leaf hashes being right, what happened to the entries.
    pub(crate) fn in_entries(self) -> Vec<Finding> {
        let Some(first) = self.positions.first().map(|position| position.index) else { return Vec::new() };
        let capped = self.positions.len() == POSITIONS_MAX;
        // Beyond the limit, the counterparts of the last positions were not kept.
        let reliable =
            if capped { self.positions.len().saturating_sub(usize::from(TILE_WIDTH)) } else { usize::MAX };
        let mut claimed = by_hash(&self.positions, |position| position.claimed);
        let mut actual = by_hash(&self.positions, |position| position.actual);
        // Pairs (index claimed, index found) of what is there at another place.
        let mut moved = Vec::new();
        for (hash, indexes) in &mut claimed {
            let Some(found) = actual.get_mut(hash) else { continue };
            while let (Some(index), Some(place)) = (indexes.front().copied(), found.front().copied()) {
                moved.push((index, place));
                indexes.pop_front();
                found.pop_front();
            }
        }
        moved.sort_unstable();
        let lost = |position: &Position| is_left(&claimed, position.claimed, position.index);
        let foreign = |position: &Position| is_left(&actual, position.actual, position.index);
        let (mut removed, mut inserted, mut findings) = (Vec::new(), Vec::new(), Vec::new());
        if capped {
            findings.push(Finding::EntriesDiffer { first });
        }
        for position in self.positions.iter().take(reliable) {
            let index = position.index;
            match (lost(position), foreign(position)) {
                (true, true) => findings.push(Finding::EntryChanged { index }),
                (true, false) => removed.push(index),
                (false, true) => inserted.push(index),
                (false, false) => {}
            }
        }
        findings.extend(removed.iter().map(|index| Finding::EntryRemoved { index: *index }));
        findings.extend(inserted.iter().map(|index| Finding::EntryInserted { index: *index }));
        for (index, found) in moved {
            // An entry that only made room or moved up for others was not reordered.
            let up = removed.partition_point(|other| *other < index);
            let down = inserted.partition_point(|other| *other < found);
            if index.saturating_sub(up as u64) != found.saturating_sub(down as u64) {
                findings.push(Finding::EntryReordered { index, found });
            }
        }
        findings
    }
}

type ByHash = BTreeMap<Hash, VecDeque<u64>>;

fn by_hash(positions: &[Position], side: impl Fn(&Position) -> Option<Hash>) -> ByHash {
    let mut map = ByHash::new();
    for position in positions {
        if let Some(hash) = side(position) {
            map.entry(hash).or_default().push_back(position.index);
        }
    }
    map
}

/// Returns true if the hash at this index found no counterpart.
fn is_left(map: &ByHash, hash: Option<Hash>, index: u64) -> bool {
    hash.and_then(|hash| map.get(&hash)).is_some_and(|left| left.binary_search(&index).is_ok())
}
