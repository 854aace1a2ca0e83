//! Passwords: what is kept of one, and whether one is right.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use countersign_rules::{Code, Refusal};
use countersign_store::PasswordHash;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

/// A password has at least so many characters: too many to be tried out where it was made by chance, and as many as three
/// short words.
pub(super) const PASSWORD_CHARS_MIN: usize = 12;

/// A password has at most so many bytes, so that hashing one costs no more than another.
pub(super) const PASSWORD_BYTES_MAX: usize = 1_024;

/// So many passwords are hashed at a time: each takes a core and [`MEMORY_KIB`], which calls need, too.
const AT_ONCE: usize = 2;

/// So many more wait for that; the next ones are told to come again.
const WAITING_MAX: usize = 32;

/// The least that OWASP's Password Storage Cheat Sheet names for Argon2id, with two passes.
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// No more than so much is done for what is stored, whatever it says.
const MEMORY_KIB_MAX: u32 = 256 * 1_024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

const HASH_BYTES: usize = 32;

/// Passwords are hashed here, a few at a time, away from the threads that serve calls.
pub(super) struct Passwords {
    at_once: Arc<Semaphore>,
    waiting: Semaphore,
    /// No password has this hash: it is compared with where there is no account, so that this takes as long.
    nobodys: Stored,
}

/// This is kept of a password, in its parts.
#[derive(Clone, PartialEq, Eq)]
struct Stored {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Passwords {
    /// Makes the place where passwords are hashed. `random` are bytes that nobody can foretell.
    pub(super) fn new(random: [u8; 16]) -> Self {
        let nobodys = Stored::new(random.to_vec(), [random, random].as_flattened().to_vec());
        Self { at_once: Arc::new(Semaphore::new(AT_ONCE)), waiting: Semaphore::new(WAITING_MAX), nobodys }
    }

    /// Returns what is to be kept of a password.
    pub(super) async fn hash(&self, password: SecretString, salt: [u8; 16]) -> Result<PasswordHash, Refusal> {
        let mut stored = Stored::new(salt.to_vec(), Vec::new());
        let like = stored.clone();
        stored.hash = self.work(move || like.hash(&password)).await?.map_err(|why| internal(&why))?;
        Ok(PasswordHash::new(stored.to_text()))
    }

    /// Tells whether a password is the one of which this is kept; with `None`, it is not, after as much work.
    pub(super) async fn fits(
        &self,
        password: SecretString,
        kept: Option<&PasswordHash>,
    ) -> Result<bool, Refusal> {
        let stored = match kept {
            Some(kept) => Stored::parse(kept.expose())
                .ok_or_else(|| internal("what is kept of a password cannot be read"))?,
            None => self.nobodys.clone(),
        };
        let like = stored.clone();
        let hash = self.work(move || like.hash(&password)).await?.map_err(|why| internal(&why))?;
        let same = bool::from(hash.ct_eq(&stored.hash));
        Ok(same && kept.is_some())
    }

    /// Does work that takes a core and much memory, when it is its turn.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let busy = || {
            let mut refusal = Refusal::new(Code::RateLimited, "too many people sign in at once")
                .help("try again in a moment");
            refusal.retry_after_ms = Some(2_000);
            refusal
        };
        let _waiting = self.waiting.try_acquire().map_err(|_full| busy())?;
        let place = Arc::clone(&self.at_once).acquire_owned().await.map_err(|_closed| busy())?;
        // The place is left by the work itself: whoever asked may have gone away, and the core is taken all the same.
        let working = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        working.await.map_err(|why| internal(&why.to_string()))
    }
}

impl Stored {
    const fn new(salt: Vec<u8>, hash: Vec<u8>) -> Self {
        Self { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES, salt, hash }
    }

    /// Hashes a password as this one was.
    fn hash(&self, password: &SecretString) -> Result<Vec<u8>, String> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH_BYTES));
        let params = params.map_err(|why| why.to_string())?;
        let mut hash = vec![0; HASH_BYTES];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.expose_secret().as_bytes(), &self.salt, &mut hash)
            .map_err(|why| why.to_string())?;
        Ok(hash)
    }

    /// Writes it in the form of the Password Hashing Competition.
    fn to_text(&self) -> String {
        let Self { memory_kib, passes, lanes, salt, hash } = self;
        let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
        format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let (costs, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let mut costs = costs.split(',');
        let mut cost = |name: &str, max: u32| {
            let value: u32 = costs.next()?.strip_prefix(name)?.parse().ok()?;
            (value <= max).then_some(value)
        };
        let (memory_kib, passes, lanes) =
            (cost("m=", MEMORY_KIB_MAX)?, cost("t=", PASSES_MAX)?, cost("p=", LANES_MAX)?);
        let hash = STANDARD_NO_PAD.decode(hash).ok().filter(|hash| hash.len() == HASH_BYTES)?;
        Some(Self { memory_kib, passes, lanes, salt: STANDARD_NO_PAD.decode(salt).ok()?, hash })
    }
}

fn internal(why: &str) -> Refusal {
    Refusal::new(Code::Internal, format!("the password cannot be checked: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_others_compute() {
        // As OpenSSL's Argon2id computes it of the same password, salt and costs.
        let stored = Stored::new(b"somesalt12345678".to_vec(), Vec::new());
        let hash = stored.hash(&SecretString::from("password")).unwrap();
        let text = Stored { hash, ..stored }.to_text();
        let theirs = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQxMjM0NTY3OA$DEwLbbIZGUtgBuB4gYok6r6hNvevYZoxkwMQ5/LXSaU";
        assert_eq!(text, theirs);
        assert_eq!(Stored::parse(theirs).unwrap().to_text(), theirs);
    }

    #[test]
    fn what_is_no_hash_of_ours_is_not_read() {
        let good = Stored::new(vec![1; 16], vec![2; 32]).to_text();
        assert!(Stored::parse(&good).is_some());
        for bad in [
            String::new(),
            good.replace("argon2id", "argon2i"),
            good.replace("v=19", "v=16"),
            good.replace("m=19456", "m=4194304"),
            good.replace("t=2", "t=4000000000"),
            good.replace("p=1", "p=100"),
            good.replace("m=19456,", ""),
            format!("{good}$"),
            good.chars().skip(1).collect(),
        ] {
            assert!(Stored::parse(&bad).is_none(), "{bad}");
        }
    }
}
