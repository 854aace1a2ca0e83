//! A server: everything wired together, listening, and stopping without losing anything.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use countersign_api::{self as api, Api, Problem};
use countersign_app::{
    App,
    auth::{Authenticator, PasskeySite},
    credential,
    offer::Offer,
    worker::Worker,
};
use countersign_audit::{canonical::canonical_digest, sha256};
use countersign_channels::{Channel, Channels};
use countersign_console::{self as console, Console};
use countersign_gate::{Clock, Entropy, Gate, Ledger as _, NewEntry, Settings, Vault, ledger::LedgerFault};
use countersign_mcp as mcp;
use countersign_rules::{ChannelName, Code, ProviderName, Refusal, SystemName, ToolName};
use countersign_store::{Found, Opening, Options, Store, StoreError};
use countersign_tools::{
    Systems,
    definition::{DefinitionError, SystemDefinition, Target},
};
use http::{HeaderMap, StatusCode, header};
use secrecy::ExposeSecret as _;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    bundle::Bundle,
    channels,
    clock::{OsEntropy, SystemClock, random},
    config::{Config, Mistakes, SecretFault, StorePlace},
    descriptors,
    entry::Configured,
    listener,
    log_key::{self, LogKey, LogKeyError},
    providers,
    tls::Certificates,
    vault::ConfigVault,
};

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not hold together.
    #[error("the configuration cannot be served")]
    Config(#[source] Box<Mistakes>),
    /// The log cannot be signed.
    #[error("the log cannot be signed")]
    LogKey(#[from] LogKeyError),
    /// The ledger cannot be opened.
    #[error("the ledger cannot be opened")]
    Store(#[from] StoreError),
    /// The ledger is in the database of a system.
    #[error(
        "the ledger and system `{0}` are in the same database, whatever their URLs say: agents would write into it. Give the ledger a \
         database of its own (`CREATE DATABASE countersign`), and an account that no system has"
    )]
    SameDatabase(SystemName),
    /// The systems do not hold together.
    #[error("the systems cannot be compared with the ledger: {}", list(.0))]
    Systems(Vec<DefinitionError>),
    /// A secret cannot be read.
    #[error("the ledger's URL cannot be read")]
    Secret(#[from] SecretFault),
    /// The ledger cannot be written.
    #[error("the start cannot be recorded")]
    Ledger(#[from] LedgerFault),
    /// A folder for what a start makes is not there.
    #[error("there is no folder `{}` for the log's key or the ledger", .0.display())]
    NoFolder(PathBuf),
    /// The client for the issuer's keys cannot be made.
    #[error("the client for the issuer's keys cannot be made: {0}")]
    Client(String),
    /// Nobody can sign in by a provider.
    #[error("provider `{0}` cannot be used: {1}")]
    Provider(ProviderName, String),
    /// A channel cannot be told anything.
    #[error("channel `{0}` cannot be used: {1}")]
    Channel(ChannelName, String),
    /// TLS cannot be spoken.
    #[error("TLS cannot be spoken: {0}")]
    Tls(String),
    /// There are too few file descriptors for any connection.
    #[error(transparent)]
    Descriptors(#[from] descriptors::TooFewDescriptors),
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

fn list(errors: &[DefinitionError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    /// The application.
    pub app: Arc<App>,
    /// Where it listens.
    pub address: SocketAddr,
    /// How people and clients name it.
    pub public: String,
    /// How the MCP front door behaves.
    pub mcp: mcp::Settings,
    systems: Systems,
    stopping: CancellationToken,
    shutdown: Duration,
    listening: JoinHandle<()>,
    working: JoinHandle<()>,
    telling: JoinHandle<()>,
}

/// How the ledger of a configuration is opened.
pub(crate) fn store_options(config: &Config) -> Options {
    let defaults = Options::default();
    let (readers, postgres_ca) = match &config.store.place {
        StorePlace::Sqlite(_) => (defaults.readers, None),
        StorePlace::Postgres { connections_max, ca, .. } => (*connections_max, ca.clone()),
    };
    Options {
        readers,
        postgres_ca,
        queue_timeout: config.store.timeout,
        statement_timeout: config.store.timeout,
        lock_timeout: config.store.timeout,
        checkpoint: Some(config.log.checkpoint.clone()),
        witnesses: config.log.witnesses.clone(),
        keys_kept: config.limits.idempotency,
        telling: channels::telling(config),
        ..defaults
    }
}

/// Opens the ledger of a configuration.
///
/// # Errors
/// [`StartError::Store`], among others when another process has it open.
pub async fn open_store(config: &Config, key: LogKey) -> Result<Store, StartError> {
    open_store_as(config, key, Opening::Known).await
}

/// As [`open_store`], taking this for granted of it.
pub(crate) async fn open_store_as(
    config: &Config,
    key: LogKey,
    opening: Opening,
) -> Result<Store, StartError> {
    let options = Options { opening, ..store_options(config) };
    match &config.store.place {
        StorePlace::Sqlite(path) => Ok(Store::open_sqlite(path, key.signing, &options)?),
        StorePlace::Postgres { url, .. } => {
            Ok(Store::open_postgres(url.read()?.expose_secret(), key.signing, &options).await?)
        }
    }
}

/// Compares the ledger's database on PostgreSQL with those of the systems, by what the servers themselves know: aliases, ports,
/// proxies and accounts hide nothing. A system that is away is compared when it is back, and then by what it holds: the tools
/// use no database that keeps a ledger. Makes nothing. Files are compared when the configuration is read.
///
/// # Errors
/// [`StartError::SameDatabase`]; others where the ledger's database cannot be asked.
async fn apart(config: &Config) -> Result<(), StartError> {
    let StorePlace::Postgres { url, .. } = &config.store.place else { return Ok(()) };
    let databases = config.systems.values().map(|system| &system.definition);
    let databases: Vec<_> =
        databases.filter(|system| matches!(system.target, Target::Postgres(_))).cloned().collect();
    if databases.is_empty() {
        return Ok(());
    }
    let vault: Arc<dyn Vault> = Arc::new(ConfigVault::new(config));
    let systems = Systems::new(&databases, &vault).map_err(StartError::Systems)?;
    let lock = i64::from_be_bytes(random());
    let held = Store::hold_postgres(url.read()?.expose_secret(), &store_options(config), lock).await?;
    for SystemDefinition { spec, .. } in &databases {
        match systems.is_locked(&spec.name, &Gate::<Store>::review(&spec.name), lock).await {
            Ok(true) => return Err(StartError::SameDatabase(spec.name.clone())),
            Ok(false) => held.was_held().await?,
            Err(why) => {
                tracing::warn!(system = %spec.name, %why, "not compared with the ledger's database yet")
            }
        }
    }
    Ok(())
}

/// Reads the log's key, and makes one for a ledger that is to begin. Where there is a log already, nothing is made: no
/// other key is of use to it. Nor is anything made, or a ledger opened with it, where that is a system's database.
///
/// # Errors
/// [`StartError`].
pub(crate) async fn ledger_key(config: &Config) -> Result<LogKey, StartError> {
    apart(config).await?;
    match known_key(config).await? {
        Some(key) => Ok(key),
        None => Ok(log_key::read_or_create(&config.log.key, &config.log.origin)?),
    }
}

/// The log's key; `None` where there is none and a log may begin with a new one.
async fn known_key(config: &Config) -> Result<Option<LogKey>, StartError> {
    let path = &config.log.key;
    if path.exists() {
        return Ok(Some(log_key::read(path, &config.log.origin)?));
    }
    let options = store_options(config);
    let signer = match &config.store.place {
        StorePlace::Sqlite(path) => Store::signer_sqlite(path, &options)?,
        StorePlace::Postgres { url, .. } => {
            Store::signer_postgres(url.read()?.expose_secret(), &options).await?
        }
    };
    let kept = config.log.checkpoint.exists().then(|| config.log.checkpoint.display().to_string());
    match signer.or(kept) {
        Some(evidence) => Err(LogKeyError::Lost { path: path.display().to_string(), evidence }.into()),
        None => Ok(None),
    }
}

/// Looks at the log's key and the ledger as a start does, and changes nothing.
///
/// # Errors
/// Why a start would fail for the sake of them.
pub(crate) async fn look_at_ledger(config: &Config) -> Result<Found, StartError> {
    let folder = match &config.store.place {
        StorePlace::Sqlite(path) => path.parent(),
        StorePlace::Postgres { .. } => None,
    };
    for folder in config.log.key.parent().into_iter().chain(folder) {
        // A bare file name stands in the folder that one is in.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if !folder.is_dir() {
            return Err(StartError::NoFolder(folder.to_owned()));
        }
    }
    apart(config).await?;
    let Some(key) = known_key(config).await? else { return Ok(Found::Nothing) };
    let (key, options) = (key.signing.verifier(), store_options(config));
    let found = match &config.store.place {
        StorePlace::Sqlite(path) => Store::look_sqlite(path, &key, &options).await,
        StorePlace::Postgres { url, .. } => {
            Store::look_postgres(url.read()?.expose_secret(), &key, &options).await
        }
    };
    Ok(found?)
}

/// Starts a server.
///
/// # Errors
/// [`StartError`]; then nothing listens and nothing was done.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let vault: Arc<dyn Vault> = Arc::new(ConfigVault::new(&config));
    let bundle = Bundle::new(&config, &vault).map_err(|why| StartError::Config(Box::new(why)))?;
    let connections_max = descriptors::connections(&config)?;
    let channels = channels::made(&config)?;
    let tls = config.server.tls.as_ref().map(Certificates::open).transpose().map_err(StartError::Tls)?;
    // Before anything is made or recorded: a start that cannot be leaves no trace.
    let listen = config.server.listen;
    let listener =
        TcpListener::bind(listen).await.map_err(|source| StartError::Listen { address: listen, source })?;
    let address = listener.local_addr().map_err(|source| StartError::Listen { address: listen, source })?;
    let key = ledger_key(&config).await?;
    let seal = mcp::Seal::derive(key.shared_secret());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let providers = providers::made(&config, key.shared_secret(), &clock)?;
    let store = Arc::new(open_store(&config, key).await?);
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let settings = Settings {
        budgets: config.budgets.clone(),
        grant_ms: config.limits.grant_ms,
        open_requests_max: config.limits.open_requests_max,
        keys_max: config.limits.idempotency_keys_max,
        refusals_max: config.limits.refusals_max,
        sessions_max: config.limits.sessions_max,
    };
    store.record(vec![NewEntry::new(clock.now_ms(), &configured(&config, &bundle))]).await?;
    let gate = Gate::new(
        Arc::clone(&store),
        Arc::clone(&clock),
        Arc::clone(&entropy),
        Arc::clone(&bundle.policies),
        settings,
    );
    // Before anybody can approve what would not be performed.
    let superseded = gate.supersede_changed().await?;
    if superseded > 0 {
        tracing::info!(
            requests = superseded,
            "policies, tools or agents have changed: requests whose calls they concern are superseded"
        );
    }
    let (agents, people, issuer) = (config.agents.clone(), config.people.clone(), config.oauth.clone());
    let (now, chance) = (Arc::clone(&clock), Arc::clone(&entropy));
    let auth = Authenticator::new(
        agents,
        people,
        issuer,
        store,
        now,
        chance,
        (providers, passkey_site(&config, address)),
    );
    let auth = auth.map_err(StartError::Client)?;

    let stopping = CancellationToken::new();
    let hosts = hosts(&config, address);
    let public = config.server.public_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    let public = public.unwrap_or_else(|| format!("{}://{address}", config.server.scheme()));
    let metadata = config.oauth.is_some().then(|| format!("{public}/.well-known/oauth-protected-resource"));
    let mcp = mcp::Settings {
        hosts: hosts.clone(),
        origins: config.server.allowed_origins.clone(),
        hold: config.server.hold,
        wait: config.server.wait,
        refusals: config.server.refusals,
        message_bytes_max: config.server.body_bytes_max,
        message_timeout: config.server.request_timeout,
        resource_metadata: metadata.clone(),
        stopping: stopping.clone(),
        ..mcp::Settings::new(seal)
    };
    let shutdown = config.server.shutdown;
    let limits = listener::Limits {
        connections_max,
        requests_max: config.server.requests_max,
        header: config.server.header_timeout,
        write: config.server.write_timeout,
    };
    let guard = Guard {
        hosts: hosts.into(),
        origins: config.server.allowed_origins.iter().cloned().chain([origin(&public)]).collect(),
        timeout: config.server.request_timeout.saturating_add(config.server.wait),
    };
    // Upstream MCP servers are connected in the background: one that is away keeps nobody from starting.
    Systems::start(bundle.tools.values().map(|offer| &offer.tool), |spec| gate.upkeep(spec));
    let systems = bundle.systems.clone();
    let app = App::new(gate, bundle.tools, auth, shared(config, &channels, tls.as_ref()), clock);
    let api = Api::new(Arc::clone(&app), stopping.clone(), metadata.as_deref());
    let console = Console::new(Arc::clone(&app), stopping.clone());
    let people = console::router(console).merge(countersign_channels::router(&app, &channels));
    let router = router(api, people, guard, mcp::router(Arc::clone(&app), mcp.clone()));
    let (used, keys) = (app.credentials().clone(), Arc::clone(app.store()));
    tokio::spawn(credential::watch(used, keys, Arc::clone(app.clock()), stopping.clone()));
    let working = tokio::spawn(Worker::new(Arc::clone(&app), systems.clone()).run(stopping.clone()));
    let channels = Channels::new(Arc::clone(&app), entropy, channels, public.clone());
    let telling = tokio::spawn(channels.run(stopping.clone()));
    let listening = tokio::spawn(listener::serve(listener, router, limits, tls.clone(), stopping.clone()));
    if let Some(tls) = tls {
        tokio::spawn(tls.watch(stopping.clone()));
    }
    tracing::info!(%address, "listening");
    Ok(Running { app, address, public, mcp, systems, stopping, shutdown, listening, working, telling })
}

/// What is set for every front door.
fn shared(
    config: Config,
    channels: &[Arc<Channel>],
    tls: Option<&Arc<Certificates>>,
) -> countersign_app::Settings {
    countersign_app::Settings {
        wait: config.server.wait,
        body_bytes_max: config.server.body_bytes_max,
        streams_max: config.server.streams_max,
        stream: config.server.stream,
        budgets: config.budgets,
        channels: channels.iter().map(|channel| Arc::clone(channel.state())).collect(),
        certificate: tls.map(|tls| tls.state()),
    }
}

impl Running {
    /// Cancelled when the server stops.
    #[must_use]
    pub const fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// The public key of the log.
    #[must_use]
    pub fn log_key(&self) -> countersign_audit::VerifierKey {
        self.app.store().verifier().clone()
    }

    /// Takes no new calls, lets those under way finish or park, and closes the ledger. Answers whether
    /// everything finished in time; what did not is in doubt until the next start says so.
    pub async fn stop(self) -> bool {
        self.app.gate().close();
        self.stopping.cancel();
        let ended = tokio::time::timeout(self.shutdown, async {
            self.app.gate().idle().await;
            drop(self.listening.await);
            drop(self.working.await);
            drop(self.telling.await);
        })
        .await
        .is_ok();
        if !ended {
            tracing::warn!(
                under_way = self.app.gate().under_way(),
                "stopping before every call has finished"
            );
        }
        self.systems.stop().await;
        if let Err(fault) = self.app.gate().sum_up_refusals(true).await {
            tracing::warn!(%fault, "refusals that were counted could not be summed up");
        }
        self.app.store().close().await;
        ended
    }
}

/// What a start records: which policies, tools and settings are in force, without a secret.
fn configured(config: &Config, bundle: &Bundle) -> Configured {
    let tool = |(name, offer): (&ToolName, &Offer)| (name.to_string(), offer.spec().version.to_string());
    let public = config.public();
    Configured {
        bundle: bundle.policies.bundle().clone(),
        config_digest: canonical_digest(&public).map(|digest| digest.to_string()).unwrap_or_default(),
        config: public,
        reference_digest: sha256(crate::config::REFERENCE.as_bytes()).to_string(),
        tools: bundle.tools.iter().map(tool).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The site for which browsers make passkeys: the server's own address, as people reach it. A server that nobody has named is
/// reached from its own machine.
fn passkey_site(config: &Config, address: SocketAddr) -> Result<PasskeySite, String> {
    match &config.server.public_url {
        Some(url) => PasskeySite::of(url),
        None => {
            let (scheme, port) = (config.server.scheme(), address.port());
            let url = url::Url::parse(&format!("{scheme}://localhost:{port}"));
            PasskeySite::of(&url.map_err(|why| why.to_string())?)
        }
    }
}

/// The names under which the server is called.
fn hosts(config: &Config, address: SocketAddr) -> Vec<String> {
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1", "[::1]"].map(str::to_owned).to_vec();
    if !address.ip().is_unspecified() {
        hosts.push(address.ip().to_string());
    }
    hosts.extend(config.server.public_url.as_ref().and_then(|url| url.host_str()).map(str::to_owned));
    hosts.extend(config.server.allowed_hosts.iter().cloned());
    hosts.sort();
    hosts.dedup();
    hosts
}

fn origin(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization())
}

fn router(api: Api, people: Router, guard: Guard, mcp: Router) -> Router {
    api::router(api)
        .merge(people)
        .layer(axum::middleware::from_fn_with_state(Arc::new(guard), admit))
        .merge(mcp)
        .layer(CatchPanicLayer::custom(panicked))
}

/// What is checked before a request of the API is looked at.
#[derive(Debug)]
struct Guard {
    hosts: Arc<[String]>,
    origins: Vec<String>,
    timeout: Duration,
}

impl Guard {
    /// Tells whether an origin is the server's own, by any name under which it is called, or one that is allowed.
    fn knows(&self, origin: &str, headers: &HeaderMap) -> bool {
        // The `Host` was looked at before: it is a name of this server.
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let own = origin.split_once("://").map(|(_scheme, host)| host);
        self.origins.iter().any(|known| known == origin)
            || own.is_some_and(|own| host.is_some_and(|host| host.eq_ignore_ascii_case(own)))
    }
}

/// Admits requests that name this server (DNS rebinding) and come from no foreign page, and ends those that
/// take too long. What a call was doing goes on in the gate.
async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Probes name the server by an address of the machine; what they read is nobody's secret.
    let probe = matches!(path, "/healthz" | "/readyz" | "/metrics");
    let stream = matches!(path, "/v1/events" | "/console/events");
    if !probe {
        let host = request
            .uri()
            .host()
            .or_else(|| request.headers().get(header::HOST).and_then(|host| host.to_str().ok()));
        if !host.is_some_and(|host| guard.hosts.iter().any(|known| known.eq_ignore_ascii_case(bare(host)))) {
            return refuse(StatusCode::MISDIRECTED_REQUEST, "the request names another server in `Host`")
                .help("add the name to `allowed_hosts` if it is right")
                .into_response();
        }
        if let Some(from) = request.headers().get(header::ORIGIN)
            && !from.to_str().is_ok_and(|from| guard.knows(from, request.headers()))
        {
            return refuse(StatusCode::FORBIDDEN, "the request comes from a page of another origin")
                .help("add the origin to `allowed_origins` if it is right")
                .into_response();
        }
    }
    if stream {
        return next.run(request).await;
    }
    match tokio::time::timeout(guard.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_late) => {
            refuse(StatusCode::GATEWAY_TIMEOUT, "the request took too long; a call may still be under way")
                .help("look at the call or its request before you repeat it")
                .into_response()
        }
    }
}

fn refuse(status: StatusCode, message: &str) -> Problem {
    Problem::new(Code::Malformed, message).status(status)
}

/// A `Host` without its port.
fn bare(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        Some(_) | None => host,
    }
}

/// A defect fails one request, not the process. What it was about stays out of the answer.
#[expect(clippy::needless_pass_by_value, reason = "the layer gives it away")]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let what = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(%what, "a request failed");
    Problem::from(Refusal::new(Code::Internal, "the request failed inside the server")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_without_its_port() {
        assert_eq!(bare("localhost:7780"), "localhost");
        assert_eq!(bare("localhost"), "localhost");
        assert_eq!(bare("[::1]:80"), "[::1]");
        assert_eq!(bare("evil.example:80:80"), "evil.example:80");
    }
}
