//! What is long over is forgotten: passed rates, days gone by, sessions that are not used any more.
//!
//! Days are those that the ledger has seen go by, one after the other, and not what one reading of the clock
//! says: a server that starts with a clock that is weeks ahead sees one day, and what rules look at is there
//! when the clock is right again.
//!
//! Nothing here weakens a limit. A rate's instant that passed days ago means nothing. Counters of a day are
//! looked at on that day. A session that was idle for [`IDLE_DAYS`] begins anew, which its agent could have had
//! at any time by naming another one. An idempotency key that is older than the configuration says, and has
//! seen three days go by, is forgotten; what its call became is not. A link or a session of a person opens nothing
//! once it is over, and is forgotten a month later. What channels were told of a request is forgotten when they have
//! it by then or never get it. That a sign-in happened, or an order to end a session, is forgotten when it could not be
//! repeated any more. What a budget has spent or holds is never forgotten, nor is anything of the log, of
//! calls or of requests, nor an account.

use countersign_gate::ledger::LedgerFault;
use countersign_rules::budget::day;

use crate::{
    queue::Operation,
    records::{Changes, Needs, Records},
    row::{SqlStatement, Value},
    store::Store,
};

/// Counters of a day, and sessions that are not used, are kept until the ledger has seen more days than these go by.
const IDLE_DAYS: i64 = 30;

/// Rates that have passed, and idempotency keys, are kept until the ledger has seen more days than these go by.
const PASSED_DAYS: i64 = 2;

/// Links and sessions of people are kept for so long after they are over, in milliseconds: whoever comes back with one is
/// told what became of it, and who was signed in when is listed.
const OVER_MS: i64 = 30 * 86_400_000;

/// What channels were told, or could not be, is kept until the ledger has seen more days than these go by.
const TOLD_DAYS: i64 = 30;

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
            let due = Due { now_ms, keys_kept_ms: self.keys_kept_ms(), age: self.age().await? };
            let mut found = false;
            for step in due.steps() {
                // Looked for without the lock that every writer waits for.
                found = found || !self.scan(step.look).await?.is_empty();
            }
            if !found {
                return Ok(round);
            }
            // A crash before this is durable leaves what is over for the next time.
            self.submit(Prune(due)).await?;
        }
        Ok(ROUNDS_MAX)
    }

    /// Returns how many days the ledger has seen go by.
    async fn age(&self) -> Result<i64, LedgerFault> {
        let rows = self.select(SqlStatement::new("SELECT day FROM age WHERE id = 0", Vec::new())).await?;
        let row = rows.first().ok_or_else(|| LedgerFault::Damaged("the ledger has no age".into()))?;
        Ok(row.int(0)?)
    }
}

struct Prune(Due);

impl Operation for Prune {
    type Output = ();

    fn needs(&self, _records: &Records, _needs: &mut Needs) {}

    fn apply(&self, _records: &Records) -> Result<((), Changes), LedgerFault> {
        let statements = self.0.steps().into_iter().flat_map(|step| step.changes).collect();
        Ok(((), Changes { statements, ..Changes::default() }))
    }
}

/// What is over is told by this.
struct Due {
    now_ms: i64,
    keys_kept_ms: i64,
    /// The ledger had seen so many days go by when it was looked for. If it has seen another one since, what is
    /// over by that one is forgotten the next time.
    age: i64,
}

/// This is for one kind of record: a statement that finds whether there is something to change, and the changes. They
/// look in the order of an index: without it PostgreSQL may read the whole table for the first row that fits.
struct Step {
    look: SqlStatement,
    changes: Vec<SqlStatement>,
}

macro_rules! select_due {
    ($key:literal, $table:literal, $condition:literal, $order:literal) => {
        concat!("SELECT ", $key, " FROM ", $table, " WHERE ", $condition, " ORDER BY ", $order)
    };
}

macro_rules! step {
    ($change:literal, $key:literal, $table:literal, $condition:literal, $order:literal, $params:expr) => {
        Step {
            look: SqlStatement::new(
                concat!(select_due!($key, $table, $condition, $order), " LIMIT 1"),
                $params,
            ),
            changes: vec![SqlStatement::new(
                concat!(
                    $change,
                    " WHERE (",
                    $key,
                    ") IN (",
                    select_due!($key, $table, $condition, $order),
                    " LIMIT 1000)"
                ),
                $params,
            )],
        }
    };
}

/// Selects the keys that are over, in an order in which no two are alike: each statement that has it, with a limit,
/// in one transaction speaks of the same keys.
macro_rules! select_bonds_due {
    ($columns:literal) => {
        select_due!($columns, "bond", "day < $1 AND at_ms < $2", "day, at_ms, agent, name")
    };
}

impl Due {
    /// Returns the steps in this order: a day is seen before anything is judged by it, and a session as it is now
    /// before it is taken for idle. What is compared is a parameter, so that PostgreSQL knows how few rows fit.
    fn steps(&self) -> [Step; 12] {
        let days_ago = |days: i64| self.days_ago(days);
        let today = || Value::from(day(self.now_ms));
        let before = || Value::from(day(self.now_ms).saturating_sub(IDLE_DAYS));
        let passed = || Value::from(self.now_ms.saturating_mul(1_000));
        let long_over = || Value::from(self.now_ms.saturating_sub(OVER_MS));
        [
            step!("UPDATE age SET day = day + 1, seen = $1", "id", "age", "seen < $1", "id", vec![today()]),
            step!(
                "UPDATE rate SET mark_day = (SELECT age.day FROM age)",
                "id",
                "rate",
                "mark_day IS NULL AND due_us < $1",
                "mark_day",
                vec![passed()]
            ),
            step!(
                "DELETE FROM rate",
                "id",
                "rate",
                "mark_day < $1 AND due_us < $2",
                "mark_day",
                vec![days_ago(PASSED_DAYS), passed()]
            ),
            self.bonds(),
            step!(
                "UPDATE counter SET mark_day = (SELECT age.day FROM age)",
                "subject, day",
                "counter",
                "mark_day IS NULL AND day < $1",
                "mark_day",
                vec![today()]
            ),
            step!(
                "DELETE FROM counter",
                "subject, day",
                "counter",
                "mark_day < $1 AND day < $2",
                "mark_day",
                vec![days_ago(IDLE_DAYS), before()]
            ),
            step!(
                "UPDATE session SET mark_day = (SELECT age.day FROM age)",
                "id",
                "session",
                "mark_day IS NULL",
                "mark_day",
                Vec::new()
            ),
            step!(
                "DELETE FROM session",
                "id",
                "session",
                "mark_day < $1 \
                 AND NOT EXISTS (SELECT 1 FROM counter c WHERE c.day = 0 AND c.subject = 'session:' || id)",
                "mark_day",
                vec![days_ago(IDLE_DAYS)]
            ),
            step!(
                "DELETE FROM account_link",
                "id",
                "account_link",
                "expires_ms < $1",
                "expires_ms",
                vec![long_over()]
            ),
            step!(
                "DELETE FROM web_session",
                "id",
                "web_session",
                "expires_ms < $1",
                "expires_ms",
                vec![long_over()]
            ),
            step!(
                "DELETE FROM sign_in_mark",
                "id",
                "sign_in_mark",
                "until_ms < $1",
                "until_ms",
                vec![self.now_ms.into()]
            ),
            step!(
                "DELETE FROM outbox",
                "approval, channel",
                "outbox",
                "day < $1",
                "day",
                vec![days_ago(TOLD_DAYS)]
            ),
        ]
    }

    fn days_ago(&self, days: i64) -> Value {
        self.age.saturating_sub(days).into()
    }

    /// Forgets idempotency keys: first they are taken from the counts of their agents, as long as they are there.
    fn bonds(&self) -> Step {
        let kept = self.now_ms.saturating_sub(self.keys_kept_ms);
        let params = || vec![self.days_ago(PASSED_DAYS), kept.into()];
        Step {
            look: SqlStatement::new(concat!(select_bonds_due!("agent, name"), " LIMIT 1"), params()),
            changes: vec![
                SqlStatement::new(
                    concat!(
                        "UPDATE bond_count SET bonds = bond_count.bonds - gone.bonds FROM (SELECT agent, count(*) AS bonds FROM (",
                        select_bonds_due!("agent"),
                        " LIMIT 1000) AS due GROUP BY agent) AS gone WHERE gone.agent = bond_count.agent"
                    ),
                    params(),
                ),
                SqlStatement::new(
                    concat!(
                        "DELETE FROM bond WHERE (agent, name) IN (",
                        select_bonds_due!("agent, name"),
                        " LIMIT 1000)"
                    ),
                    params(),
                ),
            ],
        }
    }
}
