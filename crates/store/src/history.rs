//! Keeps what is known of a log beside its ledger, so that one that went back, was lost or was exchanged is
//! noticed before anything more is signed.
//!
//! The newest checkpoint is kept in a file outside of the ledger. It is written after what it states is
//! durable, so it is never ahead of a ledger that is whole; when a ledger is opened it must contain the tree
//! that the file states. What this cannot notice is that ledger and file were put back together: for that,
//! others keep checkpoints (`witnesses`).

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use countersign_audit::{Frontier, Hash};

use crate::{
    error::{Failure, StoreError},
    row::{SqlStatement, StoredRow},
};

/// Between two writes of the file there is at least this time.
const PACE: Duration = Duration::from_secs(1);

/// So many leaves are read at once, at most, to follow what others appended.
const LEAVES: u64 = 10_000;

/// This process last knew this tree to be committed, and the ledger to be changed so often by then.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) tree: Frontier,
    pub(crate) changed: u64,
}

impl Seen {
    /// Returns the statement that reads the leaves between what was seen and a head that is read now, or at
    /// most the first [`LEAVES`] of them. It is `None` when there are none.
    ///
    /// # Errors
    /// Fails when that head is older, or of another history.
    pub(crate) fn missing(&self, tree: &Frontier, changed: u64) -> Result<Option<SqlStatement>, Failure> {
        if changed < self.changed || tree.size() < self.tree.size() {
            return Err(went_back());
        }
        if tree.size() == self.tree.size() {
            return if tree.root() == self.tree.root() { Ok(None) } else { Err(went_back()) };
        }
        let end = tree.size().min(self.tree.size().saturating_add(LEAVES));
        Ok(Some(SqlStatement::new(
            "SELECT leaf FROM entry WHERE idx >= $1 AND idx < $2 ORDER BY idx",
            vec![self.tree.size().into(), end.into()],
        )))
    }

    /// Takes over what was read for [`Seen::missing`].
    pub(crate) fn follow(&mut self, rows: &[StoredRow]) -> Result<(), Failure> {
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

/// Makes the failure of a ledger that is not what this process left.
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
    /// Begins to keep. Where there is a checkpoint to `begin` with, it is written now, so that a file that
    /// cannot be written is found out: it is a [`StoreError::Kept`].
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

    /// Tells that there is a newer checkpoint, and that it is durable.
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
