//! What approvers are shown of the rows that a call would touch.

use countersign_audit::{Commitment, Hash, commitment::Salt};
use serde::{Deserialize, Serialize};

/// A few of the rows that a call would touch, as an approver may see them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The table they stand in.
    pub table: String,
    /// The rows have these columns.
    pub columns: Vec<String>,
    /// Rows of values as text, masked where a rule says so.
    pub rows: Vec<Vec<Option<String>>>,
}

/// A sample with the salt of the commitment that stands for it in the log. Erasing both leaves the log
/// verifiable and the sample unrecoverable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Approvers are shown these rows.
    pub sample: Sample,
    /// The commitment has this salt, in hexadecimal.
    pub salt: String,
    /// The commitment, as it stands in the log.
    pub commitment: String,
}

impl Evidence {
    /// Commits to a sample under a fresh salt. The data committed to is the sample's JSON.
    ///
    /// # Errors
    /// When the sample cannot be written as JSON.
    pub fn new(sample: Sample, salt: [u8; 32]) -> Result<Self, serde_json::Error> {
        let data = serde_json::to_vec(&sample)?;
        let commitment = Commitment::new(&Salt::from_random(salt), &data).to_text();
        Ok(Self { sample, salt: Hash::from_bytes(salt).to_string(), commitment })
    }
}
