//! Reading an entry of the log.

use std::collections::BTreeMap;

use countersign_gate::entry::Told;
use countersign_store::StoredEntry;
use serde_json::Value;

use crate::text::one_line;

/// An entry is read leniently: a later version may say more than is known here.
pub(super) struct Read {
    pub(super) index: u64,
    /// The entry tells this; there is nothing where that is not understood.
    pub(super) told: Option<Told>,
    value: Value,
}

/// Returns what is told of each call in some entries, in the order in which the calls came: `begin` begins with
/// a call's first entry, and `tell` is told of each.
pub(super) fn by_call<T>(
    entries: &[StoredEntry],
    begin: impl Fn(&str, &Read) -> T,
    tell: impl Fn(&mut T, &Read),
) -> Vec<T> {
    let mut told: Vec<T> = Vec::new();
    let mut places = BTreeMap::<String, usize>::new();
    for entry in entries.iter().map(Read::new) {
        let Some(call) = entry.text("call") else { continue };
        let place = *places.entry(call.to_owned()).or_insert(told.len());
        if place == told.len() {
            told.push(begin(call, &entry));
        }
        if let Some(one) = told.get_mut(place) {
            tell(one, &entry);
        }
    }
    told
}

impl Read {
    pub(super) fn new(stored: &StoredEntry) -> Self {
        let value: Value = serde_json::from_slice(&stored.bytes).unwrap_or(Value::Null);
        let kind = value.get("kind").and_then(Value::as_str);
        let told = kind.zip(value.get("body")).and_then(|(kind, body)| Told::read(kind, body));
        Self { index: stored.index, told, value }
    }

    /// Returns a field of the envelope, if it is a text.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.value.get(field).and_then(Value::as_str)
    }

    /// Returns a field of the envelope, to be shown; `?` if it is no text.
    pub(super) fn word(&self, field: &str) -> String {
        one_line(self.text(field).unwrap_or("?"))
    }

    pub(super) fn kind(&self) -> &str {
        self.text("kind").unwrap_or("?")
    }

    pub(super) fn body(&self) -> Option<&Value> {
        self.value.get("body")
    }

    /// Returns the request that the entry is about, to be shown; `?` if it names none.
    pub(super) fn approval(&self) -> String {
        let approval = self.body().and_then(|body| body.get("approval")).and_then(Value::as_str);
        one_line(approval.unwrap_or("?"))
    }
}
