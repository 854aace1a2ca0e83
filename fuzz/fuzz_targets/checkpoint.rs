//! Notes and checkpoints: what is read is what was written, and nothing verifies that nobody signed.
#![no_main]

use countersign_audit::{Checkpoint, Note, SigningKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let key = SigningKey::from_seed("fuzz.example/log", &[7; 32]).unwrap();
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(Note::parse(note.encode().as_bytes()).unwrap().encode(), note.encode());
        if note.verify(&[key.verifier()]).is_ok() {
            // Only what the key signed: whoever finds this has forged a signature.
            let text = note.unverified_text();
            let signed = Note::sign(text, &[&key]).unwrap();
            assert!(note.encode().contains(signed.encode().trim_end().rsplit('\n').next().unwrap()));
        }
    }
    Checkpoint::open(bytes, &key.verifier()).ok();
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(checkpoint) = Checkpoint::parse_text(text) {
        assert_eq!(checkpoint.to_text(), text);
        // A key signs the log it is named after, and no other.
        let Ok(signed) = checkpoint.sign(&key) else {
            assert_ne!(checkpoint.origin(), "fuzz.example/log");
            return;
        };
        let opened = Checkpoint::open(signed.encode().as_bytes(), &key.verifier()).unwrap();
        assert_eq!(opened.to_text(), text);
    }
});
