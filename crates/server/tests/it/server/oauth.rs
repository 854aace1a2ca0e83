//! Access tokens of an issuer of our own on loopback.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::clock::SystemClock;
use countersign_gate::Clock as _;
use ed25519_dalek::{Signer as _, SigningKey};
use reqwest::{Method, StatusCode, header::WWW_AUTHENTICATE};
use serde_json::{Value, json};

use crate::server::rig::{MAIN, Rig};

const AUDIENCE: &str = "https://countersign.test";

struct Issuer {
    url: String,
    fetched: Arc<AtomicUsize>,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn jwk(kid: &str, seed: u8) -> Value {
    let x = URL_SAFE_NO_PAD.encode(key(seed).verifying_key().as_bytes());
    json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x })
}

impl Issuer {
    async fn new() -> Self {
        let fetched = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&fetched);
        let keys = move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { axum::Json(json!({ "keys": [jwk("one", 1), jwk("two", 2)] })) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/jwks", axum::routing::get(keys));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, fetched }
    }

    async fn rig(&self) -> Rig {
        Rig::with(&format!(
            "{MAIN}\n[oauth]\nissuer = \"{0}\"\naudience = \"{AUDIENCE}\"\njwks_url = \"{0}/jwks\"\nagent_claim = \"agent\"\nscope = \"tools\"\n",
            self.url
        ))
        .await
    }

    /// As [`Issuer::rig`]: tokens end when they say, and waits for people far later.
    async fn strict(&self) -> Rig {
        let main = MAIN.replacen("wait_ms = 5000", "wait_ms = 600000", 1);
        Rig::with(&format!(
            "{main}\n[oauth]\nissuer = \"{0}\"\naudience = \"{AUDIENCE}\"\njwks_url = \"{0}/jwks\"\nagent_claim = \"agent\"\nscope = \"tools\"\nleeway_ms = 0\n",
            self.url
        ))
        .await
    }

    fn claims(&self) -> Value {
        let now = SystemClock.now_ms() / 1_000;
        json!({ "iss": self.url, "aud": [AUDIENCE, "x"], "sub": "svc-7", "agent": "clerk",
                "exp": now + 300, "nbf": now - 5, "scope": "read tools" })
    }
}

fn token(header: &Value, claims: &Value, seed: u8) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = key(seed).sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn header() -> Value {
    json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": "one" })
}

async fn list(rig: &Rig, token: &str) -> reqwest::Response {
    rig.request("", Method::GET, "/v1/tools").bearer_auth(token).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_is_its_agent() {
    let issuer = Issuer::new().await;
    let rig = issuer.rig().await;
    for (kid, seed) in [("one", 1), ("two", 2), ("one", 1)] {
        let mut header = header();
        header["kid"] = json!(kid);
        let good = token(&header, &issuer.claims(), seed);
        assert_eq!(list(&rig, &good).await.status(), StatusCode::OK);
        let call = rig.request("", Method::POST, "/v1/calls").bearer_auth(&good);
        let answer = call.json(&json!({ "tool": "items" })).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert_eq!(issuer.fetched.load(Ordering::SeqCst), 1, "the keys are kept");
    assert_eq!(rig.get("clerk", "/v1/tools").await.0, StatusCode::OK, "keys work beside tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_does_not_fit_opens_nothing() {
    let issuer = Issuer::new().await;
    let rig = issuer.rig().await;
    let now = SystemClock.now_ms() / 1_000;
    let with = |name: &str, value: Value| {
        let mut claims = issuer.claims();
        claims[name] = value;
        token(&header(), &claims, 1)
    };
    let without = |name: &str| {
        let mut claims = issuer.claims();
        claims.as_object_mut().unwrap().remove(name);
        token(&header(), &claims, 1)
    };
    let headed = |name: &str, value: Value| {
        let mut header = header();
        header[name] = value;
        token(&header, &issuer.claims(), 1)
    };
    let good = token(&header(), &issuer.claims(), 1);
    let none = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#),
        good.split('.').nth(1).unwrap()
    );
    let cases = [
        ("another audience", with("aud", json!("https://other.test"))),
        ("no audience", without("aud")),
        ("an audience that begins like ours", with("aud", json!(format!("{AUDIENCE}.evil")))),
        ("another issuer", with("iss", json!("https://evil.test"))),
        ("no issuer", without("iss")),
        ("expired", with("exp", json!(now - 60))),
        ("no expiry", without("exp")),
        ("an expiry that is no number", with("exp", json!("never"))),
        ("not valid yet", with("nbf", json!(now + 120))),
        ("lacks the scope", with("scope", json!("toolsmith read"))),
        ("no scope", without("scope")),
        ("no agent", without("agent")),
        ("an agent that is not configured", with("agent", json!("ghost"))),
        ("an agent that is no text", with("agent", json!(["clerk"]))),
        ("a person", with("agent", json!("alice"))),
        ("an unknown key", headed("kid", json!("three"))),
        ("no key named", headed("kid", Value::Null)),
        ("signed by another key", token(&header(), &issuer.claims(), 2)),
        ("signed by a stranger's key", token(&header(), &issuer.claims(), 9)),
        ("a symmetric algorithm", headed("alg", json!("HS256"))),
        ("another algorithm", headed("alg", json!("RS256"))),
        ("a critical extension", headed("crit", json!(["b64"]))),
        ("another type", headed("typ", json!("secevent+jwt"))),
        ("no signature", good.rsplit_once('.').unwrap().0.to_owned() + "."),
        ("two parts", good.rsplit_once('.').unwrap().0.to_owned()),
        ("algorithm none", none),
        ("very long", format!("{good}{}", "A".repeat(20_000))),
    ];
    assert_eq!(list(&rig, &good).await.status(), StatusCode::OK);
    for (what, bad) in cases {
        let response = list(&rig, &bad).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{what}");
        let challenge = response.headers()[WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.contains("/.well-known/oauth-protected-resource"), "{challenge}");
        assert!(!response.text().await.unwrap().contains(&bad), "{what}");
    }
    assert!(issuer.fetched.load(Ordering::SeqCst) <= 2, "made-up key ids do not make us fetch");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_says_where_tokens_come_from() {
    let issuer = Issuer::new().await;
    let rig = issuer.rig().await;
    let (status, body) = rig.get("", "/.well-known/oauth-protected-resource").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["resource"], AUDIENCE);
    assert_eq!(body["authorization_servers"], json!([issuer.url]));
    let plain = Rig::new().await;
    assert_eq!(plain.get("", "/.well-known/oauth-protected-resource").await.0, StatusCode::NOT_FOUND);
    assert_eq!(list(&plain, &token(&header(), &issuer.claims(), 1)).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_and_quiet_ends_with_its_token() {
    let issuer = Issuer::new().await;
    let rig = issuer.strict().await;
    let mut claims = issuer.claims();
    claims["exp"] = json!(SystemClock.now_ms() / 1_000 + 3);
    let brief = token(&header(), &claims, 1);
    let events = rig.request("", Method::GET, "/v1/events").bearer_auth(&brief).send().await.unwrap();
    assert_eq!(events.status(), StatusCode::OK);
    let call = json!({ "tool": "delete_item", "arguments": { "id": 1 }, "wait_ms": 600_000 });
    let waiting = rig.request("", Method::POST, "/v1/calls").bearer_auth(&brief).json(&call).send();
    let ended = async {
        let answer = waiting.await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        events.bytes().await.unwrap();
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.expect("both end with the token");
    assert_eq!(list(&rig, &brief).await.status(), StatusCode::UNAUTHORIZED);
}
