//! Signing in by an identity provider: going there, coming back, and being signed out by it.

use axum::{
    Form,
    extract::{Path, Request, State},
    response::{IntoResponse as _, Redirect, Response},
};
use countersign_app::auth::CameBack;
use countersign_rules::{Code, Refusal};
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Console,
    failure::Failure,
    query::UrlQuery,
    sign_in::{Next, inside},
    signed::{self, address, form},
};

/// Sends a person to the provider. A link leads here and no form: a page's policy lets forms go nowhere else, and what a
/// browser keeps meanwhile opens nothing.
pub(crate) async fn leave(
    State(console): State<Console>,
    Path(provider): Path<String>,
    UrlQuery(Next { next }): UrlQuery<Next>,
) -> Result<Response, Failure> {
    let next = inside(next.as_deref().unwrap_or_default());
    let leaving = console.app.accounts().leave_for(&provider, next).await.map_err(of_provider)?;
    let kept = [(header::SET_COOKIE, signed::in_flight(&leaving.kept))];
    Ok((kept, Redirect::to(&leaving.location)).into_response())
}

/// Signs in whom the provider has sent back.
pub(crate) async fn came_back(
    State(console): State<Console>,
    Path(provider): Path<String>,
    UrlQuery(back): UrlQuery<CameBack>,
    request: Request,
) -> Result<Response, Failure> {
    let (from, request) = address(request, &console).await;
    let kept = signed::kept_in_flight(request.headers());
    let came = console.app.accounts().came_back(&provider, kept.as_deref(), &back, from).await;
    let (signed, next) = came.map_err(|refusal| {
        if refusal.code == Code::Unauthenticated {
            console.app.metrics().unauthenticated();
        }
        of_provider(refusal)
    })?;
    let mut response = Redirect::to(inside(&next)).into_response();
    for cookie in [signed::kept(&signed), signed::landed()] {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

#[derive(Deserialize)]
struct Ordered {
    logout_token: String,
}

/// Follows a provider's order to end sessions (OpenID Connect Back-Channel Logout 1.0). It comes from the provider's
/// server: there is no cookie, and what it signed is all that counts.
pub(crate) async fn ordered_out(
    State(console): State<Console>,
    Path(provider): Path<String>,
    request: Request,
) -> Response {
    let told = |status: StatusCode, error: &str, why: &str| {
        (status, axum::Json(json!({ "error": error, "error_description": why }))).into_response()
    };
    let Ok(Form(Ordered { logout_token })) = form(request, &console).await else {
        return told(StatusCode::BAD_REQUEST, "invalid_request", "the form has no `logout_token`");
    };
    match console.app.accounts().ordered_out(&provider, &logout_token).await {
        Ok(_ended) => StatusCode::OK.into_response(),
        Err(refusal) if refusal.code == Code::NotFound => {
            told(StatusCode::NOT_FOUND, "invalid_request", &refusal.message)
        }
        Err(refusal) if refusal.code == Code::Unauthenticated => {
            console.app.metrics().unauthenticated();
            told(StatusCode::BAD_REQUEST, "invalid_request", &refusal.message)
        }
        // The order may be right, and is to be given again.
        Err(refusal) => told(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", &refusal.message),
    }
}

/// What is wrong at a provider is not wrong with the ledger.
fn of_provider(refusal: Refusal) -> Failure {
    if refusal.code != Code::NotLookedUp {
        return refusal.into();
    }
    let failure = Failure::new(StatusCode::BAD_GATEWAY, "The provider cannot be asked", refusal.message);
    failure.help(refusal.help.unwrap_or_default())
}
