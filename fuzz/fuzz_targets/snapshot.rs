//! A catalog file is hostile bytes too: it parses or not, and one that does has one text.
#![no_main]

use countersign_sql::{Dialect, Snapshot, explain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(snapshot) = Snapshot::parse(text) else { return };
    let written = snapshot.text().unwrap();
    assert_eq!(Snapshot::parse(&written).unwrap(), snapshot);
    assert!(snapshot.differences(&snapshot).is_empty());
    for sql in ["select f(a + b), x.c from t x", "delete from t where a = 1"] {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            explain(dialect, sql, Some(&snapshot.catalog)).ok();
        }
    }
});
