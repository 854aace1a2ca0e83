//! Changes that are run and rolled back to see how far they reach: what triggers do counts, and nothing stays.

use countersign_gate::Answer;
use countersign_rules::{
    Code, Reach,
    rate::{Rate, RateScope},
};
use countersign_tools::{
    AnyDefinition, AnyTool, Systems,
    definition::{
        JournalSettings, PostgresTarget, Rehearse, SqlDefinition, SqlLimits, SqliteTarget, SystemDefinition,
        Target,
    },
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

/// Asks about changes, and wants them rehearsed first.
const REHEARSED: &str = r#"
@id("reads") permit (principal, action, resource) when { context.effect == "read" };
@id("writes") @ask("people") @rehearse("true")
permit (principal, action, resource) when { context.effect != "read" };
@id("few") forbid (principal, action, resource) when { context has reach && context.reach.rows > 3 };
"#;

#[tokio::test]
async fn a_policy_that_asks_may_have_a_call_rehearsed_first() {
    let (folder, connection) = file();
    let one = json!({ "sql": "delete from item where n < 2" });
    let world = on_file(&folder, Rehearse::OnRequest, REHEARSED).await;
    let pending = world.pending("query", one.clone()).await;
    let (reach, evidence) = world.shown(&pending).await;
    assert!(reach.rehearsed && reach.exact && evidence.is_some(), "{reach:?}");
    assert_eq!((reach.rows, reach.tables["trail"]), (2, 1), "{reach:?}");
    assert_eq!(content(&connection), (4, 0, 0), "a trace is left");
    // What was rehearsed decides: two rows and two that a trigger adds are too many, and nobody is asked.
    let refused = world.refusal("query", json!({ "sql": DELETE })).await;
    assert_eq!(refused.code, Code::DeniedByPolicy, "{refused}");
    // A policy that does not ask for it has none.
    let counted = on_file(&folder, Rehearse::OnRequest, ASK).await.measured("query", one.clone()).await;
    assert!(!counted.rehearsed && !counted.exact, "{counted:?}");
    // Where the system is not to be used for it, or the call cannot be, people are not asked on less.
    let refused = on_file(&folder, Rehearse::Never, REHEARSED).await.refusal("query", one).await;
    assert_eq!(refused.code, Code::ReachUnmeasurable, "{refused}");
    assert!(
        refused.message.contains("test:writes") && refused.message.contains("does not allow"),
        "{refused}"
    );
    connection.execute_batch("begin immediate").unwrap();
    let locked = world.refusal("query", json!({ "sql": "delete from item where n = 4" })).await;
    assert!([Code::ReachUnmeasurable, Code::SystemUnavailable].contains(&locked.code), "{locked}");
    // And what is forbidden however it was counted is not run.
    let refused = world.refusal("query", json!({ "sql": "delete from item" })).await;
    assert_eq!(refused.code, Code::DeniedByPolicy, "{refused}");
    connection.execute_batch("rollback").unwrap();
    // What was approved is decided again by the same means, and done.
    assert!(matches!(world.approve(&pending.approval).await, Answer::Done(done) if done.rows == 2));
    assert_eq!(content(&connection), (3, 1, 1));
}

#[tokio::test]
async fn a_tool_may_have_its_calls_rehearsed_where_its_system_allows_it() {
    let (folder, _connection) = file();
    let target = |rehearse| {
        let path = folder.path().join("shop.db");
        system("billing", Target::Sqlite(SqliteTarget { path, limits: limits(rehearse), journal: None }))
    };
    let tool = |rehearse| AnyDefinition::Sql(SqlDefinition { rehearse, ..from_agent("query", &TABLES) });
    for (of_system, of_tool, rehearsed) in [
        (Rehearse::OnRequest, None, false),
        (Rehearse::OnRequest, Some(Rehearse::Always), true),
        (Rehearse::Always, Some(Rehearse::OnRequest), false),
        (Rehearse::Always, None, true),
    ] {
        let world = World::new(&[target(of_system)], TestVault::default(), &[tool(of_tool)], ASK);
        let reach = world.measured("query", json!({ "sql": DELETE })).await;
        assert_eq!(reach.rehearsed, rehearsed, "{of_system:?}, {of_tool:?}");
    }
    let vault: std::sync::Arc<dyn countersign_gate::Vault> = std::sync::Arc::new(TestVault::default());
    let systems = Systems::new(&[target(Rehearse::Never)], &vault).unwrap();
    let error = AnyTool::new(&tool(Some(Rehearse::OnRequest)), &systems).unwrap_err().to_string();
    assert!(error.contains("rehears"), "{error}");
}

#[tokio::test]
async fn a_call_over_its_limits_is_not_rehearsed() {
    let (folder, connection) = file();
    let path = folder.path().join("shop.db");
    let target = SqliteTarget { path, limits: limits(Rehearse::OnRequest), journal: None };
    let mut tool = from_agent("query", &TABLES);
    tool.tool.rates = vec![Rate::parse("1/h", RateScope::Agent).unwrap()];
    let world = World::new(
        &[system("billing", Target::Sqlite(target))],
        TestVault::default(),
        &[AnyDefinition::Sql(tool)],
        REHEARSED,
    );
    let pending = world.pending("query", json!({ "sql": "delete from item where n = 1" })).await;
    assert!(matches!(world.approve(&pending.approval).await, Answer::Done(_)));
    // A rehearsal would run into the lock.
    connection.execute_batch("begin immediate").unwrap();
    let refused = world.refusal("query", json!({ "sql": "delete from item where n = 2" })).await;
    assert_eq!(refused.code, Code::RateLimited, "{refused}");
}

#[tokio::test]
async fn a_catalog_that_names_a_trigger_does_not_keep_it_from_being_rehearsed() {
    let database = target(
        "rehearsal_catalog",
        "create table item (id int primary key, n int);
         create table trail (id int generated always as identity primary key, item int);
         create function keep() returns trigger language plpgsql as
             $$ begin insert into trail (item) values (old.id); return null; end $$;
         create trigger keep after delete on item for each row execute function keep();
         create function own(n int) returns int language plpgsql as $$ begin return n; end $$;
         insert into item values (1, 1), (2, 2), (3, 3), (4, 4);",
    )
    .await;
    let definition = |catalog| {
        let target = PostgresTarget { limits: limits(Rehearse::WhenInexact), ..PostgresTarget::default() };
        SystemDefinition { catalog, ..system("billing", Target::Postgres(target)) }
    };
    let vault = || TestVault::default().with("billing", "url", &database.url);
    let tool = || AnyDefinition::Sql(from_agent("query", &TABLES));
    let plain = World::new(&[definition(None)], vault(), &[tool()], ASK);
    let upkeep = plain.gate.upkeep(plain.tools["query"].spec());
    let system = plain.systems.database(&plain.tools["query"].spec().system.name).unwrap();
    let snapshot = system.inspect(&upkeep).await.unwrap();
    let world = World::new(&[definition(Some(snapshot.into()))], vault(), &[tool()], ASK);
    both(&world.measured("query", json!({ "sql": DELETE })).await);
    // What the statement itself runs unseen is another matter.
    let refused = world.refusal("query", json!({ "sql": "delete from item where own(n) < 3" })).await;
    assert_eq!(refused.code, Code::StatementRefused, "{refused}");
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
