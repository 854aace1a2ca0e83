//! Signing in and out, and the one-time link by which somebody gets to choose how they sign in.

use askama::Template;
use axum::{
    Form,
    extract::{Request, State},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use countersign_rules::{Code, Refusal};
use http::{StatusCode, header, uri::PathAndQuery};
use serde::Deserialize;

use crate::{
    Console, asset,
    failure::Failure,
    query::UrlQuery,
    signed::{self, Sent, Signed, address, form},
};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct Page<'a> {
    assets: asset::Version,
    next: &'a str,
    person: &'a str,
    why: Option<&'a str>,
    /// There are passkeys here.
    passkeys: bool,
    /// Each provider by which one may sign in as well, with its address.
    providers: Vec<(String, &'a str)>,
}

/// Returns the providers by which one may sign in, with the addresses that lead there and back to a page.
pub(crate) fn providers<'a>(console: &'a Console, next: &str) -> Vec<(String, &'a str)> {
    let titles = console.app.accounts().providers().titles();
    titles.map(|(name, title)| (format!("/console/sign-in/{name}?next={}", percent(next)), title)).collect()
}

#[derive(Template)]
#[template(path = "link.html")]
struct Link {
    assets: asset::Version,
}

#[derive(Template)]
#[template(path = "set_up.html")]
struct SetUp<'a> {
    assets: asset::Version,
    person: &'a str,
    token: &'a str,
    why: Option<&'a str>,
    /// There are passkeys here.
    passkeys: bool,
}

#[derive(Template)]
#[template(path = "recovery.html")]
struct Recovery<'a> {
    assets: asset::Version,
    person: &'a str,
    codes: &'a [String],
}

/// Returns where to sign in, so that one comes back to this page. Only pages of the console are come back to.
pub(crate) fn leading_back(page: Option<&PathAndQuery>) -> String {
    let page = page.map_or("/console/", PathAndQuery::as_str);
    format!("/console/sign-in?next={}", percent(page))
}

/// Escapes a text for a value of a query.
fn percent(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                escaped.push(char::from(byte))
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

/// Returns a page of the console that may be gone on to; the inbox for everything else. What begins with two
/// slashes, or has a backslash or a control, is another host to some browsers.
pub(crate) fn inside(next: &str) -> &str {
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    // Dots and escapes in the path lead elsewhere; in the query they are what was asked for.
    let path = next.split('?').next().unwrap_or_default();
    let inside =
        path.starts_with("/console/") && !next.contains("//") && !path.contains("..") && !path.contains('%');
    if inside && plain { next } else { "/console/" }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Next {
    pub(crate) next: Option<String>,
}

/// Shows the form; who is signed in already goes on.
pub(crate) async fn show(
    State(console): State<Console>,
    signed: Option<Signed>,
    UrlQuery(Next { next }): UrlQuery<Next>,
) -> Result<Response, Failure> {
    let next = inside(next.as_deref().unwrap_or_default());
    if signed.is_some() {
        return Ok(Redirect::to(next).into_response());
    }
    Ok(Html(page(&console, next, "", None)?).into_response())
}

fn page(console: &Console, next: &str, person: &str, why: Option<&str>) -> Result<String, Failure> {
    let (providers, passkeys) = (providers(console, next), console.app.accounts().passkey_site().is_ok());
    Ok(Page { assets: asset::Version, next, person, why, passkeys, providers }.render()?)
}

/// Shows the form again, with why nobody is signed in.
pub(crate) fn sign_in_again(
    console: &Console,
    next: &str,
    person: &str,
    why: &str,
) -> Result<Response, Failure> {
    Ok((StatusCode::UNAUTHORIZED, Html(page(console, next, person, Some(why))?)).into_response())
}

#[derive(Deserialize)]
struct Credentials {
    person: String,
    password: String,
    next: Option<String>,
}

/// Signs in.
pub(crate) async fn sign_in(State(console): State<Console>, request: Request) -> Result<Response, Failure> {
    let (from, request) = address(request, &console).await;
    let Form(Credentials { person, password, next }) = form(request, &console).await?;
    let next = inside(next.as_deref().unwrap_or_default());
    match console.app.accounts().sign_in(&person, &password, from).await {
        Ok(signed) => Ok(([(header::SET_COOKIE, signed::kept(&signed))], Redirect::to(next)).into_response()),
        Err(refusal) if refusal.code == Code::Unauthenticated => {
            console.app.metrics().unauthenticated();
            sign_in_again(&console, next, &person, &refusal.message)
        }
        Err(refusal) => Err(refusal.into()),
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Nothing {}

/// Signs out: the session ends, whoever has its cookie.
pub(crate) async fn sign_out(
    State(console): State<Console>,
    Sent { by, form: Nothing {} }: Sent<Nothing>,
) -> Result<Response, Failure> {
    console.app.accounts().sign_out(&by.token).await?;
    Ok(([(header::SET_COOKIE, signed::forgotten())], Redirect::to("/console/sign-in")).into_response())
}

/// The page that a link opens. The link's token stands behind `#`, which no browser sends and no log keeps; the page's
/// script sends it in a form. Opening it spends nothing.
pub(crate) async fn link() -> Result<Html<String>, Failure> {
    Ok(Html(Link { assets: asset::Version }.render()?))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Token {
    token: String,
}

/// Looks whom a link is for, and asks for a password.
pub(crate) async fn look(State(console): State<Console>, request: Request) -> Result<Html<String>, Failure> {
    let Form(Token { token }) = form(request, &console).await?;
    let accounts = console.app.accounts();
    let person = accounts.look_at_link(token.trim()).await.map_err(of_link)?;
    let passkeys = accounts.passkey_site().is_ok();
    Ok(Html(
        SetUp { assets: asset::Version, person: person.as_str(), token: token.trim(), why: None, passkeys }
            .render()?,
    ))
}

#[derive(Deserialize)]
pub(crate) struct Chosen {
    token: String,
    password: String,
    again: String,
}

/// Spends a link: sets the password, signs in, and shows the recovery codes this once.
pub(crate) async fn set_up(State(console): State<Console>, request: Request) -> Result<Response, Failure> {
    let Form(chosen): Form<Chosen> = form(request, &console).await?;
    let accounts = console.app.accounts();
    let person = accounts.look_at_link(&chosen.token).await.map_err(of_link)?;
    let again = |why: &str| -> Result<Response, Failure> {
        let (person, token) = (person.as_str(), chosen.token.as_str());
        let passkeys = accounts.passkey_site().is_ok();
        let page = SetUp { assets: asset::Version, person, token, why: Some(why), passkeys };
        Ok((StatusCode::BAD_REQUEST, Html(page.render()?)).into_response())
    };
    if chosen.password != chosen.again {
        return again("the two passwords are not the same; nothing was done");
    }
    match accounts.set_up(&chosen.token, &chosen.password).await {
        Ok((signed, codes)) => {
            let page = recovery(person.as_str(), &codes)?;
            Ok(([(header::SET_COOKIE, signed::kept(&signed))], Html(page)).into_response())
        }
        Err(refusal) if refusal.code == Code::Malformed => again(&refusal.message),
        Err(refusal) => Err(of_link(refusal)),
    }
}

/// Makes the page that shows recovery codes.
pub(crate) fn recovery(person: &str, codes: &[String]) -> Result<String, Failure> {
    Ok(Recovery { assets: asset::Version, person, codes }.render()?)
}

/// A link that is no good is nobody's credential, and signing in is no help.
pub(crate) fn of_link(refusal: Refusal) -> Failure {
    if refusal.code != Code::Unauthenticated {
        return refusal.into();
    }
    Failure::new(StatusCode::UNAUTHORIZED, "The link is not good", refusal.message)
        .help("ask whoever runs this server for another one: `countersign people link NAME`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_comes_back_to_pages_of_the_console_only() {
        for page in ["/console/", "/console/requests/apr-1", "/console/log?from=3&kind=decided"] {
            assert_eq!(inside(page), page);
        }
        for elsewhere in [
            "",
            "/",
            "//evil.example",
            "https://evil.example",
            "/console",
            "/console//evil.example",
            "/\\evil.example",
            "/console/\\evil.example",
            "/console/\u{9}/evil",
            "/v1/tools",
            "javascript:alert(1)",
            "/console/ü",
            "/console/../v1/tools",
            "/console/%2e%2e/v1",
        ] {
            assert_eq!(inside(elsewhere), "/console/", "{elsewhere:?}");
        }
    }

    #[test]
    fn the_way_back_survives_the_query() {
        let page = PathAndQuery::from_static("/console/log?from=3&kind=decided");
        assert_eq!(
            leading_back(Some(&page)),
            "/console/sign-in?next=/console/log%3Ffrom%3D3%26kind%3Ddecided"
        );
    }
}
