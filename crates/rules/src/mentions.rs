//! What of a request's context a policy looks at.
//!
//! Read from the policy's syntax tree, so that facts nobody asks for are neither gathered nor written into
//! the context. INVARIANT: whatever a policy can observe of the context is mentioned; a use that is not a
//! plain attribute path counts as looking at everything.

use alloc::{
    borrow::ToOwned as _,
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString as _},
    vec,
    vec::Vec,
};

use serde_json::{Map, Value};

/// The attributes of the context that some policies look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mentions {
    everything: bool,
    attributes: BTreeMap<String, Fields>,
    /// Every attribute name of three capital letters, wherever it stands: the currencies asked for.
    currencies: BTreeSet<String>,
}

/// A policy looks at these fields of an attribute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fields {
    all: bool,
    named: BTreeSet<String>,
}

impl Mentions {
    /// Finds what an expression in Cedar's JSON form looks at.
    pub(crate) fn of(expression: &Value) -> Self {
        let mut mentions = Self::default();
        mentions.walk(expression);
        mentions
    }

    /// Returns what a policy mentions that looks at everything.
    pub(crate) fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.everything |= other.everything;
        for (attribute, fields) in &other.attributes {
            let mine = self.attributes.entry(attribute.clone()).or_default();
            mine.all |= fields.all;
            mine.named.extend(fields.named.iter().cloned());
        }
        self.currencies.extend(other.currencies.iter().cloned());
    }

    /// Returns true if `context.<attribute>` can make a difference.
    pub(crate) fn sees(&self, attribute: &str) -> bool {
        self.everything || self.attributes.contains_key(attribute)
    }

    /// Returns true if `context.<attribute>.<field>` can make a difference.
    pub(crate) fn sees_field(&self, attribute: &str, field: &str) -> bool {
        self.everything
            || self.attributes.get(attribute).is_some_and(|fields| fields.all || fields.named.contains(field))
    }

    /// Returns true if nothing but these attributes can make a difference.
    pub(crate) fn only(&self, attributes: &[&str]) -> bool {
        self.all_are(|attribute| attributes.contains(&attribute))
    }

    /// Returns true if nothing but attributes of this kind can make a difference.
    pub(crate) fn all_are(&self, kind: impl Fn(&str) -> bool) -> bool {
        !self.everything && self.attributes.keys().all(|attribute| kind(attribute))
    }

    pub(crate) const fn currencies(&self) -> &BTreeSet<String> {
        &self.currencies
    }

    fn walk(&mut self, expression: &Value) {
        if let Some(path) = path(expression) {
            self.record(&path);
            return;
        }
        match expression {
            Value::Object(node) => {
                for (kind, body) in node {
                    match kind.as_str() {
                        "Value" => {}
                        // Its keys are the policy's own words and no kinds of expression.
                        "Record" => {
                            body.as_object().into_iter().flat_map(Map::values).for_each(|v| self.walk(v));
                        }
                        "has" => self.walk_has(body),
                        "." => {
                            self.currency(body.get("attr"));
                            self.walk(body);
                        }
                        _ => self.walk(body),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn walk_has(&mut self, body: &Value) {
        let names: Vec<String> = match body.get("attr") {
            Some(Value::String(name)) => vec![name.clone()],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(String::from).collect(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        };
        let Some(left) = body.get("left") else { return };
        if let Some(mut path) = path(left) {
            path.extend(names);
            self.record(&path);
        } else {
            for name in names {
                self.currency(Some(&Value::String(name)));
            }
            self.walk(left);
        }
    }

    fn record(&mut self, path: &[String]) {
        for name in path {
            self.currency_name(name);
        }
        match path {
            [] => self.everything = true,
            // `context has a` looks at whether it is there, and `context.a` may go anywhere.
            [attribute] => self.attributes.entry(attribute.clone()).or_default().all = true,
            [attribute, field, ..] => {
                self.attributes.entry(attribute.clone()).or_default().named.insert(field.clone());
            }
        }
    }

    fn currency(&mut self, name: Option<&Value>) {
        if let Some(name) = name.and_then(Value::as_str) {
            self.currency_name(name);
        }
    }

    fn currency_name(&mut self, name: &str) {
        if name.len() == 3 && name.bytes().all(|b| b.is_ascii_uppercase()) {
            self.currencies.insert(name.to_owned());
        }
    }
}

/// Returns the attribute path `context.a.b` as `[a, b]`, and `None` for anything else.
fn path(expression: &Value) -> Option<Vec<String>> {
    let node = expression.as_object()?;
    if node.len() != 1 {
        return None;
    }
    if node.get("Var").and_then(Value::as_str) == Some("context") {
        return Some(Vec::new());
    }
    let access = node.get(".")?;
    let mut path = path(access.get("left")?)?;
    path.push(access.get("attr")?.as_str()?.to_string());
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(condition: &str) -> Mentions {
        let text = alloc::format!("permit (principal, action, resource) when {{ {condition} }};");
        let policy = cedar_policy::Policy::parse(None, text).unwrap();
        Mentions::of(&policy.to_json().unwrap()["conditions"])
    }

    #[test]
    fn finds_attributes_wherever_they_stand() {
        for condition in [
            "context.reach.rows > 3",
            "context has reach",
            "context has reach.rows",
            "if context.effect == \"read\" then true else context.reach.exact",
            "[1, context.reach.rows].contains(2)",
            "{\"Value\": context.reach}.Value.rows == 2",
            "{\"Var\": context.reach}.Var.rows == 2",
            "{\".\": context.reach}[\".\"].rows == 2",
            "!(resource has environment && context[\"reach\"].rows like \"*\")",
            "ip(\"1.1.1.1\").isInRange(ip(\"1.1.1.1\")) && context.reach.rows == 1",
        ] {
            let mentions = of(condition);
            assert!(mentions.sees("reach"), "{condition}");
            assert!(!mentions.sees("statement"), "{condition}");
        }
    }

    #[test]
    fn a_use_that_is_no_path_looks_at_everything() {
        for condition in
            ["context == {}", "{a: context}.a.reach.rows == 1", "(if true then context else context).x"]
        {
            assert!(of(condition).sees("anything"), "{condition}");
        }
    }

    #[test]
    fn knows_which_arguments_and_currencies_are_asked_for() {
        let mentions = of("context.args.amount > 1 && context.session.money has EUR");
        assert!(mentions.sees_field("args", "amount") && !mentions.sees_field("args", "iban"));
        assert!(of("context.args == {}").sees_field("args", "iban"));
        assert!(mentions.currencies().contains("EUR"));
        assert!(of("context has session.money.USD").currencies().contains("USD"));
    }

    #[test]
    fn text_is_not_an_attribute() {
        let mentions = of("context.effect == \"reach\" && \"context.reach\" like \"*\"");
        assert!(mentions.only(&["effect"]));
    }
}
