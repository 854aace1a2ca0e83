//! The normal form of a statement: what holds a refusal of one spelling against the others.

use countersign_sql::{Dialect, normal};
use rusqlite::Connection;

use crate::chance::Chance;

fn form(dialect: Dialect, sql: &str) -> String {
    normal(dialect, sql).unwrap_or_else(|why| panic!("{sql}: {why}"))
}

const SAME: &[&[&str]] = &[
    &[
        "delete from billing where id = 5",
        "delete  from billing where id = 5",
        "DELETE FROM billing\n\tWHERE id = 5;",
        "delete from billing /* again */ where id = 5 -- please",
        "delete from Billing where ID = 5",
        "delete from \"billing\" where \"id\" = 5",
        "delete from billing where (id = 5)",
        "delete from billing where ((id = 5));;",
        "delete from billing where id = 0x5",
    ],
    &[
        "update t set v = 'a' where id = 1 and k = 2",
        "update t set v = 'a' where (id = 1) and (k = 2)",
        "UPDATE t SET v='a' WHERE (id=1 AND k=2)",
    ],
    &["update t set v = 1 where id <> 2", "update t set v = 1 where id != 2"],
];

const OTHER: &[(&str, &str)] = &[
    ("delete from t where id = 5", "delete from t where id = 6"),
    ("delete from t where k = 'a'", "delete from t where k = 'A'"),
    ("delete from t where k = 'a b'", "delete from t where k = 'a  b'"),
    ("delete from t where k = '5'", "delete from t where k = 5"),
    ("delete from t where a = 1 and (b = 2 or c = 3)", "delete from t where (a = 1 and b = 2) or c = 3"),
    ("delete from t where not (a = 1 or b = 2)", "delete from t where not a = 1 or b = 2"),
    ("update t set v = 1.0", "update t set v = 1"),
];

#[test]
fn spellings_of_one_statement_have_one_normal_form() {
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        for spellings in SAME {
            for other in *spellings {
                assert_eq!(form(dialect, spellings[0]), form(dialect, other), "{dialect}: {other}");
            }
        }
    }
    let postgres = [
        "update t set v = 'a\\b'::text where id = 1000",
        "update t set v = E'a\\\\b'::text where id = 1_000",
        "update t set v = $q$a\\b$q$::text where id = 0x3e8",
        "update t set v = CAST('a\\b' AS text) where id = 1000",
    ];
    for other in postgres {
        assert_eq!(form(Dialect::Postgres, postgres[0]), form(Dialect::Postgres, other), "{other}");
    }
    let sqlite = [
        "update t set v = x'ab' where [id] == 1.50",
        "update t set v = X'AB' where `id` = 1.5",
        "\u{feff}update t set v = x'aB' where id = 15e-1",
    ];
    for other in sqlite {
        assert_eq!(form(Dialect::Sqlite, sqlite[0]), form(Dialect::Sqlite, other), "{other}");
    }
}

/// Each with parentheses that SQLite's grammar does not keep.
const PARENTHESES: &[&[&str]] = &[
    &[
        "delete from t where a = 5",
        "delete from t where a = (5)",
        "delete from t where (a) = 5",
        "delete from t where ((a)) = ((5))",
        "delete from t where (((a) = (5)))",
    ],
    &["delete from t where not a", "delete from t where not (a)", "delete from t where (not (a))"],
    &["delete from t where a = 1 and b = 2", "delete from t where (a = 1) and ((b = 2))"],
    &["update t set a = b + 1", "update t set a = (b + 1)", "update t set a = ((b) + (1))"],
    &["insert into t values (1, 2)", "insert into t values ((1), ((2)))"],
    &["delete from t where a in (1, 2)", "delete from t where (a) in ((1), (2))"],
    &["delete from t where a between 1 and 2", "delete from t where (a between (1) and (2))"],
    &["delete from t where lower(c) = 'x'", "delete from t where lower((c)) = ('x')"],
    &["delete from t where (a, b) = (1, 2)", "delete from t where ((a, b)) = (((1), 2))"],
    &["delete from t where a = (select 1)", "delete from t where a = ((select 1))"],
    &["select a + b * c from t order by a limit 5", "select (a + (b * c)) from t order by (a) limit (5)"],
    &[
        "update t set a = case when b = 1 then 2 else 3 end",
        "update t set a = (case when (b = 1) then (2) else (3) end)",
    ],
    &["delete from t where a is null or a > b", "delete from t where (a) is null or ((a) > (b))"],
];

#[test]
fn parentheses_that_bind_nothing_make_no_other_statement() {
    for spellings in PARENTHESES {
        for other in *spellings {
            for dialect in [Dialect::Sqlite, Dialect::Postgres] {
                // PostgreSQL has rows and lists that are written otherwise.
                if dialect == Dialect::Sqlite || !spellings[0].starts_with("delete from t where (a, b)") {
                    assert_eq!(form(dialect, spellings[0]), form(dialect, other), "{dialect}: {other}");
                }
            }
        }
    }
}

#[test]
fn what_sqlite_tells_apart_has_other_normal_forms() {
    let other = [
        ("select (a + b) * c from t", "select a + b * c from t"),
        ("select a - (b - c) from t", "select a - b - c from t"),
        ("delete from t where -(a) in (1)", "delete from t where -(a in (1))"),
        ("delete from t where a in ((select 1))", "delete from t where a in (select 1)"),
        ("create table u (a default (x))", "create table u (a default x)"),
        ("update t set a = 0xffffffffffffffff", "update t set a = 18446744073709551615"),
        ("update t set a = 1.5", "update t set a = 15"),
        ("update t set a = 0.1", "update t set a = 0.10000000000000000001"),
        ("delete from \"a\"\"b\"", "delete from `a\"\"b`"),
        ("delete from \u{c9}", "delete from \u{e9}"),
        ("delete from t where a = :x", "delete from t where a = :X"),
        ("delete from t where c = 'a\\b'", "delete from t where c = 'ab'"),
        ("select 1; select 2", "select 2; select 1"),
        ("select 1", "explain select 1"),
        ("select a from t", "select distinct a from t"),
        ("select a from t union select 1", "select a from t union all select 1"),
        ("select a from t natural join u", "select a from t cross join u"),
        ("select a from t left join u on b", "select a from t join u on b"),
        ("select a from t indexed by i", "select a from t not indexed"),
        ("select a from t order by a nulls first", "select a from t order by a desc nulls first"),
        ("select a from t order by a nulls first", "select a from t order by a nulls last"),
        ("select a from t limit 5 offset 2", "select a from t limit 2 offset 5"),
        ("select a from t where a like 'x'", "select a from t where a glob 'x'"),
        ("select a from t where a like 'x' escape 'y'", "select a from t where a like 'x' escape 'z'"),
        ("select a from t where a is b", "select a from t where a is not b"),
        ("select a from t where a in (1)", "select a from t where a not in (1)"),
        ("select a from t where a between 1 and 2", "select a from t where a not between 1 and 2"),
        ("select a from t where exists (select 1)", "select a from t where not exists (select 1)"),
        ("select a ->> 'b' from t", "select a -> 'b' from t"),
        ("select a collate nocase from t", "select a collate binary from t"),
        ("select cast(a as int) from t", "select cast(a as text) from t"),
        ("select count(a) from t", "select count(distinct a) from t"),
        ("select count(a) from t", "select count(a) filter (where b) from t"),
        ("select sum(a) over (order by b) from t", "select sum(a) over (order by b desc) from t"),
        (
            "select sum(a) over (rows between 1 preceding and 2 following) from t",
            "select sum(a) over (groups between 1 preceding and 2 following) from t",
        ),
        ("select ?1, ?2", "select ?2, ?1"),
        ("with x as materialized (select 1) select 1", "with x as not materialized (select 1) select 1"),
        ("delete from t", "delete from t returning a"),
        ("delete from main.t", "delete from temp.t"),
        ("insert into t values (1)", "insert or ignore into t values (1)"),
        ("insert into t values (1)", "insert into t values (1) on conflict do nothing"),
        ("insert into t (a, b) values (1, 2)", "insert into t (b, a) values (1, 2)"),
        ("update t set a = 1, b = 2", "update t set b = 1, a = 2"),
    ];
    for (one, other) in other {
        assert_ne!(form(Dialect::Sqlite, one), form(Dialect::Sqlite, other), "{one} / {other}");
    }
    for (one, other) in [
        ("delete from \"a\"\"b\"", "delete from `a\"b`"),
        ("delete from t where c = '\u{1f600}\\\"'", "DELETE FROM T where c = ('\u{1f600}\\\"')"),
        ("update t set a = 0.50", "update t set a = .5e0"),
        ("update t set a = 100.0", "update t set a = 1e2"),
    ] {
        assert_eq!(form(Dialect::Sqlite, one), form(Dialect::Sqlite, other), "{one} / {other}");
    }
}

/// A part of a text: words, or what opens and closes the pair of parentheses of this number.
enum Part {
    Words(String),
    Open(usize),
    Close(usize),
}

/// Writes an expression at random, each of its expressions in a pair of parentheses; returns how many pairs there are.
fn expression(chance: &mut Chance, depth: usize, pairs: usize, parts: &mut Vec<Part>) -> usize {
    let words = |text: &str, parts: &mut Vec<Part>| parts.push(Part::Words(format!(" {text} ")));
    let pair = pairs;
    let mut pairs = pairs + 1;
    parts.push(Part::Open(pair));
    if depth == 0 || chance.one_in(4) {
        let leaf = [
            "a",
            "b",
            "c",
            "1",
            "2.5",
            "'x'",
            "null",
            "t.a",
            "3",
            "x'00'",
            "lower(c)",
            "(select max(a) from t)",
        ];
        words(chance.pick(&leaf), parts);
    } else {
        let form = chance.pick(&[
            "not .",
            "- .",
            "+ .",
            ". in ( . , 3)",
            ". between . and .",
            ". collate nocase",
            "case . when . then . end",
            ". is not .",
            ". + .",
            ". - .",
            ". * .",
            ". || .",
            ". = .",
            ". < .",
            ". and .",
            ". or .",
            ". like .",
            "coalesce( . , . )",
            "( . , . ) = ( . , 1)",
        ]);
        for word in form.split(' ') {
            if word == "." {
                pairs = expression(chance, depth - 1, pairs, parts);
            } else {
                words(word, parts);
            }
        }
    }
    parts.push(Part::Close(pair));
    pairs
}

/// The text with each pair of parentheses as often as it says.
fn written(parts: &[Part], times: impl Fn(usize) -> usize) -> String {
    let text = parts.iter().map(|part| match part {
        Part::Words(words) => words.clone(),
        Part::Open(pair) => "(".repeat(times(*pair)),
        Part::Close(pair) => ")".repeat(times(*pair)),
    });
    text.collect()
}

/// What SQLite compiles a statement to; nothing where it has none for it.
fn compiled(database: &Connection, sql: &str) -> Option<Vec<String>> {
    let mut statement = database.prepare(&format!("explain {sql}")).ok()?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..columns).map(|at| Ok(format!("{:?}", row.get_ref(at)?))).collect::<rusqlite::Result<Vec<_>>>()
    });
    Some(rows.unwrap().map(|row| row.unwrap().join(" ")).collect())
}

#[test]
fn statements_of_one_normal_form_are_compiled_to_the_same() {
    let database = Connection::open_in_memory().unwrap();
    database
        .execute_batch(
            "create table t (a integer, b text, c text collate nocase); create index by_a on t (a, b);",
        )
        .unwrap();
    let mut chance = Chance::new(20_261_129);
    let (mut same, mut other) = (0, 0);
    for _ in 0..2_000 {
        let mut parts = Vec::new();
        let pairs = expression(&mut chance, 3, 0, &mut parts);
        let around = chance.pick(&[
            "select X from t",
            "update t set a = X where X",
            "delete from t where X",
            "select a from t order by X",
        ]);
        let statement = |times: &[usize]| around.replace('X', &written(&parts, |pair| times[pair]));
        // Whichever are there once or more, that they are there twice makes no difference.
        let once: Vec<usize> = (0..pairs).map(|_| chance.below(2)).collect();
        let twice: Vec<usize> = once.iter().map(|times| times * (1 + chance.below(2))).collect();
        let few: Vec<usize> = once.iter().map(|times| times * chance.below(2)).collect();
        let [once, twice, few] = [once, twice, few].map(|times| statement(&times));
        let Some(code) = compiled(&database, &once) else { continue };
        assert_eq!(form(Dialect::Sqlite, &once), form(Dialect::Sqlite, &twice), "{once}");
        assert_eq!(Some(&code), compiled(&database, &twice).as_ref(), "{once}");
        // Without some of them it may mean something else.
        let Some(others) = compiled(&database, &few) else { continue };
        if form(Dialect::Sqlite, &once) == form(Dialect::Sqlite, &few) {
            assert_eq!(code, others, "{once} / {few}");
            same += usize::from(once != few);
        } else {
            other += usize::from(code != others);
        }
    }
    assert!(same > 150 && other > 150, "{same} were the same, {other} were others: the cases say little");
}

#[test]
fn other_statements_have_other_normal_forms() {
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        for (one, other) in OTHER {
            assert_ne!(form(dialect, one), form(dialect, other), "{dialect}: {one} / {other}");
        }
    }
    assert_ne!(form(Dialect::Postgres, "delete from \"T\""), form(Dialect::Postgres, "delete from t"));
    // SQLite takes the one for a scalar, and the other for a list.
    let list = |inner| form(Dialect::Sqlite, &format!("delete from t where a in ({inner})"));
    assert_ne!(list("(select 1)"), list("select 1"));
}

#[test]
fn a_text_that_cannot_be_read_has_none() {
    assert!(normal(Dialect::Postgres, "delete fro t").is_err());
    assert!(normal(Dialect::Sqlite, "delete from 'x").is_err());
}
