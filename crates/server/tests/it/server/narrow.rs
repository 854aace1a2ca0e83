//! A person who is asked changes a call or looks closer at it, over the real server: by REST, in the console, across a restart.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{console::Browser, rig::Rig};
use crate::place::{Place, on_either_store};

on_either_store!(async
    a_changed_call_runs_in_place_of_the_agent_s_once_others_approve_it,
    a_call_is_run_and_rolled_back_for_whoever_is_asked_and_only_then_approved,
    who_only_takes_away_may_approve_what_is_left,
);

/// Asks as the agent for whom every approver may answer.
async fn ask(rig: &Rig, tool: &str, arguments: Value) -> String {
    let (status, body) =
        rig.post("other", "/v1/calls", json!({ "tool": tool, "arguments": arguments })).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    body["approval"].as_str().unwrap().to_owned()
}

async fn narrow(rig: &Rig, who: &str, approval: &str, arguments: Value) -> (StatusCode, Value) {
    let body = json!({ "arguments": arguments, "reason": "one is enough" });
    rig.post(who, &format!("/v1/approvals/{approval}/narrow"), body).await
}

async fn result(rig: &Rig, approval: &str) -> (StatusCode, Value) {
    rig.get("other", &format!("/v1/approvals/{approval}/result?wait_ms=5000")).await
}

async fn a_changed_call_runs_in_place_of_the_agent_s_once_others_approve_it(place: Place) {
    let mut rig = Rig::on(place).await;
    let first = ask(&rig, "add_item", json!({ "name": "figs" })).await;
    let path = format!("/v1/approvals/{first}/narrow");
    // Nobody who is not asked, nothing without a reason, nothing of another form, nothing that says more than it may.
    assert_eq!(narrow(&rig, "bob", &first, json!({ "name": "fig" })).await.0, StatusCode::NOT_FOUND);
    assert_eq!(narrow(&rig, "clerk", &first, json!({ "name": "fig" })).await.0, StatusCode::FORBIDDEN);
    let silent = json!({ "arguments": { "name": "fig" }, "reason": " " });
    assert_eq!(rig.post("alice", &path, silent).await.0, StatusCode::BAD_REQUEST);
    let (status, body) = narrow(&rig, "alice", &first, json!({ "name": 7 })).await;
    assert_eq!((status, &body["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("R002")), "{body}");
    let more = json!({ "arguments": { "name": "fig" }, "reason": "x", "tool": "delete_item" });
    assert_eq!(rig.post("alice", &path, more).await.0, StatusCode::BAD_REQUEST);
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{first}")).await;
    assert_eq!(shown["state"], "waiting", "{shown}");

    let (status, asked) = narrow(&rig, "alice", &first, json!({ "name": "fig" })).await;
    assert_eq!(status, StatusCode::OK, "{asked}");
    let second = asked["approval"].as_str().unwrap().to_owned();
    assert_eq!((&asked["narrowed"]["by"], &asked["narrowed"]["from"]), (&json!("alice"), &json!(first)));
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{first}")).await;
    assert_eq!((&shown["state"], &shown["narrowed_to"]), (&json!("superseded"), &json!(second)), "{shown}");
    rig.stop().await;
    rig.start().await;
    let (status, body) = rig.post("alice", &format!("/v1/approvals/{second}/approve"), json!({})).await;
    assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R019")), "{body}");
    assert!(body.to_string().contains("others have to approve it"), "{body}");
    let (status, told) = rig.get("other", &format!("/v1/approvals/{first}/result")).await;
    assert_eq!((status, &told["approval"]), (StatusCode::ACCEPTED, &json!(second)), "{told}");
    assert_eq!(told["changed"], json!({ "arguments": { "name": "fig" }, "because": "one is enough" }));
    let (status, _) = rig.post("owner", &format!("/v1/approvals/{second}/approve"), json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let (status, done) = result(&rig, &first).await;
    assert_eq!((status, &done["status"]), (StatusCode::OK, &json!("done")), "{done}");
    assert_eq!(done["changed"]["arguments"], json!({ "name": "fig" }), "{done}");
    // The very call that the agent proposed is a retry, and hears the same.
    let again = json!({ "tool": "add_item", "arguments": { "name": "figs" } });
    let (status, again) = rig.post("other", "/v1/calls", again).await;
    assert_eq!((status, &again["changed"]["arguments"]["name"]), (StatusCode::OK, &json!("fig")), "{again}");
    assert_eq!(rig.count("select count(*) from item where name = 'fig'"), 1);
    assert_eq!(rig.count("select count(*) from item where name = 'figs'"), 0);
    rig.stop().await;
    rig.start().await;
}

async fn a_call_is_run_and_rolled_back_for_whoever_is_asked_and_only_then_approved(place: Place) {
    let mut rig = Rig::on(place).await;
    let before = rig.count("select count(*) from item");
    let approval = ask(&rig, "delete_item", json!({ "id": 1 })).await;
    let path = format!("/v1/approvals/{approval}/look-closer");
    assert_eq!(rig.post("bob", &path, json!({})).await.0, StatusCode::NOT_FOUND);
    let (status, seen) = rig.post("alice", &path, json!({})).await;
    assert_eq!((status, &seen["reach"]["rehearsed"]), (StatusCode::OK, &json!(true)), "{seen}");
    assert_eq!(rig.count("select count(*) from item"), before, "it was rolled back");
    let (status, body) = rig.post("owner", &path, json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "once is enough: {body}");
    rig.stop().await;
    rig.start().await;
    let (_, shown) = rig.get("owner", &format!("/v1/approvals/{approval}")).await;
    assert_eq!((&shown["reach"], &shown["sample"]), (&seen["reach"], &seen["sample"]), "{shown}");
    let (status, _) = rig.post("owner", &format!("/v1/approvals/{approval}/approve"), json!({})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(result(&rig, &approval).await.0, StatusCode::OK);
    assert_eq!(rig.count("select count(*) from item"), before.saturating_sub(1));
}

#[tokio::test]
async fn the_console_changes_a_call_and_looks_closer() {
    let rig = Rig::new().await;
    let (alice, owner) =
        (Browser::signed_in(&rig, "alice", "cli").await, Browser::signed_in(&rig, "owner", "cli").await);
    let approval = ask(&rig, "add_item", json!({ "name": "<b>figs</b>" })).await;
    let page = alice.get(&format!("/console/requests/{approval}")).await;
    assert!(page.text.contains("figs") && !page.text.contains("<b>figs"), "{}", page.text);
    for wrong in ["{", "[]", "{\"name\":1,\"name\":2}", "{\"name\":\"x\",\"more\":1}"] {
        let refused = alice.answer(&approval, "narrow", &[("arguments", wrong), ("reason", "x")]).await;
        assert!(refused.status.is_client_error(), "{wrong}: {}", refused.text);
    }
    let form = [("arguments", "{\"name\": \"fig\"}"), ("reason", "<i>one</i>")];
    let new = alice.answer(&approval, "narrow", &form).await;
    assert_eq!(new.status, StatusCode::SEE_OTHER, "{}", new.text);
    let at = new.location().to_owned();
    let second = at.rsplit('/').next().unwrap();
    assert_ne!(second, approval);
    let page = owner.get(&at).await;
    assert!(!page.text.contains("<i>one") && page.text.contains("what the agent asked for"), "{}", page.text);
    assert!(owner.get(&format!("/console/requests/{approval}")).await.text.contains(&at));
    // Whoever changed it finds no button to approve it, and the form of another's page does not help.
    let own = alice.get(&at).await;
    assert!(own.text.contains("others have to approve it") && !own.text.contains("id=\"approve\""));
    let form = [("form_token", own.field("form_token")), ("digest", page.field("digest"))];
    let form = form.each_ref().map(|(name, value)| (*name, value.as_str()));
    let refused = alice.send(Method::POST, &format!("{at}/approve"), &form).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    // Approving is never a page that is opened, and neither are these.
    for what in ["narrow", "look-closer"] {
        let opened = alice.get(&format!("{at}/{what}")).await;
        assert!(opened.status.is_client_error(), "{what}");
        let forged = [("form_token", "x"), ("arguments", "{\"name\": \"sloe\"}"), ("reason", "x")];
        assert!(alice.send(Method::POST, &format!("{at}/{what}"), &forged).await.status.is_client_error());
    }
    let seen = owner.answer(second, "look-closer", &[]).await;
    assert_eq!(seen.status, StatusCode::SEE_OTHER, "{}", seen.text);
    assert!(owner.get(&at).await.text.contains("it was run and rolled back"));
    assert_eq!(owner.answer(second, "approve", &[]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(result(&rig, &approval).await.0, StatusCode::OK);
    assert_eq!(rig.count("select count(*) from item where name = 'fig'"), 1);
}

#[tokio::test]
async fn requests_that_are_alike_are_answered_together_each_for_what_was_shown() {
    let rig = Rig::new().await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let mut asked = Vec::new();
    for name in ["fig", "<b>sloe", "plum", "pear"] {
        asked.push(ask(&rig, "add_item", json!({ "name": name })).await);
    }
    let alone = ask(&rig, "delete_item", json!({ "id": 1 })).await;
    // Another agent's is not among them.
    rig.ask("add_item", json!({ "name": "apple" })).await;
    let page = alice.get(&format!("/console/requests/{}", asked[0])).await;
    assert!(page.text.contains("3 more like it wait"), "{}", page.text);
    assert!(!alice.get(&format!("/console/requests/{alone}")).await.text.contains("more like it"));
    let at = format!("/console/requests/{}/alike", asked[0]);
    let page = alice.get(&at).await;
    assert!(page.text.contains("4 requests for") && !page.text.contains("<b>sloe"), "{}", page.text);
    assert!(!page.text.contains("apple") && !page.text.contains(&alone), "{}", page.text);
    let token = page.field("form_token");
    let digest = |id: &str| {
        let (_, rest) = page.text.split_once(&format!("name=\"{id}\" value=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let (fig, sloe, plum) = (digest(&asked[0]), digest(&asked[1]), digest(&asked[2]));
    // Nothing ticked, nothing said, a forged form: nothing is answered.
    let forms: [&[(&str, &str)]; 4] = [
        &[("form_token", &token), ("answer", "approve")],
        &[("form_token", &token), (&asked[0], &fig)],
        &[("form_token", &token), ("answer", "refuse"), ("said", " "), (&asked[0], &fig)],
        &[("form_token", "x"), ("answer", "approve"), (&asked[0], &fig)],
    ];
    for form in forms {
        assert!(alice.send(Method::POST, &at, form).await.status.is_client_error(), "{form:?}");
    }
    // One of them has been answered meanwhile, and one is told to be another call than it is.
    let no = json!({ "reason": "no plums" });
    assert_eq!(rig.post("owner", &format!("/v1/approvals/{}/refuse", asked[2]), no).await.0, StatusCode::OK);
    let form = [
        ("form_token", token.as_str()),
        ("answer", "approve"),
        (&asked[0], &fig),
        (&asked[1], &fig),
        (&asked[2], &plum),
    ];
    let done = alice.send(Method::POST, &at, &form).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert!(done.text.contains("Approved: 1 of 3"), "{}", done.text);
    assert!(done.text.contains("another call than the one looked at") && done.text.contains("refused"));
    assert_eq!(result(&rig, &asked[0]).await.0, StatusCode::OK);
    let form = [("form_token", token.as_str()), ("answer", "refuse"), ("said", "enough"), (&asked[1], &sloe)];
    assert!(alice.send(Method::POST, &at, &form).await.text.contains("Refused: 1 of 1"));
    let (_, told) = result(&rig, &asked[1]).await;
    assert!(told["message"].as_str().unwrap().contains("enough"), "{told}");
    let names = "select count(*) from item where name in ('fig', '<b>sloe')";
    assert_eq!(rig.count(names), 1);
}

const NOTES: &str = r#"
[tool.delete_notes]
system = "shop"
description = "Deletes the oldest notes."
effect = "destructive"
arguments = { most = { type = "integer" } }
narrows = { most = "lower" }
sql = "delete from note where id in (select id from note order by id limit :most)"
"#;

/// One approver is enough for less than the agent asks, and for nothing else that they write.
async fn who_only_takes_away_may_approve_what_is_left(place: Place) {
    let mut rig = Rig::on(place).await;
    rig.stop().await;
    rig.deployment.write("tools/notes.toml", NOTES);
    let asks = "@ask(\"approvers\") permit (principal, action == Action::\"delete_notes\", resource);";
    rig.deployment.write("policies/more.cedar", asks);
    rig.start().await;
    for n in 0..6 {
        let (status, _) = rig.call("add_note", json!({ "text": format!("n{n}") })).await;
        assert_eq!(status, StatusCode::OK);
    }
    let first = ask(&rig, "delete_notes", json!({ "most": 5 })).await;
    let (status, asked) = narrow(&rig, "alice", &first, json!({ "most": 2 })).await;
    assert_eq!((status, &asked["narrowed"]["less"]), (StatusCode::OK, &json!(true)), "{asked}");
    let second = asked["approval"].as_str().unwrap();
    let page =
        Browser::signed_in(&rig, "alice", "cli").await.get(&format!("/console/requests/{second}")).await;
    assert!(page.text.contains("it does less, and nothing else"), "{}", page.text);
    assert!(page.text.contains("you change nothing but most lower, or"), "{}", page.text);
    let (status, _) = rig.post("alice", &format!("/v1/approvals/{second}/approve"), json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let (status, done) = result(&rig, &first).await;
    assert_eq!((status, &done["rows"]), (StatusCode::OK, &json!(2)), "{done}");
    assert_eq!(rig.count("select count(*) from note"), 4);

    // More, and what SQLite takes for no limit at all: a smaller number, and every row.
    for (most, other) in [(1, 3), (4, -1)] {
        let first = ask(&rig, "delete_notes", json!({ "most": most })).await;
        let (status, asked) = narrow(&rig, "alice", &first, json!({ "most": other })).await;
        assert_eq!((status, &asked["narrowed"]["less"]), (StatusCode::OK, &json!(false)), "{asked}");
        let path = format!("/v1/approvals/{}/approve", asked["approval"].as_str().unwrap());
        let (status, body) = rig.post("alice", &path, json!({})).await;
        assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R019")), "{body}");
    }
    assert_eq!(rig.count("select count(*) from note"), 4);
}
