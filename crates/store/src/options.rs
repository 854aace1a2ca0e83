//! How a ledger is opened, and what must hold of it.

use std::{fs, io::ErrorKind, path::PathBuf, time::Duration};

use countersign_audit::{Checkpoint, VerifierKey};

use crate::{error::StoreError, writer::StepHook};

/// How a ledger is opened. The defaults are right for a server.
#[derive(Clone)]
pub struct Options {
    /// How many operations may wait to be written, at least 1; more wait to be queued.
    pub queue: usize,
    /// How long an operation waits to be queued before it is refused as unavailable.
    pub queue_timeout: Duration,
    /// How long one statement may take on PostgreSQL.
    pub statement_timeout: Duration,
    /// How long to wait for a lock that another program holds.
    pub lock_timeout: Duration,
    /// How many connections are kept for reading, at least 1.
    pub readers: usize,
    /// The most pages of 4 KiB that an SQLite file may grow to.
    pub sqlite_pages_max: Option<u32>,
    /// Certificates (PEM) that PostgreSQL's is checked against, in place of the platform's.
    pub postgres_ca: Option<PathBuf>,
    /// The file outside of the ledger in which the newest checkpoint of its log is kept.
    pub checkpoint: Option<PathBuf>,
    /// Files with signed checkpoints of the log that others keep; the log must contain what they state.
    pub witnesses: Vec<PathBuf>,
    /// How long idempotency keys are kept at least.
    pub keys_kept: Duration,
    /// What is taken for granted.
    pub opening: Opening,
    /// For tests: called between the durable steps of the writer.
    #[doc(hidden)]
    pub hook: Option<StepHook>,
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
            opening: Opening::Known,
            hook: None,
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
            .field("opening", &self.opening)
            .finish_non_exhaustive()
    }
}

/// What opening a ledger may take for granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opening {
    /// It must contain what is known of it. Where nothing is known, it may begin.
    #[default]
    Known,
    /// It is taken as it is, or begun anew, whatever is known. Whoever says so records why.
    DangerouslyAccepted,
}

/// A checkpoint of the log that is kept outside of its ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// What it states.
    pub checkpoint: Checkpoint,
    /// The signed note.
    pub note: String,
}

impl Options {
    /// How long idempotency keys are kept at least, in milliseconds.
    pub(crate) fn keys_kept_ms(&self) -> i64 {
        i64::try_from(self.keys_kept.as_millis()).unwrap_or(i64::MAX)
    }

    /// The checkpoints of the log of `key` that are kept outside of its ledger, as far as they are there; a witness's
    /// must be.
    ///
    /// # Errors
    /// [`StoreError::Kept`] when a file cannot be read, or states something else than a checkpoint of this log.
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

    /// What must hold of the ledger with the log of `key`.
    pub(crate) fn expected(&self, key: &VerifierKey) -> Result<Vec<Kept>, StoreError> {
        match self.opening {
            Opening::Known => self.kept(key),
            Opening::DangerouslyAccepted => Ok(Vec::new()),
        }
    }

    /// Whether a log may begin here, given what is known of it.
    pub(crate) fn begins(&self, known: &[Kept]) -> Result<(), StoreError> {
        match (self.opening, known.iter().find(|kept| kept.checkpoint.size() > 0)) {
            (Opening::DangerouslyAccepted, _) | (Opening::Known, None) => Ok(()),
            (Opening::Known, Some(kept)) => {
                Err(StoreError::Lost { path: kept.path.clone(), size: kept.checkpoint.size() })
            }
        }
    }
}
