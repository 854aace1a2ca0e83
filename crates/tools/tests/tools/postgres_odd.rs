//! Random tables with odd keys, identities and computed columns, and random writes: what was done comes back byte by
//! byte, and there and back again, or it was not done. Nobody else changes anything, so no undo is ever refused.

use countersign_gate::Answer;
use serde_json::json;

use crate::{
    chance::Chance,
    harness::ALLOW,
    postgres::SERVERS,
    postgres_undo::{Database, message, on_each_server, reversible, target_on, undo},
};

on_each_server! { random_writes_to_odd_tables_come_back_byte_by_byte_or_do_not_happen }

/// A type of a key, values of it of which some are equal and not the same, and an expression that writes a value anew.
const KEYS: [(&str, [&str; 6], &str); 10] = [
    ("numeric", ["1.0", "1.00", "2", "-0.5", "100", "0.000"], "k * 1.00"),
    ("citext", ["'Ada'", "'ada'", "'bob'", "''", "'ß'", "'BOB'"], "upper(k)"),
    ("text collate anycase", ["'Ada'", "'ada'", "'bob'", "''", "'ß'", "'BOB'"], "upper(k)"),
    ("char(4)", ["'a'", "'a   '", "'b'", "''", "'A'", "'abcd'"], "rtrim(k)"),
    ("float8", ["0", "'-0'", "1.5", "'NaN'", "1e300", "-1"], "-k"),
    ("interval", ["'1 mon'", "'30 days'", "'1 day'", "'24:00'", "'-1 sec'", "'0'"], "justify_hours(k)"),
    ("jsonb", ["'1.0'", "'1.00'", "'{\"a\": 1}'", "'[]'", "'\"x\"'", "'null'"], "jsonb_build_array(k)"),
    ("numeric[]", ["'{1.0}'", "'{1.00}'", "'{}'", "'{1,2}'", "'{NULL}'", "'[0:0]={1}'"], "k || 1.0"),
    (
        "numrange",
        ["'[1,2)'", "'[1.0,2.0)'", "'empty'", "'(,)'", "'[0,0]'", "'[3,)'"],
        "numrange(lower(k), null)",
    ),
    ("int", ["1", "2", "3", "4", "5", "6"], "k + 1"),
];

const MORE: [&str; 9] = [
    "",
    ", id int generated always as identity",
    ", id int generated always as identity unique",
    ", twice int generated always as (n * 2) stored",
    ", u float8 unique default random()",
    ", u int unique deferrable initially deferred default null",
    ", check (n < 5) not valid",
    ", during int4range, exclude using gist (during with &&)",
    ", at timestamptz default clock_timestamp()",
];

fn table(chance: &mut Chance, (kind, values, _): &(&str, [&str; 6], &str), virtual_too: bool) -> String {
    let mut out = String::from("drop table if exists t; ");
    let mut more = String::new();
    let mut checked = "";
    for _column in 0..chance.below(3) {
        let column = MORE[chance.below(MORE.len())];
        let name = column.split_whitespace().nth(1).unwrap_or_default();
        if column.contains("not valid") {
            checked = "alter table t add check (n < 5) not valid; ";
        } else if !more.contains(&format!(", {name} ")) {
            more.push_str(column);
        }
    }
    if virtual_too && chance.one_in(2) {
        more.push_str(", shown text generated always as (v || n)");
    }
    let key = if chance.one_in(4) { "primary key (part, k)" } else { "primary key (k)" };
    let deferred = if chance.one_in(4) { " deferrable" } else { "" };
    out.push_str(&format!(
        "create table t (k {kind}, n int, v text, part int default 1{more}, {key}{deferred}); "
    ));
    for value in values {
        let (n, v) = (chance.below(9), chance.below(3));
        // What has the key already, or another of the values that no two rows have, is not there twice.
        out.push_str(&format!(
            "do $$ begin insert into t (k, n, v) values ({value}, {n}, 'v{v}'); \
             exception when unique_violation or exclusion_violation then null; end $$; "
        ));
    }
    format!("{out}{checked}")
}

fn statement(chance: &mut Chance, (_, values, anew): &(&str, [&str; 6], &str)) -> String {
    let value = |chance: &mut Chance| values[chance.below(values.len())];
    let (a, b) = (value(chance), value(chance));
    let rows = ["n >= 0", "n % 2 = 0", "n < 4", "v = 'v1'", "n > 4"];
    let rows = rows[chance.below(rows.len())];
    match chance.below(11) {
        0 => format!("update t set k = {anew} where {rows}"),
        1 => format!("update t set k = {a} where k = {b}"),
        2 => format!("update t set k = {anew}, n = 1, v = v || '!' where {rows}"),
        3 => format!("delete from t where {rows}"),
        4 => format!(
            "insert into t (k, n, v) values ({a}, 2, 'new'), ({b}, 3, null) on conflict (k) do update set k = excluded.k, v = excluded.v"
        ),
        5 => format!("insert into t (k, n, v) values ({a}, 4, 'new')"),
        6 => format!(
            "with gone as (delete from t where {rows} returning *) insert into t (k, n, v) select {anew}, n, v from gone"
        ),
        7 => format!("update t set n = n - 1 where {rows}"),
        8 => format!("update t set n = 0, v = null where k = {a}"),
        9 => format!("update t set part = part + 1 where {rows}"),
        _ => format!("update t set {} = default where {rows}", ["id", "u", "n", "k", "at"][chance.below(5)]),
    }
}

async fn check(db: &Database, chance: &mut Chance, virtual_too: bool, tally: &mut [u32; 2]) {
    let kind = &KEYS[chance.below(KEYS.len())];
    let schema = table(chance, kind, virtual_too);
    if db.admin.batch_execute(&schema).await.is_err() {
        // Two keys of one name, or rows that a constraint does not take: no such table exists.
        return;
    }
    let world = db.world(vec![reversible(&["t"])], ALLOW);
    db.prepare(&world, &["t"]).await;
    for _statement in 0..6 {
        let sql = statement(chance, kind);
        let before = db.dump(&["t"]).await;
        let Answer::Done(done) = world.call("query", json!({"sql": sql})).await else {
            assert_eq!(db.dump(&["t"]).await, before, "{schema}; {sql}");
            tally[1] += 1;
            continue;
        };
        let after = db.dump(&["t"]).await;
        if after == before {
            continue;
        }
        let mut call = done.call;
        for expected in [&before, &after, &before] {
            call = match undo(&world, &call).await {
                Answer::Done(by) => by.call,
                other => panic!("{schema}; {sql}: {}", message(other)),
            };
            assert_eq!(&db.dump(&["t"]).await, expected, "{schema}; {sql}");
        }
        tally[0] += 1;
    }
}

async fn random_writes_to_odd_tables_come_back_byte_by_byte_or_do_not_happen(server: &str) {
    let db = target_on(
        server,
        "odd",
        "create extension citext;
         create collation anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);",
    )
    .await;
    let mut chance = Chance::new(20_261_129);
    let mut tally = [0; 2];
    for _table in 0..40 {
        check(&db, &mut chance, server == SERVERS[1], &mut tally).await;
    }
    let [back, refused] = tally;
    assert!(back > 40, "{back} came back, {refused} were refused: the cases say little");
}
