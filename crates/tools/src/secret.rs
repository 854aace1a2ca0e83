//! Keeps secrets out of what is said about a failure.

mod spelling;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use countersign_gate::Credential;
use md5::{Digest as _, Md5};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use url::Url;

use self::spelling::Spelling;
use crate::sql::postgres::settings;

/// Longest message that is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 500;
/// A shorter text is no secret worth the name, and replacing it would garble every message.
pub(crate) const SECRET_BYTES_MIN: usize = 3;
/// So many characters of base64 are needed to know a secret by.
const DERIVED_CHARS_MIN: usize = 6;

/// Replaces the secrets of one credential in texts and documents, in whatever spelling they come back: as they are, or with
/// any of their characters escaped as URLs, forms, JSON or HTML do, also twice; in base64 of either alphabet, at any
/// offset, also of what was escaped whole before; in hexadecimal. Of a connection string also what PostgreSQL keeps of its
/// password as MD5.
///
/// The second line of defence: messages of drivers and servers are chosen so that they hold no secret in
/// the first place.
#[derive(Clone, Default)]
pub(crate) struct Scrubber(Arc<[Spelling]>);

impl Scrubber {
    pub(crate) fn new(credential: &Credential) -> Self {
        Self::with(credential, None)
    }

    /// As [`Scrubber::new`]; `user`: whom a secret is sent for, by basic authentication.
    pub(crate) fn with(credential: &Credential, user: Option<&str>) -> Self {
        let mut secrets = Vec::new();
        for (_, secret) in credential.secrets() {
            let text = secret.expose_secret();
            // What is escaped whole holds the escaped parts.
            let within = within(text);
            secrets.push((text.to_owned(), within.is_empty()));
            if let Some(user) = user {
                secrets.push((format!("{user}:{text}"), false));
            }
            secrets.extend(within.into_iter().map(|part| (part, true)));
        }
        secrets.retain(|(secret, _)| secret.len() >= SECRET_BYTES_MIN);
        // The longest first, so that no part of one stays behind.
        secrets.sort_by(|(one, _), (other, _)| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        secrets.dedup();
        Self(secrets.iter().flat_map(|(secret, escaped)| spellings(secret, *escaped)).collect())
    }

    /// The text without the secrets.
    pub(crate) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for spelling in self.0.iter() {
            if let Some(cleaned) = without(spelling, &text) {
                text = Cow::Owned(cleaned);
            }
        }
        text
    }

    /// The document without the secrets, in its texts, its numbers and the names of its members.
    pub(crate) fn redact_all(&self, value: Value) -> Value {
        match value {
            Value::String(text) => {
                let cleaned = match self.redact(&text) {
                    Cow::Borrowed(_) => None,
                    Cow::Owned(cleaned) => Some(cleaned),
                };
                Value::String(cleaned.unwrap_or(text))
            }
            Value::Number(number) => match self.redact(&number.to_string()) {
                Cow::Borrowed(_) => Value::Number(number),
                Cow::Owned(cleaned) => Value::String(cleaned),
            },
            Value::Array(items) => items.into_iter().map(|item| self.redact_all(item)).collect(),
            Value::Object(members) => {
                let members = members
                    .into_iter()
                    .map(|(name, value)| (self.redact(&name).into_owned(), self.redact_all(value)));
                Value::Object(members.collect())
            }
            Value::Null | Value::Bool(_) => value,
        }
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

/// The scrubber of one system, made once for each credential that the system has in turn.
#[derive(Default)]
pub(crate) struct Scrubbers {
    user: Option<String>,
    current: Mutex<Option<(Credential, Scrubber)>>,
}

impl Scrubbers {
    /// As [`Scrubber::with`].
    pub(crate) fn sent_for(user: &str) -> Self {
        Self { user: Some(user.to_owned()), current: Mutex::default() }
    }

    /// The scrubber of a credential.
    pub(crate) fn of(&self, credential: &Credential) -> Scrubber {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, scrubber)) = &*current
            && same(known, credential)
        {
            return scrubber.clone();
        }
        let scrubber = Scrubber::with(credential, self.user.as_deref());
        *current = Some((credential.clone(), scrubber.clone()));
        scrubber
    }
}

fn same(one: &Credential, other: &Credential) -> bool {
    let (one, other) = (one.secrets(), other.secrets());
    one.map(|(name, secret)| (name, secret.expose_secret()))
        .eq(other.map(|(name, secret)| (name, secret.expose_secret())))
}

/// The text with a mark in place of what is spelled so; nothing where there is none of it.
fn without(spelling: &Spelling, text: &str) -> Option<String> {
    let mut found = spelling.find(text, 0)?;
    let (mut cleaned, mut told) = (String::new(), 0);
    loop {
        let (start, end) = found;
        cleaned.push_str(text.get(told..start).unwrap_or_default());
        cleaned.push_str("[secret]");
        told = end;
        match spelling.find(text, end) {
            Some(next) => found = next,
            None => break,
        }
    }
    cleaned.push_str(text.get(told..).unwrap_or_default());
    Some(cleaned)
}

/// The secrets that stand inside of one: a connection string hides its password, as written and as meant, and perhaps
/// settings that are named as secrets are.
fn within(text: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    if let Ok(url) = Url::parse(text) {
        if let Some(password) = url.password() {
            secrets.extend([password.to_owned(), percent_decoded(password)]);
        }
        for pair in url.query().unwrap_or_default().split('&') {
            if let Some((name, value)) = pair.split_once('=')
                && named_secret(name)
            {
                secrets.extend([value.to_owned(), percent_decoded(value)]);
            }
        }
    }
    let Some(settings) = settings(text) else { return secrets };
    if let Some(password) = settings.get_password() {
        secrets.push(String::from_utf8_lossy(password).into_owned());
        if let Some(user) = settings.get_user() {
            secrets.push(kept_as_md5(password, user));
        }
    }
    // `-c name=value` and `--name=value`, with a backslash before a blank that belongs to the value.
    let options = settings.get_options().unwrap_or_default().replace("\\ ", "\u{0}");
    for word in options.split_ascii_whitespace() {
        if let Some((name, value)) = word.split_once('=')
            && named_secret(name)
        {
            secrets.push(value.replace('\u{0}', " "));
        }
    }
    secrets
}

/// What PostgreSQL keeps of a password under `password_encryption = md5`, without the word before it: enough to sign in with.
fn kept_as_md5(password: &[u8], user: &str) -> String {
    Md5::new()
        .chain_update(password)
        .chain_update(user)
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// Tells whether a setting of this name is taken for a secret.
fn named_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "secret", "token", "key"].iter().any(|word| name.contains(word))
}

/// What a secret is looked for as: itself, its base64, with `escaped` also that of what others make of it first, and its
/// hexadecimal digits.
fn spellings(secret: &str, escaped: bool) -> Vec<Spelling> {
    let mut all = vec![Spelling::new(secret)];
    let mut encoded = BTreeSet::new();
    let written = if escaped { spelling::whole(secret) } else { BTreeSet::from([secret.to_owned()]) };
    for text in written {
        // Alone or amid other text: what does not depend on its neighbours.
        for offset in 0..3_usize {
            let padded = [vec![0_u8; offset], text.as_bytes().to_vec()].concat();
            let from = offset.saturating_mul(8).div_ceil(6);
            let to = padded.len().saturating_mul(8).div_euclid(6);
            for written in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
                let stable = written.get(from..to).unwrap_or_default();
                if stable.len() >= DERIVED_CHARS_MIN {
                    encoded.insert(stable.to_owned());
                }
            }
        }
    }
    all.extend(encoded.iter().map(|stable| Spelling::in_lines(stable)));
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    all.push(Spelling::any_case(&hex));
    all
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

    fn scrubber(secret: &str, user: Option<&str>) -> Scrubber {
        let credential = Credential::new(BTreeMap::from([("token".into(), SecretString::from(secret))]));
        Scrubber::with(&credential, user)
    }

    #[test]
    fn a_secret_does_not_come_back_in_another_spelling() {
        let secret = "s3cr/et&\"\\k=+ y'<";
        let scrubber = scrubber(secret, Some("app"));
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("app:{secret}"));
        for told in [
            secret.to_owned(),
            serde_json::to_string(secret).unwrap(),
            serde_json::to_string(secret).unwrap().replace('/', "\\/").replace('&', "\\u0026"),
            "s3cr%2Fet%26%22%5ck%3d%2B%20y%27%3C".into(),
            "s3cr%252Fet%2526%2522%255Ck%253D%252B%2520y%2527%253C".into(),
            "s3cr%2Fet%26%22%5Ck%3D%2B+y%27%3C".into(),
            "s3cr/et&amp;&quot;\\k=+ y&#39;&lt;".into(),
            "s3cr&#x2F;et&amp;&#34;\\k&#61;+ y&#x27;&lt;".into(),
            format!("Basic {basic}"),
            STANDARD_NO_PAD.encode(format!("{{\"auth\":\"{secret}\"}}")),
            URL_SAFE_NO_PAD.encode(format!("x{secret}yz")),
            secret.bytes().map(|byte| format!("{byte:02X}")).collect(),
            // Escaped whole, and then in base64.
            STANDARD_NO_PAD.encode("s3cr%2Fet%26%22%5Ck%3D%2B%20y%27%3C"),
            STANDARD_NO_PAD.encode("s3cr%2fet%26%22%5ck%3d%2b%20y%27%3c"),
            STANDARD_NO_PAD.encode("s3cr%2Fet%26%22%5Ck%3D%2B+y%27%3C"),
            STANDARD_NO_PAD.encode("s3cr%2Fet%26%22%5Ck%3D%2B%20y'%3C"),
            STANDARD_NO_PAD.encode("s3cr/et%26%22%5Ck%3D%2B%20y%27%3C"),
            URL_SAFE_NO_PAD.encode("s3cr/et&\\\"\\\\k=+ y'<"),
            STANDARD_NO_PAD.encode("s3cr\\/et&\\\"\\\\k=+ y'<"),
            STANDARD_NO_PAD.encode("s3cr/et\\u0026\\\"\\\\k=+ y'\\u003c"),
            STANDARD_NO_PAD.encode("s3cr/et&amp;&quot;\\k=+ y&#39;&lt;"),
            STANDARD_NO_PAD.encode("s3cr/et&amp;\"\\k=+ y'&lt;"),
        ] {
            let cleaned = scrubber.redact(&told);
            assert!(cleaned.contains("[secret]"), "{told}");
            assert!(!cleaned.contains("s3cr") && !cleaned.contains("czNjc"), "{told}: {cleaned}");
        }
        assert_eq!(scrubber.redact("nothing of it is here"), "nothing of it is here");
        let told = serde_json::json!({ secret: [secret, { "n": 1 }], "other": 12 });
        let cleaned = scrubber.redact_all(told);
        assert_eq!(cleaned, serde_json::json!({ "[secret]": ["[secret]", { "n": 1 }], "other": 12 }));
        let numeric = self::scrubber("12345678", None);
        assert_eq!(
            numeric.redact_all(serde_json::json!({ "pin": 12345678 })),
            serde_json::json!({ "pin": "[secret]" })
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 96, ..Default::default() })]

        /// Whatever the secret is, and however each of its characters is written.
        #[test]
        fn no_mixture_of_escapes_hides_a_secret(
            secret in "[ -~äß€]{8,24}",
            ways in proptest::collection::vec(0..8_u8, 24),
            before in "[a-z ]{0,5}",
        ) {
            let scrubber = scrubber(&secret, None);
            let written: String = secret.chars().zip(&ways).map(|(c, way)| {
                let mut buffer = [0_u8; 4];
                let bytes = c.encode_utf8(&mut buffer).bytes();
                let mut units = [0_u16; 2];
                match way {
                    0 => bytes.map(|byte| format!("%{byte:02X}")).collect(),
                    1 => bytes.map(|byte| format!("%25{byte:02x}")).collect(),
                    2 => c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect(),
                    3 => format!("&#{};", u32::from(c)),
                    4 => format!("&#x{:X};", u32::from(c)),
                    _ => c.to_string(),
                }
            }).collect();
            let told = format!("{before}|{written}|");
            proptest::prop_assert_eq!(scrubber.redact(&told), format!("{before}|[secret]|"));
            let in_base64 = base64::engine::general_purpose::STANDARD.encode(format!("{before}{secret}"));
            proptest::prop_assert!(scrubber.redact(&in_base64).contains("[secret]"));
            let in_form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            let in_json = serde_json::to_string(&secret).unwrap();
            for escaped in [in_form, in_json] {
                let in_base64 = base64::engine::general_purpose::STANDARD.encode(format!("{before}{escaped}"));
                proptest::prop_assert!(scrubber.redact(&in_base64).contains("[secret]"), "{}", escaped);
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 96, ..Default::default() })]

        /// Whatever the password of a connection string is, in each of its forms.
        #[test]
        fn a_connection_string_hides_its_password(password in "[ -~äß€]{3,24}", form in 0..4_u8, way in 0..4_u8) {
            let in_url: String = url::form_urlencoded::byte_serialize(password.as_bytes()).collect();
            let in_url = in_url.replace('+', "%20");
            let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
            let text = match form {
                0 => format!("postgres://app:{in_url}@db.example:5432/app?sslmode=verify-full"),
                1 => format!("postgresql://app@db.example/app?password={in_url}&sslmode=require"),
                2 => format!("host=db.example user=app password='{quoted}' sslmode=verify-ca dbname=app"),
                _ => format!("postgres://app:{}@db.example/app", password.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>()),
            };
            let scrubber = scrubber(&text, None);
            let written = match way {
                0 => password,
                1 => {
                    let quoted = serde_json::to_string(&password).unwrap();
                    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap().to_owned()
                }
                2 => password.bytes().map(|byte| format!("{byte:02X}")).collect(),
                _ => password.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            };
            let told = format!("|{written}|");
            proptest::prop_assert_eq!(scrubber.redact(&told), "|[secret]|");
            proptest::prop_assert_eq!(scrubber.redact(&text), "[secret]");
        }
    }

    #[test]
    fn what_postgresql_keeps_of_a_password_is_a_secret() {
        // As PostgreSQL 15 writes it under `password_encryption = md5`.
        let kept = "md55a8afcb129d0947ba9dad78bfd696a03";
        for text in [
            "postgres://app:hunter22@db.example/app",
            "host=db.example password=hunter22 user=app dbname=app",
        ] {
            let scrubber = scrubber(text, None);
            assert_eq!(scrubber.redact(&format!("<{kept}>")), "<md5[secret]>");
            let in_base64 = STANDARD_NO_PAD.encode(kept);
            assert!(scrubber.redact(&in_base64).contains("[secret]"));
        }
    }

    #[test]
    fn a_scrubber_is_made_once_for_each_credential() {
        let credential = |secret: &str| {
            Credential::new(BTreeMap::from([("url".to_owned(), SecretString::from(secret.to_owned()))]))
        };
        let scrubbers = Scrubbers::default();
        let first = scrubbers.of(&credential("hunter22"));
        assert!(Arc::ptr_eq(&first.0, &scrubbers.of(&credential("hunter22")).0));
        // A vault may hand out another one at any call.
        let changed = scrubbers.of(&credential("hunter23"));
        assert_eq!(changed.redact("hunter22 hunter23"), "hunter22 [secret]");
        assert_eq!(first.redact("hunter22 hunter23"), "[secret] hunter23");
        let renamed = Credential::new(BTreeMap::new());
        assert_eq!(scrubbers.of(&renamed).redact("hunter23"), "hunter23");
        let basic = Scrubbers::sent_for("app").of(&credential("hunter22"));
        assert_eq!(basic.redact("app:hunter22"), "[secret]");
    }

    #[test]
    fn settings_of_a_connection_string_that_are_named_as_secrets_are_secrets() {
        let text = "host=db.example user=app password=hunter22 options='-c app.api_token=tok\\\\ en-77 -c search_path=public \
                    --app.secret=shh99'";
        let scrubber = scrubber(text, None);
        assert_eq!(
            scrubber.redact("hunter22 tok en-77 shh99 public app"),
            "[secret] [secret] [secret] public app"
        );
        let scrubber = self::scrubber("https://api.example/v1?api_key=k%2Bey-1&page=two", None);
        assert_eq!(scrubber.redact("k+ey-1 k%2Bey-1 two"), "[secret] [secret] two");
    }

    #[test]
    fn escapes_of_escapes_do_not_hide_a_secret() {
        let scrubber = scrubber("s3/cr&et\\", None);
        for told in [
            // JSON in JSON in JSON; HTML in JSON; a URL in HTML; HTML in a URL; bytes of Python; octal digits.
            r"s3\\/cr\\u0026et\\\\",
            r"s3\u0026sol;cr\u0026amp;et\u005c",
            "s3&#37;2Fcr&percnt;26et&#x25;5C",
            "s3%26sol%3Bcr%26amp%3Bet%5C",
            "s3&amp;#x2f;cr&amp;amp;et&bsol;",
            r"s3\x2fcr\x26et\x5c",
            r"s3\057cr\046et\134",
            r"s3\u{2f}cr\u{0026}et\u{5C}",
            "s3&#0000047;cr&#38;et&#092;",
        ] {
            assert_eq!(scrubber.redact(&format!("<{told}>")), "<[secret]>", "{told}");
        }
    }

    #[test]
    fn a_secret_of_any_length_is_found() {
        let mut state = 7_u32;
        let secret: String = (0..63_999)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from(b'!' + u8::try_from(state >> 16 & 63).unwrap())
            })
            .collect();
        let scrubber = scrubber(&secret, Some("app"));
        let wrapped = |text: &str, between: &str| -> String {
            let lines: Vec<&str> =
                text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
            lines.join(between)
        };
        let base64 = STANDARD_NO_PAD.encode(&secret);
        for told in [
            wrapped(&base64, "\r\n"),
            wrapped(&base64, "\n    "),
            wrapped(&base64, "\\n"),
            secret.clone(),
            serde_json::to_string(&secret).unwrap().trim_matches('"').to_owned(),
            base64.clone(),
            secret.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        ] {
            assert_eq!(scrubber.redact(&format!("<{told}>")), "<[secret]>", "{} characters", told.len());
        }
    }

    #[test]
    fn cuts_long_messages() {
        let scrubber = Scrubber::new(&Credential::new(BTreeMap::new()));
        assert_eq!(scrubber.clean(&"x".repeat(600)).chars().count(), 501);
    }
}
