//! Salted commitments: a log can prove what was recorded without containing it.
//!
//! Personal data and row samples stay beside the log, each with a random salt;
//! the log's entry holds only `SHA-256(domain || salt || data)`. Whoever has the
//! salt and the data can check that they are what was recorded. Erasing both
//! leaves every entry, and so every leaf hash, root and checkpoint, as it was:
//! the log still verifies, and the commitment tells nothing. Without the salt
//! even data that is easy to guess (a name, an amount) cannot be confirmed by
//! trying, which is why a plain digest will not do and why a salt must never be
//! reused or outlive its data.

use alloc::string::String;
use core::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use crate::hash::{Hash, ParseHashError};

const DOMAIN: &[u8] = b"countersign commitment v1\0";

/// A random value used for one commitment only; the caller draws it.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl Salt {
    /// Takes 32 bytes from a cryptographic random source.
    #[must_use]
    pub const fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored beside the data and erased with it.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(redacted)")
    }
}

/// The log keeps a commitment in place of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commitment(Hash);

impl Commitment {
    /// Commits to the data.
    #[must_use]
    pub fn new(salt: &Salt, data: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(DOMAIN);
        hasher.update(salt.0);
        hasher.update(data);
        Self(Hash::from_bytes(hasher.finalize().into()))
    }

    /// Returns true if these are the salt and data that were committed to.
    #[must_use]
    pub fn verify(&self, salt: &Salt, data: &[u8]) -> bool {
        *self == Self::new(salt, data)
    }

    /// The form in an entry, `sha256:` and 64 hex digits.
    #[must_use]
    pub fn to_text(&self) -> String {
        alloc::format!("{self}")
    }
}

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for Commitment {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        text.strip_prefix("sha256:").ok_or(ParseHashError)?.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    #[test]
    fn opens_with_its_salt_and_data_only() {
        let (salt, other) = (Salt::from_random([1; 32]), Salt::from_random([2; 32]));
        let commitment = Commitment::new(&salt, b"alice@example.com");
        assert!(commitment.verify(&salt, b"alice@example.com"));
        assert!(!commitment.verify(&salt, b"bob@example.com"));
        assert!(!commitment.verify(&other, b"alice@example.com"));
        assert_eq!(commitment.to_text().parse(), Ok(commitment));
        assert!("sha256:00".parse::<Commitment>().is_err());
    }

    #[test]
    fn is_the_documented_hash() {
        let mut bytes = b"countersign commitment v1\0".to_vec();
        bytes.extend_from_slice(&[9; 32]);
        bytes.extend_from_slice(b"data");
        assert_eq!(Commitment::new(&Salt::from_random([9; 32]), b"data").0, sha256(&bytes));
    }

    #[test]
    fn a_salt_is_not_printed() {
        assert_eq!(alloc::format!("{:?}", Salt::from_random([7; 32])), "Salt(redacted)");
    }
}
