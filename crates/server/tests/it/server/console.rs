//! The console, as browsers and those who pretend to be one speak to it. How it looks and feels in a real one is tried in
//! `tests/browser`.

use std::collections::BTreeMap;

use countersign_console::CONTENT_SECURITY_POLICY;
use countersign_rules::PersonId;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header, redirect::Policy};
use serde_json::json;

use super::rig::{MAIN, Rig};
use crate::place::{Place, on_either_store};

on_either_store!(async an_approval_in_the_console_is_performed_once_and_for_what_was_looked_at);

const PASSWORD: &str = "correct horse battery staple";

/// A browser: a cookie, and where it was set.
pub(crate) struct Browser<'a> {
    rig: &'a Rig,
    pub(crate) http: reqwest::Client,
    pub(crate) cookie: String,
}

/// What a page came to.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) text: String,
}

impl Page {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    /// The value of a hidden field.
    pub(crate) fn field(&self, name: &str) -> String {
        let marked = format!("name=\"{name}\" value=\"");
        let (_, rest) =
            self.text.split_once(&marked).unwrap_or_else(|| panic!("no field {name}: {}", self.text));
        rest.split('"').next().unwrap().to_owned()
    }

    pub(crate) fn location(&self) -> &str {
        self.headers[header::LOCATION].to_str().unwrap()
    }
}

impl<'a> Browser<'a> {
    pub(crate) fn new(rig: &'a Rig) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the test is a foreign client")]
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Self { rig, http, cookie: String::new() }
    }

    /// Signed in through a link that somebody made.
    pub(crate) async fn signed_in(rig: &'a Rig, person: &str, by: &str) -> Self {
        let mut browser = Self::new(rig);
        let accounts = rig.running().app.accounts();
        let token = accounts.invite(&PersonId::parse(person).unwrap(), by, 60_000).await.unwrap();
        let page = browser.send(Method::POST, "/console/link", &[("token", &token)]).await;
        assert!(page.text.contains("Choose a password"), "{}", page.text);
        let form = [("token", token.as_str()), ("password", PASSWORD), ("again", PASSWORD)];
        let page = browser.send(Method::POST, "/console/link/set-up", &form).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        browser.keep(&page);
        browser
    }

    pub(crate) fn keep(&mut self, page: &Page) {
        let cookie = page.headers[header::SET_COOKIE].to_str().unwrap();
        self.cookie = cookie.split(';').next().unwrap().to_owned();
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.rig.url(path)).header(header::COOKIE, &self.cookie)
    }

    pub(crate) async fn send(&self, method: Method, path: &str, form: &[(&str, &str)]) -> Page {
        let request =
            self.request(method, path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        Page::of(request.body(encoded(form)).send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Page {
        Page::of(self.request(Method::GET, path).send().await.unwrap()).await
    }

    /// Presses a button of the page of a request.
    pub(crate) async fn answer(&self, approval: &str, what: &str, said: &[(&str, &str)]) -> Page {
        let path = format!("/console/requests/{approval}");
        let page = self.get(&path).await;
        let (token, digest) = (page.field("form_token"), page.field("digest"));
        let mut form = vec![("form_token", token.as_str())];
        if what == "approve" {
            form.push(("digest", &digest));
        }
        form.extend(said);
        self.send(Method::POST, &format!("{path}/{what}"), &form).await
    }
}

fn encoded(form: &[(&str, &str)]) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(form).finish()
}

async fn state(rig: &Rig, approval: &str) -> String {
    let (_, body) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    body["state"].as_str().unwrap().to_owned()
}

async fn an_approval_in_the_console_is_performed_once_and_for_what_was_looked_at(place: Place) {
    let rig = Rig::on(place).await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let inbox = alice.get("/console/").await;
    assert!(inbox.text.contains(&approval) && inbox.text.contains("quince"), "{}", inbox.text);
    let path = format!("/console/requests/{approval}");
    let page = alice.get(&path).await;
    let token = page.field("form_token");
    // Another call than the one that was looked at.
    let other = [("form_token", token.as_str()), ("digest", "00")];
    let refused = alice.send(Method::POST, &format!("{path}/approve"), &other).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    assert!(refused.text.contains("about another call"), "{}", refused.text);
    assert_eq!(state(&rig, &approval).await, "waiting");
    let answered = alice.answer(&approval, "approve", &[("comment", "fine <b>")]).await;
    assert_eq!(
        (answered.status, answered.location()),
        (StatusCode::SEE_OTHER, path.as_str()),
        "{}",
        answered.text
    );
    assert_eq!(rig.result(&approval).await.0, StatusCode::OK);
    assert_eq!(rig.count("select count(*) from item where name = 'quince'"), 1);
    // A page that is old, or a second press, does nothing and says why.
    let form = [("form_token", token.as_str()), ("digest", &page.field("digest"))];
    let late = alice.send(Method::POST, &format!("{path}/approve"), &form).await;
    assert_eq!(late.status, StatusCode::FORBIDDEN, "{}", late.text);
    assert_eq!(rig.count("select count(*) from item where name = 'quince'"), 1);
    let shown = alice.get(&path).await;
    assert!(shown.text.contains("over console") && shown.text.contains("fine &#60;b&#62;"), "{}", shown.text);
    assert!(!shown.text.contains("id=\"approve\""), "{}", shown.text);
}

#[tokio::test]
async fn a_refusal_in_the_console_reaches_the_agent_and_needs_a_reason() {
    let rig = Rig::new().await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let refused = alice.answer(&approval, "refuse", &[("reason", "  ")]).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert_eq!(state(&rig, &approval).await, "waiting");
    let refused = alice.answer(&approval, "refuse", &[("reason", "out of season")]).await;
    assert_eq!(refused.status, StatusCode::SEE_OTHER, "{}", refused.text);
    let (_, told) = rig.result(&approval).await;
    assert!(told.to_string().contains("out of season"), "{told}");
}

#[tokio::test]
async fn no_other_page_answers_in_somebody_s_name() {
    let rig = Rig::new().await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let eve = Browser::signed_in(&rig, "bob", "cli").await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let path = format!("/console/requests/{approval}/approve");
    let page = alice.get(&format!("/console/requests/{approval}")).await;
    let (token, digest) = (page.field("form_token"), page.field("digest"));
    let others = eve.get("/console/").await.field("form_token");
    assert_ne!(token, others);
    // Without the token of this very session's forms, with none, and with somebody else's.
    for form in [
        vec![("digest", digest.as_str())],
        vec![("digest", &digest), ("form_token", "")],
        vec![("digest", &digest), ("form_token", &others)],
    ] {
        let refused = alice.send(Method::POST, &path, &form).await;
        assert!(refused.status.is_client_error(), "{form:?}: {}", refused.status);
    }
    let form = encoded(&[("form_token", &token), ("digest", &digest)]);
    let from_elsewhere = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ];
    for (name, value) in from_elsewhere {
        let request = alice.request(Method::POST, &path).header(name, value);
        let request =
            request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
        let refused = Page::of(request.send().await.unwrap()).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    // What opens one door opens no other: neither key nor form alone is a session, and a session is no key.
    for request in
        [rig.request("alice", Method::POST, &path), Browser::new(&rig).request(Method::POST, &path)]
    {
        let request =
            request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
        assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(alice.get("/v1/approvals").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(state(&rig, &approval).await, "waiting");
    assert_eq!(rig.count("select count(*) from item where name = 'quince'"), 0);
}

#[tokio::test]
async fn nobody_answers_for_their_own_agent_in_the_console_and_by_no_second_account() {
    let rig = Rig::new().await;
    // The agent acts for this person, who also made the account of the next.
    let owner = Browser::signed_in(&rig, "owner", "cli").await;
    let second = Browser::signed_in(&rig, "alice", "owner").await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    let path = format!("/console/requests/{approval}");
    for (browser, word) in [(&owner, "owner"), (&second, "who made the account of")] {
        let page = browser.get(&path).await;
        let (_, detail) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
        let token = page.field("form_token");
        let form = [("form_token", token.as_str()), ("digest", detail["digest"].as_str().unwrap())];
        let refused = browser.send(Method::POST, &format!("{path}/approve"), &form).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
        assert!(refused.text.contains(word), "{}", refused.text);
    }
    assert!(second.get(&path).await.text.contains("You cannot answer this"));
    assert_eq!(state(&rig, &approval).await, "waiting");
    // By a link of the server's machine the account is alice's own again.
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    assert_eq!(alice.answer(&approval, "approve", &[]).await.status, StatusCode::SEE_OTHER);
    // The link ended the session that the earlier one had begun.
    assert_eq!(second.get(&path).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn who_is_not_asked_sees_no_request_in_the_console() {
    let rig = Rig::new().await;
    let bob = Browser::signed_in(&rig, "bob", "cli").await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    for path in ["/console/", "/console/requests", "/console/waiting"] {
        let page = bob.get(path).await;
        assert!(page.status.is_success() && !page.text.contains(&approval), "{path}");
    }
    assert_eq!(bob.get(&format!("/console/requests/{approval}")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bob.get("/console/requests/apr-nothing").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn service_levels_show_a_reviewer_their_own_answers_and_an_operator_those_of_all() {
    let rig = Rig::new().await;
    let (alice, bob) =
        (Browser::signed_in(&rig, "alice", "cli").await, Browser::signed_in(&rig, "bob", "cli").await);
    assert!(alice.get("/console/levels").await.text.contains("Nobody was asked."));
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    assert_eq!(alice.answer(&approval, "refuse", &[("reason", "no")]).await.status, StatusCode::SEE_OTHER);
    let row = "<th scope=\"row\">alice</th><td>add_item</td><td>write</td>";
    let page = alice.get("/console/levels?days=7").await;
    assert!(page.text.contains(row) && page.text.contains("100.0 %"), "{}", page.text);
    assert!(page.text.contains("aria-current=\"page\">7</strong>"), "{}", page.text);
    let page = bob.get("/console/levels").await;
    assert!(!page.text.contains("alice"), "{}", page.text);
    assert!(page.text.contains("<th scope=\"row\">approvers</th>"), "{}", page.text);
    assert!(page.text.contains("You answered nothing."), "{}", page.text);
    for odd in ["0", "91", "4294967295"] {
        assert_eq!(bob.get(&format!("/console/levels?days={odd}")).await.status, StatusCode::OK, "{odd}");
    }
    assert_eq!(bob.get("/console/levels?days=-1").await.status, StatusCode::BAD_REQUEST);
}

/// The page by which a command line asks to act as somebody.
const COMMAND_LINE: &str = "/console/command-line?code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
     &code_challenge_method=S256&redirect_uri=http%3A%2F%2F127.0.0.1%3A4711%2Fsigned-in\
     &state=0123456789abcdef&machine=laptop&seconds=3600";

/// Every route of the console, with a path and what it answers: to nobody, to a person, to an operator.
pub(crate) const ROUTES: &[(&str, &str, &str, [u16; 3])] = &[
    ("GET", "/", "/", [307, 307, 307]),
    ("GET", "/console", "/console", [308, 308, 308]),
    ("GET", "/console/", "/console/", [303, 200, 200]),
    ("GET", "/console/waiting", "/console/waiting", [303, 200, 200]),
    ("GET", "/console/events", "/console/events", [303, 200, 200]),
    ("GET", "/console/requests", "/console/requests", [303, 200, 200]),
    ("GET", "/console/requests/{id}", "/console/requests/apr-none", [303, 404, 404]),
    ("POST", "/console/requests/{id}/approve", "/console/requests/apr-none/approve", [401, 404, 404]),
    (
        "POST",
        "/console/requests/{id}/confirm/options",
        "/console/requests/apr-none/confirm/options",
        [401, 404, 404],
    ),
    ("POST", "/console/requests/{id}/refuse", "/console/requests/apr-none/refuse", [401, 404, 404]),
    ("GET", "/console/requests/{id}/alike", "/console/requests/apr-none/alike", [303, 404, 404]),
    ("POST", "/console/requests/{id}/alike", "/console/requests/apr-none/alike", [401, 404, 404]),
    ("POST", "/console/requests/{id}/narrow", "/console/requests/apr-none/narrow", [401, 404, 404]),
    ("POST", "/console/requests/{id}/look-closer", "/console/requests/apr-none/look-closer", [401, 404, 404]),
    ("POST", "/console/requests/{id}/end-grant", "/console/requests/apr-none/end-grant", [401, 404, 404]),
    ("GET", "/console/grants", "/console/grants", [303, 200, 200]),
    ("GET", "/console/sessions", "/console/sessions", [303, 200, 200]),
    ("GET", "/console/session", "/console/session?agent=clerk&session=..", [303, 404, 404]),
    ("GET", "/console/log", "/console/log", [303, 200, 200]),
    ("GET", "/console/log/{index}", "/console/log/0", [303, 200, 200]),
    ("GET", "/console/tools", "/console/tools", [303, 200, 200]),
    ("GET", "/console/budgets", "/console/budgets", [303, 200, 200]),
    ("GET", "/console/people", "/console/people", [303, 200, 200]),
    ("GET", "/console/levels", "/console/levels", [303, 200, 200]),
    ("GET", "/console/health", "/console/health", [303, 200, 200]),
    ("POST", "/console/halts", "/console/halts", [401, 303, 303]),
    ("POST", "/console/halts/resume", "/console/halts/resume", [401, 403, 303]),
    ("GET", "/console/sign-in", "/console/sign-in", [200, 303, 303]),
    ("POST", "/console/sign-in", "/console/sign-in", [401, 401, 401]),
    ("GET", "/console/sign-in/{provider}", "/console/sign-in/corp", [502, 502, 502]),
    (
        "GET",
        "/console/sign-in/{provider}/return",
        "/console/sign-in/corp/return?code=x&state=y",
        [401, 401, 401],
    ),
    ("POST", "/console/sign-in/{provider}/sign-out", "/console/sign-in/corp/sign-out", [503, 503, 503]),
    ("POST", "/console/sign-out", "/console/sign-out", [401, 303, 303]),
    ("POST", "/console/passkey/sign-in", "/console/passkey/sign-in", [401, 401, 401]),
    ("POST", "/console/passkey/sign-in/options", "/console/passkey/sign-in/options", [200, 200, 200]),
    ("POST", "/console/passkey/link", "/console/passkey/link", [401, 401, 401]),
    ("POST", "/console/passkey/link/options", "/console/passkey/link/options", [401, 401, 401]),
    ("GET", "/console/account", "/console/account", [303, 200, 200]),
    ("POST", "/console/account/passkeys", "/console/account/passkeys", [401, 400, 400]),
    ("POST", "/console/account/passkeys/options", "/console/account/passkeys/options", [401, 200, 200]),
    ("POST", "/console/account/passkeys/remove", "/console/account/passkeys/remove", [401, 404, 404]),
    ("POST", "/console/account/password", "/console/account/password", [401, 400, 400]),
    ("POST", "/console/account/password/options", "/console/account/password/options", [401, 404, 404]),
    ("GET", "/console/command-line", COMMAND_LINE, [303, 200, 200]),
    ("POST", "/console/command-line", "/console/command-line", [401, 400, 400]),
    ("POST", "/console/command-line/options", "/console/command-line/options", [401, 400, 400]),
    ("GET", "/console/link", "/console/link", [200, 200, 200]),
    ("POST", "/console/link", "/console/link", [401, 401, 401]),
    ("POST", "/console/link/set-up", "/console/link/set-up", [401, 401, 401]),
    ("GET", "/console/{*page}", "/console/nowhere/at/all", [404, 404, 404]),
    ("GET", "/console/assets/{name}", "/console/assets/0-console.css", [200, 200, 200]),
];

/// Every field that some form has, with what does nothing there.
pub(crate) fn every_field(token: &str) -> Vec<(&str, &str)> {
    vec![
        ("form_token", token),
        ("digest", "00"),
        ("reason", "no"),
        ("agent", ""),
        ("why", "a test"),
        ("person", "alice"),
        ("password", "wrong"),
        ("again", "wrong"),
        ("token", "wrong"),
        ("logout_token", "wrong"),
        ("arguments", "{}"),
        ("answer", "refuse"),
        ("said", "no"),
        ("sealed", "wrong"),
        ("passkey", "wrong"),
    ]
}

#[tokio::test]
async fn every_route_of_the_console_answers_whom_it_should_and_tells_browsers_what_to_refuse() {
    let source = include_str!("../../../../console/src/lib.rs");
    let mut routes: BTreeMap<&str, usize> = BTreeMap::new();
    for line in source.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
        let (route, methods) = line.split_once('"').unwrap();
        *routes.entry(route).or_default() += methods.matches("get(").count()
            + methods.matches("post(").count()
            + methods.matches("any(").count();
    }
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, route, ..) in ROUTES {
        *known.entry(route).or_default() += 1;
    }
    assert_eq!(routes, known, "a route that is not in the matrix");

    // A provider that is away: nothing listens at port 1.
    let main = MAIN.replace("[server]\n", "[server]\npublic_url = \"http://localhost:7780\"\n");
    let main = main.replace("[person.bob]\n", "[person.bob]\nsubject = { corp = \"1\" }\n");
    let provider = "\n[provider.corp]\nissuer = \"http://127.0.0.1:1\"\nclient_id = \"countersign\"\n";
    let rig = Rig::with(&format!("{main}{provider}")).await;
    for (at, who) in ["", "bob", "alice"].into_iter().enumerate() {
        for (method, _, path, statuses) in ROUTES {
            let browser =
                if who.is_empty() { Browser::new(&rig) } else { Browser::signed_in(&rig, who, "cli").await };
            let token = if who.is_empty() {
                String::new()
            } else {
                browser.get("/console/people").await.field("form_token")
            };
            let form = every_field(&token);
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = browser.request(method.clone(), path);
            let request = if method == Method::POST {
                request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(encoded(&form))
            } else {
                request
            };
            let answer = request.send().await.unwrap();
            let told = format!("{method} {path} for {who:?}");
            assert_eq!(answer.status().as_u16(), statuses[at], "{told}");
            let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(header("content-security-policy"), Some(CONTENT_SECURITY_POLICY), "{told}");
            assert_eq!(header("x-content-type-options"), Some("nosniff"), "{told}");
            assert_eq!(header("x-frame-options"), Some("DENY"), "{told}");
            assert_eq!(header("referrer-policy"), Some("same-origin"), "{told}");
            if path.starts_with("/console/") && !path.contains("assets") {
                assert_eq!(header("cache-control"), Some("no-store"), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn signing_in_tells_nothing_of_who_has_an_account_and_is_held_back() {
    let rig = Rig::new().await;
    Browser::signed_in(&rig, "alice", "cli").await;
    let browser = Browser::new(&rig);
    let try_in = async |person: &str, password: &str| {
        browser.send(Method::POST, "/console/sign-in", &[("person", person), ("password", password)]).await
    };
    let mut told = Vec::new();
    for person in ["alice", "bob", "nobody", "<b>", "\u{202e}"] {
        let page = try_in(person, "wrong password entirely").await;
        assert_eq!(page.status, StatusCode::UNAUTHORIZED);
        let (_, rest) = page.text.split_once("id=\"why\">").unwrap();
        told.push(rest.split("</p>").next().unwrap().to_owned());
        assert!(!page.text.contains("<b>"), "{}", page.text);
    }
    assert!(told.windows(2).all(|two| two[0] == two[1]), "{told:?}");
    let right = try_in("alice", PASSWORD).await;
    assert_eq!((right.status, right.location()), (StatusCode::SEE_OTHER, "/console/"));
    let cookie = right.headers[header::SET_COOKIE].to_str().unwrap();
    for part in ["__Host-countersign=", "; Path=/;", "; Secure;", "; HttpOnly;", "; SameSite=Lax"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let mut last = right.status;
    for _ in 0..40 {
        let page = try_in("alice", "wrong password entirely").await;
        last = page.status;
        if last == StatusCode::TOO_MANY_REQUESTS {
            assert!(page.headers.contains_key(header::RETRY_AFTER));
            break;
        }
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    // The right one is not told apart meanwhile, and a link still leads in.
    assert_eq!(try_in("alice", PASSWORD).await.status, StatusCode::TOO_MANY_REQUESTS);
    Browser::signed_in(&rig, "alice", "cli").await;
    let large = "x".repeat(100_000);
    assert_eq!(try_in("alice", &large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_session_ends_when_it_is_signed_out_and_leads_back_when_it_begins_anew() {
    let rig = Rig::new().await;
    let mut alice = Browser::signed_in(&rig, "alice", "cli").await;
    let old = alice.cookie.clone();
    let token = alice.get("/console/").await.field("form_token");
    let out = alice.send(Method::POST, "/console/sign-out", &[("form_token", &token)]).await;
    assert!(out.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    let page = alice.get("/console/log?kind=decided").await;
    assert_eq!(page.location(), "/console/sign-in?next=/console/log%3Fkind%3Ddecided");
    let form = [("person", "alice"), ("password", PASSWORD), ("next", "/console/log?kind=decided")];
    let page = alice.send(Method::POST, "/console/sign-in", &form).await;
    assert_eq!(page.location(), "/console/log?kind=decided");
    alice.keep(&page);
    assert_ne!(alice.cookie, old);
    assert_eq!(alice.get("/console/log?kind=decided").await.status, StatusCode::OK);
    // What somebody else chose is no session, and no other page is gone on to.
    let form = [("person", "alice"), ("password", PASSWORD), ("next", "//evil.example")];
    assert_eq!(alice.send(Method::POST, "/console/sign-in", &form).await.location(), "/console/");
}

#[tokio::test]
async fn what_others_wrote_stands_in_a_page_as_text() {
    let rig = Rig::new().await;
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    let evil = "</code><script>x</script>";
    let session = "\"><img src=x>";
    let proposal = json!({ "tool": "add_item", "arguments": { "name": evil, "_reason": format!("{evil}\u{202e}") }, "session": session });
    let (_, body) = rig.post("clerk", "/v1/calls", proposal).await;
    let approval = body["approval"].as_str().unwrap().to_owned();
    let (_, detail) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    let session = detail["session"].as_str().unwrap().to_owned();
    let comment = [("reason", "<script>y</script>")];
    assert_eq!(alice.answer(&approval, "refuse", &comment).await.status, StatusCode::SEE_OTHER);
    let of_session = format!("/console/session?agent=clerk&session={session}");
    let of_request = format!("/console/requests/{approval}");
    for path in ["/console/requests", "/console/sessions", "/console/log", &of_session, &of_request] {
        let page = alice.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(!page.text.contains("<script>") && !page.text.contains("<img"), "{path}");
        assert!(!page.text.contains('\u{202e}'), "{path}");
    }
    assert!(alice.get(&of_request).await.text.contains("&#60;/code&#62;&#60;script&#62;x"));
}

#[tokio::test]
async fn an_operator_lets_go_on_what_anybody_may_halt_but_not_their_own_agent() {
    let rig = Rig::new().await;
    let bob = Browser::signed_in(&rig, "bob", "cli").await;
    let press = async |browser: &Browser<'_>, path: &str, form: &[(&str, &str)]| {
        let token = browser.get("/console/health").await.field("form_token");
        let form = [&[("form_token", token.as_str())], form].concat();
        browser.send(Method::POST, path, &form).await.status
    };
    let halt = [("agent", "clerk"), ("why", "odd things")];
    assert_eq!(
        press(&bob, "/console/halts", &[("agent", "clerk"), ("why", " ")]).await,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(press(&bob, "/console/halts", &halt).await, StatusCode::SEE_OTHER);
    assert_eq!(rig.call("items", json!({})).await.0, StatusCode::FORBIDDEN);
    assert!(bob.get("/console/").await.text.contains("odd things"));
    let resume = [("agent", "clerk")];
    assert_eq!(press(&bob, "/console/halts/resume", &resume).await, StatusCode::FORBIDDEN);
    let owner = Browser::signed_in(&rig, "owner", "cli").await;
    assert_eq!(press(&owner, "/console/halts/resume", &resume).await, StatusCode::FORBIDDEN);
    let alice = Browser::signed_in(&rig, "alice", "cli").await;
    assert_eq!(press(&alice, "/console/halts/resume", &resume).await, StatusCode::SEE_OTHER);
    assert_eq!(press(&alice, "/console/halts/resume", &resume).await, StatusCode::NOT_FOUND);
    assert_eq!(rig.call("items", json!({})).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_odd_query_or_form_is_a_page_that_says_so_and_an_odd_cookie_of_others_is_no_matter() {
    let rig = Rig::new().await;
    let mut alice = Browser::signed_in(&rig, "alice", "cli").await;
    for path in ["/console/requests?utm=1", "/console/log?kind=a&kind=b", "/console/session?agent=clerk"] {
        let page = alice.get(path).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{path}");
        assert!(page.text.contains("<h1>"), "{path}: {}", page.text);
    }
    for path in ["/console/link", "/console/link/set-up", "/console/sign-in"] {
        let page = alice.send(Method::POST, path, &[]).await;
        assert!(page.status.is_client_error() && page.text.contains("<h1>"), "{path}: {}", page.text);
    }
    let (_, body) =
        rig.post("clerk", "/v1/calls", json!({ "tool": "items", "arguments": {}, "session": ".." })).await;
    assert_eq!(body["status"], "done", "{body}");
    let sessions = alice.get("/console/sessions").await;
    let (_, rest) = sessions.text.split_once("href=\"/console/session?").unwrap();
    let query = rest.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
    assert_eq!(alice.get(&format!("/console/session?{query}")).await.status, StatusCode::OK, "{query}");
    alice.cookie = format!("lang=gr\u{fc}n; {}", alice.cookie);
    assert_eq!(alice.get("/console/").await.status, StatusCode::OK);
}
