//! The arguments of a tool: their schema, how it is written, shown and enforced.
//!
//! Written short, `{ customer_id = { type = "string", format = "uuid" } }` is a closed object whose
//! properties are all required unless they say `optional = true`. A full JSON Schema (2020-12) object is
//! taken as well and closed wherever it does not say otherwise. Formats are enforced. What a schema could
//! say and nobody would enforce, an unknown format or keyword, is refused when it is written.

mod form;

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString as _},
    vec::Vec,
};
use core::fmt;

use jsonschema::{Draft, PatternOptions, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::{Value, json};

use crate::{
    call::{REASON_FIELD, REASON_FIELDS},
    refusal::{Code, Refusal},
};

/// The longest reason an agent may state, in characters.
pub const REASON_CHARS_MAX: usize = 2_000;
/// Null is looked for to this depth of nested objects and arrays.
const NULL_DEPTH_MAX: usize = 16;
/// One refusal names this many violations, and tells the number of the others.
const VIOLATIONS_MAX: usize = 8;
/// A refusal repeats this many characters of a name or rule.
const QUOTED_CHARS_MAX: usize = 64;
/// The largest compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A schema that is not accepted has this mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pointer}`: {message}")]
pub struct BadSchema {
    /// The mistake stands here in the schema: a JSON pointer (RFC 6901), `/` for the whole.
    pub pointer: String,
    /// This is wrong there: a lower-case fragment without a full stop.
    pub message: String,
    /// This would be right, where that can be told.
    pub help: Option<String>,
}

/// This is the compiled schema of a tool's arguments.
#[derive(Debug)]
pub struct Arguments(Schema);

impl Arguments {
    /// Compiles what a tool's author wrote.
    ///
    /// # Errors
    /// Returns [`BadSchema`] when it is no schema of an object, says something that would not be enforced, or is
    /// larger than a tool should have.
    pub fn parse(written: &Value) -> Result<Self, BadSchema> {
        let schema = form::object(written)?;
        if let Some(taken) =
            REASON_FIELDS.iter().find(|name| schema.pointer(&format!("/properties/{name}")).is_some())
        {
            return Err(form::bad(
                &format!("/{taken}"),
                "is reserved for the agent's stated reason",
                "every tool has it already; choose another name",
            ));
        }
        Schema::compile(schema).map(Self)
    }

    /// Returns the schema in full: a closed object, without the reserved reason.
    #[must_use]
    pub const fn schema(&self) -> &Value {
        &self.0.written
    }

    /// Returns the schema as agents see it, with the reserved field for their reason.
    #[must_use]
    pub fn advertised(&self) -> Value {
        let mut schema = self.0.written.clone();
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(
                REASON_FIELD.into(),
                json!({
                    "type": "string",
                    "maxLength": REASON_CHARS_MAX,
                    "description": "why this call is made; recorded and shown to approvers, never part of the decision",
                }),
            );
        }
        schema
    }

    /// Checks the arguments of a call, the reason already taken out.
    ///
    /// # Errors
    /// Returns a [`Refusal`] with [`Code::InvalidArguments`] that names each argument and the rule it breaks.
    pub fn check(&self, arguments: &Value) -> Result<(), Refusal> {
        self.0.check(arguments).map_err(|violations| {
            Refusal::new(Code::InvalidArguments, format!("the arguments do not fit: {violations}"))
                .help("correct the arguments named and call again")
        })
    }
}

/// Takes the agent's stated reason out of the arguments.
///
/// # Errors
/// Returns a [`Refusal`] when the reason is no text or longer than [`REASON_CHARS_MAX`].
pub fn split_reason(mut arguments: Value) -> Result<(Value, Option<String>), Refusal> {
    let Some(object) = arguments.as_object_mut() else { return Ok((arguments, None)) };
    let mut reason = None;
    for name in REASON_FIELDS {
        match object.remove(*name) {
            None | Some(Value::Null) => {}
            // Under both names, the first is the one that is advertised.
            Some(Value::String(text)) if text.chars().count() <= REASON_CHARS_MAX => {
                reason = reason.or(Some(text));
            }
            Some(_) => {
                let message = format!("`/{name}` must be a text of at most {REASON_CHARS_MAX} characters");
                return Err(Refusal::new(Code::InvalidArguments, message)
                    .help("state the reason in fewer words, or leave it out"));
            }
        }
    }
    Ok((arguments, reason))
}

/// Takes null out of the arguments where it stands for nothing: an optional property that may not be null, or of which null
/// is the declared default. Models that must fill in every field write null for what they leave out.
#[must_use]
pub fn without_nulls(schema: &Value, arguments: Value) -> Value {
    emptied(schema, schema, arguments, 0)
}

fn emptied(root: &Value, schema: &Value, value: Value, depth: usize) -> Value {
    if depth >= NULL_DEPTH_MAX {
        return value;
    }
    let schema = one_form(root, resolved(root, schema, depth), depth);
    let members = match value {
        Value::Object(members) => members,
        Value::Array(items) => {
            let Some(item) = schema.get("items") else { return Value::Array(items) };
            let items = items.into_iter().map(|one| emptied(root, item, one, depth.saturating_add(1)));
            return Value::Array(items.collect());
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return value,
    };
    let kept = members.into_iter().filter_map(|(name, member)| {
        let Some(property) = schema.get("properties").and_then(|all| all.get(&name)) else {
            return Some((name, member));
        };
        let nothing = !takes_null(root, property, 0) || property.get("default") == Some(&Value::Null);
        let gone = member.is_null() && !requires(schema, &name) && nothing;
        (!gone).then(|| (name, emptied(root, property, member, depth.saturating_add(1))))
    });
    Value::Object(kept.collect())
}

/// The one form of several that is not null, where there is one.
fn one_form<'a>(root: &'a Value, schema: &'a Value, depth: usize) -> &'a Value {
    let forms = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema.get(*key).and_then(Value::as_array));
    let mut others = forms
        .into_iter()
        .flatten()
        .map(|form| resolved(root, form, depth))
        .filter(|form| form.get("type").and_then(Value::as_str) != Some("null"));
    match (others.next(), others.next()) {
        (Some(only), None) if schema.get("properties").is_none() => only,
        _ => schema,
    }
}

/// Returns true if null may fit the schema. In doubt it may, and is left for the validator to judge.
fn takes_null(root: &Value, schema: &Value, depth: usize) -> bool {
    if depth > NULL_DEPTH_MAX {
        return true;
    }
    let schema = resolved(root, schema, depth);
    let Some(members) = schema.as_object() else { return schema != &Value::Bool(false) };
    let next = |form: &Value| takes_null(root, form, depth.saturating_add(1));
    let list = |key: &str| members.get(key).and_then(Value::as_array);
    let by_type = match members.get("type") {
        Some(Value::String(one)) => one == "null",
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some("null")),
        _ => true,
    };
    by_type
        && members.get("const").is_none_or(Value::is_null)
        && list("enum").is_none_or(|all| all.iter().any(Value::is_null))
        && list("anyOf").is_none_or(|forms| forms.iter().any(next))
        && list("oneOf").is_none_or(|forms| forms.iter().any(next))
        && list("allOf").is_none_or(|forms| forms.iter().all(next))
}

fn resolved<'a>(root: &'a Value, schema: &'a Value, depth: usize) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#'));
    match target.and_then(|pointer| root.pointer(pointer)) {
        Some(target) if depth < NULL_DEPTH_MAX => resolved(root, target, depth.saturating_add(1)),
        _ => schema,
    }
}

/// Returns true if the schema of an object takes no members but the [`properties`] that it names.
#[must_use]
pub fn is_closed(schema: &Value) -> bool {
    schema.get("additionalProperties") == Some(&Value::Bool(false))
        && schema.get("patternProperties").is_none()
}

/// Returns the properties that the schema of an object names, with their schemas.
pub fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let named = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    named.map(|(name, property)| (name.as_str(), property))
}

/// Returns true if the schema of an object says that a property must be given.
#[must_use]
pub fn requires(schema: &Value, name: &str) -> bool {
    let names = schema.get("required").and_then(Value::as_array);
    names.is_some_and(|names| names.iter().any(|required| required.as_str() == Some(name)))
}

/// This is the compiled schema of a tool's result.
#[derive(Debug)]
pub struct ResultSchema(Schema);

impl ResultSchema {
    /// Compiles what a tool's author wrote; the same forms as for arguments, and any other JSON Schema.
    ///
    /// # Errors
    /// Returns [`BadSchema`], as for [`Arguments::parse`].
    pub fn parse(written: &Value) -> Result<Self, BadSchema> {
        Schema::compile(form::any(written)?).map(Self)
    }

    /// Returns the schema in full.
    #[must_use]
    pub const fn schema(&self) -> &Value {
        &self.0.written
    }

    /// Checks what a system answered.
    ///
    /// # Errors
    /// Returns a [`Refusal`] with [`Code::ResultRejected`]. It repeats nothing of the answer.
    pub fn check(&self, result: &Value) -> Result<(), Refusal> {
        self.0.check(result).map_err(|violations| {
            Refusal::new(
                Code::ResultRejected,
                format!("the system's answer does not fit the declared result: {violations}"),
            )
            .help("the effect happened; correct the tool's `result` or the system")
        })
    }
}

/// The rules of a schema that a value breaks, each in words that repeat nothing of the value.
#[derive(Debug, Default)]
struct Violations {
    /// The first [`VIOLATIONS_MAX`] of them.
    named: Vec<String>,
    /// The number of those that are not named.
    left: usize,
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named.join("; "))?;
        if self.left > 0 { write!(f, "; and {} more", self.left) } else { Ok(()) }
    }
}

impl core::error::Error for Violations {}

#[derive(Debug)]
struct Schema {
    written: Value,
    compiled: Box<Validator>,
}

impl Schema {
    fn compile(written: Value) -> Result<Self, BadSchema> {
        let compiled = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            // A linear-time engine: an argument cannot make a pattern take forever.
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
            .build(&written)
            .map_err(|e| BadSchema {
                pointer: pointer(e.instance_path().as_str()),
                message: cut(&e.masked().to_string()),
                help: None,
            })?;
        Ok(Self { written, compiled: Box::new(compiled) })
    }

    fn check(&self, value: &Value) -> Result<(), Violations> {
        if self.compiled.is_valid(value) {
            return Ok(());
        }
        let mut violations = Violations::default();
        for error in self.compiled.iter_errors(value) {
            if violations.named.len() < VIOLATIONS_MAX {
                violations.named.push(self.violation(&error));
            } else {
                violations.left = violations.left.saturating_add(1);
            }
        }
        Err(violations)
    }

    /// Returns one violation, without the value: it may be long, secret or about a person.
    fn violation(&self, error: &ValidationError<'_>) -> String {
        let at = pointer(error.instance_path().as_str());
        let at = cut(&at);
        if let ValidationErrorKind::Required { property } = error.kind() {
            let name = property.as_str().unwrap_or_default();
            return format!("`{}` is missing", cut(&join(&at, name)));
        }
        if let ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } = error.kind()
        {
            let names: Vec<String> = unexpected
                .iter()
                .take(VIOLATIONS_MAX)
                .map(|name| format!("`{}`", cut(&join(&at, name))))
                .collect();
            let verb = if names.len() == 1 { "is" } else { "are" };
            return format!("{} {verb} not declared", names.join(", "));
        }
        let rule = self.written.pointer(error.schema_path().as_str());
        let rule = rule.map(|r| r.as_str().map_or_else(|| r.to_string(), String::from)).map(|r| cut(&r));
        let keyword = error.kind().keyword();
        match (keyword, rule) {
            ("type", Some(kind)) => format!("`{at}` must be of type {kind}"),
            ("format", Some(name)) => format!("`{at}` must be a valid `{name}`"),
            ("pattern", Some(pattern)) => format!("`{at}` must match `{pattern}`"),
            ("enum", Some(options)) => format!("`{at}` must be one of {options}"),
            ("const", Some(only)) => format!("`{at}` must be {only}"),
            ("minimum", Some(n)) => format!("`{at}` must be at least {n}"),
            ("maximum", Some(n)) => format!("`{at}` must be at most {n}"),
            ("exclusiveMinimum", Some(n)) => format!("`{at}` must be more than {n}"),
            ("exclusiveMaximum", Some(n)) => format!("`{at}` must be less than {n}"),
            ("multipleOf", Some(n)) => format!("`{at}` must be a multiple of {n}"),
            ("minLength", Some(n)) => format!("`{at}` must have at least {n} characters"),
            ("maxLength", Some(n)) => format!("`{at}` must have at most {n} characters"),
            ("minItems", Some(n)) => format!("`{at}` must have at least {n} items"),
            ("maxItems", Some(n)) => format!("`{at}` must have at most {n} items"),
            ("uniqueItems", _) => format!("`{at}` has the same item twice"),
            ("anyOf" | "oneOf", _) => format!("`{at}` fits none or more than one of the forms allowed"),
            (keyword, Some(rule)) => format!("`{at}` breaks `{keyword}` {rule}"),
            (keyword, None) => format!("`{at}` breaks `{keyword}`"),
        }
    }
}

fn pointer(path: &str) -> String {
    if path.is_empty() { "/".into() } else { path.into() }
}

fn join(at: &str, name: &str) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    if at == "/" { format!("/{name}") } else { format!("{at}/{name}") }
}

/// At most [`QUOTED_CHARS_MAX`] characters, none of them a control character or backtick.
fn cut(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(QUOTED_CHARS_MAX)
        .map(|c| if c.is_control() || c == '`' { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
