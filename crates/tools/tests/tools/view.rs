//! What an approver is shown is what is touched, whatever names a statement gives to things; and what was approved runs.

use countersign_gate::{Answer, Evidence, Pending};
use countersign_rules::{Code, DeclaredEffect, Reach};
use countersign_tools::definition::SqlDefinition;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::json;

use crate::{
    harness::{ASK, World, counted, from_agent, sqlite},
    postgres::{Database, SERVERS, database_on},
};

/// Two tables whose rows nobody can take for one another's.
const TABLES: &str = "
    create table bill (id int primary key, cust text, total int);
    create table item (id int primary key, cust text, total int);
    insert into bill values (1, 'b1', 101), (2, 'b2', 102), (3, 'b3', 103), (4, 'b4', 104), (5, 'b5', 105), (6, 'b6', 106);
    insert into item values (1, 'i1', 201), (2, 'i2', 202), (3, 'i3', 203), (11, 'i11', 211);
";

/// Names that take one another's place.
fn names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["bill", "item", "b", "BILL", "\"bill\"", "\"item\"", "public", "x"])
}

/// What a `WITH` may hold: rows that look harmless, under a name of the agent's choice.
fn with() -> impl Strategy<Value = String> {
    let body = prop::sample::select(vec![
        "select 1 as id, 'TEST ROW' as cust, 0 as total",
        "select id, 'TEST ROW' as cust, total from {item} where id > 3",
        "select id, cust, total from {bill} where false",
        "select total as id, cust, id as total from {bill}",
    ]);
    (names(), body).prop_map(|(name, body)| format!("with {name} as ({body}) "))
}

/// Statements in which names shadow: `{bill}` and `{item}` stand for the tables with their schema.
fn statement() -> impl Strategy<Value = String> {
    let with = prop_oneof![
        Just(String::new()),
        with(),
        (with(), with())
            .prop_map(|(a, b)| { format!("{}, {}", a.trim_end(), b.trim_start_matches("with ")) })
    ];
    // Rows to join, made of words that are columns where the table can be seen.
    let joined = prop::sample::select(vec![
        "item",
        "(select case when \"id\" = 'id' then 1 else 3 end as id)",
        "(select length(\"cust\") - 1 as id)",
        "(select true + 1 as id)",
        "(with q as (select \"total\" = 'total' as id) select id + 1 as id from q)",
        "(select id from {item} as bill where \"cust\" > 'cust')",
        "(select max(id) as id from {bill} where cust < \"item\")",
    ]);
    let condition = prop::sample::select(vec![
        "id in (2, 3)",
        "{t}.id in (select case \"id\" when 'id' then 1 else 2 end)",
        "{t}.id = (with w as (select \"id\" as k) select max(k) from w)",
        "cust < \"x\"",
        "{t}.id < 4",
        "exists (select 1 from item where item.id = {t}.id)",
        "id in (select id from bill)",
        "id in (with bill as (select 3 as id) select id from bill)",
        "total > (select min(total) from {item}) - 100",
        "true",
    ]);
    let alias = prop_oneof![Just(String::new()), names().prop_map(|name| format!(" as {name}"))];
    (with, alias, condition, joined, 0..5_u8).prop_map(|(with, alias, condition, joined, verb)| {
        let shown = alias.strip_prefix(" as ").unwrap_or("bill").to_owned();
        let condition = condition.replace("{t}", &shown);
        match verb {
            0 => format!("{with}delete from bill{alias} where {condition}"),
            1 => format!("{with}update bill{alias} set total = 0 where {condition}"),
            2 => format!("{with}update bill{alias} set total = 0 from {joined} as o where o.id = {shown}.id and ({condition})"),
            3 => format!("{with}update bill{alias} set total = 0 from {joined} as o where o.id = {shown}.id"),
            _ => format!("{with}delete from bill where {}", condition.replace(&shown, "bill")),
        }
    })
}

/// What was shown for a statement, and what performing it touched; nothing where it is refused.
async fn shown_and_touched(world: &World, sql: &str) -> Option<(Reach, Option<Evidence>, u64)> {
    let Answer::Pending(pending) = world.call("query", json!({ "sql": sql })).await else { return None };
    let (reach, evidence) = world.shown(&pending).await;
    match world.approve(&pending.approval).await {
        Answer::Done(done) => Some((reach, evidence, done.rows)),
        // A statement that its database does not take was not touched by anybody.
        Answer::Refused(refused) if refused.refusal.code == Code::ToolFailed => None,
        other => panic!("{sql}: {reach:?}: {other:?}"),
    }
}

fn compare(sql: &str, reach: &Reach, evidence: Option<&Evidence>, touched: u64, gone: &[String]) {
    assert_eq!(reach.rows, touched, "{sql}: {reach:?}");
    let Some(evidence) = evidence else {
        assert_eq!(touched, 0, "{sql}: nothing was shown");
        return;
    };
    assert_eq!(evidence.sample.columns, ["id", "cust", "total"], "{sql}");
    for row in &evidence.sample.rows {
        let cust = row[1].clone().unwrap_or_default();
        assert!(gone.contains(&cust), "{sql}: shown {cust}, touched {gone:?}");
        assert_eq!(row[2].as_deref(), Some("•••"), "{sql}: a masked column is shown");
    }
}

fn tool() -> SqlDefinition {
    let mut tool = counted(from_agent("query", &["bill", "item"]));
    tool.mask = ["total".to_owned()].into();
    tool
}

const LEFT: &str = "select cust from bill where total <> 0 order by id";

#[tokio::test]
async fn what_postgresql_shows_is_what_it_touches_whatever_names_shadow() {
    for (at, server) in SERVERS.into_iter().enumerate() {
        let db = database_on(server, &format!("shadow_{at}"), 0).await;
        let mut tried = 0;
        let mut runner = TestRunner::deterministic();
        for _ in 0..120 {
            let sql = statement().new_tree(&mut runner).unwrap().current();
            let sql = sql.replace("{bill}", "public.bill").replace("{item}", "public.item");
            db.client.batch_execute("drop table if exists bill, item").await.unwrap();
            db.client.batch_execute(TABLES).await.unwrap();
            let before = left(&db).await;
            let world = db.world(vec![tool()], ASK);
            let Some((reach, evidence, rows)) = shown_and_touched(&world, &sql).await else { continue };
            let after = left(&db).await;
            let gone: Vec<String> = before.iter().filter(|cust| !after.contains(cust)).cloned().collect();
            compare(&sql, &reach, evidence.as_ref(), rows, &gone);
            tried += 1;
        }
        assert!(tried > 60, "the statements say little: {tried}");
    }
}

async fn left(db: &Database) -> Vec<String> {
    db.client.query(LEFT, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn what_sqlite_shows_is_what_it_touches_whatever_names_shadow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let mut tried = 0;
    let mut runner = TestRunner::deterministic();
    for _ in 0..150 {
        let sql = statement().new_tree(&mut runner).unwrap().current();
        let sql = sql.replace("{bill}", "main.bill").replace("{item}", "main.item");
        let file = rusqlite::Connection::open(&path).unwrap();
        file.execute_batch("drop table if exists bill; drop table if exists item").unwrap();
        file.execute_batch(TABLES).unwrap();
        let left = || -> Vec<String> {
            let mut found = file.prepare(LEFT).unwrap();
            found.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let before = left();
        let definitions = [countersign_tools::AnyDefinition::Sql(tool())];
        let world = World::new(&[sqlite(&path)], crate::harness::TestVault::default(), &definitions, ASK);
        let Some((reach, evidence, rows)) = shown_and_touched(&world, &sql).await else { continue };
        let after = left();
        let gone: Vec<String> = before.iter().filter(|cust| !after.contains(cust)).cloned().collect();
        compare(&sql, &reach, evidence.as_ref(), rows, &gone);
        tried += 1;
    }
    assert!(tried > 60, "the statements say little: {tried}");
}

/// Words in double quotes, and `true`, mean what they name where a column is called so, and themselves where none is: which
/// of both must not depend on where the statement stands while it is measured.
#[tokio::test]
async fn sqlite_takes_no_name_for_a_string_and_no_column_for_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(TABLES).unwrap();
    file.execute_batch("create table odd (id int primary key, cust text, total int, \"True\" int)").unwrap();
    file.execute_batch("insert into odd values (1, 'o1', 301, 3), (3, 'o3', 303, 3)").unwrap();
    let tool = counted(from_agent("query", &["bill", "item", "odd"]));
    let world = World::new(
        &[sqlite(&path)],
        crate::harness::TestVault::default(),
        &[countersign_tools::AnyDefinition::Sql(tool)],
        ASK,
    );
    for sql in [
        "update bill set total = 0 from (select case when \"id\" = 'id' then 1 else 3 end as k) as w where bill.id = w.k",
        "with w as (select \"id\" as k) delete from bill where cust = 'b1' and exists (select 1 from w where k = 'id')",
        "delete from bill where cust = \"b1\"",
    ] {
        if let Some((reach, evidence, touched)) = shown_and_touched(&world, sql).await {
            assert!(evidence.is_none() && (reach.rows, touched) == (0, 0), "{sql}: {reach:?}, {touched}");
        }
    }
    let untouched: i64 =
        file.query_row("select count(*) from bill where total > 0", [], |row| row.get(0)).unwrap();
    assert_eq!(untouched, 6);
    for sql in [
        "update odd set total = 0 from (select true as k) as w where odd.id = w.k",
        "with w as (select true as k) delete from odd where id in (select k from w)",
    ] {
        if let Some((reach, evidence, touched)) = shown_and_touched(&world, sql).await {
            assert!(evidence.is_none() && reach.rows == touched, "{sql}: {reach:?}, {evidence:?}, {touched}");
        }
    }
}

/// Asks, approves what was shown, and says what came of it; a second request would be one too many.
async fn approved_once(world: &World, sql: &str) -> (Pending, u64) {
    let pending = world.pending("query", json!({ "sql": sql })).await;
    match world.approve(&pending.approval).await {
        Answer::Done(done) => (pending, done.rows),
        other => panic!("{sql}: {:?}: {other:?}", pending.reach),
    }
}

/// Ordinary tables, as their owners make them: an audit trigger, a time stamp, a parent and its child, a partition.
const ORDINARY: &str = "
    create table u (id int primary key, v int);
    insert into u select g, g from generate_series(1, 10) g;
    create table lg (id int generated always as identity primary key, w text);
    create function f() returns trigger language plpgsql security definer as
        $$ begin insert into lg (w) values (tg_op); return null; end $$;
    create trigger tr after update or delete on u for each row execute function f();
    create table stamped (id int primary key, v int, updated_at timestamptz);
    insert into stamped select g, g from generate_series(1, 5) g;
    create function touch() returns trigger language plpgsql as $$ begin new.updated_at = now(); return new; end $$;
    create trigger touch before update on stamped for each row execute function touch();
    create table base (id int primary key, v int);
    create table kid (primary key (id)) inherits (base);
    create table grandkid (primary key (id)) inherits (kid);
    insert into base values (1, 1), (2, 2); insert into kid values (3, 3), (4, 4); insert into grandkid values (5, 5);
    create table part (id int, v int) partition by range (id);
    create table part_a partition of part for values from (0) to (10) partition by range (id);
    create table part_a1 partition of part_a for values from (0) to (5);
    create table part_a2 partition of part_a for values from (5) to (10);
    insert into part select g, g from generate_series(1, 8) g;
";

#[tokio::test]
async fn one_approval_is_one_effect_on_ordinary_tables() {
    let tables = ["u", "lg", "stamped", "base", "kid", "grandkid", "part", "part_a", "part_a1", "part_a2"];
    for (at, server) in SERVERS.into_iter().enumerate() {
        for (way, definition) in
            [("as_shipped", from_agent("query", &tables)), ("counted", counted(from_agent("query", &tables)))]
        {
            let db = database_on(server, &format!("ordinary_{way}_{at}"), 0).await;
            db.client.batch_execute(ORDINARY).await.unwrap();
            let world = db.world(vec![definition], ASK);
            for (sql, rows) in [
                ("update stamped set v = 0 where id < 4", 3),
                ("update base set v = v + 1", 5),
                ("delete from kid where v > 3", 3),
                ("update only base set v = 7", 2),
                ("update part set v = 0 where id > 1", 7),
                ("update part_a set v = 1 where id in (2, 6)", 2),
                ("delete from part_a2", 4),
            ] {
                assert_eq!(approved_once(&world, sql).await.1, rows, "{way}: {sql}");
            }
            // What a trigger writes elsewhere is told before people are asked, where the system rehearses; where it only
            // counts, the second request tells it, and is performed.
            let sql = "update u set v = 0 where id < 4";
            if way == "as_shipped" {
                let (pending, rows) = approved_once(&world, sql).await;
                let reach = pending.reach.unwrap();
                assert_eq!((rows, reach.rows, reach.rehearsed), (6, 6, true), "{reach:?}");
            } else {
                let first = world.pending("query", json!({ "sql": sql })).await;
                let Answer::Pending(second) = world.approve(&first.approval).await else {
                    panic!("it reaches further")
                };
                let reach = second.reach.clone().unwrap();
                assert_eq!((reach.rows, reach.rehearsed), (6, true), "{reach:?}");
                let Answer::Done(done) = world.approve(&second.approval).await else {
                    panic!("it was approved")
                };
                assert_eq!(done.rows, 6);
            }
        }
    }
}

#[tokio::test]
async fn one_approval_is_one_effect_beside_triggers_of_sqlite() {
    for way in ["as_shipped", "counted"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let file = rusqlite::Connection::open(&path).unwrap();
        file.execute_batch(
            "create table u (id integer primary key, v int, at text); create table lg (w text);
             insert into u (id, v) values (1, 1), (2, 2), (3, 3), (4, 4);
             create trigger tr after update of v on u begin insert into lg values (new.id); end;
             create trigger stamp after update of v on u begin update u set at = 'now' where id = new.id; end;",
        )
        .unwrap();
        let definition = from_agent("query", &["u", "lg"]);
        let definition = if way == "counted" { counted(definition) } else { definition };
        let definitions = [countersign_tools::AnyDefinition::Sql(definition)];
        let world = World::new(&[sqlite(&path)], crate::harness::TestVault::default(), &definitions, ASK);
        let sql = "update u set v = 0 where id < 4";
        let mut pending = world.pending("query", json!({ "sql": sql })).await;
        let mut asked = 1;
        let rows = loop {
            match world.approve(&pending.approval).await {
                Answer::Done(done) => break done.rows,
                Answer::Pending(again) if asked == 1 && way == "counted" => pending = again,
                other => panic!("{way}: {other:?}"),
            }
            asked += 1;
        };
        assert_eq!(
            (rows, asked),
            (pending.reach.unwrap().rows, if way == "counted" { 2 } else { 1 }),
            "{way}"
        );
    }
}

const FEW: &str = r#"
@id("writes") @ask("people") permit (principal, action, resource);
@id("many") forbid (principal, action, resource) when { context has reach && (context.reach.rows > 500 || context.reach.unbounded) };
"#;

#[tokio::test]
async fn what_row_security_hides_of_the_same_table_is_no_reason_to_count_less() {
    for (at, server) in SERVERS.into_iter().enumerate() {
        let db = database_on(server, &format!("own_cascade_{at}"), 0).await;
        let role = format!("tools_own_cascade_{at}");
        db.client
            .batch_execute(&format!(
                "create table node (id int primary key, up int references node on delete cascade, owner text);
                 insert into node select g, case when g > 1 then 1 end, case when g <= 3 then 'mine' else 'theirs' end
                   from generate_series(1, 600) g;
                 alter table node enable row level security; create policy p on node using (owner = 'mine');
                 drop role if exists {role}; create role {role} login password 'secret';
                 grant select, delete on node to {role};"
            ))
            .await
            .unwrap();
        let mut url = url::Url::parse(&db.url).unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some("secret")).unwrap();
        let as_role = Database { url: url.into(), client: crate::postgres::connect(&db.url).await };
        let world = as_role.world(vec![counted(from_agent("query", &["node"]))], FEW);
        let refusal = world.refusal("query", json!({ "sql": "delete from node where id = 1" })).await;
        assert_eq!(refusal.code, Code::DeniedByPolicy, "{refusal}");
        // Where it is run to find out, what is found counts.
        let world = as_role.world(vec![from_agent("query", &["node"])], FEW);
        let refusal = world.refusal("query", json!({ "sql": "delete from node where id = 1" })).await;
        assert_eq!(refusal.code, Code::DeniedByPolicy, "{refusal}");
        db.client.batch_execute(&format!("drop owned by {role}; drop role {role}")).await.unwrap();
    }
}

#[tokio::test]
async fn a_table_made_of_deleted_rows_has_no_reach_of_nothing() {
    for (at, server) in SERVERS.into_iter().enumerate() {
        let db = database_on(server, &format!("made_of_{at}"), 0).await;
        db.client.batch_execute(TABLES).await.unwrap();
        let mut open = from_agent("query", &["bill", "item", "gone"]);
        open.tool.effect = DeclaredEffect::FromStatement;
        let world = db.world(vec![open], FEW);
        let sql = "create table gone as with d as (delete from bill returning *) select * from d";
        let refusal = world.refusal("query", json!({ "sql": sql })).await;
        assert_eq!(refusal.code, Code::ReachUnmeasurable, "{refusal}");
        assert_eq!(left(&db).await.len(), 6, "nothing ran");
    }
}

/// What a column is computed from, what a table is a part of, and what a view shows under other names is hidden where the
/// column is.
const ORIGINS: &str = "
    create table card (id int primary key, holder text, secret text, last text generated always as ('no ' || secret) stored);
    insert into card (id, holder, secret) values (1, 'ann', 'S3CRET-1'), (2, 'bob', 'S3CRET-2');
    create table bare (id int primary key, secret text, note text);
    insert into bare values (1, 'S3CRET-3', 'plain');
";

fn hiding(tables: &[&str], mask: &[&str]) -> SqlDefinition {
    let mut tool = counted(from_agent("query", tables));
    tool.mask = mask.iter().map(|column| (*column).to_owned()).collect();
    tool
}

/// What an approver sees of rows, as one text; nothing where the call is refused.
async fn seen(world: &World, sql: &str) -> Option<String> {
    let Answer::Pending(pending) = world.call("query", json!({ "sql": sql })).await else { return None };
    let (_, evidence) = world.shown(&pending).await;
    Some(evidence.map(|evidence| format!("{:?}", evidence.sample.rows)).unwrap_or_default())
}

fn hidden(sql: &str, shown: Option<String>, plain: &str) {
    let shown = shown.unwrap_or_else(|| panic!("{sql}: was not asked about"));
    assert!(!shown.contains("S3CRET"), "{sql}: {shown}");
    assert!(shown.contains(plain), "{sql}: {shown}");
}

#[tokio::test]
async fn masking_follows_where_a_column_comes_from_on_postgresql() {
    for (at, server) in SERVERS.into_iter().enumerate() {
        let db = database_on(server, &format!("origin_{at}"), 0).await;
        db.client.batch_execute(ORIGINS).await.unwrap();
        db.client
            .batch_execute(
                "create view cards as select id, secret as shown, holder from card;
                 create table part (id int, secret text, note text) partition by range (id);
                 create table part_1 partition of part for values from (0) to (10);
                 insert into part values (1, 'S3CRET-4', 'plain');
                 create table base (id int primary key, secret text, note text);
                 create table kid (more text) inherits (base);
                 insert into kid values (1, 'S3CRET-5', 'plain', 'more');",
            )
            .await
            .unwrap();
        let tables = ["card", "bare", "cards", "part", "part_1", "base", "kid"];
        for mask in [&["secret"][..], &["card.secret", "bare.secret", "part.secret", "base.secret"]] {
            let world = db.world(vec![hiding(&tables, mask)], ASK);
            for (sql, plain) in [
                ("delete from card where id = 1", "ann"),
                ("update card set holder = secret where id = 1", "ann"),
                (
                    "update card as other set holder = 'x' from (select secret as y from card) q where other.id = 1",
                    "ann",
                ),
                (
                    "with gone as (select secret as open from card) delete from card where id in (select 1 from gone)",
                    "ann",
                ),
                ("delete from card where id = 1 returning secret as open, card, row_to_json(card)", "ann"),
                ("delete from part_1", "plain"),
                ("delete from part where id = 1", "plain"),
                ("delete from kid", "plain"),
                ("delete from base", "plain"),
                ("truncate part_1", "plain"),
            ] {
                hidden(sql, seen(&world, sql).await, plain);
            }
            for sql in [
                "insert into bare (id, note) select id + 10, secret from card",
                "insert into bare (id, note) select id + 10, card::text from card",
                "insert into bare (id, note) select 10, array_agg(secret)::text from card",
                "with s as (select id, secret as x from card) insert into bare (id, note) select id + 10, x from s",
                "update cards set holder = 'x' where id = 1",
                "delete from cards where id = 1",
            ] {
                let shown = seen(&world, sql).await.unwrap_or_default();
                assert!(!shown.contains("S3CRET"), "{sql}: {shown}");
            }
        }
        // Hidden in the child, it is hidden of those of its rows that the parent shows.
        let world = db.world(vec![hiding(&tables, &["kid.secret", "part_1.secret"])], ASK);
        for sql in ["delete from base", "delete from part"] {
            hidden(sql, seen(&world, sql).await, "plain");
        }
    }
}

#[tokio::test]
async fn masking_follows_where_a_column_comes_from_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(ORIGINS).unwrap();
    file.execute_batch(
        "create virtual table found using fts5(open); insert into found (rowid, open) select id, secret from card;
         create view cards as select id, secret as shown, holder from card;",
    )
    .unwrap();
    for mask in [&["secret"][..], &["card.secret", "bare.secret"]] {
        let tool = hiding(&["card", "bare", "found", "cards"], mask);
        let definitions = [countersign_tools::AnyDefinition::Sql(tool)];
        let world = World::new(&[sqlite(&path)], crate::harness::TestVault::default(), &definitions, ASK);
        for sql in [
            "delete from card where id = 1",
            "update card set holder = secret where id = 1",
            "with gone as (select secret as open from card) delete from card where id in (select 1 from gone)",
            "delete from card where id = 1 returning secret as open",
        ] {
            hidden(sql, seen(&world, sql).await, "ann");
        }
        for sql in [
            "insert into bare (id, note) select id + 10, secret from card",
            "insert into bare (id, note) select 10, group_concat(secret) from card",
            "delete from found where rowid = 1",
            "delete from cards where id = 1",
        ] {
            let shown = seen(&world, sql).await.unwrap_or_default();
            assert!(!shown.contains("S3CRET"), "{sql}: {shown}");
        }
    }
}
