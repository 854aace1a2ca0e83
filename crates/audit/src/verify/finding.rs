//! What can be wrong with a log, each with a stable code.

use alloc::string::String;

use crate::{
    checkpoint::CheckpointError,
    entry::EntryError,
    note::NoteError,
    tile::{BundleId, TileError, TileId},
    verify::explain,
};

/// One thing that is wrong. Entries are counted from 0; ranges exclude their end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The bytes of an entry are not those that were signed.
    #[error("entry {index} was changed: its bytes are not the ones that its leaf hash stands for")]
    EntryChanged {
        /// The entry.
        index: u64,
    },
    /// A signed entry is not there; those after it have moved up.
    #[error("entry {index} was removed: its leaf hash has no entry")]
    EntryRemoved {
        /// The index it had.
        index: u64,
    },
    /// There is an entry that was never signed; those after it have moved down.
    #[error("entry {index} was inserted: no leaf hash stands for it")]
    EntryInserted {
        /// The index at which it is found.
        index: u64,
    },
    /// Entries are in another order.
    #[error("entry {index} was reordered: it now stands at {found}")]
    EntryReordered {
        /// The index it had.
        index: u64,
        /// The index at which it is found.
        found: u64,
    },
    /// More entries differ than are compared one by one.
    #[error("more entries differ than can be listed one by one, from entry {first} on")]
    EntriesDiffer {
        /// The first one that differs.
        first: u64,
    },
    /// Bundles are not there.
    #[error("entries {first} to {last} are missing: there is no entry bundle with them", last = end.saturating_sub(1))]
    EntriesMissing {
        /// The first missing entry.
        first: u64,
        /// The first entry after them.
        end: u64,
    },
    /// An entry is not what an entry must be, although it may have been signed so.
    #[error("entry {index} is malformed: {error}")]
    EntryMalformed {
        /// The entry.
        index: u64,
        /// Why.
        error: EntryError,
    },
    /// An entry is found by something that it does not say.
    #[error(
        "entry {index} stands under another `{column}` than it says: searches miss it, or find it wrongly"
    )]
    EntryMisfiled {
        /// The entry.
        index: u64,
        /// Records are searched by this column.
        column: &'static str,
    },
    /// A bundle has too few or too many entries.
    #[error("`{bundle}` has {found} entries, and by the checkpoint there are {expected}", expected = bundle.width())]
    BundleCount {
        /// The bundle.
        bundle: BundleId,
        /// There are this many.
        found: usize,
    },
    /// A bundle cannot be split into entries.
    #[error("`{bundle}` is malformed: {error}")]
    BundleMalformed {
        /// The bundle.
        bundle: BundleId,
        /// Why.
        error: TileError,
    },
    /// A tile is not there.
    #[error("`{tile}` is missing")]
    TileMissing {
        /// The tile.
        tile: TileId,
    },
    /// A tile has the wrong length.
    #[error("`{tile}` is malformed: {error}")]
    TileMalformed {
        /// The tile.
        tile: TileId,
        /// Why.
        error: TileError,
    },
    /// A tile holds a hash that is not that of the entries below it.
    #[error("`{tile}` was changed: its hash {position} is not that of {}", covered(tile, *position))]
    TileMismatch {
        /// The tile.
        tile: TileId,
        /// The first wrong hash in it, from 0.
        position: usize,
    },
    /// The log is not the one whose root was signed.
    #[error("the log was rewritten: it does not have the root that was signed{}", narrowed(*intact, *broken, *readable))]
    RootMismatch {
        /// Entries below this index are shown to be intact by an earlier checkpoint; 0 if none is.
        intact: u64,
        /// The smallest log that an earlier checkpoint shows to be rewritten.
        broken: Option<u64>,
        /// This is true if all entries could be read at all.
        readable: bool,
    },
    /// The log shown is shorter than one that was signed.
    #[error("the tail was cut off: `{file}` is signed for {signed} entries, and the log has {have}")]
    TailTruncated {
        /// The later checkpoint is from this file or witness.
        file: String,
        /// The checkpoint states this size.
        signed: u64,
        /// The size of the log shown.
        have: u64,
    },
    /// The log's key has signed two histories.
    #[error(
        "the history is forked: `{file}` and `{against}` are both signed, and differ in the first {size} entries"
    )]
    Forked {
        /// The one checkpoint is from this file or witness.
        file: String,
        /// The other checkpoint is from this file or witness.
        against: String,
        /// The size of the log at which they differ.
        size: u64,
    },
    /// A signature in the name of the trusted key is not by it.
    #[error("`{file}` has a forged signature: {reason}")]
    SignatureForged {
        /// The checkpoint.
        file: String,
        /// This was seen.
        reason: String,
    },
    /// The trusted key has not signed.
    #[error("`{file}` is signed by an unknown key: {reason}")]
    KeyUnknown {
        /// The checkpoint.
        file: String,
        /// This was seen.
        reason: String,
    },
    /// The trusted key has signed, but for another log.
    #[error("`{file}` is of another log: {reason}")]
    OtherLog {
        /// The checkpoint.
        file: String,
        /// This was seen.
        reason: String,
    },
    /// Not a signed checkpoint.
    #[error("`{file}` is not a signed checkpoint: {reason}")]
    CheckpointMalformed {
        /// The checkpoint.
        file: String,
        /// Why.
        reason: String,
    },
    /// A file of the export that describes the log contradicts what was verified.
    #[error("`{file}` does not fit the log: {reason}")]
    FileMismatch {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
}

impl Finding {
    /// The stable code of this finding.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::EntryChanged { .. } => "log_entry_changed",
            Self::EntryRemoved { .. } => "log_entry_removed",
            Self::EntryInserted { .. } => "log_entry_inserted",
            Self::EntryReordered { .. } => "log_entry_reordered",
            Self::EntriesDiffer { .. } => "log_entries_differ",
            Self::EntriesMissing { .. } => "log_entries_missing",
            Self::EntryMalformed { .. } => "log_entry_malformed",
            Self::EntryMisfiled { .. } => "log_entry_misfiled",
            Self::BundleCount { .. } => "log_bundle_count",
            Self::BundleMalformed { .. } => "log_bundle_malformed",
            Self::TileMissing { .. } => "log_tile_missing",
            Self::TileMalformed { .. } => "log_tile_malformed",
            Self::TileMismatch { .. } => "log_tile_mismatch",
            Self::RootMismatch { .. } => "log_root_mismatch",
            Self::TailTruncated { .. } => "log_tail_truncated",
            Self::Forked { .. } => "log_forked",
            Self::SignatureForged { .. } => "log_signature_forged",
            Self::KeyUnknown { .. } => "log_key_unknown",
            Self::OtherLog { .. } => "log_other_log",
            Self::CheckpointMalformed { .. } => "log_checkpoint_malformed",
            Self::FileMismatch { .. } => "log_file_mismatch",
        }
    }

    /// The index of the entry that it is about, if it is about one.
    #[must_use]
    pub const fn entry(&self) -> Option<u64> {
        match self {
            Self::EntryChanged { index }
            | Self::EntryRemoved { index }
            | Self::EntryInserted { index }
            | Self::EntryReordered { index, .. }
            | Self::EntryMisfiled { index, .. }
            | Self::EntryMalformed { index, .. } => Some(*index),
            Self::EntriesDiffer { first } | Self::EntriesMissing { first, .. } => Some(*first),
            Self::BundleCount { .. }
            | Self::BundleMalformed { .. }
            | Self::TileMissing { .. }
            | Self::TileMalformed { .. }
            | Self::TileMismatch { .. }
            | Self::RootMismatch { .. }
            | Self::TailTruncated { .. }
            | Self::Forked { .. }
            | Self::SignatureForged { .. }
            | Self::KeyUnknown { .. }
            | Self::OtherLog { .. }
            | Self::CheckpointMalformed { .. }
            | Self::FileMismatch { .. } => None,
        }
    }

    /// Makes the finding for a checkpoint that is not believed.
    #[must_use]
    pub fn of_checkpoint(source: &str, error: &CheckpointError) -> Self {
        let (file, reason) = (source.into(), explain(error));
        match error {
            CheckpointError::Note(NoteError::Signature { .. }) => Self::SignatureForged { file, reason },
            CheckpointError::Note(NoteError::UnknownKey { .. }) => Self::KeyUnknown { file, reason },
            CheckpointError::OtherLog { .. } => Self::OtherLog { file, reason },
            CheckpointError::Note(
                NoteError::Text
                | NoteError::Unsigned
                | NoteError::SignatureLine
                | NoteError::Limit
                | NoteError::OtherText,
            )
            | CheckpointError::Body
            | CheckpointError::Origin
            | CheckpointError::Size
            | CheckpointError::Root(_)
            | CheckpointError::EmptyRoot => Self::CheckpointMalformed { file, reason },
        }
    }
}

/// Words which entries a hash in a tile stands for.
fn covered(tile: &TileId, position: usize) -> String {
    let each = 1_u64.checked_shl(u32::from(tile.level()).saturating_mul(8)).unwrap_or(u64::MAX);
    let position = u64::try_from(position).unwrap_or(u64::MAX);
    let first = tile.index().saturating_mul(256).saturating_add(position).saturating_mul(each);
    if each == 1 {
        alloc::format!("entry {first}")
    } else {
        alloc::format!("entries {first} to {}", first.saturating_add(each.saturating_sub(1)))
    }
}

fn narrowed(intact: u64, broken: Option<u64>, readable: bool) -> String {
    match (readable, broken) {
        (false, _) => ", and not all of it could be read".into(),
        (true, Some(size)) => {
            alloc::format!("; the entries that were rewritten are between {intact} and {size}")
        }
        (true, None) if intact > 0 => alloc::format!("; the entries before {intact} are intact"),
        (true, None) => String::new(),
    }
}
