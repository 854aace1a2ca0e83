//! This is the protocol's server for one authenticated agent in one session.

use std::{borrow::Cow, sync::Arc, time::Duration};

use countersign_gate::Answer;
use countersign_rules::{ApprovalId, CallId, Code, Refusal, Requester, ToolName, ToolVersion, TraceParent};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, CreateTaskResult,
        CustomRequest, CustomResult, ErrorCode, GetTaskParams, GetTaskResult, Implementation,
        InitializeRequestParams, InitializeResult, JsonObject, ListToolsResult, PaginatedRequestParams,
        ProtocolVersion, ServerCapabilities, ServerConfig, SubscriptionFilter, Tool, UpdateTaskParams,
    },
    service::{NotificationContext, RequestContext, SubscriptionContext},
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    REVISIONS, Settings,
    client::Client,
    outcome,
    session::SessionKey,
    task, tools,
    waiting::{self, Round},
};
use countersign_app::{
    App, Beside,
    auth::{Identity, Principal},
    credential::Use,
};

/// The list of tools is compared after each such time for clients that want to hear of changes.
const LIST_POLL: Duration = Duration::from_secs(1);

/// Every agent is told this once.
const INSTRUCTIONS: &str = "Calls go through Countersign: rules decide, and people approve what is risky. Say \
     in `_reason` what a call is for. `status: pending` means that nothing was done yet and people are asked: \
     await the request with `countersign_await`, or repeat the very same call. Refusals say why and what would \
     pass. `in_doubt` means that the effect may have happened: do not repeat such a call.";

/// A client came in by one of these ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Each request is served by itself; nothing can be sent outside an answer.
    Http,
    /// One connection serves all messages, in both directions.
    Stdio,
}

impl Transport {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "mcp-http",
            Self::Stdio => "mcp-stdio",
        }
    }
}

/// Clients speak to this MCP server; the module says how.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) app: Arc<App>,
    pub(super) settings: Arc<Settings>,
    pub(super) who: Identity,
    pub(super) session: SessionKey,
    pub(super) transport: Transport,
    /// The message came from this place in its client's trace, by its headers.
    pub(super) trace: Option<TraceParent>,
}

impl Door {
    async fn requester(&self, client: Client<'_>) -> Result<Requester, Refusal> {
        let key = client.session().or(self.session.key.as_deref());
        let client = self.session.client.clone().or_else(|| client.text());
        self.app.requester(&self.who, key, self.transport.as_str(), client.as_deref()).await
    }

    /// Returns an answer as this server tells it.
    fn told(&self, answer: &Answer) -> CallToolResult {
        outcome::result(answer, self.settings.refusals)
    }

    /// Performs our own tool.
    async fn await_request(
        &self,
        arguments: Option<JsonObject>,
        client: Client<'_>,
        arrived: Instant,
    ) -> CallToolResult {
        let (awaited, asked) = match awaited(arguments.unwrap_or_default()) {
            Ok(awaited) => awaited,
            Err(refusal) => return outcome::refused(refusal, self.settings.refusals),
        };
        let approval = match awaited {
            Awaited::Request(approval) => approval,
            Awaited::Call(call) => {
                let limit = waiting::await_limit(&self.settings, client, arrived, asked);
                return self.told(&self.await_call(&call, limit.min(waiting::AWAIT_LIMIT), client).await);
            }
        };
        let answer = match self.app.fetch(&self.who, &approval).await {
            Answer::Pending(pending) => {
                let limit = waiting::await_limit(&self.settings, client, arrived, asked);
                waiting::wait((&self.app, &self.who), &self.settings, pending, limit, client).await
            }
            answer @ (Answer::Done(_) | Answer::Refused(_)) => answer,
        };
        self.told(&answer)
    }

    /// Tells what became of an issued call, which waits for its system and for nobody else.
    async fn await_call(&self, call: &CallId, limit: Duration, client: Client<'_>) -> Answer {
        tokio::select! {
            answer = self.app.fetch_call(&self.who, call, limit) => answer,
            () = waiting::gone(client) => self.app.fetch_call(&self.who, call, Duration::ZERO).await,
            () = self.settings.stopping.cancelled() => self.app.fetch_call(&self.who, call, Duration::ZERO).await,
        }
    }

    /// Answers a call that waits for people, as the client can take it.
    async fn hold(
        &self,
        request: &CallToolRequestParams,
        answer: Answer,
        rounds: u8,
        client: Client<'_>,
        arrived: Instant,
    ) -> Result<CallToolResponse, ErrorData> {
        let Answer::Pending(pending) = answer else { return Ok(self.told(&answer).into()) };
        if rounds == 0 && client.takes_tasks() {
            return match self.app.request(&self.who, &pending.approval).await {
                Ok(record) => Ok(CreateTaskResult::new(task::of(&record, &Answer::Pending(pending))).into()),
                // The call is parked all the same, and the agent is told so in the plain form.
                Err(_unreadable) => Ok(self.told(&Answer::Pending(pending)).into()),
            };
        }
        let limit = waiting::hold_limit(&self.settings, client, arrived);
        let answer = waiting::wait((&self.app, &self.who), &self.settings, pending, limit, client).await;
        if let Answer::Pending(pending) = &answer
            && client.is_modern()
            && (rounds > 0 || client.goes_through_rounds())
        {
            let round = Round { approval: pending.approval.clone(), rounds: rounds.saturating_add(1) };
            let agent = self.who.agent.as_str();
            if let Some(again) = round.ask(&self.settings.seal, agent, &request.name, &request.arguments) {
                return Ok(again.into());
            }
        }
        Ok(self.told(&answer).into())
    }

    /// Notes that something stays open on the credential that came in here.
    fn used(&self) -> Use {
        let Identity { credential, expires_ms, .. } = &self.who;
        self.app.credentials().open(credential, *expires_ms, self.app.clock().now_ms())
    }

    /// Returns what is offered, by name and version: this changes whenever the list does.
    fn listed(&self) -> Vec<(ToolName, ToolVersion)> {
        let offered = self.app.offered(&self.who);
        offered.iter().map(|tool| (tool.spec.name.clone(), tool.spec.version.clone())).collect()
    }
}

// What is long is boxed: the SDK moves the future of a request, which has room for any of these, several times.
impl ServerHandler for Door {
    fn get_info(&self) -> ServerConfig {
        let capabilities =
            ServerCapabilities::builder().enable_tools().enable_tool_list_changed().enable_tasks().build();
        let server = Implementation::new("countersign", env!("CARGO_PKG_VERSION")).with_title("Countersign");
        ServerConfig::new(capabilities).with_server_info(server).with_instructions(INSTRUCTIONS)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(REVISIONS)
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let mut result = self.negotiate_initialize(&request)?;
        // The revisions with a handshake have no tasks of this form, and over HTTP nothing that is sent
        // outside an answer.
        result.capabilities.extensions = None;
        if self.transport == Transport::Http
            && let Some(tools) = &mut result.capabilities.tools
        {
            tools.list_changed = None;
        }
        context.peer.set_peer_info(request);
        Ok(result)
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let (door, peer) = (self.clone(), context.peer);
        tokio::spawn(async move {
            let mut known = door.listed();
            let mut poll = tokio::time::interval(LIST_POLL);
            let used = door.used();
            while !peer.is_transport_closed() {
                tokio::select! {
                    _ = poll.tick() => {}
                    () = used.ended() => return,
                }
                let now = door.listed();
                if now != known && peer.notify_tool_list_changed().await.is_err() {
                    return;
                }
                known = now;
            }
        });
    }

    fn accepted_subscription_filter(&self, _requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(SubscriptionFilter::builder().tools_list_changed().build())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let streams = self.app.streams();
        let until = streams.until();
        let _open = streams.open(&Principal::Agent(self.who.clone())).map_err(|refusal| {
            ErrorData::invalid_request(refusal.message.clone(), serde_json::to_value(&refusal).ok())
        })?;
        let used = self.used();
        let mut known = self.listed();
        let mut poll = tokio::time::interval(LIST_POLL);
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                () = self.settings.stopping.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = used.ended() => {
                    return Err(ErrorData::invalid_request("the credential is good no more", None));
                }
                _ = poll.tick() => {
                    let now = self.listed();
                    if now != known
                        && context.accepted().tools_list_changed == Some(true)
                        && context.sink().notify_tool_list_changed().await.is_err()
                    {
                        return Ok(());
                    }
                    known = now;
                }
            }
        }
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::list(&self.app.offered(&self.who))))
    }

    /// Returns a tool to the SDK, which checks the headers that repeat arguments. It asks at each call, so the
    /// policies are not asked here: whether the agent may call the tool is decided by the gate.
    fn get_tool(&self, name: &str) -> Option<Tool> {
        let name = ToolName::parse(name).ok().filter(|name| self.who.scopes.reach(name))?;
        let offer = self.app.tool(&name)?;
        Some(Tool::new_with_raw(name.to_string(), None, Arc::clone(&offer.input_object)))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // The SDK has read a revision, or fills in the one that it assumes.
        let version = context.protocol_version().unwrap_or(ProtocolVersion::V_2025_06_18);
        Box::pin(self.called(request, Client::of(&context, &version))).await
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let record = self.task(&request.task_id).await?;
        let answer = Box::pin(self.app.fetch(&self.who, &record.request.id)).await;
        task::detailed(&record, &answer, self.settings.refusals).map(GetTaskResult::new)
    }

    /// Acknowledges and changes nothing: no task ever asks its client for input.
    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.task(&request.task_id).await.map(drop)
    }

    /// Acknowledges and changes nothing; see [`task`].
    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.task(&request.task_id).await.map(drop)
    }

    /// Refuses a method that this server does not have. The SDK takes a known method with parameters of the
    /// wrong type for a method of somebody's own.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let method = request.method;
        Err(if METHODS.contains(&method.as_str()) {
            ErrorData::invalid_params(format!("the parameters of `{method}` do not fit the protocol"), None)
        } else {
            ErrorData::new(ErrorCode::METHOD_NOT_FOUND, method, None)
        })
    }
}

/// This server has these methods.
const METHODS: &[&str] = &[
    "initialize",
    "ping",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/update",
    "tools/call",
    "tools/list",
];

impl Door {
    /// Performs a call, whichever way it came in.
    pub(super) async fn called(
        &self,
        mut request: CallToolRequestParams,
        client: Client<'_>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arrived = Instant::now();
        if request.name == tools::AWAIT {
            return Ok(self.await_request(request.arguments, client, arrived).await.into());
        }
        if let Some(state) = &request.request_state {
            let (agent, seal) = (self.who.agent.as_str(), &self.settings.seal);
            let round = Round::open(seal, agent, &request.name, &request.arguments, state)?;
            let answer = self.app.fetch(&self.who, &round.approval).await;
            return self.hold(&request, answer, round.rounds, client, arrived).await;
        }
        let beside = Beside { key: client.key()?, trace: client.trace().or_else(|| self.trace.clone()) };
        let requester = match self.requester(client).await {
            Ok(requester) => requester,
            Err(refusal) => return Ok(outcome::refused(refusal, self.settings.refusals).into()),
        };
        // Only a client that is sent through rounds has its arguments sealed.
        let sealed = client.is_modern() && client.goes_through_rounds();
        let arguments = if sealed { request.arguments.clone() } else { request.arguments.take() };
        let arguments = Value::Object(arguments.unwrap_or_default());
        let answer = self.app.call(&self.who, &requester, &request.name, arguments, beside).await;
        if let Some(error) = outcome::unknown_tool(&answer) {
            return Err(error);
        }
        self.hold(&request, answer, 0, client, arrived).await
    }

    async fn task(&self, id: &str) -> Result<countersign_gate::ledger::ApprovalRecord, ErrorData> {
        let unknown = || ErrorData::invalid_params("no such task of this agent", None);
        let approval = ApprovalId::parse(id).map_err(|_no_id| unknown())?;
        Box::pin(self.app.request(&self.who, &approval)).await.map_err(|refusal| {
            if refusal.code == Code::NotFound {
                unknown()
            } else {
                ErrorData::internal_error(refusal.message, None)
            }
        })
    }
}

/// Our own tool is asked for one of these.
enum Awaited {
    Request(ApprovalId),
    Call(CallId),
}

/// Reads the arguments of our own tool: the request or the call, and how long to wait if that is said.
fn awaited(mut arguments: JsonObject) -> Result<(Awaited, Option<Duration>), Refusal> {
    let bad = |message: &str| {
        Refusal::new(Code::InvalidArguments, message.to_owned())
            .help("give the `approval` of a pending answer or the `call` of another one, and at most `wait_seconds`")
    };
    for name in countersign_rules::call::REASON_FIELDS {
        arguments.remove(*name);
    }
    let mut id = |name: &str| match arguments.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => Ok(Some(id)),
        Some(_) => Err(bad(&format!("`{name}` must be a string"))),
    };
    let awaited = match (id("approval")?, id("call")?) {
        (Some(id), None) => {
            Awaited::Request(ApprovalId::parse(&id).map_err(|why| bad(&format!("`approval`: {why}")))?)
        }
        (None, Some(id)) => Awaited::Call(CallId::parse(&id).map_err(|why| bad(&format!("`call`: {why}")))?),
        (Some(_), Some(_)) => return Err(bad("`approval` and `call` are given both")),
        (None, None) => return Err(bad("`approval` and `call` are missing")),
    };
    let wait = match arguments.remove("wait_seconds") {
        None | Some(Value::Null) => None,
        Some(seconds) => match seconds.as_u64() {
            Some(seconds) if seconds <= tools::WAIT_SECONDS_MAX => Some(Duration::from_secs(seconds)),
            _ => return Err(bad("`wait_seconds` must be an integer from 0 to 50")),
        },
    };
    match arguments.keys().next() {
        Some(unknown) => Err(bad(&format!("there is no argument `{unknown}`"))),
        None => Ok((awaited, wait)),
    }
}
