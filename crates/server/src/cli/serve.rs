//! `countersign serve`

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Folder, KEY_VARIABLE, Outcome, Output, load};
use crate::{config::SecretSource, mcp, server, telemetry};

/// `countersign serve`
#[derive(Debug, clap::Args)]
#[command(after_help = "Listens for MCP at /mcp and REST at /v1. Writes JSON lines to standard error.\n\
                        Ends on SIGTERM or SIGINT, after the calls under way have finished or are parked.")]
pub(super) struct Serve {
    #[command(flatten)]
    folder: Folder,
    /// Also speak MCP on standard input and output, for the agent whose key is in COUNTERSIGN_KEY
    #[arg(long)]
    stdio: bool,
    /// Print the server's URL as the first line of standard output, once it listens
    #[arg(long, conflicts_with = "stdio")]
    print_url: bool,
    /// The name of the session on standard input and output
    #[arg(long, requires = "stdio")]
    session: Option<String>,
}

impl Serve {
    pub(super) async fn run(self, out: &Output) -> Outcome {
        let config = load(&self.folder.dir)?;
        let telemetry = telemetry::begin(&config.telemetry).map_err(|why| Failure::Refused(Box::new(why)))?;
        let running = match server::start(config).await {
            Ok(running) => running,
            Err(server::StartError::Config(problems)) => return Err(Failure::Config(problems)),
            Err(why) => return Err(why.into()),
        };
        if self.print_url {
            out.raw(format!("http://{}\n", running.address).as_bytes());
        }
        let ended = if self.stdio { self.stdio(&running).await } else { stopped().await };
        running.stop().await;
        // Sends what is left, which blocks.
        tokio::task::spawn_blocking(move || telemetry.end()).await?;
        ended
    }

    /// Serves one agent on standard input and output until it closes its end.
    async fn stdio(&self, running: &server::Running) -> Outcome {
        let key = SecretSource::Env(KEY_VARIABLE.into()).read()?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()))?;
        value.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let who = running.app.identify(&headers).await.map_err(|why| Failure::Refused(Box::new(why)))?;
        let app = std::sync::Arc::clone(&running.app);
        tokio::select! {
            ended = mcp::serve_stdio(app, running.mcp.clone(), who, self.session.clone()) => Ok(ended?),
            ended = stopped() => ended,
        }
    }
}

/// Until somebody ends the process.
async fn stopped() -> Outcome {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
