#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "an overflow in a test is a failed test"
)]

use super::*;
use crate::{
    entry::{Entry, EntryKind},
    export::Exporter,
    hash::{Hash, leaf_hash},
    note::SigningKey,
    proof::{Leaves, root},
    tile::{bundles, encode_bundle, encode_tile},
};
use alloc::{collections::BTreeMap, format, vec};
use core::convert::Infallible;
use proptest::prelude::*;
use serde_json::json;

/// A log as files, and what an attacker may do to it.
#[derive(Clone)]
struct Log {
    files: BTreeMap<String, Vec<u8>>,
    entries: Vec<Vec<u8>>,
}

impl LogReader for Log {
    type Error = Infallible;

    fn bundle(&mut self, id: BundleId) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.files.get(&id.path()).cloned())
    }

    fn tile(&mut self, id: TileId) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.files.get(&id.path()).cloned())
    }
}

impl Log {
    fn new(size: u64) -> Self {
        Self::of((0..size).map(entry).collect())
    }

    fn of(entries: Vec<Vec<u8>>) -> Self {
        let mut log = Self { files: BTreeMap::new(), entries };
        log.rewrite(true);
        log
    }

    /// Writes bundles, and tiles too, over the present entries.
    fn rewrite(&mut self, tiles_too: bool) {
        let mut exporter = Exporter::new();
        let Self { files, entries } = self;
        let mut write = |path: &str, bytes: &[u8]| {
            if tiles_too || path.starts_with("tile/entries/") {
                files.insert(path.into(), bytes.to_vec());
            }
            Ok::<(), Infallible>(())
        };
        for entry in entries {
            exporter.append(entry, &mut write).unwrap();
        }
        exporter.finish(&mut write).unwrap();
    }

    /// The note that was signed when the log had so many entries.
    fn note(&self, size: u64) -> Vec<u8> {
        self.note_by(size, &key())
    }

    fn note_by(&self, size: u64, key: &SigningKey) -> Vec<u8> {
        let leaves: Vec<Hash> = self.entries.iter().map(|entry| leaf_hash(entry)).collect();
        let root = root(size, &mut Leaves(&leaves)).unwrap();
        Checkpoint::new("acme.example/log", size, root).unwrap().sign(key).unwrap().encode().into_bytes()
    }

    fn check(&mut self, checkpoint: &[u8], others: &[&[u8]]) -> Report {
        let key = key().verifier();
        let mut verification = Verification::new(&key, checkpoint);
        for (position, other) in others.iter().enumerate() {
            verification = verification.with_checkpoint(format!("kept-{position}"), other);
        }
        verification.run(self).unwrap()
    }
}

/// An honest log of 300 entries and its checkpoint, built once.
fn honest() -> (Log, Vec<u8>) {
    static HONEST: std::sync::OnceLock<(Log, Vec<u8>)> = std::sync::OnceLock::new();
    HONEST
        .get_or_init(|| {
            let log = Log::new(300);
            let note = log.note(300);
            (log, note)
        })
        .clone()
}

fn key() -> SigningKey {
    SigningKey::from_seed("acme.example/log", &[11; 32]).unwrap()
}

fn entry(index: u64) -> Vec<u8> {
    let at_ms = 1_772_323_200_000 + i64::try_from(index).unwrap();
    Entry::new(at_ms, EntryKind::new("decided").unwrap(), json!({"n": index})).to_bytes().unwrap()
}

#[test]
fn honest_logs_verify_at_every_interesting_size() {
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 1000] {
        let mut log = Log::new(size);
        let notes: Vec<Vec<u8>> = [0, size / 3, size / 2, size].iter().map(|size| log.note(*size)).collect();
        let report = log.check(&log.note(size), &notes.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert_eq!(report.findings, []);
        assert!(report.verified());
        assert_eq!((report.entries_verified, report.checkpoints_verified), (size, 4));
    }
}

#[test]
fn a_large_log_with_three_levels_of_tiles_verifies() {
    let mut log = Log::new(66_000);
    let note = log.note(66_000);
    assert!(log.check(&note, &[]).verified());
    log.files.get_mut("tile/2/000.p/1").unwrap()[5] ^= 1;
    let report = log.check(&note, &[]);
    let tile = TileId::new(2, 0, 1).unwrap();
    assert_eq!(report.findings, [Finding::TileMismatch { tile, position: 0 }]);
    assert!(format!("{}", report.findings[0]).ends_with("entries 0 to 65535"));
}

#[test]
fn a_changed_entry_is_named() {
    let mut log = Log::new(600);
    let note = log.note(600);
    log.entries[300] = entry(9_999);
    log.rewrite(false);
    let report = log.check(&note, &[]);
    assert_eq!(report.findings, [Finding::EntryChanged { index: 300 }]);
    assert_eq!(report.entries_verified, 599);
    assert!(!report.verified());
}

#[test]
fn removed_and_inserted_entries_are_named() {
    let mut log = Log::new(600);
    let note = log.note(600);
    let (middle, first, last) = (log.clone(), log.clone(), log.clone());
    for (mut log, index) in [(middle, 100), (first, 0), (last, 599)] {
        log.files.retain(|path, _| !path.starts_with("tile/entries/002"));
        log.entries.remove(index);
        log.rewrite(false);
        // The last bundle has one entry less, under the name that the checkpoint demands.
        let bytes = log.files.remove("tile/entries/002.p/87").unwrap();
        log.files.insert("tile/entries/002.p/88".into(), bytes);
        let report = log.check(&note, &[]);
        let bundle = BundleId::new(2, 88).unwrap();
        assert_eq!(
            report.findings,
            [Finding::BundleCount { bundle, found: 87 }, Finding::EntryRemoved { index: index as u64 }]
        );
    }
    log.entries.insert(10, entry(9_999));
    log.rewrite(false);
    let bytes = log.files.remove("tile/entries/002.p/89").unwrap();
    log.files.insert("tile/entries/002.p/88".into(), bytes);
    let report = log.check(&note, &[]);
    assert!(report.findings.contains(&Finding::EntryInserted { index: 10 }), "{:?}", report.findings);
}

#[test]
fn reordered_entries_are_named_also_across_bundles() {
    for (a, b) in [(5, 6), (5, 500)] {
        let mut log = Log::new(600);
        let note = log.note(600);
        log.entries.swap(a, b);
        log.rewrite(false);
        let (a, b) = (a as u64, b as u64);
        let expected =
            [Finding::EntryReordered { index: a, found: b }, Finding::EntryReordered { index: b, found: a }];
        assert_eq!(log.check(&note, &[]).findings, expected);
    }
}

#[test]
fn equal_entries_do_not_confuse_the_diagnosis() {
    let mut log = Log::of(vec![entry(1); 400]);
    let note = log.note(400);
    assert!(log.check(&note, &[]).verified());
    log.entries[7] = entry(2);
    log.rewrite(false);
    assert_eq!(log.check(&note, &[]).findings, [Finding::EntryChanged { index: 7 }]);
}

#[test]
fn a_missing_bundle_is_named() {
    let mut log = Log::new(600);
    let note = log.note(600);
    log.files.remove("tile/entries/001");
    assert_eq!(log.check(&note, &[]).findings, [Finding::EntriesMissing { first: 256, end: 512 }]);
    log.files.remove("tile/entries/002.p/88");
    let report = log.check(&note, &[]);
    assert_eq!(report.findings, [Finding::EntriesMissing { first: 256, end: 600 }]);
    assert_eq!(report.entries_verified, 256);
}

#[test]
fn a_truncated_tail_shows_by_a_later_checkpoint_only() {
    let whole = Log::new(600);
    let later = whole.note(600);
    let mut log = Log::new(400);
    let note = log.note(400);
    assert!(log.check(&note, &[]).verified());
    let report = log.check(&note, &[&later]);
    assert_eq!(report.findings, [Finding::TailTruncated { file: "kept-0".into(), signed: 600, have: 400 }]);
    // Entries cut off, checkpoint kept.
    let report = log.check(&later, &[]);
    assert!(
        report
            .findings
            .iter()
            .any(|finding| matches!(finding, Finding::EntriesMissing { first: 256, end: 600 }))
    );
    assert!(
        report
            .findings
            .iter()
            .any(|finding| matches!(finding, Finding::RootMismatch { readable: false, .. }))
    );
}

#[test]
fn a_forged_signature_and_an_unknown_key_are_told_apart() {
    let mut log = Log::new(10);
    let forged = String::from_utf8(log.note(10)).unwrap().replace("\n10\n", "\n11\n").into_bytes();
    assert_eq!(log.check(&forged, &[]).findings[0].code(), "log_signature_forged");
    let stranger = SigningKey::from_seed("acme.example/log", &[12; 32]).unwrap();
    let unknown = log.note_by(10, &stranger);
    assert_eq!(log.check(&unknown, &[]).findings[0].code(), "log_key_unknown");
    assert_eq!(log.check(b"junk", &[]).findings[0].code(), "log_checkpoint_malformed");
    let good = log.note(10);
    let report = log.check(&good, &[&unknown, &forged, &good]);
    assert_eq!(
        report.findings.iter().map(Finding::code).collect::<Vec<_>>(),
        ["log_key_unknown", "log_signature_forged"]
    );
    assert!(!report.verified());
}

#[test]
fn a_fork_is_found_on_either_side() {
    let mut log = Log::new(600);
    let mut entries = log.entries.clone();
    entries[450] = entry(9_999);
    let fork = Log::of(entries);
    let note = log.note(600);
    let report = log.check(&note, &[&fork.note(300), &fork.note(500), &fork.note(600)]);
    assert_eq!(report.checkpoints_verified, 1);
    let forked = |file: &str, size| Finding::Forked { file: file.into(), against: "checkpoint".into(), size };
    assert_eq!(report.findings, [forked("kept-1", 500), forked("kept-2", 600)]);
    // The good one of two that contradict each other is not blamed.
    let (good, bad) = (log.note(500), fork.note(500));
    for others in [[&good, &bad], [&bad, &good]] {
        let report = log.check(&note, &others.map(Vec::as_slice));
        assert_eq!((report.checkpoints_verified, report.findings.len()), (1, 1));
    }
    // Two later checkpoints that contradict each other.
    let (longer, other) = (Log::new(700), Log::of([fork.entries, Log::new(100).entries].concat()));
    let report = log.check(&note, &[&longer.note(700), &other.note(700)]);
    assert_eq!(
        report.findings.iter().map(Finding::code).collect::<Vec<_>>(),
        ["log_tail_truncated", "log_forked"]
    );
}

#[test]
fn a_log_rewritten_with_its_tiles_is_narrowed_down_by_earlier_checkpoints() {
    let mut log = Log::new(600);
    let (note, early, middle, late) = (log.note(600), log.note(100), log.note(200), log.note(400));
    log.entries[300] = entry(9_999);
    log.rewrite(true);
    let report = log.check(&note, &[&late, &early, &middle]);
    assert_eq!(report.findings, [Finding::RootMismatch { intact: 200, broken: Some(400), readable: true }]);
    assert_eq!(report.entries_verified, 0);
    let report = log.check(&note, &[]);
    assert_eq!(report.findings, [Finding::RootMismatch { intact: 0, broken: None, readable: true }]);
}

#[test]
fn a_wrong_tile_over_right_entries_is_named() {
    let mut log = Log::new(600);
    let note = log.note(600);
    let (a, b) = (log.files["tile/0/000"].clone(), log.files["tile/0/001"].clone());
    log.files.insert("tile/0/000".into(), b);
    log.files.insert("tile/0/001".into(), a);
    let tile = |index| TileId::new(0, index, 256).unwrap();
    let report = log.check(&note, &[]);
    let expected = [0, 1].map(|index| Finding::TileMismatch { tile: tile(index), position: 0 });
    assert_eq!(report.findings, expected);
    assert_eq!(report.entries_verified, 600);
    log.files.insert("tile/0/000".into(), vec![0; 31]);
    log.files.remove("tile/1/000.p/2");
    let codes: Vec<_> = log.check(&note, &[]).findings.iter().map(Finding::code).collect();
    assert!(codes.contains(&"log_tile_malformed") && codes.contains(&"log_tile_missing"), "{codes:?}");
}

#[test]
fn upper_tiles_may_not_be_left_out() {
    let mut log = Log::new(600);
    let note = log.note(600);
    log.files.retain(|path, _| !path.starts_with("tile/1/"));
    assert_eq!(
        log.check(&note, &[]).findings,
        [Finding::TileMissing { tile: TileId::new(1, 0, 2).unwrap() }]
    );
}

#[test]
fn signed_entries_that_are_malformed_or_of_unknown_version_are_reported() {
    let mut log = Log::of(vec![entry(0), b"{\"v\":1}".to_vec(), b"{\"v\":7}".to_vec(), vec![], entry(4)]);
    let note = log.note(5);
    let report = log.check(&note, &[]);
    assert_eq!(report.unknown_versions, 1);
    let malformed: Vec<_> = report.findings.iter().filter_map(Finding::entry).collect();
    assert_eq!(malformed, [1, 3]);
    assert_eq!(report.times_ms, Some((1_772_323_200_000, 1_772_323_200_004)));
}

#[test]
fn a_checkpoint_of_a_giant_log_ends_soon() {
    let note = Checkpoint::new("acme.example/log", u64::MAX, Hash::EMPTY_ROOT)
        .unwrap()
        .sign(&key())
        .unwrap()
        .encode();
    let report = Log::new(3).check(note.as_bytes(), &[]);
    assert!(report.findings.contains(&Finding::EntriesMissing { first: 0, end: u64::MAX }));
}

#[test]
fn more_differences_than_are_kept_are_still_a_finding() {
    let mut log = Log::new(70_000);
    let note = log.note(70_000);
    log.entries.remove(10);
    log.entries.push(entry(99_999));
    log.rewrite(false);
    let report = log.check(&note, &[]);
    assert_eq!(report.findings, [Finding::EntriesDiffer { first: 10 }, Finding::EntryRemoved { index: 10 }]);
    log.entries = (100_000..170_000).map(entry).collect();
    log.rewrite(false);
    let report = log.check(&note, &[]);
    assert_eq!(
        report.findings[..2],
        [Finding::EntriesDiffer { first: 0 }, Finding::EntryChanged { index: 0 }]
    );
    assert_eq!(report.findings.len(), FINDINGS_MAX);
    assert!(report.findings_omitted > 50_000 && report.entries_verified == 0);
}

#[test]
fn the_report_as_json_is_canonical_and_complete() {
    let mut log = Log::new(3);
    let note = log.note(3);
    assert_eq!(
        log.check(&note, &[&note]).to_json(),
        format!(
            "{{\"checkpoints_verified\":1,\"entries_verified\":3,\"findings\":[],\"findings_omitted\":0,\"first_at\":\"2026-03-01T00:00:00.000Z\",\"last_at\":\"2026-03-01T00:00:00.002Z\",\"origin\":\"acme.example/log\",\"root\":\"{}\",\"size\":3,\"unknown_versions\":0,\"verified\":true}}",
            Checkpoint::open(&note, &key().verifier()).unwrap().root()
        )
    );
    log.entries[1] = entry(9);
    log.rewrite(false);
    let json = log.check(&note, &[]).to_json();
    assert!(
        json.contains("\"code\":\"log_entry_changed\",\"entry\":1,\"message\":\"entry 1 was changed"),
        "{json}"
    );
    let giant = Checkpoint::new("acme.example/log", u64::MAX, Hash::EMPTY_ROOT)
        .unwrap()
        .sign(&key())
        .unwrap()
        .encode();
    assert!(log.check(giant.as_bytes(), &[]).to_json().contains("\"size\":\"18446744073709551615\""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_flipped_bit_goes_unnoticed(file in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (mut log, note) = honest();
        let bytes = file.index(log.files.len());
        let bytes = log.files.values_mut().nth(bytes).unwrap();
        *at.get_mut(bytes) ^= 1 << bit;
        prop_assert!(!log.check(&note, &[]).verified());
    }

    #[test]
    fn no_damage_makes_it_panic_or_verify(damage in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let (honest, note) = honest();
        let mut log = honest.clone();
        for (file, kind, at, byte) in damage {
            let path = log.files.keys().nth(file.index(log.files.len())).unwrap().clone();
            let bytes = log.files.get_mut(&path).unwrap();
            match kind {
                0 => bytes.truncate(at.index(bytes.len() + 1)),
                1 => bytes.insert(at.index(bytes.len() + 1), byte),
                2 => drop(log.files.remove(&path)),
                _ => if let Some(slot) = bytes.get_mut(at.index(300)) { *slot ^= byte },
            }
            if log.files.is_empty() { break }
        }
        prop_assert_eq!(log.check(&note, &[]).verified(), log.files == honest.files);
    }

    #[test]
    fn any_other_list_of_entries_is_refused(size in 1..600_usize, ops in prop::collection::vec((0..3_u8, any::<prop::sample::Index>()), 1..4)) {
        let honest = Log::new(size as u64);
        let note = honest.note(size as u64);
        let mut log = honest.clone();
        for (op, at) in ops {
            match op {
                0 if !log.entries.is_empty() => drop(log.entries.remove(at.index(log.entries.len()))),
                1 => log.entries.insert(at.index(log.entries.len() + 1), entry(7_777)),
                _ if !log.entries.is_empty() => { let place = at.index(log.entries.len()); log.entries[place] = entry(place as u64); }
                _ => {}
            }
        }
        for tiles_too in [false, true] {
            // Bundles of the forged list under the names that the checkpoint demands.
            let mut forged = Log { files: honest.files.clone(), entries: vec![] };
            for bundle in bundles(size as u64) {
                let from = (bundle.first_entry() as usize).min(log.entries.len());
                let to = (from + usize::from(bundle.width())).min(log.entries.len());
                let entries = &log.entries[from..to];
                forged.files.insert(bundle.path(), encode_bundle(entries).unwrap());
                if tiles_too {
                    let hashes: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
                    forged.files.insert(bundle.tile().path(), encode_tile(&hashes));
                }
            }
            let same = log.entries.len() >= size && log.entries[..size] == honest.entries;
            prop_assert_eq!(forged.check(&note, &[]).verified(), same);
        }
    }
}
