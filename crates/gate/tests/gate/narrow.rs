//! A person who is asked changes a call, or has it run and rolled back to see more of it: what comes of it is decided like any
//! other call, and never runs by the word of whoever wrote it.

use std::collections::BTreeSet;

use countersign_gate::{
    Answer, AskedPerson, Narrowing,
    ledger::{ApprovalRecord, Ledger as _, NotAnswered},
    simulation::Fault,
};
use countersign_rules::{
    ApprovalId, Code,
    approval::{AnswerRefusal, ApprovalState},
};
use serde_json::json;

use crate::world::{POLICIES, ParsePerson as _, World, approval, leads, policies};

fn asked(person: &str) -> AskedPerson {
    AskedPerson { id: person.parse_person(), groups: leads() }
}

async fn narrow(
    world: &World,
    id: &ApprovalId,
    person: &str,
    (from, to): (u64, u64),
) -> Result<ApprovalRecord, NotAnswered> {
    let narrowing = Narrowing { arguments: json!({ "from": from, "to": to }), why: Some("fewer".into()) };
    let record = world.ledger.approval(id).await.unwrap().unwrap();
    let tool = if record.request.call.tool.as_str() == "update" { &world.update } else { &world.delete };
    world.gate.narrow(&**tool, id, &asked(person), narrowing).await
}

async fn approve(world: &World, id: &ApprovalId, person: &str) -> Result<ApprovalRecord, NotAnswered> {
    world.gate.answer(id, person.parse_person(), leads(), (true, None), None, "test").await
}

async fn state(world: &World, id: &ApprovalId) -> ApprovalState {
    world.ledger.approval(id).await.unwrap().unwrap().state
}

fn refusal(answer: Result<ApprovalRecord, NotAnswered>) -> AnswerRefusal {
    match answer {
        Err(NotAnswered::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn code(answer: Result<ApprovalRecord, NotAnswered>) -> Code {
    match answer {
        Err(NotAnswered::Call(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_changed_call_takes_the_place_of_the_agent_s_and_others_approve_it() {
    let world = World::new(1, 60, Vec::new());
    let first = approval(&world.call(&world.update, 0, 40).await);
    let new = narrow(&world, &first, "ana", (0, 4)).await.unwrap();
    assert_eq!(state(&world, &first).await, ApprovalState::Superseded);
    assert_eq!(new.request.reach.as_ref().unwrap().rows, 4, "it is measured anew");
    assert_eq!(new.request.call.requester, crate::world::requester("bot", "s1"));
    let id = new.request.id.clone();
    // Whoever asks for the first hears of the other, whose author does not approve it.
    let told = world.gate.fetch(&"bot".parse_agent(), &first).await;
    let Answer::Pending(pending) = &told else { panic!("{told:?}") };
    assert_eq!(
        (&pending.approval, pending.changed.as_ref().unwrap().arguments["to"].as_u64()),
        (&id, Some(4))
    );
    assert_eq!(refusal(approve(&world, &id, "ana").await), AnswerRefusal::OwnChange("ana".parse_person()));
    assert_eq!(
        refusal(approve(&world, &id, "owner").await),
        AnswerRefusal::OwnRequest("owner".parse_person())
    );
    assert!(matches!(refusal(approve(&world, &first, "ben").await), AnswerRefusal::NotOpen(_)));
    // A retry of the agent's own call asks nobody anew, before and after.
    assert_eq!(approval(&world.call(&world.update, 0, 40).await), id);
    approve(&world, &id, "ben").await.unwrap();
    let done = world.work().await;
    assert!(matches!(done[..], [Answer::Done(_)]), "{done:?}");
    let retry = world.call_as("bot", "s2", &world.update, 0, 40).await;
    let Answer::Done(done) = &retry else { panic!("{retry:?}") };
    assert_eq!((done.rows, done.changed.as_ref().unwrap().why.as_deref()), (4, Some("fewer")));
    assert_eq!(world.system.effects(), 1);
    let proposed: Vec<_> =
        world.ledger.log().iter().filter(|entry| entry.kind == "call_proposed").map(|e| e.body()).collect();
    let narrowed: Vec<_> = proposed.iter().filter(|body| !body["narrowed"].is_null()).collect();
    assert_eq!(narrowed.len(), 1);
    assert_eq!(
        (&narrowed[0]["narrowed"]["by"], &narrowed[0]["narrowed"]["from"]),
        (&json!("ana"), &json!(first))
    );
    // Long after, the same call is another one.
    world.clock.advance(86_400_000);
    assert!(matches!(world.call(&world.update, 0, 40).await, Answer::Pending(p) if p.approval != id));
}

#[tokio::test]
async fn under_its_idempotency_key_the_agent_hears_of_the_changed_call_and_nothing_runs_twice() {
    let world = World::new(1, 60, Vec::new());
    let first = approval(&world.keyed("s1", "k", &world.update, 0, 40).await);
    let new = narrow(&world, &first, "ana", (0, 4)).await.unwrap().request.id;
    assert_eq!(approval(&world.keyed("s1", "k", &world.update, 0, 40).await), new);
    // Changed once more, by another person, whom the first may countersign.
    let last = narrow(&world, &new, "ben", (0, 2)).await.unwrap().request.id;
    assert_eq!(approval(&world.keyed("s2", "k", &world.update, 0, 40).await), last);
    assert_eq!(refusal(approve(&world, &last, "ben").await), AnswerRefusal::OwnChange("ben".parse_person()));
    approve(&world, &last, "ana").await.unwrap();
    assert!(matches!(world.work().await[..], [Answer::Done(_)]));
    for session in ["s1", "s3"] {
        let told = world.keyed(session, "k", &world.update, 0, 40).await;
        assert!(matches!(&told, Answer::Done(done) if done.rows == 2 && done.repeated), "{told:?}");
    }
    assert_eq!(world.system.effects(), 1);
}

trait ParseAgent {
    fn parse_agent(&self) -> countersign_rules::AgentId;
}

impl ParseAgent for str {
    fn parse_agent(&self) -> countersign_rules::AgentId {
        countersign_rules::AgentId::parse(self).unwrap()
    }
}

#[tokio::test]
async fn a_change_that_does_not_count_leaves_the_request_as_it_was() {
    let world = World::new(1, 900, Vec::new());
    let id = approval(&world.call(&world.delete, 0, 40).await);
    // Forbidden, of no form, the same, somebody else's, refused before, waiting already.
    assert_eq!(code(narrow(&world, &id, "ana", (0, 600)).await), Code::DeniedByPolicy);
    let odd = Narrowing { arguments: json!({ "from": "x" }), why: None };
    assert_eq!(
        code(world.gate.narrow(&*world.delete, &id, &asked("ana"), odd).await),
        Code::InvalidArguments
    );
    assert_eq!(code(narrow(&world, &id, "ana", (0, 40)).await), Code::Malformed);
    let stranger = AskedPerson { id: "eve".parse_person(), groups: BTreeSet::new() };
    let less = || Narrowing { arguments: json!({ "from": 0, "to": 1 }), why: None };
    let strange = world.gate.narrow(&*world.delete, &id, &stranger, less()).await;
    assert!(matches!(refusal(strange), AnswerRefusal::NotAsked { .. }));
    assert!(matches!(refusal(narrow(&world, &id, "owner", (0, 1)).await), AnswerRefusal::OwnRequest(_)));
    let no = world.call(&world.delete, 1, 2).await;
    world.answer(&no, "ana", false).await;
    assert_eq!(code(narrow(&world, &id, "ana", (1, 2)).await), Code::ApprovalRefused);
    let other = approval(&world.call(&world.delete, 2, 3).await);
    assert_eq!(code(narrow(&world, &id, "ana", (2, 3)).await), Code::AnswerRefused);
    // Another tool than the one it is about.
    let undone = world.gate.narrow(&*world.update, &other, &asked("ana"), less()).await;
    assert!(matches!(refusal(undone), AnswerRefusal::NotOpen(ApprovalState::Superseded)));
    assert_eq!(state(&world, &id).await, ApprovalState::Waiting);
    assert_eq!(world.logged("request_ended"), 1);
    // A halted agent's call is not changed either.
    world.gate.halt(countersign_gate::ledger::HaltScope::All, "ana", "stop").await.unwrap();
    assert_eq!(code(narrow(&world, &id, "ana", (0, 1)).await), Code::Halted);
    assert_eq!(state(&world, &id).await, ApprovalState::Waiting);
}

#[tokio::test]
async fn what_the_rules_would_not_ask_about_is_looked_at_all_the_same_and_its_author_counts_for_nothing_else()
{
    let world = World::new(1, 60, Vec::new());
    let tools = [&world.read, &world.note, &world.update, &world.delete];
    let asks = "permit (principal, action == Action::\"update\", resource)";
    let few = "context has reach && context.reach.rows <= 5 && context.session.writes < 1";
    let text = POLICIES.replace(&format!("{asks};"), &format!("{asks} unless {{ {few} }};"));
    let text = format!("{text}\n@id(\"few-updates\") {asks} when {{ {few} }};");
    world.gate.replace_policies(policies(&text, &tools));
    let first = approval(&world.call(&world.update, 0, 40).await);
    let new = narrow(&world, &first, "ana", (0, 4)).await.unwrap();
    assert!(new.request.call.narrowed.as_ref().unwrap().free);
    assert_eq!(world.system.effects(), 0, "nothing runs by the word of whoever wrote it");
    let id = new.request.id;
    approve(&world, &id, "ana").await.unwrap();
    assert!(matches!(world.work().await[..], [Answer::Done(_)]));
    // The rules ask again by the time that it is granted: then its author is nobody.
    let second = approval(&world.call_as("other", "s9", &world.update, 0, 40).await);
    let new = narrow(&world, &second, "ana", (10, 14)).await.unwrap();
    assert!(new.request.call.narrowed.as_ref().unwrap().free);
    approve(&world, &new.request.id, "ana").await.unwrap();
    assert!(matches!(world.call_as("other", "s9", &world.note, 20, 21).await, Answer::Done(_)));
    let asked_again = world.work().await;
    let [Answer::Refused(refused)] = &asked_again[..] else { panic!("{asked_again:?}") };
    assert_eq!(refused.refusal.code, Code::ApprovalSuperseded);
    assert_eq!(world.system.effects(), 2);
}

#[tokio::test]
async fn who_only_takes_away_by_the_word_of_the_tool_and_of_what_is_measured_counts_as_anybody_who_is_asked()
{
    let world = World::new(1, 900, Vec::new());
    let tool = world.delete.narrowing();
    let narrow = async |id: &ApprovalId, (from, to): (u64, u64)| {
        let narrowing = Narrowing { arguments: json!({ "from": from, "to": to }), why: Some("fewer".into()) };
        world.gate.narrow(&*tool, id, &asked("ana"), narrowing).await.unwrap()
    };
    // Two are asked, and she is one of them.
    let first = approval(&world.call(&tool, 0, 40).await);
    let new = narrow(&first, (0, 4)).await;
    assert!(new.request.call.narrowed.as_ref().unwrap().less);
    let id = new.request.id;
    approve(&world, &id, "ana").await.unwrap();
    assert_eq!(state(&world, &id).await, ApprovalState::Waiting, "the rules ask two");
    approve(&world, &id, "ben").await.unwrap();
    assert!(matches!(world.work().await[..], [Answer::Done(_)]));
    assert_eq!(world.system.effects(), 1);
    // A smaller reach by an argument that says nothing of it, and other rows in the place of those that were asked about.
    for (asked, changed) in [((50, 60), (51, 60)), ((70, 80), (69, 79)), ((90, 95), (90, 99))] {
        let other = approval(&world.call(&tool, asked.0, asked.1).await);
        let new = narrow(&other, changed).await.request;
        assert!(!new.call.narrowed.as_ref().unwrap().less, "{changed:?}");
        assert_eq!(
            refusal(approve(&world, &new.id, "ana").await),
            AnswerRefusal::OwnChange("ana".parse_person())
        );
        // Less than what she made of it herself is not less than what the agent asked for.
        let again = narrow(&new.id, (changed.0, changed.1 - 1)).await.request;
        assert!(!again.call.narrowed.as_ref().unwrap().less, "{changed:?}");
        refusal(approve(&world, &again.id, "ana").await);
    }
    // Less and less again is.
    let twice = narrow(&approval(&world.call(&tool, 100, 140).await), (100, 130)).await.request.id;
    assert!(narrow(&twice, (100, 120)).await.request.call.narrowed.unwrap().less);
    // Less by its word, and more than was seen of the first one by now: rows came in between.
    let third = approval(&world.call(&tool, 880, 920).await);
    world.system.rows.lock().unwrap().extend((900..919).map(|id| (id, 0)));
    assert!(!narrow(&third, (880, 919)).await.request.call.narrowed.unwrap().less);
}

#[tokio::test]
async fn no_fault_of_the_ledger_lets_both_calls_run() {
    for seed in 0..40_u64 {
        for fault in [Fault::Lost, Fault::KeptButReportedLost] {
            let world = World::new(seed, 60, Vec::new());
            let first = approval(&world.call(&world.update, 0, 40).await);
            let mut left = seed % 3;
            world.ledger.fail(move |operation| {
                if operation != "park" {
                    return None;
                }
                let now = left == 0;
                left = left.wrapping_sub(1);
                now.then_some(fault)
            });
            for _ in 0..3 {
                if narrow(&world, &first, "ana", (0, 4)).await.is_ok() {
                    break;
                }
            }
            let open = world.ledger.approvals(&[ApprovalState::Waiting], 10).await.unwrap();
            assert_eq!(open.len(), 1, "one of the two waits: {open:?}");
            for record in world.ledger.approvals(&[], 10).await.unwrap() {
                let _late = approve(&world, &record.request.id, "ben").await;
            }
            world.work().await;
            assert_eq!(world.system.effects(), 1);
        }
    }
}

#[tokio::test]
async fn of_a_change_and_an_answer_at_the_same_time_one_counts() {
    for seed in 0..20 {
        let world = World::new(seed, 60, Vec::new());
        let first = approval(&world.call(&world.update, 0, 40).await);
        let (changed, approved, again) = tokio::join!(
            narrow(&world, &first, "ana", (0, 4)),
            approve(&world, &first, "ben"),
            narrow(&world, &first, "cy", (0, 3)),
        );
        let count = [changed.is_ok(), approved.is_ok(), again.is_ok()].iter().filter(|ok| **ok).count();
        assert_eq!(count, 1);
        for record in world.ledger.approvals(&[ApprovalState::Waiting], 10).await.unwrap() {
            approve(&world, &record.request.id, "dee").await.unwrap();
        }
        assert!(matches!(world.work().await[..], [Answer::Done(_)]));
        assert_eq!(world.system.effects(), 1);
    }
}

#[tokio::test]
async fn looking_closer_shows_what_running_it_finds_and_binds_the_approval_to_that() {
    let world = World::new(1, 60, Vec::new());
    *world.system.triggered.lock().unwrap() = Some(7);
    let pending = world.call(&world.update, 0, 4).await;
    let id = approval(&pending);
    assert_eq!(world.ledger.approval(&id).await.unwrap().unwrap().request.reach.unwrap().rows, 4);
    let seen = world.gate.look_closer(&*world.update, &id, &asked("ana")).await.unwrap();
    let reach = seen.request.reach.as_ref().unwrap();
    assert_eq!((reach.rows, reach.rehearsed), (11, true));
    assert_eq!(world.system.effects(), 0);
    assert!(seen.evidence.is_some(), "the rows that were shown before are still");
    assert_eq!(world.logged("looked_closer"), 1);
    assert_eq!(code(world.gate.look_closer(&*world.update, &id, &asked("ben")).await), Code::AnswerRefused);
    approve(&world, &id, "ana").await.unwrap();
    assert!(matches!(world.work().await[..], [Answer::Done(_)]));
    let issued = world.ledger.log().iter().find(|entry| entry.kind == "warrant_issued").unwrap().body();
    assert_eq!(issued["limits"]["rows_max"], 11);
}

#[tokio::test]
async fn what_looking_closer_finds_is_decided_anew() {
    let world = World::new(1, 60, Vec::new());
    let look = async |id: &ApprovalId, person: &str| {
        world.gate.look_closer(&*world.delete, id, &asked(person)).await
    };
    let id = approval(&world.call(&world.delete, 0, 4).await);
    assert_eq!(code(look(&id, "ana").await), Code::ReachUnmeasurable, "its system does not let it");
    *world.system.triggered.lock().unwrap() = Some(600);
    let stranger = AskedPerson { id: "eve".parse_person(), groups: BTreeSet::new() };
    let strange = world.gate.look_closer(&*world.delete, &id, &stranger).await;
    assert!(matches!(refusal(strange), AnswerRefusal::NotAsked { .. }));
    assert!(matches!(refusal(look(&id, "owner").await), AnswerRefusal::OwnRequest(_)));
    // More than 500 rows are forbidden, and nobody can approve them any more.
    let seen = look(&id, "ana").await.unwrap();
    assert_eq!(seen.state, ApprovalState::Superseded);
    assert!(seen.why.unwrap().contains("forbid"));
    assert!(approve(&world, &id, "ana").await.is_err());
    // What somebody has approved stays as it was shown.
    *world.system.triggered.lock().unwrap() = Some(1);
    let id = approval(&world.call(&world.delete, 10, 14).await);
    approve(&world, &id, "ben").await.unwrap();
    assert_eq!(refusal(look(&id, "ana").await), AnswerRefusal::Approved("ben".parse_person()));
    assert_eq!(state(&world, &id).await, ApprovalState::Waiting);
    // A halted agent's call is not run to be looked at.
    let id = approval(&world.call(&world.delete, 20, 24).await);
    world.gate.halt(countersign_gate::ledger::HaltScope::All, "ana", "stop").await.unwrap();
    assert_eq!(code(look(&id, "ana").await), Code::Halted);
    assert_eq!(world.system.effects(), 0);
}
