//! Sending a request, and what its answer tells of the effect.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_gate::Credential;
use reqwest::{
    Client, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{definition::Request, system::HttpSystem, template::Filled};
use crate::{definition::HttpAuth, secret::Scrubber};

/// The first pause before a request is sent again; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause that an API may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How much of a refusal's body is repeated, in characters.
const EXCERPT_CHARS: usize = 300;
/// The header by which an API recognises a repeated call (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How an exchange with the API ended, as far as the effect goes.
pub(super) enum Exchange {
    /// It said yes.
    Done(Content),
    /// It said no.
    Refused { message: String, retry: Option<Duration> },
    /// Nothing was sent.
    NotSent(String),
    /// It may or may not have happened.
    Unknown { message: String, retry: bool },
}

/// What an answer of the API holds.
pub(super) enum Content {
    Body(Value),
    /// It cannot be passed on.
    Unfit(String),
}

impl HttpSystem {
    /// Sends a request that changes nothing; again, a few times, if it fails.
    pub(super) async fn read(&self, credential: &Credential, request: &Request, filled: &Filled) -> Exchange {
        let client = &self.reading;
        let mut tries = 0;
        loop {
            let seen = self.send(client, credential, request, filled, None).await;
            let Some(pause) = self.again(&seen, tries, true) else { return seen };
            tries = tries.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request that changes something. Again only when nothing was sent, or where the API
    /// recognises the key: then it is `repeatable`.
    pub(super) async fn write(
        &self,
        credential: &Credential,
        request: &Request,
        filled: &Filled,
        key: &str,
        repeatable: bool,
    ) -> Exchange {
        let mut tries = 0;
        let mut doubt: Option<String> = None;
        loop {
            let seen = self.send(&self.writing, credential, request, filled, Some(key)).await;
            if let (None, Exchange::Unknown { message, .. }) = (&doubt, &seen) {
                doubt = Some(message.clone());
            }
            let Some(pause) = self.again(&seen, tries, repeatable) else {
                return match (seen, doubt) {
                    (seen @ Exchange::Done(_), _) | (seen, None) => seen,
                    // A refusal of the second attempt says nothing about the first.
                    (_, Some(message)) => Exchange::Unknown { message, retry: false },
                };
            };
            tries = tries.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    }

    /// Tells how long to wait before sending again, if that is safe and worth it.
    fn again(&self, seen: &Exchange, tries: u32, repeatable: bool) -> Option<Duration> {
        if tries >= self.target.limits.retries_max {
            return None;
        }
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(tries));
        match seen {
            Exchange::Done(_)
            | Exchange::Refused { retry: None, .. }
            | Exchange::Unknown { retry: false, .. } => None,
            Exchange::NotSent(_) => Some(pause),
            Exchange::Refused { retry: Some(asked), .. } => {
                repeatable.then_some(pause.max(*asked).min(PAUSE_MAX))
            }
            Exchange::Unknown { retry: true, .. } => repeatable.then_some(pause),
        }
    }

    async fn send(
        &self,
        client: &Client,
        credential: &Credential,
        request: &Request,
        filled: &Filled,
        key: Option<&str>,
    ) -> Exchange {
        let target = &self.target;
        let scrubber = self.scrubbers.of(credential);
        let mut headers = self.headers.clone();
        headers.extend(request.headers.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(auth) = &target.auth {
            match authorization(auth, credential) {
                Ok((name, value)) => headers.insert(name, value),
                Err(why) => return Exchange::NotSent(why),
            };
        }
        if let Some(key) = key.and_then(|key| HeaderValue::from_str(key).ok()) {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        let mut builder = client
            .request(request.template.method.clone(), filled.url.clone())
            .headers(headers)
            .timeout(Duration::from_millis(target.limits.timeout_ms));
        if let Some(body) = &filled.body {
            builder = builder.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        match builder.send().await {
            Ok(response) => self.receive(response, &scrubber).await,
            Err(error) => {
                let (message, sent) = chain(&error.without_url());
                let message = scrubber.clean(&message);
                if sent { Exchange::Unknown { message, retry: true } } else { Exchange::NotSent(message) }
            }
        }
    }

    async fn receive(&self, mut response: reqwest::Response, scrubber: &Scrubber) -> Exchange {
        let status = response.status();
        let bytes_max = self.target.limits.response_bytes_max;
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let asked =
            response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|s| s.parse().ok());
        let mut bytes = Vec::new();
        let mut unfit = None;
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    if bytes.len().saturating_add(chunk.len()) > bytes_max {
                        unfit = Some(format!("the answer has more than {bytes_max} bytes"));
                        break;
                    }
                    bytes.extend_from_slice(&chunk);
                }
                Err(error) => {
                    let (why, _) = chain(&error.without_url());
                    unfit = Some(scrubber.clean(&format!("the answer broke off: {why}")));
                    break;
                }
            }
        }
        drop(response);
        if status.is_success() {
            return Exchange::Done(match unfit {
                Some(why) => Content::Unfit(why),
                None => body(&bytes, &kind, scrubber),
            });
        }
        // Scrubbed before it is cut, so that no half of a secret stays at the end.
        let said = String::from_utf8_lossy(&bytes);
        let excerpt: String = scrubber.redact(&said).chars().take(EXCERPT_CHARS).collect();
        let said = if excerpt.trim().is_empty() { String::new() } else { format!(": {excerpt}") };
        let message = scrubber.clean(&format!("the API answered {status}{said}"));
        classify(status, message, asked.map(Duration::from_secs))
    }
}

/// Tells what a status that is no success says about the effect.
fn classify(status: StatusCode, message: String, asked: Option<Duration>) -> Exchange {
    match status.as_u16() {
        429 => Exchange::Refused { message, retry: Some(asked.unwrap_or(PAUSE)) },
        // Told to send it elsewhere: not done here.
        307 | 308 => {
            Exchange::Refused { message: format!("{message} (redirects are not followed)"), retry: None }
        }
        400..=499 | 501 | 505 => Exchange::Refused { message, retry: None },
        // 303 is how many APIs say that they have done it.
        300..=399 => {
            Exchange::Unknown { message: format!("{message} (redirects are not followed)"), retry: false }
        }
        _ => Exchange::Unknown { message, retry: true },
    }
}

/// The reply: the JSON object of the body, or whatever else it is as the member `body`.
fn body(bytes: &[u8], kind: &str, scrubber: &Scrubber) -> Content {
    if bytes.is_empty() {
        return Content::Body(json!({ "body": null }));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Content::Unfit("the answer is not valid UTF-8".into());
    };
    // An API that repeats what it was sent must not hand the credential to the agent. Looked for in what is read, and not
    // in what was written: a text of JSON may spell each letter in several ways.
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let answer = match essence.as_str() {
        "text/plain" => Content::Body(json!({ "body": text })),
        "application/json" | "" => parsed(text),
        other if other.starts_with("application/") && other.ends_with("+json") => parsed(text),
        other => Content::Unfit(format!(
            "the answer is of type `{}`, which is neither JSON nor plain text",
            scrubber.clean(kind.split(';').next().unwrap_or(other).trim())
        )),
    };
    match answer {
        Content::Body(body) => Content::Body(scrubber.redact_all(body)),
        Content::Unfit(why) => Content::Unfit(scrubber.clean(&why)),
    }
}

fn parsed(text: &str) -> Content {
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => Content::Body(object),
        Ok(other) => Content::Body(json!({ "body": other })),
        Err(error) => Content::Unfit(format!("the answer is no JSON: {error}")),
    }
}

/// The header that authenticates a request.
pub(super) fn authorization(
    auth: &HttpAuth,
    credential: &Credential,
) -> Result<(HeaderName, HeaderValue), String> {
    let name = auth.secret();
    let secret = credential.secret(name).ok_or_else(|| format!("the credential has no secret `{name}`"))?;
    let secret = secret.expose_secret();
    let (header, text) = match auth {
        HttpAuth::Bearer { .. } => (AUTHORIZATION, format!("Bearer {secret}")),
        HttpAuth::Basic { user, .. } => {
            (AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{user}:{secret}"))))
        }
        HttpAuth::Header { name, .. } => {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_bad| format!("`{name}` is no header name"))?;
            (header, secret.to_owned())
        }
    };
    let mut value =
        HeaderValue::from_str(&text).map_err(|_secret| format!("the secret `{name}` is no header value"))?;
    value.set_sensitive(true);
    Ok((header, value))
}

/// Tells what went wrong and its causes, and whether anything was sent.
pub(crate) fn chain(error: &reqwest::Error) -> (String, bool) {
    let sent = !(error.is_connect() || error.is_builder());
    let timeout = if error.is_timeout() { "it took too long: " } else { "" };
    let mut text = format!("{timeout}{error}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    (text, sent)
}
