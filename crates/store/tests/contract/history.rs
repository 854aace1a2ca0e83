//! A ledger that went back, was lost, exchanged or is shared, and is noticed before anything is signed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use countersign_gate::ledger::{Ledger, LedgerFault};
use countersign_store::{Opening, Options, Store, StoreBeside, StoreError};
use tempfile::TempDir;

use crate::{
    make::{call_id, note},
    place::Place,
};

/// A ledger with the file that its newest checkpoint is kept in.
struct Kept {
    folder: TempDir,
    place: Place,
}

impl Kept {
    fn new(place: Place) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), place }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("log.key.checkpoint")
    }

    fn options(&self) -> Options {
        Options { checkpoint: Some(self.file()), ..Options::default() }
    }

    async fn open(&self) -> Result<Arc<Store>, StoreError> {
        self.place.open_with(self.options()).await
    }

    /// A ledger with so many more entries, closed.
    async fn grow(&self, entries: usize) {
        let store = self.open().await.unwrap();
        record(&store, entries).await.unwrap();
        Store::close(&store).await;
    }
}

async fn record(store: &Store, entries: usize) -> Result<(), LedgerFault> {
    for n in 0..entries {
        store.record(vec![note("noted", &call_id(&format!("n{n}")))]).await?;
    }
    Ok(())
}

/// A copy of the file, whole.
fn back_up(place: &Place, to: &Path) {
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    connection.execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
}

fn put_back(place: &Place, from: &Path) {
    for part in ["-wal", "-shm"] {
        let mut path = place.path().into_os_string();
        path.push(part);
        fs::remove_file(path).ok();
    }
    fs::copy(from, place.path()).unwrap();
}

/// Everything of the log, to be put back later.
const SAVE: [&str; 4] = [
    "CREATE TABLE old_head AS SELECT * FROM log_head",
    "CREATE TABLE old_entry AS SELECT * FROM entry",
    "CREATE TABLE old_node AS SELECT * FROM node",
    "CREATE TABLE old_checkpoint AS SELECT * FROM checkpoint",
];
const PUT_BACK: [&str; 8] = [
    "DELETE FROM log_head",
    "INSERT INTO log_head SELECT * FROM old_head",
    "DELETE FROM entry",
    "INSERT INTO entry SELECT * FROM old_entry",
    "DELETE FROM node",
    "INSERT INTO node SELECT * FROM old_node",
    "DELETE FROM checkpoint",
    "INSERT INTO checkpoint SELECT * FROM old_checkpoint",
];

async fn execute(place: &Place, statements: &[&str]) {
    match place {
        Place::Sqlite(_) => {
            let connection = rusqlite::Connection::open(place.path()).unwrap();
            connection.execute_batch(&format!("BEGIN IMMEDIATE; {}; COMMIT", statements.join("; "))).unwrap();
        }
        Place::Postgres(database) => {
            let client = database.connect().await;
            client.batch_execute(&format!("BEGIN; {}; COMMIT", statements.join("; "))).await.unwrap();
        }
    }
}

fn went_back(fault: &LedgerFault) -> bool {
    matches!(fault, LedgerFault::Damaged(why) if why.contains("it went back"))
}

async fn tables_put_back_under_a_running_server_stop_it(place: Place) {
    let kept = Kept::new(place);
    let store = kept.open().await.unwrap();
    record(&store, 3).await.unwrap();
    execute(&kept.place, &SAVE).await;
    record(&store, 2).await.unwrap();
    let newest = store.log_head().await.unwrap();
    execute(&kept.place, &PUT_BACK).await;
    for _ in 0..2 {
        let fault = record(&store, 1).await.unwrap_err();
        assert!(went_back(&fault), "{fault}");
        assert!(went_back(&store.prove_writable().await.unwrap_err()));
        assert_eq!(store.log_head().await.unwrap().size, 3, "nothing is signed");
    }
    Store::close(&store).await;
    // What it had signed is kept, and stops the next start, also with the old head signed on by another server.
    let refused = kept.open().await.unwrap_err();
    assert_eq!(refused, StoreError::WentBack { path: kept.file(), kept: newest.size, found: 3 });
    let other = kept.place.open().await;
    for _ in 0..7 {
        other.record(vec![note("other", &call_id("o"))]).await.unwrap();
    }
    Store::close(&other).await;
    let refused = kept.open().await.unwrap_err();
    assert_eq!(refused, StoreError::WentBack { path: kept.file(), kept: newest.size, found: 10 });
    assert!(refused.to_string().contains("dangerous-restart"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_tables_put_back_under_a_running_server_stop_it() {
    tables_put_back_under_a_running_server_stop_it(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_tables_put_back_under_a_running_server_stop_it() {
    tables_put_back_under_a_running_server_stop_it(Place::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_of_at_least_the_same_size_stops_a_running_server() {
    let place = Place::postgres().await;
    let one = place.open().await;
    record(&one, 3).await.unwrap();
    execute(&place, &SAVE).await;
    record(&one, 1).await.unwrap();
    execute(&place, &PUT_BACK).await;
    // One that knows nothing of it signs on. The first sees another history.
    let other = place.open().await;
    other.record(vec![note("other", &call_id("o"))]).await.unwrap();
    other.record(vec![note("other", &call_id("o"))]).await.unwrap();
    assert!(went_back(&record(&one, 1).await.unwrap_err()));
    assert_eq!(one.log_head().await.unwrap().size, 5);
    // Others that continue what it saw do not stop a server, however much they append.
    let (one, other) = (place.open().await, place.open().await);
    record(&one, 1).await.unwrap();
    let many = (0..20_500).map(|n| note("noted", &call_id(&format!("m{n}")))).collect();
    other.record(many).await.unwrap();
    record(&one, 1).await.unwrap();
    let report = one.verify(&Place::key().verifier(), Vec::new()).await.unwrap();
    assert!(report.verified(), "{:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_put_in_place_is_refused_until_it_is_accepted() {
    let kept = Kept::new(Place::sqlite());
    kept.grow(3).await;
    let backup = kept.folder.path().join("backup.db");
    back_up(&kept.place, &backup);
    kept.grow(2).await;
    put_back(&kept.place, &backup);
    let refused = kept.open().await.unwrap_err();
    assert_eq!(refused, StoreError::WentBack { path: kept.file(), kept: 5, found: 3 });
    // A key is not issued beside it either, and it can be looked at.
    let beside = StoreBeside::open(&kept.place.path(), Place::key(), &kept.options()).await;
    assert_eq!(beside.unwrap_err(), refused);
    let looked = Store::open_sqlite_read_only(&kept.place.path(), &Options::default()).unwrap();
    assert_eq!(looked.log_head().await.unwrap().size, 3);

    let accepted = Options { opening: Opening::DangerouslyAccepted, ..kept.options() };
    let store = kept.place.open_with(accepted).await.unwrap();
    assert_eq!(fs::read_to_string(kept.file()).unwrap().lines().nth(1), Some("5"), "nothing is accepted yet");
    record(&store, 1).await.unwrap();
    Store::close(&store).await;
    kept.grow(1).await;
    assert_eq!(fs::read_to_string(kept.file()).unwrap().lines().nth(1), Some("5"));
}

async fn a_lost_ledger_begins_no_other_log(place: Place) {
    let kept = Kept::new(place);
    kept.grow(3).await;
    match &kept.place {
        Place::Sqlite(_) => fs::remove_file(kept.place.path()).unwrap(),
        Place::Postgres(_) => {
            execute(&kept.place, &["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"]).await
        }
    }
    let lost = StoreError::Lost { path: kept.file(), size: 3 };
    assert_eq!(kept.open().await.unwrap_err(), lost);
    if let Place::Sqlite(_) = &kept.place {
        assert!(!kept.place.path().exists(), "nothing was made");
        fs::write(kept.place.path(), "").unwrap();
        assert_eq!(kept.open().await.unwrap_err(), lost);
    }
    let accepted = Options { opening: Opening::DangerouslyAccepted, ..kept.options() };
    Store::close(&kept.place.open_with(accepted).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_sqlite_ledger_begins_no_other_log() {
    a_lost_ledger_begins_no_other_log(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_postgres_ledger_begins_no_other_log() {
    a_lost_ledger_begins_no_other_log(Place::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_witness_holds_is_compared() {
    let kept = Kept::new(Place::sqlite());
    kept.grow(3).await;
    let backup = kept.folder.path().join("backup");
    back_up(&kept.place, &backup);
    let before = fs::read(kept.file()).unwrap();
    kept.grow(1).await;
    let witness = kept.folder.path().join("witness");
    fs::copy(kept.file(), &witness).unwrap();
    let options = Options { witnesses: vec![witness.clone()], ..kept.options() };
    Store::close(&kept.place.open_with(options.clone()).await.unwrap()).await;
    // Ledger and file put back together: only the witness knows.
    put_back(&kept.place, &backup);
    fs::write(kept.file(), before).unwrap();
    let refused = kept.place.open_with(options.clone()).await.unwrap_err();
    assert_eq!(refused, StoreError::WentBack { path: witness.clone(), kept: 4, found: 3 });
    for text in ["", "no note"] {
        fs::write(&witness, text).unwrap();
        assert!(matches!(kept.place.open_with(options.clone()).await, Err(StoreError::Kept { .. })));
    }
    fs::remove_file(&witness).unwrap();
    assert!(matches!(kept.place.open_with(options).await, Err(StoreError::Kept { .. })));
}

async fn missing_entries_and_tables_are_refused(place: Place) {
    let kept = Kept::new(place);
    kept.grow(4).await;
    kept.place.change("DELETE FROM entry WHERE idx = 1").await;
    assert!(matches!(kept.open().await, Err(StoreError::Damaged(_))));
    execute(&kept.place, &["DROP TABLE approval_group"]).await;
    let refused = kept.open().await.unwrap_err();
    assert_eq!(refused, StoreError::Damaged("its table `approval_group` is missing".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_ledger_without_some_entries_or_tables_is_refused() {
    missing_entries_and_tables_are_refused(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_ledger_without_some_entries_or_tables_is_refused() {
    missing_entries_and_tables_are_refused(Place::postgres().await).await;
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_as_it_is() {
    let place = Place::sqlite();
    for sql in [
        "CREATE TABLE invoice (id)",
        "CREATE TABLE migration (version INTEGER)",
        "CREATE TABLE entry (version)",
    ] {
        let other = rusqlite::Connection::open(place.path()).unwrap();
        other.execute_batch(sql).unwrap();
        drop(other);
        let before = fs::read(place.path()).unwrap();
        let refused = place.open_with(Options::default()).await.unwrap_err();
        assert_eq!(refused, StoreError::Foreign { path: place.path() });
        assert_eq!(fs::read(place.path()).unwrap(), before);
        assert!(matches!(
            Store::open_sqlite_read_only(&place.path(), &Options::default()),
            Err(StoreError::Foreign { .. })
        ));
        fs::remove_file(place.path()).unwrap();
    }
    fs::write(place.path(), "no database at all").unwrap();
    assert!(matches!(place.open_with(Options::default()).await, Err(StoreError::Damaged(_))));
}

#[cfg(unix)]
#[tokio::test]
async fn one_file_has_one_server_whatever_it_is_called() {
    let place = Place::sqlite();
    let store = place.open().await;
    record(&store, 1).await.unwrap();
    let folder = place.path().parent().unwrap().to_owned();
    let (soft, hard) = (folder.join("soft.db"), folder.join("hard.db"));
    std::os::unix::fs::symlink(place.path(), &soft).unwrap();
    fs::hard_link(place.path(), &hard).unwrap();
    for path in [&soft, &hard, &folder.join("../").join(folder.file_name().unwrap()).join("soft.db")] {
        let refused = Store::open_sqlite(path, Place::key(), &Options::default()).unwrap_err();
        assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    }
    let mut lock = place.path().into_os_string();
    lock.push(".lock");
    fs::remove_file(lock).unwrap();
    let refused = Store::open_sqlite(&place.path(), Place::key(), &Options::default()).unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    // The refused ones have taken nothing away, neither from the writer nor from who reads.
    record(&store, 1).await.unwrap();
    Store::close(&store).await;
    let again = Store::open_sqlite(&soft, Place::key(), &Options::default()).unwrap();
    record(&again, 1).await.unwrap();
    assert_eq!(store.log_head().await.unwrap().size, 3);
    drop(store);
    record(&again, 1).await.unwrap();
    let refused = Store::open_sqlite(&place.path(), Place::key(), &Options::default()).unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_exchanged_or_removed_under_a_running_server_stops_it() {
    for part in ["", "-wal"] {
        let place = Place::sqlite();
        let store = place.open().await;
        record(&store, 1).await.unwrap();
        let mut path = place.path().into_os_string();
        path.push(part);
        let away = place.path().with_extension("away");
        fs::rename(&path, &away).unwrap();
        assert!(matches!(record(&store, 1).await, Err(LedgerFault::Damaged(_))), "removed: `{part}`");
        fs::copy(&away, &path).unwrap();
        assert!(matches!(record(&store, 1).await, Err(LedgerFault::Damaged(_))), "exchanged: `{part}`");
        assert!(store.prove_writable().await.is_err());
        fs::rename(&away, &path).unwrap();
        record(&store, 1).await.unwrap();
        assert_eq!(store.log_head().await.unwrap().size, 2);
    }
}
