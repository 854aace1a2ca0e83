//! Receipts: hostile bytes never verify, and never bring the verifier down.
#![no_main]

use countersign_audit::{Receipt, SigningKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let key = SigningKey::from_seed("fuzz.example/log", &[7; 32]).unwrap().verifier();
    let Ok(receipt) = Receipt::parse(bytes) else { return };
    assert_eq!(Receipt::parse(receipt.encode().as_bytes()).unwrap().encode(), receipt.encode());
    receipt.verify(&key).ok();
    receipt.verify_entry(&key, bytes).ok();
});
