//! The one place that starts processes, and that speaks MCP as a client.

use std::{process::Stdio, sync::Arc, time::Duration};

use countersign_gate::Credential;
use process_wrap::tokio::{CommandWrap, KillOnDrop, ProcessGroup};
use rmcp::{
    ClientHandler, RoleClient,
    model::{ClientCapabilities, ClientConfig, Implementation, RequestMetaObject, SubscriptionFilter},
    service::{
        ClientCacheConfig, ClientLifecycleMode, ClientServiceExt as _, NotificationContext, RunningService,
        ServiceExt as _, Subscription,
    },
    transport::{
        StreamableHttpClientTransport, TokioChildProcess,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    sync::Notify,
};

use super::direct::{Direct, REVISION};
use crate::{
    definition::{McpLimits, McpTransport},
    http::client::client,
    secret::Scrubber,
};

/// Longest line of an upstream's diagnostics that is looked at, in bytes.
const DIAGNOSTIC_BYTES_MAX: usize = 4_096;

/// A connection to an upstream.
pub(super) struct Connection {
    /// The SDK's.
    pub(super) service: RunningService<RoleClient, Listener>,
    /// The way past the SDK; in the revision without a handshake only.
    pub(super) direct: Option<Arc<Direct>>,
}

/// Hears when an upstream's tools change. Offers an upstream nothing: no sampling, no roots, no questions to
/// a user, because none of these passes the gate.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) changed: Arc<Notify>,
}

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new("countersign", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), us)
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

/// Connects, with the credential. The message of a failure holds no secret.
pub(super) async fn connect(
    transport: &McpTransport,
    limits: &McpLimits,
    credential: &Credential,
    listener: Listener,
) -> Result<Connection, String> {
    let scrubber = Scrubber::new(credential);
    let wait = Duration::from_millis(limits.connect_timeout_ms);
    let connecting = async {
        match transport {
            McpTransport::Child { .. } => {
                let child = start(transport, credential, &scrubber)?;
                let service = listener.serve(child).await.map_err(|error| error.to_string())?;
                Ok(Connection { service, direct: None })
            }
            McpTransport::Http { .. } => over_http(transport, limits, credential, listener, wait).await,
        }
    };
    let connection = match tokio::time::timeout(wait, connecting).await {
        Ok(connected) => connected.map_err(|why| scrubber.clean(&why))?,
        Err(_elapsed) => return Err(format!("it did not answer within {} ms", wait.as_millis())),
    };
    // It is not the upstream that says for how long its list is believed, and an old list does not stand in for one
    // that cannot be had.
    connection.service.peer().set_response_cache_config(ClientCacheConfig::disabled()).await;
    Ok(connection)
}

/// Connects to an upstream over HTTP: in the revision without a handshake if it knows that, and otherwise with one.
async fn over_http(
    transport: &McpTransport,
    limits: &McpLimits,
    credential: &Credential,
    listener: Listener,
    wait: Duration,
) -> Result<Connection, String> {
    let McpTransport::Http { url, bearer, allow_private, ca } = transport else {
        return Err("is not reached over HTTP".into());
    };
    let client = client(wait, *allow_private, false, ca.as_deref())?;
    let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
    config.max_json_response_size = bytes_max(limits);
    config.max_sse_event_size = bytes_max(limits);
    if let Some(name) = bearer {
        let secret = credential.secret(name);
        let secret = secret.ok_or_else(|| format!("the credential has no secret `{name}`"))?;
        config.auth_header = Some(secret.expose_secret().to_owned());
    }
    let transport = || StreamableHttpClientTransport::with_client(client.clone(), config.clone());
    let discover = ClientLifecycleMode::Discover { preferred_versions: vec![REVISION] };
    // For half of the time: an upstream that does not know the question may leave it unanswered.
    let asked = listener.clone().serve_with_lifecycle(transport(), discover);
    let half = Duration::from_millis(limits.connect_timeout_ms / 2);
    if let Ok(Ok(service)) = tokio::time::timeout(half, asked).await {
        let us = listener.get_info();
        let context = RequestMetaObject::with_client_context(REVISION, us.client_info, us.capabilities);
        let bearer = config.auth_header.as_deref();
        let direct = Direct::new(client, url.clone(), bearer, context, bytes_max(limits), listener.changed)?;
        return Ok(Connection { service, direct: Some(Arc::new(direct)) });
    }
    let service = listener.serve(transport()).await.map_err(|error| error.to_string())?;
    Ok(Connection { service, direct: None })
}

/// Asks to be told when the tools change: in the revision without a handshake an upstream tells only those who ask.
pub(super) async fn subscribe(connection: &Connection, wait: Duration) -> Option<Subscription> {
    let peer = connection.service.peer();
    let upstream = peer.peer_info()?;
    let tells = upstream.capabilities.tools.as_ref().is_some_and(|tools| tools.list_changed == Some(true));
    if connection.direct.is_none() || !tells {
        return None;
    }
    let changes = SubscriptionFilter::builder().tools_list_changed().build();
    match tokio::time::timeout(wait, peer.listen(changes)).await {
        Ok(Ok(subscription)) => Some(subscription),
        Ok(Err(_)) | Err(_) => {
            tracing::debug!("an upstream says that it tells of changed tools, and takes no subscription");
            None
        }
    }
}

/// The largest message: a result with its envelope.
fn bytes_max(limits: &McpLimits) -> usize {
    limits.result_bytes_max.saturating_add(64 * 1024)
}

/// Starts an upstream as a child in a process group of its own, so that it ends with all it has started.
#[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
fn start(
    transport: &McpTransport,
    credential: &Credential,
    scrubber: &Scrubber,
) -> Result<TokioChildProcess, String> {
    let McpTransport::Child { command, args, env, secret_env, cwd } = transport else {
        return Err("is no child process".into());
    };
    let mut program = tokio::process::Command::new(command);
    program.args(args).env_clear().envs(env);
    for (variable, name) in secret_env {
        let secret =
            credential.secret(name).ok_or_else(|| format!("the credential has no secret `{name}`"))?;
        program.env(variable, secret.expose_secret());
    }
    if let Some(cwd) = cwd {
        program.current_dir(cwd);
    }
    let mut wrapped = CommandWrap::from(program);
    wrapped.wrap(ProcessGroup::leader()).wrap(KillOnDrop);
    let (child, diagnostics) = TokioChildProcess::builder(wrapped)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the program cannot be started: {error}"))?;
    if let Some(diagnostics) = diagnostics {
        tokio::spawn(log(diagnostics, scrubber.clone()));
    }
    Ok(child)
}

/// Passes an upstream's diagnostics on to our own, and always reads them, so that it never blocks on them.
async fn log(diagnostics: impl AsyncRead + Unpin, scrubber: Scrubber) {
    let mut reader = BufReader::new(diagnostics);
    let mut line = Vec::new();
    loop {
        let (taken, ended) = match reader.fill_buf().await {
            Ok([]) | Err(_) => return,
            Ok(bytes) => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(at) => {
                    line.extend_from_slice(bytes.get(..at).unwrap_or_default());
                    (at.saturating_add(1), true)
                }
                None => {
                    line.extend_from_slice(bytes);
                    (bytes.len(), line.len() > DIAGNOSTIC_BYTES_MAX)
                }
            },
        };
        reader.consume(taken);
        if ended {
            tracing::debug!(upstream = %scrubber.clean(&String::from_utf8_lossy(&line)), "diagnostics");
            line.clear();
        }
    }
}
