//! The real gate over a simulated world that fails and is killed at every durable step, from a seed.
//!
//! Whatever happens: effects ≤ intents, nothing is spent beyond its limit, every effect has an intent
//! before it in the log, and no approval is used twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{World, budget};
use countersign_gate::{
    Answer,
    ledger::{CallState, Ledger as _},
    simulation::{Fault, SimEntropy},
};
use countersign_rules::budget::Unit;

const SEEDS: u64 = 100;
const STEPS: u64 = 60;
const LIMIT: u64 = 40;

#[tokio::test]
async fn no_failure_and_no_kill_breaks_an_invariant() {
    let mut reached: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        for (status, times) in run(seed).await {
            *reached.entry(status).or_default() += times;
        }
    }
    // The simulation is worth something only when it gets everywhere.
    for status in ["done", "pending", "failed", "in_doubt", "budget_exhausted", "superseded"] {
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
        let session = format!("s{}", chance.next() % 3);
        let answer = world.call_as("bot", &session, tool, from, from + rows).await;
        *reached.entry(answer.status()).or_default() += 1;
        if let Answer::Pending(pending) = &answer {
            for person in ["ana", "ben"] {
                let answer = !chance.next().is_multiple_of(5);
                let person = crate::world::ParsePerson::parse_person(person);
                // A fault here is one of the things that may happen to a person's answer.
                let given = world
                    .gate
                    .answer(&pending.approval, person, crate::world::leads(), answer, None, "sim")
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
                let answer = world.gate.perform_granted(tool, record).await;
                *reached.entry(answer.status()).or_default() += 1;
            }
        }
        if chance.next().is_multiple_of(10) {
            world.ledger.restart();
            world.gate.sweep().await.unwrap();
        }
        check(&world, seed).await;
    }
    reached
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
    let effects = world.system.effects.lock().unwrap();
    let distinct: BTreeSet<&str> = effects.iter().map(String::as_str).collect();
    assert_eq!(effects.len(), distinct.len(), "seed {seed}: an effect was repeated");
    assert!(distinct.is_subset(&intents), "seed {seed}: an effect without an intent");
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
    let outcomes = log.iter().filter(|e| e.kind == "outcome").count();
    let doubt = log.iter().filter(|e| e.kind == "in_doubt").count();
    assert!(intents.len() <= outcomes + open + doubt, "seed {seed}: an intent without outcome or doubt");
}
