//! SQLite.
use crate::catalog::Catalog;
use crate::error::SqlError;
use crate::reach::{NotCountable, ReachQuery};
use crate::statement::Statement;
fn pending() -> SqlError {
    SqlError::Unclassifiable { message: "SQLite is not supported yet".to_owned() }
}
pub(crate) fn explain(_sql: &str, _catalog: Option<&Catalog>) -> Result<Vec<Statement>, SqlError> {
    Err(pending())
}
pub(crate) fn fingerprint(_sql: &str) -> Result<String, SqlError> {
    Err(pending())
}
pub(crate) fn normalize(_sql: &str) -> Result<String, SqlError> {
    Err(pending())
}
pub(crate) fn reach_query(_sql: &str) -> Result<ReachQuery, NotCountable> {
    Err(pending().into())
}
