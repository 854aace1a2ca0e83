//! A bounded grant: people who approve one call let a number of calls like it run, in its session, for a time.
//!
//! A policy says how far such a grant may go (`@grant`), the people who approve say how far it goes, and each call that it
//! covers is measured and decided like any other: the grant only stands in for the question that people have answered.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::PersonId;

/// A grant covers at most so many calls, whatever a policy says.
pub const GRANT_CALLS_MAX: u32 = 1_000;

/// A grant holds for at most this time, in milliseconds, whatever a policy says: 7 days.
pub const GRANT_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1_000;

/// No grant may go further than this (`@grant`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantBound {
    /// It may cover so many calls, 1 to [`GRANT_CALLS_MAX`].
    pub calls: u32,
    /// It may hold for this time from the answer on, in milliseconds, up to [`GRANT_MS_MAX`].
    pub ms: u64,
}

impl GrantBound {
    /// Returns what two policies allow that both ask.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Self { calls: self.calls.min(other.calls), ms: self.ms.min(other.ms) }
    }
}

/// A person who approves a call grants this beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantTerms {
    /// So many further calls may run; at least 1.
    pub calls: u32,
    /// They may until this time, in Unix milliseconds UTC.
    pub until_ms: i64,
}

impl GrantTerms {
    /// Returns what two people grant together: no more than either of them does.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Self { calls: self.calls.min(other.calls), until_ms: self.until_ms.min(other.until_ms) }
    }

    /// Returns true if somebody may grant this who answers at `at_ms` (Unix milliseconds UTC).
    #[must_use]
    pub fn within(&self, bound: GrantBound, at_ms: i64) -> bool {
        let ms = self.until_ms.checked_sub(at_ms).and_then(|ms| u64::try_from(ms).ok());
        (1..=bound.calls).contains(&self.calls) && ms.is_some_and(|ms| (1..=bound.ms).contains(&ms))
    }
}

/// A grant that was given, and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// It was given on these terms.
    pub terms: GrantTerms,
    /// So many calls are left. A call that was issued has taken one, whatever became of it.
    pub left: u32,
    /// A person ended it before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<GrantEnd>,
}

impl Grant {
    /// Makes the grant of these terms.
    #[must_use]
    pub const fn new(terms: GrantTerms) -> Self {
        Self { terms, left: terms.calls, ended: None }
    }

    /// Returns until when a call may be covered, in Unix milliseconds UTC; `None` if none may any more.
    #[must_use]
    pub fn covers_until_ms(&self) -> Option<i64> {
        (self.left > 0 && self.ended.is_none()).then_some(self.terms.until_ms)
    }

    /// Returns true if a call may still be covered at `now_ms` (Unix milliseconds UTC).
    #[must_use]
    pub fn holds(&self, now_ms: i64) -> bool {
        self.covers_until_ms().is_some_and(|until_ms| now_ms < until_ms)
    }

    /// Returns the grant as it is once another call has taken its share; `None` if there is none to take.
    #[must_use]
    pub fn spend(&self, now_ms: i64) -> Option<Self> {
        let left = self.left.checked_sub(1).filter(|_left| self.holds(now_ms))?;
        Some(Self { left, ..self.clone() })
    }
}

/// A grant was ended so before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantEnd {
    /// This person ended it.
    pub by: PersonId,
    /// It was ended at this time, in Unix milliseconds UTC.
    pub at_ms: i64,
    /// It was ended for this reason.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_MS: i64 = 1_000;

    #[test]
    fn nobody_grants_more_than_the_policy_allows() {
        let bound = GrantBound { calls: 20, ms: 60_000 };
        let terms = |calls, until_ms| GrantTerms { calls, until_ms };
        for (good, fits) in [
            (terms(1, AT_MS + 1), true),
            (terms(20, AT_MS + 60_000), true),
            (terms(0, AT_MS + 1), false),
            (terms(21, AT_MS + 1), false),
            (terms(1, AT_MS), false),
            (terms(1, AT_MS - 1), false),
            (terms(1, AT_MS + 60_001), false),
            (terms(1, i64::MAX), false),
        ] {
            assert_eq!(good.within(bound, AT_MS), fits, "{good:?}");
        }
        // A clock that is far wrong makes no grant that never ends.
        assert!(!terms(1, i64::MAX).within(bound, i64::MIN));
    }

    #[test]
    fn a_grant_is_spent_call_by_call_until_nothing_is_left() {
        let mut grant = Grant::new(GrantTerms { calls: 2, until_ms: AT_MS });
        for left in [1, 0] {
            grant = grant.spend(AT_MS - 1).unwrap();
            assert_eq!(grant.left, left);
        }
        assert_eq!(grant.spend(AT_MS - 1), None);
        assert_eq!(Grant::new(GrantTerms { calls: 2, until_ms: AT_MS }).spend(AT_MS), None);
        let by = PersonId::parse("ann").unwrap();
        let ended = Grant {
            ended: Some(GrantEnd { by, at_ms: 1, why: "enough".into() }),
            ..Grant::new(GrantTerms { calls: 2, until_ms: AT_MS })
        };
        assert_eq!(ended.spend(AT_MS - 1), None);
    }
}
