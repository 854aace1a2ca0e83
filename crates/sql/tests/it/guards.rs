//! Switching off what guards the rows is destructive, in every form, on either database; and the databases themselves say
//! what does so.

use countersign_sql::{Category, Dialect, Effect, explain};
use rusqlite::Connection;
use tokio_postgres::Client;

use crate::postgres_server::servers;

fn effect(dialect: Dialect, sql: &str) -> Effect {
    explain(dialect, sql, None).unwrap_or_else(|error| panic!("{error}: {sql}")).effect
}

#[test]
fn switching_a_guard_off_is_destructive_in_every_form() {
    for sql in [
        "alter table billing alter constraint billing_invoice_id_fkey not enforced",
        "ALTER TABLE ONLY public.billing ALTER CONSTRAINT x NOT ENFORCED",
        "alter table billing add column n int, alter constraint x not enforced",
        "alter table billing disable trigger guard",
        "alter table billing disable trigger all",
        "alter table billing disable trigger user",
        "alter table billing enable replica trigger guard",
        "alter table billing disable rule r",
        "alter table billing enable replica rule r",
        "alter table billing disable row level security",
        "alter table billing no force row level security",
        "alter table billing drop constraint x",
        "alter table billing alter column amount drop not null",
        "alter event trigger e disable",
        "alter domain positive drop constraint c",
        "alter view v reset (check_option)",
        "alter view v reset (security_barrier, security_invoker)",
        "alter view v set (security_barrier = false)",
        "alter view v set (security_invoker = off)",
        "alter view v set (check_option = local)",
        "alter policy p on billing using (true)",
        "alter policy p on billing with check (1 = 1)",
        "alter role r bypassrls",
        "alter user r with superuser",
        "drop policy p on billing",
        "drop trigger t on billing",
        "set session_replication_role = replica",
        "set session_replication_role to 'replica'",
        "SET SESSION Session_Replication_Role = 'REPLICA'",
        "set local session_replication_role = replica",
        "set session_replication_role to default",
        "reset session_replication_role",
        "set \"session_replication_role\" = 'replica'",
        "set U&\"session\\005freplication_role\" = 'replica'",
        "select set_config('session_replication_role', 'replica', false)",
        "select pg_catalog.set_config('SESSION_REPLICATION_ROLE', 'replica', true)",
        "select * from set_config('session_replication_role', 'rep' || 'lica', true)",
        "select set_config(setting_name => 'session_replication_role', new_value => 'replica', is_local => true)",
        "select set_config('session_' || 'replication_role', 'replica', false)",
        "select set_config(name, 'x', false) from pg_settings",
        "select set_config($1, $2, false)",
        "with s as (select set_config('session_replication_role', 'replica', true)) select * from s",
        "alter role r set session_replication_role = replica",
        "alter role all set session_replication_role = replica",
        "alter role r in database d set session_replication_role = replica",
        "alter user r set session_replication_role from current",
        "alter role r reset session_replication_role",
        "alter database d set session_replication_role = replica",
        "alter system set session_replication_role = replica",
        "create function f() returns int language sql set session_replication_role = replica as 'select 1'",
        "alter function f() set session_replication_role = replica",
        "set row_security = off",
        "set row_security to false",
        "set local row_security = 0",
        "select set_config('row_security', 'off', true)",
        "set default_transaction_read_only = off",
        "set transaction read write",
        "set session characteristics as transaction read write",
        "set allow_system_table_mods = on",
        "set lo_compat_privileges = on",
        "set event_triggers = off",
        "alter system set fsync = off",
    ] {
        assert_eq!(effect(Dialect::Postgres, sql), Effect::Destructive, "{sql}");
    }
    for sql in [
        "pragma foreign_keys = off",
        "PRAGMA Foreign_Keys(0)",
        "pragma main.foreign_keys = false",
        "pragma foreign_keys = 'no'",
        "pragma foreign_keys = \"off\"",
        "pragma foreign_keys = banana",
        "pragma foreign_keys = 256",
        "pragma foreign_keys = -1",
        "pragma ignore_check_constraints = on",
        "pragma ignore_check_constraints = 7",
        "pragma recursive_triggers = off",
        "pragma writable_schema = on",
        "pragma writable_schema = reset",
        "pragma trusted_schema = 1",
        "pragma query_only = 0",
        "pragma synchronous = off",
        "pragma synchronous = 0",
        "pragma journal_mode = off",
        "pragma journal_mode(memory)",
        "explain pragma foreign_keys = off",
    ] {
        assert_eq!(effect(Dialect::Sqlite, sql), Effect::Destructive, "{sql}");
    }
}

#[test]
fn switching_one_on_or_deferring_it_is_not() {
    for sql in [
        "alter table billing alter constraint x enforced",
        "alter table billing alter constraint x deferrable initially deferred",
        "alter table billing enable trigger guard",
        "alter table billing enable always trigger guard",
        "alter table billing enable row level security",
        "alter table billing force row level security",
        "alter view v set (security_barrier)",
        "alter view v set (security_invoker = true, check_option = cascaded)",
        "alter table billing set (fillfactor = 70)",
        "alter policy p on billing using (owner = current_user)",
        "alter role r nobypassrls",
        "alter role r password 'x'",
        "alter role r set search_path = other",
        "set session_replication_role = origin",
        "select set_config('session_replication_role', 'origin', true)",
        "set row_security = on",
        "set default_transaction_read_only = on",
        "set transaction read only",
        "set constraints all deferred",
        "set work_mem = '1MB'",
    ] {
        assert_eq!(effect(Dialect::Postgres, sql), Effect::Write, "{sql}");
    }
    for sql in [
        "pragma foreign_keys = on",
        "pragma foreign_keys(1)",
        "pragma ignore_check_constraints = off",
        "pragma recursive_triggers = yes",
        "pragma writable_schema = off",
        "pragma trusted_schema = false",
        "pragma query_only = true",
        "pragma defer_foreign_keys = on",
        "pragma synchronous = full",
    ] {
        assert_eq!(effect(Dialect::Sqlite, sql), Effect::Write, "{sql}");
    }
}

const GUARDED: &str = "create temp table parent (id int primary key);
    create temp table guarded (id int primary key, up int references parent, n int constraint positive check (n > 0));
    create function pg_temp.refuse() returns trigger language plpgsql as $$ begin raise exception 'guarded'; end $$;
    create trigger guard before update on guarded for each row execute function pg_temp.refuse();
    create rule kept as on delete to guarded do instead nothing;
    insert into guarded values (1, null, 1);";

/// Whether each guard still holds: a foreign key, a check, a trigger, a rule.
async fn guards(client: &Client) -> [bool; 4] {
    let mut held = [false; 4];
    for (place, sql) in [
        "insert into guarded values (2, 7, 1)",
        "insert into guarded values (3, null, -1)",
        "update guarded set n = 2 where id = 1",
        "delete from guarded where id = 1",
    ]
    .into_iter()
    .enumerate()
    {
        client.batch_execute("savepoint s").await.unwrap();
        // Deferred checks are made at the end: so is this one.
        let done = match client.execute(sql, &[]).await {
            Ok(rows) => client.batch_execute("set constraints all immediate").await.map(|()| rows),
            Err(error) => Err(error),
        };
        held[place] = !matches!(done, Ok(1));
        client.batch_execute("rollback to s").await.unwrap();
    }
    held
}

/// What a server's own guards say: whatever takes one away is destructive.
#[tokio::test]
async fn what_takes_a_guard_away_on_a_real_server_is_destructive() {
    let (mut took, mut kept) = (0, 0);
    for client in servers().await {
        client.batch_execute(GUARDED).await.unwrap();
        for sql in [
            "set session_replication_role = replica",
            "set local session_replication_role = 'replica'",
            "select set_config('session_replication_role', 'replica', false)",
            "set session_replication_role = origin",
            "set session_replication_role = local",
            "set session_replication_role = default",
            "set constraints all deferred",
            "alter table guarded disable trigger guard",
            "alter table guarded disable trigger all",
            "alter table guarded disable trigger user",
            "alter table guarded enable replica trigger guard",
            "alter table guarded enable always trigger guard",
            "alter table guarded disable rule kept",
            "alter table guarded enable replica rule kept",
            "alter table guarded drop constraint positive",
            "alter table guarded alter constraint guarded_up_fkey deferrable initially deferred",
            "alter table guarded alter constraint guarded_up_fkey not deferrable",
            "alter table guarded alter constraint guarded_up_fkey not enforced",
            "alter table guarded replica identity nothing",
            "drop trigger guard on guarded",
        ] {
            client.batch_execute("begin").await.unwrap();
            let done = client.batch_execute(sql).await;
            // The syntax of a newer release.
            if done.is_ok() {
                if guards(&client).await == [true; 4] {
                    kept += 1;
                } else {
                    took += 1;
                    assert_eq!(effect(Dialect::Postgres, sql), Effect::Destructive, "{sql}");
                }
            }
            client.batch_execute("rollback").await.unwrap();
        }
    }
    assert!(took >= 11 && kept >= 6, "{took} took a guard away, {kept} did not");
}

#[test]
fn what_takes_a_guard_away_on_sqlite_is_destructive() {
    let mut took = 0;
    let settings = [
        "foreign_keys",
        "ignore_check_constraints",
        "recursive_triggers",
        "writable_schema",
        "query_only",
        "defer_foreign_keys",
        "trusted_schema",
    ];
    let values = [
        "on", "off", "ON", "Off", "yes", "no", "true", "false", "0", "1", "2", "256", "-1", "+1", "'on'",
        "\"off\"", "banana", "full",
    ];
    for setting in settings {
        for value in values {
            for sql in [format!("pragma {setting} = {value}"), format!("pragma {setting}({value})")] {
                let connection = Connection::open_in_memory().unwrap();
                connection
                    .execute_batch(
                        "pragma foreign_keys = on; pragma recursive_triggers = on; pragma trusted_schema = off; pragma defer_foreign_keys = off;
                         create table parent (id integer primary key);
                         create table guarded (id integer primary key, up references parent, n check (n > 0));
                         create trigger guard before delete on guarded begin select raise(abort, 'guarded'); end;
                         insert into guarded values (1, null, 1);",
                    )
                    .unwrap();
                if setting == "query_only" {
                    connection.execute_batch("pragma query_only = on").unwrap();
                }
                let before = held(&connection, setting);
                connection.execute_batch(&sql).ok();
                if before && !held(&connection, setting) {
                    took += 1;
                    assert_eq!(effect(Dialect::Sqlite, &sql), Effect::Destructive, "{sql}");
                }
            }
        }
    }
    assert!(took > 60, "only {took} took a guard away");
}

/// Whether the guard of a setting still holds: what it refuses is refused, at the latest when it is committed.
fn held(connection: &Connection, setting: &str) -> bool {
    let refused = match setting {
        "foreign_keys" | "defer_foreign_keys" => "insert into guarded values (2, 7, 1)",
        "ignore_check_constraints" => "insert into guarded values (3, null, -1)",
        "recursive_triggers" => "replace into guarded values (1, null, 2)",
        "writable_schema" => "update sqlite_schema set name = name",
        "query_only" => "insert into guarded values (4, null, 4)",
        // It is about functions that an application defines: its own word for it.
        _ => {
            return connection.query_row("pragma trusted_schema", [], |row| row.get::<_, i64>(0)).unwrap()
                == 0;
        }
    };
    connection.execute_batch("begin").unwrap();
    let done = connection.execute_batch(refused).and_then(|()| connection.execute_batch("commit"));
    if done.is_err() {
        connection.execute_batch("rollback").ok();
    }
    done.is_err()
}

/// Of the settings that take guards away, the session's own are never a tool's.
#[test]
fn they_are_of_the_session_and_so_no_tool_runs_them() {
    for sql in ["set session_replication_role = replica", "select set_config('row_security', 'off', true)"] {
        let explained = explain(Dialect::Postgres, sql, None).unwrap();
        assert!(explained.categories.contains(&Category::Session), "{sql}");
    }
}
