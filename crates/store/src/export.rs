//! Writing the log out as files, in the layout of C2SP `tlog-tiles`; see [`countersign_audit::export`].

use std::path::{Path, PathBuf};

use countersign_audit::{
    BundleId, TileBuilder, TileId,
    export::{CHECKPOINT, CHECKPOINTS, VKEY},
    leaf_hash,
    tile::{TILE_WIDTH, bundles, encode_bundle, encode_tile},
};
use countersign_gate::ledger::LedgerFault;

use crate::{log::LogHead, store::Store};

/// The log was not exported, for one of these reasons.
#[derive(Debug, thiserror::Error)]
pub enum ExportFault {
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    /// A file could not be written.
    #[error("`{}` cannot be written", .path.display())]
    File {
        /// This file could not be written.
        path: PathBuf,
        /// The system gave this reason.
        source: std::io::Error,
    },
    /// The entries are not those that the head was signed for.
    #[error("the entries of the log are not those that its checkpoint was signed for")]
    OtherTree,
}

impl Store {
    /// Writes the log into a folder, which is made if there is none, one bundle of entries at a time. The
    /// checkpoint comes last, so a folder with one is complete. Returns the state of the log that was exported.
    ///
    /// # Errors
    /// Fails with an [`ExportFault`]; then the folder is not complete, and has no new checkpoint.
    pub async fn export(&self, folder: &Path) -> Result<LogHead, ExportFault> {
        let head = self.log_head().await?;
        let mut tree = TileBuilder::new();
        for bundle in bundles(head.size) {
            let tiles = self.export_bundle(folder, bundle, &mut tree).await?;
            for (tile, bytes) in tiles {
                write(&folder.join(tile.path()), bytes).await?;
            }
        }
        if tree.tree().root() != head.root {
            return Err(ExportFault::OtherTree);
        }
        let partial: Vec<_> = tree.partial().map(|(tile, hashes)| (tile, encode_tile(hashes))).collect();
        for (tile, bytes) in partial {
            write(&folder.join(tile.path()), bytes).await?;
        }
        let mut from = 0;
        loop {
            let some = self.checkpoints(from, 1_000).await?;
            for (size, note) in some.iter().filter(|(size, _note)| *size < head.size) {
                write(&folder.join(CHECKPOINTS).join(size.to_string()), note.clone().into_bytes()).await?;
            }
            match some.last() {
                Some((size, _note)) if *size < head.size => from = size.saturating_add(1),
                Some(_) | None => break,
            }
        }
        write(&folder.join(VKEY), format!("{}\n", self.verifier()).into_bytes()).await?;
        write(&folder.join(CHECKPOINT), head.checkpoint.clone().into_bytes()).await?;
        Ok(head)
    }

    /// Writes one bundle, and returns the tiles that it completes.
    async fn export_bundle(
        &self,
        folder: &Path,
        bundle: BundleId,
        tree: &mut TileBuilder,
    ) -> Result<Vec<(TileId, Vec<u8>)>, ExportFault> {
        let entries = self.entries(bundle.first_entry(), u32::from(TILE_WIDTH)).await?;
        let entries = entries.get(..usize::from(bundle.width())).ok_or(ExportFault::OtherTree)?;
        let mut tiles = Vec::new();
        for entry in entries {
            tree.append(leaf_hash(&entry.bytes), |tile, hashes| tiles.push((tile, encode_tile(hashes))))
                .map_err(|_full| ExportFault::OtherTree)?;
        }
        let bytes = encode_bundle(entries.iter().map(|entry| &entry.bytes))
            .map_err(|_long| ExportFault::OtherTree)?;
        write(&folder.join(bundle.path()), bytes).await?;
        Ok(tiles)
    }
}

/// Writes a file whole: under another name first, so that nobody reads half of it.
async fn write(path: &Path, bytes: Vec<u8>) -> Result<(), ExportFault> {
    let failed = |source| ExportFault::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    tokio::fs::write(&name, bytes).await.map_err(failed)?;
    // A crash before this leaves a `.part` file, which no reader looks at and the next export writes anew.
    tokio::fs::rename(&name, path).await.map_err(failed)
}
