//! Why a statement on SQLite did not end well, and what is said of it.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "SQLite's codes: those not named are treated alike, and reported as they are"
)]

use countersign_gate::ToolError;
use rusqlite::ErrorCode;

use crate::sql::value::BadRow;

/// Why a statement on SQLite did not end well.
pub(super) enum SqliteFault {
    Sqlite(rusqlite::Error),
    /// The journal has the call's record already: it took effect before.
    Recorded(String),
    Row(BadRow),
    Argument(String),
    Result(String),
}

impl From<rusqlite::Error> for SqliteFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<BadRow> for SqliteFault {
    fn from(error: BadRow) -> Self {
        Self::Row(error)
    }
}

pub(super) fn interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

pub(super) fn failed(fault: &SqliteFault) -> ToolError {
    let message = told(fault);
    let unavailable = match fault {
        SqliteFault::Sqlite(error) => matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::CannotOpen
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DiskFull
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::ReadOnly
                    | ErrorCode::PermissionDenied
            )
        ),
        SqliteFault::Recorded(_) => return ToolError::InDoubt { message },
        SqliteFault::Row(_) | SqliteFault::Argument(_) | SqliteFault::Result(_) => false,
    };
    if unavailable { ToolError::Unavailable { message } } else { ToolError::Failed { message } }
}

/// Tells what went wrong, without the path of the file.
pub(super) fn told(fault: &SqliteFault) -> String {
    match fault {
        SqliteFault::Sqlite(error) if interrupted(error) => {
            "the statement took too long, and was stopped".into()
        }
        SqliteFault::Sqlite(error) => match error {
            rusqlite::Error::SqlInputError { msg, .. } => format!("the database says: {msg}"),
            rusqlite::Error::SqliteFailure(code, Some(message)) => match code.code {
                ErrorCode::CannotOpen => "the database file cannot be opened".into(),
                ErrorCode::AuthorizationForStatementDenied => {
                    format!("the statement reaches beyond what its tool may touch: {message}")
                }
                _ => format!("the database says: {message}"),
            },
            rusqlite::Error::SqliteFailure(code, None) => format!("the database says: {code}"),
            other => format!("the database library says: {other}"),
        },
        SqliteFault::Row(why) => why.to_string(),
        SqliteFault::Argument(why) | SqliteFault::Recorded(why) => why.clone(),
        SqliteFault::Result(why) => format!("{why}; nothing was changed"),
    }
}
