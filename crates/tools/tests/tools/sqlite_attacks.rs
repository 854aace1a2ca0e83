//! What happens to a SQLite file behind a running server's back.

use std::fs;

use countersign_gate::Answer;
use countersign_rules::{Code, DeclaredEffect};
use countersign_tools::AnyDefinition;
use rusqlite::Connection;
use serde_json::json;

use crate::harness::{ALLOW, TestVault, World, fixed, from_agent, sqlite};

const SCHEMA: &str = "create table t (id integer primary key, n int); insert into t values (1, 1), (2, 2);";

fn world(path: &std::path::Path) -> World {
    let tools = [
        fixed("all", DeclaredEffect::Read, json!({}), "select n from t where +n < 100 order by id"),
        from_agent("query", &["t"]),
    ]
    .map(AnyDefinition::Sql);
    World::new(&[sqlite(path)], TestVault::default(), &tools, ALLOW)
}

fn sum(path: &std::path::Path) -> i64 {
    Connection::open(path)
        .unwrap()
        .query_row("select coalesce(sum(n), 0) from t", [], |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn a_file_that_another_was_moved_over_is_neither_read_nor_written_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("a.db"), folder.path().join("b.db"));
    Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
    let world = world(&path);
    assert_eq!(world.done("all", json!({})).await.rows, 2);
    world.done("query", json!({"sql": "update t set n = 5 where id = 1"})).await;
    // A restored backup, as it is usually put in place.
    Connection::open(&other).unwrap().execute_batch(SCHEMA).unwrap();
    Connection::open(&other).unwrap().execute_batch("insert into t values (3, 30)").unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(world.done("all", json!({})).await.rows, 3, "what is read is what is there");
    world.done("query", json!({"sql": "update t set n = 10 where id = 1"})).await;
    assert_eq!(sum(&path), 42, "what is written is there");
    // Gone altogether: nothing is read from, or written to, what has no name any more.
    fs::remove_file(&path).unwrap();
    for (tool, arguments) in
        [("all", json!({})), ("query", json!({"sql": "update t set n = 6 where id = 1"}))]
    {
        let answer = world.call(tool, arguments).await;
        let Answer::Refused(refused) = answer else { panic!("{tool}: {answer:?}") };
        assert_eq!(refused.refusal.code, Code::SystemUnavailable, "{}", refused.refusal);
        assert!(!path.exists(), "nobody makes a new one");
    }
}

#[tokio::test]
async fn a_damaged_or_a_foreign_file_is_an_answer_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut fill = String::from(SCHEMA);
    fill.push_str(
        "with recursive i (n) as (select 3 union all select n + 1 from i where n < 5000) insert into t select n, n from i;
         create index by_n on t (n);",
    );
    Connection::open(&path).unwrap().execute_batch(&fill).unwrap();
    let good = fs::read(&path).unwrap();
    let mut damaged = good.clone();
    let (from, to) = (good.len() / 3, good.len() * 2 / 3);
    damaged[from..to].fill(0xa5);
    for (what, bytes) in
        [("damaged", damaged), ("cut off", good[..5_000].to_vec()), ("foreign", vec![b'x'; 9_000])]
    {
        fs::write(&path, &bytes).unwrap();
        let world = world(&path);
        for (tool, arguments) in [("all", json!({})), ("query", json!({"sql": "delete from t where n > 0"}))]
        {
            let answer = world.call(tool, arguments).await;
            assert!(matches!(answer, Answer::Refused(_)), "{what}, {tool}: {answer:?}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes, "{what}");
    }
}
