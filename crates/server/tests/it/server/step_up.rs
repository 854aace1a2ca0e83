//! Approvals that a policy wants confirmed with a passkey: nothing else approves, at no door.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{
    authenticator::Passkey,
    console::{Browser, Page},
    rig::Rig,
};
use crate::place::{Place, on_either_store};

on_either_store!(async an_approval_is_confirmed_with_a_passkey_and_by_nothing_else);

const POLICIES: &str = r#"
@id("careful") @ask("approvers") @step_up("passkey") @grant("3 calls in 10m")
permit (principal, action == Action::"add_note", resource);
"#;

impl Browser<'_> {
    /// Approves a request on its page, as the script does: asks for what is to be signed, and sends that along.
    async fn confirm(
        &self,
        approval: &str,
        key: &Passkey,
        said: &[(&str, &str)],
        sent: &[(&str, &str)],
    ) -> Page {
        let path = format!("/console/requests/{approval}");
        let page = self.get(&path).await;
        let (token, digest) = (page.field("form_token"), page.field("digest"));
        let mut form = vec![("form_token", token.as_str()), ("digest", &digest)];
        form.extend(said);
        let asked = self.options(&format!("{path}/confirm"), &form).await;
        let signed = key.get(&asked);
        let mut form = vec![("form_token", token.as_str()), ("digest", &digest)];
        form.extend([("sealed", asked["sealed"].as_str().unwrap()), ("said", &signed)]);
        form.extend(sent);
        self.send(Method::POST, &format!("{path}/approve"), &form).await
    }
}

async fn an_approval_is_confirmed_with_a_passkey_and_by_nothing_else(place: Place) {
    let rig = Rig::more(place, "", POLICIES).await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let approval = rig.ask("add_note", json!({ "text": "quince" })).await;
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    assert_eq!(shown["step_up"], "more:careful", "{shown}");
    // By a key, which is what the command line and programs have.
    let (status, body) = rig.post("alice", &format!("/v1/approvals/{approval}/approve"), json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    let text = body.to_string();
    assert!(
        text.contains("more:careful") && text.contains(&format!("/console/requests/{approval}")),
        "{text}"
    );
    // In the console without a passkey; and whoever has none is told.
    let page = alice.answer(&approval, "approve", &[]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.text);
    assert!(page.text.contains("more:careful"), "{}", page.text);
    let path = format!("/console/requests/{approval}");
    let page = alice.get(&path).await;
    let form = [("form_token", page.field("form_token")), ("digest", page.field("digest"))];
    let form = form.each_ref().map(|(name, value)| (*name, value.as_str()));
    let page = alice.send(Method::POST, &format!("{path}/confirm/options"), &form).await;
    assert!(page.status == StatusCode::NOT_FOUND && page.text.contains("no passkey yet"), "{}", page.text);

    let mut key = Passkey::new(-8);
    alice.add(&mut key).await;
    // What was signed is good for what was said when it was asked for: not for a grant, a remark, another request or person.
    let grant = [("grant_calls", "3"), ("grant_minutes", "10")];
    let other = rig.ask("add_note", json!({ "text": "medlar" })).await;
    for sent in [&grant[..], &[("comment", "fine")]] {
        let page = alice.confirm(&approval, &key, &[], sent).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.text);
    }
    let owner = Browser::signed_in(&rig, "owner", "cli").await;
    let asked = alice.options(&format!("{path}/confirm"), &form).await;
    let (sealed, signed) = (asked["sealed"].as_str().unwrap(), key.get(&asked));
    for (browser, request) in [(&alice, &other), (&owner, &approval)] {
        let page = browser.answer(request, "approve", &[("sealed", sealed), ("said", &signed)]).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.text);
    }
    // A passkey of somebody else, one that signed something else, and a sign-in.
    let mut stranger = Passkey::new(-8);
    Browser::signed_in(&rig, "bob", "cli").await.add(&mut stranger).await;
    let page = alice.confirm(&approval, &stranger, &[], &[]).await;
    assert!(page.status == StatusCode::FORBIDDEN && page.text.contains("another passkey"), "{}", page.text);
    let signing_in = alice.options("/console/passkey/sign-in", &[]).await;
    let said = key.get(&signing_in);
    let form = [("sealed", signing_in["sealed"].as_str().unwrap()), ("said", said.as_str())];
    let page = alice.answer(&approval, "approve", &form).await;
    assert!(page.text.contains("not begun here"), "{}", page.text);
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    assert_eq!((&shown["state"], &shown["signatures"]), (&json!("waiting"), &json!([])), "{shown}");
    assert_eq!(rig.count("select count(*) from note where text = 'quince'"), 0);

    // Confirmed, with a grant; the record and the log say by which passkey.
    let page = alice.confirm(&approval, &key, &grant, &grant).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    assert_eq!(rig.result(&approval).await.0, StatusCode::OK);
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    let id = countersign_audit::sha256(&key.credential).to_string();
    assert_eq!(shown["signatures"][0]["passkey"], id, "{shown}");
    let (_, log) = rig.get("alice", "/v1/log/entries?kind=answered").await;
    assert!(log.to_string().contains(&id), "{log}");
    assert_eq!(rig.call("add_note", json!({ "text": "sorb" })).await.0, StatusCode::OK, "under the grant");
    // What was signed once is spent; refusing needs no passkey.
    let page = alice.answer(&other, "approve", &[("sealed", sealed), ("said", &signed)]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert_eq!(alice.answer(&other, "refuse", &[("reason", "no")]).await.status, StatusCode::SEE_OTHER);
}
