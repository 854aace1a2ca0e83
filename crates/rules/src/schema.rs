//! The Cedar schema that policies are checked against, made from the tools.
//!
//! Principal: `Agent` in `Team`. Action: one per tool, in the group `call` and in a group for each category
//! its author declared. Resource: the `System`, in its `Environment` and `Account`. Context: the facts,
//! with `args` typed from the tool's own JSON Schema.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    sync::Arc,
    vec::Vec,
};

use cedar_policy::RestrictedExpression;
use serde_json::{Map, Value, json};

use crate::{
    answering::ANSWER,
    arguments::{is_closed, properties, requires},
    category,
    tool::ToolSpec,
};

/// The action group that every tool is in.
pub const CALL: &str = "call";
/// The name of a category's action group begins with this.
pub const CATEGORY: &str = "category:";

/// Types are followed to this depth; deeper ones Cedar does not see.
const DEPTH_MAX: usize = 16;

/// Cedar can know a JSON value by one of these types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ArgumentType {
    Text,
    Integer,
    Truth,
    /// The value is a number with at most four places after the point.
    Decimal,
    Set(Box<Self>),
    Record(BTreeMap<String, Attribute>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) kind: ArgumentType,
    pub(crate) required: bool,
}

/// An argument that policies cannot look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untyped {
    /// The argument is one of this tool.
    pub tool: String,
    /// The argument is this, as a JSON pointer into the arguments.
    pub argument: String,
    /// Cedar has no type for the argument for this reason.
    pub reason: &'static str,
}

/// The types of a tool's arguments, and what was left out.
pub(crate) fn argument_types(tool: &ToolSpec) -> (BTreeMap<String, Attribute>, Vec<Untyped>) {
    let mut reader = TypeReader { root: &tool.arguments, tool: tool.name.as_str(), left_out: Vec::new() };
    let attributes = reader.attributes(&tool.arguments, "", 0);
    if !is_closed(&tool.arguments) {
        let reason = "arguments that its schema does not name are taken";
        reader.left_out.push(Untyped { tool: reader.tool.into(), argument: "/*".into(), reason });
    }
    (attributes, reader.left_out)
}

struct TypeReader<'a> {
    root: &'a Value,
    tool: &'a str,
    left_out: Vec<Untyped>,
}

impl TypeReader<'_> {
    fn attributes(&mut self, schema: &Value, at: &str, depth: usize) -> BTreeMap<String, Attribute> {
        let mut attributes = BTreeMap::new();
        for (name, property) in properties(schema) {
            let at = format!("{at}/{name}");
            match self.read(property, &at, depth.saturating_add(1)) {
                Ok((kind, nullable)) => {
                    let required = requires(schema, name) && !nullable;
                    attributes.insert(name.into(), Attribute { kind, required });
                }
                Err(reason) => {
                    self.left_out.push(Untyped { tool: self.tool.into(), argument: at, reason });
                }
            }
        }
        attributes
    }

    /// The type of a value whose schema is composed of others, and `None` where it is not. Null as one of several forms
    /// makes it optional; otherwise the forms must agree.
    fn forms(
        &mut self,
        schema: &Value,
        at: &str,
        depth: usize,
    ) -> Option<Result<(ArgumentType, bool), &'static str>> {
        let lists: Vec<(&str, &Vec<Value>)> = ["anyOf", "oneOf", "allOf"]
            .into_iter()
            .filter_map(|key| Some((key, schema.get(key)?.as_array()?)))
            .collect();
        let (key, list) = match lists.as_slice() {
            [] => return None,
            [one] => *one,
            _ => return Some(Err("it has several forms")),
        };
        // Properties of its own beside those of its forms: an object put together from several.
        if ["properties", "items", "if", "not", "dependentSchemas"].iter().any(|k| schema.get(*k).is_some()) {
            return Some(Err("it has several forms"));
        }
        if key == "allOf" && list.len() > 1 {
            return Some(Err("it has several forms"));
        }
        let mut nullable = false;
        let mut kind: Option<ArgumentType> = None;
        for form in list {
            if is_null(form) && key != "allOf" {
                nullable = true;
                continue;
            }
            match self.read(form, at, depth.saturating_add(1)) {
                Err(why) => return Some(Err(why)),
                Ok((one, null)) => {
                    nullable |= null;
                    if kind.as_ref().is_some_and(|other| *other != one) {
                        return Some(Err("it has several forms"));
                    }
                    kind = Some(one);
                }
            }
        }
        Some(kind.map(|kind| (kind, nullable)).ok_or("it can only be null"))
    }

    fn read(&mut self, schema: &Value, at: &str, depth: usize) -> Result<(ArgumentType, bool), &'static str> {
        if depth > DEPTH_MAX {
            return Err("it nests too deep or refers to itself");
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let root = self.root;
            let target = target.strip_prefix('#').and_then(|path| root.pointer(path));
            return self.read(target.ok_or("its `$ref` leads nowhere")?, at, depth.saturating_add(1));
        }
        let (kind, nullable) = match (kind(schema), self.forms(schema, at, depth)) {
            // What stands beside a scalar type only restricts it.
            (Ok(scalar @ ("string" | "integer" | "boolean" | "number", _)), _) => scalar,
            (_, Some(form)) => return form,
            (Ok(_), None) if ["if", "not", "dependentSchemas"].iter().any(|k| schema.get(*k).is_some()) => {
                return Err("it has several forms");
            }
            (kind, None) => kind?,
        };
        let kind = match kind {
            "string" => ArgumentType::Text,
            "integer" => ArgumentType::Integer,
            "boolean" => ArgumentType::Truth,
            "number" => ArgumentType::Decimal,
            "object" => {
                let closed = |key: &str| schema.get(key) == Some(&Value::Bool(false));
                let open = schema.get("additionalProperties").is_some() && !closed("additionalProperties");
                if open || !(closed("additionalProperties") || closed("unevaluatedProperties")) {
                    return Err("its properties are open");
                }
                ArgumentType::Record(self.attributes(schema, at, depth))
            }
            "array" => {
                if schema.get("prefixItems").is_some() {
                    return Err("its items have different types by position");
                }
                let items = schema.get("items").ok_or("its items have no type")?;
                let (item, nullable) = self.read(items, at, depth.saturating_add(1))?;
                if nullable {
                    return Err("its items may be null");
                }
                ArgumentType::Set(Box::new(item))
            }
            _ => return Err("it has no type"),
        };
        Ok((kind, nullable))
    }
}

/// Returns true if nothing but null fits the schema.
fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
        || schema.get("const").is_some_and(Value::is_null)
        || schema
            .get("enum")
            .and_then(Value::as_array)
            .is_some_and(|all| !all.is_empty() && all.iter().all(Value::is_null))
}

/// The JSON type, and whether null is another.
fn kind(schema: &Value) -> Result<(&str, bool), &'static str> {
    match schema.get("type") {
        Some(Value::String(one)) => Ok((one.as_str(), false)),
        Some(Value::Array(several)) => {
            let mut others = several.iter().filter_map(Value::as_str).filter(|t| *t != "null");
            match (others.next(), others.next()) {
                (Some(one), None) => Ok((one, several.len() > 1)),
                (None | Some(_), _) => Err("it has several types"),
            }
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => Err("it has no type"),
        None => {
            let constant = schema.get("const").into_iter();
            let values: Vec<&Value> =
                constant.chain(schema.get("enum").and_then(Value::as_array).into_iter().flatten()).collect();
            let nullable = values.iter().any(|value| value.is_null());
            let values: Vec<&Value> = values.into_iter().filter(|value| !value.is_null()).collect();
            let all = |test: fn(&Value) -> bool| !values.is_empty() && values.iter().all(|v| test(v));
            if all(Value::is_string) {
                Ok(("string", nullable))
            } else if all(Value::is_i64) {
                Ok(("integer", nullable))
            } else if all(Value::is_boolean) {
                Ok(("boolean", nullable))
            } else {
                Err("it has no type")
            }
        }
    }
}

impl ArgumentType {
    fn to_cedar(&self) -> Value {
        match self {
            Self::Text => json!({ "type": "String" }),
            Self::Integer => json!({ "type": "Long" }),
            Self::Truth => json!({ "type": "Boolean" }),
            Self::Decimal => json!({ "type": "Extension", "name": "decimal" }),
            Self::Set(item) => json!({ "type": "Set", "element": item.to_cedar() }),
            Self::Record(attributes) => record_type(attributes),
        }
    }

    /// The value for Cedar, or why it cannot be one.
    pub(crate) fn express(&self, value: &Value) -> Result<RestrictedExpression, &'static str> {
        const MISFIT: &str = "does not have the type that its schema says";
        Ok(match self {
            Self::Text => RestrictedExpression::new_string(value.as_str().ok_or(MISFIT)?.into()),
            Self::Integer => RestrictedExpression::new_long(integer(value).ok_or("is no 64-bit integer")?),
            Self::Truth => RestrictedExpression::new_bool(value.as_bool().ok_or(MISFIT)?),
            Self::Decimal => RestrictedExpression::new_decimal(
                decimal(value)
                    .ok_or("has more than four places after the point or is too large for a rule")?,
            ),
            Self::Set(item) => {
                let items = value.as_array().ok_or(MISFIT)?;
                let items: Result<Vec<_>, _> = items.iter().map(|i| item.express(i)).collect();
                RestrictedExpression::new_set(items?)
            }
            Self::Record(attributes) => {
                let members = value.as_object().ok_or(MISFIT)?;
                let mut fields = Vec::new();
                for (name, attribute) in attributes {
                    match members.get(name) {
                        None | Some(Value::Null) if attribute.required => return Err(MISFIT),
                        None | Some(Value::Null) => {}
                        Some(member) => fields.push((name.clone(), attribute.kind.express(member)?)),
                    }
                }
                RestrictedExpression::new_record(fields).map_err(|_cause| MISFIT)?
            }
        })
    }
}

/// JSON has one kind of number: `3.0` is the integer 3.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let text = value.as_f64()?.to_string();
        text.parse().ok()
    })
}

fn decimal(value: &Value) -> Option<String> {
    let text = match value.as_i64() {
        Some(whole) => whole.to_string(),
        None => value.as_f64()?.to_string(),
    };
    let text = match text.split_once('.') {
        None => format!("{text}.0"),
        Some((_, places)) if places.len() <= 4 => text,
        Some(_) => return None,
    };
    // Cedar's decimals are 64-bit integers of ten-thousandths.
    let (whole, places) = text.split_once('.')?;
    let scaled: i128 = format!("{whole}{places:0<4}").parse().ok()?;
    i64::try_from(scaled).ok().map(|_| text)
}

/// Returns the whole schema in Cedar's JSON form. `currencies` are those that some policy asks for.
pub(crate) fn cedar_schema(
    tools: &[Arc<ToolSpec>],
    arguments: &BTreeMap<String, BTreeMap<String, Attribute>>,
    currencies: &BTreeSet<String>,
) -> Value {
    let mut actions = Map::new();
    actions.insert(CALL.into(), json!({}));
    let declared = tools.iter().flat_map(|t| t.categories.iter().map(String::as_str));
    let words: BTreeSet<&str> = category::KNOWN.iter().map(|c| c.word).chain(declared).collect();
    for word in words {
        actions.insert(format!("{CATEGORY}{word}"), json!({ "memberOf": [{ "id": CALL }] }));
    }
    for tool in tools {
        let none = BTreeMap::new();
        let arguments = arguments.get(tool.name.as_str()).unwrap_or(&none);
        let groups: Vec<Value> = groups(tool).iter().map(|id| json!({ "id": id })).collect();
        actions.insert(
            tool.name.as_str().into(),
            json!({
                "memberOf": groups,
                "appliesTo": {
                    "principalTypes": ["Agent"],
                    "resourceTypes": ["System"],
                    "context": context_type(arguments),
                },
            }),
        );
    }
    json!({ "": { "commonTypes": common_types(currencies), "entityTypes": entity_types(), "actions": actions } })
}

/// Returns the action groups of a tool.
pub(crate) fn groups(tool: &ToolSpec) -> Vec<String> {
    let categories = tool.categories.iter().map(|word| format!("{CATEGORY}{word}"));
    core::iter::once(String::from(CALL)).chain(categories).collect()
}

/// Returns the schema of answers in Cedar's JSON form.
pub(crate) fn answer_schema() -> Value {
    let entity = |name: &str| json!({ "type": "Entity", "name": name });
    let mut types = entity_types();
    let own = json!({
        "Group": {},
        "Person": { "memberOfTypes": ["Group"], "shape": record([("id", text(), true)]) },
        "Request": {
            "memberOfTypes": ["System"],
            "shape": record([
                ("tool", text(), true),
                ("system", entity("System"), true),
                ("agent", entity("Agent"), true),
                ("session", text(), true),
                ("on_behalf_of", text(), false),
                ("effect", text(), true),
                ("reach", json!({ "type": "Reach" }), false),
                ("narrowed_by", text(), false),
                ("asked", texts(), true),
            ]),
        },
    });
    if let (Some(types), Value::Object(own)) = (types.as_object_mut(), own) {
        types.extend(own);
    }
    let context = record([("answer", text(), true), ("time", json!({ "type": "Time" }), true)]);
    let applies = json!({ "principalTypes": ["Person"], "resourceTypes": ["Request"], "context": context });
    let actions = json!({ ANSWER: { "appliesTo": applies } });
    json!({ "": { "commonTypes": common_types(&BTreeSet::new()), "entityTypes": types, "actions": actions } })
}

/// Returns the schema of calls with that of answers beside it, for people and for looking up names. Policies are checked
/// against the one or the other.
pub(crate) fn together(mut calls: Value, answers: &Value) -> Value {
    for part in ["entityTypes", "actions"] {
        let pointer = format!("//{part}");
        let own = answers.pointer(&pointer).and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(whole) = calls.pointer_mut(&pointer).and_then(Value::as_object_mut) {
            whole.extend(own);
        }
    }
    calls
}

fn entity_types() -> Value {
    json!({
        "Team": {},
        "Agent": {
            "memberOfTypes": ["Team"],
            "shape": record([("accounts", texts(), true)]),
        },
        "Environment": {},
        "Account": {},
        "System": {
            "memberOfTypes": ["Environment", "Account"],
            "shape": record([
                ("kind", text(), true),
                ("environment", text(), true),
                ("account", text(), true),
            ]),
        },
    })
}

fn common_types(currencies: &BTreeSet<String>) -> Value {
    let money: Map<String, Value> = currencies
        .iter()
        .map(|currency| (currency.clone(), json!({ "type": "Long", "required": false })))
        .collect();
    json!({
        "Money": { "type": "Record", "attributes": money },
        "Amount": record([("currency", text(), true), ("minor", long(), true)]),
        "Reach": record([
            ("rows", long(), true),
            ("exact", truth(), true),
            ("unbounded", truth(), true),
            ("cascades", long(), true),
            ("tables", texts(), true),
            ("triggers", texts(), true),
            ("amount", json!({ "type": "Amount" }), false),
        ]),
        "Counters": record([
            ("calls", long(), true),
            ("writes", long(), true),
            ("destructive", long(), true),
            ("rows", long(), true),
            ("money", json!({ "type": "Money" }), true),
            ("tools", texts(), true),
            ("tool_count", long(), true),
        ]),
        "Statement": record([
            ("verb", text(), true),
            ("reads", texts(), true),
            ("writes", texts(), true),
            ("functions", texts(), true),
            ("bounded", truth(), true),
        ]),
        "Time": record([
            ("unix_ms", long(), true),
            ("hour", long(), true),
            ("minute", long(), true),
            ("weekday", long(), true),
        ]),
        "Approval": record([("people", texts(), true), ("groups", texts(), true)]),
    })
}

fn context_type(arguments: &BTreeMap<String, Attribute>) -> Value {
    let common = |name: &str| json!({ "type": name });
    record([
        ("effect", text(), true),
        ("categories", texts(), true),
        ("reversible", truth(), true),
        ("on_behalf_of", text(), false),
        ("reach", common("Reach"), false),
        ("statement", common("Statement"), false),
        ("session", common("Counters"), true),
        ("agent_today", common("Counters"), true),
        ("given", texts(), true),
        ("time", common("Time"), true),
        ("approval", common("Approval"), false),
        ("args", record_type(arguments), true),
    ])
}

fn record_type(attributes: &BTreeMap<String, Attribute>) -> Value {
    record(attributes.iter().map(|(name, a)| (name.as_str(), a.kind.to_cedar(), a.required)))
}

fn record<'a>(attributes: impl IntoIterator<Item = (&'a str, Value, bool)>) -> Value {
    let attributes: Map<String, Value> = attributes
        .into_iter()
        .map(|(name, mut kind, required)| {
            if let Some(kind) = kind.as_object_mut() {
                kind.insert("required".into(), Value::Bool(required));
            }
            (name.into(), kind)
        })
        .collect();
    json!({ "type": "Record", "attributes": attributes })
}

fn text() -> Value {
    json!({ "type": "String" })
}

fn long() -> Value {
    json!({ "type": "Long" })
}

fn truth() -> Value {
    json!({ "type": "Boolean" })
}

fn texts() -> Value {
    json!({ "type": "Set", "element": text() })
}
