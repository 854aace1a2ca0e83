//! What is called a read, SQLite's own compiler calls read-only, and it names every table that the compiler reads; with
//! a catalog as well as without; and no statement leaves anything behind for the next one.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex};

use countersign_fuzz::{SQLITE_SCHEMA, hash, panics_end_the_run, respelled_sqlite};
use countersign_sql::{
    Catalog, Dialect, Effect, Explained, Known, RowSource, explain, fingerprint, normalize, reach_query,
};
use libfuzzer_sys::fuzz_target;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Batch, Connection, fallible_iterator::FallibleIterator as _};

type Heard = Arc<Mutex<BTreeSet<String>>>;

thread_local! {
    static DATABASE: RefCell<(Connection, Heard)> = RefCell::new(database());
}

static CATALOG: LazyLock<Known> = LazyLock::new(|| {
    let (connection, _) = database();
    let mut rows =
        connection.prepare("select sql from sqlite_schema where sql is not null order by rowid").unwrap();
    let schema = rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    Known::new(Catalog { schema, ..Catalog::default() })
});

/// The database of the corpus, with an ear for the tables that are read, those behind views excepted.
fn database() -> (Connection, Heard) {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(SQLITE_SCHEMA).unwrap();
    let heard = Heard::default();
    let ears = Arc::clone(&heard);
    connection
        .authorizer(Some(move |context: AuthContext<'_>| match context.action {
            AuthAction::Read { table_name, .. } => {
                if context.accessor.is_none() {
                    ears.lock().unwrap().insert(table_name.to_ascii_lowercase());
                }
                Authorization::Allow
            }
            // A pragma may act while it is compiled.
            AuthAction::Pragma { .. } => Authorization::Deny,
            _ => Authorization::Allow,
        }))
        .unwrap();
    (connection, heard)
}

fuzz_target!(init: panics_end_the_run(), |text: &str| {
    let dialect = Dialect::Sqlite;
    let bare = explain(dialect, text, None);
    let known = explain(dialect, text, Some(&CATALOG));
    fingerprint(dialect, text).ok();
    let normal = normalize(dialect, text).ok();

    for (answer, catalog) in [(&bare, None), (&known, Some(&*CATALOG))] {
        let Ok(explained) = answer else { continue };
        assert_eq!(explain(dialect, text, catalog).as_ref(), Ok(explained), "two answers");
        assert_eq!(explained.effect, explained.statements.iter().map(|one| one.effect).max().unwrap());
        if explained.effect == Effect::Read {
            assert!(explained.statements.iter().all(|one| one.writes.is_empty()), "a read that writes");
            compiled(text, explained);
        }
        for (before, after) in [("", "\n; select 1"), ("select 1;", ""), ("/* ' */\n", "\n-- \" '")] {
            let Ok(both) = explain(dialect, &format!("{before}{text}{after}"), catalog) else { continue };
            assert!(both.effect >= explained.effect, "laxer beside {before}{after}");
        }
        if let Some(other) = respelled_sqlite(text) {
            let again = explain(dialect, &other, catalog).expect("it is the same in other letters");
            assert_eq!(again.effect, explained.effect, "respelled: {other}");
            assert_eq!(again.tables, explained.tables, "respelled: {other}");
            assert_eq!(again.functions, explained.functions, "respelled: {other}");
        }
        if let Some(normal) = normal.as_ref().and_then(|text| explain(dialect, text, catalog).ok()) {
            assert_eq!(normal.effect == Effect::Read, explained.effect == Effect::Read, "normalized");
        }
        if let Ok(reach) = reach_query(dialect, text, catalog)
            && let RowSource::Query { .. } = reach.source
        {
            let count = explain(dialect, &reach.count(10).text, catalog).expect("a count is a statement");
            assert_eq!(count.effect, Effect::Read, "{}", reach.count(10).text);
            assert!(explained.statements[0].writes.contains(&reach.target), "counts another table");
        }
    }
    if let (Ok(bare), Ok(known)) = (&bare, &known) {
        assert!(known.effect >= bare.effect, "laxer with a catalog");
    }
    if hash(text) % 16 == 0 {
        // What was compiled before is forgotten: a catalog nobody has asked yet says the same.
        assert_eq!(explain(dialect, text, Some(&Known::new(CATALOG.catalog().clone()))), known, "something was left behind");
    }
});

/// Compiled, never run.
fn compiled(text: &str, explained: &Explained) {
    DATABASE.with_borrow(|(connection, heard)| {
        heard.lock().unwrap().clear();
        let mut batch = Batch::new(connection, text);
        while let Ok(Some(statement)) = batch.next() {
            // A change that is only explained looks into the tables its foreign keys link to.
            if statement.is_explain() > 0 {
                heard.lock().unwrap().clear();
                continue;
            }
            assert!(statement.readonly(), "called a read");
        }
        for table in heard.lock().unwrap().iter() {
            let own =
                table.starts_with("sqlite_") || table.starts_with("pragma_") || table.starts_with("json");
            let named = explained.tables.iter().any(|named| named.name == *table);
            assert!(own || named, "reads `{table}` and does not say so");
        }
    });
}
