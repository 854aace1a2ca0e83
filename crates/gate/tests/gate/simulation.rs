//! The real gate over a simulated world that fails and is killed at every durable step, from a seed.
//!
//! Whatever happens: effects ≤ intents, nothing is spent beyond its limit, every effect has an intent
//! before it in the log, and no approval is used twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{Forgetful, Trouble, World, budget};
use countersign_gate::{
    Answer, NewEntry,
    ledger::{CallState, Ledger as _},
    simulation::{Fault, SimEntropy},
};
use countersign_rules::{Code, Effect, budget::Unit};

const SEEDS: u64 = 100;
const STEPS: u64 = 60;
const LIMIT: u64 = 40;

#[tokio::test(start_paused = true)]
async fn no_failure_and_no_kill_breaks_an_invariant() {
    let mut reached: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        for (status, times) in run(seed).await {
            *reached.entry(status).or_default() += times;
        }
    }
    // The simulation is worth something only when it gets everywhere.
    let statuses = ["done", "pending", "failed", "in_doubt", "budget_exhausted", "not_asked", "superseded"];
    let others = ["recalled_happened", "recalled_never", "fenced_late", "repeated", "first"];
    for status in statuses.into_iter().chain(others) {
        assert!(reached.contains_key(status), "{status} was never reached: {reached:?}");
    }
}

async fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    let world = World::new(seed, 60, vec![budget(Unit::Rows, LIMIT, None)]);
    let chance = SimEntropy::new(seed.wrapping_mul(7919));
    let faults = SimEntropy::new(seed.wrapping_add(1));
    let mut reached: BTreeMap<&'static str, u64> = BTreeMap::new();
    for step in 0..STEPS {
        let faults = SimEntropy::new(faults.next());
        world.ledger.fail(move |_operation| match faults.next() % 8 {
            0 => Some(Fault::Lost),
            1 => Some(Fault::KeptButReportedLost),
            _ => None,
        });
        let (from, rows) = (chance.next() % 60, chance.next() % 6 + 1);
        let tool = match chance.next() % 4 {
            0 => &world.read,
            1 => &world.note,
            2 => &world.update,
            _ => &world.delete,
        };
        let trouble = match chance.next() % 12 {
            0 => Some(Trouble::Vanishes),
            1 => Some(Trouble::Dies),
            2 => Some(Trouble::Lingers),
            3 => Some(Trouble::Panics),
            _ => None,
        };
        world.system.trouble.lock().unwrap().extend(trouble);
        let session = format!("s{}", chance.next() % 3);
        let asked = world.logged("asked");
        let answer = if chance.next().is_multiple_of(2) {
            // Few keys, each for one call, so that they are repeated across every fault and kill; now and then for another.
            let key = chance.next() % 6;
            let tool = if key < 3 { &world.note } else { &world.update };
            let from = if chance.next().is_multiple_of(9) { 50 } else { key * 7 };
            let answer = world.keyed(&session, &format!("k{key}"), tool, from, from + 2).await;
            *reached.entry(if repeated(&answer) { "repeated" } else { "first" }).or_default() += 1;
            answer
        } else {
            world.call_as("bot", &session, tool, from, from + rows).await
        };
        *reached.entry(answer.status()).or_default() += 1;
        if let Answer::Refused(refused) = &answer
            && refused.refusal.code == Code::LedgerUnavailable
        {
            assert_eq!(
                world.logged("asked"),
                asked,
                "seed {seed}: people are asked, and it is told that nothing was done"
            );
        }
        if world.logged("asked") > asked {
            room_was_left(&world, seed).await;
        }
        if answer.status() == "budget_exhausted" && ["update", "delete"].contains(&tool.name()) {
            *reached.entry("not_asked").or_default() += 1;
        }
        if let Answer::Pending(pending) = &answer {
            for person in ["ana", "ben"] {
                let answer = !chance.next().is_multiple_of(5);
                let person = crate::world::ParsePerson::parse_person(person);
                // A fault here is one of the things that may happen to a person's answer.
                let given = world
                    .gate
                    .answer(&pending.approval, person, crate::world::leads(), (answer, None), None, "sim")
                    .await;
                *reached.entry(if given.is_ok() { "answered" } else { "unanswered" }).or_default() += 1;
            }
        }
        if chance.next().is_multiple_of(3) {
            world.system.intruder.lock().unwrap().push(60 + step);
        }
        if let Ok(granted) = world.gate.granted().await {
            for record in granted {
                let tool =
                    if record.request.call.tool.as_str() == "update" { &world.update } else { &world.delete };
                let answer = world.gate.perform_granted(tool, record, tracing::Span::none()).await;
                *reached.entry(answer.status()).or_default() += 1;
            }
        }
        if chance.next().is_multiple_of(10) {
            world.ledger.restart();
            world.gate.sweep().await.unwrap();
        }
        if chance.next().is_multiple_of(4) {
            finish_late(&world, &mut reached);
        }
        if chance.next().is_multiple_of(3) {
            let forgetful = (chance.next().is_multiple_of(3)).then_some(Forgetful::Down);
            world.system.forgetful.lock().unwrap().extend(forgetful);
            world.recall().await;
            world.system.forgetful.lock().unwrap().clear();
        }
        check(&world, seed).await;
    }
    // In the end everything is heard of again, and no doubt about a write is left.
    world.ledger.restart();
    world.gate.sweep().await.unwrap();
    world.recall().await;
    finish_late(&world, &mut reached);
    check(&world, seed).await;
    let doubts = world.ledger.calls(Some(CallState::InDoubt), 10_000).await.unwrap();
    assert!(
        doubts.iter().all(|record| record.effect == Effect::Read),
        "seed {seed}: a doubt about a write is left"
    );
    for (name, happened) in [("recalled_happened", true), ("recalled_never", false)] {
        let recalled =
            |entry: &&NewEntry| entry.kind == "doubt_resolved" && entry.body()["happened"] == happened;
        *reached.entry(name).or_default() += world.ledger.log().iter().filter(recalled).count() as u64;
    }
    reached
}

fn repeated(answer: &Answer) -> bool {
    match answer {
        Answer::Done(done) => done.repeated,
        Answer::Pending(pending) => pending.repeated,
        Answer::Refused(refused) => refused.repeated,
    }
}

fn finish_late(world: &World, reached: &mut BTreeMap<&'static str, u64>) {
    let (late, done) = (world.system.late(), world.system.finish_late());
    *reached.entry("fenced_late").or_default() += (late - done) as u64;
}

/// People were just asked: what they were asked about had room.
async fn room_was_left(world: &World, seed: u64) {
    let log = world.ledger.log();
    let asked = log.iter().rev().find(|entry| entry.kind == "asked").unwrap();
    let rows = asked.body().pointer("/reach/rows").and_then(serde_json::Value::as_u64).unwrap();
    let used: u64 = world.ledger.balances(10).await.unwrap().iter().map(|(_, b)| b.used()).sum();
    assert!(used + rows <= LIMIT, "seed {seed}: asked about {rows} rows when {used} of {LIMIT} were used");
}

async fn check(world: &World, seed: u64) {
    let log = world.ledger.log();
    let balances = world.ledger.balances(100).await.unwrap();
    let open = world.ledger.calls(Some(CallState::Open), 1_000).await.unwrap().len();
    let intents: BTreeSet<&str> = log
        .iter()
        .filter(|e| e.kind == "warrant_issued")
        .map(|e| e.call.as_ref().unwrap().as_str())
        .collect();
    let effects = world.system.effects.lock().unwrap().clone();
    let distinct: BTreeSet<&str> = effects.iter().map(String::as_str).collect();
    assert_eq!(effects.len(), distinct.len(), "seed {seed}: an effect was repeated");
    assert!(distinct.is_subset(&intents), "seed {seed}: an effect without an intent");
    let mut keys = BTreeSet::new();
    for record in world.ledger.calls(None, 10_000).await.unwrap() {
        let Some(key) = record.call.key.filter(|_| distinct.contains(record.call.id.as_str())) else {
            continue;
        };
        assert!(keys.insert(key.clone()), "seed {seed}: key {key} had two effects");
    }
    for (_, balance) in balances {
        assert!(balance.used() <= LIMIT, "seed {seed}: {balance:?} is beyond {LIMIT}");
    }
    let mut spent: BTreeMap<&str, u32> = BTreeMap::new();
    for entry in log.iter().filter(|e| e.kind == "warrant_issued") {
        if let Some(approval) = &entry.approval {
            *spent.entry(approval.as_str()).or_default() += 1;
        }
    }
    assert!(spent.values().all(|times| *times == 1), "seed {seed}: an approval was used twice");
    // What the system's record said stays true, whatever came to its end since.
    let recalled = log.iter().filter(|e| e.kind == "doubt_resolved");
    let mut settled = BTreeSet::new();
    for entry in recalled {
        let call = entry.call.as_ref().unwrap().as_str();
        assert!(settled.insert(call), "seed {seed}: a doubt was settled twice");
        assert_eq!(entry.body()["evidence"], "system_record");
        assert_eq!(entry.body()["happened"], distinct.contains(call), "seed {seed}: a recall was false");
    }
    for record in world.ledger.calls(Some(CallState::Failed), 10_000).await.unwrap() {
        let call = record.call.id.as_str();
        assert!(!distinct.contains(call), "seed {seed}: an effect of a call that is told to have failed");
    }
    let outcomes = log.iter().filter(|e| e.kind == "outcome").count();
    let doubt = log.iter().filter(|e| e.kind == "in_doubt").count();
    assert!(intents.len() <= outcomes + open + doubt, "seed {seed}: an intent without outcome or doubt");
}
