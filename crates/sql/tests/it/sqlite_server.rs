//! Against a real database: what is called a read is accepted by a connection that may only read, and nearly all that
//! such a connection accepts is called a read.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cases::cases;
use countersign_sql::{Dialect, Effect, Known, explain};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::{Batch, Connection, OpenFlags};

const CORPUS: &str = include_str!("../corpus/sqlite.txt");
const SCHEMA: &str = include_str!("../corpus/sqlite-schema.sql");

struct Scratch(PathBuf);

impl Scratch {
    #[expect(clippy::disallowed_methods, reason = "the test needs a real database file")]
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("sqlite-{}-{number}.db", std::process::id()));
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

/// A database that can only be read, for statements that may be anything.
pub(crate) struct Readable {
    scratch: Scratch,
    connection: Connection,
    before: Vec<u8>,
}

impl Readable {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let (connection, before) = (scratch.open(), std::fs::read(&scratch.0).unwrap());
        Self { scratch, connection, before }
    }

    /// Whether SQLite calls the text read-only; what it says when it does not take it.
    pub(crate) fn run(&self, sql: &str) -> Result<bool, String> {
        run(&self.connection, sql).map_err(|error| error.to_string())
    }

    pub(crate) fn untouched(&self) -> bool {
        std::fs::read(&self.scratch.0).unwrap() == self.before
    }
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

/// The schema as the database itself tells it, those of its own tables included.
#[test]
fn a_catalog_shows_views_triggers_and_cascades() {
    let more = "create trigger t after update on customer begin delete from audit_log; end; analyze";
    let catalog = Known::new(crate::known::sqlite_catalog(more));
    let tables = |sql| {
        let explained = explain(Dialect::Sqlite, sql, Some(&catalog)).unwrap();
        (explained.effect, explained.tables.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(tables("select * from invoice_totals"), (Effect::Read, list(&["invoice", "invoice_totals"])));
    assert_eq!(tables("select * from notes where notes match 'x'"), (Effect::Read, list(&["notes"])));
    assert_eq!(
        tables("delete from customer where id = 1"),
        (Effect::Destructive, list(&["billing", "customer", "invoice"]))
    );
    let (effect, touched) = tables("update customer set name = 'x' where id = 1");
    assert_eq!(effect, Effect::Destructive, "the trigger deletes");
    assert!(touched.contains(&"audit_log".to_owned()));
    // What the database does not hold cannot be classified, and what it holds is not guessed at.
    let code = |sql| {
        explain(Dialect::Sqlite, sql, Some(&catalog))
            .map_err(|error| error.code())
            .map(|explained| explained.effect)
    };
    assert_eq!(code("select * from none_such"), Err("sql_unclassifiable"));
    assert_eq!(code("select none_such from invoice"), Err("sql_unclassifiable"));
    for case in cases(CORPUS) {
        let (Ok(bare), Ok(known)) =
            (explain(Dialect::Sqlite, case.sql, None), explain(Dialect::Sqlite, case.sql, Some(&catalog)))
        else {
            continue;
        };
        assert!(known.effect >= bare.effect, "{}", case.sql);
    }
}
