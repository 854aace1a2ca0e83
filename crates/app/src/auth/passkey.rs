//! What browsers say of passkeys (Web Authentication, levels 2 and 3), and whether it holds.
//!
//! A pure check: the challenge, the site and what is known of the passkey are arguments. Attestation is not looked at: nobody
//! has to prove here which make an authenticator is of. No CBOR is read: a browser hands over the public key as
//! `SubjectPublicKeyInfo`, and all else that counts stands at fixed places.

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_audit::sha256;
use countersign_rules::PasskeyId;
use countersign_store::PasskeyRecord;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use url::{Host, Url};

/// What a browser says of a passkey has at most so many bytes, as it is sent.
const SAID_BYTES_MAX: usize = 16 * 1_024;
/// A credential id has at most so many bytes (level 3, 5.1.3).
const CREDENTIAL_BYTES_MAX: usize = 1_023;

/// The algorithms that are asked for, by their numbers in COSE, the preferred first: EdDSA, ES256, RS256.
pub(super) const ALGORITHMS: [i64; 3] = [-8, -7, -257];

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const SYNCABLE: u8 = 0x08;
const SYNCED: u8 = 0x10;
const HAS_CREDENTIAL: u8 = 0x40;
const HAS_EXTENSIONS: u8 = 0x80;

/// The site for which passkeys are made and asked for: the relying party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeySite {
    /// The host.
    pub host: String,
    /// Its pages have this origin, to the letter.
    pub origin: String,
}

impl PasskeySite {
    /// Makes the site of a server that people reach at this address.
    ///
    /// # Errors
    /// Returns why browsers make no passkeys there.
    pub fn of(url: &Url) -> Result<Self, String> {
        let Some(Host::Domain(host)) = url.host() else {
            return Err(format!("browsers make passkeys for names, and `{url}` is an address"));
        };
        if url.scheme() != "https" && host != "localhost" {
            return Err(format!("browsers make passkeys over TLS alone, and `{url}` is not encrypted"));
        }
        Ok(Self { host: host.to_owned(), origin: url.origin().ascii_serialization() })
    }
}

/// What a browser says does not hold, for this reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PasskeyFault {
    #[error("what the browser says of the passkey cannot be read")]
    Unreadable,
    #[error("it was not signed for this")]
    Purpose,
    #[error("it was signed for a page of another site, or one inside a page of another")]
    Origin,
    #[error("it is of another site")]
    Site,
    #[error("nobody was there, or it was not checked who")]
    Unverified,
    #[error("the authenticator says of itself what cannot be")]
    Flags,
    #[error("the passkey signs with an algorithm that was not asked for, or its key is none of that")]
    Algorithm,
    #[error("it is another passkey")]
    Credential,
    #[error("the signature does not hold")]
    Signature,
}

/// A browser says this of a passkey that it made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    id: String,
    client_data: String,
    authenticator_data: String,
    public_key: String,
    algorithm: i64,
}

/// A browser says this of a passkey that has signed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signed {
    id: String,
    client_data: String,
    authenticator_data: String,
    signature: String,
    #[serde(default)]
    user_handle: Option<String>,
}

/// What the page was, as the browser itself says (5.8.1). Others than these may come with it.
#[derive(Debug, Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: Option<bool>,
    #[serde(default, rename = "topOrigin")]
    top_origin: Option<String>,
}

/// What an authenticator says of itself and of the user (6.1), with what follows its counter.
struct AuthenticatorData<'a> {
    flags: u8,
    counter: u32,
    rest: &'a [u8],
}

/// A passkey that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registered {
    pub(super) id: PasskeyId,
    pub(super) credential: String,
    pub(super) key: String,
    pub(super) algorithm: i64,
    pub(super) counter: u32,
    pub(super) syncable: bool,
    pub(super) synced: bool,
}

/// A passkey has signed so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Assertion {
    pub(super) counter: u32,
    pub(super) synced: bool,
}

/// Checks what a browser says of a passkey that it made with this challenge.
pub(super) fn registered(
    site: &PasskeySite,
    challenge: &str,
    said: &str,
) -> Result<Registered, PasskeyFault> {
    let made: Made = read(said)?;
    let client_data = decoded(&made.client_data)?;
    check_client_data(&client_data, "webauthn.create", site, challenge)?;
    let data = decoded(&made.authenticator_data)?;
    let AuthenticatorData { flags, counter, rest } = authenticator_data(&data, site)?;
    // The model of the authenticator stands before the length of the id; which it is, is not asked.
    let (_model, rest) = rest.split_at_checked(16).ok_or(PasskeyFault::Unreadable)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(PasskeyFault::Unreadable)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (credential, key) = rest.split_at_checked(length).ok_or(PasskeyFault::Unreadable)?;
    if flags & HAS_CREDENTIAL == 0 || key.is_empty() {
        return Err(PasskeyFault::Unreadable);
    }
    if !(1..=CREDENTIAL_BYTES_MAX).contains(&length) || decoded(&made.id)? != credential {
        return Err(PasskeyFault::Credential);
    }
    let key = decoded(&made.public_key)?;
    parsed(made.algorithm, &key)?;
    Ok(Registered {
        id: id_of(credential)?,
        credential: URL_SAFE_NO_PAD.encode(credential),
        key: URL_SAFE_NO_PAD.encode(key),
        algorithm: made.algorithm,
        counter,
        syncable: flags & SYNCABLE != 0,
        synced: flags & SYNCED != 0,
    })
}

impl Signed {
    /// Reads what a browser says of a passkey that has signed.
    pub(super) fn read(said: &str) -> Result<Self, PasskeyFault> {
        read(said)
    }

    /// By what the passkey knows the account, if it says that.
    pub(super) fn handle(&self) -> Option<&str> {
        self.user_handle.as_deref().filter(|handle| !handle.is_empty())
    }

    /// Returns the id of the passkey that is said to have signed.
    pub(super) fn passkey(&self) -> Result<PasskeyId, PasskeyFault> {
        id_of(&decoded(&self.id)?)
    }

    /// Checks that this passkey has signed this challenge here, with its user there and verified.
    pub(super) fn check(
        &self,
        site: &PasskeySite,
        challenge: &str,
        passkey: &PasskeyRecord,
    ) -> Result<Assertion, PasskeyFault> {
        if self.id != passkey.credential {
            return Err(PasskeyFault::Credential);
        }
        let client_data = decoded(&self.client_data)?;
        check_client_data(&client_data, "webauthn.get", site, challenge)?;
        let data = decoded(&self.authenticator_data)?;
        let AuthenticatorData { flags, counter, rest } = authenticator_data(&data, site)?;
        if flags & HAS_CREDENTIAL != 0 || (flags & HAS_EXTENSIONS == 0) != rest.is_empty() {
            return Err(PasskeyFault::Unreadable);
        }
        if (flags & SYNCABLE != 0) != passkey.syncable {
            return Err(PasskeyFault::Flags);
        }
        let signed = [data.as_slice(), sha256(&client_data).as_bytes()].concat();
        let key = parsed(passkey.algorithm, &decoded(&passkey.key)?)?;
        key.verify_sig(&signed, &decoded(&self.signature)?).map_err(|_bad| PasskeyFault::Signature)?;
        Ok(Assertion { counter, synced: flags & SYNCED != 0 })
    }
}

fn read<'a, T: Deserialize<'a>>(said: &'a str) -> Result<T, PasskeyFault> {
    if said.len() > SAID_BYTES_MAX {
        return Err(PasskeyFault::Unreadable);
    }
    serde_json::from_str(said).map_err(|_why| PasskeyFault::Unreadable)
}

fn decoded(text: &str) -> Result<Vec<u8>, PasskeyFault> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_why| PasskeyFault::Unreadable)
}

fn id_of(credential: &[u8]) -> Result<PasskeyId, PasskeyFault> {
    PasskeyId::parse(&sha256(credential).to_string()).map_err(|_never| PasskeyFault::Credential)
}

/// Checks what the browser says that it has signed where (7.1 and 7.2).
fn check_client_data(
    bytes: &[u8],
    kind: &str,
    site: &PasskeySite,
    challenge: &str,
) -> Result<(), PasskeyFault> {
    let said: ClientData = serde_json::from_slice(bytes).map_err(|_why| PasskeyFault::Unreadable)?;
    let fits = bool::from(said.challenge.as_bytes().ct_eq(challenge.as_bytes()));
    if said.kind != kind || !fits {
        return Err(PasskeyFault::Purpose);
    }
    if said.origin != site.origin || said.cross_origin == Some(true) || said.top_origin.is_some() {
        return Err(PasskeyFault::Origin);
    }
    Ok(())
}

fn authenticator_data<'a>(data: &'a [u8], site: &PasskeySite) -> Result<AuthenticatorData<'a>, PasskeyFault> {
    let (of_site, rest) = data.split_at_checked(32).ok_or(PasskeyFault::Unreadable)?;
    let ([flags], rest) = rest.split_first_chunk::<1>().ok_or(PasskeyFault::Unreadable)?;
    let (counter, rest) = rest.split_first_chunk::<4>().ok_or(PasskeyFault::Unreadable)?;
    if of_site != sha256(site.host.as_bytes()).as_bytes() {
        return Err(PasskeyFault::Site);
    }
    if flags & USER_PRESENT == 0 || flags & USER_VERIFIED == 0 {
        return Err(PasskeyFault::Unverified);
    }
    // What is on several devices can be.
    if flags & SYNCED != 0 && flags & SYNCABLE == 0 {
        return Err(PasskeyFault::Flags);
    }
    Ok(AuthenticatorData { flags: *flags, counter: u32::from_be_bytes(*counter), rest })
}

/// Reads a public key, which must be one of this algorithm.
fn parsed(algorithm: i64, key: &[u8]) -> Result<ParsedPublicKey, PasskeyFault> {
    let verified_by: &'static dyn VerificationAlgorithm = match algorithm {
        -8 => &signature::ED25519,
        -7 => &signature::ECDSA_P256_SHA256_ASN1,
        -257 => &signature::RSA_PKCS1_2048_8192_SHA256,
        _ => return Err(PasskeyFault::Algorithm),
    };
    ParsedPublicKey::new(verified_by, key).map_err(|_why| PasskeyFault::Algorithm)
}
