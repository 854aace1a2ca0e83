//! Time and chance, as arguments.

use countersign_rules::{ApprovalId, CallId, DecisionId};

/// Tells the time.
///
/// Contract: may jump in either direction; nothing here relies on it being monotonic. Cheap and callable
/// from any thread.
pub trait Clock: Send + Sync + 'static {
    /// Returns the time now, in Unix milliseconds UTC.
    fn now_ms(&self) -> i64;
}

/// Gives random bytes.
///
/// Contract: unpredictable in production (ids of approvals must not be guessable); from a seed in the
/// simulation. Never blocks for long.
pub trait Entropy: Send + Sync + 'static {
    /// Returns sixteen bytes that nobody can foretell.
    fn bytes(&self) -> [u8; 16];
}

/// The alphabet of ids: Crockford's base 32 in lower case, without letters that read like digits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Makes ids: an instant, so that they sort by time, then chance.
fn text(prefix: &str, now_ms: i64, random: [u8; 16], time_digits: u32, random_digits: u32) -> String {
    let digit =
        |value: u128| ALPHABET.get(usize::try_from(value & 31).unwrap_or(0)).map_or('0', |b| char::from(*b));
    let time = u128::from(now_ms.unsigned_abs());
    let random = u128::from_be_bytes(random);
    let mut id = String::with_capacity(32);
    id.push_str(prefix);
    id.extend((0..time_digits).rev().map(|i| digit(time.checked_shr(i.saturating_mul(5)).unwrap_or(0))));
    id.extend((0..random_digits).rev().map(|i| digit(random.checked_shr(i.saturating_mul(5)).unwrap_or(0))));
    id
}

/// The id could not be made: a defect of ours.
#[derive(Debug, thiserror::Error)]
#[error("a fresh id is no valid name")]
pub struct BadId(#[from] countersign_rules::id::BadName);

pub(crate) fn call_id(now_ms: i64, entropy: &dyn Entropy) -> Result<CallId, BadId> {
    CallId::parse(&text("call-", now_ms, entropy.bytes(), 9, 12)).map_err(BadId)
}

pub(crate) fn decision_id(now_ms: i64, entropy: &dyn Entropy) -> Result<DecisionId, BadId> {
    DecisionId::parse(&text("dec-", now_ms, entropy.bytes(), 9, 12)).map_err(BadId)
}

/// Short, because people type it; not guessable within its lifetime (60 bits), and useless without a
/// person's credential anyway.
pub(crate) fn approval_id(entropy: &dyn Entropy) -> Result<ApprovalId, BadId> {
    ApprovalId::parse(&text("apr-", 0, entropy.bytes(), 0, 12)).map_err(BadId)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);
    impl Entropy for Fixed {
        fn bytes(&self) -> [u8; 16] {
            [self.0; 16]
        }
    }

    #[test]
    fn ids_sort_by_time_and_differ_by_chance() {
        let earlier = call_id(1_795_363_200_000, &Fixed(255)).unwrap();
        let later = call_id(1_795_363_200_001, &Fixed(0)).unwrap();
        assert!(earlier < later);
        assert_ne!(approval_id(&Fixed(1)).unwrap(), approval_id(&Fixed(2)).unwrap());
        assert_eq!(approval_id(&Fixed(0)).unwrap().as_str(), "apr-000000000000");
    }
}
