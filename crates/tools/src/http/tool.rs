//! A request as a tool.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_gate::{
    Authority, Credential, MeasureError, Measured, Parsed, Performed, Probe, Sample, Tool, ToolError, Upkeep,
    Vault, Warrant,
};
use countersign_rules::{
    Amount, Code, DeclaredEffect, Effect, Foretold, Money, Reach, Refusal, SystemSpec, ToolSpec,
    arguments::{properties, requires},
};
use reqwest::{
    Client, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};

use super::{
    client::{check_base, client},
    template::{Filled, Template},
};
use crate::{
    declared::{Declared, check_kind},
    definition::{
        AmountDefinition, AmountSource, CurrencySource, DefinitionError, HttpAuth, HttpDefinition,
        HttpRequest, HttpTarget, SystemDefinition, Target, exact,
    },
    secret::{Scrubber, Scrubbers},
};

/// The first pause before a request is sent again; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause that an API may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How much of a refusal's body is repeated, in characters.
const EXCERPT_CHARS: usize = 300;
/// The header by which an API recognises a repeated call (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Headers that are ours or the protocol's to set.
const RESERVED_HEADERS: &[&str] = &[
    "host",
    "authorization",
    "cookie",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "idempotency-key",
    "proxy-authorization",
];

/// An HTTP API with its connections, shared by the tools on it.
pub struct HttpSystem {
    spec: SystemSpec,
    target: HttpTarget,
    headers: HeaderMap,
    vault: Arc<dyn Vault>,
    scrubbers: Scrubbers,
    reading: Client,
    writing: Client,
}

impl std::fmt::Debug for HttpSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpSystem").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl HttpSystem {
    /// Looks whether the API can be used right now: its credential is there and can be sent, and something answers at its
    /// address. Nothing is asked of it but the headers of its base address, without the credential.
    ///
    /// # Errors
    /// Why not, without secrets.
    pub async fn try_out(&self, upkeep: &Upkeep) -> Result<(), String> {
        let credential = self.vault.open(upkeep).map_err(|fault| fault.to_string())?;
        if let Some(auth) = &self.target.auth {
            authorization(auth, &credential)?;
        }
        let request = self
            .reading
            .head(self.target.base_url.clone())
            .timeout(Duration::from_millis(self.target.limits.timeout_ms));
        match request.send().await {
            Ok(_whatever) => Ok(()),
            Err(error) => Err(self.scrubbers.of(&credential).clean(&chain(&error.without_url()).0)),
        }
    }

    /// Prepares an API. Nothing is connected yet.
    ///
    /// # Errors
    /// [`DefinitionError`] when the base URL or a header cannot be used.
    pub fn new(definition: &SystemDefinition, vault: Arc<dyn Vault>) -> Result<Arc<Self>, DefinitionError> {
        check_kind(definition)?;
        let spec = definition.spec.clone();
        let bad = |key: &str, why: String| DefinitionError::system(&spec.name, key, why);
        let Target::Http(target) = &definition.target else {
            return Err(bad("kind", "is no HTTP API".into()));
        };
        check_base(&target.base_url, target.allow_private).map_err(|why| bad("base_url", why.into()))?;
        let headers = headers(target.headers.iter()).map_err(|why| bad("headers", why))?;
        if let Some(HttpAuth::Header { name, .. }) = &target.auth
            && HeaderName::from_bytes(name.as_bytes()).is_err()
        {
            return Err(bad("auth", format!("`{name}` is no header name")));
        }
        let timeout = Duration::from_millis(target.limits.connect_timeout_ms);
        let make = |follow| {
            client(timeout, target.allow_private, follow, target.ca.as_deref())
                .map_err(|e| bad("base_url", format!("no client: {e}")))
        };
        Ok(Arc::new(Self {
            reading: make(target.follow_redirects)?,
            writing: make(false)?,
            scrubbers: match &target.auth {
                Some(HttpAuth::Basic { user, .. }) => Scrubbers::sent_for(user),
                Some(HttpAuth::Bearer { .. } | HttpAuth::Header { .. }) | None => Scrubbers::default(),
            },
            target: target.clone(),
            headers,
            vault,
            spec,
        }))
    }
}

/// Fixed headers; those that are not ours to set are refused.
fn headers<'h>(written: impl Iterator<Item = (&'h String, &'h String)>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let lower = name.to_ascii_lowercase();
        if RESERVED_HEADERS.contains(&lower.as_str()) {
            return Err(format!("`{name}` is not free to set"));
        }
        let parsed =
            HeaderName::from_bytes(lower.as_bytes()).map_err(|_bad| format!("`{name}` is no header name"))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_bad| format!("the value of `{name}` is no header value"))?;
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// A request as a tool.
#[derive(Debug)]
pub struct HttpTool {
    declared: Declared,
    system: Arc<HttpSystem>,
    request: Request,
    preview: Option<Request>,
    amount: Option<AmountDefinition>,
    objects: Option<String>,
    /// What every call is at least, by its method.
    floor: Effect,
}

#[derive(Debug)]
struct Request {
    template: Template,
    headers: HeaderMap,
}

/// What one call is about to send.
#[derive(Debug)]
pub struct HttpCall {
    arguments: Map<String, Value>,
    request: Filled,
    preview: Option<Filled>,
}

/// What the API's answer means for the effect.
enum Seen {
    /// It said yes.
    Done(Answer),
    /// It said no.
    Refused { message: String, retry: Option<Duration> },
    /// Nothing was sent.
    NotSent(String),
    /// It may or may not have happened.
    Unknown { message: String, retry: bool },
}

enum Answer {
    Body(Value),
    /// It cannot be passed on.
    Unfit(String),
}

/// What the facts are taken from.
struct Facts {
    objects: u64,
    amount: Option<Money>,
    /// What the preview answered.
    preview: Option<Value>,
}

/// So many fields of a preview are shown to an approver.
const FIELDS_MAX: usize = 40;
/// So many characters of a field.
const FIELD_CHARS_MAX: usize = 200;

/// What a preview told, field by field, for approvers to read.
fn evidence(told: &Value, request: &Filled) -> Sample {
    let mut rows = Vec::new();
    fields(told, String::new(), &mut rows);
    Sample {
        table: format!("{} {}", Method::GET, request.url.path()),
        columns: vec!["field".into(), "told".into()],
        rows,
    }
}

/// The fields of a document by their pointers (RFC 6901), those of objects and lists within it included.
fn fields(value: &Value, pointer: String, rows: &mut Vec<Vec<Option<String>>>) {
    if rows.len() >= FIELDS_MAX {
        return;
    }
    let text = match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                fields(member, format!("{pointer}/{name}"), rows);
            }
            return;
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                fields(item, format!("{pointer}/{at}"), rows);
            }
            return;
        }
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Array(_) => Some(value.to_string()),
    };
    let text = text.map(|text| match text.char_indices().nth(FIELD_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    });
    rows.push(vec![Some(pointer), text]);
}

impl HttpTool {
    /// Checks a definition against its system.
    ///
    /// # Errors
    /// [`DefinitionError`] when the schema does not compile, a template does not parse or names what is no
    /// argument, or the method does more than is declared.
    pub fn new(definition: &HttpDefinition, system: Arc<HttpSystem>) -> Result<Arc<Self>, DefinitionError> {
        let tool = &definition.tool;
        let bad = |key: &str, why: String| DefinitionError::tool(&tool.name, key, why);
        if tool.system != system.spec.name {
            return Err(bad("system", format!("is `{}`, and `{}` was given", tool.system, system.spec.name)));
        }
        if tool.effect == DeclaredEffect::FromStatement {
            return Err(bad("effect", "`from_statement` is for databases".into())
                .help("declare `read`, `write` or `destructive`"));
        }
        let request =
            compile(&definition.request).map_err(|(key, why)| bad(&format!("request.{key}"), why))?;
        let floor = match request.template.method {
            Method::GET | Method::HEAD => Effect::Read,
            Method::DELETE => Effect::Destructive,
            _ => Effect::Write,
        };
        if floor > tool.effect.ceiling() {
            let why = format!(
                "is `{}`, and a `{}` is at least `{floor}`",
                tool.effect.ceiling(),
                request.template.method
            );
            return Err(bad("effect", why).help(format!("declare `{floor}`")));
        }
        let preview = definition.preview.as_ref().map(compile).transpose();
        let preview = preview.map_err(|(key, why)| bad(&format!("preview.{key}"), why))?;
        if let Some(preview) = &preview
            && preview.template.method != Method::GET
        {
            return Err(bad("preview.method", "must be `GET`: a preview changes nothing".into()));
        }
        let measurable =
            tool.effect.ceiling() >= Effect::Write && (preview.is_some() || definition.amount.is_some());
        let declared = Declared::new(tool, &system.spec, &template(definition, &system.target), measurable)?;
        check_names(definition, &declared.spec.arguments, &request, preview.as_ref())?;
        let schema = &declared.spec.arguments;
        let named = |Request { template, headers }: Request| Request {
            template: template.allow_named(schema),
            headers,
        };
        let (request, preview) = (named(request), preview.map(named));
        Ok(Arc::new(Self {
            declared,
            system,
            request,
            preview,
            amount: definition.amount.clone(),
            objects: definition.objects.clone(),
            floor,
        }))
    }

    /// The schema of the arguments as agents see it.
    #[must_use]
    pub fn advertised(&self) -> Value {
        self.declared.advertised()
    }

    /// Sends a preview and reads the facts from it, or from the arguments alone.
    async fn facts(&self, credential: &Credential, call: &HttpCall) -> Result<Facts, MeasureError> {
        let answer = match (&self.preview, &call.preview) {
            (Some(request), Some(filled)) => {
                let seen = self.read(credential, request, filled).await;
                match seen {
                    Seen::Done(Answer::Body(body)) => Some(body),
                    Seen::Done(Answer::Unfit(why)) | Seen::Refused { message: why, .. } => {
                        return Err(MeasureError::NotMeasurable(format!("the preview gave no facts: {why}")));
                    }
                    Seen::NotSent(why) | Seen::Unknown { message: why, .. } => {
                        return Err(MeasureError::System(format!("the preview failed: {why}")));
                    }
                }
            }
            _ => None,
        };
        let arguments = Value::Object(call.arguments.clone());
        let unknown = |what: &str| MeasureError::NotMeasurable(format!("{what} is not told"));
        let objects = match &self.objects {
            None => 1,
            Some(pointer) => match answer.as_ref().unwrap_or(&arguments).pointer(pointer) {
                Some(Value::Array(items)) => u64::try_from(items.len()).unwrap_or(u64::MAX),
                Some(Value::Number(number)) => {
                    let told = number.as_u64().ok_or_else(|| unknown("the number of objects"))?;
                    exact("the number of objects", told).map_err(MeasureError::NotMeasurable)?
                }
                _ => return Err(unknown("the number of objects")),
            },
        };
        let amount = self.amount.as_ref().map(|amount| amount.money(&call.arguments, answer.as_ref()));
        let amount = amount.transpose().map_err(MeasureError::NotMeasurable)?;
        Ok(Facts { objects, amount, preview: answer })
    }

    /// What is known of a call before anything is asked of the API.
    ///
    /// # Errors
    /// The [`Refusal`] that a call with such arguments gets.
    pub(crate) fn foretell(&self, arguments: &Map<String, Value>) -> Result<Foretold, Refusal> {
        let rows = self.objects.is_none().then_some(1);
        let amount = self.amount.as_ref().map_or(Ok(Amount::Untold), |amount| amount.foretell(arguments))?;
        Ok(Foretold { rows, amount })
    }

    /// Sends a request that changes nothing; again, a few times, if it fails.
    async fn read(&self, credential: &Credential, request: &Request, filled: &Filled) -> Seen {
        let client = &self.system.reading;
        let mut tries = 0;
        loop {
            let seen = self.send(client, credential, request, filled, None).await;
            let Some(pause) = self.again(&seen, tries, true) else { return seen };
            tries = tries.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request that changes something. Again only when nothing was sent, or where the API
    /// recognises the key.
    async fn write(&self, credential: &Credential, call: &HttpCall, key: &str) -> Seen {
        let mut tries = 0;
        let mut doubt: Option<String> = None;
        loop {
            let seen =
                self.send(&self.system.writing, credential, &self.request, &call.request, Some(key)).await;
            if let (None, Seen::Unknown { message, .. }) = (&doubt, &seen) {
                doubt = Some(message.clone());
            }
            let Some(pause) = self.again(&seen, tries, self.declared.spec.idempotent) else {
                return match (seen, doubt) {
                    (seen @ Seen::Done(_), _) | (seen, None) => seen,
                    // A refusal of the second attempt says nothing about the first.
                    (_, Some(message)) => Seen::Unknown { message, retry: false },
                };
            };
            tries = tries.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    }

    /// How long to wait before sending again, if that is safe and worth it.
    fn again(&self, seen: &Seen, tries: u32, repeatable: bool) -> Option<Duration> {
        if tries >= self.system.target.limits.retries_max {
            return None;
        }
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(tries));
        match seen {
            Seen::Done(_) | Seen::Refused { retry: None, .. } | Seen::Unknown { retry: false, .. } => None,
            Seen::NotSent(_) => Some(pause),
            Seen::Refused { retry: Some(asked), .. } => {
                repeatable.then_some(pause.max(*asked).min(PAUSE_MAX))
            }
            Seen::Unknown { retry: true, .. } => repeatable.then_some(pause),
        }
    }

    async fn send(
        &self,
        client: &Client,
        credential: &Credential,
        request: &Request,
        filled: &Filled,
        key: Option<&str>,
    ) -> Seen {
        let target = &self.system.target;
        let scrubber = self.system.scrubbers.of(credential);
        let mut headers = self.system.headers.clone();
        headers.extend(request.headers.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(auth) = &target.auth {
            match authorization(auth, credential) {
                Ok((name, value)) => headers.insert(name, value),
                Err(why) => return Seen::NotSent(why),
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
                if sent { Seen::Unknown { message, retry: true } } else { Seen::NotSent(message) }
            }
        }
    }

    async fn receive(&self, mut response: reqwest::Response, scrubber: &Scrubber) -> Seen {
        let status = response.status();
        let bytes_max = self.system.target.limits.response_bytes_max;
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
            return Seen::Done(match unfit {
                Some(why) => Answer::Unfit(why),
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

impl Tool for HttpTool {
    type Args = HttpCall;

    fn spec(&self) -> &Arc<ToolSpec> {
        &self.declared.spec
    }

    fn parse(&self, arguments: &Value) -> Result<Parsed<Self::Args>, Refusal> {
        self.declared.check(arguments)?;
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let base = &self.system.target.base_url;
        let fill = |request: &Request| {
            request.template.fill(base, &arguments).map_err(|why| {
                Refusal::new(Code::InvalidArguments, format!("the arguments do not fit: {why}"))
                    .help("correct the argument named and call again")
            })
        };
        let (request, preview) = (fill(&self.request)?, self.preview.as_ref().map(fill).transpose()?);
        Ok(Parsed {
            args: HttpCall { arguments, request, preview },
            effect: self.floor,
            categories: BTreeSet::new(),
            statement: None,
            reversible: true,
        })
    }

    fn measurable(&self, _args: &Self::Args) -> bool {
        self.declared.spec.measurable
    }

    async fn measure(&self, probe: Probe<'_, Self::Args>) -> Result<Measured, MeasureError> {
        let credential = self.system.vault.open(&probe).map_err(|e| MeasureError::System(e.to_string()))?;
        let Facts { objects, amount, preview } = self.facts(&credential, probe.args()).await?;
        let reach = Reach { rows: objects, exact: true, amount, ..Reach::default() };
        let sample =
            preview.zip(probe.args().preview.as_ref()).map(|(told, request)| evidence(&told, request));
        Ok(Measured { reach, sample })
    }

    async fn perform(&self, warrant: Warrant<Self::Args>) -> Result<Performed, ToolError> {
        let authority: &dyn Authority = &warrant;
        let credential = self
            .system
            .vault
            .open(authority)
            .map_err(|fault| ToolError::Unavailable { message: fault.to_string() })?;
        let call = warrant.args();
        if self.declared.spec.effect == DeclaredEffect::Read {
            return self.performed_read(self.read(&credential, &self.request, &call.request).await);
        }
        let facts = if self.declared.spec.measurable {
            // Once more, as late as can be: what was approved may have grown since it was measured.
            self.facts(&credential, call)
                .await
                .map_err(|why| ToolError::Failed { message: format!("nothing was sent: {why}") })?
        } else {
            Facts { objects: 1, amount: None, preview: None }
        };
        let reach = Reach { rows: facts.objects, exact: true, amount: facts.amount, ..Reach::default() };
        if warrant.limits().exceeded_by(&reach) {
            return Err(ToolError::Exceeded { reach: Box::new(reach) });
        }
        self.performed_write(self.write(&credential, call, warrant.idempotency_key()).await, &facts)
    }
}

impl HttpTool {
    fn performed_read(&self, seen: Seen) -> Result<Performed, ToolError> {
        match seen {
            Seen::Done(Answer::Body(reply)) => {
                self.declared.fits(&reply).map_err(|message| ToolError::Failed { message })?;
                let rows = reply.get("body").and_then(Value::as_array).map_or(1, Vec::len);
                Ok(Performed { reply, rows: u64::try_from(rows).unwrap_or(u64::MAX), amount: None })
            }
            Seen::Done(Answer::Unfit(message)) | Seen::Refused { message, .. } => {
                Err(ToolError::Failed { message })
            }
            Seen::NotSent(message) | Seen::Unknown { message, .. } => Err(ToolError::Unavailable { message }),
        }
    }

    fn performed_write(&self, seen: Seen, facts: &Facts) -> Result<Performed, ToolError> {
        let (rows, amount) = (facts.objects, facts.amount);
        match seen {
            Seen::Done(Answer::Body(reply)) => {
                self.declared.accept(&reply, rows, amount)?;
                Ok(Performed { reply, rows, amount })
            }
            Seen::Done(Answer::Unfit(message)) => Err(ToolError::ResultRejected { message, rows, amount }),
            Seen::Refused { message, .. } => Err(ToolError::Failed { message }),
            Seen::NotSent(message) => Err(ToolError::Unavailable { message }),
            Seen::Unknown { message, .. } => Err(ToolError::InDoubt { message }),
        }
    }
}

/// What a status that is no success says about the effect.
fn classify(status: StatusCode, message: String, asked: Option<Duration>) -> Seen {
    match status.as_u16() {
        429 => Seen::Refused { message, retry: Some(asked.unwrap_or(PAUSE)) },
        // Told to send it elsewhere: not done here.
        307 | 308 => {
            Seen::Refused { message: format!("{message} (redirects are not followed)"), retry: None }
        }
        400..=499 | 501 | 505 => Seen::Refused { message, retry: None },
        // 303 is how many APIs say that they have done it.
        300..=399 => {
            Seen::Unknown { message: format!("{message} (redirects are not followed)"), retry: false }
        }
        _ => Seen::Unknown { message, retry: true },
    }
}

/// The reply: the JSON object of the body, or whatever else it is as the member `body`.
fn body(bytes: &[u8], kind: &str, scrubber: &Scrubber) -> Answer {
    if bytes.is_empty() {
        return Answer::Body(json!({ "body": null }));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Answer::Unfit("the answer is not valid UTF-8".into());
    };
    // An API that repeats what it was sent must not hand the credential to the agent. Looked for in what is read, and not
    // in what was written: a text of JSON may spell each letter in several ways.
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let answer = match essence.as_str() {
        "text/plain" => Answer::Body(json!({ "body": text })),
        "application/json" | "" => parsed(text),
        other if other.starts_with("application/") && other.ends_with("+json") => parsed(text),
        other => Answer::Unfit(format!(
            "the answer is of type `{}`, which is neither JSON nor plain text",
            scrubber.clean(kind.split(';').next().unwrap_or(other).trim())
        )),
    };
    match answer {
        Answer::Body(body) => Answer::Body(scrubber.redact_all(body)),
        Answer::Unfit(why) => Answer::Unfit(scrubber.clean(&why)),
    }
}

fn parsed(text: &str) -> Answer {
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => Answer::Body(object),
        Ok(other) => Answer::Body(json!({ "body": other })),
        Err(error) => Answer::Unfit(format!("the answer is no JSON: {error}")),
    }
}

/// The header that authenticates a request.
fn authorization(auth: &HttpAuth, credential: &Credential) -> Result<(HeaderName, HeaderValue), String> {
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

/// What went wrong and its causes, and whether anything was sent.
fn chain(error: &reqwest::Error) -> (String, bool) {
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

fn compile(request: &HttpRequest) -> Result<Request, (&'static str, String)> {
    let headers = headers(request.headers.iter()).map_err(|why| ("headers", why))?;
    Ok(Request { template: Template::new(request)?, headers })
}

/// Checks that templates, amounts and the schema name the same arguments.
fn check_names(
    definition: &HttpDefinition,
    schema: &Value,
    request: &Request,
    preview: Option<&Request>,
) -> Result<(), DefinitionError> {
    let bad = |key: &str, why: String| DefinitionError::tool(&definition.tool.name, key, why);
    let declared: BTreeSet<&str> = properties(schema).map(|(name, _property)| name).collect();
    let mut used = BTreeSet::new();
    for (key, template) in [("request", Some(request)), ("preview", preview)] {
        let Some(Request { template, .. }) = template else { continue };
        let names = template.names();
        if let Some(unknown) = names.difference(&declared).next() {
            return Err(bad(key, format!("names `{unknown}`, which is no argument"))
                .help("declare it under `arguments`, or correct its name"));
        }
        if let Some(optional) = template.path_names().into_iter().find(|name| !requires(schema, name)) {
            return Err(bad(key, format!("its path needs `{optional}`, which is optional")));
        }
        used.extend(names);
    }
    if let Some(amount @ AmountDefinition { minor, currency, .. }) = &definition.amount {
        amount.fits(&definition.tool.name, schema)?;
        let mut arguments = Vec::new();
        let mut pointers = Vec::new();
        match minor {
            AmountSource::Argument(name) => arguments.push(name),
            AmountSource::Preview(pointer) => pointers.push(pointer),
        }
        match currency {
            CurrencySource::Fixed(_) => {}
            CurrencySource::Argument(name) => arguments.push(name),
            CurrencySource::Preview(pointer) => pointers.push(pointer),
        }
        for name in arguments {
            if !requires(schema, name) {
                return Err(bad("amount", format!("needs `{name}`, which is no required argument")));
            }
            used.insert(name);
        }
        for pointer in pointers {
            if preview.is_none() {
                return Err(bad("amount", format!("`{pointer}` points into a preview, and there is none")));
            }
            if !pointer.starts_with('/') {
                return Err(bad("amount", format!("`{pointer}` is no JSON pointer: it must start with `/`")));
            }
        }
    }
    if let Some(unused) = declared.difference(&used).next() {
        return Err(bad("arguments", format!("`{unused}` is not used by the request")).help(format!(
            "write `{{{unused}}}` into the path or `${unused}` into query or body, or leave it out"
        )));
    }
    Ok(())
}

/// What distinguishes this definition from another, for its version.
fn template(definition: &HttpDefinition, target: &HttpTarget) -> Value {
    let request = |request: &HttpRequest| {
        json!({
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": request.headers,
            "body": request.body,
        })
    };
    json!({
        "kind": "http",
        "base_url": target.base_url.as_str(),
        "headers": target.headers,
        "request": request(&definition.request),
        "preview": definition.preview.as_ref().map(request),
        "amount": definition.amount.as_ref().map(|amount| format!("{amount:?}")),
        "objects": definition.objects,
    })
}
