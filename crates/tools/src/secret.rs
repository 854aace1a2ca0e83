//! Keeps secrets out of what is said about a failure.

use std::borrow::Cow;

use countersign_gate::Credential;
use secrecy::ExposeSecret as _;
use url::Url;

/// Longest message that is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 500;
/// A shorter text is no secret worth the name, and replacing it would garble every message.
const SECRET_BYTES_MIN: usize = 3;

/// Replaces the secrets of one credential in texts.
///
/// The second line of defence: messages of drivers and servers are chosen so that they hold no secret in
/// the first place.
#[derive(Clone)]
pub(crate) struct Scrubber(Vec<String>);

impl Scrubber {
    pub(crate) fn new(credential: &Credential) -> Self {
        let mut secrets = Vec::new();
        for (_, secret) in credential.secrets() {
            let text = secret.expose_secret();
            secrets.push(text.to_owned());
            // A connection string also hides its password, as written and as meant.
            if let Ok(url) = Url::parse(text)
                && let Some(password) = url.password()
            {
                secrets.push(password.to_owned());
                let meant: String = percent_decoded(password);
                secrets.push(meant);
            }
            // libpq's other form.
            for word in text.split_ascii_whitespace() {
                if let Some(password) = word.strip_prefix("password=") {
                    secrets.push(password.trim_matches('\'').to_owned());
                }
            }
        }
        secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
        // The longest first, so that no part of one stays behind.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self(secrets)
    }

    /// The text without the secrets.
    pub(crate) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), "[secret]"));
            }
        }
        text
    }

    /// The text without the secrets, on one line, cut to a fair length.
    pub(crate) fn clean(&self, text: &str) -> String {
        let text = self.redact(text);
        let mut short: String =
            text.chars().take(MESSAGE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if text.chars().nth(MESSAGE_CHARS_MAX).is_some() {
            short.push('…');
        }
        short
    }
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrubber").finish_non_exhaustive()
    }
}

fn percent_decoded(text: &str) -> String {
    // `form_urlencoded` would turn `+` into a space; a query of one pair without `+` does not.
    let pair = format!("p={}", text.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::SecretString;

    use super::*;

    #[test]
    fn replaces_a_password_as_written_and_as_meant() {
        let url = "postgres://app:p%40ss%2Bword@db.example/app";
        let credential = Credential::new(BTreeMap::from([("url".into(), SecretString::from(url))]));
        let scrubber = Scrubber::new(&credential);
        let cleaned = scrubber.clean(&format!("{url} | p%40ss%2Bword | p@ss+word\n"));
        assert_eq!(cleaned, "[secret] | [secret] | [secret] ");
    }

    #[test]
    fn cuts_long_messages() {
        let scrubber = Scrubber::new(&Credential::new(BTreeMap::new()));
        assert_eq!(scrubber.clean(&"x".repeat(600)).chars().count(), 501);
    }
}
