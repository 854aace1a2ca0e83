//! The journal in PostgreSQL: what became of a call, and the way back. The account of the tools is an
//! ordinary one, as `docs/sql.md` has it; the administrator prepares the database.

use countersign_gate::{Answer, Doubt, Gate, MeasureError, Recalled, Tool as _, simulation::SimLedger};
use countersign_rules::{CallId, Code, DeclaredEffect};
use countersign_tools::{
    AnyDefinition, AnyTool,
    definition::{JournalSettings, PostgresTarget, SqlDefinition, SqlLimits, Target},
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::{
    harness::{ALLOW, ASK, TestVault, World, fixed, from_agent, system},
    postgres::{SERVERS, connect},
};

/// A database of its own, with an administrator and an ordinary account.
pub(crate) struct Database {
    pub(crate) admin_url: String,
    pub(crate) url: String,
    pub(crate) admin: Client,
}

/// Runs these tests on the machine's server and on PostgreSQL 18, each as a test of its own.
macro_rules! on_each_server {
    ($($test:ident),+ $(,)?) => {
        mod on_the_machines_server {
            $(#[tokio::test] async fn $test() { super::$test(crate::postgres::SERVERS[0]).await; })+
        }
        mod on_postgresql_18 {
            $(#[tokio::test] async fn $test() { super::$test(crate::postgres::SERVERS[1]).await; })+
        }
    };
}
pub(crate) use on_each_server;

pub(crate) async fn target(name: &str, schema: &str) -> Database {
    target_on(SERVERS[0], name, schema).await
}

#[expect(clippy::disallowed_methods, reason = "the server for tests is named by the environment")]
pub(crate) async fn target_on(server: &str, name: &str, schema: &str) -> Database {
    let base = std::env::var(server).unwrap_or_else(|_| panic!("{server} names a server"));
    let server = connect(&base).await;
    server.batch_execute(&format!("drop database if exists tools_undo_{name} with (force)")).await.unwrap();
    server.batch_execute(&format!("create database tools_undo_{name}")).await.unwrap();
    let mut url = url::Url::parse(&base).unwrap();
    url.set_path(&format!("/tools_undo_{name}"));
    let admin_url = url.to_string();
    let admin = connect(&admin_url).await;
    let account = format!("tools_undo_{name}");
    admin
        .batch_execute(&format!(
            "drop role if exists {account}; create role {account} login password 'secret';
             revoke create on schema public from public; grant usage on schema public to {account};
             alter default privileges in schema public grant select, insert, update, delete on tables to {account};
             alter default privileges in schema public grant usage on sequences to {account};"
        ))
        .await
        .unwrap();
    admin.batch_execute(schema).await.unwrap();
    url.set_username(&account).unwrap();
    url.set_password(Some("secret")).unwrap();
    Database { admin_url, url: url.into(), admin }
}

impl Database {
    pub(crate) fn world(&self, definitions: Vec<SqlDefinition>, policy: &str) -> World {
        self.world_at(&self.url, definitions, policy, JournalSettings::default())
    }

    pub(crate) fn world_at(
        &self,
        url: &str,
        definitions: Vec<SqlDefinition>,
        policy: &str,
        journal: JournalSettings,
    ) -> World {
        // Long enough for a busy machine: nothing here waits for a limit to pass.
        let limits = SqlLimits { lock_timeout_ms: 10_000, ..SqlLimits::default() };
        let target = PostgresTarget { journal: Some(journal), limits, ..PostgresTarget::default() };
        Self::world_of(url, definitions, policy, target)
    }

    pub(crate) fn world_to(
        &self,
        definitions: Vec<SqlDefinition>,
        policy: &str,
        target: PostgresTarget,
    ) -> World {
        Self::world_of(&self.url, definitions, policy, target)
    }

    fn world_of(url: &str, definitions: Vec<SqlDefinition>, policy: &str, target: PostgresTarget) -> World {
        let definitions: Vec<_> = definitions.into_iter().map(AnyDefinition::Sql).collect();
        let systems = [system("billing", Target::Postgres(target))];
        World::new(&systems, TestVault::default().with("billing", "url", url), &definitions, policy)
    }

    pub(crate) async fn prepare(&self, world: &World, tables: &[&str]) -> Vec<String> {
        let tables: Vec<String> = tables.iter().map(ToString::to_string).collect();
        let tool = world.tools.values().next().unwrap();
        let upkeep = world.gate.upkeep(tool.spec());
        let admin = SecretString::from(self.admin_url.clone());
        let database = world.systems.journal(&tool.spec().system.name).unwrap();
        database.prepare(&upkeep, Some(&admin), &tables).await.unwrap()
    }

    /// Everything in these tables, as text.
    pub(crate) async fn dump(&self, tables: &[&str]) -> String {
        dump(&self.admin, tables).await
    }

    pub(crate) async fn account(&self) -> Client {
        connect(&self.url).await
    }
}

pub(crate) async fn dump(client: &Client, tables: &[&str]) -> String {
    let mut out = String::new();
    for table in tables {
        let sql = format!("select coalesce(string_agg(r::text, e'\\n' order by r::text), '') from {table} r");
        let text: String = client.query_one(&sql, &[]).await.unwrap().get(0);
        out.push_str(&format!("-- {table}\n{text}\n"));
    }
    out
}

/// Statements of the agent on these tables, which can be undone.
pub(crate) fn reversible(tables: &[&str]) -> SqlDefinition {
    let mut tool = from_agent("query", tables);
    tool.tool.reversible = true;
    tool
}

pub(crate) async fn run(world: &World, sql: &str) -> CallId {
    match world.call("query", json!({"sql": sql})).await {
        Answer::Done(done) => done.call,
        other => panic!("{sql}: {other:?}"),
    }
}

pub(crate) async fn undo(world: &World, call: &CallId) -> Answer {
    world.call("undo_billing", json!({"call": call})).await
}

pub(crate) async fn undone(world: &World, call: &CallId) -> Value {
    match undo(world, call).await {
        Answer::Done(done) => done.reply,
        other => panic!("not undone: {other:?}"),
    }
}

pub(crate) fn message(answer: Answer) -> String {
    match answer {
        Answer::Refused(refused) => refused.refusal.message,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) async fn recall(
    gate: &Gate<SimLedger>,
    tool: &AnyTool,
    call: &CallId,
) -> Result<Recalled, MeasureError> {
    let AnyTool::Sql(tool) = tool else { panic!("a statement tool") };
    let upkeep = gate.upkeep(tool.spec());
    let doubt = Doubt { call: call.clone(), journal: tool.journal(&upkeep).await, witness: None };
    tool.recall(&upkeep, &doubt).await
}

pub(crate) const SHOP: &str = "
    create table customer (id int primary key, name text, boss int references customer on delete cascade on update cascade);
    create table invoice (id int primary key, customer int references customer on delete cascade on update cascade, total int);
    create table line (invoice int references invoice on delete cascade on update cascade, no int, text text, primary key (invoice, no));
    create table note (id int generated always as identity primary key, invoice int default 0 references invoice on delete set null on update set default);
    insert into customer values (1, 'ada', null), (2, 'bob', 1), (3, 'cyd', 2), (4, 'dee', null);
    insert into invoice select i, i % 4 + 1, i * 10 from generate_series(0, 12) i;
    insert into line select i, n, 'a' from generate_series(0, 12) i, generate_series(1, 2) n;
    insert into note (invoice) select i from generate_series(1, 12) i;
";
pub(crate) const SHOP_TABLES: [&str; 4] = ["customer", "invoice", "line", "note"];

on_each_server! {
    what_a_statement_did_comes_back_with_cascades_and_upserts,
    rows_that_changed_since_are_refused_or_skipped_and_shown,
    undoing_never_takes_along_what_others_hung_on_a_row,
    values_of_every_kind_come_back_as_they_were,
    partitions_children_rings_and_unique_columns_come_back,
    neither_the_account_nor_an_agent_can_change_what_is_kept,
    what_became_of_a_call_is_known_and_what_did_not_happen_never_will,
}

async fn what_a_statement_did_comes_back_with_cascades_and_upserts(server: &str) {
    let db = target_on(server, "shop", SHOP).await;
    let world = db.world(vec![reversible(&SHOP_TABLES)], ALLOW);
    let kept = db.prepare(&world, &["customer"]).await;
    assert_eq!(kept.len(), 4, "foreign keys lead to all four: {kept:?}");
    for sql in [
        "delete from customer where id = 1",
        "delete from invoice",
        "update invoice set total = total + 1 where id < 5",
        "update customer set id = id + 100",
        "update customer set id = 5 - id where id in (2, 3)",
        "insert into customer values (9, 'new', 1)",
        "insert into invoice values (3, 4, 77), (50, 1, 1) on conflict (id) do update set total = excluded.total, customer = 1",
        "with gone as (delete from line where no = 2 returning invoice) update invoice set total = 0 where id in (select invoice from gone)",
        "merge into customer c using (values (1), (77)) v (id) on c.id = v.id when matched then update set name = 'merged' when not matched then insert values (v.id, 'x', null)",
        "insert into note (invoice) select id from invoice",
        "update line set no = no + 1",
    ] {
        let before = db.dump(&SHOP_TABLES).await;
        let pending = world.call("query", json!({"sql": sql})).await;
        let call = match pending {
            Answer::Done(done) => done.call,
            // What cannot have happened must not have.
            Answer::Refused(refused) => {
                assert_eq!(db.dump(&SHOP_TABLES).await, before, "{sql}");
                assert!(
                    sql.contains("5 - id") || sql.contains("merge") || sql.contains("line set no"),
                    "{sql}: {}",
                    refused.refusal
                );
                continue;
            }
            Answer::Pending(pending) => panic!("{pending:?}"),
        };
        let after = db.dump(&SHOP_TABLES).await;
        assert_ne!(before, after, "{sql}");
        let answer = undo(&world, &call).await;
        let Answer::Done(done) = answer else { panic!("{sql}: {answer:?}") };
        assert_eq!(db.dump(&SHOP_TABLES).await, before, "{sql}: {}", done.reply);
        // The way back has a way back.
        undone(&world, &done.call).await;
        assert_eq!(db.dump(&SHOP_TABLES).await, after, "{sql}");
        let again = undone(&world, &call).await;
        assert_eq!(again["changed_since"], json!({}));
        assert_eq!(db.dump(&SHOP_TABLES).await, before, "{sql}");
        assert!(message(undo(&world, &call).await).contains("was undone by"));
    }
}

async fn rows_that_changed_since_are_refused_or_skipped_and_shown(server: &str) {
    let db = target_on(server, "since", SHOP).await;
    let mut tool = reversible(&SHOP_TABLES);
    tool.mask.insert("name".into());
    let world = db.world(vec![tool], ALLOW);
    db.prepare(&world, &["customer"]).await;
    let call = run(&world, "update customer set name = upper(name)").await;
    let gone = run(&world, "delete from line where invoice = 1").await;
    let new = run(&world, "insert into customer values (7, 'gus', null), (8, 'hal', null)").await;
    // Others write what they like, and nothing is kept of it.
    db.admin
        .batch_execute(
            "update customer set name = 'changed' where id = 2; insert into line values (1, 1, 'other');
             delete from customer where id = 7",
        )
        .await
        .unwrap();
    let before = db.dump(&SHOP_TABLES).await;
    let said = message(undo(&world, &call).await);
    assert!(said.contains("1 rows changed since") && said.contains("customer (2)"), "{said}");
    for other in [&gone, &new] {
        assert!(message(undo(&world, other).await).contains("1 rows changed since"));
    }
    assert_eq!(db.dump(&SHOP_TABLES).await, before);
    // The approver sees it, masked.
    let asking = db.world(
        vec![{
            let mut tool = reversible(&SHOP_TABLES);
            tool.mask.insert("name".into());
            tool
        }],
        ASK,
    );
    let refusal = asking.refusal("undo_billing", json!({"call": call})).await;
    assert_eq!(refusal.code, Code::ReachUnmeasurable, "{refusal}");
    let pending = asking.pending("undo_billing", json!({"call": call, "on_change": "skip"})).await;
    let (reach, evidence) = asking.shown(&pending).await;
    assert_eq!((reach.rows, reach.exact, reach.tables["customer"]), (3, true, 3));
    let sample = evidence.unwrap().sample;
    assert_eq!(sample.columns, ["undo", "id", "name", "boss"]);
    assert_eq!(sample.rows[0][0].as_deref(), Some("changed since, stays"));
    assert_eq!(sample.rows[1][0].as_deref(), Some("goes back to"));
    assert!(sample.rows.iter().all(|row| row[2].as_deref() == Some("•••")), "{sample:?}");
    let answer = asking.approve(&pending.approval).await;
    let Answer::Done(done) = answer else { panic!("not undone: {answer:?}") };
    assert_eq!(done.reply["restored"], json!({"customer": 3}));
    assert_eq!(done.reply["changed_since"], json!({"customer": 1}));
    assert_eq!(done.reply["examples"], json!(["customer (2)"]));
    for other in [&gone, &new] {
        let done = world.done("undo_billing", json!({"call": other, "on_change": "skip"})).await;
        assert_eq!(done.rows, 1);
    }
    let names = dump(&db.admin, &["customer"]).await;
    assert_eq!(names, "-- customer\n(1,ada,)\n(2,changed,1)\n(3,cyd,2)\n(4,dee,)\n");
    assert!(db.dump(&["line"]).await.contains("(1,1,other)\n(1,2,a)"));
}

async fn undoing_never_takes_along_what_others_hung_on_a_row(server: &str) {
    let db = target_on(server, "along", SHOP).await;
    let world = db.world(vec![reversible(&SHOP_TABLES)], ALLOW);
    db.prepare(&world, &["customer"]).await;
    let call = run(&world, "insert into customer values (9, 'new', null)").await;
    db.admin.batch_execute("insert into invoice values (99, 9, 1)").await.unwrap();
    let before = db.dump(&SHOP_TABLES).await;
    let said = message(undo(&world, &call).await);
    assert!(said.contains("would not bring table `public.invoice` back"), "{said}");
    assert_eq!(db.dump(&SHOP_TABLES).await, before);
}

async fn values_of_every_kind_come_back_as_they_were(server: &str) {
    let db = target_on(
        server,
        "values",
        r#"create type mood as enum ('sad', 'o''k, "fine"'); create type pair as (a int, b text); create domain cents as int;
           create table "odd ""table" (id int generated always as identity primary key, "col,umn" text, n numeric, f float8, a int[],
               t text[], b bytea, z timestamptz, d date, j jsonb, js json, m mood, p pair, c cents, i interval, u uuid, r regclass,
               x xml, pt point, cash money, twice numeric generated always as (n * 2) stored, gone int, bits bit(3), tsr tstzrange);
           alter table "odd ""table" drop column gone;
           insert into "odd ""table" ("col,umn", n, f, a, t, b, z, d, j, js, m, p, c, i, u, r, x, pt, cash, bits, tsr) values
             (e'a"b\\c''d\n\t,(){}', 'NaN', '-0', '[0:1]={1,NULL}', array['', null, 'NULL', 'a"b'], '\x00ff', 'infinity', '-infinity',
              '{"a": [1, null, "x"]}', '{"b" :  1}', 'o''k, "fine"', row(1, null), 5, '-1 day 2 hours 3.5 seconds', gen_random_uuid(),
              'pg_catalog.pg_class', '<a b="c">d</a>', '(1.5,-0)', 12.34, b'101', '[2026-01-01,)'),
             ('', 1.00, 'NaN', '{}', '{}', '', '2026-01-02 03:04:05.123456+05:30', '0044-03-15 BC', 'null', 'null', 'sad', null, null,
              '1 year 2 mons', null, null, null, null, null, null, 'empty'),
             (null, 123456789012345678901234567890.123, 0.1, '{{1,2},{3,4}}', '{{a},{b}}', null, '-infinity', null, '"\u00e9"', null, null,
              row(null, 'x"y'), -1, '-00:00:01', null, 'pg_class', null, null, '-0.01', null, null),
             (null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
           alter database tools_undo_values set datestyle = 'SQL, DMY';
           alter database tools_undo_values set intervalstyle = 'iso_8601';
           alter database tools_undo_values set timezone = 'Asia/Kolkata';
           alter database tools_undo_values set bytea_output = 'escape';
           alter database tools_undo_values set extra_float_digits = -5;"#,
    )
    .await;
    let table = "odd \"table";
    let change = fixed(
        "change",
        DeclaredEffect::Destructive,
        json!({}),
        r#"update "odd ""table" set "col,umn" = 'x', n = 7, f = 7, a = '{7}', t = null, b = 'x', z = now(), d = now(), j = '7', js = '7',
           m = 'sad', p = row(7, '7'), c = 7, i = '7 days', u = null, r = 'pg_proc', x = '<y/>', pt = '(7,7)', cash = 7, bits = b'000', tsr = 'empty'"#,
    );
    let remove = fixed("remove", DeclaredEffect::Destructive, json!({}), r#"delete from "odd ""table""#);
    let mut tools = vec![change, remove];
    for tool in &mut tools {
        tool.tool.reversible = true;
    }
    let world = db.world(tools, ALLOW);
    db.prepare(&world, &[table]).await;
    let quoted = ["\"odd \"\"table\""];
    let fresh = connect(&db.admin_url).await;
    fresh.batch_execute("set extra_float_digits = 3").await.unwrap();
    let before = dump(&fresh, &quoted).await;
    for tool in ["change", "remove"] {
        let call = world.done(tool, json!({})).await;
        assert_eq!(call.rows, 4);
        assert_ne!(dump(&fresh, &quoted).await, before);
        let done = undo(&world, &call.call).await;
        assert!(matches!(done, Answer::Done(_)), "{tool}: {done:?}");
        assert_eq!(dump(&fresh, &quoted).await, before);
    }
}

async fn partitions_children_rings_and_unique_columns_come_back(server: &str) {
    let tables = ["event", "parent", "child", "a", "b", "seat", "tree"];
    let db = target_on(
        server,
        "shapes",
        "create table event (at date, id int, text text, primary key (at, id)) partition by range (at);
         create table event_1 partition of event for values from ('2026-01-01') to ('2026-02-01');
         create table event_2 partition of event for values from ('2026-02-01') to ('2026-03-01');
         create table parent (id int primary key, t text);
         create table child (extra int, primary key (id)) inherits (parent);
         create table a (id int primary key, b int); create table b (id int primary key, a int references a on delete cascade);
         alter table a add foreign key (b) references b on delete cascade;
         create table seat (id int primary key, place int unique, holder text unique);
         create table tree (id int primary key, up int references tree, unique (up, id));
         insert into event select date '2026-01-01' + i, i, 'e' from generate_series(0, 40) i;
         insert into parent values (1, 'p'); insert into child values (2, 'c', 5);
         insert into a values (1, null), (2, null); insert into b values (1, 1), (2, 2); update a set b = 3 - id;
         insert into seat select i, i, 'h' || i from generate_series(1, 6) i;
         insert into tree select i, nullif(i / 2, 0) from generate_series(1, 15) i;",
    )
    .await;
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    for sql in [
        "delete from event where id % 2 = 0",
        "update event set at = at + 20 where id < 20",
        "delete from parent",
        "update parent set t = 'x'",
        "delete from a where id = 1",
        "update seat set place = place + 10, holder = holder || 'x'",
        "with gone as (delete from seat where id < 3 returning *) insert into seat select id + 100, 50 + place, holder || '!' from gone",
        "update seat set id = id + 10, place = place + 100",
        "delete from tree where id > 7",
        "delete from tree",
    ] {
        let before = db.dump(&tables).await;
        let call = run(&world, sql).await;
        assert_ne!(db.dump(&tables).await, before, "{sql}");
        let answer = undo(&world, &call).await;
        assert!(matches!(answer, Answer::Done(_)), "{sql}: {answer:?}");
        assert_eq!(db.dump(&tables).await, before, "{sql}");
    }
    // Values of a unique column that moved along: rows are taken out and put in again.
    let before = db.dump(&tables).await;
    for sql in ["update seat set place = place - 1", "update seat set place = place + 1"] {
        if let Answer::Done(done) = world.call("query", json!({"sql": sql})).await {
            let answer = undo(&world, &done.call).await;
            assert!(matches!(answer, Answer::Done(_)), "{sql}: {answer:?}");
            assert_eq!(db.dump(&tables).await, before, "{sql}");
        }
    }
}

async fn neither_the_account_nor_an_agent_can_change_what_is_kept(server: &str) {
    let db = target_on(server, "forge", SHOP).await;
    let author = |sql: &str| {
        let mut tool = fixed("author", DeclaredEffect::Destructive, json!({}), sql);
        tool.tool.reversible = true;
        AnyDefinition::Sql(tool)
    };
    let world = db.world(vec![reversible(&SHOP_TABLES)], ALLOW);
    let kept = db.prepare(&world, &["customer"]).await;
    assert!(kept.iter().all(|line| !line.starts_with("warning")), "{kept:?}");
    let call = run(&world, "update customer set name = 'x' where id = 1").await;
    let account = db.account().await;
    account
        .batch_execute("create temp table fake (like public.customer including all)")
        .await
        .expect("the account may have temporary tables");
    for attack in [
        "insert into countersign.image (call, relation, rows, bytes, new) values ('c', 1, 1, 3, '{(1)}')",
        "update countersign.image set old = new",
        "delete from countersign.image",
        "truncate countersign.image",
        "delete from countersign.call",
        "update countersign.call set state = 'fenced'",
        "insert into countersign.call (id, tool, digest, rows) values ('x', '', '', 5)",
        "insert into countersign.call (id, tool, digest, at) values ('x', '', '', 'epoch')",
        "update countersign.layout set name = 'line'",
        "update countersign.setting set retention_ms = 0",
        "insert into countersign.aside values ('public.customer')",
        "select countersign.cover('customer')",
        "create trigger t after insert on fake for each row execute function countersign.keep()",
        "create trigger t after insert on fake referencing new table as new_rows for each statement execute function countersign.keep_rows()",
        "insert into countersign.kept (call, relation) values ('c', 1)",
        "alter table customer disable trigger zz_countersign_keep_update",
        "set session_replication_role = replica",
        "create table countersign.mine (a int)",
        // What is kept of one call cannot be added to by another, or after the fact.
        &format!("begin; set local countersign.call = '{call}'; update customer set name = 'y' where id = 1"),
        "begin; set local countersign.call = 'unknown'; update customer set name = 'y' where id = 1",
        &format!("select countersign.seal('{call}', 0)"),
    ] {
        let failed = account.batch_execute(attack).await;
        assert!(failed.is_err(), "{attack}");
        account.batch_execute("rollback").await.unwrap();
    }
    let pruned: i64 = account.query_one("select countersign.prune(0)", &[]).await.unwrap().get(0);
    assert_eq!(pruned, 0, "what is younger than the retention stays");
    // Statements of tools, whoever writes them, do not come near it.
    for sql in [
        "delete from countersign.image",
        "select * from countersign.call",
        "update countersign.\"call\" set rows = 1",
        "with x as (delete from U&\"count\\0065rsign\".image returning 1) select * from x",
        "select countersign.prune(0)",
        "select set_config('countersign.call', '', true)",
        "set countersign.call = ''",
    ] {
        let refusal = world.refusal("query", json!({"sql": sql})).await;
        assert_eq!(refusal.code, Code::StatementRefused, "{sql}: {refusal}");
        assert!(AnyTool::new(&author(sql), &world.systems).is_err(), "{sql}");
    }
    undone(&world, &call).await;
    assert!(db.dump(&["customer"]).await.contains("(1,ada,)"));
}

async fn what_became_of_a_call_is_known_and_what_did_not_happen_never_will(server: &str) {
    let db = target_on(server, "recall", SHOP).await;
    let world = db.world(vec![reversible(&SHOP_TABLES)], ALLOW);
    // Without the journal nobody knows, and no write happens that nobody would know of.
    let unknown = CallId::parse("nobody").unwrap();
    assert_eq!(recall(&world.gate, &world.tools["query"], &unknown).await, Ok(Recalled::Unknown));
    let refusal = world.refusal("query", json!({"sql": "delete from line"})).await;
    assert!(refusal.message.contains("countersign system prepare"), "{refusal}");
    assert_eq!(db.dump(&["line"]).await.lines().count(), 27);
    db.prepare(&world, &["customer"]).await;
    let call = run(&world, "delete from line where invoice < 3").await;
    let happened = Recalled::Happened { rows: 6, amount: None };
    assert_eq!(recall(&world.gate, &world.tools["query"], &call).await, Ok(happened));
    let never = CallId::parse("never").unwrap();
    for _again in 0..2 {
        assert_eq!(recall(&world.gate, &world.tools["query"], &never).await, Ok(Recalled::Never));
    }
    assert!(message(undo(&world, &never).await).contains("did not happen"));
    assert!(message(undo(&world, &unknown).await).contains("knows no call"));
    // A backend that is still busy with the call: the question waits for its end, whichever that is.
    for (end, expected) in
        [("commit", Recalled::Happened { rows: 0, amount: None }), ("rollback", Recalled::Never)]
    {
        let busy = db.account().await;
        busy.batch_execute(&format!(
            "begin; insert into countersign.call (id, tool, digest) values ('busy-{end}', 'query', '')"
        ))
        .await
        .unwrap();
        let id = CallId::parse(&format!("busy-{end}")).unwrap();
        let asked = recall(&world.gate, &world.tools["query"], &id);
        let ending = async {
            // The question is seen waiting at the server before the other transaction ends.
            let waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
            while db.admin.query_opt(waiting, &[]).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            busy.batch_execute(end).await.unwrap();
        };
        assert_eq!(tokio::join!(asked, ending).0, Ok(expected));
        // Its statement comes too late now.
        let late =
            format!("insert into countersign.call (id, tool, digest) values ('busy-{end}', 'query', '')");
        assert!(busy.batch_execute(&late).await.is_err());
    }
    let busy = db.account().await;
    busy.batch_execute("begin; insert into countersign.call (id, tool, digest) values ('long', 'query', '')")
        .await
        .unwrap();
    let long = CallId::parse("long").unwrap();
    let impatient = PostgresTarget {
        journal: Some(JournalSettings::default()),
        limits: SqlLimits { statement_timeout_ms: 100, ..SqlLimits::default() },
        ..PostgresTarget::default()
    };
    let impatient = Database::world_of(&db.url, vec![reversible(&SHOP_TABLES)], ALLOW, impatient);
    let asked = recall(&impatient.gate, &impatient.tools["query"], &long).await;
    assert!(asked.is_err(), "not known while it runs: {asked:?}");
}
