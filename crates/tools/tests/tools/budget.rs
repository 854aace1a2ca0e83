//! Budgets of rows over real databases: a call reserves what it is measured to reach, and what is advised where that does not
//! fit is true.

use countersign_gate::ledger::Ledger as _;
use countersign_rules::{
    Code, Effect,
    budget::{Budget, BudgetScope, BudgetWindow, Unit},
};
use countersign_tools::{
    AnyDefinition,
    definition::{ROWS_MAX_DEFAULT, SqlDefinition, SqlLimits, SystemDefinition},
};
use serde_json::json;

use crate::{
    harness::{ALLOW, TestVault, World, counted, from_agent, sqlite},
    postgres,
};

const LIMIT: u64 = 10;
const _: () = assert!(LIMIT < ROWS_MAX_DEFAULT, "what is measured is told from what is not");

fn budgeted(system: SystemDefinition, vault: TestVault, tool: SqlDefinition, effect_min: Effect) -> World {
    let budget = Budget {
        name: "rows".into(),
        scope: BudgetScope::Agent,
        window: BudgetWindow::Forever,
        unit: Unit::Rows,
        limit: LIMIT,
        tools: None,
        effect_min,
        halt_at: None,
    };
    World::budgeted(&[system], vault, &[AnyDefinition::Sql(tool)], ALLOW, vec![budget])
}

/// What the agent has spent, of its one account.
async fn spent(world: &World) -> u64 {
    let balances = world.gate.ledger().balances(10).await.unwrap();
    assert!(balances.iter().all(|(_, balance)| balance.held == 0), "{balances:?}");
    balances.first().map_or(0, |(_, balance)| balance.spent)
}

/// On twenty rows of `billing`, each with two of `line` that go with it. No rule looks at the reach: the budget alone does.
async fn a_rows_budget_measures(world: &World) {
    let sql = |sql: &str| json!({"sql": sql});
    assert_eq!(world.done("query", sql("update billing set minor = 7 where id = 1")).await.rows, 1);
    assert_eq!(spent(world).await, 1, "not all that one call may touch");
    assert!(world.gate.ledger().log().iter().any(|entry| entry.kind == "reach_measured"));
    // With what goes with it.
    assert_eq!(world.done("query", sql("delete from billing where id = 20")).await.rows, 3);
    assert_eq!(spent(world).await, 4);
    // Six are left. More do not fit; as it is told, fewer do.
    let refusal = world.refusal("query", sql("update billing set minor = 8 where id <= 7")).await;
    assert_eq!(refusal.code, Code::BudgetExhausted, "{refusal}");
    assert!(refusal.message.contains('7') && refusal.message.contains('6'), "{refusal}");
    let help = refusal.help.unwrap();
    assert!(help.contains("a smaller call may fit") && !help.contains("rows_max"), "{help}");
    assert_eq!(spent(world).await, 4, "nothing was charged");
    assert_eq!(world.done("query", sql("update billing set minor = 8 where id <= 6")).await.rows, 6);
    assert_eq!(spent(world).await, LIMIT);
    // Nothing is left, and no smaller call is spoken of.
    let refusal = world.refusal("query", sql("update billing set minor = 9 where id = 1")).await;
    assert_eq!(refusal.code, Code::BudgetExhausted, "{refusal}");
    let help = refusal.help.unwrap();
    assert!(help.contains("a person must raise the budget") && !help.contains("smaller"), "{help}");
    // What touches no row needs no room.
    assert_eq!(world.done("query", sql("update billing set minor = 9 where id > 100")).await.rows, 0);
}

/// What cannot be measured, such as a read, reserves what one call of its tool may touch. A lower bound makes it fit, as is
/// advised, and what was not used comes back.
async fn what_is_not_measured_reserves_what_its_tool_may_touch(
    world: impl Fn(u64, Effect) -> World,
    write: Option<&str>,
) {
    let read = "select id from billing where id <= 3";
    for (sql, effect_min, rows) in [(Some(read), Effect::Read, 3), (write, Effect::Write, 2)] {
        let Some(sql) = sql else { continue };
        let refusal = world(ROWS_MAX_DEFAULT, effect_min).refusal("query", json!({"sql": sql})).await;
        assert_eq!(refusal.code, Code::BudgetExhausted, "{sql}: {refusal}");
        let help = refusal.help.unwrap();
        assert!(help.contains("reserves its `rows_max`") && help.contains("lower that"), "{sql}: {help}");
        let lower = world(LIMIT, effect_min);
        assert_eq!(lower.done("query", json!({"sql": sql})).await.rows, rows, "{sql}");
        assert_eq!(spent(&lower).await, rows, "{sql}");
    }
}

fn tool(rows_max: u64) -> SqlDefinition {
    let mut tool = counted(from_agent("query", &["billing", "line"]));
    tool.tool.rows_max = rows_max;
    tool
}

#[tokio::test]
async fn on_sqlite() {
    let schema = "create table billing (id integer primary key, minor int);
        create table line (id integer primary key, billing int references billing on delete cascade);
        with recursive n (i) as (values (1) union all select i + 1 from n where i < 20) insert into billing select i, i from n;
        insert into line (billing) select id from billing union all select id from billing;";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("billing.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(schema).unwrap();
    let world =
        |rows_max, effect_min| budgeted(sqlite(&path), TestVault::default(), tool(rows_max), effect_min);
    a_rows_budget_measures(&world(ROWS_MAX_DEFAULT, Effect::Write)).await;
    what_is_not_measured_reserves_what_its_tool_may_touch(world, None).await;
}

async fn on_postgres(server: usize) {
    let db = postgres::database_on(postgres::SERVERS[server], "budget", 20).await;
    db.client.batch_execute("delete from note").await.unwrap();
    let world = |rows_max, effect_min| {
        let vault = TestVault::default().with("billing", "url", &db.url);
        budgeted(postgres::postgres(SqlLimits::default()), vault, tool(rows_max), effect_min)
    };
    a_rows_budget_measures(&world(ROWS_MAX_DEFAULT, Effect::Write)).await;
    let merge = "merge into billing b using (values (1), (2)) v (id) on b.id = v.id when matched then update set minor = 0";
    what_is_not_measured_reserves_what_its_tool_may_touch(world, Some(merge)).await;
}

#[tokio::test]
async fn on_the_machines_server() {
    on_postgres(0).await;
}

#[tokio::test]
async fn on_postgresql_18() {
    on_postgres(1).await;
}
