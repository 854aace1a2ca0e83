use super::*;

fn scope(dialect: Dialect, tables: &[&str]) -> Scope {
    let tables = tables.iter().map(ToString::to_string).collect();
    Scope::new(dialect, &["public".to_owned()], &tables, &BTreeSet::new())
}

fn refused(dialect: Dialect, sql: &str) -> String {
    scope(dialect, &["invoice", "billing"]).admit(sql, WrittenBy::Agent).expect_err(sql).message
}

/// Rules compare the verb with words: those that it can be are known to them, each and no other.
#[test]
fn the_verbs_of_rules_are_those_of_statements() {
    let error = serde_json::from_value::<Verb>(serde_json::json!("no such verb")).unwrap_err().to_string();
    let listed: BTreeSet<&str> = error.split('`').skip(3).step_by(2).collect();
    assert_eq!(listed, StatementFacts::VERBS.iter().copied().collect(), "{error}");
}

#[test]
fn agents_are_held_to_the_tables() {
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        let scope = scope(dialect, &["invoice", "billing"]);
        let read = scope.admit("select count(*) from invoice", WrittenBy::Agent).unwrap();
        assert_eq!(read.effect, Effect::Read);
        let delete =
            scope.admit("DELETE FROM billing WHERE created_at < '2026-02-01'", WrittenBy::Agent).unwrap();
        assert_eq!(delete.effect, Effect::Destructive);
        assert_eq!(delete.facts.writes, BTreeSet::from(["billing".to_owned()]));
        for sql in [
            "select * from customer",
            "select * from invoice where id in (select id from customer)",
            "delete from billing where id in (select id from customer)",
            "with x as (select * from customer) select * from x",
            "select * from invoice union select * from customer",
        ] {
            let message = scope.admit(sql, WrittenBy::Agent).expect_err(sql).message;
            assert!(message.contains("`customer`"), "{sql}: {message}");
        }
    }
}

#[test]
fn agents_cannot_smuggle_a_second_statement() {
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        for sql in ["select 1; delete from invoice", "select 1 from invoice; -- x\n drop table invoice"] {
            assert!(refused(dialect, sql).contains("2 statements"), "{sql}");
        }
        for sql in ["", ";", "-- nothing", "selec 1", "delete from invoice where id = 'a"] {
            refused(dialect, sql);
        }
    }
}

#[test]
fn agents_cannot_leave_the_transaction_or_the_database() {
    for sql in [
        "begin",
        "commit",
        "rollback",
        "savepoint a",
        "set role postgres",
        "reset all",
        "copy invoice to program 'sh'",
        "copy invoice to '/tmp/x'",
        "select pg_read_file('/etc/passwd')",
        "select pg_sleep(100)",
        "select set_config('a.b', 'c', false)",
        "do $$ begin end $$",
        "call x()",
        "prepare p as select 1",
        "execute p",
        "listen a",
        "notify a",
        "load 'x'",
        "vacuum invoice",
        "alter system set a = b",
        "truncate invoice cascade",
        "select dblink('x', 'y')",
        "select lo_import('/x')",
        "select query_to_xml('select 1', true, true, '')",
        "discard all",
        "declare c cursor for select 1",
        "select pg_terminate_backend(1)",
        "select unknown_function(1)",
        "select * from pg_catalog.pg_class",
        "select * from pg_class",
        "select * from information_schema.tables",
        "delete from other.invoice",
        "select $1",
        "select * from invoice for update nowait; ",
    ] {
        let outcome = scope(Dialect::Postgres, &["invoice"]).admit(sql, WrittenBy::Agent);
        if sql.contains("for update") {
            assert_eq!(outcome.unwrap().effect, Effect::Write, "{sql}");
        } else {
            outcome.expect_err(sql);
        }
    }
    for sql in [
        "begin",
        "commit",
        "savepoint a",
        "attach 'x' as y",
        "detach y",
        "pragma table_info(invoice)",
        "vacuum into 'x'",
        "vacuum",
        "select load_extension('x')",
        "select * from sqlite_master",
        "select * from sqlite_schema",
        "create trigger t after insert on invoice begin select 1; end",
        "insert into countersign_call values (1)",
        "select * from main.Countersign_Image",
        "select ?",
        "select :a",
        "create virtual table invoice using fts5(a)",
        "select * from temp.invoice",
        "analyze",
        "reindex",
    ] {
        scope(Dialect::Sqlite, &["invoice"]).admit(sql, WrittenBy::Agent).expect_err(sql);
    }
}

#[test]
fn a_schema_counts_as_written_unless_it_is_the_only_one_searched() {
    let scope = scope(Dialect::Postgres, &["invoice", "archive.invoice"]);
    for sql in ["select 1 from public.invoice", "select 1 from invoice", "select 1 from archive.invoice"] {
        scope.admit(sql, WrittenBy::Agent).expect(sql);
    }
    scope.admit("select 1 from other.invoice", WrittenBy::Agent).expect_err("another schema");
    scope.admit("select 1 from \"Invoice\"", WrittenBy::Agent).expect_err("another name");
}

#[test]
fn declared_functions_are_trusted_to_read_and_no_others() {
    let functions = BTreeSet::from(["total_of".to_owned()]);
    let tables = BTreeSet::from(["invoice".to_owned()]);
    let scope = Scope::new(Dialect::Postgres, &["public".to_owned()], &tables, &functions);
    let read = scope.admit("select total_of(id) from invoice", WrittenBy::Agent).unwrap();
    assert_eq!(read.effect, Effect::Read);
    scope.admit("select total_of(id), other(id) from invoice", WrittenBy::Agent).expect_err("other");
}

#[test]
fn authors_name_their_arguments() {
    let tables = BTreeSet::new();
    let scope = Scope::new(Dialect::Postgres, &["public".to_owned()], &tables, &tables);
    let sql = "update invoice set note = :note where id = :id and ':x' = ':x'";
    let statement = scope.admit(sql, WrittenBy::Author).unwrap();
    assert_eq!(statement.text, "update invoice set note = $1 where id = $2 and ':x' = ':x'");
    assert_eq!(statement.parameters, ["note", "id"]);
    scope.admit("select $1", WrittenBy::Author).expect_err("numbered");
    let scope = Scope::new(Dialect::Sqlite, &[], &tables, &tables);
    let statement = scope.admit("select * from invoice where id = :id", WrittenBy::Author).unwrap();
    assert_eq!(statement.parameters, ["id"]);
    scope.admit("select * from invoice where id = ?1", WrittenBy::Author).expect_err("numbered");
}
