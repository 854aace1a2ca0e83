//! What every front door uses: who is calling, which tools they may see, and the one way to propose a call.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use countersign_gate::{Answer, Pending, Refused};
use countersign_rules::{
    AgentId, ApprovalId, Code, PersonId, Refusal, Requester, SessionId, TeamName, ToolName, ToolSpec,
};
use serde_json::Value;

/// The application behind every front door.
#[derive(Debug)]
pub struct App {}

/// An authenticated agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The agent.
    pub agent: AgentId,
    /// The teams it belongs to, by configuration.
    pub teams: Vec<TeamName>,
    /// The person it acts for, by configuration or token.
    pub on_behalf_of: Option<PersonId>,
    /// What its credential reaches.
    pub scopes: Scopes,
    /// The id of its key, or the subject of its token; never the secret.
    pub credential: String,
}

/// The tools that a credential reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scopes {
    /// Every tool that the policies let the agent call.
    #[default]
    All,
    /// These tools and no others.
    Tools(BTreeSet<ToolName>),
}

impl Scopes {
    /// Whether the credential reaches a tool.
    #[must_use]
    pub fn reach(&self, tool: &ToolName) -> bool {
        match self {
            Self::All => true,
            Self::Tools(tools) => tools.contains(tool),
        }
    }
}

/// A tool as an agent sees it.
#[derive(Debug, Clone)]
pub struct Offered {
    /// What it is declared to be.
    pub spec: Arc<ToolSpec>,
    /// JSON Schema 2020-12 of the arguments, with the reserved reason.
    pub input_schema: Arc<Value>,
    /// JSON Schema 2020-12 of the result, when declared.
    pub output_schema: Option<Arc<Value>>,
}

impl App {
    /// Authenticates an agent by `Authorization: Bearer …`: an API key (`ck_…`) or an OAuth 2.1 access token.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`], [`Code::OutOfScope`].
    pub async fn identify(&self, _headers: &http::HeaderMap) -> Result<Identity, Refusal> {
        Err(Refusal::new(Code::Unauthenticated, "no credential was presented"))
    }

    /// The requester for a session key: the MCP session id, or the key a client sends; `None` is the
    /// credential's own default session. Session ids belong to one agent. Opens the session in the ledger
    /// once.
    ///
    /// # Errors
    /// [`Code::LedgerUnavailable`]: without a record there is no session.
    pub async fn requester(
        &self,
        who: &Identity,
        session_key: Option<&str>,
        _front_door: &str,
        _client: Option<&str>,
    ) -> Result<Requester, Refusal> {
        Ok(Requester {
            agent: who.agent.clone(),
            teams: who.teams.clone(),
            session: SessionId::parse(session_key.unwrap_or("default"))
                .map_err(|why| Refusal::new(Code::Malformed, why.to_string()))?,
            on_behalf_of: who.on_behalf_of.clone(),
        })
    }

    /// The tools that this agent may ever call, sorted by name.
    #[must_use]
    pub fn offered(&self, _who: &Identity) -> Vec<Offered> {
        Vec::new()
    }

    /// Proposes a call. The one way to do so.
    pub async fn call(
        &self,
        _who: &Identity,
        _requester: &Requester,
        tool: &str,
        _arguments: Value,
    ) -> Answer {
        let refusal = Refusal::new(Code::UnknownTool, format!("no tool `{tool}`"));
        Answer::Refused(Refused { call: None, approval: None, refusal })
    }

    /// A request of this agent, as the ledger keeps it.
    ///
    /// # Errors
    /// [`Code::NotFound`] for another agent's request too; [`Code::LedgerUnavailable`].
    pub async fn request(
        &self,
        _who: &Identity,
        approval: &ApprovalId,
    ) -> Result<countersign_gate::ledger::ApprovalRecord, Refusal> {
        Err(Refusal::new(Code::NotFound, format!("no request `{approval}` of this agent")))
    }

    /// What became of a request. A final answer counts as fetched.
    pub async fn fetch(&self, _who: &Identity, approval: &ApprovalId) -> Answer {
        let refusal = Refusal::new(Code::NotFound, format!("no request `{approval}` of this agent"));
        Answer::Refused(Refused { call: None, approval: Some(approval.clone()), refusal })
    }

    /// Waits until a pending answer is final or `timeout` is over, and calls `progress` on each change.
    /// Dropping the wait stops nothing else.
    pub async fn wait(
        &self,
        _who: &Identity,
        pending: Pending,
        _timeout: Duration,
        mut progress: impl FnMut(&Pending) + Send,
    ) -> Answer {
        progress(&pending);
        Answer::Pending(pending)
    }
}
