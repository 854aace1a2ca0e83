//! A page that says what went wrong, and what to do about it.

use askama::Template;
use axum::response::{Html, IntoResponse, Redirect, Response};
use countersign_app::{answer::http_status, text::visible};
use countersign_gate::ledger::LedgerFault;
use countersign_rules::Refusal;
use http::{HeaderValue, StatusCode, header};

use crate::{asset, filters};

/// A page that is no answer to what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody is signed in; the page that was asked for is this.
    SignedOut { next: String },
    /// Anything else.
    Said(Box<Said>),
}

#[derive(Debug)]
pub(crate) struct Said {
    status: StatusCode,
    title: String,
    message: String,
    help: Option<String>,
    retry_after_ms: Option<u64>,
}

#[derive(Template)]
#[template(path = "failure.html")]
struct Page<'a> {
    assets: asset::Version,
    said: &'a Said,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, title: &str, message: impl Into<String>) -> Self {
        let said = Said {
            status,
            title: title.to_owned(),
            message: message.into(),
            help: None,
            retry_after_ms: None,
        };
        Self::Said(Box::new(said))
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        if let Self::Said(said) = &mut self {
            said.help = Some(help.into());
        }
        self
    }

    pub(crate) fn nothing_here() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Nothing here", "there is no page at this address")
            .help("begin at the inbox")
    }

    pub(crate) fn foreign() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Not from here", "the form was sent by a page of another site")
            .help("open the console itself, and answer there")
    }

    pub(crate) fn stale_form() -> Self {
        let message = "the form belongs to a session that has ended, and nothing was done";
        Self::new(StatusCode::FORBIDDEN, "The page is too old", message)
            .help("go back, reload the page, and look again")
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = http_status(refusal.code);
        let title = match status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::TOO_MANY_REQUESTS => "Too many tries",
            StatusCode::FORBIDDEN => "It does not count",
            StatusCode::UNAUTHORIZED => "Not signed in",
            StatusCode::SERVICE_UNAVAILABLE => "The ledger cannot be used",
            _ => "Nothing was done",
        };
        Self::Said(Box::new(Said {
            status,
            title: title.to_owned(),
            message: refusal.message,
            help: refusal.help,
            retry_after_ms: refusal.retry_after_ms,
        }))
    }
}

impl From<LedgerFault> for Failure {
    fn from(fault: LedgerFault) -> Self {
        let message = format!("the ledger cannot be read now: {fault}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "The ledger cannot be read", message)
            .help("this says nothing about what was done; try again when the ledger is back")
    }
}

impl From<askama::Error> for Failure {
    fn from(why: askama::Error) -> Self {
        tracing::error!(%why, "a page could not be made");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The page failed",
            "the page could not be made inside the server",
        )
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let said = match self {
            Self::SignedOut { next } => return Redirect::to(&next).into_response(),
            Self::Said(said) => said,
        };
        let page = Page { assets: asset::Version, said: &said }.render();
        let mut response =
            (said.status, Html(page.unwrap_or_else(|_why| visible(&said.message)))).into_response();
        if let Some(wait_ms) = said.retry_after_ms {
            let seconds = wait_ms.div_ceil(1_000).max(1);
            if let Ok(value) = HeaderValue::try_from(seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        response
    }
}
