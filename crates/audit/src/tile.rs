//! C2SP `tlog-tiles`: the tree and the entries of a log as static files.
//!
//! A tile holds up to 256 consecutive hashes of every eighth level of the tree,
//! an entry bundle up to 256 consecutive entries. Full ones never change; only
//! the rightmost of each level is partial, and its width is part of its name.
//! Which of them a log has follows from its size alone ([`tiles`], [`bundles`]).

use alloc::{
    format,
    string::{String, ToString as _},
    vec::Vec,
};
use core::fmt;

use crate::{
    checkpoint::parse_decimal,
    entry::ENTRY_BYTES_MAX,
    hash::Hash,
    tree::{Frontier, TreeFull},
};

/// The number of hashes in a full tile and of entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;

/// The most bytes that a well-formed entry bundle has.
pub const BUNDLE_BYTES_MAX: usize = 256 * (2 + ENTRY_BYTES_MAX);

/// One tile of the Merkle tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TileId {
    level: u8,
    index: u64,
    width: u16,
}

impl TileId {
    /// Names a tile.
    ///
    /// # Errors
    /// When the level is above 63, or the width is not 1 to 256.
    pub const fn new(level: u8, index: u64, width: u16) -> Result<Self, TileError> {
        if level > 63 || width == 0 || width > TILE_WIDTH {
            return Err(TileError::Path);
        }
        Ok(Self { level, index, width })
    }

    /// The level: 0 holds leaf hashes, `L` the roots of the full tiles of level `L - 1`.
    #[must_use]
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// The position among the tiles of its level.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The number of hashes, 1 to 256; below 256 the tile is partial.
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// Returns true if a log of this size has this tile.
    #[must_use]
    pub fn belongs_to(&self, size: u64) -> bool {
        in_row(self.index, self.width, size.checked_shr(u32::from(self.level).saturating_mul(8)).unwrap_or(0))
    }

    /// The path below the log's folder or URL, for example `tile/1/x001/x234/067.p/8`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, numbered(self.index, self.width))
    }

    /// Reads a path, in the one spelling it has.
    ///
    /// # Errors
    /// When the text is not the path of a tile.
    pub fn parse_path(path: &str) -> Result<Self, TileError> {
        let (level, rest) =
            path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(TileError::Path)?;
        let level = parse_decimal(level).and_then(|level| u8::try_from(level).ok()).ok_or(TileError::Path)?;
        let (index, width) = parse_numbered(rest).ok_or(TileError::Path)?;
        Self::new(level, index, width)
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// One bundle of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BundleId {
    index: u64,
    width: u16,
}

impl BundleId {
    /// Names a bundle.
    ///
    /// # Errors
    /// When the width is not 1 to 256.
    pub const fn new(index: u64, width: u16) -> Result<Self, TileError> {
        if width == 0 || width > TILE_WIDTH {
            return Err(TileError::Path);
        }
        Ok(Self { index, width })
    }

    /// The position among the bundles.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The number of entries, 1 to 256; below 256 the bundle is partial.
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// The index in the log of the bundle's first entry.
    #[must_use]
    pub const fn first_entry(&self) -> u64 {
        self.index.saturating_mul(TILE_WIDTH as u64)
    }

    /// Returns true if a log of this size has this bundle.
    #[must_use]
    pub fn belongs_to(&self, size: u64) -> bool {
        in_row(self.index, self.width, size)
    }

    /// The level-0 tile that holds the hashes of these entries.
    #[must_use]
    pub const fn tile(&self) -> TileId {
        TileId { level: 0, index: self.index, width: self.width }
    }

    /// The path below the log's folder or URL, for example `tile/entries/x001/234`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("tile/entries/{}", numbered(self.index, self.width))
    }

    /// Reads a path, in the one spelling it has.
    ///
    /// # Errors
    /// When the text is not the path of an entry bundle.
    pub fn parse_path(path: &str) -> Result<Self, TileError> {
        let rest = path.strip_prefix("tile/entries/").ok_or(TileError::Path)?;
        let (index, width) = parse_numbered(rest).ok_or(TileError::Path)?;
        Self::new(index, width)
    }
}

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// The entry bundles of a log of this size, in order.
pub fn bundles(size: u64) -> impl Iterator<Item = BundleId> {
    row(size).map(|(index, width)| BundleId { index, width })
}

/// The tiles of a log of this size, level by level from the leaves up.
pub fn tiles(size: u64) -> impl Iterator<Item = TileId> {
    (0_u8..8).flat_map(move |level| {
        let hashes = size.checked_shr(u32::from(level).saturating_mul(8)).unwrap_or(0);
        row(hashes).map(move |(index, width)| TileId { level, index, width })
    })
}

/// Builds the tiles of a growing log, and its tree on the way.
///
/// Memory is one partial tile per level, whatever the size of the log.
#[derive(Debug, Clone, Default)]
pub struct TileBuilder {
    tree: Frontier,
    // The hashes of the rightmost tile of each level, fewer than 256 between calls.
    rows: Vec<Vec<Hash>>,
}

impl TileBuilder {
    /// The tiles of the empty log: none.
    #[must_use]
    pub const fn new() -> Self {
        Self { tree: Frontier::new(), rows: Vec::new() }
    }

    /// The tree over all leaves so far.
    #[must_use]
    pub const fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// Appends a leaf hash; tiles that become full are handed to `full`, lowest level first.
    ///
    /// # Errors
    /// When the tree is full.
    pub fn append(&mut self, leaf: Hash, mut full: impl FnMut(TileId, &[Hash])) -> Result<u64, TreeFull> {
        let Self { tree, rows } = self;
        tree.append_with(leaf, |node, hash| {
            if node.level & 7 != 0 {
                return;
            }
            let level = node.level >> 3;
            if rows.len() <= usize::from(level) {
                rows.push(Vec::with_capacity(usize::from(TILE_WIDTH)));
            }
            let Some(row) = rows.get_mut(usize::from(level)) else { return };
            row.push(*hash);
            if row.len() == usize::from(TILE_WIDTH) {
                full(TileId { level, index: node.index >> 8, width: TILE_WIDTH }, row);
                row.clear();
            }
        })
    }

    /// The partial tiles at the right edge of the log as it now is, lowest level first.
    pub fn partial(&self) -> impl Iterator<Item = (TileId, &[Hash])> {
        (0_u8..8).zip(&self.rows).filter_map(|(level, row)| {
            let width = u16::try_from(row.len()).ok()?;
            let hashes = self.tree.size().checked_shr(u32::from(level).saturating_mul(8))?;
            Some((TileId::new(level, hashes >> 8, width).ok()?, row.as_slice()))
        })
    }
}

/// The bytes of a tile.
#[must_use]
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(Hash::as_bytes).copied().collect()
}

/// Reads the bytes of a tile of this width.
///
/// # Errors
/// When the length is not 32 bytes for each hash.
pub fn decode_tile(bytes: &[u8], width: u16) -> Result<Vec<Hash>, TileError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || hashes.len() != usize::from(width) {
        return Err(TileError::TileLength { width, bytes: bytes.len() });
    }
    Ok(hashes.iter().copied().map(Hash::from_bytes).collect())
}

/// The bytes of an entry bundle: each entry after its length as a big-endian 16-bit number.
///
/// # Errors
/// When an entry is longer than [`ENTRY_BYTES_MAX`].
pub fn encode_bundle<E: AsRef<[u8]>>(entries: impl IntoIterator<Item = E>) -> Result<Vec<u8>, TileError> {
    let mut bytes = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let length =
            u16::try_from(entry.len()).map_err(|_too_long| TileError::EntryTooLong { bytes: entry.len() })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// Reads the entries of a bundle, however many there are.
///
/// # Errors
/// When the bundle ends within an entry, or has over 256 of them.
pub fn decode_bundle(bytes: &[u8]) -> Result<Vec<&[u8]>, TileError> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if entries.len() >= usize::from(TILE_WIDTH) {
            return Err(TileError::BundleOverfull);
        }
        let cut_off = TileError::BundleCutOff { entry: entries.len() };
        let (length, after) = rest.split_first_chunk::<2>().ok_or(cut_off)?;
        let (entry, after) =
            after.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(cut_off)?;
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

/// A tile or bundle cannot be named, made or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Not a path by tlog-tiles, or a level or width out of range.
    #[error(
        "a tile's path must be `tile/LEVEL/NNN` or `tile/entries/NNN` with a level up to 63 and a width of 1 to 256"
    )]
    Path,
    /// Not 32 bytes for each hash.
    #[error("a tile of {width} hashes must have 32 bytes for each, and this one has {bytes} in all")]
    TileLength {
        /// The number of hashes by the tile's name.
        width: u16,
        /// The number of bytes found.
        bytes: usize,
    },
    /// An entry too long for a bundle.
    #[error("the entry has {bytes} bytes, and an entry bundle holds entries of at most {ENTRY_BYTES_MAX}")]
    EntryTooLong {
        /// It has this length, in bytes.
        bytes: usize,
    },
    /// The bundle ends within an entry.
    #[error("the entry bundle is cut off within its entry {entry} (the first is 0)")]
    BundleCutOff {
        /// The position within the bundle.
        entry: usize,
    },
    /// More than 256 entries.
    #[error("the entry bundle has over 256 entries")]
    BundleOverfull,
}

/// Index and width of each tile in a row of so many hashes or entries.
fn row(items: u64) -> impl Iterator<Item = (u64, u16)> {
    let full = items >> 8;
    let rest = u16::from(items.to_le_bytes()[0]);
    (0..full).map(|index| (index, TILE_WIDTH)).chain((rest > 0).then_some((full, rest)))
}

fn in_row(index: u64, width: u16, items: u64) -> bool {
    let (full, rest) = (items >> 8, u16::from(items.to_le_bytes()[0]));
    if width == TILE_WIDTH { index < full } else { index == full && width == rest }
}

/// `x001/x234/067` or `x001/x234/067.p/8`.
fn numbered(index: u64, width: u16) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if width < TILE_WIDTH {
        path.push_str(".p/");
        path.push_str(&width.to_string());
    }
    path
}

fn parse_numbered(path: &str) -> Option<(u64, u16)> {
    let (number, width) = match path.split_once(".p/") {
        None => (path, TILE_WIDTH),
        Some((number, width)) => {
            let width = u16::try_from(parse_decimal(width)?).ok()?;
            (number, Some(width).filter(|width| (1..TILE_WIDTH).contains(width))?)
        }
    };
    let mut index = 0_u64;
    let mut parts = number.split('/').peekable();
    while let Some(part) = parts.next() {
        let digits = if parts.peek().is_some() { part.strip_prefix('x')? } else { part };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    // Rejects what has more leading groups than needed.
    (numbered(index, width) == path).then_some((index, width))
}

#[cfg(test)]
#[path = "tile/tests.rs"]
mod tests;
