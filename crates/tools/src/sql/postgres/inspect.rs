//! Reads what a PostgreSQL database holds, for [`countersign_sql::Snapshot`].

use countersign_sql::Catalog;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_postgres::{Error, Transaction};

/// One statement a family, under a comment with its name.
const STATEMENTS: &str = include_str!("inspect.sql");

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum InspectError {
    #[error(transparent)]
    Database(#[from] Error),
    /// The database said something that is not of our form.
    #[error("what the database says of its {0} is not understood: {1}")]
    Form(&'static str, String),
}

/// Reads the catalog. Names without a schema are those of PostgreSQL itself: `tx` must look up nothing else.
pub(super) async fn catalog(tx: &Transaction<'_>, search_path: &[String]) -> Result<Catalog, InspectError> {
    Ok(Catalog {
        // What an extension brings is listed like everything else.
        extensions: Vec::new(),
        search_path: search_path.to_vec(),
        relations: family(tx, "relations").await?,
        routines: family(tx, "routines").await?,
        operators: family(tx, "operators").await?,
        types: family(tx, "types").await?,
        casts: family(tx, "casts").await?,
        schema: Vec::new(),
    })
}

async fn family<T: DeserializeOwned>(
    tx: &Transaction<'_>,
    name: &'static str,
) -> Result<Vec<T>, InspectError> {
    let form = |why: String| InspectError::Form(name, why);
    let Some(sql) =
        STATEMENTS.split_once(&format!("-- {name}\n")).and_then(|(_, rest)| rest.split(';').next())
    else {
        return Err(form("there is no statement for it".into()));
    };
    let mut found = Vec::new();
    for row in tx.query(sql, &[]).await? {
        let value: Value = row.try_get(0)?;
        found.push(serde_json::from_value(value).map_err(|why| form(why.to_string()))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_statement_for_each_family() {
        for name in ["relations", "routines", "operators", "types", "casts"] {
            let (_, rest) = STATEMENTS.split_once(&format!("-- {name}\n")).unwrap();
            assert!(rest.starts_with("SELECT jsonb_build_object("), "{name}");
        }
    }
}
