//! What is counted before a write is what the write then touches, or the most that it can.
//!
//! Schemas are made up with foreign keys of every action between every pair of tables, rings, shared columns and
//! keys of two columns among them; so are the rows, and statements of all kinds, those that change keys above all.

use std::fmt::Write as _;

use countersign_gate::Answer;
use countersign_rules::{Code, Reach};
use countersign_tools::{
    AnyDefinition,
    definition::{Rehearse, SqlLimits, SqliteTarget, Target},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use rusqlite::Connection;
use serde_json::json;

use crate::{
    harness::{ASK, TestVault, World, counted, from_agent, refused, sqlite, system},
    postgres::{Database, database},
};

const TABLES: [&str; 3] = ["t0", "t1", "t2"];
const ACTIONS: [&str; 7] =
    ["no action", "restrict", "cascade", "cascade", "cascade", "set null", "set default"];
/// How a key refers: its columns, and those of the parent.
const SHAPES: [(&str, &str); 6] =
    [("a", "id"), ("b", "id"), ("a", "u"), ("k", "id"), ("k", "k"), ("a, b", "id, n")];

#[derive(Debug, Clone)]
struct Key {
    child: usize,
    parent: usize,
    shape: usize,
    on_delete: &'static str,
    on_update: &'static str,
}

#[derive(Debug, Clone)]
struct Case {
    keys: Vec<Key>,
    /// For each table the rows, each with the rows that its `a` and `b` refer to.
    rows: Vec<Vec<(u8, usize, usize)>>,
    /// With the tables that they are about.
    statements: Vec<(&'static str, usize, usize, String)>,
}

fn case() -> impl Strategy<Value = Case> {
    let key = (0..3_usize, 0..3_usize, 0..SHAPES.len(), select(&ACTIONS[..]), select(&ACTIONS[..])).prop_map(
        |(child, parent, shape, on_delete, on_update)| Key { child, parent, shape, on_delete, on_update },
    );
    let predicate = prop_oneof![
        (1_u8..4, 0_u8..4).prop_map(|(k, r)| format!("{{t}}.id % {k} = {r}")),
        (0_u8..6).prop_map(|n| format!("{{t}}.n < {n}")),
        (0_u8..6).prop_map(|n| format!("{{t}}.id in (select n from t0 where n < {n})")),
        Just("{t}.id > 0".to_owned()),
    ];
    let statement = (select(&STATEMENTS[..]), 0..3_usize, 0..3_usize, predicate);
    let rows = vec(vec((0_u8..6, 0..6_usize, 0..6_usize), 3..7), 3);
    (vec(key, 2..6), rows, vec(statement, 4..8)).prop_map(|(keys, rows, statements)| Case {
        keys,
        rows,
        statements,
    })
}

/// `{t}` and `{o}` stand for tables, `{p}` for a condition. What only one database knows the other refuses.
const STATEMENTS: [&str; 20] = [
    "delete from {t} where {p}",
    "delete from {t} where {p}",
    "delete from {t} where {p}",
    "update {t} set id = id + 100 where {p}",
    "update {t} set id = id + 100 where {p}",
    "update {t} set id = -id, n = n where {p}",
    "update {t} set u = u + 100 where {p}",
    "update {t} set k = null where {p}",
    "update {t} set n = n + 1 where {p}",
    "update {t} set id = id + 100, a = a + 100 where {p}",
    "update {t} set id = id + 100, k = k + 100 where {p}",
    "update {t} set a = 1, id = id + 100 where {p}",
    "update {t} set b = null, n = 7 where {p}",
    "update {t} set id = {t}.id + 100 from {o} where {p} and {o}.n < 9",
    "insert into {t} (id, n, u) values (1, 5, 11), (90, 1, 12) on conflict (u) do update set id = {t}.id + 500",
    "insert into {t} (id, n, u) select {t}.id + 50, n, u from {t} where {p} on conflict (u) do update set n = 3",
    "insert or replace into {t} (id, n, u) values (1, 5, 12), (91, 1, 13)",
    "update or replace {t} set u = 11 where {p}",
    "update or replace {t} set id = 1 where {p}",
    "update {t} set rowid = rowid + 100 where {p}",
];

impl Key {
    fn constraint(&self) -> String {
        let (mine, theirs) = SHAPES[self.shape];
        format!(
            "foreign key ({mine}) references {} ({theirs}) on delete {} on update {} deferrable initially deferred",
            TABLES[self.parent], self.on_delete, self.on_update
        )
    }
}

impl Case {
    /// The tables; keys within them where they cannot be added later.
    fn tables(&self, within: bool) -> String {
        let mut out = String::new();
        for (at, table) in TABLES.iter().enumerate() {
            let keys: String = self
                .keys
                .iter()
                .filter(|key| within && key.child == at)
                .map(|key| format!(", {}", key.constraint()))
                .collect();
            writeln!(
                out,
                "create table {table} (id integer primary key, n integer not null, u integer unique, a integer default 1, \
                 b integer default 1, k integer unique, unique (id, n){keys});"
            )
            .unwrap();
        }
        out
    }

    fn added(&self) -> String {
        self.keys
            .iter()
            .map(|key| format!("alter table {} add {};\n", TABLES[key.child], key.constraint()))
            .collect()
    }

    /// The rows, which refer to nothing at first, and then to rows that there are.
    fn content(&self) -> String {
        let mut out = String::new();
        for (table, rows) in TABLES.iter().zip(&self.rows) {
            for (at, (n, ..)) in rows.iter().enumerate() {
                let id = at + 1;
                let u = if id % 3 == 0 { "null".to_owned() } else { (10 + id).to_string() };
                writeln!(
                    out,
                    "insert into {table} (id, n, u, a, b, k) values ({id}, {n}, {u}, null, null, null);"
                )
                .unwrap();
            }
        }
        for (at, (table, rows)) in TABLES.iter().zip(&self.rows).enumerate() {
            for (row, (_, a, b)) in rows.iter().enumerate() {
                for (column, value) in [("a", *a), ("b", *b), ("k", row + 1)] {
                    let referring: Vec<&Key> = self
                        .keys
                        .iter()
                        .filter(|key| key.child == at && SHAPES[key.shape].0.split(", ").any(|c| c == column))
                        .collect();
                    // A column that two keys share must suit both, and one of a pair goes with the other: `content`
                    // leaves those to what fits.
                    let [key] = referring.as_slice() else { continue };
                    let (mine, theirs) = SHAPES[key.shape];
                    writeln!(
                        out,
                        "update {table} set ({mine}) = (select {theirs} from {} where id = {value}) where id = {};",
                        TABLES[key.parent],
                        row + 1
                    )
                    .unwrap();
                }
            }
        }
        out
    }

    fn statements(&self) -> impl Iterator<Item = String> {
        self.statements.iter().map(|(text, table, other, predicate)| {
            text.replace("{p}", predicate).replace("{t}", TABLES[*table]).replace("{o}", TABLES[*other])
        })
    }
}

/// How often a count was the very number, a bound, unbounded, or without effect.
#[derive(Debug, Default)]
struct Tally {
    exact: u32,
    bound: u32,
    unbounded: u32,
    none: u32,
    cascades: u32,
}

impl Tally {
    /// Has a statement measured and performed, and compares.
    async fn check(&mut self, world: &World, sql: &str, context: &str) {
        let Answer::Pending(pending) = world.call("query", json!({ "sql": sql })).await else {
            self.none += 1;
            return;
        };
        let Some(reach) = pending.reach.clone() else {
            self.none += 1;
            return;
        };
        match world.approve(&pending.approval).await {
            Answer::Done(done) => {
                assert!(
                    reach.unbounded || reach.rows >= done.rows,
                    "{context}{sql}\n{reach:?}, {} touched",
                    done.rows
                );
                assert!(
                    !reach.exact || reach.rows == done.rows,
                    "{context}{sql}\n{reach:?}, {} touched",
                    done.rows
                );
                *if reach.exact { &mut self.exact } else { &mut self.bound } += 1;
                self.cascades += u32::from(done.rows > 0 && reach.cascades > 0);
            }
            // More was touched, in all or in a table, and nothing was changed.
            Answer::Pending(again) => {
                let now: Option<Reach> = again.reach;
                assert!(reach.unbounded, "{context}{sql}\n{reach:?} was counted, and it is {now:?}");
                self.unbounded += 1;
            }
            // A constraint refused it.
            _ => self.none += 1,
        }
    }

    fn judge(&self) {
        assert!(self.exact > 40 && self.bound > 20 && self.cascades > 30, "the cases say little: {self:?}");
        assert!(self.unbounded * 10 < self.exact + self.bound, "too much is not counted: {self:?}");
    }
}

fn cases(number: u32) -> impl Iterator<Item = Case> {
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[23; 32]));
    (0..number).map(move |_| case().new_tree(&mut runner).unwrap().current())
}

#[tokio::test]
async fn on_sqlite_no_count_is_below_what_the_write_touches() {
    let mut tally = Tally::default();
    for case in cases(120) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("billing.db");
        let connection = Connection::open(&path).unwrap();
        let context = case.tables(true) + &case.content();
        let setup = format!("pragma synchronous = off; {}begin; {}", case.tables(true), case.content());
        if connection.execute_batch(&setup).and_then(|()| connection.execute_batch("commit")).is_err() {
            continue;
        }
        let world = World::new(
            &[sqlite(&path)],
            TestVault::default(),
            &[AnyDefinition::Sql(counted(from_agent("query", &TABLES)))],
            ASK,
        );
        for sql in case.statements() {
            tally.check(&world, &sql, &context).await;
        }
    }
    tally.judge();
}

#[tokio::test]
async fn on_postgresql_no_count_is_below_what_the_write_touches() {
    let mut tally = Tally::default();
    let db: Database = database("reach", 0).await;
    for case in cases(90) {
        let setup = case.tables(false) + &case.content() + &case.added();
        db.client.batch_execute("drop table if exists t0, t1, t2 cascade").await.unwrap();
        if db.client.batch_execute(&setup).await.is_err() {
            continue;
        }
        let world = db.world(vec![counted(from_agent("query", &TABLES))], ASK);
        for sql in case.statements() {
            tally.check(&world, &sql, &setup).await;
        }
    }
    tally.judge();
}

/// What a statement is counted to reach, and what it touches when it is let.
async fn counted_and_touched(world: &World, sql: &str) -> (Reach, Option<u64>) {
    let pending = world.pending("query", json!({ "sql": sql })).await;
    let reach = pending.reach.clone().unwrap();
    match world.approve(&pending.approval).await {
        Answer::Done(done) => (reach, Some(done.rows)),
        _ => (reach, None),
    }
}

#[tokio::test]
async fn keys_to_partitions_and_children_and_rows_that_move_are_counted() {
    let db = database("reach_parts", 0).await;
    db.client
        .batch_execute(
            "create table part (id int, region text, primary key (id, region)) partition by list (region);
             create table part_eu partition of part for values in ('eu');
             create table part_us partition of part for values in ('us');
             alter table part_eu add unique (id);
             create table hung (ref int references part_eu (id) on delete cascade);
             insert into part select i, case when i < 4 then 'eu' else 'us' end from generate_series(1, 6) i;
             insert into hung values (1), (1), (2), (3), (null);
             create table base (id int primary key);
             create table kid (extra int unique, primary key (id)) inherits (base);
             create table y (ref int references kid (id) on delete cascade, e int references kid (extra) on delete cascade);
             insert into base values (1), (2);
             insert into kid values (3, 30), (4, 40);
             insert into y values (3, null), (null, 40), (4, 40), (null, null);
             create table shelf (id int, place int, primary key (id, place)) partition by list (place);
             create table shelf_1 partition of shelf for values in (1);
             create table shelf_2 partition of shelf for values in (2);
             insert into shelf select i, 1 from generate_series(1, 3) i;",
        )
        .await
        .unwrap();
    let tables = ["part", "hung", "base", "kid", "y", "shelf"];
    let world = db.world(vec![counted(from_agent("query", &tables))], ASK);
    // Each partition's and each child's rows are told as theirs when they are touched, so an approval of the whole
    // does not carry the call: what counts is that no number is too low.
    for (sql, really) in [
        ("delete from part where id in (1, 4)", 4),
        ("delete from base", 7),
        ("update shelf set place = 2", 6),
    ] {
        let (reach, touched) = counted_and_touched(&world, sql).await;
        assert!(reach.rows >= really && !reach.exact, "{sql}: {reach:?}");
        assert!(touched.is_none_or(|rows| rows == really), "{sql}: {touched:?}");
    }
    // The same rows named by their own table are counted to the row.
    let (reach, touched) = counted_and_touched(&world, "delete from hung where ref = 2").await;
    assert_eq!((reach.rows, reach.exact, touched), (1, true, Some(1)), "{reach:?}");
}

#[tokio::test]
async fn what_row_security_hides_is_no_reason_to_count_less() {
    let db = crate::postgres_undo::target(
        "reach_hidden",
        "create table box (id int primary key);
         create table thing (id int primary key, box int references box on delete cascade);
         insert into box values (1), (2);
         insert into thing select i, 1 from generate_series(1, 10) i;
         alter table thing enable row level security;
         create policy few on thing using (id < 3);",
    )
    .await;
    let vault = || TestVault::default().with("billing", "url", &db.url);
    let tool = || AnyDefinition::Sql(counted(from_agent("query", &["box", "thing"])));
    let system = || crate::postgres::postgres(SqlLimits::default());
    let world = World::new(&[system()], vault(), &[tool()], ASK);
    let reach = world.measured("query", json!({ "sql": "delete from box where id = 1" })).await;
    assert!(reach.unbounded && !reach.exact, "{reach:?}");
    // Its own rows: it can change no more than it sees.
    let reach = world.measured("query", json!({ "sql": "delete from thing" })).await;
    assert!(!reach.unbounded && !reach.exact && reach.rows == 2, "{reach:?}");
    // And no rule about numbers is passed by it.
    let world = World::new(&[system()], vault(), &[tool()], FEW);
    let sql = json!({ "sql": "delete from box where id = 1" });
    assert_eq!(world.refusal("query", sql).await.code, Code::DeniedByPolicy);
}

/// Permits what touches at most a hundred rows.
const FEW: &str = r#"
@id("reads") permit (principal, action, resource) when { context.effect == "read" };
@id("few") permit (principal, action, resource) when { context has reach && context.reach.rows <= 100 };
"#;

#[tokio::test]
async fn counting_that_stopped_passes_no_rule_about_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("billing.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("create table item (id integer primary key)").unwrap();
    for _ in 0..200 {
        connection.execute_batch("insert into item default values").unwrap();
    }
    let limits = SqlLimits { measure_rows_max: 10, ..SqlLimits::default() };
    let target = SqliteTarget { path, limits, journal: None };
    let tool = AnyDefinition::Sql(from_agent("query", &["item"]));
    let world = World::new(&[system("billing", Target::Sqlite(target))], TestVault::default(), &[tool], FEW);
    let refusal = world.refusal("query", json!({ "sql": "delete from item" })).await;
    assert_eq!(refusal.code, Code::DeniedByPolicy, "{refusal}");
    world.done("query", json!({ "sql": "delete from item where id < 5" })).await;
}

#[tokio::test]
async fn emptying_a_table_with_all_that_refers_to_it_is_counted_and_held_to_it() {
    let db = database("reach_truncate", 4).await;
    let tool = crate::harness::fixed(
        "empty",
        countersign_rules::DeclaredEffect::Destructive,
        json!({}),
        "truncate customer cascade",
    );
    let world = db.world(vec![tool], ASK);
    let pending = world.pending("empty", json!({})).await;
    let reach = pending.reach.clone().unwrap();
    // customer 3, billing 4, line 8, note 0
    assert_eq!((reach.rows, reach.tables["line"], reach.tables["billing"]), (15, 8, 4), "{reach:?}");
    db.client.batch_execute("insert into line (billing) values (1)").await.unwrap();
    refused(world.approve(&pending.approval).await, Code::ApprovalSuperseded);
    // What became of that request is told first.
    refused(world.call("empty", json!({})).await, Code::ApprovalSuperseded);
    let again = world.pending("empty", json!({})).await;
    assert_eq!(again.reach.as_ref().unwrap().rows, 16, "{again:?}");
    let Answer::Done(done) = world.approve(&again.approval).await else { panic!("it is approved now") };
    assert_eq!(done.rows, 16);
}

#[tokio::test]
async fn values_that_sqlite_compares_its_own_way_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("billing.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "create table a (id text collate nocase primary key, n integer);
             create table b (a text references a on delete cascade);
             create table c (id integer primary key, n integer);
             create table d (c text references c on delete cascade);
             create table e (c integer references c on delete cascade on update cascade);
             insert into a values ('X', 1), ('y', 2);
             insert into b values ('x'), ('X'), ('Y');
             insert into c values (1, 1), (2, 2), (7, 7);
             insert into d values ('1'), ('01');
             insert into e values (1), (1), (2);",
        )
        .unwrap();
    let tool = AnyDefinition::Sql(from_agent("query", &["a", "c"]));
    let world = World::new(&[sqlite(&path)], TestVault::default(), &[tool], ASK);
    let mut tally = Tally::default();
    for sql in [
        "delete from a where n = 1",
        "update c set rowid = rowid + 10 where id = 2",
        "delete from c where id = 1",
    ] {
        tally.check(&world, sql, "").await;
        assert_eq!(tally.none, 0, "{sql}");
    }
    assert_eq!((tally.exact + tally.bound, tally.none), (3, 0), "{tally:?}");
    assert!(tally.cascades >= 2, "{tally:?}");
}

#[tokio::test]
async fn measuring_takes_no_more_of_the_server_than_it_may() {
    let db = database("reach_sparing", 20).await;
    db.client
        .batch_execute(
            "alter database tools_reach_sparing set max_parallel_workers_per_gather = 4;
             alter database tools_reach_sparing set jit = on;
             alter database tools_reach_sparing set statement_timeout = 0;",
        )
        .await
        .unwrap();
    let limits = SqlLimits { measure_timeout_ms: 4_321, lock_timeout_ms: 1_234, ..SqlLimits::default() };
    let tool = AnyDefinition::Sql(from_agent("query", &["billing"]));
    let vault = TestVault::default().with("billing", "url", &db.url);
    let world = World::new(&[crate::postgres::postgres(limits)], vault, &[tool], ASK);
    for (setting, value) in [
        ("max_parallel_workers_per_gather", "0"),
        ("jit", "off"),
        ("statement_timeout", "4321ms"),
        ("lock_timeout", "1234ms"),
        ("idle_in_transaction_session_timeout", "9321ms"),
        ("transaction_read_only", "on"),
        ("transaction_isolation", "repeatable read"),
    ] {
        // What the measuring session says of itself decides what it finds.
        let sql = format!("delete from billing where current_setting('{setting}') = '{value}'");
        let reach = world.measured("query", json!({ "sql": sql })).await;
        assert_eq!(reach.rows, 62, "{setting} is not `{value}`: {reach:?}");
    }
}

#[tokio::test]
async fn why_a_reach_is_not_known_is_told_truly_and_without_values() {
    let db = crate::postgres_undo::target(
        "reach_errors",
        "create table item (id int primary key, n int, secret text);
         create table closed (id int primary key, item int references item on delete cascade);
         create table single (id int primary key, item int unique);
         insert into item values (1, 1, 'hunter2'), (2, 2, 'hunter3');
         insert into single values (1, 1), (2, 2);
         revoke all on closed from tools_undo_reach_errors;",
    )
    .await;
    let world = |rehearse| {
        let limits =
            SqlLimits { rehearse, measure_timeout_ms: 700, lock_timeout_ms: 200, ..SqlLimits::default() };
        let vault = TestVault::default().with("billing", "url", &db.url);
        let tool = AnyDefinition::Sql(from_agent("query", &["item", "single"]));
        World::new(&[crate::postgres::postgres(limits)], vault, &[tool], ASK)
    };
    for rehearse in [Rehearse::Never, Rehearse::Always] {
        let world = world(rehearse);
        let refusal = async |sql: &str| world.refusal("query", json!({ "sql": sql })).await;
        for sql in [
            // No grant, no column, a value that is none.
            "delete from item where id = 1",
            "update single set item = 3 where nothing = 1",
            "update single set item = 3 where id = (select secret::int from item where id = 1)",
        ] {
            let said = refusal(sql).await;
            assert_eq!(said.code, Code::ToolFailed, "{sql}: {said}");
            assert!(!said.message.contains("hunter"), "{sql}: {said}");
        }
        let slow = "update single set item = 3 where id in (select count(*) from generate_series(1, 4000) a, generate_series(1, 100000) b)";
        assert_eq!(refusal(slow).await.code, Code::ReachUnmeasurable, "{rehearse:?}");
        db.admin.batch_execute("begin; lock table single in access exclusive mode").await.unwrap();
        let locked = refusal("update single set item = 3 where id = 1").await;
        db.admin.batch_execute("rollback").await.unwrap();
        assert_eq!(locked.code, Code::ReachUnmeasurable, "{rehearse:?}: {locked}");
    }
    // What a rehearsal runs into the real call would run into.
    let said = world(Rehearse::Always).refusal("query", json!({ "sql": "update single set item = 9" })).await;
    assert_eq!(said.code, Code::ToolFailed, "{said}");
    assert!(said.message.contains("23505") && !said.message.contains("(9)"), "{said}");
}
