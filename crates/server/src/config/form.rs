//! The keys that sections ask for while they are read, with the form of each: what a schema is made of.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// What tells one variant of a table from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// The key has this word.
    Is(&'static str, &'static str),
    /// The key is there.
    Has(&'static str),
}

/// One key that a section asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// The form of its value; none where the value was not looked at.
    pub(super) shape: Option<Json>,
    /// Whether it was asked for as one that must be there.
    pub(super) required: bool,
    /// The value that counts where the file does not say one.
    pub(super) default: Option<Json>,
}

/// The keys of one variant of a table.
pub(super) type Keys = BTreeMap<&'static str, Asked>;

/// Every table that was read, by its path and variant.
#[derive(Debug, Clone, Default)]
pub(super) struct Forms(pub(super) BTreeMap<String, BTreeMap<Vec<Mark>, Keys>>);

impl Forms {
    /// Notes what was asked of a table. What differs from an earlier reading of such a table is joined: a key must be there
    /// where it had to be each time.
    pub(super) fn note(&mut self, path: &str, variant: &[Mark], asked: &[(&'static str, Asked)]) {
        let keys = self.0.entry(path.to_owned()).or_default().entry(variant.to_vec()).or_default();
        for (key, asked) in asked {
            let known = keys.entry(key).or_insert_with(|| asked.clone());
            known.required &= asked.required;
            known.shape = known.shape.take().or_else(|| asked.shape.clone());
            known.default = known.default.take().or_else(|| asked.default.clone());
        }
    }

    /// Whether every key that is noted there is noted here, in the same variant of its table. A table with a mistake may be
    /// of no variant: its keys are those of some.
    pub(super) fn contain(&self, noted: &Self) -> bool {
        noted.0.iter().all(|(path, variants)| {
            let known = self.0.get(path);
            variants.iter().all(|(variant, keys)| match known.and_then(|known| known.get(variant)) {
                Some(known) => keys.keys().all(|key| known.contains_key(key)),
                None => keys.keys().all(|key| {
                    known.is_some_and(|known| known.values().any(|known| known.contains_key(key)))
                }),
            })
        })
    }
}

/// The path of a table in another.
pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The path of a variant, below which its own tables are.
pub(super) fn within(path: &str, variant: &[Mark]) -> String {
    let marks = variant.iter().map(|mark| match mark {
        Mark::Is(key, word) => format!("<{key}={word}>"),
        Mark::Has(key) => format!("<{key}>"),
    });
    format!("{path}{}", marks.collect::<String>())
}
