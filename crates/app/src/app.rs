//! Every front door uses this: who is calling, which tools they may see, and the one way to propose a call.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use countersign_audit::sha256;
use countersign_gate::{Answer, Clock, Gate, Ledger as _, Pending, Refused, ledger::ApprovalRecord};
use countersign_rules::{
    AgentId, ApprovalId, CallId, Code, IdempotencyKey, RawCall, Refusal, Requester, SessionId, ToolName,
    TraceParent, budget::Budget,
};
use countersign_store::Store;
use serde_json::Value;
use tracing::Instrument as _;

use crate::{
    auth::{Accounts, Authenticator, Identity},
    certificate::CertificateState,
    channel::ChannelState,
    credential::Credentials,
    grant::AskedOf,
    metrics::Metrics,
    offer::{Offer, Offered},
    places::Places,
    stream::Streams,
    trace,
};

/// A session key of at most so many bytes is used as it stands, if it is a name; any other is hashed.
const SESSION_KEY_BYTES_MAX: usize = 64;

/// So many opened sessions are remembered at most, so that the ledger is not asked again for each call.
const SESSIONS_KEPT_MAX: usize = 10_000;

/// One agent may wait for so many answers at a time: each wait looks at the ledger whenever it changes.
pub(crate) const WAITS_MAX: usize = 64;

/// The application stands behind every front door.
pub struct App {
    gate: Arc<Gate<Store>>,
    tools: BTreeMap<ToolName, Offer>,
    auth: Authenticator,
    settings: Settings,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Whoever computes service levels has this.
    measuring: tokio::sync::Mutex<()>,
    opened: Mutex<BTreeSet<(AgentId, SessionId)>>,
    /// Agents wait for answers in these places.
    waits: Places<AgentId>,
    streams: Streams,
    credentials: Credentials,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("gate", &self.gate).finish_non_exhaustive()
    }
}

/// These settings hold for every front door.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A call waits for people at most this long before it is answered as pending.
    pub wait: Duration,
    /// The body of a request may have at most so many bytes.
    pub body_bytes_max: usize,
    /// One principal may have so many streams open at once.
    pub streams_max: usize,
    /// A stream lasts at most this long.
    pub stream: Duration,
    /// These budgets are in force.
    pub budgets: Vec<Budget>,
    /// These channels tell people.
    pub channels: Vec<Arc<ChannelState>>,
    /// The server's own certificate, where it speaks TLS itself.
    pub certificate: Option<Arc<CertificateState>>,
}

/// A client may send this beside a call, in a header or in `_meta`.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// The client may repeat the call under this key.
    pub key: Option<IdempotencyKey>,
    /// The call comes from this place in the client's trace.
    pub trace: Option<TraceParent>,
}

impl App {
    /// Makes the application over a gate.
    #[must_use]
    pub fn new(
        gate: Arc<Gate<Store>>,
        tools: BTreeMap<ToolName, Offer>,
        auth: Authenticator,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let streams = Streams::new(settings.streams_max, settings.stream);
        let metrics = Arc::new(Metrics::new(tools.keys()));
        let counted = Arc::clone(&metrics);
        gate.when_expired(move |record| counted.expired(record));
        let app = Arc::new(Self {
            streams,
            gate,
            tools,
            auth,
            settings,
            clock,
            metrics,
            measuring: tokio::sync::Mutex::default(),
            opened: Mutex::default(),
            waits: Places::new(WAITS_MAX),
            credentials: Credentials::default(),
        });
        app.gate.ask_signers(Arc::new(AskedOf(Arc::downgrade(&app))));
        app
    }

    /// Authenticates an agent by `Authorization: Bearer …`: an API key or an OAuth 2.1 access token.
    ///
    /// # Errors
    /// Returns [`Code::Unauthenticated`] for everything that is no good credential, [`Code::OutOfScope`] for a
    /// person, and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn identify(&self, headers: &http::HeaderMap) -> Result<Identity, Refusal> {
        self.auth.agent(headers).await.inspect_err(|_refusal| self.metrics.unauthenticated())
    }

    /// Returns the requester for a session key: the MCP session id, or the key a client sends; `None` is the
    /// credential's own default session. Session ids belong to one agent. Opens the session in the ledger once.
    ///
    /// # Errors
    /// Returns [`Code::NotLookedUp`] if the ledger cannot record the session, for without a record there is
    /// none, [`Code::RateLimited`] if the agent begins too many, and [`Code::Malformed`] if the session cannot
    /// be named.
    pub async fn requester(
        &self,
        who: &Identity,
        session_key: Option<&str>,
        front_door: &str,
        client: Option<&str>,
    ) -> Result<Requester, Refusal> {
        let session = session_id(who, session_key)
            .map_err(|why| Refusal::new(Code::Malformed, format!("the session cannot be named: {why}")))?;
        let requester = Requester {
            agent: who.agent.clone(),
            teams: who.teams.clone(),
            session,
            on_behalf_of: who.on_behalf_of.clone(),
        };
        let key = (requester.agent.clone(), requester.session.clone());
        if self.opened.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
            return Ok(requester);
        }
        let client: Option<String> = client.map(|client| client.chars().take(128).collect());
        self.gate.open_session(&requester, front_door, client.as_deref()).await?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.len() >= SESSIONS_KEPT_MAX {
            // Opening one again changes nothing in the ledger.
            opened.clear();
        }
        opened.insert(key);
        Ok(requester)
    }

    /// Returns the tools that this agent may ever call with its credential, sorted by name; those that are
    /// switched off are left out.
    #[must_use]
    pub fn offered(&self, who: &Identity) -> Vec<Offered> {
        let policies = self.gate.policies();
        self.tools
            .iter()
            .filter(|(name, offer)| {
                who.scopes.reach(name) && policies.may_ever(&who.agent, name) && offer.off().is_none()
            })
            .map(|(_, offer)| Offered {
                spec: Arc::clone(offer.spec()),
                input_schema: Arc::clone(&offer.input_schema),
                output_schema: offer.output_schema.clone(),
            })
            .collect()
    }

    /// Proposes a call. There is no other way to do so.
    pub async fn call(
        &self,
        who: &Identity,
        requester: &Requester,
        tool: &str,
        arguments: Value,
        beside: Beside,
    ) -> Answer {
        let since = Instant::now();
        let known = self.known(tool).filter(|(name, _)| who.scopes.reach(name));
        let Some((name, offer)) = known else {
            let answer = self.gate.refuse_unknown(requester, tool).await;
            self.metrics.called("", &answer, since.elapsed());
            return answer;
        };
        if let Some(refusal) = self.refuse_undo(who, &offer.tool, &arguments).await {
            let answer = self.gate.reject(requester, tool, refusal).await;
            self.metrics.called(name.as_str(), &answer, since.elapsed());
            return answer;
        }
        let Beside { key, trace } = beside;
        let span = trace.as_ref().map_or_else(tracing::Span::none, trace::continued);
        let raw = RawCall { tool: name.to_string(), arguments, key, trace };
        let answer = offer.tool.submit(&self.gate, requester, raw).instrument(span).await;
        self.metrics.called(name.as_str(), &answer, since.elapsed());
        answer
    }

    /// Returns a request of this agent, as the ledger keeps it.
    ///
    /// # Errors
    /// Returns [`Code::NotFound`] if there is none, or it is another agent's or of a tool that the credential
    /// does not reach, and [`Code::NotLookedUp`] if the ledger cannot be read.
    pub async fn request(&self, who: &Identity, approval: &ApprovalId) -> Result<ApprovalRecord, Refusal> {
        match self.store().approval(approval).await {
            Ok(Some(record)) if who.sees(&record.request.call) => Ok(record),
            Ok(_) => Err(Refusal::new(Code::NotFound, format!("no request `{approval}` of this agent"))),
            Err(fault) => Err(Refusal::new(Code::NotLookedUp, fault.to_string())),
        }
    }

    /// Tells what became of a request. A final answer counts as fetched.
    pub async fn fetch(&self, who: &Identity, approval: &ApprovalId) -> Answer {
        match self.request(who, approval).await {
            Ok(record) => self.gate.tell(&record).await,
            Err(refusal) => Answer::Refused(Refused::new(None, Some(approval.clone()), refusal)),
        }
    }

    /// Tells what became of an issued call of this agent. One that is under way is waited for, no longer than
    /// `timeout`; an agent that waits for many answers already is told at once how it stands.
    pub async fn fetch_call(&self, who: &Identity, call: &CallId, timeout: Duration) -> Answer {
        let place = self.waits.take(who.agent.clone());
        let timeout = if place.is_some() { timeout } else { Duration::ZERO };
        let used = self.credentials.open(&who.credential, who.expires_ms, self.clock.now_ms());
        let refused = |code: Code, message: String, help: &str| {
            Answer::Refused(Refused::new(Some(call.clone()), None, Refusal::new(code, message).help(help)))
        };
        let over = tokio::time::sleep(timeout);
        tokio::pin!(over);
        let mut changes = self.gate.ledger().changes();
        loop {
            if let Err(refusal) = self.auth.still_good(who).await {
                return Answer::Refused(Refused::new(Some(call.clone()), None, refusal));
            }
            // Marked as seen before looking, so that a change in between is not missed.
            changes.borrow_and_update();
            let record = match self.store().call(call).await {
                Ok(Some(record)) if who.sees(&record.call) => record,
                Ok(_) => {
                    let message = format!("no call `{call}` of this agent was performed or tried");
                    return refused(
                        Code::NotFound,
                        message,
                        "a call that waits for people is found by its request (`approval`)",
                    );
                }
                Err(fault) => {
                    let help =
                        "this does not say whether the call was performed; try again when the ledger is back";
                    return refused(Code::NotLookedUp, format!("it cannot be looked up now: {fault}"), help);
                }
            };
            if let Some(approval) = record.approval.as_ref().filter(|_| record.outcome.is_some()) {
                return self.fetch(who, approval).await;
            }
            match self.gate.tell_call(&record).await {
                Ok(Some(answer)) => return answer,
                Ok(None) => {}
                Err(fault) => {
                    return refused(
                        Code::NotLookedUp,
                        fault.to_string(),
                        "try again when the ledger is back",
                    );
                }
            }
            tokio::select! {
                // Checked first, or a busy ledger would keep it waiting for ever.
                biased;
                () = &mut over => {
                    let help = "ask for it again in a moment; it goes on whether or not anybody waits";
                    return refused(Code::NotLookedUp, format!("call `{call}` is still under way"), help);
                }
                // A last look, which says so.
                () = used.ended() => over.as_mut().reset(tokio::time::Instant::now()),
                changed = changes.changed() => if changed.is_err() {
                    return refused(Code::ShuttingDown, "the server is shutting down".into(), "ask for the call again in a moment");
                }
            }
        }
    }

    /// Waits until a pending answer is final or `timeout` is over, and calls `progress` on each change.
    /// Dropping the wait stops nothing else. An agent that waits for many answers already is told at once that
    /// people are asked, and one whose credential is found to be good no more is told only that.
    pub async fn wait(
        &self,
        who: &Identity,
        pending: Pending,
        timeout: Duration,
        mut progress: impl FnMut(&Pending) + Send,
    ) -> Answer {
        let Some(_place) = self.waits.take(who.agent.clone()) else { return Answer::Pending(pending) };
        let used = self.credentials.open(&who.credential, who.expires_ms, self.clock.now_ms());
        let until = tokio::time::Instant::now().checked_add(timeout);
        let mut changes = self.gate.ledger().changes();
        let mut state = pending.state;
        loop {
            // Marked as seen before looking, so that a change in between is not missed.
            changes.borrow_and_update();
            let now = match self.look(who, &pending).await {
                Answer::Pending(now) => now,
                last @ (Answer::Done(_) | Answer::Refused(_)) => return last,
            };
            if now.state != state {
                state = now.state;
                progress(&now);
            }
            let left_ms = now.expires_ms.saturating_sub(self.clock.now_ms()).max(0);
            // An expired request changes only when somebody looks.
            let expiry = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0).saturating_add(1));
            let expiry = tokio::time::Instant::now().checked_add(expiry);
            let wake = match (until, expiry) {
                (Some(until), Some(expiry)) => until.min(expiry),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => return Answer::Pending(now),
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return Answer::Pending(now) },
                () = tokio::time::sleep_until(wake) => {}
                () = used.ended() => return self.look(who, &pending).await,
            }
            if until.is_some_and(|until| tokio::time::Instant::now() >= until) {
                return self.look(who, &pending).await;
            }
        }
    }

    /// Tells what became of a request, as long as the credential of whoever waits for it is still good.
    async fn look(&self, who: &Identity, pending: &Pending) -> Answer {
        match self.auth.still_good(who).await {
            Ok(()) => self.fetch(who, &pending.approval).await,
            Err(refusal) => {
                let (call, approval) = (Some(pending.call.clone()), Some(pending.approval.clone()));
                Answer::Refused(Refused::new(call, approval, refusal))
            }
        }
    }

    fn known(&self, tool: &str) -> Option<(&ToolName, &Offer)> {
        self.tools.get_key_value(&ToolName::parse(tool).ok()?)
    }

    /// Returns the tool of this name, if it is configured.
    #[must_use]
    pub fn tool(&self, name: &ToolName) -> Option<&Offer> {
        self.tools.get(name)
    }

    /// Returns every tool, by its name.
    #[must_use]
    pub const fn tools(&self) -> &BTreeMap<ToolName, Offer> {
        &self.tools
    }

    /// Returns the gate, which decides.
    #[must_use]
    pub const fn gate(&self) -> &Arc<Gate<Store>> {
        &self.gate
    }

    /// Returns the ledger.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        self.gate.ledger()
    }

    /// Returns what checks credentials.
    #[must_use]
    pub const fn auth(&self) -> &Authenticator {
        &self.auth
    }

    /// Returns the accounts by which people sign in to a browser.
    #[must_use]
    pub const fn accounts(&self) -> &Accounts {
        self.auth.accounts()
    }

    /// Returns what the front doors are set to.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the clock.
    #[must_use]
    pub const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Returns the streams that are open.
    #[must_use]
    pub const fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Returns the credentials on which something is open.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Returns what is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the turn of whoever computes service levels.
    pub(crate) const fn measuring(&self) -> &tokio::sync::Mutex<()> {
        &self.measuring
    }
}

/// Names a session. A key that is no name, or a long one, is named by its hash; a credential without a key
/// has one session.
fn session_id(
    who: &Identity,
    session_key: Option<&str>,
) -> Result<SessionId, countersign_rules::id::BadName> {
    match session_key.filter(|key| !key.is_empty()) {
        None => SessionId::unnamed(&digest(&who.credential)),
        Some(key) if key.len() <= SESSION_KEY_BYTES_MAX => {
            SessionId::parse(key).or_else(|_no_name| SessionId::parse(&format!("session-{}", digest(key))))
        }
        Some(key) => SessionId::parse(&format!("session-{}", digest(key))),
    }
}

fn digest(text: &str) -> String {
    sha256(text.as_bytes()).to_string().chars().take(24).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scopes;

    fn who(credential: &str) -> Identity {
        Identity {
            agent: AgentId::parse("agent").unwrap(),
            teams: Vec::new(),
            on_behalf_of: None,
            scopes: Scopes::All,
            credential: credential.into(),
            expires_ms: None,
        }
    }

    #[test]
    fn any_key_names_a_session_and_equal_keys_name_the_same() {
        let id = |key| session_id(&who("k1"), key).unwrap();
        assert_eq!(id(Some("main")).as_str(), "main");
        assert!(id(None).as_str().starts_with("unnamed-"));
        assert_eq!(id(None), id(None));
        assert_eq!(id(None), id(Some("")));
        assert_ne!(id(None), session_id(&who("k2"), None).unwrap());
        let odd = id(Some("drop table\n'; --"));
        assert!(odd.as_str().starts_with("session-"));
        assert_eq!(odd, id(Some("drop table\n'; --")));
        let long = "x".repeat(10_000);
        assert_ne!(id(Some(&long)), id(Some(&"x".repeat(9_999))));
    }
}
