//! E-mail: what is written, to whom it is said, and what becomes of it when a relay does not take it. The relay is a stand-in on
//! loopback that speaks SMTP with STARTTLS and AUTH, and reads letters by its own means.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    deployment::PATIENCE,
    place::Place,
    server::{
        rig::{MAIN, Rig},
        tls::{Authority, acceptor},
    },
};

const PASSWORD: &str = "open-sesame-77";

/// What a relay does with the next connection instead of taking a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Take,
    /// Offers no STARTTLS.
    OffersNothing,
    /// Says something in plain text behind the reply to STARTTLS.
    Injects,
    /// Answers this to the address with this beginning.
    ToAddress(&'static str, &'static str),
    /// Answers this to the letter.
    ToLetter(&'static str),
    /// Answers nothing to the letter, which it takes.
    HangsAtEnd,
    /// Hangs up without an answer to the letter, which it takes.
    LosesAnswer,
    /// Says nothing at all.
    Hangs,
    /// Refuses the password, and repeats it.
    RefusesLogin,
}

/// A letter that was taken, to whom, and everything that was said in plain text before.
#[derive(Debug)]
struct Taken {
    to: Vec<String>,
    letter: String,
}

#[derive(Clone)]
struct Relay {
    tls: TlsAcceptor,
    does: Arc<Mutex<VecDeque<Does>>>,
    /// Every command, with whether it was encrypted.
    said: Arc<Mutex<Vec<(bool, String)>>>,
    taken: mpsc::UnboundedSender<Taken>,
}

struct FakeRelay {
    port: u16,
    ca: String,
    _folder: tempfile::TempDir,
    relay: Relay,
    taken: mpsc::UnboundedReceiver<Taken>,
}

impl FakeRelay {
    /// A relay with a certificate for this name.
    async fn new(name: &str, does: &[Does]) -> Self {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
        let ca = authority.file(folder.path(), "ca.pem").display().to_string();
        let (sender, taken) = mpsc::unbounded_channel();
        let relay = Relay {
            tls: acceptor(&authority.identity(&[name])),
            does: Arc::new(Mutex::new(does.iter().copied().collect())),
            said: Arc::default(),
            taken: sender,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = relay.clone();
        tokio::spawn(async move {
            while let Ok((stream, _from)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        Self { port, ca, _folder: folder, relay, taken }
    }

    fn channel(&self, name: &str, more: &str) -> String {
        format!(
            "\n[channel.{name}]\nkind = \"email\"\nhost = \"localhost\"\nport = {}\nuser = {{ file = \"user\" }}\n\
             password = {{ file = \"password\" }}\nfrom = \"countersign@example.com\"\nto = [\"lea@example.com\", \"max@example.com\"]\n\
             ca = \"{}\"\n{more}\n",
            self.port, self.ca
        )
    }

    async fn next(&mut self) -> Taken {
        tokio::time::timeout(PATIENCE, self.taken.recv()).await.unwrap().unwrap()
    }

    fn said(&self) -> Vec<(bool, String)> {
        self.relay.said.lock().unwrap().clone()
    }
}

async fn rig(more: &str) -> Rig {
    Rig::secretly(Place::sqlite(), more, &[("user", "sender-42"), ("password", PASSWORD)]).await
}

impl Relay {
    async fn serve(self, stream: tokio::net::TcpStream) {
        let does = self.does.lock().unwrap().pop_front().unwrap_or(Does::Take);
        if does == Does::Hangs {
            return std::future::pending().await;
        }
        let mut plain = BufReader::new(stream);
        say(&mut plain, "220 relay.example ESMTP\r\n").await;
        while let Some(line) = self.line(&mut plain, false).await {
            if line.starts_with("EHLO ") {
                let offer = if does == Does::OffersNothing { "250-AUTH PLAIN" } else { "250-STARTTLS" };
                say(&mut plain, &format!("250-relay.example\r\n{offer}\r\n250 HELP\r\n")).await;
            } else if line == "STARTTLS" {
                let more = if does == Does::Injects { "250-relay.example\r\n250 AUTH PLAIN\r\n" } else { "" };
                say(&mut plain, &format!("220 go on\r\n{more}")).await;
                let Ok(stream) = self.tls.accept(plain.into_inner()).await else { return };
                return self.talk(BufReader::new(stream), does).await;
            } else {
                say(&mut plain, "530 STARTTLS first\r\n").await;
            }
        }
    }

    async fn line(&self, stream: &mut (impl AsyncBufRead + Unpin), encrypted: bool) -> Option<String> {
        let mut line = String::new();
        let read = stream.read_line(&mut line).await.ok()?;
        let line = line.trim_end_matches("\r\n").to_owned();
        self.said.lock().unwrap().push((encrypted, line.clone()));
        (read > 0).then_some(line)
    }

    async fn talk(self, mut stream: BufReader<impl AsyncRead + AsyncWrite + Unpin>, does: Does) {
        let (mut to, mut known) = (Vec::new(), false);
        while let Some(line) = self.line(&mut stream, true).await {
            if line.starts_with("EHLO ") {
                say(&mut stream, "250-relay.example\r\n250-AUTH LOGIN PLAIN\r\n250 8BITMIME\r\n").await;
            } else if let Some(both) = line.strip_prefix("AUTH PLAIN ") {
                if does == Does::RefusesLogin {
                    say(&mut stream, &format!("535 no such {both} for {PASSWORD}\r\n")).await;
                    continue;
                }
                let both = STANDARD.decode(both).unwrap();
                known = both == format!("\0sender-42\0{PASSWORD}").as_bytes();
                say(&mut stream, if known { "235 welcome\r\n" } else { "535 no\r\n" }).await;
            } else if line.starts_with("MAIL FROM:<countersign@example.com>") && known {
                say(&mut stream, "250 ok\r\n").await;
            } else if let Some(address) = line.strip_prefix("RCPT TO:") {
                let address = address.trim_matches(['<', '>']).to_owned();
                if let Does::ToAddress(beginning, answer) = does
                    && address.starts_with(beginning)
                {
                    say(&mut stream, &format!("{answer}\r\n")).await;
                } else {
                    to.push(address);
                    say(&mut stream, "250 ok\r\n").await;
                }
            } else if line == "DATA" {
                say(&mut stream, "354 go on\r\n").await;
                let mut letter = String::new();
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                        return;
                    }
                    if line == ".\r\n" {
                        break;
                    }
                    assert!(line.ends_with("\r\n") && line.is_ascii() && line.len() <= 998, "{line:?}");
                    letter.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                if let Does::ToLetter(answer) = does {
                    say(&mut stream, &format!("{answer}\r\n")).await;
                    continue;
                }
                self.taken.send(Taken { to: std::mem::take(&mut to), letter }).ok();
                if does == Does::HangsAtEnd {
                    return std::future::pending().await;
                }
                if does == Does::LosesAnswer {
                    return;
                }
                say(&mut stream, "250 taken\r\n").await;
            } else {
                say(&mut stream, "221 bye\r\n").await;
                return;
            }
        }
    }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.ok();
    stream.flush().await.ok();
}

/// A letter as a reader has it: its headers in order, and its parts.
struct Read {
    headers: Vec<(String, String)>,
    text: String,
    html: String,
}

impl Read {
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "`{name}` twice");
        first
    }
}

fn read(letter: &str) -> Read {
    let (head, body) = letter.split_once("\r\n\r\n").unwrap();
    let unfolded = head.replace("\r\n ", " ");
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    let headers: Vec<_> = unfolded.split("\r\n").map(header).collect();
    let kind = &headers.iter().find(|(name, _)| name == "Content-Type").unwrap().1;
    let boundary = format!("--{}", kind.split("boundary=\"").nth(1).unwrap().trim_end_matches('"'));
    let parts: Vec<&str> = body.split(boundary.as_str()).collect();
    assert_eq!((parts.len(), parts[0], parts[3].trim_end()), (4, "", "--"), "{body}");
    let part = |part: &str, kind: &str| {
        let (head, body) = part.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("text/{kind}; charset=utf-8")) && head.contains("base64"), "{head}");
        let bytes = body.split("\r\n").flat_map(|line| STANDARD.decode(line).unwrap()).collect();
        String::from_utf8(bytes).unwrap()
    };
    Read { text: part(parts[1], "plain"), html: part(parts[2], "html"), headers }
}

/// Reads the encoded words of a header.
fn decoded(value: &str) -> String {
    let word = |word: &str| {
        let inner = word.strip_prefix("=?utf-8?B?").unwrap().strip_suffix("?=").unwrap();
        STANDARD.decode(inner).unwrap()
    };
    String::from_utf8(value.split(' ').flat_map(word).collect()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn news_of_a_request_are_letters_of_one_thread_and_no_letter_answers() {
    let mut relay = FakeRelay::new("localhost", &[]).await;
    let rig = rig(&relay.channel("mail", "")).await;
    let reason =
        "ü\r\nBcc: evil@example.com\r\n\r\n.\r\nMAIL FROM:<x@y>\r\n<b>https://evil.example/approve</b>";
    let approval = rig.ask("add_item", json!({ "name": "QUINCE", "_reason": reason })).await;
    let asked = relay.next().await;
    assert_eq!(asked.to, ["lea@example.com", "max@example.com"]);
    let letter = read(&asked.letter);
    let names: Vec<&str> = letter.headers.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["Date", "From", "To", "Subject", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"];
    assert_eq!(names, expected);
    assert_eq!(letter.header("To"), Some("lea@example.com, max@example.com"));
    let first = format!("<{approval}.mail.0@example.com>");
    assert_eq!(letter.header("Message-ID"), Some(first.as_str()));
    let subject = decoded(letter.header("Subject").unwrap());
    assert_eq!(subject, format!("clerk asks for add_item on shop (production) [{approval}]"));
    let claim = letter.text.lines().find(|line| line.starts_with("The agent claims: ")).unwrap();
    assert!(
        claim.ends_with("https[://]evil.example/approve</b>") && claim.contains("\\r\\nBcc: evil"),
        "{claim}"
    );
    assert!(
        letter.html.contains("&lt;b&gt;https[://]evil.example") && !letter.html.contains("<b>"),
        "{}",
        letter.html
    );
    for text in [&letter.text, &letter.html] {
        assert!(!text.contains("QUINCE") && !text.contains(PASSWORD), "{text}");
    }

    // Opening the link answers nothing, whoever or whatever opens it.
    let link = letter.text.lines().find(|line| line.starts_with("http")).unwrap();
    let (_, path) = link.split_once("/console/").unwrap();
    let path = &format!("/console/{path}");
    assert!(path.ends_with(&approval), "{link}");
    for method in [Method::GET, Method::HEAD] {
        rig.request("", method, path).send().await.unwrap();
    }
    let (_, shown) = rig.get("alice", &format!("/v1/approvals/{approval}")).await;
    assert_eq!((&shown["state"], &shown["signatures"]), (&json!("waiting"), &json!([])), "{shown}");

    rig.post("alice", &format!("/v1/approvals/{approval}/approve"), json!({})).await;
    for (number, state) in [(1, "Answered. "), (2, "Over. ")] {
        let letter = read(&relay.next().await.letter);
        assert_eq!(
            letter.header("Message-ID"),
            Some(format!("<{approval}.mail.{number}@example.com>").as_str())
        );
        assert_eq!(
            (letter.header("References"), letter.header("In-Reply-To")),
            (Some(first.as_str()), Some(first.as_str()))
        );
        assert_eq!(decoded(letter.header("Subject").unwrap()), format!("Re: {subject}"));
        assert!(
            letter.text.starts_with(state) && letter.text.contains("Approved by alice"),
            "{}",
            letter.text
        );
    }
    // Nothing but the greeting went in plain text.
    for (encrypted, line) in relay.said() {
        assert!(encrypted || line.starts_with("EHLO [127.0.0.1]") || line == "STARTTLS", "{line}");
    }
    rig.request("alice", Method::POST, "/v1/channels/mail/test").send().await.unwrap();
    let test = read(&relay.next().await.letter);
    assert_eq!(decoded(test.header("Subject").unwrap()), "Countersign: a test");
    assert!(relay.taken.try_recv().is_err(), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_cannot_be_trusted_is_told_nothing() {
    let relays = [
        ("plain", FakeRelay::new("localhost", &[Does::OffersNothing]).await, "offers no STARTTLS"),
        ("injects", FakeRelay::new("localhost", &[Does::Injects]).await, "in plain text behind STARTTLS"),
        ("named", FakeRelay::new("mail.example", &[]).await, "not valid for name"),
        ("unknown", FakeRelay::new("localhost", &[]).await, "invalid peer certificate"),
    ];
    let other = FakeRelay::new("localhost", &[]).await;
    let channels = relays.iter().map(|(name, relay, _)| {
        let channel = relay.channel(name, "");
        if *name == "unknown" { channel.replace(&relay.ca, &other.ca) } else { channel }
    });
    let rig = rig(&channels.collect::<String>()).await;
    for (name, relay, words) in &relays {
        let (status, body) = rig.post("alice", &format!("/v1/channels/{name}/test"), json!({})).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY);
        assert!(body["detail"].as_str().unwrap().contains(words), "{name}: {body}");
        for (_, line) in relay.said() {
            assert!(line.is_empty() || line == "STARTTLS" || line.starts_with("EHLO ["), "{name}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_says_decides_whether_a_letter_is_sent_again() {
    let does = [
        Does::Hangs,
        Does::ToAddress("max@", "451 4.7.1 greylisted, come back later"),
        Does::LosesAnswer,
        Does::HangsAtEnd,
        Does::RefusesLogin,
    ];
    let mut relay = FakeRelay::new("localhost", &does).await;
    let rig = rig(&relay.channel("mail", "timeout_ms = 700")).await;
    let approval = rig.ask("add_item", json!({ "name": "quince" })).await;
    // Twice nobody knows whether it arrived: then it comes again, as the same letter.
    for _ in 0..2 {
        let id = format!("<{approval}.mail.0@example.com>");
        assert_eq!(read(&relay.next().await.letter).header("Message-ID"), Some(id.as_str()));
    }
    let why = loop {
        let (_, body) = rig.get("alice", "/v1/channels").await;
        if let Some(why) = body["channels"][0]["why"].as_str().filter(|why| why.contains("535")) {
            break why.to_owned();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(why, "it says 535 no such … for …");
    assert_eq!(relay.relay.does.lock().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_never_taken_is_given_up_and_one_bad_address_keeps_nobody_from_it() {
    let does = [Does::ToAddress("max@", "550 5.1.1 nobody\u{1b}[2J here"), Does::ToLetter("554 5.7.1 spam")];
    let mut relay = FakeRelay::new("localhost", &does).await;
    let rig = rig(&relay.channel("mail", "")).await;
    rig.ask("add_item", json!({ "name": "a" })).await;
    assert_eq!(relay.next().await.to, ["lea@example.com"]);
    let second = rig.ask("add_item", json!({ "name": "b" })).await;
    let given_up = loop {
        let (_, body) = rig.get("alice", "/v1/channels/mail/given-up").await;
        if body["given_up"] != json!([]) {
            break body["given_up"].clone();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        (&given_up[0]["approval"], &given_up[0]["why"]),
        (&json!(second), &json!("it says 554 5.7.1 spam")),
        "{given_up}"
    );
    // Somebody has spoken with those who run the relay.
    rig.post("alice", "/v1/channels/mail/retry", json!({ "approval": second })).await;
    assert!(read(&relay.next().await.letter).header("Message-ID").unwrap().contains(&second));
}

#[test]
fn a_mail_channel_that_would_speak_in_plain_text_is_a_mistake() {
    let mistakes = |lines: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("countersign.toml"), format!("{MAIN}{lines}")).unwrap();
        let found = countersign::config::Config::load(folder.path()).err();
        found.into_iter().flat_map(|found| found.mistakes).map(|one| one.message).collect::<Vec<_>>()
    };
    let lines = |host: &str, from: &str, to: &str, more: &str| {
        format!(
            "\n[channel.mail]\nkind = \"email\"\nhost = \"{host}\"\nfrom = {}\nto = {to}\n{more}",
            Value::from(from)
        )
    };
    let (host, from, to) = ("smtp.example.com", "a@example.com", "[\"b@example.com\"]");
    assert_eq!(mistakes(&lines(host, from, to, "")), Vec::<String>::new());
    assert_eq!(mistakes(&lines("127.0.0.1", from, to, "tls = \"none\"")), Vec::<String>::new());
    for (text, words) in [
        (lines(host, from, to, "tls = \"none\""), "in plain text"),
        (lines("127.0.0.1.example.com", from, to, "tls = \"none\""), "in plain text"),
        (lines(host, from, to, "user = { env = \"X\" }"), "stands without the other"),
        (lines(host, from, "[]", ""), "`to` names 0 addresses"),
        (lines(host, "a@b.example>\r\nRCPT TO:<c", to, ""), "no address of e-mail"),
        (lines(host, "Lea <a@example.com>", to, ""), "no address of e-mail"),
        (lines(host, from, "[\"lea@ex\u{e4}mple.com\"]", ""), "no address of e-mail"),
        (lines(host, from, to, "password = \"secret\""), "secret"),
    ] {
        let found = mistakes(&text);
        assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
    }
}
