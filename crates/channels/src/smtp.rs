//! What of SMTP is needed to hand one letter to a relay: RFC 5321, with STARTTLS (RFC 3207) or TLS from the beginning (RFC 8314),
//! and AUTH PLAIN or LOGIN (RFC 4954).
//!
//! Nothing but the greeting goes in plain text, except to this very machine where the configuration says so. What arrived before
//! TLS counts no more behind it.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_app::text::one_line;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

/// No line of a reply is longer, and no reply has more lines.
const LINE_BYTES_MAX: u64 = 2_048;
const LINES_MAX: usize = 64;
/// So many characters of a reply are kept.
const SAID_CHARS_MAX: usize = 200;

/// How a relay is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// TLS begins after a greeting in plain text. A relay that does not offer it is told nothing.
    StartTls,
    /// TLS is there from the beginning.
    Implicit,
    /// There is none, which only this machine's own relay may be spoken to with.
    None,
}

/// A user of a relay, and the password.
pub(crate) struct Login {
    pub(crate) user: SecretString,
    pub(crate) password: SecretString,
}

/// A relay.
pub(crate) struct Relay<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) encryption: Encryption,
    pub(crate) trust: &'a Arc<ClientConfig>,
    pub(crate) login: Option<Login>,
}

/// A letter as it is handed over: lines that end in CR and LF.
pub(crate) struct Letter<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a [String],
    pub(crate) text: &'a str,
}

/// A letter was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// It may be taken later, or nobody knows.
    Later(String),
    /// It never will be.
    Never(String),
}

/// What is said is about the connection, which somebody may mend, or about this very letter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Connection,
    Letter,
}

impl Relay<'_> {
    /// Hands over a letter. Where some addresses are not accepted and `some` is true, those get it that are; returns the others,
    /// each with why not.
    pub(crate) async fn send(&self, letter: &Letter<'_>, some: bool) -> Result<Vec<String>, NotTaken> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, self.port)).await.map_err(unreachable)?;
        let (here, there) = (tcp.local_addr().map_err(unreachable)?, tcp.peer_addr().map_err(unreachable)?);
        let me = literal(here);
        match self.encryption {
            Encryption::None if !there.ip().to_canonical().is_loopback() => Err(NotTaken::Later(format!(
                "`{}` is not this machine, and nothing goes there in plain text",
                self.host
            ))),
            Encryption::None => {
                let mut dialogue = self.dialogue(tcp);
                dialogue.greeting().await?;
                let offers = dialogue.hello(&me).await?;
                dialogue.hand_over(&offers, letter, some).await
            }
            Encryption::Implicit => {
                let mut dialogue = self.dialogue(self.encrypted(host, tcp).await?);
                dialogue.greeting().await?;
                let offers = dialogue.hello(&me).await?;
                dialogue.hand_over(&offers, letter, some).await
            }
            Encryption::StartTls => {
                let mut plain = self.dialogue(tcp);
                plain.greeting().await?;
                if !plain.hello(&me).await?.iter().any(|offer| offer == "STARTTLS") {
                    return Err(NotTaken::Later(
                        "it offers no STARTTLS, and nothing goes there in plain text".into(),
                    ));
                }
                plain.ask("STARTTLS", &[220], About::Connection).await?;
                // What came behind the reply was not encrypted: somebody in between may have put it there.
                if !plain.stream.buffer().is_empty() {
                    return Err(NotTaken::Later("something was said in plain text behind STARTTLS".into()));
                }
                let mut dialogue = self.dialogue(self.encrypted(host, plain.stream.into_inner()).await?);
                let offers = dialogue.hello(&me).await?;
                dialogue.hand_over(&offers, letter, some).await
            }
        }
    }

    fn dialogue<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Dialogue<'_, S> {
        Dialogue { stream: BufReader::new(stream), login: self.login.as_ref() }
    }

    async fn encrypted(
        &self,
        host: &str,
        tcp: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, NotTaken> {
        let name = ServerName::try_from(host.to_owned()).map_err(|why| NotTaken::Later(why.to_string()))?;
        TlsConnector::from(Arc::clone(self.trust)).connect(name, tcp).await.map_err(unreachable)
    }
}

fn unreachable(why: impl Display) -> NotTaken {
    NotTaken::Later(format!("it cannot be reached: {}", one_line(&why.to_string())))
}

/// Names an address of ours: who has no name says where it is (RFC 5321, 4.1.3).
fn literal(here: SocketAddr) -> String {
    match here {
        SocketAddr::V4(v4) => format!("[{}]", v4.ip()),
        SocketAddr::V6(v6) => format!("[IPv6:{}]", v6.ip()),
    }
}

/// A dialogue with a relay.
struct Dialogue<'a, S> {
    stream: BufReader<S>,
    login: Option<&'a Login>,
}

struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<'_, S> {
    async fn greeting(&mut self) -> Result<(), NotTaken> {
        let reply = self.reply().await?;
        self.expect(&reply, &[220], About::Connection)
    }

    /// Says hello, and returns what is offered.
    async fn hello(&mut self, me: &str) -> Result<Vec<String>, NotTaken> {
        let reply = self.ask(&format!("EHLO {me}"), &[250], About::Connection).await?;
        Ok(reply.lines.into_iter().skip(1).map(|line| line.to_ascii_uppercase()).collect())
    }

    async fn hand_over(
        &mut self,
        offers: &[String],
        letter: &Letter<'_>,
        some: bool,
    ) -> Result<Vec<String>, NotTaken> {
        self.log_in(offers).await?;
        self.ask(&format!("MAIL FROM:<{}>", letter.from), &[250], About::Letter).await?;
        let (mut refused, mut later, mut accepted) = (Vec::new(), None, 0_usize);
        for address in letter.to {
            match self.ask(&format!("RCPT TO:<{address}>"), &[250, 251], About::Letter).await {
                Ok(_reply) => accepted = accepted.saturating_add(1),
                Err(NotTaken::Never(why)) => refused.push(format!("{address}: {why}")),
                Err(NotTaken::Later(why)) => {
                    refused.push(format!("{address}: {why}"));
                    later = Some(why);
                }
            }
        }
        match later {
            Some(why) if accepted == 0 || !some => return Err(NotTaken::Later(why)),
            None if accepted == 0 => {
                return Err(NotTaken::Never(
                    refused.into_iter().next().unwrap_or_else(|| "nobody is named".into()),
                ));
            }
            Some(_) | None => {}
        }
        self.ask("DATA", &[354], About::Letter).await?;
        self.write(&format!("{}\r\n.\r\n", stuffed(letter.text))).await?;
        let reply = self.reply().await?;
        self.expect(&reply, &[250], About::Letter)?;
        // It has the letter: whether it says goodbye is all the same.
        drop(self.write("QUIT\r\n").await);
        Ok(refused)
    }

    async fn log_in(&mut self, offers: &[String]) -> Result<(), NotTaken> {
        let Some(Login { user, password }) = self.login else { return Ok(()) };
        let offer = offers.iter().find_map(|offer| offer.strip_prefix("AUTH ")).unwrap_or_default();
        let has = |mechanism: &str| offer.split_ascii_whitespace().any(|word| word == mechanism);
        let (user, password) = (user.expose_secret(), password.expose_secret());
        if has("PLAIN") {
            let both = STANDARD.encode(format!("\0{user}\0{password}"));
            self.ask(&format!("AUTH PLAIN {both}"), &[235], About::Connection).await?;
        } else if has("LOGIN") {
            self.ask("AUTH LOGIN", &[334], About::Connection).await?;
            self.ask(&STANDARD.encode(user), &[334], About::Connection).await?;
            self.ask(&STANDARD.encode(password), &[235], About::Connection).await?;
        } else {
            return Err(NotTaken::Later("it offers neither AUTH PLAIN nor AUTH LOGIN".into()));
        }
        Ok(())
    }

    async fn ask(&mut self, command: &str, good: &[u16], about: About) -> Result<Reply, NotTaken> {
        self.write(&format!("{command}\r\n")).await?;
        let reply = self.reply().await?;
        self.expect(&reply, good, about)?;
        Ok(reply)
    }

    fn expect(&self, reply: &Reply, good: &[u16], about: About) -> Result<(), NotTaken> {
        if good.contains(&reply.code) {
            return Ok(());
        }
        let why = format!("it says {} {}", reply.code, self.scrubbed(&reply.lines.join(" ")));
        let never = about == About::Letter && (500..600).contains(&reply.code);
        Err(if never { NotTaken::Never(why) } else { NotTaken::Later(why) })
    }

    /// Writes what a relay said so that it may be kept: on a line, not long, and without what it was told in confidence.
    fn scrubbed(&self, said: &str) -> String {
        let mut said = said.to_owned();
        if let Some(Login { user, password }) = self.login {
            let (user, password) = (user.expose_secret(), password.expose_secret());
            let both = STANDARD.encode(format!("\0{user}\0{password}"));
            for secret in [&both, &STANDARD.encode(password), &STANDARD.encode(user), password, user] {
                said = said.replace(secret, "…");
            }
        }
        one_line(&said).chars().take(SAID_CHARS_MAX).collect()
    }

    async fn write(&mut self, text: &str) -> Result<(), NotTaken> {
        let stream = self.stream.get_mut();
        stream.write_all(text.as_bytes()).await.map_err(unreachable)?;
        stream.flush().await.map_err(unreachable)
    }

    async fn reply(&mut self) -> Result<Reply, NotTaken> {
        let no_reply = |why: &str| NotTaken::Later(format!("it answers in no form of SMTP: {why}"));
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut self.stream).take(LINE_BYTES_MAX);
            limited.read_until(b'\n', &mut line).await.map_err(unreachable)?;
            if line.is_empty() {
                return Err(NotTaken::Later("it hung up".into()));
            }
            if line.last() != Some(&b'\n') {
                return Err(no_reply("a line is too long, or cut"));
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            let code = line.get(..3).filter(|code| code.bytes().all(|digit| digit.is_ascii_digit()));
            let code: u16 =
                code.and_then(|code| code.parse().ok()).ok_or_else(|| no_reply("a line has no code"))?;
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            match line.get(3..4) {
                None | Some(" ") => return Ok(Reply { code, lines }),
                Some("-") if lines.len() < LINES_MAX => {}
                Some(_) => return Err(no_reply("a line goes on in no way that is known")),
            }
        }
    }
}

/// A line that begins with a full stop would end the letter.
fn stuffed(text: &str) -> String {
    let stuffed = text.replace("\r\n.", "\r\n..");
    if stuffed.starts_with('.') { format!(".{stuffed}") } else { stuffed }
}
