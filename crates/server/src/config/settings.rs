//! The sections that a configuration has once: server, store, log, limits, OAuth, telemetry.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use countersign_app::auth::{JwksPlace, OauthConfig};
use countersign_audit::note::KeyName;
use countersign_mcp::Refusals;
use url::Url;

use super::{
    SecretSource,
    endpoint::{ca, guarded_url, host, http_url, origin, origin_url},
    form::Mark,
    secret::secret,
    section::{Complaint, Section, integer, list, parsed, text, word},
};

/// The longest time that any setting may say: 30 days.
pub(super) const MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The server speaks TLS with this certificate and key; without TLS where there is none.
    pub tls: Option<TlsConfig>,
    /// How clients name this server; the resource of its OAuth metadata.
    pub public_url: Option<Url>,
    /// Origins of browsers that may call, beside the server's own.
    pub allowed_origins: Vec<String>,
    /// `Host` names that are answered, beside the server's own.
    pub allowed_hosts: Vec<String>,
    /// The largest body of a request.
    pub body_bytes_max: usize,
    /// How long an MCP call that reports no progress waits for people before it is answered as pending; at most `wait`.
    pub hold: Duration,
    /// The longest that a call waits for people before it is answered as pending.
    pub wait: Duration,
    /// How an MCP call that was not performed is marked.
    pub refusals: Refusals,
    /// The longest that a request may take, waiting for people not counted.
    pub request_timeout: Duration,
    /// The longest that stopping waits for calls under way.
    pub shutdown: Duration,
    /// The most connections at once on which agents are busy.
    pub connections_max: usize,
    /// The most requests of one agent at once.
    pub requests_max: usize,
    /// The longest that the headers of a request may take, and a connection may be idle.
    pub header_timeout: Duration,
    /// The longest that a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// The most streams of one principal at once.
    pub streams_max: usize,
    /// The longest that a stream lasts.
    pub stream: Duration,
}

impl ServerConfig {
    /// What URLs of this server begin with.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// The server's own certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// A PEM file with the certificate, and those that lead to its authority behind it.
    pub cert: PathBuf,
    /// A PEM file with its key, which nobody else may read.
    pub key: PathBuf,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Where the ledger is kept.
    pub place: StorePlace,
    /// The longest that one operation may take.
    pub timeout: Duration,
}

/// Where the ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// A SQLite file, for one server.
    Sqlite(PathBuf),
    /// A PostgreSQL database, for several.
    Postgres {
        /// Where its connection string is kept.
        url: SecretSource,
        /// The most connections of this server.
        connections_max: usize,
        /// A PEM file with the certificates that are trusted; those that the machine trusts if not said.
        ca: Option<PathBuf>,
    },
}

impl StorePlace {
    /// What the configuration calls this kind of place.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The name of the log, in its checkpoints and key.
    pub origin: String,
    /// The file with the signing key.
    pub key: PathBuf,
    /// The file in which the newest checkpoint is kept.
    pub checkpoint: PathBuf,
    /// Files with checkpoints that others keep.
    pub witnesses: Vec<PathBuf>,
}

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// How long a granted approval stays good, in milliseconds.
    pub grant_ms: u64,
    /// How many requests of one agent may wait for people at a time.
    pub open_requests_max: u32,
    /// How long idempotency keys are kept at least.
    pub idempotency: Duration,
    /// How many idempotency keys of one agent are kept at a time.
    pub idempotency_keys_max: u32,
    /// How many refused calls of one agent are recorded one by one within a minute.
    pub refusals_max: u32,
    /// How many sessions one agent may begin within a minute.
    pub sessions_max: u32,
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// What is written to standard error.
    pub level: tracing::Level,
    /// Where traces are sent (OTLP over HTTP).
    pub otlp_endpoint: Option<Url>,
    /// The name of this service in traces.
    pub service_name: String,
}

pub(super) fn server(mut section: Section<'_, '_>, folder: &Path) -> Option<ServerConfig> {
    let listen = section.defaulted(
        "listen",
        parsed(|text| {
            text.parse::<SocketAddr>().map_err(|_not_one| {
                Complaint::new(format!("`{text}` is no address to listen on"))
                    .help("write address and port, such as `127.0.0.1:7780`")
            })
        }),
    );
    let written = section.place("tls_cert").or_else(|| section.place("tls_key"));
    let tls = match (section.optional("tls_cert", text), section.optional("tls_key", text)) {
        (Some(cert), Some(key)) => Some(TlsConfig { cert: folder.join(cert), key: folder.join(key) }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let complaint = Complaint::new("TLS needs both `tls_cert` and `tls_key`");
            section.report(written, complaint.help("name the PEM files of the certificate and of its key"));
            None
        }
    };
    let public_url = section.optional("public_url", parsed(origin_url));
    let allowed_origins = section.defaulted("allowed_origins", list(origin));
    let allowed_hosts = section.defaulted("allowed_hosts", list(host));
    let body_bytes_max = section.defaulted("body_bytes_max", integer(1_024..=64 * 1024 * 1024));
    let written = section.place("hold_ms");
    let hold = section.defaulted("hold_ms", integer(0..=600_000));
    let wait = section.defaulted("wait_ms", integer(0..=600_000));
    // What is not written follows `wait_ms`; what is, is meant.
    if written.is_some() && wait.is_some() && hold > wait {
        let complaint = Complaint::new("`hold_ms` is longer than `wait_ms`, which bounds it");
        section.report(written, complaint.help("raise `wait_ms`, or lower `hold_ms`"));
    }
    let refusals =
        section.defaulted("refusals", word(&[("error", Refusals::Error), ("text", Refusals::Text)]));
    let request_timeout = section.defaulted("request_timeout_ms", integer(100..=600_000));
    let shutdown = section.defaulted("shutdown_ms", integer(0..=600_000));
    let connections_max = section.defaulted("connections_max", integer(1..=1_000_000));
    let requests_max = section.defaulted("requests_max", integer(1..=1_000_000));
    let header_timeout = section.defaulted("header_timeout_ms", integer(100..=600_000));
    let write_timeout = section.defaulted("write_timeout_ms", integer(100..=600_000));
    let streams_max = section.defaulted("streams_max", integer(0..=1_000_000));
    let stream = section.defaulted("stream_ms", integer(100..=MS_MAX));
    section.finish();
    Some(ServerConfig {
        listen: listen?,
        tls,
        public_url,
        allowed_origins: allowed_origins?,
        allowed_hosts: allowed_hosts?,
        body_bytes_max: usize::try_from(body_bytes_max?).ok()?,
        hold: Duration::from_millis(hold?.min(wait?)),
        wait: Duration::from_millis(wait?),
        refusals: refusals?,
        request_timeout: Duration::from_millis(request_timeout?),
        shutdown: Duration::from_millis(shutdown?),
        connections_max: usize::try_from(connections_max?).ok()?,
        requests_max: usize::try_from(requests_max?).ok()?,
        header_timeout: Duration::from_millis(header_timeout?),
        write_timeout: Duration::from_millis(write_timeout?),
        streams_max: usize::try_from(streams_max?).ok()?,
        stream: Duration::from_millis(stream?),
    })
}

pub(super) fn store(mut section: Section<'_, '_>, folder: &Path) -> Option<StoreConfig> {
    #[derive(Clone, Copy)]
    enum StoreKind {
        Sqlite,
        Postgres,
    }
    let timeout = section.defaulted("timeout_ms", integer(100..=600_000));
    let kind =
        section.defaulted("kind", word(&[("sqlite", StoreKind::Sqlite), ("postgres", StoreKind::Postgres)]));
    // Read whatever the kind, so that switching it needs no other change.
    let connections = section.defaulted("connections_max", integer(2..=1_000));
    let ca = section.optional("ca", ca(folder));
    let kind = kind?;
    section.variant(Mark::Is(
        "kind",
        match kind {
            StoreKind::Sqlite => "sqlite",
            StoreKind::Postgres => "postgres",
        },
    ));
    let place = match kind {
        StoreKind::Sqlite => {
            section.defaulted("path", text).map(|path| StorePlace::Sqlite(folder.join(path)))
        }
        StoreKind::Postgres => {
            let url = section.required(
                "url",
                "say where its connection string is kept, such as `url = { env = \"COUNTERSIGN_DATABASE_URL\" }`",
                secret(folder),
            );
            url.zip(connections).and_then(|(url, most)| {
                Some(StorePlace::Postgres { url, connections_max: usize::try_from(most).ok()?, ca })
            })
        }
    };
    section.finish();
    Some(StoreConfig { place: place?, timeout: Duration::from_millis(timeout?) })
}

pub(super) fn log(mut section: Section<'_, '_>, folder: &Path) -> Option<LogConfig> {
    let origin = section.required(
        "origin",
        "name the log as nobody else names theirs, such as `origin = \"acme.example/countersign\"`",
        parsed(|text| {
            KeyName::new(text).map(|_name| text.to_owned()).map_err(|why| {
                Complaint::new(format!("`{text}` cannot name a log: {why}"))
                    .help("write a host name and a path, such as `acme.example/countersign`")
            })
        }),
    );
    let key = section.defaulted("key", text);
    let checkpoint = section.optional("checkpoint", text);
    let witnesses = section.optional("witnesses", list(|path| Ok(folder.join(path)))).unwrap_or_default();
    section.finish();
    let key = key?;
    let checkpoint = folder.join(checkpoint.unwrap_or_else(|| format!("{key}.checkpoint")));
    Some(LogConfig { origin: origin?, key: folder.join(key), checkpoint, witnesses })
}

pub(super) fn limits(mut section: Section<'_, '_>) -> Option<LimitsConfig> {
    let grant_ms = section.defaulted("grant_ms", integer(1_000..=MS_MAX));
    let open_requests_max = section.defaulted("open_requests_max", integer(1..=10_000));
    let open_requests_max = open_requests_max.and_then(|most| u32::try_from(most).ok());
    let idempotency = section.defaulted("idempotency_ms", integer(60_000..=MS_MAX));
    let keys_max = section.defaulted("idempotency_keys_max", integer(1..=1_000_000));
    let refusals_max = section.defaulted("refusals_max", integer(1..=1_000_000));
    let refusals_max = refusals_max.and_then(|most| u32::try_from(most).ok());
    let sessions_max = section.defaulted("sessions_max", integer(1..=1_000_000));
    section.finish();
    Some(LimitsConfig {
        grant_ms: grant_ms?,
        open_requests_max: open_requests_max?,
        idempotency: Duration::from_millis(idempotency?),
        idempotency_keys_max: u32::try_from(keys_max?).ok()?,
        refusals_max: refusals_max?,
        sessions_max: u32::try_from(sessions_max?).ok()?,
    })
}

pub(super) fn oauth(mut section: Section<'_, '_>, folder: &Path) -> Option<OauthConfig> {
    let issuer =
        section.required("issuer", "name the authorization server, exactly as its `iss` claim does", text);
    let audience = section.required(
        "audience",
        "name this server as tokens do (RFC 8707), such as its public URL",
        text,
    );
    let url = section.optional("jwks_url", parsed(guarded_url));
    let file = section.optional("jwks_file", text);
    let agent_claim = section.defaulted("agent_claim", text);
    let scope = section.optional("scope", text);
    let leeway = section.defaulted("leeway_ms", integer(0..=300_000));
    let ca = section.optional("ca", ca(folder));
    let keys_age_max = section.defaulted("keys_age_max_ms", integer(1..=MS_MAX));
    let refetch_pause = section.defaulted("refetch_pause_ms", integer(1..=MS_MAX));
    let jwks = match (url, file) {
        (Some(url), None) => Some(JwksPlace::Url(url)),
        (None, Some(file)) => Some(JwksPlace::File(folder.join(file))),
        (None, None) | (Some(_), Some(_)) => {
            let complaint = Complaint::new("`[oauth]` must say one place of the issuer's keys");
            section.report(None, complaint.help("write either `jwks_url` or `jwks_file`"));
            None
        }
    };
    section.finish();
    Some(OauthConfig {
        issuer: issuer?,
        audience: audience?,
        jwks: jwks?,
        agent_claim: agent_claim?,
        scope,
        leeway: Duration::from_millis(leeway?),
        ca,
        keys_age_max: Duration::from_millis(keys_age_max?),
        refetch_pause: Duration::from_millis(refetch_pause?),
    })
}

pub(super) fn telemetry(mut section: Section<'_, '_>) -> Option<TelemetryConfig> {
    use tracing::Level;
    let level = section.defaulted(
        "level",
        word(&[
            ("error", Level::ERROR),
            ("warn", Level::WARN),
            ("info", Level::INFO),
            ("debug", Level::DEBUG),
        ]),
    );
    let otlp_endpoint = section.optional("otlp_endpoint", parsed(http_url));
    let service_name = section.defaulted("service_name", text);
    section.finish();
    Some(TelemetryConfig { level: level?, otlp_endpoint, service_name: service_name? })
}
