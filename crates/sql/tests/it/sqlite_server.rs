//! Against a real database: what is called a read is accepted by a connection that may only read, and nearly all that
//! such a connection accepts is called a read.

use std::path::PathBuf;

use crate::cases::cases;
use countersign_sql::{Dialect, Effect, explain};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::{Batch, Connection, OpenFlags};

const CORPUS: &str = include_str!("../corpus/sqlite.txt");
const SCHEMA: &str = include_str!("../corpus/sqlite-schema.sql");

struct Scratch(PathBuf);

impl Scratch {
    #[expect(clippy::disallowed_methods, reason = "the test needs a real database file")]
    fn new() -> Self {
        let path =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("sqlite-{}.db", std::process::id()));
        std::fs::remove_file(&path).ok();
        Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
        Self(path)
    }

    #[expect(clippy::disallowed_methods, reason = "the test needs a real database file")]
    fn open(&self) -> Connection {
        let connection = Connection::open_with_flags(&self.0, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        connection.pragma_update(None, "query_only", true).unwrap();
        connection
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// Runs every statement of the text to its end, with every parameter NULL.
fn run(connection: &Connection, sql: &str) -> rusqlite::Result<bool> {
    let mut batch = Batch::new(connection, sql);
    let mut readonly = true;
    while let Some(mut statement) = batch.next()? {
        readonly &= statement.readonly() || statement.is_explain() > 0;
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
    }
    Ok(readonly)
}

#[test]
fn what_is_called_a_read_is_one_and_nearly_every_read_is_called_one() {
    let scratch = Scratch::new();
    let before = std::fs::read(&scratch.0).unwrap();
    let (mut accepted, mut proved, mut wrong) = (0_u32, 0_u32, Vec::new());
    for case in cases(CORPUS) {
        let Ok(explained) = explain(Dialect::Sqlite, case.sql, None) else { continue };
        let read = explained.effect == Effect::Read;
        let harmless = case.heading.starts_with("read") || case.heading == "cautious";
        if !read && !harmless {
            continue;
        }
        match run(&scratch.open(), case.sql) {
            Ok(true) => {
                accepted += u32::from(harmless);
                proved += u32::from(harmless && read);
            }
            Ok(false) if !read => {}
            Ok(false) => wrong.push(format!("SQLite does not call it read-only: {}", case.sql)),
            Err(error) => wrong.push(format!("{error}: {}", case.sql)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(accepted > 100, "only {accepted} accepted");
    assert!(proved * 100 >= accepted * 95, "{proved} of {accepted}");
    assert_eq!(before, std::fs::read(&scratch.0).unwrap(), "a read changed the file");
}

/// With the real schema the answers are the same, and views and cascades show.
#[test]
fn a_catalog_shows_views_triggers_and_cascades() {
    let trigger = "create trigger t after update on customer begin delete from audit_log; end";
    let schema = SCHEMA
        .lines()
        .filter(|line| line.starts_with("create"))
        .chain([trigger])
        .map(str::to_owned)
        .collect();
    let catalog = countersign_sql::Catalog { schema, ..countersign_sql::Catalog::default() };
    let tables = |sql| {
        let explained = explain(Dialect::Sqlite, sql, Some(&catalog)).unwrap();
        (explained.effect, explained.tables.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(
        tables("select * from invoice_totals"),
        (Effect::Read, vec!["invoice".to_owned(), "invoice_totals".to_owned()])
    );
    let (effect, touched) = tables("delete from customer where id = 1");
    assert_eq!(effect, Effect::Destructive);
    assert!(["invoice", "billing"].iter().all(|table| touched.contains(&(*table).to_owned())), "{touched:?}");
    let (effect, touched) = tables("update customer set name = 'x' where id = 1");
    assert_eq!(effect, Effect::Destructive, "the trigger deletes");
    assert!(touched.contains(&"audit_log".to_owned()));
}
