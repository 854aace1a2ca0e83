//! What people grant beside an approval, over the real server: what it covers, who sees it, and when it ends.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{console::Browser, rig::Rig};
use crate::place::{Place, on_either_store};

on_either_store!(async
    a_grant_lets_calls_like_it_run_until_it_is_used_up,
    a_grant_ends_with_its_signer_and_when_somebody_ends_it,
);

/// A server whose policy that asks allows grants.
async fn rig(place: Place) -> Rig {
    let mut rig = Rig::on(place).await;
    let path = rig.deployment.at("policies/test.cedar");
    let text = std::fs::read_to_string(&path).unwrap();
    let asks = "@ask(\"approvers\")";
    assert!(text.contains(asks));
    let grants = text.replace(asks, "@ask(\"approvers\") @grant(\"3 calls in 10m\")");
    std::fs::write(&path, grants).unwrap();
    rig.stop().await;
    rig.start().await;
    rig
}

async fn granted(rig: &Rig, name: &str) -> String {
    let approval = rig.ask("add_item", json!({ "name": name })).await;
    let body = json!({ "grant": { "calls": 2, "seconds": 600 } });
    let (status, body) = rig.post("alice", &format!("/v1/approvals/{approval}/approve"), body).await;
    assert_eq!((status, &body["grant"]["left"]), (StatusCode::OK, &json!(2)), "{body}");
    assert_eq!(rig.result(&approval).await.0, StatusCode::OK);
    approval
}

async fn grants(rig: &Rig, who: &str) -> Vec<Value> {
    let (status, body) = rig.get(who, "/v1/grants").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["grants"].as_array().unwrap().clone()
}

async fn a_grant_lets_calls_like_it_run_until_it_is_used_up(place: Place) {
    let mut rig = rig(place).await;
    let approval = rig.ask("add_item", json!({ "name": "fig" })).await;
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    assert_eq!(shown["grantable"], json!({ "calls": 3, "seconds": 600 }), "{shown}");
    // More than the policy allows is refused, and nothing is approved.
    for grant in [json!({ "calls": 4, "seconds": 600 }), json!({ "calls": 1, "seconds": 601 })] {
        let path = format!("/v1/approvals/{approval}/approve");
        let (status, body) = rig.post("alice", &path, json!({ "grant": grant })).await;
        assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R019")), "{body}");
        assert!(
            body["detail"].as_str().unwrap_or_default().contains("1 to 3 calls")
                || body.to_string().contains("1 to 3 calls"),
            "{body}"
        );
    }
    let approval = granted(&rig, "quince").await;
    assert_eq!(grants(&rig, "alice").await[0]["approval"], json!(approval));
    assert!(grants(&rig, "bob").await.is_empty(), "bob is asked nothing");
    let (status, body) = rig.call("add_item", json!({ "name": "medlar" })).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("done")), "{body}");
    // Another agent's, another tool's: people are asked.
    let other = json!({ "tool": "add_item", "arguments": { "name": "sloe" } });
    assert_eq!(rig.post("other", "/v1/calls", other).await.0, StatusCode::ACCEPTED);
    assert_eq!(rig.call("delete_item", json!({ "id": 1 })).await.0, StatusCode::ACCEPTED);
    rig.stop().await;
    rig.start().await;
    assert_eq!(grants(&rig, "alice").await[0]["grant"]["left"], json!(1));
    let (status, _) = rig.call("add_item", json!({ "name": "rowan" })).await;
    assert_eq!(status, StatusCode::OK);
    assert!(grants(&rig, "alice").await.is_empty());
    assert_eq!(rig.call("add_item", json!({ "name": "damson" })).await.0, StatusCode::ACCEPTED);
    assert_eq!(rig.count("select count(*) from item where name in ('quince', 'medlar', 'rowan')"), 3);
    assert_eq!(rig.count("select count(*) from item where name in ('sloe', 'damson')"), 0);
    // The agent's own person grants nothing, and neither does an agent.
    let asked = rig.ask("add_item", json!({ "name": "plum" })).await;
    let body = json!({ "grant": { "calls": 1, "seconds": 60 } });
    let path = format!("/v1/approvals/{asked}/approve");
    for (who, status) in [("owner", StatusCode::FORBIDDEN), ("clerk", StatusCode::FORBIDDEN)] {
        assert_eq!(rig.post(who, &path, body.clone()).await.0, status, "{who}");
    }
}

async fn a_grant_ends_with_its_signer_and_when_somebody_ends_it(place: Place) {
    let mut rig = rig(place).await;
    let approval = granted(&rig, "quince").await;
    let end = format!("/v1/approvals/{approval}/grant/end");
    let why = json!({ "reason": "enough of them" });
    assert_eq!(rig.post("bob", &end, why.clone()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(rig.post("alice", &end, json!({ "reason": " " })).await.0, StatusCode::BAD_REQUEST);
    let (status, body) = rig.post("owner", &end, why.clone()).await;
    assert_eq!((status, &body["grant"]["ended_by"]), (StatusCode::OK, &json!("owner")), "{body}");
    assert_eq!(rig.post("alice", &end, why).await.0, StatusCode::NOT_FOUND, "it has ended already");
    assert_eq!(rig.call("add_item", json!({ "name": "medlar" })).await.0, StatusCode::ACCEPTED);

    let second = granted(&rig, "rowan").await;
    assert_eq!(rig.call("add_item", json!({ "name": "hazel" })).await.0, StatusCode::OK);
    // At once, and without anybody ending it.
    rig.revoke("owner", "alice").await;
    let (status, body) = rig.call("add_item", json!({ "name": "sorb" })).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let (_, shown) = rig.get("owner", &format!("/v1/approvals/{second}")).await;
    assert_eq!(shown["grant"]["left"], json!(1), "{shown}");
    rig.stop().await;
    rig.start().await;
}

#[tokio::test]
async fn the_console_grants_and_ends_what_was_granted() {
    let rig = rig(Place::sqlite()).await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let page = alice.get(&format!("/console/requests/{approval}")).await;
    assert!(page.text.contains("At most 3 calls, in 10 minutes"), "{}", page.text);
    for wrong in [("grant_calls", "4"), ("grant_calls", "many"), ("grant_calls", "-1")] {
        let form = [wrong, ("grant_minutes", "10")];
        let refused = alice.answer(&approval, "approve", &form).await;
        assert!(refused.status.is_client_error(), "{wrong:?}: {}", refused.text);
    }
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    assert_eq!(shown["state"], "waiting");
    let form = [("grant_calls", "2"), ("grant_minutes", "10")];
    let answered = alice.answer(&approval, "approve", &form).await;
    assert_eq!(answered.status, StatusCode::SEE_OTHER, "{}", answered.text);
    assert_eq!(rig.result(&approval).await.0, StatusCode::OK);
    assert_eq!(rig.call("add_item", json!({ "name": "<b>" })).await.0, StatusCode::OK);
    let page = alice.get("/console/grants").await;
    assert!(page.text.contains("<strong>1</strong> of 2 calls"), "{}", page.text);
    let form = [("form_token", page.field("form_token")), ("reason", "<i>enough".to_owned())];
    let form = form.each_ref().map(|(name, value)| (*name, value.as_str()));
    let ended = alice.send(Method::POST, &format!("/console/requests/{approval}/end-grant"), &form).await;
    assert_eq!(ended.status, StatusCode::SEE_OTHER, "{}", ended.text);
    assert!(alice.get("/console/grants").await.text.contains("Nothing is granted now"));
    let page = alice.get(&format!("/console/requests/{approval}")).await;
    assert!(page.text.contains("ended by") && page.text.contains("&#60;i&#62;enough"), "{}", page.text);
    assert_eq!(rig.call("add_item", json!({ "name": "sorb" })).await.0, StatusCode::ACCEPTED);
}
