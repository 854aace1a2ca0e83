//! What a snapshot of the database adds on PostgreSQL.

use countersign_sql::{
    Action, Cast, Catalog, Category, Change, Column, Dialect, Effect, Explained, ForeignKey, Known, Name,
    Operator, Policy, Relation, RelationKind, Routine, RoutineKind, Rule, Snapshot, Trigger, Type,
    Volatility, explain,
};

pub(crate) fn table(name: &str) -> Relation {
    Relation {
        schema: "public".to_owned(),
        name: name.to_owned(),
        columns: vec![Column { name: "id".to_owned(), ..Column::default() }],
        ..Relation::default()
    }
}

pub(crate) fn view(name: &str, definition: &str) -> Relation {
    Relation { kind: RelationKind::View, definition: Some(definition.to_owned()), ..table(name) }
}

fn child(name: &str, parent: &str, on_delete: Action, on_update: Action) -> Relation {
    let key = ForeignKey {
        schema: "public".to_owned(),
        table: parent.to_owned(),
        on_delete,
        on_update,
        ..ForeignKey::default()
    };
    Relation { foreign_keys: vec![key], ..table(name) }
}

pub(crate) fn routine(schema: &str, name: &str, volatility: Volatility) -> Routine {
    Routine { schema: schema.to_owned(), name: name.to_owned(), volatility, ..Routine::default() }
}

fn vouched(name: &str) -> Routine {
    Routine { vouched: true, ..routine("public", name, Volatility::Stable) }
}

/// A function in SQL.
pub(crate) fn written(name: &str, volatility: Volatility, body: &str) -> Routine {
    Routine { language: "sql".to_owned(), body: Some(body.to_owned()), ..routine("public", name, volatility) }
}

fn native(name: &str, volatility: Volatility) -> Routine {
    Routine { language: "c".to_owned(), ..routine("public", name, volatility) }
}

pub(crate) fn qualified(name: &str) -> Name {
    Name { schema: "public".to_owned(), name: name.to_owned() }
}

fn operator(name: &str, function: &str) -> Operator {
    Operator { schema: "public".to_owned(), name: name.to_owned(), function: qualified(function) }
}

pub(crate) fn catalog() -> Catalog {
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
            Relation {
                triggers: vec![Trigger { name: "stamp".to_owned(), events, ..Trigger::default() }],
                ..table("stamped")
            },
            Relation {
                rules: vec![Rule {
                    name: "redirect".to_owned(),
                    events: ["insert".to_owned()].into(),
                    ..Rule::default()
                }],
                row_security: true,
                ..table("ruled")
            },
            Relation { kind: RelationKind::ForeignTable, ..table("remote") },
        ],
        routines: vec![
            written("tax", Volatility::Immutable, "select $1 * 2"),
            written("balance", Volatility::Stable, "select sum(total) from invoice"),
            written("hidden", Volatility::Stable, "select purge()"),
            written("nested", Volatility::Stable, "select balance() + tax(1)"),
            written("round_about", Volatility::Stable, "select round_about()"),
            written("looks_elsewhere", Volatility::Stable, "select upper('x')"),
            routine("public", "plain", Volatility::Stable),
            vouched("trusted"),
            native("similar", Volatility::Immutable),
            native("reader", Volatility::Stable),
            routine("public", "purge", Volatility::Volatile),
            routine("public", "lower", Volatility::Volatile),
            routine("other", "upper", Volatility::Volatile),
            Routine {
                kind: RoutineKind::Aggregate,
                calls: vec![qualified("purge")],
                ..routine("public", "sneaky_sum", Volatility::Immutable)
            },
            Routine {
                kind: RoutineKind::Aggregate,
                calls: vec![qualified("tax")],
                ..routine("public", "fair_sum", Volatility::Immutable)
            },
        ],
        operators: vec![operator("%%", "similar"), operator("@@", "purge"), operator("<=", "purge")],
        types: vec![
            Type { schema: "public".to_owned(), name: "status".to_owned(), ..Type::default() },
            Type { schema: "other".to_owned(), name: "kind".to_owned(), ..Type::default() },
            Type {
                schema: "public".to_owned(),
                name: "checked".to_owned(),
                checks: vec!["purge(VALUE) > 0".to_owned()],
                ..Type::default()
            },
            Type {
                schema: "public".to_owned(),
                name: "positive".to_owned(),
                of: vec![Name { schema: "pg_catalog".to_owned(), name: "int4".to_owned() }],
                checks: vec!["VALUE > 0".to_owned()],
                ..Type::default()
            },
            Type {
                schema: "public".to_owned(),
                name: "pair".to_owned(),
                of: vec![qualified("checked")],
                ..Type::default()
            },
        ],
        ..Catalog::default()
    }
}

fn seen(sql: &str) -> Explained {
    with(&catalog(), sql)
}

pub(crate) fn with(catalog: &Catalog, sql: &str) -> Explained {
    explain(Dialect::Postgres, sql, Some(&Known::new(catalog.clone()))).unwrap()
}

fn names(explained: &Explained) -> Vec<String> {
    explained.tables.iter().map(ToString::to_string).collect()
}

pub(crate) fn codes(explained: &Explained) -> Vec<&'static str> {
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
fn a_function_is_a_read_when_all_it_runs_is_seen_to_be_one() {
    for sql in [
        "select tax(1)",
        "select balance()",
        "select public.balance()",
        "select nested()",
        "select fair_sum(1)",
    ] {
        let explained = seen(sql);
        assert_eq!(explained.effect, Effect::Read, "{sql}");
        assert!(!explained.categories.contains(&Category::Opaque), "{sql}");
    }
    assert_eq!(names(&seen("select nested()")), ["invoice"], "what it reads is told");
    // PostgreSQL lets a stable function call a volatile one, and calls every aggregate immutable.
    for sql in [
        "select hidden()",
        "select sneaky_sum(1)",
        "select plain()",
        "select purge()",
        "select public.purge()",
        "select other.upper('x')",
        "select unknown()",
        "select c.purge from customer c",
        "select (c).purge from customer c",
    ] {
        assert_eq!(seen(sql).effect, Effect::Write, "{sql}");
    }
    assert_eq!(seen("select round_about()").effect, Effect::Read, "a ring of functions ends");
    assert_eq!(seen("select looks_elsewhere()").effect, Effect::Read);
}

#[test]
fn what_cannot_be_seen_says_so() {
    for (sql, code) in [("select trusted()", "declared_function"), ("select reader()", "native_function")] {
        let explained = seen(sql);
        assert_eq!(explained.effect, Effect::Read, "{sql}");
        assert!(explained.categories.contains(&Category::Opaque), "what it reads is not shown: {sql}");
        assert!(codes(&explained).contains(&code), "{sql}");
    }
    assert_eq!(codes(&seen("select similar('a', 'b')")), Vec::<&str>::new());
}

#[test]
fn a_function_with_a_search_path_of_its_own_may_mean_anything_of_a_name() {
    let mut catalog = catalog();
    let elsewhere = catalog.routines.iter_mut().find(|routine| routine.name == "looks_elsewhere").unwrap();
    elsewhere.search_path = Some("other".to_owned());
    let explained = with(&catalog, "select looks_elsewhere()");
    assert_eq!(explained.effect, Effect::Write);
}

#[test]
fn operators_mean_the_functions_they_call() {
    assert_eq!(seen("select 'a' %% 'b'").effect, Effect::Read);
    assert_eq!(seen("select 1 <= 2").effect, Effect::Write);
    assert_eq!(seen("select 1 between 0 and 2").effect, Effect::Write, "`BETWEEN` is `>=` and `<=`");
    assert_eq!(seen("select 1 not between 0 and 2").effect, Effect::Read);
}

#[test]
fn syntax_that_stands_for_the_equals_sign_is_not_trusted_where_there_is_another() {
    let catalog = Catalog { operators: vec![operator("=", "purge")], ..catalog() };
    for sql in [
        "select case 1 when 2 then 3 end",
        "select 1 in (1, 2)",
        "select 1 in (select id from customer)",
        "select * from customer join invoice using (id)",
        "select * from customer natural join invoice",
        "select nullif(1, 2)",
        "select 1 is distinct from 2",
    ] {
        assert_eq!(with(&catalog, sql).effect, Effect::Write, "{sql}");
    }
    let explained = with(&catalog, "select case when true then 3 end");
    assert_eq!(explained.effect, Effect::Read);
}

#[test]
fn conversions_run_what_is_attached_to_them() {
    for sql in ["select 5::positive", "select 'x'::status[]"] {
        assert_eq!(seen(sql).effect, Effect::Read, "{sql}");
    }
    for sql in ["select 5::checked", "select '(5)'::pair", "select 'x'::none_such"] {
        assert_eq!(seen(sql).effect, Effect::Write, "{sql}");
    }
    assert_eq!(
        seen("select json_populate_record(c, '{}') from customer c").effect,
        Effect::Write,
        "the types of the columns are not in the text"
    );
    let cast = |implicit| Cast {
        source: Name { schema: "pg_catalog".to_owned(), name: "int4".to_owned() },
        target: qualified("status"),
        function: qualified("purge"),
        implicit,
    };
    let casting = |implicit| Catalog { casts: vec![cast(implicit)], ..catalog() };
    let effect = |sql, catalog: Catalog| with(&catalog, sql).effect;
    assert_eq!(effect("select 1::status", casting(false)), Effect::Write);
    assert_eq!(effect("select 1", casting(false)), Effect::Read);
    // It happens where nothing says so, but not without a value of the type: `implied.rs`.
    assert_eq!(effect("select null::status", casting(true)), Effect::Write);
    assert_eq!(effect("select 1", casting(true)), Effect::Read);
}

#[test]
fn row_security_runs_its_policies() {
    let policy = |using: &str| Policy {
        name: "own".to_owned(),
        events: ["select".to_owned()].into(),
        using: Some(using.to_owned()),
        check: None,
    };
    let with = |using| {
        let guarded = Relation { row_security: true, policies: vec![policy(using)], ..table("guarded") };
        let mut catalog = catalog();
        catalog.relations.push(guarded);
        with(&catalog, "select * from guarded")
    };
    assert_eq!(with("purge(id) > 0").effect, Effect::Write);
    let explained = with("id IN (SELECT id FROM customer)");
    assert_eq!(explained.effect, Effect::Read);
    assert_eq!(names(&explained), ["customer", "guarded"]);
    assert_eq!(explained.statements[0].named.len(), 1, "the policy is not the text");
}

#[test]
fn partitions_are_part_of_their_table() {
    let mut catalog = catalog();
    let parts = [RelationKind::Table, RelationKind::ForeignTable].into_iter().enumerate();
    catalog.relations.extend(parts.map(|(number, kind)| Relation {
        kind,
        inherits: vec![qualified("customer")],
        triggers: vec![Trigger {
            name: format!("part_{number}"),
            events: ["delete".to_owned()].into(),
            ..Trigger::default()
        }],
        ..table(&format!("customer_{number}"))
    }));
    let seen = |sql| with(&catalog, sql);
    let read = seen("select * from customer");
    assert_eq!(read.effect, Effect::Read);
    assert!(read.categories.contains(&Category::Network));
    assert_eq!(names(&read), ["customer", "public.customer_0", "public.customer_1"]);
    let codes = codes(&seen("delete from customer where id = 1"));
    assert!(codes.contains(&"trigger") && codes.contains(&"foreign_table"), "{codes:?}");
}

#[test]
fn a_write_through_a_view_is_one_of_its_table() {
    let mut catalog = catalog();
    catalog.relations.push(view("customers", "select id from public.customer where id > 0"));
    let explained = with(&catalog, "delete from customers where id = 1");
    let statement = &explained.statements[0];
    let list = |set: &std::collections::BTreeSet<countersign_sql::TableRef>| {
        set.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        list(&statement.writes),
        ["customers", "public.billing", "public.customer", "public.invoice", "public.note"]
    );
    assert_eq!(list(&statement.named), ["customers"]);
}

/// What the database itself would run has no way around a snapshot: what is not in it is not trusted more for it.
#[test]
fn a_snapshot_is_a_file_that_can_be_reviewed() {
    let snapshot = Snapshot::new(Dialect::Postgres, catalog());
    let text = snapshot.text().unwrap();
    let read = Snapshot::parse(&text).unwrap();
    assert_eq!(read.text().unwrap(), text, "one text for one database");
    let mut shuffled = catalog();
    shuffled.relations.reverse();
    shuffled.routines.reverse();
    assert_eq!(Snapshot::new(Dialect::Postgres, shuffled).text().unwrap(), text);
    let trusted = read.catalog.routines.iter().find(|routine| routine.name == "trusted").unwrap();
    assert!(!trusted.vouched, "no file can vouch");
    assert_eq!(with(&read.catalog, "select trusted()").effect, Effect::Write);
    let refused = |text: &str| Snapshot::parse(text).unwrap_err().to_string();
    assert!(refused("{}").contains("format"));
    assert_eq!(
        refused(r#"{"format": 2, "dialect": "postgres", "catalog": {}}"#),
        "the snapshot has format 2, and format 1 is read"
    );
    assert!(refused(r#"{"format": 1, "dialect": "postgres", "catalog": {"extra": 1}}"#).contains("extra"));
    assert!(refused(r#"{"format": 1, "dialect": "postgres", "catalog": {"relations": [{"schema": "a", "name": "b", "vouched": true}]}}"#).contains("vouched"));
}

/// They are run, in memory, to let SQLite know the schema.
#[test]
fn a_snapshot_of_sqlite_holds_definitions_only() {
    let with = |sql: &str| {
        let catalog = Catalog { schema: vec![sql.to_owned()], ..Catalog::default() };
        Snapshot::parse(&Snapshot::new(Dialect::Sqlite, catalog).text().unwrap())
    };
    for sql in [
        "CREATE TABLE a (b)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE INDEX i ON a (b)",
        "CREATE VIRTUAL TABLE f USING fts5 (x)",
        "CREATE TRIGGER t AFTER DELETE ON a BEGIN DELETE FROM c; END",
    ] {
        assert!(with(sql).is_ok(), "{sql}");
    }
    for sql in [
        "ATTACH 'x.db' AS x",
        "CREATE TABLE a (b); ATTACH 'x.db' AS x",
        "VACUUM INTO 'x.db'",
        "PRAGMA journal_mode = wal",
        "CREATE TABLE a AS SELECT load_extension('x')",
        "SELECT load_extension('x')",
        "nonsense",
    ] {
        assert!(with(sql).is_err(), "{sql}");
    }
}

#[test]
fn differences_say_what_changed() {
    let before = Snapshot::new(Dialect::Postgres, catalog());
    let mut changed = catalog();
    changed.relations.retain(|relation| relation.name != "remote");
    changed.relations.push(table("fresh"));
    changed.routines.iter_mut().find(|routine| routine.name == "tax").unwrap().volatility =
        Volatility::Volatile;
    let stamped = changed.relations.iter_mut().find(|relation| relation.name == "stamped").unwrap();
    stamped.triggers.clear();
    let after = Snapshot::new(Dialect::Postgres, changed);
    let lines: Vec<String> = before.differences(&after).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "~ function public.tax(): volatility \"immutable\" → \"volatile\"",
            "+ relation public.fresh",
            "- relation public.remote",
            "~ relation public.stamped: triggers -stamp",
        ]
    );
    assert_eq!(before.differences(&before), []);
    assert_eq!(before.differences(&after)[1].change, Change::Added);
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
    let all = Known::new(catalog());
    for case in crate::cases::cases(include_str!("../corpus/postgres.txt")) {
        let (Ok(bare), Ok(known)) =
            (explain(Dialect::Postgres, case.sql, None), explain(Dialect::Postgres, case.sql, Some(&all)))
        else {
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
    let mut unvouched = catalog();
    unvouched.routines.iter_mut().for_each(|routine| routine.vouched = false);
    assert_eq!(serde_json::from_str::<Catalog>(&text).unwrap(), unvouched, "no file can vouch");
    assert!(serde_json::from_str::<Catalog>(r#"{"relation": []}"#).is_err(), "unknown keys are errors");
}
