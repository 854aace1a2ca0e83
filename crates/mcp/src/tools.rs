//! An agent lists tools so.

use std::{collections::BTreeSet, sync::Arc};

use countersign_rules::{Code, DeclaredEffect, call::REASON_FIELD};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use countersign_app::offer::Offered;

/// Our own tool has this name. It waits for a request, or fetches what became of it or of a call. No configured
/// tool of this name is shown.
pub const AWAIT: &str = "countersign_await";

/// An agent may ask for a wait of at most so many seconds: clients and proxies commonly give up after a minute.
pub(super) const WAIT_SECONDS_MAX: u64 = 50;

/// Returns every tool for one agent's list, ours last.
pub(super) fn list(offered: &[Offered]) -> Vec<Tool> {
    offered.iter().filter(|tool| tool.spec.name.as_str() != AWAIT).map(tool).chain([await_tool()]).collect()
}

/// Returns one tool. The annotations say what the class says; the gate does not rely on them.
fn tool(offered: &Offered) -> Tool {
    let spec = &offered.spec;
    let mut tool =
        Tool::new(spec.name.as_str().to_owned(), spec.description.clone(), object(&offered.input_schema))
            .with_annotations(annotations(spec.effect, spec.idempotent));
    if let Some(schema) = offered.output_schema.as_deref().and_then(output_schema) {
        tool = tool.with_raw_output_schema(Arc::new(schema));
    }
    tool
}

fn annotations(effect: DeclaredEffect, idempotent: bool) -> ToolAnnotations {
    let (read_only, destructive) = match effect {
        DeclaredEffect::Read => (true, false),
        DeclaredEffect::Write => (false, false),
        // What the agent will write is not known: the hint is for the worst of it.
        DeclaredEffect::Destructive | DeclaredEffect::FromStatement => (false, true),
    };
    // Every tool acts on one configured system, never on an open world.
    ToolAnnotations::new()
        .read_only(read_only)
        .destructive(destructive)
        .idempotent(read_only || idempotent)
        .open_world(false)
}

/// Returns the schema of what a call may answer: the declared result, or an answer of ours. Clients check every
/// structured result against this, so a schema that forgot waiting and refusal would hide them from the agent.
fn output_schema(declared: &Value) -> Option<JsonObject> {
    let mut declared = declared.as_object()?.clone();
    if !refers_to_definitions_only(&Value::Object(declared.clone())) {
        return None;
    }
    let definitions = declared.remove("$defs");
    declared.remove("$schema");
    declared.remove("$id");
    let statuses: BTreeSet<&str> = Code::ALL.iter().map(|code| code.status()).collect();
    let answer = json!({
        "type": "object",
        "properties": { "status": { "enum": statuses } },
        "required": ["status"],
    });
    let mut schema = JsonObject::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("anyOf".into(), json!([declared, answer]));
    if let Some(definitions) = definitions {
        schema.insert("$defs".into(), definitions);
    }
    Some(schema)
}

/// Tells whether every reference still points right once the schema stands inside another one.
fn refers_to_definitions_only(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.iter().all(|(key, value)| match key.as_str() {
            "$ref" => value.as_str().is_some_and(|to| to.starts_with("#/$defs/")),
            "$dynamicRef" | "$recursiveRef" => false,
            _ => refers_to_definitions_only(value),
        }),
        Value::Array(items) => items.iter().all(refers_to_definitions_only),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn await_tool() -> Tool {
    let schema = json!({
        "type": "object",
        "properties": {
            "approval": { "type": "string", "description": "the id of the request, as the pending answer gave it" },
            "call": {
                "type": "string",
                "description": "instead of `approval`: the id of a call, as an answer gave it, to hear once more what came of it",
            },
            "wait_seconds": {
                "type": "integer", "minimum": 0, "maximum": WAIT_SECONDS_MAX,
                "description": "how long to wait for people; 0 only looks. Clients that ask for no progress are \
                                answered within seconds, also when more is said",
            },
            REASON_FIELD: { "type": "string" },
        },
        "additionalProperties": false,
    });
    Tool::new(
        AWAIT,
        "Waits a while for people to answer a request for approval, and gives the result of the call once it was \
         performed. While it is `pending`, call this again, as often as needed. Waiting changes nothing: the call is \
         performed once it is approved, also when nobody waits. Give `approval`, or the `call` of another answer to \
         hear once more what came of it.",
        object(&schema),
    )
    .with_annotations(annotations(DeclaredEffect::Read, true))
}

pub(super) fn object(schema: &Value) -> JsonObject {
    schema.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use countersign_app::answer::answer_json;
    use countersign_gate::{Answer, Refused};
    use countersign_rules::{Refusal, SystemName, SystemSpec, ToolName, ToolSpec, ToolVersion};

    use super::*;

    fn offered(name: &str, effect: DeclaredEffect, output: Option<Value>) -> Offered {
        Offered {
            spec: Arc::new(ToolSpec {
                name: ToolName::parse(name).unwrap(),
                version: ToolVersion::parse("v").unwrap(),
                system: SystemSpec {
                    name: SystemName::parse("billing").unwrap(),
                    kind: "sqlite".into(),
                    environment: "production".into(),
                    account: "acme".into(),
                },
                description: "what it does".into(),
                effect,
                categories: BTreeSet::new(),
                reversible: false,
                measurable: false,
                idempotent: false,
                arguments: json!({}),
                result: output.clone(),
                rates: Vec::new(),
                rows_max: 1,
            }),
            input_schema: Arc::new(json!({ "type": "object" })),
            output_schema: output.map(Arc::new),
        }
    }

    #[test]
    fn annotations_agree_with_the_class() {
        for (effect, read_only, destructive) in [
            (DeclaredEffect::Read, true, false),
            (DeclaredEffect::Write, false, false),
            (DeclaredEffect::Destructive, false, true),
            (DeclaredEffect::FromStatement, false, true),
        ] {
            let tool = tool(&offered("t", effect, None));
            let hints = tool.annotations.unwrap();
            assert_eq!((hints.read_only_hint, hints.destructive_hint), (Some(read_only), Some(destructive)));
            assert_eq!(hints.idempotent_hint, Some(read_only));
        }
    }

    #[test]
    fn our_own_tool_is_listed_once_and_cannot_be_replaced() {
        let tools =
            list(&[offered("a", DeclaredEffect::Read, None), offered(AWAIT, DeclaredEffect::Read, None)]);
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert_eq!(names, ["a", AWAIT]);
        assert!(tools[1].description.as_ref().unwrap().starts_with("Waits a while"));
    }

    #[test]
    fn the_declared_result_and_every_answer_fit_the_output_schema() {
        let declared = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object", "properties": { "total": { "$ref": "#/$defs/cents" } }, "required": ["total"],
            "additionalProperties": false, "$defs": { "cents": { "type": "integer" } },
        });
        let tool = tool(&offered("t", DeclaredEffect::Read, Some(declared)));
        let schema = Value::Object(tool.output_schema.unwrap().as_ref().clone());
        let check = jsonschema::draft202012::new(&schema).unwrap();
        assert!(check.is_valid(&json!({ "total": 3 })));
        assert!(!check.is_valid(&json!({ "total": "3" })));
        assert!(check.is_valid(&json!({ "status": "pending", "approval": "apr-1" })));
        assert!(!check.is_valid(&json!({ "status": "done" })));
    }

    #[test]
    fn every_refusal_fits_the_output_schema() {
        let schema =
            Value::Object(output_schema(&json!({ "type": "object", "required": ["total"] })).unwrap());
        let check = jsonschema::draft202012::new(&schema).unwrap();
        for code in Code::ALL {
            let refusal = Refusal::new(*code, "no");
            let answer = Answer::Refused(Refused { call: None, approval: None, refusal, repeated: false });
            assert!(check.is_valid(&answer_json(&answer)), "{code:?}");
        }
    }

    #[test]
    fn a_schema_that_cannot_be_moved_is_not_shown() {
        let declared = json!({ "type": "object", "properties": { "next": { "$ref": "#" } } });
        assert!(tool(&offered("t", DeclaredEffect::Read, Some(declared))).output_schema.is_none());
    }
}
