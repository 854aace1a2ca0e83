//! Group commit: one writer per process, one transaction and one signature per batch.
//!
//! Whoever waits while a batch is written is in the next one, so under load many operations share a sync.
//! The transaction begins by locking the head of the log, which puts every batch of every process in one
//! order: budgets are exact and the log cannot fork.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use countersign_audit::{SigningKey, VerifierKey};
use countersign_gate::ledger::LedgerFault;
use tokio::sync::watch;

use crate::{
    cache::Cache,
    error::Failure,
    history::{Keeper, Seen},
    outbox::Telling,
    queue::{Inbox, Message},
    records::{Needs, Records},
    row::{self, SqlStatement, StatementHook, StoredRow},
};

/// A batch takes operations from the queue until it has so many: this bounds its memory and how long others
/// wait for the lock.
const BATCH_MAX: usize = 256;

/// At most so many outcomes are kept for another try when the database fails and nobody waits for them.
const KEPT_MAX: usize = 10_000;

/// A backend is a database to write to.
///
/// Contract: after any failure the next [`Backend::begin`] starts afresh, with a new connection where the
/// old one is of no use. Nothing is kept before [`Backend::commit`] is called; when that answers `Ok`, all
/// of it is durable.
pub(crate) trait Backend: Send + 'static {
    /// Begins a transaction, locks the head of the log against every other writer, and reads it.
    fn begin(&mut self) -> impl Future<Output = Result<Begun, Failure>> + Send;
    /// Reads within the transaction; the answers are in the order of the questions.
    fn read(
        &mut self,
        queries: &[SqlStatement],
    ) -> impl Future<Output = Result<Vec<Vec<StoredRow>>, Failure>> + Send;
    /// Executes statements that write, in order, within the transaction.
    fn write(&mut self, queries: &[SqlStatement]) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Makes the transaction durable. `watched` says that others wait for such a change.
    fn commit(&mut self, watched: bool) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Forgets the transaction.
    fn roll_back(&mut self) -> impl Future<Output = ()> + Send;
    /// Gives up the process id: nothing follows.
    fn end(&mut self) -> impl Future<Output = ()> + Send;
    /// Returns the id of this process, under which it issues calls.
    fn process(&self) -> i64;
    /// Returns the statement that finds open calls whose process is gone.
    fn orphans(&self) -> SqlStatement;
    /// Returns the statements that file what stands in complete tiles of the log, from an index to another one.
    fn filing(&self) -> &'static [&'static str];
}

/// This transaction has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The log has this head.
    pub(crate) head: StoredRow,
    /// This is true if somebody has written since who did not move the head of the log.
    pub(crate) disturbed: bool,
}

/// A step is a moment between two durable steps, for tests that stop the process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The transaction has begun; nothing is written.
    Begun,
    /// Everything is written; nothing is durable.
    Written,
    /// Everything is durable; nobody was told.
    Committed,
    /// Everybody was told.
    Answered,
}

/// This is called at each [`Step`]. It is for tests only.
pub type StepHook = Arc<dyn Fn(Step) + Send + Sync>;

/// This is the writer of one process.
pub(crate) struct Writer<B> {
    pub(crate) backend: B,
    pub(crate) key: SigningKey,
    pub(crate) verifier: VerifierKey,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) hook: Option<StepHook>,
    pub(crate) statements: Option<StatementHook>,
    /// People are told of requests by these rules.
    pub(crate) telling: Arc<Telling>,
    /// Every head of the log must continue this.
    pub(crate) seen: Option<Seen>,
    /// This is true if the last transaction failed.
    pub(crate) failing: Arc<AtomicBool>,
    /// This keeps the newest checkpoint outside of the ledger.
    pub(crate) keeper: Option<Keeper>,
    /// The batches so far have read and left this.
    pub(crate) records: Records,
    /// Decisions find it here, when nobody else writes.
    pub(crate) cache: Option<Arc<RwLock<Cache>>>,
}

impl<B: Backend> Writer<B> {
    /// Writes until every handle is gone and the queue is empty.
    pub(crate) async fn run(mut self, inbox: Inbox) {
        let Inbox { mut queue, done } = inbox;
        let mut kept: VecDeque<Box<dyn Message>> = VecDeque::new();
        while let Some(first) = queue.recv().await {
            // One place is the first's.
            let again = kept.len().min(BATCH_MAX.saturating_sub(1));
            let mut batch: Vec<Box<dyn Message>> = kept.drain(..again).collect();
            batch.push(first);
            while batch.len() < BATCH_MAX
                && let Ok(next) = queue.try_recv()
            {
                batch.push(next);
            }
            kept.extend(self.commit(batch).await);
            if kept.len() > KEPT_MAX {
                tracing::error!(
                    calls = kept.len(),
                    "outcomes of reads could not be recorded; they stay in doubt"
                );
                kept.clear();
            }
        }
        let left = self.try_at_last(kept).await;
        self.backend.end().await;
        if left > 0 {
            tracing::error!(calls = left, "outcomes of reads could not be recorded; they stay in doubt");
        }
        // In this order: whoever is told may open the ledger again.
        drop(self);
        drop(done);
    }

    /// Tries what is kept once more, until a batch of it fails again. Returns how much is left.
    async fn try_at_last(&mut self, mut kept: VecDeque<Box<dyn Message>>) -> usize {
        while !kept.is_empty() {
            let batch = kept.drain(..kept.len().min(BATCH_MAX)).collect();
            let left = self.commit(batch).await.len();
            if left > 0 {
                return left.saturating_add(kept.len());
            }
        }
        0
    }

    /// Writes a batch and answers everybody in it. Returns what should be tried again.
    async fn commit(&mut self, mut batch: Vec<Box<dyn Message>>) -> Vec<Box<dyn Message>> {
        let result = self.transact(&mut batch).await;
        if matches!(result, Err(Failure::Statement(_))) && batch.len() > 1 {
            // One operation must not take down its neighbours: each gets a transaction of its own.
            let mut kept = Vec::new();
            for message in batch {
                let mut alone = vec![message];
                let result = self.transact(&mut alone).await;
                kept.extend(self.answer(alone, result));
            }
            return kept;
        }
        self.answer(batch, result)
    }

    fn answer(&self, batch: Vec<Box<dyn Message>>, result: Result<bool, Failure>) -> Vec<Box<dyn Message>> {
        let watched = matches!(result, Ok(true));
        // What the database refuses today it refuses tomorrow; only an absent one may come back.
        let passing = matches!(result, Err(Failure::Unavailable(_) | Failure::Unknown(_)));
        let fault = result.err().map(LedgerFault::from);
        if let Some(fault) = &fault {
            tracing::warn!(%fault, operations = batch.len(), "a batch was not recorded");
        }
        let mut kept: Vec<_> =
            batch.into_iter().filter_map(|message| message.answer(fault.as_ref())).collect();
        if !passing && !kept.is_empty() {
            tracing::error!(
                calls = kept.len(),
                "outcomes of reads could not be recorded; they stay in doubt"
            );
            kept.clear();
        }
        if watched {
            self.changes.send_modify(|version| *version = version.wrapping_add(1));
        }
        self.step(Step::Answered);
        kept
    }

    /// Performs one transaction. Returns true if it changed what others wait for.
    async fn transact(&mut self, batch: &mut [Box<dyn Message>]) -> Result<bool, Failure> {
        let mut records = std::mem::take(&mut self.records);
        let result = self.attempt(batch, &mut records).await;
        self.failing.store(result.is_err(), Ordering::Relaxed);
        match &result {
            // In this order: whoever is told of a change finds it.
            Ok(_watched) => {
                self.see(&records);
                self.cache(|cache| records.settle(cache));
                self.records = records;
            }
            // What is stored now must be read again; the records are gone.
            Err(_why) => {
                self.backend.roll_back().await;
                self.cache(Cache::forget);
            }
        }
        result
    }

    async fn attempt(
        &mut self,
        batch: &mut [Box<dyn Message>],
        records: &mut Records,
    ) -> Result<bool, Failure> {
        let begun = self.backend.begin().await?;
        self.step(Step::Begun);
        let process = self.backend.process();
        let given = (process, &self.telling);
        if !records.begin(&begun.head, &self.verifier, begun.disturbed, given)? {
            self.cache(Cache::forget);
            self.follow(records).await?;
        }
        self.load(batch, records).await?;
        for message in batch {
            message.apply(records);
        }
        if !records.is_changed() {
            self.backend.roll_back().await;
            return Ok(false);
        }
        let statements = records.write(&self.key, self.backend.filing())?;
        row::tell(self.statements.as_ref(), &statements);
        self.backend.write(&statements).await?;
        // A crash here leaves the state before this batch, and callers who were told nothing.
        self.step(Step::Written);
        self.backend.commit(records.is_watched()).await?;
        // A crash here leaves the batch, and callers who were told nothing: calls that were issued are in
        // doubt, answers and keys count, and a repeat finds what there is.
        self.step(Step::Committed);
        Ok(records.is_watched())
    }

    /// Takes note of what is committed now. It is kept outside of the ledger only after it is durable in it: a
    /// crash between the two leaves an older checkpoint there, which the ledger contains.
    fn see(&mut self, records: &Records) {
        let (tree, changed, checkpoint) = records.log_tail().state();
        let newer = self.seen.as_ref().is_none_or(|seen| seen.tree.size() != tree.size());
        if let Some(keeper) = self.keeper.as_ref().filter(|_| newer) {
            keeper.tell(checkpoint.to_owned());
        }
        self.seen = Some(Seen { tree: tree.clone(), changed });
    }

    /// Makes sure that a head that others have moved continues what this process saw.
    async fn follow(&mut self, records: &Records) -> Result<(), Failure> {
        let (tree, changed, _checkpoint) = records.log_tail().state();
        // A copy: what does not hold is not remembered.
        let Some(mut seen) = self.seen.clone() else { return Ok(()) };
        while let Some(leaves) = seen.missing(tree, changed)? {
            let rows = self.read(&[leaves]).await?;
            seen.follow(rows.first().map_or(&[], Vec::as_slice))?;
        }
        self.seen = Some(seen);
        Ok(())
    }

    async fn read(&mut self, queries: &[SqlStatement]) -> Result<Vec<Vec<StoredRow>>, Failure> {
        row::tell(self.statements.as_ref(), queries);
        self.backend.read(queries).await
    }

    fn cache(&self, change: impl FnOnce(&mut Cache)) {
        match &self.cache {
            Some(cache) => {
                let mut cache = cache.write().unwrap_or_else(PoisonError::into_inner);
                change(&mut cache);
                cache.bound();
            }
            None => change(&mut Cache::default()),
        }
    }

    /// Reads what the operations need, and what they need once they have seen that.
    async fn load(&mut self, batch: &mut [Box<dyn Message>], records: &mut Records) -> Result<(), Failure> {
        loop {
            let mut needs = Needs::default();
            for message in batch.iter() {
                message.needs(records, &mut needs);
            }
            let missing = needs.into_keys();
            if missing.is_empty() {
                return Ok(());
            }
            let orphans = self.backend.orphans();
            let queries: Vec<SqlStatement> =
                missing.iter().map(|key| Records::select(key, &orphans)).collect();
            let rows = self.read(&queries).await?;
            if rows.len() != missing.len() {
                return Err(Failure::Unavailable("the database did not answer every question".into()));
            }
            for (key, rows) in missing.into_iter().zip(&rows) {
                records.load(key, rows);
            }
        }
    }

    fn step(&self, step: Step) {
        if let Some(hook) = &self.hook {
            hook(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::{row::Value, tail};

    /// How many operations were answered after each transaction began, or could not begin.
    type Batches = Arc<Mutex<Vec<usize>>>;

    /// A database that cannot be reached for so many transactions.
    struct Absent {
        failures: usize,
        head: StoredRow,
        batches: Batches,
    }

    impl Backend for Absent {
        async fn begin(&mut self) -> Result<Begun, Failure> {
            self.batches.lock().unwrap().push(0);
            if self.failures > 0 {
                self.failures = self.failures.saturating_sub(1);
                return Err(Failure::Unavailable("it is away".into()));
            }
            Ok(Begun { head: self.head.clone(), disturbed: false })
        }

        async fn read(&mut self, _queries: &[SqlStatement]) -> Result<Vec<Vec<StoredRow>>, Failure> {
            Ok(Vec::new())
        }

        async fn write(&mut self, _queries: &[SqlStatement]) -> Result<(), Failure> {
            Ok(())
        }

        async fn commit(&mut self, _watched: bool) -> Result<(), Failure> {
            Ok(())
        }

        async fn roll_back(&mut self) {}

        async fn end(&mut self) {}

        fn process(&self) -> i64 {
            1
        }

        fn orphans(&self) -> SqlStatement {
            SqlStatement::new("", Vec::new())
        }

        fn filing(&self) -> &'static [&'static str] {
            &[]
        }
    }

    /// An outcome for which nobody waits, and which changes nothing.
    struct Outcome(Batches);

    impl Message for Outcome {
        fn needs(&self, _records: &Records, _needs: &mut Needs) {}

        fn apply(&mut self, _records: &mut Records) {}

        fn answer(self: Box<Self>, fault: Option<&LedgerFault>) -> Option<Box<dyn Message>> {
            let mut batches = self.0.lock().unwrap();
            let answered = batches.last_mut().unwrap();
            *answered = answered.saturating_add(1);
            drop(batches);
            fault.map(|_fault| -> Box<dyn Message> { self })
        }
    }

    /// The sizes of the batches in which so many outcomes are tried.
    fn tried(outcomes: usize, failures: usize) -> Vec<usize> {
        let key = SigningKey::from_seed("test.example/log", &[7; 32]).unwrap();
        let begun = tail::insert_head(&key).unwrap().params;
        let head = StoredRow(vec![Value::Int(0), begun[1].clone(), begun[2].clone(), Value::Int(0)]);
        let batches = Batches::default();
        let writer = Writer {
            backend: Absent { failures, head, batches: Arc::clone(&batches) },
            verifier: key.verifier(),
            key,
            changes: watch::Sender::new(0),
            hook: None,
            statements: None,
            telling: Arc::default(),
            seen: None,
            failing: Arc::default(),
            keeper: None,
            records: Records::default(),
            cache: None,
        };
        let (sender, queue) = mpsc::channel::<Box<dyn Message>>(outcomes);
        for _ in 0..outcomes {
            assert!(sender.try_send(Box::new(Outcome(Arc::clone(&batches)))).is_ok());
        }
        drop(sender);
        futures::executor::block_on(writer.run(Inbox { queue, done: oneshot::channel().0 }));
        std::mem::take(&mut *batches.lock().unwrap())
    }

    #[test]
    fn no_batch_is_larger_than_it_may_be() {
        assert_eq!(tried(700, 0), [256, 256, 188]);
        // What failed takes its place beside the one that comes, and not beyond.
        assert_eq!(tried(700, 2), [256, 256, 256, 256, 188]);
        // The second outcome finds 256 that are kept; then the ledger is closed.
        assert_eq!(tried(257, 1), [256, 256, 1]);
        // While nothing can be written, what is left at the end is tried once.
        let never = tried(700, usize::MAX);
        assert!(never.iter().all(|size| *size <= BATCH_MAX), "{never:?}");
        assert_eq!(never.len(), 446);
    }
}
