//! Any tool on any system, so that whoever holds a table of tools need not know their kinds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use countersign_gate::{
    Answer, AskedPerson, Form, Gate, Ledger, Narrowing, NotRecalled, Recalled, Tool as _, Upkeep, Vault,
    ledger::{ApprovalRecord, CallRecord, NotAnswered},
};
use countersign_rules::{
    Amount, ApprovalId, Foretold, Observed, RawCall, Refusal, Requester, SystemName, ToolSpec,
};
use serde_json::{Map, Value};

use crate::{
    definition::{AnyDefinition, DefinitionError, SystemDefinition, Target},
    http::{HttpSystem, HttpTool},
    mcp::{McpSystem, McpTool, Reviewable},
    sql::{SqlSystem, SqlTool, UndoTool},
};

/// Every configured system, by name. Nothing is connected before the first call needs it, but for upstream
/// MCP servers: see [`Systems::start`].
#[derive(Debug, Clone, Default)]
pub struct Systems(BTreeMap<SystemName, AnySystem>);

#[derive(Debug, Clone)]
enum AnySystem {
    Sql(Arc<SqlSystem>),
    Http(Arc<HttpSystem>),
    Mcp(Arc<McpSystem>),
}

impl Systems {
    /// Prepares systems. Works offline.
    ///
    /// # Errors
    /// A [`DefinitionError`] for each definition that cannot be used.
    pub fn new(
        definitions: &[SystemDefinition],
        vault: &Arc<dyn Vault>,
    ) -> Result<Self, Vec<DefinitionError>> {
        let mut systems = BTreeMap::new();
        let mut errors = Vec::new();
        for definition in definitions {
            let name = definition.spec.name.clone();
            if systems.contains_key(&name) {
                errors.push(DefinitionError::system(&name, "name", "is that of another system"));
                continue;
            }
            let vault = Arc::clone(vault);
            let system = match &definition.target {
                Target::Sqlite(_) | Target::Postgres(_) => {
                    SqlSystem::new(definition, vault).map(AnySystem::Sql)
                }
                Target::Http(_) => HttpSystem::new(definition, vault).map(AnySystem::Http),
                Target::Mcp(_) => McpSystem::new(definition, vault).map(AnySystem::Mcp),
            };
            match system {
                Ok(system) => {
                    systems.insert(name, system);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self(systems)) } else { Err(errors) }
    }
}

impl Systems {
    /// Connects upstream MCP servers in the background, and keeps them connected. `upkeep` gives the
    /// authority: [`Gate::upkeep`] of any tool on the system; a system without tools is not connected.
    pub fn start<'t>(tools: impl IntoIterator<Item = &'t AnyTool>, upkeep: impl Fn(&ToolSpec) -> Upkeep) {
        for tool in tools {
            if let AnyTool::Mcp(tool) = tool {
                tool.system().start(upkeep(tool.spec()));
            }
        }
    }

    /// Resolves when every upstream that was started is connected or has failed to be, once.
    pub async fn settled<'t>(tools: impl IntoIterator<Item = &'t AnyTool>) {
        for tool in tools {
            if let AnyTool::Mcp(tool) = tool {
                tool.system().settled().await;
            }
        }
    }

    /// Looks whether a system can be used as it is right now: secrets, files, addresses, logins. Changes nothing.
    ///
    /// # Errors
    /// Says why not, without secrets.
    pub async fn try_out(&self, name: &SystemName, upkeep: Upkeep) -> Result<(), String> {
        match self.0.get(name) {
            Some(AnySystem::Sql(system)) => system.try_out(&upkeep).await,
            Some(AnySystem::Http(system)) => system.try_out(&upkeep).await,
            Some(AnySystem::Mcp(system)) => system.definitions(upkeep).await.map(drop),
            None => Err("it is not configured".into()),
        }
    }

    /// Tells whether a system is the very database in which somebody holds this advisory lock
    /// (`pg_advisory_lock(bigint)`) now, by whatever address, account or name it is reached. What is no PostgreSQL
    /// database is not.
    ///
    /// # Errors
    /// Says why that cannot be told, without secrets.
    pub async fn is_locked(&self, name: &SystemName, upkeep: &Upkeep, lock: i64) -> Result<bool, String> {
        match self.0.get(name) {
            Some(AnySystem::Sql(system)) => system.is_locked(upkeep, lock).await,
            Some(AnySystem::Http(_) | AnySystem::Mcp(_)) | None => Ok(false),
        }
    }

    /// Closes every upstream; child processes end.
    pub async fn stop(&self) {
        futures::future::join_all(self.0.values().map(|system| async move {
            match system {
                AnySystem::Mcp(system) => system.stop().await,
                AnySystem::Sql(_) | AnySystem::Http(_) => {}
            }
        }))
        .await;
    }

    /// The tools that take back calls: one for each database that keeps a journal. Columns that any tool of
    /// the system hides from approvers are hidden by it as well.
    ///
    /// # Errors
    /// [`DefinitionError`] when a system's name leaves no room for the tool's.
    pub fn undo_tools(&self, definitions: &[AnyDefinition]) -> Result<Vec<AnyTool>, DefinitionError> {
        let mut tools = Vec::new();
        for (name, system) in &self.0 {
            let AnySystem::Sql(system) = system else { continue };
            if !system.keeps_journal() {
                continue;
            }
            let mut mask = BTreeSet::new();
            for definition in definitions {
                if let AnyDefinition::Sql(definition) = definition
                    && definition.tool.system == *name
                {
                    mask.extend(definition.mask.iter().cloned());
                }
            }
            tools.push(AnyTool::Undo(UndoTool::new(Arc::clone(system), &mask)?));
        }
        Ok(tools)
    }

    /// Lists the databases that are configured to keep a journal.
    pub fn journals(&self) -> impl Iterator<Item = (&SystemName, &SqlSystem)> {
        self.0.iter().filter_map(|(name, system)| match system {
            AnySystem::Sql(database) if database.keeps_journal() => Some((name, &**database)),
            AnySystem::Sql(_) | AnySystem::Http(_) | AnySystem::Mcp(_) => None,
        })
    }

    /// A database that is configured to keep a journal: to prepare it, and to prune what it keeps.
    ///
    /// # Errors
    /// A message when there is no such database, or it keeps no journal.
    pub fn journal(&self, system: &SystemName) -> Result<&SqlSystem, String> {
        match self.0.get(system) {
            Some(AnySystem::Sql(database)) if database.keeps_journal() => Ok(database),
            Some(AnySystem::Sql(_)) => Err(format!("system `{system}` keeps no journal")),
            Some(AnySystem::Http(_) | AnySystem::Mcp(_)) => Err(format!("system `{system}` is no database")),
            None => Err(format!("system `{system}` is not configured")),
        }
    }

    /// Everything that an upstream MCP server offers right now, for people to review.
    ///
    /// # Errors
    /// Says so when there is no such upstream, or it cannot be reached.
    pub async fn definitions(&self, system: &SystemName, upkeep: Upkeep) -> Result<Vec<Reviewable>, String> {
        match self.0.get(system) {
            Some(AnySystem::Mcp(upstream)) => upstream.definitions(upkeep).await,
            Some(AnySystem::Sql(_) | AnySystem::Http(_)) => {
                Err(format!("system `{system}` is no MCP server"))
            }
            None => Err(format!("system `{system}` is not configured")),
        }
    }

    /// A database, for what is done to it apart from any call.
    ///
    /// # Errors
    /// Says so when there is no such system, or it is no database.
    pub fn database(&self, system: &SystemName) -> Result<&Arc<SqlSystem>, String> {
        match self.0.get(system) {
            Some(AnySystem::Sql(database)) => Ok(database),
            Some(AnySystem::Http(_) | AnySystem::Mcp(_)) => Err(format!("system `{system}` is no database")),
            None => Err(format!("system `{system}` is not configured")),
        }
    }
}

/// Any tool.
#[derive(Debug, Clone)]
pub enum AnyTool {
    /// A statement on a database.
    Sql(Arc<SqlTool>),
    /// A request to an HTTP API.
    Http(Arc<HttpTool>),
    /// A tool of an upstream MCP server.
    Mcp(Arc<McpTool>),
    /// Takes back calls on a database; built in.
    Undo(Arc<UndoTool>),
}

/// A tool is ready, away or off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolStatus {
    /// It may.
    Ready,
    /// It is switched off: the refusal that a call would get.
    Off(Refusal),
    /// Its upstream is not connected, so it is not known whether it may; a call waits for the connection.
    Away(String),
}

impl AnyTool {
    /// Checks a definition against its system. Works offline.
    ///
    /// # Errors
    /// [`DefinitionError`] when the tool cannot be what it is defined to be.
    pub fn new(definition: &AnyDefinition, systems: &Systems) -> Result<Self, DefinitionError> {
        let tool = definition.tool();
        let Some(system) = systems.0.get(&tool.system) else {
            let message = format!("`{}` is not configured", tool.system);
            return Err(
                DefinitionError::tool(&tool.name, "system", message).help("add it under `[system.…]`")
            );
        };
        match (definition, system) {
            (AnyDefinition::Sql(definition), AnySystem::Sql(system)) => {
                SqlTool::new(definition, Arc::clone(system)).map(Self::Sql)
            }
            (AnyDefinition::Http(definition), AnySystem::Http(system)) => {
                HttpTool::new(definition, Arc::clone(system)).map(Self::Http)
            }
            (AnyDefinition::Mcp(definition), AnySystem::Mcp(system)) => {
                McpTool::new(definition, Arc::clone(system)).map(Self::Mcp)
            }
            (AnyDefinition::Sql(_) | AnyDefinition::Http(_) | AnyDefinition::Mcp(_), _) => {
                Err(DefinitionError::tool(&tool.name, "system", "is of another kind than the tool"))
            }
        }
    }

    /// Tells what the tool is declared to be.
    #[must_use]
    pub fn spec(&self) -> &Arc<ToolSpec> {
        match self {
            Self::Sql(tool) => tool.spec(),
            Self::Http(tool) => tool.spec(),
            Self::Mcp(tool) => tool.spec(),
            Self::Undo(tool) => tool.spec(),
        }
    }

    /// Tells whether a call with these arguments can be undone from here: its tool is declared so, and sees it so.
    #[must_use]
    pub fn reversible(&self, arguments: &Value) -> bool {
        self.observe(arguments.clone()).is_ok_and(|observed| observed.reversible)
    }

    /// Tells which changes of arguments only take away, in words such as `limit lower`, as the tool's author declares them.
    #[must_use]
    pub fn narrows(&self) -> Vec<String> {
        let declared = match self {
            Self::Sql(tool) => tool.declared(),
            Self::Http(tool) => tool.declared(),
            Self::Mcp(tool) => tool.declared(),
            Self::Undo(_) => return Vec::new(),
        };
        declared.narrows().collect()
    }

    /// Tells whether its system lets calls of it be run and rolled back, so that people see what they touch. A call may be of a
    /// form that cannot be, which its system says.
    #[must_use]
    pub fn rehearses(&self) -> bool {
        match self {
            Self::Sql(tool) => tool.rehearses(),
            Self::Http(_) | Self::Mcp(_) | Self::Undo(_) => false,
        }
    }

    /// Tells what a call with these arguments is seen to do, as the gate would see it.
    ///
    /// # Errors
    /// The [`Refusal`] that such a call would get for its form.
    pub fn observe(&self, arguments: Value) -> Result<Observed, Refusal> {
        match self {
            Self::Sql(tool) => Form::read(&**tool, arguments).map(|form| form.observed),
            Self::Http(tool) => Form::read(&**tool, arguments).map(|form| form.observed),
            Self::Mcp(tool) => Form::read(&**tool, arguments).map(|form| form.observed),
            Self::Undo(tool) => Form::read(&**tool, arguments).map(|form| form.observed),
        }
    }

    /// Tells what is known of a call with these arguments before its system is asked.
    ///
    /// # Errors
    /// The [`Refusal`] that such a call would get.
    pub fn foretell(&self, arguments: &Value) -> Result<Foretold, Refusal> {
        // What is no object names nothing, and is told so.
        let none = Map::new();
        let arguments = arguments.as_object().unwrap_or(&none);
        match self {
            Self::Sql(_) | Self::Undo(_) => Ok(Foretold { rows: None, amount: Amount::Untold }),
            Self::Http(tool) => tool.foretell(arguments),
            Self::Mcp(tool) => tool.foretell(arguments),
        }
    }

    /// Lists the tables that its calls may write or read, as far as its author names them; `None` where it has none.
    #[must_use]
    pub fn tables(&self) -> Option<BTreeSet<String>> {
        match self {
            Self::Sql(tool) => Some(tool.tables()),
            Self::Http(_) | Self::Mcp(_) | Self::Undo(_) => None,
        }
    }

    /// Gives the schema of the arguments as agents see it, with the reserved field for their reason.
    #[must_use]
    pub fn advertised(&self) -> Value {
        match self {
            Self::Sql(tool) => tool.advertised(),
            Self::Http(tool) => tool.advertised(),
            Self::Mcp(tool) => tool.advertised(),
            Self::Undo(tool) => tool.advertised(),
        }
    }

    /// Tells whether it may be called at all.
    #[must_use]
    pub fn status(&self) -> ToolStatus {
        match self {
            Self::Sql(_) | Self::Http(_) | Self::Undo(_) => ToolStatus::Ready,
            Self::Mcp(tool) => tool.status(),
        }
    }

    /// Looks whether the tool can be used on its system as that is right now: the statement that its author wrote compiles,
    /// the definition that its upstream has is the one that was reviewed. Changes nothing and calls nothing.
    ///
    /// # Errors
    /// Says why not, without secrets.
    pub async fn try_out(&self, upkeep: &Upkeep) -> Result<(), String> {
        match self {
            Self::Sql(tool) => tool.try_out(upkeep).await,
            Self::Http(_) | Self::Undo(_) => Ok(()),
            Self::Mcp(tool) => match tool.status() {
                ToolStatus::Ready => Ok(()),
                ToolStatus::Off(refusal) => Err(refusal.to_string()),
                ToolStatus::Away(why) => Err(why),
            },
        }
    }

    /// Proposes a call of this tool: [`Gate::submit`].
    pub async fn submit<L: Ledger>(
        &self,
        gate: &Arc<Gate<L>>,
        requester: &Requester,
        raw: RawCall,
    ) -> Answer {
        match self {
            Self::Sql(tool) => gate.submit(tool, requester, raw).await,
            Self::Http(tool) => gate.submit(tool, requester, raw).await,
            Self::Mcp(tool) => gate.submit(tool, requester, raw).await,
            Self::Undo(tool) => gate.submit(tool, requester, raw).await,
        }
    }

    /// Asks the system of this tool what became of a call in doubt: [`Gate::recall`].
    ///
    /// # Errors
    /// [`NotRecalled`], and then the call stays in doubt.
    pub async fn recall<L: Ledger>(
        &self,
        gate: &Gate<L>,
        record: &CallRecord,
    ) -> Result<Recalled, NotRecalled> {
        match self {
            Self::Sql(tool) => gate.recall(&**tool, record).await,
            Self::Http(tool) => gate.recall(&**tool, record).await,
            Self::Mcp(tool) => gate.recall(&**tool, record).await,
            Self::Undo(tool) => gate.recall(&**tool, record).await,
        }
    }

    /// Asks people about what one of them makes of a call of this tool that waits: [`Gate::narrow`].
    ///
    /// # Errors
    /// [`NotAnswered`], and then the request is as it was.
    pub async fn narrow<L: Ledger>(
        &self,
        gate: &Gate<L>,
        approval: &ApprovalId,
        person: &AskedPerson,
        narrowing: Narrowing,
    ) -> Result<ApprovalRecord, NotAnswered> {
        match self {
            Self::Sql(tool) => gate.narrow(&**tool, approval, person, narrowing).await,
            Self::Http(tool) => gate.narrow(&**tool, approval, person, narrowing).await,
            Self::Mcp(tool) => gate.narrow(&**tool, approval, person, narrowing).await,
            Self::Undo(tool) => gate.narrow(&**tool, approval, person, narrowing).await,
        }
    }

    /// Has a call of this tool that waits run and rolled back for a person who is asked: [`Gate::look_closer`].
    ///
    /// # Errors
    /// [`NotAnswered`], and then the request is as it was.
    pub async fn look_closer<L: Ledger>(
        &self,
        gate: &Gate<L>,
        approval: &ApprovalId,
        person: &AskedPerson,
    ) -> Result<ApprovalRecord, NotAnswered> {
        match self {
            Self::Sql(tool) => gate.look_closer(&**tool, approval, person).await,
            Self::Http(tool) => gate.look_closer(&**tool, approval, person).await,
            Self::Mcp(tool) => gate.look_closer(&**tool, approval, person).await,
            Self::Undo(tool) => gate.look_closer(&**tool, approval, person).await,
        }
    }

    /// Performs a granted call of this tool: [`Gate::perform_granted`].
    pub async fn perform_granted<L: Ledger>(
        &self,
        gate: &Arc<Gate<L>>,
        record: ApprovalRecord,
        span: tracing::Span,
    ) -> Answer {
        match self {
            Self::Sql(tool) => gate.perform_granted(tool, record, span).await,
            Self::Http(tool) => gate.perform_granted(tool, record, span).await,
            Self::Mcp(tool) => gate.perform_granted(tool, record, span).await,
            Self::Undo(tool) => gate.perform_granted(tool, record, span).await,
        }
    }
}
