//! What is checked of the definition of a request before any call.

use std::collections::BTreeSet;

use countersign_rules::arguments::{properties, requires};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::template::Template;
use crate::definition::{
    AmountDefinition, AmountSource, CurrencySource, DefinitionError, HttpDefinition, HttpRequest, HttpTarget,
};

/// Headers that are ours or the protocol's to set.
const RESERVED_HEADERS: &[&str] = &[
    "host",
    "authorization",
    "cookie",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "idempotency-key",
    "proxy-authorization",
];

#[derive(Debug)]
pub(super) struct Request {
    pub(super) template: Template,
    pub(super) headers: HeaderMap,
}

/// Fixed headers; those that are not ours to set are refused.
pub(super) fn headers<'h>(
    written: impl Iterator<Item = (&'h String, &'h String)>,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let lower = name.to_ascii_lowercase();
        if RESERVED_HEADERS.contains(&lower.as_str()) {
            return Err(format!("`{name}` is not free to set"));
        }
        let parsed =
            HeaderName::from_bytes(lower.as_bytes()).map_err(|_bad| format!("`{name}` is no header name"))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_bad| format!("the value of `{name}` is no header value"))?;
        headers.insert(parsed, value);
    }
    Ok(headers)
}

pub(super) fn compile(request: &HttpRequest) -> Result<Request, (&'static str, String)> {
    let headers = headers(request.headers.iter()).map_err(|why| ("headers", why))?;
    Ok(Request { template: Template::new(request)?, headers })
}

/// Checks that templates, amounts and the schema name the same arguments.
pub(super) fn check_names(
    definition: &HttpDefinition,
    schema: &Value,
    request: &Request,
    preview: Option<&Request>,
) -> Result<(), DefinitionError> {
    let bad = |key: &str, why: String| DefinitionError::tool(&definition.tool.name, key, why);
    let declared: BTreeSet<&str> = properties(schema).map(|(name, _property)| name).collect();
    let mut used = BTreeSet::new();
    for (key, template) in [("request", Some(request)), ("preview", preview)] {
        let Some(Request { template, .. }) = template else { continue };
        let names = template.names();
        if let Some(unknown) = names.difference(&declared).next() {
            return Err(bad(key, format!("names `{unknown}`, which is no argument"))
                .help("declare it under `arguments`, or correct its name"));
        }
        if let Some(optional) = template.path_names().into_iter().find(|name| !requires(schema, name)) {
            return Err(bad(key, format!("its path needs `{optional}`, which is optional")));
        }
        used.extend(names);
    }
    if let Some(amount @ AmountDefinition { minor, currency, .. }) = &definition.amount {
        amount.fits(&definition.tool.name, schema)?;
        let mut arguments = Vec::new();
        let mut pointers = Vec::new();
        match minor {
            AmountSource::Argument(name) => arguments.push(name),
            AmountSource::Preview(pointer) => pointers.push(pointer),
        }
        match currency {
            CurrencySource::Fixed(_) => {}
            CurrencySource::Argument(name) => arguments.push(name),
            CurrencySource::Preview(pointer) => pointers.push(pointer),
        }
        for name in arguments {
            if !requires(schema, name) {
                return Err(bad("amount", format!("needs `{name}`, which is no required argument")));
            }
            used.insert(name);
        }
        for pointer in pointers {
            if preview.is_none() {
                return Err(bad("amount", format!("`{pointer}` points into a preview, and there is none")));
            }
            if !pointer.starts_with('/') {
                return Err(bad("amount", format!("`{pointer}` is no JSON pointer: it must start with `/`")));
            }
        }
    }
    if let Some(unused) = declared.difference(&used).next() {
        return Err(bad("arguments", format!("`{unused}` is not used by the request")).help(format!(
            "write `{{{unused}}}` into the path or `${unused}` into query or body, or leave it out"
        )));
    }
    Ok(())
}

/// Tells what distinguishes this definition from another, for its version.
pub(super) fn template(definition: &HttpDefinition, target: &HttpTarget) -> Value {
    let request = |request: &HttpRequest| {
        json!({
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": request.headers,
            "body": request.body,
        })
    };
    json!({
        "kind": "http",
        "base_url": target.base_url.as_str(),
        "headers": target.headers,
        "request": request(&definition.request),
        "preview": definition.preview.as_ref().map(request),
        "amount": definition.amount.as_ref().map(amount),
        "objects": definition.objects,
    })
}

/// Writes where an amount comes from, in the very words that versions were made of so far: another word is another version,
/// whatever the types are called by now.
fn amount(AmountDefinition { minor, scale, currency }: &AmountDefinition) -> String {
    let minor = match minor {
        AmountSource::Argument(name) => format!("Argument({name:?})"),
        AmountSource::Preview(pointer) => format!("Preview({pointer:?})"),
    };
    let scale = scale.map_or_else(|| "None".to_owned(), |places| format!("Some({places})"));
    let currency = match currency {
        CurrencySource::Fixed(currency) => format!("Fixed({currency})"),
        CurrencySource::Argument(name) => format!("Argument({name:?})"),
        CurrencySource::Preview(pointer) => format!("Preview({pointer:?})"),
    };
    format!("AmountDefinition {{ minor: {minor}, scale: {scale}, currency: {currency} }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These words are part of the versions that approvals and logs name.
    #[test]
    fn an_amount_is_written_as_versions_were_made_of_it() {
        let eur = CurrencySource::Fixed("EUR".parse().unwrap());
        let cases = [
            (
                AmountDefinition {
                    minor: AmountSource::Argument("cents".into()),
                    scale: None,
                    currency: eur,
                },
                r#"AmountDefinition { minor: Argument("cents"), scale: None, currency: Fixed(EUR) }"#,
            ),
            (
                AmountDefinition {
                    minor: AmountSource::Preview("/amount".into()),
                    scale: Some(2),
                    currency: CurrencySource::Preview("/currency".into()),
                },
                r#"AmountDefinition { minor: Preview("/amount"), scale: Some(2), currency: Preview("/currency") }"#,
            ),
            (
                AmountDefinition {
                    minor: AmountSource::Argument("a\"b\u{e9}".into()),
                    scale: Some(4),
                    currency: CurrencySource::Argument("currency".into()),
                },
                r#"AmountDefinition { minor: Argument("a\"bé"), scale: Some(4), currency: Argument("currency") }"#,
            ),
        ];
        for (definition, words) in cases {
            assert_eq!(amount(&definition), words);
        }
    }
}
