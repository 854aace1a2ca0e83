//! People are told what happens to requests: the outbox.
//!
//! What a channel is to be told is written in the transaction of what happened, so that a kill loses nothing; and
//! it is written where a request changes, so that no operation can forget it. Somebody else sends it: it takes a
//! turn ([`Store::take_turn`]), tells the channel, and says how that went. A turn that was not ended in time is
//! taken over by whoever comes next, and what the one before says then counts no more. So a channel is told at
//! least once, and of one request in order.
//!
//! What is absent on purpose: the message itself, which is made when it is sent, and any wait of a call for a
//! channel.

use std::{collections::BTreeSet, time::Duration};

use countersign_gate::ledger::{ApprovalRecord, LedgerFault};
use countersign_rules::{ApprovalId, ApprovalRequest, ApprovalState, ChannelName, GroupName};

use crate::{
    queue::Operation,
    record::{
        Record as _,
        outbox::{self, Event, Notice, Thread, ThreadKey},
    },
    records::{Changes, Key, Needs, Records},
    store::Store,
};

/// The first pause after a failure, which is doubled each time.
const PAUSE_MS: u64 = 2_000;

/// Such a pause is at most this long.
const PAUSE_MAX_MS: u64 = 10 * 60 * 1_000;

/// A notice that fails for so long is given up, and with it those behind it.
const GIVE_UP_MS: i64 = 24 * 60 * 60 * 1_000;

/// People are told of requests by these rules. By default nobody is told, and nothing is written.
#[derive(Debug, Clone, Default)]
pub struct Telling {
    /// These channels are told.
    pub channels: Vec<Listener>,
    /// A request that waits so long is reminded of; never when `None`.
    pub remind: Option<Duration>,
    /// A request that waits so long is escalated; never when `None`.
    pub escalate: Option<Duration>,
}

/// A channel, as far as it matters what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The channel has this name.
    pub name: ChannelName,
    /// The channel is told of requests that ask one of these groups; of all when empty.
    pub groups: BTreeSet<GroupName>,
    /// This is true if the channel hears of every request that is escalated.
    pub escalations: bool,
}

impl Listener {
    fn serves(&self, request: &ApprovalRequest) -> bool {
        self.groups.is_empty() || request.of.iter().any(|ask| self.groups.contains(&ask.group))
    }
}

/// Somebody's turn to tell a channel something.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// The channel is to be told.
    pub channel: ChannelName,
    /// The request stands so now.
    pub record: ApprovalRecord,
    /// It is to be told this.
    pub notice: Notice,
    /// The channel calls what it made of the request this.
    pub handle: Option<String>,
    /// The turn has this number: a later one ends it.
    pub attempt: u64,
    /// The notice has failed so many times in a row.
    pub failures: u32,
}

impl Turn {
    /// Returns the message's id, which is the same however often it is sent. It has no full stop unless a name has one.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}:{}:{}", self.record.request.id, self.channel, self.notice.number)
    }

    fn key(&self) -> ThreadKey {
        (self.record.request.id.clone(), self.channel.clone())
    }
}

/// A channel was given up for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// The request.
    pub approval: ApprovalId,
    /// It was not told these, oldest first.
    pub notices: Vec<Notice>,
    /// The last try failed for this reason.
    pub why: String,
}

impl Store {
    /// Returns the requests for which a channel has something to do at `now_ms` (Unix milliseconds UTC), the most overdue
    /// first; at most `limit`.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn due(
        &self,
        channel: &ChannelName,
        now_ms: i64,
        limit: u32,
    ) -> Result<Vec<ApprovalId>, LedgerFault> {
        let rows = self.select(outbox::select_due(channel, now_ms, limit)).await?;
        rows.iter().map(|row| Ok(row.parse(0)?)).collect()
    }

    /// Takes the turn to tell a channel of a request, for `lease` from `now_ms` (Unix milliseconds UTC) on; `None` when there
    /// is nothing to tell, or it is somebody else's turn. Reminders fall due here.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then it is nobody's turn, or one that passes.
    pub async fn take_turn(
        &self,
        approval: &ApprovalId,
        channel: &ChannelName,
        now_ms: i64,
        lease: Duration,
    ) -> Result<Option<Turn>, LedgerFault> {
        let until_ms = now_ms.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        self.submit(Take { key: (approval.clone(), channel.clone()), now_ms, until_ms }).await
    }

    /// Records that a channel was told, and what it calls what it made of the request. Returns true if the turn was still
    /// the caller's; otherwise nothing changes, and the channel may be told again.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then the channel may be told again.
    pub async fn end_turn(
        &self,
        turn: &Turn,
        handle: Option<String>,
        now_ms: i64,
    ) -> Result<bool, LedgerFault> {
        let ended = TurnEnded::Told { handle };
        self.submit(EndTurn { key: turn.key(), attempt: turn.attempt, now_ms, ended }).await
    }

    /// Records that a channel could not be told, for this reason. It is tried again after a pause that grows with each failure,
    /// and wavers by `chance` so that not all come back at once; not before the channel said (`after`). After a day of
    /// failures it is given up. Returns true if the turn was still the caller's.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then the turn passes.
    pub async fn fail_turn(
        &self,
        turn: &Turn,
        why: &str,
        after: Option<Duration>,
        chance: [u8; 16],
        now_ms: i64,
    ) -> Result<bool, LedgerFault> {
        let after_ms = after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        let pause_ms = pause_ms(turn.failures, chance).max(after_ms);
        let ended = TurnEnded::NotTold { why: why.chars().take(500).collect(), pause_ms };
        self.submit(EndTurn { key: turn.key(), attempt: turn.attempt, now_ms, ended }).await
    }

    /// Records that a channel does not take this and never will, for this reason: it is given up with what is behind it. Returns
    /// true if the turn was still the caller's.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then the turn passes.
    pub async fn give_up_turn(&self, turn: &Turn, why: &str, now_ms: i64) -> Result<bool, LedgerFault> {
        let ended = TurnEnded::Refused { why: why.chars().take(500).collect() };
        self.submit(EndTurn { key: turn.key(), attempt: turn.attempt, now_ms, ended }).await
    }

    /// Returns for how many requests, of the `limit` that have something to do soonest, the last try to tell a channel
    /// failed, and why the latest of them did. They are tried again.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn failing(
        &self,
        channel: &ChannelName,
        limit: u32,
    ) -> Result<(usize, Option<String>), LedgerFault> {
        let rows = self.scan(outbox::select_pending(channel, limit)).await?;
        let threads: Vec<Thread> = rows.iter().map(Thread::read).collect::<Result<_, _>>()?;
        let failing = threads.iter().filter(|thread| thread.failures > 0 && !thread.queue.is_empty());
        let count = failing.clone().count();
        let latest = failing.max_by_key(|thread| thread.since_ms);
        Ok((count, latest.and_then(|thread| thread.why.clone())))
    }

    /// Returns what a channel was given up for; at most `limit`.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn given_up(&self, channel: &ChannelName, limit: u32) -> Result<Vec<GivenUp>, LedgerFault> {
        let rows = self.scan(outbox::select_dead(channel, limit)).await?;
        rows.iter()
            .map(|row| {
                let Thread { queue, why, .. } = Thread::read(row)?;
                Ok(GivenUp { approval: row.parse(1)?, notices: queue, why: why.unwrap_or_default() })
            })
            .collect()
    }

    /// Tries again what was given up for a request on a channel. Returns true if anything was.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`]; then nothing has changed, or it is not known whether it has.
    pub async fn try_again(
        &self,
        approval: &ApprovalId,
        channel: &ChannelName,
        now_ms: i64,
    ) -> Result<bool, LedgerFault> {
        self.submit(TryAgain { key: (approval.clone(), channel.clone()), now_ms }).await
    }
}

/// Returns the pause after so many failures and this one: between half of what is doubled each time and all of it.
fn pause_ms(failures: u32, chance: [u8; 16]) -> u64 {
    let [a, b, c, d, ..] = chance;
    let whole =
        PAUSE_MS.saturating_mul(1_u64.checked_shl(failures.min(20)).unwrap_or(u64::MAX)).min(PAUSE_MAX_MS);
    let half = whole.div_euclid(2);
    let wavers = u64::from(u32::from_be_bytes([a, b, c, d])).checked_rem(half.saturating_add(1)).unwrap_or(0);
    half.saturating_add(wavers)
}

/// Names the threads of a request: whatever changes it tells its channels.
pub(crate) fn keys<'a>(channels: &'a [Listener], approval: &'a ApprovalId) -> impl Iterator<Item = Key> + 'a {
    channels.iter().map(|channel| Key::Outbox((approval.clone(), channel.name.clone())))
}

/// Adds to the changes of an operation what channels are told of them.
pub(crate) fn tell(records: &Records, telling: &Telling, changes: &mut Changes) {
    if telling.channels.is_empty() {
        return;
    }
    let at_ms = changes.entries.last().and_then(|entry| entry.at_ms());
    let mut told = Vec::new();
    for (id, after) in changes.approvals.puts() {
        // Whatever changes a request has read it.
        let before = records.approvals.find(id).ok().flatten().map(|row| &row.record);
        let Some(event) = event(before, &after.record) else { continue };
        for channel in &telling.channels {
            let key = (id.clone(), channel.name.clone());
            let thread = match (event, records.outbox.find(&key)) {
                (Event::Asked, Ok(None)) => Thread::begun(telling, channel, &after.record, at_ms),
                (Event::Asked, Ok(Some(_))) | (_, Ok(None)) => None,
                (_, Ok(Some(thread))) => {
                    let mut thread = thread.clone();
                    thread.go_on(event, &after.record, at_ms);
                    Some(thread)
                }
                // No channel keeps a call from what it does.
                (_, Err(fault)) => {
                    tracing::error!(%fault, approval = %id, channel = %channel.name, "people are not told");
                    None
                }
            };
            told.extend(thread.map(|thread| (key, thread)));
        }
    }
    told.into_iter().for_each(|(key, thread)| changes.outbox.put(key, thread));
}

/// Returns what happened to a request that was so before and is so after.
fn event(before: Option<&ApprovalRecord>, after: &ApprovalRecord) -> Option<Event> {
    let Some(before) = before else {
        return (after.state == ApprovalState::Waiting).then_some(Event::Asked);
    };
    if after.state != before.state && after.state.is_final() {
        return Some(Event::Ended);
    }
    (after.signatures.len() > before.signatures.len()).then_some(Event::Answered)
}

impl Thread {
    /// Returns what a channel is to be told of a request that was just asked; `None` where it is not told.
    fn begun(
        telling: &Telling,
        channel: &Listener,
        record: &ApprovalRecord,
        at_ms: Option<i64>,
    ) -> Option<Self> {
        let ApprovalRequest { asked_ms, expires_ms, .. } = record.request;
        let at = |wait: Option<Duration>| {
            let at_ms = asked_ms.saturating_add(i64::try_from(wait?.as_millis()).ok()?);
            (at_ms < expires_ms).then_some(at_ms)
        };
        let serves = channel.serves(&record.request);
        let (remind_ms, escalate_ms) = (at(telling.remind).filter(|_| serves), at(telling.escalate));
        let hears = serves || (channel.escalations && escalate_ms.is_some());
        if !hears {
            return None;
        }
        let mut thread = Self {
            queue: Vec::new(),
            next: 0,
            remind_ms,
            escalate_ms,
            retry_ms: asked_ms,
            attempt: 0,
            failures: 0,
            since_ms: None,
            why: None,
            dead: false,
            handle: None,
        };
        if serves {
            thread.push(Event::Asked, record, at_ms.unwrap_or(asked_ms));
        }
        Some(thread)
    }

    /// Takes note of what happened to a request that channels have heard of, or would have.
    fn go_on(&mut self, event: Event, record: &ApprovalRecord, at_ms: Option<i64>) {
        if record.state != ApprovalState::Waiting {
            (self.remind_ms, self.escalate_ms) = (None, None);
        }
        // Who has not heard of it need not hear of its end.
        if self.next == 0 {
            return;
        }
        self.push(event, record, at_ms.unwrap_or(self.retry_ms));
        // What is new is worth another try.
        if self.dead {
            self.revive(at_ms.unwrap_or(self.retry_ms));
        }
    }

    fn push(&mut self, event: Event, record: &ApprovalRecord, at_ms: i64) {
        if self.queue.is_empty() {
            self.retry_ms = at_ms;
        }
        self.queue.push(Notice {
            number: self.next,
            event,
            state: record.state,
            answers: u32::try_from(record.signatures.len()).unwrap_or(u32::MAX),
            at_ms,
        });
        self.next = self.next.saturating_add(1);
    }

    /// Lets what fell due happen. Returns true if anything changed. Where a reminder is so late that it is escalated anyway,
    /// that is all that is said.
    fn ring(&mut self, record: &ApprovalRecord, now_ms: i64) -> bool {
        let due = |at: Option<i64>| at.is_some_and(|at| at <= now_ms);
        let (remind, escalate) = (due(self.remind_ms), due(self.escalate_ms));
        if !remind && !escalate {
            return false;
        }
        self.remind_ms = self.remind_ms.filter(|at| *at > now_ms);
        self.escalate_ms = self.escalate_ms.filter(|at| *at > now_ms);
        if record.state == ApprovalState::Waiting && now_ms < record.request.expires_ms {
            self.push(if escalate { Event::Escalated } else { Event::Reminded }, record, now_ms);
        }
        true
    }

    const fn revive(&mut self, now_ms: i64) {
        self.dead = false;
        self.failures = 0;
        self.since_ms = None;
        self.retry_ms = now_ms;
    }
}

/// Takes a turn.
struct Take {
    key: ThreadKey,
    now_ms: i64,
    until_ms: i64,
}

impl Operation for Take {
    type Output = Option<Turn>;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Outbox(self.key.clone()));
        needs.name(records, &Key::Approval(self.key.0.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(Self::Output, Changes), LedgerFault> {
        let mut changes = Changes::default();
        let (Some(thread), Some(row)) =
            (records.outbox.find(&self.key)?, records.approvals.find(&self.key.0)?)
        else {
            return Ok((None, changes));
        };
        let mut thread = thread.clone();
        let rang = thread.ring(&row.record, self.now_ms);
        let first = thread.queue.first().cloned();
        let turn = match first.filter(|_| !thread.dead && thread.retry_ms <= self.now_ms) {
            None if !rang => return Ok((None, changes)),
            None => None,
            Some(notice) => {
                thread.attempt = thread.attempt.saturating_add(1);
                thread.retry_ms = self.until_ms;
                thread.since_ms.get_or_insert(self.now_ms);
                Some(Turn {
                    channel: self.key.1.clone(),
                    record: row.record.clone(),
                    notice,
                    handle: thread.handle.clone(),
                    attempt: thread.attempt,
                    failures: thread.failures,
                })
            }
        };
        changes.outbox.put(self.key.clone(), thread);
        Ok((turn, changes))
    }
}

/// A turn ended so.
enum TurnEnded {
    Told { handle: Option<String> },
    NotTold { why: String, pause_ms: u64 },
    Refused { why: String },
}

/// Ends a turn. Returns true if it was still the caller's; otherwise nothing changes.
struct EndTurn {
    key: ThreadKey,
    attempt: u64,
    now_ms: i64,
    ended: TurnEnded,
}

impl Operation for EndTurn {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Outbox(self.key.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let mut changes = Changes::default();
        let found = records.outbox.find(&self.key)?;
        // INVARIANT: only the last turn says how it went.
        let Some(thread) = found.filter(|thread| thread.attempt == self.attempt && !thread.queue.is_empty())
        else {
            return Ok((false, changes));
        };
        let mut thread = thread.clone();
        match &self.ended {
            TurnEnded::Told { handle } => {
                thread.queue.remove(0);
                thread.why = None;
                thread.handle = handle.clone().or(thread.handle);
                thread.revive(self.now_ms);
            }
            TurnEnded::NotTold { why, pause_ms } => {
                let since_ms = *thread.since_ms.get_or_insert(self.now_ms);
                let over_ms = since_ms.saturating_add(GIVE_UP_MS);
                let next_ms = self.now_ms.saturating_add(i64::try_from(*pause_ms).unwrap_or(i64::MAX));
                thread.failures = thread.failures.saturating_add(1);
                thread.why = Some(why.clone());
                thread.dead = over_ms <= self.now_ms;
                // At last once more, when its time is over.
                thread.retry_ms = next_ms.min(over_ms);
            }
            TurnEnded::Refused { why } => {
                thread.failures = thread.failures.saturating_add(1);
                thread.why = Some(why.clone());
                thread.dead = true;
            }
        }
        // Nobody's turn any more: what the same turn says twice counts once.
        thread.attempt = thread.attempt.saturating_add(1);
        changes.outbox.put(self.key.clone(), thread);
        Ok((true, changes))
    }
}

/// Tries again what was given up.
struct TryAgain {
    key: ThreadKey,
    now_ms: i64,
}

impl Operation for TryAgain {
    type Output = bool;

    fn needs(&self, records: &Records, needs: &mut Needs) {
        needs.name(records, &Key::Outbox(self.key.clone()));
    }

    fn apply(&self, records: &Records) -> Result<(bool, Changes), LedgerFault> {
        let mut changes = Changes::default();
        let Some(thread) = records.outbox.find(&self.key)?.filter(|thread| thread.dead) else {
            return Ok((false, changes));
        };
        let mut thread = thread.clone();
        thread.revive(self.now_ms);
        changes.outbox.put(self.key.clone(), thread);
        Ok((true, changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_waver() {
        let pause = |failures, byte| pause_ms(failures, [byte; 16]);
        assert_eq!((pause(0, 0), pause(1, 0), pause(2, 0)), (1_000, 2_000, 4_000));
        for failures in 0..200 {
            let longest = (PAUSE_MS << failures.min(20)).min(PAUSE_MAX_MS);
            for byte in [0, 1, 7, 128, 255] {
                let pause = pause(failures, byte);
                assert!((longest / 2..=longest).contains(&pause), "{failures} {byte}: {pause}");
            }
        }
        assert_ne!(pause(5, 1), pause(5, 200), "not all come back at once");
    }
}
