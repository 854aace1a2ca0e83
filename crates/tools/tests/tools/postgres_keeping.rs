//! How rows are kept: by statement, the very rows that a row trigger sees, at a cost that does not grow with calls of
//! triggers; one by one where a statement does not tell the table they stand in; and by what an older version prepared.

use countersign_gate::{Answer, Recalled};
use countersign_rules::CallId;
use serde_json::json;

use crate::{
    harness::ALLOW,
    postgres_undo::{
        Database, SHOP, SHOP_TABLES, message, on_each_server, recall, reversible, run, target_on, undo,
        undone,
    },
};

on_each_server! {
    what_is_kept_of_statements_is_what_row_triggers_see,
    a_statement_calls_its_trigger_once_however_many_rows_it_changes,
    rows_of_partitions_and_children_are_kept_one_by_one,
    what_an_older_version_prepared_is_brought_up_to_date_and_its_calls_are_undone,
}

/// Begins a call as a server does, and stays in its transaction.
async fn begin(db: &Database, call: &str) {
    let sql = format!(
        "begin; insert into countersign.call (id, tool, digest, images) values ('{call}', '', '', true);
         select set_config('countersign.call', '{call}', true)"
    );
    db.admin.batch_execute(&sql).await.unwrap();
}

async fn number(db: &Database, sql: &str) -> i64 {
    db.admin.query_one(sql, &[]).await.unwrap().get(0)
}

async fn what_is_kept_of_statements_is_what_row_triggers_see(server: &str) {
    let db = target_on(
        server,
        "seen",
        "create table t (id int primary key, gone int, r text, n numeric(8, 3), text text,
                         twice int generated always as (id * 2) stored, list text[], place int, \"countersign row\" int);
         alter table t drop column gone; alter table t add column late int default 7;
         create table child (id int primary key, t int references t on delete cascade on update cascade);
         create table seen (op text, old text, new text);
         create function see() returns trigger language plpgsql as $$ begin
             insert into seen values (tg_op, old::text, new::text); return null; end $$;
         create function more() returns trigger language plpgsql as $$ begin
             update t set late = late + 1 where id = new.id; return null; end $$;
         insert into t (id, r, n, text, list, place) select i, 'x', 1.5, e'y,\"z\\n', '{a,\"b c\",null}', i from generate_series(1, 900) i;
         insert into child select i, i from generate_series(1, 900) i;",
    )
    .await;
    let world = db.world(vec![reversible(&["t", "child"])], ALLOW);
    db.prepare(&world, &["t"]).await;
    let triggers = "create trigger a after insert or update or delete on t for each row execute function see();
                    create trigger a after insert or update or delete on child for each row execute function see();
                    create trigger b after update on t for each row when (pg_trigger_depth() = 0 and new.id % 7 = 0) execute function more()";
    db.admin.batch_execute(triggers).await.unwrap();
    for (at, sql) in [
        "delete from t where id <= 600",
        "update t set r = r || id, n = n + 0.125, \"countersign row\" = 3",
        "update t set id = id + 1000",
        "with a as (update t set r = 'a' where id < 300 returning 1), b as (update t set r = 'b' where id > 600 returning 1) delete from t where id between 300 and 600",
        "merge into t using generate_series(500, 1500) i on i = t.id when matched and i < 600 then delete \
           when matched then update set late = 9 when not matched then insert (id, r) values (i, 'm')",
        "insert into t (id, r) select i, 'c' from generate_series(500, 1500) i on conflict (id) do update set r = excluded.r || t.r",
        "delete from t where false",
    ]
    .into_iter()
    .enumerate()
    {
        begin(&db, &format!("seen-{at}")).await;
        db.admin.batch_execute(&format!("truncate seen; {sql}")).await.unwrap();
        let kept = format!(
            "select case when old is null then 'INSERT' when new is null then 'DELETE' else 'UPDATE' end, old, new
               from countersign.kept where call = 'seen-{at}'"
        );
        let differing = format!(
            "select count(*) from (({kept} except all table seen) union all (table seen except all {kept})) x"
        );
        assert_eq!(number(&db, &differing).await, 0, "{sql}");
        let rows = number(&db, "select count(*) from seen").await;
        assert_eq!(rows == 0, sql.ends_with("false"), "{sql}");
        let told = "select coalesce(sum(rows), 0) from countersign.image where call = ".to_owned();
        assert_eq!(number(&db, &format!("{told}'seen-{at}'")).await, rows, "{sql}");
        db.admin.batch_execute("rollback").await.unwrap();
    }
}

async fn a_statement_calls_its_trigger_once_however_many_rows_it_changes(server: &str) {
    let db = target_on(
        server,
        "calls",
        "create table t (id int primary key, n int); insert into t select i, i from generate_series(1, 1000) i;
         create table child (id int primary key, t int references t on delete cascade); insert into child select i, i from generate_series(1, 1000) i;
         create index on child (t)",
    )
    .await;
    let world = db.world(vec![reversible(&["t", "child"])], ALLOW);
    db.prepare(&world, &["t"]).await;
    let (mut entries, mut calls) = (Vec::new(), Vec::new());
    for rows in [1, 1000] {
        begin(&db, &format!("calls-{rows}")).await;
        // The server may count calls of the transaction before along, as long as it has not told them.
        let counted = "select coalesce(sum(calls), 0)::int8 from pg_stat_xact_user_functions
                        where schemaname = 'countersign' and funcname in ('keep', 'keep_rows')";
        let before = number(&db, counted).await;
        let sql = format!(
            "set local track_functions = 'all'; update t set n = 0 where id <= {rows}; delete from t where id <= {rows}"
        );
        db.admin.batch_execute(&sql).await.unwrap();
        calls.push(number(&db, counted).await - before);
        let sql = format!("select count(*) from countersign.image where call = 'calls-{rows}'");
        entries.push(number(&db, &sql).await);
        let sql = format!("select count(*) from countersign.kept where call = 'calls-{rows}'");
        assert_eq!(number(&db, &sql).await, rows * 3);
        db.admin.batch_execute("rollback").await.unwrap();
    }
    // One for the update, one for the delete, and one for all that went along with it.
    assert_eq!(calls, [3, 3]);
    assert_eq!(entries, [3, 12], "256 rows stand in one entry");
    let before = db.dump(&["t", "child"]).await;
    let call = run(&world, "delete from t where id < 400").await;
    undone(&world, &call).await;
    assert_eq!(db.dump(&["t", "child"]).await, before);
}

async fn rows_of_partitions_and_children_are_kept_one_by_one(server: &str) {
    let db = target_on(
        server,
        "one_by_one",
        "create table p (id int primary key, n int) partition by range (id);
         create table p1 partition of p for values from (0) to (10);
         create table p2 (n int, id int not null, primary key (id));
         create table base (id int primary key, n int); create table heir (more int, primary key (id)) inherits (base);
         insert into p select i, i from generate_series(1, 9) i; insert into p2 select i, i from generate_series(10, 19) i;
         insert into base select i, i from generate_series(1, 5) i; insert into heir select i, i, i from generate_series(6, 9) i;",
    )
    .await;
    let tables = ["p", "p2", "base", "heir"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    let check = async |sql: &str| {
        let before = db.dump(&tables).await;
        let call = run(&world, sql).await;
        assert_ne!(db.dump(&tables).await, before, "{sql}");
        undone(&world, &call).await;
        assert_eq!(db.dump(&tables).await, before, "{sql}");
    };
    for sql in [
        "delete from p2",
        "update p set n = 0",
        "delete from base",
        "update only base set n = 0",
        "delete from heir",
    ] {
        check(sql).await;
    }
    // A table becomes a partition, and another a child, after they were prepared.
    db.admin
        .batch_execute(
            "create table heir2 (id int primary key, n int); insert into heir2 values (20, 20);
             create table lone (id int primary key, n int); insert into lone values (30, 30);",
        )
        .await
        .unwrap();
    let tables = ["p", "p2", "base", "heir", "heir2", "lone"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    db.admin
        .batch_execute(
            "alter table heir2 inherit base; alter table lone add more int, inherit heir2; drop table p2",
        )
        .await
        .unwrap();
    db.admin
        .batch_execute("create table p2 (id int primary key, n int); insert into p2 select i, i from generate_series(10, 19) i")
        .await
        .unwrap();
    db.prepare(&world, &["p2"]).await;
    db.admin.batch_execute("alter table p attach partition p2 for values from (10) to (20)").await.unwrap();
    let before = db.dump(&tables).await;
    for sql in ["delete from base", "delete from heir2", "delete from lone"] {
        let said = message(world.call("query", json!({"sql": sql})).await);
        assert!(said.contains("is not prepared"), "{sql}: {said}");
        assert_eq!(db.dump(&tables).await, before, "{sql}");
    }
    // Its root keeps the rows of a partition, and nothing keeps them twice.
    for sql in ["delete from p", "delete from p2 where id > 15"] {
        check(sql).await;
    }
    db.prepare(&world, &["p", "base"]).await;
    for sql in [
        "delete from base",
        "update base set n = 0",
        "delete from heir2",
        "delete from only lone",
        "delete from p2",
    ] {
        let before = db.dump(&tables).await;
        let call = run(&world, sql).await;
        undone(&world, &call).await;
        assert_eq!(db.dump(&tables).await, before, "{sql}");
    }
    let left = "select count(*) from pg_trigger where tgfoid = 'countersign.keep_rows'::regproc";
    assert_eq!(number(&db, left).await, 0, "no statement of theirs is looked at a second time");
}

async fn what_an_older_version_prepared_is_brought_up_to_date_and_its_calls_are_undone(server: &str) {
    let db = target_on(server, "older", SHOP).await;
    let older = include_str!("prepared_before.sql")
        .replace("{account}", "tools_undo_older")
        .replace("{retention_ms}", "1000000");
    db.admin
        .batch_execute(&format!("{older} select countersign.cover('customer'::regclass); commit;"))
        .await
        .unwrap();
    let world = db.world(vec![reversible(&SHOP_TABLES)], ALLOW);
    // A call of that version, as its server performed it.
    let before = db.dump(&SHOP_TABLES).await;
    let call = CallId::parse("older-call").unwrap();
    let account = db.account().await;
    account
        .batch_execute(
            "begin; insert into countersign.call (id, tool, digest, images) values ('older-call', '', '', true);
             select set_config('countersign.call', 'older-call', true);
             delete from customer where id = 1; insert into customer values (77, 'new', null); update invoice set total = 1 + total;
             select countersign.seal('older-call', 30); commit",
        )
        .await
        .unwrap();
    let after = db.dump(&SHOP_TABLES).await;
    assert_ne!(before, after);
    // Nothing is written before it was prepared again, and nothing undone; all say what to run.
    let told = [
        message(world.call("query", json!({"sql": "delete from line"})).await),
        message(undo(&world, &call).await),
    ];
    for said in told {
        assert!(
            said.contains("another version: its administrator runs `countersign system prepare`"),
            "{said}"
        );
    }
    assert_eq!(db.dump(&SHOP_TABLES).await, after);
    for _again in 0..2 {
        let said = db.prepare(&world, &["customer"]).await;
        assert_eq!(said.len(), 4, "{said:?}");
    }
    let left = "select count(*) from pg_trigger where tgfoid = 'countersign.keep'::regproc";
    assert_eq!(number(&db, left).await, 0);
    let known = recall(&world.gate, &world.tools["query"], &call).await;
    assert_eq!(known, Ok(Recalled::Happened { rows: 30, amount: None }));
    // What was kept then goes back, and what is kept now as well.
    let answer = undo(&world, &call).await;
    let Answer::Done(done) = answer else { panic!("{answer:?}") };
    assert_eq!(db.dump(&SHOP_TABLES).await, before);
    undone(&world, &done.call).await;
    assert_eq!(db.dump(&SHOP_TABLES).await, after);
}
