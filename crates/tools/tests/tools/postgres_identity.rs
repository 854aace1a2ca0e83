//! Which journal a PostgreSQL database keeps: what another, a copy or an older state of it says of a call is not
//! believed, and no call takes effect where its intent does not name.

use countersign_gate::{Doubt, MeasureError, Recalled, Tool as _, ledger::Ledger as _};
use countersign_rules::{CallId, Code};
use countersign_tools::AnyTool;
use serde_json::json;

use crate::{
    harness::{ALLOW, World},
    postgres_undo::{message, reversible, run, target, undo},
};

const SCHEMA: &str = "create table t (id int primary key, n int); insert into t values (1, 1), (2, 2);";

async fn ask(world: &World, doubt: &Doubt) -> Result<Recalled, MeasureError> {
    let AnyTool::Sql(tool) = &world.tools["query"] else { panic!("a statement tool") };
    tool.recall(&world.gate.upkeep(tool.spec()), doubt).await
}

async fn journal(world: &World) -> Option<String> {
    let AnyTool::Sql(tool) = &world.tools["query"] else { panic!("a statement tool") };
    tool.journal(&world.gate.upkeep(tool.spec())).await
}

fn disbelief(asked: Result<Recalled, MeasureError>) -> String {
    match asked {
        Err(MeasureError::System(why)) => why,
        other => panic!("believed: {other:?}"),
    }
}

#[tokio::test]
async fn another_database_is_not_believed_and_takes_no_call() {
    let db = target("identity", SCHEMA).await;
    let world = db.world(vec![reversible(&["t"])], ALLOW);
    assert_eq!(journal(&world).await, None, "it is not prepared");
    db.prepare(&world, &["t"]).await;
    let name = journal(&world).await.unwrap();
    // Preparing again keeps the name.
    db.prepare(&world, &["t"]).await;
    let fresh = db.world(vec![reversible(&["t"])], ALLOW);
    assert_eq!(journal(&fresh).await.unwrap(), name);
    let call = run(&world, "update t set n = 5 where id = 1").await;
    let record = world.gate.ledger().call(&call).await.unwrap().unwrap();
    assert_eq!(record.journal.as_deref(), Some(name.as_str()), "the intent names it");
    let entries = world.gate.ledger().log();
    let intent = entries.iter().rfind(|entry| entry.kind == "warrant_issued").unwrap();
    assert_eq!(intent.body()["journal"], json!(name));

    // Somebody gives the database another name, as if the address led to another.
    db.admin.batch_execute("update countersign.setting set journal = gen_random_uuid()").await.unwrap();
    let before = db.dump(&["t"]).await;
    let refusal = world.refusal("query", json!({"sql": "update t set n = 6"})).await;
    assert_eq!(refusal.code, Code::ToolFailed);
    assert!(refusal.message.contains("leads elsewhere now") && refusal.message.contains(&name), "{refusal}");
    assert_eq!(db.dump(&["t"]).await, before);
    let lost = CallId::parse("lost").unwrap();
    let doubt = Doubt { call: lost.clone(), journal: Some(name.clone()), witness: None };
    let why = disbelief(ask(&world, &doubt).await);
    assert!(why.contains("leads to another database"), "{why}");
    // Not even a record that is there: it may be of another call.
    let why = disbelief(ask(&world, &Doubt { call: call.clone(), ..doubt.clone() }).await);
    assert!(why.contains("leads to another database"), "{why}");
    let fenced = "select count(*) from countersign.call where state = 'fenced'";
    assert_eq!(db.admin.query_one(fenced, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(ask(&world, &Doubt { journal: None, ..doubt }).await, Ok(Recalled::Unknown));
    // The next call is recorded for what is there now.
    run(&world, "update t set n = 6 where id = 2").await;
    assert_ne!(journal(&world).await.unwrap(), name);
}

#[tokio::test]
async fn a_copy_and_an_older_state_are_no_proof_of_what_is_missing() {
    let db = target("copied", SCHEMA).await;
    let world = db.world(vec![reversible(&["t"])], ALLOW);
    db.prepare(&world, &["t"]).await;
    let call = run(&world, "update t set n = 5 where id = 1").await;
    let original = journal(&world).await.unwrap();
    let witness = run(&world, "update t set n = 5 where id = 2").await;
    let lost = Doubt { call: CallId::parse("lost").unwrap(), journal: Some(original.clone()), witness: None };

    // Another place of the same name: a copy in another cluster, database or timeline.
    let elsewhere = original.replace(".00000001", ".00000002");
    assert_ne!(elsewhere, original);
    let moved = Doubt { journal: Some(elsewhere.clone()), ..lost.clone() };
    assert!(disbelief(ask(&world, &moved).await).contains("proves nothing"));
    let happened = Doubt { call: call.clone(), journal: Some(elsewhere), witness: None };
    assert_eq!(ask(&world, &happened).await, Ok(Recalled::Happened { rows: 1, amount: None }));

    // The same place in an older state: it has forgotten a call that it committed.
    db.admin.batch_execute(&format!("delete from countersign.call where id = '{witness}'")).await.unwrap();
    let restored = Doubt { witness: Some(witness), ..lost.clone() };
    let why = disbelief(ask(&world, &restored).await);
    assert!(why.contains("older state"), "{why}");
    let count = "select count(*) from countersign.call where state = 'fenced'";
    assert_eq!(db.admin.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0, "and nothing was fenced");
    let fine = Doubt { witness: Some(call), ..lost };
    assert_eq!(ask(&world, &fine).await, Ok(Recalled::Never));
}

/// `CREATE DATABASE … TEMPLATE` is the nearest thing to a restored backup: everything is copied, the name too.
#[tokio::test]
async fn a_database_made_from_another_is_told_apart() {
    let db = target("template", SCHEMA).await;
    let world = db.world(vec![reversible(&["t"])], ALLOW);
    db.prepare(&world, &["t"]).await;
    let call = run(&world, "update t set n = 5 where id = 1").await;
    let original = journal(&world).await.unwrap();
    let mut url = url::Url::parse(&db.url).unwrap();
    url.set_path("/tools_undo_template_copy");
    let server = crate::postgres::connect(&server()).await;
    server.batch_execute("drop database if exists tools_undo_template_copy with (force)").await.unwrap();
    // Nobody may be connected to the database that is copied.
    server
        .batch_execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'tools_undo_template'",
        )
        .await
        .unwrap();
    server
        .batch_execute("create database tools_undo_template_copy template tools_undo_template")
        .await
        .unwrap();
    let copy = db.world_at(
        url.as_str(),
        vec![reversible(&["t"])],
        ALLOW,
        countersign_tools::definition::JournalSettings::default(),
    );
    let found = journal(&copy).await.unwrap();
    let name = |journal: &str| journal.split('@').next().unwrap().to_owned();
    assert_eq!(name(&found), name(&original));
    assert_ne!(found, original);
    let lost = Doubt {
        call: CallId::parse("lost").unwrap(),
        journal: Some(original.clone()),
        witness: Some(call.clone()),
    };
    assert!(disbelief(ask(&copy, &lost).await).contains("proves nothing"));
    let known = Doubt { call, ..lost };
    assert_eq!(ask(&copy, &known).await, Ok(Recalled::Happened { rows: 1, amount: None }));
    server.batch_execute("drop database tools_undo_template_copy with (force)").await.unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the server for tests is named by the environment")]
fn server() -> String {
    std::env::var("COUNTERSIGN_TEST_POSTGRES").expect("COUNTERSIGN_TEST_POSTGRES names a server")
}

#[tokio::test]
async fn a_database_prepared_by_an_older_version_takes_no_writes_until_it_is_prepared_again() {
    let db = target("older", SCHEMA).await;
    let world = db.world(vec![reversible(&["t"])], ALLOW);
    db.prepare(&world, &["t"]).await;
    db.admin
        .batch_execute(
            "drop function countersign.identity(); alter table countersign.setting drop column journal",
        )
        .await
        .unwrap();
    let refusal = world.refusal("query", json!({"sql": "update t set n = 6"})).await;
    assert!(refusal.message.contains("countersign system prepare"), "{refusal}");
    db.prepare(&world, &["t"]).await;
    run(&world, "update t set n = 6").await;
}

#[tokio::test]
async fn keys_that_a_rule_masks_are_masked_wherever_undo_tells_them() {
    let db = target(
        "masked",
        "create table person (mail text, n int, primary key (mail, n)); insert into person values ('secret@x', 1), ('other@x', 2);",
    )
    .await;
    let mut tool = reversible(&["person"]);
    tool.mask.insert("person.mail".into());
    let world = db.world(vec![tool], ALLOW);
    db.prepare(&world, &["person"]).await;
    let call = run(&world, "update person set n = n + 10").await;
    db.admin.batch_execute("update person set n = 99 where mail like 'secret%'").await.unwrap();
    let said = message(undo(&world, &call).await);
    assert!(said.contains("person (•••,1)"), "{said}");
    let done = world.done("undo_billing", json!({"call": call, "on_change": "skip"})).await;
    assert_eq!(done.reply["examples"], json!(["person (•••,1)"]));
    let left = world.gate.ledger().log().into_iter().rfind(|entry| entry.kind == "undone").unwrap();
    assert_eq!(left.body()["left"], json!({"changed_since": {"person": 1}}));
    for entry in world.gate.ledger().log() {
        assert!(!entry.body().to_string().contains("secret@"), "{:?}", entry);
    }
    assert!(!done.reply.to_string().contains("secret@") && !said.contains("secret@"));
}
