//! The log over REST, read and verified by somebody who has nothing but its key.

use countersign_audit::{
    BundleId, Checkpoint, Frontier, Receipt, VerifierKey, leaf_hash, tile::decode_bundle,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{
    place::{Place, on_either_store},
    server::rig::Rig,
};

on_either_store!(async
    foreign_tools_can_verify_it,
    it_says_what_was_proposed_decided_and_done_and_who_started,
    the_servers_own_state_can_be_read,
);

async fn foreign_tools_can_verify_it(place: Place) {
    let rig = Rig::on(place).await;
    rig.call("add_note", json!({ "text": "a" })).await;
    rig.call("rename_item", json!({ "id": 1, "name": "x" })).await;
    let key: VerifierKey = rig.running().log_key();

    let note = rig.request("", Method::GET, "/log/checkpoint").send().await.unwrap().bytes().await.unwrap();
    let checkpoint = Checkpoint::open(&note, &key).unwrap();
    assert_eq!(checkpoint.origin(), "test.example/log");
    let size = checkpoint.size();
    let bundle = BundleId::new(0, u16::try_from(size).unwrap()).unwrap();
    let path = format!("/log/{}", bundle.path());
    let bytes = rig.request("alice", Method::GET, &path).send().await.unwrap().bytes().await.unwrap();
    let entries = decode_bundle(&bytes).unwrap();
    let tree = Frontier::from_leaves(entries.iter().map(|entry| leaf_hash(entry))).unwrap();
    assert_eq!((tree.size(), tree.root()), (size, *checkpoint.root()));

    let tile = format!("/log/{}", bundle.tile().path());
    let hashes = rig.request("alice", Method::GET, &tile).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(&hashes[..32], leaf_hash(entries[0]).as_bytes());

    let receipt = rig.request("alice", Method::GET, "/v1/log/entries/3/receipt").send().await.unwrap();
    let receipt = Receipt::parse(&receipt.bytes().await.unwrap()).unwrap();
    receipt.verify(&key).unwrap();
    assert_eq!(receipt.index, 3);
}

async fn it_says_what_was_proposed_decided_and_done_and_who_started(place: Place) {
    let rig = Rig::on(place).await;
    let (_, done) = rig.call("add_note", json!({ "text": "a", "_reason": "to remember" })).await;
    let call = done["call"].as_str().unwrap();
    let (_, body) = rig.get("alice", &format!("/v1/log/entries?call={call}")).await;
    let kinds: Vec<&str> =
        body["entries"].as_array().unwrap().iter().map(|e| e["entry"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.first(), Some(&"call_proposed"));
    assert_eq!(kinds.last(), Some(&"outcome"));
    let decided = kinds.iter().position(|kind| *kind == "decided").unwrap();
    let warrant = kinds.iter().position(|kind| *kind == "warrant_issued").unwrap();
    assert!(decided < warrant, "{kinds:?}");
    assert_eq!(body["entries"][0]["entry"]["body"]["reason"], "to remember");

    let (_, body) = rig.get("alice", "/v1/log/entries?kind=configured").await;
    let configured = &body["entries"][0]["entry"]["body"];
    assert_eq!(configured["config"]["agents"]["clerk"]["on_behalf_of"], "owner");
    assert!(configured["tools"]["add_note"].as_str().unwrap().starts_with("sha256:"));
}

async fn the_servers_own_state_can_be_read(place: Place) {
    let rig = Rig::on(place).await;
    rig.call("add_note", json!({ "text": "a" })).await;
    rig.call("made up", json!({})).await;
    assert_eq!(rig.request("", Method::GET, "/healthz").send().await.unwrap().status(), StatusCode::OK);
    let (status, body) = rig.get("", "/readyz").await;
    assert_eq!((status, &body["ready"]), (StatusCode::OK, &json!(true)));
    let text = rig.request("", Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(text.contains(r#"countersign_calls_total{tool="add_note",status="done"} 1"#), "{text}");
    assert!(text.contains("countersign_log_entries"), "{text}");
    assert!(!text.contains("made up"), "names that callers make up are not counted one by one");
    assert!(text.ends_with("# EOF\n"));
}
