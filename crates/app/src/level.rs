//! Service levels, and signs of wearing out: how soon people answer, computed from the ledger's requests.
//!
//! What is measured is the time between a request and the answers that are kept with it, by the server's clock and not by
//! anybody's calendar. Requests are taken in the order in which people were asked. The newest are looked at, at most
//! [`REQUESTS_MAX`], and it is said when that was not all.
//!
//! What is not measured: for how long somebody looked at a request, and whether they opened its details. No surface tells.

use std::collections::BTreeMap;

use countersign_gate::ledger::{ApprovalRecord, LedgerFault};
use countersign_rules::{
    ApprovalState, AskOf, Effect, GroupName, PersonId, Signature, ToolName, approval::is_enough,
};
use countersign_store::RequestTimes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{answer::timestamp, app::App, auth::Person, role::Right};

/// So many days are looked at, if not said.
pub const DAYS: u32 = 30;

/// No more days than these are looked at.
pub const DAYS_MAX: u32 = 90;

/// So many requests are looked at, at most: the newest.
pub const REQUESTS_MAX: usize = 10_000;

/// So many requests are read at once: each with its arguments, which may be long.
const PAGE: u32 = 100;

const DAY_MS: i64 = 86_400_000;

/// How soon people answered requests of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LevelBody {
    /// So many requests asked. It is the sum of those answered, expired, waiting and ended otherwise.
    pub asked: u64,
    /// So many were answered.
    pub answered: u64,
    /// So many were not answered in time.
    pub expired: u64,
    /// So many wait and are in time.
    pub waiting: u64,
    /// So many ended before they were answered, and nobody is late: another group refused first, or the call was stopped.
    pub ended_otherwise: u64,
    /// This is the share of those answered within the deadline, between 0 and 1, of those answered or expired; `null` where
    /// there are none.
    pub within_deadline: Option<f64>,
    /// The median and the 95th percentile rest on so many answers. Those that are older than their request, because the
    /// clock was set back between, are left out, and what expired has no time.
    pub timed: u64,
    /// Half of those answered were answered within so many milliseconds.
    pub median_ms: Option<u64>,
    /// Of a hundred answered, 95 were answered within so many milliseconds.
    pub p95_ms: Option<u64>,
}

/// How soon a group answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupLevelBody {
    /// The group. A request that asks two groups counts for each.
    pub group: String,
    /// How soon it answers: with the answer that was the last one needed of it.
    #[serde(flatten)]
    pub level: LevelBody,
}

/// How soon calls of a tool are answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolLevelBody {
    /// The tool.
    pub tool: String,
    /// How soon its calls are answered: with the last answer needed.
    #[serde(flatten)]
    pub level: LevelBody,
}

/// What one person answered to calls of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReviewerBody {
    /// The person.
    pub person: String,
    /// The calls were of this tool.
    pub tool: String,
    /// The calls had this effect: `read`, `write` or `destructive`.
    #[schema(value_type = String)]
    pub effect: Effect,
    /// The person answered so many.
    pub answered: u64,
    /// The person approved so many of them.
    pub approved: u64,
    /// The share approved, between 0 and 1.
    pub approved_share: f64,
    /// The median rests on so many answers, as that of a group does.
    pub timed: u64,
    /// Half of the answers came within so many milliseconds after people were asked.
    pub median_ms: Option<u64>,
}

/// How soon people answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LevelsBody {
    /// So many days before now were looked at, each of 24 hours.
    pub days: u32,
    /// Requests that were made since then were looked at (RFC 3339).
    pub since: Option<String>,
    /// The figures are of this time (RFC 3339).
    pub until: Option<String>,
    /// This is `true` if there were more requests than are looked at: then the oldest ones were left out.
    pub cut: bool,
    /// So many requests were superseded. They are counted nowhere else, but for what a person answered to them.
    pub superseded: u64,
    /// All requests together.
    pub all: LevelBody,
    /// Each group that was asked, by name.
    pub groups: Vec<GroupLevelBody>,
    /// Each tool that people were asked about, by name.
    pub tools: Vec<ToolLevelBody>,
    /// What people answered, by name and tool: the caller's own answers, and to operators those of everybody.
    pub reviewers: Vec<ReviewerBody>,
}

/// What became of a request, or of one group's part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was answered, by an answer of this time, in Unix milliseconds UTC.
    Answered(i64),
    /// Nobody answered in time.
    Expired,
    /// It waits.
    Waiting,
    /// It ended without being answered or late.
    Otherwise,
}

/// A request, as far as its times go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    state: ApprovalState,
    of: &'a [AskOf],
    signatures: &'a [Signature],
    asked_ms: i64,
    expires_ms: i64,
}

impl<'a> From<&'a ApprovalRecord> for Seen<'a> {
    fn from(record: &'a ApprovalRecord) -> Self {
        Self {
            state: record.state,
            of: &record.request.of,
            signatures: &record.signatures,
            asked_ms: record.request.asked_ms,
            expires_ms: record.request.expires_ms,
        }
    }
}

impl<'a> From<&'a RequestTimes> for Seen<'a> {
    fn from(times: &'a RequestTimes) -> Self {
        Self {
            state: times.state,
            of: &times.of,
            signatures: &times.signatures,
            asked_ms: times.asked_ms,
            expires_ms: times.expires_ms,
        }
    }
}

impl<'a> Seen<'a> {
    /// The request as it stood before its last answer.
    pub(crate) fn before_last(self) -> Self {
        let signatures = self.signatures.split_last().map_or(self.signatures, |(_last, before)| before);
        Self { state: ApprovalState::Waiting, signatures, ..self }
    }

    /// Returns how long an answer of that time took, in milliseconds; `None` where it is older than the request.
    pub(crate) fn took_ms(&self, at_ms: i64) -> Option<u64> {
        u64::try_from(at_ms.saturating_sub(self.asked_ms)).ok()
    }

    /// Tells what became of the request.
    pub(crate) fn fate(&self, now_ms: i64) -> Fate {
        if let Some(no) = self.refusal() {
            return Fate::Answered(no.at_ms);
        }
        let met = match self.state {
            ApprovalState::Approved
            | ApprovalState::Executing
            | ApprovalState::Done
            | ApprovalState::Failed
            | ApprovalState::InDoubt => true,
            ApprovalState::Waiting
            | ApprovalState::Refused
            | ApprovalState::Expired
            | ApprovalState::Superseded
            | ApprovalState::Blocked => is_enough(self.of, self.signatures),
        };
        match self.signatures.last().filter(|_last| met) {
            Some(last) => Fate::Answered(last.at_ms),
            None => self.unanswered(now_ms),
        }
    }

    fn refusal(&self) -> Option<&'a Signature> {
        self.signatures.iter().find(|signature| !signature.approved)
    }

    fn unanswered(&self, now_ms: i64) -> Fate {
        match self.state {
            // One that nobody has ended yet.
            ApprovalState::Waiting if now_ms < self.expires_ms => Fate::Waiting,
            ApprovalState::Waiting | ApprovalState::Expired => Fate::Expired,
            ApprovalState::Approved
            | ApprovalState::Refused
            | ApprovalState::Superseded
            | ApprovalState::Executing
            | ApprovalState::Done
            | ApprovalState::Failed
            | ApprovalState::InDoubt
            | ApprovalState::Blocked => Fate::Otherwise,
        }
    }

    /// Tells what became of each group's part. A part is answered by whoever made it complete. Somebody of two groups that
    /// are asked counts for both, unless the request is not answered by that: then nobody knows for which.
    pub(crate) fn fates(&self, now_ms: i64) -> BTreeMap<&'a GroupName, Fate> {
        let whole = self.fate(now_ms);
        let answered = matches!(whole, Fate::Answered(_));
        let mut needed: BTreeMap<&GroupName, usize> = BTreeMap::new();
        for ask in self.of {
            let quorum = usize::try_from(ask.quorum.max(1)).unwrap_or(usize::MAX);
            let most = needed.entry(&ask.group).or_default();
            *most = quorum.max(*most);
        }
        let parts: BTreeMap<_, _> =
            needed.into_iter().map(|(group, quorum)| (group, self.completed_ms(group, quorum))).collect();
        let known = answered || parts.values().any(Option::is_none);
        let refused_in = |group| self.refusal().filter(|no| no.groups.contains(group));
        parts
            .into_iter()
            .map(|(group, at_ms)| {
                let fate = match (at_ms.filter(|_at| known), refused_in(group)) {
                    (Some(at_ms), _) => Fate::Answered(at_ms),
                    (None, Some(no)) => Fate::Answered(no.at_ms),
                    (None, None) if answered => Fate::Otherwise,
                    (None, None) => whole,
                };
                (group, fate)
            })
            .collect()
    }

    /// Returns when so many of a group had approved.
    fn completed_ms(&self, group: &GroupName, quorum: usize) -> Option<i64> {
        let mut of_group =
            self.signatures.iter().filter(|signature| signature.approved && signature.groups.contains(group));
        of_group.nth(quorum.saturating_sub(1)).map(|signature| signature.at_ms)
    }
}

/// What is counted of requests of one kind.
#[derive(Debug, Default)]
struct Tally {
    level: LevelBody,
    in_time: u64,
    took_ms: Vec<u64>,
}

impl Tally {
    fn take(&mut self, seen: &Seen<'_>, fate: Fate) {
        let Self { level, in_time, took_ms } = self;
        count(&mut level.asked);
        match fate {
            Fate::Answered(at_ms) => {
                count(&mut level.answered);
                if at_ms < seen.expires_ms {
                    count(in_time);
                }
                took_ms.extend(seen.took_ms(at_ms));
            }
            Fate::Expired => count(&mut level.expired),
            Fate::Waiting => count(&mut level.waiting),
            Fate::Otherwise => count(&mut level.ended_otherwise),
        }
    }

    fn level(mut self) -> LevelBody {
        self.took_ms.sort_unstable();
        let due = self.level.answered.saturating_add(self.level.expired);
        LevelBody {
            within_deadline: share(self.in_time, due),
            timed: u64::try_from(self.took_ms.len()).unwrap_or(u64::MAX),
            median_ms: percentile(&self.took_ms, 50),
            p95_ms: percentile(&self.took_ms, 95),
            ..self.level
        }
    }
}

/// What is counted of one person's answers to calls of one kind.
#[derive(Debug, Default)]
struct Reviewed {
    answered: u64,
    approved: u64,
    took_ms: Vec<u64>,
}

/// What is counted of requests.
#[derive(Debug, Default)]
struct Counted {
    superseded: u64,
    all: Tally,
    groups: BTreeMap<GroupName, Tally>,
    tools: BTreeMap<ToolName, Tally>,
    reviewers: BTreeMap<(PersonId, ToolName, Effect), Reviewed>,
}

impl Counted {
    fn take(&mut self, times: &RequestTimes, now_ms: i64) {
        let seen = Seen::from(times);
        for signature in &times.signatures {
            let kind = (signature.person.clone(), times.tool.clone(), times.effect);
            let reviewed = self.reviewers.entry(kind).or_default();
            count(&mut reviewed.answered);
            if signature.approved {
                count(&mut reviewed.approved);
            }
            reviewed.took_ms.extend(seen.took_ms(signature.at_ms));
        }
        if times.state == ApprovalState::Superseded {
            count(&mut self.superseded);
            return;
        }
        let whole = seen.fate(now_ms);
        self.all.take(&seen, whole);
        self.tools.entry(times.tool.clone()).or_default().take(&seen, whole);
        for (group, fate) in seen.fates(now_ms) {
            self.groups.entry(group.clone()).or_default().take(&seen, fate);
        }
    }

    /// The figures as somebody may see them.
    fn body(self, person: &Person, window: Window) -> LevelsBody {
        let own = |((of, _tool, _effect), _reviewed): &(&(PersonId, ToolName, Effect), &mut Reviewed)| {
            person.roles.may(Right::SeeAll) || *of == person.id
        };
        let mut reviewers = self.reviewers;
        let reviewers = reviewers.iter_mut().filter(own).map(|((person, tool, effect), reviewed)| {
            reviewed.took_ms.sort_unstable();
            ReviewerBody {
                person: person.to_string(),
                tool: tool.to_string(),
                effect: *effect,
                answered: reviewed.answered,
                approved: reviewed.approved,
                approved_share: share(reviewed.approved, reviewed.answered).unwrap_or_default(),
                timed: u64::try_from(reviewed.took_ms.len()).unwrap_or(u64::MAX),
                median_ms: percentile(&reviewed.took_ms, 50),
            }
        });
        let reviewers = reviewers.collect();
        let groups = self.groups.into_iter();
        let tools = self.tools.into_iter();
        LevelsBody {
            days: window.days,
            since: timestamp(window.since_ms),
            until: timestamp(window.until_ms),
            cut: window.cut,
            superseded: self.superseded,
            all: self.all.level(),
            groups: groups
                .map(|(group, tally)| GroupLevelBody { group: group.to_string(), level: tally.level() })
                .collect(),
            tools: tools
                .map(|(tool, tally)| ToolLevelBody { tool: tool.to_string(), level: tally.level() })
                .collect(),
            reviewers,
        }
    }
}

/// The time that is looked at.
#[derive(Debug, Clone, Copy)]
struct Window {
    days: u32,
    since_ms: i64,
    until_ms: i64,
    cut: bool,
}

impl App {
    /// Computes how soon people answered the requests of so many days, from 1 to [`DAYS_MAX`], as a person may see it: the
    /// figures of groups and tools, and of persons their own, or everybody's to operators.
    ///
    /// # Errors
    /// Fails with a [`LedgerFault`] when the ledger cannot be read.
    pub async fn service_levels(&self, person: &Person, days: u32) -> Result<LevelsBody, LedgerFault> {
        let days = days.clamp(1, DAYS_MAX);
        let until_ms = self.clock().now_ms();
        let since_ms = until_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS));
        let mut window = Window { days, since_ms, until_ms, cut: false };
        // One at a time: many who look must not cost more than one who does.
        let _turn = self.measuring().lock().await;
        let mut counted = Counted::default();
        let (mut read, mut before) = (0_usize, None);
        loop {
            let page = self.store().request_times(before, PAGE).await?;
            read = read.saturating_add(page.len());
            // Where the clock was set back, older requests may bear a later time: a whole page before the window ends it.
            let mut within = false;
            for times in page.iter().filter(|times| times.asked_ms >= since_ms) {
                within = true;
                counted.take(times, until_ms);
            }
            let full = page.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
            let Some(last) = page.last().filter(|_last| within && full) else { break };
            if read >= REQUESTS_MAX {
                let more = self.store().request_times(Some(last.place), 1).await?;
                window.cut = more.iter().any(|times| times.asked_ms >= since_ms);
                if window.cut {
                    window.since_ms = last.asked_ms.max(since_ms);
                }
                break;
            }
            before = Some(last.place);
        }
        Ok(counted.body(person, window))
    }
}

fn count(number: &mut u64) {
    *number = number.saturating_add(1);
}

/// Returns which part of all these are, between 0 and 1, to three places.
fn share(these: u64, all: u64) -> Option<f64> {
    let thousandths = these.saturating_mul(1_000).checked_div(all)?;
    Some(f64::from(u32::try_from(thousandths).unwrap_or(u32::MAX)) / 1_000.0)
}

/// Returns the least of these, which are sorted, that so many hundredths of them do not exceed.
fn percentile(sorted: &[u64], hundredths: usize) -> Option<u64> {
    let rank = sorted.len().saturating_mul(hundredths).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests;
