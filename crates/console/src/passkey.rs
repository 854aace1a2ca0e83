//! Passkeys: what a browser is asked for, which its script fetches, and signing in with what it says.

use axum::{
    Form, Json,
    extract::{Path, Request, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use countersign_app::{answer::http_status, auth::Ceremony};
use countersign_rules::{Code, Refusal};
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Console,
    failure::Failure,
    request::{Approval, find, may_answer},
    sign_in::{inside, of_link, recovery, sign_in_again},
    signed::{self, Sent, address, form},
};

/// What goes wrong with a ceremony is said by the script of the page that began it.
#[derive(Debug)]
pub(crate) struct Told(Refusal);

impl From<Refusal> for Told {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        let Self(refusal) = self;
        let body = json!({ "message": refusal.message, "help": refusal.help });
        (http_status(refusal.code), Json(body)).into_response()
    }
}

/// Asks any passkey to sign its person in.
pub(crate) async fn sign_in_options(State(console): State<Console>) -> Result<Json<Ceremony>, Told> {
    Ok(Json(console.app.accounts().begin_passkey_sign_in()?))
}

#[derive(Deserialize)]
struct SignInSaid {
    sealed: String,
    said: String,
    next: Option<String>,
}

/// Signs in whom a passkey is of.
pub(crate) async fn sign_in(State(console): State<Console>, request: Request) -> Result<Response, Failure> {
    let (from, request) = address(request, &console).await;
    let Form(SignInSaid { sealed, said, next }) = form(request, &console).await?;
    let next = inside(next.as_deref().unwrap_or_default());
    match console.app.accounts().sign_in_by_passkey(&sealed, &said, from).await {
        Ok(signed) => Ok(([(header::SET_COOKIE, signed::kept(&signed))], Redirect::to(next)).into_response()),
        Err(refusal) if refusal.code == Code::Unauthenticated => {
            console.app.metrics().unauthenticated();
            sign_in_again(&console, next, "", &refusal.message)
        }
        Err(refusal) => Err(refusal.into()),
    }
}

#[derive(Deserialize)]
struct LinkToken {
    token: String,
}

/// Asks the browser of who follows a link to make a passkey.
pub(crate) async fn link_options(
    State(console): State<Console>,
    request: Request,
) -> Result<Json<Ceremony>, Response> {
    let Form(LinkToken { token }) = form(request, &console).await.map_err(IntoResponse::into_response)?;
    let asked = console.app.accounts().begin_link_passkey(&token).await;
    asked.map(Json).map_err(|refusal| Told(refusal).into_response())
}

#[derive(Deserialize)]
struct LinkSaid {
    token: String,
    sealed: String,
    said: String,
    label: Option<String>,
}

/// Spends a link: keeps the passkey that the browser made, signs in, and shows the recovery codes this once.
pub(crate) async fn link(State(console): State<Console>, request: Request) -> Result<Response, Failure> {
    let Form(LinkSaid { token, sealed, said, label }) = form(request, &console).await?;
    let (accounts, label) = (console.app.accounts(), label.unwrap_or_default());
    match accounts.set_up_with_passkey(&token, &sealed, &said, &label).await {
        Ok((signed, codes)) => {
            let page = recovery(signed.session.person.id.as_str(), &codes)?;
            Ok(([(header::SET_COOKIE, signed::kept(&signed))], Html(page)).into_response())
        }
        Err(refusal) if refusal.code == Code::Malformed => {
            let failure = Failure::new(StatusCode::BAD_REQUEST, "Nothing was done", refusal.message);
            Err(failure.help("the link is still good: open it again"))
        }
        Err(refusal) => Err(of_link(refusal)),
    }
}

/// Asks a passkey to sign the approval that a form is about to give.
pub(crate) async fn confirm_options(
    State(console): State<Console>,
    Path(id): Path<String>,
    Sent { by, form }: Sent<Approval>,
) -> Result<Json<Ceremony>, Response> {
    let record = find(&console, &id, &by).await.map_err(IntoResponse::into_response)?;
    let (answer, _said) = form.answer().map_err(IntoResponse::into_response)?;
    let told = |refusal| Told(refusal).into_response();
    let accounts = console.app.accounts();
    may_answer(&console, &by, &record).await.map_err(told)?;
    accounts.begin_step_up(&by.session, &record, &answer).await.map(Json).map_err(told)
}
