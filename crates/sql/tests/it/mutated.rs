//! Known statements, mutated token by token: whatever comes of it, there is an answer in bounded time, and what is called
//! a read a real database takes where nothing can be written, without a trace.

use countersign_sql::{Dialect, Effect, explain};

use crate::cases::cases;
use crate::chance::Chance;
use crate::postgres_server::{Scratch, only};
use crate::sqlite_server::Readable;

const POSTGRES: &str = include_str!("../corpus/postgres.txt");
const SQLITE: &str = include_str!("../corpus/sqlite.txt");
/// Mutants of each corpus.
const MUTANTS: usize = 6_000;

fn tokens(sql: &str) -> Vec<String> {
    let mut tokens = vec![String::new()];
    for letter in sql.chars() {
        let word = |letter: char| letter.is_alphanumeric() || "_'\"$\\&".contains(letter);
        let last = tokens.last_mut().unwrap();
        if last
            .chars()
            .next_back()
            .is_none_or(|before| word(before) == word(letter) && !letter.is_whitespace())
        {
            last.push(letter);
        } else {
            tokens.push(letter.to_string());
        }
    }
    tokens
}

/// Takes out, doubles, swaps and borrows tokens.
fn mutant(all: &[Vec<String>], chance: &mut Chance) -> String {
    let mut tokens = all[chance.below(all.len())].clone();
    for _ in 0..=chance.below(3) {
        let at = chance.below(tokens.len());
        let donor = &all[chance.below(all.len())];
        let from = chance.below(donor.len());
        match chance.below(5) {
            0 if tokens.len() > 1 => {
                tokens.remove(at);
            }
            1 => tokens.insert(at, tokens[at].clone()),
            2 => {
                let other = chance.below(tokens.len());
                tokens.swap(at, other);
            }
            3 => {
                tokens.splice(at..=at, donor[from..(from + 4).min(donor.len())].iter().cloned());
            }
            _ => tokens[at] = donor[from].clone(),
        }
    }
    tokens.concat()
}

fn corpus(text: &str) -> Vec<Vec<String>> {
    cases(text).iter().filter(|case| case.sql.len() < 400).map(|case| tokens(case.sql)).collect()
}

#[tokio::test]
async fn no_mutant_of_a_write_is_a_read_to_us_and_a_write_to_postgres() {
    let scratch = Scratch::new("mutated").await;
    let (all, mut chance) = (corpus(POSTGRES), Chance::new(11));
    let (mut valid, mut reads, mut ran, mut wrong) = (0_u32, 0_u32, 0_u32, Vec::new());
    for _ in 0..MUTANTS {
        let sql = mutant(&all, &mut chance);
        let Ok(explained) = explain(Dialect::Postgres, &sql, None) else { continue };
        valid += 1;
        // A view over a function that writes: no text tells.
        if explained.effect != Effect::Read || sql.contains("sneaky") || sql.contains("copy") {
            continue;
        }
        reads += 1;
        match scratch.accepted(&sql).await {
            Err(said) if said.starts_with("25006") => wrong.push(format!("{said}: {sql}")),
            // Not valid for this database.
            Err(_) => continue,
            Ok(()) => ran += 1,
        }
        if let Ok(traces) = scratch.traces(&sql).await
            && !traces.is_empty()
            && !(sql.trim_start().to_ascii_lowercase().starts_with("explain")
                && only(&traces, "RowExclusiveLock"))
        {
            wrong.push(format!("leaves {traces}: {sql}"));
        }
    }
    scratch.drop().await;
    println!("{MUTANTS} mutants: {valid} parse, {reads} called a read, {ran} of them ran");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(valid > 500 && ran > 50, "{valid} {ran}");
}

#[test]
fn no_mutant_of_a_write_is_a_read_to_us_and_a_write_to_sqlite() {
    let readable = Readable::new();
    let (all, mut chance) = (corpus(SQLITE), Chance::new(11));
    let (mut reads, mut wrong) = (0_u32, Vec::new());
    for _ in 0..MUTANTS {
        let sql = mutant(&all, &mut chance);
        let Ok(explained) = explain(Dialect::Sqlite, &sql, None) else { continue };
        if explained.effect != Effect::Read {
            continue;
        }
        reads += 1;
        match readable.run(&sql) {
            Ok(true) => {}
            Ok(false) => wrong.push(format!("SQLite does not call it read-only: {sql}")),
            Err(said) if said.contains("readonly database") => wrong.push(format!("{said}: {sql}")),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(reads > 100, "only {reads} reads");
    assert!(readable.untouched());
}
