//! Policies about the action `answer` take away from those who are asked: when they answer, and once more when the call is
//! performed.

use countersign_gate::{
    Answer, AskedPerson, GrantOffer, Narrowing,
    ledger::{ApprovalRecord, Ledger as _, NotAnswered},
};
use countersign_rules::{AnswerVerb, ApprovalId, ApprovalState, GroupName, approval::AnswerRefusal};
use serde_json::json;

use crate::{
    grants,
    world::{ParsePerson as _, World, approval, leads, policies},
};

const ASKS: &str = r#"
@id("reads") permit (principal, action == Action::"read", resource);
@id("writes") @ask("leads") @grant("3 calls in 10m") permit (principal, action == Action::"update", resource);
@id("deletes") @ask("leads") @quorum("2") permit (principal, action == Action::"delete", resource);
"#;

const LARGE: &str = r#"
@id("large") @because("more than ten rows are for seniors")
forbid (principal, action == Action::"answer", resource)
when { context.answer == "approve" && resource has reach && resource.reach.rows > 10 }
unless { principal in Group::"seniors" };
"#;

const GRANTS: &str = r#"
@id("no-grants") forbid (principal, action == Action::"answer", resource) when { context.answer == "grant" };
"#;

const ONLY_ANA: &str = r#"
@id("ana") forbid (principal, action == Action::"answer", resource)
when { context.answer != "refuse" } unless { principal == Person::"ana" };
"#;

const OFFER: GrantOffer = GrantOffer { calls: 2, ms: 600_000 };

fn put(world: &World, text: &str) {
    let tools = [&world.read, &world.note, &world.update, &world.delete];
    world.gate.replace_policies(policies(&format!("{ASKS}{text}"), &tools));
}

/// A world under these policies beside [`ASKS`], in which people's groups are what they were.
fn under(text: &str) -> World {
    grants::world(&format!("{ASKS}{text}")).0
}

async fn says(
    world: &World,
    id: &ApprovalId,
    person: &str,
    approved: bool,
    grant: Option<GrantOffer>,
) -> Result<ApprovalRecord, NotAnswered> {
    world.gate.answer(id, person.parse_person(), leads(), (approved, grant), None, "test").await
}

async fn state(world: &World, id: &ApprovalId) -> ApprovalState {
    world.ledger.approval(id).await.unwrap().unwrap().state
}

fn forbidden(answer: Result<ApprovalRecord, NotAnswered>) -> (AnswerVerb, String) {
    match answer {
        Err(NotAnswered::Refused(AnswerRefusal::Forbidden { verb, policy, .. })) => {
            (verb, policy.to_string())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whom_a_policy_forbids_it_answers_nothing_and_nothing_is_kept_of_it() {
    let world = under(&format!("{LARGE}{GRANTS}"));
    let large = approval(&world.call(&world.update, 0, 11).await);
    let entries = world.ledger.log().len();
    let large_id = "test:large".to_owned();
    assert_eq!(
        forbidden(says(&world, &large, "ben", true, None).await),
        (AnswerVerb::Approve, large_id.clone())
    );
    // Who grants approves, too, and the first that is forbidden is said.
    assert_eq!(
        forbidden(says(&world, &large, "ben", true, Some(OFFER)).await),
        (AnswerVerb::Approve, large_id)
    );
    assert_eq!(state(&world, &large).await, ApprovalState::Waiting);
    assert_eq!(world.ledger.log().len(), entries);
    assert!(world.ledger.approval(&large).await.unwrap().unwrap().signatures.is_empty());
    // Another of the group that is asked, who is in the one that the policy names, too.
    let mut seniors = leads();
    seniors.insert(GroupName::parse("seniors").unwrap());
    world.gate.answer(&large, "eve".parse_person(), seniors, (true, None), None, "test").await.unwrap();
    assert!(matches!(world.work().await[..], [Answer::Done(_)]));

    let small = approval(&world.call(&world.update, 20, 24).await);
    let granting = forbidden(says(&world, &small, "ben", true, Some(OFFER)).await);
    assert_eq!(granting, (AnswerVerb::Grant, "test:no-grants".to_owned()));
    says(&world, &small, "ben", true, None).await.unwrap();
    assert!(matches!(world.work().await[..], [Answer::Done(_)]));
    // Who is not asked at all is told that, and no policy.
    let other = approval(&world.call(&world.update, 30, 45).await);
    let nobody = world.gate.answer(&other, "zoe".parse_person(), [].into(), (true, None), None, "test").await;
    assert!(matches!(nobody, Err(NotAnswered::Refused(AnswerRefusal::NotAsked { .. }))), "{nobody:?}");
    says(&world, &other, "ben", false, None).await.unwrap();
    assert_eq!(state(&world, &other).await, ApprovalState::Refused);
    assert_eq!(world.system.effects(), 2);
}

#[tokio::test]
async fn whom_a_policy_forbids_to_change_a_call_or_to_look_closer_does_neither() {
    let world = under(ONLY_ANA);
    let id = approval(&world.call(&world.update, 0, 11).await);
    let ben = AskedPerson { id: "ben".parse_person(), groups: leads() };
    let fewer = || Narrowing { arguments: json!({ "from": 0, "to": 3 }), why: Some("fewer".into()) };
    let narrowed = world.gate.narrow(&*world.update, &id, &ben, fewer()).await;
    assert_eq!(forbidden(narrowed).0, AnswerVerb::Narrow);
    let looked = world.gate.look_closer(&*world.update, &id, &ben).await;
    assert_eq!(forbidden(looked).0, AnswerVerb::LookCloser);
    let ana = AskedPerson { id: "ana".parse_person(), groups: leads() };
    let new = world.gate.narrow(&*world.update, &id, &ana, fewer()).await.unwrap();
    assert_eq!(forbidden(says(&world, &new.request.id, "ben", true, None).await).0, AnswerVerb::Approve);
}

/// Between an approval and its call the policies changed.
#[tokio::test]
async fn who_may_not_approve_any_more_did_not_when_the_call_is_performed() {
    let world = under("");
    let id = approval(&world.call(&world.update, 0, 4).await);
    says(&world, &id, "ben", true, None).await.unwrap();
    put(&world, ONLY_ANA);
    let performed = world.work().await;
    assert!(!matches!(performed[..], [Answer::Done(_)]), "{performed:?}");
    assert_eq!(world.system.effects(), 0);

    // One of two, who counted when they answered.
    put(&world, "");
    let two = approval(&world.call(&world.delete, 10, 14).await);
    for person in ["ben", "ana"] {
        says(&world, &two, person, true, None).await.unwrap();
    }
    put(&world, ONLY_ANA);
    let performed = world.work().await;
    assert!(!matches!(performed[..], [Answer::Done(_)]), "{performed:?}");
    assert_eq!(world.system.effects(), 0);
}

#[tokio::test]
async fn a_grant_of_whom_a_policy_forbids_it_by_now_covers_nothing() {
    let world = under("");
    let id = approval(&world.call(&world.update, 0, 4).await);
    says(&world, &id, "ben", true, Some(OFFER)).await.unwrap();
    assert!(matches!(world.work().await[..], [Answer::Done(_)]));
    put(&world, GRANTS);
    let asked = world.call(&world.update, 10, 12).await;
    assert!(matches!(asked, Answer::Pending(_)), "{asked:?}");
    put(&world, "");
    let covered = world.call(&world.update, 20, 22).await;
    assert!(matches!(covered, Answer::Done(_)), "{covered:?}");
    assert_eq!(world.system.effects(), 2);
}
