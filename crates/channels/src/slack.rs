//! Messages in Slack: one for each request, brought up to date in place, with buttons that answer while it waits.
//!
//! Three methods of Slack's API and one signature are all that is needed of it. What an agent wrote is never taken for Slack's
//! markup: it stands in plain text, escaped, on one line.

use std::{fmt, time::Duration};

use countersign_app::text::one_line;
use countersign_store::{Event, Turn};
use reqwest::{Client, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use url::Url;

use crate::{
    channel::{Delivery, ReadSecret},
    message::Message,
    view::{View, happened},
    webhook::{retry_after, root},
};

/// Slack refuses longer texts.
const FIELD_CHARS_MAX: usize = 1_500;
/// It counts a section of 3,000 as it is sent, with a few words of ours beside.
const FIELD_BYTES_MAX: usize = 2_900;

/// No answer of Slack's is longer.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The buttons are called so.
pub(crate) const APPROVE: &str = "countersign_approve";
pub(crate) const REFUSE: &str = "countersign_refuse";

/// People are told in a channel of Slack.
pub struct Slack {
    /// The token posts.
    pub token: ReadSecret,
    /// What people do comes so.
    pub hears: Hears,
    /// The channel has this id.
    pub channel: String,
    /// People of this team may answer.
    pub team: String,
    /// Answers come by this app; by any that the secret signs for when `None`.
    pub app: Option<String>,
    /// Slack's API is here.
    pub api_url: Url,
    /// The client connects where it may, and follows no redirects.
    pub client: Client,
    /// One request may take so long.
    pub timeout: Duration,
}

/// What people do in Slack comes so.
pub enum Hears {
    /// By requests to the server, which Slack signs with this secret.
    Signed(ReadSecret),
    /// Over a connection that the server opens with this token of the app.
    Socket(ReadSecret),
}

impl fmt::Debug for Hears {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signed(_) => "Signed",
            Self::Socket(_) => "Socket",
        })
    }
}

impl fmt::Debug for Slack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slack").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// Slack did not do what it was asked.
pub(crate) enum NotDone {
    /// It says this word.
    Said(String),
    /// It could not be asked, or not now.
    Failed(Delivery),
}

impl Slack {
    /// Tells what happened to a request: in its own message, or below it where people are to notice.
    pub(crate) async fn tell(&self, turn: &Turn, message: &Message) -> Delivery {
        let view = View::new(turn, &message.data);
        let (text, blocks) = (escape(&view.heading), blocks(&view));
        let before = turn.handle.as_deref().and_then(|handle| handle.split_once(' '));
        let (method, body) = match (turn.notice.event, before) {
            (_, None) => {
                ("chat.postMessage", json!({ "channel": self.channel, "text": text, "blocks": blocks }))
            }
            (Event::Reminded | Event::Escalated, Some((channel, ts))) => {
                let said = format!("{}: {text}", happened(turn.notice.event));
                (
                    "chat.postMessage",
                    json!({ "channel": channel, "thread_ts": ts, "reply_broadcast": true, "text": said }),
                )
            }
            (Event::Asked | Event::Answered | Event::Ended, Some((channel, ts))) => {
                ("chat.update", json!({ "channel": channel, "ts": ts, "text": text, "blocks": blocks }))
            }
        };
        match self.call(method, &body).await {
            Ok(answer) => {
                let said = |key: &str| answer.get(key).and_then(Value::as_str);
                let handle = said("channel").zip(said("ts")).map(|(channel, ts)| format!("{channel} {ts}"));
                Delivery::Told { handle: handle.filter(|_| before.is_none()) }
            }
            // Somebody has deleted the message: there is nothing to bring up to date.
            Err(NotDone::Said(word)) if method == "chat.update" && word == "message_not_found" => {
                Delivery::Told { handle: None }
            }
            Err(NotDone::Said(word)) => {
                Delivery::NotTold { why: format!("Slack says `{}`", one_line(&word)), after: None }
            }
            Err(NotDone::Failed(delivery)) => delivery,
        }
    }

    /// Posts a test message.
    pub(crate) async fn test(&self) -> Delivery {
        let body = json!({ "channel": self.channel, "text": "Countersign reaches this channel." });
        match self.call("chat.postMessage", &body).await {
            Ok(_answer) => Delivery::Told { handle: None },
            Err(NotDone::Said(word)) => {
                Delivery::NotTold { why: format!("Slack says `{}`", one_line(&word)), after: None }
            }
            Err(NotDone::Failed(delivery)) => delivery,
        }
    }

    /// Asks Slack to do something, and returns what it answers where it did.
    pub(crate) async fn call(&self, method: &str, body: &Value) -> Result<Value, NotDone> {
        self.call_as(&self.token, method, body).await
    }

    /// As [`Slack::call`], with another token.
    pub(crate) async fn call_as(
        &self,
        token: &ReadSecret,
        method: &str,
        body: &Value,
    ) -> Result<Value, NotDone> {
        let failed = |why: String| NotDone::Failed(Delivery::NotTold { why, after: None });
        let token = token().map_err(|why| failed(format!("its token {why}")))?;
        let url = self.api_url.join(method).map_err(|why| failed(why.to_string()))?;
        let request =
            self.client.post(url).timeout(self.timeout).bearer_auth(token.expose_secret()).json(body);
        let mut response = request.send().await.map_err(|why| {
            let said =
                if why.is_timeout() { "it did not answer in time".into() } else { root(&why.without_url()) };
            failed(format!("Slack cannot be reached: {said}"))
        })?;
        let status = response.status();
        if status != StatusCode::OK {
            let after = retry_after(response.headers());
            return Err(NotDone::Failed(Delivery::NotTold {
                why: format!("Slack answered {status}"),
                after,
            }));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|why| failed(root(&why.without_url())))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(failed("Slack's answer is too long".into()));
            }
        }
        let answer: Value =
            serde_json::from_slice(&bytes).map_err(|_form| failed("Slack's answer is no JSON".into()))?;
        if answer.get("ok") == Some(&Value::Bool(true)) {
            return Ok(answer);
        }
        Err(NotDone::Said(answer.get("error").and_then(Value::as_str).unwrap_or("no reason").to_owned()))
    }
}

/// Writes what somebody else wrote, so that it is no markup (`<!channel>`, links, `&amp;`), stays on its line, and is
/// not too long as it is sent.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for (n, c) in one_line(text).chars().enumerate() {
        let mut plain = [0; 4];
        let sent = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            c => &*c.encode_utf8(&mut plain),
        };
        if n == FIELD_CHARS_MAX || out.len().saturating_add(sent.len()) > FIELD_BYTES_MAX {
            out.push('…');
            break;
        }
        out.push_str(sent);
    }
    out
}

fn plain(text: &str) -> Value {
    json!({ "type": "plain_text", "emoji": false, "text": text })
}

fn blocks(view: &View<'_>) -> Value {
    let mut blocks = vec![json!({ "type": "section", "text": plain(&escape(&view.heading)) })];
    // No section has more than ten fields.
    blocks.extend(view.facts.chunks(10).map(|facts| {
        let fields: Vec<Value> = facts.iter().map(|fact| plain(&escape(fact))).collect();
        json!({ "type": "section", "fields": fields })
    }));
    let claim = view.claim.map(|claim| format!("The agent claims: {}", escape(claim)));
    let arguments = view.arguments.map(|text| format!("Arguments: {}", escape(text)));
    let more = claim.into_iter().chain(arguments);
    blocks.extend(more.map(|text| json!({ "type": "section", "text": plain(&text) })));
    let link = format!("<{}|Look at the request>", escape(view.link));
    blocks.push(json!({ "type": "section", "text": { "type": "mrkdwn", "verbatim": true, "text": link } }));
    if let Some(about) = &view.about {
        // The answer is for the very call that was shown.
        let value = json!(about).to_string();
        let button = |id: &str, word: &str, style: &str| json!({ "type": "button", "action_id": id, "style": style, "value": value, "text": plain(word) });
        let buttons = [button(APPROVE, "Approve", "primary"), button(REFUSE, "Refuse", "danger")];
        blocks.push(json!({ "type": "actions", "elements": buttons }));
    }
    Value::from(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_no_markup_and_stays_on_its_line() {
        assert_eq!(
            escape("<!channel> & <https://evil.example|Approve>"),
            "&lt;!channel&gt; &amp; &lt;https://evil.example|Approve&gt;"
        );
        assert!(!escape("a\nState: approved").contains('\n'));
        assert_eq!(escape(&"x".repeat(10_000)).chars().count(), FIELD_CHARS_MAX + 1);
        assert!(escape(&"&".repeat(10_000)).len() < 3_000 - 50);
    }
}
