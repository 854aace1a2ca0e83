//! A catalog as a file: reviewed like code, kept beside the configuration, compared with the database.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Dialect;
use crate::catalog::{Catalog, Type};

/// The form that is written and read.
const FORMAT: u32 = 1;

/// A catalog and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    format: u32,
    /// Whose SQL the database speaks.
    pub dialect: Dialect,
    /// What it holds.
    pub catalog: Catalog,
}

/// Why a text is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is not JSON of this form.
    #[error("the text is no catalog snapshot: {0}")]
    Form(String),
    /// It has a form of another version.
    #[error("the snapshot has format {0}, and format {FORMAT} is read")]
    Format(u32),
    /// SQLite: it holds something other than the texts of a schema.
    #[error("`{0}` is not the text of a table, index, view or trigger")]
    Schema(String),
}

/// One difference between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// `table public.invoice`, `function public.tax(numeric)`, …
    pub subject: String,
    /// What happened to it.
    pub change: Change,
}

/// What happened to something between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// These of its properties are different.
    Changed(Vec<String>),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Added => write!(f, "+ {}", self.subject),
            Change::Removed => write!(f, "- {}", self.subject),
            Change::Changed(properties) => write!(f, "~ {}: {}", self.subject, properties.join("; ")),
        }
    }
}

impl Snapshot {
    /// Takes a catalog, and puts it in order.
    #[must_use]
    pub fn new(dialect: Dialect, mut catalog: Catalog) -> Self {
        catalog.settle();
        Self { format: FORMAT, dialect, catalog }
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`] when the text is none. Unknown keys are errors.
    pub fn parse(text: &str) -> Result<Self, SnapshotError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let form = |error: serde_json::Error| SnapshotError::Form(error.to_string());
        let Version { format } = serde_json::from_str(text).map_err(form)?;
        if format != FORMAT {
            return Err(SnapshotError::Format(format));
        }
        let snapshot: Self = serde_json::from_str(text).map_err(form)?;
        // They are executed, in memory, to let SQLite know the schema: nothing else must be.
        for sql in &snapshot.catalog.schema {
            if !crate::sqlite::is_definition(sql) {
                return Err(SnapshotError::Schema(sql.chars().take(80).collect()));
            }
        }
        Ok(snapshot)
    }

    /// The text of the snapshot. Equal snapshots have equal texts.
    ///
    /// # Errors
    /// [`SnapshotError`] when it cannot be written.
    pub fn text(&self) -> Result<String, SnapshotError> {
        let mut text =
            serde_json::to_string_pretty(self).map_err(|error| SnapshotError::Form(error.to_string()))?;
        text.push('\n');
        Ok(text)
    }

    /// What is different in `other`, by subject.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let (old, new) = (self.subjects(), other.subjects());
        let mut found = Vec::new();
        for (subject, before) in &old {
            let change = match new.get(subject) {
                None => Change::Removed,
                Some(after) if after == before => continue,
                Some(after) => Change::Changed(properties(before, after)),
            };
            found.push(Difference { subject: subject.clone(), change });
        }
        for subject in new.keys().filter(|subject| !old.contains_key(*subject)) {
            found.push(Difference { subject: subject.clone(), change: Change::Added });
        }
        found.sort();
        found
    }

    fn subjects(&self) -> BTreeMap<String, Value> {
        let catalog = &self.catalog;
        let mut subjects = BTreeMap::new();
        let value = |one: Result<Value, serde_json::Error>| one.unwrap_or(Value::Null);
        subjects.insert("the dialect".to_owned(), value(serde_json::to_value(self.dialect)));
        subjects.insert("the search path".to_owned(), value(serde_json::to_value(&catalog.search_path)));
        if !catalog.extensions.is_empty() {
            subjects.insert("the extensions".to_owned(), value(serde_json::to_value(&catalog.extensions)));
        }
        for one in &catalog.relations {
            subjects
                .insert(format!("relation {}.{}", one.schema, one.name), value(serde_json::to_value(one)));
        }
        for one in &catalog.routines {
            let subject = format!("function {}.{}({})", one.schema, one.name, one.arguments);
            subjects.insert(subject, value(serde_json::to_value(one)));
        }
        for one in &catalog.operators {
            let function = format!("{}.{}", one.function.schema, one.function.name);
            let subject = format!("operator {}.{} by {function}", one.schema, one.name);
            subjects.insert(subject, Value::Null);
        }
        // Each relation has a row type, which changes with it.
        let rows =
            |one: &Type| catalog.relations.iter().any(|r| (&r.schema, &r.name) == (&one.schema, &one.name));
        for one in catalog.types.iter().filter(|one| !rows(one)) {
            subjects.insert(format!("type {}.{}", one.schema, one.name), value(serde_json::to_value(one)));
        }
        for one in &catalog.casts {
            let (source, target) = (&one.source, &one.target);
            let subject =
                format!("cast {}.{} to {}.{}", source.schema, source.name, target.schema, target.name);
            subjects.insert(subject, value(serde_json::to_value(one)));
        }
        for one in &catalog.schema {
            let shown: String = one.split_whitespace().collect::<Vec<_>>().join(" ");
            subjects.insert(format!("statement `{shown}`"), Value::Null);
        }
        subjects
    }
}

/// What differs between two values of one subject, property by property.
fn properties(before: &Value, after: &Value) -> Vec<String> {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return vec![format!("{before} → {after}")];
    };
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let absent = Value::Null;
    names
        .into_iter()
        .filter_map(|name| {
            let (one, two) = (old.get(name).unwrap_or(&absent), new.get(name).unwrap_or(&absent));
            match (one, two) {
                _ if one == two => None,
                // An empty list is left out.
                (Value::Array(_), Value::Array(_) | Value::Null) | (Value::Null, Value::Array(_)) => {
                    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
                    let (one, two) = (items(one), items(two));
                    let shown = |list: &[Value], not: &[Value], sign: &str| -> Vec<String> {
                        let fresh = list.iter().filter(|item| !not.contains(item));
                        fresh.map(|item| format!("{sign}{}", label(item))).collect()
                    };
                    let changes = [shown(&one, &two, "-"), shown(&two, &one, "+")].concat();
                    Some(format!("{name} {}", changes.join(" ")))
                }
                (Value::String(text), _) | (_, Value::String(text)) if text.len() > 60 => {
                    Some(format!("{name} is another"))
                }
                _ => Some(format!("{name} {one} → {two}")),
            }
        })
        .collect()
}

/// The name of a part, where it has one.
fn label(item: &Value) -> String {
    match item.get("name").or_else(|| item.get("table")).and_then(Value::as_str) {
        Some(name) => name.to_owned(),
        None => item.to_string(),
    }
}
