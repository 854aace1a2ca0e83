//! Pages of lists: so many records, and where the next ones begin.

use countersign_rules::Code;

use super::{Problem, request::Nameable};

/// How many records a page has.
pub(super) fn page_size(wanted: Option<u32>) -> u32 {
    wanted.unwrap_or(100).clamp(1, 1_000)
}

/// The record that a page comes after.
pub(super) fn after<T: Nameable>(text: &str) -> Result<T, Problem> {
    T::named(text).ok_or_else(|| {
        Problem::new(Code::Malformed, "`after` is no id").help("give the `next` of the page before")
    })
}

/// Cuts what is one record too long; whether it was.
pub(super) fn cut<T>(records: &mut Vec<T>, page: u32) -> bool {
    let page = usize::try_from(page).unwrap_or(usize::MAX);
    let more = records.len() > page;
    records.truncate(page);
    more
}
