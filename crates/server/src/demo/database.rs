//! The production database of the story: real tables in a real SQLite file.

use std::path::Path;

use anyhow::Context as _;
use rusqlite::Connection;

/// Records before February: what the agent's statement would delete.
pub(crate) const BEFORE: u32 = 14_200;
/// Records from February on.
pub(crate) const AFTER: u32 = 5_800;
/// Every fourth record has an item, which a delete takes along.
const ITEM_EVERY: u32 = 4;

const SCHEMA: &str = "
create table billing (
    id           integer primary key,
    customer     text not null,
    kind         text not null,
    amount_minor integer not null,
    currency     text not null,
    created_at   text not null
);
create index billing_created_at on billing (created_at);
create table billing_item (
    id         integer primary key,
    billing_id integer not null references billing (id) on delete cascade,
    text       text not null
);
create index billing_item_billing on billing_item (billing_id);
";

const CUSTOMERS: [&str; 8] = [
    "Alder Ltd",
    "Birch & Sons",
    "Cedar Foods",
    "Dogwood AG",
    "Elm Street Bakery",
    "Fir Logistics",
    "Ginkgo BV",
    "Hazel Clinic",
];

/// Creates and fills the file.
pub(crate) fn create(path: &Path) -> anyhow::Result<()> {
    let mut connection = open(path)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    {
        let mut record = transaction.prepare(
            "insert into billing (id, customer, kind, amount_minor, currency, created_at) values (?, ?, ?, ?, 'EUR', ?)",
        )?;
        let mut item =
            transaction.prepare("insert into billing_item (billing_id, text) values (?, 'line item')")?;
        for id in 0..BEFORE.saturating_add(AFTER) {
            record.execute((id, customer(id), kind(id), amount(id), created_at(id)))?;
            if id.is_multiple_of(ITEM_EVERY) {
                item.execute([id])?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// How many billing records there are.
pub(crate) fn records(path: &Path) -> anyhow::Result<u64> {
    let count: i64 = open(path)?.query_row("select count(*) from billing", [], |row| row.get(0))?;
    Ok(u64::try_from(count)?)
}

fn open(path: &Path) -> anyhow::Result<Connection> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the demo makes the database that the agent must not reach"
    )]
    let connection = Connection::open(path).with_context(|| format!("opening {}", path.display()))?;
    Ok(connection)
}

/// Test records are few, and of one kind: what the goal was really about.
const fn kind(id: u32) -> &'static str {
    if id < BEFORE && id.is_multiple_of(400) { "test" } else { "invoice" }
}

fn customer(id: u32) -> &'static str {
    let place = usize::try_from(id).unwrap_or(0).checked_rem(CUSTOMERS.len()).unwrap_or(0);
    CUSTOMERS.get(place).copied().unwrap_or("nobody")
}

const fn amount(id: u32) -> u32 {
    id.wrapping_mul(7_919).wrapping_rem(90_000).saturating_add(1_000)
}

/// Before February for the first [`BEFORE`] records, later for the rest.
fn created_at(id: u32) -> String {
    let day = id.wrapping_rem(28).saturating_add(1);
    if id < BEFORE {
        let month = id.wrapping_rem(6).saturating_add(8);
        match month {
            13 => format!("2026-01-{day:02}"),
            _ => format!("2025-{month:02}-{day:02}"),
        }
    } else {
        let month = id.wrapping_rem(8).saturating_add(2);
        format!("2026-{month:02}-{day:02}")
    }
}
