//! The README's first command plays the incident, end to end, and leaves a folder to go on with.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test of the built program starts it")]

use std::{
    path::Path,
    process::{Command, Stdio},
};

#[test]
fn the_demo_stops_the_incident_and_leaves_a_working_folder() {
    let place = tempfile::tempdir().unwrap();
    let (code, told, errors) = countersign(place.path(), &["demo"]);
    assert_eq!(code, Some(0), "{told}\n{errors}");
    for part in [
        "Measured, without touching anything: 17,750 rows (14,200 of billing, 3,550 of billing_item)",
        "BLOCKED before anything ran",
        "ana REFUSES",
        "a person refused it: these are real invoices",
        "ana APPROVES",
        "72 rows touched",
        "20,000 before, 19,964 after",
        "VERIFIED",
    ] {
        assert!(told.contains(part), "`{part}` is missing in\n{told}");
    }

    let folder = place.path().join("countersign-demo");
    let (code, _, errors) = countersign(&folder, &["check"]);
    assert_eq!(code, Some(0), "{errors}");
    let (code, _, _) = countersign(&folder, &["audit", "verify"]);
    assert_eq!(code, Some(0));
    // Playing again does not overwrite what is there.
    let (code, _, errors) = countersign(place.path(), &["demo"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("remove it to play the demo again"), "{errors}");
}

fn countersign(folder: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
