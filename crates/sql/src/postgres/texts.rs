//! The texts a catalog keeps (queries of views, bodies of functions, conditions), each parsed once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pg_query::protobuf as pb;

/// What parsing gave, by text. It holds texts of one catalog only, never of a statement that was sent, and so has an end.
#[derive(Default)]
pub(crate) struct Texts(Mutex<BTreeMap<String, Option<Parsed>>>);

pub(super) type Parsed = Arc<Vec<pb::RawStmt>>;

impl Texts {
    /// The statements of a text; none when it cannot be parsed.
    pub(super) fn parsed(&self, text: &str) -> Option<Parsed> {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(text) {
            return known.clone();
        }
        // Without the lock: two that ask at the same time find the same.
        let parsed = super::parse(text).ok().map(Arc::new);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned(), parsed.clone());
        parsed
    }
}
