//! What undo promises, where rows are odd: a reversible write comes back byte by byte, or it is rolled back before it
//! is committed and says why. It is never said of rows that they changed since when nobody changed any.

use countersign_gate::Answer;
use countersign_rules::{CallId, Code};
use serde_json::json;

use crate::{
    harness::{ALLOW, ASK, World},
    postgres_undo::{Database, message, on_each_server, reversible, run, target_on, undo, undone},
};

on_each_server! {
    keys_that_are_equal_and_not_the_same_text_come_back,
    numbers_that_the_database_alone_gives_come_back,
    undoing_says_which_counters_stay_where_they_are,
    rows_that_could_not_be_put_in_again_are_not_taken_out,
    what_looks_beyond_the_row_is_tried_before_it_is_promised,
    rights_that_only_another_way_back_needs_are_asked_for_before,
    what_has_no_rows_of_its_own_is_left_out_of_preparing,
    a_large_call_is_undone_with_the_shipped_limits,
    an_undo_that_takes_too_long_says_which_setting_to_raise,
}

/// Does it, undoes it, undoes that, and undoes it again.
async fn there_and_back(db: &Database, world: &World, tables: &[&str], sql: &str) {
    let before = db.dump(tables).await;
    let call = run(world, sql).await;
    let after = db.dump(tables).await;
    assert_ne!(before, after, "{sql}");
    let by = match undo(world, &call).await {
        Answer::Done(by) => by,
        other => panic!("{sql}: {other:?}"),
    };
    assert_eq!(db.dump(tables).await, before, "{sql}");
    undone(world, &by.call).await;
    assert_eq!(db.dump(tables).await, after, "{sql}");
    undone(world, &call).await;
    assert_eq!(db.dump(tables).await, before, "{sql}");
}

/// Is rolled back as not reversible, whether people are asked or not; a rehearsal finds out before.
async fn rolled_back(db: &Database, tables: &[&str], sql: &str, why: &str) {
    let world = db.world(vec![reversible(tables)], ALLOW);
    let before = db.dump(tables).await;
    let said = message(world.call("query", json!({"sql": sql})).await);
    assert!(said.contains("could not be undone") && said.contains(why), "{sql}: {said}");
    assert_eq!(db.dump(tables).await, before, "{sql}");
    let kept = "select count(*) from countersign.call where images and undoes is null";
    let kept: i64 = db.admin.query_one(kept, &[]).await.unwrap().get(0);
    assert_eq!(kept, 0, "{sql}: it is in the journal");
}

async fn keys_that_are_equal_and_not_the_same_text_come_back(server: &str) {
    let db = target_on(
        server,
        "loose",
        "create extension citext;
         create collation anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table kn (k numeric primary key, v text); create table kc (k citext primary key, v text);
         create table ko (k text collate anycase primary key, v text); create table kf (k float8 primary key, v text);
         create table kb (k char(5) primary key, v text); create table ki (k interval primary key, v text);
         create table kj (k jsonb primary key, v text); create table kr (k numrange primary key, v text);
         create table ka (k numeric[] primary key, v text); create table kd (k bpchar primary key, v text);
         create table k2 (a numeric, b citext, v text, primary key (a, b));
         create table part (k numeric, v text, primary key (k)) partition by range (k);
         create table part_1 partition of part for values from (0) to (5); create table part_2 partition of part for values from (5) to (10);
         create table child (id int primary key, k numeric references kn on update cascade on delete cascade);
         create table wide (k numeric, v json, primary key (k) include (v));
         insert into kn values (1.0, 'a'), (2.50, 'b'), (0, 'z'); insert into kc values ('Ada', 'a'), ('bob', 'b');
         insert into ko values ('Ada', 'a'), ('bob', 'b'); insert into kf values (0, 'a'), ('NaN', 'n'), (1, 'b');
         insert into kb values ('a', 'a'), ('b', 'b'); insert into ki values ('1 mon', 'a'), ('1 day', 'b');
         insert into kj values ('{\"a\": 1.0}', 'a'), ('2', 'b'); insert into kr values ('[1.0,2.0)', 'a');
         insert into ka values ('{1.0,2}', 'a'); insert into kd values ('a', 'a'), ('b ', 'b'); insert into k2 values (1.0, 'x', 'a'), (2.0, 'Y', 'b');
         insert into part values (1.0, 'a'), (7.0, 'b'); insert into child values (1, 1.0), (2, 2.5), (3, null);
         insert into wide values (1.0, '{\"a\":1}');",
    )
    .await;
    let tables = ["kn", "kc", "ko", "kf", "kb", "ki", "kj", "kr", "ka", "kd", "k2", "part", "child", "wide"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    for sql in [
        "update kn set k = k * 1.000",
        "update kn set k = k * 1.000, v = v || '!' where k = 1",
        "with gone as (delete from kn where k = 0 returning *) insert into kn select 0.000, v from gone",
        "insert into kn values (1.00, 'new') on conflict (k) do update set k = excluded.k, v = excluded.v",
        "update kc set k = upper(k)",
        "with gone as (delete from kc returning *) insert into kc select lower(k), v from gone",
        "update ko set k = upper(k)",
        "insert into ko values ('ADA', 'c') on conflict (k) do update set k = excluded.k",
        "update kf set k = -k where k = 0",
        "update kb set k = 'c' where k = 'a   '",
        "update ki set k = '30 days' where k = '1 mon'",
        "update kj set k = '{\"a\": 1.00}' where v = 'a'",
        "update kr set k = '[1.00,2.000)'",
        "update ka set k = '{1.00,2.0}'",
        "update kd set k = k || '  '",
        "update k2 set a = a * 1.0, b = upper(b)",
        "delete from k2 where b = 'y'",
        "update part set k = k * 1.00",
        "update part set k = 10.000 - k - 1",
        "update child set k = k * 1.0000",
        "delete from kn where k = 1.0000",
        "update wide set k = k * 1.0, v = '{\"a\": 2}'",
    ] {
        there_and_back(&db, &world, &tables, sql).await;
    }
    // A key that follows is written as its parent is, and was not before: no undo can tell it to stay.
    db.admin
        .batch_execute("update child set k = 1.00 where id = 1; delete from countersign.call")
        .await
        .unwrap();
    let sql = "insert into kn values (1.00, 'new') on conflict (k) do update set k = excluded.k";
    rolled_back(&db, &tables, sql, "`public.child`").await;
    // An operator that the search path hides is meant all the same.
    db.admin
        .batch_execute(
            "create schema ext; grant usage on schema ext to public; alter extension citext set schema ext",
        )
        .await
        .unwrap();
    there_and_back(&db, &world, &tables, "update kc set k = upper(k) where v = 'b'").await;
    let call = run(&world, "delete from kc where k = 'bob'").await;
    db.admin.batch_execute("insert into kc values ('BOB', 'other')").await.unwrap();
    let said = message(undo(&world, &call).await);
    assert!(said.contains("1 rows changed since") && said.contains("kc (bob)"), "{said}");
}

async fn numbers_that_the_database_alone_gives_come_back(server: &str) {
    let db = target_on(
        server,
        "given",
        "create table ida (id int generated always as identity primary key, v text);
         create table idd (id int generated by default as identity primary key, v text);
         create table idn (k int primary key, id int generated always as identity unique, v text, twice int generated always as (id * 2) stored);
         create table kid (id int primary key, up int references ida on update cascade on delete cascade);
         insert into ida (v) values ('a'), ('b'), ('c'); insert into idd (v) values ('a'), ('b');
         insert into idn (k, v) values (1, 'a'), (2, 'b'); insert into kid values (1, 1), (2, 3);",
    )
    .await;
    let tables = ["ida", "idd", "idn", "kid"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    for sql in [
        "update ida set id = default",
        "update ida set id = default, v = v || '!' where id > 1",
        "update idn set id = default where k = 1",
        "update idn set id = default, v = 'x'",
        "update idd set id = default",
        "delete from ida where v like 'a%'",
        "insert into ida (id, v) overriding system value values (77, 'x')",
        "update ida set v = 'all'",
    ] {
        there_and_back(&db, &world, &tables, sql).await;
    }
}

async fn undoing_says_which_counters_stay_where_they_are(server: &str) {
    let db = target_on(
        server,
        "counters",
        "create table ida (id int generated always as identity primary key, v text); create table ser (id serial primary key, v text);
         create sequence numbers; create table own (id int primary key, no bigint default nextval('numbers'), v text);
         create table parted (id int generated by default as identity, v text, primary key (id)) partition by range (id);
         create table parted_1 partition of parted for values from (0) to (1000); create table plain (id int primary key, v text);
         insert into ida (v) values ('a'), ('b'); insert into ser (v) values ('a'); insert into plain values (1, 'a');",
    )
    .await;
    let tables = ["ida", "ser", "own", "parted", "plain"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    let asking = db.world(vec![reversible(&tables)], ASK);
    for (sql, expected) in [
        ("insert into ida (v) values ('x'), ('y')", json!({"ida": ["id"]})),
        ("insert into ser (v) values ('x')", json!({"ser": ["id"]})),
        ("insert into own (id, v) values (1, 'x')", json!({"own": ["no"]})),
        ("insert into parted (v) values ('x')", json!({"parted": ["id"]})),
        ("update ida set id = default where v = 'a'", json!({"ida": ["id"]})),
        ("update ida set v = 'x'", json!({})),
        ("delete from ser", json!({})),
        ("insert into plain values (2, 'x')", json!({})),
    ] {
        let call = run(&world, sql).await;
        let pending = asking.pending("undo_billing", json!({"call": call})).await;
        let (_, evidence) = asking.shown(&pending).await;
        let word = evidence.unwrap().sample.rows[0][0].clone().unwrap();
        if let Some(rest) = word.strip_prefix("goes away") {
            let column =
                expected.as_object().unwrap().values().next().and_then(|columns| columns[0].as_str());
            let told = column.map(|column| format!(", and the counter of `{column}` stays where it is"));
            assert_eq!(rest, told.unwrap_or_default(), "{sql}");
        }
        let reply = undone(&world, &call).await;
        assert_eq!(reply["counters"], expected, "{sql}: {reply}");
        let log = world.gate.ledger().log();
        let entry = log.iter().rfind(|entry| entry.kind == "undone").unwrap();
        assert_eq!(entry.body()["left"]["counters"].as_object().is_some(), expected != json!({}), "{sql}");
    }
    // As it says: the next row gets another number.
    let next = "insert into ida (v) values ('next') returning id";
    let done = world.done("query", json!({"sql": next})).await;
    assert_eq!(done.reply["rows"], json!([{"id": 6}]));
}

async fn rows_that_could_not_be_put_in_again_are_not_taken_out(server: &str) {
    let db = target_on(
        server,
        "unchecked",
        "create table old_rows (id int primary key, n int, v text);
         insert into old_rows values (1, -5, 'a'), (2, 5, 'b');
         alter table old_rows add constraint n_pos check (n > 0) not valid;
         create table parent (id int primary key); insert into parent values (1);
         create table orphan (id int primary key, up int, v text); insert into orphan values (1, 99, 'a'), (2, 1, 'b');
         alter table orphan add foreign key (up) references parent on delete cascade not valid;
         create domain small as int; create table dom (id int primary key, s small); insert into dom values (1, 500), (2, 5);
         alter domain small add constraint small_only check (value < 100) not valid;
         create table twin (id int primary key, u int); insert into twin values (1, 7), (2, 7), (3, 8);",
    )
    .await;
    // A unique index that could not be made is in nobody's way.
    let broken = "create unique index concurrently twin_u on twin (u)";
    assert!(db.admin.batch_execute(broken).await.is_err());
    let tables = ["old_rows", "parent", "orphan", "dom", "twin"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    rolled_back(&db, &tables, "delete from old_rows where id = 1", "n_pos").await;
    rolled_back(&db, &tables, "update old_rows set n = 3", "n_pos").await;
    rolled_back(&db, &tables, "delete from orphan", "orphan_up_fkey").await;
    rolled_back(&db, &tables, "update orphan set up = null where id = 1", "orphan_up_fkey").await;
    rolled_back(&db, &tables, "delete from dom where id = 1", "small_only").await;
    for sql in [
        "delete from old_rows where id = 2",
        "update old_rows set n = n + 1, v = 'x' where id = 2",
        "delete from orphan where id = 2",
        "update orphan set v = 'x'",
        "delete from parent",
        "delete from dom where id = 2",
        "delete from twin where id = 2",
        "insert into old_rows values (3, 3, 'c')",
    ] {
        there_and_back(&db, &world, &tables, sql).await;
    }
}

async fn what_looks_beyond_the_row_is_tried_before_it_is_promised(server: &str) {
    let db = target_on(
        server,
        "beyond",
        "create table fresh (id int primary key, at timestamptz check (at <= now()), day date check (day >= current_date));
         create function open() returns boolean language sql immutable as $$ select current_setting('x.open', true) is distinct from 'no' $$;
         create table gated (id int primary key, check (open()));
         create table kept (id int primary key, v text);
         create function never() returns trigger language plpgsql as $$ begin raise exception 'rows stay'; end $$;
         create trigger never before delete on kept for each row execute function never();
         create table ruled (id int primary key, v text); create rule r as on delete to ruled where old.id < 0 do instead nothing;
         create table doc (id int primary key, owner text, n int); alter table doc enable row level security;
         create policy see on doc for select using (owner = 'us'); create policy add on doc for insert with check (n > 10);
         create policy change on doc for update using (true) with check (true); create policy remove on doc for delete using (true);
         insert into gated values (1); insert into kept values (1, 'a'); insert into ruled values (1, 'a');
         insert into doc values (1, 'us', 1), (2, 'us', 20); insert into fresh values (1, 'epoch', 'infinity');
         alter table fresh drop constraint fresh_day_check; insert into fresh values (2, 'epoch', '2020-01-01');
         alter table fresh add check (day >= current_date) not valid;",
    )
    .await;
    let tables = ["fresh", "gated", "kept", "ruled", "doc"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    rolled_back(&db, &tables, "delete from fresh where id = 2", "fresh_day_check").await;
    rolled_back(&db, &tables, "insert into kept values (2, 'b')", "rows stay").await;
    rolled_back(&db, &tables, "insert into ruled values (2, 'b')", "rule").await;
    rolled_back(&db, &tables, "delete from doc where id = 1", "row-level security").await;
    there_and_back(&db, &world, &tables, "delete from fresh where id = 1").await;
    there_and_back(&db, &world, &tables, "update kept set v = 'x'").await;
    there_and_back(&db, &world, &tables, "delete from doc where id = 2").await;
    db.admin.batch_execute("alter database tools_undo_beyond set x.open = 'yes'").await.unwrap();
    there_and_back(&db, &world, &tables, "delete from gated").await;
    // Nobody is asked about what is seen in a rehearsal to be no way back.
    let asking = db.world(vec![reversible(&tables)], ASK);
    let refusal = asking.refusal("query", json!({"sql": "insert into kept values (2, 'b')"})).await;
    assert!(refusal.message.contains("could not be undone"), "{refusal}");
    assert_eq!(refusal.code, Code::ReachUnmeasurable, "{refusal}");
}

async fn rights_that_only_another_way_back_needs_are_asked_for_before(server: &str) {
    let db = target_on(
        server,
        "narrow",
        "create table ida (id int generated always as identity primary key, v text, secret text);
         create table seat (id int primary key, during int4range not null, exclude using gist (during with &&));
         create function also() returns trigger language plpgsql security definer as $$ begin
             update ida set secret = 'seen' where id = new.id and secret is distinct from 'seen'; return null; end $$;
         create trigger also after update of v on ida for each row execute function also();
         insert into ida (v) values ('a'); insert into seat values (1, '[1,3)'), (2, '[3,5)');
         revoke all on ida, seat from tools_undo_narrow; grant select, update (id, v) on ida to tools_undo_narrow;
         grant select, update on seat to tools_undo_narrow;",
    )
    .await;
    let tables = ["ida", "seat"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    rolled_back(&db, &tables, "update ida set id = default", "permission denied").await;
    rolled_back(&db, &tables, "update ida set v = 'x'", "permission denied").await;
    there_and_back(&db, &world, &tables, "update seat set during = '[5,7)' where id = 2").await;
}

async fn what_has_no_rows_of_its_own_is_left_out_of_preparing(server: &str) {
    let db = target_on(
        server,
        "views",
        "create extension postgres_fdw; create server far foreign data wrapper postgres_fdw;
         create table t (id int primary key, v text); create view tv as select id from t;
         create materialized view tm as select id from t; create foreign table ft (id int) server far;
         create sequence s; create table p (id int primary key, v text) partition by range (id);
         create table p1 partition of p for values from (0) to (10);
         create table base (id int primary key); create foreign table far_base (id int) inherits (base) server far;
         insert into t values (1, 'a'); insert into p values (1, 'a');",
    )
    .await;
    let tables = ["t", "tv", "tm", "ft", "s", "p", "base"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    let said = db.prepare(&world, &tables).await;
    assert_eq!(
        said,
        [
            "keeps rows of public.base",
            "keeps rows of public.p",
            "keeps rows of public.t",
            "leaves out public.far_base, a foreign table: its rows are on another server",
            "leaves out public.ft, a foreign table: its rows are on another server",
            "leaves out public.s, a sequence: it has no rows to put back",
            "leaves out public.tm, a materialized view: it is written by refreshing it alone",
            "leaves out public.tv, a view: the tables behind it are named by themselves",
        ]
    );
    for sql in ["update t set v = 'b'", "update tv set id = 2", "delete from p"] {
        there_and_back(&db, &world, &["t", "p"], sql).await;
    }
}

const LARGE: &str = "create table big (id int primary key, a text, b numeric, c timestamptz default now());
    insert into big select g, md5(g::text), g * 1.5 from generate_series(1, 80000) g;";

async fn a_large_call_is_undone_with_the_shipped_limits(server: &str) {
    let db = target_on(server, "large", LARGE).await;
    let mut tool = reversible(&["big"]);
    tool.tool.rows_max = 1_000_000;
    let world = db.world(vec![tool], ALLOW);
    db.prepare(&world, &["big"]).await;
    let digest = "select md5(string_agg(b::text, '|' order by b::text)) from big b";
    let digest = async || db.admin.query_one(digest, &[]).await.unwrap().get::<_, String>(0);
    let before = digest().await;
    let call = run(&world, "update big set b = b + 1 where id > 0").await;
    assert_ne!(digest().await, before);
    let done = undone(&world, &call).await;
    assert_eq!(done["restored"], json!({"big": 80_000}));
    assert_eq!(digest().await, before);
}

async fn an_undo_that_takes_too_long_says_which_setting_to_raise(server: &str) {
    let db =
        target_on(server, "slow", "create table t (id int primary key, n int); insert into t values (1, 1);")
            .await;
    let world = db.world(vec![reversible(&["t"])], ALLOW);
    db.prepare(&world, &["t"]).await;
    let call: CallId = run(&world, "update t set n = 2").await;
    // Somebody holds the row for longer than ten times the limit.
    let limits = countersign_tools::definition::SqlLimits {
        statement_timeout_ms: 20,
        ..countersign_tools::definition::SqlLimits::default()
    };
    let target = countersign_tools::definition::PostgresTarget {
        journal: Some(countersign_tools::definition::JournalSettings::default()),
        limits,
        ..countersign_tools::definition::PostgresTarget::default()
    };
    let impatient = db.world_to(vec![reversible(&["t"])], ALLOW, target);
    db.admin.batch_execute("begin; update t set n = 2 where id = 1").await.unwrap();
    let said = message(undo(&impatient, &call).await);
    db.admin.batch_execute("rollback").await.unwrap();
    assert!(said.contains("200 ms") && said.contains("`statement_timeout_ms`"), "{said}");
    undone(&world, &call).await;
}

#[tokio::test]
async fn columns_that_are_computed_when_read_are_no_change() {
    let db = target_on(
        crate::postgres::SERVERS[1],
        "virtual",
        "create table vg (id int primary key, a int, b int generated always as (a * 2), s int generated always as (a * 3) stored, c text);
         create table vp (id int, a int, b text generated always as ('x' || a) virtual, primary key (id, a)) partition by range (id);
         create table vp_1 partition of vp for values from (0) to (10); create table vp_2 partition of vp for values from (10) to (20);
         create table vi (id int generated always as identity primary key, b int generated always as (id + 1), v text);
         create table vc (id int primary key, up int references vg on delete cascade on update cascade, b int generated always as (up + 1));
         create table only_key (id int primary key, b int generated always as (id));
         insert into vg values (1, 1, default, default, 'a'), (2, 2, default, default, null), (3, null, default, default, 'c');
         insert into vp values (1, 1), (11, 2); insert into vi (v) values ('a'), ('b'); insert into vc values (1, 1), (2, 2), (3, null);
         insert into only_key values (1), (2);",
    )
    .await;
    let tables = ["vg", "vp", "vi", "vc", "only_key"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    for sql in [
        "update vg set a = a + 10 where id = 1",
        "insert into vg values (4, 4)",
        "delete from vg",
        "update vg set id = id + 10",
        "update vp set id = 21 - id, a = a + 1 where id = 11",
        "delete from vp where id = 1",
        "insert into vp values (5, 5), (15, 5)",
        "update vi set id = default",
        "update vi set v = 'x'",
        "update only_key set id = id + 10",
        "insert into only_key values (5)",
        "insert into vg (id, a) values (1, 77), (9, 9) on conflict (id) do update set a = excluded.a",
        "with gone as (delete from vg where id = 2 returning *) insert into vg (id, a, c) select id, a + 1, c from gone",
    ] {
        if sql.contains("with gone") {
            db.admin.batch_execute("delete from vc where up = 2").await.unwrap();
        }
        there_and_back(&db, &world, &tables, sql).await;
    }
    let call = run(&world, "update vg set a = 5 where id < 3").await;
    db.admin.batch_execute("update vg set a = 6 where id = 2").await.unwrap();
    let said = message(undo(&world, &call).await);
    assert!(said.contains("1 rows changed since") && said.contains("vg (2)"), "{said}");
    let asking = db.world(vec![reversible(&tables)], ASK);
    let pending = asking.pending("undo_billing", json!({"call": call, "on_change": "skip"})).await;
    let (_, evidence) = asking.shown(&pending).await;
    assert_eq!(evidence.unwrap().sample.columns, ["undo", "id", "a", "s", "c"]);
}

#[tokio::test]
async fn what_postgresql_18_brings_is_put_back_or_refused() {
    let db = target_on(
        crate::postgres::SERVERS[1],
        "eighteen",
        "create table lax (id int primary key, n int, up int); insert into lax values (1, -5, 77), (2, 5, 2);
         alter table lax add constraint n_pos check (n > 0) not enforced;
         alter table lax add constraint up foreign key (up) references lax not enforced;
         create table nulls (id int primary key, v text); insert into nulls values (1, null), (2, 'b');
         alter table nulls add constraint v_there not null v not valid;
         create extension btree_gist;
         create table stay (room int, during daterange, who text, primary key (room, during without overlaps));
         insert into stay values (1, '[2026-01-01,2026-01-05)', 'a'), (1, '[2026-01-05,2026-01-09)', 'b');
         create table un (id int primary key, email text); insert into un values (2, 'b');",
    )
    .await;
    let tables = ["lax", "nulls", "stay", "un"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    rolled_back(&db, &tables, "delete from nulls where id = 1", "null value in column").await;
    for sql in [
        "delete from lax",
        "update lax set n = n - 10",
        "delete from nulls where id = 2",
        "update stay set who = 'c'",
        "update stay set during = '[2026-01-02,2026-01-05)' where who = 'a'",
        "update stay set during = daterange(lower(during) + 20, upper(during) + 20)",
        "delete from stay where who = 'a'",
    ] {
        there_and_back(&db, &world, &tables, sql).await;
    }
    let done = world
        .done(
            "query",
            json!({"sql": "update un set email = 'r' where id = 2 returning old.email, new.email, id"}),
        )
        .await;
    assert_eq!(done.reply["rows"], json!([{"email": "b", "email_2": "r", "id": 2}]));
}
