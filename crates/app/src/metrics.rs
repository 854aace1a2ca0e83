//! Prometheus can read this: numbers, tool names and status words, and nothing that a caller wrote.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use countersign_gate::{Answer, ledger::ApprovalRecord};
use countersign_rules::{ApprovalState, GroupName, ToolName};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::level::{Fate, Seen};

/// Durations are sorted by these bounds, in seconds, from a millisecond to a minute.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

/// How long people take to answer is sorted by these bounds, in seconds, from five seconds to a day.
const PATIENCE: [f64; 12] =
    [5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 14_400.0, 86_400.0];

/// So many groups are told apart; policies name them, and others are counted as [`OTHER`].
const GROUPS_MAX: usize = 200;

/// Tools that are no longer configured, and groups beyond the first many, are counted under this name, which none has.
const OTHER: &str = "(other)";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGroup {
    group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    tool: String,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tool {
    tool: String,
}

/// These are the counters of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<Outcome, Counter>,
    seconds: Family<Status, Histogram>,
    answers: Family<Status, Counter>,
    unauthenticated: Counter,
    waiting: Gauge<i64, AtomicI64>,
    in_doubt: Gauge<i64, AtomicI64>,
    halts: Gauge<i64, AtomicI64>,
    log_size: Gauge<u64, AtomicU64>,
    under_way: Gauge<i64, AtomicI64>,
    tool_on: Family<Tool, Gauge<i64, AtomicI64>>,
    decided: Family<Tool, Histogram>,
    decided_by: Family<OfGroup, Histogram>,
    expired: Family<Tool, Counter>,
    expired_at: Family<OfGroup, Counter>,
    /// These tools are configured.
    tools: BTreeSet<ToolName>,
    /// These groups are told apart.
    groups: Mutex<BTreeSet<GroupName>>,
}

impl Metrics {
    /// Makes the counters of a server with these tools.
    #[must_use]
    pub fn new<'a>(tools: impl IntoIterator<Item = &'a ToolName>) -> Self {
        let mut registry = Registry::with_prefix("countersign");
        let calls = Family::<Outcome, Counter>::default();
        registry.register("calls", "Proposed calls by tool and answer", calls.clone());
        let seconds = Family::<Status, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        registry.register_with_unit("call", "From proposal to answer", Unit::Seconds, seconds.clone());
        let answers = Family::<Status, Counter>::default();
        registry.register("approval_answers", "Answers of people to requests", answers.clone());
        let unauthenticated = Counter::default();
        registry.register(
            "unauthenticated",
            "Requests without a credential that is good for them",
            unauthenticated.clone(),
        );
        let waiting = Gauge::default();
        registry.register("approvals_waiting", "Requests that people have not answered", waiting.clone());
        let in_doubt = Gauge::default();
        registry.register("calls_in_doubt", "Calls whose effect is not known", in_doubt.clone());
        let halts = Gauge::default();
        registry.register("halts", "Halts in force", halts.clone());
        let log_size = Gauge::default();
        registry.register("log_entries", "Entries in the log", log_size.clone());
        let under_way = Gauge::default();
        registry.register("calls_under_way", "Calls between proposal and answer", under_way.clone());
        let tool_on = Family::default();
        registry.register(
            "tool_available",
            "1 when the tool can be called, 0 when switched off",
            tool_on.clone(),
        );
        let patience = || Histogram::new(PATIENCE);
        let decided = Family::<Tool, Histogram>::new_with_constructor(patience);
        registry.register_with_unit(
            "approval_tool",
            "From asking people to the answer that settled a request, by tool",
            Unit::Seconds,
            decided.clone(),
        );
        let decided_by = Family::<OfGroup, Histogram>::new_with_constructor(patience);
        registry.register_with_unit(
            "approval_group",
            "From asking people to the last answer needed of a group",
            Unit::Seconds,
            decided_by.clone(),
        );
        let expired = Family::<Tool, Counter>::default();
        registry.register("approval_tool_expired", "Requests not answered in time, by tool", expired.clone());
        let expired_at = Family::<OfGroup, Counter>::default();
        registry.register(
            "approval_group_expired",
            "Requests that a group has not answered in time",
            expired_at.clone(),
        );
        Self {
            decided,
            decided_by,
            expired,
            expired_at,
            tools: tools.into_iter().cloned().collect(),
            groups: Mutex::default(),
            registry,
            calls,
            seconds,
            answers,
            unauthenticated,
            waiting,
            in_doubt,
            halts,
            log_size,
            under_way,
            tool_on,
        }
    }
}

/// This is counted when somebody asks, not when it happens.
#[derive(Debug, Clone, Default)]
pub struct Levels {
    /// So many requests wait for people.
    pub waiting: u64,
    /// So many calls have an outcome that is not known.
    pub in_doubt: u64,
    /// So many halts are in force.
    pub halts: usize,
    /// The log has so many entries.
    pub log_size: u64,
    /// This process is performing so many calls.
    pub under_way: usize,
    /// Each tool is named, with true if it can be called.
    pub tools: Vec<(String, bool)>,
}

impl Metrics {
    /// Counts an answered call. `tool` must be a configured tool: names that callers make up are not counted
    /// one by one.
    pub fn called(&self, tool: &str, answer: &Answer, took: Duration) {
        let status = answer.status();
        self.calls.get_or_create(&Outcome { tool: tool.to_owned(), status }).inc();
        self.seconds.get_or_create(&Status { status }).observe(took.as_secs_f64());
    }

    /// Counts a person's answer.
    pub fn answered(&self, approved: bool) {
        self.answers.get_or_create(&Status { status: if approved { "approved" } else { "refused" } }).inc();
    }

    /// Counts what the last answer to a request has settled, and how long that took: its tool's, and of each group whose part
    /// it completed. One that is older than its request, because the clock was set back, is not counted.
    pub(crate) fn decided(&self, record: &ApprovalRecord) {
        let seen = Seen::from(record);
        let Some(at_ms) = record.signatures.last().map(|last| last.at_ms) else { return };
        let Some(took_ms) = seen.took_ms(at_ms) else { return };
        let seconds = Duration::from_millis(took_ms).as_secs_f64();
        if record.state != ApprovalState::Waiting {
            self.decided.get_or_create(&self.tool(&record.request.call.tool)).observe(seconds);
        }
        let before = seen.before_last().fates(at_ms);
        for (group, fate) in seen.fates(at_ms) {
            let was = before.get(group).copied();
            if matches!(fate, Fate::Answered(_)) && !matches!(was, Some(Fate::Answered(_))) {
                self.decided_by.get_or_create(&self.group(group)).observe(seconds);
            }
        }
    }

    /// Counts a request that has expired unanswered, for its tool and for each group that was not done with it.
    pub(crate) fn expired(&self, record: &ApprovalRecord) {
        self.expired.get_or_create(&self.tool(&record.request.call.tool)).inc();
        for (group, fate) in Seen::from(record).fates(i64::MAX) {
            if fate == Fate::Expired {
                self.expired_at.get_or_create(&self.group(group)).inc();
            }
        }
    }

    fn tool(&self, name: &ToolName) -> Tool {
        let known = self.tools.contains(name);
        Tool { tool: if known { name.as_str() } else { OTHER }.to_owned() }
    }

    fn group(&self, name: &GroupName) -> OfGroup {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let known = groups.contains(name) || (groups.len() < GROUPS_MAX && groups.insert(name.clone()));
        OfGroup { group: if known { name.as_str() } else { OTHER }.to_owned() }
    }

    /// Counts a request without a good credential.
    pub fn unauthenticated(&self) {
        self.unauthenticated.inc();
    }

    /// Writes everything in the OpenMetrics text format.
    ///
    /// # Errors
    /// Returns the encoder's error; the encoder fails for no text.
    pub fn render(&self, levels: &Levels) -> Result<String, std::fmt::Error> {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.waiting.set(i64::try_from(levels.waiting).unwrap_or(i64::MAX));
        self.in_doubt.set(i64::try_from(levels.in_doubt).unwrap_or(i64::MAX));
        self.halts.set(number(levels.halts));
        self.log_size.set(levels.log_size);
        self.under_way.set(number(levels.under_way));
        for (tool, on) in &levels.tools {
            self.tool_on.get_or_create(&Tool { tool: tool.clone() }).set(i64::from(*on));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
