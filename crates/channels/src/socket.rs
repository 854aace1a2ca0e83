//! What people do in Slack comes over a connection that we open to Slack (its Socket Mode), where nobody reaches the server from
//! outside.
//!
//! Nothing is signed there. It is believed because Slack's API named the place of the connection to whoever has the app's own
//! token, and because TLS leads there. Team and app must be the configured ones as everywhere, each message is taken once, and
//! the answer goes where every answer goes.

use std::{sync::Arc, time::Duration};

use countersign_app::{App, text::one_line};
use futures::{SinkExt as _, StreamExt as _, stream::FuturesUnordered};
use reqwest::{StatusCode, Upgraded, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use crate::{
    channel::{Channel, Delivery, ReadSecret},
    interaction::{BODY_BYTES_MAX, Payload, act, is_ours},
    seen::Seen,
    slack::{NotDone, Slack},
    webhook::root,
};

/// Slack says something at least every half minute, if only that it is there. Who is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// The shortest pause before another try, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// So many connections are open at most, while one takes the place of another.
const CONNECTIONS_MAX: usize = 3;

/// So many people are answered at once; the next wait in the connection.
const AT_ONCE: usize = 32;

/// A message comes at most once within so many seconds.
const WINDOW_S: i64 = 600;

/// Slack's words about the connection, and what people did.
#[derive(Debug, Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    envelope_id: Option<String>,
    payload: Option<Value>,
    #[serde(default)]
    accepts_response_payload: bool,
    reason: Option<String>,
    connection_info: Option<ConnectionInfo>,
}

#[derive(Debug, Deserialize)]
struct ConnectionInfo {
    app_id: Option<String>,
}

/// A connection ended, or could not be opened, for this reason.
struct Ended {
    why: String,
    /// Slack was heard on it.
    greeted: bool,
    /// Slack asks not to be tried again before so long.
    after: Option<Duration>,
}

impl Ended {
    const fn unopened(why: String) -> Self {
        Self { why, greeted: false, after: None }
    }
}

/// What people do in a channel of Slack is heard here.
pub(crate) struct Socket<'a> {
    pub(crate) app: &'a Arc<App>,
    pub(crate) channel: &'a Arc<Channel>,
    pub(crate) slack: &'a Slack,
    /// The app's own token opens connections.
    pub(crate) token: &'a ReadSecret,
    /// The messages that were taken.
    pub(crate) seen: Seen,
}

impl Socket<'_> {
    /// Hears until it is stopped. A connection that ends has a successor, at once where Slack announced the end.
    pub(crate) async fn listen(&self, stopping: &CancellationToken) {
        self.channel.state.hear(Err("it is not connected yet".into()));
        let (renew, mut renewed) = mpsc::channel(1);
        let mut connections = FuturesUnordered::new();
        connections.push(self.connection(Duration::ZERO, renew.clone()));
        let mut failures = 0_u32;
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                Some(()) = renewed.recv() => if connections.len() < CONNECTIONS_MAX {
                    connections.push(self.connection(Duration::ZERO, renew.clone()));
                },
                Some(ended) = connections.next() => {
                    // A successor hears already, or will say itself why it does not.
                    if !connections.is_empty() {
                        continue;
                    }
                    failures = if ended.greeted { 0 } else { failures.saturating_add(1) };
                    let pause = ended.after.unwrap_or_else(|| pause(failures));
                    tracing::warn!(channel = %self.channel.state.name, why = %ended.why, ?pause, "nobody's answers arrive from Slack; it is connected to again");
                    self.channel.state.hear(Err(ended.why));
                    connections.push(self.connection(pause, renew.clone()));
                }
            }
        }
    }

    async fn connection(&self, pause: Duration, renew: mpsc::Sender<()>) -> Ended {
        tokio::time::sleep(pause).await;
        match self.open().await {
            Ok(stream) => Box::pin(self.hear(stream, renew)).await,
            Err(ended) => ended,
        }
    }

    /// Opens a connection where Slack says.
    async fn open(&self) -> Result<WebSocketStream<Upgraded>, Ended> {
        let named = self.slack.call_as(self.token, "apps.connections.open", &json!({})).await;
        let named = named.map_err(|why| match why {
            NotDone::Said(word) => Ended::unopened(format!("Slack says `{}`", one_line(&word))),
            NotDone::Failed(Delivery::NotTold { why, after }) => Ended { why, greeted: false, after },
            NotDone::Failed(_) => Ended::unopened("Slack could not be asked".into()),
        })?;
        let url = named.get("url").and_then(Value::as_str).and_then(|url| place(&self.slack.api_url, url));
        let url = url.ok_or_else(|| Ended::unopened("Slack names no place to connect to over TLS".into()))?;
        let key = generate_key();
        let asked = self
            .slack
            .client
            .get(url)
            .timeout(self.slack.timeout)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key);
        // The address is a ticket: it stands in no error.
        let failed = |why: reqwest::Error| Ended::unopened(root(&why.without_url()));
        let response = asked.send().await.map_err(failed)?;
        let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        let accepted =
            accepted.is_some_and(|said| said.as_bytes() == derive_accept_key(key.as_bytes()).as_bytes());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS || !accepted {
            return Err(Ended::unopened(format!(
                "Slack opened no connection, and answered {}",
                response.status()
            )));
        }
        let upgraded = response.upgrade().await.map_err(failed)?;
        let limits = WebSocketConfig::default()
            .max_message_size(Some(BODY_BYTES_MAX))
            .max_frame_size(Some(BODY_BYTES_MAX));
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(limits)).await)
    }

    /// Hears what comes over a connection, and answers it there, until the connection ends.
    async fn hear(&self, mut stream: WebSocketStream<Upgraded>, renew: mpsc::Sender<()>) -> Ended {
        let (mut greeted, mut announced) = (false, false);
        let mut answers = FuturesUnordered::new();
        let ended = |why: &str, greeted| Ended { why: why.to_owned(), greeted, after: None };
        loop {
            let said = tokio::select! {
                Some(reply) = answers.next() => {
                    let reply: Value = reply;
                    if let Err(why) = stream.send(Message::text(reply.to_string())).await {
                        return ended(&why.to_string(), greeted);
                    }
                    continue;
                }
                said = tokio::time::timeout(SILENCE, stream.next()), if answers.len() < AT_ONCE => said,
            };
            let text = match said {
                Ok(Some(Ok(Message::Text(text)))) => text,
                // Pings are answered below us.
                Ok(Some(Ok(
                    Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_),
                ))) => continue,
                Ok(Some(Ok(Message::Close(_))) | None) => {
                    return ended("Slack closed the connection", greeted);
                }
                Ok(Some(Err(why))) => return ended(&why.to_string(), greeted),
                Err(_silent) => return ended("Slack was silent for a minute", greeted),
            };
            let Ok(envelope) = serde_json::from_str::<Envelope>(text.as_str()) else { continue };
            match envelope.kind.as_str() {
                "hello" => {
                    let app = envelope.connection_info.and_then(|info| info.app_id);
                    if self.slack.app.is_some() && app.is_some() && app != self.slack.app {
                        return Ended::unopened("the app token is another app's than `app` names".into());
                    }
                    greeted = true;
                    self.channel.state.hear(Ok(()));
                    tracing::info!(channel = %self.channel.state.name, "answers arrive from Slack over a connection");
                }
                "disconnect" if envelope.reason.as_deref() == Some("link_disabled") => {
                    return Ended::unopened("Socket Mode is off in the app's settings".into());
                }
                // What was sent here already is still heard here. One successor is enough.
                "disconnect" => {
                    if !announced {
                        announced = true;
                        renew.try_send(()).ok();
                    }
                }
                _ => {
                    if let Some(id) = envelope.envelope_id {
                        let (payload, accepts) = (envelope.payload, envelope.accepts_response_payload);
                        let interactive = envelope.kind == "interactive";
                        answers.push(self.answer(id, payload.filter(|_| interactive), accepts));
                    }
                }
            }
        }
    }

    /// Does what a person asks, and returns what Slack is told of it. It is done to its end, whatever becomes of the connection.
    async fn answer(&self, id: String, payload: Option<Value>, accepts: bool) -> Value {
        let taken = json!({ "envelope_id": &id });
        let now_s = self.app.clock().now_ms().div_euclid(1_000);
        let tag = id.clone().into_bytes();
        let first = self.seen.first_time(tag, now_s, now_s.saturating_add(WINDOW_S)).is_ok();
        let payload =
            payload.filter(|_| first).and_then(|payload| serde_json::from_value::<Payload>(payload).ok());
        let Some(payload) = payload.filter(|payload| is_ours(self.slack, payload)) else { return taken };
        let (app, channel) = (Arc::clone(self.app), Arc::clone(self.channel));
        let done = tokio::spawn(async move { act(&app, &channel, payload).await }).await;
        match done {
            Ok(Some(body)) if accepts => json!({ "envelope_id": id, "payload": body }),
            Ok(_) | Err(_) => taken,
        }
    }
}

/// Twice as long after each failure.
fn pause(failures: u32) -> Duration {
    PAUSE.saturating_mul(2_u32.saturating_pow(failures.min(6))).min(PAUSE_MAX)
}

/// Returns the place of a connection as the client writes it. Where Slack's API has a name and TLS, the place has both; the
/// stand-in of a test may have neither.
fn place(api: &Url, text: &str) -> Option<Url> {
    // A URL of another scheme could not be given this one.
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme {
        "wss" => "https",
        "ws" if api.scheme() == "http" => "http",
        _ => return None,
    };
    let url = Url::parse(&format!("{scheme}://{rest}")).ok()?;
    let named = |url: &Url| matches!(url.host(), Some(Host::Domain(_)));
    let bare = url.username().is_empty() && url.password().is_none();
    (bare && (named(&url) || !named(api))).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_leads_to_a_name_by_tls() {
        let slack = Url::parse("https://slack.com/api/").unwrap();
        let good = place(&slack, "wss://wss-primary.slack.com/link/?ticket=1&app_id=2").unwrap();
        assert_eq!(good.as_str(), "https://wss-primary.slack.com/link/?ticket=1&app_id=2");
        for bad in [
            "ws://wss-primary.slack.com/",
            "https://wss-primary.slack.com/",
            "http://wss-primary.slack.com/",
            "file:///etc/passwd",
            "wss://127.0.0.1/",
            "wss://0x7f.1/",
            "wss://[::1]/",
            "wss://169.254.169.254/",
            "wss://user@wss-primary.slack.com/",
            "wss://:secret@wss-primary.slack.com/",
            "wss://",
            "WSS:\\wss-primary.slack.com",
            "",
        ] {
            assert_eq!(place(&slack, bad), None, "{bad}");
        }
        let stand_in = Url::parse("http://127.0.0.1:1/api/").unwrap();
        assert_eq!(place(&stand_in, "ws://127.0.0.1:2/").unwrap().as_str(), "http://127.0.0.1:2/");
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        assert_eq!([0, 1, 2, 5, 6, u32::MAX].map(|n| pause(n).as_secs()), [1, 2, 4, 32, 60, 60]);
    }
}
