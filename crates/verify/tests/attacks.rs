//! What an attacker may do to an exported log, against the real program.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic in a test is a failed test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use countersign_audit::{
    BundleId, Checkpoint, Entry, EntryKind, Exporter, Hash, Leaves, Note, Receipt, SigningKey,
    from_slice_strict, leaf_hash, proof, tile,
};
use tempfile::TempDir;

const ORIGIN: &str = "acme.example/log";
const SIZE: u64 = 600;

/// An exported log and what was kept of it elsewhere.
struct Log {
    dir: TempDir,
    entries: Vec<Vec<u8>>,
}

impl Log {
    /// An honest export of `SIZE` entries.
    fn new() -> Self {
        Self::of(SIZE)
    }

    fn of(size: u64) -> Self {
        let log = Self { dir: TempDir::new().unwrap(), entries: (0..size).map(entry).collect() };
        log.write_tiles(&log.entries, true);
        log.write("export/checkpoint", log.note(size));
        log.write("export/vkey", format!("{}\n", vkey()));
        if size > 100 {
            log.write("export/checkpoints/100", log.note(100));
        }
        log
    }

    /// Bundles, and tiles if wished, over these entries.
    fn write_tiles(&self, entries: &[Vec<u8>], tiles_too: bool) {
        let mut export = Exporter::new();
        let mut write = |path: &str, bytes: &[u8]| {
            if tiles_too || path.starts_with("tile/entries/") {
                self.write(&format!("export/{path}"), bytes);
            }
            Ok::<(), ()>(())
        };
        for entry in entries {
            export.append(entry, &mut write).unwrap();
        }
        export.finish(&mut write).unwrap();
    }

    /// Bundles over these entries, the last one under the name that the log's checkpoint demands.
    fn forge(&self, entries: &[Vec<u8>], tiles_too: bool) {
        self.write_tiles(entries, tiles_too);
        let last = tile::bundles(SIZE).last().unwrap();
        let from = usize::try_from(last.first_entry()).unwrap();
        self.write(&format!("export/{last}"), tile::encode_bundle(&entries[from..]).unwrap());
    }

    fn note(&self, size: u64) -> String {
        note(&self.entries, size, &key())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Runs the verifier on the export with further arguments.
    fn verify(&self, arguments: &[&str]) -> Answer {
        run(self.dir.path(), &[&["export", "--key", &vkey()], arguments].concat())
    }
}

/// What the program answered.
struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Answer {
    /// Exit code 1 and exactly these findings.
    #[track_caller]
    fn finds(&self, findings: &[&str]) {
        assert_eq!(self.code, 1, "{}{}", self.out, self.err);
        assert!(self.out.contains("NOT VERIFIED"), "{}", self.out);
        for finding in findings {
            assert!(self.out.contains(finding), "`{finding}` is not in:\n{}", self.out);
        }
        let count = self.out.lines().filter(|line| line.starts_with("  log_")).count();
        assert_eq!(count, findings.len(), "{}", self.out);
    }

    #[track_caller]
    fn verifies(&self) {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        assert!(self.out.ends_with("\nVERIFIED\n"), "{}", self.out);
    }

    #[track_caller]
    fn is_unusable(&self, message: &str) {
        assert_eq!((self.code, self.out.as_str()), (2, ""), "{}", self.err);
        assert!(self.err.contains(message), "{}", self.err);
    }
}

#[expect(clippy::disallowed_methods, reason = "the program under test is run")]
fn run(dir: &Path, arguments: &[&str]) -> Answer {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_countersign-verify"))
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    Answer {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[42; 32]).unwrap()
}

fn vkey() -> String {
    key().verifier().to_string()
}

fn entry(index: u64) -> Vec<u8> {
    let body = from_slice_strict(format!("{{\"rows\":{index}}}").as_bytes()).unwrap();
    let at_ms = 1_772_323_200_000 + i64::try_from(index).unwrap();
    Entry::new(at_ms, EntryKind::new("decided").unwrap(), body).to_bytes().unwrap()
}

fn note(entries: &[Vec<u8>], size: u64, key: &SigningKey) -> String {
    let root = proof::root(size, &mut Leaves(&leaves(entries))).unwrap();
    Checkpoint::new(ORIGIN, size, root).unwrap().sign(key).unwrap().encode()
}

fn leaves(entries: &[Vec<u8>]) -> Vec<Hash> {
    entries.iter().map(|entry| leaf_hash(entry)).collect()
}

#[test]
fn an_honest_log_verifies() {
    let log = Log::new();
    log.write("kept", log.note(300));
    let answer = log.verify(&["--checkpoint", "kept"]);
    answer.verifies();
    for line in [
        "600 of 600 are what was signed",
        "2 others are of the same history",
        "2026-03-01T00:00:00.000Z to 2026-03-01T00:00:00.599Z",
    ] {
        assert!(answer.out.contains(line), "{}", answer.out);
    }
    assert!(!answer.out.contains("not part of this log"), "{}", answer.out);
    let json = log.verify(&["--json"]);
    assert_eq!(json.code, 0);
    assert!(
        json.out.ends_with("\"verified\":true}\n") && json.out.contains("\"findings\":[],"),
        "{}",
        json.out
    );
    Log::of(0).verify(&[]).verifies();
    Log::of(1).verify(&[]).verifies();
}

#[test]
fn a_changed_entry() {
    let log = Log::new();
    let mut entries = log.entries.clone();
    entries[300] = entry(9_999);
    log.forge(&entries, false);
    let answer = log.verify(&[]);
    answer.finds(&["log_entry_changed        entry 300 was changed"]);
    assert!(answer.out.contains("599 of 600"), "{}", answer.out);
    let json = log.verify(&["--json"]);
    assert_eq!(json.code, 1);
    assert!(json.out.contains("{\"code\":\"log_entry_changed\",\"entry\":300,"), "{}", json.out);
    assert!(json.out.contains("\"verified\":false"), "{}", json.out);
}

#[test]
fn a_changed_entry_whose_tiles_were_changed_too() {
    let log = Log::new();
    let mut entries = log.entries.clone();
    entries[300] = entry(9_999);
    log.forge(&entries, true);
    log.verify(&[]).finds(&[
        "log_root_mismatch        the log was rewritten: it does not have the root that was signed; the entries before 100 are intact",
    ]);
    log.write("kept", log.note(500));
    log.verify(&["--checkpoint", "kept"]).finds(&["the entries that were rewritten are between 100 and 500"]);
}

#[test]
fn a_removed_entry() {
    let log = Log::new();
    let mut entries = log.entries.clone();
    entries.remove(300);
    log.forge(&entries, false);
    log.verify(&[]).finds(&["`tile/entries/002.p/88` has 87 entries", "entry 300 was removed"]);
    // Hidden by a filler at the end.
    entries.push(entry(9_999));
    log.forge(&entries, false);
    log.verify(&[]).finds(&["entry 300 was removed", "entry 599 was inserted"]);
}

#[test]
fn reordered_entries() {
    let log = Log::new();
    let mut entries = log.entries.clone();
    entries.swap(3, 500);
    log.forge(&entries, false);
    log.verify(&[]).finds(&[
        "entry 3 was reordered: it now stands at 500",
        "entry 500 was reordered: it now stands at 3",
    ]);
}

#[test]
fn a_tail_cut_off_shows_with_a_later_checkpoint() {
    let later = Log::new().note(SIZE);
    let short = Log::of(400);
    short.write("later", &later);
    short.verify(&[]).verifies();
    short.verify(&["--checkpoint", "later"]).finds(&["log_tail_truncated       the tail was cut off"]);
    // The other way round: the checkpoint stays and the entries go.
    short.write("export/checkpoint", &later);
    let answer = short.verify(&[]);
    assert_eq!(answer.code, 1);
    assert!(answer.out.contains("entries 256 to 599 are missing"), "{}", answer.out);
}

#[test]
fn a_forged_signature() {
    let log = Log::new();
    log.write("export/checkpoint", log.note(SIZE).replace("\n600\n", "\n601\n"));
    log.verify(&[]).finds(&["log_signature_forged     `checkpoint` has a forged signature"]);
    log.write("export/checkpoint", log.note(SIZE));
    log.write("export/checkpoints/100", log.note(100).replace("\n100\n", "\n101\n"));
    log.verify(&[]).finds(&["`checkpoints/100` has a forged signature"]);
}

#[test]
fn an_unknown_key_even_if_the_folder_vouches_for_it() {
    let log = Log::new();
    let stranger = SigningKey::from_seed(ORIGIN, &[43; 32]).unwrap();
    fs::remove_file(log.path("export/checkpoints/100")).unwrap();
    log.write("export/checkpoint", note(&log.entries, SIZE, &stranger));
    log.write("export/vkey", format!("{}\n", stranger.verifier()));
    log.verify(&[]).finds(&["log_key_unknown", "`vkey` does not fit the log"]);
}

#[test]
fn a_forked_history() {
    let log = Log::new();
    let mut other = log.entries.clone();
    other[450] = entry(9_999);
    log.write("seen-elsewhere", note(&other, 500, &key()));
    log.write("same-size", note(&other, SIZE, &key()));
    log.verify(&["--checkpoint", "seen-elsewhere"]).finds(&[
        "the history is forked: `seen-elsewhere` and `checkpoint` are both signed, and differ in the first 500 entries",
    ]);
    log.verify(&["--checkpoint", "same-size"]).finds(&["differ in the first 600 entries"]);
}

#[test]
fn swapped_and_missing_files() {
    let log = Log::new();
    let (a, b) = (log.path("export/tile/0/000"), log.path("export/tile/0/001"));
    let (first, second) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
    fs::write(&a, &second).unwrap();
    fs::write(&b, &first).unwrap();
    log.verify(&[]).finds(&[
        "`tile/0/000` was changed: its hash 0 is not that of entry 0",
        "`tile/0/001` was changed: its hash 0 is not that of entry 256",
    ]);
    fs::write(&a, &first).unwrap();
    fs::remove_file(&b).unwrap();
    fs::create_dir(&b).unwrap();
    log.verify(&[]).finds(&["`tile/0/001` is missing"]);
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_opened() {
    let log = Log::new();
    let tile = log.path("export/tile/0/001");
    fs::remove_file(&tile).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&tile).unwrap();
    log.verify(&[]).finds(&["`tile/0/001` is missing"]);
}

#[test]
fn misnamed_checkpoints_and_foreign_files_are_pointed_out() {
    let log = Log::new();
    log.write("export/checkpoints/200", log.note(100));
    log.verify(&[]).finds(&["`checkpoints/200` does not fit the log: it is signed for 100 entries"]);
    fs::remove_file(log.path("export/checkpoints/200")).unwrap();
    log.write("export/tile/0/003", [0; 32]);
    log.write("export/notes\u{202e}txt", "x");
    let answer = log.verify(&[]);
    answer.verifies();
    let note = "2 files are not part of this log and were not read: `notes\\u{202e}txt`, `tile/0/003`";
    assert!(answer.out.contains(note), "{}", answer.out);
}

#[test]
fn a_flipped_bit_in_any_file_is_never_accepted_silently() {
    let log = Log::new();
    let mut files: Vec<String> = ["checkpoint", "checkpoints/100", "vkey"].map(Into::into).into();
    files.extend(tile::tiles(SIZE).map(|tile| tile.path()));
    files.extend(tile::bundles(SIZE).map(|bundle| bundle.path()));
    for file in files {
        let path = log.path("export").join(&file);
        let good = fs::read(&path).unwrap();
        for at in [0, 1, good.len() / 3, good.len() / 2, good.len() - 2, good.len() - 1] {
            for bit in [0, 5, 7] {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                fs::write(&path, bad).unwrap();
                let answer = log.verify(&[]);
                assert_eq!(answer.code, 1, "`{file}`, byte {at}, bit {bit}:\n{}{}", answer.out, answer.err);
            }
        }
        fs::write(&path, good).unwrap();
    }
    log.verify(&[]).verifies();
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let log = Log::new();
    let name = "evil\u{202e}\u{200b}name";
    let stranger = SigningKey::from_seed(name, &[1; 32]).unwrap();
    let root = proof::root(SIZE, &mut Leaves(&leaves(&log.entries))).unwrap();
    log.write(
        "export/checkpoint",
        Checkpoint::new(name, SIZE, root).unwrap().sign(&stranger).unwrap().encode(),
    );
    let answer = log.verify(&[]);
    answer.finds(&["log_key_unknown"]);
    assert!(answer.out.contains("evil\\u{202e}\\u{200b}name") && answer.out.is_ascii(), "{}", answer.out);
}

#[test]
fn giant_claims_and_giant_files_end_soon() {
    let log = Log::new();
    let giant = Checkpoint::new(ORIGIN, u64::MAX, Hash::EMPTY_ROOT).unwrap().sign(&key()).unwrap().encode();
    log.write("export/checkpoint", giant);
    assert_eq!(log.verify(&["--json"]).code, 1);
    log.write("export/checkpoint", log.note(SIZE));
    for file in ["tile/0/000", "tile/entries/000", "checkpoints/100"] {
        let path = log.path("export").join(file);
        let good = fs::read(&path).unwrap();
        // A hole of 1 TB: no program that reads it whole comes back.
        fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(log.verify(&[]).code, 1, "{file}");
        fs::write(&path, good).unwrap();
    }
    log.verify(&[]).verifies();
}

#[test]
fn no_answer_is_not_a_good_answer() {
    let log = Log::new();
    log.verify(&["--checkpoint", "not-there"]).is_unusable("there is no file `not-there`");
    log.verify(&["--nonsense"]).is_unusable("there is no option `--nonsense`");
    run(log.dir.path(), &["export"]).is_unusable("public key is missing");
    run(log.dir.path(), &["nowhere", "--key", &vkey()]).is_unusable("`nowhere` is not an exported log");
    run(log.dir.path(), &["export", "--key", "x+00000000+AAAA"]).is_unusable("not a verifier key");
    run(log.dir.path(), &["export", "--key-file", "export/checkpoint"]).is_unusable("not a verifier key");
    fs::remove_file(log.path("export/checkpoint")).unwrap();
    log.verify(&[]).is_unusable("it has no file `checkpoint`");
}

#[test]
fn help_teaches_and_the_key_may_come_from_a_file() {
    let log = Log::new();
    let help = run(log.dir.path(), &["--help"]);
    assert_eq!(help.code, 0);
    for words in ["--checkpoint FILE", "Exit codes:", "Not from the folder."] {
        assert!(help.out.contains(words), "{words}");
    }
    log.write("acme.vkey", vkey());
    run(log.dir.path(), &["export", "--key-file", "acme.vkey"]).verifies();
    assert!(run(log.dir.path(), &["--version"]).out.starts_with("countersign-verify "));
}

/// A proof of entry 300 and the folder it is in.
fn proved() -> (Log, Receipt) {
    let log = Log::new();
    let receipt = Receipt {
        index: 300,
        path: proof::inclusion(300, SIZE, &mut Leaves(&leaves(&log.entries))).unwrap(),
        checkpoint: Note::parse(log.note(SIZE).as_bytes()).unwrap(),
        entry: Some(log.entries[300].clone()),
    };
    log.write("proof", receipt.encode());
    log.write("bare", Receipt { entry: None, ..receipt.clone() }.encode());
    (log, receipt)
}

fn prove(log: &Log, arguments: &[&str]) -> Answer {
    run(log.dir.path(), &[&["--key", &vkey()], arguments].concat())
}

#[test]
fn one_entry_is_proved_without_the_log() {
    let (log, receipt) = proved();
    fs::remove_dir_all(log.path("export")).unwrap();
    let good = prove(&log, &["--proof", "proof"]);
    assert_eq!(good.code, 0, "{}{}", good.out, good.err);
    assert!(
        good.out.contains("300 of 600: {\"at\":\"2026-03-01T00:00:00.300Z\",\"body\":{\"rows\":300}"),
        "{}",
        good.out
    );
    assert!(prove(&log, &["--proof", "proof", "--json"]).out.contains("\"index\":300,"));
    log.write("entry", receipt.entry.unwrap());
    assert_eq!(prove(&log, &["--proof", "bare", "--entry", "entry"]).code, 0);
}

#[test]
fn a_proof_proves_nothing_else() {
    let (log, receipt) = proved();
    log.write("other", entry(9_999));
    for (arguments, code) in [
        (&["--proof", "bare"][..], "proof_no_entry"),
        (&["--proof", "bare", "--entry", "other"], "proof_not_included"),
        (&["--proof", "proof", "--entry", "other"], "proof_other_entry"),
        (&["--proof", "other"], "proof_malformed"),
    ] {
        let answer = prove(&log, arguments);
        assert_eq!(answer.code, 1, "{arguments:?}");
        assert!(answer.out.contains(code) && answer.out.contains("NOT VERIFIED"), "{}", answer.out);
        let json = prove(&log, &[arguments, &["--json"]].concat());
        assert!(json.code == 1 && json.out.contains(&format!("{{\"code\":\"{code}\"")), "{}", json.out);
    }
    prove(&log, &["--proof", "nowhere"]).is_unusable("there is no file `nowhere`");
    let text = receipt.encode();
    for at in (0..text.len()).step_by(7) {
        let mut bad = text.clone().into_bytes();
        bad[at] ^= 4;
        log.write("bad", &bad);
        assert_eq!(prove(&log, &["--proof", "bad"]).code, 1, "byte {at}");
    }
}

#[test]
fn the_last_bundle_is_the_one_that_the_attacks_speak_of() {
    assert_eq!(tile::bundles(SIZE).last(), BundleId::new(2, 88).ok());
}
