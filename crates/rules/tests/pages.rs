//! Every code has a page that says the same as the code, and no page is left of a code that is gone.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use countersign_rules::Code;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors")
}

fn page(name: &str) -> String {
    fs::read_to_string(folder().join(name)).expect(name)
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let mut expected: BTreeSet<String> =
        Code::ALL.iter().map(|code| format!("{}.md", code.as_str())).collect();
    expected.insert("README.md".into());
    let found: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_page_says_what_agents_and_operators_do() {
    for code in Code::ALL {
        let text = page(&format!("{}.md", code.as_str()));
        let title = text.lines().next().unwrap().strip_prefix(&format!("# {}: ", code.as_str()));
        let title = title.unwrap_or_else(|| panic!("{}: the title", code.as_str()));
        let status = format!("\nStatus `{}`.\n", code.status());
        let example = format!("   code: {}\n```\n", code.as_str());
        for part in [status.as_str(), "\n```text\n", &example, "\n## As an agent\n", "\n## As an operator\n"]
        {
            assert!(text.contains(part), "{}: lacks {part:?}", code.as_str());
        }
        let line = format!("| [{0}]({0}.md) | `{1}` | {title} |", code.as_str(), code.status());
        assert!(page("README.md").contains(&line), "README.md lacks {line:?}");
    }
}
