//! People sign in by a provider: as those who may, those who may not, and a provider that lies would have it.

use std::sync::Arc;

use aws_lc_rs::{encoding::AsDer as _, hmac};
use countersign::clock::SystemClock;
use countersign_gate::Clock as _;
use countersign_rules::PersonId;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{
    authenticator::Passkey,
    console::{Browser, Page},
    jwks::{Key, encoded, signed},
    provider::{Forge, SECRET, StandIn, now_s},
    rig::{MAIN, Rig},
};
use crate::place::{Place, on_either_store};

on_either_store!(
    async who_is_vouched_for_signs_in_and_answers_by_the_groups_of_the_token,
    a_sign_in_ends_once_in_the_browser_that_began_it_at_any_server,
    a_provider_signs_out_whom_it_means_and_nobody_else_does,
    who_is_disabled_signed_out_or_not_configured_is_out,
);

const MAPPED: &str = "client_secret = { file = \"secret\" }\nscopes = [\"openid\", \"groups\"]\n\
                      groups_claim = \"groups\"\ngroups = { \"DB admins\" = [\"approvers\"] }\nrefetch_pause_ms = 1\n";

/// A server at which alice and bob may sign in by the provider.
pub(crate) fn main(idp: &StandIn) -> String {
    let main = MAIN.replace("[server]\n", "[server]\npublic_url = \"http://localhost:7780\"\n");
    let main =
        main.replace("[person.alice]\n", "[person.alice]\nsubject = { corp = \"Ab-0042\", other = \"x\" }\n");
    let main =
        main.replace("[person.bob]\n", "[person.bob]\nsubject = { corp = \"0043\", other = \"Ab-0042\" }\n");
    format!("{main}{}{}", idp.section("corp", MAPPED), idp.section("other", ""))
}

async fn rig(idp: &StandIn, place: Place) -> Rig {
    Rig::secret_main(place, &main(idp), &[("secret", SECRET)]).await
}

/// Adds a cookie that a page has set to those of the browser, as browsers do.
fn keep(browser: &mut Browser<'_>, page: &Page) {
    for cookie in page.headers.get_all(header::SET_COOKIE) {
        let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
        let name = cookie.split('=').next().unwrap();
        let others = browser
            .cookie
            .split("; ")
            .filter(|kept| !kept.is_empty() && kept.split('=').next() != Some(name));
        browser.cookie = others.chain([cookie]).collect::<Vec<_>>().join("; ");
    }
}

/// Presses the button; returns where it leads.
async fn leave(browser: &mut Browser<'_>, path: &str) -> String {
    let page = browser.get(path).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    keep(browser, &page);
    page.location().to_owned()
}

/// Comes back.
async fn back(browser: &mut Browser<'_>, path: &str) -> Page {
    let page = browser.get(path).await;
    keep(browser, &page);
    page
}

pub(crate) async fn signed_in<'a>(rig: &'a Rig, idp: &StandIn, claims: &Value) -> Browser<'a> {
    let mut browser = Browser::new(rig);
    let location = leave(&mut browser, "/console/sign-in/corp").await;
    let page = back(&mut browser, &idp.consents(&location, claims)).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    browser
}

/// Nobody is signed in by what came back.
fn assert_refused(page: &Page, what: &str) {
    assert_eq!(page.status, StatusCode::UNAUTHORIZED, "{what}: {}", page.text);
    assert!(page.headers.get(header::SET_COOKIE).is_none(), "{what}");
}

async fn is_in(browser: &Browser<'_>) -> bool {
    browser.get("/console/people").await.status == StatusCode::OK
}

async fn who_is_vouched_for_signs_in_and_answers_by_the_groups_of_the_token(place: Place) {
    let idp = StandIn::new().await;
    let rig = rig(&idp, place).await;
    let mut bob = Browser::new(&rig);
    let page = bob.get("/console/requests").await;
    let page = bob.get(page.location()).await;
    assert!(page.text.contains("Sign in with Acme &#60;staff&#62;"), "{}", page.text);
    let (_, rest) = page.text.split_once("href=\"/console/sign-in/corp?").unwrap();
    let address = format!("/console/sign-in/corp?{}", rest.split('"').next().unwrap());
    let location = leave(&mut bob, &address).await;
    assert!(bob.cookie.starts_with("__Host-countersign-sign-in="), "{}", bob.cookie);
    let claims = json!({ "sub": "0043", "groups": ["DB admins", "operators", "approvers"] });
    let page = back(&mut bob, &idp.consents(&location, &claims)).await;
    assert_eq!((page.status, page.location()), (StatusCode::SEE_OTHER, "/console/requests"), "{}", page.text);
    let cookies: Vec<&str> =
        page.headers.get_all(header::SET_COOKIE).iter().map(|one| one.to_str().unwrap()).collect();
    assert!(
        cookies[0].starts_with("__Host-countersign=")
            && cookies[0].ends_with("Path=/; Secure; HttpOnly; SameSite=Lax")
    );
    assert!(
        cookies[1].starts_with("__Host-countersign-sign-in=;") && cookies[1].ends_with("Max-Age=0"),
        "{cookies:?}"
    );

    // By configuration bob is an auditor; the provider's group makes an approver, and what nobody mapped nothing.
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    assert_eq!(bob.answer(&approval, "approve", &[]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(rig.result(&approval).await.0, StatusCode::OK);
    let (_, body) = rig.get("alice", "/v1/log/entries?kind=signed_in").await;
    let entry = &body["entries"][0]["entry"]["body"];
    let entry = if entry.is_null() { body.to_string() } else { entry.to_string() };
    for part in
        ["\"provider\":\"corp\"", "\"groups\":[\"approvers\"]", "\"person\":\"bob\"", "\"with\":\"provider\""]
    {
        assert!(entry.contains(part), "{entry}");
    }
    // A passkey confirms what bob answers, and outlasts the provider's word in no way: it signs nobody in.
    let mut key = Passkey::new(-7);
    assert_eq!(bob.add(&mut key).await.status, StatusCode::SEE_OTHER);
    assert!(bob.get("/console/account").await.text.contains("confirming alone"));
    let page = Browser::new(&rig).sign_in_by(&key).await;
    assert_refused(&page, "a passkey that confirms");
    assert!(page.text.contains("while a provider vouched"), "{}", page.text);
    let people = bob.get("/console/people").await.text;
    assert!(
        people.contains("<td>Acme &#60;staff&#62;")
            && people.contains("by its first sign-in with a provider"),
        "{people}"
    );
    assert!(!entry.contains("0043"), "the subject stands in no entry of a sign-in: {entry}");
    let token = bob.get("/console/people").await.field("form_token");
    let resumed =
        bob.send(Method::POST, "/console/halts/resume", &[("form_token", &token), ("agent", "clerk")]).await;
    assert_eq!(resumed.status, StatusCode::FORBIDDEN, "a group of theirs makes no operator");

    // The next sign-in brings what the provider says then; no claim is no group.
    for claims in [
        json!({ "sub": "0043" }),
        json!({ "sub": "0043", "groups": [] }),
        json!({ "sub": "0043", "groups": "DB Admins" }),
    ] {
        let later = signed_in(&rig, &idp, &claims).await;
        let approval = rig.ask("add_item", json!({ "name": claims.to_string() })).await;
        assert_eq!(later.get(&format!("/console/requests/{approval}")).await.status, StatusCode::NOT_FOUND);
    }
    // It has no password, and says so to nobody.
    let form = [("person", "bob"), ("password", "")];
    let page = Browser::new(&rig).send(Method::POST, "/console/sign-in", &form).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    // A session ends as any other.
    let token = bob.get("/console/people").await.field("form_token");
    bob.send(Method::POST, "/console/sign-out", &[("form_token", &token)]).await;
    assert!(!is_in(&bob).await);
}

async fn a_sign_in_ends_once_in_the_browser_that_began_it_at_any_server(place: Place) {
    let idp = StandIn::new().await;
    idp.careless();
    let two_servers = matches!(place, Place::Postgres(_));
    let mut rig = rig(&idp, place).await;
    let who = json!({ "sub": "Ab-0042" });
    let cookie = {
        let mut alice = Browser::new(&rig);
        let mut eve = Browser::new(&rig);
        let location = leave(&mut alice, "/console/sign-in/corp?next=/console/log").await;
        let eves = leave(&mut eve, "/console/sign-in/corp").await;
        let returned = idp.consents(&location, &who);
        // Another browser's, none, none at all, and what somebody would forge.
        assert_refused(&eve.get(&returned).await, "another browser's state");
        assert_refused(&Browser::new(&rig).get(&returned).await, "no cookie");
        let (before, state) = returned.split_once("&state=").unwrap();
        assert_refused(&alice.get(before).await, "no state");
        assert_refused(&alice.get(&format!("{before}&state=x")).await, "wrong state");
        assert_refused(&alice.get(&returned.replace("/corp/", "/other/")).await, "another provider");
        // Eve's code in alice's browser, to sign alice in as eve: the state is not alice's, and the code not her verifier's.
        let eves = idp.consents(&eves, &json!({ "sub": "0043" }));
        assert_refused(&alice.get(&eves).await, "eve's answer");
        let (eves_code, _) = eves.split_once("&state=").unwrap();
        let mixed = format!("{eves_code}&state={state}");
        assert_refused(&alice.get(&mixed).await, "eve's code with alice's state");
        assert_refused(&alice.get(&format!("{returned}&iss=https://evil.example")).await, "another iss");
        let denied = format!("/console/sign-in/corp/return?error=access_denied<b>&state={state}");
        let page = alice.get(&denied).await;
        assert_refused(&page, "an error");
        assert!(page.text.contains("access_denied") && !page.text.contains("<b>"), "{}", page.text);
        let mut sealed = alice.cookie.clone();
        sealed.replace_range(40..41, if sealed.get(40..41) == Some("A") { "B" } else { "A" });
        let mut forged = Browser::new(&rig);
        forged.cookie = sealed;
        assert_refused(&forged.get(&returned).await, "a cookie that was changed");
        (alice.cookie.clone(), returned)
    };
    let (cookie, returned) = cookie;
    // After a restart, and at another server of the same ledger.
    let second = if two_servers {
        Some(rig.deployment.start().await)
    } else {
        rig.stop().await;
        rig.start().await;
        None
    };
    let mut alice = Browser::new(&rig);
    alice.cookie = cookie;
    let other = second.as_ref().map(|second| format!("http://{}{returned}", second.address));
    let raced = futures::future::join_all((0..6).map(|n| {
        let request = match &other {
            Some(url) if n % 2 == 0 => {
                alice.http.request(Method::GET, url).header(header::COOKIE, &alice.cookie)
            }
            Some(_) | None => alice.request(Method::GET, &returned),
        };
        async { Page::of(request.send().await.unwrap()).await }
    }))
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = raced.iter().partition(|page| page.status == StatusCode::SEE_OTHER);
    assert_eq!(
        (won.len(), lost.len()),
        (1, 5),
        "{:?}",
        raced.iter().map(|page| page.status).collect::<Vec<_>>()
    );
    assert_eq!(won[0].location(), "/console/log");
    lost.iter().for_each(|page| assert_refused(page, "a state that was used"));
    assert!(idp.redeemed() >= 2, "the provider looked away");
    let before = alice.cookie.clone();
    keep(&mut alice, won[0]);
    assert!(is_in(&alice).await);
    alice.cookie = before;
    assert_refused(&alice.get(&returned).await, "a replay");
    let (_, body) = rig.get("alice", "/v1/log/entries?kind=signed_in").await;
    assert_eq!(body["entries"].as_array().unwrap().len(), 1, "{body}");
    if let Some(second) = second {
        assert!(second.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_says_counts_only_where_it_is_for_this_server_this_sign_in_and_a_person_to_the_letter()
 {
    let idp = StandIn::new().await;
    let rig = rig(&idp, Place::sqlite()).await;
    let now = now_s();
    let good = json!({ "sub": "Ab-0042" });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let cases = [
        ("a wrong nonce", with("nonce", json!("x"))),
        ("no nonce", json!({ "sub": "Ab-0042", "nonce": null })),
        ("another audience", with("aud", json!("others"))),
        ("an audience that begins like ours", with("aud", json!("countersign2"))),
        ("several audiences, and not said for which", with("aud", json!(["countersign", "others"]))),
        ("made for another", json!({ "sub": "Ab-0042", "aud": ["countersign", "others"], "azp": "others" })),
        ("made for another alone", with("azp", json!("others"))),
        ("another issuer", with("iss", json!("https://evil.example"))),
        ("an issuer with a slash more", with("iss", json!(format!("{}/", idp.url)))),
        ("expired", with("exp", json!(now - 60))),
        ("no expiry", json!({ "sub": "Ab-0042", "exp": null })),
        ("not valid yet", with("nbf", json!(now + 120))),
        ("issued in the future", with("iat", json!(now + 120))),
        ("issued before the sign-in", with("iat", json!(now - 120))),
        ("not said when issued", json!({ "sub": "Ab-0042", "iat": null })),
        ("no subject", json!({})),
        ("an empty subject", with("sub", json!(""))),
        ("a subject that is no text", with("sub", json!(["Ab-0042"]))),
        ("a number", with("sub", json!(43))),
        (
            "a subject that nobody is",
            json!({ "sub": "0044", "email": "alice@acme.example", "name": "alice" }),
        ),
        ("the name of a person", with("sub", json!("alice"))),
        ("another case", with("sub", json!("ab-0042"))),
        ("a look-alike", with("sub", json!("\u{410}b-0042"))),
        ("wide digits", with("sub", json!("Ab-\u{ff10}042"))),
        ("something invisible", with("sub", json!("Ab-0042\u{200b}"))),
        ("a blank behind", with("sub", json!("Ab-0042 "))),
        ("a nought byte", with("sub", json!("Ab-0042\u{0}"))),
        ("groups that are no texts", with("groups", json!(["DB admins", 1]))),
        ("groups that are a table", with("groups", json!({ "DB admins": true }))),
    ];
    for (what, claims) in cases {
        let mut browser = Browser::new(&rig);
        let location = leave(&mut browser, "/console/sign-in/corp").await;
        let page = back(&mut browser, &idp.consents(&location, &claims)).await;
        assert_refused(&page, what);
        assert!(!is_in(&browser).await, "{what}");
    }
    assert!(is_in(&signed_in(&rig, &idp, &good).await).await, "what is right is still right");
    let several = json!({ "sub": "Ab-0042", "aud": ["countersign", "others"], "azp": "countersign" });
    assert!(is_in(&signed_in(&rig, &idp, &several).await).await);
    // From one address only so many may fail, and then nothing is asked of the provider.
    let (mut last, mut browser) = (StatusCode::OK, Browser::new(&rig));
    let location = leave(&mut browser, "/console/sign-in/corp").await;
    for _ in 0..5 {
        last = browser.get("/console/sign-in/corp/return?code=x&state=y").await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let asked = idp.redeemed();
    assert_eq!(browser.get(&idp.consents(&location, &good)).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(idp.redeemed(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_key_or_way_of_signing_made_signs_nobody_in() {
    let idp = StandIn::new().await;
    let rig = rig(&idp, Place::sqlite()).await;
    let header = |algorithm: &str, typ: &str| json!({ "alg": algorithm, "typ": typ, "kid": "one" });
    let hs256 = |secret: Vec<u8>, claims: &Value| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        signed(&json!({ "alg": "HS256", "typ": "JWT", "kid": "one" }), claims, |text| {
            hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
        })
    };
    let forged: Vec<(&str, Forge)> = vec![
        ("none", Arc::new(move |_, claims| signed(&header("none", "JWT"), claims, |_| Vec::new()))),
        ("no signature", Arc::new(move |_, claims| signed(&header("RS256", "JWT"), claims, |_| Vec::new()))),
        (
            "a stranger's key",
            Arc::new(move |_, claims| {
                let stranger = Key::rsa();
                signed(&header("RS256", "JWT"), claims, |text| stranger.sign(text))
            }),
        ),
        (
            "a key that it brings along",
            Arc::new(|_, claims| {
                let stranger = Key::rsa();
                let header =
                    json!({ "alg": "RS256", "typ": "JWT", "kid": "one", "jwk": stranger.jwk("one") });
                signed(&header, claims, |text| stranger.sign(text))
            }),
        ),
        (
            "an unknown key",
            Arc::new(|key, claims| {
                signed(&json!({ "alg": "RS256", "typ": "JWT", "kid": "two" }), claims, |text| key.sign(text))
            }),
        ),
        ("HS256 with the client's secret", Arc::new(move |_, claims| hs256(SECRET.into(), claims))),
        (
            "HS256 with the public key",
            Arc::new(move |key, claims| {
                let Key::Rsa(pair) = key else { panic!("an RSA key") };
                use aws_lc_rs::{encoding::PublicKeyX509Der, signature::KeyPair as _};
                let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
                hs256(public.as_ref().to_vec(), claims)
            }),
        ),
        (
            "HS256 with the published key",
            Arc::new(move |key, claims| hs256(key.jwk("one").to_string().into(), claims)),
        ),
        (
            "an access token",
            Arc::new(move |key, claims| signed(&header("RS256", "at+jwt"), claims, |text| key.sign(text))),
        ),
        (
            "a logout token",
            Arc::new(move |key, claims| {
                signed(&header("RS256", "logout+jwt"), claims, |text| key.sign(text))
            }),
        ),
        (
            "other claims under a good signature",
            Arc::new(move |key, claims| {
                let token = signed(&header("RS256", "JWT"), claims, |text| key.sign(text));
                let mut other = claims.clone();
                other["sub"] = json!("0043");
                let parts: Vec<&str> = token.split('.').collect();
                format!("{}.{}.{}", parts[0], encoded(other.to_string().as_bytes()), parts[2])
            }),
        ),
        ("no token", Arc::new(|_, _| "x".into())),
    ];
    for (what, forge) in forged {
        let mut browser = Browser::new(&rig);
        let location = leave(&mut browser, "/console/sign-in/corp").await;
        let page =
            back(&mut browser, &idp.forges(&location, &json!({ "sub": "Ab-0042" }), Some(forge))).await;
        assert_refused(&page, what);
        assert!(!is_in(&browser).await, "{what}");
    }
    assert!(is_in(&signed_in(&rig, &idp, &json!({ "sub": "Ab-0042" })).await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_provider_leads_elsewhere_and_one_that_is_another_or_away_signs_nobody_in() {
    let idp = StandIn::new().await;
    idp.says_iss();
    let rig = rig(&idp, Place::sqlite()).await;
    let who = json!({ "sub": "Ab-0042" });
    for (next, wanted) in [
        ("//evil.example", "/console/"),
        ("https://evil.example", "/console/"),
        ("/console/%2e%2e/v1", "/console/"),
        ("/console/log%3Fkind%3Ddecided", "/console/log?kind=decided"),
    ] {
        let mut browser = Browser::new(&rig);
        let location = leave(&mut browser, &format!("/console/sign-in/corp?next={next}")).await;
        let returned = idp.consents(&location, &who);
        // It promised to say who it is.
        assert_refused(&browser.get(&returned).await, "no iss");
        let page = back(&mut browser, &format!("{returned}&iss={}", idp.url)).await;
        assert_eq!((page.status, page.location()), (StatusCode::SEE_OTHER, wanted), "{next}: {}", page.text);
    }
    let nowhere = Browser::new(&rig).get("/console/sign-in/nowhere").await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
    // The sign-in page of a provider whose metadata are another's.
    let liar = StandIn::new().await;
    liar.pretends("https://login.example.com");
    let rig = self::rig(&liar, Place::sqlite()).await;
    let page = Browser::new(&rig).get("/console/sign-in/corp").await;
    assert_eq!(page.status, StatusCode::BAD_GATEWAY, "{}", page.text);
    assert!(!page.text.contains(&liar.url), "{}", page.text);
}

pub(crate) async fn order(rig: &Rig, provider: &str, token: &str) -> StatusCode {
    let server = Browser::new(rig);
    let path = format!("/console/sign-in/{provider}/sign-out");
    server.send(Method::POST, &path, &[("logout_token", token)]).await.status
}

async fn a_provider_signs_out_whom_it_means_and_nobody_else_does(place: Place) {
    let idp = StandIn::new().await;
    let rig = rig(&idp, place).await;
    let before = now_s() - 20;
    let session = |sub: &str, sid: &str| json!({ "sub": sub, "sid": sid, "iat": before });
    let one = signed_in(&rig, &idp, &session("Ab-0042", "s1")).await;
    let two = signed_in(&rig, &idp, &session("Ab-0042", "s2")).await;
    let bob = signed_in(&rig, &idp, &session("0043", "s3")).await;
    let local = Browser::signed_in(&rig, "owner", "cli").await;
    let now = now_s();
    let event = "http://schemas.openid.net/event/backchannel-logout";
    let bad = [
        ("a nonce", idp.logout(&json!({ "sub": "Ab-0042", "nonce": "n" }))),
        (
            "a null nonce",
            idp.sign(
                "logout+jwt",
                &json!({
            "iss": idp.url, "aud": "countersign", "iat": now, "exp": now + 60, "jti": "j", "sub": "Ab-0042",
            "nonce": null, "events": { event: {} } }),
            ),
        ),
        ("no event", idp.logout(&json!({ "sub": "Ab-0042", "events": null }))),
        ("another event", idp.logout(&json!({ "sub": "Ab-0042", "events": { "x": {} } }))),
        ("an event that is no table", idp.logout(&json!({ "sub": "Ab-0042", "events": { event: true } }))),
        ("another audience", idp.logout(&json!({ "sub": "Ab-0042", "aud": "others" }))),
        ("another issuer", idp.logout(&json!({ "sub": "Ab-0042", "iss": "https://evil.example" }))),
        ("expired", idp.logout(&json!({ "sub": "Ab-0042", "exp": now - 60 }))),
        ("no expiry", idp.logout(&json!({ "sub": "Ab-0042", "exp": null }))),
        ("of the future", idp.logout(&json!({ "sub": "Ab-0042", "iat": now + 120 }))),
        ("good for ever", idp.logout(&json!({ "sub": "Ab-0042", "exp": now + 10_000_000 }))),
        ("no jti", idp.logout(&json!({ "sub": "Ab-0042", "jti": null }))),
        ("nobody", idp.logout(&json!({}))),
        (
            "another type",
            idp.sign(
                "at+jwt",
                &json!({
            "iss": idp.url, "aud": "countersign", "iat": now, "exp": now + 60, "jti": "j", "sub": "Ab-0042",
            "events": { event: {} } }),
            ),
        ),
        ("a stranger's", StandIn::new().await.logout(&json!({ "iss": idp.url, "sub": "Ab-0042" }))),
        ("no token", "x".into()),
    ];
    for (what, token) in &bad {
        assert_eq!(order(&rig, "corp", token).await, StatusCode::BAD_REQUEST, "{what}");
    }
    assert_eq!(order(&rig, "nowhere", "x").await, StatusCode::NOT_FOUND);
    // Signed for the other provider, which has no such sessions.
    assert_eq!(order(&rig, "other", &idp.logout(&json!({ "sub": "Ab-0042" }))).await, StatusCode::OK);
    // A name of theirs is no name of ours, and a session's name alone means one session.
    assert_eq!(order(&rig, "corp", &idp.logout(&json!({ "sub": "alice" }))).await, StatusCode::OK);
    assert_eq!(
        order(&rig, "corp", &idp.logout(&json!({ "sub": "0043", "sid": "s1" }))).await,
        StatusCode::OK
    );
    for browser in [&one, &two, &bob, &local] {
        assert!(is_in(browser).await);
    }
    assert_eq!(order(&rig, "corp", &idp.logout(&json!({ "sid": "s2" }))).await, StatusCode::OK);
    assert!(is_in(&one).await && !is_in(&two).await);

    // Who was on the way when the order came does not arrive; who is vouched for afterwards does.
    let mut late = Browser::new(&rig);
    let location = leave(&mut late, "/console/sign-in/corp").await;
    let everywhere = idp.logout(&json!({ "sub": "Ab-0042", "iat": before + 1 }));
    assert_eq!(order(&rig, "corp", &everywhere).await, StatusCode::OK);
    assert!(!is_in(&one).await && is_in(&bob).await && is_in(&local).await);
    let page = back(&mut late, &idp.consents(&location, &session("Ab-0042", "s4"))).await;
    assert_refused(&page, "vouched for before the order");
    let again = signed_in(&rig, &idp, &json!({ "sub": "Ab-0042", "sid": "s5", "iat": before + 2 })).await;
    assert_eq!(order(&rig, "corp", &everywhere).await, StatusCode::BAD_REQUEST, "followed before");
    assert!(is_in(&again).await);
    let (_, body) = rig.get("alice", "/v1/log/entries?kind=signed_out").await;
    let told = body.to_string();
    assert_eq!(told.matches("provider corp").count(), 2, "{told}");
}

async fn who_is_disabled_signed_out_or_not_configured_is_out(place: Place) {
    let idp = StandIn::new().await;
    let mut rig = rig(&idp, place).await;
    let alice = PersonId::parse("alice").unwrap();
    let who = json!({ "sub": "Ab-0042", "groups": ["DB admins"] });
    let cookie = {
        let first = signed_in(&rig, &idp, &who).await;
        let accounts = rig.running().app.accounts();
        assert_eq!(accounts.sign_out_everywhere(&alice, "cli").await.unwrap(), 1);
        assert!(!is_in(&first).await);
        let second = signed_in(&rig, &idp, &who).await;
        let store = rig.running().app.store();
        assert_eq!(
            store.enable_account(&alice, false, "cli", SystemClock.now_ms()).await.unwrap(),
            Some(true)
        );
        assert!(!is_in(&second).await);
        let mut third = Browser::new(&rig);
        let location = leave(&mut third, "/console/sign-in/corp").await;
        let page = back(&mut third, &idp.consents(&location, &who)).await;
        assert_refused(&page, "disabled");
        assert!(page.text.contains("disabled"), "{}", page.text);
        assert_eq!(
            store.enable_account(&alice, true, "cli", SystemClock.now_ms()).await.unwrap(),
            Some(true)
        );
        assert!(!is_in(&second).await);
        let fourth = signed_in(&rig, &idp, &who).await;
        assert!(is_in(&fourth).await);
        fourth.cookie.clone()
    };
    // The person is another subject now: whose session it was is nobody's.
    rig.stop().await;
    let path = rig.deployment.at("countersign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("corp = \"Ab-0042\"", "corp = \"0099\"")).unwrap();
    rig.start().await;
    let mut browser = Browser::new(&rig);
    browser.cookie = cookie;
    assert!(!is_in(&browser).await);
    let mut other = Browser::new(&rig);
    let location = leave(&mut other, "/console/sign-in/corp").await;
    let page = back(&mut other, &idp.consents(&location, &who)).await;
    assert_refused(&page, "not mapped any more");
    assert!(page.text.contains("no person of this server is that"), "{}", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_provider_does_not_know_is_told_to_whoever_runs_the_server() {
    let idp = StandIn::new().await;
    let rig = Rig::secret_main(Place::sqlite(), &main(&idp), &[("secret", "another")]).await;
    let mut browser = Browser::new(&rig);
    let location = leave(&mut browser, "/console/sign-in/corp").await;
    let page = back(&mut browser, &idp.consents(&location, &json!({ "sub": "Ab-0042" }))).await;
    assert_eq!(page.status, StatusCode::BAD_GATEWAY, "{}", page.text);
    assert!(!page.text.contains("invalid_client"), "{}", page.text);
    // A public client says its id instead of a secret.
    let mut public = Browser::new(&rig);
    let location = leave(&mut public, "/console/sign-in/other").await;
    let page = back(&mut public, &idp.consents(&location, &json!({ "sub": "Ab-0042" }))).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    let text = public.get("/console/people").await.text;
    let (_, you) = text.split_once("bob").unwrap();
    assert!(you.contains("you"), "there this subject is somebody else: {text}");
}
