//! RS256 and ES256 tokens of an issuer whose keys are fetched, change, and go out of use.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
        RsaEncoding,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::clock::SystemClock;
use countersign_gate::Clock as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    server::rig::{MAIN, Rig},
    server::tls::Authority,
};

const AUDIENCE: &str = "https://countersign.test";

/// A key of the issuer.
pub(crate) enum Key {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

impl Key {
    pub(crate) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
        }
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let mut jwk = match self {
            Self::Rsa(key) => json!({
                "kty": "RSA",
                "n": encoded(key.public_key().modulus().big_endian_without_leading_zero()),
                "e": encoded(key.public_key().exponent().big_endian_without_leading_zero()),
            }),
            Self::P256(key) => {
                // An uncompressed point: 4, x, y.
                let point = key.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "x": encoded(&point[1..33]), "y": encoded(&point[33..]) })
            }
        };
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm());
        jwk
    }

    pub(crate) fn sign(&self, text: &str) -> Vec<u8> {
        match self {
            Self::Rsa(key) => rsa(key, &RSA_PKCS1_SHA256, text),
            Self::P256(key) => key.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec(),
        }
    }

    fn token(&self, kid: &str, claims: &Value) -> String {
        signed(&json!({ "alg": self.algorithm(), "typ": "at+jwt", "kid": kid }), claims, |text| {
            self.sign(text)
        })
    }
}

fn rsa(key: &RsaKeyPair, padding: &'static dyn RsaEncoding, text: &str) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(padding, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
    signature
}

pub(crate) fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn signed(header: &Value, claims: &Value, sign: impl Fn(&str) -> Vec<u8>) -> String {
    let text =
        format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
    let signature = encoded(&sign(&text));
    format!("{text}.{signature}")
}

/// An issuer on loopback, whose published keys the test sets.
struct Issuer {
    url: String,
    published: Arc<Mutex<Value>>,
    fetched: Arc<AtomicUsize>,
}

impl Issuer {
    async fn new(keys: &Value) -> Self {
        let (router, published, fetched) = publishing(keys);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, published, fetched }
    }

    /// A server that trusts the issuer, with further keys of `[oauth]`.
    async fn rig(&self, keys: &str) -> Rig {
        Rig::with(&format!(
            "{MAIN}\n[oauth]\nissuer = \"{0}\"\naudience = \"{AUDIENCE}\"\njwks_url = \"{0}/jwks\"\n\
             agent_claim = \"agent\"\n{keys}\n",
            self.url
        ))
        .await
    }

    fn publish(&self, keys: &Value) {
        *self.published.lock().unwrap() = json!({ "keys": keys });
    }

    fn claims(&self) -> Value {
        claims(&self.url)
    }
}

fn publishing(keys: &Value) -> (axum::Router, Arc<Mutex<Value>>, Arc<AtomicUsize>) {
    let published = Arc::new(Mutex::new(json!({ "keys": keys })));
    let fetched = Arc::new(AtomicUsize::new(0));
    let (set, count) = (Arc::clone(&published), Arc::clone(&fetched));
    let route = axum::routing::get(move || {
        count.fetch_add(1, Ordering::SeqCst);
        let keys = set.lock().unwrap().clone();
        async move { axum::Json(keys) }
    });
    (axum::Router::new().route("/jwks", route), published, fetched)
}

fn claims(issuer: &str) -> Value {
    let now = SystemClock.now_ms() / 1_000;
    json!({ "iss": issuer, "aud": AUDIENCE, "sub": "svc-7", "agent": "clerk", "exp": now + 300, "nbf": now - 5 })
}

async fn status(rig: &Rig, token: &str) -> StatusCode {
    rig.request("", Method::GET, "/v1/tools").bearer_auth(token).send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn rs256_and_es256_tokens_are_their_agent_over_rest_and_mcp() {
    let (one, two) = (Key::rsa(), Key::p256());
    let issuer = Issuer::new(&json!([one.jwk("one"), two.jwk("two")])).await;
    let rig = issuer.rig("").await;
    for (key, kid) in [(&one, "one"), (&two, "two")] {
        let token = key.token(kid, &issuer.claims());
        let call = rig.request("", Method::POST, "/v1/calls").bearer_auth(&token);
        let answer = call.json(&json!({ "tool": "items" })).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{kid}");
        let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} });
        let mcp = rig.request("", Method::POST, "/mcp").bearer_auth(&token);
        let mcp =
            mcp.header("accept", "application/json, text/event-stream").json(&list).send().await.unwrap();
        assert_eq!(mcp.status(), StatusCode::OK, "{kid}");
    }
    assert_eq!(issuer.fetched.load(Ordering::SeqCst), 1);
    let (_, entries) = rig.get("alice", "/v1/log/entries?kind=call_proposed").await;
    let entries = entries["entries"].as_array().unwrap();
    assert!(entries.len() == 2 && entries.iter().all(|e| e.to_string().contains("clerk")), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_another_key_or_way_of_signing_made_opens_nothing() {
    let (one, two) = (Key::rsa(), Key::p256());
    let (stranger, strange) = (Key::rsa(), Key::p256());
    let issuer = Issuer::new(&json!([one.jwk("one"), two.jwk("two")])).await;
    let rig = issuer.rig("").await;
    let good = issuer.claims();
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let now = SystemClock.now_ms() / 1_000;
    let header = |algorithm: &str, kid: &str| json!({ "alg": algorithm, "typ": "JWT", "kid": kid });
    let Key::Rsa(pair) = &one else { panic!("an RSA key") };
    // The classic confusion: what everybody knows, the public key, as the secret of a symmetric signature.
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let modulus = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
    let jwk = one.jwk("one").to_string().into_bytes();
    let hs256 = |secret: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        signed(&header("HS256", "one"), &good, |text| hmac::sign(&key, text.as_bytes()).as_ref().to_vec())
    };
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(public.as_ref())
    );
    let cases = [
        ("wrong audience", one.token("one", &with("aud", json!("https://other.test")))),
        ("wrong issuer", two.token("two", &with("iss", json!("https://evil.test")))),
        ("expired", one.token("one", &with("exp", json!(now - 60)))),
        ("not valid yet", two.token("two", &with("nbf", json!(now + 120)))),
        ("unknown key", one.token("three", &good)),
        ("a stranger's RSA key under a known name", stranger.token("one", &good)),
        ("a stranger's P-256 key under a known name", strange.token("two", &good)),
        (
            "an RSA key that is said to be P-256",
            signed(&header("ES256", "one"), &good, |text| one.sign(text)),
        ),
        ("a P-256 key that is said to be RSA", signed(&header("RS256", "two"), &good, |text| two.sign(text))),
        ("none", signed(&header("none", "one"), &good, |_text| Vec::new())),
        ("None", signed(&header("None", "one"), &good, |_text| Vec::new())),
        ("HS256 with the public key in DER", hs256(public.as_ref())),
        ("HS256 with the public key in PEM", hs256(pem.as_bytes())),
        ("HS256 with the modulus", hs256(&modulus)),
        ("HS256 with the published key", hs256(&jwk)),
        ("HS256 with nothing", hs256(b"")),
        ("PS256", signed(&header("PS256", "one"), &good, |text| rsa(pair, &RSA_PSS_SHA256, text))),
        ("RS256 without a signature", signed(&header("RS256", "one"), &good, |_text| Vec::new())),
        ("ES256 of zeros", signed(&header("ES256", "two"), &good, |_text| vec![0; 64])),
        ("other claims under a good signature", {
            let token = one.token("one", &good);
            let parts: Vec<&str> = token.split('.').collect();
            format!(
                "{}.{}.{}",
                parts[0],
                encoded(with("agent", json!("other")).to_string().as_bytes()),
                parts[2]
            )
        }),
        ("a key that the token brings along", {
            let header = json!({ "alg": "RS256", "typ": "JWT", "jwk": stranger.jwk("one"), "kid": "one" });
            signed(&header, &good, |text| stranger.sign(text))
        }),
    ];
    assert_eq!(status(&rig, &one.token("one", &good)).await, StatusCode::OK);
    for (what, token) in cases {
        assert_eq!(status(&rig, &token).await, StatusCode::UNAUTHORIZED, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_and_a_withdrawn_one_goes_out_of_use() {
    let (old, new) = (Key::rsa(), Key::p256());
    let issuer = Issuer::new(&json!([old.jwk("old")])).await;
    let rig = issuer.rig("keys_age_max_ms = 1\nrefetch_pause_ms = 1").await;
    let (with_old, with_new) = (old.token("old", &issuer.claims()), new.token("new", &issuer.claims()));
    assert_eq!(status(&rig, &with_old).await, StatusCode::OK);
    assert_eq!(status(&rig, &with_new).await, StatusCode::UNAUTHORIZED, "not published yet");
    issuer.publish(&json!([old.jwk("old"), new.jwk("new")]));
    assert_eq!(settled(&rig, &with_new, StatusCode::OK).await, StatusCode::OK);
    assert_eq!(
        settled(&rig, &with_old, StatusCode::OK).await,
        StatusCode::OK,
        "both count while both are there"
    );
    issuer.publish(&json!([new.jwk("new")]));
    assert_eq!(settled(&rig, &with_old, StatusCode::UNAUTHORIZED).await, StatusCode::UNAUTHORIZED);
    assert_eq!(settled(&rig, &with_new, StatusCode::OK).await, StatusCode::OK);
    // The name of the old key given to another: the token it signed is no longer good.
    issuer.publish(&json!([Key::rsa().jwk("old"), new.jwk("new")]));
    assert_eq!(settled(&rig, &with_old, StatusCode::UNAUTHORIZED).await, StatusCode::UNAUTHORIZED);
    // An issuer that answers nonsense vouches for nobody.
    *issuer.published.lock().unwrap() = json!("no keys");
    assert_eq!(settled(&rig, &with_new, StatusCode::UNAUTHORIZED).await, StatusCode::UNAUTHORIZED);
}

/// What a token is answered, once the pause between two fetches, a millisecond, is over.
async fn settled(rig: &Rig, token: &str, wanted: StatusCode) -> StatusCode {
    let mut found = status(rig, token).await;
    for _ in 0..50 {
        if found == wanted {
            break;
        }
        found = status(rig, token).await;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_found_by_its_first_token_and_made_up_ones_fetch_nothing() {
    let (old, new) = (Key::rsa(), Key::rsa());
    let issuer = Issuer::new(&json!([old.jwk("old")])).await;
    let rig = issuer.rig("refetch_pause_ms = 1").await;
    assert_eq!(status(&rig, &old.token("old", &issuer.claims())).await, StatusCode::OK);
    issuer.publish(&json!([old.jwk("old"), new.jwk("new")]));
    let token = new.token("new", &issuer.claims());
    assert_eq!(
        settled(&rig, &token, StatusCode::OK).await,
        StatusCode::OK,
        "the age of what is known is ten minutes"
    );

    let slow = issuer.rig("").await;
    let before = issuer.fetched.load(Ordering::SeqCst);
    assert_eq!(status(&slow, &token).await, StatusCode::OK);
    for n in 0..20 {
        let made_up = new.token(&format!("made-up-{n}"), &issuer.claims());
        assert_eq!(status(&slow, &made_up).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(issuer.fetched.load(Ordering::SeqCst), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuers_keys_come_from_a_server_with_a_trusted_certificate() {
    let key = Key::p256();
    let folder = tempfile::tempdir().unwrap();
    let (trusted, stranger) = (Authority::new(), Authority::new());
    let (router, _published, fetched) = publishing(&json!([key.jwk("one")]));
    let address = trusted.serve(&["localhost"], router).await;
    let issuer = format!("https://localhost:{}", address.port());
    let token = key.token("one", &claims(&issuer));
    let rig = |ca: String| {
        let main = format!(
            "{MAIN}\n[oauth]\nissuer = \"{issuer}\"\naudience = \"{AUDIENCE}\"\njwks_url = \"{issuer}/jwks\"\n\
             agent_claim = \"agent\"\n{ca}\n"
        );
        async move { Rig::with(&main).await }
    };
    let good = rig(format!("ca = '{}'", trusted.file(folder.path(), "trusted.pem").display())).await;
    assert_eq!(status(&good, &token).await, StatusCode::OK);
    assert_eq!(fetched.load(Ordering::SeqCst), 1);
    for ca in [String::new(), format!("ca = '{}'", stranger.file(folder.path(), "stranger.pem").display())] {
        let bad = rig(ca).await;
        assert_eq!(status(&bad, &token).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 1, "nothing is asked of a server that cannot prove its name");
}
