//! What is called a read, SQLite's own compiler calls read-only.
#![no_main]

use std::cell::RefCell;

use countersign_sql::{Dialect, Effect, explain, fingerprint, normalize, reach_query};
use libfuzzer_sys::fuzz_target;
use rusqlite::{Batch, Connection, fallible_iterator::FallibleIterator as _};

const SCHEMA: &str = include_str!("../../crates/sql/tests/corpus/sqlite-schema.sql");

thread_local! {
    static DATABASE: RefCell<Connection> = RefCell::new({
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection
    });
}

fuzz_target!(|text: &str| {
    let dialect = Dialect::Sqlite;
    let answer = explain(dialect, text, None);
    fingerprint(dialect, text).ok();
    normalize(dialect, text).ok();
    reach_query(dialect, text, None).ok();
    let Ok(explained) = answer else { return };
    if explained.effect != Effect::Read {
        return;
    }
    DATABASE.with_borrow(|connection| {
        let mut batch = Batch::new(connection, text);
        // Compiled, never run.
        while let Ok(Some(statement)) = batch.next() {
            assert!(statement.readonly() || statement.is_explain() > 0, "called a read: {text}");
        }
    });
});
