//! Taking back what an earlier call did, as a tool: one for each database that keeps a journal.
//!
//! Undoing is a call like any other: it is proposed, measured, decided, performed within a warrant and kept
//! in the journal, so that it can be undone as well. Who may do it is for the policies to say; the tool is
//! of category `undo`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use countersign_gate::{
    Doubt, MeasureError, Measured, Parsed, Performed, Probe, Recalled, Tool, ToolError, Upkeep, Warrant,
};
use countersign_rules::{CallId, Code, DeclaredEffect, Effect, Refusal, ToolName, ToolSpec};
use serde_json::{Value, json};

use super::{
    columns::Columns,
    journal::{Mark, OnChange, Undoing},
    mask::Mask,
    system::SqlSystem,
};
use crate::{
    declared::Declared,
    definition::{DefinitionError, ToolDefinition},
};

/// The most rows that one call may take back, whatever was approved.
const ROWS_MAX: u64 = 1_000_000;

/// Undoes calls on one database.
#[derive(Debug)]
pub struct UndoTool {
    declared: Arc<Declared>,
    system: Arc<SqlSystem>,
    mask: Mask,
}

/// Tells which call is to be undone, and how.
#[derive(Debug)]
pub struct UndoArgs(Undoing);

impl UndoTool {
    /// The tool of a database that keeps a journal. `mask` names the columns that approvers must not see:
    /// those of every tool on the system.
    ///
    /// # Errors
    /// [`DefinitionError`] when the system's name leaves no room for the tool's.
    pub fn new(system: Arc<SqlSystem>, mask: &BTreeSet<String>) -> Result<Arc<Self>, DefinitionError> {
        let spec = system.spec();
        let name = ToolName::parse(&format!("undo_{}", spec.name))
            .map_err(|why| DefinitionError::system(&spec.name, "name", why.to_string()))?;
        let definition = ToolDefinition {
            name,
            system: spec.name.clone(),
            description: format!(
                "Puts back the rows that an earlier call changed on `{}`. Rows that changed since are \
                 reported, and refused or skipped.",
                spec.name
            ),
            effect: DeclaredEffect::Write,
            categories: BTreeSet::from(["undo".to_owned()]),
            reversible: true,
            idempotent: false,
            narrows: BTreeMap::new(),
            arguments: json!({
                "type": "object",
                "properties": {
                    "call": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": 128,
                        "description": "the id of the call to undo",
                    },
                    "on_change": {
                        "type": "string",
                        "enum": [OnChange::Refuse.word(), OnChange::Skip.word()],
                        "description": "what to do when rows changed since: refuse all, or skip those rows",
                    },
                    "rewritten": {
                        "type": "array",
                        "maxItems": 64,
                        "items": { "type": "string", "minLength": 1, "maxLength": 128 },
                        "description": "columns, as `column` or `table.column`, in which rows may differ afterwards because triggers of the database write them",
                    },
                },
                "required": ["call"],
                "additionalProperties": false,
            }),
            result: None,
            rates: Vec::new(),
            rows_max: ROWS_MAX,
        };
        let mut template = json!({ "kind": "undo", "mask": mask });
        if !system.rewritten().is_empty()
            && let Some(template) = template.as_object_mut()
        {
            template.insert("rewritten".into(), json!(system.rewritten()));
        }
        let declared = Arc::new(Declared::new(&definition, spec, &template, true)?);
        Ok(Arc::new(Self { declared, mask: Mask::new(mask), system }))
    }

    /// Gives the schema of the arguments as agents see it.
    #[must_use]
    pub fn advertised(&self) -> Value {
        self.declared.advertised()
    }
}

impl Tool for UndoTool {
    type Args = UndoArgs;

    fn spec(&self) -> &Arc<ToolSpec> {
        &self.declared.spec
    }

    fn parse(&self, arguments: &Value) -> Result<Parsed<UndoArgs>, Refusal> {
        self.declared.check(arguments)?;
        let text = |name: &str| arguments.get(name).and_then(Value::as_str);
        let call = CallId::parse(text("call").unwrap_or_default())
            .map_err(|why| Refusal::new(Code::InvalidArguments, format!("`/call` is no call: {why}")))?;
        let on_change = match text("on_change") {
            None => OnChange::Refuse,
            Some(word) => OnChange::parse(word).ok_or_else(|| {
                Refusal::new(Code::InvalidArguments, "`/on_change` is neither `refuse` nor `skip`")
            })?,
        };
        let given = arguments.get("rewritten").and_then(Value::as_array).into_iter().flatten();
        let given: Vec<String> = given.filter_map(Value::as_str).map(ToOwned::to_owned).collect();
        let rewritten = Columns::new(self.system.rewritten().iter().chain(&given));
        Ok(Parsed {
            args: UndoArgs(Undoing { call, on_change, rewritten }),
            effect: Effect::Write,
            categories: BTreeSet::new(),
            statement: None,
            reversible: true,
        })
    }

    fn measurable(&self, _args: &UndoArgs) -> bool {
        true
    }

    async fn measure(&self, probe: Probe<'_, UndoArgs>) -> Result<Measured, MeasureError> {
        let UndoArgs(undoing) = probe.args();
        let journal = self.system.journal(&probe).await;
        let mark = Mark::new(probe.call(), true, journal.as_deref());
        self.system.undo_measure(&probe, &mark, undoing, &self.mask).await
    }

    async fn perform(&self, warrant: Warrant<UndoArgs>) -> Result<Performed, ToolError> {
        let UndoArgs(undoing) = warrant.args();
        let mark = Mark::new(warrant.call(), true, warrant.journal());
        let (undone, rows) = self.system.undo(&warrant, mark, undoing, warrant.limits(), &self.mask).await?;
        Ok(Performed { reply: undone.reply(&undoing.call), rows, amount: None })
    }

    fn undoes(&self, args: &UndoArgs) -> Option<CallId> {
        Some(args.0.call.clone())
    }

    fn not_undone(&self, reply: &Value) -> Option<Value> {
        let said =
            |name: &str| reply.get(name).filter(|said| said.as_object().is_some_and(|o| !o.is_empty()));
        let left: serde_json::Map<String, Value> = ["changed_since", "rewritten", "counters"]
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), said(name)?.clone())))
            .collect();
        (!left.is_empty()).then_some(Value::Object(left))
    }

    async fn journal(&self, upkeep: &Upkeep) -> Option<String> {
        self.system.journal(upkeep).await
    }

    async fn recall(&self, upkeep: &Upkeep, doubt: &Doubt) -> Result<Recalled, MeasureError> {
        self.system.recall(upkeep, doubt).await
    }
}
