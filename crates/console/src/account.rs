//! A person's own account: passkeys, and another password.

use askama::Template;
use axum::{
    Json,
    extract::{FromRequest as _, Request, State},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use countersign_app::auth::{Ceremony, PasswordShown};
use countersign_rules::{Code, Refusal};
use http::StatusCode;
use serde::Deserialize;

use crate::{
    Console,
    failure::Failure,
    frame::{Frame, at},
    passkey::Told,
    query::UrlQuery,
    signed::{Sent, Signed, address},
};

struct Line {
    id: String,
    label: String,
    made: String,
    used: Option<String>,
    synced: bool,
    signs_in: bool,
}

#[derive(Template)]
#[template(path = "account.html")]
struct Page<'a> {
    frame: Frame,
    passkeys: Vec<Line>,
    /// A passkey of the person's may stand in for the password.
    confirms: bool,
    /// Why there are no passkeys here.
    none: Option<String>,
    why: Option<&'a str>,
    done: Option<&'static str>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct DoneQuery {
    done: Option<String>,
}

/// Shows who is signed in their account.
pub(crate) async fn show(
    State(console): State<Console>,
    signed: Signed,
    UrlQuery(DoneQuery { done }): UrlQuery<DoneQuery>,
) -> Result<Html<String>, Failure> {
    let done = match done.as_deref() {
        Some("added") => Some("The passkey is added."),
        Some("removed") => Some("The passkey is removed: it opens and confirms nothing any more."),
        Some("password") => {
            Some("The password is changed. You are signed in here, and nowhere else any more.")
        }
        Some(_) | None => None,
    };
    page(&console, &signed, None, done).await.map(Html)
}

async fn page(
    console: &Console,
    signed: &Signed,
    why: Option<&str>,
    done: Option<&'static str>,
) -> Result<String, Failure> {
    let (frame, _waiting) = console.frame(signed, "account").await?;
    let accounts = console.app.accounts();
    let passkeys = accounts.passkeys(&signed.person().id).await?;
    let none = accounts.passkey_site().err().map(|refusal| match refusal.help {
        Some(help) => format!("{}; {help}", refusal.message),
        None => refusal.message,
    });
    let lines = passkeys.into_iter().map(|passkey| Line {
        id: passkey.id.to_string(),
        label: passkey.label,
        made: at(passkey.made_ms),
        used: passkey.used_ms.map(at),
        synced: passkey.synced,
        signs_in: passkey.signs_in,
    });
    let passkeys: Vec<Line> = lines.collect();
    let confirms = none.is_none() && passkeys.iter().any(|line| line.signs_in);
    Ok(Page { frame, passkeys, confirms, none, why, done }.render()?)
}

/// Says on the page itself what was not done, and why.
async fn not_done(console: &Console, signed: &Signed, refusal: Refusal) -> Result<Response, Failure> {
    if !matches!(refusal.code, Code::Unauthenticated | Code::Malformed) {
        return Err(refusal.into());
    }
    let why = match &refusal.help {
        Some(help) => format!("Nothing was changed: {}; {help}", refusal.message),
        None => format!("Nothing was changed: {}", refusal.message),
    };
    let page = page(console, signed, Some(&why), None).await?;
    Ok((StatusCode::BAD_REQUEST, Html(page)).into_response())
}

fn done(what: &str) -> Response {
    Redirect::to(&format!("/console/account?done={what}")).into_response()
}

#[derive(Deserialize)]
struct Adding {
    password: Option<String>,
}

/// Asks the browser to make a passkey.
pub(crate) async fn add_options(
    State(console): State<Console>,
    request: Request,
) -> Result<Json<Ceremony>, Response> {
    let (from, request) = address(request, &console).await;
    let Sent { by, form: Adding { password } } =
        Sent::from_request(request, &console).await.map_err(|failure: Failure| failure.into_response())?;
    let password = password.unwrap_or_default();
    let asked = console.app.accounts().begin_adding_passkey(&by.session, &password, from).await;
    asked.map(Json).map_err(|refusal| Told::from(refusal).into_response())
}

#[derive(Deserialize)]
pub(crate) struct Added {
    sealed: String,
    said: String,
    label: Option<String>,
}

/// Keeps the passkey that the browser made.
pub(crate) async fn add(
    State(console): State<Console>,
    Sent { by, form: Added { sealed, said, label } }: Sent<Added>,
) -> Result<Response, Failure> {
    let label = label.unwrap_or_default();
    match console.app.accounts().add_passkey(&by.session, &sealed, &said, &label).await {
        Ok(_id) => Ok(done("added")),
        Err(refusal) => not_done(&console, &by, refusal).await,
    }
}

#[derive(Deserialize)]
pub(crate) struct Removed {
    passkey: String,
}

/// Removes a passkey.
pub(crate) async fn remove(
    State(console): State<Console>,
    Sent { by, form: Removed { passkey } }: Sent<Removed>,
) -> Result<Response, Failure> {
    console.app.accounts().remove_passkey(&by.session, &passkey).await?;
    Ok(done("removed"))
}

#[derive(Deserialize)]
pub(crate) struct Nothing {}

/// Asks a passkey to stand in for the password of before.
pub(crate) async fn password_options(
    State(console): State<Console>,
    Sent { by, form: Nothing {} }: Sent<Nothing>,
) -> Result<Json<Ceremony>, Told> {
    Ok(Json(console.app.accounts().begin_password_change(&by.session).await?))
}

#[derive(Deserialize)]
struct Chosen {
    current: Option<String>,
    password: String,
    again: String,
    sealed: Option<String>,
    said: Option<String>,
}

/// Sets another password.
pub(crate) async fn password(State(console): State<Console>, request: Request) -> Result<Response, Failure> {
    let (from, request) = address(request, &console).await;
    let Sent { by, form: chosen } = Sent::<Chosen>::from_request(request, &console).await?;
    if chosen.password != chosen.again {
        let why = Refusal::new(Code::Malformed, "the two new passwords are not the same");
        return not_done(&console, &by, why).await;
    }
    let text = |value: Option<String>| value.unwrap_or_default();
    let (current, sealed, said) = (text(chosen.current), text(chosen.sealed), text(chosen.said));
    let shown = if said.is_empty() {
        PasswordShown::Typed(&current)
    } else {
        PasswordShown::Passkey { sealed: &sealed, said: &said }
    };
    match console.app.accounts().change_password(&by.session, shown, &chosen.password, from).await {
        Ok(()) => Ok(done("password")),
        Err(refusal) => not_done(&console, &by, refusal).await,
    }
}
