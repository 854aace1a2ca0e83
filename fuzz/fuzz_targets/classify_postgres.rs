//! Any text has an answer or an error, the same one each time and in other letters; nothing around a statement makes it
//! laxer, and a catalog only where it shows what the text leaves open.
#![no_main]

use std::sync::LazyLock;

use countersign_fuzz::{panics_end_the_run, postgres_catalog, respelled_postgres};
use countersign_sql::{
    Dialect, Effect, Explained, Known, RowSource, Statement, Verb, explain, fingerprint, normalize,
    reach_query,
};
use libfuzzer_sys::fuzz_target;

static CATALOG: LazyLock<Known> = LazyLock::new(|| Known::new(postgres_catalog()));

fn said(text: &str) -> Option<Explained> {
    explain(Dialect::Postgres, text, None).ok()
}

fuzz_target!(init: panics_end_the_run(), |text: &str| {
    let dialect = Dialect::Postgres;
    let first = explain(dialect, text, None);
    assert_eq!(first, explain(dialect, text, None), "two answers");
    let print = fingerprint(dialect, text).ok();
    let normal = normalize(dialect, text).ok();
    let known = explain(dialect, text, Some(&CATALOG));
    // Of texts near the limits, what stands around them decides whether they are examined.
    let Ok(explained) = first else { return };

    assert_eq!(explained.effect, explained.statements.iter().map(|one| one.effect).max().unwrap());
    for one in &explained.statements {
        consistent(one);
    }
    for (before, after) in [("", "\n; select 1"), ("select 1;", ""), ("/* ' */\n", "\n-- \" '")] {
        let Some(both) = said(&format!("{before}{text}{after}")) else { continue };
        assert_eq!(both.effect, explained.effect, "beside {before}{after}");
        assert_eq!(both.tables, explained.tables);
        assert_eq!(both.functions, explained.functions);
    }
    if let Some(other) = respelled_postgres(text) {
        let again = explain(dialect, &other, None);
        assert_eq!(again.as_ref().ok(), Some(&explained), "respelled: {other}");
        assert_eq!(fingerprint(dialect, &other).ok(), print, "respelled: {other}");
    }
    // Which constants there are may decide whether a predicate bounds; never whether it is a read. (A placeholder that
    // touches a word becomes a part of it: not every normal form is the same statement.)
    let same = |normal: &String| fingerprint(dialect, normal).ok() == print;
    if let Some(normal) = normal.filter(same).and_then(|normal| said(&normal)) {
        assert_eq!(normal.effect == Effect::Read, explained.effect == Effect::Read, "normalized");
        assert_eq!(normal.tables, explained.tables, "normalized");
    }
    if let [one] = explained.statements.as_slice() {
        around(text, one);
    }
    if let Ok(known) = known {
        sharpened(&explained, &known);
    }
    for catalog in [None, Some(&*CATALOG)] {
        if let Ok(reach) = reach_query(dialect, text, catalog)
            && let RowSource::Query { .. } = reach.source
        {
            let count = explain(dialect, &reach.count(10).text, catalog).expect("a count is a statement");
            assert_eq!(count.effect, Effect::Read, "{}", reach.count(10).text);
            assert!(explained.statements[0].writes.contains(&reach.target), "counts another table");
        }
    }
});

/// A read touches nothing, and whatever is more than a read says why.
fn consistent(one: &Statement) {
    assert!(one.effect > Effect::Read || one.writes.is_empty(), "a read that writes");
    assert!(one.effect == Effect::Read || !one.reasons.is_empty(), "no reason");
    assert!(one.named.iter().all(|table| one.reads.contains(table) || one.writes.contains(table)));
    if matches!(one.verb, Verb::Delete | Verb::Truncate | Verb::Drop | Verb::Do | Verb::Call) {
        assert_eq!(one.effect, Effect::Destructive);
    }
    if matches!(one.verb, Verb::Insert | Verb::Update | Verb::Merge) {
        assert!(one.effect > Effect::Read && !one.writes.is_empty());
    }
}

/// What a statement does it does inside of another one.
fn around(text: &str, one: &Statement) {
    let text = text.trim_end_matches(|c: char| c == ';' || c.is_ascii_whitespace());
    for wrapped in [
        format!("explain analyze {text}\n"),
        format!("with w as ({text}\n) select 1"),
        format!("select exists ({text}\n)"),
        format!("select * from ({text}\n) as s, lateral (select 1) t"),
        format!("select 1 union all ({text}\n)"),
        format!("declare c cursor for {text}\n"),
        format!("prepare p as {text}\n"),
        format!("create temp table x as {text}\n"),
        format!("copy ({text}\n) to stdout"),
    ] {
        let Some(outer) = said(&wrapped) else { continue };
        // More than one: the text ended the outer statement itself.
        let [outer] = outer.statements.as_slice() else { continue };
        assert!(outer.effect >= one.effect, "laxer inside of: {wrapped}");
        assert!(outer.functions.is_superset(&one.functions), "calls lost inside of: {wrapped}");
        let touched = outer.tables();
        assert!(one.tables().is_subset(&touched), "tables lost inside of: {wrapped}");
    }
}

/// A catalog names more, and makes a read only of what was a write because something in it was not known.
fn sharpened(bare: &Explained, known: &Explained) {
    for (bare, known) in bare.statements.iter().zip(&known.statements) {
        assert!(known.tables().is_superset(&bare.tables()), "tables lost with a catalog");
        assert!(known.functions.is_superset(&bare.functions), "functions lost with a catalog");
        let open = |code: &str| matches!(code, "unknown_function" | "unknown_operator" | "unknown_type");
        let harm = bare.reasons.iter().any(|reason| !open(reason.code) && reason.code != "explain_analyze");
        assert!(known.effect >= bare.effect || !harm, "laxer with a catalog");
    }
}
