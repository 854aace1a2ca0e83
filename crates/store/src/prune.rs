//! What is long over is forgotten: passed rates, days gone by, sessions that are not used any more.
//!
//! Days are those that the ledger has seen go by, one after the other, and not what one reading of the clock
//! says: a server that starts with a clock that is weeks ahead sees one day, and what rules look at is there
//! when the clock is right again.
//!
//! Nothing here weakens a limit. A rate's instant that passed days ago means nothing. Counters of a day are
//! looked at on that day. A session that was idle for [`IDLE_DAYS`] begins anew, which its agent could have had
//! at any time by naming another one. An idempotency key that is older than the configuration says, and has
//! seen three days go by, is forgotten; what its call became is not. What a budget has spent or holds is never
//! forgotten, nor is anything of the log, of calls or of requests.

use countersign_gate::ledger::LedgerFault;
use countersign_rules::budget::day;

use crate::{
    queue::Operation,
    records::{Changes, Needs, Records},
    row::{Query, Value},
    store::Store,
};

/// Counters of a day, and sessions that are not used, are kept for so many days; the statements say it, too.
const IDLE_DAYS: i64 = 30;

/// Pruning begins again at most so often at one call, so that it ends.
const ROUNDS_MAX: u32 = 50;

impl Store {
    /// Forgets what is long over at `now_ms` (Unix milliseconds UTC), a thousand records of a kind in each
    /// transaction. It is to be called now and then by any process. It writes nothing when there is nothing to
    /// forget. Returns in how many transactions it was done.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; what was forgotten until then stays so.
    pub async fn prune(&self, now_ms: i64) -> Result<u32, LedgerFault> {
        for round in 0..ROUNDS_MAX {
            let mut due = false;
            for step in steps(now_ms, self.keys_kept_ms()) {
                // Looked for without the lock that every writer waits for.
                due = due || !self.scan(step.look).await?.is_empty();
            }
            if !due {
                return Ok(round);
            }
            // A crash before this is durable leaves what is over for the next time.
            self.submit(Prune { now_ms, keys_kept_ms: self.keys_kept_ms() }).await?;
        }
        Ok(ROUNDS_MAX)
    }
}

struct Prune {
    now_ms: i64,
    keys_kept_ms: i64,
}

impl Operation for Prune {
    type Output = ();

    fn needs(&self, _records: &Records, _needs: &mut Needs) {}

    fn apply(&self, _records: &Records) -> Result<((), Changes), LedgerFault> {
        let statements = steps(self.now_ms, self.keys_kept_ms).into_iter().map(|step| step.change).collect();
        Ok(((), Changes { statements, ..Changes::default() }))
    }
}

/// This is for one kind of record: a statement that finds whether there is something to change, and the change.
struct Step {
    look: Query,
    change: Query,
}

macro_rules! step {
    ($change:literal, $key:literal, $table:literal, $condition:literal, $params:expr) => {
        Step {
            look: Query::new(
                concat!("SELECT ", $key, " FROM ", $table, " WHERE ", $condition, " LIMIT 1"),
                $params,
            ),
            change: Query::new(
                concat!(
                    $change,
                    " WHERE (",
                    $key,
                    ") IN (SELECT ",
                    $key,
                    " FROM ",
                    $table,
                    " WHERE ",
                    $condition,
                    " LIMIT 1000)"
                ),
                $params,
            ),
        }
    };
}

/// Returns the steps in this order: a day is seen before anything is judged by it, and a session as it is now
/// before it is taken for idle.
fn steps(now_ms: i64, keys_kept_ms: i64) -> [Step; 10] {
    let today = || vec![Value::from(day(now_ms))];
    let passed = || vec![Value::from(now_ms.saturating_mul(1_000))];
    let before = || vec![Value::from(day(now_ms).saturating_sub(IDLE_DAYS))];
    let kept = || vec![Value::from(now_ms.saturating_sub(keys_kept_ms))];
    [
        step!("UPDATE age SET day = day + 1, seen = $1", "id", "age", "seen < $1", today()),
        step!(
            "UPDATE rate SET mark = due_us, mark_day = (SELECT a.day FROM age a)",
            "id",
            "rate",
            "due_us < $1 AND (mark IS NULL OR mark <> due_us)",
            passed()
        ),
        step!(
            "DELETE FROM rate",
            "id",
            "rate",
            "due_us < $1 AND mark = due_us AND mark_day < (SELECT a.day - 2 FROM age a)",
            passed()
        ),
        step!(
            "DELETE FROM bond",
            "agent, name",
            "bond",
            "at_ms < $1 AND day < (SELECT a.day - 2 FROM age a)",
            kept()
        ),
        step!(
            "UPDATE counter SET mark_day = (SELECT a.day FROM age a)",
            "subject, day",
            "counter",
            "day <> 0 AND day < $1 AND mark_day IS NULL",
            today()
        ),
        step!(
            "DELETE FROM counter",
            "subject, day",
            "counter",
            "day <> 0 AND day < $1 AND mark_day < (SELECT a.day - 30 FROM age a)",
            before()
        ),
        // Once a day at most, so that a session in use costs a write a day and not one at each look.
        step!(
            "UPDATE counter SET mark = body, mark_day = (SELECT a.day FROM age a)",
            "subject, day",
            "counter",
            "day = 0 AND (mark IS NULL OR mark <> body AND mark_day < (SELECT a.day FROM age a))",
            Vec::new()
        ),
        step!(
            "DELETE FROM counter",
            "subject, day",
            "counter",
            "day = 0 AND mark = body AND mark_day < (SELECT a.day - 30 FROM age a)",
            Vec::new()
        ),
        step!(
            "UPDATE session SET mark_day = (SELECT a.day FROM age a)",
            "id",
            "session",
            "mark_day IS NULL",
            Vec::new()
        ),
        step!(
            "DELETE FROM session",
            "id",
            "session",
            "mark_day < (SELECT a.day - 30 FROM age a) \
             AND NOT EXISTS (SELECT 1 FROM counter c WHERE c.day = 0 AND c.subject = 'session:' || id)",
            Vec::new()
        ),
    ]
}
