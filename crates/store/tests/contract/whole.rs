//! A ledger that lacks an entry, wherever, is not opened; and finding that out takes statements that end soon.

use std::collections::BTreeMap;

use countersign_gate::ledger::Ledger;
use countersign_store::{Found, Options, Store, StoreError};

use crate::{
    make::{call_id, note},
    place::{Place, contract},
    visits::{listened, visits},
};

/// More than are counted at once, and the last range is none that is full.
const ENTRIES: usize = 12_100;

/// One statement may visit so many, in the measure of [`visits`]: each of a range, and not each of the ledger.
const fn visits_max(place: &Place) -> u64 {
    match place {
        Place::Sqlite(_) => 24_000,
        Place::Postgres(_) => 2_000,
    }
}

async fn fill(place: &Place) {
    let ledger = place.open().await;
    ledger.record((0..ENTRIES).map(|n| note("noted", &call_id(&format!("n{n}")))).collect()).await.unwrap();
    Store::close(&ledger).await;
}

/// What a start says of the ledger, and what a look at it says, which must be the same.
async fn whole(place: &Place) -> Result<(), StoreError> {
    let opened = place.open_with(Options::default()).await;
    let (key, options) = (Place::key().verifier(), Options::default());
    let looked = match place {
        Place::Sqlite(_) => Store::look_sqlite(&place.path(), &key, &options).await,
        Place::Postgres(database) => Store::look_postgres(database.url(), &key, &options).await,
    };
    match opened {
        Ok(ledger) => {
            Store::close(&ledger).await;
            assert_eq!(looked, Ok(Found::Ledger { entries: ENTRIES.try_into().unwrap() }));
            Ok(())
        }
        Err(why) => {
            assert_eq!(looked.as_ref(), Err(&why));
            Err(why)
        }
    }
}

/// Neither at a start nor while the whole log is verified.
async fn no_statement_visits_every_entry(place: &Place) {
    place.execute("ANALYZE").await;
    let (asked, options) = listened();
    let ledger = place.open_with(options).await.unwrap();
    assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
    Store::close(&ledger).await;
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    assert!(asked.iter().filter(|(sql, _params)| sql.contains("count(*) FROM entry")).count() == 13);
    let mut times = BTreeMap::<&str, usize>::new();
    for (sql, params) in asked.iter().filter(|(sql, _params)| sql.starts_with("SELECT")) {
        let times = times.entry(sql).or_default();
        *times += 1;
        // Of those that are asked for every tile, a few.
        if *times > 3 {
            continue;
        }
        let visited = visits(place, sql, params).await;
        assert!(visited <= visits_max(place), "{visited}: {sql} {params:?}");
    }
}

contract! {
    async fn a_gap_anywhere_is_found_at_a_start_by_statements_that_end_soon(place) {
        fill(&place).await;
        let damaged = Err(StoreError::Damaged("entries of its log are missing".into()));
        for gap in [0, 999, 1_000, 4_321, 9_999, 10_000, 12_099] {
            place
                .execute(&format!(
                    "CREATE TABLE kept AS SELECT * FROM entry WHERE idx = {gap}; DELETE FROM entry WHERE idx = {gap}"
                ))
                .await;
            assert_eq!(whole(&place).await, damaged, "without {gap}");
            place.execute("INSERT INTO entry SELECT * FROM kept; DROP TABLE kept").await;
        }
        assert_eq!(whole(&place).await, Ok(()));
        // Where another stands in its place, there are as many as there were.
        for index in [-1, 12_100] {
            place.change(&format!("UPDATE entry SET idx = {index} WHERE idx = 4321")).await;
            assert_eq!(whole(&place).await, damaged, "with {index}");
            place.change(&format!("UPDATE entry SET idx = 4321 WHERE idx = {index}")).await;
        }
        // A head that is beyond all entries.
        place.execute("CREATE TABLE kept AS SELECT * FROM entry; DELETE FROM entry").await;
        assert_eq!(whole(&place).await, damaged);
        place.execute("INSERT INTO entry SELECT * FROM kept; DROP TABLE kept").await;
        no_statement_visits_every_entry(&place).await;
    }
}
