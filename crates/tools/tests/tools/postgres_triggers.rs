//! Undo among triggers: what others' code does on the way is kept, counted and taken back, or nothing happens.

use countersign_gate::Answer;
use countersign_tools::definition::{JournalSettings, PostgresTarget, Rehearse, SqlDefinition, SqlLimits};
use serde_json::json;

use crate::{
    harness::{ALLOW, ASK, counted, fixed, from_agent},
    postgres::connect,
    postgres_undo::{
        SHOP, SHOP_TABLES, dump, message, on_each_server, reversible, run, target_on, undo, undone,
    },
};
use countersign_rules::{Code, DeclaredEffect};

on_each_server! {
    what_triggers_do_is_kept_and_taken_back,
    a_trigger_that_undoing_sets_off_is_overruled_once_or_stops_it,
    a_column_in_which_a_trigger_has_the_last_word_is_promised_where_its_author_accepts_it,
    columns_that_triggers_write_may_be_accepted_and_are_told,
    the_systems_author_accepts_columns_and_the_approver_sees_which,
    what_cannot_be_counted_or_kept_does_not_happen,
    emptying_a_table_or_changing_its_layout_is_not_undone,
    rows_are_forgotten_after_their_time_and_calls_are_not,
    two_who_undo_the_same_call_undo_it_once,
    a_deadlock_is_tried_again_and_done_once,
    what_was_approved_for_one_table_is_not_spent_on_another,
}

async fn what_triggers_do_is_kept_and_taken_back(server: &str) {
    let tables = ["invoice", "line", "trail", "state"];
    let db = target_on(
        server,
        "triggers",
        "create table invoice (id int primary key, total int, touched int default 0);
         create table line (id int primary key, invoice int references invoice, amount int);
         create table trail (id int generated always as identity primary key, text text);
         create table state (id int primary key, last int);
         create function recount() returns trigger language plpgsql as $$ begin
             update invoice set total = coalesce((select sum(amount) from line where invoice = invoice.id), 0)
              where id = coalesce(new.invoice, old.invoice);
             update state set last = last + 1; return null; end $$;
         create function trail() returns trigger language plpgsql security definer as $$ begin
             insert into trail (text) values (tg_op); return null; end $$;
         create function touch() returns trigger language plpgsql as $$ begin
             new.touched := old.touched + 1; return new; end $$;
         create trigger recount after insert or update or delete on line for each row
             when (coalesce(current_setting('countersign.undoes', true), '') = '') execute function recount();
         create trigger trail after update on invoice for each row execute function trail();
         create trigger touch before update on invoice for each row
             when (coalesce(current_setting('countersign.undoes', true), '') = '') execute function touch();
         insert into invoice values (1, 30), (2, 5); insert into line values (1, 1, 10), (2, 1, 20), (3, 2, 5);
         insert into state values (1, 0);",
    )
    .await;
    let world = db.world(vec![reversible(&["invoice", "line"])], ALLOW);
    db.prepare(&world, &["invoice", "line"]).await;
    // A trigger changes a table that is not prepared: nothing happens, and it says which.
    let before = db.dump(&tables).await;
    let refusal = world.refusal("query", json!({"sql": "delete from line where id = 1"})).await;
    assert!(refusal.message.contains("is not prepared"), "{refusal}");
    assert_eq!(db.dump(&tables).await, before);
    db.prepare(&world, &["state"]).await;
    db.admin.batch_execute("insert into countersign.aside values ('trail')").await.unwrap();
    for sql in [
        "delete from line where id = 1",
        "update line set amount = amount + 1",
        "insert into line values (9, 2, 9)",
    ] {
        let before = db.dump(&["invoice", "line", "state"]).await;
        let trail = db.dump(&["trail"]).await;
        let call = run(&world, sql).await;
        assert_ne!(db.dump(&["state"]).await, before);
        undone(&world, &call).await;
        assert_eq!(db.dump(&["invoice", "line", "state"]).await, before, "{sql}");
        // The trail is left aside: it has both, the call and its undoing.
        assert!(db.dump(&["trail"]).await.len() > trail.len());
    }
}

async fn a_trigger_that_undoing_sets_off_is_overruled_once_or_stops_it(server: &str) {
    let db = target_on(
        server,
        "set_off",
        "create table invoice (id int primary key, total int);
         create table line (id int primary key, invoice int references invoice, amount int);
         create table stamped (id int primary key, n int, version int default 0);
         create function add() returns trigger language plpgsql as $$ begin
             update invoice set total = total + new.amount where id = new.invoice; return null; end $$;
         create function stamp() returns trigger language plpgsql as $$ begin
             new.version := old.version + 1; return new; end $$;
         create trigger add after insert on line for each row execute function add();
         create trigger stamp before update on stamped for each row execute function stamp();
         insert into invoice values (1, 0); insert into line values (1, 1, 10), (2, 1, 20); insert into stamped values (1, 1);",
    )
    .await;
    let tables = ["invoice", "line", "stamped"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    // Rows that come back set off the trigger that adds them up again; the sum is put right after it.
    let before = db.dump(&tables).await;
    let call =
        run(&world, "with gone as (delete from line returning 1) update invoice set total = total - 30")
            .await;
    undone(&world, &call).await;
    assert_eq!(db.dump(&tables).await, before);
    // A trigger that has the last word, and came since, makes it impossible, and says how it could be.
    db.admin.batch_execute("alter table stamped disable trigger stamp").await.unwrap();
    let call = run(&world, "update stamped set n = 2").await;
    db.admin.batch_execute("alter table stamped enable trigger stamp").await.unwrap();
    let before = db.dump(&tables).await;
    let said = message(undo(&world, &call).await);
    assert!(
        said.contains("column `version` of table `public.stamped` in 1 rows")
            && said.contains("`stamped.version`")
            && said.contains("countersign.undoes"),
        "{said}"
    );
    assert_eq!(db.dump(&tables).await, before);
}

const STAMPED: &str = "
    create table stamped (id int primary key, n int, updated_at timestamptz default '2020-01-01', version int default 0,
                          twice int generated always as (version * 2) stored);
    create table item (id int primary key, stamped int references stamped on delete cascade, updated_at timestamptz default '2020-01-01');
    create function stamp() returns trigger language plpgsql as $$ begin
        new.updated_at := clock_timestamp(); return new; end $$;
    create function bump() returns trigger language plpgsql as $$ begin
        new.version := old.version + 1; return new; end $$;
    create trigger stamp before insert or update on stamped for each row execute function stamp();
    create trigger stamp before insert or update on item for each row execute function stamp();
    create trigger bump before update on stamped for each row execute function bump();
    set session_replication_role = replica;
    insert into stamped select i, i from generate_series(1, 5) i; insert into item select i, i % 5 + 1 from generate_series(1, 10) i;
    reset session_replication_role;";

/// The table, the triggers that come after its rows, a call, the column that does not come back, and a call on the same
/// table that can be put back exactly.
const LAST_WORDS: &[(&str, &str, &str, &str, &str)] = &[
    (
        "create table stamped (id int primary key, v text, at timestamptz default '2020-01-01');
         insert into stamped (id, v) values (1, 'a'), (2, 'b');",
        "create function w() returns trigger language plpgsql as $$ begin new.at := now(); return new; end $$;
         create trigger w before update on stamped for each row execute function w();",
        "update stamped set v = 'x' where id = 1",
        "stamped.at",
        "delete from stamped where id = 1",
    ),
    (
        "create table made (id int primary key, v text, by text default 'ada'); insert into made (id) values (1), (2);",
        "create function w() returns trigger language plpgsql as $$ begin new.by := current_user; return new; end $$;
         create trigger w before insert or update on made for each row execute function w();",
        "delete from made where id = 1",
        "made.by",
        "insert into made values (3, 'c')",
    ),
    (
        "create table folded (id int primary key, name text); insert into folded values (1, 'Ada'), (2, 'bob');",
        "create function w() returns trigger language plpgsql as $$ begin new.name := lower(new.name); return new; end $$;
         create trigger w before insert or update on folded for each row execute function w();",
        "update folded set name = 'CYD' where id = 1",
        "folded.name",
        "update folded set name = 'CYD' where id = 2",
    ),
    (
        "create table counted (id int primary key, v text, version int default 0); insert into counted (id) values (1), (2);",
        "create function w() returns trigger language plpgsql as $$ begin
             update counted set version = version + 1 where id = new.id; return null; end $$;
         create trigger w after insert or update on counted for each row when (pg_trigger_depth() = 0) execute function w();",
        "update counted set v = 'x'",
        "counted.version",
        "insert into counted values (3, 'c')",
    ),
    (
        "create table late (id int primary key, v text, at timestamptz default '2020-01-01'); insert into late (id) values (1), (2);",
        "create function w() returns trigger language plpgsql as $$ begin
             update late set at = clock_timestamp() where id = new.id; return null; end $$;
         create constraint trigger w after update on late deferrable initially deferred for each row
             when (pg_trigger_depth() = 0) execute function w();",
        "update late set v = 'x'",
        "late.at",
        "delete from late where id = 1",
    ),
];

/// A call is only reversible when its undo puts everything back, but for what the system's author leaves to triggers.
async fn a_column_in_which_a_trigger_has_the_last_word_is_promised_where_its_author_accepts_it(server: &str) {
    let all: Vec<&str> = LAST_WORDS.iter().map(|(schema, ..)| *schema).collect();
    let db = target_on(server, "last_word", &all.concat()).await;
    let tables = ["stamped", "made", "folded", "counted", "late"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    let asking = db.world(vec![reversible(&tables)], ASK);
    let counting = db.world(vec![counted(reversible(&tables))], ASK);
    db.prepare(&world, &tables).await;
    for (_, triggers, sql, column, exact) in LAST_WORDS {
        db.admin.batch_execute(triggers).await.unwrap();
        let before = db.dump(&tables).await;
        let refused = |said: &str| {
            let setting = format!("`rewritten = [\"{column}\"]` in its journal");
            assert!(said.contains("could not be undone") && said.contains(&setting), "{sql}: {said}");
            assert!(said.contains("countersign.undoes', true), '') = '')`"), "cut off: {said}");
        };
        refused(&message(world.call("query", json!({"sql": sql})).await));
        // A rehearsal finds out before anybody is asked; where nothing may be rehearsed, it does not happen all the same.
        let refusal = asking.refusal("query", json!({"sql": sql})).await;
        assert_eq!(refusal.code, Code::ReachUnmeasurable, "{sql}: {refusal}");
        refused(&refusal.message);
        let pending = counting.pending("query", json!({"sql": sql})).await;
        refused(&message(counting.approve(&pending.approval).await));
        assert_eq!(db.dump(&tables).await, before, "{sql}");
        // What comes back exactly is promised.
        let call = run(&world, exact).await;
        undone(&world, &call).await;
        assert_eq!(db.dump(&tables).await, before, "{exact}");
        // Where the author leaves the column to the trigger, it is promised so, and the reply says so.
        let journal =
            JournalSettings { rewritten: [(*column).to_owned()].into(), ..JournalSettings::default() };
        let accepting = db.world_at(&db.url, vec![reversible(&tables)], ALLOW, journal);
        let call = run(&accepting, sql).await;
        let reply = undone(&accepting, &call).await;
        let (table, column) = column.split_once('.').unwrap();
        assert!(reply["rewritten"][table][column].is_u64(), "{sql}: {reply}");
        // Who declares no reversible tool is asked for nothing.
        let plain = db.world(
            vec![SqlDefinition { tool: from_agent("query", &tables).tool, ..reversible(&tables) }],
            ALLOW,
        );
        run(&plain, sql).await;
        db.admin.batch_execute("drop function w cascade").await.unwrap();
    }
}

async fn columns_that_triggers_write_may_be_accepted_and_are_told(server: &str) {
    let db = target_on(server, "stamped", STAMPED).await;
    let tables = ["stamped", "item"];
    let world = db.world(vec![reversible(&tables)], ALLOW);
    db.prepare(&world, &tables).await;
    let rest = "select string_agg((id, n)::text, ' ' order by id) || (select string_agg((id, stamped)::text, ' ' order by id) from item) from stamped";
    let rest = async || db.admin.query_one(rest, &[]).await.unwrap().get::<_, String>(0);
    for sql in [
        "update stamped set n = n + 10 where id < 4",
        "delete from stamped where id > 2",
        "insert into stamped values (9, 9)",
    ] {
        let before = rest().await;
        // The triggers came after the call.
        let triggers = async |set: &str| {
            let each = ["stamped {} trigger stamp", "stamped {} trigger bump", "item {} trigger stamp"];
            let each = each.map(|each| format!("alter table {};", each.replace("{}", set)));
            db.admin.batch_execute(&each.concat()).await.unwrap();
        };
        triggers("disable").await;
        let call = run(&world, sql).await;
        triggers("enable").await;
        let after = db.dump(&tables).await;
        if sql.starts_with("insert") {
            // Nothing comes back, so there is nothing for a trigger to write.
            undone(&world, &call).await;
            assert_eq!(rest().await, before);
            continue;
        }
        // Not one of the columns is enough, and one that no trigger writes is not accepted into anything.
        for some in [json!([]), json!(["version"]), json!(["item.updated_at", "n"])] {
            let said = message(world.call("undo_billing", json!({"call": call, "rewritten": some})).await);
            assert!(said.contains("updated_at"), "{said}");
            assert_eq!(db.dump(&tables).await, after);
        }
        let rewritten = json!(["updated_at", "STAMPED.version", "n"]);
        let done = world.done("undo_billing", json!({"call": call, "rewritten": rewritten})).await;
        assert_eq!(rest().await, before, "{sql}");
        let expected = if sql.starts_with("update") {
            json!({"stamped": {"updated_at": 3, "version": 3, "twice": 3}})
        } else {
            json!({"item": {"updated_at": 6}, "stamped": {"updated_at": 3}})
        };
        assert_eq!(done.reply["rewritten"], expected, "{sql}");
        let log = world.gate.ledger().log();
        let entry = log.iter().rfind(|entry| entry.kind == "undone").unwrap();
        assert_eq!(entry.body()["left"], json!({"rewritten": expected}), "the log says so as well");
        // And on: undone, done again, undone again.
        let again = world.done("undo_billing", json!({"call": done.call, "rewritten": rewritten})).await;
        let back = world.done("undo_billing", json!({"call": again.call, "rewritten": rewritten})).await;
        assert_eq!(rest().await, before, "{sql}: {}", back.reply);
    }
}

async fn the_systems_author_accepts_columns_and_the_approver_sees_which(server: &str) {
    let db = target_on(server, "accepted", STAMPED).await;
    let tables = ["stamped", "item"];
    let journal = JournalSettings {
        rewritten: ["updated_at".to_owned(), "version".to_owned()].into(),
        ..JournalSettings::default()
    };
    let world = db.world_at(&db.url, vec![reversible(&tables)], ALLOW, journal.clone());
    db.prepare(&world, &tables).await;
    let call = run(&world, "update stamped set n = 0").await;
    // Another tool: what was approved of one is not of the other.
    let plain = db.world(vec![reversible(&tables)], ALLOW);
    assert_ne!(world.tools["undo_billing"].spec().version, plain.tools["undo_billing"].spec().version);
    for rehearse in [Rehearse::WhenInexact, Rehearse::Always] {
        let limits = SqlLimits {
            lock_timeout_ms: 10_000,
            measure_timeout_ms: 20_000,
            rehearse,
            ..SqlLimits::default()
        };
        let target = PostgresTarget { journal: Some(journal.clone()), limits, ..PostgresTarget::default() };
        let asking = db.world_to(vec![reversible(&tables)], ASK, target.clone());
        let before = db.dump(&tables).await;
        let pending = asking.pending("undo_billing", json!({"call": call})).await;
        let (reach, evidence) = asking.shown(&pending).await;
        assert!(reach.rehearsed && reach.rows == 5, "{reach:?}");
        let sample = evidence.unwrap().sample;
        let said = sample.rows[0][0].as_deref().unwrap();
        assert_eq!(said, "goes back to, but for `twice`, `updated_at`, `version`");
        assert_eq!(db.dump(&tables).await, before, "measuring leaves no trace");
        let kept = "select count(*) from countersign.call where undoes is not null";
        assert_eq!(db.admin.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 0);
        // What cannot be undone is not asked of a person.
        let target = PostgresTarget { journal: Some(JournalSettings::default()), ..target };
        let strict = db.world_to(vec![reversible(&tables)], ASK, target);
        let refusal = strict.refusal("undo_billing", json!({"call": call})).await;
        assert!(refusal.message.contains("column `updated_at`"), "{refusal}");
    }
    let done = world.done("undo_billing", json!({"call": call})).await;
    assert_eq!(done.reply["rewritten"]["stamped"]["version"], json!(5));
}

async fn what_cannot_be_counted_or_kept_does_not_happen(server: &str) {
    let db = target_on(
        server,
        "uncounted",
        "create table t (id int primary key, n int); create table keyless (n int); create table other (id int primary key);
         create table late (id int primary key);
         create function empties() returns trigger language plpgsql security definer as $$ begin truncate other; return null; end $$;
         create function backs_out() returns trigger language plpgsql as $$ begin
             if pg_trigger_depth() > 1 then return null; end if;
             begin update t set n = 0 where id = 1; raise exception 'no'; exception when others then null; end; return null; end $$;
         create function fills() returns trigger language plpgsql security definer as $$ begin
             insert into late select i from generate_series(1, 50) i on conflict do nothing; return null; end $$;
         insert into t select i, i from generate_series(1, 5) i; insert into keyless values (1); insert into other values (1), (2);",
    )
    .await;
    let tables = ["t", "keyless", "other", "late"];
    let world = db.world(vec![counted(reversible(&tables))], ALLOW);
    db.prepare(&world, &tables).await;
    let before = db.dump(&tables).await;
    let check = async |setup: &str, sql: &str, why: &str| {
        db.admin.batch_execute(setup).await.unwrap();
        let refusal = world.refusal("query", json!({"sql": sql})).await;
        assert!(refusal.message.contains(why), "{sql}: {refusal}");
        assert_eq!(db.dump(&tables).await, before, "{sql}");
        db.admin.batch_execute("drop trigger if exists x on t").await.unwrap();
    };
    check("", "update keyless set n = 2", "has no primary key").await;
    let on = |function: &str| {
        format!("create trigger x after update on t for each row execute function {function}()")
    };
    check(&on("empties"), "update t set n = 9 where id = 2", "locks table `public.other`").await;
    check(&on("backs_out"), "update t set n = 9 where id = 2", "were counted and").await;
    db.admin.batch_execute("alter table t disable trigger zz_countersign_keep_update").await.unwrap();
    check("", "update t set n = 9 where id = 2", "is not prepared").await;
    db.admin.batch_execute("alter table t enable trigger zz_countersign_keep_update").await.unwrap();
    // Too many bytes to keep.
    let small = JournalSettings { bytes_max: 10, ..JournalSettings::default() };
    let little = db.world_at(&db.url, vec![counted(reversible(&tables))], ALLOW, small);
    let refusal = little.refusal("query", json!({"sql": "update t set n = 9"})).await;
    assert!(refusal.message.contains("more than the 10 of one call"), "{refusal}");
    // Deferred triggers run before the count, not after it with the commit.
    db.admin
        .batch_execute(
            "create constraint trigger x after update on t deferrable initially deferred for each row execute function fills()",
        )
        .await
        .unwrap();
    let asking = db.world(vec![counted(reversible(&tables))], ASK);
    let pending = asking.pending("query", json!({"sql": "update t set n = 9 where id = 2"})).await;
    assert_eq!(pending.reach.as_ref().unwrap().rows, 1);
    let answer = asking.approve(&pending.approval).await;
    assert!(!matches!(answer, Answer::Done(_)), "{answer:?}");
    assert_eq!(db.dump(&tables).await, before);
}

async fn emptying_a_table_or_changing_its_layout_is_not_undone(server: &str) {
    let db = target_on(server, "layout", SHOP).await;
    db.admin.batch_execute("grant truncate on line to tools_undo_layout").await.unwrap();
    let mut tool = reversible(&SHOP_TABLES);
    tool.tool.reversible = true;
    let world = db.world(vec![tool], ALLOW);
    db.prepare(&world, &["customer"]).await;
    let call = run(&world, "truncate line").await;
    assert!(message(undo(&world, &call).await).contains("no rows were kept"));
    let update = run(&world, "update invoice set total = 0").await;
    let delete = run(&world, "delete from note").await;
    let other = run(&world, "update customer set name = 'x'").await;
    db.admin
        .batch_execute(
            "alter table invoice add column more int; alter table note alter invoice type bigint;
             alter table customer rename to client",
        )
        .await
        .unwrap();
    for call in [update, delete, other] {
        let said = message(undo(&world, &call).await);
        assert!(said.contains("are not what they were") || said.contains("it was renamed"), "{said}");
    }
}

async fn rows_are_forgotten_after_their_time_and_calls_are_not(server: &str) {
    let db = target_on(server, "retention", SHOP).await;
    let world = db.world(vec![reversible(&SHOP_TABLES)], ALLOW);
    db.prepare(&world, &["customer"]).await;
    let old = run(&world, "update invoice set total = 0 where id < 3").await;
    let young = run(&world, "update customer set name = 'x'").await;
    db.admin
        .execute(
            "update countersign.call set at = now() - interval '31 days' where id = $1",
            &[&old.as_str()],
        )
        .await
        .unwrap();
    let tool = world.tools.values().next().unwrap();
    let database = world.systems.journal(&tool.spec().system.name).unwrap();
    let upkeep = world.gate.upkeep(tool.spec());
    assert_eq!(database.prune(&upkeep).await, Ok(3));
    assert_eq!(database.prune(&upkeep).await, Ok(0));
    assert!(message(undo(&world, &old).await).contains("no longer kept"));
    assert_eq!(db.admin.query("select from countersign.call", &[]).await.unwrap().len(), 2);
    undone(&world, &young).await;
}

async fn two_who_undo_the_same_call_undo_it_once(server: &str) {
    let db = target_on(server, "twice", SHOP).await;
    let world = db.world(vec![reversible(&SHOP_TABLES)], ALLOW);
    db.prepare(&world, &["customer"]).await;
    let before = db.dump(&SHOP_TABLES).await;
    let call = run(&world, "delete from customer where id = 1").await;
    let answers = tokio::join!(undo(&world, &call), undo(&world, &call), undo(&world, &call));
    let done =
        [&answers.0, &answers.1, &answers.2].into_iter().filter(|a| matches!(a, Answer::Done(_))).count();
    assert_eq!(done, 1, "{answers:?}");
    assert_eq!(db.dump(&SHOP_TABLES).await, before);
}

async fn a_deadlock_is_tried_again_and_done_once(server: &str) {
    let db = target_on(server, "deadlock", SHOP).await;
    db.admin.batch_execute("alter database tools_undo_deadlock set deadlock_timeout = '50ms'").await.unwrap();
    let tool: SqlDefinition = {
        let mut tool = fixed(
            "both",
            DeclaredEffect::Destructive,
            json!({}),
            "with a as (update invoice set total = total + 1 where id = 2 returning id), \
                  b as (update customer set name = name || '!' where id = 3 and (select count(*) from a) = 1 returning id) \
             select id from b",
        );
        tool.tool.reversible = true;
        tool
    };
    let world = db.world(vec![tool], ALLOW);
    db.prepare(&world, &["customer"]).await;
    let other = connect(&db.admin_url).await;
    // The other waits so long before it looks for deadlocks that ours is the one to be broken off.
    other
        .batch_execute("set deadlock_timeout = '10s'; begin; update customer set name = 'other' where id = 3")
        .await
        .unwrap();
    let crossing = async {
        let waiting =
            "select from pg_stat_activity where usename = 'tools_undo_deadlock' and wait_event_type = 'Lock'";
        while db.admin.query_opt(waiting, &[]).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        other.batch_execute("update invoice set total = 1000 where id = 2; commit").await.unwrap();
    };
    let (done, ()) = tokio::join!(world.done("both", json!({})), crossing);
    assert_eq!(done.rows, 2);
    assert!(dump(&db.admin, &["customer"]).await.contains("(3,other!,2)"));
    assert!(dump(&db.admin, &["invoice"]).await.contains("(2,3,1001)"));
}

async fn what_was_approved_for_one_table_is_not_spent_on_another(server: &str) {
    let db = target_on(server, "per_table", SHOP).await;
    let world = db.world(vec![reversible(&SHOP_TABLES)], ASK);
    db.prepare(&world, &["customer"]).await;
    let sql = "delete from invoice where total in (10, 20)";
    let pending = world.pending("query", json!({"sql": sql})).await;
    let reach = pending.reach.clone().unwrap();
    assert_eq!((reach.rows, reach.exact, reach.tables["invoice"], reach.tables["line"]), (8, true, 2, 4));
    // As many rows in all as were approved, but others: one invoice less, and lines instead.
    db.admin
        .batch_execute("update invoice set total = 11 where id = 2; insert into line select 1, n, 'c' from generate_series(3, 6) n")
        .await
        .unwrap();
    let before = db.dump(&SHOP_TABLES).await;
    let answer = world.approve(&pending.approval).await;
    assert!(!matches!(answer, Answer::Done(_)), "{answer:?}");
    assert_eq!(db.dump(&SHOP_TABLES).await, before);
}
