//! Things are said so.

use countersign_gate::entry::GrantGiven;
use countersign_rules::{GrantTerms, Reach};
use serde_json::{Map, Value};

use crate::{
    answer::timestamp,
    text::{grouped, one_line},
};

pub(super) fn counted(rows: u64) -> String {
    if rows == 1 { "1 row".into() } else { format!("{rows} rows") }
}

/// Says how far a call reaches.
pub(super) fn reach(reach: &Reach) -> String {
    let mut text = format!("{}{}", reach.bound(), touched(reach));
    let tables: Vec<String> =
        reach.tables.iter().map(|(table, rows)| format!("{rows} of `{}`", one_line(table))).collect();
    if !tables.is_empty() {
        text.push_str(&format!(" ({})", tables.join(", ")));
    }
    if reach.cascades > 0 {
        text.push_str(&format!(", {} of these by cascade", reach.cascades));
    }
    if reach.unbounded {
        text.push_str(", and more that were not counted");
    }
    for trigger in &reach.triggers {
        text.push_str(&format!(", trigger {}", quoted(trigger)));
    }
    if let Some(amount) = reach.amount {
        text.push_str(&format!(", {amount}"));
    }
    text
}

/// Says what people granted beside an approval.
pub(super) fn granted(told: &GrantGiven<'_>) -> String {
    let by = names(told.people.iter().map(|person| person.as_str()));
    let each = told
        .reach
        .as_deref()
        .map_or_else(|| "their reach was not measured".into(), |r| format!("each reaching {}", reach(r)));
    format!("{by} granted {}, {each}", calls_like_it(told.terms))
}

/// Says how many calls may run, and until when.
pub(super) fn calls_like_it(terms: GrantTerms) -> String {
    let until = timestamp(terms.until_ms).unwrap_or_else(|| "a time that is none".into());
    match terms.calls {
        1 => format!("1 call like it until {until}"),
        calls => format!("{calls} calls like it until {until}"),
    }
}

/// Returns true if what is counted is what an API calls an object: rows are of tables, which are named.
pub fn of_objects(reach: &Reach) -> bool {
    reach.rows > 0 && reach.tables.is_empty()
}

/// Says how many rows or objects are reached, in words.
pub fn touched(reach: &Reach) -> String {
    match (of_objects(reach), reach.rows) {
        (true, 1) => "1 object".into(),
        (true, rows) => format!("{} objects", grouped(rows)),
        (false, 1) => "1 row".into(),
        (false, rows) => format!("{} rows", grouped(rows)),
    }
}

/// Writes names in backticks, with commas between them.
pub(super) fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{}`", one_line(name))).collect::<Vec<_>>().join(", ")
}

/// Writes arguments, one a line; a text of several lines as a block that nothing in it can leave.
pub(super) fn arguments(arguments: Option<&Map<String, Value>>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in arguments.into_iter().flatten() {
        match value.as_str() {
            Some(text) if text.contains('\n') => {
                lines.push(format!("  {}:", one_line(name)));
                lines.extend(text.lines().map(|line| format!("    | {}", one_line(line))));
            }
            Some(_) | None => lines.push(format!("  {} = {}", one_line(name), said(value))),
        }
    }
    lines
}

/// Writes a value of somebody else's as JSON on one line.
fn said(value: &Value) -> String {
    one_line(&value.to_string())
}

/// Writes a text of somebody else's in quotes on one line.
pub(super) fn quoted(text: &str) -> String {
    said(&Value::from(text))
}

/// Returns the time of day of an instant in RFC 3339.
pub(super) fn clock(at: &str) -> String {
    at.get(11..23).unwrap_or(at).to_owned()
}

/// Writes indices as ranges: `[3, 5-7]`.
pub(super) fn ranges(indices: &[u64]) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for index in indices {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*index) => *last = *index,
            Some(_) | None => ranges.push((*index, *index)),
        }
    }
    let ranges: Vec<String> = ranges
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    format!("[{}]", ranges.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_written_as_ranges() {
        assert_eq!(ranges(&[3, 5, 6, 7, 9]), "[3, 5-7, 9]");
        assert_eq!(ranges(&[]), "[]");
    }
}
