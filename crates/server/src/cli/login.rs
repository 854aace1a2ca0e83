//! `countersign login`, `countersign logout` and `countersign whoami`: acting at the command line as oneself.
//!
//! The browser brings the code to a port of this machine (RFC 8252), where whatever runs here can knock: what does not know this
//! sign-in's `state` is sent away, and a code is worth nothing without the verifier, which never leaves this process but for the
//! exchange.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderName, StatusCode, header},
    response::{Html, IntoResponse},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_api::{Exchange, Exchanged, SignInBody};
use countersign_app::auth::COMMAND_LINE_SECONDS_MAX;
use countersign_audit::sha256;
use countersign_rules::source::duration_ms;
use reqwest::{Method, StatusCode as Status};
use serde::Deserialize;
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot};
use url::Url;

use super::{
    Failure, Outcome, Output,
    client::{Client, Connect, cell, for_browsers},
    kept::{self, Kept},
};
use crate::clock::random;

/// A browser has so long to come back.
const WAIT: Duration = Duration::from_secs(600);

/// The exchange, and giving a key back, may take so long.
const ANSWER: Duration = Duration::from_secs(30);

/// `countersign login`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints the address of a page of the console: open it in a browser on this machine, sign in if you are not, see that it\n\
                  shows the same letters, and let the command line act as you. It then has a key of yours, for this server and this\n\
                  time, which opens what you may and nothing else, and only while your account is as it is now.\n\n\
                  The key is used by every command that is given no other: `--key-file` comes first, then COUNTERSIGN_KEY, then this.\n\
                  It is kept in ~/.config/countersign/keys (or below XDG_CONFIG_HOME), where only you can read it.\n\n\
                  Examples:\n  countersign login --server https://countersign.example.com\n  \
                  countersign login -C my-folder --for 3d"
)]
pub(super) struct Login {
    /// Act for so long, such as `45m`, `12h` or `7d`; 30 days at most, and no longer than a provider's sign-in lasts
    #[arg(long = "for", value_name = "TIME", default_value = "12h", value_parser = lasting)]
    lasting: u64,
    /// What to call this machine, on the page and in the list of keys [default: its own name]
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

/// `countersign logout`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Revokes the key at the server and removes it here. Where the server cannot be reached the key is removed here alone,\n\
                  and is good until it expires: that is said, and the command ends with 1."
)]
pub(super) struct Logout {
    #[command(flatten)]
    connect: Connect,
}

/// `countersign whoami`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Asks the server, so that it also says whether the key is still good. An agent's key is refused: it is no person."
)]
pub(super) struct Whoami {
    #[command(flatten)]
    connect: Connect,
}

fn lasting(text: &str) -> Result<u64, String> {
    let seconds = duration_ms(text).map(|ms| ms.div_euclid(1_000));
    let most = u64::try_from(COMMAND_LINE_SECONDS_MAX).unwrap_or(0);
    seconds
        .filter(|seconds| (60..=most).contains(seconds))
        .ok_or_else(|| "write such as `45m`, `12h` or `7d`, from a minute up to 30 days".to_owned())
}

/// What the machine is called, in letters that a page and a list show as they are.
fn machine(said: Option<&str>) -> String {
    let own = || {
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .or_else(|_| std::fs::read_to_string("/etc/hostname"))
    };
    let name = said.map_or_else(|| own().unwrap_or_default(), str::to_owned);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.trim().chars().take(63).map(plain).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

impl Login {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let (http, server) = self.connect.unknown(Some(ANSWER))?;
        let path = kept::place(&server)?;
        let secret = || URL_SAFE_NO_PAD.encode(random::<32>());
        let (verifier, state) = (secret(), secret());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let redirect_uri = format!("http://127.0.0.1:{}/signed-in", listener.local_addr()?.port());
        let challenge = URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()).as_bytes());
        let mut page = Url::parse(&format!("{}/console/command-line", for_browsers(server.as_str())))?;
        page.query_pairs_mut()
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("redirect_uri", &redirect_uri)
            .append_pair("state", &state)
            .append_pair("machine", &machine(self.machine.as_deref()))
            .append_pair("seconds", &self.lasting.to_string());
        let letters: String = challenge.chars().take(8).collect();
        out.note(format!(
            "open this page in a browser on this machine, and see that it shows the letters {letters}:\n   {page}"
        ));
        let code = came_back(listener, state).await?;
        let body = Exchange { code, code_verifier: verifier, redirect_uri };
        let reply = Client::posted_by_nobody(&http, &server, "/v1/sign-in/exchange", &body).await?;
        let Exchanged { secret, key, person, expires_at } = reply.told()?;
        let before = kept::read(&server).ok().flatten();
        let kept = Kept { server: kept::named(&server).to_owned(), person, key, expires_at, secret };
        if let Err(why) = kept::write(&path, &kept) {
            // Nobody would find it again.
            drop(self.give_back(kept).await);
            return Err(why);
        }
        if let Some((_path, before)) = before {
            drop(self.give_back(before).await);
        }
        let Kept { server, person, key, expires_at, .. } = kept;
        out.value(&json!({ "person": person, "server": server, "key": key, "expires_at": expires_at }));
        let until = out.moment(&cell(expires_at));
        out.line(format!("you are `{person}` at {server}, until {until}; `countersign logout` ends it"));
        Ok(())
    }

    async fn give_back(&self, kept: Kept) -> Outcome {
        self.connect.presenting(kept.secret.into())?.reply(Method::DELETE, "/v1/sign-in").await.map(drop)
    }
}

impl Logout {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let (_http, server) = self.connect.unknown(None)?;
        let path = kept::place(&server)?;
        let read = kept::read(&server);
        let removed = kept::remove(&path)?;
        let server = kept::named(&server);
        let Some((_path, kept)) = read.with_context_of(&path, removed)? else {
            out.value(&json!({ "server": server, "revoked": false }));
            if !out.json() {
                out.note(format!("nobody is signed in at {server} here"));
            }
            return Err(Failure::No);
        };
        let Kept { person, key, expires_at, secret, .. } = kept;
        let reply = self.connect.presenting(secret.into())?.reply(Method::DELETE, "/v1/sign-in").await;
        // One that is not good any more is what was wanted.
        let revoked =
            reply.is_ok_and(|reply| reply.status.is_success() || reply.status == Status::UNAUTHORIZED);
        out.value(&json!({ "server": server, "person": person, "key": key, "revoked": revoked }));
        if revoked {
            out.line(format!(
                "you are `{person}` at {server} no more: key `{key}` is revoked, and removed here"
            ));
            return Ok(());
        }
        if !out.json() {
            out.note(format!(
                "key `{key}` of `{person}` is removed here, but {server} could not revoke it: it is good until {}. \
                 `countersign keys revoke {key}` ends it, or signing out everywhere",
                out.moment(&cell(expires_at))
            ));
        }
        Err(Failure::No)
    }
}

/// What was wrong with a file that is gone now.
trait WithContextOf<T> {
    fn with_context_of(self, path: &std::path::Path, removed: bool) -> Result<T, Failure>;
}

impl<T> WithContextOf<T> for Result<T, Failure> {
    fn with_context_of(self, path: &std::path::Path, removed: bool) -> Self {
        match self {
            Err(Failure::Failed(why)) if removed => Err(why
                .context(format!(
                    "`{}` is removed, and what it held was not used: a key that it held is good until it expires",
                    path.display()
                ))
                .into()),
            other => other,
        }
    }
}

impl Whoami {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let (_http, server) = self.connect.unknown(None)?;
        let (key, found) = self.connect.key(&server)?;
        let who: SignInBody = self.connect.presenting(key)?.get("/v1/sign-in").await?;
        let server = kept::named(&server);
        let mut value = serde_json::to_value(&who)?;
        if let Some(value) = value.as_object_mut() {
            value.insert("server".into(), server.into());
            value.insert("by".into(), found.clone().into());
        }
        out.value(&value);
        let list = |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
        let until = who.expires_at.map_or_else(|| "never".to_owned(), |at| out.moment(&at));
        out.line(format!("{} at {server}", who.person));
        out.line(format!("   groups   {}", list(&who.groups)));
        out.line(format!("   roles    {}", list(&who.roles)));
        out.line(format!("   key      {} ({})", who.key, list(&who.scopes)));
        out.line(format!("   expires  {until}"));
        out.line(format!("   by       {found}"));
        Ok(())
    }
}

/// What a browser brought.
#[derive(Debug, Default, Deserialize)]
struct Brought {
    #[serde(default)]
    state: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    error: String,
}

/// Who waits for the browser, by its state, until it has come.
#[derive(Clone)]
struct Waiting {
    state: Arc<str>,
    told: Arc<Mutex<Option<oneshot::Sender<Brought>>>>,
}

/// Waits until a browser brings the code.
async fn came_back(listener: TcpListener, state: String) -> Result<String, Failure> {
    let (told, came) = oneshot::channel();
    let waiting = Waiting { state: state.into(), told: Arc::new(Mutex::new(Some(told))) };
    let router = Router::new().route("/signed-in", get(signed_in)).with_state(waiting);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async {
        drop(stopped.await);
    });
    let serving = tokio::spawn(serving.into_future());
    let brought = tokio::time::timeout(WAIT, came).await;
    // The browser is shown that it was heard before the port is given up, unless it keeps the line open.
    drop(stop);
    drop(tokio::time::timeout(Duration::from_secs(1), serving).await);
    let brought = brought.context("nobody came back within ten minutes: nothing was done")??;
    if !brought.error.is_empty() || brought.code.is_empty() {
        return Err(anyhow::anyhow!("you did not let the command line act as you: nothing was done").into());
    }
    Ok(brought.code)
}

async fn signed_in(State(waiting): State<Waiting>, Query(brought): Query<Brought>) -> impl IntoResponse {
    // By hashes: how much of a guess is right must not be measurable.
    let known = sha256(brought.state.as_bytes()) == sha256(waiting.state.as_bytes());
    let told = known.then(|| waiting.told.lock().unwrap_or_else(PoisonError::into_inner).take()).flatten();
    let (status, words) = match told {
        Some(told) => {
            let words = if brought.error.is_empty() {
                "Go back to the command line. This page can be closed."
            } else {
                "Nothing was done. This page can be closed."
            };
            drop(told.send(brought));
            (StatusCode::OK, words)
        }
        None => (StatusCode::BAD_REQUEST, "No sign-in of this command line is at this address."),
    };
    let headers = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ];
    let page = format!("<!doctype html><html lang=\"en\"><title>Countersign</title><p>{words}</p></html>");
    (status, headers, Html(page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_s_name_has_letters_that_are_shown_as_they_are() {
        for (said, name) in [
            ("laptop", "laptop"),
            (" anna's <laptop> ", "anna-s--laptop-"),
            ("", "unnamed"),
            ("a\nb", "a-b"),
            ("ü.local", "-.local"),
        ] {
            assert_eq!(machine(Some(said)), name);
        }
        assert_eq!(machine(Some(&"m".repeat(100))).len(), 63);
        assert!(!machine(None).is_empty());
    }

    #[test]
    fn a_time_is_a_minute_to_thirty_days() {
        assert_eq!((lasting("12h"), lasting("30d"), lasting("60s")), (Ok(43_200), Ok(2_592_000), Ok(60)));
        for odd in ["59s", "31d", "12", "forever", "-1h", ""] {
            assert!(lasting(odd).is_err(), "{odd}");
        }
    }

    #[tokio::test]
    async fn a_code_is_taken_with_the_state_of_this_sign_in_alone() {
        #[expect(clippy::disallowed_methods, reason = "the test is a browser")]
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let at = format!("http://{}/signed-in", listener.local_addr().unwrap());
        let get = async |query: &str| http.get(format!("{at}?{query}")).send().await.unwrap().status();
        let waiting = tokio::spawn(came_back(listener, "right".into()));
        for odd in [
            "code=evil&state=wrong",
            "code=evil",
            "code=evil&state=",
            "error=x&state=wrong",
            "code=e&state=right&state=right",
        ] {
            assert_eq!(get(odd).await, StatusCode::BAD_REQUEST, "{odd}");
            assert!(!waiting.is_finished(), "{odd}");
        }
        assert_eq!(get("code=good&state=right").await, StatusCode::OK);
        assert_eq!(waiting.await.unwrap().unwrap(), "good");

        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let refused =
            format!("http://{}/signed-in?error=access_denied&state=right", listener.local_addr().unwrap());
        let waiting = tokio::spawn(came_back(listener, "right".into()));
        assert_eq!(http.get(refused).send().await.unwrap().status(), StatusCode::OK);
        assert!(waiting.await.unwrap().is_err());
    }
}
