//! What systems and tools are defined to be: already read and typed, not yet checked against each other.
//!
//! The server's configuration produces these; [`crate::Systems::new`] and [`crate::AnyTool::new`] check
//! them. Defaults stand in the `Default` of each struct of limits. Nothing here holds a secret: where one
//! is needed, the *name* of a secret of the system's credential stands in its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use countersign_audit::canonical::INTEGER_MAX;
use countersign_rules::{
    Amount, Code, DeclaredEffect, Money, Refusal, SystemName, ToolName, money::Currency, narrowing::Narrows,
    rate::Rate, tool::SystemSpec,
};
use countersign_sql::Snapshot;
use serde_json::{Map, Value};
use url::Url;

/// A system and how it is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemDefinition {
    /// It has this name, environment and account. Its `kind` must be [`Target::kind`].
    pub spec: SystemSpec,
    /// It is reached so.
    pub target: Target,
    /// A database holds this, as it was reviewed. It sharpens what is said of statements on it.
    pub catalog: Option<Arc<Snapshot>>,
}

/// A system is reached in one of these ways.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A SQLite file.
    Sqlite(SqliteTarget),
    /// A PostgreSQL database.
    Postgres(PostgresTarget),
    /// An HTTP API.
    Http(HttpTarget),
    /// An upstream MCP server.
    Mcp(McpTarget),
}

impl Target {
    /// Tells the word for `kind` in the configuration.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Http(_) => "http",
            Self::Mcp(_) => "mcp",
        }
    }
}

/// A SQLite file. It must exist; it is never created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteTarget {
    /// The file is there. The configuration resolves it against its folder.
    pub path: PathBuf,
    /// Every statement is held to these.
    pub limits: SqlLimits,
    /// Calls are kept in the file so, where they are kept, so that they can be undone.
    pub journal: Option<JournalSettings>,
}

/// The target's own database keeps calls so: which ones took effect, and what rows were before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSettings {
    /// Rows are kept for undo this long, in milliseconds.
    pub retention_ms: u64,
    /// The most bytes of rows that one call may keep; a call that would keep more is rolled back.
    pub bytes_max: u64,
    /// Columns, as `column` or `table.column`, in which rows that are put back may differ from what they
    /// were, because the database's own triggers write them. On SQLite triggers are off while rows go back.
    pub rewritten: BTreeSet<String>,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self { retention_ms: 30 * 24 * 3_600_000, bytes_max: 256 * 1024 * 1024, rewritten: BTreeSet::new() }
    }
}

/// A PostgreSQL database. Its credential's secret `url` is a connection string
/// (`postgres://user:password@host/database`).
///
/// TLS with a verified certificate is required for every host but loopback and sockets, and for these as well
/// where `ca` is given, unless the connection string says `sslmode=disable`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresTarget {
    /// Names without a schema are looked up in these, in this order. They are pinned in every transaction.
    pub search_path: Vec<String>,
    /// A PEM file with the certificates that are trusted; those that the machine trusts if not said.
    pub ca: Option<PathBuf>,
    /// No more connections than these are open at a time.
    pub connections_max: usize,
    /// Connecting may take this long, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Every statement is held to these.
    pub limits: SqlLimits,
    /// Calls are kept in the database so, where they are kept, so that they can be undone.
    pub journal: Option<JournalSettings>,
}

impl Default for PostgresTarget {
    fn default() -> Self {
        Self {
            search_path: vec!["public".into()],
            ca: None,
            connections_max: 8,
            connect_timeout_ms: 5_000,
            limits: SqlLimits::default(),
            journal: None,
        }
    }
}

/// Statements, and measuring them, are held to these limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlLimits {
    /// One statement may run this long, in milliseconds.
    pub statement_timeout_ms: u64,
    /// It may wait this long for a lock, in milliseconds.
    pub lock_timeout_ms: u64,
    /// The largest result, in bytes of its JSON values. A longer one is cut at a row and says so; a longer
    /// row is refused.
    pub result_bytes_max: usize,
    /// Measuring a reach may take this long, in milliseconds.
    pub measure_timeout_ms: u64,
    /// Counting stops beyond this many rows of one table.
    pub measure_rows_max: u64,
    /// Counting is refused when the planner's estimate of its cost is above this (PostgreSQL's units).
    pub measure_cost_max: u64,
    /// So many measurements of one system may run at a time.
    pub measure_parallel: usize,
    /// Changes are run and rolled back then, to see how far they reach.
    pub rehearse: Rehearse,
}

/// A change is run inside a transaction that is rolled back in these cases, to see all that it touches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rehearse {
    /// Rows are counted; nothing is run, whoever asks for it.
    #[default]
    Never,
    /// Rows are counted; where a policy asks for it (`@rehearse`), changes are run.
    OnRequest,
    /// Rows are counted; where that gives no exact number, or triggers run along, changes are run.
    WhenInexact,
    /// Changes are run after every count.
    Always,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            statement_timeout_ms: 10_000,
            lock_timeout_ms: 2_000,
            result_bytes_max: 1024 * 1024,
            measure_timeout_ms: 5_000,
            measure_rows_max: 100_000,
            measure_cost_max: 10_000_000,
            measure_parallel: 1,
            rehearse: Rehearse::WhenInexact,
        }
    }
}

/// An HTTP API. Requests go to this base and nowhere else; proxies of the environment are not used.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpTarget {
    /// Scheme, host, port and the start of every path. No credentials, query or fragment.
    pub base_url: Url,
    /// Requests are authenticated so.
    pub auth: Option<HttpAuth>,
    /// These headers are sent with every request. They hold no secrets.
    pub headers: BTreeMap<String, String>,
    /// Addresses that are not on the public internet (loopback, private, link-local, …) may be
    /// connected to.
    pub allow_private: bool,
    /// A PEM file with the certificates that are trusted; those that the machine trusts if not said.
    pub ca: Option<PathBuf>,
    /// Redirects are followed, within the same origin only, by reads only.
    pub follow_redirects: bool,
    /// Every request is held to these.
    pub limits: HttpLimits,
}

/// Requests to a system are authenticated in one of these ways. Each text is the name of a secret of its credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpAuth {
    /// `Authorization: Bearer …`
    Bearer {
        /// The secret's name.
        secret: String,
    },
    /// `Authorization: Basic …` (RFC 7617)
    Basic {
        /// The user, not a secret.
        user: String,
        /// The name of the secret that is the password.
        secret: String,
    },
    /// A header of its own.
    Header {
        /// The header.
        name: String,
        /// The secret's name.
        secret: String,
    },
}

impl HttpAuth {
    /// Tells the name of the secret.
    #[must_use]
    pub fn secret(&self) -> &str {
        match self {
            Self::Bearer { secret } | Self::Basic { secret, .. } | Self::Header { secret, .. } => secret,
        }
    }
}

/// HTTP requests are held to these limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connecting may take this long, in milliseconds.
    pub connect_timeout_ms: u64,
    /// One request may take this long with its answer, in milliseconds.
    pub timeout_ms: u64,
    /// The largest answer, in bytes after decoding.
    pub response_bytes_max: usize,
    /// A request is sent again so often when that is safe: reads, and calls that the API recognises by
    /// their idempotency key.
    pub retries_max: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 5_000,
            timeout_ms: 30_000,
            response_bytes_max: 1024 * 1024,
            retries_max: 2,
        }
    }
}

/// An upstream MCP server.
#[derive(Debug, Clone, PartialEq)]
pub struct McpTarget {
    /// It is reached so.
    pub transport: McpTransport,
    /// Every call is held to these.
    pub limits: McpLimits,
}

/// An upstream MCP server is reached in one of these ways.
#[derive(Debug, Clone, PartialEq)]
pub enum McpTransport {
    /// A child process that speaks MCP on its standard input and output. Its environment is empty but for
    /// what stands here.
    Child {
        /// The program: a path, or a name looked up in the `PATH` given here.
        command: PathBuf,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment; no secrets.
        env: BTreeMap<String, String>,
        /// Variables that hold a secret: variable to the name of a secret of the system's credential.
        secret_env: BTreeMap<String, String>,
        /// It runs there; in our own directory if not said.
        cwd: Option<PathBuf>,
    },
    /// Streamable HTTP.
    Http {
        /// The endpoint. No credentials or fragment.
        url: Url,
        /// The name of the secret sent as bearer token.
        bearer: Option<String>,
        /// Addresses that are not on the public internet may be connected to.
        allow_private: bool,
        /// A PEM file with the certificates that are trusted; those that the machine trusts if not said.
        ca: Option<PathBuf>,
    },
}

/// Upstream MCP servers are held to these limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct McpLimits {
    /// Connecting and listing tools may take this long, in milliseconds.
    pub connect_timeout_ms: u64,
    /// One call may take this long, in milliseconds.
    pub call_timeout_ms: u64,
    /// The largest result, in bytes of JSON.
    pub result_bytes_max: usize,
}

impl Default for McpLimits {
    fn default() -> Self {
        Self { connect_timeout_ms: 10_000, call_timeout_ms: 60_000, result_bytes_max: 1024 * 1024 }
    }
}

/// Every tool declares this.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDefinition {
    /// The name agents use.
    pub name: ToolName,
    /// The system it acts on.
    pub system: SystemName,
    /// It says what the tool does, to agents and approvers.
    pub description: String,
    /// The declared class. Without one there is no tool.
    pub effect: DeclaredEffect,
    /// Declared categories such as `money`, `personal_data`.
    pub categories: BTreeSet<String>,
    /// We can undo what it does.
    pub reversible: bool,
    /// The system itself recognises a repeated call by its idempotency key.
    pub idempotent: bool,
    /// The schema of the arguments, short or in full, as [`countersign_rules::arguments::Arguments::parse`]
    /// takes it. Must be `null` where the agent writes the statement.
    pub arguments: Value,
    /// A change of these arguments in these ways makes a call that does less.
    pub narrows: BTreeMap<String, Narrows>,
    /// The schema of the result, when declared.
    pub result: Option<Value>,
    /// It may be called so often.
    pub rates: Vec<Rate>,
    /// The most rows one call may return or touch.
    pub rows_max: u64,
}

/// The default of [`ToolDefinition::rows_max`].
pub const ROWS_MAX_DEFAULT: u64 = 1_000;

/// Any tool.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a few are read at start")]
pub enum AnyDefinition {
    /// A statement on a database.
    Sql(SqlDefinition),
    /// A request to an HTTP API.
    Http(HttpDefinition),
    /// A tool of an upstream MCP server.
    Mcp(McpDefinition),
}

impl AnyDefinition {
    /// Every tool declares this.
    #[must_use]
    pub const fn tool(&self) -> &ToolDefinition {
        match self {
            Self::Sql(definition) => &definition.tool,
            Self::Http(definition) => &definition.tool,
            Self::Mcp(definition) => &definition.tool,
        }
    }
}

/// A statement on a database.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlDefinition {
    /// Every tool declares this.
    pub tool: ToolDefinition,
    /// The statement.
    pub statement: SqlText,
    /// The tables that it may read and write, as `table` or `schema.table`. Required where the agent
    /// writes the statement; otherwise empty means the tables that the statement names.
    pub tables: BTreeSet<String>,
    /// Functions that are not the database's own and that its author vouches to change nothing, as `name`
    /// or `schema.name`.
    pub functions: BTreeSet<String>,
    /// Columns whose values approvers must not see in samples: `column` or `table.column`.
    pub mask: BTreeSet<String>,
    /// Its calls are rehearsed then; as its system says, if not said. A system that says never is never asked.
    pub rehearse: Option<Rehearse>,
}

/// The statement is written by one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlText {
    /// The tool's author (`sql = "…"`): one statement with `:name` for each argument.
    Fixed(String),
    /// The agent (`effect = "from_statement"`), in the argument `sql`.
    FromAgent {
        /// The longest statement, in characters.
        length_max: u32,
    },
}

/// The default of [`SqlText::FromAgent::length_max`].
pub const STATEMENT_LENGTH_MAX_DEFAULT: u32 = 8_192;

/// A request to an HTTP API.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpDefinition {
    /// Every tool declares this.
    pub tool: ToolDefinition,
    /// The request.
    pub request: HttpRequest,
    /// A `GET` that tells what the call would do: the true amount of the charge to be refunded.
    pub preview: Option<HttpRequest>,
    /// The money that a call moves.
    pub amount: Option<AmountDefinition>,
    /// There the answer of the preview (or else the arguments) says how many objects are touched: a JSON
    /// pointer to a number or an array. One if not said.
    pub objects: Option<String>,
}

/// The template of a request.
///
/// In `path`, `{name}` stands for an argument, as a whole or a part of one segment. In `query` and `body`,
/// a text `$name` stands for the whole argument with its type, and `$$` for a `$` at the start. A member
/// whose optional argument is missing is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRequest {
    /// `GET`, `HEAD`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// The path below the system's base, starting with `/`.
    pub path: String,
    /// Query parameters.
    pub query: BTreeMap<String, Value>,
    /// Headers of this request; fixed, no secrets.
    pub headers: BTreeMap<String, String>,
    /// The JSON body.
    pub body: Option<Value>,
}

/// The amount and its currency come from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmountDefinition {
    /// The number: a whole number of minor units, not negative, unless `scale` says otherwise.
    pub minor: AmountSource,
    /// The number has so many decimal places, when it is in major units: with 2, `98.7` is 9870 minor units. From 1 to 4.
    pub scale: Option<u32>,
    /// The currency: an ISO 4217 code.
    pub currency: CurrencySource,
}

impl AmountDefinition {
    /// Checks that a tool's arguments of this schema can tell the amount: a number with a fraction would be taken for minor
    /// units, a hundred times too few.
    ///
    /// # Errors
    /// A [`DefinitionError`] when they cannot.
    pub(crate) fn fits(&self, tool: &ToolName, arguments: &Value) -> Result<(), DefinitionError> {
        let AmountSource::Argument(name) = &self.minor else { return Ok(()) };
        let kind = arguments.pointer(&format!("/properties/{name}/type")).and_then(Value::as_str);
        let why = match (kind, self.scale) {
            (Some("integer"), _) | (Some("number" | "string"), Some(_)) => return Ok(()),
            (Some("number"), None) => {
                format!("takes `{name}` for minor units, and it is a `number`, which may have a fraction")
            }
            _ => format!("takes `{name}` for an amount, and it is no number"),
        };
        let help = "make it an `integer` of minor units, or say its decimal places: `scale = 2`";
        Err(DefinitionError::tool(tool, "amount", why).help(help))
    }

    /// Tells how much a call moves, by its arguments and, where its system was asked, by what the preview told.
    ///
    /// # Errors
    /// Says what is not told, or not exactly.
    pub(crate) fn money(
        &self,
        arguments: &Map<String, Value>,
        preview: Option<&Value>,
    ) -> Result<Money, String> {
        let minor = self.minor(arguments, preview)?;
        Ok(Money { currency: self.currency(arguments, preview)?, minor })
    }

    fn minor(&self, arguments: &Map<String, Value>, preview: Option<&Value>) -> Result<u64, String> {
        let told = match &self.minor {
            AmountSource::Argument(name) => arguments.get(name),
            AmountSource::Preview(pointer) => preview.and_then(|preview| preview.pointer(pointer)),
        };
        let minor = told.and_then(|told| self.minor_units(told)).ok_or("the amount is not told")?;
        exact("the amount", minor)
    }

    fn currency(&self, arguments: &Map<String, Value>, preview: Option<&Value>) -> Result<Currency, String> {
        let told = match &self.currency {
            CurrencySource::Fixed(currency) => return Ok(*currency),
            CurrencySource::Argument(name) => arguments.get(name),
            CurrencySource::Preview(pointer) => preview.and_then(|preview| preview.pointer(pointer)),
        };
        let told = told.and_then(Value::as_str).and_then(|text| text.parse().ok());
        told.ok_or_else(|| "the currency is not told".into())
    }

    /// Tells who says how much a call with these arguments moves, and how much where they do.
    pub(crate) fn foretell(&self, arguments: &Map<String, Value>) -> Result<Amount, Refusal> {
        let untold = |why: String| Refusal::new(Code::ReachUnmeasurable, why).help("correct the arguments");
        let currency = match &self.currency {
            CurrencySource::Preview(_) => None,
            CurrencySource::Fixed(_) | CurrencySource::Argument(_) => {
                Some(self.currency(arguments, None).map_err(untold)?)
            }
        };
        if matches!(self.minor, AmountSource::Preview(_)) {
            return Ok(Amount::Asked(currency));
        }
        let minor = self.minor(arguments, None).map_err(untold)?;
        Ok(currency.map_or(Amount::Asked(None), |currency| Amount::Told(Money { currency, minor })))
    }

    /// Tells the amount in minor units; nothing where it is no such number, negative, or finer than `scale` says.
    #[must_use]
    pub fn minor_units(&self, told: &Value) -> Option<u64> {
        let text = match told {
            Value::Number(number) => number.to_string(),
            Value::String(text) if self.scale.is_some() => text.clone(),
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                return None;
            }
        };
        let (whole, places) = text.split_once('.').unwrap_or((&text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(places) {
            return None;
        }
        let places = places.trim_end_matches('0');
        let scale = usize::try_from(self.scale.unwrap_or(0)).ok()?;
        if places.len() > scale {
            return None;
        }
        format!("{whole}{places:0<scale$}").parse().ok()
    }
}

/// An amount comes from one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AmountSource {
    /// An argument of the call (`$name`).
    Argument(String),
    /// A JSON pointer (RFC 6901) into the answer of the preview.
    Preview(String),
}

/// A currency comes from one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CurrencySource {
    /// It is always this one.
    Fixed(Currency),
    /// An argument of the call.
    Argument(String),
    /// A JSON pointer into the answer of the preview.
    Preview(String),
}

/// A tool of an upstream MCP server.
#[derive(Debug, Clone, PartialEq)]
pub struct McpDefinition {
    /// What every tool declares. Its arguments are checked here, before the upstream server sees them.
    pub tool: ToolDefinition,
    /// The upstream server gives it this name.
    pub upstream_tool: String,
    /// The digest of the upstream definition that people have reviewed, as `sha256:` and 64 hexadecimal
    /// digits; see [`crate::mcp::definition_digest`].
    pub definition_digest: String,
    /// Somebody looked, and the tool only reads although its upstream does not say so (`readOnlyHint`). Without it a
    /// tool that is declared a read and not said to be one is switched off.
    pub effect_reviewed: bool,
    /// The money that a call moves; only [`AmountSource::Argument`].
    pub amount: Option<AmountDefinition>,
}

/// A definition that cannot be used, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionError {
    /// The system or tool.
    pub subject: Subject,
    /// The key of its table, dotted, such as `sql` or `request.path`.
    pub key: String,
    /// It says what is wrong there.
    pub message: String,
    /// It says what would be right.
    pub help: Option<String>,
    /// It stands there in the text of the key, in bytes, when that is known.
    pub offset: Option<usize>,
}

/// A definition is of one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A system.
    System(SystemName),
    /// A tool.
    Tool(ToolName),
}

impl DefinitionError {
    pub(crate) fn tool(name: &ToolName, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Subject::Tool(name.clone()), key, message)
    }

    pub(crate) fn system(name: &SystemName, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Subject::System(name.clone()), key, message)
    }

    fn new(subject: Subject, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { subject, key: key.into(), message: message.into(), help: None, offset: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn at(mut self, offset: Option<usize>) -> Self {
        self.offset = offset;
        self
    }
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::System(name) => write!(f, "system `{name}`")?,
            Subject::Tool(name) => write!(f, "tool `{name}`")?,
        }
        write!(f, ", `{}`: {}", self.key, self.message)
    }
}

impl std::error::Error for DefinitionError {}

/// What a system tells, as long as the log can write it exactly: what cannot be recorded is not done.
pub(crate) fn exact(what: &str, told: u64) -> Result<u64, String> {
    if i64::try_from(told).is_ok_and(|told| told <= INTEGER_MAX) {
        return Ok(told);
    }
    Err(format!("{what} is told as {told}, beyond the 2^53 - 1 up to which numbers are exact"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_foretold_is_what_a_live_call_moves_or_is_refused_for() {
        let amount = AmountDefinition {
            minor: AmountSource::Argument("amount".into()),
            scale: None,
            currency: CurrencySource::Argument("currency".into()),
        };
        for (arguments, moves) in [
            (json!({ "amount": 500, "currency": "EUR" }), true),
            (json!({ "amount": 9_007_199_254_740_991_u64, "currency": "EUR" }), true),
            (json!({ "amount": 9_007_199_254_740_992_u64, "currency": "EUR" }), false),
            (json!({ "amount": 500, "currency": "euro" }), false),
            (json!({ "amount": 500 }), false),
            (json!({ "currency": "EUR" }), false),
        ] {
            let arguments = arguments.as_object().unwrap();
            let live = amount.money(arguments, None);
            let told = amount.foretell(arguments).map_err(|refusal| refusal.message);
            assert_eq!((live.is_ok(), told), (moves, live.map(Amount::Told)), "{arguments:?}");
        }
    }

    #[test]
    fn an_amount_is_exact_or_none() {
        let amount = |scale| AmountDefinition {
            minor: AmountSource::Argument("amount".into()),
            scale,
            currency: CurrencySource::Argument("currency".into()),
        };
        for (scale, told, units) in [
            (None, json!(500), Some(500)),
            (None, json!(50.0), Some(50)),
            (None, json!(98.7), None),
            (None, json!("500"), None),
            (None, json!(-5), None),
            (Some(2), json!(98.7), Some(9_870)),
            (Some(2), json!(50), Some(5_000)),
            (Some(2), json!(50.0), Some(5_000)),
            (Some(2), json!("98.70"), Some(9_870)),
            (Some(2), json!("98.701"), None),
            (Some(2), json!(0.07), Some(7)),
            (Some(2), json!(1e3), Some(100_000)),
            (Some(2), json!(1e300), None),
            (Some(2), json!("1e3"), None),
            (Some(2), json!("-1.00"), None),
            (Some(2), json!(""), None),
            (Some(3), json!(1.234), Some(1_234)),
        ] {
            assert_eq!(amount(scale).minor_units(&told), units, "{told} at {scale:?}");
        }
        let fits = |scale, kind: &str| {
            let schema = json!({ "properties": { "amount": { "type": kind } } });
            amount(scale).fits(&ToolName::parse("refund").unwrap(), &schema).map_err(|why| why.to_string())
        };
        assert!(fits(None, "number").unwrap_err().contains("fraction"));
        assert!(fits(None, "string").is_err());
        assert_eq!(fits(None, "integer"), Ok(()));
        assert_eq!(fits(Some(2), "number"), Ok(()));
    }
}
