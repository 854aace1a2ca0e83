//! Prometheus can read this: numbers, tool names and status words, and nothing that a caller wrote.

use std::{
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use countersign_gate::Answer;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Durations are sorted by these bounds, in seconds, from a millisecond to a minute.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

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
}

impl Default for Metrics {
    fn default() -> Self {
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
        Self {
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
