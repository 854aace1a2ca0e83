//! C2SP `tlog-proof`: one entry, provable to someone who has neither the log
//! nor a connection, only the log's public key.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra eyJhdCI6…            the entry itself, base64
//! index 73894
//! gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
//! B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
//!
//! acme.example/log
//! 109482
//! sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=
//!
//! — acme.example/log hI2DJw…
//! ```
//!
//! The `extra` line, opaque by the specification and optional, carries the bytes
//! of the entry, so that the file proves what it shows. Files end in `.tlog-proof`.
//! A receipt says that the entry is in the log of that checkpoint; it does not say
//! that nobody was shown another log, which takes witnesses or a comparison of
//! checkpoints.

use alloc::{format, string::String, vec, vec::Vec};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use serde_json::Value;

use crate::{
    canonical::{INTEGER_MAX, to_canonical_string},
    checkpoint::{Checkpoint, CheckpointError, parse_decimal},
    entry::ENTRY_BYTES_MAX,
    hash::{Hash, ParseHashError, leaf_hash},
    note::{NOTE_BYTES_MAX, Note, NoteError, VerifierKey},
    proof::{VerifyError, verify_inclusion},
    verify::explain,
};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// The path of a leaf in the largest tree.
const PATH_MAX: usize = 64;

/// An inclusion proof with all that is needed to check it except the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The index of the entry in the log, from 0.
    pub index: u64,
    /// The inclusion path, the entry's sibling first.
    pub path: Vec<Hash>,
    /// The checkpoint it leads to, with its signatures.
    pub checkpoint: Note,
    /// The bytes of the entry, when they travel along.
    pub entry: Option<Vec<u8>>,
}

impl Receipt {
    /// The text of the proof file.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = format!("{FIRST_LINE}\n");
        if let Some(entry) = &self.entry {
            out.push_str(&format!("extra {}\n", STANDARD.encode(entry)));
        }
        out.push_str(&format!("index {}\n", self.index));
        for hash in &self.path {
            out.push_str(&hash.to_base64());
            out.push('\n');
        }
        out.push('\n');
        out.push_str(&self.checkpoint.encode());
        out
    }

    /// Reads a proof file; nothing is verified yet.
    ///
    /// # Errors
    /// When the bytes are not a proof by tlog-proof, version 1, in the one spelling it has.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::Form);
        }
        let text = core::str::from_utf8(bytes).map_err(|_position| ReceiptError::Form)?;
        let (head, note) = text.split_once("\n\n").ok_or(ReceiptError::Form)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(ReceiptError::Version);
        }
        let extra =
            lines.next_if(|line| line.starts_with("extra ")).and_then(|line| line.strip_prefix("extra "));
        let entry = extra.map(|base64| STANDARD.decode(base64)).transpose();
        let entry = entry.map_err(|_detail| ReceiptError::Form)?;
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(parse_decimal)
            .ok_or(ReceiptError::Form)?;
        let path = lines.map(Hash::from_base64).collect::<Result<Vec<_>, _>>()?;
        if path.len() > PATH_MAX {
            return Err(ReceiptError::Form);
        }
        Ok(Self { index, path, checkpoint: Note::parse(note.as_bytes())?, entry })
    }

    /// Verifies that the entry in the receipt is in the log that the key speaks for.
    ///
    /// Answers the checkpoint, signed by that key, in whose tree the entry is.
    ///
    /// # Errors
    /// When the receipt carries no entry, the checkpoint is not signed by the key, or the
    /// path does not lead from the entry to its root.
    pub fn verify(&self, key: &VerifierKey) -> Result<Checkpoint, ReceiptError> {
        self.verify_entry(key, self.entry.as_deref().ok_or(ReceiptError::NoEntry)?)
    }

    /// As [`Receipt::verify`], for an entry known from elsewhere.
    ///
    /// # Errors
    /// As [`Receipt::verify`]; also when the receipt carries another entry than this one.
    pub fn verify_entry(&self, key: &VerifierKey, entry: &[u8]) -> Result<Checkpoint, ReceiptError> {
        if self.entry.as_deref().is_some_and(|carried| carried != entry) {
            return Err(ReceiptError::OtherEntry);
        }
        let checkpoint = Checkpoint::from_note(&self.checkpoint, key)?;
        verify_inclusion(&leaf_hash(entry), self.index, checkpoint.size(), checkpoint.root(), &self.path)?;
        Ok(checkpoint)
    }
}

/// The most bytes of a proof file: a note, an entry in base64, and a path.
pub const RECEIPT_BYTES_MAX: usize = NOTE_BYTES_MAX + 2 * ENTRY_BYTES_MAX + 64 * 45 + 256;

/// The verdict on a proof file as canonical JSON: what was proved, or why nothing was.
#[must_use]
pub fn verdict_json(verdict: Result<(u64, &[u8], &Checkpoint), &ReceiptError>) -> String {
    // Numbers beyond 2^53 - 1 have no canonical form and are written as strings.
    let number = |number: u64| match i64::try_from(number) {
        Ok(small) if small <= INTEGER_MAX => Value::from(small),
        Ok(_) | Err(_) => Value::from(format!("{number}")),
    };
    let members = match verdict {
        Ok((index, entry, checkpoint)) => vec![
            ("verified", Value::from(true)),
            ("index", number(index)),
            ("entry", core::str::from_utf8(entry).ok().into()),
            ("entry_base64", STANDARD.encode(entry).into()),
            ("origin", checkpoint.origin().into()),
            ("size", number(checkpoint.size())),
            ("root", format!("{}", checkpoint.root()).into()),
        ],
        Err(error) => {
            vec![
                ("verified", false.into()),
                ("code", error.code().into()),
                ("message", explain(error).into()),
            ]
        }
    };
    let verdict = Value::Object(members.into_iter().map(|(key, value)| (key.into(), value)).collect());
    // INVARIANT: no number is beyond 2^53 - 1 and nothing is nested, so it has a canonical form.
    to_canonical_string(&verdict).unwrap_or_default()
}

/// A proof file cannot be read or proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not a proof file of version 1.
    #[error("not a proof file: the first line must be `{FIRST_LINE}`")]
    Version,
    /// A line is missing or has another form.
    #[error(
        "the proof file is malformed: after the first line it needs `index N`, one base64 hash a line, an empty line and a checkpoint"
    )]
    Form,
    /// A line of the path.
    #[error("the proof file is malformed")]
    Hash(#[from] ParseHashError),
    /// The checkpoint is no note.
    #[error("the proof's checkpoint cannot be read")]
    Note(#[from] NoteError),
    /// The checkpoint is not believed.
    #[error("the proof's checkpoint does not hold")]
    Checkpoint(#[from] CheckpointError),
    /// The path does not lead to the checkpoint's root.
    #[error("the entry is not shown to be in the log")]
    Inclusion(#[from] VerifyError),
    /// The receipt does not carry its entry.
    #[error("the proof file does not contain the entry; give the entry beside it")]
    NoEntry,
    /// The receipt carries another entry.
    #[error("the proof file contains another entry than the one given")]
    OtherEntry,
}

impl ReceiptError {
    /// The stable code of this refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Version | Self::Form | Self::Hash(_) | Self::Note(_) => "proof_malformed",
            Self::Checkpoint(_) => "proof_checkpoint",
            Self::Inclusion(_) => "proof_not_included",
            Self::NoEntry => "proof_no_entry",
            Self::OtherEntry => "proof_other_entry",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        note::SigningKey,
        proof::{Leaves, inclusion, root},
    };
    use proptest::prelude::*;

    fn key() -> SigningKey {
        SigningKey::from_seed("acme.example/log", &[5; 32]).unwrap()
    }

    fn receipt(index: u64, size: u64) -> Receipt {
        let entries: Vec<String> = (0..size).map(|entry| format!("entry {entry}")).collect();
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry.as_bytes())).collect();
        let root = root(size, &mut Leaves(&leaves)).unwrap();
        Receipt {
            index,
            path: inclusion(index, size, &mut Leaves(&leaves)).unwrap(),
            checkpoint: Checkpoint::new("acme.example/log", size, root).unwrap().sign(&key()).unwrap(),
            entry: Some(entries[usize::try_from(index).unwrap()].clone().into_bytes()),
        }
    }

    #[test]
    fn proves_its_entry() {
        for (index, size) in [(0, 1), (0, 2), (6, 7), (3, 100)] {
            let receipt = receipt(index, size);
            let read = Receipt::parse(receipt.encode().as_bytes()).unwrap();
            assert_eq!(read, receipt);
            assert_eq!(read.verify(&key().verifier()).unwrap().size(), size);
        }
    }

    #[test]
    fn proves_nothing_else() {
        let good = receipt(3, 10);
        let key = key().verifier();
        let other = SigningKey::from_seed("acme.example/log", &[6; 32]).unwrap().verifier();
        assert!(matches!(good.verify(&other), Err(ReceiptError::Checkpoint(_))));
        assert_eq!(good.verify_entry(&key, b"entry 4"), Err(ReceiptError::OtherEntry));
        let without = Receipt { entry: None, ..good.clone() };
        assert_eq!(without.verify(&key), Err(ReceiptError::NoEntry));
        assert!(without.verify_entry(&key, b"entry 3").is_ok());
        assert_eq!(without.verify_entry(&key, b"entry 4"), Err(ReceiptError::Inclusion(VerifyError::Root)));
        assert!(Receipt { index: 4, ..good.clone() }.verify(&key).is_err());
        assert!(Receipt { index: 10, ..good.clone() }.verify(&key).is_err());
        assert!(Receipt { path: vec![], ..good }.verify(&key).is_err());
    }

    #[test]
    fn malformed_files_are_refused() {
        let good = receipt(3, 10).encode();
        for text in [
            String::new(),
            good.replace("@v1", "@v2"),
            good.replace("index 3", "index 03"),
            good.replace("index 3\n", ""),
            good.replace("extra ", "extra  "),
            good.replace("extra ", "extra extra "),
            good.replacen("=\n", "\n", 1),
            good.replacen('\n', "\r\n", 1),
            good.replacen("\n\n", "\n", 1),
            format!("{good}\n"),
            good.replacen(
                "index 3\n",
                &format!("index 3\n{}", format!("{}\n", Hash::EMPTY_ROOT.to_base64()).repeat(65)),
                1,
            ),
        ] {
            let refused =
                Receipt::parse(text.as_bytes()).and_then(|receipt| receipt.verify(&key().verifier()));
            assert!(refused.is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_never_accepted(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = receipt(3, 10).encode().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Receipt::parse(&bytes).and_then(|receipt| receipt.verify(&key().verifier())).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(text in "(c2sp.org/tlog-proof@v1\n)?(extra [A=]{0,4}\n)?index [0-9]{1,3}\n([A=\n]{0,4}){0,3}.{0,20}", tail in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(Receipt::parse(&[text.as_bytes(), &tail].concat()).is_err());
        }
    }
}
