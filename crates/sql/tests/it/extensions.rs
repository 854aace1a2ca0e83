//! What PostgreSQL's bundled extensions bring, named by a system or shown by a catalog, against real servers that have them.

use std::collections::{BTreeMap, BTreeSet};

use countersign_sql::{
    Catalog, Category, Dialect, Effect, Explained, Known, Name, Operator, Routine, Type, Volatility,
    check_extension, explain, known_extensions,
};
use tokio_postgres::Client;

use crate::cases::cases;
use crate::postgres_server::{fresh, servers};

const TABLE: &str = include_str!("../../src/postgres/extensions.txt");
const CORPUS: &str = include_str!("../corpus/extensions.txt");

fn standard() -> Known {
    named(&["standard"])
}

fn named(extensions: &[&str]) -> Known {
    Known::new(Catalog {
        extensions: extensions.iter().map(|one| (*one).to_owned()).collect(),
        ..Catalog::default()
    })
}

fn told(sql: &str, known: Option<&Known>) -> Explained {
    explain(Dialect::Postgres, sql, known).unwrap_or_else(|error| panic!("{error}: {sql}"))
}

fn reads(sql: &str, known: Option<&Known>) -> bool {
    told(sql, known).effect == Effect::Read
}

#[test]
fn what_an_extension_brings_is_known_where_it_is_named() {
    for (extension, sql) in [
        ("citext", "select 'A'::citext = 'a'"),
        ("hstore", "select 'a=>1'::hstore -> 'a'"),
        ("ltree", "select 'a.b'::ltree <@ 'a'"),
        ("isn", "select isbn('978-0-393-04002-9')"),
        ("cube", "select cube_distance(cube(array[1, 2]), '(3, 4)'::cube)"),
        ("seg", "select '1 .. 2'::seg"),
        ("intarray", "select sort(array[3, 1]) @@ '1&3'::query_int"),
        (
            "pg_trgm",
            "select similarity(currency, 'EUR'), currency <-> 'E' from invoice where currency % 'EU'",
        ),
        ("pgcrypto", "select encode(digest(currency, 'sha256'), 'hex') from invoice"),
        ("uuid-ossp", "select uuid_generate_v4()"),
        ("unaccent", "select public.unaccent(currency) from invoice"),
        ("earthdistance", "select earth_distance(ll_to_earth(1, 2), ll_to_earth(3, 4))"),
    ] {
        assert!(reads(sql, Some(&named(&[extension]))) || extension == "earthdistance", "{extension}: {sql}");
        assert!(reads(sql, Some(&standard())), "{sql}");
        let other = if extension == "seg" { "citext" } else { "seg" };
        if !sql.contains("currency % ") {
            assert!(!reads(sql, None), "{sql}");
            assert!(!reads(sql, Some(&named(&[other]))), "{sql}");
        }
        assert!(!told(sql, Some(&standard())).categories.contains(&Category::Opaque), "{sql}");
    }
    assert!(reads("select 'a'::citext", Some(&named(&["citext@1.6"]))));
    assert!(!reads("select 'a'::citext", Some(&named(&["citext@0.1"]))));
    assert!(!reads("select other.similarity('a', 'b')", Some(&standard())), "not where names are looked up");
    assert!(check_extension("standard").is_ok() && check_extension("ltree@1.2").is_ok());
    assert!(check_extension("ltree@9").is_err() && check_extension("postgis").is_err());
    assert_eq!(known_extensions().len(), 25);
}

#[test]
fn what_does_more_than_compute_is_none_of_it() {
    for sql in [
        "select set_limit(0.5)",
        "select isn_weak(true)",
        "select * from crosstab('delete from invoice returning 1, 2, 3') as t (a int, b int)",
        "select * from connectby('invoice', 'a', 'b', '1', 0) as t (a text, b text, c int)",
        "select * from xpath_table('a', 'b', 'c', 'd', 'e') as t (a int)",
        "select xslt_process('a', 'b')",
        "select dblink('x', 'y')",
        "select lo_manage()",
        "select get_raw_page('invoice', 0)",
        "select heap_force_kill('invoice', array['(0,1)'::tid])",
        "select pg_truncate_visibility_map('invoice')",
        "select 'a'::unknown_type",
        "select purge()",
        "delete from invoice where 'a'::citext = currency",
    ] {
        assert!(!reads(sql, Some(&standard())), "{sql}");
    }
}

/// A catalog that has the extension too stands in nobody's way, and one that shows a namesake does.
#[test]
fn a_catalog_blocks_nothing_that_ran_without_it() {
    let native = |name: &str, volatility| Routine {
        schema: "public".to_owned(),
        name: name.to_owned(),
        arguments: "text, text".to_owned(),
        volatility,
        language: "c".to_owned(),
        ..Routine::default()
    };
    let function = Name { schema: "public".to_owned(), name: "similarity_op".to_owned() };
    let catalog = |extensions: &[&str], more: Vec<Routine>| {
        Known::new(Catalog {
            extensions: extensions.iter().map(|one| (*one).to_owned()).collect(),
            routines: [
                vec![native("similarity_op", Volatility::Stable), native("unaccent", Volatility::Stable)],
                more,
            ]
            .concat(),
            operators: vec![Operator {
                schema: "public".to_owned(),
                name: "%".to_owned(),
                function: function.clone(),
            }],
            types: vec![
                Type { schema: "public".to_owned(), name: "status".to_owned(), ..Type::default() },
                Type {
                    schema: "public".to_owned(),
                    name: "positive".to_owned(),
                    of: vec![Name { schema: "pg_catalog".to_owned(), name: "int4".to_owned() }],
                    checks: vec!["(VALUE > 0)".to_owned()],
                    ..Type::default()
                },
            ],
            ..Catalog::default()
        })
    };
    for known in [catalog(&[], Vec::new()), catalog(&["standard"], Vec::new())] {
        for sql in [
            "select id % 2 from invoice",
            "select * from invoice where currency % 'EU'",
            "select unaccent(currency) from invoice",
            // Labels of an enum, and a domain.
            "select 'active'::status",
            "select status 'closed', cast('active' as public.status), '{active}'::status[]",
            "select 5::positive",
        ] {
            let explained = told(sql, Some(&known));
            assert_eq!(explained.effect, Effect::Read, "{sql}: {:?}", explained.reasons);
            assert!(!explained.categories.contains(&Category::Opaque), "{sql}: {:?}", explained.reasons);
        }
    }
    // What is volatile, native and known for chance; not what only has its name.
    let chance = Routine { arguments: String::new(), ..native("uuid_generate_v4", Volatility::Volatile) };
    for (routine, right) in [
        (chance.clone(), true),
        (Routine { language: "sql".to_owned(), ..chance.clone() }, false),
        (Routine { language: "plpgsql".to_owned(), ..chance }, false),
    ] {
        for extensions in [&[][..], &["standard"]] {
            let known = catalog(extensions, vec![routine.clone()]);
            assert_eq!(reads("select uuid_generate_v4()", Some(&known)), right, "{routine:?}");
        }
    }
    let digest = native("digest", Volatility::Volatile);
    assert!(
        !reads("select digest('a', 'b')", Some(&catalog(&["standard"], vec![digest]))),
        "contrib's is immutable"
    );
    let sneaky = Routine { language: "plpgsql".to_owned(), ..native("similarity", Volatility::Volatile) };
    assert!(!reads("select similarity('a', 'b')", Some(&catalog(&["standard"], vec![sneaky]))));
}

/// What came of many statements.
#[derive(Debug, Default)]
struct Tally {
    harmless: usize,
    read: usize,
    harmful: usize,
    failed: Vec<String>,
    missed: Vec<String>,
    wrong: Vec<String>,
}

impl Tally {
    /// Says what was found: nothing harmful was called a read, and nearly everything else was.
    fn tell(&self, of: &str) {
        let Self { harmless, read, harmful, wrong, missed, .. } = self;
        println!("{of}: {harmless} harmless, {read} of them called a read; {harmful} harmful");
        assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
        assert!(read * 100 >= harmless * 97, "{read} of {harmless}: {missed:#?}");
    }

    /// `harmless`: accepted in a read-only transaction, and without a trace in one that may write.
    async fn judge(&mut self, scratch: &crate::postgres_server::Scratch, sql: &str, known: Option<&Known>) {
        let read = reads(sql, known);
        match (scratch.accepted(sql).await, scratch.traces(sql).await) {
            (Ok(()), Ok(traces)) if traces.is_empty() => {
                self.harmless += 1;
                self.read += usize::from(read);
                if !read {
                    self.missed.push(sql.to_owned());
                }
            }
            (Err(why), _) | (_, Err(why)) if !why.starts_with("25006") => {
                self.failed.push(format!("{why}: {sql}"))
            }
            _ => {
                self.harmful += 1;
                if read {
                    self.wrong.push(sql.to_owned());
                }
            }
        }
    }
}

/// Statements over contrib's types, functions and operators, as people write them.
#[tokio::test]
async fn plain_reads_of_extensions_are_called_reads() {
    let known = standard();
    for scratch in fresh("plain").await {
        with_extensions(&scratch).await;
        let mut tally = Tally::default();
        for case in cases(CORPUS) {
            match case.heading {
                "read" => tally.judge(&scratch, case.sql, Some(&known)).await,
                "write" => assert!(!reads(case.sql, Some(&known)), "{}", case.sql),
                other => panic!("unknown heading `{other}`"),
            }
        }
        scratch.drop().await;
        tally.tell("corpus");
        assert!(tally.failed.is_empty(), "{:#?}", tally.failed);
        assert!(tally.harmless > 150, "only {}", tally.harmless);
    }
}

async fn with_extensions(scratch: &crate::postgres_server::Scratch) {
    scratch.client().batch_execute("set client_min_messages = error").await.unwrap();
    for extension in known_extensions() {
        let create = format!("create extension if not exists \"{extension}\" cascade");
        scratch.client().batch_execute(&create).await.unwrap();
    }
    scratch.client().batch_execute("reset client_min_messages").await.unwrap();
}

/// Every function, operator and type of the table is called on the servers that have it: with nothing, and with the
/// simplest values of its types. What leaves a trace there is not called a read here.
#[tokio::test]
async fn each_name_of_the_table_is_harmless_on_a_server() {
    let known = standard();
    for scratch in fresh("table").await {
        with_extensions(&scratch).await;
        let mut tally = Tally::default();
        for sql in calls(scratch.client()).await {
            tally.judge(&scratch, &sql, Some(&known)).await;
        }
        scratch.drop().await;
        tally.tell("table");
        assert!(
            tally.harmless > 1_000,
            "only {} ran, {} failed: {:#?}",
            tally.harmless,
            tally.failed.len(),
            tally.failed.iter().take(20).collect::<Vec<_>>()
        );
    }
}

/// A call of each function, a use of each operator and a conversion to each type that extensions bring.
async fn calls(client: &Client) -> Vec<String> {
    const VALUES: &str = "case when t.typcategory = 'N' then '1' when t.typcategory = 'S' then '''a''' when t.typcategory = 'B' then 'true' else 'null' end \
        || '::' || format_type(t.oid, null)";
    let sql = format!(
        "with member as (select d.classid, d.objid from pg_depend d join pg_extension e on d.refclassid = 'pg_extension'::regclass \
            and d.refobjid = e.oid and d.deptype = 'e' where e.extname <> 'plpgsql'),
         value as (select t.oid, {VALUES} as given, 'null::' || format_type(t.oid, null) as nothing from pg_type t),
         given as (select p.oid, p.proname, p.prokind, string_agg(v.given, ', ' order by a.place) as given, string_agg(v.nothing, ', ' order by a.place) as nothing
            from member m join pg_proc p on m.classid = 'pg_proc'::regclass and m.objid = p.oid
            left join lateral unnest(p.proargtypes::oid[]) with ordinality a (type, place) on true left join value v on v.oid = a.type
            where p.prorettype <> all ('{{internal,trigger,cstring,index_am_handler,tsm_handler,fdw_handler,language_handler}}'::regtype[])
              and not exists (select from unnest(p.proargtypes::oid[]) x (t) where x.t = any ('{{internal,cstring,anyelement,anyarray,anynonarray}}'::regtype[]))
              and p.prokind in ('f', 'a') group by 1, 2, 3)
         select format('select %I(%s)', proname, coalesce(a, '')) from given, lateral (values (given), (nothing)) v (a)
         union
         select format('select %s %s %s', coalesce(l.a, ''), o.oprname, r.a) from member m join pg_operator o on m.classid = 'pg_operator'::regclass and m.objid = o.oid
            left join lateral (select unnest(array[given, nothing]) a from value where oid = o.oprleft) l on true
            join lateral (select unnest(array[given, nothing]) a from value where oid = o.oprright) r on true
         union
         select format('select null::%s, null::%s[]', format_type(t.oid, null), format_type(t.oid, null)) from member m join pg_type t
            on m.classid = 'pg_type'::regclass and m.objid = t.oid where t.typelem = 0 and t.typarray <> 0
         order by 1"
    );
    client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// The committed table says of each version what the servers say now: made again, it is the same.
#[tokio::test]
async fn the_table_is_what_the_servers_say() {
    let mut sections: BTreeMap<(&str, &str), BTreeSet<(&str, &str)>> = BTreeMap::new();
    let mut section = ("", "");
    for line in TABLE.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["=", name, version] => {
                section = (*name, *version);
                sections.entry(section).or_default();
            }
            [kind, name] => {
                assert!(sections.get_mut(&section).unwrap().insert((*kind, *name)), "{line} twice")
            }
            _ => panic!("{line}"),
        }
    }
    let mut compared = 0;
    for scratch in fresh("facts").await {
        with_extensions(&scratch).await;
        let rows = scratch
            .client()
            .query(
                "select e.extname::text, e.extversion, p.proname::text, bool_or(p.provolatile = 'v') from pg_extension e
                 join pg_depend d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.deptype = 'e'
                 join pg_proc p on d.classid = 'pg_proc'::regclass and d.objid = p.oid
                 where e.extname <> 'plpgsql' and p.prorettype not in ('internal'::regtype, 'trigger'::regtype)
                   and 'internal'::regtype <> all (p.proargtypes::oid[]) group by 1, 2, 3",
                &[],
            )
            .await
            .unwrap();
        for row in &rows {
            let (extension, version, name, volatile): (String, String, String, bool) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            let section = sections
                .get(&(&*extension, &*version))
                .unwrap_or_else(|| panic!("{extension} {version} is not in the table"));
            let harmless = section.contains(&("f", name.as_str()));
            assert!(
                harmless || section.contains(&("x", name.as_str())),
                "{extension} {version}: `{name}` is missing"
            );
            assert!(
                !harmless || !volatile || LOOKED_AT.contains(&name.as_str()),
                "{extension} {version}: `{name}` is volatile"
            );
            compared += 1;
        }
        scratch.drop().await;
    }
    assert!(compared > 700, "only {compared} functions");
    assert!(TABLE.len() < 1024 * 1024);
    assert_eq!(servers().await.len(), 2, "both servers are asked");
}

/// Volatile, and harmless: chance, the clock, a sample, the own connection.
const LOOKED_AT: [&str; 23] = [
    "fips_mode",
    "gen_random_bytes",
    "gen_random_uuid",
    "gen_salt",
    "normal_rand",
    "pgp_pub_encrypt",
    "pgp_pub_encrypt_bytea",
    "pgp_sym_encrypt",
    "pgp_sym_encrypt_bytea",
    "ssl_cipher",
    "ssl_client_cert_present",
    "ssl_client_dn",
    "ssl_client_dn_field",
    "ssl_client_serial",
    "ssl_extension_info",
    "ssl_is_used",
    "ssl_issuer_dn",
    "ssl_issuer_field",
    "ssl_version",
    "system_rows",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
];
