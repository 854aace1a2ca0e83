//! Verifying the stored log, without exporting it first.

use countersign_audit::{
    BundleId, TileId, VerifierKey,
    tile::{encode_bundle, encode_tile},
    verify::{LogReader, Report, Verification},
};
use countersign_gate::ledger::LedgerFault;
use tokio::runtime::Handle;

use crate::store::Store;

impl Store {
    /// Verifies every entry of the log against its signed head, and against other signed checkpoints, each
    /// with a name for it. The key is the caller's: what the ledger itself says about its key proves nothing.
    ///
    /// # Errors
    /// Only when the log cannot be read; what is wrong with it is in the report.
    pub async fn verify(
        &self,
        key: &VerifierKey,
        others: Vec<(String, Vec<u8>)>,
    ) -> Result<Report, LedgerFault> {
        let head = self.log_head().await?;
        let (mut reader, key) = (Reader { store: self.clone(), runtime: Handle::current() }, key.clone());
        let work = move || {
            let mut verification = Verification::new(&key, head.checkpoint.as_bytes());
            for (name, note) in &others {
                verification = verification.with_checkpoint(name.as_str(), note);
            }
            verification.run(&mut reader)
        };
        tokio::task::spawn_blocking(work).await.map_err(|why| LedgerFault::Unavailable(why.to_string()))?
    }
}

/// Reads bundles and tiles from the store, from a thread that may block.
struct Reader {
    store: Store,
    runtime: Handle,
}

impl LogReader for Reader {
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
