//! What a call comes to, from the changes of single rows that it was kept as. Pure.
//!
//! The order in which changes were kept is not that in which they were made: a trigger's own changes may be
//! told before the change that set it off. So nothing here depends on it. A change leads from one state of a
//! row to another; a state left more often than reached is one that was there before, and one reached more
//! often than left is there now.

use std::collections::{BTreeMap, BTreeSet};

/// One state of a row: what it was, all of it, as a digest; and its key as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State {
    pub(super) digest: Vec<u8>,
    pub(super) key: String,
}

/// One change of a row that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// Its number in the journal.
    pub(super) seq: i64,
    /// None: the row was inserted.
    pub(super) old: Option<State>,
    /// None: the row was deleted.
    pub(super) new: Option<State>,
}

/// What happened to one row in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Net {
    /// The image whose old row was there before, with that state.
    pub(super) before: Option<(i64, State)>,
    /// The image whose new row is there now, with that state.
    pub(super) after: Option<(i64, State)>,
}

/// What the changes of one table come to, row by row; rows that ended as they began are left out. None when
/// the changes contradict each other, which those of a table with a primary key cannot.
pub(super) fn net(images: &[Image]) -> Option<Vec<Net>> {
    let mut balance: BTreeMap<&State, i64> = BTreeMap::new();
    let (mut left, mut reached) = (BTreeMap::new(), BTreeMap::new());
    let mut ways: BTreeMap<&State, Vec<Option<&State>>> = BTreeMap::new();
    for image in images {
        if let Some(old) = &image.old {
            let count = balance.entry(old).or_insert(0);
            *count = count.saturating_add(1);
            left.insert(old, image.seq);
            ways.entry(old).or_default().push(image.new.as_ref());
        }
        if let Some(new) = &image.new {
            let count = balance.entry(new).or_insert(0);
            *count = count.saturating_sub(1);
            reached.insert(new, image.seq);
        }
    }
    if balance.values().any(|count| count.abs() > 1) {
        return None;
    }
    let mut now: BTreeSet<&State> = balance.iter().filter(|(_, n)| **n < 0).map(|(s, _)| *s).collect();
    let mut pairs: Vec<(&State, Option<&State>)> = Vec::new();
    // First by what became of the row, so that one whose key changed is still the same row.
    for (before, _) in balance.iter().filter(|(_, n)| **n > 0) {
        let mut state = *before;
        let end = loop {
            match ways.get_mut(state).and_then(Vec::pop) {
                Some(Some(next)) => state = next,
                Some(None) => break None,
                None => break now.take(state),
            }
        };
        pairs.push((*before, end));
    }
    // Then by key: deleted, and inserted again.
    let mut by_key: BTreeMap<&str, &State> = now.iter().map(|s| (s.key.as_str(), *s)).collect();
    for (before, end) in &mut pairs {
        if end.is_none()
            && let Some(same) = by_key.remove(before.key.as_str())
        {
            now.remove(same);
            *end = Some(same);
        }
    }
    let numbered = |of: &BTreeMap<&State, i64>, state: &State| of.get(state).map(|seq| (*seq, state.clone()));
    let changed = pairs.into_iter().map(|(before, after)| Net {
        before: numbered(&left, before),
        after: after.and_then(|a| numbered(&reached, a)),
    });
    let inserted = now.iter().map(|after| Net { before: None, after: numbered(&reached, after) });
    Some(changed.chain(inserted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `7a` is the row with key 7 and content `a`.
    fn state(text: &str) -> Option<State> {
        (!text.is_empty()).then(|| State { digest: text.into(), key: text.chars().take(1).collect() })
    }

    fn check(changes: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut images: Vec<Image> = (1..)
            .zip(changes)
            .map(|(seq, (old, new))| Image { seq, old: state(old), new: state(new) })
            .collect();
        for _reversed in [false, true] {
            let text = |state: Option<(i64, State)>| {
                state.map_or_else(String::new, |(_, s)| String::from_utf8(s.digest).unwrap())
            };
            let mut found: Vec<(String, String)> =
                net(&images).unwrap().into_iter().map(|n| (text(n.before), text(n.after))).collect();
            found.sort();
            let mut expected: Vec<(String, String)> =
                expected.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
            expected.sort();
            assert_eq!(found, expected, "{changes:?}");
            images.reverse();
        }
    }

    #[test]
    fn follows_a_row_through_all_of_its_changes_in_any_order() {
        check(&[("1a", "1b"), ("1b", "1c")], &[("1a", "1c")]);
        check(&[("", "1a"), ("1a", "1b")], &[("", "1b")]);
        check(&[("1a", "1b"), ("1b", "")], &[("1a", "")]);
        check(&[("", "1a"), ("1a", "")], &[]);
        check(&[("1a", "1b"), ("1b", "1a")], &[]);
        check(&[("1a", "1a")], &[]);
        check(&[("1a", ""), ("", "1b")], &[("1a", "1b")]);
    }

    #[test]
    fn knows_a_row_whose_key_changed() {
        check(&[("1a", "2a")], &[("1a", "2a")]);
        check(&[("1a", "2a"), ("2b", "3b")], &[("1a", "2a"), ("2b", "3b")]);
        check(&[("1a", "2a"), ("2a", "3b")], &[("1a", "3b")]);
    }

    #[test]
    fn refuses_what_cannot_have_been() {
        let twice = |seq| Image { seq, old: state("1a"), new: None };
        assert_eq!(net(&[twice(1), twice(2)]), None);
    }
}
