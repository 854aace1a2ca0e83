//! A server in this process, on a deployment, a database and a port of its own.

use std::{collections::BTreeMap, path::Path};

use countersign::{
    clock::{OsEntropy, SystemClock},
    config::Config,
    log_key,
    server::{self, Running},
};
use countersign_gate::{Clock as _, Entropy as _};
use countersign_rules::{AgentId, PersonId};
use countersign_store::{KeyOwner, NewKey};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    deployment::{Deployment, http},
    place::Place,
};

pub(crate) const MAIN: &str = r#"
[server]
listen = "127.0.0.1:0"
wait_ms = 5000
[log]
origin = "test.example/log"
[system.shop]
kind = "sqlite"
path = "shop.db"
environment = "production"
account = "acme"
[agent.clerk]
accounts = ["acme"]
on_behalf_of = "owner"
[agent.other]
accounts = ["acme"]
[person.alice]
groups = ["approvers"]
roles = ["approver", "operator", "admin"]
[person.bob]
groups = ["auditors"]
[person.owner]
groups = ["approvers"]
roles = ["approver", "operator", "admin"]
"#;

const TOOLS: &str = r#"
[tool.items]
system = "shop"
description = "Every item."
effect = "read"
sql = "select id, name from item order by id"
[tool.add_note]
system = "shop"
description = "Adds a note."
effect = "write"
arguments = { text = { type = "string", maxLength = 40 } }
sql = "insert into note (text) values (:text)"
[tool.add_item]
system = "shop"
description = "Adds an item."
effect = "write"
arguments = { name = { type = "string", maxLength = 40 } }
sql = "insert into item (name) values (:name)"
[tool.delete_item]
system = "shop"
description = "Deletes an item."
effect = "destructive"
arguments = { id = { type = "integer" } }
sql = "delete from item where id = :id"
[tool.rename_item]
system = "shop"
description = "Renames an item."
effect = "write"
arguments = { id = { type = "integer" }, name = { type = "string", maxLength = 100000 } }
sql = "update item set name = :name where id = :id"
"#;

const POLICIES: &str = r#"
@id("reads") permit (principal, action, resource) when { context.effect == "read" };
@id("notes") permit (principal, action == Action::"add_note", resource);
@id("items") @ask("approvers") @because("it changes what is sold")
permit (principal, action in [Action::"add_item", Action::"delete_item"], resource);
@id("renames") permit (principal, action == Action::"rename_item", resource);
@id("never") @because("items keep their names")
forbid (principal, action == Action::"rename_item", resource);
"#;

/// A server with its folder, and the keys of everybody.
pub(crate) struct Rig {
    pub(crate) deployment: Deployment,
    running: Option<Running>,
    keys: BTreeMap<String, String>,
    http: reqwest::Client,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::on(Place::sqlite()).await
    }

    /// With its ledger in a place.
    pub(crate) async fn on(place: Place) -> Self {
        Self::made(place, MAIN).await
    }

    /// With another main file.
    pub(crate) async fn with(main: &str) -> Self {
        Self::made(Place::sqlite(), main).await
    }

    /// With something more in the main file, and policies for it.
    pub(crate) async fn more(place: Place, more: &str, policies: &str) -> Self {
        Self::made_with(place, &format!("{MAIN}{more}"), policies).await
    }

    /// With another main file, in a place.
    pub(crate) async fn made(place: Place, main: &str) -> Self {
        Self::made_with(place, main, "").await
    }

    /// With something more in the main file, and files that the owner alone may read.
    pub(crate) async fn secretly(place: Place, more: &str, secrets: &[(&str, &str)]) -> Self {
        Self::made_of(place, &format!("{MAIN}{more}"), "", secrets).await
    }

    /// With another main file, and files that the owner alone may read.
    pub(crate) async fn secret_main(place: Place, main: &str, secrets: &[(&str, &str)]) -> Self {
        Self::made_of(place, main, "", secrets).await
    }

    async fn made_with(place: Place, main: &str, policies: &str) -> Self {
        Self::made_of(place, main, policies, &[]).await
    }

    async fn made_of(place: Place, main: &str, policies: &str, secrets: &[(&str, &str)]) -> Self {
        let deployment = Deployment::new(place, main, POLICIES);
        secrets.iter().for_each(|(name, text)| deployment.write_secret(name, text));
        deployment.write("tools/shop.toml", TOOLS);
        deployment.write("policies/more.cedar", policies);
        database(deployment.path())
            .execute_batch(
                "create table item (id integer primary key, name text not null);
                 create table note (id integer primary key, text text not null);
                 insert into item (name) values ('apple'), ('pear'), ('plum');",
            )
            .unwrap();
        let keys = keys(&deployment.config()).await;
        let running = deployment.start().await;
        Self { deployment, running: Some(running), keys, http: http() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.as_ref().unwrap().address)
    }

    pub(crate) fn key(&self, who: &str) -> &str {
        &self.keys[who]
    }

    /// A request by somebody; by nobody when `who` is empty.
    pub(crate) fn request(&self, who: &str, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, self.url(path));
        if who.is_empty() { request } else { request.bearer_auth(self.key(who)) }
    }

    pub(crate) async fn post(&self, who: &str, path: &str, body: Value) -> (StatusCode, Value) {
        read(self.request(who, Method::POST, path).json(&body).send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, who: &str, path: &str) -> (StatusCode, Value) {
        read(self.request(who, Method::GET, path).send().await.unwrap()).await
    }

    /// Proposes a call as `clerk`.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> (StatusCode, Value) {
        self.post("clerk", "/v1/calls", json!({ "tool": tool, "arguments": arguments })).await
    }

    /// Proposes a call that people are asked about; answers the request's id.
    pub(crate) async fn ask(&self, tool: &str, arguments: Value) -> String {
        let (status, body) = self.call(tool, arguments).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        body["approval"].as_str().unwrap().to_owned()
    }

    /// The result of a request, once it is final.
    pub(crate) async fn result(&self, approval: &str) -> (StatusCode, Value) {
        self.get("clerk", &format!("/v1/approvals/{approval}/result?wait_ms=5000")).await
    }

    /// The id of the first request that `alice` may answer, once there is one.
    pub(crate) async fn asked(&self) -> String {
        loop {
            let (_, list) = self.get("alice", "/v1/approvals").await;
            if let Some(id) = list["approvals"][0]["approval"].as_str() {
                return id.to_owned();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Revokes somebody's key, as an operator.
    pub(crate) async fn revoke(&self, operator: &str, who: &str) {
        let id = self.key(who).split('_').nth(1).unwrap();
        let revoke = self.request(operator, Method::DELETE, &format!("/v1/keys/{id}"));
        let (status, body) = read(revoke.send().await.unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    /// One number of the shop's database.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        database(self.deployment.path()).query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub(crate) async fn stop(&mut self) {
        assert!(self.running.take().unwrap().stop().await);
    }

    pub(crate) async fn start(&mut self) {
        self.running = Some(self.deployment.start().await);
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }
}

pub(crate) async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn database(folder: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(folder.join("shop.db")).unwrap()
}

async fn keys(config: &Config) -> BTreeMap<String, String> {
    let key = log_key::read(&config.log.key, &config.log.origin).unwrap();
    let store = server::open_store(config, key).await.unwrap();
    let now_ms = SystemClock.now_ms();
    let agent = |name| KeyOwner::Agent(AgentId::parse(name).unwrap());
    let person = |name| KeyOwner::Person(PersonId::parse(name).unwrap());
    let named = [
        ("clerk", agent("clerk"), vec![], None),
        ("other", agent("other"), vec![], None),
        ("scoped", agent("clerk"), vec!["tool:items".to_owned()], None),
        ("odd", agent("clerk"), vec!["everything".to_owned()], None),
        ("expired", agent("clerk"), vec![], Some(now_ms - 1)),
        ("revoked", agent("clerk"), vec![], None),
        ("ghost", agent("ghost"), vec![], None),
        ("alice", person("alice"), vec![], None),
        ("bob", person("bob"), vec![], None),
        ("owner", person("owner"), vec![], None),
    ];
    let others = config.people.keys().filter(|one| named.iter().all(|(name, ..)| *name != one.as_str()));
    let others: Vec<_> = others.map(|one| (one.as_str(), person(one.as_str()), vec![], None)).collect();
    let mut keys = BTreeMap::new();
    for (name, owner, scopes, expires_ms) in named.into_iter().chain(others) {
        let mut random = [0; 32];
        random[..16].copy_from_slice(&OsEntropy.bytes());
        random[16..].copy_from_slice(&OsEntropy.bytes());
        let new = NewKey { owner, scopes, expires_ms, by: "test".into(), now_ms };
        let (record, presented) = store.issue_key(new, random).await.unwrap();
        if name == "revoked" {
            assert!(store.revoke_key(&record.id, "test", now_ms).await.unwrap());
        }
        keys.insert(name.to_owned(), presented);
    }
    store.close().await;
    keys
}
