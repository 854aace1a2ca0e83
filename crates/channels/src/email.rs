//! E-mail: people are told, and follow a link. No letter answers, and no link approves by being opened.
//!
//! What others wrote is base64 in the body and an encoded word in the subject, so that nothing of it can be a header, a boundary
//! or the end of a letter; in the body it stands on one line, and is no link.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_app::{answer::timestamp, text::one_line};
use countersign_store::Turn;
use tokio_rustls::rustls::ClientConfig;

pub use crate::smtp::Encryption;
use crate::{
    channel::{Delivery, ReadSecret},
    message::Message,
    smtp::{Letter, Login, NotTaken, Relay},
    view::{View, happened},
};

/// A reason is not longer in a letter.
const CLAIM_CHARS_MAX: usize = 1_500;
/// Neither is a subject.
const SUBJECT_CHARS_MAX: usize = 150;
/// So many times a letter waits for all of its addresses; then it goes to those that are accepted.
const FOR_ALL_MAX: u32 = 3;
/// An encoded word of so many bytes before it is encoded is no longer than it may be (75).
const WORD_BYTES: usize = 42;
/// So many bytes are a line of a body: 76 characters.
const LINE_BYTES: usize = 57;

/// People are told by e-mail.
pub struct Email {
    /// The relay has this name.
    pub host: String,
    /// It listens on this port.
    pub port: u16,
    /// It is spoken to so.
    pub encryption: Encryption,
    /// Its certificate is checked so.
    pub trust: Arc<ClientConfig>,
    /// It is told this user and password, if any.
    pub login: Option<(ReadSecret, ReadSecret)>,
    /// Letters come from this address.
    pub from: String,
    /// Letters go to these addresses.
    pub to: Vec<String>,
    /// Handing over one letter may take so long.
    pub timeout: Duration,
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A letter, before it is written.
struct Written<'a> {
    /// Which notice of its thread it is, and the first of it.
    id: &'a str,
    first: Option<&'a str>,
    subject: &'a str,
    text: &'a str,
    html: &'a str,
}

impl Email {
    /// Sends what happened to a request. Later news of a request reply to the first.
    pub(crate) async fn tell(&self, turn: &Turn, message: &Message, now_ms: i64) -> Delivery {
        let view = View::new(turn, &message.data);
        let happened = happened(turn.notice.event);
        let (text, html) = (plain(&view, happened), html(&view, happened));
        let (approval, channel, number) = (&turn.record.request.id, &turn.channel, turn.notice.number);
        let id = |number: u32| format!("{approval}.{channel}.{number}");
        let (this, first) = (id(number), id(0));
        let first = (number > 0).then_some(first.as_str());
        let subject = unlinked(&view.asks, SUBJECT_CHARS_MAX);
        // One subject for all news of a request: those who read keep them together by it.
        let subject = format!("{}{subject} [{approval}]", if first.is_some() { "Re: " } else { "" });
        let written = Written { id: &this, first, subject: &subject, text: &text, html: &html };
        self.send(&written, turn.failures >= FOR_ALL_MAX, now_ms).await
    }

    /// Sends a test letter.
    pub(crate) async fn test(&self, id: &str, now_ms: i64) -> Delivery {
        let text = "Countersign reaches this address.";
        let id = id.replace(':', ".");
        let html = format!("<p>{text}</p>");
        let written = Written { id: &id, first: None, subject: "Countersign: a test", text, html: &html };
        self.send(&written, true, now_ms).await
    }

    async fn send(&self, written: &Written<'_>, some: bool, now_ms: i64) -> Delivery {
        let read = |secret: &ReadSecret, what: &str| secret().map_err(|why| format!("its {what} {why}"));
        let login = self.login.as_ref().map(|(user, password)| {
            Ok(Login { user: read(user, "user")?, password: read(password, "password")? })
        });
        let login = match login.transpose() {
            Ok(login) => login,
            Err(why) => return Delivery::NotTold { why, after: None },
        };
        let relay = Relay {
            host: &self.host,
            port: self.port,
            encryption: self.encryption,
            trust: &self.trust,
            login,
        };
        let text = self.letter(written, now_ms);
        let letter = Letter { from: &self.from, to: &self.to, text: &text };
        match tokio::time::timeout(self.timeout, relay.send(&letter, some)).await {
            Ok(Ok(refused)) => {
                if !refused.is_empty() {
                    tracing::warn!(message = written.id, ?refused, "some addresses were not told");
                }
                Delivery::Told { handle: None }
            }
            Ok(Err(NotTaken::Later(why))) => Delivery::NotTold { why, after: None },
            Ok(Err(NotTaken::Never(why))) => Delivery::Refused { why },
            Err(_elapsed) => Delivery::NotTold { why: "it did not answer in time".into(), after: None },
        }
    }

    /// Writes a letter (RFC 5322, 2045–2047): ASCII, no line longer than it may be, and the same each time but for its date.
    fn letter(&self, written: &Written<'_>, now_ms: i64) -> String {
        let Written { id, first, subject, text, html } = written;
        let domain = self.from.rsplit('@').next().unwrap_or("localhost");
        let mut lines = vec![
            format!("Date: {}", date(now_ms)),
            format!("From: Countersign <{}>", self.from),
            format!("To: {}", self.to.join(",\r\n ")),
            format!("Subject: {}", words(subject)),
            format!("Message-ID: <{id}@{domain}>"),
        ];
        if let Some(first) = first {
            lines.push(format!("In-Reply-To: <{first}@{domain}>"));
            lines.push(format!("References: <{first}@{domain}>"));
        }
        // Nobody's holiday answers this.
        lines.push("Auto-Submitted: auto-generated".into());
        lines.push("MIME-Version: 1.0".into());
        // A full stop and an underscore are no base64: no part can hold the boundary.
        let boundary = format!("=_.{id}");
        lines.push(format!("Content-Type: multipart/alternative;\r\n boundary=\"{boundary}\""));
        lines.push(String::new());
        for (kind, part) in [("plain", text), ("html", html)] {
            lines.push(format!("--{boundary}"));
            lines.push(format!("Content-Type: text/{kind}; charset=utf-8"));
            lines.push("Content-Transfer-Encoding: base64".into());
            lines.push(String::new());
            lines.extend(part.as_bytes().chunks(LINE_BYTES).map(|line| STANDARD.encode(line)));
        }
        lines.push(format!("--{boundary}--"));
        lines.join("\r\n")
    }
}

/// Writes a time as letters have it, from `2026-12-01T01:23:45.678Z`.
fn date(now_ms: i64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = timestamp(now_ms).unwrap_or_default();
    let field = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let month = field(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
    format!("{} {} {} {} +0000", field(8, 10), month.unwrap_or(&"Jan"), field(0, 4), field(11, 19))
}

/// Writes a header's text as encoded words, each of whole characters (RFC 2047).
fn words(text: &str) -> String {
    let (mut words, mut word) = (Vec::new(), String::new());
    for c in text.chars() {
        if word.len().saturating_add(c.len_utf8()) > WORD_BYTES {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let encoded = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
    encoded.collect::<Vec<_>>().join("\r\n ")
}

/// Writes what somebody else wrote on one line, cut, and so that no reader makes a link of it.
fn unlinked(text: &str, chars_max: usize) -> String {
    let line = one_line(text);
    let mut cut: String = line.chars().take(chars_max).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    cut.replace("://", "[://]").replace("www.", "www[.]").replace("WWW.", "WWW[.]")
}

/// The lines of a letter, what others wrote unlinked.
fn lines(view: &View<'_>, happened: &str) -> Vec<String> {
    let mut lines = vec![format!("{happened}. {}", unlinked(&view.heading, CLAIM_CHARS_MAX))];
    lines.extend(view.facts.iter().map(|fact| unlinked(fact, CLAIM_CHARS_MAX)));
    lines.extend(view.claim.map(|claim| format!("The agent claims: {}", unlinked(claim, CLAIM_CHARS_MAX))));
    lines.extend(view.arguments.map(|text| format!("Arguments: {}", unlinked(text, usize::MAX))));
    lines
}

const HOW: &str = "Answer there, signed in. A reply to this letter answers nothing.";

fn plain(view: &View<'_>, happened: &str) -> String {
    format!("{}\r\n\r\n{}\r\n{HOW}\r\n", lines(view, happened).join("\r\n"), view.link)
}

fn html(view: &View<'_>, happened: &str) -> String {
    let lines: Vec<String> =
        lines(view, happened).iter().map(|line| format!("<p>{}</p>", escaped(line))).collect();
    let link = escaped(view.link);
    format!(
        "<!DOCTYPE html><html><body>{}<p><a href=\"{link}\">Look at the request</a><br>{link}</p><p>{HOW}</p></body></html>",
        lines.join("\r\n")
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_word_is_no_longer_than_it_may_be_and_has_whole_characters() {
        for text in ["", "a", &"ä€𝄞x".repeat(50), "a\r\nBcc: evil@example.com"] {
            let written = words(text);
            let read: Vec<u8> = written
                .split("\r\n ")
                .flat_map(|word| {
                    assert!(word.len() <= 75, "{word}");
                    let inner = word.strip_prefix("=?utf-8?B?").unwrap().strip_suffix("?=").unwrap();
                    let bytes = STANDARD.decode(inner).unwrap();
                    assert!(std::str::from_utf8(&bytes).is_ok(), "{word}");
                    bytes
                })
                .collect();
            assert_eq!(String::from_utf8(read).unwrap(), text);
            assert!(!written.replace("\r\n ", "").contains(['\r', '\n']));
        }
    }

    #[test]
    fn a_date_is_as_letters_have_it() {
        assert_eq!(date(1_796_088_225_678), "01 Dec 2026 01:23:45 +0000");
    }

    #[test]
    fn what_others_wrote_is_no_link_in_a_letter() {
        assert_eq!(
            unlinked("see https://evil.example\nor www.evil.example", 99),
            "see https[://]evil.example\\nor www[.]evil.example"
        );
        assert_eq!(unlinked(&"x".repeat(200), 150).chars().count(), 151);
        assert_eq!(escaped("<a href='x'>\"&"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;");
    }
}
