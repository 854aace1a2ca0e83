//! What can go wrong with a ledger: at a step with its database, and when it is opened.

use std::path::PathBuf;

use countersign_gate::ledger::LedgerFault;

/// Why a step with the database failed.
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

/// Why a ledger could not be opened. Messages carry no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process writes to it.
    #[error(
        "`{}` is in use by another process: stop that one, or keep the ledger on PostgreSQL, which several may share",
        .path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer program, or read-only by one that would have to change it.
    #[error(
        "the ledger has schema {found}, and this program knows {known}: use the program that wrote it, or a newer one"
    )]
    Schema {
        /// The schema found.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// Its log was begun with another key.
    #[error("the ledger's log is signed by `{stored}`, and this is another key: give that one")]
    OtherKey {
        /// The key of the log, as its vkey.
        stored: String,
    },
    /// What is stored cannot be right.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    /// Its log does not contain what is known of it.
    #[error(
        "the ledger went back: `{}` states a log of {kept} entries that this ledger, with {found}, does not contain; put \
         the right ledger in its place, or go on with this one by `countersign audit dangerous-restart`",
        .path.display()
    )]
    WentBack {
        /// The file that states the log.
        path: PathBuf,
        /// The size of the log that was signed.
        kept: u64,
        /// The size of the log that is there.
        found: u64,
    },
    /// There is none, and there was one.
    #[error(
        "the ledger is gone: `{}` states a log of {size} entries, and there is none; put the ledger back in its place, or \
         begin anew by `countersign audit dangerous-restart`",
        .path.display()
    )]
    Lost {
        /// The file that states the log.
        path: PathBuf,
        /// The size of the log that was signed.
        size: u64,
    },
    /// There is none, and it was opened to look at.
    #[error("there is no ledger yet: it begins when the server starts")]
    Absent,
    /// The file is something else.
    #[error("`{}` is another program's database, and no ledger: name another file", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint that is kept outside of the ledger cannot be read or written.
    #[error("the checkpoint `{}` cannot be used: {why}", .path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It cannot be reached, read or written.
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
