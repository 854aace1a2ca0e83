//! Tokens of links and sessions of people: random texts that are presented, of which the ledger has a hash.

use countersign_audit::{Hash, sha256};
use subtle::ConstantTimeEq as _;

/// Returns the public id of what a token of this kind opens. Nobody finds the token by it.
pub(crate) fn id(kind: &str, token: &str) -> String {
    let hash = sha256(format!("countersign {kind} id {token}").as_bytes());
    hash.to_string().chars().take(12).collect()
}

/// Returns what is kept of a token.
pub(crate) fn hash(token: &str) -> Hash {
    sha256(token.as_bytes())
}

/// Tells whether the token is the one of which this is kept, in constant time: how much of a guess is right must
/// not be measurable.
pub(crate) fn fits(token: &str, kept: &Hash) -> bool {
    bool::from(hash(token).as_bytes().ct_eq(kept.as_bytes()))
}
