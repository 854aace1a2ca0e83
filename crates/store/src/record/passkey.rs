//! Passkeys of people, as they are stored with their accounts.

use countersign_rules::PasskeyId;
use serde::{Deserialize, Serialize};

/// A person has this passkey. Nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasskeyRecord {
    /// Entries of the log name it so.
    pub id: PasskeyId,
    /// The authenticator knows it by this credential id, in base64url.
    pub credential: String,
    /// Its public key is this `SubjectPublicKeyInfo`, in base64url.
    pub key: String,
    /// It signs with this algorithm, by its number in COSE.
    pub algorithm: i64,
    /// The authenticator had signed so often when it was used last; 0 where it does not count.
    pub counter: u32,
    /// The person calls it so.
    pub label: String,
    /// It may be on more than one device.
    pub syncable: bool,
    /// It was on more than one device when it was used last.
    pub synced: bool,
    /// It signs its person in. One that was added while a provider vouched for the person confirms answers alone: what it
    /// opened would outlast the provider's word.
    pub signs_in: bool,
    /// It was added at this time, in Unix milliseconds UTC.
    pub made_ms: i64,
    /// It was used last at this time, in Unix milliseconds UTC.
    pub used_ms: Option<i64>,
}
