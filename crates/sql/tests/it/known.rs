//! A catalog that many statements ask: what one of them looked into is not believed of another place, and nothing that was
//! compiled is left behind for the next.

use std::thread;

use countersign_sql::{
    Catalog, Dialect, Effect, Explained, Known, Policy, Relation, RelationKind, Routine, Volatility, explain,
};
use rusqlite::Connection;

use crate::cases::cases;
use crate::catalog::{catalog, codes, routine, table, view, with, written};

/// `planned` shows `t`, whose policy moves a sequence; a plan never runs that, and a function that is run while planning
/// does.
#[test]
fn what_is_planned_and_what_runs_while_planning_are_looked_at_apart() {
    let policy = Policy {
        name: "counted".to_owned(),
        events: ["select".to_owned()].into(),
        using: Some("nextval('numbers') > 0".to_owned()),
        ..Policy::default()
    };
    let catalog = Catalog {
        relations: vec![Relation { row_security: true, policies: vec![policy], ..table("t") }],
        routines: vec![written("rows_of_t", Volatility::Stable, "select count(*) from t")],
        ..Catalog::default()
    };
    assert_eq!(with(&catalog, "explain select * from t").effect, Effect::Read);
    assert_eq!(with(&catalog, "explain select * from t where rows_of_t() > 0").effect, Effect::Write);
    assert_eq!(with(&catalog, "explain select rows_of_t() from t").effect, Effect::Write);
}

/// A function means something else where another one, with a search path of its own, calls it.
#[test]
fn a_function_is_looked_into_once_more_where_names_may_mean_others() {
    let mut catalog = catalog();
    catalog.routines.push(Routine {
        search_path: Some("other".to_owned()),
        ..written("from_elsewhere", Volatility::Stable, "select public.looks_elsewhere()")
    });
    assert_eq!(with(&catalog, "select looks_elsewhere()").effect, Effect::Read);
    for sql in [
        "select from_elsewhere()",
        "select looks_elsewhere(), from_elsewhere()",
        "select from_elsewhere(), looks_elsewhere()",
    ] {
        assert_eq!(with(&catalog, sql).effect, Effect::Write, "{sql}");
    }
}

/// What a function reads counts as named where the statement calls it, even after a view that calls it too.
#[test]
fn what_was_seen_behind_a_view_is_still_named_by_a_call() {
    let mut catalog = catalog();
    catalog.relations.push(view("shown", "select balance() as b"));
    let named = |sql: &str| {
        let explained = with(&catalog, sql);
        assert_eq!(explained.effect, Effect::Read);
        explained.statements[0].named.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(named("select * from shown"), ["shown"]);
    assert_eq!(named("select balance()"), ["invoice"]);
    assert_eq!(named("select * from shown where b > balance()"), ["invoice", "shown"]);
    assert_eq!(named("select balance() from shown"), ["invoice", "shown"]);
}

/// Each level names the next one three times: looked at anew each time these would be fourteen million looks.
#[test]
fn views_and_types_that_stand_on_many_others_end() {
    let name = |level: usize| format!("level_{level}");
    let mut catalog = Catalog { relations: vec![table("level_15")], ..Catalog::default() };
    for level in 0..15 {
        let next = name(level + 1);
        let text = format!("select a.id from {next} a, {next} b, {next} c");
        catalog.relations.push(view(&name(level), &text));
        catalog.types.push(countersign_sql::Type {
            schema: "public".to_owned(),
            name: name(level),
            of: vec![crate::catalog::qualified(&next); 3],
            checks: vec![format!("(VALUE::{next}) is not null"); 3],
            ..countersign_sql::Type::default()
        });
    }
    assert_eq!(with(&catalog, "select * from level_0").effect, Effect::Read);
    let explained = with(&catalog, "select 1::level_0");
    assert_eq!(codes(&explained), ["unknown_type"], "the last one is not known");
}

/// Views on views, each with as deep an expression as is accepted, in a thread with an ordinary stack.
#[test]
fn deep_texts_behind_deep_texts_do_not_end_the_process() {
    let deep = |inner: &str| format!("select {}{inner}{}", "(- ".repeat(20), ")".repeat(20));
    let mut catalog = Catalog { relations: vec![table("level_15")], ..Catalog::default() };
    for level in 0..15 {
        let below = format!("(select id from level_{})", level + 1);
        catalog.relations.push(view(&format!("level_{level}"), &deep(&below)));
        catalog.routines.push(written(
            &format!("call_{level}"),
            Volatility::Stable,
            &deep(&format!("call_{}() + (select id from level_{level})", level + 1)),
        ));
    }
    catalog.routines.push(routine("public", "call_15", Volatility::Volatile));
    let told = thread::Builder::new().stack_size(512 * 1024).spawn(move || {
        (with(&catalog, "select * from level_0").effect, with(&catalog, "select call_0()").effect)
    });
    assert_eq!(told.unwrap().join().unwrap(), (Effect::Read, Effect::Write));
}

/// The schema of the corpus, as a database tells it.
pub(crate) fn sqlite_catalog(more: &str) -> Catalog {
    let database = Connection::open_in_memory().unwrap();
    database.execute_batch(include_str!("../corpus/sqlite-schema.sql")).unwrap();
    database.execute_batch(more).unwrap();
    let mut statement =
        database.prepare("select sql from sqlite_schema where sql is not null order by rowid").unwrap();
    let schema = statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    Catalog { schema, ..Catalog::default() }
}

/// The statements of the corpus, and some that would change what others mean if they were run.
fn leaving() -> Vec<String> {
    let corpus = cases(include_str!("../corpus/sqlite.txt"));
    let mut all: Vec<String> = corpus.into_iter().map(|case| case.sql.to_owned()).collect();
    let more = [
        "drop table invoice",
        "drop view invoice_totals",
        "drop table notes",
        "create temp table invoice (other text)",
        "create temp view customer as select 1 as one",
        "create temp trigger quiet after delete on billing begin delete from secrets; end",
        "create trigger loud after insert on billing begin delete from secrets; end",
        "create view shown as select token from secrets",
        "create virtual table more using fts5 (a)",
        "alter table customer rename to client",
        "alter table customer drop column email",
        "attach ':memory:' as other",
        "attach ':memory:' as main",
        "detach main",
        "begin; drop table customer",
        "savepoint s; delete from customer",
        "pragma writable_schema = on",
        "pragma foreign_keys = off",
        "pragma recursive_triggers = on",
        "pragma main.journal_mode = off",
        "pragma temp_store = file",
        "pragma case_sensitive_like = on",
        "analyze; reindex; vacuum",
        "insert into sqlite_schema values ('table', 'x', 'x', 0, 'create table x (a)')",
        "select * from other.customer",
        "select * from temp.sqlite_temp_schema",
        "select fts3_tokenizer('simple', x'00')",
        "select load_extension('x')",
        "select (",
        "select * from customer; select (",
        "insert into notes (notes) values ('rebuild')",
        "delete from invoice where id = 1",
    ];
    all.extend(more.map(str::to_owned));
    all
}

#[test]
fn nothing_that_was_compiled_is_left_behind_for_the_next_statement() {
    let catalog =
        sqlite_catalog("create trigger t after update on customer begin delete from audit_log; end; analyze");
    let kept = Known::new(catalog.clone());
    let say = |sql: &str, known: &Known| explain(Dialect::Sqlite, sql, Some(known));
    let canaries = [
        "select * from invoice_totals join customer on customer.id = customer_id",
        "delete from customer where id = 1",
        "update customer set name = 'x' where id = 1",
        "select * from notes where notes match 'x'",
        "select * from client",
    ];
    let expected = canaries.map(|sql| say(sql, &Known::new(catalog.clone())));
    assert_eq!(expected[0].as_ref().unwrap().effect, Effect::Read);
    assert!(expected[4].is_err());
    let statements = leaving();
    assert!(statements.len() > 200);
    for sql in &statements {
        assert_eq!(say(sql, &kept), say(sql, &Known::new(catalog.clone())), "{sql}");
        for (canary, expected) in canaries.iter().zip(&expected) {
            assert_eq!(say(canary, &kept), *expected, "`{canary}` after {sql}");
        }
    }
}

/// Threads that ask at the same time get the answers that one alone gets.
#[test]
fn many_threads_ask_one_catalog() {
    let known = Known::new(Catalog { schema: sqlite_catalog("").schema, ..catalog() });
    let answers = || -> Vec<_> {
        let sqlite = leaving().into_iter().map(|sql| (Dialect::Sqlite, sql));
        let postgres =
            ["select * from outer_view", "select nested(), 1::pair", "delete from customer where id = 1"]
                .map(|sql| (Dialect::Postgres, sql.to_owned()));
        sqlite.chain(postgres).map(|(dialect, sql)| explain(dialect, &sql, Some(&known))).collect()
    };
    let alone = answers();
    thread::scope(|scope| {
        let others: Vec<_> = (0..8).map(|_| scope.spawn(answers)).collect();
        for other in others {
            assert_eq!(other.join().unwrap(), alone);
        }
    });
}

/// A name is looked up in the same order, and finds the same, among a thousand others.
#[test]
fn lookup_follows_the_search_path_among_many() {
    let mut catalog =
        Catalog { search_path: vec!["first".to_owned(), "public".to_owned()], ..Catalog::default() };
    for number in 0..500 {
        for schema in ["public", "first"] {
            let name = format!("t{number}");
            let relation = Relation { schema: schema.to_owned(), ..table(&name) };
            catalog.relations.push(relation);
        }
    }
    let shadow = Relation { schema: "first".to_owned(), ..view("shadowed", "select nextval('numbers')") };
    catalog.relations.push(table("shadowed"));
    catalog.relations.push(shadow);
    let effect = |sql: &str| -> Explained { with(&catalog, sql) };
    assert_eq!(effect("select * from t7, public.t400").effect, Effect::Read);
    assert_eq!(effect("select * from shadowed").effect, Effect::Write);
    assert_eq!(effect("select * from public.shadowed").effect, Effect::Read);
    assert!(catalog.relations.iter().any(|relation| relation.kind == RelationKind::View));
}
