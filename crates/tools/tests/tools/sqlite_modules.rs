//! Virtual tables in SQLite files: full text and ranges, and the tables behind them.

use countersign_gate::Answer;
use countersign_rules::{Code, DeclaredEffect};
use countersign_tools::{
    AnyDefinition,
    definition::{JournalSettings, SqlDefinition, SqlLimits, SqliteTarget, Target},
};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{ALLOW, ASK, TestVault, World, fixed, from_agent, system};

const SCHEMA: &str = "
    create table doc (id integer primary key, body text); insert into doc values (1, 'hello'), (2, 'world');
    create virtual table doc_fts using fts5(body, content = 'doc', content_rowid = 'id');
    insert into doc_fts (doc_fts) values ('rebuild');
    create trigger doc_ai after insert on doc begin insert into doc_fts (rowid, body) values (new.id, new.body); end;
    create trigger doc_ad after delete on doc begin insert into doc_fts (doc_fts, rowid, body) values ('delete', old.id, old.body); end;
    create virtual table note using fts5(body); insert into note values ('red'), ('blue');
    create virtual table box using rtree(id, x0, x1, y0, y1); insert into box values (1, 0, 1, 0, 1), (2, 5, 6, 5, 6);
    create view found as select rowid as id from note where note match 'blue';
    create table secret (id integer primary key, word text);
    create virtual table secret_fts using fts5(word, content = 'secret', content_rowid = 'id');";

fn files(tables: &[&str], reversible: bool, policy: &str) -> (TempDir, Connection, World) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("billing.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("pragma journal_mode = wal").unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    let target =
        SqliteTarget { path, limits: SqlLimits::default(), journal: Some(JournalSettings::default()) };
    let mut query: SqlDefinition = from_agent("query", tables);
    query.tool.reversible = reversible;
    let search = fixed(
        "search",
        DeclaredEffect::Read,
        json!({"words": {"type": "string"}}),
        "select d.id, d.body from doc_fts f join doc d on d.id = f.rowid where doc_fts match :words",
    );
    let definitions = [AnyDefinition::Sql(query), AnyDefinition::Sql(search)];
    let world =
        World::new(&[system("billing", Target::Sqlite(target))], TestVault::default(), &definitions, policy);
    (folder, connection, world)
}

async fn prepared(world: &World) {
    let tool = &world.tools["query"];
    let upkeep = world.gate.upkeep(tool.spec());
    world.systems.journal(&tool.spec().system.name).unwrap().prepare(&upkeep, None, &[]).await.unwrap();
}

#[tokio::test]
async fn full_text_and_ranges_are_searched_and_written() {
    let (_folder, connection, world) = files(&["doc", "doc_fts", "note", "box", "found"], false, ALLOW);
    prepared(&world).await;
    for (sql, expected) in [
        ("select rowid from doc_fts where doc_fts match 'hello'", json!([{"rowid": 1}])),
        (
            "select body, rank < 0 as ranked from note where note match 'red OR blue' order by body limit 1",
            json!([{"body": "blue", "ranked": 1}]),
        ),
        ("select id from box where x0 >= 4 and y1 <= 7", json!([{"id": 2}])),
    ] {
        let done = world.done("query", json!({"sql": sql})).await;
        assert_eq!(done.reply["rows"], expected, "{sql}");
    }
    // SQLite itself lets no view of a file search.
    let refusal = world.refusal("query", json!({"sql": "select id from found"})).await;
    assert!(refusal.message.contains("unsafe use of match()"), "{refusal}");
    let done = world.done("search", json!({"words": "world"})).await;
    assert_eq!(done.reply["rows"], json!([{"id": 2, "body": "world"}]));
    for (sql, check) in [
        ("delete from doc where id = 1", "select count(*) = 0 from doc_fts where doc_fts match 'hello'"),
        ("insert into doc values (3, 'new')", "select count(*) = 1 from doc_fts where doc_fts match 'new'"),
        ("insert into note values ('green')", "select count(*) = 1 from note where note match 'green'"),
        ("delete from box where id = 1", "select count(*) = 1 from box"),
        ("update box set x1 = 9 where id = 2", "select x1 = 9 from box"),
    ] {
        let done = world.done("query", json!({"sql": sql})).await;
        assert!(done.rows >= 1, "{sql}");
        assert!(connection.query_row(check, [], |row| row.get::<_, bool>(0)).unwrap(), "{sql}");
    }
    // The tables behind them are nobody's to name, nor is one that no tool lists.
    for sql in [
        "select * from note_content",
        "select * from secret_fts where secret_fts match 'x'",
        "delete from note_data",
    ] {
        let refusal = world.refusal("query", json!({"sql": sql})).await;
        assert_eq!(refusal.code, Code::StatementRefused, "{sql}: {refusal}");
    }
}

#[tokio::test]
async fn rows_of_virtual_tables_are_those_that_were_approved() {
    let (_folder, connection, world) = files(&["doc", "doc_fts", "note", "box"], false, ASK);
    prepared(&world).await;
    for sql in [
        "insert into note values ('green'), ('grey')",
        "delete from doc where id = 1",
        "delete from box",
        "delete from note where rowid = 1",
    ] {
        let pending = world.pending("query", json!({"sql": sql})).await;
        let reach = pending.reach.clone().unwrap();
        assert!(
            reach.tables.keys().all(|table| !table.contains("_data") && !table.contains("_node")),
            "{reach:?}"
        );
        let answer = world.approve(&pending.approval).await;
        assert!(matches!(answer, Answer::Done(_)), "{sql}: {reach:?} {answer:?}");
    }
    let left = "select (select count(*) from note) * 100 + (select count(*) from doc) * 10 + (select count(*) from box)";
    assert_eq!(connection.query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 310);
}

#[tokio::test]
async fn what_a_virtual_table_holds_is_not_promised_to_come_back() {
    for (policy, asked) in [(ALLOW, false), (ASK, true)] {
        let (_folder, connection, world) = files(&["doc", "doc_fts", "note", "box"], true, policy);
        prepared(&world).await;
        let all = "select group_concat(body) from (select body from doc union all select body from note union all select id from box)";
        let before: String = connection.query_row(all, [], |row| row.get(0)).unwrap();
        for sql in [
            "delete from doc where id = 1",
            "insert into note values ('green')",
            "delete from note where rowid = 1",
            "delete from box where id = 1",
        ] {
            let refusal = world.refusal("query", json!({"sql": sql})).await;
            assert!(refusal.message.contains("cannot be kept for undo"), "{sql}: {refusal}");
            assert!(!asked || refusal.code == Code::ReachUnmeasurable, "nobody is asked: {refusal}");
            assert_eq!(connection.query_row(all, [], |row| row.get::<_, String>(0)).unwrap(), before);
        }
    }
}
