//! Calls in doubt, settled by the system's own record: what is said of them is true, whenever the process
//! was killed, whatever was still under way, and however recording it failed. And nothing is repeated.

use countersign_gate::{
    Answer, Recalled,
    ledger::{CallOutcome, CallRecord, CallState, Ledger as _},
    simulation::Fault,
};
use countersign_rules::{CallId, Code, PersonId, budget::Unit};
use serde_json::json;

use crate::world::{Forgetful, Trouble, World, budget};

/// The call of an answer, as the ledger has it.
async fn record(world: &World, answer: &Answer) -> CallRecord {
    let call = match answer {
        Answer::Refused(refused) => refused.call.clone().unwrap(),
        Answer::Done(done) => done.call.clone(),
        Answer::Pending(pending) => pending.call.clone(),
    };
    world.ledger.call(&call).await.unwrap().unwrap()
}

/// An update of three rows that was approved and went wrong like this.
async fn doubt(world: &World, trouble: Trouble, killed: bool) -> Answer {
    let asked = world.call(&world.update, 0, 3).await;
    world.answer(&asked, "ana", true).await;
    world.system.trouble.lock().unwrap().push(trouble);
    if killed {
        // The process dies with what it knows: nothing of the outcome is written.
        world.ledger.fail(|step| (step == "close").then_some(Fault::Lost));
    }
    let answer = world.work().await.pop().unwrap();
    if killed {
        world.ledger.restart();
        assert_eq!(world.gate.sweep().await.unwrap().len(), 1);
    }
    assert_eq!(answer.status(), "in_doubt");
    assert_eq!(record(world, &answer).await.state, CallState::InDoubt);
    answer
}

#[tokio::test(start_paused = true)]
async fn a_recall_says_what_is_true_wherever_the_process_was_killed() {
    for trouble in [Trouble::Vanishes, Trouble::Dies, Trouble::Lingers] {
        for killed in [false, true] {
            for late_first in [false, true] {
                for fault in [None, Some(Fault::Lost), Some(Fault::KeptButReportedLost)] {
                    for away in [false, true] {
                        settles(trouble, killed, late_first, fault, away).await;
                    }
                }
            }
        }
    }
}

async fn settles(trouble: Trouble, killed: bool, late_first: bool, fault: Option<Fault>, away: bool) {
    let world = World::new(7, 10, vec![budget(Unit::Rows, 10, None)]);
    let answer = doubt(&world, trouble, killed).await;
    if late_first {
        world.system.finish_late();
    }
    if away {
        world.system.forgetful.lock().unwrap().push(Forgetful::Down);
        world.recall().await;
        assert_eq!(record(&world, &answer).await.state, CallState::InDoubt);
    }
    if let Some(fault) = fault {
        let mut first = true;
        world.ledger.fail(move |step| (step == "resolve" && std::mem::take(&mut first)).then_some(fault));
        world.recall().await;
    }
    world.recall().await;
    world.recall().await;
    world.system.finish_late();

    let happened = match trouble {
        Trouble::Vanishes => true,
        Trouble::Lingers => late_first,
        _ => false,
    };
    assert_eq!(world.system.effects(), usize::from(happened), "{trouble:?} {late_first}");
    let call = record(&world, &answer).await;
    assert_eq!(call.state, if happened { CallState::Done } else { CallState::Failed });
    assert_eq!(world.logged("doubt_resolved"), 1, "said once");
    let entry = world.ledger.log().into_iter().find(|entry| entry.kind == "doubt_resolved").unwrap();
    assert_eq!(entry.body()["happened"], happened);
    assert_eq!(entry.body()["evidence"], "system_record");
    assert_eq!(entry.approval, call.approval);
    // What did not happen costs nothing; what did costs what the system says.
    let used: u64 = world.ledger.balances(10).await.unwrap().iter().map(|(_, balance)| balance.used()).sum();
    assert_eq!(used, if happened { 3 } else { 0 });

    // The agent that asks is told, and its approval is spent either way.
    let told = world.gate.fetch(&call.call.requester.agent, call.approval.as_ref().unwrap()).await;
    let Answer::Refused(refused) = &told else { panic!("{told:?}") };
    assert_eq!(refused.refusal.code, if happened { Code::ResultRejected } else { Code::ToolFailed });
    assert!(world.work().await.is_empty(), "nothing is performed again by itself");
    // Where it happened, the same call gets the same answer; where it did not, it may be asked for anew.
    let again = world.call(&world.update, 0, 3).await;
    assert_eq!(again.status(), if happened { "failed" } else { "pending" });
    assert_eq!(world.system.effects(), usize::from(happened));
}

#[tokio::test]
async fn a_process_that_was_taken_for_dead_cannot_act_on_what_was_told_never_to_happen() {
    let world = World::new(7, 10, Vec::new());
    world.system.trouble.lock().unwrap().push(Trouble::Waits);
    let (answer, ()) = tokio::join!(world.call(&world.note, 0, 3), async {
        world.system.waiting.notified().await;
        world.ledger.restart();
        assert_eq!(world.gate.sweep().await.unwrap().len(), 1);
        world.recall().await;
        world.system.go_on.notify_one();
    });
    assert_eq!(answer.status(), "failed");
    assert_eq!(world.system.effects(), 0);
    let call = record(&world, &answer).await;
    assert_eq!(call.state, CallState::Failed);
    assert_eq!((world.logged("doubt_resolved"), world.logged("outcome")), (1, 0));
}

#[tokio::test]
async fn only_a_write_in_doubt_is_asked_about_and_only_its_own_version_of_the_tool() {
    let world = World::new(7, 10, Vec::new());
    let done = world.call(&world.note, 0, 1).await;
    let done = record(&world, &done).await;
    assert_eq!(world.gate.recall(&*world.note, &done).await, Ok(Recalled::Unknown));

    world.system.trouble.lock().unwrap().push(Trouble::Dies);
    let read = world.call(&world.read, 0, 1).await;
    let read = record(&world, &read).await;
    assert_eq!(world.gate.recall(&*world.read, &read).await, Ok(Recalled::Unknown));
    assert!(world.gate.end_read(&read).await.unwrap(), "there is nothing to find out about a read");
    assert!(!world.gate.end_read(&read).await.unwrap() && !world.gate.end_read(&done).await.unwrap());
    assert_eq!(world.ledger.call(&read.call.id).await.unwrap().unwrap().state, CallState::Failed);

    world.system.trouble.lock().unwrap().push(Trouble::Dies);
    let note = world.call(&world.note, 1, 2).await;
    let note = record(&world, &note).await;
    assert!(!world.gate.end_read(&note).await.unwrap(), "a write is looked into");
    let changed = world.changed("note");
    assert_eq!(world.gate.recall(&*changed, &note).await, Ok(Recalled::Unknown));
    assert_eq!(*world.system.recalls.lock().unwrap(), 0, "nobody was asked, so nothing was fenced off");
    assert_eq!(world.gate.recall(&*world.note, &note).await, Ok(Recalled::Never));
}

#[tokio::test]
async fn what_the_system_does_not_know_stays_in_doubt_for_a_person() {
    let world = World::new(7, 10, Vec::new());
    world.system.trouble.lock().unwrap().push(Trouble::Vanishes);
    let answer = world.call(&world.note, 0, 3).await;
    for forgetful in [Forgetful::KeepsNothing, Forgetful::Panics, Forgetful::Down] {
        world.system.forgetful.lock().unwrap().push(forgetful);
        world.recall().await;
        assert_eq!(record(&world, &answer).await.state, CallState::InDoubt);
    }
    assert_eq!(world.logged("doubt_resolved"), 0);
    let call = record(&world, &answer).await;
    let person = PersonId::parse("ana").unwrap();
    assert!(world.gate.resolve_doubt(&call.call.id, &person, true, "seen in the table").await.unwrap());
    // A person was first: the system's record changes nothing any more.
    world.gate.recall(&*world.note, &call).await.unwrap();
    let entries = world.ledger.log();
    let resolved: Vec<_> = entries.iter().filter(|entry| entry.kind == "doubt_resolved").collect();
    assert_eq!(resolved.len(), 1);
    assert_eq!(resolved[0].body()["evidence"], "person");
    let outcome = record(&world, &answer).await.outcome;
    assert!(matches!(outcome, Some(CallOutcome::DoneWithoutResult { .. })), "{outcome:?}");
}

#[tokio::test]
async fn as_many_rows_in_another_table_exceed_what_was_approved() {
    let world = World::new(7, 10, Vec::new());
    let asked = world.call(&world.update, 0, 3).await;
    world.answer(&asked, "ana", true).await;
    world.system.trouble.lock().unwrap().push(Trouble::Elsewhere);
    let answer = world.work().await.pop().unwrap();
    // Three rows were approved and three were touched, one of them where none was approved.
    let Answer::Pending(pending) = answer else { panic!("{answer:?}") };
    assert_eq!(
        pending.reach.unwrap().tables.into_iter().collect::<Vec<_>>(),
        [("audit".into(), 1), ("rows".into(), 2)]
    );
    assert_eq!(world.system.effects(), 0);
    let warrant = world.ledger.log().into_iter().find(|entry| entry.kind == "warrant_issued").unwrap();
    assert_eq!(warrant.body()["limits"], json!({ "rows_max": 3, "tables": { "rows": 3 } }));
}

#[tokio::test(start_paused = true)]
async fn what_an_undo_in_doubt_took_back_is_told_together_with_its_outcome() {
    for fault in [None, Some(Fault::Lost), Some(Fault::KeptButReportedLost)] {
        let world = World::new(7, 10, Vec::new());
        *world.system.undoes.lock().unwrap() = Some(CallId::parse("call-earlier").unwrap());
        doubt(&world, Trouble::Vanishes, true).await;
        let mut first = true;
        world.ledger.fail(move |step| match step {
            "resolve" => fault.filter(|_| std::mem::take(&mut first)),
            // Nothing but the outcome's own step is needed.
            _ => Some(Fault::Lost),
        });
        world.recall().await;
        world.recall().await;
        assert_eq!((world.logged("doubt_resolved"), world.logged("undone")), (1, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn the_intent_names_the_systems_record_and_a_newer_effect_bears_witness_of_it() {
    let world = World::new(7, 10, Vec::new());
    // A call under another record is no witness, nor is a read or one that failed.
    *world.system.name.lock().unwrap() = Some("other@place".into());
    world.call(&world.note, 0, 1).await;
    *world.system.name.lock().unwrap() = Some("record@place".into());
    world.call(&world.read, 0, 1).await;
    world.system.trouble.lock().unwrap().push(Trouble::Dies);
    let lost = world.call(&world.note, 1, 2).await;
    let lost = record(&world, &lost).await;
    assert_eq!(lost.journal.as_deref(), Some("record@place"));
    let named: Vec<_> =
        world.ledger.log().into_iter().filter(|entry| entry.kind == "warrant_issued").collect();
    let names: Vec<_> = named.iter().map(|entry| entry.body()["journal"].clone()).collect();
    assert_eq!(names, [json!("other@place"), json!(null), json!("record@place")]);
    let asked = async || {
        world.system.forgetful.lock().unwrap().push(Forgetful::KeepsNothing);
        assert_eq!(world.gate.recall(&*world.note, &lost).await, Ok(Recalled::Unknown));
        world.system.doubt.lock().unwrap().clone().unwrap()
    };
    let doubt = asked().await;
    assert_eq!((doubt.call.clone(), doubt.journal.as_deref()), (lost.call.id.clone(), Some("record@place")));
    assert_eq!(doubt.witness, None);
    let done = world.call(&world.note, 2, 3).await;
    let done = record(&world, &done).await;
    assert_eq!(asked().await.witness, Some(done.call.id));
}
