//! How a schema is written: short or full; what it may say; what is filled in.

use alloc::{
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use serde_json::{Map, Value, json};

use super::{BadSchema, cut, join, properties};

/// The largest schema, in bytes of JSON.
const SCHEMA_BYTES_MAX: usize = 64 * 1_024;
/// Schemas may nest this deep; one that nests deeper is refused.
const DEPTH_MAX: usize = 16;
/// The longest name of an argument, as clients of models accept it.
const ARGUMENT_NAME_MAX: usize = 64;

/// Keywords that hold no schema.
const PLAIN: &[&str] = &[
    "type",
    "enum",
    "const",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxContains",
    "minContains",
    "maxProperties",
    "minProperties",
    "required",
    "dependentRequired",
    "format",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    // Names a place and says nothing of the value; nothing can refer to it, see `$ref`.
    "$anchor",
    "$ref",
    "$schema",
    "$id",
    // They say how a text is to be read and not which texts there are.
    "contentMediaType",
    "contentEncoding",
    "contentSchema",
];
/// Keywords that hold a schema for a part of the value.
const PART: &[&str] = &[
    "items",
    "contains",
    "additionalProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "propertyNames",
];
/// Keywords that hold schemas by name, for parts of the value.
const PARTS_BY_NAME: &[&str] = &["properties", "patternProperties"];
/// Keywords that hold a schema for the value itself.
const SELF: &[&str] = &["not", "if", "then", "else"];
/// Keywords that hold a list of schemas for the value itself.
const SELF_LIST: &[&str] = &["allOf", "anyOf", "oneOf"];
/// Keywords that hold schemas by name, for the value itself.
const SELF_BY_NAME: &[&str] = &["$defs", "dependentSchemas"];

/// The types of JSON Schema.
const TYPES: &[&str] = &["string", "integer", "number", "boolean", "object", "array", "null"];

/// Formats that are enforced. Others are refused, because nobody would check them.
const FORMATS: &[&str] = &[
    "date",
    "date-time",
    "time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "json-pointer",
    "regex",
    "uri",
    "uri-reference",
    "uuid",
];

/// Formats that say how a value is stored or shown and not which values there are. They are kept as remarks.
const REMARKS: &[&str] = &[
    "int8",
    "int16",
    "int32",
    "int64",
    "uint",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float",
    "double",
    "decimal",
    "byte",
    "binary",
    "base64",
    "base64url",
    "password",
    "char",
    "iri",
    "iri-reference",
    "idn-email",
    "idn-hostname",
    "uri-template",
    "relative-json-pointer",
    "url",
    "path",
    "file-path",
    "directory-path",
    "multi-line",
    "textarea",
    "markdown",
    "html",
    "color",
];

/// Keywords of OpenAPI and of editors that say nothing of which values there are. They are kept as remarks.
const WORDS: &[&str] = &[
    "example",
    "externalDocs",
    "xml",
    "discriminator",
    "enumNames",
    "enumDescriptions",
    "markdownDescription",
    "propertyOrdering",
];

/// The names of all dialects of JSON Schema contain this.
const JSON_SCHEMA: &str = "json-schema.org/";
/// And the one that is enforced.
const LATEST: &str = "json-schema.org/draft/2020-12/schema";

pub(super) fn bad(pointer: &str, message: impl Into<String>, help: &str) -> BadSchema {
    let help = if help.is_empty() { None } else { Some(String::from(help)) };
    BadSchema { pointer: cut(pointer), message: message.into(), help }
}

/// Returns the closed schema of an object, from either form.
pub(super) fn object(written: &Value) -> Result<Value, BadSchema> {
    let schema = schema(written, true)?;
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(bad("/type", "must be `object`", "arguments are named: write `type = \"object\"`"));
    }
    let mut schema = schema;
    if let Some(whole) = schema.as_object_mut() {
        whole.entry("properties").or_insert_with(|| json!({}));
    }
    for (name, _property) in properties(&schema) {
        let fits = name.len() <= ARGUMENT_NAME_MAX
            && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if !fits {
            return Err(bad(
                &join("/properties", name),
                "is not a name of an argument",
                "begin with a letter or `_`, then letters, digits, `_`, `-` and `.`, at most 64 in all",
            ));
        }
    }
    Ok(schema)
}

/// Returns the closed schema of any value, from either form.
pub(super) fn any(written: &Value) -> Result<Value, BadSchema> {
    schema(written, false)
}

/// `arguments` are always an object, whether or not their schema says so.
fn schema(written: &Value, arguments: bool) -> Result<Value, BadSchema> {
    if written.to_string().len() > SCHEMA_BYTES_MAX {
        return Err(bad("/", "is larger than 64 KiB", "a tool does one narrow thing"));
    }
    let Some(members) = written.as_object() else {
        return Err(bad("/", "must be a table of arguments or a JSON Schema", ""));
    };
    let mut schema = if is_full(members) { written.clone() } else { from_short(members, "")? };
    dialect(&mut schema)?;
    translate(&mut schema, 0);
    if arguments && let Some(members) = schema.as_object_mut() {
        members.entry("type").or_insert_with(|| json!("object"));
    }
    close(&mut schema, &Position { at: String::new(), depth: 0, own: true, frozen: false })?;
    Ok(schema)
}

/// Takes any published dialect of JSON Schema: what differs is translated.
fn dialect(schema: &mut Value) -> Result<(), BadSchema> {
    let Some(members) = schema.as_object_mut() else { return Ok(()) };
    match members.get("$schema").and_then(Value::as_str) {
        Some(name) if name.contains(LATEST) => {}
        Some(name) if name.contains(JSON_SCHEMA) => {
            members.remove("$schema");
        }
        Some(_) => {
            let help = "write JSON Schema 2020-12, or leave `$schema` out";
            return Err(bad("/$schema", "is another dialect", help));
        }
        None => {}
    }
    Ok(())
}

/// Writes what older drafts and OpenAPI 3.0 say as JSON Schema 2020-12 does.
fn translate(schema: &mut Value, depth: usize) {
    let Some(members) = schema.as_object_mut().filter(|_| depth <= DEPTH_MAX.saturating_mul(2)) else {
        return;
    };
    if let Some(definitions) = members.remove("definitions") {
        members.entry("$defs").or_insert(definitions);
    }
    if let Some(Value::String(target)) = members.get_mut("$ref")
        && let Some(name) = target.strip_prefix("#/definitions/")
    {
        *target = format!("#/$defs/{name}");
    }
    if members.get("items").is_some_and(Value::is_array) {
        if let Some(items) = members.remove("items") {
            members.insert("prefixItems".into(), items);
        }
        if let Some(more) = members.remove("additionalItems") {
            members.insert("items".into(), more);
        }
    }
    if members.remove("nullable") == Some(Value::Bool(true)) {
        match members.get_mut("type") {
            Some(Value::String(one)) => {
                let kinds = json!([one.as_str(), "null"]);
                members.insert("type".into(), kinds);
            }
            _ => {
                let whole = core::mem::take(members);
                members.insert("anyOf".into(), json!([whole, { "type": "null" }]));
            }
        }
        if let Some(Value::Array(values)) = members.get_mut("enum")
            && !values.contains(&Value::Null)
        {
            values.push(Value::Null);
        }
    }
    // Draft 4 and OpenAPI 3.0 say of a bound whether it belongs to what is allowed.
    for (excluded, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        match members.get(excluded) {
            Some(Value::Bool(true)) => {
                let bound = members.remove(bound);
                members.remove(excluded);
                members.extend(bound.map(|bound| (String::from(excluded), bound)));
            }
            Some(Value::Bool(false)) => drop(members.remove(excluded)),
            Some(_) | None => {}
        }
    }
    // Up to draft 7 one keyword says what comes with a property: others, or a schema.
    if let Some(Value::Object(all)) = members.get("dependencies").cloned() {
        members.remove("dependencies");
        for (name, needed) in all {
            let keyword = if needed.is_array() { "dependentRequired" } else { "dependentSchemas" };
            if let Some(named) = members.entry(keyword).or_insert_with(|| json!({})).as_object_mut() {
                named.entry(name).or_insert(needed);
            }
        }
    }
    // Draft 4 names a schema so.
    if members.get("id").is_some_and(Value::is_string) {
        members.remove("id");
    }
    for word in WORDS {
        if let Some(said) = members.remove(*word) {
            members.insert(format!("x-{word}"), said);
        }
    }
    if members.get("format").and_then(Value::as_str).is_some_and(|name| REMARKS.contains(&name))
        && let Some(format) = members.remove("format")
    {
        members.insert("x-format".into(), format);
    }
    let below = depth.saturating_add(1);
    for (keyword, value) in members.iter_mut() {
        let key = keyword.as_str();
        if PART.contains(&key) || SELF.contains(&key) {
            translate(value, below);
        } else if PARTS_BY_NAME.contains(&key) || SELF_BY_NAME.contains(&key) {
            value
                .as_object_mut()
                .into_iter()
                .flat_map(Map::values_mut)
                .for_each(|part| translate(part, below));
        } else if SELF_LIST.contains(&key) || key == "prefixItems" {
            value.as_array_mut().into_iter().flatten().for_each(|part| translate(part, below));
        }
    }
}

/// Short form: each member is an argument, and so a table that says its type. A full schema says a type, is marked as one, or
/// has what no argument can be: a list, or a table of tables.
fn is_full(members: &Map<String, Value>) -> bool {
    let list = ["allOf", "anyOf", "oneOf", "required"];
    let table = ["properties", "$defs", "definitions"];
    ["type", "$schema", "$ref", "$id", "id"].iter().any(|k| members.get(*k).is_some_and(|v| !v.is_object()))
        || list.iter().any(|k| members.get(*k).is_some_and(Value::is_array))
        || table.iter().any(|k| {
            let inner = members.get(*k).and_then(Value::as_object);
            inner.is_some_and(|inner| !inner.is_empty() && inner.values().all(Value::is_object))
        })
}

fn from_short(members: &Map<String, Value>, at: &str) -> Result<Value, BadSchema> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, property) in members {
        let at = join(if at.is_empty() { "/" } else { at }, name);
        let Some(property) = property.as_object() else {
            return Err(bad(&at, "must be a table such as `{ type = \"string\" }`", ""));
        };
        let mut property = property.clone();
        match property.remove("optional") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) | None => required.push(Value::String(name.clone())),
            Some(Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
                return Err(bad(&at, "`optional` must be `true` or `false`", ""));
            }
        }
        let typed = ["type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"];
        // An empty table takes anything.
        if !property.is_empty()
            && !typed.iter().any(|k| property.get(*k).is_some_and(|v| !v.is_object() || *k == "const"))
        {
            return Err(bad(
                &at,
                "says nothing about its type",
                "add `type`; to write a full JSON Schema, begin it with `type = \"object\"`",
            ));
        }
        if let (None, Some(Value::Object(inner))) = (property.get("required"), property.get("properties")) {
            let inner = from_short(inner, &at)?;
            for key in ["properties", "required"] {
                if let Some(value) = inner.get(key) {
                    property.insert(key.into(), value.clone());
                }
            }
        }
        properties.insert(name.clone(), Value::Object(property));
    }
    Ok(json!({ "type": "object", "properties": properties, "required": required }))
}

/// A schema stands in one of these places. `own` is false for a schema that applies to the same value as the one
/// around it: that one closes the value, since closing each part of an `allOf` would refuse everything.
///
/// `frozen` where closing would let more values through, such as inside `not`.
struct Position {
    at: String,
    depth: usize,
    own: bool,
    frozen: bool,
}

impl Position {
    fn below(&self, key: &str, own: bool) -> Self {
        let at = if self.at.is_empty() { "/" } else { &self.at };
        Self {
            at: join(at, key),
            depth: self.depth.saturating_add(1),
            own,
            frozen: self.frozen || matches!(key, "not" | "if" | "contains"),
        }
    }
}

fn close(schema: &mut Value, position: &Position) -> Result<(), BadSchema> {
    let at = if position.at.is_empty() { "/" } else { &position.at };
    if position.depth > DEPTH_MAX.saturating_mul(2) {
        return Err(bad(at, "nests too deep", "at most 16 levels"));
    }
    let members = match schema {
        Value::Object(members) => members,
        Value::Bool(_) => return Ok(()),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(bad(at, "is not a schema", ""));
        }
    };
    for (keyword, value) in members.iter_mut() {
        let key = keyword.as_str();
        let here = position.below(key, false);
        if PLAIN.contains(&key) {
            plain(key, value, &here.at)?;
        } else if PART.contains(&key) {
            close(value, &Position { own: true, ..here })?;
        } else if SELF.contains(&key) {
            close(value, &here)?;
        } else if PARTS_BY_NAME.contains(&key) || SELF_BY_NAME.contains(&key) {
            let own = PARTS_BY_NAME.contains(&key);
            let named = value.as_object_mut().ok_or_else(|| bad(&here.at, "must be a table", ""))?;
            for (name, part) in named.iter_mut() {
                close(part, &here.below(name, own))?;
            }
        } else if SELF_LIST.contains(&key) || key == "prefixItems" {
            let list = value.as_array_mut().ok_or_else(|| bad(&here.at, "must be a list", ""))?;
            for (i, part) in list.iter_mut().enumerate() {
                close(part, &here.below(&i.to_string(), key == "prefixItems"))?;
            }
        } else if !key.starts_with("x-") {
            return Err(bad(
                &here.at,
                "is not a keyword that is enforced",
                "see JSON Schema 2020-12; remarks of your own begin with `x-`",
            ));
        }
    }
    if position.own && !position.frozen {
        fill_in(members, position.depth == 0);
    }
    Ok(())
}

fn plain(keyword: &str, value: &Value, at: &str) -> Result<(), BadSchema> {
    match (keyword, value.as_str()) {
        ("$ref", Some(target)) if !target.starts_with("#/$defs/") => {
            Err(bad(at, "leaves the schema", "refer to `#/$defs/…` only"))
        }
        ("type", _) => match types(value).find(|name| !TYPES.contains(name)) {
            Some(name) => Err(bad(
                at,
                format!("`{}` is no type of JSON Schema", cut(name)),
                &format!("write one of {}", TYPES.join(", ")),
            )),
            None => Ok(()),
        },
        ("format", Some(name)) if !FORMATS.contains(&name) => Err(bad(
            at,
            format!("`{}` is not a format that is enforced", cut(name)),
            &format!("choose one of {}, or write a `pattern`", FORMATS.join(", ")),
        )),
        _ => Ok(()),
    }
}

fn types(value: &Value) -> impl Iterator<Item = &str> {
    value.as_str().into_iter().chain(value.as_array().into_iter().flatten().filter_map(Value::as_str))
}

/// Closes an object that does not say whether it is open. One that says nothing of its properties takes any, but for the
/// arguments themselves, of which there are then none.
fn fill_in(members: &mut Map<String, Value>, whole: bool) {
    let has = |key: &str| members.contains_key(key);
    if has("additionalProperties") || has("unevaluatedProperties") {
        return;
    }
    let composed =
        SELF_LIST.iter().any(|k| has(k)) || ["if", "$ref", "dependentSchemas"].iter().any(|k| has(k));
    let object = members.get("type").is_some_and(|t| {
        t.as_str() == Some("object") || t.as_array().is_some_and(|all| all.contains(&json!("object")))
    });
    if composed {
        members.insert("unevaluatedProperties".into(), Value::Bool(false));
    } else if (object && whole) || has("properties") || has("patternProperties") {
        members.insert("additionalProperties".into(), Value::Bool(false));
    }
}
