//! What PostgreSQL keeps of passwords, keys and connection strings is told under every name that leads there; and what the
//! catalog tells is told where functions tell it.

use countersign_sql::{Catalog, Category, Dialect, Explained, Known, explain};

use crate::catalog::{table, view, written};
use crate::postgres_server::servers;

/// Relations that nobody but superusers may read, and that hold no credentials.
const LOOKED_AT: [&str; 15] = [
    "pg_aios",
    "pg_backend_memory_contexts",
    "pg_config",
    "pg_dsm_registry_allocations",
    "pg_largeobject",
    "pg_replication_origin_status",
    "pg_shmem_allocations",
    "pg_shmem_allocations_numa",
    "pg_statistic",
    "pg_statistic_ext_data",
    "sql_parts",
    "transforms",
    "_pg_foreign_data_wrappers",
    "_pg_foreign_servers",
    "_pg_foreign_table_columns",
];

fn told(sql: &str, known: Option<&Known>) -> Explained {
    explain(Dialect::Postgres, sql, known).unwrap_or_else(|error| panic!("{error}: {sql}"))
}

fn credentials(sql: &str, known: Option<&Known>) -> bool {
    told(sql, known).categories.contains(&Category::Credentials)
}

/// A catalog that keeps credentials behind views and functions of its own.
fn behind() -> Known {
    let catalog = Catalog {
        search_path: vec!["public".to_owned()],
        relations: vec![
            table("invoice"),
            view("people", "SELECT a.rolname, a.rolpassword FROM pg_authid a"),
            view("everyone", "SELECT rolname FROM people"),
            view("dump", "SELECT query_to_xml('select * from pg_shadow'::text, true, true, ''::text) AS x"),
        ],
        routines: vec![
            written(
                "hash_of",
                countersign_sql::Volatility::Stable,
                "select passwd from pg_shadow where usename = $1",
            ),
            written("nested", countersign_sql::Volatility::Stable, "select hash_of($1)"),
        ],
        ..Catalog::default()
    };
    Known::new(catalog)
}

#[test]
fn what_holds_passwords_is_of_its_own_category_however_it_is_spelled() {
    let relations = [
        "pg_authid",
        "pg_shadow",
        "pg_user_mapping",
        "pg_user_mappings",
        "pg_hba_file_rules",
        "pg_ident_file_mappings",
        "pg_file_settings",
        "pg_subscription",
        "information_schema.user_mapping_options",
        "pg_toast.pg_toast_1260",
    ];
    let spellings = [
        "select * from @",
        "table @",
        "select count(*) from @ x",
        "select 1 from invoice where exists (select from @)",
        "select (select max(x::text) from @ x)",
        "select coalesce((select x::text from @ x limit 1), '')",
        "with c as (select * from @) select * from c",
        "select * from invoice, lateral (select * from @) s",
        "select 1 union all select count(*) from @",
        "values ((select count(*) from @))",
        "explain select * from @",
        "copy @ to stdout",
        "copy (select * from @) to stdout",
        "insert into invoice (currency) select x::text from @ x",
        "update invoice set currency = x::text from @ x where id = 1",
        "delete from invoice using @ x where id = 1",
        "create table kept as select * from @",
        "create view kept as select * from @",
        "create materialized view kept as select * from @",
        "prepare p as select * from @",
        "declare c cursor for select * from @",
        "delete from @",
        "grant select on @ to public",
    ];
    for relation in relations {
        for spelling in spellings {
            let sql = spelling.replace('@', relation);
            assert!(credentials(&sql, None), "{sql}");
            assert!(credentials(&sql, Some(&behind())), "with a catalog: {sql}");
        }
    }
    for written in [
        "pg_catalog.pg_authid",
        "PG_AUTHID",
        "Pg_Catalog.PG_Authid",
        "\"pg_authid\"",
        "\"pg_catalog\".\"pg_authid\"",
        "U&\"pg\\005fauthid\"",
        "only pg_authid",
        "pg_authid*",
        "postgres.pg_catalog.pg_authid",
        "pg_authid as invoice",
        "/* */ pg_authid -- ",
        "pg_authid tablesample system (100)",
        "(pg_authid a join invoice i on true)",
    ] {
        let sql = format!("select * from {written}");
        assert!(credentials(&sql, None), "{sql}");
    }
}

#[test]
fn functions_and_texts_lead_to_them_too() {
    let known = behind();
    for sql in [
        "select * from pg_hba_file_rules()",
        "select * from pg_catalog.pg_show_all_file_settings()",
        "select (pg_ident_file_mappings()).*",
        "select table_to_xml('pg_authid', true, true, '')",
        "select table_to_xml('pg_catalog.pg_shadow'::regclass, true, true, '')",
        "select schema_to_xml('pg_catalog', true, true, '')",
        "select query_to_xml('SELECT rolpassword FROM PG_AUTHID', true, true, '')",
        "select query_to_xml($q$table pg_authid$q$, true, true, '')",
        "select query_to_xml(E'table pg\\x5fauthid', true, true, '')",
        "with q as (select 'table pg_shadow' t) select query_to_xml(t, true, true, '') from q",
        "select ts_stat('select passwd::tsvector from pg_shadow')",
        "select ('select passwd::tsvector from pg_shadow'::text).ts_stat",
        "select * from dblink('dbname=x', 'select passwd from pg_shadow') as t (p text)",
        "select * from extensions.dblink('dbname=x', 'select passwd from pg_shadow') as t (p text)",
        "select get_raw_page('pg_authid', 0)",
        "select pg_read_file('pg_hba.conf')",
        "select pg_read_binary_file('global/1260')",
        "do $$ begin perform rolpassword from pg_authid; end $$",
        "create function f() returns text language sql as 'select rolpassword from pg_authid limit 1'",
        "create function f() returns setof text language sql begin atomic select rolpassword from pg_authid; end",
        "show primary_conninfo",
        "show \"Primary_ConnInfo\"",
        "select current_setting('primary_conninfo')",
        "select pg_catalog.current_setting('PRIMARY_CONNINFO', true)",
        "select setting from pg_settings where name = 'primary_conninfo'",
        "select setting from pg_show_all_settings() where name like 'ssl_passphrase_command'",
        "copy invoice (currency) from '/var/lib/postgresql/pg_hba.conf'",
    ] {
        assert!(credentials(sql, None), "{sql}");
        assert!(credentials(sql, Some(&known)), "with a catalog: {sql}");
    }
    for sql in [
        "select * from people",
        "select * from everyone",
        "select * from dump",
        "select hash_of('x')",
        "select nested('x')",
        "select * from invoice where nested('x') is null",
    ] {
        assert!(credentials(sql, Some(&known)), "{sql}");
    }
}

#[test]
fn what_only_sounds_like_them_is_not() {
    for sql in [
        "select * from invoice where currency = 'pg_authid'",
        "insert into invoice (currency) values ('primary_conninfo')",
        "select * from audit.pg_authid",
        "select * from \"PG_AUTHID\"",
        "with pg_authid as (select 1) select * from pg_authid",
        "select pg_authid.id from invoice pg_authid",
        "select rolname from pg_roles",
        "select usename from pg_user",
        "select * from pg_settings where name = 'work_mem'",
        "select current_setting('search_path')",
        "select query_to_xml('select 1', true, true, '')",
    ] {
        assert!(!credentials(sql, None), "{sql}");
    }
}

#[test]
fn functions_that_tell_the_catalog_say_so() {
    for sql in [
        "select pg_get_viewdef('v')",
        "select pg_get_functiondef(1)",
        "select (16384::oid).pg_get_viewdef",
        "select pg_catalog.format_type(23, null)",
        "select has_table_privilege('salary', 'select')",
        "select pg_relation_size('salary')",
        "select to_regclass('salary')",
        "select 16384::regclass",
        "select '16384'::regclass",
        "select tableoid::regclass from invoice",
        "select x::regproc from generate_series(1, 10000) x",
        "select * from json_to_record('{\"a\": 16384}') as t (a regclass)",
        "select obj_description(1, 'pg_class')",
        "select * from pg_stat_get_activity(null)",
        "select * from pg_show_all_settings()",
        "select current_setting(name) from setting",
        "show all",
    ] {
        assert!(told(sql, None).categories.contains(&Category::Catalog), "{sql}");
    }
    for sql in [
        "select nextval('numbers'::regclass)",
        "select to_tsvector('english'::regconfig, currency) from invoice",
        "select pg_typeof(id), pg_column_size(currency), pg_size_pretty(1::bigint) from invoice",
        "select current_setting('search_path'), current_user, version(), pg_backend_pid()",
        "show work_mem",
    ] {
        assert!(!told(sql, None).categories.contains(&Category::Catalog), "{sql}");
    }
}

#[test]
fn programs_and_files_of_the_server_are_administration() {
    for sql in [
        "copy invoice to program 'sh'",
        "copy invoice from program 'sh'",
        "copy invoice to '/tmp/x'",
        "copy invoice from '/tmp/x'",
        "copy (select 1) to program 'sh'",
        "select pg_read_file('x')",
        "select pg_catalog.pg_read_binary_file('x')",
        "select f.pg_read_file from cast('x' as text) f",
        "select * from pg_ls_dir('.')",
        "select pg_ls_waldir()",
        "select pg_stat_file('x')",
        "select lo_import('x')",
        "select lo_export(1, 'x')",
        "select pg_file_write('x', 'y', true)",
        "load 'x'",
    ] {
        assert!(told(sql, None).categories.contains(&Category::Admin), "{sql}");
    }
}

/// Each server's own word: what only superusers may read is told as credentials, or was looked at.
#[tokio::test]
async fn what_the_server_keeps_from_everybody_was_looked_at() {
    for client in servers().await {
        let rows = client
            .query(
                "select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                 where c.relkind in ('r', 'v') and n.nspname in ('pg_catalog', 'information_schema') and not exists (select from \
                 aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a where a.grantee = 0 and a.privilege_type = 'SELECT') \
                 union select 'pg_toast', t.relname from pg_class c join pg_class t on t.oid = c.reltoastrelid where c.relname in \
                 ('pg_authid', 'pg_user_mapping', 'pg_subscription') and c.relnamespace = 'pg_catalog'::regnamespace",
                &[],
            )
            .await
            .unwrap();
        let (mut checked, mut wrong) = (0, Vec::new());
        for row in &rows {
            let (schema, name): (String, String) = (row.get(0), row.get(1));
            let told = credentials(&format!("select * from {schema}.{name}"), None);
            checked += usize::from(told);
            if !told && !LOOKED_AT.contains(&name.as_str()) && name != "_pg_foreign_tables" {
                wrong.push(format!("{schema}.{name}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(checked >= 9, "only {checked} of {} are credentials", rows.len());
    }
}
