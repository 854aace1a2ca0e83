//! The log: one order, proofs, receipts, export, and what damage is found.

use std::{path::Path, sync::Arc};

use countersign_audit::{
    BundleId, Receipt, SigningKey, TileId,
    proof::verify_consistency,
    verify::{LogReader, Verification},
};
use countersign_gate::ledger::{Ledger, LedgerFault};
use countersign_rules::{AgentId, SessionId};
use countersign_store::{EntryFilter, Options, Store, StoreError};
use serde_json::json;

use crate::{
    make::{NOW, approval_id, call_id, done, intent, kinds, note, parking, requester, said, stored},
    place::{ORIGIN, Place, contract},
};

/// Appends entries from many tasks at once.
async fn fill(ledger: &Arc<Store>, entries: u64) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..entries {
        let ledger = Arc::clone(ledger);
        tasks.spawn(async move { ledger.record(vec![said("tool_called", json!({ "n": n }))]).await });
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
}

contract! {
    async fn every_entry_can_be_proven_and_every_state_continues_the_one_before(place) {
        let ledger = place.open().await;
        let key = Place::key().verifier();
        let empty = ledger.log_head().await.unwrap();
        assert_eq!(empty.size, 0);
        fill(&ledger, 300).await;
        let first = ledger.log_head().await.unwrap();
        fill(&ledger, 300).await;
        let second = ledger.log_head().await.unwrap();
        assert_eq!((first.size, second.size), (300, 600));

        let path = ledger.consistency(300, 600).await.unwrap().unwrap();
        verify_consistency((300, &first.root), (600, &second.root), &path).unwrap();
        assert_eq!(ledger.consistency(300, 601).await.unwrap(), None);
        assert_eq!(ledger.consistency(301, 300).await.unwrap(), None);
        for index in [0, 1, 254, 255, 256, 511, 512, 599] {
            let receipt = ledger.receipt(index).await.unwrap().unwrap();
            let read = Receipt::parse(receipt.encode().as_bytes()).unwrap();
            assert_eq!(read.verify(&key).unwrap().size(), 600, "{index}");
            assert_eq!(ledger.entries(index, 1).await.unwrap()[0].bytes, read.entry.unwrap());
        }
        assert_eq!(ledger.receipt(600).await.unwrap(), None);

        let earlier = [("first".to_owned(), first.checkpoint.into_bytes()), ("empty".into(), empty.checkpoint.into_bytes())];
        let report = ledger.verify(&key, earlier.into()).await.unwrap();
        assert!(report.verified(), "{:?}", report.findings);
        assert_eq!((report.entries_verified, report.checkpoints_verified), (600, 4));
        let kept = ledger.checkpoints(0, 100).await.unwrap();
        assert_eq!(kept.last().unwrap(), &(600, second.checkpoint));
        // One is kept whenever a commit passes a multiple of 256 entries, and the head: where the last commit is the
        // one that passes 512, these two are the same.
        assert!(kept.len() >= 2 && kept.is_sorted());
        let notes = kept.into_iter().map(|(size, note)| (size.to_string(), note.into_bytes())).collect();
        assert!(ledger.verify(&key, notes).await.unwrap().verified());
    }

    async fn checkpoints_beyond_one_answer_follow_without_a_gap(place) {
        let ledger = place.open().await;
        ledger.record((0..10_100).map(|n| note("noted", &call_id(&format!("n{n}")))).collect()).await.unwrap();
        // As many as there are beside millions of entries.
        let series = match &place {
            Place::Sqlite(_) => "(WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 10050) SELECT n FROM s) s",
            Place::Postgres(_) => "generate_series(1, 10050) s (n)",
        };
        place.execute(&format!("INSERT INTO checkpoint (size, note) SELECT s.n, 'note' FROM {series}")).await;
        let sizes = async |from: u64, limit: u32| -> Vec<u64> {
            ledger.checkpoints(from, limit).await.unwrap().into_iter().map(|(size, _note)| size).collect()
        };
        assert!(sizes(1, u32::MAX).await.into_iter().eq(1..=10_000), "the newest is not among them");
        assert!(sizes(10_001, u32::MAX).await.into_iter().eq((10_001..=10_050).chain([10_100])));
        assert!(sizes(10_041, 10).await.into_iter().eq(10_041..=10_050));
        assert!(sizes(10_041, 11).await.into_iter().eq((10_041..=10_050).chain([10_100])));
    }

    async fn an_export_verifies_on_its_own(place) {
        let ledger = place.open().await;
        fill(&ledger, 700).await;
        let folder = tempfile::tempdir().unwrap();
        let head = ledger.export(folder.path()).await.unwrap();
        assert_eq!(head.size, 700);
        let checkpoint = std::fs::read(folder.path().join("checkpoint")).unwrap();
        let report = Verification::new(&Place::key().verifier(), &checkpoint).run(&mut Folder(folder.path())).unwrap();
        assert!(report.verified(), "{:?}", report.findings);
        // Exporting again continues the folder.
        fill(&ledger, 100).await;
        ledger.export(folder.path()).await.unwrap();
        let checkpoint = std::fs::read(folder.path().join("checkpoint")).unwrap();
        let report = Verification::new(&Place::key().verifier(), &checkpoint).run(&mut Folder(folder.path())).unwrap();
        assert!(report.verified() && report.size == 800, "{:?}", report.findings);
    }

    async fn entries_are_found_by_what_they_are_about(place) {
        let ledger = place.open().await;
        ledger.issue(intent("c1")).await.unwrap();
        ledger.issue(intent("c2")).await.unwrap();
        Ledger::close(&*ledger, done("c1", 1), countersign_gate::ledger::Wait::Durable).await.unwrap();
        ledger.park(parking("a1", stored("c3", &requester("eve", "s9"), "x"))).await.unwrap();
        let mut late = note("tool_called", &call_id("c1"));
        late.at_ms = NOW + 1_000;
        ledger.record(vec![late]).await.unwrap();
        let found = async |filter: EntryFilter| -> Vec<u64> {
            ledger.find_entries(&filter, 100).await.unwrap().iter().map(|e| e.index).collect()
        };
        let all = EntryFilter::default;
        assert_eq!(found(all()).await, [0, 1, 2, 3, 4]);
        assert_eq!(found(EntryFilter { call: Some(call_id("c1")), ..all() }).await, [0, 2, 4]);
        assert_eq!(found(EntryFilter { call: Some(call_id("c1")), from: 1, ..all() }).await, [2, 4]);
        assert_eq!(found(EntryFilter { kind: Some("warrant_issued".into()), ..all() }).await, [0, 1]);
        assert_eq!(found(EntryFilter { agent: Some(AgentId::parse("eve").unwrap()), ..all() }).await, [3]);
        assert_eq!(found(EntryFilter { session: Some(SessionId::parse("s9").unwrap()), ..all() }).await, [3]);
        assert_eq!(found(EntryFilter { approval: Some(approval_id("a1")), ..all() }).await, [3]);
        assert_eq!(found(EntryFilter { since_ms: Some(NOW + 1), ..all() }).await, [4]);
        assert_eq!(found(EntryFilter { until_ms: Some(NOW + 1), kind: Some("outcome".into()), ..all() }).await, [2]);
        assert_eq!(found(EntryFilter { call: Some(call_id("c1")), kind: Some("asked".into()), ..all() }).await, [0; 0]);
        let last: Vec<u64> = ledger.last_entries(&all(), 2).await.unwrap().iter().map(|e| e.index).collect();
        assert_eq!(last, [4, 3]);
    }

    async fn an_entry_that_cannot_be_written_takes_nothing_along(place) {
        let ledger = place.open().await;
        let mut call = intent("c1");
        call.entries.push(said("too_long", json!("x".repeat(70_000))));
        let mut tasks = tokio::task::JoinSet::new();
        let refused = { let ledger = Arc::clone(&ledger); tokio::spawn(async move { ledger.issue(call).await }) };
        for n in 0..50 {
            let ledger = Arc::clone(&ledger);
            tasks.spawn(async move { ledger.issue(intent(&format!("n{n}"))).await });
        }
        assert!(tasks.join_all().await.iter().all(Result::is_ok));
        assert!(refused.await.unwrap().is_err());
        assert_eq!(ledger.call(&call_id("c1")).await.unwrap(), None);
        assert_eq!(kinds(&ledger).await.len(), 50);
    }

    async fn another_key_is_refused(place) {
        place.open().await.close().await;
        let other = SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
        let refused = place.open_as(other, Options::default()).await.unwrap_err();
        assert_eq!(refused, StoreError::OtherKey { stored: Place::key().verifier().to_string() });
    }

    async fn a_newer_schema_is_refused(place) {
        place.open().await.close().await;
        place.change("INSERT INTO migration (version) VALUES (1000)").await;
        let refused = place.open_with(Options::default()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Schema { found: 1000, .. }), "{refused}");
    }

    async fn a_head_that_was_not_signed_is_not_continued(place) {
        let ledger = place.open().await;
        fill(&ledger, 3).await;
        place.change("UPDATE log_head SET size = size - 1").await;
        assert!(matches!(ledger.issue(intent("c1")).await.unwrap_err(), countersign_gate::ledger::NotIssued::Fault(LedgerFault::Damaged(_))));
        assert!(matches!(ledger.log_head().await, Err(LedgerFault::Damaged(_))));
        assert_eq!(ledger.call(&call_id("c1")).await.unwrap(), None);
        ledger.close().await;
        assert!(matches!(place.open_with(Options::default()).await, Err(StoreError::Damaged(_))));
    }

    async fn a_changed_entry_is_found(place) {
        let ledger = place.open().await;
        fill(&ledger, 10).await;
        place.change("UPDATE entry SET bytes = (SELECT bytes FROM entry WHERE idx = 4) WHERE idx = 5").await;
        let report = ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap();
        assert!(!report.verified());
        assert_eq!(report.findings.iter().map(|f| f.entry()).collect::<Vec<_>>(), [Some(5)]);
        let folder = tempfile::tempdir().unwrap();
        assert!(ledger.export(folder.path()).await.is_err());
        assert!(!folder.path().join("checkpoint").exists());
    }

    async fn a_damaged_record_harms_no_other(place) {
        let ledger = place.open().await;
        for id in ["c1", "c2"] {
            let mut call = intent(id);
            call.holds = vec![crate::make::hold("rows", countersign_rules::budget::Unit::Rows, 1, 10)];
            ledger.issue(call).await.unwrap();
        }
        // What a process wrote itself it does not read again, so another one looks.
        ledger.close().await;
        let ledger = place.open().await;
        place.change("UPDATE call SET body = '{\"secret\":' WHERE id = 'c1'").await;
        let fault = ledger.call(&call_id("c1")).await.unwrap_err();
        assert!(matches!(&fault, LedgerFault::Damaged(why) if !why.contains("secret")), "{fault}");
        let closed = Ledger::close(&*ledger, done("c1", 1), countersign_gate::ledger::Wait::Durable).await;
        assert!(matches!(closed, Err(LedgerFault::Damaged(_))));
        Ledger::close(&*ledger, done("c2", 1), countersign_gate::ledger::Wait::Durable).await.unwrap();
        assert_eq!(crate::make::balances(&ledger).await, [("rows".into(), 1, 1)]);
        assert_eq!(kinds(&ledger).await, ["warrant_issued", "warrant_issued", "outcome"]);
    }
}

/// An exported log.
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, std::io::Error> {
        match std::fs::read(self.0.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why),
        }
    }
}

impl LogReader for Folder<'_> {
    type Error = std::io::Error;

    fn bundle(&mut self, id: BundleId) -> Result<Option<Vec<u8>>, Self::Error> {
        self.read(&id.path())
    }

    fn tile(&mut self, id: TileId) -> Result<Option<Vec<u8>>, Self::Error> {
        self.read(&id.path())
    }
}
