//! A tool of an upstream as a tool of ours.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use countersign_gate::{MeasureError, Measured, Parsed, Performed, Probe, Tool, ToolError, Warrant};
use countersign_rules::{
    Amount, Code, DeclaredEffect, Effect, Foretold, Money, Reach, Refusal, ToolSpec, arguments::requires,
};
use rmcp::model::{CallToolRequestParams, CallToolResult, ErrorCode};
use serde_json::{Map, Value, json};

use super::{
    answer::Answered,
    system::{McpSystem, Up, UpstreamState},
};
use crate::{
    any_tool::ToolStatus,
    declared::Declared,
    definition::{
        AmountDefinition, AmountSource, CurrencySource, DefinitionError, McpDefinition, McpTransport,
    },
    secret::Scrubber,
};

/// How much of an upstream's error is repeated, in characters.
const EXCERPT_CHARS: usize = 300;

/// A tool of an upstream as a tool of ours.
#[derive(Debug)]
pub struct McpTool {
    declared: Declared,
    system: Arc<McpSystem>,
    upstream_tool: String,
    reviewed: String,
    effect_reviewed: bool,
    amount: Option<AmountDefinition>,
}

/// Why an upstream definition is not the reviewed one.
enum Departure {
    Missing,
    Changed(String),
    /// It is declared a read, and upstream does not say that it is one.
    NoRead,
}

impl McpTool {
    /// Checks a definition against its system. Whether upstream still offers what was reviewed shows only
    /// when it is connected: see [`McpTool::status`].
    ///
    /// # Errors
    /// [`DefinitionError`] when the schema does not compile or the digest is none.
    pub fn new(definition: &McpDefinition, system: Arc<McpSystem>) -> Result<Arc<Self>, DefinitionError> {
        let tool = &definition.tool;
        let bad = |key: &str, why: String| DefinitionError::tool(&tool.name, key, why);
        if tool.system != system.spec().name {
            return Err(bad(
                "system",
                format!("is `{}`, and `{}` was given", tool.system, system.spec().name),
            ));
        }
        if tool.effect == DeclaredEffect::FromStatement {
            return Err(bad("effect", "`from_statement` is for databases".into())
                .help("declare `read`, `write` or `destructive`"));
        }
        if tool.idempotent {
            return Err(bad(
                "idempotent",
                "is `true`, and no key is sent by which an upstream could recognise a repeated call".into(),
            )
            .help("leave it out"));
        }
        if definition.upstream_tool.is_empty() {
            return Err(bad("upstream_tool", "is empty".into()));
        }
        let digits = definition.definition_digest.strip_prefix("sha256:").unwrap_or_default();
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(bad("definition_digest", "is not `sha256:` and 64 hexadecimal digits".into())
                .help("review the upstream definition, and take the digest that is printed with it"));
        }
        let template = json!({
            "kind": "mcp",
            "upstream": match &system.target().transport {
                McpTransport::Child { command, args, env, secret_env, .. } => json!({
                    "command": command, "args": args, "env": env, "secret_env": secret_env,
                }),
                McpTransport::Http { url, .. } => json!({ "url": url.as_str() }),
            },
            "tool": definition.upstream_tool,
            "definition": definition.definition_digest,
            "amount": definition.amount.as_ref().map(|amount| format!("{amount:?}")),
        });
        let measurable = definition.amount.is_some() && tool.effect.ceiling() >= Effect::Write;
        let declared = Declared::new(tool, system.spec(), &template, measurable)?;
        if let Some(amount @ AmountDefinition { minor, currency, .. }) = &definition.amount {
            amount.fits(&tool.name, &declared.spec.arguments)?;
            let AmountSource::Argument(minor) = minor else {
                return Err(bad("amount", "an upstream tool has no preview to take it from".into()));
            };
            let currency = match currency {
                CurrencySource::Fixed(_) => None,
                CurrencySource::Argument(name) => Some(name),
                CurrencySource::Preview(_) => {
                    return Err(bad("amount", "an upstream tool has no preview to take it from".into()));
                }
            };
            for name in [Some(minor), currency].into_iter().flatten() {
                if !requires(&declared.spec.arguments, name) {
                    return Err(bad("amount", format!("needs `{name}`, which is no required argument")));
                }
            }
        }
        Ok(Arc::new(Self {
            declared,
            system,
            upstream_tool: definition.upstream_tool.clone(),
            reviewed: definition.definition_digest.clone(),
            effect_reviewed: definition.effect_reviewed,
            amount: definition.amount.clone(),
        }))
    }

    /// Gives the schema of the arguments as agents see it.
    #[must_use]
    pub fn advertised(&self) -> Value {
        self.declared.advertised()
    }

    /// Gives the upstream it belongs to.
    #[must_use]
    pub const fn system(&self) -> &Arc<McpSystem> {
        &self.system
    }

    /// Tells whether upstream offers what was reviewed.
    #[must_use]
    pub fn status(&self) -> ToolStatus {
        match self.system.state() {
            UpstreamState::Up(up) => self.switched_off(&up).map_or(ToolStatus::Ready, ToolStatus::Off),
            UpstreamState::Idle => ToolStatus::Away("its upstream is not connected yet".into()),
            UpstreamState::Away(why) => ToolStatus::Away(why),
        }
    }

    fn departure(&self, up: &Up) -> Option<Departure> {
        let Some(found) = up.definitions.get(&self.upstream_tool) else { return Some(Departure::Missing) };
        // MCP, `ToolAnnotations`: what is not said to be a read may change something.
        let says_read = found.definition.pointer("/annotations/readOnlyHint") == Some(&Value::Bool(true));
        match &found.digest {
            Ok(digest) if *digest != self.reviewed => Some(Departure::Changed(digest.clone())),
            Err(why) => Some(Departure::Changed(format!("none: {why}"))),
            Ok(_) => {
                let read = self.declared.spec.effect == DeclaredEffect::Read;
                (read && !says_read && !self.effect_reviewed).then_some(Departure::NoRead)
            }
        }
    }

    /// Says why the tool is not to be called, where upstream does not offer what was reviewed.
    fn switched_off(&self, up: &Up) -> Option<Refusal> {
        let name = &self.declared.spec.name;
        let system = &self.system.spec().name;
        let departure = self.departure(up)?;
        let why = match &departure {
            Departure::Missing => format!("system `{system}` no longer offers `{}`", self.upstream_tool),
            Departure::Changed(actual) => format!(
                "the definition of `{}` at system `{system}` has changed since it was reviewed (reviewed {}, now {actual})",
                self.upstream_tool, self.reviewed
            ),
            Departure::NoRead => format!(
                "it is declared a read, and system `{system}` does not say of `{}` that it only reads (`readOnlyHint`)",
                self.upstream_tool
            ),
        };
        let help = match departure {
            Departure::NoRead => {
                "declare `effect = \"write\"`, or look whether it only reads and write `dangerous_effect_reviewed = true`"
            }
            Departure::Missing | Departure::Changed(_) => {
                "people must review the upstream definition and write its digest into the tool"
            }
        };
        Some(Refusal::new(Code::ToolSwitchedOff, format!("tool `{name}` is switched off: {why}")).help(help))
    }

    /// Tells what is known of a call before it is made.
    ///
    /// # Errors
    /// The [`Refusal`] that a call with such arguments gets.
    pub(crate) fn foretell(&self, arguments: &Map<String, Value>) -> Result<Foretold, Refusal> {
        let amount = self.amount.as_ref().map_or(Ok(Amount::Untold), |amount| amount.foretell(arguments))?;
        Ok(Foretold { rows: Some(1), amount })
    }

    fn money(&self, arguments: &Map<String, Value>) -> Result<Option<Money>, String> {
        self.amount.as_ref().map(|amount| amount.money(arguments, None)).transpose()
    }

    async fn call(
        &self,
        up: &Up,
        arguments: &Map<String, Value>,
        scrubber: &Scrubber,
    ) -> Result<Value, ToolError> {
        let read = self.declared.spec.effect == DeclaredEffect::Read;
        // What is not known of a read is that it has failed.
        let unknown = |message: String| {
            let message = scrubber.clean(&message);
            if read { ToolError::Unavailable { message } } else { ToolError::InDoubt { message } }
        };
        let failed = |message: String| ToolError::Failed { message: scrubber.clean(&message) };
        let wait = Duration::from_millis(self.system.target().limits.call_timeout_ms);
        // Giving up cancels the call, which the upstream may heed or not.
        let Ok(answered) = tokio::time::timeout(wait, self.answered(up, arguments)).await else {
            return Err(unknown(format!("the upstream did not answer within {} ms", wait.as_millis())));
        };
        match answered {
            Answered::Result(result) if result.is_error == Some(true) => {
                Err(failed(format!("the upstream says that it failed: {}", text(&result, scrubber))))
            }
            Answered::Result(result) => self.reply(result, scrubber, read),
            Answered::More => {
                Err(unknown("the upstream asks for more, or answers later: both are not supported".into()))
            }
            Answered::Error(error)
                if matches!(
                    error.code,
                    ErrorCode::INVALID_PARAMS
                        | ErrorCode::METHOD_NOT_FOUND
                        | ErrorCode::INVALID_REQUEST
                        | ErrorCode::PARSE_ERROR
                ) =>
            {
                Err(failed(format!("the upstream refuses it: {}", error.message)))
            }
            Answered::Error(error) => Err(unknown(format!("the upstream did not answer: {error}"))),
            Answered::Nothing(why) => Err(unknown(format!("the upstream did not answer: {why}"))),
        }
    }

    /// Sends the call, once: directly where that will do, and otherwise through the SDK.
    async fn answered(&self, up: &Up, arguments: &Map<String, Value>) -> Answered {
        let direct = up.direct.as_ref().filter(|direct| {
            up.definitions.get(&self.upstream_tool).is_some_and(|definition| direct.takes(definition))
        });
        match direct {
            Some(_) if up.peer.is_transport_closed() => Answered::Nothing("the connection was lost".into()),
            Some(direct) => direct.call(&self.upstream_tool, arguments).await,
            None => {
                let params =
                    CallToolRequestParams::new(self.upstream_tool.clone()).with_arguments(arguments.clone());
                up.peer.call_tool_once(params).await.into()
            }
        }
    }

    fn reply(&self, result: CallToolResult, scrubber: &Scrubber, read: bool) -> Result<Value, ToolError> {
        let unfit = |message: String| {
            if read {
                ToolError::Failed { message }
            } else {
                ToolError::ResultRejected { message, rows: 1, amount: None }
            }
        };
        let reply = match result.structured_content {
            Some(object @ Value::Object(_)) => object,
            Some(other) => json!({ "body": other }),
            None => json!({ "content": result.content }),
        };
        let written = reply.to_string();
        let bytes_max = self.system.target().limits.result_bytes_max;
        if written.len() > bytes_max {
            return Err(unfit(format!("the result has {} bytes, more than {bytes_max}", written.len())));
        }
        let reply = scrubber.redact_all(reply);
        self.declared.fits(&reply).map_err(unfit)?;
        Ok(reply)
    }
}

/// Tells what a failed call says, in short.
fn text(result: &CallToolResult, scrubber: &Scrubber) -> String {
    let texts = result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.as_str());
    let said = texts.collect::<Vec<_>>().join(" ");
    scrubber.redact(&said).chars().take(EXCERPT_CHARS).collect()
}

impl McpTool {
    /// What the tool's author declares.
    pub(crate) const fn declared(&self) -> &Declared {
        &self.declared
    }
}

impl Tool for McpTool {
    type Args = Map<String, Value>;

    fn spec(&self) -> &Arc<ToolSpec> {
        &self.declared.spec
    }

    fn takes_away(&self, from: &Value, to: &Value) -> bool {
        self.declared.takes_away(from, to)
    }

    fn parse(&self, arguments: &Value) -> Result<Parsed<Self::Args>, Refusal> {
        // Nobody is asked about a tool that is switched off.
        if let ToolStatus::Off(refusal) = self.status() {
            return Err(refusal);
        }
        self.declared.check(arguments)?;
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        Ok(Parsed {
            args: arguments,
            effect: self.declared.spec.effect.floor(),
            categories: BTreeSet::new(),
            statement: None,
            reversible: true,
        })
    }

    fn measurable(&self, _args: &Self::Args) -> bool {
        self.declared.spec.measurable
    }

    async fn measure(&self, probe: Probe<'_, Self::Args>) -> Result<Measured, MeasureError> {
        let amount = self.money(probe.args()).map_err(MeasureError::NotMeasurable)?;
        Ok(Measured { reach: Reach { rows: 1, exact: true, amount, ..Reach::default() }, sample: None })
    }

    async fn perform(&self, warrant: Warrant<Self::Args>) -> Result<Performed, ToolError> {
        let unavailable = |message: String| ToolError::Unavailable { message };
        let credential =
            self.system.vault().open(&warrant).map_err(|fault| unavailable(fault.to_string()))?;
        let scrubber = self.system.scrubber(&credential);
        let amount = self.money(warrant.args()).map_err(|message| ToolError::Failed { message })?;
        let up = self.system.connection(&credential).await.map_err(|why| {
            unavailable(scrubber.clean(&format!("system `{}`: {why}", self.system.spec().name)))
        })?;
        // Once more, at the last moment: it may have changed while people were asked.
        if let Some(refusal) = self.switched_off(&up) {
            return Err(ToolError::Failed { message: refusal.message });
        }
        let reply = self.call(&up, warrant.args(), &scrubber).await.map_err(|error| match error {
            ToolError::ResultRejected { message, rows, .. } => {
                ToolError::ResultRejected { message, rows, amount }
            }
            ToolError::Failed { .. }
            | ToolError::Unavailable { .. }
            | ToolError::Exceeded { .. }
            | ToolError::InDoubt { .. } => error,
        })?;
        Ok(Performed { reply, rows: 1, amount })
    }
}
