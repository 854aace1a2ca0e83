//! What happened, provably: entries, the Merkle tree over them, signed
//! checkpoints, proofs, and the verification of a whole log.
//!
//! This crate knows bytes, not meanings: it can tell that an entry was changed,
//! removed, moved or cut off, and never whether the decision in it was right.
//! It has no clock, randomness, files or sockets (`no_std` says so to the
//! compiler); times, salts, keys and stored bytes are arguments.
//!
//! The formats are public ones, so that foreign tools can read a log:
//! RFC 6962 hashing ([`tree`], [`proof`]), C2SP `signed-note` ([`note`]),
//! `tlog-checkpoint` ([`checkpoint`]), `tlog-tiles` ([`tile`]) and `tlog-proof`
//! ([`receipt`]), and RFC 8785 canonical JSON ([`canonical`], [`strict`]) inside
//! an entry ([`entry`]). The folder that holds an exported log is described in
//! [`export`]; [`verify`] reads it.
//!
//! # From an entry to a checkpoint
//!
//! ```
//! use countersign_audit::{Checkpoint, Entry, EntryKind, Frontier, SigningKey, leaf_hash};
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let entry = Entry::new(1_767_225_600_000, EntryKind::new("decided")?, serde_json::json!({"answer": "deny"}));
//! let bytes = entry.to_bytes()?;
//! let mut log = Frontier::new();
//! log.append(leaf_hash(&bytes))?;
//!
//! let key = SigningKey::from_seed("acme.example/log", &[7; 32])?;
//! let note = Checkpoint::new("acme.example/log", log.size(), log.root())?.sign(&key)?;
//! let opened = Checkpoint::open(note.encode().as_bytes(), &key.verifier())?;
//! assert_eq!(opened.size(), 1);
//! # Ok(())
//! # }
//! ```
#![no_std]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod canonical;
pub mod checkpoint;
pub mod commitment;
pub mod entry;
pub mod export;
pub mod hash;
pub mod note;
pub mod proof;
pub mod receipt;
pub mod strict;
pub mod tile;
pub mod time;
pub mod tree;
pub mod verify;

pub use canonical::{CanonicalBody, CanonicalError, to_canonical_vec};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use commitment::Commitment;
pub use entry::{ENTRY_BYTES_MAX, Entry, EntryError, EntryKind, ParsedEntry, Reference};
pub use export::Exporter;
pub use hash::{Hash, ParseHashError, leaf_hash, node_hash, sha256};
pub use note::{KeyError, Note, NoteError, SigningKey, VerifierKey};
pub use proof::{Leaves, NodeId, Nodes, ProofError, VerifyError};
pub use receipt::{Receipt, ReceiptError};
pub use strict::{StrictError, from_slice_strict};
pub use tile::{BundleId, TileBuilder, TileError, TileId};
pub use tree::{Frontier, FrontierError, TreeFull};
pub use verify::{Finding, LogReader, Report, Verification};
