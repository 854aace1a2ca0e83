//! What was reviewed of an upstream tool, as a digest.

use countersign_audit::canonical::canonical_digest;
use rmcp::model::Tool;
use serde_json::{Map, Value, json};

/// A definition as an upstream offers it, for people to review.
#[derive(Debug, Clone, PartialEq)]
pub struct Reviewable {
    /// The upstream's name for the tool.
    pub name: String,
    /// [`definition_digest`] of it; an error where it has no canonical form.
    pub digest: Result<String, String>,
    /// The digest covers this.
    pub definition: Value,
    /// A call of it needs no header but its name's, and that is written as it is.
    pub(super) plain: bool,
}

impl Reviewable {
    pub(super) fn new(tool: &Tool) -> Self {
        let definition = covered(tool);
        let plain_name =
            tool.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        Self {
            name: tool.name.to_string(),
            digest: definition_digest(&definition),
            plain: plain_name && !tool.name.is_empty() && !names_headers(&definition),
            definition,
        }
    }
}

/// `sha256:` and the SHA-256 of a definition's canonical JSON (RFC 8785), in hexadecimal.
///
/// # Errors
/// Says so when the definition holds a number that canonical JSON cannot write.
pub fn definition_digest(definition: &Value) -> Result<String, String> {
    canonical_digest(definition).map(|digest| format!("sha256:{digest}")).map_err(|error| error.to_string())
}

/// Tells whether a schema, or a definition with its schemas, puts an argument into a header (`x-mcp-header`, SEP-2243),
/// wherever that stands in it: also where the protocol gives it no meaning.
#[must_use]
pub fn names_headers(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            members.iter().any(|(key, value)| key == "x-mcp-header" || names_headers(value))
        }
        Value::Array(items) => items.iter().any(names_headers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The members of a definition that tell what it does: all that is not there is left out, so that an upstream
/// that begins to write `null` changes nothing.
fn covered(tool: &Tool) -> Value {
    let mut members = Map::new();
    members.insert("name".into(), json!(tool.name));
    members.insert("inputSchema".into(), Value::Object((*tool.input_schema).clone()));
    if let Some(description) = &tool.description {
        members.insert("description".into(), json!(description));
    }
    if let Some(schema) = &tool.output_schema {
        members.insert("outputSchema".into(), Value::Object((**schema).clone()));
    }
    if let Some(annotations) = tool.annotations.as_ref().and_then(|a| serde_json::to_value(a).ok()) {
        members.insert("annotations".into(), annotations);
    }
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> String {
        let tool: Tool = serde_json::from_str(text).unwrap();
        Reviewable::new(&tool).digest.unwrap()
    }

    #[test]
    fn covers_what_a_tool_does_and_nothing_else() {
        let base = digest(r#"{"name":"t","description":"d","inputSchema":{"type":"object"}}"#);
        assert_eq!(
            base,
            digest(r#"{"inputSchema":{"type":"object"},"description":"d","name":"t","_meta":{"a":1}}"#)
        );
        for changed in [
            r#"{"name":"u","description":"d","inputSchema":{"type":"object"}}"#,
            r#"{"name":"t","description":"D","inputSchema":{"type":"object"}}"#,
            r#"{"name":"t","description":"d","inputSchema":{"type":"object","properties":{}}}"#,
            r#"{"name":"t","description":"d","inputSchema":{"type":"object"},"outputSchema":{"type":"object"}}"#,
            r#"{"name":"t","description":"d","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}"#,
        ] {
            assert_ne!(base, digest(changed), "{changed}");
        }
    }

    #[test]
    fn knows_which_calls_need_headers_of_their_own() {
        for (plain, text) in [
            (
                true,
                r#"{"name":"a.B_c-9","inputSchema":{"type":"object","properties":{"a":{"type":"string"}}}}"#,
            ),
            (false, r#"{"name":"a b","inputSchema":{"type":"object"}}"#),
            (false, r#"{"name":"ä","inputSchema":{"type":"object"}}"#),
            (false, r#"{"name":"","inputSchema":{"type":"object"}}"#),
            (
                false,
                r#"{"name":"t","inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"}}}}"#,
            ),
            (
                false,
                r#"{"name":"t","inputSchema":{"type":"object","anyOf":[{"properties":{"a":{"x-mcp-header":"A"}}}]}}"#,
            ),
        ] {
            let tool: Tool = serde_json::from_str(text).unwrap();
            assert_eq!(Reviewable::new(&tool).plain, plain, "{text}");
        }
    }
}
