//! What is known of a log beside its ledger, so that one that went back, was lost or was exchanged is noticed
//! before anything more is signed.
//!
//! The newest checkpoint is kept in a file outside of the ledger. It is written after what it states is durable,
//! so it is never ahead of a ledger that is whole; when a ledger is opened it must contain the tree that the file
//! states. What this cannot notice is that ledger and file were put back together: for that, others keep
//! checkpoints (`witnesses`).

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use countersign_audit::{Checkpoint, Frontier, Hash, VerifierKey, proof::verify_consistency};

use crate::{
    row::{Query, Row},
    store::{Options, Store, StoreError},
    writer::Failure,
};

/// The least time between two writes of the file.
const PACE: Duration = Duration::from_secs(1);

/// How many leaves are read at once to follow what others appended.
const LEAVES: u64 = 10_000;

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

/// What there is of a ledger that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing: it begins when a server starts.
    Nothing,
    /// One of an older schema, which a start brings up to date. What is in it was not compared.
    Older {
        /// The number of its schema.
        schema: i64,
    },
    /// One that a start takes as it is.
    Ledger {
        /// How many entries its log has.
        entries: u64,
    },
}

impl Store {
    /// Looks at the ledger in a file as [`Store::open_sqlite`] does, and changes nothing. Another process may have it open.
    ///
    /// # Errors
    /// The [`StoreError`] of a start with that key; [`StoreError::InUse`] is not looked for.
    pub async fn look_sqlite(path: &Path, key: &VerifierKey, options: &Options) -> Result<Found, StoreError> {
        let known = options.expected(key)?;
        Self::look(Self::open_sqlite_read_only(path, options), key, &known, options).await
    }

    /// Looks at the ledger in a PostgreSQL database as [`Store::open_postgres`] does, and changes nothing.
    ///
    /// # Errors
    /// The [`StoreError`] of a start with that key.
    pub async fn look_postgres(url: &str, key: &VerifierKey, options: &Options) -> Result<Found, StoreError> {
        let known = options.expected(key)?;
        Self::look(Self::open_postgres_read_only(url, options).await, key, &known, options).await
    }

    async fn look(
        opened: Result<Self, StoreError>,
        key: &VerifierKey,
        known: &[Kept],
        options: &Options,
    ) -> Result<Found, StoreError> {
        let store = match opened {
            Err(StoreError::Absent) => return options.begins(known).map(|()| Found::Nothing),
            Err(StoreError::Schema { found, known }) if found < known => {
                return Ok(Found::Older { schema: found });
            }
            opened => opened?,
        };
        if store.verifier() != key {
            return Err(StoreError::OtherKey { stored: store.verifier().to_string() });
        }
        store.contains(known).await?;
        store.is_whole().await?;
        Ok(Found::Ledger { entries: store.log_head().await?.size })
    }

    /// Whether the ledger's log contains the tree of each checkpoint, and its entries are all there.
    ///
    /// # Errors
    /// [`StoreError::WentBack`] when it does not.
    pub async fn contains(&self, known: &[Kept]) -> Result<(), StoreError> {
        let head = self.log_head().await?;
        for Kept { path, checkpoint, .. } in known {
            let size = checkpoint.size();
            let contained = match size {
                0 => true,
                _ if size > head.size => false,
                _ if size == head.size => *checkpoint.root() == head.root,
                _ => match self.consistency(size, head.size).await? {
                    Some(proof) => {
                        verify_consistency((size, checkpoint.root()), (head.size, &head.root), &proof).is_ok()
                    }
                    None => false,
                },
            };
            if !contained {
                return Err(StoreError::WentBack { path: path.clone(), kept: size, found: head.size });
            }
        }
        Ok(())
    }

    /// Whether as many entries are stored as the log's head says.
    pub(crate) async fn is_whole(&self) -> Result<(), StoreError> {
        const ENTRIES: &str = "SELECT h.size, (SELECT count(*) FROM entry), \
             (SELECT coalesce(max(idx) + 1, 0) FROM entry) FROM log_head h WHERE h.id = 0";
        let rows = self.select(Query::new(ENTRIES, Vec::new())).await?;
        let row = rows.first().ok_or_else(|| StoreError::Damaged("the log has no head".into()))?;
        let [size, entries, end] = [0, 1, 2].map(|column| row.count(column));
        let whole = match (size, entries, end) {
            (Ok(size), Ok(entries), Ok(end)) => entries == size && end == size,
            _ => false,
        };
        if whole { Ok(()) } else { Err(StoreError::Damaged("entries of its log are missing".into())) }
    }
}

/// The tree that this process last knew to be committed, with how often the ledger was changed by then.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) tree: Frontier,
    pub(crate) changed: u64,
}

impl Seen {
    /// Which leaves lie between what was seen and a head that is read now.
    ///
    /// # Errors
    /// When that one is older, or of another history.
    pub(crate) fn missing(&self, tree: &Frontier, changed: u64) -> Result<Option<Query>, Failure> {
        if changed < self.changed || tree.size() < self.tree.size() {
            return Err(went_back());
        }
        if tree.size() == self.tree.size() {
            return if tree.root() == self.tree.root() { Ok(None) } else { Err(went_back()) };
        }
        let end = tree.size().min(self.tree.size().saturating_add(LEAVES));
        Ok(Some(Query::new(
            "SELECT leaf FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx",
            vec![self.tree.size().into(), end.into()],
        )))
    }

    /// Takes over what was read for [`Seen::missing`].
    pub(crate) fn follow(&mut self, rows: &[Row]) -> Result<(), Failure> {
        if rows.is_empty() {
            return Err(Failure::Damaged("entries of the log are missing".into()));
        }
        for row in rows {
            let damaged = |why: &dyn std::fmt::Display| Failure::Damaged(why.to_string());
            let leaf = row.bytes(0).map_err(|why| damaged(&why.0))?;
            let leaf = Hash::from_slice(leaf).map_err(|why| damaged(&why))?;
            self.tree.append(leaf).map_err(|why| damaged(&why))?;
        }
        Ok(())
    }
}

/// The ledger is not what this process left.
pub(crate) fn went_back() -> Failure {
    Failure::Damaged(
        "it went back: its log is not the one that this server signed; put the right one in its place, or see \
         `countersign audit dangerous-restart`"
            .into(),
    )
}

/// Keeps the newest checkpoint in its file, on a thread of its own: nobody waits for it.
///
/// A process that is killed leaves a checkpoint that is up to [`PACE`] old; one that ends leaves the newest.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<(Mutex<Waiting>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Waiting {
    newest: Option<String>,
    ended: bool,
}

impl Keeper {
    /// Begins to keep. That the file can be written is found out now, where there is a checkpoint to `begin` with.
    pub(crate) fn start(path: &Path, begin: Option<&str>) -> Result<Self, StoreError> {
        if let Some(checkpoint) = begin {
            write(path, checkpoint)
                .map_err(|why| StoreError::Kept { path: path.to_owned(), why: why.to_string() })?;
        }
        let shared = Arc::<(Mutex<Waiting>, Condvar)>::default();
        let (path, told) = (path.to_owned(), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || keep(&path, &told))
            .map_err(|why| StoreError::Unavailable(format!("no thread for the checkpoint: {why}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// There is a newer one, and it is durable.
    pub(crate) fn tell(&self, checkpoint: String) {
        let (waiting, changed) = &*self.shared;
        guard(waiting).newest = Some(checkpoint);
        changed.notify_all();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let (waiting, changed) = &*self.shared;
        guard(waiting).ended = true;
        changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has told what went wrong.
            drop(thread.join());
        }
    }
}

fn guard(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(path: &Path, (waiting, changed): &(Mutex<Waiting>, Condvar)) {
    loop {
        let newest = {
            let idle = |waiting: &mut Waiting| waiting.newest.is_none() && !waiting.ended;
            let mut found = changed.wait_while(guard(waiting), idle).unwrap_or_else(PoisonError::into_inner);
            found.newest.take()
        };
        let Some(newest) = newest else { return };
        if let Err(why) = write(path, &newest) {
            tracing::error!(
                path = %path.display(), %why,
                "the newest checkpoint is not kept: until it is, a ledger that goes back may not be noticed"
            );
        }
        drop(changed.wait_timeout_while(guard(waiting), PACE, |waiting| !waiting.ended));
    }
}

/// Writes the file as a whole. A crash leaves the one before, or this one.
fn write(path: &Path, checkpoint: &str) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = File::create(&name)?;
    file.write_all(checkpoint.as_bytes())?;
    file.sync_all()?;
    fs::rename(&name, path)?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}
