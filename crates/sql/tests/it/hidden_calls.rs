//! Wherever a call stands and however its name is written, it is found.

use countersign_sql::{Dialect, Effect, explain};

const CALLS: [&str; 52] = [
    "('numbers'::regclass).nextval",
    "('/etc/passwd'::text).pg_read_file",
    "(1).pg_terminate_backend",
    "(0.5::float8).pg_sleep",
    "(array[1::bigint])[1].pg_advisory_lock",
    "(select k.nextval from cast('numbers' as regclass) k)",
    "(select k.pg_terminate_backend from generate_series(1, 99999) k limit 1)",
    "pg_input_is_valid('1', 'positive')",
    "nextval('numbers')",
    "setval('numbers', 1)",
    "set_config('role', 'postgres', false)",
    "pg_read_file('/etc/passwd')",
    "pg_read_binary_file('/etc/passwd')",
    "pg_ls_dir('.')",
    "pg_stat_file('x')",
    "lo_import('/etc/passwd')",
    "lo_export(1, '/tmp/x')",
    "lo_unlink(1)",
    "lo_get(1)",
    "lo_create(1)",
    "pg_terminate_backend(1)",
    "pg_cancel_backend(1)",
    "pg_advisory_lock(1)",
    "pg_try_advisory_xact_lock(1)",
    "pg_sleep(1)",
    "pg_notify('x', 'y')",
    "pg_logical_emit_message(true, 'a', 'b')",
    "pg_switch_wal()",
    "pg_reload_conf()",
    "pg_export_snapshot()",
    "pg_create_restore_point('x')",
    "query_to_xml('delete from invoice', true, false, '')",
    "table_to_xml('secrets', true, false, '')",
    "database_to_xml(true, false, '')",
    "dblink_exec('x', 'y')",
    "dblink('x', 'y')",
    "volatile_write()",
    "public.lower('x')",
    "other.lower('x')",
    "public.now()",
    "unknown(1)",
    "pg_stat_reset()",
    "pg_replication_origin_create('x')",
    "pg_drop_replication_slot('x')",
    "brin_summarize_new_values('x')",
    "pg_nextoid('pg_class', 'oid', 'x')",
    "txid_current()",
    "setseed(1)",
    "pg_file_write('x', 'y', true)",
    "'x'::user_defined",
    "1 operator(other.+) 2",
    "ts_rewrite('a'::tsquery, 'select 1')",
];

#[test]
fn in_every_place() {
    let mut missed = Vec::new();
    for call in CALLS {
        for place in crate::generated::PLACES {
            let sql = place.replace('@', call);
            match explain(Dialect::Postgres, &sql, None) {
                Ok(explained) if explained.effect == Effect::Read => missed.push(sql),
                Ok(_) => {}
                Err(error) => panic!("{error}: {sql}"),
            }
        }
    }
    assert!(missed.is_empty(), "called a read:\n{}", missed.join("\n"));
}

#[test]
fn under_every_spelling() {
    let spellings = [
        "nextval('numbers')",
        "NEXTVAL('numbers')",
        "NextVal ( 'numbers' )",
        "nextval/**/('numbers')",
        "nextval -- x\n('numbers')",
        "\"nextval\"('numbers')",
        "U&\"nextva\\006c\"('numbers')",
        "u&\"!006eextval\" uescape '!' ('numbers')",
        "pg_catalog.nextval('numbers')",
        "\"pg_catalog\".\"nextval\"('numbers')",
        "pg_catalog . nextval ( $$numbers$$ )",
        "nextval($x$numbers$x$)",
        "nextval(E'num\\x62ers')",
        "nextval(U&'n\\0075mbers')",
        "nextval('num' \n 'bers')",
        "nextval('numbers'::regclass)",
        "nextval(regclass 'numbers')",
        "nextval(variadic array['numbers'])",
        "nextval(x => 'numbers')",
        "((nextval('numbers')))",
    ];
    for spelling in spellings {
        for place in crate::generated::PLACES {
            let sql = place.replace('@', spelling);
            let explained =
                explain(Dialect::Postgres, &sql, None).unwrap_or_else(|error| panic!("{error}: {sql}"));
            assert_ne!(explained.effect, Effect::Read, "{sql}");
            assert!(explained.functions.iter().any(|function| function.name == "nextval"), "{sql}");
        }
    }
}

/// The same places with a harmless call are reads: the places themselves are understood.
#[test]
fn and_nothing_is_found_where_nothing_is() {
    for place in crate::generated::PLACES {
        let sql = place.replace('@', "lower('x')");
        let explained =
            explain(Dialect::Postgres, &sql, None).unwrap_or_else(|error| panic!("{error}: {sql}"));
        assert_eq!(explained.effect, Effect::Read, "{sql}: {:?}", explained.reasons);
    }
}

#[test]
fn sqlite_finds_them_too() {
    let places: Vec<_> = crate::generated::PLACES
        .iter()
        .filter(|place| explain(Dialect::Sqlite, &place.replace('@', "lower('x')"), None).is_ok())
        .collect();
    assert!(places.len() > 20, "only {} places fit SQLite", places.len());
    for call in [
        "load_extension('x')",
        "writefile('x', 'y')",
        "readfile('x')",
        "unknown(1)",
        "fts3_tokenizer('x')",
        "edit('x')",
    ] {
        for place in &places {
            let sql = place.replace('@', call);
            let explained =
                explain(Dialect::Sqlite, &sql, None).unwrap_or_else(|error| panic!("{error}: {sql}"));
            assert_ne!(explained.effect, Effect::Read, "{sql}");
        }
    }
}
