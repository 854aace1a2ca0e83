//! What was taken once is not taken again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use axum::http::StatusCode;

/// So much is remembered at a time; beyond, nothing is believed until some of it is forgotten.
const SEEN_MAX: usize = 10_000;

/// What was taken, each with the second from which on nothing good could bring it again.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<BTreeMap<Vec<u8>, i64>>);

impl Seen {
    /// Takes note of something, which is good once until then.
    pub(crate) fn first_time(
        &self,
        tag: Vec<u8>,
        now_s: i64,
        until_s: i64,
    ) -> Result<(), (StatusCode, &'static str)> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, until_s| *until_s >= now_s);
        if seen.len() >= SEEN_MAX {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "too many interactions at once"));
        }
        match seen.insert(tag, until_s) {
            None => Ok(()),
            Some(_) => Err((StatusCode::CONFLICT, "the request was taken before")),
        }
    }
}
