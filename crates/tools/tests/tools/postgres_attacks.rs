//! Ways to reach further on PostgreSQL than was approved. Each ends with nothing changed.

use countersign_gate::Answer;
use countersign_rules::DeclaredEffect;
use serde_json::json;

use crate::{
    harness::{ALLOW, ASK, World, counted, fixed, from_agent},
    postgres::database,
    postgres_undo::{reversible, run, target, undone},
};

/// Functions for triggers that do much behind a statement that changes one row.
const NASTY: &str = "
    create extension postgres_fdw;
    create table t (id int primary key, n int); insert into t select i, i from generate_series(1, 5) i;
    create table victim (id int primary key); insert into victim select generate_series(1, 900);
    create table step (id serial primary key); create table far (id int primary key);
    insert into far select generate_series(1, 900);
    create function wipes() returns trigger language plpgsql as $$ begin delete from victim; return null; end $$;
    create function empties() returns trigger language plpgsql as $$ begin truncate victim; return null; end $$;
    create function drops() returns trigger language plpgsql as $$ begin drop table victim; return null; end $$;
    create function puts_off() returns trigger language plpgsql as $$
        begin set constraints all deferred; insert into step default values; return null; end $$;
    create constraint trigger last after insert on step deferrable initially deferred
        for each row execute function wipes();
    create function reaches_out() returns trigger language plpgsql as $$ begin delete from away; return null; end $$;
    create view shown as select * from t;
    create function instead() returns trigger language plpgsql as $$ begin delete from victim; return old; end $$;
    create trigger instead instead of delete on shown for each row execute function instead();
    create view ruled as select * from t;
    create rule more as on update to ruled do instead (delete from victim; update t set n = 0);
    create function each_time() returns trigger language plpgsql as $$
        begin set constraints all deferred; insert into step default values; return null; end $$;
";

#[tokio::test]
async fn what_happens_out_of_sight_of_the_counts_does_not_happen() {
    let db = database("sight", 0).await;
    db.client.batch_execute(NASTY).await.unwrap();
    let url = url::Url::parse(&db.url).unwrap();
    let far = format!(
        "create server far foreign data wrapper postgres_fdw options (host '{}', port '{}', dbname '{}');
         create user mapping for public server far options (user '{}', password '{}');
         create foreign table away (id int) server far options (table_name 'far');",
        url.host_str().unwrap(),
        url.port().unwrap(),
        url.path().trim_start_matches('/'),
        url.username(),
        url.password().unwrap_or_default(),
    );
    db.client.batch_execute(&far).await.unwrap();
    let tables = ["t", "away", "shown", "ruled"];
    let mut few = from_agent("query", &tables);
    few.tool.rows_max = 4;
    let (asking, allowing) =
        (db.world(vec![counted(from_agent("query", &tables))], ASK), db.world(vec![counted(few)], ALLOW));
    let left = async || {
        let sql = "select (select count(*) from t), (select count(*) from step),
                          (select count(*) from victim), (select count(*) from far), (select sum(n) from t)";
        let row = db.client.query_one(sql, &[]).await.unwrap();
        [row.get::<_, i64>(0), row.get(1), row.get(2), row.get(3), row.get(4)]
    };
    let whole = left().await;
    let unchanged = async |world: &World, statement: &str| {
        let answer = world.call("query", json!({"sql": statement})).await;
        let answer = match answer {
            Answer::Pending(pending) => {
                assert_eq!(pending.reach.as_ref().unwrap().rows, 1, "{statement}");
                world.approve(&pending.approval).await
            }
            other => other,
        };
        assert!(!matches!(answer, Answer::Done(_)), "{statement}: {answer:?}");
        assert_eq!(left().await, whole, "{statement}");
    };
    let (each, deferred) = ("create trigger x after", "create constraint trigger x after");
    let late = "deferrable initially deferred";
    for (function, kind, when) in [
        ("wipes", each, ""),
        ("wipes", deferred, late),
        // The second trigger is put off once more by the first, to run with the commit.
        ("puts_off", deferred, late),
        ("empties", each, ""),
        ("drops", each, ""),
        ("reaches_out", each, ""),
        ("reaches_out", deferred, late),
    ] {
        let make = format!("{kind} update on t {when} for each row execute function {function}()");
        db.client.batch_execute(&make).await.unwrap();
        // Each is a call of its own: an equal one would find the request that the attack before it ended in. Locking
        // rows is no excuse for what a trigger locks.
        let plain = format!("update t set n = 0 where id = 1 /* {function} {when} */");
        let locking = format!("with l as (select id from t where id = 2 for update) {plain}");
        for (world, statement) in [(&asking, &plain), (&allowing, &plain), (&allowing, &locking)] {
            unchanged(world, statement).await;
        }
        db.client.batch_execute("drop trigger x on t").await.unwrap();
    }
    for statement in [
        "delete from away where id = 1",
        "with gone as (delete from away returning id) select * from gone",
        "delete from shown where id = 1",
        "update ruled set n = 1 where id = 1",
        "copy t from stdin",
        "copy (select * from t) to stdout",
    ] {
        unchanged(&allowing, statement).await;
    }
}

#[tokio::test]
async fn what_is_dropped_with_tables_that_nobody_named_has_no_reach_of_nothing() {
    let db = database("dropped", 3).await;
    let world = db.world(vec![from_agent("query", &["billing"])], ASK);
    for statement in ["drop owned by current_user", "drop schema public", "drop schema public cascade"] {
        let answer = world.call("query", json!({"sql": statement})).await;
        match &answer {
            Answer::Pending(pending) => assert_eq!(pending.reach, None, "{statement}"),
            Answer::Refused(_) => {}
            _ => panic!("{statement}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn what_the_account_may_not_put_back_is_not_called_reversible() {
    let db = target(
        "rights",
        "create table t (id int primary key, n int); create table part (id int primary key, t int references t on delete cascade);
         insert into t select i, i from generate_series(1, 3) i; insert into part select i, i from generate_series(1, 3) i;",
    )
    .await;
    let world = db.world(vec![reversible(&["t", "part"])], ALLOW);
    db.prepare(&world, &["t"]).await;
    let before = db.dump(&["t", "part"]).await;
    // (what is not granted, what would need it to be undone, what is said)
    for (right, statement, said) in [
        ("insert on part", "delete from t where id = 1", "INSERT on public.part"),
        ("insert on t", "delete from t where id = 1", "INSERT on public.t"),
        ("delete on t", "insert into t values (9, 9)", "DELETE on public.t"),
        ("select on part", "delete from t where id = 1", "SELECT on public.part"),
    ] {
        let account = "tools_undo_rights";
        db.admin.batch_execute(&format!("revoke {right} from {account}")).await.unwrap();
        let refusal = world.refusal("query", json!({"sql": statement})).await;
        assert!(refusal.message.contains(said), "without {right}: {refusal}");
        assert_eq!(db.dump(&["t", "part"]).await, before, "without {right}");
        db.admin.batch_execute(&format!("grant {right} to {account}")).await.unwrap();
    }
    // An undo is refused to nobody because it could not be undone in turn.
    let call = run(&world, "insert into t values (9, 9)").await;
    db.admin.batch_execute("revoke insert on t from tools_undo_rights").await.unwrap();
    undone(&world, &call).await;
    assert_eq!(db.dump(&["t", "part"]).await, before);
}

#[tokio::test]
async fn a_column_that_comes_or_goes_under_a_running_server_stops_no_tool() {
    let db = database("columns", 3).await;
    let read = fixed("all", DeclaredEffect::Read, json!({}), "select * from other");
    let write =
        fixed("again", DeclaredEffect::Destructive, json!({}), "update other set id = id returning *");
    let world = db.world(vec![read, write], ALLOW);
    for change in ["", "alter table other add column more int", "alter table other drop column more"] {
        db.client.batch_execute(change).await.unwrap();
        for tool in ["all", "again"] {
            let columns = world.done(tool, json!({})).await.reply["rows"][0].as_object().unwrap().len();
            assert_eq!(columns, if change.contains("add") { 2 } else { 1 }, "{tool} after `{change}`");
        }
    }
}

#[tokio::test]
async fn odd_settings_of_the_account_change_nothing() {
    let db = target(
        "odd",
        "create table t (id int primary key, a int[], \"At\" timestamptz, span interval, b bytea, t text, d date, x xml, f float8);
         insert into t values (1, '{1,NULL}', '2026-01-01 10:00+02', '1 mon 2 days', '\\xdead', 'x\\y', '2026-02-01', 'a<b/>', 0.1);
         create schema evil; create table evil.t (id int); grant usage on schema evil to public;
         create function evil.count() returns bigint language sql as 'select 0::bigint';",
    )
    .await;
    let setup = db.world(vec![reversible(&["t"])], ALLOW);
    db.prepare(&setup, &["t"]).await;
    let before = db.dump(&["t"]).await;
    let odd = [
        "search_path = '$user', evil, public",
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'iso_8601'",
        "timezone = 'Pacific/Auckland'",
        "bytea_output = 'escape'",
        "extra_float_digits = -10",
        "array_nulls = off",
        "xmloption = 'document'",
        "quote_all_identifiers = on",
        "standard_conforming_strings = off",
        "transform_null_equals = on",
        "row_security = off",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "client_encoding = 'latin1'",
        "plan_cache_mode = 'force_generic_plan'",
    ];
    let odd = odd.map(|set| format!("alter role tools_undo_odd set {set}")).join("; ");
    let plain = "alter role tools_undo_odd reset all";
    for (at_call, at_undo) in [(true, true), (true, false), (false, true)] {
        let world = async |is_odd: bool| {
            db.admin.batch_execute(if is_odd { odd.as_str() } else { plain }).await.unwrap();
            // With connections of its own, which have the account's settings from the start.
            db.world(vec![reversible(&["t"])], ALLOW)
        };
        let calling = world(at_call).await;
        // By the standard nothing equals NULL.
        let none = calling.done("query", json!({"sql": "delete from t where a = null or f = null"})).await;
        assert_eq!(none.rows, 0);
        let call = run(&calling, "delete from t where t = 'x\\y'").await;
        assert_ne!(db.dump(&["t"]).await, before);
        undone(&world(at_undo).await, &call).await;
        assert_eq!(db.dump(&["t"]).await, before, "odd at the call: {at_call}, at its undo: {at_undo}");
    }
}
