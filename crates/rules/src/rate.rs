//! How often: the generic cell rate algorithm (GCRA, ITU-T I.371) over a stored instant.
//!
//! A rate of *n* per period lets *n* calls through at once and then one every period/*n*. The state is one
//! instant, so it fits a store that several replicas share, and a refused call changes nothing.

use alloc::string::String;
use core::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

/// A rate is counted for one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateScope {
    /// All callers of a tool are counted together.
    Tool,
    /// Each agent is counted by itself.
    Agent,
    /// Each session is counted by itself.
    Session,
}

/// `limit` calls per `period_ms`, counted per `scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls of the same tool, agent or session are counted together.
    pub scope: RateScope,
    /// So many calls pass in each period.
    pub limit: NonZeroU32,
    /// The period has so many milliseconds.
    pub period_ms: u64,
}

/// The text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a rate: write calls per `sec`, `min`, `hour` or `day`, such as `100/min`")]
pub struct BadRate(String);

impl Rate {
    /// Parses `100/min`, counted per `scope`.
    ///
    /// # Errors
    /// Returns [`BadRate`] when the text is no number of at least 1, a slash and `sec`, `min`, `hour` or `day`.
    pub fn parse(text: &str, scope: RateScope) -> Result<Self, BadRate> {
        let bad = || BadRate(text.into());
        let (limit, unit) = text.split_once('/').ok_or_else(bad)?;
        let limit = NonZeroU32::from_str(limit.trim()).map_err(|_not_a_count| bad())?;
        let period_ms = match unit.trim() {
            "s" | "sec" | "second" => 1_000,
            "min" | "minute" => 60_000,
            "h" | "hour" => 3_600_000,
            "d" | "day" => 86_400_000,
            _ => return Err(bad()),
        };
        Ok(Self { scope, limit, period_ms })
    }

    /// Takes one call at `now_ms`. `due_us` is the stored instant (theoretical arrival time) in Unix
    /// microseconds, if there is one. Returns the instant to store.
    ///
    /// A clock that was set back cannot lock callers out for longer than one period: an instant further
    /// away than that is taken as one period away.
    ///
    /// # Errors
    /// [`TooOften`] says how long to wait.
    pub fn take(&self, due_us: Option<i64>, now_ms: i64) -> Result<i64, TooOften> {
        let now = now_ms.saturating_mul(1_000);
        let period = i64::try_from(self.period_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let each = period.checked_div(i64::from(self.limit.get())).unwrap_or(period).max(1);
        let latest = now.saturating_add(period);
        let due = due_us.unwrap_or(now).clamp(now, latest);
        let next = due.saturating_add(each);
        if next > latest {
            let wait_us = next.saturating_sub(latest);
            let retry_after_ms = u64::try_from(wait_us).unwrap_or(0).div_ceil(1_000).max(1);
            return Err(TooOften { rate: *self, retry_after_ms });
        }
        Ok(next)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period_ms {
            1_000 => "sec",
            60_000 => "min",
            3_600_000 => "hour",
            86_400_000 => "day",
            other => return write!(f, "{}/{other}ms", self.limit),
        };
        write!(f, "{}/{unit}", self.limit)
    }
}

/// A call came too soon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("more than {rate} calls")]
pub struct TooOften {
    /// This rate refuses the call.
    pub rate: Rate,
    /// The next call passes after this time, in milliseconds from now.
    pub retry_after_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        Rate::parse(text, RateScope::Agent).unwrap()
    }

    #[test]
    fn lets_the_limit_through_at_once_and_then_one_at_a_time() {
        let rate = rate("3/sec");
        let mut due = None;
        for _ in 0..3 {
            due = Some(rate.take(due, 1_000).unwrap());
        }
        let refused = rate.take(due, 1_000).unwrap_err();
        assert_eq!(refused.retry_after_ms, 334);
        assert!(rate.take(due, 1_333).is_err());
        assert!(rate.take(due, 1_334).is_ok());
    }

    #[test]
    fn a_clock_set_back_locks_out_for_one_period_at_most() {
        let rate = rate("1/min");
        let due = Some(rate.take(None, 1_000_000_000).unwrap());
        assert!(rate.take(due, 0).unwrap_err().retry_after_ms <= 60_000);
        assert!(rate.take(Some(60_000_000), 60_000).is_ok());
    }

    #[test]
    fn refuses_what_is_no_rate() {
        for text in ["", "0/min", "10", "10/fortnight", "-1/sec", "1.5/sec"] {
            assert!(Rate::parse(text, RateScope::Tool).is_err(), "{text}");
        }
    }
}
