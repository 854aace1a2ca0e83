//! Systems: what agents may never reach directly, and where their credentials are kept.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use countersign_rules::{SystemName, SystemSpec};
use countersign_sql::{check_extension, known_extensions};
use countersign_tools::definition::{
    HttpAuth, HttpLimits, HttpTarget, JournalSettings, McpLimits, McpTarget, McpTransport, PostgresTarget,
    Rehearse, SqlLimits, SqliteTarget, SystemDefinition, Target,
};
use serde_json::json;
use toml::de::DeValue;

use super::{
    Place, Reading, SecretSource,
    endpoint::{ca, http_url},
    form::Mark,
    secret::secret,
    section::{
        Complaint, Section, Shaped as _, flag, integer, kind, list, parsed, reference, text, word, written,
    },
};

/// A system with where its secrets are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemConfig {
    /// What the tools need to know.
    pub definition: SystemDefinition,
    /// The secrets of its credential, by the names that the definition uses.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Of a database: the file with its catalog snapshot, when one is named. Read by [`crate::bundle`].
    pub catalog: Option<PathBuf>,
    /// Of PostgreSQL: bundled extensions that it has.
    pub extensions: Vec<String>,
    pub(crate) place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SystemKind {
    Sqlite,
    Postgres,
    Http,
    Mcp,
}

impl SystemKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Http => "http",
            Self::Mcp => "mcp",
        }
    }
}

const KINDS: &[(&str, SystemKind)] = &[
    (SystemKind::Sqlite.word(), SystemKind::Sqlite),
    (SystemKind::Postgres.word(), SystemKind::Postgres),
    (SystemKind::Http.word(), SystemKind::Http),
    (SystemKind::Mcp.word(), SystemKind::Mcp),
];

/// When changes are rehearsed, of a system or of one of its tools.
pub(super) const REHEARSE: &[(&str, Rehearse)] = &[
    ("never", Rehearse::Never),
    ("on_request", Rehearse::OnRequest),
    ("when_inexact", Rehearse::WhenInexact),
    ("always", Rehearse::Always),
];

const MS: std::ops::RangeInclusive<u64> = 1..=3_600_000;
/// Ten years.
const RETENTION_MS_MAX: u64 = 10 * 366 * 24 * 3_600_000;
const BYTES: std::ops::RangeInclusive<u64> = 1_024..=256 * 1024 * 1024;

pub(super) fn systems(reading: &mut Reading<'_>) -> BTreeMap<SystemName, SystemConfig> {
    let folder = reading.folder.to_owned();
    let file = reading.source.clone();
    let mut places = Vec::new();
    let mut systems = reading.named("system", SystemName::parse, |section| {
        let place = Place { source: file.clone(), keys: section.places() };
        let kind = section.required("kind", "write one of `sqlite`, `postgres`, `http`, `mcp`", word(KINDS));
        let environment = section.required(
            "environment",
            "say which, such as `production` or `staging`; policies ask for it",
            text,
        );
        let account = section.required(
            "account",
            "say which account it belongs to; agents act only in accounts they were given",
            text,
        );
        let mut secrets = BTreeMap::new();
        let kind = kind?;
        section.variant(Mark::Is("kind", kind.word()));
        let catalog = match kind {
            SystemKind::Sqlite | SystemKind::Postgres => {
                section.optional("catalog", text).map(|file| folder.join(file))
            }
            SystemKind::Http | SystemKind::Mcp => None,
        };
        let extensions = match kind {
            SystemKind::Postgres => section.optional("extensions", list(extension)).unwrap_or_default(),
            SystemKind::Sqlite | SystemKind::Http | SystemKind::Mcp => Vec::new(),
        };
        let target = match kind {
            SystemKind::Sqlite => sqlite(section, &folder),
            SystemKind::Postgres => postgres(section, &folder, &mut secrets),
            SystemKind::Http => http(section, &folder, &mut secrets),
            SystemKind::Mcp => mcp(section, &folder, &mut secrets),
        };
        places.push(place.clone());
        let target = target?;
        let spec = SystemSpec {
            // The name is put in below: it is the key of the table.
            name: SystemName::parse("system").ok()?,
            kind: target.kind().to_owned(),
            environment: environment?,
            account: account?,
        };
        Some(SystemConfig {
            definition: SystemDefinition { spec, target, catalog: None },
            secrets,
            catalog,
            extensions,
            place,
        })
    });
    for (name, system) in &mut systems {
        system.definition.spec.name = name.clone();
    }
    systems
}

fn extension(name: &str) -> Result<String, Complaint> {
    match check_extension(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(why) => {
            let known = known_extensions().join("`, `");
            Err(Complaint::new(why.to_string()).help(format!("write `standard`, or some of `{known}`")))
        }
    }
}

fn sqlite(section: &mut Section<'_, '_>, folder: &Path) -> Option<Target> {
    section.set_defaults(reference("system", Some("sqlite")));
    let path = section.required("path", "say which file, such as `path = \"billing.db\"`", text);
    let limits = sql_limits(section);
    let journal = journal(section, SystemKind::Sqlite);
    Some(Target::Sqlite(SqliteTarget { path: folder.join(path?), limits: limits?, journal: journal? }))
}

fn postgres(
    section: &mut Section<'_, '_>,
    folder: &Path,
    secrets: &mut BTreeMap<String, SecretSource>,
) -> Option<Target> {
    section.set_defaults(reference("system", Some("postgres")));
    let url = section.required(
        "url",
        "say where its connection string is kept, such as `url = { env = \"BILLING_DATABASE_URL\" }`",
        secret(folder),
    );
    let ca = section.optional("ca", ca(folder));
    let search_path = section.defaulted("search_path", list(|name| Ok(name.to_owned())));
    let connections_max = size(section, "connections_max", 1..=1_000);
    let connect_timeout_ms = section.defaulted("connect_timeout_ms", integer(MS));
    let limits = sql_limits(section);
    let journal = journal(section, SystemKind::Postgres);
    secrets.insert("url".to_owned(), url?);
    Some(Target::Postgres(PostgresTarget {
        search_path: search_path?,
        ca,
        connections_max: connections_max?,
        connect_timeout_ms: connect_timeout_ms?,
        limits: limits?,
        journal: journal?,
    }))
}

/// `[system.NAME.journal]`: there, or not. `None` when there was a mistake.
fn journal(section: &mut Section<'_, '_>, kind: SystemKind) -> Option<Option<JournalSettings>> {
    let Some(mut journal) = section.section("journal") else { return Some(None) };
    let defaults = reference("system", Some(kind.word())).and_then(|system| system.get("journal"));
    journal.set_defaults(defaults.and_then(|journal| journal.get_ref().as_table()));
    let retention_ms = journal.defaulted("retention_ms", integer(60_000..=RETENTION_MS_MAX));
    let bytes_max = journal.defaulted("bytes_max", integer(1_024..=64 * 1024 * 1024 * 1024));
    let rewritten = match kind {
        SystemKind::Postgres => journal.defaulted("rewritten", list(|name| Ok(name.to_owned())))?,
        // On SQLite no trigger runs while rows go back.
        SystemKind::Sqlite | SystemKind::Http | SystemKind::Mcp => Vec::new(),
    };
    journal.finish();
    let rewritten = rewritten.into_iter().collect();
    Some(Some(JournalSettings { retention_ms: retention_ms?, bytes_max: bytes_max?, rewritten }))
}

fn sql_limits(section: &mut Section<'_, '_>) -> Option<SqlLimits> {
    let statement_timeout_ms = section.defaulted("statement_timeout_ms", integer(MS));
    let lock_timeout_ms = section.defaulted("lock_timeout_ms", integer(MS));
    let result_bytes_max = size(section, "result_bytes_max", BYTES);
    let measure_timeout_ms = section.defaulted("measure_timeout_ms", integer(MS));
    let measure_rows_max = section.defaulted("measure_rows_max", integer(1..=super::budget::AMOUNT_MAX));
    let measure_cost_max = section.defaulted("measure_cost_max", integer(1..=super::budget::AMOUNT_MAX));
    let measure_parallel = size(section, "measure_parallel", 1..=100);
    let rehearse = section.defaulted("rehearse", word(REHEARSE));
    Some(SqlLimits {
        statement_timeout_ms: statement_timeout_ms?,
        lock_timeout_ms: lock_timeout_ms?,
        result_bytes_max: result_bytes_max?,
        measure_timeout_ms: measure_timeout_ms?,
        measure_rows_max: measure_rows_max?,
        measure_cost_max: measure_cost_max?,
        measure_parallel: measure_parallel?,
        rehearse: rehearse?,
    })
}

fn http(
    section: &mut Section<'_, '_>,
    folder: &Path,
    secrets: &mut BTreeMap<String, SecretSource>,
) -> Option<Target> {
    section.set_defaults(reference("system", Some("http")));
    let base_url = section.required(
        "base_url",
        "say where it is, such as `base_url = \"https://api.example.com/v1\"`",
        parsed(http_url),
    );
    let auth = auth(section, folder, secrets);
    let headers = section.optional("headers", texts).unwrap_or_default();
    let allow_private = section.defaulted("allow_private", flag);
    let ca = section.optional("ca", ca(folder));
    let follow_redirects = section.defaulted("follow_redirects", flag);
    let connect_timeout_ms = section.defaulted("connect_timeout_ms", integer(MS));
    let timeout_ms = section.defaulted("timeout_ms", integer(MS));
    let response_bytes_max = size(section, "response_bytes_max", BYTES);
    let retries_max = section.defaulted("retries_max", integer(0..=10));
    Some(Target::Http(HttpTarget {
        base_url: base_url?,
        auth: auth?,
        headers,
        allow_private: allow_private?,
        ca,
        follow_redirects: follow_redirects?,
        limits: HttpLimits {
            connect_timeout_ms: connect_timeout_ms?,
            timeout_ms: timeout_ms?,
            response_bytes_max: response_bytes_max?,
            retries_max: u32::try_from(retries_max?).ok()?,
        },
    }))
}

/// `auth = { bearer = … }`, `{ basic = { user, password } }` or `{ header = { name, value } }`.
/// `None` when there was a mistake.
fn auth(
    section: &mut Section<'_, '_>,
    folder: &Path,
    secrets: &mut BTreeMap<String, SecretSource>,
) -> Option<Option<HttpAuth>> {
    const SECRET: &str = "say where it is kept: `{ env = \"NAME\" }` or `{ file = \"path\" }`";
    let Some(mut auth) = section.section("auth") else { return Some(None) };
    let bearer = auth.optional("bearer", secret(folder));
    let basic = auth.section("basic").map(|mut basic| {
        let user = basic.required("user", "say which user", text);
        let password = basic.required("password", SECRET, secret(folder));
        basic.finish();
        user.zip(password)
    });
    let header = auth.section("header").map(|mut header| {
        let name = header.required("name", "say which header, such as `X-Api-Key`", text);
        let value = header.required("value", SECRET, secret(folder));
        header.finish();
        name.zip(value)
    });
    let (found, name, source) = match (bearer, basic, header) {
        (Some(source), None, None) => (HttpAuth::Bearer { secret: "token".into() }, "token", source),
        (None, Some(basic), None) => {
            let (user, source) = basic?;
            (HttpAuth::Basic { user, secret: "password".into() }, "password", source)
        }
        (None, None, Some(header)) => {
            let (name, source) = header?;
            (HttpAuth::Header { name, secret: "header".into() }, "header", source)
        }
        (None, None, None) | (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (None, Some(_), Some(_)) => {
            let complaint = Complaint::new("`auth` must say one way to authenticate");
            auth.report(None, complaint.help("write one of `bearer`, `basic`, `header`"));
            auth.finish();
            return None;
        }
    };
    auth.finish();
    secrets.insert(name.to_owned(), source);
    Some(Some(found))
}

fn mcp(
    section: &mut Section<'_, '_>,
    folder: &Path,
    secrets: &mut BTreeMap<String, SecretSource>,
) -> Option<Target> {
    section.set_defaults(reference("system", Some("mcp")));
    let connect_timeout_ms = section.defaulted("connect_timeout_ms", integer(MS));
    let call_timeout_ms = section.defaulted("call_timeout_ms", integer(MS));
    let result_bytes_max = size(section, "result_bytes_max", BYTES);
    let allow_private = section.defaulted("allow_private", flag);
    let transport = match (section.says("command"), section.says("url")) {
        (true, false) => {
            section.variant(Mark::Has("command"));
            child(section, folder, secrets)
        }
        (false, true) => {
            section.variant(Mark::Has("url"));
            let url = section.optional("url", parsed(http_url));
            let bearer = section.optional("bearer", secret(folder));
            let ca = section.optional("ca", ca(folder));
            let bearer = bearer.map(|source| {
                secrets.insert("token".to_owned(), source);
                "token".to_owned()
            });
            url.zip(allow_private).map(|(url, allow_private)| McpTransport::Http {
                url,
                bearer,
                allow_private,
                ca,
            })
        }
        (false, false) | (true, true) => {
            let complaint = Complaint::new("a system of kind `mcp` is reached in one way");
            section.report(None, complaint.help("write either `command` or `url`"));
            section.take("command");
            section.take("url");
            None
        }
    };
    Some(Target::Mcp(McpTarget {
        transport: transport?,
        limits: McpLimits {
            connect_timeout_ms: connect_timeout_ms?,
            call_timeout_ms: call_timeout_ms?,
            result_bytes_max: result_bytes_max?,
        },
    }))
}

fn child(
    section: &mut Section<'_, '_>,
    folder: &Path,
    secrets: &mut BTreeMap<String, SecretSource>,
) -> Option<McpTransport> {
    let command = section.optional("command", text);
    let args = section.optional("args", list(|arg| Ok(arg.to_owned()))).unwrap_or_default();
    let cwd = section.optional("cwd", text).map(|path| folder.join(path));
    let said = section.says("env");
    let mut env = BTreeMap::new();
    let mut secret_env = BTreeMap::new();
    let variable = json!({ "anyOf": [String::shape(), SecretSource::shape()] });
    let shape = json!({ "type": "object", "additionalProperties": variable });
    let read = |value: &DeValue<'_>| {
        let table = value
            .as_table()
            .ok_or_else(|| Complaint::new(format!("must be a table of variables, not {}", kind(value))))?;
        for (name, value) in table {
            let name = name.get_ref().to_string();
            if let Some(text) = value.get_ref().as_str() {
                env.insert(name, text.to_owned());
            } else {
                let known = format!("env.{name}");
                secrets.insert(known.clone(), secret(folder)(value.get_ref())?);
                secret_env.insert(name, known);
            }
        }
        Ok(())
    };
    let variables = section.optional("env", written(shape, read));
    // A variable that could not be read was reported; nothing is started with half an environment.
    if said && variables.is_none() {
        return None;
    }
    let command = command?;
    // A name is looked up; a path is taken from the folder.
    let command = if command.contains('/') { folder.join(command) } else { PathBuf::from(command) };
    Some(McpTransport::Child { command, args, env, secret_env, cwd })
}

fn size(
    section: &mut Section<'_, '_>,
    key: &'static str,
    range: std::ops::RangeInclusive<u64>,
) -> Option<usize> {
    usize::try_from(section.defaulted(key, integer(range))?).ok()
}

/// A table of texts.
pub(super) fn texts(value: &DeValue<'_>) -> Result<BTreeMap<String, String>, Complaint> {
    let table = value
        .as_table()
        .ok_or_else(|| Complaint::new(format!("must be a table of texts, not {}", kind(value))))?;
    table.iter().map(|(name, value)| Ok((name.get_ref().to_string(), text(value.get_ref())?))).collect()
}
