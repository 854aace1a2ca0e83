//! The one place that starts processes, and that speaks MCP as a client.

use std::{process::Stdio, sync::Arc, time::Duration};

use countersign_gate::Credential;
use process_wrap::tokio::{CommandWrap, KillOnDrop, ProcessGroup};
use rmcp::{
    ClientHandler, RoleClient,
    model::{ClientCapabilities, ClientConfig, Implementation},
    service::{NotificationContext, RunningService, ServiceExt as _},
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

use crate::{
    definition::{McpLimits, McpTransport},
    http::client::client,
    secret::Scrubber,
};

/// Longest line of an upstream's diagnostics that is looked at, in bytes.
const DIAGNOSTIC_BYTES_MAX: usize = 4_096;

/// A connection to an upstream.
pub(super) type Connection = RunningService<RoleClient, Listener>;

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
                listener.serve(child).await.map_err(|error| error.to_string())
            }
            McpTransport::Http { url, bearer, allow_private, ca } => {
                let client = client(wait, *allow_private, false, ca.as_deref())?;
                let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
                config.max_json_response_size = bytes_max(limits);
                config.max_sse_event_size = bytes_max(limits);
                if let Some(name) = bearer {
                    let secret = credential.secret(name);
                    let secret = secret.ok_or_else(|| format!("the credential has no secret `{name}`"))?;
                    config.auth_header = Some(secret.expose_secret().to_owned());
                }
                let transport = StreamableHttpClientTransport::with_client(client, config);
                listener.serve(transport).await.map_err(|error| error.to_string())
            }
        }
    };
    match tokio::time::timeout(wait, connecting).await {
        Ok(connected) => connected.map_err(|why| scrubber.clean(&why)),
        Err(_elapsed) => Err(format!("it did not answer within {} ms", wait.as_millis())),
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
