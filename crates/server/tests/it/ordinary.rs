//! Ordinary tables under exactly what `countersign init` writes: what a person approves once, or a script repeats under one key,
//! is performed once.

#![expect(clippy::disallowed_methods, reason = "the test looks at the database from outside")]

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    binary::run_in,
    place::{Database, execute},
    served::Served,
    undo::account,
};

/// The sample of `init`, for PostgreSQL.
const TABLES: &str = "
    create table customer (id int primary key, name text not null, email text not null);
    create table invoice (id int primary key, customer int not null references customer (id) on delete cascade,
        total int not null, currency text not null, issued text not null, is_test int not null);
    insert into customer select g, 'c' || g, 'c' || g || '@example.com' from generate_series(1, 10) g;
    insert into invoice select g, g % 10 + 1, g, 'EUR', '2026-01-01', g % 2 from generate_series(1, 100) g;";

/// What makes a count inexact or a name another one, in tables as people have them: the set-up, the call, and how many rows it
/// changes in all, with those of triggers and cascades.
const ON_POSTGRES: &[(&str, &str, &str, u64)] = &[
    (
        "a trigger that keeps an audit",
        "create table kept (no int generated always as identity primary key, what text);
         create function keep() returns trigger language plpgsql as $$ begin insert into kept (what) values (tg_op); return null; end $$;
         create trigger keeps after update or delete on invoice for each row execute function keep()",
        "update invoice set total = 0 where customer = 3",
        20,
    ),
    (
        "a trigger that keeps the time",
        "alter table invoice add updated_at timestamptz;
         create function touch() returns trigger language plpgsql as $$ begin new.updated_at := now(); return new; end $$;
         create trigger touches before update on invoice for each row execute function touch()",
        "update invoice set total = 0 where customer = 3",
        10,
    ),
    (
        "a parent",
        "create table invoice_2025 (primary key (id)) inherits (invoice);
         insert into invoice_2025 select g, 3, g, 'EUR', '2025-01-01', 0 from generate_series(201, 205) g",
        "update invoice set total = 0 where customer = 3",
        15,
    ),
    (
        "partitions",
        "alter table invoice rename to invoice_old;
         create table invoice (like invoice_old) partition by range (id);
         create table invoice_low partition of invoice for values from (0) to (50);
         create table invoice_high partition of invoice for values from (50) to (1000);
         insert into invoice select * from invoice_old; drop table invoice_old",
        "update invoice set total = 0 where customer = 3",
        10,
    ),
    ("a cascade", "", "delete from customer where id = 3", 11),
];

const ON_SQLITE: &[(&str, &str, &str)] = &[
    (
        "a trigger that keeps an audit",
        "create table kept (no integer primary key, what text);
         create trigger keeps after update on invoice begin insert into kept (what) values ('update'); end",
        "update invoice set total = 0 where customer = 3",
    ),
    (
        "a trigger that keeps the time",
        "alter table invoice add column updated_at text;
         create trigger touches after update of total on invoice begin
             update invoice set updated_at = current_timestamp where id = new.id; end",
        "update invoice set total = 0 where customer = 3",
    ),
    ("a cascade", "", "delete from customer where id = 3"),
];

/// What `init` writes, with another port and, where it is told, another system.
fn folder(at: &Path, system: Option<&str>) {
    let made = run_in(at, &["init"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let config = at.join("countersign.toml");
    let mut text = fs::read_to_string(&config).unwrap().replace("127.0.0.1:7780", "127.0.0.1:0");
    if let Some(system) = system {
        let sample =
            "kind        = \"sqlite\"\npath        = \"billing.db\"   # a sample, made by `countersign init`";
        assert_eq!(text.matches(sample).count(), 1);
        text = text.replace(sample, system);
    }
    fs::write(config, text).unwrap();
}

fn key(at: &Path, name: &str) -> String {
    fs::read_to_string(at.join(format!("keys/{name}.key"))).unwrap().trim().to_owned()
}

fn told(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

/// Proposes a call; approves it once if that is asked; answers what became of it.
fn approved_once(at: &Path, served: &Served, sql: &str) -> Value {
    let (agent, person) = (key(at, "assistant"), key(at, "alice"));
    let call = json!({ "sql": sql }).to_string();
    let asked = told(&served.run(&agent, &["call", "query_billing", &call]).out);
    if asked["status"] != "pending" {
        return asked;
    }
    let request = asked["approval"].as_str().unwrap();
    served.run(&person, &["approvals", "approve", request]);
    told(&served.run(&agent, &["call", "--result", request, "--wait-ms", "10000"]).out)
}

fn on_postgres(variable: &str) {
    for (name, set_up, sql, rows) in ON_POSTGRES {
        let database = Database::on(variable);
        execute(&database.url, format!("{TABLES} {set_up}")).unwrap();
        let temp = tempfile::tempdir().unwrap();
        folder(temp.path(), Some("kind = \"postgres\"\nurl = { env = \"BILLING_URL\" }"));
        let served = Served::start(temp.path(), &[("BILLING_URL", &database.url)]);
        let done = approved_once(temp.path(), &served, sql);
        assert_eq!(done["status"], "done", "{name}: {done}");
        let left = "select from invoice where customer = 3 and total > 0";
        let check = format!("do $$ begin if exists ({left}) then raise 'not performed'; end if; end $$");
        execute(&database.url, check).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(done["rows"], *rows, "{name}: {done}");
    }
}

#[test]
fn on_the_machines_server_one_approval_is_one_effect() {
    on_postgres("COUNTERSIGN_TEST_POSTGRES");
}

#[test]
fn on_postgresql_18_one_approval_is_one_effect() {
    on_postgres("COUNTERSIGN_TEST_POSTGRES_18");
}

#[test]
fn on_sqlite_one_approval_is_one_effect() {
    for (name, set_up, sql) in ON_SQLITE {
        let temp = tempfile::tempdir().unwrap();
        folder(temp.path(), None);
        let billing = rusqlite::Connection::open(temp.path().join("billing.db")).unwrap();
        billing.execute_batch(set_up).unwrap();
        let served = Served::start(temp.path(), &[]);
        let done = approved_once(temp.path(), &served, sql);
        assert_eq!(done["status"], "done", "{name}: {done}");
        let left = "select count(*) from invoice where customer = 3 and total > 0";
        let left: i64 = billing.query_row(left, [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{name}");
    }
}

#[test]
fn what_the_command_line_repeats_under_a_key_is_done_once() {
    let temp = tempfile::tempdir().unwrap();
    folder(temp.path(), None);
    let (agent, person) = (key(temp.path(), "assistant"), key(temp.path(), "alice"));
    let call = |served: &Served, key: &str, customer: u64| {
        let arguments = json!({ "customer": customer }).to_string();
        let asked = ["call", "delete_test_invoices", &arguments, "--idempotency-key", key];
        told(&served.run(&agent, &asked).out)
    };
    let mut served = Served::start(temp.path(), &[]);
    let asked = call(&served, "nightly-7", 7);
    assert_eq!(asked["status"], "pending", "{asked}");
    served.run(&person, &["approvals", "approve", asked["approval"].as_str().unwrap()]);
    let done = call(&served, "nightly-7", 7);
    assert_eq!((&done["status"], &done["rows"]), (&json!("done"), &json!(3)), "{done}");
    served.kill();
    let served = Served::start(temp.path(), &[]);
    let again = call(&served, "nightly-7", 7);
    assert_eq!((&again["call"], &again["repeated"]), (&done["call"], &json!(true)), "{again}");
    assert_eq!(again["result"], done["result"]);
    // Another call under the same key is none.
    let other = call(&served, "nightly-7", 8);
    assert_eq!(other["code"], "R021", "{other}");
}

/// People are asked once, and the call is performed once, whatever changes elsewhere before they answer; what changes for the
/// call itself ends the request, and whoever answers is told.
#[test]
fn a_request_outlives_what_does_not_concern_it_and_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    folder(temp.path(), None);
    let at = |name: &str| temp.path().join(name);
    let (agent, person) = (key(temp.path(), "assistant"), key(temp.path(), "alice"));
    let ask = |served: &Served, customer: u64| {
        let arguments = json!({ "customer": customer }).to_string();
        told(&served.run(&agent, &["call", "delete_test_invoices", &arguments]).out)
    };
    let edit = |name: &str, from: &str, to: &str| {
        let text = fs::read_to_string(at(name)).unwrap();
        assert!(text.contains(from), "{name}: {from}");
        fs::write(at(name), text.replacen(from, to, 1)).unwrap();
    };
    let add = |name: &str, text: &str| fs::write(at(name), text).unwrap();
    type Change<'a> = &'a dyn Fn();
    let elsewhere: Change<'_> = &|| {
        add(
            "policies/reading.cedar",
            "@id(\"r\") permit (principal, action == Action::\"customer_invoices\", resource);",
        );
        add("policies/other.cedar", "forbid (principal == Agent::\"night\", action, resource);");
        edit("policies/default.cedar", "// The default pack", "// Our pack, once the default pack");
        edit(
            "policies/default.cedar",
            "when { context.effect == \"read\" };",
            "when {\n  context.effect == \"read\"\n};",
        );
        edit("tools/billing.toml", "Invoices of one customer, newest first.", "One customer's invoices.");
        edit(
            "countersign.toml",
            "# Who countersigns.",
            "[agent.night]\naccounts = [\"acme-prod\"]\n\n# Who countersigns.",
        );
    };
    let changes: [(&str, Change<'_>, bool); 5] = [
        ("elsewhere", elsewhere, true),
        ("a policy", &|| edit("policies/default.cedar", "it deletes, or", "it removes, or"), false),
        (
            "one more",
            &|| {
                add(
                    "policies/more.cedar",
                    "forbid (principal, action, resource) when { context has reach && context.reach.rows > 450 };",
                )
            },
            false,
        ),
        (
            "the tool",
            &|| edit("tools/billing.toml", "Deletes the test invoices", "Deletes all test invoices"),
            false,
        ),
        (
            "the agent",
            &|| edit("countersign.toml", "teams    = [\"support\"]", "teams    = [\"sales\"]"),
            false,
        ),
    ];
    let billing = rusqlite::Connection::open(at("billing.db")).unwrap();
    let mut served = Served::start(temp.path(), &[]);
    for (customer, (name, change, stands)) in (11..).zip(changes) {
        let asked = ask(&served, customer);
        assert_eq!(asked["status"], "pending", "{name}: {asked}");
        let request = asked["approval"].as_str().unwrap();
        served.kill();
        change();
        served = Served::start(temp.path(), &[]);
        let answered = served.run(&person, &["approvals", "approve", request]);
        assert_eq!(answered.code == 0, stands, "{name}: {} {}", answered.out, answered.err);
        let result = told(&served.run(&agent, &["call", "--result", request, "--wait-ms", "10000"]).out);
        assert_eq!(result["status"], if stands { "done" } else { "superseded" }, "{name}: {result}");
        if stands {
            assert_eq!(
                (&ask(&served, customer)["call"], &result["rows"]),
                (&asked["call"], &json!(3)),
                "{name}"
            );
        } else {
            assert!(answered.out.contains("a policy that can apply to it"), "{name}: {}", answered.out);
            let again = ask(&served, customer);
            assert_eq!(again["status"], "pending", "{name}: {again}");
            assert_ne!(again["approval"], asked["approval"], "{name}");
        }
        let left = format!("select count(*) from invoice where customer = {customer} and is_test = 1");
        let left: i64 = billing.query_row(&left, [], |row| row.get(0)).unwrap();
        assert_eq!(left, if stands { 0 } else { 3 }, "{name}");
    }
}

/// A way in which an approved call cannot be performed as it was approved: its name, the set-up, what happens before a person
/// answers, the call, and the words of why it was not performed; none where it is performed within what was approved.
type NotAsApproved = (&'static str, &'static str, &'static str, &'static str, Option<&'static str>);

/// The kinds of them on PostgreSQL.
const NOT_AS_APPROVED: &[NotAsApproved] = &[
    (
        "more rows",
        "",
        "insert into invoice values (901, 3, 1, 'EUR', '2026-01-01', 0)",
        "update invoice set total = 0 where customer = 3",
        Some("reach further"),
    ),
    ("no row any more", "", "delete from invoice where customer = 3", "update invoice set total = 0 where customer = 3", None),
    (
        "another table",
        "",
        "alter table invoice rename column total to sum",
        "update invoice set total = 0 where customer = 3",
        Some("total"),
    ),
    (
        "a trigger that raises",
        "create function no() returns trigger language plpgsql as $$ begin raise 'invoices are closed'; end $$;
         create trigger closed before update on invoice for each row execute function no()",
        "",
        "update invoice set total = 0 where customer = 3",
        Some("invoices are closed"),
    ),
    (
        "a trigger that comes later",
        "create function no() returns trigger language plpgsql as $$ begin raise 'invoices are closed'; end $$",
        "create trigger closed before update on invoice for each row execute function no()",
        "update invoice set total = 0 where customer = 3",
        Some("invoices are closed"),
    ),
    (
        "a constraint that is looked at last",
        "create table paid (invoice int references invoice deferrable initially deferred); insert into paid values (2)",
        "",
        "delete from invoice where id = 2",
        Some("paid"),
    ),
    (
        "a constraint trigger",
        "create function no() returns trigger language plpgsql as $$ begin raise 'invoices are closed'; end $$;
         create constraint trigger closed after update on invoice deferrable initially deferred
             for each row execute function no()",
        "",
        "update invoice set total = 0 where customer = 3",
        Some("invoices are closed"),
    ),
];

/// The same for an account that row security binds: what it cannot see.
const BEHIND_POLICIES: &[NotAsApproved] = &[
    (
        "a hidden row that is not touched",
        "",
        "insert into invoice values (901, 3, 1, 'GBP', '2026-01-01', 0)",
        "update invoice set total = 0 where customer = 3",
        None,
    ),
    (
        "a hidden row that is seen then",
        "insert into invoice values (901, 3, 1, 'GBP', '2026-01-01', 0)",
        "update invoice set currency = 'EUR' where id = 901",
        "update invoice set total = 0 where customer = 3",
        Some("reached 11 rows"),
    ),
    (
        // How many it would take cannot be told, so that nobody is asked.
        "a hidden row that a cascade would take",
        "",
        "insert into invoice values (901, 3, 1, 'GBP', '2026-01-01', 0)",
        "delete from customer where id = 3",
        Some("exceed 500 rows"),
    ),
    (
        "a policy that comes later",
        "",
        "create policy open on invoice as restrictive for update using (true) with check (total > 0)",
        "update invoice set total = 0 where customer = 3",
        Some("row-level security"),
    ),
];

/// An account that sees no invoices in a currency that the sample does not have. How to connect as it.
fn limited_by_policies(database: &Database) -> String {
    let url = account(database);
    let user = url::Url::parse(&url).unwrap().username().to_owned();
    // Locks first: an autovacuum of the new table waits for the grant, and must not hold what comes after it.
    let hiding = format!(
        "alter table invoice enable row level security;
         create policy seen on invoice using (currency <> 'GBP');
         grant select, insert, update, delete on customer, invoice to {user}"
    );
    execute(&database.url, hiding).unwrap();
    url
}

/// The same on the sample of `init`. Its constraints are looked at last where they are deferred; it has no row security, and no
/// constraint triggers.
const NOT_AS_APPROVED_ON_SQLITE: &[NotAsApproved] = &[
    (
        "more rows",
        "",
        "insert into invoice values (90001, 3, 1, 'EUR', '2026-01-01', 0)",
        "update invoice set total = 0 where customer = 3",
        Some("reach further"),
    ),
    (
        "no row any more",
        "",
        "delete from invoice where customer = 3",
        "update invoice set total = 0 where customer = 3",
        None,
    ),
    (
        "another table",
        "",
        "alter table invoice rename column total to sum",
        "update invoice set total = 0 where customer = 3",
        Some("total"),
    ),
    (
        "a trigger that raises",
        "create trigger closed before update on invoice begin select raise(abort, 'invoices are closed'); end",
        "",
        "update invoice set total = 0 where customer = 3",
        Some("invoices are closed"),
    ),
    (
        "a trigger that comes later",
        "",
        "create trigger closed before update on invoice begin select raise(abort, 'invoices are closed'); end",
        "update invoice set total = 0 where customer = 3",
        Some("invoices are closed"),
    ),
    (
        "a trigger that leaves rows alone",
        "",
        "create trigger closed before update on invoice begin select raise(ignore); end",
        "update invoice set total = 0 where customer = 3",
        Some("reach further"),
    ),
    (
        "a constraint that is looked at last",
        "create table paid (invoice int references invoice deferrable initially deferred); insert into paid select min(id) from invoice where customer = 3",
        "",
        "delete from invoice where customer = 3",
        Some("constraint"),
    ),
    (
        "a constraint that comes later",
        "",
        "create table paid (invoice int references invoice); insert into paid select min(id) from invoice where customer = 3",
        "delete from invoice where customer = 3",
        Some("constraint"),
    ),
];

/// A call that cannot be performed as approved is never asked for blindly again: the second time nobody is asked, or the one who
/// is asked reads why the first approval came to nothing.
fn not_asked_for_blindly(at: &Path, served: &Served, case: NotAsApproved, change: &dyn Fn(&str)) {
    let (name, _, meanwhile, sql, why) = case;
    let (agent, person) = (key(at, "assistant"), key(at, "alice"));
    let call = json!({ "sql": sql }).to_string();
    let propose = || told(&served.run(&agent, &["call", "query_billing", &call]).out);
    let approve = |request: &str| {
        served.run(&person, &["approvals", "approve", request]);
        told(&served.run(&agent, &["call", "--result", request, "--wait-ms", "10000"]).out)
    };
    let refused = |answer: &Value, why: &str| {
        assert!(answer["message"].as_str().unwrap().contains(why), "{name}: {answer}");
        assert!(!answer["help"].as_str().unwrap().is_empty(), "{name}: {answer}");
    };
    let first = propose();
    if first["status"] != "pending" {
        refused(&first, why.unwrap_or_else(|| panic!("{name}: {first}")));
        return;
    }
    change(meanwhile);
    let came_of_it = approve(first["approval"].as_str().unwrap());
    let Some(why) = why else {
        assert_eq!(came_of_it["status"], "done", "{name}: {came_of_it}");
        return;
    };
    refused(&came_of_it, why);
    let second = propose();
    if second["status"] != "pending" {
        refused(&second, why);
        return;
    }
    let request = second["approval"].as_str().unwrap();
    let shown = told(&served.run(&person, &["approvals", "show", request]).out);
    let before = &shown["answered_before"][0];
    assert_eq!(
        (&before["same_call"], &before["approval"]),
        (&json!(true), &first["approval"]),
        "{name}: {shown}"
    );
    assert!(before["why"].as_str().unwrap().contains(why), "{name}: {before}");
    if came_of_it["status"] == "superseded" {
        assert_eq!(approve(request)["status"], "done", "{name}: what was seen then is approved now");
    }
}

fn not_asked_for_blindly_on(variable: &str) {
    for (cases, limited) in [(NOT_AS_APPROVED, false), (BEHIND_POLICIES, true)] {
        for case @ (_, set_up, ..) in cases {
            let database = Database::on(variable);
            execute(&database.url, format!("{TABLES} {set_up}")).unwrap();
            let url = if limited { limited_by_policies(&database) } else { database.url.clone() };
            let temp = tempfile::tempdir().unwrap();
            folder(temp.path(), Some("kind = \"postgres\"\nurl = { env = \"BILLING_URL\" }"));
            let served = Served::start(temp.path(), &[("BILLING_URL", &url)]);
            let change = |sql: &str| execute(&database.url, sql.to_owned()).unwrap();
            not_asked_for_blindly(temp.path(), &served, *case, &change);
        }
    }
}

#[test]
fn what_cannot_be_performed_as_approved_is_not_asked_for_blindly() {
    not_asked_for_blindly_on("COUNTERSIGN_TEST_POSTGRES");
}

#[test]
fn what_cannot_be_performed_as_approved_on_postgresql_18_is_not_asked_for_blindly() {
    not_asked_for_blindly_on("COUNTERSIGN_TEST_POSTGRES_18");
}

#[test]
fn what_cannot_be_performed_as_approved_on_sqlite_is_not_asked_for_blindly() {
    for case @ (_, set_up, ..) in NOT_AS_APPROVED_ON_SQLITE {
        let temp = tempfile::tempdir().unwrap();
        folder(temp.path(), None);
        let billing = rusqlite::Connection::open(temp.path().join("billing.db")).unwrap();
        billing.execute_batch(set_up).unwrap();
        let served = Served::start(temp.path(), &[]);
        let change = |sql: &str| billing.execute_batch(sql).unwrap();
        not_asked_for_blindly(temp.path(), &served, *case, &change);
    }
}

/// Whatever the tool lists: how many rows would go is not known, so that nobody is asked.
#[test]
fn a_table_made_of_deleted_rows_is_never_asked_for() {
    const SQL: &str = "create table gone as with d as (delete from invoice returning *) select * from d";
    for variable in ["COUNTERSIGN_TEST_POSTGRES", "COUNTERSIGN_TEST_POSTGRES_18"] {
        for listed in [false, true] {
            let database = Database::on(variable);
            execute(&database.url, TABLES.to_owned()).unwrap();
            let temp = tempfile::tempdir().unwrap();
            folder(temp.path(), Some("kind = \"postgres\"\nurl = { env = \"BILLING_URL\" }"));
            if listed {
                let tools = temp.path().join("tools/billing.toml");
                let text = fs::read_to_string(&tools).unwrap();
                let more =
                    text.replace("[\"customer\", \"invoice\"]", "[\"customer\", \"invoice\", \"gone\"]");
                assert_ne!(text, more);
                fs::write(tools, more).unwrap();
            }
            let served = Served::start(temp.path(), &[("BILLING_URL", &database.url)]);
            let refused = approved_once(temp.path(), &served, SQL);
            let code = if listed { "R005" } else { "R003" };
            assert_eq!(refused["code"], code, "{refused}");
            assert!(!refused["help"].as_str().unwrap().is_empty(), "{refused}");
            let all =
                "do $$ begin if (select count(*) from invoice) <> 100 then raise 'deleted'; end if; end $$";
            execute(&database.url, all.to_owned()).unwrap();
        }
    }
}

/// What no approval could have performed is not asked for.
#[test]
fn what_reaches_rows_that_are_not_seen_is_never_asked_for() {
    let database = Database::on("COUNTERSIGN_TEST_POSTGRES");
    let hidden = "alter table customer add up int references customer on delete cascade;
        insert into customer select g, 'n', 'n', case when g > 1001 then 1001 end from generate_series(1001, 1700) g;
        alter table customer enable row level security;
        create policy mine on customer using (id < 1004)";
    execute(&database.url, format!("{TABLES} {hidden}")).unwrap();
    let temp = tempfile::tempdir().unwrap();
    folder(temp.path(), Some("kind = \"postgres\"\nurl = { env = \"BILLING_URL\" }"));
    let served = Served::start(temp.path(), &[("BILLING_URL", &database.url)]);
    let done = approved_once(temp.path(), &served, "delete from customer where id = 1001");
    assert_eq!(done["status"], "blocked", "{done}");
    assert_eq!(done["policies"], json!(["default:deletes-over-500-rows"]), "{done}");
}
