//! Which role opens which route, on every door that knows people: what docs/roles.md says is what the server answers.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use countersign_app::role::Role;
use countersign_rules::PersonId;
use countersign_store::{KeyOwner, NewKey};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    console::{Browser, ROUTES, every_field},
    rig::{MAIN, Rig, read},
};
use crate::deployment::http;

/// Somebody of each role, in the group that is asked.
fn main() -> String {
    let mut main = MAIN.to_owned();
    for role in Role::ALL {
        write!(main, "[person.the-{role}]\ngroups = [\"approvers\"]\nroles = [\"{role}\"]\n").unwrap();
    }
    main
}

/// What is sent to an operation of the REST door. One that is not here takes no body.
fn body_of(operation: &str) -> Option<Value> {
    Some(match operation {
        "propose_call" => json!({ "tool": "items", "arguments": {} }),
        "resolve_call" => json!({ "happened": true, "comment": "a test" }),
        "undo_call" => json!({}),
        "approve" => json!({ "digest": "00" }),
        "refuse" | "end_grant" => json!({ "reason": "a test" }),
        "narrow" => json!({ "arguments": {}, "reason": "a test" }),
        "halt" => json!({ "all": true, "why": "a test" }),
        "exchange_code" => json!({ "code": "x", "code_verifier": "x", "redirect_uri": "x" }),
        "retry_channel" => json!({ "approval": "apr-none" }),
        _ => return None,
    })
}

/// What is asked of an operation beside its path.
fn query_of(operation: &str) -> &'static str {
    match operation {
        "resume" => "?all=true",
        "erase_evidence" => "?reason=test",
        _ => "",
    }
}

/// Which roles a route is closed to. Anything but the word that it is, the right role will do.
struct Opened(BTreeMap<String, BTreeMap<Role, bool>>);

impl Opened {
    fn note(&mut self, route: &str, role: Role, closed: bool) {
        self.0.entry(route.to_owned()).or_default().insert(role, !closed);
    }

    fn table(&self) -> String {
        let mut table = format!("{:<62}", "");
        for role in Role::ALL {
            write!(table, "{role:>10}").unwrap();
        }
        table.push('\n');
        for (route, roles) in &self.0 {
            write!(table, "{route:<62}").unwrap();
            for role in Role::ALL {
                write!(table, "{:>10}", if roles[&role] { "yes" } else { "-" }).unwrap();
            }
            table.push('\n');
        }
        table
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_opens_the_routes_that_the_documents_say() {
    let rig = Rig::with(&main()).await;
    let mut opened = Opened(BTreeMap::new());
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    // What somebody was at a time can be told.
    let entries = rig.running().app.store().entries(0, 100).await.unwrap();
    let named = entries.iter().map(|entry| serde_json::from_slice::<Value>(&entry.bytes).unwrap());
    let named: Vec<Value> =
        named.map(|entry| entry["body"]["config"]["roles"]["the-viewer"].clone()).collect();
    assert!(named.contains(&json!(["viewer"])), "{named:?}");

    let document = serde_json::to_value(countersign_api::openapi()).unwrap();
    for role in Role::ALL {
        let who = format!("the-{role}");
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let operation = operation["operationId"].as_str().unwrap();
                let id = if path.starts_with("/v1/approvals") { approval.as_str() } else { "x" };
                let at = path.replace("{id}", id).replace("{index}", "0");
                let method: Method = method.to_uppercase().parse().unwrap();
                let mut request = rig.request(&who, method.clone(), &format!("{at}{}", query_of(operation)));
                if let Some(body) = body_of(operation) {
                    request = request.json(&body);
                }
                let answer = request.send().await.unwrap();
                let told = format!("{method} {path} ({operation}) for {role}");
                // Where what was sent was not even read, nothing would be shown.
                assert!(answer.status() != StatusCode::UNSUPPORTED_MEDIA_TYPE, "{told}");
                let closed = answer.status() == StatusCode::FORBIDDEN && {
                    let (_, body) = read(answer).await;
                    body["code"] == "R016"
                };
                opened.note(&format!("{method} {path}"), role, closed);
            }
        }
        for tile in ["/log/checkpoint", "/log/tile/0/000"] {
            let answer = rig.request(&who, Method::GET, tile).send().await.unwrap();
            opened.note(&format!("GET {tile}"), role, answer.status() == StatusCode::FORBIDDEN);
        }

        let mut browser = Browser::signed_in(&rig, &who, "cli").await;
        let mut token = browser.get("/console/people").await.field("form_token");
        for (method, route, path, _) in ROUTES {
            if route.contains("sign-in") || route.contains("/link") || !route.starts_with("/console/") {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let path = path.replace("apr-none", &approval);
            let form = every_field(&token);
            let page = if method == Method::POST {
                browser.send(method.clone(), &path, &form).await
            } else if *route == "/console/events" {
                continue;
            } else {
                browser.get(&path).await
            };
            let told = format!("{method} {route} for {role}: {}", page.text);
            assert!(page.status != StatusCode::UNAUTHORIZED, "{told}");
            let closed = page.status == StatusCode::FORBIDDEN && page.text.contains("takes the role");
            opened.note(&format!("{method} {route}"), role, closed);
            if *route == "/console/sign-out" {
                browser = Browser::signed_in(&rig, &who, "cli").await;
                token = browser.get("/console/people").await.field("form_token");
            }
        }
    }
    let table = opened.table();
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/roles.md");
    let text = std::fs::read_to_string(&place).unwrap();
    let (before, rest) = text.split_once("```text\n").unwrap();
    let (written, after) = rest.split_once("```").unwrap();
    if option_env!("COUNTERSIGN_WRITE_GOLDEN").is_some() {
        std::fs::write(&place, format!("{before}```text\n{table}```{after}")).unwrap();
        return;
    }
    assert_eq!(written, table, "docs/roles.md says something else; COUNTERSIGN_WRITE_GOLDEN=1 writes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_no_more_than_the_roles_that_it_is_narrowed_to() {
    let rig = Rig::with(&main()).await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let narrowed = async |roles: &[&str]| {
        let new = NewKey {
            owner: KeyOwner::Person(PersonId::parse("alice").unwrap()),
            scopes: roles.iter().map(|role| format!("role:{role}")).collect(),
            expires_ms: None,
            by: "cli".into(),
            now_ms: rig.running().app.clock().now_ms(),
        };
        let random = [u8::try_from(roles.concat().len()).unwrap(); 32];
        rig.running().app.store().issue_key(new, random).await.unwrap().1
    };
    let get = async |key: &str, path: &str| {
        read(http().get(rig.url(path)).bearer_auth(key).send().await.unwrap()).await
    };
    let refuse = async |key: &str| {
        let path = rig.url(&format!("/v1/approvals/{approval}/refuse"));
        let body = json!({ "reason": "no" });
        read(http().post(path).bearer_auth(key).json(&body).send().await.unwrap()).await
    };

    let viewer = narrowed(&["viewer"]).await;
    // She is no viewer, so that nothing is left of the key.
    let (status, body) = get(&viewer, "/v1/approvals").await;
    assert_eq!((status, &body["code"]), (StatusCode::UNAUTHORIZED, &json!("R015")), "{body}");
    let keeper = narrowed(&["operator", "admin"]).await;
    assert_eq!(get(&keeper, "/v1/keys").await.0, StatusCode::OK);
    let (status, body) = refuse(&keeper).await;
    assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R016")), "{body}");
    assert!(body["detail"].as_str().unwrap().contains("`approver`"), "{body}");
    let odd = narrowed(&["approver", "god"]).await;
    assert_eq!(refuse(&odd).await.0, StatusCode::UNAUTHORIZED);
    let answering = narrowed(&["approver"]).await;
    assert_eq!(get(&answering, "/v1/keys").await.0, StatusCode::FORBIDDEN);
    assert_eq!(refuse(&answering).await.0, StatusCode::OK);
}

/// A role shows what others are asked, and answers nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn who_sees_a_request_by_their_role_alone_answers_nothing() {
    let main = MAIN.replace(
        "[person.bob]\n",
        "[person.max]\ngroups = [\"auditors\"]\n[person.bob]\nroles = [\"approver\", \"operator\"]\n",
    );
    let rig = Rig::with(&main).await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let listed = async |who, query| {
        let (_, body) = rig.get(who, &format!("/v1/approvals{query}")).await;
        body["approvals"].as_array().unwrap().len()
    };
    assert_eq!(
        (listed("bob", "").await, listed("bob", "?mine=true").await, listed("max", "").await),
        (1, 0, 0)
    );
    assert_eq!(rig.get("max", &format!("/v1/approvals/{approval}")).await.0, StatusCode::NOT_FOUND);
    let (status, body) = rig.post("bob", &format!("/v1/approvals/{approval}/approve"), json!({})).await;
    assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R019")), "{body}");

    let bob = Browser::signed_in(&rig, "bob", "cli").await;
    assert!(!bob.get("/console/").await.text.contains(&approval), "it does not wait for him");
    assert!(bob.get("/console/requests").await.text.contains(&approval));
    let page = bob.get(&format!("/console/requests/{approval}")).await;
    assert!(page.text.contains("others are asked") && !page.text.contains("id=\"approve\""), "{}", page.text);
    let form = bob.get("/console/people").await.field("form_token");
    for what in ["approve", "refuse", "look-closer", "narrow"] {
        let path = format!("/console/requests/{approval}/{what}");
        let page = bob.send(Method::POST, &path, &every_field(&form)).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{what}: {}", page.text);
    }
    assert_eq!(listed("alice", "").await, 1, "it waits still");
}
