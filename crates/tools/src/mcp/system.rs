//! A connection to an upstream that is kept, lost and made again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_gate::{Credential, Upkeep, Vault};
use countersign_rules::SystemSpec;
use rmcp::{Peer, RoleClient, service::Subscription};
use secrecy::ExposeSecret as _;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    client::{Connection, Listener, connect, subscribe},
    digest::Reviewable,
    direct::Direct,
};
use crate::{
    declared::check_kind,
    definition::{DefinitionError, McpTarget, McpTransport, SystemDefinition, Target},
    http::client::check_base,
    secret::{Scrubber, Scrubbers},
};

/// The first pause before connecting again; doubled each time, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How old a list of definitions may grow: not every upstream says when it changes.
const LIST_AGE_MAX: Duration = Duration::from_secs(60);
/// How long an upstream may take to end before it is killed.
const CLOSE_MAX: Duration = Duration::from_secs(8);
/// The most tools that one upstream may list.
const TOOLS_MAX: usize = 2_000;

/// An upstream MCP server with its connection, shared by the tools on it.
pub struct McpSystem {
    spec: SystemSpec,
    target: McpTarget,
    vault: Arc<dyn Vault>,
    scrubbers: Scrubbers,
    state: watch::Sender<UpstreamState>,
    /// Wakes the keeper: look again, or stop.
    wake: Arc<Notify>,
    keeper: Mutex<Option<JoinHandle<()>>>,
    stopping: watch::Sender<bool>,
}

/// The connection to an upstream stands so.
#[derive(Clone, Default)]
pub(super) enum UpstreamState {
    /// Nobody has started it.
    #[default]
    Idle,
    /// There is none, and why.
    Away(String),
    /// There is one.
    Up(Up),
}

/// A connection that was just made.
struct Fresh {
    connection: Connection,
    credential: Credential,
    definitions: BTreeMap<String, Reviewable>,
    changes: Option<Subscription>,
}

/// A connection that works, and what its upstream offers.
#[derive(Clone)]
pub(super) struct Up {
    pub(super) peer: Peer<RoleClient>,
    pub(super) direct: Option<Arc<Direct>>,
    pub(super) definitions: Arc<BTreeMap<String, Reviewable>>,
    /// The credential it was made with.
    credential: Credential,
}

impl std::fmt::Debug for McpSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpSystem").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl McpSystem {
    /// Prepares an upstream. Nothing is started or connected yet.
    ///
    /// # Errors
    /// [`DefinitionError`] when the definition is of no upstream or contradicts itself.
    pub fn new(definition: &SystemDefinition, vault: Arc<dyn Vault>) -> Result<Arc<Self>, DefinitionError> {
        check_kind(definition)?;
        let spec = definition.spec.clone();
        let bad = |key: &str, why: &str| DefinitionError::system(&spec.name, key, why);
        let Target::Mcp(target) = &definition.target else {
            return Err(bad("kind", "is no MCP server"));
        };
        match &target.transport {
            McpTransport::Child { command, .. } if command.as_os_str().is_empty() => {
                return Err(bad("command", "is empty"));
            }
            McpTransport::Child { env, secret_env, .. } => {
                if let Some(twice) = env.keys().find(|variable| secret_env.contains_key(*variable)) {
                    return Err(bad("env", &format!("`{twice}` is set twice")));
                }
            }
            McpTransport::Http { url, allow_private, .. } => {
                let mut base = url.clone();
                base.set_query(None);
                check_base(&base, *allow_private).map_err(|why| bad("url", why))?;
            }
        }
        Ok(Arc::new(Self {
            spec,
            target: target.clone(),
            vault,
            scrubbers: Scrubbers::default(),
            state: watch::Sender::new(UpstreamState::Idle),
            wake: Arc::default(),
            keeper: Mutex::new(None),
            stopping: watch::Sender::new(false),
        }))
    }

    /// Tells what it is declared to be.
    #[must_use]
    pub const fn spec(&self) -> &SystemSpec {
        &self.spec
    }

    pub(super) const fn target(&self) -> &McpTarget {
        &self.target
    }

    pub(super) fn vault(&self) -> &dyn Vault {
        &*self.vault
    }

    /// Gives what keeps a credential out of what is said.
    pub(super) fn scrubber(&self, credential: &Credential) -> Scrubber {
        self.scrubbers.of(credential)
    }

    /// Connects, and keeps connected, in the background, until [`McpSystem::stop`]. Once is enough.
    pub fn start(self: &Arc<Self>, upkeep: Upkeep) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.is_none() {
            *keeper = Some(tokio::spawn(Arc::clone(self).keep(upkeep)));
        }
    }

    /// Closes the connection; a child process ends, with all it has started.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        self.wake.notify_one();
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper
            && let Err(error) = keeper.await
        {
            tracing::warn!(system = %self.spec.name, %error, "the upstream's keeper failed");
        }
    }

    /// Resolves once it has been tried to connect: for whoever lists tools at the start.
    pub async fn settled(&self) {
        let mut state = self.state.subscribe();
        // The sender lives as long as this system does.
        if state.wait_for(|state| !matches!(state, UpstreamState::Idle)).await.is_err() {}
    }

    /// Lists everything that the upstream offers right now, for people to review.
    ///
    /// # Errors
    /// Says why there is no connection.
    pub async fn definitions(self: &Arc<Self>, upkeep: Upkeep) -> Result<Vec<Reviewable>, String> {
        self.start(upkeep);
        self.settled().await;
        match &*self.state.borrow() {
            UpstreamState::Up(up) => Ok(up.definitions.values().cloned().collect()),
            UpstreamState::Away(why) => Err(why.clone()),
            UpstreamState::Idle => Err("it was not started".into()),
        }
    }

    pub(super) fn state(&self) -> UpstreamState {
        self.state.borrow().clone()
    }

    /// The connection for a call, made with this very credential; waits for one that is being made.
    pub(super) async fn connection(&self, credential: &Credential) -> Result<Up, String> {
        if *self.stopping.borrow() {
            return Err("it was shut down".into());
        }
        let fits = |state: &UpstreamState| match state {
            UpstreamState::Up(up) => !up.peer.is_transport_closed() && same(&up.credential, credential),
            UpstreamState::Idle | UpstreamState::Away(_) => false,
        };
        let mut state = self.state.subscribe();
        if !fits(&state.borrow()) {
            // A connection that died unseen, or a credential that was changed: look again.
            self.wake.notify_one();
        }
        let found = timeout(self.wait(), state.wait_for(fits)).await;
        match found {
            Ok(Ok(found)) => match &*found {
                UpstreamState::Up(up) => Ok(up.clone()),
                UpstreamState::Idle | UpstreamState::Away(_) => Err("it is away".into()),
            },
            Ok(Err(_)) => Err("it is being shut down".into()),
            Err(_elapsed) => Err(match &*self.state.borrow() {
                UpstreamState::Away(why) => why.clone(),
                UpstreamState::Idle => "nobody has started it".into(),
                UpstreamState::Up(_) => "its credential has changed, and it is not connected anew yet".into(),
            }),
        }
    }

    async fn keep(self: Arc<Self>, upkeep: Upkeep) {
        let mut pause = PAUSE;
        while !*self.stopping.borrow() {
            match self.connected(&upkeep).await {
                Ok(mut fresh) => {
                    tracing::info!(system = %self.spec.name, tools = fresh.definitions.len(), "an upstream is connected");
                    pause = PAUSE;
                    let why = self.watch(&mut fresh, &upkeep).await;
                    tracing::warn!(system = %self.spec.name, %why, "an upstream is away");
                    self.state.send_replace(UpstreamState::Away(why));
                    if let Err(error) = fresh.connection.service.close_with_timeout(CLOSE_MAX).await {
                        tracing::warn!(system = %self.spec.name, %error, "closing an upstream failed");
                    }
                }
                Err(why) => {
                    tracing::warn!(system = %self.spec.name, %why, "an upstream cannot be connected");
                    self.state.send_replace(UpstreamState::Away(why));
                }
            }
            let mut stopping = self.stopping.subscribe();
            // Calls wait for a connection: they do not make it be tried more often.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _stopped = stopping.wait_for(|stop| *stop) => {}
            }
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
        self.state.send_replace(UpstreamState::Away("it was shut down".into()));
    }

    async fn connected(&self, upkeep: &Upkeep) -> Result<Fresh, String> {
        let credential = self.vault.open(upkeep).map_err(|fault| fault.to_string())?;
        let listener = Listener { changed: Arc::clone(&self.wake) };
        let mut stopping = self.stopping.subscribe();
        let connection = tokio::select! {
            connection = connect(&self.target.transport, &self.target.limits, &credential, listener) => connection?,
            _stopped = stopping.wait_for(|stop| *stop) => return Err("it was shut down".into()),
        };
        // Before the first look, so that no change falls between the two.
        let changes = subscribe(&connection, self.wait()).await;
        let definitions = self.listed(connection.service.peer()).await?;
        Ok(Fresh { connection, credential, definitions, changes })
    }

    const fn wait(&self) -> Duration {
        Duration::from_millis(self.target.limits.connect_timeout_ms)
    }

    /// Looks after a connection until it is lost, and says why it was.
    async fn watch(&self, fresh: &mut Fresh, upkeep: &Upkeep) -> String {
        let Fresh { connection, credential, definitions, changes } = fresh;
        let peer = connection.service.peer().clone();
        let mut definitions = Arc::new(std::mem::take(definitions));
        loop {
            let up = Up {
                peer: peer.clone(),
                direct: connection.direct.clone(),
                definitions: Arc::clone(&definitions),
                credential: credential.clone(),
            };
            self.state.send_replace(UpstreamState::Up(up));
            tokio::select! {
                () = self.wake.notified() => {}
                () = heard(changes) => {}
                () = closed(&peer) => return "the connection was lost".into(),
                // One that ended is asked for again no more often than this.
                () = tokio::time::sleep(LIST_AGE_MAX) => if changes.is_none() {
                    *changes = subscribe(connection, self.wait()).await;
                },
            }
            if *self.stopping.borrow() {
                return "it was shut down".into();
            }
            if peer.is_transport_closed() {
                return "the connection was lost".into();
            }
            match self.vault.open(upkeep) {
                Ok(now) if same(&now, credential) => {}
                Ok(_) => return "its credential has changed".into(),
                Err(fault) => return fault.to_string(),
            }
            match self.listed(&peer).await {
                Ok(now) => {
                    for (name, was) in definitions.iter() {
                        if now.get(name).is_none_or(|now| now.digest != was.digest) {
                            tracing::warn!(system = %self.spec.name, tool = %name, "an upstream definition has changed");
                        }
                    }
                    definitions = Arc::new(now);
                }
                Err(why) => return why,
            }
        }
    }

    async fn listed(&self, peer: &Peer<RoleClient>) -> Result<BTreeMap<String, Reviewable>, String> {
        let tools = match timeout(self.wait(), peer.list_all_tools()).await {
            Ok(Ok(tools)) => tools,
            Ok(Err(error)) => return Err(format!("it did not list its tools: {error}")),
            Err(_elapsed) => return Err("it did not list its tools in time".into()),
        };
        if tools.len() > TOOLS_MAX {
            return Err(format!("it lists {} tools, more than {TOOLS_MAX}", tools.len()));
        }
        let mut definitions = BTreeMap::new();
        for tool in &tools {
            let reviewable = Reviewable::new(tool);
            let name = reviewable.name.clone();
            // Two of one name would let the second answer for the first.
            if definitions.insert(name.clone(), reviewable).is_some() {
                return Err(format!("it lists the tool `{name}` twice"));
            }
        }
        Ok(definitions)
    }
}

/// Resolves when an upstream says to a subscriber that its tools have changed, or says no more to it.
async fn heard(changes: &mut Option<Subscription>) {
    let Some(subscription) = changes else { return std::future::pending().await };
    if !matches!(subscription.next().await, Ok(Some(_))) {
        *changes = None;
    }
}

/// Resolves when the transport is closed. There is no event for it, so it is looked at.
async fn closed(peer: &Peer<RoleClient>) {
    let mut often = tokio::time::interval(Duration::from_millis(200));
    loop {
        often.tick().await;
        if peer.is_transport_closed() {
            return;
        }
    }
}

fn same(one: &Credential, other: &Credential) -> bool {
    one.secrets()
        .map(|(name, secret)| (name, secret.expose_secret()))
        .eq(other.secrets().map(|(name, secret)| (name, secret.expose_secret())))
}
