//! This seals what clients carry for us and may not change: session ids and request states.

use std::{fmt, time::Duration};

use rmcp::model::{RequestStateCodec, SealOptions};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

/// This keeps other uses of the same secret apart.
const DOMAIN: &[u8] = b"countersign/mcp/seal/v1\0";

/// A seal is a key that all replicas of a server share. What it seals is readable by whoever carries it, and
/// bound to the context it was sealed in.
#[derive(Clone)]
pub struct Seal(RequestStateCodec);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// Derives the key from a secret of the server, which must be of at least 32 unpredictable bytes, the same
    /// on every replica and after a restart.
    #[must_use]
    pub fn derive(secret: &[u8]) -> Self {
        let mut digest = Sha256::new();
        digest.update(DOMAIN);
        digest.update(secret);
        // A digest is as long as the least key that is accepted.
        Self(RequestStateCodec::new_unchecked(digest.finalize().to_vec()))
    }

    /// Seals a value in a context. `None` when the value cannot be written as JSON.
    pub(super) fn close<T: Serialize>(&self, value: &T, context: &[&str]) -> Option<String> {
        let context = join(context);
        self.0.seal_json_with(value, &SealOptions::new().associated_data(&context)).ok()
    }

    /// Seals as [`Seal::close`] does, for a limited time.
    pub(super) fn close_for<T: Serialize>(
        &self,
        value: &T,
        context: &[&str],
        ttl: Duration,
    ) -> Option<String> {
        let context = join(context);
        self.0.seal_json_with(value, &SealOptions::new().associated_data(&context).ttl(ttl)).ok()
    }

    /// Opens a value sealed in the same context; `None` for anything else, and nobody learns why.
    pub(super) fn open<T: DeserializeOwned>(&self, sealed: &str, context: &[&str]) -> Option<T> {
        self.0.open_json_with(sealed, &join(context)).ok()
    }
}

/// Joins parts, each with its length before it, so that no two lists read the same.
fn join(parts: &[&str]) -> Vec<u8> {
    let mut joined = Vec::new();
    for part in parts {
        joined.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        joined.extend_from_slice(part.as_bytes());
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_in_its_own_context_and_under_its_own_key() {
        let seal = Seal::derive(&[7; 32]);
        let sealed = seal.close(&"x", &["session", "ada"]).unwrap();
        assert_eq!(seal.open::<String>(&sealed, &["session", "ada"]).as_deref(), Some("x"));
        assert_eq!(Seal::derive(&[7; 32]).open::<String>(&sealed, &["session", "ada"]).as_deref(), Some("x"));
        assert_eq!(seal.open::<String>(&sealed, &["session", "bob"]), None);
        assert_eq!(seal.open::<String>(&sealed, &["sessiona", "da"]), None);
        assert_eq!(seal.open::<String>(&sealed, &["session"]), None);
        assert_eq!(Seal::derive(&[8; 32]).open::<String>(&sealed, &["session", "ada"]), None);
        assert_eq!(seal.open::<String>("rs1.AAAA.AAAA", &["session", "ada"]), None);
        let mut forged = sealed.into_bytes();
        let last = forged.len() - 1;
        forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
        assert_eq!(seal.open::<String>(std::str::from_utf8(&forged).unwrap(), &["session", "ada"]), None);
    }
}
