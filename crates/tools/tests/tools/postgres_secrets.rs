//! The password of the account, wherever the database holds it as well: in no row, error, sample, key or entry of the log, in
//! whatever spelling. What is kept to undo a call stays true.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_gate::Answer;
use countersign_rules::Code;
use serde_json::{Value, json};

use crate::{
    chance::Chance,
    harness::{ALLOW, ASK, World},
    postgres_undo::{Database, message, on_each_server, reversible, run, target_on, undo, undone},
};

on_each_server! {
    a_password_that_stands_in_rows_leaves_by_no_way,
    so_short_a_password_that_it_cannot_be_kept_out_is_not_used,
}

const SCHEMA: &str = "
    create table held (id int primary key, v text, j jsonb, b bytea, a text[], n int default 0);
    create table named (k text primary key, n int default 0);
    create function says() returns trigger language plpgsql as $$ begin
        if new.n = 13 then raise exception 'no such token: %', new.v; end if;
        if new.n = 14 then raise notice 'token: %', new.v; return new; end if; return new; end $$;
    create trigger says before update on held for each row execute function says();";

/// A password at random, of letters, signs that have to be escaped somewhere, and a letter of two bytes.
fn password(chance: &mut Chance) -> String {
    const SIGNS: &[&str] = &[
        "a", "Q", "z", "7", "0", "'", "\"", "\\", "%", "&", "+", "/", " ", "<", "$", "{", ":", "@", "ä", "=",
    ];
    (0..8 + chance.below(17)).map(|_| chance.pick(SIGNS)).chain(["x", "9"]).collect()
}

/// What it may look like.
fn spellings(password: &str) -> Vec<String> {
    let escaped = serde_json::to_string(password).unwrap();
    let mut all = vec![
        password.to_owned(),
        format!("token={password};"),
        url::form_urlencoded::byte_serialize(password.as_bytes()).collect(),
        password.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        escaped.trim_matches('"').to_owned(),
        password.chars().map(|sign| format!("&#{};", u32::from(sign))).collect(),
        password.bytes().map(|byte| format!("{byte:02x}")).collect(),
        password.bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
    ];
    for before in ["", "u:", "app:"] {
        // Escaped whole before it was encoded, as well.
        let in_form: String = url::form_urlencoded::byte_serialize(password.as_bytes()).collect();
        for written in [password, &in_form, escaped.trim_matches('"')] {
            all.push(STANDARD.encode(format!("{before}{written}")));
        }
    }
    // Where nothing has to be escaped, some are the same.
    all.sort();
    all.dedup();
    all
}

/// The connection string, as a URL or in libpq's other form.
fn connection(db: &Database, password: &str, as_url: bool) -> String {
    let mut url = url::Url::parse(&db.url).unwrap();
    if as_url {
        url.set_password(Some(password)).unwrap();
        return url.into();
    }
    let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "host={} port={} dbname={} user={} password='{quoted}'",
        url.host_str().unwrap(),
        url.port().unwrap(),
        url.path().trim_start_matches('/'),
        url.username(),
    )
}

/// That none of it is in a text, written as JSON or not.
fn clean(told: &str, spellings: &[String], what: &str) {
    for spelling in spellings {
        let escaped = serde_json::to_string(spelling).unwrap();
        for form in [spelling.as_str(), escaped.trim_matches('"')] {
            assert!(!told.contains(form), "{what}: {form} in {told}");
        }
    }
}

fn sealed(value: &Value) -> bool {
    value.to_string().contains("[secret]")
}

async fn a_password_that_stands_in_rows_leaves_by_no_way(server: &str) {
    let db = target_on(server, "secrets", SCHEMA).await;
    let tables = ["held", "named"];
    db.prepare(&db.world(vec![reversible(&tables)], ALLOW), &tables).await;
    let mut chance = Chance::new(20_261_129);
    for round in 0..3 {
        let password = password(&mut chance);
        let mut spellings = spellings(&password);
        let as_md5 = "select 'md5' || md5($1 || 'tools_undo_secrets')";
        spellings.push(db.admin.query_one(as_md5, &[&password]).await.unwrap().get(0));
        db.admin.query("select set_config('x.pw', $1, false)", &[&password]).await.unwrap();
        db.admin
            .batch_execute(
                "delete from held; delete from named;
                 do $$ begin execute format('alter role tools_undo_secrets password %L', current_setting('x.pw')); end $$",
            )
            .await
            .unwrap();
        for (id, spelling) in (1..).zip(&spellings) {
            let nested = json!({ spelling.as_str(): [{ "deep": spelling }] });
            let insert = "insert into held (id, v, j, b, a) values ($1, $2, $3, $4, array['x', $2])";
            let bytes = password.as_bytes();
            db.admin.execute(insert, &[&id, spelling, &nested, &bytes]).await.unwrap();
            db.admin.execute("insert into named (k) values ($1)", &[spelling]).await.unwrap();
        }
        let url = connection(&db, &password, round % 2 == 0);
        let world = db.world_at(&url, vec![reversible(&tables)], ALLOW, <_>::default());
        let asking = db.world_at(&url, vec![reversible(&tables)], ASK, <_>::default());
        let before = db.dump(&tables).await;
        for sql in ["select * from held order by id", "update held set n = 14 returning *"] {
            let done = world.done("query", json!({"sql": sql})).await;
            let rows = done.reply["rows"].as_array().unwrap();
            assert_eq!(rows.len(), spellings.len());
            for row in rows {
                for column in ["v", "j", "b", "a"] {
                    assert!(sealed(&row[column]), "{sql}: {column} of {row}, for {password:?}");
                }
                assert!(row["id"].is_u64() && row["n"].is_u64(), "{row}");
            }
            clean(&done.reply.to_string(), &spellings, sql);
            if sql.starts_with("update") {
                undone(&world, &done.call).await;
                assert_eq!(db.dump(&tables).await, before, "what was kept of {password:?} is what was there");
            }
        }
        leaves_in_no_error_or_sample(&world, &asking, &spellings).await;
        leaves_in_no_key(&db, &world, &asking, &spellings).await;
        for world in [&world, &asking] {
            clean(&format!("{:?}", world.gate.ledger().log()), &spellings, "the log");
        }
    }
}

async fn leaves_in_no_error_or_sample(world: &World, asking: &World, spellings: &[String]) {
    for id in 1..=spellings.len() {
        let sql = format!("update held set n = 13 where id = {id}");
        let said = message(world.call("query", json!({"sql": sql})).await);
        assert!(said.contains("no such token") && said.contains("[secret]"), "{said}");
        clean(&said, spellings, &sql);
        // What a rehearsal meets, people are not told either.
        let refusal = asking.refusal("query", json!({"sql": sql})).await;
        assert!(refusal.message.contains("[secret]"), "{refusal}");
        clean(&refusal.message, spellings, &sql);
        let sql = format!("update held set n = 1 where id = {id}");
        let pending = asking.pending("query", json!({"sql": sql})).await;
        let (_, evidence) = asking.shown(&pending).await;
        let sample = evidence.unwrap().sample;
        let row = sample.rows[0].iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        assert!(row.contains("[secret]"), "{row}");
        clean(&row, spellings, &sql);
    }
}

async fn leaves_in_no_key(db: &Database, world: &World, asking: &World, spellings: &[String]) {
    let call = run(world, "update named set n = 1").await;
    let pending = asking.pending("undo_billing", json!({"call": call})).await;
    let (_, evidence) = asking.shown(&pending).await;
    let shown = format!("{:?}", evidence.unwrap().sample.rows);
    assert!(shown.contains("[secret]"), "{shown}");
    clean(&shown, spellings, "the sample of an undo");
    db.admin.batch_execute("update named set n = 2").await.unwrap();
    let said = message(undo(world, &call).await);
    assert!(said.contains("changed since") && said.contains("[secret]"), "{said}");
    clean(&said, spellings, "keys of rows that changed since");
    db.admin
        .batch_execute("update named set n = 1 where ctid = (select min(ctid) from named)")
        .await
        .unwrap();
    let answer = world.call("undo_billing", json!({"call": call, "on_change": "skip"})).await;
    let Answer::Done(done) = answer else { panic!("{answer:?}") };
    assert!(sealed(&done.reply["examples"]), "{}", done.reply);
    clean(&done.reply.to_string(), spellings, "the reply of an undo");
}

async fn so_short_a_password_that_it_cannot_be_kept_out_is_not_used(server: &str) {
    let db = target_on(server, "short_secret", "create table t (id int primary key)").await;
    for (password, used) in [("ab", false), ("abc", true)] {
        db.admin
            .batch_execute(&format!("alter role tools_undo_short_secret password '{password}'"))
            .await
            .unwrap();
        for as_url in [true, false] {
            let url = connection(&db, password, as_url);
            let world = db.world_at(&url, vec![reversible(&["t"])], ALLOW, <_>::default());
            let answer = world.call("query", json!({"sql": "select id from t"})).await;
            if used {
                assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
                continue;
            }
            let refusal = crate::harness::refused(answer, Code::SystemUnavailable);
            assert!(refusal.message.contains("fewer than 3 bytes"), "{refusal}");
            let tool = world.tools.values().next().unwrap();
            let system = world.systems.journal(&tool.spec().system.name).unwrap();
            let why = system.try_out(&world.gate.upkeep(tool.spec())).await.unwrap_err();
            assert!(why.contains("fewer than 3 bytes") && !why.contains(&url), "{why}");
        }
    }
}
