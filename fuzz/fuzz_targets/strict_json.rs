//! Strict JSON is JSON, and its canonical form is one: written again it is the same.
#![no_main]

use countersign_audit::{from_slice_strict, to_canonical_vec};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = from_slice_strict(bytes) else { return };
    let lax: serde_json::Value = serde_json::from_slice(bytes).expect("what is strict is JSON");
    if let Ok(canonical) = to_canonical_vec(&value) {
        // 1.0 is 1 here, and has one form in both readings.
        assert_eq!(to_canonical_vec(&lax).unwrap(), canonical);
        let again = from_slice_strict(&canonical).expect("the canonical form is strict");
        assert_eq!(to_canonical_vec(&again).unwrap(), canonical);
    }
});
