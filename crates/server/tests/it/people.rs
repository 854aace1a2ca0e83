//! `countersign people`, beside a running server and without one.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    binary::{Ran, run_in},
    place::{Place, execute, on_either_store},
    served::Served,
};

on_either_store!(who_can_sign_in_is_seen_and_changed_whether_or_not_a_server_runs);

/// A folder of `countersign init` with its ledger in a place, whose server listens wherever there is room.
fn folder(place: &Place) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = run_in(folder.path(), &["init"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let main = folder.path().join("countersign.toml");
    let text = fs::read_to_string(&main).unwrap();
    let (before, rest) = text.split_once("[store]\n").unwrap();
    let (_store, after) = rest.split_once("\n[log]").unwrap();
    // The ledger that `init` has begun is not the one of this place.
    if matches!(place, Place::Postgres(_)) {
        fs::remove_file(folder.path().join("log.key.checkpoint")).unwrap();
    }
    let before = before.replace("127.0.0.1:7780", "127.0.0.1:0");
    fs::write(main, format!("{before}{}\n[log]{after}", place.section(folder.path()))).unwrap();
    folder
}

#[expect(clippy::disallowed_methods, reason = "the test signs in where there is no console")]
fn change(place: &Place, folder: &Path, sql: &str) {
    match place {
        Place::Sqlite => {
            let ledger = rusqlite::Connection::open(folder.join("countersign.db")).unwrap();
            ledger.execute_batch(sql).unwrap();
        }
        Place::Postgres(database) => execute(&database.url, sql.to_owned()).unwrap(),
    }
}

fn said(ran: &Ran, code: i32, word: &str) {
    assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains(word) || ran.out.contains(word), "{word}: {}{}", ran.out, ran.err);
}

#[expect(clippy::needless_pass_by_value, reason = "as every test on a place takes it")]
fn who_can_sign_in_is_seen_and_changed_whether_or_not_a_server_runs(place: Place) {
    let folder = folder(&place);
    let at = folder.path();
    let list = || run_in(at, &["--json", "people", "list"]).value()["people"][0].clone();
    let name = list()["person"].as_str().unwrap().to_owned();
    assert_eq!((&list()["account"], &list()["groups"][0]), (&Value::Null, &"approvers".into()));
    let link = || {
        let made = run_in(at, &["people", "link", &name]);
        assert_eq!(made.code, 0, "{}", made.err);
        let (url, token) = made.out.trim().split_once('#').expect(&made.out);
        assert!(url.ends_with("/console/link") && token.len() == 43, "{}", made.out);
        // Browsers make passkeys for a name alone, and this machine has one.
        assert!(url.starts_with("http://localhost:"), "{}", made.out);
        made.out
    };
    assert_ne!(link(), link());
    said(&run_in(at, &["people", "link", "nobody"]), 2, "no `[person.nobody]`");
    said(&run_in(at, &["people", "sign-out", &name]), 1, "has no account");

    let served = Served::start(at, &[]);
    link();
    said(&run_in(at, &["people", "disable", &name]), 1, "`countersign people link`");
    let hash = |byte: &str| match &place {
        Place::Sqlite => format!("x'{}'", byte.repeat(32)),
        Place::Postgres(_) => format!("'\\x{}'::bytea", byte.repeat(32)),
    };
    let later = i64::MAX;
    let account = format!(
        "INSERT INTO account VALUES ('{name}', '$argon2id$', '[]', 1, 0, 0, 'cli', '[]', NULL, NULL, NULL); \
         INSERT INTO web_session VALUES ('s1', {}, '{name}', 1, 0, {later}, {later}, NULL, NULL); \
         INSERT INTO web_session VALUES ('s2', {}, '{name}', 1, 0, 0, 1, NULL, NULL)",
        hash("01"),
        hash("02")
    );
    change(&place, at, &account);
    let account = list()["account"].clone();
    assert_eq!(
        (&account["disabled"], &account["sessions"], &account["made_by"]),
        (&false.into(), &1.into(), &"cli".into())
    );
    said(&run_in(at, &["people", "list"]), 0, "SIGNED IN");
    said(&run_in(at, &["people", "sign-out", &name]), 0, "signed out of 1 browser");
    assert_eq!(list()["account"]["sessions"], 0);
    said(&run_in(at, &["people", "disable", &name]), 0, "is disabled");
    said(&run_in(at, &["people", "disable", &name]), 1, "disabled already");
    said(&run_in(at, &["people", "link", &name]), 2, "countersign people enable");
    assert_eq!(list()["account"]["disabled"], true);
    said(&run_in(at, &["people", "enable", &name]), 0, "is enabled");
    link();
    assert_eq!(run_in(at, &["audit", "verify"]).code, 0);
    assert_eq!(served.terminate(), Some(0));

    assert_eq!(run_in(at, &["--json", "people", "disable", &name]).value()["changed"], true);
    let kinds = ["link_made", "signed_out", "account_disabled", "account_enabled"];
    let counts = kinds.map(|kind| run_in(at, &["--json", "audit", "query", "--kind", kind]).lines().len());
    assert_eq!(counts, [4, 1, 2, 1]);
    // Who is not configured any more is listed as such.
    let main = at.join("countersign.toml");
    let text = fs::read_to_string(&main).unwrap();
    fs::write(&main, text.replace(&format!("[person.{name}]"), "[person.somebody-else]")).unwrap();
    said(&run_in(at, &["people", "list"]), 0, "(not configured)");
}
