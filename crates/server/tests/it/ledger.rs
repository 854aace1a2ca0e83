//! A ledger that went back, was lost or is not one, as whoever operates a server meets it.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    acting::{Folder, Hold},
    binary::{Ran, run_in},
    place::{Database, Place, execute, on_either_store},
    served::Served,
    undo::account,
};

/// A folder of `countersign init` whose server listens wherever there is room.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = run_in(folder.path(), &["init"]);
    assert_eq!(made.code, 0, "{}", made.err);
    change(folder.path(), "127.0.0.1:7780", "127.0.0.1:0");
    folder
}

fn change(folder: &Path, from: &str, to: &str) {
    let main = folder.join("countersign.toml");
    let text = fs::read_to_string(&main).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(main, text.replace(from, to)).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the test is who makes backups")]
fn back_up(folder: &Path) {
    let ledger = rusqlite::Connection::open(folder.join("countersign.db")).unwrap();
    ledger.execute("VACUUM INTO ?1", [folder.join("backup").to_str().unwrap()]).unwrap();
}

fn put_back(folder: &Path) {
    for part in ["countersign.db-wal", "countersign.db-shm"] {
        fs::remove_file(folder.join(part)).ok();
    }
    fs::copy(folder.join("backup"), folder.join("countersign.db")).unwrap();
}

fn said(ran: &Ran, word: &str) {
    assert!(ran.err.contains(word) || ran.out.contains(word), "{}{}", ran.out, ran.err);
}

#[test]
fn a_server_does_not_start_on_a_backup_until_that_is_accepted_and_recorded() {
    let folder = folder();
    let at = folder.path();
    back_up(at);
    assert_eq!(Served::start(at, &[]).terminate(), Some(0));
    assert_eq!(
        run_in(at, &["audit", "dangerous-restart", "--because", "nothing"]).code,
        1,
        "nothing to accept"
    );
    put_back(at);
    let signed = fs::read_to_string(at.join("log.key.checkpoint")).unwrap();
    for command in [&["serve"][..], &["keys", "create", "--agent", "assistant"]] {
        let refused = run_in(at, command);
        assert_eq!(refused.code, 2, "{}", refused.out);
        said(&refused, "the ledger went back");
        said(&refused, "dangerous-restart");
    }
    assert_eq!(fs::read_to_string(at.join("log.key.checkpoint")).unwrap(), signed);
    // It can be looked at, and is refused still.
    assert_eq!(run_in(at, &["audit", "verify"]).code, 1, "the kept checkpoint is compared");

    let accepted = run_in(at, &["audit", "dangerous-restart", "--because", "the disk broke"]);
    assert_eq!(accepted.code, 0, "{}", accepted.err);
    let entries = run_in(at, &["--json", "audit", "query", "--kind", "log_restarted"]);
    let [entry]: [Value; 1] = entries.lines().try_into().unwrap();
    assert_eq!(entry["entry"]["body"]["because"], "the disk broke");
    assert_eq!(entry["entry"]["body"]["signed"][0], signed.as_str());
    assert_eq!(entry["entry"]["body"]["continued"]["size"], entry["index"]);
    assert_eq!(Served::start(at, &[]).terminate(), Some(0));
    assert_eq!(run_in(at, &["audit", "verify"]).code, 0);
}

#[test]
fn a_lost_ledger_or_a_lost_key_makes_nothing_new() {
    let folder = folder();
    let at = folder.path();
    let (key, away) = (at.join("log.key"), at.join("key.away"));
    fs::rename(&key, &away).unwrap();
    for command in [&["serve"][..], &["keys", "create", "--agent", "assistant"]] {
        let refused = run_in(at, command);
        assert_eq!(refused.code, 2, "{}", refused.out);
        said(&refused, "put the key back");
        assert!(!key.exists());
    }
    // Also where the ledger is gone with it.
    put_away(at);
    said(&run_in(at, &["serve"]), "put the key back");
    assert!(!key.exists() && !at.join("countersign.db").exists());
    fs::rename(&away, &key).unwrap();
    for content in [None, Some("")] {
        if let Some(content) = content {
            fs::write(at.join("countersign.db"), content).unwrap();
        }
        let refused = run_in(at, &["serve"]);
        assert_eq!(refused.code, 2, "{}", refused.out);
        said(&refused, "the ledger is gone");
    }
    assert_eq!(run_in(at, &["audit", "dangerous-restart", "--because", "gone"]).code, 0);
    assert_eq!(Served::start(at, &[]).terminate(), Some(0));
}

fn put_away(folder: &Path) {
    for part in ["countersign.db", "countersign.db-wal", "countersign.db-shm"] {
        fs::remove_file(folder.join(part)).ok();
    }
}

#[test]
fn the_ledger_is_no_systems_file_by_any_name() {
    let folder = folder();
    let at = folder.path();
    let system = at.join("billing.db");
    std::os::unix::fs::symlink(&system, at.join("soft.db")).unwrap();
    fs::hard_link(&system, at.join("hard.db")).unwrap();
    std::os::unix::fs::symlink("nothing.db", at.join("dangling.db")).unwrap();
    let before = fs::read(&system).unwrap();
    let main = fs::read_to_string(at.join("countersign.toml")).unwrap();
    let inner = format!("../{}/billing.db", at.file_name().unwrap().to_str().unwrap());
    for name in ["billing.db", "./billing.db", &inner, "soft.db", "hard.db", system.to_str().unwrap()] {
        fs::write(at.join("countersign.toml"), main.replace("\"countersign.db\"", &format!("\"{name}\"")))
            .unwrap();
        for command in ["check", "serve"] {
            let refused = run_in(at, &[command]);
            assert_eq!(refused.code, 1, "{name}: {}", refused.out);
            said(&refused, "are the same file");
        }
    }
    // Neither of them is there yet.
    let both =
        main.replace("\"countersign.db\"", "\"dangling.db\"").replace("\"billing.db\"", "\"nothing.db\"");
    fs::write(at.join("countersign.toml"), both).unwrap();
    said(&run_in(at, &["check"]), "are the same file");
    // Another program's database that is no system's.
    fs::copy(&system, at.join("other.db")).unwrap();
    fs::write(at.join("countersign.toml"), main.replace("\"countersign.db\"", "\"other.db\"")).unwrap();
    put_away(at);
    fs::remove_file(at.join("log.key.checkpoint")).unwrap();
    said(&run_in(at, &["serve"]), "another program's database");
    assert_eq!(fs::read(at.join("other.db")).unwrap(), before);
}

#[test]
fn a_start_on_a_taken_port_leaves_no_trace() {
    let folder = folder();
    let at = folder.path();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    change(at, "127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    let before = run_in(at, &["--json", "audit", "query"]).lines();
    let refused = run_in(at, &["serve"]);
    assert_eq!(refused.code, 1, "{}", refused.out);
    said(&refused, "cannot listen on");
    assert_eq!(run_in(at, &["--json", "audit", "query"]).lines(), before);
}

async fn calls_left_under_way_at_the_end_are_said_by_the_exit_code(place: Place) {
    let folder = Folder::new(place);
    folder.shut_down_within(200);
    let server = folder.serve();
    let url = server.url.clone();
    folder.system.hold(Hold::Acts);
    let calling = folder.call(&url, "act", 5);
    let ending = async {
        let system = folder.system.clone();
        tokio::task::spawn_blocking(move || system.until_held(1)).await.unwrap();
        tokio::task::spawn_blocking(move || server.terminate()).await.unwrap()
    };
    let (_answer, code) = tokio::join!(calling, ending);
    assert_eq!(code, Some(1));
    folder.system.hold(Hold::Nothing);
    let server = folder.serve();
    folder.until_in_doubt(&server.url, 1).await;
}

on_either_store!(async calls_left_under_way_at_the_end_are_said_by_the_exit_code);

/// What `check --live` says of the folder's ledger.
fn looked(folder: &Path) -> (i32, Value) {
    let ran = run_in(folder, &["--json", "check", "--live"]);
    let told = ran.value();
    let found = told["live"].as_array().unwrap().iter().find(|looked| looked["kind"] == "ledger").unwrap();
    (ran.code, found.clone())
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn check_live_says_of_a_ledger_what_a_start_would() {
    let folder = folder();
    let at = folder.path();
    let entries = run_in(at, &["--json", "audit", "query"]).lines().len();
    let (code, found) = looked(at);
    assert_eq!((code, &found["what"]), (0, &format!("its log has {entries} entries").into()), "{found}");
    back_up(at);
    let served = Served::start(at, &[]);
    assert_eq!(looked(at).0, 0, "also while a server runs");
    assert_eq!(served.terminate(), Some(0));

    let refused = |word: &str| {
        let before = names(at);
        let (code, found) = looked(at);
        assert!(code == 1 && found["why"].as_str().is_some_and(|why| why.contains(word)), "{word}: {found}");
        let told = run_in(at, &["check", "--live"]);
        assert!(
            told.out.contains("ledger `sqlite` cannot be used now") && told.out.contains(word),
            "{}",
            told.out
        );
        assert_eq!(names(at), before, "nothing is made");
        assert_eq!(run_in(at, &["check"]).code, 0, "without `--live` nothing is opened");
    };
    put_back(at);
    refused("the ledger went back");
    put_away(at);
    refused("the ledger is gone");
    fs::rename(at.join("log.key"), at.join("key.away")).unwrap();
    refused("put the key back");
    fs::remove_file(at.join("log.key.checkpoint")).unwrap();
    let before = names(at);
    let (code, found) = looked(at);
    assert_eq!((code, &found["what"]), (0, &"it begins when the server starts".into()), "{found}");
    assert_eq!(names(at), before, "nothing is made");

    // A ledger that another key signed.
    let made = run_in(at, &["keys", "create", "--agent", "assistant"]);
    assert_eq!(made.code, 0, "{}", made.err);
    fs::remove_file(at.join("log.key.checkpoint")).unwrap();
    fs::rename(at.join("key.away"), at.join("log.key")).unwrap();
    refused("this is another key");
    change(at, "\"countersign.db\"", "\"nowhere/countersign.db\"");
    refused("there is no folder");
}

#[test]
fn a_ledger_on_postgresql_is_looked_at_without_making_one() {
    let (folder, place) = (folder(), Place::postgres());
    let at = folder.path();
    let Place::Postgres(database) = &place else { panic!("asked for PostgreSQL") };
    change(
        at,
        "kind = \"sqlite\"           # or \"postgres\", for several servers: in a database of its own\npath = \"countersign.db\"",
        "kind = \"postgres\"\nurl = { file = \"store.url\" }",
    );
    let section = place.section(at);
    assert!(section.contains("store.url"), "which wrote it");
    // Its log was begun in the file that `init` made.
    fs::remove_file(at.join("log.key.checkpoint")).unwrap();
    let (code, found) = looked(at);
    assert_eq!((code, &found["what"]), (0, &"it begins when the server starts".into()), "{found}");
    for command in [&["audit", "query"][..], &["keys", "list"]] {
        let refused = run_in(at, command);
        assert_eq!(refused.code, 2, "{}", refused.out);
        said(&refused, "there is no ledger yet");
    }
    execute(&database.url, "DO $$ BEGIN ASSERT to_regclass('migration') IS NULL; END $$".into())
        .expect("looking makes no tables");

    assert_eq!(Served::start(at, &[]).terminate(), Some(0));
    let entries = run_in(at, &["--json", "audit", "query"]).lines().len();
    let (code, found) = looked(at);
    assert_eq!((code, &found["what"]), (0, &format!("its log has {entries} entries").into()), "{found}");
    assert_eq!(run_in(at, &["audit", "verify"]).code, 0);

    // One that an older program left is neither read nor brought up to date by looking.
    let older = "DELETE FROM migration WHERE version = (SELECT max(version) FROM migration)";
    execute(&database.url, older.into()).unwrap();
    let (code, found) = looked(at);
    assert!(code == 0 && found["what"].as_str().unwrap().contains("up to date from schema"), "{found}");
    said(&run_in(at, &["audit", "query"]), "the ledger has schema");
    execute(&database.url, "DELETE FROM entry WHERE idx = 0".into()).unwrap();
    execute(&database.url, "INSERT INTO migration (version) SELECT max(version) + 1 FROM migration".into())
        .unwrap();
    let (code, found) = looked(at);
    assert!(
        code == 1 && found["why"].as_str().unwrap().contains("entries of its log are missing"),
        "{found}"
    );
}

/// Passes connections on, as a port forward does. Ends with the test's process.
fn forward(to: &str) -> u16 {
    let (listener, to) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), to.to_owned());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = std::net::TcpStream::connect(&to).unwrap();
            for (mut from, mut into) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                std::thread::spawn(move || std::io::copy(&mut from, &mut into));
            }
        }
    });
    port
}

fn secret(folder: &Path, name: &str, value: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(folder.join(name), value).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

/// The folder that `init` makes, with both the ledger and its system on PostgreSQL.
fn folder_on_postgres(ledger: &Database) -> TempDir {
    let folder = folder();
    let at = folder.path();
    change(
        at,
        "kind = \"sqlite\"           # or \"postgres\", for several servers: in a database of its own\npath = \"countersign.db\"",
        "kind = \"postgres\"\nurl = { file = \"store.url\" }",
    );
    change(
        at,
        "kind        = \"sqlite\"\npath        = \"billing.db\"   # a sample, made by `countersign init`",
        "kind = \"postgres\"\nurl = { file = \"billing.url\" }",
    );
    secret(at, "store.url", &ledger.url);
    // Its log was begun in the file that `init` made.
    fs::remove_file(at.join("log.key.checkpoint")).unwrap();
    fs::remove_file(at.join("log.key")).unwrap();
    folder
}

fn the_ledgers_database_is_no_systems_by_any_name(variable: &str) {
    let (ledger, other) = (Database::on(variable), Database::on(variable));
    let folder = folder_on_postgres(&ledger);
    let at = folder.path();
    // An account that may do nothing but log in.
    let (_, name) = ledger.url.split('?').next().unwrap().rsplit_once('/').unwrap();
    account(&ledger);
    let account = format!("{name}_tools");
    let parsed = url::Url::parse(&ledger.url).unwrap();
    let (host, port) = (parsed.host_str().unwrap(), parsed.port().unwrap());
    let forwarded = forward(&format!("{host}:{port}"));
    let own = format!("{}:{}", parsed.username(), parsed.password().unwrap());
    for same in [
        ledger.url.clone(),
        format!("postgres://{own}@localhost:{port}/{name}"),
        format!("postgresql://{own}@127.0.0.1:{forwarded}/{name}?application_name=x"),
        format!("postgres://{account}:{account}@{host}:{forwarded}/{name}"),
        format!("host={host} port={port} dbname='{name}' user={account} password={account}"),
    ] {
        secret(at, "billing.url", &same);
        let before = names(at);
        for command in [&["serve"][..], &["keys", "create", "--agent", "assistant"]] {
            let refused = run_in(at, command);
            assert_eq!(refused.code, 2, "{same}: {}", refused.out);
            said(&refused, "the ledger and system `billing` are in the same database");
            said(&refused, "a database of its own");
        }
        let (code, found) = looked(at);
        let why = found["why"].as_str().unwrap_or_default();
        assert!(code == 1 && why.contains("are in the same database"), "{same}: {found}");
        assert_eq!(names(at), before, "{same}: nothing is made");
    }
    let untouched = "DO $$ BEGIN ASSERT to_regclass('migration') IS NULL; END $$";
    execute(&ledger.url, untouched.into()).expect("no tables were made");

    // Another database of the same server, with the same account.
    execute(&other.url, "CREATE TABLE customer (id int PRIMARY KEY)".into()).unwrap();
    secret(at, "billing.url", &other.url);
    let made = run_in(at, &["keys", "create", "--agent", "assistant"]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert_eq!(looked(at).1["why"], Value::Null);
    let served = Served::start(at, &[]);
    let call = || {
        let arguments = r#"{"sql": "select id from customer"}"#;
        served.run(made.out.trim(), &["call", "query_billing", arguments])
    };
    let done = call();
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    // A secret that is changed under a running server: its connections are looked at, too.
    secret(at, "billing.url", &format!("postgres://{account}:{account}@{host}:{forwarded}/{name}"));
    let said_then = call();
    said(&said_then, "keeps a ledger of Countersign");
    assert_eq!(served.terminate(), Some(0));
    // Also where a ledger that is somebody else's was put beside the tables of a system.
    change(at, "kind = \"postgres\"\nurl = { file = \"store.url\" }", "path = \"countersign.db\"");
    fs::remove_file(at.join("log.key.checkpoint")).unwrap();
    put_away(at);
    let ran = run_in(at, &["check", "--live"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    said(&ran, "keeps a ledger of Countersign");
}

#[test]
fn the_ledgers_database_is_no_systems_on_the_machines_server() {
    the_ledgers_database_is_no_systems_by_any_name("COUNTERSIGN_TEST_POSTGRES");
}

#[test]
fn the_ledgers_database_is_no_systems_on_postgresql_18() {
    the_ledgers_database_is_no_systems_by_any_name("COUNTERSIGN_TEST_POSTGRES_18");
}
