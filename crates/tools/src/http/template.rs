//! The places in a request that arguments fill. Pure.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Map, Value};
use url::Url;

use crate::definition::HttpRequest;

/// A request whose places are known.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) method: Method,
    segments: Vec<Vec<Piece>>,
    query: Vec<(String, Place)>,
    body: Option<Place>,
    /// The separators that an argument's own schema names.
    named: BTreeMap<String, BTreeSet<char>>,
}

/// What a server may take for the end of one part of a path, or of its escaping, also where it was sent encoded.
const SEPARATORS: [char; 4] = ['/', '\\', ';', '%'];

/// Tells whether a pattern surely speaks of the whole text. Others find what they describe anywhere in it, so that `[^/]+`
/// takes `a/b` (JSON Schema 2020-12, validation, 6.3.3).
fn holds_whole(pattern: &str) -> bool {
    let ends = pattern.strip_suffix('$').is_some_and(|rest| !rest.ends_with('\\'));
    pattern.starts_with('^') && ends && !pattern.contains('|') && !pattern.contains("(?")
}

/// A part of a segment of the path.
#[derive(Debug)]
enum Piece {
    Text(String),
    Argument(String),
}

/// A JSON value with places in it.
#[derive(Debug)]
enum Place {
    Fixed(Value),
    Argument(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// Why a template cannot be used: the key and what is wrong.
pub(super) type BadTemplate = (&'static str, String);

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filled {
    pub(super) url: Url,
    pub(super) body: Option<Value>,
}

impl Template {
    pub(super) fn new(request: &HttpRequest) -> Result<Self, BadTemplate> {
        let method = match request.method.as_str() {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            other => {
                return Err(("method", format!("`{other}` is none of GET, HEAD, POST, PUT, PATCH, DELETE")));
            }
        };
        if request.body.is_some() && matches!(method, Method::GET | Method::HEAD) {
            return Err(("body", format!("has no meaning with `{method}`")));
        }
        let mut query = Vec::new();
        for (name, value) in &request.query {
            let place = place(value).map_err(|why| ("query", why))?;
            if matches!(place, Place::Object(_)) {
                return Err(("query", format!("`{name}` is an object, which a query cannot hold")));
            }
            query.push((name.clone(), place));
        }
        let body = request.body.as_ref().map(place).transpose().map_err(|why| ("body", why))?;
        Ok(Self { method, segments: path(&request.path)?, query, body, named: BTreeMap::new() })
    }

    /// Lets an argument of the path have the separators that its author wrote into its schema: into one of the values that
    /// it may have, or its `pattern` where that is held to the whole of the text.
    pub(super) fn allow_named(mut self, schema: &Value) -> Self {
        let names: Vec<String> = self.path_names().into_iter().map(str::to_owned).collect();
        for name in names {
            let property = schema.get("properties").and_then(|all| all.get(&name));
            let of = |key: &str| property.and_then(|property| property.get(key));
            let values = of("enum").and_then(Value::as_array).into_iter().flatten().chain(of("const"));
            let pattern = of("pattern").filter(|pattern| pattern.as_str().is_some_and(holds_whole));
            let texts = pattern.into_iter().chain(values).filter_map(Value::as_str);
            let named = texts.flat_map(str::chars).filter(|c| SEPARATORS.contains(c)).collect();
            self.named.insert(name, named);
        }
        self
    }

    /// The arguments it names.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let mut names = self.path_names();
        self.query.iter().for_each(|(_, place)| place.names(&mut names));
        self.body.iter().for_each(|place| place.names(&mut names));
        names
    }

    /// The arguments that the path names: without them there is no path.
    pub(super) fn path_names(&self) -> BTreeSet<&str> {
        let pieces = self.segments.iter().flatten();
        pieces
            .filter_map(|piece| match piece {
                Piece::Argument(name) => Some(name.as_str()),
                Piece::Text(_) => None,
            })
            .collect()
    }

    /// Fills the places. The error names the argument that does not fit its place.
    pub(super) fn fill(&self, base: &Url, arguments: &Map<String, Value>) -> Result<Filled, String> {
        let mut path = base.path().trim_end_matches('/').to_owned();
        for segment in &self.segments {
            let mut text = String::new();
            for piece in segment {
                match piece {
                    Piece::Text(fixed) => text.push_str(fixed),
                    Piece::Argument(name) => {
                        let none = BTreeSet::new();
                        let named = self.named.get(name).unwrap_or(&none);
                        text.push_str(&path_text(name, arguments.get(name), named)?);
                    }
                }
            }
            // Written and encoded dots mean the same to a URL parser: a step, not a name.
            if matches!(text.as_str(), "" | "." | "..") {
                return Err(format!("a part of the path would be `{text}`, which is no name"));
            }
            path.push('/');
            encode(&text, &mut path);
        }
        let mut url = base.clone();
        url.set_path(&path);
        // INVARIANT: an argument changes neither the host nor the path around its place.
        if url.path() != path || url.origin() != base.origin() {
            return Err("the arguments do not fit into the path".into());
        }
        let mut pairs = Vec::new();
        for (name, place) in &self.query {
            match place.filled(arguments) {
                None | Some(Value::Null) => {}
                Some(Value::Array(items)) => {
                    for item in items {
                        pairs.push((name, plain(name, &item)?));
                    }
                }
                Some(value) => pairs.push((name, plain(name, &value)?)),
            }
        }
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        let body = self.body.as_ref().and_then(|place| place.filled(arguments));
        Ok(Filled { url, body })
    }
}

impl Place {
    fn names<'s>(&'s self, names: &mut BTreeSet<&'s str>) {
        match self {
            Self::Fixed(_) => {}
            Self::Argument(name) => {
                names.insert(name);
            }
            Self::List(items) => items.iter().for_each(|item| item.names(names)),
            Self::Object(members) => members.iter().for_each(|(_, member)| member.names(names)),
        }
    }

    /// None where an optional argument is missing.
    fn filled(&self, arguments: &Map<String, Value>) -> Option<Value> {
        match self {
            Self::Fixed(value) => Some(value.clone()),
            Self::Argument(name) => arguments.get(name).cloned(),
            Self::List(items) => Some(items.iter().filter_map(|item| item.filled(arguments)).collect()),
            Self::Object(members) => {
                let members = members.iter();
                let members =
                    members.filter_map(|(name, place)| Some((name.clone(), place.filled(arguments)?)));
                Some(Value::Object(members.collect()))
            }
        }
    }
}

fn place(value: &Value) -> Result<Place, String> {
    Ok(match value {
        Value::String(text) => match text.strip_prefix('$') {
            None => Place::Fixed(value.clone()),
            Some(rest) if rest.starts_with('$') => Place::Fixed(Value::from(rest)),
            Some(name) if is_name(name) => Place::Argument(name.to_owned()),
            Some(_) => {
                return Err(format!(
                    "`{text}` is no argument; write `$${}` for the text itself",
                    &text.trim_start_matches('$')
                ));
            }
        },
        Value::Array(items) => Place::List(items.iter().map(place).collect::<Result<_, _>>()?),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| Ok((name.clone(), place(value)?)));
            Place::Object(members.collect::<Result<_, String>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Place::Fixed(value.clone()),
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

fn path(text: &str) -> Result<Vec<Vec<Piece>>, BadTemplate> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err(("path", "must start with `/`".into()));
    };
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    rest.split('/').map(segment).collect()
}

fn segment(text: &str) -> Result<Vec<Piece>, BadTemplate> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let (name, left) = after.split_once('}').ok_or_else(|| ("path", "`{` does not end".to_owned()))?;
        if !is_name(name) {
            return Err(("path", format!("`{{{name}}}` names no argument")));
        }
        pieces.push(Piece::Argument(name.to_owned()));
        rest = left;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    for piece in &pieces {
        if let Piece::Text(fixed) = piece
            && fixed.contains(['}', '?', '#', '\\', '%'])
        {
            return Err((
                "path",
                format!("`{fixed}` has a character that belongs into the query or is no path"),
            ));
        }
    }
    match pieces.as_slice() {
        [] => Err(("path", "has an empty part".into())),
        [Piece::Text(dots)] if dots == "." || dots == ".." => Err(("path", format!("has the part `{dots}`"))),
        _ => Ok(pieces),
    }
}

/// An argument as part of a path. What a careless server might take for a step up is refused even encoded.
fn path_text(name: &str, value: Option<&Value>, named: &BTreeSet<char>) -> Result<String, String> {
    let value = value.ok_or_else(|| format!("`/{name}` is missing, and the path needs it"))?;
    let text = plain(name, value)?;
    if text.is_empty() {
        return Err(format!("`/{name}` is empty, and the path needs it"));
    }
    if text.split(['/', '\\']).any(|part| matches!(part, "." | "..")) || text.chars().any(char::is_control) {
        return Err(format!("`/{name}` has a step or control character that a path may not have"));
    }
    // Many servers look for the place of a path only after they have decoded it.
    match text.chars().find(|c| SEPARATORS.contains(c) && !named.contains(c)) {
        Some(c) => Err(format!("`/{name}` has `{c}`, which may lead to another place of the path")),
        None => Ok(text),
    }
}

fn plain(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(format!("`/{name}` must be a single value")),
    }
}

/// Percent-encodes everything that is not unreserved (RFC 3986, section 2.3).
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn request(path: &str) -> HttpRequest {
        HttpRequest {
            method: "POST".into(),
            path: path.into(),
            query: BTreeMap::new(),
            headers: BTreeMap::new(),
            body: None,
        }
    }

    fn url(path: &str, value: &Value) -> Result<String, String> {
        let template = Template::new(&request(path)).unwrap();
        let base = Url::parse("https://api.example/v1/").unwrap();
        let arguments = json!({"id": value}).as_object().unwrap().clone();
        template.fill(&base, &arguments).map(|filled| filled.url.to_string())
    }

    #[test]
    fn what_may_lead_elsewhere_is_refused_unless_the_schema_names_it() {
        for value in [
            "a/b",
            "7/secrets/master",
            "a\\b",
            "a;admin=1",
            "..%2fsecrets",
            "%2e%2e",
            "a%",
            ".",
            "..",
            "a/../b",
            "a\0b",
            "",
        ] {
            assert!(url("/items/{id}", &json!(value)).is_err(), "{value}");
        }
        let named = |schema: Value, value: &str| {
            let template = Template::new(&request("/items/{id}")).unwrap();
            let template = template.allow_named(&json!({ "properties": { "id": schema } }));
            let arguments = json!({ "id": value }).as_object().unwrap().clone();
            template
                .fill(&Url::parse("https://api.example/v1/").unwrap(), &arguments)
                .map(|filled| filled.url.to_string())
        };
        let path = json!({ "type": "string", "pattern": "^[a-z]+/[a-z]+$" });
        assert_eq!(named(path.clone(), "org/repo").unwrap(), "https://api.example/v1/items/org%2Frepo");
        assert!(named(path.clone(), "org;repo").is_err() && named(path, "org/..").is_err());
        assert!(named(json!({ "enum": ["a/b", "c"] }), "a/b").is_ok());
        assert!(named(json!({ "type": "string" }), "a/b").is_err());
        // Found anywhere in a text, they would hold it to nothing.
        for loose in ["[^/]+", "^a/b", "a/b$", "^a|/b$", "^a/b\\$", "(?m)^a/b$", "^(?m)a/b$"] {
            assert!(named(json!({ "pattern": loose }), "a/b").is_err(), "{loose}");
        }
    }

    #[test]
    fn an_argument_stays_in_its_place() {
        let base = "https://api.example/v1/charges/";
        for (value, expected) in [
            (json!("ch_1"), "ch_1/refund"),
            (json!(7), "7/refund"),
            (json!("a?b#c"), "a%3Fb%23c/refund"),
            (json!("@evil.example"), "%40evil.example/refund"),
            (json!("é ü"), "%C3%A9%20%C3%BC/refund"),
            (json!("a,b=c&d"), "a%2Cb%3Dc%26d/refund"),
        ] {
            assert_eq!(url("/charges/{id}/refund", &value).unwrap(), format!("{base}{expected}"));
        }
        for value in [
            json!(""),
            json!("."),
            json!(".."),
            json!("../admin"),
            json!("a/../../admin"),
            json!("..\\admin"),
            json!("a\r\nb"),
            json!("a\u{0}"),
            json!(["a"]),
            json!({"a": 1}),
            Value::Null,
        ] {
            url("/charges/{id}/refund", &value).expect_err(&value.to_string());
        }
        assert_eq!(
            url("/files/{id}.json", &json!("..")).unwrap_err(),
            url("/x/{id}", &json!("..")).unwrap_err()
        );
    }

    #[test]
    fn values_keep_their_types_and_missing_ones_are_left_out() {
        let mut request = request("/refunds");
        request.body = Some(
            json!({"charge": "$charge", "amount": "$amount", "note": "$note", "cost": "$$5", "fixed": [1, "$amount"]}),
        );
        request.query = BTreeMap::from([
            ("dry".into(), json!("$dry")),
            ("tag".into(), json!("$tags")),
            ("v".into(), json!(2)),
        ]);
        let template = Template::new(&request).unwrap();
        assert_eq!(template.names(), BTreeSet::from(["charge", "amount", "note", "dry", "tags"]));
        let arguments = json!({"charge": "c$1\"}", "amount": 12, "tags": ["a b", "c&d=e"], "dry": true});
        let filled =
            template.fill(&Url::parse("https://a.example").unwrap(), arguments.as_object().unwrap()).unwrap();
        assert_eq!(
            filled.body,
            Some(json!({"charge": "c$1\"}", "amount": 12, "cost": "$5", "fixed": [1, 12]}))
        );
        assert_eq!(filled.url.as_str(), "https://a.example/refunds?dry=true&tag=a+b&tag=c%26d%3De&v=2");
    }

    #[test]
    fn refuses_templates_that_mean_nothing() {
        for path in ["x", "/a//b", "/../a", "/a/{", "/a/{}", "/a/{b c}", "/a?b", "/a#b", "/a%2fb", "/a}"] {
            assert!(Template::new(&request(path)).is_err(), "{path}");
        }
        let mut bad = request("/a");
        bad.method = "CONNECT".into();
        assert_eq!(Template::new(&bad).unwrap_err().0, "method");
        bad.method = "GET".into();
        bad.body = Some(json!({}));
        assert_eq!(Template::new(&bad).unwrap_err().0, "body");
        let mut bad = request("/a");
        bad.body = Some(json!({"a": "$"}));
        assert_eq!(Template::new(&bad).unwrap_err().0, "body");
    }
}
