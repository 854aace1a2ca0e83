//! What people grant beside an approval covers calls like the one they looked at, so many, and nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use countersign_gate::{
    Answer, GrantOffer, Signers,
    ledger::{ApprovalRecord, Ledger as _, LedgerFault, NotAnswered},
    simulation::Fault,
};
use countersign_rules::{
    ApprovalId, Code,
    approval::{AnswerRefusal, ApprovalState},
};
use futures::{FutureExt as _, future::BoxFuture};

use crate::world::{ParsePerson as _, RowTool, Trouble, World, approval, leads, policies};

const MINUTE: u64 = 60_000;
const OFFER: GrantOffer = GrantOffer { calls: 3, ms: 10 * MINUTE };

const GRANTABLE: &str = r#"
@id("reads")
permit (principal, action == Action::"read", resource);
@id("notes")
permit (principal, action == Action::"note", resource);
@id("writes")
@ask("leads") @grant("3 calls in 10m")
permit (principal, action == Action::"update", resource);
@id("deletes")
@ask("leads") @quorum("2") @grant("5 calls in 1h")
permit (principal, action == Action::"delete", resource);
@id("too-many")
forbid (principal, action, resource) when { context has reach && context.reach.rows > 20 };
"#;

/// People count as long as this says so.
struct Asked(Arc<AtomicBool>);

impl Signers for Asked {
    fn still_approve<'a>(&'a self, _record: &'a ApprovalRecord) -> BoxFuture<'a, Result<bool, LedgerFault>> {
        let count = self.0.load(Ordering::Relaxed);
        async move { Ok(count) }.boxed()
    }
}

/// A world under these policies, and whether its signers count.
pub(crate) fn world(text: &str) -> (World, Arc<AtomicBool>) {
    let world = World::new(1, 60, Vec::new());
    world.gate.replace_policies(policies(text, &[&world.read, &world.note, &world.update, &world.delete]));
    let count = Arc::new(AtomicBool::new(true));
    world.gate.ask_signers(Arc::new(Asked(Arc::clone(&count))));
    (world, count)
}

async fn approve(
    world: &World,
    id: &ApprovalId,
    person: &str,
    grant: Option<GrantOffer>,
) -> Result<ApprovalRecord, NotAnswered> {
    world.gate.answer(id, person.parse_person(), leads(), (true, grant), None, "test").await
}

/// Has a call of rows `from..to` approved and performed, with a grant beside it.
async fn granted(world: &World, tool: &Arc<RowTool>, (from, to): (u64, u64), people: &[&str]) -> ApprovalId {
    let pending = world.call(tool, from, to).await;
    let id = approval(&pending);
    for person in people {
        approve(world, &id, person, Some(OFFER)).await.unwrap();
    }
    let done = world.work().await;
    assert!(matches!(done[..], [Answer::Done(_)]), "{done:?}");
    id
}

async fn left(world: &World, id: &ApprovalId) -> u32 {
    world.ledger.approval(id).await.unwrap().unwrap().grant.unwrap().left
}

#[tokio::test]
async fn a_grant_covers_so_many_calls_like_it_and_the_log_says_by_which() {
    let (world, _count) = world(GRANTABLE);
    let id = granted(&world, &world.update, (0, 4), &["ana"]).await;
    for (at, rows) in [(10, 4), (20, 1), (30, 3)] {
        let answer = world.call(&world.update, at, at + rows).await;
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    }
    assert_eq!(left(&world, &id).await, 0);
    assert_eq!(world.system.effects(), 4);
    assert!(matches!(world.call(&world.update, 40, 41).await, Answer::Pending(_)), "nothing is left");
    assert_eq!(world.logged("grant_given"), 1);
    let under: Vec<_> = world
        .ledger
        .log()
        .iter()
        .filter(|entry| entry.kind == "warrant_issued")
        .map(|entry| entry.body()["grant"].clone())
        .collect();
    assert_eq!(under[1..], vec![serde_json::json!(id); 3]);
    let decided = world.ledger.log().iter().rfind(|entry| entry.kind == "decided").unwrap().body();
    assert_eq!(decided["decision"]["answer"], "ask");
}

#[tokio::test]
async fn nothing_but_calls_like_it_is_covered() {
    let (world, count) = world(GRANTABLE);
    let id = granted(&world, &world.update, (0, 4), &["ana"]).await;
    let asks = |answer: &Answer| matches!(answer, Answer::Pending(_));
    // Further than what was looked at; another session, agent, tool; a tool that has changed.
    assert!(asks(&world.call(&world.update, 10, 15).await));
    assert!(asks(&world.call_as("bot", "s2", &world.update, 10, 11).await));
    assert!(asks(&world.call_as("other", "s1", &world.update, 10, 11).await));
    assert!(asks(&world.call(&world.delete, 10, 11).await));
    // What a policy forbids stays forbidden.
    let refused = world.call(&world.update, 10, 40).await;
    assert!(
        matches!(refused, Answer::Refused(ref r) if r.refusal.code == Code::DeniedByPolicy),
        "{refused:?}"
    );
    // Those who granted it may no longer approve.
    count.store(false, Ordering::Relaxed);
    assert!(asks(&world.call(&world.update, 20, 21).await));
    count.store(true, Ordering::Relaxed);
    assert_eq!(left(&world, &id).await, 3);
    // A policy that concerns it has changed.
    let tools = [&world.read, &world.note, &world.update, &world.delete];
    let other = GRANTABLE.replace("3 calls in 10m", "3 calls in 9m");
    world.gate.replace_policies(policies(&other, &tools));
    assert!(asks(&world.call(&world.update, 30, 31).await));
    world.gate.replace_policies(policies(GRANTABLE, &tools));
    assert!(matches!(world.call(&world.update, 32, 33).await, Answer::Done(_)));
    // Its time is over.
    world.clock.advance(i64::try_from(OFFER.ms).unwrap());
    assert!(asks(&world.call(&world.update, 34, 35).await));
    assert_eq!(left(&world, &id).await, 2);
}

#[tokio::test]
async fn whom_nobody_can_ask_about_signers_no_grant_covers() {
    let world = World::new(1, 60, Vec::new());
    world
        .gate
        .replace_policies(policies(GRANTABLE, &[&world.read, &world.note, &world.update, &world.delete]));
    granted(&world, &world.update, (0, 4), &["ana"]).await;
    assert!(matches!(world.call(&world.update, 10, 11).await, Answer::Pending(_)));
}

#[tokio::test]
async fn one_who_grants_nothing_leaves_nothing_granted() {
    let (world, _count) = world(GRANTABLE);
    let pending = world.call(&world.delete, 0, 4).await;
    approve(&world, &approval(&pending), "ana", Some(OFFER)).await.unwrap();
    let record = approve(&world, &approval(&pending), "ben", None).await.unwrap();
    assert_eq!((record.state, record.grant), (ApprovalState::Approved, None));
    world.work().await;
    assert!(matches!(world.call(&world.delete, 10, 11).await, Answer::Pending(_)));
    // Both do, and the smaller offer counts.
    let pending = world.call(&world.delete, 20, 24).await;
    let id = approval(&pending);
    approve(&world, &id, "ana", Some(GrantOffer { calls: 1, ms: 30 * MINUTE })).await.unwrap();
    let record = approve(&world, &id, "ben", Some(OFFER)).await.unwrap();
    let terms = record.grant.unwrap().terms;
    assert_eq!((terms.calls, terms.until_ms), (1, record.signatures[1].at_ms + 10 * 60_000));
    world.work().await;
    assert!(matches!(world.call(&world.delete, 30, 33).await, Answer::Done(_)));
    assert!(matches!(world.call(&world.delete, 33, 34).await, Answer::Pending(_)));
}

#[tokio::test]
async fn more_than_every_policy_allows_is_not_granted_and_nothing_is_approved() {
    let (world, _count) = world(GRANTABLE);
    let id = approval(&world.call(&world.update, 0, 4).await);
    for offer in [
        GrantOffer { calls: 4, ..OFFER },
        GrantOffer { calls: 0, ..OFFER },
        GrantOffer { ms: 10 * MINUTE + 1, ..OFFER },
        GrantOffer { ms: 0, ..OFFER },
        GrantOffer { calls: u32::MAX, ms: u64::MAX },
    ] {
        let refused = approve(&world, &id, "ana", Some(offer)).await.unwrap_err();
        assert!(matches!(refused, NotAnswered::Refused(AnswerRefusal::NotGrantable(_))), "{refused:?}");
    }
    // Nor with a refusal, nor where one of those that ask allows none.
    let with_no =
        world.gate.answer(&id, "ana".parse_person(), leads(), (false, Some(OFFER)), None, "test").await;
    assert!(matches!(with_no, Err(NotAnswered::Refused(AnswerRefusal::NotGrantable(_)))), "{with_no:?}");
    assert_eq!(world.ledger.approval(&id).await.unwrap().unwrap().state, ApprovalState::Waiting);
    let beside =
        format!("{GRANTABLE}\n@ask(\"leads\") permit (principal, action == Action::\"update\", resource);");
    world.gate.replace_policies(policies(&beside, &[&world.read, &world.note, &world.update, &world.delete]));
    let id = approval(&world.call(&world.update, 0, 5).await);
    let refused = approve(&world, &id, "ana", Some(OFFER)).await.unwrap_err();
    assert!(matches!(refused, NotAnswered::Refused(AnswerRefusal::NotGrantable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_grant_that_a_person_ends_covers_nothing_more() {
    let (world, _count) = world(GRANTABLE);
    let id = granted(&world, &world.update, (0, 4), &["ana"]).await;
    let record = world.ledger.approval(&id).await.unwrap().unwrap();
    assert!(world.gate.end_grant(&record, "ben".parse_person(), "enough").await.unwrap());
    assert!(!world.gate.end_grant(&record, "ana".parse_person(), "again").await.unwrap());
    assert!(matches!(world.call(&world.update, 10, 11).await, Answer::Pending(_)));
    assert_eq!((world.logged("grant_ended"), left(&world, &id).await), (1, 3));
}

#[tokio::test]
async fn calls_at_once_share_what_is_left_and_the_rest_ask() {
    let (world, _count) = world(GRANTABLE);
    let id = granted(&world, &world.update, (0, 4), &["ana"]).await;
    let calls = (0..12_u64).map(|n| world.call(&world.update, 10 + n, 11 + n));
    let answers = futures::future::join_all(calls).await;
    let done = answers.iter().filter(|answer| matches!(answer, Answer::Done(_))).count();
    let asked = answers.iter().filter(|answer| matches!(answer, Answer::Pending(_))).count();
    assert_eq!((done, asked, left(&world, &id).await), (3, 9, 0), "{answers:?}");
}

#[tokio::test]
async fn a_call_that_fails_or_reaches_too_far_has_taken_its_share() {
    let (world, _count) = world(GRANTABLE);
    let id = granted(&world, &world.update, (0, 4), &["ana"]).await;
    world.system.trouble.lock().unwrap().push(Trouble::Fails);
    let failed = world.call(&world.update, 10, 11).await;
    assert!(matches!(failed, Answer::Refused(_)), "{failed:?}");
    assert_eq!(left(&world, &id).await, 2);
    // Somebody else's row comes between measuring and acting: rolled back, and then for people to look at.
    world.system.trouble.lock().unwrap().push(Trouble::Elsewhere);
    let elsewhere = world.call(&world.update, 20, 24).await;
    assert!(!matches!(elsewhere, Answer::Done(_)), "{elsewhere:?}");
    assert_eq!(left(&world, &id).await, 1);
}

#[tokio::test]
async fn no_fault_of_the_ledger_spends_a_grant_twice_or_performs_beyond_it() {
    for seed in 0..60_u64 {
        for fault in [Fault::Lost, Fault::KeptButReportedLost] {
            let (world, _count) = world(GRANTABLE);
            let id = granted(&world, &world.update, (0, 4), &["ana"]).await;
            let before = world.system.effects();
            let steps = std::sync::atomic::AtomicU64::new(0);
            world.ledger.fail(move |_operation| {
                (steps.fetch_add(1, Ordering::Relaxed) % 7 == seed % 7).then_some(fault)
            });
            for n in 0..6 {
                let _any = world.call(&world.update, 10 + n * 2 + seed % 2, 11 + n * 2 + seed % 2).await;
            }
            world.ledger.heal();
            let done = u32::try_from(world.system.effects() - before).unwrap();
            let spent = 3 - left(&world, &id).await;
            assert!(done <= spent, "{done} effects under {spent} of the grant (seed {seed}, {fault:?})");
            let issued = world
                .ledger
                .log()
                .iter()
                .filter(|entry| entry.body()["grant"] == serde_json::json!(id))
                .count();
            assert_eq!(u32::try_from(issued).unwrap(), spent, "seed {seed}, {fault:?}");
        }
    }
}
