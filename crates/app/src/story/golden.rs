//! The files that what is told is held to.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What the gate writes of each kind, in each form: its own golden files, line by line.
pub(super) fn entries() -> impl Iterator<Item = String> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("../gate/tests/gate/golden"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.into_iter().flat_map(|file| lines(&file))
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

/// Whether a file says this; built with a word for it, the file is written.
pub(super) fn holds(name: &str, told: &str) {
    let file = root().join("tests/golden").join(name);
    if option_env!("COUNTERSIGN_WRITE_GOLDEN").is_some() {
        fs::write(&file, told).unwrap();
    }
    assert_eq!(fs::read_to_string(file).unwrap(), told);
}
