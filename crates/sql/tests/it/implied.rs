//! What a statement runs that its text does not name, as a catalog tells: conversions, what stands in for arguments, and
//! native code under another name. It counts where it can happen, and nowhere else.

use countersign_sql::{
    Cast, Catalog, Category, Column, Dialect, Effect, Explained, Known, Name, Relation, Routine, Type,
    Volatility, explain,
};

use crate::catalog::{qualified, routine, table, written};

fn told(sql: &str, catalog: &Catalog) -> Explained {
    explain(Dialect::Postgres, sql, Some(&Known::new(catalog.clone())))
        .unwrap_or_else(|error| panic!("{error}: {sql}"))
}

fn reads(sql: &str, catalog: &Catalog) -> bool {
    told(sql, catalog).effect == Effect::Read
}

fn alone(sql: &str) -> Explained {
    explain(Dialect::Postgres, sql, None).unwrap()
}

fn own(name: &str) -> Name {
    Name { schema: "pg_catalog".to_owned(), name: name.to_owned() }
}

fn with_column(name: &str, data_type: &str) -> Relation {
    let column = |name: &str, data_type: &str| Column {
        name: name.to_owned(),
        data_type: data_type.to_owned(),
        ..Column::default()
    };
    Relation { columns: vec![column("id", "integer"), column("c", data_type)], ..table(name) }
}

fn of(name: &str, of: Vec<Name>) -> Type {
    Type { schema: "public".to_owned(), name: name.to_owned(), of, ..Type::default() }
}

/// A database in which whole numbers become weights, by a function that may do anything.
fn weighing() -> Catalog {
    Catalog {
        relations: vec![
            with_column("plain", "character varying(10)[]"),
            with_column("timed", "timestamp(3) with time zone"),
            with_column("weighed", "public.weight"),
            with_column("listed", "public.weight[]"),
            with_column("boxed", "public.parcel"),
            with_column("loaded", "public.heavy"),
            with_column("unclear", ""),
            with_column("unlisted", "public.none_such"),
        ],
        routines: vec![
            routine("public", "weigh", Volatility::Volatile),
            written("pure", Volatility::Immutable, "select $1 + 1"),
        ],
        types: vec![
            of("weight", vec![own("int4")]),
            of("parcel", vec![own("text"), qualified("weight")]),
            of("crate", vec![qualified("_weight")]),
            of("heavy", vec![qualified("weight")]),
            of("other", vec![own("int4"), own("_text")]),
        ],
        casts: vec![Cast {
            source: own("int4"),
            target: qualified("weight"),
            function: qualified("weigh"),
            implicit: true,
        }],
        ..Catalog::default()
    }
}

#[test]
fn a_conversion_that_nothing_asks_for_counts_where_its_type_can_be() {
    let catalog = weighing();
    for sql in [
        "select 1",
        "select id + 1, c from plain where id in (1, 2)",
        "select count(*) from timed join plain using (id)",
        "with a as (select id from plain) select * from a",
        "select relname from pg_class where oid = 1",
        "select '(1,{x})'::other",
        "select * from not_in_the_catalog",
        "explain select * from plain",
    ] {
        assert!(reads(sql, &catalog), "{sql}: {:?}", told(sql, &catalog).reasons);
        assert_eq!(alone(sql).effect == Effect::Read, !sql.contains("::other"), "{sql}");
    }
    for sql in [
        "select * from weighed",
        "select (select count(*) from weighed)",
        "select * from listed",
        "select * from boxed",
        "select * from loaded",
        "select * from unclear",
        "select * from unlisted",
        "select '(1)'::weight",
        "select '{}'::weight[]",
        "select '(x,(1))'::parcel",
        "select null::crate",
        "select pure(1)",
        "select * from json_to_record('{}') as x (w weight)",
    ] {
        assert!(!reads(sql, &catalog), "{sql}");
    }
    // A function brings what it takes and gives.
    let typed = |types: Vec<Name>| {
        let mut catalog = weighing();
        for routine in &mut catalog.routines {
            routine.types = Some(types.clone());
        }
        catalog
    };
    let weight = || vec![qualified("weight")];
    for (types, read) in [
        (vec![], true),
        (weight(), false),
        (vec![qualified("_weight")], false),
        (vec![qualified("other")], true),
    ] {
        assert_eq!(reads("select pure(id) from plain", &typed(types.clone())), read, "{types:?}");
    }
    // An array, the other way round, and between PostgreSQL's own types, which are everywhere.
    let cast = |source, target| Cast { source, target, function: qualified("weigh"), implicit: true };
    for (cast, sql, read) in [
        (cast(qualified("weight"), own("text")), "select * from weighed", false),
        (cast(qualified("weight"), own("text")), "select * from plain", true),
        (cast(qualified("_weight"), own("text")), "select * from listed", false),
        (cast(own("int4"), own("text")), "select 1", false),
    ] {
        let catalog = Catalog { casts: vec![cast.clone()], ..weighing() };
        assert_eq!(reads(sql, &catalog), read, "{cast:?}: {sql}");
    }
}

#[test]
fn a_conversion_that_the_text_asks_for_needs_a_value_to_convert() {
    let cast = Cast {
        source: qualified("weight"),
        target: own("text"),
        function: qualified("weigh"),
        implicit: false,
    };
    let catalog = Catalog { casts: vec![cast], ..weighing() };
    for sql in [
        "select id::text from plain",
        "select 1::text",
        "select 'x'::text, '(1,{x})'::other::text",
        "select null::weight",
    ] {
        assert!(reads(sql, &catalog), "{sql}: {:?}", told(sql, &catalog).reasons);
    }
    for sql in [
        "select c::text from weighed",
        "select null::weight::text",
        "select x::text from (select w.c as x from boxed w) y",
        "select pure(1)::text",
        "select id::text from weighed",
    ] {
        assert!(!reads(sql, &catalog), "{sql}");
    }
}

#[test]
fn columns_without_a_name_are_read_by_the_types_that_can_be_there() {
    let unseen = of("unseen", vec![qualified("none_such")]);
    let catalog = Catalog { casts: Vec::new(), ..weighing() };
    let catalog = Catalog { types: [catalog.types.clone(), vec![unseen]].concat(), ..catalog };
    for sql in [
        "select json_populate_record(null::parcel, '{}')",
        "select * from jsonb_populate_recordset(null::other, '[]')",
        "select jsonb_populate_record(row(1, 2), '{}')",
    ] {
        assert!(reads(sql, &catalog), "{sql}: {:?}", told(sql, &catalog).reasons);
    }
    for sql in [
        "select json_populate_record(null::unseen, '{}')",
        "select json_populate_record(u, '{}') from unlisted u",
        "select json_populate_record(pure(1), '{}')",
    ] {
        assert!(!reads(sql, &catalog), "{sql}");
    }
}

#[test]
fn a_type_may_be_made_with_functions_of_postgresql() {
    let typed = |function: &str| {
        let calls = vec![own(function)];
        Catalog { types: vec![Type { calls, ..of("widget", Vec::new()) }], ..Catalog::default() }
    };
    for function in ["numerictypmodout", "int4in", "record_out"] {
        assert!(reads("select 'x'::widget", &typed(function)), "{function}");
    }
    assert!(!reads("select 'x'::widget", &typed("nextval")));
}

#[test]
fn a_call_by_the_name_of_a_type_is_a_conversion_to_it() {
    for sql in [
        "select regoper('||/')",
        "select tsquery('a & b')",
        "select pg_catalog.inet('10.0.0.1')",
        "select xid8('5')",
    ] {
        assert_eq!(alone(sql).effect, Effect::Read, "{sql}");
    }
    let catalog = |sql: &str| alone(sql).categories.contains(&Category::Catalog);
    assert!(catalog("select regtype(23)") && catalog("select regclass(id) from invoice"));
    assert!(!catalog("select regtype('integer')"), "the statement says it itself");
    for sql in [
        "select public.tsquery('a')",
        "select status('active')",
        "select unknown('a')",
        "select void('a')",
        "select record('a')",
        "select tsquery('a', 'b')",
        "select tsquery()",
        "call tsquery('a')",
    ] {
        assert_ne!(alone(sql).effect, Effect::Read, "{sql}");
    }
    let namesake =
        Catalog { routines: vec![routine("public", "tsquery", Volatility::Volatile)], ..Catalog::default() };
    assert!(!reads("select tsquery('a & b')", &namesake));
}

#[test]
fn what_the_information_schema_is_made_of_is_postgresqls_own() {
    assert_eq!(alone("select information_schema._pg_expandarray(array[1, 2])").effect, Effect::Read);
    assert_eq!(alone("select 'YES'::information_schema.yes_or_no").effect, Effect::Read);
    assert_eq!(alone("select information_schema.purge()").effect, Effect::Write);
    assert_eq!(alone("select 'x'::information_schema.status").effect, Effect::Write);
    assert_eq!(alone("select _pg_expandarray(array[1])").effect, Effect::Write);
}

#[test]
fn planning_opens_no_cursor_and_runs_no_volatile_function() {
    assert_eq!(alone("explain declare c cursor for select 1").effect, Effect::Read);
    assert_eq!(alone("explain declare c cursor for select nextval('s'), f()").effect, Effect::Write);
    assert_eq!(alone("explain analyze declare c cursor for select 1").effect, Effect::Write);
    let language = |name: &str, language: &str| Routine {
        language: language.to_owned(),
        ..routine("public", name, Volatility::Volatile)
    };
    let catalog = Catalog {
        routines: vec![
            language("leak", "plpgsql"),
            language("inlined", "sql"),
            language("untold", ""),
            Routine { defaults: Some("leak(1)".to_owned()), ..language("defaulted", "plpgsql") },
            Routine { defaults: Some("promised()".to_owned()), ..language("promising", "plpgsql") },
            Routine { language: "plpgsql".to_owned(), ..routine("public", "promised", Volatility::Stable) },
        ],
        operators: vec![countersign_sql::Operator {
            schema: "public".to_owned(),
            name: "<<<".to_owned(),
            function: qualified("leak"),
        }],
        relations: vec![table("invoice")],
        ..Catalog::default()
    };
    for sql in ["explain select * from invoice where leak(id)", "explain select defaulted()"] {
        assert!(reads(sql, &catalog), "{sql}: {:?}", told(sql, &catalog).reasons);
    }
    for sql in [
        "select * from invoice where leak(id)",
        "explain analyze select leak(1)",
        "explain select inlined()",
        "explain select untold()",
        "explain select promised()",
        // Estimating, it evaluates the arguments of a function that it does not.
        "explain select promising()",
        "explain select leak(promised())",
        // The function of an operator is asked about statistics.
        "explain select * from invoice where id <<< 5",
        "explain select leak(none_such())",
    ] {
        assert!(!reads(sql, &catalog), "{sql}");
    }
}

#[test]
fn a_literal_is_read_when_the_statement_is_parsed_whether_or_not_it_runs() {
    let catalog = Catalog {
        routines: vec![Routine {
            language: "plpgsql".to_owned(),
            ..routine("public", "leak", Volatility::Volatile)
        }],
        types: vec![
            Type { checks: vec!["leak(value) > 0".to_owned()], ..of("guarded", vec![own("int4")]) },
            of("holder", vec![qualified("guarded")]),
        ],
        relations: vec![with_column("plain", "integer")],
        ..Catalog::default()
    };
    for sql in
        ["select '(7)'::holder", "explain select '(7)'::holder", "explain select cast('{(7)}' as holder[])"]
    {
        assert!(!reads(sql, &catalog), "{sql}");
    }
    assert!(reads("explain select * from plain where leak(id) > 0", &catalog), "that one is not run");
}

#[test]
fn a_text_is_read_as_a_whole_row_where_one_is_named() {
    let catalog = Catalog {
        routines: vec![routine("public", "leak", Volatility::Volatile)],
        types: vec![Type { checks: vec!["leak(value) > 0".to_owned()], ..of("guarded", vec![own("int4")]) }],
        relations: vec![with_column("held", "public.guarded"), with_column("plain", "integer")],
        ..Catalog::default()
    };
    for sql in [
        "select coalesce(held, '(1,2)') from held",
        "select coalesce(h.*, $1) from held h",
        "select h from public.held as h union select '(1,2)'",
        "explain delete from held where coalesce(held, '(1,2)') is null",
        "select lag(c, 1, null) over () from held",
        "select array[c] = '{1}' from held",
    ] {
        assert!(!reads(sql, &catalog), "{sql}");
    }
    for sql in [
        "select h.* from held h where h.id = '1'",
        "select held.c, '(1,2)' from held",
        "select h from held h where id = 1",
        "with held as (select 1 as id) select coalesce(held, '(1)') from held",
        "select coalesce(plain, '(1,2)') from plain, held",
        "select array[id, 1], array_agg(c) from held",
    ] {
        assert!(reads(sql, &catalog), "{sql}: {:?}", told(sql, &catalog).reasons);
    }
}

#[test]
fn a_function_in_sql_is_what_its_text_does_whatever_it_is_declared_to_be() {
    let volatile = |name: &str, body: &str| written(name, Volatility::Volatile, body);
    let catalog = Catalog {
        relations: vec![table("invoice")],
        routines: vec![
            volatile("counted", "select count(*) from invoice where id > $1"),
            volatile("through", "select counted($1)"),
            volatile("atomic", "BEGIN ATOMIC SELECT counted(1); END"),
            volatile("adds", "insert into invoice values (1) returning id"),
            volatile("hides", "select adds()"),
            volatile("moves", "select nextval('s')"),
            volatile("locks", "select id from invoice for update"),
            volatile("sets", "select set_config('a.b', 'c', true)"),
            volatile("unclear", "select count( from"),
            routine("public", "untold", Volatility::Volatile),
            Routine { language: "sql".to_owned(), ..routine("public", "textless", Volatility::Volatile) },
            Routine { language: "plpgsql".to_owned(), ..volatile("procedural", "begin return 1; end") },
            Routine { kind: countersign_sql::RoutineKind::Procedure, ..volatile("procedure", "select 1") },
        ],
        ..Catalog::default()
    };
    for name in ["counted", "through", "atomic"] {
        for explained in ["", "explain ", "explain analyze "] {
            let told = told(&format!("{explained}select {name}(1)"), &catalog);
            assert_eq!(told.effect, Effect::Read, "{name}: {:?}", told.reasons);
            assert!(told.tables.iter().any(|table| table.name == "invoice"), "{name}");
        }
    }
    for name in [
        "adds",
        "hides",
        "moves",
        "locks",
        "sets",
        "unclear",
        "untold",
        "textless",
        "procedural",
        "procedure",
    ] {
        assert!(!reads(&format!("select {name}(1)"), &catalog), "{name}");
        assert!(!reads(&format!("select * from invoice where {name}(id) > 1"), &catalog), "{name}");
    }
}

#[test]
fn what_planning_works_out_counts_where_no_column_stands_in_it() {
    let promised = |name: &str, volatility: Volatility| Routine {
        language: "plpgsql".to_owned(),
        body: Some("begin end".to_owned()),
        ..routine("public", name, volatility)
    };
    let with = |text: &str| Catalog {
        routines: vec![
            promised("unseen", Volatility::Immutable),
            promised("stable", Volatility::Stable),
            promised("volatile", Volatility::Volatile),
            written("wrapped", Volatility::Immutable, "select unseen(1) + $1"),
            written("plain", Volatility::Immutable, "select $1 + 1"),
        ],
        relations: vec![Relation { planned: vec![text.to_owned()], ..table("kept") }],
        ..Catalog::default()
    };
    for text in [
        "(id > unseen(1))",
        "lower(name), (id + unseen(abs(-1)))",
        "(plain(id) > 0 and id > unseen(1))",
        "wrapped(id)",
        "(id + none_such(1))",
        "(not sql",
    ] {
        assert!(!reads("select * from kept", &with(text)), "{text}");
        assert!(!reads("explain select * from kept", &with(text)), "{text}");
    }
    for text in [
        "unseen(id)",
        "(unseen(id + 1) > 0)",
        "(id > stable(1))",
        "(volatile(1) > id)",
        "plain(id), plain(1)",
        "nextval('s') > id",
    ] {
        let told = told("select * from kept", &with(text));
        assert_eq!(told.effect, Effect::Read, "{text}: {:?}", told.reasons);
    }
    // What it runs itself is worked out as ever.
    assert!(!reads("select unseen(id) from kept", &with("unseen(id)")));
}

#[test]
fn what_stands_in_for_an_argument_runs_with_the_call() {
    let with = |defaults: &str| Catalog {
        routines: vec![
            Routine {
                defaults: Some(defaults.to_owned()),
                ..written("priced", Volatility::Stable, "select $1")
            },
            routine("public", "purge", Volatility::Volatile),
        ],
        ..Catalog::default()
    };
    for harmless in ["1, 'EUR'::text", "now()"] {
        assert!(reads("select priced()", &with(harmless)), "{harmless}");
    }
    for harmful in ["nextval('numbers'::regclass)", "1, public.purge()", "(not sql"] {
        assert!(!reads("select priced()", &with(harmful)), "{harmful}");
    }
}

#[test]
fn native_code_under_another_name_is_what_it_is() {
    let known_as = |name: &str, language: &str| Catalog {
        routines: vec![Routine {
            language: language.to_owned(),
            calls: vec![own(name)],
            ..routine("public", "other_name", Volatility::Stable)
        }],
        ..Catalog::default()
    };
    for (name, language) in
        [("crosstab", "c"), ("nextval", "internal"), ("dblink_exec", "c"), ("pg_read_file", "internal")]
    {
        let explained = told("select other_name('x')", &known_as(name, language));
        assert_ne!(explained.effect, Effect::Read, "{name}");
        assert!(explained.categories.contains(&Category::Opaque), "{name}");
    }
    for (name, language) in [("my_own_code", "c"), ("int4pl", "internal")] {
        assert!(reads("select other_name('x')", &known_as(name, language)), "{name}");
    }
}
