//! Changes that are run and rolled back to see how far they reach: what triggers do counts, and nothing stays.

use countersign_rules::{Code, Reach};
use countersign_tools::{
    AnyDefinition,
    definition::{JournalSettings, PostgresTarget, Rehearse, SqlLimits, SqliteTarget, Target},
};
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    harness::{ASK, TestVault, World, from_agent, system},
    postgres_undo::{Database, target},
};

const DELETE: &str = "delete from item where n < 3";
const TABLES: [&str; 2] = ["item", "trail"];

/// Forbids what deletes, however far it reaches.
const NO_DELETES: &str = r#"
@id("all") permit (principal, action, resource);
@id("few") forbid (principal, action, resource) when { context has reach && context.reach.rows > 100 };
@id("never") forbid (principal, action, resource) when { context.effect == "destructive" };
"#;

fn limits(rehearse: Rehearse) -> SqlLimits {
    SqlLimits { rehearse, lock_timeout_ms: 200, ..SqlLimits::default() }
}

/// A file with four items, of which a trigger keeps a trail.
fn file() -> (TempDir, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let connection = Connection::open(folder.path().join("shop.db")).unwrap();
    connection
        .execute_batch(
            "create table item (id integer primary key, n integer);
             create table trail (id integer primary key, item integer);
             create trigger keep after delete on item begin insert into trail (item) values (old.id); end;
             insert into item (n) values (1), (2), (3), (4);",
        )
        .unwrap();
    (folder, connection)
}

async fn on_file(folder: &TempDir, rehearse: Rehearse, policy: &str) -> World {
    let target = SqliteTarget {
        path: folder.path().join("shop.db"),
        limits: limits(rehearse),
        journal: Some(JournalSettings::default()),
    };
    let tool = AnyDefinition::Sql(from_agent("query", &TABLES));
    let world =
        World::new(&[system("billing", Target::Sqlite(target))], TestVault::default(), &[tool], policy);
    let upkeep = world.gate.upkeep(world.tools["query"].spec());
    let database = world.systems.journal(&world.tools["query"].spec().system.name).unwrap();
    database.prepare(&upkeep, None, &[]).await.unwrap();
    world
}

fn content(connection: &Connection) -> (i64, i64, i64) {
    let sql = "select (select count(*) from item), (select count(*) from trail), \
                      (select count(*) from countersign_call)";
    connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
}

fn both(reach: &Reach) {
    assert!(reach.rehearsed && reach.exact && !reach.unbounded, "{reach:?}");
    assert_eq!((reach.tables["item"], reach.tables["trail"], reach.rows), (2, 2, 4), "{reach:?}");
}

#[tokio::test]
async fn what_triggers_do_counts_and_nothing_of_a_rehearsal_stays() {
    let (folder, connection) = file();
    let counted =
        on_file(&folder, Rehearse::Never, ASK).await.measured("query", json!({ "sql": DELETE })).await;
    assert_eq!((counted.rows, counted.triggers.len(), counted.rehearsed), (2, 1, false), "{counted:?}");
    for rehearse in [Rehearse::WhenInexact, Rehearse::Always] {
        let world = on_file(&folder, rehearse, ASK).await;
        both(&world.measured("query", json!({ "sql": DELETE })).await);
        assert_eq!(content(&connection), (4, 0, 0), "a trace is left");
    }
    // Where a count is exact it is enough, unless a rehearsal is always wanted.
    let insert = json!({ "sql": "insert into trail (item) values (9)" });
    for (rehearse, rehearsed) in [(Rehearse::WhenInexact, false), (Rehearse::Always, true)] {
        let reach = on_file(&folder, rehearse, ASK).await.measured("query", insert.clone()).await;
        assert_eq!((reach.rows, reach.rehearsed), (1, rehearsed), "{reach:?}");
    }
    // What was rehearsed is what then happens, within what was approved.
    let world = on_file(&folder, Rehearse::WhenInexact, ASK).await;
    let pending = world.pending("query", json!({ "sql": DELETE })).await;
    assert!(world.shown(&pending).await.1.is_some(), "the sample is of the count");
    world.approve(&pending.approval).await;
    assert_eq!(content(&connection), (2, 2, 1));
}

#[tokio::test]
async fn a_rehearsal_waits_for_no_lock_for_long_and_is_not_run_for_what_is_forbidden() {
    let (folder, connection) = file();
    let inexact = on_file(&folder, Rehearse::WhenInexact, ASK).await;
    let always = on_file(&folder, Rehearse::Always, ASK).await;
    let forbids = on_file(&folder, Rehearse::Always, NO_DELETES).await;
    connection.execute_batch("begin immediate").unwrap();
    // The count stands where it may, and says of itself what it is.
    let refused = always.refusal("query", json!({ "sql": DELETE })).await;
    assert!([Code::ReachUnmeasurable, Code::SystemUnavailable].contains(&refused.code), "{refused:?}");
    let forbidden = forbids.refusal("query", json!({ "sql": DELETE })).await;
    assert_eq!(forbidden.code, Code::DeniedByPolicy, "{forbidden:?}");
    connection.execute_batch("rollback").unwrap();
    both(&inexact.measured("query", json!({ "sql": DELETE })).await);
}

fn on_server(database: &Database, rehearse: Rehearse, policy: &str) -> World {
    let target = PostgresTarget {
        limits: limits(rehearse),
        journal: Some(JournalSettings::default()),
        ..PostgresTarget::default()
    };
    let tool = AnyDefinition::Sql(from_agent("query", &TABLES));
    let vault = TestVault::default().with("billing", "url", &database.url);
    World::new(&[system("billing", Target::Postgres(target))], vault, &[tool], policy)
}

#[tokio::test]
async fn a_rehearsal_on_postgresql_counts_triggers_and_merges_and_leaves_no_trace() {
    let database = target(
        "rehearsal",
        "create table item (id int primary key, n int);
         create table trail (id int generated always as identity primary key, item int);
         create function keep() returns trigger language plpgsql as
             $$ begin insert into trail (item) values (old.id); perform pg_notify('gone', old.id::text); return null; end $$;
         create trigger keep after delete on item for each row execute function keep();
         insert into item values (1, 1), (2, 2), (3, 3), (4, 4);",
    )
    .await;
    database.prepare(&on_server(&database, Rehearse::Never, ASK), &TABLES).await;
    let content = async || {
        let sql = "select (select count(*) from item), (select count(*) from trail), \
                          (select count(*) from countersign.call), (select count(*) from countersign.image)";
        let row = database.admin.query_one(sql, &[]).await.unwrap();
        [row.get::<_, i64>(0), row.get(1), row.get(2), row.get(3)]
    };
    let counted = on_server(&database, Rehearse::Never, ASK);
    let reach = counted.measured("query", json!({ "sql": DELETE })).await;
    assert_eq!((reach.rows, reach.rehearsed), (2, false), "{reach:?}");
    let merge = "merge into item using (values (1, 10), (9, 9)) as new (id, n) on item.id = new.id \
                 when matched then update set n = new.n when not matched then insert values (new.id, new.n)";
    let refused = counted.refusal("query", json!({ "sql": merge })).await;
    assert_eq!(refused.code, Code::ReachUnmeasurable, "{refused:?}");

    let world = on_server(&database, Rehearse::WhenInexact, ASK);
    both(&world.measured("query", json!({ "sql": DELETE })).await);
    let merged = world.measured("query", json!({ "sql": merge })).await;
    assert_eq!((merged.rows, merged.rehearsed, merged.exact), (2, true, true), "{merged:?}");
    assert_eq!(content().await, [4, 0, 0, 0], "a trace is left");

    // It waits for no lock for long, and what is forbidden is not run at all.
    database.admin.batch_execute("begin; lock table item in exclusive mode").await.unwrap();
    let counted = world.measured("query", json!({ "sql": "delete from item where n < 2" })).await;
    assert_eq!((counted.rows, counted.rehearsed), (1, false), "the count stands: {counted:?}");
    let always = on_server(&database, Rehearse::Always, ASK);
    let refused = always.refusal("query", json!({ "sql": DELETE })).await;
    assert_eq!(refused.code, Code::ReachUnmeasurable, "{refused:?}");
    let forbids = on_server(&database, Rehearse::Always, NO_DELETES);
    let forbidden = forbids.refusal("query", json!({ "sql": DELETE })).await;
    assert_eq!(forbidden.code, Code::DeniedByPolicy, "{forbidden:?}");
    database.admin.batch_execute("rollback").await.unwrap();

    let pending = world.pending("query", json!({ "sql": DELETE })).await;
    world.approve(&pending.approval).await;
    assert_eq!(content().await[..3], [2, 2, 1]);
}
