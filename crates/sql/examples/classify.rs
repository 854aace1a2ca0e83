//! Classifies many statements against many moments of a database, for `tests/corpus/run`.
//!
//! `classify DIALECT ROWS SNAPSHOTS`: two files of JSON lines that the harness writes. ROWS has the objects that ever were
//! there, each once; SNAPSHOTS says of each moment which of them were there, by number. On standard input stands a statement a
//! line, `{"sql": …, "snapshot": number or null}`; on standard output what is said of it, in the same order: without a catalog
//! (`none`), with `extensions = ["standard"]` (`standard`), and with the catalog of its moment (`catalog`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};

use countersign_sql::{Catalog, Dialect, Known, explain};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What there was at one moment: numbers of rows, by family.
#[derive(Deserialize)]
struct Moment {
    search_path: Vec<String>,
    relations: Vec<usize>,
    routines: Vec<usize>,
    operators: Vec<usize>,
    types: Vec<usize>,
    casts: Vec<usize>,
}

#[derive(Deserialize)]
struct Asked {
    sql: String,
    snapshot: Option<usize>,
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().ok_or_else(|| io::Error::other("three arguments are needed"));
    let dialect = match argument()?.as_str() {
        "postgres" => Dialect::Postgres,
        _ => Dialect::Sqlite,
    };
    let rows: Vec<Value> = lines(&argument()?)?;
    let moments: Vec<Moment> = lines(&argument()?)?;
    let standard = Known::new(Catalog { extensions: vec!["standard".to_owned()], ..Catalog::default() });
    let mut last: Option<(usize, Known)> = None;
    let mut answers = BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let Asked { sql, snapshot } = serde_json::from_str(&line?)?;
        let mut answer = Map::from_iter([("none".to_owned(), said(dialect, &sql, None))]);
        if dialect == Dialect::Postgres {
            answer.insert("standard".to_owned(), said(dialect, &sql, Some(&standard)));
        }
        if let Some(number) = snapshot {
            if last.as_ref().is_none_or(|(known, _)| *known != number) {
                let moment = moments.get(number).ok_or_else(|| io::Error::other("no such snapshot"))?;
                last = Some((number, Known::new(catalog(moment, &rows)?)));
            }
            let known = last.as_ref().map(|(_, known)| known);
            answer.insert("catalog".to_owned(), said(dialect, &sql, known));
        }
        writeln!(answers, "{}", Value::Object(answer))?;
    }
    answers.flush()
}

/// The effect of a text, and the reasons for it.
fn said(dialect: Dialect, sql: &str, known: Option<&Known>) -> Value {
    match explain(dialect, sql, known) {
        Ok(told) => {
            let reasons: Vec<_> =
                told.reasons.iter().map(|reason| json!([reason.code, reason.text])).collect();
            json!({ "effect": told.effect.to_string(), "reasons": reasons })
        }
        Err(error) => json!({ "effect": "refused", "reasons": [[error.code(), error.to_string()]] }),
    }
}

fn catalog(moment: &Moment, rows: &[Value]) -> io::Result<Catalog> {
    let family = |numbers: &[usize]| -> Value {
        numbers.iter().filter_map(|number| rows.get(*number).cloned()).collect()
    };
    let mut catalog: Catalog = serde_json::from_value(json!({
        "search_path": moment.search_path,
        "relations": family(&moment.relations),
        "routines": family(&moment.routines),
        "operators": family(&moment.operators),
        "types": family(&moment.types),
        "casts": family(&moment.casts),
    }))?;
    catalog.settle();
    Ok(catalog)
}

fn lines<T: serde::de::DeserializeOwned>(path: &str) -> io::Result<Vec<T>> {
    BufReader::new(File::open(path)?).lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}
