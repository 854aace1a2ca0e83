//! Failures of a ledger: at a step with its database, and when it is opened.

use std::path::PathBuf;

use countersign_gate::ledger::LedgerFault;

/// A step with the database failed, for one of these reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A statement could not be executed; perhaps only because of one operation.
    Statement(String),
    /// The database cannot be used now; nothing was kept.
    Unavailable(String),
    /// The commit was sent and its answer never came.
    Unknown(String),
    /// What is stored cannot be right.
    Damaged(String),
}

impl From<Failure> for LedgerFault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Statement(why) | Failure::Unavailable(why) => Self::Unavailable(why),
            Failure::Unknown(why) => Self::Unknown(why),
            Failure::Damaged(why) => Self::Damaged(why),
        }
    }
}

impl From<LedgerFault> for Failure {
    fn from(fault: LedgerFault) -> Self {
        match fault {
            LedgerFault::Unavailable(why) => Self::Statement(why),
            LedgerFault::Unknown(why) => Self::Unknown(why),
            LedgerFault::Damaged(why) => Self::Damaged(why),
        }
    }
}

/// A ledger could not be opened, for one of these reasons. Messages carry no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process writes to the ledger.
    #[error(
        "`{}` is in use by another process: stop that one, or keep the ledger on PostgreSQL, which several may share",
        .path.display()
    )]
    InUse {
        /// The ledger is in this file.
        path: PathBuf,
    },
    /// The ledger was written by a newer program, or was opened to read only while it has an older schema,
    /// which would have to be changed.
    #[error(
        "the ledger has schema {found}, and this program knows {known}: use the program that wrote it, or a newer one"
    )]
    Schema {
        /// The ledger has the schema of this number.
        found: i64,
        /// This is the number of the newest schema that the program knows.
        known: i64,
    },
    /// The ledger's log was begun with another key.
    #[error("the ledger's log is signed by `{stored}`, and this is another key: give that one")]
    OtherKey {
        /// The log is signed with this key, as a vkey.
        stored: String,
    },
    /// What is stored cannot be right.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    /// The ledger's log does not contain what is known of it.
    #[error(
        "the ledger went back: `{}` states a log of {kept} entries that this ledger, with {found}, does not contain; put \
         the right ledger in its place, or go on with this one by `countersign audit dangerous-restart`",
        .path.display()
    )]
    WentBack {
        /// This file states a log that is not contained.
        path: PathBuf,
        /// The log that the file states has so many entries.
        kept: u64,
        /// The log that is there has so many entries.
        found: u64,
    },
    /// There is no ledger, and there was one.
    #[error(
        "the ledger is gone: `{}` states a log of {size} entries, and there is none; put the ledger back in its place, or \
         begin anew by `countersign audit dangerous-restart`",
        .path.display()
    )]
    Lost {
        /// This file states the log that there was.
        path: PathBuf,
        /// The log that the file states has so many entries.
        size: u64,
    },
    /// There is no ledger, and it was opened in a way in which none begins: to be read, or beside a server.
    #[error("there is no ledger yet: it begins when the server starts")]
    Absent,
    /// The file is something else than a ledger.
    #[error("`{}` is another program's database, and no ledger: name another file", .path.display())]
    Foreign {
        /// This file is another program's.
        path: PathBuf,
    },
    /// A checkpoint that is kept outside of the ledger cannot be read or written.
    #[error("the checkpoint `{}` cannot be used: {why}", .path.display())]
    Kept {
        /// This file cannot be used.
        path: PathBuf,
        /// This says what is wrong with the file.
        why: String,
    },
    /// The ledger cannot be reached, read or written.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
    /// The URL or a certificate cannot be used.
    #[error("the ledger's URL cannot be used: {0}")]
    Url(String),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Statement(why) | Failure::Unavailable(why) | Failure::Unknown(why) => {
                Self::Unavailable(why)
            }
            Failure::Damaged(why) => Self::Damaged(why),
        }
    }
}

impl From<LedgerFault> for StoreError {
    fn from(fault: LedgerFault) -> Self {
        Failure::from(fault).into()
    }
}
