//! `countersign serve`

use std::{collections::BTreeSet, io::IsTerminal as _};

use countersign_app::{auth::account::FIRST_LINK_MS, role::Right};
use countersign_gate::Clock as _;
use countersign_rules::{ApprovalState, Code, PersonId, Refusal};
use countersign_store::{ApprovalFilter, KeyOwner, StoreError};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, Folder, KEY_VARIABLE, Outcome, Output, client::for_browsers, counted, load};
use crate::{clock::SystemClock, config::SecretSource, server, telemetry};
use countersign_mcp as mcp;

/// `countersign serve`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Listens for MCP at /mcp and REST at /v1, and serves the console for people at /console/. Says on standard error what happens, as JSON lines where that is no terminal.\n\
                        Ends on SIGTERM or SIGINT, after the calls under way have finished or are parked; takes no notice of SIGHUP."
)]
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
        let config = load(self.folder.dir())?;
        let telemetry = telemetry::begin(&config.telemetry).map_err(|why| Failure::Refused(Box::new(why)))?;
        // Before anybody is told that it serves: whoever ends it then ends it in order, and SIGHUP ends nothing.
        let mut ending = Ending::listen()?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                tracing::warn!("SIGHUP changes nothing: restart the server to put a changed folder in force");
            }
        });
        let scheme = config.server.scheme();
        let started = tokio::select! {
            started = Box::pin(server::start(config)) => started,
            ended = ending.asked() => return ended,
        };
        let running = match started {
            Ok(running) => running,
            Err(server::StartError::Config(mistakes)) => return Err(Failure::Config(mistakes)),
            Err(why) => {
                let port = matches!(why, server::StartError::Listen { .. });
                if self.stdio && (port || matches!(why, server::StartError::Store(StoreError::InUse { .. })))
                {
                    let folder = self.folder.dir().display();
                    out.note(format!(
                        "a server seems to run on this folder already; join it instead, with the same key: countersign connect -C {folder}"
                    ));
                }
                if port {
                    out.failure(&why.into());
                    return Err(Failure::No);
                }
                return Err(why.into());
            }
        };
        if self.print_url {
            out.raw(format!("{scheme}://{}\n", running.address).as_bytes());
        }
        if std::io::stderr().is_terminal() {
            out.note(welcome(&running, &self.folder, scheme).await);
        }
        let ended = if self.stdio { self.stdio(&running, &mut ending).await } else { ending.asked().await };
        let finished = running.stop().await;
        // Sends what is left, which blocks.
        tokio::task::spawn_blocking(move || telemetry.end()).await?;
        if !finished {
            out.note("calls were left under way and are in doubt: `countersign calls list` tells at the next start");
            return Err(Failure::No);
        }
        ended
    }

    /// Serves one agent on standard input and output until it closes its end.
    async fn stdio(&self, running: &server::Running, ending: &mut Ending) -> Outcome {
        let key = SecretSource::Env(KEY_VARIABLE.into()).read()?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()))?;
        value.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let who = running.app.identify(&headers).await.map_err(|why| Failure::Refused(Box::new(why)))?;
        let app = std::sync::Arc::clone(&running.app);
        tokio::select! {
            ended = mcp::serve_stdio(app, running.mcp.clone(), (who, headers), self.session.clone()) => Ok(ended?),
            ended = ending.asked() => ended,
        }
    }
}

/// What a person wants to know who has just started a server.
async fn welcome(running: &server::Running, folder: &Folder, scheme: &str) -> String {
    let at = running.address;
    let mut lines = vec![
        format!("countersign serves `{}`", folder.dir().display()),
        format!("   agents   MCP at {scheme}://{at}/mcp, REST at {scheme}://{at}/v1/calls"),
        format!("   people   {}/console/", for_browsers(&running.public)),
    ];
    let store = running.app.store();
    match first_link(running).await {
        Ok(None) => {}
        Ok(Some((person, link))) => lines.push(format!(
            "            nobody has an account yet. {person} sets theirs up here, once, within a day:\n            {link}"
        )),
        Err(why) => lines.push(format!("            no link to sign in with can be made: {}", why.message)),
    }
    let now_ms = SystemClock.now_ms();
    match store.keys().await {
        Ok(keys) => {
            let owners: BTreeSet<String> = keys
                .iter()
                .filter(|key| key.is_good(now_ms))
                .map(|key| match &key.owner {
                    KeyOwner::Agent(agent) => format!("{agent} (agent)"),
                    KeyOwner::Person(person) => format!("{person} (person)"),
                })
                .collect();
            let owners: Vec<String> = owners.into_iter().collect();
            lines.push(if owners.is_empty() {
                "   keys     nobody has one yet: `countersign keys create` issues them".into()
            } else {
                format!("   keys     {}", owners.join(", "))
            });
        }
        Err(why) => lines.push(format!("   keys     cannot be read: {why}")),
    }
    let waiting = ApprovalFilter { state: Some(ApprovalState::Waiting), ..ApprovalFilter::default() };
    match store.list_approvals(&waiting, WAITING_MAX).await {
        Ok(requests) if requests.is_empty() => lines.push("   waiting  nothing".into()),
        Ok(requests) => {
            let more = if requests.len() >= usize::try_from(WAITING_MAX).unwrap_or(usize::MAX) {
                " or more"
            } else {
                ""
            };
            let number = counted(requests.len(), "request", "requests");
            lines.push(format!("   waiting  {number}{more}: `countersign approvals list` shows them"));
        }
        Err(why) => lines.push(format!("   waiting  cannot be read: {why}")),
    }
    lines.push("   Ctrl-C ends it, after the calls under way".into());
    lines.join("\n")
}

/// Makes the link by which the first person sets up an account, while nobody has one: for the first operator, or the first
/// person where there is none. It stands on a terminal, and in no log.
async fn first_link(running: &server::Running) -> Result<Option<(PersonId, String)>, Refusal> {
    let accounts = running.app.accounts();
    let none_yet = accounts.none_yet().await;
    if !none_yet.map_err(|fault| Refusal::new(Code::NotLookedUp, fault.to_string()))? {
        return Ok(None);
    }
    let people = || running.app.auth().people();
    let Some((person, _)) =
        people().find(|(_, config)| config.roles.may(Right::Administer)).or_else(|| people().next())
    else {
        return Ok(None);
    };
    let token = accounts.invite(person, "server", FIRST_LINK_MS).await?;
    Ok(Some((person.clone(), format!("{}/console/link#{token}", for_browsers(&running.public)))))
}

/// So many waiting requests are counted at start.
const WAITING_MAX: u32 = 1_000;

/// The signals that end the process.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Until somebody ends the process.
    async fn asked(&mut self) -> Outcome {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        Ok(())
    }
}
