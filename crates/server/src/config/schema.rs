//! A JSON Schema of the configuration, for editors.
//!
//! It is made from the reading itself: each section notes the keys that it asks for, with the form, the default and
//! whether they must be there. What is noted while a tour through every kind of system, tool and store is read, is the
//! schema; so a key that is read stands in it, and one that is not read does not. What the reader refuses for other reasons
//! than its form (a name that two tools have, a certificate that cannot be read) the schema accepts: `countersign check`
//! tells it.

use std::{collections::BTreeSet, path::Path, sync::LazyLock};

use serde_json::{Map, Value as Json, json};

use super::{
    Found, MAIN, REFERENCE, Reading, Source,
    form::{Asked, Forms, Keys, Mark, below, within},
    mistake::Mistake,
    sections, tool,
};

/// What the reference does not show, because it can show only one of several ways.
const TOUR: &str = include_str!("tour.toml");
/// The least that a configuration says, which shows which tables may be left out.
const LEAST: &str = "[log]\norigin = \"acme.example/countersign\"";

/// Which file a schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaOf {
    /// `countersign.toml`
    Main,
    /// `tools/*.toml`
    Tools,
}

/// The JSON Schema (draft 7, which editors know) of a file of the configuration.
#[must_use]
pub fn schema(file: SchemaOf) -> Json {
    let forms = &*FORMS;
    let mut whole = forms.of_path("", &Remarks::read());
    if let (SchemaOf::Tools, Some(whole)) = (file, whole.as_object_mut()) {
        whole.remove("required");
        if let Some(properties) = whole.get_mut("properties").and_then(Json::as_object_mut) {
            properties.retain(|key, _| key == tool::FAMILY);
        }
    }
    if let Some(whole) = whole.as_object_mut() {
        let title = match file {
            SchemaOf::Main => MAIN,
            SchemaOf::Tools => "tools/*.toml",
        };
        whole.insert("$schema".into(), json!("http://json-schema.org/draft-07/schema#"));
        whole.insert("title".into(), json!(title));
    }
    whole
}

/// Whether the schema has every key that was asked for. A key that only some unusual configuration has would be missing
/// from the tour.
pub(super) fn knows(found: &Found) -> bool {
    FORMS.contain(&found.forms())
}

static FORMS: LazyLock<Forms> = LazyLock::new(|| read_tour().0);

/// What is noted on the tour, and the mistakes in it, of which there are none.
fn read_tour() -> (Forms, Vec<Mistake>) {
    let found = Found::noting();
    for text in [REFERENCE, TOUR, LEAST] {
        let source = Source::new(MAIN, text);
        sections(Reading::new(Path::new("."), &source, &found), Path::new("."));
    }
    let forms = found.forms().clone();
    (forms, found.into_inner())
}

impl Forms {
    fn of_path(&self, path: &str, remarks: &Remarks) -> Json {
        let variants = self.0.get(path).into_iter().flatten();
        let mut forms: Vec<Json> =
            variants.map(|(variant, keys)| self.of_table(path, variant, keys, remarks)).collect();
        match (forms.pop(), forms.is_empty()) {
            (Some(only), true) => only,
            (Some(last), false) => {
                forms.push(last);
                json!({ "oneOf": forms })
            }
            (None, _) => Json::Bool(true),
        }
    }

    fn of_table(&self, path: &str, variant: &[Mark], keys: &Keys, remarks: &Remarks) -> Json {
        let mut properties = Map::new();
        let mut required = BTreeSet::new();
        for (key, asked) in keys {
            let mut form = self.of_key(&within(path, variant), key, asked, remarks);
            // A table that is always read must be there if something in it must.
            let table = self.0.contains_key(&below(&within(path, variant), key));
            if asked.required && (!table || form.get("required").is_some()) {
                required.insert(*key);
            }
            for mark in variant {
                match mark {
                    Mark::Is(marked, word) if marked == key => {
                        form = json!({ "const": word });
                        if asked.default.as_ref().and_then(Json::as_str) != Some(*word) {
                            required.insert(*key);
                        }
                    }
                    Mark::Has(marked) if marked == key => {
                        required.insert(*key);
                    }
                    Mark::Is(..) | Mark::Has(_) => {}
                }
            }
            if let Some(form) = form.as_object_mut() {
                form.extend(asked.default.clone().map(|default| ("default".to_owned(), default)));
                form.extend(
                    remarks.of(path, variant, key).map(|text| ("description".to_owned(), json!(text))),
                );
            }
            properties.insert((*key).to_owned(), form);
        }
        let mut table = json!({ "type": "object", "additionalProperties": false, "properties": properties });
        if let Some(table) = table.as_object_mut().filter(|_| !required.is_empty()) {
            table.insert("required".into(), json!(required));
        }
        table
    }

    fn of_key(&self, path: &str, key: &str, asked: &Asked, remarks: &Remarks) -> Json {
        let one = below(path, key);
        let (family, list) = (format!("{one}.*"), format!("{one}[]"));
        if self.0.contains_key(&family) {
            json!({ "type": "object", "additionalProperties": self.of_path(&family, remarks) })
        } else if self.0.contains_key(&list) {
            json!({ "type": "array", "items": self.of_path(&list, remarks) })
        } else if self.0.contains_key(&one) {
            self.of_path(&one, remarks)
        } else {
            asked.shape.clone().unwrap_or_else(|| json!({}))
        }
    }
}

/// What the reference says beside each key, by the table and the key.
struct Remarks(Vec<(&'static str, &'static str, &'static str)>);

impl Remarks {
    fn read() -> Self {
        let mut table = "";
        let mut remarks = Vec::new();
        for line in REFERENCE.lines() {
            if let Some(title) = line.strip_prefix('[') {
                table = title.trim_matches(|c| matches!(c, '[' | ']'));
            }
            let line = line.strip_prefix("# ").unwrap_or(line);
            let Some((key, rest)) = line.split_once('=') else { continue };
            let Some((_, remark)) = rest.split_once("# ") else { continue };
            remarks.push((table, key.trim(), remark.trim()));
        }
        Self(remarks)
    }

    /// The remark of the table's own namesake in the reference, or of another one of its family: what they share stands
    /// there once.
    fn of(&self, path: &str, variant: &[Mark], key: &str) -> Option<&'static str> {
        let family = path.split(['.', '<', '[']).next().unwrap_or_default();
        let whole = within(path, variant);
        let of_key = || {
            self.0.iter().filter(|(table, named, _)| *named == key && table.split('.').next() == Some(family))
        };
        let namesake = |table: &str| {
            table.split('.').nth(1).is_some_and(|member| whole.contains(&format!("={member}>")))
        };
        let found = of_key().find(|(table, ..)| namesake(table)).or_else(|| of_key().next());
        found.map(|(_, _, remark)| *remark)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_tour_is_a_configuration_without_mistakes() {
        let (_, mistakes) = read_tour();
        assert!(mistakes.is_empty(), "{mistakes:?}");
    }

    /// The schema would otherwise have keys that are read only in a variant that it does not tell apart.
    #[test]
    fn every_kind_has_a_variant_of_its_own() {
        let variants = |path: &str| FORMS.0.get(path).map_or(0, BTreeMap::len);
        // Two databases, an API, and an MCP server as a process and behind a URL.
        assert_eq!((variants("system.*"), variants("store")), (5, 2));
        // SQL of the author and of the agent, HTTP, MCP.
        assert_eq!((variants("tool.*"), variants("agent.*"), variants("budget[]")), (4, 1, 1));
    }

    #[test]
    fn a_key_that_the_tour_does_not_meet_is_found() {
        let found = Found::noting();
        found.note("server", &[], &[("listen", Asked::default())]);
        assert!(knows(&found));
        found.note("server", &[], &[("lsten", Asked::default())]);
        assert!(!knows(&found));
        // What one variant has, another has not for that.
        let sqlite = [Mark::Is("kind", "sqlite")];
        let of_another = Found::noting();
        of_another.note("system.*", &sqlite, &[("path", Asked::default())]);
        assert!(knows(&of_another));
        of_another.note("system.*", &sqlite, &[("base_url", Asked::default())]);
        assert!(!knows(&of_another));
        let other = Found::noting();
        other.note("srver", &[], &[("listen", Asked::default())]);
        assert!(!knows(&other));
    }
}
