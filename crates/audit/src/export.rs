//! An exported log as a folder, in the layout of C2SP `tlog-tiles`.
//!
//! ```text
//! LOGDIR/
//!   checkpoint                  the signed state of the log at the time of the export
//!   checkpoints/20852163        optional: earlier signed checkpoints, each named by its size
//!   vkey                        optional: the log's public key, one line, for information
//!   tile/0/x001/234             full tile: 256 leaf hashes
//!   tile/0/x001/235.p/17        partial tile: 17 leaf hashes
//!   tile/1/000 …                hashes of full tiles of the level below
//!   tile/entries/x001/234       256 entries, each after its length (big-endian, 16 bits)
//!   tile/entries/x001/235.p/17  the last 17 entries
//! ```
//!
//! All tiles and bundles for the size in `checkpoint` must be there
//! ([`crate::tile::tiles`], [`crate::tile::bundles`]); partial ones of earlier sizes may
//! stay behind. Any static web server makes the folder a log that foreign C2SP clients read.
//!
//! # The key is not in the folder
//!
//! Whoever can change the entries can change every file here, `vkey` included. The verifier
//! therefore takes the trusted key as an argument, had on another way (the operator's web
//! site, a contract, an earlier verification), and never from the folder; the `vkey` file is
//! only compared with it, so that a mix-up is noticed.
//!
//! A log can also be cut off at an earlier signed checkpoint, and nothing in the folder shows
//! that. Keep checkpoints elsewhere and hand them to the verifier.

use alloc::vec::Vec;

use crate::{
    hash::leaf_hash,
    tile::{BundleId, TILE_WIDTH, TileBuilder, TileError, encode_bundle, encode_tile},
    tree::{Frontier, TreeFull},
};

/// The file with the signed state of the log.
pub const CHECKPOINT: &str = "checkpoint";
/// The folder with earlier signed checkpoints, each named by its size.
pub const CHECKPOINTS: &str = "checkpoints";
/// The file with the log's public key, for information only.
pub const VKEY: &str = "vkey";

/// Turns entries, one after the other, into the files below `tile/`.
///
/// The caller writes the files, and afterwards `checkpoint`, for exactly as many entries as
/// it appended. Memory is one bundle and one tile per level.
#[derive(Debug, Clone, Default)]
pub struct Exporter {
    tiles: TileBuilder,
    bundle: Vec<u8>,
}

impl Exporter {
    /// An export without entries yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { tiles: TileBuilder::new(), bundle: Vec::new() }
    }

    /// Appends the next entry and hands over the files that it completes, as path and bytes.
    ///
    /// # Errors
    /// When the entry is too long, the tree is full, or a file cannot be written. The export
    /// is of no use then.
    pub fn append<E>(
        &mut self,
        entry: &[u8],
        mut write: impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<(), ExportError<E>> {
        self.bundle.extend_from_slice(&encode_bundle([entry])?);
        let mut written = Ok(());
        let index = self.tiles.append(leaf_hash(entry), |tile, hashes| {
            if written.is_ok() {
                written = write(&tile.path(), &encode_tile(hashes));
            }
        })?;
        written.map_err(ExportError::Write)?;
        if index.to_le_bytes()[0] == u8::MAX {
            let id = BundleId::new(index >> 8, TILE_WIDTH)?;
            write(&id.path(), &self.bundle).map_err(ExportError::Write)?;
            self.bundle.clear();
        }
        Ok(())
    }

    /// Hands over the partial files at the end of the log and answers its tree, to be
    /// compared with the checkpoint that goes with it.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish<E>(
        self,
        mut write: impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<Frontier, ExportError<E>> {
        let size = self.tiles.tree().size();
        for (tile, hashes) in self.tiles.partial() {
            write(&tile.path(), &encode_tile(hashes)).map_err(ExportError::Write)?;
        }
        let rest = u16::from(size.to_le_bytes()[0]);
        if rest > 0 {
            write(&BundleId::new(size >> 8, rest)?.path(), &self.bundle).map_err(ExportError::Write)?;
        }
        Ok(self.tiles.tree().clone())
    }
}

/// A log cannot be exported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError<E> {
    /// An entry that no bundle can hold.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// Too many entries.
    #[error(transparent)]
    Tree(#[from] TreeFull),
    /// The caller could not write a file.
    #[error("a file of the export cannot be written")]
    Write(#[source] E),
}
