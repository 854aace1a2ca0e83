//! What is found by what is filed, and by reading on after it, is what is there.
//!
//! A tile has 256 entries. What is filed of entries and calls is filed when theirs is complete; see `src/place.rs`.

use std::{collections::BTreeSet, sync::Arc};

use countersign_audit::{Entry, ParsedEntry};
use countersign_gate::{
    NewEntry,
    ledger::{CallOutcome, CallRecord, CallState, Ledger, Wait},
};
use countersign_rules::{AgentId, ApprovalId, CallId, Code, SessionId, ToolName, settlement::Settlement};
use countersign_store::{CallFilter, EntryFilter, Store, StoredEntry};
use proptest::prelude::*;
use serde_json::json;

use crate::{
    make::{NOW, approval_id, call_id, closing, done, intent, intent_of, requester, said, stored},
    place::{Place, contract},
};

const TILE: usize = 256;

/// An entry, which says what request it is about where it is about one.
fn about(kind: &'static str, approval: Option<String>) -> NewEntry {
    let mut entry = said(kind, json!({ "test": true }));
    if let Some(id) = approval {
        entry = said(kind, json!({ "approval": id }));
        entry.approval = Some(approval_id(&id));
    }
    entry
}

/// An entry about some of a few things.
fn entry() -> impl Strategy<Value = NewEntry> {
    const KINDS: [&str; 6] = ["call_proposed", "decided", "warrant_issued", "outcome", "asked", "noted"];
    let some = || prop::option::weighted(0.7, 0..4_u8);
    (prop::sample::select(&KINDS), some(), some(), 0..40_u16, prop::option::weighted(0.2, 0..4_u8), 0..50_i64)
        .prop_map(|(kind, agent, session, call, approval, at)| {
            let mut entry = about(kind, approval.map(|n| format!("a{n}")));
            entry.at_ms = NOW + at;
            entry.agent = agent.map(|n| AgentId::parse(&format!("agent{n}")).unwrap());
            entry.session = session.map(|n| SessionId::parse(&format!("s{n}")).unwrap());
            entry.call = (call < 30).then(|| call_id(&format!("c{call}")));
            entry
        })
}

/// A filter, with a limit.
fn filter() -> impl Strategy<Value = (EntryFilter, u32)> {
    const KINDS: [&str; 5] = ["call_proposed", "outcome", "asked", "noted", "never"];
    let some = || prop::option::weighted(0.3, 0..5_u8);
    let whose = (some(), some(), prop::option::weighted(0.3, 0..30_u16), some());
    let rest = (
        prop::option::weighted(0.3, prop::sample::select(&KINDS)),
        prop::option::weighted(0.2, 0..50_i64),
        prop::option::weighted(0.2, 0..50_i64),
        prop_oneof![Just(0), 0..1_400_u64],
        prop_oneof![Just(10_000), 0..20_u32],
    );
    (whose, rest).prop_map(|((agent, session, call, approval), (kind, since, until, from, limit))| {
        let filter = EntryFilter {
            agent: agent.map(|n| AgentId::parse(&format!("agent{n}")).unwrap()),
            session: session.map(|n| SessionId::parse(&format!("s{n}")).unwrap()),
            call: call.map(|n| call_id(&format!("c{n}"))),
            approval: approval.map(|n| approval_id(&format!("a{n}"))),
            kind: kind.map(ToOwned::to_owned),
            since_ms: since.map(|at| NOW + at),
            until_ms: until.map(|at| NOW + at),
            from,
        };
        (filter, limit)
    })
}

/// Every entry, with what it says.
async fn all(ledger: &Store) -> Vec<(StoredEntry, Entry)> {
    let read = ledger.entries(0, 10_000).await.unwrap().into_iter().map(|stored| {
        let Ok(ParsedEntry::Known(entry)) = Entry::parse(&stored.bytes) else { panic!("{stored:?}") };
        (stored, entry)
    });
    read.collect()
}

fn approval_of(entry: &Entry) -> Option<&str> {
    entry.body.get("approval").and_then(|approval| approval.as_str())
}

/// What a filter lets through.
fn scanned(all: &[(StoredEntry, Entry)], filter: &EntryFilter) -> Vec<StoredEntry> {
    let fits = |wanted: Option<&str>, found: Option<&str>| wanted.is_none() || wanted == found;
    let fitting = all.iter().filter(|(stored, entry)| {
        stored.index >= filter.from
            && filter.since_ms.is_none_or(|since| entry.at_ms >= since)
            && filter.until_ms.is_none_or(|until| entry.at_ms < until)
            && fits(filter.kind.as_deref(), Some(entry.kind.as_str()))
            && fits(filter.agent.as_ref().map(AgentId::as_str), entry.agent.as_ref().map(|of| of.as_str()))
            && fits(
                filter.session.as_ref().map(SessionId::as_str),
                entry.session.as_ref().map(|of| of.as_str()),
            )
            && fits(filter.call.as_ref().map(CallId::as_str), entry.call.as_ref().map(|of| of.as_str()))
            && fits(filter.approval.as_ref().map(ApprovalId::as_str), approval_of(entry))
    });
    fitting.map(|(stored, _entry)| stored.clone()).collect()
}

async fn compare(ledger: &Store, all: &[(StoredEntry, Entry)], (filter, limit): &(EntryFilter, u32)) {
    let most = usize::try_from(*limit).unwrap();
    let mut expected = scanned(all, filter);
    let found = ledger.find_entries(filter, *limit).await.unwrap();
    assert_eq!(found, expected[..expected.len().min(most)], "{filter:?}");
    expected.reverse();
    let found = ledger.last_entries(filter, *limit).await.unwrap();
    assert_eq!(found, expected[..expected.len().min(most)], "{filter:?}, newest first");
}

/// Checks that each thing that any entry is about finds exactly the entries that are, and each agent and state the calls.
pub(crate) async fn is_exact(ledger: &Store) {
    let entries = all(ledger).await;
    let mut filters = BTreeSet::new();
    for (_stored, entry) in &entries {
        filters.insert((0, entry.kind.as_str().to_owned()));
        let about = [
            (1, entry.agent.as_ref().map(|of| of.as_str())),
            (2, entry.session.as_ref().map(|of| of.as_str())),
            (3, entry.call.as_ref().map(|of| of.as_str())),
            (4, approval_of(entry)),
        ];
        filters.extend(about.into_iter().filter_map(|(what, of)| Some((what, of?.to_owned()))));
    }
    for (what, of) in filters {
        let mut filter = EntryFilter::default();
        match what {
            0 => filter.kind = Some(of),
            1 => filter.agent = Some(AgentId::parse(&of).unwrap()),
            2 => filter.session = Some(SessionId::parse(&of).unwrap()),
            3 => filter.call = Some(call_id(&of)),
            _ => filter.approval = Some(approval_id(&of)),
        }
        compare(ledger, &entries, &(filter, 10_000)).await;
    }
    let calls = ledger.list_calls(&CallFilter::default(), 10_000).await.unwrap();
    let agents: BTreeSet<AgentId> = calls.iter().map(|record| record.call.requester.agent.clone()).collect();
    let states = [CallState::Open, CallState::Done, CallState::Failed, CallState::InDoubt];
    for state in states.map(Some).into_iter().chain([None]) {
        for agent in agents.iter().cloned().map(Some).chain([None]) {
            let expected: Vec<&CallRecord> = calls
                .iter()
                .filter(|record| state.is_none_or(|state| state == record.state))
                .filter(|record| agent.as_ref().is_none_or(|agent| *agent == record.call.requester.agent))
                .collect();
            let mut filter = CallFilter { state, agent, tools: None, after: None };
            let found = ledger.list_calls(&filter, 10_000).await.unwrap();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
            // Page by page.
            let mut paged = Vec::new();
            loop {
                let found = ledger.list_calls(&filter, 7).await.unwrap();
                let Some(last) = found.last() else { break };
                filter.after = Some(last.call.id.clone());
                paged.extend(found);
            }
            assert_eq!(paged.iter().collect::<Vec<_>>(), expected, "{filter:?}, page by page");
        }
    }
}

/// Makes a log of so many entries more.
pub(crate) async fn note_all(ledger: &Store, entries: usize) {
    let noted = (0..entries).map(|n| {
        let mut entry = about(["noted", "decided", "asked"][n % 3], (n % 11 == 0).then(|| "a9".into()));
        entry.call = Some(call_id(&format!("n{}", n % 7)));
        entry.agent = Some(AgentId::parse(&format!("agent{}", n % 2)).unwrap());
        entry.session = (n % 5 != 0).then(|| SessionId::parse(&format!("s{}", n % 4)).unwrap());
        entry
    });
    ledger.record(noted.collect()).await.unwrap();
}

type Batches = Vec<Vec<NewEntry>>;

/// Batches of some or of many entries, of which a few fill several tiles.
fn batches() -> impl Strategy<Value = Batches> {
    let batch = prop_oneof![prop::collection::vec(entry(), 1..12), prop::collection::vec(entry(), 100..600)];
    prop::collection::vec(batch, 1..7)
}

async fn check(place: &Place, batches: Batches, filters: &[(EntryFilter, u32)]) {
    // By turns where several processes may write.
    let ledger = place.open().await;
    let other = match place {
        Place::Sqlite(_) => Arc::clone(&ledger),
        Place::Postgres(_) => place.open().await,
    };
    for (number, batch) in batches.into_iter().enumerate() {
        let writes = if number % 2 == 0 { &ledger } else { &other };
        writes.record(batch).await.unwrap();
        let entries = all(&ledger).await;
        for filter in filters {
            compare(&other, &entries, filter).await;
        }
    }
    assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
}

fn run(place: impl Future<Output = Place>, batches: Batches, filters: &[(EntryFilter, u32)]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { check(&place.await, batches, filters).await });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 50, ..ProptestConfig::default() })]
    #[test]
    fn sqlite_finds_what_a_scan_finds(batches in batches(), filters in prop::collection::vec(filter(), 1..30)) {
        run(async { Place::sqlite() }, batches, &filters);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, max_shrink_iters: 10, ..ProptestConfig::default() })]
    #[test]
    fn postgres_finds_what_a_scan_finds(batches in batches(), filters in prop::collection::vec(filter(), 1..30)) {
        run(Place::postgres(), batches, &filters);
    }
}

fn ids(calls: &[CallRecord]) -> Vec<&str> {
    calls.iter().map(|record| record.call.id.as_str()).collect()
}

contract! {
    async fn calls_are_found_on_both_sides_of_a_complete_tile(place) {
        let ledger = place.open().await;
        let failed = |id: &str| {
            let failed = CallOutcome::Failed { code: Code::ToolFailed, message: "no".into(), superseded: false };
            closing(id, failed, Settlement::Released)
        };
        let doubt = |id: &str| closing(id, CallOutcome::InDoubt { message: "lost".into() }, Settlement::Kept);
        // One of each state of each tile: the first two are complete, the third is not. Some are closed in the tile in which
        // they were issued, the others when the next one is under way.
        for tile in 0..3 {
            for what in ["open", "done", "failed", "doubt", "late"] {
                let who = requester(&format!("agent{}", what.len() % 2), "s1");
                ledger.issue(intent_of(stored(&format!("{what}{tile}"), &who, what))).await.unwrap();
            }
            Ledger::close(&*ledger, done(&format!("done{tile}"), 1), Wait::Durable).await.unwrap();
            Ledger::close(&*ledger, failed(&format!("failed{tile}")), Wait::Durable).await.unwrap();
            Ledger::close(&*ledger, doubt(&format!("doubt{tile}")), Wait::Durable).await.unwrap();
            is_exact(&ledger).await;
            if tile < 2 {
                note_all(&ledger, TILE).await;
                is_exact(&ledger).await;
                Ledger::close(&*ledger, done(&format!("late{tile}"), 1), Wait::Durable).await.unwrap();
                is_exact(&ledger).await;
            }
        }
        let open = ledger.calls(Some(CallState::Open), 100).await.unwrap();
        assert_eq!(ids(&open), ["late2", "open2", "open1", "open0"]);
        assert_eq!(ids(&ledger.calls(Some(CallState::InDoubt), 2).await.unwrap()), ["doubt2", "doubt1"]);
        assert_eq!(ledger.unsettled().await.unwrap(), (0, 3));
        // Only what is not done is filed as that.
        assert_eq!(place.number("SELECT count(*) FROM call WHERE unsettled = 'open'").await, 2);
        assert_eq!(place.number("SELECT count(*) FROM call WHERE unsettled IS NOT NULL AND state = 'done'").await, 0);
        ledger.close().await;
        drop(ledger);
        let ledger = place.open().await;
        let mut swept = Vec::new();
        while swept.len() < 4 {
            // On PostgreSQL the server takes a moment to see that a connection has ended.
            swept.extend(ledger.sweep(NOW).await.unwrap());
        }
        assert_eq!(ids(&swept), ["open0", "open1", "open2", "late2"]);
        assert_eq!(ledger.unsettled().await.unwrap(), (0, 7));
        is_exact(&ledger).await;
        assert!(ledger.resolve(&call_id("open0"), failed("open0").outcome, Settlement::Released, NOW, Vec::new()).await.unwrap());
        is_exact(&ledger).await;
        let tools = Some([ToolName::parse("other").unwrap()].into());
        let filter = CallFilter { agent: Some(AgentId::parse("agent0").unwrap()), tools, ..CallFilter::default() };
        assert!(ledger.list_calls(&filter, 10).await.unwrap().is_empty());
    }

    async fn a_page_after_a_call_of_another_agent_is_empty(place) {
        let ledger = place.open().await;
        for tile in 0..2 {
            for agent in ["bot", "other"] {
                ledger.issue(intent_of(stored(&format!("{agent}{tile}"), &requester(agent, "s"), agent))).await.unwrap();
            }
            note_all(&ledger, TILE * (1 - tile)).await;
        }
        for (after, found) in [("bot1", vec!["bot0"]), ("bot0", vec![]), ("other1", vec![]), ("other0", vec![])] {
            let agent = Some(AgentId::parse("bot").unwrap());
            let filter = CallFilter { agent, after: Some(call_id(after)), ..CallFilter::default() };
            assert_eq!(ids(&ledger.list_calls(&filter, 10).await.unwrap()), found, "after {after}");
        }
    }

    async fn one_batch_may_complete_tiles_with_calls_in_them(place) {
        let ledger = place.open().await;
        note_all(&ledger, TILE - 30).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..400 {
            let ledger = Arc::clone(&ledger);
            tasks.spawn(async move {
                let id = format!("c{n}");
                ledger.issue(intent_of(stored(&id, &requester(&format!("agent{}", n % 3), "s"), &id))).await.unwrap();
                if n % 3 == 0 {
                    Ledger::close(&*ledger, done(&id, 1), Wait::Durable).await.unwrap();
                }
            });
        }
        assert_eq!(tasks.join_all().await.len(), 400);
        is_exact(&ledger).await;
        assert!(ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap().verified());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_file_what_both_append() {
    let place = Place::postgres().await;
    let (one, other) = (place.open().await, place.open().await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300 {
        let ledger = Arc::clone(if n % 2 == 0 { &one } else { &other });
        tasks.spawn(async move {
            note_all(&ledger, n % 5).await;
            ledger.issue(intent(&format!("c{n}"))).await.unwrap();
            if n % 4 != 0 {
                Ledger::close(&*ledger, done(&format!("c{n}"), 1), Wait::Durable).await.unwrap();
            }
        });
    }
    assert_eq!(tasks.join_all().await.len(), 300);
    is_exact(&one).await;
    is_exact(&other).await;
}
