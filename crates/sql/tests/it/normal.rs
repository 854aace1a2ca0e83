//! The normal form of a statement: what holds a refusal of one spelling against the others.

use countersign_sql::{Dialect, normal};

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
