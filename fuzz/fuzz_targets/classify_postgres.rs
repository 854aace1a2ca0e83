//! Any text has an answer or an error, the same one each time, and nothing said of it is lost when it is sized.
#![no_main]

use countersign_sql::{Dialect, Effect, RowSource, explain, fingerprint, normalize, reach_query};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let dialect = Dialect::Postgres;
    let first = explain(dialect, text, None);
    assert_eq!(first, explain(dialect, text, None));
    fingerprint(dialect, text).ok();
    normalize(dialect, text).ok();
    if let Ok(explained) = &first {
        assert_eq!(explained.effect, explained.statements.iter().map(|s| s.effect).max().unwrap());
        // Two statements are never laxer than one of them.
        let both = explain(dialect, &format!("{text}\n; select 1"), None);
        if let Ok(both) = both {
            assert!(both.effect >= explained.effect, "{text}");
        }
    }
    if let Ok(reach) = reach_query(dialect, text, None)
        && let RowSource::Query { .. } = reach.source
    {
        let count = explain(dialect, &reach.count(10).text, None).expect("a count is a statement");
        assert_eq!(count.effect, Effect::Read, "{}", reach.count(10).text);
    }
});
