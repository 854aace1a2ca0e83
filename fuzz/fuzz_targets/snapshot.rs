//! A catalog file is hostile bytes too: it parses or not, one that does has one text, and whatever it says, it never
//! brings a classification down and never makes a read of what no catalog can make one.
#![no_main]

use countersign_fuzz::panics_end_the_run;
use countersign_sql::{Dialect, Effect, Known, Snapshot, explain};
use libfuzzer_sys::fuzz_target;

const STATEMENTS: [(&str, Effect); 7] = [
    ("select f(a + b), x.c from t x join v on s(x.a) = v.a where a::d > 1", Effect::Read),
    ("select count(*) from v", Effect::Read),
    ("select nextval('s') from t", Effect::Write),
    ("insert into t (a) values (1)", Effect::Write),
    ("update v set a = 1 where a = 2", Effect::Write),
    ("delete from t where a = 1", Effect::Destructive),
    ("drop table t", Effect::Destructive),
];

fuzz_target!(init: panics_end_the_run(), |text: &str| {
    let Ok(snapshot) = Snapshot::parse(text) else { return };
    let written = snapshot.text().unwrap();
    assert_eq!(Snapshot::parse(&written).unwrap(), snapshot);
    assert!(snapshot.differences(&snapshot).is_empty());
    let catalog = Known::new(snapshot.catalog);
    for (sql, least) in STATEMENTS {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            let Ok(bare) = explain(dialect, sql, None) else { continue };
            let Ok(known) = explain(dialect, sql, Some(&catalog)) else { continue };
            assert!(known.effect >= least, "laxer with a catalog: {sql}");
            assert!(known.tables.is_superset(&bare.tables), "tables lost with a catalog: {sql}");
        }
    }
});
