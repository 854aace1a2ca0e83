//! Thousands of statements at random, judged by a real database and by us. No write is called a read, and of what only
//! reads nearly everything is called so.
//!
//! **Harmless** is what the test calls a statement that (1) the database accepts where it may only read, and that
//! (2) leaves no trace in a transaction that may write: no transaction number, no lock beyond that of a read, no setting,
//! cursor, prepared statement or channel. A read-only transaction alone is not the measure: PostgreSQL accepts in it
//! `set_config`, advisory locks, cursors, `pg_sleep`, reading and writing files of the server, stopping other sessions,
//! text run as SQL, and `nextval` of a temporary sequence. A statement that (3) holds a call that changes something and
//! only did not come to run it, because no row was left or another branch was taken, is not counted as harmless either. What
//! leaves no trace that a session can see (files, signals, sleep, notifications) is not among these statements: the corpora and
//! `hidden_calls` hold that none is called a read. Nor are views over functions that write, and such functions as attributes:
//! no text can tell them from tables and columns. `tools` repeats the comparison with them, with a catalog.

use std::collections::BTreeMap;

use countersign_sql::{Dialect, Effect, Explained, explain};

use crate::chance::Chance;
use crate::postgres_server::{Scratch, only};
use crate::respelled::respelled;
use crate::sqlite_server::Readable;
use crate::statements::Maker;

const POSTGRES_STATEMENTS: usize = 4_000;
const SQLITE_STATEMENTS: usize = 2_000;
const SEED: u64 = 0x0c0f_fee0;

/// What came of it.
#[derive(Default)]
struct Tally {
    /// Refused where one may only read, or with traces.
    harmful: u32,
    harmless: u32,
    called_read: u32,
    /// Holds a call that changes something, which did not come to run: neither.
    dormant: u32,
    /// Not valid for the database, and so without a truth to compare with.
    failed: u32,
    wrong: Vec<String>,
    missed: BTreeMap<&'static str, u32>,
}

impl Tally {
    fn judge(&mut self, sql: &str, explained: &Explained, harmless: Option<bool>, said: &str) {
        let read = explained.effect == Effect::Read;
        match harmless {
            Some(true) => {
                self.harmless += 1;
                self.called_read += u32::from(read);
                if !read {
                    let code = explained.reasons.first().map_or("none", |reason| reason.code);
                    *self.missed.entry(code).or_default() += 1;
                }
            }
            Some(false) => {
                self.harmful += 1;
                if read {
                    self.wrong.push(format!("called a read, and {said}: {sql}"));
                }
            }
            None => self.failed += 1,
        }
    }

    fn hold(&self, dialect: Dialect, statements: usize) {
        println!(
            "{dialect}: {statements} statements, {} that change something, {} of them called a read; {} harmless, {} of them \
             called a read ({:.1} %); {} dormant; {} not valid; called otherwise for {:?}",
            self.harmful,
            self.wrong.len(),
            self.harmless,
            self.called_read,
            f64::from(self.called_read) * 100.0 / f64::from(self.harmless),
            self.dormant,
            self.failed,
            self.missed,
        );
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        assert!(self.called_read * 100 >= self.harmless * 95, "{} of {}", self.called_read, self.harmless);
        let statements = u32::try_from(statements).unwrap();
        assert!(self.harmful * 6 > statements, "only {} change something", self.harmful);
        assert!(self.harmless * 4 > statements, "only {} are harmless", self.harmless);
        assert!(self.failed * 10 < statements, "{} could not be compared", self.failed);
    }
}

#[tokio::test]
async fn postgres_agrees() {
    let scratch = Scratch::new("differential").await;
    let (mut maker, mut chance) = (Maker::new(Dialect::Postgres, SEED, false), Chance::new(SEED));
    let mut tally = Tally::default();
    for _ in 0..POSTGRES_STATEMENTS {
        let sql = maker.statement();
        let explained =
            explain(Dialect::Postgres, &sql, None).unwrap_or_else(|error| panic!("{error}: {sql}"));
        spelled_alike(Dialect::Postgres, &sql, &explained, &mut chance);
        match scratch.accepted(&sql).await {
            // 25006: read_only_sql_transaction
            Err(said) if said.starts_with("25006") => tally.judge(&sql, &explained, Some(false), &said),
            Err(said) => tally.judge(&sql, &explained, None, &said),
            Ok(()) => match scratch.traces(&sql).await {
                Ok(traces) => {
                    // Planning a change of rows takes the lock of one, and gives it back with the transaction.
                    let planned = sql.starts_with("explain ") && only(&traces, "RowExclusiveLock");
                    let harmless = traces.is_empty() || planned;
                    if harmless && maker.armed {
                        tally.dormant += 1;
                    } else {
                        tally.judge(&sql, &explained, Some(harmless), &format!("leaves {traces}"));
                    }
                }
                Err(said) => tally.judge(&sql, &explained, None, &said),
            },
        }
    }
    scratch.drop().await;
    tally.hold(Dialect::Postgres, POSTGRES_STATEMENTS);
}

#[test]
fn sqlite_agrees() {
    let readable = Readable::new();
    let (mut maker, mut chance) = (Maker::new(Dialect::Sqlite, SEED, false), Chance::new(SEED));
    let mut tally = Tally::default();
    for _ in 0..SQLITE_STATEMENTS {
        let sql = maker.statement();
        let explained = explain(Dialect::Sqlite, &sql, None).unwrap_or_else(|error| panic!("{error}: {sql}"));
        spelled_alike(Dialect::Sqlite, &sql, &explained, &mut chance);
        match readable.run(&sql) {
            Ok(true) => tally.judge(&sql, &explained, Some(true), ""),
            Ok(false) => tally.judge(&sql, &explained, Some(false), "SQLite does not call it read-only"),
            Err(said) if said.contains("readonly database") => {
                tally.judge(&sql, &explained, Some(false), &said)
            }
            Err(said) => tally.judge(&sql, &explained, None, &said),
        }
    }
    assert!(readable.untouched(), "a statement changed the file");
    tally.hold(Dialect::Sqlite, SQLITE_STATEMENTS);
}

/// However it is written, it is the same statement.
fn spelled_alike(dialect: Dialect, sql: &str, explained: &Explained, chance: &mut Chance) {
    let other = respelled(sql, chance);
    let again = explain(dialect, &other, None).unwrap_or_else(|error| panic!("{error}: {other}"));
    assert_eq!(again.effect, explained.effect, "{sql}\n{other}");
    assert_eq!(again.tables, explained.tables, "{sql}\n{other}");
    assert_eq!(again.functions, explained.functions, "{sql}\n{other}");
}
