//! What a statement visits, as its database tells it.

use std::sync::{Arc, Mutex};

use countersign_store::Options;

use crate::place::Place;

/// What was asked, in order: each text, with its parameters.
type Asked = Arc<Mutex<Vec<(&'static str, Vec<Option<String>>)>>>;

/// Returns options under which a ledger tells what it asks its database, and where it is told.
pub(crate) fn listened() -> (Asked, Options) {
    let asked = Asked::default();
    let told = Arc::clone(&asked);
    let hook = Arc::new(move |sql, params| told.lock().unwrap().push((sql, params)));
    (asked, Options { statements: Some(hook), ..Options::default() })
}

/// Returns how many rows PostgreSQL visits, or how many steps SQLite's machine takes, of which a row costs a few, to
/// answer a statement as it was asked. Nothing is changed.
pub(crate) async fn visits(place: &Place, sql: &str, params: &[Option<String>]) -> u64 {
    match place {
        Place::Sqlite(_) => steps(&rusqlite::Connection::open(place.path()).unwrap(), sql, params),
        Place::Postgres(database) => {
            let client = database.connect().await;
            let given: Vec<String> = params
                .iter()
                .map(|param| {
                    param
                        .as_ref()
                        .map_or_else(|| "NULL".into(), |text| format!("'{}'", text.replace('\'', "''")))
                })
                .collect();
            let list = if given.is_empty() { String::new() } else { format!("({})", given.join(", ")) };
            client.batch_execute(&format!("PREPARE visited AS {sql}; BEGIN")).await.unwrap();
            let explain = format!("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE visited{list}");
            let explained: serde_json::Value = client.query_one(&explain, &[]).await.unwrap().get(0);
            client.batch_execute("ROLLBACK").await.unwrap();
            rows(&explained[0]["Plan"])
        }
    }
}

fn steps(connection: &rusqlite::Connection, sql: &str, params: &[Option<String>]) -> u64 {
    let sql = sql.replace('$', "?");
    let mut program = connection.prepare(&format!("EXPLAIN {sql}")).unwrap();
    let mut program = program.raw_query();
    while let Some(row) = program.next().unwrap() {
        // One step that visits every page of a table.
        assert_ne!(row.get::<_, String>(1).unwrap(), "Count", "{sql}");
    }
    let transaction = connection.unchecked_transaction().unwrap();
    let mut statement = transaction.prepare(&sql).unwrap();
    for (place, param) in params.iter().enumerate() {
        statement.raw_bind_parameter(place + 1, param).unwrap();
    }
    let mut found = statement.raw_query();
    while found.next().unwrap().is_some() {}
    drop(found);
    u64::try_from(statement.get_status(rusqlite::StatementStatus::VmStep)).unwrap()
}

fn rows(node: &serde_json::Value) -> u64 {
    let number = |key: &str| node[key].as_f64().unwrap_or_default();
    let seen =
        number("Actual Rows") + number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
    let all = if node["Relation Name"].is_null() { 0.0 } else { seen * number("Actual Loops") };
    let below = node["Plans"].as_array().into_iter().flatten().map(rows).sum::<u64>();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rows")]
    let here = all.ceil() as u64;
    here + below
}
