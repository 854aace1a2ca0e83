//! The OpenAPI document is made from the handlers, and is what the server serves.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::server::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_complete_and_hangs_together() {
    let rig = Rig::new().await;
    let (status, document) = rig.get("", "/v1/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(document, serde_json::to_value(countersign_api::openapi()).unwrap());
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);

    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} points nowhere");
    }
    let mut ids = BTreeSet::new();
    // What a command line has, that exchanges it for a credential, is a credential of another kind.
    let open = ["/v1/openapi.json", "/v1/sign-in/exchange"];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{what}: same id");
            assert!(!operation["responses"].as_object().unwrap().is_empty(), "{what}");
            assert!(open.contains(&path.as_str()) || !operation["security"][0]["bearer"].is_null(), "{what}");
            for name in path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}')) {
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|p| p["name"] == name && p["in"] == "path"), "{what}: {name}");
            }
        }
    }
    assert!(ids.len() >= 17, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_path_asks_for_a_credential() {
    let rig = Rig::new().await;
    let document = serde_json::to_value(countersign_api::openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "x").replace("{index}", "0");
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse().unwrap();
            // What is exchanged for a key is in the body, and made up.
            let body = json!({ "code": "x", "code_verifier": "x", "redirect_uri": "x" });
            let request = rig.request("", method, &path).json(&body);
            let status = request.send().await.unwrap().status();
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                references.insert(reference.to_owned());
            }
            members.values().for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
