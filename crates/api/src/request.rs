//! What comes in: credentials and strict JSON.

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
};
use countersign_audit::from_slice_strict;
use countersign_rules::{ApprovalId, CallId, Code, IdempotencyKey, Refusal};
use serde::de::DeserializeOwned;

use super::{Api, Problem};
use countersign_app::{
    Beside,
    auth::{Identity, Person, Principal},
    body::read,
    connection::Seat,
    role::Right,
    trace::trace_of,
};

/// A JSON body that every reader reads the same way, as a type that knows all of its fields.
pub(crate) struct Strict<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Api> for Strict<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Api) -> Result<Self, Problem> {
        // A page of another origin can send other types without asking first, but not this one.
        let json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !json {
            return Err(Problem::new(Code::Malformed, "the body is not `application/json`")
                .help("send `Content-Type: application/json`")
                .status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let limit = state.app.settings().body_bytes_max;
        let bytes = read(request.into_body(), limit)
            .await
            .map_err(|why| {
                let why = why.to_string().to_lowercase();
                Problem::new(Code::Malformed, format!("the body cannot be read: {why}"))
            })?
            .ok_or_else(|| {
                Problem::new(Code::Malformed, format!("the body has more than {limit} bytes"))
                    .status(StatusCode::PAYLOAD_TOO_LARGE)
            })?;
        let value =
            from_slice_strict(&bytes).map_err(|why| Problem::new(Code::Malformed, why.to_string()))?;
        serde_json::from_value(value).map(Self).map_err(|why| Problem::new(Code::Malformed, why.to_string()))
    }
}

/// The header by which a client names a call that it may repeat (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What stands beside a proposed call in the headers.
pub(crate) struct WithCall(pub(crate) Beside);

impl<S: Send + Sync> FromRequestParts<S> for WithCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Ok(Self(Beside { key: key(&parts.headers)?, trace: trace_of(&parts.headers) }))
    }
}

/// The idempotency key of a request, where it has one.
fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let bad = |why: &str| {
        Problem::new(Code::Malformed, format!("the header `Idempotency-Key`: {why}"))
            .help("send one key of 1 to 255 visible ASCII characters, as a quoted string or as it is")
    };
    if given.next().is_some() {
        return Err(bad("it stands there more than once"));
    }
    let text = value.to_str().ok().and_then(unquoted).ok_or_else(|| bad("it is no string"))?;
    IdempotencyKey::parse(&text).map(Some).map_err(|why| bad(&why.to_string()))
}

/// A string of structured fields (RFC 9651) without its quotes; what has none stands for itself, as many clients send it.
fn unquoted(text: &str) -> Option<String> {
    let text = text.trim_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let mut plain = String::with_capacity(quoted.len());
    let mut rest = quoted.chars();
    loop {
        match rest.next()? {
            '"' => return rest.next().is_none().then_some(plain),
            '\\' => plain.push(rest.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            other => plain.push(other),
        }
    }
}

/// What a path names. What is no name names nothing: the answer is that of an unknown one.
pub(crate) struct Named<T>(pub(crate) T);

/// What can be named in a path.
pub(crate) trait Nameable: Sized + Send {
    /// The answer to a name of nothing that the caller may see.
    const UNKNOWN: &str;

    /// Reads a name.
    fn named(text: &str) -> Option<Self>;

    /// That there is nothing of the name.
    fn unknown() -> Problem {
        Problem::new(Code::NotFound, Self::UNKNOWN)
    }
}

impl Nameable for ApprovalId {
    const UNKNOWN: &str = countersign_app::approval::UNKNOWN;

    fn named(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

impl Nameable for CallId {
    const UNKNOWN: &str = "no such call is visible to you";

    fn named(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

impl<T: Nameable, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let named = Path::<String>::from_request_parts(parts, state).await.ok();
        named.and_then(|Path(text)| T::named(&text)).map(Self).ok_or_else(T::unknown)
    }
}

/// An authenticated agent.
pub(crate) struct AsAgent(pub(crate) Identity);

/// An authenticated person.
pub(crate) struct AsPerson(pub(crate) Person);

/// An authenticated person who keeps agents running.
pub(crate) struct AsOperator(pub(crate) Person);

/// An authenticated person who may see which keys there are.
pub(crate) struct AsAuditor(pub(crate) Person);

/// An authenticated person who keeps what opens this server.
pub(crate) struct AsAdmin(pub(crate) Person);

/// Anybody authenticated.
pub(crate) struct AsAnybody(pub(crate) Principal);

impl FromRequestParts<Api> for AsAgent {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        let who = state.app.identify(&parts.headers).await.map_err(|refusal| challenge(state, refusal))?;
        Seat::take_in(&parts.extensions, &who.agent)?;
        Ok(Self(who))
    }
}

impl FromRequestParts<Api> for AsPerson {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        person(state, &parts.headers).await.map(Self)
    }
}

impl FromRequestParts<Api> for AsOperator {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        person_who(state, &parts.headers, Right::Operate).await.map(Self)
    }
}

impl FromRequestParts<Api> for AsAuditor {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        person_who(state, &parts.headers, Right::SeeKeys).await.map(Self)
    }
}

impl FromRequestParts<Api> for AsAdmin {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        person_who(state, &parts.headers, Right::Administer).await.map(Self)
    }
}

impl FromRequestParts<Api> for AsAnybody {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        let principal = state.app.auth().authenticate(&parts.headers).await;
        let principal = principal.map_err(|refusal| {
            state.app.metrics().unauthenticated();
            challenge(state, refusal)
        })?;
        if let Principal::Agent(who) = &principal {
            Seat::take_in(&parts.extensions, &who.agent)?;
        }
        Ok(Self(principal))
    }
}

async fn person(state: &Api, headers: &HeaderMap) -> Result<Person, Problem> {
    state.app.auth().person(headers).await.map_err(|refusal| {
        state.app.metrics().unauthenticated();
        challenge(state, refusal)
    })
}

async fn person_who(state: &Api, headers: &HeaderMap, right: Right) -> Result<Person, Problem> {
    let person = person(state, headers).await?;
    person.may(right)?;
    Ok(person)
}

/// A 401 says how to authenticate (RFC 6750, RFC 9728).
fn challenge(state: &Api, refusal: Refusal) -> Problem {
    let mut problem = Problem::from(refusal);
    if problem.refusal.code == Code::Unauthenticated {
        problem.challenge = Some(state.challenge.clone());
    }
    problem
}

/// The challenge of a server, with the place of its metadata when it takes access tokens.
pub(super) fn challenge_value(resource_metadata: Option<&str>) -> HeaderValue {
    let plain = HeaderValue::from_static("Bearer");
    resource_metadata.map_or_else(
        || plain.clone(),
        |url| {
            HeaderValue::try_from(format!("Bearer resource_metadata=\"{url}\""))
                .unwrap_or_else(|_| plain.clone())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_quoted_or_bare() {
        for (header, key) in [
            ("\"8e03978e-40d5\"", "8e03978e-40d5"),
            ("8e03978e-40d5", "8e03978e-40d5"),
            (" \"a\"\t", "a"),
            (r#""say \"a\\b\"""#, r#"say "a\b""#),
            (r#"a"b"#, r#"a"b"#),
            ("", ""),
        ] {
            assert_eq!(unquoted(header).as_deref(), Some(key), "{header}");
        }
        for bad in [r#"""#, r#""a"#, r#""a"b"#, r#""a"; p=1"#, r#""a\n""#, r#""a\"#, r#""a", "b""#] {
            assert_eq!(unquoted(bad), None, "{bad}");
        }
    }
}
