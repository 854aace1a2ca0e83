//! What a verification says in the end.

use alloc::{string::String, vec::Vec};

use serde_json::{Map, Value};

use super::{Finding, explain};
use crate::{
    canonical::{self, INTEGER_MAX},
    entry::{Entry, ParsedEntry},
    hash::Hash,
    time,
};

/// A verification found this.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The log's name, once its checkpoint was found to be signed.
    pub origin: Option<String>,
    /// The number of entries by the signed checkpoint.
    pub size: u64,
    /// The root by the signed checkpoint.
    pub root: Option<Hash>,
    /// So many entries are shown to be, byte for byte, those that were signed.
    pub entries_verified: u64,
    /// So many of the other checkpoints are shown to be of the same history.
    pub checkpoints_verified: u64,
    /// So many entries have a version that this program does not know. They are verified like all others; only what
    /// they say was not looked at.
    pub unknown_versions: u64,
    /// The times of the first and of the last entry, in milliseconds since 1970, as written in them.
    pub times_ms: Option<(i64, i64)>,
    /// Everything that is wrong, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// There were so many findings beyond that.
    pub findings_omitted: u64,
}

/// The most findings that a report lists.
pub const FINDINGS_MAX: usize = 10_000;

impl Report {
    /// Returns true if every entry is what was signed, and all checkpoints are of one history.
    #[must_use]
    pub const fn verified(&self) -> bool {
        self.origin.is_some() && self.findings.is_empty() && self.entries_verified == self.size
    }

    /// The report as canonical JSON. Numbers beyond 2^53 - 1 are written as strings.
    #[must_use]
    pub fn to_json(&self) -> String {
        let number = |number: u64| match i64::try_from(number) {
            Ok(small) if small <= INTEGER_MAX => Value::from(small),
            Ok(_) | Err(_) => Value::from(alloc::format!("{number}")),
        };
        let time = |at_ms| time::format_ms(at_ms).ok();
        let finding = |finding: &Finding| {
            let mut members = Map::new();
            members.insert("code".into(), finding.code().into());
            members.insert("message".into(), explain(finding).into());
            members.extend(finding.entry().map(|index| ("entry".into(), number(index))));
            Value::Object(members)
        };
        let members = [
            ("verified", Value::from(self.verified())),
            ("origin", self.origin.clone().into()),
            ("size", number(self.size)),
            ("root", self.root.map(|root| alloc::format!("{root}")).into()),
            ("entries_verified", number(self.entries_verified)),
            ("checkpoints_verified", number(self.checkpoints_verified)),
            ("unknown_versions", number(self.unknown_versions)),
            ("first_at", self.times_ms.and_then(|(first, _)| time(first)).into()),
            ("last_at", self.times_ms.and_then(|(_, last)| time(last)).into()),
            ("findings", self.findings.iter().map(finding).collect()),
            ("findings_omitted", number(self.findings_omitted)),
        ];
        let report = Value::Object(members.map(|(key, value)| (key.into(), value)).into_iter().collect());
        // INVARIANT: no number is beyond 2^53 - 1 and nothing is nested, so it has a canonical form.
        canonical::to_canonical_string(&report).unwrap_or_default()
    }

    /// Adds a finding, for a caller that knows more about the log than its entries and tiles.
    pub fn push(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_omitted = self.findings_omitted.saturating_add(1);
        }
    }

    pub(super) fn note_entry(&mut self, index: u64, bytes: &[u8]) {
        match Entry::parse(bytes) {
            Ok(ParsedEntry::Known(entry)) => {
                let first = self.times_ms.map_or(entry.at_ms, |(first, _)| first);
                self.times_ms = Some((first, entry.at_ms));
            }
            Ok(ParsedEntry::UnknownVersion { .. }) => {
                self.unknown_versions = self.unknown_versions.saturating_add(1);
            }
            Err(error) => self.push(Finding::EntryMalformed { index, error }),
        }
    }
}
