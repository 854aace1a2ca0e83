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

/// The file with the signed state of the log.
pub const CHECKPOINT: &str = "checkpoint";
/// The folder with earlier signed checkpoints, each named by its size.
pub const CHECKPOINTS: &str = "checkpoints";
/// The file with the log's public key, for information only.
pub const VKEY: &str = "vkey";
