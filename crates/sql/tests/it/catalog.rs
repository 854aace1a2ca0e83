//! What a snapshot of the database adds on PostgreSQL.

use countersign_sql::{
    Action, Catalog, Category, Dialect, Effect, Explained, ForeignKey, Relation, RelationKind, Routine,
    Trigger, Volatility, explain,
};

fn table(name: &str) -> Relation {
    Relation {
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind: RelationKind::Table,
        columns: vec!["id".to_owned()],
        definition: None,
        foreign_keys: Vec::new(),
        triggers: Vec::new(),
        rules: Vec::new(),
        row_security: false,
    }
}

fn view(name: &str, definition: &str) -> Relation {
    Relation { kind: RelationKind::View, definition: Some(definition.to_owned()), ..table(name) }
}

fn child(name: &str, parent: &str, on_delete: Action, on_update: Action) -> Relation {
    let key = ForeignKey { schema: "public".to_owned(), table: parent.to_owned(), on_delete, on_update };
    Relation { foreign_keys: vec![key], ..table(name) }
}

fn routine(schema: &str, name: &str, volatility: Volatility) -> Routine {
    Routine { schema: schema.to_owned(), name: name.to_owned(), volatility, security_definer: false }
}

fn catalog() -> Catalog {
    let events = ["update".to_owned()].into();
    Catalog {
        relations: vec![
            table("customer"),
            child("invoice", "customer", Action::Cascade, Action::Refuse),
            child("billing", "invoice", Action::Cascade, Action::SetNull),
            child("note", "billing", Action::SetNull, Action::Refuse),
            child("archive", "customer", Action::Refuse, Action::Refuse),
            view("totals", "select customer_id, sum(total) from invoice group by 1"),
            view("outer_view", "select * from totals join customer on true"),
            view("sneaky", "select nextval('numbers') from invoice"),
            view("looping", "select * from looping"),
            Relation { definition: None, ..view("unseen", "") },
            Relation { triggers: vec![Trigger { name: "stamp".to_owned(), events }], ..table("stamped") },
            Relation { rules: vec!["redirect".to_owned()], row_security: true, ..table("ruled") },
            Relation { kind: RelationKind::ForeignTable, ..table("remote") },
        ],
        routines: vec![
            routine("public", "tax", Volatility::Immutable),
            routine("public", "balance", Volatility::Stable),
            routine("public", "purge", Volatility::Volatile),
            routine("public", "lower", Volatility::Volatile),
            routine("other", "upper", Volatility::Volatile),
        ],
        operators: ["%%".to_owned(), "@@".to_owned()].into(),
        types: ["status".to_owned(), "other.kind".to_owned()].into(),
        ..Catalog::default()
    }
}

fn seen(sql: &str) -> Explained {
    explain(Dialect::Postgres, sql, Some(&catalog())).unwrap()
}

fn names(explained: &Explained) -> Vec<String> {
    explained.tables.iter().map(ToString::to_string).collect()
}

fn codes(explained: &Explained) -> Vec<&'static str> {
    explained.reasons.iter().map(|reason| reason.code).collect()
}

#[test]
fn views_are_looked_through() {
    assert_eq!(names(&seen("select * from totals")), ["invoice", "totals"]);
    assert_eq!(
        names(&seen("select * from public.outer_view")),
        ["customer", "invoice", "totals", "public.outer_view"]
    );
    assert_eq!(seen("select * from outer_view").effect, Effect::Read);
    assert_eq!(seen("select * from sneaky").effect, Effect::Write);
    assert_eq!(seen("select * from unseen").effect, Effect::Write);
    assert_eq!(seen("select * from looping").effect, Effect::Read);
}

#[test]
fn a_cte_in_the_statement_does_not_stand_for_a_table_of_the_view() {
    let explained = seen("with invoice as (select 1) select * from totals, invoice");
    assert_eq!(names(&explained), ["invoice", "totals"]);
}

#[test]
fn declared_functions_are_believed_as_far_as_the_database_holds_them_to_it() {
    for sql in ["select tax(1)", "select balance()", "select public.balance()"] {
        let explained = seen(sql);
        assert_eq!(explained.effect, Effect::Read, "{sql}");
        assert!(explained.categories.contains(&Category::Opaque), "what it reads is not shown: {sql}");
    }
    for sql in [
        "select purge()",
        "select public.purge()",
        "select other.upper('x')",
        "select unknown()",
        "select c.purge from customer c",
    ] {
        assert_eq!(seen(sql).effect, Effect::Write, "{sql}");
    }
}

#[test]
fn a_namesake_in_the_search_path_takes_the_trust_away() {
    assert_eq!(seen("select lower('x')").effect, Effect::Write);
    assert_eq!(seen("select pg_catalog.lower('x')").effect, Effect::Read);
    assert_eq!(seen("select upper('x')").effect, Effect::Read, "that namesake is not in the search path");
    assert_eq!(seen("select a @@ b from customer").effect, Effect::Write);
    assert_eq!(seen("select a operator(pg_catalog.@@) b from customer").effect, Effect::Read);
}

#[test]
fn known_types_convert_without_code() {
    assert_eq!(seen("select 'x'::status, 'y'::other.kind").effect, Effect::Read);
    assert_eq!(seen("select 'x'::kind").effect, Effect::Write);
}

#[test]
fn cascades_are_followed_to_any_depth() {
    let explained = seen("delete from customer where id = 1");
    assert_eq!(names(&explained), ["customer", "public.billing", "public.invoice", "public.note"]);
    assert!(codes(&explained).contains(&"cascades"));
    assert_eq!(names(&seen("update customer set id = 2 where id = 1")), ["customer"]);
    assert_eq!(names(&seen("update invoice set id = 2 where id = 1")), ["invoice", "public.billing"]);
}

#[test]
fn truncate_cascade_empties_all_that_refer() {
    let touched = names(&seen("truncate customer cascade"));
    assert_eq!(touched, ["customer", "public.archive", "public.billing", "public.invoice", "public.note"]);
    assert_eq!(names(&seen("truncate customer")), ["customer"]);
}

#[test]
fn triggers_rules_and_row_security_are_named() {
    assert!(codes(&seen("update stamped set id = 1 where id = 2")).contains(&"trigger"));
    assert!(!codes(&seen("insert into stamped values (1)")).contains(&"trigger"));
    assert!(codes(&seen("insert into ruled values (1)")).contains(&"rule"));
    assert!(codes(&seen("select * from ruled")).contains(&"row_security"));
    assert!(seen("select * from remote").categories.contains(&Category::Network));
}

/// A catalog only ever adds for these: nothing that is not a read becomes one, but functions and types it vouches for.
#[test]
fn it_makes_no_write_a_read() {
    for case in crate::cases::cases(include_str!("../corpus/postgres.txt")) {
        let (Ok(bare), Ok(known)) = (
            explain(Dialect::Postgres, case.sql, None),
            explain(Dialect::Postgres, case.sql, Some(&catalog())),
        ) else {
            continue;
        };
        let vouched = case.heading == "cautious";
        assert!(vouched || known.effect >= bare.effect, "{}", case.sql);
        assert!(known.tables.is_superset(&bare.tables), "{}", case.sql);
    }
}

#[test]
fn it_survives_its_serialized_form() {
    let text = serde_json::to_string(&catalog()).unwrap();
    assert_eq!(serde_json::from_str::<Catalog>(&text).unwrap(), catalog());
    assert!(serde_json::from_str::<Catalog>(r#"{"relation": []}"#).is_err(), "unknown keys are errors");
}
