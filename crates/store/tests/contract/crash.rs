//! A process that is killed between any two durable steps leaves exactly what it had committed.
//!
//! The tests start themselves again as a child that works through [`work`] and stops at one step; then it
//! is killed with `SIGKILL`, and what it left is compared with what the same operations leave undisturbed.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use countersign_gate::{
    NewEntry,
    ledger::{CallState, HaltRecord, HaltScope, Ledger, Wait},
};
use countersign_rules::{AgentId, ChannelName, budget::Unit};
use countersign_store::{Event, KeyOwner, Listener, NewKey, Options, Step, Store, Telling};

use crate::{
    make::{
        NOW, approval_id, balances, call_id, done, hold, intent, intent_of, kinds, note, parking, requester,
        signature, stored,
    },
    place::Place,
    places,
};

/// How many operations [`work`] knows.
const OPERATIONS: usize = 11;

/// A turn to tell a channel lasts so long.
const LEASE: Duration = Duration::from_secs(60);

fn channel() -> ChannelName {
    ChannelName::parse("ops").unwrap()
}

/// Options under which one channel is told of everything.
fn options() -> Options {
    let listener = Listener { name: channel(), groups: [].into(), escalations: false };
    let telling = Telling { channels: vec![listener], ..Telling::default() };
    Options { telling, ..Options::default() }
}

const STEPS: [Step; 4] = [Step::Begun, Step::Written, Step::Committed, Step::Answered];

/// One durable operation after the other.
async fn work(ledger: &Store, operation: usize) {
    let who = requester("bot", "s1");
    let halt = HaltRecord {
        scope: HaltScope::Agent(AgentId::parse("eve").unwrap()),
        why: "drill".into(),
        by: "lea".into(),
        since_ms: NOW,
    };
    match operation {
        1 => {
            assert!(
                ledger.open_session(&who, NewEntry::session_opened(NOW, &who, "test", None)).await.unwrap()
            )
        }
        2 => drop(ledger.park(parking("a1", stored("c1", &who, "x"))).await.unwrap()),
        3 => {
            let answered = note("answered", &call_id("c1"));
            drop(ledger.answer(&approval_id("a1"), signature("lea", true), answered).await.unwrap());
        }
        4 => {
            let mut intent = intent_of(stored("c1", &who, "x"));
            intent.approval = Some(approval_id("a1"));
            intent.holds = vec![hold("rows", Unit::Rows, 3, 5)];
            drop(ledger.issue(intent).await.unwrap());
        }
        5 => {
            let outcome = done("c1", 2);
            Ledger::close(ledger, outcome, Wait::Durable).await.unwrap();
        }
        6 => {
            let mut intent = intent("c2");
            intent.holds = vec![hold("rows", Unit::Rows, 3, 5)];
            drop(ledger.issue(intent).await.unwrap());
        }
        7 => drop(ledger.halt(halt.clone(), NewEntry::halted(&halt)).await.unwrap()),
        8 => assert!(ledger.resume(&halt.scope, NewEntry::resumed(NOW, &halt.scope, "lea")).await.unwrap()),
        9 => {
            let owner = KeyOwner::Agent(AgentId::parse("bot").unwrap());
            let key = NewKey { owner, scopes: Vec::new(), expires_ms: None, by: "lea".into(), now_ms: NOW };
            drop(ledger.issue_key(key, [1; 32]).await.unwrap());
        }
        10 => {
            let turn =
                ledger.take_turn(&approval_id("a1"), &channel(), NOW + 10, LEASE).await.unwrap().unwrap();
            assert_eq!(turn.notice.event, Event::Asked);
        }
        11 => {
            // Whoever had the turn is gone, and its time is over.
            let later = NOW + 10 + 60_000;
            let turn = ledger.take_turn(&approval_id("a1"), &channel(), later, LEASE).await.unwrap().unwrap();
            assert_eq!(turn.notice.event, Event::Asked);
        }
        other => panic!("there is no operation {other}"),
    }
}

/// Everything that can be seen of a ledger.
async fn seen(ledger: &Store) -> String {
    let who = requester("bot", "s1");
    let standing = ledger.standing(&who, stored("c1", &who, "x").digest, NOW).await.unwrap();
    // When there is something to tell, to the second.
    let due_s = async |s: i64| ledger.due(&channel(), NOW + s * 1_000, 10).await.unwrap();
    let told = (due_s(0).await, due_s(60).await, due_s(71).await, due_s(1_000).await);
    format!(
        "{told:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        kinds(ledger).await,
        balances(ledger).await,
        ledger.calls(None, 100).await.unwrap(),
        ledger.approvals(&[], 100).await.unwrap(),
        ledger.halts().await.unwrap(),
        ledger.keys().await.unwrap(),
        standing,
    )
}

/// Not a test: what the tests below start, and kill.
#[test]
#[expect(clippy::disallowed_methods, reason = "the parent says what to do")]
fn child() {
    let Ok(place) = std::env::var("COUNTERSIGN_TEST_CHILD") else { return };
    let mut words = place.split('\n');
    let (place, step, nth) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let (step, nth): (usize, usize) = (step.parse().unwrap(), nth.parse().unwrap());
    let count = AtomicUsize::new(0);
    let hook = move |now: Step| {
        if now == STEPS[step] && count.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            say("stopped");
            loop {
                std::thread::park();
            }
        }
    };
    let options = Options { hook: Some(Arc::new(hook)), ..options() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let ledger = if place.starts_with("postgres") {
            Store::open_postgres(place, Place::key(), &options).await.unwrap()
        } else {
            Store::open_sqlite(place.as_ref(), Place::key(), &options).unwrap()
        };
        for operation in 1..=OPERATIONS {
            work(&ledger, operation).await;
            say(&operation.to_string());
        }
    });
    loop {
        std::thread::park();
    }
}

/// Tells the parent, at once.
fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@{word}").unwrap();
    out.flush().unwrap();
}

/// Starts a child and kills it at a step. Answers the last operation that was acknowledged.
#[expect(clippy::disallowed_methods, reason = "a process must be killed to see what it leaves")]
fn kill_at(place: &str, step: usize, nth: usize) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--test-threads", "1"])
        .env("COUNTERSIGN_TEST_CHILD", format!("{place}\n{step}\n{nth}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = 0;
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    for line in lines {
        match line.strip_prefix('@') {
            Some("stopped") => break,
            Some(operation) => acknowledged = operation.parse().unwrap(),
            None => {}
        }
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    acknowledged
}

/// What each number of operations leaves, undisturbed, after so many entries.
async fn expected(entries: usize) -> Vec<String> {
    let place = Place::sqlite();
    let ledger = place.open_with(options()).await.unwrap();
    places::note_all(&ledger, entries).await;
    let mut all = vec![seen(&ledger).await];
    for operation in 1..=OPERATIONS {
        work(&ledger, operation).await;
        all.push(seen(&ledger).await);
    }
    all
}

async fn check(place: &Place, expected: &[String], step: usize, nth: usize) {
    let acknowledged = tokio::task::block_in_place(|| kill_at(&place.address(), step, nth));
    let kept = if STEPS[step] == Step::Begun || STEPS[step] == Step::Written { nth - 1 } else { nth };
    // Nothing acknowledged is lost; at most the one under way is kept without that.
    assert!((acknowledged..=acknowledged + 1).contains(&kept), "{step} {nth}: {acknowledged} {kept}");
    let ledger = place.open().await;
    assert_eq!(seen(&ledger).await, expected[kept], "step {step}, operation {nth}");
    let report = ledger.verify(&Place::key().verifier(), Vec::new()).await.unwrap();
    assert!(report.verified(), "{:?}", report.findings);
    places::is_exact(&ledger).await;

    // Its open calls are in doubt, once, and hold what they held.
    let before = balances(&ledger).await;
    let open = ledger.calls(Some(CallState::Open), 10).await.unwrap();
    let mut swept = Vec::new();
    while swept.len() < open.len() {
        // On PostgreSQL the server takes a moment to see that a connection has ended.
        swept.extend(ledger.sweep(NOW).await.unwrap());
    }
    assert_eq!(
        swept.iter().map(|c| &c.call).collect::<Vec<_>>(),
        open.iter().map(|c| &c.call).collect::<Vec<_>>()
    );
    assert_eq!(ledger.sweep(NOW).await.unwrap(), []);
    assert_eq!(balances(&ledger).await, before);
    // And it goes on: what is left of the budget is what was not held.
    let used: u64 = before.iter().map(|(_, spent, held)| spent + held).sum();
    let mut more = intent("more");
    more.holds = vec![hold("rows", Unit::Rows, 5 - used, 5)];
    ledger.issue(more).await.unwrap();
    ledger.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_what_was_committed_and_nothing_else() {
    let expected = expected(0).await;
    for step in 0..STEPS.len() {
        for nth in 1..=OPERATIONS {
            check(&Place::sqlite(), &expected, step, nth).await;
        }
    }
}

/// The operations complete a tile of the log: what stands in it is filed with the entry that does, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_tile_is_filed_by_is_as_whole_as_its_entries() {
    // So many entries that the tile is complete when a call is issued, when one is closed, and when another is issued; and
    // that the first of the operations does it.
    for (entries, completing) in [(255, 1), (252, 4), (251, 5), (250, 6)] {
        let expected = expected(entries).await;
        let (place, tile) = (Place::sqlite(), 256);
        let ledger = place.open_with(options()).await.unwrap();
        places::note_all(&ledger, entries).await;
        for operation in 1..=completing {
            assert!(ledger.log_head().await.unwrap().size < tile, "before operation {operation}");
            work(&ledger, operation).await;
        }
        assert_eq!(ledger.log_head().await.unwrap().size, tile);
        for step in 0..STEPS.len() {
            for nth in [completing, completing + 1] {
                let place = Place::sqlite();
                let ledger = place.open().await;
                places::note_all(&ledger, entries).await;
                Store::close(&ledger).await;
                drop(ledger);
                check(&place, &expected, step, nth).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_what_was_committed_and_nothing_else() {
    let expected = expected(0).await;
    // A database for each takes its time: every operation around its commit, and one at every step.
    let around = [1, 2].into_iter().flat_map(|step| (1..=OPERATIONS).map(move |nth| (step, nth)));
    for (step, nth) in around.chain([(0, 4), (3, 4)]) {
        check(&Place::postgres().await, &expected, step, nth).await;
    }
}
