//! Why a statement on PostgreSQL did not end well, and what is said of it.

use countersign_gate::{MeasureError, ToolError};
use tokio_postgres::{Error, error::SqlState};

use crate::{secret::Scrubber, sql::value::BadRow};

/// Why a statement on PostgreSQL did not end well, before any `COMMIT`.
pub(super) enum PostgresFault {
    Database(Error),
    Row(BadRow),
    Other(String),
    /// The journal has the call's id already: it took effect before, or was given up.
    Recorded(String),
    /// Rows moved while they were looked at: nothing was changed, and another try may do better.
    Moved(String),
}

impl From<Error> for PostgresFault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<BadRow> for PostgresFault {
    fn from(error: BadRow) -> Self {
        Self::Row(error)
    }
}

/// Tells whether a prepared statement gives other columns than when it was prepared, because its tables have changed.
pub(super) fn outdated(fault: &PostgresFault) -> bool {
    match fault {
        // Of this refusal PostgreSQL has one and no code of its own.
        PostgresFault::Database(error) => error.as_db_error().is_some_and(|said| {
            *said.code() == SqlState::FEATURE_NOT_SUPPORTED && said.routine() == Some("RevalidateCachedQuery")
        }),
        PostgresFault::Row(_)
        | PostgresFault::Other(_)
        | PostgresFault::Recorded(_)
        | PostgresFault::Moved(_) => false,
    }
}

/// Says why a reach is not known: counted, rehearsed, or of an undo. See PostgreSQL's appendix "Error Codes".
pub(super) fn unmeasured(scrubber: &Scrubber, fault: &PostgresFault) -> MeasureError {
    let error = match fault {
        PostgresFault::Row(why) => return MeasureError::NotMeasurable(scrubber.clean(&why.to_string())),
        PostgresFault::Other(why) | PostgresFault::Recorded(why) => {
            return MeasureError::NotMeasurable(scrubber.clean(why));
        }
        PostgresFault::Moved(why) => return MeasureError::Limit(scrubber.clean(why)),
        PostgresFault::Database(error) => error,
    };
    let why = scrubber.clean(&told(error));
    let Some(code) = error.code().map(SqlState::code) else {
        // Not the server's words: an argument that its type does not hold, or a connection that is gone.
        let argument = std::error::Error::source(error).is_some_and(|cause| !cause.is::<std::io::Error>());
        let rejected = argument && !error.is_closed();
        return if rejected { MeasureError::Rejected(why) } else { MeasureError::System(why) };
    };
    match (code, code.get(..2).unwrap_or_default()) {
        // Stopped by a timeout or a lock, broken off for the sake of others, or out of space for temporary files.
        _ if cut_short(error) => MeasureError::Limit(STOPPED.into()),
        ("55P03" | "55006" | "53400", _) | (_, "40") => MeasureError::Limit(why),
        // Counting would itself have changed something.
        ("25006", _) => MeasureError::NotMeasurable(why),
        // Connections, resources, shutting down, the machine below.
        (_, "08" | "53" | "57" | "58" | "XX" | "F0") => MeasureError::System(why),
        // Names, types, grants, values, constraints, what a trigger raises: it would end so as well when it is meant.
        _ => MeasureError::Rejected(why),
    }
}

/// Tells what the server said, without what repeats values of rows: the detail, and what is quoted of values that are
/// no number, date or the like (class 22).
pub(super) fn told(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) if said.code().code().starts_with("22") => {
            format!("the database says: {} ({})", unquoted(said.message()), said.code().code())
        }
        Some(said) => format!("the database says: {} ({})", said.message(), said.code().code()),
        None if error.is_closed() => "the connection to the database was lost".into(),
        None => {
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        }
    }
}

/// A message without what stands in it between the first and the last quotation mark.
fn unquoted(message: &str) -> String {
    match (message.split_once('"'), message.rsplit_once('"')) {
        (Some((before, _)), Some((_, after))) => format!("{before}\"…\"{after}"),
        _ => message.to_owned(),
    }
}

/// What is told of a statement whose time was up.
const STOPPED: &str = "the statement took too long, and was stopped";

/// Tells whether the statement's time was up. Where it is up between two messages, the server says so in answer to the end of the
/// first, where the client no longer listens; what is heard then is that the transaction is over.
pub(super) fn cut_short(error: &Error) -> bool {
    error
        .code()
        .is_some_and(|code| [SqlState::QUERY_CANCELED, SqlState::IN_FAILED_SQL_TRANSACTION].contains(code))
}

pub(super) fn failed(scrubber: &Scrubber, fault: &PostgresFault) -> ToolError {
    match fault {
        PostgresFault::Database(error) if cut_short(error) => ToolError::Failed { message: STOPPED.into() },
        PostgresFault::Database(error) => {
            let message = scrubber.clean(&told(error));
            if error.as_db_error().is_none() && error.is_closed() {
                ToolError::Unavailable { message }
            } else {
                ToolError::Failed { message }
            }
        }
        PostgresFault::Row(why) => ToolError::Failed { message: scrubber.clean(&why.to_string()) },
        PostgresFault::Recorded(why) => ToolError::InDoubt { message: scrubber.clean(why) },
        PostgresFault::Other(why) | PostgresFault::Moved(why) => {
            ToolError::Failed { message: scrubber.clean(why) }
        }
    }
}
