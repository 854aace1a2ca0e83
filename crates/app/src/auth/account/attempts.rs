//! How many sign-ins have failed lately, by person and by address.
//!
//! Nobody is kept out for ever: after a while one may try again, and a link opens at any time. Names that nobody has
//! are counted as others are, so that the count does not tell which exist.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use countersign_audit::{Hash, sha256};
use countersign_rules::{Code, Refusal};

/// So many sign-ins may fail for one person in [`WINDOW_MS`]: a thousand a day, against which any password of twelve
/// characters stands that is not on a list of common ones.
pub(super) const FAILURES_OF_PERSON: u32 = 10;

/// So many sign-ins may fail from one address in [`WINDOW_MS`]: several people behind one address mistype now and then.
pub(super) const FAILURES_FROM_ADDRESS: u32 = 30;

/// Failures are counted for so long, from the first on.
pub(super) const WINDOW_MS: i64 = 15 * 60_000;

/// So many people and so many addresses are counted at most; beyond, the oldest is forgotten.
const COUNTED_MAX: usize = 10_000;

/// Failed sign-ins are counted here, in this process.
#[derive(Default)]
pub(super) struct Attempts {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    /// Names are hashed, so that long ones take no more room.
    people: BTreeMap<Hash, Count>,
    addresses: BTreeMap<IpAddr, Count>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since_ms: i64,
    failures: u32,
}

/// A sign-in is under way, and has failed unless it says otherwise.
pub(super) struct Attempt {
    counts: Arc<Mutex<Counts>>,
    /// Whose it would be, where that is known before.
    person: Option<Hash>,
    address: IpAddr,
}

impl Attempts {
    /// Counts a sign-in before it is known to fail.
    ///
    /// # Errors
    /// Returns [`Code::RateLimited`] if too many have failed; then this one is not counted.
    pub(super) fn begin(&self, person: &str, from: IpAddr, now_ms: i64) -> Result<Attempt, Refusal> {
        self.begin_of(Some(sha256(person.as_bytes())), from, now_ms)
    }

    /// Counts a sign-in as [`Attempts::begin`] does, whosever it is.
    ///
    /// # Errors
    /// Fails as [`Attempts::begin`] does.
    pub(super) fn begin_from(&self, from: IpAddr, now_ms: i64) -> Result<Attempt, Refusal> {
        self.begin_of(None, from, now_ms)
    }

    /// Counts a sign-in by a passkey as [`Attempts::begin`] does: apart from passwords, so that whoever guesses those keeps
    /// nobody from their passkey.
    ///
    /// # Errors
    /// Fails as [`Attempts::begin`] does.
    pub(super) fn begin_passkey(
        &self,
        person: Option<&str>,
        from: IpAddr,
        now_ms: i64,
    ) -> Result<Attempt, Refusal> {
        let apart = |person: &str| sha256(&[sha256(b"passkey").as_bytes(), person.as_bytes()].concat());
        self.begin_of(person.map(apart), from, now_ms)
    }

    fn begin_of(&self, person: Option<Hash>, from: IpAddr, now_ms: i64) -> Result<Attempt, Refusal> {
        let address = network(from);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_person =
            person.and_then(|person| left_ms(&counts.people, &person, FAILURES_OF_PERSON, now_ms));
        let of_address = left_ms(&counts.addresses, &address, FAILURES_FROM_ADDRESS, now_ms);
        if let Some(left_ms) = of_person.max(of_address) {
            return Err(limited(left_ms));
        }
        if let Some(person) = person {
            count(&mut counts.people, person, now_ms);
        }
        count(&mut counts.addresses, address, now_ms);
        drop(counts);
        Ok(Attempt { counts: Arc::clone(&self.counts), person, address })
    }

    /// Forgets what has failed for a person.
    pub(super) fn forget(&self, person: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.people.remove(&sha256(person.as_bytes()));
    }
}

impl Attempt {
    /// Takes this sign-in from the counts. Those that failed before stay: whoever guesses another's password between
    /// two sign-ins of their own has no more guesses for it.
    pub(super) fn uncount(self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { people, addresses } = &mut *counts;
        let person = self.person.and_then(|person| people.get_mut(&person));
        for count in person.into_iter().chain(addresses.get_mut(&self.address)) {
            count.failures = count.failures.saturating_sub(1);
        }
    }
}

/// Returns for how long nothing may be tried, in milliseconds; `None` if something may.
fn left_ms<K: Ord>(counts: &BTreeMap<K, Count>, key: &K, max: u32, now_ms: i64) -> Option<i64> {
    let count = counts.get(key).filter(|count| count.failures >= max)?;
    // A clock that was set back makes nobody wait for longer.
    let left_ms = WINDOW_MS.saturating_sub(now_ms.saturating_sub(count.since_ms).max(0));
    (left_ms > 0).then_some(left_ms)
}

fn count<K: Ord + Clone>(counts: &mut BTreeMap<K, Count>, key: K, now_ms: i64) {
    let over = |count: &Count| now_ms.saturating_sub(count.since_ms) >= WINDOW_MS;
    if counts.len() >= COUNTED_MAX && !counts.contains_key(&key) {
        counts.retain(|_key, count| !over(count));
        if counts.len() >= COUNTED_MAX
            && let Some(oldest) = counts.iter().min_by_key(|(_key, count)| count.since_ms)
        {
            let oldest = oldest.0.clone();
            counts.remove(&oldest);
        }
    }
    let count = counts.entry(key).or_insert(Count { since_ms: now_ms, failures: 0 });
    if over(count) {
        *count = Count { since_ms: now_ms, failures: 0 };
    }
    count.failures = count.failures.saturating_add(1);
}

/// Returns the address, or of IPv6 the network that one customer has: they have more addresses than can be counted.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

fn limited(left_ms: i64) -> Refusal {
    let left_ms = u64::try_from(left_ms).unwrap_or(0);
    let mut refusal = Refusal::new(Code::RateLimited, "too many sign-ins have failed").help(format!(
        "try again in {} minutes; a link opens at any time: an operator makes it, or `countersign people link NAME` on the server's machine",
        left_ms.div_ceil(60_000)
    ));
    refusal.retry_after_ms = Some(left_ms);
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many of a thousand sign-ins are tried before one is refused.
    fn tried(
        attempts: &Attempts,
        person: impl Fn(u32) -> String,
        from: impl Fn(u32) -> IpAddr,
        now_ms: i64,
    ) -> u32 {
        let begun = |n: &u32| attempts.begin(&person(*n), from(*n), now_ms).is_ok();
        u32::try_from((0..1_000).take_while(begun).count()).unwrap()
    }

    #[test]
    fn guesses_are_bounded_by_person_and_by_address() {
        let attempts = Attempts::default();
        let many =
            |n: u32| IpAddr::from([10, 0, u8::try_from(n / 250).unwrap(), u8::try_from(n % 250).unwrap()]);
        assert_eq!(tried(&attempts, |_| "ann".into(), many, 0), FAILURES_OF_PERSON);
        assert_eq!(
            tried(&attempts, |_| "nobody".into(), many, 0),
            FAILURES_OF_PERSON,
            "whom nobody knows, as well"
        );
        let one = |_| address("192.0.2.1");
        assert_eq!(tried(&attempts, |n| format!("p{n}"), one, 0), FAILURES_FROM_ADDRESS);
        // One customer's network is one address, and so is an address that is written in the other form.
        let six = |n: u32| address(&format!("2001:db8:1:2:{n:x}::1"));
        assert_eq!(tried(&attempts, |n| format!("q{n}"), six, 0), FAILURES_FROM_ADDRESS);
        assert!(attempts.begin("new", address("::ffff:192.0.2.1"), 0).is_err());
        // Later all may try again, and no attempt that was refused has made that later.
        assert_eq!(tried(&attempts, |_| "ann".into(), many, WINDOW_MS - 1), 0);
        let refusal = attempts.begin("ann", many(1), WINDOW_MS - 60_001).map(|_| ()).unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::RateLimited, Some(60_001)));
        assert_eq!(tried(&attempts, |_| "ann".into(), many, WINDOW_MS), FAILURES_OF_PERSON);
    }

    #[test]
    fn what_succeeds_is_not_counted_and_does_not_excuse_what_failed() {
        let attempts = Attempts::default();
        for _ in 0..1_000 {
            attempts.begin("ann", address("192.0.2.1"), 0).map(Attempt::uncount).unwrap();
        }
        let guess = || attempts.begin("ann", address("192.0.2.2"), 0).is_ok();
        assert!((0..FAILURES_OF_PERSON - 1).all(|_| guess()));
        attempts.begin("ann", address("192.0.2.1"), 0).map(Attempt::uncount).unwrap();
        assert!(guess());
        assert!(!guess());
        attempts.forget("ann");
        assert!(guess());
    }

    #[test]
    fn no_flood_makes_it_grow() {
        let attempts = Attempts::default();
        for n in 0..u32::try_from(COUNTED_MAX + 50).unwrap() {
            drop(attempts.begin(&format!("p{n}"), IpAddr::from(n.to_be_bytes()), i64::from(n)));
        }
        let counts = attempts.counts.lock().unwrap();
        assert_eq!((counts.people.len(), counts.addresses.len()), (COUNTED_MAX, COUNTED_MAX));
    }
}
