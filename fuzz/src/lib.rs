//! What the targets share: a text written in other letters that means the same, and the databases of the corpora.

use countersign_sql::{Catalog, Snapshot};

/// The schema of SQLite's corpus.
pub const SQLITE_SCHEMA: &str = include_str!("../../crates/sql/tests/corpus/sqlite-schema.sql");

/// What `countersign system inspect` says of the database of PostgreSQL's corpus.
pub fn postgres_catalog() -> Catalog {
    Snapshot::parse(include_str!("../../crates/sql/tests/corpus/postgres-catalog.json")).unwrap().catalog
}

/// FNV-1a: choices that follow from the input alone, so that a finding is found again.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The text with other white space, comments and case, by PostgreSQL's own scanner. None when it does not scan.
pub fn respelled_postgres(text: &str) -> Option<String> {
    use pg_query::protobuf::Token;
    let scanned = pg_query::scan(text).ok()?;
    let (mut other, mut end, mut chance) = (String::new(), 0, hash(text));
    for token in &scanned.tokens {
        let (start, stop) = (usize::try_from(token.start).ok()?, usize::try_from(token.end).ok()?);
        other += &gap(text.get(end..start)?, &mut chance);
        let written = text.get(start..stop)?;
        let name = written.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let constant = matches!(
            token.token(),
            Token::Sconst | Token::Usconst | Token::Xconst | Token::Bconst | Token::Param
        );
        other += &if name && !constant { flipped(written, &mut chance) } else { written.to_owned() };
        end = stop;
    }
    Some(other + text.get(end..)?)
}

/// The same for SQLite. None where a comment, a quote or a parameter makes the meaning of a letter depend on its place.
pub fn respelled_sqlite(text: &str) -> Option<String> {
    if !text.is_ascii() || text.contains(['\'', '"', '`', '[', ':', '@', '$', '#', '?', '/', '-']) {
        return None;
    }
    let (mut other, mut chance) = (String::new(), hash(text));
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let kind = |c: char| (c.is_ascii_alphanumeric() || c == '_', c.is_ascii_whitespace());
        let length = rest.find(|c| kind(c) != kind(first)).unwrap_or(rest.len());
        let (part, then) = rest.split_at(length);
        other += &match kind(first) {
            (true, _) => flipped(part, &mut chance),
            (_, true) => gap(part, &mut chance),
            _ => part.to_owned(),
        };
        rest = then;
    }
    Some(other)
}

fn flipped(word: &str, chance: &mut u64) -> String {
    word.chars()
        .map(|letter| {
            *chance = chance.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            if *chance >> 63 == 1 { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
        })
        .collect()
}

/// White space stays white space, and a line break one: PostgreSQL joins strings across it.
fn gap(gap: &str, chance: &mut u64) -> String {
    if gap.is_empty() {
        return String::new();
    }
    *chance = chance.rotate_left(11).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match (gap.contains(['\n', '\r']), *chance >> 62) {
        (true, _) => " \n\t".to_owned(),
        (false, 0) => " /* ' */ ".to_owned(),
        (false, 1) => "\t".to_owned(),
        (false, _) => gap.to_owned(),
    }
}

/// Lets panics end the run, as libFuzzer's binding does, but for those of SQLite's grammar: that port is young, and the
/// crate answers its panics with a refusal of the text.
pub fn panics_end_the_run() {
    std::panic::set_hook(Box::new(|panic| {
        let file = panic.location().map_or("", |place| place.file());
        if !file.contains("sqlite3-parser") {
            eprintln!("{panic}");
            std::process::abort();
        }
    }));
}
