//! Errors of PostgreSQL, and what they mean.

use tokio_postgres::error::SqlState;

use crate::error::Failure;

/// Tells whether the server said no, and meant it: nothing was committed.
pub(super) fn is_refusal(code: &SqlState) -> bool {
    // Class 08 is about the connection; 57P is a server that goes down, perhaps just after the commit.
    !code.code().starts_with("08") && !code.code().starts_with("57P")
}

/// Returns what a database error means. The words are ours: PostgreSQL's may quote what was written.
pub(super) fn failure(why: &tokio_postgres::Error) -> Failure {
    let Some(code) = why.code() else {
        // The one kind of error that only its words tell.
        return if why.to_string().starts_with("error performing TLS handshake") {
            Failure::Unavailable("PostgreSQL offers no TLS, or a certificate that is not trusted".into())
        } else if why.is_closed() {
            Failure::Unavailable("the connection to PostgreSQL broke".into())
        } else if std::error::Error::source(why).is_some_and(|source| source.is::<std::io::Error>()) {
            Failure::Unavailable("PostgreSQL cannot be reached".into())
        } else {
            Failure::Statement("PostgreSQL could not be asked".into())
        };
    };
    let words = match code.code() {
        "25006" => "PostgreSQL is read-only",
        "53100" => "the disk of PostgreSQL is full",
        "55P03" => "another process holds the lock",
        "57014" => "PostgreSQL took too long",
        "28000" | "28P01" => "PostgreSQL refused the user or the password",
        "3D000" => "there is no such database",
        "XX001" | "XX002" => return Failure::Damaged("PostgreSQL found damaged data".into()),
        code if ["22", "23", "42"].iter().any(|class| code.starts_with(class)) => {
            return Failure::Statement(format!("PostgreSQL refused a statement ({code})"));
        }
        code => return Failure::Unavailable(format!("PostgreSQL cannot be used ({code})")),
    };
    Failure::Unavailable(words.into())
}
