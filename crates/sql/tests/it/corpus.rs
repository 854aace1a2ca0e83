//! The corpus: every statement has the effect and the categories its heading names.

use crate::cases::{Case, cases};
use countersign_sql::{Category, Dialect, Effect, explain};

fn check(dialect: Dialect, text: &str) {
    let mut wrong = Vec::new();
    let cases = cases(text);
    for case in &cases {
        if let Some(complaint) = complaint(dialect, case) {
            wrong.push(format!("line {}: {complaint}\n    {}", case.line, case.sql));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn complaint(dialect: Dialect, case: &Case<'_>) -> Option<String> {
    let answer = explain(dialect, case.sql, None);
    let words = case.heading.split(' ').collect::<Vec<_>>();
    match (words[0], answer) {
        ("error", Err(error)) => {
            (error.code() != words[1]).then(|| format!("error {} instead", error.code()))
        }
        ("error", Ok(explained)) => Some(format!("{} instead of an error", explained.effect)),
        (_, Err(error)) => Some(format!("error {}: {error}", error.code())),
        (word, Ok(explained)) => {
            let right = match word {
                "read" | "read-new" => explained.effect == Effect::Read,
                "cautious" => explained.effect != Effect::Read,
                "write" => explained.effect == Effect::Write || mixed(words[1], explained.effect),
                "destructive" => explained.effect == Effect::Destructive,
                other => panic!("unknown heading `{other}`"),
            };
            if !right {
                return Some(format!("{} with {:?}", explained.effect, explained.reasons));
            }
            let names: Vec<_> =
                explained.categories.iter().map(|category: &Category| category.as_str()).collect();
            let missing: Vec<_> = words[1..].iter().filter(|word| !names.contains(*word)).collect();
            (!missing.is_empty()).then(|| format!("without category {missing:?}, only {names:?}"))
        }
    }
}

/// A few headings collect a category whose statements are not all of one effect.
fn mixed(category: &str, effect: Effect) -> bool {
    matches!(category, "large_object" | "lock" | "opaque") && effect == Effect::Destructive
}

#[test]
fn postgres_statements_are_what_their_heading_says() {
    check(Dialect::Postgres, include_str!("../corpus/postgres.txt"));
}

#[test]
fn sqlite_statements_are_what_their_heading_says() {
    check(Dialect::Sqlite, include_str!("../corpus/sqlite.txt"));
}
