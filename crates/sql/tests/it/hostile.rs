//! Whatever the text, there is an answer or an error, and the process lives.

use countersign_sql::{Dialect, LENGTH_MAX, SqlError, explain, fingerprint, normalize, reach_query};
use proptest::prelude::*;

const DIALECTS: [Dialect; 2] = [Dialect::Postgres, Dialect::Sqlite];

fn everything(sql: &str) {
    for dialect in DIALECTS {
        explain(dialect, sql, None).ok();
        reach_query(dialect, sql, None).ok();
        fingerprint(dialect, sql).ok();
        normalize(dialect, sql).ok();
    }
}

const TOKENS: [&str; 96] = [
    "select",
    "from",
    "where",
    "insert",
    "into",
    "values",
    "update",
    "set",
    "delete",
    "with",
    "recursive",
    "as",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    "*",
    "+",
    "-",
    "/",
    "=",
    "<",
    ">",
    "<>",
    "||",
    "::",
    ".",
    "?",
    "?1",
    "$1",
    ":a",
    "@b",
    "1",
    "0",
    "1.5",
    "'x'",
    "''",
    "\"q\"",
    "`b`",
    "$$x$$",
    "E'\\n'",
    "U&'\\0061'",
    "x'1F'",
    "t",
    "a",
    "b",
    "id",
    "null",
    "true",
    "false",
    "and",
    "or",
    "not",
    "in",
    "is",
    "like",
    "between",
    "exists",
    "case",
    "when",
    "then",
    "else",
    "end",
    "union",
    "all",
    "except",
    "order",
    "by",
    "group",
    "having",
    "limit",
    "offset",
    "join",
    "left",
    "on",
    "using",
    "returning",
    "explain",
    "analyze",
    "copy",
    "to",
    "stdout",
    "create",
    "table",
    "drop",
    "pragma",
    "attach",
    "begin",
    "for",
    "lateral",
    "over",
    "filter",
    "array",
    "count(*)",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text(sql in ".{0,200}") {
        everything(&sql);
    }

    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        everything(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn token_soup(tokens in proptest::collection::vec(proptest::sample::select(&TOKENS[..]), 0..40)) {
        everything(&tokens.join(" "));
    }

    #[test]
    fn torn_statements(place in 0_usize..200, with in proptest::sample::select(&TOKENS[..])) {
        let sql = "with a as (select id, count(*) from t where x = 'it''s' group by id) delete from t using a where t.id = a.id and \
                   t.b in (1, 2) returning t.*; update t set a = $1, b = (select max(c) from u) where id = $2 or exists (select 1)";
        let cut = place.min(sql.len());
        everything(&sql[..cut]);
        everything(&format!("{}{with}{}", &sql[..cut], &sql[cut..]));
    }
}

/// Nested as deep as the length allows, on a thread with an ordinary small stack.
#[test]
fn depth_is_refused_and_not_survived_by_luck() {
    let most = |unit: &str| LENGTH_MAX / unit.len().max(1) / 2;
    let nested = |open: &str, middle: &str, close: &str, times: usize| {
        format!("{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    let shapes: Vec<(&str, &str, &str)> = vec![
        ("(", "1", ")"),
        ("- ", "1", ""),
        ("not ", "x", ""),
        ("", "x", "+x"),
        ("", "x", " collate c"),
        ("", "x", " isnull"),
        ("", "x", "::int"),
        ("", "x", "[1]"),
        ("f(", "1", ")"),
        ("(select ", "1", ")"),
        ("case when ", "1", " then 1 end"),
        ("array[", "1", "]"),
        ("exists(select ", "1", ")"),
        ("coalesce(1,", "1", ")"),
    ];
    let mut texts = Vec::new();
    for (open, middle, close) in shapes {
        for times in [20, 44, 90, 190, 1000, most(&format!("{open}{close}"))] {
            let expression = nested(open, middle, close, times);
            texts.push(format!("select {expression}"));
            texts.push(format!("delete from t where {expression} = 1"));
            texts.push(format!("update t set a = 1 where {expression}"));
        }
    }
    for times in [20, 50, 200, 3000] {
        texts.push(format!("select * from {}", nested("(select * from ", "t", ") a", times)));
        texts.push(format!("select * from {}", nested("(a join ", "b", " on 1=1)", times)));
        texts.push(format!("{}select 1", "with a as (select 1) ".repeat(times)));
        texts.push(nested("with a as (", "select 1", ") select 1", times));
        texts.push(format!("select 1{}", " union select 1".repeat(times)));
        texts.push(format!("select * from a{}", " join a on 1=1".repeat(times)));
        texts.push(format!("select 1 where a{}", " and a or b".repeat(times)));
        texts.push("select 1;".repeat(times));
    }
    let worker = std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(move || texts.iter().for_each(|text| everything(text)));
    worker.unwrap().join().unwrap();
}

#[test]
fn limits_have_their_own_errors() {
    for dialect in DIALECTS {
        let long = format!("select '{}'", "x".repeat(LENGTH_MAX));
        assert!(matches!(explain(dialect, &long, None), Err(SqlError::TooLong { .. })));
        let hidden = explain(dialect, "select 1\0; delete from t", None);
        assert_eq!(hidden, Err(SqlError::ZeroByte { position: 8 }));
        assert_eq!(
            explain(dialect, &format!("select {}", "1+".repeat(5000) + "1"), None),
            Err(SqlError::TooDeep)
        );
        assert_eq!(explain(dialect, "", None), Err(SqlError::Empty));
    }
}
