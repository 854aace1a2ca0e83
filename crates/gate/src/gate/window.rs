//! How often something of an agent happens within a minute.

/// It is counted for this time, in milliseconds, before the count begins anew.
const WINDOW_MS: i64 = 60_000;

/// A count that begins anew when it is over.
#[derive(Debug)]
pub(super) struct Window {
    since_ms: i64,
    taken: u32,
}

impl Window {
    pub(super) const fn new(since_ms: i64) -> Self {
        Self { since_ms, taken: 0 }
    }

    /// Returns true if the window is over. A clock that was set back ends it as well.
    pub(super) fn is_over(&self, now_ms: i64) -> bool {
        !(0..WINDOW_MS).contains(&now_ms.saturating_sub(self.since_ms))
    }

    /// Takes one of so many places.
    ///
    /// # Errors
    /// In how many milliseconds there is room again.
    pub(super) fn take(&mut self, most: u32, now_ms: i64) -> Result<(), u64> {
        if self.is_over(now_ms) {
            *self = Self::new(now_ms);
        }
        if self.taken < most {
            self.taken = self.taken.saturating_add(1);
            return Ok(());
        }
        let again_ms = self.since_ms.saturating_add(WINDOW_MS).saturating_sub(now_ms);
        Err(u64::try_from(again_ms).unwrap_or(0))
    }

    /// Gives a place back.
    pub(super) const fn give_back(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }
}
