//! Talking to a running server, as whoever the key says.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use countersign_api::ProblemBody;
use countersign_app::{
    answer::{AnswerBody, RefusedBody},
    connection::KEPT,
};
use countersign_gate::Clock as _;
use countersign_rules::{Code, IdempotencyKey, Refusal};
use reqwest::{Method, RequestBuilder, StatusCode, header::CONTENT_TYPE};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use url::{Host, Url};

use super::{Failure, KEY_VARIABLE, Output, kept, load};
use crate::{
    clock::SystemClock,
    config::{Config, MAIN, SecretFault, SecretSource, read_file},
};

/// How long an answer may take; longer than a server waits for people.
const TIMEOUT: Duration = Duration::from_secs(660);

/// Which server, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Connect {
    /// The server's URL [default: what the folder's configuration says]
    #[arg(long, env = "COUNTERSIGN_URL", value_name = "URL")]
    server: Option<Url>,
    /// A file with your key, readable by you alone [default: the variable COUNTERSIGN_KEY, then what `countersign login`
    /// keeps for the server]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A PEM file with the certificates to trust instead of the machine's, where the server's is a private one
    #[arg(long, env = "COUNTERSIGN_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
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
    bytes: Vec<u8>,
}

impl Connect {
    /// A client for the server that is meant.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let (http, server, key) = self.parts(Some(TIMEOUT))?;
        Ok(Client { http, server, key })
    }

    /// What a conversation with the server that is meant needs: each request of it lasts so long at the most, or as long as it
    /// lasts.
    pub(super) fn parts(
        &self,
        timeout: Option<Duration>,
    ) -> Result<(reqwest::Client, Url, SecretString), Failure> {
        let (http, server) = self.unknown(timeout)?;
        let key = self.key(&server)?.0;
        Ok((http, server, key))
    }

    /// A client for the server that is meant, which presents this key.
    pub(super) fn presenting(&self, key: SecretString) -> Result<Client, Failure> {
        let (http, server) = self.unknown(Some(TIMEOUT))?;
        Ok(Client { http, server, key })
    }

    /// What a conversation with the server needs of somebody whom it does not know.
    #[expect(
        clippy::disallowed_methods,
        reason = "the command line's one client, for the one server it is told"
    )]
    pub(super) fn unknown(&self, timeout: Option<Duration>) -> Result<(reqwest::Client, Url), Failure> {
        let server = self.server()?;
        guarded(&server)?;
        // Beside a crowd a connection that was kept longer may be sent away under the next request, of which then nobody
        // knows whether it arrived.
        let mut plain = reqwest::Client::builder();
        if let Some(ca) = &self.ca {
            let trusted = countersign_tools::tls::authorities(ca).map_err(anyhow::Error::msg)?;
            let trusted = trusted.iter().map(|certificate| reqwest::Certificate::from_der(certificate));
            plain = plain.tls_certs_only(trusted.collect::<Result<Vec<_>, _>>()?);
        }
        let plain = plain.redirect(reqwest::redirect::Policy::none()).no_proxy().pool_idle_timeout(KEPT);
        let http = timeout.into_iter().fold(plain, reqwest::ClientBuilder::timeout).build()?;
        Ok((http, server))
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
        if let Some(ca) = &self.ca {
            flags.push_str(&format!(" --ca {}", quoted(ca)));
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
        address_of(&load(&self.dir)?)
    }

    /// The key to present to a server, with where it was found: what is said here, then the environment, then a sign-in.
    pub(super) fn key(&self, server: &Url) -> Result<(SecretString, String), Failure> {
        if let Some(path) = &self.key_file {
            return Ok((read_file(path, 0o077)?.trim().into(), format!("the file `{}`", path.display())));
        }
        let variable = SecretSource::Env(KEY_VARIABLE.into());
        match variable.read() {
            Ok(key) => return Ok((key, variable.to_string())),
            Err(SecretFault::NoVariable(_)) => {}
            Err(why) => return Err(why.into()),
        }
        let Some((path, kept)) = kept::read(server)? else {
            return Err(anyhow::anyhow!(
                "as whom? `countersign login` lets you act as yourself; or set `{KEY_VARIABLE}` to a key or give `--key-file FILE`: \
                 `countersign keys create` issues them"
            )
            .into());
        };
        if kept.is_over(SystemClock.now_ms()) {
            let message = format!("you were signed in at {server} as `{}`, and that is over", kept.person);
            return Err(anyhow::anyhow!("{message}: `countersign login`").into());
        }
        Ok((kept.secret.into(), format!("`countersign login`, in `{}`", path.display())))
    }
}

/// Where the server of a configuration is reached.
pub(super) fn address_of(config: &Config) -> Result<Url, Failure> {
    let listen = config.server.listen;
    match &config.server.public_url {
        Some(url) => Ok(url.clone()),
        // An address that means every address is reached at this machine's own.
        None if listen.ip().is_unspecified() => {
            Ok(format!("{}://127.0.0.1:{}", config.server.scheme(), listen.port()).parse()?)
        }
        None => Ok(format!("{}://{listen}", config.server.scheme()).parse()?),
    }
}

/// Says where people open the pages of the server that is reached at `address`: at this machine by its name, because browsers
/// make passkeys for names alone.
pub(super) fn for_browsers(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else { return address.to_owned() };
    let own = match url.host() {
        Some(Host::Ipv4(ip)) => ip == std::net::Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(ip)) => ip == std::net::Ipv6Addr::LOCALHOST,
        Some(Host::Domain(_)) | None => false,
    };
    // A certificate may be for the address alone.
    if own && url.scheme() == "http" && url.set_host(Some("localhost")).is_ok() {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    address.trim_end_matches('/').to_owned()
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
    /// Posts as nobody, where nobody is known yet.
    pub(super) async fn posted_by_nobody(
        http: &reqwest::Client,
        server: &Url,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<Reply, Failure> {
        let url: Url = format!("{}{path}", server.as_str().trim_end_matches('/')).parse()?;
        let request = http.post(url).header(CONTENT_TYPE, "application/json");
        sent(request.body(serde_json::to_string(body)?), server).await
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.reply(Method::GET, path).await?.told()
    }

    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.reply(Method::DELETE, path).await?.told()
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        self.posted(path, body, None).await?.told()
    }

    /// Asks, and gives back whatever is answered.
    pub(super) async fn reply(&self, method: Method, path: &str) -> Result<Reply, Failure> {
        self.sent(self.request(method, path)?).await
    }

    /// Posts, perhaps under an idempotency key, and gives back whatever is answered.
    pub(super) async fn posted(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
        key: Option<&IdempotencyKey>,
    ) -> Result<Reply, Failure> {
        let mut request = self.request(Method::POST, path)?;
        request = request.header(CONTENT_TYPE, "application/json").body(serde_json::to_string(body)?);
        if let Some(key) = key {
            let key = key.as_str().replace('\\', "\\\\").replace('"', "\\\"");
            request = request.header("Idempotency-Key", format!("\"{key}\""));
        }
        self.sent(request).await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Failure> {
        let base = self.server.as_str().trim_end_matches('/');
        let url: Url = format!("{base}{path}").parse()?;
        Ok(self.http.request(method, url).bearer_auth(self.key.expose_secret()))
    }

    async fn sent(&self, request: RequestBuilder) -> Result<Reply, Failure> {
        sent(request, &self.server).await
    }
}

async fn sent(request: RequestBuilder, server: &Url) -> Result<Reply, Failure> {
    let answer = request.send().await.map_err(|why| {
        anyhow::Error::new(why.without_url()).context(format!("no server answers at `{server}`"))
    })?;
    Ok(Reply { status: answer.status(), bytes: answer.bytes().await?.into() })
}

impl Reply {
    /// What is told, where it is no refusal.
    pub(super) fn told<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if self.status.is_success() { self.read() } else { Err(Failure::Refused(Box::new(self.refusal()))) }
    }

    /// The body, as the type that the server writes.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let told = serde_json::from_slice(&self.bytes);
        Ok(told.with_context(|| {
            format!(
                "the server answered {} with what this program cannot read: is it of another version?",
                self.status
            )
        })?)
    }

    /// The answer to a call, which was printed where JSON is wanted; what is no answer to a call is a refusal, and so is an
    /// answer without result where people read.
    pub(super) fn answer(&self, out: &Output) -> Result<AnswerBody, Failure> {
        if !self.status.is_success() && !out.json() {
            return Err(Failure::Refused(Box::new(self.refusal())));
        }
        match self.read() {
            Ok(answer) => {
                out.value(&answer);
                Ok(answer)
            }
            Err(_) if !self.status.is_success() => {
                out.value(&self.read::<ProblemBody>()?);
                Err(Failure::No)
            }
            Err(why) => Err(why),
        }
    }

    /// A problem, or an answer without result, as the refusal it was.
    pub(super) fn refusal(&self) -> Refusal {
        let refusal = |code: &str, message: String, help, retry_after_ms| {
            let known = Code::ALL.iter().find(|known| known.as_str() == code);
            let mut refusal = Refusal::new(*known.unwrap_or(&Code::Internal), message);
            (refusal.help, refusal.retry_after_ms) = (help, retry_after_ms);
            refusal
        };
        if let Ok(ProblemBody { code, detail, help, retry_after_ms, .. }) = self.read() {
            refusal(&code, detail, help, retry_after_ms)
        } else if let Ok(RefusedBody { code, message, help, retry_after_ms, .. }) = self.read() {
            refusal(&code, message, help, retry_after_ms)
        } else {
            Refusal::new(Code::Internal, format!("the server answered {}", self.status))
        }
    }
}

/// How an answer without result, which was printed, ends the command.
pub(super) fn unsuccessful(refused: &RefusedBody) -> Failure {
    match refused.status.as_str() {
        "failed" | "in_doubt" | "unknown" => Failure::Unsuccessful,
        _ => Failure::No,
    }
}

/// A text of an answer, for a cell of a table.
pub(super) fn cell(text: Option<impl ToString>) -> String {
    text.map_or_else(|| String::from("-"), |text| text.to_string())
}
