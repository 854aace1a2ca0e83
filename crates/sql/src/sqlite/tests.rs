//! What is kept for the next statement never answers otherwise than what is made for one: statements that share names, in any
//! order, with every kind of statement in between that might leave something behind.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;

use super::private::Drawn;
use super::sketch::Sketch;
use super::{explained, parsed, walk::Walk};
use crate::catalog::Catalog;
use crate::known::Known;
use crate::statement::TableRef;

/// Few, so that they meet again: spelled in several ways, with quotes inside, SQLite's own, of other schemas, names of what is
/// no table.
const TABLES: [&str; 18] = [
    "t",
    "T",
    "\"t\"",
    "[t]",
    "'t'",
    "main.t",
    "temp.t",
    "other.t",
    "u",
    "w",
    "\"odd \"\"name\"",
    "`a b`",
    "\"select\"",
    "\u{e9}",
    "a",
    "json_each",
    "sqlite_schema",
    "pragma_table_info",
];

const COLUMNS: [&str; 11] =
    ["a", "A", "\"a\"", "'a'", "id", "b", "rowid", "\"a b\"", "true", "\"t\"", "\"odd \"\"name\""];

/// `{t}` and `{u}` are tables, `{c}` and `{d}` columns.
const TEMPLATES: [&str; 73] = [
    "select {c} from {t}",
    "select {c}, {d} from {t} where {c} = 7",
    "select \"{d}\" from {t}",
    "select * from {t} as one join {u} as two on one.{c} = two.{d}",
    "select {c}, {d} from {t}, {u}",
    "select {c} from {t} natural join {u}",
    "select {c} from {t} join {u} using ({d})",
    "select {c} from {t} one where exists (select {d} from {u} where {d} = one.{c})",
    "select {c} as {d} from {t} order by {d}",
    "select count(*) from {t}",
    "select {t}.{c} from {t}",
    "select main.t.{c} from {t}",
    "with {t} as (select {c} from {u}) select {d} from {t}",
    "with w as (select {c} as x from {t}) select x, {d} from w, {u}",
    "select {c} from {t} union select {d} from {u}",
    "select {c}, {d} from {t} union select * from {u}",
    "select * from {t} where ({c}, {d}) in {u}",
    "select * from {t} indexed by {c} where {c} = 1",
    "select * from {t} where {c} in {u}",
    "select * from {t}, json_each({c})",
    "select * from {t}, pragma_table_info('t')",
    "select * from pragma_foreign_keys, {t}",
    "select {c} from {t} where {d} match 'x'",
    "select max({c}), nosuch({d}) from {t}",
    "select load_extension('x'), {c} from {t}",
    "select fts3_tokenizer('simple', x'00'), {c} from {t}",
    "select last_insert_rowid(), changes() from {t}",
    "values (1), (2)",
    "insert into {t} ({c}) values (1)",
    "insert into {t} ({c}, {d}) select {c}, {d} from {u}",
    "insert into {t} values (1, 2, 3)",
    "insert into {t} select * from {u}",
    "insert into {t} ({c}) values (1) on conflict ({c}) do update set {d} = excluded.{c}",
    "replace into {t} ({c}) values (1) returning {d}",
    "insert into {t} default values",
    "update {t} set {c} = (select {d} from {u})",
    "update {t} set {c} = 1 from {u} where {t}.{d} = {u}.{c}",
    "update {t} set {c} = 1",
    "delete from {t} where {c} in (select {d} from {u} where {c} < 1)",
    "delete from {t}",
    "create table {t} ({c}, {d})",
    "create table {t} as select {c} from {u}",
    "create temp table {t} ({c})",
    "create temp view {t} as select {c} from {u}",
    "create view {t} as select {c} from {u}",
    "create temp trigger x after delete on {t} begin delete from {u}; end",
    "create trigger x after insert on {t} begin update {u} set {c} = 1; end",
    "create unique index x on {t} ({c})",
    "create virtual table {t} using fts5 (a)",
    "alter table {t} rename to {u}",
    "alter table {t} add column {c}",
    "alter table {t} rename column {c} to {d}",
    "alter table {t} drop column {c}",
    "drop table {t}",
    "drop table if exists {t}",
    "drop view {t}",
    "pragma foreign_keys = off",
    "pragma writable_schema = on",
    "pragma case_sensitive_like = on",
    "pragma temp.journal_mode = off",
    "pragma encoding = 'UTF-16'",
    "pragma table_info({t})",
    "attach ':memory:' as other",
    "detach main",
    "begin",
    "rollback",
    "savepoint s",
    "vacuum",
    "analyze {t}",
    "reindex {t}",
    "select * from sqlite_stat1, {t}",
    "select {c} from {t} where (",
    "select 'no end, {c} from {t}",
];

fn statement() -> impl Strategy<Value = String> {
    let names = (select(&TABLES[..]), select(&TABLES[..]), select(&COLUMNS[..]), select(&COLUMNS[..]));
    (select(&TEMPLATES[..]), names, select(&["", "", "", "", "explain ", "explain query plan "][..]))
        .prop_map(|(template, (t, u, c, d), before)| {
            let text = template.replace("{t}", t).replace("{u}", u).replace("{c}", c).replace("{d}", d);
            format!("{before}{text}")
        })
}

/// A statement, or some in one text.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => statement(),
        1 => prop::collection::vec(statement(), 2..4).prop_map(|statements| statements.join("; ")),
    ]
}

/// Texts, of which some come again.
fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 1..12).prop_flat_map(|texts| {
        let again = prop::collection::vec(select(texts.clone()), 0..12);
        again.prop_map(move |again| texts.iter().cloned().chain(again).collect())
    })
}

fn catalog() -> Catalog {
    let schema = [
        "create table t (id integer primary key, a, b)",
        "create table u (id integer primary key, a references t (id) on delete cascade)",
        "create view w as select a, b from t",
        "create trigger loud after update on t begin delete from u; end",
        "create table \"odd \"\"name\" (\"a b\", a)",
        "create virtual table \"a b\" using fts5 (a, b)",
    ];
    Catalog { schema: schema.map(str::to_owned).into(), ..Catalog::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_compiled_before_changes_no_answer(texts in texts(), max in select(&[1, 3, 64][..])) {
        let warm = Drawn::new(max);
        for text in &texts {
            prop_assert_eq!(explained(text, None, &warm), explained(text, None, &Drawn::new(0)), "{}", text);
        }
    }

    #[test]
    fn nor_does_it_beside_a_catalog(texts in texts()) {
        let (warm, none) = (Known::new(catalog()), Drawn::new(0));
        for text in &texts {
            let fresh = Known::new(catalog());
            prop_assert_eq!(explained(text, Some(&warm), &none), explained(text, Some(&fresh), &none), "{}", text);
        }
    }
}

/// The sketch of a text, as it is drawn at first.
fn sketch(sql: &str) -> Sketch {
    parsed(sql, |commands| {
        let mut walk = Walk::default();
        for command in commands {
            walk.command(command);
        }
        walk.sketch.settle();
        walk.sketch
    })
    .unwrap()
}

#[test]
fn only_so_many_are_kept_and_the_longest_unasked_goes() {
    let drawn = Drawn::new(2);
    let ask = |sql: &str| drawn.compile(sql, &sketch(sql)).map(|_| ()).unwrap();
    ask("select a from one");
    ask("select a from two");
    ask("select a from one where a = 2");
    assert_eq!(drawn.kept(), ["one", "two"].map(TableRef::bare).into());
    ask("select a from three");
    assert_eq!(drawn.kept(), ["one", "three"].map(TableRef::bare).into());
}

#[test]
fn what_heard_of_more_than_queries_and_changes_is_given_up() {
    for sql in [
        "select a from t; pragma foreign_keys = off",
        "select a from t; create temp table x (a)",
        "select a from t; attach ':memory:' as x",
        "select a from t; begin",
        "select a from t; drop table t",
        "select a from t; alter table t add b; select nosuch(1)",
    ] {
        let drawn = Drawn::new(8);
        drawn.compile("select a from t", &sketch(sql)).unwrap();
        assert_eq!(drawn.kept(), [TableRef::bare("t")].into());
        drawn.compile(sql, &sketch(sql)).ok();
        assert_eq!(drawn.kept(), BTreeSet::new(), "{sql}");
    }
}

/// What is large, or of another schema, would take memory that is not counted on.
#[test]
fn what_is_large_or_elsewhere_is_not_kept() {
    let columns: Vec<String> = (0..200).map(|number| format!("c{number}")).collect();
    let (drawn, many) = (Drawn::new(8), format!("select {} from t", columns.join(", ")));
    let long = format!("select {} from t", "x".repeat(5000));
    for sql in [
        many.as_str(),
        &long,
        "select a from temp.t",
        "select a from other.t",
        "select name from sqlite_sequence",
    ] {
        drawn.compile(sql, &sketch(sql)).unwrap();
        assert_eq!(drawn.kept(), BTreeSet::new(), "{sql}");
    }
}
