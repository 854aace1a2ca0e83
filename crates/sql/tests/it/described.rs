//! What is told beside the effect: tables, functions, parameters, bounds, verbs, and how they are written.

use countersign_sql::{Bound, Dialect, Statement, Verb, explain};

fn one(dialect: Dialect, sql: &str) -> Statement {
    let mut explained = explain(dialect, sql, None).unwrap_or_else(|error| panic!("{error}: {sql}"));
    assert_eq!(explained.statements.len(), 1, "{sql}");
    explained.statements.remove(0)
}

fn tables(sql: &str) -> (Vec<String>, Vec<String>) {
    let statement = one(Dialect::Postgres, sql);
    let list = |set: &std::collections::BTreeSet<countersign_sql::TableRef>| {
        set.iter().map(ToString::to_string).collect()
    };
    (list(&statement.reads), list(&statement.writes))
}

fn told(reads: &[&str], writes: &[&str]) -> (Vec<String>, Vec<String>) {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    (list(reads), list(writes))
}

#[test]
fn tables_read_and_written() {
    assert_eq!(
        tables("select * from Invoice, \"Invoice\", S.\"select me\""),
        told(&["\"Invoice\"", "invoice", "s.\"select me\""], &[])
    );
    assert_eq!(tables("insert into a select * from b join c using (id)"), told(&["b", "c"], &["a"]));
    assert_eq!(
        tables("update a set x = (select max(y) from b) from c where c.id in (select id from d)"),
        told(&["b", "c", "d"], &["a"])
    );
    assert_eq!(tables("delete from a using b where exists (select 1 from c)"), told(&["b", "c"], &["a"]));
    assert_eq!(
        tables(
            "merge into a using (select * from b) s on true when not matched then insert values ((select 1 from c))"
        ),
        told(&["b", "c"], &["a"])
    );
    assert_eq!(tables("copy a from stdin"), told(&[], &["a"]));
    assert_eq!(tables("create view v as select * from a"), told(&["a"], &["v"]));
    assert_eq!(tables("select * into n from a"), told(&["a"], &["n"]));
    assert_eq!(tables("truncate a, s.b"), told(&[], &["a", "s.b"]));
    assert_eq!(tables("drop table a, s.b"), told(&[], &["a", "s.b"]));
    assert_eq!(tables("grant select on a, b to c"), told(&[], &["a", "b"]));
    assert_eq!(tables("lock table a"), told(&[], &["a"]));
    assert_eq!(tables("explain delete from a"), told(&["a"], &[]));
    assert_eq!(tables("explain analyze delete from a"), told(&[], &["a"]));
}

#[test]
fn a_cte_hides_a_table_only_where_it_is_in_scope() {
    assert_eq!(tables("with a as (select * from b) select * from a"), told(&["b"], &[]));
    assert_eq!(tables("with a as (select * from a) select * from a"), told(&["a"], &[]));
    assert_eq!(
        tables("with recursive a as (select 1 union select * from a) select * from a"),
        told(&[], &[])
    );
    assert_eq!(tables("with x as (select * from y), y as (select 1) select * from x, y"), told(&["y"], &[]));
    assert_eq!(
        tables("with recursive x as (select * from y), y as (select 1) select * from x"),
        told(&[], &[])
    );
    assert_eq!(tables("with a as (select 1) select * from s.a"), told(&["s.a"], &[]));
    assert_eq!(tables("select * from (with a as (select 1) select * from a) x, a"), told(&["a"], &[]));
    assert_eq!(
        tables("select 1 union (with a as (select 1) select * from a) union select * from a"),
        told(&["a"], &[])
    );
    assert_eq!(tables("with a as (select 1) insert into a select * from a"), told(&[], &["a"]));
    assert_eq!(tables("with a as (select 1) delete from a where id in (select * from a)"), told(&[], &["a"]));
    assert_eq!(
        tables(
            "with a as (select 1) select (select 1 from a), (with b as (select 1 from c) select 1 from b)"
        ),
        told(&["c"], &[])
    );
    assert_eq!(
        tables("select * from a where id in (with a as (select 1) select * from a)"),
        told(&["a"], &[])
    );
}

#[test]
fn functions_and_parameters() {
    let statement = one(
        Dialect::Postgres,
        "select lower($1), pg_catalog.upper(x), \"Odd Name\"(1), extract(year from now()) from t where id = $3",
    );
    let functions: Vec<_> = statement.functions.iter().map(ToString::to_string).collect();
    assert_eq!(functions, ["\"Odd Name\"", "lower", "now", "pg_catalog.extract", "pg_catalog.upper"]);
    assert_eq!(statement.parameters.into_iter().collect::<Vec<_>>(), ["$1", "$3"]);
    let statement =
        one(Dialect::Sqlite, "select upper(?), max(?2) from T where a = :name and b = @at and c = $dollar");
    assert_eq!(statement.parameters.into_iter().collect::<Vec<_>>(), ["$dollar", ":name", "?", "?2", "@at"]);
    assert_eq!(statement.functions.iter().map(ToString::to_string).collect::<Vec<_>>(), ["max", "upper"]);
    assert_eq!(statement.reads.iter().map(ToString::to_string).collect::<Vec<_>>(), ["t"]);
}

#[test]
fn bounds_and_verbs() {
    for (sql, verb, bound) in [
        ("select 1", Verb::Select, Bound::NotApplicable),
        ("values (1)", Verb::Select, Bound::NotApplicable),
        ("delete from t", Verb::Delete, Bound::None),
        ("delete from t where 1 = 1", Verb::Delete, Bound::Tautology),
        ("delete from t where id = 1", Verb::Delete, Bound::Predicate),
        ("with x as (delete from t where id = 1 returning *) update u set a = 1", Verb::Update, Bound::None),
        ("insert into t values (1)", Verb::Insert, Bound::NotApplicable),
        ("explain delete from t", Verb::Explain, Bound::NotApplicable),
        ("truncate t", Verb::Truncate, Bound::None),
        ("start transaction", Verb::Begin, Bound::NotApplicable),
        ("revoke all on t from x", Verb::Revoke, Bound::NotApplicable),
    ] {
        let statement = one(Dialect::Postgres, sql);
        assert_eq!((statement.verb, statement.bounded), (verb, bound), "{sql}");
    }
}

#[test]
fn several_statements_are_listed_and_the_strictest_counts() {
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        let explained =
            explain(dialect, "select 1; update t set a = 1 where id = 2; delete from u; select 2", None)
                .unwrap();
        let effects: Vec<_> =
            explained.statements.iter().map(|statement| statement.effect.to_string()).collect();
        assert_eq!(effects, ["read", "write", "destructive", "read"]);
        assert_eq!(explained.effect.to_string(), "destructive");
        assert_eq!(explained.tables.iter().map(ToString::to_string).collect::<Vec<_>>(), ["t", "u"]);
    }
}

#[test]
fn the_shape_of_a_statement_is_its_fingerprint() {
    use countersign_sql::{fingerprint, normalize};
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        let shape = |sql| fingerprint(dialect, sql).unwrap();
        assert_eq!(shape("select * from t where a = 1"), shape("SELECT *  FROM t WHERE a = 22"));
        assert_ne!(shape("select * from t where a = 1"), shape("select * from t where b = 1"));
        let text = normalize(dialect, "select * from t where name = 'secret' and n = 42").unwrap();
        assert!(!text.contains("secret") && !text.contains("42"), "{text}");
    }
}

#[test]
fn the_json_form_is_flat_and_lower_case() {
    let explained = explain(Dialect::Postgres, "delete from \"Odd\".t where lower(x) = 'a'", None).unwrap();
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!(json["effect"], "destructive");
    assert_eq!(json["categories"], serde_json::json!(["data"]));
    assert_eq!(json["tables"], serde_json::json!(["\"Odd\".t"]));
    assert_eq!(json["functions"], serde_json::json!(["lower"]));
    assert_eq!(json["statements"][0]["verb"], "delete");
    assert_eq!(json["statements"][0]["bounded"], "predicate");
}

#[test]
fn a_syntax_error_tells_its_place_where_it_is_known() {
    for (dialect, sql, place) in [
        (Dialect::Sqlite, "select 1;\nselect * frm t", Some(19)),
        (Dialect::Postgres, "select 1;\nselect * frm t", Some(19)),
        (Dialect::Postgres, "select * from ", Some(13)),
        (Dialect::Postgres, "select a a a", None),
    ] {
        let error = explain(dialect, sql, None).unwrap_err();
        assert_eq!((error.code(), error.position()), ("sql_syntax", place), "{error}");
    }
}

/// PostgreSQL cuts names at 63 bytes, and so does its parser here: the name told is the name meant.
#[test]
fn names_are_cut_as_the_server_cuts_them() {
    let statement = one(Dialect::Postgres, &format!("select * from {}", "x".repeat(70)));
    assert_eq!(statement.reads.iter().next().unwrap().name, "x".repeat(63));
}
