//! Microsoft Teams: what is shown in a card, and that its buttons answer for whom they may and for nobody else. The
//! connector, the place that gives out tokens and the issuer of the connector's own are stand-ins on loopback.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Form, Json, Router,
    extract::{Path, State},
    http::{HeaderMap, Method as Verb, StatusCode as Status, header},
    response::{IntoResponse as _, Response},
    routing::{any, get, post},
};
use countersign::clock::SystemClock;
use countersign_gate::Clock as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    deployment::PATIENCE,
    place::{Place, on_either_store},
    server::{
        jwks::{Key, signed},
        rig::{MAIN, Rig, read},
    },
};

const APP: &str = "11111111-2222-3333-4444-555555555555";
const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const ALICE: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const BOB: &str = "aaaaaaaa-0000-4000-8000-000000000002";
const OWNER: &str = "aaaaaaaa-0000-4000-8000-000000000003";
const CONVERSATION: &str = "19:abc@thread.tacv2";
const SECRET: &str = "bot~secret&with=signs";
const ISSUER: &str = "https://api.botframework.com";

/// What the connector does with a request instead of taking it.
#[derive(Debug, Clone, Copy)]
enum Does {
    Answer(u16),
    Wait { after_s: u64 },
}

#[derive(Clone)]
struct World {
    does: Arc<Mutex<VecDeque<Does>>>,
    keys: Arc<Mutex<Value>>,
    /// So many tokens were given out; the last one is good.
    tokens: Arc<AtomicUsize>,
    asked: mpsc::UnboundedSender<(String, String, Value)>,
}

/// A workflow was told something.
const WORKFLOW: &str = "workflow";

struct FakeTeams {
    url: String,
    key: Key,
    world: World,
    asked: mpsc::UnboundedReceiver<(String, String, Value)>,
    /// What came before a workflow was told, which is another channel with its own pace.
    before: VecDeque<(String, String, Value)>,
    presses: AtomicUsize,
}

fn published(key: &Key, kid: &str, endorsements: &[&str]) -> Value {
    let mut jwk = key.jwk(kid);
    jwk["endorsements"] = json!(endorsements);
    jwk
}

impl FakeTeams {
    async fn new(does: &[Does]) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let key = Key::rsa();
        let world = World {
            does: Arc::new(Mutex::new(does.iter().copied().collect())),
            keys: Arc::new(Mutex::new(json!([published(&key, "k1", &["webchat", "msteams"])]))),
            tokens: Arc::default(),
            asked: sender,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let metadata = json!({ "issuer": ISSUER, "jwks_uri": format!("{url}/jwks") });
        let router = Router::new()
            .route("/{tenant}/oauth2/v2.0/token", post(give_out))
            .route("/openid", get(async move || Json(metadata)))
            .route(
                "/jwks",
                get(async |State(world): State<World>| {
                    let keys = world.keys.lock().unwrap().clone();
                    Json(json!({ "keys": keys }))
                }),
            )
            .route("/teams/v3/conversations/{conversation}/activities", any(posted))
            .route("/teams/v3/conversations/{conversation}/activities/{card}", any(put))
            .route("/workflow", any(worked))
            .with_state(world.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, key, world, asked, before: VecDeque::new(), presses: AtomicUsize::new(0) }
    }

    async fn rig(&self, place: Place, more: &str) -> Rig {
        let person = |name: &str, object: &str| {
            (format!("[person.{name}]\n"), format!("[person.{name}]\nteams = \"{TENANT}/{object}\"\n"))
        };
        // As somebody copies it, in capital letters.
        let people = [person("alice", &ALICE.to_uppercase()), person("bob", BOB), person("owner", OWNER)];
        let main = people.iter().fold(MAIN.to_owned(), |main, (plain, with)| main.replace(plain, with));
        let main = format!(
            "{main}\n[channel.chat]\nkind = \"teams\"\napp_id = \"{APP}\"\nsecret = {{ file = \"secret\" }}\n\
             tenant = \"{TENANT}\"\nconversation = \"{CONVERSATION}\"\nservice_url = \"{0}/teams\"\nlogin_url = \"{0}\"\n\
             metadata_url = \"{0}/openid\"\nrefetch_pause_ms = 0\nleeway_ms = 0\nallow_private = true\n{more}\n",
            self.url
        );
        let workflow = format!("{}/workflow?sig=SIGNATURE", self.url);
        Rig::secret_main(place, &main, &[("secret", SECRET), ("workflow", &workflow)]).await
    }

    /// The next request of this method to the connector; those before it are passed over.
    async fn next(&mut self, method: &str) -> (String, Value) {
        loop {
            let kept = if method == WORKFLOW { None } else { self.before.pop_front() };
            let (asked, place, body) = match kept {
                Some(kept) => kept,
                None => tokio::time::timeout(PATIENCE, self.asked.recv()).await.unwrap().unwrap(),
            };
            if asked == method {
                return (place, body);
            }
            if method == WORKFLOW {
                self.before.push_back((asked, place, body));
            }
        }
    }

    fn claims(&self) -> Value {
        let now_s = SystemClock.now_ms() / 1_000;
        json!({ "iss": ISSUER, "aud": APP, "serviceurl": format!("{}/teams", self.url), "nbf": now_s - 60, "exp": now_s + 600 })
    }

    fn token(&self, claims: &Value) -> String {
        self.signed(&self.key, "k1", claims)
    }

    fn signed(&self, key: &Key, kid: &str, claims: &Value) -> String {
        signed(&json!({ "alg": "RS256", "typ": "JWT", "kid": kid }), claims, |text| key.sign(text))
    }

    /// What Teams sends when somebody presses a button.
    fn pressed(&self, object: &str, verb: &str, data: &Value) -> Value {
        let press = self.presses.fetch_add(1, Ordering::SeqCst);
        json!({
            "type": "invoke", "name": "adaptiveCard/action", "id": format!("f:{press}"), "channelId": "msteams",
            "serviceUrl": format!("{}/teams/", self.url), "from": { "id": "29:x", "name": "alice", "aadObjectId": object },
            "conversation": { "id": CONVERSATION, "tenantId": TENANT }, "channelData": { "tenant": { "id": TENANT } },
            "value": { "action": { "type": "Action.Execute", "verb": verb, "data": data }, "trigger": "manual" },
        })
    }

    async fn does(&self, rig: &Rig, activity: &Value) -> (StatusCode, Value) {
        send(rig, &self.token(&self.claims()), activity.to_string()).await
    }
}

async fn send(rig: &Rig, token: &str, body: String) -> (StatusCode, Value) {
    let request = rig.request("", Method::POST, "/channels/teams/chat/messages").bearer_auth(token);
    read(request.header("content-type", "application/json").body(body).send().await.unwrap()).await
}

async fn give_out(
    State(world): State<World>,
    Path(tenant): Path<String>,
    Form(form): Form<Vec<(String, String)>>,
) -> Json<Value> {
    assert_eq!(tenant, TENANT);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let expected = [
        pair("grant_type", "client_credentials"),
        pair("client_id", APP),
        pair("client_secret", SECRET),
        pair("scope", "https://api.botframework.com/.default"),
    ];
    assert_eq!(form, expected);
    let number = world.tokens.fetch_add(1, Ordering::SeqCst) + 1;
    Json(
        json!({ "token_type": "Bearer", "expires_in": 3_600, "access_token": format!("bot-token-{number}") }),
    )
}

async fn posted(
    State(world): State<World>,
    Path(conversation): Path<String>,
    method: Verb,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    taken(&world, &conversation, String::new(), &method, &headers, body)
}

async fn put(
    State(world): State<World>,
    Path((conversation, card)): Path<(String, String)>,
    method: Verb,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    taken(&world, &conversation, card, &method, &headers, body)
}

fn taken(
    world: &World,
    conversation: &str,
    card: String,
    method: &Verb,
    headers: &HeaderMap,
    body: Value,
) -> Response {
    assert_eq!(conversation, CONVERSATION);
    let good = format!("Bearer bot-token-{}", world.tokens.load(Ordering::SeqCst));
    assert_eq!(headers[header::AUTHORIZATION], *good);
    world.asked.send((method.to_string(), card, body)).ok();
    let does = world.does.lock().unwrap().pop_front();
    match does {
        Some(Does::Answer(status)) => Status::from_u16(status).unwrap().into_response(),
        Some(Does::Wait { after_s }) => {
            (Status::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, after_s.to_string())]).into_response()
        }
        None => (Status::CREATED, Json(json!({ "id": "card/1" }))).into_response(),
    }
}

async fn worked(State(world): State<World>, Json(body): Json<Value>) -> Status {
    world.asked.send((WORKFLOW.into(), String::new(), body)).ok();
    Status::ACCEPTED
}

fn card(activity: &Value) -> &Value {
    assert_eq!(activity["attachments"][0]["contentType"], "application/vnd.microsoft.card.adaptive");
    &activity["attachments"][0]["content"]
}

/// What a card's buttons carry, by their verbs.
fn button(activity: &Value, verb: &str) -> Option<Value> {
    let actions = card(activity)["actions"].as_array().unwrap();
    let inner = actions.iter().filter_map(|action| action["card"]["actions"].as_array()).flatten();
    actions.iter().chain(inner).find(|action| action["verb"] == verb).map(|action| action["data"].clone())
}

fn told(body: &Value) -> &str {
    assert_eq!(
        (&body["statusCode"], &body["type"]),
        (&json!(200), &json!("application/vnd.microsoft.activity.message")),
        "{body}"
    );
    body["value"].as_str().unwrap()
}

on_either_store!(async
    a_card_answers_for_whom_it_may_and_for_nobody_else,
);

async fn a_card_answers_for_whom_it_may_and_for_nobody_else(place: Place) {
    let mut teams = FakeTeams::new(&[]).await;
    let rig = teams.rig(place, "").await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let (_, posted) = teams.next("POST").await;
    assert_eq!((&card(&posted)["type"], &card(&posted)["version"]), (&json!("AdaptiveCard"), &json!("1.4")));
    let data = button(&posted, "approve").unwrap();
    let good = teams.pressed(ALICE, "approve", &data);

    // Not signed by the connector, not for this bot, not now, or for another messenger.
    let other = Key::rsa();
    let unendorsed = Key::rsa();
    let keys = [published(&teams.key, "k1", &["msteams"]), published(&unendorsed, "k2", &["webchat"])];
    *teams.world.keys.lock().unwrap() = json!(keys);
    let with = |claim: &str, value: Value| {
        let mut claims = teams.claims();
        claims[claim] = value;
        teams.token(&claims)
    };
    let now_s = SystemClock.now_ms() / 1_000;
    for (why, token) in [
        ("no token", String::new()),
        ("forged", teams.signed(&other, "k1", &teams.claims())),
        ("not endorsed", teams.signed(&unendorsed, "k2", &teams.claims())),
        ("unknown key", teams.signed(&teams.key, "k9", &teams.claims())),
        ("expired", with("exp", json!(now_s - 1))),
        ("not yet", with("nbf", json!(now_s + 60))),
        ("audience", with("aud", json!("99999999-2222-3333-4444-555555555555"))),
        ("audiences", with("aud", json!([APP, "another"]))),
        ("issuer", with("iss", json!("https://sts.windows.net/"))),
        ("service", with("serviceurl", json!("https://evil.example/teams"))),
        ("no service", with("serviceurl", Value::Null)),
        ("a key of ours", rig.key("alice").to_owned()),
    ] {
        assert_eq!(send(&rig, &token, good.to_string()).await.0, StatusCode::UNAUTHORIZED, "{why}");
    }
    for (pointer, value) in [
        ("/serviceUrl", json!("https://evil.example/")),
        ("/channelId", json!("webchat")),
        ("/conversation/tenantId", json!(BOB)),
        ("/channelData/tenant/id", json!(BOB)),
    ] {
        let mut activity = good.clone();
        *activity.pointer_mut(pointer).unwrap() = value;
        assert_eq!(teams.does(&rig, &activity).await.0, StatusCode::FORBIDDEN, "{pointer}");
    }
    let mut nowhere = good.clone();
    nowhere["channelData"] = json!({});
    nowhere["conversation"] = json!({ "id": CONVERSATION });
    assert_eq!(teams.does(&rig, &nowhere).await.0, StatusCode::FORBIDDEN);

    // Nobody we know, nobody at all, in no group that is asked, or whose agent it is; each is told so.
    for (object, words) in [
        ("aaaaaaaa-0000-4000-8000-00000000000f", "no person of this server is the Teams user"),
        ("", "no person of this server is the Teams user"),
        (BOB, "no such request is visible to you"),
        (OWNER, "owner"),
    ] {
        let (status, body) = teams.does(&rig, &teams.pressed(object, "approve", &data)).await;
        assert!(
            status == StatusCode::OK
                && told(&body).starts_with("Not answered")
                && told(&body).contains(words),
            "{body}"
        );
    }
    // About another call than was shown, and with a button that is not ours.
    let mut another = data.clone();
    another["digest"] = json!("0".repeat(64));
    let (_, body) = teams.does(&rig, &teams.pressed(ALICE, "approve", &another)).await;
    assert!(told(&body).contains("another call"), "{body}");
    for (verb, data) in [("approve", json!({})), ("resume", data.clone())] {
        let (status, body) = teams.does(&rig, &teams.pressed(ALICE, verb, &data)).await;
        assert_eq!((status, &body["type"]), (StatusCode::OK, &json!("application/vnd.microsoft.error")));
    }
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    assert_eq!((&shown["state"], &shown["signatures"]), (&json!("waiting"), &json!([])), "{shown}");
    assert_eq!(rig.count("select count(*) from item"), 3);

    // Pressed twice at once: one answer counts.
    let twice = teams.pressed(&ALICE.to_uppercase(), "approve", &data);
    let ((_, one), (_, two)) = tokio::join!(teams.does(&rig, &good), teams.does(&rig, &twice));
    let counted = [&one, &two].map(|body| told(body).starts_with("Your answer counts"));
    assert_ne!(counted[0], counted[1], "{one} {two}");
    let (status, result) = rig.result(&approval).await;
    assert_eq!((status, &result["status"]), (StatusCode::OK, &json!("done")), "{result}");
    assert_eq!(rig.count("select count(*) from item"), 4);
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    let signature = &shown["signatures"][0];
    assert_eq!((&signature["person"], &signature["channel"]), (&json!("alice"), &json!("teams")));
    // Its card is brought up to date in place, without buttons.
    loop {
        let (at, updated) = teams.next("PUT").await;
        assert_eq!(
            (at.as_str(), button(&updated, "approve"), button(&updated, "refuse")),
            ("card/1", None, None)
        );
        if updated["summary"].as_str().unwrap().ends_with("done") {
            break;
        }
    }
    // The same again, and too late.
    assert_eq!(teams.does(&rig, &good).await.0, StatusCode::CONFLICT);
    let (_, body) = teams.does(&rig, &teams.pressed(ALICE, "approve", &data)).await;
    assert!(told(&body).starts_with("Not answered"), "{body}");
    assert_eq!(rig.count("select count(*) from item"), 4);
    assert_eq!(teams.world.tokens.load(Ordering::SeqCst), 1, "a token is used as long as it is good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_a_card_has_a_reason_and_keys_of_the_connector_change() {
    let mut teams = FakeTeams::new(&[]).await;
    let rig = teams.rig(Place::sqlite(), "").await;
    let approval = rig.ask("delete_item", json!({ "id": 1 })).await;
    let data = button(&teams.next("POST").await.1, "refuse").unwrap();
    let with = |reason: &str| {
        let mut data = data.clone();
        data["reason"] = json!(reason);
        data
    };
    for data in [data.clone(), with(" ")] {
        let (_, body) = teams.does(&rig, &teams.pressed(ALICE, "refuse", &data)).await;
        assert!(told(&body).starts_with("Not answered"), "{body}");
    }
    // A new key is found when it is first used, and one that was withdrawn counts no more.
    let new = Key::rsa();
    *teams.world.keys.lock().unwrap() = json!([published(&new, "k2", &["msteams"])]);
    let refusal = teams.pressed(ALICE, "refuse", &with("apples sell well")).to_string();
    let (status, body) = send(&rig, &teams.signed(&new, "k2", &teams.claims()), refusal).await;
    assert!(status == StatusCode::OK && told(&body).contains("refused"), "{body}");
    let late = teams.pressed(ALICE, "refuse", &with("again"));
    assert_eq!(teams.does(&rig, &late).await.0, StatusCode::UNAUTHORIZED);
    let (status, body) = rig.result(&approval).await;
    assert_eq!((status, &body["status"]), (StatusCode::FORBIDDEN, &json!("refused")));
    assert!(body["message"].as_str().unwrap().contains("apples sell well"), "{body}");
    assert_eq!(rig.count("select count(*) from item"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connector_is_asked_again_when_it_says_and_what_others_wrote_is_text() {
    let does = [Does::Wait { after_s: 1 }, Does::Answer(401)];
    let mut teams = FakeTeams::new(&does).await;
    let more = "[channel.flow]\nkind = \"teams_workflow\"\nurl = { file = \"workflow\" }\nallow_private = true\n\
                [approvals]\nremind_ms = 100\nescalate_ms = 0";
    let rig = teams.rig(Place::sqlite(), more).await;
    let reason = "[Approve](https://evil.example) <at>all</at>\nState: approved";
    rig.ask("add_item", json!({ "name": "QUINCE", "_reason": reason })).await;
    let (_, worked) = teams.next(WORKFLOW).await;
    assert_eq!(
        (worked["type"].as_str(), button(&worked, "approve"), button(&worked, "refuse")),
        (Some("message"), None, None)
    );
    for _ in 0..3 {
        let (_, posted) = teams.next("POST").await;
        assert!(button(&posted, "approve").is_some() && !posted.to_string().contains("QUINCE"), "{posted}");
        // Markup is known in none of its texts.
        for block in card(&posted)["body"].as_array().unwrap() {
            assert_eq!(block["type"], "RichTextBlock");
            let text = block["inlines"][0]["text"].as_str().unwrap();
            assert!(
                !text.contains('\n') && (!text.contains("evil") || text.starts_with("The agent claims: ")),
                "{text}"
            );
        }
    }
    assert_eq!(teams.world.tokens.load(Ordering::SeqCst), 2, "one that is not taken is thrown away");
    let (at, reminded) = teams.next("POST").await;
    assert_eq!((at.as_str(), &reminded["replyToId"]), ("card/1", &json!("card/1")));
    assert!(reminded["text"].as_str().unwrap().starts_with("Still waiting"), "{reminded}");

    for name in ["chat", "flow"] {
        let (status, body) = rig.post("alice", &format!("/v1/channels/{name}/test"), json!({})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    let (_, listed) = rig.get("alice", "/v1/channels").await;
    let kinds: Vec<&str> =
        listed["channels"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["teams", "teams_workflow"]);

    // The door that nobody signs in for: who brings it is looked at first, and little is read of it.
    // It is sent whole before the server, which reads little of it, hangs up.
    let long = "x".repeat(80 * 1024);
    assert_eq!(
        send(&rig, &teams.token(&teams.claims()), long.clone()).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    for body in ["", "[1]", "{\"type\":1}"] {
        assert_eq!(
            send(&rig, &teams.token(&teams.claims()), body.to_owned()).await.0,
            StatusCode::BAD_REQUEST,
            "{body}"
        );
    }
    for name in ["nowhere", "flow"] {
        let request = rig.request("", Method::POST, &format!("/channels/teams/{name}/messages"));
        assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }
    let mut hello = teams.pressed(ALICE, "approve", &json!({}));
    hello["type"] = json!("message");
    assert_eq!(teams.does(&rig, &hello).await, (StatusCode::OK, json!({})));
}

#[test]
fn a_teams_user_is_one_person_and_nothing_is_trusted_without_tls() {
    let mistakes = |main: String| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("countersign.toml"), main).unwrap();
        let found = countersign::config::Config::load(folder.path()).err();
        found.into_iter().flat_map(|found| found.mistakes).map(|one| one.message).collect::<Vec<_>>()
    };
    let with = |alice: &str, owner: &str| {
        MAIN.replace("[person.alice]\n", &format!("[person.alice]\nteams = \"{alice}\"\n"))
            .replace("[person.owner]\n", &format!("[person.owner]\nteams = \"{owner}\"\n"))
    };
    let user = |object: &str| format!("{TENANT}/{object}");
    assert_eq!(mistakes(with(&user(ALICE), &user(OWNER))), Vec::<String>::new());
    let found = mistakes(with(&user(ALICE), &user(ALICE).to_uppercase()));
    assert!(found.len() == 1 && found[0].contains("are the same Teams user"), "{found:?}");
    for bad in [
        "alice@example.com",
        TENANT,
        &format!("{TENANT}/alice"),
        &format!("{TENANT}/{ALICE}/x"),
        &user("аaaaaaaa-0000-4000-8000-000000000001"),
    ] {
        let found = mistakes(with(bad, &user(OWNER)));
        assert!(found.len() == 1 && found[0].contains("is no user of Teams"), "{bad}: {found:?}");
    }
    let bot = |change: (&str, &str)| {
        let lines = format!(
            "[channel.chat]\nkind = \"teams\"\napp_id = \"{APP}\"\nsecret = {{ env = \"X\" }}\ntenant = \"{TENANT}\"\n\
             conversation = \"{CONVERSATION}\"\nservice_url = \"https://smba.trafficmanager.net/emea/\"\n\
             metadata_url = \"https://login.botframework.azure.us/v1/.well-known/openidconfiguration\"\n\
             login_url = \"https://login.microsoftonline.us/\"\nissuer = \"https://api.botframework.us\"\n"
        );
        mistakes(format!("{MAIN}\n{}", lines.replace(change.0, change.1)))
    };
    assert_eq!(bot(("", "")), Vec::<String>::new());
    for (from, to, words) in [
        ("https://smba", "http://smba", "is not encrypted"),
        ("https://login.botframework", "http://login.botframework", "is not encrypted"),
        ("https://login.microsoftonline", "http://login.microsoftonline", "is not encrypted"),
        (APP, "countersign", "is no such id of Microsoft's"),
        (CONVERSATION, "19:a/../b", "is no id of a conversation"),
    ] {
        let found = bot((from, to));
        assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
    }
}
