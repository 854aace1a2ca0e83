//! The JSON Schema of the configuration says what the reader says, as far as the form goes.

use std::{fs, path::Path, process::Command};

use countersign::config::{Config, REFERENCE, SchemaOf, schema};
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::server::rig::MAIN;

const TOUR: &str = include_str!("../../../src/config/tour.toml");

fn validator(file: SchemaOf) -> Validator {
    jsonschema::draft7::new(&schema(file)).unwrap()
}

fn value(text: &str) -> Value {
    toml::from_str(text).unwrap()
}

#[track_caller]
fn fits(validator: &Validator, text: &str, name: &str) {
    let value = value(text);
    let wrong: Vec<String> =
        validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
}

fn loads(value: &Value) -> bool {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("countersign.toml"), toml::to_string(value).unwrap()).unwrap();
    Config::load(folder.path()).is_ok()
}

#[test]
fn every_configuration_of_this_repository_fits() {
    let (main, tools) = (validator(SchemaOf::Main), validator(SchemaOf::Tools));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut seen = 0;
    for folder in ["examples/billing", "examples/payments", "tests/conformance/folder"] {
        let folder = root.join(folder);
        fits(&main, &fs::read_to_string(folder.join("countersign.toml")).unwrap(), "countersign.toml");
        for file in fs::read_dir(folder.join("tools")).unwrap() {
            let path = file.unwrap().path();
            fits(&tools, &fs::read_to_string(&path).unwrap(), &path.display().to_string());
            seen += 1;
        }
    }
    assert!(seen >= 3);
    for (text, name) in [(REFERENCE, "reference"), (TOUR, "tour"), (MAIN, "the tests' own")] {
        fits(&main, text, name);
    }
}

/// What `init` writes, checked by what `init --schema` prints, as an editor does it.
#[test]
fn the_folder_of_init_fits_what_init_prints() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let place = folder.path().join("mine");
    run(&["init", place.to_str().unwrap()]);
    for (option, file) in [("--schema", "countersign.toml"), ("--schema=tools", "tools/billing.toml")] {
        let schema: Value = serde_json::from_slice(&run(&["init", option])).unwrap();
        let text = fs::read_to_string(place.join(file)).unwrap();
        fits(&jsonschema::draft7::new(&schema).unwrap(), &text, file);
    }
    assert_eq!(run(&["init", "--schema=main"]), run(&["init", "--schema"]));
    // Each file has a schema of its own.
    let tools = validator(SchemaOf::Tools);
    assert!(!tools.is_valid(&value("[server]\nlisten = \"127.0.0.1:1\"")));
    let main = validator(SchemaOf::Main);
    assert!(!main.is_valid(&value("[server]\nlisten = \"127.0.0.1:1\"")), "no `[log]`");
    fits(&main, "[log]\norigin = \"acme.example/countersign\"", "the least there is");
}

/// The places of all members of tables, as JSON pointers.
fn members(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(table) => {
            for (key, inner) in table {
                let place = format!("{at}/{key}");
                members(inner, &place, found);
                found.push(place);
            }
        }
        Value::Array(items) => {
            for (at_item, item) in items.iter().enumerate() {
                members(item, &format!("{at}/{at_item}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Below these the author's own words are keys.
fn is_free(place: &str) -> bool {
    ["/arguments/", "/query/", "/headers/", "/body/", "/env/LANG", "/env/TOKEN", "/subject/"]
        .iter()
        .any(|part| place.contains(part))
        || matches!(place.matches('/').count(), 2 if !place.starts_with("/server/") && !place.starts_with("/store/")
            && !place.starts_with("/log/") && !place.starts_with("/limits/") && !place.starts_with("/telemetry/")
            && !place.starts_with("/oauth/"))
}

/// Each key of each kind of table is misspelled and left with a wrong value. Whatever the reader takes, the schema takes: an
/// editor gives no false alarm. What is no key to the one is none to the other.
#[test]
fn reader_and_schema_agree_key_by_key() {
    let main = validator(SchemaOf::Main);
    let (mut spelled, mut refused, mut both) = (0, 0, 0);
    for text in [REFERENCE, TOUR] {
        let good = value(text);
        assert!(loads(&good) && main.is_valid(&good));
        let mut places = Vec::new();
        members(&good, "", &mut places);
        for place in places {
            let (table, key) = place.rsplit_once('/').unwrap();
            if !is_free(&place) {
                let mut misspelled = good.clone();
                let members = misspelled.pointer_mut(table).unwrap().as_object_mut().unwrap();
                let moved = members.remove(key).unwrap();
                members.insert(format!("{key}x"), moved);
                assert!(!loads(&misspelled), "{place} is read under another name");
                assert!(!main.is_valid(&misspelled), "{place} is in the schema under another name");
                spelled += 1;
            }
            for wrong in [json!([[1]]), json!(true), json!(-1), json!(1.5), json!(""), json!({}), json!([])] {
                let mut changed = good.clone();
                *changed.pointer_mut(&place).unwrap() = wrong;
                let (read, fits) = (loads(&changed), main.is_valid(&changed));
                assert!(fits || !read, "{place}: the reader takes what the schema refuses: {changed}");
                refused += usize::from(!read);
                both += usize::from(!read && !fits);
            }
        }
    }
    assert!(spelled > 150, "{spelled}");
    // The rest is what only the reader can tell: an empty text that is no name, `{}` where a member must be there.
    assert!(both * 10 > refused * 8, "{both} of {refused}");
}

/// What an editor shows beside a key is what the reference says there.
#[test]
fn keys_have_defaults_and_descriptions() {
    let main = schema(SchemaOf::Main);
    let key = |pointer: &str| main.pointer(&format!("/properties/{pointer}")).unwrap();
    let listen = key("server/properties/listen");
    assert_eq!(listen["default"], "127.0.0.1:7780");
    assert_eq!(listen["description"], "address and port; port 0 takes a free one");
    let hold = key("server/properties/hold_ms");
    assert_eq!(
        (&hold["type"], &hold["minimum"], &hold["maximum"]),
        (&json!("integer"), &json!(0), &json!(600_000))
    );
    assert_eq!(key("server/properties/refusals")["enum"], json!(["error", "text"]));
    let systems = key("system/additionalProperties/oneOf").as_array().unwrap();
    let kinds: Vec<&Value> = systems.iter().map(|system| &system["properties"]["kind"]["const"]).collect();
    assert_eq!(kinds, ["http", "mcp", "mcp", "postgres", "sqlite"]);
    let missing = |table: &Value| {
        let keys = table["properties"].as_object().unwrap().iter();
        keys.filter(|(_, form)| form.get("description").is_none())
            .map(|(key, _)| key.clone())
            .collect::<Vec<_>>()
    };
    for system in systems {
        assert!(missing(system).len() < 12, "{:?}", missing(system));
    }
}
