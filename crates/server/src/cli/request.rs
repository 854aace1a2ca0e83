//! A request as its approver reads it, in a terminal 80 columns wide: what exactly would be done, how far it
//! reaches and how that is known, whether it can be taken back, and some of the rows.

use serde_json::Value;

use super::{
    client::text,
    output::{grouped, one_line},
};

/// How wide the labels are.
const LABEL: usize = 11;
/// How wide a table of sample rows may be, behind its margin.
const SAMPLE_WIDTH: usize = 66;
/// Between two columns.
const GAP: usize = 2;

/// A request as a person reads it.
pub(super) fn detail(body: &Value) -> String {
    let mut lines = vec![
        format!("request    {} ({})", shown(body, "/approval"), shown(body, "/state")),
        format!("agent      {} in session {}", shown(body, "/agent"), shown(body, "/session")),
    ];
    if let Some(person) = body.get("on_behalf_of").and_then(Value::as_str) {
        lines.push(format!("for        {}", one_line(person)));
    }
    lines.extend([
        format!(
            "tool       {} on {} ({}): {}",
            shown(body, "/tool"),
            shown(body, "/system"),
            shown(body, "/environment"),
            shown(body, "/description")
        ),
        format!("effect     {}", shown(body, "/effect")),
        format!("arguments  {}", shown(body, "/arguments")),
        format!("digest     {}", shown(body, "/digest")),
    ]);
    if let Some(reach) = body.get("reach").filter(|reach| !reach.is_null()) {
        lines.extend(reached(reach));
    }
    match body.get("reversible").and_then(Value::as_bool) {
        Some(true) => lines.push("undo       the rows are kept: `countersign undo` can put them back".into()),
        Some(false) => lines.push("undo       it cannot be undone from here".into()),
        None => {}
    }
    if let Some(sample) = body.get("sample").filter(|sample| !sample.is_null()) {
        lines.push(format!("sample     of `{}`", shown(sample, "/table")));
        let cells = |list: Option<&Value>| -> Vec<String> {
            let cells = list.and_then(Value::as_array).into_iter().flatten();
            cells.map(|cell| cell.as_str().map_or_else(|| "NULL".into(), one_line)).collect()
        };
        let columns = cells(sample.get("columns"));
        let rows = sample.get("rows").and_then(Value::as_array).into_iter().flatten();
        let rows: Vec<Vec<String>> = rows.map(|row| cells(Some(row))).collect();
        lines.extend(grid(&columns, &rows).into_iter().map(|line| behind(&line)));
    }
    for ask in body.get("of").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!(
            "asked of   {} of group `{}`: {} (policy `{}`)",
            shown(ask, "/quorum"),
            shown(ask, "/group"),
            shown(ask, "/because"),
            shown(ask, "/policy")
        ));
    }
    lines.push(format!("the agent claims: {}", shown(body, "/reason_claimed")));
    for signature in body.get("signatures").and_then(Value::as_array).into_iter().flatten() {
        let approved = signature.get("approved").and_then(Value::as_bool) == Some(true);
        let what = if approved { "approved" } else { "refused" };
        lines.push(format!("{what}   by {}: {}", shown(signature, "/person"), shown(signature, "/comment")));
    }
    let deeds: Vec<&Value> =
        body.get("session_so_far").and_then(Value::as_array).into_iter().flatten().collect();
    lines.push(format!("session    {} calls so far", deeds.len()));
    for deed in deeds.iter().rev().take(10).rev() {
        lines.push(behind(&format!(
            "{} {} {} {}",
            shown(deed, "/at"),
            shown(deed, "/tool"),
            shown(deed, "/decision"),
            shown(deed, "/status")
        )));
    }
    lines.push(format!("expires    {}", shown(body, "/expires_at")));
    lines.join("\n")
}

/// How far it reaches: in all, by table, what foreign keys take along, and what cannot be counted.
fn reached(reach: &Value) -> Vec<String> {
    let flag = |key: &str| reach.get(key).and_then(Value::as_bool) == Some(true);
    let number = |key: &str| reach.get(key).and_then(Value::as_u64).unwrap_or(0);
    let known = match (flag("rehearsed"), flag("exact"), flag("unbounded")) {
        (true, _, _) => "exactly: it was run and rolled back",
        (false, _, true) => "or more: counting stopped at its limit",
        (false, true, false) => "exactly: they were counted",
        (false, false, false) => "as far as can be counted; there may be more",
    };
    let mut lines = vec![format!("reach      {} rows, {known}", grouped(number("rows")))];
    let tables: Vec<(String, String)> = reach
        .get("tables")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(table, rows)| (one_line(table), grouped(rows.as_u64().unwrap_or(0))))
        .collect();
    let name = tables.iter().map(|(table, _)| width(table)).max().unwrap_or(0);
    let count = tables.iter().map(|(_, rows)| width(rows)).max().unwrap_or(0);
    for (table, rows) in &tables {
        let pad = " ".repeat(name.saturating_sub(width(table)));
        lines.push(behind(&format!("{table}{pad}  {rows:>count$}")));
    }
    match number("cascades") {
        0 => {}
        rows => lines.push(behind(&format!("{} of them because foreign keys cascade", grouped(rows)))),
    }
    if let Some(amount) = reach.get("amount").filter(|amount| !amount.is_null()) {
        let money = format!("{} {} in minor units", shown(amount, "/minor"), shown(amount, "/currency"));
        lines.push(behind(&money));
    }
    let triggers: Vec<String> = reach
        .get("triggers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|trigger| trigger.as_str().map_or_else(|| trigger.to_string(), str::to_owned))
        .map(|trigger| one_line(&trigger))
        .collect();
    if !triggers.is_empty() {
        let counted =
            if flag("rehearsed") { "what they change is counted" } else { "what they do is not counted" };
        lines.push(format!("triggers   run along; {counted}:"));
        lines.extend(triggers.iter().map(|trigger| behind(trigger)));
    }
    lines
}

/// Columns under their names, no wider than a terminal: long values end in `…`.
fn grid(columns: &[String], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = columns.iter().map(|name| width(name)).collect();
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let gaps = GAP.saturating_mul(widths.len().saturating_sub(1));
    // The widest give way first, down to what still says something.
    while widths.iter().sum::<usize>().saturating_add(gaps) > SAMPLE_WIDTH {
        match widths.iter_mut().max() {
            Some(widest) if *widest > 4 => *widest = widest.saturating_sub(1),
            Some(_) | None => break,
        }
    }
    let line = |cells: &[String]| {
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| fitted(cell, *width)).collect();
        let line = cells.join(&" ".repeat(GAP));
        cut(line.trim_end(), SAMPLE_WIDTH)
    };
    std::iter::once(line(columns)).chain(rows.iter().map(|row| line(row))).collect()
}

fn fitted(cell: &str, to: usize) -> String {
    let cell = cut(cell, to);
    let pad = to.saturating_sub(width(&cell));
    format!("{cell}{}", " ".repeat(pad))
}

fn cut(text: &str, to: usize) -> String {
    if width(text) <= to {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(to.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn behind(line: &str) -> String {
    format!("{}{line}", " ".repeat(LABEL))
}

/// A text of an answer, which others may have written: on one line, so that a claim of several cannot look like
/// lines of ours.
pub(super) fn shown(value: &Value, pointer: &str) -> String {
    one_line(&text(value, pointer))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(reach: &Value, reversible: bool) -> Value {
        json!({
            "approval": "apr-1", "state": "waiting", "agent": "bot", "session": "s", "tool": "query_billing",
            "system": "billing", "environment": "production", "description": "Runs a statement.",
            "effect": "destructive", "arguments": "{\"sql\":\"DELETE …\"}", "digest": "00", "reach": reach,
            "reversible": reversible,
            "sample": {
                "table": "billing",
                "columns": ["id", "customer", "email", "note"],
                "rows": [
                    ["1", "acme", "***", "a very long remark that nobody could ever read on one line of a terminal"],
                    ["2", "\u{1b}[31mred\nline", "***", null],
                ],
            },
            "of": [], "signatures": [], "session_so_far": [], "reason_claimed": "tidy up", "expires_at": "later",
        })
    }

    #[test]
    fn an_approver_sees_the_reach_by_table_and_how_it_is_known_within_80_columns() {
        let reach = json!({
            "rows": 14_203, "exact": true, "unbounded": false, "tables": { "billing": 14_200, "invoice_line": 3 },
            "cascades": 3, "triggers": ["audit_delete on billing"],
        });
        let text = detail(&request(&reach, true));
        for part in [
            "reach      14,203 rows, exactly: they were counted\n",
            "           billing       14,200\n           invoice_line       3\n",
            "           3 of them because foreign keys cascade\n",
            "triggers   run along; what they do is not counted:\n           audit_delete on billing\n",
            "undo       the rows are kept",
            "sample     of `billing`\n           id  customer",
            "NULL",
        ] {
            assert!(text.contains(part), "lacks {part:?}:\n{text}");
        }
        assert!(text.lines().all(|line| width(line) <= 80), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_bound_an_estimate_and_a_rehearsal_are_told_apart() {
        let known = |reach: Value| {
            let text = detail(&request(&reach, false));
            assert!(text.contains("undo       it cannot be undone from here"), "{text}");
            text.lines().find(|line| line.starts_with("reach")).unwrap_or_default().to_owned()
        };
        let bound = known(json!({ "rows": 100_001, "exact": false, "unbounded": true }));
        assert_eq!(bound, "reach      100,001 rows, or more: counting stopped at its limit");
        let inexact = known(json!({ "rows": 7, "exact": false, "unbounded": false }));
        assert_eq!(inexact, "reach      7 rows, as far as can be counted; there may be more");
        let run = known(json!({ "rows": 7, "exact": true, "unbounded": false, "rehearsed": true }));
        assert_eq!(run, "reach      7 rows, exactly: it was run and rolled back");
    }
}
