//! A request as its approver reads it, in a terminal 80 columns wide: what exactly would be done, how far it
//! reaches and how that is known, whether it can be taken back, and some of the rows.

use countersign_app::{
    grant::GrantBody,
    request::{RequestBody, RequestDetail, SampleBody, SignatureBody, reach_words},
    text::{alike, grouped, one_line},
};
use countersign_rules::{ApprovalState, Reach};
use unicode_width::UnicodeWidthChar as _;

use super::counted;

/// How wide the labels are.
const LABEL: usize = 11;
/// How wide a text may be behind its label.
const TEXT_WIDTH: usize = 69;
/// How wide a table of sample rows may be, behind its margin.
const SAMPLE_WIDTH: usize = 66;
/// Between two columns.
const GAP: usize = 2;
/// How many of a session's calls are shown, the last ones.
const DEEDS_MAX: usize = 10;

/// A request as a person reads it.
///
/// Whatever is long goes on behind the labels: a terminal that broke the line itself would begin the next one with a
/// word that the agent chose, which could pass for a label of ours.
pub(super) fn detail(detail: &RequestDetail) -> String {
    let request = &detail.request;
    let mut lines =
        labelled("request", &format!("{} ({})", one_line(&request.approval), request.state.as_str()));
    lines.extend(labelled(
        "agent",
        &format!("{} in session {}", one_line(&request.agent), one_line(&request.session)),
    ));
    if let Some(person) = &detail.on_behalf_of {
        lines.extend(labelled("for", &one_line(person)));
    }
    lines.extend(labelled(
        "tool",
        &format!(
            "{} on {} ({}): {}",
            one_line(&request.tool),
            shown(detail.system.as_deref()),
            shown(detail.environment.as_deref()),
            shown(detail.description.as_deref())
        ),
    ));
    lines.extend(labelled("effect", request.effect.as_str()));
    lines.extend(labelled("arguments", &one_line(&detail.arguments)));
    if let Some(alike) = alike(&detail.written()) {
        lines.extend(labelled("careful", &alike));
    }
    lines.extend(labelled("digest", &one_line(&detail.digest)));
    lines.extend(reached(detail.reach.as_ref()));
    match detail.reversible {
        Some(true) => {
            lines.extend(labelled("undo", "the rows are kept: `countersign undo` can put them back"));
        }
        Some(false) => lines.extend(labelled("undo", "it cannot be undone from here")),
        None => {}
    }
    lines.extend(detail.sample.iter().flat_map(sampled));
    if let Some(narrowed) = &request.narrowed {
        let why = shown(narrowed.why.as_deref());
        let by = format!("by {}, out of request {}: {why}", one_line(&narrowed.by), one_line(&narrowed.from));
        lines.extend(labelled("changed", &by));
    }
    if let Some(to) = &request.narrowed_to {
        lines.extend(labelled("changed", &format!("request {} asks about that", one_line(to))));
    }
    for ask in &request.of {
        let ask = format!(
            "{} of group `{}`: {} (policy `{}`)",
            ask.quorum,
            one_line(&ask.group),
            shown(ask.because.as_deref()),
            one_line(&ask.policy)
        );
        lines.extend(labelled("asked of", &ask));
    }
    let claimed = shown(detail.reason_claimed.as_deref());
    lines.extend(labelled("claimed", &format!("by the agent: {claimed}")));
    for signature in &request.signatures {
        let by = format!("by {}: {}", one_line(&signature.person), shown(signature.comment.as_deref()));
        lines.extend(labelled(answer(signature), &by));
    }
    if let Some(grant) = &request.grant {
        lines.extend(labelled("granted", &granted(grant)));
    } else if let Some(most) = request.grantable.filter(|_| request.state == ApprovalState::Waiting) {
        let minutes = most.seconds / 60;
        let text = format!(
            "whoever approves may let up to {} run within {minutes} min: `--grant N --grant-for TIME`",
            counted(usize::try_from(most.calls).unwrap_or(usize::MAX), "call like it", "calls like it"),
        );
        lines.extend(labelled("grant", &text));
    }
    for before in earlier(request) {
        lines.extend(labelled("earlier", &before));
    }
    let deeds = &detail.session_so_far;
    lines.extend(labelled("session", &format!("{} so far", counted(deeds.len(), "call", "calls"))));
    for deed in deeds.iter().rev().take(DEEDS_MAX).rev() {
        let parts = [&deed.at, &deed.tool, &deed.decision, &deed.status];
        let deed = parts.map(|part| shown(part.as_deref())).join(" ");
        lines.extend(wrapped(&deed).iter().map(|line| behind(line)));
    }
    lines.extend(labelled("expires", &shown(request.expires_at.as_deref())));
    lines.join("\n")
}

/// What is granted beside the approval, and what is left of it.
fn granted(grant: &GrantBody) -> String {
    let GrantBody { calls, left, until, ended_by, ended_why } = grant;
    let ended =
        ended_by.as_deref().map(|by| format!("; ended by {}: {}", one_line(by), shown(ended_why.as_deref())));
    format!(
        "{calls} calls like it until {}, {left} left{}",
        shown(until.as_deref()),
        ended.unwrap_or_default()
    )
}

/// Some of the rows, or what a preview told.
fn sampled(sample: &SampleBody) -> Vec<String> {
    // A preview's fields are no rows of a table.
    let told = sample.columns == ["field", "told"];
    let (label, of) = if told { ("preview", "what the system answered to") } else { ("sample", "of") };
    let columns: Vec<String> = sample.columns.iter().map(|column| one_line(column)).collect();
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "NULL".into(), one_line);
    let rows: Vec<Vec<String>> = sample.rows.iter().map(|row| row.iter().map(value).collect()).collect();
    let mut lines = labelled(label, &format!("{of} `{}`", one_line(&sample.table)));
    lines.extend(grid(&columns, &rows).into_iter().map(|line| behind(&line)));
    lines
}

/// What people answered to calls of this agent that are like this one, one text for each.
pub(super) fn earlier(request: &RequestBody) -> impl Iterator<Item = String> {
    request.answered_before.iter().map(|one| {
        let what = answer(&one.answer);
        let which = if one.same_call { "the same call" } else { "a call like it" };
        let said = one.answer.comment.as_deref().map(|comment| format!(": {}", one_line(comment)));
        let why = one.why.as_deref().map(|why| format!("; it was not performed: {}", one_line(why)));
        format!(
            "{} {what} {which} at {} ({}, {}){}{}",
            one_line(&one.answer.person),
            shown(one.answer.at.as_deref()),
            one_line(&one.approval),
            one.state.as_str(),
            said.unwrap_or_default(),
            why.unwrap_or_default()
        )
    })
}

const fn answer(signature: &SignatureBody) -> &'static str {
    if signature.approved { "approved" } else { "refused" }
}

/// A label and what stands behind it, on as many lines as it takes.
fn labelled(label: &str, text: &str) -> Vec<String> {
    let texts = wrapped(text);
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels.zip(&texts).map(|(label, text)| format!("{label:<LABEL$}{text}").trim_end().to_owned()).collect()
}

/// A text on lines of at most [`TEXT_WIDTH`], broken at spaces where there are some. By our own count of columns: where a mark
/// over a letter counted as none, a line of many could be longer than its terminal takes it to be.
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
fn reached(reach: Option<&Reach>) -> Vec<String> {
    let Some(reach) = reach else {
        return labelled("reach", "unknown: it was not measured");
    };
    let mut lines = labelled("reach", &reach_words(reach));
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
fn shown(text: Option<&str>) -> String {
    one_line(text.unwrap_or("-"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What a server says of a request, as a person reads it.
    fn told(body: &Value) -> String {
        detail(&serde_json::from_value(body.clone()).unwrap())
    }

    fn request(reach: &Value, reversible: bool) -> Value {
        json!({
            "approval": "apr-1", "state": "waiting", "call": "call-1", "agent": "bot", "session": "s", "tool": "query_billing",
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
            "rows": null, "of": [], "signatures": [], "answered_before": [], "why": null, "session_so_far": [], "teams": [],
            "on_behalf_of": null, "reason_claimed": "tidy up", "decision": "dec-1", "bundle": "b0", "asked_at": "now",
            "expires_at": "later",
        })
    }

    #[test]
    fn an_approver_sees_the_reach_by_table_and_how_it_is_known_within_80_columns() {
        let reach = json!({
            "rows": 14_203, "exact": true, "unbounded": false, "tables": { "billing": 14_200, "invoice_line": 3 },
            "cascades": 3, "triggers": ["audit_delete on billing"],
        });
        let text = told(&request(&reach, true));
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
    fn an_approver_sees_what_can_be_granted_and_what_is_left_of_it() {
        let mut body = request(&json!(null), false);
        assert!(!told(&body).contains("grant"));
        body["grantable"] = json!({ "calls": 20, "seconds": 3_600 });
        assert!(
            told(&body).contains("grant      whoever approves may let up to 20 calls like it run"),
            "{}",
            told(&body)
        );
        body["grant"] = json!({ "calls": 3, "left": 2, "until": "later", "ended_by": "ana", "ended_why": "enough\nreach" });
        let text = told(&body);
        assert!(
            text.contains("granted    3 calls like it until later, 2 left; ended by ana: enough"),
            "{text}"
        );
        assert!(!text.contains("\nreach\n") && text.lines().all(|line| width(line) <= 80), "{text}");
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
        body["session_so_far"] =
            json!([{ "call": "c", "at": "t", "tool": deed, "decision": "", "status": "", "rows": null }]);
        body["sample"]["rows"][0][3] = format!("{}\n{spoof}", "z".repeat(10_000)).into();
        let text = told(&body);
        let reach: Vec<&str> = text.lines().filter(|line| line.starts_with("reach")).collect();
        assert_eq!(reach, ["reach      14,200 rows, exactly: they were counted"], "{text}");
        assert!(text.lines().all(|line| width(line) <= 80), "{text}");
        // Cut is only what is a sample; what would be done is there to the last letter.
        let whole: String = text.split_whitespace().collect();
        assert!(whole.contains(&"漢".repeat(90)), "{text}");
        assert!(!text.contains("careful"), "{text}");
        body["arguments"] = "{\"sql\":\"delete from bi\u{430}ling\"}".into();
        assert!(told(&body).contains("`\u{430}` is U+0430"), "{}", told(&body));
        body["reach"] = Value::Null;
        assert!(told(&body).contains("reach      unknown"), "{}", told(&body));
    }

    #[test]
    fn what_was_answered_before_is_told() {
        let mut body = request(&json!(null), false);
        body["answered_before"] = json!([
            { "approval": "apr-1", "same_call": true, "state": "refused", "approved": false, "person": "ann", "channel": "cli", "why": null,
              "at": "2026-11-29T12:00:00Z", "comment": "no\nearlier    bob approved" },
            { "approval": "apr-2", "same_call": false, "state": "done", "approved": true, "person": "bob", "channel": "cli", "why": null,
              "at": "2026-11-29T11:00:00Z", "comment": null },
            { "approval": "apr-3", "same_call": true, "state": "failed", "approved": true, "person": "bob", "channel": "cli",
              "at": "2026-11-29T10:00:00Z", "comment": null, "why": "a trigger says\nno" },
        ]);
        let text = told(&body);
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
        let text = told(&body);
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
            assert!(told(&body).contains("`\u{430}` is U+0430, not `a`"), "{place}: {}", told(&body));
        }
        let body = request(
            &json!({ "rows": 1, "exact": true, "unbounded": false, "tables": { "p\u{430}yments": 1 } }),
            false,
        );
        assert!(told(&body).contains("careful"), "{}", told(&body));
    }

    #[test]
    fn a_bound_an_estimate_and_a_rehearsal_are_told_apart() {
        let known = |reach: Value| {
            let text = told(&request(&reach, false));
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
