//! What a call comes to, from the changes of single rows that it was kept as. Pure.
//!
//! The order in which changes were kept is not that in which they were made: a trigger's own changes may be
//! told before the change that set it off. So nothing here depends on it. A change leads from one state of a
//! row to another; a state left more often than reached is one that was there before, and one reached more
//! often than left is there now.

use std::collections::{BTreeMap, BTreeSet};

use crate::sql::change::RowChange;

/// One change of a row that was kept. A state of a row is all that it was; equal ones have the same number, and numbers are
/// small: one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Image {
    /// Its number in the journal.
    pub(super) seq: i64,
    /// None: the row was inserted.
    pub(super) old: Option<usize>,
    /// None: the row was deleted.
    pub(super) new: Option<usize>,
}

/// What happened to one row in all. Before it stands the image whose old row was there, after it the one whose new row is
/// there now.
pub(super) type Net = RowChange<i64>;

/// Where rows stood: the same for keys that the database takes for equal, however they are written.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By the number of an image, of its old row.
    pub(super) old: BTreeMap<i64, i64>,
    /// And of its new row.
    pub(super) new: BTreeMap<i64, i64>,
}

impl Places {
    pub(super) fn before(&self, net: &Net) -> Option<i64> {
        self.old.get(net.before()?).copied()
    }

    pub(super) fn after(&self, net: &Net) -> Option<i64> {
        self.new.get(net.after()?).copied()
    }
}

/// What is known of a state.
#[derive(Default)]
struct Tally {
    /// How much more often it was left than reached.
    balance: i64,
    left: Option<i64>,
    reached: Option<i64>,
    /// The states that followed it. None: the row was deleted.
    ways: Vec<Option<usize>>,
    /// Whether it is there now, and no earlier state was found for it so far.
    now: bool,
}

/// Tells what the changes of one table come to, row by row; rows that ended as they began are left out. None when
/// the changes contradict each other, which those of a table with a primary key cannot. A row that was deleted and
/// inserted again stands there as two: see [`joined`].
pub(super) fn net(images: &[Image]) -> Option<Vec<Net>> {
    let numbers = images.iter().flat_map(|image| image.old.iter().chain(&image.new));
    let mut tallies: Vec<Tally> = Vec::new();
    tallies.resize_with(numbers.max().map_or(0, |most| most.saturating_add(1)), Tally::default);
    for Image { seq, old, new } in images {
        if let Some(old) = old {
            let tally = tallies.get_mut(*old)?;
            tally.balance = tally.balance.saturating_add(1);
            tally.left = Some(*seq);
            tally.ways.push(*new);
        }
        if let Some(new) = new {
            let tally = tallies.get_mut(*new)?;
            tally.balance = tally.balance.saturating_sub(1);
            tally.reached = Some(*seq);
        }
    }
    for tally in &mut tallies {
        if tally.balance.abs() > 1 {
            return None;
        }
        tally.now = tally.balance < 0;
    }
    // By what became of the row, so that one whose key changed is still the same row.
    let before: Vec<usize> = (0..tallies.len())
        .filter(|number| tallies.get(*number).is_some_and(|tally| tally.balance > 0))
        .collect();
    let mut nets = Vec::with_capacity(before.len());
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
        let after = end.and_then(|end| tallies.get(end)?.reached);
        nets.push(Net::between(tallies.get(before)?.left, after)?);
    }
    nets.extend(
        tallies.iter().filter(|tally| tally.now).filter_map(|tally| tally.reached).map(Net::Inserted),
    );
    Some(nets)
}

/// The images of rows that are gone, and of rows that came: the same row, where they stood in the same place.
pub(super) fn apart(nets: &[Net]) -> (Vec<i64>, Vec<i64>) {
    let (mut gone, mut came) = (Vec::new(), Vec::new());
    for net in nets {
        match net {
            Net::Deleted(seq) => gone.push(*seq),
            Net::Inserted(seq) => came.push(*seq),
            Net::Updated { .. } => {}
        }
    }
    (gone, came)
}

/// Takes a row that is gone and one that came to the same place for one that changed.
pub(super) fn joined(mut nets: Vec<Net>, places: &Places) -> Vec<Net> {
    let mut came: BTreeMap<i64, i64> = nets
        .iter()
        .filter_map(|net| match net {
            Net::Inserted(seq) => Some((places.after(net)?, *seq)),
            Net::Deleted(_) | Net::Updated { .. } => None,
        })
        .collect();
    let mut taken = BTreeSet::new();
    for net in &mut nets {
        if let Net::Deleted(old) = *net
            && let Some(place) = places.before(net)
            && let Some(new) = came.remove(&place)
        {
            taken.insert(new);
            *net = Net::Updated { old, new };
        }
    }
    nets.retain(|net| !matches!(net, Net::Inserted(seq) if taken.contains(seq)));
    nets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `7a` is the row with key 7 and content `a`; a key is equal to its capital letter.
    fn number(states: &mut Vec<String>, text: &str) -> Option<usize> {
        if text.is_empty() {
            return None;
        }
        Some(states.iter().position(|state| state == text).unwrap_or_else(|| {
            let next = states.len();
            states.push(text.to_owned());
            next
        }))
    }

    fn place(text: &str) -> i64 {
        i64::from(u32::from(text.chars().next().unwrap().to_ascii_lowercase()))
    }

    fn check(changes: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut states = Vec::new();
        let mut images: Vec<Image> = (0..)
            .zip(changes)
            .map(|(seq, (old, new))| Image {
                seq,
                old: number(&mut states, old),
                new: number(&mut states, new),
            })
            .collect();
        let mut places = Places::default();
        for (seq, (old, new)) in (0..).zip(changes) {
            if !old.is_empty() {
                places.old.insert(seq, place(old));
            }
            if !new.is_empty() {
                places.new.insert(seq, place(new));
            }
        }
        for _reversed in [false, true] {
            let change = |seq: &i64| changes[usize::try_from(*seq).unwrap()];
            let mut found: Vec<(&str, &str)> = joined(net(&images).unwrap(), &places)
                .iter()
                .map(|net| {
                    let (old, new) = (net.before().map(change), net.after().map(change));
                    (old.map_or("", |(old, _)| old), new.map_or("", |(_, new)| new))
                })
                .collect();
            found.sort_unstable();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
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
        let twice = |seq| Image { seq, old: Some(0), new: None };
        assert_eq!(net(&[twice(1), twice(2)]), None);
    }
}
