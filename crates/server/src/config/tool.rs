//! Tools: one narrow, typed operation each.

use std::collections::{BTreeMap, BTreeSet};

use countersign_rules::{
    DeclaredEffect, SystemName, ToolName,
    money::Currency,
    narrowing::Narrows,
    rate::{Rate, RateScope},
};
use countersign_tools::definition::{
    AmountDefinition, AmountSource, AnyDefinition, CurrencySource, HttpDefinition, HttpRequest,
    McpDefinition, SqlDefinition, SqlText, ToolDefinition,
};
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::{
    Place, Reading,
    budget::AMOUNT_MAX,
    form::Mark,
    section::{
        Complaint, Form, Section, Shaped, flag, integer, json, kind, list, parsed, text, word, written,
    },
    system::{REHEARSE, texts},
};

/// A tool with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolConfig {
    /// What it is defined to be; not checked against its system yet.
    pub definition: AnyDefinition,
    pub(crate) place: Place,
}

const EFFECTS: &[(&str, DeclaredEffect)] = &[
    ("read", DeclaredEffect::Read),
    ("write", DeclaredEffect::Write),
    ("destructive", DeclaredEffect::Destructive),
    ("from_statement", DeclaredEffect::FromStatement),
];

/// The tables that define tools.
pub(super) const FAMILY: &str = "tool";

pub(super) fn tools(reading: &mut Reading<'_>) -> BTreeMap<ToolName, ToolConfig> {
    let source = reading.source.clone();
    let mut tools = reading.named(FAMILY, tool_name, |section| {
        let place = Place { source: source.clone(), keys: section.places() };
        Some(ToolConfig { definition: tool(section)?, place })
    });
    for (name, tool) in &mut tools {
        let declared = match &mut tool.definition {
            AnyDefinition::Sql(sql) => &mut sql.tool,
            AnyDefinition::Http(http) => &mut http.tool,
            AnyDefinition::Mcp(mcp) => &mut mcp.tool,
        };
        declared.name = name.clone();
    }
    tools
}

/// A tool's name. Those of the program's own tools are taken: another of that name would be hidden behind them.
fn tool_name(text: &str) -> Result<ToolName, Complaint> {
    if text.to_ascii_lowercase().starts_with(RESERVED) {
        let complaint = Complaint::new(format!("names that begin with `{RESERVED}` are the program's own"));
        return Err(complaint.help("give the tool another name"));
    }
    Ok(ToolName::parse(text)?)
}

/// What the names of the program's own tools begin with.
const RESERVED: &str = "countersign_";

fn tool(section: &mut Section<'_, '_>) -> Option<AnyDefinition> {
    let declared = declared(section);
    match (section.says("sql"), section.says("request"), section.says("upstream")) {
        (false, true, false) => http(section, declared),
        (false, false, true) => mcp(section, declared),
        (fixed, false, false) => sql(section, declared, fixed),
        (_, true, true) | (true, true, _) | (true, _, true) => {
            let complaint = Complaint::new("a tool acts in one way");
            section.report(None, complaint.help("write one of `sql`, `request`, `upstream`"));
            for key in ["sql", "request", "upstream"] {
                section.take(key);
            }
            None
        }
    }
}

/// What every tool declares.
fn declared(section: &mut Section<'_, '_>) -> Option<ToolDefinition> {
    let system = section.required("system", "say on which system it acts", parsed(SystemName::parse));
    let description = section.required("description", "say what it does, for agents and approvers", text);
    let effect = section.required(
        "effect",
        "say what it does to its system: `read`, `write`, `destructive` or, where the agent writes SQL, `from_statement`",
        word(EFFECTS),
    );
    let categories = section.defaulted("categories", list(|word| Ok(word.to_owned())));
    let reversible = section.defaulted("reversible", flag);
    let idempotent = section.defaulted("idempotent", flag);
    let arguments = section.optional("arguments", json);
    let narrows = section.optional("narrows", narrows());
    let result = section.optional("result", json);
    let rated = section.says("rate");
    let rates = section.optional("rate", rates);
    let rates = if rated { rates } else { Some(Vec::new()) };
    let rows_max = section.defaulted("rows_max", integer(1..=AMOUNT_MAX));
    Some(ToolDefinition {
        // The name is put in by the caller: it is the key of the table.
        name: ToolName::parse("tool").ok()?,
        system: system?,
        description: description?,
        effect: effect?,
        categories: categories?.into_iter().collect(),
        reversible: reversible?,
        idempotent: idempotent?,
        arguments: arguments.unwrap_or(Json::Null),
        narrows: narrows.unwrap_or_default(),
        result,
        rates: rates?,
        rows_max: rows_max?,
    })
}

/// By argument, in which way a change of it makes a call that does less.
fn narrows() -> impl Form<BTreeMap<String, Narrows>> {
    let words = Narrows::WORDS.map(|(word, _)| word);
    let shape = json!({ "type": "object", "additionalProperties": { "type": "string", "enum": words } });
    written(shape, |value: &DeValue<'_>| {
        let table = value.as_table().ok_or_else(|| {
            Complaint::new(format!("must be a table such as `{{ limit = \"lower\" }}`, not {}", kind(value)))
        })?;
        let ways = table.iter();
        ways.map(|(name, way)| Ok((name.get_ref().to_string(), word(&Narrows::WORDS).read(way.get_ref())?)))
            .collect()
    })
}

impl Shaped for Vec<Rate> {
    fn shape() -> Json {
        let rate = String::shape();
        let each = json!({ "tool": rate, "agent": rate, "session": rate });
        json!({ "anyOf": [rate, { "type": "object", "additionalProperties": false, "properties": each }] })
    }
}

/// `"100/min"`, or a table of rates by what is counted together.
fn rates(value: &DeValue<'_>) -> Result<Vec<Rate>, Complaint> {
    if value.is_str() {
        return Ok(vec![Rate::parse(&text(value)?, RateScope::Tool)?]);
    }
    let table = value
        .as_table()
        .ok_or_else(|| Complaint::new(format!("must be a rate such as `100/min`, not {}", kind(value))))?;
    let mut rates = Vec::new();
    for (scope, rate) in table {
        let scope = match scope.get_ref().as_ref() {
            "tool" => RateScope::Tool,
            "agent" => RateScope::Agent,
            "session" => RateScope::Session,
            other => {
                return Err(Complaint::new(format!("`{other}` is nothing that rates are counted for"))
                    .help("write `tool`, `agent` or `session`"));
            }
        };
        rates.push(Rate::parse(&text(rate.get_ref())?, scope)?);
    }
    Ok(rates)
}

fn sql(
    section: &mut Section<'_, '_>,
    declared: Option<ToolDefinition>,
    fixed: bool,
) -> Option<AnyDefinition> {
    section.variant(if fixed { Mark::Has("sql") } else { Mark::Is("effect", "from_statement") });
    let sql = section.optional("sql", text);
    let set =
        |words: Option<Vec<String>>| -> BTreeSet<String> { words.unwrap_or_default().into_iter().collect() };
    let names = |section: &mut Section<'_, '_>, key| section.defaulted(key, list(|name| Ok(name.to_owned())));
    let tables = set(names(section, "tables"));
    let functions = set(names(section, "functions"));
    let mask = set(names(section, "mask"));
    let rehearse = section.optional("rehearse", word(REHEARSE));
    let length_max = section.defaulted("statement_length_max", integer(64..=65_536));
    let mut declared = declared?;
    let statement = match (declared.effect, sql) {
        (DeclaredEffect::FromStatement, None) if !fixed => {
            SqlText::FromAgent { length_max: u32::try_from(length_max?).ok()? }
        }
        (DeclaredEffect::FromStatement, _) => {
            let complaint =
                Complaint::new("where the agent writes the statement, the tool has none of its own");
            section
                .report(section.place("sql"), complaint.help("leave `sql` out, or declare another `effect`"));
            return None;
        }
        (DeclaredEffect::Read | DeclaredEffect::Write | DeclaredEffect::Destructive, Some(sql)) => {
            none_if_unsaid(&mut declared);
            SqlText::Fixed(sql)
        }
        (DeclaredEffect::Read | DeclaredEffect::Write | DeclaredEffect::Destructive, None) => {
            if !fixed {
                let complaint = Complaint::new("the tool does not say how it acts");
                section.report(
                    None,
                    complaint.help(
                        "write one of `sql`, `request`, `upstream`; or `effect = \"from_statement\"` with `tables`",
                    ),
                );
            }
            return None;
        }
    };
    Some(AnyDefinition::Sql(SqlDefinition { tool: declared, statement, tables, functions, mask, rehearse }))
}

/// A tool that says nothing about arguments has none.
fn none_if_unsaid(declared: &mut ToolDefinition) {
    if declared.arguments.is_null() {
        declared.arguments = Json::Object(serde_json::Map::new());
    }
}

fn http(section: &mut Section<'_, '_>, declared: Option<ToolDefinition>) -> Option<AnyDefinition> {
    section.variant(Mark::Has("request"));
    let request = section.section("request").map(request);
    let preview = section.section("preview").map(request_of_preview);
    let amount = section.section("amount").map(amount);
    let objects = section.optional("objects", text);
    let mut declared = declared?;
    none_if_unsaid(&mut declared);
    Some(AnyDefinition::Http(HttpDefinition {
        tool: declared,
        request: request??,
        preview: transpose(preview)?,
        amount: transpose(amount)?,
        objects,
    }))
}

/// Something absent is fine; something present must have been read.
#[expect(clippy::option_option, reason = "absent, unreadable and read are three things")]
fn transpose<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
    }
}

fn request(section: Section<'_, '_>) -> Option<HttpRequest> {
    request_with(section, None)
}

fn request_of_preview(section: Section<'_, '_>) -> Option<HttpRequest> {
    request_with(section, Some("GET"))
}

fn request_with(mut section: Section<'_, '_>, method_default: Option<&str>) -> Option<HttpRequest> {
    let said = section.says("method");
    let method = match method_default {
        None => section.required("method", "write one of `GET`, `POST`, `PUT`, `PATCH`, `DELETE`", text),
        Some(default) => {
            let method = section.optional("method", text);
            if said { method } else { Some(default.to_owned()) }
        }
    };
    let path =
        section.required("path", "say the path below the system's `base_url`, starting with `/`", text);
    let query = section.optional("query", parameters);
    let headers = section.optional("headers", texts);
    let body = section.optional("body", json);
    section.finish();
    Some(HttpRequest {
        method: method?,
        path: path?,
        query: query.unwrap_or_default(),
        headers: headers.unwrap_or_default(),
        body,
    })
}

fn parameters(value: &DeValue<'_>) -> Result<BTreeMap<String, Json>, Complaint> {
    let table = value
        .as_table()
        .ok_or_else(|| Complaint::new(format!("must be a table of parameters, not {}", kind(value))))?;
    table.iter().map(|(name, value)| Ok((name.get_ref().to_string(), json(value.get_ref())?))).collect()
}

fn mcp(section: &mut Section<'_, '_>, declared: Option<ToolDefinition>) -> Option<AnyDefinition> {
    section.variant(Mark::Has("upstream"));
    let upstream_tool = section.optional("upstream", text);
    let digest = section.required(
        "digest",
        "say which definition was reviewed: `countersign tools digest` prints it",
        text,
    );
    let effect_reviewed = section.optional("dangerous_effect_reviewed", flag);
    let amount = section.section("amount").map(amount);
    let declared = declared?;
    // Unlike elsewhere, saying nothing is no way to say none: the upstream's tool has a schema of its own.
    if declared.arguments.is_null() {
        let complaint = Complaint::new("a tool of an MCP server says which arguments agents may give");
        section.report(
            None,
            complaint.help(
                "write `arguments`, or those of them that agents need, as in the schema that `countersign tools digest` \
                 prints; `arguments = {}` where it takes none",
            ),
        );
        return None;
    }
    Some(AnyDefinition::Mcp(McpDefinition {
        tool: declared,
        upstream_tool: upstream_tool?,
        definition_digest: digest?,
        effect_reviewed: effect_reviewed.unwrap_or_default(),
        amount: transpose(amount)?,
    }))
}

fn amount(mut section: Section<'_, '_>) -> Option<AmountDefinition> {
    let minor = section.required(
        "minor",
        "say where the amount in minor units comes from: `\"$argument\"` or `{ preview = \"/pointer\" }`",
        written(Origin::shape(), |value: &DeValue<'_>| match origin(value)? {
            Origin::Argument(name) => Ok(AmountSource::Argument(name)),
            Origin::Preview(pointer) => Ok(AmountSource::Preview(pointer)),
            Origin::Fixed(_) => {
                Err(Complaint::new("an amount that is always the same is no amount of the call")
                    .help("write `\"$argument\"` or `{ preview = \"/pointer\" }`"))
            }
        }),
    );
    let currency = section.required(
        "currency",
        "say which: `\"EUR\"`, `\"$argument\"` or `{ preview = \"/pointer\" }`",
        written(Origin::shape(), |value: &DeValue<'_>| {
            Ok(match origin(value)? {
                Origin::Argument(name) => CurrencySource::Argument(name),
                Origin::Preview(pointer) => CurrencySource::Preview(pointer),
                Origin::Fixed(code) => CurrencySource::Fixed(code.parse::<Currency>()?),
            })
        }),
    );
    let scale = section.optional("scale", integer(1..=4)).and_then(|scale| u32::try_from(scale).ok());
    section.finish();
    Some(AmountDefinition { minor: minor?, scale, currency: currency? })
}

enum Origin {
    Argument(String),
    Preview(String),
    Fixed(String),
}

impl Shaped for Origin {
    fn shape() -> Json {
        let preview = json!({ "preview": String::shape() });
        let told = json!({
            "type": "object", "additionalProperties": false, "properties": preview, "required": ["preview"],
        });
        json!({ "anyOf": [String::shape(), told] })
    }
}

fn origin(value: &DeValue<'_>) -> Result<Origin, Complaint> {
    if let Some(text) = value.as_str() {
        return Ok(match text.strip_prefix('$') {
            Some(argument) => Origin::Argument(argument.to_owned()),
            None => Origin::Fixed(text.to_owned()),
        });
    }
    let mut members = value.as_table().into_iter().flatten();
    match (members.next(), members.next()) {
        (Some((key, pointer)), None) if key.get_ref() == "preview" => {
            Ok(Origin::Preview(text(pointer.get_ref())?))
        }
        _ => Err(Complaint::new("must say where it comes from")
            .help("write `\"$argument\"` or `{ preview = \"/pointer\" }`")),
    }
}
