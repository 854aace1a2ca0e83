//! Operations on their way to the writer, each with who waits for its answer.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use countersign_gate::ledger::LedgerFault;
use tokio::sync::{mpsc, oneshot};

use crate::records::{Changes, Needs, Records};

/// An operation is one step of the ledger, given as what it reads and what it changes.
///
/// Contract: `needs` names every record that `apply` looks at, and may name more once others are known.
/// `apply` is a function of the records alone; a refusal comes with no changes. It may run more than once.
pub(crate) trait Operation: Send + Sync + 'static {
    type Output: Send + 'static;

    fn needs(&self, records: &Records, needs: &mut Needs);
    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault>;
}

/// This is an operation in the queue, with who waits for it.
pub(crate) trait Message: Send {
    fn needs(&self, records: &Records, needs: &mut Needs);
    fn apply(&mut self, records: &mut Records);
    /// Answers who waits; with the fault when the batch failed. Gives the message back when nobody waits and it
    /// should be tried again.
    fn answer(self: Box<Self>, fault: Option<&LedgerFault>) -> Option<Box<dyn Message>>;
}

/// This is an operation whose caller waits for the answer.
struct Waiting<O: Operation> {
    operation: O,
    result: Option<Result<O::Output, LedgerFault>>,
    caller: oneshot::Sender<Result<O::Output, LedgerFault>>,
}

/// This is an operation for whose answer nobody waits.
struct Detached<O: Operation> {
    operation: O,
    fault: Option<LedgerFault>,
}

impl<O: Operation> Message for Waiting<O> {
    fn needs(&self, records: &Records, needs: &mut Needs) {
        self.operation.needs(records, needs);
    }

    fn apply(&mut self, records: &mut Records) {
        self.result = Some(apply(&self.operation, records));
    }

    fn answer(self: Box<Self>, fault: Option<&LedgerFault>) -> Option<Box<dyn Message>> {
        let result = match (fault, self.result) {
            (Some(fault), _) => Err(fault.clone()),
            (None, Some(result)) => result,
            (None, None) => Err(LedgerFault::Unavailable("the operation was not performed".into())),
        };
        // A caller that has gone away does not undo what it asked for.
        drop(self.caller.send(result));
        None
    }
}

impl<O: Operation> Message for Detached<O> {
    fn needs(&self, records: &Records, needs: &mut Needs) {
        self.operation.needs(records, needs);
    }

    fn apply(&mut self, records: &mut Records) {
        self.fault = apply(&self.operation, records).err();
    }

    fn answer(self: Box<Self>, fault: Option<&LedgerFault>) -> Option<Box<dyn Message>> {
        if fault.is_some() {
            return Some(self);
        }
        if let Some(fault) = &self.fault {
            tracing::error!(%fault, "an operation that nobody waits for failed");
        }
        None
    }
}

fn apply<O: Operation>(operation: &O, records: &mut Records) -> Result<O::Output, LedgerFault> {
    let (output, changes) = operation.apply(records)?;
    records.change(changes)?;
    Ok(output)
}

/// A writer is given these operations to do, and tells here that it has ended.
pub(crate) struct Inbox {
    pub(crate) queue: mpsc::Receiver<Box<dyn Message>>,
    pub(crate) done: oneshot::Sender<()>,
}

/// Operations are handed to the writer here. It ends when this is closed or dropped, and everything in it is
/// written.
pub(crate) struct Queue {
    /// This is `None` when the ledger was opened to read, or is closed.
    sender: Mutex<Option<mpsc::Sender<Box<dyn Message>>>>,
    timeout: Duration,
    /// This yields when the writer has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Queue {
    /// Makes a queue in which `places` operations may wait, at least 1, while others wait for a place until the
    /// timeout; and its other end.
    pub(crate) fn open(places: usize, timeout: Duration) -> (Self, Inbox) {
        let (sender, queue) = mpsc::channel(places.max(1));
        let (done, ended) = oneshot::channel();
        let (sender, ended) = (Mutex::new(Some(sender)), Mutex::new(Some(ended)));
        (Self { sender, timeout, ended }, Inbox { queue, done })
    }

    /// Makes a queue that takes nothing.
    pub(crate) const fn closed() -> Self {
        Self { sender: Mutex::new(None), timeout: Duration::ZERO, ended: Mutex::new(None) }
    }

    /// Hands an operation over and waits until it is durable. Returns what it answers.
    pub(crate) async fn submit<O: Operation>(&self, operation: O) -> Result<O::Output, LedgerFault> {
        let (caller, answer) = oneshot::channel();
        self.enqueue(Box::new(Waiting { operation, result: None, caller })).await?;
        // The writer answers everything it takes. If it is gone, nobody knows what it wrote.
        answer.await.unwrap_or_else(|_gone| Err(LedgerFault::Unknown("the writer has ended".into())))
    }

    /// Hands an operation over for whose answer nobody waits, and returns once it is queued.
    pub(crate) async fn leave(&self, operation: impl Operation) -> Result<(), LedgerFault> {
        self.enqueue(Box::new(Detached { operation, fault: None })).await
    }

    async fn enqueue(&self, message: Box<dyn Message>) -> Result<(), LedgerFault> {
        let queue = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(queue) = queue else {
            return Err(LedgerFault::Unavailable("it is closed, or open to read only".into()));
        };
        match queue.try_reserve() {
            Ok(place) => place.send(message),
            Err(mpsc::error::TrySendError::Closed(())) => {
                return Err(LedgerFault::Unavailable("the writer has ended".into()));
            }
            Err(mpsc::error::TrySendError::Full(())) => {
                match tokio::time::timeout(self.timeout, queue.reserve()).await {
                    Ok(Ok(place)) => place.send(message),
                    Ok(Err(_closed)) => {
                        return Err(LedgerFault::Unavailable("the writer has ended".into()));
                    }
                    Err(_elapsed) => {
                        return Err(LedgerFault::Unavailable(
                            "too many operations wait to be written".into(),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes no more operations, and waits until the writer has written those that are queued.
    pub(crate) async fn close(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            // An error is the sender's end, which is what is waited for.
            drop(ended.await);
        }
    }
}
