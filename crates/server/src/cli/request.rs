//! A request as its approver reads it, in a terminal 80 columns wide: what exactly would be done, how far it
//! reaches and how that is known, whether it can be taken back, and some of the rows.

use countersign_rules::Reach;
use serde::Deserialize as _;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthChar as _;

use super::{check::counted, client::text};
use countersign_app::{
    story::{of_objects, touched},
    text::{alike, grouped, one_line},
};

/// How wide the labels are.
const LABEL: usize = 11;
/// How wide a text may be behind its label.
const TEXT_WIDTH: usize = 69;
/// How wide a table of sample rows may be, behind its margin.
const SAMPLE_WIDTH: usize = 66;
/// Between two columns.
const GAP: usize = 2;

/// A request as a person reads it.
///
/// Whatever is long goes on behind the labels: a terminal that broke the line itself would begin the next one with a
/// word that the agent chose, which could pass for a label of ours.
pub(super) fn detail(body: &Value) -> String {
    let mut lines = labelled("request", &format!("{} ({})", shown(body, "/approval"), shown(body, "/state")));
    lines.extend(labelled(
        "agent",
        &format!("{} in session {}", shown(body, "/agent"), shown(body, "/session")),
    ));
    if let Some(person) = body.get("on_behalf_of").and_then(Value::as_str) {
        lines.extend(labelled("for", &one_line(person)));
    }
    lines.extend(labelled(
        "tool",
        &format!(
            "{} on {} ({}): {}",
            shown(body, "/tool"),
            shown(body, "/system"),
            shown(body, "/environment"),
            shown(body, "/description")
        ),
    ));
    lines.extend(labelled("effect", &shown(body, "/effect")));
    lines.extend(labelled("arguments", &shown(body, "/arguments")));
    if let Some(alike) = alike(&written(body)) {
        lines.extend(labelled("careful", &alike));
    }
    lines.extend(labelled("digest", &shown(body, "/digest")));
    if let Some(reach) = body.get("reach") {
        lines.extend(reached(reach));
    }
    match body.get("reversible").and_then(Value::as_bool) {
        Some(true) => {
            lines.extend(labelled("undo", "the rows are kept: `countersign undo` can put them back"));
        }
        Some(false) => lines.extend(labelled("undo", "it cannot be undone from here")),
        None => {}
    }
    if let Some(sample) = body.get("sample").filter(|sample| !sample.is_null()) {
        // A preview's fields are no rows of a table.
        let told = sample.get("columns").is_some_and(|columns| *columns == json!(["field", "told"]));
        let (label, of) = if told { ("preview", "what the system answered to") } else { ("sample", "of") };
        lines.extend(labelled(label, &format!("{of} `{}`", shown(sample, "/table"))));
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
        let ask = format!(
            "{} of group `{}`: {} (policy `{}`)",
            shown(ask, "/quorum"),
            shown(ask, "/group"),
            shown(ask, "/because"),
            shown(ask, "/policy")
        );
        lines.extend(labelled("asked of", &ask));
    }
    lines.extend(labelled("claimed", &format!("by the agent: {}", shown(body, "/reason_claimed"))));
    for signature in body.get("signatures").and_then(Value::as_array).into_iter().flatten() {
        let approved = signature.get("approved").and_then(Value::as_bool) == Some(true);
        let what = if approved { "approved" } else { "refused" };
        let by = format!("by {}: {}", shown(signature, "/person"), shown(signature, "/comment"));
        lines.extend(labelled(what, &by));
    }
    for before in earlier(body) {
        lines.extend(labelled("earlier", &before));
    }
    let deeds: Vec<&Value> =
        body.get("session_so_far").and_then(Value::as_array).into_iter().flatten().collect();
    lines.extend(labelled("session", &format!("{} so far", counted(deeds.len(), "call", "calls"))));
    for deed in deeds.iter().rev().take(10).rev() {
        let deed = format!(
            "{} {} {} {}",
            shown(deed, "/at"),
            shown(deed, "/tool"),
            shown(deed, "/decision"),
            shown(deed, "/status")
        );
        lines.extend(wrapped(&deed).iter().map(|line| behind(line)));
    }
    lines.extend(labelled("expires", &shown(body, "/expires_at")));
    lines.join("\n")
}

/// What people answered to calls of this agent that are like this one, one text for each.
pub(super) fn earlier(body: &Value) -> impl Iterator<Item = String> {
    let before = body.get("answered_before").and_then(Value::as_array).into_iter().flatten();
    before.map(|one| {
        let flag = |key: &str| one.get(key).and_then(Value::as_bool) == Some(true);
        let what = if flag("approved") { "approved" } else { "refused" };
        let which = if flag("same_call") { "the same call" } else { "a call like it" };
        let said = match one.get("comment").and_then(Value::as_str) {
            Some(comment) => format!(": {}", one_line(comment)),
            None => String::new(),
        };
        let why = match one.get("why").and_then(Value::as_str) {
            Some(why) => format!("; it was not performed: {}", one_line(why)),
            None => String::new(),
        };
        format!(
            "{} {what} {which} at {} ({}, {}){said}{why}",
            shown(one, "/person"),
            shown(one, "/at"),
            shown(one, "/approval"),
            shown(one, "/state")
        )
    })
}

/// What others wrote and an approver goes by: names and arguments, and the claim.
fn written(body: &Value) -> String {
    let mut texts: Vec<String> =
        ["/agent", "/session", "/tool", "/arguments", "/reason_claimed", "/sample/table", "/on_behalf_of"]
            .into_iter()
            .map(|pointer| text(body, pointer))
            .collect();
    let tables = body.pointer("/reach/tables").and_then(Value::as_object).into_iter().flatten();
    texts.extend(tables.map(|(table, _rows)| table.clone()));
    let columns = body.pointer("/sample/columns").and_then(Value::as_array).into_iter().flatten();
    texts.extend(columns.filter_map(Value::as_str).map(str::to_owned));
    texts.join("\n")
}

/// A label and what stands behind it, on as many lines as it takes.
fn labelled(label: &str, text: &str) -> Vec<String> {
    let texts = wrapped(text);
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels.zip(&texts).map(|(label, text)| format!("{label:<LABEL$}{text}").trim_end().to_owned()).collect()
}

/// A text on lines of at most [`TEXT_WIDTH`], broken at spaces where there are some.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_inclusive(' ') {
        let mut word = word;
        if !line.is_empty() && width(&line).saturating_add(width(word.trim_end())) > TEXT_WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        // A word that no line can hold is broken anywhere.
        while width(word.trim_end()) > TEXT_WIDTH {
            let head = prefix(word, TEXT_WIDTH);
            lines.push(head.to_owned());
            word = word.strip_prefix(head).unwrap_or_default();
        }
        line.push_str(word);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// How far it reaches: in all, by table, what foreign keys take along, and what cannot be counted.
fn reached(reach: &Value) -> Vec<String> {
    if reach.is_null() {
        return labelled("reach", "unknown: it was not measured");
    }
    let Ok(reach) = Reach::deserialize(reach) else {
        // A later server's.
        return labelled("reach", &one_line(&reach.to_string()));
    };
    let known = match (reach.rehearsed, reach.exact, reach.unbounded) {
        (true, _, _) => "exactly: it was run and rolled back",
        (false, _, true) => "or more: not all of them were counted",
        (false, true, false) => "exactly: they were counted",
        (false, false, false) if !reach.triggers.is_empty() => "and what the triggers below do",
        (false, false, false) => "at most",
    };
    let (touched, objects) = (touched(&reach), of_objects(&reach));
    let first = match reach.amount {
        // What an API tells was not counted by us.
        Some(amount) if objects => format!("{amount} on {touched}, as the system tells"),
        Some(amount) => format!("{touched}, {known}; {amount}"),
        None if objects => format!("{touched}, as the system tells"),
        None => format!("{touched}, {known}"),
    };
    let mut lines = labelled("reach", &first);
    let tables: Vec<(String, String)> =
        reach.tables.iter().map(|(table, rows)| (one_line(table), grouped(*rows))).collect();
    let name = tables.iter().map(|(table, _)| width(table)).max().unwrap_or(0);
    let count = tables.iter().map(|(_, rows)| width(rows)).max().unwrap_or(0);
    for (table, rows) in &tables {
        let pad = " ".repeat(name.saturating_sub(width(table)));
        lines.extend(wrapped(&format!("{table}{pad}  {rows:>count$}")).iter().map(|line| behind(line)));
    }
    if reach.cascades > 0 {
        // What was run is counted by table, whatever changed it.
        let why = if reach.rehearsed {
            "along with what is named, by foreign keys or triggers"
        } else {
            "because foreign keys cascade"
        };
        lines.push(behind(&format!("{} of them {why}", grouped(reach.cascades))));
    }
    if !reach.triggers.is_empty() {
        let counted = if reach.rehearsed {
            "what they change is counted"
        } else {
            "if they change more, nothing is done"
        };
        lines.push(format!("triggers   run along; {counted}:"));
        let triggers = reach.triggers.iter().map(|trigger| one_line(trigger));
        lines.extend(triggers.flat_map(|trigger| wrapped(&trigger)).map(|line| behind(&line)));
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
    let mut short = prefix(text, to.saturating_sub(1)).to_owned();
    short.push('…');
    short
}

/// As much of the beginning as has this width.
fn prefix(text: &str, to: usize) -> &str {
    let mut taken = 0_usize;
    let end = text.char_indices().find(|(_, c)| {
        taken = taken.saturating_add(span(*c));
        taken > to
    });
    end.and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

/// The columns of a terminal that a text takes.
fn width(text: &str) -> usize {
    text.chars().map(span).sum()
}

/// A mark that a terminal puts over its letter counts as one.
fn span(c: char) -> usize {
    c.width().unwrap_or(0).max(1)
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
            "triggers   run along; if they change more, nothing is done:\n           audit_delete on billing\n",
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
    fn nothing_that_an_agent_writes_begins_a_line_or_goes_unseen() {
        let spoof = "reach      1 rows, exactly: they were counted";
        let mut body = request(
            &json!({ "rows": 14_200, "exact": true, "unbounded": false, "tables": { "b\nreach": 1 } }),
            true,
        );
        for (key, lead) in [("arguments", 69), ("description", 30), ("reason_claimed", 55)] {
            let lead = "x".repeat(lead);
            let wide = "漢".repeat(90);
            body[key] = format!("{lead}{spoof}\n{spoof}\u{2028}{spoof} \u{202e}x {wide}").into();
        }
        let because = format!("because {spoof} ").repeat(3);
        body["of"] = json!([{ "quorum": 1, "group": "g", "because": because, "policy": "p" }]);
        let deed = format!("{spoof}\n{spoof}");
        body["session_so_far"] = json!([{ "at": "t", "tool": deed, "decision": "", "status": "" }]);
        body["sample"]["rows"][0][3] = format!("{}\n{spoof}", "z".repeat(10_000)).into();
        let text = detail(&body);
        let reach: Vec<&str> = text.lines().filter(|line| line.starts_with("reach")).collect();
        assert_eq!(reach, ["reach      14,200 rows, exactly: they were counted"], "{text}");
        assert!(text.lines().all(|line| width(line) <= 80), "{text}");
        // Cut is only what is a sample; what would be done is there to the last letter.
        let whole: String = text.split_whitespace().collect();
        assert!(whole.contains(&"漢".repeat(90)), "{text}");
        assert!(!text.contains("careful"), "{text}");
        body["arguments"] = "{\"sql\":\"delete from bi\u{430}ling\"}".into();
        assert!(detail(&body).contains("`\u{430}` is U+0430"), "{}", detail(&body));
        body["reach"] = Value::Null;
        assert!(detail(&body).contains("reach      unknown"), "{}", detail(&body));
    }

    #[test]
    fn what_was_answered_before_is_told() {
        let mut body = request(&json!(null), false);
        body["answered_before"] = json!([
            { "approval": "apr-1", "same_call": true, "state": "refused", "approved": false, "person": "ann",
              "at": "2026-11-29T12:00:00Z", "comment": "no\nearlier    bob approved" },
            { "approval": "apr-2", "same_call": false, "state": "done", "approved": true, "person": "bob",
              "at": "2026-11-29T11:00:00Z", "comment": null },
            { "approval": "apr-3", "same_call": true, "state": "failed", "approved": true, "person": "bob",
              "at": "2026-11-29T10:00:00Z", "comment": null, "why": "a trigger says\nno" },
        ]);
        let text = detail(&body);
        let earlier: Vec<&str> = text.lines().filter(|line| line.starts_with("earlier")).collect();
        assert_eq!(earlier.len(), 3, "{text}");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(words.join(" ").contains("(apr-3, failed); it was not performed: a trigger says"), "{text}");
        assert!(earlier[0].contains("ann refused the same call at 2026-11-29T12:00:00Z"), "{text}");
        assert!(earlier[1].contains("bob approved a call like it at"), "{text}");
    }

    #[test]
    fn a_refund_is_shown_in_its_currency_with_what_the_preview_told_and_no_rows() {
        let reach = json!({ "rows": 1, "exact": true, "unbounded": false, "tables": {}, "amount": { "currency": "EUR", "minor": 500 } });
        let mut body = request(&reach, false);
        body["sample"] = json!({
            "table": "GET /v1/charges/ch_1", "columns": ["field", "told"],
            "rows": [["/amount", "500"], ["/customer/name", "acme"]],
        });
        let text = detail(&body);
        assert!(text.contains("reach      5.00 EUR on 1 object, as the system tells\n"), "{text}");
        let preview = "preview    what the system answered to `GET /v1/charges/ch_1`\n           field           told\n";
        assert!(text.contains(preview), "{text}");
        assert!(!text.contains("row") && !text.contains("counted"), "{text}");
    }

    #[test]
    fn look_alikes_are_named_wherever_an_approver_reads_a_name() {
        for place in ["agent", "session", "tool", "reason_claimed"] {
            let mut body = request(&json!(null), false);
            body[place] = "p\u{430}yments".into();
            assert!(detail(&body).contains("`\u{430}` is U+0430, not `a`"), "{place}: {}", detail(&body));
        }
        let body = request(
            &json!({ "rows": 1, "exact": true, "unbounded": false, "tables": { "p\u{430}yments": 1 } }),
            false,
        );
        assert!(detail(&body).contains("careful"), "{}", detail(&body));
    }

    #[test]
    fn a_bound_an_estimate_and_a_rehearsal_are_told_apart() {
        let known = |reach: Value| {
            let text = detail(&request(&reach, false));
            assert!(text.contains("undo       it cannot be undone from here"), "{text}");
            text.lines().find(|line| line.starts_with("reach")).unwrap_or_default().to_owned()
        };
        let tables = json!({ "t": 7 });
        let bound = known(json!({ "rows": 100_001, "exact": false, "unbounded": true, "tables": tables }));
        assert_eq!(bound, "reach      100,001 rows, or more: not all of them were counted");
        let inexact = known(json!({ "rows": 7, "exact": false, "unbounded": false, "tables": tables }));
        assert_eq!(inexact, "reach      7 rows, at most");
        let run = known(
            json!({ "rows": 7, "exact": true, "unbounded": false, "rehearsed": true, "tables": tables }),
        );
        assert_eq!(run, "reach      7 rows, exactly: it was run and rolled back");
    }
}
