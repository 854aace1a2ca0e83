//! SQLite files.

use std::collections::BTreeSet;

use countersign_gate::Answer;
use countersign_rules::{Code, DeclaredEffect};
use countersign_tools::{
    AnyDefinition, AnyTool, Systems,
    definition::{SqlDefinition, SqlLimits, SqliteTarget, Target},
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    ALLOW, ASK, AT_MOST_THREE, TestVault, World, answers_how_many_rows_it_changed, changing, counted, fixed,
    from_agent, refused, sqlite, system,
};

const SCHEMA: &str = "
    create table customer (id integer primary key, name text not null, boss integer references customer on delete cascade);
    create table billing (id integer primary key, customer integer references customer on delete cascade,
                          created_at text not null, minor integer not null, secret text default 'hidden');
    create table line (id integer primary key, billing integer references billing (id) on delete cascade, text text);
    create table note (id integer primary key, billing integer references billing (id) on delete set null);
    create table other (id integer primary key);
    insert into customer values (1, 'ada', null), (2, 'bob', 1), (3, 'cyd', 2);
    insert into other values (1);
";

/// A file with `rows` billing rows, each with two lines, and one note for every tenth.
fn database(rows: i64) -> (TempDir, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let connection = Connection::open(folder.path().join("billing.db")).unwrap();
    connection.execute_batch("pragma journal_mode = wal").unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    for id in 1..=rows {
        let month = if id % 2 == 0 { "2026-01-15" } else { "2026-02-15" };
        connection
            .execute(
                "insert into billing (id, customer, created_at, minor) values (?1, 1, ?2, ?1)",
                (id, month),
            )
            .unwrap();
        connection.execute("insert into line (billing, text) values (?1, 'a'), (?1, 'b')", [id]).unwrap();
        if id % 10 == 0 {
            connection.execute("insert into note (billing) values (?1)", [id]).unwrap();
        }
    }
    (folder, connection)
}

fn world(folder: &TempDir, definitions: Vec<SqlDefinition>, policy: &str) -> World {
    let definitions: Vec<_> = definitions.into_iter().map(AnyDefinition::Sql).collect();
    World::new(&[sqlite(&folder.path().join("billing.db"))], TestVault::default(), &definitions, policy)
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0)).unwrap()
}

fn error(folder: &TempDir, definition: SqlDefinition) -> String {
    let vault: std::sync::Arc<dyn countersign_gate::Vault> = std::sync::Arc::new(TestVault::default());
    let systems = Systems::new(&[sqlite(&folder.path().join("billing.db"))], &vault).unwrap();
    let error = AnyTool::new(&AnyDefinition::Sql(definition), &systems).unwrap_err();
    error.to_string()
}

#[tokio::test]
async fn a_fixed_read_binds_its_arguments_and_returns_typed_rows() {
    let (folder, connection) = database(3);
    connection
        .execute_batch(
            "create table kinds (i integer, big integer, r real, t text, b blob, n text);
             insert into kinds values (1, 9007199254740993, 1.5, 'x', x'010203', null)",
        )
        .unwrap();
    let by_id = fixed(
        "by_id",
        DeclaredEffect::Read,
        json!({"id": {"type": "integer"}}),
        "select id, created_at from billing where id = :id",
    );
    let kinds = fixed("kinds", DeclaredEffect::Read, json!({}), "select * from kinds");
    let world = world(&folder, vec![by_id, kinds], ALLOW);
    let done = world.done("by_id", json!({"id": 2})).await;
    let expected =
        json!({"rows": [{"id": 2, "created_at": "2026-01-15"}], "row_count": 1, "truncated": false});
    assert_eq!(done.reply, expected);
    assert_eq!(done.rows, 1);
    let row = json!({"i": 1, "big": "9007199254740993", "r": 1.5, "t": "x", "b": "AQID", "n": null});
    assert_eq!(world.done("kinds", json!({})).await.reply["rows"][0], row);
    refused(world.call("by_id", json!({"id": "2"})).await, Code::InvalidArguments);
    refused(world.call("by_id", json!({"id": 2, "x": 1})).await, Code::InvalidArguments);
}

#[tokio::test]
async fn an_argument_is_never_part_of_the_statement() {
    let (folder, connection) = database(3);
    let find = fixed(
        "find",
        DeclaredEffect::Read,
        json!({"name": {"type": "string"}}),
        "select id from customer where name = :name",
    );
    let rename = fixed(
        "rename",
        DeclaredEffect::Write,
        json!({"id": {"type": "integer"}, "name": {"type": "string"}}),
        "update customer set name = :name where id = :id",
    );
    let world = world(&folder, vec![find, rename], ALLOW);
    for attack in
        ["' or '1'='1", "ada'; drop table customer; --", "\\'; delete from billing", ":name", "x\u{0}y"]
    {
        assert_eq!(world.done("find", json!({"name": attack})).await.rows, 0, "{attack}");
        assert_eq!(world.done("rename", json!({"id": 2, "name": attack})).await.rows, 1);
        let stored: String =
            connection.query_row("select name from customer where id = 2", [], |r| r.get(0)).unwrap();
        assert_eq!(stored, attack);
    }
    assert_eq!(count(&connection, "billing"), 3);
    assert_eq!(count(&connection, "customer"), 3);
}

#[tokio::test]
async fn results_stop_at_the_row_cap_and_at_the_byte_cap() {
    let (folder, _connection) = database(20);
    let mut few = fixed("few", DeclaredEffect::Read, json!({}), "select id from billing order by id");
    few.tool.rows_max = 5;
    let world_few = world(&folder, vec![few], ALLOW);
    let done = world_few.done("few", json!({})).await;
    assert_eq!((done.rows, &done.reply["truncated"]), (5, &json!(true)));

    let limits = SqlLimits { result_bytes_max: 100, ..SqlLimits::default() };
    let target = SqliteTarget { path: folder.path().join("billing.db"), limits, journal: None };
    let all = AnyDefinition::Sql(from_agent("all", &["billing"]));
    let world = World::new(&[system("billing", Target::Sqlite(target))], TestVault::default(), &[all], ALLOW);
    let done = world.done("all", json!({"sql": "select id from billing"})).await;
    assert!(done.rows < 20 && done.reply["truncated"] == json!(true), "{:?}", done.reply);
    let refusal =
        world.refusal("all", json!({"sql": "select printf('%200s', 'x') as wide from billing"})).await;
    assert_eq!(refusal.code, Code::ToolFailed);
    assert!(refusal.message.contains("bytes"), "{refusal}");
}

#[tokio::test]
async fn a_read_that_takes_too_long_is_stopped() {
    let (folder, _connection) = database(1);
    let limits = SqlLimits { statement_timeout_ms: 50, ..SqlLimits::default() };
    let target = SqliteTarget { path: folder.path().join("billing.db"), limits, journal: None };
    let any = AnyDefinition::Sql(from_agent("any", &["billing"]));
    let world = World::new(&[system("billing", Target::Sqlite(target))], TestVault::default(), &[any], ALLOW);
    let endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select max(x) from n";
    let refusal = world.refusal("any", json!({"sql": endless})).await;
    assert!(refusal.message.contains("too long"), "{refusal}");
    // The connection is fit for the next call.
    assert_eq!(
        world.done("any", json!({"sql": "select count(*) as n from billing"})).await.reply["rows"][0]["n"],
        1
    );
}

#[tokio::test]
async fn agents_reach_only_the_tables_of_the_tool() {
    let (folder, connection) = database(3);
    let world = world(&folder, vec![from_agent("query", &["billing", "line"])], ALLOW);
    for sql in [
        "select * from other",
        "select * from sqlite_master",
        "select 1; delete from billing",
        "pragma query_only = off",
        "attach 'x.db' as x",
        "delete from other",
        "with x as (select * from customer) select * from x",
        "select (select name from customer limit 1) from billing",
        "insert or replace into other values (1)",
        "begin",
        "vacuum into 'copy.db'",
        "select load_extension('x')",
        "drop table other",
        "",
    ] {
        let refusal = world.refusal("query", json!({"sql": sql})).await;
        assert!(matches!(refusal.code, Code::StatementRefused | Code::InvalidArguments), "{sql}: {refusal}");
    }
    assert_eq!(count(&connection, "other"), 1);
    assert_eq!(count(&connection, "billing"), 3);
    assert_eq!(
        world.done("query", json!({"sql": "select count(*) as n from line"})).await.reply["rows"][0]["n"],
        6
    );
}

/// The rows that `REPLACE` deletes, and what goes with them, are counted before and held to.
#[tokio::test]
async fn rows_that_replace_deletes_are_counted_and_asked_for() {
    let (folder, connection) = database(3);
    let world = world(&folder, vec![from_agent("query", &["billing"])], ASK);
    let sql = "insert or replace into billing values (1, 1, 'new', 7, null), (9, 1, 'new', 7, null)";
    let pending = world.pending("query", json!({"sql": sql})).await;
    let reach = pending.reach.clone().unwrap();
    // Two rows inserted, one replaced, its two lines with it.
    assert_eq!((reach.rows, reach.exact, reach.cascades), (5, true, 2));
    assert_eq!(reach.tables, [("billing".into(), 3), ("line".into(), 2)].into());
    assert_eq!((count(&connection, "billing"), count(&connection, "line")), (3, 6), "nothing has happened");
    // One more line, and it is asked for anew.
    connection.execute("insert into line (billing) values (1)", []).unwrap();
    let Answer::Pending(again) = world.approve(&pending.approval).await else { panic!("it reaches further") };
    assert_eq!(again.reach.clone().unwrap().rows, 6);
    assert_eq!(count(&connection, "line"), 7, "nothing has happened");
    let Answer::Done(done) = world.approve(&again.approval).await else { panic!("it was approved") };
    assert_eq!(done.rows, 6);
    assert_eq!(count(&connection, "line"), 4);
}

/// Without a rowid, all rows at once, from another table: each row is told by itself.
#[tokio::test]
async fn every_way_to_change_rows_is_counted_by_table() {
    let (folder, connection) = database(4);
    connection
        .execute_batch(
            "create table label (name text primary key, n integer) without rowid;
             create table copy (id integer primary key, billing integer, text text);
             insert into label values ('a', 1), ('b', 2), ('c', 3);",
        )
        .unwrap();
    let tables = ["label", "copy", "line", "other"];
    let world = world(&folder, vec![from_agent("query", &tables)], ASK);
    for (sql, table, rows) in [
        ("delete from label", "label", 3),
        ("update label set name = name || 'x', n = 0", "label", 3),
        ("delete from line", "line", 8),
        ("insert into copy select * from line", "copy", 8),
        (
            "insert into label values ('a', 9), ('d', 4), ('e', 5) on conflict (name) do update set n = 0",
            "label",
            3,
        ),
    ] {
        let pending = world.pending("query", json!({"sql": sql})).await;
        let before = pending.reach.clone().unwrap();
        assert_eq!(before.tables, [(table.to_owned(), rows)].into(), "{sql}");
        match world.approve(&pending.approval).await {
            Answer::Done(done) => assert_eq!(done.rows, rows, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
        connection
            .execute_batch("delete from label; insert into label values ('a', 1), ('b', 2), ('c', 3);")
            .unwrap();
        if table == "line" {
            connection.execute_batch("insert into line (billing, text) select 1 + n % 4, 'a' from (with recursive c(n) as (select 1 union all select n + 1 from c where n < 8) select n from c)").unwrap();
        }
    }
}

#[tokio::test]
async fn the_incident_is_measured_held_and_stopped() {
    let (folder, connection) = database(200);
    let mut query = from_agent("query", &["billing"]);
    query.mask.insert("secret".into());
    let world = world(&folder, vec![query], ASK);
    let pending =
        world.pending("query", json!({"sql": "DELETE FROM billing WHERE created_at < '2026-02-01'"})).await;
    let (reach, evidence) = world.shown(&pending).await;
    assert_eq!(reach.tables["billing"], 100);
    assert_eq!(reach.tables["line"], 200);
    assert_eq!(reach.tables["note"], 20);
    assert_eq!((reach.rows, reach.cascades, reach.exact, reach.unbounded), (320, 220, true, false));
    let sample = evidence.unwrap().sample;
    assert_eq!(sample.rows.len(), 5);
    let secret = sample.columns.iter().position(|c| c == "secret").unwrap();
    assert!(sample.rows.iter().all(|row| row[secret].as_deref() == Some("•••")), "{:?}", sample.rows);
    assert_eq!(count(&connection, "billing"), 200, "nothing may be deleted before a person approves");

    let Answer::Done(done) = world.approve(&pending.approval).await else { panic!("not done") };
    assert_eq!(done.rows, 320);
    assert_eq!((count(&connection, "billing"), count(&connection, "line")), (100, 200));
}

#[tokio::test]
async fn a_write_that_outgrows_its_approval_is_rolled_back() {
    let (folder, connection) = database(20);
    let world = world(&folder, vec![from_agent("query", &["line"])], ASK);
    let pending = world.pending("query", json!({"sql": "update line set text = 'x' where text = 'a'"})).await;
    assert_eq!(world.shown(&pending).await.0.rows, 20);
    // Between the count of the second decision and the statement there is a moment that a writer can use;
    // a trigger makes it happen every time.
    connection.execute_batch(
        "create trigger more after update of text on line when new.id = 1 begin insert into line (text) values ('t'); end",
    ).unwrap();
    let answer = world.approve(&pending.approval).await;
    let refusal = refused(answer, Code::ApprovalSuperseded);
    assert!(refusal.message.contains("further"), "{refusal}");
    let untouched: i64 =
        connection.query_row("select count(*) from line where text = 'x'", [], |r| r.get(0)).unwrap();
    assert_eq!((untouched, count(&connection, "line")), (0, 40));
}

#[tokio::test]
async fn rows_beyond_the_warrant_are_rolled_back_triggers_and_cascades_included() {
    let (folder, connection) = database(4);
    let delete = fixed(
        "delete",
        DeclaredEffect::Destructive,
        json!({"id": {"type": "integer"}}),
        "delete from billing where id = :id",
    );
    let world = world(&folder, vec![counted(delete)], AT_MOST_THREE);
    // One row and its two lines.
    assert_eq!(world.done("delete", json!({"id": 1})).await.rows, 3);
    connection
        .execute_batch("create trigger log after delete on line begin insert into other values (null); end")
        .unwrap();
    // Measured as three again, because what a trigger does cannot be counted; really five.
    let refusal = world.refusal("delete", json!({"id": 2})).await;
    assert_eq!(refusal.code, Code::DeniedByPolicy, "{refusal}");
    assert_eq!(
        (count(&connection, "billing"), count(&connection, "line"), count(&connection, "other")),
        (3, 6, 1)
    );
    let (code, message) = world.failures().await.remove(0);
    assert_eq!(code, Code::ReachExceeded);
    assert!(message.contains("5 rows"), "{message}");
}

#[tokio::test]
async fn a_table_that_refers_to_itself_is_counted_to_the_end() {
    let (folder, connection) = database(0);
    let world = world(&folder, vec![from_agent("query", &["customer"])], ASK);
    let pending = world.pending("query", json!({"sql": "delete from customer where id = 1"})).await;
    let (reach, _) = world.shown(&pending).await;
    assert_eq!((reach.rows, reach.cascades, reach.exact), (3, 2, true));
    let Answer::Done(done) = world.approve(&pending.approval).await else { panic!("not done") };
    assert_eq!(done.rows, 3);
    assert_eq!(count(&connection, "customer"), 0);
}

#[tokio::test]
async fn counting_stops_at_its_limit_and_says_so() {
    let (folder, _connection) = database(30);
    let limits = SqlLimits { measure_rows_max: 10, ..SqlLimits::default() };
    let target = SqliteTarget { path: folder.path().join("billing.db"), limits, journal: None };
    let any = AnyDefinition::Sql(from_agent("any", &["line"]));
    let world = World::new(&[system("billing", Target::Sqlite(target))], TestVault::default(), &[any], ASK);
    let reach = world.measured("any", json!({"sql": "delete from line"})).await;
    assert_eq!((reach.rows, reach.exact, reach.unbounded), (11, false, true));
}

#[tokio::test]
async fn dropping_a_table_counts_its_rows_and_what_goes_with_them() {
    let (folder, connection) = database(3);
    let world = world(&folder, vec![from_agent("query", &["billing", "other"])], ASK);
    let reach = world.measured("query", json!({"sql": "drop table billing"})).await;
    assert_eq!((reach.tables["billing"], reach.tables["line"]), (3, 6));
    let pending = world.pending("query", json!({"sql": "drop table other"})).await;
    assert_eq!(pending.reach.as_ref().unwrap().rows, 1);
    assert!(matches!(world.approve(&pending.approval).await, Answer::Done(_)));
    assert_eq!(
        connection
            .query_row("select count(*) from sqlite_master where name = 'other'", [], |r| r.get::<_, i64>(0))
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn a_write_that_fails_changes_nothing_and_says_why() {
    let (folder, connection) = database(2);
    let insert = fixed(
        "insert",
        DeclaredEffect::Write,
        json!({"id": {"type": "integer"}}),
        "insert into billing (id, created_at, minor) values (100, '', 0), (:id, '', 0) returning id",
    );
    let world = world(&folder, vec![insert], ALLOW);
    let refusal = world.refusal("insert", json!({"id": 1})).await;
    assert_eq!(refusal.code, Code::ToolFailed);
    assert!(refusal.message.contains("UNIQUE"), "{refusal}");
    assert_eq!(count(&connection, "billing"), 2);
    let done = world.done("insert", json!({"id": 3})).await;
    assert_eq!((done.rows, &done.reply["rows"]), (2, &json!([{"id": 100}, {"id": 3}])));
}

#[tokio::test]
async fn a_change_without_columns_answers_how_many_rows_it_changed() {
    let (folder, _connection) = database(3);
    let world = world(&folder, changing(), ALLOW);
    answers_how_many_rows_it_changed(&world).await;
}

#[tokio::test]
async fn a_locked_missing_or_broken_file_is_an_answer() {
    let (folder, connection) = database(2);
    let limits = SqlLimits { lock_timeout_ms: 20, ..SqlLimits::default() };
    let target = SqliteTarget { path: folder.path().join("billing.db"), limits, journal: None };
    let any = || AnyDefinition::Sql(from_agent("any", &["line"]));
    let world =
        World::new(&[system("billing", Target::Sqlite(target))], TestVault::default(), &[any()], ALLOW);
    connection.execute_batch("begin immediate").unwrap();
    let refusal = world.refusal("any", json!({"sql": "delete from line"})).await;
    assert_eq!(refusal.code, Code::SystemUnavailable);
    connection.execute_batch("rollback").unwrap();

    std::fs::write(
        folder.path().join("broken.db"),
        "not a database, but long enough to be looked at: ".repeat(20),
    )
    .unwrap();
    for file in ["missing.db", "broken.db"] {
        let path = folder.path().join(file);
        let world = World::new(&[sqlite(&path)], TestVault::default(), &[any()], ALLOW);
        for sql in ["select 1 from line", "delete from line"] {
            let refusal = world.refusal("any", json!({"sql": sql})).await;
            assert_eq!(refusal.code, Code::SystemUnavailable, "{refusal}");
            assert!(!refusal.message.contains(folder.path().to_str().unwrap()), "{refusal}");
        }
    }
    assert!(!folder.path().join("missing.db").exists(), "a database is never created");
}

#[tokio::test]
async fn a_result_that_breaks_its_schema_is_refused_before_the_commit() {
    let (folder, connection) = database(2);
    let mut insert =
        fixed("insert", DeclaredEffect::Write, json!({}), "insert into other values (7) returning id");
    insert.tool.result = Some(json!({
        "type": "object",
        "properties": {"rows": {"type": "array", "maxItems": 0}},
        "required": ["rows"],
        "additionalProperties": true,
    }));
    let world = world(&folder, vec![insert], ALLOW);
    let refusal = world.refusal("insert", json!({})).await;
    assert_eq!(refusal.code, Code::ToolFailed);
    assert_eq!(count(&connection, "other"), 1);
}

#[test]
fn definitions_that_do_not_hold_are_refused() {
    let (folder, _connection) = database(0);
    let none = json!({});
    let id = json!({"id": {"type": "integer"}});
    let read = DeclaredEffect::Read;
    let check = |definition: SqlDefinition, expected: &str| {
        let message = error(&folder, definition);
        assert!(message.contains(expected), "{message}");
    };
    check(
        fixed("t", read, none.clone(), "select * from billing where id = :id"),
        "`:id`, which is no argument",
    );
    check(fixed("t", read, id.clone(), "select * from billing"), "`id` is not used");
    check(fixed("t", read, none.clone(), "selec 1"), "not valid");
    check(fixed("t", read, none.clone(), "select 1; select 2"), "2 statements");
    check(fixed("t", read, id.clone(), "delete from billing where id = :id"), "seen to be `destructive`");
    check(fixed("t", DeclaredEffect::Write, none.clone(), "delete from billing"), "seen to be `destructive`");
    check(fixed("t", DeclaredEffect::FromStatement, none.clone(), "select 1"), "from_statement");
    check(fixed("t", read, none.clone(), "begin"), "transaction");
    let mut outside = fixed("t", read, none, "select * from billing");
    outside.tables.insert("line".into());
    check(outside, "`billing` is not one of the tool's tables");
    check(from_agent("t", &[]), "`tables`: is missing");
    let mut recognising = from_agent("t", &["billing"]);
    recognising.tool.idempotent = true;
    check(recognising, "no database recognises a repeated call");
    let mut undescribed = from_agent("t", &["billing"]);
    undescribed.tool.description = " ".into();
    check(undescribed, "description");
    let mut with_arguments = from_agent("t", &["billing"]);
    with_arguments.tool.arguments = id;
    check(with_arguments, "arguments");
}

#[test]
fn a_changed_definition_is_another_version() {
    let (folder, _connection) = database(0);
    let version =
        |definition: SqlDefinition| world(&folder, vec![definition], ALLOW).tools["t"].spec().version.clone();
    let base = || fixed("t", DeclaredEffect::Read, json!({}), "select id from billing");
    let first = version(base());
    assert_eq!(first, version(base()));
    assert!(first.as_str().starts_with("sha256:"), "{first}");
    assert_ne!(first, version(fixed("t", DeclaredEffect::Read, json!({}), "select minor from billing")));
    let mut other = base();
    other.tool.rows_max = 1;
    assert_ne!(first, version(other));
    let mut masked = base();
    masked.mask.insert("id".into());
    assert_ne!(first, version(masked));
}

#[test]
fn agents_see_one_argument_and_the_reason() {
    let (folder, _connection) = database(0);
    let world = world(&folder, vec![from_agent("query", &["billing"])], ALLOW);
    let advertised = world.tools["query"].advertised();
    let names: BTreeSet<&str> =
        advertised["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["countersign_reason", "sql"]));
    assert_eq!(advertised["additionalProperties"], Value::Bool(false));
}

#[tokio::test]
async fn a_statement_the_database_does_not_understand_is_the_agents_to_correct() {
    let (folder, _connection) = database(2);
    let world = world(&folder, vec![from_agent("query", &["billing"])], ASK);
    let sql = "delete from billing where no_such_column = 1";
    let refusal = refused(world.call("query", json!({ "sql": sql })).await, Code::ToolFailed);
    assert!(refusal.message.contains("no_such_column"), "{refusal}");
}

#[tokio::test]
async fn two_hundred_writers_of_one_file_have_their_turn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let file = Connection::open(&path).unwrap();
    file.execute_batch("create table mark (id integer primary key, n int)").unwrap();
    // A lock of others is hardly waited for; their own is, as long as a statement may take.
    let limits = SqlLimits { lock_timeout_ms: 100, statement_timeout_ms: 300_000, ..SqlLimits::default() };
    let target = Target::Sqlite(SqliteTarget { path: path.clone(), limits, journal: None });
    let arguments = json!({ "n": { "type": "integer" } });
    let tool = fixed("mark", DeclaredEffect::Write, arguments, "insert into mark (n) values (:n)");
    let world =
        World::new(&[system("billing", target)], TestVault::default(), &[AnyDefinition::Sql(tool)], ALLOW);
    let world = std::sync::Arc::new(world);
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..200 {
        let world = std::sync::Arc::clone(&world);
        writers.spawn(async move { world.call("mark", json!({ "n": n })).await });
    }
    for answer in writers.join_all().await {
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    }
    let marks: i64 = file.query_row("select count(distinct n) from mark", [], |row| row.get(0)).unwrap();
    assert_eq!(marks, 200);
}
