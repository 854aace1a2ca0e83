//! What a call comes to, from the changes of single rows that it was kept as. Pure.
//!
//! The order in which changes were kept is not that in which they were made: a trigger's own changes may be
//! told before the change that set it off. So nothing here depends on it. A change leads from one state of a
//! row to another; a state left more often than reached is one that was there before, and one reached more
//! often than left is there now.

use std::collections::BTreeMap;

use crate::sql::change::RowChange;

/// One state of a row: what it was, all of it, as a digest; and its key as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowState {
    /// The same for equal digests, and small: one after the other.
    pub(super) number: usize,
    pub(super) digest: Vec<u8>,
    pub(super) key: String,
    /// The same for keys that the database takes for equal, however they are written.
    pub(super) place: i64,
}

/// One change of a row that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// Its number in the journal.
    pub(super) seq: i64,
    /// None: the row was inserted.
    pub(super) old: Option<RowState>,
    /// None: the row was deleted.
    pub(super) new: Option<RowState>,
}

/// What happened to one row in all. Before it stands the image whose old row was there, after it the one whose new row is
/// there now, each with that state.
pub(super) type Net = RowChange<(i64, RowState)>;

/// What is known of a state.
#[derive(Default)]
struct Tally<'i> {
    /// How much more often it was left than reached.
    balance: i64,
    left: Option<(i64, &'i RowState)>,
    reached: Option<(i64, &'i RowState)>,
    /// The states that followed it. None: the row was deleted.
    ways: Vec<Option<usize>>,
    /// Whether it is there now, and no earlier state was found for it so far.
    now: bool,
}

/// Tells what the changes of one table come to, row by row; rows that ended as they began are left out. None when
/// the changes contradict each other, which those of a table with a primary key cannot.
pub(super) fn net(images: &[Image]) -> Option<Vec<Net>> {
    let numbers =
        images.iter().flat_map(|image| image.old.iter().chain(&image.new)).map(|state| state.number);
    let mut tallies: Vec<Tally<'_>> = Vec::new();
    tallies.resize_with(numbers.max().map_or(0, |most| most.saturating_add(1)), Tally::default);
    for Image { seq, old, new } in images {
        if let Some(old) = old {
            let tally = tallies.get_mut(old.number)?;
            tally.balance = tally.balance.saturating_add(1);
            tally.left = Some((*seq, old));
            tally.ways.push(new.as_ref().map(|new| new.number));
        }
        if let Some(new) = new {
            let tally = tallies.get_mut(new.number)?;
            tally.balance = tally.balance.saturating_sub(1);
            tally.reached = Some((*seq, new));
        }
    }
    for tally in &mut tallies {
        if tally.balance.abs() > 1 {
            return None;
        }
        tally.now = tally.balance < 0;
    }
    // First by what became of the row, so that one whose key changed is still the same row.
    let before: Vec<usize> = (0..tallies.len())
        .filter(|number| tallies.get(*number).is_some_and(|tally| tally.balance > 0))
        .collect();
    let mut pairs: Vec<(usize, Option<usize>)> = Vec::with_capacity(before.len());
    for before in before {
        let mut at = before;
        let end = loop {
            let tally = tallies.get_mut(at)?;
            match tally.ways.pop() {
                Some(Some(next)) => at = next,
                Some(None) => break None,
                None => break std::mem::take(&mut tally.now).then_some(at),
            }
        };
        pairs.push((before, end));
    }
    // Then by key: deleted, and inserted again.
    let mut by_key: BTreeMap<i64, usize> = tallies
        .iter()
        .enumerate()
        .filter(|(_, tally)| tally.now)
        .filter_map(|(number, tally)| Some((tally.reached?.1.place, number)))
        .collect();
    for (before, end) in pairs.iter_mut().filter(|(_, end)| end.is_none()) {
        let place = tallies.get(*before)?.left?.1.place;
        if let Some(same) = by_key.remove(&place) {
            tallies.get_mut(same)?.now = false;
            *end = Some(same);
        }
    }
    let numbered = |known: Option<(i64, &RowState)>| known.map(|(seq, state)| (seq, state.clone()));
    let mut nets = Vec::with_capacity(pairs.len());
    for (before, after) in pairs {
        let after = after.and_then(|after| tallies.get(after)?.reached);
        nets.push(Net::between(numbered(tallies.get(before)?.left), numbered(after))?);
    }
    let inserted = tallies.iter().filter(|tally| tally.now);
    nets.extend(inserted.filter_map(|tally| numbered(tally.reached)).map(Net::Inserted));
    Some(nets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `7a` is the row with key 7 and content `a`; a key is equal to its capital letter.
    fn state(text: &str) -> Option<RowState> {
        let key = text.chars().next()?;
        let place = i64::from(u32::from(key.to_ascii_lowercase()));
        let number = text
            .bytes()
            .fold(0_usize, |number, byte| number.saturating_mul(256).saturating_add(usize::from(byte)));
        Some(RowState { number, digest: text.into(), key: key.into(), place })
    }

    fn check(changes: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut images: Vec<Image> = (1..)
            .zip(changes)
            .map(|(seq, (old, new))| Image { seq, old: state(old), new: state(new) })
            .collect();
        for _reversed in [false, true] {
            let text = |state: Option<&(i64, RowState)>| {
                state.map_or_else(String::new, |(_, s)| String::from_utf8(s.digest.clone()).unwrap())
            };
            let mut found: Vec<(String, String)> =
                net(&images).unwrap().into_iter().map(|n| (text(n.before()), text(n.after()))).collect();
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
        check(&[("ka", ""), ("", "Ka")], &[("ka", "Ka")]);
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
