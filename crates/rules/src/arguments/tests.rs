use std::string::ToString as _;

use serde_json::json;

use super::*;

fn billing() -> Arguments {
    Arguments::parse(&json!({
        "customer_id": { "type": "string", "format": "uuid" },
        "months": { "type": "integer", "minimum": 1, "maximum": 24 },
        "note": { "type": "string", "maxLength": 10, "optional": true },
    }))
    .unwrap()
}

fn said(arguments: &Arguments, value: &Value) -> String {
    let refusal = arguments.check(value).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidArguments);
    refusal.message
}

const CUSTOMER: &str = "6f1c1f5e-5f0a-4d0e-9a57-1d2b7c1d2e3f";

#[test]
fn short_form_becomes_a_closed_object() {
    let schema = billing();
    assert_eq!(schema.schema()["additionalProperties"], json!(false));
    let mut required: Vec<&str> =
        schema.schema()["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    required.sort_unstable();
    assert_eq!(required, ["customer_id", "months"]);
    schema.check(&json!({ "customer_id": CUSTOMER, "months": 3 })).unwrap();
    schema.check(&json!({ "customer_id": CUSTOMER, "months": 3, "note": "x" })).unwrap();
}

#[test]
fn refusals_name_the_argument_and_the_rule() {
    let schema = billing();
    for (value, fragment) in [
        (json!({ "customer_id": "42", "months": 3 }), "`/customer_id` must be a valid `uuid`"),
        (json!({ "customer_id": CUSTOMER, "months": 25 }), "`/months` must be at most 24"),
        (json!({ "customer_id": CUSTOMER, "months": 0 }), "`/months` must be at least 1"),
        (json!({ "customer_id": CUSTOMER, "months": 1.5 }), "`/months` must be of type integer"),
        (json!({ "customer_id": CUSTOMER, "months": "3" }), "`/months` must be of type integer"),
        (json!({ "months": 3 }), "`/customer_id` is missing"),
        (json!({ "customer_id": CUSTOMER, "months": 3, "drop": 1 }), "`/drop` is not declared"),
        (
            json!({ "customer_id": CUSTOMER, "months": 3, "note": "12345678901" }),
            "`/note` must have at most 10",
        ),
        (json!([]), "`/` must be of type object"),
        (json!(null), "`/` must be of type object"),
    ] {
        let message = said(&schema, &value);
        assert!(message.contains(fragment), "{value}: {message}");
    }
}

#[test]
fn a_refusal_names_several_violations_and_no_values() {
    let secret = "hunter2".repeat(1_000);
    let message = said(&billing(), &json!({ "customer_id": secret, "months": 99, "x": 1 }));
    assert!(
        message.contains("customer_id") && message.contains("months") && message.contains("/x"),
        "{message}"
    );
    assert!(!message.contains("hunter2") && !message.contains("99"), "{message}");

    let many: serde_json::Map<String, Value> = (0..500).map(|i| (alloc::format!("a{i}"), json!(i))).collect();
    assert!(said(&billing(), &Value::Object(many)).len() < 500);
    let long = "`\u{1b}[31m".repeat(1_000);
    let message = said(&billing(), &json!({ "customer_id": CUSTOMER, "months": 1, long: 1 }));
    assert!(message.len() < 500 && !message.contains('\u{1b}'), "{message}");
}

#[test]
fn formats_are_enforced() {
    for (format, good, bad) in [
        ("uuid", CUSTOMER, "6f1c1f5e"),
        ("date", "2026-02-28", "2026-02-30"),
        ("date-time", "2026-02-28T12:00:00Z", "2026-02-28 noon"),
        ("time", "12:00:00Z", "25:00:00Z"),
        ("duration", "P3D", "3 days"),
        ("email", "a@example.org", "a at example.org"),
        ("hostname", "db.example.org", "-db-.example..org"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "::1", "::g"),
        ("json-pointer", "/a/b", "a/b"),
        ("regex", "a+", "a("),
        ("uri", "https://example.org/a", "not a uri"),
        ("uri-reference", "/a?b", "\\a"),
    ] {
        let schema = Arguments::parse(&json!({ "x": { "type": "string", "format": format } })).unwrap();
        schema.check(&json!({ "x": good })).unwrap_or_else(|e| panic!("{format}: {e}"));
        assert!(schema.check(&json!({ "x": bad })).is_err(), "{format}");
    }
}

#[test]
fn what_would_not_be_enforced_is_refused_when_written() {
    for (written, at, fragment) in [
        (json!({ "x": { "type": "string", "format": "phone" } }), "/properties/x/format", "`phone`"),
        (json!({ "x": { "type": "integer", "mimimum": 1 } }), "/properties/x/mimimum", "keyword"),
        (json!({ "x": "string" }), "/x", "table"),
        (json!({ "x": { "type": "string", "optional": "yes" } }), "/x", "optional"),
        (json!({ "_reason": { "type": "string" } }), "/_reason", "reserved"),
        (json!({ "a b": { "type": "string" } }), "/properties/a b", "name"),
        (json!({ "x": { "$ref": "https://example.org/s" } }), "/properties/x/$ref", "leaves"),
        (json!({ "x": { "$ref": "#/properties/x" } }), "/properties/x/$ref", "leaves"),
        (json!({ "type": "array", "items": { "type": "string" } }), "/type", "object"),
        (json!({ "type": "object", "$schema": "https://example.com/other" }), "/$schema", "dialect"),
        (json!({ "x": { "type": "int" } }), "/properties/x/type", "`int` is no type"),
        (json!({ "x": { "type": ["string", "nul"] } }), "/properties/x/type", "`nul` is no type"),
        (json!({ "type": "object", "optional": true }), "/optional", "keyword"),
        (json!({ "x": { "type": "text" } }), "/properties/x/type", ""),
        (json!({ "x": { "type": "string", "pattern": "(" } }), "/properties/x/pattern", ""),
        (json!({ "x": { "type": "string", "pattern": "(?=a)b" } }), "/properties/x/pattern", ""),
        (json!({ "x": { "type": "string", "maxLength": -1 } }), "/properties/x/maxLength", ""),
        (json!("string"), "/", "table"),
    ] {
        let error = Arguments::parse(&written).unwrap_err();
        assert_eq!(error.pointer, at, "{written}: {error}");
        assert!(error.message.contains(fragment), "{written}: {error}");
    }
    let huge = "x".repeat(70_000);
    assert!(Arguments::parse(&json!({ "x": { "type": "string", "description": huge } })).is_err());
    let mut deep = json!({ "type": "string" });
    for _ in 0..40 {
        deep = json!({ "type": "array", "items": deep });
    }
    assert!(Arguments::parse(&json!({ "x": deep })).unwrap_err().message.contains("deep"));
}

#[test]
fn full_schemas_are_closed_where_they_do_not_say() {
    let schema = Arguments::parse(&json!({
        "type": "object",
        "properties": {
            "to": { "type": "object", "properties": { "iban": { "type": "string" } }, "required": ["iban"] },
            "tags": { "type": "object", "additionalProperties": { "type": "string" } },
            "lines": { "type": "array", "items": { "type": "object", "properties": { "n": { "type": "integer" } } } },
            "either": { "oneOf": [
                { "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] },
                { "type": "object", "properties": { "b": { "type": "integer" } }, "required": ["b"] },
            ] },
            "there": { "$ref": "#/$defs/place" },
        },
        "$defs": { "place": { "$anchor": "here", "type": "object", "properties": { "city": { "type": "string" } } } },
    }))
    .unwrap();
    for good in [
        json!({}),
        json!({ "to": { "iban": "x" }, "tags": { "a": "b" }, "lines": [{ "n": 1 }], "either": { "b": 1 } }),
        json!({ "there": { "city": "x" } }),
    ] {
        schema.check(&good).unwrap_or_else(|e| panic!("{good}: {e}"));
    }
    for bad in [
        json!({ "more": 1 }),
        json!({ "to": { "iban": "x", "more": 1 } }),
        json!({ "tags": { "a": 1 } }),
        json!({ "lines": [{ "n": 1, "more": 1 }] }),
        json!({ "either": { "a": 1, "more": 1 } }),
        json!({ "there": { "city": "x", "more": 1 } }),
    ] {
        assert!(schema.check(&bad).is_err(), "{bad}");
    }
}

#[test]
fn closing_never_opens() {
    let schema = Arguments::parse(&json!({
        "type": "object",
        "properties": { "x": {
            "type": "object",
            "additionalProperties": true,
            "not": { "properties": { "inner": { "type": "object", "required": ["secret"],
                     "properties": { "secret": { "type": "string" } } } }, "required": ["inner"] },
        } },
    }))
    .unwrap();
    assert!(schema.check(&json!({ "x": { "inner": { "secret": "a", "more": 1 } } })).is_err());
}

#[test]
fn nested_short_form_requires_everything_unless_said() {
    let schema = Arguments::parse(&json!({ "to": { "type": "object", "properties": {
        "iban": { "type": "string" }, "bic": { "type": "string", "optional": true } } } }))
    .unwrap();
    schema.check(&json!({ "to": { "iban": "x" } })).unwrap();
    assert!(said(&schema, &json!({ "to": { "bic": "x" } })).contains("`/to/iban` is missing"));
}

#[test]
fn an_argument_may_be_called_like_a_keyword() {
    let schema =
        Arguments::parse(&json!({ "type": { "type": "string" }, "properties": { "type": "integer" } }));
    schema.unwrap().check(&json!({ "type": "x", "properties": 1 })).unwrap();
    assert!(Arguments::parse(&json!({})).unwrap().check(&json!({ "a": 1 })).is_err());
}

#[test]
fn the_reason_is_advertised_and_taken_out() {
    let schema = billing();
    let shown = schema.advertised();
    assert_eq!(shown["properties"][REASON_FIELD]["maxLength"], json!(REASON_CHARS_MAX));
    assert!(!shown["required"].as_array().unwrap().contains(&json!(REASON_FIELD)));
    assert!(schema.schema()["properties"].get(REASON_FIELD).is_none());

    let call = json!({ "customer_id": CUSTOMER, "months": 1, "countersign_reason": "monthly report" });
    let (arguments, reason) = split_reason(call).unwrap();
    assert_eq!(reason.as_deref(), Some("monthly report"));
    schema.check(&arguments).unwrap();

    // The name that was advertised before is still taken, and null is nothing.
    let both = json!({ "countersign_reason": null, "_reason": "older" });
    assert_eq!(split_reason(both).unwrap(), (json!({}), Some("older".into())));
    let both = json!({ "countersign_reason": "new", "_reason": "older" });
    assert_eq!(split_reason(both).unwrap(), (json!({}), Some("new".into())));
    for bad in [json!(1), json!("x".repeat(REASON_CHARS_MAX + 1))] {
        let refusal = split_reason(json!({ "months": 1, "_reason": bad })).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidArguments);
        assert!(refusal.message.contains("`/_reason`") && refusal.message.len() < 100, "{refusal}");
    }
    assert_eq!(split_reason(json!([1])).unwrap(), (json!([1]), None));
}

#[test]
fn results_are_checked_without_repeating_them() {
    let schema = ResultSchema::parse(&json!({ "type": "array", "items": { "type": "object",
        "properties": { "total": { "type": "integer" } }, "required": ["total"] } }))
    .unwrap();
    schema.check(&json!([{ "total": 1 }])).unwrap();
    let refusal = schema.check(&json!([{ "total": "4111111111111111" }])).unwrap_err();
    assert_eq!(refusal.code, Code::ResultRejected);
    assert!(refusal.message.contains("`/0/total`") && !refusal.to_string().contains("4111"), "{refusal}");
    let short = ResultSchema::parse(&json!({ "total": { "type": "integer" } })).unwrap();
    assert!(short.check(&json!({ "total": 1, "more": 2 })).is_err());
}

#[test]
fn patterns_run_in_linear_time() {
    let schema = Arguments::parse(&json!({ "x": { "type": "string", "pattern": "^(a+)+$" } })).unwrap();
    let hostile = "a".repeat(200_000) + "b";
    assert!(schema.check(&json!({ "x": hostile })).is_err());
}

mod properties {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,200}".prop_map(Value::from),
        ];
        let name = prop_oneof![Just("customer_id".to_string()), Just("months".to_string()), ".{0,200}"];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                vec(inner.clone(), 0..6).prop_map(Value::from),
                vec((name.clone(), inner), 0..12).prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn refusals_stay_short_and_printable(arguments in any_json()) {
            if let Err(refusal) = billing().check(&arguments) {
                prop_assert!(refusal.message.chars().count() < 2_000, "{}", refusal.message);
                prop_assert!(!refusal.message.chars().any(char::is_control));
            } else {
                prop_assert!(arguments.as_object().is_some_and(|o| o.len() <= 3));
            }
        }

        #[test]
        fn any_text_is_a_schema_or_refused(written in any_json()) {
            if let Ok(schema) = Arguments::parse(&written) {
                prop_assert_eq!(&schema.schema()["type"], &json!("object"));
                let again = Arguments::parse(schema.schema()).unwrap();
                prop_assert_eq!(again.schema(), schema.schema(), "closing is done once");
            }
        }
    }
}

#[test]
fn null_for_what_is_optional_is_leaving_it_out() {
    let schema = Arguments::parse(&json!({
        "to": { "type": "string" },
        "cc": { "type": "string", "optional": true },
        "note": { "anyOf": [{ "type": "string" }, { "type": "null" }], "optional": true },
        "kind": { "enum": ["a", "b"], "optional": true },
        "inner": { "type": "object", "optional": true, "properties": { "x": { "type": "integer", "optional": true } } },
    }));
    let schema = schema.unwrap();
    let given =
        json!({ "to": "t", "cc": null, "note": null, "kind": null, "inner": { "x": null }, "other": null });
    let left = without_nulls(schema.schema(), given);
    // Null where null means something stays, and so does what the schema does not know.
    assert_eq!(left, json!({ "to": "t", "note": null, "inner": {}, "other": null }));
    // What is required is missing, not absent.
    // What pydantic publishes for an optional argument says that null is nothing; members of lists and of the one form too.
    let written = json!({
        "type": "object",
        "properties": {
            "bcc": { "anyOf": [{ "type": "string" }, { "type": "null" }], "default": null },
            "list": { "type": "array", "items": { "$ref": "#/$defs/Item" } },
            "one": { "anyOf": [{ "$ref": "#/$defs/Item" }, { "type": "null" }] },
        },
        "$defs": { "Item": { "type": "object", "properties": { "x": { "type": "string" } } } },
    });
    let published = Arguments::parse(&written).unwrap();
    let given = json!({ "bcc": null, "list": [{ "x": null }, { "x": "a" }], "one": { "x": null } });
    let left = without_nulls(published.schema(), given);
    assert_eq!(left, json!({ "list": [{}, { "x": "a" }], "one": {} }));
    assert!(published.check(&left).is_ok());
    assert_eq!(without_nulls(schema.schema(), json!({ "to": null })), json!({ "to": null }));
    assert!(schema.check(&json!({ "to": null })).is_err());
}

#[test]
fn published_schemas_are_taken_as_they_are() {
    let schema = Arguments::parse(&json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://example.com/tool",
        "type": "object",
        "definitions": { "Id": { "type": "integer", "format": "uint32", "minimum": 0 } },
        "properties": {
            "id": { "$ref": "#/definitions/Id" },
            "size": { "type": "integer", "format": "int64" },
            "blob": { "type": "string", "format": "byte", "contentMediaType": "image/png", "contentEncoding": "base64" },
            "name": { "type": "string", "nullable": true },
            "pair": { "type": "array", "items": [{ "type": "string" }, { "type": "integer" }] },
            "any": {},
            "open": { "type": "object" },
            "definitions": { "type": "string" },
        },
        "required": ["id"],
    }));
    let schema = schema.unwrap();
    let fits = |arguments: Value| schema.check(&arguments).is_ok();
    assert!(fits(
        json!({ "id": 1, "size": 2, "blob": "AA==", "name": null, "pair": ["a", 1], "any": [1], "open": { "k": 1 }, "definitions": "d" })
    ));
    assert!(
        !fits(json!({ "id": -1 }))
            && !fits(json!({ "id": 1, "other": 1 }))
            && !fits(json!({ "id": 1, "pair": [1] }))
    );
    let short = Arguments::parse(&json!({ "x": {}, "nullable": { "type": "string" } })).unwrap();
    assert!(short.check(&json!({ "x": [null], "nullable": "a" })).is_ok());
    let older = Arguments::parse(&json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "id": "http://example.com/tool",
        "properties": {
            "card": { "type": "string", "example": "4111" },
            "billing_address": { "type": "string" },
            "share": { "type": "number", "minimum": 0, "exclusiveMinimum": true, "maximum": 1, "exclusiveMaximum": false },
            "id": { "type": "string" },
            "example": { "type": "string" },
            "dependencies": { "type": "array", "items": { "type": "string" } },
        },
        "dependencies": { "card": ["billing_address"], "example": { "required": ["id"] } },
    }));
    let older = older.unwrap();
    let fits = |arguments: Value| older.check(&arguments).is_ok();
    assert!(fits(json!({ "card": "1", "billing_address": "x", "share": 1, "dependencies": ["a"] })));
    assert!(fits(json!({ "example": "e", "id": "i" })));
    for wrong in
        [json!({ "card": "1" }), json!({ "share": 0 }), json!({ "example": "e" }), json!({ "other": 1 })]
    {
        assert!(!fits(wrong.clone()), "{wrong}");
    }
    // Without a type: arguments are an object in any case.
    for bare in [
        json!({ "properties": { "x": { "type": "integer" } }, "required": ["x"] }),
        json!({ "properties": { "x": { "type": "integer" } } }),
        json!({ "$defs": { "X": { "type": "integer" } }, "properties": { "x": { "$ref": "#/$defs/X" } } }),
        json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "properties": { "x": { "type": "integer" } } }),
    ] {
        let schema = Arguments::parse(&bare).unwrap();
        assert!(schema.check(&json!({ "x": 1 })).is_ok(), "{bare}");
        assert!(
            schema.check(&json!({ "x": "1" })).is_err() && schema.check(&json!({ "y": 1 })).is_err(),
            "{bare}"
        );
    }
    assert!(
        Arguments::parse(&json!({ "$schema": "https://json-schema.org/draft/2020-12/schema" }))
            .unwrap()
            .check(&json!({}))
            .is_ok()
    );
    // Arguments that are called so, in the short form.
    let short = Arguments::parse(
        &json!({ "properties": { "type": "object" }, "required": { "type": "boolean" }, "id": { "type": "string" } }),
    );
    assert!(short.unwrap().check(&json!({ "properties": { "a": 1 }, "required": true, "id": "i" })).is_ok());
    // A format that is a typing error, or a dialect that is none, is still refused.
    assert!(Arguments::parse(&json!({ "x": { "type": "string", "format": "emial" } })).is_err());
    assert!(Arguments::parse(&json!({ "type": "object", "$schema": "https://example.com/mine" })).is_err());
}
