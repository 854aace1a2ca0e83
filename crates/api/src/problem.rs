//! Errors as problem details (RFC 9457) with the stable code of the refusal.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use countersign_app::answer::{http_status, not_looked_up};
use countersign_gate::ledger::LedgerFault;
use countersign_rules::{Code, Refusal};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A refusal or fault, as problem details (RFC 9457).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProblemBody {
    /// Names the kind of problem: `urn:countersign:error:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status word, such as `blocked` or `rate_limited`.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was refused and why.
    pub detail: String,
    /// The stable code, such as `R004`.
    pub code: String,
    /// What would make it pass, or what to do next.
    pub help: Option<String>,
    /// The policies that decided, where policies did.
    pub policies: Vec<String>,
    /// When trying again makes sense, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
}

/// A refusal on its way out.
#[derive(Debug, Clone)]
pub struct Problem {
    pub(crate) refusal: Box<Refusal>,
    /// The value of `WWW-Authenticate`, with a 401.
    pub(crate) challenge: Option<HeaderValue>,
    /// Overrides the status of the code, where HTTP has a better one.
    pub(crate) status: Option<StatusCode>,
}

impl Problem {
    /// A refusal of this kind, with what was refused and why.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Refusal::new(code, message).into()
    }

    /// With what would make it pass.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.refusal.help = Some(help.into());
        self
    }

    /// With a status that HTTP has for it, instead of its code's.
    #[must_use]
    pub const fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self { refusal: Box::new(refusal), challenge: None, status: None }
    }
}

impl From<LedgerFault> for Problem {
    fn from(fault: LedgerFault) -> Self {
        not_looked_up(&fault).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { refusal, challenge, status } = self;
        let status = status.unwrap_or_else(|| http_status(refusal.code));
        let retry = refusal.retry_after_ms;
        let body = ProblemBody {
            kind: format!("urn:countersign:error:{}", refusal.code.as_str()),
            title: refusal.code.status().to_owned(),
            status: status.as_u16(),
            detail: refusal.message.clone(),
            code: refusal.code.as_str().to_owned(),
            help: refusal.help.clone(),
            policies: refusal.policies.iter().map(ToString::to_string).collect(),
            retry_after_ms: retry,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        retry_after(headers, retry);
        response
    }
}

/// `Retry-After`, in whole seconds.
pub(crate) fn retry_after(headers: &mut http::HeaderMap, retry_after_ms: Option<u64>) {
    if let Some(ms) = retry_after_ms {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
    }
}
