//! What makes calls the same to people, however they are spelled: a refusal holds for all of them, and approvers see what
//! was answered to others like it.

use std::collections::BTreeSet;

use countersign_rules::{CallDigest, ToolSpec, approval::Alike};
use icu_properties::{CodePointSetData, CodePointSetDataBorrowed, props::DefaultIgnorableCodePoint};
use serde_json::Value;

/// The forms of a call, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Likeness {
    /// The same for all spellings of what the call does.
    pub normal: String,
    /// The same for all calls that do it with other values.
    pub shape: String,
}

impl Likeness {
    /// Of arguments of which nothing more is known: blanks at the ends of texts and runs of them do not count, nor what is
    /// not seen; calls with arguments of the same names have one shape.
    #[must_use]
    pub fn of(arguments: &Value) -> Self {
        let names = arguments.as_object().into_iter().flatten().map(|(name, _value)| name.as_str());
        let shape = names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",");
        let normal = normal(arguments);
        // Arguments that were read as a call have a canonical form.
        let normal = countersign_audit::canonical::to_canonical_string(&normal)
            .unwrap_or_else(|_no_form| normal.to_string());
        Self { normal, shape }
    }

    pub(crate) fn alike(&self, spec: &ToolSpec) -> Alike {
        Alike {
            normal: CallDigest::of_canonical(&spec.name, &spec.version, &self.normal),
            shape: CallDigest::of_form(&spec.name, &self.shape),
        }
    }
}

fn normal(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let seen: String = text.chars().filter(|c| !is_unseen(*c)).collect();
            Value::String(seen.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        Value::Array(items) => Value::Array(items.iter().map(normal).collect()),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), normal(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Returns true for what Unicode says has no shape of its own, and for controls that are no blanks.
fn is_unseen(letter: char) -> bool {
    const IGNORED: CodePointSetDataBorrowed<'static> = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    (letter.is_control() && !letter.is_whitespace()) || IGNORED.contains(letter)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blanks_and_what_is_not_seen_make_no_other_call() {
        let one = Likeness::of(&json!({ "to": "acme", "note": "a b", "n": 1 }));
        let other = Likeness::of(&json!({ "n": 1.0, "note": " a \u{a0}\u{200b} b\n", "to": "ac\u{feff}me" }));
        assert_eq!(one, other);
        for (arguments, shape) in [
            (json!({ "to": "Acme", "note": "a b", "n": 1 }), true),
            (json!({ "to": "acme", "note": "ab", "n": 1 }), true),
            (json!({ "to": "acme", "note": "a b", "n": "1" }), true),
            (json!({ "to": "acme", "note": "a b" }), false),
        ] {
            let other = Likeness::of(&arguments);
            assert_ne!(one.normal, other.normal, "{arguments}");
            assert_eq!(one.shape == other.shape, shape, "{arguments}");
        }
    }
}
