//! An identity provider of the tests, on loopback: it signs with real keys, checks secrets, codes and PKCE as the specifications
//! say, and can be told to say what a forger would.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Form, Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    routing::{get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign::clock::SystemClock;
use countersign_audit::sha256;
use countersign_gate::Clock as _;
use serde_json::{Value, json};
use url::Url;

use super::jwks::{Key, signed};

/// The secret by which the provider knows the server. It has what must be escaped.
pub(crate) const SECRET: &str = "s3cret:with/odd+signs%";

pub(crate) fn now_s() -> i64 {
    SystemClock.now_ms() / 1_000
}

/// What the provider knows and does.
struct Inner {
    url: String,
    key: Key,
    /// What was agreed on, by code.
    codes: BTreeMap<String, Agreed>,
    /// Codes are good more than once: a provider that does not look.
    careless: bool,
    /// It promises to say who it is with each answer.
    says_iss: bool,
    /// Its metadata names another issuer.
    issuer: Option<String>,
    redeemed: usize,
}

/// How an ID token is to be signed, instead of as it should.
pub(crate) type Forge = Arc<dyn Fn(&Key, &Value) -> String + Send + Sync>;

#[derive(Clone)]
struct Agreed {
    redirect_uri: String,
    challenge: String,
    claims: Value,
    forge: Option<Forge>,
}

/// A provider that runs.
#[derive(Clone)]
pub(crate) struct StandIn {
    pub(crate) url: String,
    inner: Arc<Mutex<Inner>>,
}

impl StandIn {
    pub(crate) async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Inner {
            url: url.clone(),
            key: Key::rsa(),
            codes: BTreeMap::new(),
            careless: false,
            says_iss: false,
            issuer: None,
            redeemed: 0,
        };
        let inner = Arc::new(Mutex::new(inner));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, inner }
    }

    /// The section of a configuration that names it.
    pub(crate) fn section(&self, name: &str, more: &str) -> String {
        format!(
            "\n[provider.{name}]\ntitle = \"Acme <staff>\"\nissuer = \"{}\"\nclient_id = \"countersign\"\n{more}\n",
            self.url
        )
    }

    pub(crate) fn careless(&self) {
        self.inner.lock().unwrap().careless = true;
    }

    pub(crate) fn says_iss(&self) {
        self.inner.lock().unwrap().says_iss = true;
    }

    pub(crate) fn pretends(&self, issuer: &str) {
        self.inner.lock().unwrap().issuer = Some(issuer.to_owned());
    }

    pub(crate) fn redeemed(&self) -> usize {
        self.inner.lock().unwrap().redeemed
    }

    /// Somebody signs in there, and is sent back. `claims` change those of the ID token; one that is null is left out.
    pub(crate) fn consents(&self, location: &str, claims: &Value) -> String {
        self.forges(location, claims, None)
    }

    /// As [`StandIn::consents`], with an ID token that is signed so.
    pub(crate) fn forges(&self, location: &str, claims: &Value, forge: Option<Forge>) -> String {
        let url = Url::parse(location).unwrap();
        assert!(location.starts_with(&format!("{}/authorize?tenant=a", self.url)), "{location}");
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(
            (query["response_type"].as_str(), query["client_id"].as_str()),
            ("code", "countersign"),
            "{location}"
        );
        assert_eq!(query["code_challenge_method"], "S256");
        assert!(query["scope"].split(' ').any(|scope| scope == "openid"));
        let now = now_s();
        let mut whole = json!({ "iss": self.url, "aud": "countersign", "exp": now + 300, "iat": now,
                                "nonce": query["nonce"], "sid": "sid-1" });
        change(&mut whole, claims);
        let mut inner = self.inner.lock().unwrap();
        let code = format!("code {}/+&{}", inner.codes.len(), query["state"].len());
        let agreed = Agreed {
            redirect_uri: query["redirect_uri"].clone(),
            challenge: query["code_challenge"].clone(),
            claims: whole,
            forge,
        };
        inner.codes.insert(code.clone(), agreed);
        let back = Url::parse_with_params(
            &query["redirect_uri"],
            &[("code", code.as_str()), ("state", &query["state"])],
        );
        let back = back.unwrap();
        format!("{}?{}", back.path(), back.query().unwrap())
    }

    /// A logout token. `claims` change what it says; one that is null is left out.
    pub(crate) fn logout(&self, claims: &Value) -> String {
        let now = now_s();
        let jti = tempfile::Builder::new().rand_bytes(12).tempfile().unwrap();
        let mut whole = json!({
            "iss": self.url, "aud": "countersign", "iat": now, "exp": now + 120,
            "jti": jti.path().file_name().unwrap().to_str().unwrap(),
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        change(&mut whole, claims);
        self.sign("logout+jwt", &whole)
    }

    /// A token of any type.
    pub(crate) fn sign(&self, typ: &str, claims: &Value) -> String {
        let inner = self.inner.lock().unwrap();
        let header = json!({ "alg": "RS256", "typ": typ, "kid": "one" });
        signed(&header, claims, |text| inner.key.sign(text))
    }
}

fn change(claims: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().unwrap() {
        let claims = claims.as_object_mut().unwrap();
        if value.is_null() {
            claims.remove(name)
        } else {
            claims.insert(name.clone(), value.clone())
        };
    }
}

async fn metadata(State(inner): State<Arc<Mutex<Inner>>>) -> Json<Value> {
    let inner = inner.lock().unwrap();
    let url = &inner.url;
    Json(json!({
        "issuer": inner.issuer.as_ref().unwrap_or(url),
        "authorization_endpoint": format!("{url}/authorize?tenant=a"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/jwks"),
        "authorization_response_iss_parameter_supported": inner.says_iss,
    }))
}

async fn jwks(State(inner): State<Arc<Mutex<Inner>>>) -> Json<Value> {
    Json(json!({ "keys": [inner.lock().unwrap().key.jwk("one")] }))
}

async fn token(
    State(inner): State<Arc<Mutex<Inner>>>,
    headers: HeaderMap,
    Form(form): Form<BTreeMap<String, String>>,
) -> (StatusCode, Json<Value>) {
    let mut inner = inner.lock().unwrap();
    let refused = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": error })));
    let basic =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    if let Some(basic) = basic {
        let text = String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap();
        let (id, secret) = text.split_once(':').unwrap();
        let plain = |text: &str| {
            url::form_urlencoded::parse(format!("x={text}").as_bytes()).next().unwrap().1.into_owned()
        };
        if (plain(id).as_str(), plain(secret).as_str()) != ("countersign", SECRET) {
            return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "invalid_client" })));
        }
    } else if form.get("client_id").map(String::as_str) != Some("countersign") {
        return refused("invalid_client");
    }
    let found = form.get("code").and_then(|code| inner.codes.get(code).cloned());
    let Some(agreed) = found else { return refused("invalid_grant") };
    let verifier = form.get("code_verifier").cloned().unwrap_or_default();
    let challenge = URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()).as_bytes());
    if challenge != agreed.challenge || form.get("redirect_uri") != Some(&agreed.redirect_uri) {
        return refused("invalid_grant");
    }
    inner.redeemed += 1;
    if !inner.careless {
        inner.codes.remove(&form["code"]);
    }
    let token = match &agreed.forge {
        Some(forge) => forge(&inner.key, &agreed.claims),
        None => {
            let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "one" });
            signed(&header, &agreed.claims, |text| inner.key.sign(text))
        }
    };
    (StatusCode::OK, Json(json!({ "access_token": "a", "token_type": "Bearer", "id_token": token })))
}
