//! Microsoft Teams: one card for each request, brought up to date in place, by a bot of the Bot Framework; or a card that only
//! tells, by the webhook of a workflow.

use std::{fmt, time::Duration};

use countersign_app::{auth::Connector, text::one_line};
use countersign_store::{Event, Turn};
use reqwest::{Client, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use crate::{
    card::{attached, card, cut},
    channel::{Delivery, ReadSecret},
    message::Message,
    view::{View, happened},
    webhook::{retry_after, root},
};

/// No answer is longer.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// A token is used no more so long before it expires.
const TOKEN_REST: Duration = Duration::from_secs(300);
/// A token is used for no longer, whatever is said of it.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// People are told by a bot in a conversation of Teams.
pub struct Teams {
    /// The bot has this id.
    pub app_id: String,
    /// The bot shows this secret for its tokens.
    pub secret: ReadSecret,
    /// People of this tenant may answer.
    pub tenant: String,
    /// The conversation has this id.
    pub conversation: String,
    /// The connector is here, with a slash at the end.
    pub service: Url,
    /// Tokens are given out here.
    pub token_url: Url,
    /// They are asked for with this scope.
    pub scope: String,
    /// What people do is brought by this.
    pub connector: Connector,
    /// The client connects where it may, and follows no redirects.
    pub client: Client,
    /// One request may take so long.
    pub timeout: Duration,
    /// The token in use, with the end of its use.
    pub token: BotToken,
}

/// The token that a bot uses, until it is near its end.
#[derive(Default)]
pub struct BotToken(Mutex<Option<(SecretString, Instant)>>);

/// People are told by the webhook of a workflow in Teams.
pub struct Workflow {
    /// The address, which is a secret.
    pub url: ReadSecret,
    /// Whether it may be one without TLS, on a private address.
    pub allow_private: bool,
    /// The client connects where it may, and follows no redirects.
    pub client: Client,
    /// Posting a message may take so long.
    pub timeout: Duration,
}

impl fmt::Debug for Teams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teams").field("app_id", &self.app_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for BotToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BotToken").finish_non_exhaustive()
    }
}

impl fmt::Debug for Workflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workflow").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

/// Something was not done.
enum NotDone {
    /// The answer has this status.
    Answered(StatusCode, Option<Duration>),
    /// There is no answer, or none that can be read.
    Failed(String),
}

impl NotDone {
    fn delivery(self, who: &str) -> Delivery {
        match self {
            Self::Answered(status, after) => {
                Delivery::NotTold { why: format!("{who} answered {status}"), after }
            }
            Self::Failed(why) => Delivery::NotTold { why: format!("{who} {why}"), after: None },
        }
    }
}

const NO_ANSWER: &str = "did not answer in time";
const CONNECTOR: &str = "the connector of Teams";
const ISSUER: &str = "the place where tokens are given out";

impl Teams {
    /// Tells what happened to a request: in its own card, or below it where people are to notice.
    pub(crate) async fn tell(&self, turn: &Turn, message: &Message) -> Delivery {
        let view = View::new(turn, &message.data);
        let activity = json!({
            "type": "message", "summary": cut(&view.heading), "attachments": attached(&card(&view, true)),
        });
        match (turn.notice.event, turn.handle.as_deref()) {
            (_, None) => match self.call(None, &activity).await {
                Ok(answer) => {
                    Delivery::Told { handle: answer.get("id").and_then(Value::as_str).map(str::to_owned) }
                }
                Err(delivery) => delivery,
            },
            (Event::Reminded | Event::Escalated, Some(card)) => {
                let said = format!("{}: {}", happened(turn.notice.event), cut(&view.heading));
                let reply =
                    json!({ "type": "message", "textFormat": "plain", "text": said, "replyToId": card });
                self.call(Some((reqwest::Method::POST, card)), &reply)
                    .await
                    .map_or_else(|delivery| delivery, told)
            }
            (Event::Asked | Event::Answered | Event::Ended, Some(card)) => self
                .call(Some((reqwest::Method::PUT, card)), &activity)
                .await
                .map_or_else(|delivery| delivery, told),
        }
    }

    /// Posts a test message.
    pub(crate) async fn test(&self) -> Delivery {
        let said = json!({ "type": "message", "textFormat": "plain", "text": "Countersign reaches this conversation." });
        self.call(None, &said).await.map_or_else(|delivery| delivery, told)
    }

    /// Puts an activity into the conversation: a new one, one below another, or in the place of another.
    async fn call(&self, at: Option<(reqwest::Method, &str)>, activity: &Value) -> Result<Value, Delivery> {
        // Together, also where a token is asked for first or somebody else asks for one: nobody takes the turn over meanwhile.
        let called = tokio::time::timeout(self.timeout, self.call_once(at, activity)).await;
        called.unwrap_or_else(|_elapsed| Err(NotDone::Failed(NO_ANSWER.into()).delivery(CONNECTOR)))
    }

    async fn call_once(
        &self,
        at: Option<(reqwest::Method, &str)>,
        activity: &Value,
    ) -> Result<Value, Delivery> {
        let mut url = self.service.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v3", "conversations", &self.conversation, "activities"]);
            path.extend(at.as_ref().map(|(_, card)| *card));
        }
        let (method, changes) = match at {
            Some((method, _)) => (method.clone(), method == reqwest::Method::PUT),
            None => (reqwest::Method::POST, false),
        };
        let token = self.bearer().await?;
        let request = self.client.request(method, url).bearer_auth(token.expose_secret()).json(activity);
        match self.send(request).await {
            Ok(answer) => Ok(answer),
            // Somebody has deleted the card: there is nothing to bring up to date.
            Err(NotDone::Answered(StatusCode::NOT_FOUND, _)) if changes => Ok(Value::Null),
            Err(why) => {
                if matches!(why, NotDone::Answered(StatusCode::UNAUTHORIZED, _)) {
                    *self.token.0.lock().await = None;
                }
                Err(why.delivery(CONNECTOR))
            }
        }
    }

    /// Returns a token that is good for a while.
    async fn bearer(&self) -> Result<SecretString, Delivery> {
        let mut known = self.token.0.lock().await;
        if let Some((token, until)) = &*known
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let secret = (self.secret)()
            .map_err(|why| Delivery::NotTold { why: format!("its secret {why}"), after: None })?;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.app_id)
            .append_pair("client_secret", secret.expose_secret())
            .append_pair("scope", &self.scope)
            .finish();
        let request = self
            .client
            .post(self.token_url.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let answer = self.send(request).await.map_err(|why| why.delivery(ISSUER))?;
        let Token { access_token, expires_in } = serde_json::from_value(answer).map_err(|_form| {
            NotDone::Failed("gives out no token that can be read".into()).delivery(ISSUER)
        })?;
        let age = Duration::from_secs(expires_in).saturating_sub(TOKEN_REST).min(TOKEN_AGE_MAX);
        let access_token = SecretString::from(access_token);
        let until = Instant::now().checked_add(age);
        *known = until.map(|until| (access_token.clone(), until));
        Ok(access_token)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, NotDone> {
        send(request.timeout(self.timeout)).await
    }
}

fn told(_answer: Value) -> Delivery {
    Delivery::Told { handle: None }
}

/// Sends a request and reads what it is answered. An empty answer is `null`.
async fn send(request: RequestBuilder) -> Result<Value, NotDone> {
    let failed = |why: reqwest::Error| {
        let timeout = why.is_timeout();
        // The address may be a secret itself.
        let why = one_line(&root(&why.without_url()));
        NotDone::Failed(if timeout { NO_ANSWER.into() } else { format!("cannot be reached: {why}") })
    };
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
        return Err(NotDone::Answered(status, retry_after(response.headers())));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(NotDone::Failed("answers too much".into()));
        }
    }
    Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

const WORKFLOW: &str = "the workflow";

impl Workflow {
    /// Returns the address, where it is one.
    ///
    /// # Errors
    /// Says why it is none, and never what it is.
    pub fn address(&self) -> Result<Url, String> {
        let text = (self.url)().map_err(|why| format!("its address {why}"))?;
        let bad = || "its address is no `https` address".to_owned();
        let url = Url::parse(text.expose_secret().trim()).map_err(|_form| bad())?;
        let good = url.scheme() == "https" || (self.allow_private && url.scheme() == "http");
        if good && url.host().is_some() { Ok(url) } else { Err(bad()) }
    }

    /// Tells what happened to a request, in a card that answers nothing.
    pub(crate) async fn tell(&self, turn: &Turn, message: &Message) -> Delivery {
        let mut view = View::new(turn, &message.data);
        view.heading = format!("{}: {}", happened(turn.notice.event), view.heading);
        self.post(&card(&view, false)).await
    }

    /// Posts a test message.
    pub(crate) async fn test(&self) -> Delivery {
        let text = json!({ "type": "TextBlock", "text": "Countersign reaches this workflow." });
        self.post(&json!({ "type": "AdaptiveCard", "version": "1.4", "body": [text] })).await
    }

    async fn post(&self, card: &Value) -> Delivery {
        let url = match self.address() {
            Ok(url) => url,
            Err(why) => return Delivery::NotTold { why, after: None },
        };
        let body = json!({ "type": "message", "attachments": attached(card) });
        match send(self.client.post(url).timeout(self.timeout).json(&body)).await {
            Ok(answer) => told(answer),
            Err(why) => why.delivery(WORKFLOW),
        }
    }
}
