//! HTTP APIs: real servers on loopback that behave, and that do not.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::{any, get, post},
};
use countersign_gate::Answer;
use countersign_rules::{Code, DeclaredEffect};
use countersign_tools::{
    AnyDefinition, AnyTool, Systems,
    definition::{
        AmountDefinition, AmountSource, CurrencySource, HttpAuth, HttpDefinition, HttpLimits, HttpRequest,
        HttpTarget, SystemDefinition, Target,
    },
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

use crate::harness::{ALLOW, ASK, TestVault, World, system, tool};

const SECRET: &str = "sk_test_verysecret";

/// What the server saw.
#[derive(Default)]
struct Seen {
    hits: AtomicU32,
    charge: AtomicU32,
}

async fn serve() -> (Url, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    seen.charge.store(1_250, Ordering::SeqCst);
    let app = Router::new()
        .route("/v1/charges/{id}", get(charge))
        .route("/v1/refunds", post(refund))
        .route("/v1/echo/{*rest}", any(echo))
        .route("/v1/status/{status}", any(status))
        .route("/v1/flaky", any(flaky))
        .route("/v1/garbage", any(|| async { ([(header::CONTENT_TYPE, "application/json")], "{not json") }))
        .route("/v1/html", any(|| async { ([(header::CONTENT_TYPE, "text/html")], "<b>hi</b>") }))
        .route(
            "/v1/binary",
            any(|| async { ([(header::CONTENT_TYPE, "application/json")], vec![0xff_u8, 0xfe]) }),
        )
        .route(
            "/v1/deep",
            any(|| async { ([(header::CONTENT_TYPE, "application/json")], "[".repeat(100_000)) }),
        )
        .route(
            "/v1/huge",
            any(|| async {
                Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'1'; 4096])))
                    .into_response()
            }),
        )
        .route("/v1/slow", any(|| async { std::future::pending::<&str>().await }))
        .route("/v1/here", any(|| async { Redirect::temporary("/v1/echo/there") }))
        .route("/v1/away", any(|| async { Redirect::temporary("http://127.0.0.1:9/elsewhere") }))
        .route("/v1/loop", any(|| async { Redirect::temporary("/v1/loop") }))
        .route("/v1/see", any(|| async { Redirect::to("/v1/echo/there") }))
        .with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/v1", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, seen)
}

async fn charge(State(seen): State<Arc<Seen>>, Path(id): Path<String>) -> Json<Value> {
    Json(json!({"id": id, "amount": seen.charge.load(Ordering::SeqCst), "currency": "eur", "items": [1, 2]}))
}

async fn refund(State(seen): State<Arc<Seen>>, headers: HeaderMap, Json(body): Json<Value>) -> Json<Value> {
    seen.hits.fetch_add(1, Ordering::SeqCst);
    Json(json!({"refunded": body, "key": headers.get("idempotency-key").map(|v| v.to_str().unwrap())}))
}

async fn echo(State(seen): State<Arc<Seen>>, request: Request) -> Json<Value> {
    seen.hits.fetch_add(1, Ordering::SeqCst);
    let headers: BTreeMap<String, String> = request
        .headers()
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_str().unwrap_or("?").to_owned()))
        .collect();
    Json(json!({"uri": request.uri().to_string(), "headers": headers}))
}

async fn status(State(seen): State<Arc<Seen>>, Path(status): Path<u16>, headers: HeaderMap) -> Response {
    seen.hits.fetch_add(1, Ordering::SeqCst);
    let sent = headers.get("authorization").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    (StatusCode::from_u16(status).unwrap(), format!("no, {sent}, because")).into_response()
}

/// Fails twice, and then works.
async fn flaky(State(seen): State<Arc<Seen>>) -> Response {
    match seen.hits.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => Json(json!({"ok": true})).into_response(),
    }
}

fn api(base_url: Url) -> HttpTarget {
    HttpTarget {
        base_url,
        auth: Some(HttpAuth::Bearer { secret: "token".into() }),
        headers: BTreeMap::from([("x-version".into(), "7".into())]),
        allow_private: true,
        ca: None,
        follow_redirects: false,
        limits: HttpLimits { timeout_ms: 300, response_bytes_max: 20_000, ..HttpLimits::default() },
    }
}

fn request(method: &str, path: &str) -> HttpRequest {
    HttpRequest {
        method: method.into(),
        path: path.into(),
        query: BTreeMap::new(),
        headers: BTreeMap::new(),
        body: None,
    }
}

fn definition(name: &str, method: &str, path: &str, arguments: Value) -> HttpDefinition {
    let effect = match method {
        "GET" => DeclaredEffect::Read,
        "DELETE" => DeclaredEffect::Destructive,
        _ => DeclaredEffect::Write,
    };
    HttpDefinition {
        tool: tool(name, "api", effect, arguments),
        request: request(method, path),
        preview: None,
        amount: None,
        objects: None,
    }
}

fn world_of(target: HttpTarget, definitions: Vec<HttpDefinition>, policy: &str) -> World {
    let definitions: Vec<_> = definitions.into_iter().map(AnyDefinition::Http).collect();
    let vault = TestVault::default().with("api", "token", SECRET);
    World::new(&[system("api", Target::Http(target))], vault, &definitions, policy)
}

#[tokio::test]
async fn a_request_carries_its_arguments_and_the_credential() {
    let (base, _seen) = serve().await;
    let mut find = definition(
        "find",
        "GET",
        "/echo/{id}/x",
        json!({"id": {"type": "string"}, "tags": {"type": "array"}}),
    );
    find.request.query = BTreeMap::from([("tag".into(), json!("$tags")), ("v".into(), json!("2"))]);
    find.request.headers = BTreeMap::from([("x-mine".into(), "yes".into())]);
    let world = world_of(api(base), vec![find], ALLOW);
    let done = world.done("find", json!({"id": "a b?c", "tags": ["x y", "&z=1"]})).await;
    assert_eq!(done.reply["uri"], "/v1/echo/a%20b%3Fc/x?tag=x+y&tag=%26z%3D1&v=2");
    let headers = &done.reply["headers"];
    assert_eq!((&headers["x-version"], &headers["x-mine"]), (&json!("7"), &json!("yes")));
    // The server repeats what it was sent, and the agent still does not see it.
    assert_eq!(headers["authorization"], "Bearer [secret]");
    for id in ["..", ".", "", "../../admin", "a\nb", "7/secrets/master", "7;x", "7%2fx", "7\\x"] {
        let refusal = world.refusal("find", json!({"id": id, "tags": []})).await;
        assert_eq!(refusal.code, Code::InvalidArguments, "{id:?}");
    }
}

#[tokio::test]
async fn a_refund_is_measured_by_its_preview_and_sent_once_with_a_key() {
    let (base, seen) = serve().await;
    let mut refund = definition("refund", "POST", "/refunds", json!({"charge": {"type": "string"}}));
    refund.request.body = Some(json!({"charge": "$charge"}));
    refund.preview = Some(request("GET", "/charges/{charge}"));
    refund.amount = Some(AmountDefinition {
        scale: None,
        minor: AmountSource::Preview("/amount".into()),
        currency: CurrencySource::Preview("/currency".into()),
    });
    refund.objects = Some("/items".into());
    let world = world_of(api(base), vec![refund], ASK);
    let pending = world.pending("refund", json!({"charge": "ch_1"})).await;
    let reach = pending.reach.clone().unwrap();
    assert_eq!((reach.rows, reach.amount.unwrap().to_string()), (2, "12.50 EUR".to_owned()));
    // What the preview told is there for the approver to read.
    let told = world.shown(&pending).await.1.expect("no evidence").sample;
    assert_eq!(
        (told.table.as_str(), told.columns),
        ("GET /v1/charges/ch_1", vec!["field".into(), "told".into()])
    );
    assert!(told.rows.contains(&vec![Some("/amount".into()), Some("1250".into())]), "{:?}", told.rows);
    assert_eq!(seen.hits.load(Ordering::SeqCst), 0, "nothing is sent before a person approves");
    let Answer::Done(done) = world.approve(&pending.approval).await else { panic!("not done") };
    assert_eq!(done.reply["refunded"], json!({"charge": "ch_1"}));
    assert_eq!(done.reply["key"], json!(done.call.as_str()));
    assert_eq!(seen.hits.load(Ordering::SeqCst), 1);

    // More than was approved: decided again, and not sent.
    let pending = world.pending("refund", json!({"charge": "ch_2"})).await;
    seen.charge.store(999_999, Ordering::SeqCst);
    let Answer::Refused(refused) = world.approve(&pending.approval).await else { panic!("not refused") };
    assert_eq!(refused.refusal.code, Code::ApprovalSuperseded);
    assert_eq!(seen.hits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_amount_that_no_log_can_hold_exactly_is_said_to_be_one() {
    let (base, seen) = serve().await;
    let mut refund = definition("refund", "POST", "/refunds", json!({"charge": {"type": "string"}}));
    refund.request.body = Some(json!({"charge": "$charge"}));
    refund.preview = Some(request("GET", "/charges/{charge}"));
    refund.amount = Some(AmountDefinition {
        scale: Some(9),
        minor: AmountSource::Preview("/amount".into()),
        currency: CurrencySource::Preview("/currency".into()),
    });
    seen.charge.store(u32::MAX, Ordering::SeqCst);
    for policy in [ALLOW, ASK] {
        let world = world_of(api(base.clone()), vec![refund.clone()], policy);
        let answer = world.call("refund", json!({"charge": "ch_1"})).await;
        let told = format!("{answer:?}");
        assert!(told.contains("2^53") && !told.contains("ledger"), "{told}");
    }
    assert_eq!(seen.hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn each_status_says_what_became_of_the_effect() {
    let (base, seen) = serve().await;
    let tools = ["GET", "POST"].map(|method| {
        definition(&method.to_lowercase(), method, "/status/{status}", json!({"status": {"type": "integer"}}))
    });
    let mut target = api(base);
    target.limits.retries_max = 0;
    let world = world_of(target, tools.to_vec(), ALLOW);
    for (status, read, write) in [
        (400, Code::ToolFailed, Code::ToolFailed),
        (401, Code::ToolFailed, Code::ToolFailed),
        (404, Code::ToolFailed, Code::ToolFailed),
        (409, Code::ToolFailed, Code::ToolFailed),
        (429, Code::ToolFailed, Code::ToolFailed),
        (500, Code::SystemUnavailable, Code::InDoubt),
        (502, Code::SystemUnavailable, Code::InDoubt),
        (504, Code::SystemUnavailable, Code::InDoubt),
        (501, Code::ToolFailed, Code::ToolFailed),
        (302, Code::SystemUnavailable, Code::InDoubt),
        (307, Code::ToolFailed, Code::ToolFailed),
    ] {
        for (name, code) in [("get", read), ("post", write)] {
            let refusal = world.refusal(name, json!({"status": status})).await;
            assert_eq!(refusal.code, code, "{name} {status}: {refusal}");
            assert!(!refusal.message.contains(SECRET), "{refusal}");
        }
    }
    assert_eq!(seen.hits.load(Ordering::SeqCst), 22, "each exactly once");
    assert_eq!(world.done("post", json!({"status": 204})).await.reply, json!({"body": null}));
    assert!(world.refusal("post", json!({"status": 422})).await.message.contains("because"));
}

#[tokio::test]
async fn only_what_is_safe_is_sent_again() {
    for (method, idempotent, works) in [("GET", false, true), ("POST", false, false), ("POST", true, true)] {
        let (base, seen) = serve().await;
        let mut flaky = definition("flaky", method, "/flaky", json!({}));
        flaky.tool.idempotent = idempotent;
        let world = world_of(api(base), vec![flaky], ALLOW);
        let answer = world.call("flaky", json!({})).await;
        let hits = seen.hits.load(Ordering::SeqCst);
        if works {
            assert!(matches!(answer, Answer::Done(_)), "{method} {idempotent}: {answer:?}");
            assert_eq!(hits, 3);
        } else {
            assert_eq!((answer.status(), hits), ("in_doubt", 1));
        }
    }
}

#[tokio::test]
async fn answers_that_cannot_be_passed_on_are_withheld() {
    let (base, _seen) = serve().await;
    let paths = ["garbage", "html", "binary", "deep", "huge"];
    let mut tools = Vec::new();
    for path in paths {
        tools.push(definition(&format!("read_{path}"), "GET", &format!("/{path}"), json!({})));
        tools.push(definition(&format!("write_{path}"), "POST", &format!("/{path}"), json!({})));
    }
    let mut strict = definition("strict", "POST", "/refunds", json!({}));
    strict.request.body = Some(json!({"a": 1}));
    strict.tool.result = Some(json!({"other": {"type": "string"}}));
    tools.push(strict);
    let world = world_of(api(base), tools, ALLOW);
    for path in paths {
        let refusal = world.refusal(&format!("read_{path}"), json!({})).await;
        assert_eq!(refusal.code, Code::ToolFailed, "{path}: {refusal}");
        let refusal = world.refusal(&format!("write_{path}"), json!({})).await;
        assert_eq!(refusal.code, Code::ResultRejected, "{path}: {refusal}");
    }
    assert_eq!(world.refusal("strict", json!({})).await.code, Code::ResultRejected);
}

#[tokio::test]
async fn an_api_that_hangs_or_hangs_up_is_in_doubt_for_writes() {
    let (base, _seen) = serve().await;
    let tools =
        vec![definition("read", "GET", "/slow", json!({})), definition("write", "POST", "/slow", json!({}))];
    let world = world_of(api(base), tools.clone(), ALLOW);
    assert_eq!(world.refusal("read", json!({})).await.code, Code::SystemUnavailable);
    assert_eq!(world.refusal("write", json!({})).await.code, Code::InDoubt);

    // Takes the request and hangs up.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            assert!(socket.read(&mut buffer).await.unwrap() > 0);
            socket
                .write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\ncontent-type: application/json\r\n\r\n{",
                )
                .await
                .unwrap();
        }
    });
    let world = world_of(api(base), tools.clone(), ALLOW);
    assert_eq!(world.refusal("read", json!({})).await.code, Code::ToolFailed);
    // It said 200 before it broke off: the effect has happened.
    assert_eq!(world.refusal("write", json!({})).await.code, Code::ResultRejected);

    // Nobody listens: nothing was sent.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let world = world_of(api(base), tools, ALLOW);
    assert_eq!(world.refusal("write", json!({})).await.code, Code::SystemUnavailable);
}

#[tokio::test]
async fn redirects_are_followed_only_where_the_system_says_so_and_only_within_its_origin() {
    let (base, seen) = serve().await;
    let paths = ["here", "away", "loop"];
    let tools = || {
        let mut tools: Vec<_> =
            paths.iter().map(|p| definition(p, "GET", &format!("/{p}"), json!({}))).collect();
        tools.push(definition("write", "POST", "/here", json!({})));
        tools.push(definition("see", "POST", "/see", json!({})));
        tools
    };
    let strict = world_of(api(base.clone()), tools(), ALLOW);
    for name in paths {
        assert_eq!(strict.refusal(name, json!({})).await.code, Code::ToolFailed, "{name}");
    }
    let lax = world_of(HttpTarget { follow_redirects: true, ..api(base) }, tools(), ALLOW);
    assert_eq!(lax.done("here", json!({})).await.reply["uri"], "/v1/echo/there");
    for name in ["away", "loop"] {
        assert_eq!(lax.refusal(name, json!({})).await.code, Code::ToolFailed, "{name}");
    }
    assert_eq!(lax.refusal("write", json!({})).await.code, Code::ToolFailed);
    assert_eq!(lax.refusal("see", json!({})).await.code, Code::InDoubt);
    assert_eq!(seen.hits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn private_addresses_are_refused_when_the_connection_is_made() {
    let (base, seen) = serve().await;
    // A name, so that only the resolver can tell; `localhost` stands for any name that leads inside.
    let name = Url::parse(&format!("https://localhost:{}/v1", base.port().unwrap())).unwrap();
    let read = || vec![definition("read", "GET", "/echo/x", json!({}))];
    let world = world_of(HttpTarget { allow_private: false, ..api(name.clone()) }, read(), ALLOW);
    let refusal = world.refusal("read", json!({})).await;
    assert_eq!(refusal.code, Code::SystemUnavailable);
    assert!(refusal.message.contains("no public address"), "{refusal}");
    let mut plain = name;
    plain.set_scheme("http").unwrap();
    let world = world_of(HttpTarget { allow_private: true, ..api(plain) }, read(), ALLOW);
    world.done("read", json!({})).await;
    assert_eq!(seen.hits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_missing_secret_stops_the_call_before_anything_is_sent() {
    let (base, seen) = serve().await;
    let write = AnyDefinition::Http(definition("write", "POST", "/echo/x", json!({})));
    let world = World::new(&[system("api", Target::Http(api(base)))], TestVault::default(), &[write], ALLOW);
    let refusal = world.refusal("write", json!({})).await;
    assert_eq!(refusal.code, Code::SystemUnavailable);
    assert!(refusal.message.contains("`token`"), "{refusal}");
    assert_eq!(seen.hits.load(Ordering::SeqCst), 0);
}

#[test]
fn definitions_that_do_not_hold_are_refused() {
    let url = |text: &str| Url::parse(text).unwrap();
    let systems = |target: HttpTarget| -> Result<Systems, String> {
        let vault: Arc<dyn countersign_gate::Vault> = Arc::new(TestVault::default());
        let definition: SystemDefinition = system("api", Target::Http(target));
        Systems::new(&[definition], &vault).map_err(|errors| errors[0].to_string())
    };
    for base in ["http://api.example/", "https://10.0.0.1/", "https://[::1]/", "https://a:b@api.example/"] {
        let target = HttpTarget { allow_private: false, ..api(url(base)) };
        assert!(systems(target).unwrap_err().contains("base_url"), "{base}");
    }
    let mut target = api(url("https://api.example"));
    target.headers.insert("Authorization".into(), "x".into());
    assert!(systems(target).unwrap_err().contains("not free to set"));

    let fine = systems(api(url("https://api.example"))).unwrap();
    let check = |definition: HttpDefinition, expected: &str| {
        let error = AnyTool::new(&AnyDefinition::Http(definition), &fine).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let id = || json!({"id": {"type": "string"}});
    check(definition("t", "GET", "/x/{other}", id()), "`other`, which is no argument");
    check(definition("t", "GET", "/x", id()), "`id` is not used");
    check(definition("t", "GET", "/x/{id}", json!({"id": {"type": "string", "optional": true}})), "optional");
    let mut weak = definition("t", "DELETE", "/x/{id}", id());
    weak.tool.effect = DeclaredEffect::Write;
    check(weak, "at least `destructive`");
    let mut weak = definition("t", "POST", "/x/{id}", id());
    weak.tool.effect = DeclaredEffect::Read;
    check(weak, "at least `write`");
    let mut preview = definition("t", "POST", "/x/{id}", id());
    preview.preview = Some(request("POST", "/x/{id}"));
    check(preview, "must be `GET`");
    let mut amount = definition("t", "POST", "/x/{id}", id());
    amount.amount = Some(AmountDefinition {
        scale: None,
        minor: AmountSource::Preview("/amount".into()),
        currency: CurrencySource::Fixed("EUR".parse().unwrap()),
    });
    check(amount, "there is none");
}
