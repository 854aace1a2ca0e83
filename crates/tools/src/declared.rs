//! What all tools have in common: the checked declaration and its version.

use std::{collections::BTreeMap, sync::Arc};

use countersign_audit::{canonical::canonical_digest, to_canonical_vec};
use countersign_gate::ToolError;
use countersign_rules::{
    Arguments, BadSchema, Money, Refusal, ResultSchema, SystemSpec, ToolSpec, ToolVersion,
    narrowing::{self, Narrows},
};
use serde_json::{Value, json};

use crate::definition::{DefinitionError, SystemDefinition, ToolDefinition};

/// Longest description of a tool, in characters.
const DESCRIPTION_CHARS_MAX: usize = 4_096;

/// A declaration whose schemas compile, with the version that its whole definition has.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) spec: Arc<ToolSpec>,
    arguments: Arguments,
    narrows: BTreeMap<String, Narrows>,
    result: Option<ResultSchema>,
}

impl Declared {
    /// `template` is what distinguishes this definition from another of the same declaration: the
    /// statement, the request, the upstream definition.
    pub(crate) fn new(
        tool: &ToolDefinition,
        system: &SystemSpec,
        template: &Value,
        measurable: bool,
    ) -> Result<Self, DefinitionError> {
        let bad = |key: &str, why: &BadSchema| {
            let pointer = if why.pointer == "/" { "" } else { why.pointer.as_str() };
            let mut error = DefinitionError::tool(
                &tool.name,
                format!("{key}{}", pointer.replace('/', ".")),
                why.message.clone(),
            );
            error.help.clone_from(&why.help);
            error
        };
        if tool.description.trim().is_empty() {
            return Err(DefinitionError::tool(&tool.name, "description", "is missing")
                .help("say in a sentence what the tool does; agents and approvers read it"));
        }
        if tool.description.chars().count() > DESCRIPTION_CHARS_MAX {
            let message = format!("has more than {DESCRIPTION_CHARS_MAX} characters");
            return Err(DefinitionError::tool(&tool.name, "description", message));
        }
        if tool.rows_max == 0 {
            return Err(DefinitionError::tool(&tool.name, "rows_max", "must be at least 1"));
        }
        let arguments = Arguments::parse(&tool.arguments).map_err(|e| bad("arguments", &e))?;
        narrowing::check(&tool.narrows, arguments.schema()).map_err(|(argument, why)| {
            DefinitionError::tool(&tool.name, format!("narrows.{argument}"), why)
        })?;
        let result =
            tool.result.as_ref().map(ResultSchema::parse).transpose().map_err(|e| bad("result", &e))?;
        let mut whole = json!({
            "v": 1,
            "name": tool.name,
            "system": {
                "name": system.name,
                "kind": system.kind,
                "environment": system.environment,
                "account": system.account,
            },
            "description": tool.description,
            "effect": tool.effect,
            "categories": tool.categories,
            "reversible": tool.reversible,
            "idempotent": tool.idempotent,
            "arguments": arguments.schema(),
            "result": result.as_ref().map(ResultSchema::schema),
            "rates": tool.rates.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "rows_max": tool.rows_max.to_string(),
            "template": template,
        });
        // Definitions that say nothing of it are the versions that they were.
        if let Some(members) = whole.as_object_mut().filter(|_| !tool.narrows.is_empty()) {
            let narrows = tool.narrows.iter().map(|(name, way)| (name.clone(), way.as_str().into()));
            members.insert("narrows".into(), Value::Object(narrows.collect()));
        }
        let version = canonical_digest(&whole)
            .map_err(|e| e.to_string())
            .and_then(|digest| ToolVersion::parse(&format!("sha256:{digest}")).map_err(|e| e.to_string()))
            .map_err(|e| DefinitionError::tool(&tool.name, "arguments", e))?;
        let spec = Arc::new(ToolSpec {
            name: tool.name.clone(),
            version,
            system: system.clone(),
            description: tool.description.clone(),
            effect: tool.effect,
            categories: tool.categories.clone(),
            reversible: tool.reversible,
            measurable,
            idempotent: tool.idempotent,
            arguments: arguments.schema().clone(),
            result: result.as_ref().map(|r| r.schema().clone()),
            rates: tool.rates.clone(),
            rows_max: tool.rows_max,
        });
        Ok(Self { spec, arguments, narrows: tool.narrows.clone(), result })
    }

    /// The schema of the arguments as agents see it.
    pub(crate) fn advertised(&self) -> Value {
        self.arguments.advertised()
    }

    /// Tells which changes only take away, in words.
    pub(crate) fn narrows(&self) -> impl Iterator<Item = String> {
        self.narrows.iter().map(|(name, way)| format!("{name} {}", way.as_str()))
    }

    /// Tells whether a change of arguments only takes away, as it is declared.
    pub(crate) fn takes_away(&self, from: &Value, to: &Value) -> bool {
        let objects = from.as_object().zip(to.as_object());
        objects.is_some_and(|(from, to)| narrowing::takes_away(&self.narrows, from, to))
    }

    /// Checks the arguments of a call.
    pub(crate) fn check(&self, arguments: &Value) -> Result<(), Refusal> {
        self.arguments.check(arguments)
    }

    /// Checks a result against the declared schema.
    pub(crate) fn fits(&self, result: &Value) -> Result<(), String> {
        self.result.as_ref().map_or(Ok(()), |schema| schema.check(result).map_err(|refusal| refusal.message))
    }

    /// Checks the result of something that has happened.
    pub(crate) fn accept(&self, result: &Value, rows: u64, amount: Option<Money>) -> Result<(), ToolError> {
        self.fits(result).map_err(|message| ToolError::ResultRejected { message, rows, amount })
    }
}

/// Checks that a system is what it says it is, before anything connects to it.
pub(crate) fn check_kind(definition: &SystemDefinition) -> Result<(), DefinitionError> {
    let kind = definition.target.kind();
    if definition.spec.kind == kind {
        return Ok(());
    }
    let message = format!("`{}` does not fit a system reached as `{kind}`", definition.spec.kind);
    Err(DefinitionError::system(&definition.spec.name, "kind", message))
}

/// Counts the bytes of a JSON value in canonical form; more than any limit when it has none.
pub(crate) fn size(value: &Value) -> usize {
    to_canonical_vec(value).map_or_else(|_| value.to_string().len(), |bytes| bytes.len())
}
