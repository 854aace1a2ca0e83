//! Policies about the action `answer`, over the real server: whom they forbid it answers at no door, and none offers it.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{console::Browser, rig::Rig};
use crate::place::{Place, on_either_store};

on_either_store!(async
    whom_a_policy_forbids_it_answers_at_no_door,
    who_may_not_approve_any_more_did_not_and_the_agent_is_told,
);

const POLICIES: &str = r#"
@id("notes") @ask("approvers") @grant("3 calls in 10m") permit (principal, action == Action::"add_note", resource);
@id("large") @because("deletes are for the owner")
forbid (principal, action == Action::"answer", resource)
when { resource.effect == "destructive" && context.answer != "refuse" } unless { principal == Person::"owner" };
@id("grants") forbid (principal, action == Action::"answer", resource) when { context.answer == "grant" };
"#;

async fn refused(rig: &Rig, who: &str, path: &str, body: Value) -> String {
    let (status, body) = rig.post(who, path, body).await;
    assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R019")), "{path}: {body}");
    body["detail"].as_str().unwrap().to_owned()
}

async fn whom_a_policy_forbids_it_answers_at_no_door(place: Place) {
    let rig = Rig::more(place, "", POLICIES).await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let approval = rig.ask("delete_item", json!({ "id": 1 })).await;
    let path = format!("/v1/approvals/{approval}");
    let change = json!({ "arguments": { "id": 2 }, "reason": "the other" });
    for (verb, body) in [("approve", json!({})), ("narrow", change), ("look-closer", json!({}))] {
        let told = refused(&rig, "alice", &format!("{path}/{verb}"), body).await;
        assert!(told.contains("more:large") && told.contains("deletes are for the owner"), "{verb}: {told}");
    }
    // The page says so in place of the buttons, and what is sent all the same counts no more.
    let page = alice.get(&format!("/console/requests/{approval}")).await;
    assert!(page.text.contains("You cannot approve this"), "{}", page.text);
    assert!(page.text.contains("deletes are for the owner"), "{}", page.text);
    for gone in ["approve\"", "narrow\"", "look-closer\""] {
        assert!(
            !page.text.contains(&format!("/console/requests/{approval}/{gone}")),
            "{gone}: {}",
            page.text
        );
    }
    let digest = rig.get("alice", &path).await.1["digest"].as_str().unwrap().to_owned();
    let token = page.field("form_token");
    let form = [("form_token", token.as_str()), ("digest", &digest)];
    let sent = alice.send(Method::POST, &format!("/console/requests/{approval}/approve"), &form).await;
    assert!(sent.status == StatusCode::FORBIDDEN && sent.text.contains("more:large"), "{}", sent.text);
    // Nor does one answer to several.
    let at = format!("/console/requests/{approval}/alike");
    let page = alice.get(&at).await;
    assert!(page.text.contains("you cannot approve it") && !page.text.contains(" checked"), "{}", page.text);
    let form = [("form_token", token.as_str()), ("answer", "approve"), (&approval, &digest)];
    let sent = alice.send(Method::POST, &at, &form).await;
    assert!(sent.text.contains("Approved: 0 of 1") && sent.text.contains("more:large"), "{}", sent.text);
    assert_eq!(rig.get("alice", &path).await.1["state"], "waiting");
    assert_eq!(rig.count("select count(*) from item"), 3);

    // What it leaves open stays open: another person's approval, and everybody's refusal.
    let other = rig.ask("delete_item", json!({ "id": 2 })).await;
    let no = json!({ "reason": "keep it" });
    assert_eq!(rig.post("alice", &format!("/v1/approvals/{other}/refuse"), no).await.0, StatusCode::OK);

    // A grant is forbidden, and what it stands beside is not.
    let note = rig.ask("add_note", json!({ "text": "quince" })).await;
    let page = alice.get(&format!("/console/requests/{note}")).await;
    assert!(!page.text.contains("Grant more calls"), "{}", page.text);
    let grant = json!({ "grant": { "calls": 2, "seconds": 60 } });
    let approve = format!("/v1/approvals/{note}/approve");
    assert!(refused(&rig, "alice", &approve, grant).await.contains("more:grants"));
    assert_eq!(rig.post("alice", &approve, json!({})).await.0, StatusCode::OK);
    assert_eq!(rig.result(&note).await.0, StatusCode::OK);
}

/// One of two approved, and a new policy forbids it before the other does.
async fn who_may_not_approve_any_more_did_not_and_the_agent_is_told(place: Place) {
    let two = r#"@id("notes") @ask("approvers") @quorum("2") permit (principal, action == Action::"add_note", resource);"#;
    let main = super::rig::MAIN.replace("on_behalf_of = \"owner\"\n", "");
    let mut rig = Rig::made(place, &main).await;
    rig.stop().await;
    rig.deployment.write("policies/more.cedar", two);
    rig.start().await;
    let approval = rig.ask("add_note", json!({ "text": "quince" })).await;
    let path = format!("/v1/approvals/{approval}/approve");
    assert_eq!(rig.post("alice", &path, json!({})).await.0, StatusCode::OK);
    rig.stop().await;
    let forbids =
        r#"@id("not-she") forbid (principal == Person::"alice", action == Action::"answer", resource);"#;
    rig.deployment.write("policies/answers.cedar", forbids);
    rig.start().await;
    let (status, body) = rig.post("owner", &path, json!({})).await;
    assert_eq!(status, StatusCode::OK, "what waited goes on waiting: {body}");
    let (status, told) = rig.result(&approval).await;
    assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &json!("R011")), "{told}");
    assert!(told.to_string().contains("may no longer approve"), "{told}");
    assert_eq!(rig.count("select count(*) from note where text = 'quince'"), 0);
}
