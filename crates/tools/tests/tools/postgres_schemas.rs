//! Random schemas, data and statements: what is counted is what is touched, and what is undone is as it was.

use countersign_gate::Answer;
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::json;

use crate::{
    harness::ASK,
    postgres_undo::{Database, dump, on_each_server, reversible, target_on},
};

const ACTIONS: [&str; 5] = ["no action", "cascade", "set null", "set default", "restrict"];
const TEXTS: [&str; 5] = ["null", "''", "'a'", "'it''s, \"(x)\"'", "e'\\n\\\\'"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Plain,
    Identity,
    Composite,
}

#[derive(Debug, Clone)]
struct Table {
    key: Key,
    /// To a table at or before this one, with what deleting and updating there do here.
    refs: Vec<(usize, usize, usize, bool)>,
    /// (n, text, unique value, references)
    rows: Vec<(u8, usize, bool, [usize; 2])>,
}

fn table() -> impl Strategy<Value = Table> {
    let key = prop_oneof![3 => Just(Key::Plain), 1 => Just(Key::Identity), 1 => Just(Key::Composite)];
    let refs = vec((0_usize..4, 0_usize..5, 0_usize..5, any::<bool>()), 0..3);
    let rows = vec((0_u8..6, 0_usize..5, any::<bool>(), [0_usize..8, 0_usize..8]), 0..7);
    (key, refs, rows).prop_map(|(key, refs, rows)| Table { key, refs, rows })
}

fn create(tables: &[Table]) -> String {
    let mut out = String::new();
    for (at, table) in tables.iter().enumerate() {
        let mut columns = vec![
            match table.key {
                Key::Plain => "id int primary key".to_owned(),
                Key::Identity => "id int generated always as identity primary key".to_owned(),
                Key::Composite => "id int, part int default 0, primary key (id, part)".to_owned(),
            },
            "n int, s text, u int unique, g int generated always as (n * 2) stored".to_owned(),
        ];
        for (number, (to, on_delete, on_update, deferred)) in table.refs.iter().enumerate() {
            let to = to % (at + 1);
            let (mine, theirs) = match tables[to].key {
                Key::Composite => (format!("r{number}, q{number}"), "id, part"),
                Key::Plain | Key::Identity => (format!("r{number}"), "id"),
            };
            let deferred =
                if *deferred && ACTIONS[*on_delete] != "restrict" && ACTIONS[*on_update] != "restrict" {
                    " deferrable initially deferred"
                } else {
                    ""
                };
            columns.push(format!(
                "r{number} int default 1, q{number} int default 0, foreign key ({mine}) references t{to} ({theirs}) \
                 on delete {} on update {}{deferred}",
                ACTIONS[*on_delete], ACTIONS[*on_update]
            ));
        }
        out.push_str(&format!("create table t{at} ({});\n", columns.join(", ")));
        for (row, (n, s, u, refs)) in table.rows.iter().enumerate() {
            let id = row + 1;
            let unique = if *u { (id * 10).to_string() } else { "null".into() };
            let mut names = String::from("id, n, s, u");
            let mut values = format!("{id}, {n}, {}, {unique}", TEXTS[*s]);
            for (number, (to, ..)) in table.refs.iter().enumerate() {
                let to = to % (at + 1);
                let there = if to == at { id } else { tables[to].rows.len() };
                let value = refs[number];
                let value = if value >= 1 && value <= there { value.to_string() } else { "null".into() };
                names.push_str(&format!(", r{number}"));
                values.push_str(&format!(", {value}"));
            }
            out.push_str(&format!(
                "insert into t{at} ({names}) overriding system value values ({values});\n"
            ));
        }
    }
    out
}

fn predicate() -> impl Strategy<Value = String> {
    prop_oneof![
        (1_u8..4, 0_u8..4).prop_map(|(k, r)| format!("id % {k} = {r}")),
        (0_u8..6).prop_map(|n| format!("n < {n}")),
        (0_u8..6).prop_map(|n| format!("n <> {n} or s is null")),
        (0_u8..6).prop_map(|n| format!("id in (select n from t0 where n < {n})")),
        Just("n >= 0".to_owned()),
    ]
}

/// A statement on one table, and perhaps another; `{0}` and `{1}` stand for them, `{p}` for a condition.
fn statement() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("delete from {0} where {p}"),
        2 => Just("update {0} set n = n + 1, s = s || 'x' where {p}"),
        2 => Just("update {0} set id = id + 100 where {p}"),
        1 => Just("update {0} set id = id + 1 where {p}"),
        1 => Just("update {0} set u = u + 1 where {p}"),
        1 => Just("update {0} set u = -u, n = n where {p}"),
        1 => Just("insert into {0} (id, n, s) overriding system value select id + 50, n, s from {0} where {p}"),
        1 => Just("insert into {0} (id, n) overriding system value select n, id from {1} where {p} on conflict do nothing"),
        1 => Just("insert into {0} (id, n) overriding system value values (1, 77), (2, 78) on conflict (u) do nothing"),
        1 => Just("with gone as (delete from {0} where {p} returning id) update {1} set n = 9 where id in (select id from gone)"),
        1 => Just("with new as (insert into {0} (id, n) overriding system value values (70, 1) returning id) delete from {1} where {p}"),
    ]
    .prop_map(ToOwned::to_owned)
}

#[derive(Debug, Clone)]
struct Case {
    tables: Vec<Table>,
    statements: Vec<(String, usize, usize, String)>,
}

fn case() -> impl Strategy<Value = Case> {
    let statements = vec((statement(), 0_usize..4, 0_usize..4, predicate()), 3..6);
    (vec(table(), 1..5), statements).prop_map(|(tables, statements)| Case { tables, statements })
}

/// How many databases are made up; the same ones every time.
const CASES: u32 = 16;

async fn check(db: &Database, case: &Case, tally: &mut [u32; 3]) {
    let names: Vec<String> = (0..case.tables.len()).map(|at| format!("t{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    db.admin.batch_execute("drop table if exists t0, t1, t2, t3 cascade").await.unwrap();
    let schema = create(&case.tables);
    if db.admin.batch_execute(&schema).await.is_err() {
        // A default that refers to nothing: no such database exists.
        return;
    }
    let world = db.world(vec![reversible(&names)], ASK);
    db.prepare(&world, &names).await;
    for (text, first, second, predicate) in &case.statements {
        let (first, second) = (first % names.len(), second % names.len());
        let sql = text.replace("{0}", names[first]).replace("{1}", names[second]).replace("{p}", predicate);
        let before = dump(&db.admin, &names).await;
        let context = format!("{schema}{sql}");
        let Answer::Pending(pending) = world.call("query", json!({"sql": sql})).await else {
            assert_eq!(dump(&db.admin, &names).await, before, "{context}");
            continue;
        };
        let reach = pending.reach.clone();
        let done = match world.approve(&pending.approval).await {
            Answer::Done(done) => done,
            answer => {
                // A constraint refused it; or it touches more than was counted, and is asked for again.
                assert_eq!(dump(&db.admin, &names).await, before, "{context}");
                if let (Answer::Pending(_), Some(reach)) = (answer, &reach) {
                    assert!(!reach.exact, "{context}\n{reach:?} claims to be exact, and is not enough");
                }
                tally[1] += 1;
                continue;
            }
        };
        if let Some(reach) = &reach {
            if reach.exact {
                assert_eq!(reach.rows, done.rows, "{context}\n{reach:?}");
            } else {
                assert!(reach.rows >= done.rows, "{context}\n{reach:?}, {} touched", done.rows);
            }
        }
        let after = dump(&db.admin, &names).await;
        if after == before {
            continue;
        }
        tally[0] += 1;
        let pending = match world.call("undo_billing", json!({"call": done.call})).await {
            Answer::Pending(pending) => pending,
            other => panic!("{context}\n{other:?}"),
        };
        match world.approve(&pending.approval).await {
            Answer::Done(undone) => {
                assert_eq!(dump(&db.admin, &names).await, before, "{context}");
                assert_eq!(pending.reach.unwrap().rows, undone.rows, "{context}");
            }
            // What cannot be brought back exactly is left as it is.
            other => {
                assert_eq!(dump(&db.admin, &names).await, after, "{context}");
                assert!(!matches!(other, Answer::Pending(_)), "{context}");
                tally[2] += 1;
            }
        }
    }
}

on_each_server! { what_is_counted_is_touched_and_what_is_undone_is_as_it_was }

async fn what_is_counted_is_touched_and_what_is_undone_is_as_it_was(server: &str) {
    let db = target_on(server, "random", "").await;
    let config = Config { failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let mut tally = [0; 3];
    for _case in 0..CASES {
        let case = case().new_tree(&mut runner).unwrap().current();
        check(&db, &case, &mut tally).await;
    }
    let [undone, refused, left] = tally;
    assert!(undone > 10, "{undone} undone, {refused} refused: the cases say little");
    assert!(left * 20 <= undone, "{left} of {undone} calls could not be undone");
}
