//! Time, and who may add: what is signed is forged in the tests of the server, over HTTP.

use super::super::tests::{HOME, PASSWORD, Place, id};
use super::*;

/// Says what no passkey of anybody has signed.
const SAID: &str = r#"{"id":"AAAA","client_data":"AAAA","authenticator_data":"AAAA","signature":"AAAA","user_handle":"AAAA"}"#;

async fn refused_for(place: &Place, sealed: &str) -> String {
    place.accounts().sign_in_by_passkey(sealed, SAID, HOME).await.unwrap_err().message
}

#[tokio::test]
async fn what_is_begun_is_ended_within_five_minutes_and_for_what_it_was_begun() {
    let place = Place::new();
    let begun = place.accounts().begin_passkey_sign_in().unwrap();
    assert_eq!(begun.origin, "https://countersign.example:8443");
    assert_eq!(begun.options["rpId"], "countersign.example");
    place.pass(CEREMONY_MS - 1);
    assert!(refused_for(&place, &begun.sealed).await.contains("another passkey"));
    place.pass(1);
    assert!(refused_for(&place, &begun.sealed).await.contains("more than five minutes ago"));
    // What is sealed for something else, also by the same server, begins no sign-in.
    let (signed_in, _codes) = place.set_up("ann", "cli").await;
    let adding = place.accounts().begin_adding_passkey(&signed_in.session, "", HOME).await.unwrap();
    assert!(refused_for(&place, &adding.sealed).await.contains("not begun here"));
    let kept = place.accounts().providers.sealing().seal("something else", &"x").unwrap().1;
    assert!(refused_for(&place, &kept).await.contains("not begun here"));
}

#[tokio::test]
async fn a_session_that_was_left_open_adds_no_passkey() {
    let place = Place::new();
    let (signed_in, codes) = place.set_up("ann", "cli").await;
    let add = async |password: &str| {
        place.accounts().begin_adding_passkey(&signed_in.session, password, HOME).await.map(drop)
    };
    place.pass(FRESH_MS);
    add("").await.unwrap();
    place.pass(1);
    let why = add("").await.unwrap_err();
    assert!(why.code == Code::Malformed && why.message.contains("type your password"), "{why:?}");
    assert_eq!(add("a wrong password").await.unwrap_err().code, Code::Unauthenticated);
    add(PASSWORD).await.unwrap();
    add(&codes[0]).await.unwrap();
    for _ in 0..10 {
        add("a wrong password").await.unwrap_err();
    }
    assert_eq!(add(PASSWORD).await.unwrap_err().code, Code::RateLimited);
    place.accounts().sign_out(&signed_in.token).await.unwrap();
    assert_eq!(add("").await.unwrap_err().code, Code::Unauthenticated);
    assert!(place.accounts().passkeys(&id("ann")).await.unwrap().is_empty());
}

#[test]
fn browsers_make_passkeys_for_names_over_tls_and_for_the_machine_itself() {
    let of = |url: &str| PasskeySite::of(&url.parse().unwrap());
    let site = of("https://countersign.example/").unwrap();
    assert_eq!(
        (site.host.as_str(), site.origin.as_str()),
        ("countersign.example", "https://countersign.example")
    );
    assert_eq!(of("http://localhost:7780").unwrap().origin, "http://localhost:7780");
    for (url, word) in [
        ("http://127.0.0.1:7780", "is an address"),
        ("https://192.0.2.1", "is an address"),
        ("https://[::1]:7780", "is an address"),
        ("http://countersign.example", "not encrypted"),
        ("http://localhost.example", "not encrypted"),
    ] {
        assert!(of(url).unwrap_err().contains(word), "{url}");
    }
}
