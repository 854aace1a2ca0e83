//! The system's clock and the operating system's randomness: the only places here that read either.

use countersign_gate::{Clock, Entropy};

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now_ms(&self) -> i64 {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, i64::wrapping_neg),
        }
    }
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn bytes(&self) -> [u8; 16] {
        random()
    }
}

/// Random bytes of the operating system. Without them nothing can be made that must not be guessed, so the
/// process ends rather than going on with less.
#[expect(clippy::panic, reason = "a system without randomness cannot be served safely")]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    if let Err(why) = getrandom::fill(&mut bytes) {
        panic!("the operating system gives no randomness: {why}");
    }
    bytes
}
