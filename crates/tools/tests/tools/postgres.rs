//! PostgreSQL, at the server that `COUNTERSIGN_TEST_POSTGRES` names. Each test has a database of its own.

use countersign_gate::{Answer, Gate, simulation::SimLedger};
use countersign_rules::{Code, DeclaredEffect, SystemName};
use countersign_tools::{
    AnyDefinition,
    definition::{PostgresTarget, SqlDefinition, SqlLimits, SystemDefinition, Target},
};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

use crate::harness::{
    ALLOW, ASK, AT_MOST_THREE, TestVault, World, answers_how_many_rows_it_changed, changing, counted, fixed,
    from_agent, refused, system,
};

const SCHEMA: &str = "
    create table customer (id int primary key, name text not null, boss int references customer on delete cascade);
    create table billing (id int primary key, customer int references customer on delete cascade,
                          created_at timestamptz not null, minor bigint not null, secret text default 'hidden');
    create table line (id serial primary key, billing int references billing on delete cascade, text text);
    create table note (id serial primary key, billing int references billing on delete set null);
    create table other (id serial primary key);
    insert into customer values (1, 'ada', null), (2, 'bob', 1), (3, 'cyd', 2);
    insert into other default values;
";

pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) client: Client,
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the test server answers");
    tokio::spawn(connection);
    client
}

/// The servers that `./test` starts: the machine's, and PostgreSQL 18.
pub(crate) const SERVERS: [&str; 2] = ["COUNTERSIGN_TEST_POSTGRES", "COUNTERSIGN_TEST_POSTGRES_18"];

pub(crate) async fn database(name: &str, rows: i32) -> Database {
    database_on(SERVERS[0], name, rows).await
}

#[expect(clippy::disallowed_methods, reason = "the server for tests is named by the environment")]
pub(crate) async fn database_on(server: &str, name: &str, rows: i32) -> Database {
    let base = std::env::var(server).unwrap_or_else(|_| panic!("{server} names a server"));
    let admin = connect(&base).await;
    admin.batch_execute(&format!("drop database if exists tools_{name} with (force)")).await.unwrap();
    admin.batch_execute(&format!("create database tools_{name}")).await.unwrap();
    let mut url = url::Url::parse(&base).unwrap();
    url.set_path(&format!("/tools_{name}"));
    let client = connect(url.as_str()).await;
    client.batch_execute(SCHEMA).await.unwrap();
    let fill = format!(
        "insert into billing (id, customer, created_at, minor)
             select i, 1, case when i % 2 = 0 then '2026-01-15T00:00Z'::timestamptz else '2026-02-15T00:00Z' end, i
               from generate_series(1, {rows}) i;
         insert into line (billing, text) select id, t from billing, (values ('a'), ('b')) v (t);
         insert into note (billing) select id from billing where id % 10 = 0;"
    );
    client.batch_execute(&fill).await.unwrap();
    Database { url: url.into(), client }
}

impl Database {
    pub(crate) fn world(&self, definitions: Vec<SqlDefinition>, policy: &str) -> World {
        self.limited(definitions, policy, SqlLimits::default())
    }

    fn limited(&self, definitions: Vec<SqlDefinition>, policy: &str, limits: SqlLimits) -> World {
        let definitions: Vec<_> = definitions.into_iter().map(AnyDefinition::Sql).collect();
        let vault = TestVault::default().with("billing", "url", &self.url);
        World::new(&[postgres(limits)], vault, &definitions, policy)
    }

    async fn count(&self, what: &str) -> i64 {
        self.client.query_one(&format!("select count(*) from {what}"), &[]).await.unwrap().get(0)
    }
}

pub(crate) fn postgres(limits: SqlLimits) -> SystemDefinition {
    system("billing", Target::Postgres(PostgresTarget { limits, ..PostgresTarget::default() }))
}

#[tokio::test]
async fn a_fixed_read_binds_typed_arguments() {
    let db = database("arguments", 3).await;
    let tool = fixed(
        "find",
        DeclaredEffect::Read,
        json!({
            "months": {"type": "integer", "minimum": 1},
            "ids": {"type": "array", "items": {"type": "integer"}},
            "uuid": {"type": "string", "format": "uuid"},
            "at": {"type": "string", "format": "date-time"},
            "sum": {"type": "number"},
            "on": {"type": "boolean"},
            "none": {"type": "string", "optional": true},
        }),
        "select id, make_interval(months => :months) as span, :uuid::uuid as uuid, :at::timestamptz as at,
                :sum::numeric as sum, :on::bool as on, :none::text as none
           from billing where id = any(:ids) order by id",
    );
    let world = db.world(vec![tool], ALLOW);
    let arguments = json!({
        "months": 14, "ids": [2, 3], "uuid": "6a2f41a3-c54c-fce8-32d2-0324e1c32e22",
        "at": "2026-03-01T12:00:00+02:00", "sum": 12.5, "on": true,
    });
    let done = world.done("find", arguments).await;
    assert_eq!(done.rows, 2);
    let first = json!({
        "id": 2, "span": "P1Y2M", "uuid": "6a2f41a3-c54c-fce8-32d2-0324e1c32e22", "at": "2026-03-01T10:00:00Z",
        "sum": "12.5", "on": true, "none": null,
    });
    assert_eq!(done.reply["rows"][0], first);
}

#[tokio::test]
async fn every_type_has_a_documented_form() {
    let db = database("types", 0).await;
    db.client
        .batch_execute("create type mood as enum ('sad', 'ok'); create domain cents as int")
        .await
        .unwrap();
    for (expression, expected) in [
        ("1::int2", json!(1)),
        ("9007199254740993::int8", json!("9007199254740993")),
        ("9007199254740991::int8", json!(9_007_199_254_740_991_i64)),
        ("0.1::float4", json!(0.1)),
        ("'NaN'::float8", json!("NaN")),
        ("12345678901234567890.1200::numeric", json!("12345678901234567890.1200")),
        ("-0.00012::numeric", json!("-0.00012")),
        ("100000000::numeric", json!("100000000")),
        ("0::numeric(10, 2)", json!("0.00")),
        ("'NaN'::numeric", json!("NaN")),
        ("timestamp '2026-01-02 03:04:05.5'", json!("2026-01-02T03:04:05.5")),
        ("timestamptz '2026-01-02 03:04:05+01'", json!("2026-01-02T02:04:05Z")),
        ("'infinity'::timestamptz", json!("infinity")),
        ("date '1999-12-31'", json!("1999-12-31")),
        ("time '03:04:05'", json!("03:04:05")),
        ("timetz '03:04:05-02:30'", json!("03:04:05-02:30")),
        ("interval '-1 day 2 hours'", json!("P-1DT2H")),
        ("'\\x010203'::bytea", json!("AQID")),
        ("'{\"a\": [1, null]}'::jsonb", json!({"a": [1, null]})),
        ("array[1, null, 3]", json!([1, null, 3])),
        ("array['a', 'b']::text[]", json!(["a", "b"])),
        ("'10.0.0.1/8'::inet", json!("10.0.0.1/8")),
        ("'::1'::inet", json!("::1")),
        ("b'101'", json!("101")),
        ("'ok'::mood", json!("ok")),
        ("5::cents", json!(5)),
        ("null::int", Value::Null),
        ("'a'::\"char\"", json!("a")),
    ] {
        let sql = format!("select {expression} as v");
        let mut tool = fixed("t", DeclaredEffect::Read, json!({}), &sql);
        // A type of one's own is not known to be harmless; the read-only transaction is.
        if sql.contains("mood") || sql.contains("cents") {
            tool.tool.effect = DeclaredEffect::Write;
        }
        let world = db.world(vec![tool], ALLOW);
        assert_eq!(world.done("t", json!({})).await.reply["rows"][0]["v"], expected, "{expression}");
    }
    let world =
        db.world(vec![fixed("t", DeclaredEffect::Read, json!({}), "select point '(1,2)' as p")], ALLOW);
    let refusal = world.refusal("t", json!({})).await;
    assert!(refusal.message.contains("cast it to text"), "{refusal}");
}

#[tokio::test]
async fn an_argument_is_never_part_of_the_statement() {
    let db = database("injection", 3).await;
    let rename = fixed(
        "rename",
        DeclaredEffect::Write,
        json!({"id": {"type": "integer"}, "name": {"type": "string"}}),
        "update customer set name = :name where id = :id returning name",
    );
    let world = db.world(vec![rename], ALLOW);
    for attack in
        ["' or '1'='1", "'; drop table customer; --", "\\'; delete from billing --", "$1", ":id", "{\"a\""]
    {
        let done = world.done("rename", json!({"id": 2, "name": attack})).await;
        assert_eq!((done.rows, &done.reply["rows"][0]["name"]), (1, &json!(attack)));
    }
    let refusal = world.refusal("rename", json!({"id": 2, "name": "a\u{0}b"})).await;
    assert_eq!(refusal.code, Code::ToolFailed);
    assert_eq!((db.count("billing").await, db.count("customer").await), (3, 3));
}

#[tokio::test]
async fn a_change_without_columns_answers_how_many_rows_it_changed() {
    let db = database("changed", 3).await;
    let world = db.world(changing(), ALLOW);
    answers_how_many_rows_it_changed(&world).await;
}

#[tokio::test]
async fn reads_cannot_write_and_stop_at_their_limits() {
    let db = database("reads", 20).await;
    db.client
        .batch_execute(
            "create function sneaky() returns int language sql stable as 'select 1';
                        create function liar() returns int language plpgsql volatile as
                            'begin delete from billing; return 1; end'",
        )
        .await
        .unwrap();
    let mut few = fixed("few", DeclaredEffect::Read, json!({}), "select id from billing order by id");
    few.tool.rows_max = 5;
    let mut query = from_agent("query", &["billing"]);
    query.functions.extend(["sneaky".to_owned(), "liar".to_owned()]);
    let limits = SqlLimits { statement_timeout_ms: 300, ..SqlLimits::default() };
    let world = db.limited(vec![few, query], ALLOW, limits);
    let done = world.done("few", json!({})).await;
    assert_eq!((done.rows, &done.reply["truncated"]), (5, &json!(true)));
    assert_eq!(world.done("query", json!({"sql": "select sneaky() as x"})).await.reply["rows"][0]["x"], 1);
    // Its author vouched for it, wrongly: the read-only transaction does not believe anybody.
    let refusal = world.refusal("query", json!({"sql": "select liar()"})).await;
    assert_eq!(refusal.code, Code::ToolFailed);
    assert!(refusal.message.contains("read-only"), "{refusal}");
    let slow = "select count(*) from generate_series(1, 100000000) a, generate_series(1, 1000) b";
    let refusal = world.refusal("query", json!({"sql": slow})).await;
    assert!(refusal.message.contains("too long"), "{refusal}");
    assert_eq!(db.count("billing").await, 20);
    assert_eq!(world.done("few", json!({})).await.rows, 5, "the connections are fit for the next call");
}

#[tokio::test]
async fn a_statement_that_its_database_cannot_compile_is_found_without_a_call() {
    let db = database("tried", 3).await;
    let text = json!({ "state": { "type": "string" } });
    let world = db.world(
        vec![
            fixed("fine", DeclaredEffect::Destructive, json!({}), "delete from billing"),
            fixed("misspelt", DeclaredEffect::Read, json!({}), "select idd from billing"),
            fixed("untyped", DeclaredEffect::Read, text, "select id from billing where :state is null"),
        ],
        ALLOW,
    );
    let tried = async |tool: &str| world.tools[tool].try_out(&Gate::<SimLedger>::review(&billing())).await;
    assert_eq!(tried("fine").await, Ok(()));
    assert!(tried("misspelt").await.unwrap_err().contains("idd"));
    assert!(tried("untyped").await.unwrap_err().contains("data type of parameter"));
    assert_eq!(world.systems.try_out(&billing(), Gate::<SimLedger>::review(&billing())).await, Ok(()));
    assert_eq!(db.count("billing").await, 3, "nothing was run");
}

fn billing() -> SystemName {
    SystemName::parse("billing").unwrap()
}

#[tokio::test]
async fn agents_reach_only_the_tables_of_the_tool() {
    let db = database("scope", 3).await;
    db.client.batch_execute("create schema hidden; create table hidden.billing (id int)").await.unwrap();
    let world = db.world(vec![from_agent("query", &["billing", "line"])], ALLOW);
    for sql in [
        "select * from other",
        "select * from hidden.billing",
        "select 1; delete from billing",
        "commit",
        "select * from pg_stat_activity",
        "with d as (delete from other returning *) select * from d",
        "set search_path to hidden",
        "copy billing to program 'true'",
        "select pg_sleep(1)",
        "do 'begin end'",
        "select current_setting('x'), set_config('search_path', 'hidden', false)",
        "select * from billing where id = $1",
        "select lo_create(1)",
        "listen x",
        "drop table billing cascade",
    ] {
        let refusal = world.refusal("query", json!({"sql": sql})).await;
        assert_eq!(refusal.code, Code::StatementRefused, "{sql}: {refusal}");
    }
    assert_eq!(
        world.done("query", json!({"sql": "select count(*) as n from line"})).await.reply["rows"][0]["n"],
        6
    );
}

#[tokio::test]
async fn the_incident_is_measured_held_and_stopped() {
    let db = database("incident", 200).await;
    let mut query = from_agent("query", &["billing"]);
    query.mask.insert("billing.secret".into());
    let world = db.world(vec![query], ASK);
    let pending =
        world.pending("query", json!({"sql": "DELETE FROM billing WHERE created_at < '2026-02-01'"})).await;
    let (reach, evidence) = world.shown(&pending).await;
    let tables: Vec<_> = reach.tables.iter().map(|(table, rows)| (table.as_str(), *rows)).collect();
    assert_eq!(tables, [("billing", 100), ("line", 200), ("note", 20)]);
    assert_eq!((reach.rows, reach.cascades, reach.exact, reach.unbounded), (320, 220, true, false));
    let sample = evidence.unwrap().sample;
    let secret = sample.columns.iter().position(|c| c == "secret").unwrap();
    assert_eq!(sample.rows.len(), 5);
    assert!(sample.rows.iter().all(|row| row[secret].as_deref() == Some("•••")), "{:?}", sample.rows);
    assert_eq!(db.count("billing").await, 200);
    let Answer::Done(done) = world.approve(&pending.approval).await else { panic!("not done") };
    assert_eq!(done.rows, 320);
    assert_eq!((db.count("billing").await, db.count("line").await), (100, 200));
}

#[tokio::test]
async fn rows_beyond_the_warrant_are_rolled_back_triggers_and_cascades_included() {
    let db = database("exceeded", 4).await;
    let delete = fixed(
        "delete",
        DeclaredEffect::Destructive,
        json!({"id": {"type": "integer"}}),
        "delete from billing where id = :id",
    );
    let world = db.world(vec![counted(delete)], AT_MOST_THREE);
    assert_eq!(world.done("delete", json!({"id": 1})).await.rows, 3);
    db.client
        .batch_execute(
            "create function log() returns trigger language plpgsql as
                            'begin insert into other default values; return old; end';
                        create trigger log after delete on line for each row execute function log()",
        )
        .await
        .unwrap();
    let refusal = world.refusal("delete", json!({"id": 2})).await;
    assert_eq!(refusal.code, Code::DeniedByPolicy, "{refusal}");
    assert_eq!((db.count("billing").await, db.count("line").await, db.count("other").await), (3, 6, 1));
    let (code, message) = world.failures().await.remove(0);
    assert_eq!(code, Code::ReachExceeded);
    assert!(message.contains("5 rows"), "{message}");
}

#[tokio::test]
async fn a_concurrent_writer_never_makes_a_call_exceed_its_approval() {
    let db = database("concurrent", 0).await;
    db.client.batch_execute("insert into line (text) values ('a'), ('a'), ('a')").await.unwrap();
    let world = db.world(vec![from_agent("query", &["line"])], AT_MOST_THREE);
    // The other writer holds a row that matches, and adds a fourth before it lets go: the delete, which has
    // been counted as three, waits for the lock and then sees more.
    let mut writer = connect(&db.url).await;
    let tx = writer.transaction().await.unwrap();
    tx.batch_execute("update line set text = 'a' where id = 1").await.unwrap();
    let sql = json!({"sql": "delete from line where text = 'a' and (select count(*) from line) >= 0"});
    let call = world.call("query", sql);
    let grow = async {
        // Until the delete waits for the row.
        loop {
            let waiting = "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
            if db.count(waiting).await > 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        tx.batch_execute("insert into line (id, text) values (1000, 'a')").await.unwrap();
        tx.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(call, grow);
    // Either it deleted the three it was allowed to, or nothing.
    match answer {
        Answer::Done(done) => assert_eq!((done.rows, db.count("line").await), (3, 1)),
        other => {
            refused(other, Code::DeniedByPolicy);
            assert_eq!(db.count("line").await, 4);
        }
    }
}

#[tokio::test]
async fn a_table_that_refers_to_itself_is_counted_to_the_end() {
    let db = database("itself", 0).await;
    let world = db.world(vec![from_agent("query", &["customer"])], ASK);
    let pending = world.pending("query", json!({"sql": "delete from customer where id = 1"})).await;
    let (reach, _) = world.shown(&pending).await;
    assert_eq!((reach.rows, reach.cascades, reach.exact), (3, 2, true));
    let Answer::Done(done) = world.approve(&pending.approval).await else { panic!("not done") };
    assert_eq!(done.rows, 3);
}

#[tokio::test]
async fn measuring_has_limits_of_rows_cost_and_time() {
    let db = database("limits", 50).await;
    let query = || vec![from_agent("query", &["line"])];
    let few = SqlLimits { measure_rows_max: 10, ..SqlLimits::default() };
    let reach = db.limited(query(), ASK, few).measured("query", json!({"sql": "delete from line"})).await;
    assert_eq!((reach.rows, reach.exact, reach.unbounded), (11, false, true));
    let cheap = SqlLimits { measure_cost_max: 0, ..SqlLimits::default() };
    let refusal = db.limited(query(), ASK, cheap).refusal("query", json!({"sql": "delete from line"})).await;
    assert_eq!(refusal.code, Code::ReachUnmeasurable, "{refusal}");
    assert!(refusal.message.contains("estimated"), "{refusal}");
    let quick = SqlLimits { measure_timeout_ms: 100, measure_cost_max: u64::MAX, ..SqlLimits::default() };
    let slow = "delete from line where (select count(*) from generate_series(1, 100000000) g) > id";
    let refusal = db.limited(query(), ASK, quick).refusal("query", json!({"sql": slow})).await;
    assert_eq!(refusal.code, Code::ReachUnmeasurable, "{refusal}");
    assert_eq!(db.count("line").await, 100);
}

#[tokio::test]
async fn truncating_and_dropping_count_all_rows() {
    let db = database("whole", 3).await;
    let world = db.world(vec![from_agent("query", &["line", "other"])], ASK);
    let pending = world.pending("query", json!({"sql": "truncate line"})).await;
    assert_eq!(pending.reach.as_ref().unwrap().tables["line"], 6);
    let Answer::Done(done) = world.approve(&pending.approval).await else { panic!("not done") };
    assert_eq!((done.rows, db.count("line").await), (6, 0));
    let pending = world.pending("query", json!({"sql": "drop table other"})).await;
    assert_eq!(pending.reach.as_ref().unwrap().rows, 1);
    assert!(matches!(world.approve(&pending.approval).await, Answer::Done(_)));
    assert_eq!(db.count("pg_tables where tablename = 'other'").await, 0);
}

#[tokio::test]
async fn triggers_are_named_and_partitions_are_counted() {
    let db = database("triggers", 0).await;
    db.client
        .batch_execute(
            "create table part (id int, at int) partition by range (at);
                        create table part_1 partition of part for values from (0) to (10);
                        create table part_2 partition of part for values from (10) to (20);
                        insert into part select i, i from generate_series(0, 19) i;
                        create function nothing() returns trigger language plpgsql as 'begin return new; end';
                        create trigger stamp before update on line for each row execute function nothing();
                        insert into line (text) values ('a')",
        )
        .await
        .unwrap();
    let world = db.world(vec![from_agent("query", &["line", "part"])], ASK);
    let reach = world.measured("query", json!({"sql": "update line set text = 'b' where text = 'a'"})).await;
    assert_eq!(reach.triggers, ["stamp on line"]);
    let pending = world.pending("query", json!({"sql": "delete from part where at >= 5"})).await;
    assert_eq!(pending.reach.as_ref().unwrap().rows, 15);
    let Answer::Done(done) = world.approve(&pending.approval).await else { panic!("not done") };
    assert_eq!(done.rows, 15);
}

#[tokio::test]
async fn a_failed_write_changes_nothing_and_tells_no_values() {
    let db = database("failed", 2).await;
    let insert = fixed(
        "insert",
        DeclaredEffect::Write,
        json!({"id": {"type": "integer"}}),
        "insert into billing (id, created_at, minor) values (100, now(), 0), (:id, now(), 0)",
    );
    db.client
        .batch_execute("create table late (id int references other (id) deferrable initially deferred)")
        .await
        .unwrap();
    let late = fixed("late", DeclaredEffect::Write, json!({}), "insert into late values (99)");
    let world = db.world(vec![insert, late], ALLOW);
    let refusal = world.refusal("insert", json!({"id": 1})).await;
    assert_eq!(refusal.code, Code::ToolFailed);
    assert!(refusal.message.contains("23505") && !refusal.message.contains("(1)"), "{refusal}");
    assert_eq!(db.count("billing").await, 2);
    // Refused by the commit itself, which then has not happened.
    let refusal = world.refusal("late", json!({})).await;
    assert_eq!(refusal.code, Code::ToolFailed);
    assert_eq!(db.count("late").await, 0);
}

#[tokio::test]
async fn a_connection_that_dies_before_the_commit_has_changed_nothing() {
    let db = database("dies", 3).await;
    let kill = fixed(
        "kill",
        DeclaredEffect::Destructive,
        json!({}),
        "with gone as (delete from billing returning id)
         select pg_terminate_backend(pg_backend_pid()), (select count(*) from gone)",
    );
    let world = db.world(vec![kill], ALLOW);
    let refusal = world.refusal("kill", json!({})).await;
    assert!(matches!(refusal.code, Code::ToolFailed | Code::SystemUnavailable), "{refusal}");
    assert_eq!(db.count("billing").await, 3);
}

/// Passes bytes on to the server until it has passed on a `COMMIT`, and then drops the connection before the
/// answer.
async fn losing_the_answer_to_commit(url: &str) -> String {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };
    let mut url = url::Url::parse(url).unwrap();
    let server = (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5432));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect((server.0.as_str(), server.1)).await.unwrap();
            tokio::spawn(async move {
                let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
                loop {
                    tokio::select! {
                        read = near.read(&mut up) => {
                            let Ok(n @ 1..) = read else { return };
                            far.write_all(&up[..n]).await.unwrap();
                            if up[..n].windows(7).any(|w| w == b"COMMIT\0") {
                                // The server has answered: it has committed. Nobody here hears of it.
                                assert!(far.read(&mut down).await.unwrap() > 0);
                                return;
                            }
                        }
                        read = far.read(&mut down) => {
                            let Ok(n @ 1..) = read else { return };
                            near.write_all(&down[..n]).await.unwrap();
                        }
                    }
                }
            });
        }
    });
    url.into()
}

#[tokio::test]
async fn a_lost_answer_to_the_commit_is_in_doubt_and_never_failed() {
    let db = database("doubt", 3).await;
    let delete = fixed("delete", DeclaredEffect::Destructive, json!({}), "delete from line");
    let proxied =
        Database { url: losing_the_answer_to_commit(&db.url).await, client: connect(&db.url).await };
    let world = proxied.world(vec![delete], ALLOW);
    let refusal = world.refusal("delete", json!({})).await;
    assert_eq!(refusal.code, Code::InDoubt, "{refusal}");
    assert_eq!(db.count("line").await, 0, "it had happened");
}

#[tokio::test]
async fn a_database_that_is_away_is_an_answer_without_secrets() {
    let tool = fixed("t", DeclaredEffect::Read, json!({}), "select 1 as one");
    let definitions = [AnyDefinition::Sql(tool)];
    let db = database("away", 0).await;
    let mut wrong = url::Url::parse(&db.url).unwrap();
    wrong.set_password(Some("not-the-password")).unwrap();
    wrong.set_username("nobody-at-all").unwrap();
    for url in [
        wrong.as_str(),
        "postgres://app:hunter2secret@127.0.0.1:1/app",
        "nonsense hunter2secret",
        "postgres://%zz",
    ] {
        let vault = TestVault::default().with("billing", "url", url);
        let world = World::new(&[postgres(SqlLimits::default())], vault, &definitions, ALLOW);
        let refusal = world.refusal("t", json!({})).await;
        assert_eq!(refusal.code, Code::SystemUnavailable, "{refusal}");
        assert!(
            !refusal.message.contains("hunter2secret") && !refusal.message.contains("not-the"),
            "{refusal}"
        );
    }
    let world = World::new(&[postgres(SqlLimits::default())], TestVault::default(), &definitions, ALLOW);
    assert_eq!(world.refusal("t", json!({})).await.code, Code::SystemUnavailable);
}

#[tokio::test]
async fn a_statement_the_server_does_not_understand_is_the_agents_to_correct() {
    let db = database("misspelt", 2).await;
    let world = db.world(vec![from_agent("query", &["customer"])], ASK);
    let sql = "delete from customer where no_such_column = 1";
    let refusal = refused(world.call("query", json!({ "sql": sql })).await, Code::ToolFailed);
    assert!(refusal.message.contains("no_such_column"), "{refusal}");
}
