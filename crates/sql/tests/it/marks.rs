//! A mark of a byte order (U+FEFF) is skipped where the database skips it, and nowhere else. PostgreSQL's server takes it
//! for a letter wherever it stands (psql takes one off the beginning of a file, before anything is sent); SQLite takes it
//! for a blank where a token may begin.

use countersign_sql::{Dialect, Effect, SqlError, explain};
use rusqlite::Connection;

use crate::postgres_server::servers;

const MARK: &str = "\u{feff}";

/// The text with a mark at each place where one may stand.
fn marked(sql: &str) -> impl Iterator<Item = String> {
    let places = sql.char_indices().map(|(place, _)| place).chain([sql.len()]);
    places.map(|place| format!("{}{MARK}{}", &sql[..place], &sql[place..]))
}

#[test]
fn sqlite_skips_a_mark_where_a_token_may_begin() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(include_str!("../corpus/sqlite-schema.sql")).unwrap();
    let (mut skipped, mut refused) = (0, 0);
    for sql in [
        "select id, 'it''s', \"name\", [email], `kind` from customer where id = 5 -- a comment",
        "select /* one */ total+1, x'00ff', 1.5e3, ?, ?2 from invoice /*/ two */ where currency <> ''",
        "select :name, @other, $third from customer",
        "with c as (select 1 as one) select one from c order by 1 limit 2",
        "update customer set name = 'x' where id = 5",
        "delete from billing where amount >= 10 and note is not null",
        "insert into audit_log (entry) values ('a'), ('b')",
        "pragma table_info(invoice)",
    ] {
        let plain = explain(Dialect::Sqlite, sql, None).unwrap();
        // A comment that does not end is one to SQLite, and refused here, with a mark or without.
        for text in marked(sql).filter(|text| !text.contains("*\u{feff}/")) {
            let explained = explain(Dialect::Sqlite, &text, None);
            match connection.prepare(&text) {
                Ok(statement) => {
                    let explained =
                        explained.unwrap_or_else(|error| panic!("SQLite takes it: {error}: {text:?}"));
                    assert!(explained.effect != Effect::Read || statement.readonly(), "{text:?}");
                    // A pragma of another name is none that is known.
                    assert!(explained.effect >= plain.effect, "{text:?}");
                    skipped += 1;
                }
                // A word with a mark in it is another word: a name that is not there, or no SQL at all.
                Err(error) => {
                    refused += 1;
                    let syntax = error.to_string().contains("unrecognized token")
                        || error.to_string().contains("syntax error");
                    assert!(explained.is_err() || !syntax, "SQLite refuses it: {error}: {text:?}");
                }
            }
        }
    }
    assert!(skipped > 150 && refused > 150, "{skipped} skipped, {refused} refused");
    let begun = explain(Dialect::Sqlite, "\u{feff}select 1", None).unwrap();
    assert_eq!(begun.effect, Effect::Read);
    assert!(explain(Dialect::Sqlite, "select\u{feff}1", None).is_err(), "one word");
    assert!(explain(Dialect::Sqlite, "\u{feff}", None).is_err(), "nothing is left");
}

#[tokio::test]
async fn postgres_takes_a_mark_for_a_letter() {
    for client in servers().await {
        let (mut accepted, mut refused) = (0, 0);
        for sql in [
            "select 1 as one, 'it''s', \"x\" from (values (1)) v (x) where x = 5 -- a comment",
            "select /* one */ 1+1, e'\\x41', b'01', $q$a$q$ from pg_class",
            "update customer set name = 'x' where id = 5",
            "delete from customer where id is not null",
        ] {
            for text in marked(sql) {
                let ours = explain(Dialect::Postgres, &text, None);
                // What a name means is asked after the text was read.
                let syntax = match client.prepare(&text).await {
                    Ok(_) => false,
                    Err(error) => error.code().is_some_and(|code| code.code() == "42601"),
                };
                assert_eq!(matches!(ours, Err(SqlError::Syntax { .. })), syntax, "{text:?}: {ours:?}");
                if syntax { refused += 1 } else { accepted += 1 }
            }
        }
        assert!(accepted > 100 && refused > 30, "{accepted} accepted, {refused} refused");
        let begun = client.simple_query("\u{feff}select 1").await.unwrap_err();
        assert_eq!(begun.code().map(|code| code.code()), Some("42601"));
        assert!(explain(Dialect::Postgres, "\u{feff}select 1", None).is_err());
    }
}
