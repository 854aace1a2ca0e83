//! Undo from end to end, on both databases, and the call that a killed server leaves behind: its system's own
//! record says what became of it.

#![expect(clippy::disallowed_methods, reason = "the test looks at the databases from outside")]

use std::{fs, sync::mpsc, time::Instant};

use serde_json::{Value, json};

use crate::{
    acting::PATIENCE,
    binary::{Ran, command, ran, run_in},
    deployment::Deployment,
    place::{Database, Place, execute},
    served::Served,
};

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
wait_ms = 20000
[store]
path = "countersign.db"
timeout_ms = 60000
[log]
origin = "test.example/undo"
key = "log.key"
[agent.ada]
accounts = ["acme"]
on_behalf_of = "dora"
[agent.eve]
accounts = ["acme"]
[person.carol]
groups = ["approvers"]
roles = ["approver", "operator", "admin"]
[person.dora]
groups = ["approvers"]
[person.erin]
groups = ["approvers"]

[system.shop]
environment = "production"
account = "acme"
lock_timeout_ms = 60000
statement_timeout_ms = 60000
SYSTEM
[system.shop.journal]

[tool.delete_item]
system = "shop"
description = "Deletes an item with its parts."
effect = "destructive"
reversible = true
arguments = { id = { type = "integer" } }
sql = "delete from item where id = :id"
[tool.rename_item]
system = "shop"
description = "Renames the first items."
effect = "write"
reversible = true
arguments = { id = { type = "integer" }, name = { type = "string" } }
sql = "update item set name = :name where id <= :id"
"#;

const POLICIES: &str = r#"
@id("renames") permit (principal, action == Action::"rename_item", resource);
@id("deletes") @ask("approvers") permit (principal, action == Action::"delete_item", resource);
@id("undo") @ask("approvers") @because("somebody may rely on it by now")
permit (principal, action, resource) when { context.categories.contains("undo") };
"#;

const SCHEMA: &str = "
create table item (id integer primary key, name text not null);
create table part (id integer primary key, item integer not null references item (id) on delete cascade, label text);
insert into item values (1, 'bike'), (2, 'boat');
insert into part values (10, 1, 'wheel'), (11, 1, 'bell'), (12, 2, 'oar');
";

/// The database that is acted on.
enum Target {
    File,
    Server(Database),
}

/// A folder with a prepared database and the keys of everybody.
struct Shop {
    deployment: Deployment,
    target: Target,
    ada: String,
    eve: String,
    carol: String,
    dora: String,
    erin: String,
}

impl Shop {
    fn new(postgres: bool) -> Self {
        let (target, system) = if postgres {
            (Target::Server(Database::create()), "kind = \"postgres\"\nurl = { file = \"shop.url\" }")
        } else {
            (Target::File, "kind = \"sqlite\"\npath = \"shop.db\"")
        };
        let deployment = Deployment::new(Place::sqlite(), &CONFIG.replace("SYSTEM", system), POLICIES);
        if let Target::Server(database) = &target {
            deployment.write_secret("shop.url", &account(database));
        }
        let key = |flag, name| deployment.key(&[flag, name]);
        let (ada, eve) = (key("--agent", "ada"), key("--agent", "eve"));
        let (carol, dora, erin) =
            (key("--person", "carol"), key("--person", "dora"), key("--person", "erin"));
        let shop = Self { deployment, target, ada, eve, carol, dora, erin };
        shop.execute(SCHEMA);
        if let Target::Server(database) = &shop.target {
            let account = role(database);
            shop.execute(&format!("grant select, insert, update, delete on item, part to {account}"));
        }
        shop
    }

    /// Runs what its administrator would.
    fn prepare(&self, more: &[&str]) -> Ran {
        let mut command = command(&["system", "prepare", "shop"]);
        command.args(more).current_dir(self.deployment.path());
        if let (Target::Server(database), false) = (&self.target, more.contains(&"--print")) {
            command.args(["--admin-url-env", "SHOP_ADMIN_URL"]).env("SHOP_ADMIN_URL", &database.url);
        }
        ran(&command.output().unwrap())
    }

    fn serve(&self) -> Served {
        Served::start(self.deployment.path(), &[])
    }

    fn execute(&self, statements: &str) {
        match &self.target {
            Target::File => self.file().execute_batch(statements).unwrap(),
            Target::Server(database) => execute(&database.url, statements.to_owned()).unwrap(),
        }
    }

    fn file(&self) -> rusqlite::Connection {
        let file = rusqlite::Connection::open(self.deployment.path().join("shop.db")).unwrap();
        file.busy_timeout(PATIENCE).unwrap();
        file
    }

    /// Every row of both tables.
    fn content(&self) -> String {
        let (item, part) = match &self.target {
            Target::File => {
                ("group_concat(id || name, ' ')", "group_concat(id || '/' || item || label, ' ')")
            }
            Target::Server(_) => (
                "string_agg(id || name, ' ' order by id)",
                "string_agg(id || '/' || item || label, ' ' order by id)",
            ),
        };
        let query = format!("select (select {item} from item) || ';' || (select {part} from part)");
        match &self.target {
            Target::File => self.file().query_row(&query, [], |row| row.get(0)).unwrap(),
            Target::Server(database) => answer(database, query),
        }
    }

    /// Waits until the call is in a state, and answers it.
    fn until(&self, server: &Served, state: &str) -> Value {
        let since = Instant::now();
        loop {
            let calls = must(server, &self.carol, &["calls", "list"]);
            let call = calls["calls"][0].clone();
            if call["state"] == state {
                return call;
            }
            assert!(since.elapsed() < PATIENCE, "never {state}: {call}");
        }
    }

    /// Keeps everybody else from writing to the item table, until the sender is dropped.
    fn hold(&self) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (holding, held) = mpsc::channel();
        match &self.target {
            Target::File => {
                let file = self.file();
                std::thread::spawn(move || {
                    file.execute_batch("begin immediate").unwrap();
                    holding.send(()).unwrap();
                    released.recv().ok();
                    file.execute_batch("rollback").unwrap();
                });
            }
            Target::Server(database) => {
                let config: tokio_postgres::Config = database.url.parse().unwrap();
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
                        let connection = tokio::spawn(connection);
                        client.batch_execute("begin; lock table item in exclusive mode").await.unwrap();
                        holding.send(()).unwrap();
                        released.recv().ok();
                        drop(client);
                        connection.await.unwrap().ok();
                    });
                });
            }
        }
        held.recv().unwrap();
        release
    }
}

/// The account of the tools: it may log in, and nothing more. Gone with the database.
fn role(database: &Database) -> String {
    let (server, _query) = database.url.split_once('?').unwrap_or((&database.url, ""));
    format!("{}_tools", server.rsplit('/').next().unwrap())
}

/// Makes that account; its connection string.
pub(crate) fn account(database: &Database) -> String {
    let account = role(database);
    execute(&database.url, format!("CREATE ROLE {account} LOGIN PASSWORD '{account}'")).unwrap();
    let (_, rest) = database.url.split_once('@').unwrap();
    format!("postgres://{account}:{account}@{rest}")
}

/// The one text that a query answers.
fn answer(database: &Database, query: String) -> String {
    let config: tokio_postgres::Config = database.url.parse().unwrap();
    let work = async move {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query_one(&query, &[]).await.unwrap().get::<_, Option<String>>(0).unwrap_or_default()
    };
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    std::thread::spawn(run).join().unwrap()
}

/// Runs a command that must succeed.
fn must(server: &Served, key: &str, arguments: &[&str]) -> Value {
    let ran = server.run(key, arguments);
    let pending = ran.out.contains(r#""status":"pending""#);
    assert_eq!(ran.code, if pending { 3 } else { 0 }, "{arguments:?}: {} {}", ran.out, ran.err);
    ran.value()
}

/// Runs a command that is refused, and answers why.
fn refused(server: &Served, key: &str, arguments: &[&str]) -> Value {
    let ran = server.run(key, arguments);
    assert!(matches!(ran.code, 1 | 4), "{arguments:?}: {} {} {}", ran.code, ran.out, ran.err);
    let last: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    last.get("error").cloned().unwrap_or(last)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {value}")).to_owned()
}

/// Deletes the first item with its parts, approved by carol; the call.
fn deleted(shop: &Shop, server: &Served) -> String {
    let pending = must(server, &shop.ada, &["call", "delete_item", "{\"id\": 1}"]);
    let request = text(&pending, "approval");
    let seen = must(server, &shop.carol, &["approvals", "show", &request]);
    assert_eq!(seen["reversible"], true, "{seen}");
    assert_eq!(seen["reach"]["tables"], json!({ "item": 1, "part": 2 }), "{seen}");
    must(server, &shop.carol, &["approvals", "approve", &request]);
    let done = must(server, &shop.ada, &["call", "--result", &request, "--wait-ms", "20000"]);
    assert_eq!(done["status"], "done", "{done}");
    assert_eq!(shop.content(), "2boat;12/2oar");
    text(&done, "call")
}

fn what_was_approved_is_undone_and_approved_by_another(postgres: bool) {
    let shop = Shop::new(postgres);
    let before = shop.content();
    let prepared = shop.prepare(&[]);
    assert_eq!(prepared.code, 0, "{}", prepared.err);
    assert!(prepared.out.contains("is prepared"), "{}", prepared.out);
    assert!(prepared.out.contains("item") && prepared.out.contains("part"), "cascades too: {}", prepared.out);
    assert_eq!(shop.prepare(&[]).code, 0, "again is fine");
    let printed = shop.prepare(&["--print"]);
    assert!(printed.code == 0 && printed.out.to_lowercase().contains("create table"), "{}", printed.out);

    let server = shop.serve();
    let call = deleted(&shop, &server);

    // What another agent did is nothing to it, by whichever door.
    assert_eq!(refused(&server, &shop.eve, &["undo", &call])["code"], "R018");
    let arguments = json!({ "call": call }).to_string();
    assert_eq!(refused(&server, &shop.eve, &["call", "undo_shop", &arguments])["code"], "R018");
    assert_eq!(refused(&server, &shop.carol, &["undo", "call-nothing"])["code"], "R018");

    // Who wants it undone cannot approve that.
    let pending = must(&server, &shop.carol, &["undo", &call, "--reason", "it was the wrong one"]);
    let request = text(&pending, "approval");
    let seen = must(&server, &shop.erin, &["approvals", "show", &request]);
    assert_eq!((&seen["agent"], &seen["on_behalf_of"]), (&"countersign-undo".into(), &"carol".into()));
    assert_eq!((&seen["reach"]["rows"], &seen["reach"]["exact"]), (&3.into(), &true.into()), "{seen}");
    assert_eq!(seen["reason_claimed"], "it was the wrong one");
    assert_eq!(refused(&server, &shop.carol, &["approvals", "approve", &request])["code"], "R019");
    assert_eq!(shop.content(), "2boat;12/2oar", "nothing is undone before");
    must(&server, &shop.erin, &["approvals", "approve", &request]);
    let undone = must(
        &server,
        &shop.carol,
        &["undo", &call, "--reason", "it was the wrong one", "--wait-ms", "20000"],
    );
    assert_eq!(undone["status"], "done", "{undone}");
    assert_eq!(undone["result"]["restored"], json!({ "item": 1, "part": 2 }), "{undone}");
    assert_eq!(shop.content(), before);

    let story = run_in(shop.deployment.path(), &["audit", "show", &call]);
    let by = format!("UNDONE by call `{}` of agent `countersign-undo`, for `carol`", text(&undone, "call"));
    assert!(story.out.contains(&by), "{}", story.out);

    // Once is enough: asked again, the same is answered, and nothing happens.
    let again = must(&server, &shop.carol, &["undo", &call, "--reason", "it was the wrong one"]);
    assert_eq!((&again["status"], &again["call"]), (&undone["status"], &undone["call"]), "{again}");
    assert_eq!(shop.content(), before);

    let again = fs::read_to_string(shop.deployment.path().join("countersign.toml")).unwrap();
    assert!(!again.contains(&shop.carol));
}

fn rows_that_changed_since_are_reported_and_refused_or_skipped(postgres: bool) {
    let shop = Shop::new(postgres);
    assert_eq!(shop.prepare(&[]).code, 0);
    let server = shop.serve();
    let renamed = must(&server, &shop.ada, &["call", "rename_item", "{\"id\": 2, \"name\": \"ship\"}"]);
    let call = text(&renamed, "call");
    shop.execute("update item set name = 'yacht' where id = 2");
    let changed = shop.content();

    // An agent may undo what it did itself, where the policies let it.
    let undo = |more: &[&str]| {
        let arguments = [&["undo", call.as_str()], more].concat();
        let pending = server.run(&shop.ada, &arguments);
        if pending.code != 3 {
            return pending;
        }
        must(&server, &shop.carol, &["approvals", "approve", &text(&pending.value(), "approval")]);
        server.run(&shop.ada, &[&arguments[..], &["--wait-ms", "20000"]].concat())
    };
    let refused = undo(&[]);
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert_eq!(shop.content(), changed);
    let skipped = undo(&["--skip-changed"]);
    assert_eq!(skipped.code, 0, "{} {}", skipped.out, skipped.err);
    let result = skipped.value()["result"].clone();
    assert_eq!(result["restored"], json!({ "item": 1 }), "{result}");
    assert_eq!(result["changed_since"], json!({ "item": 1 }), "{result}");
    assert!(shop.content().starts_with("1bike 2yacht;"), "{}", shop.content());
}

fn a_call_of_a_killed_server_is_settled_by_the_systems_record_and_never_repeated(postgres: bool) {
    let shop = Shop::new(postgres);
    assert_eq!(shop.prepare(&[]).code, 0);
    for happened in [true, false] {
        let name = if happened { "ship" } else { "raft" };
        let mut server = shop.serve();
        // The intent is recorded, and the statement waits in the database.
        let release = shop.hold();
        let arguments = json!({ "id": 2, "name": name }).to_string();
        let asking = {
            let (url, key) = (server.url.clone(), shop.ada.clone());
            std::thread::spawn(move || {
                let mut command = command(&["call", "rename_item", &arguments]);
                command.env("COUNTERSIGN_URL", url).env("COUNTERSIGN_KEY", key);
                command.output().unwrap().status.code()
            })
        };
        let call = text(&shop.until(&server, "open"), "call");
        if happened {
            // Nothing can be recorded any more; then it takes effect, and the server dies with its answer.
            let ledger = rusqlite::Connection::open(shop.deployment.path().join("countersign.db")).unwrap();
            ledger.busy_timeout(PATIENCE).unwrap();
            ledger.execute_batch("begin immediate").unwrap();
            drop(release);
            let since = Instant::now();
            while !shop.content().contains(name) {
                assert!(since.elapsed() < PATIENCE, "it never took effect");
                std::thread::yield_now();
            }
            server.kill();
            ledger.execute_batch("rollback").unwrap();
        } else {
            server.kill();
            drop(release);
        }
        assert_ne!(asking.join().unwrap(), Some(0), "nobody was told that it is done");

        let server = shop.serve();
        let settled = shop.until(&server, if happened { "done" } else { "failed" });
        assert_eq!(text(&settled, "call"), call);
        assert_eq!(shop.content().contains(name), happened, "{}", shop.content());
        let story = run_in(shop.deployment.path(), &["audit", "show", &call]).out;
        let found = if happened { "it happened, 2 rows" } else { "it did not happen" };
        assert!(story.contains(&format!("the record of system `shop` itself shows that {found}")), "{story}");
        let status = must(&server, &shop.carol, &["calls", "list", "--state", "in_doubt"]);
        assert_eq!(status["calls"], json!([]));
    }
    // What happened though its answer was lost can be undone like any other call.
    let server = shop.serve();
    let calls = must(&server, &shop.carol, &["calls", "list", "--state", "done"]);
    let call = text(&calls["calls"][0], "call");
    let pending = must(&server, &shop.dora, &["undo", &call]);
    must(&server, &shop.carol, &["approvals", "approve", &text(&pending, "approval")]);
    let undone = must(&server, &shop.dora, &["undo", &call, "--wait-ms", "20000"]);
    assert_eq!(undone["result"]["restored"], json!({ "item": 2 }), "{undone}");
    assert!(shop.content().starts_with("1bike 2boat;"), "{}", shop.content());
    assert!(run_in(shop.deployment.path(), &["audit", "verify"]).code == 0);
}

fn nothing_is_written_where_the_journal_is_missing(postgres: bool) {
    let shop = Shop::new(postgres);
    let before = shop.content();
    let mut server = shop.serve();
    let told = refused(&server, &shop.ada, &["call", "rename_item", "{\"id\": 2, \"name\": \"ship\"}"]);
    assert!(text(&told, "message").contains("prepare"), "{told}");
    assert_eq!(shop.content(), before);
    let noise = server.kill();
    assert!(noise.contains("countersign system prepare shop"), "{noise}");
}

macro_rules! on_either_database {
    ($($test:ident),* $(,)?) => {
        mod sqlite { $(#[test] fn $test() { super::$test(false); })* }
        mod postgres { $(#[test] fn $test() { super::$test(true); })* }
    };
}

on_either_database!(
    what_was_approved_is_undone_and_approved_by_another,
    rows_that_changed_since_are_reported_and_refused_or_skipped,
    a_call_of_a_killed_server_is_settled_by_the_systems_record_and_never_repeated,
    nothing_is_written_where_the_journal_is_missing,
);

#[test]
fn what_cannot_be_undone_is_not_called_reversible_and_the_name_people_undo_as_is_taken() {
    let shop = Shop::new(false);
    let file = shop.deployment.path().join("countersign.toml");
    let good = fs::read_to_string(&file).unwrap();
    let wrong = |text: &str, part: &str| {
        fs::write(&file, text).unwrap();
        let checked = run_in(shop.deployment.path(), &["check"]);
        assert!(checked.code == 1 && checked.err.contains(part), "lacks `{part}`: {}", checked.err);
    };
    wrong(&good.replace("[system.shop.journal]", ""), "keeps no journal to undo it with");
    wrong(
        &format!("{good}\n[agent.countersign-undo]\naccounts = [\"acme\"]\n"),
        "the name as which people undo",
    );
    wrong(&good.replace("[system.shop.journal]", "[system.shop.journal]\nretention = 1"), "did you mean");
    let taken = good.replace("[tool.rename_item]", "[tool.undo_shop]");
    wrong(&taken, "has the name of the tool that undoes calls");
}
