//! Whatever is changed in the tables of the log, `verify` finds it.

use countersign_gate::ledger::Ledger;

use crate::{
    make::{approval_id, call_id, done, intent, note, parking, requester, signature, stored},
    place::{Place, contract},
};

/// The columns of the log, each with values that it may be given instead. Those that are equal to what is there change
/// nothing, and are not counted.
const COLUMNS: [(&str, &str, &[&str]); 15] = [
    ("entry", "idx", &["-1", "idx + 100000"]),
    ("entry", "leaf", &["OTHER"]),
    ("entry", "at_ms", &["at_ms + 1", "0"]),
    ("entry", "kind", &["'noted'", "'decided'", "''"]),
    ("entry", "agent", &["NULL", "'bot'", "'other'", "''"]),
    ("entry", "session", &["NULL", "'s1'", "'other'"]),
    ("entry", "call", &["NULL", "'call-x'"]),
    ("entry", "approval", &["NULL", "'apr-x'"]),
    ("entry", "bytes", &["OTHER"]),
    ("node", "level", &["16", "7", "-8"]),
    ("node", "idx", &["idx + 100000", "-1"]),
    ("node", "hash", &["OTHER", "EMPTY"]),
    ("checkpoint", "size", &["size + 100000", "size - 1", "-1"]),
    ("checkpoint", "note", &["''", "(SELECT checkpoint FROM log_head)"]),
    ("log_head", "vkey", &["'another'"]),
];

/// What entries are filed by on SQLite.
const FILED: [(&str, &str, &[&str]); 3] = [
    ("entry_place", "what", &["'call'", "'other'"]),
    ("entry_place", "value", &["'other'", "value || 'x'", "''"]),
    ("entry_place", "idx", &["-1", "idx + 100000", "idx + 1000000000000"]),
];

/// The tables of the log.
fn tables(place: &Place) -> Vec<&'static str> {
    let filed = matches!(place, Place::Sqlite(_)).then_some("entry_place");
    ["entry", "node", "checkpoint", "log_head"].into_iter().chain(filed).collect()
}

/// A change of one column of one row, in the dialect of the place.
fn change(place: &Place, (table, column, value): (&str, &str, &str), row: usize) -> String {
    let (other, empty) = match place {
        Place::Sqlite(_) => ("x'0000000000000000000000000000000000000000000000000000000000000000'", "x''"),
        Place::Postgres(_) => {
            ("'\\x0000000000000000000000000000000000000000000000000000000000000000'::bytea", "''::bytea")
        }
    };
    let (value, key) = (
        value.replace("OTHER", other).replace("EMPTY", empty),
        match table {
            "entry" => "idx",
            "node" => "level * 1000000 + idx",
            "entry_place" => "what || ' ' || value || ' ' || idx",
            "checkpoint" => "size",
            _ => "id",
        },
    );
    let distinct = if matches!(place, Place::Sqlite(_)) { "IS NOT" } else { "IS DISTINCT FROM" };
    format!(
        "UPDATE {table} SET {column} = {value} WHERE {column} {distinct} {value} AND {key} = \
         (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET {row} % (SELECT count(*) FROM {table}))"
    )
}

contract! {
    async fn any_changed_column_of_the_log_is_found(place) {
        let ledger = place.open().await;
        ledger.issue(intent("c1")).await.unwrap();
        Ledger::close(&*ledger, done("c1", 1), countersign_gate::ledger::Wait::Durable).await.unwrap();
        ledger.park(parking("a1", stored("c2", &requester("bot", "s1"), "x"))).await.unwrap();
        ledger.answer(&approval_id("a1"), signature("lea", true), note("answered", &call_id("c2"))).await.unwrap();
        for n in 0..6 {
            ledger.record((0..100).map(|m| note("noted", &call_id(&format!("n{n}-{m}")))).collect()).await.unwrap();
        }
        ledger.close().await;
        let ledger = place.open().await;
        let key = Place::key().verifier();
        assert!(ledger.verify(&key, Vec::new()).await.unwrap().verified());

        let tables = tables(&place);
        let cases: Vec<_> = COLUMNS
            .iter()
            .chain(FILED.iter().filter(|(table, _, _)| tables.contains(table)))
            .flat_map(|(table, column, values)| values.iter().map(move |value| (*table, *column, *value)))
            .collect();
        place.execute(&tables.iter().map(|table| format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).collect::<Vec<_>>().join(";")).await;
        let put_back =
            tables.iter().map(|table| format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}"));
        let put_back = put_back.collect::<Vec<_>>().join(";");
        for (number, case) in cases.into_iter().enumerate() {
            // The first, the last, and one that nobody chose.
            for row in [0, usize::MAX >> 34, number * 37 + 5] {
                let changed = place.try_change(&change(&place, case, row)).await;
                let found = ledger.verify(&key, Vec::new()).await.map_or(true, |report| !report.verified());
                assert_eq!(found, changed > 0, "{case:?} of row {row}");
                place.execute(&put_back).await;
            }
        }
        assert!(ledger.verify(&key, Vec::new()).await.unwrap().verified());
        if let Place::Sqlite(_) = place {
            for changed in [
                "DELETE FROM entry_place WHERE what = 'call' AND idx = 5",
                // Of a kind that is not filed, and of an entry that there is not.
                "INSERT INTO entry_place (what, value, idx) SELECT 'kind', kind, idx FROM entry WHERE kind = 'outcome'",
                "INSERT INTO entry_place (what, value, idx) VALUES ('call', 'c2', 1000000)",
            ] {
                place.change(changed).await;
                assert!(!ledger.verify(&key, Vec::new()).await.unwrap().verified(), "{changed}");
                place.execute(&put_back).await;
            }
        }
    }
}
