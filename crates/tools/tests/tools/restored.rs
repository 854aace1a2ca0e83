//! A ledger that was brought back to an older state over a database that was not: a granted call of it is in the database's
//! journal already.

use countersign_gate::{Answer, Recalled, ledger::CallOutcome, ledger::CallState, ledger::Ledger as _};
use countersign_rules::Code;
use countersign_tools::{
    AnyDefinition,
    definition::{
        JournalSettings, PostgresTarget, SqlDefinition, SqlLimits, SqliteTarget, SystemDefinition, Target,
    },
};
use serde_json::{Value, json};

use crate::{
    harness::{ASK, TestVault, World, from_agent, system},
    postgres_undo::{SHOP, SHOP_TABLES, on_each_server, reversible, target_on},
};

/// Both worlds give their calls the same ids, as two states of one ledger do.
const SEED: u64 = 1 << 40;

fn world(systems: &[SystemDefinition], url: Option<&str>, tool: SqlDefinition) -> World {
    let vault = TestVault::default();
    let vault = if let Some(url) = url { vault.with("billing", "url", url) } else { vault };
    World::seeded(SEED, systems, vault, &[AnyDefinition::Sql(tool)], ASK)
}

/// Approves the call in the newer world, and then in the older one, where it was asked but not performed yet.
async fn performs_it_from_both(newer: &World, older: &World, sql: &str) {
    let arguments: Value = json!({ "sql": sql });
    let (first, second) =
        (newer.pending("query", arguments.clone()).await, older.pending("query", arguments.clone()).await);
    assert_eq!((&first.call, &first.approval), (&second.call, &second.approval));
    assert!(matches!(newer.approve(&first.approval).await, Answer::Done(_)));

    let Answer::Refused(told) = older.approve(&second.approval).await else { panic!("performed twice") };
    let said = format!("{} {:?}", told.refusal, told.refusal.help);
    assert_eq!(told.refusal.code, Code::InDoubt, "{said}");
    assert!(said.contains("performed before") && !said.contains("nothing was charged"), "{said}");
    let ledger = older.gate.ledger();
    let record = ledger.call(&second.call).await.unwrap().unwrap();
    assert_eq!(record.state, CallState::InDoubt);
    // As the worker does, which asks about every call in doubt.
    let recalled = older.tools["query"].recall(&older.gate, &record).await.unwrap();
    assert_eq!(recalled, Recalled::Happened { rows: 1, amount: None });
    let record = ledger.call(&second.call).await.unwrap().unwrap();
    assert!(matches!(record.outcome, Some(CallOutcome::DoneWithoutResult { .. })), "{record:?}");
    // And whoever repeats it hears of that, and nobody is asked again.
    let Answer::Refused(again) = older.call("query", arguments).await else { panic!("performed again") };
    assert_eq!(again.refusal.code, Code::ResultRejected, "{}", again.refusal);
    assert!(again.refusal.message.contains("shows that it happened"), "{}", again.refusal);
}

#[tokio::test]
async fn on_sqlite_it_is_in_doubt_and_settled_as_happened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("billing.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch(
            "create table line (no integer primary key, n integer not null); insert into line values (1, 0)",
        )
        .unwrap();
    let journal = Some(JournalSettings::default());
    let target = SqliteTarget { path: path.clone(), limits: SqlLimits::default(), journal };
    let systems = [system("billing", Target::Sqlite(target))];
    let made = || {
        let mut tool = from_agent("query", &["line"]);
        tool.tool.reversible = true;
        world(&systems, None, tool)
    };
    let (newer, older) = (made(), made());
    let tool = &newer.tools["query"];
    let upkeep = newer.gate.upkeep(tool.spec());
    newer.systems.journal(&tool.spec().system.name).unwrap().prepare(&upkeep, None, &[]).await.unwrap();
    performs_it_from_both(&newer, &older, "update line set n = n + 1 where no = 1").await;
    let n: i64 = other.query_row("select n from line", [], |row| row.get(0)).unwrap();
    assert_eq!(n, 1);
}

on_each_server!(it_is_in_doubt_and_settled_as_happened);

async fn it_is_in_doubt_and_settled_as_happened(server: &str) {
    let db = target_on(server, "restored", SHOP).await;
    let target = PostgresTarget { journal: Some(JournalSettings::default()), ..PostgresTarget::default() };
    let systems = [system("billing", Target::Postgres(target))];
    let made = || world(&systems, Some(&db.url), reversible(&SHOP_TABLES));
    let (newer, older) = (made(), made());
    db.prepare(&newer, &["customer"]).await;
    performs_it_from_both(&newer, &older, "update invoice set total = total + 1 where id = 3").await;
    let total = db.admin.query_one("select total from invoice where id = 3", &[]).await.unwrap();
    assert_eq!(total.get::<_, i32>(0), 31);
}
