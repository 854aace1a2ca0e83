//! A request as a tool.

use std::{collections::BTreeSet, sync::Arc};

use countersign_gate::{
    Authority, Credential, MeasureError, Measured, Parsed, Performed, Probe, Sample, Tool, ToolError, Warrant,
};
use countersign_rules::{Amount, Code, DeclaredEffect, Effect, Foretold, Money, Reach, Refusal, ToolSpec};
use reqwest::Method;
use serde_json::{Map, Value};

use super::{
    definition::{Request, check_names, compile, template},
    send::{Content, Exchange},
    system::HttpSystem,
    template::Filled,
};
use crate::{
    declared::Declared,
    definition::{AmountDefinition, DefinitionError, HttpDefinition, exact},
};

/// A request as a tool.
#[derive(Debug)]
pub struct HttpTool {
    declared: Declared,
    system: Arc<HttpSystem>,
    request: Request,
    preview: Option<Request>,
    amount: Option<AmountDefinition>,
    objects: Option<String>,
    /// Every call is at least this, by its method.
    floor: Effect,
}

/// One call is about to send this.
#[derive(Debug)]
pub struct HttpCall {
    arguments: Map<String, Value>,
    request: Filled,
    preview: Option<Filled>,
}

/// The facts are taken from this.
struct Facts {
    objects: u64,
    amount: Option<Money>,
    /// The preview answered this.
    preview: Option<Value>,
}

/// So many fields of a preview are shown to an approver.
const FIELDS_MAX: usize = 40;
/// So many characters of a field.
const FIELD_CHARS_MAX: usize = 200;

/// Tells what a preview told, field by field, for approvers to read.
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

    /// Gives the schema of the arguments as agents see it.
    #[must_use]
    pub fn advertised(&self) -> Value {
        self.declared.advertised()
    }

    /// Sends a preview and reads the facts from it, or from the arguments alone.
    async fn facts(&self, credential: &Credential, call: &HttpCall) -> Result<Facts, MeasureError> {
        let answer = match (&self.preview, &call.preview) {
            (Some(request), Some(filled)) => {
                let seen = self.system.read(credential, request, filled).await;
                match seen {
                    Exchange::Done(Content::Body(body)) => Some(body),
                    Exchange::Done(Content::Unfit(why)) | Exchange::Refused { message: why, .. } => {
                        return Err(MeasureError::NotMeasurable(format!("the preview gave no facts: {why}")));
                    }
                    Exchange::NotSent(why) | Exchange::Unknown { message: why, .. } => {
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

    /// Tells what is known of a call before anything is asked of the API.
    ///
    /// # Errors
    /// The [`Refusal`] that a call with such arguments gets.
    pub(crate) fn foretell(&self, arguments: &Map<String, Value>) -> Result<Foretold, Refusal> {
        let rows = self.objects.is_none().then_some(1);
        let amount = self.amount.as_ref().map_or(Ok(Amount::Untold), |amount| amount.foretell(arguments))?;
        Ok(Foretold { rows, amount })
    }
}

impl HttpTool {
    /// What the tool's author declares.
    pub(crate) const fn declared(&self) -> &Declared {
        &self.declared
    }
}

impl Tool for HttpTool {
    type Args = HttpCall;

    fn spec(&self) -> &Arc<ToolSpec> {
        &self.declared.spec
    }

    fn takes_away(&self, from: &Value, to: &Value) -> bool {
        self.declared.takes_away(from, to)
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
            return self.performed_read(self.system.read(&credential, &self.request, &call.request).await);
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
        let (key, repeatable) = (warrant.idempotency_key(), self.declared.spec.idempotent);
        let seen = self.system.write(&credential, &self.request, &call.request, key, repeatable).await;
        self.performed_write(seen, &facts)
    }
}

impl HttpTool {
    fn performed_read(&self, seen: Exchange) -> Result<Performed, ToolError> {
        match seen {
            Exchange::Done(Content::Body(reply)) => {
                self.declared.fits(&reply).map_err(|message| ToolError::Failed { message })?;
                let rows = reply.get("body").and_then(Value::as_array).map_or(1, Vec::len);
                Ok(Performed { reply, rows: u64::try_from(rows).unwrap_or(u64::MAX), amount: None })
            }
            Exchange::Done(Content::Unfit(message)) | Exchange::Refused { message, .. } => {
                Err(ToolError::Failed { message })
            }
            Exchange::NotSent(message) | Exchange::Unknown { message, .. } => {
                Err(ToolError::Unavailable { message })
            }
        }
    }

    fn performed_write(&self, seen: Exchange, facts: &Facts) -> Result<Performed, ToolError> {
        let (rows, amount) = (facts.objects, facts.amount);
        match seen {
            Exchange::Done(Content::Body(reply)) => {
                self.declared.accept(&reply, rows, amount)?;
                Ok(Performed { reply, rows, amount })
            }
            Exchange::Done(Content::Unfit(message)) => {
                Err(ToolError::ResultRejected { message, rows, amount })
            }
            Exchange::Refused { message, .. } => Err(ToolError::Failed { message }),
            Exchange::NotSent(message) => Err(ToolError::Unavailable { message }),
            Exchange::Unknown { message, .. } => Err(ToolError::InDoubt { message }),
        }
    }
}
