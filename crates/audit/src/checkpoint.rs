//! C2SP `tlog-checkpoint`: the signed statement of the whole log's state.
//!
//! ```text
//! acme.example/log
//! 20852163
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — acme.example/log Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOo…
//! ```
//!
//! A log signs with the key that bears its own name, so the origin must equal
//! the name of the key it is verified with: a checkpoint of one log can then
//! never pass for another's.

use alloc::{borrow::ToOwned as _, format, string::String, vec::Vec};

use crate::{
    hash::{Hash, ParseHashError},
    note::{Note, NoteError, SigningKey, VerifierKey},
};

/// Origin, size and root of a log, and possibly extension lines.
///
/// A value may have been built or parsed by anyone; only [`Checkpoint::open`] says that the log signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// States size and root of a log.
    ///
    /// # Errors
    /// When the origin is empty or has control characters, or an empty log has another root than the empty one.
    pub fn new(origin: &str, size: u64, root: Hash) -> Result<Self, CheckpointError> {
        if origin.is_empty() || origin.contains(char::is_control) {
            return Err(CheckpointError::Origin);
        }
        if size == 0 && root != Hash::EMPTY_ROOT {
            return Err(CheckpointError::EmptyRoot);
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions: Vec::new() })
    }

    /// Adds an opaque extension line. The specification recommends against them.
    ///
    /// # Errors
    /// When the line is empty or has control characters.
    pub fn with_extension(mut self, line: &str) -> Result<Self, CheckpointError> {
        if line.is_empty() || line.contains(char::is_control) {
            return Err(CheckpointError::Body);
        }
        self.extensions.push(line.to_owned());
        Ok(self)
    }

    /// The name of the log.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The number of entries.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree over all entries.
    #[must_use]
    pub const fn root(&self) -> &Hash {
        &self.root
    }

    /// The extension lines.
    #[must_use]
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// The text of the note.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, self.root.to_base64());
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Reads the text of a note, which says nothing about who signed it.
    ///
    /// # Errors
    /// When the text is not a checkpoint, in the one spelling it has.
    pub fn parse_text(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Body)?.split('\n');
        let mut next = || lines.next().ok_or(CheckpointError::Body);
        let (origin, size, root) = (next()?, next()?, next()?);
        let size = parse_decimal(size).ok_or(CheckpointError::Size)?;
        lines.try_fold(Self::new(origin, size, Hash::from_base64(root)?)?, Self::with_extension)
    }

    /// Signs the checkpoint with the key that bears the log's name.
    ///
    /// # Errors
    /// When the key has another name than the log.
    pub fn sign(&self, key: &SigningKey) -> Result<Note, CheckpointError> {
        if key.name().as_str() != self.origin {
            return Err(CheckpointError::OtherLog {
                origin: self.origin.clone(),
                key: key.name().as_str().to_owned(),
            });
        }
        Ok(Note::sign(&self.to_text(), &[key])?)
    }

    /// Parses a signed checkpoint and verifies that this key signed it for the log of its name.
    ///
    /// # Errors
    /// When the bytes are not a note, not signed by this key, not a checkpoint, or of another log.
    pub fn open(note: &[u8], key: &VerifierKey) -> Result<Self, CheckpointError> {
        Self::from_note(&Note::parse(note)?, key)
    }

    /// As [`Checkpoint::open`], from a parsed note.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_note(note: &Note, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse_text(note.verify(core::slice::from_ref(key))?)?;
        if checkpoint.origin != key.name().as_str() {
            return Err(CheckpointError::OtherLog {
                origin: checkpoint.origin,
                key: key.name().as_str().to_owned(),
            });
        }
        Ok(checkpoint)
    }
}

/// A checkpoint cannot be made, read or believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Not at least three lines, or an empty line.
    #[error("the note is not a checkpoint: it needs an origin, a size and a root, one a line")]
    Body,
    /// The first line.
    #[error("a checkpoint's origin must not be empty or have control characters")]
    Origin,
    /// The second line.
    #[error("a checkpoint's size must be a decimal number below 2^64 without leading zeros")]
    Size,
    /// The third line.
    #[error("a checkpoint's root must be padded base64 of 32 bytes")]
    Root(#[from] ParseHashError),
    /// Size 0 with another root.
    #[error("a checkpoint of an empty log must have the root of the empty tree")]
    EmptyRoot,
    /// The key is not that of the log.
    #[error("the checkpoint is of the log `{origin}`, and the key is that of `{key}`")]
    OtherLog {
        /// The log in the checkpoint.
        origin: String,
        /// The name of the key.
        key: String,
    },
}

/// A decimal number in its one spelling: digits only, no leading zero.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    (digits && !leading_zero).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;
    use proptest::prelude::*;

    fn key() -> SigningKey {
        SigningKey::from_seed("acme.example/log", &[3; 32]).unwrap()
    }

    #[test]
    fn the_text_of_the_specification() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let checkpoint = Checkpoint::parse_text(text).unwrap();
        assert_eq!((checkpoint.origin(), checkpoint.size()), ("example.com/behind-the-sofa", 20_852_163));
        assert_eq!(checkpoint.to_text(), text);
    }

    #[test]
    fn opens_what_it_signed_and_nothing_else() {
        let checkpoint =
            Checkpoint::new("acme.example/log", 5, sha256(b"root")).unwrap().with_extension("ext 1").unwrap();
        let note = checkpoint.sign(&key()).unwrap().encode();
        assert_eq!(Checkpoint::open(note.as_bytes(), &key().verifier()), Ok(checkpoint));
        let stranger = SigningKey::from_seed("acme.example/log", &[4; 32]).unwrap().verifier();
        assert!(matches!(
            Checkpoint::open(note.as_bytes(), &stranger),
            Err(CheckpointError::Note(NoteError::UnknownKey { .. }))
        ));
        let forged = note.replacen("\n5\n", "\n6\n", 1);
        assert!(matches!(
            Checkpoint::open(forged.as_bytes(), &key().verifier()),
            Err(CheckpointError::Note(NoteError::Signature { .. }))
        ));
    }

    #[test]
    fn a_key_speaks_for_the_log_of_its_name_only() {
        let other = Checkpoint::new("other.example/log", 5, sha256(b"root")).unwrap();
        assert!(matches!(other.sign(&key()), Err(CheckpointError::OtherLog { .. })));
        let note = Note::sign(&other.to_text(), &[&key()]).unwrap();
        assert!(matches!(
            Checkpoint::from_note(&note, &key().verifier()),
            Err(CheckpointError::OtherLog { .. })
        ));
    }

    #[test]
    fn malformed_bodies_are_refused() {
        let root = sha256(b"root").to_base64();
        for text in [
            "",
            "a\n",
            "a\n1\n",
            &format!("a\n1\n{root}"),
            &format!("\n1\n{root}\n"),
            &format!("a\n01\n{root}\n"),
            &format!("a\n+1\n{root}\n"),
            &format!("a\n-1\n{root}\n"),
            &format!("a\n\n{root}\n"),
            &format!("a\n18446744073709551616\n{root}\n"),
            &format!("a\n1 \n{root}\n"),
            &format!("a\n1\n{root}=\n"),
            &format!("a\n1\n{}\n", root.trim_end_matches('=')),
            "a\n1\nAAAA\n",
            &format!("a\n1\n{root}\n\n"),
            &format!("a\n1\n{root}\n\nx\n"),
            &format!("a\n0\n{root}\n"),
            &format!("a\r\n1\n{root}\n"),
        ] {
            assert!(Checkpoint::parse_text(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn one_text_one_checkpoint(text in "[a-z/.]{0,8}\n[0-9]{1,21}\n[A-Za-z0-9+/]{43}=\n([a-z \u{a0}]{0,4}\n){0,2}") {
            if let Ok(checkpoint) = Checkpoint::parse_text(&text) {
                prop_assert_eq!(checkpoint.to_text(), text);
            }
        }

        #[test]
        fn a_flipped_bit_is_never_accepted_as_something_else(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let checkpoint = Checkpoint::new("acme.example/log", 5, sha256(b"root")).unwrap();
            let mut note = checkpoint.sign(&key()).unwrap().encode().into_bytes();
            let at = at.index(note.len());
            note[at] ^= 1 << bit;
            prop_assert!(Checkpoint::open(&note, &key().verifier()).is_err());
        }
    }
}
