//! docs/threats.md names tests; each must exist.

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn every_test_that_the_threats_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let named: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.matches(" | ").count() == 2)
        .filter_map(|line| line.rsplit_once(" | "))
        .flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 40, "{} tests are named", named.len());
    let mut sources = String::new();
    read(&root.join("crates"), &mut sources);
    let missing: Vec<&&str> = named.iter().filter(|name| !sources.contains(**name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

fn read(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
