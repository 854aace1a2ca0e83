//! The proof of an entry as a page carries it: all that its script needs to check it, with nothing but the browser's
//! own cryptography.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_audit::{Receipt, VerifierKey};
use serde::Serialize;

/// What the script checks.
#[derive(Debug, Serialize)]
pub(crate) struct Proof {
    index: u64,
    /// The entry's bytes, in base64.
    entry: String,
    /// The path from the entry to the root, in base64.
    path: Vec<String>,
    /// The signed checkpoint.
    checkpoint: String,
    /// The key of the log.
    vkey: String,
}

impl Proof {
    pub(crate) fn new(receipt: &Receipt, key: &VerifierKey) -> Self {
        Self {
            index: receipt.index,
            entry: STANDARD.encode(receipt.entry.as_deref().unwrap_or_default()),
            path: receipt.path.iter().map(countersign_audit::Hash::to_base64).collect(),
            checkpoint: receipt.checkpoint.encode(),
            vkey: key.to_string(),
        }
    }

    /// As JSON, which the template escapes into an attribute.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
