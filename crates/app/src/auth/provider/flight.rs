//! A sign-in that is under way: it is kept in the browser that began it, sealed, and nowhere else, so that any server of the
//! ledger can end it, also after a restart.
//!
//! State, nonce and verifier follow from what is sealed, under a secret of the server: the browser cannot choose them, and
//! cannot tell them from what it keeps.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_audit::sha256;
use countersign_rules::ProviderName;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::Sha256;

/// A sign-in may take so long, in milliseconds: enough to type a password and find the second factor.
pub(in crate::auth) const FLIGHT_MS: i64 = 10 * 60_000;

/// A sealed sign-in has at most so many bytes; browsers keep no more in a cookie.
const SEALED_BYTES_MAX: usize = 4_000;

/// What a browser keeps while its person is at a provider.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    random: String,
    provider: ProviderName,
    next: String,
    begun_ms: i64,
}

/// A sign-in under way.
pub(in crate::auth) struct Flight {
    pub(in crate::auth) next: String,
    pub(in crate::auth) begun_ms: i64,
    pub(in crate::auth) state: String,
    pub(in crate::auth) nonce: String,
    pub(in crate::auth) verifier: String,
}

impl Flight {
    /// What the provider is told of the verifier (RFC 7636).
    pub(in crate::auth) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(sha256(self.verifier.as_bytes()).as_bytes())
    }
}

/// Seals what browsers keep.
pub(in crate::auth) struct Sealing(Hmac<Sha256>);

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealing")
    }
}

impl Sealing {
    /// Derives the key from a secret that is the same on every server of the ledger and after a restart.
    pub(in crate::auth) fn derive(secret: &[u8; 32]) -> Self {
        let key = sha256(&[b"countersign/sign-in/v1\0".as_slice(), secret].concat());
        // A key of the length of the hash is good for any HMAC; the other arm is never taken.
        Self(Hmac::new_from_slice(key.as_bytes()).unwrap_or_else(|_length| Hmac::new(&Default::default())))
    }

    fn code(&self, what: &str, kept: &str) -> Hmac<Sha256> {
        let mut code = self.0.clone();
        code.update(what.as_bytes());
        code.update(b"\0");
        code.update(kept.as_bytes());
        code
    }

    fn derived(&self, what: &str, kept: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.code(what, kept).finalize().into_bytes())
    }

    /// Begins a sign-in. Returns it with what the browser keeps.
    pub(in crate::auth) fn begin(
        &self,
        random: String,
        provider: &ProviderName,
        next: &str,
        begun_ms: i64,
    ) -> Option<(Flight, String)> {
        let kept = Kept { random, provider: provider.clone(), next: next.to_owned(), begun_ms };
        let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&kept).ok()?);
        let sealed = format!("{text}.{}", self.derived("seal", &text));
        (sealed.len() <= SEALED_BYTES_MAX).then(|| (self.flight(&text, kept), sealed))
    }

    /// Opens what a browser kept, if it was sealed here for this provider and is not too old.
    pub(in crate::auth) fn open(&self, sealed: &str, provider: &ProviderName, now_ms: i64) -> Option<Flight> {
        let (text, seal) = sealed.split_once('.').filter(|_| sealed.len() <= SEALED_BYTES_MAX)?;
        let seal = URL_SAFE_NO_PAD.decode(seal).ok()?;
        self.code("seal", text).verify_slice(&seal).ok()?;
        let kept: Kept = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let age_ms = now_ms.saturating_sub(kept.begun_ms);
        // Servers' clocks may differ a little.
        let fresh = (-60_000..FLIGHT_MS).contains(&age_ms);
        (kept.provider == *provider && fresh).then(|| self.flight(text, kept))
    }

    /// Seals what a page keeps for something else than a sign-in by a provider, such as `passkey`. Returns it with a random text
    /// that follows from it, and that nobody else can compute.
    pub(in crate::auth) fn seal(&self, what: &str, kept: &impl Serialize) -> Option<(String, String)> {
        let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(kept).ok()?);
        let sealed = format!("{text}.{}", self.derived(&format!("{what} seal"), &text));
        (sealed.len() <= SEALED_BYTES_MAX).then(|| (self.derived(what, &text), sealed))
    }

    /// Opens what was sealed here for this, and returns it with the random text.
    pub(in crate::auth) fn unseal<T: DeserializeOwned>(
        &self,
        what: &str,
        sealed: &str,
    ) -> Option<(String, T)> {
        let (text, seal) = sealed.split_once('.').filter(|_| sealed.len() <= SEALED_BYTES_MAX)?;
        let seal = URL_SAFE_NO_PAD.decode(seal).ok()?;
        self.code(&format!("{what} seal"), text).verify_slice(&seal).ok()?;
        let kept = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        Some((self.derived(what, text), kept))
    }

    fn flight(&self, text: &str, kept: Kept) -> Flight {
        let Kept { next, begun_ms, .. } = kept;
        Flight {
            next,
            begun_ms,
            state: self.derived("state", text),
            nonce: self.derived("nonce", text),
            verifier: self.derived("verifier", text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_is_opened_where_it_was_sealed_for_whom_and_for_as_long_as_it_says() {
        let (here, there) = (Sealing::derive(&[1; 32]), Sealing::derive(&[2; 32]));
        let (corp, other) = (ProviderName::parse("corp").unwrap(), ProviderName::parse("other").unwrap());
        let (begun, sealed) = here.begin("r".into(), &corp, "/console/", 1_000).unwrap();
        let opened = Sealing::derive(&[1; 32]).open(&sealed, &corp, 1_000 + FLIGHT_MS - 1).unwrap();
        assert_eq!(
            (&opened.state, &opened.nonce, &opened.verifier, opened.next.as_str()),
            (&begun.state, &begun.nonce, &begun.verifier, "/console/")
        );
        assert!(
            opened.state != opened.nonce && opened.nonce != opened.verifier && opened.verifier.len() == 43
        );
        assert!(here.open(&sealed, &corp, 1_000 + FLIGHT_MS).is_none(), "too old");
        assert!(here.open(&sealed, &corp, -60_000).is_none(), "of the future");
        assert!(here.open(&sealed, &other, 1_000).is_none(), "of another provider");
        assert!(there.open(&sealed, &corp, 1_000).is_none(), "of another server");
        let (text, seal) = sealed.split_once('.').unwrap();
        let forged = URL_SAFE_NO_PAD.encode(
            String::from_utf8(URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap().replace("corp", "other"),
        );
        for bad in [
            format!("{forged}.{seal}"),
            format!("{text}."),
            text.to_owned(),
            String::new(),
            format!("{text}.{text}"),
        ] {
            assert!(
                here.open(&bad, &corp, 1_000).is_none() && here.open(&bad, &other, 1_000).is_none(),
                "{bad}"
            );
        }
        assert_ne!(here.begin("s".into(), &corp, "/console/", 1_000).unwrap().0.state, begun.state);
        assert!(here.begin("r".into(), &corp, &"x".repeat(4_000), 1_000).is_none(), "no browser keeps that");
    }
}
