//! Signed webhooks, as the Standard Webhooks specification has them.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Client, StatusCode, header};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use sha2::Sha256;
use url::Url;

use crate::channel::{Delivery, ReadSecret};

/// Secrets begin with this.
const PREFIX: &str = "whsec_";

/// A secret has so many bytes at least, and at most.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Messages are posted to a URL, and signed.
#[derive(Clone)]
pub struct Webhook {
    /// Messages are posted here.
    pub url: Url,
    /// Messages are signed with this.
    pub secret: ReadSecret,
    /// The client connects where it may, and follows no redirects.
    pub client: Client,
    /// Posting a message may take so long.
    pub timeout: Duration,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// Reads the key of a secret: `whsec_`, and 24 to 64 bytes in base64.
///
/// # Errors
/// Says what a secret looks like, and never what this one is.
pub fn webhook_key(secret: &str) -> Result<Vec<u8>, String> {
    let bad = || format!("is no webhook secret: `{PREFIX}` and 24 to 64 bytes in base64");
    let key = STANDARD.decode(secret.trim().strip_prefix(PREFIX).ok_or_else(bad)?).map_err(|_form| bad())?;
    if KEY_BYTES.contains(&key.len()) { Ok(key) } else { Err(bad()) }
}

/// Signs a message: `v1,` and the HMAC-SHA256 of id, time and body in base64.
fn sign(key: &[u8], id: &str, timestamp_s: i64, body: &[u8]) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|why| why.to_string())?;
    mac.update(format!("{id}.{timestamp_s}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

impl Webhook {
    /// Posts a message under its id, at `now_ms` (Unix milliseconds UTC). Nothing of an answer's body is read.
    pub(crate) async fn tell(&self, id: &str, message: &impl Serialize, now_ms: i64) -> Delivery {
        let not_told = |why: String| Delivery::NotTold { why, after: None };
        let timestamp_s = now_ms.div_euclid(1_000);
        let key = match (self.secret)().and_then(|secret| webhook_key(secret.expose_secret())) {
            Ok(key) => key,
            Err(why) => return not_told(format!("its secret {why}")),
        };
        let body = match serde_json::to_vec(message) {
            Ok(body) => body,
            Err(why) => return not_told(why.to_string()),
        };
        let signature = match sign(&key, id, timestamp_s, &body) {
            Ok(signature) => signature,
            Err(why) => return not_told(why),
        };
        let request = self
            .client
            .post(self.url.clone())
            .timeout(self.timeout)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp_s)
            .header("webhook-signature", signature)
            .body(body);
        match request.send().await {
            Ok(response) => outcome(response.status(), response.headers()),
            Err(why) if why.is_timeout() => not_told("it did not answer in time".into()),
            // The address may be a secret itself.
            Err(why) => not_told(format!("it cannot be reached: {}", root(&why.without_url()))),
        }
    }
}

/// Returns what an answer means.
fn outcome(status: StatusCode, headers: &header::HeaderMap) -> Delivery {
    if status.is_success() {
        return Delivery::Told { handle: None };
    }
    let why = format!("it answered {status}");
    if status == StatusCode::GONE {
        return Delivery::Gone { why };
    }
    Delivery::NotTold { why, after: retry_after(headers) }
}

/// Returns how long to wait by `Retry-After`, where it says so in seconds. A date would be of another clock.
pub(crate) fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Returns the innermost reason, which is the one that says something.
pub(crate) fn root(why: &reqwest::Error) -> String {
    let mut why: &dyn std::error::Error = why;
    while let Some(source) = why.source() {
        why = source;
    }
    why.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the specification.
        let key = webhook_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_none_is_refused_and_not_told() {
        for secret in [
            "",
            "whsec_",
            "whsec_AAAA",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_%%%SECRET",
            &format!("whsec_{}", STANDARD.encode([1; 65])),
        ] {
            let why = webhook_key(secret).unwrap_err();
            assert!(why.contains("24 to 64 bytes") && !why.contains("SECRET"), "{why}");
        }
        assert!(webhook_key(&format!("whsec_{}\n", STANDARD.encode([1; 64]))).is_ok());
    }

    #[test]
    fn an_answer_says_whether_to_try_again() {
        let with = |status: u16, after: Option<&'static str>| {
            let mut headers = header::HeaderMap::new();
            headers.extend(after.map(|after| (header::RETRY_AFTER, header::HeaderValue::from_static(after))));
            outcome(StatusCode::from_u16(status).unwrap(), &headers)
        };
        for status in [200, 204] {
            assert_eq!(with(status, None), Delivery::Told { handle: None });
        }
        assert!(matches!(with(410, None), Delivery::Gone { .. }));
        for status in [302, 400, 404, 500] {
            assert!(matches!(with(status, None), Delivery::NotTold { after: None, .. }));
        }
        let after = |text| match with(429, Some(text)) {
            Delivery::NotTold { after, .. } => after,
            other @ (Delivery::Told { .. } | Delivery::Refused { .. } | Delivery::Gone { .. }) => {
                panic!("{other:?}")
            }
        };
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(after("-1"), None);
    }
}
