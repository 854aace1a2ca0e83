//! The entries of the log that the program itself writes, beside those of the gate and of the store.

use std::collections::BTreeMap;

use countersign_gate::entry::Kind;
use countersign_rules::BundleDigest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A server started with this configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Configured {
    /// The policies in force.
    pub(crate) bundle: BundleDigest,
    /// The configuration, without secrets.
    pub(crate) config: Value,
    /// SHA-256 over its canonical form, in hexadecimal.
    pub(crate) config_digest: String,
    /// SHA-256 of the reference that says what is so by default, in hexadecimal.
    pub(crate) reference_digest: String,
    /// The version of each tool's definition, by the tool's name.
    pub(crate) tools: BTreeMap<String, String>,
    /// The version of the program.
    pub(crate) version: String,
}

impl Kind for Configured {
    const WORD: &'static str = "configured";
}

/// Somebody let the log go on from a ledger that does not contain what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogRestarted {
    /// Why.
    pub(crate) because: String,
    /// The log that goes on.
    pub(crate) continued: Continued,
    /// The checkpoints that it does not contain, as they were signed.
    pub(crate) signed: Vec<String>,
}

/// A log, as it stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Continued {
    /// The root of its tree, in Base64.
    pub(crate) root: String,
    /// How many entries it had.
    pub(crate) size: u64,
}

impl Kind for LogRestarted {
    const WORD: &'static str = "log_restarted";
}

#[cfg(test)]
mod tests {
    use countersign_gate::NewEntry;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_bytes_of_each_kind_of_entry_are_as_they_were() {
        let configured = Configured {
            bundle: serde_json::from_value(json!("b".repeat(64))).unwrap(),
            config: json!({ "server": { "wait_ms": 1 } }),
            config_digest: "c0".into(),
            reference_digest: "4e".into(),
            tools: BTreeMap::from([("refund".into(), "v1".into())]),
            version: "0.1.0".into(),
        };
        let restarted = LogRestarted {
            because: "a disk was lost".into(),
            continued: Continued { root: "AAAA".into(), size: 7 },
            signed: vec!["note".into()],
        };
        let entries = [
            (
                NewEntry::new(0, &configured),
                format!(
                    r#"{{"bundle":"{}","config":{{"server":{{"wait_ms":1}}}},"config_digest":"c0","reference_digest":"4e","tools":{{"refund":"v1"}},"version":"0.1.0"}}"#,
                    "b".repeat(64)
                ),
            ),
            (
                NewEntry::new(0, &restarted),
                r#"{"because":"a disk was lost","continued":{"root":"AAAA","size":7},"signed":["note"]}"#
                    .into(),
            ),
        ];
        for (entry, body) in &entries {
            let whole =
                format!(r#"{{"at":"1970-01-01T00:00:00.000Z","body":{body},"kind":"{}","v":1}}"#, entry.kind);
            assert_eq!(String::from_utf8(entry.encode().unwrap()).unwrap(), whole);
        }
        assert_eq!(entries[0].0.read(), Some(configured));
        assert_eq!(entries[1].0.read(), Some(restarted));
    }
}
