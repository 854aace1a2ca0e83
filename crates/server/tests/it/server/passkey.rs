//! Passkeys over HTTP: made, used, removed, and everything that must not pass for one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_rules::PersonId;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{
    authenticator::{PRESENT, Passkey, SYNCABLE, SYNCED, VERIFIED},
    console::{Browser, Page},
    rig::Rig,
};
use crate::place::{Place, on_either_store};

on_either_store!(
    async a_passkey_is_made_by_a_link_signs_in_alone_and_is_removed,
    a_forged_assertion_counts_for_nothing,
);

impl Browser<'_> {
    /// What the script of a page fetches for a form.
    pub(crate) async fn options(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let page = self.send(Method::POST, &format!("{path}/options"), form).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text);
        serde_json::from_str(&page.text).unwrap()
    }

    /// Adds a passkey to the account of who is signed in.
    pub(crate) async fn add(&self, passkey: &mut Passkey) -> Page {
        let token = self.get("/console/account").await.field("form_token");
        let asked = self.options("/console/account/passkeys", &[("form_token", &token)]).await;
        let said = passkey.make(&asked);
        let sealed = asked["sealed"].as_str().unwrap();
        let form = [("form_token", token.as_str()), ("sealed", sealed), ("said", &said), ("label", "my key")];
        self.send(Method::POST, "/console/account/passkeys", &form).await
    }

    async fn begun(&self) -> Value {
        self.options("/console/passkey/sign-in", &[]).await
    }

    async fn end(&mut self, sealed: &Value, said: &str) -> Page {
        let form = [("sealed", sealed.as_str().unwrap()), ("said", said), ("next", "/console/log")];
        let page = self.send(Method::POST, "/console/passkey/sign-in", &form).await;
        if page.headers.contains_key(header::SET_COOKIE) {
            self.keep(&page);
        }
        page
    }

    pub(crate) async fn sign_in_by(&mut self, passkey: &Passkey) -> Page {
        let asked = self.begun().await;
        self.end(&asked["sealed"], &passkey.get(&asked)).await
    }
}

async fn link(rig: &Rig, person: &str, by: &str) -> String {
    rig.running().app.accounts().invite(&PersonId::parse(person).unwrap(), by, 60_000).await.unwrap()
}

fn signed_in(page: &Page) {
    assert_eq!((page.status, page.location()), (StatusCode::SEE_OTHER, "/console/log"), "{}", page.text);
}

fn refused(page: &Page, what: &str, word: &str) {
    assert_eq!(page.status, StatusCode::UNAUTHORIZED, "{what}: {}", page.text);
    assert!(!page.headers.contains_key(header::SET_COOKIE), "{what}");
    assert!(page.text.contains(word), "{what}: {}", page.text);
}

async fn bodies(rig: &Rig, kind: &str) -> Vec<Value> {
    let entries = rig.running().app.store().entries(0, 1_000).await.unwrap();
    let values = entries.iter().map(|entry| serde_json::from_slice::<Value>(&entry.bytes).unwrap());
    values.filter(|value| value["kind"] == kind).map(|value| value["body"].clone()).collect()
}

async fn a_passkey_is_made_by_a_link_signs_in_alone_and_is_removed(place: Place) {
    let rig = Rig::on(place).await;
    let mut alice = Browser::new(&rig);
    let token = link(&rig, "alice", "cli").await;
    let asked = alice.options("/console/passkey/link", &[("token", &token)]).await;
    let options = &asked["options"];
    assert_eq!(options["rp"]["id"], "localhost");
    assert_eq!(options["authenticatorSelection"]["residentKey"], "required");
    assert_eq!(options["authenticatorSelection"]["userVerification"], "required");
    // The authenticator is told no name by which the account could be found elsewhere.
    assert_ne!(options["user"]["id"], "alice");
    let mut key = Passkey::new(-7);
    key.flags |= SYNCABLE | SYNCED;
    let said = key.make(&asked);
    let form = [
        ("token", token.as_str()),
        ("sealed", asked["sealed"].as_str().unwrap()),
        ("said", &said),
        ("label", "<key>"),
    ];
    // One that was made for one link is good for no other.
    let other = link(&rig, "alice", "cli").await;
    let of_other = [("token", other.as_str()), form[1], form[2], form[3]];
    let page = alice.send(Method::POST, "/console/passkey/link", &of_other).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.text);
    let page = alice.send(Method::POST, "/console/passkey/link", &form).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    assert_eq!(page.text.matches("<li><code>").count(), 10, "{}", page.text);
    let again = alice.send(Method::POST, "/console/passkey/link", &form).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED, "the link is spent");
    signed_in(&alice.sign_in_by(&key).await);
    let account = alice.get("/console/account").await;
    assert!(
        account.text.contains("&#60;key&#62;") && account.text.contains("on several devices"),
        "{}",
        account.text
    );

    // More of them, of each kind; each signs in, and none twice into one account.
    for algorithm in [-8, -257] {
        let mut more = Passkey::new(algorithm);
        let page = alice.add(&mut more).await;
        assert_eq!(page.location(), "/console/account?done=added", "{}", page.text);
        signed_in(&Browser::new(&rig).sign_in_by(&more).await);
        let page = alice.add(&mut more).await;
        assert!(page.text.contains("has this passkey already"), "{}", page.text);
    }
    let (added, signed) = (bodies(&rig, "passkey_added").await, bodies(&rig, "signed_in").await);
    assert_eq!(added.iter().map(|one| one["algorithm"].clone()).collect::<Vec<_>>(), [-7, -8, -257]);
    assert_eq!(signed.iter().filter(|one| one["with"] == "passkey").count(), 3);
    assert_eq!(signed[1]["passkey"], added[0]["passkey"]);
    assert!(!added[0].to_string().contains(&URL_SAFE_NO_PAD.encode(&key.credential)), "{added:?}");

    // It goes with the account: disabled, and signed out everywhere, and by who removes it.
    let store = rig.running().app.store();
    let id = PersonId::parse("alice").unwrap();
    store.enable_account(&id, false, "cli", 1).await.unwrap();
    refused(&Browser::new(&rig).sign_in_by(&key).await, "a disabled account", "disabled");
    store.enable_account(&id, true, "cli", 2).await.unwrap();
    assert_eq!(alice.get("/console/account").await.status, StatusCode::SEE_OTHER);
    signed_in(&alice.sign_in_by(&key).await);
    let page = alice.get("/console/account").await;
    let (token, passkey) = (page.field("form_token"), page.field("passkey"));
    let eve = Browser::signed_in(&rig, "bob", "cli").await;
    let form =
        [("form_token", eve.get("/console/account").await.field("form_token")), ("passkey", passkey.clone())];
    let form = form.each_ref().map(|(name, value)| (*name, value.as_str()));
    let page = eve.send(Method::POST, "/console/account/passkeys/remove", &form).await;
    assert_eq!(page.status, StatusCode::NOT_FOUND, "another's passkey: {}", page.text);
    let form = [("form_token", token.as_str()), ("passkey", &passkey)];
    let page = alice.send(Method::POST, "/console/account/passkeys/remove", &form).await;
    assert_eq!(page.location(), "/console/account?done=removed");
    refused(&Browser::new(&rig).sign_in_by(&key).await, "removed", "another passkey");
    assert_eq!(
        bodies(&rig, "passkey_removed").await,
        [json!({ "by": "alice", "passkey": passkey, "person": "alice" })]
    );

    // A link ends those of before: whoever had the account in their hands may have left one.
    let mut last = Passkey::new(-7);
    alice.add(&mut last).await;
    Browser::signed_in(&rig, "alice", "cli").await;
    refused(&Browser::new(&rig).sign_in_by(&last).await, "of before the link", "another passkey");
    assert_eq!(bodies(&rig, "passkey_removed").await.len(), 4);
}

async fn a_forged_assertion_counts_for_nothing(place: Place) {
    let rig = Rig::on(place).await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let mut key = Passkey::new(-7);
    alice.add(&mut key).await;
    key.counter = 5;
    let token = alice.get("/console/account").await.field("form_token");
    let honest = alice.options("/console/account/password", &[("form_token", &token)]).await;
    let sealed = honest["sealed"].as_str().unwrap();
    let show = async |said: &str| {
        let new = "another horse entirely";
        let form = [
            ("form_token", token.as_str()),
            ("password", new),
            ("again", new),
            ("sealed", sealed),
            ("said", said),
        ];
        alice.send(Method::POST, "/console/account/password", &form).await
    };
    let assert_shown = async |what: &str, said: &str, word: &str| {
        let page = show(said).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{what}: {}", page.text);
        assert!(page.text.contains(word), "{what}: {}", page.text);
    };
    let said = key.get(&honest);
    type Lie = (&'static str, fn(&mut Passkey), &'static str);
    let lies: [Lie; 12] = [
        (
            "a phishing site",
            |key| key.origin = "https://localhost.evil.example".into(),
            "page of another site",
        ),
        ("another port", |key| key.origin = "http://localhost:1".into(), "page of another site"),
        ("in a frame", |key| key.client = json!({ "crossOrigin": true }), "page of another site"),
        (
            "below another page",
            |key| key.client = json!({ "topOrigin": "https://evil.example" }),
            "page of another site",
        ),
        ("another party", |key| key.host = "evil.example".into(), "it is of another site"),
        ("nobody there", |key| key.flags = VERIFIED, "nobody was there"),
        ("nobody verified", |key| key.flags = PRESENT, "nobody was there"),
        ("synced and not syncable", |key| key.flags |= SYNCED, "what cannot be"),
        ("syncable all of a sudden", |key| key.flags |= SYNCABLE, "what cannot be"),
        ("made, not signed", |key| key.kinds[1] = "webauthn.create", "not signed for this"),
        ("another challenge", |key| key.client = json!({ "challenge": "AAAA" }), "not signed for this"),
        ("another's handle", |key| key.handle = Some("AAAA".into()), "another passkey"),
    ];
    let (origin, host, flags) = (key.origin.clone(), key.host.clone(), key.flags);
    let handle = key.handle.clone();
    for (what, lie, word) in lies {
        lie(&mut key);
        assert_shown(what, &key.get(&honest), word).await;
        (key.origin, key.host, key.flags, key.handle) = (origin.clone(), host.clone(), flags, handle.clone());
        (key.client, key.kinds) = (json!({}), ["webauthn.create", "webauthn.get"]);
    }
    // What was signed, bent afterwards.
    let bent = |field: &str, value: Value| {
        let mut bent: Value = serde_json::from_str(&said).unwrap();
        bent[field] = value;
        bent.to_string()
    };
    let data = |cut: usize, more: &[u8]| {
        let said: Value = serde_json::from_str(&said).unwrap();
        let whole = URL_SAFE_NO_PAD.decode(said["authenticator_data"].as_str().unwrap()).unwrap();
        json!(URL_SAFE_NO_PAD.encode([&whole[..whole.len() - cut], more].concat()))
    };
    let mut other = Passkey::new(-7);
    (other.credential, other.handle, other.origin) = (key.credential.clone(), handle.clone(), origin.clone());
    for (what, forged) in [
        ("another key of that id", other.get(&honest)),
        ("a cut counter", bent("authenticator_data", data(1, &[]))),
        ("a cut host", bent("authenticator_data", data(20, &[]))),
        ("nothing", bent("authenticator_data", json!(""))),
        ("more behind it", bent("authenticator_data", data(0, &[1]))),
        ("a longer counter", bent("authenticator_data", data(4, &[0, 0, 0, 9]))),
        ("no signature", bent("signature", json!(""))),
        ("a signature of something", bent("signature", json!("MEUCIQ"))),
        ("padding", bent("signature", json!("AA=="))),
        ("a field more", bent("extra", json!(1))),
        ("much", bent("signature", json!("A".repeat(20_000)))),
        ("no JSON", "{".into()),
        ("a list", "[]".into()),
    ] {
        assert_shown(what, &forged, "is not accepted").await;
    }
    // Longer than a form may be, and short enough to be sent whole before the server, which reads none of it, hangs up.
    let page = show(&"A".repeat(80 * 1024)).await;
    assert_eq!(page.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", page.text);
    // The honest one counts, once.
    assert_eq!(show(&said).await.location(), "/console/account?done=password");
    assert_shown("a replay", &said, "good no more").await;

    // Signing in: whose it is says the passkey alone; and what was sealed is not to be bent.
    let mut visitor = Browser::new(&rig);
    let asked = visitor.begun().await;
    key.counter = 6;
    for (what, handle) in [("another's handle", Some("AAAA".to_owned())), ("no handle", None)] {
        key.handle = handle;
        refused(&visitor.end(&asked["sealed"], &key.get(&asked)).await, what, "another passkey");
    }
    key.handle = handle;
    let sealed = asked["sealed"].as_str().unwrap();
    let (text, seal) = sealed.split_once('.').unwrap();
    for bent in [format!("{text}."), format!("{text}x.{seal}"), text.to_owned(), String::new()] {
        refused(&visitor.end(&json!(bent), &key.get(&asked)).await, "a bent seal", "not begun here");
    }
    signed_in(&visitor.end(&asked["sealed"], &key.get(&asked)).await);
    refused(&Browser::new(&rig).end(&asked["sealed"], &key.get(&asked)).await, "a replay", "used before");
    // An authenticator that counts back is refused, and the log says so.
    for counter in [6, 0] {
        key.counter = counter;
        refused(&Browser::new(&rig).sign_in_by(&key).await, "a copy", "counted back");
    }
    let noted = bodies(&rig, "passkey_refused").await;
    let noted = noted.iter().map(|one| (&one["counter"], &one["kept"])).collect::<Vec<_>>();
    assert_eq!(noted, [(&json!(6), &json!(6)), (&json!(0), &json!(6))]);
    key.counter = 7;
    signed_in(&Browser::new(&rig).sign_in_by(&key).await);
}

#[tokio::test]
async fn what_is_no_passkey_is_not_added() {
    let rig = Rig::new().await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    type Lie = (&'static str, fn(&mut Passkey), &'static str);
    let lies: [Lie; 10] = [
        ("another algorithm", |key| key.algorithm = -36, "algorithm"),
        ("the key of another algorithm", |key| key.algorithm = -8, "algorithm"),
        ("a phishing site", |key| key.origin = "https://evil.example".into(), "another site"),
        ("another party", |key| key.host = "evil.example".into(), "of another site"),
        ("nobody verified", |key| key.flags = PRESENT, "nobody was there"),
        ("in a frame", |key| key.client = json!({ "crossOrigin": true }), "another site"),
        ("another challenge", |key| key.client = json!({ "challenge": "AAAA" }), "not signed for this"),
        ("an assertion", |key| key.kinds[0] = "webauthn.get", "not signed for this"),
        ("no credential", |key| key.credential = Vec::new(), "another passkey"),
        ("a very long one", |key| key.credential = vec![1; 1_024], "another passkey"),
    ];
    for (what, lie, word) in lies {
        let mut key = Passkey::new(-7);
        lie(&mut key);
        let page = alice.add(&mut key).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{what}: {}", page.text);
        assert!(page.text.contains(word), "{what}: {}", page.text);
    }
    // Another id than the one that the authenticator says, and data that ends early.
    let token = alice.get("/console/account").await.field("form_token");
    let asked = alice.options("/console/account/passkeys", &[("form_token", &token)]).await;
    let said: Value = serde_json::from_str(&Passkey::new(-7).make(&asked)).unwrap();
    let data = URL_SAFE_NO_PAD.decode(said["authenticator_data"].as_str().unwrap()).unwrap();
    let mut forged = vec![{
        let mut other = said.clone();
        other["id"] = json!("AAAA");
        other
    }];
    for length in [0, 31, 32, 36, 37, 52, 54, 60, data.len() - 1] {
        let mut cut = said.clone();
        cut["authenticator_data"] = json!(URL_SAFE_NO_PAD.encode(&data[..length]));
        forged.push(cut);
    }
    let sealed = asked["sealed"].as_str().unwrap();
    for said in forged {
        let said = said.to_string();
        let form = [("form_token", token.as_str()), ("sealed", sealed), ("said", &said)];
        let page = alice.send(Method::POST, "/console/account/passkeys", &form).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{said}: {}", page.text);
    }
    // What was asked for one person's session is good for no other.
    let bob = Browser::signed_in(&rig, "bob", "cli").await;
    let token = bob.get("/console/account").await.field("form_token");
    let said = said.to_string();
    let form = [("form_token", token.as_str()), ("sealed", sealed), ("said", &said)];
    let page = bob.send(Method::POST, "/console/account/passkeys", &form).await;
    assert!(page.text.contains("not begun here"), "{}", page.text);
    // Twenty are kept, and no more.
    for n in 0..21 {
        let page = bob.add(&mut Passkey::new(-8)).await;
        assert_eq!(page.status == StatusCode::SEE_OTHER, n < 20, "{n}: {}", page.text);
    }
    assert!(
        rig.running().app.accounts().passkeys(&PersonId::parse("alice").unwrap()).await.unwrap().is_empty()
    );
}

#[tokio::test]
async fn a_password_is_changed_by_who_shows_who_they_are_and_ends_other_sessions() {
    let rig = Rig::new().await;
    let here = Browser::signed_in(&rig, "alice", "cli").await;
    let mut key = Passkey::new(-7);
    here.add(&mut key).await;
    let mut there = Browser::new(&rig);
    signed_in(&there.sign_in_by(&key).await);
    let other_link = link(&rig, "alice", "cli").await;
    let token = here.get("/console/account").await.field("form_token");
    let change = async |more: &[(&str, &str)]| {
        let mut form = vec![("form_token", token.as_str())];
        form.extend(more);
        here.send(Method::POST, "/console/account/password", &form).await
    };
    let (old, new) = ("correct horse battery staple", "another horse entirely");
    for (form, word) in [
        (vec![("current", "wrong horse"), ("password", new), ("again", new)], "the password is wrong"),
        (vec![("password", new), ("again", new)], "the password is wrong"),
        (vec![("current", old), ("password", "short"), ("again", "short")], "needs 12"),
        (vec![("current", old), ("password", new), ("again", old)], "not the same"),
    ] {
        let page = change(&form).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{}", page.text);
        assert!(page.text.contains(word), "{}", page.text);
    }
    assert_eq!(there.get("/console/account").await.status, StatusCode::OK);
    let page = change(&[("current", old), ("password", new), ("again", new)]).await;
    assert_eq!(page.location(), "/console/account?done=password");
    assert_eq!(here.get("/console/account").await.status, StatusCode::OK, "this session goes on");
    assert_eq!(there.get("/console/account").await.status, StatusCode::SEE_OTHER);
    assert!(rig.running().app.accounts().look_at_link(&other_link).await.is_err());
    let sign_in = async |password: &str| {
        let form = [("person", "alice"), ("password", password)];
        Browser::new(&rig).send(Method::POST, "/console/sign-in", &form).await.status
    };
    assert_eq!((sign_in(old).await, sign_in(new).await), (StatusCode::UNAUTHORIZED, StatusCode::SEE_OTHER));
    // By a passkey, for this purpose alone.
    let signing_in = here.begun().await;
    let said = key.get(&signing_in);
    let form = [
        ("password", old),
        ("again", old),
        ("sealed", signing_in["sealed"].as_str().unwrap()),
        ("said", &said),
    ];
    assert!(change(&form).await.text.contains("not begun here"));
    let asked = here.options("/console/account/password", &[("form_token", &token)]).await;
    let said = key.get(&asked);
    let form =
        [("password", old), ("again", old), ("sealed", asked["sealed"].as_str().unwrap()), ("said", &said)];
    assert_eq!(change(&form).await.location(), "/console/account?done=password");
    assert!(change(&form).await.text.contains("good no more"), "once");
    assert_eq!(sign_in(old).await, StatusCode::SEE_OTHER);
    let changed = bodies(&rig, "password_changed").await;
    assert_eq!(changed.iter().map(|one| one["with"].clone()).collect::<Vec<_>>(), ["password", "passkey"]);
    // Guesses are counted as those of a sign-in are.
    let statuses = [0; 12].map(|_| ("current", "wrong horse"));
    let mut last = StatusCode::OK;
    for guess in statuses {
        last = change(&[guess, ("password", new), ("again", new)]).await.status;
    }
    assert_eq!((last, sign_in(old).await), (StatusCode::TOO_MANY_REQUESTS, StatusCode::TOO_MANY_REQUESTS));
    // Who guesses passwords keeps nobody from their passkey.
    signed_in(&there.sign_in_by(&key).await);
}
