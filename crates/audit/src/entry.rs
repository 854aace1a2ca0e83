//! The envelope of a log entry: canonical JSON (RFC 8785) with a version.
//!
//! ```json
//! {"agent":"billing-bot","at":"2026-03-01T09:30:00.000Z","body":{…},"call":"cal-…","kind":"decided","run":"run-…","session":"ses-…","v":1}
//! ```
//!
//! The envelope says when, of what kind, and what the entry refers to; the body
//! is whatever the writer means by that kind, and is not looked at here. Entries
//! are read for years: an entry of an unknown version is handed on as it is and
//! reported, never read as if it were a known one.

use alloc::{
    borrow::ToOwned as _,
    string::{String, ToString as _},
    vec::Vec,
};
use core::fmt::{self, Write as _};

use serde_json::{Map, Value};

use crate::{
    canonical::{self, CanonicalBody, CanonicalError, write_string},
    strict::{StrictError, from_slice_with_depth},
    time::{self, TimeError},
};

/// The most bytes of one entry: its length is a 16-bit number in an entry bundle (C2SP tlog-tiles).
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// The version of the envelope that this code writes.
pub const ENTRY_VERSION: u64 = 1;

/// One record of the log, in the current version.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The entry was recorded at this time, in milliseconds since 1970 (UTC), in the years 0000 to 9999.
    pub at_ms: i64,
    /// This kind of thing happened.
    pub kind: EntryKind,
    /// The call it belongs to.
    pub call: Option<Reference>,
    /// The run it belongs to.
    pub run: Option<Reference>,
    /// The session it belongs to.
    pub session: Option<Reference>,
    /// The agent it belongs to.
    pub agent: Option<Reference>,
    /// This happened, in the terms of its kind.
    pub body: Value,
}

impl Entry {
    /// An entry that refers to nothing.
    #[must_use]
    pub const fn new(at_ms: i64, kind: EntryKind, body: Value) -> Self {
        Self { at_ms, kind, call: None, run: None, session: None, agent: None, body }
    }

    /// The bytes that go into the log.
    ///
    /// # Errors
    /// When the time has no text, the body no canonical form, or the whole exceeds [`ENTRY_BYTES_MAX`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, EntryError> {
        self.to_bytes_with(&CanonicalBody::of(&self.body)?)
    }

    /// The bytes with another body in place of its own: for a writer that has it as text.
    ///
    /// # Errors
    /// When the time has no text, or the whole exceeds [`ENTRY_BYTES_MAX`].
    pub fn to_bytes_with(&self, body: &CanonicalBody) -> Result<Vec<u8>, EntryError> {
        let mut out = String::with_capacity(body.as_str().len().saturating_add(ENVELOPE_BYTES));
        // In the order of the keys, as RFC 8785 demands.
        out.push('{');
        push_reference(&mut out, "agent", self.agent.as_ref());
        out.push_str("\"at\":\"");
        out.push_str(&time::format_ms(self.at_ms)?);
        out.push_str("\",\"body\":");
        out.push_str(body.as_str());
        out.push(',');
        push_reference(&mut out, "call", self.call.as_ref());
        out.push_str("\"kind\":");
        write_string(&mut out, self.kind.as_str());
        out.push(',');
        push_reference(&mut out, "run", self.run.as_ref());
        push_reference(&mut out, "session", self.session.as_ref());
        write!(out, "\"v\":{ENTRY_VERSION}}}").map_err(|_never| EntryError::NotCanonical)?;
        if out.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong { bytes: out.len() });
        }
        Ok(out.into_bytes())
    }

    /// Reads the bytes of an entry of any version.
    ///
    /// # Errors
    /// When they are not canonical JSON with a version, or not a well-formed entry of a known version.
    pub fn parse(bytes: &[u8]) -> Result<ParsedEntry, EntryError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong { bytes: bytes.len() });
        }
        let value = from_slice_with_depth(bytes, canonical::DEPTH_MAX)?;
        if canonical::to_canonical_vec(&value)? != bytes {
            return Err(EntryError::NotCanonical);
        }
        let Value::Object(mut members) = value else { return Err(EntryError::NotAnObject) };
        match members.get("v").and_then(Value::as_u64) {
            None => Err(EntryError::Field { field: "v" }),
            Some(ENTRY_VERSION) => Self::from_members(&mut members).map(ParsedEntry::Known),
            Some(version) => Ok(ParsedEntry::UnknownVersion { version, value: Value::Object(members) }),
        }
    }

    fn from_members(members: &mut Map<String, Value>) -> Result<Self, EntryError> {
        let at = take_text(members, "at")?.ok_or(EntryError::Field { field: "at" })?;
        let kind = take_text(members, "kind")?.ok_or(EntryError::Field { field: "kind" })?;
        let entry = Self {
            at_ms: time::parse_ms(&at)?,
            kind: EntryKind::new(&kind)?,
            call: take_reference(members, "call")?,
            run: take_reference(members, "run")?,
            session: take_reference(members, "session")?,
            agent: take_reference(members, "agent")?,
            body: members.remove("body").ok_or(EntryError::Field { field: "body" })?,
        };
        members.remove("v");
        match members.keys().next() {
            Some(unknown) => Err(EntryError::UnknownField {
                field: unknown.chars().take(64).flat_map(char::escape_debug).collect(),
            }),
            None => Ok(entry),
        }
    }
}

/// An entry as read from the log.
#[derive(Debug, Clone, PartialEq)]
pub enum ParsedEntry {
    /// Of the version this code writes.
    Known(Entry),
    /// Of a version this code does not know: it is canonical JSON, and that is all that can be said.
    UnknownVersion {
        /// The version it claims.
        version: u64,
        /// The whole entry.
        value: Value,
    },
}

/// An entry records a thing of this kind, for example `decided` or `call.proposed`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryKind(String);

impl EntryKind {
    /// Takes 1 to 64 characters: lower-case ASCII letters, digits, `_`, `-` and `.`, a letter first.
    ///
    /// # Errors
    /// When the name has another form.
    pub fn new(name: &str) -> Result<Self, EntryError> {
        let letter_first = name.starts_with(|first: char| first.is_ascii_lowercase());
        let allowed = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'));
        if letter_first && allowed && name.len() <= 64 {
            Ok(Self(name.to_owned()))
        } else {
            Err(EntryError::Kind)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An identifier that an entry refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference(String);

impl Reference {
    /// Takes 1 to 256 bytes without control characters.
    ///
    /// # Errors
    /// When the identifier has another form.
    pub fn new(id: impl Into<String>) -> Result<Self, EntryError> {
        let id = id.into();
        if id.is_empty() || id.len() > 256 || id.chars().any(char::is_control) {
            return Err(EntryError::Reference);
        }
        Ok(Self(id))
    }

    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entry cannot be written, or bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Longer than an entry bundle can hold.
    #[error(
        "the entry has {bytes} bytes, and a log entry holds at most {ENTRY_BYTES_MAX}; record a digest of large values instead"
    )]
    TooLong {
        /// The entry has this length, in bytes.
        bytes: usize,
    },
    /// Not JSON, or JSON that readers may read differently.
    #[error(transparent)]
    Json(#[from] StrictError),
    /// A value without a canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// JSON, but not in the one form of RFC 8785.
    #[error("the entry is not canonical JSON (RFC 8785)")]
    NotCanonical,
    /// Canonical JSON, but no object.
    #[error("the entry is not a JSON object")]
    NotAnObject,
    /// A field is missing or has another type.
    #[error("the entry's field `{field}` is missing or has the wrong type")]
    Field {
        /// Which.
        field: &'static str,
    },
    /// A field that this version of the envelope does not have.
    #[error("the entry has the unknown field `{field}`")]
    UnknownField {
        /// The field has this name, shortened and escaped for display.
        field: String,
    },
    /// The time has no text, or the text no time.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// Not a name of a kind.
    #[error("an entry's kind must be 1 to 64 of `a-z 0-9 _ - .`, a letter first")]
    Kind,
    /// Not an identifier.
    #[error("an entry's reference must be 1 to 256 bytes without control characters")]
    Reference,
}

impl EntryError {
    /// The stable code of this refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "entry_too_long",
            Self::Json(error) => error.code(),
            Self::Canonical(error) => error.code(),
            Self::NotCanonical => "entry_not_canonical",
            Self::NotAnObject | Self::Field { .. } | Self::UnknownField { .. } => "entry_field",
            Self::Time(_) => "entry_time",
            Self::Kind => "entry_kind",
            Self::Reference => "entry_reference",
        }
    }
}

/// What stands around a body has about so many bytes at most, where identifiers are of the usual length.
const ENVELOPE_BYTES: usize = 320;

fn push_reference(out: &mut String, key: &str, id: Option<&Reference>) {
    if let Some(id) = id {
        out.push('"');
        out.push_str(key);
        out.push_str("\":");
        write_string(out, id.as_str());
        out.push(',');
    }
}

fn take_text(members: &mut Map<String, Value>, field: &'static str) -> Result<Option<String>, EntryError> {
    match members.remove(field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(EntryError::Field { field })
        }
    }
}

fn take_reference(
    members: &mut Map<String, Value>,
    field: &'static str,
) -> Result<Option<Reference>, EntryError> {
    take_text(members, field)?.map(Reference::new).transpose()
}

impl From<EntryKind> for String {
    fn from(kind: EntryKind) -> Self {
        kind.0
    }
}

impl From<Reference> for String {
    fn from(id: Reference) -> Self {
        id.0
    }
}

impl TryFrom<&str> for Reference {
    type Error = EntryError;

    fn try_from(id: &str) -> Result<Self, EntryError> {
        Self::new(id.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict::tests::any_json;
    use alloc::format;
    use proptest::prelude::*;
    use serde_json::json;

    fn sample() -> Entry {
        Entry {
            call: Some("cal-1".try_into().unwrap()),
            session: Some("ses-1".try_into().unwrap()),
            agent: Some("billing \"bot\"".try_into().unwrap()),
            ..Entry::new(
                1_772_323_200_000,
                EntryKind::new("decided").unwrap(),
                json!({"rows": 14200, "answer": "ask"}),
            )
        }
    }

    #[test]
    fn has_the_documented_bytes() {
        let bytes = sample().to_bytes().unwrap();
        assert_eq!(
            core::str::from_utf8(&bytes).unwrap(),
            r#"{"agent":"billing \"bot\"","at":"2026-03-01T00:00:00.000Z","body":{"answer":"ask","rows":14200},"call":"cal-1","kind":"decided","session":"ses-1","v":1}"#
        );
        assert_eq!(Entry::parse(&bytes), Ok(ParsedEntry::Known(sample())));
    }

    #[test]
    fn an_unknown_version_is_kept_and_named() {
        let bytes = br#"{"kind":7,"v":2}"#;
        assert_eq!(
            Entry::parse(bytes),
            Ok(ParsedEntry::UnknownVersion { version: 2, value: json!({"v": 2, "kind": 7}) })
        );
    }

    #[test]
    fn malformed_entries_are_refused() {
        for (text, code) in [
            ("", "json_syntax"),
            ("[1]", "entry_field"),
            ("{}", "entry_field"),
            (r#"{"v":"1"}"#, "entry_field"),
            (r#"{"v":-1}"#, "entry_field"),
            (r#"{"v":1}"#, "entry_field"),
            (r#"{ "v":2}"#, "entry_not_canonical"),
            (r#"{"v":2,"a":1}"#, "entry_not_canonical"),
            (r#"{"a":1.0,"v":2}"#, "entry_not_canonical"),
            (r#"{"v":2,"v":2}"#, "json_duplicate_key"),
            (r#"{"at":"2026-03-01T00:00:00Z","body":{},"kind":"decided","v":1}"#, "entry_time"),
            (r#"{"at":"2026-03-01T00:00:00.000Z","body":{},"kind":"Decided","v":1}"#, "entry_kind"),
            (r#"{"at":"2026-03-01T00:00:00.000Z","body":{},"kind":7,"v":1}"#, "entry_field"),
            (r#"{"at":"2026-03-01T00:00:00.000Z","kind":"decided","v":1}"#, "entry_field"),
            (
                r#"{"at":"2026-03-01T00:00:00.000Z","body":{},"call":"","kind":"decided","v":1}"#,
                "entry_reference",
            ),
            (
                r#"{"at":"2026-03-01T00:00:00.000Z","body":{},"extra":1,"kind":"decided","v":1}"#,
                "entry_field",
            ),
        ] {
            assert_eq!(Entry::parse(text.as_bytes()).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn the_length_limit_is_exact() {
        let with = |length: usize| Entry::new(0, EntryKind::new("k").unwrap(), json!("x".repeat(length)));
        let overhead = with(0).to_bytes().unwrap().len();
        let longest = with(ENTRY_BYTES_MAX - overhead).to_bytes().unwrap();
        assert_eq!(longest.len(), ENTRY_BYTES_MAX);
        assert!(Entry::parse(&longest).is_ok());
        let error = with(ENTRY_BYTES_MAX - overhead + 1).to_bytes().unwrap_err();
        assert_eq!(error, EntryError::TooLong { bytes: ENTRY_BYTES_MAX + 1 });
        assert_eq!(Entry::parse(&[b' '; ENTRY_BYTES_MAX + 1]).unwrap_err().code(), "entry_too_long");
    }

    #[test]
    fn what_the_front_door_accepts_can_be_recorded() {
        let depth = crate::strict::DEPTH_MAX;
        let arguments = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let arguments = crate::from_slice_strict(arguments.as_bytes()).unwrap();
        let entry =
            Entry::new(0, EntryKind::new("proposed").unwrap(), json!({"call": {"arguments": arguments}}));
        assert!(Entry::parse(&entry.to_bytes().unwrap()).is_ok());
    }

    #[test]
    fn names_and_references_have_limits() {
        for name in ["", "A", "1a", "a b", "é", &"a".repeat(65)] {
            assert_eq!(EntryKind::new(name), Err(EntryError::Kind), "{name}");
        }
        assert_eq!(EntryKind::new("call.proposed_2-x").unwrap().as_str(), "call.proposed_2-x");
        for id in ["", "a\nb", &"a".repeat(257)] {
            assert_eq!(Reference::try_from(id), Err(EntryError::Reference));
        }
    }

    proptest! {
        #[test]
        fn entries_survive_the_log(at_ms in time::MS_MIN..=time::MS_MAX, body in any_json(), call in prop::option::of("[!-~é ]{1,40}")) {
            let entry = Entry {
                call: call.map(|id| Reference::new(id).unwrap()),
                ..Entry::new(at_ms, EntryKind::new("outcome").unwrap(), body)
            };
            prop_assert_eq!(Entry::parse(&entry.to_bytes().unwrap()), Ok(ParsedEntry::Known(entry)));
        }

        #[test]
        fn a_flipped_bit_is_refused_or_another_entry(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = sample().to_bytes().unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_ne!(Entry::parse(&bytes), Ok(ParsedEntry::Known(sample())));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(Entry::parse(&bytes).is_err() || from_slice_with_depth(&bytes, 128).is_ok());
        }
    }
}
