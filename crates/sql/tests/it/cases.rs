//! Reads the corpus files.

/// One line of a corpus.
pub(crate) struct Case<'a> {
    pub(crate) line: usize,
    pub(crate) heading: &'a str,
    pub(crate) sql: &'a str,
}

/// The statements of a corpus.
pub(crate) fn cases(text: &str) -> Vec<Case<'_>> {
    let mut heading = "";
    let mut cases = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(new) = line.strip_prefix("== ") {
            heading = new;
        } else if !line.starts_with("# ") && !line.is_empty() {
            cases.push(Case { line: number + 1, heading, sql: line });
        }
    }
    cases
}
