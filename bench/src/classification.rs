//! What it costs to say what a statement does, against parsing it alone: without a catalog, and with one of 500 tables.
//!
//! PostgreSQL's parser stands alone; SQLite's does not, and what is put beside is its compiler on an open database with
//! that schema, which is what the database itself spends before it runs anything. Without a catalog a schema is drawn for a
//! SQLite statement and kept for those that are drawn alike; what one costs that is not is told beside.

use std::{cell::Cell, fmt::Write as _, hint::black_box, time::Instant};

use anyhow::Context as _;
use countersign_sql::{Catalog, Column, Dialect, ForeignKey, Known, Relation, RelationKind, explain};

use crate::report::median;

const TABLES: usize = 500;
const TURNS: usize = 15;
const REPEATS: usize = 100;

/// Statements of both dialects; the last two mean more with a catalog: a cascade, a view.
const STATEMENTS: [(&str, &str); 4] = [
    ("by key", "select name, country from customer where id = 7"),
    (
        "join",
        "select c.name, sum(b.total) from billing b join customer c on c.id = b.customer_id \
         where b.created_at < '2026-02-01' group by c.name order by 2 desc limit 10",
    ),
    (
        "delete that cascades",
        "delete from customer where country = 'AT' and id in (select customer_id from billing where created_at < '2026-02-01')",
    ),
    ("view", "select total from totals where customer_id = 7"),
];

/// One statement: median times in nanoseconds.
pub(crate) struct Row {
    pub(crate) dialect: Dialect,
    pub(crate) what: &'static str,
    pub(crate) parsed: f64,
    pub(crate) bare: f64,
    /// Without a catalog, over tables and columns that no statement before had.
    pub(crate) unmet: f64,
    pub(crate) known: f64,
}

/// Measures all of them in turns, so that a slow moment slows them all.
pub(crate) fn measure() -> anyhow::Result<Vec<Row>> {
    let catalog = catalog();
    let database = rusqlite::Connection::open_in_memory()?;
    for text in &catalog.schema {
        database.execute_batch(text)?;
    }
    let known = Known::new(catalog);
    let mut rows = Vec::new();
    let number = Cell::new(0_u32);
    for dialect in [Dialect::Postgres, Dialect::Sqlite] {
        for (what, sql) in STATEMENTS {
            explain(dialect, sql, Some(&known)).with_context(|| format!("{dialect}: {sql}"))?;
            let parse: &dyn Fn() = match dialect {
                Dialect::Postgres => &|| drop(black_box(pg_query::parse(sql, 0))),
                Dialect::Sqlite => &|| drop(black_box(database.prepare(sql))),
            };
            let unmet = || {
                number.set(number.get().wrapping_add(1));
                sql.replace("customer", &format!("customer_{}", number.get()))
            };
            let cases: [(&dyn Fn(), Vec<f64>); 4] = [
                (parse, Vec::new()),
                (&|| drop(black_box(explain(dialect, sql, None))), Vec::new()),
                (&|| drop(black_box(explain(dialect, &unmet(), None))), Vec::new()),
                (&|| drop(black_box(explain(dialect, sql, Some(&known)))), Vec::new()),
            ];
            let [parsed, bare, unmet, known] = timed(cases);
            rows.push(Row { dialect, what, parsed, bare, unmet, known });
        }
    }
    Ok(rows)
}

fn timed<const N: usize>(mut cases: [(&dyn Fn(), Vec<f64>); N]) -> [f64; N] {
    for _ in 0..TURNS {
        for (case, times) in &mut cases {
            let started = Instant::now();
            for _ in 0..REPEATS {
                case();
            }
            times.push(started.elapsed().as_secs_f64() * 1e9 / REPEATS as f64);
        }
    }
    cases.map(|(_, times)| median(times))
}

/// The median over the statements of a dialect of a ratio.
pub(crate) fn ratio(rows: &[Row], dialect: Dialect, of: impl Fn(&Row) -> f64) -> f64 {
    median(rows.iter().filter(|row| row.dialect == dialect).map(|row| of(row) / row.parsed).collect())
}

/// All figures, as Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "| dialect | statement | parsed µs | classified µs | × | over new names µs | with {TABLES} tables µs | × |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for Row { dialect, what, parsed, bare, unmet, known } in rows {
        let line = writeln!(
            text,
            "| {dialect} | {what} | {:.1} | {:.1} | {:.2} | {:.1} | {:.1} | {:.2} |",
            parsed / 1e3,
            bare / 1e3,
            bare / parsed,
            unmet / 1e3,
            known / 1e3,
            known / parsed,
        );
        debug_assert!(line.is_ok(), "a string takes what is written");
    }
    text
}

/// A shop among 500 tables that have nothing to do with it.
fn catalog() -> Catalog {
    let columns = |names: &[&str]| -> Vec<Column> {
        names
            .iter()
            .map(|name| Column {
                name: (*name).to_owned(),
                data_type: "text".to_owned(),
                ..Column::default()
            })
            .collect()
    };
    let table = |name: &str, names: &[&str]| Relation {
        schema: "public".to_owned(),
        name: name.to_owned(),
        columns: columns(names),
        primary_key: vec!["id".to_owned()],
        ..Relation::default()
    };
    let points_to = |table: &str| ForeignKey {
        columns: vec!["customer_id".to_owned()],
        schema: "public".to_owned(),
        table: table.to_owned(),
        on_delete: countersign_sql::Action::Cascade,
        ..ForeignKey::default()
    };
    let totals = "select customer_id, sum(total) as total from billing group by customer_id";
    let mut relations = vec![
        table("customer", &["id", "name", "country"]),
        Relation {
            foreign_keys: vec![points_to("customer")],
            ..table("billing", &["id", "customer_id", "total", "created_at"])
        },
        Relation {
            kind: RelationKind::View,
            definition: Some(totals.to_owned()),
            ..table("totals", &["customer_id", "total"])
        },
    ];
    let mut schema = vec![
        "create table customer (id integer primary key, name text, country text)".to_owned(),
        "create table billing (id integer primary key, customer_id integer references customer (id) on delete cascade, \
         total real, created_at text)"
            .to_owned(),
        format!("create view totals as {totals}"),
    ];
    for number in relations.len()..TABLES {
        let name = format!("table_{number}");
        let other = format!("table_{}", number.saturating_sub(1).max(3));
        relations.push(Relation {
            foreign_keys: vec![points_to(&other)],
            ..table(&name, &["id", "customer_id", "a", "b", "c", "d", "e", "f"])
        });
        schema.push(format!(
            "create table {name} (id integer primary key, customer_id integer references {other} (id) on delete cascade, \
             a text, b text, c text, d text, e text, f text)"
        ));
    }
    Catalog { relations, schema, ..Catalog::default() }
}
