//! Lists over REST: what each may see, page by page.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    place::{Place, on_either_store},
    server::rig::Rig,
};

on_either_store!(async everybody_sees_their_own_requests_page_by_page, calls_are_listed_page_by_page);

/// Every page of a list: the ids, and how many pages.
async fn pages(rig: &Rig, who: &str, path: &str, list: &str, id: &str) -> (Vec<String>, usize) {
    let (mut ids, mut pages, mut after) = (Vec::new(), 0, String::new());
    loop {
        let (status, body) = rig.get(who, &format!("{path}{after}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        ids.extend(body[list].as_array().unwrap().iter().map(|one| one[id].as_str().unwrap().to_owned()));
        pages += 1;
        match body["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return (ids, pages),
        }
    }
}

async fn everybody_sees_their_own_requests_page_by_page(place: Place) {
    let rig = Rig::on(place).await;
    let mut asked = Vec::new();
    for n in 0..5 {
        asked.push(rig.ask("add_item", json!({ "name": format!("item {n}") })).await);
    }
    let others = json!({ "tool": "add_item", "arguments": { "name": "theirs" } });
    let (_, others) = rig.post("other", "/v1/calls", others).await;
    let others = others["approval"].as_str().unwrap().to_owned();

    let path = "/v1/approvals?limit=2";
    assert_eq!(pages(&rig, "clerk", path, "approvals", "approval").await, (asked.clone(), 3));
    assert_eq!(pages(&rig, "other", path, "approvals", "approval").await.0, [others.as_str()]);
    let everything: Vec<String> = asked.iter().cloned().chain([others]).collect();
    assert_eq!(pages(&rig, "alice", path, "approvals", "approval").await, (everything, 3));
    assert_eq!(
        pages(&rig, "bob", path, "approvals", "approval").await,
        (Vec::new(), 1),
        "nobody asks the auditors"
    );

    rig.post("alice", &format!("/v1/approvals/{}/refuse", asked[0]), json!({ "reason": "no" })).await;
    assert_eq!(pages(&rig, "clerk", path, "approvals", "approval").await.0, asked[1..]);
    let refused = "/v1/approvals?limit=2&state=refused";
    assert_eq!(pages(&rig, "alice", refused, "approvals", "approval").await.0, asked[..1]);
    for bad in ["/v1/approvals?after=%20", "/v1/calls?after=a%20b"] {
        let (status, body) = rig.get("alice", bad).await;
        assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("R020")), "{body}");
    }
}

async fn calls_are_listed_page_by_page(place: Place) {
    let rig = Rig::on(place).await;
    let mut made = BTreeSet::new();
    for n in 0..5 {
        let (_, done) = rig.call("add_note", json!({ "text": n.to_string() })).await;
        made.insert(done["call"].as_str().unwrap().to_owned());
    }
    for path in ["/v1/calls?limit=2", "/v1/calls?limit=2&state=done"] {
        let (listed, count) = pages(&rig, "alice", path, "calls", "call").await;
        assert_eq!((listed.len(), count), (5, 3), "each once");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), made);
    }
    let (_, none): (_, Value) = rig.get("alice", "/v1/calls?state=in_doubt").await;
    assert_eq!((&none["calls"], &none["next"]), (&json!([]), &Value::Null));
}
