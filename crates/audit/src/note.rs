//! C2SP `signed-note`: text with signatures by named keys.
//!
//! A note may carry signatures of many keys (the log, its witnesses). Those of
//! keys the reader does not know are kept and ignored, as the specification
//! demands; a signature of a known key that does not verify spoils the note.
//! The text means nothing until [`Note::verify`] has answered.
//!
//! Only Ed25519 (signature type `0x01`) is implemented. Verification is the
//! strict one: small-order keys and non-canonical encodings are refused, so
//! that all verifiers agree.

use alloc::{
    borrow::ToOwned as _,
    format,
    string::{String, ToString as _},
    vec::Vec,
};
use core::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};

use crate::hash::{hex_value, sha256};

/// The longest note that is parsed, in bytes.
pub const NOTE_BYTES_MAX: usize = 1_000_000;
/// The most signatures of a note that is parsed (the specification demands at least 16).
pub const SIGNATURES_MAX: usize = 64;

const ED25519: u8 = 0x01;
const SIGNATURE_START: &str = "\u{2014} ";

/// The name of a key: not empty, no white space, no control character, no `+`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// Takes a name, by recommendation a URL without scheme such as `acme.example/log`.
    ///
    /// # Errors
    /// When the name is empty, over 255 bytes, or has a character that is not allowed.
    pub fn new(name: &str) -> Result<Self, KeyError> {
        let refused = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.len() > 255 || name.contains(refused) {
            return Err(KeyError::Name);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Four bytes that, together with the name, tell keys apart. Not a fingerprint: it is easy to collide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId([u8; 4]);

impl KeyId {
    fn of(name: &KeyName, key: &VerifyingKey) -> Self {
        let mut input = Vec::with_capacity(name.0.len().saturating_add(34));
        input.extend_from_slice(name.0.as_bytes());
        input.extend_from_slice(&[b'\n', ED25519]);
        input.extend_from_slice(key.as_bytes());
        let [a, b, c, d, ..] = *sha256(&input).as_bytes();
        Self([a, b, c, d])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 4 || !rest.is_empty() {
            return Err(KeyError::Form);
        }
        let mut id = [0_u8; 4];
        for (byte, [high, low]) in id.iter_mut().zip(pairs) {
            let digit = |digit| hex_value(digit).map_err(|_not_hex| KeyError::Form);
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Ok(Self(id))
    }
}

/// A key that signs notes. Erased from memory when dropped, and never printed.
pub struct SigningKey {
    verifier: VerifierKey,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// Makes a key from its 32-byte seed (RFC 8032), which must come from a cryptographic
    /// random source. The seed given stays the caller's to erase.
    ///
    /// # Errors
    /// When the name is not a key name.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let name = KeyName::new(name)?;
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = key.verifying_key();
        Ok(Self { verifier: VerifierKey { id: KeyId::of(&name, &public), name, key: public }, key })
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        self.verifier.clone()
    }

    /// The key's name.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.verifier.name
    }

    fn sign(&self, text: &str) -> NoteSignature {
        NoteSignature {
            name: self.verifier.name.clone(),
            id: self.verifier.id,
            signature: self.key.sign(text.as_bytes()).to_bytes().to_vec(),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("name", &self.verifier.name)
            .field("id", &self.verifier.id)
            .finish_non_exhaustive()
    }
}

/// A key that verifies notes. Its text form is the `vkey`: `name+id+base64(0x01 || key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    id: KeyId,
    key: VerifyingKey,
}

impl VerifierKey {
    /// Takes a name and an Ed25519 public key.
    ///
    /// # Errors
    /// When the name is not a key name, or the bytes are no usable public key.
    pub fn new(name: &str, public: &[u8; 32]) -> Result<Self, KeyError> {
        let name = KeyName::new(name)?;
        let key = VerifyingKey::from_bytes(public).map_err(|_opaque| KeyError::PublicKey)?;
        if key.is_weak() {
            return Err(KeyError::PublicKey);
        }
        Ok(Self { id: KeyId::of(&name, &key), name, key })
    }

    /// The key's name.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// The key's id.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The Ed25519 public key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    fn made(&self, signature: &NoteSignature) -> bool {
        self.name == signature.name && self.id == signature.id
    }

    fn verify(&self, text: &str, signature: &NoteSignature) -> Result<(), NoteError> {
        let bad = || NoteError::Signature { name: self.name.to_string() };
        let parsed = Signature::from_slice(&signature.signature).map_err(|_length| bad())?;
        self.key.verify_strict(text.as_bytes(), &parsed).map_err(|_opaque| bad())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = [ED25519; 33];
        for (to, from) in key.iter_mut().skip(1).zip(self.key.as_bytes()) {
            *to = *from;
        }
        write!(f, "{}+{}+{}", self.name, self.id, STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(vkey: &str) -> Result<Self, KeyError> {
        // Base64 may contain `+`, names may not.
        let (name, rest) = vkey.split_once('+').ok_or(KeyError::Form)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Form)?;
        let bytes = STANDARD.decode(key).map_err(|_detail| KeyError::Form)?;
        let (kind, public) = bytes.split_first().ok_or(KeyError::Form)?;
        if *kind != ED25519 {
            return Err(KeyError::Algorithm(*kind));
        }
        let key = Self::new(name, public.try_into().map_err(|_length| KeyError::Form)?)?;
        if key.id == id.parse()? { Ok(key) } else { Err(KeyError::Id) }
    }
}

/// A signature line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: KeyName,
    id: KeyId,
    signature: Vec<u8>,
}

impl NoteSignature {
    /// The name of the key that is said to have signed.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// The id of the key that is said to have signed.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    fn parse(line: &str) -> Option<Self> {
        let (name, base64) = line.strip_prefix(SIGNATURE_START)?.split_once(' ')?;
        let bytes = STANDARD.decode(base64).ok()?;
        let (id, signature) = bytes.split_first_chunk::<4>()?;
        let name = KeyName::new(name).ok()?;
        (!signature.is_empty()).then(|| Self { name, id: KeyId(*id), signature: signature.to_vec() })
    }

    fn encode(&self) -> String {
        let mut bytes = self.id.0.to_vec();
        bytes.extend_from_slice(&self.signature);
        format!("{SIGNATURE_START}{} {}\n", self.name, STANDARD.encode(bytes))
    }
}

/// A text and the signatures under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Signs a text, which must end in a newline and have no other control characters.
    ///
    /// # Errors
    /// When the text has another form, or there is no key.
    pub fn sign(text: &str, keys: &[&SigningKey]) -> Result<Self, NoteError> {
        check_text(text)?;
        if keys.is_empty() {
            return Err(NoteError::Unsigned);
        }
        Ok(Self { text: text.to_owned(), signatures: keys.iter().map(|key| key.sign(text)).collect() })
    }

    /// Parses a note; its signatures are not verified.
    ///
    /// # Errors
    /// When the bytes are not a signed note, or are more than the limits allow.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Limit);
        }
        let note = core::str::from_utf8(bytes).map_err(|_position| NoteError::Text)?;
        // Signatures stand after the last empty line; the text keeps its final newline.
        let (body, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Unsigned)?;
        let text = format!("{body}\n");
        check_text(&text)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::SignatureLine)?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() >= SIGNATURES_MAX {
                return Err(NoteError::Limit);
            }
            signatures.push(NoteSignature::parse(line).ok_or(NoteError::SignatureLine)?);
        }
        Ok(Self { text, signatures })
    }

    /// The bytes of the note: text, empty line, signature lines.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = format!("{}\n", self.text);
        out.extend(self.signatures.iter().map(NoteSignature::encode));
        out
    }

    /// The text, which nobody has vouched for until [`Note::verify`] says so.
    #[must_use]
    pub fn unverified_text(&self) -> &str {
        &self.text
    }

    /// The signatures, in order, verified or not.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds the signatures that another copy of the same text carries, as a witness returns it.
    ///
    /// # Errors
    /// When the texts differ.
    pub fn merge(&mut self, other: &Self) -> Result<(), NoteError> {
        if self.text != other.text {
            return Err(NoteError::OtherText);
        }
        for signature in &other.signatures {
            if !self.signatures.contains(signature) {
                self.signatures.push(signature.clone());
            }
        }
        Ok(())
    }

    /// Verifies the signatures of known keys and answers the text.
    ///
    /// # Errors
    /// When no known key has signed, or any signature by a known key does not verify.
    pub fn verify(&self, known: &[VerifierKey]) -> Result<&str, NoteError> {
        let mut signed = false;
        for signature in &self.signatures {
            for key in known.iter().filter(|key| key.made(signature)) {
                key.verify(&self.text, signature)?;
                signed = true;
            }
        }
        if signed { Ok(&self.text) } else { Err(NoteError::UnknownKey { signers: self.signers() }) }
    }

    fn signers(&self) -> String {
        let names: Vec<String> =
            self.signatures.iter().take(4).map(|by| format!("{}+{}", by.name, by.id)).collect();
        names.join(", ")
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    // `is_control` also covers U+007F to U+009F, which the specification does not forbid.
    let forbidden = |c: char| c < ' ' && c != '\n';
    if text.ends_with('\n') && !text.contains(forbidden) { Ok(()) } else { Err(NoteError::Text) }
}

/// A key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a key name.
    #[error("a key name must be 1 to 255 bytes without white space, control characters and `+`")]
    Name,
    /// Not `name+id+base64`.
    #[error(
        "a verifier key must have the form `name+id+key`: a name, eight lower-case hex digits, and base64"
    )]
    Form,
    /// The id is not that of this name and key.
    #[error(
        "the id in the verifier key is not the id of its name and key; it was damaged or put together from two"
    )]
    Id,
    /// Another algorithm than Ed25519.
    #[error("the verifier key has the signature type {0}, and only type 1 (Ed25519) is known")]
    Algorithm(u8),
    /// Not a point of the curve, or one of small order.
    #[error("the verifier key is not a usable Ed25519 public key")]
    PublicKey,
}

/// A note cannot be read or believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text breaks the rules for notes.
    #[error("a note's text must be UTF-8 lines that each end in a newline, without other control characters")]
    Text,
    /// There are no signatures.
    #[error("the note has no signatures")]
    Unsigned,
    /// A signature line has another form.
    #[error("the note has a malformed signature line")]
    SignatureLine,
    /// Too long, or too many signatures.
    #[error("the note has over {NOTE_BYTES_MAX} bytes or over {SIGNATURES_MAX} signatures")]
    Limit,
    /// None of the signatures is by a known key.
    #[error("the note is not signed by the trusted key, only by {signers}")]
    UnknownKey {
        /// These are said to have signed instead; at most four are named.
        signers: String,
    },
    /// A signature in the name of a known key is not by that key.
    #[error("the signature in the name of `{name}` is forged, or the signed text was changed")]
    Signature {
        /// The name of the known key.
        name: String,
    },
    /// Two notes that should have the same text do not.
    #[error("the notes have different texts")]
    OtherText,
}

#[cfg(test)]
#[path = "note/tests.rs"]
mod tests;
