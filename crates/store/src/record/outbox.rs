//! What one channel is told of one request, in order, as it is stored.

use countersign_gate::ledger::LedgerFault;
use countersign_rules::{ApprovalId, ApprovalState, ChannelName};
use serde::{Deserialize, Serialize};

use super::Record;
use crate::row::{Damage, SqlStatement, StoredRow, json};

/// This is a request, and a channel that is told of it.
pub(crate) type ThreadKey = (ApprovalId, ChannelName);

/// This happened to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// People are asked.
    Asked,
    /// Nobody has answered for a while.
    Reminded,
    /// Nobody has answered for long: others are told, too.
    Escalated,
    /// A person has answered, and the request goes on.
    Answered,
    /// The request is over: performed, failed, in doubt, refused, expired, superseded or blocked.
    Ended,
}

impl Event {
    /// Returns the word used in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Reminded => "reminded",
            Self::Escalated => "escalated",
            Self::Answered => "answered",
            Self::Ended => "ended",
        }
    }
}

/// A channel is to be told this of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// This is the notice's place among those of its request on its channel, from 0.
    pub number: u32,
    /// This happened.
    pub event: Event,
    /// The request stood so when it happened.
    pub state: ApprovalState,
    /// So many people had answered.
    pub answers: u32,
    /// It happened at this time, in Unix milliseconds UTC.
    pub at_ms: i64,
}

/// These notices of one request go over one channel, each after the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Thread {
    /// The channel is still to be told these, oldest first.
    pub(crate) queue: Vec<Notice>,
    /// The next notice has this number.
    pub(crate) next: u32,
    /// The channel is reminded at this time, where the request waits still.
    pub(crate) remind_ms: Option<i64>,
    /// The channel hears of it at this time, where the request waits still.
    pub(crate) escalate_ms: Option<i64>,
    /// The first of the queue may be tried from this time on.
    pub(crate) retry_ms: i64,
    /// So many times anything was tried: whoever tried before the last time has lost its turn.
    pub(crate) attempt: u64,
    /// The first of the queue has failed so many times in a row.
    pub(crate) failures: u32,
    /// The first of the queue was tried first at this time.
    pub(crate) since_ms: Option<i64>,
    /// The last try failed for this reason.
    pub(crate) why: Option<String>,
    /// This is true if the channel was given up for this request, until somebody asks for another try.
    pub(crate) dead: bool,
    /// The channel calls what it made of the request this.
    pub(crate) handle: Option<String>,
}

impl Thread {
    /// Returns when there is something to do; `None` when there is nothing, or it was given up.
    pub(crate) fn due_ms(&self) -> Option<i64> {
        if self.dead {
            return None;
        }
        let first = (!self.queue.is_empty()).then_some(self.retry_ms);
        [first, self.remind_ms, self.escalate_ms].into_iter().flatten().min()
    }
}

impl Record for Thread {
    type Key = ThreadKey;

    fn select((approval, channel): &ThreadKey) -> SqlStatement {
        SqlStatement::new(
            "SELECT body FROM outbox WHERE approval = $1 AND channel = $2",
            vec![approval.as_str().into(), channel.as_str().into()],
        )
    }

    fn read(row: &StoredRow) -> Result<Self, Damage> {
        row.json(0)
    }

    /// Inserts the thread with the day that the ledger counts, by which it is forgotten.
    fn insert(&self, (approval, channel): &ThreadKey) -> Result<SqlStatement, LedgerFault> {
        Ok(SqlStatement::one(
            "INSERT INTO outbox (due_ms, dead, body, approval, channel, day) \
             VALUES ($1, $2, $3, $4, $5, (SELECT age.day FROM age))",
            vec![
                self.due_ms().into(),
                i64::from(self.dead).into(),
                json(self)?,
                approval.as_str().into(),
                channel.as_str().into(),
            ],
        ))
    }

    fn update(&self, (approval, channel): &ThreadKey) -> Result<SqlStatement, LedgerFault> {
        Ok(SqlStatement::one(
            "UPDATE outbox SET due_ms = $1, dead = $2, body = $3, day = (SELECT age.day FROM age) \
             WHERE approval = $4 AND channel = $5",
            vec![
                self.due_ms().into(),
                i64::from(self.dead).into(),
                json(self)?,
                approval.as_str().into(),
                channel.as_str().into(),
            ],
        ))
    }

    /// Returns false: others write on PostgreSQL, and there are few.
    fn is_kept(_thread: Option<&Self>) -> bool {
        false
    }
}

/// Returns the statement that reads which requests a channel has something to do for at `now_ms` (Unix milliseconds
/// UTC), the most overdue first; at most `limit`.
pub(crate) fn select_due(channel: &ChannelName, now_ms: i64, limit: u32) -> SqlStatement {
    SqlStatement::new(
        "SELECT approval FROM outbox WHERE channel = $1 AND due_ms <= $2 ORDER BY due_ms LIMIT $3",
        vec![channel.as_str().into(), now_ms.into(), u64::from(limit).into()],
    )
}

/// Returns the statement that reads for which requests a channel was given up; at most `limit`.
pub(crate) fn select_dead(channel: &ChannelName, limit: u32) -> SqlStatement {
    SqlStatement::new(
        "SELECT body, approval FROM outbox WHERE dead = 1 AND channel = $1 ORDER BY approval LIMIT $2",
        vec![channel.as_str().into(), u64::from(limit).into()],
    )
}

/// Returns the statement that reads what a channel is still to be told, what is due soonest first; at most `limit`.
pub(crate) fn select_pending(channel: &ChannelName, limit: u32) -> SqlStatement {
    SqlStatement::new(
        "SELECT body FROM outbox WHERE channel = $1 AND due_ms IS NOT NULL ORDER BY due_ms LIMIT $2",
        vec![channel.as_str().into(), u64::from(limit).into()],
    )
}
