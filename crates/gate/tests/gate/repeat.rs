//! An idempotency key makes a call repeatable: one key, one call, one answer.

use crate::world::{Forgetful, ParsePerson as _, Trouble, World, approval, budget, requester};
use countersign_gate::{
    Answer,
    ledger::{CallState, HaltScope, Ledger as _},
    simulation::Fault,
};
use countersign_rules::{AgentId, Code, budget::Unit};

/// What an agent is told: the answer without its mark, and the mark.
fn told(answer: &Answer) -> (Answer, bool) {
    let mut answer = answer.clone();
    let mark = match &mut answer {
        Answer::Done(done) => &mut done.repeated,
        Answer::Pending(pending) => &mut pending.repeated,
        Answer::Refused(refused) => &mut refused.repeated,
    };
    let repeated = std::mem::take(mark);
    (answer, repeated)
}

/// The code and message of a refusal, and whether it is a repeat's.
fn refusal(answer: &Answer) -> (Code, String, bool) {
    match answer {
        Answer::Refused(refused) => (refused.refusal.code, refused.refusal.message.clone(), refused.repeated),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_repeat_has_the_answer_of_the_first_and_no_effect() {
    let world = World::new(1, 100, vec![budget(Unit::Rows, 10, None)]);
    let first = world.keyed("s1", "k", &world.note, 0, 10).await;
    assert_eq!((first.status(), told(&first).1), ("done", false));
    // In another session, too: a key belongs to the agent. The budget has no room for another one.
    for session in ["s1", "s2", "unnamed-1"] {
        let again = world.keyed(session, "k", &world.note, 0, 10).await;
        assert_eq!(told(&again), (told(&first).0, true));
    }
    let (_, balance) = world.ledger.balances(10).await.unwrap().remove(0);
    assert_eq!((world.system.effects(), balance.used(), world.logged("call_proposed")), (1, 10, 1));
    // Another agent's equal key is its own, and a key is compared as it is.
    assert_eq!(world.call_with("other", "s1", Some("k"), &world.note, 20, 25).await.status(), "done");
    let other = world.keyed("s1", "K", &world.note, 0, 10).await;
    assert_eq!(other.status(), "budget_exhausted");
    assert_eq!(world.system.effects(), 2);
}

#[tokio::test]
async fn without_a_key_an_allowed_call_is_a_new_one() {
    let world = World::new(1, 100, vec![]);
    for effects in 1..3 {
        let answer = world.call(&world.note, 0, 10).await;
        assert_eq!((answer.status(), told(&answer).1, world.system.effects()), ("done", false, effects));
    }
}

#[tokio::test]
async fn a_key_stands_for_one_call() {
    let world = World::new(1, 100, vec![]);
    let first = world.keyed("s1", "k", &world.note, 0, 10).await;
    for other in [
        world.keyed("s1", "k", &world.note, 0, 9).await,
        world.keyed("s1", "k", &world.read, 0, 10).await,
        world.keyed("s2", "k", &world.update, 0, 10).await,
        world.keyed("s1", "k", &world.changed("note"), 0, 10).await,
    ] {
        let (code, message, repeated) = refusal(&other);
        let Answer::Done(done) = &first else { panic!("{first:?}") };
        assert_eq!((code, repeated), (Code::KeyReused, false));
        assert!(message.contains(done.call.as_str()), "{message}");
    }
    assert_eq!((world.system.effects(), world.logged("asked"), world.logged("refused")), (1, 0, 4));
    assert_eq!(told(&world.keyed("s1", "k", &world.note, 0, 10).await), (told(&first).0, true));
}

#[tokio::test]
async fn a_request_is_found_by_its_key_whatever_became_of_it() {
    let world = World::new(1, 100, vec![]);
    let pending = world.keyed("s1", "k", &world.update, 0, 10).await;
    let id = approval(&pending);
    let again = world.keyed("s2", "k", &world.update, 0, 10).await;
    assert_eq!(told(&again), (told(&pending).0, true));
    world.answer(&pending, "ana", true).await;
    assert_eq!(approval(&world.keyed("s3", "k", &world.update, 0, 10).await), id);
    assert_eq!(world.work().await[0].status(), "done");
    let done = world.keyed("s3", "k", &world.update, 0, 10).await;
    assert_eq!((done.status(), told(&done).1), ("done", true));
    // Long after the request would have been open.
    world.clock.advance(20 * 60 * 60_000);
    assert_eq!(world.keyed("s1", "k", &world.update, 0, 10).await, done);
    assert_eq!((world.system.effects(), world.logged("asked")), (1, 1));

    // A person's no, and nobody's answer, stay what they are.
    let pending = world.keyed("s1", "no", &world.update, 20, 30).await;
    world.answer(&pending, "ana", false).await;
    let late = world.keyed("s1", "late", &world.update, 30, 40).await;
    assert_eq!(late.status(), "pending");
    world.clock.advance(20 * 60_000);
    for _ in 0..2 {
        let refused = refusal(&world.keyed("s1", "no", &world.update, 20, 30).await);
        assert_eq!((refused.0, refused.2), (Code::ApprovalRefused, true));
        let expired = world.keyed("s1", "late", &world.update, 30, 40).await;
        assert_eq!(refusal(&expired).0, Code::ApprovalExpired);
        let Answer::Refused(expired) = expired else { panic!() };
        assert!(expired.refusal.help.unwrap().contains("needs a new one"));
    }
    assert_eq!((world.system.effects(), world.logged("asked")), (1, 3));
}

#[tokio::test]
async fn another_key_means_another_call_once_the_first_was_heard_of() {
    let world = World::new(1, 100, vec![]);
    let pending = world.keyed("s1", "a", &world.update, 0, 10).await;
    // While people are asked, it finds the same request: an agent whose keys change with each try asks once.
    let joined = world.keyed("s1", "b", &world.update, 0, 10).await;
    assert_eq!(told(&joined), (told(&pending).0, true));
    assert_eq!(approval(&world.call(&world.update, 0, 10).await), approval(&pending));
    world.answer(&pending, "ana", true).await;
    world.work().await;
    // Nobody has heard of it yet: this may be a repeat of what was lost.
    let done = world.keyed("s1", "c", &world.update, 0, 10).await;
    assert_eq!((done.status(), told(&done).1), ("done", true));
    let anew = world.keyed("s1", "d", &world.update, 0, 10).await;
    assert_ne!(approval(&anew), approval(&pending));
    world.answer(&anew, "ana", true).await;
    world.work().await;
    assert_eq!(world.system.effects(), 2);
    // Each key goes on standing for what it stood for.
    for (key, of) in [("a", &pending), ("b", &pending), ("c", &pending), ("d", &anew)] {
        let Answer::Done(done) = world.keyed("s1", key, &world.update, 0, 10).await else { panic!("{key}") };
        assert_eq!((done.approval.as_ref(), done.repeated), (Some(&approval(of)), true), "{key}");
    }
    assert_eq!(world.system.effects(), 2);
    // A person's no is no other for another key.
    let pending = world.keyed("s1", "e", &world.update, 50, 60).await;
    world.answer(&pending, "ana", false).await;
    for key in ["e", "f", "g"] {
        assert_eq!(refusal(&world.keyed("s1", key, &world.update, 50, 60).await).0, Code::ApprovalRefused);
    }
    assert_eq!(world.logged("asked"), 3);
}

#[tokio::test]
async fn parallel_repeats_have_one_effect_one_charge_and_one_request() {
    for asked in [false, true] {
        let world = World::new(1, 100, vec![budget(Unit::Rows, 1_000, None)]);
        let tool = if asked { &world.update } else { &world.note };
        let sessions: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
        let calls = sessions.iter().map(|session| world.keyed(session, "k", tool, 0, 10));
        let mut answers = futures::future::join_all(calls).await;
        if asked {
            assert!(answers.iter().all(|answer| approval(answer) == approval(&answers[0])));
            world.answer(&answers[0], "ana", true).await;
            world.work().await;
            let calls = sessions.iter().map(|session| world.keyed(session, "k", tool, 0, 10));
            answers = futures::future::join_all(calls).await;
        }
        assert!(answers.iter().all(|answer| told(answer).0 == told(&answers[0]).0), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| !told(answer).1).count(), usize::from(!asked));
        assert_eq!(answers[0].status(), "done");
        let (_, balance) = world.ledger.balances(10).await.unwrap().remove(0);
        assert_eq!((world.system.effects(), balance.used()), (1, 10));
        assert_eq!(world.logged("asked"), usize::from(asked));
    }
}

#[tokio::test]
async fn parallel_calls_of_one_key_and_different_arguments_have_one_effect() {
    let world = World::new(1, 100, vec![]);
    let calls = (1..21).map(|to| world.keyed("s1", "k", &world.note, 0, to));
    let answers = futures::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.status() == "done").count(), 1);
    let reused = answers.iter().filter(|answer| answer.status() == "blocked");
    assert!(reused.clone().all(|answer| refusal(answer).0 == Code::KeyReused));
    assert_eq!((reused.count(), world.system.effects()), (19, 1));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_waits_for_the_call_that_is_under_way() {
    let world = World::new(1, 100, vec![]);
    world.system.trouble.lock().unwrap().push(Trouble::Waits);
    let first = world.keyed("s1", "k", &world.note, 0, 10);
    let repeat = async {
        world.system.waiting.notified().await;
        // Not for ever: then it is told to ask again, and nothing is said of what is done.
        let (code, message, repeated) = refusal(&world.keyed("s1", "k", &world.note, 0, 10).await);
        assert_eq!((code, repeated), (Code::NotLookedUp, true));
        assert!(message.contains("still under way"), "{message}");
        world.system.go_on.notify_one();
        world.keyed("s1", "k", &world.note, 0, 10).await
    };
    let (first, repeat) = tokio::join!(first, repeat);
    assert_eq!(told(&repeat), (told(&first).0, true));
    assert_eq!((first.status(), world.system.effects()), ("done", 1));
}

#[tokio::test]
async fn a_kill_between_effect_and_answer_leaves_one_effect() {
    // The record of the system tells, or nothing does and a person has to.
    for (knows, happened) in [(true, true), (true, false), (false, true), (false, false)] {
        let world = World::new(1, 100, vec![]);
        let trouble = if happened { Trouble::Vanishes } else { Trouble::Dies };
        world.system.trouble.lock().unwrap().push(trouble);
        world.ledger.fail(|step| (step == "close").then_some(Fault::Lost));
        let lost = world.keyed("s1", "k", &world.note, 0, 10).await;
        assert_eq!(lost.status(), "in_doubt");
        world.ledger.restart();
        world.gate.sweep().await.unwrap();
        if !knows {
            world.system.forgetful.lock().unwrap().extend([Forgetful::KeepsNothing; 2]);
            for key in ["k", "other"] {
                assert_eq!(refusal(&world.keyed("s1", key, &world.note, 0, 10).await).0, Code::InDoubt);
            }
            let doubts = world.ledger.calls(Some(CallState::InDoubt), 10).await.unwrap();
            let (call, person) = (&doubts[0].call.id, "ana".parse_person());
            assert!(world.gate.resolve_doubt(call, &person, happened, "looked").await.unwrap());
        }
        let again = world.keyed("s1", "k", &world.note, 0, 10).await;
        if happened {
            let (code, _, repeated) = refusal(&again);
            assert_eq!((code, repeated), (Code::ResultRejected, true));
        } else {
            // Nothing came of it, so that the repeat is the call.
            assert_eq!((again.status(), told(&again).1), ("done", false), "{again:?}");
        }
        assert_eq!(world.system.effects(), 1, "{knows} {happened}");
        for _ in 0..2 {
            world.keyed("s2", "k", &world.note, 0, 10).await;
        }
        assert_eq!(world.system.effects(), 1, "{knows} {happened}");
    }
}

#[tokio::test]
async fn where_the_system_recognises_repeats_the_key_of_a_doubt_ends_it() {
    for trouble in [Trouble::Vanishes, Trouble::Dies] {
        let world = World::new(1, 100, vec![budget(Unit::Rows, 1_000, None)]);
        let note = world.note.recognising();
        world.system.trouble.lock().unwrap().push(trouble);
        let first = world.keyed("s1", "k", &note, 0, 10).await;
        assert_eq!(refusal(&first).0, Code::InDoubt);
        let doubts = world.ledger.calls(Some(CallState::InDoubt), 10).await.unwrap();
        // From another session as well: it goes out as the first one.
        let again = world.keyed("s2", "k", &note, 0, 10).await;
        assert_eq!((again.status(), told(&again).1, world.system.effects()), ("done", false, 1), "{again:?}");
        assert_eq!(world.ledger.calls(Some(CallState::InDoubt), 10).await.unwrap(), []);
        let log = world.ledger.log();
        let sent = log.iter().rfind(|entry| entry.kind == "warrant_issued").unwrap();
        assert_eq!(sent.body()["sent_as"], doubts[0].call.id.as_str());
        // The key stands for it from now on, and nothing is counted twice.
        assert_eq!(told(&world.keyed("s1", "k", &note, 0, 10).await), (told(&again).0, true));
        let (_, balance) = world.ledger.balances(10).await.unwrap().remove(0);
        assert_eq!((balance.spent, balance.held, world.system.effects()), (10, 0, 1));
    }
}

#[tokio::test]
async fn a_key_whose_doubt_an_equal_call_ended_has_the_answer_of_that_one() {
    let world = World::new(1, 100, vec![]);
    let note = world.note.recognising();
    world.system.trouble.lock().unwrap().push(Trouble::Dies);
    assert_eq!(refusal(&world.keyed("s1", "k", &note, 0, 10).await).0, Code::InDoubt);
    let other = world.call(&note, 0, 10).await;
    assert_eq!((other.status(), world.system.effects()), ("done", 1));
    // However many were performed since.
    for n in 0..1_010 {
        world.clock.advance(1_000);
        let read = world.call(&world.read, n % 90, 100).await;
        assert_eq!(read.status(), "done", "{read:?}");
    }
    let effects = world.system.effects();
    let again = world.keyed("s1", "k", &note, 0, 10).await;
    assert_eq!((told(&again), world.system.effects()), ((told(&other).0, true), effects), "{again:?}");
    // By its own id, too.
    let ended = world.ledger.calls(Some(CallState::Failed), 10).await.unwrap().remove(0);
    let by_id = world.gate.tell_call(&ended).await.unwrap().unwrap();
    assert_eq!(told(&by_id).0, told(&other).0);
}

#[tokio::test]
async fn a_granted_call_in_doubt_is_asked_about_once_more_under_its_key() {
    let world = World::new(1, 100, vec![]);
    let update = world.update.recognising();
    let pending = world.keyed("s1", "k", &update, 0, 10).await;
    world.answer(&pending, "ana", true).await;
    world.system.trouble.lock().unwrap().push(Trouble::Dies);
    let record = world.gate.granted().await.unwrap().remove(0);
    let lost = world.gate.perform_granted(&update, record, tracing::Span::none()).await;
    assert_eq!(refusal(&lost).0, Code::InDoubt);
    // For as long as its request could have been open, as without a key.
    assert_eq!(refusal(&world.keyed("s1", "k", &update, 0, 10).await).0, Code::InDoubt);
    world.clock.advance(900_000);
    let anew = world.keyed("s1", "k", &update, 0, 10).await;
    assert_ne!(approval(&anew), approval(&pending));
    world.answer(&anew, "ana", true).await;
    let record = world.gate.granted().await.unwrap().remove(0);
    let done = world.gate.perform_granted(&update, record, tracing::Span::none()).await;
    assert_eq!((done.status(), world.system.effects()), ("done", 1));
    assert_eq!(world.ledger.calls(Some(CallState::InDoubt), 10).await.unwrap(), []);
    // Who waits for the first request is not told that nothing was done.
    let agent = requester("bot", "s1").agent;
    let first = world.gate.fetch(&agent, &approval(&pending)).await;
    assert_eq!((first.status(), told(&first).0), ("done", told(&done).0), "{first:?}");
}

#[tokio::test]
async fn a_key_of_its_own_lifts_the_hour_after_a_doubt_and_never_the_doubt() {
    let world = World::new(1, 100, vec![]);
    let doubt = async |key| {
        world.system.trouble.lock().unwrap().push(Trouble::Vanishes);
        world.system.forgetful.lock().unwrap().push(Forgetful::KeepsNothing);
        assert_eq!(world.keyed("s1", key, &world.note, 0, 10).await.status(), "in_doubt");
    };
    doubt("a").await;
    assert_eq!(refusal(&world.keyed("s1", "b", &world.note, 0, 10).await).0, Code::InDoubt);
    let settle = async || {
        let doubts = world.ledger.calls(Some(CallState::InDoubt), 10).await.unwrap();
        let (call, person) = (&doubts[0].call.id, "ana".parse_person());
        assert!(world.gate.resolve_doubt(call, &person, true, "looked").await.unwrap());
    };
    settle().await;
    // Without a key it may be a repeat, under its own it is one; another says that it is none.
    assert_eq!(refusal(&world.call(&world.note, 0, 10).await).0, Code::ResultRejected);
    assert_eq!(refusal(&world.keyed("s1", "a", &world.note, 0, 10).await).0, Code::ResultRejected);
    assert_eq!(world.system.effects(), 1);
    assert_eq!(world.keyed("s1", "b", &world.note, 0, 10).await.status(), "done");
    assert_eq!(world.system.effects(), 2);
    // A settled one that is newer hides no doubt that is older.
    doubt("c").await;
    let older = world.ledger.calls(Some(CallState::InDoubt), 10).await.unwrap().remove(0);
    assert_eq!(older.call.key.unwrap().as_str(), "c");
    world.system.forgetful.lock().unwrap().push(Forgetful::KeepsNothing);
    assert_eq!(refusal(&world.keyed("s1", "d", &world.note, 0, 10).await).0, Code::InDoubt);
}

#[tokio::test]
async fn what_was_done_is_told_whatever_holds_now() {
    let world = World::new(1, 100, vec![]);
    let done = world.keyed("s1", "done", &world.note, 0, 10).await;
    let denied = world.keyed("s1", "denied", &world.note, 0, 600).await;
    assert_eq!(denied.status(), "done", "there are 100 rows");
    let open = world.keyed("s1", "open", &world.update, 0, 10).await;
    world.gate.halt(HaltScope::Agent(AgentId::parse("bot").unwrap()), "lea", "odd").await.unwrap();
    assert_eq!(told(&world.keyed("s1", "done", &world.note, 0, 10).await), (told(&done).0, true));
    // Nothing is begun, and the refusal passes with the halt.
    assert_eq!(refusal(&world.keyed("s1", "new", &world.note, 20, 30).await).0, Code::Halted);
    world.gate.resume(&HaltScope::Agent(AgentId::parse("bot").unwrap()), "lea").await.unwrap();
    assert_eq!(world.keyed("s1", "new", &world.note, 20, 30).await.status(), "done");
    let effects = world.system.effects();

    world.add_policy(
        "forbid (principal, action == Action::\"note\", resource); permit (principal, action == Action::\"update\", resource);",
    );
    assert_eq!(told(&world.keyed("s1", "done", &world.note, 0, 10).await), (told(&done).0, true));
    let first = world.keyed("s1", "later", &world.note, 40, 50).await;
    assert_eq!(refusal(&first).0, Code::DeniedByPolicy);
    // A request under other policies is good for nothing: people are asked anew, once.
    let anew = world.keyed("s1", "open", &world.update, 0, 10).await;
    assert_ne!(approval(&anew), approval(&open));
    assert_eq!(approval(&world.keyed("s1", "open", &world.update, 0, 10).await), approval(&anew));
    // A refusal by the policies stays the key's answer when they permit it again.
    world.add_policy("");
    let again = world.keyed("s1", "later", &world.note, 40, 50).await;
    assert_eq!((refusal(&again).1, refusal(&again).2), (refusal(&first).1, true));
    assert_eq!(world.system.effects(), effects);
}

#[tokio::test]
async fn what_passes_leaves_the_key_free() {
    let world = World::new(1, 100, vec![budget(Unit::Rows, 15, None)]);
    // The ledger fails at each step; each time nothing was done, and the next try is the call.
    for (n, step) in ["issue", "bind", "record"].into_iter().enumerate() {
        for fault in [Fault::Lost, Fault::KeptButReportedLost] {
            let (key, from) = (format!("{step}-{fault:?}"), 4 * n as u64);
            world.ledger.fail(move |name| (name == step).then_some(fault));
            let answer = world.keyed(&key, &key, &world.note, from, from + 2).await;
            world.ledger.heal();
            if step == "issue" {
                assert_eq!(refusal(&answer).0, Code::LedgerUnavailable, "{key}");
                let answer = world.keyed(&key, &key, &world.note, from, from + 2).await;
                assert_eq!((answer.status(), told(&answer).1), ("done", false), "{key}");
            }
            let again = world.keyed(&key, &key, &world.note, from, from + 2).await;
            assert_eq!(told(&again).1, again.status() == "done", "{key}: {again:?}");
        }
    }
    let effects = world.system.effects();
    // No room, and room again: the same key.
    let refused = world.call_with("other", "s1", Some("big"), &world.delete, 50, 70).await;
    assert_eq!(refusal(&refused).0, Code::BudgetExhausted);
    world.clock.advance(24 * 60 * 60_000);
    assert_eq!(world.system.effects(), effects);
    // What the system itself refuses is its answer.
    world.system.trouble.lock().unwrap().push(Trouble::Fails);
    let failed = world.call_with("other", "s1", Some("fails"), &world.note, 80, 81).await;
    assert_eq!(refusal(&failed).0, Code::ToolFailed);
    let again = world.call_with("other", "s1", Some("fails"), &world.note, 80, 81).await;
    assert_eq!((refusal(&again).1, refusal(&again).2), (refusal(&failed).1, true));
}

#[tokio::test]
async fn a_call_that_outgrew_its_approval_keeps_its_key() {
    let world = World::new(1, 100, vec![]);
    let pending = world.keyed("s1", "k", &world.update, 0, 200).await;
    world.answer(&pending, "ana", true).await;
    world.system.rows.lock().unwrap().insert(150, 0);
    assert_eq!(refusal(&world.work().await[0]).0, Code::ApprovalSuperseded);
    // The very same call asks about what holds now, once.
    let anew = world.keyed("s2", "k", &world.update, 0, 200).await;
    assert_ne!(approval(&anew), approval(&pending));
    assert_eq!(approval(&world.keyed("s1", "k", &world.update, 0, 200).await), approval(&anew));
    world.answer(&anew, "ana", true).await;
    assert_eq!(world.work().await[0].status(), "done");
    let Answer::Done(done) = world.keyed("s2", "k", &world.update, 0, 200).await else { panic!() };
    assert_eq!((done.approval, done.rows, world.system.effects()), (Some(approval(&anew)), 101, 1));

    // One that is allowed and rolled back because it grew is decided again, under its key.
    world.system.intruder.lock().unwrap().push(300);
    let first = world.keyed("s1", "grows", &world.note, 250, 350).await;
    assert_eq!(first.status(), "done", "{first:?}");
    assert_eq!(told(&world.keyed("s1", "grows", &world.note, 250, 350).await), (told(&first).0, true));
    assert_eq!(world.system.effects(), 2);
}

#[tokio::test]
async fn an_agent_has_so_many_keys_and_no_more() {
    let world = World::new(1, 100, vec![]);
    for n in 0..20 {
        assert_eq!(world.keyed("s1", &format!("k{n}"), &world.read, n, n + 1).await.status(), "done");
    }
    let refused = world.keyed("s1", "k20", &world.read, 20, 21).await;
    assert_eq!(refusal(&refused).0, Code::RateLimited);
    // Those that are there go on, as do calls without one, and other agents.
    assert_eq!(world.keyed("s1", "k7", &world.read, 7, 8).await.status(), "done");
    assert_eq!(world.call(&world.read, 20, 21).await.status(), "done");
    assert_eq!(world.call_with("other", "s1", Some("k20"), &world.read, 20, 21).await.status(), "done");
}

#[tokio::test]
async fn where_a_key_cannot_be_looked_up_nothing_is_done() {
    let world = World::new(1, 100, vec![]);
    world.keyed("s1", "k", &world.note, 0, 10).await;
    world.ledger.fail_reads();
    for key in ["k", "new"] {
        let (code, message, _) = refusal(&world.keyed("s1", key, &world.note, 0, 10).await);
        assert_eq!(code, Code::NotLookedUp, "{message}");
    }
    assert_eq!(world.system.effects(), 1);
    world.ledger.heal();
    assert_eq!(world.keyed("s1", "k", &world.note, 0, 10).await.status(), "done");
}

#[tokio::test]
async fn without_a_key_the_answer_of_a_granted_call_is_there_while_its_request_would_be_open() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 10).await;
    let agent = requester("bot", "s1").agent;
    // People answer at the last moment, and its grant keeps it open for as long again.
    world.clock.advance(14 * 60_000 + 59_000);
    world.answer(&pending, "ana", true).await;
    world.work().await;
    world.clock.advance(2_000);
    // Told, and perhaps lost on the way: whoever repeats it hears the same.
    assert_eq!(world.gate.fetch(&agent, &approval(&pending)).await.status(), "done");
    for _ in 0..3 {
        let again = world.call(&world.update, 0, 10).await;
        assert_eq!((again.status(), told(&again).1), ("done", true));
    }
    world.clock.advance(15 * 60_000);
    assert_ne!(approval(&world.call(&world.update, 0, 10).await), approval(&pending));
    assert_eq!(world.system.effects(), 1);
}
