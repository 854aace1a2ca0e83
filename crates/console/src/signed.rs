//! Who is signed in, by the session's cookie, and whether a form comes from a page of theirs.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, OptionalFromRequestParts, Request};
use axum::{Form, http::request::Parts};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_app::auth::{Person, Principal, SignedIn, WebSession};
use countersign_audit::sha256;
use countersign_rules::Code;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use subtle::ConstantTimeEq as _;

use crate::{Console, failure::Failure};

/// The name makes browsers insist that the cookie is this host's alone, for all of its paths, and sent over TLS only,
/// or to the machine itself.
const COOKIE: &str = "__Host-countersign";

/// A sign-in by a provider that is under way is kept in this cookie.
const IN_FLIGHT: &str = "__Host-countersign-sign-in";

/// This is who is signed in, with the session.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) session: WebSession,
    pub(crate) token: String,
}

impl Signed {
    pub(crate) const fn person(&self) -> &Person {
        &self.session.person
    }

    pub(crate) fn principal(&self) -> Principal {
        Principal::Person(self.session.person.clone())
    }

    /// What each form of this session's pages carries. It follows from the session's token and does not give it away;
    /// another site can read neither.
    pub(crate) fn form_token(&self) -> String {
        let digest = sha256(&[b"countersign console form\0".as_slice(), self.token.as_bytes()].concat());
        URL_SAFE_NO_PAD.encode(digest.as_bytes())
    }

    fn has_sent(&self, form_token: &str) -> bool {
        self.form_token().as_bytes().ct_eq(form_token.as_bytes()).into()
    }
}

impl FromRequestParts<Console> for Signed {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Failure> {
        let out = || Failure::SignedOut { next: crate::sign_in::leading_back(parts.uri.path_and_query()) };
        let token = value_of(COOKIE, &parts.headers).ok_or_else(out)?;
        let accounts = console.app.accounts();
        // What a page that is open asks by itself is no use of a session, and keeps none from ending.
        let by_itself = parts.headers.get("sec-fetch-dest").is_some_and(|dest| dest == "empty");
        let session =
            if by_itself { accounts.look_at_session(&token).await } else { accounts.session(&token).await };
        match session {
            Ok(session) => Ok(Self { session, token }),
            Err(refusal) if refusal.code == Code::Unauthenticated => Err(out()),
            Err(refusal) => Err(refusal.into()),
        }
    }
}

impl OptionalFromRequestParts<Console> for Signed {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Option<Self>, Failure> {
        match <Self as FromRequestParts<Console>>::from_request_parts(parts, console).await {
            Ok(signed) => Ok(Some(signed)),
            Err(Failure::SignedOut { .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// A form that a page of this very session has sent, and who sent it.
#[derive(Debug)]
pub(crate) struct Sent<T> {
    pub(crate) by: Signed,
    pub(crate) form: T,
}

#[derive(Deserialize)]
struct WithToken<T> {
    form_token: String,
    #[serde(flatten)]
    form: T,
}

impl<T: DeserializeOwned + Send> FromRequest<Console> for Sent<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, console: &Console) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let by = match <Signed as FromRequestParts<Console>>::from_request_parts(&mut parts, console).await {
            Ok(by) => by,
            // Where a form was sent to is no page to come back to.
            Err(Failure::SignedOut { .. }) => {
                return Err(Failure::new(
                    StatusCode::UNAUTHORIZED,
                    "Not signed in",
                    "your session has ended, and nothing was done",
                )
                .help("sign in, and look again: what was asked may have changed"));
            }
            Err(failure) => return Err(failure),
        };
        let Form(WithToken { form_token, form }) = form(Request::from_parts(parts, body), console).await?;
        if by.has_sent(&form_token) { Ok(Self { by, form }) } else { Err(Failure::stale_form()) }
    }
}

/// Returns the address that a request comes from.
pub(crate) async fn address(request: Request, console: &Console) -> (IpAddr, Request) {
    let (mut parts, body) = request.into_parts();
    let from = ConnectInfo::<SocketAddr>::from_request_parts(&mut parts, console).await;
    let from = from.map_or_else(|_unknown| IpAddr::from([0, 0, 0, 0]), |ConnectInfo(address)| address.ip());
    (from, Request::from_parts(parts, body))
}

/// Reads a form.
pub(crate) async fn form<T: DeserializeOwned>(
    request: Request,
    console: &Console,
) -> Result<Form<T>, Failure> {
    Form::<T>::from_request(request, console).await.map_err(|why| {
        let large = why.status() == StatusCode::PAYLOAD_TOO_LARGE;
        let message = if large { "the form is too large" } else { "the form is not as it should be" };
        Failure::new(why.status(), "Nothing was done", message)
            .help("go back, reload the page, and try again")
    })
}

/// Returns what a cookie of this name has, where there is exactly one. What others on this host keep in cookies is not looked
/// at.
fn value_of(wanted: &str, headers: &HeaderMap) -> Option<String> {
    let mut found = None;
    for value in headers.get_all(header::COOKIE) {
        for cookie in
            value.as_bytes().split(|byte| *byte == b';').filter_map(|cookie| str::from_utf8(cookie).ok())
        {
            let Some((name, value)) = cookie.trim().split_once('=') else { continue };
            // Two of one name are a trick: whose is meant?
            if name == wanted && found.replace(value.to_owned()).is_some() {
                return None;
            }
        }
    }
    found
}

/// Returns the cookie that keeps a session, until the browser closes or the session ends.
pub(crate) fn kept(signed: &SignedIn) -> HeaderValue {
    cookie(COOKIE, &signed.token, "")
}

/// Returns the cookie that keeps a sign-in by a provider while it is under way.
pub(crate) fn in_flight(kept: &str) -> HeaderValue {
    cookie(IN_FLIGHT, kept, "; Max-Age=600")
}

/// Returns what the browser kept of a sign-in by a provider.
pub(crate) fn kept_in_flight(headers: &HeaderMap) -> Option<String> {
    value_of(IN_FLIGHT, headers)
}

/// Returns the cookie that takes away what was kept of a sign-in by a provider.
pub(crate) fn landed() -> HeaderValue {
    cookie(IN_FLIGHT, "", "; Max-Age=0")
}

/// Returns the cookie that takes a session away.
pub(crate) fn forgotten() -> HeaderValue {
    cookie(COOKIE, "", "; Max-Age=0")
}

/// `Lax`, so that a link in a message finds its reader signed in; forms of other sites carry no such cookie.
fn cookie(name: &str, value: &str, more: &str) -> HeaderValue {
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{more}");
    let mut value = HeaderValue::try_from(text).unwrap_or_else(|_odd| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_where_there_is_one_and_no_second() {
        let with = |cookies: &[&str]| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
            }
            value_of(COOKIE, &headers)
        };
        assert_eq!(with(&["a=b; __Host-countersign=t1; c=d"]).as_deref(), Some("t1"));
        for none in [
            &["a=b"][..],
            &[],
            &["__Host-countersign=a; __Host-countersign=b"],
            &["__Host-countersign=a", "__Host-countersign=a"],
            &["countersign=a"],
        ] {
            assert_eq!(with(none), None, "{none:?}");
        }
    }
}
