use std::sync::Arc;

use countersign_store::KeyRecord;

use super::{
    super::{
        SESSION_IDLE_MS, SESSION_MS, SignedIn,
        tests::{HOME, PASSWORD, Place, asked, id, other_server},
    },
    *,
};
use crate::{
    auth::Principal,
    credential::{self, Credentials},
};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const AT: &str = "http://127.0.0.1:4711/signed-in";

fn asks() -> CommandLineAsks {
    CommandLineAsks {
        // That of the verifier, as the appendix of RFC 7636 has both.
        code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".into(),
        code_challenge_method: "S256".into(),
        redirect_uri: "http://127.0.0.1:4711/signed-in".into(),
        state: "s".repeat(22),
        machine: "laptop".into(),
        seconds: "43200".into(),
    }
}

#[test]
fn a_code_goes_to_a_port_of_the_loopback_address_and_nowhere_else() {
    assert_eq!(asks().checked().unwrap().asks().redirect_uri, "http://127.0.0.1:4711/signed-in");
    for elsewhere in [
        "",
        "http://127.0.0.1/signed-in",
        "http://127.0.0.1:0/signed-in",
        "http://127.0.0.1:080/signed-in",
        "http://127.0.0.1:+80/signed-in",
        "http://127.0.0.1:65536/signed-in",
        "https://127.0.0.1:4711/signed-in",
        "http://localhost:4711/signed-in",
        "http://127.1:4711/signed-in",
        "http://2130706433:4711/signed-in",
        "http://127.0.0.2:4711/signed-in",
        "http://[::1]:4711/signed-in",
        "http://evil.example:4711/signed-in",
        "http://127.0.0.1:4711@evil.example/signed-in",
        "http://evil@127.0.0.1:4711/signed-in",
        "http://127.0.0.1.evil.example:4711/signed-in",
        "http://127.0.0.1:4711\\@evil.example/signed-in",
        "http://127.0.0.1:4711/other/signed-in",
        "http://127.0.0.1:4711/signed-in?next=x",
        "http://127.0.0.1:4711/signed-in#x",
        "http://127.0.0.1:4711/signed-in ",
        "HTTP://127.0.0.1:4711/signed-in",
        "//127.0.0.1:4711/signed-in",
        "javascript:alert(1)",
    ] {
        let refused = CommandLineAsks { redirect_uri: elsewhere.into(), ..asks() }.checked().unwrap_err();
        assert!(refused.code == Code::Malformed && refused.message.contains("nowhere else"), "{elsewhere}");
    }
}

#[test]
fn what_a_command_line_asks_is_of_one_form() {
    let short = "x".repeat(42);
    let long = "m".repeat(64);
    for odd in [
        CommandLineAsks { code_challenge_method: "plain".into(), ..asks() },
        CommandLineAsks { code_challenge_method: String::new(), ..asks() },
        CommandLineAsks { code_challenge: short, ..asks() },
        CommandLineAsks { code_challenge: format!("{}+", "c".repeat(42)), ..asks() },
        CommandLineAsks { state: "s".into(), ..asks() },
        CommandLineAsks { state: format!("{}&code=x", "s".repeat(22)), ..asks() },
        CommandLineAsks { machine: String::new(), ..asks() },
        CommandLineAsks { machine: "<b>laptop</b>".into(), ..asks() },
        CommandLineAsks { machine: "a role:admin".into(), ..asks() },
        CommandLineAsks { machine: long, ..asks() },
        CommandLineAsks { seconds: "59".into(), ..asks() },
        CommandLineAsks { seconds: "2592001".into(), ..asks() },
        CommandLineAsks { seconds: "-1".into(), ..asks() },
        CommandLineAsks { seconds: "for ever".into(), ..asks() },
    ] {
        assert_eq!(odd.clone().checked().unwrap_err().code, Code::Malformed, "{odd:?}");
    }
}

#[test]
fn what_a_key_hangs_on_is_read_or_the_key_opens_nothing() {
    let scopes = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let good = scopes(&["account:3", "session:0a1b", "machine:laptop", "role:viewer"]);
    assert_eq!(Hung::read(&good), Some(Hung { round: 3, session: Some("0a1b") }));
    assert_eq!(Hung::others(&good), ["role:viewer"]);
    let odd: [&[&str]; 6] = [
        &[],
        &["machine:laptop"],
        &["session:0a1b"],
        &["account:x"],
        &["account:1", "account:2"],
        &["account:1", "session:a", "session:b"],
    ];
    for odd in odd {
        assert_eq!(Hung::read(&scopes(odd)), None, "{odd:?}");
    }
}

fn code_in(location: &str) -> String {
    let (_, rest) = location.split_once("?code=").unwrap();
    rest.split_once("&state=").unwrap().0.to_owned()
}

async fn code(place: &Place, signed_in: &SignedIn) -> String {
    let line = asks().checked().unwrap();
    let shown = PasswordShown::Typed("");
    let location = place.accounts().let_command_line(&signed_in.session, &line, shown, HOME).await.unwrap();
    assert!(
        location.starts_with(AT) && location.ends_with(&format!("&state={}", "s".repeat(22))),
        "{location}"
    );
    code_in(&location)
}

async fn key(place: &Place, signed_in: &SignedIn) -> (KeyRecord, String) {
    place.accounts().exchange(&code(place, signed_in).await, VERIFIER, AT).await.unwrap()
}

/// Whom a key opens the door to; why to nobody.
async fn opens(place: &Place, secret: &str) -> Result<String, String> {
    match place.auth.principal(secret).await {
        Ok(Principal::Person(person)) => Ok(person.id.to_string()),
        Ok(Principal::Agent(agent)) => Ok(format!("agent {}", agent.agent)),
        Err(refusal) => {
            assert_eq!(refusal.code, Code::Unauthenticated, "{refusal}");
            Err(refusal.message)
        }
    }
}

#[tokio::test]
async fn a_code_is_exchanged_within_a_minute_once_by_who_asked_for_it() {
    let place = Place::new();
    let (ann, _codes) = place.set_up("ann", "cli").await;
    let good = code(&place, &ann).await;
    let exchange = async |code: &str, verifier: &str, at: &str| {
        place.accounts().exchange(code, verifier, at).await.map_err(|refusal| {
            assert_eq!(refusal.code, Code::Unauthenticated, "{refusal}");
            refusal.message
        })
    };
    let (sealed, seal) = good.split_once('.').unwrap();
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(sealed).unwrap()).unwrap();
    let forged = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        format!("{}.{seal}", URL_SAFE_NO_PAD.encode(text.replace(from, to)))
    };
    for (code, verifier, at, word) in [
        ("", VERIFIER, AT, "none of this server"),
        ("x.y", VERIFIER, AT, "none of this server"),
        (&forged("\"ann\"", "\"bob\""), VERIFIER, AT, "none of this server"),
        (&forged("laptop", "server"), VERIFIER, AT, "none of this server"),
        (&good, &"x".repeat(43), AT, "another command line"),
        (&good, "", AT, "another command line"),
        (&good, &asks().code_challenge, AT, "another command line"),
        (&good, VERIFIER, "http://127.0.0.1:4712/signed-in", "another place"),
        (&good, VERIFIER, "", "another place"),
    ] {
        let refused = exchange(code, verifier, at).await.unwrap_err();
        assert!(refused.contains(word), "{refused}");
    }
    assert!(place.store.keys().await.unwrap().is_empty(), "what is refused writes nothing");
    // What a passkey is asked for is sealed under the same secret, and is no code; nor is a code anything else.
    let session = &ann.session;
    assert!(place.accounts().add_passkey(session, &good, "{}", "x").await.is_err());

    let (record, secret) = exchange(&good, VERIFIER, AT).await.unwrap();
    assert_eq!(record.owner, KeyOwner::Person(id("ann")));
    assert_eq!(record.scopes, ["account:1", "machine:laptop"]);
    assert_eq!(record.expires_ms.unwrap() - record.issued_ms, 43_200_000);
    assert_eq!(opens(&place, &secret).await.unwrap(), "ann");
    // Once, also at another server of the ledger and after a restart.
    let other = other_server(&place);
    for accounts in [place.accounts(), other.accounts()] {
        let again = accounts.exchange(&good, VERIFIER, AT).await.unwrap_err();
        assert!(again.message.contains("exchanged before"), "{again}");
    }
    assert_eq!(opens(&place, &secret).await.unwrap(), "ann", "the first is good still");
    let log = place.log().await;
    let issued: Vec<_> = log.iter().filter(|(kind, _)| kind == "key_issued").collect();
    assert_eq!(issued.len(), 1);
    assert_eq!(issued[0].1["by"], "ann");
    assert!(issued[0].1["scopes"].to_string().contains("machine:laptop"), "{}", issued[0].1);
    assert!(!format!("{log:?}").contains(secret.rsplit('_').next().unwrap()));

    // One that was made here is exchanged there, for a minute.
    let second = code(&place, &ann).await;
    place.pass(CODE_MS - 1);
    assert!(other.accounts().exchange(&second, VERIFIER, AT).await.is_ok());
    let late = code(&place, &ann).await;
    place.pass(CODE_MS);
    assert!(exchange(&late, VERIFIER, AT).await.unwrap_err().contains("older than a minute"));
    place.pass(43_200_000);
    assert!(opens(&place, &secret).await.is_err(), "it has expired");
}

#[tokio::test]
async fn of_racing_exchanges_of_one_code_one_gets_a_key() {
    let place = Place::new();
    let (ann, _codes) = place.set_up("ann", "cli").await;
    let good = code(&place, &ann).await;
    let racing = (0..8).map(|_| {
        let (auth, good) = (Arc::clone(&place.auth), good.clone());
        tokio::spawn(async move { auth.accounts().exchange(&good, VERIFIER, AT).await.is_ok() })
    });
    let won = futures::future::join_all(racing).await;
    assert_eq!(won.iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
    assert_eq!(place.store.keys().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_of_a_command_line_is_good_while_its_account_is_as_it_was() {
    let place = Place::new();
    let (mut ann, _codes) = place.set_up("ann", "cli").await;
    // Signing out of the browser, and its session being over, is nothing to the key: it has an end of its own.
    let (_record, first) = key(&place, &ann).await;
    place.accounts().sign_out(&ann.token).await.unwrap();
    assert_eq!(opens(&place, &first).await.unwrap(), "ann");
    place.pass(SESSION_IDLE_MS);
    assert_eq!(opens(&place, &first).await.unwrap(), "ann");
    // But no code that was on the way is exchanged any more.
    ann = place.accounts().sign_in("ann", PASSWORD, HOME).await.unwrap();
    let on_the_way = code(&place, &ann).await;
    place.accounts().sign_out(&ann.token).await.unwrap();
    assert!(place.accounts().exchange(&on_the_way, VERIFIER, AT).await.is_err());

    // Disabled; enabling does not bring it back.
    let enable = async |on: bool| place.store.enable_account(&id("ann"), on, "cli", 1).await.unwrap();
    let answered = asked("bot", None, &["ann"]);
    assert_eq!(place.auth.still_signed(&answered).await.unwrap().len(), 1);
    enable(false).await;
    assert!(place.auth.still_signed(&answered).await.unwrap().is_empty(), "what it approved counts no more");
    assert!(opens(&place, &first).await.unwrap_err().contains("disabled"));
    enable(true).await;
    assert!(opens(&place, &first).await.unwrap_err().contains("signed out everywhere"));
    // Signed out everywhere, with what was on the way.
    ann = place.accounts().sign_in("ann", PASSWORD, HOME).await.unwrap();
    let (_record, second) = key(&place, &ann).await;
    let on_the_way = code(&place, &ann).await;
    let credentials = Credentials::default();
    let open = credentials.open(second.split('_').nth(1).unwrap(), None, 0);
    let over = || futures::FutureExt::now_or_never(open.ended()).is_some();
    credential::look(&credentials, &place.store, 0).await.unwrap();
    assert!(!over());
    place.accounts().sign_out_everywhere(&id("ann"), "cli").await.unwrap();
    assert!(opens(&place, &second).await.unwrap_err().contains("signed out everywhere"));
    credential::look(&credentials, &place.store, 0).await.unwrap();
    assert!(over(), "a stream that is open on it ends");
    assert!(place.accounts().exchange(&on_the_way, VERIFIER, AT).await.is_err());
    // Set up anew.
    ann = place.accounts().sign_in("ann", PASSWORD, HOME).await.unwrap();
    let (_record, third) = key(&place, &ann).await;
    let (ann, _codes) = place.set_up("ann", "cli").await;
    assert!(opens(&place, &third).await.is_err());
    // Another password.
    let (_record, fourth) = key(&place, &ann).await;
    let proof = PasswordShown::Typed(PASSWORD);
    place.accounts().change_password(&ann.session, proof, "another long password", HOME).await.unwrap();
    assert!(opens(&place, &fourth).await.is_err());
    // Revoked, by its owner alone where a command line got it.
    let (record, fifth) = key(&place, &ann).await;
    assert_eq!(opens(&place, &fifth).await.unwrap(), "ann");
    place.accounts().end_command_line(&record.id, &id("ann")).await.unwrap();
    assert!(opens(&place, &fifth).await.is_err());
    let plain = NewKey {
        owner: KeyOwner::Person(id("ann")),
        scopes: Vec::new(),
        expires_ms: None,
        by: "cli".into(),
        now_ms: 0,
    };
    let (plain, secret) = place.store.issue_key(plain, [9; 32]).await.unwrap();
    assert_eq!(
        place.accounts().end_command_line(&plain.id, &id("ann")).await.unwrap_err().code,
        Code::Malformed
    );
    assert_eq!(opens(&place, &secret).await.unwrap(), "ann");
}

#[tokio::test]
async fn what_a_key_hangs_on_cannot_be_left_out_or_made_up() {
    let place = Place::new();
    place.set_up("ann", "cli").await;
    for (number, scopes) in [
        &["machine:laptop"][..],
        &["session:0a1b2c3d4e5f"],
        &["account:9"],
        &["account:x"],
        &["account:1", "account:1"],
        &["account:1", "session:0a1b2c3d4e5f"],
        &["account:1", "role:god"],
        &["account:1", "tool:refund"],
    ]
    .into_iter()
    .enumerate()
    {
        let new = NewKey {
            owner: KeyOwner::Person(id("ann")),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            expires_ms: None,
            by: "cli".into(),
            now_ms: 0,
        };
        let (_record, secret) =
            place.store.issue_key(new, [u8::try_from(number).unwrap(); 32]).await.unwrap();
        assert!(opens(&place, &secret).await.is_err(), "{scopes:?}");
    }
}

#[tokio::test]
async fn a_session_that_was_left_open_lets_no_command_line_act() {
    let place = Place::new();
    let (ann, codes) = place.set_up("ann", "cli").await;
    let line = asks().checked().unwrap();
    let let_it = async |shown: PasswordShown<'_>| {
        place.accounts().let_command_line(&ann.session, &line, shown, HOME).await
    };
    place.pass(FRESH_MS);
    let look = place.accounts().look_at_command_line(&ann.session, &line).await.unwrap();
    assert!(!look.show && look.password && !look.passkey, "{look:?}");
    assert!(let_it(PasswordShown::Typed("")).await.is_ok(), "ten minutes are a moment");
    place.pass(1);
    assert!(place.accounts().look_at_command_line(&ann.session, &line).await.unwrap().show);
    let refusal = let_it(PasswordShown::Typed("")).await.unwrap_err();
    assert!(refusal.code == Code::Malformed && refusal.message.contains("ten minutes ago"), "{refusal}");
    assert_eq!(let_it(PasswordShown::Typed("wrong")).await.unwrap_err().code, Code::Unauthenticated);
    let made_up = PasswordShown::Passkey { sealed: "x", said: "{}" };
    assert_eq!(let_it(made_up).await.unwrap_err().code, Code::Unauthenticated);
    let refusal = let_it(PasswordShown::Typed(&codes[0])).await.unwrap_err();
    assert!(refusal.message.contains("recovery code"), "{refusal}");
    assert!(place.accounts().sign_in("ann", &codes[0], HOME).await.is_ok(), "it was not used up");
    let location = let_it(PasswordShown::Typed(PASSWORD)).await.unwrap();
    assert!(place.accounts().exchange(&code_in(&location), VERIFIER, AT).await.is_ok());
    // Guesses are counted as those at the door are.
    let mut last = Code::Unauthenticated;
    for _ in 0..40 {
        last = let_it(PasswordShown::Typed("wrong")).await.unwrap_err().code;
        if last == Code::RateLimited {
            break;
        }
    }
    assert_eq!(last, Code::RateLimited);
    // A session that is over lets nothing act, whatever is shown.
    place.pass(SESSION_MS);
    assert_eq!(let_it(PasswordShown::Typed(PASSWORD)).await.unwrap_err().code, Code::Unauthenticated);
}

#[tokio::test]
async fn a_key_of_a_command_line_answers_for_nothing_that_the_maker_of_the_account_requested() {
    let place = Place::new();
    let accounts = place.accounts();
    let (bob, _codes) = place.set_up("bob", "ann").await;
    let (record, _secret) = key(&place, &bob).await;
    let anns = asked("bot", Some("ann"), &[]);
    let refusal = accounts.key_may_answer(&record.id, &anns).await.unwrap_err();
    assert!(
        refusal.code == Code::AnswerRefused && refusal.message.contains("who made the account"),
        "{refusal}"
    );
    assert!(accounts.key_may_answer(&record.id, &asked("bot", Some("carol"), &[])).await.is_ok());
    // From the machine of the server the account is bob's own.
    let (bob, _codes) = place.set_up("bob", "cli").await;
    let (record, _secret) = key(&place, &bob).await;
    assert!(accounts.key_may_answer(&record.id, &anns).await.is_ok());
    // Of other credentials nothing is known here.
    for other in ["", "session:0a1b2c3d4e5f", "slack:T/U", "000000000000"] {
        assert!(accounts.key_may_answer(other, &anns).await.is_ok(), "{other}");
    }
}
