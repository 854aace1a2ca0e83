use alloc::{string::ToString, vec::Vec};
use std::{format, string::String};

use serde_json::{Value, json};

use crate::{
    Arguments, DeclaredEffect, Effect, Policies, PolicyError, PolicySource, SystemName, Vocabulary, decide,
    sample,
    sample::{call, user},
};

fn errors(text: &str) -> Vec<PolicyError> {
    match Policies::load(&user(text), &sample::tools(), &sample::agents()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0,
    }
}

/// Each text has one error that says all of this, and points at the word in it.
fn refused(text: &str, word: &str, parts: &[&str]) {
    let errors = errors(text);
    let told =
        |error: &PolicyError| format!("{} {}", error.message, error.help.as_deref().unwrap_or_default());
    let found = errors.iter().find(|error| parts.iter().all(|part| told(error).contains(part)));
    let found = found.unwrap_or_else(|| panic!("{text}\n{errors:?}"));
    assert_eq!(text.get(found.span.clone().unwrap()).unwrap(), word, "{text}\n{found:?}");
}

#[test]
fn a_name_that_is_nowhere_is_an_error_with_its_place_and_the_nearest_name() {
    let refund = |when: &str| format!("forbid (principal, action == Action::\"refund\", resource) {when};");
    refused(
        &refund("when { context.args has amuont }"),
        "amuont",
        &["no `amuont`", "did you mean `amount`?"],
    );
    refused(&refund("unless { context.args has amuont && context.args.amuont < 5 }"), "amuont", &["amount"]);
    refused(&refund("when { context has args.amuont }"), "amuont", &["amount"]);
    refused(&refund("when { context[\"args\"] has \"amuont\" }"), "amuont", &["amount"]);
    refused(&refund("when { if context.args has amuont then true else false }"), "amuont", &["amount"]);
    refused(&refund("when { !(context has raech) }"), "raech", &["did you mean `reach`?"]);
    refused(
        &refund("when { context has reach && context.reach has rosw }"),
        "rosw",
        &["did you mean `rows`?"],
    );
    refused(&refund("when { principal has acounts }"), "acounts", &["did you mean `accounts`?"]);
    refused(&refund("when { resource has enviroment }"), "enviroment", &["did you mean `environment`?"]);
    refused(&refund("when { action has name }"), "name", &["`action` has no `name`"]);
    refused(&refund("when { context.session.money has Eur }"), "Eur", &["no `Eur`"]);
    refused(&refund("when { {a: 1} has b }"), "b", &["is no path"]);
    refused(&refund("when { context == {} }"), "context", &["context as a whole"]);
    refused(&refund("when { context.args == {} }"), "args", &["as a whole", "context.given"]);
}

#[test]
fn a_name_must_be_there_for_every_tool_of_the_scope() {
    refused(
        "forbid (principal, action, resource) when { context.args has amount };",
        "amount",
        &["5 of the tools", "narrow it: `action in [Action::\"refund\"]`"],
    );
    refused(
        "permit (principal, action in [Action::\"refund\", Action::\"read\"], resource) unless { context.args has amount };",
        "amount",
        &["`read`", "Action::\"refund\""],
    );
    assert_eq!(
        errors(
            "forbid (principal, action in Action::\"category:money\", resource) when { context.args has amount };"
        ),
        []
    );
    refused(
        "forbid (principal, action == Action::\"refund\", resource) when { context has statement };",
        "statement",
        &["agents write none"],
    );
    assert_eq!(
        errors(
            "forbid (principal, action, resource) when { context has statement && context.statement.bounded };"
        ),
        []
    );
}

#[test]
fn a_fact_that_nothing_fills_cannot_be_read() {
    for when in
        ["context.provenance.contains(\"amount\")", "context has provenance", "context[\"provenance\"] == []"]
    {
        refused(
            &format!("forbid (principal, action == Action::\"refund\", resource) when {{ {when} }};"),
            "provenance",
            &["not filled"],
        );
    }
}

#[test]
fn a_value_that_can_never_be_met_is_an_error() {
    let when = |when: &str| format!("forbid (principal, action, resource) when {{ {when} }};");
    refused(&when("context.effect == \"delete\""), "delete", &["can never be", "destructive"]);
    refused(&when("\"wirte\" == context.effect"), "wirte", &["did you mean `write`?"]);
    refused(&when("[\"postgre\"].contains(resource.kind)"), "postgre", &["did you mean `postgres`?"]);
    refused(&when("context.categories.contains(\"shcema\")"), "shcema", &["did you mean `schema`?"]);
    refused(
        &when("context.categories.containsAny([\"iam\", \"polciy\"])"),
        "polciy",
        &["did you mean `policy`?"],
    );
    refused(&when("context.given.contains(\"amuont\")"), "amuont", &["did you mean `amount`?"]);
    refused(&when("context.session.tools.contains(\"refnud\")"), "refnud", &["did you mean `refund`?"]);
    refused(&when("resource.environment == \"prodution\""), "prodution", &["did you mean `production`?"]);
    refused(&when("principal.accounts.contains(\"acne\")"), "acne", &["did you mean `acme`?"]);
    // Nothing has them today, and they are no typing errors.
    assert_eq!(
        errors(&when("resource.environment == \"archive\" || context.categories.contains(\"x-medical\")")),
        []
    );
}

#[test]
fn a_pattern_or_a_number_that_can_never_be_met_is_an_error() {
    let when = |when: &str| format!("forbid (principal, action, resource) when {{ {when} }};");
    refused(&when("context.effect like \"del*\""), "del*", &["which nothing fits", "destructive"]);
    refused(&when("!(resource.kind like \"*sql\")"), "*sql", &["which nothing fits"]);
    assert_eq!(errors(&when("context.effect like \"*d*\" || resource.environment like \"prodd*\"")), []);
    refused(&when("context.time.hour > 23"), "23", &["ever met", "it is 0 to 23"]);
    refused(&when("24 <= context.time.hour"), "24", &["it is 0 to 23"]);
    refused(&when("[1, 7, 8].contains(context.time.weekday)"), "8", &["it is 1 to 7"]);
    refused(&when("context.time.minute == 60"), "60", &["it is 0 to 59"]);
    refused(&when("context.session.calls < 0"), "0", &["it is 0 or more"]);
    refused(&when("context has reach && context.reach.rows <= -1"), "-1", &["it is 0 or more"]);
    for fine in [
        "context.time.hour >= 0 && context.time.hour <= 23",
        "context.time.hour < 8 || context.time.hour >= 18 || context.time.weekday > 5",
        "context has reach && context.reach.rows > 500",
        "context.session.calls == 0",
    ] {
        assert_eq!(errors(&when(fine)), [], "{fine}");
    }
    let bounded = json!({
        "type": "object", "additionalProperties": false, "required": ["n"],
        "properties": { "n": { "type": "integer", "minimum": 1, "exclusiveMaximum": 25 } },
    });
    let load = |text: &str| {
        let mut tool = (*sample::tools()[4]).clone();
        tool.arguments = bounded.clone();
        Policies::load(&[PolicySource::user("mine", text)], &[tool.into()], &sample::agents()).map(|_| ())
    };
    let refused = load(&when("context.args.n > 24")).unwrap_err();
    assert!(refused.0[0].help.as_ref().unwrap().contains("it is 1 to 24"), "{refused:?}");
    assert_eq!(load(&when("context.args.n >= 24 || context.args.n == 1")), Ok(()));
}

#[test]
fn who_and_what_nobody_has_is_an_error() {
    refused("permit (principal == Agent::\"bto\", action, resource);", "bto", &["did you mean `bot`?"]);
    refused(
        "permit (principal in Team::\"finanse\", action, resource);",
        "finanse",
        &["did you mean `finance`?"],
    );
    refused(
        "forbid (principal, action, resource) when { principal in Team::\"finanse\" };",
        "finanse",
        &["which nothing has"],
    );
    refused(
        "permit (principal, action, resource in Environment::\"prodution\");",
        "prodution",
        &["did you mean `production`?"],
    );
    refused(
        "permit (principal, action == Action::\"refnud\", resource);",
        "refnud",
        &["did you mean `refund`?"],
    );
    refused(
        "forbid (principal, action in [Action::\"refund\", Action::\"delte\"], resource);",
        "delte",
        &["did you mean `delete`?"],
    );
}

#[test]
fn a_word_that_something_can_never_be_is_an_error() {
    let query =
        |when: &str| format!("forbid (principal, action == Action::\"query\", resource) when {{ {when} }};");
    let verb = "context has statement && context.statement.verb";
    refused(
        &query(&format!("{verb} == \"DELETE\"")),
        "DELETE",
        &["which it can never be", "did you mean `delete`?"],
    );
    let either = query("context has statement && [\"drop\", \"purge\"].contains(context.statement.verb)");
    refused(&either, "purge", &["which it can never be"]);
    assert_eq!(errors(&query(&format!("{verb} == \"delete\""))).len(), 0);
    // A tool that is not on the system of the scope.
    refused(
        "forbid (principal, action == Action::\"refund\", resource == System::\"billing\");",
        "billing",
        &["can never apply", "on system `billing`"],
    );
    refused(
        "permit (principal, action in [Action::\"read\", Action::\"query\"], resource == System::\"payments\");",
        "payments",
        &["can never apply"],
    );
    assert_eq!(
        errors("forbid (principal, action == Action::\"refund\", resource == System::\"payments\");").len(),
        0
    );
}

#[test]
fn a_word_that_an_argument_does_not_list_is_an_error_and_open_arguments_may_be_any() {
    let load = |schema: &Value, text: &str| {
        let mut tool = (*sample::tools()[4]).clone();
        tool.arguments = schema.clone();
        Policies::load(&[PolicySource::user("mine", text)], &[tool.into()], &sample::agents())
    };
    let listed = json!({
        "type": "object", "additionalProperties": false,
        "properties": { "state": { "enum": ["open", "closed"] }, "note": { "type": "string" } },
    });
    let when = |when: &str| format!("forbid (principal, action, resource) when {{ {when} }};");
    let state = "context.args has state && context.args.state";
    let told = load(&listed, &when(&format!("{state} == \"clsoed\""))).unwrap_err().0;
    assert!(told[0].message.contains("which it can never be"), "{told:?}");
    assert!(load(&listed, &when(&format!("{state} == \"closed\""))).is_ok());
    assert!(load(&listed, &when("context.args has note && context.args.note == \"anything\"")).is_ok());
    // Names of arguments: any where the schema takes any, and that is listed.
    let text = when("context.given.contains(\"bcc\")");
    assert!(load(&listed, &text).is_err());
    for open in [
        json!({ "type": "object", "properties": {}, "additionalProperties": true }),
        json!({ "type": "object", "properties": {}, "additionalProperties": false, "patternProperties": { "^b": {} } }),
        json!({ "type": "object", "allOf": [{ "properties": { "bcc": {} } }], "unevaluatedProperties": false }),
    ] {
        let policies = load(&open, &text).unwrap();
        assert!(policies.untyped().iter().any(|untyped| untyped.argument == "/*"), "{open}");
    }
}

#[test]
fn a_policy_that_can_never_apply_is_an_error_with_its_id_and_place() {
    let text = "@id(\"dead\") forbid (principal, action == Action::\"refund\", resource in Environment::\"staging\");
                permit (principal, action, resource);";
    let errors = errors(text);
    assert_eq!(errors.len(), 0, "a scope that nothing meets today is no error of types: {errors:?}");
    let never = "@id(\"dead\") forbid (principal, action == Action::\"read\", resource) when { false };";
    let found = self::errors(never);
    assert!(found[0].message.contains("`mine:dead` can never apply"), "{found:?}");
    assert!(found[0].span.is_some());
}

/// A tool with one argument of this schema, and what policies over it answer.
fn with(schema: &Value, optional: bool) -> std::sync::Arc<crate::ToolSpec> {
    let mut property = schema.clone();
    property["optional"] = optional.into();
    let system = sample::system("mail", "http", "production", "acme");
    let arguments = json!({ "to": { "type": "string" }, "bcc": property });
    sample::tool("send", DeclaredEffect::Write, system, &arguments).into()
}

#[test]
fn an_optional_argument_is_seen_however_its_schema_says_so() {
    let text = "permit (principal, action, resource);
                forbid (principal, action == Action::\"send\", resource) when { context.args has bcc };";
    for schema in [
        json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
        json!({ "oneOf": [{ "type": "null" }, { "type": "string", "format": "email" }], "default": null }),
        json!({ "type": ["string", "null"] }),
        json!({ "enum": ["a@b.c", null] }),
        json!({ "allOf": [{ "type": "string" }] }),
        json!({ "anyOf": [{ "type": "string", "maxLength": 9 }, { "type": "string", "format": "email" }] }),
        json!({ "anyOf": [{ "anyOf": [{ "type": "string" }, { "const": null }] }, { "type": "null" }] }),
        json!({ "type": "string", "not": { "const": "x" } }),
    ] {
        let tool = with(&schema, true);
        let policies = Policies::load(
            &[PolicySource::user("mine", text)],
            std::slice::from_ref(&tool),
            &sample::agents(),
        );
        let policies = policies.unwrap_or_else(|why| panic!("{schema}: {why}"));
        assert_eq!(policies.untyped(), [], "{schema}");
        let decided = |arguments: Value| {
            Arguments::parse(&tool.arguments).unwrap().check(&arguments).unwrap();
            let mut call = call("refund", arguments);
            call.tool = tool.clone();
            decide(&call, &sample::facts(Effect::Write), &policies).as_str()
        };
        assert_eq!(decided(json!({ "to": "x", "bcc": "a@b.c" })), "deny", "{schema}");
        assert_eq!(decided(json!({ "to": "x" })), "allow", "{schema}");
    }
}

#[test]
fn what_has_no_type_is_listed_and_cannot_be_named_and_whether_it_was_given_can() {
    for schema in [
        json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }] }),
        json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }, { "type": "null" }] }),
        json!({ "type": "array", "items": { "type": ["string", "null"] } }),
        json!({ "type": "object", "additionalProperties": true }),
    ] {
        let tool = with(&schema, true);
        let load = |text: &str| {
            Policies::load(
                &[PolicySource::user("mine", text)],
                std::slice::from_ref(&tool),
                &sample::agents(),
            )
        };
        let text = "permit (principal, action, resource) unless { context.args has bcc };";
        let errors = load(text).unwrap_err().0;
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(told[0].contains("no type that policies can look at in tool `send`"), "{schema}: {told:?}");
        assert!(errors[0].help.as_ref().unwrap().contains("context.given.contains(\"bcc\")"));
        let policies =
            load("permit (principal, action, resource) unless { context.given.contains(\"bcc\") };").unwrap();
        assert_eq!(policies.untyped().len(), 1, "{schema}");
        let decided = |arguments: Value| {
            let mut call = call("refund", arguments);
            call.tool = tool.clone();
            decide(&call, &sample::facts(Effect::Write), &policies).as_str()
        };
        assert_eq!(decided(json!({ "to": "x", "bcc": 1 })), "deny");
        assert_eq!(decided(json!({ "to": "x" })), "allow");
    }
}

mod properties {
    use proptest::{collection::btree_map, prelude::*, sample::select};

    use super::*;

    /// Names that shadow, and the kinds of argument that policies can look at.
    fn names() -> impl Strategy<Value = &'static str> {
        select(std::vec![
            "args",
            "has",
            "context",
            "given",
            "principal",
            "if",
            "_x",
            "a.b",
            "a-b",
            "true",
            "in",
            "like",
            "is",
            "__cedar",
            "rows",
            "x",
            "then",
            "Var",
            "Value",
        ])
    }

    fn schemas() -> impl Strategy<Value = (Value, Value)> {
        select(std::vec![
            (json!({ "type": "string" }), json!("a")),
            (json!({ "type": "integer" }), json!(3)),
            (json!({ "type": "boolean" }), json!(true)),
            (json!({ "anyOf": [{ "type": "integer" }, { "type": "null" }] }), json!(7)),
            (
                json!({ "oneOf": [{ "type": "null" }, { "type": "array", "items": { "type": "string" } }] }),
                json!(["x"])
            ),
            (
                json!({ "type": "object", "properties": { "in": { "type": "string" } }, "required": ["in"] }),
                json!({ "in": "y" })
            ),
            (json!({ "anyOf": [{ "type": "integer" }, { "type": "string" }] }), json!("untyped")),
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        /// Whatever was given is seen: by `given` always, by `has` where it has a type; nothing else is.
        #[test]
        fn what_is_given_is_seen_under_any_name(
            arguments in btree_map(names(), (schemas(), any::<bool>()), 1..6),
        ) {
            let mut properties = serde_json::Map::new();
            let mut given = serde_json::Map::new();
            for (name, ((schema, value), is_given)) in &arguments {
                let mut schema = schema.clone();
                schema["optional"] = true.into();
                properties.insert((*name).into(), schema);
                if *is_given {
                    given.insert((*name).into(), value.clone());
                }
            }
            let system = sample::system("s", "http", "production", "acme");
            let tool = std::sync::Arc::new(sample::tool("t", DeclaredEffect::Write, system, &Value::Object(properties)));
            for (name, (_, is_given)) in &arguments {
                let mut asks = std::vec![format!("context.given.contains(\"{name}\")")];
                let typed = Policies::load(&[], std::slice::from_ref(&tool), &sample::agents()).unwrap();
                if !typed.untyped().iter().any(|untyped| untyped.argument == format!("/{name}")) {
                    asks.push(format!("context.args has \"{name}\""));
                }
                for ask in asks {
                    let text: String = format!("permit (principal, action, resource) when {{ {ask} }};");
                    let policies = Policies::load(&[PolicySource::user("p", text.as_str())], std::slice::from_ref(&tool), &sample::agents());
                    let policies = policies.map_err(|why| TestCaseError::fail(format!("{text}: {why}")))?;
                    let mut call = call("refund", Value::Object(given.clone()));
                    call.tool = tool.clone();
                    let answer = decide(&call, &sample::facts(Effect::Write), &policies);
                    prop_assert_eq!(answer.as_str(), if *is_given { "allow" } else { "deny" }, "{} {:?}", text, given);
                }
            }
        }
    }
}

#[test]
fn a_text_that_nothing_is_called_is_told_with_its_place_and_the_nearest_name() {
    let vocabulary = Vocabulary {
        people: ["alice".into()].into(),
        groups: ["approvers".into()].into(),
        tables: [(SystemName::parse("billing").unwrap(), ["invoice".into(), "public.invoice".into()].into())]
            .into(),
        closed: [SystemName::parse("billing").unwrap()].into(),
    };
    let misnamed = |vocabulary: &Vocabulary, action: &str, when: &str| {
        let text = format!("forbid (principal, action {action}, resource) when {{ {when} }};");
        let sources = user(&text);
        let policies = Policies::load(&sources, &sample::tools(), &sample::agents()).unwrap();
        let found = policies.misnamed(&sources, vocabulary);
        let told = found.first().map(|one| {
            let word = text.get(one.error.span.clone().unwrap()).unwrap().to_string();
            (word, one.certain, one.error.help.clone().unwrap_or_default())
        });
        (found.len(), told)
    };
    let delete = "== Action::\"delete\"";
    let near = |name: &str| format!("did you mean `{name}`?");
    for (action, when, word, certain, help) in [
        (
            "",
            "context has approval && context.approval.people.contains(\"alcie\")",
            "alcie",
            true,
            near("alice"),
        ),
        (
            "",
            "context has approval && context.approval.groups.contains(\"aprovers\")",
            "aprovers",
            true,
            near("approvers"),
        ),
        ("", "context has on_behalf_of && context.on_behalf_of == \"alcie\"", "alcie", true, near("alice")),
        (
            delete,
            "context has reach && context.reach.tables.contains(\"invioce\")",
            "invioce",
            true,
            near("invoice"),
        ),
        (
            "",
            "resource.environment == \"elsewhere\"",
            "elsewhere",
            false,
            "known are `production`, `staging`".into(),
        ),
    ] {
        assert_eq!(misnamed(&vocabulary, action, when), (1, Some((word.into(), certain, help))), "{when}");
        assert_eq!(
            misnamed(
                &vocabulary,
                action,
                &when.replace(
                    word,
                    match word {
                        "alcie" => "alice",
                        "aprovers" => "approvers",
                        "invioce" => "invoice",
                        _ => "staging",
                    }
                )
            ),
            (0, None)
        );
    }
    // Where not all tables are known, it may be one of the others; and of an API nothing is known.
    let open = Vocabulary { closed: [].into(), ..vocabulary.clone() };
    let when = "context has reach && context.reach.tables.contains(\"other\")";
    assert_eq!(misnamed(&open, delete, when).1.map(|told| told.1), Some(false));
    assert_eq!(misnamed(&vocabulary, "== Action::\"refund\"", when), (0, None));
}

#[test]
fn a_currency_is_one_of_iso_4217() {
    let refund =
        |when: &str| format!("forbid (principal, action == Action::\"refund\", resource) when {{ {when} }};");
    let currency = |code: &str| {
        refund(&format!(
            "context has reach && context.reach has amount && context.reach.amount.currency == \"{code}\""
        ))
    };
    assert_eq!(errors(&currency("EUR")), []);
    refused(&currency("EURO"), "EURO", &["can never be", "did you mean `EUR`?"]);
    refused(&currency("eur"), "eur", &["can never be", "did you mean `EUR`?"]);
    refused(&refund("context.session.money has EUT"), "EUT", &["no `EUT`"]);
    refused(
        &refund("context.agent_today.money has EUT && context.agent_today.money.EUT > 1"),
        "EUT",
        &["no `EUT`"],
    );
}

#[test]
fn a_policy_that_only_sessions_bound_is_told() {
    let held = |text: &str| {
        let policies = Policies::load(&user(text), &sample::tools(), &sample::agents()).unwrap();
        let held = policies.held_by_session();
        held.first().map(|held| (held.error.message.contains("`mine:n`"), held.tools.len()))
    };
    let session = "@id(\"n\") forbid (principal, action == Action::\"delete\", resource) when { context.session.writes > 3 };";
    assert_eq!(held(session), Some((true, 1)));
    let today =
        format!("{session} forbid (principal, action, resource) when {{ context.agent_today.writes > 9 }};");
    assert_eq!(held(&today), None);
    assert_eq!(
        held("@id(\"n\") forbid (principal, action, resource) when { context.effect == \"write\" };"),
        None
    );
}
