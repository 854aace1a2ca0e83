//! Rows that come between counting and acting, and values that must not come out, on both databases.

use countersign_gate::{Answer, ledger::Ledger as _};
use countersign_rules::{ApprovalState, Code};
use countersign_tools::{
    AnyDefinition,
    definition::{Rehearse, SqlDefinition, SqlLimits, SqliteTarget, SystemDefinition, Target},
};
use rusqlite::Connection;
use serde_json::json;

use crate::{
    harness::{ASK, TestVault, World, from_agent, refused, system},
    postgres::{connect, database, postgres},
};

const DELETE: &str = "delete from item where n > 0";

/// Waits until a call has its warrant: it was counted for the last time, and begins.
async fn begun(world: &World) {
    while world.gate.ledger().calls(None, 10).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

/// The approved call went too far: it is asked for again with what it reaches now, and the old approval is over.
async fn asked_again(world: &World, first: &countersign_gate::Pending, answer: Answer) {
    let Answer::Pending(again) = answer else { panic!("{answer:?}") };
    assert_ne!(again.approval, first.approval);
    assert_eq!((first.reach.as_ref().unwrap().rows, again.reach.as_ref().unwrap().rows), (3, 4), "{again:?}");
    let old = world.gate.ledger().approval(&first.approval).await.unwrap().unwrap();
    assert_eq!(old.state, ApprovalState::Superseded);
    match world.approve(&again.approval).await {
        Answer::Done(done) => assert_eq!(done.rows, 4),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_row_that_comes_before_the_lock_on_postgresql_is_not_taken_along() {
    let db = database("between", 0).await;
    db.client
        .batch_execute("create table item (n int); insert into item values (1), (2), (3)")
        .await
        .unwrap();
    let world = db.world(vec![from_agent("query", &["item"])], ASK);
    let pending = world.pending("query", json!({ "sql": DELETE })).await;
    // Counting reads beside this lock; deleting waits for it, and then sees what was committed before.
    let mut writer = connect(&db.url).await;
    let tx = writer.transaction().await.unwrap();
    tx.batch_execute("lock table item in share row exclusive mode; insert into item values (4)")
        .await
        .unwrap();
    let grow = async {
        begun(&world).await;
        tx.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(world.approve(&pending.approval), grow);
    let left: i64 = db.client.query_one("select count(*) from item", &[]).await.unwrap().get(0);
    assert_eq!(left, 4, "more was deleted than was approved");
    asked_again(&world, &pending, answer).await;
}

fn file(schema: &str) -> (tempfile::TempDir, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let connection = Connection::open(folder.path().join("shop.db")).unwrap();
    connection.execute_batch("pragma journal_mode = wal").unwrap();
    connection.execute_batch(schema).unwrap();
    (folder, connection)
}

fn on_file(folder: &tempfile::TempDir, limits: SqlLimits) -> SystemDefinition {
    let path = folder.path().join("shop.db");
    system("billing", Target::Sqlite(SqliteTarget { path, limits, journal: None }))
}

#[tokio::test]
async fn a_row_that_comes_before_the_lock_on_sqlite_is_not_taken_along() {
    let (folder, connection) = file("create table item (n int); insert into item values (1), (2), (3)");
    let limits = SqlLimits { lock_timeout_ms: 20_000, ..SqlLimits::default() };
    let tool = AnyDefinition::Sql(from_agent("query", &["item"]));
    let world = World::new(&[on_file(&folder, limits)], TestVault::default(), &[tool], ASK);
    let pending = world.pending("query", json!({ "sql": DELETE })).await;
    connection.execute_batch("begin immediate; insert into item values (4)").unwrap();
    let grow = async {
        begun(&world).await;
        connection.execute_batch("commit").unwrap();
    };
    let (answer, ()) = tokio::join!(world.approve(&pending.approval), grow);
    let left: i64 = connection.query_row("select count(*) from item", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 4, "more was deleted than was approved");
    asked_again(&world, &pending, answer).await;
}

const SECRETS: &str = "
    create table item (id int primary key, n int, secret text unique);
    create table copy (id int, secret text unique, taken text);
    insert into item values (1, 1, 'hunter2'), (2, 2, 'hunter3');
    insert into copy values (0, 'hunter2', '');
";

/// Statements that show, compare, copy and trip over values of a masked column.
const PRYING: [&str; 6] = [
    "delete from item where n = 1",
    "insert into copy (id, taken) select id, secret as s from item",
    "insert into copy (id, secret) select id, secret from item",
    "update item set secret = (select secret from item where id = 2)",
    "update item set n = cast(secret as int)",
    "delete from item where cast(secret as int) > 1",
];

async fn keeps_secrets(definition: impl Fn(Rehearse) -> (SystemDefinition, TestVault)) {
    for rehearse in [Rehearse::Never, Rehearse::Always] {
        let (system, vault) = definition(rehearse);
        let tool =
            SqlDefinition { mask: ["secret".to_owned()].into(), ..from_agent("query", &["item", "copy"]) };
        let world = World::new(&[system], vault, &[AnyDefinition::Sql(tool)], ASK);
        let mut said = String::new();
        let mut samples = 0;
        for sql in PRYING {
            let answer = world.call("query", json!({ "sql": sql })).await;
            said.push_str(&format!("{sql}: {answer:?}\n"));
            if let Answer::Pending(pending) = answer {
                let (_, evidence) = world.shown(&pending).await;
                samples += u32::from(evidence.is_some());
                said.push_str(&format!("shown: {evidence:?}\n"));
                if sql.starts_with("update") || sql.contains("(id, secret)") {
                    said.push_str(&format!("performed: {:?}\n", world.approve(&pending.approval).await));
                }
            }
        }
        for entry in world.gate.ledger().log() {
            said.push_str(&format!("{entry:?}\n"));
        }
        assert!(samples >= 2 && said.contains("sample_commitment"), "{said}");
        assert!(said.contains("nstraint"), "nothing was tripped over: {said}");
        assert!(!said.contains("hunter"), "{rehearse:?}: {said}");
    }
}

#[tokio::test]
async fn no_masked_value_comes_out_of_postgresql() {
    let db = database("secrets", 0).await;
    db.client.batch_execute(SECRETS).await.unwrap();
    keeps_secrets(|rehearse| {
        let vault = TestVault::default().with("billing", "url", &db.url);
        (postgres(SqlLimits { rehearse, ..SqlLimits::default() }), vault)
    })
    .await;
}

#[tokio::test]
async fn no_masked_value_comes_out_of_sqlite() {
    let (folder, _connection) = file(SECRETS);
    keeps_secrets(|rehearse| {
        (on_file(&folder, SqlLimits { rehearse, ..SqlLimits::default() }), TestVault::default())
    })
    .await;
}

#[tokio::test]
async fn an_approval_that_counting_outgrew_is_superseded() {
    let (folder, connection) = file("create table item (n int); insert into item values (1)");
    let tool = AnyDefinition::Sql(from_agent("query", &["item"]));
    let world = World::new(&[on_file(&folder, SqlLimits::default())], TestVault::default(), &[tool], ASK);
    let pending = world.pending("query", json!({ "sql": DELETE })).await;
    connection.execute_batch("insert into item values (2)").unwrap();
    refused(world.approve(&pending.approval).await, Code::ApprovalSuperseded);
}
