//! Options by which a ledger is opened, and what must hold of it.

use std::{fs, io::ErrorKind, path::PathBuf, time::Duration};

use countersign_audit::{Checkpoint, VerifierKey};

use crate::{error::StoreError, outbox::Telling, row::StatementHook, writer::StepHook};

/// These options say how a ledger is opened. The defaults are right for a server.
#[derive(Clone)]
pub struct Options {
    /// So many operations may wait to be written, and at least 1; more wait to be queued.
    pub queue: usize,
    /// An operation waits so long to be queued before it is refused as unavailable. A connection to PostgreSQL
    /// is waited for as long.
    pub queue_timeout: Duration,
    /// One statement may take so long on PostgreSQL.
    pub statement_timeout: Duration,
    /// A lock that another program holds is waited for so long.
    pub lock_timeout: Duration,
    /// So many connections are kept for reading, and at least 1.
    pub readers: usize,
    /// An SQLite file may grow to at most so many pages of 4 KiB; the limit is SQLite's own when `None`.
    pub sqlite_pages_max: Option<u32>,
    /// PostgreSQL's certificate is checked against those in this file (PEM), in place of the platform's.
    pub postgres_ca: Option<PathBuf>,
    /// The newest checkpoint of the log is kept in this file, outside of the ledger; nowhere when `None`.
    pub checkpoint: Option<PathBuf>,
    /// Others keep signed checkpoints of the log in these files; the log must contain what they state.
    pub witnesses: Vec<PathBuf>,
    /// Idempotency keys are kept at least so long.
    pub keys_kept: Duration,
    /// People are told of requests by these rules.
    pub telling: Telling,
    /// Opening the ledger takes this for granted.
    pub opening: Opening,
    /// This is called between the durable steps of the writer. It is for tests.
    #[doc(hidden)]
    pub hook: Option<StepHook>,
    /// This is told each statement that operations and readers ask, before it is asked. It is for tests.
    #[doc(hidden)]
    pub statements: Option<StatementHook>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue: 1_024,
            queue_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            readers: 4,
            sqlite_pages_max: None,
            postgres_ca: None,
            checkpoint: None,
            witnesses: Vec::new(),
            keys_kept: Duration::from_secs(24 * 60 * 60),
            telling: Telling::default(),
            opening: Opening::Known,
            hook: None,
            statements: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("queue", &self.queue)
            .field("queue_timeout", &self.queue_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("readers", &self.readers)
            .field("checkpoint", &self.checkpoint)
            .field("witnesses", &self.witnesses)
            .field("keys_kept", &self.keys_kept)
            .field("telling", &self.telling)
            .field("opening", &self.opening)
            .finish_non_exhaustive()
    }
}

/// Opening a ledger may take this for granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opening {
    /// The ledger must contain what is known of it. Where nothing is known, it may begin.
    #[default]
    Known,
    /// The ledger is taken as it is, or begun anew, whatever is known. Whoever says so records why.
    DangerouslyAccepted,
}

/// This is a checkpoint of the log that is kept outside of its ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// It is kept in this file.
    pub path: PathBuf,
    /// The file states this checkpoint.
    pub checkpoint: Checkpoint,
    /// The file holds this signed note.
    pub note: String,
}

impl Options {
    /// Returns how long idempotency keys are kept at least, in milliseconds.
    pub(crate) fn keys_kept_ms(&self) -> i64 {
        i64::try_from(self.keys_kept.as_millis()).unwrap_or(i64::MAX)
    }

    /// Reads the checkpoints of the log of `key` that are kept outside of its ledger, as far as they are there;
    /// a witness's must be.
    ///
    /// # Errors
    /// Fails with [`StoreError::Kept`] when a file cannot be read, or states something else than a checkpoint
    /// of this log.
    pub fn kept(&self, key: &VerifierKey) -> Result<Vec<Kept>, StoreError> {
        let own = self.checkpoint.iter().filter_map(|path| match fs::read(path) {
            Err(why) if why.kind() == ErrorKind::NotFound => None,
            read => Some((path, read)),
        });
        own.chain(self.witnesses.iter().map(|path| (path, fs::read(path))))
            .map(|(path, read)| {
                let unusable = |why: String| StoreError::Kept { path: path.clone(), why };
                let bytes = read.map_err(|why| unusable(why.to_string()))?;
                let checkpoint = Checkpoint::open(&bytes, key).map_err(|why| unusable(why.to_string()))?;
                let note = String::from_utf8(bytes).map_err(|why| unusable(why.to_string()))?;
                Ok(Kept { path: path.clone(), checkpoint, note })
            })
            .collect()
    }

    /// Returns what must hold of the ledger with the log of `key`: the checkpoints that are kept, or none of
    /// them where the ledger is taken as it is.
    pub(crate) fn expected(&self, key: &VerifierKey) -> Result<Vec<Kept>, StoreError> {
        match self.opening {
            Opening::Known => self.kept(key),
            Opening::DangerouslyAccepted => Ok(Vec::new()),
        }
    }

    /// Checks that a log may begin here, given what is known of it. It fails with [`StoreError::Lost`] where a
    /// checkpoint states that there were entries.
    pub(crate) fn begins(&self, known: &[Kept]) -> Result<(), StoreError> {
        match (self.opening, known.iter().find(|kept| kept.checkpoint.size() > 0)) {
            (Opening::DangerouslyAccepted, _) | (Opening::Known, None) => Ok(()),
            (Opening::Known, Some(kept)) => {
                Err(StoreError::Lost { path: kept.path.clone(), size: kept.checkpoint.size() })
            }
        }
    }
}
