//! `countersign system inspect`, and the catalog that a folder names.

use std::{fs, path::Path};

use rusqlite::Connection;

use crate::binary::{run_in, run_with};

#[expect(clippy::disallowed_methods, reason = "the test makes the database")]
fn sql(folder: &Path, text: &str) {
    Connection::open(folder.join("billing.db")).unwrap().execute_batch(text).unwrap();
}

fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("gate");
    let made = run_with(&["init", folder.to_str().unwrap()], b"");
    assert_eq!(made.code, 0, "{}", made.err);
    (dir, folder)
}

fn name_catalog(folder: &Path, file: &str) {
    let main = folder.join("countersign.toml");
    let text = fs::read_to_string(&main).unwrap();
    let named = text.replacen("[system.billing]", &format!("[system.billing]\ncatalog = \"{file}\""), 1);
    assert_ne!(named, text);
    fs::write(main, named).unwrap();
}

#[test]
fn a_snapshot_is_written_named_checked_and_found_stale() {
    let (_dir, folder) = folder();
    sql(&folder, "create view open_invoices as select id, customer from invoice");
    let inspected = run_in(&folder, &["system", "inspect", "billing", "--out", "catalog/billing.json"]);
    assert_eq!(inspected.code, 0, "{}", inspected.err);
    assert!(inspected.out.contains("main.open_invoices"), "{}", inspected.out);
    let written = fs::read_to_string(folder.join("catalog/billing.json")).unwrap();
    assert!(written.starts_with("{\n  \"format\": 1,\n  \"dialect\": \"sqlite\","), "{written}");
    let printed = run_in(&folder, &["system", "inspect", "billing", "--json"]).value();
    assert_eq!(printed, serde_json::from_str::<serde_json::Value>(&written).unwrap());

    // Nothing to compare with until the configuration names it.
    assert_eq!(run_in(&folder, &["system", "inspect", "billing", "--check"]).code, 2);
    name_catalog(&folder, "catalog/billing.json");
    let same = run_in(&folder, &["system", "inspect", "billing", "--check"]);
    assert_eq!(same.code, 0, "{}{}", same.out, same.err);
    let checked = run_in(&folder, &["check"]);
    assert_eq!(checked.code, 0, "{}", checked.err);

    sql(
        &folder,
        "create trigger gone after delete on invoice begin delete from customer where id = old.customer; end",
    );
    let stale = run_in(&folder, &["system", "inspect", "billing", "--check"]);
    assert_eq!(stale.code, 1);
    assert!(stale.out.contains("~ relation main.invoice: triggers +gone"), "{}", stale.out);
    let told = run_in(&folder, &["system", "inspect", "billing", "--check", "--json"]);
    assert_eq!(told.code, 1);
    assert_eq!(told.value()["ok"], false);
    assert_eq!(run_in(&folder, &["check"]).code, 0, "`check` asks no database");
}

#[test]
fn check_live_finds_what_the_first_call_would() {
    let (_dir, folder) = folder();
    let live = |code: i32| {
        let ran = run_in(&folder, &["check", "--live"]);
        assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
        ran.out
    };
    let told = live(0);
    assert!(told.contains("can be used as they are now"), "{told}");
    assert_eq!(run_in(&folder, &["check", "--live", "--json"]).value()["live"][0]["kind"], "system");

    let more = r#"
[tool.misspelt]
system = "billing"
description = "Reads a column that is not there."
effect = "read"
sql = "select id, custmer from invoice"
[tool.look]
system = "shop"
description = "Looks."
effect = "read"
arguments = {}
request = { method = "GET", path = "/items" }
"#;
    fs::write(folder.join("tools/more.toml"), more).unwrap();
    let main = folder.join("countersign.toml");
    let shop = |auth: &str| {
        format!(
            "\n[system.shop]\nkind = \"http\"\nbase_url = \"http://127.0.0.1:1\"\nallow_private = true\n\
             environment = \"production\"\naccount = \"acme-prod\"\n{auth}"
        )
    };
    let before = fs::read_to_string(&main).unwrap();
    let with = |text: &str| {
        fs::write(&main, format!("{before}{text}")).unwrap();
        let offline = run_in(&folder, &["check"]);
        assert_eq!(offline.code, 0, "{}{}", offline.out, offline.err);
    };
    with(&shop("auth = { bearer = { env = \"COUNTERSIGN_TEST_NO_SUCH_VARIABLE\" } }"));
    let told = live(1);
    assert!(
        told.contains("tools/more.toml:2: tool `misspelt` cannot be used now") && told.contains("custmer"),
        "{told}"
    );
    assert!(
        told.contains("system `shop` cannot be used now")
            && told.contains("COUNTERSIGN_TEST_NO_SUCH_VARIABLE"),
        "{told}"
    );
    with(&shop(""));
    let told = live(1);
    assert!(told.contains("system `shop` cannot be used now"), "nothing listens there: {told}");
    fs::remove_file(folder.join("billing.db")).unwrap();
    let told = live(1);
    assert!(told.contains("system `billing` cannot be used now"), "{told}");
    assert!(!folder.join("billing.db").exists(), "nothing is made");
}

#[test]
fn check_live_reads_the_issuers_keys() {
    let (_dir, folder) = folder();
    let main = folder.join("countersign.toml");
    let before = fs::read_to_string(&main).unwrap();
    let issuer = "https://issuer.example";
    // RFC 7517, appendix A.1 and A.3.
    let curve = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1""#;
    let symmetric = r#"{"kty":"oct","alg":"A128KW","k":"GawgguFyGrWKav7AX4VKUg"}"#;
    let jwks = folder.join("keys.json");
    for (keys, place, trouble) in [
        (format!("{curve}}}"), "jwks_file = \"keys.json\"", None),
        (format!("{curve},\"use\":\"enc\"}}"), "jwks_file = \"keys.json\"", Some("has no key for")),
        (symmetric.to_owned(), "jwks_file = \"keys.json\"", Some("has no key for")),
        (String::new(), "jwks_file = \"keys.json\"", Some("has no key for")),
        ("{".into(), "jwks_file = \"keys.json\"", Some("this is no key set")),
        (String::new(), "jwks_url = \"http://127.0.0.1:1/jwks\"", Some("http://127.0.0.1:1/jwks")),
    ] {
        fs::write(&jwks, format!("{{\"keys\":[{keys}]}}")).unwrap();
        let oauth = format!(
            "\n[oauth]\nissuer = \"{issuer}\"\naudience = \"https://gate.example\"\n{place}\nagent_claim = \"agent\"\n"
        );
        fs::write(&main, format!("{before}{oauth}")).unwrap();
        assert_eq!(run_in(&folder, &["check"]).code, 0);
        let ran = run_in(&folder, &["check", "--live", "--json"]);
        let found = ran.value()["live"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&found["kind"], &found["name"]), (&"issuer".into(), &issuer.into()));
        let why = found["why"].as_str();
        assert_eq!((ran.code, why.is_some()), (i32::from(trouble.is_some()), trouble.is_some()), "{found}");
        assert!(trouble.is_none_or(|trouble| why.unwrap().contains(trouble)), "{found}");
    }
}

#[test]
fn explain_looks_through_what_the_snapshot_shows() {
    let (_dir, folder) = folder();
    sql(
        &folder,
        "create view open_invoices as select id, customer from invoice;
         create trigger gone after delete on invoice begin delete from customer where id = old.customer; end",
    );
    assert_eq!(run_in(&folder, &["system", "inspect", "billing", "--out", "c.json"]).code, 0);
    let explain = ["sql", "explain", "--dialect", "sqlite", "--catalog", "c.json", "--json"];
    let read = run_in(&folder, &[&explain[..], &["select * from open_invoices"]].concat()).value();
    assert_eq!(read["effect"], "read");
    assert_eq!(read["tables"], serde_json::json!(["invoice", "open_invoices"]));
    let delete = run_in(&folder, &[&explain[..], &["delete from invoice where id = 1"]].concat()).value();
    assert!(delete["tables"].as_array().unwrap().contains(&"customer".into()), "{delete}");
    let other =
        run_in(&folder, &["sql", "explain", "--dialect", "postgres", "--catalog", "c.json", "select 1"]);
    assert_eq!(other.code, 2);
    assert!(other.err.contains("is of a database of kind `sqlite`"), "{}", other.err);
}

#[test]
fn a_catalog_that_cannot_be_used_is_a_mistake_of_the_folder() {
    let (_dir, folder) = folder();
    name_catalog(&folder, "catalog.json");
    let file = folder.join("catalog.json");
    let refused = |word: &str| {
        let ran = run_in(&folder, &["check"]);
        assert_ne!(ran.code, 0);
        let told = format!("{}{}", ran.out, ran.err);
        assert!(told.contains(word) && told.contains("catalog"), "{told}");
        assert!(told.contains("countersign.toml"), "{told}");
    };
    refused("catalog.json");
    fs::write(&file, "{}").unwrap();
    refused("format");
    fs::write(&file, r#"{"format": 9, "dialect": "sqlite", "catalog": {}}"#).unwrap();
    refused("format 9");
    fs::write(&file, r#"{"format": 1, "dialect": "postgres", "catalog": {}}"#).unwrap();
    refused("kind `postgres`");
    fs::write(&file, r#"{"format": 1, "dialect": "sqlite", "catalog": {"schema": ["ATTACH 'x.db' AS x"]}}"#)
        .unwrap();
    refused("ATTACH");
    assert!(!folder.join("x.db").exists());
    // Writing a good one does not need a good one.
    assert_eq!(run_in(&folder, &["system", "inspect", "billing", "--out", "catalog.json"]).code, 0);
    assert_eq!(run_in(&folder, &["check"]).code, 0);
}

#[test]
fn what_is_no_database_cannot_be_inspected() {
    let (_dir, folder) = folder();
    let ran = run_in(&folder, &["system", "inspect", "nowhere"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("`[system.nowhere]`"), "{}", ran.err);
}

#[test]
fn extensions_are_named_by_a_system_and_on_the_command_line() {
    let explain = ["sql", "explain", "--dialect", "postgres", "--json"];
    let sql = "select 'A'::citext = name, similarity(name, 'x') from customer";
    let (_dir, folder) = folder();
    let alone = run_in(&folder, &[&explain[..], &[sql]].concat()).value();
    assert_eq!(alone["effect"], "write");
    for named in ["standard", "citext,pg_trgm", "citext@1.6,pg_trgm@1.6"] {
        let read = run_in(&folder, &[&explain[..], &["--extensions", named, sql]].concat()).value();
        assert_eq!(read["effect"], "read", "{named}: {read}");
    }
    let other = run_in(&folder, &["sql", "explain", "--dialect", "postgres", "--extensions", "postgis", sql]);
    assert_eq!(other.code, 2);
    assert!(other.err.contains("`postgis` is no extension"), "{}", other.err);

    let main = folder.join("countersign.toml");
    let text = fs::read_to_string(&main).unwrap();
    let system = |extensions: &str| {
        let system = format!(
            "{text}\n[system.shop]\nkind = \"postgres\"\nenvironment = \"staging\"\naccount = \"acme\"\n\
             url = {{ file = \"shop.url\" }}\nextensions = {extensions}\n"
        );
        fs::write(&main, system).unwrap();
        run_in(&folder, &["check"])
    };
    fs::write(folder.join("shop.url"), "postgres://x:secret@127.0.0.1:1/x").unwrap();
    let good = system("[\"citext\", \"ltree@1.2\"]");
    assert_eq!(good.code, 0, "{}{}", good.out, good.err);
    let bad = system("[\"postgis\"]");
    assert_ne!(bad.code, 0);
    let told = format!("{}{}", bad.out, bad.err);
    assert!(told.contains("`postgis` is no extension") && told.contains("pg_trgm"), "{told}");
}
