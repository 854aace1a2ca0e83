//! Talking to a running server, as whoever the key says.

use std::{path::PathBuf, time::Duration};

use countersign_rules::{Code, IdempotencyKey, Refusal};
use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::{Host, Url};

use super::{Failure, KEY_VARIABLE, load};
use crate::config::{MAIN, SecretSource, read_file};
use countersign_app::connection::KEPT;

/// How long an answer may take; longer than a server waits for people.
const TIMEOUT: Duration = Duration::from_secs(660);

/// Which server, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Connect {
    /// The server's URL [default: what the folder's configuration says]
    #[arg(long, env = "COUNTERSIGN_URL", value_name = "URL")]
    server: Option<Url>,
    /// A file with your key, readable by you alone [default: the variable COUNTERSIGN_KEY]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The configuration folder to find the server by
    #[arg(long, short = 'C', default_value = ".", value_name = "DIR", visible_alias = "folder")]
    dir: PathBuf,
}

/// A client with a credential.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    server: Url,
    key: SecretString,
}

/// What the server answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Connect {
    /// A client for the server that is meant.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let (http, server, key) = self.parts(Some(TIMEOUT))?;
        Ok(Client { http, server, key })
    }

    /// What a conversation with the server that is meant needs: each request of it lasts so long at the most, or as long as it
    /// lasts.
    #[expect(
        clippy::disallowed_methods,
        reason = "the command line's one client, for the one server it is told"
    )]
    pub(super) fn parts(
        &self,
        timeout: Option<Duration>,
    ) -> Result<(reqwest::Client, Url, SecretString), Failure> {
        let server = self.server()?;
        guarded(&server)?;
        // Beside a crowd a connection that was kept longer may be sent away under the next request, of which then nobody
        // knows whether it arrived.
        let plain = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_idle_timeout(KEPT);
        let http = timeout.into_iter().fold(plain, reqwest::ClientBuilder::timeout).build()?;
        Ok((http, server, self.key()?))
    }

    /// The configuration folder.
    pub(super) fn folder(&self) -> &std::path::Path {
        &self.dir
    }

    /// What a command line must say to reach the same server as the same person.
    pub(super) fn flags(&self) -> String {
        let quoted = |path: &std::path::Path| {
            let path = path.display().to_string();
            let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
            if plain { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
        };
        let mut flags = String::new();
        if self.dir != std::path::Path::new(".") {
            flags.push_str(&format!(" -C {}", quoted(&self.dir)));
        }
        if let Some(server) = &self.server {
            flags.push_str(&format!(" --server {server}"));
        }
        if let Some(file) = &self.key_file {
            flags.push_str(&format!(" --key-file {}", quoted(file)));
        }
        flags
    }

    fn server(&self) -> Result<Url, Failure> {
        if let Some(server) = &self.server {
            return Ok(server.clone());
        }
        if !self.dir.join(MAIN).exists() {
            return Err(anyhow::anyhow!(
                "which server? give `--server URL`, set `COUNTERSIGN_URL`, or name the configuration folder with `-C DIR`"
            )
            .into());
        }
        let config = load(&self.dir)?;
        let listen = config.server.listen;
        match config.server.public_url {
            Some(url) => Ok(url),
            // An address that means every address is reached at this machine's own.
            None if listen.ip().is_unspecified() => {
                Ok(format!("http://127.0.0.1:{}", listen.port()).parse()?)
            }
            None => Ok(format!("http://{listen}").parse()?),
        }
    }

    fn key(&self) -> Result<SecretString, Failure> {
        match &self.key_file {
            Some(path) => Ok(read_file(path, 0o077)?.trim().into()),
            None => SecretSource::Env(KEY_VARIABLE.into()).read().map_err(|_not_set| {
                anyhow::anyhow!(
                    "as whom? set `{KEY_VARIABLE}` to your key or give `--key-file FILE`; `countersign keys create` issues keys"
                )
                .into()
            }),
        }
    }
}

/// A key is sent only where nobody on the way can read it.
fn guarded(server: &Url) -> Result<(), Failure> {
    let loopback = match server.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if server.scheme() == "https" || server.scheme() == "http" && loopback {
        return Ok(());
    }
    Err(anyhow::anyhow!("`{server}` is not encrypted, and a key is sent to it: use `https`").into())
}

impl Client {
    /// Asks, and takes anything but success as a refusal.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let reply = self.reply(method, path, body).await?;
        if reply.status.is_success() {
            return Ok(reply.body);
        }
        Err(Failure::Refused(Box::new(refusal(&reply))))
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, None).await
    }

    /// Asks, and gives back whatever is answered.
    pub(super) async fn reply(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply, Failure> {
        self.reply_under(method, path, body, None).await
    }

    /// The same under an idempotency key.
    pub(super) async fn reply_under(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Reply, Failure> {
        let base = self.server.as_str().trim_end_matches('/');
        let url: Url = format!("{base}{path}").parse()?;
        let mut request = self.http.request(method, url).bearer_auth(self.key.expose_secret());
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        if let Some(key) = key {
            let key = key.as_str().replace('\\', "\\\\").replace('"', "\\\"");
            request = request.header("Idempotency-Key", format!("\"{key}\""));
        }
        let answer = request.send().await.map_err(|why| {
            anyhow::Error::new(why.without_url()).context(format!("no server answers at `{}`", self.server))
        })?;
        let status = answer.status();
        let bytes = answer.bytes().await?;
        // A receipt is text; everything else is JSON.
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_no_json| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Reply { status, body })
    }
}

/// A problem or an answer without result, as the refusal it was.
pub(super) fn refusal(reply: &Reply) -> Refusal {
    let text = |key: &str| reply.body.get(key).and_then(Value::as_str);
    let code = text("code").and_then(|code| Code::ALL.iter().find(|known| known.as_str() == code));
    let message = text("detail").or_else(|| text("message"));
    let message = message.map_or_else(|| format!("the server answered {}", reply.status), str::to_owned);
    let mut refusal = Refusal::new(*code.unwrap_or(&Code::Internal), message);
    refusal.help = text("help").map(str::to_owned);
    refusal.retry_after_ms = reply.body.get("retry_after_ms").and_then(Value::as_u64);
    refusal
}

/// How an answer that was printed, and is no success, ends the command.
pub(super) fn unsuccessful(reply: &Reply) -> Failure {
    match reply.body.get("status").and_then(Value::as_str) {
        Some("failed" | "in_doubt" | "unknown") => Failure::Unsuccessful,
        Some(_) | None => Failure::No,
    }
}

/// A text of an answer.
pub(super) fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => String::from("-"),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
