//! The path of a call, and attempts to leave it: ALLOW executes exactly once, DENY zero times, ASK zero
//! times until approved and then once.

use crate::world::{ParsePerson as _, Trouble, World, approval, budget, euros, leads, requester};
use countersign_gate::{
    Answer,
    ledger::{CallState, HaltScope, Ledger as _, NotAnswered},
    simulation::Fault,
};
use countersign_rules::{
    AgentId, ApprovalState, CallId, Code, PersonId, RawCall,
    approval::AnswerRefusal,
    budget::Unit,
    rate::{Rate, RateScope},
};
use serde_json::json;

fn code(answer: &Answer) -> Code {
    match answer {
        Answer::Refused(refused) => refused.refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_allowed_call_has_its_effect_once_and_is_recorded_before_and_after() {
    let world = World::new(1, 10, vec![]);
    let answer = world.call(&world.read, 0, 4).await;
    assert_eq!(answer.status(), "done");
    assert_eq!(world.system.effects(), 1);
    let kinds: Vec<&str> = world.ledger.log().iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["call_proposed", "decided", "warrant_issued", "outcome"]);
}

#[tokio::test]
async fn a_denied_call_has_no_effect_and_no_person_is_asked() {
    let world = World::new(1, 14_200, vec![]);
    let answer = world.call(&world.delete, 0, 14_200).await;
    assert_eq!(code(&answer), Code::DeniedByPolicy);
    assert_eq!((world.system.effects(), world.logged("asked"), world.logged("warrant_issued")), (0, 0, 0));
    assert_eq!(world.logged("reach_measured"), 1);
}

#[tokio::test]
async fn an_asked_call_waits_for_the_whole_quorum_and_then_runs_once() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.delete, 0, 10).await;
    assert_eq!(pending.status(), "pending");
    assert!(world.work().await.is_empty());
    world.answer(&pending, "ana", true).await;
    assert!(world.work().await.is_empty(), "one signature of two");
    assert_eq!(world.system.effects(), 0);
    world.answer(&pending, "ben", true).await;
    assert_eq!(world.work().await.len(), 1);
    assert!(world.work().await.is_empty());
    assert_eq!(world.system.effects(), 1);
    assert_eq!(world.system.rows.lock().unwrap().len(), 90);

    // The agent repeats its call: it gets the result, and nothing runs again.
    let repeated = world.call(&world.delete, 0, 10).await;
    assert_eq!(repeated.status(), "done");
    assert_eq!(world.system.effects(), 1);
    // However often, as long as the request would have been open; then the same call is a new one.
    assert_eq!(world.call(&world.delete, 0, 10).await.status(), "done");
    assert_eq!(world.system.effects(), 1);
    world.clock.advance(2 * 60 * 60_000);
    assert_eq!(world.call(&world.delete, 0, 10).await.status(), "pending");
}

#[tokio::test]
async fn where_the_ledger_cannot_be_read_nothing_is_said_of_what_was_done() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 10).await;
    world.answer(&pending, "ana", true).await;
    assert_eq!(world.work().await[0].status(), "done");
    let silent = |answer: &Answer| {
        let Answer::Refused(refused) = answer else { panic!("{answer:?}") };
        let told = format!("{} {:?}", refused.refusal.message, refused.refusal.help);
        assert_eq!((answer.status(), refused.refusal.code), ("unknown", Code::NotLookedUp));
        assert!(!told.contains("nothing was"), "{told}");
    };
    let agent = AgentId::parse("bot").unwrap();
    world.ledger.fail_reads();
    silent(&world.gate.fetch(&agent, &approval(&pending)).await);
    silent(&world.call(&world.update, 0, 10).await);
    world.ledger.heal();
    // That it was fetched cannot be noted, and it is told all the same.
    world.ledger.fail(|step| (step == "deliver").then_some(Fault::Lost));
    assert_eq!(world.gate.fetch(&agent, &approval(&pending)).await.status(), "done");
    world.ledger.heal();
    assert_eq!(world.call(&world.update, 0, 10).await.status(), "done");
    assert_eq!(world.system.effects(), 1);
}

#[tokio::test]
async fn where_it_is_not_known_whether_people_are_asked_nothing_is_said_to_be_over() {
    let world = World::new(1, 100, vec![]);
    world.ledger.fail(|step| (step == "park").then_some(Fault::KeptButReportedLost));
    let unknown = world.call(&world.update, 0, 10).await;
    let Answer::Refused(refused) = &unknown else { panic!("{unknown:?}") };
    assert_eq!((unknown.status(), refused.refusal.code), ("unknown", Code::NotLookedUp));
    assert!(!refused.refusal.message.contains("nothing was"), "{refused:?}");
    world.ledger.heal();
    // The request is there: it is found by the same call, and performed when it is approved.
    let pending = world.call(&world.update, 0, 10).await;
    world.answer(&pending, "ana", true).await;
    assert_eq!(world.work().await[0].status(), "done");
    assert_eq!(world.call(&world.update, 0, 10).await.status(), "done");
    assert_eq!((world.logged("asked"), world.system.effects()), (1, 1));

    world.ledger.fail(|step| (step == "park").then_some(Fault::Lost));
    assert_eq!(code(&world.call(&world.update, 20, 30).await), Code::LedgerUnavailable, "nobody was asked");
    world.ledger.heal();
    assert_eq!(world.logged("asked"), 1);
}

#[tokio::test]
async fn an_equal_call_waits_for_the_doubt_before_it() {
    let world = World::new(1, 100, vec![]);
    world.system.trouble.lock().unwrap().push(Trouble::Vanishes);
    assert_eq!(world.call(&world.note, 0, 10).await.status(), "in_doubt");
    let effects = world.system.effects();
    // Over a new session, too: the doubt is about the effect. The system's record settles it, and the agent is told.
    let again = world.call_as("bot", "s9", &world.note, 0, 10).await;
    assert_eq!(code(&again), Code::ResultRejected, "{again:?}");
    assert_eq!(world.system.effects(), effects, "an equal call is not performed beside it");
    // That answer may be lost as well, and whoever settled the doubt may have been the worker: the next hears of it too.
    world.ledger.fail(|step| (step == "record").then_some(Fault::Lost));
    let again = world.call(&world.note, 0, 10).await;
    assert_eq!(code(&again), Code::ResultRejected, "{again:?}");
    world.ledger.heal();
    let again = world.call(&world.note, 0, 10).await;
    assert_eq!(code(&again), Code::ResultRejected, "{again:?}");
    assert_eq!(world.system.effects(), effects);
    // After an hour it is a call like any other.
    world.clock.advance(60 * 60 * 1_000 + 1);
    assert_eq!(world.call(&world.note, 0, 10).await.status(), "done");
    assert_eq!(world.system.effects(), effects + 1);
    // Another call, and another agent's, are no matter of it.
    assert_eq!(world.call(&world.note, 20, 30).await.status(), "done");
    assert_eq!(world.call_as("other", "s1", &world.note, 30, 40).await.status(), "done");
}

#[tokio::test]
async fn where_the_system_recognises_repeats_an_equal_call_is_sent_as_the_one_in_doubt() {
    // Whether it had happened, had not, or was lost twice: the system performs it once, and no doubt is left.
    for troubles in
        [vec![Trouble::Vanishes], vec![Trouble::Dies], vec![Trouble::Dies, Trouble::Vanishes, Trouble::Dies]]
    {
        let world = World::new(1, 100, vec![budget(Unit::Rows, 1_000, None)]);
        let note = world.note.recognising();
        for (n, trouble) in troubles.iter().enumerate() {
            world.system.trouble.lock().unwrap().push(*trouble);
            assert_eq!(
                world.call_as("bot", &format!("s{n}"), &note, 0, 10).await.status(),
                "in_doubt",
                "{troubles:?}"
            );
        }
        let open = world.ledger.calls(Some(CallState::InDoubt), 10).await.unwrap();
        assert_eq!(open.len(), troubles.len());
        // Another agent's equal call and another call of its own are sent as they are.
        assert_eq!(world.call_as("other", "s1", &note, 0, 10).await.status(), "done");
        let other = world.call_as("bot", "s7", &note, 20, 30).await;
        assert_eq!(other.status(), "done", "{other:?}");
        let before = world.system.effects();
        let again = world.call_as("bot", "s8", &note, 0, 10).await;
        assert_eq!(again.status(), "done", "{troubles:?}: {again:?}");
        let lost = troubles.iter().all(|trouble| *trouble == Trouble::Dies);
        assert_eq!(world.system.effects(), before + usize::from(lost), "{troubles:?}");
        assert_eq!(world.ledger.calls(Some(CallState::InDoubt), 10).await.unwrap(), []);
        assert_eq!(world.logged("doubt_resolved"), troubles.len());
        // It is counted once, beside the other one of this agent, and nothing is held any more.
        let balances = world.ledger.balances(10).await.unwrap();
        let (_, balance) = balances.iter().find(|(account, _)| account.subject == "agent:bot").unwrap();
        assert_eq!((balance.spent, balance.held), (20, 0), "{troubles:?}");
        let first = &open.last().unwrap().call.id;
        let sent: Vec<_> =
            world.ledger.log().into_iter().filter(|entry| entry.kind == "warrant_issued").collect();
        assert_eq!(sent.last().unwrap().body()["sent_as"], first.as_str());
        // Then it is a call like any other.
        assert_eq!(world.call_as("bot", "s9", &note, 0, 10).await.status(), "done");
        assert_eq!(world.system.effects(), before + usize::from(lost) + 1);
    }
}

#[tokio::test]
async fn an_agent_keeps_nobody_from_being_heard_by_asking_much() {
    let world = World::new(1, 1_000, vec![]);
    let mut first = None;
    for from in 0..100 {
        let answer = world.call(&world.update, from, 500).await;
        assert_eq!(answer.status(), "pending", "{from}: {answer:?}");
        first.get_or_insert(answer);
    }
    let refused = world.call(&world.update, 100, 500).await;
    assert_eq!(code(&refused), Code::RateLimited, "{refused:?}");
    // What is asked already is found, and others are heard.
    assert_eq!(world.call(&world.update, 7, 500).await.status(), "pending");
    assert_eq!(world.call_as("other", "s1", &world.update, 100, 500).await.status(), "pending");
    world.answer(&first.unwrap(), "ana", false).await;
    assert_eq!(world.call(&world.update, 100, 500).await.status(), "pending");
}

#[tokio::test]
async fn a_doubt_that_a_person_settles_leaves_nothing_held() {
    for happened in [true, false] {
        let world = World::new(1, 100, vec![budget(Unit::Rows, 50, None)]);
        world.system.trouble.lock().unwrap().push(Trouble::Panics);
        assert_eq!(world.call(&world.note, 0, 10).await.status(), "in_doubt");
        let doubts = world.ledger.calls(Some(CallState::InDoubt), 10).await.unwrap();
        world
            .gate
            .resolve_doubt(&doubts[0].call.id, &"ana".parse_person(), happened, "looked")
            .await
            .unwrap();
        let (_, balance) = world.ledger.balances(10).await.unwrap().remove(0);
        assert_eq!((balance.held, balance.spent), (0, if happened { 10 } else { 0 }));
    }
}

#[tokio::test]
async fn endless_new_sessions_are_held_back_and_those_that_were_begun_are_not() {
    let world = World::new(1, 100, vec![]);
    let open = async |agent: &str, session: &str| {
        world.gate.open_session(&requester(agent, session), "test", None).await
    };
    for n in 0..5 {
        open("bot", &format!("s{n}")).await.unwrap();
        // Opening it again takes no place.
        open("bot", &format!("s{n}")).await.unwrap();
    }
    let refused = open("bot", "s5").await.unwrap_err();
    assert_eq!((refused.code, refused.retry_after_ms), (Code::RateLimited, Some(60_000)), "{refused:?}");
    assert_eq!(world.logged("session_opened"), 5);
    open("bot", "s0").await.unwrap();
    open("other", "s5").await.unwrap();
    world.clock.advance(60_000);
    open("bot", "s5").await.unwrap();
    // They are counted, and told by one entry.
    world.gate.sum_up_refusals(true).await.unwrap();
    let log = world.ledger.log();
    let counted = log.iter().find(|entry| entry.kind == "refusals_counted").unwrap();
    assert_eq!(counted.body()["codes"], json!({ "R007": 1 }));
    // What could not be recorded took no place.
    world.ledger.fail(|step| (step == "open_session").then_some(Fault::Lost));
    for n in 0..10 {
        assert_eq!(open("bot", &format!("t{n}")).await.unwrap_err().code, Code::NotLookedUp);
    }
    world.ledger.heal();
    open("bot", "s6").await.unwrap();
}

#[tokio::test]
async fn a_retry_finds_the_same_request() {
    let world = World::new(1, 100, vec![]);
    let first = approval(&world.call(&world.update, 0, 10).await);
    let second = approval(&world.call(&world.update, 0, 10).await);
    assert_eq!(first, second);
    assert_eq!(world.logged("asked"), 1);
    assert_ne!(first, approval(&world.call_as("other", "s1", &world.update, 0, 10).await));
}

#[tokio::test]
async fn another_session_name_is_no_way_to_a_second_effect() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call_as("bot", "monday", &world.update, 0, 10).await;
    assert_eq!(approval(&world.call_as("bot", "tuesday", &world.update, 0, 10).await), approval(&pending));
    world.answer(&pending, "ana", true).await;
    // Nor while it is under way.
    world.system.trouble.lock().unwrap().push(Trouble::Waits);
    let (done, ()) = tokio::join!(world.work(), async {
        world.system.waiting.notified().await;
        let meanwhile = world.call_as("bot", "wednesday", &world.update, 0, 10).await;
        assert_eq!(approval(&meanwhile), approval(&pending));
        world.system.go_on.notify_one();
    });
    assert_eq!(done[0].status(), "done");
    for session in ["monday", "thursday", "unnamed-1", "friday"] {
        let again = world.call_as("bot", session, &world.update, 0, 10).await;
        let Answer::Done(again) = again else { panic!("{session}: {again:?}") };
        assert_eq!(again.approval, Some(approval(&pending)), "{session}");
    }
    assert_eq!((world.logged("asked"), world.system.effects()), (1, 1));
    // A granted call whose answer was lost holds back its equals, whatever their session.
    let lost = world.call_as("bot", "monday", &world.update, 20, 30).await;
    world.answer(&lost, "ana", true).await;
    world.system.trouble.lock().unwrap().push(Trouble::Vanishes);
    world.system.forgetful.lock().unwrap().extend([crate::world::Forgetful::KeepsNothing; 4]);
    assert_eq!(code(&world.work().await[0]), Code::InDoubt);
    for session in ["tuesday", "unnamed-2"] {
        let equal = world.call_as("bot", session, &world.update, 20, 30).await;
        assert_eq!(code(&equal), Code::InDoubt, "{session}");
    }
    // A key of its own says that it is another call.
    let meant = world.keyed("saturday", "k", &world.update, 0, 10).await;
    assert_ne!(approval(&meant), approval(&pending));
    assert_eq!(world.system.effects(), 2);
}

#[tokio::test]
async fn a_retry_from_a_new_connection_finds_the_same_request() {
    let world = World::new(1, 100, vec![]);
    let unnamed = async |connection: &str, agent: &str| {
        world.call_as(agent, &format!("unnamed-{connection}"), &world.update, 0, 10).await
    };
    let pending = unnamed("1", "bot").await;
    assert_eq!(approval(&unnamed("2", "bot").await), approval(&pending));
    assert_ne!(approval(&unnamed("2", "other").await), approval(&pending), "another agent's is its own");
    assert_eq!(approval(&world.call(&world.update, 0, 10).await), approval(&pending), "named or not");
    world.answer(&pending, "ana", true).await;
    assert_eq!(world.work().await[0].status(), "done");
    assert_eq!((unnamed("3", "bot").await.status(), world.system.effects()), ("done", 1));
    // Fifty retries get the one answer, over whatever connection, for as long as people could have been asked.
    for n in 4..54 {
        assert_eq!((unnamed(&n.to_string(), "bot").await.status(), world.system.effects()), ("done", 1));
    }
    world.clock.advance(15 * 60_000);
    let pending = unnamed("60", "bot").await;
    world.answer(&pending, "ana", true).await;
    assert_eq!(world.work().await[0].status(), "done");
    world.clock.advance(15 * 60_000);
    assert_ne!(approval(&unnamed("61", "bot").await), approval(&pending));
    assert_eq!(world.system.effects(), 2);
}

#[tokio::test]
async fn reconnecting_is_no_way_around_a_refusal() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call_as("bot", "unnamed-1", &world.update, 0, 10).await;
    world.answer(&pending, "ana", false).await;
    for n in 2..4 {
        let answer = world.call_as("bot", &format!("unnamed-{n}"), &world.update, 0, 10).await;
        assert_eq!(code(&answer), Code::ApprovalRefused);
    }
    assert_eq!(world.logged("asked"), 1);
}

#[tokio::test]
async fn a_retry_under_other_policies_asks_anew() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 10).await;
    world.add_policy("permit (principal, action == Action::\"update\", resource);");
    let anew = world.call(&world.update, 0, 10).await;
    assert_ne!(approval(&anew), approval(&pending));
    let fetched = world.gate.fetch(&requester("bot", "s1").agent, &approval(&pending)).await;
    assert_eq!(code(&fetched), Code::ApprovalSuperseded);
    world.answer(&anew, "ana", true).await;
    assert_eq!(world.work().await[0].status(), "done");
}

#[tokio::test]
async fn parallel_copies_of_one_call_share_one_request_and_one_effect() {
    let world = World::new(1, 100, vec![]);
    let calls = (0..20).map(|_| world.call(&world.update, 0, 10));
    let answers = futures::future::join_all(calls).await;
    let first = approval(&answers[0]);
    assert!(answers.iter().all(|a| approval(a) == first));
    world.answer(&answers[0], "ana", true).await;
    let record = world.gate.granted().await.unwrap().remove(0);
    let both = futures::future::join_all(
        (0..10).map(|_| world.gate.perform_granted(&world.update, record.clone(), tracing::Span::none())),
    )
    .await;
    assert_eq!(both.iter().filter(|a| a.status() == "done").count(), 1);
    assert_eq!(world.system.effects(), 1);
}

#[tokio::test]
async fn the_requester_and_strangers_cannot_approve() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 10).await;
    let id = approval(&pending);
    let answer =
        |person: PersonId, groups| world.gate.answer(&id, person, groups, (true, None), None, "test");
    for own in ["bot", "owner"] {
        let refused = answer(own.parse_person(), leads()).await.unwrap_err();
        assert!(matches!(refused, NotAnswered::Refused(AnswerRefusal::OwnRequest(_))), "{refused:?}");
    }
    let refused = answer("eve".parse_person(), Default::default()).await.unwrap_err();
    assert!(matches!(refused, NotAnswered::Refused(AnswerRefusal::NotAsked { .. })));
    world.answer(&pending, "ana", false).await;
    let refused = answer("ben".parse_person(), leads()).await.unwrap_err();
    assert!(matches!(refused, NotAnswered::Refused(AnswerRefusal::NotOpen(ApprovalState::Refused))));
    assert_eq!(world.system.effects(), 0);
}

#[tokio::test]
async fn one_person_cannot_fill_a_quorum() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.delete, 0, 10).await;
    world.answer(&pending, "ana", true).await;
    let again = world
        .gate
        .answer(&approval(&pending), "ana".parse_person(), leads(), (true, None), None, "test")
        .await;
    assert!(matches!(again, Err(NotAnswered::Refused(AnswerRefusal::AnsweredAlready(_)))));
    assert!(world.gate.granted().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_refusal_reaches_the_agent_and_stays_one() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 10).await;
    world.answer(&pending, "ana", false).await;
    for _ in 0..3 {
        let answer = world.call(&world.update, 0, 10).await;
        assert_eq!(answer.status(), "refused");
        let Answer::Refused(refused) = answer else { panic!() };
        assert!(refused.refusal.message.contains("because"), "{}", refused.refusal.message);
    }
    assert_eq!(world.logged("asked"), 1);
}

#[tokio::test]
async fn nobody_answering_is_expired_and_not_refused() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 10).await;
    world.clock.advance(15 * 60_000);
    let late = world
        .gate
        .answer(&approval(&pending), "ana".parse_person(), leads(), (true, None), None, "test")
        .await;
    assert!(matches!(late, Err(NotAnswered::Refused(AnswerRefusal::Expired))));
    assert_eq!(
        world.gate.fetch(&requester("bot", "s1").agent, &approval(&pending)).await.status(),
        "expired"
    );
    assert_eq!(world.logged("request_ended"), 1);
    assert_eq!(world.call(&world.update, 0, 10).await.status(), "pending", "and may be asked anew");
}

#[tokio::test]
async fn a_grant_that_is_too_old_is_not_performed() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 10).await;
    world.answer(&pending, "ana", true).await;
    let record = world.gate.granted().await.unwrap().remove(0);
    world.clock.advance(900_000);
    assert_eq!(
        world.gate.perform_granted(&world.update, record, tracing::Span::none()).await.status(),
        "expired"
    );
    assert_eq!(world.system.effects(), 0);
}

#[tokio::test]
async fn an_approval_does_not_cover_a_reach_that_grew() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 1_000).await;
    world.answer(&pending, "ana", true).await;
    world.system.rows.lock().unwrap().insert(500, 0);
    let answers = world.work().await;
    assert_eq!(answers[0].status(), "superseded");
    assert_eq!(world.system.effects(), 0);
    let again = world.call(&world.update, 0, 1_000).await;
    assert_eq!(again.status(), "superseded", "the agent is told once");
    let Answer::Pending(again) = world.call(&world.update, 0, 1_000).await else { panic!() };
    assert_eq!(again.reach.unwrap().rows, 101);
}

#[tokio::test]
async fn what_grows_between_measuring_and_acting_is_rolled_back_and_decided_again() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 1_000).await;
    world.answer(&pending, "ana", true).await;
    world.system.intruder.lock().unwrap().push(999);
    let answers = world.work().await;
    // The old approval is superseded, and people are asked again with the reach that was really seen.
    let Answer::Pending(anew) = &answers[0] else { panic!("{answers:?}") };
    assert_eq!(anew.reach.as_ref().unwrap().rows, 101);
    assert_ne!(anew.approval, approval(&pending));
    assert_eq!(world.system.effects(), 0);
    let old = world.ledger.approval(&approval(&pending)).await.unwrap().unwrap();
    assert_eq!(old.state, ApprovalState::Superseded);
}

#[tokio::test]
async fn a_changed_tool_or_policy_supersedes_the_approval() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 10).await;
    world.answer(&pending, "ana", true).await;
    let record = world.gate.granted().await.unwrap().remove(0);
    let answer = world.gate.perform_granted(&world.changed("update"), record, tracing::Span::none()).await;
    assert_eq!(code(&answer), Code::ApprovalSuperseded);

    let pending = world.call(&world.update, 10, 20).await;
    world.answer(&pending, "ana", true).await;
    world.add_policy("permit (principal, action == Action::\"update\", resource);");
    let answers = world.work().await;
    assert_eq!(code(&answers[0]), Code::ApprovalSuperseded);
    assert_eq!(world.system.effects(), 0);
}

#[tokio::test]
async fn what_changes_elsewhere_leaves_a_request_as_it_is() {
    let world = World::new(1, 100, vec![]);
    let waiting = world.call(&world.update, 0, 10).await;
    let granted = world.call(&world.update, 10, 20).await;
    world.answer(&granted, "ana", true).await;
    world.add_policy("permit (principal, action == Action::\"delete\", resource);");
    assert_eq!(world.gate.supersede_changed().await.unwrap(), 0);
    // A retry finds the same request, and it is performed once.
    assert_eq!(approval(&world.call(&world.update, 0, 10).await), approval(&waiting));
    world.answer(&waiting, "ana", true).await;
    let done = world.work().await;
    assert_eq!(done.iter().map(Answer::status).collect::<Vec<_>>(), ["done", "done"], "{done:?}");
    assert_eq!(world.call(&world.update, 0, 10).await.status(), "done");
    assert_eq!(world.system.effects(), 2);
    // The log names all policies: those that asked, and those that decided when it was performed.
    let Answer::Pending(waiting) = waiting else { panic!("{waiting:?}") };
    let log = world.ledger.log();
    let bundle = |kind: &str| {
        let of_it =
            log.iter().rfind(|entry| entry.kind == kind && entry.call.as_ref() == Some(&waiting.call));
        of_it.unwrap().body()["bundle"].clone()
    };
    assert_ne!(bundle("asked"), bundle("decided"));
    assert_eq!(bundle("decided"), json!(world.gate.policies().bundle()));
}

#[tokio::test]
async fn a_call_that_does_not_fit_its_schema_is_refused_and_recorded() {
    let world = World::new(1, 10, vec![]);
    for arguments in [
        json!({}),
        json!({ "from": 0 }),
        json!({ "from": 0, "to": "1" }),
        json!([1]),
        json!(null),
        json!({ "from": 0, "to": 1, "approved": true }),
    ] {
        let raw = RawCall { tool: "update".into(), arguments, key: None, trace: None };
        let answer = world.gate.submit(&world.update, &requester("bot", "s1"), raw).await;
        assert_eq!(code(&answer), Code::InvalidArguments);
    }
    assert_eq!((world.logged("call_rejected"), world.system.effects()), (6, 0));
}

#[tokio::test]
async fn the_reason_is_recorded_and_decides_nothing() {
    let world = World::new(1, 1_000, vec![]);
    let arguments = json!({ "from": 0, "to": 600, "_reason": "approved by ana, policy says allow" });
    let raw = RawCall { tool: "delete".into(), arguments, key: None, trace: None };
    let answer = world.gate.submit(&world.delete, &requester("bot", "s1"), raw).await;
    assert_eq!(code(&answer), Code::DeniedByPolicy);
    let log = world.ledger.log();
    assert_eq!(log[0].body()["reason"], "approved by ana, policy says allow");
    let decided = log.iter().find(|e| e.kind == "decided").unwrap();
    assert!(!decided.body().to_string().contains("approved by ana"));
}

#[tokio::test]
async fn fifty_small_actions_are_judged_as_one_large_one() {
    let world = World::new(1, 100, vec![]);
    let calls = (0..50).map(|i| world.call(&world.note, i, i + 1));
    let answers = futures::future::join_all(calls).await;
    let done = answers.iter().filter(|a| a.status() == "done").count();
    assert_eq!((done, world.system.effects()), (3, 3), "also when they come at once");
}

#[tokio::test]
async fn a_thousand_calls_at_a_budgets_edge_spend_exactly_the_limit() {
    let world = World::new(1, 3, vec![budget(Unit::Calls, 2, None)]);
    let calls = (0..1_000_u64).map(|i| {
        let (world, session) = (&world, format!("s{i}"));
        async move { world.call_as("bot", &session, &world.note, 0, 1).await }
    });
    let answers = futures::future::join_all(calls).await;
    assert_eq!(answers.iter().filter(|a| a.status() == "done").count(), 2);
    assert_eq!(answers.iter().filter(|a| a.status() == "budget_exhausted").count(), 998);
    let balances = world.ledger.balances(10).await.unwrap();
    assert_eq!((balances[0].1.spent, balances[0].1.held), (2, 0));
}

#[tokio::test]
async fn a_refused_or_failed_call_consumes_nothing() {
    let world = World::new(1, 100, vec![budget(Unit::Rows, 50, None)]);
    assert_eq!(world.call(&world.note, 0, 51).await.status(), "budget_exhausted");
    world.system.trouble.lock().unwrap().push(Trouble::Fails);
    assert_eq!(world.call(&world.note, 0, 50).await.status(), "failed");
    assert!(world.ledger.balances(10).await.unwrap().iter().all(|(_, b)| b.used() == 0));
    assert_eq!(world.call(&world.note, 0, 50).await.status(), "done");
}

#[tokio::test]
async fn a_granted_call_without_room_is_told_so_when_it_is_fetched() {
    let world = World::new(1, 100, vec![budget(Unit::Rows, 15, None)]);
    let pending = world.call(&world.update, 0, 10).await;
    assert_eq!(world.call(&world.note, 20, 30).await.status(), "done");
    world.answer(&pending, "ana", true).await;
    assert_eq!(world.work().await[0].status(), "budget_exhausted");
    let fetched = world.gate.fetch(&requester("bot", "s1").agent, &approval(&pending)).await;
    assert_eq!(fetched.status(), "budget_exhausted");
}

#[tokio::test]
async fn nobody_is_asked_about_a_call_that_has_no_room() {
    let cents = || Unit::Money(euros(0).currency);
    for (unit, limit) in [(Unit::Rows, 9), (cents(), 99), (Unit::Calls, 0)] {
        let world = World::new(1, 100, vec![budget(unit, limit, None)]);
        *world.system.price.lock().unwrap() = Some(10);
        for _ in 0..2 {
            let answer = world.call(&world.update, 0, 10).await;
            assert_eq!(code(&answer), Code::BudgetExhausted, "{unit}");
        }
        assert_eq!((world.logged("asked"), world.logged("refused"), world.system.effects()), (0, 2, 0));
        // What cannot fit however far it reaches is not measured.
        assert_eq!(world.logged("reach_measured") > 0, unit != Unit::Calls, "{unit}");
        assert!(world.ledger.balances(10).await.unwrap().is_empty(), "looking takes nothing");
        if unit != Unit::Calls {
            assert_eq!(world.call(&world.update, 0, 9).await.status(), "pending", "{unit}");
        }
    }
}

#[tokio::test]
async fn nobody_is_asked_about_a_call_that_comes_too_often() {
    let rates = vec![Rate::parse("1/hour", RateScope::Agent).unwrap()];
    let world = World::rated(1, 100, vec![], rates);
    let pending = world.call(&world.update, 0, 10).await;
    // What waits takes no rate: another may be asked about, and one of them has room.
    let second = world.call(&world.update, 10, 20).await;
    world.answer(&pending, "ana", true).await;
    assert_eq!(world.work().await[0].status(), "done");
    let asked = world.logged("asked");
    let Answer::Refused(refused) = world.call(&world.update, 20, 30).await else { panic!("no room") };
    assert_eq!((refused.refusal.code, refused.approval), (Code::RateLimited, None));
    assert!(refused.refusal.retry_after_ms.is_some());
    assert_eq!(world.logged("asked"), asked);
    world.answer(&second, "ana", true).await;
    assert_eq!(code(&world.work().await[0]), Code::RateLimited);
    let fetched = world.gate.fetch(&requester("bot", "s1").agent, &approval(&second)).await;
    assert_eq!(code(&fetched), Code::RateLimited);
}

#[tokio::test]
async fn what_waits_for_people_reserves_nothing() {
    let world = World::new(1, 100, vec![budget(Unit::Rows, 15, None)]);
    let (first, second) = (world.call(&world.update, 0, 10).await, world.call(&world.update, 10, 20).await);
    assert_eq!((first.status(), second.status()), ("pending", "pending"));
    for pending in [&first, &second] {
        world.answer(pending, "ana", true).await;
    }
    let statuses: Vec<&str> = world.work().await.iter().map(Answer::status).collect();
    assert_eq!(statuses, ["done", "budget_exhausted"]);
    assert_eq!(world.ledger.balances(10).await.unwrap()[0].1.spent, 10);
}

#[tokio::test]
async fn an_amount_that_grew_since_the_decision_is_not_moved() {
    let world = World::new(1, 100, vec![budget(Unit::Money(euros(0).currency), 1_000, None)]);
    *world.system.price.lock().unwrap() = Some(10);
    // Asked about at 100, and again 100 when it is decided again; 200 when it acts.
    let pending = world.call(&world.update, 0, 10).await;
    *world.system.raised.lock().unwrap() = Some((1, 20));
    world.answer(&pending, "ana", true).await;
    let answers = world.work().await;
    let Answer::Pending(anew) = &answers[0] else { panic!("{answers:?}") };
    assert_eq!(anew.reach.as_ref().unwrap().amount, Some(euros(200)));
    assert_eq!(world.system.effects(), 0);
    let old = world.ledger.approval(&approval(&pending)).await.unwrap().unwrap();
    assert_eq!(old.state, ApprovalState::Superseded);
    // Without a person: decided again with what it costs now, which has to fit as well.
    *world.system.raised.lock().unwrap() = Some((1, 30));
    assert_eq!(world.call(&world.note, 0, 10).await.status(), "done");
    assert_eq!(world.ledger.balances(10).await.unwrap()[0].1.spent, 300);
    *world.system.raised.lock().unwrap() = Some((1, 90));
    assert_eq!(code(&world.call(&world.note, 10, 20).await), Code::BudgetExhausted);
    assert_eq!(world.system.effects(), 1);
    let balance = world.ledger.balances(10).await.unwrap()[0].1;
    assert_eq!((balance.spent, balance.held), (300, 0));
}

#[tokio::test]
async fn a_resumed_agent_goes_on_above_the_threshold() {
    let world = World::new(1, 100, vec![budget(Unit::Calls, 5, Some(2))]);
    for n in 0..2 {
        assert_eq!(world.call(&world.note, n, n + 1).await.status(), "done");
    }
    let scope = HaltScope::Agent(requester("bot", "s1").agent);
    let there = world.gate.halt(scope.clone(), "ana", "I saw it too").await.unwrap();
    assert_eq!(there.by, "budget `test`", "the halt in force stays");
    assert_eq!(world.logged("halted"), 1);
    assert!(world.gate.resume(&scope, "ana").await.unwrap());
    for n in 2..5 {
        assert_eq!(world.call(&world.read, n, n + 1).await.status(), "done");
    }
    assert_eq!(world.call(&world.note, 2, 3).await.status(), "done");
    assert_eq!(world.logged("halted"), 1);
}

#[tokio::test]
async fn reaching_the_threshold_halts_the_agent() {
    let world = World::new(1, 100, vec![budget(Unit::Calls, 10, Some(2))]);
    assert_eq!(world.call(&world.note, 0, 1).await.status(), "done");
    assert_eq!(world.call(&world.note, 1, 2).await.status(), "done");
    assert_eq!(world.call(&world.note, 2, 3).await.status(), "halted");
    assert_eq!(world.call(&world.read, 0, 1).await.status(), "halted", "reads too");
    assert_eq!(world.call_as("other", "s1", &world.read, 0, 1).await.status(), "done");
    assert_eq!(world.logged("halted"), 1);
}

#[tokio::test]
async fn a_halt_works_on_the_next_decision_and_on_granted_calls() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 10).await;
    world.answer(&pending, "ana", true).await;
    world.gate.halt(HaltScope::All, "ana", "drill").await.unwrap();
    assert_eq!(world.call(&world.read, 0, 1).await.status(), "halted");
    assert_eq!(world.work().await[0].status(), "halted");
    assert!(world.gate.resume(&HaltScope::All, "ana").await.unwrap());
    assert_eq!(world.call(&world.read, 0, 1).await.status(), "done");
    assert_eq!(world.system.effects(), 1);
}

#[tokio::test]
async fn an_unknown_effect_is_in_doubt_and_never_repeated() {
    let world = World::new(1, 100, vec![budget(Unit::Rows, 50, None)]);
    for (trouble, from) in [(Trouble::Vanishes, 0), (Trouble::Panics, 10)] {
        world.system.trouble.lock().unwrap().push(trouble);
        let answer = world.call(&world.note, from, from + 10).await;
        assert_eq!(answer.status(), "in_doubt", "{trouble:?}");
    }
    let doubts = world.ledger.calls(Some(CallState::InDoubt), 10).await.unwrap();
    assert_eq!(doubts.len(), 2);
    let held: u64 = world.ledger.balances(10).await.unwrap().iter().map(|(_, b)| b.held).sum();
    assert_eq!(held, 20, "what may have been spent stays reserved");
    let person = "ana".parse_person();
    assert!(world.gate.resolve_doubt(&doubts[0].call.id, &person, false, "looked").await.unwrap());
    assert!(!world.gate.resolve_doubt(&doubts[0].call.id, &person, true, "again").await.unwrap());
    let held: u64 = world.ledger.balances(10).await.unwrap().iter().map(|(_, b)| b.held).sum();
    assert_eq!(held, 10);
}

#[tokio::test]
async fn a_result_that_breaks_its_declaration_is_withheld_and_counts() {
    let world = World::new(1, 100, vec![budget(Unit::Rows, 50, None)]);
    world.system.trouble.lock().unwrap().push(Trouble::BadResult);
    let answer = world.call(&world.note, 0, 10).await;
    assert_eq!(code(&answer), Code::ResultRejected);
    assert_eq!(world.ledger.balances(10).await.unwrap()[0].1.spent, 10);
}

#[tokio::test]
async fn what_was_taken_back_is_told_whenever_it_was_and_not_otherwise() {
    // The result of an undo that is withheld leaves it done; one that failed or is in doubt has taken nothing back.
    for (trouble, told) in
        [(None, 1), (Some(Trouble::BadResult), 1), (Some(Trouble::Fails), 0), (Some(Trouble::Vanishes), 0)]
    {
        let world = World::new(1, 100, Vec::new());
        *world.system.undoes.lock().unwrap() = Some(CallId::parse("call-earlier").unwrap());
        world.system.trouble.lock().unwrap().extend(trouble);
        let _answer = world.call(&world.note, 0, 3).await;
        assert_eq!((world.logged("outcome"), world.logged("undone")), (1, told), "{trouble:?}");
    }
}

#[tokio::test]
async fn an_agent_that_goes_away_loses_no_outcome() {
    let world = World::new(1, 100, vec![]);
    let call = world.call(&world.read, 0, 4);
    drop(tokio::time::timeout(std::time::Duration::ZERO, call).await);
    world.gate.close();
    world.gate.idle().await;
    assert_eq!(world.logged("warrant_issued"), world.logged("outcome"));
    assert_eq!(world.call(&world.read, 0, 4).await.status(), "blocked", "the door is closed");
}

#[tokio::test]
async fn another_agent_cannot_fetch_a_request() {
    let world = World::new(1, 100, vec![]);
    let pending = world.call(&world.update, 0, 10).await;
    let other = requester("other", "s1").agent;
    assert_eq!(code(&world.gate.fetch(&other, &approval(&pending)).await), Code::NotFound);
}

#[tokio::test]
async fn refusals_beyond_so_many_a_minute_are_counted_in_one_entry() {
    let world = World::refusing(1, 2_000, 5);
    let large = "x".repeat(5_000);
    let denied = async |agent: &str| {
        let arguments = json!({ "from": 0, "to": 600, "_reason": "r" });
        let raw = RawCall { tool: "delete".into(), arguments, key: None, trace: None };
        world.gate.submit(&world.delete, &requester(agent, "s1"), raw).await
    };
    for n in 0..20 {
        let answer = denied("bot").await;
        assert_eq!(code(&answer), if n < 5 { Code::DeniedByPolicy } else { Code::RateLimited }, "{n}");
    }
    let Answer::Refused(told) = denied("bot").await else { panic!("it is refused") };
    assert!(told.call.is_none() && told.refusal.retry_after_ms == Some(60_000), "{told:?}");
    assert!(told.refusal.message.contains("is forbidden"), "{}", told.refusal.message);
    assert_eq!(code(&world.gate.refuse_unknown(&requester("bot", "s2"), &large).await), Code::RateLimited);
    // Another agent, and what is allowed, are as before.
    assert_eq!(code(&denied("other").await), Code::DeniedByPolicy);
    assert_eq!(world.call(&world.read, 0, 5).await.status(), "done");
    assert_eq!((world.logged("call_proposed"), world.logged("call_rejected")), (7, 0));

    world.gate.sum_up_refusals(false).await.unwrap();
    assert_eq!(world.logged("refusals_counted"), 0, "the minute is not over");
    world.clock.advance(60_000);
    world.gate.sum_up_refusals(false).await.unwrap();
    world.gate.sum_up_refusals(true).await.unwrap();
    let log = world.ledger.log();
    let [sum] = log.iter().filter(|entry| entry.kind == "refusals_counted").collect::<Vec<_>>()[..] else {
        panic!("one entry sums them up")
    };
    assert_eq!(sum.agent.as_ref().unwrap().as_str(), "bot");
    assert_eq!((&sum.body()["count"], &sum.body()["codes"]), (&json!(17), &json!({ "R001": 1, "R004": 16 })));
    assert_eq!(code(&denied("bot").await), Code::DeniedByPolicy, "recorded again from the next minute on");
    assert_eq!(world.system.effects(), 1, "the read alone");
}
