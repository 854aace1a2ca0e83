//! People act at the command line as themselves: by a page of the console, and in none of the ways in which others would.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::clock::SystemClock;
use countersign_audit::sha256;
use countersign_gate::Clock as _;
use countersign_rules::PersonId;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::{
    authenticator::Passkey,
    console::{Browser, Page},
    provider::{SECRET, StandIn, now_s},
    rig::{MAIN, Rig, read},
    sign_in,
};
use crate::{
    deployment::http,
    place::{Place, on_either_store},
};

on_either_store!(
    async a_person_lets_a_command_line_act_as_them_and_ends_it,
    a_code_gives_one_key_whoever_races_for_it_and_after_a_restart,
    a_key_that_hangs_on_a_provider_s_sign_in_ends_with_it,
);

const VERIFIER: &str = "a-verifier-of-forty-three-characters-or-more-0123456789";
const AT: &str = "http://127.0.0.1:4711/signed-in";
const STATE: &str = "a-state-of-the-command-line";

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(sha256(VERIFIER.as_bytes()).as_bytes())
}

/// What a command line asks, with some of it said otherwise.
fn asks(change: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let mut asks = vec![
        ("code_challenge", challenge()),
        ("code_challenge_method", "S256".into()),
        ("redirect_uri", AT.into()),
        ("state", STATE.into()),
        ("machine", "laptop".into()),
        ("seconds", "43200".into()),
    ];
    for (name, value) in change {
        asks.iter_mut().find(|(known, _)| known == name).unwrap().1 = (*value).to_owned();
    }
    asks
}

fn page_of(asks: &[(&str, String)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    format!("/console/command-line?{}", query.extend_pairs(asks).finish())
}

async fn press(browser: &Browser<'_>, asks: &[(&str, String)], more: &[(&str, &str)]) -> Page {
    let mut form: Vec<(&str, &str)> = asks.iter().map(|(name, value)| (*name, value.as_str())).collect();
    form.extend(more);
    browser.send(Method::POST, "/console/command-line", &form).await
}

/// Where the page leads on.
fn leads_to(page: &Page) -> Url {
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let (_, rest) = page.text.split_once("content=\"0; url=").unwrap_or_else(|| panic!("{}", page.text));
    let address = rest.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
    address.parse().unwrap()
}

fn code_in(page: &Page) -> String {
    let url = leads_to(page);
    assert!(url.as_str().starts_with(&format!("{AT}?code=")), "{url}");
    let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    assert_eq!(query[1], ("state".to_owned(), STATE.to_owned()), "{url}");
    query[0].1.clone()
}

/// Lets a command line act as who is signed in.
async fn code(browser: &Browser<'_>) -> String {
    let token = browser.get("/console/people").await.field("form_token");
    code_in(&press(browser, &asks(&[]), &[("form_token", &token)]).await)
}

async fn exchange(rig: &Rig, code: &str, verifier: &str, at: &str) -> (StatusCode, Value) {
    let body = json!({ "code": code, "code_verifier": verifier, "redirect_uri": at });
    rig.post("", "/v1/sign-in/exchange", body).await
}

async fn key(rig: &Rig, browser: &Browser<'_>) -> String {
    let (status, body) = exchange(rig, &code(browser).await, VERIFIER, AT).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["secret"].as_str().unwrap().to_owned()
}

async fn get(rig: &Rig, key: &str, path: &str) -> (StatusCode, Value) {
    read(http().get(rig.url(path)).bearer_auth(key).send().await.unwrap()).await
}

/// A command line at a machine where somebody has a folder of their own.
struct Machine {
    home: tempfile::TempDir,
    server: String,
}

impl Machine {
    fn new(rig: &Rig) -> Self {
        Self { home: tempfile::tempdir().unwrap(), server: rig.url("") }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        for variable in ["COUNTERSIGN_KEY", "COUNTERSIGN_URL", "XDG_CONFIG_HOME"] {
            command.env_remove(variable);
        }
        command.env("HOME", self.home.path()).args(words);
        if !words.contains(&"--server") {
            command.args(["--server", &self.server]);
        }
        command
    }

    fn file(&self) -> PathBuf {
        let keys = self.home.path().join(".config/countersign/keys");
        std::fs::read_dir(keys).unwrap().next().unwrap().unwrap().path()
    }

    fn ends(&self, code: i32, words: &[&str]) -> (String, String) {
        ends(self.command(words), code)
    }

    /// Has somebody sign in; returns the address that is shown, and the process that waits.
    fn login(&self, words: &[&str]) -> (Child, Url) {
        let mut command = self.command(&[&["login"], words].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
        let told = lines.map(Result::unwrap).find(|line| line.trim().starts_with("http")).unwrap();
        (child, told.trim().parse().unwrap())
    }
}

fn ends(mut command: Command, code: i32) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(code), "{command:?}\n{stdout}\n{stderr}");
    (stdout, stderr)
}

/// What blocks, beside the server of this process.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Opens the page that a command line shows, and presses the button; returns where that leads.
async fn let_it(browser: &Browser<'_>, page: &Url) -> Url {
    let shown = browser.get(&format!("{}?{}", page.path(), page.query().unwrap())).await;
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
    let asks: Vec<(String, String)> = page.query_pairs().into_owned().collect();
    let asks: Vec<(&str, String)> = asks.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    leads_to(&press(browser, &asks, &[("form_token", &shown.field("form_token"))]).await)
}

async fn a_person_lets_a_command_line_act_as_them_and_ends_it(place: Place) {
    let rig = Rig::on(place).await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let machine = Machine::new(&rig);
    let (_, told) = blocking(|| machine.ends(2, &["whoami"]));
    assert!(told.contains("countersign login"), "{told}");

    let (child, page) = blocking(|| machine.login(&["--machine", "anna's laptop", "--for", "2h", "--json"]));
    let shown = alice.get(&format!("{}?{}", page.path(), page.query().unwrap())).await;
    for part in ["<strong>alice</strong>", "anna-s-laptop", "nobody has checked it", "countersign login"] {
        assert!(shown.text.contains(part), "{part}: {}", shown.text);
    }
    let back = let_it(&alice, &page).await;
    assert_eq!((back.host_str(), back.path()), (Some("127.0.0.1"), "/signed-in"));
    // Whatever else runs on the machine knocks in vain, and keeps nobody from coming back.
    let mut other = back.clone();
    other.set_query(Some("code=evil&state=evil"));
    assert_eq!(http().get(other).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(http().get(back).send().await.unwrap().status(), StatusCode::OK);
    let output = blocking(|| child.wait_with_output()).unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout} {}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_str(stdout.trim()).unwrap();
    assert_eq!(told["person"], "alice");
    assert!(!stdout.contains("csk_"), "{stdout}");

    // It is used where nothing else is said, and by nobody else.
    let file = machine.file();
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let who: Value = serde_json::from_str(&blocking(|| machine.ends(0, &["whoami", "--json"])).0).unwrap();
    assert_eq!(
        (&who["person"], &who["groups"], &who["roles"]),
        (&json!("alice"), &json!(["approvers"]), &json!(["approver", "operator", "admin"])),
        "{who}"
    );
    assert!(who["by"].as_str().unwrap().contains("countersign login"), "{who}");
    let (_, listed) = rig.get("alice", "/v1/keys").await;
    let listed =
        listed["keys"].as_array().unwrap().iter().find(|one| one["key"] == told["key"]).unwrap().clone();
    assert_eq!(listed["scopes"], json!(["account:1", "machine:anna-s-laptop"]), "{listed}");
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    blocking(|| machine.ends(0, &["approvals", "approve", &approval]));
    assert_eq!(rig.result(&approval).await.0, StatusCode::OK);
    // What is said comes first: the file, then the variable.
    rig.deployment.write_secret("bob.key", rig.key("bob"));
    let bobs = rig.deployment.at("bob.key").display().to_string();
    let who = |mut command: Command| {
        command.arg("--json");
        serde_json::from_str::<Value>(&blocking(|| ends(command, 0)).0).unwrap()["person"].clone()
    };
    assert_eq!(who(machine.command(&["whoami", "--key-file", &bobs])), "bob");
    let mut command = machine.command(&["whoami"]);
    assert_eq!(
        who({
            command.env("COUNTERSIGN_KEY", rig.key("owner"));
            command
        }),
        "owner"
    );
    let mut command = machine.command(&["whoami", "--key-file", &bobs]);
    assert_eq!(
        who({
            command.env("COUNTERSIGN_KEY", rig.key("owner"));
            command
        }),
        "bob"
    );
    // No key is told to another server.
    blocking(|| machine.ends(2, &["whoami", "--server", "http://127.0.0.1:1"]));

    // One that others can read is not used, nor one that lies elsewhere.
    let permit = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    permit(0o644);
    let (_, told) = blocking(|| machine.ends(2, &["whoami"]));
    assert!(told.contains("can be read or changed by others"), "{told}");
    permit(0o600);
    let elsewhere = machine.home.path().join("elsewhere.json");
    std::fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    let (_, told) = blocking(|| machine.ends(2, &["whoami"]));
    assert!(told.contains("leads elsewhere"), "{told}");
    std::fs::rename(&elsewhere, &file).unwrap();

    // Signing in again gives the one before back.
    let before: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let (child, page) = blocking(|| machine.login(&[]));
    let back = let_it(&alice, &page).await;
    assert_eq!(http().get(back).send().await.unwrap().status(), StatusCode::OK);
    assert!(blocking(|| child.wait_with_output()).unwrap().status.success());
    let old = before["secret"].as_str().unwrap();
    assert_eq!(get(&rig, old, "/v1/sign-in").await.0, StatusCode::UNAUTHORIZED);

    let kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let (told, _) = blocking(|| machine.ends(0, &["logout"]));
    assert!(told.contains("is revoked"), "{told}");
    assert!(!file.exists());
    assert_eq!(get(&rig, kept["secret"].as_str().unwrap(), "/v1/sign-in").await.0, StatusCode::UNAUTHORIZED);
    blocking(|| machine.ends(1, &["logout"]));
    let (_, body) = rig.get("alice", "/v1/log/entries?kind=key_revoked").await;
    let entries = body["entries"].as_array().unwrap();
    assert_eq!(entries.iter().filter(|one| one["entry"]["body"]["by"] == "alice").count(), 2, "{body}");
    // An operator's key is not given back so.
    let (status, body) = read(rig.request("bob", Method::DELETE, "/v1/sign-in").send().await.unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert_eq!(rig.get("clerk", "/v1/sign-in").await.0, StatusCode::FORBIDDEN, "an agent is no person");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_out_while_the_server_is_away_is_told_that_the_key_is_good_still() {
    let mut rig = Rig::new().await;
    let machine = Machine::new(&rig);
    let secret = {
        let alice = Browser::signed_in(&rig, "alice", "cli").await;
        let (child, page) = blocking(|| machine.login(&[]));
        // A person who says no is heard.
        let mut no =
            page.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.parse::<Url>().unwrap();
        let state = page.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let shown = alice.get(&format!("{}?{}", page.path(), page.query().unwrap())).await;
        assert!(shown.text.contains(&format!("error=access_denied&#38;state={state}")), "{}", shown.text);
        no.set_query(Some(&format!("error=access_denied&state={state}")));
        assert_eq!(http().get(no).send().await.unwrap().status(), StatusCode::OK);
        assert_eq!(blocking(|| child.wait_with_output()).unwrap().status.code(), Some(2));

        let (child, page) = blocking(|| machine.login(&[]));
        let back = let_it(&alice, &page).await;
        http().get(back).send().await.unwrap();
        assert!(blocking(|| child.wait_with_output()).unwrap().status.success());
        let kept: Value = serde_json::from_slice(&std::fs::read(machine.file()).unwrap()).unwrap();
        kept["secret"].as_str().unwrap().to_owned()
    };
    let file = machine.file();
    rig.stop().await;
    let (_, told) = blocking(|| machine.ends(1, &["logout"]));
    assert!(told.contains("it is good until 2"), "{told}");
    assert!(!file.exists());
    rig.start().await;
    assert_eq!(get(&rig, &secret, "/v1/sign-in").await.0, StatusCode::OK);
    // Nothing is sent unencrypted, and to no other loopback name.
    for server in ["http://countersign.example", "http://127.0.0.1.evil.example", "ftp://127.0.0.1"] {
        let (_, told) = blocking(|| machine.ends(2, &["login", "--server", server]));
        assert!(told.contains("is not encrypted"), "{told}");
    }
    for time in ["31d", "1s", "for ever"] {
        blocking(|| machine.ends(2, &["login", "--for", time]));
    }
}

async fn a_code_gives_one_key_whoever_races_for_it_and_after_a_restart(place: Place) {
    let mut rig = Rig::on(place).await;
    let (spent, kept) = {
        let alice = Browser::signed_in(&rig, "alice", "cli").await;
        let raced = code(&alice).await;
        let racing = (0..8).map(|_| exchange(&rig, &raced, VERIFIER, AT));
        let answers = futures::future::join_all(racing).await;
        let won: Vec<_> = answers.iter().filter(|(status, _)| *status == StatusCode::OK).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        for (status, body) in &answers {
            assert!(*status == StatusCode::OK || *status == StatusCode::UNAUTHORIZED, "{body}");
        }
        (raced, code(&alice).await)
    };
    rig.stop().await;
    rig.start().await;
    let (status, body) = exchange(&rig, &spent, VERIFIER, AT).await;
    assert_eq!((status, &body["code"]), (StatusCode::UNAUTHORIZED, &json!("R015")), "{body}");
    // Nothing was written of it before.
    let (status, body) = exchange(&rig, &kept, VERIFIER, AT).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (_, keys) = rig.get("alice", "/v1/keys").await;
    assert_eq!(keys.to_string().matches("machine:laptop").count(), 2, "{keys}");
}

#[tokio::test]
async fn no_code_leaves_the_machine_and_none_is_had_by_another_page_or_program() {
    let rig = Rig::new().await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let token = alice.get("/console/people").await.field("form_token");
    for elsewhere in [
        "https://evil.example/signed-in",
        "http://evil.example:4711/signed-in",
        "http://localhost:4711/signed-in",
        "https://127.0.0.1:4711/signed-in",
        "http://evil@127.0.0.1:4711/signed-in",
        "http://127.0.0.1:4711@evil.example/signed-in",
        "http://127.0.0.1:4711/other",
        "http://0.0.0.0:4711/signed-in",
        "http://[::1]:4711/signed-in",
        "//evil.example/signed-in",
        "/console/log",
        "javascript:alert(1)",
    ] {
        let asks = asks(&[("redirect_uri", elsewhere)]);
        for page in [alice.get(&page_of(&asks)).await, press(&alice, &asks, &[("form_token", &token)]).await]
        {
            assert_eq!(page.status, StatusCode::BAD_REQUEST, "{elsewhere}: {}", page.text);
            assert!(
                !page.text.contains("code=") && !page.text.contains(elsewhere),
                "{elsewhere}: {}",
                page.text
            );
        }
    }
    // A form without the token of this session's pages, with another's, and from another site.
    let eve = Browser::signed_in(&rig, "bob", "cli").await;
    let others = eve.get("/console/people").await.field("form_token");
    for token in [&[][..], &[("form_token", "")], &[("form_token", others.as_str())]] {
        let page = press(&alice, &asks(&[]), token).await;
        assert!(page.status.is_client_error() && !page.text.contains("code="), "{token:?}: {}", page.text);
    }
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    let form = form.extend_pairs(asks(&[])).append_pair("form_token", &token).finish();
    let request = alice.request(Method::POST, "/console/command-line").header("sec-fetch-site", "cross-site");
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    // Who is not signed in is led to the door and back to the page, whole.
    let nobody = Browser::new(&rig);
    let here = page_of(&asks(&[]));
    let page = nobody.get(&here).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    let door: Url = rig.url(page.location()).parse().unwrap();
    let next = door.query_pairs().find(|(name, _)| name == "next").unwrap().1.into_owned();
    assert_eq!(next, here);
    assert_eq!(alice.get(page.location()).await.location(), here, "who is signed in goes on");
    assert_eq!(press(&nobody, &asks(&[]), &[("form_token", &token)]).await.status, StatusCode::UNAUTHORIZED);

    let good = code(&alice).await;
    for (code, verifier, at) in [
        (good.as_str(), "another-verifier-of-forty-three-characters-or-more", AT),
        (&good, &challenge(), AT),
        (&good, "", AT),
        (&good, VERIFIER, "http://127.0.0.1:4712/signed-in"),
        (&good.replace('.', "x."), VERIFIER, AT),
        ("", VERIFIER, AT),
        (rig.key("alice"), VERIFIER, AT),
    ] {
        let (status, body) = exchange(&rig, code, verifier, at).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
        assert!(!body.to_string().contains("csk_"), "{body}");
    }
    let body = json!({ "code": good, "code_verifier": VERIFIER, "redirect_uri": AT, "person": "owner" });
    assert_eq!(rig.post("", "/v1/sign-in/exchange", body).await.0, StatusCode::BAD_REQUEST);
    // None of that has spent it. A code is no key, and neither is a session.
    assert_eq!(get(&rig, &good, "/v1/sign-in").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(exchange(&rig, &good, VERIFIER, AT).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_key_of_a_command_line_ends_with_its_account_and_answers_no_more_than_the_account() {
    let rig = Rig::new().await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let approve = async |key: &str| {
        let path = rig.url(&format!("/v1/approvals/{approval}/approve"));
        read(http().post(path).bearer_auth(key).json(&json!({})).send().await.unwrap()).await
    };
    // The agent acts for the owner, who made this account: it may be the owner who is signed in.
    let second = Browser::signed_in(&rig, "alice", "owner").await;
    let key_of_second = key(&rig, &second).await;
    let (status, body) = approve(&key_of_second).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    assert!(body["detail"].as_str().unwrap().contains("who made the account"), "{body}");
    let other = [
        ("refuse", json!({ "reason": "no" })),
        ("narrow", json!({ "arguments": { "name": "fig" }, "reason": "no" })),
        ("look-closer", json!({})),
    ];
    for (what, body) in other {
        let path = rig.url(&format!("/v1/approvals/{approval}/{what}"));
        let (status, body) =
            read(http().post(path).bearer_auth(&key_of_second).json(&body).send().await.unwrap()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{what}: {body}");
    }
    // A link of the machine makes the account alice's own, and ends what was had by the one before.
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    assert_eq!(approve(&key_of_second).await.0, StatusCode::UNAUTHORIZED);

    let (app, person) = (&rig.running().app, PersonId::parse("alice").unwrap());
    let first = key(&rig, &alice).await;
    assert_eq!(get(&rig, &first, "/v1/keys").await.0, StatusCode::OK);
    app.accounts().sign_out_everywhere(&person, "cli").await.unwrap();
    let (status, body) = get(&rig, &first, "/v1/keys").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body["detail"].as_str().unwrap().contains("signed out everywhere"), "{body}");
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let second = key(&rig, &alice).await;
    assert_eq!(approve(&second).await.0, StatusCode::OK);
    app.store().enable_account(&person, false, "cli", SystemClock.now_ms()).await.unwrap();
    let (status, body) = approve(&second).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    assert!(body["detail"].as_str().unwrap().contains("disabled"), "{body}");
}

async fn a_key_that_hangs_on_a_provider_s_sign_in_ends_with_it(place: Place) {
    let idp = StandIn::new().await;
    let main = sign_in::main(&idp);
    let rig = Rig::secret_main(place, &main, &[("secret", SECRET)]).await;
    let before = now_s() - 20;
    let session =
        |sub: &str, sid: &str| json!({ "sub": sub, "sid": sid, "iat": before, "groups": ["DB admins"] });
    let one = sign_in::signed_in(&rig, &idp, &session("0043", "s1")).await;
    let two = sign_in::signed_in(&rig, &idp, &session("0043", "s2")).await;
    let local = Browser::signed_in(&rig, "owner", "cli").await;
    let (first, second, owners) = (key(&rig, &one).await, key(&rig, &two).await, key(&rig, &local).await);
    let is_good = async |key: &str| get(&rig, key, "/v1/sign-in").await.0 == StatusCode::OK;
    // It has the groups of the configuration, and not those that the provider brought.
    let (_, who) = get(&rig, &first, "/v1/sign-in").await;
    assert_eq!((&who["person"], &who["groups"]), (&json!("bob"), &json!(["auditors"])), "{who}");
    assert!(who["scopes"].to_string().contains("session:"), "{who}");
    // No longer than the session could last: a week.
    let token = one.get("/console/people").await.field("form_token");
    let month = asks(&[("seconds", "2592000")]);
    let (status, body) =
        exchange(&rig, &code_in(&press(&one, &month, &[("form_token", &token)]).await), VERIFIER, AT).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let until: jiff::Timestamp = body["expires_at"].as_str().unwrap().parse().unwrap();
    assert!(until.as_second() <= now_s() + 7 * 86_400, "{body}");
    let third = body["secret"].as_str().unwrap();

    let order = async |claims: &Value| sign_in::order(&rig, "corp", &idp.logout(claims)).await;
    assert_eq!(order(&json!({ "sid": "s2" })).await, StatusCode::OK);
    assert!(
        is_good(&first).await && !is_good(&second).await && is_good(third).await && is_good(&owners).await
    );
    let on_the_way = code(&one).await;
    assert_eq!(order(&json!({ "sub": "0043" })).await, StatusCode::OK);
    assert!(!is_good(&first).await && !is_good(third).await && is_good(&owners).await);
    assert_eq!(exchange(&rig, &on_the_way, VERIFIER, AT).await.0, StatusCode::UNAUTHORIZED);
    // Signing out of such a session in the browser ends it as well.
    let again =
        sign_in::signed_in(&rig, &idp, &json!({ "sub": "0043", "sid": "s5", "iat": now_s() + 1 })).await;
    let fourth = key(&rig, &again).await;
    assert!(is_good(&fourth).await);
    let token = again.get("/console/people").await.field("form_token");
    again.send(Method::POST, "/console/sign-out", &[("form_token", &token)]).await;
    assert!(!is_good(&fourth).await);
}

/// Has every sign-in be from a while ago.
async fn left_open(rig: &mut Rig) {
    rig.stop().await;
    let ledger = rusqlite::Connection::open(rig.deployment.at("countersign.db")).unwrap();
    assert!(ledger.execute("UPDATE web_session SET created_ms = created_ms - 601000", []).unwrap() > 0);
    drop(ledger);
    rig.start().await;
}

#[tokio::test]
async fn a_passkey_lets_a_command_line_act_once_and_for_what_was_shown() {
    let mut rig = Rig::new().await;
    let mut key = Passkey::new(-7);
    let cookie = {
        let alice = Browser::signed_in(&rig, "alice", "cli").await;
        assert_eq!(alice.add(&mut key).await.status, StatusCode::SEE_OTHER);
        alice.cookie
    };
    left_open(&mut rig).await;
    // The server has another port now, and with it another origin.
    key.origin = rig.running().app.accounts().passkey_site().unwrap().origin.clone();
    let mut alice = Browser::new(&rig);
    alice.cookie = cookie;
    let page = alice.get(&page_of(&asks(&[]))).await;
    assert!(page.text.contains("data-passkey=\"get\" data-unless=\"password\""), "{}", page.text);
    let token = page.field("form_token");
    let refused = |page: &Page, word: &str| {
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.text);
        assert!(page.text.contains(word) && !page.text.contains("code="), "{word}: {}", page.text);
    };
    refused(&press(&alice, &asks(&[]), &[("form_token", &token)]).await, "ten minutes ago");
    let wrong = [("form_token", token.as_str()), ("password", "wrong")];
    refused(&press(&alice, &asks(&[]), &wrong).await, "the password is wrong");

    let asked_for = async |asks: &[(&str, String)]| {
        let mut form: Vec<(&str, &str)> = asks.iter().map(|(name, value)| (*name, value.as_str())).collect();
        form.push(("form_token", &token));
        alice.options("/console/command-line", &form).await
    };
    let asked = asked_for(&asks(&[])).await;
    let (sealed, said) = (asked["sealed"].as_str().unwrap(), key.get(&asked));
    let shown = [("form_token", token.as_str()), ("sealed", sealed), ("said", &said)];
    // Not for another command line, another time or another place than was shown.
    for (name, value) in [
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("redirect_uri", "http://127.0.0.1:4712/signed-in"),
        ("seconds", "2592000"),
        ("machine", "another"),
    ] {
        refused(&press(&alice, &asks(&[(name, value)]), &shown).await, "not begun here");
    }
    // What it signed to set a password lets nothing act.
    let other = alice.options("/console/account/password", &[("form_token", &token)]).await;
    let said_to_other = key.get(&other);
    let of_other = [
        ("form_token", token.as_str()),
        ("sealed", other["sealed"].as_str().unwrap()),
        ("said", &said_to_other),
    ];
    refused(&press(&alice, &asks(&[]), &of_other).await, "not begun here");
    let location = code_in(&press(&alice, &asks(&[]), &shown).await);
    assert_eq!(exchange(&rig, &location, VERIFIER, AT).await.0, StatusCode::OK);
    refused(&press(&alice, &asks(&[]), &shown).await, "was used before");
}

/// Nobody has a role by a command line that they have not.
#[tokio::test]
async fn a_key_of_a_command_line_has_the_roles_of_its_person() {
    let rig =
        Rig::with(&format!("{MAIN}[person.vera]\ngroups = [\"approvers\"]\nroles = [\"viewer\"]\n")).await;
    let vera = Browser::signed_in(&rig, "vera", "cli").await;
    let key = key(&rig, &vera).await;
    let (_, who) = get(&rig, &key, "/v1/sign-in").await;
    assert_eq!(who["roles"], json!(["viewer"]), "{who}");
    let (status, body) = get(&rig, &key, "/v1/keys").await;
    assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("R016")), "{body}");
}
